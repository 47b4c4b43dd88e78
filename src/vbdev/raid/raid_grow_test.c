/*
 * A mirror that gets one more member than it was made with, while it is in use; what its disks say
 * then, before and after a restart; and who is refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/rpc.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "tests/lib/load.h"
#include "tests/lib/member_files.h"

#define DATA_BLOCKS ((DISK_BYTES - MIB(1)) / 512)

static int setup(void **state)
{
	(void)state;
	inproc_start(4);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	remove_files();
	return 0;
}

static int64_t number_of(const char *key)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'all'}");
	int64_t n = json_integer_value(json_object_get(json_array_get(list, 0), key));

	json_decref(list);
	return n;
}

/* Nothing is being rebuilt, and so many members are there; 0: all. */
static bool has_members(int64_t n)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'online'}");
	const json_t *raid = json_array_get(list, 0);
	int64_t there = json_integer_value(json_object_get(raid, "num_base_bdevs_discovered"));
	int64_t all = json_integer_value(json_object_get(raid, "num_base_bdevs"));
	bool has = raid && !json_object_get(raid, "process") && there == (n ? n : all);

	json_decref(list);
	return has;
}

static void wait_for_members(int64_t n)
{
	for (unsigned i = 0; i < PATIENCE_MS && !has_members(n); i++)
		usleep(1000);
	assert_true(has_members(n));
}

static void wait_until_complete(void)
{
	wait_for_members(0);
}

static void make_mirror(unsigned disks)
{
	make_files(disks, 512);
	for (unsigned i = 0; i < disks; i++)
		plug(i);
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, 'base_bdevs': ['d0', "
	        "'d1']}");
}

static void grow(const char *base)
{
	inproc_ok("bdev_raid_grow_base_bdev", "{'raid_name': 'R', 'base_name': '%s'}", base);
}

static void check_disks(unsigned disks, unsigned third)
{
	struct expected e = {.name = "R",
	        .level = 1,
	        .slots = 3,
	        .blocks = DATA_BLOCKS,
	        .states = {1, 1, third}};
	uint64_t seq = check_member(&files[0], &e);

	for (unsigned i = 1; i < disks; i++)
		assert_int_equal(check_member(&files[i], &e), seq);
}

/* The new one alone has all that was ever written. */
static void test_one_more_under_load(void **state)
{
	struct load_config config = {.data_loops = 4, .depth = 8, .seed = 1};
	struct load_result result;
	struct disk *disk;
	struct load *load;

	(void)state;
	make_mirror(4);
	disk = disk_open("R", true);
	load = load_start(disk, &config);
	load_run(load, 2000);
	inproc_ok("bdev_raid_set_options", "{'process_window_size_kb': 64}");
	grow("d2");
	assert_int_equal(number_of("num_base_bdevs"), 3);
	inproc_error(-EBUSY, "being rebuilt", "bdev_raid_grow_base_bdev",
	        "{'raid_name': 'R', 'base_name': 'd3'}");
	load_run(load, 2000);
	wait_until_complete();
	load_run(load, 2000);
	check_disks(3, 1);
	grow("d2"); /* it is one already */
	grow("d3");
	wait_until_complete();
	assert_int_equal(number_of("num_base_bdevs"), 4);
	load_run(load, 1000);
	for (unsigned i = 0; i < 3; i++)
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'd%u'}", i);
	load_run(load, 2000);
	result = load_stop(load);
	assert_int_equal(result.mismatches, 0);
	assert_int_equal(result.errors, 0);
	assert_false(disk_is_removed(disk));
	disk_close(disk);
}

static void write_pattern(uint64_t seed)
{
	struct disk *disk = disk_open("R", true);
	uint8_t data[512 * 8];

	fill_pattern(data, sizeof(data), seed);
	assert_int_equal(disk_write(disk, 1000, 8, data), 0);
	disk_close(disk);
}

