/*
 * raid_superblock.c: is this a superblock, and what does it say?
 */
#include "vbdev/raid/raid_superblock.h"

#include <errno.h>
#include <string.h>

#include "base/cursor.h"
#include "math/crc32c.h"

#define SIGNATURE_BYTES 8
#define LENGTH_OFFSET 12
#define CRC_OFFSET 16
#define AFTER_CRC (CRC_OFFSET + 4)
#define FLAGS_BYTES 4
#define STATE_BYTES 4
#define HEADER_RESERVED_BYTES 118
#define SLOT_RESERVED_BYTES 23

static uint32_t checksum(const uint8_t *bytes, size_t length)
{
	static const uint8_t no_crc[4];
	uint32_t crc = crc32c_update(0, bytes, CRC_OFFSET);

	crc = crc32c_update(crc, no_crc, sizeof(no_crc));
	return crc32c_update(crc, bytes + AFTER_CRC, length - AFTER_CRC);
}

static void parse_header(struct cursor *c, struct raid_sb *sb, unsigned *entries)
{
	cursor_skip(c, FLAGS_BYTES);
	cursor_copy(c, sb->uuid, sizeof(sb->uuid));
	cursor_copy(c, sb->name, sizeof(sb->name));
	sb->array_blocks = cursor_le64(c);
	sb->block_bytes = cursor_le32(c);
	sb->level = cursor_le32(c);
	sb->strip_blocks = cursor_le32(c);
	cursor_skip(c, STATE_BYTES);
	sb->seq = cursor_le64(c);
	sb->num_slots = cursor_u8(c);
	cursor_skip(c, HEADER_RESERVED_BYTES);
	*entries = cursor_u8(c);
}

/* Entries may stand in any order. */
static enum raid_sb_found parse_slots(
        struct cursor *c, struct raid_sb *sb, unsigned entries, struct err *err)
{
	bool seen[RAID_SB_SLOTS_MAX + 1] = {false};

	for (unsigned i = 0; i < entries; i++) {
		struct raid_sb_slot slot;
		unsigned index;

		cursor_copy(c, slot.uuid, sizeof(slot.uuid));
		slot.data_offset_blocks = cursor_le64(c);
		slot.data_blocks = cursor_le64(c);
		slot.state = cursor_le32(c);
		cursor_skip(c, FLAGS_BYTES);
		index = cursor_u8(c);
		cursor_skip(c, SLOT_RESERVED_BYTES);
		if (!cursor_ok(c)) {
			err_set(err, -EINVAL, "%u slots do not fit in its %u bytes", entries,
			        sb->length);
			return RAID_SB_NOT_SOUND;
		}
		if (index >= sb->num_slots || seen[index]) {
			err_set(err, -EINVAL, "slot %u stands %s", index,
			        index >= sb->num_slots ? "beyond the last" : "twice");
			return RAID_SB_NOT_SOUND;
		}
		seen[index] = true;
		sb->slots[index] = slot;
	}
	return RAID_SB_OK;
}

enum raid_sb_found raid_sb_parse(
        const void *bytes, size_t len, struct raid_sb *out, size_t *need, struct err *err)
{
	struct cursor c = cursor_of(bytes, len);
	uint8_t signature[SIGNATURE_BYTES];
	uint16_t major;
	uint32_t crc;
	unsigned entries;

	memset(out, 0, sizeof(*out));
	cursor_copy(&c, signature, sizeof(signature));
	if (!cursor_ok(&c) || memcmp(signature, RAID_SB_SIGNATURE, SIGNATURE_BYTES) != 0)
		return RAID_SB_NONE;
	major = cursor_le16(&c);
	out->minor = cursor_le16(&c);
	out->length = cursor_le32(&c);
	crc = cursor_le32(&c);
	if (!cursor_ok(&c) || out->length < RAID_SB_HEADER_BYTES ||
	        out->length > RAID_SB_MAX_BYTES) {
		err_set(err, -EINVAL, "a length of %u bytes", out->length);
		return RAID_SB_DAMAGED;
	}
	if (out->length > len) {
		*need = out->length;
		return RAID_SB_MORE;
	}
	if (checksum(bytes, out->length) != crc) {
		err_set(err, -EINVAL, "its checksum is wrong");
		return RAID_SB_DAMAGED;
	}
	if (major != RAID_SB_MAJOR) {
		err_set(err, -EINVAL, "it has version %u.%u, and this program knows %u", major,
		        out->minor, RAID_SB_MAJOR);
		return RAID_SB_TOO_NEW;
	}
	memcpy(out->raw, bytes, out->length);
	c.end = (const uint8_t *)bytes + out->length;
	parse_header(&c, out, &entries);
	if (memchr(out->name, 0, sizeof(out->name)) == NULL || out->num_slots == 0) {
		err_set(err, -EINVAL, "it has no name, or no members");
		return RAID_SB_NOT_SOUND;
	}
	if (out->seq > RAID_SB_SEQ_MAX) {
		err_set(err, -EINVAL, "its sequence number %llu can't have been reached",
		        (unsigned long long)out->seq);
		return RAID_SB_NOT_SOUND;
	}
	return parse_slots(&c, out, entries, err);
}

