/*
 * bases.c: bases that go and come while the bdev above lives on: a member that is lost, one that
 * returns, one that is added or taken out on purpose.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bdev/control.h"

struct base_slot *base_slot_new(struct bdev *bdev, unsigned index)
{
	struct base_slot *slot = xcalloc(1, sizeof(*slot));

	slot->parent = bdev;
	slot->index = index;
	list_init(&slot->link);
	return slot;
}

/* ---- going ---- */

static void answer_op(struct base_slot *slot, const struct err *err)
{
	struct bdev_done done = slot->done;

	slot->done.fn = NULL;
	if (done.fn)
		bdev_done_call(done, err);
}

/* A module may agree to lose a base that its geometry then turns out to need. */
static int check_without(const struct base_slot *slot, struct err *err)
{
	const struct bdev *bdev = slot->parent;
	autofree struct bdev_geometry *bases = xcalloc(bdev->num_bases, sizeof(*bases));
	struct bdev_geometry without;

	for (unsigned i = 0; i < bdev->num_bases; i++) {
		if (bdev->bases[i] && i != slot->index)
			bases[i] = bdev->bases[i]->geometry;
	}
	return geometry_derive(bdev, bases, bdev->own_blocks, true, &without, err);
}

static void let_go(void *arg, const struct err *err)
{
	struct base_slot *slot = arg;
	struct bdev *base = slot->base;
	struct err without = ERR_NONE;

	if (!err && check_without(slot, &without) != 0)
		err = &without;
	if (!err) {
		slot->state = SLOT_LET_GO;
		if (slot->done.fn)
			base_take_out(slot);
		removal_poke(base);
		return;
	}
	slot->state = SLOT_HELD;
	log_error("bdev", "%s", err->text);
	if (base->state != BDEV_ONLINE && slot->parent->state == BDEV_ONLINE) {
		char why[BDEV_WHY_MAX];
		struct removal_cause cause = {.hot = true, .why = why};

		snprintf(why, sizeof(why), "it could not do without base '%.100s'", base->name);
		removal_start(slot->parent, &cause);
	}
	answer_op(slot, err);
	removal_poke(base);
}

void base_ask(struct base_slot *slot)
{
	struct bdev *parent = slot->parent;

	BELLOWS_ASSERT(slot->state == SLOT_HELD);
	slot->state = SLOT_ASKED;
	parent->module->base_lost(
	        parent, slot->index, step_begin(parent, "letting go of a base", let_go, slot));
}

static void quiet(void *arg, const struct err *err)
{
	struct base_slot *slot = arg;
	struct bdev *parent = slot->parent, *base = slot->base;

	if (err) { /* the parent is going too, and gives its claims back when it is gone */
		slot->state = SLOT_LET_GO;
		answer_op(slot, err);
		bdev_unhold(parent);
		return;
	}
	parent->bases[slot->index] = NULL;
	graph_release(slot);
	if (slot->forget) {
		slot->name[0] = '\0';
		spec_set_base(parent->graph->spec, slot->index, NULL);
	}
	slot->forget = false;
	bdev_unquiesce(parent);
	log_warning("bdev", "'%s' goes on without its base '%s'", parent->name, base->name);
	bdev_event_raise("bdev_base_lost", parent->name, json_pack("{s:s}", "base", base->name));
	resize_queue(RESIZE_FACT, parent, parent->own_blocks, NULL, NULL);
	answer_op(slot, NULL);
	bdev_unhold(parent);
}

void base_take_out(struct base_slot *slot)
{
	BELLOWS_ASSERT(slot->state == SLOT_LET_GO);
	slot->state = SLOT_DETACHING;
	bdev_hold(slot->parent);
	bdev_quiesce(slot->parent, (struct bdev_done){.fn = quiet, .arg = slot});
}

void base_detach(struct base_slot *slot, bool forget, struct bdev_done done)
{
	slot->forget = forget;
	slot->done = done;
	base_ask(slot);
}

