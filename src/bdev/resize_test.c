/* A resize as a transaction: what is planned, asked, written, shown and told, in which order. */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

static struct bdev *blocks_are(struct bdev *bdev, uint64_t blocks)
{
	assert_int_equal(bdev_num_blocks(bdev), blocks);
	assert_int_equal(bdev->geometry.num_blocks, blocks);
	return bdev;
}

static void test_grow_through_six_layers(void **state)
{
	static struct script leaf = {0}, pass = {0};
	struct holder top = {.told = BDEV_TOLD, .clients = 3}, low = {.told = BDEV_CANNOT_TELL};
	struct resized done;
	struct bdev *l0 = test_leaf_make("l0", 100, &leaf), *l5;

	(void)state;
	test_make(&test_pass, "l1", &pass, "l0", NULL);
	test_make(&test_bare, "l2", NULL, "l1", NULL);
	test_make(&test_min, "l3", &pass, "l2", NULL);
	test_make(&test_bare, "l4", NULL, "l3", NULL);
	l5 = test_make(&test_pass, "l5", &pass, "l4", NULL);
	assert_int_equal(l5->rank, 5);
	low.clients = 2;
	test_open(&top, l5, true, "top");
	test_open(&low, l0, false, "low");
	test_events();
	test_trace_clear();
	assert_int_equal(test_resize(l0, 200, &done), 0);
	assert_string_equal(test_trace,
	        "storage l0 200; persist l0 200; resized l0 100>200; persist l1 200; "
	        "resized l1 100>200; persist l3 200; resized l3 100>200; persist l5 200; "
	        "resized l5 100>200; told low 200; told top 200; ");
	blocks_are(l5, 200);
	assert_int_equal(done.report.num_layers, 6);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(done.layers[i].name[1], '0' + (int)i);
		assert_int_equal(done.layers[i].old_blocks, 100);
		assert_int_equal(done.layers[i].new_blocks, 200);
		assert_true(done.layers[i].published);
		assert_string_equal(done.layers[i].refused, "");
	}
	assert_string_equal(done.layers[1].why, "same as base 'l0'");
	assert_string_equal(done.layers[2].why, "same as base 'l1'");
	assert_int_equal(done.layers[5].holders_told, 3);
	assert_int_equal(done.layers[0].holders_untold, 2);
	assert_int_equal(top.resized, 1);
	assert_int_equal(top.old_blocks, 100);
	assert_string_equal(test_events(),
	        "bdev_resize l0; bdev_resize l1; bdev_resize l2; bdev_resize l3; bdev_resize l4; "
	        "bdev_resize l5; ");
	assert_int_equal(test_resize(l0, 200, &done), 0);
	assert_int_equal(top.resized, 1);
	assert_string_equal(test_events(), "");
	test_close(&top);
	test_close(&low);
}

static void test_diamond(void **state)
{
	struct holder top = {.told = BDEV_TOLD};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *a = test_make(&test_part, "a", NULL, "leaf", NULL);
	struct bdev *b = test_make(&test_part, "b", NULL, "leaf", NULL);
	struct bdev *sum = test_make(&test_sum, "sum", NULL, "a", "b", NULL);

	(void)state;
	blocks_are(sum, 200);
	test_open(&top, sum, true, "top");
	test_trace_clear();
	assert_int_equal(test_resize(leaf, 150, &done), 0);
	assert_int_equal(done.report.num_layers, 4);
	blocks_are(a, 150);
	blocks_are(b, 150);
	blocks_are(sum, 300);
	assert_int_equal(top.resized, 1);
	assert_string_equal(test_trace,
	        "storage leaf 150; persist leaf 150; resized leaf 100>150; persist a 150; "
	        "resized a 100>150; persist b 150; resized b 100>150; persist sum 300; "
	        "resized sum 200>300; told top 300; ");
	test_close(&top);
}

