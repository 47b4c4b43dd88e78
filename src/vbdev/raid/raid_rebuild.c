/*
 * raid_rebuild.c: a new or stale member gets all data, window by window, while the array is in use.
 *
 * From the moment when it is in its slot the target gets every write, wherever the copy is; it is
 * read by nobody. A window is copied with its range locked, so what has been copied stays current,
 * and what is written above is copied once more. It counts as a member when it has everything, that
 * is flushed, and all superblocks say so.
 */
#include <errno.h>

#include "base/log.h"
#include "base/plant.h"
#include "vbdev/raid/raid_bitmap.h"
#include "vbdev/raid/raid_tell.h"

/* Between checkpoints; or less where a part of the array has been copied. */
#define SAVE_NS (5 * NSEC_PER_SEC)
#define SAVE_SOON_NS (50 * NSEC_PER_MSEC)
#define SAVE_PARTS 8
#define WINDOWS 4 /* under way at once: the lock of one is waited for while others are copied */

struct window {
	struct raid_copy copy;
	struct raid_rebuild *rebuild;
	uint64_t buf_bytes;
	bool busy;
};

struct raid_rebuild {
	struct window windows[WINDOWS];
	unsigned busy;
	struct raid *raid;
	unsigned slot;
	bool stopping;  /* ends at its next step */
	bool recording; /* everything is copied */
	bool paused;
	bool flushing;
	char why[ERR_TEXT_MAX];
	uint64_t *missed;                   /* regions that it lacks; NULL: it lacks everything */
	uint64_t next_block, copied_blocks; /* of the member */
	uint64_t lacking_blocks;
	uint64_t end_block; /* when all was copied */
	bool cancelled;
	bool target_left;   /* what is in its slot now is another one, or the same once more */
	bool saving;        /* a checkpoint */
	uint64_t begun_seq; /* whatever the target was before has no higher one */
	uint64_t saved_block, saved_ns;
	struct bio save_flush;
	uint64_t begun_ns;
	uint64_t paused_ns, pause_begun_ns; /* earlier pauses; the present one */
	struct loop_timer timer;
	struct bio flush;
};

static void begin_next(struct raid *raid);
static void step(struct raid_rebuild *rb);

static void free_rebuild(struct raid_rebuild *rb)
{
	loop_timer_stop(loop_self(), &rb->timer);
	for (unsigned i = 0; i < WINDOWS; i++)
		free(rb->windows[i].copy.buf);
	free(rb->missed);
	free(rb);
}

static void timer_fired(struct loop_timer *timer)
{
	step(container_of(timer, struct raid_rebuild, timer));
}

static void step_at(struct raid_rebuild *rb, uint64_t due_ns)
{
	loop_timer_start(loop_self(), &rb->timer, max_u64(due_ns, loop_now_ns(loop_self())));
}

/* ---- the end ---- */

static void detached(void *arg, const struct err *err)
{
	(void)err;
	raid_unhold(arg);
}

static void target_left(void *arg, const struct err *err)
{
	struct raid_slot *slot = arg;
	struct raid *raid = slot->raid;
	unsigned index = (unsigned)(slot - raid->slots);

	(void)err;
	if (raid->bdev && raid->bdev->state == BDEV_ONLINE && raid->bdev->bases[index])
		bdev_base_detach(raid->bdev, index, (struct bdev_done){detached, raid});
	else
		raid_unhold(raid);
}

static void failed(struct raid_rebuild *rb)
{
	struct raid *raid = rb->raid;
	struct raid_slot *slot = &raid->slots[rb->slot];

	log_error("raid", "'%s': the rebuild of '%s' ended after %llu blocks: %s", raid->name,
	        slot->name, (unsigned long long)rb->copied_blocks, rb->why);
	bdev_event_raise("raid_rebuild_failed", raid->name,
	        json_pack("{s:s, s:I, s:s}", "target", slot->name, "blocks",
	                (json_int_t)rb->copied_blocks, "why", rb->why));
	raid->rebuild = NULL;
	if (!rb->target_left && slot->use == SLOT_TARGET && raid->bdev->state == BDEV_ONLINE) {
		autofree char *text =
		        xasprintf("'%s' could not be rebuilt: %s", slot->name, rb->why);

		raid_problem(
		        raid, "rebuild", text, "add a good member with bdev_raid_add_base_bdev");
		raid_hold(raid);
		raid_member_leave(raid, rb->slot, rb->cancelled ? RAID_SB_MISSING : RAID_SB_FAILED,
		        (struct bdev_done){target_left, slot});
	}
	free_rebuild(rb);
	begin_next(raid);
	raid_bdev_unhold(raid);
}

