/* Resizes that fail, hang or are disturbed at every point where they can be, and what comes next.
 */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

#define LAYERS 6

static struct script scripts[LAYERS];
static struct bdev *layers[LAYERS];
static struct holder top;

static const char *const names[LAYERS] = {"l0", "l1", "l2", "l3", "l4", "l5"};

static void make_chain(void)
{
	memset(scripts, 0, sizeof(scripts));
	top = (struct holder){.agrees = true, .told = BDEV_TOLD, .clients = 1};
	layers[0] = test_leaf_make(names[0], 100, &scripts[0]);
	for (unsigned i = 1; i < LAYERS; i++)
		layers[i] = test_make(&test_pass, names[i], &scripts[i], names[i - 1], NULL);
	test_open(&top, layers[LAYERS - 1], true, "top");
}

static void remove_chain(void)
{
	test_close(&top);
	assert_int_equal(test_remove(layers[0], NULL), 0);
	assert_null(bdev_next(NULL));
}

/* Layers from `from` to `to` - 1 have this size. */
static void sizes_are(unsigned from, unsigned to, uint64_t blocks)
{
	for (unsigned i = from; i < to; i++) {
		assert_int_equal(bdev_num_blocks(layers[i]), blocks);
		assert_int_equal(layers[i]->geometry.num_blocks, blocks);
	}
}

static void report_is(const struct resized *done, uint64_t old_blocks, uint64_t new_blocks)
{
	for (unsigned i = 0; i < LAYERS; i++) {
		bool shown = bdev_num_blocks(layers[i]) == new_blocks;

		assert_int_equal(done->layers[i].old_blocks, old_blocks);
		assert_int_equal(done->layers[i].new_blocks, new_blocks);
		assert_int_equal(done->layers[i].published, shown);
	}
}

static void note_problem(
        void *arg, const struct bdev *bdev, const char *key, const char *text, const char *action)
{
	char(*out)[512] = arg;

	(void)action;
	snprintf(*out, sizeof(*out), "%s %s: %s", bdev->name, key, text);
}

static const char *problem(void)
{
	static char text[512];

	text[0] = '\0';
	bdev_for_each_problem(note_problem, &text);
	return text;
}

/* Each persist of a growing resize fails once; the same call again completes it. */
static void test_persist_fails_while_growing(void **state)
{
	(void)state;
	for (unsigned k = 0; k < LAYERS; k++) {
		struct resized done;

		make_chain();
		scripts[k].persist = PLAY_FAIL;
		scripts[k].fail_once = true;
		assert_int_equal(test_resize(layers[0], 200, &done), -EIO);
		assert_non_null(strstr(done.report.err.text, names[k]));
		assert_non_null(strstr(done.report.err.text, "script says no"));
		sizes_are(0, k, 200);
		sizes_are(k, LAYERS, 100);
		for (unsigned i = 0; i < LAYERS; i++)
			assert_int_equal(done.layers[i].published, i < k);
		assert_int_equal(top.resized, 0);
		assert_non_null(strstr(problem(), "l0 resize: "));
		assert_int_equal(test_resize(layers[0], 200, &done), 0);
		sizes_are(0, LAYERS, 200);
		assert_int_equal(top.resized, 1);
		assert_string_equal(problem(), "");
		for (unsigned i = 0; i < LAYERS; i++)
			assert_int_equal(scripts[i].persists, i == k ? 2 : 1);
		remove_chain();
	}
}

static void test_persist_fails_while_shrinking(void **state)
{
	(void)state;
	for (unsigned k = 0; k < LAYERS; k++) {
		struct resized done;

		make_chain();
		scripts[k].persist = PLAY_FAIL;
		scripts[k].fail_once = true;
		assert_int_equal(test_resize(layers[0], 50, &done), -EIO);
		sizes_are(k + 1, LAYERS, 50);
		sizes_are(0, k + 1, 100);
		report_is(&done, 100, 50);
		assert_int_equal(top.resized, k == LAYERS - 1 ? 0 : 1);
		assert_int_equal(layers[0]->own_blocks, 100);
		assert_int_equal(test_resize(layers[0], 50, &done), 0);
		sizes_are(0, LAYERS, 50);
		assert_int_equal(layers[0]->own_blocks, 50);
		assert_int_equal(top.resized, 1);
		remove_chain();
	}
}

static void test_storage_fails(void **state)
{
	struct resized done;

	(void)state;
	make_chain();
	scripts[0].fail_once = true;
	scripts[0].resize = PLAY_FAIL;
	assert_int_equal(test_resize(layers[0], 200, &done), -EIO);
	sizes_are(0, LAYERS, 100);
	assert_int_equal(scripts[0].persists, 0);
	assert_string_equal(problem(), "");
	scripts[0].resize = PLAY_FAIL;
	assert_int_equal(test_resize(layers[0], 50, &done), -EIO);
	sizes_are(0, LAYERS, 50);
	/* It may be short already, so nothing counts on more; the same call tries again. */
	assert_int_equal(layers[0]->own_blocks, 50);
	test_trace_clear();
	assert_int_equal(test_resize(layers[0], 50, &done), 0);
	assert_string_equal(test_trace, "storage l0 50; ");
	assert_int_equal(test_resize(layers[0], 50, &done), 0);
	assert_string_equal(test_trace, "storage l0 50; ");
	remove_chain();
}

