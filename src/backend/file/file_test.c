/* The file bdevs, aio and uring: data, space, and sizes that change by themselves. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

#define BLOCK 4096U
#define BLOCKS 1024ULL

static char path[96];

static void set_interval(void *arg)
{
	bdev_options()->stat_interval_ms = *(uint32_t *)arg;
}

static int setup(void **state)
{
	uint32_t interval_ms = 20;

	(void)state;
	inproc_start(2);
	inproc_run(set_interval, &interval_ms);
	snprintf(path, sizeof(path), "%s/disk.img", inproc_dir());
	unlink(path);
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BLOCKS * BLOCK), 0);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	unlink(path);
	return 0;
}

static struct disk *create(const char *kind)
{
	autofree char *method = xasprintf("bdev_%s_create", kind);

	inproc_ok(method, "{'name': 'f', 'filename': '%s', 'block_size': %u}", path, BLOCK);
	return disk_open("f", true);
}

static void file_read(uint64_t offset, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, len, (off_t)offset), len);
	close(fd);
}

static uint64_t file_allocated(void)
{
	struct stat st;

	sync();
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void all_zero(const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], 0);
}

static void test_data(void **state)
{
	static const char *const kinds[] = {"aio", "uring"};
	uint8_t *data = xcalloc(17, BLOCK), *back = xcalloc(17, BLOCK);

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct disk *disk = create(kinds[k]);
		/* Pieces and an address that direct I/O can't have. */
		struct iovec iov[3] = {{data + 1, 1000}, {data + 1001, 3 * BLOCK},
		        {data + 1001 + 3 * BLOCK, 5 * BLOCK - 1000}};
		struct disk_io io;

		fill_pattern(data, 17 * BLOCK, k);
		disk_start(disk, &io, 2, BIO_WRITE, BIO_FUA, BLOCKS - 8, 8, iov, 3);
		assert_int_equal(disk_wait(&io), 0);
		file_read((BLOCKS - 8) * BLOCK, back, 8 * BLOCK);
		assert_memory_equal(back, data + 1, 8 * BLOCK);
		assert_int_equal(disk_write(disk, 0, 16, data), 0);
		assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
		file_read(0, back, 16 * BLOCK);
		assert_memory_equal(back, data, 16 * BLOCK);
		assert_int_equal(disk_read(disk, BLOCKS - 8, 8, back + 3), 0);
		assert_memory_equal(back + 3, data + 1, 8 * BLOCK);
		assert_int_equal(disk_read(disk, BLOCKS - 1, 2, back), -EINVAL);
		disk_close(disk);
		assert_int_equal(bdev_remove_wait("f"), 0);
	}
	free(data);
	free(back);
}

static void test_space(void **state)
{
	const size_t len = 512 * BLOCK;
	uint8_t *data = xcalloc(1, len);
	struct disk_io io;

	(void)state;
	struct disk *disk = create("uring");

	memset(data, 0x33, len);
	assert_int_equal(disk_write(disk, 0, 512, data), 0);
	assert_true(file_allocated() >= len);
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 64, 256, NULL), 0);
	assert_in_range(file_allocated(), 0, len - 255 * BLOCK);
	assert_int_equal(
	        disk_do(disk, 1, BIO_WRITE_ZEROES, BIO_FUA | BIO_NO_UNMAP, 400, 16, NULL), 0);
	assert_int_equal(disk_read(disk, 0, 512, data), 0);
	for (size_t i = 0; i < 512; i++) {
		bool zero = (i >= 64 && i < 320) || (i >= 400 && i < 416);

		assert_int_equal(data[i * BLOCK], zero ? 0 : 0x33);
		assert_int_equal(data[(i + 1) * BLOCK - 1], zero ? 0 : 0x33);
	}
	disk_start(disk, &io, 1, BIO_BLOCK_STATUS, 0, 10, 500, NULL, 0);
	assert_int_equal(disk_wait(&io), 0);
	assert_false(io.bio.extent.hole);
	assert_int_equal(io.bio.extent.num_blocks, 54);
	disk_start(disk, &io, 1, BIO_BLOCK_STATUS, 0, 64, 100, NULL, 0);
	assert_int_equal(disk_wait(&io), 0);
	assert_true(io.bio.extent.hole && io.bio.extent.zero);
	assert_int_equal(io.bio.extent.num_blocks, 100);
	disk_close(disk);
	free(data);
}

