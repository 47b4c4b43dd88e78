/* needs: zstd */
/*
 * Arrays on disks: those that the reference has written, and our own, looked at byte by byte as the
 * format is described; across restarts, with disks that are missing, damaged, stale, or at odds.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "tests/lib/member_files.h"
#include "vbdev/raid/raid_ext.h"

static int setup(void **state)
{
	(void)state;
	inproc_start(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	remove_files();
	return 0;
}

static void wait_for(const char *name)
{
	for (unsigned i = 0; i < PATIENCE_MS && !bdev_exists(name); i++)
		usleep(1000);
	assert_true(bdev_exists(name));
}

static json_t *raid_of(const char *name)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'all'}"), *entry;
	json_t *found = NULL;
	size_t i;

	json_array_foreach (list, i, entry) {
		if (strcmp(json_string_value(json_object_get(entry, "name")), name) == 0)
			found = json_incref(entry);
	}
	json_decref(list);
	return found;
}

static int64_t number_of(const char *name, const char *key)
{
	json_t *raid = raid_of(name);
	int64_t n = raid ? json_integer_value(json_object_get(raid, key)) : -1;

	json_decref(raid);
	return n;
}

/* Also a rebuild that has still to begin. */
static void wait_until_complete(const char *name)
{
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		json_t *raid = raid_of(name);
		bool done =
		        raid && !json_object_get(raid, "process") &&
		        json_integer_value(json_object_get(raid, "num_base_bdevs_discovered")) ==
		                json_integer_value(json_object_get(raid, "num_base_bdevs"));

		json_decref(raid);
		if (done)
			return;
		usleep(1000);
	}
	fail_msg("'%s' does not become complete", name);
}

/* ---- what the reference has written -----------------------------------------------------------
 */

static char *fixture_path(const char *file)
{
	char exe[512];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	exe[n] = '\0';
	return xasprintf("%s/../../tests/fixtures/raid/%s", dirname(exe), file);
}

static void *slurp(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	off_t size;

	if (fd < 0)
		fail_msg("%s can't be opened", path);
	size = lseek(fd, 0, SEEK_END);
	void *bytes = xcalloc(1, (size_t)size + 1);

	assert_int_equal(pread(fd, bytes, (size_t)size, 0), size);
	close(fd);
	*len = (size_t)size;
	return bytes;
}

static void unpack(const json_t *member, uint32_t block_bytes)
{
	autofree char *path = fixture_path(json_string_value(json_object_get(member, "file")));
	size_t len;
	autofree void *packed = slurp(path, &len);
	size_t room = (size_t)ZSTD_getFrameContentSize(packed, len);
	room = room > MIB(64) ? MIB(16) : room; /* it may be left out */
	autofree void *bytes = xcalloc(1, room);
	size_t got = ZSTD_decompress(bytes, room, packed, len);

	assert_false(ZSTD_isError(got));
	make_file(json_string_value(json_object_get(member, "uuid")), block_bytes, bytes, got);
}

static void expect_sectors(const char *name, const char *format, uint64_t blocks, uint32_t block)
{
	struct disk *disk = disk_open(name, false);
	uint64_t sectors = blocks * block / 512;
	uint8_t *data = xcalloc(blocks, block);
	char text[64];

	assert_int_equal(disk_blocks(disk), blocks);
	assert_int_equal(disk_read(disk, 0, blocks, data), 0);
	for (uint64_t i = 0; i < sectors; i++) {
		/* the format is of this tree, with one number in it */
		const char *percent = strstr(format, "%012d");
		int n = snprintf(text, sizeof(text), "%.*s%012llu%s", (int)(percent - format),
		        format, (unsigned long long)i, percent + 5);

		for (unsigned k = 0; k < 512; k++) {
			if (data[i * 512 + k] != (uint8_t)text[k % (unsigned)n])
				fail_msg("%s: sector %llu is not what was written", name,
				        (unsigned long long)i);
		}
	}
	free(data);
	disk_close(disk);
}

static json_t *fixtures(void)
{
	autofree char *path = fixture_path("fixtures.json");
	size_t len;
	autofree char *text = slurp(path, &len);
	json_t *all = json_loads(text, 0, NULL);

	assert_non_null(all);
	return all;
}

static unsigned level_number(const char *level)
{
	return strcmp(level, "raid1") == 0    ? 1
	       : strcmp(level, "concat") == 0 ? 99
	       : strcmp(level, "raid5f") == 0 ? 95
	                                      : 0;
}

