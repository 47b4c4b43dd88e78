/*
 * loop.h: the only door to the kernel: threads, time, messages, files, sockets, randomness,
 * signals.
 *
 * It has two implementations that are chosen at link time: io_uring (src/loop) and a deterministic
 * simulator (sim). Everything above runs unchanged in either, so nothing above may use another
 * clock, file, socket, thread or random number.
 *
 * Invariants
 *  - There is one control loop (id 0) and N data loops (ids 1..N), fixed when the loops start. Each
 *    runs on a thread of its own, and code on a loop never blocks.
 *  - loop_self() is the loop that runs the present code. Functions that take a struct loop must be
 *    called on that loop, except loop_send, which any thread may call.
 *  - Callbacks are never called from inside the function that starts an operation; they run later,
 *    from the loop's turn. Completions are queued and drained, so the stack stays shallow.
 *  - One turn: messages, expired timers, completions, ready tasks (bounded number), turn-end
 *    tasks; submit what was prepared; sleep if there is nothing to do. loop_now_ns is read once per
 *    turn.
 *  - An operation's struct loop_op, its data buffers and its out-parameters must live until its
 * done callback; an iovec array or path needs to live only until the call returns. Each started
 *    operation gets exactly one done callback, also when it is cancelled.
 *  - Results are >= 0 or -errno.
 */
#pragma once

#include <sys/uio.h>

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"

#define LOOPS_MAX 65 /* the control loop and up to 64 data loops */
#define LOOP_CONTROL 0

struct loop_task {
	struct loop_task *next;
	void (*run)(struct loop_task *task);
};

/* The part of a loop that is the same in both implementations, so that the hot calls are inline. */
struct loop {
	uint64_t now_ns;         /* monotonic, read once per turn; owned by the loop */
	struct loop_task *ready; /* FIFO of tasks that run in this turn or the next */
	struct loop_task **ready_tail;
	struct loop_task *turn_end; /* FIFO of tasks that run when the turn's other work is done */
	struct loop_task **turn_end_tail;
	unsigned id;
};

extern __thread struct loop *loop_current_;

/* The loop that runs the calling code; NULL on a thread that is no loop. */
static inline struct loop *loop_self(void)
{
	return loop_current_;
}

static inline bool loop_is_control(void)
{
	return loop_current_ && loop_current_->id == LOOP_CONTROL;
}

/* ---- life ---------------------------------------------------------------------------------- */

struct loop_config {
	unsigned data_loops; /* 1..64 */
	const char *cpumask; /* data loops are pinned to these CPUs in turn: "0x3" or "[0,2-3]";
	                        NULL: not pinned */
	uint32_t spin_us;    /* how long an idle loop polls before it sleeps; 0: sleeps at once */
};

/*
 * Makes the control loop of the calling thread and starts the data loops, which idle until they are
 * sent something. On failure nothing is left running, and err says what the kernel or the container
 * must allow (io_uring refused: which sysctl or seccomp profile).
 */
int loops_start(const struct loop_config *config, struct err *err) must_check;
/* Runs the control loop on the calling thread until loops_stop; then ends and joins the data loops
 * and frees everything. Returns the status given to loops_stop. */
int loops_run(void);
/* Makes loops_run return. The caller has closed its files and sockets. Control loop only. */
void loops_stop(int status);
/* Control loop and data loops together; constant between start and the end. */
unsigned loops_count(void);
struct loop *loop_get(unsigned id);

/* Calls fn on the control loop when the process gets the signal (SIGTERM, SIGINT, SIGHUP, SIGUSR1);
 * NULL gives the default back. Control loop only. */
void loop_on_signal(int signum, void (*fn)(int signum));

struct loop_stats {
	uint64_t turns, sleeps, submits; /* turns of the loop; times slept; io_uring_enter calls */
	uint64_t busy_ns, idle_ns;       /* time in turns that found work; in others and asleep */
};
/* Any thread; each member is consistent in itself. */
void loop_get_stats(unsigned id, struct loop_stats *out);

struct loop_thread {
	int tid;
	int numa_id;                   /* of the CPU on which it started; -1: not known */
	uint64_t usr_ticks, sys_ticks; /* its processor time, in hundredths of a second */
};
/* What the kernel knows of the thread of a loop; asks it, which takes some us. Any thread. */
void loop_get_thread(unsigned id, struct loop_thread *out);

