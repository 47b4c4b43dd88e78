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

#define BASES_MAX 4U

static struct run_node *draw_backend(struct rng *rng)
{
	const struct sim_module *module = draw_module(rng, true);
	uint32_t block_bytes = rng_one_in(rng, 3) ? 4096 : 512;
	uint64_t bytes = KIB(64) << rng_below(rng, 5);

	bytes += rng_one_in(rng, 2) ? rng_below(rng, 64) * 4096 : 0;
	return module ? stack_make_node(rng, module, NULL, 0, bytes / block_bytes, block_bytes)
	              : NULL;
}

/* Those that can't keep the rules of zones refuse a zoned base. */
static bool takes_zones(const struct sim_module *m, const struct bdev *base)
{
	const struct bdev_module *module = bdev_module_find(m->name);

	return !base->geometry.zone_blocks || !module->submit || module->keeps_zones;
}

/* Several bases are alike: else what their array keeps could not be said. */
static bool alike(const struct bdev *a, const struct bdev *b)
{
	return a != b && a->geometry.block_bytes == b->geometry.block_bytes &&
	       stack_kept(a) == stack_kept(b);
}

struct run_node *stack_draw_node(struct rng *rng, const struct bdev *base,
        const struct bdev *const *others, unsigned num_others)
{
	const struct sim_module *module = draw_module(rng, false);
	uint64_t least = base ? base->geometry.num_blocks : 0;
	const char *names[BASES_MAX];
	unsigned n = 1;

	if (!base)
		return draw_backend(rng);
	if (!module || module->bases_min > 1 || !takes_zones(module, base))
		return NULL;
	/* A label would not be found again where data may lie elsewhere in the next life. */
	if ((module->claims & SIM_LABELLED) &&
	        (stack_any_claims(base, SIM_RELAID) || stack_kept(base) != MODEL_KEPT))
		return NULL;
	names[0] = base->name;
	for (unsigned i = 0; i < num_others && n < min_u64(module->bases_max, BASES_MAX); i++) {
		if (!alike(base, others[i]) || !takes_zones(module, others[i]) ||
		        !rng_one_in(rng, 2) ||
		        ((module->claims & SIM_LABELLED) &&
		                stack_any_claims(others[i], SIM_RELAID)))
			continue;
		names[n++] = others[i]->name;
		least = min_u64(least, others[i]->geometry.num_blocks);
	}
	return stack_make_node(rng, module, names, n, least, base->geometry.block_bytes);
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

/* ---- what holds for a bdev
 * ----------------------------------------------------------------------- */

/* A disk that has failed may keep a bdev from coming back. */
bool sim_any_fault(void)
{
	for (unsigned i = 0; i < SIM_FILES_MAX; i++)
		if (sim->files[i].used && sim->files[i].faults)
			return true;
	return run->misplaced != MISPLACED_NONE;
}

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

bool stack_is_found(const struct run_node *node)
{
	return sim_module_find(node->module)->claims & SIM_FOUND;
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

bool stack_any_claims(const struct bdev *bdev, unsigned claim)
{
	bool any = stack_claims(bdev) & claim;

	for (unsigned i = 0; i < bdev->num_bases; i++)
		any |= bdev->bases[i] && stack_any_claims(bdev->bases[i], claim);
	return any;
}

bool stack_fails(const struct bdev *bdev)
{
	return stack_any_claims(bdev, SIM_FAILS);
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

bool stack_reserved(const struct bdev *bdev)
{
	const struct bdev *parent;

	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		if (run->nodes[i].state != NODE_FREE && run->nodes[i].detached &&
		        strcmp(run->nodes[i].bases[1], bdev->name) == 0)
			return true;
	for (unsigned i = 0; (parent = bdev_parent(bdev, i)); i++)
		if (stack_reserved(parent))
			return true;
	return false;
}

bool stack_fresh(const struct bdev *bdev)
{
	if (run->next_op > 0 || run->life_started)
		return false;
	if (bdev->num_bases == 0)
		return true;
	return (stack_claims(bdev) & SIM_IDENTITY) && stack_fresh(bdev->bases[0]);
}

/* ---- sizes
 * --------------------------------------------------------------------------------------- */

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
		sum += part->num_bases == 1 ? bytes_of(part) : 0;
	if (sum > bytes_of(base) && !stack_faulty(base))
		sim_fail("larger than its base", "the bdevs on %s have %lu bytes, it has %lu",
		        base->name, sum, bytes_of(base));
}

/* After a restart: the size that was answered last, or that of a resize that the end cut off. */
void stack_check_kept_sizes(void)
{
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		struct run_node *node = stack_node_of(b);
		uint64_t now = bdev_num_blocks(b);

		if (node && stack_file(b) && stack_file(b)->is_block)
			node->own_blocks = 0; /* it is made larger elsewhere */
		if (!node || run->misplaced || !stack_file(b) || stack_faulty(b))
			continue;
		if (node->own_blocks && now != node->own_blocks && now != node->next_blocks)
			sim_fail("size lost",
			        "%s has %lu blocks after a restart; the last size that was "
			        "answered is %lu",
			        b->name, now, node->own_blocks);
		/* What a daemon that was killed had begun is there, and a power cut may yet take
		 * it. */
		if (now == node->next_blocks && now != node->own_blocks) {
			node->next_blocks = node->own_blocks;
			node->own_blocks = node->own_blocks ? now : 0;
		} else if (now != node->own_blocks) {
			node->own_blocks = now;
			node->next_blocks = 0;
		}
	}
}

void stack_note_held(void)
{
	unsigned n = 0;

	memset(run->held, 0, sizeof(run->held));
	for (const struct bdev *b = bdev_next(NULL); b && n < RUN_NODES_MAX; b = bdev_next(b)) {
		if (bdev_get_policy(b) != BDEV_HOLD)
			continue;
		str_copy(run->held[n].name, sizeof(run->held[n].name), b->name);
		run->held[n++].blocks = bdev_num_blocks(b);
	}
}

void stack_check_held(void)
{
	for (unsigned i = 0; i < RUN_NODES_MAX && run->held[i].blocks; i++) {
		const struct bdev *b = bdev_find(run->held[i].name);

		if (b && !sim_any_fault() &&
		        (bdev_get_policy(b) != BDEV_HOLD ||
		                bdev_num_blocks(b) != run->held[i].blocks))
			sim_fail("held size lost",
			        "%s was held at %lu blocks, and has %lu after a restart", b->name,
			        run->held[i].blocks, bdev_num_blocks(b));
	}
}

void stack_check(bool quiet)
{
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		struct run_node *node = stack_node_of(b);

		if (!node)
			sim_fail("unasked", "%s is there, and nobody has asked for it", b->name);
		if (node->label_shown != bdev_num_blocks(b))
			memset(node->label_before, 0, sizeof(node->label_before));
		node->label_shown = bdev_num_blocks(b);
		check_one(b, quiet);
		check_parts(b);
	}
}
