/* gpt.c: one partition of a disk: where it lies, how long it is, and the requests on it. */
#include "vbdev/gpt/gpt.h"

#include <errno.h>
#include <stdio.h>

const uuid_t gpt_types[GPT_TYPES] = {
        {0x65, 0x27, 0x99, 0x4e, 0x2c, 0x5a, 0x4e, 0xec, 0x96, 0x13, 0x8f, 0x59, 0x44, 0x07, 0x4e,
                0x8b},
        {0x7c, 0x52, 0x22, 0xbd, 0x8f, 0x5d, 0x40, 0x87, 0x9c, 0x00, 0xbf, 0x98, 0x43, 0xc7, 0xb5,
                0x8c},
};

static void submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct gpt_part *part = bdev->priv;
	uint64_t start = likely(bio->num_blocks) ? part->start_blocks : 0;

	bio_forward(bio, bdev->bases[0], start + bio_offset(bio), NULL);
}

/* What is a multiple of something on the disk is one in the partition if its start is. */
static void keep_alignments(struct bdev_geometry *g, uint64_t start)
{
	if (g->optimal_io_boundary_blocks && start % g->optimal_io_boundary_blocks)
		g->optimal_io_boundary_blocks = 0;
	/* Where the disk must not be crossed, the disk itself splits. */
	g->split_on_boundary = false;
	if (g->preferred_write_alignment_blocks && start % g->preferred_write_alignment_blocks)
		g->preferred_write_alignment_blocks = 0;
	if (g->preferred_unmap_alignment_blocks && start % g->preferred_unmap_alignment_blocks)
		g->preferred_unmap_alignment_blocks = 0;
}

static int geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct gpt_part *part = bdev->priv;
	uint64_t base_blocks = in->bases[0].num_blocks, end = part->start_blocks + part->num_blocks;

	if (end > base_blocks)
		return err_set(err, -ENOSPC,
		        "partition %u is blocks %llu to %llu of the disk, which would have only "
		        "%llu",
		        part->number, (unsigned long long)part->start_blocks,
		        (unsigned long long)(end - 1), (unsigned long long)base_blocks);
	out->num_blocks = part->num_blocks;
	keep_alignments(out, part->start_blocks);
	snprintf(out->why, sizeof(out->why), "partition %u, as long as the table of its disk says",
	        part->number);
	return 0;
}

static void destroy(struct bdev *bdev, struct bdev_done done)
{
	gpt_part_gone(bdev);
	bdev_done_call(done, NULL);
}

static json_t *describe(const struct bdev *bdev)
{
	const struct gpt_part *part = bdev->priv;
	char type[UUID_STR_LEN], guid[UUID_STR_LEN];

	uuid_unparse_lower(part->type, type);
	uuid_unparse_lower(part->guid, guid);
	return json_pack("{s:{s:s, s:I, s:s, s:s, s:s}}", "gpt", "base_bdev", bdev->bases[0]->name,
	        "offset_blocks", (json_int_t)part->start_blocks, "partition_type_guid", type,
	        "unique_partition_guid", guid, "partition_name", part->name);
}

/* They are found again. */
static json_t *save_nothing(const struct bdev *bdev)
{
	(void)bdev;
	return NULL;
}

/* Equal partitions, and partitions of 1 MiB. */
static json_t *example(const struct bdev_example *wanted)
{
	if (wanted->variant > 1)
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:i, s:i}}]", "method", "bdev_gpt_create", "params",
	        "base_bdev", wanted->bases[0], "partition_count", 3, "partition_size_mb",
	        wanted->variant ? 1 : 0);
}

struct bdev_module gpt_module = {
        .name = "gpt",
        .product_name = "GPT Disk",
        .summary = "partitions of a disk, each a bdev",
        .bases_min = 1,
        .bases_max = 1,
        .base_param = "base_bdev",
        .priv_bytes = sizeof(struct gpt_part),
        .shares_base = true,
        .methods = gpt_methods,
        .no_generated_methods = true,
        .geometry = geometry,
        .submit = submit,
        .destroy = destroy,
        .examine = gpt_examine,
        .describe = describe,
        .save = save_nothing,
        .save_module = gpt_save_module,
        .stop = gpt_stop,
        .example = example,
};
BDEV_MODULE(gpt_module);