/* tmpfs has holes, but can't zero in place; the outcome is the same. */
static void test_zeroing_where_the_file_can_not(void **state)
{
	uint8_t *data = xcalloc(512, BLOCK);

	(void)state;
	snprintf(path, sizeof(path), "/dev/shm/bellows-file-test-%d", getpid());
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 512 * BLOCK), 0);
	close(fd);
	struct disk *disk = create("aio");

	for (unsigned i = 0; i < 4; i++) {
		unsigned flags = (i & 1 ? BIO_NO_UNMAP : 0U) | (i & 2 ? BIO_FUA : 0U);

		memset(data, 0x44, 512 * BLOCK);
		assert_int_equal(disk_write(disk, 0, 512, data), 0);
		assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, flags, 100, 300, NULL), 0);
		assert_int_equal(disk_read(disk, 0, 512, data), 0);
		for (size_t b = 0; b < 512; b++)
			assert_int_equal(data[b * BLOCK + b], b >= 100 && b < 400 ? 0 : 0x44);
	}
	disk_close(disk);
	unlink(path);
	free(data);
}

struct size {
	const char *name;
	uint64_t blocks;
};

static bool has_size(void *arg)
{
	const struct size *size = arg;
	const struct bdev *bdev = bdev_find(size->name);

	return (bdev ? bdev_num_blocks(bdev) : 0) == size->blocks;
}

static void wait_for_size(const char *name, uint64_t blocks)
{
	struct size size = {name, blocks};

	wait_until(has_size, &size);
}

static bool has_been_told(void *arg)
{
	struct disk **disk = arg;

	return __atomic_load_n(&disk[0]->told, __ATOMIC_ACQUIRE) == 1;
}

/* Nobody says anything: the bdev and what stands on it see what happens to the file. */
static void test_size_is_noticed(void **state)
{
	uint8_t data[BLOCK], back[BLOCK];

	(void)state;
	disk_close(create("aio"));
	inproc_ok("bdev_error_create", "{'base_name': 'f'}");
	struct disk *disk = disk_open("EE_f", true);

	assert_int_equal(truncate(path, (BLOCKS + 16) * BLOCK + 100), 0);
	wait_until(has_been_told, &disk);
	assert_int_equal(disk_blocks(disk), BLOCKS + 16);
	fill_pattern(data, BLOCK, 1);
	assert_int_equal(disk_write(disk, BLOCKS + 15, 1, data), 0);
	assert_int_equal(disk_read(disk, BLOCKS + 15, 1, back), 0);
	assert_memory_equal(data, back, BLOCK);

	assert_int_equal(truncate(path, 64 * BLOCK), 0);
	wait_for_size("EE_f", 64);
	assert_int_equal(disk_read(disk, 64, 1, back), -EINVAL);
	assert_int_equal(disk_read(disk, 63, 1, back), 0);

	assert_int_equal(truncate(path, 0), 0);
	wait_for_size("EE_f", 0);
	assert_false(bdev_exists("f"));
	disk_close(disk);
}

static void is_it_unlinked(
        void *arg, const struct bdev *bdev, const char *key, const char *text, const char *action)
{
	(void)bdev;
	(void)text;
	(void)action;
	if (strcmp(key, "unlinked") == 0)
		*(bool *)arg = true;
}

static bool shows_unlinked(void *arg)
{
	bool shown = false;

	(void)arg;
	bdev_for_each_problem(is_it_unlinked, &shown);
	return shown;
}

