/*
 * remove.c: how does a bdev go? It is marked, so that nobody new comes; its holders are told; what
 * stands on it goes first or lets go; when the last bio, holder, parent and pending call has left,
 * its module destroys it and it is swept. `pump` looks at what is left to do each time something
 * has happened.
 *
 * Removed by a user, a bdev serves what stands on it until that is gone, so that a layer can write
 * its last metadata. Gone by itself (hot), it refuses bios at once.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bdev/control.h"

struct removal_waiter {
	struct list link;
	struct bdev_done done;
};

static void pump(struct loop_task *task);

void removal_poke(struct bdev *bdev)
{
	struct removal *r = &bdev->graph->removal;

	if (bdev->state != BDEV_REMOVING || r->pump_queued)
		return;
	r->pump_queued = true;
	r->pump.run = pump;
	loop_defer(loop_self(), &r->pump);
}

/* ---- who is in the way? ---- */

/* Names what a removal that has passed its deadline waits for. */
static void blame(struct bdev *bdev, struct err *err)
{
	uint64_t stamp = graph_stamp();
	unsigned n = 1, room = 8;
	autofree struct bdev **found = xcalloc(room, sizeof(struct bdev *));
	unsigned timeout_ms = bdev_options()->step_timeout_ms;

	found[0] = bdev;
	bdev->graph->visited = stamp;
	for (unsigned i = 0; i < n; i++) {
		const struct bdev_graph *g = found[i]->graph;
		const struct base_slot *slot;

		if (!list_empty(&g->handles)) {
			err_set(err, -ETIMEDOUT,
			        "'%s' is not gone after %u ms: %s has not let go of '%s'; the "
			        "removal "
			        "goes on when it does",
			        bdev->name, timeout_ms,
			        list_first(&g->handles, struct bdev_handle, link)->holder,
			        found[i]->name);
			return;
		}
		list_for_each (slot, &g->parents, link) {
			if (slot->parent->graph->visited == stamp)
				continue;
			slot->parent->graph->visited = stamp;
			if (n == room) {
				room *= 2;
				found = xrealloc(found, room * sizeof(struct bdev *));
			}
			found[n++] = slot->parent;
		}
	}
	for (unsigned i = n; i-- > 0;) {
		const struct bdev_graph *g = found[i]->graph;

		if (g->removal.entry != ENTRY_CLOSING && g->pending == 0)
			continue;
		err_set(err, -ETIMEDOUT,
		        "'%s' is not gone after %u ms: '%s' %s; the removal goes on by itself",
		        bdev->name, timeout_ms, found[i]->name,
		        g->removal.entry == ENTRY_CLOSING
		                ? "still has requests in flight"
		                : "has not finished what it was asked to do");
		return;
	}
	err_set(err, -ETIMEDOUT, "'%s' is not gone after %u ms; the removal goes on by itself",
	        bdev->name, timeout_ms);
}

static void answer_waiters(struct list *waiters, const struct err *err)
{
	struct list *node;

	while ((node = list_pop_front(waiters)) != NULL) {
		struct removal_waiter *waiter = list_entry(node, struct removal_waiter, link);
		struct bdev_done done = waiter->done;

		free(waiter);
		bdev_done_call(done, err);
	}
}

static void deadline(struct loop_timer *timer)
{
	struct removal *r = container_of(timer, struct removal, timer);
	struct bdev *bdev = container_of(r, struct bdev_graph, removal)->bdev;
	struct list waiters = LIST_INIT(waiters);
	struct err err = ERR_NONE;

	blame(bdev, &err);
	log_warning("bdev", "%s", err.text);
	bdev_set_problem(bdev, "removal", err.text, "end what still uses it");
	list_splice_back(&waiters, &r->waiters);
	answer_waiters(&waiters, &err);
}

static void start_deadline(struct bdev *bdev)
{
	struct loop *loop = loop_self();
	struct loop_timer *timer = &bdev->graph->removal.timer;

	timer->fire = deadline;
	loop_timer_start(
	        loop, timer, loop_now_ns(loop) + bdev_options()->step_timeout_ms * NSEC_PER_MSEC);
}

/* ---- sweeping ---- */

