/*
 * Mirrors whose members fail: nothing that was acknowledged is lost, what could not be read is
 * mended, and the one that failed is recorded before anybody hears of success.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "tests/lib/load.h"

#define BLOCK 512U
#define BLOCKS 8192ULL
#define RESERVED 2048ULL

static struct disk *disk;

static void make_array(unsigned members, bool superblock)
{
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'superblock': %s, 'base_bdevs': ['EE_m0', "
	        "'EE_m1'%s]}",
	        superblock ? "true" : "false", members == 3 ? ", 'EE_m2'" : "");
	disk = disk_open("R", true);
}

static int setup(void **state)
{
	(void)state;
	inproc_start(4);
	for (unsigned i = 0; i < 3; i++) {
		inproc_ok("bdev_malloc_create",
		        "{'name': 'm%u', 'num_blocks': %llu, 'block_size': 512}", i, BLOCKS);
		inproc_ok("bdev_error_create", "{'base_name': 'm%u'}", i);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	disk_close(disk);
	inproc_stop();
	return 0;
}

#define inject(member, text)                                                                       \
	inproc_ok("bdev_error_inject_error", "{'name': 'EE_m%u', " text "}", (unsigned)(member))

static json_t *raid(void)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'all'}");
	json_t *entry = json_incref(json_array_get(list, 0));

	json_decref(list);
	assert_non_null(entry);
	return entry;
}

static int operational(void)
{
	json_t *entry = raid();
	int n = (int)json_integer_value(json_object_get(entry, "num_base_bdevs_operational"));

	json_decref(entry);
	return n;
}

static void wait_for_operational(int n)
{
	for (unsigned i = 0; i < PATIENCE_MS && operational() != n; i++)
		usleep(1000);
	assert_int_equal(operational(), n);
}

static void wait_for_rebuild(void)
{
	bool running = true;

	for (unsigned i = 0; i < PATIENCE_MS && running; i++) {
		json_t *entry = raid();

		running = json_object_get(entry, "process") != NULL;
		json_decref(entry);
		usleep(1000);
	}
	assert_false(running);
}

/* The state of a slot as it stands on a member, below the error bdev. */
static unsigned state_on_disk(unsigned member, unsigned slot)
{
	char name[8];
	uint8_t sb[BLOCK];

	snprintf(name, sizeof(name), "m%u", member);
	struct disk *below = disk_open(name, false);

	assert_int_equal(disk_read(below, 0, 1, sb), 0);
	disk_close(below);
	assert_memory_equal(sb, "SPDKRAID", 8);
	return sb[256 + 64 * slot + 32];
}

static int64_t writes_of(unsigned member)
{
	json_t *stats = inproc_result("bdev_get_iostat", "{'names': ['EE_m%u']}", member);
	const json_t *bdev = json_array_get(json_object_get(stats, "bdevs"), 0);
	int64_t n = json_integer_value(json_object_get(bdev, "num_write_ops"));

	json_decref(stats);
	return n;
}

static void test_failed_write_is_recorded_first(void **state)
{
	uint8_t data[8 * BLOCK], back[8 * BLOCK];

	(void)state;
	make_array(2, true);
	fill_pattern(data, sizeof(data), 1);
	assert_int_equal(disk_write(disk, 0, 8, data), 0);
	assert_int_equal(state_on_disk(0, 1), 1);
	inject(1, "'io_type': 'write', 'error_type': 'failure', 'num': 1");
	fill_pattern(data, sizeof(data), 2);
	assert_int_equal(disk_write(disk, 0, 8, data), 0);
	/* It has been acknowledged: so the other one knows. */
	assert_int_equal(state_on_disk(0, 1), 2);
	wait_for_operational(1);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(disk_read(disk, 0, 8, back), 0);
		assert_memory_equal(data, back, sizeof(data));
	}
	/* The last one may fail, but isn't given up. */
	inject(0, "'io_type': 'all', 'error_type': 'failure', 'num': 1");
	assert_int_equal(disk_write(disk, 0, 8, data), -EIO);
	assert_int_equal(disk_write(disk, 0, 8, data), 0);
	assert_int_equal(operational(), 1);
}

/* With the record itself held back, success is held back. */
static void test_no_success_before_the_record(void **state)
{
	uint8_t data[BLOCK] = {1};
	struct iovec iov = {data, BLOCK};
	struct disk_io io, other;

	(void)state;
	make_array(2, true);
	inject(1, "'io_type': 'write', 'error_type': 'failure', 'num': 1, 'offset_blocks': 2050, "
	          "'num_blocks': 1");
	inject(0, "'io_type': 'write', 'error_type': 'pending', 'offset_blocks': 0, 'num_blocks': "
	          "2048");
	disk_start(disk, &io, 1, BIO_WRITE, 0, 2, 1, &iov, 1);
	usleep(50000);
	assert_false(disk_poll(&io));
	/* Nor does another one, that the failed member has missed. */
	disk_start(disk, &other, 2, BIO_WRITE, 0, 100, 1, &iov, 1);
	usleep(20000);
	assert_false(disk_poll(&other));
	while (!disk_poll(&io) || !disk_poll(&other))
		inproc_ok("bdev_error_resume_pending", "{'name': 'EE_m0'}");
	assert_int_equal(disk_wait(&io), 0);
	assert_int_equal(disk_wait(&other), 0);
	assert_int_equal(state_on_disk(0, 1), 2);
}

