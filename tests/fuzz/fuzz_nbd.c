/*
 * What an NBD client sends is the input, to a server in this process: real loops, a real disk in
 * memory. The first byte chooses how far a well-behaved client has come before: nothing, client
 * flags, or transmission with simple or structured replies; the second how the rest is cut into
 * pieces. Whatever the server answers is read and thrown away. The connection must come to its end,
 * and the server must serve the next client.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/log.h"
#include "bdev/bdev.h"
#include "loop/loop.h"
#include "rpc/server.h"
#include "target/nbd/nbd_wire.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];
static sem_t ready;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz_nbd: %s: %s\n", what, strerror(errno));
	abort();
}

/* ---- the server -------------------------------------------------------------------------------
 */

static const struct setup_call {
	const char *method, *params;
} calls[] = {
        {"bdev_malloc_create", "{\"name\": \"a\", \"num_blocks\": 2048, \"block_size\": 512}"},
        {"nbd_create_server", "{\"name\": \"S\", \"path\": \"%s\"}"},
        {"nbd_add_export", "{\"server\": \"S\", \"bdev_name\": \"a\", \"export_name\": \"\"}"},
};

static void next_call(void *arg, const json_t *reply)
{
	const struct setup_call *call = arg;
	char params[256];

	need(!reply || json_object_get(reply, "result"), "setup");
	if (call == calls + ARRAY_SIZE(calls)) {
		sem_post(&ready);
		return;
	}
	snprintf(params, sizeof(params), "%s", call->params);
	if (strstr(call->params, "%s"))
		snprintf(params, sizeof(params), "{\"name\": \"S\", \"path\": \"%s\"}", path);
	rpc_call(call->method, json_loads(params, 0, NULL), next_call,
	        (void *)(uintptr_t)(call + 1));
}

static void started(void *arg, const struct err *err)
{
	(void)arg;
	need(!err || !err->code, "start");
	next_call((void *)(uintptr_t)calls, NULL);
}

static void *control_main(void *arg)
{
	struct loop_config config = {.data_loops = 1};
	struct rpc_options options = {0};
	struct err err = ERR_NONE;

	(void)arg;
	need(loops_start(&config, &err) == 0, err.text);
	bdev_start();
	rpc_start(&options, started, NULL);
	(void)loops_run();
	return NULL;
}

static void remove_socket(void)
{
	char lock[96];

	snprintf(lock, sizeof(lock), "%s.lock", path);
	unlink(path);
	unlink(lock);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	pthread_t thread;

	(void)argc;
	(void)argv;
	log_set_print_level(LOG_ERROR);
	snprintf(path, sizeof(path), "/tmp/bellows-fuzz-nbd-%d.sock", (int)getpid());
	atexit(remove_socket);
	sem_init(&ready, 0, 0);
	need(pthread_create(&thread, NULL, control_main, NULL) == 0, "thread");
	while (sem_wait(&ready) != 0)
		;
	return 0;
}

/* ---- the client -------------------------------------------------------------------------------
 */

enum stage {
	STAGE_NOTHING,
	STAGE_FLAGS,
	STAGE_STRUCTURED_OPTIONS,
	STAGE_SIMPLE,
	STAGE_STRUCTURED,
	STAGES,
};

static void put_option(struct writer *w, uint32_t option, const void *data, size_t len)
{
	writer_be64(w, NBD_MAGIC_OPT);
	writer_be32(w, option);
	writer_be32(w, (uint32_t)len);
	writer_copy(w, data, len);
}

static size_t preamble(enum stage stage, uint8_t *out, size_t size)
{
	static const char meta[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation";
	struct writer w = writer_of(out, size);

	if (stage >= STAGE_FLAGS)
		writer_be32(&w, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	if (stage == STAGE_STRUCTURED_OPTIONS || stage == STAGE_STRUCTURED)
		put_option(&w, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	if (stage == STAGE_STRUCTURED)
		put_option(&w, NBD_OPT_SET_META_CONTEXT, meta, sizeof(meta) - 1);
	if (stage >= STAGE_SIMPLE)
		put_option(&w, NBD_OPT_GO, "\0\0\0\0\0\0", 6);
	return (size_t)(w.pos - out);
}

/* Reads what is there, so that neither side waits for the other. */
static bool drain(int fd, bool wait)
{
	static char sink[65536];
	ssize_t n;

	do
		n = recv(fd, sink, sizeof(sink), wait ? 0 : MSG_DONTWAIT);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || errno != EAGAIN;
}

static void send_all(int fd, const uint8_t *data, size_t size, size_t piece)
{
	while (size) {
		size_t len = piece && piece < size ? piece : size;
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			data += n;
			size -= (size_t)n;
		} else if (errno != EINTR && (errno != EAGAIN || drain(fd, false))) {
			return;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval stall = {.tv_sec = 8};
	uint8_t start[128];
	int fd;

	if (size < 2 || size > 256 * 1024)
		return 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(fd >= 0, "socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
	str_copy(addr.sun_path, sizeof(addr.sun_path), path);
	need(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0, "connect");
	send_all(fd, start, preamble(data[0] % STAGES, start, sizeof(start)), 0);
	send_all(fd, data + 2, size - 2, data[1]);
	(void)shutdown(fd, SHUT_WR);
	errno = 0;
	need(drain(fd, true), "the connection does not end");
	close(fd);
	return 0;
}
