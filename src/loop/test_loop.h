/*
 * test_loop.h: what the tests of this folder share. A test runs on the control loop and turns it
 * itself until what it waits for has come, so that it reads from top to bottom.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/uring.h"

struct test_op {
	struct loop_op op;
	int result;
	bool started, done;
};

static inline void test_op_done(struct loop_op *op, int result)
{
	struct test_op *t = container_of(op, struct test_op, op);

	assert_true(t->started);
	assert_false(t->done);
	t->result = result;
	t->done = true;
}

/* Ready to be given to a function that starts an operation. */
static inline struct loop_op *test_op_init(struct test_op *t)
{
	*t = (struct test_op){.op.done = test_op_done, .started = true};
	return &t->op;
}

static inline void test_turn(void)
{
	uring_rest(uring_of(loop_self()));
	uring_turn(uring_of(loop_self()));
}

#define turn_until(condition)                                                                      \
	do {                                                                                       \
		while (!(condition))                                                               \
			test_turn();                                                               \
	} while (0)

/* Some turns without sleeping, for what must not happen. */
static inline void test_turns(unsigned turns)
{
	struct uring_loop *l = uring_of(loop_self());

	for (unsigned i = 0; i < turns; i++) {
		uring_enter(l, false, 0);
		uring_turn(l);
	}
}

static inline int test_op_wait(struct test_op *t)
{
	/* Never from inside the function that starts it. */
	assert_false(t->done);
	turn_until(t->done);
	return t->result;
}

static inline void test_loops_start(unsigned data_loops, uint32_t spin_us)
{
	struct loop_config config = {.data_loops = data_loops, .spin_us = spin_us};
	struct err err = ERR_NONE;

	if (loops_start(&config, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void test_loops_end(void)
{
	loops_stop(7);
	assert_int_equal(loops_run(), 7);
	assert_null(loop_self());
}

/* A setup and teardown for most. */
static inline int setup_loops(void maybe_unused **state)
{
	test_loops_start(2, 20);
	return 0;
}

static inline int teardown_loops(void maybe_unused **state)
{
	test_loops_end();
	return 0;
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, setup_loops, teardown_loops)
