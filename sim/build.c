/*
 * What a stack is built of, in each life: created by the same methods as a client would call, bases
 * first or in any order, from the run's own list or from a configuration that was saved.
 */
#include <stdio.h>
#include <string.h>

#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/run.h"

/* What stands on a disk that fails, or is made when all ends, need not come to be. */
static bool may_fail(void)
{
	return sim_any_fault() || life_is_stopping() || run->half_made;
}

/* ---- creating and deleting
 * ----------------------------------------------------------------------- */

struct call {
	struct run_node *node;
	stack_done_fn done;
	void *arg;
	bool creates;
};

/* From now on it is made as it is made again. */
static void node_made(struct run_node *node)
{
	const struct sim_module *m = sim_module_find(node->module);

	node->state = NODE_UP;
	node->self_found |= (m->claims & SIM_FOUND) != 0;
	if (!m->once || !bdev_find(node->name)) /* it may wait for a base */
		return;
	json_t *params = json_loads(node->params, 0, NULL);

	json_object_del(params, m->once);
	autofree char *text = json_dumps(params, JSON_COMPACT);

	node->self_found = m->found_if && json_is_true(json_object_get(params, m->found_if));
	json_decref(params);
	str_copy(node->params, sizeof(node->params), text);
}

static void called(void *arg, const json_t *reply)
{
	struct call c = *(struct call *)arg;
	const json_t *error = json_object_get(reply, "error");

	free(arg);
	if (error && sim->tracing)
		printf("%s %s: %s\n", c.creates ? "creating" : "deleting", c.node->name,
		        json_string_value(json_object_get(error, "message")));
	if (c.creates && !error)
		node_made(c.node);
	c.done(c.arg, error == NULL);
}

static void call(struct run_node *node, bool creates, const char *method, json_t *params,
        stack_done_fn done, void *arg)
{
	struct call *c = xcalloc(1, sizeof(*c));

	*c = (struct call){.node = node, .creates = creates, .done = done, .arg = arg};
	rpc_call(method, params, called, c);
}

static const char *method_name(
        const struct sim_module *m, const char *given, const char *verb, char *buf, size_t size)
{
	if (given)
		return given;
	snprintf(buf, size, "bdev_%s_%s", m->name, verb);
	return buf;
}

void stack_create_node(struct run_node *node, stack_done_fn done, void *arg)
{
	const struct sim_module *m = sim_module_find(node->module);
	json_t *params = json_loads(node->params, 0, NULL);
	char buf[64];

	/* A backend without a file of its own comes back with the size that it was saved with. */
	if (node->own_blocks && !node->file[0])
		json_object_set_new(
		        params, "num_blocks", json_integer((json_int_t)node->own_blocks));
	call(node, true, method_name(m, m->method, "create", buf, sizeof(buf)), params, done, arg);
}

void stack_delete_node(struct run_node *node, stack_done_fn done, void *arg)
{
	const struct sim_module *m = sim_module_find(node->module);
	const char *key = m->remove_key ? m->remove_key : "name";
	const char *name = m->remove_key ? node->bases[0] : node->name;
	char buf[64];

	node->state = NODE_DELETING;
	call(node, false, method_name(m, m->remove, "delete", buf, sizeof(buf)),
	        json_pack("{s:s}", key, name), done, arg);
}

static struct {
	void (*done)(void);
	bool any_order;
	bool missing;          /* only what has gone */
	struct run_node *node; /* that is being created */
	unsigned polls;
	struct loop_timer timer;
	unsigned layers; /* to be added on top, in the first life */
	struct rng rng;
} build;

static void build_next(void);

static void same_name(void *arg, const struct bdev_spec *spec, const char *missing)
{
	const struct run_node **node = arg;

	(void)missing;
	if (*node && strcmp(spec->name, (*node)->name) == 0)
		*node = NULL;
}

/* It is there, or waits for a base: one whose creation a crash has cut off when all was written. */
static bool exists(const struct run_node *node)
{
	const struct run_node *sought = node;

	/* By its base: another node of the kind may have been on it, and be half deleted. */
	if (stack_is_found(node)) {
		const struct bdev *base = bdev_find(node->bases[0]), *part;

		for (unsigned i = 0; base && (part = bdev_parent(base, i)); i++)
			if (strcmp(part->module->name, node->module) == 0)
				return true;
		return false;
	}
	bdev_for_each_waiting(same_name, &sought);
	return !sought || bdev_find(node->name);
}

/* Layers that wait for a base that returns come by themselves, and can't be created. What is found
 * may be there as soon as its base is. */
static enum node_state state_unmade(const struct run_node *node)
{
	const struct sim_module *m = sim_module_find(node->module);

	if (build.missing || run->misplaced)
		return NODE_UP;
	return m->found_if || (m->claims & SIM_FOUND) ? NODE_DELETING : NODE_FREE;
}

