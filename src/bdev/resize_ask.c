/*
 * resize_ask.c: who would refuse? Modules may refuse any change, holders that they lose something.
 */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "bdev/transaction.h"

static void lost_text(const struct layer *layer, char *buf, size_t size)
{
	format_size_bytes(buf, size,
	        (layer->old_blocks - layer->planned.num_blocks) *
	                layer->bdev->geometry.block_bytes);
}

static void ask_module(struct layer *layer)
{
	struct bdev *bdev = layer->bdev;
	struct err reason = ERR_NONE;
	char label[BDEV_LABEL_MAX];
	int rc;

	if (step_hangs(bdev, CALL_PERSIST)) {
		err_set(&layer->refused, -EBUSY,
		        "%s: " CALL_PERSIST " began earlier and has not ended; try again when it "
		        "has",
		        graph_label(bdev, label, sizeof(label)));
		return;
	}
	if (!bdev->module->may_resize)
		return;
	rc = bdev->module->may_resize(bdev, &layer->planned, &reason);
	if (rc != 0)
		err_set(&layer->refused, rc, "%s refuses: %s",
		        graph_label(bdev, label, sizeof(label)),
		        reason.code ? reason.text : errno_text(rc));
}

static void ask_holder(struct transaction *t, struct layer *layer, struct bdev_handle *handle)
{
	struct bdev *bdev = layer->bdev;
	struct err reason = ERR_NONE;
	char label[BDEV_LABEL_MAX], lost[SIZE_TEXT_MAX];
	autofree char *holder = xstrdup(handle->holder);

	handle->asked = t->stamp;
	err_set(&reason, -EBUSY, "it can't shrink");
	if (handle->ops->may_shrink) {
		reason.code = 0;
		reason.text[0] = '\0';
		if (handle->ops->may_shrink(handle, layer->planned.num_blocks, &reason) == 0 ||
		        PLANT(SHRUNK_UNASKED))
			return;
	}
	lost_text(layer, lost, sizeof(lost));
	err_set(&layer->refused, -EBUSY, "%s would lose %s, and %s has it open: %s",
	        graph_label(bdev, label, sizeof(label)), lost, holder,
	        reason.text[0] ? reason.text : "it refuses to shrink");
}

static struct bdev_handle *not_asked(const struct transaction *t, const struct bdev *bdev)
{
	struct bdev_handle *handle;

	list_for_each (handle, &bdev->graph->handles, link) {
		if (handle->asked != t->stamp && !(PLANT(HOLDER_NOT_ASKED) && bdev->rank > 0))
			return handle;
	}
	return NULL;
}

/* A holder may close handles, its own or others, from inside: so each time from the start. */
void transaction_ask_holders(struct transaction *t, struct layer *layer)
{
	const struct base_slot *slot;
	struct bdev_handle *handle;
	char label[BDEV_LABEL_MAX], lost[SIZE_TEXT_MAX];

	while (layer->refused.code == 0 && (handle = not_asked(t, layer->bdev)) != NULL)
		ask_holder(t, layer, handle);
	list_for_each (slot, &layer->bdev->graph->parents, link) {
		if (layer->refused.code || slot->parent->state != BDEV_CREATING)
			continue;
		lost_text(layer, lost, sizeof(lost));
		err_set(&layer->refused, -EBUSY,
		        "'%s' would lose %s, and %s is being created on it", layer->bdev->name,
		        lost, graph_label(slot->parent, label, sizeof(label)));
	}
}

void transaction_ask(struct transaction *t)
{
	unsigned refusals = 0;

	for (unsigned i = 0; i < t->num_layers; i++) {
		struct layer *layer = &t->layers[i];

		if (!t->fact && layer->changes && layer->refused.code == 0)
			ask_module(layer);
		if (!t->fact && layer->shrinks && layer->refused.code == 0)
			transaction_ask_holders(t, layer);
		if (t->fact || layer->refused.code == 0)
			continue;
		if (refusals++ == 0)
			t->err = layer->refused;
	}
	if (refusals > 1) {
		size_t len = strlen(t->err.text);

		snprintf(t->err.text + len, sizeof(t->err.text) - len,
		        " (and %u more layers refuse)", refusals - 1);
	}
}
