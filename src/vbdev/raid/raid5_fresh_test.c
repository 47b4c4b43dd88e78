/*
 * Arrays whose parity is not made yet: what was written makes up for a member all the same, where
 * the array has known the rows from their beginning. Where it has not, nothing is made up.
 */
#define MEMBERS 6U /* so that writes of one strip read what they overwrite, and its parity */
#define MEMBERS                                                                                    \
	6U /* so that a small write would rather read what it overwrites, and its parity           \
	    */
#include "tests/lib/raid5_array.h"

#define MORE 2048ULL /* blocks that members grow by */

static bool written[SIZE + MORE * (MEMBERS - 1)];
static uint8_t expected[(SIZE + MORE * (MEMBERS - 1)) * BLOCK];

/* Members hold anything, and parity is made slowly. */
static void begin_with_junk(uint64_t blocks)
{
	static uint8_t junk[(BLOCKS + MORE) * BLOCK];

	memset(written, 0, sizeof(written));
	for (unsigned i = 0; i < MEMBERS; i++) {
		char name[12];
		struct disk *member;

		snprintf(name, sizeof(name), "m%u", i);
		if (blocks > BLOCKS)
			assert_int_equal(disk_resize(name, blocks, NULL), 0);
		snprintf(name, sizeof(name), "EE_m%u", i);
		member = disk_open(name, true);
		fill_pattern(junk, sizeof(junk), i);
		assert_int_equal(disk_write(member, 0, blocks, junk), 0);
		disk_close(member);
	}
	inproc_ok("bdev_raid_set_options",
	        "{'process_window_size_kb': 64, 'process_max_bandwidth_mb_sec': 1}");
}

static void hurry(void)
{
	inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 0}");
}

static void wait_until_whole(void)
{
	wait_for_operational(MEMBERS);
	wait_for_process();
}

static void write_some(struct rng *rng, unsigned times, uint64_t first, uint64_t end, uint64_t most)
{
	for (unsigned i = 0; i < times; i++) {
		uint64_t at = first + rng_below(rng, end - first);
		uint64_t n = 1 + rng_below(rng, min_u64(most, end - at));

		fill_pattern(expected + at * BLOCK, n * BLOCK, rng_next(rng));
		assert_int_equal(disk_write(disk, at, n, expected + at * BLOCK), 0);
		memset(written + at, true, n);
	}
}

/* Both ways of reading: from one strip, and from many. */
static void expect_written(uint64_t end)
{
	static uint8_t now[sizeof(expected)];
	unsigned seen = 0;

	assert_int_equal(disk_read(disk, 0, end, now), 0);
	for (uint64_t b = 0; b < end; b++) {
		seen += written[b];
		if (written[b] && memcmp(now + b * BLOCK, expected + b * BLOCK, BLOCK) != 0)
			fail_msg("block %llu is not what was written", (unsigned long long)b);
	}
	assert_true(seen > 1000 && seen < end);
	for (uint64_t b = 0; b < end; b += 7) {
		assert_int_equal(disk_read(disk, b, 1, now), 0);
		if (written[b])
			assert_memory_equal(now, expected + b * BLOCK, BLOCK);
	}
}

static bool parity_is_complete(void)
{
	json_t *entry = raid();
	bool running = json_object_get(entry, "process") != NULL;

	json_decref(entry);
	return !running;
}

static int64_t redundancy(void)
{
	json_t *entry = raid();
	int64_t n = json_integer_value(json_object_get(entry, "redundancy"));

	json_decref(entry);
	return n;
}

static bool is_rebuilding(void)
{
	json_t *entry = raid();
	const json_t *slot;
	bool any = false;
	size_t i;

	json_array_foreach (json_object_get(entry, "base_bdevs_list"), i, slot)
		any |= json_object_get(slot, "rebuilding") != NULL;
	json_decref(entry);
	return any;
}

static void stop_and_start_without(unsigned member)
{
	disk_close(disk);
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
	for (unsigned i = 0; i < MEMBERS; i++)
		json_decref(inproc_call("bdev_error_delete", "{'name': 'EE_m%u'}", i));
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (i != member)
			inproc_ok("bdev_error_create", "{'base_name': 'm%u'}", i);
	}
	inproc_ok("bdev_wait_for_examine", NULL);
	for (unsigned i = 0; i < PATIENCE_MS && !bdev_exists("R"); i++)
		usleep(1000);
	disk = disk_open("R", true);
}

static void test_new_array_makes_up_for_a_member(void **state)
{
	struct rng rng = rng_of(8);

	(void)state;
	begin_with_junk(BLOCKS);
	make_array();
	assert_false(parity_is_complete());
	write_some(&rng, 100, 0, SIZE, STRIPE);
	write_some(&rng, 400, 0, SIZE, 8);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m0'}");
	expect_written(SIZE);
	write_some(&rng, 200, 0, SIZE, 2 * STRIP);
	expect_written(SIZE);
	/* It is also known to the next start. */
	stop_and_start_without(0);
	assert_int_equal(operational(), MEMBERS - 1);
	expect_written(SIZE);
	write_some(&rng, 200, 0, SIZE, 8);
	/* Back again it is given everything: what it holds is no part of what was made up for it.
	 */
	hurry();
	inproc_ok("bdev_error_create", "{'base_name': 'm0'}");
	wait_until_whole();
	write_some(&rng, 400, 0, SIZE, 8);
	for (unsigned i = 1; i < MEMBERS; i++) {
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m%u'}", i);
		expect_written(SIZE);
		inproc_ok(
		        "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m%u'}", i);
		wait_until_whole();
	}
}

