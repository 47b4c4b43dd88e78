/* tidy: data path */
/*
 * raid_regions.c: may this write start, and may this read go to any member?
 */
#include "vbdev/raid/raid_bitmap.h"

#include <errno.h>

#include "base/plant.h"

bool raid_regions_unsynced(const struct raid_io *io, uint64_t block, uint64_t count)
{
	uint64_t end = raid_region_of(io, block + count - 1);

	for (uint64_t r = raid_region_of(io, block); r <= end; r++) {
		if (__atomic_load_n(&io->regions[r], __ATOMIC_ACQUIRE) & REGION_UNSYNCED)
			return true;
	}
	return false;
}

bool raid_bitmap_admit_at(struct bio *bio, uint64_t block, uint64_t count)
{
	struct raid_io *io = raid_io_of(bio_bdev(bio));
	struct raid_loop *state = bdev_loop_state(bio_bdev(bio), bio->loop);
	struct raid_bitmap *b = io->raid->bitmap;
	uint64_t end = raid_region_of(io, block + count - 1);
	bool ready = true;

	for (uint64_t r = raid_region_of(io, block); r <= end; r++) {
		uint8_t region = __atomic_load_n(&io->regions[r], __ATOMIC_ACQUIRE);

		if ((region & REGION_DURABLE) && !(region & REGION_TOUCHED))
			__atomic_fetch_or(&io->regions[r], REGION_TOUCHED, __ATOMIC_SEQ_CST);
		if (region & REGION_DURABLE)
			continue;
		__atomic_fetch_or(&b->wanted[r / 64], 1ULL << (r % 64), __ATOMIC_SEQ_CST);
		ready = false;
	}
	if (ready || PLANT(RAID_BIT_LATE))
		return true;
	bio->task.next = state->waiting;
	state->waiting = &bio->task;
	__atomic_store_n(&b->any_wanted, true, __ATOMIC_SEQ_CST);
	raid_tell_control(io->raid);
	return false;
}

void raid_bitmap_admitted(struct loop_task *task)
{
	struct raid_loop *state = container_of(task, struct raid_loop, admit);
	struct loop_task *at = state->waiting, *next, *first = NULL;
	bool refuse;

	__atomic_store_n(&state->admit_sent, false, __ATOMIC_SEQ_CST);
	refuse = __atomic_exchange_n(&state->refuse, false, __ATOMIC_SEQ_CST);
	state->waiting = NULL;
	for (; at; at = next) { /* in the order in which they came */
		next = at->next;
		at->next = first;
		first = at;
	}
	for (at = first; at; at = next) {
		struct bio *bio = container_of(at, struct bio, task);

		next = at->next;
		if (refuse)
			bio_complete(bio, -EIO);
		else
			raid_submit(bio);
	}
}
