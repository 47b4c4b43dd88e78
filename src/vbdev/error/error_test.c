/* The error bdev: exactly so many requests are hit, in the way that was asked for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

#define BLOCK 512U

static struct disk *disk;

static int setup(void **state)
{
	(void)state;
	bdev_options()->auto_examine = false; /* its reads count too */
	inproc_start(4);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 1024, 'block_size': 512}");
	inproc_ok("bdev_error_create", "{'base_name': 'm'}");
	disk = disk_open("EE_m", true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	disk_close(disk);
	inproc_stop();
	return 0;
}

#define inject(text) inproc_ok("bdev_error_inject_error", "{'name': 'EE_m', " text "}")

/* Many requests on four loops at once, rules coming anew while they run: each rule for n hits n. */
static void test_counts_are_exact(void **state)
{
	enum {
		N = 4000,
		RULES = 50,
		PER_RULE = 7
	};
	struct disk_io *ios = xcalloc(N, sizeof(*ios));
	/* One for each loop. */
	uint8_t buf[5][BLOCK];
	struct iovec iov[5];
	unsigned failed = 0, rules = 0, left;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		iov[i] = (struct iovec){buf[i], BLOCK};
	for (unsigned i = 0; i < N; i++)
		disk_start(disk, &ios[i], 1 + i % 4, BIO_READ, 0, i % 1024, 1, &iov[1 + i % 4], 1);
	inject("'io_type': 'read', 'error_type': 'failure', 'num': 100");
	for (unsigned i = 0; i < N; i++)
		failed += disk_wait(&ios[i]) == -EIO;
	for (left = 100 - failed; left > 0; left--)
		assert_int_equal(disk_read(disk, 0, 1, buf[0]), -EIO);
	assert_int_equal(disk_read(disk, 0, 1, buf[0]), 0);

	/* A rule that is used up before the next comes: what it hit can be told apart. */
	for (; rules < RULES; rules++) {
		failed = 0;
		inject("'io_type': 'read', 'error_type': 'nomem', 'num': 7");
		for (unsigned i = 0; i < 64; i++)
			disk_start(disk, &ios[i], 1 + i % 4, BIO_READ, 0, i, 1, &iov[1 + i % 4], 1);
		for (unsigned i = 0; i < 64; i++)
			failed += disk_wait(&ios[i]) == -ENOMEM;
		assert_int_equal(failed, PER_RULE);
	}
	free(ios);
}

static void test_kinds_of_operation(void **state)
{
	uint8_t buf[BLOCK] = {0};

	(void)state;
	inject("'io_type': 'all', 'error_type': 'failure', 'num': 1");
	assert_int_equal(disk_write(disk, 0, 1, buf), -EIO);
	assert_int_equal(disk_read(disk, 0, 1, buf), -EIO);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), -EIO);
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 0, 1, NULL), -EIO);
	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, 0, 0, 1, NULL), -EIO);
	assert_int_equal(disk_do(disk, 1, BIO_COMPARE, 0, 0, 1, buf), -EIO);
	assert_int_equal(disk_do(disk, 1, BIO_COMPARE, 0, 0, 1, buf), 0);

	inject("'io_type': 'flush', 'error_type': 'nvme_failure', 'nvme_sct': 0, 'nvme_sc': 129");
	assert_int_equal(disk_write(disk, 0, 1, buf), 0);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), -ENOSPC);
	inject("'io_type': 'write', 'error_type': 'failure', 'num': 1000");
	inject("'io_type': 'clear', 'error_type': 'failure'");
	assert_int_equal(disk_write(disk, 0, 1, buf), 0);
}

