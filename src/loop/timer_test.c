/* Timers: order, stopping and moving, checked against a plain array. */
#include "loop/test_loop.h"

#define TIMERS 1000

struct test_timer {
	struct loop_timer timer;
	uint64_t want_ns; /* 0: shall not fire */
	unsigned fired;
};

static struct test_timer timers[TIMERS];
static uint64_t last_deadline_ns;
static unsigned fired_total;

static void fire(struct loop_timer *timer)
{
	struct test_timer *t = container_of(timer, struct test_timer, timer);

	assert_false(loop_timer_active(timer));
	assert_int_equal(timer->deadline_ns, t->want_ns);
	/* Never early, and in order. */
	assert_true(loop_now_ns(loop_self()) >= t->want_ns);
	assert_true(t->want_ns >= last_deadline_ns);
	last_deadline_ns = t->want_ns;
	t->fired++;
	fired_total++;
}

static void start(struct test_timer *t, uint64_t deadline_ns)
{
	loop_timer_start(loop_self(), &t->timer, deadline_ns);
	assert_true(loop_timer_active(&t->timer));
	t->want_ns = deadline_ns;
}

static void reset(void)
{
	memset(timers, 0, sizeof(timers));
	for (unsigned i = 0; i < TIMERS; i++)
		timers[i].timer.fire = fire;
	last_deadline_ns = 0;
	fired_total = 0;
}

static uint64_t random_deadline(uint64_t now_ns)
{
	return now_ns + loop_random(loop_self()) % (20 * NSEC_PER_MSEC);
}

/* Random starts, moves and stops; then exactly those that are left fire, in order. */
static void test_random(void maybe_unused **state)
{
	struct loop *loop = loop_self();
	unsigned expected = 0;

	reset();
	for (unsigned i = 0; i < 20 * TIMERS; i++) {
		struct test_timer *t = &timers[loop_random(loop) % TIMERS];

		if (loop_random(loop) % 3) {
			start(t, random_deadline(loop_now_ns(loop)));
		} else {
			loop_timer_stop(loop, &t->timer);
			assert_false(loop_timer_active(&t->timer));
			t->want_ns = 0;
		}
	}
	for (unsigned i = 0; i < TIMERS; i++)
		expected += loop_timer_active(&timers[i].timer);
	turn_until(fired_total == expected);
	for (unsigned i = 0; i < TIMERS; i++)
		assert_int_equal(timers[i].fired, timers[i].want_ns != 0);
	test_turns(10);
	assert_int_equal(fired_total, expected);
}

/* Deadlines in the past and equal ones all fire; stopping what is not active does nothing. */
static void test_past_and_equal(void maybe_unused **state)
{
	struct loop *loop = loop_self();
	uint64_t now_ns = loop_now_ns(loop);

	reset();
	for (unsigned i = 0; i < TIMERS; i++)
		start(&timers[i], i % 2 ? 1 : now_ns);
	assert_int_equal(fired_total, 0);
	turn_until(fired_total == TIMERS);
	loop_timer_stop(loop, &timers[0].timer);
	assert_false(loop_timer_active(&timers[0].timer));
}

/* From inside a timer: stopping another that has expired as well, and starting itself again. */
static struct test_timer victim, again;

static void stop_victim(struct loop_timer *timer)
{
	struct test_timer *t = container_of(timer, struct test_timer, timer);

	t->fired++;
	loop_timer_stop(loop_self(), &victim.timer);
}

static void fire_again(struct loop_timer *timer)
{
	/* For ever in the past, which must not keep the turn from ending. */
	again.fired++;
	loop_timer_start(loop_self(), timer, 1);
}

static void test_from_inside(void maybe_unused **state)
{
	struct loop *loop = loop_self();
	struct test_timer killer = {.timer.fire = stop_victim};

	reset();
	victim = (struct test_timer){.timer.fire = fire};
	again = (struct test_timer){.timer.fire = fire_again};
	start(&killer, 1);
	start(&victim, 2);
	turn_until(killer.fired == 1);
	test_turns(3);
	assert_int_equal(victim.fired, 0);

	start(&again, 1);
	start(&timers[0], 2);
	test_turns(1);
	assert_true(again.fired > 0);
	/* The one behind it has its turn when the other is stopped. */
	loop_timer_stop(loop, &again.timer);
	turn_until(timers[0].fired == 1);
}

/* Asleep until the timer, not polling. */
static void test_sleeps_until_deadline(void maybe_unused **state)
{
	struct loop *loop = loop_self();
	struct loop_stats before, after;
	uint64_t start_ns = loop_clock_ns();

	reset();
	loop_get_stats(LOOP_CONTROL, &before);
	start(&timers[0], start_ns + 50 * NSEC_PER_MSEC);
	start(&timers[1], start_ns + 100 * NSEC_PER_MSEC);
	turn_until(fired_total == 2);
	loop_get_stats(LOOP_CONTROL, &after);
	assert_true(loop_clock_ns() - start_ns >= 100 * NSEC_PER_MSEC);
	assert_true(loop_now_ns(loop) <= loop_clock_ns());
	assert_in_range(after.sleeps - before.sleeps, 1, 10);
	assert_true(after.idle_ns - before.idle_ns >= 50 * NSEC_PER_MSEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        loop_test(test_random),
	        loop_test(test_past_and_equal),
	        loop_test(test_from_inside),
	        loop_test(test_sleeps_until_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
