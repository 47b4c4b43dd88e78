/* Sockets: both kinds, large transfers, ends, and who may listen where. With --bench: what
 * a request and its answer cost. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "loop/test_loop.h"

static char dir[] = "/tmp/bellows-sock-test-XXXXXX";
static struct loop_addr unix_addr = {.kind = LOOP_ADDR_UNIX};
static const struct loop_addr tcp_addr = {.kind = LOOP_ADDR_TCP, .host = "127.0.0.1"};
static const struct loop_addr tcp6_addr = {.kind = LOOP_ADDR_TCP, .host = "::1"};

static struct loop_sock *accepted[64];
static unsigned accepted_count;

static void on_accept(
        struct loop_listener maybe_unused *listener, struct loop_sock *sock, void *arg)
{
	assert_ptr_equal(arg, &accepted_count);
	assert_true(accepted_count < ARRAY_SIZE(accepted));
	accepted[accepted_count++] = sock;
}

static struct loop_listener *listen_at(const struct loop_addr *addr)
{
	struct loop_listener *listener;
	struct err err = ERR_NONE;

	accepted_count = 0;
	if (loop_listen(loop_self(), addr, on_accept, &accepted_count, &listener, &err) < 0)
		fail_msg("%s", err.text);
	return listener;
}

static struct loop_sock *connect_to(const struct loop_listener *listener)
{
	struct loop_sock *sock = NULL;
	unsigned before = accepted_count;
	struct test_op op;

	loop_sock_connect(loop_self(), test_op_init(&op), loop_listener_addr(listener), &sock);
	assert_int_equal(test_op_wait(&op), 0);
	turn_until(accepted_count == before + 1);
	return sock;
}

static int send_all(struct loop_sock *sock, const void *bytes, size_t len)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct test_op op;

	loop_sock_send(loop_self(), test_op_init(&op), sock, &iov, 1, false);
	return test_op_wait(&op);
}

static int recv_some(struct loop_sock *sock, void *bytes, size_t len, bool all)
{
	struct test_op op;

	loop_sock_recv(loop_self(), test_op_init(&op), sock, bytes, len, all);
	return test_op_wait(&op);
}

/* ---- transfers ------------------------------------------------------------------------------ */

/* Echo: what one end sends comes back, in pieces, while the sender is still sending. */
struct echo {
	struct loop_op recv, send;
	struct loop_sock *sock;
	uint8_t bytes[30000];
	bool ended;
};

static void echo_received(struct loop_op *op, int result)
{
	struct echo *e = container_of(op, struct echo, recv);
	struct iovec iov[3];

	if (result <= 0) {
		e->ended = true;
		return;
	}
	iov[0] = (struct iovec){e->bytes, (size_t)result / 3};
	iov[1] = (struct iovec){e->bytes + iov[0].iov_len, 0};
	iov[2] = (struct iovec){e->bytes + iov[0].iov_len, (size_t)result - iov[0].iov_len};
	loop_sock_send(loop_self(), &e->send, e->sock, iov, 3, false);
}

static void echo_sent(struct loop_op *op, int result)
{
	struct echo *e = container_of(op, struct echo, send);

	assert_true(result > 0);
	loop_sock_recv(loop_self(), &e->recv, e->sock, e->bytes, sizeof(e->bytes), false);
}

static void check_echo(const struct loop_addr *addr, bool lazy)
{
	const size_t len = MIB(16) + 13;
	struct loop_listener *listener = listen_at(addr);
	struct loop_sock *sock = connect_to(listener);
	autofree struct echo *e = xcalloc(1, sizeof(*e));
	autofree uint8_t *out = xcalloc(1, len), *in = xcalloc(1, len);
	struct iovec iov[2];
	struct test_op send_op, recv_op;

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i ^ (i >> 11));
	*e = (struct echo){.recv.done = echo_received, .send.done = echo_sent, .sock = accepted[0]};
	loop_sock_recv(loop_self(), &e->recv, e->sock, e->bytes, sizeof(e->bytes), false);
	iov[0] = (struct iovec){out, 999};
	iov[1] = (struct iovec){out + 999, len - 999};
	loop_sock_send(loop_self(), test_op_init(&send_op), sock, iov, 2, lazy);
	memset(iov, 0xff, sizeof(iov));
	loop_sock_recv(loop_self(), test_op_init(&recv_op), sock, in, len, true);
	turn_until(send_op.done && recv_op.done);
	assert_int_equal(send_op.result, len);
	assert_int_equal(recv_op.result, len);
	assert_memory_equal(in, out, len);
	loop_sock_close(loop_self(), sock);
	turn_until(e->ended);
	loop_sock_close(loop_self(), e->sock);
	loop_listener_close(loop_self(), listener);
}

