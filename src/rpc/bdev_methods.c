/* bdev_methods.c: methods for bdevs of every kind: options, listing, examining. */

#include <errno.h>
#include <string.h>

#include "rpc/bdev_describe.h"
#include "rpc/rpc.h"

/* ---- bdev_set_options ------------------------------------------------------------------------ */

struct options_params {
	uint32_t saved[ARRAY_SIZE(((struct bdev_options *)0)->saved_values)];
	bool saved_given[ARRAY_SIZE(((struct bdev_options *)0)->saved_values)];
	bool bdev_auto_examine, auto_examine_given;
	uint32_t step_timeout_ms, stat_interval_ms;
	bool step_timeout_given, stat_interval_given;
};

#define SAVED(i, text)                                                                             \
	{                                                                                          \
		PARAM_NAMED(text, struct options_params, saved[i], PARAM_U32),                     \
		        .given = offsetof(struct options_params, saved_given[i]),                  \
		        .help = "accepted and saved; has no effect"                                \
	}

static const struct param options_table[] = {
        SAVED(0, "bdev_io_pool_size"),
        SAVED(1, "bdev_io_cache_size"),
        {PARAM(struct options_params, bdev_auto_examine, PARAM_BOOL),
                .given = offsetof(struct options_params, auto_examine_given),
                .help = "look for metadata on every bdev that appears; default true"},
        SAVED(2, "iobuf_small_cache_size"),
        SAVED(3, "iobuf_large_cache_size"),
        {PARAM(struct options_params, step_timeout_ms, PARAM_U32),
                .given = offsetof(struct options_params, step_timeout_given), .unit = "ms",
                .min = 1, .max = 3600 * 1000,
                .help = "how long one step of a creation, removal or resize may take"},
        {PARAM(struct options_params, stat_interval_ms, PARAM_U32),
                .given = offsetof(struct options_params, stat_interval_given), .unit = "ms",
                .help = "how often the size of the storage below is looked at"},
        {0},
};

static void set_options(struct rpc_request *request, void *params)
{
	const struct options_params *p = params;
	struct bdev_options *options = bdev_options();
	uint32_t values[ARRAY_SIZE(p->saved)];

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		values[i] = p->saved_given[i] ? p->saved[i] : options->saved_values[i];
	if (values[0] < (uint64_t)values[1] * (loops_count() + 1)) {
		rpc_fail(request, RPC_INVALID_PARAMS,
		        "bdev_io_pool_size %u is too small for bdev_io_cache_size %u on %u loops",
		        values[0], values[1], loops_count());
		return;
	}
	memcpy(options->saved_values, values, sizeof(values));
	if (p->auto_examine_given)
		options->auto_examine = p->bdev_auto_examine;
	if (p->step_timeout_given)
		options->step_timeout_ms = p->step_timeout_ms;
	if (p->stat_interval_given)
		options->stat_interval_ms = p->stat_interval_ms;
	rpc_reply(request, NULL);
}

static struct rpc_method bdev_set_options = {
        .name = "bdev_set_options",
        .summary = "Options of the bdev layer; what is not given keeps its value",
        .result_help = "true",
        .params = options_table,
        .params_bytes = sizeof(struct options_params),
        .states = RPC_STARTUP,
        .decode_error = RPC_INVALID_PARAMS,
        .handler = set_options,
};
RPC_METHOD(bdev_set_options);

/* ---- bdev_get_bdevs -------------------------------------------------------------------------- */

#define TIMEOUT_MAX_MS (365ULL * 24 * 3600 * 1000)

struct get_params {
	char *name;
	uint64_t timeout;
};

static const struct param get_table[] = {
        {PARAM(struct get_params, name, PARAM_STRING), .help = "name, alias or UUID; default: all"},
        {PARAM(struct get_params, timeout, PARAM_U64), .unit = "ms",
                .help = "with name: how long to wait for it to appear"},
        {0},
};

static void reply_one(struct rpc_request *request, const struct bdev *bdev)
{
	rpc_reply(request, json_pack("[o]", rpc_bdev_describe(bdev)));
}

static void appeared(void *arg, struct bdev *bdev)
{
	struct rpc_request *request = arg;

	if (bdev)
		reply_one(request, bdev);
	else
		rpc_fail(request, -ETIMEDOUT, "no bdev of that name has appeared");
}

static void get_bdevs(struct rpc_request *request, void *params)
{
	const struct get_params *p = params;
	struct bdev *bdev = p->name ? bdev_find(p->name) : NULL;
	json_t *list;

	if (bdev) {
		reply_one(request, bdev);
	} else if (p->name && p->timeout) {
		bdev_wait_for(p->name, min_u64(p->timeout, TIMEOUT_MAX_MS), appeared, request);
	} else if (p->name) {
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", p->name);
	} else {
		list = json_array();
		while ((bdev = bdev_next(bdev)))
			json_array_append_new(list, rpc_bdev_describe(bdev));
		rpc_reply(request, list);
	}
}

static struct rpc_method bdev_get_bdevs = {
        .name = "bdev_get_bdevs",
        .summary = "All bdevs, or one, with everything that is to be known about them",
        .result_help = "list of objects: name, aliases, product_name, block_size, num_blocks, "
                       "uuid, claimed, supported_io_types, driver_specific, ...",
        .params = get_table,
        .params_bytes = sizeof(struct get_params),
        .handler = get_bdevs,
};
RPC_METHOD(bdev_get_bdevs);

/* ---- examining ------------------------------------------------------------------------------- */

struct name_params {
	char *name;
};

static const struct param name_table[] = {
        {PARAM(struct name_params, name, PARAM_STRING), .required = true,
                .help = "name of the bdev, which may appear later"},
        {0},
};

static void examine(struct rpc_request *request, void *params)
{
	const struct name_params *p = params;
	struct err err = ERR_NONE;

	(void)!bdev_examine_by_name(p->name, &err);
	rpc_reply_err(request, &err);
}

static struct rpc_method bdev_examine = {
        .name = "bdev_examine",
        .summary = "Looks for metadata on a bdev although bdev_auto_examine is off",
        .result_help = "true",
        .params = name_table,
        .params_bytes = sizeof(struct name_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = examine,
};
RPC_METHOD(bdev_examine);

static void examined(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

static void wait_for_examine(struct rpc_request *request, void *params)
{
	(void)params;
	bdev_wait_for_examine((struct bdev_done){examined, request});
}

static struct rpc_method wait_for_examine_method = {
        .name = "bdev_wait_for_examine",
        .summary = "Waits until no bdev is being looked at for metadata",
        .result_help = "true",
        .flags = RPC_NO_PARAMS,
        .handler = wait_for_examine,
};
RPC_METHOD(wait_for_examine_method);
