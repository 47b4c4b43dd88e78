/*
 * wire_test.c: what a client sees on the socket: framing, ids, batches, errors, limits. The codes
 * are those that clients of the reference know.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/connection.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "tests/lib/inproc.h"
#include "tests/lib/rpc_client.h"

/* ---- a method of every kind of parameters, and some that misbehave on purpose -----------------
 */

struct echo_params {
	json_t *value;
};

static const struct param echo_table[] = {
        {PARAM(struct echo_params, value, PARAM_JSON), .required = true, .help = "anything"},
        {0},
};

static void echo(struct rpc_request *request, void *params)
{
	rpc_reply(request, json_incref(((struct echo_params *)params)->value));
}

static struct rpc_method test_echo = {
        .name = "test_echo",
        .params = echo_table,
        .params_bytes = sizeof(struct echo_params),
        .handler = echo,
};
RPC_METHOD(test_echo);

struct huge_params {
	uint64_t bytes;
};

static const struct param huge_table[] = {
        {PARAM(struct huge_params, bytes, PARAM_U64), .required = true, .help = "size"},
        {0},
};

static unsigned num_huge;

static void huge(struct rpc_request *request, void *params)
{
	size_t bytes = ((struct huge_params *)params)->bytes;
	autofree char *text = xcalloc(1, bytes + 1);

	memset(text, 'x', bytes);
	num_huge++;
	rpc_reply(request, json_string(text));
}

static struct rpc_method test_huge = {
        .name = "test_huge",
        .params = huge_table,
        .params_bytes = sizeof(struct huge_params),
        .handler = huge,
};
RPC_METHOD(test_huge);

/* Answers when test_release is called. */
static struct rpc_request *held[1024];
static unsigned num_held;

static void hold(struct rpc_request *request, void *params)
{
	(void)params;
	held[num_held++] = request;
}

static struct rpc_method test_hold = {
        .name = "test_hold", .flags = RPC_PARAMS_UNCHECKED, .handler = hold};
RPC_METHOD(test_hold);

static void release_held(struct rpc_request *request, void *params)
{
	(void)params;
	while (num_held)
		rpc_reply(held[--num_held], NULL);
	rpc_reply(request, NULL);
}

static struct rpc_method test_release = {
        .name = "test_release", .flags = RPC_NO_PARAMS, .handler = release_held};
RPC_METHOD(test_release);

static void relaxed(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request, NULL);
}

static struct rpc_method test_relaxed = {
        .name = "test_relaxed",
        .params = echo_table,
        .params_bytes = sizeof(struct echo_params),
        .flags = RPC_RELAXED,
        .decode_error = RPC_PARSE_ERROR,
        .handler = relaxed,
};
RPC_METHOD(test_relaxed);

/* ---- the envelope -----------------------------------------------------------------------------
 */

#define ECHO(id_text)                                                                              \
	"{\"jsonrpc\":\"2.0\",\"method\":\"test_echo\",\"id\":" id_text ",\"params\":{\"value\":"  \
	"1}}"
#define ANSWER(id_text) "{\"jsonrpc\":\"2.0\",\"id\":" id_text ",\"result\":1}"

static void ids_come_back_as_written(void **state)
{
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, ECHO("9.50") ECHO("\"abc\"") ECHO("\"\\u0041\\/\"") ECHO("-0")
	                            ECHO("1e2") ECHO("\"\""));
	rpc_client_expect_line(fd, ANSWER("9.50"));
	rpc_client_expect_line(fd, ANSWER("\"abc\""));
	rpc_client_expect_line(fd, ANSWER("\"\\u0041\\/\""));
	rpc_client_expect_line(fd, ANSWER("-0"));
	rpc_client_expect_line(fd, ANSWER("1e2"));
	rpc_client_expect_line(fd, ANSWER("\"\""));
	rpc_client_send(fd,
	        "{\"\\u0069d\":7,\"meth\\u006fd\":\"test_ech\\u006f\",\"params\":{\"value\":1}}");
	rpc_client_expect_line(fd, ANSWER("7"));
	close(fd);
}

