/*
 * raid_bitmap.h: which regions may differ between members, or have parity that does not go with
 * their data: set durably before the first write to a region starts, forgotten when its writes have
 * ended and are flushed and no member is missing.
 *
 * A region is a range of blocks of the members, the same on each, counted from where their data
 * begins. With parity it is one or more whole stripes.
 *
 * Invariants
 *  - A write to a region starts when its bit stands, flushed, on every member and on the target of
 *    a rebuild, or when those where it could not be written are recorded as failed.
 *  - While a member is missing nothing is forgotten: what is set is what it has missed.
 *  - After an unclean stop what is set is made equal again; until then a mirror reads it from the
 *    first member alone, and its parity makes up for nobody.
 *  - A region's byte is changed by atomic operations; DURABLE and UNSYNCED by the control loop
 *    only. DURABLE goes only while the region's range is locked.
 */
#pragma once

#include "vbdev/raid/raid.h"
#include "vbdev/raid/raid_ext.h"

enum raid_region {
	REGION_DURABLE = 1 << 0,  /* its bit stands on the members */
	REGION_TOUCHED = 1 << 1,  /* written since the last look */
	REGION_UNSYNCED = 1 << 2, /* members may differ: the first is the truth, or the data */
};
#define REGION_READY (REGION_DURABLE | REGION_TOUCHED)

struct raid_bitmap {
	struct raid *raid;
	struct raid_ext ext; /* as the next store writes it */
	uint8_t *regions;    /* NULL: switched off */
	uint64_t num_regions;
	unsigned shift;

	/* a bit per region */
	uint64_t *wanted;  /* by loops; atomic */
	uint64_t *fresh;   /* to be set by the next pass */
	uint64_t *passing; /* being set */
	uint64_t *cleared; /* not durable any more, and to be forgotten */
	uint64_t num_words;
	uint8_t *bits; /* as on the members, or as the next pass has it */
	uint32_t num_pages;
	bool any_wanted; /* atomic */

	/* the pass that writes pages */
	bool running, closing;
	uint32_t first_page, end_page; /* that differ from what stands there */
	uint64_t generation;
	void *buf;
	unsigned pending, written;
	uint64_t failed;                   /* members, a bit each */
	struct list waiters, next_waiters; /* of the pass that runs; of the one after it */

	/* forgetting */
	struct loop_timer timer;
	bool clearing;
	uint64_t clear_seq, from_region, at_region;
	struct bdev_range range;
};

static inline uint64_t raid_region_of(const struct raid_io *io, uint64_t block)
{
	return min_u64(block >> io->region_shift, io->last_region);
}

static inline bool raid_regions_ready(const struct raid_io *io, uint64_t block, uint64_t count)
{
	uint64_t end = raid_region_of(io, block + count - 1);

	for (uint64_t r = raid_region_of(io, block); r <= end; r++) {
		if ((__atomic_load_n(&io->regions[r], __ATOMIC_ACQUIRE) & REGION_READY) !=
		        REGION_READY)
			return false;
	}
	return true;
}

/* raid_regions.c, on the loop of the bio, which writes these blocks of members. True: it may start.
 * Else it comes to the level's submit again when it may. */
bool raid_bitmap_admit_at(struct bio *bio, uint64_t block, uint64_t count);
/* The same for levels whose members have all blocks of the array. */
static inline bool raid_bitmap_admit(struct bio *bio)
{
	return raid_bitmap_admit_at(bio, bio_offset(bio), bio->num_blocks);
}
void raid_bitmap_admitted(struct loop_task *task);
/* Whether members may differ there, or parity may be wrong. */
bool raid_regions_unsynced(const struct raid_io *io, uint64_t block, uint64_t count);

/* ---- raid_bitmap.c (control loop) -------------------------------------------------------------
 */

static inline bool raid_bit(const uint64_t *words, uint64_t r)
{
	return words[r / 64] >> (r % 64) & 1;
}

static inline void raid_bit_put(uint64_t *words, uint64_t r, bool on)
{
	words[r / 64] = (words[r / 64] & ~(1ULL << (r % 64))) | (uint64_t)on << (r % 64);
}

static inline bool raid_bitmap_bit(const struct raid_bitmap *b, uint64_t r)
{
	return b->bits[r / 8] >> (r % 8) & 1;
}

/* Changes a bit, to be written by the next pass. */
void raid_bitmap_put(struct raid_bitmap *b, uint64_t r, bool on);
void raid_bitmap_start_pass(struct raid_bitmap *b);
/* All pages to all members; done with an error when none has them. */
void raid_bitmap_write_all(struct raid *raid, struct bdev_done done);
void raid_bitmap_init(struct raid_bitmap *b);
/* Somebody vouches for all of it. */
void raid_bitmap_believe(struct raid *raid);
/* Regions that the array has now. */
uint64_t raid_bitmap_used(const struct raid_bitmap *b);
