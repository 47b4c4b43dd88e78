/* Removal: in which order, who is told, who lives on, and what happens to who does not let go. */
#include <errno.h>

#include "bdev/control.h"
#include "tests/lib/bdev_testing.h"

static void test_top_goes_first(void **state)
{
	static struct script script = {0};
	struct holder top = {0}, low = {0};
	struct bdev *leaf = test_leaf_make("leaf", 100, &script);

	(void)state;
	test_make(&test_pass, "mid", &script, "leaf", NULL);
	test_open(&top, test_make(&test_pass, "top", &script, "mid", NULL), true, "h-top");
	test_open(&low, leaf, false, "h-low");
	test_trace_clear();
	test_events();
	assert_int_equal(test_remove(leaf, NULL), 0);
	assert_string_equal(test_trace, "removed h-top; removed h-low; destroy top; destroy mid; "
	                                "destroy leaf; ");
	assert_int_equal(top.removed, 1);
	test_rounds(1);
	assert_string_equal(
	        test_events(), "bdev_unregister top; bdev_unregister mid; bdev_unregister leaf; ");
	assert_true(script.frees_params);
	assert_null(bdev_next(NULL));
	/* As the reference: a base that is deleted takes what stands on it along, for good. */
	test_leaf_make("leaf", 100, NULL);
	test_rounds(5);
	assert_null(bdev_find("mid"));
}

static void test_only_what_stands_on_it(void **state)
{
	static struct script script = {0};
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL), *mid;

	(void)state;
	mid = test_make(&test_part, "mid", &script, "leaf", NULL);
	test_make(&test_part, "brother", &script, "leaf", NULL);
	test_make(&test_pass, "top", &script, "mid", NULL);
	assert_int_equal(test_remove(mid, NULL), 0);
	assert_null(bdev_find("top"));
	assert_non_null(bdev_find("brother"));
	assert_ptr_equal(bdev_find("leaf"), leaf);
	assert_ptr_equal(bdev_parent(leaf, 0), bdev_find("brother"));
	assert_null(bdev_parent(leaf, 1));
}

static void test_holder_that_keeps(void **state)
{
	struct holder top = {.keeps = true};
	struct test_done first, second;
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL), *pass;
	struct holder other = {0}, late = {0};

	(void)state;
	pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	test_open(&top, pass, true, "nbd export 'x'");
	test_open(&other, pass, false, "other");
	test_step_timeout(250);
	bdev_remove(leaf, test_done_init(&first));
	assert_null(bdev_find("leaf"));
	assert_null(bdev_find("pass"));
	assert_int_equal(test_try_open(&late, pass, false, "late", &err), -ENODEV);
	assert_int_equal(test_done_wait(&first), -ETIMEDOUT);
	assert_non_null(strstr(first.err.text, "nbd export 'x' has not let go of 'pass'"));
	bdev_remove(leaf, test_done_init(&second));
	test_step_timeout(2000);
	assert_int_equal(top.removed, 1);
	test_close(&top);
	assert_int_equal(test_done_wait(&second), 0);
	assert_int_equal(top.removed, 1);
	test_leaf_make("leaf", 10, NULL);
}

static void test_slow_destroy(void **state)
{
	static struct script script = {.destroy = PLAY_HANG};
	struct err err;
	struct bdev *leaf = test_leaf_make("leaf", 100, &script);

	(void)state;
	test_step_timeout(250);
	assert_int_equal(test_remove(leaf, &err), -ETIMEDOUT);
	assert_null(bdev_find("leaf"));
	wait_until(script.hung.fn);
	assert_int_equal(test_remove(leaf, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "'leaf' has not finished"));
	test_let_go(&script);
	test_rounds(3);
	test_leaf_make("leaf", 100, NULL);
}

/* ---- what is gone by itself ---- */

static void test_gone_and_back(void **state)
{
	static struct script script = {0};
	struct bdev_spec spec = test_spec(&test_pass, "pass");
	const char *base = "leaf";
	struct test_done done;
	struct holder top = {0};
	struct err err;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	uuid_t uuid;

	(void)state;
	uuid_copy(uuid, leaf->uuid);
	spec.bases = &base;
	spec.num_bases = 1;
	spec.wait_for_bases = true;
	test_open(&top, test_try_create(&spec, &script, &err), true, "top");
	bdev_gone(leaf, "pulled");
	bdev_gone(leaf, "pulled");
	assert_null(bdev_find("pass"));
	wait_until(script.destroys == 1);
	test_rounds(5);
	assert_int_equal(top.removed, 1);
	assert_false(script.frees_params);
	/* A creation that may wait for its base waits for it again. */
	test_leaf_make("leaf", 200, NULL);
	bdev_wait_for_examine(test_done_init(&done));
	test_done_wait(&done);
	assert_int_equal(bdev_num_blocks(bdev_find("pass")), 200);
	/* Deleted on purpose, it stays away. */
	assert_int_equal(test_remove(bdev_find("leaf"), NULL), 0);
	assert_true(script.frees_params);
	test_leaf_make("leaf", 300, NULL);
	bdev_wait_for_examine(test_done_init(&done));
	test_done_wait(&done);
	assert_null(bdev_find("pass"));
}

