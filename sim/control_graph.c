/*
 * Bdevs that come and go while requests are in flight. A bdev that is the same as its base takes
 * the oracle's knowledge along.
 */
#include <stdio.h>
#include <string.h>

#include "sim/nbd.h"
#include "sim/script.h"

static void move_model(const char *from, const char *to)
{
	struct model *m = model_find(from);

	if (m && !model_find(to))
		str_copy(m->name, sizeof(m->name), to);
}

/* In a new life: a layer may be there whose creation was cut off before the oracle heard of it. */
void control_settle_models(void)
{
	for (struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		const struct bdev *parent = bdev_parent(b, 0);

		if (!parent || !model_find(b->name))
			continue;
		if ((stack_claims(parent) & SIM_IDENTITY) && !model_find(parent->name))
			move_model(b->name, parent->name);
		else
			model_remove(model_find(b->name));
	}
}

/* ---- create
 * ---------------------------------------------------------------------------------------- */

static void created(void *arg, bool ok)
{
	struct ctl *c = arg;
	const struct sim_module *m = sim_module_find(c->node->module);

	sim_event(SIM_CREATE, c->op, ok, 0);
	run->tally.creates += ok;
	if (!ok && life_is_stopping()) { /* half of it may be there: the next life tells */
		ctl_end(c);
		return;
	}
	if (!ok && !sim_any_fault())
		sim_fail("create failed", "op %u: %s '%s' can't be created on %s", c->op,
		        c->node->module, c->node->name, c->name);
	/* One that failed may have begun to write what it keeps there. */
	if (!ok) {
		struct model *base = model_find(c->name);

		/* What it keeps there may be whole, and found by the next life. */
		c->node->state = m->found_if || (m->claims & SIM_FOUND) ? NODE_DELETING : NODE_FREE;
		if (base && (m->claims & SIM_FOUND))
			model_forget(base, 0, base->sectors);
	} else if (m->claims & SIM_IDENTITY) {
		move_model(c->name, c->node->name);
	} else if (model_find(c->name)) {
		model_remove(model_find(c->name));
	}
	io_rescan();
	ctl_end(c);
}

static struct run_node *draw_layer(struct ctl *c, const struct bdev *base)
{
	const char *name = run->given.scenario == SCENARIO_SCRIPT ? script_creates(c->op) : NULL;
	const char *bases[] = {base->name};

	if (!name)
		return stack_draw_node(&c->rng, base, NULL, 0);
	return stack_make_node(&c->rng, sim_module_find(name), bases, 1, base->geometry.num_blocks,
	        base->geometry.block_bytes);
}

static void released(void *arg)
{
	struct ctl *c = arg;

	const struct bdev *bdev = bdev_find(c->name);

	c->node = !bdev || bdev_is_claimed(bdev) ? NULL : draw_layer(c, bdev);
	if (!c->node) {
		io_rescan();
		ctl_end(c);
		return;
	}
	/* Its metadata goes where data was, also when it does not come to be after all. */
	if (model_find(c->name) &&
	        (sim_module_find(c->node->module)->claims & (SIM_LABELLED | SIM_FOUND)))
		model_find(c->name)->covered = true;
	stack_create_node(c->node, created, c);
}

void ctl_start_create(struct ctl *c)
{
	if (bdev_is_claimed(c->bdev) || nbd_is_exported(c->bdev)) {
		ctl_end(c);
		return;
	}
	io_release(c->bdev, released, c);
}

/* ---- bases that are taken out and put back
 * ------------------------------------------------------------ */

bool ctl_has_member(const struct bdev *bdev)
{
	return (stack_claims(bdev) & SIM_LABELLED) && bdev->num_bases > 1 && stack_node_of(bdev);
}

static void moved(void *arg, const struct err *err)
{
	struct ctl *c = arg;
	bool failed = err && err->code;

	if (failed && !sim_any_fault() && !life_is_stopping())
		sim_fail("member", "op %u: a base of %s can't be %s: %s", c->op, c->name,
		        c->node->detached ? "put back" : "taken out", err->text);
	if (!failed)
		c->node->detached = !c->node->detached;
	ctl_end(c);
}

