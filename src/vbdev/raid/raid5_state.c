/*
 * raid5_state.c: which parity may be believed, across starts and stops. A member's extension says
 * whether the array was stopped in order, and how far parity is valid; the bitmap, what was being
 * written. Parity that nobody vouches for is made right when all members are there. When one is
 * missing, the array doesn't start by itself: what would be made up could be wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "vbdev/raid/raid5.h"
#include "vbdev/raid/raid_bitmap.h"

#define FIRST_PATIENCE_NS (NSEC_PER_SEC / 2)

/* ---- the start --------------------------------------------------------------------------------
 */

static uint64_t used_rows(const struct raid *raid)
{
	return raid->sb_valid ? raid->sb.array_blocks / (raid->num_slots - 1) : 0;
}

/* Of an array with a member missing, that nobody vouches for. */
static int refuse(const struct raid *raid, uint64_t marked, const char *why, struct err *err)
{
	char missing[200], how_much[64] = "";

	raid_missing_text(raid, missing, sizeof(missing));
	if (marked)
		snprintf(how_much, sizeof(how_much), " (%llu regions)", (unsigned long long)marked);
	return err_set(err, -EUCLEAN,
	        "raid5f '%s' %s%s, and lacks %s: what is made up for it could be wrong. Bring it "
	        "back, or take parity as it is: bdev_raid_start with trust_parity",
	        raid->name, why, how_much, missing);
}

static void say_declared(struct raid *raid, const char *how)
{
	autofree char *text = xasprintf("raid5f '%s' came up without a member, with parity taken "
	                                "as it is (%s)",
	        raid->name, how);

	log_warning("raid", "%s", text);
	raid_problem(raid, "declared", text,
	        "compare what was being written at the last stop with a backup");
}

void raid5_set_valid(struct raid *raid, uint64_t rows)
{
	__atomic_store_n(&raid->io.valid_rows, rows, __ATOMIC_RELEASE);
}

static void set_fresh(struct raid *raid, uint64_t rows)
{
	__atomic_store_n(&raid->io.fresh_rows, rows, __ATOMIC_RELEASE);
	if (raid->bitmap)
		raid->bitmap->ext.fresh_blocks = rows;
}

int raid5_judge(struct raid *raid, struct raid5_record *record, struct err *err)
{
	const struct raid_ext *newest = record->newest;
	bool complete = raid_present(raid) == raid->num_slots;
	bool recorded = newest && newest->parity && raid->sb_valid && newest->seq >= raid->sb.seq;
	bool clean = recorded && newest->clean;
	bool known = clean || (recorded && record->marks_known);
	bool is_new = raid->superblock && !raid->sb_valid;
	uint64_t valid = known ? newest->valid_blocks : 0;
	uint64_t fresh = is_new ? 0 : known ? newest->fresh_blocks : UINT64_MAX;
	bool vouched = known && ((valid > 0 && valid >= used_rows(raid)) || fresh <= valid);
	int rc = 0;

	record->doubt = known && !clean && record->marked > 0 && (valid > 0 || fresh <= valid);
	if (complete || (vouched && !record->doubt)) {
		raid_problem(raid, "declared", NULL, NULL);
	} else if (raid->trust_parity || PLANT(RAID5_DOUBT_STARTED)) {
		/* Of what is vouched for, only what was being written was in doubt. */
		record->declared = !vouched;
		valid = vouched ? valid : UINT64_MAX;
		say_declared(raid, "as the user wanted it");
	} else if (record->doubt && vouched) {
		rc = refuse(raid, record->marked,
		        "was not stopped in order, when it was being written", err);
	} else if (recorded) {
		rc = refuse(raid, 0,
		        clean ? "has parity that was not complete yet" : "was not stopped in order",
		        err);
	} else if (raid->ext_kept && raid->sb_valid) {
		record->declared = true;
		valid = UINT64_MAX;
		say_declared(raid, "another program wrote it last, and keeps no record");
	} else {
		rc = refuse(raid, 0, "keeps no record of its parity", err);
	}
	record->doubt = record->doubt && complete && !PLANT(RAID5_DIRTY_TRUSTED);
	set_fresh(raid, fresh);
	raid5_set_valid(raid, min_u64(valid, raid_member_blocks(raid)));
	raid->trust_parity = false;
	return rc;
}

static void patience_over(struct loop_timer *timer);

