/*
 * raid.h: an array and what the files of this module share. See raid.md.
 *
 * Invariants
 *  - A struct raid lives from the first thing that is known of an array (a create call, a member
 *    with a superblock) until it is deleted. It has a bdev while it is online; before and after,
 * its members are claimed by handles.
 *  - Who is a member is said by the newest superblock. A member whose entry isn't "configured"
 * there is never read before it has been rebuilt.
 *  - A mirror's member that fails or leaves is recorded on the others, durably, before any write
 *    that it missed is acknowledged.
 *  - Control loop only, but for struct raid_io, which loops read.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "vbdev/raid/raid_ext.h"
#include "vbdev/raid/raid_pace.h"
#include "vbdev/raid/raid_superblock.h"

#define RAID_SLOTS_MAX RAID_SB_SLOTS_MAX
#define RAID1_SLOTS_MAX 64 /* a bit of a word each */

/*
 * The states. The transitions are in raid.c; others are our own mistake. Outside three are shown:
 * configuring (also while it is starting), online, offline (also while it is stopping).
 */
enum raid_state {
	RAID_CONFIGURING, /* waits for members */
	RAID_STARTING,    /* its bdev is being created */
	RAID_ONLINE,      /* serves requests, maybe degraded */
	RAID_STOPPING,    /* its bdev goes, since members are gone; the array stays */
	RAID_OFFLINE,     /* was online, and has too few members */
	RAID_DELETING,
	RAID_STATES
};

enum raid_slot_use {
	SLOT_FREE,    /* no member there */
	SLOT_IN,      /* has all data */
	SLOT_TARGET,  /* is being rebuilt: written, not read */
	SLOT_LEAVING, /* its leaving is being recorded */
};

struct raid_slot {
	struct raid *raid;
	enum raid_slot_use use;
	struct bdev *bdev;          /* the member; NULL: absent */
	struct bdev_handle *handle; /* claims it while the array has no bdev */
	char name[BDEV_NAME_MAX];   /* of the member that is there or expected; "": nobody */
	uuid_t uuid;                /* the same; null: not known */
	uint64_t data_offset_blocks;
	uint64_t data_blocks; /* used of the member; 0: not known yet */
	uint64_t seq;         /* of the superblock that it came with; 0: none of this array */
	bool joining;         /* raid_join is bringing a bdev into it */
	bool fresh;           /* SLOT_IN, and not recorded as such on itself yet */
	struct list leaving;  /* calls that wait until it is recorded */
};

/* What loops read; each word by itself. */
struct raid_io {
	struct raid *raid;
	unsigned num_slots;
	unsigned strip_shift;
	uint64_t readable, writable; /* raid1: a bit per slot */
	uint64_t unsettled;          /* raid1: failed or leaving, and not recorded yet */
	/* raid_bitmap.h */
	uint8_t *regions; /* a byte each; NULL: there is no bitmap */
	uint64_t last_region;
	unsigned region_shift;
	uint64_t unsynced; /* regions whose members may differ, or parity may be wrong */
	uint64_t offset_blocks[RAID_SLOTS_MAX];
	uint64_t start_blocks[RAID_SLOTS_MAX + 1]; /* concat */
	/* raid5f */
	uint64_t all; /* a bit per slot */
	uint64_t
	        valid_rows; /* blocks of members, from the first on, whose parity may be believed */
	/* From here on members hold nothing older than the array: parity goes with all that was
	 * ever written. UINT64_MAX: unknown. */
	uint64_t fresh_rows;
	uint64_t torn;   /* a write has failed half way, so some parity is wrong */
	uint64_t *locks; /* raid5_lock.c */
};

struct raid_copy;