static void any_pieces_make_a_request(void **state)
{
	static const char text[] = " {\"jsonrpc\" : \"2.0\" ,\n\"method\":\"test_echo\",\"id\":1,"
	                           "\"params\":{\"value\":1}}\n";
	int fd = rpc_client_connect();

	(void)state;
	for (size_t split = 1; split < sizeof(text) - 1; split++) {
		assert_int_equal(send(fd, text, split, 0), split);
		assert_int_equal(send(fd, text + split, sizeof(text) - 1 - split, 0),
		        sizeof(text) - 1 - split);
		rpc_client_expect_line(fd, ANSWER("1"));
	}
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		assert_int_equal(send(fd, text + i, 1, 0), 1);
	rpc_client_expect_line(fd, ANSWER("1"));
	close(fd);
}

static void bad_envelopes_are_refused(void **state)
{
	static const struct {
		const char *request, *id;
		int code;
	} rows[] = {
	        {"{\"jsonrpc\":\"2.0\",\"id\":7}", "null", -32600},
	        {"{\"jsonrpc\":\"1.0\",\"method\":\"test_echo\",\"id\":7}", "null", -32600},
	        {"{\"jsonrpc\":2.0,\"method\":\"test_echo\",\"id\":7}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"id\":true}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"id\":[1]}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"id\":7,\"extra\":1}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"id\":7,\"id\":8}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"method\":\"x\",\"id\":8}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"id\":8,\"params\":{},\"p\\u0061rams\":{}}", "null",
	                -32600},
	        {"{\"method\":5,\"id\":7}", "null", -32600},
	        {"{\"method\":\"test_echo\",\"params\":5,\"id\":9}", "9", -32600},
	        {"{\"method\":\"test_echo\",\"params\":\"x\",\"id\":9}", "9", -32600},
	        {"5 ", "null", -32600},
	        {"\"text\"", "null", -32600},
	        {"null ", "null", -32600},
	        {"[]", "null", -32600},
	        {"{\"method\":\"no_such_method\",\"id\":1,\"params\":{}}", "1", -32601},
	        {"{\"method\":\"test_echo\\u0000\",\"id\":1,\"params\":{}}", "1", -32601},
	        {"{\"method\":\"test_echo\",\"id\":1,\"params\":{\"value\":1e999}}", "null",
	                -32600},
	        {"{\"method\":\"test_echo\",\"id\":1,\"params\":{\"a\\u0000b\":1}}", "null",
	                -32600},
	        {"{\"method\":\"test_echo\",\"id\":1}", "1", -32603},
	        {"{\"method\":\"test_echo\",\"id\":1,\"params\":[1]}", "1", -32603},
	        {"{\"method\":\"test_echo\",\"id\":1,\"params\":{\"value\":1,\"value\":1}}", "1",
	                -32603},
	        {"{\"method\":\"test_relaxed\",\"id\":1,\"params\":{\"value\":1,\"value\":1}}", "1",
	                -32700},
	        {"{\"method\":\"test_release\",\"id\":1,\"params\":{}}", "1", -32602},
	        {"{\"method\":\"framework_start_init\",\"id\":26}", "26", -1},
	        {"{\"method\":\"no_such_method\"}", "null", -32601},
	        {"{\"method\":\"no_such_method\",\"id\":null}", "null", -32601},
	};
	int fd = rpc_client_connect();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		rpc_client_expect_error(fd, rows[i].request, rows[i].id, rows[i].code);
	rpc_client_send(
	        fd, "{\"method\":\"test_relaxed\",\"id\":1,\"params\":{\"value\":1,\"x\":1}}");
	rpc_client_expect_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}");
	rpc_client_send(fd, "{\"method\":\"test_release\",\"id\":1,\"params\":null}");
	rpc_client_expect_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}");
	close(fd);
}

static void successful_notifications_are_silent(void **state)
{
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, "{\"method\":\"test_echo\",\"params\":{\"value\":1}}"
	                    "{\"method\":\"test_echo\",\"id\":null,\"params\":{\"value\":1}}");
	rpc_client_expect_nothing_more(fd);
	close(fd);
}

static void output_is_compact_ascii(void **state)
{
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, "{\"method\":\"test_echo\",\"id\":1,\"params\":{\"value\":"
	                    "{ \"z\": \"a/b\\u00e4\\u007f\\ud834\\udd1e\\n\", \"a\": "
	                    "[9223372036854775807] }}}");
	rpc_client_expect_line(fd,
	        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":"
	        "{\"z\":\"a/b\\u00E4\\u007F\\uD834\\uDD1E\\n\",\"a\":[9223372036854775807]}}");
	close(fd);
}

