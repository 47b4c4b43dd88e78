/*
 * raid_members.c: may this bdev be a member, what does its superblock say, and who has it?
 */
#include "vbdev/raid/raid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"

#define META_ALIGN 4096

/* ---- reading a superblock ---------------------------------------------------------------------
 */

struct reading {
	struct raid_sb_read read;
	struct bdev *bdev;
	void *buf;
	uint64_t blocks;
	raid_sb_read_fn fn;
	void *arg;
};

static void read_end(struct reading *r)
{
	r->fn(r->arg, &r->read);
	free(r->buf);
	free(r);
}

static void parse(struct reading *r)
{
	size_t need = 0;

	r->read.found = raid_sb_parse(r->buf, r->blocks * r->bdev->geometry.block_bytes,
	        &r->read.sb, &need, &r->read.err);
	if (r->read.found == RAID_SB_MORE) {
		r->read.found = RAID_SB_DAMAGED;
		err_set(&r->read.err, -EINVAL, "it is longer than its disk");
	}
}

static void copy_read(void *arg, const struct err *err)
{
	struct reading *r = arg;
	struct err first = r->read.err;

	if (!err)
		parse(r);
	if (err || r->read.found != RAID_SB_OK) {
		r->read.found = RAID_SB_DAMAGED;
		r->read.err = first;
	}
	r->read.repaired = r->read.found == RAID_SB_OK;
	read_end(r);
}

/*
 * The second copy speaks only for a first one that is there and damaged, or can't be read. Where
 * the signature is gone, somebody else has taken the disk, or wiped it.
 */
static void first_read(void *arg, const struct err *err)
{
	struct reading *r = arg;
	const struct bdev_geometry *g = &r->bdev->geometry;

	if (err) {
		r->read.found = RAID_SB_DAMAGED;
		err_set(&r->read.err, -EIO, "%s", err->text);
	} else {
		parse(r);
	}
	if (r->read.found != RAID_SB_DAMAGED || PLANT(RAID_COPY_NOT_READ) ||
	        g->block_bytes > RAID_SB_COPY_BLOCK_MAX_BYTES ||
	        g->num_blocks < RAID_RESERVED_BYTES / g->block_bytes) {
		read_end(r);
		return;
	}
	bdev_read_meta(r->bdev, RAID_SB_COPY_BYTES_OFFSET / g->block_bytes, r->blocks, r->buf,
	        (struct bdev_done){copy_read, r});
}

void raid_sb_read(struct bdev *bdev, raid_sb_read_fn fn, void *arg)
{
	struct reading *r = xcalloc(1, sizeof(*r));
	uint32_t block_bytes = bdev->geometry.block_bytes;

	r->bdev = bdev;
	r->fn = fn;
	r->arg = arg;
	r->blocks = min_u64(
	        div_round_up_u64(RAID_SB_MAX_BYTES, block_bytes), bdev->geometry.num_blocks);
	r->buf = try_alloc_aligned(META_ALIGN, align_up_u64(r->blocks * block_bytes, META_ALIGN));
	BELLOWS_ASSERT(r->buf);
	bdev_read_meta(bdev, 0, r->blocks, r->buf, (struct bdev_done){first_read, r});
}

/* ---- fitting ----------------------------------------------------------------------------------
 */

/* Behind the reserved part, where a request of the array begins as it does on the member. */
static uint64_t choose_offset(const struct raid *raid, const struct bdev *bdev)
{
	const struct bdev_geometry *g = &bdev->geometry;
	uint64_t blocks = RAID_RESERVED_BYTES / g->block_bytes;
	uint64_t boundary = g->optimal_io_boundary_blocks;

	if (!raid->superblock)
		return 0;
	return boundary ? div_round_up_u64(blocks, boundary) * boundary : blocks;
}

static int check_strip(const struct raid *raid, uint32_t block_bytes, struct err *err)
{
	if (raid->strip_size_kb && raid->strip_size_kb * KIB(1) < block_bytes)
		return err_set(err, -EINVAL, "strips of %u KiB are less than a block of %u bytes",
		        raid->strip_size_kb, block_bytes);
	return 0;
}

uint64_t raid_known_offset(const struct raid *raid, unsigned index, const struct bdev *bdev)
{
	const struct raid_sb_slot *entry = &raid->sb.slots[index];

	return raid->sb_valid && uuid_compare(entry->uuid, bdev->uuid) == 0 &&
	                       entry->data_offset_blocks >= RAID_RESERVED_BYTES / raid->block_bytes
	               ? entry->data_offset_blocks
	               : 0;
}

