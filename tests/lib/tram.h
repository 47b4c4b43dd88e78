/*
 * tram.h: a bdev for tests of the core, with whatever limits and gaps a test wants. Its data is in
 * RAM, twice: as written, and as durable. It checks that what reaches it keeps to its geometry, can
 * hold requests back, fail them, and completes those of a turn in any order.
 *
 * Settings that a test changes while it runs, and what it reads, are atomic.
 */
#pragma once

#include <pthread.h>

#include "bdev/bdev.h"

struct tram_config {
	uint64_t num_blocks;
	uint32_t block_bytes;
	uint32_t caps;
	bool write_cache, read_only, split_on_boundary;
	bool in_order; /* completes in the order of submission */
	uint32_t buf_align_bytes, max_transfer_blocks, boundary_blocks;
};

struct tram {
	struct tram_config config; /* first: it is the spec's params */
	pthread_mutex_t lock;      /* of the data */
	uint8_t *data, *durable;
	/* settings */
	bool held;           /* keep everything back */
	uint64_t fail_block; /* what covers it fails with -EIO; UINT64_MAX: nothing does */
	unsigned fail_times; /* this often */
	uint64_t locked;     /* blocks that only an owner may touch: first << 32 | end */
	bool shrinks;        /* requests past the end may come for a while */
	bool quiet;          /* nobody may come at all */
	/* what has happened */
	uint64_t ops[BIO_OPS], fua_writes;
	uint64_t inflight, breaches;
	uint64_t seen[4096]; /* offsets in the order of arrival; under the lock */
	unsigned num_seen;
};

/* Fails the test when it can't be created. The tram lives as long as the bdev. */
struct tram *tram_create(const char *name, const struct tram_config *config);
void tram_set(bool *setting, bool value);
void tram_set_u64(uint64_t *setting, uint64_t value);
uint64_t tram_get(const uint64_t *counter);
/* Whether the durable copy has the same bytes as the other. */
bool tram_is_durable(struct tram *tram, uint64_t offset_blocks, uint64_t num_blocks);
/* Creates a bdev of any module on others, without parameters. */
void tram_stack(const char *module, const char *name, const char *const *bases, unsigned num_bases);
/* The same, expecting this error. */
void tram_stack_fails(const char *module, const char *name, const char *base, int code);