/* It comes back to rows of which some were never written, and others while it is rebuilt. */
static void test_new_array_whose_member_comes_back(void **state)
{
	struct rng rng = rng_of(9);

	(void)state;
	begin_with_junk(BLOCKS);
	make_array();
	write_some(&rng, 300, 0, SIZE / 4, STRIPE / 2);
	assert_false(parity_is_complete());
	bdev_lose("EE_m2");
	wait_for_operational(MEMBERS - 1);
	expect_written(SIZE);
	write_some(&rng, 5, 0, SIZE / 8, 8);
	inproc_ok("bdev_error_create", "{'base_name': 'm2'}");
	wait_for_operational(MEMBERS);
	write_some(&rng, 200, SIZE / 2, SIZE, 8);
	assert_false(parity_is_complete());
	inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 20}");
	while (is_rebuilding())
		usleep(1000);
	write_some(&rng, 300, 0, SIZE, 8);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	expect_written(SIZE);
}

/* What a write must read can't be read, in rows that were never written. */
static void test_unreadable_blocks_of_a_new_array(void **state)
{
	struct rng rng = rng_of(11);

	(void)state;
	begin_with_junk(BLOCKS);
	make_array();
	for (unsigned i = 0; i < 300; i++) {
		unsigned member = (unsigned)rng_below(&rng, MEMBERS);

		inject(member, "'io_type': 'read', 'error_type': 'failure', 'num': 1");
		write_some(&rng, 1, SIZE / 2, SIZE, i % 2 ? 8 : STRIPE / 2);
		inject(member, "'io_type': 'clear', 'error_type': 'failure'");
	}
	assert_int_equal(operational(), MEMBERS);
	for (unsigned i = 0; i < MEMBERS; i++) {
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m%u'}", i);
		expect_written(SIZE);
		inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 0}");
		inproc_ok(
		        "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m%u'}", i);
		wait_until_whole();
	}
}

/* What one member can't read while parity is made is made up from the others, and written again. */
static void test_parity_is_made_over_unreadable_blocks(void **state)
{
	struct rng rng = rng_of(12);

	(void)state;
	begin_with_junk(BLOCKS);
	make_array();
	write_some(&rng, 100, 0, SIZE, STRIPE);
	for (unsigned i = 0; i < MEMBERS; i++)
		inproc_ok("bdev_error_inject_error",
		        "{'name': 'EE_m%u', 'io_type': 'read', 'error_type': 'failure', 'num': 1, "
		        "'offset_blocks': %llu, 'num_blocks': 1}",
		        i, (unsigned long long)(BLOCKS - 1 - 300ULL * i));
	assert_false(parity_is_complete());
	hurry();
	wait_for_process();
	check_parity(false, 0, 0);
	assert_int_equal(redundancy(), 1);
	assert_int_equal(operational(), MEMBERS);
	expect_written(SIZE);
}

static void test_new_stripes_make_up_for_a_member(void **state)
{
	const uint64_t end = SIZE + MORE * (MEMBERS - 1);
	struct rng rng = rng_of(10);

	(void)state;
	begin_with_junk(BLOCKS + MORE);
	/* The smallest one counts; what the others hold beyond that is no part of the array. */
	assert_int_equal(disk_resize("m0", BLOCKS, NULL), 0);
	hurry();
	make_array();
	wait_for_process();
	inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 1}");
	write_some(&rng, 100, 0, SIZE, STRIPE);
	assert_int_equal(disk_resize("m0", BLOCKS + MORE, NULL), 0);
	assert_int_equal(disk_blocks(disk), end);
	write_some(&rng, 200, SIZE, end, 8);
	assert_false(parity_is_complete());
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m3'}");
	expect_written(end);
	write_some(&rng, 200, SIZE, end, STRIPE / 2);
	hurry();
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m3'}");
	wait_until_whole();
	write_some(&rng, 200, SIZE, end, 8);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m0'}");
	expect_written(end);
}

/* Without superblock what members hold may be data, or anything: nothing is made up from that. */
static void test_unknown_parity_is_made_first(void **state)
{
	struct rng rng = rng_of(8);

	(void)state;
	begin_with_junk(BLOCKS);
	inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 4}");
	make_array_with(false);
	assert_int_equal(disk_read(disk, 0, SIZE, model), 0);
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 2 * STRIPE);
	inproc_error(-EBUSY, "parity of 'R' is valid for", "bdev_raid_remove_base_bdev",
	        "{'name': 'EE_m0'}");
	assert_int_equal(redundancy(), 0);
	bdev_lose("EE_m0");
	wait_for_operational(MEMBERS - 1);
	/* The end has not been reached: an error, nothing made up. */
	unsigned errors = 0, good = 0;

	for (uint64_t b = 0; b < SIZE; b += STRIP) {
		int rc = disk_read(disk, b, STRIP, back);

		errors += rc == -EIO;
		good += rc == 0;
		if (rc == 0)
			assert_memory_equal(back, model + b * BLOCK, STRIP * BLOCK);
	}
	assert_true(errors > 0 && good > SIZE / STRIP / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(
	                test_new_array_makes_up_for_a_member, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_new_array_whose_member_comes_back, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_unreadable_blocks_of_a_new_array, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_parity_is_made_over_unreadable_blocks, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_new_stripes_make_up_for_a_member, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_unknown_parity_is_made_first, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
