/*
 * resize_commit.c: carrying out a plan. `advance` goes through the phases and their layers; each
 * asynchronous step ends in it again.
 *
 * What shrinks goes first, parents before bases; what grows follows, bases before parents. A layer
 * that changes its shape over a base that shrinks lets no bio in from before the base's turn until
 * its own, since its old mapping may reach into what goes.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "bdev/transaction.h"

static void advance(struct transaction *t);

static struct layer *current(const struct transaction *t)
{
	bool top_first =
	        t->phase == PHASE_SHRINK || (PLANT(GROWN_TOP_FIRST) && t->phase == PHASE_GROW);
	unsigned i = top_first ? t->num_layers - 1 - t->at : t->at;

	return &t->layers[i];
}

static void next_phase(struct transaction *t)
{
	t->phase++;
	t->at = 0;
}

static void next_layer(struct transaction *t)
{
	if (++t->at == t->num_layers)
		next_phase(t);
}

/* A step has failed. A wish stops here, and so does all growth; the shrinking of a fact goes on,
 * and the layer bears the mark. */
static void step_failed(struct transaction *t, struct layer *layer, const struct err *err)
{
	log_error("bdev", "resize of '%s': %s", t->name, err->text);
	if (!t->fact || t->phase == PHASE_GROW) {
		t->err = *err;
		return;
	}
	bdev_set_problem(layer->bdev, "resize", err->text, "check the storage below it");
}

/* ---- publishing ---- */

static void release(struct layer *layer)
{
	if (layer->quiesced)
		bdev_unquiesce(layer->bdev);
	layer->quiesced = false;
}

static void published(void *arg, const struct err *err)
{
	struct transaction *t = arg;
	struct layer *layer = current(t);
	struct bdev *bdev = layer->bdev;
	uint64_t now = layer->planned.num_blocks, block_bytes = layer->planned.block_bytes;

	if (err) /* it holds for new bios; old ones have not left yet, or it is being removed */
		step_failed(t, layer, err);
	layer->published = true;
	release(layer);
	if (now != layer->old_blocks) {
		if (bdev->module->resized)
			bdev->module->resized(bdev, layer->old_blocks);
		bdev_event_raise("bdev_resize", bdev->name,
		        json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "old_blocks",
		                (json_int_t)layer->old_blocks, "new_blocks", (json_int_t)now,
		                "block_bytes", (json_int_t)block_bytes, "old_bytes",
		                (json_int_t)(layer->old_blocks * block_bytes), "new_bytes",
		                (json_int_t)(now * block_bytes), "why",
		                event_text(layer->planned.why), "cause", event_text(t->cause)));
	}
	next_layer(t);
	advance(t);
}

static void publish(struct transaction *t, struct layer *layer)
{
	struct bdev *bdev = layer->bdev;

	t->committed = true;
	bdev->geometry = layer->planned;
	bdev_publish_geometry(
	        bdev, &bdev->geometry, step_begin(bdev, "showing its new size", published, t));
}

static void persisted(void *arg, const struct err *err)
{
	struct transaction *t = arg;
	struct layer *layer = current(t);

	if (err)
		step_failed(t, layer, err);
	if (!err || (t->fact && layer->shrinks))
		layer->bdev->graph->persist_owed = err != NULL;
	layer->persisted = true;
	advance(t);
}

static void persist(struct transaction *t, struct layer *layer)
{
	struct bdev *bdev = layer->bdev;

	if (!bdev->module->persist ||
	        (PLANT(PERSIST_SKIPPED_ON_RETRY) && !list_empty(&t->bdev->graph->problems))) {
		publish(t, layer);
		return;
	}
	if (step_hangs(bdev, CALL_PERSIST)) { /* of a fact: a wish has been refused */
		struct err err = ERR_NONE;

		err_set(&err, -EBUSY, "'%s': " CALL_PERSIST " began earlier and has not ended",
		        bdev->name);
		persisted(t, &err);
		return;
	}
	struct bdev_done done = step_begin(bdev, CALL_PERSIST, persisted, t);

	bdev->module->persist(bdev, step_keep_geometry(done, &layer->planned), done);
}

/* ---- one layer ---- */

static void quiet(void *arg, const struct err *err)
{
	struct transaction *t = arg;
	struct layer *layer = current(t);

	if (err)
		step_failed(t, layer, err);
	layer->quiesced = !err;
	if (err && t->fact)
		layer->keep_quiet = false;
	advance(t);
}

/* False when there is nothing to wait for. */
static bool shrink_layer(struct transaction *t, struct layer *layer)
{
	if ((!layer->shrinks && !layer->keep_quiet) || !layer_lives(layer))
		return false;
	if (layer->shrinks && !t->fact) {
		transaction_ask_holders(t, layer);
		if (layer->refused.code) {
			t->err = layer->refused;
			return false;
		}
	}
	if (!layer->quiesced && !layer->asked_quiet) {
		layer->asked_quiet = true;
		step_quiesce(layer->bdev, quiet, t);
		return true;
	}
	if (!layer->shrinks)
		return false;
	if (layer->persisted)
		publish(t, layer);
	else
		persist(t, layer);
	return true;
}