struct raid_level {
	const char *name;
	const char *short_name; /* also accepted; NULL: none */
	uint32_t number;
	unsigned members_min, members_max;
	bool strips;     /* needs a strip size */
	bool redundant;  /* lives on without a member */
	unsigned parity; /* redundant: so many members' worth is parity; 0: all have all data */
	bool grows;      /* may get more members than it was made with, up to members_max */
	void (*submit)(struct bio *bio);
	/* Redundant: a request that raid_park has kept. */
	void (*settle)(struct bio *bio);
	/* Left out: nothing to do, or as a mirror does it. In this order in the bdev's life, all
	 * with its members there; stop: no request is in flight any more. */
	void (*prepare)(struct raid *raid, struct bdev_done done);
	void (*begin)(struct raid *raid, struct bdev_done done);
	void (*resized)(struct raid *raid);
	void (*stop)(struct raid *raid, struct bdev_done done);
	void (*copy)(struct raid_copy *copy);
	/* Blocks of the array when its members have so many data blocks each (0: missing). */
	uint64_t (*capacity)(const struct raid *raid, const uint64_t *data_blocks);
	/* What an array of so many blocks uses of a member. */
	uint64_t (*used)(const struct raid *raid, uint64_t array_blocks, unsigned slot);
};
extern const struct raid_level raid0_level, raid1_level, concat_level, raid5f_level;
const struct raid_level *raid_level_by_number(uint32_t number);
const struct raid_level *raid_level_by_name(const char *name);

struct raid_store; /* raid_store.c */
struct raid_rebuild;
struct raid5;
struct raid_bitmap;
struct raid_resync;
struct raid_check;

/* What the last check has found. */
struct raid_checked {
	bool valid, stopped;
	uint64_t different_blocks, repaired_blocks, unreadable_blocks;
};

struct raid {
	struct list link;
	char name[RAID_SB_NAME_BYTES];
	uuid_t uuid; /* null: not known before it is online */
	const struct raid_level *level;
	enum raid_state state;
	uint32_t strip_size_kb;
	uint32_t block_bytes; /* 0: no member yet */
	bool superblock;
	bool sb_valid;  /* sb is what stands, or is to stand, on the members */
	bool creating;  /* its create call has not been answered */
	bool lost;      /* its bdev goes because members are gone: keep the array */
	bool clear_sb;  /* on deletion */
	bool no_bitmap; /* as its creator wished */
	bool degraded_start;
	unsigned busy; /* calls that will come back to it */
	unsigned num_slots;
	bool growing;            /* slots[num_slots] is for a member that is being added */
	struct raid_slot *slots; /* of levels that grow members_max */
	struct bdev *bdev;
	struct raid_sb sb;
	uint64_t seq_seen; /* the highest number of a superblock, also of one that does not count */
	bool ext_kept;     /* of parity: members have an extension */
	bool trust_parity; /* the user has said so for this start */
	bool given_up;     /* a write has failed half way: not started again by itself */
	struct raid_store *store;
	struct raid_rebuild *rebuild;
	struct raid5 *raid5;
	struct raid_bitmap *bitmap; /* while it has a bdev, of redundant levels */
	struct raid_resync *resync;
	struct raid_check *check;
	struct raid_checked checked;
	struct raid_told {
		unsigned percent;
		uint64_t ns;
	} progress_told; /* raid_tell.h */
	bool degraded_said;
	struct raid_pace pace;
	struct loop_timer wait;     /* for members, before a degraded start */
	struct bdev_done started;   /* who waits for the bdev */
	struct list start_waiters;  /* the same, examinations */
	struct bdev_done onlined;   /* the core, while it comes online */
	struct bdev_done deleted;   /* who waits for its end */
	struct bdev_done destroyed; /* who waits for raid_settle */
	bool hopping;
	unsigned bdev_busy; /* stores, rebuilds and cures that use the bdev's bases */
	/* messages between loops */
	struct loop_task suspects_task;
	uint64_t suspects;
	bool suspects_sent;
	struct raid_io io;
};

struct raid_priv {
	struct raid *raid;
};

/* Per loop. */
#define RAID_CURES_MAX 16
struct raid_cure {
	unsigned slot;
	uint64_t offset_blocks, num_blocks;
};

