/*
 * raid_check.c: do all members of a mirror hold the same, does parity go with the data? Window by
 * window, with the range locked; what differs is counted, and on request written again from the
 * first member, or made from the data.
 */
#include "vbdev/raid/raid_check.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vbdev/raid/raid5.h"
#include "vbdev/raid/raid_tell.h"

struct raid_check {
	struct raid *raid;
	bool repair, stopping, busy;
	unsigned first, slot;            /* that is compared with; that is compared */
	uint64_t next_block, num_blocks; /* of the members */
	uint64_t different_blocks, repaired_blocks, unreadable_blocks;
	uint64_t begun_ns;
	bool differs; /* this member, in this window */
	uint8_t *wanted, *found;
	uint64_t buf_bytes;
	struct iovec iov;
	struct bio bio;
	struct bdev_range range;
	struct raid5_job job; /* of parity */
	struct loop_timer timer;
};

static void step(struct raid_check *c);

static void step_at(struct raid_check *c, uint64_t due_ns)
{
	loop_timer_start(loop_self(), &c->timer, max_u64(due_ns, loop_now_ns(loop_self())));
}

/* Of the array. */
static uint64_t blocks_done(const struct raid_check *c)
{
	return c->next_block * raid_data_members(c->raid);
}

static void say_result(const struct raid_check *c)
{
	struct raid *raid = c->raid;
	uint64_t left = c->different_blocks - c->repaired_blocks;
	autofree char *text = NULL;

	if (left == 0) {
		if (!c->stopping)
			raid_problem(raid, "check", NULL, NULL);
		return;
	}
	text = raid->level->parity
	               ? xasprintf("raid5f '%s': parity of %llu blocks does not go with their data",
	                         raid->name, (unsigned long long)left)
	               : xasprintf("raid1 '%s': %llu blocks are not the same on all members",
	                         raid->name, (unsigned long long)left);
	raid_problem(raid, "check", text,
	        raid->level->parity ? "look at the disks; bdev_raid_check with repair makes parity "
	                              "from the data"
	                            : "look at the disks; bdev_raid_check with repair writes the "
	                              "first member's data to the others");
}

static void finish(struct raid_check *c)
{
	struct raid *raid = c->raid;
	const char *end = c->stopping ? "stopped" : "finished";

	log_notice("raid", "'%s': the check has %s after %llu blocks: %llu differ, %llu repaired",
	        raid->name, end, (unsigned long long)blocks_done(c),
	        (unsigned long long)c->different_blocks, (unsigned long long)c->repaired_blocks);
	bdev_event_raise("raid_check_finished", raid->name,
	        json_pack("{s:s, s:I, s:I, s:I, s:I}", "how", end, "blocks",
	                (json_int_t)blocks_done(c), "different_blocks",
	                (json_int_t)c->different_blocks, "repaired_blocks",
	                (json_int_t)c->repaired_blocks, "unreadable_blocks",
	                (json_int_t)c->unreadable_blocks));
	raid_tell_mismatch(raid, c->different_blocks, c->repaired_blocks);
	raid->checked = (struct raid_checked){.valid = true,
	        .stopped = c->stopping,
	        .different_blocks = c->different_blocks,
	        .repaired_blocks = c->repaired_blocks,
	        .unreadable_blocks = c->unreadable_blocks};
	say_result(c);
	raid->check = NULL;
	loop_timer_stop(loop_self(), &c->timer);
	free(c->wanted);
	free(c->found);
	free(c);
	raid_bdev_unhold(raid);
}

/* ---- a window ---- */

static void window_end(struct raid_check *c)
{
	bdev_range_unlock(c->raid->bdev, &c->range);
	c->busy = false;
	raid_pace_end(c->raid);
	c->next_block += c->num_blocks;
	step_at(c, 0);
}

static void next_member(struct raid_check *c);

