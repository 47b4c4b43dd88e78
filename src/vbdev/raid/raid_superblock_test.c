/*
 * The superblock's codec: bytes put together here by hand, from the description of the format; each
 * rule of the parser; every single bit flipped; and what is unknown stays as it was.
 */
#include "vbdev/raid/raid_superblock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SLOTS 3
#define LENGTH (256 + 64 * SLOTS)

static uint8_t image[RAID_SB_MAX_BYTES];
static struct raid_sb sb;
static struct err err;
static size_t need;

static void put(size_t at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		image[at + i] = (uint8_t)(value >> (8 * i));
}

/* Bit by bit, from 0, without inversion. */
static void seal(size_t length)
{
	uint32_t crc = 0;

	put(16, 0, 4);
	for (size_t i = 0; i < length; i++) {
		crc ^= image[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78U : 0);
	}
	put(16, crc, 4);
}

/* A raid5f of three members with 512-byte blocks and strips of 16 KiB. */
static void make_image(void)
{
	memset(image, 0, sizeof(image));
	memcpy(image, "SPDKRAID", 8);
	put(8, 1, 2);
	put(12, LENGTH, 4);
	for (unsigned i = 0; i < 16; i++)
		image[24 + i] = (uint8_t)(0x10 + i);
	memcpy(image + 40, "array", 5);
	put(104, 28672, 8);
	put(112, 512, 4);
	put(116, 95, 4);
	put(120, 32, 4);
	put(128, 7, 8);
	put(136, SLOTS, 1);
	put(255, SLOTS, 1);
	for (unsigned i = 0; i < SLOTS; i++) {
		size_t at = 256 + 64 * i;

		memset(image + at, 0xa0 + (int)i, 16);
		put(at + 16, 2048, 8);
		put(at + 24, 14336, 8);
		put(at + 32, i == 1 ? 2 : 1, 4);
		put(at + 40, i, 1);
	}
	seal(LENGTH);
}

static enum raid_sb_found parse(size_t len)
{
	memset(&err, 0, sizeof(err));
	return raid_sb_parse(image, len, &sb, &need, &err);
}

static void test_fields(void **state)
{
	(void)state;
	make_image();
	assert_int_equal(parse(LENGTH), RAID_SB_OK);
	assert_int_equal(sb.uuid[0], 0x10);
	assert_int_equal(sb.uuid[15], 0x1f);
	assert_string_equal(sb.name, "array");
	assert_int_equal(sb.array_blocks, 28672);
	assert_int_equal(sb.block_bytes, 512);
	assert_int_equal(sb.level, 95);
	assert_int_equal(sb.strip_blocks, 32);
	assert_int_equal(sb.seq, 7);
	assert_int_equal(sb.num_slots, SLOTS);
	for (unsigned i = 0; i < SLOTS; i++) {
		assert_int_equal(sb.slots[i].uuid[7], 0xa0 + i);
		assert_int_equal(sb.slots[i].data_offset_blocks, 2048);
		assert_int_equal(sb.slots[i].data_blocks, 14336);
		assert_int_equal(sb.slots[i].state, i == 1 ? RAID_SB_FAILED : RAID_SB_CONFIGURED);
		assert_int_equal(raid_sb_find(&sb, sb.slots[i].uuid), i);
	}
	assert_int_equal(raid_sb_find(&sb, sb.uuid), -1);
	/* Written again it is the same. */
	assert_int_equal(raid_sb_encode(&sb), LENGTH);
	assert_memory_equal(sb.raw, image, LENGTH);
}