void bdev_base_detach(struct bdev *bdev, unsigned index, struct bdev_done done)
{
	struct err err = ERR_NONE;

	BELLOWS_ASSERT(loop_is_control());
	if (bdev->state != BDEV_ONLINE)
		err_set(&err, -ENODEV, "'%s' is being removed", bdev->name);
	else if (!bdev->module->base_lost)
		err_set(&err, -EOPNOTSUPP, "'%s': a %s can't be without a base", bdev->name,
		        bdev->module->name);
	else if (index >= bdev->num_bases || !bdev->graph->slots[index]->base)
		err_set(&err, -ENODEV, "'%s' has no base in slot %u", bdev->name, index);
	else if (bdev->graph->slots[index]->state != SLOT_HELD)
		err_set(&err, -EBUSY, "'%s': the base in slot %u is coming or going already",
		        bdev->name, index);
	if (err.code == 0)
		check_without(bdev->graph->slots[index], &err);
	if (err.code)
		bdev_done_call(done, &err);
	else
		base_detach(bdev->graph->slots[index], true, done);
}

/* ---- coming ---- */

struct attach {
	struct job job;
	struct base_slot *slot;
	bool returned; /* the module is asked by base_returned */
	bool added;    /* the slot is new */
	struct bdev_done done;
};

struct depth {
	unsigned rank, frames;
};

static void stand_on(const struct bdev *layer, struct depth below, struct depth *d)
{
	if (below.rank + 1 > d->rank)
		d->rank = below.rank + 1;
	if (!layer->module->splits && below.frames + 1 > d->frames)
		d->frames = below.frames + 1;
}

/* Depths of bdev and all above it (as graph_above has them) if base were one of its bases. */
static int depths_with(const struct bdev *base, struct bdev *const *above, unsigned count,
        struct depth *depths, struct err *err)
{
	for (unsigned i = 0; i < count; i++) {
		const struct bdev *layer = above[i];
		struct depth d = {.rank = layer->rank, .frames = layer->frames};

		if (i == 0)
			stand_on(layer, (struct depth){base->rank, base->frames}, &d);
		for (unsigned k = 0; i > 0 && k < layer->num_bases; k++) {
			const struct bdev *b = layer->graph->slots[k]->base;

			if (b && b->graph->place < i && above[b->graph->place] == b)
				stand_on(layer, depths[b->graph->place], &d);
		}
		if (d.frames > BDEV_FRAMES_MAX || d.rank >= BDEV_RANKS_MAX)
			return err_set(err, -EMLINK,
			        "with base '%s' below it, '%s' would stand too high in its stack: "
			        "layer %u of %d, or %u of %d since the last that splits requests",
			        base->name, layer->name, d.rank + 1, BDEV_RANKS_MAX, d.frames,
			        BDEV_FRAMES_MAX);
		depths[i] = d;
	}
	return 0;
}

/* With it, the size may not become less than it is. */
static int check_size(
        const struct bdev *bdev, unsigned index, const struct bdev *base, struct err *err)
{
	unsigned num_bases = index < bdev->num_bases ? bdev->num_bases : index + 1;
	autofree struct bdev_geometry *bases = xcalloc(num_bases, sizeof(*bases));
	struct bdev_geometry with;
	int rc;

	for (unsigned i = 0; i < num_bases; i++) {
		const struct bdev *b = i == index ? base : bdev->bases[i];

		if (b)
			bases[i] = b->geometry;
	}
	rc = geometry_derive_with(bdev, bases, num_bases, bdev->own_blocks, false, &with, err);
	if (rc == 0 && with.num_blocks < bdev->geometry.num_blocks) {
		char now[SIZE_TEXT_MAX], then[SIZE_TEXT_MAX];
		uint32_t block_bytes = with.block_bytes;

		format_size_bytes(now, sizeof(now), bdev->geometry.num_blocks * block_bytes);
		format_size_bytes(then, sizeof(then), with.num_blocks * block_bytes);
		rc = err_set(err, -ENOSPC,
		        "base '%s' is too small: '%s' would shrink from %s to %s", base->name,
		        bdev->name, now, then);
	}
	return rc;
}

/* index num_bases: in a slot of its own. */
static int may_stand_on(struct bdev *bdev, unsigned index, struct bdev *base, struct err *err)
{
	if (graph_stands_on(base, bdev))
		return err_set(err, -ELOOP, "'%s' stands on '%s' itself", base->name, bdev->name);
	unsigned count;
	autofree struct bdev **above = graph_above(bdev, &count);
	autofree struct depth *depths = xcalloc(count, sizeof(*depths));
	int rc = depths_with(base, above, count, depths, err);

	if (rc == 0)
		rc = check_size(bdev, index, base, err);
	return rc != 0 ? rc : graph_may_claim(base, bdev->module, NULL, err);
}

