/*
 * Planted defects: for each, seeds are run until one fails. A defect that no seed finds is a hole
 * in the workload or in the oracle.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/plant.h"
#include "sim/runner.h"

static const struct {
	const char *name, *text;
} plants[PLANT_COUNT] = {
#define X(name, text) {#name, text},
        PLANTS(X)
#undef X
};

/* Disks that betray their contract: the oracle must see what no layer here can. */
static const enum sim_fault rogues[] = {FAULT_LYING_FLUSH, FAULT_CORRUPT, FAULT_MISDIRECT};

#define DEFECTS (PLANT_COUNT - 1 + ARRAY_SIZE(rogues))

/* Of defects 0..DEFECTS-1: the planted ones, then the rogue disks. */
static const char *defect_name(size_t d)
{
	return d < PLANT_COUNT - 1 ? plants[d + 1].name
	                           : sim_fault_names[rogues[d - (PLANT_COUNT - 1)]];
}

static const char *defect_text(size_t d)
{
	return d < PLANT_COUNT - 1 ? plants[d + 1].text : "every fourth time, of each disk";
}

/* The number of seeds that it took; 0: not found. */
static uint64_t find(size_t d, uint64_t seeds)
{
	struct run_given given = {.ops = 600};

	if (d < PLANT_COUNT - 1) {
		given.plant = (uint32_t)d + 1;
	} else {
		given.rogue = 1 + (uint32_t)rogues[d - (PLANT_COUNT - 1)];
		given.without = WITHOUT_FAULTS;
	}
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		runner_reset(seed, &given);
		if (!runner_go())
			return seed;
	}
	return 0;
}

static bool show(size_t d, uint64_t seeds)
{
	uint64_t took = find(d, seeds);

	if (took)
		printf("found after %4lu seeds  %-28s %s\n                         %s: %.110s\n",
		        took, defect_name(d), defect_text(d), sim->failure_kind, sim->failure);
	else
		printf("NOT FOUND in %lu seeds  %-28s %s\n", seeds, defect_name(d), defect_text(d));
	fflush(stdout);
	return took != 0;
}

int planted_run(uint64_t seeds, const char *only, unsigned jobs)
{
	unsigned missed = 0, shown = 0;

#if !defined(BELLOWS_CHECK) || !BELLOWS_CHECK
	fprintf(stderr, "bellows-sim: this build has no planted defects: use a check build\n");
	return 2;
#endif
	/* Each worker takes every jobs-th defect. */
	for (unsigned j = 0; j < jobs; j++) {
		if (jobs > 1 && runner_fork() != 0)
			continue;
		runner_create();
		for (size_t d = j; d < DEFECTS; d += jobs) {
			if (only && strcasecmp(only, defect_name(d)) != 0)
				continue;
			shown++;
			missed += !show(d, seeds);
		}
		if (jobs > 1)
			_exit(missed ? 1 : 0);
	}
	for (int status; jobs > 1 && wait(&status) > 0;)
		missed += WEXITSTATUS(status) != 0;
	printf("%u planted defects, %s\n", only ? shown : (unsigned)DEFECTS,
	        missed ? "NOT all found" : "all found");
	return missed ? 1 : 0;
}
