/* Creation: names, claims, bases that are awaited, depth, and what is left after a failure. */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

static int fails(const struct bdev_module *module, const char *name, const char *base,
        struct script *script, const char *text)
{
	struct bdev_spec spec = test_spec(module, name);
	struct err err = ERR_NONE;

	if (base) {
		spec.bases = &base;
		spec.num_bases = 1;
	}
	spec.own_blocks = module->bases_max ? 0 : 100;
	assert_null(test_try_create(&spec, script, &err));
	if (text && !strstr(err.text, text))
		fail_msg("'%s' does not say '%s'", err.text, text);
	return err.code;
}

static void test_names(void **state)
{
	char longest[300];
	struct err err = ERR_NONE;
	static struct script script = {0};
	struct bdev *bdev;

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(fails(&test_leaf, longest, NULL, &script, "longer than 255"), -EINVAL);
	assert_true(script.frees_params);
	longest[255] = '\0';
	bdev = test_leaf_make(longest, 100, NULL);
	assert_ptr_equal(bdev_find(longest), bdev);
	assert_int_equal(fails(&test_leaf, "", NULL, NULL, "is empty"), -EINVAL);
	assert_int_equal(fails(&test_leaf, NULL, NULL, NULL, "is empty"), -EINVAL);
	assert_int_equal(fails(&test_leaf, "a\nb", NULL, NULL, "control character"), -EINVAL);
	assert_int_equal(fails(&test_leaf, "a\x7f", NULL, NULL, "control character"), -EINVAL);
	assert_int_equal(fails(&test_leaf, "a\xff", NULL, NULL, "UTF-8"), -EINVAL);
	bdev = test_leaf_make("lvs/ä 'quoted'", 100, NULL);
	assert_int_equal(
	        fails(&test_leaf, "lvs/ä 'quoted'", NULL, &script, "is taken by t_leaf"), -EEXIST);
	assert_int_equal(bdev_add_alias(bdev, "other", &err), 0);
	assert_int_equal(fails(&test_leaf, "other", NULL, NULL, "is an alias"), -EEXIST);
	assert_int_equal(bdev_add_alias(bdev, "other", &err), -EEXIST);
	assert_int_equal(bdev_add_alias(bdev, "", &err), -EINVAL);
	assert_ptr_equal(bdev_find("other"), bdev);
	assert_string_equal(bdev_alias(bdev, 1), "other");
	assert_null(bdev_alias(bdev, 2));
	assert_int_equal(bdev_remove_alias(bdev, bdev_alias(bdev, 0)), -ENOENT);
	assert_int_equal(bdev_remove_alias(bdev, "other"), 0);
	assert_null(bdev_find("other"));
	assert_non_null(test_leaf_make("other", 10, NULL));
}

static void test_uuids(void **state)
{
	struct bdev_spec spec = test_spec(&test_leaf, "a");
	struct bdev *leaf, *pass;
	struct err err;
	uuid_t first;
	char upper[UUID_STR_LEN];

	(void)state;
	spec.own_blocks = 100;
	uuid_parse("11111111-2222-3333-4444-55555555abcd", spec.uuid);
	leaf = test_try_create(&spec, NULL, &err);
	assert_string_equal(bdev_alias(leaf, 0), "11111111-2222-3333-4444-55555555abcd");
	uuid_unparse_upper(leaf->uuid, upper);
	assert_ptr_equal(bdev_find(upper), leaf);
	spec.name = "b";
	assert_null(test_try_create(&spec, NULL, &err));
	assert_int_equal(err.code, -EEXIST);
	assert_int_equal(fails(&test_leaf, upper, NULL, NULL, "UUID of t_leaf 'a'"), -EEXIST);
	pass = test_make(&test_pass, "p", NULL, upper, NULL);
	uuid_copy(first, pass->uuid);
	assert_int_equal(first[6] >> 4, 5);
	assert_int_equal(test_remove(pass, NULL), 0);
	pass = test_make(&test_pass, "renamed", NULL, "a", NULL);
	assert_int_equal(uuid_compare(first, pass->uuid), 0);
	assert_int_equal(test_leaf_make("c", 1, NULL)->uuid[6] >> 4, 4);
	/* A name may be the bdev's own UUID, as that of volumes is. */
	spec.name = "aaaaaaaa-2222-3333-4444-55555555abcd";
	uuid_parse(spec.name, spec.uuid);
	leaf = test_try_create(&spec, NULL, &err);
	assert_non_null(leaf);
	assert_ptr_equal(bdev_find(spec.name), leaf);
	assert_int_equal(test_remove(leaf, NULL), 0);
	assert_null(bdev_find(spec.name));
	assert_non_null(test_try_create(&spec, NULL, &err));
}