/* Both orders of arrival; then what we have written is what the reference expects. */
static void check_fixture(const json_t *fixture, bool backwards)
{
	const char *name = json_string_value(json_object_get(fixture, "name"));
	const char *level = json_string_value(json_object_get(fixture, "level"));
	uint32_t block = (uint32_t)json_integer_value(json_object_get(fixture, "block_size"));
	const json_t *members = json_object_get(fixture, "members");
	unsigned n = (unsigned)json_array_size(members);
	bool stale = json_array_size(json_object_get(fixture, "stale")) > 0;
	uint64_t seq[DISKS_MAX];
	struct expected e = {.name = name,
	        .uuid = json_string_value(json_object_get(fixture, "raid_uuid")),
	        .level = level_number(level),
	        .strip_kb = (unsigned)json_integer_value(json_object_get(fixture, "strip_size_kb")),
	        .slots = n,
	        .blocks = (uint64_t)json_integer_value(json_object_get(fixture, "num_blocks")),
	        .states = {1, 1, 1, 1}};

	for (unsigned i = 0; i < n; i++) {
		uint8_t head[256];

		unpack(json_array_get(members, i), block);
		read_file(&files[i], 0, head, sizeof(head));
		seq[i] = get_le(head, 128, 8);
	}
	for (unsigned i = 0; i < n; i++)
		plug(backwards ? n - 1 - i : i);
	wait_for(name);
	expect_sectors(
	        name, json_string_value(json_object_get(fixture, "sector_text")), e.blocks, block);
	wait_until_complete(name);
	for (unsigned i = 0; i < n; i++)
		assert_true(check_member(&files[i], &e) > seq[i]);
	if (e.level == 95) { /* each member made up from the others */
		for (unsigned i = 0; i < n; i++) {
			inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'd%u'}", i);
			expect_sectors(name,
			        json_string_value(json_object_get(fixture, "sector_text")),
			        e.blocks, block);
			inproc_ok("bdev_raid_add_base_bdev",
			        "{'raid_bdev': '%s', 'base_bdev': 'd%u'}", name, i);
			wait_until_complete(name);
		}
	}
	if (stale) { /* what was stale has been rebuilt */
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'd0'}");
		expect_sectors(name, json_string_value(json_object_get(fixture, "sector_text")),
		        e.blocks, block);
	}
}

static void test_fixtures(void **state)
{
	json_t *all = fixtures(), *fixture;
	size_t i;

	json_array_foreach (all, i, fixture) {
		for (int backwards = 0; backwards < 2; backwards++) {
			check_fixture(fixture, backwards);
			teardown(state);
			setup(state);
		}
	}
	json_decref(all);
}

/* ---- our own ----------------------------------------------------------------------------------
 */

static void write_first(const char *name, uint64_t seed)
{
	struct disk *disk = disk_open(name, true);
	uint8_t buf[65536];

	fill_pattern(buf, sizeof(buf), seed);
	assert_int_equal(disk_write(disk, 0, sizeof(buf) / disk->block_bytes, buf), 0);
	disk_close(disk);
}

static void expect_first(const char *name, uint64_t seed)
{
	struct disk *disk = disk_open(name, false);
	uint8_t buf[65536], back[65536];

	fill_pattern(buf, sizeof(buf), seed);
	assert_int_equal(disk_read(disk, 0, sizeof(buf) / disk->block_bytes, back), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	disk_close(disk);
}

static void check_level(const char *level, uint32_t block)
{
	unsigned strip_kb = strcmp(level, "raid1") == 0 ? 0 : 16;
	uint64_t each = (DISK_BYTES - MIB(1)) / block;
	struct expected e = {.name = "R",
	        .level = level_number(level),
	        .strip_kb = strip_kb,
	        .slots = 3,
	        .states = {1, 1, 1}};

	e.blocks = e.level == 1 ? each : e.level == 95 ? 2 * each : 3 * each;
	make_files(3, block);
	for (unsigned i = 0; i < 3; i++)
		plug(i);
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': '%s', 'strip_size_kb': %u, 'base_bdevs': ['d0', 'd1', "
	        "'d2'], 'superblock': true}",
	        level, strip_kb);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(check_member(&files[i], &e), 1);
	write_first("R", 1);
	restart();
	for (unsigned i = 0; i < 3; i++)
		plug(2 - i);
	wait_for("R");
	expect_first("R", 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(check_member(&files[i], &e), 2);
	if (e.level == 1 || e.level == 95) {
		inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'd1'}");
		e.states[1] = 0;
		assert_int_equal(check_member(&files[0], &e), 3);
		assert_int_equal(check_member(&files[2], &e), 3);
		write_first("R", 2);
		inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'd1'}");
		wait_until_complete("R");
		e.states[1] = 1;
		/* Or more: a rebuild that takes its time notes how far it is. */
		uint64_t seq = check_member(&files[0], &e);

		assert_true(seq >= 4);
		for (unsigned i = 1; i < 3; i++)
			assert_int_equal(check_member(&files[i], &e), seq);
	}
	/* Grown while in use: recorded before it is shown. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(truncate(files[i].path, (off_t)(2 * DISK_BYTES)), 0);
		inproc_ok("bdev_aio_rescan", "{'name': 'd%u'}", i);
	}
	e.blocks = bdev_blocks_of("R");
	assert_true(e.blocks > each * (e.level == 99 ? 3 : 1));
	for (unsigned i = 0; i < 3; i++)
		check_member(&files[i], &e);
	/* Wiped it is not found again, and its disks are free. */
	inproc_ok("bdev_raid_delete", "{'name': 'R', 'clear_sb': true}");
	restart();
	for (unsigned i = 0; i < 3; i++)
		plug(i);
	assert_null(raid_of("R"));
}

