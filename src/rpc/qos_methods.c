/* qos_methods.c: rate limits of bdevs: set, shown and saved by the names of one table. */

#include <errno.h>

#include "bdev/qos.h"
#include "rpc/bdev_describe.h"
#include "rpc/rpc.h"

struct qos_params {
	char *name;
	uint64_t limit[QOS_LIMITS];
	bool given[QOS_LIMITS];
};

#define LIMIT(i, text, unit_text, limit_max, what)                                                 \
	{                                                                                          \
		PARAM_NAMED(text, struct qos_params, limit[i], PARAM_U64),                         \
		        .given = offsetof(struct qos_params, given[i]), .unit = (unit_text),       \
		        .max = (limit_max), .help = what "; 0: no limit; default: as it is"        \
	}
#define LIMIT_IOS(i, text, what) LIMIT(i, text, "IO/s", 0, what)
#define LIMIT_MBYTES(i, text, what) LIMIT(i, text, "MiB/s", QOS_MBYTES_MAX, what)

/* In the order in which bdev_get_bdevs shows them; the first four as clients know them. */
static const struct param set_table[] = {
        {PARAM(struct qos_params, name, PARAM_STRING), .required = true, .help = "of the bdev"},
        LIMIT_IOS(QOS_RW_IOS, "rw_ios_per_sec", "reads and writes"),
        LIMIT_MBYTES(QOS_RW_MBYTES, "rw_mbytes_per_sec", "of reads and writes"),
        LIMIT_MBYTES(QOS_R_MBYTES, "r_mbytes_per_sec", "of reads"),
        LIMIT_MBYTES(QOS_W_MBYTES, "w_mbytes_per_sec", "of writes"),
        LIMIT_IOS(QOS_R_IOS, "r_ios_per_sec", "reads"),
        LIMIT_IOS(QOS_W_IOS, "w_ios_per_sec", "writes"),
        {0},
};
static const enum bdev_qos shown[] = {
        QOS_RW_IOS, QOS_RW_MBYTES, QOS_R_MBYTES, QOS_W_MBYTES, QOS_R_IOS, QOS_W_IOS};
#define ALWAYS_SHOWN 4

static json_t *limits_of(const struct bdev *bdev, unsigned always)
{
	struct bdev_qos_limits limits;
	json_t *object = json_object();

	bdev_get_qos(bdev, &limits);
	for (unsigned i = 0; i < ARRAY_SIZE(shown); i++) {
		uint64_t limit = limits.per_sec[shown[i]];

		if (limit || i < always)
			json_object_set_new(
			        object, set_table[1 + i].name, json_integer((json_int_t)limit));
	}
	return object;
}

json_t *rpc_qos_describe(const struct bdev *bdev)
{
	return limits_of(bdev, ALWAYS_SHOWN);
}

json_t *rpc_qos_save(const struct bdev *bdev)
{
	json_t *limits = limits_of(bdev, 0), *params;

	if (json_object_size(limits) == 0) {
		json_decref(limits);
		return NULL;
	}
	params = json_pack("{s:s}", "name", bdev->name);
	json_object_update(params, limits);
	json_decref(limits);
	return params;
}

static void was_set(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

static void set_limits(struct rpc_request *request, void *params)
{
	const struct qos_params *p = params;
	struct bdev *bdev = bdev_find(p->name);
	struct bdev_qos_limits limits;
	bool any = false;

	if (!bdev) {
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", p->name);
		return;
	}
	bdev_get_qos(bdev, &limits);
	for (unsigned i = 0; i < QOS_LIMITS; i++) {
		any |= p->given[i];
		if (p->given[i])
			limits.per_sec[i] = p->limit[i];
	}
	if (any)
		bdev_set_qos(bdev, &limits, (struct bdev_done){was_set, request});
	else
		rpc_fail(request, -EINVAL, "No rate limits specified");
}

static struct rpc_method bdev_set_qos_limit = {
        .name = "bdev_set_qos_limit",
        .summary = "Limits the rate of a bdev, at once and also while it is in use",
        .result_help = "true",
        .params = set_table,
        .params_bytes = sizeof(struct qos_params),
        .handler = set_limits,
};
RPC_METHOD(bdev_set_qos_limit);
