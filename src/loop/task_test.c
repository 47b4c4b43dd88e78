/* The ready queue, turn-end tasks and messages. With --bench: what a task costs. */
#include <pthread.h>

#include "loop/test_loop.h"

/* ---- ready queue ---------------------------------------------------------------------------- */

struct numbered {
	struct loop_task task;
	unsigned number;
	bool again;
};

static unsigned order[2048], order_count;

static void note(struct loop_task *task)
{
	struct numbered *n = container_of(task, struct numbered, task);

	order[order_count++] = n->number;
	if (n->again) {
		n->again = false;
		loop_defer(loop_self(), task);
	}
}

static void test_ready_is_fifo(void maybe_unused **state)
{
	struct numbered tasks[1000];

	order_count = 0;
	for (unsigned i = 0; i < 1000; i++) {
		tasks[i] = (struct numbered){.task.run = note, .number = i, .again = i % 2};
		loop_defer(loop_self(), &tasks[i].task);
	}
	assert_int_equal(order_count, 0);
	turn_until(order_count == 1500);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(order[i], i);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(order[1000 + i], 2 * i + 1);
}

static uint64_t spins;
static bool spin_stop;

static void spin_forever(struct loop_task *task)
{
	spins++;
	if (!spin_stop)
		loop_defer(loop_self(), task);
}

static bool timer_fired;

static void note_timer(struct loop_timer maybe_unused *timer)
{
	timer_fired = true;
}

static void answer_home(struct loop_task *task)
{
	struct numbered *n = container_of(task, struct numbered, task);

	if (loop_is_control()) {
		n->number++;
	} else {
		loop_send(loop_get(LOOP_CONTROL), task);
	}
}

/* Tasks that queue themselves for ever hold up neither messages nor timers, completions and
 * turn-end tasks. */
static void test_ready_starves_nothing(void maybe_unused **state)
{
	struct loop_task spinner[3] = {
	        {.run = spin_forever}, {.run = spin_forever}, {.run = spin_forever}};
	struct numbered message = {.task.run = answer_home};
	struct numbered end = {.task.run = note};
	struct loop_timer timer = {.fire = note_timer};
	struct loop *self = loop_self();
	int fds[2];
	struct test_op op;
	struct loop_file *file = NULL;

	spin_stop = false;
	timer_fired = false;
	order_count = 0;
	assert_int_equal(pipe(fds), 0);
	for (unsigned i = 0; i < 3; i++)
		loop_defer(self, &spinner[i]);
	loop_send(loop_get(1), &message.task);
	loop_timer_start(self, &timer, loop_now_ns(self) + NSEC_PER_MSEC);
	loop_defer_turn_end(self, &end.task);
	loop_file_open(self, test_op_init(&op), "/proc/self/exe", LOOP_FILE_READ_ONLY, &file);
	turn_until(message.number == 1 && timer_fired && op.done && order_count == 1);
	assert_int_equal(op.result, 0);
	loop_file_close(self, test_op_init(&op), file);
	test_op_wait(&op);
	spin_stop = true;
	turn_until(!self->ready);
	assert_true(spins > 3);
	close(fds[0]);
	close(fds[1]);
}

static struct numbered turn_end_twice;

static void defer_turn_end_again(struct loop_task *task)
{
	order[order_count++] = 100 + turn_end_twice.number;
	if (turn_end_twice.number++ == 0)
		loop_defer_turn_end(loop_self(), task);
}

/* After the turn's tasks, once, and queued by itself in the next turn. */
static void test_turn_end(void maybe_unused **state)
{
	struct loop *loop = loop_self();
	struct numbered tasks[2] = {
	        {.task.run = note, .number = 1}, {.task.run = note, .number = 2}};

	order_count = 0;
	turn_end_twice = (struct numbered){.task.run = defer_turn_end_again};
	loop_defer_turn_end(loop, &turn_end_twice.task);
	loop_defer(loop, &tasks[0].task);
	loop_defer(loop, &tasks[1].task);
	test_turn();
	assert_int_equal(order_count, 3);
	assert_int_equal(order[0], 1);
	assert_int_equal(order[1], 2);
	assert_int_equal(order[2], 100);
	test_turn();
	assert_int_equal(order_count, 4);
	assert_int_equal(order[3], 101);
}

/* ---- messages ------------------------------------------------------------------------------- */

#define SENDERS 4
#define LOOPS 4
#define MESSAGES 20000
#define BATCH 64

struct message {
	struct loop_task task;
	unsigned sender, loop;
	uint64_t sequence;
};

/* Per receiving loop, touched by that loop only. */
static struct {
	uint64_t next[SENDERS];
	uint64_t received;
} inboxes[LOOPS + 1] cache_aligned;
static _Atomic uint64_t received_total;