static void test_levels_and_block_sizes(void **state)
{
	static const char *const levels[] = {"raid0", "raid1", "concat", "raid5f"};

	for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
		for (uint32_t block = 512; block <= 4096; block *= 8) {
			check_level(levels[i], block);
			teardown(state);
			setup(state);
		}
	}
}

static const json_t *fixture_named(const json_t *all, const char *name)
{
	const json_t *fixture;
	size_t i;

	json_array_foreach (all, i, fixture) {
		if (strcmp(json_string_value(json_object_get(fixture, "name")), name) == 0)
			return fixture;
	}
	fail_msg("there is no %s", name);
	return NULL;
}

/* One member of what the reference has written does not come: its data is made up. */
static void test_parity_fixture_without_a_member(void **state)
{
	json_t *all = fixtures();
	const json_t *fixture = fixture_named(all, "fx_r5");

	for (unsigned absent = 0; absent < 3; absent++) {
		inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
		for (unsigned i = 0; i < 3; i++)
			unpack(json_array_get(json_object_get(fixture, "members"), i), 512);
		for (unsigned i = 0; i < 3; i++) {
			if (i != absent)
				plug(i);
		}
		wait_for("fx_r5");
		assert_int_equal(number_of("fx_r5", "num_base_bdevs_operational"), 2);
		expect_sectors("fx_r5", json_string_value(json_object_get(fixture, "sector_text")),
		        28672, 512);
		plug(absent);
		wait_until_complete("fx_r5");
		teardown(state);
		setup(state);
	}
	json_decref(all);
}

static void make_mirror(void)
{
	make_files(2, 512);
	plug(0);
	plug(1);
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['d0', "
	                              "'d1'], 'superblock': true}");
	write_first("R", 1);
}

static void set_wait(const char *wait)
{
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': %s}", wait);
}

static void test_start_without_a_member(void **state)
{
	uint8_t head[256 + 128];

	(void)state;
	make_mirror();
	restart();
	set_wait("'never'");
	plug(0);
	usleep(20000);
	assert_false(bdev_exists("R"));
	assert_int_equal(number_of("R", "num_base_bdevs_discovered"), 1);
	inproc_ok("bdev_raid_start", "{'name': 'R'}");
	expect_first("R", 1);
	read_file(&files[0], 0, head, sizeof(head));
	assert_int_equal(get_le(head, 256 + 64 + 32, 4), 0); /* the other one is missing */
	write_first("R", 2);
	/* It comes later: it has missed something, and gets everything. */
	plug(1);
	wait_until_complete("R");
	pull(0);
	expect_first("R", 2);
	/* By itself after the wait. */
	restart();
	set_wait("0");
	plug(1);
	wait_for("R");
	expect_first("R", 2);
	assert_int_equal(number_of("R", "num_base_bdevs_operational"), 1);
}

/* Whichever comes first, the one that has missed writes is not read. */
static void test_pulled_member_is_stale(void **state)
{
	(void)state;
	make_mirror();
	pull(1);
	write_first("R", 2);
	restart();
	plug(1);
	assert_false(bdev_exists("R"));
	plug(0);
	wait_for("R");
	expect_first("R", 2);
	wait_until_complete("R");
	/* Pulled and back while it runs. */
	pull(0);
	write_first("R", 3);
	plug(0);
	wait_until_complete("R");
	pull(1);
	expect_first("R", 3);
	/* The last one too: the array goes, and comes back with it. */
	pull(0);
	assert_false(bdev_exists("R"));
	plug(0);
	wait_for("R");
	expect_first("R", 3);
}

