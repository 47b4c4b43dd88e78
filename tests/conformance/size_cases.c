/* Sizes: growth under load, shrinkage that is refused, and that is agreed to. */
#include "tests/conformance/conformance.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"

struct sizes {
	uint64_t bdevs[BDEVS_MAX], bases[BASES_MAX];
};

static struct sizes sizes_of(const struct stack *stack)
{
	struct sizes sizes = {0};

	for (unsigned i = 0; i < stack->num_bdevs; i++)
		sizes.bdevs[i] = bdev_blocks_of(stack->bdevs[i]);
	for (unsigned i = 0; i < stack->num_bases; i++)
		sizes.bases[i] = bdev_blocks_of(stack->bases[i]);
	return sizes;
}

struct backing {
	const char *name;
	bool ok;
};

/* Nothing is larger than what stands below it, whatever the bdev does with its bases. */
static void check_backing(void *arg)
{
	struct backing *b = arg;
	const struct bdev *bdev = bdev_find(b->name);
	uint64_t below = 0;

	b->ok = bdev && bdev->geometry.num_blocks == bdev_num_blocks(bdev);
	if (!b->ok)
		return;
	for (unsigned i = 0; i < bdev->num_bases; i++) {
		if (bdev->bases[i])
			below += bdev_num_blocks(bdev->bases[i]) << bdev->bases[i]->block_shift;
	}
	b->ok = bdev->num_bases == 0 || bdev_num_blocks(bdev) << bdev->block_shift <= below;
}

static void expect_consistent(const struct stack *stack)
{
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		struct backing b = {.name = stack->bdevs[i]};

		inproc_run(check_backing, &b);
		if (!b.ok)
			fail_msg("'%s' is larger than what backs it", stack->bdevs[i]);
		assert_int_equal(disk_blocks(stack->disks[i]), bdev_blocks_of(stack->bdevs[i]));
	}
}

/* Each change of size is told once: by now the client has the present one. */
static void expect_told(const struct stack *stack, const struct sizes *before)
{
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		unsigned told = stack->disks[i]->told;
		bool changed = disk_blocks(stack->disks[i]) != before->bdevs[i];

		assert_true(changed ? told >= 1 : told == 0);
		assert_true(told <= max_u64(stack->num_bases, 1));
	}
}

static void growth(struct stack *stack)
{
	struct rng rng = rng_of(1);
	struct model *models[BDEVS_MAX];
	struct sizes before;
	struct load *load;
	struct err err = ERR_NONE;

	if (!can_resize(stack))
		return;
	stack_open(stack);
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		models[i] = model_new(stack, stack->disks[i]);
		model_run(models[i], &rng, 60);
	}
	before = sizes_of(stack);
	/* The last bdev serves meanwhile; what the load writes its model no longer knows. */
	load = start_load(stack, stack->num_bdevs - 1, 16, 1);
	load_run(load, 200);
	if (stack_resize_storage(stack, 3, 2, &err))
		fail_msg("growth is refused: %s", err.text);
	load_run(load, 200);
	struct load_result result = load_stop(load);

	expect_clean(stack, &result);
	expect_consistent(stack);
	expect_told(stack, &before);
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		assert_true(disk_blocks(stack->disks[i]) >= before.bdevs[i]);
		if (i == stack->num_bdevs - 1)
			model_forget(models[i]);
		model_resized(models[i]);
		model_verify(models[i]);
		model_run(models[i], &rng, 100);
		model_verify(models[i]);
		model_free(models[i]);
	}
	if (is_backend(stack))
		assert_int_equal(disk_blocks(stack->disks[0]), before.bdevs[0] * 3 / 2);
}

static void refused_shrinkage(struct stack *stack)
{
	struct rng rng = rng_of(2);
	struct model *model;
	struct sizes before, after;
	struct err err = ERR_NONE;

	if (!can_resize(stack))
		return;
	stack_open(stack);
	model = model_new(stack, stack->disks[0]);
	model_run(model, &rng, 60);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		stack->disks[i]->veto_shrink = true;
	before = sizes_of(stack);
	stack_resize_storage(stack, 1, 2, &err);
	after = sizes_of(stack);
	/* No client has lost a block. Who has not lost one may have let its base shrink. */
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		assert_int_equal(after.bdevs[i], before.bdevs[i]);
		assert_int_equal(stack->disks[i]->told, 0);
	}
	if (err.code && stack->num_bases <= 1) {
		assert_true(err.text[0]);
		assert_memory_equal(&before, &after, sizeof(before));
	}
	expect_consistent(stack);
	model_verify(model);
	model_run(model, &rng, 60);
	model_free(model);
}

static void agreed_shrinkage(struct stack *stack)
{
	struct rng rng = rng_of(3);
	struct sizes before, after;
	struct model *model;
	struct load *load;
	uint8_t *buf;
	int rc;

	if (!can_resize(stack))
		return;
	stack_open(stack);
	model = model_new(stack, stack->disks[0]);
	model_run(model, &rng, 60);
	before = sizes_of(stack);
	load = start_load(stack, stack->num_bdevs - 1, 8, 8);
	load_run(load, 100);
	rc = stack_resize_storage(stack, 3, 4, NULL);
	load_run(load, 100);
	struct load_result result = load_stop(load);

	expect_clean(stack, &result);
	after = sizes_of(stack);
	if (rc && stack->num_bases <= 1)
		assert_memory_equal(&before, &after, sizeof(before));
	expect_consistent(stack);
	expect_told(stack, &before);
	buf = xcalloc(2, stack->disks[0]->block_bytes);
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		uint64_t blocks = disk_blocks(stack->disks[i]);

		assert_int_equal(disk_read(stack->disks[i], blocks - 1, 1, buf), 0);
		assert_int_equal(disk_read(stack->disks[i], blocks - 1, 2, buf), -EINVAL);
		assert_int_equal(disk_write(stack->disks[i], blocks, 1, buf), -EINVAL);
	}
	free(buf);
	if (stack->num_bdevs == 1)
		model_forget(model); /* the load was here */
	model->blocks = disk_blocks(stack->disks[0]);
	model_verify(model);
	model_run(model, &rng, 60);
	model_verify(model);
	model_free(model);
	if (is_backend(stack)) {
		assert_int_equal(rc, 0);
		assert_int_equal(after.bdevs[0], before.bdevs[0] * 3 / 4);
	}
}

const struct conformance_case size_cases[] = {
        {"grows under load", growth},
        {"a client's veto keeps the size", refused_shrinkage},
        {"shrinks under load, or refuses", agreed_shrinkage},
        {NULL, NULL},
};
