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

/* The number of seeds that it took; 0: not found. */
static uint64_t find(unsigned plant, uint64_t seeds)
{
	struct run_given given = {.ops = 600, .plant = plant};

	for (uint64_t seed = 1; seed <= seeds; seed++) {
		runner_reset(seed, &given);
		if (!runner_go())
			return seed;
	}
	return 0;
}

static bool show(unsigned plant, uint64_t seeds)
{
	uint64_t took = find(plant, seeds);

	if (took)
		printf("found after %4lu seeds  %-28s %s\n                         %s: %.110s\n",
		        took, plants[plant].name, plants[plant].text, sim->failure_kind,
		        sim->failure);
	else
		printf("NOT FOUND in %lu seeds  %-28s %s\n", seeds, plants[plant].name,
		        plants[plant].text);
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
		if (jobs > 1 && fork() != 0)
			continue;
		runner_create();
		for (unsigned p = 1 + j; p < PLANT_COUNT; p += jobs) {
			if (only && strcasecmp(only, plants[p].name) != 0)
				continue;
			shown++;
			missed += !show(p, seeds);
		}
		if (jobs > 1)
			_exit(missed ? 1 : 0);
	}
	for (int status; jobs > 1 && wait(&status) > 0;)
		missed += WEXITSTATUS(status) != 0;
	printf("%u planted defects, %s\n", only ? shown : PLANT_COUNT - 1,
	        missed ? "NOT all found" : "all found");
	return missed ? 1 : 0;
}
