/* bdev_describe.h: one bdev as bdev_get_bdevs shows it. */
#pragma once

#include "bdev/bdev.h"

/* A new object. */
json_t *rpc_bdev_describe(const struct bdev *bdev);
