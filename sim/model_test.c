/* The oracle knows what a read may return, and fails what it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sim/runner.h"

static struct model *fresh(bool write_cache)
{
	struct model *m;

	runner_reset(1, &(struct run_given){.scenario = SCENARIO_EMPTY});
	m = model_add("disk", 8, true);
	m->kept = MODEL_KEPT;
	m->write_cache = write_cache;
	m->repeatable = true;
	m->reads_from = SEQ_NEVER;
	return m;
}

static void write_value(struct model *m, uint32_t value, enum model_outcome outcome)
{
	model_write_end(m, 0, 1, model_write_start(m, 0, 1, value), outcome);
}

static void flush(struct model *m)
{
	model_flush_end(m, ++run->seq);
}

/* Whether a read that starts now may return it; in a child, as it may fail the run. */
static bool may_read(struct model *m, uint32_t value)
{
	uint8_t bytes[MODEL_SECTOR_BYTES];
	int status;
	pid_t pid;

	model_fill(m, 0, value, bytes);
	pid = fork();
	if (pid == 0) {
		sim->forked = true;
		model_read_end(m, 0, 1, ++run->seq, bytes, false);
		_exit(SIM_EXIT_DONE);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	sim->forked = false;
	return WEXITSTATUS(status) == SIM_EXIT_DONE;
}

static void only_the_last_write_is_legal(void **state)
{
	struct model *m = fresh(true);

	(void)state;
	assert_true(may_read(m, 0));
	write_value(m, 1, WRITE_DONE);
	assert_true(may_read(m, 1));
	assert_false(may_read(m, 0));
}

static void writes_at_the_same_time_may_end_either_way(void **state)
{
	struct model *m = fresh(true);
	uint32_t a = model_write_start(m, 0, 1, 1), b = model_write_start(m, 0, 1, 2);

	(void)state;
	assert_true(may_read(m, 0) && may_read(m, 1) && may_read(m, 2));
	model_write_end(m, 0, 1, b, WRITE_DONE);
	assert_true(may_read(m, 1) && may_read(m, 2));
	assert_false(may_read(m, 0));
	model_write_end(m, 0, 1, a, WRITE_DONE);
	assert_true(may_read(m, 1) && may_read(m, 2));
}

static void a_failed_write_may_have_happened(void **state)
{
	struct model *m = fresh(true);

	(void)state;
	write_value(m, 1, WRITE_DONE);
	write_value(m, 2, WRITE_MAYBE);
	assert_true(may_read(m, 1) && may_read(m, 2));
	write_value(m, 3, WRITE_DONE);
	assert_false(may_read(m, 1) || may_read(m, 2));
}

static void a_power_cut_brings_back_what_was_not_flushed(void **state)
{
	struct model *m = fresh(true);

	(void)state;
	write_value(m, 1, WRITE_DONE);
	flush(m);
	write_value(m, 2, WRITE_DONE);
	write_value(m, 3, WRITE_DONE);
	model_crash(m, true);
	assert_false(may_read(m, 0));
	assert_true(may_read(m, 1) && may_read(m, 2) && may_read(m, 3));
}

static void fua_and_disks_without_a_cache_are_durable(void **state)
{
	struct model *m = fresh(true);

	(void)state;
	write_value(m, 1, WRITE_DURABLE);
	model_crash(m, true);
	assert_false(may_read(m, 0));
	m = fresh(false);
	write_value(m, 1, WRITE_DONE);
	model_crash(m, true);
	assert_false(may_read(m, 0));
}

static void a_kill_loses_only_what_was_in_flight(void **state)
{
	struct model *m = fresh(true);

	(void)state;
	write_value(m, 1, WRITE_DONE);
	model_write_start(m, 0, 1, 2);
	model_crash(m, false);
	assert_false(may_read(m, 0));
	assert_true(may_read(m, 1) && may_read(m, 2));
}

static void what_was_seen_after_a_power_cut_stays(void **state)
{
	struct model *m = fresh(true);
	uint8_t bytes[MODEL_SECTOR_BYTES];

	(void)state;
	write_value(m, 1, WRITE_DONE);
	write_value(m, 2, WRITE_DONE);
	model_crash(m, true);
	model_fill(m, 0, 1, bytes);
	model_read_end(m, 0, 1, ++run->seq, bytes, true);
	assert_true(may_read(m, 1));
	assert_false(may_read(m, 2) || may_read(m, 0));
}

static void what_was_seen_of_an_unfinished_write_may_go_back(void **state)
{
	struct model *m = fresh(false);
	uint8_t bytes[MODEL_SECTOR_BYTES];

	(void)state;
	write_value(m, 1, WRITE_DONE);
	model_write_start(m, 0, 1, 2);
	model_crash(m, false);
	model_fill(m, 0, 2, bytes);
	model_read_end(m, 0, 1, ++run->seq, bytes, true);
	assert_true(may_read(m, 2));
	assert_false(may_read(m, 1));
	model_crash(m, true);
	assert_true(may_read(m, 1) && may_read(m, 2));
}

/* More at a time than are remembered: one that is still in flight is not taken for over. */
static void what_is_in_flight_among_many_may_still_come(void **state)
{
	struct model *m;
	uint32_t slow[2];

	(void)state;
	for (unsigned first_ends = 0; first_ends < 2; first_ends++) {
		m = fresh(false);
		slow[0] = model_write_start(m, 0, 1, 100);
		slow[1] = model_write_start(m, 0, 1, 101);
		for (uint32_t i = 0; i < 20; i++)
			write_value(m, i + 1, WRITE_MAYBE);
		model_write_end(m, 0, 1, slow[first_ends], WRITE_DONE);
		write_value(m, 50, WRITE_DONE);
		model_write_end(m, 0, 1, slow[!first_ends], WRITE_DONE);
		assert_true(may_read(m, 50));
		assert_true(may_read(m, 101 - first_ends));
		assert_false(may_read(m, 0));
	}
}

static void data_of_another_place_is_never_legal(void **state)
{
	struct model *m = fresh(true);
	uint8_t bytes[2 * MODEL_SECTOR_BYTES];

	(void)state;
	write_value(m, 1, WRITE_DONE);
	model_fill(m, 1, 1, bytes);
	assert_false(model_holds(m, 0, 1, bytes));
	model_fill(m, 0, 1, bytes);
	bytes[200] ^= 1;
	assert_false(model_holds(m, 0, 1, bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(only_the_last_write_is_legal),
	        cmocka_unit_test(writes_at_the_same_time_may_end_either_way),
	        cmocka_unit_test(a_failed_write_may_have_happened),
	        cmocka_unit_test(a_power_cut_brings_back_what_was_not_flushed),
	        cmocka_unit_test(fua_and_disks_without_a_cache_are_durable),
	        cmocka_unit_test(a_kill_loses_only_what_was_in_flight),
	        cmocka_unit_test(what_was_seen_after_a_power_cut_stays),
	        cmocka_unit_test(what_was_seen_of_an_unfinished_write_may_go_back),
	        cmocka_unit_test(what_is_in_flight_among_many_may_still_come),
	        cmocka_unit_test(data_of_another_place_is_never_legal),
	};

	runner_create();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