/* Of raid5_lock.c: who waits for rows of a stripe. */
struct raid5_loop {
	struct loop_task *first, **end;
	struct loop_task wake;
	bool wake_sent;
};

struct raid_loop {
	bool client; /* has sent a request since the last look; atomic */
	uint64_t reading_blocks[RAID1_SLOTS_MAX]; /* outstanding */
	struct loop_task *parked;                 /* writes that wait for a record */
	struct loop_task release;
	bool release_sent;
	struct loop_task *waiting; /* writes that wait for the bitmap; the last first */
	struct loop_task admit;
	bool admit_sent, refuse; /* atomic */
	struct bdev *bdev;
	struct raid5_loop raid5;
	/* What could not be read; from this loop to the control loop. More than fit are left. */
	struct raid_cure cures[RAID_CURES_MAX];
	uint32_t cures_put, cures_taken;
};

extern struct bdev_module raid_module;

/* ---- raid.c: the arrays there are -------------------------------------------------------------
 */

extern struct list raids;
struct raid *raid_new(const char *name, const struct raid_level *level, unsigned num_slots);
struct raid *raid_find(const char *name);
struct raid *raid_find_uuid(const uuid_t uuid);
/* That a bdev is a member of; NULL: none. */
struct raid_slot *raid_slot_of(const struct bdev *member);
void raid_set_state(struct raid *raid, enum raid_state state);
const char *raid_state_text(enum raid_state state);
void raid_hold(struct raid *raid);
/* It is freed when it is RAID_DELETING and nobody holds it. */
void raid_unhold(struct raid *raid);
/* Members that are there and have all data. */
unsigned raid_present(const struct raid *raid);
/* Of how many members it must have all data to be online. */
unsigned raid_needed(const struct raid *raid);
/* Of one that is online: whether the members that are read do without this one. */
bool raid_can_lose(const struct raid *raid, unsigned slot);
/* How many members' worth of data it has: for a mirror one. Redundant levels. */
static inline unsigned raid_data_members(const struct raid *raid)
{
	return raid->level->parity ? raid->num_slots - raid->level->parity : 1;
}
/* What is used of each member, redundant levels: the regions of the bitmap are parts of that. */
uint64_t raid_member_blocks(const struct raid *raid);
/* Members that it needs to be complete. */
unsigned raid_expected(const struct raid *raid);
/* "'a', 'b'": those that are missing. */
void raid_missing_text(const struct raid *raid, char *buf, size_t size);
json_t *raid_describe(const struct raid *raid, bool named);
json_t *raid_save_call(const struct raid *raid);
void raid_problem(struct raid *raid, const char *key, const char *text, const char *action);

/* ---- raid_options.c ---------------------------------------------------------------------------
 */

#define RAID_WAIT_NEVER UINT32_MAX
#define RAID_WAIT_DEFAULT_S 10
#define RAID_OPTIONS_DEFAULT                                                                       \
	{                                                                                          \
		.pace = {RAID_WINDOW_DEFAULT_KB, 0, RAID_SHARE_DEFAULT},                           \
		.wait_s = RAID_WAIT_DEFAULT_S                                                      \
	}
struct raid_options {
	uint32_t pace[RAID_PACE_OPTIONS];
	uint32_t wait_s; /* RAID_WAIT_NEVER: no degraded start by itself */
};
extern struct raid_options raid_options;

/* ---- raid_members.c: who may be a member ------------------------------------------------------
 */

struct raid_sb_read {
	enum raid_sb_found found;
	bool repaired; /* from the second copy */
	struct raid_sb sb;
	struct err err; /* why it is not RAID_SB_OK; code -EIO: it could not be read */
};
/* read is the callee's until the callback returns. bdev may be gone by then: look it up by name. */
typedef void (*raid_sb_read_fn)(void *arg, const struct raid_sb_read *read);
void raid_sb_read(struct bdev *bdev, raid_sb_read_fn fn, void *arg);

