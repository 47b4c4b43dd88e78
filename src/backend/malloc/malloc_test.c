/* The malloc bdev: its methods, its data, and its memory when it is resized. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

#define BLOCK 512U

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

static void all_equal(const uint8_t *buf, size_t len, uint8_t value)
{
	for (size_t i = 0; i < len; i++) {
		if (buf[i] != value)
			fail_msg("byte %zu is %u, not %u", i, buf[i], value);
	}
}

static void test_create_and_delete(void **state)
{
	json_t *name = inproc_result("bdev_malloc_create", "{'num_blocks': 8, 'block_size': 4096}");
	json_t *next = inproc_result("bdev_malloc_create", "{'num_blocks': 8, 'block_size': 4096}");

	(void)state;
	assert_memory_equal(json_string_value(name), "Malloc", 6);
	assert_string_not_equal(json_string_value(name), json_string_value(next));
	inproc_ok("bdev_malloc_delete", "{'name': '%s'}", json_string_value(name));
	assert_false(bdev_exists(json_string_value(name)));
	json_decref(name);
	json_decref(next);

	inproc_ok("bdev_malloc_create",
	        "{'name': 'm', 'num_blocks': 64, 'block_size': 512, 'md_interleave': false, "
	        "'dif_is_head_of_md': false, 'uuid': '5A5a5a5a-0000-4000-8000-000000000001'}");
	inproc_error(-EEXIST, "'m'", "bdev_malloc_create",
	        "{'name': 'm', 'num_blocks': 64, 'block_size': 512}");
	inproc_error(-EINVAL, "power of two", "bdev_malloc_create",
	        "{'name': 'x', 'num_blocks': 64, 'block_size': 500}");
	inproc_error(-EINVAL, "physical_block_size", "bdev_malloc_create",
	        "{'num_blocks': 64, 'block_size': 512, 'physical_block_size': 700}");
	inproc_error(-EINVAL, "num_blocks", "bdev_malloc_create",
	        "{'name': 'x', 'num_blocks': 0, 'block_size': 512}");
	inproc_error(-EINVAL, "metadata", "bdev_malloc_create",
	        "{'name': 'x', 'num_blocks': 64, 'block_size': 512, 'md_size': 8}");
	inproc_error(-ENOMEM, "address space", "bdev_malloc_create",
	        "{'name': 'x', 'num_blocks': 9000000000000000, 'block_size': 512}");
	inproc_error(-32603, "num_blocks", "bdev_malloc_create",
	        "{'name': 'x', 'num_blocks': '64', 'block_size': 512}");
	assert_false(bdev_exists("x"));
	inproc_error(-ENODEV, "nope", "bdev_malloc_delete", "{'name': 'nope'}");
}

static void test_shown_and_saved(void **state)
{
	(void)state;
	inproc_ok("bdev_malloc_create",
	        "{'name': 'm', 'num_blocks': 64, 'block_size': 512, 'physical_block_size': 4096, "
	        "'optimal_io_boundary': 8, 'uuid': '5A5A5A5A-0000-4000-8000-000000000001'}");
	expect_driver_specific("m", "{}");
	expect_saved("bdev_malloc_create",
	        "{'name': 'm', 'num_blocks': 64, 'block_size': 512, 'physical_block_size': 4096, "
	        "'uuid': '5a5a5a5a-0000-4000-8000-000000000001', 'optimal_io_boundary': 8, "
	        "'md_size': 0, 'dif_type': 0, 'dif_is_head_of_md': false, 'dif_pi_format': 0, "
	        "'numa_id': -1}");
	json_t *entry = expect_bdev("m");

	assert_string_equal(
	        json_string_value(json_object_get(entry, "product_name")), "Malloc disk");
	json_decref(entry);
}

/* 40 MiB, so that clearing takes several turns of the loop. */
static void test_clearing(void **state)
{
	const uint64_t blocks = MIB(40) / BLOCK;
	uint8_t *buf = xcalloc(blocks, BLOCK);

	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': %llu, 'block_size': 512}",
	        (unsigned long long)blocks + 2);
	struct disk *disk = disk_open("m", true);
	static const struct {
		enum bio_op op;
		unsigned flags;
	} ways[] = {{BIO_UNMAP, 0}, {BIO_WRITE_ZEROES, 0}, {BIO_WRITE_ZEROES, BIO_NO_UNMAP},
	        {BIO_WRITE_ZEROES, BIO_FUA}};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		uint64_t len = i % 2 ? 3 : blocks - 5;

		memset(buf, 0xa5, blocks * BLOCK);
		assert_int_equal(disk_write(disk, 1, blocks, buf), 0);
		assert_int_equal(disk_do(disk, 1, ways[i].op, ways[i].flags, 3, len, NULL), 0);
		memset(buf, 1, blocks * BLOCK);
		assert_int_equal(disk_read(disk, 1, blocks, buf), 0);
		all_equal(buf, 2 * BLOCK, 0xa5);
		all_equal(buf + 2 * BLOCK, len * BLOCK, 0);
		all_equal(buf + (2 + len) * BLOCK, (blocks - 2 - len) * BLOCK, 0xa5);
	}
	disk_close(disk);
	free(buf);
}