void raid5_prepare(struct raid *raid, struct bdev_done done)
{
	struct raid5 *r5 = xcalloc(1, sizeof(*r5));
	struct raid5_record record = {.newest = NULL};
	struct err err = ERR_NONE;

	r5->raid = raid;
	r5->patience.fire = patience_over;
	raid->raid5 = r5;
	raid5_set_valid(raid, 0);
	set_fresh(raid, UINT64_MAX);
	raid->io.locks = r5->locks;
	raid->io.all = raid->num_slots == 64 ? UINT64_MAX : (1ULL << raid->num_slots) - 1;
	raid->io.torn = 0;
	if ((uint64_t)raid->block_bytes * raid->num_slots > BIO_BOUNCE_MAX_BYTES) {
		err_set(&err, -EINVAL,
		        "raid5f with blocks of %u bytes can have %llu members at most",
		        raid->block_bytes,
		        (unsigned long long)(BIO_BOUNCE_MAX_BYTES / raid->block_bytes));
		bdev_done_call(done, &err);
		return;
	}
	raid->ext_kept = raid->superblock && raid->block_bytes <= RAID_EXT_BLOCK_MAX_BYTES;
	/* Else it is judged when what members say is read. */
	if (!raid->ext_kept)
		raid5_judge(raid, &record, &err);
	bdev_done_call(done, err.code ? &err : NULL);
}

/* ---- while it is online -----------------------------------------------------------------------
 */

void raid5_sync_ended(struct raid *raid)
{
	struct bdev_done begun = raid->raid5->begun;

	raid->raid5->begun.fn = NULL;
	loop_timer_stop(loop_self(), &raid->raid5->patience);
	if (begun.fn)
		bdev_done_call(begun, NULL);
}

static void patience_over(struct loop_timer *timer)
{
	raid5_sync_ended(container_of(timer, struct raid5, patience)->raid);
}

/* A small array has all its parity before anybody sees it. */
void raid5_begin(struct raid *raid, struct bdev_done done)
{
	struct loop *loop = loop_self();

	for (unsigned i = 0; i < loops_count(); i++) {
		struct raid_loop *state = raid->bdev->loops[i].state;

		raid5_lock_init(&state->raid5);
	}
	raid->raid5->running = true;
	raid5_sync_consider(raid);
	if (!raid->raid5->sync) {
		bdev_done_call(done, NULL);
		return;
	}
	raid->raid5->begun = done;
	loop_timer_start(loop, &raid->raid5->patience, loop_now_ns(loop) + FIRST_PATIENCE_NS);
}

int raid5_resizes(struct raid *raid, uint64_t rows, struct err *err)
{
	uint64_t now = raid_member_blocks(raid);

	/* One that has left since would come back to stripes that it knows nothing of. */
	if (rows > now && raid->io.readable != raid->io.all)
		return err_set(
		        err, -EBUSY, "a member of '%s' is missing: it can't grow", raid->name);
	if (rows > now)
		set_fresh(raid, min_u64(raid->io.fresh_rows, now));
	/* What members have beyond the end may go, and come back as something else. */
	if (raid->bitmap)
		raid->bitmap->ext.valid_blocks = min_u64(raid->bitmap->ext.valid_blocks, rows);
	return 0;
}

void raid5_resized(struct raid *raid)
{
	raid5_sync_resized(raid);
}

bool raid5_lacks_parity(const struct raid *raid)
{
	return raid->level->parity && raid->io.valid_rows < raid_member_blocks(raid);
}

void raid5_rebuilt(struct raid *raid, uint64_t rows)
{
	rows = min_u64(rows, raid_member_blocks(raid));
	if (raid->io.valid_rows < rows)
		raid5_set_valid(raid, rows);
	raid5_sync_consider(raid);
	raid5_save_valid(raid);
}

int raid5_check_complete(const struct raid *raid, struct err *err)
{
	uint64_t rows = raid_member_blocks(raid);

	if (raid->io.unsynced > 0)
		return err_set(err, -EBUSY,
		        "parity of %llu regions of '%s' is not made right yet: without it a member "
		        "can't be made up. Wait; or take it as it is: bdev_raid_start with "
		        "trust_parity",
		        (unsigned long long)raid->io.unsynced, raid->name);
	if (raid->io.valid_rows >= rows || raid5_is_complete(&raid->io))
		return 0;
	return err_set(err, -EBUSY,
	        "parity of '%s' is valid for %llu of %llu blocks of each member: without it a "
	        "member can't be made up. Take it as it is: bdev_raid_start with trust_parity",
	        raid->name, (unsigned long long)raid->io.valid_rows, (unsigned long long)rows);
}

