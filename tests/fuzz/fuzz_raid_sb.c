/*
 * fuzz_raid_sb.c: bytes of a disk against the parser of the array's superblock. What it accepts is
 * the same when it is written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "math/crc32c.h"
#include "vbdev/raid/raid_superblock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *data, size_t size)
{
	static struct raid_sb sb, again;
	struct err err = ERR_NONE;
	size_t need = 0, length;

	switch (raid_sb_parse(data, size, &sb, &need, &err)) {
	case RAID_SB_OK:
		break;
	case RAID_SB_MORE:
		if (need <= size || need > RAID_SB_MAX_BYTES)
			abort();
		return;
	default:
		return;
	}
	length = raid_sb_encode(&sb);
	if (raid_sb_parse(sb.raw, length, &again, &need, &err) != RAID_SB_OK)
		abort();
	if (sb.seq != again.seq || sb.num_slots != again.num_slots ||
	        memcmp(sb.slots, again.slots, sizeof(sb.slots)) != 0)
		abort();
}

/* As it is, and with the checksum that it needs to get further. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t sealed[RAID_SB_MAX_BYTES];
	uint32_t length, crc;

	parse(data, size);
	if (size < RAID_SB_HEADER_BYTES || size > sizeof(sealed))
		return 0;
	memcpy(sealed, data, size);
	memcpy(sealed, RAID_SB_SIGNATURE, 8);
	length = (uint32_t)size;
	memcpy(sealed + 12, &length, sizeof(length));
	memset(sealed + 16, 0, 4);
	crc = crc32c_update(0, sealed, size);
	memcpy(sealed + 16, &crc, sizeof(crc));
	parse(sealed, size);
	return 0;
}