/* The storage below everything goes, and all with it. */
static void pull(struct bdev *leaf)
{
	bdev_gone(leaf, "pulled");
	wait_until(bdevs.alive == 0);
}

static struct bdev *put_back(uint64_t num_blocks)
{
	struct bdev *leaf = test_leaf_make("leaf", num_blocks, NULL);
	struct test_done done;

	bdev_wait_for_examine(test_done_init(&done));
	test_done_wait(&done);
	return leaf;
}

/* What is held stays held when its base goes and comes back, and nobody above sees another size. */
static void test_hold_outlives_the_base(void **state)
{
	struct bdev_spec spec = test_spec(&test_pass, "pass"), above = test_spec(&test_pass, "top");
	const char *base = "leaf", *pass_name = "pass";
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL), *pass;

	(void)state;
	spec.bases = &base;
	above.bases = &pass_name;
	spec.num_bases = above.num_bases = 1;
	spec.wait_for_bases = above.wait_for_bases = true;
	pass = test_try_create(&spec, NULL, &err);
	test_try_create(&above, NULL, &err);
	assert_int_equal(bdev_set_policy(pass, BDEV_HOLD, &err), 0);
	for (unsigned i = 0; i < 2; i++) { /* also right after it was asked for */
		pull(leaf);
		leaf = put_back(200);
		pass = bdev_find("pass");
		assert_int_equal(bdev_num_blocks(pass), 100);
		assert_int_equal(bdev_get_policy(pass), BDEV_HOLD);
		assert_string_equal(
		        pass->geometry.why, "held at 50 KiB by policy; it could have 100 KiB");
		assert_int_equal(bdev_num_blocks(bdev_find("top")), 100);
	}
	/* While it waits, the policy can be changed as well; less than was held is taken. */
	pull(leaf);
	assert_int_equal(bdev_waiting_set_policy("pass", BDEV_HOLD, 0, &err), -EINVAL);
	assert_int_equal(bdev_waiting_set_policy("nobody", BDEV_HOLD, 9, &err), -ENODEV);
	assert_int_equal(bdev_waiting_set_policy("pass", BDEV_HOLD, 150, &err), 0);
	leaf = put_back(120);
	assert_int_equal(bdev_num_blocks(bdev_find("top")), 120);
	assert_int_equal(bdev_get_policy(bdev_find("pass")), BDEV_HOLD);
	pull(leaf);
	assert_int_equal(bdev_waiting_set_policy("pass", BDEV_FOLLOW, 0, &err), 0);
	put_back(130);
	assert_int_equal(bdev_num_blocks(bdev_find("top")), 130);
	assert_int_equal(bdev_get_policy(bdev_find("pass")), BDEV_FOLLOW);
}

/* ---- members ---- */

static void test_member_is_lost_and_returns(void **state)
{
	static struct script script = {0};
	struct holder top = {.told = BDEV_TOLD};
	struct bdev *a = test_leaf_make("a", 100, NULL);
	struct bdev *min;

	(void)state;
	test_leaf_make("b", 120, NULL);
	min = test_make(&test_min, "min", &script, "a", "b", NULL);
	test_open(&top, min, true, "top");
	bdev_gone(a, "pulled");
	wait_until(!min->bases[0] && bdev_num_blocks(min) == 120);
	wait_until(top.resized == 1);
	assert_int_equal(top.removed, 0);
	assert_null(bdev_find("a"));
	/* Too small: its return would shrink what is in use. */
	a = test_leaf_make("a", 119, NULL);
	test_rounds(5);
	assert_null(min->bases[0]);
	assert_false(bdev_is_claimed(a));
	assert_int_equal(test_remove(a, NULL), 0);
	test_leaf_make("a", 120, NULL);
	wait_until(min->bases[0]);
	test_rounds(5);
	assert_true(bdev_is_claimed(bdev_find("a")));
	assert_string_equal(min->geometry.why, "from 2 bases of the same size");
	/* Deleted by a user: the same. */
	assert_int_equal(test_remove(bdev_find("a"), NULL), 0);
	assert_null(min->bases[0]);
	assert_non_null(strstr(test_trace, "lost min 0; "));
	/* The last one can't be lost. */
	script.base_lost = PLAY_FAIL;
	assert_int_equal(test_remove(bdev_find("b"), NULL), 0);
	assert_null(bdev_find("min"));
	assert_int_equal(top.removed, 1);
}

