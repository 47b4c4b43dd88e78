/*
 * raid5_array.h: an array with parity on memory, with an error bdev below each member, and what it
 * must hold.
 */
#pragma once

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
#include "tests/lib/rng.h"

#define BLOCK 512U
#define BLOCKS 8192ULL /* of a member */
#define RESERVED 2048ULL
#ifndef MEMBERS
#define MEMBERS 4U
#endif
#define STRIP 32ULL /* 16 KiB */
#define STRIPE (STRIP * (MEMBERS - 1))
#define SIZE ((BLOCKS - RESERVED) * (MEMBERS - 1))

static struct disk *disk;

static inline int setup(void **state)
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
	disk = NULL;
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	if (disk)
		disk_close(disk);
	inproc_stop();
	return 0;
}

static inline void make_array_with(bool superblock)
{
	char bases[12 * MEMBERS] = "";

	for (unsigned i = 0; i < MEMBERS; i++)
		snprintf(bases + strlen(bases), sizeof(bases) - strlen(bases), "%s'EE_m%u'",
		        i ? ", " : "", i);
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid5f', 'strip_size_kb': 16, 'superblock': %s, "
	        "'base_bdevs': [%s]}",
	        superblock ? "true" : "false", bases);
	disk = disk_open("R", true);
	assert_int_equal(disk_blocks(disk), superblock ? SIZE : BLOCKS * (MEMBERS - 1));
}

static inline void make_array(void)
{
	make_array_with(true);
}

#define inject(member, text)                                                                       \
	inproc_ok("bdev_error_inject_error", "{'name': 'EE_m%u', " text "}", (unsigned)(member))

static inline json_t *raid(void)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'all'}");
	json_t *entry = json_incref(json_array_get(list, 0));

	json_decref(list);
	assert_non_null(entry);
	return entry;
}

static inline int operational(void)
{
	json_t *entry = raid();
	int n = (int)json_integer_value(json_object_get(entry, "num_base_bdevs_operational"));

	json_decref(entry);
	return n;
}

static inline void wait_for_operational(int n)
{
	for (unsigned i = 0; i < PATIENCE_MS && operational() != n; i++)
		usleep(1000);
	assert_int_equal(operational(), n);
}

static inline void wait_for_process(void)
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

static inline void wait_for_state(const char *name)
{
	bool is = false;

	for (unsigned i = 0; i < PATIENCE_MS && !is; i++) {
		json_t *entry = raid();

		is = strcmp(json_string_value(json_object_get(entry, "state")), name) == 0;
		json_decref(entry);
		usleep(1000);
	}
	assert_true(is);
}

static inline int64_t count_of(unsigned member, const char *key)
{
	json_t *stats = inproc_result("bdev_get_iostat", "{'names': ['EE_m%u']}", member);
	const json_t *bdev = json_array_get(json_object_get(stats, "bdevs"), 0);
	int64_t n = json_integer_value(json_object_get(bdev, key));

	json_decref(stats);
	return n;
}

static inline int64_t count_all(const char *key)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < MEMBERS; i++)
		sum += count_of(i, key);
	return sum;
}

/* ---- a model of the data ---- */

static uint8_t model[SIZE * BLOCK], back[SIZE * BLOCK];

static inline void model_write(struct rng *rng, uint64_t most)
{
	uint64_t first = rng_below(rng, SIZE), n = 1 + rng_below(rng, min_u64(most, SIZE - first));

	fill_pattern(model + first * BLOCK, n * BLOCK, rng_next(rng));
	assert_int_equal(disk_write(disk, first, n, model + first * BLOCK), 0);
}

static inline void model_zero(struct rng *rng, uint64_t most)
{
	uint64_t first = rng_below(rng, SIZE), n = 1 + rng_below(rng, min_u64(most, SIZE - first));

	memset(model + first * BLOCK, 0, n * BLOCK);
	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, 0, first, n, NULL), 0);
}

static inline void model_check(void)
{
	assert_int_equal(disk_read(disk, 0, SIZE, back), 0);
	for (uint64_t b = 0; b < SIZE; b++) {
		if (memcmp(model + b * BLOCK, back + b * BLOCK, BLOCK) != 0)
			fail_msg("block %llu is not what was written", (unsigned long long)b);
	}
}

static inline void model_check_parts(struct rng *rng)
{
	for (unsigned i = 0; i < 200; i++) {
		uint64_t first = rng_below(rng, SIZE);
		uint64_t n = 1 + rng_below(rng, min_u64(2 * STRIPE, SIZE - first));

		assert_int_equal(disk_read(disk, first, n, back), 0);
		assert_memory_equal(back, model + first * BLOCK, n * BLOCK);
	}
}

/* Byte by byte below: data where the layout has it, parity the sum of the others. */
static inline void expect_layout(void)
{
	static uint8_t members[MEMBERS][(BLOCKS - RESERVED) * BLOCK];

	for (unsigned i = 0; i < MEMBERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "m%u", i);
		struct disk *below = disk_open(name, false);

		assert_int_equal(disk_read(below, RESERVED, BLOCKS - RESERVED, members[i]), 0);
		disk_close(below);
	}
	for (uint64_t at = 0; at < sizeof(members[0]); at++) {
		uint8_t sum = 0;

		for (unsigned i = 0; i < MEMBERS; i++)
			sum ^= members[i][at];
		assert_int_equal(sum, 0);
	}
	for (uint64_t b = 0; b < SIZE; b++) {
		uint64_t stripe = b / STRIPE, strip = b % STRIPE / STRIP;
		uint64_t parity = MEMBERS - 1 - stripe % MEMBERS;
		uint64_t place = stripe * STRIP + b % STRIP;

		assert_memory_equal(&members[strip < parity ? strip : strip + 1][place * BLOCK],
		        &model[b * BLOCK], BLOCK);
	}
}

/* Compares parity with the data to the end; so many blocks of it differ, and are made right. */
static inline void check_parity(bool repair, int64_t different, int64_t repaired)
{
	bool finished = false;

	inproc_ok("bdev_raid_check", "{'name': 'R', 'repair': %s}", repair ? "true" : "false");
	for (unsigned i = 0; i < PATIENCE_MS && !finished; i++) {
		json_t *entry = raid();
		const json_t *check = json_object_get(entry, "check");

		finished =
		        strcmp(json_string_value(json_object_get(check, "state")), "finished") == 0;
		if (finished) {
			assert_int_equal(
			        json_integer_value(json_object_get(check, "different_blocks")),
			        different);
			assert_int_equal(
			        json_integer_value(json_object_get(check, "repaired_blocks")),
			        repaired);
		}
		json_decref(entry);
		usleep(1000);
	}
	assert_true(finished);
}
