/* What an array tells as it happens, in order, and with what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "tests/lib/member_files.h"

/* Events of arrays since `next_id`, as "type type ..."; their details in `details`. */
static uint64_t next_id;
static char types[4096];
static json_t *details;

static bool collect(void *arg, const struct bdev_event *event)
{
	(void)arg;
	if (strncmp(event->type, "raid_", 5) == 0) {
		size_t len = strlen(types);

		snprintf(types + len, sizeof(types) - len, "%s ", event->type + 5);
		json_array_append_new(details, json_deep_copy(event->detail));
	}
	next_id = event->id + 1;
	return true;
}

static void look(void *arg)
{
	(void)arg;
	types[0] = '\0';
	json_decref(details);
	details = json_array();
	bdev_events_since(next_id, collect, NULL);
}

/* What was told since the last call. */
static const char *told(void)
{
	inproc_run(look, NULL);
	return types;
}

static void wait_told(const char *expected)
{
	for (unsigned i = 0; i < PATIENCE_MS && strcmp(told(), "") == 0; i++)
		usleep(1000);
	assert_string_equal(types, expected);
}

static json_int_t number(size_t event, const char *key)
{
	const json_t *value = json_object_get(json_array_get(details, event), key);

	assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static const char *text(size_t event, const char *key)
{
	const char *value = json_string_value(json_object_get(json_array_get(details, event), key));

	assert_non_null(value);
	return value;
}

static bool is_busy(void)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'all'}");
	const json_t *raid = json_array_get(list, 0), *check = json_object_get(raid, "check");
	const char *state = json_string_value(json_object_get(check, "state"));
	bool busy = json_object_get(raid, "process") || (state && strcmp(state, "running") == 0);

	json_decref(list);
	return busy;
}

static void wait_until_idle(void)
{
	for (unsigned i = 0; i < PATIENCE_MS && is_busy(); i++)
		usleep(1000);
	assert_false(is_busy());
}

static int setup(void **state)
{
	(void)state;
	inproc_start(2);
	next_id = 0;
	make_files(3, 512);
	for (unsigned i = 0; i < 3; i++)
		plug(i);
	inproc_ok("bdev_raid_create",
	        "{'name': 'R', 'raid_level': 'raid1', 'superblock': true, 'base_bdevs': ['d0', "
	        "'d1']}");
	assert_string_equal(told(), "");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(details);
	details = NULL;
	inproc_stop();
	remove_files();
	return 0;
}

static void test_a_member_is_replaced(void **state)
{
	size_t events;

	(void)state;
	inproc_ok("bdev_raid_set_options", "{'process_window_size_kb': 64}");
	inproc_ok("bdev_raid_remove_base_bdev", "{'name': 'd1'}");
	wait_told("degraded ");
	assert_int_equal(number(0, "slot"), 1);
	assert_int_equal(number(0, "members"), 1);
	assert_int_equal(number(0, "places"), 2);
	assert_string_equal(text(0, "how"), "missing");
	inproc_ok("bdev_raid_add_base_bdev", "{'raid_bdev': 'R', 'base_bdev': 'd2'}");
	wait_until_idle();
	told();
	assert_int_equal(strncmp(types, "rebuild_started rebuild_progress ", 33), 0);
	/* 112 windows, and no more than one event for 5 %. */
	events = json_array_size(details);
	assert_true(events >= 10 && events <= 22);
	for (size_t i = 2; i + 1 < events; i++) {
		assert_true(number(i, "percent") >= number(i - 1, "percent") + 5);
		assert_string_equal(text(i, "target"), "d2");
		assert_int_equal(number(i, "num_blocks"), (DISK_BYTES - MIB(1)) / 512);
	}
	assert_int_equal(number(events - 2, "percent"), 100);
	assert_string_equal(text(events - 1, "target"), "d2");
	assert_int_equal(strcmp(types + strlen(types) - 17, "rebuild_finished "), 0);
}

static void test_a_spare_is_used(void **state)
{
	(void)state;
	inproc_ok("bdev_raid_add_spare", "{'base_bdev': 'd2'}");
	pull(0);
	for (unsigned i = 0; i < PATIENCE_MS && !strstr(told(), "spare_used"); i++)
		usleep(1000);
	assert_string_equal(text(json_array_size(details) - 1, "spare"), "d2");
	wait_until_idle();
}

static void test_no_member_is_left(void **state)
{
	(void)state;
	pull(0);
	wait_told("degraded ");
	pull(1);
	wait_told("failed ");
	assert_int_equal(number(0, "members"), 0);
	assert_int_equal(number(0, "needed"), 1);
	assert_string_equal(text(0, "missing"), "'d0', 'd1'");
	/* One of them starts alone. */
	inproc_ok("bdev_raid_set_options", "{'degraded_start_wait': 0}");
	plug(1);
	for (unsigned i = 0; i < PATIENCE_MS && !bdev_exists("R"); i++)
		usleep(1000);
	assert_non_null(strstr(told(), "degraded "));
	assert_string_equal(text(0, "how"), "not there at the start");
	assert_int_equal(number(0, "slot"), 0);
}

static void test_members_differ(void **state)
{
	uint8_t other[512];

	(void)state;
	memset(other, 0xa5, sizeof(other));
	write_file(&files[1], MIB(2), other, sizeof(other));
	inproc_ok("bdev_raid_check", "{'name': 'R'}");
	wait_until_idle();
	assert_string_equal(told(), "check_finished mismatch ");
	assert_int_equal(number(1, "different_blocks"), 1);
	assert_int_equal(number(1, "repaired_blocks"), 0);
	inproc_ok("bdev_raid_check", "{'name': 'R', 'repair': true}");
	wait_until_idle();
	assert_string_equal(told(), "check_finished mismatch ");
	assert_int_equal(number(1, "repaired_blocks"), 1);
	inproc_ok("bdev_raid_check", "{'name': 'R'}");
	wait_until_idle();
	assert_string_equal(told(), "check_finished ");
}

static void test_it_grows(void **state)
{
	struct err err = ERR_NONE;

	(void)state;
	assert_int_equal(disk_resize("d0", 2 * DISK_BYTES / 512, &err), 0);
	assert_string_equal(told(), "");
	assert_int_equal(disk_resize("d1", 2 * DISK_BYTES / 512, &err), 0);
	assert_string_equal(told(), "resized ");
	assert_int_equal(number(0, "old_blocks"), (DISK_BYTES - MIB(1)) / 512);
	assert_int_equal(number(0, "new_bytes"), 2 * DISK_BYTES - MIB(1));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_a_member_is_replaced),
	        TEST(test_a_spare_is_used),
	        TEST(test_no_member_is_left),
	        TEST(test_members_differ),
	        TEST(test_it_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
