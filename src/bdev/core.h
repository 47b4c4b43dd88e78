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

/* Pools of children and bounce buffers: nothing is allocated before a bdev of their rank is there.
 * stop frees them: no bdev is left. */
void bio_pools_start(void);
void bio_pools_stop(void);

/* Allocates bdev->loops with module state, and takes over bdev->geometry and bdev->rank. */
void bdev_loops_create(struct bdev *bdev);
/* No bio is in flight, and bdev_gate_close is done or no bio ever was. NULL loops are fine. */
void bdev_loops_destroy(struct bdev *bdev);

/*
 * Applies a geometry and the present bdev->rank to the data path: stores caps, block_shift and,
 * with release, num_blocks, and tells every loop. Does not touch bdev->geometry. done when each
 * loop goes by it and, when it shrinks, no bio that entered before is in flight. A bdev that has
 * ever shrunk checks the range of each bio that enters it (-EIO), as its parents may learn of it
 * later. A rank that rises is published before the module uses the base that raises it.
 */
void bdev_publish_geometry(
        struct bdev *bdev, const struct bdev_geometry *geometry, struct bdev_done done);

/* From now on new bios fail with -ENODEV, and what is queued at the gate too; done when no bio is
 * in flight on any loop. Later calls that would wait for loops (quiesce, ranges, publish,
 * statistics) end with -ENODEV at once. */
void bdev_gate_close(struct bdev *bdev, struct bdev_done done);

/* Runs fn(loop, arg) on every loop, the control loop included, then done on the control loop. */
void loops_run_everywhere(
        void (*fn)(struct loop *loop, void *arg), void *arg, struct bdev_done done);

/* ---- control half -------------------------------------------------------------------------------
 */

/* The submit of a module that left it out. */
void bdev_pass_submit(struct bio *bio);
