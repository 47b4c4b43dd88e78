/*
 * Arrays as a user meets them: created with members that are there, come later or never; taken
 * apart, put together again, rebuilt; and each error says who and why.
 */
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
#include "tests/lib/load.h"

#define BLOCK 512U
#define BLOCKS 8192ULL /* of a member */
#define RESERVED 2048ULL

static int setup(void **state)
{
	(void)state;
	inproc_start(4);
	for (unsigned i = 0; i < 4; i++)
		inproc_ok("bdev_malloc_create",
		        "{'name': 'm%u', 'num_blocks': %llu, 'block_size': 512, 'uuid': "
		        "'00000000-0000-4000-8000-00000000000%u'}",
		        i, BLOCKS, i);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

/* ---- looking ---- */

static json_t *find_raid(const char *category, const char *name)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': '%s'}", category);
	json_t *found = NULL, *entry;
	size_t i;

	json_array_foreach (list, i, entry) {
		if (strcmp(json_string_value(json_object_get(entry, "name")), name) == 0)
			found = json_incref(entry);
	}
	json_decref(list);
	return found;
}

static void expect_raid(const char *name, const char *state, int discovered, int operational)
{
	json_t *raid = find_raid("all", name);

	assert_non_null(raid);
	assert_string_equal(json_string_value(json_object_get(raid, "state")), state);
	assert_int_equal(
	        json_integer_value(json_object_get(raid, "num_base_bdevs_discovered")), discovered);
	assert_int_equal(json_integer_value(json_object_get(raid, "num_base_bdevs_operational")),
	        operational);
	json_decref(raid);
	raid = find_raid(state, name);
	assert_non_null(raid);
	json_decref(raid);
}

static bool is_in_state(const char *name, const char *state)
{
	json_t *raid = find_raid(state, name);
	bool is = raid != NULL;

	json_decref(raid);
	return is;
}

static void wait_for_state(const char *name, const char *state)
{
	for (unsigned i = 0; i < PATIENCE_MS && !is_in_state(name, state); i++)
		usleep(1000);
	assert_true(is_in_state(name, state));
}

static bool is_rebuilding(const char *name)
{
	json_t *raid = find_raid("online", name);
	bool is = raid && json_object_get(raid, "process");

	json_decref(raid);
	return is;
}

static void wait_for_rebuild(const char *name)
{
	for (unsigned i = 0; i < PATIENCE_MS && is_rebuilding(name); i++)
		usleep(1000);
	assert_false(is_rebuilding(name));
}

/* ---- data ---- */

static void write_all(const char *name, uint64_t seed)
{
	struct disk *disk = disk_open(name, true);
	size_t bytes = disk_blocks(disk) * BLOCK;
	uint8_t *data = xcalloc(1, bytes);

	fill_pattern(data, bytes, seed);
	assert_int_equal(disk_write(disk, 0, disk_blocks(disk), data), 0);
	free(data);
	disk_close(disk);
}

static void expect_all(const char *name, uint64_t offset, uint64_t blocks, uint64_t seed)
{
	struct disk *disk = disk_open(name, false);
	size_t bytes = blocks * BLOCK;
	uint8_t *data = xcalloc(1, bytes), *back = xcalloc(1, bytes);

	fill_pattern(data, bytes, seed);
	assert_int_equal(disk_read(disk, offset, blocks, back), 0);
	assert_memory_equal(back, data, bytes);
	free(data);
	free(back);
	disk_close(disk);
}

/* ---- creation ---------------------------------------------------------------------------------
 */

static void test_refusals(void **state)
{
	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'big', 'num_blocks': 1024, 'block_size': 4096}");
	inproc_ok("bdev_malloc_create", "{'name': 'tiny', 'num_blocks': 100, 'block_size': 512}");