/* What remains of the description: it waits for its base again, or is freed. */
static void leave_spec(struct bdev *bdev)
{
	struct bdev_graph *g = bdev->graph;
	struct bdev_spec *spec = g->spec;
	bool again = g->removal.rewait && !bdevs.stopping;
	const void *params = spec->params;

	if (g->made && g->hold_wanted)
		spec->hold_at_blocks =
		        bdev->held_blocks ? bdev->held_blocks : bdev->geometry.num_blocks;
	else if (g->made)
		spec->hold_at_blocks = 0;
	if (params && again)
		spec_take_params(spec, params);
	else if (params && spec->free_params)
		spec->free_params(spec->module, bdev->priv);
	if (!again) {
		spec->params = NULL;
		spec_free(spec);
		return;
	}
	waiting_add(spec);
}

static void removal_finish(struct bdev *bdev)
{
	struct bdev_graph *g = bdev->graph;
	struct list waiters = LIST_INIT(waiters);

	BELLOWS_ASSERT(list_empty(&g->parents) && list_empty(&g->handles) && g->pending == 0);
	loop_timer_stop(loop_self(), &g->removal.timer);
	list_remove(&bdev->link);
	BELLOWS_ASSERT(!g->adding);
	for (unsigned i = 0; i < bdev->num_bases; i++) {
		graph_release(g->slots[i]);
		free(g->slots[i]);
	}
	name_remove(g->name);
	for (unsigned i = 0; i < g->num_aliases; i++)
		name_remove(g->aliases[i]);
	if (g->made)
		bdev_loops_destroy(bdev);
	if (!g->removal.silent) {
		log_info("bdev", "'%s' is gone: %s", bdev->name, g->removal.why);
		bdev_event_raise("bdev_unregister", bdev->name,
		        json_pack("{s:o}", "why", event_text(g->removal.why)));
	}
	problems_free(bdev);
	leave_spec(bdev);
	list_splice_back(&waiters, &g->removal.waiters);
	free(g->aliases);
	free(g->slots);
	free(g);
	free(bdev->priv);
	free(bdev->bases);
	free(bdev);
	bdevs.alive--;
	answer_waiters(&waiters, NULL);
	life_poke();
}

static void destroyed(void *arg, const struct err *err)
{
	const struct bdev *bdev = arg;

	if (err)
		log_warning("bdev", "'%s': %s", bdev->name, err->text);
}

static void destroy(struct bdev *bdev)
{
	const struct bdev_graph *g = bdev->graph;
	struct bdev_done done = step_begin(bdev, "destroy", destroyed, bdev);

	if (g->prepared && bdev->module->destroy)
		bdev->module->destroy(bdev, done);
	else
		bdev_done_call(done, NULL);
}

/* ---- looking at what is left to do ---- */

static void tell_holders(struct bdev *bdev)
{
	struct bdev_handle *handle;
	bool again = true;

	while (again) { /* a holder may close any handle from inside */
		again = false;
		list_for_each (handle, &bdev->graph->handles, link) {
			if (handle->removed_told)
				continue;
			handle->removed_told = true;
			handle->ops->removed(handle);
			again = true;
			break;
		}
	}
}

/* Asks those above that stay to let go. True when all of them have, and nobody else is there. */
static bool parents_have_let_go(struct bdev *bdev)
{
	struct base_slot *slot;
	bool all = true;

	list_for_each (slot, &bdev->graph->parents, link) {
		if (slot->state == SLOT_HELD && slot->parent->state == BDEV_ONLINE)
			base_ask(slot);
		if (slot->state < SLOT_LET_GO || slot->parent->state == BDEV_REMOVING)
			all = false;
	}
	return all;
}

static void take_out_of_parents(struct bdev *bdev)
{
	struct base_slot *slot, *next;

	list_for_each_safe (slot, next, &bdev->graph->parents, link) {
		if (slot->state == SLOT_LET_GO && slot->parent->state == BDEV_ONLINE)
			base_take_out(slot);
	}
}

static void entry_closed(void *arg, const struct err *err)
{
	struct bdev *bdev = arg;

	(void)err;
	bdev->graph->removal.entry = ENTRY_CLOSED;
	removal_poke(bdev);
}