/* A step that hangs fails its own transaction by the deadline; the next in the queue goes on; the
 * late answer changes nothing. */
static void test_step_hangs(void **state)
{
	(void)state;
	for (unsigned k = 0; k < LAYERS; k++) {
		struct resized done = {0}, other = {0};
		struct bdev *leaf;

		make_chain();
		leaf = test_leaf_make("other", 10, NULL);
		test_step_timeout(250);
		scripts[k].persist = PLAY_HANG;
		bdev_resize(layers[0], 200, test_resize_done, &done);
		bdev_resize(leaf, 20, test_resize_done, &other);
		wait_until(other.done);
		assert_int_equal(done.calls, 1);
		assert_int_equal(done.report.err.code, -ETIMEDOUT);
		assert_non_null(strstr(done.report.err.text, names[k]));
		assert_int_equal(other.report.err.code, 0);
		assert_int_equal(bdev_num_blocks(leaf), 20);
		sizes_are(0, k, 200);
		sizes_are(k, LAYERS, 100);
		test_step_timeout(2000);
		scripts[k].persist = PLAY_OK;
		/* What hangs is not called a second time beside it. */
		assert_int_equal(test_resize(layers[0], 200, &done), -EBUSY);
		assert_non_null(strstr(done.report.err.text, names[k]));
		assert_int_equal(scripts[k].persists, 1);
		test_let_go(&scripts[k]);
		test_rounds(3);
		sizes_are(k, LAYERS, 100);
		assert_int_equal(test_resize(layers[0], 200, &done), 0);
		sizes_are(0, LAYERS, 200);
		assert_int_equal(test_remove(leaf, NULL), 0);
		remove_chain();
	}
}

static void test_storage_hangs(void **state)
{
	struct resized done;

	(void)state;
	make_chain();
	test_step_timeout(250);
	scripts[0].resize = PLAY_HANG;
	assert_int_equal(test_resize(layers[0], 200, &done), -ETIMEDOUT);
	assert_non_null(strstr(done.report.err.text, "resizing its storage"));
	sizes_are(0, LAYERS, 100);
	test_step_timeout(2000);
	scripts[0].resize = PLAY_OK;
	/* It may still become long: nothing else is asked of it before it has said so. */
	test_trace_clear();
	assert_int_equal(test_resize(layers[0], 150, &done), -EBUSY);
	assert_int_equal(test_resize(layers[0], 100, &done), -EBUSY);
	assert_string_equal(test_trace, "");
	sizes_are(0, LAYERS, 100);
	test_let_go(&scripts[0]);
	assert_int_equal(test_resize(layers[0], 150, &done), 0);
	sizes_are(0, LAYERS, 150);
	remove_chain();
}

/* A layer is removed, and all above it, while each of the layers is being written. */
static void test_removed_meanwhile(void **state)
{
	(void)state;
	for (unsigned k = 0; k < LAYERS; k++) {
		for (unsigned victim = 0; victim < LAYERS; victim++) {
			struct resized done = {0};
			struct test_done gone;
			bool grow = (k + victim) % 2 == 0;

			make_chain();
			scripts[k].persist = PLAY_HANG;
			bdev_resize(layers[0], grow ? 200 : 50, test_resize_done, &done);
			wait_until(scripts[k].hung.fn);
			if (victim % 2)
				bdev_remove(layers[victim], test_done_init(&gone));
			else
				bdev_gone(layers[victim], "pulled");
			test_rounds(3);
			assert_int_equal(top.removed, 1);
			assert_false(done.done);
			scripts[k].persist = PLAY_OK;
			test_let_go(&scripts[k]);
			wait_until(done.done);
			assert_int_equal(done.report.err.code, -ENODEV);
			assert_non_null(strstr(done.report.err.text, "was removed while"));
			wait_until(!bdev_find(names[victim]));
			if (victim % 2)
				assert_int_equal(test_done_wait(&gone), 0);
			for (unsigned i = 0; i < victim; i++)
				assert_ptr_equal(bdev_find(names[i]), layers[i]);
			if (victim > 0) {
				assert_int_equal(test_resize(layers[0], 300, &done), 0);
				sizes_are(0, victim, 300);
				assert_int_equal(test_remove(layers[0], NULL), 0);
			}
			wait_until(!bdev_find("l0"));
			while (scripts[0].destroys == 0)
				test_turn();
			test_rounds(3);
		}
	}
}

