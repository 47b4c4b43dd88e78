/* The bdevs of bdev_testing.h that do as they are told. */
#include "tests/lib/bdev_testing.h"

#include <errno.h>

/* Bios that leaves hold back, on their loops. */
static struct loop_task *held[LOOPS_MAX];
static unsigned held_count;

static struct script *script_of(const struct bdev *bdev)
{
	const struct test_params *params = bdev->priv;

	assert_int_equal(params->secret, TEST_PARAMS_SECRET);
	return params->script;
}

static void play(struct script *script, enum play *what, struct bdev_done done)
{
	struct err err = ERR_NONE;

	switch (*what) {
	case PLAY_OK:
		bdev_done_call(done, NULL);
		return;
	case PLAY_FAIL:
		if (script->fail_once)
			*what = PLAY_OK;
		err_set(&err, -EIO, "script says no");
		bdev_done_call(done, &err);
		return;
	case PLAY_HANG:
		if (script->hung.fn) /* one at a time is enough */
			bdev_done_call(done, NULL);
		else
			script->hung = done;
		return;
	}
}

void test_let_go(struct script *script)
{
	struct bdev_done done = script->hung;

	assert_non_null(done.fn);
	script->hung.fn = NULL;
	bdev_done_call(done, NULL);
}

static void t_create(struct bdev *bdev, struct bdev_done done)
{
	play(script_of(bdev), &script_of(bdev)->create, done);
}

static void t_online(struct bdev *bdev, struct bdev_done done)
{
	play(script_of(bdev), &script_of(bdev)->online, done);
}

static void t_destroy(struct bdev *bdev, struct bdev_done done)
{
	test_trace_add("destroy %s; ", bdev->name);
	script_of(bdev)->destroys++;
	play(script_of(bdev), &script_of(bdev)->destroy, done);
}

static void t_persist(struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done)
{
	test_trace_add("persist %s %u; ", bdev->name, (unsigned)planned->num_blocks);
	script_of(bdev)->persists++;
	play(script_of(bdev), &script_of(bdev)->persist, done);
}

static void t_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	test_trace_add("storage %s %u; ", bdev->name, (unsigned)own_blocks);
	play(script_of(bdev), &script_of(bdev)->resize, done);
}

static int t_may_resize(
        const struct bdev *bdev, const struct bdev_geometry *planned, struct err *err)
{
	(void)planned;
	if (script_of(bdev)->may_resize_refuses)
		return err_set(err, -EAGAIN, "a rebuild is running");
	return 0;
}

static void t_resized(struct bdev *bdev, uint64_t old_blocks)
{
	test_trace_add("resized %s %u>%u; ", bdev->name, (unsigned)old_blocks,
	        (unsigned)bdev->geometry.num_blocks);
	assert_int_equal(bdev->geometry.num_blocks, bdev_num_blocks(bdev));
	test_invariants();
}

static void t_base_lost(struct bdev *bdev, unsigned index, struct bdev_done done)
{
	test_trace_add("lost %s %u; ", bdev->name, index);
	assert_non_null(bdev->bases[index]);
	play(script_of(bdev), &script_of(bdev)->base_lost, done);
}

static void t_base_returned(struct bdev *bdev, unsigned index, struct bdev_done done)
{
	test_trace_add("returned %s %u; ", bdev->name, index);
	assert_non_null(bdev->bases[index]);
	play(script_of(bdev), &script_of(bdev)->base_returned, done);
}

static int at_least(const struct bdev *bdev, const struct bdev_geometry *out, struct err *err)
{
	uint64_t least = script_of(bdev)->geometry_min_blocks;

	if (out->num_blocks < least)
		return err_set(err, -EINVAL, "it needs %u blocks", (unsigned)least);
	return 0;
}

static int leaf_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	out->num_blocks = in->own_blocks;
	out->block_bytes = TEST_BLOCK;
	out->caps = BIO_CAPS_ALL & ~BIO_CAP(BIO_BLOCK_STATUS);
	out->write_cache = true;
	return at_least(bdev, out, err);
}

static int pass_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	if (in->bases[0].block_bytes == 0)
		return err_set(err, -ENODEV, "no base");
	return at_least(bdev, out, err);
}

static int part_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	if (in->own_blocks && in->own_blocks > in->bases[0].num_blocks)
		return err_set(err, -ENOSPC, "the base is too small for this part");
	if (in->own_blocks)
		out->num_blocks = in->own_blocks;
	return at_least(bdev, out, err);
}

