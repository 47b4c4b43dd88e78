/*
 * gate.c: who may enter a bdev, and knowing when those who did have left.
 *
 * There is no list of the bios in flight, only two counters per loop. A bio takes the counter that
 * the loop's epoch names. To wait for all that have entered so far, a flip makes new bios take the
 * other counter, and ends when the old one is 0 on every loop. Flips of one bdev come one after the
 * other, so the counter that a flip turns to is always 0.
 *
 * What must hold for new bios (queue them, fail them, queue those in a range) is set in the same
 * message, before the epoch changes: whoever took the old counter was let in by the old rule.
 */
#include "base/plant.h"
#include "bdev/bio_core.h"

#include <errno.h>

/* ---- on the loops -------------------------------------------------------------------------------
 */

/* The frame that it would take tells where it wants to go; it is not counted. */
void bio_note_way(struct bio *bio, uint64_t offset_blocks, bool paid)
{
	BELLOWS_CHECKED(bio->frame + 1 < bio->frames + BIO_FRAMES_MAX);
	bio->frame[1].offset_blocks = offset_blocks;
	bio->frame[1].step = paid;
}

static bool overlaps(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	return a < b_end && b < a_end;
}

/* Whether a locked range, or a bio that waits for one, is in the way. */
static bool range_in_the_way(
        const struct bdev_slow *slow, const struct bio *bio, uint64_t offset_blocks)
{
	uint64_t end_blocks = offset_blocks + bio->num_blocks;

	if (bio->need & OPS_WITHOUT_RANGE)
		return false;
	if ((bio->flags & BIO_RANGE_OWNER) && bio->frame < bio->frames)
		return false;
	for (unsigned i = 0; i < slow->num_ranges; i++) {
		const struct locked_range *r = &slow->ranges[i];

		if (overlaps(offset_blocks, end_blocks, r->offset_blocks, r->end_blocks) &&
		        !(PLANT(RANGE_OVERLAP_MISSED) && offset_blocks < r->offset_blocks))
			return true;
	}
	for (struct loop_task *t = slow->queue.head; t; t = t->next) {
		const struct bio *earlier = container_of(t, struct bio, task);
		uint64_t offset = earlier->frame[1].offset_blocks;

		if (overlaps(offset_blocks, end_blocks, offset, offset + earlier->num_blocks))
			return true;
	}
	return false;
}

void bio_enter_again(struct bio *bio, struct bdev_loop *bl, uint64_t offset_blocks, bool paid)
{
	struct bdev_slow *slow = bl->slow;
	struct bdev *bdev = slow->bdev;
	const struct bio_limits *limits = &slow->limits;
	uint32_t missing = bio->need & bl->lacks;

	if (bl->gate & (GATE_GONE | GATE_QUIESCED | GATE_RANGES)) {
		if (bl->gate & GATE_GONE) {
			bio_refuse(bio, -ENODEV);
			return;
		}
		if ((bl->gate & GATE_QUIESCED) || range_in_the_way(slow, bio, offset_blocks)) {
			bio_note_way(bio, offset_blocks, paid);
			bio_queue_push(&slow->queue, bio);
			return;
		}
	}
	if ((bl->gate & GATE_QOS) && !paid && qos_queued(bl, bio, offset_blocks))
		return;
	bio_push(bio, bdev, bl, offset_blocks);
	if (limits->check_range && offset_blocks + bio->num_blocks > bdev_num_blocks(bdev))
		bio_complete(bio, -EIO);
	else if (missing || ((bl->gate & GATE_LIMITS) && !bio_fits(bio, limits)))
		bio_emulate(bio, missing);
	else
		bdev->submit(bio);
}

void bio_enter_slow(struct bio *bio, struct bdev *bdev, uint64_t offset_blocks)
{
	bio_enter_again(bio, bio_bdev_loop(bio, bdev), offset_blocks, false);
}

