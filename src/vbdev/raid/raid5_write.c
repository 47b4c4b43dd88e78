/*
 * raid5_write.c: writes into one stripe, with its rows locked: what is needed is read, parity is
 * computed, data and parity are written; where nothing is read, data goes first. It goes by slices
 * where a buffer would be too large. Write zeroes is the same with data that adds nothing to
 * parity.
 */
/* tidy: data path */
#include <errno.h>

#include "base/plant.h"
#include "math/xor.h"
#include "vbdev/raid/raid5.h"

static void plan_slice(struct bio *bio, const struct raid5_piece *piece);
static void plan_again(struct bio *bio);

static void write_end(struct bio *bio, const struct raid5_piece *piece, int status)
{
	raid5_unlock(bio, piece);
	bio_complete(bio, status);
}

/* Where the plan's rows of a member are in the buffer. */
static uint8_t *region(struct bio *bio, const struct raid5_piece *piece,
        const struct raid5_plan *plan, unsigned member)
{
	size_t bytes = raid5_rows_len(plan->rows) << bio_bdev(bio)->block_shift;
	unsigned strips = raid5_is_whole(piece) ? 1 : piece->members;
	uint8_t *buf = bio_bounce(bio, bytes * strips, plan_again);

	return buf ? buf + (strips > 1 ? member * bytes : 0) : NULL;
}

static struct raid5_rows slice_of(const struct bio *bio, const struct raid5_piece *piece)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid5_rows rows = raid5_hull(piece);

	rows.lo = ctx->row;
	if (unlikely(ctx->flags & RAID5_BY_ROW))
		rows.hi = rows.lo + 1;
	return raid5_slice(bio, rows, raid5_is_whole(piece) ? 1 : piece->members);
}

/* The same in each step, as what it depends on is kept. */
static struct raid5_plan plan_of(const struct bio *bio, const struct raid5_piece *piece)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);

	return raid5_plan_write(piece, slice_of(bio, piece), ctx->blind,
	        ctx->flags & RAID5_PARITY_GONE, ctx->trust);
}

static bool is_data(const struct bio *bio)
{
	return bio->op == BIO_WRITE;
}

static uint64_t place_of(
        const struct raid_io *io, const struct raid5_piece *piece, unsigned slot, uint64_t row)
{
	return io->offset_blocks[slot] + (piece->stripe << piece->strip_shift) + row;
}

/* ---- parity ---- */

/* For a strip that can't be read: its rows, from all others. */
static void make_up(struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	const void *src[RAID5_SLOTS_MAX];
	unsigned n = 0;

	for (unsigned m = 0; m < piece->members; m++) {
		if (m != plan->blind)
			src[n++] = region(bio, piece, plan, m);
	}
	xor_gen_bytes(region(bio, piece, plan, plan->blind), src, n,
	        raid5_rows_len(plan->rows) << bio_bdev(bio)->block_shift);
}

/* The rows of a member that go into parity. */
static struct raid5_rows summed(
        const struct raid5_piece *piece, const struct raid5_plan *plan, unsigned member)
{
	if (plan->mode != RAID5_ALL)
		return raid5_plan_read(piece, plan, member);
	if (member == piece->parity)
		return plan->rows;
	return raid5_plan_data(piece, plan, raid5_index_of(piece, member));
}

static void compute_parity(
        struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	unsigned shift = bio_bdev(bio)->block_shift, n = 0;
	uint64_t lo = plan->rows.lo;
	size_t bytes = raid5_rows_len(plan->rows) << shift;
	struct iovec regions[RAID5_SLOTS_MAX];
	struct xor_view views[2 * RAID5_SLOTS_MAX];

	if (plan->mode == RAID5_ALL)
		make_up(bio, piece, plan);
	for (unsigned m = 0; m < piece->members && plan->mode != RAID5_FULL; m++) {
		struct raid5_rows rows = summed(piece, plan, m);

		if (raid5_rows_len(rows) == 0 || (PLANT(RAID5_OLD_LEFT_OUT) && m == piece->parity))
			continue;
		/* What was read begins at its place among the plan's rows. */
		regions[m] = (struct iovec){region(bio, piece, plan, m), bytes};
		views[n++] = (struct xor_view){(rows.lo - lo) << shift, (rows.hi - lo) << shift,
		        &regions[m], (rows.lo - lo) << shift};
	}
	for (unsigned d = 0; d + 1 < piece->members && is_data(bio); d++) {
		struct raid5_rows rows = raid5_plan_data(piece, plan, d);

		if (raid5_rows_len(rows) > 0)
			views[n++] = (struct xor_view){(rows.lo - lo) << shift,
			        (rows.hi - lo) << shift, bio->iov,
			        bio->iov_skip_bytes +
			                (raid5_skip_blocks(piece, d, rows.lo) << shift)};
	}
	xor_views(region(bio, piece, plan, piece->parity), 0, bytes, views, n);
}