#define create(text) "bdev_raid_create", "{'name': 'R', " text "}"
	inproc_error(-32700, "'raid_level' must be one of",
	        create("'raid_level': 'raid9', 'base_bdevs': ['m0', 'm1']"));
	inproc_error(-EINVAL, "3 to 64",
	        create("'raid_level': 'raid5f', 'strip_size_kb': 4, 'base_bdevs': ['m0', 'm1']"));
	inproc_error(-EINVAL, "strip_size_kb",
	        create("'raid_level': 'raid0', 'base_bdevs': ['m0', 'm1']"));
	inproc_error(-EINVAL, "power of two",
	        create("'raid_level': 'raid0', 'strip_size_kb': 3, 'base_bdevs': ['m0', 'm1']"));
	inproc_error(-EINVAL, "no strips",
	        create("'raid_level': 'raid1', 'strip_size_kb': 4, 'base_bdevs': ['m0', 'm1']"));
	inproc_error(-EINVAL, "2 to 64", create("'raid_level': 'raid1', 'base_bdevs': ['m0']"));
	inproc_error(-EINVAL, "empty", create("'raid_level': 'raid1', 'base_bdevs': ['m0', '']"));
	inproc_error(-EPERM, "'m1' is named twice",
	        create("'raid_level': '1', 'base_bdevs': ['m1', 'm1']"));
	inproc_error(-EINVAL, "'big' has 4096-byte blocks",
	        create("'raid_level': '1', 'base_bdevs': ['m1', 'big']"));
	inproc_error(-EINVAL, "'tiny' is too small",
	        create("'raid_level': '1', 'base_bdevs': ['m1', 'tiny'], 'superblock': true"));
	inproc_error(-EEXIST, "'m0' is taken", "bdev_raid_create",
	        "{'name': 'm0', 'raid_level': '1', 'base_bdevs': ['m1', 'm2']}");
	inproc_error(-EINVAL, "1 to 63", "bdev_raid_create",
	        "{'name': '%s', 'raid_level': '1', 'base_bdevs': ['m1', 'm2']}",
	        "a123456789012345678901234567890123456789012345678901234567890123");
	inproc_ok(create("'raid_level': '1', 'base_bdevs': ['m0', 'm1']"));
	inproc_error(
	        -EEXIST, "'R' is taken", create("'raid_level': '1', 'base_bdevs': ['m2', 'm3']"));
	inproc_error(-EPERM, "'m1' is in use by R", "bdev_raid_create",
	        "{'name': 'S', 'raid_level': '1', 'base_bdevs': ['m2', 'm1']}");
	/* What was taken before the error is free again. */
	inproc_ok(
	        "bdev_raid_create", "{'name': 'S', 'raid_level': '1', 'base_bdevs': ['m2', 'm3']}");
	inproc_error(-ENODEV, "not found", "bdev_raid_delete", "{'name': 'nosuch'}");
	inproc_error(-32700, "", "bdev_raid_get_bdevs", "{'category': 'sleeping'}");
	inproc_error(-ENODEV, "", "bdev_raid_remove_base_bdev", "{'name': 'tiny'}");
	inproc_error(-ENODEV, "is not found in config", "bdev_raid_add_base_bdev",
	        "{'raid_bdev': 'nosuch', 'base_bdev': 'tiny'}");
	inproc_error(-EINVAL, "no free place", "bdev_raid_add_base_bdev",
	        "{'raid_bdev': 'R', 'base_bdev': 'tiny'}");
	inproc_error(-EINVAL, "", "bdev_raid_set_options", "{'process_window_size_kb': 0}");
}

static void test_shape(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid0', 'strip_size_kb': 4, "
	                              "'base_bdevs': ['m0', 'm1'], "
	                              "'uuid': '29aa7d69-71c6-4aa9-933a-d904d1237252'}");
	expect_driver_specific("R",
	        "{'raid': {'uuid': '29aa7d69-71c6-4aa9-933a-d904d1237252', 'strip_size_kb': 4, "
	        "'state': 'online', 'raid_level': 'raid0', 'superblock': false, 'num_base_bdevs': "
	        "2, "
	        "'num_base_bdevs_discovered': 2, 'num_base_bdevs_operational': 2, "
	        "'base_bdevs_list': "
	        "[{'name': 'm0', 'uuid': '00000000-0000-4000-8000-000000000000', 'is_configured': "
	        "true, 'data_offset': 0, 'data_size': 8192}, {'name': 'm1', 'uuid': "
	        "'00000000-0000-4000-8000-000000000001', 'is_configured': true, 'data_offset': 0, "
	        "'data_size': 8192}]}}");
	expect_saved("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid0', 'strip_size_kb': 4, "
	                                 "'base_bdevs': ['m0', 'm1'], "
	                                 "'uuid': '29aa7d69-71c6-4aa9-933a-d904d1237252'}");
	assert_int_equal(bdev_blocks_of("R"), 2 * BLOCKS);
}