static void test_smallest_base_limits(void **state)
{
	struct resized done;
	struct bdev *a = test_leaf_make("a", 100, NULL);
	struct bdev *b = test_leaf_make("b", 100, NULL);
	struct bdev *min = test_make(&test_min, "min", NULL, "a", "b", NULL);

	(void)state;
	assert_string_equal(min->geometry.why, "from 2 bases of the same size");
	assert_int_equal(test_resize(a, 200, &done), 0);
	blocks_are(min, 100);
	assert_string_equal(min->geometry.why, "limited by 'b', the smallest of 2 bases");
	assert_true(resized_layer(&done, "min")->published);
	assert_int_equal(test_resize(b, 150, &done), 0);
	blocks_are(min, 150);
	assert_int_equal(test_resize(min, 150, &done), -EINVAL);
	assert_non_null(strstr(done.report.err.text, "follows its 2 bases"));
}

static void test_wishes_that_make_no_sense(void **state)
{
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	struct bdev_spec spec = test_spec(&test_fixed, "fixed");
	struct bdev *fixed;
	struct err err;

	(void)state;
	spec.own_blocks = 10;
	fixed = test_try_create(&spec, NULL, &err);
	assert_int_equal(test_resize(pass, 200, &done), -EINVAL);
	assert_string_equal(
	        done.report.err.text, "t_pass 'pass': its size follows 'leaf'; resize that");
	assert_int_equal(test_resize(fixed, 200, &done), -EINVAL);
	assert_int_equal(test_resize(leaf, 0, &done), -EINVAL);
	assert_int_equal(test_resize(leaf, UINT64_MAX, &done), -EINVAL);
	assert_int_equal(test_resize(leaf, (1ULL << 63) / TEST_BLOCK, &done), -EINVAL);
	assert_int_equal(test_dry_run(leaf, UINT64_MAX, &done), -EINVAL);
	blocks_are(leaf, 100);
	assert_int_equal(test_resize(leaf, ((1ULL << 63) - 1) / TEST_BLOCK, &done), 0);
	assert_int_equal(bdev_num_blocks(pass), ((1ULL << 63) - 1) / TEST_BLOCK);
}

static void test_dry_run_has_no_effect(void **state)
{
	static struct script script = {0};
	struct holder top = {.agrees = true};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, &script);
	struct bdev *pass = test_make(&test_pass, "pass", &script, "leaf", NULL);

	(void)state;
	test_open(&top, pass, true, "nbd export 'x'");
	test_trace_clear();
	test_events();
	assert_int_equal(test_dry_run(leaf, 200, &done), 0);
	assert_int_equal(resized_layer(&done, "pass")->new_blocks, 200);
	assert_string_equal(resized_layer(&done, "pass")->why, "same as base 'leaf'");
	assert_false(resized_layer(&done, "pass")->published);
	top.agrees = false;
	assert_int_equal(test_dry_run(leaf, 50, &done), -EBUSY);
	assert_string_equal(resized_layer(&done, "leaf")->refused, "");
	assert_string_equal(resized_layer(&done, "pass")->refused,
	        "t_pass 'pass' would lose 25 KiB, and nbd export 'x' has it open: "
	        "a client uses all of it");
	assert_string_equal(test_trace, "");
	assert_string_equal(test_events(), "");
	assert_int_equal(script.persists, 0);
	assert_int_equal(top.resized, 0);
	blocks_are(leaf, 100);
	blocks_are(pass, 100);
	assert_int_equal(leaf->own_blocks, 100);
	test_close(&top);
}

