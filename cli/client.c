#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"

#define REPLY_MAX_BYTES (64 * 1024 * 1024)

int cli_connect(struct cli *cli)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (!str_copy(addr.sun_path, sizeof(addr.sun_path), cli->socket_path)) {
		fprintf(stderr, "bellows: the socket path '%s' is longer than %zu bytes\n",
		        cli->socket_path, sizeof(addr.sun_path) - 1);
		return -1;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		fprintf(stderr,
		        "bellows: no daemon answers on '%s': %s. Is bellowsd running, and was it "
		        "started with -r '%s'?\n",
		        cli->socket_path, strerror(errno), cli->socket_path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

bool cli_send(int fd, const char *method, json_t *params, int id)
{
	json_t *request =
	        json_pack("{s:s, s:s, s:i}", "jsonrpc", "2.0", "method", method, "id", id);

	if (params)
		json_object_set_new(request, "params", params);
	autofree char *text = json_dumps(request, JSON_COMPACT);

	json_decref(request);
	if (!text)
		return false;
	for (size_t sent = 0, len = strlen(text); sent < len;) {
		ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		sent += (size_t)n;
	}
	return true;
}

/* The daemon ends each value with a newline and escapes those within, so a line is a value. */
json_t *cli_next(struct cli_stream *stream)
{
	for (;;) {
		char *end = stream->len ? memchr(stream->buf, '\n', stream->len) : NULL;

		if (end) {
			size_t used = (size_t)(end - stream->buf) + 1;
			json_t *value = json_loadb(stream->buf, used - 1, 0, NULL);

			stream->len -= used;
			memmove(stream->buf, stream->buf + used, stream->len);
			return value;
		}
		if (stream->size - stream->len < 65536) {
			if (stream->size > REPLY_MAX_BYTES)
				return NULL;
			stream->size = stream->size ? stream->size * 2 : 131072;
			stream->buf = xrealloc(stream->buf, stream->size);
		}
		ssize_t n = read(stream->fd, stream->buf + stream->len, stream->size - stream->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		stream->len += (size_t)n;
	}
}

void cli_stream_close(struct cli_stream *stream)
{
	close(stream->fd);
	free(stream->buf);
}

static json_t *take_reply(struct cli *cli, struct cli_stream *stream, int *exit_code)
{
	struct pollfd poll_fd = {.fd = stream->fd, .events = POLLIN};

	if (cli->timeout_s && poll(&poll_fd, 1, (int)cli->timeout_s * 1000) == 0) {
		fprintf(stderr, "bellows: no answer within %u s (see --timeout)\n", cli->timeout_s);
		*exit_code = EXIT_UNREACHABLE;
		return NULL;
	}
	json_t *reply = cli_next(stream);

	if (!reply) {
		fprintf(stderr, "bellows: the daemon closed the connection without an answer\n");
		*exit_code = EXIT_UNREACHABLE;
		return NULL;
	}
	json_t *error = json_object_get(reply, "error");

	if (error) {
		if (cli->json)
			cli_print_json(error);
		fprintf(stderr, "bellows: %s (code %lld)\n",
		        cli_str(error, "message", "refused without a reason"),
		        (long long)json_integer_value(json_object_get(error, "code")));
		*exit_code = EXIT_REFUSED;
		json_decref(reply);
		return NULL;
	}
	json_t *result = json_incref(json_object_get(reply, "result"));

	json_decref(reply);
	*exit_code = 0;
	return result;
}

json_t *cli_call(struct cli *cli, const char *method, json_t *params, int *exit_code)
{
	struct cli_stream stream = {.fd = cli_connect(cli)};

	*exit_code = EXIT_UNREACHABLE;
	if (stream.fd < 0) {
		json_decref(params);
		return NULL;
	}
	json_t *result = NULL;

	if (cli_send(stream.fd, method, params, 1))
		result = take_reply(cli, &stream, exit_code);
	else
		fprintf(stderr, "bellows: the daemon closed the connection\n");
	cli_stream_close(&stream);
	return result;
}
