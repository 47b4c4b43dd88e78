/*
 * depth_methods.c: queue depths, sampled while somebody wants to know. A bdev that is sampled has a
 * timer on the control loop, which asks every loop how many requests are in flight; the next time
 * is counted from the answer, so that a short period does not pile up.
 */

#include <errno.h>
#include <string.h>

#include "bdev/counts.h"
#include "rpc/depth.h"
#include "rpc/rpc.h"

#define PERIOD_MIN_US 100

struct sampler {
	struct list link;
	char name[BDEV_NAME_MAX];
	uuid_t uuid; /* a bdev of the same name that comes later is another */
	uint64_t period_us;
	uint64_t depth, sum;
	uint64_t busy_us, weighted_us;
	bool asking, dropped;
	struct loop_timer timer;
};

static struct list samplers = LIST_INIT(samplers);

static struct bdev *bdev_of(const struct sampler *s)
{
	struct bdev *bdev = bdev_find(s->name);

	return bdev && uuid_compare(bdev->uuid, s->uuid) == 0 ? bdev : NULL;
}

static void drop(struct sampler *s)
{
	if (!s->dropped)
		list_remove(&s->link);
	s->dropped = true;
	loop_timer_stop(loop_self(), &s->timer);
	if (!s->asking)
		free(s);
}

static void answered(void *arg, const struct err *err)
{
	struct sampler *s = arg;

	s->asking = false;
	if (s->dropped || (err && err->code)) {
		drop(s);
		return;
	}
	s->depth = s->sum;
	if (s->depth) {
		s->busy_us += s->period_us;
		s->weighted_us += s->period_us * s->depth;
	}
	loop_timer_start(
	        loop_self(), &s->timer, loop_now_ns(loop_self()) + s->period_us * NSEC_PER_USEC);
}

static void sample(struct loop_timer *timer)
{
	struct sampler *s = container_of(timer, struct sampler, timer);
	struct bdev *bdev = bdev_of(s);

	if (!bdev) {
		drop(s);
		return;
	}
	s->asking = true;
	bdev_get_depth(bdev, &s->sum, (struct bdev_done){answered, s});
}

static struct sampler *find(const struct bdev *bdev)
{
	struct sampler *s;

	list_for_each (s, &samplers, link)
		if (bdev_of(s) == bdev)
			return s;
	return NULL;
}

void rpc_depth_describe(const struct bdev *bdev, json_t *row)
{
	const struct sampler *s = find(bdev);

	if (!s)
		return;
	json_object_set_new(
	        row, "queue_depth_polling_period", json_integer((json_int_t)s->period_us));
	json_object_set_new(row, "queue_depth", json_integer((json_int_t)s->depth));
	json_object_set_new(row, "io_time", json_integer((json_int_t)s->busy_us));
	json_object_set_new(row, "weighted_io_time", json_integer((json_int_t)s->weighted_us));
}

void rpc_depth_stop(void)
{
	struct sampler *s, *next;

	list_for_each_safe (s, next, &samplers, link)
		drop(s);
}

/* ---- bdev_set_qd_sampling_period --------------------------------------------------------------
 */

struct period_params {
	char *name;
	uint64_t period;
};

static const struct param period_table[] = {
        {PARAM(struct period_params, name, PARAM_STRING), .required = true, .help = "of the bdev"},
        {PARAM(struct period_params, period, PARAM_U64), .required = true, .unit = "us",
                .max = UINT64_MAX / NSEC_PER_USEC / 4,
                .help = "how often; 0: no more; less than 100 is taken as 100"},
        {0},
};

static void set_period(struct rpc_request *request, void *params)
{
	const struct period_params *p = params;
	struct bdev *bdev = bdev_find(p->name);
	struct sampler *s = bdev ? find(bdev) : NULL;

	if (!bdev) {
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", p->name);
		return;
	}
	if (s)
		drop(s);
	if (p->period) {
		s = xcalloc(1, sizeof(*s));
		str_copy(s->name, sizeof(s->name), bdev->name);
		uuid_copy(s->uuid, bdev->uuid);
		s->period_us = max_u64(p->period, PERIOD_MIN_US);
		s->timer.fire = sample;
		list_push_back(&samplers, &s->link);
		loop_timer_start(loop_self(), &s->timer,
		        loop_now_ns(loop_self()) + s->period_us * NSEC_PER_USEC);
	}
	rpc_reply(request, NULL);
}

static struct rpc_method bdev_set_qd_sampling_period = {
        .name = "bdev_set_qd_sampling_period",
        .summary = "Samples the queue depth of a bdev, for bdev_get_iostat",
        .result_help = "true",
        .params = period_table,
        .params_bytes = sizeof(struct period_params),
        .handler = set_period,
};
RPC_METHOD(bdev_set_qd_sampling_period);
