/*
 * zone_follow.h: makes the model of zone_model.h follow a zone_block bdev on simulated loops, step
 * by step, and judges each request when it ends. For that it looks into the module: when a request
 * is let in at once the model does the same at once; one that has to wait in a queue is given to
 * the model as soon as it has left it. So a test calls zone_follow after each thing that it does.
 */
#pragma once

#include "sim/sim.h"
#include "tests/lib/zone_blocks.h"
#include "tests/lib/zone_model.h"
#include "vbdev/zone_block/zone_block.h"

#define OPS_MAX 8
#define READ_MAX 40 /* blocks */

/* What outlives a daemon, in shared memory. */
struct zone_kept {
	uint64_t seed; /* that is being run */
	uint32_t last_value;
	uint64_t capacity, zone_blocks;
	unsigned max_open, max_active;
	uint64_t sizes[2]; /* of the base: as it is, and as a resize in flight would make it */
	struct zone_blocks blocks;
	struct zone_tally {
		uint64_t requests, waited, refused, reads, resizes, crashes, failures;
	} tally;
};
extern struct zone_kept *kept;

enum kind {
	KIND_WRITE,
	KIND_ZEROES,
	KIND_APPEND,
	KIND_MANAGE,
	KIND_READ,
	KIND_REPORT,
	KIND_FLUSH,
};

struct op {
	struct bio bio;
	struct iovec iov;
	enum kind kind;
	bool busy;
	bool late;       /* it had to wait before it was let in */
	bool ended;      /* its frames are gone */
	bool settled;    /* the model has done all of it */
	bool taken_back; /* it failed and gave back its blocks */
	unsigned loop, zone, zones_done;
	uint64_t offset, blocks, at, size_at_start, order;
	int expected;
	unsigned changes; /* of its zone, it included */
	uint32_t began, value;
	uint8_t data[READ_MAX * ZONE_BLOCK_BYTES];
	struct bio_zone zones[ZONE_MODEL_ZONES_MAX];
};

struct zone_life {
	struct rng rng;
	struct zone_model model;
	struct bdev_handle *handle;
	struct bdev *bdev; /* zone_block */
	struct op ops[OPS_MAX];
	unsigned busy, depth, layers, data_loops;
	uint64_t submitted;
	bool disks_fail, resizing, on_file;
	bool tracing;
};
extern struct zone_life life;

/* Brings the model to where the module is, and compares; fails the run when they differ. */
void zone_follow(void);
/* The end of a request: bio->arg is its struct op. */
void zone_op_done(struct bio *bio);
void zone_op_trace(const struct op *op, const char *what);
/* Of a block of a write; each has its own. */
uint32_t zone_op_value(const struct op *op, uint64_t i);
/* What the client sees: the zone_block bdev or a layer on it. */
struct bdev *zone_top(void);
