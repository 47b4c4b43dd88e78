/*
 * What goes wrong when a member is given to an array must leave no trace: a refused one, and two at
 * once for one place.
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
#include "tests/lib/inproc.h"

#define BLOCKS 4096ULL
#define RESERVED 2048ULL

static void make_disk(const char *name, uint64_t blocks)
{
	inproc_ok("bdev_malloc_create", "{'name': '%s', 'num_blocks': %llu, 'block_size': 512}",
	        name, (unsigned long long)blocks);
}

static int setup_disks(void **state)
{
	(void)state;
	inproc_start(2);
	make_disk("m0", BLOCKS);
	make_disk("m1", BLOCKS);
	inproc_ok("bdev_error_create", "{'base_name': 'm1'}");
	return 0;
}

static int setup(void **state)
{
	setup_disks(state);
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, "
	                              "'base_bdevs': ['m0', 'EE_m1']}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void fill(uint64_t seed)
{
	struct disk *disk = disk_open("R", true);
	uint8_t buf[8192];

	fill_pattern(buf, sizeof(buf), seed);
	assert_int_equal(disk_write(disk, 0, sizeof(buf) / 512, buf), 0);
	disk_close(disk);
}

/* On the disk itself. */
static void expect_on(const char *name, uint64_t seed)
{
	struct disk *disk = disk_open(name, false);
	uint8_t buf[8192], wanted[8192];

	fill_pattern(wanted, sizeof(wanted), seed);
	assert_int_equal(disk_read(disk, RESERVED, sizeof(buf) / 512, buf), 0);
	assert_memory_equal(buf, wanted, sizeof(buf));
	disk_close(disk);
}

/* Every member is there, has all data, and has it behind the superblock. */
static bool is_whole(void)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'online'}");
	const json_t *raid = json_array_get(list, 0), *slot;
	bool whole = raid && !json_object_get(raid, "process");
	size_t i;

	json_array_foreach (json_object_get(raid, "base_bdevs_list"), i, slot) {
		if (!json_is_true(json_object_get(slot, "is_configured")))
			whole = false;
		else
			assert_int_equal(
			        json_integer_value(json_object_get(slot, "data_offset")), RESERVED);
	}
	json_decref(list);
	return whole;
}

static void wait_until_whole(void)
{
	for (unsigned i = 0; i < PATIENCE_MS && !is_whole(); i++)
		usleep(1000);
	assert_true(is_whole());
}

/* It has let the lost member go. */
static void wait_for_free_place(void)
{
	bool taken = true;

	for (unsigned i = 0; i < PATIENCE_MS && taken; i++) {
		json_t *reply = inproc_call(
		        "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'tiny'}");
		const json_t *error = json_object_get(reply, "error");

		assert_non_null(error);
		taken = strstr(json_string_value(json_object_get(error, "message")), "free place");
		json_decref(reply);
		usleep(1000);
	}
}

static void test_refused_one_leaves_no_trace(void **state)
{
	(void)state;
	fill(1);
	bdev_lose("EE_m1");
	make_disk("tiny", RESERVED + 100);
	wait_for_free_place();
	inproc_error(-22, "too small", "bdev_raid_add_base_bdev",
	        "{'raid_bdev': 'R', 'base_bdev': 'tiny'}");
	fill(2);
	/* It comes back by itself, to where its data was. */
	inproc_ok("bdev_error_create", "{'base_name': 'm1'}");
	wait_until_whole();
	expect_on("m0", 2);
	expect_on("m1", 2);
}

/* ---- two at once ---- */

static struct {
	unsigned answered, accepted;
} both;

static void called(void *arg, const json_t *reply)
{
	(void)arg;
	if (json_object_get(reply, "result"))
		__atomic_fetch_add(&both.accepted, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&both.answered, 1, __ATOMIC_SEQ_CST);
}

static void add_both(void *arg)
{
	(void)arg;
	for (unsigned i = 2; i < 4; i++) {
		autofree char *name = xasprintf("m%u", i);

		rpc_call("bdev_raid_add_base_bdev",
		        json_pack("{s:s, s:s}", "raid_bdev", "R", "base_bdev", name), called, NULL);
	}
}

static void test_two_at_once(void **state)
{
	(void)state;
	make_disk("m2", BLOCKS);
	make_disk("m3", RESERVED + 100);
	for (unsigned round = 0; round < 8; round++) {
		bool first = round == 0;

		memset(&both, 0, sizeof(both));
		fill(round);
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': '%s'}", first ? "EE_m1" : "m2");
		/* A good one and one that is too small, in either order. */
		inproc_run(add_both, NULL);
		while (__atomic_load_n(&both.answered, __ATOMIC_SEQ_CST) < 2)
			usleep(1000);
		assert_int_equal(both.accepted, 1);
		wait_until_whole();
		expect_on("m0", round);
		expect_on("m2", round);
	}
}

/* ---- one that has been replaced ---- */

static const char *name_of_member(unsigned slot)
{
	static char name[BDEV_NAME_MAX];
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'online'}");
	const json_t *members = json_object_get(json_array_get(list, 0), "base_bdevs_list");

	str_copy(name, sizeof(name),
	        json_string_value(json_object_get(json_array_get(members, slot), "name")));
	json_decref(list);
	return name;
}

/* It is found first, then the one that has its place, of which it knows nothing. */
static void test_replaced_one_is_found_first(void **state)
{
	static const char *const order[] = {"m1", "m2", "m0"};

	(void)state;
	make_disk("m2", BLOCKS);
	inproc_ok("bdev_error_create", "{'base_name': 'm0'}");
	inproc_ok("bdev_error_create", "{'base_name': 'm2'}");
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, "
	                              "'base_bdevs': ['EE_m0', 'EE_m1']}");
	fill(1);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m2'}");
	wait_until_whole();
	fill(2);
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	for (unsigned i = 0; i < 3; i++)
		inproc_ok("bdev_error_delete", "{'name': 'EE_%s'}", order[i]);
	for (unsigned i = 0; i < 3; i++) {
		inproc_ok("bdev_error_create", "{'base_name': '%s'}", order[i]);
		inproc_ok("bdev_wait_for_examine", NULL);
	}
	wait_until_whole();
	expect_on("m0", 2);
	expect_on("m2", 2);
	for (unsigned i = 0; i < 8; i++) { /* reads go to either member */
		struct disk *disk = disk_open("R", true);
		uint8_t buf[8192], wanted[8192];

		fill_pattern(wanted, sizeof(wanted), 2);
		assert_int_equal(disk_do(disk, 1 + i % 2, BIO_READ, 0, 0, 16, buf), 0);
		assert_memory_equal(buf, wanted, sizeof(buf));
		disk_close(disk);
	}
	assert_string_equal(name_of_member(1), "EE_m2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_refused_one_leaves_no_trace, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_replaced_one_is_found_first, setup_disks, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
