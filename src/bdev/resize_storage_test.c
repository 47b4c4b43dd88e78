/* Storage that has changed its size by itself: growth is taken up, shrinkage is a fact. */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

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

static void test_growth_is_taken_up(void **state)
{
	static struct script pass_script = {0};
	struct holder top = {.told = BDEV_TOLD};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	test_open(&top, pass, true, "top");
	test_trace_clear();
	assert_int_equal(test_storage(leaf, 200, &done), 0);
	assert_string_equal(test_trace,
	        "persist leaf 200; resized leaf 100>200; persist pass 200; resized pass 100>200; "
	        "told top 200; ");
	assert_int_equal(leaf->own_blocks, 200);
	assert_int_equal(test_storage(leaf, 200, &done), 0);
	assert_int_equal(top.resized, 1);
	test_close(&top);
}

/* Refused growth is remembered, shown, and taken up when the reason is gone. */
static void test_refused_growth_comes_later(void **state)
{
	static struct script pass_script = {.may_resize_refuses = true};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	assert_int_equal(test_storage(leaf, 200, &done), -EAGAIN);
	assert_int_equal(bdev_num_blocks(leaf), 100);
	assert_string_equal(problem(), "leaf resize: t_pass 'pass' refuses: a rebuild is running");
	assert_int_equal(test_geometry(leaf, &done), -EAGAIN);
	pass_script.may_resize_refuses = false;
	assert_int_equal(test_geometry(pass, &done), 0);
	wait_until(bdev_num_blocks(pass) == 200);
	wait_until(problem()[0] == '\0');
}

static void test_shrinkage_asks_nobody(void **state)
{
	static struct script leaf_script = {0}, pass_script = {.may_resize_refuses = true};
	struct holder top = {.told = BDEV_TOLD, .clients = 2};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, &leaf_script);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	test_open(&top, pass, true, "top");
	test_trace_clear();
	test_events();
	assert_int_equal(test_storage(leaf, 40, &done), 0);
	assert_string_equal(test_trace,
	        "persist pass 40; resized pass 100>40; persist leaf 40; resized leaf 100>40; "
	        "told top 40; ");
	assert_int_equal(top.asked, 0);
	assert_int_equal(top.old_blocks, 100);
	assert_int_equal(resized_layer(&done, "pass")->holders_told, 2);
	assert_string_equal(test_events(), "bdev_resize pass; bdev_resize leaf; ");
	assert_non_null(strstr(problem(), "leaf storage: "));
	assert_int_equal(test_storage(leaf, 100, &done), -EAGAIN);
	pass_script.may_resize_refuses = false;
	assert_int_equal(test_storage(leaf, 100, &done), 0);
	assert_int_equal(bdev_num_blocks(pass), 100);
	assert_string_equal(problem(), "");
	test_close(&top);
}

/* What can't be written or waited for doesn't keep a fact from being shown. */
static void test_shrinkage_goes_on(void **state)
{
	static struct script leaf_script = {.persist = PLAY_FAIL},
	                     pass_script = {.persist = PLAY_HANG};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, &leaf_script);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	test_step_timeout(250);
	assert_int_equal(test_storage(leaf, 40, &done), 0);
	assert_int_equal(bdev_num_blocks(leaf), 40);
	assert_int_equal(bdev_num_blocks(pass), 40);
	assert_non_null(strstr(problem(), "resize: "));
	pass_script.persist = PLAY_OK;
	leaf_script.persist = PLAY_OK;
	test_let_go(&pass_script);
	/* What could not be written is owed, and written with the next transaction. */
	test_trace_clear();
	assert_int_equal(test_geometry(leaf, &done), 0);
	assert_string_equal(test_trace, "persist leaf 40; persist pass 40; ");
	assert_null(strstr(problem(), " resize: "));
	assert_int_equal(test_storage(leaf, 50, &done), 0);
	assert_int_equal(bdev_num_blocks(pass), 50);
}

/* A held bdev gives way to a fact, and has its size again when it is possible. */
static void test_hold_gives_way(void **state)
{
	struct resized done;
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);

	(void)state;
	assert_int_equal(bdev_set_policy(pass, BDEV_HOLD, &err), 0);
	assert_int_equal(test_storage(leaf, 40, &done), 0);
	assert_int_equal(bdev_num_blocks(pass), 40);
	assert_string_equal(
	        pass->geometry.why, "held at 50 KiB, but no more is left: same as base 'leaf'");
	assert_int_equal(test_storage(leaf, 60, &done), 0);
	assert_int_equal(bdev_num_blocks(pass), 60);
	assert_int_equal(test_resize(leaf, 50, &done), -EBUSY);
	assert_int_equal(test_storage(leaf, 200, &done), 0);
	assert_int_equal(bdev_num_blocks(pass), 100);
	assert_string_equal(pass->geometry.why, "held at 50 KiB by policy; it could have 100 KiB");
}

