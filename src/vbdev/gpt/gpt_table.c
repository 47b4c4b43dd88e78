/* gpt_table.c: the bytes of a GUID partition table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "math/crc32.h"
#include "vbdev/gpt/gpt_table.h"

#define SIGNATURE "EFI PART"
#define REVISION_MAJOR 1
#define CRC_OFFSET 16

#define MBR_BYTES 512
#define MBR_ENTRIES 4
#define MBR_ENTRIES_OFFSET 446
#define MBR_ENTRY_BYTES 16
#define MBR_TYPE_PROTECTIVE 0xee
#define MBR_SIGNATURE 0xaa55

#define ENTRY_LAST_LBA_OFFSET 40

/* ---- the protective MBR -----------------------------------------------------------------------
 */

bool gpt_is_mbr(const void *block, size_t len)
{
	struct cursor c = cursor_of(block, len);

	cursor_skip(&c, MBR_BYTES - 2);
	return cursor_le16(&c) == MBR_SIGNATURE && cursor_ok(&c);
}

int gpt_read_mbr(const void *block, size_t len, struct gpt_mbr *out, struct err *err)
{
	struct cursor c = cursor_of(block, len);
	bool found = false;

	*out = (struct gpt_mbr){0};
	cursor_skip(&c, MBR_ENTRIES_OFFSET);
	for (unsigned i = 0; i < MBR_ENTRIES; i++) {
		uint8_t type;
		uint32_t start, size;

		cursor_skip(&c, 4);
		type = cursor_u8(&c);
		cursor_skip(&c, 3);
		start = cursor_le32(&c);
		size = cursor_le32(&c);
		if (type == MBR_TYPE_PROTECTIVE && start == GPT_HEADER_LBA && !found) {
			found = true;
			out->size_blocks = size;
		} else if (type) {
			out->hybrid = true;
		}
	}
	if (!found || !gpt_is_mbr(block, len))
		return err_set(err, -ENOENT, "there is no protective MBR");
	return 0;
}

bool gpt_mbr_is_stale(const struct gpt_mbr *mbr, uint64_t disk_blocks)
{
	return !mbr->hybrid && mbr->size_blocks != UINT32_MAX &&
	       mbr->size_blocks != min_u64(disk_blocks - 1, UINT32_MAX);
}

/* ---- headers ----------------------------------------------------------------------------------
 */

static void read_guid(struct cursor *c, uuid_t out)
{
	struct writer w = writer_of(out, sizeof(uuid_t));

	writer_be32(&w, cursor_le32(c));
	writer_be16(&w, cursor_le16(c));
	writer_be16(&w, cursor_le16(c));
	cursor_copy(c, out + 8, 8);
}

static void put_guid(struct writer *w, const uuid_t guid)
{
	struct cursor c = cursor_of(guid, sizeof(uuid_t));

	writer_le32(w, cursor_be32(&c));
	writer_le16(w, cursor_be16(&c));
	writer_le16(w, cursor_be16(&c));
	writer_copy(w, guid + 8, 8);
}

static uint32_t header_crc(const uint8_t *block, uint32_t header_bytes)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32_update(0, block, CRC_OFFSET);

	crc = crc32_update(crc, zero, sizeof(zero));
	return crc32_update(crc, block + CRC_OFFSET + 4, header_bytes - CRC_OFFSET - 4);
}

/* What it says of sizes. */
static int check_sizes(const struct gpt_header *h, struct err *err)
{
	if (h->entry_bytes < GPT_ENTRY_BYTES || !is_power_of_two(h->entry_bytes) ||
	        h->entry_bytes > GPT_ENTRIES_MAX_BYTES)
		return err_set(err, -EINVAL,
		        "its entries of %u bytes are not of a size that is "
		        "allowed",
		        h->entry_bytes);
	if (h->num_entries == 0 || h->num_entries > GPT_ENTRIES_MAX ||
	        gpt_entries_bytes(h) > GPT_ENTRIES_MAX_BYTES)
		return err_set(err, -EINVAL,
		        "it has %u entries of %u bytes, and at most %u, in %u "
		        "bytes, are read",
		        h->num_entries, h->entry_bytes, GPT_ENTRIES_MAX, GPT_ENTRIES_MAX_BYTES);
	return 0;
}

