/*
 * raid5.c: the raid5f level. Data strips fill the members left to right, with the parity of each
 * stripe on one of them, which changes from stripe to stripe. Requests of any size and alignment
 * are cut into pieces of one stripe where they write.
 */
/* tidy: data path */
#include <errno.h>

#include "base/plant.h"
#include "vbdev/raid/raid5.h"

void raid5_note_failed(struct raid5_ctx *ctx, unsigned slot)
{
	if (ctx->failed != RAID5_NOBODY && ctx->failed != slot)
		ctx->flags |= RAID5_SEVERAL_FAILED;
	ctx->failed = (uint8_t)slot;
}

struct raid5_rows raid5_slice(const struct bio *bio, struct raid5_rows rows, unsigned strips)
{
	uint64_t most = (BIO_BOUNCE_MAX_BYTES >> bio_bdev(bio)->block_shift) / strips;

	rows.hi = min_u64(rows.hi, rows.lo + most);
	return rows;
}

void raid5_locked(struct bio *bio)
{
	struct raid5_piece piece;

	if (bio->op == BIO_READ) {
		raid5_read_locked(bio);
	} else {
		piece = raid5_piece_of(bio);
		raid5_write_locked(bio, &piece);
	}
}

/* ---- writes: piece by piece ---- */

/* An unmap of less than a stripe may leave everything as it is. */
static bool is_nothing(const struct bio *bio, const struct raid5_piece *piece)
{
	return bio->op == BIO_UNMAP && !raid5_is_whole(piece);
}

static void write_pieces(struct bio *bio);

static void pieces_written(struct bio *bio)
{
	if (bio->status != 0 || bio->frame->ctx[2] == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		write_pieces(bio);
}

static void write_pieces(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t at = bio->frame->ctx[2];
	unsigned max = (unsigned)min_u64(BIO_SPLIT_MAX, (bio->num_blocks >> io->strip_shift) + 2);

	if (!bio_split_begin_own(bio, max, write_pieces))
		return;
	for (unsigned n = 0; n < max && at < bio->num_blocks; n++) {
		struct raid5_piece piece = raid5_piece(
		        io->num_slots, io->strip_shift, bio_offset(bio) + at, bio->num_blocks - at);

		if (!is_nothing(bio, &piece))
			bio_split_add_own(bio, bio_offset(bio) + at, piece.count,
			        at << bio_bdev(bio)->block_shift);
		at += piece.count;
	}
	bio->frame->ctx[2] = at;
	bio_split_end(bio, pieces_written);
}

/* Its region is marked, so that a crash leaves no parity that is wrong unnoticed. */
static bool may_write(struct bio *bio, const struct raid5_piece *piece)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	struct raid5_rows rows = raid5_hull(piece);
	uint64_t row = (piece->stripe << piece->strip_shift) + rows.lo;

	return !io->regions || likely(raid_regions_ready(io, row, raid5_rows_len(rows))) ||
	       PLANT(RAID5_BIT_LATE) || raid_bitmap_admit_at(bio, row, raid5_rows_len(rows));
}

static void raid5_write(struct bio *bio)
{
	struct raid5_piece piece = raid5_piece_of(bio);

	if (piece.count < bio->num_blocks) {
		bio->frame->ctx[2] = 0;
		write_pieces(bio);
	} else if (is_nothing(bio, &piece)) {
		bio_complete(bio, 0);
	} else if (may_write(bio, &piece) && raid5_lock(bio, &piece)) {
		raid5_write_locked(bio, &piece);
	}
}

/* ---- flush ---- */

static void flushed(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));

	if (likely(bio->status == 0 && raid5_load(&io->unsettled) == 0))
		bio_complete(bio, 0);
	else if (raid5_load(&io->unsettled) != 0)
		raid_park(bio);
	else if (bio->status == -EOPNOTSUPP)
		bio_complete(bio, bio->status);
	else
		raid5_write_settle(bio);
}

static bool member_flushed(struct bio *child)
{
	struct bio *bio = bio_child_parent(child);
	unsigned slot = (unsigned)*bio_child_tag(child);

	if (unlikely(child->status != 0 && child->status != -EOPNOTSUPP)) {
		raid5_note_failed(bio_ctx(bio, struct raid5_ctx), slot);
		raid_suspect(raid_io_of(bio_bdev(bio))->raid, slot);
	}
	return true;
}

static void raid5_flush(struct bio *bio)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	uint64_t writable = raid5_load(&io->writable);

	if (raid5_count(raid5_load(&io->readable)) + 1 < io->num_slots) {
		bio_complete(bio, -EIO);
		return;
	}
	if (!bio_split_begin(bio, io->num_slots, raid5_flush))
		return;
	ctx->failed = RAID5_NOBODY;
	ctx->flags = 0;
	for (; writable != 0; writable &= writable - 1) {
		unsigned slot = (unsigned)__builtin_ctzll(writable);
		struct bio *child = bio_split_prepare(bio, member_flushed);

		*bio_child_tag(child) = slot;
		bio_child_submit(child, bdev->bases[slot], 0, 0);
	}
	bio_split_end(bio, flushed);
}

static void raid5_submit(struct bio *bio)
{
	raid_note_client(bio);
	switch (bio->op) {
	case BIO_READ:
		raid5_read(bio);
		break;
	case BIO_FLUSH:
		raid5_flush(bio);
		break;
	case BIO_RESET:
		raid_submit_all(bio);
		break;
	default:
		raid5_write(bio);
	}
}

/* ---- size ---- */

/* It grows only with all members there: the parity of new stripes needs them. */
static uint64_t capacity(const struct raid *raid, const uint64_t *data_blocks)
{
	uint64_t each[RAID5_SLOTS_MAX] = {0}, least = UINT64_MAX, size, used;
	bool all = raid->state != RAID_ONLINE || raid->io.readable == raid->io.all;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (data_blocks[i])
			least = min_u64(least, data_blocks[i]);
		all = all && data_blocks[i] && raid->slots[i].use == SLOT_IN;
	}
	for (unsigned i = 0; i < raid->num_slots; i++)
		each[i] = least;
	size = raid5_capacity(each, raid->num_slots, raid->io.strip_shift, &used);
	if (all)
		return size;
	if (raid->state == RAID_ONLINE)
		return min_u64(size, raid->bdev->geometry.num_blocks);
	return raid->sb_valid ? min_u64(size, raid->sb.array_blocks) : size;
}

static uint64_t used(const struct raid *raid, uint64_t array_blocks, unsigned slot)
{
	(void)slot;
	return array_blocks / (raid->num_slots - 1);
}

const struct raid_level raid5f_level = {
        .name = "raid5f",
        .short_name = "5f",
        .number = 95,
        .members_min = 3,
        .members_max = RAID5_SLOTS_MAX,
        .strips = true,
        .redundant = true,
        .parity = 1,
        .submit = raid5_submit,
        .settle = raid5_write_settle,
        .prepare = raid5_prepare,
        .begin = raid5_begin,
        .resized = raid5_resized,
        .stop = raid5_stop,
        .copy = raid5_copy,
        .capacity = capacity,
        .used = used,
};
