/*
 * zone_block_io.c: requests on the zones, each on the loop where it came in.
 */
/* tidy: data path */
#include "base/plant.h"
#include "vbdev/zone_block/zone_block.h"

#include <errno.h>

#define ZONES_PER_TURN 1024

static struct bdev *base_of(const struct bio *bio)
{
	return bio_bdev(bio)->bases[0];
}

static uint64_t word_of(const struct zone_bdev *zb, uint64_t id)
{
	return __atomic_load_n(&zone_at(zb, id)->word, __ATOMIC_SEQ_CST);
}

/* ---- reads ------------------------------------------------------------------------------------
 */

/* Of a read within one zone. */
struct read_ctx {
	uint64_t data_blocks; /* that the base holds; the others are not written: zeroes */
};

/* Of a read of several zones. The first two words are the core's. */
struct parts_ctx {
	uint64_t core[2], at; /* blocks that have been given to parts */
};

/* The blocks of zone id that the bio covers, counted from the zone's start. */
static void part_in_zone(const struct zone_bdev *zb, const struct bio *bio, uint64_t id,
        uint64_t *from, uint64_t *to)
{
	uint64_t start = id << zb->zone_shift, offset = bio_offset(bio);

	*from = max_u64(offset, start) - start;
	*to = min_u64(offset + bio->num_blocks, start + zb->zone_blocks) - start;
}

static uint64_t last_zone(const struct zone_bdev *zb, const struct bio *bio)
{
	return (bio_offset(bio) + bio->num_blocks - 1) >> zb->zone_shift;
}

/* What was not written reads as zeroes, whatever the base holds. */
static void read_done(struct bio *bio)
{
	uint64_t data_blocks = bio_ctx(bio, struct read_ctx)->data_blocks;
	unsigned shift = bio_bdev(bio)->block_shift;

	if (bio->status == 0)
		bio_zero_data(bio, data_blocks << shift, (bio->num_blocks - data_blocks) << shift);
	bio_complete(bio, bio->status);
}

static void read_parts(struct bio *bio);

