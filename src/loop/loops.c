/* The life of all loops: start, pinning, run, and the end. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/log.h"
#include "loop/cpumask.h"
#include "loop/uring.h"

#define TIMER_SLACK_NS 1000UL
#define DRAIN_NS (5 * NSEC_PER_SEC) /* how long the end waits for loops that stay busy */

struct data_thread {
	pthread_t thread;
	struct uring_loop *loop;
	uint32_t spin_us;
	sem_t started;
	int result;
	struct err err;
};

static struct {
	struct uring_loop *loops[LOOPS_MAX];
	struct data_thread threads[LOOPS_MAX]; /* by loop id; 0 is not used */
	unsigned count;
	int status;
	unsigned answers_missing; /* of the round, see drain */
	bool round_quiet;
} life;

unsigned loops_count(void)
{
	return life.count;
}

struct loop *loop_get(unsigned id)
{
	BELLOWS_ASSERT(id < life.count);
	return &life.loops[id]->pub;
}

void loop_get_stats(unsigned id, struct loop_stats *out)
{
	struct uring_loop *l = uring_of(loop_get(id));

	*out = (struct loop_stats){
	        .turns = atomic_load_explicit(&l->stats.turns, memory_order_relaxed),
	        .sleeps = atomic_load_explicit(&l->stats.sleeps, memory_order_relaxed),
	        .submits = atomic_load_explicit(&l->stats.submits, memory_order_relaxed),
	        .busy_ns = atomic_load_explicit(&l->stats.busy_ns, memory_order_relaxed),
	        .idle_ns = atomic_load_explicit(&l->stats.idle_ns, memory_order_relaxed),
	};
}

/* ---- the end: rounds until nothing is under way ---------------------------------------------- */

/*
 * Only the control loop knows when to end, but work can hop between loops. So it asks in rounds.
 * Each data loop answers when it has nothing to do, and says whether it was quiet: it has run
 * nothing since its last answer, and no operation is under way. A round in which all were quiet,
 * the control loop too, is the last: whatever was sent before an answer of the round before stands
 * before this round's question in the inbox, so it would have been run and counted, and nobody has
 * sent anything since.
 */
static void take_answer(struct loop_task *task)
{
	struct uring_loop *l = container_of(task, struct uring_loop, answer_task);

	life.round_quiet &= l->round_quiet;
	life.answers_missing--;
}

static void take_question(struct loop_task *task)
{
	container_of(task, struct uring_loop, round_task)->round_asked = true;
}

static bool is_quiet(struct uring_loop *l, uint64_t own_tasks)
{
	bool quiet = l->work - l->round_work <= own_tasks;

	l->round_work = l->work;
	if (l->inflight > 0)
		uring_cancel_all(l);
	return quiet && l->inflight == 0;
}

/* After each turn of a data loop that was asked. What the turn prepared is submitted afterwards,
 * but is counted as being under way. */
static void maybe_answer(struct uring_loop *l)
{
	if (l->last_worked || l->pub.ready || l->pub.turn_end)
		return;
	l->round_asked = false;
	l->round_quiet = is_quiet(l, 1);
	l->answer_task.run = take_answer;
	loop_send(&life.loops[LOOP_CONTROL]->pub, &l->answer_task);
}

static void drain(struct uring_loop *control)
{
	uint64_t deadline_ns = loop_clock_ns() + DRAIN_NS;
	bool quiet;

	do {
		life.round_quiet = true;
		life.answers_missing = life.count - 1;
		for (unsigned i = 1; i < life.count; i++) {
			life.loops[i]->round_task.run = take_question;
			loop_send(&life.loops[i]->pub, &life.loops[i]->round_task);
		}
		while (life.answers_missing > 0 && control->pub.now_ns < deadline_ns) {
			uring_rest(control);
			uring_turn(control);
		}
		quiet = is_quiet(control, life.count - 1) && life.round_quiet;
		if (control->pub.now_ns >= deadline_ns) {
			log_warning("loop", "some loop stays busy; ending without waiting for it");
			return;
		}
	} while (!quiet);
}

static void free_loop(unsigned id)
{
	uring_loop_free(life.loops[id]);
	life.loops[id] = NULL;
}

static void take_exit(struct loop_task *task)
{
	container_of(task, struct uring_loop, exit_task)->exit = true;
}

/* Ends and frees the loops from 1 to count - 1. */
static void end_data_loops(unsigned count)
{
	for (unsigned i = 1; i < count; i++) {
		life.loops[i]->exit_task.run = take_exit;
		loop_send(&life.loops[i]->pub, &life.loops[i]->exit_task);
	}
	for (unsigned i = 1; i < count; i++)
		pthread_join(life.threads[i].thread, NULL);
	/* Not before: a sender looks at the loop, and may wake it, after it has pushed. */
	for (unsigned i = 1; i < count; i++)
		free_loop(i);
}

static void end_control_loop(void)
{
	uring_loop_fini(life.loops[LOOP_CONTROL]);
	free_loop(LOOP_CONTROL);
	life.count = 0;
}

