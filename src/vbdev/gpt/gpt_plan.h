/*
 * gpt_plan.h: what a disk's partition table is, all copies of it, and what to write to change it.
 * Pure.
 *
 * A change is a list of writes, each flushed before the next. The backup comes first: whichever
 * write is cut off, one copy is whole, the old one or the new one.
 */
#pragma once

#include "vbdev/gpt/gpt_table.h"

#define GPT_BUF_ALIGN 4096
#define GPT_DISK_BLOCKS_MIN 8

struct gpt_copy {
	bool ok;
	struct gpt_header header; /* zeroed when it can't be believed */
	struct gpt_table table;   /* with ok */
	void *entries;            /* with ok: as they are on disk, whole blocks */
	struct err err;           /* why it is not ok */
};

struct gpt_found {
	uint64_t disk_blocks;
	uint32_t block_bytes;
	uint8_t *start; /* block 0 */
	struct gpt_mbr mbr;
	struct gpt_copy primary, backup;
	const struct gpt_copy *used; /* NULL: there is no table */
};

void gpt_found_free(struct gpt_found *found);
/* What is to be done about the table: a sentence, or "" when all is well. */
void gpt_what_is_wrong(const struct gpt_found *found, char *text, size_t size);

/*
 * Where the backup may be, in order; the number of places. A primary header that can be believed
 * says it, also when its entries can't: what a cut off change has put at the end of the disk would
 * be found only until the disk grows. Else it is at the end.
 */
#define GPT_BACKUP_PLACES_MAX 2
unsigned gpt_backup_places(const struct gpt_found *found, uint64_t lbas[GPT_BACKUP_PLACES_MAX]);

#define GPT_WRITES_MAX 4

struct gpt_write {
	uint64_t lba, num_blocks;
	void *buf;
};

struct gpt_plan {
	unsigned count; /* 0: all is as it should be */
	struct gpt_write writes[GPT_WRITES_MAX];
	uint64_t backup_lba;
	unsigned extended;      /* number of the partition that has grown; 0: none */
	uint64_t extended_last; /* its new last_lba */
};

void gpt_plan_free(struct gpt_plan *plan);

/*
 * Moves the backup to the end of the disk, writes again what is damaged, and with extend_last lets
 * the last partition reach as far as it may. -ENOSPC: there is no room for the backup; -EINVAL:
 * the table has entries that must be put right first.
 */
int gpt_plan_grow(const struct gpt_found *found, bool extend_last, struct gpt_plan *plan,
        struct err *err) must_check;

struct gpt_layout {
	unsigned count;
	uint64_t part_bytes; /* 0: equal parts, of which the last takes the rest */
	uuid_t type;
	uuid_t disk_guid, part_guids[GPT_ENTRIES_USUAL];
};
/* A new table on a disk that has none. -ENOSPC. */
int gpt_plan_create(const struct gpt_found *found, const struct gpt_layout *layout,
        struct gpt_plan *plan, struct err *err) must_check;
/* Takes all copies away; the MBR first, without which there is no table. */
void gpt_plan_delete(const struct gpt_found *found, struct gpt_plan *plan);
