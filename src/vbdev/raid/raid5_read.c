/*
 * raid5_read.c: reads. What lies in one strip is passed on; what lies in several is one child per
 * run of blocks that is contiguous on a member: one for each, and one more where its parity lies in
 * between. What a member does not give is made up from the others, with its rows locked.
 */
/* tidy: data path */
#include <errno.h>

#include "base/plant.h"
#include "math/xor.h"
#include "vbdev/raid/raid5.h"

/* ---- made up ---------------------------------------------------------------------------------
 */

static void make_up_slice(struct bio *bio);
static void read_row(struct bio *bio);

static void read_end(struct bio *bio, int status)
{
	struct raid5_piece piece = raid5_piece_of(bio);

	raid5_unlock(bio, &piece);
	bio_complete(bio, status);
}

static struct raid5_rows slice_of(const struct bio *bio, const struct raid5_piece *piece)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid5_rows hull = raid5_hull(piece);

	hull.lo = ctx->row;
	if (ctx->flags & RAID5_BY_ROW)
		hull.hi = hull.lo + 1;
	return raid5_slice(bio, hull, piece->members);
}

/* The rows up to this one are there. */
static void read_on(struct bio *bio, uint64_t row)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid5_piece piece = raid5_piece_of(bio);

	ctx->row = (uint32_t)row;
	if (row == raid5_hull(&piece).hi)
		read_end(bio, 0);
	else if (ctx->flags & RAID5_BY_ROW)
		read_row(bio);
	else
		make_up_slice(bio);
}

/* Where two members can't read all of it, some rows may be read and the others made up. */
static void others_failed(struct bio *bio)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);

	if (bio->num_blocks == 1 || ctx->flags & (RAID5_BY_ROW | RAID5_IS_GONE)) {
		read_end(bio, -EIO);
		return;
	}
	ctx->flags |= RAID5_BY_ROW;
	read_row(bio);
}

static void others_read(struct bio *bio)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid_io *io = raid_io_of(bio_bdev(bio));
	unsigned shift = bio_bdev(bio)->block_shift, sources = 0;
	struct raid5_piece piece = raid5_piece_of(bio);
	struct raid5_rows hull = raid5_hull(&piece), rows = slice_of(bio, &piece);
	size_t bytes = raid5_rows_len(rows) << shift;
	const void *src[RAID5_SLOTS_MAX];
	uint8_t *buf;

	if (bio->status != 0) {
		others_failed(bio);
		return;
	}
	buf = bio_bounce(bio, bytes, others_read); /* it is there */
	for (unsigned m = 0; m + 1 < piece.members; m++)
		src[sources++] = buf + m * bytes;
	xor_gen_bytes(buf, src, sources, bytes);
	bio_copy_in(bio, (rows.lo - hull.lo) << shift, buf, bytes);
	if (!(ctx->flags & RAID5_IS_GONE))
		raid_cure_later(io->raid, ctx->blind, (piece.stripe << piece.strip_shift) + rows.lo,
		        raid5_rows_len(rows));
	read_on(bio, rows.hi);
}

static void read_others(struct bio *bio)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct raid5_piece piece = raid5_piece_of(bio);
	struct raid5_rows rows = slice_of(bio, &piece);
	size_t bytes = raid5_rows_len(rows) << bdev->block_shift;
	uint8_t *buf = bio_bounce(bio, bytes * (piece.members - 1), read_others);

	if (!buf || !bio_split_begin(bio, piece.members - 1, read_others))
		return;
	for (unsigned m = 0; m < piece.members; m++) {
		struct bio *child;

		if (m == ctx->blind)
			continue;
		child = bio_split_prepare(bio, NULL);
		*bio_child_iovs(child, 1) = (struct iovec){buf, bytes};
		buf += bytes;
		bio_child_submit(child, bdev->bases[m],
		        io->offset_blocks[m] + (piece.stripe << piece.strip_shift) + rows.lo,
		        raid5_rows_len(rows));
	}
	bio_split_end(bio, others_read);
}

