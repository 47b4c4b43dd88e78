/*
 * bio_emulate.c: what the core does for a bdev whose module can't be given a bio as it is: an
 * operation it lacks, FUA, memory it can't use, a transfer that is too large.
 *
 * The bio holds its counted frame, which is the core's meanwhile. Its children go to the same
 * bdev's module, past the gate and not counted: the parent stands for them in flight and in the
 * statistics. They are made within the module's limits, so nothing here nests.
 *
 * The data is worked on in chunks: as much as one bounce buffer holds when there is one, else all.
 * A chunk is done by pieces, of which a few are in flight.
 */
/* tidy: data path */
#include "base/plant.h"
#include "bdev/bio_core.h"

#include <errno.h>

/* In frame->tries, which the module does not use as it never sees the frame. */
enum how {
	HOW_BOUNCE = 1 << 0,  /* data goes through a bounce buffer */
	HOW_ZEROES = 1 << 1,  /* write_zeroes by writes of zeroes */
	HOW_COMPARE = 1 << 2, /* compare by read and compare */
	HOW_FLUSH = 1 << 3,   /* flush afterwards, as the module has no FUA */
};

#define PIECES_IN_FLIGHT 8
#define ZERO_BYTES (256 * 1024)

/* Never written, so it is one page of memory. */
static const char zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

/* Blocks that have been given to children. */
static uint64_t *position(struct bio *bio)
{
	return &bio->frame->ctx[2];
}

static const struct bio_limits *limits_of(const struct bio *bio)
{
	return &bio_bdev_loop(bio, bio_bdev(bio))->slow->limits;
}

static uint64_t chunk_blocks(const struct bio *bio)
{
	if (bio->frame->tries & HOW_BOUNCE)
		return BIO_BOUNCE_MAX_BYTES >> bio_bdev(bio)->block_shift;
	return bio->num_blocks;
}

/* The first block of the chunk that pos, or the block before it, lies in. */
static uint64_t chunk_start(const struct bio *bio, uint64_t pos)
{
	uint64_t chunk = chunk_blocks(bio);

	return pos == 0 ? 0 : (pos - 1) / chunk * chunk;
}

static enum bio_op piece_op(const struct bio *bio)
{
	if (bio->frame->tries & HOW_ZEROES)
		return BIO_WRITE;
	if (bio->frame->tries & HOW_COMPARE)
		return BIO_READ;
	return bio->op;
}

/* How much of left blocks at pos one piece may have. */
static uint64_t piece_blocks(const struct bio *bio, uint64_t pos, uint64_t left)
{
	const struct bio_limits *limits = limits_of(bio);
	unsigned shift = bio_bdev(bio)->block_shift;
	bool data = BIO_CAP(piece_op(bio)) & OPS_WITH_DATA;
	uint64_t n = left;

	if (bio->frame->tries & HOW_ZEROES)
		n = min_u64(n, ZERO_BYTES >> shift);
	if (data && limits->max_transfer_blocks)
		n = min_u64(n, limits->max_transfer_blocks + PLANT(LIMIT_IGNORED));
	if (limits->boundary_blocks) {
		uint64_t offset = bio_offset(bio) + pos;

		n = min_u64(n, limits->boundary_blocks - offset % limits->boundary_blocks);
	}
	return n;
}

static bool piece_done(struct bio *child);

static void submit_piece(struct bio *bio, struct bio_child *child, uint64_t end)
{
	unsigned shift = bio_bdev(bio)->block_shift;
	uint8_t how = bio->frame->tries;
	uint64_t pos = *position(bio);
	uint64_t n = piece_blocks(bio, pos, end - pos);

	child->bio.op = (uint8_t)piece_op(bio);
	if (how & HOW_FLUSH)
		child->bio.flags &= (uint8_t)~BIO_FUA;
	if (how & HOW_ZEROES) {
		child->bio.flags &= (uint8_t)~BIO_NO_UNMAP;
		*bio_child_iovs(&child->bio, 1) = (struct iovec){
		        .iov_base = (void *)(uintptr_t)zeroes, .iov_len = n << shift};
	} else if (how & HOW_BOUNCE) {
		char *buffer = bio->frame->bounce;

		*bio_child_iovs(&child->bio, 1) = (struct iovec){
		        .iov_base = buffer +
		                    ((PLANT(BOUNCE_OFFSET) ? 0 : pos - chunk_start(bio, pos + 1))
		                            << shift),
		        .iov_len = n << shift};
	} else if (bio->iovcnt > 0) {
		bio_child_slice(child, bio, (PLANT(BOUNDARY_SKIP) && pos ? pos - 1 : pos) << shift);
	}
	*position(bio) = pos + n;
	bio_child_submit_here(child, bio_offset(bio) + pos,
	        n - (PLANT(ZEROES_EMULATED_SHORT) && (how & HOW_ZEROES) && n > 1));
}

static uint64_t chunk_end(const struct bio *bio, uint64_t start)
{
	return min_u64(bio->num_blocks, start + chunk_blocks(bio));
}

/* The same child takes the next piece, as long as all goes well. */
static bool piece_done(struct bio *child)
{
	struct bio *bio = bio_child_parent(child);
	uint64_t pos = *position(bio);
	uint64_t end = chunk_end(bio, chunk_start(bio, pos));

	if (bio->op == BIO_BLOCK_STATUS) {
		bio->extent = child->extent;
		return true;
	}
	if (child->status != 0 || bio->status != 0 || pos == end)
		return true;
	submit_piece(bio, bio_child_of(child), end);
	return false;
}

