/*
 * graph.c: who stands on whom, under which names, and who may claim what.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bdev/control.h"

struct bdev_core bdevs = {
        .all = LIST_INIT(bdevs.all),
        .creations = LIST_INIT(bdevs.creations),
};

uint64_t graph_stamp(void)
{
	return ++bdevs.stamp;
}

const char *graph_label(const struct bdev *bdev, char *buf, size_t size)
{
	snprintf(buf, size, "%s '%s'", bdev->module->name, bdev->name);
	return buf;
}

const struct bdev_spec *bdev_get_spec(const struct bdev *bdev)
{
	return bdev->graph->spec;
}

void bdev_set_own_blocks(struct bdev *bdev, uint64_t own_blocks)
{
	BELLOWS_ASSERT(loop_is_control());
	bdev->own_blocks = own_blocks;
}

/* ---- finding ---- */

struct bdev *bdev_find(const char *name)
{
	BELLOWS_ASSERT(loop_is_control());
	struct bdev *bdev = name_owner(name);

	return bdev && bdev->state == BDEV_ONLINE ? bdev : NULL;
}

struct bdev *bdev_next(const struct bdev *after)
{
	BELLOWS_ASSERT(loop_is_control());
	const struct list *node = after ? after->link.next : bdevs.all.next;

	for (; node != &bdevs.all; node = node->next) {
		struct bdev *bdev = container_of(node, struct bdev, link);

		if (bdev->state == BDEV_ONLINE)
			return bdev;
	}
	return NULL;
}

struct bdev *bdev_parent(const struct bdev *bdev, unsigned i)
{
	const struct base_slot *slot;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (slot, &bdev->graph->parents, link) {
		if (slot->parent->state != BDEV_CREATING && i-- == 0)
			return slot->parent;
	}
	return NULL;
}

bool graph_stands_on(const struct bdev *bdev, const struct bdev *base)
{
	if (bdev == base)
		return true;
	unsigned count;
	autofree struct bdev **above = graph_above((struct bdev *)(uintptr_t)base, &count);

	for (unsigned i = 0; i < count; i++) {
		if (above[i] == bdev)
			return true;
	}
	return false;
}

/* ---- aliases ---- */

int bdev_add_alias(struct bdev *bdev, const char *alias, struct err *err)
{
	struct bdev_graph *g = bdev->graph;
	int rc;

	BELLOWS_ASSERT(loop_is_control());
	rc = name_check("the alias", alias, err);
	if (rc == 0)
		rc = name_is_free(alias, err);
	if (rc != 0)
		return rc;
	if (g->num_aliases >= BDEV_ALIASES_MAX)
		return err_set(err, -ENOSPC, "'%s' already has %u aliases, the most there can be",
		        bdev->name, g->num_aliases);
	g->aliases = xrealloc(g->aliases, (g->num_aliases + 1) * sizeof(*g->aliases));
	g->aliases[g->num_aliases++] = name_add(bdev, alias);
	return 0;
}

int bdev_remove_alias(struct bdev *bdev, const char *alias)
{
	struct bdev_graph *g = bdev->graph;

	BELLOWS_ASSERT(loop_is_control());
	for (unsigned i = 1; i < g->num_aliases; i++) {
		if (strcmp(g->aliases[i]->text, alias) != 0)
			continue;
		name_remove(g->aliases[i]);
		memmove(&g->aliases[i], &g->aliases[i + 1],
		        (g->num_aliases - i - 1) * sizeof(*g->aliases));
		g->num_aliases--;
		return 0;
	}
	return -ENOENT;
}

const char *bdev_alias(const struct bdev *bdev, unsigned i)
{
	BELLOWS_ASSERT(loop_is_control());
	return i < bdev->graph->num_aliases ? bdev->graph->aliases[i]->text : NULL;
}

/* ---- claims ---- */

/* The module that has a claim on bdev, and by whom; NULL: unclaimed. */
static const struct bdev_module *claimant(const struct bdev *bdev, char *who, size_t size)
{
	const struct bdev_graph *g = bdev->graph;
	const struct bdev_handle *handle;

	if (!list_empty(&g->parents)) {
		const struct base_slot *slot = list_first(&g->parents, struct base_slot, link);

		graph_label(slot->parent, who, size);
		return slot->parent->module;
	}
	list_for_each (handle, &g->handles, link) {
		if (handle->ops->module) {
			snprintf(who, size, "%s", handle->holder);
			return handle->ops->module;
		}
	}
	if (g->reserved) {
		snprintf(who, size, "%s '%s', which waits for another base",
		        waiting_module(g->reserved)->name, waiting_name(g->reserved));
		return waiting_module(g->reserved);
	}
	return NULL;
}

