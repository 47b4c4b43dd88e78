/*
 * Arrays with parity remember: what was being written at a crash, what a member has missed, how far
 * a rebuild or new parity was. And checks find what somebody else has spoilt.
 */
#include <pthread.h>

#include "tests/lib/raid5_array.h"
#include "vbdev/raid/raid_ext.h"

static void pull(unsigned member)
{
	inproc_ok("bdev_error_delete", "{'name': 'EE_m%u'}", member);
	wait_for_operational(MEMBERS - 1);
}

static void bring_back(unsigned member)
{
	inproc_ok("bdev_error_create", "{'base_name': 'm%u'}", member);
	inproc_ok("bdev_wait_for_examine", NULL);
	wait_for_process();
	wait_for_operational(MEMBERS);
}

static void delete_below(void)
{
	disk_close(disk);
	disk = NULL;
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	for (unsigned i = 0; i < MEMBERS; i++)
		inproc_ok("bdev_error_delete", "{'name': 'EE_m%u'}", i);
}

static void find_again(void)
{
	for (unsigned i = 0; i < MEMBERS; i++)
		inproc_ok("bdev_error_create", "{'base_name': 'm%u'}", i);
	inproc_ok("bdev_wait_for_examine", NULL);
	disk = disk_open("R", true);
}

static void test_returning_member_gets_what_it_missed(void **state)
{
	struct rng rng = rng_of(9);
	uint64_t first = SIZE / 2, n = 2 * STRIPE;

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	/* An orderly stop forgets that. */
	delete_below();
	find_again();
	for (unsigned member = 0; member < MEMBERS; member++) {
		pull(member);
		fill_pattern(model + first * BLOCK, n * BLOCK, rng_next(&rng));
		assert_int_equal(disk_write(disk, first, n, model + first * BLOCK), 0);
		model_check();
		bring_back(member);
		/* Two regions at most of 64 KiB each, of 3 MiB; and the superblock. */
		assert_true(count_of(member, "bytes_written") < 512 * 1024);
		assert_true(count_of(member, "bytes_written") > 16 * 1024);
		model_check();
	}
	/* From those that came back. */
	pull(0);
	model_check();
	/* Taken out on purpose it may have been written by others: it gets everything. */
	bring_back(0);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
	wait_for_process();
	assert_true(count_of(1, "bytes_written") >= (int64_t)((BLOCKS - RESERVED) * BLOCK));
	expect_layout();
}

static int64_t percent(void)
{
	json_t *entry = raid();
	const json_t *process = json_object_get(entry, "process");
	int64_t n = json_integer_value(
	        json_object_get(json_object_get(process, "progress"), "percent"));

	json_decref(entry);
	return n;
}

static void wait_for_half(void)
{
	for (unsigned i = 0; i < PATIENCE_MS && percent() < 50; i++)
		usleep(1000);
	assert_true(percent() >= 50);
}

#define SLOWLY                                                                                     \
	inproc_ok("bdev_raid_set_options",                                                         \
	        "{'process_window_size_kb': 64, 'process_max_bandwidth_mb_sec': 4}")
#define FAST inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 0}")

/* As a member says it on disk; of its two extension blocks the newer one counts. */
static struct raid_ext ext_on_disk(void)
{
	static uint8_t bytes[2 * RAID_EXT_STEP_BYTES];
	struct raid_ext ext[2];
	struct disk *below = disk_open("m2", false);
	bool there[2];

	assert_int_equal(
	        disk_read(below, RAID_EXT_BYTES_OFFSET / BLOCK, sizeof(bytes) / BLOCK, bytes), 0);
	disk_close(below);
	for (unsigned i = 0; i < 2; i++)
		there[i] = raid_ext_parse(bytes + i * RAID_EXT_STEP_BYTES, &ext[i]);
	assert_true(there[0] || there[1]);
	return ext[!there[0] || (there[1] && ext[1].generation > ext[0].generation)];
}

