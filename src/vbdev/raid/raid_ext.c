/* raid_ext.c: is this an extension block, or a page of the bitmap, and what does it say? */
#include "vbdev/raid/raid_ext.h"

#include <string.h>

#include "base/cursor.h"
#include "math/crc32c.h"

#define EXT_MAGIC "BELLOWSX"
#define MAGIC_BYTES 8
#define EXT_VERSION 1
#define EXT_CRC_OFFSET 12
#define FLAG_BITMAP 1U
#define FLAG_PARITY 2U
#define FLAG_CLEAN 4U
#define FLAG_CONFIRMED 8U
#define FLAG_FRESH 16U
#define PAGE_MAGIC 0x57425842U /* "BXBW" */
#define PAGE_CRC_OFFSET 4

static uint32_t checksum(const uint8_t *bytes, size_t crc_offset)
{
	static const uint8_t no_crc[4];
	uint32_t crc = crc32c_update(UINT32_MAX, bytes, crc_offset);

	crc = crc32c_update(crc, no_crc, sizeof(no_crc));
	return ~crc32c_update(crc, bytes + crc_offset + 4, RAID_EXT_BYTES - crc_offset - 4);
}

/* ---- extension block --------------------------------------------------------------------------
 */

bool raid_ext_parse(const void *bytes, struct raid_ext *out)
{
	struct cursor c = cursor_of(bytes, RAID_EXT_BYTES);
	uint8_t magic[MAGIC_BYTES];
	uint32_t version, crc, flags;

	memset(out, 0, sizeof(*out));
	cursor_copy(&c, magic, sizeof(magic));
	version = cursor_le32(&c);
	crc = cursor_le32(&c);
	if (memcmp(magic, EXT_MAGIC, MAGIC_BYTES) != 0 || version != EXT_VERSION ||
	        crc != checksum(bytes, EXT_CRC_OFFSET))
		return false;
	out->generation = cursor_le64(&c);
	cursor_copy(&c, out->array, sizeof(out->array));
	out->seq = cursor_le64(&c);
	out->since_seq = cursor_le64(&c);
	flags = cursor_le32(&c);
	out->bitmap = flags & FLAG_BITMAP;
	out->parity = flags & FLAG_PARITY;
	out->clean = flags & FLAG_CLEAN;
	out->confirmed = flags & FLAG_CONFIRMED;
	out->region_blocks_shift = cursor_le32(&c);
	out->num_regions = cursor_le64(&c);
	cursor_copy(&c, out->returns, sizeof(out->returns));
	out->checkpoint_slot = cursor_u8(&c);
	cursor_skip(&c, 7);
	out->checkpoint_blocks = cursor_le64(&c);
	cursor_copy(&c, out->checkpoint_uuid, sizeof(out->checkpoint_uuid));
	out->valid_blocks = cursor_le64(&c);
	out->checkpoint_seq = cursor_le64(&c);
	out->fresh_blocks = cursor_le64(&c);
	cursor_copy(&c, out->joined, sizeof(out->joined));
	if (!(flags & FLAG_FRESH))
		out->fresh_blocks = UINT64_MAX;
	return cursor_ok(&c) &&
	       (!out->bitmap || (out->num_regions > 0 && out->region_blocks_shift < 48 &&
	                                out->num_regions <= RAID_PAGES_MAX * RAID_PAGE_REGIONS));
}

void raid_ext_encode(const struct raid_ext *ext, void *bytes)
{
	struct writer w = writer_of(bytes, RAID_EXT_BYTES);

	memset(bytes, 0, RAID_EXT_BYTES);
	writer_copy(&w, EXT_MAGIC, MAGIC_BYTES);
	writer_le32(&w, EXT_VERSION);
	writer_le32(&w, 0);
	writer_le64(&w, ext->generation);
	writer_copy(&w, ext->array, sizeof(ext->array));
	writer_le64(&w, ext->seq);
	writer_le64(&w, ext->since_seq);
	writer_le32(&w, (ext->bitmap ? FLAG_BITMAP : 0) | (ext->parity ? FLAG_PARITY : 0) |
	                        (ext->clean ? FLAG_CLEAN : 0) |
	                        (ext->confirmed ? FLAG_CONFIRMED : 0) |
	                        (ext->fresh_blocks != UINT64_MAX ? FLAG_FRESH : 0));
	writer_le32(&w, ext->region_blocks_shift);
	writer_le64(&w, ext->num_regions);
	writer_copy(&w, ext->returns, sizeof(ext->returns));
	writer_u8(&w, (uint8_t)ext->checkpoint_slot);
	writer_zero(&w, 7);
	writer_le64(&w, ext->checkpoint_blocks);
	writer_copy(&w, ext->checkpoint_uuid, sizeof(ext->checkpoint_uuid));
	writer_le64(&w, ext->valid_blocks);
	writer_le64(&w, ext->checkpoint_seq);
	writer_le64(&w, ext->fresh_blocks);
	writer_copy(&w, ext->joined, sizeof(ext->joined));
	BELLOWS_ASSERT(!w.bad);
	w = writer_of((uint8_t *)bytes + EXT_CRC_OFFSET, 4);
	writer_le32(&w, checksum(bytes, EXT_CRC_OFFSET));
}

/* ---- pages ------------------------------------------------------------------------------------
 */

void raid_page_encode(
        const uuid_t array, uint32_t index, uint64_t generation, const void *bits, void *bytes)
{
	struct writer w = writer_of(bytes, RAID_PAGE_BYTES);

	writer_le32(&w, PAGE_MAGIC);
	writer_le32(&w, 0);
	writer_le32(&w, index);
	writer_zero(&w, 4);
	writer_le64(&w, generation);
	writer_copy(&w, array, RAID_PAGE_HEAD_BYTES - 24);
	writer_copy(&w, bits, RAID_PAGE_REGIONS / 8);
	BELLOWS_ASSERT(!w.bad && w.pos == w.end);
	w = writer_of((uint8_t *)bytes + PAGE_CRC_OFFSET, 4);
	writer_le32(&w, checksum(bytes, PAGE_CRC_OFFSET));
}

bool raid_page_parse(const void *bytes, const uuid_t array, uint32_t index, void *bits)
{
	struct cursor c = cursor_of(bytes, RAID_PAGE_BYTES);
	uint8_t id[RAID_PAGE_HEAD_BYTES - 24], *to = bits;
	uint32_t magic = cursor_le32(&c), crc = cursor_le32(&c), at = cursor_le32(&c);

	cursor_skip(&c, 12);
	cursor_copy(&c, id, sizeof(id));
	if (magic != PAGE_MAGIC || at != index || memcmp(id, array, sizeof(id)) != 0 ||
	        crc != checksum(bytes, PAGE_CRC_OFFSET))
		return false;
	for (unsigned i = 0; i < RAID_PAGE_REGIONS / 8; i++)
		to[i] |= cursor_u8(&c);
	return true;
}
