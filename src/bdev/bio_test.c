/* Requests through layers: checks at the entrance, frames, children, shortage. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/tram.h"

#define BLOCK 512U
#define LOOPS 4U

/* ---- a layer that tries again, a block lower, and counts ----------------------------------------
 */

static uint64_t retries;

static void retry_done(struct bio *bio)
{
	if (bio->status != 0 && bio->frame->tries < 2) {
		bio->frame->tries++;
		__atomic_fetch_add(&retries, 1, __ATOMIC_SEQ_CST);
		bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio) - 1, retry_done);
		return;
	}
	bio_complete(bio, bio->status);
}

static void retry_submit(struct bio *bio)
{
	BELLOWS_ASSERT(bio->frame->tries == 0 && bio->frame->step == 0);
	bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio), retry_done);
}

static struct bdev_module retry_module = {
        .name = "tretry",
        .product_name = "tretry",
        .summary = "for tests",
        .bases_min = 1,
        .bases_max = 1,
        .no_generated_methods = true,
        .submit = retry_submit,
};
BDEV_MODULE(retry_module);

/* ---- a layer that splits -----------------------------------------------------------------------
 */

#define STRIP 4U /* blocks */

/* One child per strip, however small: the children are what is tested. */
static void stripe_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	uint64_t pos = bio_offset(bio), end = pos + bio->num_blocks;
	unsigned shift = bdev->block_shift, n;

	if (bio->num_blocks == 0) { /* flush, reset: to everybody */
		if (!bio_split_begin(bio, bdev->num_bases, stripe_submit))
			return;
		for (unsigned i = 0; i < bdev->num_bases; i++)
			bio_split_add(bio, bdev->bases[i], 0, 0, 0, NULL);
		bio_split_end(bio, NULL);
		return;
	}
	n = (unsigned)((end - 1) / STRIP - pos / STRIP + 1);
	if (!bio_split_begin(bio, n, stripe_submit))
		return;
	while (pos < end) {
		uint64_t strip = pos / STRIP, len = min_u64(STRIP - pos % STRIP, end - pos);

		bio_split_add(bio, bdev->bases[strip % bdev->num_bases],
		        strip / bdev->num_bases * STRIP + pos % STRIP, len,
		        (pos - bio_offset(bio)) << shift, NULL);
		pos += len;
	}
	bio_split_end(bio, NULL);
}

static int stripe_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	(void)bdev;
	(void)err;
	out->num_blocks = in->bases[0].num_blocks / STRIP * STRIP * in->num_bases;
	out->max_transfer_blocks = STRIP * (BIO_SPLIT_MAX - 1);
	out->buf_align_bytes = 1;
	out->split_on_boundary = false;
	out->caps = BIO_CAPS_DATA & ~BIO_CAP(BIO_BLOCK_STATUS);
	return 0;
}

static struct bdev_module stripe_module = {
        .name = "tstripe",
        .product_name = "tstripe",
        .summary = "for tests",
        .bases_min = 1,
        .bases_max = 8,
        .splits = true,
        .no_generated_methods = true,
        .geometry = stripe_geometry,
        .submit = stripe_submit,
};
BDEV_MODULE(stripe_module);

/* ---- a layer that makes copies, starts children again, and ends splits in every way ------------
 */

static bool copy_done(struct bio *child)
{
	uint64_t *tries = bio_child_tag(child);

	if (child->status == 0 || *tries == 2)
		return true;
	(*tries)++;
	bio_child_restart(child, bio_bdev(bio_child_parent(child))->bases[0],
	        bio_offset(bio_child_parent(child)));
	return false;
}

static void copied(struct bio *bio)
{
	uint64_t *mine = &bio->frame->ctx[2];

	BELLOWS_ASSERT(*mine == 0x1234);
	if (bio->status == 0 && bio->frame->step++ == 0) {
		/* A split without a child is done all the same, and later. */
		if (!bio_split_begin(bio, 3, copied))
			return;
		bio_split_end(bio, copied);
		return;
	}
	bio_complete(bio, bio->status);
}

static void copy_submit(struct bio *bio)
{
	struct bio *child;
	struct iovec *iov;

	bio->frame->ctx[2] = 0x1234;
	/* More than needed is asked for, and given back at the end. */
	if (!bio_split_begin(bio, 9, copy_submit))
		return;
	child = bio_split_prepare(bio, copy_done);
	if (bio->iovcnt == 1 && bio->op == BIO_WRITE) {
		iov = bio_child_iovs(child, 2);
		iov[0] = (struct iovec){bio->iov->iov_base, BLOCK / 2};
		iov[1] = (struct iovec){
		        (char *)bio->iov->iov_base + BLOCK / 2, bio_bytes(bio) - BLOCK / 2};
	}
	bio_child_submit(child, bio_bdev(bio)->bases[0], bio_offset(bio), bio->num_blocks);
	bio_split_end(bio, copied);
}

