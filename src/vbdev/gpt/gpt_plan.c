/* gpt_plan.c: from what is on a disk to what must be written. */
#include "vbdev/gpt/gpt_plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ALIGN_BYTES 4096
#define ALIGN_LARGE_BYTES MIB(1)
#define LARGE_PART_BYTES MIB(4)
#define MBR_BOOT_BYTES 446
#define MBR_BYTES 512

static void *new_blocks(uint64_t num_blocks, uint32_t block_bytes)
{
	void *buf = try_alloc_aligned(GPT_BUF_ALIGN, num_blocks * block_bytes);

	BELLOWS_ASSERT(buf);
	return buf;
}

static void copy_free(struct gpt_copy *copy)
{
	if (copy->ok)
		gpt_table_free(&copy->table);
	free(copy->entries);
}

void gpt_found_free(struct gpt_found *found)
{
	copy_free(&found->primary);
	copy_free(&found->backup);
	free(found->start);
	*found = (struct gpt_found){0};
}

void gpt_plan_free(struct gpt_plan *plan)
{
	for (unsigned i = 0; i < plan->count; i++)
		free(plan->writes[i].buf);
	*plan = (struct gpt_plan){0};
}

void gpt_what_is_wrong(const struct gpt_found *found, char *text, size_t size)
{
	uint64_t end = found->disk_blocks - 1, at = found->primary.header.other_lba;

	text[0] = '\0';
	if (!found->primary.ok)
		snprintf(text, size,
		        "the primary partition table is damaged (%s); its backup is used",
		        found->primary.err.text);
	else if (at > end)
		snprintf(text, size,
		        "the backup partition table was at block %llu, which the disk has no "
		        "longer",
		        (unsigned long long)at);
	else if (!found->backup.ok)
		snprintf(text, size, "the backup partition table is damaged (%s)",
		        found->backup.err.text);
	else if (at != end)
		snprintf(text, size,
		        "the backup partition table is no longer at the end of the disk: %llu "
		        "blocks "
		        "behind it are out of reach",
		        (unsigned long long)(end - at));
	else if (!gpt_same(&found->primary.header, &found->backup.header))
		snprintf(text, size,
		        "the backup partition table is not the same as the primary one, which is "
		        "used");
}

/* ---- writes -----------------------------------------------------------------------------------
 */

unsigned gpt_backup_places(const struct gpt_found *found, uint64_t lbas[GPT_BACKUP_PLACES_MAX])
{
	uint64_t end = found->disk_blocks - 1, other = found->primary.header.other_lba;
	unsigned n = 0;

	if (other > GPT_HEADER_LBA && other <= end)
		lbas[n++] = other;
	if (!found->primary.ok && (n == 0 || other != end))
		lbas[n++] = end;
	return n;
}

static void add(struct gpt_plan *plan, uint64_t lba, uint64_t num_blocks, void *buf)
{
	BELLOWS_ASSERT(plan->count < GPT_WRITES_MAX);
	plan->writes[plan->count++] =
	        (struct gpt_write){.lba = lba, .num_blocks = num_blocks, .buf = buf};
}

/* The entries with the header behind them. */
static void add_backup(
        struct gpt_plan *plan, struct gpt_header header, const void *entries, uint32_t block_bytes)
{
	uint64_t blocks = gpt_entries_blocks(&header, block_bytes);
	uint8_t *buf = new_blocks(blocks + 1, block_bytes);
	uint64_t primary_lba = header.my_lba;

	header.my_lba = header.other_lba;
	header.other_lba = primary_lba;
	header.entries_lba = header.my_lba - blocks;
	memcpy(buf, entries, gpt_entries_bytes(&header));
	gpt_put_header(&header, entries, buf + blocks * block_bytes, block_bytes);
	add(plan, header.entries_lba, blocks + 1, buf);
	plan->backup_lba = header.my_lba;
}

