/* The null bdev: its methods, and that it shows nobody what was in a buffer before. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

#define BLOCK 4096U

static int setup(void **state)
{
	(void)state;
	inproc_start(1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void create(void)
{
	json_t *name = inproc_result(
	        "bdev_null_create", "{'name': 'N', 'num_blocks': 1024, 'block_size': 4096}");

	assert_string_equal(json_string_value(name), "N");
	json_decref(name);
}

static void reads_give_zeroes(void **state)
{
	static uint8_t buf[8 * BLOCK], zero[8 * BLOCK];
	const struct iovec iov = {buf, sizeof(buf)};
	struct disk *disk;
	struct disk_io io;

	(void)state;
	create();
	disk = disk_open("N", true);
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(disk_write(disk, 3, 8, buf), 0);
	assert_int_equal(disk_read(disk, 3, 8, buf), 0);
	assert_memory_equal(buf, zero, sizeof(buf));

	memset(buf, 'x', sizeof(buf));
	disk_start(disk, &io, 1, BIO_READ, BIO_STALE_OK, 0, 8, &iov, 1);
	assert_int_equal(disk_wait(&io), 0);
	assert_int_equal(buf[0], 'x');

	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, BIO_FUA, 0, 1024, NULL), 0);
	assert_int_equal(disk_do(disk, 1, BIO_WRITE, BIO_FUA, 0, 8, buf), 0);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(disk_do(disk, 1, BIO_RESET, 0, 0, 0, NULL), 0);
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 0, 8, NULL), -EOPNOTSUPP);
	disk_close(disk);
}

static void parameters_are_checked(void **state)
{
	(void)state;
	create();
	inproc_error(-EEXIST, "File exists", "bdev_null_create",
	        "{'name': 'N', 'num_blocks': 8, 'block_size': 512}");
	inproc_error(-EINVAL, "Invalid argument", "bdev_null_create",
	        "{'name': 'M', 'num_blocks': 8, 'block_size': 1000}");
	inproc_error(-EINVAL, "num_blocks", "bdev_null_create",
	        "{'name': 'M', 'num_blocks': 0, 'block_size': 512}");
	inproc_error(-EINVAL, "metadata", "bdev_null_create",
	        "{'name': 'M', 'num_blocks': 8, 'block_size': 512, 'md_size': 8}");
	inproc_error(-EINVAL, "metadata", "bdev_null_create",
	        "{'name': 'M', 'num_blocks': 8, 'block_size': 512, 'dif_type': 1}");
	inproc_error(-EINVAL, "physical block", "bdev_null_create",
	        "{'name': 'M', 'num_blocks': 8, 'block_size': 4096, 'physical_block_size': 512}");
	inproc_error(RPC_INTERNAL_ERROR, "block_size", "bdev_null_create",
	        "{'name': 'M', 'num_blocks': 8}");
	inproc_ok("bdev_null_create",
	        "{'name': 'M', 'num_blocks': 8, 'block_size': 512, 'physical_block_size': 4096, "
	        "'md_size': 0, 'dif_type': 0, 'dif_pi_format': 0, 'dif_is_head_of_md': false, "
	        "'preferred_write_granularity': 8, 'optimal_write_size': 16}");
	inproc_ok("bdev_null_delete", "{'name': 'M'}");
	inproc_error(-ENODEV, "No such device", "bdev_null_delete", "{'name': 'M'}");
	assert_false(bdev_exists("M"));
}

static void its_size_is_a_users_to_set(void **state)
{
	(void)state;
	create();
	inproc_ok("bdev_passthru_create", "{'name': 'P', 'base_bdev_name': 'N'}");
	inproc_ok("bdev_null_resize", "{'name': 'N', 'new_size': 8}");
	assert_int_equal(bdev_blocks_of("N"), 2048);
	assert_int_equal(bdev_blocks_of("P"), 2048);
	inproc_error(-EINVAL, "new_size", "bdev_null_resize", "{'name': 'N', 'new_size': 0}");
	inproc_error(-ENODEV, "'nope'", "bdev_null_resize", "{'name': 'nope', 'new_size': 8}");
	inproc_error(-ENODEV, "'P'", "bdev_null_resize", "{'name': 'P', 'new_size': 8}");
	inproc_error(RPC_INTERNAL_ERROR, "new_size", "bdev_null_resize",
	        "{'name': 'N', 'new_size': 9223372036854775807}");
	/* What is saved makes a bdev of the size it has now. */
	expect_saved("bdev_null_create",
	        "{'name': 'N', 'num_blocks': 2048, 'block_size': 4096, 'physical_block_size': 0, "
	        "'preferred_write_granularity': 0, 'preferred_write_alignment': 0, "
	        "'optimal_write_size': 0, 'preferred_unmap_granularity': 0, "
	        "'preferred_unmap_alignment': 0, 'md_size': 0, 'dif_type': 0, 'dif_pi_format': 0, "
	        "'dif_is_head_of_md': false}");

	struct disk *disk = disk_open("P", true);

	disk->veto_shrink = true;
	inproc_error(-EBUSY, "refuses", "bdev_null_resize", "{'name': 'N', 'new_size': 4}");
	assert_int_equal(bdev_blocks_of("N"), 2048);
	disk->veto_shrink = false;
	inproc_ok("bdev_null_resize", "{'name': 'N', 'new_size': 4}");
	assert_int_equal(bdev_blocks_of("P"), 1024);
	assert_int_equal(disk_blocks(disk), 1024);
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(reads_give_zeroes, setup, teardown),
	        cmocka_unit_test_setup_teardown(parameters_are_checked, setup, teardown),
	        cmocka_unit_test_setup_teardown(its_size_is_a_users_to_set, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
