/*
 * fuzz_raid_ext.c: bytes of a disk against the parsers of what stands behind an array's superblock:
 * the extension block, and a page of the bitmap. What is accepted is the same when it is written
 * and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "math/crc32c.h"
#include "vbdev/raid/raid_ext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *bytes, size_t crc_offset)
{
	uint32_t crc;

	memset(bytes + crc_offset, 0, sizeof(crc));
	crc = crc32c_update(0, bytes, RAID_EXT_BYTES);
	memcpy(bytes + crc_offset, &crc, sizeof(crc));
}

static void parse_ext(const uint8_t *bytes)
{
	static uint8_t again[RAID_EXT_BYTES];
	struct raid_ext ext, ext_again;

	if (!raid_ext_parse(bytes, &ext))
		return;
	if (ext.bitmap &&
	        (ext.num_regions == 0 || ext.num_regions > RAID_PAGES_MAX * RAID_PAGE_REGIONS))
		abort();
	raid_ext_encode(&ext, again);
	if (!raid_ext_parse(again, &ext_again) || memcmp(&ext, &ext_again, sizeof(ext)) != 0)
		abort();
}

static void parse_page(const uint8_t *bytes, const uuid_t array, uint32_t index)
{
	static uint8_t again[RAID_PAGE_BYTES];
	uint8_t bits[RAID_PAGE_REGIONS / 8] = {0}, bits_again[RAID_PAGE_REGIONS / 8] = {0};

	if (!raid_page_parse(bytes, array, index, bits))
		return;
	raid_page_encode(array, index, 1, bits, again);
	if (!raid_page_parse(again, array, index, bits_again) ||
	        memcmp(bits, bits_again, sizeof(bits)) != 0)
		abort();
}

/* As it is, and with the signature and checksum that it needs to get further. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uuid_t array = {0};
	static uint8_t bytes[RAID_EXT_BYTES];

	if (size > sizeof(bytes))
		return 0;
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, data, size);
	parse_ext(bytes);
	parse_page(bytes, array, 0);
	memcpy(bytes, "BELLOWSX\1\0\0", 12);
	seal(bytes, 12);
	parse_ext(bytes);
	memcpy(bytes, "BXBW", 4);
	memset(bytes + 8, 0, 24);
	seal(bytes, 4);
	parse_page(bytes, array, 0);
	return 0;
}
