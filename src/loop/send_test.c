/* Lazy sends: what a loop is woken for, and what not. */
#include <errno.h>
#include <stdlib.h>

#include "loop/sock.h"
#include "loop/test_loop.h"

static void make_pair(struct loop_sock *pair[2])
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pair[0] = sock_new(fds[0], LOOP_ADDR_UNIX);
	pair[1] = sock_new(fds[1], LOOP_ADDR_UNIX);
	assert_true(pair[0] && pair[1]);
}

static void close_pair(struct loop_sock *pair[2])
{
	loop_sock_close(loop_self(), pair[0]);
	loop_sock_close(loop_self(), pair[1]);
}

static void test_success_is_told_with_the_next_event(void maybe_unused **state)
{
	struct uring_loop *l = uring_of(loop_self());
	struct loop_sock *pair[2];
	uint8_t out[300] = {1, 2, 3}, in[300];
	struct iovec iov[2] = {{out, 100}, {out + 100, 200}};
	struct test_op send, recv;

	make_pair(pair);
	loop_sock_send(loop_self(), test_op_init(&send), pair[0], iov, 2, true);
	uring_enter(l, false, 0);
	assert_false(uring_has_completions(l));
	assert_false(send.done);
	loop_sock_recv(loop_self(), test_op_init(&recv), pair[1], in, sizeof(in), true);
	assert_int_equal(test_op_wait(&recv), sizeof(in));
	assert_memory_equal(in, out, sizeof(in));
	assert_true(send.done);
	assert_int_equal(send.result, sizeof(out));
	close_pair(pair);
}

/* What does not fit into the socket at once goes on by itself while the other side takes it. */
static void test_a_long_one_goes_on(void maybe_unused **state)
{
	const size_t len = MIB(8) + 1;
	autofree uint8_t *out = xcalloc(1, len), *in = xcalloc(1, len);
	struct iovec iov = {out, len};
	struct loop_sock *pair[2];
	struct test_op send, recv;

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i ^ (i >> 13));
	make_pair(pair);
	loop_sock_send(loop_self(), test_op_init(&send), pair[0], &iov, 1, true);
	loop_sock_recv(loop_self(), test_op_init(&recv), pair[1], in, len, true);
	assert_int_equal(test_op_wait(&recv), len);
	turn_until(send.done);
	assert_int_equal(send.result, len);
	assert_memory_equal(in, out, len);
	close_pair(pair);
}

static void test_failure_wakes(void maybe_unused **state)
{
	uint8_t out[100] = {0};
	struct iovec iov = {out, sizeof(out)};
	struct loop_sock *pair[2];
	struct test_op send;

	make_pair(pair);
	loop_sock_shutdown(loop_self(), pair[1]);
	loop_sock_send(loop_self(), test_op_init(&send), pair[0], &iov, 1, true);
	assert_int_equal(test_op_wait(&send), -EPIPE);
	close_pair(pair);
}

/* The queue is submitted when it is full, in the middle of a turn. */
static void test_more_than_the_queue_holds(void maybe_unused **state)
{
	enum {
		SENDS = SQ_ENTRIES + 20
	};
	static struct loop_sock *pairs[SENDS / 2][2];
	static struct test_op sends[SENDS];
	uint8_t byte = 7, got = 0;
	struct iovec iov = {&byte, 1};
	struct test_op recv;

	for (unsigned i = 0; i < SENDS / 2; i++)
		make_pair(pairs[i]);
	for (unsigned i = 0; i < SENDS; i++)
		loop_sock_send(
		        loop_self(), test_op_init(&sends[i]), pairs[i / 2][i % 2], &iov, 1, true);
	for (unsigned i = 0; i < SENDS; i++) {
		loop_sock_recv(
		        loop_self(), test_op_init(&recv), pairs[i / 2][1 - i % 2], &got, 1, true);
		assert_int_equal(test_op_wait(&recv), 1);
		assert_true(sends[i].done);
		assert_int_equal(sends[i].result, 1);
	}
	for (unsigned i = 0; i < SENDS / 2; i++)
		close_pair(pairs[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        loop_test(test_success_is_told_with_the_next_event),
	        loop_test(test_a_long_one_goes_on),
	        loop_test(test_failure_wakes),
	        loop_test(test_more_than_the_queue_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
