/*
 * raid_create.c: an array as a user asks for it, and its end.
 */
#include "vbdev/raid/raid_create.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* ---- creation ---------------------------------------------------------------------------------
 */

struct creation {
	struct raid *raid;
	unsigned next; /* slot */
	struct bdev_done done;
	struct err err;
	char base[BDEV_NAME_MAX]; /* that is being read */
};

static int check_level(const struct raid_wish *wish, struct err *err)
{
	const struct raid_level *level = wish->level;

	if (wish->num_bases < level->members_min || wish->num_bases > level->members_max)
		return err_set(err, -EINVAL, "%s takes %u to %u members, not %u", level->name,
		        level->members_min, level->members_max, wish->num_bases);
	if (!level->strips && wish->strip_size_kb)
		return err_set(
		        err, -EINVAL, "%s has no strips: leave strip_size_kb out", level->name);
	if (level->strips && !is_power_of_two(wish->strip_size_kb))
		return err_set(err, -EINVAL,
		        "%s needs a strip_size_kb that is a power of two, not %u", level->name,
		        wish->strip_size_kb);
	if (wish->strip_size_kb > MIB(1))
		return err_set(err, -EINVAL, "strips of more than 1 GiB are not supported");
	return 0;
}

static int check_names(const struct raid_wish *wish, struct err *err)
{
	size_t len = strlen(wish->name);

	if (len == 0 || len >= RAID_SB_NAME_BYTES)
		return err_set(
		        err, -EINVAL, "a name has 1 to %d characters", RAID_SB_NAME_BYTES - 1);
	if (raid_find(wish->name) || bdev_find(wish->name))
		return err_set(err, -EEXIST, "the name '%s' is taken", wish->name);
	if (raid_find_uuid(wish->uuid))
		return err_set(err, -EEXIST, "the UUID is that of array '%s'",
		        raid_find_uuid(wish->uuid)->name);
	for (unsigned i = 0; i < wish->num_bases; i++) {
		len = strlen(wish->bases[i]);
		if (len >= BDEV_NAME_MAX)
			return err_set(err, -EINVAL, "the name of base %u is too long", i);
		for (unsigned k = 0; k < i; k++) {
			const struct bdev *bdev = bdev_find(wish->bases[i]);

			if (strcmp(wish->bases[i], wish->bases[k]) == 0 ||
			        (bdev && bdev == bdev_find(wish->bases[k])))
				return err_set(
				        err, -EPERM, "base '%s' is named twice", wish->bases[i]);
		}
	}
	return 0;
}

static void answer(struct creation *c)
{
	struct raid *raid = c->raid;

	bdev_done_call(c->done, c->err.code ? &c->err : NULL);
	raid_unhold(raid);
	free(c);
}

static void undone(void *arg, const struct err *err)
{
	struct creation *c = arg;

	(void)err;
	bdev_done_call(c->done, &c->err);
	free(c);
}

static void undo(struct creation *c)
{
	struct raid *raid = c->raid;

	raid->creating = false;
	raid_delete(raid, true, (struct bdev_done){undone, c});
	raid_unhold(raid);
}

static void started(void *arg, const struct err *err)
{
	struct creation *c = arg;

	if (!err) {
		answer(c);
		return;
	}
	c->err = *err;
	undo(c);
}

static void next_member(struct creation *c);

int raid_foreign_superblock(const struct raid_sb_read *read, const char *base, struct err *err)
{
	if (read->found == RAID_SB_OK)
		return err_set(err, -EEXIST,
		        "base '%s' has the superblock of array '%s': wipe it, or delete that with "
		        "clear_sb",
		        base, read->sb.name);
	if (read->found == RAID_SB_TOO_NEW)
		return err_set(
		        err, -EEXIST, "base '%s' has a superblock: %s", base, read->err.text);
	if (read->err.code == -EIO)
		return err_set(err, -EIO, "base '%s' can't be read: %s", base, read->err.text);
	return 0;
}

static void member_read(void *arg, const struct raid_sb_read *read)
{
	struct creation *c = arg;
	struct raid *raid = c->raid;

	if (raid->state == RAID_DELETING)
		err_set(&c->err, -ECANCELED, "the array was deleted meanwhile");
	else
		raid_foreign_superblock(read, c->base, &c->err);
	if (c->err.code) {
		undo(c);
		return;
	}
	next_member(c);
}

static void next_member(struct creation *c)
{
	struct raid *raid = c->raid;

	for (c->next = 0; c->next < raid->num_slots; c->next++) {
		struct raid_slot *slot = &raid->slots[c->next];
		struct bdev *bdev = bdev_find(slot->name);

		/* Also one that has appeared while another was read. */
		if (!bdev || slot->use != SLOT_FREE)
			continue;
		str_copy(c->base, sizeof(c->base), bdev->name);
		if (raid_member_take(raid, c->next, bdev, &c->err) != 0)
			undo(c);
		else
			raid_sb_read(bdev, member_read, c);
		return;
	}
	raid->creating = false;
	if (raid_present(raid) < raid->num_slots) {
		raid_consider(raid);
		answer(c);
		return;
	}
	raid->started = (struct bdev_done){started, c};
	raid_start(raid);
}

