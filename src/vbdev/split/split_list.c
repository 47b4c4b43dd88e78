/*
 * split_list.c: which bases are split, also those that are not there yet, and making their parts.
 */
#include "vbdev/split/split.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

static struct list splits = LIST_INIT(splits);
static struct bdev_subscription *subscription;

/* ---- the list ---------------------------------------------------------------------------------
 */

struct split *split_find(const char *base_name)
{
	struct bdev *base = bdev_find(base_name);
	struct split *split;

	list_for_each (split, &splits, link) {
		if (strcmp(split->base_name, base_name) == 0 ||
		        (base && bdev_find(split->base_name) == base))
			return split;
	}
	return NULL;
}

static void free_if_unused(struct split *split)
{
	if (split->listed || split->num_parts || split->working)
		return;
	free(split->parts);
	free(split->base_name);
	free(split);
}

void split_hold(struct split *split)
{
	split->working++;
}

void split_release(struct split *split)
{
	split->working--;
	free_if_unused(split);
}

/* A base that has grown may have room for parts that were asked for and did not fit. */
static void base_resized(void *arg, const struct bdev_event *event)
{
	struct bdev *base;
	struct split *split;

	(void)arg;
	if (strcmp(event->type, "bdev_resize") != 0)
		return;
	base = bdev_find(event->bdev);
	split = base ? split_find(event->bdev) : NULL;
	if (split && split->working)
		split->again = true;
	else if (split && split->settled)
		split_make_parts(split, base, (struct bdev_done){NULL, NULL});
}

struct split *split_add(
        const char *base_name, uint32_t count, uint64_t size_mb, uint64_t part_blocks)
{
	struct split *split = xcalloc(1, sizeof(*split));

	split->base_name = xstrdup(base_name);
	split->count = count;
	split->size_mb = size_mb;
	split->part_blocks = part_blocks;
	split->parts = xcalloc(count, sizeof(*split->parts));
	split->listed = true;
	list_push_back(&splits, &split->link);
	if (!subscription)
		subscription = bdev_subscribe(base_resized, NULL);
	return split;
}

void split_drop(struct split *split)
{
	if (!split->listed)
		return;
	list_remove(&split->link);
	split->listed = false;
	if (list_empty(&splits)) {
		bdev_unsubscribe(subscription);
		subscription = NULL;
	}
	free_if_unused(split);
}

void split_stop(void)
{
	while (!list_empty(&splits))
		split_drop(list_first(&splits, struct split, link));
}

/* ---- making parts -----------------------------------------------------------------------------
 */

struct making {
	struct split *split;
	uuid_t base_uuid;
	char base_name[BDEV_NAME_MAX];
	uint32_t next, fitting;
	struct bdev_done done; /* fn may be NULL: an error is logged */
};

static void make_next(struct making *making);

static void end_making(struct making *making, const struct err *err)
{
	struct split *split = making->split;

	/* Who is told may drop the split. */
	if (making->done.fn)
		bdev_done_call(making->done, err);
	else if (err && err->code)
		log_warning("split", "not all parts of '%s' could be made: %s", split->base_name,
		        err->text);
	split->working--;
	struct bdev *base = bdev_find(making->base_name);

	free(making);
	if (split->again && split->listed && !split->working && split->settled && base) {
		split->again = false;
		split_make_parts(split, base, (struct bdev_done){NULL, NULL});
		return;
	}
	free_if_unused(split);
}

static void part_went(void *arg, const struct err *err)
{
	end_making(arg, err);
}

static void part_made(void *arg, struct bdev *bdev, const struct err *err)
{
	struct making *making = arg;
	struct split *split = making->split;

	if (err && err->code) {
		end_making(making, err);
		return;
	}
	split->parts[making->next] = bdev;
	split->num_parts++;
	making->next++;
	/* Deleted meanwhile, together with the parts that were there. */
	if (!split->listed)
		bdev_remove(bdev, (struct bdev_done){.fn = part_went, .arg = making});
	else
		make_next(making);
}

