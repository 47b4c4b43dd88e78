/*
 * One life of the daemon: start, build the stack, serve the run's operations, and an orderly end
 * with all that can be checked then. A crash ends it anywhere before.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "bdev/control.h"
#include "bdev/core.h"
#include "rpc/server.h"
#include "sim/nbd.h"
#include "sim/script.h"

#define OPS_PER_TURN 8
#define RUN_OF_OPS 8 /* so many operations in a row go to one loop */
#define LIFE_PATIENCE_NS (20000 * NSEC_PER_SEC)

static struct {
	enum {
		LIFE_STARTING,
		LIFE_CHECKING, /* what the last life left */
		LIFE_SERVING,
		LIFE_DRAINING,
		LIFE_VERIFYING,
		LIFE_CLOSING,
		LIFE_STOPPING,
	} phase;
	bool script_started;
	bool over; /* the run's operations are done, or a restart was asked for */
	uint64_t think_until;
	uint64_t began_ns;
} life;

/* ---- operations
 * ---------------------------------------------------------------------------------- */

static bool is_control(uint32_t op)
{
	if (run->given.scenario == SCENARIO_SCRIPT)
		return script_is_control(op);
	if (run->given.scenario == SCENARIO_PLAIN || (run->given.without & WITHOUT_CONTROL))
		return false;
	return rng_mix(sim->seed * 31 + op) % 24 == 0 || nbd_is_control(op);
}

static unsigned loop_of(uint32_t op)
{
	if (is_control(op))
		return LOOP_CONTROL;
	if (run->given.scenario == SCENARIO_RANDOM && rng_mix(sim->seed * 37 + op) % 32 == 0)
		return LOOP_CONTROL;
	return 1 + (unsigned)(rng_mix(sim->seed * 41 + op / RUN_OF_OPS) % run->data_loops);
}

static bool op_next(uint32_t *op)
{
	while (run->next_op < run->given.ops && run_skips(run->next_op))
		run->next_op++;
	*op = run->next_op;
	return !life.over && run->next_op < run->given.ops;
}

/* A step counts as taken when it is over, so that one that is cut off comes again. */
static void serve_script(const struct loop *loop)
{
	uint32_t op;

	if (!io_idle() || !control_idle())
		return;
	if (life.script_started) {
		life.script_started = false;
		run->next_op++;
	}
	if (op_next(&op) && loop_of(op) == loop->id) {
		life.script_started = true;
		script_start(op);
	}
}

static void serve(const struct loop *loop)
{
	uint32_t op;

	if (run->given.scenario == SCENARIO_SCRIPT) {
		serve_script(loop);
		return;
	}
	for (unsigned i = 0; i < OPS_PER_TURN && op_next(&op); i++) {
		struct rng rng = run_op_rng(op);

		if (loop_of(op) != loop->id || sim->now_ns < life.think_until)
			return;
		/* The number is taken before: a crash in it must not come again. */
		run->next_op = op + 1;
		if (!(is_control(op) ? control_start(op, rng) : io_start(op, rng))) {
			run->next_op = op;
			return;
		}
		if (run->given.scenario != SCENARIO_PLAIN && rng_one_in(&rng, 16))
			life.think_until = sim->now_ns + (1ULL << rng_range(&rng, 10, 27));
	}
}

/* ---- phases
 * ---------------------------------------------------------------------------------------- */

void life_restart(void)
{
	life.over = true;
}

static void stopped(void *arg, const struct err *err)
{
	(void)arg;
	if (err && err->code && !sim_any_fault())
		sim_fail("stop failed", "the bdevs can't be stopped: %s", err->text);
	if (err && err->code)
		sim_crash(false); /* a disk hangs: the daemon does not wait for it and exits */
	rpc_stop();
	loops_stop(0);
}

static void clients_gone(void *arg)
{
	(void)arg;
	bdev_stop((struct bdev_done){stopped, NULL});
}

/* As bellowsd ends. */
void life_stop(void)
{
	if (life.phase == LIFE_STOPPING)
		return;
	life.over = true;
	life.phase = LIFE_STOPPING;
	rpc_begin_stop(clients_gone, NULL);
}

bool life_is_stopping(void)
{
	return life.phase == LIFE_STOPPING;
}

bool life_is_ending(void)
{
	return life.phase >= LIFE_CLOSING;
}

static void on_signal(int signum)
{
	(void)signum;
	life_stop();
}

/* A resize that nobody has asked for, since a file has changed, may go on when all else is done. */
static bool is_quiet(void)
{
	return io_idle() && control_idle() && jobs_idle();
}

static void next_phase(void)
{
	uint32_t op;

	switch (life.phase) {
	case LIFE_STARTING:
	case LIFE_STOPPING:
		return;
	case LIFE_CHECKING:
		if (!io_verify_left() && io_idle())
			life.phase = LIFE_SERVING;
		return;
	case LIFE_SERVING:
		if (!op_next(&op))
			life.phase = LIFE_DRAINING;
		return;
	case LIFE_DRAINING:
		if (!is_quiet())
			return;
		io_check_told();
		stack_check(true);
		if (run->given.scenario != SCENARIO_PLAIN)
			io_verify_start();
		life.phase = LIFE_VERIFYING;
		return;
	case LIFE_VERIFYING:
		if (io_verify_left() || !io_idle())
			return;
		io_close_all();
		life.phase = LIFE_CLOSING;
		return;
	case LIFE_CLOSING:
		if (!io_closed())
			return;
		life_stop();
		return;
	}
}