/* The name is free when the last of the old one is gone. */
static void make_again(const char *name)
{
	bool there = false;

	for (unsigned i = 0; i < PATIENCE_MS && !there; i++) {
		json_t *reply = inproc_call("bdev_malloc_create",
		        "{'name': '%s', 'num_blocks': %llu, 'block_size': 512}", name, BLOCKS);

		there = json_object_get(reply, "result") != NULL;
		json_decref(reply);
		if (!there)
			usleep(1000);
	}
	assert_true(there);
}

static void test_members_come_later(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid0', 'strip_size_kb': 4, 'base_bdevs': ['m0', "
	        "'later']}");
	expect_raid("R", "configuring", 1, 2);
	assert_false(bdev_exists("R"));
	/* The one that is there is taken. */
	inproc_error(-EPERM, "raid 'R'", "bdev_raid_create",
	        "{'name': 'S', 'raid_level': '1', 'base_bdevs': ['m0', 'm1']}");
	expect_saved("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid0', 'strip_size_kb': 4, 'base_bdevs': ['m0', "
	        "'later']}");
	inproc_error(-ENODEV, "'later'", "bdev_raid_start", "{'name': 'R'}");
	inproc_ok("bdev_malloc_create", "{'name': 'later', 'num_blocks': 8192, 'block_size': 512}");
	wait_for_state("R", "online");
	expect_raid("R", "online", 2, 2);

	/* Another name than was expected; and one that goes before it starts. */
	inproc_ok("bdev_raid_create",
	        "{'name': 'S', 'raid_level': 'raid1', 'base_bdevs': ['m1', 'never']}");
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm1'}");
	expect_raid("S", "configuring", 0, 2);
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'S', 'base_bdev': 'm2'}");
	expect_raid("S", "configuring", 1, 2);
	bdev_lose("m2");
	for (unsigned i = 0; i < PATIENCE_MS && bdev_exists("m2"); i++)
		usleep(1000);
	expect_raid("S", "configuring", 0, 2);
	/* Its place is kept for it. */
	inproc_error(-EINVAL, "no free place", "bdev_raid_add_base_bdev",
	        "{'raid_bdev': 'S', 'base_bdev': 'm3'}");
	make_again("m2");
	inproc_ok("bdev_wait_for_examine", NULL);
	expect_raid("S", "configuring", 1, 2);
	inproc_ok("bdev_raid_start", "{'name': 'S'}");
	expect_raid("S", "online", 1, 1);
	inproc_ok("bdev_raid_delete", "{'name': 'S'}");
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	assert_null(find_raid("all", "R"));
}

/* Who has waited for the examination of the last member finds the array there. */
static void test_examined_means_started(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid0', 'strip_size_kb': 64, 'superblock': true, "
	        "'base_bdevs': ['late']}");
	inproc_ok("bdev_delay_create",
	        "{'name': 'late', 'base_bdev_name': 'm0', 'avg_read_latency': 20000, "
	        "'p99_read_latency': 20000, 'avg_write_latency': 20000, 'p99_write_latency': "
	        "20000}");
	inproc_ok("bdev_wait_for_examine", NULL);
	assert_true(bdev_exists("R"));
	inproc_ok("bdev_delay_delete", "{'name': 'late'}");
}

/* ---- members go and come ----------------------------------------------------------------------
 */

static void test_striped_array_goes_offline_and_comes_back(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'concat', 'strip_size_kb': 4, 'base_bdevs': ['m0', "
	        "'m1']}");
	write_all("R", 1);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm1'}");
	wait_for_state("R", "offline");
	assert_false(bdev_exists("R"));
	expect_raid("R", "offline", 1, 2);
	expect_saved("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'concat', 'strip_size_kb': 4, 'base_bdevs': ['m0', "
	        "'removed_base_bdev_1'], 'base_data_blocks': [8192]}");
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'm1'}");
	wait_for_state("R", "online");
	expect_all("R", 0, 2 * BLOCKS, 1);
}

static void test_mirror_lives_on_and_is_rebuilt(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['m0', 'm1']}");
	write_all("R", 1);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm0'}");
	expect_raid("R", "online", 1, 1);
	write_all("R", 2);
	expect_all("R", 0, BLOCKS, 2);
	expect_all("m0", 0, BLOCKS, 1);
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'm2'}");
	inproc_error(
	        -EPERM, "", "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'm2'}");
	wait_for_rebuild("R");
	expect_raid("R", "online", 2, 2);
	/* The new one has it all. */
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm1'}");
	expect_all("R", 0, BLOCKS, 2);
	/* The last one: it can't go on. */
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm2'}");
	wait_for_state("R", "offline");
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	expect_all("m2", 0, BLOCKS, 2);
}

