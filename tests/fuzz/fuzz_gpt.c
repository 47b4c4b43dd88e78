/*
 * fuzz_gpt.c: any bytes as the partition table of a disk. What is believed must be harmless:
 * partitions that are shown lie on the disk and apart from each other, and a change that is planned
 * writes to none of them, and leaves a table that is well.
 *
 * Input: one byte of flags, two of the number of blocks, then what stands in block 0 (80 bytes, at
 * its end), in the headers (96 each) and in the entries. With a flag the checksums are made right,
 * so that what lies behind them is met.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "math/crc32.h"
#include "vbdev/gpt/gpt_plan.h"

#define BLOCKS_MAX(bs) ((bs) == 512 ? 2500 : 300)
#define HEAD_BYTES 96

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct image {
	uint64_t blocks;
	uint32_t bs;
	uint8_t *bytes;
};

static uint8_t *at(const struct image *image, uint64_t lba)
{
	return image->bytes + lba * image->bs;
}

static void put_le32(uint8_t *bytes, uint32_t value)
{
	struct writer w = writer_of(bytes, 4);

	writer_le32(&w, value);
}

/* Makes the checksums of the header at lba right, as far as it says where they are. */
static void seal(const struct image *image, uint64_t lba)
{
	uint8_t *block = at(image, lba);
	struct cursor c = cursor_of(block, image->bs);
	uint64_t entries_lba, bytes;
	uint32_t header_bytes;

	cursor_skip(&c, 12);
	header_bytes = cursor_le32(&c);
	cursor_skip(&c, 72 - 16);
	entries_lba = cursor_le64(&c);
	bytes = (uint64_t)cursor_le32(&c);
	bytes *= cursor_le32(&c);
	if (entries_lba < image->blocks && bytes <= (image->blocks - entries_lba) * image->bs)
		put_le32(block + 88, crc32_update(0, at(image, entries_lba), bytes));
	put_le32(block + 16, 0);
	if (header_bytes <= image->bs)
		put_le32(block + 16, crc32_update(0, block, header_bytes));
}

static void copy_from(const struct image *image, struct gpt_copy *copy, uint64_t lba)
{
	uint64_t blocks;

	/* Of exact lengths, so that a look past the end is seen. */
	autofree uint8_t *block = malloc(image->bs);

	if (!block)
		abort();
	memcpy(block, at(image, lba), image->bs);
	if (gpt_read_header(block, image->bs, lba, image->blocks, &copy->header, &copy->err)) {
		if (!copy->err.text[0])
			abort();
		copy->header = (struct gpt_header){0};
		return;
	}
	blocks = gpt_entries_blocks(&copy->header, image->bs);
	if (copy->header.entries_lba + blocks > image->blocks)
		abort();
	copy->entries = malloc(blocks * image->bs);
	if (!copy->entries)
		abort();
	memcpy(copy->entries, at(image, copy->header.entries_lba), blocks * image->bs);
	copy->ok = gpt_read_entries(&copy->header, copy->entries, blocks * image->bs, image->blocks,
	                   &copy->table, &copy->err) == 0;
}

static void look(const struct image *image, struct gpt_found *found)
{
	uint64_t other;

	*found = (struct gpt_found){.disk_blocks = image->blocks, .block_bytes = image->bs};
	found->start = malloc(image->bs);
	if (!found->start)
		abort();
	memcpy(found->start, image->bytes, image->bs);
	if (gpt_read_mbr(found->start, image->bs, &found->mbr, NULL))
		return;
	copy_from(image, &found->primary, 1);
	other = found->primary.ok ? found->primary.header.other_lba : image->blocks - 1;
	if (other < image->blocks && other > 1)
		copy_from(image, &found->backup, other);
	found->used = found->primary.ok  ? &found->primary
	              : found->backup.ok ? &found->backup
	                                 : NULL;
}

static bool overlap(uint64_t a, uint64_t a_last, uint64_t b, uint64_t b_last)
{
	return a <= b_last && b <= a_last;
}

static void check_entries(const struct image *image, const struct gpt_table *table)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct gpt_entry *e = &table->entries[i];

		if (strlen(e->name) >= sizeof(e->name))
			abort();
		if (e->wrong[0])
			continue;
		if (e->first_lba > e->last_lba || e->last_lba >= image->blocks || e->first_lba < 2)
			abort();
		for (unsigned k = 0; k < i; k++)
			if (!table->entries[k].wrong[0] &&
			        overlap(e->first_lba, e->last_lba, table->entries[k].first_lba,
			                table->entries[k].last_lba))
				abort();
	}
}

static void check_plan(
        const struct image *image, const struct gpt_table *table, const struct gpt_plan *plan)
{
	for (unsigned i = 0; i < plan->count; i++) {
		const struct gpt_write *w = &plan->writes[i];

		if (w->lba + w->num_blocks > image->blocks || w->num_blocks == 0)
			abort();
		for (unsigned k = 0; k < table->count; k++)
			if (overlap(w->lba, w->lba + w->num_blocks - 1, table->entries[k].first_lba,
			            table->entries[k].last_lba))
				abort();
	}
}

static void grow(const struct image *image, const struct gpt_found *found, bool extend)
{
	struct gpt_plan plan;
	struct gpt_found after;
	struct err err = ERR_NONE;
	char text[ERR_TEXT_MAX];
	unsigned count = found->used->table.count;

	if (gpt_plan_grow(found, extend, &plan, &err)) {
		if (!err.text[0] || plan.count)
			abort();
		return;
	}
	check_plan(image, &found->used->table, &plan);
	for (unsigned i = 0; i < plan.count; i++)
		memcpy(at(image, plan.writes[i].lba), plan.writes[i].buf,
		        plan.writes[i].num_blocks * image->bs);
	look(image, &after);
	if (!after.used || after.used->table.count != count)
		abort();
	gpt_what_is_wrong(&after, text, sizeof(text));
	if (text[0] || gpt_mbr_is_stale(&after.mbr, image->blocks))
		abort();
	check_entries(image, &after.used->table);
	gpt_found_free(&after);
	gpt_plan_free(&plan);
}

static void fill(uint8_t *to, size_t len, struct cursor *c)
{
	size_t n = min_u64(len, cursor_left(c));

	cursor_copy(c, to, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_of(data, size);
	uint8_t flags = cursor_u8(&c);
	struct image image = {.bs = flags & 1 ? 4096 : 512};
	struct gpt_found found;
	char text[ERR_TEXT_MAX];

	image.blocks = GPT_DISK_BLOCKS_MIN + cursor_le16(&c) % BLOCKS_MAX(image.bs);
	image.bytes = calloc(image.blocks, image.bs);
	if (!image.bytes)
		abort();
	fill(image.bytes + 512 - 80, 80, &c);
	fill(at(&image, 1), HEAD_BYTES, &c);
	fill(at(&image, image.blocks - 1), HEAD_BYTES, &c);
	if (flags & 4) /* both copies have the same entries */
		fill(at(&image, 2), (image.blocks - 3) * image.bs,
		        &(struct cursor){c.pos, c.end, 0});
	if (image.blocks > 40)
		fill(at(&image, image.blocks - (flags & 1 ? 5 : 33)), 16384,
		        &(struct cursor){c.pos, c.end, 0});
	if (flags & 2) {
		seal(&image, image.blocks - 1);
		seal(&image, 1);
	}
	look(&image, &found);
	if (found.used) {
		gpt_what_is_wrong(&found, text, sizeof(text));
		check_entries(&image, &found.used->table);
		grow(&image, &found, flags & 8);
	}
	gpt_found_free(&found);
	free(image.bytes);
	return 0;
}
