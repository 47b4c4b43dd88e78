/*
 * The second implementation of loop.h: any number of loops, stepped on one thread. Each step picks
 * by chance one loop that has something to do and gives it one turn, in which by chance some of
 * what waits for it is handled.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sim/heap.h"
#include "sim/sim.h"

#define SENDERS (LOOPS_MAX + 1) /* the loops and whoever is none */
#define NO_LOOP LOOPS_MAX
#define WALL_START_NS (1767225600ULL * NSEC_PER_SEC)
#define SIGNALS 32

struct inbox {
	struct loop_task *head, **tail;
	uint64_t count;
};

struct sim_loop {
	struct loop loop;
	struct inbox in[SENDERS];
	uint64_t messages;
	struct heap timers, ops;
	struct sim_op *lazy, **lazy_tail; /* have succeeded; told when something else happens */
	uint64_t asleep_until;            /* starved: gets no turn before */
	struct loop_stats stats;
};

__thread struct loop *loop_current_;

static struct sim_loop *loops;
static unsigned num_loops;
static uint64_t order_seq; /* ties of time are broken by order of start */
static bool stopping;
static int stop_status;
static const struct sim_client *client;
static void (*on_signal[SIGNALS])(int signum);
static int signal_pending;
static struct sim_op *op_pool;

static struct sim_loop *sim_loop_of(struct loop *loop)
{
	return container_of(loop, struct sim_loop, loop);
}

/* ---- life ------------------------------------------------------------------------------------ */

int loops_start(const struct loop_config *config, struct err *err)
{
	if (!sim)
		sim_world_reset(1);
	if (config->data_loops < 1 || config->data_loops > LOOPS_MAX - 1)
		return err_set(err, -EINVAL, "%u data loops: there can be 1 to %d",
		        config->data_loops, LOOPS_MAX - 1);
	num_loops = config->data_loops + 1;
	loops = xcalloc(num_loops, sizeof(*loops));
	for (unsigned i = 0; i < num_loops; i++) {
		struct sim_loop *sl = &loops[i];

		sl->loop.id = i;
		sl->loop.now_ns = sim->now_ns;
		sl->loop.ready_tail = &sl->loop.ready;
		sl->loop.turn_end_tail = &sl->loop.turn_end;
		sl->lazy_tail = &sl->lazy;
		for (unsigned s = 0; s < SENDERS; s++)
			sl->in[s].tail = &sl->in[s].head;
	}
	loop_current_ = &loops[LOOP_CONTROL].loop;
	stopping = false;
	signal_pending = 0;
	memset(on_signal, 0, sizeof(on_signal));
	log_set_clock(loop_wall_ns);
	return 0;
}

void sim_loops_end(void)
{
	for (unsigned i = 0; i < num_loops; i++) {
		struct sim_op *so;

		while ((so = heap_pop(&loops[i].ops)))
			so->next = op_pool, op_pool = so;
		while ((so = loops[i].lazy)) {
			loops[i].lazy = so->next;
			so->next = op_pool, op_pool = so;
		}
		heap_free(&loops[i].ops);
		heap_free(&loops[i].timers);
	}
	sim_socks_end();
	while (op_pool) {
		struct sim_op *so = op_pool;

		op_pool = so->next;
		free(so);
	}
	free(loops);
	loops = NULL;
	num_loops = 0;
	loop_current_ = NULL;
}

int loops_run(void)
{
	while (!stopping)
		if (!sim_step())
			sim_fail("stuck", "no loop has anything to do, and none will");
	sim_loops_end();
	return stop_status;
}

void loops_stop(int status)
{
	BELLOWS_ASSERT(loop_is_control());
	stopping = true;
	stop_status = status;
}

unsigned loops_count(void)
{
	return num_loops;
}

struct loop *loop_get(unsigned id)
{
	BELLOWS_ASSERT(id < num_loops);
	return &loops[id].loop;
}

void loop_on_signal(int signum, void (*fn)(int signum))
{
	BELLOWS_ASSERT(loop_is_control() && signum > 0 && signum < SIGNALS);
	on_signal[signum] = fn;
}

void sim_signal(int signum)
{
	signal_pending = signum;
}

void loop_get_stats(unsigned id, struct loop_stats *out)
{
	*out = loops[id].stats;
}

