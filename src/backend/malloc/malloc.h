/*
 * malloc.h: what the files of the malloc bdev share: a disk in anonymous memory.
 *
 * Invariants
 *  - [mem, mem + mapped_bytes) is mapped, and mapped_bytes >= the size of the bdev, rounded up to a
 *    page. What is past the end of the bdev reads as zeroes, so that growth shows zeroes.
 *  - mem and past_cache, which data loops read, change in create or while the bdev is quiesced.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"

struct malloc_params {
	uint64_t num_blocks; /* at creation */
	uint32_t block_size;
	uint32_t physical_block_size; /* 0: block_size */
	uint32_t optimal_io_boundary; /* blocks */
	uint32_t md_size;
	int32_t dif_type;
	uint32_t dif_pi_format;
	int32_t numa_id;
	bool md_interleave, dif_is_head_of_md;
};

struct malloc_bdev {
	struct malloc_params params;
	uint8_t *mem;
	bool past_cache;     /* too large to be in the cache: written past it */
	size_t mapped_bytes; /* control loop only */
	struct {             /* of a running resize */
		struct bdev *bdev;
		size_t bytes;
		struct bdev_done done;
	} growth;
};

void malloc_submit(struct bio *bio);

/* Zeroes len bytes; with deallocate the whole pages among them are given back to the system. */
void malloc_clear(void *at, size_t len, bool deallocate);
size_t malloc_page_bytes(void);

void malloc_stop(void);
extern const struct rpc_method malloc_methods[];
extern struct bdev_module malloc_module;
