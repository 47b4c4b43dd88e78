/*
 * raid_bitmap.c: setting and forgetting bits on the members. One pass of writing at a time; what is
 * asked for meanwhile goes with the next.
 */
#include "vbdev/raid/raid_bitmap.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"

#define LOOK_NS (5 * NSEC_PER_SEC)
#define SPAN_REGIONS 1024 /* locked at once to be forgotten */

struct pass_waiter {
	struct list link;
	struct bdev_done done;
};

uint64_t raid_bitmap_used(const struct raid_bitmap *b)
{
	return min_u64(((raid_member_blocks(b->raid) - 1) >> b->shift) + 1, b->num_regions);
}

/* ---- passes -----------------------------------------------------------------------------------
 */

static void dirty_pages(struct raid_bitmap *b, uint32_t first, uint32_t end)
{
	if (b->first_page >= b->end_page) {
		b->first_page = first;
		b->end_page = end;
		return;
	}
	b->first_page = (uint32_t)min_u64(b->first_page, first);
	b->end_page = (uint32_t)max_u64(b->end_page, end);
}

void raid_bitmap_put(struct raid_bitmap *b, uint64_t r, bool on)
{
	uint8_t bit = (uint8_t)(1U << (r % 8));
	uint32_t page = (uint32_t)(r / RAID_PAGE_REGIONS);

	b->bits[r / 8] = (uint8_t)(on ? b->bits[r / 8] | bit : b->bits[r / 8] & ~bit);
	dirty_pages(b, page, page + 1);
}

/* Lets go on, or fails, what waits on the loops. */
static void admit(struct raid_bitmap *b, bool refuse)
{
	const struct bdev *bdev = b->raid->bdev;

	for (unsigned i = 0; i < loops_count(); i++) {
		struct raid_loop *state = bdev->loops[i].state;

		if (refuse)
			__atomic_store_n(&state->refuse, true, __ATOMIC_SEQ_CST);
		if (!__atomic_exchange_n(&state->admit_sent, true, __ATOMIC_SEQ_CST))
			loop_send(loop_get(i), &state->admit);
	}
}

static bool has_fresh(const struct raid_bitmap *b)
{
	for (uint64_t i = 0; i < b->num_words; i++) {
		if (b->fresh[i])
			return true;
	}
	return false;
}

static void finish(struct raid_bitmap *b, const struct err *err)
{
	struct raid *raid = b->raid;
	struct list waiters = LIST_INIT(waiters);

	for (uint64_t i = 0; i < b->num_words; i++) {
		for (uint64_t left = err ? 0 : b->passing[i]; left != 0; left &= left - 1)
			__atomic_fetch_or(&b->regions[i * 64 + (unsigned)__builtin_ctzll(left)],
			        REGION_READY, __ATOMIC_SEQ_CST);
		b->passing[i] = 0;
	}
	free(b->buf);
	b->buf = NULL;
	b->running = false;
	list_splice_back(&waiters, &b->waiters);
	list_splice_back(&b->waiters, &b->next_waiters);
	if (!b->closing) /* nobody waits, and the loops' parts are about to go */
		admit(b, err != NULL);
	while (!list_empty(&waiters)) {
		struct pass_waiter *w =
		        list_entry(list_pop_front(&waiters), struct pass_waiter, link);
		struct bdev_done done = w->done;

		free(w);
		bdev_done_call(done, err);
	}
	if (raid->bitmap == b && (b->first_page < b->end_page || has_fresh(b)))
		raid_bitmap_start_pass(b);
	raid_bdev_unhold(raid);
}

static void recorded(void *arg, const struct err *err)
{
	finish(arg, err);
}

static void pass_done(struct raid_bitmap *b)
{
	struct raid *raid = b->raid;
	struct err err = ERR_NONE;
	bool record = false;

	for (uint64_t left = b->closing ? 0 : b->failed; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		log_error("raid", "'%s': the bitmap can't be written to '%s'", raid->name,
		        raid->slots[i].name);
		record |= raid_member_failed_in_store(raid, i) && raid->state == RAID_ONLINE;
	}
	if (b->written < raid_needed(raid) && !b->closing)
		err_set(&err, -EIO, "too few members of '%s' could be written", raid->name);
	/* Whoever starts without those that have failed must find that recorded. */
	if (err.code == 0 && record)
		raid_store(raid, (struct bdev_done){recorded, b});
	else
		finish(b, err.code ? &err : NULL);
}

struct page_write {
	struct raid_bitmap *b;
	unsigned slot;
};

static void page_written(void *arg, const struct err *err)
{
	struct page_write *w = arg;
	struct raid_bitmap *b = w->b;

	if (err)
		b->failed |= 1ULL << w->slot;
	else
		b->written += b->raid->slots[w->slot].use != SLOT_TARGET;
	free(w);
	if (--b->pending == 0)
		pass_done(b);
}

