#include "tests/lib/test_modules.h"

#include <errno.h>

#include "bdev/bdev.h"
#include "rpc/param.h"

struct plain_priv {
	uint64_t num_blocks;
	uint32_t block_size;
	char *label;
};

static const struct param plain_params[] = {
        {PARAM(struct plain_priv, num_blocks, PARAM_U64), .required = true, .unit = "blocks",
                .help = "size"},
        {PARAM(struct plain_priv, block_size, PARAM_U32), .required = true, .unit = "bytes",
                .help = "size of a block"},
        {PARAM(struct plain_priv, label, PARAM_STRING), .help = "any text"},
        {0},
};

static int plain_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct plain_priv *p = bdev_priv(bdev);

	(void)err;
	out->num_blocks = in->own_blocks;
	out->block_bytes = p->block_size;
	out->caps = BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_RESET);
	return 0;
}

static void plain_submit(struct bio *bio)
{
	bio_complete(bio, 0);
}

static void plain_create(struct bdev *bdev, struct bdev_done done)
{
	const struct plain_priv *p = bdev_priv(bdev);
	struct err err = ERR_NONE;

	if (!is_power_of_two(p->block_size) || p->block_size < 512 || !p->num_blocks)
		err_set(&err, -EINVAL, "the block size must be a power of two from 512 on");
	bdev_set_own_blocks(bdev, p->num_blocks);
	bdev_done_call(done, &err);
}

static void plain_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	((struct plain_priv *)bdev_priv(bdev))->num_blocks = own_blocks;
	bdev_done_call(done, NULL);
}

static struct bdev_module plain_module = {
        .name = "plain",
        .product_name = "Plain disk",
        .summary = "A disk for tests",
        .priv_bytes = sizeof(struct plain_priv),
        .params = plain_params,
        .geometry = plain_geometry,
        .submit = plain_submit,
        .create = plain_create,
        .resize = plain_resize,
};
BDEV_MODULE(plain_module);

static struct bdev_module through_module = {
        .name = "through",
        .product_name = "Through",
        .summary = "The same as its base",
        .bases_min = 1,
        .bases_max = 1,
};
BDEV_MODULE(through_module);

void test_modules_link(void)
{
}
