/*
 * resize_tell.c: whoever holds a layer that has a new size is told, once, and its answer awaited
 * until the deadline.
 */
#include <errno.h>

#include "base/log.h"
#include "base/plant.h"
#include "bdev/transaction.h"

struct bdev_tell {
	struct list link; /* of the transaction, or in orphans when nobody waits any more */
	struct transaction *t;
	unsigned layer;
	const struct bdev_handle *handle;
};

static struct list orphans = LIST_INIT(orphans);
static struct transaction *telling; /* its tells are out, or being sent */
static bool sending;

static void finish_if_answered(struct transaction *t)
{
	if (sending || !list_empty(&t->tells))
		return;
	loop_timer_stop(loop_self(), &t->timer);
	telling = NULL;
	transaction_end(t);
}

static void orphan(struct bdev_tell *tell)
{
	list_remove(&tell->link);
	tell->t = NULL;
	tell->handle = NULL;
	list_push_back(&orphans, &tell->link);
}

static void all_answered(void *arg)
{
	if (telling == arg)
		finish_if_answered(arg);
}

void bdev_told(struct bdev_tell *tell, enum bdev_told told, unsigned clients)
{
	struct transaction *t = tell->t;

	BELLOWS_ASSERT(loop_is_control());
	if (t && told == BDEV_TOLD)
		t->layers[tell->layer].told += clients;
	if (t && told == BDEV_CANNOT_TELL)
		t->layers[tell->layer].untold += clients;
	list_remove(&tell->link);
	free(tell);
	if (t && !sending && list_empty(&t->tells))
		run_later(all_answered, t);
}

/* It was told; that it has gone instead of answering is answer enough. */
void tell_handle_closed(struct bdev_handle *handle)
{
	struct bdev_tell *tell, *next;

	if (!telling)
		return;
	list_for_each_safe (tell, next, &telling->tells, link) {
		if (tell->handle == handle)
			orphan(tell);
	}
	if (!sending && list_empty(&telling->tells))
		run_later(all_answered, telling);
}

static void deadline(struct loop_timer *timer)
{
	struct transaction *t = container_of(timer, struct transaction, timer);

	while (!list_empty(&t->tells)) {
		struct bdev_tell *tell = list_first(&t->tells, struct bdev_tell, link);
		struct layer *layer = &t->layers[tell->layer];

		layer->untold++;
		log_warning("bdev", "%s was told of the new size of '%s' and has not answered",
		        tell->handle->holder, layer->bdev->name);
		orphan(tell);
	}
	finish_if_answered(t);
}

static struct bdev_handle *not_told(const struct layer *layer)
{
	struct bdev_handle *handle;

	list_for_each (handle, &layer->bdev->graph->handles, link) {
		if (handle->known_blocks != layer->planned.num_blocks && !handle->removed_told)
			return handle;
	}
	return NULL;
}

/* A holder may answer, or close handles, from inside: so each time from the start. */
static void tell_layer(struct transaction *t, unsigned i)
{
	const struct layer *layer = &t->layers[i];
	struct bdev_handle *handle;

	if (!layer->published || !layer_lives(layer) || (PLANT(NOT_TOLD) && i > 0))
		return;
	while ((handle = not_told(layer)) != NULL) {
		struct bdev_tell *tell = xcalloc(1, sizeof(*tell));
		uint64_t old_blocks = handle->known_blocks;

		tell->t = t;
		tell->layer = i;
		tell->handle = handle;
		list_init(&tell->link);
		list_push_back(&t->tells, &tell->link);
		if (!(PLANT(TOLD_TWICE) && old_blocks < layer->planned.num_blocks))
			handle->known_blocks = layer->planned.num_blocks;
		else
			handle->known_blocks = 0;
		handle->ops->resized(handle, old_blocks, layer->planned.num_blocks, tell);
	}
}

void transaction_tell(struct transaction *t)
{
	struct loop *loop = loop_self();

	t->phase = PHASE_TELL;
	t->timer.fire = deadline;
	loop_timer_start(loop, &t->timer,
	        loop_now_ns(loop) + bdev_options()->step_timeout_ms * NSEC_PER_MSEC);
	telling = t;
	sending = true;
	for (unsigned i = 0; i < t->num_layers; i++)
		tell_layer(t, i);
	sending = false;
	finish_if_answered(t);
}