static void encode_pages(struct raid_bitmap *b, uint32_t first, uint32_t end)
{
	b->generation++;
	for (uint32_t p = first; p < end; p++) {
		uint8_t *to = (uint8_t *)b->buf + (size_t)(p - first) * RAID_PAGE_BYTES;

		raid_page_encode(b->raid->uuid, p, b->generation,
		        b->bits + (size_t)p * (RAID_PAGE_REGIONS / 8), to);
	}
}

void raid_bitmap_start_pass(struct raid_bitmap *b)
{
	struct raid *raid = b->raid;
	uint32_t block_bytes = raid->block_bytes;
	uint32_t unit = block_bytes > RAID_PAGE_BYTES ? block_bytes / RAID_PAGE_BYTES : 1;
	uint32_t first, end;
	uint64_t from, blocks;

	if (b->running)
		return;
	for (uint64_t i = 0; i < b->num_words; i++) {
		b->passing[i] = b->fresh[i];
		b->fresh[i] = 0;
		for (uint64_t left = b->passing[i]; left != 0; left &= left - 1)
			raid_bitmap_put(b, i * 64 + (unsigned)__builtin_ctzll(left), true);
	}
	b->running = true;
	raid_bdev_hold(raid);
	first = b->first_page / unit * unit;
	end = (b->end_page + unit - 1) / unit * unit;
	b->first_page = b->end_page = 0;
	b->pending = 1;
	b->written = 0;
	b->failed = 0;
	b->buf = try_alloc_aligned(4096, (size_t)(end - first) * RAID_PAGE_BYTES);
	BELLOWS_ASSERT(b->buf);
	encode_pages(b, first, (uint32_t)min_u64(end, b->num_pages));
	from = (RAID_BITMAP_BYTES_OFFSET + (uint64_t)first * RAID_PAGE_BYTES) / block_bytes;
	blocks = (uint64_t)(end - first) * RAID_PAGE_BYTES / block_bytes;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct raid_slot *slot = &raid->slots[i];
		struct page_write *w;

		if (slot->use != SLOT_IN && slot->use != SLOT_TARGET)
			continue;
		w = xcalloc(1, sizeof(*w));
		*w = (struct page_write){.b = b, .slot = i};
		b->pending++;
		bdev_write_meta(
		        slot->bdev, from, blocks, b->buf, (struct bdev_done){page_written, w});
	}
	if (--b->pending == 0)
		pass_done(b);
}

void raid_bitmap_write_all(struct raid *raid, struct bdev_done done)
{
	struct raid_bitmap *b = raid->bitmap;
	struct pass_waiter *w;

	if (!b || !b->regions) {
		bdev_done_call(done, NULL);
		return;
	}
	dirty_pages(b, 0, b->num_pages);
	w = xcalloc(1, sizeof(*w));
	w->done = done;
	list_init(&w->link);
	/* One that is under way does not have all of them; its waiters are answered before. */
	if (b->running) {
		list_push_back(&b->next_waiters, &w->link);
		return;
	}
	list_push_back(&b->waiters, &w->link);
	raid_bitmap_start_pass(b);
}

void raid_bitmap_look(struct raid *raid)
{
	struct raid_bitmap *b = raid->bitmap;
	bool there = false, more = false;

	if (!b || !b->regions || !__atomic_exchange_n(&b->any_wanted, false, __ATOMIC_SEQ_CST))
		return;
	for (uint64_t i = 0; i < b->num_words; i++) {
		uint64_t want = __atomic_load_n(&b->wanted[i], __ATOMIC_ACQUIRE);

		if (want == 0)
			continue;
		want = __atomic_exchange_n(&b->wanted[i], 0, __ATOMIC_SEQ_CST);
		for (; want != 0; want &= want - 1) {
			uint64_t r = i * 64 + (unsigned)__builtin_ctzll(want);
			bool durable =
			        __atomic_load_n(&b->regions[r], __ATOMIC_ACQUIRE) & REGION_DURABLE;

			there |= durable;
			more |= !durable;
			if (!durable && !raid_bit(b->passing, r))
				raid_bit_put(b->fresh, r, true);
		}
	}
	if (there)
		admit(b, false);
	if (more)
		raid_bitmap_start_pass(b);
}

/* ---- forgetting -------------------------------------------------------------------------------
 */

static bool may_forget(const struct raid *raid)
{
	return raid->state == RAID_ONLINE && !raid->rebuild &&
	       (raid_present(raid) == raid->num_slots || PLANT(RAID_BITS_FORGOTTEN));
}

static void end_forgetting(struct raid_bitmap *b)
{
	b->clearing = false;
	raid_bdev_unhold(b->raid);
}