static void test_rules(void **state)
{
	(void)state;
	make_image();
	image[0] = 's';
	assert_int_equal(parse(LENGTH), RAID_SB_NONE);
	assert_int_equal(parse(0), RAID_SB_NONE);
	assert_int_equal(parse(7), RAID_SB_NONE);
	/* The length comes before the checksum: more bytes are asked for, within reason. */
	make_image();
	assert_int_equal(parse(256), RAID_SB_MORE);
	assert_int_equal(need, LENGTH);
	put(12, RAID_SB_MAX_BYTES + 1, 4);
	assert_int_equal(parse(256), RAID_SB_DAMAGED);
	put(12, 255, 4);
	assert_int_equal(parse(256), RAID_SB_DAMAGED);
	/* A newer major version, only when it is intact. */
	make_image();
	put(8, 2, 2);
	assert_int_equal(parse(LENGTH), RAID_SB_DAMAGED);
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_TOO_NEW);
	assert_non_null(strstr(err.text, "2.0"));
	/* Slots. */
	make_image();
	put(256 + 40, SLOTS, 1);
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_NOT_SOUND);
	put(256 + 40, 1, 1);
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_NOT_SOUND);
	make_image();
	put(255, SLOTS + 1, 1);
	seal(LENGTH);
	assert_int_equal(parse(sizeof(image)), RAID_SB_NOT_SOUND);
	make_image();
	put(128, RAID_SB_SEQ_MAX, 8);
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_OK);
	put(128, RAID_SB_SEQ_MAX + 1, 8);
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_NOT_SOUND);
	make_image();
	memset(image + 40, 'x', 64);
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_NOT_SOUND);
}

static void test_slots_in_any_order(void **state)
{
	uint8_t first[64];

	(void)state;
	make_image();
	memcpy(first, image + 256, 64);
	memmove(image + 256, image + 320, 128);
	memcpy(image + 384, first, 64);
	image[384 + 50] = 0x77; /* of slot 0, unknown */
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_OK);
	assert_int_equal(sb.slots[0].uuid[0], 0xa0);
	assert_int_equal(sb.slots[2].uuid[0], 0xa2);
	raid_sb_encode(&sb);
	assert_int_equal(sb.raw[256], 0xa0);
	assert_int_equal(sb.raw[256 + 50], 0x77);
	assert_int_equal(sb.raw[256 + 64], 0xa1);
	memcpy(image, sb.raw, LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_OK);
}

static void test_the_unknown_stays(void **state)
{
	(void)state;
	make_image();
	put(10, 5, 2);            /* minor */
	put(20, 0xcafe, 4);       /* flags */
	put(124, 0x1234, 4);      /* state */
	image[200] = 0x99;        /* reserved */
	put(256 + 36, 0xbeef, 4); /* flags of slot 0 */
	image[320 + 60] = 0x55;   /* reserved, slot 1 */
	seal(LENGTH);
	assert_int_equal(parse(LENGTH), RAID_SB_OK);
	assert_int_equal(sb.minor, 5);
	sb.seq++;
	raid_sb_encode(&sb);
	put(128, 8, 8);
	seal(LENGTH);
	assert_memory_equal(sb.raw, image, LENGTH);
}

static void test_every_flipped_bit(void **state)
{
	(void)state;
	make_image();
	for (size_t bit = 0; bit < 8 * LENGTH; bit++) {
		image[bit / 8] ^= (uint8_t)(1U << (bit % 8));
		assert_int_not_equal(parse(LENGTH), RAID_SB_OK);
		image[bit / 8] ^= (uint8_t)(1U << (bit % 8));
	}
}

static void test_new(void **state)
{
	(void)state;
	raid_sb_init(&sb, 255);
	str_copy(sb.name, sizeof(sb.name), "largest");
	sb.level = 1;
	assert_int_equal(raid_sb_encode(&sb), RAID_SB_MAX_BYTES);
	memcpy(image, sb.raw, sizeof(image));
	assert_int_equal(parse(sizeof(image)), RAID_SB_OK);
	assert_int_equal(sb.num_slots, 255);
	assert_string_equal(sb.name, "largest");
	assert_int_equal(sb.slots[254].state, RAID_SB_MISSING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_fields),
	        cmocka_unit_test(test_rules),
	        cmocka_unit_test(test_slots_in_any_order),
	        cmocka_unit_test(test_the_unknown_stays),
	        cmocka_unit_test(test_every_flipped_bit),
	        cmocka_unit_test(test_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
