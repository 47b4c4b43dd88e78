/*
 * simdisk: a backend of the simulator alone, which can do as little, and is as particular about
 * what it is given, as its parameters say: so that the core has to bounce, cut and emulate. A
 * request that breaks a limit that its geometry states fails the run.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/param.h"
#include "sim/run.h"

struct simdisk_params {
	char *filename;
	uint32_t block_size, caps, align, max_transfer, boundary;
	bool write_cache;
};

struct simdisk {
	struct simdisk_params params;
	struct loop_file *file;
	struct loop_file_info info;
	struct loop_op op;
	struct bdev *bdev;
	struct bdev_done done;
	bool resizing;
};

struct simdisk_ctx {
	struct loop_op op;
	struct bio *bio;
};

static const struct param params_table[] = {
        {PARAM(struct simdisk_params, filename, PARAM_STRING), .required = true, .help = "file"},
        {PARAM(struct simdisk_params, block_size, PARAM_U32), .required = true, .help = "bytes"},
        {PARAM(struct simdisk_params, caps, PARAM_U32), .required = true, .help = "BIO_CAP bits"},
        {PARAM(struct simdisk_params, align, PARAM_U32), .def = 1, .help = "of memory, bytes"},
        {PARAM(struct simdisk_params, max_transfer, PARAM_U32), .help = "blocks"},
        {PARAM(struct simdisk_params, boundary, PARAM_U32), .help = "blocks"},
        {PARAM(struct simdisk_params, write_cache, PARAM_BOOL), .help = "has one"},
        {0},
};

/* ---- requests ----------------------------------------------------------------------------------
 */

static void op_done(struct loop_op *op, int result)
{
	struct bio *bio = container_of(op, struct simdisk_ctx, op)->bio;
	bool data = bio->op == BIO_READ || bio->op == BIO_WRITE;

	const struct simdisk *d = bio_priv(bio, struct simdisk);

	/* Without a write cache a hole is durable too. */
	if (bio->op == BIO_UNMAP && result == 0 && !d->params.write_cache && !bio->frame->step++) {
		loop_file_sync(bio->loop, op, d->file);
		return;
	}
	if (data && result >= 0)
		result = (uint64_t)result == bio_bytes(bio) ? 0 : -EIO;
	bio_complete(bio, result);
}

_Noreturn static void broken(const struct bio *bio, const char *limit)
{
	sim_fail("limit broken", "%s of %lu+%lu blocks on %s: %s",
	        bio_op_name((enum bio_op)bio->op), bio_offset(bio), bio->num_blocks,
	        bio_bdev(bio)->name, limit);
}

static void check_limits(
        const struct bio *bio, const struct simdisk_params *p, const struct iovec *iov, unsigned n)
{
	uint64_t offset = bio_offset(bio), end = offset + bio->num_blocks;

	if (!(p->caps & BIO_CAP(bio->op)))
		broken(bio, "it can't do that");
	if ((bio->flags & BIO_FUA) && p->write_cache && !(p->caps & BIO_CAP_FUA))
		broken(bio, "it can't do FUA");
	if (p->boundary && bio->num_blocks && offset / p->boundary != (end - 1) / p->boundary)
		broken(bio, "it crosses a boundary");
	if (end > bdev_num_blocks(bio_bdev(bio)))
		broken(bio, "it reaches past the end");
	if (n && p->max_transfer && bio->num_blocks > p->max_transfer)
		broken(bio, "it is larger than the largest transfer");
	for (unsigned i = 0; i < n; i++)
		if ((uintptr_t)iov[i].iov_base % p->align ||
		        iov[i].iov_len % min_u64(p->align, p->block_size))
			broken(bio, "its memory is not aligned");
}

static void simdisk_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	struct simdisk *d = bdev->priv;
	struct simdisk_ctx *ctx = bio_ctx(bio, struct simdisk_ctx);
	uint64_t at = bio_offset(bio) << bdev->block_shift;
	struct iovec cut[64];
	const struct iovec *iov = cut;
	unsigned n = 0;

	if (bio->op == BIO_READ || bio->op == BIO_WRITE)
		n = bio_iovs(bio, cut, ARRAY_SIZE(cut), &iov);
	check_limits(bio, &d->params, iov, n);
	ctx->bio = bio;
	ctx->op.done = op_done;
	switch ((enum bio_op)bio->op) {
	case BIO_READ:
		loop_file_readv(bio->loop, &ctx->op, d->file, iov, n, at);
		return;
	case BIO_WRITE:
		loop_file_writev(bio->loop, &ctx->op, d->file, iov, n, at,
		        (bio->flags & BIO_FUA) || !d->params.write_cache);
		return;
	case BIO_FLUSH:
		loop_file_sync(bio->loop, &ctx->op, d->file);
		return;
	case BIO_UNMAP:
		loop_file_punch(bio->loop, &ctx->op, d->file, at, bio_bytes(bio));
		return;
	default:
		bio_complete(bio, -EOPNOTSUPP);
	}
}

