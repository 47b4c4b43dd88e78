/*
 * load.h: random requests on a disk from all loops, which go on by themselves while the test does
 * something to the bdev. Each slot has blocks of its own and knows what they hold, so each read is
 * checked. On a zoned disk each slot has a zone of its own, which it writes, reads and resets.
 */
#pragma once

#include "tests/lib/disk.h"

struct load_config {
	unsigned data_loops;              /* loops 1..n take part */
	unsigned depth;                   /* slots per loop, each with one request in flight */
	uint64_t first_block, num_blocks; /* where; 0 blocks: the whole disk */
	uint64_t seed;
	bool no_verify;   /* the bdev keeps no data */
	unsigned rest_us; /* a slot waits for up to so long after a request */
	bool errors_pass; /* requests may fail; then a slot goes on */
};

struct load_result {
	uint64_t requests, unsupported;
	uint64_t mismatches; /* reads that were not what had been written */
	uint64_t errors;     /* -ENODEV is none; a slot ends with its first, unless they pass */
	int first_error;
	char first_text[128];
};

struct load;

/* The slots take equal shares of the blocks, at most 64 each; there must be one for each, or on a
 * zoned disk a zone of at most 64. */
struct load *load_start(struct disk *disk, const struct load_config *config);
/* Waits for so many further requests, or until no slot goes on. */
void load_run(struct load *load, uint64_t requests);
/* How many have ended so far. */
uint64_t load_requests(const struct load *load);
/* Waits until nothing is in flight any more; nothing is begun before load_resume. */
void load_pause(struct load *load);
/*
 * After load_pause, or when no slot goes on: on with the same blocks, on this disk, which has what
 * the earlier one had. A write that had failed, or that met the end of the bdev, may have happened
 * or not, until the next one that succeeds.
 */
void load_resume(struct load *load, struct disk *disk);
/* While it is paused: reads all that is known once more, by this disk. Returns what there was so
 * far.
 */
struct load_result load_check(struct load *load, struct disk *disk);
/* Ends when what is in flight has ended. */
struct load_result load_stop(struct load *load);
