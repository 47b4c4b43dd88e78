/*
 * raid_resync.c: after an unclean stop members may differ where the bitmap says so. What the first
 * one holds is copied to the others, window by window; until then it alone is read there. Of levels
 * with parity that is made right, and makes up for nobody until then.
 *
 * What is done is forgotten by and by as everything else, so a restart goes on behind it.
 */
#include "vbdev/raid/raid_bitmap.h"

#include "base/log.h"

struct raid_resync {
	struct raid *raid;
	struct raid_copy copy;
	struct loop_timer timer;
	uint64_t region, end_region; /* that the window is in, or that it has */
	uint64_t at_block;           /* of the region, of the member: those before it are done */
	bool failed;                 /* a part of the region */
	uint64_t begun_ns;
	uint64_t buf_bytes;
	bool stopping, busy;
	bool flushed; /* what was copied */
};

static void step(struct raid_resync *rs);

static void resync_free(struct raid_resync *rs)
{
	struct raid *raid = rs->raid;

	loop_timer_stop(loop_self(), &rs->timer);
	raid->resync = NULL;
	free(rs->copy.buf);
	free(rs);
	raid_bdev_unhold(raid);
}

static void ended(struct raid_resync *rs)
{
	struct raid *raid = rs->raid;
	uint64_t ms = (loop_now_ns(loop_self()) - rs->begun_ns) / NSEC_PER_MSEC;

	if (!rs->stopping) {
		log_notice("raid", "'%s': %s after %llu ms", raid->name,
		        raid->io.unsynced ? "not all of its members are equal again"
		                          : "its members are equal again",
		        (unsigned long long)ms);
		bdev_event_raise("raid_resync_finished", raid->name,
		        json_pack("{s:I, s:I}", "ms", (json_int_t)ms, "regions_left",
		                (json_int_t)raid->io.unsynced));
		if (raid->io.unsynced > 0)
			raid_problem(raid, "resync",
			        raid->level->parity
			                ? "parity of some regions can't be made right: members are "
			                  "missing, or can't be read there"
			                : "some blocks can't be read from any member and are not "
			                  "equal",
			        raid->level->parity
			                ? "bring all members back, and start it again; or say that "
			                  "it is right: bdev_raid_start with trust_parity"
			                : "write them again, or look at the disks");
		else
			raid_problem(raid, "resync", NULL, NULL);
	}
	resync_free(rs);
}

static void timer_fired(struct loop_timer *timer)
{
	step(container_of(timer, struct raid_resync, timer));
}

static void step_at(struct raid_resync *rs, uint64_t due_ns)
{
	loop_timer_start(loop_self(), &rs->timer, max_u64(due_ns, loop_now_ns(loop_self())));
}

/* Of the region before this one, where the array has it. */
static uint64_t end_of(const struct raid_bitmap *b, uint64_t end_region)
{
	uint64_t blocks = raid_member_blocks(b->raid);

	return end_region == b->num_regions ? blocks : min_u64(end_region << b->shift, blocks);
}

static void copied(struct raid_copy *copy)
{
	struct raid_resync *rs = container_of(copy, struct raid_resync, copy);
	struct raid *raid = rs->raid;
	struct raid_bitmap *b = raid->bitmap;

	rs->busy = false;
	raid_pace_end(raid);
	rs->failed |= copy->status != 0;
	rs->at_block = copy->offset_blocks + copy->num_blocks;
	if (rs->at_block < end_of(b, rs->end_region)) {
		step_at(rs, 0);
		return;
	}
	for (uint64_t r = rs->region; r < rs->end_region && !rs->failed; r++) {
		__atomic_fetch_and(&b->regions[r], (uint8_t)~REGION_UNSYNCED, __ATOMIC_SEQ_CST);
		__atomic_fetch_sub(&raid->io.unsynced, 1, __ATOMIC_SEQ_CST);
	}
	rs->failed = false;
	rs->region = rs->end_region;
	step_at(rs, 0);
}

/* Loops change the other bits of the byte. */
static bool is_unsynced(const struct raid_bitmap *b, uint64_t region)
{
	return __atomic_load_n(&b->regions[region], __ATOMIC_RELAXED) & REGION_UNSYNCED;
}