/* ---- start and run -------------------------------------------------------------------------- */

static void *data_loop_main(void *arg)
{
	struct data_thread *t = arg;
	struct uring_loop *l = t->loop;
	char name[16];

	snprintf(name, sizeof(name), "loop%u", l->pub.id);
	pthread_setname_np(pthread_self(), name);
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	t->result = uring_loop_init(l, l->pub.id, t->spin_us, &t->err);
	sem_post(&t->started);
	if (t->result < 0)
		return NULL;
	while (!l->exit) {
		uring_rest(l);
		uring_turn(l);
		if (unlikely(l->round_asked))
			maybe_answer(l);
	}
	uring_loop_fini(l);
	return NULL;
}

/* Signals are the control loop's: a data loop's thread has all of them blocked. */
static int start_thread(struct data_thread *t, const cpu_set_t *cpus, struct err *err)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc;

	sem_init(&t->started, 0, 0);
	pthread_attr_init(&attr);
	if (cpus)
		pthread_attr_setaffinity_np(&attr, sizeof(*cpus), cpus);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&t->thread, &attr, data_loop_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc == EINVAL && cpus)
		rc = err_set(err, -EINVAL,
		        "cpumask: this process may not run on one of these CPUs, or it is not "
		        "there; 'taskset -p $$' shows which it may");
	else if (rc)
		rc = err_set(err, -rc, "the thread of a data loop could not be started: %s",
		        errno_text(rc));
	if (rc) {
		sem_destroy(&t->started);
		return rc;
	}
	while (sem_wait(&t->started) < 0)
		;
	sem_destroy(&t->started);
	if (t->result < 0) {
		pthread_join(t->thread, NULL);
		return err_set(err, t->result, "%s", t->err.text);
	}
	return 0;
}

static struct uring_loop *alloc_loop(unsigned id)
{
	struct uring_loop *l = try_alloc_aligned(CACHE_LINE_BYTES, sizeof(*l));

	BELLOWS_ASSERT(l);
	l->pub.id = id;
	l->wake_fd = -1;
	return l;
}

/* The CPU of the nth data loop: the set ones in turn. */
static cpu_set_t nth_cpu(const cpu_set_t *cpus, unsigned n)
{
	unsigned skip = n % (unsigned)CPU_COUNT(cpus);
	cpu_set_t one;

	CPU_ZERO(&one);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, cpus) && skip-- == 0) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	return one;
}

static int start_data_loops(
        const struct loop_config *config, const cpu_set_t *cpus, struct err *err)
{
	for (unsigned id = 1; id <= config->data_loops; id++) {
		struct data_thread *t = &life.threads[id];
		cpu_set_t one;
		int rc;

		if (cpus)
			one = nth_cpu(cpus, id - 1);
		life.loops[id] = alloc_loop(id);
		*t = (struct data_thread){.loop = life.loops[id], .spin_us = config->spin_us};
		rc = start_thread(t, cpus ? &one : NULL, err);
		if (rc < 0) {
			free_loop(id);
			end_data_loops(id);
			return rc;
		}
	}
	return 0;
}

static void prepare_process(void)
{
	struct rlimit files;

	/* A client that goes away, or a log that nobody reads, must not end the server. */
	signal(SIGPIPE, SIG_IGN);
	/* Each connection is a descriptor; the soft limit is there for programs that select(). */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	log_set_clock(loop_wall_ns);
}

int loops_start(const struct loop_config *config, struct err *err)
{
	cpu_set_t cpus;
	int rc;

	BELLOWS_ASSERT(life.count == 0);
	BELLOWS_ASSERT(config->data_loops >= 1 && config->data_loops < LOOPS_MAX);
	if (config->cpumask) {
		rc = cpumask_parse(config->cpumask, &cpus, err);
		if (rc < 0)
			return rc;
	}
	prepare_process();
	life.status = 0;
	life.loops[LOOP_CONTROL] = alloc_loop(LOOP_CONTROL);
	rc = uring_loop_init(life.loops[LOOP_CONTROL], LOOP_CONTROL, config->spin_us, err);
	if (rc < 0) {
		free_loop(LOOP_CONTROL);
		return rc;
	}
	rc = start_data_loops(config, config->cpumask ? &cpus : NULL, err);
	if (rc < 0) {
		end_control_loop();
		return rc;
	}
	life.count = config->data_loops + 1;
	return 0;
}

int loops_run(void)
{
	struct uring_loop *control = life.loops[LOOP_CONTROL];

	BELLOWS_ASSERT(loop_is_control());
	while (!control->exit) {
		uring_rest(control);
		uring_turn(control);
	}
	uring_signals_fini();
	drain(control);
	end_data_loops(life.count);
	end_control_loop();
	return life.status;
}

void loops_stop(int status)
{
	BELLOWS_ASSERT(loop_is_control());
	life.loops[LOOP_CONTROL]->exit = true;
	life.status = status;
}