static void test_rebuild_under_load(void **state)
{
	struct disk *disk;
	struct load *load;
	struct load_result result;

	(void)state;
	inproc_ok("bdev_raid_set_options", "{'process_window_size_kb': 64}");
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['m0', 'm1', 'm2'], "
	        "'superblock': true}");
	disk = disk_open("R", true);
	load = load_start(disk, &(struct load_config){.data_loops = 4, .depth = 8, .seed = 3});
	for (unsigned round = 0; round < 3; round++) {
		const char *leaves = round % 2 ? "m2" : "m1", *comes = round % 2 ? "m1" : "m2";

		load_run(load, 500);
		inproc_ok(
		        "bdev_raid_remove_base_bdev", "{'name': '%s'}", round == 0 ? "m0" : leaves);
		load_run(load, 500);
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': '%s'}",
		        round == 0 ? "m0" : leaves);
		load_run(load, 500);
		wait_for_rebuild("R");
		expect_raid("R", "online", 3, 3);
		/* Only the ones that were rebuilt serve now. */
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': '%s'}", comes);
		load_run(load, 500);
		inproc_ok(
		        "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': '%s'}", comes);
		wait_for_rebuild("R");
	}
	result = load_stop(load);
	assert_int_equal(result.errors, 0);
	assert_int_equal(result.mismatches, 0);
	disk_close(disk);
}

static const char *member_in(const char *name, unsigned slot, char *buf, size_t size)
{
	json_t *raid = find_raid("online", name);
	const json_t *entry = json_array_get(json_object_get(raid, "base_bdevs_list"), slot);
	const char *text = json_string_value(json_object_get(entry, "name"));

	snprintf(buf, size, "%s", text ? text : "");
	json_decref(raid);
	return buf;
}

static void wait_for_member(const char *name, unsigned slot, const char *member)
{
	char buf[64];

	for (unsigned i = 0;
	        i < PATIENCE_MS && strcmp(member_in(name, slot, buf, sizeof(buf)), member); i++)
		usleep(1000);
	assert_string_equal(member_in(name, slot, buf, sizeof(buf)), member);
}

/* The one that is meant for the array before the one that is for any; each is used once. */
static void test_spares(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, "
	                              "'base_bdevs': ['m0', 'm1']}");
	write_all("R", 3);
	inproc_error(-1, "is in use", "bdev_raid_add_spare", "{'base_bdev': 'm0'}");
	inproc_ok("bdev_raid_add_spare", "{'base_bdev': 'm2'}");
	inproc_ok("bdev_raid_add_spare", "{'base_bdev': 'm3', 'raid_bdev': 'R'}");
	inproc_error(-17, "spare already", "bdev_raid_add_spare", "{'base_bdev': 'm3'}");
	inproc_error(
	        -1, "in use", "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'm2'}");
	inproc_ok("bdev_malloc_delete", "{'name': 'm1'}");
	wait_for_member("R", 1, "m3");
	wait_for_rebuild("R");
	inproc_ok("bdev_malloc_delete", "{'name': 'm0'}");
	wait_for_member("R", 0, "m2");
	wait_for_rebuild("R");
	expect_all("R", 0, BLOCKS - RESERVED, 3);
	inproc_error(-19, "no spare", "bdev_raid_remove_spare", "{'base_bdev': 'm2'}");
	/* One that is not there yet. */
	inproc_ok("bdev_raid_add_spare", "{'base_bdev': 'm0'}");
	inproc_ok("bdev_malloc_delete", "{'name': 'm2'}");
	inproc_ok("bdev_malloc_create", "{'name': 'm0', 'num_blocks': 8192, 'block_size': 512}");
	wait_for_member("R", 0, "m0");
	wait_for_rebuild("R");
	expect_all("R", 0, BLOCKS - RESERVED, 3);
}

static void check(bool repair, int64_t different, int64_t repaired)
{
	const json_t *found = NULL;
	json_t *raid = NULL;

	inproc_ok("bdev_raid_check", "{'name': 'R', 'repair': %s}", repair ? "true" : "false");
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		json_decref(raid);
		raid = find_raid("online", "R");
		found = json_object_get(raid, "check");
		if (strcmp(json_string_value(json_object_get(found, "state")), "finished") == 0)
			break;
		usleep(1000);
	}
	assert_int_equal(json_integer_value(json_object_get(found, "different_blocks")), different);
	assert_int_equal(json_integer_value(json_object_get(found, "repaired_blocks")), repaired);
	json_decref(raid);
}