static void test_echo_unix(void maybe_unused **state)
{
	check_echo(&unix_addr, false);
	check_echo(&unix_addr, true);
}

static void test_echo_tcp(void maybe_unused **state)
{
	check_echo(&tcp_addr, false);
	check_echo(&tcp_addr, true);
	check_echo(&tcp6_addr, false);
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void check_ends(const struct loop_addr *addr)
{
	struct loop_listener *listener = listen_at(addr);
	struct loop_sock *sock = connect_to(listener);
	struct test_op recv_op, send_op;
	autofree char *big = xcalloc(1, MIB(64));
	struct iovec iov = {big, MIB(64)};
	char bytes[16];

	/* A receive that is cancelled, and the socket works on. */
	loop_sock_recv(loop_self(), test_op_init(&recv_op), sock, bytes, 1, false);
	test_turns(10);
	assert_false(recv_op.done);
	loop_op_cancel(loop_self(), &recv_op.op);
	assert_int_equal(test_op_wait(&recv_op), -ECANCELED);
	loop_op_cancel(loop_self(), &recv_op.op);

	/* One that is cancelled before the kernel has seen it. */
	loop_sock_recv(loop_self(), test_op_init(&recv_op), sock, bytes, 1, false);
	loop_op_cancel(loop_self(), &recv_op.op);
	assert_int_equal(test_op_wait(&recv_op), -ECANCELED);
	assert_int_equal(send_all(accepted[0], "abc", 3), 3);
	assert_int_equal(recv_some(sock, bytes, sizeof(bytes), false), 3);

	/* Less than asked for, at the end of the stream. */
	loop_sock_recv(loop_self(), test_op_init(&recv_op), sock, bytes, 10, true);
	assert_int_equal(send_all(accepted[0], "abcd", 4), 4);
	assert_false(recv_op.done);
	loop_sock_shutdown(loop_self(), accepted[0]);
	assert_int_equal(test_op_wait(&recv_op), 4);
	assert_int_equal(recv_some(sock, bytes, 10, true), 0);
	loop_sock_close(loop_self(), accepted[0]);
	loop_sock_close(loop_self(), sock);

	/* A shutdown ends a send for which the peer has no room. */
	sock = connect_to(listener);
	loop_sock_send(loop_self(), test_op_init(&send_op), sock, &iov, 1, false);
	test_turns(100);
	loop_sock_shutdown(loop_self(), sock);
	assert_true(test_op_wait(&send_op) < 0);
	assert_true(send_all(sock, "x", 1) < 0);
	loop_sock_close(loop_self(), sock);
	loop_sock_close(loop_self(), accepted[1]);
	loop_listener_close(loop_self(), listener);
}

static void test_ends(void maybe_unused **state)
{
	check_ends(&unix_addr);
	check_ends(&tcp_addr);
}

static void test_connect_errors(void maybe_unused **state)
{
	struct loop_addr addr = {.kind = LOOP_ADDR_TCP, .host = "localhost"};
	struct loop_listener *listener = listen_at(&tcp_addr);
	struct loop_sock *sock = NULL;
	struct test_op op;

	loop_sock_connect(loop_self(), test_op_init(&op), &addr, &sock);
	assert_int_equal(test_op_wait(&op), -EINVAL);
	addr = *loop_listener_addr(listener);
	loop_listener_close(loop_self(), listener);
	loop_sock_connect(loop_self(), test_op_init(&op), &addr, &sock);
	assert_int_equal(test_op_wait(&op), -ECONNREFUSED);
	loop_sock_connect(loop_self(), test_op_init(&op), &unix_addr, &sock);
	assert_int_equal(test_op_wait(&op), -ENOENT);
	assert_null(sock);
}

static void test_peer_text(void maybe_unused **state)
{
	const struct loop_addr *addrs[] = {&unix_addr, &tcp_addr, &tcp6_addr};
	const char *starts[] = {"unix", "127.0.0.1:", "[::1]:"};
	char expected[64], text[64];

	for (unsigned i = 0; i < 3; i++) {
		struct loop_listener *listener = listen_at(addrs[i]);
		struct loop_sock *sock = connect_to(listener);

		snprintf(expected, sizeof(expected), i ? "%s%u" : "%s", starts[i],
		        loop_listener_addr(listener)->port);
		loop_sock_peer(sock, text, sizeof(text));
		assert_string_equal(text, expected);
		loop_sock_close(loop_self(), sock);
		loop_sock_close(loop_self(), accepted[0]);
		loop_listener_close(loop_self(), listener);
	}
}

/* ---- a socket that moves to a data loop ------------------------------------------------------ */

struct mover {
	struct loop_task task;
	struct loop_op op;
	struct loop_sock *sock;
	char bytes[4];
	bool received, back;
};

static void mover_sent(struct loop_op *op, int result)
{
	struct mover *m = container_of(op, struct mover, op);

	assert_int_equal(result, 4);
	m->received = true;
	loop_send(loop_get(LOOP_CONTROL), &m->task);
}

static void mover_received(struct loop_op *op, int result)
{
	struct mover *m = container_of(op, struct mover, op);
	struct iovec iov = {m->bytes, 4};

	assert_int_equal(result, 4);
	m->op.done = mover_sent;
	loop_sock_send(loop_self(), &m->op, m->sock, &iov, 1, false);
}

static void mover_run(struct loop_task *task)
{
	struct mover *m = container_of(task, struct mover, task);

	if (m->received)
		m->back = true;
	else
		loop_sock_recv(loop_self(), &m->op, m->sock, m->bytes, 4, true);
}

static void test_move_between_loops(void maybe_unused **state)
{
	struct loop_listener *listener = listen_at(&unix_addr);
	struct loop_sock *sock = connect_to(listener);
	char bytes[4];

	for (unsigned i = 0; i < 10; i++) {
		struct mover m = {
		        .task.run = mover_run, .op.done = mover_received, .sock = accepted[0]};

		loop_send(loop_get(i % 2 + 1), &m.task);
		assert_int_equal(send_all(sock, "ping", 4), 4);
		assert_int_equal(recv_some(sock, bytes, 4, true), 4);
		assert_memory_equal(bytes, "ping", 4);
		turn_until(m.back);
	}
	loop_sock_close(loop_self(), sock);
	loop_sock_close(loop_self(), accepted[0]);
	loop_listener_close(loop_self(), listener);
}

/* ---- listening ------------------------------------------------------------------------------ */

static void test_many_connections(void maybe_unused **state)
{
	struct loop_listener *listener = listen_at(&unix_addr);
	struct loop_sock *socks[ARRAY_SIZE(accepted)];
	char c;

	for (unsigned i = 0; i < ARRAY_SIZE(socks); i++)
		socks[i] = connect_to(listener);
	for (unsigned i = 0; i < ARRAY_SIZE(socks); i++) {
		assert_int_equal(send_all(socks[i], "x", 1), 1);
		assert_int_equal(recv_some(accepted[i], &c, 1, false), 1);
		loop_sock_close(loop_self(), socks[i]);
		loop_sock_close(loop_self(), accepted[i]);
	}
	loop_listener_close(loop_self(), listener);
}

static void test_unix_files(void maybe_unused **state)
{
	struct loop_listener *listener = listen_at(&unix_addr), *second = NULL;
	struct err err = ERR_NONE;
	char lock[128];
	struct stat st;

	snprintf(lock, sizeof(lock), "%.100s.lock", unix_addr.path);
	assert_int_equal(stat(unix_addr.path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(lock, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);

	/* The lock refuses a second listener, which leaves the first alone. */
	assert_int_equal(
	        loop_listen(loop_self(), &unix_addr, on_accept, NULL, &second, &err), -EADDRINUSE);
	assert_null(second);
	assert_non_null(strstr(err.text, unix_addr.path));
	loop_sock_close(loop_self(), connect_to(listener));
	loop_sock_close(loop_self(), accepted[0]);

	loop_listener_close(loop_self(), listener);
	assert_int_equal(stat(unix_addr.path, &st), -1);
	assert_int_equal(stat(lock, &st), -1);
	/* And again at once. */
	loop_listener_close(loop_self(), listen_at(&unix_addr));
}

static int bind_without_lock(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	str_copy(un.sun_path, sizeof(un.sun_path), unix_addr.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_stale_socket(void maybe_unused **state)
{
	struct loop_listener *listener = NULL;
	struct err err = ERR_NONE;
	int fd = bind_without_lock();

	/* Somebody serves it, though without a lock. */
	assert_int_equal(loop_listen(loop_self(), &unix_addr, on_accept, NULL, &listener, &err),
	        -EADDRINUSE);
	close(fd);
	/* Now it is only a file that was left behind. */
	listener = listen_at(&unix_addr);
	loop_sock_close(loop_self(), connect_to(listener));
	loop_sock_close(loop_self(), accepted[0]);
	loop_listener_close(loop_self(), listener);
}

static void test_listen_errors(void maybe_unused **state)
{
	struct loop_listener *listener = NULL;
	struct loop_addr addr = unix_addr;
	struct err err = ERR_NONE;
	FILE *file = fopen(unix_addr.path, "w");
	struct stat st;

	/* Only a socket is ever replaced. */
	assert_non_null(file);
	fclose(file);
	assert_int_equal(
	        loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), -EEXIST);
	assert_int_equal(stat(addr.path, &st), 0);
	unlink(addr.path);

	str_copy(addr.path, sizeof(addr.path), "/nowhere/socket");
	assert_int_equal(
	        loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), -ENOENT);
	memset(addr.path, 'x', sizeof(addr.path));
	assert_int_equal(
	        loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), -ENAMETOOLONG);
	addr = (struct loop_addr){.kind = LOOP_ADDR_TCP, .host = "example.org"};
	assert_int_equal(
	        loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), -EINVAL);
	assert_non_null(strstr(err.text, "example.org"));

	listener = listen_at(&tcp_addr);
	addr = *loop_listener_addr(listener);
	assert_int_not_equal(addr.port, 0);
	assert_int_equal(
	        loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), -EADDRINUSE);
	loop_listener_close(loop_self(), listener);
	/* The port is free at once. */
	assert_int_equal(loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), 0);
	loop_listener_close(loop_self(), listener);
}

