/* The split module: where parts lie, and what becomes of them when the base changes. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

static void create_base(const char *name, unsigned long long blocks)
{
	inproc_ok("bdev_malloc_create", "{'name': '%s', 'num_blocks': %llu, 'block_size': 512}",
	        name, blocks);
}

/* Expects bdev_split_create to answer with the first n names. */
static void split(const char *base, unsigned count, unsigned size_mb, unsigned n)
{
	json_t *names = inproc_result("bdev_split_create",
	        "{'base_bdev': '%s', 'split_count': %u, 'split_size_mb': %u}", base, count,
	        size_mb);

	assert_int_equal(json_array_size(names), n);
	for (unsigned i = 0; i < n; i++) {
		autofree char *name = xasprintf("%sp%u", base, i);

		assert_string_equal(json_string_value(json_array_get(names, i)), name);
	}
	json_decref(names);
}

static void expect_blocks(const char *name, uint64_t blocks)
{
	if (bdev_blocks_of(name) != blocks)
		fail_msg("%s has %llu blocks, not %llu", name,
		        (unsigned long long)bdev_blocks_of(name), (unsigned long long)blocks);
}

static void write_mark(const char *name, uint64_t block, uint64_t seed)
{
	struct disk *disk = disk_open(name, true);
	uint8_t data[BLOCK];

	fill_pattern(data, BLOCK, seed);
	assert_int_equal(disk_write(disk, block, 1, data), 0);
	disk_close(disk);
}

static void expect_mark(const char *name, uint64_t block, uint64_t seed)
{
	struct disk *disk = disk_open(name, false);
	uint8_t data[BLOCK], back[BLOCK];

	fill_pattern(data, BLOCK, seed);
	assert_int_equal(disk_read(disk, block, 1, back), 0);
	assert_memory_equal(data, back, BLOCK);
	disk_close(disk);
}

static void test_equal_parts(void **state)
{
	(void)state;
	create_base("m", 65536);
	split("m", 3, 0, 3);
	for (unsigned i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "mp%u", i);
		expect_blocks(name, 21845); /* one block is left over */
		write_mark(name, 0, i);
		write_mark(name, 21844, 10 + i);
		autofree char *specific =
		        xasprintf("{'split': {'base_bdev': 'm', 'offset_blocks': %u}}", i * 21845);

		expect_driver_specific(name, specific);
		struct disk *disk = disk_open(name, true);
		uint8_t data[2 * BLOCK];

		assert_int_equal(disk_read(disk, 21844, 2, data), -EINVAL);
		disk_close(disk);
	}
	for (unsigned i = 0; i < 3; i++) {
		expect_mark("m", i * 21845, i);
		expect_mark("m", i * 21845 + 21844, 10 + i);
	}
	/* Where the parts are, for the base may have another size when this is loaded. */
	expect_saved("bdev_split_create",
	        "{'base_bdev': 'm', 'split_count': 3, 'split_size_mb': 0, "
	        "'split_size_blocks': 21845}");
	inproc_ok("bdev_split_delete", "{'base_bdev': 'm'}");
	assert_false(bdev_exists("mp0") || bdev_exists("mp1") || bdev_exists("mp2"));
	/* The base is free again. */
	disk_close(disk_open("m", true));
}

