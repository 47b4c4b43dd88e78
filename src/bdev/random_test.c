/*
 * Random operations on a random graph whose modules fail, hang and answer late, and whose holders
 * are slow. What must always hold is checked after every turn; in the end every call has been
 * answered exactly once, everything can be removed and all params have been freed. (When they are
 * depends on the time: a removal that passes its deadline goes on after its answer.) The seed of a
 * failure is in its output: run with it as the argument.
 */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

#define SEEDS 24
#define OPERATIONS 250
#define SCRIPTS_MAX (OPERATIONS + 1)
#define HOLDERS_MAX 24

static uint64_t random_state;
static struct script scripts[SCRIPTS_MAX];
static unsigned num_scripts;
static struct holder holders[HOLDERS_MAX];
static unsigned asked, answered; /* calls with a done function, and how many were called */
static unsigned tally[16];

static unsigned pick(unsigned n)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(random_state >> 33) % n;
}

static enum play pick_play(unsigned badly)
{
	unsigned roll = pick(100);

	return roll < badly ? PLAY_HANG : roll < 2 * badly ? PLAY_FAIL : PLAY_OK;
}

static struct script *pick_script(void)
{
	struct script *script = &scripts[num_scripts++];
	unsigned badly = pick(4) == 0 ? 15 : 0;

	*script = (struct script){
	        .create = pick_play(badly),
	        .online = pick_play(badly),
	        .destroy = pick_play(badly),
	        .persist = pick_play(badly),
	        .resize = pick_play(badly),
	        .base_lost = pick_play(badly),
	        .base_returned = pick_play(badly),
	        .may_resize_refuses = pick(20) == 0,
	        .fail_once = pick(2),
	        .geometry_min_blocks = pick(6) == 0 ? pick(300) : 0,
	};
	return script;
}

static const char *pick_name(void)
{
	static const char *const names[] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8",
	        "n9", "n10", "n11", "n12", "n13", "n14", "n15", "n16", "n17"};

	return names[pick(ARRAY_SIZE(names))];
}

static struct bdev *pick_bdev(void)
{
	struct bdev *bdev, *found = NULL;
	unsigned n = 0;

	for (bdev = bdev_next(NULL); bdev; bdev = bdev_next(bdev)) {
		if (pick(++n) == 0)
			found = bdev;
	}
	return found;
}

static const char *pick_base(void)
{
	for (unsigned i = 0; i < 4; i++) {
		const struct bdev *bdev = pick_bdev();

		if (bdev && !bdev_is_claimed(bdev) && pick(4) > 0)
			return bdev->name;
	}
	return pick_name();
}

/* ---- answers ---- */

static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	(void)arg;
	answered++;
	tally[0] += bdev != NULL;
	assert_true(!bdev || !err);
	assert_true(!err || err->text[0]);
}

static void done_fn(void *arg, const struct err *err)
{
	(void)arg;
	answered++;
	assert_true(!err || err->code == 0 || err->text[0]);
}

static void resized_fn(void *arg, const struct resize_report *report)
{
	(void)arg;
	answered++;
	tally[1] += report->err.code == 0;
	tally[2] += report->err.code != 0;
	for (unsigned i = 0; i < report->num_layers; i++) {
		if (report->layers[i].published)
			assert_int_equal(bdev_num_blocks(report->layers[i].bdev),
			        report->layers[i].new_blocks);
	}
}

static const struct bdev_done done = {.fn = done_fn};

/* ---- operations ---- */

static void op_create(void)
{
	static const struct bdev_module *const kinds[] = {
	        &test_leaf, &test_leaf, &test_pass, &test_bare, &test_min, &test_sum, &test_part};
	const struct bdev_module *module = kinds[pick(ARRAY_SIZE(kinds))];
	const char *bases[4];
	struct test_params params = {pick_script(), TEST_PARAMS_SECRET};
	struct bdev_spec spec = test_spec(module, pick_name());

	if (module->bases_max)
		spec.num_bases = 1 + pick(module->bases_max > 1 ? 3 : 1);
	for (unsigned i = 0; i < spec.num_bases; i++)
		bases[i] = module->bases_max > 1 && pick(8) == 0 ? NULL : pick_base();
	spec.bases = bases;
	spec.own_blocks = module == &test_leaf ? 1 + pick(500) : 0;
	spec.wait_for_bases = pick(2);
	spec.without_absent = pick(2);
	spec.params = &params;
	spec.params_bytes = sizeof(params);
	test_create(&spec, created, NULL);
	asked++;
}

static void op_remove(void)
{
	struct bdev *bdev = pick_bdev();

	if (!bdev)
		return;
	if (pick(2)) {
		bdev_gone(bdev, "pulled");
	} else {
		bdev_remove(bdev, done);
		asked++;
	}
}

