/*
 * raid1.c: mirrors. A read goes to the member with the least outstanding work; one that fails is
 * served by another member, and what could not be read is written again from there. A write goes to
 * all members. It is acknowledged when all have it; when one has failed, after that has been
 * recorded on the others, so that what it missed is never taken for current.
 */
#include <errno.h>

#include "base/plant.h"
#include "vbdev/raid/raid_bitmap.h"

/* Of bio_frame.step while a read is under way: its member, plus one. */

struct raid1_ctx {
	uint64_t split[2]; /* bio_split's */
	union {
		uint64_t slots; /* read: that were tried; write: that have not failed */
		uint64_t next;  /* of a read block by block: the first that is not under way yet */
	};
};

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* ---- reads ---- */

static void read_done(struct bio *bio);

static bool read_from(struct bio *bio, uint64_t candidates)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct raid_loop *state = bdev_loop_state(bdev, bio->loop);
	unsigned best = 0;
	uint64_t least = UINT64_MAX;

	if (candidates == 0)
		return false;
	for (uint64_t left = candidates; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		if (state->reading_blocks[i] < least) {
			least = state->reading_blocks[i];
			best = i;
		}
	}
	state->reading_blocks[best] += bio->num_blocks;
	bio->frame->step = (uint8_t)(best + 1);
	bio_forward(bio, bdev->bases[best], io->offset_blocks[best] + bio_offset(bio), read_done);
	return true;
}

static void read_blocks(struct bio *bio);

static void blocks_read(struct bio *bio)
{
	if (bio->status != 0 || bio_ctx(bio, struct raid1_ctx)->next == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		read_blocks(bio);
}

static void read_blocks(struct bio *bio)
{
	struct raid1_ctx *ctx = bio_ctx(bio, struct raid1_ctx);
	uint64_t end = min_u64(bio->num_blocks, ctx->next + BIO_SPLIT_MAX);

	if (!bio_split_begin_own(bio, (unsigned)(end - ctx->next), read_blocks))
		return;
	for (uint64_t at = ctx->next; at < end; at++)
		bio_split_add_own(bio, bio_offset(bio) + at, 1, at << bio_bdev(bio)->block_shift);
	ctx->next = end;
	bio_split_end(bio, blocks_read);
}

/* No member can read all of it. Each block by itself may still be read from one or the other. */
static void read_failed(struct bio *bio, int status)
{
	struct raid1_ctx *ctx = bio_ctx(bio, struct raid1_ctx);

	if (bio->num_blocks == 1 || __builtin_popcountll(ctx->slots) < 2 || status == -ENODEV ||
	        status == -EOPNOTSUPP) {
		bio_complete(bio, status);
		return;
	}
	ctx->next = 0;
	read_blocks(bio);
}

static void read_done(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	struct raid_loop *state = bdev_loop_state(bdev, bio->loop);
	struct raid1_ctx *ctx = bio_ctx(bio, struct raid1_ctx);
	struct raid_io *io = raid_io_of(bdev);
	unsigned slot = bio->frame->step - 1U;
	int status = bio->status;

	state->reading_blocks[slot] -= bio->num_blocks;
	if (likely(status == 0)) {
		bio_complete(bio, 0);
		return;
	}
	ctx->slots |= 1ULL << slot;
	/* One that has gone needs no cure. */
	if (status != -ENODEV && status != -EOPNOTSUPP && (load(&io->readable) & ~ctx->slots))
		raid_cure_later(io->raid, slot, bio_offset(bio), bio->num_blocks);
	if (status == -EOPNOTSUPP || !read_from(bio, load(&io->readable) & ~ctx->slots))
		read_failed(bio, status);
}

static void raid1_read(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t candidates = load(&io->readable);

	bio_ctx(bio, struct raid1_ctx)->slots = 0;
	/* Where members may differ one of them is the truth, until they are equal again. */
	if (unlikely(load(&io->unsynced) != 0) && !PLANT(RAID_UNSYNCED_ANY) &&
	        raid_regions_unsynced(io, bio_offset(bio), bio->num_blocks))
		candidates &= -candidates;
	if (!read_from(bio, candidates))
		bio_complete(bio, -EIO);
}

/* ---- writes ---- */

/* Nobody is failing: those that have it count, when they still are members. */
static void settle(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t have = bio_ctx(bio, struct raid1_ctx)->slots & load(&io->readable);

	bio_complete(bio, have ? 0 : bio->status ? bio->status : -EIO);
}

static void write_done(struct bio *bio)
{
	struct raid_io *io = raid_io_of(bio_bdev(bio));

	bool unsettled = load(&io->unsettled) != 0;

	if (likely(bio->status == 0 && !unsettled))
		bio_complete_up(bio, 0);
	else if (unsettled)
		raid_park(bio);
	else if (bio->status == -EOPNOTSUPP)
		bio_complete(bio, bio->status);
	else
		settle(bio);
}

static bool child_failed(struct bio *child)
{
	struct bio *parent = bio_child_parent(child);
	unsigned slot = (unsigned)*bio_child_tag(child);

	bio_ctx(parent, struct raid1_ctx)->slots &= ~(1ULL << slot);
	if (child->status != -EOPNOTSUPP) /* which is no fault of the member's */
		raid_suspect(raid_io_of(bio_bdev(parent))->raid, slot);
	return true;
}

static void raid1_write(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t members = load(&io->writable);

	if (members == 0) {
		bio_complete(bio, -EIO);
		return;
	}
	if (io->regions && bio->op != BIO_FLUSH &&
	        !raid_regions_ready(io, bio_offset(bio), bio->num_blocks) &&
	        !raid_bitmap_admit(bio))
		return;
	bio_ctx(bio, struct raid1_ctx)->slots = members;
	/* False: it comes here again when there are children. */
	(void)!bio_split_mirror(bio, members, bio->op == BIO_FLUSH ? NULL : io->offset_blocks,
	        child_failed, write_done, raid1_write);
}

static void raid1_submit(struct bio *bio)
{
	raid_note_client(bio);
	if (bio->op == BIO_READ)
		raid1_read(bio);
	else if (bio->op == BIO_RESET)
		raid_submit_all(bio);
	else
		raid1_write(bio);
}

static uint64_t capacity(const struct raid *raid, const uint64_t *data_blocks)
{
	uint64_t least = UINT64_MAX;

	(void)raid;
	/* One that is being added stands behind the last. */
	for (unsigned i = 0; i < RAID1_SLOTS_MAX; i++) {
		if (data_blocks[i])
			least = min_u64(least, data_blocks[i]);
	}
	return least == UINT64_MAX ? 0 : least;
}

static uint64_t used(const struct raid *raid, uint64_t array_blocks, unsigned slot)
{
	(void)raid;
	(void)slot;
	return array_blocks;
}

const struct raid_level raid1_level = {
        .name = "raid1",
        .short_name = "1",
        .number = 1,
        .members_min = 2,
        .members_max = RAID1_SLOTS_MAX,
        .redundant = true,
        .grows = true,
        .submit = raid1_submit,
        .settle = settle,
        .capacity = capacity,
        .used = used,
};
