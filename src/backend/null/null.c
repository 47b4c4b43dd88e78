/* null.c: a bdev that stores nothing: writes are dropped, reads give zeroes. */
#include <errno.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"

static struct bdev_module null_module;

struct null {
	uint64_t num_blocks;
	uint32_t block_size, physical_block_size;
	uint32_t preferred_write_granularity, preferred_write_alignment, optimal_write_size;
	uint32_t preferred_unmap_granularity, preferred_unmap_alignment;
	/* Metadata beside the blocks, which no layer of ours carries: only 0 is accepted. */
	uint32_t md_size, dif_pi_format;
	int32_t dif_type;
	bool dif_is_head_of_md;
};

static const struct param null_params[] = {
        {PARAM(struct null, num_blocks, PARAM_U64), .required = true, .unit = "blocks",
                .help = "size"},
        {PARAM(struct null, block_size, PARAM_U32), .required = true, .unit = "bytes",
                .help = "size of a block: a power of two from 512 to 65536"},
        {PARAM(struct null, physical_block_size, PARAM_U32), .unit = "bytes",
                .help = "physical block size to show; 0: the same as block_size"},
        {PARAM(struct null, preferred_write_granularity, PARAM_U32), .unit = "blocks",
                .help = "advice for clients: writes should be multiples of this"},
        {PARAM(struct null, preferred_write_alignment, PARAM_U32), .unit = "blocks",
                .help = "advice for clients: writes should begin at multiples of this"},
        {PARAM(struct null, optimal_write_size, PARAM_U32), .unit = "blocks",
                .help = "advice for clients: the size of writes that is served best"},
        {PARAM(struct null, preferred_unmap_granularity, PARAM_U32), .unit = "blocks",
                .help = "advice for clients: unmaps should be multiples of this"},
        {PARAM(struct null, preferred_unmap_alignment, PARAM_U32), .unit = "blocks",
                .help = "advice for clients: unmaps should begin at multiples of this"},
        {PARAM(struct null, md_size, PARAM_U32), .unit = "bytes",
                .help = "for compatibility: only 0, as there is no metadata beside blocks"},
        {PARAM(struct null, dif_type, PARAM_I32), .help = "for compatibility: only 0"},
        {PARAM(struct null, dif_pi_format, PARAM_U32), .help = "for compatibility: only 0"},
        {PARAM(struct null, dif_is_head_of_md, PARAM_BOOL),
                .help = "for compatibility: without effect"},
        {0},
};

static void null_submit(struct bio *bio)
{
	/* Whoever reads into memory that others have used must not get to see it. */
	if (bio->op == BIO_READ && !(bio->flags & BIO_STALE_OK))
		bio_zero_data(bio, 0, bio_bytes(bio));
	bio_complete(bio, 0);
}

static int null_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct null *null = bdev_priv(bdev);
	uint32_t physical = null->physical_block_size;

	if (physical != 0 && (!is_power_of_two(physical) || physical < null->block_size))
		return err_set(err, -EINVAL,
		        "a physical block of %u bytes; it must be a power of two, and not smaller "
		        "than a block",
		        physical);
	*out = (struct bdev_geometry){
	        .num_blocks = in->own_blocks,
	        .block_bytes = null->block_size,
	        .physical_block_bytes = physical ? physical : null->block_size,
	        .caps = BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_WRITE_ZEROES) |
	                BIO_CAP(BIO_RESET),
	        .preferred_write_granularity_blocks = null->preferred_write_granularity,
	        .preferred_write_alignment_blocks = null->preferred_write_alignment,
	        .optimal_write_blocks = null->optimal_write_size,
	        .preferred_unmap_granularity_blocks = null->preferred_unmap_granularity,
	        .preferred_unmap_alignment_blocks = null->preferred_unmap_alignment,
	};
	return 0;
}

static void null_create(struct bdev *bdev, struct bdev_done done)
{
	const struct null *null = bdev_priv(bdev);
	struct err err = ERR_NONE;

	if (null->md_size != 0 || null->dif_type != 0 || null->dif_pi_format != 0)
		err_set(&err, -EINVAL,
		        "null '%s': md_size, dif_type and dif_pi_format must be 0: blocks carry no "
		        "metadata here",
		        bdev->name);
	else if (null->num_blocks == 0)
		err_set(&err, -EINVAL, "null '%s': num_blocks must not be 0", bdev->name);
	else
		bdev_set_own_blocks(bdev, null->num_blocks);
	bdev_done_call(done, &err);
}

static void null_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	struct null *null = bdev_priv(bdev);

	null->num_blocks = own_blocks;
	bdev_done_call(done, NULL);
}

/* ---- bdev_null_resize ---------------------------------------------------------------------------
 */

struct resize_params {
	char *name;
	uint64_t new_size;
};

#define RESIZE_MAX_MIB (UINT64_C(1) << 42)

static const struct param resize_params[] = {
        {PARAM(struct resize_params, name, PARAM_STRING), .required = true, .help = "its name"},
        {PARAM(struct resize_params, new_size, PARAM_U64), .required = true, .unit = "MiB",
                .min = 0, .max = RESIZE_MAX_MIB, .help = "its size from now on"},
        {0},
};

static void resize_done(void *arg, const struct resize_report *report)
{
	rpc_reply_err(arg, &report->err);
}

static void resize_method(struct rpc_request *request, void *params)
{
	const struct resize_params *p = params;
	struct bdev *bdev = bdev_find(p->name);
	const struct null *null;

	if (!bdev || bdev->module != &null_module) {
		rpc_fail(request, -ENODEV, "there is no null bdev '%s'", p->name);
		return;
	}
	null = bdev_priv(bdev);
	if (p->new_size == 0) {
		rpc_fail(request, -EINVAL, "new_size must not be 0");
		return;
	}
	bdev_resize(bdev, MIB(p->new_size) / null->block_size, resize_done, request);
}

static const struct rpc_method null_methods[] = {
        {.name = "bdev_null_resize",
                .summary = "Changes the size of a null bdev, and of what stands on it",
                .result_help = "true",
                .params = resize_params,
                .params_bytes = sizeof(struct resize_params),
                .handler = resize_method},
        {0},
};

static json_t *null_example(const struct bdev_example *wanted)
{
	if (wanted->variant > 0)
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:I, s:I}}]", "method", "bdev_null_create", "params",
	        "name", wanted->name, "num_blocks", (json_int_t)wanted->num_blocks, "block_size",
	        (json_int_t)wanted->block_bytes);
}

static struct bdev_module null_module = {
        .name = "null",
        .product_name = "Null disk",
        .summary = "Stores nothing: writes are dropped, reads give zeroes",
        .priv_bytes = sizeof(struct null),
        .params = null_params,
        .methods = null_methods,
        .geometry = null_geometry,
        .submit = null_submit,
        .create = null_create,
        .resize = null_resize,
        .example = null_example,
        .keeps_no_data = true,
};
BDEV_MODULE(null_module);