/* The workload leaves alone what has been taken out, so that it can be put back. */
void ctl_start_member(struct ctl *c)
{
	struct bdev *base;

	c->node = stack_node_of(c->bdev);
	base = bdev_find(c->node->bases[1]);
	if (c->bdev->bases[1] && !c->node->detached)
		bdev_base_detach(c->bdev, 1, (struct bdev_done){moved, c});
	else if (!c->bdev->bases[1] && base && c->node->detached)
		bdev_base_attach(c->bdev, 1, base, (struct bdev_done){moved, c});
	else
		ctl_end(c);
}

/* ---- delete
 * ---------------------------------------------------------------------------------------- */

/* It was refused, and is there as before. */
static bool stays(const struct ctl *c)
{
	const struct bdev *bdev = bdev_find(c->name);

	return bdev && bdev->state == BDEV_ONLINE;
}

static void after_delete(struct ctl *c)
{
	const struct sim_module *m = sim_module_find(c->node->module);
	struct top *tops = io_tops();

	/* The handles of what is gone close by themselves, each on its own. */
	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used && tops[i].removed) {
			ctl_after(c, NSEC_PER_MSEC, after_delete);
			return;
		}
	if (bdev_find(c->name)) {
		ctl_after(c, NSEC_PER_MSEC, after_delete);
		return;
	}
	if (m->claims & SIM_IDENTITY)
		move_model(c->node->name, c->node->bases[0]);
	for (unsigned i = 0; i < MODELS_MAX; i++) {
		struct model *model = &run->models[i];

		if (model->used && !bdev_find(model->name))
			model_remove(model);
	}
	/* What a call has given up that waited too long may still be on its base. */
	c->node->state = c->gave_up && stack_is_found(c->node) ? NODE_DELETING : NODE_FREE;
	io_rescan();
	ctl_end(c);
}

static void deleted(void *arg, bool ok)
{
	struct ctl *c = arg;

	if (!ok && life_is_stopping()) {
		ctl_end(c);
		return;
	}
	/* A disk that stalls may make it take longer than the call waits; it goes on all the same.
	 */
	if (!ok && !sim_any_fault())
		sim_fail("delete failed", "op %u: %s '%s' can't be deleted", c->op, c->node->module,
		        c->node->name);
	if (!ok && stays(c)) {
		c->node->state = NODE_UP;
		c->bdev = bdev_find(c->name);
		ctl_hold(c);
		ctl_lift_limits(c);
		return;
	}
	c->gave_up = !ok;
	run->tally.deletes++;
	after_delete(c);
}

/* NULL, or what of the bdev's node can be deleted. */
static struct run_node *deletable(const struct bdev *bdev)
{
	struct run_node *node = stack_node_of(bdev);

	if (!node || bdev->state != BDEV_ONLINE || bdev_is_claimed(bdev) || node->state != NODE_UP)
		return NULL;
	/* Another bdev of the same node may be in use: only nodes whose bdevs all are tops. */
	for (struct bdev *b = bdev_next(NULL); b; b = bdev_next(b))
		if (b->num_bases && stack_node_of(b) == node && bdev_is_claimed(b))
			return NULL;
	return node;
}

static void delete_limited(struct ctl *c)
{
	bool gone = ctl_is_gone(c);

	c->node = gone ? NULL : deletable(c->bdev);
	if (!c->node) {
		ctl_lift_limits(c);
		return;
	}
	ctl_release(c);
	stack_delete_node(c->node, deleted, c);
}

static void limited(void *arg, const struct err *err)
{
	struct ctl *c = arg;

	if (!ctl_refused(c, err))
		ctl_after(c, rng_below(&c->rng, 20) * NSEC_PER_MSEC, delete_limited);
}

void ctl_start_delete(struct ctl *c)
{
	c->node = deletable(c->bdev);
	if (!c->node) {
		ctl_end(c);
	} else if (ctl_stays(c->bdev) && rng_one_in(&c->rng, 3)) {
		/* With requests that would wait for their rate longer than anybody may. */
		ctl_hold(c);
		c->limits.per_sec[QOS_RW_IOS] = 1;
		bdev_set_qos(c->bdev, &c->limits, (struct bdev_done){limited, c});
	} else {
		stack_delete_node(c->node, deleted, c);
	}
}
