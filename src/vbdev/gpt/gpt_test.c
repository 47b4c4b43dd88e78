/* The gpt module: which partitions are shown, and what becomes of them when the disk changes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cursor.h"
#include "math/crc32.h"
#include "rpc/server.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

#define BLOCK 512U
#define BLOCKS 8192ULL
#define ENTRY 128U

static char path[96];

static int setup(void **state)
{
	(void)state;
	inproc_start(2);
	snprintf(path, sizeof(path), "%s/disk.img", inproc_dir());
	unlink(path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	unlink(path);
	return 0;
}

/* ---- the disk's file ---------------------------------------------------------------------------
 */

static void file_resize(uint64_t blocks)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(blocks * BLOCK)), 0);
	close(fd);
}

static void file_read(uint64_t offset, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, buf, len, (off_t)offset), len);
	close(fd);
}

static void file_write(uint64_t offset, const void *buf, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, buf, len, (off_t)offset), len);
	close(fd);
}

/* Gives an entry of the primary copy, or with lba of the backup, these bytes at `at`, and makes the
 * checksums right. */
static void change_entry(
        uint64_t header_lba, unsigned number, size_t at, const void *bytes, size_t len)
{
	uint8_t header[BLOCK], entries[128 * ENTRY];
	struct cursor c = cursor_of(header, sizeof(header));
	uint64_t entries_lba;
	uint32_t crc;

	file_read(header_lba * BLOCK, header, sizeof(header));
	cursor_skip(&c, 72);
	entries_lba = cursor_le64(&c);
	file_read(entries_lba * BLOCK, entries, sizeof(entries));
	memcpy(entries + (number - 1) * ENTRY + at, bytes, len);
	file_write(entries_lba * BLOCK, entries, sizeof(entries));
	crc = host_le32(crc32_update(0, entries, sizeof(entries)));
	memcpy(header + 88, &crc, 4);
	memset(header + 16, 0, 4);
	crc = host_le32(crc32_update(0, header, 92));
	memcpy(header + 16, &crc, 4);
	file_write(header_lba * BLOCK, header, sizeof(header));
}

static void change_both(uint64_t blocks, unsigned number, size_t at, const void *bytes, size_t len)
{
	change_entry(1, number, at, bytes, len);
	change_entry(blocks - 1, number, at, bytes, len);
}

static void attach(void)
{
	inproc_ok("bdev_aio_create", "{'name': 'd', 'filename': '%s', 'block_size': %u}", path,
	        BLOCK);
	inproc_ok("bdev_wait_for_examine", NULL);
}

static void detach(void)
{
	inproc_ok("bdev_aio_delete", "{'name': 'd'}");
}

static void create(unsigned count)
{
	file_resize(BLOCKS);
	attach();
	inproc_ok("bdev_gpt_create", "{'base_bdev': 'd', 'partition_count': %u}", count);
}

/* ---- looking -----------------------------------------------------------------------------------
 */

static bool has_problem(void *arg)
{
	json_t *list = inproc_result("bdev_get_problems", NULL), *problem;
	const char *text = arg;
	bool found = !text && json_array_size(list) == 0;
	size_t i;

	json_array_foreach (list, i, problem) {
		const char *sentence = json_string_value(json_object_get(problem, "text"));

		found |= text && sentence && strstr(sentence, text);
	}
	json_decref(list);
	return found;
}

/* A table is read soon after its disk has another size. NULL: all is well. */
static void expect_problem(const char *text)
{
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		if (has_problem((void *)(uintptr_t)text))
			return;
		usleep(1000);
	}
	json_t *list = inproc_result("bdev_get_problems", NULL);
	autofree char *are = json_dumps(list, 0);

	fail_msg("expected %s; there are: %s", text ? text : "no problem", are);
}