/* Small regions together, and of a large one a part. */
static void choose_window(struct raid_resync *rs, uint64_t used)
{
	const struct raid_bitmap *b = rs->raid->bitmap;
	uint64_t window = max_u64(raid_pace_window_bytes(rs->raid) / rs->raid->block_bytes /
	                                  raid_data_members(rs->raid),
	        1);

	if (rs->at_block <= rs->region << b->shift) {
		rs->at_block = rs->region << b->shift;
		rs->end_region = rs->region + 1;
		while (rs->end_region < used && is_unsynced(b, rs->end_region) &&
		        (rs->end_region + 1 - rs->region) << b->shift <= window)
			rs->end_region++;
	}
	rs->copy.offset_blocks = rs->at_block;
	rs->copy.num_blocks = min_u64(window, end_of(b, rs->end_region) - rs->at_block);
}

static void start_copy(struct raid_resync *rs, uint64_t used)
{
	struct raid *raid = rs->raid;
	uint64_t bytes;

	choose_window(rs, used);
	bytes = rs->copy.num_blocks * raid->block_bytes *
	        (raid->level->parity ? raid->num_slots + 1 : 1);
	if (bytes > rs->buf_bytes) {
		free(rs->copy.buf);
		rs->copy.buf = try_alloc_aligned(4096, align_up_u64(bytes, 4096));
		rs->buf_bytes = rs->copy.buf ? bytes : 0;
	}
	if (!rs->copy.buf) { /* later */
		step_at(rs, loop_now_ns(loop_self()) + NSEC_PER_SEC);
		return;
	}
	rs->busy = true;
	raid_pace_begin(raid, bytes);
	raid_copy_start(&rs->copy);
}

static void flushed(void *arg, const struct err *err)
{
	struct raid_resync *rs = arg;

	(void)err; /* what can't be flushed is going to fail */
	rs->busy = false;
	rs->flushed = true;
	step_at(rs, 0);
}

/* Members that are equal stay so in a power cut, also when the one that was the truth is gone. */
static void finish(struct raid_resync *rs)
{
	if (rs->flushed || rs->raid->level->parity) {
		ended(rs);
		return;
	}
	rs->busy = true;
	raid_flush_members(rs->raid, (struct bdev_done){flushed, rs});
}

static void step(struct raid_resync *rs)
{
	struct raid *raid = rs->raid;
	const struct raid_bitmap *b = raid->bitmap;
	uint64_t used, due_ns;

	if (rs->busy)
		return;
	if (rs->stopping || raid->bdev->state == BDEV_REMOVING) {
		rs->stopping = true;
		ended(rs);
		return;
	}
	if (raid->state != RAID_ONLINE) { /* it is about to be */
		step_at(rs, loop_now_ns(loop_self()) + NSEC_PER_MSEC);
		return;
	}
	used = raid_bitmap_used(b);
	if (raid->level->parity && raid->io.readable != raid->io.all)
		rs->region = used; /* nobody can tell what is right */
	while (rs->region < used && !is_unsynced(b, rs->region))
		rs->region++;
	due_ns = raid_pace_next(raid);
	if (rs->region == used)
		finish(rs);
	else if (due_ns)
		step_at(rs, due_ns);
	else
		start_copy(rs, used);
}

void raid_resync_start(struct raid *raid)
{
	struct raid_resync *rs;

	if (!raid->bitmap || raid->io.unsynced == 0 || raid->resync)
		return;
	rs = xcalloc(1, sizeof(*rs));
	raid->resync = rs;
	raid_bdev_hold(raid);
	rs->raid = raid;
	rs->copy.raid = raid;
	rs->copy.slot = RAID_SLOTS_MAX;
	rs->copy.done = copied;
	rs->timer.fire = timer_fired;
	rs->begun_ns = loop_now_ns(loop_self());
	step_at(rs, 0);
}

void raid_resync_stop(struct raid *raid)
{
	struct raid_resync *rs = raid->resync;

	if (!rs)
		return;
	rs->stopping = true;
	step_at(rs, 0);
}

uint64_t raid_resync_left(const struct raid *raid)
{
	return raid->resync ? raid->io.unsynced : 0;
}