/*
 * What it says of places. The disk may have become shorter or longer since; what must hold is that
 * table and usable blocks don't overlap, and that the entries can be read.
 */
static int check_places(
        const struct gpt_header *h, uint64_t disk_blocks, uint32_t block_bytes, struct err *err)
{
	uint64_t len = gpt_entries_blocks(h, block_bytes);

	if (h->first_usable > h->last_usable || h->first_usable <= GPT_HEADER_LBA ||
	        h->last_usable > INT64_MAX)
		return err_set(err, -EINVAL, "its usable blocks are %llu to %llu",
		        (unsigned long long)h->first_usable, (unsigned long long)h->last_usable);
	if (h->entries_lba <= GPT_HEADER_LBA || h->entries_lba > disk_blocks ||
	        len > disk_blocks - h->entries_lba)
		return err_set(err, -EINVAL, "its entries at block %llu are not on the disk",
		        (unsigned long long)h->entries_lba);
	if ((h->entries_lba <= h->last_usable && h->entries_lba + len > h->first_usable) ||
	        (h->my_lba >= h->first_usable && h->my_lba <= h->last_usable) ||
	        (h->my_lba >= h->entries_lba && h->my_lba < h->entries_lba + len))
		return err_set(err, -EINVAL, "header, entries and usable blocks overlap");
	return 0;
}

int gpt_read_header(const void *block, size_t len, uint64_t lba, uint64_t disk_blocks,
        struct gpt_header *out, struct err *err)
{
	struct cursor c = cursor_of(block, len);
	const uint8_t *signature = cursor_bytes(&c, 8);
	uint32_t revision, crc;
	int rc;

	*out = (struct gpt_header){0};
	if (!signature || memcmp(signature, SIGNATURE, 8) != 0)
		return err_set(err, -ENOENT, "there is no header");
	revision = cursor_le32(&c);
	out->header_bytes = cursor_le32(&c);
	crc = cursor_le32(&c);
	cursor_skip(&c, 4);
	out->my_lba = cursor_le64(&c);
	out->other_lba = cursor_le64(&c);
	out->first_usable = cursor_le64(&c);
	out->last_usable = cursor_le64(&c);
	read_guid(&c, out->disk_guid);
	out->entries_lba = cursor_le64(&c);
	out->num_entries = cursor_le32(&c);
	out->entry_bytes = cursor_le32(&c);
	out->entries_crc = cursor_le32(&c);
	if (!cursor_ok(&c) || out->header_bytes < GPT_HEADER_BYTES || out->header_bytes > len)
		return err_set(err, -EINVAL, "its length of %u bytes is wrong", out->header_bytes);
	if (crc != header_crc(block, out->header_bytes))
		return err_set(err, -EINVAL, "its checksum is wrong");
	if (revision >> 16 != REVISION_MAJOR)
		return err_set(err, -EINVAL, "its revision %u.%u is not known", revision >> 16,
		        revision & 0xffff);
	if (out->my_lba != lba)
		return err_set(
		        err, -EINVAL, "it belongs in block %llu", (unsigned long long)out->my_lba);
	rc = check_sizes(out, err);
	return rc ? rc : check_places(out, disk_blocks, (uint32_t)len, err);
}

/* ---- entries ----------------------------------------------------------------------------------
 */