/* Somebody else may use it meanwhile: what is said of it on disk must be gone with the answer. */
static void test_target_that_is_taken_out_is_forgotten(void **state)
{
	(void)state;
	make_array();
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	SLOWLY;
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
	wait_for_half();
	assert_int_equal(ext_on_disk().checkpoint_slot, 1);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	assert_int_equal(ext_on_disk().checkpoint_slot, RAID_NO_SLOT);
	FAST;
}

static void *take_out_m0(void *taken)
{
	json_t *reply = inproc_call("bdev_raid_remove_base_bdev", "{'name': 'EE_m0'}");

	*(bool *)taken = json_object_get(reply, "error") == NULL;
	json_decref(reply);
	return NULL;
}

/* False: it was taken out too late, when it was no member any more. */
static bool take_out_while_recorded(void)
{
	struct iovec iov = {back, BLOCK};
	struct disk_io io;
	pthread_t remover;
	bool taken;

	inject(1, "'io_type': 'write', 'error_type': 'pending', 'num': 1");
	inject(0, "'io_type': 'write', 'error_type': 'failure', 'num': 1");
	disk_start(disk, &io, 1, BIO_WRITE, 0, 0, 1, &iov, 1);
	wait_for_operational(MEMBERS - 1);
	assert_int_equal(pthread_create(&remover, NULL, take_out_m0, &taken), 0);
	usleep(50000);
	while (!disk_poll(&io))
		inproc_ok("bdev_error_resume_pending", "{'name': 'EE_m1'}");
	assert_int_equal(disk_wait(&io), 0);
	pthread_join(remover, NULL);
	return taken;
}

/* It has failed, and that is being recorded when it is taken out, which is heard of afterwards. */
static void test_failed_member_that_is_taken_out_is_forgotten(void **state)
{
	bool taken;

	(void)state;
	make_array();
	do {
		assert_int_equal(disk_write(disk, 0, 1, back), 0);
		taken = take_out_while_recorded();
		if (taken)
			assert_int_equal(ext_on_disk().returns[0] & 1, 0);
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m0'}");
		wait_for_process();
		wait_for_operational(MEMBERS);
	} while (!taken);
	/* One that nobody has taken out may come back with what it has missed. */
	inject(0, "'io_type': 'write', 'error_type': 'failure', 'num': 1");
	assert_int_equal(disk_write(disk, 0, 1, back), 0);
	assert_int_equal(ext_on_disk().returns[0] & 1, 1);
}

static void test_rebuild_goes_on_after_a_restart(void **state)
{
	struct rng rng = rng_of(12);

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	/* An orderly stop forgets that. */
	delete_below();
	find_again();
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	model_write(&rng, 4 * STRIPE);
	SLOWLY;
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
	wait_for_half();
	model_write(&rng, 4 * STRIPE);
	delete_below();
	FAST;
	find_again();
	wait_for_process();
	wait_for_operational(MEMBERS);
	/* The rest, and what was written meanwhile. */
	assert_true(count_of(1, "bytes_written") < (int64_t)((BLOCKS - RESERVED) * BLOCK * 3 / 4));
	model_check();
	pull(0);
	model_check();
}

static void test_new_parity_goes_on_after_a_restart(void **state)
{
	struct rng rng = rng_of(13);

	(void)state;
	memset(model, 0, sizeof(model));
	SLOWLY;
	make_array();
	wait_for_half();
	model_write(&rng, 4 * STRIPE);
	delete_below();
	FAST;
	find_again();
	wait_for_process();
	assert_true(count_of(0, "bytes_read") < (int64_t)((BLOCKS - RESERVED) * BLOCK * 3 / 4));
	expect_layout();
}

/* ---- a crash: members as they were while they were in use ---- */

static uint8_t images[MEMBERS][BLOCKS * BLOCK];

static void transfer_images(bool back_to_disk)
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "m%u", i);
		struct disk *below = disk_open(name, back_to_disk);

		assert_int_equal(back_to_disk ? disk_write(below, 0, BLOCKS, images[i])
		                              : disk_read(below, 0, BLOCKS, images[i]),
		        0);
		disk_close(below);
	}
}

#define REGION 128ULL /* blocks of a member, 64 KiB */
#define MARKED 16U    /* every third of 48 */

