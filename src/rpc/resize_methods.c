/* resize_methods.c: changing the size of a bdev, and seeing beforehand what would happen. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "rpc/text.h"

struct size_params {
	char *name;
	uint64_t size_bytes, num_blocks;
	bool size_bytes_given, num_blocks_given;
	char *size;
};

static const struct param size_table[] = {
        {PARAM(struct size_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of a bdev whose size can be chosen"},
        {PARAM(struct size_params, size_bytes, PARAM_U64),
                .given = offsetof(struct size_params, size_bytes_given), .unit = "bytes",
                .help = "the new size; or num_blocks, or size"},
        {PARAM(struct size_params, num_blocks, PARAM_U64),
                .given = offsetof(struct size_params, num_blocks_given), .unit = "blocks",
                .help = "the new size"},
        {PARAM(struct size_params, size, PARAM_STRING),
                .help = "the new size as text: \"20G\"; or what to add or take away: \"+1T\", "
                        "\"-512M\""},
        {0},
};

/* ---- the wanted size ------------------------------------------------------------------------- */

static int bytes_of_text(const char *text, uint64_t present_bytes, uint64_t *bytes, struct err *err)
{
	bool relative = text[0] == '+' || text[0] == '-';
	uint64_t amount;
	int rc = parse_size_bytes(text + relative, &amount);

	if (rc)
		return err_set(err, -EINVAL,
		        "'%s' is not a size; write it as 20G, 512MiB, +1T or -1G", text);
	if (text[0] == '-' && amount >= present_bytes)
		return err_set(err, -EINVAL, "'%s' would leave nothing", text);
	if (text[0] == '+' && amount > INT64_MAX - present_bytes)
		return err_set(err, -EINVAL, "'%s' is more than there can be", text);
	if (text[0] == '+')
		*bytes = present_bytes + amount;
	else if (text[0] == '-')
		*bytes = present_bytes - amount;
	else
		*bytes = amount;
	return 0;
}

static int wanted_blocks(
        const struct bdev *bdev, const struct size_params *p, uint64_t *blocks, struct err *err)
{
	uint32_t block_bytes = bdev->geometry.block_bytes;
	uint64_t bytes = p->size_bytes;
	int rc;

	if (p->size_bytes_given + p->num_blocks_given + (p->size != NULL) != 1)
		return err_set(err, RPC_INVALID_PARAMS,
		        "exactly one of size_bytes, num_blocks and size is needed");
	if (p->num_blocks_given) {
		*blocks = p->num_blocks;
	} else {
		rc = p->size ? bytes_of_text(p->size, bdev->geometry.num_blocks * block_bytes,
		                       &bytes, err)
		             : 0;
		if (rc)
			return rc;
		if (bytes % block_bytes)
			return err_set(err, -EINVAL,
			        "%llu bytes are not a multiple of the block size of '%s', %u",
			        (unsigned long long)bytes, bdev->name, block_bytes);
		*blocks = bytes / block_bytes;
	}
	if (*blocks == 0)
		return err_set(err, -EINVAL, "a bdev can't have no blocks");
	if (*blocks > INT64_MAX / block_bytes)
		return err_set(err, -EINVAL, "%llu blocks are more than there can be",
		        (unsigned long long)*blocks);
	return 0;
}

/* ---- the report ------------------------------------------------------------------------------ */

static json_t *layer_json(const struct resize_layer *layer, bool plan)
{
	json_t *object = json_pack("{s:o, s:i, s:I, s:I, s:o}", "name",
	        rpc_json_string(layer->name), "block_size", (int)layer->block_bytes, "old_blocks",
	        (json_int_t)layer->old_blocks, "new_blocks", (json_int_t)layer->new_blocks, "why",
	        rpc_json_string(layer->why));

	if (plan) {
		json_object_set_new(object, "refused",
		        layer->refused[0] ? rpc_json_string(layer->refused) : json_null());
		return object;
	}
	json_object_set_new(object, "published", json_boolean(layer->published));
	json_object_set_new(object, "told", json_integer(layer->holders_told));
	json_object_set_new(object, "cannot_tell", json_integer(layer->holders_untold));
	return object;
}

static json_t *report_json(const struct resize_report *report, bool plan)
{
	json_t *layers = json_array();

	for (unsigned i = 0; i < report->num_layers; i++)
		json_array_append_new(layers, layer_json(&report->layers[i], plan));
	return json_pack("{s:o, s:I}", "layers", layers, "duration_us",
	        (json_int_t)(report->duration_ns / NSEC_PER_USEC));
}

/* A resize that stopped half way says how far it came: the same call goes on from there. */
static void published_text(const struct resize_report *report, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < report->num_layers && used < size; i++) {
		const struct resize_layer *layer = &report->layers[i];

		if (layer->published && layer->old_blocks != layer->new_blocks)
			used += (size_t)snprintf(text + used, size - used, "%s'%s'",
			        used ? ", "
			             : "; these already have their new size, and the same "
			               "call goes on from there: ",
			        layer->name);
	}
}

