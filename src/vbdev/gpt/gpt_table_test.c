/* Partition tables as bytes: what is believed, what is not, and what a change writes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "math/crc32.h"
#include "vbdev/gpt/gpt_plan.h"

#define BS 512U
#define DISK 4096U

static const uuid_t type = {0x65, 0x27, 0x99, 0x4e, 0x2c, 0x5a, 0x4e, 0xec, 0x96, 0x13, 0x8f, 0x59,
        0x44, 0x07, 0x4e, 0x8b};

/* ---- a disk in memory -------------------------------------------------------------------------
 */

struct image {
	uint64_t blocks;
	uint32_t bs;
	uint8_t *bytes;
};

static struct image image_new(uint64_t blocks, uint32_t bs)
{
	return (struct image){.blocks = blocks, .bs = bs, .bytes = xcalloc(blocks, bs)};
}

static uint8_t *at(const struct image *image, uint64_t lba)
{
	return image->bytes + lba * image->bs;
}

static void copy_from(const struct image *image, struct gpt_copy *copy, uint64_t lba)
{
	uint64_t blocks;

	copy->err = (struct err)ERR_NONE;
	if (gpt_read_header(
	            at(image, lba), image->bs, lba, image->blocks, &copy->header, &copy->err)) {
		copy->header = (struct gpt_header){0};
		return;
	}
	blocks = gpt_entries_blocks(&copy->header, image->bs);
	copy->entries = try_alloc_aligned(GPT_BUF_ALIGN, blocks * image->bs);
	memcpy(copy->entries, at(image, copy->header.entries_lba), blocks * image->bs);
	copy->ok = gpt_read_entries(&copy->header, copy->entries, blocks * image->bs, image->blocks,
	                   &copy->table, &copy->err) == 0;
}

static void look(const struct image *image, struct gpt_found *found)
{
	uint64_t places[GPT_BACKUP_PLACES_MAX];
	unsigned num_places;

	*found = (struct gpt_found){.disk_blocks = image->blocks, .block_bytes = image->bs};
	found->start = xcalloc(1, image->bs);
	memcpy(found->start, image->bytes, image->bs);
	if (gpt_read_mbr(found->start, image->bs, &found->mbr, NULL))
		return;
	copy_from(image, &found->primary, 1);
	num_places = gpt_backup_places(found, places);
	for (unsigned i = 0; i < num_places && !found->backup.ok; i++)
		copy_from(image, &found->backup, places[i]);
	found->used = found->primary.ok  ? &found->primary
	              : found->backup.ok ? &found->backup
	                                 : NULL;
}

static void apply(const struct image *image, const struct gpt_plan *plan, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct gpt_write *w = &plan->writes[i];

		assert_true(w->lba + w->num_blocks <= image->blocks);
		memcpy(at(image, w->lba), w->buf, w->num_blocks * image->bs);
	}
}

static struct image disk_with(unsigned count, uint64_t blocks, uint32_t bs)
{
	struct image image = image_new(blocks, bs);
	struct gpt_found found;
	struct gpt_layout layout = {.count = count};
	struct gpt_plan plan;
	struct err err = ERR_NONE;

	look(&image, &found);
	uuid_copy(layout.type, type);
	memset(layout.disk_guid, 0xd1, sizeof(uuid_t));
	for (unsigned i = 0; i < count; i++)
		memset(layout.part_guids[i], 0x11 + (int)i, sizeof(uuid_t));
	if (gpt_plan_create(&found, &layout, &plan, &err))
		fail_msg("%s", err.text);
	apply(&image, &plan, plan.count);
	gpt_plan_free(&plan);
	gpt_found_free(&found);
	return image;
}

static void disk_grow(struct image *image, uint64_t blocks)
{
	image->bytes = xrealloc(image->bytes, blocks * image->bs);
	memset(at(image, image->blocks), 0, (blocks - image->blocks) * image->bs);
	image->blocks = blocks;
}

/* Makes the checksums of the primary copy fit again after its bytes were changed. */
static void seal(const struct image *image, struct gpt_header *header)
{
	gpt_put_header(
	        header, at(image, header->entries_lba), at(image, header->my_lba), image->bs);
}

static struct gpt_header primary_of(const struct image *image)
{
	struct gpt_header header;

