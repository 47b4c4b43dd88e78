/*
 * runner.h: running seeds: one, many, shrunk, exhaustively, with planted defects.
 */
#pragma once

#include <sys/types.h>

#include "sim/run.h"

/* Before everything else, once per process. */
void runner_create(void);
void runner_reset(uint64_t seed, const struct run_given *given);
/* False: it has failed, sim->failure says how. */
bool runner_go(void);

/* A child that ends when its parent does, however that ends. */
pid_t runner_fork(void);

/* Runs seeds and prints the first failure, shrunk, with the command that replays it. */
struct batch {
	uint64_t first, count;
	uint64_t seconds; /* 0: until count */
	unsigned jobs;
	bool quiet, keep_going, twice, hashes;
};
int batch_run(const struct batch *batch, const struct run_given *given);

/* Finds a smaller run that fails in the same way; given becomes it. */
void shrink(uint64_t seed, struct run_given *given);

int exhaustive_run(bool quick);
/* One attempt of it, traced. */
int exhaustive_one(const struct run_given *given);
int planted_run(uint64_t seeds, const char *only, unsigned jobs);
int plain_run(uint64_t bios);

/* "--seed 12 --skip 0-3,7" that runs the same again. */
void replay_command(uint64_t seed, const struct run_given *given, char *out, size_t size);
uint64_t wall_clock_ns(void); /* of the machine, for figures only */
