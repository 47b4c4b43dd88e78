/*
 * Resizes: planned, done, and judged by what was planned; and files that somebody else resizes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/control.h"

#define BLOCKS_MAX_BYTES MIB(4)

bool ctl_resizable(const struct bdev *bdev)
{
	const struct sim_file *f = stack_file(bdev);

	return bdev->module->resize && !(f && f->is_block);
}

bool ctl_has_file(const struct bdev *bdev)
{
	const struct sim_file *f = stack_file(bdev);

	if (!f || !(stack_claims(bdev) & SIM_WATCHES))
		return false;
	return f->is_block || (run->faulty && !(run->given.without & WITHOUT_FAULTS));
}

static uint64_t draw_size(struct ctl *c)
{
	uint64_t old = bdev_num_blocks(c->bdev), max = BLOCKS_MAX_BYTES >> c->bdev->block_shift;

	switch (rng_below(&c->rng, 8)) {
	case 0:
		return old; /* nothing changes */
	case 1:
	case 2:
		return rng_range(&c->rng, 1, old);
	case 3:
		return old > 1 ? old - rng_range(&c->rng, 1, min_u64(old - 1, 16)) : old;
	case 4:
		return min_u64(max, old + rng_range(&c->rng, 1, 16));
	default:
		return rng_range(&c->rng, min_u64(old, max), max_u64(old, min_u64(max, 2 * old)));
	}
}

/* ---- a resize by name
 * ------------------------------------------------------------------------------ */

/* While it is under way, what lies past the smaller size may fail, and may be lost. */
static void set_floors(const struct ctl *c, bool on)
{
	for (unsigned i = 0; i < c->num_layers; i++) {
		struct bdev *bdev = bdev_find(c->layers[i].name);
		struct top *top = bdev ? io_top_of(bdev) : NULL;

		if (top)
			top_set_floor(
			        top, on ? min_u64(c->layers[i].old_blocks, c->layers[i].new_blocks)
			                : UINT64_MAX);
	}
}

static void check_report(const struct ctl *c, const struct resize_report *report)
{
	for (unsigned i = 0; i < report->num_layers; i++) {
		const struct resize_layer *l = &report->layers[i];
		const struct bdev *bdev = bdev_find(l->name);

		if (bdev && l->published && bdev_num_blocks(bdev) != l->new_blocks)
			sim_fail("wrong size",
			        "op %u: %s is reported to have got %lu blocks, and has %lu", c->op,
			        l->name, l->new_blocks, bdev_num_blocks(bdev));
		if (bdev && !l->published && l->new_blocks != l->old_blocks && !report->err.code)
			sim_fail("wrong size", "op %u: success, and %s has not got its new size",
			        c->op, l->name);
	}
	if (!c->planned || report->err.code || c->plan_code)
		return;
	if (report->num_layers != c->num_layers)
		sim_fail("not as planned", "op %u: %u layers were planned, %u were resized", c->op,
		        c->num_layers, report->num_layers);
	for (unsigned i = 0; i < c->num_layers; i++)
		if (report->layers[i].new_blocks != c->layers[i].new_blocks ||
		        report->layers[i].old_blocks != c->layers[i].old_blocks)
			sim_fail("not as planned",
			        "op %u: %s was planned to go from %lu to %lu blocks, and went from "
			        "%lu to %lu",
			        c->op, c->layers[i].name, c->layers[i].old_blocks,
			        c->layers[i].new_blocks, report->layers[i].old_blocks,
			        report->layers[i].new_blocks);
}

/* A part that its disk has no room for is gone with all that stood on it, and defends its data no
 * longer; when the disk grows again it is back. */
static void forget_absent_parts(const char *base_name)
{
	char below[80];

	snprintf(below, sizeof(below), "/%s/", base_name);
	for (unsigned i = 0; i < MODELS_MAX; i++) {
		struct model *m = &run->models[i];

		if (m->used && !bdev_find(m->name) &&
		        (strstr(m->below, below) ||
		                strncmp(m->name, base_name, strlen(base_name)) == 0))
			model_forget(m, 0, m->sectors);
	}
}

/* A layer above may stand on other disks too, and have to write there. */
static bool faulty_above(const struct bdev *bdev)
{
	const struct bdev *parent;
	bool faulty = stack_faulty(bdev);

	for (unsigned i = 0; (parent = bdev_parent(bdev, i)); i++)
		faulty |= faulty_above(parent);
	return faulty;
}

