/*
 * raid5_lock.c: who may change the parity of which rows, across all loops, without a lock that
 * anybody holds its loop up for.
 *
 * One word per stripe (many stripes share one): in its lower half a bit for each 32nd of the strip
 * whose rows somebody has, in its upper half a bit for each loop where somebody waits. A request
 * takes all its bits at once, or none and waits in its loop's queue; so nobody has some and waits
 * for others. Who gives bits back clears the upper half and wakes those loops. A loop's bit is set
 * only while some of the lower half are, so a wake can't be missed.
 */
/* tidy: data path */
#include "base/plant.h"
#include "vbdev/raid/raid5.h"

#define PARTS_SHIFT 5
#define ROWS_MASK 0xffffffffULL
#define LOOPS_SHIFT 32

struct rows {
	uint64_t *word;
	uint32_t mask;
};

static struct rows rows_of(const struct bio *bio, const struct raid5_piece *piece)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	struct raid5_rows hull = raid5_hull(piece);
	unsigned shift = io->strip_shift > PARTS_SHIFT ? io->strip_shift - PARTS_SHIFT : 0;
	uint64_t first = hull.lo >> shift, last = (hull.hi - 1) >> shift;

	return (struct rows){&io->locks[piece->stripe % RAID5_LOCKS],
	        (uint32_t)((2ULL << last) - (1ULL << first))};
}

static uint64_t loop_bit(const struct loop *loop)
{
	return 1ULL << (LOOPS_SHIFT + loop->id % (64 - LOOPS_SHIFT));
}

/* Takes them, or leaves word that this loop waits. */
static bool take(struct rows rows, uint64_t me)
{
	uint64_t old = raid5_load(rows.word);

	for (;;) {
		bool others_wait = old & ~ROWS_MASK & ~me;
		bool can = !(old & rows.mask) && !others_wait;
		uint64_t want = can ? old | rows.mask : old | me;

		if (__atomic_compare_exchange_n(
		            rows.word, &old, want, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return can;
	}
}

/* ---- waiting on this loop ---- */

static struct rows waiting_for(struct bio *bio)
{
	const struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);

	return (struct rows){
	        &raid_io_of(bio_bdev(bio))->locks[ctx->split[0]], (uint32_t)ctx->split[1]};
}

static void wait(struct raid5_loop *state, struct bio *bio, struct rows rows)
{
	struct raid5_ctx *ctx = bio_ctx(bio, struct raid5_ctx);

	ctx->split[0] = (uint64_t)(rows.word - raid_io_of(bio_bdev(bio))->locks);
	ctx->split[1] = rows.mask;
	bio->task.next = NULL;
	*state->end = &bio->task;
	state->end = &bio->task.next;
}

/* Who waits on this loop goes first. */
static bool must_queue(const struct raid5_loop *state, struct rows rows)
{
	for (struct loop_task *at = state->first; at; at = at->next) {
		struct rows theirs = waiting_for(container_of(at, struct bio, task));

		if (theirs.word == rows.word && (theirs.mask & rows.mask))
			return true;
	}
	return false;
}

static void woken(struct loop_task *task)
{
	struct raid5_loop *state = container_of(task, struct raid5_loop, wake);
	struct loop_task *at = state->first, *next;

	__atomic_store_n(&state->wake_sent, false, __ATOMIC_SEQ_CST);
	raid5_lock_init(state);
	for (; at; at = next) {
		struct bio *bio = container_of(at, struct bio, task);
		struct rows rows = waiting_for(bio);

		next = at->next;
		if (!must_queue(state, rows) && take(rows, loop_bit(bio->loop)))
			raid5_locked(bio);
		else
			wait(state, bio, rows);
	}
}

void raid5_lock_init(struct raid5_loop *state)
{
	state->first = NULL;
	state->end = &state->first;
	state->wake.run = woken;
}

bool raid5_lock(struct bio *bio, const struct raid5_piece *piece)
{
	struct raid_loop *state = bdev_loop_state(bio_bdev(bio), bio->loop);
	struct rows rows = rows_of(bio, piece);

	if (likely(!must_queue(&state->raid5, rows) && take(rows, loop_bit(bio->loop))) ||
	        PLANT(RAID5_ROWS_SHARED))
		return true;
	wait(&state->raid5, bio, rows);
	return false;
}

static __attribute__((noinline)) void wake(struct bio *bio, uint64_t waiting)
{
	struct bdev *bdev = bio_bdev(bio);

	for (unsigned i = 0; i < loops_count(); i++) {
		struct raid_loop *state = bdev->loops[i].state;
		struct loop *loop = loop_get(i);

		if (!(waiting & loop_bit(loop)) ||
		        __atomic_exchange_n(&state->raid5.wake_sent, true, __ATOMIC_SEQ_CST))
			continue;
		if (loop == bio->loop)
			loop_defer(loop, &state->raid5.wake);
		else
			loop_send(loop, &state->raid5.wake);
	}
}

void raid5_unlock(struct bio *bio, const struct raid5_piece *piece)
{
	struct rows rows = rows_of(bio, piece);
	uint64_t old = raid5_load(rows.word);

	while (!__atomic_compare_exchange_n(rows.word, &old, old & ROWS_MASK & ~(uint64_t)rows.mask,
	        false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
	BELLOWS_CHECKED((old & rows.mask) == rows.mask);
	if (unlikely((old & ~ROWS_MASK) != 0))
		wake(bio, old & ~ROWS_MASK);
}