static void recorded(void *arg, const struct err *err)
{
	struct raid_rebuild *rb = arg;
	struct raid *raid = rb->raid;
	struct raid_slot *slot = &raid->slots[rb->slot];
	uint64_t ms = (loop_now_ns(loop_self()) - rb->begun_ns) / NSEC_PER_MSEC;

	raid->rebuild = NULL;
	if (!err && !rb->target_left && slot->use == SLOT_IN) {
		__atomic_fetch_or(&raid->io.readable, 1ULL << rb->slot, __ATOMIC_SEQ_CST);
		log_notice("raid", "'%s': '%s' has been rebuilt in %llu ms", raid->name, slot->name,
		        (unsigned long long)ms);
		bdev_event_raise("raid_rebuild_finished", raid->name,
		        json_pack("{s:s, s:I}", "target", slot->name, "ms", (json_int_t)ms));
		raid_problem(raid, "rebuild", NULL, NULL);
		/* Parity of new stripes has waited for it. */
		if (raid->level->parity) {
			raid5_rebuilt(raid, rb->missed ? 0 : rb->end_block);
			bdev_geometry_changed(raid->bdev, NULL, NULL);
		}
		raid_say_degraded(raid, false);
	}
	free_rebuild(rb);
	begin_next(raid);
	raid_bdev_unhold(raid);
}

/* It also has the bitmap. From here on it counts, as soon as that is recorded. */
static void pages_written(void *arg, const struct err *err)
{
	struct raid_rebuild *rb = arg;
	struct raid *raid = rb->raid;
	struct raid_slot *slot = &raid->slots[rb->slot];

	if (err || rb->target_left || slot->use != SLOT_TARGET) {
		recorded(rb, err);
		return;
	}
	if (raid_member_blocks(raid) > rb->end_block && raid->level->parity) {
		rb->recording = rb->flushing = false; /* it has grown meanwhile */
		step_at(rb, 0);
		return;
	}
	slot->use = SLOT_IN;
	slot->fresh = true;
	if (!raid->superblock) {
		recorded(rb, NULL);
		return;
	}
	raid_bitmap_left(raid, rb->slot, false);
	raid_bitmap_joined(raid, rb->slot);
	raid_sb_update(raid, raid->bdev->geometry.num_blocks);
	raid_store(raid, (struct bdev_done){recorded, rb});
}

static void flushed(struct bio *bio)
{
	struct raid_rebuild *rb = container_of(bio, struct raid_rebuild, flush);
	struct raid *raid = rb->raid;

	if (bio->status != 0 && bio->status != -EOPNOTSUPP) {
		str_copy(rb->why, sizeof(rb->why), "its target can't be flushed");
		rb->stopping = true;
	}
	if (rb->stopping) {
		failed(rb);
		return;
	}
	rb->recording = true;
	raid_bitmap_write_all(raid, (struct bdev_done){pages_written, rb});
}

/* ---- checkpoints: what is on the target for good ---- */

static void end_saving(struct raid_rebuild *rb)
{
	rb->saving = false;
	rb->saved_ns = loop_now_ns(loop_self());
	step_at(rb, 0);
}

static void saved(void *arg, const struct err *err)
{
	(void)err;
	end_saving(arg);
}

static void save_flushed(struct bio *bio)
{
	struct raid_rebuild *rb = container_of(bio, struct raid_rebuild, save_flush);

	if (bio->status != 0 || rb->stopping) {
		end_saving(rb);
		return;
	}
	raid_bitmap_checkpoint(rb->raid, rb->slot, rb->saved_block, rb->begun_seq);
	raid_store_ext(rb->raid, (struct bdev_done){saved, rb});
}

/* Everything below the first window that is under way. A member that lacks little begins again. */
static void save(struct raid_rebuild *rb)
{
	struct raid *raid = rb->raid;
	uint64_t block = rb->next_block, since_ns, part;

	if (rb->saving || rb->missed || !raid->bitmap || !raid->bitmap->regions)
		return;
	for (unsigned i = 0; i < WINDOWS; i++) {
		if (rb->windows[i].busy && !PLANT(RAID5_CHECKPOINT_AHEAD))
			block = min_u64(block, rb->windows[i].copy.offset_blocks);
	}
	since_ns = loop_now_ns(loop_self()) - rb->saved_ns;
	part = raid_member_blocks(raid) / SAVE_PARTS;
	if (block == rb->saved_block || since_ns < SAVE_SOON_NS ||
	        (since_ns < SAVE_NS && block - rb->saved_block < part))
		return;
	rb->saving = true;
	rb->saved_block = block;
	bio_init(&rb->save_flush, BIO_FLUSH, NULL, 0, 0, save_flushed, NULL);
	bio_submit_bdev(raid->slots[rb->slot].bdev, &rb->save_flush, 0);
}

