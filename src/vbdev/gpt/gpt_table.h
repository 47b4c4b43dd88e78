/*
 * gpt_table.h: a GUID partition table as bytes: reading, judging, writing. Pure.
 *
 * A disk of N blocks has a protective MBR in block 0, the primary header in block 1 with its
 * entries behind it, and the backup entries and header at the end, the header in the last block.
 * Each header has a checksum of itself and one of its entries, and says where the other one is.
 *
 * Everything is little-endian. A GUID on disk has its first three fields turned round; here it is a
 * uuid_t as any other.
 */
#pragma once

#include <uuid/uuid.h>

#include "base/base.h"
#include "base/err.h"

#define GPT_HEADER_LBA 1
#define GPT_HEADER_BYTES 92
#define GPT_ENTRY_BYTES 128
#define GPT_ENTRIES_USUAL 128
#define GPT_ENTRIES_MAX 1024               /* of what we read */
#define GPT_ENTRIES_MAX_BYTES (256 * 1024) /* the same */
#define GPT_NAME_UNITS 36                  /* of UTF-16 */
#define GPT_NAME_MAX (3 * GPT_NAME_UNITS + 1)

struct gpt_header {
	uint64_t my_lba, other_lba;
	uint64_t first_usable, last_usable;
	uuid_t disk_guid;
	uint64_t entries_lba;
	uint32_t num_entries, entry_bytes;
	uint32_t entries_crc;
	uint32_t header_bytes;
};

struct gpt_entry {
	unsigned number; /* from 1: its place in the table */
	uuid_t type, guid;
	uint64_t first_lba, last_lba;
	uint64_t attributes;
	char name[GPT_NAME_MAX]; /* UTF-8 */
	/* Why nobody should use it: it overlaps another, or lies where none may; "" for none. */
	char wrong[160];
};

struct gpt_mbr {
	uint32_t size_blocks; /* behind the MBR, as it says; UINT32_MAX: all there are */
	bool hybrid;          /* there are other entries beside the protective one */
};

struct gpt_table {
	struct gpt_header header; /* of the copy that is used */
	unsigned count;
	struct gpt_entry *entries; /* those in use, in order of number */
};

/* Of the entries, in bytes and in blocks of that size. */
static inline uint64_t gpt_entries_bytes(const struct gpt_header *header)
{
	return (uint64_t)header->num_entries * header->entry_bytes;
}
static inline uint64_t gpt_entries_blocks(const struct gpt_header *header, uint32_t block_bytes)
{
	return div_round_up_u64(gpt_entries_bytes(header), block_bytes);
}

/* 0: a protective MBR. -ENOENT: none. */
int gpt_read_mbr(const void *block, size_t len, struct gpt_mbr *out, struct err *err) must_check;
/* Whether the block has an MBR of any kind, and so is not free for a table. */
bool gpt_is_mbr(const void *block, size_t len);
/* Whether it should be written again on a disk of that many blocks. */
bool gpt_mbr_is_stale(const struct gpt_mbr *mbr, uint64_t disk_blocks);

/*
 * A header that stands in block `lba` of a disk of that many blocks. -ENOENT: that is no header;
 * -EINVAL: one that can't be believed. What it says of places is checked against the disk.
 */
int gpt_read_header(const void *block, size_t len, uint64_t lba, uint64_t disk_blocks,
        struct gpt_header *out, struct err *err) must_check;

/*
 * The entries of a header that was read with success; len bytes are there, at least
 * gpt_entries_bytes. -EINVAL: the checksum is wrong. Entries that can't be used have `wrong` set.
 * gpt_table_free afterwards.
 */
int gpt_read_entries(const struct gpt_header *header, const void *bytes, size_t len,
        uint64_t disk_blocks, struct gpt_table *out, struct err *err) must_check;
void gpt_table_free(struct gpt_table *table);

/* The entry with the highest last_lba; NULL: none. */
struct gpt_entry *gpt_last_entry(const struct gpt_table *table);

/* Whether two copies say the same but for where they are. */
bool gpt_same(const struct gpt_header *a, const struct gpt_header *b);

/* ---- writing ---- */

/* Sets the last_lba of the entry of that number in the entries. */
void gpt_put_last_lba(
        const struct gpt_header *header, void *entries, unsigned number, uint64_t last_lba);
/* A new entry. name is ASCII. */
void gpt_put_entry(void *entries, const struct gpt_entry *entry);
/* Writes the header into block, which is zeroed behind it, with entries_crc taken from the entries.
 */
void gpt_put_header(
        struct gpt_header *header, const void *entries, void *block, uint32_t block_bytes);
/* Writes the protective entry into what is in block 0 so far, of which boot code is kept. */
void gpt_put_mbr(void *block, uint64_t disk_blocks);
