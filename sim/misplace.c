/*
 * Disks that are not the right ones: between two lives one comes back with foreign or older
 * content, or two stand in each other's place. Only below a module that claims to tell; the life
 * that meets it must end with a refusal, and when things are put right all data must be there.
 */
#include <string.h>

#include "sim/run.h"

static struct {
	struct run_node *node; /* whose base it is */
	struct sim_file *a, *b;
} now;

/* The file whose content the bdev of that name has, byte for byte. */
static struct sim_file *file_under(const char *name)
{
	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		const struct run_node *node = &run->nodes[i];

		if (node->state == NODE_FREE || strcmp(node->name, name) != 0)
			continue;
		if (node->file[0])
			return node->state == NODE_UP ? sim_file_find(node->file) : NULL;
		if (!(sim_module_find(node->module)->claims & SIM_IDENTITY))
			return NULL;
		return file_under(node->bases[0]);
	}
	return NULL;
}

void grow_meanwhile(void)
{
	struct rng rng = rng_stream(sim->seed ^ sim->life, 42);
	struct sim_file *f = &sim->files[rng_below(&rng, 4)];

	if (run->given.scenario == SCENARIO_RANDOM && run->life_started && rng_one_in(&rng, 4) &&
	        f->used && f->is_block && f->size_bytes < MIB(2))
		sim_disk_grow(f, f->size_bytes + rng_range(&rng, 1, 64) * 4096);
}

static bool labelled(const struct run_node *node)
{
	return node->state == NODE_UP && node->label_shown &&
	       (sim_module_find(node->module)->claims & SIM_LABELLED);
}

/* Another disk takes its place, and it that disk's. */
static void exchange(struct sim_file *a, struct sim_file *b)
{
	struct sim_file was = *a;

	*a = *b;
	*b = was;
	str_copy(b->path, sizeof(b->path), a->path);
	str_copy(a->path, sizeof(a->path), was.path);
	b->used = a->used;
	a->used = was.used;
}

static void copy_content(struct sim_file *to, const struct sim_file *from)
{
	sim_file_remove(to);
	to->size_bytes = to->stable_size_bytes = from->size_bytes;
	to->is_block = from->is_block;
	to->tear_bytes = from->tear_bytes;
	to->align_bytes = from->align_bytes;
	to->latency_min_ns = from->latency_min_ns;
	to->latency_max_ns = from->latency_max_ns;
	to->touched_bytes = from->touched_bytes;
	memcpy(to->current, from->current, from->touched_bytes);
	memcpy(to->stable, from->current, from->touched_bytes);
	memset(to->sectors, SECTOR_ALLOCATED, from->touched_bytes / SIM_SECTOR_BYTES);
}

void misplace_reset(void)
{
	run->misplaced = MISPLACED_NONE;
	run->remembered[0] = '\0';
	sim_file_remove(&sim->aside);
}

void misplace_remember(void)
{
	struct rng rng = rng_stream(sim->seed ^ sim->life, 40);

	if (run->remembered[0] && !rng_one_in(&rng, 3))
		return;
	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		const struct run_node *node = &run->nodes[i];
		const struct sim_file *f =
		        labelled(node) && node->num_bases > 1 ? file_under(node->bases[0]) : NULL;

		if (!f)
			continue;
		copy_content(&sim->aside, f);
		str_copy(run->remembered, sizeof(run->remembered), f->path);
		run->remembered_lives = node->label_lives;
		return;
	}
}

/* Junk, or a label's place without a label. */
static void make_foreign(struct sim_file *to, const struct sim_file *like, struct rng *rng)
{
	copy_content(to, like);
	run->remembered[0] = '\0';
	for (uint64_t i = 0; i < to->touched_bytes; i += 64)
		to->current[i] = to->stable[i] = (uint8_t)rng_next(rng);
}

/* A base of another labelled bdev, or the other base of this one. */
static struct sim_file *other_base(
        const struct run_node *node, const struct sim_file *f, struct rng *rng)
{
	struct sim_file *fit[RUN_NODES_MAX * 2];
	unsigned n = 0;

	(void)node;
	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		for (unsigned k = 0; labelled(&run->nodes[i]) && k < run->nodes[i].num_bases; k++) {
			struct sim_file *g = file_under(run->nodes[i].bases[k]);

			if (g && g != f)
				fit[n++] = g;
		}
	return n ? fit[rng_below(rng, n)] : NULL;
}

static bool choose(struct rng *rng)
{
	struct run_node *fit[RUN_NODES_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < RUN_NODES_MAX; i++)
		if (labelled(&run->nodes[i]))
			fit[n++] = &run->nodes[i];
	if (n == 0)
		return false;
	now.node = fit[rng_below(rng, n)];
	now.a = file_under(now.node->bases[rng_below(rng, now.node->num_bases)]);
	run->misplaced = (enum run_misplaced)rng_range(rng, 1, MISPLACED_KINDS - 1);
	if (run->misplaced == MISPLACED_STALE) /* the second base alone may be older */
		now.a = file_under(now.node->bases[0]);
	return now.a != NULL;
}

bool misplace(void)
{
	struct rng rng = rng_stream(sim->seed ^ sim->life, 41);

	if (run->given.scenario != SCENARIO_RANDOM || !run->life_started || run->given.rogue ||
	        (run->given.without & WITHOUT_FAULTS) || sim_any_fault() || !rng_one_in(&rng, 3))
		return false;
	if (!choose(&rng)) {
		run->misplaced = MISPLACED_NONE;
		return false;
	}
	now.b = &sim->aside;
	if (run->misplaced == MISPLACED_FOREIGN)
		make_foreign(now.b, now.a, &rng);
	else if (run->misplaced == MISPLACED_SWAPPED)
		now.b = other_base(now.node, now.a, &rng);
	else if (strcmp(run->remembered, now.a->path) != 0 || now.node->num_bases < 2 ||
	         run->remembered_lives >= now.node->label_lives)
		now.b = NULL; /* nothing has happened there since */
	if (!now.b) {
		run->misplaced = MISPLACED_NONE;
		return false;
	}
	run->tally.misplaced++;
	sim_event(SIM_FILE_FAULT, sim_file_index(now.a),
	        run->misplaced == MISPLACED_SWAPPED ? FAULT_SWAP : FAULT_STALE,
	        (uint64_t)run->misplaced);
	str_copy(run->misplaced_node, sizeof(run->misplaced_node), now.node->name);
	exchange(now.a, now.b);
	return true;
}

void misplace_undo(void)
{
	exchange(now.a, now.b);
	run->misplaced = MISPLACED_NONE;
}

void misplace_check(void)
{
	static const char *const what[MISPLACED_KINDS] = {"", "with the content of another",
	        "with the content of an earlier time", "in the place of another"};

	if (bdev_find(run->misplaced_node))
		sim_fail("wrong disk taken", "%s is there, and a disk below it is %s",
		        run->misplaced_node, what[run->misplaced]);
}
