/*
 * resize_plan.c: what would every layer become? Lowest rank first, each from the planned geometry
 * of its bases. Nothing is changed here.
 */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "bdev/transaction.h"

/* The planned layer of a bdev, or NULL when the plan doesn't touch it. */
static struct layer *layer_of(const struct transaction *t, const struct bdev *bdev)
{
	unsigned place = bdev->graph->place;

	return place < t->num_layers && t->layers[place].bdev == bdev ? &t->layers[place] : NULL;
}

static bool became_too_small(const struct layer *base)
{
	return base && base->fate != FATE_REMOVE && base->shrinks;
}

/* Planned geometry of a layer's bases; one that is going counts until it is out of bases[].
 * without_shrunk: as if those that shrink were missing. */
static void gather_bases(const struct transaction *t, const struct layer *layer,
        bool without_shrunk, struct bdev_geometry *bases)
{
	const struct bdev *bdev = layer->bdev;

	memset(bases, 0, bdev->num_bases * sizeof(*bases));
	for (unsigned i = 0; i < bdev->num_bases; i++) {
		const struct bdev *base = bdev->bases[i];
		const struct layer *below = base ? layer_of(t, base) : NULL;

		if (!base || (below && below->fate == FATE_REMOVE) ||
		        (without_shrunk && became_too_small(below)))
			continue;
		bases[i] = below && !(PLANT(PLAN_STALE) && t->kind == RESIZE_DRY) ? below->planned
		                                                                  : base->geometry;
	}
}

static uint64_t own_blocks(const struct transaction *t, const struct bdev *bdev)
{
	return bdev == t->bdev ? t->own_blocks : bdev->own_blocks;
}

/* A fact that the layer's geometry refuses: it lets go of what has shrunk, or goes. */
static void choose_fate(struct transaction *t, struct layer *layer, struct bdev_geometry *bases)
{
	struct bdev *bdev = layer->bdev;

	layer->fate = FATE_REMOVE;
	if (bdev->module->base_lost && bdev->num_bases > 1) {
		gather_bases(t, layer, true, bases);
		if (geometry_derive(
		            bdev, bases, own_blocks(t, bdev), true, &layer->planned, NULL) == 0)
			layer->fate = FATE_LOSE;
	}
	if (layer->fate == FATE_REMOVE) {
		layer->planned = bdev->geometry;
		layer->planned.num_blocks = 0;
		str_copy(layer->planned.why, sizeof(layer->planned.why), layer->refused.text);
	}
}

static void plan_layer(struct transaction *t, struct layer *layer)
{
	struct bdev *bdev = layer->bdev;
	autofree struct bdev_geometry *bases = xcalloc(bdev->num_bases + 1U, sizeof(*bases));

	gather_bases(t, layer, false, bases);
	if (geometry_derive(bdev, bases, own_blocks(t, bdev), t->fact, &layer->planned,
	            &layer->refused) != 0) {
		layer->planned = bdev->geometry;
		if (t->fact)
			choose_fate(t, layer, bases);
	}
	layer->grows = layer->planned.num_blocks > layer->old_blocks;
	layer->shrinks = layer->planned.num_blocks < layer->old_blocks;
	layer->changes =
	        !geometry_equal(&layer->planned, &bdev->geometry) || bdev->graph->persist_owed;
	for (unsigned i = 0; i < bdev->num_bases; i++) {
		const struct layer *below = bdev->bases[i] ? layer_of(t, bdev->bases[i]) : NULL;

		if (layer->changes && !layer->shrinks && below && below->shrinks)
			layer->keep_quiet = true;
	}
}

/* A fact is what leaves somebody with less; other news are asked like a wish. */
static bool takes_something_away(const struct transaction *t)
{
	for (unsigned i = 0; i < t->num_layers; i++) {
		if (t->layers[i].shrinks || t->layers[i].fate != FATE_FOLLOW)
			return true;
	}
	return false;
}

static void plan(struct transaction *t)
{
	for (unsigned i = 0; i < t->num_layers; i++) {
		struct layer *layer = &t->layers[i];
		struct bdev *bdev = layer->bdev;

		*layer = (struct layer){.bdev = bdev, .old_blocks = bdev->geometry.num_blocks};
		plan_layer(t, layer);
	}
}

void transaction_plan(struct transaction *t)
{
	unsigned count;
	autofree struct bdev **above = graph_above(t->bdev, &count);

	t->layers = xcalloc(count, sizeof(*t->layers));
	t->num_layers = count;
	for (unsigned i = 0; i < count; i++) {
		t->layers[i].bdev = above[i];
		bdev_hold(above[i]);
	}
	plan(t);
	if (t->fact && !takes_something_away(t)) {
		t->fact = false;
		plan(t);
	}
}
