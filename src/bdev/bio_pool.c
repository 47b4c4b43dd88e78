/*
 * bio_pool.c: children and bounce buffers, and who waits for them.
 *
 * A pool belongs to one loop. Its memory is reserved as a whole and touched only as far as the load
 * goes; what is freed is used again first. Waiters are served in order: when what the first one
 * needs is there, its `again` runs and asks once more, ahead of everybody else.
 */
#include "bdev/bio_core.h"

#include <errno.h>
#include <string.h>

#define LARGE_CLASS 2 /* the first that is more than 16 KiB */

/* One per loop. Written on the control loop before the first bdev of the rank is there. */
static struct bio_pool *pools[BDEV_RANKS_MAX][POOL_USERS];

void bio_pools_start(void)
{
	for (unsigned r = 0; r < BDEV_RANKS_MAX; r++)
		BELLOWS_ASSERT(!pools[r][POOL_MODULE] && !pools[r][POOL_CORE]);
}

static size_t class_bytes(unsigned class_index)
{
	return (size_t)1 << (BOUNCE_SHIFT_MIN + 2 * class_index);
}

static void free_buffers(struct bio_pool *pool, unsigned class_index)
{
	void *buffer;

	while ((buffer = pool->buffers[class_index])) {
		pool->buffers[class_index] = *(void **)buffer;
		pool->bounce_bytes -= class_bytes(class_index);
		free(buffer);
	}
}

static void pool_destroy(struct bio_pool *pool)
{
	for (unsigned c = 0; c < BOUNCE_CLASSES; c++)
		free_buffers(pool, c);
	BELLOWS_ASSERT(pool->bounce_bytes == 0 && pool->available == pool->total);
	free(pool->slab);
}

void bio_pools_stop(void)
{
	for (unsigned r = 0; r < BDEV_RANKS_MAX; r++) {
		for (unsigned u = 0; u < POOL_USERS; u++) {
			if (!pools[r][u])
				continue;
			for (unsigned i = 0; i < loops_count(); i++)
				pool_destroy(&pools[r][u][i]);
			free(pools[r][u]);
			pools[r][u] = NULL;
		}
	}
}

static void wake(struct loop_task *task);

static void pool_create(struct bio_pool *pool, unsigned rank, enum pool_user user)
{
	uint32_t n = (uint32_t)max_u64(bdev_options()->bio_pool_size, BIO_SPLIT_MAX);

	/* xcalloc does not touch fresh memory of this size */
	pool->slab = xcalloc(1, n * sizeof(struct bio_child) + CACHE_LINE_BYTES);
	pool->unused = (void *)align_up_u64((uintptr_t)pool->slab, CACHE_LINE_BYTES);
	pool->end = pool->unused + n;
	pool->available = pool->total = n;
	pool->rank = (uint16_t)rank;
	pool->user = (uint8_t)user;
	bio_queue_init(&pool->split_waiters);
	bio_queue_init(&pool->bounce_waiters);
	pool->wake.run = wake;
}