static void expect_pattern(uint64_t seed)
{
	struct disk *disk = disk_open("R", false);
	uint8_t data[512 * 8], wanted[512 * 8];

	fill_pattern(wanted, sizeof(wanted), seed);
	assert_int_equal(disk_read(disk, 1000, 8, data), 0);
	assert_memory_equal(data, wanted, sizeof(data));
	disk_close(disk);
}

static void wait_for_array(void)
{
	for (unsigned i = 0; i < PATIENCE_MS && !bdev_exists("R"); i++)
		usleep(1000);
	assert_true(bdev_exists("R"));
}

static void test_it_is_found_again(void **state)
{
	(void)state;
	make_mirror(3);
	write_pattern(1);
	/* It stops in the middle: the new one is known, and not taken for a member. */
	inproc_ok("bdev_raid_set_options",
	        "{'process_window_size_kb': 64, 'process_max_bandwidth_mb_sec': 1}");
	grow("d2");
	check_disks(3, 0);
	restart();
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 'never'}");
	plug(2);
	assert_false(bdev_exists("R"));
	plug(0);
	plug(1);
	wait_for_array();
	assert_int_equal(number_of("num_base_bdevs"), 3);
	wait_until_complete();
	check_disks(3, 1);
	/* From the new one alone. */
	write_pattern(2);
	restart();
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
	plug(2);
	wait_for_array();
	expect_pattern(2);
	assert_int_equal(number_of("num_base_bdevs_operational"), 1);
	plug(0);
	plug(1);
	wait_until_complete();
	expect_pattern(2);
}

/* A disk that was unplugged when the array grew knows of fewer places. */
static void test_an_old_member_returns(void **state)
{
	(void)state;
	make_mirror(3);
	write_pattern(1);
	pull(1);
	write_pattern(2);
	grow("d2"); /* into the free place */
	wait_until_complete();
	assert_int_equal(number_of("num_base_bdevs"), 2);
	make_file(NULL, 512, NULL, DISK_BYTES);
	plug(3);
	grow("d3");
	wait_until_complete();
	write_pattern(3);
	restart();
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 'never'}");
	plug(1);
	plug(0);
	plug(2);
	plug(3);
	wait_for_array();
	assert_int_equal(number_of("num_base_bdevs"), 3);
	assert_int_equal(number_of("num_base_bdevs_operational"), 3);
	expect_pattern(3);
}

/* A member that leaves meanwhile does not know the new one, which is no reason to refuse it. */
static void leave_during_rebuild(void)
{
	make_mirror(3);
	write_pattern(1);
	inproc_ok("bdev_raid_set_options",
	        "{'process_window_size_kb': 64, 'process_max_bandwidth_mb_sec': 1}");
	grow("d2");
	pull(0);
	assert_false(has_members(2));
	inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 0}");
	wait_for_members(2);
	write_pattern(2);
}

static void expect_on_the_first_alone(uint64_t seed)
{
	wait_until_complete();
	check_disks(3, 1);
	restart();
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
	plug(0);
	wait_for_array();
	expect_pattern(seed);
}

static void test_one_leaves_meanwhile(void **state)
{
	(void)state;
	leave_during_rebuild();
	plug(0);
	expect_on_the_first_alone(2);
}

static void test_one_leaves_meanwhile_and_returns_later(void **state)
{
	(void)state;
	leave_during_rebuild();
	restart();
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 'never'}");
	for (unsigned i = 0; i < 3; i++)
		plug(i);
	expect_on_the_first_alone(2);
}

/* Each of those that are there was rebuilt since they went on without the first: it is seen all the
 * same that the first has gone on without them. */
static void test_one_went_on_alone(void **state)
{
	(void)state;
	make_mirror(3);
	grow("d2");
	wait_until_complete();
	for (unsigned i = 0; i < 2; i++) {
		restart();
		inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
		plug(i);
		wait_for_array();
		write_pattern(i);
	}
	plug(2);
	wait_for_members(2);
	pull(1);
	plug(1);
	wait_for_members(2);
	plug(0);
	usleep(50000);
	assert_int_equal(number_of("num_base_bdevs_discovered"), 2);
	expect_pattern(1);
	/* Whoever has compared them says so. */
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'd0'}");
	expect_on_the_first_alone(1);
}