	assert_int_equal(
	        gpt_read_header(at(image, 1), image->bs, 1, image->blocks, &header, NULL), 0);
	return header;
}

static void expect_wrong(const struct image *image, const char *text)
{
	struct gpt_found found;
	char wrong[ERR_TEXT_MAX];

	look(image, &found);
	assert_non_null(found.used);
	gpt_what_is_wrong(&found, wrong, sizeof(wrong));
	if (text ? !strstr(wrong, text) : wrong[0])
		fail_msg("it says '%s'", wrong);
	gpt_found_free(&found);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void test_made_and_read(void **state)
{
	static const uint32_t sizes[] = {512, 4096, 65536};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct image image = disk_with(3, DISK, sizes[i]);
		struct gpt_found found;

		look(&image, &found);
		const struct gpt_table *table = &found.used->table;

		assert_true(found.primary.ok && found.backup.ok);
		assert_int_equal(found.mbr.size_blocks, DISK - 1);
		assert_int_equal(table->count, 3);
		for (unsigned k = 0; k < 3; k++) {
			const struct gpt_entry *e = &table->entries[k];

			assert_int_equal(e->number, k + 1);
			assert_int_equal(uuid_compare(e->type, type), 0);
			assert_int_equal(e->guid[0], 0x11 + k);
			assert_true(e->first_lba >= table->header.first_usable);
			assert_int_equal(e->first_lba * sizes[i] % 4096, 0);
			assert_string_equal(e->wrong, "");
		}
		assert_int_equal(table->entries[2].last_lba, table->header.last_usable);
		expect_wrong(&image, NULL);
		gpt_found_free(&found);
		free(image.bytes);
	}
}

/* The GUID's first fields stand turned round on the disk. */
static void test_guid_bytes(void **state)
{
	static const uint8_t on_disk[] = {0x4e, 0x99, 0x27, 0x65, 0x5a, 0x2c, 0xec, 0x4e, 0x96,
	        0x13, 0x8f, 0x59, 0x44, 0x07, 0x4e, 0x8b};
	struct image image = disk_with(1, DISK, BS);

	(void)state;
	assert_memory_equal(at(&image, 2), on_disk, sizeof(on_disk));
	free(image.bytes);
}

/* Any bit of header or entries that is wrong makes the copy wrong, and the other is used. */
static void test_every_byte_counts(void **state)
{
	struct image image = disk_with(2, DISK, BS);

	(void)state;
	for (unsigned side = 0; side < 2; side++) {
		uint64_t header = side ? DISK - 1 : 1;

		for (unsigned i = 0; i < GPT_HEADER_BYTES; i++) {
			at(&image, header)[i] ^= 0x10;
			struct gpt_found found;

			look(&image, &found);

			assert_true(found.primary.ok == (side == 1));
			assert_true(found.backup.ok == (side == 0));
			assert_int_equal(found.used->table.count, 2);
			gpt_found_free(&found);
			expect_wrong(&image, "damaged");
			at(&image, header)[i] ^= 0x10;
		}
		at(&image, side ? DISK - 33 : 2)[77] ^= 1;
		expect_wrong(&image, "checksum of its entries");
		at(&image, side ? DISK - 33 : 2)[77] ^= 1;
	}
	at(&image, 1)[0] = 0;
	at(&image, DISK - 1)[0] = 0;
	struct gpt_found found;

	look(&image, &found);

	assert_null(found.used);
	gpt_found_free(&found);
	free(image.bytes);
}

static uint8_t nothing[MIB(1)];

/* A header that says this, with a checksum that is right. */
static void refused(struct gpt_header says, const char *text)
{
	struct err err = ERR_NONE;
	struct gpt_header header = says;
	uint8_t block[BS];

	if (gpt_entries_bytes(&says) > sizeof(nothing))
		says.num_entries = 0; /* the checksum of entries is not looked at */
	gpt_put_header(&says, nothing, block, BS);
	says = header;
	for (unsigned i = 0; i < 4; i++) {
		block[80 + i] = (uint8_t)(says.num_entries >> 8 * i);
		block[16 + i] = 0;
	}
	uint32_t crc = crc32_update(0, block, GPT_HEADER_BYTES);

	for (unsigned i = 0; i < 4; i++)
		block[16 + i] = (uint8_t)(crc >> 8 * i);
	assert_int_equal(gpt_read_header(block, BS, 1, DISK, &header, &err), -EINVAL);
	if (!strstr(err.text, text))
		fail_msg("it says '%s', not '%s'", err.text, text);
}

