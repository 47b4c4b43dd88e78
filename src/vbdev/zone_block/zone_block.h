/*
 * zone_block.h: what the files of the zone_block bdev share: zones emulated on a base that has
 * none.
 *
 * Invariants
 *  - What is known of a zone is one word: state, blocks written, writes in flight, and whether a
 *    reset or a read waits for these. Every loop changes it by compare-and-swap, so each block of a
 *    zone is given to one write at most, and no loop waits for another.
 *  - A write has its blocks from the moment that it enters. One that fails gives them back if they
 *    are still the last ones; else what is in them is undefined.
 *  - The base holds what it held before the zone was reset until a write to it has ended. So a read
 *    of the base begins only when no write is in flight to the blocks that it wants: all blocks of
 *    the zone below `settled` are such, and all when no write is in flight. Above the write pointer
 *    that it found a read is zeroes, whatever happens meanwhile. A read that has to wait keeps
 *    further writes of its zone waiting until those in flight have ended, so its turn comes.
 *  - `settled` is raised by a write that ends last, while it still counts as in flight, and lowered
 *    by a reset that has made the zone wait and found nothing in flight. So the two never meet, and
 *    it is never above the first block of a write in flight.
 *  - Where the number of open or active zones is limited, a zone may become open only under `busy`,
 *    which guards the two lists. Each lists at least all zones that are open (active); those that
 * no longer are, or that a shrink has taken, are dropped when the list is full. Oldest first.
 *  - What can't go on (somebody is busy, or a zone waits for its reset) stays in its loop's queue,
 *    in order, with all that changes zones behind it. Whoever ends such a state wakes all loops
 * that said they wait; who says so looks once more afterwards, so no wake-up is lost.
 *  - Zones of this loop's view of the size have a word. New ones are made before the size is shown,
 *    and their memory stays until the bdev goes.
 */
#pragma once

#include "bdev/bdev.h"

/* ---- the word ---------------------------------------------------------------------------------
 */

#define WRITTEN_BITS 40
#define INFLIGHT_BITS 19
#define ZONE_CAPACITY_MAX (1ULL << (WRITTEN_BITS - 1))
#define INFLIGHT_MAX ((1ULL << INFLIGHT_BITS) - 1)
#define INFLIGHT_ONE (1ULL << WRITTEN_BITS)
#define WORD_DRAINS (1ULL << (WRITTEN_BITS + INFLIGHT_BITS)) /* a reset waits */
#define WORD_PAUSES (WORD_DRAINS << 1)                       /* a read waits, so no write begins */
#define STATE_SHIFT (WRITTEN_BITS + INFLIGHT_BITS + 2)

static inline uint64_t word_written(uint64_t word)
{
	return word & (INFLIGHT_ONE - 1);
}

static inline uint64_t word_inflight(uint64_t word)
{
	return word >> WRITTEN_BITS & INFLIGHT_MAX;
}

static inline enum zone_state word_state(uint64_t word)
{
	return (enum zone_state)(word >> STATE_SHIFT);
}

static inline uint64_t word_with_state(uint64_t word, enum zone_state state)
{
	return (word & ((1ULL << STATE_SHIFT) - 1)) | (uint64_t)state << STATE_SHIFT;
}

static inline bool state_is_open(enum zone_state state)
{
	return state == ZONE_IMPLICIT_OPEN || state == ZONE_EXPLICIT_OPEN;
}

static inline bool state_is_active(enum zone_state state)
{
	return state_is_open(state) || state == ZONE_CLOSED;
}

/* ---- the bdev ---------------------------------------------------------------------------------
 */

struct zone {
	uint64_t word;
	uint64_t settled; /* blocks from the start that no write is in flight to, at least */
} cache_aligned;

/* Zones in segments that never move: each as large as all before it together. */
#define FIRST_SEGMENT_SHIFT 6
#define SEGMENTS_MAX 56

struct zone_list {
	uint64_t *ids;
	uint32_t count, max;
};