static void expect_blocks(const char *name, uint64_t blocks)
{
	if (bdev_blocks_of(name) != blocks)
		fail_msg("%s has %llu blocks, not %llu", name,
		        (unsigned long long)bdev_blocks_of(name), (unsigned long long)blocks);
}

static void mark(const char *name, uint64_t block, uint64_t seed, bool write)
{
	struct disk *disk = disk_open(name, write);
	uint8_t data[BLOCK], back[BLOCK];

	fill_pattern(data, BLOCK, seed);
	if (write) {
		assert_int_equal(disk_write(disk, block, 1, data), 0);
	} else {
		assert_int_equal(disk_read(disk, block, 1, back), 0);
		assert_memory_equal(data, back, BLOCK);
	}
	disk_close(disk);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void test_found_again(void **state)
{
	static const char *const names[] = {"dp1", "dp2", "dp3"};
	json_t *before[3], *after;

	(void)state;
	create(3);
	for (unsigned i = 0; i < 3; i++) {
		mark(names[i], 0, i, true);
		mark(names[i], bdev_blocks_of(names[i]) - 1, 10 + i, true);
		before[i] = expect_bdev(names[i]);
	}
	assert_string_equal(
	        json_string_value(json_object_get(before[0], "product_name")), "GPT Disk");
	json_t *gpt = json_object_get(json_object_get(before[1], "driver_specific"), "gpt");

	assert_string_equal(json_string_value(json_object_get(gpt, "base_bdev")), "d");
	assert_string_equal(json_string_value(json_object_get(gpt, "partition_type_guid")),
	        "6527994e-2c5a-4eec-9613-8f5944074e8b");
	assert_string_equal(json_string_value(json_object_get(gpt, "unique_partition_guid")),
	        json_string_value(json_object_get(before[1], "uuid")));
	assert_string_equal(json_string_value(json_object_get(gpt, "partition_name")), "");
	expect_problem(NULL);
	detach();
	assert_false(bdev_exists("dp1") || bdev_exists("dp3"));
	attach();
	for (unsigned i = 0; i < 3; i++) {
		after = expect_bdev(names[i]);
		assert_true(json_equal(before[i], after));
		json_decref(after);
		json_decref(before[i]);
		mark(names[i], 0, i, false);
		mark(names[i], bdev_blocks_of(names[i]) - 1, 10 + i, false);
	}
	inproc_error(-EPERM, "'d'", "bdev_error_create", "{'base_name': 'd'}");
	inproc_error(-EPERM, "in use", "bdev_gpt_create", "{'base_bdev': 'd'}");
}

static void test_types(void **state)
{
	static const uint8_t linux_type[16] = {0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e,
	        0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4};
	static const uint8_t old_type[16] = {0xbd, 0x22, 0x52, 0x7c, 0x5d, 0x8f, 0x87, 0x40, 0x9c,
	        0x00, 0xbf, 0x98, 0x43, 0xc7, 0xb5, 0x8c};
	struct disk *disk;

	(void)state;
	create(3);
	detach();
	change_both(BLOCKS, 1, 0, linux_type, 16);
	change_both(BLOCKS, 2, 0, old_type, 16);
	attach();
	assert_false(bdev_exists("dp1"));
	assert_true(bdev_exists("dp2") && bdev_exists("dp3"));
	detach();
	/* Another's disk is left alone. */
	change_both(BLOCKS, 2, 0, linux_type, 16);
	change_both(BLOCKS, 3, 0, linux_type, 16);
	attach();
	assert_false(bdev_exists("dp1") || bdev_exists("dp2") || bdev_exists("dp3"));
	disk = disk_open("d", true);
	disk_close(disk);
	inproc_error(-ENODEV, "no partitions", "bdev_gpt_delete", "{'base_bdev': 'd'}");
	detach();
	inproc_ok("bdev_gpt_set_options", "{'all_partitions': true}");
	attach();
	assert_true(bdev_exists("dp1") && bdev_exists("dp2") && bdev_exists("dp3"));
	expect_saved("bdev_gpt_set_options", "{'all_partitions': true}");
}

static void test_growth(void **state)
{
	uint64_t first, last;
	struct disk *disk;
	json_t *result;

	(void)state;
	create(2);
	first = bdev_blocks_of("dp1");
	last = bdev_blocks_of("dp2");
	disk = disk_open("dp2", true);
	assert_int_equal(disk_resize("d", BLOCKS + 1000, NULL), 0);
	expect_problem("no longer at the end of the disk: 1000 blocks");
	expect_blocks("dp1", first);
	expect_blocks("dp2", last);
	assert_int_equal(disk->told, 0);

	result = inproc_result("bdev_gpt_grow", "{'base_bdev': 'd'}");
	assert_int_equal(json_integer_value(json_object_get(result, "backup_block")), BLOCKS + 999);
	assert_true(json_is_null(json_object_get(result, "extended")));
	json_decref(result);
	expect_problem(NULL);
	expect_blocks("dp2", last);

	result = inproc_result("bdev_gpt_grow", "{'base_bdev': 'd', 'extend_last': true}");
	assert_string_equal(json_string_value(json_object_get(result, "extended")), "dp2");
	json_decref(result);
	expect_blocks("dp1", first);
	expect_blocks("dp2", last + 1000);
	assert_int_equal(disk->told, 1);
	assert_int_equal(disk_blocks(disk), last + 1000);
	disk_close(disk);
	mark("dp2", last + 999, 5, true);
	expect_problem(NULL);
	/* Again: there is nothing to do. */
	inproc_ok("bdev_gpt_grow", "{'base_bdev': 'd', 'extend_last': true}");
	detach();
	attach();
	expect_blocks("dp2", last + 1000);
	mark("dp2", last + 999, 5, false);
}

static void storage_changed(void *arg)
{
	bdev_storage_changed(bdev_find("d"), *(uint64_t *)arg, NULL, NULL);
}

static bool is_gone(void *arg)
{
	return !bdev_find(arg);
}

static void test_shrink(void **state)
{
	struct err err = ERR_NONE;
	uint64_t first, blocks = 6000;

	(void)state;
	create(2);
	first = bdev_blocks_of("dp1");
	mark("dp1", 7, 1, true);
	assert_true(disk_resize("d", 6000, &err) < 0);
	assert_non_null(strstr(err.text, "partition 2 is blocks"));
	assert_non_null(strstr(err.text, "would have only 6000"));
	expect_blocks("d", BLOCKS);

	/* What cuts off the backup only is allowed, and said. */
	assert_int_equal(disk_resize("d", BLOCKS - 20, NULL), 0);
	expect_problem("which the disk has no longer");
	inproc_error(
	        -ENOSPC, "no room for the backup table", "bdev_gpt_grow", "{'base_bdev': 'd'}");
	assert_int_equal(disk_resize("d", BLOCKS, NULL), 0);

	/* It has really become shorter: the partition that has no room goes. */
	file_resize(blocks);
	inproc_run(storage_changed, &blocks);
	wait_until(is_gone, "dp2");
	expect_blocks("dp1", first);
	mark("dp1", 7, 1, false);
	expect_problem("partition 2 is not shown");
}

/* A tool in a guest, or on another host, has changed the table. */
static void test_read_again_on_growth(void **state)
{
	uint8_t entry[ENTRY];
	uint64_t second, first_lba = host_le64(7000ULL), last_lba = host_le64(7999ULL);
	uint64_t start, end = host_le64(6999ULL);

	(void)state;
	create(2);
	second = bdev_blocks_of("dp2");
	file_read(2 * BLOCK + ENTRY, entry, sizeof(entry));
	/* The second partition ends before 7000, a third begins there. */
	memcpy(&start, entry + 32, 8);
	start = host_le64(start);
	change_both(BLOCKS, 2, 40, &end, 8);
	memcpy(entry + 32, &first_lba, 8);
	memcpy(entry + 40, &last_lba, 8);
	memset(entry + 16, 0x77, 16);
	change_both(BLOCKS, 9, 0, entry, sizeof(entry));
	assert_int_equal(disk_resize("d", BLOCKS + 8, NULL), 0);
	inproc_ok("bdev_get_bdevs", "{'name': 'dp9', 'timeout': 5000}");
	expect_blocks("dp9", 1000);
	/* One that has become shorter is in use as it was. */
	expect_problem("partition 2 is shorter in the table now");
	expect_blocks("dp2", second);
	detach();
	attach();
	expect_blocks("dp2", 7000 - start);
}

static void test_damaged_copies(void **state)
{
	uint8_t zero[BLOCK] = {0}, header[BLOCK];

	(void)state;
	create(2);
	mark("dp2", 3, 9, true);
	detach();
	file_read(BLOCK, header, sizeof(header));
	file_write(BLOCK, zero, sizeof(zero));
	attach();
	expect_problem("the primary partition table is damaged (there is no header)");
	mark("dp2", 3, 9, false);
	inproc_ok("bdev_gpt_grow", "{'base_bdev': 'd'}");
	expect_problem(NULL);
	detach();
	file_read(BLOCK, zero, sizeof(zero));
	assert_memory_equal(zero, header, BLOCK);

	memset(zero, 0, sizeof(zero));
	file_write((BLOCKS - 1) * BLOCK, zero, sizeof(zero));
	attach();
	expect_problem("the backup partition table is damaged");
	mark("dp2", 3, 9, false);
	inproc_ok("bdev_gpt_grow", "{'base_bdev': 'd'}");
	expect_problem(NULL);
	detach();
	file_write(BLOCK, zero, sizeof(zero));
	file_write((BLOCKS - 1) * BLOCK, zero, sizeof(zero));
	attach();
	assert_false(bdev_exists("dp1"));
	inproc_error(-ENOENT, "no partition table", "bdev_gpt_get_table", "{'base_bdev': 'd'}");
	inproc_error(-ENOENT, "no partition table", "bdev_gpt_grow", "{'base_bdev': 'd'}");
	inproc_error(-EEXIST, "boot record", "bdev_gpt_create", "{'base_bdev': 'd'}");
}

/* A copy of a disk has the same GUIDs; it is shown all the same. */
static void test_copy_of_a_disk(void **state)
{
	json_t *one, *two;

	(void)state;
	create(1);
	inproc_ok("bdev_uring_create", "{'name': 'copy', 'filename': '%s', 'block_size': %u}", path,
	        BLOCK);
	inproc_ok("bdev_wait_for_examine", NULL);
	one = expect_bdev("dp1");
	two = expect_bdev("copyp1");
	assert_string_not_equal(json_string_value(json_object_get(one, "uuid")),
	        json_string_value(json_object_get(two, "uuid")));
	json_decref(one);
	json_decref(two);
}

static void test_create_and_delete(void **state)
{
	struct disk *disk;
	json_t *names;

	(void)state;
	file_resize(BLOCKS);
	attach();
	inproc_error(-ENODEV, "'nope'", "bdev_gpt_create", "{'base_bdev': 'nope'}");
	inproc_error(-32603, "partition_count", "bdev_gpt_create",
	        "{'base_bdev': 'd', 'partition_count': 0}");
	inproc_error(-ENOSPC, "no room", "bdev_gpt_create",
	        "{'base_bdev': 'd', 'partition_size_mb': 4}");
	disk = disk_open("d", true);
	inproc_error(-EPERM, "in use", "bdev_gpt_create", "{'base_bdev': 'd'}");
	disk_close(disk);
	names = inproc_result("bdev_gpt_create",
	        "{'base_bdev': 'd', 'partition_count': 2, 'partition_size_mb': 1}");
	assert_int_equal(json_array_size(names), 2);
	assert_string_equal(json_string_value(json_array_get(names, 1)), "dp2");
	json_decref(names);
	expect_blocks("dp2", 2048);
	inproc_ok("bdev_gpt_delete", "{'base_bdev': 'd'}");
	assert_false(bdev_exists("dp1") || bdev_exists("dp2"));
	detach();
	attach();
	assert_false(bdev_exists("dp1"));
	inproc_ok("bdev_gpt_create", "{'base_bdev': 'd'}");
	assert_true(bdev_exists("dp1"));
}

/* A name in the way: the others are shown, and the problem says why one is not. */
static void test_name_in_the_way(void **state)
{
	(void)state;
	inproc_ok("bdev_null_create", "{'name': 'dp2', 'num_blocks': 100, 'block_size': 512}");
	create(3);
	expect_problem("partition 2 can't be shown");
	assert_true(bdev_exists("dp1") && bdev_exists("dp3"));
}

struct load {
	const char *text;
	struct rpc_config *config;
	bool done;
	struct err err;
};

static void loaded(void *arg, const struct err *err)
{
	struct load *load = arg;

	load->err = *err;
	rpc_config_free(load->config);
	load->done = true;
}

static void load_config(void *arg)
{
	struct load *load = arg;

	assert_int_equal(rpc_config_parse("saved", load->text, strlen(load->text), &load->config,
	                         &load->err),
	        0);
	rpc_config_run(load->config, false, loaded, load);
}

static bool is_loaded(void *arg)
{
	return ((struct load *)arg)->done;
}

/* What stands on the disk and shows the same blocks has the table, when a configuration is loaded,
 * although the disk comes first. */
static void test_table_of_a_layer(void **state)
{
	json_t *before, *after, *calls, *call;
	size_t i;

	(void)state;
	file_resize(BLOCKS);
	attach();
	inproc_ok("bdev_passthru_create", "{'name': 'p', 'base_bdev_name': 'd'}");
	inproc_ok("bdev_gpt_create", "{'base_bdev': 'p', 'partition_count': 2}");
	inproc_ok("bdev_set_qos_limit", "{'name': 'pp2', 'rw_ios_per_sec': 100000}");
	before = expect_bdev("pp2");
	calls = saved_calls();
	json_t *config =
	        json_pack("{s:[{s:s, s:o}]}", "subsystems", "subsystem", "bdev", "config", calls);
	json_array_foreach (calls, i, call)
		if (strcmp(json_string_value(json_object_get(call, "method")),
		            "bdev_set_options") == 0)
			json_array_remove(calls, i--);
	autofree char *text = json_dumps(config, 0);
	struct load load = {.text = text};

	json_decref(config);
	inproc_stop();
	inproc_start(2);
	inproc_run(load_config, &load);
	wait_until(is_loaded, &load);
	assert_string_equal(load.err.text, "");
	assert_false(bdev_exists("dp1"));
	after = expect_bdev("pp2");
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

/* Where no table can stay none is said to have been made. */
static void test_bases_that_keep_no_table(void **state)
{
	(void)state;
	inproc_ok("bdev_null_create", "{'name': 'n', 'num_blocks': 8192, 'block_size': 512}");
	inproc_error(-EIO, "can't be read back", "bdev_gpt_create", "{'base_bdev': 'n'}");
	inproc_ok("bdev_zone_block_create",
	        "{'name': 'z', 'base_bdev': 'n', 'zone_capacity': 64, 'optimal_open_zones': 1}");
	inproc_error(-EINVAL, "zoned", "bdev_gpt_create", "{'base_bdev': 'z'}");
	assert_false(bdev_exists("np1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_found_again, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_types, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_growth, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shrink, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_read_again_on_growth, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_damaged_copies, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_copy_of_a_disk, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_create_and_delete, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_name_in_the_way, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_table_of_a_layer, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_bases_that_keep_no_table, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
