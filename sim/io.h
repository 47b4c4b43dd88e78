/*
 * io.h: the workload's requests (io.c) and the bdevs they go to (top.c). State of one life.
 */
#pragma once

#include "sim/run.h"

#define IO_SLOTS 64
#define IO_TOPS MODELS_MAX
#define IO_IOVS 5
#define IO_BYTES_MAX (128 * 1024)
/* After so long every loop refuses requests to a bdev that is being removed. */
#define IO_LINGER_NS (100 * NSEC_PER_MSEC)
#define IO_PATIENCE_NS (900 * NSEC_PER_SEC)

/* A bdev that nobody stands on, as its client sees it. */
struct top {
	bool used, closing, close_queued, removed;
	struct bdev *bdev;
	struct bdev_handle *handle;
	struct model *model;
	uint32_t block_bytes, block_sectors;
	unsigned in_flight;
	unsigned holds;        /* operations that need the bdev to stay */
	uint64_t known_blocks; /* what the client has been told */
	uint64_t verified;
	uint64_t agreed_blocks; /* smallest size that the client has agreed to shrink to */
	uint32_t quiesced_at;   /* 0: it is not */
	uint64_t locked_offset, locked_blocks;
	uint32_t reset_at; /* end of the last reset; SEQ_NEVER: one is in flight */
	void (*released)(void *arg);
	void *released_arg;
	struct loop_task close_task;
	uint64_t removed_ns;
	struct loop_timer linger_timer;
	/* a resize that waits for the client's answer */
	struct bdev_tell *tell;
	struct loop_timer tell_timer;
};

struct slot {
	bool busy, ranged, reads;
	bool lost;                 /* its client will never know what has become of it */
	struct nbd_client *client; /* that it goes through; NULL: straight to the bdev */
	uint64_t cookie;
	uint64_t size_most; /* the bdev has had meanwhile */
	uint32_t op, start, value;
	struct top *top;
	struct loop *loop;
	uint64_t offset, blocks, size_at_start, floor_blocks, issued_ns;
	uint8_t *buf, *data;
	struct iovec iovs[IO_IOVS];
	uint32_t values[IO_BYTES_MAX / MODEL_SECTOR_BYTES];
	struct bio bio;
};

/* The array of IO_SLOTS. */
struct slot *io_slots(void);
/* A request that went through a client ends: with bio.status, or without an answer. */
void io_answered(struct slot *s);
void io_lost(struct slot *s);
/* The bdev has that size now. */
void io_size(struct top *top, uint64_t blocks);
/* The array of IO_TOPS. */
struct top *io_tops(void);
struct top *draw_top(struct rng *rng);
struct top *io_top_of(const struct bdev *bdev);
/* A resize in flight may leave so many blocks: requests beyond may fail. UINT64_MAX: it is over. */
void top_set_floor(struct top *top, uint64_t blocks);
/* The given request instead of a drawn one. */
void io_start_exact(uint32_t op, struct top *top, enum bio_op kind, unsigned flags, uint64_t offset,
        uint64_t blocks);
/* Closes the handle of one that is closing, soon, when nothing needs it any more. */
void top_try_close(struct top *top);