bool bdev_is_claimed(const struct bdev *bdev)
{
	char who[BDEV_LABEL_MAX];

	BELLOWS_ASSERT(loop_is_control());
	return claimant(bdev, who, sizeof(who)) != NULL;
}

int graph_may_write(const struct bdev *bdev, const struct bdev_module *module, struct err *err)
{
	char who[BDEV_LABEL_MAX + 64];
	const struct bdev_module *owner = claimant(bdev, who, sizeof(who));

	if (owner && owner != module)
		return err_set(err, -EPERM, "'%s' is claimed by %s", bdev->name, who);
	return 0;
}

int graph_may_claim(const struct bdev *base, const struct bdev_module *module,
        const struct waiting *waiting, struct err *err)
{
	const struct bdev_handle *handle;
	char who[BDEV_LABEL_MAX + 64];
	const struct bdev_module *owner = claimant(base, who, sizeof(who));

	if (base->state != BDEV_ONLINE)
		return err_set(err, -ENODEV, "base '%s' is being removed", base->name);
	bool ours =
	        waiting && base->graph->reserved == waiting && list_empty(&base->graph->parents);

	if (owner && !ours && !(owner == module && module->shares_base))
		return err_set(err, -EPERM, "base '%s' is claimed by %s", base->name, who);
	list_for_each (handle, &base->graph->handles, link) {
		if (handle->write && handle->ops->module != module)
			return err_set(err, -EPERM,
			        "base '%s' is open for writing by %s; close that first", base->name,
			        handle->holder);
	}
	return 0;
}

void graph_claim(struct base_slot *slot, struct bdev *base)
{
	BELLOWS_ASSERT(!slot->base);
	slot->base = base;
	slot->state = SLOT_HELD;
	str_copy(slot->name, sizeof(slot->name), base->name);
	uuid_copy(slot->uuid, base->uuid);
	list_push_back(&base->graph->parents, &slot->link);
}

void graph_release(struct base_slot *slot)
{
	struct bdev *base = slot->base;

	if (!base)
		return;
	list_remove(&slot->link);
	slot->base = NULL;
	slot->state = SLOT_EMPTY;
	removal_poke(base);
}

/* ---- order ---- */

int graph_depth(const struct bdev *bdev, unsigned *rank, unsigned *frames, struct err *err)
{
	*rank = 0;
	*frames = 1;
	for (unsigned i = 0; i < bdev->num_bases; i++) {
		const struct bdev *base = bdev->graph->slots[i]->base;

		if (!base)
			continue;
		if (base->rank + 1 > *rank)
			*rank = base->rank + 1;
		if (!bdev->module->splits && base->frames + 1 > *frames)
			*frames = base->frames + 1;
	}
	if (*frames > BDEV_FRAMES_MAX)
		return err_set(err, -EMLINK,
		        "'%s' would be layer %u of a stack that can have %d between two layers "
		        "that split requests",
		        bdev->name, *frames, BDEV_FRAMES_MAX);
	if (*rank >= BDEV_RANKS_MAX)
		return err_set(err, -EMLINK, "'%s' would be layer %u of a stack that can have %d",
		        bdev->name, *rank + 1, BDEV_RANKS_MAX);
	return 0;
}

static int by_rank(const void *a, const void *b)
{
	const struct bdev *x = *(struct bdev *const *)a, *y = *(struct bdev *const *)b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->graph->sequence < y->graph->sequence ? -1 : 1;
}

void graph_sort(struct bdev **list, unsigned count)
{
	qsort(list, count, sizeof(*list), by_rank);
}

struct bdev **graph_above(struct bdev *bdev, unsigned *count)
{
	uint64_t stamp = graph_stamp();
	unsigned n = 1, room = 8;
	struct bdev **found = xcalloc(room, sizeof(struct bdev *));

	found[0] = bdev;
	bdev->graph->visited = stamp;
	for (unsigned i = 0; i < n; i++) {
		const struct base_slot *slot;

		list_for_each (slot, &found[i]->graph->parents, link) {
			struct bdev *parent = slot->parent;

			if (parent->graph->visited == stamp || parent->state != BDEV_ONLINE)
				continue;
			parent->graph->visited = stamp;
			if (n == room) {
				room *= 2;
				found = xrealloc(found, room * sizeof(struct bdev *));
			}
			found[n++] = parent;
		}
	}
	graph_sort(found, n);
	for (unsigned i = 0; i < n; i++)
		found[i]->graph->place = i;
	*count = n;
	return found;
}
