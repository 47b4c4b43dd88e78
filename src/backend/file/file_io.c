/*
 * file_io.c: requests on a file. The operation of the loop lies in the frame of the request, so
 * nothing is allocated.
 */
#include "backend/file/file.h"

#include <errno.h>

#include "base/log.h"
#include "base/plant.h"

/* More pieces than this are only seen when nothing had to be cut: then they are passed as they
 * are. */
#define IOVS_MAX 1024

struct file_ctx {
	struct loop_op op;
	struct bio *bio;
};

static struct file_bdev *file_of(const struct bio *bio)
{
	return bio_bdev(bio)->priv;
}

static struct bio *bio_of(struct loop_op *op)
{
	return container_of(op, struct file_ctx, op)->bio;
}

static bool is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* Logs the first error of a bdev; a disk in trouble has more than anybody wants to read. */
static void note_error(struct bio *bio, int status)
{
	struct file_bdev *f = file_of(bio);

	if (__atomic_exchange_n(&f->error_logged, true, __ATOMIC_RELAXED))
		return;
	log_error("file",
	        "%s on '%s' ('%s') at block %llu failed: %s; further errors are only counted",
	        bio_op_name(bio->op), bio_bdev(bio)->name, f->params.filename,
	        (unsigned long long)bio_offset(bio), errno_text(status));
}

static void complete(struct bio *bio, int status)
{
	if (unlikely(status < 0))
		note_error(bio, status);
	bio_complete(bio, status);
}

static void transfer_done(struct loop_op *op, int result)
{
	struct bio *bio = bio_of(op);

	/* Less than asked: the file ends before the bdev does. */
	if (result >= 0)
		result = (uint64_t)result == bio_bytes(bio) ? 0 : -EIO;
	complete(bio, PLANT(ERROR_SWALLOWED) ? 0 : result);
}

static void sync_done(struct loop_op *op, int result)
{
	struct bio *bio = bio_of(op);
	struct file_bdev *f = file_of(bio);

	/* The kernel forgets what it could not write: a later sync would succeed without it. */
	if (result < 0 && !f->info.direct)
		__atomic_store_n(&f->sync_failed, true, __ATOMIC_RELAXED);
	complete(bio, result);
}

static void sync(struct bio *bio)
{
	struct file_bdev *f = file_of(bio);
	struct file_ctx *ctx = bio_ctx(bio, struct file_ctx);

	if (PLANT(FLUSH_SWALLOWED)) {
		bio_complete(bio, 0);
		return;
	}
	if (unlikely(is_set(&f->sync_failed))) {
		bio_complete(bio, -EIO);
		return;
	}
	ctx->op.done = sync_done;
	loop_file_sync(bio->loop, &ctx->op, f->file);
}

static void zero(struct bio *bio);

static void zeroed(struct bio *bio, int result, bool *refused)
{
	if (result == -EOPNOTSUPP) {
		__atomic_store_n(refused, true, __ATOMIC_RELAXED);
		zero(bio);
	} else if (result < 0) {
		complete(bio, result);
	} else if ((bio->flags & BIO_FUA) && !PLANT(ZEROES_FUA_SWALLOWED)) {
		sync(bio);
	} else {
		bio_complete(bio, 0);
	}
}

static void zero_done(struct loop_op *op, int result)
{
	struct bio *bio = bio_of(op);

	zeroed(bio, result, &file_of(bio)->zero_refused);
}

static void zero_punched(struct loop_op *op, int result)
{
	struct bio *bio = bio_of(op);

	zeroed(bio, result, &file_of(bio)->punch_refused);
}

/* In place, so that what is allocated stays so; else by a hole where that may be; else by writes.
 */
static void zero(struct bio *bio)
{
	struct file_bdev *f = file_of(bio);
	struct file_ctx *ctx = bio_ctx(bio, struct file_ctx);
	uint64_t offset_bytes = bio_offset(bio) << bio_bdev(bio)->block_shift;

	if (!is_set(&f->zero_refused)) {
		ctx->op.done = zero_done;
		loop_file_zero(bio->loop, &ctx->op, f->file, offset_bytes, bio_bytes(bio));
	} else if (!(bio->flags & BIO_NO_UNMAP) && !is_set(&f->punch_refused)) {
		ctx->op.done = zero_punched;
		loop_file_punch(bio->loop, &ctx->op, f->file, offset_bytes, bio_bytes(bio));
	} else {
		bio_emulate(bio, BIO_CAP(BIO_WRITE_ZEROES));
	}
}

