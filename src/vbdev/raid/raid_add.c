/*
 * raid_add.c: a disk that becomes a member: in a place that is free, or in one more.
 *
 * An array gets its further place on disk first: the superblock with one slot more is on all
 * members, flushed, before anybody sees it, and the new member is written only after that. So
 * whoever starts the array after a crash finds it as it was, or with a place that lacks its member.
 */
#include "vbdev/raid/raid_add.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vbdev/raid/raid_create.h"

struct adding {
	struct raid *raid;
	bool grow;
	char base[BDEV_NAME_MAX];
	struct bdev_done done;
	struct err err;
};

static void answer(void *arg, const struct err *err)
{
	struct adding *a = arg;
	struct raid *raid = a->raid;

	bdev_done_call(a->done, err);
	free(a);
	raid_unhold(raid);
}

/* ---- one place more ---------------------------------------------------------------------------
 */

static void end_growing(struct adding *a)
{
	struct raid *raid = a->raid;

	raid->growing = false;
	answer(a, a->err.code ? &a->err : NULL);
	raid_bdev_unhold(raid);
}

static void taken_back(void *arg, const struct err *err)
{
	const struct adding *a = arg;

	if (err)
		log_error("raid", "'%s' has a place more than it needs: %s", a->raid->name,
		        err->text);
	end_growing(arg);
}

/* The place was recorded, and nobody stands there. */
static void take_back(struct adding *a, const struct err *err)
{
	struct raid *raid = a->raid;

	a->err = *err;
	raid_member_release(raid, raid->num_slots, false);
	if (!raid->superblock) {
		end_growing(a);
		return;
	}
	memset(&raid->sb.slots[raid->num_slots], 0, sizeof(raid->sb.slots[0]));
	raid->sb.num_slots = raid->num_slots;
	if (raid->state == RAID_ONLINE && raid->bdev->state == BDEV_ONLINE)
		raid_store(raid, (struct bdev_done){taken_back, a});
	else
		end_growing(a);
}

/* The new member knows of it too. */
static void told(void *arg, const struct err *err)
{
	struct adding *a = arg;
	const struct raid *raid = a->raid;
	const struct bdev *bdev = bdev_find(a->base);
	const struct raid_slot *slot = bdev ? raid_slot_of(bdev) : NULL;

	if (err)
		a->err = *err;
	else if (!slot || slot->raid != raid || slot->use == SLOT_LEAVING)
		err_set(&a->err, -EIO,
		        "it has gone or can't be written; the array has a place more now: add "
		        "another one with bdev_raid_add_base_bdev");
	end_growing(a);
}

/* No request is in flight in the array, or the base was not taken. */
static void stands(void *arg, const struct err *err)
{
	struct adding *a = arg;
	struct raid *raid = a->raid;
	unsigned index = raid->num_slots;

	if (err) {
		take_back(a, err);
		return;
	}
	raid->num_slots = raid->io.num_slots = index + 1;
	log_notice("raid", "'%s' has %u members now, '%s' is new", raid->name, raid->num_slots,
	        a->base);
	raid_rebuild_start(raid, index, 0);
	if (!raid->superblock) {
		end_growing(a);
		return;
	}
	raid_sb_update(raid, raid->bdev->geometry.num_blocks);
	raid_store(raid, (struct bdev_done){told, a});
}

/* The place is on all members. */
static void placed(void *arg, const struct err *err)
{
	struct adding *a = arg;
	struct raid *raid = a->raid;
	struct raid_slot *slot = &raid->slots[raid->num_slots];
	struct bdev *base = slot->handle ? bdev_handle_bdev(slot->handle) : NULL;
	struct err reason = ERR_NONE;

	if (err)
		reason = *err;
	else if (!base)
		err_set(&reason, -ENODEV, "it is gone");
	else if (raid->state != RAID_ONLINE)
		err_set(&reason, -ENODEV, "the array is going");
	if (reason.code) {
		take_back(a, &reason);
		return;
	}
	/* The core claims it before it returns. */
	raid_member_drop_handle(raid, raid->num_slots);
	bdev_base_add(raid->bdev, base, (struct bdev_done){stands, a});
}

static void grow(struct adding *a, struct bdev *bdev)
{
	struct raid *raid = a->raid;
	unsigned index = raid->num_slots;
	struct raid_slot *slot = &raid->slots[index];
	struct err err = ERR_NONE;

	slot->data_offset_blocks = 0;
	slot->data_blocks = raid->level->used(raid, raid->bdev->geometry.num_blocks, index);
	if (raid_member_reserve(raid, index, bdev, &err) != 0) {
		answer(a, &err);
		return;
	}
	raid->growing = true;
	raid_bdev_hold(raid);
	if (!raid->superblock) {
		placed(a, NULL);
		return;
	}
	raid->sb.num_slots = index + 1;
	raid->sb.slots[index] =
	        (struct raid_sb_slot){.data_offset_blocks = slot->data_offset_blocks,
	                .data_blocks = slot->data_blocks,
	                .state = RAID_SB_MISSING};
	uuid_copy(raid->sb.slots[index].uuid, slot->uuid);
	raid_bitmap_left(raid, index, false);
	raid_store(raid, (struct bdev_done){placed, a});
}

/* ---- a free place -----------------------------------------------------------------------------
 */