static void window_done(struct raid_copy *copy)
{
	struct window *w = container_of(copy, struct window, copy);
	struct raid_rebuild *rb = w->rebuild;

	w->busy = false;
	rb->busy--;
	raid_pace_end(rb->raid);
	if (copy->status == 0) {
		rb->copied_blocks += copy->num_blocks;
		raid_tell_progress(rb->raid);
	} else if (!rb->stopping) {
		rb->stopping = true;
		str_copy(rb->why, sizeof(rb->why),
		        copy->target_failed ? "its target can't be written"
		                            : "no other member can be read there");
	}
	step_at(rb, 0);
}

static bool start_window(struct raid_rebuild *rb, uint64_t num_blocks)
{
	uint32_t block_bytes = rb->raid->block_bytes;
	uint64_t bytes = num_blocks * block_bytes * raid_data_members(rb->raid);
	struct window *w = rb->windows;

	while (w->busy)
		w++;
	if (bytes > w->buf_bytes) {
		free(w->copy.buf);
		w->copy.buf = try_alloc_aligned(4096, align_up_u64(bytes, 4096));
		w->buf_bytes = w->copy.buf ? bytes : 0;
	}
	if (!w->copy.buf)
		return false;
	w->busy = true;
	rb->busy++;
	raid_pace_begin(rb->raid, bytes);
	w->rebuild = rb;
	w->copy.raid = rb->raid;
	w->copy.slot = rb->slot;
	w->copy.done = window_done;
	w->copy.offset_blocks = rb->next_block;
	w->copy.num_blocks =
	        PLANT(RAID_WINDOW_SHORT) && num_blocks > 1 ? num_blocks - 1 : num_blocks;
	rb->next_block += num_blocks;
	raid_copy_start(&w->copy);
	return true;
}

/* Of each member. Whole strips where it holds one. */
static uint64_t window_blocks(const struct raid *raid)
{
	uint64_t blocks =
	        raid_pace_window_bytes(raid) / raid->block_bytes / raid_data_members(raid);
	uint64_t strip = 1ULL << raid->io.strip_shift;

	return max_u64(blocks > strip ? blocks & ~(strip - 1) : blocks, 1);
}

/* As many windows as may be. */
static void start_windows(struct raid_rebuild *rb, uint64_t total)
{
	struct raid *raid = rb->raid;
	uint64_t window = window_blocks(raid), due_ns;

	while (rb->busy < WINDOWS && rb->next_block < total) {
		uint64_t n = total - rb->next_block;

		if (rb->missed && !raid_bitmap_next(raid, rb->missed, &rb->next_block, total, &n)) {
			rb->next_block = total;
			return;
		}
		n = min_u64(window, n);

		due_ns = raid_pace_next(raid);
		if (due_ns) {
			step_at(rb, due_ns);
			return;
		}
		if (!start_window(rb, n)) {
			str_copy(rb->why, sizeof(rb->why), "there is no memory for a window");
			rb->stopping = true;
			step_at(rb, 0);
			return;
		}
	}
}

static void step(struct raid_rebuild *rb)
{
	struct raid *raid = rb->raid;
	uint64_t total = raid->level->used(raid, raid->bdev->geometry.num_blocks, rb->slot);

	if (rb->flushing || (rb->stopping && (rb->busy > 0 || rb->saving)))
		return;
	if (rb->stopping) {
		failed(rb);
		return;
	}
	if (rb->paused)
		return;
	start_windows(rb, total);
	save(rb);
	if (rb->busy > 0 || rb->next_block < total || rb->stopping || rb->saving)
		return;
	rb->flushing = true;
	rb->end_block = total;
	bio_init(&rb->flush, BIO_FLUSH, NULL, 0, 0, flushed, NULL);
	bio_submit_bdev(raid->slots[rb->slot].bdev, &rb->flush, 0);
}

/* ---- the beginning ---- */

