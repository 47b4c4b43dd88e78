/* client.c: the connection to the daemon. */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

#define REPLY_MAX_BYTES (64UL * 1024 * 1024)
#define READ_BYTES 65536

struct cli_stream {
	struct cli *cli;
	int fd, last_id;
	char *buf;
	size_t len, size, searched;
	uint64_t deadline_ms; /* 0: none */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
}

struct cli_stream *cli_open(struct cli *cli)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	if (!str_copy(addr.sun_path, sizeof(addr.sun_path), cli->socket_path)) {
		cli_error("the socket path '%s' is longer than %zu bytes", cli->socket_path,
		        sizeof(addr.sun_path) - 1);
		return NULL;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		cli_error("no daemon answers on '%s' (%s): is bellowsd running, and with -r '%s'?",
		        cli->socket_path, errno_text(errno), cli->socket_path);
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	struct cli_stream *stream = xcalloc(1, sizeof(*stream));

	stream->cli = cli;
	stream->fd = fd;
	return stream;
}

void cli_close(struct cli_stream *stream)
{
	close(stream->fd);
	free(stream->buf);
	free(stream);
}

static bool send_request(struct cli_stream *stream, const char *method, json_t *params)
{
	json_t *request = json_pack(
	        "{s:s, s:s, s:i}", "jsonrpc", "2.0", "method", method, "id", ++stream->last_id);

	if (params)
		json_object_set_new(request, "params", params);
	autofree char *text = json_dumps(request, JSON_COMPACT);
	size_t sent = 0, len = text ? strlen(text) : 0;

	json_decref(request);
	while (sent < len) {
		ssize_t n = send(stream->fd, text + sent, len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		sent += (size_t)n;
	}
	return len > 0;
}

/* Reads some more. 0, -ETIMEDOUT, -EFBIG, or -EPIPE at the end. */
static int receive(struct cli_stream *stream)
{
	struct pollfd poll_fd = {.fd = stream->fd, .events = POLLIN};
	uint64_t now = now_ms();
	ssize_t n;

	if (stream->deadline_ms) {
		if (now >= stream->deadline_ms)
			return -ETIMEDOUT;
		if (poll(&poll_fd, 1, (int)(stream->deadline_ms - now)) <= 0)
			return 0;
	}
	if (stream->size - stream->len < READ_BYTES) {
		if (stream->size >= REPLY_MAX_BYTES)
			return -EFBIG;
		stream->size = max_u64(2 * stream->size, 2 * READ_BYTES);
		stream->buf = xrealloc(stream->buf, stream->size);
	}
	n = recv(stream->fd, stream->buf + stream->len, stream->size - stream->len, 0);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n <= 0)
		return -EPIPE;
	stream->len += (size_t)n;
	return 0;
}

/* The daemon ends each message with a newline and escapes those within, so a line is a message. */
static json_t *next_message(struct cli_stream *stream, int *error)
{
	json_t *message;

	*error = 0;
	while (!*error) {
		char *end = NULL;
		size_t used;

		if (stream->len > stream->searched)
			end = memchr(stream->buf + stream->searched, '\n',
			        stream->len - stream->searched);
		stream->searched = stream->len;
		if (!end) {
			*error = receive(stream);
			continue;
		}
		used = (size_t)(end - stream->buf) + 1;
		message = json_loadb(stream->buf, used - 1, 0, NULL);
		stream->len -= used;
		stream->searched = 0;
		memmove(stream->buf, stream->buf + used, stream->len);
		if (!message)
			*error = -EBADMSG;
		return message;
	}
	return NULL;
}

json_t *cli_next(struct cli_stream *stream)
{
	int error;

	stream->deadline_ms = 0;
	return next_message(stream, &error);
}

static bool answers(const json_t *message, int id)
{
	const json_t *own = json_object_get(message, "id");

	return (json_is_integer(own) && json_integer_value(own) == id) ||
	       (json_is_null(own) && json_object_get(message, "error"));
}

json_t *cli_exchange(struct cli_stream *stream, const char *method, json_t *params)
{
	unsigned timeout_s = stream->cli->timeout_s;
	json_t *message = NULL;
	int error = 0;

	stream->deadline_ms = timeout_s ? now_ms() + timeout_s * 1000ULL : 0;
	if (!send_request(stream, method, params))
		error = -EPIPE;
	while (!error) {
		message = next_message(stream, &error);
		if (message && answers(message, stream->last_id))
			return message;
		json_decref(message);
	}
	if (error == -ETIMEDOUT)
		cli_error("no answer to %s within %u s (see --timeout)", method, timeout_s);
	else if (error == -EFBIG)
		cli_error("the answer to %s is longer than %lu MiB", method, REPLY_MAX_BYTES >> 20);
	else if (error == -EBADMSG)
		cli_error("what answers on '%s' does not speak JSON-RPC", stream->cli->socket_path);
	else
		cli_error("the daemon closed the connection before it answered %s", method);
	return NULL;
}

json_t *cli_result(struct cli *cli, json_t *reply)
{
	json_t *error = json_object_get(reply, "error"), *result;

	if (error) {
		if (cli->json)
			cli_print_json(error);
		cli_error("%s (code %lld)", cli_str(error, "message", "refused without a reason"),
		        (long long)json_integer_value(json_object_get(error, "code")));
		json_decref(reply);
		return NULL;
	}
	result = json_object_get(reply, "result");
	result = result ? json_incref(result) : json_null();
	json_decref(reply);
	return result;
}

json_t *cli_call(struct cli *cli, const char *method, json_t *params, int *exit_status)
{
	struct cli_stream *stream = cli_open(cli);
	json_t *reply = NULL, *result = NULL;

	*exit_status = EXIT_UNREACHABLE;
	if (!stream) {
		json_decref(params);
		return NULL;
	}
	reply = cli_exchange(stream, method, params);
	if (reply) {
		result = cli_result(cli, reply);
		*exit_status = result ? EXIT_DONE : EXIT_REFUSED;
	}
	cli_close(stream);
	return result;
}