static void test_range_and_queue_depth(void **state)
{
	uint8_t buf[8 * BLOCK];

	(void)state;
	inject("'io_type': 'read', 'error_type': 'failure', 'num': 3, 'offset_blocks': 100, "
	       "'num_blocks': 10");
	assert_int_equal(disk_read(disk, 92, 8, buf), 0);
	assert_int_equal(disk_read(disk, 110, 8, buf), 0);
	assert_int_equal(disk_read(disk, 93, 8, buf), -EIO);
	assert_int_equal(disk_read(disk, 109, 8, buf), -EIO);
	assert_int_equal(disk_read(disk, 104, 1, buf), -EIO);
	assert_int_equal(disk_read(disk, 104, 1, buf), 0);

	/* One that is held back is in flight, on loop 1. */
	struct disk_io held;
	struct iovec iov = {buf, BLOCK};

	inject("'io_type': 'read', 'error_type': 'pending'");
	disk_start(disk, &held, 1, BIO_READ, 0, 0, 1, &iov, 1);
	inject("'io_type': 'write', 'error_type': 'failure', 'num': 5, 'queue_depth': 1");
	assert_int_equal(disk_do(disk, 1, BIO_WRITE, 0, 0, 1, buf), -EIO);
	assert_int_equal(disk_do(disk, 2, BIO_WRITE, 0, 0, 1, buf), 0);
	inproc_ok("bdev_error_resume_pending", "{'name': 'EE_m'}");
	assert_int_equal(disk_wait(&held), 0);
	assert_int_equal(disk_do(disk, 1, BIO_WRITE, 0, 0, 1, buf), 0);
}

static void test_damaged_data(void **state)
{
	uint8_t data[8 * BLOCK], copy[8 * BLOCK], back[8 * BLOCK];
	struct iovec iov[4] = {
	        {data, 700}, {data + 700, 1000}, {data + 1700, 0}, {data + 1700, 8 * BLOCK - 1700}};
	struct disk_io io;

	(void)state;
	fill_pattern(data, sizeof(data), 3);
	memcpy(copy, data, sizeof(data));
	inject("'io_type': 'write', 'error_type': 'corrupt_data', 'corrupt_offset': 1600, "
	       "'corrupt_value': 16");
	/* Too short to have that byte: not hit. */
	assert_int_equal(disk_write(disk, 0, 3, data), 0);
	disk_start(disk, &io, 1, BIO_WRITE, 0, 16, 8, iov, 4);
	assert_int_equal(disk_wait(&io), 0);
	assert_memory_equal(data, copy, sizeof(data)); /* the client's own is as it was */
	assert_int_equal(disk_read(disk, 16, 8, back), 0);
	assert_int_equal(back[1600], data[1600] ^ 16);
	back[1600] ^= 16;
	assert_memory_equal(back, data, sizeof(data));

	assert_int_equal(disk_write(disk, 16, 8, data), 0);
	inject("'io_type': 'read', 'error_type': 'corrupt_data', 'corrupt_offset': 699");
	assert_int_equal(disk_read(disk, 16, 8, back), 0);
	assert_int_not_equal(back[699], data[699]);
	back[699] = data[699];
	assert_memory_equal(back, data, sizeof(data));
	assert_int_equal(disk_read(disk, 16, 8, back), 0);
	assert_memory_equal(back, data, sizeof(data));
}

static void test_held_back(void **state)
{
	struct disk_io ios[8];
	uint8_t bufs[8][BLOCK], back[BLOCK];
	struct iovec iov[8];

	(void)state;
	inject("'io_type': 'write', 'error_type': 'pending', 'num': 8");
	for (unsigned i = 0; i < 8; i++) {
		fill_pattern(bufs[i], BLOCK, i);
		iov[i] = (struct iovec){bufs[i], BLOCK};
		disk_start(disk, &ios[i], 1 + i % 4, BIO_WRITE, 0, i, 1, &iov[i], 1);
	}
	/* Behind them, on the loops that they were sent to. */
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(disk_do(disk, 1 + i % 4, BIO_READ, 0, i, 1, back), 0);
		assert_int_equal(back[0] | back[BLOCK - 1], 0);
		assert_false(disk_poll(&ios[i]));
	}
	inproc_ok("bdev_error_resume_pending", "{'name': 'EE_m'}");
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(disk_wait(&ios[i]), 0);
		assert_int_equal(disk_read(disk, i, 1, back), 0);
		assert_memory_equal(back, bufs[i], BLOCK);
	}

	inject("'io_type': 'write', 'error_type': 'pending', 'num': 8");
	disk_start(disk, &ios[0], 1, BIO_WRITE, 0, 0, 1, &iov[0], 1);
	assert_int_equal(disk_do(disk, 1, BIO_RESET, 0, 0, 0, NULL), 0);
	assert_int_equal(disk_wait(&ios[0]), -ECANCELED);
}