struct bio_pool *bio_pool_get(unsigned rank, enum pool_user user, unsigned loop_id)
{
	BELLOWS_ASSERT(rank < BDEV_RANKS_MAX);
	if (!pools[rank][user]) {
		unsigned n = loops_count();
		struct bio_pool *of_loops =
		        try_alloc_aligned(CACHE_LINE_BYTES, n * sizeof(*of_loops));

		BELLOWS_ASSERT(of_loops);
		for (unsigned i = 0; i < n; i++)
			pool_create(&of_loops[i], rank, user);
		pools[rank][user] = of_loops;
	}
	return &pools[rank][user][loop_id];
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

/* Free buffers of other sizes can be given up, so only those in use count. */
static bool bounce_available(const struct bio_pool *pool, unsigned class_index)
{
	return pool->bounce_used_bytes + class_bytes(class_index) <= BOUNCE_POOL_BYTES;
}

static bool can_split(const struct bio_pool *pool)
{
	const struct bio *first = bio_queue_first(&pool->split_waiters);

	return first && bio_split_of(first->frame)->left <= pool->available;
}

static bool can_bounce(const struct bio_pool *pool)
{
	const struct bio *first = bio_queue_first(&pool->bounce_waiters);

	return first && bounce_available(pool, first->frame->bounce_class);
}

static void run_again(struct bio_pool *pool, struct bio_queue *waiters)
{
	struct bio *bio = bio_queue_pop(waiters);

	pool->first = bio;
	bio->frame->done(bio);
	pool->first = NULL;
}

static void wake(struct loop_task *task)
{
	struct bio_pool *pool = container_of(task, struct bio_pool, wake);

	pool->waking = false;
	while (can_split(pool))
		run_again(pool, &pool->split_waiters);
	while (can_bounce(pool))
		run_again(pool, &pool->bounce_waiters);
}

static void wake_later(struct bio_pool *pool)
{
	if (pool->waking || (!can_split(pool) && !can_bounce(pool)))
		return;
	pool->waking = true;
	loop_defer(loop_self(), &pool->wake);
}

static void wait_in(struct bio_queue *waiters, struct bio_pool *pool, struct bio *bio, bio_fn again)
{
	bio->frame->done = again;
	if (pool->first == bio) {
		bio->task.next = waiters->head;
		if (!waiters->head)
			waiters->tail = &bio->task.next;
		waiters->head = &bio->task;
	} else {
		bio_queue_push(waiters, bio);
	}
}

/* ---- children ---------------------------------------------------------------------------------
 */

bool bio_pool_reserve(struct bio_pool *pool, struct bio *bio, unsigned n, bio_fn again)
{
	BELLOWS_ASSERT(n >= 1 && n <= BIO_SPLIT_MAX);
	if (likely(n <= pool->available && (!pool->split_waiters.head || pool->first == bio))) {
		pool->available -= n;
		return true;
	}
	bio_split_of(bio->frame)->left = n;
	wait_in(&pool->split_waiters, pool, bio, again);
	return false;
}

void bio_pool_unreserve(struct bio_pool *pool, unsigned n)
{
	pool->available += n;
	if (unlikely(pool->split_waiters.head != NULL))
		wake_later(pool);
}

void bio_pool_put_child(struct bio_pool *pool, struct bio_child *child)
{
	child->next_free = pool->free;
	pool->free = child;
	bio_pool_unreserve(pool, 1);
}

/* ---- bounce buffers -----------------------------------------------------------------------------
 */

static uint8_t class_of(size_t bytes)
{
	uint8_t c = 0;

	while (class_bytes(c) < bytes)
		c++;
	return c;
}

static struct buffer_stats *stats_of(struct bio_pool *pool, unsigned class_index)
{
	return &pool->stats[class_index < LARGE_CLASS ? BUFFERS_SMALL : BUFFERS_LARGE];
}

/* NULL: the machine has no memory. */
static void *take_buffer(struct bio_pool *pool, unsigned class_index)
{
	size_t bytes = class_bytes(class_index);
	void *buffer = pool->buffers[class_index];

	if (buffer) {
		pool->buffers[class_index] = *(void **)buffer;
		stats_of(pool, class_index)->reused++;
	} else {
		for (unsigned c = 0; c < BOUNCE_CLASSES; c++) {
			if (pool->bounce_bytes + bytes > BOUNCE_POOL_BYTES)
				free_buffers(pool, c);
		}
		buffer = try_alloc_aligned((size_t)1 << BOUNCE_SHIFT_MIN, bytes);
		if (!buffer)
			return NULL;
		pool->bounce_bytes += bytes;
		stats_of(pool, class_index)->made++;
	}
	pool->bounce_used_bytes += bytes;
	return buffer;
}

void *bio_bounce_from(struct bio_pool *pool, struct bio *bio, size_t bytes, bio_fn again)
{
	struct bio_frame *frame = bio->frame;
	void *buffer;

	BELLOWS_ASSERT(bytes <= BIO_BOUNCE_MAX_BYTES);
	if (frame->flags & FRAME_BOUNCE) {
		BELLOWS_ASSERT(bytes <= class_bytes(frame->bounce_class));
		return frame->bounce;
	}
	frame->bounce_class = class_of(bytes);
	frame->bounce_user = pool->user;
	frame->bounce_rank = pool->rank;
	if ((pool->bounce_waiters.head && pool->first != bio) ||
	        !bounce_available(pool, frame->bounce_class)) {
		stats_of(pool, frame->bounce_class)->waited++;
		wait_in(&pool->bounce_waiters, pool, bio, again);
		return NULL;
	}
	buffer = take_buffer(pool, frame->bounce_class);
	if (!buffer) {
		bio_complete(bio, -ENOMEM);
		return NULL;
	}
	frame->bounce = buffer;
	frame->flags |= FRAME_BOUNCE;
	return buffer;
}

void bio_drop_bounce(struct bio *bio, struct bio_frame *frame)
{
	bio_restore_data_of(bio, frame);
	bio_bounce_free(bio, frame);
	frame->flags &= (uint8_t)~FRAME_BOUNCE;
	frame->loop_part = bio_bdev_loop(bio, frame->bdev);
}

void bio_bounce_free(struct bio *bio, struct bio_frame *frame)
{
	struct bio_pool *pool = &pools[frame->bounce_rank][frame->bounce_user][bio->loop->id];
	void **buffer = frame->bounce;

	*buffer = pool->buffers[frame->bounce_class];
	pool->buffers[frame->bounce_class] = buffer;
	pool->bounce_used_bytes -= class_bytes(frame->bounce_class);
	if (unlikely(pool->bounce_waiters.head != NULL))
		wake_later(pool);
}

void *bio_bounce(struct bio *bio, size_t bytes, bio_fn again)
{
	struct bdev_loop *bl = bio_bdev_loop(bio, bio_bdev(bio));

	return bio_bounce_from(bl->slow->pools[POOL_MODULE], bio, bytes, again);
}

/* ---- statistics ---------------------------------------------------------------------------------
 */

struct stats_read {
	struct buffer_stats *out;
	struct bdev_done done;
	struct buffer_stats rows[][BUFFERS_SIZES];
};

static void add(struct buffer_stats *sum, const struct buffer_stats *row)
{
	sum->reused += row->reused;
	sum->made += row->made;
	sum->waited += row->waited;
}

static void read_on_loop(struct loop *loop, void *arg)
{
	struct stats_read *read = arg;

	for (unsigned r = 0; r < BDEV_RANKS_MAX; r++)
		for (unsigned u = 0; u < POOL_USERS; u++)
			for (unsigned s = 0; s < BUFFERS_SIZES && pools[r][u]; s++)
				add(&read->rows[loop->id][s], &pools[r][u][loop->id].stats[s]);
}

static void read_done(void *arg, const struct err *err)
{
	struct stats_read *read = arg;
	struct bdev_done done = read->done;

	for (unsigned s = 0; s < BUFFERS_SIZES; s++) {
		read->out[s] = (struct buffer_stats){0};
		for (unsigned i = 0; i < loops_count(); i++)
			add(&read->out[s], &read->rows[i][s]);
	}
	free(read);
	bdev_done_call(done, err);
}

void buffers_get_stats(struct buffer_stats *out, struct bdev_done done)
{
	struct stats_read *read = xcalloc(1, sizeof(*read) + loops_count() * sizeof(read->rows[0]));

	read->out = out;
	read->done = done;
	loops_run_everywhere(read_on_loop, read, (struct bdev_done){read_done, read});
}