/* Leaves regions marked, and their parity wrong. */
static void crash(void)
{
	struct rng rng = rng_of(14);

	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	delete_below();
	find_again();
	for (unsigned i = 0; i < MARKED; i++) {
		uint64_t first = 3 * i * REGION * (MEMBERS - 1) + 5;

		fill_pattern(model + first * BLOCK, 7 * BLOCK, rng_next(&rng));
		assert_int_equal(disk_write(disk, first, 7, model + first * BLOCK), 0);
	}
	transfer_images(false);
	delete_below();
	/* The first stripe of each has its parity on the last member. */
	for (unsigned i = 0; i < MARKED; i++)
		memset(images[3] + (RESERVED + 3 * i * REGION) * BLOCK, 0x5a, STRIP * BLOCK);
	transfer_images(true);
}

static uint64_t regions_left(void)
{
	json_t *entry = raid();
	uint64_t n = (uint64_t)json_integer_value(json_object_get(entry, "resync_regions_left"));

	json_decref(entry);
	return n;
}

static void test_crash_leaves_what_is_marked_in_doubt(void **state)
{
	unsigned errors = 0, good = 0;

	(void)state;
	crash();
	inproc_ok("bdev_raid_set_options",
	        "{'process_window_size_kb': 64, 'process_max_bandwidth_mb_sec': 1}");
	find_again();
	assert_int_equal(regions_left(), MARKED);
	model_check();
	inproc_error(-EBUSY, "regions of 'R' is not made right", "bdev_raid_remove_base_bdev",
	        "{'name': 'EE_m0'}");
	bdev_lose("EE_m0");
	wait_for_operational(MEMBERS - 1);
	for (uint64_t b = 0; b < SIZE; b += STRIP) {
		uint64_t region = b / (MEMBERS - 1) / REGION;
		int rc = disk_read(disk, b, STRIP, back);

		assert_true(rc == 0 || (rc == -EIO && region % 3 == 0));
		errors += rc == -EIO;
		good += rc == 0;
		if (rc == 0)
			assert_memory_equal(back, model + b * BLOCK, STRIP * BLOCK);
	}
	assert_true(errors > 0 && good > SIZE / STRIP / 2);
}

static void test_crash_is_mended_where_it_was_marked(void **state)
{
	(void)state;
	crash();
	find_again();
	for (unsigned i = 0; i < PATIENCE_MS && regions_left() > 0; i++)
		usleep(1000);
	assert_int_equal(regions_left(), 0);
	assert_true(count_of(0, "bytes_read") < (int64_t)((BLOCKS - RESERVED) * BLOCK / 2));
	expect_layout();
	pull(0);
	model_check();
}

/* Somebody has written past the array, to blocks of parity. */
static void test_check_and_repair(void **state)
{
	struct rng rng = rng_of(10);
	uint8_t junk[3 * BLOCK];

	(void)state;
	memset(model, 0, sizeof(model));
	make_array();
	for (unsigned i = 0; i < 100; i++)
		model_write(&rng, 4 * STRIPE);
	check_parity(false, 0, 0);
	delete_below();
	/* Stripe 0 has its parity on the last member, stripe 5 on the third. */
	fill_pattern(junk, sizeof(junk), 11);
	disk = disk_open("m3", true);
	assert_int_equal(disk_write(disk, RESERVED + 7, 3, junk), 0);
	disk_close(disk);
	disk = disk_open("m2", true);
	assert_int_equal(disk_write(disk, RESERVED + 5 * STRIP + 31, 1, junk), 0);
	disk_close(disk);
	find_again();
	check_parity(false, 4, 0);
	check_parity(true, 4, 4);
	check_parity(false, 0, 0);
	expect_layout();
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m0'}");
	model_check();
	inproc_error(-ENODEV, "lacks a member", "bdev_raid_check", "{'name': 'R'}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(
	                test_returning_member_gets_what_it_missed, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_rebuild_goes_on_after_a_restart, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_target_that_is_taken_out_is_forgotten, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_failed_member_that_is_taken_out_is_forgotten, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_new_parity_goes_on_after_a_restart, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_crash_leaves_what_is_marked_in_doubt, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_crash_is_mended_where_it_was_marked, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_check_and_repair, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