#define REFUSED(member, value, text)                                                               \
	do {                                                                                       \
		struct gpt_header says = good;                                                     \
		says.member = (value);                                                             \
		refused(says, text);                                                               \
	} while (0)

static void test_headers_refused(void **state)
{
	struct image image = disk_with(1, DISK, BS);
	struct gpt_header good = primary_of(&image), h;
	struct err err = ERR_NONE;
	const uint8_t *block = at(&image, 1);

	(void)state;
	REFUSED(my_lba, 2, "belongs in block 2");
	REFUSED(num_entries, 0, "0 entries");
	REFUSED(num_entries, GPT_ENTRIES_MAX + 1, "entries");
	REFUSED(num_entries, UINT32_MAX, "entries");
	REFUSED(entry_bytes, 64, "64 bytes");
	REFUSED(entry_bytes, 129, "129 bytes");
	REFUSED(entry_bytes, 0, "0 bytes");
	REFUSED(entry_bytes, 4096, "at most");
	REFUSED(entry_bytes, 1U << 31, "entries");
	REFUSED(first_usable, 1, "usable");
	REFUSED(first_usable, good.last_usable + 1, "usable");
	REFUSED(last_usable, UINT64_MAX, "usable");
	REFUSED(entries_lba, 1, "not on the disk");
	REFUSED(entries_lba, DISK - 1, "not on the disk");
	REFUSED(entries_lba, UINT64_MAX - 5, "not on the disk");
	REFUSED(entries_lba, 40, "overlap");
	REFUSED(first_usable, 20, "overlap");
	assert_int_equal(gpt_read_header(block, 50, 1, DISK, &h, &err), -EINVAL);
	assert_int_equal(gpt_read_header(block, 4, 1, DISK, &h, &err), -ENOENT);
	assert_int_equal(gpt_read_header(block, 0, 1, DISK, &h, &err), -ENOENT);
	free(image.bytes);
}

static void put(const struct image *image, unsigned number, uint64_t first, uint64_t last)
{
	struct gpt_entry e = {.number = number, .first_lba = first, .last_lba = last};

	uuid_copy(e.type, type);
	e.guid[0] = (uint8_t)number;
	str_copy(e.name, sizeof(e.name), "data");
	gpt_put_entry(at(image, 2), &e);
}

/* Those that are wrong are left out, each with its reason; the others are used. */
static void test_entries_judged(void **state)
{
	struct image image = disk_with(1, DISK, BS);
	struct gpt_header header = primary_of(&image);
	struct gpt_found found;
	struct gpt_plan plan;
	struct err err = ERR_NONE;
	static const char *const wrong[] = {"", "overlaps partition 3", "overlaps partition 2",
	        "before it begins", "outside", "outside", "outside", ""};

	(void)state;
	put(&image, 1, 100, 199);
	put(&image, 2, 300, 399);
	put(&image, 3, 399, 500);
	put(&image, 4, 700, 699);
	put(&image, 5, 33, 80);
	put(&image, 6, 4000, 4063);
	put(&image, 7, 600, UINT64_MAX);
	put(&image, 128, 200, 200);
	seal(&image, &header);
	look(&image, &found);
	assert_int_equal(found.used->table.count, 8);
	for (unsigned i = 0; i < 8; i++) {
		const struct gpt_entry *e = &found.used->table.entries[i];

		assert_string_equal(e->name, "data");
		if (wrong[i][0] ? !strstr(e->wrong, wrong[i]) : e->wrong[0])
			fail_msg("%u: '%s'", e->number, e->wrong);
	}
	assert_int_equal(found.used->table.entries[7].number, 128);
	assert_int_equal(gpt_plan_grow(&found, false, &plan, &err), -EINVAL);
	assert_non_null(strstr(err.text, "partition 2"));
	gpt_found_free(&found);

	/* The disk has become shorter: what still lies on it is used. */
	memset(at(&image, 2), 0, 128 * 128);
	put(&image, 1, 100, 199);
	put(&image, 2, 3000, 3999);
	seal(&image, &header);
	image.blocks = 3500;
	look(&image, &found);
	assert_string_equal(found.used->table.entries[0].wrong, "");
	assert_non_null(strstr(found.used->table.entries[1].wrong, "only 3500"));
	gpt_found_free(&found);
	expect_wrong(&image, "no longer");
	free(image.bytes);
}