static void test_member_is_refused(void **state)
{
	static struct script script = {.base_returned = PLAY_FAIL};
	struct test_done done;
	struct bdev *a = test_leaf_make("a", 100, NULL), *min;

	(void)state;
	test_leaf_make("b", 100, NULL);
	min = test_make(&test_min, "min", &script, "a", "b", NULL);
	assert_int_equal(test_remove(a, NULL), 0);
	a = test_leaf_make("a", 100, NULL);
	bdev_wait_for_examine(test_done_init(&done));
	test_done_wait(&done);
	wait_until(!bdev_is_claimed(a));
	assert_null(min->bases[0]);
	assert_ptr_equal(min->bases[1], bdev_find("b"));
}

/* The module does not answer: the member is gone all the same, and the bdev with it. */
static void test_member_hangs(void **state)
{
	static struct script script = {.base_lost = PLAY_HANG};
	struct err err;
	struct bdev *a = test_leaf_make("a", 100, NULL);

	(void)state;
	test_leaf_make("b", 100, NULL);
	test_make(&test_min, "min", &script, "a", "b", NULL);
	test_step_timeout(250);
	assert_int_equal(test_remove(a, &err), -ETIMEDOUT);
	wait_until(!bdev_find("min"));
	assert_non_null(bdev_find("b"));
	assert_int_equal(script.destroys, 0);
	test_let_go(&script);
	wait_until(script.destroys == 1);
	wait_until(!bdev_is_claimed(bdev_find("b")));
}

static void test_created_without_a_member(void **state)
{
	const char *bases[] = {"a", "b"};
	struct bdev_spec spec = test_spec(&test_min, "min");
	struct test_done done;
	struct err err;
	struct bdev *min;

	(void)state;
	test_leaf_make("b", 100, NULL);
	spec.bases = bases;
	spec.num_bases = 2;
	spec.without_absent = true;
	min = test_try_create(&spec, NULL, &err);
	assert_null(min->bases[0]);
	test_leaf_make("a", 100, NULL);
	bdev_wait_for_examine(test_done_init(&done));
	test_done_wait(&done);
	assert_ptr_equal(min->bases[0], bdev_find("a"));
	assert_non_null(strstr(test_trace, "returned min 0; "));
}