static int may_attach(struct bdev *bdev, unsigned index, struct bdev *base, struct err *err)
{
	if (bdev->state != BDEV_ONLINE)
		return err_set(err, -ENODEV, "'%s' is being removed", bdev->name);
	if (index >= bdev->num_bases || bdev->graph->slots[index]->base)
		return err_set(
		        err, -EEXIST, "'%s' has no free slot %u for a base", bdev->name, index);
	return may_stand_on(bdev, index, base, err);
}

static void attach_end(struct attach *attach, const struct err *err)
{
	struct base_slot *slot = attach->slot;
	struct bdev *parent = slot->parent, *base = slot->base;

	if (!err) {
		slot->state = SLOT_HELD;
		if (!attach->returned && !attach->added)
			spec_set_base(parent->graph->spec, slot->index, base->name);
		removal_poke(base);
		resize_queue(RESIZE_GEOMETRY, parent, parent->own_blocks, NULL, NULL);
	}
	if (attach->done.fn)
		bdev_done_call(attach->done, err);
	bdev_unhold(parent);
	free(attach);
	examine_unhold();
}

static void returned(void *arg, const struct err *err)
{
	struct attach *attach = arg;
	struct base_slot *slot = attach->slot;
	struct bdev *base = slot->base;

	if (err) {
		log_warning("bdev", "'%s' was not taken back: %s", base->name, err->text);
		attach_end(attach, err);
		slot->state = SLOT_LET_GO;
		removal_poke(base);
		if (slot->parent->state == BDEV_ONLINE)
			base_take_out(slot);
		return;
	}
	bdev_event_raise(
	        "bdev_base_returned", slot->parent->name, json_pack("{s:s}", "base", base->name));
	attach_end(attach, NULL);
}

/* Nothing is in flight in the parent: nobody reads its array of bases. */
static void append(struct attach *attach)
{
	struct base_slot *slot = attach->slot;
	struct bdev *parent = slot->parent;
	struct bdev_graph *g = parent->graph;
	struct bdev_done done = attach->done;

	BELLOWS_ASSERT(slot->index == parent->num_bases);
	parent->bases = xrealloc(parent->bases, (slot->index + 2U) * sizeof(*parent->bases));
	g->slots = xrealloc(g->slots, (slot->index + 2U) * sizeof(struct base_slot *));
	parent->bases[slot->index] = slot->base;
	parent->bases[slot->index + 1U] = NULL;
	g->slots[slot->index] = slot;
	parent->num_bases++;
	g->adding = NULL;
	slot->state = SLOT_HELD;
	spec_add_base(g->spec, slot->base->name);
	attach->done.fn = NULL;
	bdev_done_call(done, NULL);
}

/* The parent is quiet, or could not be made so. */
static void attach_quiet(void *arg, const struct err *err)
{
	struct attach *attach = arg;
	struct base_slot *slot = attach->slot;
	struct bdev *parent = slot->parent;
	bool unused = err && attach->added;

	if (!err && attach->added) {
		append(attach);
		bdev_unquiesce(parent);
	} else if (!err) {
		parent->bases[slot->index] = slot->base;
		bdev_unquiesce(parent);
	} else {
		graph_release(slot);
	}
	if (unused)
		parent->graph->adding = NULL;
	job_done(&attach->job);
	if (err || !attach->returned)
		attach_end(attach, err);
	else
		parent->module->base_returned(parent, slot->index,
		        step_begin(parent, "taking back a base", returned, attach));
	if (unused)
		free(slot);
}

/*
 * Whoever would stand too low for its new base is raised first, from the top, since child pools are
 * per rank and a layer may only wait for pools below its own.
 */