/* ---- time and randomness ------------------------------------------------------------------- */

/* Monotonic time at the start of this turn. */
static inline uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}
/* Monotonic time exactly now; costs about 20 ns. Any thread. */
uint64_t loop_clock_ns(void);
/* Unix time in ns, for time stamps that people read. Any thread. */
uint64_t loop_wall_ns(void);
/* A 64-bit random number for balancing and delays, not for keys. Owned by the loop; a few ns. */
uint64_t loop_random(struct loop *loop);
/* Cryptographic quality, for UUIDs and nonces. Any thread. */
void loop_random_bytes(void *out, size_t len);

/* ---- tasks, messages, timers ---------------------------------------------------------------- */

/* Runs the task from this loop's ready queue, in FIFO order, soon. The task must not be queued. */
static inline void loop_defer(struct loop *loop, struct loop_task *task)
{
	BELLOWS_CHECKED(loop == loop_current_);
	task->next = NULL;
	*loop->ready_tail = task;
	loop->ready_tail = &task->next;
}

/* Runs the task once at the end of this turn: the place to send what a turn has gathered. */
static inline void loop_defer_turn_end(struct loop *loop, struct loop_task *task)
{
	BELLOWS_CHECKED(loop == loop_current_);
	task->next = NULL;
	*loop->turn_end_tail = task;
	loop->turn_end_tail = &task->next;
}

/* Runs the task on another loop (or this one), in the order of sending per sender. Any thread, any
 * number of senders; wakes the loop if it sleeps. The task must not be queued anywhere. */
void loop_send(struct loop *to, struct loop_task *task);

struct loop_timer {
	void (*fire)(struct loop_timer *timer);
	uint64_t deadline_ns;
	uint64_t priv[3]; /* the implementation's; zero-initialise */
};

/* Fires once, at or after deadline_ns (of loop_now_ns), on the loop that started it. Starting an
 * active timer moves it. */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);
/* Stops it if it is active; afterwards it won't fire. */
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);
bool loop_timer_active(const struct loop_timer *timer);

/* ---- operations ----------------------------------------------------------------------------- */

struct loop_op {
	void (*done)(struct loop_op *op, int result);
	void *priv; /* the implementation's */
};

/* Asks that a started operation ends soon; its done is still called once, with -ECANCELED or with
 * its real result. */
void loop_op_cancel(struct loop *loop, struct loop_op *op);

/* ---- files ---------------------------------------------------------------------------------- */

struct loop_file; /* usable from every loop */

enum loop_file_flags {
	LOOP_FILE_READ_ONLY = 1 << 0,
	LOOP_FILE_DIRECT = 1 << 1, /* bypass the page cache where the file can; else quietly not */
	LOOP_FILE_CREATE = 1 << 2, /* regular file, mode 0600 */
	LOOP_FILE_EXCLUSIVE = 1 << 3, /* block device: refuse if it is mounted or in use (O_EXCL) */
};

struct loop_file_info {
	uint64_t size_bytes;
	uint32_t block_bytes;    /* block device: logical block size; regular file: 0 */
	uint32_t physical_bytes; /* preferred I/O granularity, at least 512 */
	uint32_t align_bytes;    /* what offsets, lengths and memory must be aligned to; 1 when not
	                            direct */
	bool is_block_device;
	bool direct; /* opened with O_DIRECT */
	bool read_only;
	bool rotational;
	bool unlinked; /* regular file: it has no name any more, and goes when it is closed */
	uint32_t owner_uid;
	uint32_t mode; /* permission bits */
};

/* Opens path; the result goes to *out when the operation is done with 0. Control loop only. */
void loop_file_open(struct loop *loop, struct loop_op *op, const char *path, unsigned flags,
        struct loop_file **out);
/* Current size and properties. */
void loop_file_stat(
        struct loop *loop, struct loop_op *op, struct loop_file *file, struct loop_file_info *out);
/* No operation may be outstanding on any loop. Control loop only. */
void loop_file_close(struct loop *loop, struct loop_op *op, struct loop_file *file);

