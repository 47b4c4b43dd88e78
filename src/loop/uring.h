/*
 * uring.h: what the files of the io_uring implementation of loop.h share. Nothing outside src/loop
 * includes it.
 *
 * Each loop has one ring, made and used by its own thread only. Each operation has a record (struct
 * uring_req) from the loop's pool until its done callback is called; the ring's user_data is that
 * record. Records and iovec arrays are kept in free lists and never go back to the allocator before
 * the loop ends, so that nothing is allocated in steady state.
 */
#pragma once

#include <liburing.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "loop/loop.h"

#define READY_BUDGET 256 /* tasks that run before a turn looks at everything else again */
#define CQE_BUDGET 256
#define TIMER_BUDGET 256
#define SQ_ENTRIES 512
#define CQ_ENTRIES 4096
#define REQ_INLINE_IOVS 4
#define FILE_SLOTS 256
#define IOV_CLASSES 8 /* pooled arrays of 8, 16 ... 1024 iovecs */

struct uring_loop;
struct uring_req;

/* A completion; flags are the CQE's. Frees or starts the record anew. */
typedef void (*uring_complete_fn)(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t cqe_flags);

enum uring_kind {
	URING_READ,
	URING_WRITE,
	URING_RECV,
	URING_SEND
};

struct uring_req {
	uring_complete_fn complete;
	struct loop_op *op;     /* NULL: the loop's own operation */
	struct uring_req *next; /* in the free list */
	void *arg;
	bool cancelled;  /* continue nothing: it shall end */
	bool background; /* the loop's own: the end does not wait for it */

	/* A transfer and what is left of it. */
	enum uring_kind kind;
	bool all;                     /* receive until all is there */
	bool retry_async;             /* let a worker thread of the kernel wait */
	const struct loop_file *file; /* or */
	int fd;
	uint32_t flags;        /* RWF_ or MSG_ */
	struct list lazy_link; /* in the loop's, until success is told */
	unsigned lazy_sqe;     /* the end of the submission queue behind it */
	uint32_t lazy_bytes;
	uint64_t offset; /* of the rest in the file */
	uint32_t done_bytes;
	uint32_t iov_count; /* left, from iov on */
	struct iovec *iov;
	struct iovec *iov_array; /* its start, if pooled or allocated */
	unsigned iov_class;
	struct iovec iov_inline[REQ_INLINE_IOVS];
	struct msghdr msg;

	int deferred_result;
	struct loop_task task; /* completes it later without the ring */
};

/* Counters that other threads read; only the owner writes, so no read-modify-write is needed. */
typedef _Atomic uint64_t stat_counter;