/* ---- batches ----------------------------------------------------------------------------------
 */

static void batches_are_one_line_in_order_of_completion(void **state)
{
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, "[{\"method\":\"test_hold\",\"id\":1},{\"method\":\"test_hold\"}," ECHO(
	                            "2") ",7,{\"method\":\"test_release\",\"id\":3}]");
	rpc_client_expect_line(fd,
	        "[" ANSWER("2") ","
	                        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-"
	                        "32600,\"message\":"
	                        "\"Invalid request: it must be an object\"}},"
	                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true},"
	                        "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":true}]");
	rpc_client_send(fd, "[{\"method\":\"test_echo\",\"params\":{\"value\":1}}]");
	rpc_client_expect_nothing_more(fd);
	close(fd);
}

static void requests_run_concurrently(void **state)
{
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, "{\"method\":\"test_hold\",\"id\":1}" ECHO("2"));
	rpc_client_expect_line(fd, ANSWER("2"));
	rpc_client_send(fd, "{\"method\":\"test_release\",\"id\":3}");
	rpc_client_expect_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}");
	rpc_client_expect_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":true}");
	close(fd);
}

/* ---- the end of a connection ------------------------------------------------------------------
 */

static void nonsense_ends_the_connection(void **state)
{
	static const char *const rows[] = {"hello\n", "{\"jsonrpc\":\"2.0\",/*c*/\"id\":9}",
	        "{\"a\":tru}", "[1,}", "{\"id\":01}", "[{\"method\":\"test_echo\"},{\"a\":nul}]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int fd = rpc_client_connect();

		rpc_client_send(fd, ECHO("1"));
		rpc_client_send(fd, rows[i]);
		rpc_client_expect_line(fd, ANSWER("1"));
		rpc_client_expect_end(fd);
		close(fd);
	}
}

static void answers_come_after_the_client_said_its_last_word(void **state)
{
	int fd = rpc_client_connect(), other = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, ECHO("1") "{\"method\":\"test_hold\",\"id\":2}");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	rpc_client_expect_line(fd, ANSWER("1"));
	rpc_client_send(other, "{\"method\":\"test_release\",\"id\":3}");
	rpc_client_expect_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":true}");
	rpc_client_expect_end(fd);
	close(fd);
	close(other);
}

static void a_client_may_go_while_its_request_runs(void **state)
{
	int fd = rpc_client_connect(), other = rpc_client_connect();

	(void)state;
	rpc_client_send(fd,
	        ECHO("1") "{\"method\":\"test_hold\",\"id\":2}[{\"method\":\"test_hold\"}]" ECHO(
	                "3"));
	rpc_client_expect_line(fd, ANSWER("1"));
	rpc_client_expect_line(fd, ANSWER("3"));
	close(fd);
	rpc_client_send(other, "{\"method\":\"test_release\",\"id\":3}");
	rpc_client_expect_line(other, "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":true}");
	close(other);
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void requests_have_a_largest_size(void **state)
{
	static const char head[] = "{\"method\":\"test_echo\",\"id\":1,\"params\":{\"value\":1}",
	                  tail[] = "}";
	autofree char *text = xcalloc(1, RPC_REQUEST_MAX_BYTES + 2);
	int fd = rpc_client_connect();

	(void)state;
	memset(text, ' ', RPC_REQUEST_MAX_BYTES);
	memcpy(text, head, sizeof(head) - 1);
	text[RPC_REQUEST_MAX_BYTES - 1] = tail[0];
	rpc_client_send(fd, text);
	rpc_client_expect_line(fd, ANSWER("1"));
	text[RPC_REQUEST_MAX_BYTES - 1] = ' ';
	text[RPC_REQUEST_MAX_BYTES] = tail[0];
	(void)!send(fd, text, RPC_REQUEST_MAX_BYTES + 1, MSG_NOSIGNAL);
	rpc_client_expect_end(fd);
	close(fd);
}

static void results_have_a_largest_size(void **state)
{
	autofree char *line = NULL;
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_send(fd, "{\"method\":\"test_huge\",\"id\":1,\"params\":{\"bytes\":1000000}}");
	line = rpc_client_read_line(fd);
	assert_int_equal(
	        strlen(line), 1000000 + strlen("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\"}"));
	rpc_client_expect_error(fd,
	        "{\"method\":\"test_huge\",\"id\":1,\"params\":{\"bytes\":33554432}}", "1", -32603);
	rpc_client_send(
	        fd, "[{\"method\":\"test_huge\",\"id\":1,\"params\":{\"bytes\":33554432}}," ECHO(
	                    "2") "]");
	rpc_client_expect_line(fd,
	        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32603,\"message\":"
	        "\"The result is larger than 32 MiB; ask for less\"}}," ANSWER("2") "]");
	close(fd);
}

static void connections_have_a_largest_number(void **state)
{
	int fds[RPC_CONNECTIONS_MAX], fd;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = rpc_client_connect();
		rpc_client_send(fds[i], ECHO("1"));
		rpc_client_expect_line(fds[i], ANSWER("1"));
	}
	fd = rpc_client_connect();
	rpc_client_expect_end(fd);
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		shutdown(fds[i], SHUT_WR);
		rpc_client_expect_end(fds[i]);
		close(fds[i]);
	}
	fd = rpc_client_connect();
	rpc_client_send(fd, ECHO("1"));
	rpc_client_expect_line(fd, ANSWER("1"));
	close(fd);
}

