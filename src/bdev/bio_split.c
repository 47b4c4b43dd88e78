/* bio_split.c: one request, several below. */
/* tidy: data path */
#include "base/plant.h"
#include "bdev/bio_core.h"

static struct bio_pool *pool_of(const struct bio *parent)
{
	const struct bio_frame *frame = parent->frame;
	struct bdev_slow *slow = bio_bdev_loop(parent, frame->bdev)->slow;

	if (frame->flags & FRAME_CORE_SPLIT)
		return slow->pools[POOL_CORE];
	return slow->pools[unlikely(frame->flags & FRAME_OWN_SPLIT) ? POOL_OWN : POOL_MODULE];
}

static bool begin(struct bio *parent, unsigned n, bio_fn again, uint8_t flags)
{
	struct bio_frame *frame = parent->frame;

	BELLOWS_CHECKED(parent->check == BIO_HELD && !(frame->flags & FRAME_SPLIT));
	frame->flags = (uint8_t)((frame->flags & ~(FRAME_CORE_SPLIT | FRAME_OWN_SPLIT)) | flags);
	if (!bio_pool_reserve(pool_of(parent), parent, n, again))
		return false;
	frame->flags |= FRAME_SPLIT;
	*bio_split_of(frame) = (struct bio_split){.refs = 1, .left = n};
	parent->status = 0;
	return true;
}

bool bio_split_begin(struct bio *parent, unsigned n, bio_fn again)
{
	return begin(parent, n, again, 0);
}

bool bio_split_begin_core(struct bio *parent, unsigned n, bio_fn again)
{
	return begin(parent, n, again, FRAME_CORE_SPLIT);
}

bool bio_split_begin_own(struct bio *parent, unsigned n, bio_fn again)
{
	return begin(parent, n, again, FRAME_OWN_SPLIT);
}

/* Runs from the loop, or when a child has come up: its layers are through with it. */
static void finish(struct bio *parent)
{
	bio_fn done = bio_split_of(parent->frame)->done;

	parent->frame->flags &= (uint8_t)~FRAME_SPLIT;
	bio_up_from(parent, done);
}

static void finish_later(struct loop_task *task)
{
	finish(container_of(task, struct bio, task));
}

static void child_done(struct bio *bio)
{
	struct bio_child *child = bio_child_of(bio);
	struct bio *parent = child->parent;
	struct bio_split *split = bio_split_of(parent->frame);

	BIO_CHECK_SET(bio, BIO_HELD);
	if (child->fn && !child->fn(bio))
		return;
	BELLOWS_CHECKED(bio->check == BIO_HELD);
	BIO_CHECK_SET(bio, BIO_OWNED);
	if (unlikely(bio->status != 0) && parent->status == 0 && !PLANT(CHILD_ERROR_SWALLOWED))
		parent->status = bio->status;
	bio_pool_put_child(child->pool, child);
	BELLOWS_CHECKED(split->refs > 0);
	if (--split->refs == 0)
		finish(parent);
}

/* ---- the same to all ---- */

static void mirrored(struct bio *bio)
{
	struct bio_child *child = bio_child_of(bio);
	struct bio *parent = child->parent;
	struct bio_pool *pool = child->pool;

	if (unlikely(bio->status != 0)) {
		child_done(bio);
		return;
	}
	BIO_CHECK_SET(bio, BIO_OWNED);
	child->next_free = pool->free;
	pool->free = child;
	pool->available++;
	if (unlikely(pool->split_waiters.head != NULL))
		bio_pool_unreserve(pool, 0);
	if (--bio_split_of(parent->frame)->refs == 0)
		finish(parent);
}

/* What a child's head says of the request is what its parent's says. */
static inline struct bio *prepare_copy(struct bio_child *child, struct bio *parent)
{
	struct bio *bio = &child->bio;

	child->parent = parent;
	bio->frame = bio_no_frame(bio);
	bio->loop = parent->loop;
	bio->num_blocks = parent->num_blocks;
	bio->iov = parent->iov;
	bio->iovcnt = parent->iovcnt;
	bio->iov_skip_bytes = parent->iov_skip_bytes;
	bio->op = parent->op;
	bio->flags = parent->flags & (uint8_t)~BIO_RANGE_OWNER;
	bio->check = 0;
	bio->status = 0;
	bio->need = parent->need;
	bio->loop_offset = parent->loop_offset;
	bio->submit_ns = loop_now_ns(parent->loop);
	bio->done = mirrored;
	BIO_CHECK_SET(bio, BIO_HELD);
	return bio;
}