static void add_primary(
        struct gpt_plan *plan, struct gpt_header header, const void *entries, uint32_t block_bytes)
{
	uint64_t blocks = gpt_entries_blocks(&header, block_bytes);
	uint8_t *buf = new_blocks(blocks, block_bytes), *head = new_blocks(1, block_bytes);

	memcpy(buf, entries, gpt_entries_bytes(&header));
	add(plan, header.entries_lba, blocks, buf);
	gpt_put_header(&header, entries, head, block_bytes);
	add(plan, header.my_lba, 1, head);
}

static void add_mbr(struct gpt_plan *plan, const struct gpt_found *found)
{
	void *buf = new_blocks(1, found->block_bytes);

	memcpy(buf, found->start, found->block_bytes);
	gpt_put_mbr(buf, found->disk_blocks);
	add(plan, 0, 1, buf);
}

/* ---- grow -------------------------------------------------------------------------------------
 */

/* The primary header for the present size of the disk. */
static int header_at_end(const struct gpt_found *found, struct gpt_header *h, struct err *err)
{
	const struct gpt_table *table = &found->used->table;
	const struct gpt_entry *last = gpt_last_entry(table);
	uint64_t blocks, end = last ? last->last_lba : 0;

	for (unsigned i = 0; i < table->count; i++)
		if (table->entries[i].wrong[0])
			return err_set(err, -EINVAL,
			        "partition %u must be put right first, by a partitioning tool: %s",
			        table->entries[i].number, table->entries[i].wrong);
	*h = found->used->header;
	blocks = gpt_entries_blocks(h, found->block_bytes);
	h->my_lba = GPT_HEADER_LBA;
	h->other_lba = found->disk_blocks - 1;
	h->entries_lba = found->primary.ok ? found->primary.header.entries_lba : GPT_HEADER_LBA + 1;
	if (h->entries_lba + blocks > h->first_usable)
		return err_set(err, -EINVAL,
		        "the primary table needs %llu blocks, and partitions may begin at block "
		        "%llu",
		        (unsigned long long)(GPT_HEADER_LBA + 1 + blocks),
		        (unsigned long long)h->first_usable);
	end = max_u64(end, h->first_usable);
	if (found->disk_blocks < blocks + 2 || found->disk_blocks - blocks - 2 < end)
		return err_set(err, -ENOSPC,
		        "there is no room for the backup table: it needs %llu blocks behind block "
		        "%llu, and the disk has %llu in all",
		        (unsigned long long)(blocks + 1), (unsigned long long)end,
		        (unsigned long long)found->disk_blocks);
	h->last_usable = found->disk_blocks - blocks - 2;
	return 0;
}

static bool is_well(const struct gpt_found *found)
{
	char text[ERR_TEXT_MAX];

	gpt_what_is_wrong(found, text, sizeof(text));
	return !text[0] && !gpt_mbr_is_stale(&found->mbr, found->disk_blocks);
}

int gpt_plan_grow(
        const struct gpt_found *found, bool extend_last, struct gpt_plan *plan, struct err *err)
{
	const struct gpt_entry *last = gpt_last_entry(&found->used->table);
	uint32_t block_bytes = found->block_bytes;
	struct gpt_header header;
	int rc = header_at_end(found, &header, err);

	*plan = (struct gpt_plan){.backup_lba = found->disk_blocks - 1};
	if (rc)
		return rc;
	extend_last = extend_last && last && last->last_lba < header.last_usable;
	if (is_well(found) && !extend_last)
		return 0;
	if (extend_last) {
		plan->extended = last->number;
		plan->extended_last = header.last_usable;
	}
	autofree uint8_t *entries =
	        new_blocks(gpt_entries_blocks(&header, block_bytes), block_bytes);

	memcpy(entries, found->used->entries, gpt_entries_bytes(&header));
	if (extend_last)
		gpt_put_last_lba(&header, entries, last->number, header.last_usable);
	add_backup(plan, header, entries, block_bytes);
	add_primary(plan, header, entries, block_bytes);
	if (gpt_mbr_is_stale(&found->mbr, found->disk_blocks))
		add_mbr(plan, found);
	return 0;
}

