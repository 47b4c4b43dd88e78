/*
 * A run: lives of the daemon in forked children, one after the other, until its operations are done
 * and the last life has ended in order.
 */
#include "sim/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/plant.h"
#include "sim/runner.h"
#include "sim/script.h"

#define LIVES_MAX 200
#define CPU_SECONDS_MAX 60 /* of one life: beyond, it spins without the simulator's knowing */

struct run *run;
static int stderr_of_life = -1;

/* The first line that is logged makes the C library allocate something for good. */
static void log_prime(void)
{
	int before = dup(STDERR_FILENO);

	sim_world_reset(0);
	log_set_clock(loop_wall_ns);
	dup2(stderr_of_life, STDERR_FILENO);
	log_error("sim", "first line");
	dup2(before, STDERR_FILENO);
	close(before);
}

void runner_create(void)
{
	sim_world_create();
	run = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	BELLOWS_ASSERT(run != MAP_FAILED);
	models_create();
	stderr_of_life = memfd_create("stderr", MFD_CLOEXEC);
	BELLOWS_ASSERT(stderr_of_life >= 0);
	log_prime();
	runner_reset(0, &(struct run_given){.scenario = SCENARIO_EMPTY});
	if (!runner_go())
		fprintf(stderr, "bellows-sim: an empty life fails: %s\n", sim->failure);
}

void runner_reset(uint64_t seed, const struct run_given *given)
{
	struct rng rng = rng_stream(seed, 20);
	bool tracing = sim && sim->tracing;

	sim_world_reset(seed);
	sim->tracing = tracing;
	models_reset();
	misplace_reset();
	memset(run->nodes, 0, sizeof(run->nodes));
	run->given = *given;
	run->data_loops = (unsigned)rng_range(&rng, 1, 4);
	run->depth = 1U << rng_range(&rng, 0, 5);
	run->step_max_blocks = 1U << rng_range(&rng, 3, 7);
	run->faulty = rng_one_in(&rng, 3);
	run->nbd = given->scenario == SCENARIO_RANDOM && rng_one_in(&rng, 3);
	if (given->scenario == SCENARIO_SCRIPT) {
		run->data_loops = 1;
		run->depth = 32;
		run->faulty = false;
	}
	if (given->scenario == SCENARIO_PLAIN) {
		run->data_loops = 2;
		run->depth = 32;
		run->step_max_blocks = 8;
		run->faulty = false;
	}
	run->seq = run->last_model = run->next_op = run->overflows = 0;
	run->last_node = run->last_value = 0;
	run->refuse_persist = run->persist_refused = false;
	run->resized = run->config_valid = run->from_config = false;
	memset(run->points_of_life, 0, sizeof(run->points_of_life));
	run->life_started = run->clean_end = false;
	run->tally = (struct run_tally){.runs = 1};
	if (given->scenario == SCENARIO_PLAIN)
		stack_draw_plain();
	else if (given->scenario == SCENARIO_RANDOM)
		stack_draw();
	else if (given->scenario == SCENARIO_SCRIPT)
		script_draw_stack();
}

/* One life in four dies wherever it is then: early, when it is built, or in a resize. */
static void draw_crash(void)
{
	struct rng rng = rng_stream(sim->seed ^ sim->life, 50);
	uint64_t in = 1 + rng_below(&rng, 1ULL << rng_below(&rng, 11));

	switch (rng_below(&rng, 8)) {
	case 0:
		sim->crash_at = in;
		return;
	case 1:
		sim->crash_turn = sim->turns + in * 8;
		return;
	default:
		return;
	}
}