/* It counts for the size, and is waited for when it is lost. */
static void test_it_counts(void **state)
{
	(void)state;
	make_mirror(3);
	grow("d2");
	wait_until_complete();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(bdev_blocks_of("R"), DATA_BLOCKS);
		assert_int_equal(
		        disk_resize(files[i].name, 2 * DISK_BYTES / 512, &(struct err){0}), 0);
	}
	assert_int_equal(bdev_blocks_of("R"), 2 * DISK_BYTES / 512 - MIB(1) / 512);
	write_pattern(4);
	pull(2);
	plug(2);
	wait_until_complete();
	expect_pattern(4);
}

static void test_without_superblock(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		inproc_ok("bdev_malloc_create",
		        "{'name': 'm%u', 'num_blocks': 2048, 'block_size': 512}", i);
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['m0', 'm1']}");
	write_pattern(1);
	grow("m2");
	wait_until_complete();
	expect_saved("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid1', "
	                                 "'base_bdevs': ['m0', 'm1', 'm2']}");
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm0'}");
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'm1'}");
	expect_pattern(1);
}

/* ---- in bad times ---- */

static void refused(int code, const char *text, const char *raid, const char *base)
{
	inproc_error(code, text, "bdev_raid_grow_base_bdev",
	        "{'raid_name': '%s', 'base_name': '%s'}", raid, base);
}

static struct growth {
	int error; /* 0: it has grown */
	bool done;
} growth;

static void answered(void *arg, const json_t *reply)
{
	struct growth *g = arg;

	g->error =
	        (int)json_integer_value(json_object_get(json_object_get(reply, "error"), "code"));
	__atomic_store_n(&g->done, true, __ATOMIC_RELEASE);
}

static void ask(void *arg)
{
	rpc_call("bdev_raid_grow_base_bdev",
	        json_pack("{s:s, s:s}", "raid_name", "R", "base_name", arg), answered, &growth);
}

/* Does not wait for the answer. */
static void begin_to_grow(const char *base)
{
	growth = (struct growth){.error = 1};
	inproc_run(ask, (void *)(uintptr_t)base);
}

static int end_of_growth(void)
{
	for (unsigned i = 0; i < PATIENCE_MS && !__atomic_load_n(&growth.done, __ATOMIC_ACQUIRE);
	        i++)
		usleep(1000);
	assert_true(growth.done);
	return growth.error;
}

static void test_the_new_one_fails(void **state)
{
	(void)state;
	make_mirror(3);
	write_pattern(1);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 16384, 'block_size': 512}");
	inproc_ok("bdev_error_create", "{'base_name': 'm'}");
	inproc_ok("bdev_error_inject_error", "{'name': 'EE_m', 'io_type': 'write', 'error_type': "
	                                     "'failure', 'num': 1000}");
	refused(-EIO, "the array has a place more now", "R", "EE_m");
	assert_int_equal(number_of("num_base_bdevs"), 3);
	check_disks(2, 0);
	expect_pattern(1);
	for (unsigned i = 0; i < PATIENCE_MS && number_of("num_base_bdevs_discovered") > 2; i++)
		usleep(1000);
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'd2'}");
	wait_until_complete();
	check_disks(3, 1);
}

static void test_the_new_one_goes(void **state)
{
	(void)state;
	make_mirror(3);
	for (unsigned i = 0; i < 10; i++) {
		write_pattern(i);
		begin_to_grow("d2");
		usleep(i * 100);
		pull(2);
		end_of_growth();
		expect_pattern(i);
		assert_int_equal(number_of("num_base_bdevs_operational"), 2);
		plug(2);
		if (number_of("num_base_bdevs") == 3)
			break;
	}
	if (number_of("num_base_bdevs") == 2)
		grow("d2");
	for (unsigned i = 0; i < PATIENCE_MS && number_of("num_base_bdevs_discovered") < 3; i++) {
		json_decref(inproc_call(
		        "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'd2'}"));
		usleep(1000);
	}
	wait_until_complete();
	check_disks(3, 1);
}

