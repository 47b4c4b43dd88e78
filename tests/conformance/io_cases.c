/* Requests: every kind, every edge, many at once, while the bdev is paused, and counted. */
#include "tests/conformance/conformance.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"

static void random_requests(struct stack *stack)
{
	struct rng rng = rng_of(stack->subject->variant);
	struct model *models[BDEVS_MAX];

	stack_open(stack);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		models[i] = model_new(stack, stack->disks[i]);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		model_run(models[i], &rng, 300);
	/* None has touched another's. */
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		model_verify(models[i]);
		model_free(models[i]);
	}
}

/* ---- edges ------------------------------------------------------------------------------------
 */

struct probe {
	struct disk *disk;
	uint8_t *buf; /* 64 blocks */
	struct disk_io io;
};

static int try_iov(struct probe *p, enum bio_op op, unsigned flags, uint64_t offset, uint64_t len,
        const struct iovec *iov, unsigned n)
{
	disk_start(p->disk, &p->io, 1, op, flags, offset, len, iov, n);
	return disk_wait(&p->io);
}

static int try_op(struct probe *p, enum bio_op op, uint64_t offset, uint64_t len)
{
	bool data = op == BIO_READ || op == BIO_WRITE || op == BIO_COMPARE;
	struct iovec iov = {p->buf, 64ULL * p->disk->block_bytes};

	return try_iov(p, op, 0, offset, len, data ? &iov : NULL, data ? 1 : 0);
}

static const enum bio_op range_ops[] = {
        BIO_READ, BIO_WRITE, BIO_UNMAP, BIO_WRITE_ZEROES, BIO_COMPARE, BIO_BLOCK_STATUS};

static void expect_refused(struct probe *p, uint64_t offset, uint64_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(range_ops); i++) {
		int status = try_op(p, range_ops[i], offset, len);

		if (status != -EINVAL && status != -EOPNOTSUPP)
			fail_msg("'%s': %s of blocks %llu+%llu gives %d", p->disk->name,
			        bio_op_name(range_ops[i]), (unsigned long long)offset,
			        (unsigned long long)len, status);
	}
}

static void edges_of(struct stack *stack, struct disk *disk)
{
	struct probe p = {.disk = disk, .buf = xcalloc(64, disk->block_bytes)};
	uint64_t blocks = disk_blocks(disk);
	struct iovec iov[3] = {{p.buf, 0}, {p.buf, 2ULL * disk->block_bytes - 1}, {p.buf, 0}};

	expect_refused(&p, blocks, 1);
	expect_refused(&p, blocks - 1, 2);
	expect_refused(&p, blocks + 5, 1);
	expect_refused(&p, 0, blocks + 1);
	expect_refused(&p, UINT64_MAX, 1);
	expect_refused(&p, UINT64_MAX - 3, 8);
	expect_refused(&p, 1, UINT64_MAX);
	expect_refused(&p, UINT64_MAX / disk->block_bytes, 2);
	for (size_t i = 0; i < ARRAY_SIZE(range_ops); i++) {
		int status = try_op(&p, range_ops[i], 5, 0);

		/* There is no extent of nothing. */
		if (range_ops[i] == BIO_BLOCK_STATUS && status == -EINVAL)
			continue;
		if (status != 0 && status != -EOPNOTSUPP)
			fail_msg("%s of nothing: %d", bio_op_name(range_ops[i]), status);
	}
	/* Less memory than blocks; none at all; flags that there are not. */
	assert_int_equal(try_iov(&p, BIO_READ, 0, 0, 2, iov, 3), -EINVAL);
	assert_int_equal(try_iov(&p, BIO_WRITE, 0, 0, 2, iov, 3), -EINVAL);
	assert_int_equal(try_iov(&p, BIO_READ, 0, 0, 1, NULL, 0), -EINVAL);
	iov[1].iov_len++;
	assert_int_equal(try_iov(&p, BIO_READ, 0x40, 0, 2, iov, 3), -EINVAL);
	assert_int_equal(try_iov(&p, BIO_READ, 0, 0, 2, iov, 3), 0);

	/* The first and the last block are there. */
	fill_pattern(p.buf, disk->block_bytes, 1);
	if (!disk->zone_blocks)
		assert_int_equal(try_op(&p, BIO_WRITE, blocks - 1, 1), 0);
	memset(p.buf, 0, disk->block_bytes);
	assert_int_equal(try_op(&p, BIO_READ, blocks - 1, 1), 0);
	if (keeps_data(stack) && !disk->zone_blocks) {
		uint8_t *expected = xcalloc(1, disk->block_bytes);

		fill_pattern(expected, disk->block_bytes, 1);
		assert_memory_equal(p.buf, expected, disk->block_bytes);
		free(expected);
	}
	assert_int_equal(try_op(&p, BIO_READ, 0, 1), 0);
	free(p.buf);
}

static void edges(struct stack *stack)
{
	stack_open(stack);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		edges_of(stack, stack->disks[i]);
}

/* ---- many at once -----------------------------------------------------------------------------
 */

/* Far more than there are children in a small pool. */
static void many_at_once(struct stack *stack)
{
	struct load *loads[BDEVS_MAX];

	stack_open(stack);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		loads[i] = start_load(stack, i, 100, 1);
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		load_run(loads[i], 8000 / stack->num_bdevs);
		struct load_result result = load_stop(loads[i]);

		expect_clean(stack, &result);
	}
}

/* ---- pauses -----------------------------------------------------------------------------------
 */

struct pausing {
	struct stack *stack;
	struct loop_timer timer;
	struct bdev_range range;
	unsigned bdev, left;
	bool by_range;
	sem_t done;
};

static void pause_next(struct pausing *p);

static struct bdev *paused_bdev(const struct pausing *p)
{
	return bdev_find(p->stack->bdevs[p->bdev]);
}

