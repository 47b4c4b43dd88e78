/*
 * bio_inline.h: the part of bio.h that runs for every layer of every request, inline for that
 * reason. Included by bdev.h only.
 */
#pragma once

#include "bdev/bio.h"

/* The slow way in: gates, missing capabilities, emulation. */
void bio_enter_slow(struct bio *bio, struct bdev *bdev, uint64_t offset_blocks);
/* A queued completion runs from here: accounts the layer and climbs to the next that wants to know.
 */
void bio_advance(struct loop_task *task);

/* Enters a bdev: one frame more, counted in flight. */
static inline void bio_enter(struct bio *bio, struct bdev *bdev, uint64_t offset_blocks)
{
	struct bdev_loop *bl = &bdev->loops[bio->loop->id];

	if (unlikely((bl->gate | (bio->need & ~bdev->caps)) != 0)) {
		bio_enter_slow(bio, bdev, offset_blocks);
		return;
	}
	struct bio_frame *frame = ++bio->frame;

	BELLOWS_CHECKED(frame < bio->frames + BIO_FRAMES_MAX);
	frame->bdev = bdev;
	frame->offset_blocks = offset_blocks;
	frame->done = NULL;
	frame->bounce = NULL;
	frame->epoch = (uint8_t)bl->epoch;
	frame->step = 0;
	frame->tries = 0;
	bl->inflight[bl->epoch]++;
	bdev->submit(bio);
}

static inline void bio_forward(
        struct bio *bio, struct bdev *base, uint64_t offset_blocks, bio_fn done)
{
	bio->frame->done = done;
	bio_enter(bio, base, offset_blocks);
}

static inline void bio_complete(struct bio *bio, int status)
{
	BELLOWS_CHECKED(status <= 0);
	bio->status = status;
	bio->task.run = bio_advance;
	loop_defer(bio->loop, &bio->task);
}

static inline uint64_t bio_bytes(const struct bio *bio)
{
	return bio->num_blocks << bio->frame->bdev->block_shift;
}