/*
 * Reads or writes the whole iovec at offset_bytes. Short transfers are continued by the
 * implementation; the result is the total length, less only at the end of the file.
 */
void loop_file_readv(struct loop *loop, struct loop_op *op, struct loop_file *file,
        const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes);
/* dsync: the data is on stable media when the operation is done (RWF_DSYNC). */
void loop_file_writev(struct loop *loop, struct loop_op *op, struct loop_file *file,
        const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes, bool dsync);
/* fdatasync. */
void loop_file_sync(struct loop *loop, struct loop_op *op, struct loop_file *file);
/* Deallocates; the range reads as zeroes. -EOPNOTSUPP where the file can't. Size stays. */
void loop_file_punch(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes);
/* Zeroes without deallocating where it can; -EOPNOTSUPP where the file can't. Size stays. */
void loop_file_zero(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes);
/* Regular files only. Growth is sparse. */
void loop_file_truncate(
        struct loop *loop, struct loop_op *op, struct loop_file *file, uint64_t size_bytes);

struct loop_extent {
	uint64_t len_bytes; /* of the run that starts at the asked offset, at least 1, clipped to
	                       the asked length */
	bool hole;
};
/* What is allocated from offset_bytes on; a file that can't tell answers "all data". */
void loop_file_extent(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes, struct loop_extent *out);

/* A small file as a whole, NUL-terminated, for configuration at start-up; blocks, so only before
 * loops_run. More than max_bytes is -EFBIG. */
int loop_slurp(const char *path, size_t max_bytes, char **out, size_t *len_out,
        struct err *err) must_check;

/* ---- sockets -------------------------------------------------------------------------------- */

enum loop_addr_kind {
	LOOP_ADDR_UNIX,
	LOOP_ADDR_TCP
};

struct loop_addr {
	enum loop_addr_kind kind;
	char path[108]; /* unix */
	char host[64];  /* tcp: a numeric IPv4 or IPv6 address */
	uint16_t port;  /* tcp; 0: any free one, which loop_listener_addr then tells */
};

struct loop_listener;
/* A connected stream socket. It belongs to the loop it was accepted or connected on, and may be
 * handed to another by loop_send while no operation is outstanding. */
struct loop_sock;

typedef void (*loop_accept_fn)(struct loop_listener *listener, struct loop_sock *sock, void *arg);

/*
 * Listens and calls accept_fn for each connection. A unix socket gets mode 0600; a stale socket
 * file is replaced, while one that somebody still serves is -EADDRINUSE: the implementation holds
 * an exclusive lock on "<path>.lock" as long as it listens. Control loop only.
 */
int loop_listen(struct loop *loop, const struct loop_addr *addr, loop_accept_fn accept_fn,
        void *arg, struct loop_listener **out, struct err *err) must_check;
/* Stops at once; no accept_fn afterwards. A unix socket's files are removed. */
void loop_listener_close(struct loop *loop, struct loop_listener *listener);
const struct loop_addr *loop_listener_addr(const struct loop_listener *listener);

void loop_sock_connect(struct loop *loop, struct loop_op *op, const struct loop_addr *addr,
        struct loop_sock **out);
/* Result: bytes received, 0 at end of stream. With all: returns only when len bytes are there, or
 * with less at end of stream or error. */
void loop_sock_recv(struct loop *loop, struct loop_op *op, struct loop_sock *sock, void *buf,
        size_t len, bool all);
/*
 * Sends everything; result: the total length. One send at a time per socket. lazy: success may be
 * told as late as when something else happens on this loop, so that a send costs no wake-up of its
 * own; only for a caller that needs nothing of the send's end before something else happens.
 */
void loop_sock_send(struct loop *loop, struct loop_op *op, struct loop_sock *sock,
        const struct iovec *iov, unsigned iovcnt, bool lazy);
/* Makes outstanding operations end (end of stream or error). */
void loop_sock_shutdown(struct loop *loop, struct loop_sock *sock);
/* No operation may be outstanding. */
void loop_sock_close(struct loop *loop, struct loop_sock *sock);
/* For logs: "127.0.0.1:4711" or "unix". */
void loop_sock_peer(const struct loop_sock *sock, char *buf, size_t size);