/* Whether bdev can be the member of this slot, by its format and size. Sets block_bytes and the
 * slot's offset when they are not known yet. */
int raid_member_fits(struct raid *raid, unsigned slot, const struct bdev *bdev, struct err *err);
/* Where the superblock has the data of this very disk in this slot; 0: nowhere. */
uint64_t raid_known_offset(const struct raid *raid, unsigned slot, const struct bdev *bdev);
/* Claims it for the slot; only while the array has no bdev. */
int raid_member_take(struct raid *raid, unsigned slot, struct bdev *bdev, struct err *err);
/* The same for one that is to come into a free slot of an array that has a bdev: nobody else gets
 * it. */
int raid_member_reserve(struct raid *raid, unsigned slot, struct bdev *bdev, struct err *err);
void raid_member_drop_handle(struct raid *raid, unsigned slot);
/* Gives it back. expect: one of that name or UUID will be taken again. */
void raid_member_release(struct raid *raid, unsigned slot, bool expect);
/* While the bdev lives, its base slots are the claim. */
void raid_members_drop_handles(struct raid *raid);
void raid_members_take_handles(struct raid *raid);

/* ---- raid_assemble.c: from members to an array ------------------------------------------------
 */

/* It may be rebuilt into its slot, or an error with the reason. Online only. */
int raid_check_rejoin(struct raid *raid, const struct bdev *bdev, const struct raid_sb *sb,
        unsigned *slot, struct err *err);
/* Starts it when all members are there, or lets the time run. */
void raid_consider(struct raid *raid);
/* Creates the bdev. */
void raid_start(struct raid *raid);
/* A disk with this superblock (NULL: none) for an array that has no bdev or a free slot. */
void raid_offer(struct bdev *bdev, const struct raid_sb_read *read);
/* Members' sizes and states into sb, for an array of so many blocks. */
void raid_sb_update(struct raid *raid, uint64_t array_blocks);
void raid_delete(struct raid *raid, bool clear_sb, struct bdev_done done);
void raid_clear_superblocks(struct raid *raid, struct bdev_done done);
/* Frees a slot and lets the array, which can't be without it, go offline. */
void raid_go_offline(struct raid *raid, const char *why);

/* ---- raid_examine.c ---------------------------------------------------------------------------
 */

/* done: what it has led to is there. */
void raid_examine(struct bdev *bdev, struct bdev_done done);
/* The array has started, or can't: answers them. */
void raid_end_examinations(struct raid *raid);

/* ---- raid_store.c: the superblock on all members ----------------------------------------------
 */

/* Writes sb with the next seq to both copies on all members, flushed. A mirror's member that can't
 * be written is recorded as failed on the others; an error when no member has it. */
void raid_store(struct raid *raid, struct bdev_done done);
/* The extension alone, which goes with the superblock that stands. */
void raid_store_ext(struct raid *raid, struct bdev_done done);
void raid_store_free(struct raid *raid);

/* ---- raid_leave.c: members that fail or go ----------------------------------------------------
 */

/* Data loops: a request has failed there. */
void raid_suspect(struct raid *raid, unsigned slot);
/* The same: these blocks of its data could not be read, but others have them. */
void raid_cure_later(struct raid *raid, unsigned slot, uint64_t offset_blocks, uint64_t num_blocks);
void raid_suspects_init(struct raid *raid);
/* There is something for the control loop to look at. */
void raid_tell_control(struct raid *raid);
/* Records it as gone. An error when the array can't be without it. */
void raid_member_leave(
        struct raid *raid, unsigned slot, enum raid_sb_slot_state record, struct bdev_done done);
/* For raid_store, while it is writing: a member that could not be written. False: the array can't
 * be without it. raid_store then records it, and calls recorded. */