static size_t put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Two units make at most four bytes, one at most three. What is no text becomes U+FFFD. */
static void read_name(struct cursor *c, char *out)
{
	uint16_t units[GPT_NAME_UNITS];
	size_t n = 0;

	for (unsigned i = 0; i < GPT_NAME_UNITS; i++)
		units[i] = cursor_le16(c);
	for (unsigned i = 0; i < GPT_NAME_UNITS && units[i]; i++) {
		uint32_t u = units[i];
		bool pair = u >= 0xd800 && u < 0xdc00 && i + 1 < GPT_NAME_UNITS &&
		            units[i + 1] >= 0xdc00 && units[i + 1] < 0xe000;

		if (pair)
			u = 0x10000 + ((u - 0xd800) << 10) + (units[++i] - 0xdc00U);
		else if (u >= 0xd800 && u < 0xe000)
			u = 0xfffd;
		n += put_utf8(out + n, u);
	}
	out[n] = '\0';
}

static void judge_place(struct gpt_entry *e, const struct gpt_header *h, uint64_t disk_blocks)
{
	if (e->first_lba > e->last_lba)
		snprintf(e->wrong, sizeof(e->wrong), "it ends before it begins");
	else if (e->first_lba < h->first_usable || e->last_lba > h->last_usable)
		snprintf(e->wrong, sizeof(e->wrong),
		        "it is blocks %llu to %llu, outside of the usable ones, %llu to %llu",
		        (unsigned long long)e->first_lba, (unsigned long long)e->last_lba,
		        (unsigned long long)h->first_usable, (unsigned long long)h->last_usable);
	else if (e->last_lba >= disk_blocks)
		snprintf(e->wrong, sizeof(e->wrong),
		        "it is blocks %llu to %llu, and the disk has only %llu",
		        (unsigned long long)e->first_lba, (unsigned long long)e->last_lba,
		        (unsigned long long)disk_blocks);
}

static void judge_pair(struct gpt_entry *a, struct gpt_entry *b)
{
	if (a->first_lba > b->last_lba || b->first_lba > a->last_lba)
		return;
	if (!a->wrong[0])
		snprintf(a->wrong, sizeof(a->wrong), "it overlaps partition %u", b->number);
	if (!b->wrong[0])
		snprintf(b->wrong, sizeof(b->wrong), "it overlaps partition %u", a->number);
}

static void read_entry(const uint8_t *bytes, unsigned number, struct gpt_entry *e)
{
	struct cursor c = cursor_of(bytes, GPT_ENTRY_BYTES);

	e->number = number;
	read_guid(&c, e->type);
	read_guid(&c, e->guid);
	e->first_lba = cursor_le64(&c);
	e->last_lba = cursor_le64(&c);
	e->attributes = cursor_le64(&c);
	read_name(&c, e->name);
}

int gpt_read_entries(const struct gpt_header *header, const void *bytes, size_t len,
        uint64_t disk_blocks, struct gpt_table *out, struct err *err)
{
	struct cursor c = cursor_of(bytes, len);
	const uint8_t *all = cursor_bytes(&c, gpt_entries_bytes(header));

	*out = (struct gpt_table){.header = *header};
	if (!all)
		return err_set(err, -EINVAL, "its entries are cut off");
	if (crc32_update(0, all, gpt_entries_bytes(header)) != header->entries_crc)
		return err_set(err, -EINVAL, "the checksum of its entries is wrong");
	out->entries = xcalloc(header->num_entries, sizeof(*out->entries));
	for (unsigned i = 0; i < header->num_entries; i++) {
		struct gpt_entry *e = &out->entries[out->count];

		read_entry(all + (size_t)i * header->entry_bytes, i + 1, e);
		if (uuid_is_null(e->type)) {
			*e = (struct gpt_entry){0};
			continue;
		}
		judge_place(e, header, disk_blocks);
		out->count++;
	}
	for (unsigned i = 0; i < out->count; i++)
		for (unsigned k = i + 1; k < out->count; k++)
			judge_pair(&out->entries[i], &out->entries[k]);
	return 0;
}

void gpt_table_free(struct gpt_table *table)
{
	free(table->entries);
	*table = (struct gpt_table){0};
}

struct gpt_entry *gpt_last_entry(const struct gpt_table *table)
{
	struct gpt_entry *last = NULL;

	for (unsigned i = 0; i < table->count; i++)
		if (!last || table->entries[i].last_lba > last->last_lba)
			last = &table->entries[i];
	return last;
}