void loop_get_thread(unsigned id, struct loop_thread *out)
{
	*out = (struct loop_thread){.tid = (int)id + 1};
}

void sim_set_client(const struct sim_client *c)
{
	client = c;
}

/* ---- time and chance ------------------------------------------------------------------------- */

uint64_t loop_clock_ns(void)
{
	sim->now_ns += 20;
	return sim->now_ns;
}

uint64_t loop_wall_ns(void)
{
	return WALL_START_NS + sim->now_ns;
}

uint64_t loop_random(struct loop *loop)
{
	(void)loop;
	return rng_next(&sim->misc);
}

void loop_random_bytes(void *out, size_t len)
{
	for (uint8_t *p = out; len > 0; p++, len--)
		*p = (uint8_t)rng_next(&sim->misc);
}

/* ---- messages and timers --------------------------------------------------------------------- */

void loop_send(struct loop *to, struct loop_task *task)
{
	struct sim_loop *sl = sim_loop_of(to);
	struct inbox *in = &sl->in[loop_current_ ? loop_current_->id : NO_LOOP];

	task->next = NULL;
	*in->tail = task;
	in->tail = &task->next;
	in->count++;
	sl->messages++;
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
	struct sim_loop *sl = sim_loop_of(loop);

	BELLOWS_ASSERT(loop == loop_current_);
	if (timer->priv[0])
		heap_remove(&sl->timers, timer->priv[0]);
	timer->deadline_ns = deadline_ns;
	heap_push(&sl->timers, deadline_ns, ++order_seq, timer, &timer->priv[0]);
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	BELLOWS_ASSERT(loop == loop_current_);
	if (timer->priv[0])
		heap_remove(&sim_loop_of(loop)->timers, timer->priv[0]);
}

bool loop_timer_active(const struct loop_timer *timer)
{
	return timer->priv[0] != 0;
}

/* ---- operations ------------------------------------------------------------------------------ */

struct sim_op *sim_op_new(struct loop *loop, struct loop_op *op, enum sim_op_kind kind)
{
	struct sim_op *so = op_pool;

	BELLOWS_ASSERT(loop == loop_current_);
	if (so)
		op_pool = so->next;
	else
		so = xcalloc(1, sizeof(*so));
	memset(so, 0, offsetof(struct sim_op, inline_iovs));
	so->op = op;
	so->loop = loop;
	so->kind = (uint8_t)kind;
	so->iovs = so->inline_iovs;
	op->priv = so;
	return so;
}

static void op_free(struct sim_op *so)
{
	if (so->iovs != so->inline_iovs)
		free(so->iovs);
	free(so->path);
	so->next = op_pool;
	op_pool = so;
}

void sim_op_start(struct sim_op *so, uint64_t delay_ns)
{
	so->seq = ++order_seq;
	so->due_ns = sim->now_ns + delay_ns;
	heap_push(&sim_loop_of(so->loop)->ops, so->due_ns, so->seq, so, &so->heap_at);
}

void sim_op_hurry(struct sim_op *so)
{
	struct sim_loop *sl = sim_loop_of(so->loop);

	if (so->heap_at)
		heap_remove(&sl->ops, so->heap_at);
	so->due_ns = sim->now_ns;
	heap_push(&sl->ops, so->due_ns, so->seq, so, &so->heap_at);
}

void sim_op_park(struct sim_op *so)
{
	so->due_ns = UINT64_MAX;
	heap_push(&sim_loop_of(so->loop)->ops, so->due_ns, so->seq, so, &so->heap_at);
}

void sim_op_take_iovs(struct sim_op *so, const struct iovec *iov, unsigned iovcnt)
{
	if (iovcnt > SIM_OP_IOVS)
		so->iovs = xcalloc(iovcnt, sizeof(*iov));
	memcpy(so->iovs, iov, iovcnt * sizeof(*iov));
	so->iovcnt = iovcnt;
	so->len = 0;
	for (unsigned i = 0; i < iovcnt; i++)
		so->len += iov[i].iov_len;
}