static void test_the_array_goes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		make_files(i == 0 ? 3 : 0, 512);
		for (unsigned k = 0; i == 0 && k < 3; k++)
			plug(k);
		inproc_ok("bdev_raid_create",
		        "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, 'base_bdevs': "
		        "['d0', 'd1']}");
		begin_to_grow("d2");
		usleep(i * 100);
		inproc_ok("bdev_raid_delete", "{'name': 'R', 'clear_sb': true}");
		end_of_growth();
	}
}

/* Members fail and grow while another one comes. */
static void test_others_change(void **state)
{
	struct err err = ERR_NONE;

	(void)state;
	make_mirror(3);
	write_pattern(1);
	begin_to_grow("d2");
	assert_int_equal(disk_resize("d0", 2 * DISK_BYTES / 512, &err), 0);
	assert_int_equal(disk_resize("d1", 2 * DISK_BYTES / 512, &err), 0);
	/* It was large enough when it was looked at, or the array could not grow without it. */
	end_of_growth();
	if (growth.error) {
		assert_int_equal(number_of("num_base_bdevs"), 2);
		assert_int_equal(disk_resize("d2", 2 * DISK_BYTES / 512, &err), 0);
		grow("d2");
	}
	wait_until_complete();
	make_file(NULL, 512, NULL, 2 * DISK_BYTES);
	plug(3);
	begin_to_grow("d3");
	pull(0);
	assert_int_equal(end_of_growth(), 0);
	for (unsigned i = 0; i < PATIENCE_MS && number_of("num_base_bdevs_discovered") > 3; i++)
		usleep(1000);
	plug(0);
	wait_until_complete();
	expect_pattern(1);
}

static void test_refused(void **state)
{
	(void)state;
	make_mirror(2);
	inproc_ok(
	        "bdev_malloc_create", "{'name': 'small', 'num_blocks': 16383, 'block_size': 512}");
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 16384, 'block_size': 512}");
	inproc_ok("bdev_malloc_create", "{'name': 'big', 'num_blocks': 16384, 'block_size': 4096}");
	inproc_ok("bdev_raid_create", "{'name': 'S', 'raid_level': 'raid0', 'strip_size_kb': 64, "
	                              "'base_bdevs': ['big']}");
	inproc_ok("bdev_raid_create", "{'name': 'W', 'raid_level': 'raid1', "
	                              "'base_bdevs': ['absent', 'too']}");
	refused(-ENODEV, "not found", "nobody", "m");
	refused(-ENODEV, "no such bdev", "R", "nobody");
	refused(-EPERM, "a raid0 can't have more members", "S", "m");
	refused(-EINVAL, "configuring", "W", "m");
	refused(-EINVAL, "too small", "R", "small");
	refused(-EPERM, "in use", "R", "big");
	inproc_ok("bdev_raid_delete", "{'name': 'S'}");
	refused(-EINVAL, "4096-byte blocks", "R", "big");
	refused(-ELOOP, "member of itself", "R", "R");
	/* Nothing has changed, neither in memory nor on the disks. */
	assert_int_equal(number_of("num_base_bdevs"), 2);
	struct expected e = {
	        .name = "R", .level = 1, .slots = 2, .blocks = DATA_BLOCKS, .states = {1, 1}};

	assert_int_equal(check_member(&files[0], &e), check_member(&files[1], &e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_one_more_under_load, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_it_is_found_again, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_an_old_member_returns, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_one_leaves_meanwhile, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_one_leaves_meanwhile_and_returns_later, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_one_went_on_alone, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_it_counts, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_without_superblock, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_the_new_one_fails, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_the_new_one_goes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_the_array_goes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_others_change, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
