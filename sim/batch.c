/*
 * Many seeds, by several workers; the first failure is shrunk and printed with its replay command.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim/runner.h"

/* What the workers share. */
struct board {
	uint64_t next;
	uint64_t deadline_ns;
	uint64_t failures, first_failed;
	uint64_t hash; /* of all runs, in any order */
	struct run_tally tally;
};

uint64_t wall_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static void add(uint64_t *to, uint64_t n)
{
	__atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

static void add_tally(struct run_tally *to, const struct run_tally *t)
{
	const uint64_t *from = (const uint64_t *)t;
	uint64_t *sum = (uint64_t *)to;

	for (size_t i = 0; i < sizeof(*t) / sizeof(uint64_t); i++)
		add(&sum[i], from[i]);
}

static const char *commit(void)
{
	static char text[96];
	FILE *f = popen("git describe --always --dirty 2>/dev/null", "r");

	if (!f || !fgets(text, sizeof(text), f))
		str_copy(text, sizeof(text), "unknown");
	if (f)
		pclose(f);
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static void print_failure(uint64_t seed, const struct run_given *given)
{
	char command[1024];

	replay_command(seed, given, command, sizeof(command));
	printf("FAILED  seed %lu, commit %s, life %u, op %u\n  %s: %s\n  replay: bellows-sim %s\n",
	        seed, commit(), sim->life ? sim->life - 1 : 0, run->next_op, sim->failure_kind,
	        sim->failure, command);
	fflush(stdout);
}

static void report(uint64_t seed, const struct run_given *given, bool shrinks)
{
	struct run_given small = *given;

	print_failure(seed, given);
	if (!shrinks)
		return;
	shrink(seed, &small);
	printf("shrunk:\n");
	print_failure(seed, &small);
}

/* One seed; the hash in *hash. */
static bool one(uint64_t seed, const struct run_given *given, uint64_t *hash)
{
	bool ok;

	runner_reset(seed, given);
	ok = runner_go();
	*hash = sim->hash;
	return ok;
}

static void work(const struct batch *batch, const struct run_given *given, struct board *board)
{
	for (;;) {
		uint64_t i = __atomic_fetch_add(&board->next, 1, __ATOMIC_RELAXED);
		uint64_t seed = batch->first + i, hash, again;
		bool ok;

		if ((batch->count && i >= batch->count) ||
		        (batch->seconds && wall_clock_ns() > board->deadline_ns) ||
		        (board->failures && !batch->keep_going))
			return;
		ok = one(seed, given, &hash);
		add_tally(&board->tally, &run->tally);
		add(&board->hash, rng_mix(hash ^ seed));
		if (batch->hashes)
			printf("%lu %016lx\n", seed, hash);
		if (!ok) {
			if (__atomic_fetch_add(&board->failures, 1, __ATOMIC_RELAXED) == 0)
				board->first_failed = seed;
			if (!batch->quiet)
				report(seed, given, !batch->keep_going);
		} else if (batch->twice) {
			one(seed, given, &again);
			if (again != hash) {
				printf("NOT DETERMINISTIC  seed %lu: %016lx, then %016lx\n", seed,
				        hash, again);
				add(&board->failures, 1);
			}
		}
	}
}

static void print_counts(const struct board *b, double seconds)
{
	const struct run_tally *t = &b->tally;

	printf("%lu runs, %lu lives, %lu requests (%lu by NBD), %lu sectors checked, %lu crashes, "
	       "%lu restarts, "
	       "%lu resizes, %lu creations, %lu deletions, %lu faults; %.1f simulated hours in "
	       "%.1f s; hash %016lx; %lu failed\n",
	        t->runs, t->lives, t->bios, t->by_nbd, t->checks, t->crashes, t->restarts,
	        t->resizes, t->creates, t->deletes, t->faults, (double)t->virtual_ns / 3600e9,
	        seconds, b->hash, b->failures);
}

int batch_run(const struct batch *batch, const struct run_given *given)
{
	struct board *board = mmap(
	        NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t from = wall_clock_ns();

	BELLOWS_ASSERT(board != MAP_FAILED);
	board->deadline_ns = from + batch->seconds * NSEC_PER_SEC;
	fflush(stdout);
	for (unsigned i = 0; i < batch->jobs; i++) {
		if (batch->jobs > 1 && runner_fork() != 0)
			continue;
		if (batch->jobs > 1 || i == 0) {
			runner_create();
			work(batch, given, board);
		}
		if (batch->jobs > 1) {
			fflush(stdout);
			_exit(0);
		}
	}
	while (batch->jobs > 1 && wait(NULL) > 0)
		;
	print_counts(board, (double)(wall_clock_ns() - from) / 1e9);
	return board->failures ? 1 : 0;
}

/* Of the lives, whatever else the machine does meanwhile. */
static uint64_t children_cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NSEC_PER_SEC +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * NSEC_PER_USEC;
}

int plain_run(uint64_t bios)
{
	struct run_given given = {.scenario = SCENARIO_PLAIN, .ops = (uint32_t)bios};
	uint64_t from, ns;

	runner_create();
	runner_reset(1, &given);
	from = children_cpu_ns();
	if (!runner_go()) {
		print_failure(1, &given);
		return 1;
	}
	ns = children_cpu_ns() - from;
	printf("%lu requests in %.2f s of processor time: %.0f per second, each checked\n",
	        sim->bios, (double)ns / 1e9, (double)sim->bios * 1e9 / (double)ns);
	return 0;
}