/* Nothing waits for ever: not when the bdev is deleted, nor when its base goes. */
static void test_removal_with_held_back(void **state)
{
	struct disk_io io;
	uint8_t buf[BLOCK] = {0};
	struct iovec iov = {buf, BLOCK};

	(void)state;
	inject("'io_type': 'write', 'error_type': 'pending', 'num': 8");
	disk_start(disk, &io, 3, BIO_WRITE, 0, 0, 1, &iov, 1);
	assert_int_equal(disk_do(disk, 3, BIO_FLUSH, 0, 0, 0, NULL), 0);
	inproc_ok("bdev_error_delete", "{'name': 'EE_m'}");
	assert_int_equal(disk_wait(&io), -ENODEV);
	disk_close(disk);

	inproc_ok("bdev_error_create", "{'base_name': 'm'}");
	disk = disk_open("EE_m", true);
	inject("'io_type': 'write', 'error_type': 'pending', 'num': 8");
	disk_start(disk, &io, 3, BIO_WRITE, 0, 0, 1, &iov, 1);
	assert_int_equal(disk_do(disk, 3, BIO_FLUSH, 0, 0, 0, NULL), 0);
	bdev_lose("m");
	assert_int_equal(disk_wait(&io), -ENODEV);
}

static void test_methods(void **state)
{
	(void)state;
	expect_driver_specific("EE_m", "{'error_disk': {'base_bdev': 'm'}}");
	expect_saved("bdev_error_create", "{'base_name': 'm'}");
	inproc_error(-EEXIST, "EE_m", "bdev_error_create", "{'base_name': 'm'}");
	inproc_error(-32602, "base_name", "bdev_error_create", "{}");
	inproc_error(-ENODEV, "'m'", "bdev_error_inject_error",
	        "{'name': 'm', 'io_type': 'read', 'error_type': 'failure'}");
	inproc_error(-EINVAL, "nvme_sct", "bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'read', 'error_type': 'nvme_failure'}");
	inproc_error(-EINVAL, "carry data", "bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'flush', 'error_type': 'corrupt_data'}");
	inproc_error(-32602, "io_type", "bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'x', 'error_type': 'failure'}");
	inproc_error(-ENODEV, "nope", "bdev_error_resume_pending", "{'name': 'nope'}");
	inproc_error(-ENODEV, "'m'", "bdev_error_delete", "{'name': 'm'}");
	inproc_error(-32602, "name", "bdev_error_delete", "{}");

	/* One that waits for its base can be taken back. */
	inproc_ok("bdev_error_create", "{'base_name': 'later'}");
	inproc_ok("bdev_error_delete", "{'name': 'EE_later'}");
	inproc_error(-ENODEV, "EE_later", "bdev_error_delete", "{'name': 'EE_later'}");
	inproc_ok("bdev_error_create", "{'base_name': 'later'}");
	inproc_ok("bdev_malloc_create", "{'name': 'later', 'num_blocks': 8, 'block_size': 512}");
	inproc_ok("bdev_wait_for_examine", NULL);
	assert_true(bdev_exists("EE_later"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_counts_are_exact, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_kinds_of_operation, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_range_and_queue_depth, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_damaged_data, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_held_back, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_removal_with_held_back, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
