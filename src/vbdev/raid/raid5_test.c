/*
 * Arrays with parity: what is written is there with all members and without any one of them,
 * whatever the size and alignment; members that fail, can't be read, are replaced; growth.
 */
#include "tests/lib/raid5_array.h"

static void test_all_sizes_and_alignments(void **state)
{
	struct rng rng = rng_of(1);

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 600; i++) {
		if (i % 5 == 4)
			model_zero(&rng, i % 2 ? 3 * STRIPE : STRIP);
		else
			model_write(&rng, i % 3 == 0 ? 8 : i % 3 == 1 ? STRIPE : 12 * STRIPE);
	}
	model_check();
	model_check_parts(&rng);
	expect_layout();
	/* Whole stripes may go; what is less stays as it is. */
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, STRIP, 5 * STRIPE, NULL), 0);
	memset(model + STRIPE * BLOCK, 0, 4 * STRIPE * BLOCK);
	model_check();
	expect_layout();
	assert_int_equal(disk_do(disk, 2, BIO_FLUSH, 0, 0, 0, NULL), 0);
}

static void test_without_each_member(void **state)
{
	struct rng rng = rng_of(2);

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned member = 0; member < MEMBERS; member++) {
		for (unsigned i = 0; i < 60; i++)
			model_write(&rng, 6 * STRIPE);
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m%u'}", member);
		model_check();
		for (unsigned i = 0; i < 200; i++)
			model_write(&rng, i % 2 ? 8 : 4 * STRIPE);
		for (unsigned i = 0; i < 20; i++)
			model_zero(&rng, 2 * STRIPE);
		model_check();
		model_check_parts(&rng);
		/* What the removed one holds is stale now, and is not believed. */
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m%u'}",
		        member);
		for (unsigned i = 0; i < 20; i++)
			model_write(&rng, 8);
		wait_for_process();
		wait_for_operational(MEMBERS);
		model_check();
		expect_layout();
	}
}

static void test_reads_and_writes_per_request(void **state)
{
	static uint8_t data[8 * STRIPE * BLOCK];
	int64_t reads, writes;

	(void)state;
	make_array();
	inproc_ok("bdev_wait_for_examine", NULL);
#define counted(expected_reads, expected_writes, request)                                          \
	reads = count_all("num_read_ops");                                                         \
	writes = count_all("num_write_ops");                                                       \
	assert_int_equal(request, 0);                                                              \
	assert_int_equal(count_all("num_read_ops") - reads, expected_reads);                       \
	assert_int_equal(count_all("num_write_ops") - writes, expected_writes)
	/* The first one marks the region on each. */
	counted(0, 4 + 4, disk_write(disk, STRIPE, STRIPE, data));
	counted(0, 4, disk_write(disk, STRIPE, STRIPE, data));
	counted(2, 2, disk_write(disk, STRIPE + 3, 8, data));
	/* Two strips: the third is read. */
	counted(1, 3, disk_write(disk, STRIPE, 2 * STRIP, data));
	/* Over the border of two strips: each with its own rows. */
	counted(4, 4, disk_write(disk, STRIPE + STRIP - 4, 8, data));
	/* One child per member that has something of it. */
	counted(1, 0, disk_read(disk, STRIPE, STRIP, data));
	counted(3, 0, disk_read(disk, STRIPE, STRIPE, data));
	/* Eight stripes: each member has six strips, and parity in between twice. */
	assert_true(8 * (MEMBERS - 1) == 24);
	reads = count_all("num_read_ops");
	assert_int_equal(disk_read(disk, 0, 8 * STRIPE, data), 0);
	assert_true(count_all("num_read_ops") - reads <= 2 * MEMBERS + 4);
}

static void unreadable(unsigned member, uint64_t block)
{
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m%u', 'io_type': 'read', 'error_type': 'failure', 'num': 1000, "
	        "'offset_blocks': %llu, 'num_blocks': 1}",
	        member, (unsigned long long)block);
}

static void readable(unsigned member)
{
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m%u', 'io_type': 'clear', 'error_type': 'failure'}", member);
}

