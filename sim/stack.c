/*
 * Stacks: drawn from the registry of modules, created by the same methods as a client would call,
 * and what can be said of a bdev by what it stands on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/run.h"

static struct sim_module *modules;

void sim_module_register(struct sim_module *module)
{
	struct sim_module **at = &modules;

	while (*at && strcmp((*at)->name, module->name) < 0)
		at = &(*at)->next;
	module->next = *at;
	*at = module;
}

const struct sim_module *sim_module_next(const struct sim_module *after)
{
	return after ? after->next : modules;
}

const struct sim_module *sim_module_find(const char *name)
{
	const struct sim_module *m = modules;

	while (m && strcmp(m->name, name) != 0)
		m = m->next;
	return m;
}

/* ---- drawing -----------------------------------------------------------------------------------
 */

/* A module that this build leaves out has its entry here all the same. */
static bool usable(const struct sim_module *m, bool backend)
{
	return (m->bases_max == 0) == backend && bdev_module_find(m->name);
}

static const struct sim_module *draw_module(struct rng *rng, bool backend)
{
	uint64_t sum = 0, r;

	for (const struct sim_module *m = modules; m; m = m->next)
		sum += usable(m, backend) ? m->weight : 0;
	if (sum == 0)
		return NULL;
	r = rng_below(rng, sum);
	for (const struct sim_module *m = modules; m; m = m->next) {
		if (!usable(m, backend))
			continue;
		if (r < m->weight)
			return m;
		r -= m->weight;
	}
	return NULL;
}

static struct run_node *node_free(void)
{
	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		if (run->nodes[i].state == NODE_FREE)
			return &run->nodes[i];
	return NULL;
}

static void make_file(const struct sim_setup *setup, struct rng *rng)
{
	struct sim_file *f = sim_file_add(
	        setup->file, setup->num_blocks * setup->block_bytes, setup->file_is_block);

	if (setup->block_bytes > SIM_SECTOR_BYTES && rng_one_in(rng, 2))
		f->tear_bytes = setup->block_bytes;
	if (setup->file_is_block)
		f->align_bytes = setup->block_bytes;
	f->no_direct = !setup->file_is_block && rng_one_in(rng, 3);
	if (run->given.rogue)
		f->one_in[run->given.rogue - 1] = 4;
	f->no_zero = rng_one_in(rng, 3);
	f->no_punch = rng_one_in(rng, 3);
	f->latency_min_ns = rng_range(rng, 1, 100) * NSEC_PER_USEC;
	f->latency_max_ns = f->latency_min_ns + (NSEC_PER_USEC << rng_range(rng, 0, 14));
}

struct run_node *stack_make_node(struct rng *rng, const struct sim_module *module,
        const char *const *bases, unsigned num_bases, uint64_t num_blocks, uint32_t block_bytes)
{
	struct run_node *node = node_free();
	char name[32];
	struct sim_setup setup = {.rng = rng,
	        .name = name,
	        .bases = bases,
	        .num_bases = num_bases,
	        .num_blocks = num_blocks,
	        .block_bytes = block_bytes};
	json_t *params;

	if (!node)
		return NULL;
	snprintf(name, sizeof(name), "%.16s%u", module->name, run->last_node++);
	params = module->setup(&setup);
	if (!params)
		return NULL;
	*node = (struct run_node){
	        .state = NODE_WANTED, .num_bases = num_bases, .order = run->last_node};
	str_copy(node->name, sizeof(node->name), name);
	str_copy(node->module, sizeof(node->module), module->name);
	str_copy(node->file, sizeof(node->file), setup.file);
	for (unsigned i = 0; i < num_bases; i++)
		str_copy(node->bases[i], sizeof(node->bases[i]), bases[i]);
	autofree char *text = json_dumps(params, JSON_COMPACT);

	json_decref(params);
	BELLOWS_ASSERT(text && strlen(text) < sizeof(node->params));
	str_copy(node->params, sizeof(node->params), text);
	if (setup.file[0])
		make_file(&setup, rng);
	return node;
}

static struct run_node *draw_backend(struct rng *rng)
{
	const struct sim_module *module = draw_module(rng, true);
	uint32_t block_bytes = rng_one_in(rng, 3) ? 4096 : 512;
	uint64_t bytes = KIB(64) << rng_below(rng, 5);

	bytes += rng_one_in(rng, 2) ? rng_below(rng, 64) * 4096 : 0;
	return module ? stack_make_node(rng, module, NULL, 0, bytes / block_bytes, block_bytes)
	              : NULL;
}

struct run_node *stack_draw_node(struct rng *rng, const struct bdev *base)
{
	const struct sim_module *module = draw_module(rng, false);
	const char *names[1];

	if (!base)
		return draw_backend(rng);
	if (!module || module->bases_min > 1)
		return NULL;
	names[0] = base->name;
	return stack_make_node(
	        rng, module, names, 1, base->geometry.num_blocks, base->geometry.block_bytes);
}

/* The stack that the run begins with: backends; what stands on them is added while it is built,
 * when names and sizes are known. */
