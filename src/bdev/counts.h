/* counts.h: what is counted for those who ask, beside statistics. On the control loop. */
#pragma once

#include "bdev/bdev.h"

enum {
	BUFFERS_SMALL, /* up to 16 KiB */
	BUFFERS_LARGE,
	BUFFERS_SIZES
};

struct buffer_stats {
	uint64_t reused; /* one that had been used before */
	uint64_t made;   /* memory of the machine */
	uint64_t waited; /* the loop had as many as it may have */
};

/* Sums over loops and ranks since the start, into out[BUFFERS_SIZES]. */
void buffers_get_stats(struct buffer_stats *out, struct bdev_done done);

/* How many requests are in flight in it, all loops together. */
void bdev_get_depth(struct bdev *bdev, uint64_t *out, struct bdev_done done);