static void resized(void *arg, const struct resize_report *report)
{
	struct ctl *c = arg;
	const struct bdev *bdev = bdev_find(c->name);
	bool faulty = !bdev || faulty_above(bdev);
	uint64_t now = bdev ? bdev_num_blocks(bdev) : 0;
	struct run_node *node = bdev ? stack_node_of(bdev) : NULL;

	sim_event(SIM_RESIZE, c->op, now, (uint64_t)report->err.code);
	check_report(c, report);
	run->refuse_persist = false;
	if (run->persist_refused) { /* it has stopped half way: the same call completes it */
		run->persist_refused = false;
		c->planned = false;
		if (report->err.code && bdev && bdev->state == BDEV_ONLINE) {
			bdev_resize(bdev_find(c->name), c->new_blocks, resized, c);
			return;
		}
	}
	if (bdev && !report->err.code && now != c->new_blocks)
		sim_fail("wrong size", "op %u: %s was resized to %lu blocks, and has %lu", c->op,
		        c->name, c->new_blocks, now);
	if (report->err.code && !faulty && !life_is_stopping()) {
		if (c->new_blocks >= c->layers[0].old_blocks)
			sim_fail("resize failed", "op %u: growing %s to %lu blocks: %s", c->op,
			        c->name, c->new_blocks, report->err.text);
		if (now != c->layers[0].old_blocks)
			sim_fail("wrong size",
			        "op %u: a refused resize of %s has left %lu blocks, before it were "
			        "%lu",
			        c->op, c->name, now, c->layers[0].old_blocks);
	}
	set_floors(c, false);
	if (c->new_blocks < c->layers[0].old_blocks)
		forget_absent_parts(c->name);
	if (node) {
		node->own_blocks = now;
		node->next_blocks = 0;
	}
	run->tally.resizes += report->err.code == 0;
	io_check_told();
	ctl_end(c);
}

static void planned(void *arg, const struct resize_report *report)
{
	struct ctl *c = arg;
	struct bdev *on = bdev_find(c->name);
	struct run_node *node = on ? stack_node_of(on) : NULL;

	if (!on) { /* its disk has gone meanwhile */
		ctl_end(c);
		return;
	}
	c->planned = true;
	c->plan_code = report->err.code;
	c->num_layers = (unsigned)min_u64(report->num_layers, CTL_LAYERS_MAX);
	for (unsigned i = 0; i < c->num_layers; i++) {
		const struct resize_layer *l = &report->layers[i];
		const struct bdev *bdev = bdev_find(l->name);

		str_copy(c->layers[i].name, sizeof(c->layers[i].name), l->name);
		c->layers[i].old_blocks = l->old_blocks;
		c->layers[i].new_blocks = l->new_blocks;
		if (bdev && bdev_num_blocks(bdev) != l->old_blocks)
			sim_fail("plan has effects", "op %u: %s has %lu blocks, in the plan %lu",
			        c->op, l->name, bdev_num_blocks(bdev), l->old_blocks);
	}
	if (c->kind == CTL_PLAN) {
		stack_check(true);
		ctl_end(c);
		return;
	}
	if (c->num_layers == 0) {
		c->num_layers = 1;
		str_copy(c->layers[0].name, sizeof(c->layers[0].name), c->name);
		c->layers[0].old_blocks = bdev_num_blocks(on);
		c->layers[0].new_blocks = c->new_blocks;
		c->planned = false;
	}
	run->resized = true;
	set_floors(c, true);
	if (node)
		node->next_blocks = c->new_blocks;
	run->refuse_persist = rng_one_in(&c->rng, 6);
	bdev_resize(on, c->new_blocks, resized, c);
}

void ctl_start_resize(struct ctl *c)
{
	if (!c->exact)
		c->new_blocks = draw_size(c);
	bdev_resize_plan(c->bdev, c->new_blocks, planned, c);
}

void ctl_start_plan(struct ctl *c)
{
	ctl_start_resize(c);
}

/* ---- a file that somebody else resizes
 * ------------------------------------------------------------- */

static bool all_told(void)
{
	const struct bdev *bdev = NULL;

	while ((bdev = bdev_next(bdev)))
		if (!io_told(bdev))
			return false;
	return true;
}

static void watch_outside(struct ctl *c)
{
	const struct bdev *bdev = bdev_find(c->name);

	if (bdev && !c->file->gone &&
	        (bdev_num_blocks(bdev) != c->file->size_bytes >> bdev->block_shift ||
	                !all_told())) {
		ctl_after(c, 100 * NSEC_PER_MSEC, watch_outside);
		return;
	}
	ctl_end(c);
}

static void forget_above(const struct bdev *bdev)
{
	const struct bdev *parent;
	struct top *top = io_top_of(bdev);

	if (top)
		model_forget(top->model, 0, top->model->sectors);
	for (unsigned i = 0; (parent = bdev_parent(bdev, i)); i++)
		forget_above(parent);
}

void ctl_start_outside(struct ctl *c)
{
	c->file = stack_file(c->bdev);
	if (c->file->is_block) { /* grows, and all that was there stays */
		if (c->file->size_bytes < BLOCKS_MAX_BYTES)
			sim_disk_grow(
			        c->file, c->file->size_bytes + rng_range(&c->rng, 1, 64) * 4096);
		watch_outside(c);
		return;
	}
	c->new_blocks = draw_size(c);
	/* What the stack above makes of it is its own rule: from here on errors are legal there. */
	c->file->faults++;
	run->tally.faults++;
	sim_event(SIM_FILE_FAULT, sim_file_index(c->file), FAULT_RESIZE, c->new_blocks);
	/* Until the daemon sees it, a write makes the file as long as it was, with a hole. */
	if (c->new_blocks < bdev_num_blocks(c->bdev))
		forget_above(c->bdev);
	sim_disk_truncate(c->file, c->new_blocks << c->bdev->block_shift);
	watch_outside(c);
}
