/*
 * zone_blocks.h: what the blocks of a zoned bdev may hold: every value that was written to each, in
 * order. Plain memory without pointers, so that it can outlive a crashed daemon in shared memory.
 */
#pragma once

#include "base/base.h"

#define ZONE_BLOCK_BYTES 512
#define ZONE_BLOCKS_MAX 1024
#define ZONE_BLOCK_VALUES 24

struct zone_block {
	uint32_t value;                 /* what a read returns now, unless unsure */
	bool unsure;                    /* a write to it has failed and was not taken back */
	uint32_t unsure_until;          /* before it was last reset */
	bool lost_count;                /* more values than there is room for: anything goes */
	uint32_t changed;               /* when either last changed */
	uint32_t in_flight;             /* writes */
	uint32_t count, acked, durable; /* of values; the last of them that is */
	uint32_t acked_at;
	uint32_t values[ZONE_BLOCK_VALUES]; /* each a number of its own; 0: zeroes */
	uint32_t over[ZONE_BLOCK_VALUES];   /* when a reset took it away; 0: it has not */
};

struct zone_blocks {
	uint32_t clock;
	struct zone_block at[ZONE_BLOCKS_MAX];
};

void zone_blocks_init(struct zone_blocks *b);
/* What a block with this value holds. */
void zone_blocks_fill(uint8_t *data, uint32_t value);
/* A write has been given the block. */
void zone_blocks_begin(struct zone_blocks *b, uint64_t block, uint32_t value);
enum zone_blocks_end {
	ZONE_WRITTEN,
	ZONE_WRITTEN_DURABLY,
	ZONE_WRITE_FAILED,
	ZONE_WRITE_TAKEN_BACK, /* failed, and the write pointer went back */
};
void zone_blocks_end(
        struct zone_blocks *b, uint64_t block, uint32_t value, enum zone_blocks_end how);
void zone_blocks_zero(struct zone_blocks *b, uint64_t block);
/* A growth has brought the block, perhaps once more: below it, anything of old may still be there.
 */
void zone_blocks_grown(struct zone_blocks *b, uint64_t block);
/* A flush that began then has succeeded. */
void zone_blocks_flushed(struct zone_blocks *b, uint32_t began);
/* A read that began then returned this. */
bool zone_blocks_may_read(
        const struct zone_blocks *b, uint64_t block, uint32_t began, const uint8_t *data);
/* The daemon was killed, or lost its power; this is what is on its base. */
bool zone_blocks_may_find(
        const struct zone_blocks *b, uint64_t block, bool power_cut, const uint8_t *data);