static void test_two_that_went_on_alone(void **state)
{
	(void)state;
	make_mirror();
	for (unsigned i = 0; i < 2; i++) {
		restart();
		set_wait("0");
		plug(i);
		wait_for("R");
		write_first("R", 10 + i);
	}
	for (unsigned first = 0; first < 2; first++) {
		restart();
		set_wait("0");
		plug(first);
		wait_for("R");
		plug(1 - first);
		usleep(50000);
		/* Nobody overwrites anybody. */
		assert_int_equal(number_of("R", "num_base_bdevs_discovered"), 1);
		expect_first("R", 10 + first);
	}
}

static void test_damaged_superblocks(void **state)
{
	struct expected e = {.name = "R",
	        .level = 1,
	        .slots = 2,
	        .blocks = (DISK_BYTES - MIB(1)) / 512,
	        .states = {1, 1}};
	uint8_t byte = 0xff, zeroes[512] = {0}, sb[512];

	(void)state;
	make_mirror();
	inproc_stop();
	/* One flipped byte: the second copy speaks, and mends the first. */
	write_file(&files[0], 300, &byte, 1);
	inproc_start(2);
	plug(0);
	plug(1);
	wait_for("R");
	expect_first("R", 1);
	assert_int_equal(number_of("R", "num_base_bdevs_operational"), 2);
	assert_int_equal(check_member(&files[0], &e), check_member(&files[1], &e));
	/* A wiped one is nobody's, whatever the second copy says. */
	inproc_stop();
	write_file(&files[0], 0, zeroes, sizeof(zeroes));
	inproc_start(2);
	plug(0);
	assert_null(raid_of("R"));
	/* A newer major version is left alone, and not overwritten. */
	inproc_stop();
	read_file(&files[1], 0, sb, sizeof(sb));
	sb[8] = 2;
	uint32_t crc = superblock_crc(sb, 384);

	memcpy(sb + 16, &crc, 4);
	write_file(&files[1], 0, sb, sizeof(sb));
	inproc_start(2);
	plug(0);
	plug(1);
	assert_null(raid_of("R"));
	inproc_error(-EEXIST, "version 2.0", "bdev_raid_create",
	        "{'name': 'S', 'raid_level': 'raid1', 'base_bdevs': ['d0', 'd1']}");
	read_file(&files[1], 0, zeroes, sizeof(zeroes));
	assert_memory_equal(sb, zeroes, sizeof(sb));
}

/* It stands for all its regions, once. */
static void test_damaged_page_of_the_bitmap(void **state)
{
	uint8_t page[RAID_PAGE_BYTES];
	json_t *entry;
	bool busy = true;

	(void)state;
	make_mirror();
	inproc_stop();
	memset(page, 0xff, sizeof(page));
	write_file(&files[0], RAID_BITMAP_BYTES_OFFSET, page, sizeof(page));
	inproc_start(2);
	plug(0);
	plug(1);
	wait_for("R");
	for (unsigned i = 0; i < PATIENCE_MS && busy; i++, usleep(1000)) {
		entry = raid_of("R");
		busy = json_object_get(entry, "resync_regions_left");
		json_decref(entry);
	}
	assert_false(busy);
	expect_first("R", 1);
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	for (unsigned i = 0; i < 2; i++) {
		read_file(&files[i], RAID_BITMAP_BYTES_OFFSET, page, sizeof(page));
		for (unsigned at = RAID_PAGE_HEAD_BYTES; at < sizeof(page); at++)
			assert_int_equal(page[at], 0);
	}
}

static void test_clashes(void **state)
{
	(void)state;
	make_mirror();
	make_files(2, 512);
	inproc_error(-EEXIST, "'R' is taken", "bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['d2', 'd3']}");
	restart();
	plug(2);
	plug(3);
	inproc_ok("bdev_raid_create", "{'name': 'R', 'raid_level': 'raid1', 'base_bdevs': ['d2', "
	                              "'d3'], 'superblock': true}");
	/* The other one of that name is left alone, with its disks. */
	plug(0);
	plug(1);
	assert_int_equal(number_of("R", "num_base_bdevs_discovered"), 2);
	inproc_error(-EEXIST, "array 'R'", "bdev_raid_create",
	        "{'name': 'S', 'raid_level': 'raid1', 'base_bdevs': ['d0', 'd1']}");
	inproc_ok("bdev_raid_delete", "{'name': 'R'}");
	restart();
	plug(0);
	plug(1);
	wait_for("R");
	expect_first("R", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_fixtures, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_parity_fixture_without_a_member, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_levels_and_block_sizes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_start_without_a_member, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_pulled_member_is_stale, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_two_that_went_on_alone, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_damaged_superblocks, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_damaged_page_of_the_bitmap, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_clashes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
