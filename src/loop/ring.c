#include <errno.h>
#include <sched.h>

#include "loop/uring.h"

/*
 * Takes the completions out of the ring's queue without acting on them: this runs inside functions
 * that start operations, from where no callback may be called.
 */
static void stash_completions(struct uring_loop *l)
{
	unsigned ready = io_uring_cq_ready(&l->ring);
	unsigned head = *l->ring.cq.khead;

	if (l->stash_count + ready > l->stash_size) {
		l->stash_size = (l->stash_count + ready) * 2;
		l->stash = xrealloc(l->stash, l->stash_size * sizeof(*l->stash));
	}
	for (unsigned i = 0; i < ready; i++) {
		const struct io_uring_cqe *cqe =
		        &l->ring.cq.cqes[(head + i) & l->ring.cq.ring_mask];

		l->stash[l->stash_count++] = (struct uring_cqe_copy){
		        .user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};
	}
	io_uring_cq_advance(&l->ring, ready);
}

/*
 * A completion for which the ring's queue has no room costs the kernel an allocation, and is lost
 * if that fails. So what one call can post (all that it submits, and some that were waiting) has
 * room before the call is made.
 */
static void make_room(struct uring_loop *l)
{
	if (unlikely(io_uring_cq_ready(&l->ring) > CQ_ENTRIES / 2))
		stash_completions(l);
}

struct io_uring_sqe *uring_sqe(struct uring_loop *l, struct uring_req *r)
{
	struct io_uring_sqe *sqe;

	BELLOWS_CHECKED(loop_self() == &l->pub);
	while (unlikely(!(sqe = io_uring_get_sqe(&l->ring)))) {
		int rc;

		make_room(l);
		rc = io_uring_submit(&l->ring);
		stat_add(&l->stats.submits, 1);
		if (rc > 0 || rc == -EINTR)
			continue;
		/* -EBUSY: completions that the queue has no room for; -EAGAIN: no memory now. */
		BELLOWS_ASSERT(rc == 0 || rc == -EBUSY || rc == -EAGAIN);
		stash_completions(l);
		io_uring_get_events(&l->ring);
		sched_yield();
	}
	*sqe = (struct io_uring_sqe){.user_data = (uint64_t)(uintptr_t)r};
	return sqe;
}

static uint32_t sq_flags(const struct uring_loop *l)
{
	return __atomic_load_n(l->ring.sq.kflags, __ATOMIC_RELAXED);
}

bool uring_wants_enter(const struct uring_loop *l)
{
	return l->ring.sq.sqe_tail != l->ring.sq.sqe_head ||
	       (sq_flags(l) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

bool uring_has_completions(const struct uring_loop *l)
{
	return l->stash_next < l->stash_count || io_uring_cq_ready(&l->ring) > 0;
}

bool uring_reaped_all(const struct uring_loop *l)
{
	return !uring_has_completions(l) && !(sq_flags(l) & IORING_SQ_CQ_OVERFLOW);
}

void uring_enter(struct uring_loop *l, bool wait, uint64_t until_ns)
{
	int rc;

	make_room(l);
	stat_add(&l->stats.submits, 1);
	if (!wait) {
		rc = io_uring_submit_and_get_events(&l->ring);
	} else if (until_ns == UINT64_MAX) {
		rc = io_uring_submit_and_wait(&l->ring, 1);
	} else {
		uint64_t now_ns = loop_clock_ns();
		uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
		struct __kernel_timespec ts = {
		        .tv_sec = (int64_t)(wait_ns / NSEC_PER_SEC),
		        .tv_nsec = (long long)(wait_ns % NSEC_PER_SEC),
		};
		struct io_uring_cqe *cqe;

		rc = io_uring_submit_and_wait_timeout(&l->ring, &cqe, 1, &ts, NULL);
	}
	/* What was not submitted stays prepared for the next turn. Not among these: -EBADR, lost
	 * completions, after which nothing that this loop says would be true. */
	BELLOWS_ASSERT(rc >= 0 || rc == -EINTR || rc == -ETIME || rc == -EBUSY || rc == -EAGAIN);
}

static void dispatch(struct uring_loop *l, uint64_t user_data, int res, uint32_t flags)
{
	struct uring_req *r = (struct uring_req *)(uintptr_t)user_data;

	if (r)
		r->complete(l, r, res, flags);
}

/* These were taken before what is in the queue now. */
static unsigned reap_stash(struct uring_loop *l)
{
	unsigned n = 0;

	while (l->stash_next < l->stash_count && n < CQE_BUDGET) {
		struct uring_cqe_copy cqe = l->stash[l->stash_next++];

		dispatch(l, cqe.user_data, cqe.res, cqe.flags);
		n++;
	}
	if (l->stash_next == l->stash_count)
		l->stash_next = l->stash_count = 0;
	return n;
}

unsigned uring_reap(struct uring_loop *l)
{
	unsigned n = 0;

	if (unlikely(l->stash_count))
		n = reap_stash(l);
	/* Each entry is released before its callback, which may have to look at the queue itself,
	 * and may then find the later ones in the stash. */
	while (n < CQE_BUDGET && l->stash_count == 0 && io_uring_cq_ready(&l->ring)) {
		const struct io_uring_cqe *cqe =
		        &l->ring.cq.cqes[*l->ring.cq.khead & l->ring.cq.ring_mask];
		uint64_t user_data = cqe->user_data;
		int res = cqe->res;
		uint32_t flags = cqe->flags;

		io_uring_cq_advance(&l->ring, 1);
		dispatch(l, user_data, res, flags);
		n++;
	}
	return n;
}

void uring_cancel_all(struct uring_loop *l)
{
	struct io_uring_sqe *sqe = uring_sqe(l, NULL);

	io_uring_prep_rw(IORING_OP_ASYNC_CANCEL, sqe, -1, NULL, 0, 0);
	sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY;
	sqe->user_data = 0;
}

void loop_op_cancel(struct loop *loop, struct loop_op *op)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = op->priv;
	struct io_uring_sqe *sqe;

	/* No record: it is done, or waits to be told that there was no memory. */
	if (!r || uring_is_no_memory(op))
		return;
	BELLOWS_CHECKED(r->op == op);
	r->cancelled = true;
	sqe = uring_sqe(l, NULL);
	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)r, 0);
	io_uring_sqe_set_data(sqe, NULL);
}
