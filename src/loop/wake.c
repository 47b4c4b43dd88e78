/*
 * Messages between threads, and waking a loop that sleeps.
 *
 * The inbox is a stack: a sender pushes with one compare-and-swap, the owner takes all of it with
 * one exchange and turns it round, so each sender's messages stay in order. As only the whole stack
 * is ever taken, a head that came back in the meantime (ABA) does no harm.
 *
 * No wake-up is lost. The owner stores sleeping = true and then loads the inbox; a sender pushes to
 * the inbox and then loads sleeping. All four are sequentially consistent, so they have one order,
 * and in it either the owner's load comes after the push (it sees the message and does not sleep)
 * or the sender's load comes after the store (it sees the sleeper and wakes it). With less than
 * that, each could miss the other, since a store may be delayed past a later load. Of several
 * senders that see the sleeper, the one whose exchange takes the flag does the waking. A wake-up
 * that comes late, when the owner has woken by itself, costs it one turn.
 *
 * Waking is a write to an eventfd on which the ring keeps a multishot poll. Each write posts a
 * completion, so the counter is never read. Why not msg_ring: docs/decisions/0001-waking-a-loop.md.
 */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop/uring.h"

static void complete_wake(
        struct uring_loop *l, struct uring_req *r, int maybe_unused res, uint32_t cqe_flags);

static void arm_wake(struct uring_loop *l, struct uring_req *r)
{
	struct io_uring_sqe *sqe = uring_sqe(l, r);

	io_uring_prep_poll_multishot(sqe, l->wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, r);
}

static void complete_wake(
        struct uring_loop *l, struct uring_req *r, int maybe_unused res, uint32_t cqe_flags)
{
	l->work--; /* not work by itself: see the end in loops.c */
	if (!(cqe_flags & IORING_CQE_F_MORE))
		arm_wake(l, r);
}

int uring_wake_init(struct uring_loop *l)
{
	struct uring_req *r;

	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return -errno;
	r = uring_req_get(l, NULL, complete_wake);
	if (!r)
		return -ENOMEM;
	uring_req_background(l, r);
	arm_wake(l, r);
	return 0;
}

static void wake(struct uring_loop *l)
{
	static const uint64_t one = 1;

	/* Fails only when 2^64 - 2 wake-ups have gone before. */
	BELLOWS_ASSERT(write(l->wake_fd, &one, sizeof(one)) == sizeof(one));
}

void loop_send(struct loop *to, struct loop_task *task)
{
	struct uring_loop *l = uring_of(to);
	struct loop_task *head;

	if (to == loop_self()) {
		loop_defer(to, task);
		return;
	}
	head = atomic_load_explicit(&l->inbox, memory_order_relaxed);
	do {
		task->next = head;
	} while (!atomic_compare_exchange_weak(&l->inbox, &head, task));
	if (atomic_load(&l->sleeping) && atomic_exchange(&l->sleeping, false))
		wake(l);
}

void uring_inbox_take(struct uring_loop *l)
{
	struct loop_task *newest, *first = NULL, *task;

	if (likely(!atomic_load_explicit(&l->inbox, memory_order_relaxed)))
		return;
	newest = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
	task = newest;
	while (task) {
		struct loop_task *older = task->next;

		task->next = first;
		first = task;
		task = older;
	}
	*l->pub.ready_tail = first;
	l->pub.ready_tail = &newest->next;
}

bool uring_sleep_begin(struct uring_loop *l)
{
	atomic_store(&l->sleeping, true);
	if (likely(!atomic_load(&l->inbox)))
		return true;
	atomic_store_explicit(&l->sleeping, false, memory_order_relaxed);
	return false;
}

void uring_sleep_end(struct uring_loop *l)
{
	atomic_store_explicit(&l->sleeping, false, memory_order_relaxed);
}
