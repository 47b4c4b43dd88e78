/*
 * raid5_sync.c: parity that may not be believed is compared with the data, and made right, from the
 * first such stripe to the end, while the array is in use. It needs all members; without one of
 * them it ends, and what it has not reached stays unbelieved.
 */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/plant.h"
#include "vbdev/raid/raid5.h"

#define WINDOWS 4
/* Between checkpoints; or less where a part of the array is done. */
#define SAVE_NS (5 * NSEC_PER_SEC)
#define SAVE_SOON_NS (50 * NSEC_PER_MSEC)
#define SAVE_PARTS 8

struct sync_window {
	struct raid5_job job;
	struct raid5_sync *sync;
	uint64_t buf_rows;
	bool busy;
	bool cured; /* what one of them could not read was made up, and is read once more */
};

struct raid5_sync {
	struct raid *raid;
	struct sync_window windows[WINDOWS];
	unsigned busy;
	bool stopping;
	int status;
	uint64_t next_row, mended_rows;
	uint64_t first_row, begun_ns;
	uint64_t saved_rows, saved_ns;
	struct loop_timer timer;
};

static void publish(struct raid5_sync *sync)
{
	uint64_t valid = sync->next_row;

	for (unsigned i = 0; i < WINDOWS; i++) {
		if (sync->windows[i].busy && !PLANT(RAID5_SYNC_AHEAD))
			valid = min_u64(valid, sync->windows[i].job.rows.lo);
	}
	raid5_set_valid(sync->raid, valid);
}

static void sync_end(struct raid5_sync *sync)
{
	struct raid *raid = sync->raid;
	uint64_t valid = raid->io.valid_rows, total = raid_member_blocks(raid);
	bool lacks = raid->io.readable != raid->io.all;

	raid->raid5->sync = NULL;
	raid5_save_valid(raid);
	loop_timer_stop(loop_self(), &sync->timer);
	if (sync->mended_rows)
		log_notice("raid", "'%s': parity of %llu blocks of its members was not right",
		        raid->name, (unsigned long long)sync->mended_rows);
	if (valid >= total) {
		log_notice("raid", "'%s': all parity is valid", raid->name);
		bdev_event_raise("raid_resync_finished", raid->name,
		        json_pack("{s:I}", "mended_blocks", (json_int_t)sync->mended_rows));
		raid_problem(raid, "parity", NULL, NULL);
	} else if (raid->state == RAID_ONLINE && !(lacks && raid5_is_complete(&raid->io))) {
		autofree char *text = xasprintf(
		        "raid5f '%s': parity is valid for %llu of %llu blocks of each member, and "
		        "can't be completed: %s",
		        raid->name, (unsigned long long)valid, (unsigned long long)total,
		        lacks ? "a member is missing" : "a member can't be read");

		log_warning("raid", "%s", text);
		raid_problem(raid, "parity", text,
		        "bring all members back; or say that it is right: bdev_raid_start with "
		        "trust_parity");
	}
	for (unsigned i = 0; i < WINDOWS; i++)
		free(sync->windows[i].job.buf);
	free(sync);
	raid5_sync_ended(raid);
	raid_bdev_unhold(raid);
}

static void step(struct raid5_sync *sync);

static void step_later(struct raid5_sync *sync, uint64_t due_ns)
{
	loop_timer_start(loop_self(), &sync->timer, max_u64(due_ns, loop_now_ns(loop_self())));
}

static void timer_fired(struct loop_timer *timer)
{
	step(container_of(timer, struct raid5_sync, timer));
}

/* So that a restart goes on from there. */
static void save(struct raid5_sync *sync)
{
	uint64_t now_ns = loop_now_ns(loop_self()), rows = sync->raid->io.valid_rows;
	uint64_t part = raid_member_blocks(sync->raid) / SAVE_PARTS;

	if (now_ns - sync->saved_ns < SAVE_SOON_NS ||
	        (now_ns - sync->saved_ns < SAVE_NS && rows - sync->saved_rows < part))
		return;
	sync->saved_ns = now_ns;
	sync->saved_rows = rows;
	raid5_save_valid(sync->raid);
}

/* One member can't read all of it, and nothing there is older than the array: what the others make
 * up for it is all that was ever written. */
static bool may_cure(const struct sync_window *w)
{
	const struct raid_io *io = &w->sync->raid->io;

	return w->job.status != 0 && w->job.unread != 0 && !w->cured && !w->sync->stopping &&
	       (w->job.unread & (w->job.unread - 1)) == 0 && io->readable == io->all &&
	       w->job.rows.lo >= io->fresh_rows;
}

static void window_done(struct raid5_job *job)
{
	struct sync_window *w = container_of(job, struct sync_window, job);
	struct raid5_sync *sync = w->sync;

	if (may_cure(w)) {
		w->cured = true;
		job->slot = (unsigned)__builtin_ctzll(job->unread);
		job->kind = RAID5_JOB_COPY;
		raid5_job_start(job);
		return;
	}
	if (job->kind == RAID5_JOB_COPY && job->status == 0) {
		job->kind = RAID5_JOB_SYNC;
		raid5_job_start(job);
		return;
	}
	if (job->kind == RAID5_JOB_COPY && job->target_failed)
		raid_suspect(sync->raid, job->slot);
	sync->busy--;
	raid_pace_end(sync->raid);
	if (job->status != 0) {
		/* It stays busy, so that nothing behind it is published. */
		sync->status = job->status;
		sync->stopping = true;
	} else {
		w->busy = false;
		sync->mended_rows += job->wrong_rows;
		sync->raid->raid5->mended_rows += job->wrong_rows;
	}
	publish(sync);
	save(sync);
	step_later(sync, 0);
}

