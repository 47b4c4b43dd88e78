/*
 * bio_inline.h: the part of bio.h that runs for every layer of every request, inline for that
 * reason. Included by bdev.h only.
 */
#pragma once

#include <string.h>

#include "base/cursor.h"
#include "bdev/bio.h"

/* The slow way in: gates, missing capabilities, emulation. */
void bio_enter_slow(struct bio *bio, struct bdev *bdev, uint64_t offset_blocks);
/* A queued completion runs from here: accounts the layer and climbs to the next that wants to know.
 */
void bio_advance(struct loop_task *task);
/* What task.run is while a layer's done runs, and when it has said that the bio goes on upward.
 * Never called. */
void bio_told(struct loop_task *task);
void bio_goes_up(struct loop_task *task);
/* Gives the buffer of a frame back before it pops, and the data view that it has replaced. */
void bio_drop_bounce(struct bio *bio, struct bio_frame *frame);

/* Who has the bio, for check builds. */
enum bio_check {
	BIO_OWNED,     /* the owner, or nobody yet */
	BIO_HELD,      /* a layer, or the core */
	BIO_COMPLETED, /* the loop's queue, on the way up */
};

/* Of bio_frame.flags. */
enum bio_frame_flags {
	FRAME_BOUNCE = 1 << 0,     /* a buffer is attached */
	FRAME_UNCOUNTED = 1 << 1,  /* of a child that the core made of a bio that counts */
	FRAME_SPLIT = 1 << 2,      /* children are outstanding or being made */
	FRAME_CORE_SPLIT = 1 << 3, /* they are of the core's pool */
	FRAME_OWN_SPLIT = 1 << 4,  /* they are parts for the same bdev */
};

#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
#define BIO_CHECK_SET(bio, state) ((bio)->check = (state))
#else
#define BIO_CHECK_SET(bio, state) ((void)0)
#endif

/* The part of a bdev that belongs to the bio's loop. */
static inline struct bdev_loop *bio_bdev_loop(const struct bio *bio, const struct bdev *bdev)
{
	return (struct bdev_loop *)(void *)((char *)bdev->loops + bio->loop_offset);
}

/* As long as the bio has entered nothing: the place before its first frame. */
static inline struct bio_frame *bio_no_frame(struct bio *bio)
{
	return (struct bio_frame *)(void *)((char *)bio->frames - sizeof(struct bio_frame));
}

/* Takes a frame for the bdev, counted in flight. */
static inline void bio_push(
        struct bio *bio, struct bdev *bdev, struct bdev_loop *bl, uint64_t offset_blocks)
{
	struct bio_frame *frame = ++bio->frame;

	BELLOWS_CHECKED(frame < bio->frames + BIO_FRAMES_MAX);
	/* epoch; and flags, step and tries become 0: four bytes in one store */
	uint32_t epoch = bl->epoch, head = host_le32(epoch);

	frame->bdev = bdev;
	frame->offset_blocks = offset_blocks;
	frame->loop_part = bl;
	memcpy(&frame->epoch, &head, sizeof(head));
	bl->inflight[epoch]++;
}

/* Enters a bdev: one frame more. */
static inline void bio_enter(struct bio *bio, struct bdev *bdev, uint64_t offset_blocks)
{
	struct bdev_loop *bl = bio_bdev_loop(bio, bdev);

	if (unlikely((bl->gate | (bio->need & bl->lacks)) != 0)) {
		bio_enter_slow(bio, bdev, offset_blocks);
		return;
	}
	bio_push(bio, bdev, bl, offset_blocks);
	bdev->submit(bio);
}

static inline void bio_forward(
        struct bio *bio, struct bdev *base, uint64_t offset_blocks, bio_fn done)
{
	BELLOWS_CHECKED(bio->check == BIO_HELD && !(bio->frame->flags & FRAME_SPLIT));
	bio->frame->done = done;
	bio_enter(bio, base, offset_blocks);
}

static inline void bio_complete(struct bio *bio, int status)
{
	BELLOWS_CHECKED(status <= 0);
	BELLOWS_CHECKED(bio->check == BIO_HELD && !(bio->frame->flags & FRAME_SPLIT));
	BIO_CHECK_SET(bio, BIO_COMPLETED);
	bio->status = status;
	bio->task.run = bio_advance;
	loop_defer(bio->loop, &bio->task);
}

static inline void bio_complete_up(struct bio *bio, int status)
{
	BELLOWS_CHECKED(status <= 0);
	BELLOWS_CHECKED(bio->check == BIO_HELD && !(bio->frame->flags & FRAME_SPLIT));
	BELLOWS_CHECKED(bio->task.run == bio_told);
	BIO_CHECK_SET(bio, BIO_COMPLETED);
	bio->status = status;
	bio->task.run = bio_goes_up;
}

static inline void bio_change_op(struct bio *bio, enum bio_op op)
{
	bio->need ^= BIO_CAP(bio->op) ^ BIO_CAP(op);
	bio->op = (uint8_t)op;
}

static inline void *bdev_priv(const struct bdev *bdev)
{
	return bdev->priv;
}

static inline uint64_t bio_bytes(const struct bio *bio)
{
	return bio->num_blocks << bio->frame->bdev->block_shift;
}

/* The view that bio_replace_data has put aside, and the memory of an earlier one. */
struct bio_replaced {
	const struct iovec *iov;
	uint32_t iovcnt, iov_skip_bytes;
	void *memory;
};

static inline void bio_replace_data(struct bio *bio, void *memory)
{
	struct bio_replaced *r = bio_ctx(bio, struct bio_replaced);

	r->iov = bio->iov;
	r->iovcnt = bio->iovcnt;
	r->iov_skip_bytes = bio->iov_skip_bytes;
	r->memory = bio->flat.iov_base;
	bio->flat = (struct iovec){.iov_base = memory, .iov_len = bio_bytes(bio)};
	bio->iov = &bio->flat;
	bio->iovcnt = 1;
	bio->iov_skip_bytes = 0;
}

static inline void bio_restore_data_of(struct bio *bio, const struct bio_frame *frame)
{
	const struct bio_replaced *r = (const void *)frame->ctx;

	bio->iov = r->iov;
	bio->iovcnt = r->iovcnt;
	bio->iov_skip_bytes = r->iov_skip_bytes;
	bio->flat.iov_base = r->memory;
}

static inline void bio_restore_data(struct bio *bio)
{
	bio_restore_data_of(bio, bio->frame);
}

static inline void bio_forward_bounced(
        struct bio *bio, struct bdev *base, uint64_t offset_blocks, bio_fn done)
{
	struct bio_frame *own = bio->frame, *frame = own + 1;

	bio->task.run = NULL;
	bio_forward(bio, base, offset_blocks, done);
	if (bio->task.run != bio_advance)
		return;
	/* A layer in between that wants to know might try again. */
	while (frame < bio->frame && !frame->done)
		frame++;
	if (frame >= bio->frame)
		bio_drop_bounce(bio, own);
}