/* The data lives on without a name; that is said, since it ends with the bdev. */
static void test_deletion_is_noticed(void **state)
{
	autofree char *other = xasprintf("%s.other", path);
	uint8_t data[BLOCK], back[BLOCK];

	(void)state;
	struct disk *disk = create("aio");
	assert_int_equal(rename(path, other), 0);
	fill_pattern(data, BLOCK, 1);
	assert_int_equal(disk_write(disk, 3, 1, data), 0);
	assert_int_equal(unlink(other), 0);
	wait_until(shows_unlinked, NULL);
	assert_int_equal(disk_read(disk, 3, 1, back), 0);
	assert_memory_equal(data, back, BLOCK);
	disk_close(disk);
}

static void test_rescan(void **state)
{
	uint32_t interval_ms = 3600000;

	(void)state;
	inproc_run(set_interval, &interval_ms);
	struct disk *disk = create("uring");

	inproc_ok("bdev_uring_rescan", "{'name': 'f'}");
	assert_int_equal(disk->told, 0);
	assert_int_equal(truncate(path, 2 * BLOCKS * BLOCK), 0);
	inproc_ok("bdev_uring_rescan", "{'name': 'f'}");
	/* The answer means that everybody knows. */
	assert_int_equal(bdev_blocks_of("f"), 2 * BLOCKS);
	assert_int_equal(disk_blocks(disk), 2 * BLOCKS);
	inproc_error(-ENODEV, "'f'", "bdev_aio_rescan", "{'name': 'f'}");
	inproc_error(-ENODEV, "nope", "bdev_uring_rescan", "{'name': 'nope'}");
	assert_int_equal(truncate(path, 0), 0);
	inproc_ok("bdev_uring_rescan", "{'name': 'f'}");
	wait_for_size("f", 0);
	disk_close(disk);
}

/* A file that was cut short says so; what is not there is never made up. */
static void test_cut_short(void **state)
{
	uint32_t interval_ms = 3600000;
	uint8_t *data = xcalloc(8, BLOCK);

	(void)state;
	inproc_run(set_interval, &interval_ms);
	struct disk *disk = create("aio");

	assert_int_equal(truncate(path, 100 * BLOCK), 0);
	assert_int_equal(disk_read(disk, 96, 4, data), 0);
	assert_int_equal(disk_read(disk, 96, 8, data), -EIO);
	assert_int_equal(disk_read(disk, 100, 1, data), -EIO);
	assert_int_equal(disk_read(disk, BLOCKS - 1, 1, data), -EIO);
	disk_close(disk);
	free(data);
}