/* What came from outside is repeated without those that have gone: nobody asks for it again. */
static void test_storage_grows_and_a_layer_goes(void **state)
{
	(void)state;
	for (unsigned victim = 1; victim < LAYERS; victim++) {
		struct resized done = {0};

		make_chain();
		scripts[0].persist = PLAY_HANG;
		bdev_storage_changed(layers[0], 200, test_resize_done, &done);
		wait_until(scripts[0].hung.fn);
		bdev_gone(layers[victim], "pulled");
		test_rounds(3);
		scripts[0].persist = PLAY_OK;
		test_let_go(&scripts[0]);
		wait_until(done.done);
		assert_int_equal(done.report.err.code, -ENODEV);
		wait_until(!bdev_find(names[victim]));
		wait_until(bdev_num_blocks(layers[victim - 1]) == 200);
		sizes_are(0, victim, 200);
		assert_int_equal(test_remove(layers[0], NULL), 0);
		wait_until(!bdev_find("l0"));
		while (scripts[0].destroys == 0)
			test_turn();
		test_rounds(3);
	}
}

static void test_removed_before_its_turn(void **state)
{
	struct resized first = {0}, second = {0};
	struct test_done gone;
	struct bdev *a = test_leaf_make("a", 100, &scripts[0]);
	struct bdev *b = test_leaf_make("b", 100, NULL);

	(void)state;
	memset(scripts, 0, sizeof(scripts));
	scripts[0].persist = PLAY_HANG;
	bdev_resize(a, 200, test_resize_done, &first);
	bdev_resize(b, 200, test_resize_done, &second);
	wait_until(scripts[0].hung.fn);
	bdev_remove(b, test_done_init(&gone));
	assert_int_equal(test_done_wait(&gone), 0);
	assert_false(second.done);
	test_let_go(&scripts[0]);
	wait_until(second.done);
	assert_int_equal(first.report.err.code, 0);
	assert_int_equal(second.report.err.code, -ENODEV);
}

/* A creation that waits for its base, and one that is half done, while the base grows. */
static void test_creation_meanwhile(void **state)
{
	static struct script leaf = {.persist = PLAY_HANG}, pass = {0};
	struct test_done done_examine;
	struct resized done = {0};
	struct err err;
	struct bdev *l = test_leaf_make("leaf", 100, &leaf);
	struct bdev_spec spec = test_spec(&test_part, "part");
	const char *base = "leaf";

	(void)state;
	spec.bases = &base;
	spec.num_bases = 1;
	bdev_resize(l, 200, test_resize_done, &done);
	wait_until(leaf.hung.fn);
	/* Made while the base is being resized, visible when that is over: with the new size. */
	leaf.persist = PLAY_OK;
	spec.wait_for_bases = true;
	spec.name = "later";
	const char *absent = "part";

	spec.bases = &absent;
	assert_null(test_try_create(&spec, &pass, &err));
	assert_int_equal(err.code, 0);
	spec.bases = &base;
	spec.name = "part";
	static struct script part = {0};
	struct bdev *made;

	test_let_go(&leaf);
	made = test_try_create(&spec, &part, &err);
	assert_non_null(made);
	assert_true(done.done);
	assert_int_equal(bdev_num_blocks(made), 200);
	bdev_wait_for_examine(test_done_init(&done_examine));
	test_done_wait(&done_examine);
	assert_non_null(bdev_find("later"));
	assert_int_equal(bdev_num_blocks(bdev_find("later")), 200);
}

static struct bdev *created_bdev;
static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	(void)arg;
	assert_null(err);
	created_bdev = bdev;
}

/* The base changes while a bdev on it comes online: it follows before anybody sees it. */
static void test_base_grows_under_a_creation(void **state)
{
	static struct script slow = {.online = PLAY_HANG};
	struct resized done;
	struct bdev *l = test_leaf_make("leaf", 100, NULL);
	struct test_params params = {&slow, TEST_PARAMS_SECRET};
	struct bdev_spec spec = test_spec(&test_pass, "pass");
	const char *base = "leaf";

	(void)state;
	spec.bases = &base;
	spec.num_bases = 1;
	spec.params = &params;
	spec.params_bytes = sizeof(params);
	created_bdev = NULL;
	bdev_create(&spec, created, NULL);
	wait_until(slow.hung.fn);
	assert_int_equal(test_resize(l, 50, &done), -EBUSY);
	assert_non_null(strstr(done.report.err.text, "t_pass 'pass' is being created on it"));
	assert_int_equal(test_resize(l, 300, &done), 0);
	assert_int_equal(done.report.num_layers, 1);
	test_let_go(&slow);
	wait_until(created_bdev);
	assert_int_equal(bdev_num_blocks(created_bdev), 300);
	assert_int_equal(slow.persists, 1);
	assert_string_equal(created_bdev->geometry.why, "same as base 'leaf'");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_persist_fails_while_growing),
	        TEST(test_persist_fails_while_shrinking),
	        TEST(test_storage_fails),
	        TEST(test_step_hangs),
	        TEST(test_storage_hangs),
	        TEST(test_removed_meanwhile),
	        TEST(test_storage_grows_and_a_layer_goes),
	        TEST(test_removed_before_its_turn),
	        TEST(test_creation_meanwhile),
	        TEST(test_base_grows_under_a_creation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
