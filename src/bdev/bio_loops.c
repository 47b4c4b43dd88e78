/* bio_loops.c: the per-loop part of a bdev: made, told of a geometry, freed. */
#include "bdev/bio_core.h"

#include <errno.h>
#include <string.h>

static void set_limits(struct bio_limits *limits, const struct bdev_geometry *g, bool check_range)
{
	uint32_t align = g->buf_align_bytes > 1 ? g->buf_align_bytes : 1;
	uint32_t align_blocks = align > g->block_bytes ? align / g->block_bytes : 1;
	uint32_t max_transfer = g->max_transfer_blocks;
	uint32_t boundary = g->split_on_boundary ? g->optimal_io_boundary_blocks : 0;

	BELLOWS_ASSERT(is_power_of_two(align) && align <= (1U << BOUNCE_SHIFT_MIN));
	BELLOWS_ASSERT(boundary == 0 || align_blocks == 1);
	BELLOWS_ASSERT(max_transfer == 0 || max_transfer >= align_blocks);
	*limits = (struct bio_limits){
	        .address_mask = align - 1,
	        .len_mask = (align < g->block_bytes ? align : g->block_bytes) - 1,
	        .max_transfer_blocks = max_transfer / align_blocks * align_blocks,
	        .boundary_blocks = boundary,
	        .write_cache = g->write_cache,
	        .read_only = g->read_only,
	        .check_range = check_range,
	};
}

/* On the loop, or before there is any bio. */
static void set_loop(const struct bdev *bdev, unsigned loop_id, const struct bdev_geometry *g,
        unsigned rank, bool check_range)
{
	struct bdev_loop *bl = &bdev->loops[loop_id];
	struct bdev_slow *slow = bl->slow;
	struct bio_limits *limits = &slow->limits;

	set_limits(limits, g, check_range || limits->check_range);
	bl->lacks = ~g->caps & (BIO_CAPS_ALL | BIO_CAPS_ZONES);
	if (!g->write_cache)
		bl->lacks &= ~BIO_CAP_FUA; /* whatever is complete is durable */
	if (g->read_only)
		bl->lacks |= OPS_THAT_WRITE;
	if (bdev->submit == bdev_pass_submit)
		bl->lacks = 0; /* the base sees to what it can't do */
	if (limits->address_mask || limits->max_transfer_blocks || limits->boundary_blocks ||
	        limits->check_range)
		bl->gate |= GATE_LIMITS;
	else
		bl->gate &= ~(uint32_t)GATE_LIMITS;
	for (unsigned u = 0; u < POOL_USERS; u++)
		slow->pools[u] = bio_pool_get(rank, u, loop_id);
}

void bdev_loops_create(struct bdev *bdev)
{
	unsigned n = loops_count();
	struct gate_control *control = gate_control_create(bdev);
	size_t state_bytes = bdev->module ? bdev->module->loop_state_bytes : 0;

	bdev->caps = bdev->geometry.caps;
	bdev->block_shift = (uint32_t)__builtin_ctz(bdev->geometry.block_bytes);
	__atomic_store_n(&bdev->num_blocks, bdev->geometry.num_blocks, __ATOMIC_RELEASE);
	bdev->loops = try_alloc_aligned(CACHE_LINE_BYTES, n * sizeof(*bdev->loops));
	BELLOWS_ASSERT(bdev->loops);
	for (unsigned i = 0; i < n; i++) {
		struct bdev_loop *bl = &bdev->loops[i];

		bl->slow = try_alloc_aligned(CACHE_LINE_BYTES, sizeof(*bl->slow));
		BELLOWS_ASSERT(bl->slow);
		bl->slow->bdev = bdev;
		bl->slow->control = control;
		bio_queue_init(&bl->slow->queue);
		qos_loop_init(bl);
		for (unsigned op = 0; op < BIO_OPS; op++)
			bl->stats[op].latency_min_ns = UINT64_MAX;
		if (state_bytes > 0) {
			bl->state = try_alloc_aligned(
			        CACHE_LINE_BYTES, align_up_u64(state_bytes, CACHE_LINE_BYTES));
			BELLOWS_ASSERT(bl->state);
		}
		set_loop(bdev, i, &bdev->geometry, bdev->rank, false);
	}
}

void bdev_loops_destroy(struct bdev *bdev)
{
	if (!bdev->loops)
		return;
	gate_control_destroy(bdev->loops[LOOP_CONTROL].slow->control);
	qos_destroy(bdev);
	for (unsigned i = 0; i < loops_count(); i++) {
		struct bdev_loop *bl = &bdev->loops[i];

		BELLOWS_ASSERT(bl->inflight[0] == 0 && bl->inflight[1] == 0);
		BELLOWS_ASSERT(!bl->slow->queue.head);
		loop_histogram_free(bl->slow->histogram);
		free(bl->slow->ranges);
		free(bl->slow);
		free(bl->state);
	}
	free(bdev->loops);
	bdev->loops = NULL;
}

/* ---- publishing ---------------------------------------------------------------------------------
 */

struct publish {
	struct bdev *bdev;
	struct bdev_geometry geometry;
	unsigned rank;
	bool shrinks;
	struct bdev_done done;
};

static void publish_on_loop(struct loop *loop, void *arg)
{
	const struct publish *p = arg;

	set_loop(p->bdev, loop->id, &p->geometry, p->rank, p->shrinks);
}

static void published(void *arg, const struct err *err)
{
	struct publish *p = arg;
	struct bdev_done done = p->done;

	free(p);
	bdev_done_call(done, err);
}

static void seen_everywhere(void *arg, const struct err *err)
{
	struct publish *p = arg;

	if (!p->shrinks)
		published(p, err);
	else if (bdev_gate_closing(p->bdev)) /* which waits for the last bio itself */
		bdev_gate_refuse(p->bdev, (struct bdev_done){published, p});
	else
		bdev_gate_flush_out(p->bdev, (struct bdev_done){published, p});
}

void bdev_publish_geometry(
        struct bdev *bdev, const struct bdev_geometry *geometry, struct bdev_done done)
{
	struct publish *p;

	BELLOWS_ASSERT(loop_is_control());
	BELLOWS_ASSERT(geometry->block_bytes == 1U << bdev->block_shift);
	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct publish){.bdev = bdev,
	        .geometry = *geometry,
	        .rank = bdev->rank,
	        .shrinks = geometry->num_blocks < bdev->num_blocks,
	        .done = done};
	for (unsigned u = 0; u < POOL_USERS; u++)
		(void)bio_pool_get(bdev->rank, u, LOOP_CONTROL);
	bdev->caps = geometry->caps;
	__atomic_store_n(&bdev->num_blocks, geometry->num_blocks, __ATOMIC_RELEASE);
	loops_run_everywhere(publish_on_loop, p, (struct bdev_done){seen_everywhere, p});
}
