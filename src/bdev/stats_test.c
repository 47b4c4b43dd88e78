/* Counters and histograms: each loop counts its own, and the sums are right. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/tram.h"

#define BLOCK 512U
#define LOOPS 3U

static int setup(void **state)
{
	(void)state;
	inproc_start(LOOPS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

struct call {
	const char *name;
	struct bdev_stats sum, per_loop[LOOPS + 1];
	enum bdev_stats_reset mode;
	struct bdev_histogram histogram;
	int code;
	sem_t done;
};

static void call_done(void *arg, const struct err *err)
{
	struct call *call = arg;

	call->code = err ? err->code : 0;
	sem_post(&call->done);
}

static int run(void (*fn)(void *arg), struct call *call)
{
	sem_init(&call->done, 0, 0);
	inproc_run(fn, call);
	while (sem_wait(&call->done) != 0)
		;
	sem_destroy(&call->done);
	return call->code;
}

static void get(void *arg)
{
	struct call *call = arg;

	bdev_get_stats(bdev_find(call->name), &call->sum, call->per_loop,
	        (struct bdev_done){call_done, call});
}

static void reset(void *arg)
{
	struct call *call = arg;

	bdev_reset_stats(bdev_find(call->name), call->mode, (struct bdev_done){call_done, call});
}

static void enable(void *arg)
{
	struct call *call = arg;

	bdev_histogram_enable(
	        bdev_find(call->name), &call->histogram, (struct bdev_done){call_done, call});
}

static void disable(void *arg)
{
	struct call *call = arg;

	bdev_histogram_disable(bdev_find(call->name), (struct bdev_done){call_done, call});
}

static void histogram_get(void *arg)
{
	struct call *call = arg;

	bdev_histogram_get(
	        bdev_find(call->name), &call->histogram, (struct bdev_done){call_done, call});
}

static uint64_t bucket_sum(struct call *call)
{
	uint64_t sum = 0;

	assert_int_equal(run(histogram_get, call), 0);
	for (unsigned i = 0; i < call->histogram.num_buckets; i++)
		sum += call->histogram.buckets[i];
	free(call->histogram.buckets);
	return sum;
}

static struct disk *stack(struct tram **out)
{
	struct tram_config config = {.num_blocks = 1000,
	        .block_bytes = BLOCK,
	        .caps = BIO_CAPS_ALL & ~BIO_CAP(BIO_WRITE_ZEROES),
	        .max_transfer_blocks = 4};

	*out = tram_create("t", &config);
	tram_stack("passthru", "p", (const char *[]){"t"}, 1);
	return disk_open("p", true);
}

/* Of a bdev that has done 60 reads, two of which failed. */
static void resets(struct call *call)
{
	call->mode = BDEV_RESET_ERROR;
	run(reset, call);
	run(get, call);
	assert_int_equal(call->sum.op[BIO_READ].errors, 0);
	assert_int_equal(call->sum.op[BIO_READ].ops, 60);
	call->mode = BDEV_RESET_MAXMIN;
	run(reset, call);
	run(get, call);
	assert_int_equal(call->sum.op[BIO_READ].ops, 60);
	assert_int_equal(call->sum.op[BIO_READ].latency_max_ns, 0);
	assert_true(call->sum.op[BIO_READ].latency_min_ns == UINT64_MAX);
	call->mode = BDEV_RESET_NONE;
	run(reset, call);
	run(get, call);
	assert_int_equal(call->sum.op[BIO_READ].ops, 60);
	call->mode = BDEV_RESET_ALL;
	run(reset, call);
	run(get, call);
	assert_int_equal(call->sum.op[BIO_READ].ops, 0);
	assert_int_equal(call->sum.op[BIO_READ].blocks, 0);
}