static void flush_done(struct bio *bio)
{
	bio_complete(bio, bio->status);
}

static void flush(struct bio *bio)
{
	struct bio *child;

	if (!bio_split_begin_core(bio, 1, flush))
		return;
	child = bio_split_prepare(bio, NULL);
	child->op = BIO_FLUSH;
	child->flags = 0;
	child->iov = NULL;
	child->iovcnt = 0;
	bio_child_submit_here(bio_child_of(child), 0, 0);
	bio_split_end(bio, flush_done);
}

static void run_chunk(struct bio *bio);

static void chunk_done(struct bio *bio)
{
	unsigned shift = bio_bdev(bio)->block_shift;
	uint64_t pos = *position(bio), start = chunk_start(bio, pos);
	uint8_t how = bio->frame->tries;
	int status = bio->status;

	if (status == 0 && (how & HOW_BOUNCE) && (bio->op == BIO_READ || (how & HOW_COMPARE))) {
		uint64_t skip = start << shift;
		size_t len = (pos - start) << shift;

		if (how & HOW_COMPARE)
			status = PLANT(COMPARE_EQUAL)
			                 ? 0
			                 : bio_compare_data(bio, skip, bio->frame->bounce, len);
		else if (!PLANT(BOUNCE_NOT_COPIED_BACK))
			bio_copy_in(bio, skip, bio->frame->bounce, len);
	}
	if (status != 0)
		bio_complete(bio, status);
	else if (pos < bio->num_blocks && bio->op != BIO_BLOCK_STATUS)
		run_chunk(bio);
	else if (how & HOW_FLUSH)
		flush(bio);
	else
		bio_complete(bio, 0);
}

static void run_chunk(struct bio *bio)
{
	unsigned shift = bio_bdev(bio)->block_shift;
	struct bio_pool *pool = bio_bdev_loop(bio, bio_bdev(bio))->slow->pools[POOL_CORE];
	uint64_t start = *position(bio), end = chunk_end(bio, start);
	bool bounce = bio->frame->tries & HOW_BOUNCE;
	unsigned n = PIECES_IN_FLIGHT;

	if (bounce) {
		size_t bytes = min_u64(bio_bytes(bio), BIO_BOUNCE_MAX_BYTES);

		if (!bio_bounce_from(pool, bio, bytes, run_chunk))
			return;
	}
	if (bio->op == BIO_BLOCK_STATUS || piece_blocks(bio, start, end - start) == end - start)
		n = 1; /* the extent that begins here is the answer */
	if (!bio_split_begin_core(bio, n, run_chunk))
		return;
	if (bounce && piece_op(bio) != BIO_READ)
		bio_copy_out(bio, start << shift, bio->frame->bounce, (end - start) << shift);
	for (; n > 0 && *position(bio) < end; n--)
		submit_piece(bio, bio_child_of(bio_split_prepare(bio, piece_done)), end);
	bio_split_end(bio, chunk_done);
}

/* What a bdev that lacks the operation answers without any I/O; 1: there is I/O to do. */
static int answer(struct bio *bio, uint32_t missing, const struct bio_limits *limits)
{
	switch ((enum bio_op)bio->op) {
	case BIO_FLUSH:
		return limits->write_cache ? -EOPNOTSUPP : 0;
	case BIO_RESET:
		return 0;
	case BIO_BLOCK_STATUS:
		bio->extent = (struct bio_extent){.num_blocks = bio->num_blocks};
		return 0;
	case BIO_WRITE_ZEROES:
	case BIO_COMPARE:
		return 1;
	default:
		return missing & BIO_CAP(bio->op) ? -EOPNOTSUPP : 1;
	}
}

static bool lacks(const struct bio *bio, enum bio_op op)
{
	return bio_bdev_loop(bio, bio_bdev(bio))->lacks & BIO_CAP(op);
}

void bio_emulate(struct bio *bio, uint32_t missing)
{
	const struct bio_limits *limits = limits_of(bio);
	unsigned how = 0;

	if (limits->read_only && (bio->need & OPS_THAT_WRITE)) {
		bio_complete(bio, -EROFS);
		return;
	}
	if (missing & BIO_CAP(bio->op)) {
		int status = answer(bio, missing, limits);

		if (status <= 0) {
			bio_complete(bio, status);
			return;
		}
		how |= bio->op == BIO_COMPARE ? HOW_COMPARE | HOW_BOUNCE : HOW_ZEROES;
	}
	if ((missing & BIO_CAP_FUA) && !PLANT(FUA_EMULATED_WITHOUT_FLUSH))
		how |= HOW_FLUSH;
	bio->frame->tries = (uint8_t)how;
	if (lacks(bio, piece_op(bio)) || ((how & HOW_FLUSH) && lacks(bio, BIO_FLUSH))) {
		bio_complete(bio, -EOPNOTSUPP);
		return;
	}
	/* A cut could fall on an address that is not aligned when a block is smaller than that. */
	if ((bio->need & OPS_WITH_DATA) &&
	        (!bio_is_aligned(bio, limits) || limits->address_mask > limits->len_mask))
		how |= HOW_BOUNCE;
	bio->frame->tries = (uint8_t)how;
	*position(bio) = 0;
	run_chunk(bio);
}