static bool grow_layer(struct transaction *t, struct layer *layer)
{
	if (!layer->changes || layer->published || layer->fate == FATE_REMOVE ||
	        !layer_lives(layer))
		return false;
	if (layer->persisted)
		publish(t, layer);
	else
		persist(t, layer);
	return true;
}

/* ---- what can't follow a fact ---- */

static void dropped(void *arg, const struct err *err)
{
	struct transaction *t = arg;
	struct layer *layer = current(t);

	if (err && layer_lives(layer)) {
		struct removal_cause cause = {.hot = true, .why = err->text};

		removal_start(layer->bdev, &cause);
	}
	advance(t);
}

static bool drop_layer(struct transaction *t, struct layer *layer)
{
	struct bdev *bdev = layer->bdev;

	if (!layer_lives(layer) || layer->fate == FATE_FOLLOW)
		return false;
	if (layer->fate == FATE_REMOVE) {
		struct removal_cause cause = {.hot = true, .why = layer->refused.text};

		log_error("bdev", "'%s' goes: %s", bdev->name, layer->refused.text);
		removal_start(bdev, &cause);
		return false;
	}
	for (unsigned i = 0; i < bdev->num_bases; i++) {
		struct base_slot *slot = bdev->graph->slots[i];

		for (unsigned k = 0; k < t->num_layers; k++) {
			const struct layer *below = &t->layers[k];

			if (below->bdev != slot->base || !below->shrinks ||
			        slot->state != SLOT_HELD)
				continue;
			base_detach(slot, false,
			        step_begin(bdev, "letting go of a base that shrank", dropped, t));
			return true;
		}
	}
	return false;
}

/* ---- the storage ---- */

static void storage_resized(void *arg, const struct err *err)
{
	struct transaction *t = arg;

	t->storage_done = true;
	if (err) {
		log_error("bdev", "resize of '%s': %s", t->name, err->text);
		t->err = *err;
	} else {
		t->bdev->own_blocks = t->own_blocks;
		t->bdev->graph->storage_unsettled = false;
		t->committed = true;
	}
	advance(t);
}

/*
 * own_blocks never promises more than there may be: before the module makes the storage shorter it
 * is the smaller size already, since a failure or a late answer leaves open which of the two it
 * has.
 */
static bool resize_storage(struct transaction *t, bool growing)
{
	struct bdev *bdev = t->bdev;
	bool grows = t->own_blocks > bdev->own_blocks;

	if (t->kind != RESIZE_USER || bdev->state != BDEV_ONLINE || grows != growing ||
	        (bdev->own_blocks == t->own_blocks && !bdev->graph->storage_unsettled))
		return false;
	if (PLANT(STORAGE_NOT_GROWN) && growing) {
		bdev->own_blocks = t->own_blocks;
		return false;
	}
	if (!growing)
		bdev->own_blocks = t->own_blocks;
	bdev->graph->storage_unsettled = true;
	bdev->module->resize(
	        bdev, t->own_blocks, step_begin(bdev, CALL_RESIZE, storage_resized, t));
	return true;
}

/* ---- all of it ---- */

static void check_disturbed(struct transaction *t)
{
	for (unsigned i = 0; i < t->num_layers && !t->fact && t->err.code == 0; i++) {
		if (layer_lives(&t->layers[i]))
			continue;
		t->disturbed = true;
		err_set(&t->err, -ENODEV, "'%s' was removed while '%s' was being resized",
		        t->layers[i].bdev->name, t->name);
	}
}

/* Starts the next step of a phase; false when the phase or layer has none. */
static bool start_step(struct transaction *t)
{
	switch (t->phase) {
	case PHASE_STORAGE_GROW:
		return !t->storage_done && resize_storage(t, true);
	case PHASE_DROP:
		return t->fact && drop_layer(t, current(t));
	case PHASE_SHRINK:
		return shrink_layer(t, current(t));
	case PHASE_GROW:
		return grow_layer(t, current(t));
	case PHASE_STORAGE_SHRINK:
		return !t->storage_done && resize_storage(t, false);
	case PHASE_TELL:
	case PHASE_END:
		break;
	}
	return false;
}

static void advance(struct transaction *t)
{
	while (t->phase < PHASE_TELL) {
		check_disturbed(t);
		if (t->err.code) {
			t->phase = PHASE_TELL;
			break;
		}
		if (start_step(t))
			return;
		if (t->err.code)
			continue;
		if (t->phase == PHASE_STORAGE_GROW || t->phase == PHASE_STORAGE_SHRINK)
			next_phase(t);
		else
			next_layer(t);
	}
	for (unsigned i = 0; i < t->num_layers; i++)
		release(&t->layers[i]);
	transaction_tell(t);
}

void transaction_commit(struct transaction *t)
{
	t->phase = PHASE_STORAGE_GROW;
	t->at = 0;
	advance(t);
}
