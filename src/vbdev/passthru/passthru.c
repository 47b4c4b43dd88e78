/* passthru.c: the smallest layer. What it leaves out, the core passes through. */
#include "bdev/bdev.h"

static json_t *passthru_describe(const struct bdev *bdev)
{
	return json_pack("{s:{s:s, s:s}}", "passthru", "name", bdev->name, "base_bdev_name",
	        bdev->bases[0]->name);
}

static struct bdev_module passthru_module = {
        .name = "passthru",
        .product_name = "passthru",
        .summary = "Passes everything on to its base",
        .bases_min = 1,
        .bases_max = 1,
        .describe = passthru_describe,
};
BDEV_MODULE(passthru_module);
