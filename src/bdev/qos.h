/*
 * qos.h: rate limits of a bdev. On the control loop; what holds for whom, and how exactly, stands
 * in docs/qos.md.
 */
#pragma once

#include "bdev/bdev.h"

enum bdev_qos {
	QOS_RW_IOS, /* operations per second */
	QOS_R_IOS,
	QOS_W_IOS,
	QOS_RW_MBYTES, /* MiB per second */
	QOS_R_MBYTES,
	QOS_W_MBYTES,
	QOS_LIMITS
};
#define QOS_MBYTES_MAX (UINT64_MAX >> 20)

struct bdev_qos_limits {
	uint64_t per_sec[QOS_LIMITS]; /* 0: no limit */
};

/*
 * Limits what enters this bdev, from targets and from bdevs on it, over all loops together. Reads
 * and compares count as reads; writes, write_zeroes and unmaps as writes, of which only a write
 * has bytes. Others pass. In any t seconds at most rate * (t + QOS_BURST_NS) and two requests per
 * loop are let in. What has to wait is not in flight: a quiesce does not wait for it, a removal
 * fails it. Takes effect at once, also for what waits already; done when every loop keeps to it.
 */
#define QOS_BURST_NS (10 * NSEC_PER_MSEC)
void bdev_set_qos(struct bdev *bdev, const struct bdev_qos_limits *limits, struct bdev_done done);
void bdev_get_qos(const struct bdev *bdev, struct bdev_qos_limits *out);
