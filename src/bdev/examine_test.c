/* Examine, events, problems and metadata: what modules and the command see of the core. */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

/* ---- examine ---- */

static struct bdev_done hung;
static bool hang, claims, fails;
static unsigned running, most;

static void made(void *arg, struct bdev *bdev, const struct err *err)
{
	struct bdev_done *done = arg;

	assert_true(bdev || err);
	bdev_done_call(*done, err);
	free(done);
}

static void note_examine(const struct bdev_module *module, struct bdev *bdev)
{
	test_trace_add("%s %s; ", module->name, bdev->name);
}

static void examine_end(struct bdev_done done)
{
	running--;
	bdev_done_call(done, NULL);
}

static struct bdev_module z_second, a_first;

static void first_examine(struct bdev *bdev, struct bdev_done done)
{
	struct err err = ERR_NONE;

	note_examine(&a_first, bdev);
	running++;
	most = running > most ? running : most;
	if (hang) {
		hung = done;
		running--;
		return;
	}
	if (fails) {
		err_set(&err, -EILSEQ, "garbled");
		running--;
		bdev_done_call(done, &err);
		return;
	}
	if (claims && bdev->num_bases == 0) {
		const char *base = bdev->name;
		autofree char *name = xasprintf("%s-found", bdev->name);
		struct bdev_spec spec = {
		        .module = &a_first, .name = name, .bases = &base, .num_bases = 1};
		struct bdev_done *copy = xcalloc(1, sizeof(*copy));

		*copy = done;
		running--;
		bdev_create(&spec, made, copy);
		return;
	}
	examine_end(done);
}

static void second_examine(struct bdev *bdev, struct bdev_done done)
{
	note_examine(&z_second, bdev);
	running++;
	examine_end(done);
}

static struct bdev_module a_first = {
        .name = "a_first", .bases_min = 1, .bases_max = 1, .examine = first_examine};
static struct bdev_module z_second = {
        .name = "z_second", .bases_min = 1, .bases_max = 1, .examine = second_examine};
BDEV_MODULE(z_second);
BDEV_MODULE(a_first);

static void settle(void)
{
	struct test_done done;

	bdev_wait_for_examine(test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
}

static int setup(void **state)
{
	hang = claims = fails = false;
	hung.fn = NULL;
	return test_setup(state);
}

static void test_each_module_in_order(void **state)
{
	(void)state;
	settle(); /* nothing to wait for */
	test_leaf_make("a", 100, NULL);
	settle();
	assert_string_equal(test_trace, "a_first a; z_second a; ");
	fails = true;
	test_trace_clear();
	test_leaf_make("b", 100, NULL);
	settle();
	assert_string_equal(test_trace, "a_first b; z_second b; ");
}

static void test_claimed_ends_it(void **state)
{
	(void)state;
	claims = true;
	test_leaf_make("a", 100, NULL);
	settle();
	assert_non_null(bdev_find("a-found"));
	/* What was found is examined too, and the wait covers it. */
	assert_string_equal(test_trace, "a_first a; a_first a-found; z_second a-found; ");
}

static void test_it_hangs(void **state)
{
	struct bdev *a;

	(void)state;
	hang = true;
	test_step_timeout(250);
	a = test_leaf_make("a", 100, NULL);
	settle();
	assert_string_equal(test_trace, "a_first a; z_second a; ");
	/* Not freed under the module's feet. */
	assert_int_equal(test_remove(a, NULL), -ETIMEDOUT);
	bdev_done_call(hung, NULL);
	test_rounds(3);
	hang = false;
	test_leaf_make("a", 100, NULL);
}

static void test_by_name(void **state)
{
	struct err err = ERR_NONE;

	(void)state;
	assert_int_equal(bdev_examine_by_name("a", &err), -EINVAL);
	bdev_options()->auto_examine = false;
	test_leaf_make("a", 100, NULL);
	test_leaf_make("b", 100, NULL);
	settle();
	assert_string_equal(test_trace, "");
	assert_int_equal(bdev_examine_by_name("a", &err), 0);
	assert_int_equal(bdev_examine_by_name("a", &err), -EEXIST);
	assert_int_equal(bdev_examine_by_name("", &err), -EINVAL);
	assert_int_equal(bdev_examine_by_name("later", &err), 0);
	settle();
	assert_string_equal(test_trace, "a_first a; z_second a; ");
	test_trace_clear();
	test_leaf_make("later", 100, NULL);
	settle();
	assert_string_equal(test_trace, "a_first later; z_second later; ");
	assert_string_equal(bdev_examine_allowed(1), "later");
	assert_null(bdev_examine_allowed(2));
}

/* ---- events ---- */

static uint64_t seen[4096];
static unsigned num_seen;

static bool see(void *arg, const struct bdev_event *event)
{
	(void)arg;
	seen[num_seen++] = event->id;
	return num_seen < 2000;
}

static struct bdev_subscription *own;
static unsigned own_calls;

static void unsubscribes(void *arg, const struct bdev_event *event)
{
	(void)arg;
	own_calls++;
	assert_string_equal(event->type, "first");
	bdev_unsubscribe(own);
	bdev_event_raise("second", "x", NULL);
}

static void test_events_are_kept(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1500; i++)
		bdev_event_raise("test", "x", json_pack("{s:i}", "n", i));
	num_seen = 0;
	bdev_events_since(0, see, NULL);
	assert_int_equal(num_seen, 1024);
	assert_int_equal(seen[1023] - seen[0], 1023);
	num_seen = 0;
	bdev_events_since(seen[1023] - 1, see, NULL);
	assert_int_equal(num_seen, 2);
	num_seen = 0;
	bdev_events_since(seen[1] + 1, see, NULL);
	assert_int_equal(num_seen, 0);
	num_seen = 1999;
	bdev_events_since(0, see, NULL);
	assert_int_equal(num_seen, 2000);
}