static void forget(void *arg, const struct err *err)
{
	struct raid_bitmap *b = arg;
	struct raid *raid = b->raid;
	bool ok = !err && may_forget(raid) && raid->sb.seq == b->clear_seq && !b->closing;
	bool any = false;

	for (uint64_t i = 0; i < b->num_words; i++) {
		for (uint64_t left = b->cleared[i]; left != 0; left &= left - 1) {
			uint64_t r = i * 64 + (unsigned)__builtin_ctzll(left);
			bool durable =
			        __atomic_load_n(&b->regions[r], __ATOMIC_ACQUIRE) & REGION_DURABLE;

			if (durable || raid_bit(b->fresh, r) || raid_bit(b->passing, r))
				continue;
			if (ok) {
				raid_bitmap_put(b, r, false);
				any = true;
			} else { /* it still stands there */
				__atomic_fetch_or(&b->regions[r], REGION_DURABLE, __ATOMIC_SEQ_CST);
			}
		}
		b->cleared[i] = 0;
	}
	if (any)
		raid_bitmap_start_pass(b);
	end_forgetting(b);
}

static void lock_next(struct raid_bitmap *b);

static void locked(void *arg, const struct err *err)
{
	struct raid_bitmap *b = arg;

	if (err) {
		forget(b, err);
		return;
	}
	for (uint64_t r = b->from_region; r < b->at_region; r++) {
		uint8_t region = __atomic_load_n(&b->regions[r], __ATOMIC_ACQUIRE);

		if (region != REGION_DURABLE)
			continue;
		__atomic_fetch_and(&b->regions[r], (uint8_t)~REGION_DURABLE, __ATOMIC_SEQ_CST);
		raid_bit_put(b->cleared, r, true);
	}
	bdev_range_unlock(b->raid->bdev, &b->range);
	lock_next(b);
}

static bool is_idle(struct raid_bitmap *b, uint64_t r)
{
	return __atomic_load_n(&b->regions[r], __ATOMIC_ACQUIRE) == REGION_DURABLE;
}

/* Nothing is in flight in a region while its range is locked. */
static void lock_next(struct raid_bitmap *b)
{
	uint64_t used = raid_bitmap_used(b), data = raid_data_members(b->raid);

	while (b->at_region < used && !is_idle(b, b->at_region))
		b->at_region++;
	if (b->at_region == used || b->raid->bdev->state != BDEV_ONLINE) {
		if (PLANT(RAID5_FORGOTTEN_UNFLUSHED))
			forget(b, NULL);
		else
			raid_flush_members(b->raid, (struct bdev_done){forget, b});
		return;
	}
	b->from_region = b->at_region;
	b->at_region = min_u64(b->from_region + SPAN_REGIONS, used);
	b->range = (struct bdev_range){
	        .offset_blocks = (b->from_region << b->shift) * data, .locked = {locked, b}};
	b->range.num_blocks = b->at_region == b->num_regions
	                              ? UINT64_MAX - b->range.offset_blocks
	                              : ((b->at_region - b->from_region) << b->shift) * data;
	list_init(&b->range.link);
	bdev_range_lock(b->raid->bdev, &b->range);
}

static void seq_stored(void *arg, const struct err *err)
{
	(void)err;
	raid_unhold(arg);
}

/* What has been left alone since the last look is forgotten; then the others begin to age. */
static void look(struct loop_timer *timer)
{
	struct raid_bitmap *b = container_of(timer, struct raid_bitmap, timer);
	struct raid *raid = b->raid;
	uint64_t used, idle = 0;

	loop_timer_start(loop_self(), timer, loop_now_ns(loop_self()) + LOOK_NS);
	if (!may_forget(raid) || b->clearing || b->running)
		return;
	used = raid_bitmap_used(b);
	for (uint64_t r = 0; r < used; r++)
		idle += is_idle(b, r);
	if (idle > 0 && b->ext.since_seq != raid->sb.seq && !PLANT(RAID_BITS_FORGOTTEN)) {
		/* A member that left before now lacks what is forgotten from now on. */
		b->ext.since_seq = raid->sb.seq + 1;
		raid_hold(raid);
		raid_store(raid, (struct bdev_done){seq_stored, raid});
		return;
	}
	if (idle > 0) {
		b->clearing = true;
		b->clear_seq = raid->sb.seq;
		b->at_region = 0;
		raid_bdev_hold(raid);
		lock_next(b);
		return;
	}
	for (uint64_t r = 0; r < used; r++) {
		if (b->regions[r] & REGION_TOUCHED)
			__atomic_fetch_and(
			        &b->regions[r], (uint8_t)~REGION_TOUCHED, __ATOMIC_SEQ_CST);
	}
}

void raid_bitmap_init(struct raid_bitmap *b)
{
	list_init(&b->waiters);
	list_init(&b->next_waiters);
	list_init(&b->range.link);
	b->timer.fire = look;
	if (b->regions)
		loop_timer_start(loop_self(), &b->timer, loop_now_ns(loop_self()) + LOOK_NS);
}

void raid_bitmap_believe(struct raid *raid)
{
	struct raid_bitmap *b = raid->bitmap;

	for (uint64_t r = 0; b && b->regions && r < b->num_regions; r++)
		__atomic_fetch_and(&b->regions[r], (uint8_t)~REGION_UNSYNCED, __ATOMIC_SEQ_CST);
	__atomic_store_n(&raid->io.unsynced, 0, __ATOMIC_SEQ_CST);
}