static void row_read(struct bio *bio)
{
	if (bio->status != 0)
		make_up_slice(bio);
	else
		read_on(bio, bio_ctx(bio, struct raid5_ctx)->row + 1);
}

/* From the member that could not read all of it. */
static void read_row(struct bio *bio)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct raid5_piece piece = raid5_piece_of(bio);
	uint64_t row = ctx->row, at = row - raid5_hull(&piece).lo;

	if (!(raid5_load(&io->readable) >> ctx->blind & 1)) {
		make_up_slice(bio);
		return;
	}
	if (!bio_split_begin(bio, 1, read_row))
		return;
	bio_split_add(bio, bdev->bases[ctx->blind],
	        io->offset_blocks[ctx->blind] + (piece.stripe << piece.strip_shift) + row, 1,
	        at << bdev->block_shift, NULL);
	bio_split_end(bio, row_read);
}

static void make_up_slice(struct bio *bio)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t others = io->all & ~(1ULL << ctx->blind);
	struct raid5_piece piece = raid5_piece_of(bio);

	if ((raid5_load(&io->readable) & others) != others ||
	        raid5_trust_in(io, piece.stripe) == RAID5_TRUST_NONE)
		read_end(bio, -EIO);
	else
		read_others(bio);
}

void raid5_read_locked(struct bio *bio)
{
	make_up_slice(bio);
}

static void make_up(struct bio *bio, unsigned slot, bool gone)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid5_piece piece = raid5_piece_of(bio);

	*ctx = (struct raid5_ctx){.blind = (uint8_t)slot,
	        .row = (uint32_t)raid5_hull(&piece).lo,
	        .flags = gone ? RAID5_IS_GONE : 0};
	if (raid5_lock(bio, &piece))
		make_up_slice(bio);
}

/* ---- one strip ---- */

static unsigned slot_of(const struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));

	return raid5_map(io->num_slots, io->strip_shift, bio_offset(bio)).member;
}

static void strip_read(struct bio *bio)
{
	if (likely(bio->status == 0) || bio->status == -EOPNOTSUPP)
		bio_complete(bio, bio->status);
	else
		make_up(bio, slot_of(bio), bio->status == -ENODEV);
}

/* ---- several ---- */

static void read_parts(struct bio *bio);

