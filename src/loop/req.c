#include <errno.h>
#include <limits.h>
#include <string.h>

#include "loop/uring.h"

#define CHUNK_REQS 64
#define IOV_CLASS_MIN 8 /* iovecs of the smallest pooled array */

struct uring_chunk {
	struct uring_chunk *next;
	struct uring_req reqs[CHUNK_REQS];
};

static bool grow_pool(struct uring_loop *l)
{
	struct uring_chunk *chunk = try_alloc_aligned(CACHE_LINE_BYTES, sizeof(*chunk));

	if (!chunk)
		return false;
	chunk->next = l->chunks;
	l->chunks = chunk;
	for (unsigned i = 0; i < CHUNK_REQS; i++) {
		chunk->reqs[i].next = l->req_free;
		l->req_free = &chunk->reqs[i];
	}
	return true;
}

/*
 * No record means nothing to keep the result in, so such operations are chained by their own priv,
 * whose lowest bit tells it from a record.
 */
static void end_without_memory(struct uring_loop *l, struct loop_op *op)
{
	op->priv = (void *)((uintptr_t)l->no_memory | 1);
	l->no_memory = op;
}

unsigned uring_no_memory_run(struct uring_loop *l)
{
	struct loop_op *op = l->no_memory;
	unsigned n = 0;

	l->no_memory = NULL;
	while (op) {
		struct loop_op *next = (struct loop_op *)((uintptr_t)op->priv & ~(uintptr_t)1);

		op->priv = NULL;
		op->done(op, -ENOMEM);
		op = next;
		n++;
	}
	return n;
}

struct uring_req *uring_req_get(
        struct uring_loop *l, struct loop_op *op, uring_complete_fn complete)
{
	struct uring_req *r;

	BELLOWS_CHECKED(loop_self() == &l->pub);
	if (unlikely(!l->req_free) && !grow_pool(l)) {
		if (op)
			end_without_memory(l, op);
		return NULL;
	}
	r = l->req_free;
	l->req_free = r->next;
	r->complete = complete;
	r->op = op;
	r->arg = NULL;
	r->cancelled = false;
	r->background = false;
	r->retry_async = false;
	r->done_bytes = 0;
	r->iov_array = NULL;
	if (op)
		op->priv = r;
	l->inflight++;
	return r;
}

void uring_req_put(struct uring_loop *l, struct uring_req *r)
{
	if (r->iov_array) {
		if (r->iov_class < IOV_CLASSES) {
			*(void **)r->iov_array = l->iov_free[r->iov_class];
			l->iov_free[r->iov_class] = r->iov_array;
		} else {
			free(r->iov_array);
		}
	}
	if (!r->background) {
		BELLOWS_ASSERT(l->inflight > 0);
		l->inflight--;
	}
	r->complete = NULL;
	r->next = l->req_free;
	l->req_free = r;
}

void uring_req_background(struct uring_loop *l, struct uring_req *r)
{
	r->background = true;
	l->inflight--;
}

void uring_req_done(struct uring_loop *l, struct uring_req *r, int res)
{
	struct loop_op *op = r->op;

	uring_req_put(l, r);
	op->priv = NULL;
	op->done(op, res);
}

static void run_deferred(struct loop_task *task)
{
	struct uring_req *r = container_of(task, struct uring_req, task);

	uring_req_done(uring_of(loop_self()), r, r->deferred_result);
}

void uring_req_done_later(struct uring_loop *l, struct uring_req *r, int res)
{
	r->deferred_result = res;
	r->task.run = run_deferred;
	loop_defer(&l->pub, &r->task);
}

void uring_complete_plain(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	uring_req_done(l, r, res);
}

static struct iovec *get_iov_array(struct uring_loop *l, struct uring_req *r, unsigned iovcnt)
{
	unsigned class = 0;
	void *array;

	while (class < IOV_CLASSES && (unsigned)IOV_CLASS_MIN << class < iovcnt)
		class ++;
	r->iov_class = class;
	if (class == IOV_CLASSES)
		return calloc(iovcnt, sizeof(struct iovec));
	array = l->iov_free[class];
	if (!array)
		return calloc((size_t)IOV_CLASS_MIN << class, sizeof(struct iovec));
	l->iov_free[class] = *(void **)array;
	return array;
}

bool uring_req_copy_iov(
        struct uring_loop *l, struct uring_req *r, const struct iovec *iov, unsigned iovcnt)
{
	if (iovcnt <= REQ_INLINE_IOVS) {
		r->iov = r->iov_inline;
	} else {
		r->iov_array = get_iov_array(l, r, iovcnt);
		if (!r->iov_array)
			return false;
		r->iov = r->iov_array;
	}
	for (unsigned i = 0; i < iovcnt; i++)
		r->iov[i] = iov[i];
	r->iov_count = iovcnt;
	return true;
}

bool uring_req_advance(struct uring_req *r, uint32_t bytes)
{
	r->offset += bytes;
	r->done_bytes += bytes;
	while (r->iov_count > 0) {
		struct iovec *v = r->iov;

		if (bytes < v->iov_len) {
			v->iov_base = (uint8_t *)v->iov_base + bytes;
			v->iov_len -= bytes;
			return false;
		}
		bytes -= (uint32_t)v->iov_len;
		r->iov++;
		r->iov_count--;
	}
	BELLOWS_CHECKED(bytes == 0);
	return true;
}

uint32_t uring_iov_bytes(const struct iovec *iov, unsigned iovcnt)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < iovcnt; i++) {
		BELLOWS_ASSERT(iov[i].iov_len <= INT_MAX);
		bytes += iov[i].iov_len;
	}
	BELLOWS_ASSERT(bytes <= INT_MAX);
	return (uint32_t)bytes;
}

void uring_pools_free(struct uring_loop *l)
{
	struct uring_chunk *chunk;

	while ((chunk = l->chunks)) {
		for (unsigned i = 0; i < CHUNK_REQS; i++) {
			/* Still in the kernel: it keeps its own copy of the iovecs. */
			if (chunk->reqs[i].complete)
				free(chunk->reqs[i].iov_array);
		}
		l->chunks = chunk->next;
		free(chunk);
	}
	l->req_free = NULL;
	for (unsigned i = 0; i < IOV_CLASSES; i++) {
		void *array;

		while ((array = l->iov_free[i])) {
			l->iov_free[i] = *(void **)array;
			free(array);
		}
	}
	free(l->stash);
	l->stash = NULL;
	l->stash_size = l->stash_count = l->stash_next = 0;
}
