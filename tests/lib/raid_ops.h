/*
 * raid_ops.h: arrays of each level over disks that can fail, be pulled and change their size, each
 * under a load that checks what it reads (load.h). For tests of the test's thread; those that say
 * so may be called by any thread that is no loop.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/load.h"
#include "tests/lib/rng.h"

#define OPS_LOOPS 3
#define NUM_ARRAYS 6
#define REDUNDANT_ARRAYS 4 /* the last ones */
#define ARRAY_DISKS_MAX 6

/* A disk: malloc or file, with an error bdev on it that is the member. */
struct member {
	char base[24], name[24];
	bool file;
	uint32_t block_bytes;
	uint64_t min_blocks;
};

struct array {
	const char *level;
	unsigned num_members, num_disks; /* some disks are left over */
	bool superblock, file;
	unsigned strip_kb; /* 0: it has none */
	char name[8];
	struct member disks[ARRAY_DISKS_MAX];
	pthread_mutex_t making; /* while it is deleted and made again */
	struct disk *disk;
	struct load *load;
};
extern struct array arrays[NUM_ARRAYS];

/* What bdev_raid_get_bdevs says, after a look at whether that can be. */
struct look {
	bool online;
	bool process, resync; /* anything; that makes parity or members right */
	bool check;           /* is running */
	unsigned complete;    /* members that have all data */
	uint64_t different_blocks;
};

/* A reply: true for a result. Fails the test for an error that does not say what is wrong. Any
 * thread, as those that follow. */
bool accepted(json_t *reply);
struct look array_look(const struct array *a);
bool array_redundant(const struct array *a);
/* Without so many complete members it has lost data. */
unsigned array_needed(const struct array *a);
/* So many units larger or smaller, within what is left free for that. */
bool member_resize(const struct member *m, int units);
/* No failures any more. */
void member_heal(const struct member *m);
/* Holds its requests until none is in flight, and lets them go on. */
bool bdev_pause_briefly(const char *name);

/* All of them, and the load on them. */
void arrays_make(uint64_t seed);
/* Puts back what was pulled. */
void array_plug(const struct array *a);
/* Deletes it and finds it again by its superblocks, or makes it again. */
bool array_reassemble(struct array *a, struct rng *rng);
/* Load on the bdev that there is now, if that is another one. */
void array_follow(struct array *a);
/* Makes it whole; all that was written must be there, and members must agree. */
void array_settle(struct array *a);
struct load_result array_end(struct array *a);