void loop_op_cancel(struct loop *loop, struct loop_op *op)
{
	struct sim_op *so = op->priv;

	BELLOWS_ASSERT(loop == loop_current_);
	if (!so || so->lazy_done)
		return;
	/* The kernel may be too late to stop it: then it ends as if nothing had been asked. */
	if (so->kind == OP_SOCKET || rng_one_in(&sim->sched, 2))
		so->cancelled = true;
	sim_op_hurry(so);
}

void sim_ops_each(void (*fn)(struct sim_op *so))
{
	for (uint64_t last = 0;;) {
		struct sim_op *next = NULL;

		for (unsigned i = 0; i < num_loops; i++)
			for (size_t k = 0; k < loops[i].ops.count; k++) {
				struct sim_op *so = loops[i].ops.items[k].of;

				if (so->seq > last && (!next || so->seq < next->seq))
					next = so;
			}
		if (!next)
			return;
		last = next->seq;
		fn(next);
	}
}

void sim_crash(bool power_cut)
{
	sim_ops_each(sim_file_op_tear);
	if (power_cut)
		sim_power_cut(sim->fate);
	sim->power_was_cut = power_cut;
	sim_event(SIM_LIFE_END, sim->life, power_cut ? 1 : 2, sim->persist_points);
	if (sim->forked)
		sim_exit(SIM_EXIT_CRASHED);
	sim_loops_end();
}