static void test_last_equal_part_follows(void **state)
{
	struct err err;

	(void)state;
	create_base("m", 3000);
	split("m", 3, 0, 3);
	struct disk *last = disk_open("mp2", true), *first = disk_open("mp0", true);

	write_mark("mp2", 999, 5);
	assert_int_equal(disk_resize("m", 5000, NULL), 0);
	expect_blocks("mp0", 1000);
	expect_blocks("mp1", 1000);
	expect_blocks("mp2", 3000);
	assert_int_equal(disk_blocks(last), 3000);
	assert_int_equal(last->told, 1);
	assert_int_equal(first->told, 0);
	expect_mark("mp2", 999, 5);
	write_mark("mp2", 2999, 6);
	expect_mark("m", 4999, 6);
	/* Dividing it now would put the parts elsewhere. */
	expect_saved("bdev_split_create",
	        "{'base_bdev': 'm', 'split_count': 3, 'split_size_mb': 0, "
	        "'split_size_blocks': 1000}");

	last->veto_shrink = true;
	assert_int_equal(disk_resize("m", 4000, &err), -EBUSY);
	expect_blocks("m", 5000);
	last->veto_shrink = false;
	assert_int_equal(disk_resize("m", 2500, NULL), 0);
	expect_blocks("mp2", 500);
	/* Less than the second part needs. */
	assert_true(disk_resize("m", 1500, &err) < 0);
	expect_blocks("m", 2500);
	expect_blocks("mp2", 500);
	disk_close(last);
	disk_close(first);
}

static void test_sized_parts(void **state)
{
	struct err err;

	(void)state;
	create_base("m", 2 * 2048 + 100);
	split("m", 4, 1, 2);
	expect_blocks("mp0", 2048);
	expect_blocks("mp1", 2048);
	write_mark("mp1", 2047, 9);
	assert_int_equal(disk_resize("m", 3 * 2048 + 5, NULL), 0);
	inproc_ok("bdev_get_bdevs", "{'name': 'mp2', 'timeout': 5000}");
	expect_blocks("mp1", 2048);
	expect_blocks("mp2", 2048);
	assert_false(bdev_exists("mp3"));
	assert_true(disk_resize("m", 3 * 2048 - 1, &err) < 0);
	expect_blocks("m", 3 * 2048 + 5);
	expect_mark("mp1", 2047, 9);
	expect_saved(
	        "bdev_split_create", "{'base_bdev': 'm', 'split_count': 4, 'split_size_mb': 1}");
}

static void shrink_on_control(void *arg)
{
	bdev_storage_changed(bdev_find("m"), *(uint64_t *)arg, NULL, NULL);
}

/* Parents come first, so this is the end of it. */
static bool base_has_shrunk(void *arg)
{
	return bdev_num_blocks(bdev_find("m")) == *(uint64_t *)arg;
}

static bool is_gone(void *arg)
{
	return !bdev_find(arg);
}

/* The base has really become shorter: nobody is asked, and what has no room is gone. */
static void test_base_that_shrank(void **state)
{
	uint64_t blocks = 1500;

	(void)state;
	create_base("m", 3000);
	split("m", 3, 0, 3);
	write_mark("mp0", 5, 1);
	struct disk *kept = disk_open("mp0", true), *lost = disk_open("mp2", true);

	inproc_run(shrink_on_control, &blocks);
	wait_until(is_gone, "mp2");
	wait_until(is_gone, "mp1");
	assert_true(disk_is_removed(lost));
	wait_until(base_has_shrunk, &blocks);
	expect_blocks("mp0", 1000);
	assert_int_equal(kept->told, 0);
	expect_mark("mp0", 5, 1);
	disk_close(kept);
	disk_close(lost);
}

/* The tree names the parts of 'later' that wait for it. */
static void expect_waiting(size_t count)
{
	json_t *tree = inproc_result("bdev_get_tree", NULL), *part;
	const json_t *waiting = json_object_get(tree, "waiting");
	size_t i;

	assert_int_equal(json_array_size(waiting), count);
	json_array_foreach (waiting, i, part) {
		autofree char *name = xasprintf("laterp%zu", i);

		assert_string_equal(json_string_value(json_object_get(part, "name")), name);
		assert_string_equal(json_string_value(json_object_get(part, "module")), "split");
		assert_string_equal(json_string_value(json_object_get(part, "missing")), "later");
	}
	json_decref(tree);
}