bool raid_member_failed_in_store(struct raid *raid, unsigned slot);
void raid_member_recorded(struct raid *raid, unsigned slot);
/* Lets writes go on that waited for a record. */
void raid_release_parked(struct raid *raid);
void raid_base_lost(struct bdev *bdev, unsigned index, struct bdev_done done);
void raid_base_returned(struct bdev *bdev, unsigned index, struct bdev_done done);
/* When nothing is under way any more that uses the bdev: stores, rebuilds, messages. */
void raid_settle(struct raid *raid, struct bdev_done done);
void raid_bdev_hold(struct raid *raid);
void raid_bdev_unhold(struct raid *raid);

/* ---- raid_flush.c -----------------------------------------------------------------------------
 */

/* All members that have all data; an error when one can't be flushed. */
void raid_flush_members(struct raid *raid, struct bdev_done done);

/* ---- raid_copy.c ------------------------------------------------------------------------------
 */

/*
 * From any member that has all data to one slot, with the range locked meanwhile, so that no write
 * can come in between. One at a time per struct; buf is the caller's, as large as the largest copy.
 */
struct raid_copy {
	struct raid *raid;
	unsigned slot; /* RAID_SLOTS_MAX: to all others that have all data; or parity from data */
	uint64_t offset_blocks, num_blocks; /* of the member's data */
	void *buf; /* for so many blocks of each member that has data; of parity made right: for
	              each member and one more */
	void (*done)(struct raid_copy *copy);
	/* out */
	int status;
	bool target_failed; /* it was the write that failed */
	/* the implementation's */
	struct bdev_range range;
	struct bio bio;
	struct iovec iov;
	uint64_t tried, targets;
	unsigned from, target;
	bool started;
};
void raid_copy_start(struct raid_copy *copy);
/* Reads of these blocks of its data failed on a member: write it again from the others. */
void raid_cure(struct raid *raid, unsigned slot, uint64_t offset_blocks, uint64_t num_blocks);

/* ---- raid_rebuild.c ---------------------------------------------------------------------------
 */

/* Puts bdev into the free slot of an online mirror and copies everything to it. done: it is
 * attached, and the copy has begun. seq: of the array's superblock on it; 0: there is none. */
void raid_join(
        struct raid *raid, unsigned slot, struct bdev *bdev, uint64_t seq, struct bdev_done done);
/* The same for a base that the core has put there. */
void raid_rebuild_start(struct raid *raid, unsigned slot, uint64_t seq);
/* This slot is no target any more; RAID_SLOTS_MAX: the array stops. */
void raid_rebuild_stop(struct raid *raid, unsigned slot);
struct raid_progress {
	unsigned slot;
	uint64_t blocks, total_blocks;
	uint64_t bytes_per_s; /* so far, without pauses */
	uint64_t left_s;      /* at that speed; UINT64_MAX: can't be told */
	bool paused;
};
/* False: nothing is being rebuilt. */
bool raid_rebuild_progress(const struct raid *raid, struct raid_progress *out);
enum raid_process_action {
	RAID_PAUSE,
	RAID_RESUME,
	RAID_CANCEL, /* the target is taken out */
};
int raid_rebuild_control(struct raid *raid, enum raid_process_action action, struct err *err);

/* ---- raid5_state.c ---------------------------------------------------------------------------
 */

struct raid5_record {
	const struct raid_ext *newest; /* NULL: members have none */
	bool marks_known;              /* nobody else has written since */
	uint64_t marked;               /* regions */
	bool doubt;                    /* out: parity of what is marked may be wrong */
	bool declared; /* out: nobody knows that parity is right, but it counts so */
};
/* Which parity may be believed at this start; an error when members are missing that could be made
 * up wrongly. */
int raid5_judge(struct raid *raid, struct raid5_record *record, struct err *err);
/* Takes all parity for valid, as the user wants it: of an array that is online without a member. */
int raid5_trust(struct raid *raid, struct err *err);
/* There are rows whose parity is not known to be that of their data. A member that returns is given
 * all of its blocks then: what it has may be no part of what was made up for it. */