static void test_refusals(void **state)
{
	static struct script pass_script = {0};
	struct holder top = {0}, low = {.agrees = true};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	test_open(&top, pass, true, "top");
	test_open(&low, leaf, false, "low");
	test_trace_clear();
	assert_int_equal(test_resize(leaf, 50, &done), -EBUSY);
	assert_non_null(strstr(done.report.err.text, "top has it open"));
	assert_non_null(strstr(done.report.err.text, "25 KiB"));
	assert_int_equal(top.asked, 1);
	assert_int_equal(low.asked, 1);
	assert_string_equal(test_trace, "");
	blocks_are(pass, 100);
	pass_script.may_resize_refuses = true;
	assert_int_equal(test_resize(leaf, 150, &done), -EAGAIN);
	assert_string_equal(done.report.err.text, "t_pass 'pass' refuses: a rebuild is running");
	blocks_are(leaf, 100);
	pass_script.may_resize_refuses = false;
	pass_script.geometry_min_blocks = 60;
	top.agrees = true;
	assert_int_equal(test_resize(leaf, 50, &done), -EINVAL);
	assert_string_equal(done.report.err.text, "t_pass 'pass': it needs 60 blocks");
	assert_string_equal(test_trace, "");
	test_close(&top);
	test_close(&low);
}

static void test_agreed_shrink(void **state)
{
	static struct script leaf_script = {0}, pass_script = {0};
	struct holder top = {.agrees = true, .told = BDEV_TOLD},
	              bystander = {.closes_when_asked = true};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, &leaf_script);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	test_open(&top, pass, true, "top");
	test_open(&bystander, pass, false, "bystander");
	test_trace_clear();
	assert_int_equal(test_resize(leaf, 50, &done), 0);
	assert_string_equal(test_trace,
	        "persist pass 50; resized pass 100>50; persist leaf 50; resized leaf 100>50; "
	        "storage leaf 50; told top 50; ");
	assert_int_equal(top.asked, 1);
	assert_int_equal(top.resized, 1);
	assert_int_equal(bystander.resized, 0);
	blocks_are(leaf, 50);
	blocks_are(pass, 50);
	assert_int_equal(leaf->own_blocks, 50);
	test_close(&top);
}

static void test_hold(void **state)
{
	struct resized done;
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	struct bdev *top = test_make(&test_pass, "top", NULL, "pass", NULL);

	(void)state;
	assert_int_equal(bdev_set_policy(pass, BDEV_HOLD, &err), 0);
	assert_int_equal(bdev_get_policy(pass), BDEV_HOLD);
	assert_int_equal(test_resize(leaf, 200, &done), 0);
	blocks_are(leaf, 200);
	blocks_are(pass, 100);
	blocks_are(top, 100);
	assert_string_equal(pass->geometry.why, "held at 50 KiB by policy; it could have 100 KiB");
	assert_string_equal(resized_layer(&done, "pass")->why, pass->geometry.why);
	assert_int_equal(test_resize(leaf, 99, &done), -EBUSY);
	assert_non_null(strstr(done.report.err.text, "t_pass 'pass' is held at 50 KiB"));
	assert_int_equal(test_resize(leaf, 100, &done), 0);
	assert_string_equal(pass->geometry.why, "held at 50 KiB by policy");
	assert_int_equal(test_resize(leaf, 300, &done), 0);
	assert_int_equal(bdev_set_policy(pass, BDEV_FOLLOW, &err), 0);
	wait_until(bdev_num_blocks(top) == 300);
	blocks_are(pass, 300);
	assert_string_equal(pass->geometry.why, "same as base 'leaf'");
	assert_int_equal(bdev_set_policy(leaf, BDEV_HOLD, &err), 0);
	assert_int_equal(test_resize(leaf, 400, &done), -EBUSY);
	blocks_are(leaf, 300);
}

/* As a saved configuration asks for it, over a base that has grown meanwhile. */
static void test_hold_at(void **state)
{
	struct resized done;
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 200, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);

	(void)state;
	assert_int_equal(bdev_hold_at(pass, 100, &err), 0);
	wait_until(bdev_num_blocks(pass) == 100);
	assert_int_equal(bdev_hold_at(pass, 50, &err), -EALREADY);
	assert_int_equal(test_resize(leaf, 300, &done), 0);
	blocks_are(pass, 100);
	assert_int_equal(bdev_set_policy(pass, BDEV_FOLLOW, &err), 0);
	wait_until(bdev_num_blocks(pass) == 300);
	assert_int_equal(bdev_hold_at(pass, 1000, &err), 0);
	assert_int_equal(test_resize(leaf, 400, &done), 0);
	blocks_are(pass, 300);
}