static bool taken_out;

static void *take_out(void *arg)
{
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	__atomic_store_n(&taken_out, true, __ATOMIC_SEQ_CST);
	return arg;
}

static void set_step_timeout(void *arg)
{
	bdev_options()->step_timeout_ms = *(const uint32_t *)arg;
}

static bool is_slow_to_record(void)
{
	json_t *list = inproc_result("bdev_get_problems", NULL);
	autofree char *text = json_dumps(list, 0);

	json_decref(list);
	return strstr(text, "takes long");
}

/* Whoever hears that a member is out may use it for something else. */
static void test_no_removal_before_the_record(void **state)
{
	uint32_t short_ms = 200, long_ms = BDEV_STEP_TIMEOUT_MS;
	pthread_t remover;

	(void)state;
	make_array(2, true);
	inproc_run(set_step_timeout, &short_ms);
	inject(0, "'io_type': 'write', 'error_type': 'pending', 'offset_blocks': 0, 'num_blocks': "
	          "2048");
	taken_out = false;
	assert_int_equal(pthread_create(&remover, NULL, take_out, NULL), 0);
	for (unsigned i = 0; i < PATIENCE_MS && !is_slow_to_record(); i++)
		usleep(1000);
	usleep(100000);
	assert_false(__atomic_load_n(&taken_out, __ATOMIC_SEQ_CST));
	assert_int_equal(state_on_disk(0, 1), 1);
	while (!__atomic_load_n(&taken_out, __ATOMIC_SEQ_CST)) {
		inproc_ok("bdev_error_resume_pending", "{'name': 'EE_m0'}");
		usleep(1000);
	}
	pthread_join(remover, NULL);
	assert_int_equal(state_on_disk(0, 1), 0);
	inproc_run(set_step_timeout, &long_ms);
	assert_false(is_slow_to_record());
}

static void unreadable(unsigned member, unsigned block)
{
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m%u', 'io_type': 'read', 'error_type': 'failure', 'num': 1000, "
	        "'offset_blocks': %u, 'num_blocks': 1}",
	        member, block);
}

static void readable(unsigned member)
{
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m%u', 'io_type': 'clear', 'error_type': 'failure'}", member);
}

static void test_unreadable_blocks_are_mended(void **state)
{
	uint8_t data[16 * BLOCK], back[16 * BLOCK];

	(void)state;
	make_array(2, false);
	fill_pattern(data, sizeof(data), 3);
	assert_int_equal(disk_write(disk, 64, 16, data), 0);
	inject(0, "'io_type': 'read', 'error_type': 'failure', 'num': 1, 'offset_blocks': 64, "
	          "'num_blocks': 16");
	assert_int_equal(disk_read(disk, 64, 16, back), 0);
	assert_memory_equal(data, back, sizeof(data));
	for (unsigned i = 0; i < PATIENCE_MS && writes_of(0) < 2; i++)
		usleep(1000);
	assert_int_equal(writes_of(0), 2);
	assert_int_equal(writes_of(1), 1);
	assert_int_equal(operational(), 2);
	/* Neither can read all of it, and each what the other can't. */
	unreadable(0, 66);
	unreadable(1, 79);
	memset(back, 0, sizeof(back));
	assert_int_equal(disk_read(disk, 64, 16, back), 0);
	assert_memory_equal(data, back, sizeof(data));
	for (unsigned i = 0; i < PATIENCE_MS && (writes_of(0) < 3 || writes_of(1) < 2); i++)
		usleep(1000);
	assert_int_equal(writes_of(0), 3);
	assert_int_equal(writes_of(1), 2);
	/* Neither can read a certain block: the client hears of it, and nobody is put out. */
	unreadable(1, 66);
	assert_int_equal(disk_read(disk, 64, 16, back), -EIO);
	assert_int_equal(disk_read(disk, 67, 13, back), 0);
	readable(0);
	readable(1);
	assert_int_equal(disk_read(disk, 64, 16, back), 0);
	assert_memory_equal(data, back, sizeof(data));
	assert_int_equal(operational(), 2);
}

/* Random writes on four loops while members fail one after the other. */
static void test_failures_under_load(void **state)
{
	struct load *load;
	struct load_result result;

	(void)state;
	inproc_ok("bdev_raid_set_options", "{'process_window_size_kb': 256}");
	make_array(3, true);
	load = load_start(disk, &(struct load_config){.data_loops = 4, .depth = 8, .seed = 5});
	for (unsigned round = 0; round < 3; round++) {
		unsigned victim = round % 3;

		load_run(load, 300);
		inject(victim, "'io_type': 'write', 'error_type': 'failure', 'num': 3");
		wait_for_operational(2);
		load_run(load, 300);
		inject(victim, "'io_type': 'clear', 'error_type': 'failure'");
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m%u'}",
		        victim);
		load_run(load, 300);
		wait_for_rebuild();
		wait_for_operational(3);
	}
	result = load_stop(load);
	assert_int_equal(result.errors, 0);
	assert_int_equal(result.mismatches, 0);
	/* All three hold the same. */
	static uint8_t first[BLOCKS * BLOCK], next[BLOCKS * BLOCK];

	for (unsigned i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "m%u", i);
		struct disk *below = disk_open(name, false);
		uint64_t blocks = BLOCKS - RESERVED;

		assert_int_equal(disk_read(below, RESERVED, blocks, i ? next : first), 0);
		if (i)
			assert_memory_equal(first, next, blocks * BLOCK);
		disk_close(below);
	}
}

