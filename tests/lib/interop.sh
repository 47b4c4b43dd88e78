# Sourced by the tests that run real clients against a daemon of their own.
#
#   start_bellowsd [OPTION...]   a daemon on $rpc_sock; its pid is $bellowsd_pid, its log $dir/log
#   stop_bellowsd                SIGTERM; fails unless it ends well
#   rpc METHOD [JSON]            prints the result; fails with the error's text
#   rpc_fails TEXT METHOD [JSON] must fail, saying TEXT
#   need COMMAND...              ends the test as skipped when one is not installed
#   step TEXT                    what the test does now; shown when it fails
#   fails COMMAND...             must fail
#
# Everything happens in $dir, which is removed at the end with every process that was started by
# start_bellowsd or given to `also_kill PID`.

set -eu -o pipefail
export LC_ALL=C.UTF-8
export PATH=/usr/bin:/bin:/usr/sbin:/sbin # the system's Python, which has the nbd module

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SOURCE_DIR=${SOURCE_DIR:-$(cd "$here/../.." && pwd)}
BUILD_DIR=${BUILD_DIR:-$SOURCE_DIR/build}
BUILD_DIR=$(cd "$BUILD_DIR" && pwd)
bellowsd=$BUILD_DIR/bellowsd
dir=$(mktemp -d "${TMPDIR:-/tmp}/bellows-interop-XXXXXX")
rpc_sock=$dir/rpc.sock
bellowsd_pid=
now="the start"
to_kill=()

cleanup()
{
	local status=$? pid
	trap - EXIT
	for pid in ${bellowsd_pid:+"$bellowsd_pid"} ${to_kill[@]+"${to_kill[@]}"}; do
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
		echo "FAILED at: $now"
		[ ! -s "$dir/log" ] || { echo "--- bellowsd said"; tail -n 40 "$dir/log"; }
	fi
	rm -rf "$dir"
	exit "$status"
}
trap cleanup EXIT
cd "$dir" # some clients leave files where they are
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

step()
{
	now=$*
	echo "# $*"
}

need()
{
	local command
	for command in "$@"; do
		command -v "$command" >/dev/null || { echo "$command is not installed"; exit 77; }
	done
}

also_kill()
{
	to_kill+=("$1")
}

fails()
{
	if "$@" >"$dir/fails.log" 2>&1; then
		echo "succeeded, but should not: $*"
		cat "$dir/fails.log"
		return 1
	fi
}

rpc()
{
	/usr/bin/python3 "$here/rpc.py" "$rpc_sock" "$@"
}

rpc_fails()
{
	local text=$1 said
	shift
	if said=$(rpc "$@" 2>&1); then
		echo "succeeded, but should not: $*"
		return 1
	fi
	case $said in
	*"$text"*) ;;
	*) echo "does not say '$text': $said"; return 1 ;;
	esac
}

start_bellowsd()
{
	"$bellowsd" -r "$rpc_sock" "$@" >>"$dir/log" 2>&1 &
	bellowsd_pid=$!
	/usr/bin/python3 "$here/rpc.py" "$rpc_sock" --wait
}

stop_bellowsd()
{
	local status=0 pid=$bellowsd_pid
	kill -TERM "$pid"
	wait "$pid" || status=$?
	bellowsd_pid=
	[ "$status" -eq 0 ] || { echo "bellowsd ended with status $status"; return 1; }
}

# same FILE FILE: byte by byte
same()
{
	cmp "$1" "$2"
}