void raid_create(const struct raid_wish *wish, struct bdev_done done)
{
	struct creation *c;
	struct raid *raid;
	struct err err = ERR_NONE;

	if (check_names(wish, &err) != 0 || check_level(wish, &err) != 0) {
		bdev_done_call(done, &err);
		return;
	}
	raid = raid_new(wish->name, wish->level, wish->num_bases);
	raid->strip_size_kb = wish->strip_size_kb;
	raid->superblock = wish->superblock;
	raid->no_bitmap = wish->no_bitmap;
	raid->creating = true;
	uuid_copy(raid->uuid, wish->uuid);
	for (unsigned i = 0; i < wish->num_bases; i++) {
		str_copy(raid->slots[i].name, sizeof(raid->slots[i].name), wish->bases[i]);
		if (i < wish->num_data_blocks)
			raid->slots[i].data_blocks = wish->data_blocks[i];
	}
	raid_hold(raid);
	c = xcalloc(1, sizeof(*c));
	c->raid = raid;
	c->done = done;
	next_member(c);
}

/* ---- deletion ---------------------------------------------------------------------------------
 */

struct clearing {
	struct raid *raid;
	unsigned slot;
	void *zeroes;
	uint64_t blocks;
	bool second;
	struct bdev_done done;
};

static void clear_next(void *arg, const struct err *err);

/* The first copy first: without its signature the second doesn't speak. */
static void clear_next(void *arg, const struct err *err)
{
	struct clearing *c = arg;
	struct raid *raid = c->raid;
	uint32_t block_bytes = raid->block_bytes;

	if (err)
		log_warning("raid", "'%s': a superblock could not be cleared: %s", raid->name,
		        err->text);
	if (c->second) {
		c->second = false;
		if (block_bytes <= RAID_SB_COPY_BLOCK_MAX_BYTES && raid->slots[c->slot].bdev) {
			bdev_write_meta(raid->slots[c->slot++].bdev,
			        RAID_SB_COPY_BYTES_OFFSET / block_bytes, c->blocks, c->zeroes,
			        (struct bdev_done){clear_next, c});
			return;
		}
		c->slot++;
	}
	while (c->slot < raid->num_slots && raid->slots[c->slot].use != SLOT_IN)
		c->slot++;
	if (c->slot < raid->num_slots) {
		c->second = true;
		bdev_write_meta(raid->slots[c->slot].bdev, 0, c->blocks, c->zeroes,
		        (struct bdev_done){clear_next, c});
		return;
	}
	bdev_done_call(c->done, NULL);
	free(c->zeroes);
	free(c);
}

void raid_clear_superblocks(struct raid *raid, struct bdev_done done)
{
	struct clearing *c = xcalloc(1, sizeof(*c));

	c->raid = raid;
	c->done = done;
	c->blocks = div_round_up_u64(RAID_SB_MAX_BYTES, raid->block_bytes);
	c->zeroes = try_alloc_aligned(4096, align_up_u64(c->blocks * raid->block_bytes, 4096));
	BELLOWS_ASSERT(c->zeroes);
	clear_next(c, NULL);
}

static void deleted(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	(void)err;
	for (unsigned i = 0; i < raid->num_slots; i++)
		raid_member_release(raid, i, false);
	raid_unhold(raid);
}

static void bdev_removed(void *arg, const struct err *err)
{
	struct raid *raid = arg;
	struct bdev_done done = raid->deleted;

	/* It goes on by itself; who asked learns why it takes so long. */
	if (err && done.fn) {
		raid->deleted.fn = NULL;
		bdev_done_call(done, err);
	}
	raid_unhold(raid);
}

void raid_delete(struct raid *raid, bool clear_sb, struct bdev_done done)
{
	struct err err = ERR_NONE;

	if (raid->state == RAID_DELETING)
		err_set(&err, -EALREADY, "'%s' is being deleted", raid->name);
	else if (raid->state == RAID_STARTING || raid->state == RAID_STOPPING || raid->creating)
		err_set(&err, -EBUSY, "'%s' is starting or stopping: try again", raid->name);
	if (err.code) {
		if (done.fn)
			bdev_done_call(done, &err);
		return;
	}
	raid_hold(raid);
	raid->deleted = done;
	raid->clear_sb = clear_sb;
	if (raid->bdev) {
		raid_set_state(raid, RAID_DELETING);
		bdev_remove(raid->bdev, (struct bdev_done){bdev_removed, raid});
		return;
	}
	raid_problem(raid, "wait", NULL, NULL);
	raid_problem(raid, "start", NULL, NULL);
	raid_set_state(raid, RAID_DELETING);
	loop_timer_stop(loop_self(), &raid->wait);
	if (clear_sb && raid->sb_valid && raid_present(raid) > 0)
		raid_clear_superblocks(raid, (struct bdev_done){deleted, raid});
	else
		deleted(raid, NULL);
}
