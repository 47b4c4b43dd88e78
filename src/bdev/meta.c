/*
 * meta.c: metadata of a bdev, read and written from the control loop.
 */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "bdev/control.h"

struct meta_io {
	struct bio bio;
	struct iovec iov;
	struct bdev *bdev;
	const char *verb;
	uint64_t offset_blocks, num_blocks;
	struct bdev_done done;
	struct err err;
};

static void meta_end(struct meta_io *io, int status)
{
	struct bdev *bdev = io->bdev;

	if (status != 0)
		err_set(&io->err, status, "'%s': %s %llu blocks at block %llu failed: %s",
		        bdev->name, io->verb, (unsigned long long)io->num_blocks,
		        (unsigned long long)io->offset_blocks, errno_text(status));
	bdev_done_call(io->done, io->err.code ? &io->err : NULL);
	free(io);
	bdev_unhold(bdev);
}

static void meta_done(struct bio *bio)
{
	meta_end(container_of(bio, struct meta_io, bio), bio->status);
}

static void written(struct bio *bio)
{
	struct meta_io *io = container_of(bio, struct meta_io, bio);

	if (bio->status != 0 || PLANT(META_NOT_FLUSHED)) {
		meta_end(io, bio->status);
		return;
	}
	io->verb = "flushing after writing";
	bio_init(bio, BIO_FLUSH, NULL, 0, 0, meta_done, NULL);
	bio_submit(&io->bdev->graph->meta, bio, 0);
}

static void refused(void *arg)
{
	meta_end(arg, -ENODEV);
}

static void meta_start(struct bdev *bdev, enum bio_op op, uint64_t offset_blocks,
        uint64_t num_blocks, void *buf, struct bdev_done done)
{
	struct meta_io *io = xcalloc(1, sizeof(*io));

	BELLOWS_ASSERT(loop_is_control());
	io->bdev = bdev;
	io->verb = op == BIO_READ ? "reading" : "writing";
	io->offset_blocks = offset_blocks;
	io->num_blocks = num_blocks;
	io->done = done;
	bdev_hold(bdev);
	if (!bdev->graph->made) {
		run_later(refused, io);
		return;
	}
	io->iov = (struct iovec){.iov_base = buf, .iov_len = num_blocks << bdev->block_shift};
	bio_init(&io->bio, op, &io->iov, 1, num_blocks, op == BIO_READ ? meta_done : written, NULL);
	io->bio.flags |= BIO_META;
	bio_submit(&bdev->graph->meta, &io->bio, offset_blocks);
}

void bdev_read_meta(struct bdev *bdev, uint64_t offset_blocks, uint64_t num_blocks, void *buf,
        struct bdev_done done)
{
	meta_start(bdev, BIO_READ, offset_blocks, num_blocks, buf, done);
}

void bdev_write_meta(struct bdev *bdev, uint64_t offset_blocks, uint64_t num_blocks,
        const void *buf, struct bdev_done done)
{
	meta_start(bdev, BIO_WRITE, offset_blocks, num_blocks, (void *)(uintptr_t)buf, done);
}
