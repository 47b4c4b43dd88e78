/*
 * Every crash point of every script, and of what follows each of them: a first crash at each point
 * where the disks change, a second one at each such point of the life after it; each with several
 * fates of what is unflushed. And one crash at every single turn of a loop.
 */
#include <stdio.h>

#include "sim/runner.h"
#include "sim/script.h"

struct tried {
	uint64_t points, pairs, turns, failures;
};

static bool attempt(const struct run_given *given, struct tried *t)
{
	char command[256];

	runner_reset(given->script + 1, given);
	if (runner_go())
		return true;
	if (t->failures++ == 0)
		printf("FAILED  script '%s', crash points %lu and %lu, turn %lu, fate %u\n  %s: "
		       "%s\n",
		        scripts[given->script].name, given->crash_at[0], given->crash_at[1],
		        given->crash_turn, given->fate, sim->failure_kind, sim->failure);
	snprintf(command, sizeof(command), "--script %u --crash %lu,%lu --crash-turn %lu --fate %u",
	        given->script, given->crash_at[0], given->crash_at[1], given->crash_turn,
	        given->fate);
	if (t->failures < 10)
		printf("  replay: bellows-sim %s\n", command);
	return false;
}

/* The second crash: at each point of the life after the first. */
static void second(struct run_given given, struct tried *t)
{
	uint64_t points = run->points_of_life[1];

	for (uint64_t j = 1; j <= points; j++) {
		given.crash_at[1] = j;
		t->pairs++;
		attempt(&given, t);
	}
}

static void points_of(struct run_given given, bool quick, struct tried *t)
{
	uint64_t points;

	given.crash_at[0] = given.crash_at[1] = 0;
	if (!attempt(&given, t))
		return;
	points = run->points_of_life[0];
	for (uint64_t i = 1; i <= points; i++) {
		given.crash_at[0] = i;
		given.crash_at[1] = 0;
		t->points++;
		if (attempt(&given, t) && !quick)
			second(given, t);
	}
}

static void turns_of(struct run_given given, struct tried *t)
{
	uint64_t turns;

	given.crash_at[0] = given.crash_at[1] = 0;
	if (!attempt(&given, t))
		return;
	turns = sim->turns;
	for (given.crash_turn = 1; given.crash_turn <= turns; given.crash_turn++) {
		t->turns++;
		attempt(&given, t);
	}
}

int exhaustive_run(bool quick)
{
	struct tried all = {0};

	runner_create();
	for (unsigned i = 0; i < num_scripts; i++) {
		struct tried t = {0};
		struct run_given given = {.scenario = SCENARIO_SCRIPT, .script = i};

		given.ops = script_steps(i);
		for (given.fate = 1; given.fate <= (quick ? 2U : FATES); given.fate++)
			points_of(given, quick, &t);
		given.fate = FATE_DRAWN;
		if (!quick)
			turns_of(given, &t);
		printf("%-45s %5lu points, %6lu pairs, %5lu turns, %lu failed\n", scripts[i].name,
		        t.points, t.pairs, t.turns, t.failures);
		fflush(stdout);
		all.points += t.points;
		all.pairs += t.pairs;
		all.turns += t.turns;
		all.failures += t.failures;
	}
	printf("%lu crash points: %lu single, %lu pairs, %lu turns; %lu failed\n",
	        all.points + all.pairs + all.turns, all.points, all.pairs, all.turns, all.failures);
	return all.failures ? 1 : 0;
}

int exhaustive_one(const struct run_given *given)
{
	struct tried t = {0};

	runner_create();
	sim->tracing = true;
	return attempt(given, &t) ? 0 : 1;
}