/* Out of descriptors: the connection waits, and is accepted when there are some again. */
static void test_accept_without_descriptors(void maybe_unused **state)
{
	struct loop_listener *listener = listen_at(&unix_addr);
	struct loop_sock *sock = NULL;
	struct rlimit full, none;
	struct test_op op;

	loop_sock_connect(loop_self(), test_op_init(&op), &unix_addr, &sock);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &full), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = full.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(test_op_wait(&op), 0);
	test_turns(100);
	assert_int_equal(accepted_count, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
	turn_until(accepted_count == 1);
	loop_sock_close(loop_self(), accepted[0]);
	loop_sock_close(loop_self(), sock);
	loop_listener_close(loop_self(), listener);
}

/* loops_run returns although a listener and a receive were left open; nothing leaks. */
static void recv_ended(struct loop_op maybe_unused *op, int result)
{
	assert_int_equal(result, -ECANCELED);
}

static void test_end_with_open_operations(void maybe_unused **state)
{
	struct loop_op op = {.done = recv_ended};
	struct loop_listener *listener;
	struct loop_sock *sock;
	char c;

	test_loops_start(2, 0);
	listener = listen_at(&unix_addr);
	sock = connect_to(listener);
	loop_sock_recv(loop_self(), &op, sock, &c, 1, false);
	loop_listener_close(loop_self(), listener);
	test_loops_end();
	loop_sock_close(NULL, sock);
	loop_sock_close(NULL, accepted[0]);
}