void sim_crash_asked(void)
{
	sim_crash(
	        sim->fate == FATE_DRAWN ? rng_below(&sim->disk, 3) != 0 : sim->fate != FATE_KILLED);
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* All that waits, or by chance only some of it. */
static uint64_t some_of(uint64_t count)
{
	uint64_t r = rng_next(&sim->sched);

	if (count <= 1 || (r & 7))
		return count;
	return 1 + (r >> 3) % count;
}

static bool run_ready(struct sim_loop *sl)
{
	struct loop *loop = &sl->loop;
	uint64_t budget = 1 + rng_below(&sim->sched, 128);
	bool any = false;

	while (loop->ready && budget-- > 0) {
		struct loop_task *task = loop->ready;

		loop->ready = task->next;
		if (!loop->ready)
			loop->ready_tail = &loop->ready;
		task->run(task);
		any = true;
	}
	return any;
}

static bool run_messages(struct sim_loop *sl)
{
	unsigned first;
	bool any = false;

	if (sl->messages == 0)
		return false;
	first = (unsigned)rng_below(&sim->sched, num_loops + 1);
	for (unsigned k = 0; k <= num_loops; k++) {
		unsigned sender = (first + k) % (num_loops + 1);
		struct inbox *in = &sl->in[sender == num_loops ? NO_LOOP : sender];
		uint64_t n = some_of(in->count);

		for (; n > 0; n--) {
			struct loop_task *task = in->head;

			in->head = task->next;
			if (!in->head)
				in->tail = &in->head;
			in->count--;
			sl->messages--;
			sim_event(SIM_MESSAGE, sl->loop.id, sender, 0);
			task->run(task);
			any = true;
		}
	}
	return any;
}

static bool run_timers(struct sim_loop *sl)
{
	uint64_t last = order_seq;
	bool any = false;

	/* A timer that a callback starts for now waits for the next turn. */
	while (heap_due(&sl->timers) <= sl->loop.now_ns && sl->timers.items[0].seq <= last) {
		struct loop_timer *timer = heap_pop(&sl->timers);

		sim_event(SIM_TIMER, sl->loop.id, sl->loop.now_ns - timer->deadline_ns, 0);
		timer->fire(timer);
		any = true;
	}
	return any;
}

static bool run_completions(struct sim_loop *sl)
{
	uint64_t budget = 1 + rng_below(&sim->sched, 64);
	bool any = false;

	while (heap_due(&sl->ops) <= sim->now_ns && budget-- > 0) {
		struct sim_op *so = heap_pop(&sl->ops);
		struct loop_op *op = so->op;
		int result = so->cancelled && sim_op_cancel_now(so) ? -ECANCELED : so->execute(so);

		if (result == -EINPROGRESS)
			continue; /* it has started itself again */
		if (so->lazy && result >= 0) {
			so->lazy_done = true;
			so->next = NULL;
			*sl->lazy_tail = so;
			sl->lazy_tail = &so->next;
			continue;
		}
		op->priv = NULL;
		op_free(so);
		op->done(op, result);
		any = true;
	}
	return any;
}

static void run_lazy(struct sim_loop *sl)
{
	struct sim_op *so = sl->lazy;

	sl->lazy = NULL;
	sl->lazy_tail = &sl->lazy;
	while (so) {
		struct sim_op *next = so->next;
		struct loop_op *op = so->op;
		int result = (int)so->len;

		op->priv = NULL;
		op_free(so);
		op->done(op, result);
		so = next;
	}
}

static bool run_turn_end(struct sim_loop *sl)
{
	struct loop *loop = &sl->loop;
	struct loop_task *task = loop->turn_end;
	bool any = task != NULL;

	loop->turn_end = NULL;
	loop->turn_end_tail = &loop->turn_end;
	while (task) {
		struct loop_task *next = task->next;

		task->run(task);
		task = next;
	}
	return any;
}

static void deliver_signal(void)
{
	int signum = signal_pending;

	signal_pending = 0;
	sim_event(SIM_SIGNAL, (uint64_t)signum, 0, 0);
	if (on_signal[signum])
		on_signal[signum](signum);
}

static void turn(struct sim_loop *sl)
{
	static bool (*const phases[])(struct sim_loop *) = {
	        run_messages, run_timers, run_completions};
	uint64_t r = rng_next(&sim->sched), started = sim->now_ns;
	bool any;

	sim_event(SIM_TURN, sl->loop.id, sl->loop.ready != NULL, sl->messages);
	if (++sim->turns == sim->crash_turn)
		sim_crash_asked();
	sl->stats.turns++;
	loop_current_ = &sl->loop;
	sl->loop.now_ns = sim->now_ns;
	any = run_ready(sl);
	for (unsigned i = 0; i < 3; i++)
		any |= phases[(r + i) % 3](sl);
	if (any)
		run_lazy(sl);
	if (client)
		client->turn(&sl->loop);
	if (sl->loop.id == LOOP_CONTROL && signal_pending)
		deliver_signal();
	any |= run_turn_end(sl);
	loop_current_ = &loops[LOOP_CONTROL].loop;
	sim->now_ns += 100 + (r >> 8) % 1000;
	*(any ? &sl->stats.busy_ns : &sl->stats.idle_ns) += sim->now_ns - started;

	/* Now and then the kernel takes the processor away from a loop. */
	if ((r >> 40) % 512 == 0) {
		uint64_t ns = (1ULL << rng_range(&sim->sched, 10, 25)) + (r >> 20) % 1024;

		sl->asleep_until = sim->now_ns + ns;
		sim_event(SIM_STALL, sl->loop.id, ns, 0);
	}
}

/* When the loop next has something to do; 0: now. */
static uint64_t wants(struct sim_loop *sl)
{
	uint64_t at;

	if (sl->loop.ready || sl->loop.turn_end || sl->messages ||
	        (signal_pending && sl->loop.id == LOOP_CONTROL)) {
		at = 0;
	} else {
		at = min_u64(heap_due(&sl->timers), heap_due(&sl->ops));
		if (client && at > sim->now_ns)
			at = min_u64(at, client->next_ns(sl->loop.id));
	}
	return at == UINT64_MAX ? at : max_u64(at, sl->asleep_until);
}

bool sim_step(void)
{
	unsigned can[LOOPS_MAX], count = 0;
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < num_loops; i++) {
		uint64_t at = wants(&loops[i]);

		if (at <= sim->now_ns)
			can[count++] = i;
		next = min_u64(next, at);
	}
	if (next == UINT64_MAX)
		return false;
	if (count == 0) {
		sim->now_ns = next;
		return true;
	}
	turn(&loops[can[count == 1 ? 0 : rng_below(&sim->sched, count)]]);
	return true;
}

bool sim_run_until(bool (*cond)(void *arg), void *arg, uint64_t limit_ns)
{
	uint64_t end = sim->now_ns + limit_ns;

	while (!cond(arg))
		if (sim->now_ns > end || !sim_step())
			return cond(arg);
	return true;
}

void sim_on_loop(unsigned id, void (*fn)(void *arg), void *arg)
{
	struct loop *before = loop_current_;

	loop_current_ = loop_get(id);
	loop_current_->now_ns = sim->now_ns;
	fn(arg);
	loop_current_ = before;
}