/* Lets in, in order, who waits; each meets the rules anew and may have to queue again. */
static void release(struct bdev_loop *bl)
{
	struct bdev_slow *slow = bl->slow;
	struct bio_queue waiting = slow->queue;
	struct bio *bio;

	bio_queue_init(&slow->queue);
	while ((bio = bio_queue_pop(&waiting)))
		bio_enter_again(bio, bl, bio->frame[1].offset_blocks, bio->frame[1].step);
	if (slow->qos.qos)
		qos_run(bl);
}

/* ---- messages to all loops ----------------------------------------------------------------------
 */

struct everywhere {
	void (*fn)(struct loop *loop, void *arg);
	void *arg;
	struct bdev_done done;
	unsigned left;
	struct everywhere_part {
		struct loop_task task;
		struct everywhere *whole;
	} parts[];
};

static void part_answered(struct loop_task *task)
{
	struct everywhere *e = container_of(task, struct everywhere_part, task)->whole;
	struct bdev_done done = e->done;

	if (--e->left > 0)
		return;
	free(e);
	bdev_done_call(done, NULL);
}

static void part_run(struct loop_task *task)
{
	struct everywhere *e = container_of(task, struct everywhere_part, task)->whole;

	e->fn(loop_self(), e->arg);
	task->run = part_answered;
	loop_send(loop_get(LOOP_CONTROL), task);
}

void loops_run_everywhere(
        void (*fn)(struct loop *loop, void *arg), void *arg, struct bdev_done done)
{
	unsigned n = loops_count();
	struct everywhere *e = xcalloc(1, sizeof(*e) + n * sizeof(e->parts[0]));

	BELLOWS_ASSERT(loop_is_control());
	*e = (struct everywhere){.fn = fn, .arg = arg, .done = done, .left = n};
	for (unsigned i = 0; i < n; i++) {
		e->parts[i] = (struct everywhere_part){.task.run = part_run, .whole = e};
		loop_send(loop_get(i), &e->parts[i].task);
	}
}

/* ---- flips --------------------------------------------------------------------------------------
 */

struct gate_control {
	struct bdev *bdev;
	struct list flips; /* the first one is under way */
	unsigned quiesced;
	bool closing;
	struct list locked, waiting; /* ranges, in order of asking */
};

struct gate_ack {
	struct loop_task task;
	struct flip *flip;
};

struct flip {
	struct list link;
	struct bdev *bdev;
	void (*apply)(struct bdev_loop *bl, const struct flip *flip); /* NULL: only wait */
	struct bdev_range *range;
	struct bdev_done done;
	unsigned left;
	struct gate_ack acks[];
};

static struct gate_control *control_of(const struct bdev *bdev)
{
	BELLOWS_ASSERT(loop_is_control());
	return bdev->loops[LOOP_CONTROL].slow->control;
}

static void flip_next(struct gate_control *control);

static void flip_answered(struct loop_task *task)
{
	struct flip *flip = container_of(task, struct gate_ack, task)->flip;
	struct gate_control *control = control_of(flip->bdev);
	struct bdev_done done = flip->done;

	if (--flip->left > 0)
		return;
	list_remove(&flip->link);
	free(flip);
	flip_next(control);
	bdev_done_call(done, NULL);
}

static void send_ack(struct gate_ack *ack)
{
	ack->task.run = flip_answered;
	loop_send(loop_get(LOOP_CONTROL), &ack->task);
}

void bdev_gate_drained(struct bdev_loop *bl)
{
	struct gate_ack *ack = bl->slow->drain;

	bl->slow->drain = NULL;
	bl->gate &= ~(uint32_t)GATE_DRAIN;
	send_ack(ack);
}

static void flip_on_loop(struct loop_task *task)
{
	struct gate_ack *ack = container_of(task, struct gate_ack, task);
	struct bdev_loop *bl = &ack->flip->bdev->loops[loop_self()->id];
	uint32_t old = bl->epoch;

	BELLOWS_ASSERT(bl->inflight[old ^ 1] == 0 && !(bl->gate & GATE_DRAIN));
	if (ack->flip->apply)
		ack->flip->apply(bl, ack->flip);
	bl->epoch = old ^ 1;
	if (bl->inflight[old] == 0 || (PLANT(QUIESCE_NOT_DRAINED) && !ack->flip->range)) {
		send_ack(ack);
	} else {
		bl->slow->drain = ack;
		bl->gate |= GATE_DRAIN;
	}
}