static void parts_read(struct bio *bio)
{
	if (bio->status != 0 || bio_ctx(bio, struct parts_ctx)->at == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		read_parts(bio);
}

/* Each zone by itself. */
static void read_parts(struct bio *bio)
{
	const struct zone_bdev *zb = bio_bdev(bio)->priv;
	uint64_t at = bio_ctx(bio, struct parts_ctx)->at, in_zone, n;

	if (!bio_split_begin_own(bio, BIO_SPLIT_MAX, read_parts))
		return;
	for (unsigned i = 0; i < BIO_SPLIT_MAX && at < bio->num_blocks; i++, at += n) {
		in_zone = (bio_offset(bio) + at) & (zb->zone_blocks - 1);
		n = min_u64(zb->zone_blocks - in_zone, bio->num_blocks - at);
		bio_split_add_own(bio, bio_offset(bio) + at, n, at << bio_bdev(bio)->block_shift);
	}
	bio_ctx(bio, struct parts_ctx)->at = at;
	bio_split_end(bio, parts_read);
}

static void read_zone(struct bio *bio, uint64_t data_blocks)
{
	if (likely(data_blocks == bio->num_blocks) || PLANT(ZONE_RESET_SHOWS_OLD)) {
		bio_forward(bio, base_of(bio), bio_offset(bio), NULL);
	} else if (data_blocks > 0) {
		bio_ctx(bio, struct read_ctx)->data_blocks = data_blocks;
		bio_forward(bio, base_of(bio), bio_offset(bio), read_done);
	} else {
		bio_zero_data(bio, 0, bio_bytes(bio));
		bio_complete(bio, 0);
	}
}

/* False: not now. */
static bool try_read(struct bio *bio)
{
	struct zone_bdev *zb = bio_bdev(bio)->priv;
	uint64_t first = bio_offset(bio) >> zb->zone_shift, last = last_zone(zb, bio);
	uint64_t from, to, written, data_blocks = 0;

	for (uint64_t id = first; id <= last; id++) {
		part_in_zone(zb, bio, id, &from, &to);
		switch (zone_look(zb, id, from, to, &written)) {
		case ZONE_WENT:
			data_blocks += min_u64(to, max_u64(written, from)) - from;
			break;
		case ZONE_FAILED:
			bio_complete(bio, -EIO);
			return true;
		case ZONE_WAITS:
			return false;
		}
	}
	if (likely(first == last) || data_blocks == bio->num_blocks) {
		read_zone(bio, data_blocks);
	} else {
		bio_ctx(bio, struct parts_ctx)->at = 0;
		read_parts(bio);
	}
	return true;
}

static void report(struct bio *bio)
{
	const struct zone_bdev *zb = bio_bdev(bio)->priv;
	struct bio_zone_report *r = &bio->zone_report;
	uint64_t id = (bio_offset(bio) + zb->zone_blocks - 1) >> zb->zone_shift;
	uint64_t end = last_zone(zb, bio) + 1;

	for (r->count = 0; id < end && r->count < r->max; id++) {
		uint64_t word = word_of(zb, id), start = id << zb->zone_shift;
		bool full = word_state(word) >= ZONE_FULL;

		r->zones[r->count++] = (struct bio_zone){.start_blocks = start,
		        .capacity_blocks = zb->zone_capacity,
		        .write_pointer_blocks =
		                start + (full ? zb->zone_capacity : word_written(word)),
		        .state = word_state(word)};
	}
	bio_complete(bio, 0);
}

/* ---- writes -----------------------------------------------------------------------------------
 */

static void write_ended(struct bio *bio)
{
	struct zone_bdev *zb = bio_bdev(bio)->priv;

	zone_write_ended(zb, bio_offset(bio) >> zb->zone_shift,
	        bio_ctx(bio, struct zone_write_ctx)->from, bio->num_blocks, bio->status != 0);
}

static void write_done(struct bio *bio)
{
	write_ended(bio);
	bio_complete(bio, bio->status);
}

static void append_done(struct bio *bio)
{
	write_ended(bio);
	bio_change_op(bio, BIO_ZONE_APPEND);
	bio->appended_at = bio_offset(bio) + bio_ctx(bio, struct zone_write_ctx)->from +
	                   PLANT(ZONE_APPEND_ONE_OFF);
	bio_complete(bio, bio->status);
}

/* False: not now. */
static bool try_write(struct bio *bio)
{
	struct zone_bdev *zb = bio_bdev(bio)->priv;
	uint64_t id = bio_offset(bio) >> zb->zone_shift, start = id << zb->zone_shift;
	uint64_t from = bio_offset(bio) - start;
	bool append = bio->op == BIO_ZONE_APPEND;
	int status = -EINVAL;

	if (append && from != 0) {
		bio_complete(bio, -EINVAL);
		return true;
	}
	if (append)
		from = UINT64_MAX;
	switch (zone_take_blocks(zb, id, &from, bio->num_blocks, &status)) {
	case ZONE_WENT:
		bio_ctx(bio, struct zone_write_ctx)->from = from;
		if (append)
			bio_change_op(bio, BIO_WRITE);
		bio_forward(bio, base_of(bio), start + from, append ? append_done : write_done);
		return true;
	case ZONE_FAILED:
		bio_complete(bio, status);
		return true;
	case ZONE_WAITS:
		break;
	}
	return false;
}

/* ---- management -------------------------------------------------------------------------------
 */

static bool manage_range(const struct zone_bdev *zb, const struct bio *bio)
{
	uint64_t mask = zb->zone_blocks - 1;

	return bio->zone_action < ZONE_ACTIONS &&
	       ((bio_offset(bio) | bio->num_blocks) & mask) == 0 &&
	       ((bio->flags & BIO_ZONE_ALL) || bio->num_blocks == zb->zone_blocks);
}

enum manage_step {
	MANAGE_FIRST,
	MANAGE_ON,
	MANAGE_DRAINS, /* it has made the next zone wait for its writes */
};

/* Goes on with the zones in order. False: not now. */
static bool try_manage(struct bio *bio)
{
	struct zone_bdev *zb = bio_bdev(bio)->priv;
	struct zone_manage_ctx *ctx = bio_ctx(bio, struct zone_manage_ctx);
	enum zone_action action = (enum zone_action)bio->zone_action;
	bool all = bio->flags & BIO_ZONE_ALL;
	int status = 0;

	if (bio->frame->step == MANAGE_FIRST && !manage_range(zb, bio)) {
		bio_complete(bio, -EINVAL);
		return true;
	}
	if (bio->frame->step == MANAGE_FIRST) {
		ctx->next = bio_offset(bio) >> zb->zone_shift;
		ctx->end = ctx->next + (bio->num_blocks >> zb->zone_shift);
		if (all && ctx->end - ctx->next > 1 && PLANT(ZONE_ALL_MISSES_LAST))
			ctx->end--;
		bio->frame->step = MANAGE_ON;
	}
	for (unsigned n = 0; ctx->next < ctx->end && status == 0; ctx->next++, n++) {
		bool drains = bio->frame->step == MANAGE_DRAINS;
		enum zone_verdict verdict = ZONE_WENT;

		if (n == ZONES_PER_TURN) {
			zone_expect_wake(zb, bdev_loop_state(bio_bdev(bio), bio->loop));
			zone_wake_all(zb);
			return false;
		}
		if (drains || !all ||
		        zone_action_applies(action, word_state(word_of(zb, ctx->next))))
			verdict = zone_manage(zb, ctx->next, action, &drains, &status);
		bio->frame->step = drains ? MANAGE_DRAINS : MANAGE_ON;
		if (verdict == ZONE_WAITS)
			return false;
		if (verdict == ZONE_WENT)
			status = 0;
	}
	bio_complete(bio, status);
	return true;
}

/* ---- the queue of a loop ----------------------------------------------------------------------
 */

static bool try_request(struct bio *bio)
{
	return bio->op == BIO_ZONE_MGMT ? try_manage(bio) : try_write(bio);
}

static void push(struct zone_queue *queue, struct bio *bio)
{
	bio->task.next = NULL;
	*queue->tail = &bio->task;
	queue->tail = &bio->task.next;
}

static struct bio *pop(struct zone_queue *queue)
{
	struct loop_task *task = queue->head;

	if (!task)
		return NULL;
	queue->head = task->next;
	if (!queue->head)
		queue->tail = &queue->head;
	return container_of(task, struct bio, task);
}

/* Goes on with the first one. False: there is none, or it has to wait. */
static bool step(struct zone_queue *changes)
{
	struct bio *bio = pop(changes);

	if (!bio)
		return false;
	if (try_request(bio))
		return true;
	bio->task.next = changes->head;
	if (!changes->head)
		changes->tail = &bio->task.next;
	changes->head = &bio->task;
	return false;
}

/* Goes on with each that can; the others stay, in order. */
static void run_reads(struct zone_queue *reads)
{
	struct zone_queue tried = {.tail = &tried.head};
	struct bio *bio;

	while ((bio = pop(reads))) {
		if (!try_read(bio))
			push(&tried, bio);
	}
	if (tried.head)
		*reads = tried;
}

/* After it has said that it waits it looks once more: what it waits for may just have happened. */
static void run(struct zone_loop *zl)
{
	for (;;) {
		bool expects_wake = zl->expects_wake;

		zl->runs = true;
		run_reads(&zl->reads);
		while (step(&zl->changes))
			;
		zl->runs = false;
		if ((!zl->changes.head && !zl->reads.head) || expects_wake)
			return;
		zone_expect_wake(zl->bdev->priv, zl);
	}
}

static void leave(struct zone_loop *zl)
{
	zl->leaving = false;
	loop_send(loop_get(LOOP_CONTROL), &zl->bye);
}

static void woken(struct loop_task *task)
{
	struct zone_loop *zl = container_of(task, struct zone_loop, wake);

	zl->expects_wake = false;
	if (zl->leaving)
		leave(zl);
	else
		run(zl);
}

static void wait(struct bio *bio, struct zone_loop *zl, struct zone_queue *queue)
{
	push(queue, bio);
	if (!zl->runs)
		run(zl);
}

void zone_submit(struct bio *bio)
{
	struct zone_loop *zl = bdev_loop_state(bio_bdev(bio), bio->loop);

	switch ((enum bio_op)bio->op) {
	case BIO_WRITE:
	case BIO_WRITE_ZEROES:
	case BIO_ZONE_APPEND:
	case BIO_ZONE_MGMT:
		if (unlikely(zl->changes.head != NULL) || unlikely(!try_request(bio)))
			wait(bio, zl, &zl->changes);
		return;
	case BIO_READ:
		if (unlikely(!try_read(bio)))
			wait(bio, zl, &zl->reads);
		return;
	case BIO_ZONE_REPORT:
		report(bio);
		return;
	default:
		bio_forward(bio, base_of(bio), bio_offset(bio), NULL);
	}
}

/* ---- life -------------------------------------------------------------------------------------
 */

void zone_loop_init(struct zone_loop *zl, struct bdev *bdev, unsigned loop_id)
{
	zl->bdev = bdev;
	zl->loop_id = loop_id;
	zl->changes.tail = &zl->changes.head;
	zl->reads.tail = &zl->reads.head;
	zl->wake.run = woken;
}

static void left(struct loop_task *task)
{
	struct zone_loop *zl = container_of(task, struct zone_loop, bye);
	struct zone_bdev *zb = zl->bdev->priv;

	if (--zb->loops_left == 0)
		zb->loops_have_left(zl->bdev);
}

static void asked_to_leave(struct loop_task *task)
{
	struct zone_loop *zl = container_of(task, struct zone_loop, bye);

	BELLOWS_ASSERT(!zl->changes.head && !zl->reads.head);
	task->run = left;
	if (zl->expects_wake)
		zl->leaving = true;
	else
		leave(zl);
}

void zone_loops_leave(struct bdev *bdev, void (*fn)(struct bdev *bdev))
{
	struct zone_bdev *zb = bdev->priv;

	zone_wake_all(zb);
	zb->loops_have_left = fn;
	zb->loops_left = loops_count();
	for (unsigned i = 0; i < loops_count(); i++) {
		struct zone_loop *zl = bdev->loops[i].state;

		zl->bye.run = asked_to_leave;
		loop_send(loop_get(i), &zl->bye);
	}
}
