/*
 * raid_copy.c: a range from one member to another, and the cure of what one member can't read.
 */
#include "vbdev/raid/raid.h"

#include <errno.h>

#include "base/log.h"

#define CURE_MAX_BYTES MIB(1)

static void copy_end(struct raid_copy *copy)
{
	struct raid *raid = copy->raid;

	if (copy->started)
		bdev_range_unlock(raid->bdev, &copy->range);
	copy->started = false;
	copy->done(copy);
	raid_bdev_unhold(raid);
}

static void write_next(struct raid_copy *copy);

static void written(struct bio *bio)
{
	struct raid_copy *copy = container_of(bio, struct raid_copy, bio);

	if (bio->status != 0) {
		copy->status = bio->status;
		copy->target_failed = true;
		if (copy->slot == RAID_SLOTS_MAX)
			raid_suspect(copy->raid, copy->target);
	}
	write_next(copy);
}

static void write_next(struct raid_copy *copy)
{
	struct raid_slot *slot;

	if (copy->targets == 0) {
		copy_end(copy);
		return;
	}
	copy->target = (unsigned)__builtin_ctzll(copy->targets);
	copy->targets &= copy->targets - 1;
	slot = &copy->raid->slots[copy->target];
	if (!slot->bdev) { /* it has gone meanwhile */
		copy->status = -ENODEV;
		copy->target_failed = true;
		write_next(copy);
		return;
	}
	bio_init(&copy->bio, BIO_WRITE, &copy->iov, 1, copy->num_blocks, written, NULL);
	bio_submit_bdev(slot->bdev, &copy->bio, slot->data_offset_blocks + copy->offset_blocks);
}

static void read_next(struct raid_copy *copy);

static void was_read(struct bio *bio)
{
	struct raid_copy *copy = container_of(bio, struct raid_copy, bio);
	uint64_t readable = copy->raid->io.readable;

	if (bio->status != 0) {
		copy->status = bio->status;
		read_next(copy);
		return;
	}
	copy->status = 0;
	copy->targets = copy->slot == RAID_SLOTS_MAX ? readable & ~(1ULL << copy->from)
	                                             : 1ULL << copy->slot;
	write_next(copy);
}

static void read_next(struct raid_copy *copy)
{
	const struct raid *raid = copy->raid;
	uint64_t self = copy->slot == RAID_SLOTS_MAX ? 0 : 1ULL << copy->slot;
	uint64_t left = raid->io.readable & ~copy->tried & ~self;

	if (left == 0) {
		copy->status = copy->status ? copy->status : -EIO;
		copy_end(copy);
		return;
	}
	unsigned from = (unsigned)__builtin_ctzll(left);

	copy->tried |= 1ULL << from;
	copy->from = from;
	bio_init(&copy->bio, BIO_READ, &copy->iov, 1, copy->num_blocks, was_read, NULL);
	bio_submit_bdev(raid->slots[from].bdev, &copy->bio,
	        raid->slots[from].data_offset_blocks + copy->offset_blocks);
}

static void locked(void *arg, const struct err *err)
{
	struct raid_copy *copy = arg;

	if (err) {
		copy->status = err->code;
		copy_end(copy);
		return;
	}
	copy->started = true;
	read_next(copy);
}

void raid_copy_start(struct raid_copy *copy)
{
	struct raid *raid = copy->raid;

	if (raid->level->copy) {
		raid->level->copy(copy);
		return;
	}
	raid_bdev_hold(raid);
	copy->status = 0;
	copy->target_failed = copy->started = false;
	copy->tried = 0;
	copy->iov = (struct iovec){copy->buf, copy->num_blocks * raid->block_bytes};
	copy->range = (struct bdev_range){.offset_blocks = copy->offset_blocks,
	        .num_blocks = copy->num_blocks,
	        .locked = {locked, copy}};
	list_init(&copy->range.link);
	bdev_range_lock(raid->bdev, &copy->range);
}

/* ---- cures ------------------------------------------------------------------------------------
 */

static void cured(struct raid_copy *copy)
{
	struct raid *raid = copy->raid;
	const struct raid_slot *slot = &raid->slots[copy->slot];

	if (copy->target_failed && slot->use == SLOT_IN) {
		log_error("raid", "'%s': '%s' can't read block %llu, and can't be written there",
		        raid->name, slot->name, (unsigned long long)copy->offset_blocks);
		/* Its errors are the clients' where the array can't be without it. */
		if (raid_present(raid) > raid_needed(raid))
			raid_suspect(raid, copy->slot);
	} else if (copy->status == 0) {
		log_notice("raid", "'%s': %llu blocks at %llu of '%s' written again from a mirror",
		        raid->name, (unsigned long long)copy->num_blocks,
		        (unsigned long long)copy->offset_blocks, slot->name);
		bdev_event_raise("raid_read_cured", raid->name,
		        json_pack("{s:s, s:I, s:I}", "base", slot->name, "offset_blocks",
		                (json_int_t)copy->offset_blocks, "num_blocks",
		                (json_int_t)copy->num_blocks));
	}
	free(copy->buf);
	free(copy);
}

void raid_cure(struct raid *raid, unsigned slot, uint64_t offset_blocks, uint64_t num_blocks)
{
	uint64_t row_bytes = (uint64_t)raid->block_bytes * raid_data_members(raid);
	uint64_t max_blocks = max_u64(CURE_MAX_BYTES / row_bytes, 1);

	while (num_blocks > 0 && raid->slots[slot].use == SLOT_IN &&
	        raid->bdev->state == BDEV_ONLINE) {
		uint64_t n = min_u64(num_blocks, max_blocks);
		struct raid_copy *copy = xcalloc(1, sizeof(*copy));

		copy->raid = raid;
		copy->slot = slot;
		copy->offset_blocks = offset_blocks;
		copy->num_blocks = n;
		copy->done = cured;
		copy->buf = try_alloc_aligned(4096, align_up_u64(n * row_bytes, 4096));
		if (!copy->buf) {
			free(copy);
			return;
		}
		raid_copy_start(copy);
		offset_blocks += n;
		num_blocks -= n;
	}
}