void stack_draw(void)
{
	struct rng rng = rng_stream(sim->seed, 10);
	uint64_t backends = rng_range(&rng, 1, 3);

	while (backends-- > 0)
		draw_backend(&rng);
}

/* A disk in memory: for speed. */
void stack_draw_plain(void)
{
	struct rng rng = rng_stream(sim->seed, 10);

	if (!sim_module_find("malloc") ||
	        !stack_make_node(&rng, sim_module_find("malloc"), NULL, 0, MIB(1) / 512, 512))
		sim_fail("simulator", "the malloc module is not there");
}

/* ---- creating and deleting --------------------------------------------------------------------
 */

struct call {
	struct run_node *node;
	stack_done_fn done;
	void *arg;
	bool creates;
};

static void called(void *arg, const json_t *reply)
{
	struct call c = *(struct call *)arg;
	const json_t *error = json_object_get(reply, "error");

	free(arg);
	if (error && sim->tracing)
		printf("%s %s: %s\n", c.creates ? "creating" : "deleting", c.node->name,
		        json_string_value(json_object_get(error, "message")));
	if (c.creates && !error)
		c.node->state = NODE_UP;
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
	bool missing; /* only what has gone */
	unsigned polls;
	struct loop_timer timer;
	unsigned layers; /* to be added on top, in the first life */
	struct rng rng;
} build;

static void build_next(void);

/* A disk that has failed may keep a bdev from coming back. */
bool sim_any_fault(void)
{
	for (unsigned i = 0; i < SIM_FILES_MAX; i++)
		if (sim->files[i].used && sim->files[i].faults)
			return true;
	return false;
}

static void built(void *arg, bool ok)
{
	struct run_node *node = arg;

	if (!ok && run->life_started && !sim_any_fault())
		sim_fail("not recreated", "%s '%s' can't be created again after a restart",
		        node->module, node->name);
	/* Layers that wait for a base that returns come by themselves, and can't be created. */
	if (!ok)
		node->state = build.missing ? NODE_UP : NODE_FREE;
	build_next();
}

/* On one of these, or on several that are alike where the module takes them. */
static bool build_draw(const struct bdev *const *fit, unsigned n)
{
	const struct sim_module *module = draw_module(&build.rng, false);
	const struct bdev *first = fit[rng_below(&build.rng, n)];
	uint64_t least = first->geometry.num_blocks;
	const char *names[4] = {first->name};
	unsigned count = 1;

	for (unsigned i = 0; module && i < n && count < min_u64(module->bases_max, 4); i++)
		if (fit[i] != first && rng_one_in(&build.rng, 2) &&
		        stack_kept(fit[i]) == stack_kept(first) &&
		        fit[i]->geometry.block_bytes == first->geometry.block_bytes) {
			names[count++] = fit[i]->name;
			least = min_u64(least, fit[i]->geometry.num_blocks);
		}
	return module && count >= module->bases_min &&
	       stack_make_node(
	               &build.rng, module, names, count, least, first->geometry.block_bytes);
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
		if (n && build_draw(fit, n))
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
	if (waiting > 0 && build.polls++ < 100000) {
		loop_timer_start(
		        loop_self(), &build.timer, loop_now_ns(loop_self()) + NSEC_PER_MSEC);
		return;
	}
	if (waiting > 0 && !sim_any_fault())
		sim_fail("not recreated", "%u bdevs still wait for a base", waiting);
	build.done();
}

static void build_poll(struct loop_timer *timer)
{
	(void)timer;
	bdev_wait_for_examine((struct bdev_done){build_examined, NULL});
}