bool gpt_same(const struct gpt_header *a, const struct gpt_header *b)
{
	return a->first_usable == b->first_usable && a->last_usable == b->last_usable &&
	       uuid_compare(a->disk_guid, b->disk_guid) == 0 && a->num_entries == b->num_entries &&
	       a->entry_bytes == b->entry_bytes && a->entries_crc == b->entries_crc;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

void gpt_put_last_lba(
        const struct gpt_header *header, void *entries, unsigned number, uint64_t last_lba)
{
	uint8_t *entry = (uint8_t *)entries + (size_t)(number - 1) * header->entry_bytes;
	struct writer w = writer_of(entry + ENTRY_LAST_LBA_OFFSET, sizeof(last_lba));

	BELLOWS_ASSERT(number >= 1 && number <= header->num_entries);
	writer_le64(&w, last_lba);
}

void gpt_put_entry(void *entries, const struct gpt_entry *entry)
{
	struct writer w =
	        writer_of((uint8_t *)entries + (size_t)(entry->number - 1) * GPT_ENTRY_BYTES,
	                GPT_ENTRY_BYTES);
	size_t len = strnlen(entry->name, GPT_NAME_UNITS);

	put_guid(&w, entry->type);
	put_guid(&w, entry->guid);
	writer_le64(&w, entry->first_lba);
	writer_le64(&w, entry->last_lba);
	writer_le64(&w, entry->attributes);
	for (size_t i = 0; i < GPT_NAME_UNITS; i++)
		writer_le16(&w, i < len ? (uint8_t)entry->name[i] : 0);
	BELLOWS_ASSERT(!w.bad);
}

void gpt_put_header(
        struct gpt_header *header, const void *entries, void *block, uint32_t block_bytes)
{
	struct writer w = writer_of(block, block_bytes);
	uint8_t *crc_at = (uint8_t *)block + CRC_OFFSET;

	header->header_bytes = GPT_HEADER_BYTES;
	header->entries_crc = crc32_update(0, entries, gpt_entries_bytes(header));
	memset(block, 0, block_bytes);
	writer_copy(&w, SIGNATURE, 8);
	writer_le32(&w, REVISION_MAJOR << 16);
	writer_le32(&w, header->header_bytes);
	writer_le32(&w, 0);
	writer_le32(&w, 0);
	writer_le64(&w, header->my_lba);
	writer_le64(&w, header->other_lba);
	writer_le64(&w, header->first_usable);
	writer_le64(&w, header->last_usable);
	put_guid(&w, header->disk_guid);
	writer_le64(&w, header->entries_lba);
	writer_le32(&w, header->num_entries);
	writer_le32(&w, header->entry_bytes);
	writer_le32(&w, header->entries_crc);
	BELLOWS_ASSERT(!w.bad);
	w = writer_of(crc_at, 4);
	writer_le32(&w, header_crc(block, header->header_bytes));
}

void gpt_put_mbr(void *block, uint64_t disk_blocks)
{
	/* CHS of the first block behind the MBR, and of "beyond what CHS can say" */
	static const uint8_t first[] = {0x00, 0x00, 0x02, 0x00}, last[] = {0xff, 0xff, 0xff};
	struct writer w =
	        writer_of((uint8_t *)block + MBR_ENTRIES_OFFSET, MBR_ENTRIES * MBR_ENTRY_BYTES + 2);

	writer_copy(&w, first, sizeof(first));
	writer_u8(&w, MBR_TYPE_PROTECTIVE);
	writer_copy(&w, last, sizeof(last));
	writer_le32(&w, GPT_HEADER_LBA);
	writer_le32(&w, (uint32_t)min_u64(disk_blocks - 1, UINT32_MAX));
	writer_zero(&w, (MBR_ENTRIES - 1) * MBR_ENTRY_BYTES);
	writer_le16(&w, MBR_SIGNATURE);
	BELLOWS_ASSERT(!w.bad);
}