/* ---- the third step: write ---- */

/* A slice is written. True: the next is on its way; false: it was the last. */
static bool next_slice(struct bio *bio, const struct raid5_piece *piece)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);

	ctx->row = (uint32_t)slice_of(bio, piece).hi;
	if (ctx->row == raid5_hull(piece).hi)
		return false;
	ctx->blind = ctx->failed = RAID5_NOBODY;
	plan_slice(bio, piece);
	return true;
}

/* Nobody is failing. What has failed here must be out, and the array on. */
void raid5_write_settle(struct bio *bio)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t readable = raid5_load(&io->readable);
	uint64_t members = readable | raid5_load(&io->writable);
	bool lives = raid5_count(readable) + 1 >= io->num_slots;
	bool out = ctx->failed == RAID5_NOBODY ||
	           (!(members >> ctx->failed & 1) && !(ctx->flags & RAID5_SEVERAL_FAILED));
	int status = lives && out ? 0 : bio->status ? bio->status : -EIO;
	struct raid5_piece piece;

	if (bio->op == BIO_FLUSH) {
		bio_complete(bio, status);
		return;
	}
	piece = raid5_piece_of(bio);
	if (status == 0 && next_slice(bio, &piece))
		return;
	if (status != 0)
		__atomic_store_n(&io->torn, 1, __ATOMIC_SEQ_CST);
	write_end(bio, &piece, status);
}

static void slice_ok(struct bio *bio)
{
	struct raid5_piece piece = raid5_piece_of(bio);

	if (next_slice(bio, &piece))
		return;
	raid5_unlock(bio, &piece);
	bio_complete_up(bio, 0);
}

static void slice_written(struct bio *bio)
{
	if (likely(bio->status == 0 && raid5_load(&raid_io_of(bio_bdev(bio))->unsettled) == 0) ||
	        PLANT(RAID5_ACK_UNRECORDED))
		slice_ok(bio);
	else if (raid5_load(&raid_io_of(bio_bdev(bio))->unsettled) != 0)
		raid_park(bio);
	else
		raid5_write_settle(bio);
}

static bool member_written(struct bio *child)
{
	struct bio *bio = bio_child_parent(child);
	unsigned slot = (unsigned)*bio_child_tag(child);

	if (unlikely(child->status != 0)) {
		raid5_note_failed(bio_ctx(bio, struct raid5_ctx), slot);
		raid_suspect(raid_io_of(bio_bdev(bio))->raid, slot);
	}
	return true;
}

/* What was made up is written too: if nobody ever wrote it, the member holds something else. */
static bool is_written_whole(const struct bio *bio, const struct raid5_plan *plan)
{
	return plan->mode == RAID5_ALL &&
	       bio_ctx(bio, struct raid5_ctx)->trust == RAID5_TRUST_WRITTEN;
}

static void submit_made_up(
        struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	struct bdev *bdev = bio_bdev(bio);
	unsigned index = raid5_index_of(piece, plan->blind);
	struct raid5_rows rows = raid5_plan_data(piece, plan, index);
	uint8_t *made_up = region(bio, piece, plan, plan->blind);
	uint8_t *to = made_up + ((rows.lo - plan->rows.lo) << bdev->block_shift);
	size_t bytes = raid5_rows_len(rows) << bdev->block_shift;
	struct bio *child = bio_split_prepare(bio, member_written);

	if (bytes > 0 && is_data(bio))
		bio_copy_out(bio, raid5_skip_blocks(piece, index, rows.lo) << bdev->block_shift, to,
		        bytes);
	else
		memset(to, 0, bytes);
	*bio_child_tag(child) = plan->blind;
	child->op = BIO_WRITE;
	child->flags &= BIO_FUA;
	*bio_child_iovs(child, 1) =
	        (struct iovec){made_up, raid5_rows_len(plan->rows) << bdev->block_shift};
	bio_child_submit(child, bdev->bases[plan->blind],
	        place_of(raid_io_of(bdev), piece, plan->blind, plan->rows.lo),
	        raid5_rows_len(plan->rows));
}

