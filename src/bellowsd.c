/*
 * bellowsd.c: the daemon: options, start, and an end in good order.
 *
 * The end: no new RPC connections, targets let go of their clients, bdevs are removed top first,
 * loops stop. A second signal ends the process at once.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "bdev/bdev.h"
#include "loop/cpumask.h"
#include "loop/loop.h"
#include "rpc/server.h"

#define DEFAULT_SOCKET "/var/tmp/spdk.sock"
#define DEFAULT_DATA_LOOPS_MAX 4
#define DEFAULT_SPIN_US 0
#define SPIN_US_MAX 1000000

struct options {
	const char *socket, *cpumask, *config, *allowed;
	bool wait_for_rpc, ignore_config_errors;
	uint32_t spin_us;
	unsigned data_loops;
};

enum long_option {
	OPT_WAIT_FOR_RPC = 256,
	OPT_IGNORE_ERRORS,
	OPT_ALLOWED,
	OPT_SPIN_US,
	OPT_VERSION,
	OPT_DUMP_DOCS,
	OPT_DUMP_JSON,
};

static const struct option long_options[] = {
        {"rpc-socket", required_argument, NULL, 'r'},
        {"cpumask", required_argument, NULL, 'm'},
        {"json", required_argument, NULL, 'c'},
        {"config", required_argument, NULL, 'c'},
        {"json-ignore-init-errors", no_argument, NULL, OPT_IGNORE_ERRORS},
        {"wait-for-rpc", no_argument, NULL, OPT_WAIT_FOR_RPC},
        {"rpcs-allowed", required_argument, NULL, OPT_ALLOWED},
        {"spin-us", required_argument, NULL, OPT_SPIN_US},
        {"print-level", required_argument, NULL, 'L'},
        {"version", no_argument, NULL, OPT_VERSION},
        {"help", no_argument, NULL, 'h'},
        {"dump-rpc-docs", no_argument, NULL, OPT_DUMP_DOCS},
        {"dump-rpc-json", no_argument, NULL, OPT_DUMP_JSON},
        {0},
};

static const char help[] =
        "usage: bellowsd [OPTION]...\n"
        "\n"
        "Serves block devices, which are made and exported by JSON-RPC or a configuration file.\n"
        "\n"
        "  -r, --rpc-socket PATH       where to listen for JSON-RPC (" DEFAULT_SOCKET ")\n"
        "  -c, --json, --config FILE   configuration to load, as `save_config` writes it\n"
        "      --json-ignore-init-errors\n"
        "                              go on after calls of the configuration that fail\n"
        "      --wait-for-rpc          wait for framework_start_init before the bdevs of the\n"
        "                              configuration are made\n"
        "      --rpcs-allowed LIST     only these methods, separated by commas\n"
        "  -m, --cpumask MASK          one data loop on each of these CPUs: 0x3 or [0,2-3]\n"
        "                              (default: one for each CPU, at most 4, not pinned)\n"
        "      --spin-us N             how long an idle loop polls before it sleeps (0)\n"
        "  -L, --print-level LEVEL     ERROR, WARNING, NOTICE, INFO or DEBUG (NOTICE)\n"
        "      --dump-rpc-docs         write the reference of all methods as Markdown\n"
        "      --dump-rpc-json         write the tables of all methods as JSON\n"
        "      --version\n"
        "  -h, --help\n";

/* Letters that SPDK's programs take, so that a script that uses one learns what to do. */
static const struct {
	char letter;
	const char *advice;
} spdk_letters[] = {
        {'s', "memory is not set aside, so there is no size to give; leave it out"},
        {'n', "there are no memory channels to set; leave it out"},
        {'g', "there are no hugepages; leave it out"},
        {'R', "there are no hugepages; leave it out"},
        {'d', "there is no limit on file descriptors to set here; leave it out"},
        {'p', "the control loop is not pinned; leave it out, or use -m for the data loops"},
        {'i', "there is no shared memory; leave it out"},
        {'e', "there are no trace points; leave it out"},
        {'u', "PCI devices are not touched in any case; leave it out"},
        {'A', "PCI devices are not touched; leave it out"},
        {'B', "PCI devices are not touched; leave it out"},
        {'W', "PCI devices are not touched; leave it out"},
        {'S', "give the path of the socket to the method that makes it"},
        {'f', "let the service manager keep the process id; leave it out"},
        {'v', "use --version"},
};

_Noreturn static void usage_error(const char *text)
{
	fprintf(stderr, "bellowsd: %s\nTry: bellowsd --help\n", text);
	exit(2);
}

static void fail_if(const struct err *err)
{
	if (!err->code)
		return;
	fprintf(stderr, "bellowsd: %s\n", err->text);
	exit(1);
}

_Noreturn static void unknown_option(int letter)
{
	char text[160];

	for (size_t i = 0; i < ARRAY_SIZE(spdk_letters); i++) {
		if (spdk_letters[i].letter == letter) {
			snprintf(text, sizeof(text), "there is no option -%c: %s", letter,
			        spdk_letters[i].advice);
			usage_error(text);
		}
	}
	usage_error("there is no such option, or it lacks its value");
}

/* ---- options --------------------------------------------------------------------------------- */

static void put(const char *text)
{
	fputs(text, stdout);
}