static void resized(void *arg, const struct resize_report *report)
{
	struct rpc_request *request = arg;
	char published[ERR_TEXT_MAX];

	if (!report->err.code) {
		rpc_reply(request, report_json(report, false));
		return;
	}
	published_text(report, published, sizeof(published));
	rpc_fail(request, report->err.code, "%s%s", report->err.text, published);
}

static void planned(void *arg, const struct resize_report *report)
{
	json_t *result = report_json(report, true);

	json_object_set_new(result, "possible", json_boolean(!report->err.code));
	json_object_set_new(result, "code", json_integer(report->err.code));
	json_object_set_new(result, "reason",
	        report->err.code ? rpc_json_string(report->err.text) : json_null());
	rpc_reply(arg, result);
}

/* ---- methods --------------------------------------------------------------------------------- */

static void start(struct rpc_request *request, const struct size_params *p,
        void (*what)(struct bdev *bdev, uint64_t blocks, resize_done_fn done, void *arg),
        resize_done_fn done)
{
	struct bdev *bdev = bdev_find(p->name);
	struct err err = ERR_NONE;
	uint64_t blocks = 0;

	if (!bdev)
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", p->name);
	else if (wanted_blocks(bdev, p, &blocks, &err))
		rpc_fail_err(request, &err);
	else
		what(bdev, blocks, done, request);
}

static void resize(struct rpc_request *request, void *params)
{
	start(request, params, bdev_resize, resized);
}

static struct rpc_method bdev_resize_method = {
        .name = "bdev_resize",
        .summary = "Changes the size of a bdev and of everything above it, and tells the clients; "
                   "or changes nothing and says who refuses and why",
        .result_help = "object: layers [{name, block_size, old_blocks, new_blocks, why, published, "
                       "told, cannot_tell}], duration_us",
        .params = size_table,
        .params_bytes = sizeof(struct size_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = resize,
};
RPC_METHOD(bdev_resize_method);

static void plan(struct rpc_request *request, void *params)
{
	start(request, params, bdev_resize_plan, planned);
}

static struct rpc_method bdev_get_resize_plan = {
        .name = "bdev_get_resize_plan",
        .summary = "What bdev_resize with the same parameters would do, without doing it",
        .result_help = "object: layers [{name, block_size, old_blocks, new_blocks, why, refused}], "
                       "duration_us, possible, code, reason",
        .params = size_table,
        .params_bytes = sizeof(struct size_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = plan,
};
RPC_METHOD(bdev_get_resize_plan);

struct policy_params {
	char *name;
	int policy;
	uint64_t num_blocks;
};

static const char *const policies[] = {"follow", "hold", NULL};

static const struct param policy_table[] = {
        {PARAM(struct policy_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of the bdev"},
        {PARAM(struct policy_params, policy, PARAM_ENUM), .required = true, .values = policies,
                .help = "follow: the size follows from the bases; hold: it stays, and what would "
                        "shrink it is refused"},
        {PARAM(struct policy_params, num_blocks, PARAM_U64), .unit = "blocks",
                .help = "with hold: the size that is held, at most the present one, which it is "
                        "when this is left out"},
        {0},
};

/* Who refuses the size that follows from a policy does not refuse the policy. */
static void policy_in_effect(void *arg, const struct resize_report *report)
{
	rpc_reply_err(arg, report->err.code == -ENODEV ? &report->err : NULL);
}

/*
 * Answers when the policy is in effect: what is created on the bdev afterwards, by the next call of
 * a configuration, must find the size that is held.
 */
static void set_policy(struct rpc_request *request, void *params)
{
	const struct policy_params *p = params;
	struct bdev *bdev = bdev_find(p->name);
	struct err err = ERR_NONE;

	if (p->num_blocks != 0 && !p->policy)
		err_set(&err, RPC_INVALID_PARAMS, "num_blocks goes with the policy hold");
	else if (!bdev)
		(void)!bdev_waiting_set_policy(
		        p->name, p->policy ? BDEV_HOLD : BDEV_FOLLOW, p->num_blocks, &err);
	else if (p->num_blocks != 0)
		(void)!bdev_hold_at(bdev, p->num_blocks, &err);
	else
		(void)!bdev_set_policy(bdev, p->policy ? BDEV_HOLD : BDEV_FOLLOW, &err);
	if (bdev && err.code == 0)
		bdev_geometry_changed(bdev, policy_in_effect, request);
	else
		rpc_reply_err(request, &err);
}

static struct rpc_method bdev_set_resize_policy = {
        .name = "bdev_set_resize_policy",
        .summary = "Says whether a bdev takes part in resizes of what it stands on",
        .result_help = "true",
        .params = policy_table,
        .params_bytes = sizeof(struct policy_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = set_policy,
};
RPC_METHOD(bdev_set_resize_policy);
