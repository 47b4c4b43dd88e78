/*
 * raid5.h: what the files of the raid5f level share. See raid.md for what is promised.
 *
 * Invariants
 *  - Parity is changed, and used to make up for a member, only by who has the rows of that stripe
 *    (raid5_lock), or the range of the array (bdev_range_lock), which nobody is in then.
 *  - Parity below valid_rows and outside of unsynced regions is the exclusive or of what the data
 *    strips hold, but for rows that somebody has. Other parity makes up for nobody, but for what
 *    follows.
 *  - From fresh_rows on the same holds for what was written: each write there makes the parity of
 *    its rows from all of their data. So it makes up for a member that is missing; what was never
 *    written has no value to keep. Parity of rows that were never written may be anything, so it is
 *    never changed by what changes in the data while nobody is missing: it would stay wrong for a
 *    block that is written then.
 *  - A write that has failed on one member is acknowledged when that one is out, as with mirrors.
 *    When the array can't be without it, the array goes: rows whose parity is half written serve
 *    nobody.
 */
#pragma once

#include "math/raid5.h"
#include "vbdev/raid/raid_bitmap.h"

#define RAID5_SLOTS_MAX 64 /* a bit of a word each; and a round of children */
#define RAID5_LOCKS 2048

static inline uint64_t raid5_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline unsigned raid5_count(uint64_t slots)
{
	return (unsigned)__builtin_popcountll(slots);
}

/* Of a request that is a piece. */
struct raid5_ctx {
	uint64_t split[2]; /* bio_split's; while it waits for rows: which */
	uint32_t row;      /* the first that is not done */
	uint8_t blind;     /* the slot that can't be read */
	uint8_t failed;    /* the slot that could not be read or written */
	uint8_t flags;     /* enum raid5_flags */
	uint8_t trust;     /* enum raid5_trust */
};

enum raid5_flags {
	RAID5_SEVERAL_FAILED = 1 << 0,
	RAID5_PARITY_GONE = 1 << 1,
	RAID5_IS_GONE = 1 << 2, /* the blind one: it needs no cure */
	RAID5_BY_ROW = 1 << 3,  /* another one can't be read either, perhaps in other rows */
};

static inline struct raid5_piece raid5_piece_of(const struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));

	return raid5_piece(io->num_slots, io->strip_shift, bio_offset(bio), bio->num_blocks);
}

static inline bool raid5_is_synced(const struct raid_io *io, uint64_t stripe)
{
	return likely(raid5_load(&io->unsynced) == 0) ||
	       !raid_regions_unsynced(io, stripe << io->strip_shift, 1ULL << io->strip_shift);
}

static inline enum raid5_trust raid5_trust_in(const struct raid_io *io, uint64_t stripe)
{
	if (unlikely(!raid5_is_synced(io, stripe)))
		return RAID5_TRUST_NONE;
	if (likely((stripe + 1) << io->strip_shift <= raid5_load(&io->valid_rows)))
		return RAID5_TRUST_ALL;
	return stripe << io->strip_shift >= raid5_load(&io->fresh_rows) ? RAID5_TRUST_WRITTEN
	                                                                : RAID5_TRUST_NONE;
}

/* All that was written to any one member can be made up, but for unsynced regions. */
static inline bool raid5_is_complete(const struct raid_io *io)
{
	return io->fresh_rows <= io->valid_rows;
}

/* ---- raid5.c ---- */

/* A request that is a piece has its rows now. */
void raid5_locked(struct bio *bio);
/* Who of a split has failed. */
void raid5_note_failed(struct raid5_ctx *ctx, unsigned slot);
/* Of the rows that a buffer holds for so many strips, at most these. */
struct raid5_rows raid5_slice(const struct bio *bio, struct raid5_rows rows, unsigned strips);

/* ---- raid5_lock.c: rows of a stripe, across loops ---- */

/* True: the bio, which is this piece, has the rows that it touches. Else raid5_locked is called
 * when it has. */
bool raid5_lock(struct bio *bio, const struct raid5_piece *piece);
void raid5_unlock(struct bio *bio, const struct raid5_piece *piece);
void raid5_lock_init(struct raid5_loop *state);

/* ---- raid5_read.c, raid5_write.c: with the rows ---- */

void raid5_read(struct bio *bio);
void raid5_read_locked(struct bio *bio);
void raid5_write_locked(struct bio *bio, const struct raid5_piece *piece);
void raid5_write_settle(struct bio *bio);

/* ---- raid5_job.c: rows of all stripes, for the processes ---------------------------------------
 */

enum raid5_job_kind {
	RAID5_JOB_COPY, /* make up the rows of one slot, and write them there */
	RAID5_JOB_SYNC, /* make parity right */
	RAID5_JOB_LOOK, /* count what is wrong */
};

struct raid5_job;
typedef void (*raid5_job_fn)(struct raid5_job *job);

/* One at a time per struct. Locks the stripes meanwhile. */
struct raid5_job {
	struct raid *raid;
	enum raid5_job_kind kind;
	unsigned slot;
	struct raid5_rows rows;
	raid5_job_fn done;
	/* out */
	int status;
	bool target_failed;
	uint64_t unread;     /* who could not be read: a bit each */
	uint64_t wrong_rows; /* of how many parity was, or is, wrong */
	/* the implementation's */
	struct bdev_range range;
	struct raid5_part *parts;
	unsigned pending;
	uint64_t at;
	uint8_t *buf;
	bool locked;
};
void raid5_job_start(struct raid5_job *job);
void raid5_copy(struct raid_copy *copy);

/* ---- raid5_sync.c: parity that may not be believed is made right -------------------------------
 */

struct raid5_sync;

struct raid5 {
	struct raid *raid;
	struct raid5_sync *sync;
	bool running;           /* members know that it is */
	uint64_t mended_rows;   /* whose parity was not right, since the start */
	struct bdev_done begun; /* who waits for the first of it */
	struct loop_timer patience;
	bool saving, save_again;
	uint64_t saving_rows;
	uint64_t locks[RAID5_LOCKS];
};

/* Begins where there is something to do and all members are there. */
void raid5_sync_consider(struct raid *raid);
void raid5_sync_stop(struct raid *raid);
void raid5_sync_resized(struct raid *raid);
/* False: nothing is being made right. The slot is RAID_SLOTS_MAX. */
bool raid5_sync_progress(const struct raid *raid, struct raid_progress *out);

/* ---- raid5_state.c: which parity may be believed, across starts ---- */

void raid5_prepare(struct raid *raid, struct bdev_done done);
void raid5_begin(struct raid *raid, struct bdev_done done);
void raid5_resized(struct raid *raid);
void raid5_stop(struct raid *raid, struct bdev_done done);
void raid5_sync_ended(struct raid *raid);
/* Parity is valid for so many rows of each member. */
void raid5_set_valid(struct raid *raid, uint64_t rows);
/* Members learn how far parity is valid, for the next start; by and by. */
void raid5_save_valid(struct raid *raid);
