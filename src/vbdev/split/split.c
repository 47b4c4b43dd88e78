/*
 * split.c: one part of a split base: where it lies, how long it is, and the requests on it.
 */
#include "base/plant.h"
#include "vbdev/split/split.h"

#include <errno.h>
#include <stdio.h>

void split_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct split_part *part = bdev->priv;
	uint64_t start = likely(bio->num_blocks) ? part->start_blocks : 0;
	if (PLANT(SPLIT_OFF_BY_ONE) && start > 0 && bio->num_blocks > 1)
		start--;

	bio_forward(bio, bdev->bases[0], start + bio_offset(bio), NULL);
}

uint32_t split_fitting(const struct split *split, uint64_t base_blocks)
{
	uint64_t room = base_blocks / split->part_blocks;

	/* The last of equal parts ends where the base ends, so it has room if one block has. */
	if (split->size_mb == 0 && base_blocks > (split->count - 1) * split->part_blocks)
		return split->count;
	return (uint32_t)min_u64(room, split->count);
}

/* What is a multiple of something in the base is one in the part if its start is. */
static void keep_alignments(struct bdev_geometry *g, uint64_t start)
{
	if (g->optimal_io_boundary_blocks && start % g->optimal_io_boundary_blocks)
		g->optimal_io_boundary_blocks = 0;
	/* Where the base must not be crossed, the base itself splits. */
	g->split_on_boundary = false;
	if (g->preferred_write_alignment_blocks && start % g->preferred_write_alignment_blocks)
		g->preferred_write_alignment_blocks = 0;
	if (g->preferred_unmap_alignment_blocks && start % g->preferred_unmap_alignment_blocks)
		g->preferred_unmap_alignment_blocks = 0;
}

int split_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct split_part *part = bdev->priv;
	const struct split *split = part->split;
	uint64_t base_blocks = in->bases[0].num_blocks, len = split->part_blocks;
	uint64_t start = part->start_blocks;
	uint32_t fitting = split_fitting(split, base_blocks);

	if (part->index >= fitting)
		return err_set(err, -ENOSPC,
		        "part %u is blocks %llu to %llu of the base, which would have only %llu",
		        part->index, (unsigned long long)start,
		        (unsigned long long)(start + len - 1), (unsigned long long)base_blocks);
	/*
	 * The last of equal parts takes what the base gains or loses. Less than a block for each
	 * part is what was left over in the beginning.
	 */
	uint64_t room = base_blocks - start;
	bool follows = split->size_mb == 0 && part->index == split->count - 1;

	if (follows && (room < len || room - len >= split->count))
		len = room;
	out->num_blocks = len;
	keep_alignments(out, start);
	int n = snprintf(out->why, sizeof(out->why), "part %u of %u, %s", part->index, split->count,
	        follows ? "the last: up to the end of the base" : "fixed at creation");

	if (part->index == fitting - 1 && room > len)
		snprintf(out->why + n, sizeof(out->why) - (size_t)n,
		        "; %llu blocks of the base unused", (unsigned long long)(room - len));
	return 0;
}

static void destroy(struct bdev *bdev, struct bdev_done done)
{
	split_part_gone(bdev);
	bdev_done_call(done, NULL);
}

static json_t *describe(const struct bdev *bdev)
{
	return json_pack("{s:{s:s, s:I}}", "split", "base_bdev", bdev->bases[0]->name,
	        "offset_blocks", (json_int_t)((const struct split_part *)bdev->priv)->start_blocks);
}

/* The parts are saved together, by the base. */
static json_t *save_nothing(const struct bdev *bdev)
{
	(void)bdev;
	return NULL;
}

/* Equal parts, and parts of 1 MiB. */
static json_t *example(const struct bdev_example *wanted)
{
	if (wanted->variant > 1)
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:i, s:i}}]", "method", "bdev_split_create", "params",
	        "base_bdev", wanted->bases[0], "split_count", 3, "split_size_mb",
	        wanted->variant ? 1 : 0);
}

struct bdev_module split_module = {
        .name = "split",
        .product_name = "Split Disk",
        .summary = "equal parts of a base, each a bdev",
        .bases_min = 1,
        .bases_max = 1,
        .base_param = "base_bdev",
        .priv_bytes = sizeof(struct split_part),
        .shares_base = true,
        .methods = split_methods,
        .no_generated_methods = true,
        .geometry = split_geometry,
        .submit = split_submit,
        .destroy = destroy,
        .examine = split_examine,
        .describe = describe,
        .save = save_nothing,
        .save_module = split_save_module,
        .for_each_waiting = split_for_each_waiting,
        .stop = split_stop,
        .example = example,
};
BDEV_MODULE(split_module);
