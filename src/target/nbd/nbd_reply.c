/*
 * nbd_reply.c: replies ("Simple reply message", "Structured reply chunk message") and sending them.
 *
 * A reply is a head in the request and, for data, its buffer behind it. What a turn of the loop has
 * answered goes out in one send at its end.
 */
#include <errno.h>
#include <string.h>

#include "base/cursor.h"
#include "target/nbd/nbd_session.h"

uint32_t nbd_error_of(int status)
{
	switch (-status) {
	case 0:
		return 0;
	case EPERM:
	case EACCES:
	case EROFS:
	case EBADF:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
	case EOPNOTSUPP:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case ENODEV:
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

static void queue(struct nbd_request *req, const struct writer *w, uint32_t data_len)
{
	struct nbd_session *s = req->session;

	BELLOWS_ASSERT(!w->bad);
	req->head_len = (uint16_t)(w->pos - req->head);
	req->data_len = data_len;
	s->out_bytes += req->head_len + data_len;
	nbd_stop_counting(req);
	req->next = NULL;
	*s->out_tail = req;
	s->out_tail = &req->next;
	nbd_session_touch(s);
}

static void put_simple(struct writer *w, const struct nbd_request *req, uint32_t error)
{
	writer_be32(w, NBD_SIMPLE_REPLY_MAGIC);
	writer_be32(w, error);
	writer_be64(w, req->cookie);
}

/* Every structured reply of ours is one chunk. */
static void put_chunk(
        struct writer *w, const struct nbd_request *req, uint16_t type, uint32_t payload_bytes)
{
	writer_be32(w, NBD_STRUCTURED_REPLY_MAGIC);
	writer_be16(w, NBD_REPLY_FLAG_DONE);
	writer_be16(w, type);
	writer_be64(w, req->cookie);
	writer_be32(w, payload_bytes);
}

/* Success without data. A read of nothing still has to be answered by a chunk. */
void nbd_reply_ok(struct nbd_request *req)
{
	struct writer w = writer_of(req->head, sizeof(req->head));

	if (req->session->structured && req->type == NBD_CMD_READ)
		put_chunk(&w, req, NBD_REPLY_TYPE_NONE, 0);
	else
		put_simple(&w, req, 0);
	queue(req, &w, 0);
}

void nbd_reply_data(struct nbd_request *req)
{
	struct writer w = writer_of(req->head, sizeof(req->head));

	if (req->session->structured) {
		put_chunk(&w, req, NBD_REPLY_TYPE_OFFSET_DATA, 8 + req->length);
		writer_be64(&w, req->offset);
	} else {
		put_simple(&w, req, 0);
	}
	queue(req, &w, req->length);
}

/* The only context there is, base:allocation, has the id 1. */
void nbd_reply_extents(struct nbd_request *req)
{
	struct writer w = writer_of(req->head, sizeof(req->head));
	uint32_t data_len = req->num_extents * 8;

	BELLOWS_ASSERT(req->num_extents > 0);
	put_chunk(&w, req, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + data_len);
	writer_be32(&w, NBD_META_ID);
	queue(req, &w, data_len);
}

static void reply_error(struct nbd_request *req, uint32_t error, const char *why, bool with_offset)
{
	struct writer w = writer_of(req->head, sizeof(req->head));
	size_t len = strnlen(why, NBD_REPLY_TEXT_MAX);

	nbd_count(&req->session->stats.errors, 1);
	if (!req->session->structured) {
		put_simple(&w, req, error);
		queue(req, &w, 0);
		return;
	}
	put_chunk(&w, req, with_offset ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR,
	        (uint32_t)(4 + 2 + len + (with_offset ? 8 : 0)));
	writer_be32(&w, error);
	writer_be16(&w, (uint16_t)len);
	writer_copy(&w, why, len);
	if (with_offset)
		writer_be64(&w, req->offset);
	queue(req, &w, 0);
}

void nbd_reply_error(struct nbd_request *req, uint32_t error, const char *why)
{
	reply_error(req, error, why, false);
}

void nbd_reply_status(struct nbd_request *req, int status)
{
	if (status == 0) {
		nbd_reply_ok(req);
		return;
	}
	/* The types that ERROR_OFFSET is valid for. */
	reply_error(req, nbd_error_of(status), errno_text(status),
	        req->type == NBD_CMD_READ || req->type == NBD_CMD_WRITE ||
	                req->type == NBD_CMD_TRIM || req->type == NBD_CMD_BLOCK_STATUS);
}

static void release(struct nbd_request *first)
{
	while (first) {
		struct nbd_request *next = first->next;

		first->session->out_bytes -= first->head_len + first->data_len;
		nbd_pool_put(first);
		first = next;
	}
}

static void send_done(struct loop_op *op, int result)
{
	struct nbd_session *s = container_of(op, struct nbd_session, send_op);
	struct nbd_request *sent = s->sending;

	s->send_busy = false;
	s->sending = NULL;
	release(sent);
	if (result < 0)
		nbd_session_break(s);
	nbd_session_touch(s);
}

void nbd_send(struct nbd_session *s)
{
	struct nbd_request **end = &s->out;
	unsigned n = 0;
	uint64_t bytes = 0;
	bool lazy;

	if (s->send_busy || !s->out)
		return;
	while (*end && n + 2 <= NBD_SEND_IOVS && (n == 0 || bytes < NBD_SEND_MAX_BYTES)) {
		struct nbd_request *req = *end;

		s->send_iov[n++] = (struct iovec){req->head, req->head_len};
		if (req->data_len)
			s->send_iov[n++] = (struct iovec){req->buf, req->data_len};
		bytes += req->head_len + req->data_len;
		end = &req->next;
	}
	s->sending = s->out;
	s->out = *end;
	*end = NULL;
	if (!s->out)
		s->out_tail = &s->out;
	/* While more is received, and nothing else waits for what this send holds, its end is of no
	 * interest before the next request comes. */
	lazy = s->state == NBD_RUNNING && !s->stopping && !s->blocked && !s->out;
	s->send_busy = true;
	s->send_op.done = send_done;
	loop_sock_send(s->loop, &s->send_op, s->sock, s->send_iov, n, lazy);
}

void nbd_drop_replies(struct nbd_session *s)
{
	struct nbd_request *first = s->out;

	s->out = NULL;
	s->out_tail = &s->out;
	release(first);
}
