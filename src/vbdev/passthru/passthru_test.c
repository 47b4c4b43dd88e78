/* The passthru layer is its base under another name. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

static int setup(void **state)
{
	(void)state;
	inproc_start(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void it_is_its_base(void **state)
{
	static uint8_t out[16 * 512], in[16 * 512];
	struct disk *disk;

	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'M', 'num_blocks': 1000, 'block_size': 512}");
	inproc_ok("bdev_passthru_create", "{'name': 'P', 'base_bdev_name': 'M'}");
	assert_int_equal(bdev_blocks_of("P"), 1000);
	expect_driver_specific("P", "{'passthru': {'name': 'P', 'base_bdev_name': 'M'}}");
	expect_saved("bdev_passthru_create", "{'name': 'P', 'base_bdev_name': 'M'}");
	inproc_error(-EPERM, "'P'", "bdev_passthru_create", "{'name': 'Q', 'base_bdev_name': 'M'}");

	disk = disk_open("P", true);
	fill_pattern(out, sizeof(out), 1);
	assert_int_equal(disk_write(disk, 984, 16, out), 0);
	disk_close(disk);
	inproc_ok("bdev_passthru_delete", "{'name': 'P'}");

	disk = disk_open("M", true);
	assert_int_equal(disk_read(disk, 984, 16, in), 0);
	assert_memory_equal(in, out, sizeof(in));
	disk_close(disk);
}

static void it_waits_for_its_base(void **state)
{
	(void)state;
	inproc_ok("bdev_passthru_create", "{'name': 'P', 'base_bdev_name': 'N'}");
	assert_false(bdev_exists("P"));
	inproc_ok("bdev_null_create", "{'name': 'N', 'num_blocks': 8, 'block_size': 512}");
	inproc_ok("bdev_get_bdevs", "{'name': 'P', 'timeout': 10000}");
	assert_int_equal(bdev_blocks_of("P"), 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(it_is_its_base, setup, teardown),
	        cmocka_unit_test_setup_teardown(it_waits_for_its_base, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