static int min_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	for (unsigned i = 0; i < in->num_bases; i++) {
		if (in->bases[i].block_bytes)
			out->num_blocks = min_u64(out->num_blocks, in->bases[i].num_blocks);
	}
	if (out->num_blocks == 0)
		return err_set(err, -ENODEV, "all of its bases are missing");
	return at_least(bdev, out, err);
}

static int sum_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	out->num_blocks = 0;
	for (unsigned i = 0; i < in->num_bases; i++) {
		if (in->bases[i].block_bytes == 0)
			return err_set(err, -ENODEV, "one of its bases is missing");
		out->num_blocks += in->bases[i].num_blocks;
	}
	return at_least(bdev, out, err);
}

static void leaf_submit(struct bio *bio)
{
	unsigned id = bio->loop->id;

	if (!__atomic_load_n(&script_of(bio_bdev(bio))->hold_bios, __ATOMIC_RELAXED)) {
		bio_complete(bio, 0);
		return;
	}
	bio->task.next = held[id];
	held[id] = &bio->task;
	__atomic_fetch_add(&held_count, 1, __ATOMIC_RELEASE);
}

static void let_go_on_loop(struct loop_task *task)
{
	unsigned id = loop_self()->id;

	while (held[id]) {
		struct bio *bio = container_of(held[id], struct bio, task);

		held[id] = held[id]->next;
		bio_complete(bio, 0);
		__atomic_fetch_sub(&held_count, 1, __ATOMIC_RELEASE);
	}
	free(task);
}

void test_let_go_bios(void)
{
	for (unsigned i = 0; i < loops_count(); i++) {
		struct loop_task *task = xcalloc(1, sizeof(*task));

		task->run = let_go_on_loop;
		loop_send(loop_get(i), task);
	}
}

unsigned test_bios_held(void)
{
	return __atomic_load_n(&held_count, __ATOMIC_ACQUIRE);
}

static void first_submit(struct bio *bio)
{
	const struct bdev *bdev = bio_bdev(bio);

	for (unsigned i = 0; i < bdev->num_bases; i++) {
		if (bdev->bases[i]) {
			bio_forward(bio, bdev->bases[i], bio_offset(bio), NULL);
			return;
		}
	}
	bio_complete(bio, -EIO);
}

#define EVERY_SLOT                                                                                 \
	.priv_bytes = sizeof(struct test_params), .create = t_create, .online = t_online,          \
	.destroy = t_destroy, .persist = t_persist, .may_resize = t_may_resize,                    \
	.resized = t_resized

struct bdev_module test_leaf = {
        .name = "t_leaf",
        EVERY_SLOT,
        .geometry = leaf_geometry,
        .submit = leaf_submit,
        .resize = t_resize,
};
struct bdev_module test_fixed = {
        .name = "t_fixed",
        EVERY_SLOT,
        .geometry = leaf_geometry,
        .submit = leaf_submit,
};
struct bdev_module test_pass = {
        .name = "t_pass",
        .bases_min = 1,
        .bases_max = 1,
        EVERY_SLOT,
        .geometry = pass_geometry,
};
struct bdev_module test_bare = {
        .name = "t_bare",
        .bases_min = 1,
        .bases_max = 1,
        .priv_bytes = sizeof(struct test_params),
};
struct bdev_module test_part = {
        .name = "t_part",
        .bases_min = 1,
        .bases_max = 1,
        .shares_base = true,
        EVERY_SLOT,
        .geometry = part_geometry,
        .resize = t_resize,
};
struct bdev_module test_min = {
        .name = "t_min",
        .bases_min = 1,
        .bases_max = 4,
        EVERY_SLOT,
        .geometry = min_geometry,
        .submit = first_submit,
        .base_lost = t_base_lost,
        .base_returned = t_base_returned,
};
struct bdev_module test_sum = {
        .name = "t_sum",
        .bases_min = 1,
        .bases_max = 4,
        EVERY_SLOT,
        .geometry = sum_geometry,
        .submit = first_submit,
};
BDEV_MODULE(test_leaf);
BDEV_MODULE(test_fixed);
BDEV_MODULE(test_pass);
BDEV_MODULE(test_bare);
BDEV_MODULE(test_part);
BDEV_MODULE(test_min);
BDEV_MODULE(test_sum);