static struct bdev_module copy_module = {
        .name = "tcopy",
        .product_name = "tcopy",
        .summary = "for tests",
        .bases_min = 1,
        .bases_max = 1,
        .splits = true,
        .no_generated_methods = true,
        .submit = copy_submit,
};
BDEV_MODULE(copy_module);

/* ---- the tests ---------------------------------------------------------------------------------
 */

static void small_pools(void *arg)
{
	(void)arg;
	bdev_options()->bio_pool_size = 1;    /* the least: as many as one split may have */
	bdev_options()->auto_examine = false; /* requests are counted */
}

static int setup(void **state)
{
	(void)state;
	inproc_start(LOOPS);
	inproc_run(small_pools, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static struct tram_config plain(uint64_t num_blocks)
{
	return (struct tram_config){
	        .num_blocks = num_blocks, .block_bytes = BLOCK, .caps = BIO_CAPS_ALL};
}

static struct tram *tram(const char *name, uint64_t num_blocks)
{
	struct tram_config config = plain(num_blocks);

	return tram_create(name, &config);
}

static int try_bio(struct disk *disk, enum bio_op op, unsigned flags, uint64_t offset,
        uint64_t blocks, const struct iovec *iov, unsigned iovcnt)
{
	struct disk_io io;

	disk_start(disk, &io, 1, op, flags, offset, blocks, iov, iovcnt);
	return disk_wait(&io);
}

static void input_is_checked(void **state)
{
	(void)state;
	struct tram *t = tram("t", 100);
	struct disk *disk = disk_open("t", true), *reader = disk_open("t", false);
	static uint8_t buf[4 * BLOCK];
	struct iovec iov[2] = {{buf, BLOCK}, {buf + BLOCK, BLOCK}};

	assert_int_equal(try_bio(disk, BIO_READ, 0, 98, 2, iov, 2), 0);
	assert_int_equal(try_bio(disk, BIO_READ, 0, 99, 2, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_READ, 0, 101, 0, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_READ, 0, UINT64_MAX, 2, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_READ, 0, 2, UINT64_MAX, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_UNMAP, 0, 99, 2, NULL, 0), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_WRITE_ZEROES, 0, UINT64_MAX - 1, 3, NULL, 0), -EINVAL);
	/* data shorter than the length */
	assert_int_equal(try_bio(disk, BIO_WRITE, 0, 0, 3, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_WRITE, 0, 0, 1, NULL, 0), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_COMPARE, 0, 0, 3, iov, 2), -EINVAL);
	/* flags that the operation does not have */
	assert_int_equal(try_bio(disk, BIO_READ, BIO_FUA, 0, 1, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_WRITE, BIO_NO_UNMAP, 0, 1, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_WRITE, 1 << 5, 0, 1, iov, 2), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_FLUSH, BIO_FUA, 0, 0, NULL, 0), -EINVAL);
	assert_int_equal(try_bio(disk, BIO_OPS, 0, 0, 1, iov, 2), -EINVAL);
	/* nothing to do */
	assert_int_equal(try_bio(disk, BIO_READ, 0, 100, 0, NULL, 0), 0);
	assert_int_equal(try_bio(disk, BIO_UNMAP, 0, 0, 0, NULL, 0), 0);
	assert_int_equal(try_bio(disk, BIO_BLOCK_STATUS, 0, 0, 0, NULL, 0), -EINVAL);
	/* ranges of operations that have none are not looked at */
	assert_int_equal(try_bio(disk, BIO_FLUSH, 0, 1000, 1000, NULL, 0), 0);
	assert_int_equal(try_bio(disk, BIO_RESET, 0, UINT64_MAX, 2, NULL, 0), 0);

	assert_int_equal(try_bio(reader, BIO_READ, 0, 0, 2, iov, 2), 0);
	assert_int_equal(try_bio(reader, BIO_WRITE, 0, 0, 2, iov, 2), -EBADF);
	assert_int_equal(try_bio(reader, BIO_UNMAP, 0, 0, 2, NULL, 0), -EBADF);
	assert_int_equal(try_bio(reader, BIO_WRITE_ZEROES, 0, 0, 2, NULL, 0), -EBADF);

	assert_int_equal(tram_get(&t->ops[BIO_WRITE]), 0);
	assert_int_equal(tram_get(&t->ops[BIO_READ]), 2);
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(reader);
	disk_close(disk);
}