/* ---- bench ---------------------------------------------------------------------------------- */

#define BENCH_ROUNDS 1000

/* One end of a conversation: one sends a request first, the other answers each. */
struct talker {
	struct loop_task task;
	struct loop_op recv, send;
	struct loop_sock *sock;
	char bytes[32];
	unsigned left;
	bool first, done;
};

static void talk_sent(struct loop_op *op, int result)
{
	struct talker *t = container_of(op, struct talker, send);

	BELLOWS_ASSERT(result == sizeof(t->bytes));
}

static void talk_send(struct talker *t)
{
	struct iovec iov = {t->bytes, sizeof(t->bytes)};

	loop_sock_send(loop_self(), &t->send, t->sock, &iov, 1, false);
}

static void talk_recv(struct talker *t)
{
	loop_sock_recv(loop_self(), &t->recv, t->sock, t->bytes, sizeof(t->bytes), true);
}

static void talk_received(struct loop_op *op, int result)
{
	struct talker *t = container_of(op, struct talker, recv);

	BELLOWS_ASSERT(result == sizeof(t->bytes));
	t->left--;
	t->done = t->left == 0;
	if (!t->first || !t->done)
		talk_send(t);
	if (!t->done)
		talk_recv(t);
}

static void talk_begin(struct loop_task *task)
{
	struct talker *t = container_of(task, struct talker, task);

	if (t->first)
		talk_send(t);
	talk_recv(t);
}