static void built(void *arg, bool ok)
{
	struct run_node *node = arg;

	if (!ok && exists(node)) {
		run->half_made |= stack_is_found(node) && !node->self_found && !sim->power_was_cut;
		node_made(node);
		ok = true;
	}
	/* What is found can't be made before its base is there, and needs not. */
	if (!ok && run->life_started && !may_fail() &&
	        !(stack_is_found(node) && !bdev_find(node->bases[0])))
		sim_fail("not recreated", "%s '%s' can't be created again after a restart",
		        node->module, node->name);
	if (!ok)
		node->state = state_unmade(node);
	build_next();
}

/* The first life stacks more on what has just appeared. */
static bool build_grow(void)
{
	while (build.layers > 0) {
		const struct bdev *fit[RUN_NODES_MAX * 4];
		unsigned n = 0;

		build.layers--;
		for (struct bdev *b = bdev_next(NULL); b && n < ARRAY_SIZE(fit); b = bdev_next(b))
			if (!bdev_is_claimed(b))
				fit[n++] = b;
		if (n == 0)
			continue;
		if (stack_draw_node(&build.rng, fit[rng_below(&build.rng, n)], fit, n))
			return true;
	}
	return false;
}

/* The oldest, so that bases come first; or in a life that has it so, any: then those that come too
 * early wait for their bases. */
static struct run_node *build_pick(void)
{
	struct run_node *pick = NULL;
	uint64_t seen = 0;

	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		struct run_node *node = &run->nodes[i];

		if (node->state != NODE_WANTED)
			continue;
		if (!pick || (build.any_order ? rng_below(&build.rng, ++seen + 1) == 0
		                              : node->order < pick->order))
			pick = node;
	}
	return pick;
}

static void count_waiting(void *arg, const struct bdev_spec *spec, const char *missing)
{
	(void)spec;
	(void)missing;
	++*(unsigned *)arg;
}

static void build_examined(void *arg, const struct err *err)
{
	unsigned waiting = 0;

	(void)arg;
	(void)err;
	bdev_for_each_waiting(count_waiting, &waiting);
	/* A size that is to be held is so as soon as the queue of resizes has come to it. */
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b))
		waiting += bdev_get_policy(b) == BDEV_HOLD && b->held_blocks == 0;
	if (waiting > 0 && build.polls++ < (run->misplaced ? 20U : 100000U)) {
		loop_timer_start(
		        loop_self(), &build.timer, loop_now_ns(loop_self()) + NSEC_PER_MSEC);
		return;
	}
	if (waiting > 0 && !may_fail())
		sim_fail("not recreated", "%u bdevs still wait for a base", waiting);
	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		struct run_node *node = &run->nodes[i];

		if (node->state == NODE_UP && !stack_is_found(node))
			node_made(node);
		if (node->state == NODE_UP && node->self_found && !exists(node) && !may_fail())
			sim_fail("not recreated", "'%s' has not been found", node->name);
	}
	run->half_made &= !sim->power_was_cut; /* what is there now stays */
	build.done();
}

static void build_poll(struct loop_timer *timer)
{
	(void)timer;
	bdev_wait_for_examine((struct bdev_done){build_examined, NULL});
}

/* Examine may have found it already. */
static void build_node(void *arg, const struct err *err)
{
	(void)arg;
	(void)err;
	if (exists(build.node))
		built(build.node, false);
	else
		stack_create_node(build.node, built, build.node);
}

static void build_next(void)
{
	struct run_node *node = build_pick();

	if (!node && build_grow())
		node = build_pick();
	if (node) {
		build.node = node;
		bdev_wait_for_examine((struct bdev_done){build_node, NULL});
		return;
	}
	build.polls = 0;
	build.timer.fire = build_poll;
	build_poll(&build.timer);
}

void stack_build(void (*done)(void))
{
	build.done = done;
	build.missing = false;
	build.rng = rng_stream(sim->seed, 11 + sim->life * 16ULL);
	build.any_order = run->life_started && rng_one_in(&build.rng, 4);
	build.layers = run->life_started || run->given.scenario != SCENARIO_RANDOM
	                       ? 0
	                       : (unsigned)rng_below(&build.rng, 5);
	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		if (run->nodes[i].state == NODE_UP && !run->nodes[i].self_found)
			run->nodes[i].state = NODE_WANTED;
	build_next();
}

void stack_build_missing(void (*done)(void))
{
	build.done = done;
	build.missing = true;
	build.any_order = false;
	build.layers = 0;
	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		struct run_node *node = &run->nodes[i];

		if (node->state == NODE_UP && node->num_bases == 0 && !bdev_find(node->name))
			node->state = NODE_WANTED;
	}
	build_next();
}

static void configured(void *arg, const struct err *err)
{
	rpc_config_free(arg);
	if (err && err->code && !may_fail())
		sim_fail("configuration failed", "%s\n%s", err->text, run->config);
	build_poll(&build.timer);
}

void stack_build_from_config(void (*done)(void))
{
	struct rpc_config *config;
	struct err err = ERR_NONE;

	build.done = done;
	build.polls = 0;
	build.timer.fire = build_poll;
	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		if (run->nodes[i].state == NODE_WANTED)
			run->nodes[i].state = NODE_UP;
	if (rpc_config_parse("saved", run->config, strlen(run->config), &config, &err))
		sim_fail("configuration failed", "%s\n%s", err.text, run->config);
	rpc_config_run(config, false, configured, config);
}
