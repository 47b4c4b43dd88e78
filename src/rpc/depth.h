/* depth.h: queue depths that are sampled. */
#pragma once

#include "bdev/bdev.h"

/* Adds what is known of the bdev, if it is sampled, to its row of bdev_get_iostat: depth now, time
 * in which requests were in flight, and the same times their number, both in us. */
void rpc_depth_describe(const struct bdev *bdev, json_t *row);
/* The server stops. */
void rpc_depth_stop(void);