static void flip_next(struct gate_control *control)
{
	struct flip *flip;

	if (list_empty(&control->flips))
		return;
	flip = list_first(&control->flips, struct flip, link);
	for (unsigned i = 0; i < flip->left; i++)
		loop_send(loop_get(i), &flip->acks[i].task);
}

static void flip(struct gate_control *control,
        void (*apply)(struct bdev_loop *bl, const struct flip *flip), struct bdev_range *range,
        struct bdev_done done)
{
	unsigned n = loops_count();
	struct flip *f = xcalloc(1, sizeof(*f) + n * sizeof(f->acks[0]));
	bool idle = list_empty(&control->flips);

	f->bdev = control->bdev;
	f->apply = PLANT(RANGE_NOT_DRAINED) && range ? NULL : apply;
	f->range = range;
	f->done = done;
	f->left = n;
	for (unsigned i = 0; i < n; i++)
		f->acks[i] = (struct gate_ack){.task.run = flip_on_loop, .flip = f};
	list_push_back(&control->flips, &f->link);
	if (idle)
		flip_next(control);
}

struct gate_control *gate_control_create(struct bdev *bdev)
{
	struct gate_control *control = xcalloc(1, sizeof(*control));

	control->bdev = bdev;
	list_init(&control->flips);
	list_init(&control->locked);
	list_init(&control->waiting);
	return control;
}

void gate_control_destroy(struct gate_control *control)
{
	BELLOWS_ASSERT(list_empty(&control->flips) && list_empty(&control->waiting));
	free(control);
}

void bdev_gate_refuse(const struct bdev *bdev, struct bdev_done done)
{
	struct err err = ERR_NONE;

	err_set(&err, -ENODEV, "'%s' is being removed", bdev->name);
	bdev_done_call(done, &err);
}

bool bdev_gate_closing(const struct bdev *bdev)
{
	return control_of(bdev)->closing;
}

void bdev_gate_flush_out(struct bdev *bdev, struct bdev_done done)
{
	flip(control_of(bdev), NULL, NULL, done);
}

/* ---- quiesce and close --------------------------------------------------------------------------
 */

static void apply_quiesce(struct bdev_loop *bl, const struct flip *flip)
{
	(void)flip;
	if (!(PLANT(QUIESCE_MISSES_LOOP) && loop_self()->id == 2))
		bl->gate |= GATE_QUIESCED;
}

void bdev_quiesce(struct bdev *bdev, struct bdev_done done)
{
	struct gate_control *control = control_of(bdev);

	if (control->closing) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	control->quiesced++;
	flip(control, apply_quiesce, NULL, done);
}

static void nothing_more(void *arg, const struct err *err)
{
	(void)arg;
	(void)err;
}

static void unquiesce_on_loop(struct loop *loop, void *arg)
{
	const struct bdev *bdev = arg;
	struct bdev_loop *bl = &bdev->loops[loop->id];

	bl->gate &= ~(uint32_t)GATE_QUIESCED;
	if (!PLANT(WAKEUP_LOST))
		release(bl);
}

void bdev_unquiesce(struct bdev *bdev)
{
	struct gate_control *control = control_of(bdev);

	BELLOWS_ASSERT(control->quiesced > 0);
	if (--control->quiesced == 0 && !control->closing)
		loops_run_everywhere(
		        unquiesce_on_loop, bdev, (struct bdev_done){nothing_more, NULL});
}

static void apply_close(struct bdev_loop *bl, const struct flip *flip)
{
	(void)flip;
	if (!(PLANT(GONE_LETS_IN) && loop_self()->id == 1))
		bl->gate |= GATE_GONE;
	release(bl);
}