static void submit_data(struct bio *bio, const struct raid5_piece *piece,
        const struct raid5_plan *plan, uint64_t writable)
{
	struct bdev *bdev = bio_bdev(bio);

	for (unsigned d = 0; d + 1 < piece->members; d++) {
		unsigned slot = raid5_member_of(piece, d);
		struct raid5_rows rows = raid5_plan_data(piece, plan, d);
		bool whole = slot == plan->blind && is_written_whole(bio, plan);
		struct bio *child;

		if (!(writable >> slot & 1))
			continue;
		if (whole)
			submit_made_up(bio, piece, plan);
		if (whole || raid5_rows_len(rows) == 0)
			continue;
		child = bio_split_prepare(bio, member_written);
		*bio_child_tag(child) = slot;
		if (is_data(bio))
			child->iov_skip_bytes += (uint32_t)(raid5_skip_blocks(piece, d, rows.lo)
			                                    << bdev->block_shift);
		else
			child->op = BIO_WRITE_ZEROES;
		bio_child_submit(child, bdev->bases[slot],
		        place_of(raid_io_of(bdev), piece, slot, rows.lo), raid5_rows_len(rows));
	}
}

static void submit_parity(
        struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	struct bdev *bdev = bio_bdev(bio);
	struct bio *child = bio_split_prepare(bio, member_written);

	*bio_child_tag(child) = piece->parity;
	if (!is_data(bio) && plan->mode == RAID5_FULL) {
		child->op = BIO_WRITE_ZEROES;
	} else {
		child->op = BIO_WRITE;
		child->flags &= BIO_FUA;
		*bio_child_iovs(child, 1) = (struct iovec){region(bio, piece, plan, piece->parity),
		        raid5_rows_len(plan->rows) << bdev->block_shift};
	}
	bio_child_submit(child, bdev->bases[piece->parity],
	        place_of(raid_io_of(bdev), piece, piece->parity, plan->rows.lo),
	        raid5_rows_len(plan->rows));
}

/* Parity that needs nothing but what is written. */
static bool computes_late(const struct bio *bio, const struct raid5_plan *plan)
{
	return plan->mode == RAID5_FULL && is_data(bio);
}

static void write_again(struct bio *bio);

static void write_slice(
        struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	uint64_t writable = raid5_load(&raid_io_of(bio_bdev(bio))->writable);

	if (!bio_split_begin(bio, piece->members, write_again))
		return;
	bio_ctx(bio, struct raid5_ctx)->failed = RAID5_NOBODY;
	submit_data(bio, piece, plan, writable);
	/* The data is on its way meanwhile, and what its children need was still in the cache. */
	if (computes_late(bio, plan))
		compute_parity(bio, piece, plan);
	if (plan->mode != RAID5_BLIND && (writable >> piece->parity & 1) &&
	        !(PLANT(RAID5_PARITY_SKIPPED) && plan->blind != RAID5_NOBODY))
		submit_parity(bio, piece, plan);
	bio_split_end(bio, slice_written);
}

static void write_again(struct bio *bio)
{
	struct raid5_piece piece = raid5_piece_of(bio);
	struct raid5_plan plan = plan_of(bio, &piece);

	write_slice(bio, &piece, &plan);
}

/* ---- the second step: parity of what was read ---- */

static void compute(struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	if (plan->mode != RAID5_BLIND && plan->mode != RAID5_FULL)
		compute_parity(bio, piece, plan);
	write_slice(bio, piece, plan);
}

/* ---- the first step: read ---- */

/* Once more without the one that can't be read, then row by row, since members may have bad sectors
 * in different places. Nothing of this slice has been written yet. */
static void read_failed(struct bio *bio, const struct raid5_piece *piece, struct raid5_rows rows)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	struct raid_io *io = raid_io_of(bio_bdev(bio));

	if (ctx->blind == RAID5_NOBODY && !(ctx->flags & RAID5_SEVERAL_FAILED)) {
		if (bio->status != -ENODEV)
			raid_cure_later(io->raid, ctx->failed,
			        (piece->stripe << piece->strip_shift) + rows.lo,
			        raid5_rows_len(rows));
		ctx->blind = ctx->failed;
	} else if (raid5_rows_len(rows) > 1 && raid5_load(&io->readable) == io->all) {
		ctx->flags |= RAID5_BY_ROW;
		ctx->blind = RAID5_NOBODY;
	} else {
		write_end(bio, piece, -EIO);
		return;
	}
	plan_slice(bio, piece);
}

