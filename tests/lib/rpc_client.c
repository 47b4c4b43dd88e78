#include "tests/lib/rpc_client.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/server.h"
#include "tests/lib/inproc.h"

static char socket_path[108];

int rpc_client_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	str_copy(addr.sun_path, sizeof(addr.sun_path), socket_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

void rpc_client_send(int fd, const char *text)
{
	size_t len = strlen(text);

	assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

#define PIECE_BYTES 65536

/* Looks before it takes, so that what follows the line stays in the socket. */
char *rpc_client_read_line(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char *line = NULL, *end = NULL;
	size_t len = 0;
	ssize_t n;

	while (!end) {
		line = xrealloc(line, len + PIECE_BYTES);
		assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
		n = recv(fd, line + len, PIECE_BYTES, MSG_PEEK);
		if (n <= 0) {
			assert_int_equal(len, 0);
			free(line);
			return NULL;
		}
		end = memchr(line + len, '\n', (size_t)n);
		if (end)
			n = end + 1 - (line + len);
		assert_int_equal(recv(fd, line + len, (size_t)n, 0), n);
		len += (size_t)n;
	}
	*end = '\0';
	return line;
}

void rpc_client_expect_line(int fd, const char *expected)
{
	autofree char *line = rpc_client_read_line(fd);

	assert_non_null(line);
	assert_string_equal(line, expected);
}

void rpc_client_expect_end(int fd)
{
	autofree char *line = rpc_client_read_line(fd);

	assert_null(line);
}

/* Nothing has come, now that a later request on the same connection is answered. */
void rpc_client_expect_nothing_more(int fd)
{
	rpc_client_send(fd, "{\"method\":\"log_get_flags\",\"id\":\"fence\"}");
	rpc_client_expect_line(fd, "{\"jsonrpc\":\"2.0\",\"id\":\"fence\",\"result\":{}}");
}

json_t *rpc_client_read_json(int fd)
{
	autofree char *line = rpc_client_read_line(fd);
	json_error_t error;
	json_t *value;

	assert_non_null(line);
	value = json_loads(line, JSON_DECODE_ANY, &error);
	assert_non_null(value);
	return value;
}

void rpc_client_expect_error(int fd, const char *request, const char *id, int code)
{
	json_t *reply, *expected_id;

	rpc_client_send(fd, request);
	reply = rpc_client_read_json(fd);
	expected_id = json_loads(id, JSON_DECODE_ANY, NULL);
	if (json_integer_value(json_object_get(json_object_get(reply, "error"), "code")) != code)
		fail_msg("%s: %s", request, json_dumps(reply, 0));
	assert_true(json_is_string(json_object_get(json_object_get(reply, "error"), "message")));
	assert_true(json_equal(json_object_get(reply, "id"), expected_id));
	assert_int_equal(json_object_size(reply), 3);
	assert_int_equal(json_object_size(json_object_get(reply, "error")), 2);
	json_decref(expected_id);
	json_decref(reply);
}

void rpc_client_expect_result(int fd, const char *request, const char *expected)
{
	autofree char *line = xasprintf("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}", expected);

	rpc_client_send(fd, request);
	rpc_client_expect_line(fd, line);
}

static void listen_now(void *arg)
{
	struct err err = ERR_NONE;

	(void)arg;
	if (rpc_server_listen(socket_path, &err))
		fail_msg("%s", err.text);
}

int rpc_client_setup(void **state)
{
	(void)state;
	inproc_start(2);
	snprintf(socket_path, sizeof(socket_path), "%s/rpc.sock", inproc_dir());
	inproc_run(listen_now, NULL);
	return 0;
}

int rpc_client_teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}