static inline void stat_add(stat_counter *c, uint64_t n)
{
	atomic_store_explicit(
	        c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

struct uring_cqe_copy {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};

struct uring_loop {
	struct loop pub; /* first */
	struct io_uring ring;
	unsigned ring_ready : 1;

	/* Turn. */
	uint64_t turn_now_ns; /* start of the span that the statistics have not counted yet */
	uint64_t last_work_ns;
	uint64_t spin_ns;
	uint64_t work;    /* tasks, timers and completions so far */
	bool last_worked; /* the span's turn found work */
	bool exit;

	/* Timers: a pairing heap. */
	struct loop_timer *timer_root;

	/* Pools. */
	struct uring_req *req_free;
	struct uring_chunk *chunks;
	void *iov_free[IOV_CLASSES];
	struct loop_op *no_memory; /* operations to end with -ENOMEM: see req.c */
	struct list lazy;          /* sends whose success makes no completion: see sock.c */
	uint64_t inflight;         /* records in use, less those in the background */

	/* Completions that had to be taken out of the ring's queue to make room. */
	struct uring_cqe_copy *stash;
	size_t stash_count, stash_size, stash_next;

	uint64_t files_in_table[FILE_SLOTS / 64]; /* the slots in use: see file.h */
	bool has_file_table;

	int tid, numa_id; /* written before others know the loop */

	uint64_t random[4];
	uint64_t kernel_ops; /* bit per IORING_OP_ that the kernel has */

	/* The end: see loops.c. */
	struct loop_task round_task, answer_task, exit_task;
	uint64_t round_work;
	bool round_asked, round_quiet;

	struct {
		stat_counter turns, sleeps, submits, busy_ns, idle_ns;
	} stats;

	/* Written by other threads. */
	cache_aligned _Atomic(struct loop_task *) inbox; /* newest first */
	_Atomic bool sleeping;
	int wake_fd;
};

static inline struct uring_loop *uring_of(struct loop *loop)
{
	return (struct uring_loop *)loop;
}

/* ---- loop.c: the turn ---- */

/* Notes who the calling thread is. */
void uring_thread_init(struct uring_loop *l);

int uring_loop_init(struct uring_loop *l, unsigned id, uint32_t spin_us, struct err *err);
/* On the loop's own thread. */
void uring_loop_fini(struct uring_loop *l);
/* When no thread can be in loop_send to it any more. */
void uring_loop_free(struct uring_loop *l);
/* The work of one turn. */
void uring_turn(struct uring_loop *l);
/* Its end: submits what was prepared, and sleeps when there is nothing to do. */
void uring_rest(struct uring_loop *l);
/* The sentence for a ring that could not be made. */
int uring_setup_error(int result, struct err *err);

/* ---- ring.c: submission and completion ---- */

/* A zeroed submission entry for r (NULL: its completion is of no interest). Never fails: submits if
 * the queue is full. */
struct io_uring_sqe *uring_sqe(struct uring_loop *l, struct uring_req *r);
/* Submits what is prepared and lets the kernel post completions; with wait: until there is at least
 * one or until_ns (UINT64_MAX: no limit). */
void uring_enter(struct uring_loop *l, bool wait, uint64_t until_ns);
/* Something is to be submitted, or the kernel has completions that it posts only when entered. */
bool uring_wants_enter(const struct uring_loop *l);
bool uring_has_completions(const struct uring_loop *l);
/* All completions that the kernel has posted have been taken. */
bool uring_reaped_all(const struct uring_loop *l);
/* Calls back for completions, up to CQE_BUDGET; returns how many. */
unsigned uring_reap(struct uring_loop *l);
/* Asks the kernel to end everything on this ring. */
void uring_cancel_all(struct uring_loop *l);

/* ---- req.c: records ---- */

/* NULL: out of memory, and op will be completed with -ENOMEM. */
struct uring_req *uring_req_get(
        struct uring_loop *l, struct loop_op *op, uring_complete_fn complete);
void uring_req_put(struct uring_loop *l, struct uring_req *r);
void uring_req_background(struct uring_loop *l, struct uring_req *r);
/* Puts the record and calls the operation's done. */
void uring_req_done(struct uring_loop *l, struct uring_req *r, int res);
/* The same from the ready queue: for what is known while an operation is being started. */
void uring_req_done_later(struct uring_loop *l, struct uring_req *r, int res);
/* A plain completion: done(res). */
void uring_complete_plain(struct uring_loop *l, struct uring_req *r, int res, uint32_t cqe_flags);
/* Copies the iovecs, which live only until the caller's call returns. False: no memory. */
bool uring_req_copy_iov(
        struct uring_loop *l, struct uring_req *r, const struct iovec *iov, unsigned iovcnt);
/* Moves r's iovecs and offset past bytes; true when nothing is left. */
bool uring_req_advance(struct uring_req *r, uint32_t bytes);
/* The whole length; must fit the int of a result. */
uint32_t uring_iov_bytes(const struct iovec *iov, unsigned iovcnt);
/* Ends the operations for which there was no memory; returns how many. */
unsigned uring_no_memory_run(struct uring_loop *l);
/* op waits for that, and priv is no record. */
static inline bool uring_is_no_memory(const struct loop_op *op)
{
	return (uintptr_t)op->priv & 1;
}
void uring_pools_free(struct uring_loop *l);

/* ---- sock.c ---- */

/* Ends the lazy sends that have succeeded; returns how many. */
unsigned uring_lazy_run(struct uring_loop *l);

/* ---- timer.c ---- */

/* Fires what has expired; returns how many. */
unsigned uring_timers_run(struct uring_loop *l);

static inline uint64_t uring_next_deadline(const struct uring_loop *l)
{
	return l->timer_root ? l->timer_root->deadline_ns : UINT64_MAX;
}

/* ---- wake.c: messages ---- */

int uring_wake_init(struct uring_loop *l);
/* Moves what other threads have sent to the ready queue. */
void uring_inbox_take(struct uring_loop *l);
/* Publishes that this loop sleeps; false: something has come in, don't. */
bool uring_sleep_begin(struct uring_loop *l);
void uring_sleep_end(struct uring_loop *l);

/* ---- others ---- */

void uring_random_seed(struct uring_loop *l);
void uring_signals_fini(void);