static void test_unreadable_blocks_are_made_up_and_mended(void **state)
{
	struct rng rng = rng_of(3);
	int64_t writes;

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 200; i++)
		model_write(&rng, 4 * STRIPE);
	/* A read; of one strip, and of many. */
	for (unsigned many = 0; many < 2; many++) {
		writes = count_of(1, "num_write_ops");
		inject(1, "'io_type': 'read', 'error_type': 'failure', 'num': 1");
		if (many)
			model_check();
		else
			assert_int_equal(disk_read(disk, STRIP + 4, 8, back), 0);
		if (!many)
			assert_memory_equal(back, model + (STRIP + 4) * BLOCK, 8 * BLOCK);
		for (unsigned i = 0; i < PATIENCE_MS && count_of(1, "num_write_ops") == writes; i++)
			usleep(1000);
		if (!many)
			assert_true(count_of(1, "num_write_ops") > writes);
	}
	/* What a write needs can't be read: data that it overwrites, other data, parity. */
	for (unsigned member = 0; member < MEMBERS; member++) {
		for (unsigned i = 0; i < 40; i++) {
			inject(member, "'io_type': 'read', 'error_type': 'failure', 'num': 1");
			model_write(&rng, i % 2 ? 8 : STRIPE - 1);
			readable(member);
		}
	}
	usleep(50000);
	assert_int_equal(operational(), MEMBERS);
	model_check();
	expect_layout();
	/* Two can't read all of it, and each row can be read or made up. */
	unreadable(1, RESERVED + 6);
	unreadable(0, RESERVED + 9);
	writes = count_of(1, "num_write_ops");
	memset(back, 0, 8 * BLOCK);
	assert_int_equal(disk_read(disk, STRIP + 4, 8, back), 0);
	assert_memory_equal(back, model + (STRIP + 4) * BLOCK, 8 * BLOCK);
	for (unsigned i = 0; i < PATIENCE_MS && count_of(1, "num_write_ops") == writes; i++)
		usleep(1000);
	assert_true(count_of(1, "num_write_ops") > writes);
	/* A write that needs what they hold. */
	fill_pattern(back, 8 * BLOCK, 77);
	memcpy(model + (STRIP + 4) * BLOCK, back, 8 * BLOCK);
	assert_int_equal(disk_write(disk, STRIP + 4, 8, back), 0);
	/* Of one row two can't be read. */
	unreadable(0, RESERVED + 6);
	assert_int_equal(disk_read(disk, STRIP + 4, 8, back), -EIO);
	assert_int_equal(disk_read(disk, STRIP + 7, 8, back), 0);
	readable(0);
	readable(1);
	model_check();
	/* Two can't: the client hears of it, nobody is put out, nothing is written. */
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m0'}");
	inject(1, "'io_type': 'read', 'error_type': 'failure', 'num': 1");
	assert_int_equal(disk_read(disk, 0, 8, back), -EIO);
	assert_int_equal(disk_read(disk, 0, 8, back), 0);
	assert_memory_equal(back, model, 8 * BLOCK);
	assert_int_equal(operational(), MEMBERS - 1);
	model_check();
}

/* The state of a slot as it stands on a member, below the error bdev. */
static unsigned state_on_disk(unsigned member, unsigned slot)
{
	char name[8];
	uint8_t sb[2 * BLOCK];

	snprintf(name, sizeof(name), "m%u", member);
	struct disk *below = disk_open(name, false);

	assert_int_equal(disk_read(below, 0, 2, sb), 0);
	disk_close(below);
	assert_memory_equal(sb, "SPDKRAID", 8);
	return sb[256 + 64 * slot + 32];
}

static void test_failed_write_is_recorded_first(void **state)
{
	struct rng rng = rng_of(4);

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	inject(2, "'io_type': 'write', 'error_type': 'failure', 'num': 1");
	for (unsigned i = 0; i < 20; i++)
		model_write(&rng, 4 * STRIPE);
	assert_int_equal(state_on_disk(0, 2), 2);
	assert_int_equal(state_on_disk(3, 2), 2);
	wait_for_operational(MEMBERS - 1);
	model_check();
	/* A second one: the array goes, and does not come up by itself with half a write in it. */
	inject(1, "'io_type': 'write', 'error_type': 'failure', 'num': 1");
	fill_pattern(back, STRIPE * BLOCK, 9);
	assert_int_not_equal(disk_write(disk, 0, STRIPE, back), 0);
	wait_for_state("offline");
	disk_close(disk);
	disk = NULL;
	inproc_error(-EUCLEAN, "was not stopped in order", "bdev_raid_start", "{'name': 'R'}");
	assert_false(bdev_exists("R"));
	inproc_ok("bdev_raid_start", "{'name': 'R', 'trust_parity': true}");
	/* All but the stripe that was being written. */
	disk = disk_open("R", true);
	assert_int_equal(disk_read(disk, 0, SIZE, back), 0);
	assert_memory_equal(back + STRIPE * BLOCK, model + STRIPE * BLOCK, (SIZE - STRIPE) * BLOCK);
}