static void op_resize(void)
{
	struct bdev *bdev = pick_bdev();

	if (!bdev)
		return;
	asked++;
	switch (pick(5)) {
	case 0:
		bdev_resize_plan(bdev, pick(600), resized_fn, NULL);
		break;
	case 1:
		if (bdev->num_bases == 0) {
			bdev_storage_changed(bdev, pick(20) ? pick(600) : 0, resized_fn, NULL);
			break;
		}
		/* fall through */
	case 2:
		bdev_geometry_changed(bdev, resized_fn, NULL);
		break;
	default:
		bdev_resize(bdev, pick(600), resized_fn, NULL);
		break;
	}
}

static void op_policy(void)
{
	struct bdev *bdev = pick_bdev();
	struct err err;

	if (bdev)
		assert_int_equal(bdev_set_policy(bdev, pick(2) ? BDEV_HOLD : BDEV_FOLLOW, &err), 0);
}

static void op_member(void)
{
	struct bdev *bdev = pick_bdev(), *base = pick_bdev();

	if (!bdev || bdev->module != &test_min)
		return;
	asked++;
	if (pick(2))
		bdev_base_detach(bdev, pick(4), done);
	else if (pick(3) == 0)
		bdev_base_add(bdev, base, done);
	else
		bdev_base_attach(bdev, pick(4), base, done);
}

static void op_hold(void)
{
	struct holder *holder = &holders[pick(HOLDERS_MAX)];
	struct bdev *bdev = pick_bdev();
	struct err err;

	if (holder->tell) {
		test_answer(holder);
	} else if (holder->handle) {
		test_close(holder);
	} else if (bdev) {
		*holder = (struct holder){.agrees = pick(4) > 0,
		        .never_tells = pick(4) == 0,
		        .keeps = pick(6) == 0,
		        .closes_when_asked = pick(8) == 0};
		(void)!test_try_open(holder, bdev, pick(2), "holder", &err);
	}
}

static bool let_go_some(bool all)
{
	bool any = false;

	for (unsigned i = 0; i < num_scripts; i++) {
		if (scripts[i].hung.fn && (all || pick(3) == 0)) {
			test_let_go(&scripts[i]);
			any = true;
		}
	}
	return any;
}

static void op_other(void)
{
	struct bdev *bdev = pick_bdev();
	struct err err;

	if (pick(3) == 0)
		(void)bdev_waiting_cancel(pick_name());
	else if (bdev && pick(2))
		(void)!bdev_add_alias(bdev, pick_name(), &err);
	else if (bdev)
		(void)bdev_remove_alias(bdev, pick_name());
}

static void operate(void)
{
	switch (pick(16)) {
	case 0 ... 4:
		op_create();
		break;
	case 5:
		op_remove();
		break;
	case 6 ... 9:
		op_resize();
		break;
	case 10:
		op_policy();
		break;
	case 11:
		op_member();
		break;
	case 12 ... 13:
		op_hold();
		break;
	case 14:
		let_go_some(false);
		break;
	default:
		op_other();
		break;
	}
	for (unsigned turns = pick(12); turns > 0; turns--) {
		test_rounds(1);
		test_invariants();
	}
}

/* Everybody becomes reasonable. */
static void calm_down(void)
{
	for (unsigned i = 0; i < num_scripts; i++) {
		struct script *s = &scripts[i];

		s->create = s->online = s->destroy = s->persist = s->resize = PLAY_OK;
		s->base_lost = s->base_returned = PLAY_OK;
	}
	for (unsigned i = 0; i < HOLDERS_MAX; i++) {
		struct holder *holder = &holders[i];

		holder->keeps = holder->never_tells = false;
		if (holder->tell)
			test_answer(holder);
		if (holder->handle)
			test_close(holder);
	}
	do {
		test_rounds(20);
	} while (let_go_some(true));
}

static void run(uint64_t seed)
{
	struct test_done stopped;

	printf("seed %llu\n", (unsigned long long)seed);
	random_state = seed * 0x9e3779b97f4a7c15ULL + 1;
	num_scripts = asked = answered = 0;
	memset(scripts, 0, sizeof(scripts));
	memset(holders, 0, sizeof(holders));
	test_loops_start(2, 20);
	bdev_start();
	test_step_timeout(20);
	for (unsigned i = 0; i < OPERATIONS; i++)
		operate();
	calm_down();
	test_step_timeout(5000);
	bdev_stop(test_done_init(&stopped));
	while (!stopped.done) {
		test_rounds(1);
		let_go_some(true);
	}
	assert_int_equal(stopped.err.code, 0);
	test_rounds(3);
	assert_int_equal(asked, answered);
	for (unsigned i = 0; i < num_scripts; i++)
		assert_true(scripts[i].frees_params);
	test_loops_end();
}

static void test_random(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run(seed);
	printf("%u bdevs created, %u resizes done, %u refused or stopped\n", tally[0], tally[1],
	        tally[2]);
	assert_true(tally[0] > 10 * SEEDS && tally[1] > 10 * SEEDS && tally[2] > 5 * SEEDS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	test_quiet_log();
	if (argc > 1) {
		run(strtoull(argv[1], NULL, 0));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