static void test_compare(void **state)
{
	uint8_t data[8 * BLOCK];
	struct iovec iov[3] = {{data, 100}, {data + 100, 0}, {data + 100, 8 * BLOCK - 100}};
	struct disk_io io;

	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 64, 'block_size': 512}");
	struct disk *disk = disk_open("m", true);

	fill_pattern(data, sizeof(data), 7);
	assert_int_equal(disk_write(disk, 8, 8, data), 0);
	disk_start(disk, &io, 2, BIO_COMPARE, 0, 8, 8, iov, 3);
	assert_int_equal(disk_wait(&io), 0);
	data[8 * BLOCK - 1] ^= 1;
	disk_start(disk, &io, 2, BIO_COMPARE, 0, 8, 8, iov, 3);
	assert_int_equal(disk_wait(&io), -EILSEQ);
	disk_start(disk, &io, 2, BIO_COMPARE, 0, 8, 7, iov, 3);
	assert_int_equal(disk_wait(&io), 0);
	disk_close(disk);
}

/* Large enough to be written past the cache: from memory at any address, in one piece or more. */
static void test_large_disk(void **state)
{
	uint8_t *data = xcalloc(1, 8 * BLOCK + 64), *back = xcalloc(8, BLOCK);

	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 1048576, 'block_size': 512}");
	struct disk *disk = disk_open("m", true);

	for (unsigned i = 0; i < 64; i++) {
		uint64_t offset = 1048576 / 64 * i + i % 8, blocks = 1 + i % 8;
		struct iovec iov[2] = {{data + i, i % 3 ? blocks * BLOCK : 100},
		        {data + i + 100, blocks * BLOCK - 100}};
		struct disk_io io;

		fill_pattern(data + i, blocks * BLOCK, i);
		disk_start(disk, &io, 1, BIO_WRITE, 0, offset, blocks, iov, i % 3 ? 1 : 2);
		assert_int_equal(disk_wait(&io), 0);
		assert_int_equal(disk_do(disk, 2, BIO_READ, 0, offset, blocks, back), 0);
		assert_memory_equal(back, data + i, blocks * BLOCK);
	}
	disk_close(disk);
	free(data);
	free(back);
}

static uint64_t resident_bytes(void)
{
	unsigned long long size, resident;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu %llu", &size, &resident), 2);
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void test_shrink_gives_memory_back(void **state)
{
	const uint64_t blocks = MIB(64) / BLOCK;
	uint8_t *buf = xcalloc(blocks, BLOCK);

	(void)state;
	memset(buf, 0x5a, blocks * BLOCK);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': %llu, 'block_size': 512}",
	        (unsigned long long)blocks);
	struct disk *disk = disk_open("m", true);

	assert_int_equal(disk_write(disk, 0, blocks, buf), 0);
	uint64_t before = resident_bytes();

	/* Ends within a page, of which the rest must be forgotten too. */
	assert_int_equal(disk_resize("m", 9, NULL), 0);
	assert_true(resident_bytes() + MIB(48) < before);
	assert_int_equal(disk_blocks(disk), 9);
	assert_int_equal(disk_read(disk, 9, 1, buf), -EINVAL);
	assert_int_equal(disk_resize("m", blocks, NULL), 0);
	assert_int_equal(disk_read(disk, 0, blocks, buf), 0);
	all_equal(buf, 9 * BLOCK, 0x5a);
	all_equal(buf + 9 * BLOCK, (blocks - 9) * BLOCK, 0);
	assert_int_equal(disk->told, 2);
	disk_close(disk);
	free(buf);
}

static void test_refused_growth_changes_nothing(void **state)
{
	uint8_t data[BLOCK], back[BLOCK];

	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 64, 'block_size': 512}");
	struct disk *disk = disk_open("m", true);

	fill_pattern(data, sizeof(data), 1);
	assert_int_equal(disk_write(disk, 63, 1, data), 0);
	assert_int_equal(disk_resize("m", 9000000000000000, NULL), -ENOMEM);
	assert_int_equal(bdev_blocks_of("m"), 64);
	assert_int_equal(disk_read(disk, 63, 1, back), 0);
	assert_memory_equal(data, back, BLOCK);
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_create_and_delete, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shown_and_saved, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_clearing, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_compare, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_large_disk, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shrink_gives_memory_back, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_refused_growth_changes_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