static void attach_raise(void *arg, const struct err *err)
{
	struct attach *attach = arg;
	struct base_slot *slot = attach->slot;
	struct bdev *parent = slot->parent;
	struct err reason = ERR_NONE;
	unsigned count;
	autofree struct bdev **above = graph_above(parent, &count);
	autofree struct depth *depths = xcalloc(count, sizeof(*depths));

	if (err)
		reason = *err;
	else if (depths_with(slot->base, above, count, depths, &reason) == 0)
		check_size(parent, slot->index, slot->base, &reason);
	for (unsigned i = count; i-- > 0 && reason.code == 0;) {
		struct bdev *layer = above[i];

		layer->frames = depths[i].frames;
		if (depths[i].rank <= layer->rank)
			continue;
		layer->rank = depths[i].rank;
		bdev_publish_geometry(layer, &layer->geometry,
		        step_begin(layer, "taking a higher rank", attach_raise, attach));
		return;
	}
	if (reason.code)
		attach_quiet(attach, &reason);
	else
		step_quiesce(parent, attach_quiet, attach);
}

static void attach_run(struct job *job)
{
	attach_raise(container_of(job, struct attach, job), NULL);
}

enum attach_kind {
	ATTACH_GIVEN,
	ATTACH_RETURNED,
	ATTACH_ADDED
};

static void attach_start(
        struct base_slot *slot, struct bdev *base, enum attach_kind kind, struct bdev_done done)
{
	struct attach *attach = xcalloc(1, sizeof(*attach));

	graph_claim(slot, base);
	slot->state = SLOT_COMING;
	attach->slot = slot;
	attach->returned = kind == ATTACH_RETURNED;
	attach->added = kind == ATTACH_ADDED;
	attach->done = done;
	attach->job.run = attach_run;
	bdev_hold(slot->parent);
	examine_hold();
	job_queue(&attach->job);
}

void bdev_base_attach(struct bdev *bdev, unsigned index, struct bdev *base, struct bdev_done done)
{
	struct err err = ERR_NONE;

	BELLOWS_ASSERT(loop_is_control());
	if (may_attach(bdev, index, base, &err) != 0)
		bdev_done_call(done, &err);
	else
		attach_start(bdev->graph->slots[index], base, ATTACH_GIVEN, done);
}

static int may_add(struct bdev *bdev, struct bdev *base, struct err *err)
{
	unsigned max = bdev->module->bases_max;

	if (bdev->state != BDEV_ONLINE)
		return err_set(err, -ENODEV, "'%s' is being removed", bdev->name);
	if (bdev->graph->adding)
		return err_set(err, -EBUSY, "'%s' is just getting another base", bdev->name);
	if (bdev->num_bases >= max)
		return err_set(err, -ENOSPC, "'%s' has %u bases, and a %s takes no more",
		        bdev->name, bdev->num_bases, bdev->module->name);
	return may_stand_on(bdev, bdev->num_bases, base, err);
}

void bdev_base_add(struct bdev *bdev, struct bdev *base, struct bdev_done done)
{
	struct err err = ERR_NONE;

	BELLOWS_ASSERT(loop_is_control());
	if (may_add(bdev, base, &err) != 0) {
		bdev_done_call(done, &err);
		return;
	}
	bdev->graph->adding = base_slot_new(bdev, bdev->num_bases);
	attach_start(bdev->graph->adding, base, ATTACH_ADDED, done);
}

static bool expects(const struct base_slot *slot, const struct bdev *bdev)
{
	if (slot->base || slot->name[0] == '\0')
		return false;
	if (!uuid_is_null(slot->uuid) && uuid_compare(slot->uuid, bdev->uuid) == 0)
		return true;
	return bdev_find(slot->name) == bdev;
}

void base_appeared(struct bdev *bdev)
{
	struct bdev *parent;

	list_for_each (parent, &bdevs.all, link) {
		if (parent->state != BDEV_ONLINE || !parent->module->base_returned)
			continue;
		for (unsigned i = 0; i < parent->num_bases; i++) {
			struct base_slot *slot = parent->graph->slots[i];
			struct err err = ERR_NONE;

			if (!expects(slot, bdev))
				continue;
			if (may_attach(parent, i, bdev, &err) == 0)
				attach_start(slot, bdev, ATTACH_RETURNED,
				        (struct bdev_done){.fn = NULL});
			else
				log_warning("bdev", "'%s' can't return to '%s': %s", bdev->name,
				        parent->name, err.text);
		}
	}
}
