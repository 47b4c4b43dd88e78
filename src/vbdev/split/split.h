/*
 * split.h: what the parts of the split module share: equal parts of a base, each a bdev.
 *
 * Invariants
 *  - Data stays where it is: part i begins at i * part_blocks of the base, and part_blocks is
 *    settled when the base is first seen and never changes afterwards.
 *  - A struct split lives while it is listed, has parts, or works. All on the control loop, but for
 *    the members that its parts read (count, part_blocks, size_mb), which are constant by then.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"

#define SPLIT_PARTS_MAX 4096

struct split {
	struct list link;
	char *base_name; /* as it was given */
	uint32_t count;
	uint64_t size_mb;     /* 0: equal parts of the base as it was first seen */
	uint64_t part_blocks; /* 0: the base has not been seen yet, and nobody has said it */
	bool settled;         /* part_blocks fits the base that was first seen */
	struct bdev **parts;  /* [count]; NULL: not there */
	unsigned num_parts;   /* of those that are there */
	unsigned working;     /* runs of split_make_parts */
	bool again;           /* the base was resized meanwhile */
	bool listed;
};

/* The private part of each part's bdev; its head is the spec's params. */
struct split_part {
	struct split *split;
	uint32_t index;
	uint64_t start_blocks;
};

void split_submit(struct bio *bio);
int split_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err);

/* How many parts a base of that size has room for, at most count; part_blocks is settled. */
uint32_t split_fitting(const struct split *split, uint64_t base_blocks);

/* split_list.c */

/* NULL: none on this base. By the text that it was made with, or by the bdev if it is there. */
struct split *split_find(const char *base_name);
struct split *split_add(
        const char *base_name, uint32_t count, uint64_t size_mb, uint64_t part_blocks);
/* Takes it off the list; it is freed when nothing needs it any more. */
void split_drop(struct split *split);
/* Between these it is not freed, whoever drops it. */
void split_hold(struct split *split);
void split_release(struct split *split);
/* Creates the parts that are missing and have room. Stops at the first failure. */
void split_make_parts(struct split *split, struct bdev *base, struct bdev_done done);
void split_part_gone(struct bdev *bdev);
void split_examine(struct bdev *bdev, struct bdev_done done);
void split_for_each_waiting(
        void (*fn)(void *arg, const char *name, const char *missing), void *arg);
json_t *split_save_module(void);
void split_stop(void);

extern const struct rpc_method split_methods[];
extern struct bdev_module split_module;
