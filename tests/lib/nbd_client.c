#include "tests/lib/nbd_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cursor.h"

/* A hang is a failure, not a longer test. */
#define STALL_SECONDS 60

static void connect_to(struct nbd_client *c, int family, const struct sockaddr *addr, size_t len)
{
	struct timeval stall = {.tv_sec = STALL_SECONDS};

	*c = (struct nbd_client){.fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	assert_true(c->fd >= 0);
	assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall)), 0);
	assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall)), 0);
	if (connect(c->fd, addr, (socklen_t)len) != 0)
		fail_msg("connect: %s", strerror(errno));
}

void nbd_client_connect(struct nbd_client *c, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	assert_true(str_copy(addr.sun_path, sizeof(addr.sun_path), path));
	connect_to(c, AF_UNIX, (struct sockaddr *)&addr, sizeof(addr));
}

void nbd_client_connect_tcp(struct nbd_client *c, uint16_t port)
{
	struct sockaddr_in addr = {
	        .sin_family = AF_INET,
	        .sin_port = htons(port),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	connect_to(c, AF_INET, (struct sockaddr *)&addr, sizeof(addr));
}

void nbd_client_close(struct nbd_client *c)
{
	close(c->fd);
	c->fd = -1;
}

static bool send_all(struct nbd_client *c, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* Returns how much was there before the end. */
static size_t recv_all(struct nbd_client *c, uint8_t *bytes, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = recv(c->fd, bytes + have, len - have, MSG_WAITALL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != ECONNRESET)
			fail_msg("the server neither answers nor ends: %s", strerror(errno));
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

void nbd_client_send(struct nbd_client *c, const void *bytes, size_t len)
{
	assert_true(send_all(c, bytes, len));
}

void nbd_client_try_send(struct nbd_client *c, const void *bytes, size_t len)
{
	(void)send_all(c, bytes, len);
}

void nbd_client_recv(struct nbd_client *c, void *bytes, size_t len)
{
	assert_int_equal(recv_all(c, bytes, len), len);
}

size_t nbd_client_expect_end(struct nbd_client *c)
{
	uint8_t bytes[4096];
	size_t total = 0, n;

	do {
		n = recv_all(c, bytes, sizeof(bytes));
		total += n;
	} while (n == sizeof(bytes));
	return total;
}

/* ---- negotiation ----------------------------------------------------------------------------- */

void nbd_client_greet(struct nbd_client *c, uint32_t flags)
{
	uint8_t greeting[NBD_GREETING_BYTES], reply[4];
	struct cursor r = cursor_of(greeting, sizeof(greeting));
	struct writer w = writer_of(reply, sizeof(reply));

	nbd_client_recv(c, greeting, sizeof(greeting));
	assert_true(cursor_be64(&r) == NBD_MAGIC_INIT);
	assert_true(cursor_be64(&r) == NBD_MAGIC_OPT);
	assert_int_equal(cursor_be16(&r), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	writer_be32(&w, flags);
	nbd_client_send(c, reply, sizeof(reply));
}

void nbd_client_option(struct nbd_client *c, uint32_t option, const void *data, size_t len)
{
	uint8_t header[NBD_OPT_HEADER_BYTES];
	struct writer w = writer_of(header, sizeof(header));

	writer_be64(&w, NBD_MAGIC_OPT);
	writer_be32(&w, option);
	writer_be32(&w, (uint32_t)len);
	nbd_client_send(c, header, sizeof(header));
	nbd_client_try_send(c, data, len);
}

void nbd_client_option_reply(struct nbd_client *c, struct nbd_option_reply *reply)
{
	uint8_t header[NBD_REP_HEADER_BYTES];
	struct cursor r = cursor_of(header, sizeof(header));

	nbd_client_recv(c, header, sizeof(header));
	assert_true(cursor_be64(&r) == NBD_MAGIC_REP);
	reply->option = cursor_be32(&r);
	reply->type = cursor_be32(&r);
	reply->len = cursor_be32(&r);
	assert_true(reply->len <= sizeof(reply->data));
	nbd_client_recv(c, reply->data, reply->len);
}

void nbd_client_option_expect(
        struct nbd_client *c, uint32_t option, const void *data, size_t len, uint32_t type)
{
	struct nbd_option_reply reply;

	nbd_client_option(c, option, data, len);
	nbd_client_option_reply(c, &reply);
	assert_int_equal(reply.option, option);
	assert_int_equal(reply.type, type);
}

size_t nbd_client_go_data(uint8_t *buf, size_t size, const char *name)
{
	struct writer w = writer_of(buf, size);

	writer_be32(&w, (uint32_t)strlen(name));
	writer_copy(&w, name, strlen(name));
	writer_be16(&w, 3);
	writer_be16(&w, NBD_INFO_NAME);
	writer_be16(&w, NBD_INFO_DESCRIPTION);
	writer_be16(&w, NBD_INFO_BLOCK_SIZE);
	assert_false(w.bad);
	return (size_t)(w.pos - buf);
}

size_t nbd_client_meta_data(uint8_t *buf, size_t size, const char *name, const char *query)
{
	struct writer w = writer_of(buf, size);

	writer_be32(&w, (uint32_t)strlen(name));
	writer_copy(&w, name, strlen(name));
	writer_be32(&w, query ? 1 : 0);
	if (query) {
		writer_be32(&w, (uint32_t)strlen(query));
		writer_copy(&w, query, strlen(query));
	}
	assert_false(w.bad);
	return (size_t)(w.pos - buf);
}

static void take_info(struct nbd_client *c, const struct nbd_option_reply *reply)
{
	struct cursor r = cursor_of(reply->data, reply->len);

	switch (cursor_be16(&r)) {
	case NBD_INFO_EXPORT:
		c->size_bytes = cursor_be64(&r);
		c->flags = cursor_be16(&r);
		break;
	case NBD_INFO_BLOCK_SIZE:
		c->block_min = cursor_be32(&r);
		c->block_preferred = cursor_be32(&r);
		c->block_max = cursor_be32(&r);
		break;
	default:
		cursor_skip(&r, cursor_left(&r));
		break;
	}
	assert_true(cursor_ok(&r) && cursor_left(&r) == 0);
}

void nbd_client_go(struct nbd_client *c, const char *name, unsigned features)
{
	uint8_t data[1024];
	struct nbd_option_reply reply;
	size_t len;

	nbd_client_greet(c, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	if (features & (NBD_WANT_STRUCTURED | NBD_WANT_META)) {
		nbd_client_option_expect(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
		c->structured = true;
	}
	if (features & NBD_WANT_META) {
		len = nbd_client_meta_data(data, sizeof(data), name, NBD_META_BASE_ALLOCATION);
		nbd_client_option(c, NBD_OPT_SET_META_CONTEXT, data, len);
		nbd_client_option_reply(c, &reply);
		assert_int_equal(reply.type, NBD_REP_META_CONTEXT);
		nbd_client_option_reply(c, &reply);
		assert_int_equal(reply.type, NBD_REP_ACK);
	}
	len = nbd_client_go_data(data, sizeof(data), name);
	nbd_client_option(c, NBD_OPT_GO, data, len);
	for (;;) {
		nbd_client_option_reply(c, &reply);
		if (reply.type == NBD_REP_ACK)
			break;
		assert_int_equal(reply.type, NBD_REP_INFO);
		take_info(c, &reply);
	}
	assert_true(c->flags & NBD_FLAG_HAS_FLAGS);
	assert_true(c->block_min > 0);
}

void nbd_client_open(struct nbd_client *c, const char *path, const char *name, unsigned features)
{
	nbd_client_connect(c, path);
	nbd_client_go(c, name, features);
}

/* ---- transmission ---------------------------------------------------------------------------- */

void nbd_client_request_bytes(uint8_t out[NBD_REQUEST_BYTES], uint16_t type, uint16_t flags,
        uint64_t cookie, uint64_t offset, uint32_t length)
{
	struct writer w = writer_of(out, NBD_REQUEST_BYTES);

	writer_be32(&w, NBD_REQUEST_MAGIC);
	writer_be16(&w, flags);
	writer_be16(&w, type);
	writer_be64(&w, cookie);
	writer_be64(&w, offset);
	writer_be32(&w, length);
	assert_false(w.bad);
}

void nbd_client_request(struct nbd_client *c, uint16_t type, uint16_t flags, uint64_t cookie,
        uint64_t offset, uint32_t length)
{
	uint8_t bytes[NBD_REQUEST_BYTES];

	nbd_client_request_bytes(bytes, type, flags, cookie, offset, length);
	nbd_client_send(c, bytes, sizeof(bytes));
}

static void take_error_chunk(
        struct nbd_client *c, struct nbd_answer *answer, const uint8_t *payload, uint32_t len)
{
	struct cursor r = cursor_of(payload, len);
	uint16_t text_len;
	const uint8_t *text;

	(void)c;
	answer->error = cursor_be32(&r);
	assert_int_not_equal(answer->error, 0);
	text_len = cursor_be16(&r);
	text = cursor_bytes(&r, text_len);
	assert_non_null(text);
	assert_true(text_len < sizeof(answer->text));
	memcpy(answer->text, text, text_len);
	if (answer->type == NBD_REPLY_TYPE_ERROR_OFFSET)
		answer->offset = cursor_be64(&r);
	assert_true(cursor_ok(&r) && cursor_left(&r) == 0);
}

static void take_extents(struct nbd_answer *answer, const uint8_t *payload, uint32_t len)
{
	struct cursor r = cursor_of(payload, len);

	assert_true(len >= 12 && len % 8 == 4);
	assert_int_equal(cursor_be32(&r), NBD_META_ID);
	while (cursor_left(&r)) {
		assert_true(answer->num_extents < ARRAY_SIZE(answer->extents));
		answer->extents[answer->num_extents].len = cursor_be32(&r);
		answer->extents[answer->num_extents].flags = cursor_be32(&r);
		assert_int_not_equal(answer->extents[answer->num_extents].len, 0);
		answer->num_extents++;
	}
}

static void take_chunk(struct nbd_client *c, struct nbd_answer *answer, void *buf, size_t size)
{
	uint8_t bytes[NBD_CHUNK_HEADER_BYTES - 4], payload[8192];
	struct cursor r = cursor_of(bytes, sizeof(bytes));
	uint16_t flags;
	uint32_t len;

	nbd_client_recv(c, bytes, sizeof(bytes));
	flags = cursor_be16(&r);
	answer->chunk = true;
	answer->type = cursor_be16(&r);
	answer->cookie = cursor_be64(&r);
	len = cursor_be32(&r);
	assert_int_equal(flags, NBD_REPLY_FLAG_DONE);
	assert_true(c->structured);
	if (answer->type == NBD_REPLY_TYPE_OFFSET_DATA) {
		assert_true(len > 8 && len - 8 <= size);
		nbd_client_recv(c, payload, 8);
		r = cursor_of(payload, 8);
		answer->offset = cursor_be64(&r);
		answer->data_len = len - 8;
		nbd_client_recv(c, buf, answer->data_len);
		return;
	}
	assert_true(len <= sizeof(payload));
	nbd_client_recv(c, payload, len);
	switch (answer->type) {
	case NBD_REPLY_TYPE_NONE:
		assert_int_equal(len, 0);
		break;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		take_extents(answer, payload, len);
		break;
	case NBD_REPLY_TYPE_ERROR:
	case NBD_REPLY_TYPE_ERROR_OFFSET:
		take_error_chunk(c, answer, payload, len);
		break;
	default:
		fail_msg("unexpected chunk type %u", answer->type);
	}
}

void nbd_client_answer(struct nbd_client *c, struct nbd_answer *answer, void *buf, size_t size,
        uint32_t simple_len)
{
	uint8_t bytes[NBD_SIMPLE_REPLY_BYTES];
	struct cursor r = cursor_of(bytes, sizeof(bytes));
	uint32_t magic;

	*answer = (struct nbd_answer){0};
	if (recv_all(c, bytes, 4) < 4) {
		answer->end = true;
		return;
	}
	magic = cursor_be32(&r);
	if (magic == NBD_STRUCTURED_REPLY_MAGIC) {
		take_chunk(c, answer, buf, size);
		return;
	}
	assert_int_equal(magic, NBD_SIMPLE_REPLY_MAGIC);
	nbd_client_recv(c, bytes + 4, sizeof(bytes) - 4);
	answer->error = cursor_be32(&r);
	answer->cookie = cursor_be64(&r);
	if (!answer->error && !c->structured && simple_len) {
		assert_true(simple_len <= size);
		nbd_client_recv(c, buf, simple_len);
		answer->data_len = simple_len;
	}
}

uint32_t nbd_client_try_call(struct nbd_client *c, uint16_t type, uint16_t flags, uint64_t offset,
        uint32_t length, void *buf)
{
	static __thread uint64_t next_cookie;
	uint64_t cookie = 0xabcd000000000000ULL + next_cookie++;
	uint8_t bytes[NBD_REQUEST_BYTES];
	struct nbd_answer answer;
	uint32_t read_len = type == NBD_CMD_READ ? length : 0;

	nbd_client_request_bytes(bytes, type, flags, cookie, offset, length);
	nbd_client_try_send(c, bytes, sizeof(bytes));
	if (type == NBD_CMD_WRITE)
		nbd_client_try_send(c, buf, length);
	nbd_client_answer(c, &answer, buf, read_len, read_len);
	if (answer.end)
		return NBD_CLIENT_END;
	assert_true(answer.cookie == cookie);
	if (type == NBD_CMD_READ && !answer.error) {
		assert_int_equal(answer.data_len, length);
		if (answer.chunk && length)
			assert_true(answer.offset == offset);
	}
	return answer.error;
}

uint32_t nbd_client_call(struct nbd_client *c, uint16_t type, uint16_t flags, uint64_t offset,
        uint32_t length, void *buf)
{
	uint32_t error = nbd_client_try_call(c, type, flags, offset, length, buf);

	assert_int_not_equal(error, NBD_CLIENT_END);
	return error;
}