static void layers_are_climbed_in_order(void **state)
{
	(void)state;
	struct tram *t = tram("t", 100);
	const char *base = "t";
	struct disk *disk;
	static uint8_t buf[BLOCK];

	tram_stack("passthru", "p0", &base, 1);
	tram_stack("tretry", "r", (const char *[]){"p0"}, 1);
	tram_stack("passthru", "p1", (const char *[]){"r"}, 1);
	disk = disk_open("p1", true);

	/* Fails, comes up past one layer to the one that wants to know, and is sent again. */
	t->fail_times = UINT32_MAX;
	tram_set_u64(&t->fail_block, 50);
	assert_int_equal(disk_write(disk, 50, 1, buf), 0);
	assert_int_equal(tram_get(&retries), 1);
	assert_int_equal(tram_get(&t->ops[BIO_WRITE]), 2);
	/* Only this one: the next bio in the same memory starts without a try. */
	assert_int_equal(disk_write(disk, 50, 1, buf), 0);
	assert_int_equal(tram_get(&retries), 2);
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void deepest_stack(void **state)
{
	(void)state;
	struct tram *t = tram("t", 100);
	char name[16], below[16] = "t";
	struct disk *disk;
	static uint8_t out[2 * BLOCK], in[2 * BLOCK];

	for (unsigned i = 1; i < BIO_FRAMES_MAX; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		tram_stack("passthru", name, (const char *[]){below}, 1);
		snprintf(below, sizeof(below), "%s", name);
	}
	tram_stack_fails("passthru", "too-high", below, -EMLINK);
	disk = disk_open(below, true);
	fill_pattern(out, sizeof(out), 1);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(disk_write(disk, 2 * i, 2, out), 0);
		assert_int_equal(disk_read(disk, 2 * i, 2, in), 0);
		assert_memory_equal(in, out, sizeof(in));
	}
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

/* An iovec array over buf whose entries have odd lengths, some of them 0. */
static unsigned odd_iovs(struct iovec *iov, unsigned max, uint8_t *buf, size_t len, uint64_t seed)
{
	unsigned n = 0;

	while (len > 0) {
		size_t run = n == max - 1 ? len : min_u64(len, seed % 1777);

		iov[n++] = (struct iovec){.iov_base = buf, .iov_len = run};
		buf += run;
		len -= run;
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		seed ^= seed >> 33;
	}
	return n;
}

#define AREA 600U /* blocks */

static void random_requests(struct disk *disk, unsigned rounds)
{
	static uint8_t model[AREA * BLOCK], out[AREA * BLOCK], in[AREA * BLOCK];
	uint64_t seed = 42;

	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < rounds; i++) {
		struct iovec iov[48];
		uint64_t offset, blocks;
		unsigned n;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		offset = (seed >> 33) % AREA;
		blocks = 1 + (seed >> 20) % min_u64(AREA - offset, i % 3 ? 20 : AREA);
		fill_pattern(out, blocks * BLOCK, seed);
		n = odd_iovs(iov, ARRAY_SIZE(iov), out, blocks * BLOCK, seed >> 7);
		assert_int_equal(try_bio(disk, BIO_WRITE, 0, offset, blocks, iov, n), 0);
		memcpy(model + offset * BLOCK, out, blocks * BLOCK);

		offset /= 2;
		n = odd_iovs(iov, ARRAY_SIZE(iov), in, AREA / 2 * BLOCK, seed >> 11);
		assert_int_equal(try_bio(disk, BIO_READ, 0, offset, AREA / 2, iov, n), 0);
		assert_memory_equal(in, model + offset * BLOCK, AREA / 2 * BLOCK);
	}
}

static void splits_carry_the_right_data(void **state)
{
	(void)state;
	struct tram *a = tram("a", 304), *b = tram("b", 304);

	tram_stack("tstripe", "s", (const char *[]){"a", "b"}, 2);

	struct disk *disk = disk_open("s", true);

	random_requests(disk, 300);
	assert_int_equal(try_bio(disk, BIO_FLUSH, 0, 0, 0, NULL, 0), 0);
	assert_int_equal(tram_get(&a->ops[BIO_FLUSH]), 1);
	assert_int_equal(tram_get(&b->ops[BIO_FLUSH]), 1);
	assert_int_equal(tram_get(&a->breaches) + tram_get(&b->breaches), 0);
	disk_close(disk);
}

static void one_bad_child_fails_its_parent_alone(void **state)
{
	(void)state;
	struct tram *a = tram("a", 300);
	struct tram *b = tram("b", 300);
	static uint8_t buf[64 * BLOCK];

	tram_stack("tstripe", "s", (const char *[]){"a", "b"}, 2);

	struct disk *disk = disk_open("s", true);

	b->fail_times = UINT32_MAX;
	tram_set_u64(&b->fail_block, 9);
	assert_int_equal(disk_write(disk, 0, 64, buf), -EIO);
	/* Its other children were waited for. */
	assert_int_equal(tram_get(&a->inflight) + tram_get(&b->inflight), 0);
	assert_int_equal(disk_write(disk, 64, 64, buf), 0);
	disk_close(disk);
}