/* ---- life --------------------------------------------------------------------------------------
 */

static void step_done(struct simdisk *d, int result)
{
	struct err err = ERR_NONE;

	if (result < 0)
		err_set(&err, result, "simdisk: %s", errno_text(result));
	d->resizing = false;
	bdev_done_call(d->done, &err);
}

static void statted(struct loop_op *op, int result)
{
	struct simdisk *d = container_of(op, struct simdisk, op);

	if (result == 0)
		bdev_set_own_blocks(d->bdev, d->info.size_bytes / d->params.block_size);
	step_done(d, result);
}

static void opened(struct loop_op *op, int result)
{
	struct simdisk *d = container_of(op, struct simdisk, op);

	if (result < 0) {
		step_done(d, result);
		return;
	}
	op->done = statted;
	loop_file_stat(loop_self(), op, d->file, &d->info);
}

static void simdisk_create(struct bdev *bdev, struct bdev_done done)
{
	struct simdisk *d = bdev->priv;

	d->bdev = bdev;
	d->done = done;
	d->op.done = opened;
	loop_file_open(loop_self(), &d->op, d->params.filename, 0, &d->file);
}

static void closed(struct loop_op *op, int result)
{
	step_done(container_of(op, struct simdisk, op), result);
}

static void simdisk_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct simdisk *d = bdev->priv;

	if (!d->file) {
		bdev_done_call(done, NULL);
		return;
	}
	d->done = done;
	d->op.done = closed;
	loop_file_close(loop_self(), &d->op, d->file);
}

static void synced(struct loop_op *op, int result)
{
	step_done(container_of(op, struct simdisk, op), result);
}

static void truncated(struct loop_op *op, int result)
{
	struct simdisk *d = container_of(op, struct simdisk, op);

	if (result < 0) {
		step_done(d, result);
		return;
	}
	op->done = synced;
	loop_file_sync(loop_self(), op, d->file);
}

static void simdisk_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	struct simdisk *d = bdev->priv;
	struct err err = ERR_NONE;

	if (d->resizing) { /* one that the core has not waited for any longer */
		err_set(&err, -EBUSY, "simdisk: it is being resized");
		bdev_done_call(done, &err);
		return;
	}
	d->resizing = true;
	d->done = done;
	d->op.done = truncated;
	loop_file_truncate(loop_self(), &d->op, d->file, own_blocks * d->params.block_size);
}

static int simdisk_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct simdisk_params *p = &((const struct simdisk *)bdev->priv)->params;

	(void)err;
	out->num_blocks = in->own_blocks;
	out->block_bytes = out->physical_block_bytes = p->block_size;
	out->caps = p->caps;
	out->write_cache = p->write_cache;
	out->buf_align_bytes = p->align;
	out->max_transfer_blocks = p->max_transfer;
	out->optimal_io_boundary_blocks = p->boundary;
	out->split_on_boundary = p->boundary != 0;
	return 0;
}

static struct bdev_module simdisk_module = {
        .name = "simdisk",
        .product_name = "Simulated disk",
        .summary = "a disk with chosen limits",
        .priv_bytes = sizeof(struct simdisk),
        .params = params_table,
        .geometry = simdisk_geometry,
        .submit = simdisk_submit,
        .create = simdisk_create,
        .destroy = simdisk_destroy,
        .resize = simdisk_resize,
};
BDEV_MODULE(simdisk_module);

/* ---- at random ---------------------------------------------------------------------------------
 */

static json_t *setup(struct sim_setup *s)
{
	uint32_t caps = BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_FLUSH);
	uint32_t align = 1U << rng_below(s->rng, 13), max = 0, boundary = 0;
	uint32_t align_blocks = (uint32_t)max_u64(1, align / s->block_bytes);

	if (rng_one_in(s->rng, 2))
		caps |= BIO_CAP_FUA;
	if (rng_one_in(s->rng, 2))
		caps |= BIO_CAP(BIO_UNMAP);
	if (rng_one_in(s->rng, 2))
		max = align_blocks * (uint32_t)rng_range(s->rng, 1, 40);
	if (rng_one_in(s->rng, 2))
		boundary = align_blocks << rng_below(s->rng, 6);
	snprintf(s->file, sizeof(s->file), "/disk/%s", s->name);
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "name", s->name, "filename",
	        s->file, "block_size", (json_int_t)s->block_bytes, "caps", (json_int_t)caps,
	        "align", (json_int_t)align, "max_transfer", (json_int_t)max, "boundary",
	        (json_int_t)boundary, "write_cache", (int)(rng_next(s->rng) & 1));
}

static struct sim_module simdisk_sim = {
        .name = "simdisk",
        .weight = 40,
        .setup = setup,
};
SIM_MODULE(simdisk_sim);