int raid_member_fits(struct raid *raid, unsigned index, const struct bdev *bdev, struct err *err)
{
	struct raid_slot *slot = &raid->slots[index];
	const struct bdev_geometry *g = &bdev->geometry;
	uint64_t offset = slot->data_offset_blocks, at_least;

	if (raid->bdev && bdev == raid->bdev)
		return err_set(err, -ELOOP, "an array can't be a member of itself");
	if (raid->block_bytes && g->block_bytes != raid->block_bytes)
		return err_set(err, -EINVAL, "base '%s' has %u-byte blocks, the array %u",
		        bdev->name, g->block_bytes, raid->block_bytes);
	if (check_strip(raid, g->block_bytes, err))
		return -EINVAL;
	if (!offset)
		offset = choose_offset(raid, bdev);
	at_least = slot->data_blocks ? slot->data_blocks : 1;
	if (raid->level->strips)
		at_least = max_u64(at_least, raid->strip_size_kb * KIB(1) / g->block_bytes);
	if (g->num_blocks < offset || g->num_blocks - offset < at_least)
		return err_set(err, -EINVAL,
		        "base '%s' is too small: it has %llu blocks, and %llu are needed, %llu of "
		        "them reserved",
		        bdev->name, (unsigned long long)g->num_blocks,
		        (unsigned long long)(offset + at_least), (unsigned long long)offset);
	raid->block_bytes = g->block_bytes;
	slot->data_offset_blocks = offset;
	return 0;
}

/* ---- claiming, while there is no bdev ---------------------------------------------------------
 */

static void member_resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

static void member_removed(struct bdev_handle *handle)
{
	struct raid_slot *slot = bdev_handle_arg(handle);
	struct raid *raid = slot->raid;

	log_notice("raid", "'%s': member '%s' is going", raid->name, slot->name);
	raid_member_release(raid, (unsigned)(slot - raid->slots), true);
}

static int member_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	const struct raid_slot *slot = bdev_handle_arg(handle);

	if (slot->data_offset_blocks + slot->data_blocks <= new_blocks)
		return 0;
	return err_set(err, -EBUSY, "raid '%s' has %llu blocks on it", slot->raid->name,
	        (unsigned long long)(slot->data_offset_blocks + slot->data_blocks));
}

static const struct bdev_holder_ops member_ops = {
        .kind = "raid",
        .module = &raid_module,
        .resized = member_resized,
        .removed = member_removed,
        .may_shrink = member_may_shrink,
};

static int open_member(struct raid_slot *slot, struct bdev *bdev, struct err *err)
{
	char holder[RAID_SB_NAME_BYTES + 16];

	snprintf(holder, sizeof(holder), "raid '%s'", slot->raid->name);
	return bdev_open(bdev, true, &member_ops, holder, slot, &slot->handle, err);
}

int raid_member_take(struct raid *raid, unsigned index, struct bdev *bdev, struct err *err)
{
	struct raid_slot *slot = &raid->slots[index];
	int rc;

	BELLOWS_ASSERT(!raid->bdev && slot->use == SLOT_FREE);
	if (bdev_is_claimed(bdev)) /* also by another array */
		return err_set(err, -EPERM, "base '%s' is in use by %s", bdev->name,
		        bdev_parent(bdev, 0) ? bdev_parent(bdev, 0)->name : bdev_holder(bdev, 0));
	rc = raid_member_fits(raid, index, bdev, err);
	if (rc == 0)
		rc = open_member(slot, bdev, err);
	if (rc != 0)
		return rc;
	slot->use = SLOT_IN;
	slot->bdev = bdev;
	str_copy(slot->name, sizeof(slot->name), bdev->name);
	uuid_copy(slot->uuid, bdev->uuid);
	return 0;
}

void raid_member_release(struct raid *raid, unsigned index, bool expect)
{
	struct raid_slot *slot = &raid->slots[index];
	struct bdev_handle *handle = slot->handle;
	autofree char *key = xasprintf("raid wait");

	if (slot->bdev)
		bdev_set_problem(slot->bdev, key, NULL, NULL);
	slot->handle = NULL;
	slot->bdev = NULL;
	slot->use = SLOT_FREE;
	if (!expect)
		slot->name[0] = '\0';
	if (handle)
		bdev_close(handle);
	if (raid_present(raid) == 0 && !raid->sb_valid && !raid->bdev)
		raid->block_bytes = 0; /* the next first one decides */
}

int raid_member_reserve(struct raid *raid, unsigned index, struct bdev *bdev, struct err *err)
{
	struct raid_slot *slot = &raid->slots[index];
	int rc;

	BELLOWS_ASSERT(slot->use == SLOT_FREE && !slot->handle);
	rc = raid_member_fits(raid, index, bdev, err);
	if (rc == 0)
		rc = open_member(slot, bdev, err);
	if (rc != 0)
		return rc;
	str_copy(slot->name, sizeof(slot->name), bdev->name);
	uuid_copy(slot->uuid, bdev->uuid);
	return 0;
}

void raid_member_drop_handle(struct raid *raid, unsigned index)
{
	struct bdev_handle *handle = raid->slots[index].handle;

	raid->slots[index].handle = NULL;
	if (handle)
		bdev_close(handle);
}

void raid_members_drop_handles(struct raid *raid)
{
	for (unsigned i = 0; i < raid->num_slots; i++)
		raid_member_drop_handle(raid, i);
}

void raid_members_take_handles(struct raid *raid)
{
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct raid_slot *slot = &raid->slots[i];
		struct err err = ERR_NONE;

		if (slot->use != SLOT_IN || slot->handle)
			continue;
		if (open_member(slot, slot->bdev, &err) != 0) {
			log_notice("raid", "'%s' does without '%s': %s", raid->name, slot->name,
			        err.text);
			raid_member_release(raid, i, true);
		}
	}
}