/* The one that waits for this very bdev, else one that waits for nobody; -1: none. */
static int free_slot(const struct raid *raid, const struct bdev *bdev)
{
	int any = -1;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		bool taken = raid->bdev && raid->bdev->bases[i];

		if (slot->use != SLOT_FREE || taken)
			continue;
		if ((!uuid_is_null(slot->uuid) && uuid_compare(slot->uuid, bdev->uuid) == 0) ||
		        (slot->name[0] && bdev_find(slot->name) == bdev))
			return (int)i;
		if (any < 0 && (raid->state == RAID_ONLINE || !slot->name[0]))
			any = (int)i;
	}
	return any;
}

static int check_grow(const struct raid *raid, struct err *err)
{
	if (!raid->level->grows)
		return err_set(err, -EPERM,
		        "a %s can't have more members than it was made with; a raid1 can",
		        raid->level->name);
	if (raid->state != RAID_ONLINE)
		return err_set(err, -EINVAL, "the array is %s: it must be online",
		        raid_state_text(raid->state));
	if (raid->growing)
		return err_set(err, -EBUSY, "another member is being added");
	return 0;
}

static int check_disk(const struct adding *a, const struct bdev *bdev, struct err *err)
{
	const struct raid *raid = a->raid;

	if (!bdev)
		return err_set(err, -ENODEV, "there is no such bdev");
	if (bdev_is_claimed(bdev))
		return err_set(err, -EPERM, "it is in use");
	if (raid->rebuild)
		return err_set(err, a->grow ? -EBUSY : -EPERM, "another member is being rebuilt");
	return 0;
}

static int check_place(const struct adding *a, int slot, struct err *err)
{
	const struct raid *raid = a->raid;

	if (a->grow && check_grow(raid, err) != 0)
		return err->code;
	if (a->grow && slot < 0 && raid->num_slots == raid->level->members_max)
		return err_set(
		        err, -ENOSPC, "it has %u members, the most there can be", raid->num_slots);
	if (!a->grow && (slot < 0 || (raid->state == RAID_ONLINE && !raid->level->redundant)))
		return err_set(err, -EINVAL, "the array has no free place");
	return 0;
}

/* Of an array that has no bdev. */
static void offer(struct adding *a, unsigned slot, struct bdev *bdev,
        const struct raid_sb_read *read, bool same)
{
	struct raid *raid = a->raid;
	struct err err = ERR_NONE;

	if (raid->sb_valid && !same) {
		/* It would count as one that has all data. */
		err_set(&err, -EBUSY,
		        "the array waits for members that have its data: start it without them "
		        "with bdev_raid_start, then add this one");
	} else if (raid->sb_valid) {
		raid_offer(bdev, read);
		if (raid->slots[slot].bdev != bdev)
			err_set(&err, -EINVAL,
			        "its superblock does not count it as a member that is up to date");
	} else if (raid_member_take(raid, slot, bdev, &err) == 0) {
		raid_consider(raid);
	}
	answer(a, err.code ? &err : NULL);
}

static void sb_read(void *arg, const struct raid_sb_read *read)
{
	struct adding *a = arg;
	struct raid *raid = a->raid;
	struct bdev *bdev = bdev_find(a->base);
	struct err err = ERR_NONE;
	bool same = read->found == RAID_SB_OK && uuid_compare(read->sb.uuid, raid->uuid) == 0;
	int slot = bdev ? free_slot(raid, bdev) : -1;

	if (check_disk(a, bdev, &err) == 0 && check_place(a, slot, &err) == 0 && !same)
		raid_foreign_superblock(read, a->base, &err);
	if (err.code == 0 && raid->state == RAID_DELETING)
		err_set(&err, -ENODEV, "the array is being deleted");
	if (err.code)
		answer(a, &err);
	else if (slot < 0)
		grow(a, bdev);
	else if (raid->state == RAID_ONLINE)
		raid_join(raid, (unsigned)slot, bdev, same ? read->sb.seq : 0,
		        (struct bdev_done){answer, a});
	else
		offer(a, (unsigned)slot, bdev, read, same);
}

static struct adding *begin(struct raid *raid, const char *base, struct bdev_done done)
{
	struct adding *a = xcalloc(1, sizeof(*a));

	a->raid = raid;
	a->done = done;
	str_copy(a->base, sizeof(a->base), base);
	raid_hold(raid);
	return a;
}

void raid_add(struct raid *raid, const char *base, struct bdev_done done)
{
	struct adding *a = begin(raid, base, done);
	struct bdev *bdev = bdev_find(base);

	if (check_disk(a, bdev, &a->err) != 0)
		answer(a, &a->err);
	else
		raid_sb_read(bdev, sb_read, a);
}

void raid_grow(struct raid *raid, const char *base, struct bdev_done done)
{
	struct adding *a = begin(raid, base, done);
	struct bdev *bdev = bdev_find(base);
	const struct raid_slot *slot = bdev ? raid_slot_of(bdev) : NULL;

	a->grow = true;
	if (slot && slot->raid == raid)
		answer(a, NULL); /* it is a member already */
	else if (check_grow(raid, &a->err) != 0 || check_disk(a, bdev, &a->err) != 0)
		answer(a, &a->err);
	else
		raid_sb_read(bdev, sb_read, a);
}