static void transfer(struct raid_check *c, enum bio_op op, unsigned slot, void *buf, bio_fn done)
{
	const struct raid_slot *s = &c->raid->slots[slot];

	c->iov = (struct iovec){buf, c->num_blocks * c->raid->block_bytes};
	bio_init(&c->bio, op, &c->iov, 1, c->num_blocks, done, NULL);
	bio_submit_bdev(s->bdev, &c->bio, s->data_offset_blocks + c->next_block);
}

static void repaired(struct bio *bio)
{
	struct raid_check *c = container_of(bio, struct raid_check, bio);

	if (bio->status != 0)
		raid_suspect(c->raid, c->slot);
	next_member(c);
}

static void compared(struct bio *bio)
{
	struct raid_check *c = container_of(bio, struct raid_check, bio);
	uint32_t block_bytes = c->raid->block_bytes;
	uint64_t different = 0;

	if (bio->status != 0) { /* a read by a client will cure it */
		c->unreadable_blocks += c->num_blocks;
		next_member(c);
		return;
	}
	for (uint64_t i = 0; i < c->num_blocks; i++)
		different += memcmp(c->wanted + i * block_bytes, c->found + i * block_bytes,
		                     block_bytes) != 0;
	c->different_blocks += different;
	if (different == 0 || !c->repair || c->raid->slots[c->slot].use != SLOT_IN) {
		next_member(c);
		return;
	}
	c->repaired_blocks += different;
	transfer(c, BIO_WRITE, c->slot, c->wanted, repaired);
}

static void next_member(struct raid_check *c)
{
	uint64_t left = c->raid->io.readable & ~((2ULL << c->slot) - 1);

	if (left == 0) {
		window_end(c);
		return;
	}
	c->slot = (unsigned)__builtin_ctzll(left);
	transfer(c, BIO_READ, c->slot, c->found, compared);
}

static void first_read(struct bio *bio)
{
	struct raid_check *c = container_of(bio, struct raid_check, bio);

	if (bio->status != 0) {
		c->unreadable_blocks += c->num_blocks;
		window_end(c);
		return;
	}
	c->slot = c->first;
	next_member(c);
}

static void locked(void *arg, const struct err *err)
{
	struct raid_check *c = arg;

	if (err || c->raid->io.readable == 0) {
		c->stopping = true;
		c->busy = false;
		raid_pace_end(c->raid);
		if (!err)
			bdev_range_unlock(c->raid->bdev, &c->range);
		step_at(c, 0);
		return;
	}
	c->first = (unsigned)__builtin_ctzll(c->raid->io.readable);
	transfer(c, BIO_READ, c->first, c->wanted, first_read);
}

/* ---- a window of parity ---- */

static void parity_seen(struct raid5_job *job)
{
	struct raid_check *c = container_of(job, struct raid_check, job);

	c->different_blocks += job->wrong_rows;
	if (job->status != 0) /* a read by a client will cure it */
		c->unreadable_blocks += c->num_blocks * raid_data_members(c->raid);
	else if (c->repair)
		c->repaired_blocks += job->wrong_rows;
	if (c->raid->io.readable != c->raid->io.all)
		c->stopping = true;
	c->busy = false;
	raid_pace_end(c->raid);
	c->next_block += c->num_blocks;
	step_at(c, 0);
}

static void look_at_parity(struct raid_check *c)
{
	c->job.raid = c->raid;
	c->job.kind = c->repair ? RAID5_JOB_SYNC : RAID5_JOB_LOOK;
	c->job.done = parity_seen;
	c->job.rows = (struct raid5_rows){c->next_block, c->next_block + c->num_blocks};
	c->job.buf = c->wanted;
	raid5_job_start(&c->job);
}

/* ---- all of it ---- */

static bool take_buffers(struct raid_check *c, uint64_t bytes)
{
	if (bytes <= c->buf_bytes)
		return true;
	free(c->wanted);
	free(c->found);
	c->wanted = try_alloc_aligned(4096, align_up_u64(bytes, 4096));
	c->found =
	        c->raid->level->parity ? NULL : try_alloc_aligned(4096, align_up_u64(bytes, 4096));
	c->buf_bytes = c->wanted && (c->found || c->raid->level->parity) ? bytes : 0;
	return c->buf_bytes > 0;
}