static uint64_t clock_of(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Request and answer between two loops, one at a time. */
static void bench_talk(const struct loop_addr *addr, const char *name, uint32_t spin_us)
{
	uint64_t best_ns = UINT64_MAX, best_cpu_ns = UINT64_MAX;
	struct loop_listener *listener;
	struct loop_sock *sock;

	test_loops_start(1, spin_us);
	listener = listen_at(addr);
	sock = connect_to(listener);
	for (int round = 0; round < 10; round++) {
		struct talker t[2];
		uint64_t start_ns, start_cpu_ns;

		for (unsigned i = 0; i < 2; i++)
			t[i] = (struct talker){.task.run = talk_begin,
			        .recv.done = talk_received,
			        .send.done = talk_sent,
			        .sock = i ? accepted[0] : sock,
			        .left = BENCH_ROUNDS,
			        .first = i == 0};
		start_ns = clock_of(CLOCK_MONOTONIC);
		start_cpu_ns = clock_of(CLOCK_PROCESS_CPUTIME_ID);
		loop_send(loop_get(1), &t[1].task);
		loop_defer(loop_self(), &t[0].task);
		turn_until(t[0].done);
		best_ns = min_u64(best_ns, (clock_of(CLOCK_MONOTONIC) - start_ns) / BENCH_ROUNDS);
		best_cpu_ns = min_u64(best_cpu_ns,
		        (clock_of(CLOCK_PROCESS_CPUTIME_ID) - start_cpu_ns) / BENCH_ROUNDS);
		/* The other loop has yet to be told of its last send. */
		usleep(10000);
	}
	printf("%s, spin %u us: %llu ns per round trip, %llu ns of CPU\n", name, spin_us,
	        (unsigned long long)best_ns, (unsigned long long)best_cpu_ns);
	loop_sock_close(loop_self(), sock);
	loop_sock_close(loop_self(), accepted[0]);
	loop_listener_close(loop_self(), listener);
	test_loops_end();
}

static int bench(void)
{
	bench_talk(&unix_addr, "unix", 0);
	bench_talk(&unix_addr, "unix", 100);
	bench_talk(&tcp_addr, "tcp", 0);
	bench_talk(&tcp_addr, "tcp", 100);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        loop_test(test_echo_unix),
	        loop_test(test_echo_tcp),
	        loop_test(test_ends),
	        loop_test(test_connect_errors),
	        loop_test(test_peer_text),
	        loop_test(test_move_between_loops),
	        loop_test(test_many_connections),
	        loop_test(test_unix_files),
	        loop_test(test_stale_socket),
	        loop_test(test_listen_errors),
	        loop_test(test_accept_without_descriptors),
	        cmocka_unit_test(test_end_with_open_operations),
	};
	int rc;

	if (!mkdtemp(dir))
		return 1;
	snprintf(unix_addr.path, sizeof(unix_addr.path), "%s/socket", dir);
	rc = argc > 1 && strcmp(argv[1], "--bench") == 0
	             ? bench()
	             : cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