/* bio->task of those that wait. */
struct zone_queue {
	struct loop_task *head, **tail;
};

struct zone_loop {
	struct bdev *bdev;
	unsigned loop_id;
	struct zone_queue changes; /* whatever changes zones: in order, none passes another */
	struct zone_queue reads;
	bool runs; /* the queues are being gone through; what is queued now is tried too */
	struct loop_task wake;
	bool expects_wake; /* it will come */
	bool leaving;      /* bye is to be answered then */
	struct zone_loop *next_waiting;
	struct loop_task bye;
};

struct zone_bdev {
	/* parameters */
	uint64_t zone_capacity, optimal_open_zones, max_open_zones, max_active_zones;

	const struct bdev *bdev;
	uint64_t zone_blocks;
	uint32_t zone_shift;
	bool limited, ready;
	struct zone *segments[SEGMENTS_MAX];
	uint64_t num_made; /* control loop: zones that have memory */
	unsigned loops_left;
	void (*loops_have_left)(struct bdev *bdev);
	struct bdev_done destroyed;
	/* what loops share */
	char apart[CACHE_LINE_BYTES]; /* from what is only read */
	bool busy;
	struct zone_list open, active; /* under busy */
	struct zone_loop *waiting;
};

static inline struct zone *zone_at(const struct zone_bdev *zb, uint64_t id)
{
	uint64_t n = id + (1ULL << FIRST_SEGMENT_SHIFT);
	unsigned segment = 63U - (unsigned)__builtin_clzll(n);

	return &zb->segments[segment - FIRST_SEGMENT_SHIFT][n - (1ULL << segment)];
}

/* 2 to the power that holds a zone of this capacity. */
static inline uint64_t zone_blocks_of(uint64_t capacity)
{
	return capacity <= 1 ? 1 : 1ULL << (64 - __builtin_clzll(capacity - 1));
}

/* ---- zone_block_state.c -----------------------------------------------------------------------
 */

enum zone_verdict {
	ZONE_WENT,  /* the change is made */
	ZONE_WAITS, /* not now */
	ZONE_FAILED,
};

/* Gives blocks [from, from + count) of the zone to a write; from UINT64_MAX: where the write
 * pointer is. *from tells where. ZONE_FAILED: *status says why. */
enum zone_verdict zone_take_blocks(
        struct zone_bdev *zb, uint64_t id, uint64_t *from, uint64_t count, int *status);
/* Whether blocks [from, to) of the zone can be read. *written tells how many blocks from its start
 * hold data, as far as these are concerned. ZONE_FAILED: never, as it is offline. */
enum zone_verdict zone_look(
        struct zone_bdev *zb, uint64_t id, uint64_t from, uint64_t to, uint64_t *written);
/* The write has ended. */
void zone_write_ended(
        struct zone_bdev *zb, uint64_t id, uint64_t from, uint64_t count, bool failed);
/* *drains: this request has made the zone wait for its reset; false at first. */
enum zone_verdict zone_manage(
        struct zone_bdev *zb, uint64_t id, enum zone_action action, bool *drains, int *status);
/* Whether an action on all zones means one in this state. */
bool zone_action_applies(enum zone_action action, enum zone_state state);
/* On the loop: says that it waits. */
void zone_expect_wake(struct zone_bdev *zb, struct zone_loop *zl);
void zone_wake_all(struct zone_bdev *zb);

/* ---- zone_block_io.c --------------------------------------------------------------------------
 */

/* In the frame of a write or append that has been given blocks: the first, in its zone. */
struct zone_write_ctx {
	uint64_t from;
};

/* In the frame of a management request that has begun: what is still to do. */
struct zone_manage_ctx {
	uint64_t next, end;
};

void zone_submit(struct bio *bio);
void zone_loop_init(struct zone_loop *zl, struct bdev *bdev, unsigned loop_id);
/* Calls fn when no message of ours is under way to any loop. */
void zone_loops_leave(struct bdev *bdev, void (*fn)(struct bdev *bdev));