void bdev_gate_close(struct bdev *bdev, struct bdev_done done)
{
	struct gate_control *control = control_of(bdev);
	struct list *node;

	control->closing = true;
	while ((node = list_pop_front(&control->waiting)))
		bdev_gate_refuse(bdev, list_entry(node, struct bdev_range, link)->locked);
	flip(control, apply_close, NULL, done);
}

/* ---- ranges -------------------------------------------------------------------------------------
 */

/* "From here on" may be said with a length that would go past 2^64. */
static uint64_t range_end(const struct bdev_range *range)
{
	uint64_t end;

	return __builtin_add_overflow(range->offset_blocks, range->num_blocks, &end) ? UINT64_MAX
	                                                                             : end;
}

static void apply_range(struct bdev_loop *bl, const struct flip *flip)
{
	struct bdev_slow *slow = bl->slow;
	const struct bdev_range *range = flip->range;

	if (slow->num_ranges == slow->max_ranges) {
		slow->max_ranges = slow->max_ranges ? slow->max_ranges * 2 : 4;
		slow->ranges = xrealloc(slow->ranges, slow->max_ranges * sizeof(slow->ranges[0]));
	}
	slow->ranges[slow->num_ranges++] = (struct locked_range){
	        .offset_blocks = range->offset_blocks, .end_blocks = range_end(range), .id = range};
	bl->gate |= GATE_RANGES;
}

static bool ranges_overlap(const struct bdev_range *a, const struct bdev_range *b)
{
	return overlaps(a->offset_blocks, range_end(a), b->offset_blocks, range_end(b));
}

/* Whether one that is locked, or that has waited for longer, is in the way. */
static bool range_must_wait(const struct gate_control *control, const struct bdev_range *range)
{
	const struct bdev_range *other;

	list_for_each (other, &control->locked, link) {
		if (ranges_overlap(other, range))
			return true;
	}
	list_for_each (other, &control->waiting, link) {
		if (other == range)
			break;
		if (ranges_overlap(other, range))
			return true;
	}
	return false;
}

static void lock_range(struct gate_control *control, struct bdev_range *range)
{
	list_push_back(&control->locked, &range->link);
	flip(control, apply_range, range, range->locked);
}

void bdev_range_lock(struct bdev *bdev, struct bdev_range *range)
{
	struct gate_control *control = control_of(bdev);

	list_init(&range->link);
	if (control->closing)
		bdev_gate_refuse(bdev, range->locked);
	else if (range_must_wait(control, range))
		list_push_back(&control->waiting, &range->link);
	else
		lock_range(control, range);
}

struct unlock {
	struct bdev *bdev;
	const struct bdev_range *id;
};

static void unlock_on_loop(struct loop *loop, void *arg)
{
	const struct unlock *u = arg;
	struct bdev_loop *bl = &u->bdev->loops[loop->id];
	struct bdev_slow *slow = bl->slow;

	for (unsigned i = 0; i < slow->num_ranges; i++) {
		if (slow->ranges[i].id == u->id) {
			slow->ranges[i] = slow->ranges[--slow->num_ranges];
			break;
		}
	}
	if (slow->num_ranges == 0)
		bl->gate &= ~(uint32_t)GATE_RANGES;
	if (!PLANT(RANGE_WAKEUP_LOST))
		release(bl);
}

static void unlocked(void *arg, const struct err *err)
{
	(void)err;
	free(arg);
}

void bdev_range_unlock(struct bdev *bdev, struct bdev_range *range)
{
	struct gate_control *control = control_of(bdev);
	struct bdev_range *other, *next;
	struct unlock *u;

	BELLOWS_ASSERT(list_linked(&range->link));
	list_remove(&range->link);
	if (control->closing)
		return;
	u = xcalloc(1, sizeof(*u));
	*u = (struct unlock){.bdev = bdev, .id = range};
	loops_run_everywhere(unlock_on_loop, u, (struct bdev_done){unlocked, u});
	list_for_each_safe (other, next, &control->waiting, link) {
		if (!range_must_wait(control, other)) {
			list_remove(&other->link);
			lock_range(control, other);
		}
	}
}