bool bio_split_mirror(struct bio *parent, uint64_t bases, const uint64_t *add_blocks,
        bio_child_fn failed, bio_fn done, bio_fn again)
{
	struct bio_frame *frame = parent->frame;
	struct bdev *bdev = frame->bdev;
	struct bio_pool *pool = bio_bdev_loop(parent, bdev)->slow->pools[POOL_MODULE];
	unsigned n = 0;

	for (uint64_t left = bases; left != 0; left &= left - 1)
		n++;
	BELLOWS_CHECKED(parent->check == BIO_HELD && !(frame->flags & FRAME_SPLIT) && n > 0);
	frame->flags &= (uint8_t) ~(FRAME_CORE_SPLIT | FRAME_OWN_SPLIT);
	if (likely(n <= pool->available && !pool->split_waiters.head))
		pool->available -= n;
	else if (!bio_pool_reserve(pool, parent, n, again))
		return false;
	frame->flags |= FRAME_SPLIT;
	parent->status = 0;
	/* Completions are queued, so none is counted before all are sent. */
	*bio_split_of(frame) = (struct bio_split){.done = done, .refs = n};
	for (; bases != 0; bases &= bases - 1) {
		unsigned i = (unsigned)__builtin_ctzll(bases);
		struct bio_child *child = bio_pool_take_child(pool);
		struct bio *bio;

		if (likely(pool->free != NULL)) { /* the next one, while this one is written */
			__builtin_prefetch(pool->free, 1);
			__builtin_prefetch(&pool->free->bio, 1);
			__builtin_prefetch(&pool->free->bio.frames[0], 1);
		}
		bio = prepare_copy(child, parent);

		child->fn = failed;
		child->tag = i;
		bio_enter(
		        bio, bdev->bases[i], add_blocks ? frame->offset_blocks + add_blocks[i] : 0);
	}
	return true;
}

/* ---- one by one ---- */

struct bio *bio_split_prepare(struct bio *parent, bio_child_fn fn)
{
	struct bio_split *split = bio_split_of(parent->frame);
	struct bio_child *child = bio_pool_take_child(pool_of(parent));
	struct bio *bio = &child->bio;

	BELLOWS_ASSERT((parent->frame->flags & FRAME_SPLIT) && split->left > 0);
	split->left--;
	split->refs++;
	child->parent = parent;
	child->fn = fn;
	child->tag = 0;
	bio_init(
	        bio, parent->op, parent->iov, parent->iovcnt, parent->num_blocks, child_done, NULL);
	bio->iov_skip_bytes = parent->iov_skip_bytes;
	bio->flags = parent->flags & (uint8_t)~BIO_RANGE_OWNER;
	bio->loop = parent->loop;
	bio->loop_offset = parent->loop_offset;
	BIO_CHECK_SET(bio, BIO_HELD);
	return bio;
}

static void start(struct bio *bio, uint64_t num_blocks)
{
	BELLOWS_CHECKED(bio->check == BIO_HELD);
	bio->num_blocks = num_blocks;
	bio->need = bio_need(bio);
	bio->status = 0;
	bio->frame = bio_no_frame(bio);
	bio->submit_ns = loop_now_ns(bio->loop);
}

void bio_child_submit(
        struct bio *child, struct bdev *base, uint64_t offset_blocks, uint64_t num_blocks)
{
	start(child, num_blocks);
	bio_enter(child, base, offset_blocks);
}

void bio_child_submit_here(struct bio_child *child, uint64_t offset_blocks, uint64_t num_blocks)
{
	struct bio *bio = &child->bio;
	struct bdev *bdev = bio_bdev(child->parent);
	struct bio_frame *frame = bio->frames;

	start(bio, num_blocks);
	bio->frame = frame;
	frame->bdev = bdev;
	frame->offset_blocks = offset_blocks;
	frame->epoch = 0;
	frame->flags = FRAME_UNCOUNTED;
	frame->step = 0;
	frame->tries = 0;
	bdev->submit(bio);
}

void bio_child_restart(struct bio *child, struct bdev *base, uint64_t offset_blocks)
{
	bio_child_submit(child, base, offset_blocks, child->num_blocks);
}

void bio_split_add(struct bio *parent, struct bdev *base, uint64_t offset_blocks,
        uint64_t num_blocks, uint64_t skip_bytes, bio_child_fn fn)
{
	struct bio *child = bio_split_prepare(parent, fn);

	if (parent->iovcnt > 0)
		bio_child_slice(bio_child_of(child), parent, skip_bytes);
	bio_child_submit(child, base, offset_blocks, num_blocks);
}

void bio_split_add_own(
        struct bio *parent, uint64_t offset_blocks, uint64_t num_blocks, uint64_t skip_bytes)
{
	struct bio_child *child = bio_child_of(bio_split_prepare(parent, NULL));

	BELLOWS_CHECKED(parent->frame->flags & FRAME_OWN_SPLIT);
	if (parent->iovcnt > 0)
		bio_child_slice(child, parent, skip_bytes);
	bio_child_submit_here(child, offset_blocks, num_blocks);
}

void bio_split_end(struct bio *parent, bio_fn done)
{
	struct bio_split *split = bio_split_of(parent->frame);
	unsigned left = split->left;

	BELLOWS_CHECKED(parent->frame->flags & FRAME_SPLIT);
	split->done = done;
	split->left = 0;
	if (left > 0)
		bio_pool_unreserve(pool_of(parent), left);
	if (--split->refs == 0) {
		parent->task.run = finish_later;
		loop_defer(parent->loop, &parent->task);
	}
}

struct iovec *bio_child_iovs(struct bio *bio, unsigned n)
{
	struct bio_child *child = bio_child_of(bio);

	BELLOWS_ASSERT(n <= BIO_CHILD_IOVS);
	bio->flags &= (uint8_t)~BIO_STALE_OK;
	bio->iov = child->iovs;
	bio->iovcnt = n;
	bio->iov_skip_bytes = 0;
	return child->iovs;
}

struct bio *bio_child_parent(const struct bio *child)
{
	return container_of(child, struct bio_child, bio)->parent;
}

uint64_t *bio_child_tag(struct bio *child)
{
	return &bio_child_of(child)->tag;
}