static void test_subscriptions(void **state)
{
	(void)state;
	own_calls = 0;
	bdev_event_raise("earlier", "x", NULL);
	own = bdev_subscribe(unsubscribes, NULL);
	bdev_event_raise("first", "x", NULL);
	assert_int_equal(own_calls, 0);
	test_rounds(2);
	assert_int_equal(own_calls, 1);
	assert_string_equal(test_events(), "earlier x; first x; second x; ");
}

static json_t *detail;
static bool keep_resize(void *arg, const struct bdev_event *event)
{
	(void)arg;
	if (strcmp(event->type, "bdev_resize") == 0)
		detail = json_incref(event->detail);
	return true;
}

static void test_event_of_a_resize(void **state)
{
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);

	(void)state;
	detail = NULL;
	assert_int_equal(test_resize(leaf, 200, NULL), 0);
	bdev_events_since(1, keep_resize, NULL);
	assert_int_equal(json_integer_value(json_object_get(detail, "old_blocks")), 100);
	assert_int_equal(json_integer_value(json_object_get(detail, "new_blocks")), 200);
	assert_int_equal(json_integer_value(json_object_get(detail, "old_bytes")), 51200);
	assert_int_equal(json_integer_value(json_object_get(detail, "new_bytes")), 102400);
	assert_string_equal(json_string_value(json_object_get(detail, "why")), "its own size");
	assert_string_equal(json_string_value(json_object_get(detail, "cause")),
	        "'leaf' was asked to have 100 KiB");
	json_decref(detail);
}

/* ---- problems ---- */

static char problems[256];
static void note_problem(
        void *arg, const struct bdev *bdev, const char *key, const char *text, const char *action)
{
	size_t len = strlen(problems);

	(void)arg;
	snprintf(problems + len, sizeof(problems) - len, "%s/%s/%s/%s; ", bdev->name, key, text,
	        action);
}

static const char *problem_list(void)
{
	problems[0] = '\0';
	bdev_for_each_problem(note_problem, NULL);
	return problems;
}

static void test_problems(void **state)
{
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);

	(void)state;
	bdev_set_problem(leaf, "disk", "it is slow", "replace it");
	bdev_set_problem(leaf, "cable", "it is loose", NULL);
	bdev_set_problem(leaf, "disk", "it is dead", "replace it now");
	assert_string_equal(
	        problem_list(), "leaf/cable/it is loose/; leaf/disk/it is dead/replace it now; ");
	bdev_set_problem(leaf, "cable", NULL, NULL);
	bdev_set_problem(leaf, "other", NULL, NULL);
	assert_string_equal(problem_list(), "leaf/disk/it is dead/replace it now; ");
}

/* ---- metadata ---- */

static void test_metadata(void **state)
{
	struct test_done done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	autofree void *buf = try_alloc_aligned(4096, 4096);

	(void)state;
	bdev_read_meta(pass, 0, 8, buf, test_done_init(&done));
	assert_false(done.done);
	assert_int_equal(test_done_wait(&done), 0);
	bdev_write_meta(leaf, 92, 8, buf, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	assert_int_equal(leaf->loops[0].stats[BIO_WRITE].ops, 1);
	assert_int_equal(leaf->loops[0].stats[BIO_FLUSH].ops, 1);
	bdev_read_meta(leaf, 93, 8, buf, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EINVAL);
	assert_non_null(strstr(done.err.text, "'leaf': reading 8 blocks at block 93 failed"));
	bdev_write_meta(leaf, UINT64_MAX, 8, buf, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EINVAL);
}

/* Metadata that is being read keeps its bdev from being freed. */
static void test_metadata_meanwhile(void **state)
{
	static struct script script = {.hold_bios = true};
	struct test_done done, gone;
	struct bdev *leaf;
	autofree void *buf = try_alloc_aligned(4096, 4096);

	(void)state;
	bdev_options()->auto_examine = false; /* nobody else is to read */
	leaf = test_leaf_make("leaf", 100, &script);
	bdev_read_meta(leaf, 0, 8, buf, test_done_init(&done));
	poll_until(test_bios_held() == 1);
	bdev_remove(leaf, test_done_init(&gone));
	test_rounds(5);
	assert_false(gone.done);
	test_let_go_bios();
	assert_int_equal(test_done_wait(&done), 0);
	assert_int_equal(test_done_wait(&gone), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_each_module_in_order),
	        TEST(test_claimed_ends_it),
	        TEST(test_it_hangs),
	        TEST(test_by_name),
	        TEST(test_events_are_kept),
	        TEST(test_subscriptions),
	        TEST(test_event_of_a_resize),
	        TEST(test_problems),
	        TEST(test_metadata),
	        TEST(test_metadata_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
