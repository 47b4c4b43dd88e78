/*
 * world.h: what outlives a simulated daemon: time, chance, disks, the oracle's knowledge.
 *
 * Invariants
 *  - A daemon's life runs in a forked child. All that must survive its crash stands in the world,
 *    which is mapped shared at the same address in parent and children; the heap, the core's
 *    globals and the loops die with the child, as they do with a real daemon.
 *  - Everything that happens is a function of world->seed: nothing reads a clock, an address or the
 *    environment. Every event is folded into world->hash, so two runs did the same if and only if
 *    their hashes are equal.
 */
#pragma once

#include "base/base.h"
#include "sim/disk.h"
#include "sim/rng.h"

/* What can happen, for the hash and the trace. */
#define SIM_EVENTS(X)                                                                              \
	X(TURN, "turn of loop %lu (ready %lu, messages %lu)")                                      \
	X(MESSAGE, "message to loop %lu from %lu")                                                 \
	X(TIMER, "timer on loop %lu, %lu ns late")                                                 \
	X(STALL, "loop %lu is not scheduled for %lu ns")                                           \
	X(FILE_START, "file %lu: operation %lu starts at byte %lu")                                \
	X(FILE_DONE, "file %lu: operation %lu ends with %ld")                                      \
	X(FILE_FAULT, "file %lu: fault %lu at byte %lu")                                           \
	X(FILE_OPEN, "file %lu opened, flags %lu, %ld")                                            \
	X(SOCK, "socket %lu: %lu bytes, step %lu")                                                 \
	X(SIGNAL, "signal %lu")                                                                    \
	X(OP_START, "op %lu starts: kind %lu, on loop %lu")                                        \
	X(OP_BIO, "op %lu: offset %lu blocks, %lu blocks")                                         \
	X(OP_END, "op %lu ends with %ld, kind %lu")                                                \
	X(LIFE, "life %lu begins (%lu data loops, %lu files)")                                     \
	X(LIFE_END, "life %lu ends: %lu at persistence point %lu")                                 \
	X(SECTOR_LOST, "file %lu: sector %lu loses its unflushed content, flags %lu")              \
	X(CREATE, "bdev %lu created: %ld, %lu blocks")                                             \
	X(RESIZE, "bdev %lu resized: %lu to %lu blocks")                                           \
	X(NOTE, "note %lu %lu %lu")

enum sim_event {
#define X(name, text) SIM_##name,
	SIM_EVENTS(X)
#undef X
	SIM_EVENT_COUNT
};

#define SIM_FAILURE_TEXT 2048

struct sim_world {
	uint64_t seed;
	uint64_t now_ns; /* virtual time, goes on from life to life */
	uint64_t hash;
	uint64_t events;
	uint64_t bios;  /* completed by the workload */
	uint64_t turns; /* of all loops */
	uint32_t life;  /* counts up from 0 */
	bool tracing;
	bool forked; /* a life runs in this process, whose end is reported by exit status */

	struct rng sched; /* turns, messages, chunks */
	struct rng disk;  /* latency, crash outcomes, rates of faults */
	struct rng misc;  /* loop_random and loop_random_bytes */

	/* Every change of what a disk holds is a persistence point, numbered from 1 in each life.
	 * The daemon dies when this one comes; 0: never. */
	bool power_was_cut; /* at the last crash */
	uint64_t persist_points;
	uint64_t crash_at;
	uint64_t crash_turn; /* the same by turns of loops, counted over all lives */
	enum sim_fate fate;

	struct sim_file files[SIM_FILES_MAX];
	struct sim_file aside; /* a disk that is not plugged in */

	char failure_kind[64];
	char failure[SIM_FAILURE_TEXT];
};

extern struct sim_world *sim;

/* Maps a world, once per process, before it forks. */
void sim_world_create(void);
/* A new world as the seed alone determines it. */
void sim_world_reset(uint64_t seed);

/* The run has failed: kind is a short constant by which two failures are recognised as the same.
 * Ends the life; in a process that is no forked life prints and aborts. */
_Noreturn void sim_fail(const char *kind, const char *fmt, ...) printf_like(2, 3);

enum sim_exit {
	SIM_EXIT_DONE = 0,
	SIM_EXIT_CRASHED = 40,
	SIM_EXIT_FAILED = 41,
};

/* Ends this process as a life does. */
_Noreturn void sim_exit(enum sim_exit how);

/* Allocations that have not been freed, in builds without a sanitizer; else 0. */
uint64_t sim_live_allocations(void);
uint64_t sim_allocations(void);

void sim_event_print(enum sim_event event, uint64_t a, uint64_t b, uint64_t c);

static inline uint64_t sim_seconds_since(uint64_t ns)
{
	return (sim->now_ns - ns) / NSEC_PER_SEC;
}

static inline void sim_event(enum sim_event event, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t h = sim->hash ^ (uint64_t)event;

	h = (h ^ a) * 0x9e3779b97f4a7c15ULL;
	h = ((h >> 29) ^ h ^ b) * 0xbf58476d1ce4e5b9ULL;
	h = ((h >> 31) ^ h ^ c) * 0x94d049bb133111ebULL;
	sim->hash = h ^ (h >> 30) ^ sim->now_ns;
	sim->events++;
	if (unlikely(sim->tracing))
		sim_event_print(event, a, b, c);
}