static void make_next(struct making *making)
{
	struct split *split = making->split;
	struct split_part part = {.split = split};
	char name[BDEV_NAME_MAX + 16];
	const char *base = making->base_name;

	while (making->next < making->fitting && split->parts[making->next])
		making->next++;
	if (making->next >= making->fitting || !split->listed) {
		end_making(making, NULL);
		return;
	}
	part.index = making->next;
	part.start_blocks = part.index * split->part_blocks;
	snprintf(name, sizeof(name), "%sp%u", base, part.index);
	struct bdev_spec spec = {
	        .module = &split_module,
	        .name = name,
	        .bases = &base,
	        .num_bases = 1,
	        .params = &part,
	        .params_bytes = sizeof(part),
	};
	autofree char *key = xasprintf("split %u", part.index);

	/* By base and place, so that it is the same after a restart. */
	uuid_generate_sha1(spec.uuid, making->base_uuid, key, strlen(key));
	bdev_create(&spec, part_made, making);
}

/* The length of the parts, when the base is first seen. */
static int settle(struct split *split, const struct bdev *base, struct err *err)
{
	uint64_t blocks = base->geometry.num_blocks;
	uint32_t block_bytes = base->geometry.block_bytes;
	uint64_t part = split->part_blocks;

	if (part == 0)
		part = split->size_mb
		               ? split->size_mb * (MIB(1) / block_bytes) /* max: no overflow */
		               : blocks / split->count;
	if (part == 0 || part > blocks)
		return err_set(err, -EINVAL, "'%s' has %llu blocks of %u bytes, too few for %s",
		        base->name, (unsigned long long)blocks, block_bytes,
		        split->size_mb ? "one part of that size" : "that many parts");
	if (part > UINT64_MAX / split->count)
		return err_set(err, -EINVAL, "%u parts of %llu blocks are more than any bdev has",
		        split->count, (unsigned long long)part);
	split->part_blocks = part;
	split->settled = true;
	if (split_fitting(split, blocks) < split->count)
		log_warning("split", "'%s' has room for %u of the %u parts", base->name,
		        split_fitting(split, blocks), split->count);
	return 0;
}

void split_make_parts(struct split *split, struct bdev *base, struct bdev_done done)
{
	struct making *making = xcalloc(1, sizeof(*making));
	struct err err = ERR_NONE;

	split->working++;
	making->split = split;
	making->done = done;
	str_copy(making->base_name, sizeof(making->base_name), base->name);
	uuid_copy(making->base_uuid, base->uuid);
	if (!split->settled && settle(split, base, &err)) {
		end_making(making, &err);
		return;
	}
	making->fitting = split_fitting(split, base->geometry.num_blocks);
	make_next(making);
}

void split_part_gone(struct bdev *bdev)
{
	const struct split_part *part = bdev->priv;
	struct split *split = part->split;

	/* One that never came to be was never counted. */
	if (split->parts[part->index] != bdev)
		return;
	split->parts[part->index] = NULL;
	split->num_parts--;
	free_if_unused(split);
}

/* A base that was waited for, or that was here before. */
void split_examine(struct bdev *bdev, struct bdev_done done)
{
	struct split *split = split_find(bdev->name);

	if (split)
		split_make_parts(split, bdev, done);
	else
		bdev_done_call(done, NULL);
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

void split_for_each_waiting(void (*fn)(void *arg, const char *name, const char *missing), void *arg)
{
	const struct split *split;

	list_for_each (split, &splits, link) {
		for (uint32_t i = 0; i < split->count && !bdev_find(split->base_name); i++) {
			autofree char *name = xasprintf("%sp%u", split->base_name, i);

			fn(arg, name, split->base_name);
		}
	}
}

/* ---- save -------------------------------------------------------------------------------------
 */

json_t *split_save_module(void)
{
	json_t *calls = json_array();
	struct split *split;

	list_for_each (split, &splits, link) {
		json_t *params = json_pack("{s:s, s:I, s:I}", "base_bdev", split->base_name,
		        "split_count", (json_int_t)split->count, "split_size_mb",
		        (json_int_t)split->size_mb);

		/* The base may have another size when this is loaded; the data lies where it lies.
		 */
		if (split->size_mb == 0 && split->part_blocks > 0)
			json_object_set_new(params, "split_size_blocks",
			        json_integer((json_int_t)split->part_blocks));
		json_array_append_new(calls,
		        json_pack("{s:s, s:o}", "method", "bdev_split_create", "params", params));
	}
	return calls;
}