static void named(void *arg, const struct err *err)
{
	(void)err;
	end_saving(arg);
}

/* So that it is known after a restart, and a superblock of it newer than whatever the disk had
 * before: by that a checkpoint tells its target from what that disk was once. */
static void name_target(struct raid_rebuild *rb)
{
	struct raid *raid = rb->raid;
	const struct raid_slot *slot = &raid->slots[rb->slot];
	struct raid_sb_slot *entry = &raid->sb.slots[rb->slot];
	bool known = uuid_compare(entry->uuid, slot->uuid) == 0 &&
	             entry->data_offset_blocks == slot->data_offset_blocks;

	if (known && rb->missed) {
		step_at(rb, 0);
		return;
	}
	raid_bitmap_left(raid, rb->slot, false);
	uuid_copy(entry->uuid, slot->uuid);
	entry->data_offset_blocks = slot->data_offset_blocks;
	rb->saving = true;
	raid_store(raid, (struct bdev_done){named, rb});
}

static void count_lacking(struct raid_rebuild *rb)
{
	const struct raid *raid = rb->raid;
	uint64_t end = raid_member_blocks(raid), at = 0, n;

	while (raid_bitmap_next(raid, rb->missed, &at, end, &n)) {
		rb->lacking_blocks += n;
		at += n;
	}
	log_notice("raid", "'%s': '%s' is given the %llu blocks that it may lack", raid->name,
	        raid->slots[rb->slot].name, (unsigned long long)rb->lacking_blocks);
}

static void begin_next(struct raid *raid)
{
	struct raid_rebuild *rb;
	unsigned slot = 0;

	if (!raid->bdev || raid->bdev->state != BDEV_ONLINE || raid->rebuild)
		return;
	while (slot < raid->num_slots && raid->slots[slot].use != SLOT_TARGET)
		slot++;
	if (slot == raid->num_slots)
		return;
	rb = xcalloc(1, sizeof(*rb));
	raid->rebuild = rb;
	raid_bdev_hold(raid);
	rb->raid = raid;
	rb->slot = slot;
	rb->timer.fire = timer_fired;
	rb->begun_ns = loop_now_ns(loop_self());
	log_notice("raid", "'%s': rebuilding '%s'", raid->name, raid->slots[slot].name);
	bdev_event_raise("raid_rebuild_started", raid->name,
	        json_pack("{s:s, s:I}", "target", raid->slots[slot].name, "num_blocks",
	                (json_int_t)raid->bdev->geometry.num_blocks));
	raid->progress_told = (struct raid_told){.ns = rb->begun_ns};
	raid_say_degraded(raid, false);
	rb->saved_ns = rb->begun_ns;
	rb->begun_seq = raid->sb.seq;
	rb->missed = raid_bitmap_missed(raid, slot);
	if (rb->missed)
		count_lacking(rb);
	if (raid->bitmap)
		name_target(rb);
	else
		step_at(rb, 0);
}

void raid_rebuild_start(struct raid *raid, unsigned index, uint64_t seq)
{
	struct raid_slot *slot = &raid->slots[index];

	slot->use = SLOT_TARGET;
	slot->fresh = false;
	slot->seq = seq;
	slot->bdev = raid->bdev->bases[index];
	str_copy(slot->name, sizeof(slot->name), slot->bdev->name);
	uuid_copy(slot->uuid, slot->bdev->uuid);
	bdev_set_problem(slot->bdev, "raid member", NULL, NULL);
	raid->io.offset_blocks[index] = slot->data_offset_blocks;
	if (!PLANT(RAID_TARGET_SKIPPED))
		__atomic_fetch_or(&raid->io.writable, 1ULL << index, __ATOMIC_SEQ_CST);
	if (PLANT(RAID_TARGET_READ))
		__atomic_fetch_or(&raid->io.readable, 1ULL << index, __ATOMIC_SEQ_CST);
	begin_next(raid);
}

/* ---- from outside ---- */

static void stop(struct raid_rebuild *rb, const char *why)
{
	if (!rb->stopping)
		str_copy(rb->why, sizeof(rb->why), why);
	rb->stopping = true;
	step_at(rb, 0);
}

void raid_rebuild_stop(struct raid *raid, unsigned slot)
{
	struct raid_rebuild *rb = raid->rebuild;

	if (rb && slot == rb->slot)
		rb->target_left = true;
	if (rb && !rb->recording && (slot == RAID_SLOTS_MAX || slot == rb->slot))
		stop(rb, slot == RAID_SLOTS_MAX ? "the array stops" : "its target has gone");
}