static void test_rebuild_that_fails(void **state)
{
	(void)state;
	make_array(2, true);
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	/* The target can't be written in the middle. */
	inject(1, "'io_type': 'write', 'error_type': 'failure', 'num': 1, 'offset_blocks': 6000, "
	          "'num_blocks': 10");
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
	wait_for_rebuild();
	wait_for_operational(1);
	assert_int_equal(state_on_disk(0, 1), 0);
	/* The source can't be read there. */
	inject(0, "'io_type': 'read', 'error_type': 'failure', 'num': 1, 'offset_blocks': 6000, "
	          "'num_blocks': 10");
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		json_t *reply = inproc_call(
		        "bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
		bool added = json_object_get(reply, "result") != NULL;

		json_decref(reply);
		if (added)
			break;
		usleep(1000);
	}
	wait_for_rebuild();
	wait_for_operational(1);
	assert_int_equal(state_on_disk(0, 1), 0);
}

static int64_t rebuilt_blocks(bool *paused)
{
	json_t *entry = raid(), *process = json_object_get(entry, "process");
	int64_t blocks = process ? json_integer_value(json_object_get(
	                                   json_object_get(process, "progress"), "blocks"))
	                         : -1;

	*paused = json_is_true(json_object_get(process, "paused"));
	json_decref(entry);
	return blocks;
}

static void test_rebuild_is_paused_and_cancelled(void **state)
{
	bool paused;
	int64_t blocks;

	(void)state;
	/* 64 KiB at a time, at 1 MiB/s: it would take 3 s. */
	inproc_ok("bdev_raid_set_options",
	        "{'process_window_size_kb': 64, 'process_max_bandwidth_mb_sec': 1}");
	make_array(2, true);
	inproc_error(-ENOENT, "nothing is being rebuilt", "bdev_raid_process",
	        "{'name': 'R', 'action': 'pause'}");
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
	inproc_ok("bdev_raid_process", "{'name': 'R', 'action': 'pause'}");
	usleep(100000); /* a window that was under way ends */
	blocks = rebuilt_blocks(&paused);
	assert_true(paused && blocks >= 0 && blocks < (int64_t)(BLOCKS - RESERVED));
	usleep(200000);
	assert_int_equal(rebuilt_blocks(&paused), blocks);
	assert_int_equal(state_on_disk(0, 1), 0);
	inproc_ok("bdev_raid_process", "{'name': 'R', 'action': 'resume'}");
	inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 0}");
	wait_for_rebuild();
	wait_for_operational(2);
	assert_int_equal(state_on_disk(0, 1), 1);
	/* Cancelled, also while it is paused: out again. */
	for (unsigned pause = 0; pause < 2; pause++) {
		inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 1}");
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'EE_m1'}");
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}");
		if (pause)
			inproc_ok("bdev_raid_process", "{'name': 'R', 'action': 'pause'}");
		usleep(100000 * pause);
		inproc_ok("bdev_raid_process", "{'name': 'R', 'action': 'cancel'}");
		wait_for_operational(1);
		inproc_ok("bdev_raid_set_options", "{'process_max_bandwidth_mb_sec': 0}");
		for (unsigned i = 0; i < PATIENCE_MS && operational() < 2; i++) {
			json_decref(inproc_call("bdev_raid_add_base_bdev",
			        "{'raid_bdev': 'R', 'base_bdev': 'EE_m1'}"));
			usleep(1000);
		}
		wait_for_rebuild();
		wait_for_operational(2);
	}
}

static void test_one_child_per_member(void **state)
{
	uint8_t *data = xcalloc(2048, BLOCK), *back = xcalloc(2048, BLOCK);

	(void)state;
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid0', 'strip_size_kb': 64, 'base_bdevs': ['EE_m0', "
	        "'EE_m1', 'EE_m2']}");
	disk = disk_open("R", true);
	fill_pattern(data, 2048 * BLOCK, 7);
	assert_int_equal(disk_write(disk, 100, 2048, data), 0);
	assert_int_equal(disk_read(disk, 100, 2048, back), 0);
	assert_memory_equal(data, back, 2048 * BLOCK);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(writes_of(i), 1);
	free(data);
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(
	                test_failed_write_is_recorded_first, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_no_success_before_the_record, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_no_removal_before_the_record, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_unreadable_blocks_are_mended, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_failures_under_load, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_rebuild_that_fails, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_rebuild_is_paused_and_cancelled, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_one_child_per_member, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