static void build_next(void)
{
	struct run_node *node = build_pick();

	if (!node && build_grow())
		node = build_pick();
	if (node) {
		stack_create_node(node, built, node);
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
		if (run->nodes[i].state == NODE_UP)
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
	if (err && err->code && !sim_any_fault())
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

/* ---- what holds for a bdev --------------------------------------------------------------------
 */

struct run_node *stack_node_of(const struct bdev *bdev)
{
	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		struct run_node *node = &run->nodes[i];

		if (node->state == NODE_FREE || strcmp(node->module, bdev->module->name) != 0)
			continue;
		if (strcmp(node->name, bdev->name) == 0)
			return node;
		/* Of several bdevs that one call has made, each belongs to it. */
		if (bdev->num_bases && bdev->bases[0] &&
		        strcmp(node->bases[0], bdev->bases[0]->name) == 0)
			return node;
	}
	return NULL;
}

unsigned stack_claims(const struct bdev *bdev)
{
	const struct sim_module *m = sim_module_find(bdev->module->name);

	return m ? m->claims : SIM_NO_DATA | SIM_FAILS;
}

struct sim_file *stack_file(const struct bdev *bdev)
{
	const struct run_node *node = bdev->num_bases ? NULL : stack_node_of(bdev);

	return node && node->file[0] ? sim_file_find(node->file) : NULL;
}

enum model_kept stack_kept(const struct bdev *bdev)
{
	unsigned claims = stack_claims(bdev);
	enum model_kept kept = MODEL_KEPT;

	if (claims & SIM_NO_DATA)
		return MODEL_NOTHING;
	if (claims & SIM_VOLATILE)
		return MODEL_VOLATILE;
	for (unsigned i = 0; i < bdev->num_bases; i++)
		if (bdev->bases[i] && stack_kept(bdev->bases[i]) < kept)
			kept = stack_kept(bdev->bases[i]);
	return kept;
}

bool stack_fails(const struct bdev *bdev)
{
	bool fails = stack_claims(bdev) & SIM_FAILS;

	for (unsigned i = 0; i < bdev->num_bases; i++)
		fails |= bdev->bases[i] && stack_fails(bdev->bases[i]);
	return fails;
}

bool stack_faulty(const struct bdev *bdev)
{
	const struct sim_module *m = sim_module_find(bdev->module->name);
	const struct sim_file *f = stack_file(bdev);
	uint64_t faulty = 0;

	if (f)
		return f->faults > 0 && !run->given.rogue;
	for (unsigned i = 0; i < bdev->num_bases; i++)
		if (!bdev->bases[i] || stack_faulty(bdev->bases[i]))
			faulty |= 1ULL << (i & 63);
	if (faulty && m && (m->claims & SIM_REDUNDANT) && m->tolerates)
		return !m->tolerates(bdev, faulty);
	return faulty != 0;
}

bool stack_repeatable(const struct bdev *bdev)
{
	bool mirror = (stack_claims(bdev) & SIM_REDUNDANT) && bdev->num_bases > 1;
	bool repeatable = !mirror && !(stack_claims(bdev) & SIM_NO_DATA);

	for (unsigned i = 0; i < bdev->num_bases; i++)
		repeatable &= !bdev->bases[i] || stack_repeatable(bdev->bases[i]);
	return repeatable;
}

bool stack_relaid(const struct bdev *bdev)
{
	bool relaid = stack_claims(bdev) & SIM_RELAID;

	for (unsigned i = 0; i < bdev->num_bases; i++)
		relaid |= bdev->bases[i] && stack_relaid(bdev->bases[i]);
	return relaid;
}

bool stack_fresh(const struct bdev *bdev)
{
	if (run->next_op > 0 || run->life_started)
		return false;
	if (bdev->num_bases == 0)
		return true;
	return (stack_claims(bdev) & SIM_IDENTITY) && stack_fresh(bdev->bases[0]);
}

/* ---- sizes ------------------------------------------------------------------------------------
 */

static uint64_t bytes_of(const struct bdev *bdev)
{
	return bdev_num_blocks(bdev) << bdev->block_shift;
}

static void check_one(const struct bdev *bdev, bool quiet)
{
	const struct sim_module *m = sim_module_find(bdev->module->name);
	const struct sim_file *f = stack_file(bdev);
	uint64_t backing = 0, own = bytes_of(bdev);

	for (unsigned i = 0; i < bdev->num_bases; i++)
		backing += bdev->bases[i] ? bytes_of(bdev->bases[i]) : UINT32_MAX;
	/* A backing that was cut from outside is noticed later: its faults say so. */
	if (bdev->num_bases && own > backing)
		sim_fail("larger than its base", "%s has %lu bytes, on %lu", bdev->name, own,
		        backing);
	if (f && own > f->size_bytes && f->faults == 0)
		sim_fail("larger than its base", "%s has %lu bytes, its file %lu", bdev->name, own,
		        f->size_bytes);
	if (!quiet || !m || stack_faulty(bdev))
		return;
	if (bdev->held_blocks && bdev_num_blocks(bdev) != bdev->held_blocks)
		sim_fail("wrong size", "%s is held at %lu blocks and has %lu", bdev->name,
		        bdev->held_blocks, bdev_num_blocks(bdev));
	if (bdev->held_blocks)
		return;
	if (m->expected_blocks && bdev_num_blocks(bdev) != m->expected_blocks(bdev))
		sim_fail("wrong size", "%s has %lu blocks, it must have %lu", bdev->name,
		        bdev_num_blocks(bdev), m->expected_blocks(bdev));
	if ((m->claims & SIM_IDENTITY) && own != backing)
		sim_fail("wrong size", "%s has %lu bytes, its base %lu", bdev->name, own, backing);
	if (bdev->geometry.num_blocks != bdev_num_blocks(bdev))
		sim_fail("wrong size", "%s: geometry says %lu blocks, %lu are published",
		        bdev->name, bdev->geometry.num_blocks, bdev_num_blocks(bdev));
}

/* Parts of one base don't overlap, so together they fit in; what has more bases is no part. */
static void check_parts(const struct bdev *base)
{
	uint64_t sum = 0;
	const struct bdev *part;

	for (unsigned i = 0; (part = bdev_parent(base, i)); i++)
		sum += part->num_bases > 1 ? 0 : bytes_of(part);
	if (sum > bytes_of(base) && !stack_faulty(base))
		sim_fail("larger than its base", "the bdevs on %s have %lu bytes, it has %lu",
		        base->name, sum, bytes_of(base));
}

void stack_check(bool quiet)
{
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		check_one(b, quiet);
		check_parts(b);
	}
}