/* With redundancy: the base that has become too small is let go of; the rest lives on. */
static void test_redundant_layer_drops_the_base(void **state)
{
	static struct script min_script = {.geometry_min_blocks = 90}, pass_script = {0};
	struct holder top = {.told = BDEV_TOLD};
	struct resized done;
	struct bdev *a = test_leaf_make("a", 100, NULL);
	struct bdev *b = test_leaf_make("b", 120, NULL);
	struct bdev *pa = test_make(&test_pass, "pa", &pass_script, "a", NULL);
	struct bdev *min = test_make(&test_min, "min", &min_script, "pa", "b", NULL);

	(void)state;
	test_open(&top, min, true, "top");
	test_trace_clear();
	test_events();
	assert_int_equal(test_storage(a, 50, &done), 0);
	assert_int_equal(bdev_num_blocks(a), 50);
	assert_int_equal(bdev_num_blocks(pa), 50);
	wait_until(bdev_num_blocks(min) == 120);
	assert_null(min->bases[0]);
	assert_ptr_equal(min->bases[1], b);
	assert_false(bdev_is_claimed(pa));
	assert_int_equal(top.resized, 1);
	assert_int_equal(top.removed, 0);
	assert_non_null(strstr(test_events(), "bdev_base_lost min; "));
	assert_non_null(strstr(test_trace, "lost min 0; "));
	test_close(&top);
}

/* Without: it goes, with all above it; what is below stays. */
static void test_other_layer_goes(void **state)
{
	static struct script sum_script = {.geometry_min_blocks = 180}, leaf_script = {0};
	struct holder top = {0}, low = {.told = BDEV_TOLD};
	struct resized done;
	struct bdev *a = test_leaf_make("a", 100, &leaf_script);

	(void)state;
	test_leaf_make("b", 100, NULL);
	test_make(&test_pass, "pa", NULL, "a", NULL);
	test_make(&test_sum, "sum", &sum_script, "pa", "b", NULL);
	test_open(&top, test_make(&test_pass, "top", NULL, "sum", NULL), true, "top");
	test_open(&low, a, false, "low");
	assert_int_equal(test_storage(a, 50, &done), 0);
	assert_int_equal(resized_layer(&done, "sum")->new_blocks, 0);
	assert_non_null(strstr(resized_layer(&done, "sum")->refused, "it needs 180 blocks"));
	assert_false(resized_layer(&done, "sum")->published);
	assert_null(bdev_find("sum"));
	assert_null(bdev_find("top"));
	assert_int_equal(bdev_num_blocks(bdev_find("pa")), 50);
	wait_until(!bdev_is_claimed(bdev_find("pa")));
	assert_int_equal(top.removed, 1);
	assert_int_equal(low.resized, 1);
	test_close(&low);
}

/* A part at the end of the base is lost; its brother in front is not. */
static void test_parts(void **state)
{
	struct resized done;
	struct err err;
	const char *base = "leaf";
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev_spec spec = test_spec(&test_part, "small");

	(void)state;
	spec.bases = &base;
	spec.num_bases = 1;
	spec.own_blocks = 30;
	assert_non_null(test_try_create(&spec, NULL, &err));
	spec.name = "large";
	spec.own_blocks = 90;
	assert_non_null(test_try_create(&spec, NULL, &err));
	assert_int_equal(test_storage(leaf, 50, &done), 0);
	assert_null(bdev_find("large"));
	assert_int_equal(bdev_num_blocks(bdev_find("small")), 30);
	assert_int_equal(bdev_num_blocks(leaf), 50);
}

static void test_empty_storage_is_a_removal(void **state)
{
	struct holder top = {0};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);

	(void)state;
	test_open(&top, pass, true, "top");
	assert_int_equal(test_storage(leaf, 0, &done), 0);
	assert_null(bdev_find("leaf"));
	assert_null(bdev_find("pass"));
	wait_until(top.removed == 1);
}

static void test_too_large(void **state)
{
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);

	(void)state;
	assert_int_equal(test_storage(leaf, UINT64_MAX, &done), -EFBIG);
	assert_int_equal(bdev_num_blocks(leaf), 100);
	assert_int_equal(test_storage(leaf, 100, &done), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_growth_is_taken_up),
	        TEST(test_refused_growth_comes_later),
	        TEST(test_shrinkage_asks_nobody),
	        TEST(test_shrinkage_goes_on),
	        TEST(test_hold_gives_way),
	        TEST(test_redundant_layer_drops_the_base),
	        TEST(test_other_layer_goes),
	        TEST(test_parts),
	        TEST(test_empty_storage_is_a_removal),
	        TEST(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
