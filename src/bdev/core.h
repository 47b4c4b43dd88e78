/*
 * core.h: what the core's own files share. Modules and targets never include it.
 *
 * The data-path half (bio*.c, gate.c, stats.c) owns struct bdev_loop and struct bdev_slow; the
 * control half (graph.c, create.c, remove.c, resize*.c, ...) owns struct bdev_graph. They meet in
 * the functions below.
 */
#pragma once

#include "bdev/bdev.h"

struct bdev_handle {
	struct bdev *bdev;
	bool write;
	/* control loop only */
	const struct bdev_holder_ops *ops;
	char *holder;
	void *arg;
	struct list link; /* in bdev_graph.handles */
	bool removed_told;
	uint64_t known_blocks; /* the size that the holder was told last, or saw at open */
	uint64_t asked;        /* stamp of the transaction that asked it last */
};

/* ---- data-path half: called on the control loop -----------------------------------------------
 */

/* Per-process pools of every loop (children per rank, bounce buffers); before the first bdev. */
void bio_pools_start(void);
void bio_pools_stop(void);

/* Allocates bdev->loops with module state, and takes over the limits of bdev->geometry. */
void bdev_loops_create(struct bdev *bdev);
/* No bio is in flight. */
void bdev_loops_destroy(struct bdev *bdev);

/*
 * Applies the published geometry (caps, limits) to the data path: stores num_blocks with release,
 * and on every loop sets or clears GATE_LIMITS; done when each loop has seen it. The control half
 * calls it under the rules of a resize.
 */
void bdev_publish_geometry(
        struct bdev *bdev, const struct bdev_geometry *geometry, struct bdev_done done);

/* From now on new bios fail with -ENODEV, and what is queued at the gate too; done when no bio is
 * in flight on any loop. */
void bdev_gate_close(struct bdev *bdev, struct bdev_done done);

/* Runs fn(loop, arg) on every loop, the control loop included, then done on the control loop. */
void loops_run_everywhere(
        void (*fn)(struct loop *loop, void *arg), void *arg, struct bdev_done done);

/* ---- control half -------------------------------------------------------------------------------
 */

/* The submit of a module that left it out. */
void bdev_pass_submit(struct bio *bio);
