/*
 * A mirror that nobody leaves in peace: members fail, are taken out, put back, rebuilt and grown,
 * in random order and also in the middle of each other, while four loops write and check. At the
 * end all members hold the same.
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
#include "tests/lib/raid_ops.h"
#include "tests/lib/rng.h"

#define BLOCK 512U
#define BLOCKS 4096ULL
#define RESERVED 2048ULL
#define MEMBERS 3U
#define STEPS 120

static int setup(void **state)
{
	(void)state;
	inproc_start(4);
	for (unsigned i = 0; i < MEMBERS; i++) {
		inproc_ok("bdev_malloc_create",
		        "{'name': 'm%u', 'num_blocks': %llu, 'block_size': 512, 'uuid': "
		        "'00000000-0000-4000-8000-00000000000%u'}",
		        i, BLOCKS, i);
		inproc_ok("bdev_error_create", "{'base_name': 'm%u'}", i);
	}
	inproc_ok("bdev_raid_set_options", "{'process_window_size_kb': 128}");
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, 'base_bdevs': ['EE_m0', "
	        "'EE_m1', 'EE_m2']}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

/* Answers may be errors: another step may be in the way. */
static void try(const char *method, const char *member, unsigned i)
{
	json_decref(inproc_call(method, "{'raid_bdev': 'R', '%s': 'EE_m%u'}", member, i));
}

/* How many of the members are there and have all data; -1: the mirror is not online. */
static int complete_members(bool *rebuilding)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'online'}");
	const json_t *raid = json_array_get(list, 0);
	int n = raid ? (int)json_integer_value(json_object_get(raid, "num_base_bdevs_discovered"))
	             : -1;

	*rebuilding = raid && json_object_get(raid, "process");
	json_decref(list);
	return *rebuilding ? n - 1 : n;
}

/* A mirror has no second member to fall back to for long, nor may the next one fail while a request
 * that has failed here is still on its way. */
static void end_failures(unsigned i)
{
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m%u', 'io_type': 'clear', 'error_type': 'failure'}", i);
	(void)bdev_pause_briefly("R");
}

static void step(struct rng *rng, uint64_t *sizes)
{
	unsigned i = (unsigned)rng_below(rng, MEMBERS);
	bool rebuilding;
	bool spare = complete_members(&rebuilding) > 1;
	char name[8];

	switch (rng_below(rng, 6)) {
	case 0:
		if (spare)
			json_decref(
			        inproc_call("bdev_raid_remove_base_bdev", "{'name': 'EE_m%u'}", i));
		break;
	case 1:
		if (spare)
			inproc_ok("bdev_error_inject_error",
			        "{'name': 'EE_m%u', 'io_type': 'write', 'error_type': 'failure', "
			        "'num': %u}",
			        i, 1 + (unsigned)rng_below(rng, 3));
		usleep(20000);
		end_failures(i);
		break;
	case 2:
		if (sizes[i] < BLOCKS + 1024) {
			sizes[i] += 64;
			snprintf(name, sizeof(name), "m%u", i);
			disk_resize(name, sizes[i], NULL);
		}
		break;
	case 3:
		if (spare)
			inproc_ok("bdev_error_inject_error",
			        "{'name': 'EE_m%u', 'io_type': 'read', 'error_type': 'failure', "
			        "'num': 1}",
			        i);
		usleep(20000);
		end_failures(i);
		break;
	default:
		try("bdev_raid_add_base_bdev", "base_bdev", i);
	}
	usleep((useconds_t)rng_below(rng, 5000));
}

static void make_whole(const uint64_t *sizes)
{
	uint64_t most = 0;
	bool rebuilding;
	char name[8];

	for (unsigned i = 0; i < MEMBERS; i++) {
		most = max_u64(most, sizes[i]);
		inproc_ok("bdev_error_inject_error",
		        "{'name': 'EE_m%u', 'io_type': 'clear', 'error_type': 'failure'}", i);
	}
	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		disk_resize(name, most, NULL);
	}
	for (unsigned k = 0; k < PATIENCE_MS; k++) {
		if (complete_members(&rebuilding) == (int)MEMBERS && !rebuilding)
			return;
		for (unsigned i = 0; i < MEMBERS && !rebuilding; i++)
			try("bdev_raid_add_base_bdev", "base_bdev", i);
		usleep(1000);
	}
	fail_msg("the mirror does not become whole");
}

static void expect_equal_members(uint64_t blocks)
{
	uint8_t *first = xcalloc(blocks, BLOCK), *next = xcalloc(blocks, BLOCK);

	for (unsigned i = 0; i < MEMBERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "m%u", i);
		struct disk *below = disk_open(name, false);

		assert_int_equal(disk_read(below, RESERVED, blocks, i ? next : first), 0);
		if (i)
			assert_memory_equal(first, next, blocks * BLOCK);
		disk_close(below);
	}
	free(first);
	free(next);
}

static void test_nobody_leaves_it_in_peace(void **state)
{
	struct disk *disk = disk_open("R", true);
	struct rng rng = rng_of(20);
	uint64_t sizes[MEMBERS] = {BLOCKS, BLOCKS, BLOCKS};
	struct load *load;
	struct load_result result;

	(void)state;
	load = load_start(disk, &(struct load_config){.data_loops = 4, .depth = 4, .seed = 1});
	for (unsigned i = 0; i < STEPS; i++)
		step(&rng, sizes);
	make_whole(sizes);
	result = load_stop(load);
	if (result.mismatches || result.errors)
		fail_msg("%llu errors, %llu mismatches: %s", (unsigned long long)result.errors,
		        (unsigned long long)result.mismatches, result.first_text);
	disk_close(disk);
	expect_equal_members(BLOCKS - RESERVED);
}

/* Ends in the middle of everything. */
static void test_deleted_in_the_middle(void **state)
{
	struct rng rng = rng_of(21);

	for (unsigned round = 0; round < 12; round++) {
		struct disk *disk = disk_open("R", true);
		struct load *load = load_start(
		        disk, &(struct load_config){.data_loops = 4, .depth = 4, .seed = round});
		bool pulled = rng_below(&rng, 3) == 0;

		try("bdev_raid_add_base_bdev", "base_bdev", 1);
		json_decref(inproc_call("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}"));
		try("bdev_raid_add_base_bdev", "base_bdev", 1);
		usleep((useconds_t)rng_below(&rng, 4000));
		if (pulled) {
			bdev_lose("EE_m0");
			bdev_lose("EE_m2");
		}
		load_run(load, 50);
		inproc_ok("bdev_raid_delete", "{'name': 'R', 'clear_sb': true}");
		load_run(load, UINT64_MAX);
		load_stop(load);
		disk_close(disk);
		teardown(state);
		setup(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_nobody_leaves_it_in_peace, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_deleted_in_the_middle, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