static void test_waits_for_its_base(void **state)
{
	(void)state;
	split("later", 2, 0, 0);
	expect_waiting(2);
	expect_saved("bdev_split_create",
	        "{'base_bdev': 'later', 'split_count': 2, 'split_size_mb': 0}");
	create_base("later", 100);
	inproc_ok("bdev_wait_for_examine", NULL);
	expect_waiting(0);
	expect_blocks("laterp0", 50);
	expect_blocks("laterp1", 50);
	write_mark("laterp1", 0, 1);

	/* The base goes, and comes back larger: the parts stay where they were. */
	inproc_ok("bdev_malloc_delete", "{'name': 'later'}");
	assert_false(bdev_exists("laterp0") || bdev_exists("laterp1"));
	create_base("later", 300);
	inproc_ok("bdev_wait_for_examine", NULL);
	expect_blocks("laterp0", 50);
	expect_blocks("laterp1", 250);
	inproc_ok("bdev_split_delete", "{'base_bdev': 'later'}");

	split("never", 2, 0, 0);
	inproc_ok("bdev_split_delete", "{'base_bdev': 'never'}");
	inproc_error(
	        -32602, "No such file or directory", "bdev_split_delete", "{'base_bdev': 'never'}");
}

static void test_restored_after_growth(void **state)
{
	(void)state;
	create_base("m", 5000);
	inproc_ok("bdev_split_create", "{'base_bdev': 'm', 'split_count': 3, 'split_size_mb': 0, "
	                               "'split_size_blocks': 1000}");
	expect_blocks("mp0", 1000);
	expect_blocks("mp2", 3000);
}

static void *create_in_vain(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 200; i++)
		json_decref(inproc_call("bdev_split_create", "{'base_bdev': 'm', 'split_count': 8, "
		                                             "'split_size_mb': 0}"));
	return NULL;
}

/* Deleted while a creation that has failed takes its parts back. */
static void test_deleted_while_it_fails(void **state)
{
	pthread_t other;

	(void)state;
	create_base("m", 3000);
	create_base("mp7", 100); /* the name that the last part would have */
	assert_int_equal(pthread_create(&other, NULL, create_in_vain, NULL), 0);
	for (unsigned i = 0; i < 400; i++)
		json_decref(inproc_call("bdev_split_delete", "{'base_bdev': 'm'}"));
	assert_int_equal(pthread_join(other, NULL), 0);
	assert_false(bdev_exists("mp0"));
	inproc_ok("bdev_malloc_delete", "{'name': 'mp7'}");
	split("m", 3, 0, 3);
}

static void test_refusals(void **state)
{
	(void)state;
	create_base("m", 100);
	inproc_error(
	        -32602, "split_count", "bdev_split_create", "{'base_bdev': 'm', 'split_count': 0}");
	inproc_error(-32602, "Invalid argument", "bdev_split_create",
	        "{'base_bdev': 'm', 'split_count': 101}");
	inproc_error(-32602, "Invalid argument", "bdev_split_create",
	        "{'base_bdev': 'm', 'split_count': 1, 'split_size_mb': 1}");
	inproc_error(-32602, "base_bdev", "bdev_split_create", "{'split_count': 1}");
	split("m", 2, 0, 2);
	inproc_error(
	        -32602, "File exists", "bdev_split_create", "{'base_bdev': 'm', 'split_count': 2}");
	inproc_error(-32602, "base_bdev", "bdev_split_delete", "{}");

	/* A name in the way: nothing is left of the attempt. */
	create_base("n", 100);
	create_base("np1", 100);
	inproc_error(-32602, "np1", "bdev_split_create", "{'base_bdev': 'n', 'split_count': 2}");
	assert_false(bdev_exists("np0"));
	inproc_ok("bdev_malloc_delete", "{'name': 'np1'}");
	split("n", 2, 0, 2);
	inproc_error(-EPERM, "'n'", "bdev_error_create", "{'base_name': 'n'}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_equal_parts, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_last_equal_part_follows, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_sized_parts, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_base_that_shrank, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_waits_for_its_base, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_restored_after_growth, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_deleted_while_it_fails, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
