/*
 * raid_resize.c: how large is an array, why, and what must be on disk before a new size may be
 * seen?
 */
#include "vbdev/raid/raid_tell.h"

#include <errno.h>
#include <stdio.h>

/* What an array itself can do; the rest of a base's capabilities the core makes up for. */
#define OWN_CAPS                                                                                   \
	(BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_FLUSH) | BIO_CAP(BIO_UNMAP) |        \
	        BIO_CAP(BIO_WRITE_ZEROES) | BIO_CAP(BIO_RESET) | BIO_CAP_FUA)

void raid_lay_out(struct raid *raid)
{
	struct raid_io *io = &raid->io;
	uint64_t strip_blocks = raid->strip_size_kb * KIB(1) / raid->block_bytes;

	io->raid = raid;
	io->num_slots = raid->num_slots;
	io->strip_shift = strip_blocks ? (unsigned)__builtin_ctzll(strip_blocks) : 0;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct raid_slot *slot = &raid->slots[i];

		io->offset_blocks[i] = slot->data_offset_blocks;
		if (raid->level != &concat_level || !slot->bdev)
			continue;
		/* Where a member begins stays as it is, however the ones before it grow. */
		if (!slot->data_blocks)
			slot->data_blocks =
			        (slot->bdev->geometry.num_blocks - slot->data_offset_blocks) >>
			        io->strip_shift << io->strip_shift;
		io->start_blocks[i + 1] = i + 1 == raid->num_slots
		                                  ? UINT64_MAX
		                                  : io->start_blocks[i] + slot->data_blocks;
	}
}

static bool is_missing(const struct bdev_geometry *g)
{
	return g->block_bytes == 0;
}

/* The properties that all members must have, or one of them. */
static void merge(
        const struct raid *raid, const struct bdev_geometry_in *in, struct bdev_geometry *out)
{
	out->caps = OWN_CAPS;
	out->write_cache = out->rotational = out->read_only = false;
	for (unsigned i = 0; i < in->num_bases; i++) {
		const struct bdev_geometry *base = &in->bases[i];

		if (is_missing(base))
			continue;
		out->caps &= base->caps | BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE);
		/* What members have after an unmap does not go with any parity: they write zeroes.
		 */
		if (raid->level->parity && !(base->caps & BIO_CAP(BIO_WRITE_ZEROES)))
			out->caps &= ~BIO_CAP(BIO_UNMAP);
		out->write_cache |= base->write_cache;
		out->rotational |= base->rotational;
		out->read_only |= base->read_only;
		if (base->physical_block_bytes > out->physical_block_bytes)
			out->physical_block_bytes = base->physical_block_bytes;
	}
	out->optimal_io_boundary_blocks =
	        raid->level->strips && raid->num_slots > 1 ? 1U << raid->io.strip_shift : 0;
	out->preferred_write_granularity_blocks = out->preferred_write_alignment_blocks = 0;
	out->optimal_write_blocks = 0;
	out->preferred_unmap_granularity_blocks = out->preferred_unmap_alignment_blocks = 0;
}

/* Who holds it back, and what lies fallow. */
static void say_why(const struct raid *raid, const struct bdev_geometry_in *in,
        const uint64_t *data_blocks, struct bdev_geometry *out)
{
	unsigned present = 0, smallest = 0, wasted = 0;
	uint64_t waste = 0;
	char text[SIZE_TEXT_MAX];
	int n;

	for (unsigned i = 0; i < in->num_bases; i++) {
		if (data_blocks[i] == 0)
			continue;
		if (present++ == 0 || data_blocks[i] < data_blocks[smallest])
			smallest = i;
	}
	for (unsigned i = 0; i < in->num_bases; i++) {
		uint64_t used = raid->level->used(raid, out->num_blocks, i);

		if (data_blocks[i] > used && data_blocks[i] - used > waste) {
			waste = data_blocks[i] - used;
			wasted = i;
		}
	}
	if (raid->level == &concat_level)
		n = snprintf(out->why, sizeof(out->why), "concat: the sum of %u members", present);
	else if (waste == 0 || data_blocks[wasted] == data_blocks[smallest])
		n = snprintf(out->why, sizeof(out->why), "%s: from %u members of the same size",
		        raid->level->name, present);
	else
		n = snprintf(out->why, sizeof(out->why), "%s: limited by %.40s", raid->level->name,
		        raid->slots[smallest].name);
	if (waste > 0)
		snprintf(out->why + n, sizeof(out->why) - (size_t)n, "; %s of %.40s unused",
		        format_size_bytes(text, sizeof(text), waste * out->block_bytes),
		        raid->slots[wasted].name);
}

int raid_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct raid *raid = ((const struct raid_priv *)bdev->priv)->raid;
	uint64_t data_blocks[RAID_SLOTS_MAX] = {0};
	unsigned present = 0;

	for (unsigned i = 0; i < in->num_bases; i++) {
		const struct bdev_geometry *base = &in->bases[i];
		uint64_t offset = raid->slots[i].data_offset_blocks;

		if (is_missing(base) && raid->level->redundant)
			continue;
		if (is_missing(base))
			return err_set(err, -ENODEV, "a %s can't be without member '%s'",
			        raid->level->name, raid->slots[i].name);
		if (base->num_blocks <= offset)
			return err_set(err, -ENOSPC,
			        "member '%s' has no room for data: %llu blocks, of which %llu are "
			        "reserved",
			        raid->slots[i].name, (unsigned long long)base->num_blocks,
			        (unsigned long long)offset);
		data_blocks[i] = base->num_blocks - offset;
		present++;
	}
	if (present == 0 || present < raid_needed(raid))
		return err_set(
		        err, -ENODEV, present ? "too few members are there" : "no member is there");
	merge(raid, in, out);
	out->num_blocks = raid->level->capacity(raid, data_blocks);
	if (out->num_blocks == 0)
		return err_set(err, -EINVAL,
		        raid->level == &concat_level
		                ? "a member is too small for what it holds, or for one strip"
		                : "the smallest member does not hold one strip");
	say_why(raid, in, data_blocks, out);
	return 0;
}

/* Before members' blocks beyond the old end may be used, both copies say so. */
void raid_persist(struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;
	struct err err = ERR_NONE;

	if (raid->level->parity && raid->state == RAID_ONLINE &&
	        raid5_resizes(raid, raid->level->used(raid, planned->num_blocks, 0), &err) != 0) {
		bdev_done_call(done, &err);
		return;
	}
	if (!raid->superblock) {
		bdev_done_call(done, NULL);
		return;
	}
	raid_sb_update(raid, planned->num_blocks);
	raid_store(raid, done);
}

/* What a member must have when it returns, or is replaced. */
void raid_resized(struct bdev *bdev, uint64_t old_blocks)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;

	raid_tell_resized(raid, old_blocks, bdev->geometry.num_blocks);
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct raid_slot *slot = &raid->slots[i];
		bool keeps_place = raid->level == &concat_level && i + 1 < raid->num_slots;

		if (slot->data_blocks && !keeps_place)
			slot->data_blocks = raid->level->used(raid, bdev->geometry.num_blocks, i);
	}
	if (raid->level->resized)
		raid->level->resized(raid);
}