void raid_sb_init(struct raid_sb *sb, unsigned num_slots)
{
	BELLOWS_ASSERT(num_slots >= 1 && num_slots <= RAID_SB_SLOTS_MAX);
	memset(sb, 0, sizeof(*sb));
	sb->num_slots = num_slots;
	sb->length = RAID_SB_HEADER_BYTES + num_slots * RAID_SB_SLOT_BYTES;
	memcpy(sb->raw, RAID_SB_SIGNATURE, SIGNATURE_BYTES);
	sb->raw[SIGNATURE_BYTES] = RAID_SB_MAJOR;
}

static void keep(struct writer *w, size_t len)
{
	if (w->bad || len > (size_t)(w->end - w->pos))
		w->bad = true;
	else
		w->pos += len;
}

static void encode_slots(struct raid_sb *sb, struct writer *w)
{
	for (unsigned i = 0; i < sb->num_slots; i++) {
		const struct raid_sb_slot *slot = &sb->slots[i];

		writer_copy(w, slot->uuid, sizeof(slot->uuid));
		writer_le64(w, slot->data_offset_blocks);
		writer_le64(w, slot->data_blocks);
		writer_le32(w, slot->state);
		keep(w, FLAGS_BYTES);
		writer_u8(w, (uint8_t)i);
		keep(w, SLOT_RESERVED_BYTES);
	}
}

/* Slots are written in their order; if they were read in another, their unknown bytes move too. */
static void put_slots_in_order(struct raid_sb *sb)
{
	uint8_t sorted[RAID_SB_MAX_BYTES - RAID_SB_HEADER_BYTES] = {0};
	uint8_t *slots = sb->raw + RAID_SB_HEADER_BYTES;
	unsigned entries = sb->raw[RAID_SB_HEADER_BYTES - 1];

	for (unsigned i = 0; i < entries; i++) {
		const uint8_t *from = slots + i * RAID_SB_SLOT_BYTES;

		memcpy(sorted + from[40] * (size_t)RAID_SB_SLOT_BYTES, from, RAID_SB_SLOT_BYTES);
	}
	memcpy(slots, sorted, sb->num_slots * (size_t)RAID_SB_SLOT_BYTES);
}

size_t raid_sb_encode(struct raid_sb *sb)
{
	struct writer w = writer_of(sb->raw, sizeof(sb->raw));

	put_slots_in_order(sb);
	sb->length = RAID_SB_HEADER_BYTES + sb->num_slots * RAID_SB_SLOT_BYTES;
	keep(&w, LENGTH_OFFSET);
	writer_le32(&w, sb->length);
	writer_le32(&w, 0);
	keep(&w, FLAGS_BYTES);
	writer_copy(&w, sb->uuid, sizeof(sb->uuid));
	writer_copy(&w, sb->name, sizeof(sb->name));
	writer_le64(&w, sb->array_blocks);
	writer_le32(&w, sb->block_bytes);
	writer_le32(&w, sb->level);
	writer_le32(&w, sb->strip_blocks);
	keep(&w, STATE_BYTES);
	writer_le64(&w, sb->seq);
	writer_u8(&w, (uint8_t)sb->num_slots);
	keep(&w, HEADER_RESERVED_BYTES);
	writer_u8(&w, (uint8_t)sb->num_slots);
	encode_slots(sb, &w);
	BELLOWS_ASSERT(!w.bad && w.pos == sb->raw + sb->length);
	w = writer_of(sb->raw + CRC_OFFSET, sizeof(uint32_t));
	writer_le32(&w, checksum(sb->raw, sb->length));
	return sb->length;
}

int raid_sb_find(const struct raid_sb *sb, const uuid_t uuid)
{
	for (unsigned i = 0; i < sb->num_slots; i++) {
		if (uuid_compare(sb->slots[i].uuid, uuid) == 0)
			return (int)i;
	}
	return -1;
}