static void test_names(void **state)
{
	struct image image = disk_with(1, DISK, BS);
	struct gpt_header header = primary_of(&image);
	static const uint16_t units[GPT_NAME_UNITS] = {
	        'D', 0xe4, 0x20ac, 0xd83d, 0xde00, 0xd83d, 'x', 0xdc00};
	struct gpt_found found;

	(void)state;
	memcpy(at(&image, 2) + 56, units, sizeof(units));
	seal(&image, &header);
	look(&image, &found);
	assert_string_equal(found.used->table.entries[0].name,
	        "D\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbdx\xef\xbf\xbd");
	gpt_found_free(&found);
	memset(at(&image, 2) + 56, 0xff, 72); /* the longest that there can be */
	seal(&image, &header);
	look(&image, &found);
	assert_int_equal(strlen(found.used->table.entries[0].name), 3 * GPT_NAME_UNITS);
	gpt_found_free(&found);
	free(image.bytes);
}

static void test_mbr(void **state)
{
	struct image image = disk_with(1, DISK, BS);
	struct gpt_mbr mbr;

	(void)state;
	assert_int_equal(gpt_read_mbr(at(&image, 0), BS, &mbr, NULL), 0);
	assert_false(mbr.hybrid || gpt_mbr_is_stale(&mbr, DISK));
	assert_true(gpt_mbr_is_stale(&mbr, DISK + 1));
	at(&image, 0)[446 + 16 + 4] = 0x83;
	assert_int_equal(gpt_read_mbr(at(&image, 0), BS, &mbr, NULL), 0);
	assert_true(mbr.hybrid && !gpt_mbr_is_stale(&mbr, DISK + 1));
	at(&image, 0)[446 + 4] = 0x83; /* an MBR of another kind */
	assert_int_equal(gpt_read_mbr(at(&image, 0), BS, &mbr, NULL), -ENOENT);
	assert_true(gpt_is_mbr(at(&image, 0), BS));
	at(&image, 0)[446 + 4] = 0xee;
	at(&image, 0)[511] = 0;
	assert_int_equal(gpt_read_mbr(at(&image, 0), BS, &mbr, NULL), -ENOENT);
	assert_int_equal(gpt_read_mbr(at(&image, 0), 100, &mbr, NULL), -ENOENT);
	free(image.bytes);
}

/* After each write of a change, and with any of them torn, one copy is whole: the old or the new
 * one. The same call then completes what was cut off. */
static void test_grow_cut_off(void **state)
{
	uint64_t last_before;

	(void)state;
	for (unsigned cut = 0; cut <= GPT_WRITES_MAX; cut++) {
		for (unsigned torn = 0; torn < 2; torn++) {
			struct image image = disk_with(2, DISK, BS);
			struct gpt_found found;
			struct gpt_plan plan, again;
			struct err err = ERR_NONE;
			uint64_t last;

			disk_grow(&image, 6000);
			expect_wrong(&image, "no longer at the end of the disk: 1904 blocks");
			look(&image, &found);
			last_before = gpt_last_entry(&found.used->table)->last_lba;
			assert_int_equal(gpt_plan_grow(&found, true, &plan, &err), 0);
			assert_int_equal(plan.extended, 2);
			apply(&image, &plan, cut < plan.count ? cut : plan.count);
			if (torn && cut < plan.count) {
				const struct gpt_write *w = &plan.writes[cut];

				/* what is left over from before, with the first half new */
				memcpy(at(&image, w->lba), w->buf,
				        w->num_blocks * BS / 2 < BS ? 100 : w->num_blocks * BS / 2);
			}
			gpt_found_free(&found);
			if (!(torn && cut == 3)) { /* a torn MBR is beyond what sectors do */
				look(&image, &found);
				assert_non_null(found.used);
				last = gpt_last_entry(&found.used->table)->last_lba;
				assert_true(last == last_before || last == plan.extended_last);
				assert_int_equal(gpt_plan_grow(&found, true, &again, &err), 0);
				apply(&image, &again, again.count);
				gpt_plan_free(&again);
				gpt_found_free(&found);
				expect_wrong(&image, NULL);
				look(&image, &found);
				assert_int_equal(
				        gpt_last_entry(&found.used->table)->last_lba, 6000 - 34);
				assert_int_equal(found.mbr.size_blocks, 5999);
				assert_int_equal(gpt_plan_grow(&found, true, &again, &err), 0);
				assert_int_equal(again.count, 0);
				gpt_found_free(&found);
			}
			gpt_plan_free(&plan);
			free(image.bytes);
		}
	}
}