static const struct bdev_holder_ops own_ops;
static void own_resized(
        struct bdev_handle *handle, uint64_t old, uint64_t now, struct bdev_tell *tell)
{
	(void)handle;
	(void)old;
	(void)now;
	bdev_told(tell, BDEV_NOBODY, 0);
}
static void own_removed(struct bdev_handle *handle)
{
	bdev_close(handle);
}
static const struct bdev_holder_ops own_ops = {
        .kind = "store", .module = &test_part, .resized = own_resized, .removed = own_removed};

static void test_claims(void **state)
{
	struct holder writer = {0}, reader = {0};
	struct bdev_handle *handle;
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL), *free_leaf, *pass;

	(void)state;
	assert_false(bdev_is_claimed(leaf));
	test_open(&reader, leaf, false, "reader");
	pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	assert_true(bdev_is_claimed(leaf));
	assert_ptr_equal(bdev_parent(leaf, 0), pass);
	assert_null(bdev_parent(leaf, 1));
	assert_int_equal(fails(&test_pass, "p2", "leaf", NULL, "claimed by t_pass 'pass'"), -EPERM);
	assert_int_equal(fails(&test_part, "p2", "leaf", NULL, "claimed by t_pass"), -EPERM);
	assert_int_equal(bdev_open(leaf, true, &own_ops, "w", NULL, &handle, &err), -EPERM);
	assert_null(handle);
	test_close(&reader);
	free_leaf = test_leaf_make("free", 100, NULL);
	test_open(&writer, free_leaf, true, "nbd export 'n'");
	assert_string_equal(bdev_holder(free_leaf, 0), "nbd export 'n'");
	assert_null(bdev_holder(free_leaf, 1));
	assert_int_equal(fails(&test_pass, "p2", "free", NULL, "open for writing by nbd"), -EPERM);
	test_close(&writer);
	/* Parts share a base; nobody else gets in. */
	assert_int_equal(bdev_open(free_leaf, true, &own_ops, "store 's'", NULL, &handle, &err), 0);
	assert_true(bdev_is_claimed(free_leaf));
	test_make(&test_part, "part0", NULL, "free", NULL);
	test_make(&test_part, "part1", NULL, "free", NULL);
	assert_int_equal(fails(&test_pass, "p2", "free", NULL, "claimed by"), -EPERM);
	assert_non_null(bdev_parent(free_leaf, 1));
	bdev_close(handle);
}

static void test_bases_of_a_spec(void **state)
{
	const char *same[] = {"leaf", "alias"}, *twice[] = {"leaf", "leaf"}, *none[] = {NULL, NULL};
	struct bdev_spec spec = test_spec(&test_min, "min");
	struct err err = ERR_NONE;
	struct bdev *leaf = test_leaf_make("leaf", 100, NULL), *min;

	(void)state;
	assert_int_equal(bdev_add_alias(leaf, "alias", &err), 0);
	assert_int_equal(fails(&test_pass, "p", NULL, NULL, "0 bases; it takes 1 to 1"), -EINVAL);
	assert_int_equal(fails(&test_leaf, "p", "leaf", NULL, "takes 0 to 0"), -EINVAL);
	assert_int_equal(fails(&test_pass, "p", "", NULL, "is empty"), -EINVAL);
	assert_int_equal(fails(&test_pass, "p", "nosuch", NULL, "no base 'nosuch'"), -ENODEV);
	assert_int_equal(fails(&test_pass, "p", "p", NULL, "no base 'p'"), -ENODEV);
	spec.num_bases = 2;
	spec.bases = same;
	assert_null(test_try_create(&spec, NULL, &err));
	assert_int_equal(err.code, -EINVAL);
	spec.bases = twice;
	assert_null(test_try_create(&spec, NULL, &err));
	assert_int_equal(err.code, -EINVAL);
	spec.bases = none;
	assert_null(test_try_create(&spec, NULL, &err));
	assert_int_equal(err.code, -EINVAL);
	none[1] = "leaf";
	min = test_try_create(&spec, NULL, &err);
	assert_null(min->bases[0]);
	assert_ptr_equal(min->bases[1], leaf);
	assert_string_equal(bdev_get_spec(min)->bases[1], "leaf");
}