static void test_restart_in_order(void **state)
{
	struct rng rng = rng_of(5);

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	disk_close(disk);
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	/* One does not come back: the others were stopped in order, and make up for it. */
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
	for (unsigned i = 0; i < MEMBERS; i++)
		inproc_ok("bdev_error_delete", "{'name': 'EE_m%u'}", i);
	for (unsigned i = 1; i < MEMBERS; i++)
		inproc_ok("bdev_error_create", "{'base_name': 'm%u'}", i);
	inproc_ok("bdev_wait_for_examine", NULL);
	for (unsigned i = 0; i < PATIENCE_MS && !bdev_exists("R"); i++)
		usleep(1000);
	disk = disk_open("R", true);
	assert_int_equal(operational(), MEMBERS - 1);
	assert_int_equal(disk_blocks(disk), SIZE);
	model_check();
}

static void test_growth(void **state)
{
	struct rng rng = rng_of(6);
	uint64_t more = 1024;
	char name[8];

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	/* What lies behind the end is no parity of anything. */
	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		assert_int_equal(disk_resize(name, BLOCKS + more, NULL), 0);
		assert_int_equal(
		        bdev_blocks_of("R"), i + 1 < MEMBERS ? SIZE : SIZE + more * (MEMBERS - 1));
	}
	wait_for_process();
	fill_pattern(back, STRIPE * BLOCK, 77);
	assert_int_equal(disk_write(disk, SIZE + 5, STRIPE, back), 0);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	model_check();
	static uint8_t again[STRIPE * BLOCK];

	fill_pattern(back, STRIPE * BLOCK, 77);
	assert_int_equal(disk_read(disk, SIZE + 5, STRIPE, again), 0);
	assert_memory_equal(again, back, sizeof(again));
	/* Without a member it stays as it is, until it is whole again. */
	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		assert_int_equal(disk_resize(name, BLOCKS + 2 * more, NULL), 0);
	}
	assert_int_equal(bdev_blocks_of("R"), SIZE + more * (MEMBERS - 1));
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
	wait_for_process();
	for (unsigned i = 0; i < PATIENCE_MS && bdev_blocks_of("R") == SIZE + more * (MEMBERS - 1);
	        i++)
		usleep(1000);
	assert_int_equal(bdev_blocks_of("R"), SIZE + 2 * more * (MEMBERS - 1));
	wait_for_process();
	model_check();
}

static void test_failures_under_load(void **state)
{
	struct load *load;
	struct load_result result;

	(void)state;
	inproc_ok("bdev_raid_set_options", "{'process_window_size_kb': 128}");
	make_array();
	load = load_start(disk, &(struct load_config){.data_loops = 4, .depth = 8, .seed = 5});
	for (unsigned round = 0; round < MEMBERS; round++) {
		load_run(load, 1000);
		inject(round, "'io_type': 'write', 'error_type': 'failure', 'num': 3");
		wait_for_operational(MEMBERS - 1);
		load_run(load, 1000);
		inject(round, "'io_type': 'clear', 'error_type': 'failure'");
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m%u'}",
		        round);
		load_run(load, 1000);
		wait_for_process();
		wait_for_operational(MEMBERS);
	}
	result = load_stop(load);
	if (result.errors || result.mismatches)
		fail_msg("%llu errors, %llu mismatches: %s", (unsigned long long)result.errors,
		        (unsigned long long)result.mismatches, result.first_text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_all_sizes_and_alignments, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_without_each_member, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_reads_and_writes_per_request, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_unreadable_blocks_are_made_up_and_mended, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_failed_write_is_recorded_first, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_restart_in_order, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_growth, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_failures_under_load, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
