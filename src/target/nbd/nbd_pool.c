/*
 * nbd_pool.c: the requests and data buffers of one session.
 *
 * A request keeps its buffer when it is released, and waits for the next one of its size on the
 * free list of its class, the one used last first. So the common case is one pop, and the memory in
 * use follows what the client really does.
 */
#include <errno.h>

#include "target/nbd/nbd_session.h"

static unsigned class_of(uint32_t bytes)
{
	unsigned class = 1;

	if (bytes == 0)
		return 0;
	while ((2048ULL << class) < bytes)
		class ++;
	BELLOWS_ASSERT(class < NBD_BUFFER_CLASSES);
	return class;
}

static uint64_t class_bytes(unsigned class)
{
	return class == 0 ? 0 : 2048ULL << class;
}

static struct nbd_request *pop(struct nbd_session *s, unsigned class)
{
	struct nbd_request *req = s->free[class];

	if (req) {
		s->free[class] = req->next;
		s->cached_bytes -= class_bytes(class);
	}
	return req;
}

static void push(struct nbd_session *s, struct nbd_request *req)
{
	req->next = s->free[req->buf_class];
	s->free[req->buf_class] = req;
	s->cached_bytes += class_bytes(req->buf_class);
}

static void strip(struct nbd_request *req)
{
	free(req->buf);
	req->buf = NULL;
	req->buf_class = 0;
}

/* Frees cached buffers, the largest first, until at most keep_bytes are cached. */
static void trim(struct nbd_session *s, uint64_t keep_bytes)
{
	for (unsigned class = NBD_BUFFER_CLASSES - 1; class > 0; class --) {
		while (s->cached_bytes > keep_bytes && s->free[class]) {
			struct nbd_request *req = pop(s, class);

			strip(req);
			push(s, req);
		}
	}
}

static void idle_fire(struct loop_timer *timer)
{
	struct nbd_session *s = container_of(timer, struct nbd_session, idle_timer);
	uint64_t mark = 0;

	for (unsigned i = 0; i < NBD_CMDS; i++)
		mark += s->stats.ops[i];
	if (mark == s->idle_mark && s->in_flight == 0)
		trim(s, NBD_BUFFERS_IDLE_BYTES);
	s->idle_mark = mark;
	if (s->cached_bytes + s->used_bytes > NBD_BUFFERS_IDLE_BYTES)
		loop_timer_start(s->loop, timer, loop_now_ns(s->loop) + NBD_IDLE_NS);
}

/* A request without a buffer: a free one, a new one, or one whose cached buffer is given up. */
static struct nbd_request *bare_request(struct nbd_session *s)
{
	struct nbd_request *req = pop(s, 0);

	if (req)
		return req;
	if (s->num_requests < NBD_REQUESTS_MAX) {
		req = try_alloc_aligned(
		        CACHE_LINE_BYTES, align_up_u64(sizeof(*req), CACHE_LINE_BYTES));
		if (req) {
			req->session = s;
			s->num_requests++;
		}
		return req;
	}
	for (unsigned class = 1; class < NBD_BUFFER_CLASSES && !req; class ++)
		req = pop(s, class);
	if (req)
		strip(req);
	return req;
}

static int get_new(struct nbd_session *s, unsigned class, struct nbd_request **out)
{
	uint64_t bytes = class_bytes(class);
	struct nbd_request *req = bare_request(s);

	if (!req)
		return s->in_flight ? -EAGAIN : -ENOMEM;
	if (bytes) {
		trim(s, NBD_BUFFERS_MAX_BYTES - s->used_bytes - bytes);
		req->buf = try_alloc_aligned(4096, bytes);
		if (!req->buf) {
			push(s, req);
			return s->in_flight ? -EAGAIN : -ENOMEM;
		}
		req->buf_class = (uint8_t) class;
		if (bytes + s->used_bytes + s->cached_bytes > NBD_BUFFERS_IDLE_BYTES &&
		        !loop_timer_active(&s->idle_timer)) {
			s->idle_timer.fire = idle_fire;
			loop_timer_start(
			        s->loop, &s->idle_timer, loop_now_ns(s->loop) + NBD_IDLE_NS);
		}
	}
	*out = req;
	return 0;
}

int nbd_pool_get(struct nbd_session *s, uint32_t bytes, struct nbd_request **out)
{
	unsigned class = class_of(bytes);
	struct nbd_request *req = NULL;

	if (s->in_flight == NBD_REQUESTS_MAX ||
	        s->used_bytes + class_bytes(class) > NBD_BUFFERS_MAX_BYTES)
		return -EAGAIN;
	req = pop(s, class);
	if (unlikely(!req)) {
		int rc = get_new(s, class, &req);

		if (rc)
			return rc;
	}
	s->used_bytes += class_bytes(class);
	s->in_flight++;
	req->counted = true;
	nbd_count(&s->stats.in_flight, 1);
	*out = req;
	return 0;
}

void nbd_pool_put(struct nbd_request *req)
{
	struct nbd_session *s = req->session;

	BELLOWS_ASSERT(s->in_flight > 0);
	s->in_flight--;
	s->released = true;
	nbd_stop_counting(req);
	s->used_bytes -= class_bytes(req->buf_class);
	push(s, req);
}

void nbd_pool_free(struct nbd_session *s)
{
	BELLOWS_ASSERT(s->in_flight == 0);
	loop_timer_stop(s->loop, &s->idle_timer);
	for (unsigned class = 0; class < NBD_BUFFER_CLASSES; class ++) {
		struct nbd_request *req;

		while ((req = pop(s, class)) != NULL) {
			strip(req);
			free(req);
			s->num_requests--;
		}
	}
	BELLOWS_ASSERT(s->num_requests == 0);
}