static void client_turn(struct loop *loop)
{
	if (loop->id == LOOP_CONTROL) {
		stack_check(false);
		next_phase();
		if (sim->now_ns - life.began_ns > LIFE_PATIENCE_NS)
			sim_fail("life stuck", "this life does not end (phase %d)", life.phase);
	}
	if (life.phase == LIFE_SERVING) {
		serve(loop);
	} else if (life.phase == LIFE_CHECKING || life.phase == LIFE_VERIFYING) {
		if (loop->id != LOOP_CONTROL)
			io_verify_step();
	}
	if (sim->turns % 1024 == 0) {
		io_check_progress();
		control_check_progress();
	}
}

/* When the workload wants a turn of that loop. */
static uint64_t client_next(unsigned loop_id)
{
	uint32_t op;

	switch (life.phase) {
	case LIFE_STARTING:
	case LIFE_STOPPING:
		return UINT64_MAX;
	case LIFE_CHECKING:
	case LIFE_VERIFYING:
		if (io_verify_left())
			return loop_id != LOOP_CONTROL && io_can_start() ? 0 : UINT64_MAX;
		return loop_id == LOOP_CONTROL && io_idle() ? 0 : UINT64_MAX;
	case LIFE_SERVING:
		if (run->given.scenario == SCENARIO_SCRIPT)
			return io_idle() && control_idle() ? 0 : UINT64_MAX;
		if (!op_next(&op))
			return loop_id == LOOP_CONTROL ? 0 : UINT64_MAX;
		if (loop_of(op) != loop_id ||
		        !(is_control(op) ? control_can_start() : io_can_start()))
			return UINT64_MAX;
		return life.think_until;
	case LIFE_DRAINING:
		return loop_id == LOOP_CONTROL && is_quiet() ? 0 : UINT64_MAX;
	case LIFE_CLOSING:
		return loop_id == LOOP_CONTROL && io_closed() ? 0 : UINT64_MAX;
	}
	return UINT64_MAX;
}

static const struct sim_client client = {.turn = client_turn, .next_ns = client_next};

/* ---- start and end
 * ------------------------------------------------------------------------------- */

static void built(void)
{
	if (run->misplaced) {
		misplace_check();
		life.phase = LIFE_CLOSING;
		return;
	}
	stack_check_kept_sizes();
	control_settle_models();
	if (run->from_config)
		stack_check_held();
	io_rescan();
	stack_check(true);
	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		run->nodes[i].label_lives += run->nodes[i].state == NODE_UP;
	if (run->life_started)
		io_verify_start();
	run->life_started = true;
	life.phase = run->given.scenario == SCENARIO_PLAIN ? LIFE_SERVING : LIFE_CHECKING;
}

/* The first call builds tables that stay: let each life have them. */
static void primed(void *arg, const json_t *reply)
{
	(void)arg;
	(void)reply;
	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		run->nodes[i].detached = false; /* it is made with all its bases */
	run->from_config = run->config_valid && rng_one_in(&sim->sched, 2);
	run->config_valid =
	        run->from_config; /* else it tells of a stack that is laid out otherwise */
	if (run->from_config)
		stack_build_from_config(built);
	else
		stack_build(built);
	if (sim->tracing && run->from_config)
		printf("%30s configured by %s\n", "", run->config);
}

static void serving(void *arg, const struct err *err)
{
	(void)arg;
	if (err && err->code)
		sim_fail("start failed", "JSON-RPC can't be started: %s", err->text);
	for (const struct sim_module *m = NULL; (m = sim_module_next(m));)
		if (m->prepare)
			m->prepare();
	json_t *params = json_pack("{s:s}", "name", "none");

	rpc_call("framework_get_config", params, primed, NULL);
}

static void check_leaks(uint64_t before)
{
	uint64_t now = sim_live_allocations();

	if (run->given.scenario == SCENARIO_EMPTY)
		run->kept_allocations = now - before;
	else if (now - before != run->kept_allocations)
		sim_fail("leak", "%ld allocations are left when all has ended",
		        (long)(now - before - run->kept_allocations));
}

static void start_all(void)
{
	static const struct rpc_options options = {.socket_path = NULL};
	struct err err = ERR_NONE;
	struct loop_config config = {.data_loops = run->data_loops};

	if (loops_start(&config, &err))
		sim_fail("start failed", "%s", err.text);
	loop_on_signal(SIGTERM, on_signal);
	bdev_start();
	sim_set_client(&client);
	rpc_start(&options, serving, NULL);
}

void life_run(void)
{
	uint64_t before = sim_live_allocations();

	life.began_ns = sim->now_ns;
	run->clean_end = false;
	sim_event(SIM_LIFE, sim->life, run->data_loops, run->next_op);
	start_all();
	loops_run();
	io_end();
	check_leaks(before);
	run->clean_end = true;
	sim_event(SIM_LIFE_END, sim->life, 0, sim->persist_points);
	fflush(stdout);
	sim_exit(SIM_EXIT_DONE);
}