static void parts_read(struct bio *bio)
{
	if (bio->status != 0 || bio->frame->ctx[2] == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		read_parts(bio);
}

/* Each strip by itself, as some must be made up. */
static void read_parts(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t at = bio->frame->ctx[2];

	if (!bio_split_begin_own(bio, BIO_SPLIT_MAX, read_parts))
		return;
	for (unsigned n = 0; n < BIO_SPLIT_MAX && at < bio->num_blocks; n++) {
		uint64_t offset = bio_offset(bio) + at;
		uint64_t run = raid5_map(io->num_slots, io->strip_shift, offset).run_blocks;

		run = min_u64(run, bio->num_blocks - at);
		bio_split_add_own(bio, offset, run, at << bio_bdev(bio)->block_shift);
		at += run;
	}
	bio->frame->ctx[2] = at;
	bio_split_end(bio, parts_read);
}

/* Blocks that are contiguous on a member. */
struct run {
	struct bio *child;
	struct iovec *iov; /* NULL: the child has the request's own */
	unsigned iovs, member;
	uint64_t offset_blocks, blocks;
};

struct runs {
	struct run run[BIO_SPLIT_MAX];
	unsigned num, max;
	uint8_t last[RAID5_SLOTS_MAX]; /* of each member, plus one; 0: none */
};

static unsigned count_iovs(struct raid_walk walk, size_t bytes)
{
	unsigned n = 0;

	for (; bytes > 0 && n <= BIO_CHILD_IOVS; n++)
		bytes -= raid_walk_next(&walk, bytes).iov_len;
	return n;
}

/* The blocks of one strip: behind the member's last run, or a new one. False: no more children. */
static bool add_strip(struct runs *runs, struct bio *bio, const struct raid5_place *place,
        struct raid_walk *walk, uint64_t at, uint64_t blocks)
{
	size_t bytes = blocks << bio_bdev(bio)->block_shift;
	unsigned iovs = count_iovs(*walk, bytes), last = runs->last[place->member];
	struct run *run = last ? &runs->run[last - 1] : NULL;

	if (!run || !run->iov || run->offset_blocks + run->blocks != place->offset_blocks ||
	        run->iovs + iovs > BIO_CHILD_IOVS) {
		if (runs->num == runs->max)
			return false;
		run = &runs->run[runs->num++];
		runs->last[place->member] = (uint8_t)runs->num;
		*run = (struct run){.child = bio_split_prepare(bio, NULL),
		        .member = place->member,
		        .offset_blocks = place->offset_blocks};
		if (iovs <= BIO_CHILD_IOVS)
			run->iov = bio_child_iovs(run->child, BIO_CHILD_IOVS);
		else
			run->child->iov_skip_bytes += (uint32_t)(at << bio_bdev(bio)->block_shift);
	}
	run->blocks += blocks;
	while (bytes > 0) {
		struct iovec piece = raid_walk_next(walk, bytes);

		if (run->iov)
			run->iov[run->iovs++] = piece;
		bytes -= piece.iov_len;
	}
	return true;
}

static void read_runs(struct bio *bio);

static void runs_read(struct bio *bio)
{
	if (bio->status == 0 && bio->frame->ctx[2] < bio->num_blocks) {
		read_runs(bio);
	} else if (bio->status == 0 || bio->status == -EOPNOTSUPP) {
		bio_complete(bio, bio->status);
	} else {
		bio->frame->ctx[2] = 0;
		read_parts(bio);
	}
}

static void read_runs(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	uint64_t at = bio->frame->ctx[2], left = bio->num_blocks - at;
	struct raid_walk walk = raid_walk_of(bio);
	struct runs runs;

	runs.num = 0;
	runs.max = (unsigned)min_u64(BIO_SPLIT_MAX, (left >> io->strip_shift) + 2);
	memset(runs.last, 0, io->num_slots);
	if (!bio_split_begin(bio, runs.max, read_runs))
		return;
	for (uint64_t skip = at << bdev->block_shift; skip > 0;)
		skip -= raid_walk_next(&walk, skip).iov_len;
	while (at < bio->num_blocks) {
		struct raid5_place place =
		        raid5_map(io->num_slots, io->strip_shift, bio_offset(bio) + at);
		uint64_t blocks = min_u64(place.run_blocks, bio->num_blocks - at);

		if (!add_strip(&runs, bio, &place, &walk, at, blocks))
			break;
		at += blocks;
	}
	bio->frame->ctx[2] = at;
	for (unsigned i = 0; i < runs.num; i++) {
		const struct run *run = &runs.run[i];

		if (run->iov)
			run->child->iovcnt = run->iovs;
		bio_child_submit(run->child, bdev->bases[run->member],
		        io->offset_blocks[run->member] + run->offset_blocks, run->blocks);
	}
	bio_split_end(bio, runs_read);
}

void raid5_read(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct raid5_place place = raid5_map(io->num_slots, io->strip_shift, bio_offset(bio));
	uint64_t readable = raid5_load(PLANT(RAID5_STALE_READ) ? &io->writable : &io->readable);

	if (likely(bio->num_blocks <= place.run_blocks)) {
		if (likely(readable >> place.member & 1))
			bio_forward(bio, bdev->bases[place.member],
			        io->offset_blocks[place.member] + place.offset_blocks, strip_read);
		else
			make_up(bio, place.member, true);
		return;
	}
	bio->frame->ctx[2] = 0;
	if (likely(readable == io->all))
		read_runs(bio);
	else
		read_parts(bio);
}