/* A bdev in the middle whose size a user chooses: within its base, and its parent follows. */
static void test_part_and_its_base(void **state)
{
	static struct script part = {0};
	struct holder top = {.agrees = true};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *a = test_make(&test_part, "a", &part, "leaf", NULL);
	struct bdev *b = test_make(&test_pass, "b", NULL, "a", NULL);

	(void)state;
	test_open(&top, b, true, "top");
	part.geometry_min_blocks = 0;
	assert_int_equal(test_resize(a, 60, &done), 0);
	blocks_are(b, 60);
	assert_int_equal(test_resize(leaf, 59, &done), -ENOSPC);
	assert_int_equal(test_resize(leaf, 60, &done), 0);
	assert_int_equal(test_resize(a, 61, &done), -ENOSPC);
	assert_string_equal(
	        done.report.err.text, "t_part 'a': the base is too small for this part");
	assert_int_equal(test_resize(leaf, 80, &done), 0);
	assert_int_equal(test_resize(a, 70, &done), 0);
	blocks_are(b, 70);
	test_close(&top);
}

/* The more its base has, the less it has: a plan in which some layers grow and others shrink. */
static int flip_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	(void)bdev;
	(void)err;
	out->num_blocks = 1000 - in->bases[0].num_blocks;
	return 0;
}

static void flip_persist(
        struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done)
{
	test_trace_add("persist %s %u%s; ", bdev->name, (unsigned)planned->num_blocks,
	        bdev->loops[0].gate & GATE_QUIESCED ? " quiet" : "");
	bdev_done_call(done, NULL);
}

static struct bdev_module flip_module = {
        .name = "t_flip",
        .bases_min = 1,
        .bases_max = 1,
        .geometry = flip_geometry,
        .persist = flip_persist,
};
BDEV_MODULE(flip_module);

static void test_some_grow_some_shrink(void **state)
{
	struct holder top = {.agrees = true};
	struct bdev *leaf = test_leaf_make("leaf", 600, NULL), *pass;
	const char *base = "leaf";
	struct bdev_spec spec = {
	        .module = &flip_module, .name = "flip", .bases = &base, .num_bases = 1};
	struct test_done done;

	(void)state;
	bdev_create(&spec, NULL, NULL);
	bdev_wait_for_examine(test_done_init(&done));
	wait_until(bdev_find("flip"));
	test_done_wait(&done);
	pass = test_make(&test_pass, "pass", NULL, "flip", NULL);
	blocks_are(pass, 400);
	test_open(&top, pass, true, "top");
	test_trace_clear();
	/* Nobody may be in flip while what is below it goes: quiet from before until it has grown.
	 */
	assert_int_equal(test_resize(leaf, 550, NULL), 0);
	assert_string_equal(test_trace,
	        "persist leaf 550; resized leaf 600>550; persist flip 450 quiet; persist pass 450; "
	        "resized pass 400>450; storage leaf 550; told top 450; ");
	assert_false(leaf->loops[0].gate & GATE_QUIESCED);
	test_trace_clear();
	assert_int_equal(test_resize(leaf, 580, NULL), 0);
	assert_string_equal(test_trace,
	        "storage leaf 580; persist pass 420; resized pass 450>420; persist flip 420 quiet; "
	        "persist leaf 580; resized leaf 550>580; told top 420; ");
	test_rounds(1);
	assert_false(bdev_find("flip")->loops[0].gate & GATE_QUIESCED);
	test_close(&top);
}

