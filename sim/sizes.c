/* Sizes: no bdev is larger than what backs it, and when all is quiet each is what it must be. */
#include "sim/run.h"

static uint64_t bytes_of(const struct bdev *bdev)
{
	return bdev_num_blocks(bdev) << bdev->block_shift;
}

static void check_one(const struct bdev *bdev, bool quiet)
{
	const struct sim_module *m = sim_module_find(bdev->module->name);
	const struct sim_file *f = stack_file(bdev);
	uint64_t backing = 0, own = bytes_of(bdev);

	for (unsigned i = 0; i < bdev->num_bases; i++)
		backing += bdev->bases[i] ? bytes_of(bdev->bases[i]) : UINT32_MAX;
	/* A backing that was cut from outside is noticed later: its faults say so. */
	if (bdev->num_bases && own > backing)
		sim_fail("larger than its base", "%s has %lu bytes, on %lu", bdev->name, own,
		        backing);
	if (f && own > f->size_bytes && f->faults == 0)
		sim_fail("larger than its base", "%s has %lu bytes, its file %lu", bdev->name, own,
		        f->size_bytes);
	if (!quiet || !m || stack_faulty(bdev))
		return;
	if (bdev->held_blocks && bdev_num_blocks(bdev) != bdev->held_blocks)
		sim_fail("wrong size", "%s is held at %lu blocks and has %lu", bdev->name,
		        bdev->held_blocks, bdev_num_blocks(bdev));
	if (bdev->held_blocks)
		return;
	if (m->expected_blocks && bdev_num_blocks(bdev) != m->expected_blocks(bdev))
		sim_fail("wrong size", "%s has %lu blocks, it must have %lu", bdev->name,
		        bdev_num_blocks(bdev), m->expected_blocks(bdev));
	if ((m->claims & SIM_IDENTITY) && own != backing)
		sim_fail("wrong size", "%s has %lu bytes, its base %lu", bdev->name, own, backing);
	if (bdev->geometry.num_blocks != bdev_num_blocks(bdev))
		sim_fail("wrong size", "%s: geometry says %lu blocks, %lu are published",
		        bdev->name, bdev->geometry.num_blocks, bdev_num_blocks(bdev));
}

/* Parts of one base don't overlap, so together they fit in. */
static void check_parts(const struct bdev *base)
{
	uint64_t sum = 0;
	const struct bdev *part;

	for (unsigned i = 0; (part = bdev_parent(base, i)); i++)
		sum += bytes_of(part);
	if (sum > bytes_of(base) && !stack_faulty(base))
		sim_fail("larger than its base", "the bdevs on %s have %lu bytes, it has %lu",
		        base->name, sum, bytes_of(base));
}

/* After a restart: the size that was answered last, or that of a resize that the end cut off. */
void stack_check_kept_sizes(void)
{
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		struct run_node *node = stack_node_of(b);
		uint64_t now = bdev_num_blocks(b);

		if (!node || !stack_file(b) || stack_faulty(b))
			continue;
		if (node->own_blocks && now != node->own_blocks && now != node->next_blocks)
			sim_fail("size lost",
			        "%s has %lu blocks after a restart; the last size that was "
			        "answered is %lu",
			        b->name, now, node->own_blocks);
		node->own_blocks = now;
		node->next_blocks = 0;
	}
}

void stack_check(bool quiet)
{
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		check_one(b, quiet);
		check_parts(b);
	}
}