static void let_go(struct loop_timer *timer)
{
	struct pausing *p = container_of(timer, struct pausing, timer);

	if (p->by_range)
		bdev_range_unlock(paused_bdev(p), &p->range);
	else
		bdev_unquiesce(paused_bdev(p));
	pause_next(p);
}

static uint64_t inflight(const struct bdev *bdev)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < loops_count(); i++)
		sum += __atomic_load_n(&bdev->loops[i].inflight[0], __ATOMIC_RELAXED) +
		       __atomic_load_n(&bdev->loops[i].inflight[1], __ATOMIC_RELAXED);
	return sum;
}

static void paused(void *arg, const struct err *err)
{
	struct pausing *p = arg;

	BELLOWS_ASSERT(!err || !err->code);
	if (!p->by_range)
		BELLOWS_ASSERT(inflight(paused_bdev(p)) == 0);
	p->timer.fire = let_go;
	loop_timer_start(loop_self(), &p->timer, loop_now_ns(loop_self()) + 200 * NSEC_PER_USEC);
}

static void pause_next(struct pausing *p)
{
	struct bdev *bdev = paused_bdev(p);
	uint64_t blocks = bdev_num_blocks(bdev);

	if (p->left-- == 0) {
		sem_post(&p->done);
		return;
	}
	p->by_range = p->left % 2;
	p->range = (struct bdev_range){
	        .offset_blocks = p->left * 37 % blocks,
	        .num_blocks = min_u64(blocks - p->left * 37 % blocks, 300),
	        .locked = {paused, p},
	};
	if (p->by_range)
		bdev_range_lock(bdev, &p->range);
	else
		bdev_quiesce(bdev, (struct bdev_done){paused, p});
}

static void pause_on_control(void *arg)
{
	pause_next(arg);
}

static void pauses(struct stack *stack)
{
	stack_open(stack);
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		struct pausing p = {.stack = stack, .bdev = i, .left = 40};
		struct load *load = start_load(stack, i, 16, 1);

		sem_init(&p.done, 0, 0);
		inproc_run(pause_on_control, &p);
		while (sem_wait(&p.done) != 0)
			;
		load_run(load, 500); /* it goes on afterwards */
		struct load_result result = load_stop(load);

		expect_clean(stack, &result);
		sem_destroy(&p.done);
	}
}

/* ---- statistics -------------------------------------------------------------------------------
 */

struct reading {
	const char *name;
	bool reset;
	struct bdev_stats sum, per_loop[LOOPS_MAX];
	sem_t done;
};

static void read_done(void *arg, const struct err *err)
{
	struct reading *r = arg;

	BELLOWS_ASSERT(!err || !err->code);
	sem_post(&r->done);
}

static void read_on_control(void *arg)
{
	struct reading *r = arg;
	struct bdev *bdev = bdev_find(r->name);

	if (r->reset)
		bdev_reset_stats(bdev, BDEV_RESET_ALL, (struct bdev_done){read_done, r});
	else
		bdev_get_stats(bdev, &r->sum, r->per_loop, (struct bdev_done){read_done, r});
}

static void ask_stats(struct reading *r)
{
	sem_init(&r->done, 0, 0);
	inproc_run(read_on_control, r);
	while (sem_wait(&r->done) != 0)
		;
	sem_destroy(&r->done);
}

static void reset_zones(struct disk *disk)
{
	struct disk_io io = {.bio.zone_action = ZONE_RESET};

	if (disk->zone_blocks == 0)
		return;
	disk_start(disk, &io, 1, BIO_ZONE_MGMT, BIO_ZONE_ALL, 0, disk_blocks(disk), NULL, 0);
	assert_int_equal(disk_wait(&io), 0);
}

static void statistics(struct stack *stack)
{
	static struct reading r;
	uint8_t *buf;

	stack_open(stack);
	r = (struct reading){.name = stack->bdevs[0], .reset = true};
	ask_stats(&r);
	r.reset = false;
	buf = xcalloc(8, stack->disks[0]->block_bytes);
	reset_zones(stack->disks[0]);
	for (unsigned i = 0; i < 40; i++) {
		unsigned loop = 1 + i % stack->subject->data_loops;
		uint64_t zone = stack->disks[0]->zone_blocks;

		assert_int_equal(disk_do(stack->disks[0], loop, BIO_WRITE, 0,
		                         zone ? i * zone : i % 16 * 8, 8, buf),
		        0);
		assert_int_equal(disk_do(stack->disks[0], loop, BIO_READ, 0, i, 3, buf), 0);
	}
	ask_stats(&r);
	assert_int_equal(r.sum.op[BIO_WRITE].ops, 40);
	assert_int_equal(r.sum.op[BIO_WRITE].blocks, 320);
	assert_int_equal(r.sum.op[BIO_READ].ops, 40);
	assert_int_equal(r.sum.op[BIO_READ].blocks, 120);
	assert_int_equal(r.sum.op[BIO_READ].errors, 0);
	for (unsigned op = 0; op < BIO_OPS; op++) {
		uint64_t ops = 0, blocks = 0;

		for (unsigned l = 0; l <= stack->subject->data_loops; l++) {
			ops += r.per_loop[l].op[op].ops;
			blocks += r.per_loop[l].op[op].blocks;
		}
		assert_int_equal(ops, r.sum.op[op].ops);
		assert_int_equal(blocks, r.sum.op[op].blocks);
	}
	free(buf);
}

const struct conformance_case io_cases[] = {
        {"random requests hold what was written", random_requests},
        {"edges of the size are kept", edges},
        {"many requests on all loops", many_at_once},
        {"quiesce and range locks under load", pauses},
        {"statistics add up", statistics},
        {NULL, NULL},
};
