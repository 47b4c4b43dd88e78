#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "loop/uring.h"

#define POLL_ALONE_NS 2000 /* so long an idle loop polls without letting others run */

__thread struct loop *loop_current_;

int uring_setup_error(int result, struct err *err)
{
	const char *why;

	switch (result) {
	case -EPERM:
	case -EACCES:
		why = "it is not allowed here; set 'sysctl kernel.io_uring_disabled=0' (or put "
		      "this "
		      "user into the group kernel.io_uring_group), and in a container allow "
		      "io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile";
		break;
	case -ENOSYS:
		why = "this kernel was built without it, or a container's seccomp profile hides "
		      "it; "
		      "Linux 6.1 or newer with CONFIG_IO_URING is needed, and a profile that "
		      "allows "
		      "io_uring_setup, io_uring_enter and io_uring_register";
		break;
	case -EINVAL:
		why = "this kernel's is too old; Linux 6.1 or newer is needed";
		break;
	case -ENOMEM:
		why = "there is not enough memory for it; raise the limit on locked memory "
		      "('ulimit "
		      "-l', RLIMIT_MEMLOCK, LimitMEMLOCK= of the service) or the memory limit of "
		      "the container";
		break;
	case -EMFILE:
	case -ENFILE:
		why = "there are too many open files; raise 'ulimit -n' (RLIMIT_NOFILE, "
		      "LimitNOFILE= of the service)";
		break;
	default:
		return err_set(err, result, "io_uring could not be set up: %s", errno_text(result));
	}
	return err_set(err, result, "io_uring could not be set up: %s", why);
}

static int setup_ring(struct uring_loop *l)
{
	struct io_uring_params params = {
	        /* One thread submits, and completions are posted when it enters the kernel, not
	         * by interrupting it; the flag in the ring says when entering is worth it. */
	        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
	                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	        .cq_entries = CQ_ENTRIES,
	};
	struct io_uring_probe *probe;
	int rc = io_uring_queue_init_params(SQ_ENTRIES, &l->ring, &params);

	if (rc < 0)
		return rc;
	l->ring_ready = true;
	/* Saves the look-up of the descriptor at each call; it works without. */
	(void)io_uring_register_ring_fd(&l->ring);
	l->has_file_table = io_uring_register_files_sparse(&l->ring, FILE_SLOTS) == 0;
	probe = io_uring_get_probe_ring(&l->ring);
	for (int op = 0; probe && op < 64; op++) {
		if (io_uring_opcode_supported(probe, op))
			l->kernel_ops |= 1ULL << op;
	}
	io_uring_free_probe(probe);
	return 0;
}

int uring_loop_init(struct uring_loop *l, unsigned id, uint32_t spin_us, struct err *err)
{
	int rc;

	l->pub.id = id;
	l->pub.ready_tail = &l->pub.ready;
	l->pub.turn_end_tail = &l->pub.turn_end;
	list_init(&l->lazy);
	l->pub.now_ns = l->turn_now_ns = loop_clock_ns();
	l->last_work_ns = l->pub.now_ns;
	l->spin_ns = spin_us * NSEC_PER_USEC;
	loop_current_ = &l->pub;
	uring_thread_init(l);
	uring_random_seed(l);
	rc = setup_ring(l);
	if (rc == 0)
		rc = uring_wake_init(l);
	if (rc < 0) {
		uring_loop_fini(l);
		return uring_setup_error(rc, err);
	}
	return 0;
}

void uring_loop_fini(struct uring_loop *l)
{
	if (l->ring_ready)
		io_uring_queue_exit(&l->ring);
	l->ring_ready = false;
	uring_pools_free(l);
	loop_current_ = NULL;
}

void uring_loop_free(struct uring_loop *l)
{
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	free(l);
}

/* The tasks queued now or by these, up to the budget. */
static unsigned run_ready(struct loop *loop)
{
	unsigned n = 0;
	struct loop_task *task;

	while ((task = loop->ready) && n < READY_BUDGET) {
		loop->ready = task->next;
		if (!loop->ready)
			loop->ready_tail = &loop->ready;
		task->run(task);
		n++;
	}
	return n;
}

/* Those queued while these run belong to the next turn. */
static unsigned run_turn_end(struct loop *loop)
{
	struct loop_task *task = loop->turn_end;
	unsigned n = 0;

	loop->turn_end = NULL;
	loop->turn_end_tail = &loop->turn_end;
	while (task) {
		struct loop_task *next = task->next;

		task->run(task);
		task = next;
		n++;
	}
	return n;
}

/* What keeps a loop awake; everything that a turn may have left behind must be here. */
static bool has_work(const struct uring_loop *l)
{
	return l->pub.ready || l->pub.turn_end || l->no_memory || l->round_asked || l->exit ||
	       uring_has_completions(l) || atomic_load_explicit(&l->inbox, memory_order_relaxed);
}

/* Counts the time since the last call as that of a turn that worked or did not. */
static void count_time(struct uring_loop *l, uint64_t now_ns)
{
	uint64_t span_ns = now_ns - l->turn_now_ns;

	stat_add(l->last_worked ? &l->stats.busy_ns : &l->stats.idle_ns, span_ns);
	l->turn_now_ns = now_ns;
}

/*
 * The order lets what a completion or a message sets off go all the way to the turn-end tasks and
 * into the same submission.
 */
void uring_turn(struct uring_loop *l)
{
	uint64_t now_ns = loop_clock_ns();
	unsigned n;

	count_time(l, now_ns);
	l->pub.now_ns = now_ns;
	uring_inbox_take(l);
	n = uring_timers_run(l);
	n += uring_reap(l);
	if (!list_empty(&l->lazy))
		n += uring_lazy_run(l);
	n += run_ready(&l->pub);
	if (unlikely(l->no_memory))
		n += uring_no_memory_run(l);
	n += run_turn_end(&l->pub);
	stat_add(&l->stats.turns, 1);
	l->work += n;
	l->last_worked = n > 0;
	if (n > 0)
		l->last_work_ns = now_ns;
}

static void sleep_until_woken(struct uring_loop *l)
{
	if (!uring_sleep_begin(l))
		return;
	count_time(l, loop_clock_ns());
	l->last_worked = false;
	stat_add(&l->stats.sleeps, 1);
	uring_enter(l, true, uring_next_deadline(l));
	uring_sleep_end(l);
}

/*
 * Whoever shall give this loop something to do may be waiting for this very CPU; when there are
 * more loops than CPUs, polling without that lets nobody get anything done.
 */
static void poll_politely(const struct uring_loop *l)
{
	if (l->pub.now_ns - l->last_work_ns < POLL_ALONE_NS)
		__builtin_ia32_pause();
	else
		sched_yield();
}

void uring_rest(struct uring_loop *l)
{
	uint64_t now_ns = l->pub.now_ns;

	if (!has_work(l) && now_ns - l->last_work_ns >= l->spin_ns &&
	        uring_next_deadline(l) > now_ns)
		sleep_until_woken(l);
	else if (uring_wants_enter(l))
		uring_enter(l, false, 0);
	else if (!l->last_worked)
		poll_politely(l);
}