static void step(struct raid_check *c)
{
	struct raid *raid = c->raid;
	uint64_t total = raid_member_blocks(raid), data = raid_data_members(raid);
	uint64_t window = max_u64(raid_pace_window_bytes(raid) / raid->block_bytes / data, 1);
	uint64_t bytes, due_ns;

	if (c->busy)
		return;
	if (c->stopping || c->next_block >= total || raid->bdev->state == BDEV_REMOVING) {
		c->stopping |= c->next_block < total;
		finish(c);
		return;
	}
	due_ns = raid_pace_next(raid);
	if (due_ns) {
		step_at(c, due_ns);
		return;
	}
	c->num_blocks = min_u64(window, total - c->next_block);
	bytes = c->num_blocks * raid->block_bytes * (raid->level->parity ? raid->num_slots + 1 : 1);
	if (!take_buffers(c, bytes)) {
		step_at(c, loop_now_ns(loop_self()) + NSEC_PER_SEC);
		return;
	}
	c->busy = true;
	raid_pace_begin(raid, c->num_blocks * data * raid->block_bytes);
	if (raid->level->parity) {
		look_at_parity(c);
		return;
	}
	c->range = (struct bdev_range){
	        .offset_blocks = c->next_block, .num_blocks = c->num_blocks, .locked = {locked, c}};
	list_init(&c->range.link);
	bdev_range_lock(raid->bdev, &c->range);
}

static void timer_fired(struct loop_timer *timer)
{
	step(container_of(timer, struct raid_check, timer));
}

int raid_check_start(struct raid *raid, bool repair, struct err *err)
{
	struct raid_check *c;

	if (!raid->level->redundant)
		return err_set(err, -EOPNOTSUPP, "a %s has nothing to compare", raid->level->name);
	if (raid->state != RAID_ONLINE || raid_present(raid) < 2)
		return err_set(err, -ENODEV, "'%s' has not two members to compare", raid->name);
	if (raid->level->parity && raid->io.readable != raid->io.all)
		return err_set(err, -ENODEV,
		        "'%s' lacks a member: its parity can't be compared with anything",
		        raid->name);
	if (raid5_lacks_parity(raid)) {
		raid5_sync_consider(raid);
		return err_set(err, -EBUSY,
		        "'%s' has parity that was never made: that is done first", raid->name);
	}
	if (raid->check || raid->resync || raid->rebuild || (raid->raid5 && raid->raid5->sync))
		return err_set(
		        err, -EBUSY, "'%s' is being rebuilt, made equal or checked", raid->name);
	c = xcalloc(1, sizeof(*c));
	raid->check = c;
	raid_bdev_hold(raid);
	c->raid = raid;
	c->repair = repair;
	c->timer.fire = timer_fired;
	c->begun_ns = loop_now_ns(loop_self());
	step_at(c, 0);
	return 0;
}

bool raid_check_stop(struct raid *raid)
{
	struct raid_check *c = raid->check;

	if (!c)
		return false;
	c->stopping = true;
	step_at(c, 0);
	return true;
}

json_t *raid_check_describe(const struct raid *raid)
{
	const struct raid_check *c = raid->check;
	const struct raid_checked *last = &raid->checked;

	if (c)
		return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I}", "state", "running", "repair",
		        (int)c->repair, "blocks", (json_int_t)blocks_done(c), "different_blocks",
		        (json_int_t)c->different_blocks, "repaired_blocks",
		        (json_int_t)c->repaired_blocks, "unreadable_blocks",
		        (json_int_t)c->unreadable_blocks);
	if (!last->valid)
		return NULL;
	return json_pack("{s:s, s:I, s:I, s:I}", "state", last->stopped ? "stopped" : "finished",
	        "different_blocks", (json_int_t)last->different_blocks, "repaired_blocks",
	        (json_int_t)last->repaired_blocks, "unreadable_blocks",
	        (json_int_t)last->unreadable_blocks);
}
