#include "vbdev/raid/raid_extension.h"

#include <string.h>

#include "base/cursor.h"
#include "math/crc32c.h"

static const char magic[8] = {'B', 'E', 'L', 'L', 'O', 'W', 'S', 'X'};

#define VERSION 1U
#define AT_VERSION 8
#define AT_CRC 12
#define AT_GENERATION 16
#define AT_UUID 24
#define AT_SEQ 40
#define AT_STATE 48
#define AT_VALID 56

static void put32(uint8_t *at, uint32_t value)
{
	value = host_le32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	value = host_le64(value);
	memcpy(at, &value, sizeof(value));
}

static uint32_t crc_of(const uint8_t *bytes)
{
	uint8_t copy[RAID_EXT_BYTES];

	memcpy(copy, bytes, sizeof(copy));
	put32(copy + AT_CRC, 0);
	return crc32c(copy, sizeof(copy));
}

void raid_ext_encode(const struct raid_ext *ext, uint8_t *bytes)
{
	memset(bytes, 0, RAID_EXT_BYTES);
	memcpy(bytes, magic, sizeof(magic));
	put32(bytes + AT_VERSION, VERSION);
	put64(bytes + AT_GENERATION, ext->generation);
	memcpy(bytes + AT_UUID, ext->uuid, sizeof(ext->uuid));
	put64(bytes + AT_SEQ, ext->seq);
	put32(bytes + AT_STATE, ext->state);
	put64(bytes + AT_VALID, ext->valid_blocks);
	put32(bytes + AT_CRC, crc_of(bytes));
}

bool raid_ext_parse(const uint8_t *bytes, struct raid_ext *out)
{
	struct cursor c = cursor_of(bytes, RAID_EXT_BYTES);
	uint32_t version, crc, state;
	char signature[sizeof(magic)];

	cursor_copy(&c, signature, sizeof(signature));
	version = cursor_le32(&c);
	crc = cursor_le32(&c);
	out->generation = cursor_le64(&c);
	cursor_copy(&c, out->uuid, sizeof(out->uuid));
	out->seq = cursor_le64(&c);
	state = cursor_le32(&c);
	cursor_skip(&c, AT_VALID - AT_STATE - sizeof(state));
	out->valid_blocks = cursor_le64(&c);
	if (memcmp(signature, magic, sizeof(magic)) != 0 || version != VERSION ||
	        crc != crc_of(bytes) || (state != RAID_EXT_CLEAN && state != RAID_EXT_RUNNING))
		return false;
	out->state = (enum raid_ext_state)state;
	return cursor_ok(&c);
}

bool raid_ext_newer(const uint8_t *bytes, struct raid_ext *out)
{
	struct raid_ext second;
	bool one = raid_ext_parse(bytes, out);
	bool two = raid_ext_parse(bytes + RAID_EXT_SLOT_STEP_BYTES, &second);

	if (two && (!one || second.generation > out->generation))
		*out = second;
	return one || two;
}