static void punch_done(struct loop_op *op, int result)
{
	struct bio *bio = bio_of(op);

	/* Unmap is advice. */
	if (result == -EOPNOTSUPP) {
		__atomic_store_n(&file_of(bio)->punch_refused, true, __ATOMIC_RELAXED);
		result = 0;
	}
	complete(bio, result);
}

static void punch(struct bio *bio)
{
	struct file_bdev *f = file_of(bio);
	struct file_ctx *ctx = bio_ctx(bio, struct file_ctx);
	uint64_t offset_bytes = bio_offset(bio) << bio_bdev(bio)->block_shift;

	if (is_set(&f->punch_refused)) {
		bio_complete(bio, 0);
		return;
	}
	ctx->op.done = punch_done;
	loop_file_punch(bio->loop, &ctx->op, f->file, offset_bytes,
	        bio_bytes(bio) + (PLANT(UNMAP_BEYOND) ? f->block_bytes : 0));
}

/* A run in bytes as one in blocks: a hole counts only where it covers whole blocks. */
static void extent_done(struct loop_op *op, int result)
{
	struct bio *bio = bio_of(op);
	uint32_t shift = bio_bdev(bio)->block_shift;
	struct loop_extent run = bio->loop_extent;
	uint64_t whole = run.len_bytes >> shift;

	if (result < 0) {
		complete(bio, result);
		return;
	}
	if (whole == 0) {
		run.hole = false;
		whole = 1;
	} else if (!run.hole) {
		whole = div_round_up_u64(run.len_bytes, 1ULL << shift);
	}
	bio->extent = (struct bio_extent){
	        .num_blocks = min_u64(whole, bio->num_blocks),
	        .hole = run.hole,
	        .zero = run.hole,
	};
	bio_complete(bio, 0);
}

static void transfer(struct bio *bio, struct file_bdev *f, uint64_t offset_bytes)
{
	struct file_ctx *ctx = bio_ctx(bio, struct file_ctx);
	struct iovec cut[IOVS_MAX];
	const struct iovec *iov = cut;
	unsigned count = bio_iovs(bio, cut, IOVS_MAX, &iov);

	if (unlikely(count == 0)) {
		complete(bio, -EINVAL);
		return;
	}
	ctx->op.done = transfer_done;
	if (bio->op == BIO_READ)
		loop_file_readv(bio->loop, &ctx->op, f->file, iov, count, offset_bytes);
	else
		loop_file_writev(bio->loop, &ctx->op, f->file, iov, count, offset_bytes,
		        (bio->flags & BIO_FUA) && !PLANT(FUA_SWALLOWED));
}

void file_submit(struct bio *bio)
{
	struct file_bdev *f = file_of(bio);
	struct file_ctx *ctx = bio_ctx(bio, struct file_ctx);
	uint64_t offset_bytes = bio_offset(bio) << bio_bdev(bio)->block_shift;

	ctx->bio = bio;
	switch ((enum bio_op)bio->op) {
	case BIO_READ:
	case BIO_WRITE:
		transfer(bio, f, offset_bytes);
		return;
	case BIO_FLUSH:
		sync(bio);
		return;
	case BIO_UNMAP:
		punch(bio);
		return;
	case BIO_WRITE_ZEROES:
		zero(bio);
		return;
	case BIO_BLOCK_STATUS:
		ctx->op.done = extent_done;
		loop_file_extent(bio->loop, &ctx->op, f->file, offset_bytes, bio_bytes(bio),
		        &bio->loop_extent);
		return;
	case BIO_RESET: /* the kernel has no way to abort them: they end by themselves */
		bio_complete(bio, 0);
		return;
	case BIO_COMPARE:
	case BIO_ZONE_APPEND:
	case BIO_ZONE_MGMT:
	case BIO_ZONE_REPORT:
	case BIO_OPS:
		break;
	}
	bio_complete(bio, -EOPNOTSUPP);
}