static void children_start_again(void **state)
{
	(void)state;
	struct tram *t = tram("t", 300);
	static uint8_t out[8 * BLOCK], in[8 * BLOCK];

	tram_stack("tcopy", "c", (const char *[]){"t"}, 1);

	struct disk *disk = disk_open("c", true);

	t->fail_times = 2;
	tram_set_u64(&t->fail_block, 5);
	fill_pattern(out, sizeof(out), 3);
	assert_int_equal(disk_write(disk, 0, 8, out), 0);
	assert_int_equal(tram_get(&t->ops[BIO_WRITE]), 3);
	assert_int_equal(disk_read(disk, 0, 8, in), 0);
	assert_memory_equal(in, out, sizeof(in));
	t->fail_times = 3;
	assert_int_equal(disk_write(disk, 0, 8, out), -EIO);
	assert_int_equal(try_bio(disk, BIO_FLUSH, 0, 0, 0, NULL, 0), 0);
	disk_close(disk);
}

#define MANY 600U

/*
 * Many requests at once, most of which need nearly all children that there are, through two layers
 * that split, and the core that splits above each.
 */
static void shortage_makes_requests_wait_their_turn(void **state)
{
	(void)state;
	struct tram_config config = plain(20000);
	struct tram *base[4];
	static struct disk_io ios[MANY];
	static struct iovec iovs[MANY];
	static uint8_t out[512 * BLOCK], in[LOOPS][512 * BLOCK];
	static const char *const names[4] = {"a", "b", "c", "d"};
	struct disk *disk;

	config.in_order = true;
	config.max_transfer_blocks = 3;
	for (unsigned i = 0; i < 4; i++)
		base[i] = tram_create(names[i], &config);
	tram_stack("tstripe", "s0", names, 2);
	tram_stack("tstripe", "s1", names + 2, 2);
	tram_stack("tstripe", "s", (const char *[]){"s0", "s1"}, 2);
	tram_stack("tcopy", "top", (const char *[]){"s"}, 1);
	disk = disk_open("top", true);
	for (unsigned i = 0; i < 4; i++)
		tram_set(&base[i]->held, true);
	for (unsigned i = 0; i < MANY; i++) {
		iovs[i] = (struct iovec){i % 2 ? in[i % LOOPS] : out, sizeof(out)};
		disk_start(disk, &ios[i], 1 + i % LOOPS, i % 2 ? BIO_READ : BIO_WRITE, 0,
		        i * 7 % 4000, 1 + i * 13 % 500, &iovs[i], 1);
	}
	for (unsigned i = 0; i < 4; i++)
		tram_set(&base[i]->held, false);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(disk_wait(&ios[i]), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(tram_get(&base[i]->inflight), 0);
		assert_int_equal(tram_get(&base[i]->breaches), 0);
	}
	disk_close(disk);
}

/* Each of these needs nearly all children: they go down one by one, in the order they came. */
static void waiters_are_served_in_order(void **state)
{
	(void)state;
	struct tram_config config = plain(20000);
	static struct disk_io ios[40];
	static uint8_t buf[STRIP * 60 * BLOCK];
	const struct iovec iov = {buf, sizeof(buf)};
	struct tram *t;
	struct disk *disk;

	config.in_order = true;
	t = tram_create("t", &config);
	tram_stack("tstripe", "s", (const char *[]){"t"}, 1);
	disk = disk_open("s", true);
	tram_set(&t->held, true);
	for (unsigned i = 0; i < ARRAY_SIZE(ios); i++)
		disk_start(
		        disk, &ios[i], 1, BIO_WRITE, 0, i * 250, STRIP * (i % 7 ? 60 : 2), &iov, 1);
	tram_set(&t->held, false);
	for (unsigned i = 0; i < ARRAY_SIZE(ios); i++)
		assert_int_equal(disk_wait(&ios[i]), 0);
	for (unsigned i = 1; i < t->num_seen; i++)
		assert_true(t->seen[i] > t->seen[i - 1]);
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(input_is_checked, setup, teardown),
	        cmocka_unit_test_setup_teardown(layers_are_climbed_in_order, setup, teardown),
	        cmocka_unit_test_setup_teardown(deepest_stack, setup, teardown),
	        cmocka_unit_test_setup_teardown(splits_carry_the_right_data, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                one_bad_child_fails_its_parent_alone, setup, teardown),
	        cmocka_unit_test_setup_teardown(children_start_again, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                shortage_makes_requests_wait_their_turn, setup, teardown),
	        cmocka_unit_test_setup_teardown(waiters_are_served_in_order, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