_Noreturn static void live(void)
{
	sim->forked = true;
	sim->persist_points = 0;
	sim->crash_at =
	        sim->life < ARRAY_SIZE(run->given.crash_at) ? run->given.crash_at[sim->life] : 0;
	sim->crash_turn = sim->life == 0 ? run->given.crash_turn : 0;
	sim->fate = run->given.fate;
	if (run->given.scenario == SCENARIO_RANDOM && !(run->given.without & WITHOUT_CRASHES) &&
	        !run->misplaced)
		draw_crash();
	if (sim->fate == FATE_HALF_2)
		rng_next(&sim->disk);
#if BELLOWS_CHECK
	bellows_plant = run->given.plant;
#endif
	log_set_print_level(sim->tracing ? LOG_NOTICE : LOG_ERROR);
	if (!sim->tracing)
		dup2(stderr_of_life, STDERR_FILENO);
	setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = CPU_SECONDS_MAX}, NULL);
	life_run();
}

/* The last lines that the life has written, for an assertion's text. */
static void take_stderr(void)
{
	char text[1024];
	off_t size = lseek(stderr_of_life, 0, SEEK_END);
	off_t from = size > (off_t)sizeof(text) - 1 ? size - ((off_t)sizeof(text) - 1) : 0;
	ssize_t n = pread(stderr_of_life, text, sizeof(text) - 1, from);

	text[n > 0 ? n : 0] = '\0';
	str_copy(sim->failure, sizeof(sim->failure), text);
}

/* What kind of failure an abort was: the asserted expression, so that shrinking keeps to it. */
static void name_abort(int signum)
{
	const char *at = strstr(sim->failure, "assert");

	if (signum == SIGPROF)
		str_copy(sim->failure_kind, sizeof(sim->failure_kind), "spins");
	else if (signum == SIGABRT)
		snprintf(sim->failure_kind, sizeof(sim->failure_kind), "abort: %.50s",
		        at ? at : sim->failure);
	else
		snprintf(sim->failure_kind, sizeof(sim->failure_kind), "signal %d", signum);
}

pid_t runner_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(2); /* it ended before it was asked about */
	}
	return pid;
}

static bool one_life(void)
{
	int status;
	pid_t pid;

	fflush(stdout);
	if (ftruncate(stderr_of_life, 0) || lseek(stderr_of_life, 0, SEEK_SET))
		return false;
	pid = runner_fork();
	if (pid < 0) {
		fprintf(stderr, "bellows-sim: fork: %s\n", strerror(errno));
		exit(2);
	}
	if (pid == 0)
		live();
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	run->tally.lives++;
	if (sim->life < ARRAY_SIZE(run->points_of_life))
		run->points_of_life[sim->life] = sim->persist_points;
	sim->life++;
	if (WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_DONE)
		return true;
	if (WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_CRASHED) {
		for (unsigned i = 0; i < MODELS_MAX; i++)
			if (run->models[i].used)
				model_crash(&run->models[i], sim->power_was_cut);
		return true;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_FAILED)
		return false;
	take_stderr();
	name_abort(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	return false;
}

static void end_volatile(void)
{
	for (unsigned i = 0; i < MODELS_MAX; i++)
		if (run->models[i].used)
			model_crash(&run->models[i], false);
}

/* A life that meets the wrong disks, and then the right ones again. */
static bool misplaced_life(void)
{
	bool ok;

	if (!misplace()) {
		misplace_remember();
		return true;
	}
	ok = one_life();
	misplace_undo();
	if (ok && !run->clean_end) {
		str_copy(sim->failure_kind, sizeof(sim->failure_kind), "crash");
		ok = false;
	}
	end_volatile();
	run->clean_end = false;
	return ok;
}

bool runner_go(void)
{
	uint64_t from = sim->now_ns;
	bool ok = true;

	while (ok && (run->next_op < run->given.ops || !run->clean_end)) {
		if (sim->life == LIVES_MAX) {
			str_copy(sim->failure_kind, sizeof(sim->failure_kind), "too many lives");
			ok = false;
			break;
		}
		if (run->clean_end) /* an orderly end loses nothing but what is volatile */
			end_volatile();
		grow_meanwhile();
		ok = misplaced_life() && one_life();
	}
	run->tally.bios = sim->bios;
	run->tally.turns = sim->turns;
	run->tally.events = sim->events;
	run->tally.virtual_ns = sim->now_ns - from;
	return ok;
}
