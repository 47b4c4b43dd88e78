/*
 * error.h: what the parts of the error bdev share: a bdev that fails, holds back or damages
 * requests as it is told.
 *
 * A rule exists per kind of operation. Rules are written on the control loop while every loop reads
 * them: `word` holds the generation of the rule (high half) and how many requests it will still hit
 * (low half). Who takes a hit reads the rule's members and then counts the word down by
 * compare-and-swap, which fails when a newer rule has come; so a rule for n requests hits exactly n
 * over all loops, and never with the members of another.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"

enum error_type {
	ERROR_FAILURE,
	ERROR_PENDING,
	ERROR_CORRUPT_DATA,
	ERROR_NOMEM,
	ERROR_NVME_FAILURE,
};

struct error_effect {
	uint32_t type;                    /* enum error_type */
	int32_t status;                   /* of failures */
	uint64_t queue_depth;             /* only when so many others are in flight on the loop */
	uint64_t first_block, num_blocks; /* only what touches them; 0 blocks: everything */
	uint64_t corrupt_offset;          /* in bytes from the start of the request */
	uint64_t corrupt_value;           /* what is XORed there, 1..255; 0: anything else than 0 */
};

struct error_rule {
	uint64_t word;
	struct error_effect effect;
};

struct error_bdev {
	bool uuid_given; /* from the parameters */
	uint32_t armed;  /* BIO_CAP bits of the operations that have a rule */
	uint32_t resume; /* counts the calls of bdev_error_resume_pending */
	struct error_rule rules[BIO_OPS];
};

/* Per loop: requests that are held back, oldest first. While there are any, the timer looks whether
 * they may go on, or whether the bdev is being removed. */
struct error_loop {
	struct loop_timer timer;
	struct bdev *bdev;
	struct loop_task *first, **last;
};

void error_submit(struct bio *bio);
/* Sets up error_loop before the first request. */
void error_pending_init(struct bdev *bdev);

/* On the control loop. ops: BIO_CAP bits; num: how many requests of each operation. */
void error_inject(
        struct error_bdev *e, uint32_t ops, const struct error_effect *effect, uint32_t num);
void error_clear(struct error_bdev *e);
void error_resume(struct error_bdev *e);

extern const struct rpc_method error_methods[];
extern struct bdev_module error_module;