/* Somebody has written past the mirror. */
static void test_check_and_repair(void **state)
{
	uint8_t block[3 * BLOCK] = {1, 2, 3};
	struct disk *disk;

	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['m0', 'm1', 'm2']}");
	write_all("R", 4);
	check(false, 0, 0);
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	disk = disk_open("m1", true);
	assert_int_equal(disk_write(disk, 5000, 3, block), 0);
	disk_close(disk);
	disk = disk_open("m2", true);
	assert_int_equal(disk_write(disk, 8191, 1, block), 0);
	disk_close(disk);
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['m0', 'm1', 'm2']}");
	check(false, 4, 0);
	check(true, 4, 4);
	check(false, 0, 0);
	expect_all("R", 0, BLOCKS, 4);
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'concat', 'strip_size_kb': 64, "
	                              "'base_bdevs': ['m0', 'm1']}");
	inproc_error(-95, "nothing to compare", "bdev_raid_check", "{'name': 'R'}");
}

static void test_resize(void **state)
{
	json_t *entry;

	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['m0', 'm1'], 'superblock': "
	        "true}");
	assert_int_equal(bdev_blocks_of("R"), BLOCKS - RESERVED);
	assert_int_equal(disk_resize("m0", 2 * BLOCKS, NULL), 0);
	assert_int_equal(bdev_blocks_of("R"), BLOCKS - RESERVED);
	entry = expect_bdev("R");
	json_decref(entry);
	assert_int_equal(disk_resize("m1", 2 * BLOCKS, NULL), 0);
	assert_int_equal(bdev_blocks_of("R"), 2 * BLOCKS - RESERVED);
	write_all("R", 9);
	/* Degraded it grows too; a member that does not hold it is refused. */
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm0'}");
	assert_int_equal(disk_resize("m1", 3 * BLOCKS, NULL), 0);
	assert_int_equal(bdev_blocks_of("R"), 3 * BLOCKS - RESERVED);
	inproc_error(-EINVAL, "'m0' is too small", "bdev_raid_add_base_bdev",
	        "{'raid_bdev': 'R', 'base_bdev': 'm0'}");
	assert_int_equal(disk_resize("m0", 3 * BLOCKS, NULL), 0);
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'm0'}");
	wait_for_rebuild("R");
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm1'}");
	expect_all("R", 0, 2 * BLOCKS - RESERVED, 9);
	inproc_ok("bdev_raid_delete", "{'name': 'R', 'clear_sb': true}");

	/* Of a concat only the last may grow: the others' ends are where the next begin. */
	inproc_ok("bdev_raid_create",
	        "{'name': 'C', 'raid_level': 'concat', 'strip_size_kb': 4, 'base_bdevs': ['m2', "
	        "'m3']}");
	write_all("C", 5);

	json_t *calls = saved_calls(), *call;
	size_t i;

	assert_int_equal(disk_resize("m2", 2 * BLOCKS, NULL), 0);
	assert_int_equal(bdev_blocks_of("C"), 2 * BLOCKS);
	assert_int_equal(disk_resize("m3", 2 * BLOCKS, NULL), 0);
	assert_int_equal(bdev_blocks_of("C"), 3 * BLOCKS);
	expect_all("C", 0, 2 * BLOCKS, 5);

	struct err err = ERR_NONE;

	/* With less than a strip of a member it could not be made again. */
	assert_int_not_equal(disk_resize("m3", 7, &err), 0);
	assert_non_null(strstr(err.text, "one strip"));
	assert_int_equal(bdev_blocks_of("C"), 3 * BLOCKS);
	/* Made again from what was saved before, it lies where it lay. */
	inproc_ok("bdev_raid_delete", "{'name': 'C'}");
	json_array_foreach (calls, i, call) {
		autofree char *params = json_dumps(json_object_get(call, "params"), 0);

		if (strcmp(json_string_value(json_object_get(call, "method")),
		            "bdev_raid_create") == 0)
			inproc_ok("bdev_raid_create", "%s", params);
	}
	json_decref(calls);
	assert_int_equal(bdev_blocks_of("C"), 3 * BLOCKS);
	expect_all("C", 0, 2 * BLOCKS, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shape, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_members_come_later, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_examined_means_started, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_striped_array_goes_offline_and_comes_back, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_mirror_lives_on_and_is_rebuilt, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_rebuild_under_load, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_spares, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_check_and_repair, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_resize, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