static void read_held(void *arg)
{
	*(unsigned *)arg = num_held;
}

static void running_requests_have_a_largest_number(void **state)
{
	int fd = rpc_client_connect(), other = rpc_client_connect();
	unsigned running = 0;

	(void)state;
	for (int i = 0; i < RPC_REQUESTS_MAX + 10; i++)
		rpc_client_send(fd, "{\"method\":\"test_hold\"}");
	while (running < RPC_REQUESTS_MAX)
		inproc_run(read_held, &running);
	for (int i = 0; i < 10; i++) {
		rpc_client_send(other, ECHO("1"));
		rpc_client_expect_line(other, ANSWER("1"));
	}
	inproc_run(read_held, &running);
	assert_int_equal(running, RPC_REQUESTS_MAX);
	while (running) {
		rpc_client_send(other, "{\"method\":\"test_release\",\"id\":3}");
		rpc_client_expect_line(other, "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":true}");
		inproc_run(read_held, &running);
	}
	rpc_client_send(fd, ECHO("1"));
	rpc_client_expect_line(fd, ANSWER("1"));
	close(fd);
	close(other);
}

static void read_huge(void *arg)
{
	*(unsigned *)arg = num_huge;
}

static void a_client_that_does_not_read_is_not_read(void **state)
{
	int fd = rpc_client_connect();
	size_t answers = 0;
	unsigned before, after;

	(void)state;
	/* Far more than is queued: the server stops reading, and nothing is lost. */
	inproc_run(read_huge, &before);
	for (int i = 0; i < 200; i++)
		rpc_client_send(
		        fd, "{\"method\":\"test_huge\",\"id\":1,\"params\":{\"bytes\":300000}}");
	for (int i = 0; i < 1000; i++)
		inproc_run(read_huge, &after);
	assert_true(after - before < 20);
	for (int i = 0; i < 200; i++) {
		autofree char *line = rpc_client_read_line(fd);

		assert_non_null(line);
		answers += strlen(line) > 300000;
	}
	assert_int_equal(answers, 200);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(ids_come_back_as_written),
	        cmocka_unit_test(any_pieces_make_a_request),
	        cmocka_unit_test(bad_envelopes_are_refused),
	        cmocka_unit_test(successful_notifications_are_silent),
	        cmocka_unit_test(output_is_compact_ascii),
	        cmocka_unit_test(batches_are_one_line_in_order_of_completion),
	        cmocka_unit_test(requests_run_concurrently),
	        cmocka_unit_test(nonsense_ends_the_connection),
	        cmocka_unit_test(answers_come_after_the_client_said_its_last_word),
	        cmocka_unit_test(a_client_may_go_while_its_request_runs),
	        cmocka_unit_test(requests_have_a_largest_size),
	        cmocka_unit_test(results_have_a_largest_size),
	        cmocka_unit_test(connections_have_a_largest_number),
	        cmocka_unit_test(running_requests_have_a_largest_number),
	        cmocka_unit_test(a_client_that_does_not_read_is_not_read),
	};

	return cmocka_run_group_tests(tests, rpc_client_setup, rpc_client_teardown);
}
