/* bdev_describe.h: one bdev as bdev_get_bdevs shows it. */
#pragma once

#include "bdev/bdev.h"

/* A new object. */
json_t *rpc_bdev_describe(const struct bdev *bdev);
/* Its rate limits, new: as bdev_get_bdevs shows them; as bdev_set_qos_limit takes them, NULL when
 * there are none. */
json_t *rpc_qos_describe(const struct bdev *bdev);
json_t *rpc_qos_save(const struct bdev *bdev);