bool raid5_lacks_parity(const struct raid *raid);
/* The array is about to have so many rows; an error when it can't. */
int raid5_resizes(struct raid *raid, uint64_t rows, struct err *err);
/* No member is missing any more, and one has been made up from the others up to this row. */
void raid5_rebuilt(struct raid *raid, uint64_t rows);
/* Whether a member can be made up from the others everywhere. */
int raid5_check_complete(const struct raid *raid, struct err *err);
/* ---- raid_bitmap.c, raid_bitmap_load.c: what may differ between members -----------------------
 */

/* Reads what the members say, or makes a new one where nothing was written yet; brings it to all of
 * them. The superblock is stored behind it. */
void raid_bitmap_open(struct raid *raid, struct bdev_done done);
/* Nothing is in flight any more: forgets all when nobody lacks anything, and frees it. */
void raid_bitmap_close(struct raid *raid, struct bdev_done done);
/* The extension block as it goes with the superblock that is being stored, before or behind it, and
 * where; 0: none. */
uint64_t raid_bitmap_ext(struct raid *raid, bool behind, void *bytes);
/* What loops have asked for. */
void raid_bitmap_look(struct raid *raid);
/* A member leaves; may_return: what it misses counts from here. */
void raid_bitmap_left(struct raid *raid, unsigned slot, bool may_return);
bool raid_bitmap_may_return(const struct raid *raid, unsigned slot);
/* The one in the slot has all data now. has_joined: and others were missing then, and some are. */
void raid_bitmap_joined(struct raid *raid, unsigned slot);
bool raid_bitmap_has_joined(const struct raid *raid, unsigned slot);
/* What the bdev in this slot lacks: a bit per region, or NULL: everything. The caller frees it. */
uint64_t *raid_bitmap_missed(struct raid *raid, unsigned slot);
/* Whether the next lacking block at or after *block is before end, and how many follow. */
bool raid_bitmap_next(const struct raid *raid, const uint64_t *missed, uint64_t *block,
        uint64_t end, uint64_t *count);
/* Everything below is on the target, flushed. RAID_SLOTS_MAX: there is no target any more. Goes
 * with the next store. */
void raid_bitmap_checkpoint(struct raid *raid, unsigned slot, uint64_t blocks, uint64_t begun_seq);

/* ---- raid_resync.c: making members equal after an unclean stop --------------------------------
 */

void raid_resync_start(struct raid *raid);
void raid_resync_stop(struct raid *raid);
/* Regions that are left; 0: it is not running. */
uint64_t raid_resync_left(const struct raid *raid);

/* ---- geometry and I/O -------------------------------------------------------------------------
 */

/* Offsets, starts and shifts for the loops, from the members. */
void raid_lay_out(struct raid *raid);
int raid_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err);
void raid_persist(struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done);
void raid_resized(struct bdev *bdev, uint64_t old_blocks);

void raid_submit(struct bio *bio);
/* To every member, in rounds of BIO_SPLIT_MAX: for operations without a range. */
void raid_submit_all(struct bio *bio);
/* A walk over a request's data. */
struct raid_walk {
	const struct iovec *iov, *end;
	size_t skip;
};
struct raid_walk raid_walk_of(const struct bio *bio);
/* The next piece of at most bytes. */
struct iovec raid_walk_next(struct raid_walk *walk, size_t bytes);
/* Keeps a request whose members have ended until nothing is unsettled any more; then the level's
 * settle gets it. */
void raid_park(struct bio *bio);
void raid_release(struct loop_task *task);
static inline struct raid_io *raid_io_of(const struct bdev *bdev)
{
	return &((struct raid_priv *)bdev->priv)->raid->io;
}

/* A level that does something in the background calls it for each request. */
static inline void raid_note_client(const struct bio *bio)
{
	struct raid_loop *state = bdev_loop_state(bio_bdev(bio), bio->loop);

	__atomic_store_n(&state->client, true, __ATOMIC_RELAXED);
}

extern const struct rpc_method raid_methods[];