/* Where its last partition ends; 0: there is no table. */
static uint64_t last_lba_on(const struct image *image)
{
	struct gpt_found found;
	uint64_t last;

	look(image, &found);
	last = found.used ? gpt_last_entry(&found.used->table)->last_lba : 0;
	gpt_found_free(&found);
	return last;
}

/* What is found after a grow was cut off stays when the disk grows before the next look: a copy of
 * the table from before must not come back then, with a partition that somebody has filled. */
static void test_grow_cut_off_and_the_disk_grows(void **state)
{
	unsigned cuts = GPT_WRITES_MAX, longer = 0;

	(void)state;
	for (unsigned cut = 0; cut < cuts; cut++) {
		struct image image = disk_with(2, DISK, BS);
		struct gpt_found found;
		struct gpt_plan plan;
		struct err err = ERR_NONE;
		uint64_t last;

		disk_grow(&image, 6000);
		look(&image, &found);
		assert_int_equal(gpt_plan_grow(&found, true, &plan, &err), 0);
		cuts = plan.count;
		apply(&image, &plan, cut);
		last = last_lba_on(&image);
		longer += last == plan.extended_last;
		disk_grow(&image, 8000);
		assert_int_equal(last_lba_on(&image), last);
		gpt_plan_free(&plan);
		gpt_found_free(&found);
		free(image.bytes);
	}
	assert_int_equal(longer, 1); /* all but the MBR */
}

static void test_grow_of_a_shorter_disk(void **state)
{
	struct image image = disk_with(1, DISK, BS);
	struct gpt_header header = primary_of(&image);
	struct gpt_found found;
	struct gpt_plan plan;
	struct err err = ERR_NONE;

	(void)state;
	memset(at(&image, 2), 0, 128 * 128);
	put(&image, 1, 100, 1999);
	seal(&image, &header);
	image.blocks = 2020;
	look(&image, &found);
	assert_int_equal(gpt_plan_grow(&found, false, &plan, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "33 blocks behind block 1999"));
	gpt_found_free(&found);
	image.blocks = 2033;
	look(&image, &found);
	assert_int_equal(gpt_plan_grow(&found, false, &plan, &err), 0);
	apply(&image, &plan, plan.count);
	gpt_plan_free(&plan);
	gpt_found_free(&found);
	expect_wrong(&image, NULL);
	free(image.bytes);
}

static void test_no_room(void **state)
{
	struct gpt_layout layout = {.count = 1};
	struct gpt_plan plan;
	struct err err = ERR_NONE;

	(void)state;
	for (uint64_t blocks = GPT_DISK_BLOCKS_MIN; blocks < 90; blocks++) {
		struct image image = image_new(blocks, BS);
		struct gpt_found found;

		look(&image, &found);
		int rc = gpt_plan_create(&found, &layout, &plan, &err);

		assert_int_equal(rc, blocks < 40 + 8 + 33 ? -ENOSPC : 0);
		gpt_plan_free(&plan);
		gpt_found_free(&found);
		free(image.bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_made_and_read),
	        cmocka_unit_test(test_guid_bytes),
	        cmocka_unit_test(test_every_byte_counts),
	        cmocka_unit_test(test_headers_refused),
	        cmocka_unit_test(test_entries_judged),
	        cmocka_unit_test(test_names),
	        cmocka_unit_test(test_mbr),
	        cmocka_unit_test(test_grow_cut_off),
	        cmocka_unit_test(test_grow_cut_off_and_the_disk_grows),
	        cmocka_unit_test(test_grow_of_a_shorter_disk),
	        cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
