#include "sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct sim_world *sim;

static void *map_shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "bellows-sim: no %zu bytes of shared memory for the world\n",
		        bytes);
		exit(2);
	}
	return p;
}

void sim_world_create(void)
{
	if (sim)
		return;
	sim = map_shared(sizeof(*sim));
	for (unsigned i = 0; i <= SIM_FILES_MAX; i++) {
		struct sim_file *f = i < SIM_FILES_MAX ? &sim->files[i] : &sim->aside;

		f->current = map_shared(SIM_FILE_BYTES_MAX);
		f->stable = map_shared(SIM_FILE_BYTES_MAX);
		f->sectors = map_shared(SIM_FILE_SECTORS_MAX);
		f->sector_seq = map_shared(SIM_FILE_SECTORS_MAX * sizeof(uint32_t));
	}
}

void sim_world_reset(uint64_t seed)
{
	sim_world_create();
	for (unsigned i = 0; i < SIM_FILES_MAX; i++)
		sim_file_remove(&sim->files[i]);
	sim->seed = seed;
	sim->now_ns = NSEC_PER_SEC;
	sim->hash = rng_mix(seed);
	sim->events = sim->bios = sim->turns = 0;
	sim->life = 0;
	sim->forked = false;
	sim->sched = rng_stream(seed, 1);
	sim->disk = rng_stream(seed, 2);
	sim->misc = rng_stream(seed, 3);
	sim->persist_points = sim->crash_at = 0;
	sim->failure_kind[0] = sim->failure[0] = '\0';
}

void sim_exit(enum sim_exit how)
{
	fflush(stdout);
	_exit((int)how);
}

void sim_fail(const char *kind, const char *fmt, ...)
{
	va_list ap;

	str_copy(sim->failure_kind, sizeof(sim->failure_kind), kind);
	va_start(ap, fmt);
	vsnprintf(sim->failure, sizeof(sim->failure), fmt, ap);
	va_end(ap);
	if (sim->forked)
		sim_exit(SIM_EXIT_FAILED);
	fprintf(stderr, "simulation with seed %lu failed: %s: %s\n", sim->seed, kind, sim->failure);
	abort();
}

static const char *const event_texts[SIM_EVENT_COUNT] = {
#define X(name, text) text,
        SIM_EVENTS(X)
#undef X
};

void sim_event_print(enum sim_event event, uint64_t a, uint64_t b, uint64_t c)
{
	printf("%4u %13.6f ms  ", sim->life, (double)sim->now_ns / 1e6);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	printf(event_texts[event], a, b, c);
#pragma GCC diagnostic pop
	putchar('\n');
}