/* ---- create, delete ---------------------------------------------------------------------------
 */

/* Where each partition lies. */
static int lay_out(const struct gpt_found *found, const struct gpt_layout *layout,
        const struct gpt_header *header, void *entries, struct err *err)
{
	uint32_t bs = found->block_bytes;
	uint64_t room = header->last_usable - header->first_usable + 1;
	uint64_t wanted = layout->part_bytes ? layout->part_bytes / bs : room / layout->count;
	uint64_t align = (wanted >= LARGE_PART_BYTES / bs ? ALIGN_LARGE_BYTES : ALIGN_BYTES) / bs;
	uint64_t first, len;

	align = max_u64(align, 1);
	first = align_up_u64(header->first_usable, align);
	room = header->last_usable + 1 > first ? header->last_usable + 1 - first : 0;
	len = layout->part_bytes ? align_up_u64(wanted, align)
	                         : room / layout->count / align * align;
	if (len == 0 || len > room / layout->count)
		return err_set(err, -ENOSPC, "there is no room for %u partitions of %llu blocks",
		        layout->count, (unsigned long long)max_u64(len, align));
	for (unsigned i = 0; i < layout->count; i++) {
		struct gpt_entry e = {.number = i + 1, .first_lba = first + i * len};

		e.last_lba = e.first_lba + (layout->part_bytes ? wanted : len) - 1;
		if (!layout->part_bytes && i + 1 == layout->count)
			e.last_lba = header->last_usable;
		uuid_copy(e.type, layout->type);
		uuid_copy(e.guid, layout->part_guids[i]);
		gpt_put_entry(entries, &e);
	}
	return 0;
}

int gpt_plan_create(const struct gpt_found *found, const struct gpt_layout *layout,
        struct gpt_plan *plan, struct err *err)
{
	uint32_t bs = found->block_bytes;
	struct gpt_header header = {.my_lba = GPT_HEADER_LBA,
	        .other_lba = found->disk_blocks - 1,
	        .entries_lba = GPT_HEADER_LBA + 1,
	        .num_entries = GPT_ENTRIES_USUAL,
	        .entry_bytes = GPT_ENTRY_BYTES};
	uint64_t blocks = gpt_entries_blocks(&header, bs);
	int rc;

	*plan = (struct gpt_plan){0};
	header.first_usable = GPT_HEADER_LBA + 1 + blocks;
	header.last_usable = found->disk_blocks - blocks - 2;
	if (found->disk_blocks < 2 * blocks + 4)
		return err_set(err, -ENOSPC,
		        "%llu blocks are too few for a table, which takes %llu",
		        (unsigned long long)found->disk_blocks,
		        (unsigned long long)(2 * blocks + 3));
	uuid_copy(header.disk_guid, layout->disk_guid);
	autofree void *entries = new_blocks(blocks, bs);

	rc = lay_out(found, layout, &header, entries, err);
	if (rc)
		return rc;
	add_backup(plan, header, entries, bs);
	add_primary(plan, header, entries, bs);
	add_mbr(plan, found);
	return 0;
}

void gpt_plan_delete(const struct gpt_found *found, struct gpt_plan *plan)
{
	uint8_t *mbr = new_blocks(1, found->block_bytes);

	*plan = (struct gpt_plan){0};
	memcpy(mbr, found->start, found->block_bytes);
	memset(mbr + MBR_BOOT_BYTES, 0, MBR_BYTES - MBR_BOOT_BYTES);
	add(plan, 0, 1, mbr);
	add(plan, GPT_HEADER_LBA, 1, new_blocks(1, found->block_bytes));
	if (found->backup.ok)
		add(plan, found->backup.header.my_lba, 1, new_blocks(1, found->block_bytes));
}