static void test_failures_leave_nothing(void **state)
{
	static struct script leaf = {0}, pass = {.create = PLAY_FAIL};
	struct bdev *l = test_leaf_make("leaf", 100, &leaf);

	(void)state;
	assert_int_equal(fails(&test_pass, "p", "leaf", &pass, "script says no"), -EIO);
	assert_int_equal(pass.destroys, 1);
	assert_true(pass.frees_params);
	assert_false(bdev_is_claimed(l));
	pass = (struct script){.online = PLAY_FAIL};
	assert_int_equal(fails(&test_pass, "p", "leaf", &pass, "going online"), -EIO);
	assert_int_equal(pass.destroys, 1);
	assert_true(pass.frees_params);
	pass = (struct script){.geometry_min_blocks = 101};
	assert_int_equal(fails(&test_pass, "p", "leaf", &pass, "it needs 101 blocks"), -EINVAL);
	assert_int_equal(pass.destroys, 1);
	pass = (struct script){.create = PLAY_FAIL, .destroy = PLAY_FAIL};
	assert_int_equal(fails(&test_pass, "p", "leaf", &pass, "script says no"), -EIO);
	assert_false(bdev_is_claimed(l));
	test_events();
	test_make(&test_pass, "p", NULL, "leaf", NULL);
	test_rounds(1);
	assert_string_equal(test_events(), "bdev_register p; ");
}

/* The module answers late: the caller has its answer by then, the name is free afterwards. */
static void test_create_hangs(void **state)
{
	static struct script pass = {.create = PLAY_HANG};
	struct bdev *l = test_leaf_make("leaf", 100, NULL);

	(void)state;
	test_step_timeout(250);
	assert_int_equal(
	        fails(&test_pass, "p", "leaf", &pass, "has not ended within 250 ms"), -ETIMEDOUT);
	assert_int_equal(pass.destroys, 0);
	assert_true(bdev_is_claimed(l));
	assert_int_equal(fails(&test_leaf, "p", NULL, NULL, "which is being removed"), -EEXIST);
	test_let_go(&pass);
	wait_until(!bdev_is_claimed(l));
	assert_int_equal(pass.destroys, 1);
	test_make(&test_pass, "p", NULL, "leaf", NULL);
}

static void test_base_goes_meanwhile(void **state)
{
	static struct script pass = {.create = PLAY_HANG};
	struct test_done gone;
	struct err err = ERR_NONE;
	struct bdev *l = test_leaf_make("leaf", 100, NULL);
	const char *base = "leaf";
	struct bdev_spec spec = test_spec(&test_pass, "p");

	(void)state;
	spec.bases = &base;
	spec.num_bases = 1;
	test_step_timeout(250);
	bdev_remove(l, test_done_init(&gone));
	assert_null(test_try_create(&spec, &pass, &err));
	assert_int_equal(err.code, -ENODEV);
	assert_int_equal(test_done_wait(&gone), 0);
	l = test_leaf_make("leaf", 100, NULL);
	assert_null(test_try_create(&spec, &pass, &err));
	bdev_remove(l, test_done_init(&gone));
	assert_int_equal(test_done_wait(&gone), -ETIMEDOUT);
	assert_non_null(strstr(gone.err.text, "'p' has not finished"));
	test_let_go(&pass);
	wait_until(pass.destroys == 1);
	test_rounds(3);
	test_leaf_make("leaf", 100, NULL);
}

static void test_depth(void **state)
{
	char name[16], base[16] = "l0";
	unsigned layer;

	(void)state;
	test_leaf_make("l0", 100, NULL);
	for (layer = 1; layer < BIO_FRAMES_MAX; layer++) {
		snprintf(name, sizeof(name), "l%u", layer);
		assert_int_equal(test_make(&test_pass, name, NULL, base, NULL)->frames, layer + 1);
		str_copy(base, sizeof(base), name);
	}
	assert_int_equal(fails(&test_pass, "last", base, NULL, "layer 17"), -EMLINK);
	assert_false(bdev_is_claimed(bdev_find(base)));
}

/* ---- waiting ---- */

static char waiting_list[512];
static void note_waiting(void *arg, const struct bdev_spec *spec, const char *missing)
{
	size_t len = strlen(waiting_list);

	(void)arg;
	snprintf(
	        waiting_list + len, sizeof(waiting_list) - len, "%s for %s; ", spec->name, missing);
}

static const char *waiting(void)
{
	waiting_list[0] = '\0';
	bdev_for_each_waiting(note_waiting, NULL);
	return waiting_list;
}

static void wait_for_bases(const char *name, const struct bdev_module *module,
        struct script *script, const char *const *bases, unsigned n)
{
	struct bdev_spec spec = test_spec(module, name);
	struct err err = ERR_NONE;

	spec.bases = bases;
	spec.num_bases = n;
	spec.wait_for_bases = true;
	assert_null(test_try_create(&spec, script, &err));
	assert_int_equal(err.code, 0);
}