int raid5_trust(struct raid *raid, struct err *err)
{
	if (!raid->level->parity || raid->state != RAID_ONLINE || !raid->raid5 ||
	        raid->raid5->sync || raid->resync || raid_present(raid) == raid->num_slots)
		return err_set(err, -EALREADY, "'%s' is %s, and has nothing to trust in",
		        raid->name, raid_state_text(raid->state));
	/* Who returns must fit what was made up for it. */
	if (!raid5_is_complete(&raid->io)) {
		if (raid->bitmap)
			memset(raid->bitmap->ext.returns, 0, sizeof(raid->bitmap->ext.returns));
		raid5_set_valid(raid, raid_member_blocks(raid));
	}
	raid_bitmap_believe(raid);
	raid_problem(raid, "parity", NULL, NULL);
	raid_problem(raid, "resync", NULL, NULL);
	say_declared(raid, "as the user wanted it");
	return 0;
}

/* ---- how far parity is valid, for good ---- */

static void valid_stored(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	(void)err;
	raid->raid5->saving = false;
	if (raid->raid5->save_again)
		raid5_save_valid(raid);
	raid_bdev_unhold(raid);
}

static void valid_flushed(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	if (err || raid->lost || raid->state == RAID_DELETING) {
		valid_stored(raid, err);
		return;
	}
	raid->bitmap->ext.valid_blocks = raid->raid5->saving_rows;
	raid_store_ext(raid, (struct bdev_done){valid_stored, raid});
}

void raid5_save_valid(struct raid *raid)
{
	struct raid5 *r5 = raid->raid5;

	r5->save_again = r5->saving;
	if (r5->saving || !raid->bitmap || raid->io.valid_rows <= raid->bitmap->ext.valid_blocks)
		return;
	r5->saving = true;
	r5->saving_rows = raid->io.valid_rows;
	raid_bdev_hold(raid);
	if (PLANT(RAID5_CHECKPOINT_UNFLUSHED))
		valid_flushed(raid, NULL);
	else
		raid_flush_members(raid, (struct bdev_done){valid_flushed, raid});
}

/* ---- the stop ---------------------------------------------------------------------------------
 */

struct stopping {
	struct raid *raid;
	unsigned pending;
	uint8_t *buf;
	struct bdev_done done;
};

static void stop_end(struct stopping *s)
{
	bdev_done_call(s->done, NULL);
	free(s->buf);
	free(s);
}

static void clean_written(void *arg, const struct err *err)
{
	struct stopping *s = arg;

	if (err)
		log_warning("raid",
		        "'%s': a member does not learn that it was stopped in order: %s",
		        s->raid->name, err->text);
	if (--s->pending == 0)
		stop_end(s);
}

/* What all members have is durable: so they may say that it goes together. */
static void flushed(void *arg, const struct err *err)
{
	struct stopping *s = arg;
	struct raid *raid = s->raid;
	uint32_t block_bytes = raid->block_bytes;
	uint64_t blocks = div_round_up_u64(RAID_EXT_BYTES, block_bytes), at;

	if (err) {
		log_warning("raid", "'%s' is not stopped in order: %s", raid->name, err->text);
		stop_end(s);
		return;
	}
	raid->bitmap->ext.clean = true;
	raid->bitmap->ext.valid_blocks = raid->io.valid_rows;
	s->buf = try_alloc_aligned(4096, align_up_u64(RAID_EXT_BYTES, block_bytes));
	BELLOWS_ASSERT(s->buf);
	at = raid_bitmap_ext(raid, true, s->buf);
	s->pending = 1;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use != SLOT_IN)
			continue;
		s->pending++;
		bdev_write_meta(raid->slots[i].bdev, at / block_bytes, blocks, s->buf,
		        (struct bdev_done){clean_written, s});
	}
	clean_written(s, NULL);
}

void raid5_stop(struct raid *raid, struct bdev_done done)
{
	struct stopping *s;

	if (!raid->bitmap || !raid->raid5->running || raid->io.torn || raid->io.unsynced > 0 ||
	        raid_present(raid) < raid_needed(raid)) {
		bdev_done_call(done, NULL);
		return;
	}
	s = xcalloc(1, sizeof(*s));
	s->raid = raid;
	s->done = done;
	raid_flush_members(raid, (struct bdev_done){flushed, s});
}