_Noreturn static void dump_json(void)
{
	json_t *methods = rpc_dump_json();

	json_dumpf(methods, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(methods);
	exit(fflush(stdout) ? 1 : 0);
}

_Noreturn static void dump_docs(void)
{
	rpc_dump_docs(put);
	exit(fflush(stdout) ? 1 : 0);
}

static uint32_t parse_spin_us(const char *text)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n > SPIN_US_MAX)
		usage_error("--spin-us takes a number of microseconds up to 1000000");
	return (uint32_t)n;
}

static void parse_print_level(const char *text)
{
	enum log_level level;

	if (log_level_parse(text, &level))
		usage_error("--print-level takes ERROR, WARNING, NOTICE, INFO or DEBUG");
	log_set_print_level(level);
}

static void take_option(struct options *o, int c)
{
	switch (c) {
	case 'r':
		o->socket = optarg;
		break;
	case 'm':
		o->cpumask = optarg;
		break;
	case 'c':
		o->config = optarg;
		break;
	case 'L':
		parse_print_level(optarg);
		break;
	case OPT_WAIT_FOR_RPC:
		o->wait_for_rpc = true;
		break;
	case OPT_IGNORE_ERRORS:
		o->ignore_config_errors = true;
		break;
	case OPT_ALLOWED:
		o->allowed = optarg;
		break;
	case OPT_SPIN_US:
		o->spin_us = parse_spin_us(optarg);
		break;
	case OPT_VERSION:
		puts("Bellows v" BELLOWS_VERSION);
		exit(0);
	case OPT_DUMP_DOCS:
		dump_docs();
	case OPT_DUMP_JSON:
		dump_json();
	case 'h':
		put(help);
		exit(0);
	default:
		unknown_option(optopt);
	}
}

static unsigned count_data_loops(const char *cpumask)
{
	struct err err = ERR_NONE;
	cpu_set_t cpus;
	long online;

	if (cpumask) {
		(void)!cpumask_parse(cpumask, &cpus, &err);
		fail_if(&err);
		if (CPU_COUNT(&cpus) >= LOOPS_MAX)
			usage_error("--cpumask names more than 64 CPUs");
		return (unsigned)CPU_COUNT(&cpus);
	}
	online = sysconf(_SC_NPROCESSORS_ONLN);
	return online < 1 ? 1 : (unsigned)min_u64((uint64_t)online, DEFAULT_DATA_LOOPS_MAX);
}

static void parse_options(struct options *o, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, ":r:m:c:L:h", long_options, NULL)) != -1)
		take_option(o, c);
	if (optind < argc)
		usage_error("it takes options only");
	o->data_loops = count_data_loops(o->cpumask);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int exit_status;
static bool ending;

static void rpc_stopped(void *arg)
{
	(void)arg;
	loops_stop(exit_status);
}

static void bdevs_stopped(void *arg, const struct err *err)
{
	(void)arg;
	if (err && err->code) {
		log_error("bellowsd", "%s", err->text);
		exit_status = 1;
	}
	rpc_finish_stop(rpc_stopped, NULL);
}

static void targets_stopped(void *arg)
{
	(void)arg;
	bdev_stop((struct bdev_done){.fn = bdevs_stopped});
}

static void end(int status)
{
	if (ending)
		return;
	ending = true;
	exit_status = status;
	rpc_begin_stop(targets_stopped, NULL);
}

static void on_signal(int signum)
{
	if (ending)
		_exit(128 + signum);
	log_notice("bellowsd", "ending after SIG%s; once more ends at once", sigabbrev_np(signum));
	end(0);
}

static void signal_by_rpc(int signum)
{
	kill(getpid(), signum);
}

static void started(void *arg, const struct err *err)
{
	const struct options *o = arg;

	if (err->code) {
		log_error("bellowsd", "%s", err->text);
		end(1);
		return;
	}
	log_notice("bellowsd", "version %s is ready on %s, %u data loops", BELLOWS_VERSION,
	        o->socket, loops_count() - 1);
}

int main(int argc, char **argv)
{
	struct options o = {.socket = DEFAULT_SOCKET, .spin_us = DEFAULT_SPIN_US};
	struct rpc_options rpc = {.on_signal = signal_by_rpc};
	struct loop_config loops = {0};
	struct err err = ERR_NONE;

	parse_options(&o, argc, argv);
	signal(SIGPIPE, SIG_IGN); /* a reader of the log that goes away ends nothing */
	if (o.allowed)
		(void)!rpc_allow_only(o.allowed, &err);
	fail_if(&err);
	if (o.config)
		(void)!rpc_config_read(o.config, &rpc.config, &err);
	fail_if(&err);
	loops.data_loops = o.data_loops;
	loops.cpumask = o.cpumask;
	loops.spin_us = o.spin_us;
	(void)!loops_start(&loops, &err);
	fail_if(&err);
	log_set_clock(loop_wall_ns);
	loop_on_signal(SIGTERM, on_signal);
	loop_on_signal(SIGINT, on_signal);
	loop_on_signal(SIGHUP, on_signal);
	rpc.socket_path = o.socket;
	rpc.wait_for_rpc = o.wait_for_rpc;
	rpc.ignore_config_errors = o.ignore_config_errors;
	bdev_start();
	rpc_start(&rpc, started, &o);
	return loops_run();
}