/* A whole configuration in the wrong order: upper ones first. */
static void test_waiting(void **state)
{
	static struct script top = {0};
	const char *const top_bases[] = {"mid"};
	const char *const mid_bases[] = {"a", "b"};
	const char *const part_bases[] = {"aaaaaaaa-0000-4000-8000-000000000001"};
	struct test_done examined;
	struct bdev_spec spec = test_spec(&test_leaf, "b");
	struct bdev *a;
	struct err err = ERR_NONE;

	(void)state;
	wait_for_bases("top", &test_pass, &top, top_bases, 1);
	wait_for_bases("mid", &test_sum, NULL, mid_bases, 2);
	wait_for_bases("by-uuid", &test_part, NULL, part_bases, 1);
	assert_string_equal(waiting(),
	        "top for mid; mid for a; by-uuid for aaaaaaaa-0000-4000-8000-000000000001; ");
	assert_int_equal(fails(&test_leaf, "mid", NULL, NULL, "waits for its base"), -EEXIST);
	a = test_leaf_make("a", 100, NULL);
	/* Nobody takes it away while the other is awaited. */
	assert_true(bdev_is_claimed(a));
	assert_int_equal(fails(&test_pass, "thief", "a", NULL, "waits for another base"), -EPERM);
	assert_string_equal(waiting(),
	        "top for mid; mid for b; by-uuid for aaaaaaaa-0000-4000-8000-000000000001; ");
	spec.own_blocks = 50;
	assert_non_null(test_try_create(&spec, NULL, &err));
	bdev_wait_for_examine(test_done_init(&examined));
	test_done_wait(&examined);
	assert_int_equal(bdev_num_blocks(bdev_find("top")), 150);
	spec.name = "c";
	uuid_parse("aaaaaaaa-0000-4000-8000-000000000001", spec.uuid);
	assert_non_null(test_try_create(&spec, NULL, &err));
	bdev_wait_for_examine(test_done_init(&examined));
	test_done_wait(&examined);
	assert_non_null(bdev_find("by-uuid"));
	assert_string_equal(waiting(), "");
}

static void test_waiting_is_dropped(void **state)
{
	static struct script script = {0}, bad = {.online = PLAY_FAIL};
	const char *const bases[] = {"a", "b"};
	struct test_done done;
	struct bdev *a;

	(void)state;
	wait_for_bases("w", &test_sum, &script, bases, 2);
	a = test_leaf_make("a", 100, NULL);
	assert_true(bdev_is_claimed(a));
	assert_int_equal(bdev_waiting_cancel("w"), 0);
	assert_true(script.frees_params);
	assert_false(bdev_is_claimed(a));
	assert_int_equal(bdev_waiting_cancel("w"), -ENODEV);
	wait_for_bases("w", &test_sum, &bad, bases, 2);
	assert_true(bdev_is_claimed(a));
	/* A base that was reserved goes and comes. */
	assert_int_equal(test_remove(a, NULL), 0);
	assert_string_equal(waiting(), "w for a; ");
	test_leaf_make("a", 100, NULL);
	test_events();
	test_leaf_make("b", 100, NULL);
	bdev_wait_for_examine(test_done_init(&done));
	test_done_wait(&done);
	test_rounds(1);
	assert_string_equal(test_events(), "bdev_register b; bdev_create_failed w; ");
	assert_string_equal(waiting(), "");
	assert_false(bdev_is_claimed(bdev_find("a")));
	/* Left over at the end. */
	const char *const never[] = {"never"};

	wait_for_bases("left", &test_pass, &script, never, 1);
}

static struct bdev *came;
static unsigned came_calls;
static void note_came(void *arg, struct bdev *bdev)
{
	(void)arg;
	came = bdev;
	came_calls++;
}

static void test_wait_for(void **state)
{
	struct bdev *a;

	(void)state;
	came_calls = 0;
	bdev_wait_for("a", 5000, note_came, NULL);
	bdev_wait_for("a", 5000, note_came, NULL);
	test_rounds(1);
	assert_int_equal(came_calls, 0);
	a = test_leaf_make("a", 100, NULL);
	wait_until(came_calls == 2);
	assert_ptr_equal(came, a);
	bdev_wait_for("a", 0, note_came, NULL);
	assert_int_equal(came_calls, 2);
	wait_until(came_calls == 3);
	assert_ptr_equal(came, a);
	bdev_wait_for("b", 0, note_came, NULL);
	wait_until(came_calls == 4);
	assert_null(came);
	bdev_wait_for("b", 10, note_came, NULL);
	wait_until(came_calls == 5);
	assert_null(came);
	bdev_wait_for("never", 1000000, note_came, NULL); /* answered by the end */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_names),
	        TEST(test_uuids),
	        TEST(test_claims),
	        TEST(test_bases_of_a_spec),
	        TEST(test_failures_leave_nothing),
	        TEST(test_create_hangs),
	        TEST(test_base_goes_meanwhile),
	        TEST(test_depth),
	        TEST(test_waiting),
	        TEST(test_waiting_is_dropped),
	        TEST(test_wait_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