static void test_queue_is_in_order(void **state)
{
	struct resized done[8] = {0};
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		bdev_resize(leaf, 200 + i, test_resize_done, &done[i]);
	assert_false(done[0].done);
	wait_until(done[7].done);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(done[i].calls, 1);
		assert_int_equal(done[i].report.err.code, 0);
		assert_int_equal(done[i].layers[1].new_blocks, 200 + i);
	}
	blocks_are(pass, 207);
}

/* Opened between the question and the new size: asked again, or not told what it has seen. */
static void test_holder_that_comes_late(void **state)
{
	static struct script pass_script = {.persist = PLAY_HANG};
	struct holder late = {0}, seen = {0};
	struct resized done = {0};
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);
	struct bdev *pass = test_make(&test_pass, "pass", &pass_script, "leaf", NULL);

	(void)state;
	bdev_resize(leaf, 50, test_resize_done, &done);
	wait_until(pass_script.hung.fn);
	test_open(&late, leaf, false, "late");
	pass_script.persist = PLAY_OK;
	test_let_go(&pass_script);
	wait_until(done.done);
	assert_int_equal(done.report.err.code, -EBUSY);
	assert_true(resized_layer(&done, "pass")->published);
	assert_false(resized_layer(&done, "leaf")->published);
	blocks_are(pass, 50);
	blocks_are(leaf, 100);
	late.agrees = true;
	assert_int_equal(test_resize(leaf, 50, &done), 0);
	assert_int_equal(late.resized, 1);
	memset(&done, 0, sizeof(done));
	pass_script.persist = PLAY_HANG;
	bdev_resize(leaf, 80, test_resize_done, &done);
	wait_until(pass_script.hung.fn);
	test_open(&seen, leaf, false, "seen");
	test_let_go(&pass_script);
	wait_until(done.done);
	assert_int_equal(done.report.err.code, 0);
	assert_int_equal(seen.resized, 0);
	assert_int_equal(late.resized, 2);
	blocks_are(pass, 80);
	test_close(&late);
	test_close(&seen);
}

static void test_told_exactly_once(void **state)
{
	struct holder slow = {.never_tells = true, .told = BDEV_TOLD, .clients = 1};
	struct holder leaves = {.never_tells = true}, quick = {.told = BDEV_TOLD, .clients = 4};
	struct resized done = {0};
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL);

	(void)state;
	test_open(&slow, leaf, true, "slow");
	test_open(&leaves, leaf, false, "leaves");
	test_open(&quick, leaf, false, "quick");
	bdev_resize(leaf, 200, test_resize_done, &done);
	wait_until(slow.tell && leaves.tell && quick.resized);
	test_rounds(5);
	assert_false(done.done);
	test_close(&leaves);
	test_rounds(5);
	assert_false(done.done);
	test_answer(&slow);
	wait_until(done.done);
	test_answer(&leaves); /* its question lives until it is answered */
	assert_int_equal(done.layers[0].holders_told, 5);
	assert_int_equal(slow.resized + quick.resized + leaves.resized, 3);
	test_step_timeout(250);
	memset(&done, 0, sizeof(done));
	bdev_resize(leaf, 300, test_resize_done, &done);
	wait_until(done.done);
	assert_int_equal(done.report.err.code, 0);
	assert_int_equal(done.layers[0].holders_told, 4);
	assert_int_equal(done.layers[0].holders_untold, 1);
	test_answer(&slow); /* too late, and harmless */
	test_close(&slow);
	test_close(&quick);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_grow_through_six_layers),
	        TEST(test_diamond),
	        TEST(test_smallest_base_limits),
	        TEST(test_wishes_that_make_no_sense),
	        TEST(test_dry_run_has_no_effect),
	        TEST(test_refusals),
	        TEST(test_agreed_shrink),
	        TEST(test_hold),
	        TEST(test_hold_at),
	        TEST(test_part_and_its_base),
	        TEST(test_some_grow_some_shrink),
	        TEST(test_queue_is_in_order),
	        TEST(test_holder_that_comes_late),
	        TEST(test_told_exactly_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