/* A buffer for each member and one for their sum. */
static bool have_buffer(const struct raid *raid, struct sync_window *w, uint64_t rows)
{
	uint64_t bytes = (raid->num_slots + 1) * rows * raid->block_bytes;

	if (rows > w->buf_rows) {
		free(w->job.buf);
		w->job.buf = try_alloc_aligned(4096, align_up_u64(bytes, 4096));
		w->buf_rows = w->job.buf ? rows : 0;
	}
	return w->job.buf != NULL;
}

static uint64_t window_rows(const struct raid *raid)
{
	uint64_t row_bytes = (uint64_t)raid->block_bytes * raid_data_members(raid);

	return max_u64(raid_pace_window_bytes(raid) / row_bytes, 1);
}

static bool start_window(struct raid5_sync *sync, uint64_t total)
{
	const struct raid *raid = sync->raid;
	struct sync_window *w = sync->windows;
	uint64_t rows = min_u64(window_rows(raid), total - sync->next_row);

	while (w->busy)
		w++;
	if (!have_buffer(raid, w, rows))
		return false;
	w->sync = sync;
	w->busy = true;
	w->cured = false;
	w->job.raid = sync->raid;
	w->job.kind = RAID5_JOB_SYNC;
	w->job.done = window_done;
	w->job.rows.lo = sync->next_row;
	w->job.rows.hi = sync->next_row + rows;
	sync->next_row = w->job.rows.hi;
	sync->busy++;
	raid_pace_begin(sync->raid, rows * raid->num_slots * raid->block_bytes);
	raid5_job_start(&w->job);
	return true;
}

static void step(struct raid5_sync *sync)
{
	struct raid *raid = sync->raid;
	uint64_t total = raid_member_blocks(raid), due_ns;

	if (raid->io.readable != raid->io.all)
		sync->stopping = true;
	while (!sync->stopping && sync->busy < WINDOWS && sync->next_row < total) {
		due_ns = raid_pace_next(raid);
		if (due_ns) {
			step_later(sync, due_ns);
			return;
		}
		if (!start_window(sync, total))
			sync->stopping = true;
	}
	if (sync->busy == 0)
		sync_end(sync);
}

void raid5_sync_consider(struct raid *raid)
{
	uint64_t valid = raid->io.valid_rows, total = raid_member_blocks(raid);
	struct raid5_sync *sync;

	if (raid->raid5->sync || valid >= total || raid->io.readable != raid->io.all)
		return;
	sync = xcalloc(1, sizeof(*sync));
	sync->raid = raid;
	sync->next_row = sync->first_row = valid;
	sync->begun_ns = sync->saved_ns = loop_now_ns(loop_self());
	sync->saved_rows = valid;
	sync->timer.fire = timer_fired;
	raid->raid5->sync = sync;
	raid_bdev_hold(raid);
	log_notice("raid", "'%s': making parity right from block %llu of its members on",
	        raid->name, (unsigned long long)valid);
	bdev_event_raise("raid_resync_started", raid->name,
	        json_pack("{s:I, s:I}", "from_blocks", (json_int_t)valid, "num_blocks",
	                (json_int_t)total));
	step_later(sync, 0);
}

void raid5_sync_resized(struct raid *raid)
{
	struct raid5_sync *sync = raid->raid5->sync;
	uint64_t total = raid_member_blocks(raid);

	if (sync)
		sync->next_row = min_u64(sync->next_row, total);
	raid5_set_valid(raid, min_u64(raid->io.valid_rows, total));
	raid5_sync_consider(raid);
}

void raid5_sync_stop(struct raid *raid)
{
	struct raid5_sync *sync = raid->raid5->sync;

	if (!sync)
		return;
	sync->stopping = true;
	step_later(sync, 0);
}

bool raid5_sync_progress(const struct raid *raid, struct raid_progress *out)
{
	const struct raid5_sync *sync = raid->raid5 ? raid->raid5->sync : NULL;
	uint64_t ns, data = raid->num_slots - 1, total, bytes;

	if (!sync || !raid->bdev)
		return false;
	total = raid_member_blocks(raid);
	ns = loop_now_ns(loop_self()) - sync->begun_ns;
	bytes = (raid->io.valid_rows - sync->first_row) * data * raid->block_bytes;
	*out = (struct raid_progress){.slot = RAID_SLOTS_MAX,
	        .blocks = raid->io.valid_rows * data,
	        .total_blocks = total * data};
	out->bytes_per_s = ns ? (uint64_t)((double)bytes * (double)NSEC_PER_SEC / (double)ns) : 0;
	out->left_s = out->bytes_per_s ? (out->total_blocks - out->blocks) * raid->block_bytes /
	                                         out->bytes_per_s
	                               : UINT64_MAX;
	return true;
}