static void receive(struct loop_task *task)
{
	struct message *m = container_of(task, struct message, task);

	assert_int_equal(loop_self()->id, m->loop);
	assert_int_equal(m->sequence, inboxes[m->loop].next[m->sender]);
	inboxes[m->loop].next[m->sender]++;
	inboxes[m->loop].received++;
	free(m);
	atomic_fetch_add(&received_total, 1);
}

static void *send_messages(void *arg)
{
	unsigned sender = (unsigned)(uintptr_t)arg, seed = sender + 1;
	uint64_t sequence[LOOPS + 1] = {0};

	for (unsigned i = 0; i < MESSAGES; i++) {
		struct message *m = xcalloc(1, sizeof(*m));
		unsigned loop = i % LOOPS + 1;

		*m = (struct message){.task.run = receive,
		        .sender = sender,
		        .loop = loop,
		        .sequence = sequence[loop]++};
		loop_send(loop_get(loop), &m->task);
		/* Pauses of all lengths, so that loops fall asleep and are met while they do. */
		if (rand_r(&seed) % BATCH == 0)
			usleep((unsigned)rand_r(&seed) % 100);
	}
	return NULL;
}

/* None is lost, and those of a sender stay in order; the loops sleep at once when idle. */
static void test_messages_from_threads(void maybe_unused **state)
{
	pthread_t threads[SENDERS];

	test_loops_start(LOOPS, 0);
	for (uintptr_t i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, send_messages, (void *)i), 0);
	while (atomic_load(&received_total) < SENDERS * MESSAGES)
		usleep(1000);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	test_loops_end();
	for (unsigned i = 1; i <= LOOPS; i++)
		assert_int_equal(inboxes[i].received, SENDERS * MESSAGES / LOOPS);
}

struct ping {
	struct loop_task task;
	unsigned left;
	bool home;
};

static void bounce(struct loop_task *task)
{
	struct ping *p = container_of(task, struct ping, task);

	if (p->left == 0) {
		p->home = true;
		return;
	}
	p->left--;
	loop_send(loop_get((loop_self()->id + 1) % loops_count()), task);
}

/* One message goes round between loops that sleep between any two: each hop is a wake-up. */
static void run_bounces(uint32_t spin_us, unsigned pings_count, unsigned hops)
{
	struct ping pings[8] = {0};
	unsigned home = 0;

	test_loops_start(2, spin_us);
	for (unsigned i = 0; i < pings_count; i++) {
		pings[i] = (struct ping){.task.run = bounce, .left = hops - hops % 3};
		loop_send(loop_get(0), &pings[i].task);
	}
	while (home < pings_count) {
		test_turn();
		home = 0;
		for (unsigned i = 0; i < pings_count; i++)
			home += pings[i].home;
	}
	test_loops_end();
}

static void test_every_hop_wakes(void maybe_unused **state)
{
	run_bounces(0, 1, 3000);
	run_bounces(0, 8, 3000);
	run_bounces(5, 3, 3000);
}

/* ---- bench ---------------------------------------------------------------------------------- */

#define BENCH_TASKS 100000000ULL

static uint64_t bench_left;

static void bench_run(struct loop_task *task)
{
	if (bench_left > 0) {
		bench_left--;
		loop_defer(loop_self(), task);
	}
}

static void bench_depth(unsigned depth)
{
	struct loop_task tasks[128];
	uint64_t start_ns;
	struct loop_stats before, after;

	bench_left = BENCH_TASKS;
	loop_get_stats(0, &before);
	start_ns = loop_clock_ns();
	for (unsigned i = 0; i < depth; i++) {
		tasks[i].run = bench_run;
		loop_defer(loop_self(), &tasks[i]);
	}
	turn_until(!loop_self()->ready);
	loop_get_stats(0, &after);
	printf("depth %3u: %.2f ns per task, %llu io_uring_enter\n", depth,
	        (double)(loop_clock_ns() - start_ns) / (double)BENCH_TASKS,
	        (unsigned long long)(after.submits - before.submits));
}

static void bench_bounces(uint32_t spin_us)
{
	const unsigned hops = 99999;
	uint64_t start_ns = loop_clock_ns();

	run_bounces(spin_us, 1, hops);
	printf("message round three loops, spin %u us: %.0f ns per hop\n", spin_us,
	        (double)(loop_clock_ns() - start_ns) / hops);
}

static int bench(void)
{
	test_loops_start(1, 20);
	for (int i = 0; i < 2; i++) {
		bench_depth(1);
		bench_depth(128);
	}
	test_loops_end();
	bench_bounces(0);
	bench_bounces(50);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_ready_is_fifo, setup_loops, teardown_loops),
	        cmocka_unit_test_setup_teardown(
	                test_ready_starves_nothing, setup_loops, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_turn_end, setup_loops, teardown_loops),
	        cmocka_unit_test(test_messages_from_threads),
	        cmocka_unit_test(test_every_hop_wakes),
	};

	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
		return bench();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