static void test_attach_and_detach(void **state)
{
	const char *bases[] = {"a", NULL, NULL};
	struct bdev_spec spec = test_spec(&test_min, "min");
	struct test_done done;
	struct err err;
	struct bdev *min, *top, *deep, *a = test_leaf_make("a", 100, NULL);

	(void)state;
	spec.bases = bases;
	spec.num_bases = 3;
	min = test_try_create(&spec, NULL, &err);
	top = test_make(&test_pass, "top", NULL, "min", NULL);
	test_leaf_make("b", 100, NULL);
	test_make(&test_pass, "b1", NULL, "b", NULL);
	test_make(&test_pass, "b2", NULL, "b1", NULL);
	deep = test_make(&test_pass, "b3", NULL, "b2", NULL);
	assert_int_equal(min->rank, 1);
	bdev_base_attach(min, 1, deep, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	assert_ptr_equal(min->bases[1], deep);
	assert_int_equal(min->rank, 4);
	assert_int_equal(top->rank, 5);
	assert_int_equal(top->frames, 6);
	assert_string_equal(bdev_get_spec(min)->bases[1], "b3");
	bdev_base_attach(min, 1, test_leaf_make("c", 100, NULL), test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EEXIST);
	bdev_base_attach(min, 2, top, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -ELOOP);
	bdev_base_attach(min, 2, a, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EPERM);
	bdev_base_attach(min, 3, a, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EEXIST);
	bdev_base_detach(min, 2, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -ENODEV);
	bdev_base_detach(top, 0, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EOPNOTSUPP);
	bdev_base_detach(min, 0, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	assert_null(min->bases[0]);
	assert_false(bdev_is_claimed(a));
	assert_null(bdev_get_spec(min)->bases[0]);
	/* Taken out on purpose, it is not offered when it comes again. */
	assert_int_equal(test_remove(a, NULL), 0);
	test_leaf_make("a", 100, NULL);
	test_rounds(5);
	assert_null(min->bases[0]);
}

static void test_attach_too_deep(void **state)
{
	char name[16], base[16] = "x";
	const char *bases[] = {"a", NULL};
	struct bdev_spec spec = test_spec(&test_min, "min");
	struct test_done done;
	struct err err;
	struct bdev *min, *x;

	(void)state;
	test_leaf_make("a", 100, NULL);
	spec.bases = bases;
	spec.num_bases = 2;
	min = test_try_create(&spec, NULL, &err);
	str_copy(base, sizeof(base), "min");
	for (unsigned i = 3; i <= BIO_FRAMES_MAX - 1; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		test_make(&test_pass, name, NULL, base, NULL);
		str_copy(base, sizeof(base), name);
	}
	test_leaf_make("y", 100, NULL);
	x = test_make(&test_pass, "x", NULL, "y", NULL);
	bdev_base_attach(min, 1, x, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	bdev_base_detach(min, 1, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	x = test_make(&test_pass, "x2", NULL, "x", NULL);
	bdev_base_attach(min, 1, x, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EMLINK);
	assert_false(bdev_is_claimed(x));
}

static void test_one_base_more(void **state)
{
	static struct script script = {0};
	struct holder top = {.told = BDEV_TOLD};
	struct test_done done, second;
	struct bdev *min, *a = test_leaf_make("a", 100, NULL), *deep;
	struct bdev *d = test_leaf_make("d", 100, NULL);

	(void)state;
	test_leaf_make("b", 100, NULL);
	min = test_make(&test_min, "min", &script, "a", "b", NULL);
	test_open(&top, min, true, "top");
	bdev_base_add(min, test_leaf_make("small", 99, NULL), test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -ENOSPC);
	bdev_base_add(min, a, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -EPERM);
	bdev_base_add(min, min, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -ELOOP);
	assert_int_equal(min->num_bases, 2);
	test_leaf_make("c", 120, NULL);
	deep = test_make(&test_pass, "deep", NULL, "c", NULL);
	bdev_base_add(min, deep, test_done_init(&done));
	bdev_base_add(min, d, test_done_init(&second));
	assert_int_equal(test_done_wait(&second), -EBUSY);
	assert_int_equal(test_done_wait(&done), 0);
	assert_int_equal(min->num_bases, 3);
	assert_ptr_equal(min->bases[2], deep);
	assert_int_equal(min->rank, 2);
	assert_int_equal(bdev_get_spec(min)->num_bases, 3);
	assert_string_equal(bdev_get_spec(min)->bases[2], "deep");
	assert_int_equal(bdev_num_blocks(min), 100);
	/* It counts, may be taken out, may be lost and returns. */
	assert_int_equal(test_remove(a, NULL), 0);
	bdev_base_detach(min, 1, test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	wait_until(bdev_num_blocks(min) == 120);
	bdev_base_add(min, bdev_find("b"), test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -ENOSPC);
	assert_false(bdev_is_claimed(bdev_find("b")));
	bdev_base_add(min, test_leaf_make("e", 120, NULL), test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	bdev_base_add(min, test_leaf_make("f", 120, NULL), test_done_init(&done));
	assert_int_equal(test_done_wait(&done), -ENOSPC); /* four is the most */
	test_close(&top);
	assert_int_equal(test_remove(min, NULL), 0);
	assert_false(bdev_is_claimed(deep));
}

/* The base goes, or the bdev does, while it is on its way. */
static void test_one_base_more_in_bad_times(void **state)
{
	static struct script script = {0};
	struct test_done done, gone;
	struct bdev *min, *c;

	(void)state;
	test_leaf_make("a", 100, NULL);
	test_leaf_make("b", 100, NULL);
	min = test_make(&test_min, "min", &script, "a", "b", NULL);
	c = test_leaf_make("c", 100, NULL);
	bdev_base_add(min, c, test_done_init(&done));
	bdev_gone(c, "pulled");
	test_done_wait(&done);
	wait_until(!bdev_find("c"));
	wait_until(min->num_bases == 2 || !min->bases[2]);
	c = test_leaf_make("c2", 100, NULL);
	bdev_base_add(min, c, test_done_init(&done));
	bdev_remove(min, test_done_init(&gone));
	test_done_wait(&done);
	assert_int_equal(test_done_wait(&gone), 0);
	wait_until(!bdev_is_claimed(c));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_top_goes_first),
	        TEST(test_only_what_stands_on_it),
	        TEST(test_holder_that_keeps),
	        TEST(test_slow_destroy),
	        TEST(test_gone_and_back),
	        TEST(test_hold_outlives_the_base),
	        TEST(test_member_is_lost_and_returns),
	        TEST(test_member_is_refused),
	        TEST(test_member_hangs),
	        TEST(test_created_without_a_member),
	        TEST(test_attach_and_detach),
	        TEST(test_attach_too_deep),
	        TEST(test_one_base_more),
	        TEST(test_one_base_more_in_bad_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