int raid_rebuild_control(struct raid *raid, enum raid_process_action action, struct err *err)
{
	struct raid_rebuild *rb = raid->rebuild;
	uint64_t now_ns = loop_now_ns(loop_self());

	if (!rb || rb->stopping || rb->recording)
		return err_set(err, -ENOENT, "nothing is being rebuilt in '%s'", raid->name);
	if (action == RAID_CANCEL) {
		rb->cancelled = true;
		stop(rb, "it was cancelled");
	} else if (action == RAID_PAUSE && !rb->paused) {
		rb->paused = true;
		rb->pause_begun_ns = now_ns;
	} else if (action == RAID_RESUME && rb->paused) {
		rb->paused = false;
		rb->paused_ns += now_ns - rb->pause_begun_ns;
		step_at(rb, 0);
	}
	return 0;
}

bool raid_rebuild_progress(const struct raid *raid, struct raid_progress *out)
{
	const struct raid_rebuild *rb = raid->rebuild;
	uint64_t until_ns, ns, bytes, left_bytes;

	if (!rb || !raid->bdev)
		return false;
	until_ns = rb->paused ? rb->pause_begun_ns : loop_now_ns(loop_self());
	ns = until_ns - rb->begun_ns - rb->paused_ns;
	bytes = rb->copied_blocks * raid_data_members(raid) * raid->block_bytes;
	*out = (struct raid_progress){.slot = rb->slot,
	        .blocks = rb->copied_blocks * raid_data_members(raid),
	        .total_blocks = rb->missed ? rb->lacking_blocks * raid_data_members(raid)
	                                   : raid->bdev->geometry.num_blocks,
	        .paused = rb->paused};
	out->bytes_per_s = ns ? (uint64_t)((double)bytes * (double)NSEC_PER_SEC / (double)ns) : 0;
	left_bytes =
	        (out->total_blocks - min_u64(out->blocks, out->total_blocks)) * raid->block_bytes;
	out->left_s = out->bytes_per_s && !rb->paused ? left_bytes / out->bytes_per_s : UINT64_MAX;
	return true;
}

/* ---- a bdev that is to be a target ---- */

struct joining {
	struct raid *raid;
	unsigned slot;
	uint64_t seq;
	uint64_t offset_blocks, data_blocks; /* of the slot before */
	struct bdev_done done;
};

static void attached(void *arg, const struct err *err)
{
	struct joining *j = arg;
	struct raid *raid = j->raid;
	struct raid_slot *slot = &raid->slots[j->slot];

	slot->joining = false;
	if (!err && raid->bdev && raid->bdev->bases[j->slot]) {
		raid_rebuild_start(raid, j->slot, j->seq);
	} else if (slot->use == SLOT_FREE) {
		slot->data_offset_blocks = j->offset_blocks;
		slot->data_blocks = j->data_blocks;
	}
	bdev_done_call(j->done, err);
	raid_bdev_unhold(raid);
	free(j);
}

void raid_join(
        struct raid *raid, unsigned index, struct bdev *bdev, uint64_t seq, struct bdev_done done)
{
	struct raid_slot *slot = &raid->slots[index];
	const struct raid_slot before = *slot;
	struct err err = ERR_NONE;
	struct joining *j;

	if (slot->joining || slot->use != SLOT_FREE)
		err_set(&err, -EBUSY, "another one is taking the place in '%s'", raid->name);
	else if (raid->level->parity)
		raid5_check_complete(raid, &err);
	if (err.code) {
		bdev_done_call(done, &err);
		return;
	}
	slot->data_offset_blocks = raid_known_offset(raid, index, bdev);
	slot->data_blocks = raid->level->used(raid, raid->bdev->geometry.num_blocks, index);
	if (raid_member_fits(raid, index, bdev, &err) != 0) {
		slot->data_offset_blocks = before.data_offset_blocks;
		slot->data_blocks = before.data_blocks;
		bdev_done_call(done, &err);
		return;
	}
	slot->joining = true;
	j = xcalloc(1, sizeof(*j));
	*j = (struct joining){.raid = raid,
	        .slot = index,
	        .seq = seq,
	        .offset_blocks = before.data_offset_blocks,
	        .data_blocks = before.data_blocks,
	        .done = done};
	raid_bdev_hold(raid);
	bdev_base_attach(raid->bdev, index, bdev, (struct bdev_done){attached, j});
}