static void sums_are_those_of_the_loops(void **state)
{
	(void)state;
	struct tram *t;
	struct disk *disk = stack(&t);
	struct call call = {.name = "p"};
	static uint8_t buf[32 * BLOCK];
	static const char *const names[2] = {"p", "t"};

	/* Other modules may have looked for their metadata. */
	inproc_ok("bdev_wait_for_examine", NULL);
	inproc_ok("bdev_reset_iostat", NULL);
	for (unsigned loop = 1; loop <= LOOPS; loop++) {
		for (unsigned i = 0; i < 10 * loop; i++)
			assert_int_equal(disk_do(disk, loop, BIO_READ, 0, i, 2, buf), 0);
		for (unsigned i = 0; i < 3; i++) /* in eight transfers, but one request */
			assert_int_equal(disk_do(disk, loop, BIO_WRITE, 0, i, 32, buf), 0);
	}
	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, 0, 0, 20, NULL), 0);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	t->fail_times = UINT32_MAX;
	tram_set_u64(&t->fail_block, 500);
	assert_int_equal(disk_do(disk, 2, BIO_READ, 0, 500, 1, buf), -EIO);
	assert_int_equal(disk_do(disk, 2, BIO_READ, 0, 490, 30, buf), -EIO);

	for (unsigned k = 0; k < 2; k++) {
		const struct bdev_op_stats *op = call.sum.op;

		call.name = names[k];
		assert_int_equal(run(get, &call), 0);
		assert_int_equal(op[BIO_READ].ops, 60);
		assert_int_equal(op[BIO_READ].blocks, 120);
		assert_int_equal(op[BIO_READ].errors, 2);
		assert_int_equal(op[BIO_WRITE].ops, 9);
		assert_int_equal(op[BIO_WRITE].blocks, 9 * 32);
		assert_int_equal(op[BIO_WRITE_ZEROES].ops, 1);
		assert_int_equal(op[BIO_FLUSH].ops, 1);
		assert_int_equal(op[BIO_FLUSH].blocks, 0);
		assert_true(op[BIO_READ].latency_min_ns <= op[BIO_READ].latency_max_ns);
		assert_in_range(op[BIO_READ].latency_sum_ns, 60 * op[BIO_READ].latency_min_ns,
		        60 * op[BIO_READ].latency_max_ns);
		assert_int_equal(op[BIO_UNMAP].ops, 0);
		assert_true(op[BIO_UNMAP].latency_min_ns == UINT64_MAX);
		assert_int_equal(call.per_loop[1].op[BIO_READ].ops, 10);
		assert_int_equal(call.per_loop[2].op[BIO_READ].ops, 20);
		assert_int_equal(call.per_loop[2].op[BIO_READ].errors, 2);
		assert_int_equal(call.per_loop[3].op[BIO_READ].ops, 30);
	}

	resets(&call);
	disk_close(disk);
}

static void histogram_counts_what_it_is_asked_to(void **state)
{
	(void)state;
	struct tram *t;
	struct disk *disk = stack(&t);
	struct call call = {.name = "p"};
	static uint8_t buf[8 * BLOCK];

	assert_int_equal(run(histogram_get, &call), -ENOMEM);
	call.histogram =
	        (struct bdev_histogram){.min_ns = 1000, .max_ns = 120000000000, .op = BIO_OPS};
	assert_int_equal(run(enable, &call), 0);
	assert_int_equal(bucket_sum(&call), 0);
	assert_int_equal(call.histogram.granularity_shift, 7);
	/* 1000 is of ten bits, 120 * 10^9 of 37: ranges 3 to 30 */
	assert_int_equal(call.histogram.num_buckets, 28 * 128);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(disk_do(disk, 1 + i % LOOPS, BIO_READ, 0, i, 8, buf), 0);
		assert_int_equal(disk_do(disk, 1 + i % LOOPS, BIO_WRITE, 0, i, 1, buf), 0);
	}
	assert_int_equal(bucket_sum(&call), 60);

	/* Once more, for one operation: it starts from nothing. */
	call.histogram = (struct bdev_histogram){
	        .granularity_shift = 3, .min_ns = 1, .max_ns = 1000000, .op = BIO_WRITE};
	assert_int_equal(run(enable, &call), 0);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(disk_do(disk, 1 + i % LOOPS, BIO_READ, 0, i, 8, buf), 0);
		assert_int_equal(disk_do(disk, 1 + i % LOOPS, BIO_WRITE, 0, i, 1, buf), 0);
	}
	assert_int_equal(bucket_sum(&call), 30);
	call.histogram.granularity_shift = 60;
	assert_int_equal(run(enable, &call), -EINVAL);
	assert_int_equal(run(disable, &call), 0);
	assert_int_equal(run(histogram_get, &call), -ENOMEM);
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(sums_are_those_of_the_loops, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                histogram_counts_what_it_is_asked_to, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