static void pump(struct loop_task *task)
{
	struct removal *r = container_of(task, struct removal, pump);
	struct bdev_graph *g = container_of(r, struct bdev_graph, removal);
	struct bdev *bdev = g->bdev;

	r->pump_queued = false;
	tell_holders(bdev);
	bool let_go = parents_have_let_go(bdev);

	if (r->entry == ENTRY_OPEN && (r->hot || let_go)) {
		r->entry = ENTRY_CLOSING;
		if (g->made)
			bdev_gate_close(bdev, (struct bdev_done){.fn = entry_closed, .arg = bdev});
		else
			entry_closed(bdev, NULL);
	}
	if (r->entry != ENTRY_CLOSED)
		return;
	take_out_of_parents(bdev);
	if (!list_empty(&g->parents) || !list_empty(&g->handles) || g->pending > 0)
		return;
	if (!r->destroying) {
		r->destroying = true;
		destroy(bdev);
	} else if (!r->pump_queued) {
		removal_finish(bdev);
	}
}

/* ---- marking ---- */

static void mark(struct bdev *bdev, const struct removal_cause *cause, bool root)
{
	struct removal *r = &bdev->graph->removal;

	if (bdev->state != BDEV_REMOVING) {
		bdev->state = BDEV_REMOVING;
		r->silent = cause->silent && root;
		r->rewait = root ? cause->rewait : cause->hot && bdev->graph->spec->wait_for_bases;
		str_copy(r->why, sizeof(r->why), cause->why);
		start_deadline(bdev);
		waiting_bdev_going(bdev);
		resize_bdev_going(bdev);
	} else if (!cause->hot) {
		r->rewait = false;
	}
	r->hot = r->hot || cause->hot;
}

/* Those above that can't be without it. The list grows while it is walked: no recursion. */
static struct bdev **mark_above(
        struct bdev *bdev, const struct removal_cause *cause, unsigned *count)
{
	uint64_t stamp = graph_stamp();
	unsigned n = 1, room = 8;
	struct bdev **found = xcalloc(room, sizeof(struct bdev *));
	struct removal_cause above = *cause;
	char why[BDEV_WHY_MAX];

	snprintf(why, sizeof(why), "'%.100s', which it stood on, was removed", bdev->name);
	above.why = why;
	found[0] = bdev;
	bdev->graph->visited = stamp;
	for (unsigned i = 0; i < n; i++) {
		struct base_slot *slot;

		mark(found[i], i == 0 ? cause : &above, i == 0);
		list_for_each (slot, &found[i]->graph->parents, link) {
			struct bdev *parent = slot->parent;

			if (parent->state == BDEV_CREATING)
				creation_cancel(parent->graph->creation, found[i]);
			if (parent->state == BDEV_CREATING || parent->graph->visited == stamp ||
			        (parent->state == BDEV_ONLINE && parent->module->base_lost))
				continue;
			parent->graph->visited = stamp;
			if (n == room) {
				room *= 2;
				found = xrealloc(found, room * sizeof(struct bdev *));
			}
			found[n++] = parent;
		}
	}
	*count = n;
	return found;
}

void removal_start(struct bdev *bdev, const struct removal_cause *cause)
{
	unsigned count;
	autofree struct bdev **found = mark_above(bdev, cause, &count);

	/* From the end: whoever stands above is told before who is below. */
	graph_sort(found, count);
	for (unsigned i = count; i-- > 0;)
		removal_poke(found[i]);
}

void removal_wait(struct bdev *bdev, struct bdev_done done)
{
	struct removal_waiter *waiter = xcalloc(1, sizeof(*waiter));

	waiter->done = done;
	list_init(&waiter->link);
	list_push_back(&bdev->graph->removal.waiters, &waiter->link);
	if (!loop_timer_active(&bdev->graph->removal.timer))
		start_deadline(bdev);
}

void bdev_remove(struct bdev *bdev, struct bdev_done done)
{
	struct removal_cause cause = {.why = "removed on request"};

	BELLOWS_ASSERT(loop_is_control());
	if (bdev->state == BDEV_CREATING)
		creation_cancel(bdev->graph->creation, NULL);
	else
		removal_start(bdev, &cause);
	removal_wait(bdev, done);
}

void bdev_gone(struct bdev *bdev, const char *why)
{
	struct removal_cause cause = {.hot = true, .why = why};

	BELLOWS_ASSERT(loop_is_control());
	if (bdev->state == BDEV_CREATING) {
		creation_cancel(bdev->graph->creation, NULL);
		return;
	}
	if (bdev->state == BDEV_ONLINE)
		log_warning("bdev", "'%s' is gone: %s", bdev->name, why);
	removal_start(bdev, &cause);
}