static void slice_read(struct bio *bio)
{
	struct raid5_piece piece = raid5_piece_of(bio);
	struct raid5_plan plan = plan_of(bio, &piece);

	if (likely(bio->status == 0))
		compute(bio, &piece, &plan);
	else
		read_failed(bio, &piece, plan.rows);
}

static bool member_read(struct bio *child)
{
	if (unlikely(child->status != 0))
		raid5_note_failed(bio_ctx(bio_child_parent(child), struct raid5_ctx),
		        (unsigned)*bio_child_tag(child));
	return true;
}

static void read_again(struct bio *bio);

static void read_slice(
        struct bio *bio, const struct raid5_piece *piece, const struct raid5_plan *plan)
{
	struct bdev *bdev = bio_bdev(bio);

	if (!bio_split_begin(bio, piece->members, read_again))
		return;
	bio_ctx(bio, struct raid5_ctx)->failed = RAID5_NOBODY;
	for (unsigned m = 0; m < piece->members; m++) {
		struct raid5_rows rows = raid5_plan_read(piece, plan, m);
		struct bio *child;

		if (raid5_rows_len(rows) == 0)
			continue;
		child = bio_split_prepare(bio, member_read);
		*bio_child_tag(child) = m;
		child->op = BIO_READ;
		child->flags = 0;
		*bio_child_iovs(child, 1) =
		        (struct iovec){region(bio, piece, plan, m) +
		                               ((rows.lo - plan->rows.lo) << bdev->block_shift),
		                raid5_rows_len(rows) << bdev->block_shift};
		bio_child_submit(child, bdev->bases[m],
		        place_of(raid_io_of(bdev), piece, m, rows.lo), raid5_rows_len(rows));
	}
	bio_split_end(bio, slice_read);
}

static void read_again(struct bio *bio)
{
	struct raid5_piece piece = raid5_piece_of(bio);
	struct raid5_plan plan = plan_of(bio, &piece);

	read_slice(bio, &piece, &plan);
}

/* ---- the plan ---- */

/*
 * Who can't be read: the member that is missing, or the one that has just failed; not both. False:
 * it can't be done.
 */
static bool look_at_members(struct bio *bio, const struct raid5_piece *piece)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t writable = raid5_load(&io->writable);
	uint64_t missing = io->all & ~raid5_load(&io->readable);
	unsigned slot = missing ? (unsigned)__builtin_ctzll(missing) : RAID5_NOBODY;

	ctx->flags &= RAID5_BY_ROW;
	if (!(writable >> piece->parity & 1))
		ctx->flags |= RAID5_PARITY_GONE;
	ctx->trust = (uint8_t)raid5_trust_in(io, piece->stripe);
	/* What one that is missing has is what the others make up for it, also where nothing was
	 * written. */
	if (ctx->trust == RAID5_TRUST_WRITTEN && (missing || PLANT(RAID5_FRESH_MODIFIED)))
		ctx->trust = RAID5_TRUST_ALL;
	if (!missing)
		return true;
	if (raid5_count(missing) > 1 || (ctx->blind != RAID5_NOBODY && ctx->blind != slot))
		return false;
	ctx->blind = (uint8_t)slot;
	if (ctx->trust == RAID5_TRUST_ALL || slot == piece->parity)
		return true;
	/* What is written for it must be readable afterwards. */
	return raid5_rows_len(raid5_touched(piece, raid5_index_of(piece, slot))) == 0;
}

static void plan_slice(struct bio *bio, const struct raid5_piece *piece)
{
	struct raid5_plan plan;

	if (!look_at_members(bio, piece)) {
		write_end(bio, piece, -EIO);
		return;
	}
	plan = plan_of(bio, piece);
	if (plan.mode == RAID5_IMPOSSIBLE)
		write_end(bio, piece, -EIO);
	else if (plan.mode == RAID5_BLIND || (plan.mode == RAID5_FULL && !is_data(bio)))
		write_slice(bio, piece, &plan);
	else if (!region(bio, piece, &plan, 0))
		return;
	else if (plan.mode == RAID5_FULL)
		compute(bio, piece, &plan);
	else
		read_slice(bio, piece, &plan);
}

static void plan_again(struct bio *bio)
{
	struct raid5_piece piece = raid5_piece_of(bio);

	plan_slice(bio, &piece);
}

void raid5_write_locked(struct bio *bio, const struct raid5_piece *piece)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);

	*ctx = (struct raid5_ctx){.row = (uint32_t)raid5_hull(piece).lo,
	        .blind = RAID5_NOBODY,
	        .failed = RAID5_NOBODY};
	plan_slice(bio, piece);
}