static void test_resize(void **state)
{
	uint8_t data[BLOCK], back[BLOCK];
	struct stat st;
	struct err err;

	(void)state;
	struct disk *disk = create("uring");

	fill_pattern(data, BLOCK, 4);
	assert_int_equal(disk_write(disk, 9, 1, data), 0);
	assert_int_equal(disk_resize("f", 3 * BLOCKS, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 3 * BLOCKS * BLOCK);
	assert_int_equal(disk_read(disk, 3 * BLOCKS - 1, 1, back), 0);
	all_zero(back, BLOCK);
	disk->veto_shrink = true;
	assert_int_equal(disk_resize("f", 10, &err), -EBUSY);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 3 * BLOCKS * BLOCK);
	disk->veto_shrink = false;
	assert_int_equal(disk_resize("f", 10, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 10 * BLOCK);
	assert_int_equal(disk_read(disk, 9, 1, back), 0);
	assert_memory_equal(data, back, BLOCK);
	assert_int_equal(disk->told, 2);
	disk_close(disk);
}

static void test_read_only(void **state)
{
	struct disk *disk;
	struct err err;
	uint8_t data[BLOCK];

	(void)state;
	assert_int_equal(chmod(path, 0400), 0);
	inproc_ok("bdev_aio_create",
	        "{'name': 'f', 'filename': '%s', 'block_size': 512, 'readonly': true, "
	        "'fallocate': false, 'nowait': false}",
	        path);
	assert_int_equal(disk_try_open("f", true, &disk), -EROFS);
	disk = disk_open("f", false);
	assert_int_equal(disk_read(disk, 0, 1, data), 0);
	all_zero(data, 512);
	assert_true(disk_resize("f", 100, &err) < 0);
	disk_close(disk);
	autofree char *specific = xasprintf(
	        "{'aio': {'filename': '%s', 'block_size_override': true, 'readonly': true, "
	        "'fallocate': false, 'nowait': false}}",
	        path);

	expect_driver_specific("f", specific);
	autofree char *saved =
	        xasprintf("{'name': 'f', 'filename': '%s', 'block_size': 512, 'readonly': true, "
	                  "'fallocate': false, 'nowait': false}",
	                path);

	expect_saved("bdev_aio_create", saved);
}

static void test_through_the_page_cache(void **state)
{
	struct disk *disk;
	uint8_t data[BLOCK], found[BLOCK];

	(void)state;
	inproc_ok("bdev_uring_create",
	        "{'name': 'f', 'filename': '%s', 'block_size': 512, 'direct': false}", path);
	autofree char *saved = xasprintf(
	        "{'name': 'f', 'filename': '%s', 'block_size': 512, 'direct': false}", path);

	expect_saved("bdev_uring_create", saved);
	disk = disk_open("f", true);
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(disk_write(disk, 3, 1, data), 0);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(disk_read(disk, 3, 1, found), 0);
	assert_memory_equal(data, found, 512);
	disk_close(disk);
}

static void test_create_errors(void **state)
{
	(void)state;
	inproc_error(-ENOENT, "/nonexistent", "bdev_aio_create",
	        "{'name': 'x', 'filename': '/nonexistent', 'block_size': 512}");
	inproc_error(
	        -EINVAL, "block_size", "bdev_aio_create", "{'name': 'x', 'filename': '%s'}", path);
	inproc_error(-EINVAL, "power of two", "bdev_aio_create",
	        "{'name': 'x', 'filename': '%s', 'block_size': 1000}", path);
	inproc_error(-32603, "filename", "bdev_aio_create", "{'name': 'x'}");
	inproc_error(-32603, "/nonexistent", "bdev_uring_create",
	        "{'name': 'x', 'filename': '/nonexistent', 'block_size': 4096}");
	inproc_error(-EISDIR, "'/'", "bdev_aio_create",
	        "{'name': 'x', 'filename': '/', 'block_size': 512}");
	assert_int_equal(truncate(path, BLOCK + 100), 0);
	inproc_error(-EINVAL, "whole number", "bdev_aio_create",
	        "{'name': 'x', 'filename': '%s', 'block_size': 512}", path);
	assert_int_equal(truncate(path, 0), 0);
	inproc_error(-EINVAL, "empty", "bdev_aio_create",
	        "{'name': 'x', 'filename': '%s', 'block_size': 512}", path);
	assert_false(bdev_exists("x"));
}

static void test_shown_and_saved(void **state)
{
	(void)state;
	disk_close(create("uring"));
	autofree char *specific = xasprintf("{'uring': {'filename': '%s'}}", path);

	expect_driver_specific("f", specific);
	autofree char *saved =
	        xasprintf("{'name': 'f', 'filename': '%s', 'block_size': %u}", path, BLOCK);

	expect_saved("bdev_uring_create", saved);
	json_t *entry = expect_bdev("f");

	assert_string_equal(
	        json_string_value(json_object_get(entry, "product_name")), "URING bdev");
	json_decref(entry);
	inproc_ok("bdev_uring_delete", "{'name': 'f'}");
	inproc_error(-ENODEV, "f", "bdev_uring_delete", "{'name': 'f'}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_data, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_space, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_zeroing_where_the_file_can_not, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_size_is_noticed, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_deletion_is_noticed, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_rescan, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_resize, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_through_the_page_cache, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_create_errors, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shown_and_saved, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
