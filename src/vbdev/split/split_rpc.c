/* split_rpc.c: bdev_split_create and bdev_split_delete. All their errors have one code. */
#include "vbdev/split/split.h"

#include <errno.h>

struct create_params {
	char *base_bdev;
	uint32_t split_count;
	uint64_t split_size_mb;
	uint64_t split_size_blocks;
};

struct delete_params {
	char *base_bdev;
};

static const struct param create_table[] = {
        {PARAM(struct create_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the bdev to divide; may appear later"},
        {PARAM(struct create_params, split_count, PARAM_U32), .required = true,
                .help = "how many parts; fewer are made when there is no room for all"},
        {PARAM(struct create_params, split_size_mb, PARAM_U64), .max = UINT64_MAX >> 20,
                .unit = "MiB",
                .help = "size of each part; 0: equal parts, of which the last grows with the base"},
        {PARAM(struct create_params, split_size_blocks, PARAM_U64), .unit = "blocks",
                .help = "where equal parts begin, at multiples of this; 0: as the base is divided "
                        "now. Saved for a base that has grown since"},
        {0},
};

static const struct param delete_table[] = {
        {PARAM(struct delete_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the bdev that was divided"},
        {0},
};

/* ---- create -----------------------------------------------------------------------------------
 */

struct creation {
	struct rpc_request *request;
	struct split *split;
	struct err err;
	unsigned removing;
};

static json_t *part_names(const struct split *split)
{
	json_t *names = json_array();

	for (uint32_t i = 0; i < split->count; i++) {
		if (split->parts[i])
			json_array_append_new(names, json_string(split->parts[i]->name));
	}
	return names;
}

static void fail_create(struct creation *creation)
{
	const struct split *split = creation->split;

	rpc_fail(creation->request, RPC_INVALID_PARAMS, "'%s' can't be split into %u parts: %s: %s",
	        split->base_name, split->count, errno_text(creation->err.code), creation->err.text);
	split_drop(creation->split);
	split_release(creation->split);
	free(creation);
}

static void part_removed(void *arg, const struct err *err)
{
	struct creation *creation = arg;

	(void)err;
	if (--creation->removing == 0)
		fail_create(creation);
}

static void created(void *arg, const struct err *err)
{
	struct creation *creation = arg;
	struct split *split = creation->split;

	if (!err || !err->code) {
		rpc_reply(creation->request, part_names(split));
		free(creation);
		return;
	}
	creation->err = *err;
	creation->removing = 1;
	split_hold(split); /* it may be deleted while the parts go */
	for (uint32_t i = 0; i < split->count; i++) {
		if (!split->parts[i])
			continue;
		creation->removing++;
		bdev_remove(split->parts[i], (struct bdev_done){part_removed, creation});
	}
	part_removed(creation, NULL);
}

static void create_handler(struct rpc_request *request, void *params)
{
	const struct create_params *p = params;
	struct bdev *base = bdev_find(p->base_bdev);
	struct creation *creation;
	struct split *split;

	if (p->split_count == 0 || p->split_count > SPLIT_PARTS_MAX) {
		rpc_fail(request, RPC_INVALID_PARAMS,
		        "split_count is %u; there can be 1 to %d parts", p->split_count,
		        SPLIT_PARTS_MAX);
		return;
	}
	if (p->split_size_mb && p->split_size_blocks) {
		rpc_fail(request, RPC_INVALID_PARAMS,
		        "give split_size_mb or split_size_blocks, not both");
		return;
	}
	if (split_find(p->base_bdev)) {
		rpc_fail(request, RPC_INVALID_PARAMS, "File exists: '%s' is split already",
		        p->base_bdev);
		return;
	}
	split = split_add(p->base_bdev, p->split_count, p->split_size_mb, p->split_size_blocks);
	if (!base) {
		rpc_reply(request, json_array());
		return;
	}
	creation = xcalloc(1, sizeof(*creation));
	creation->request = request;
	creation->split = split;
	split_make_parts(split, base, (struct bdev_done){created, creation});
}

/* ---- delete -----------------------------------------------------------------------------------
 */

struct deletion {
	struct rpc_request *request;
	struct err err;
	unsigned removing;
};

static void deleted(void *arg, const struct err *err)
{
	struct deletion *deletion = arg;

	if (err && err->code)
		deletion->err = *err;
	if (--deletion->removing > 0)
		return;
	if (deletion->err.code)
		rpc_fail(deletion->request, RPC_INVALID_PARAMS, "%s: %s",
		        errno_text(deletion->err.code), deletion->err.text);
	else
		rpc_reply(deletion->request, NULL);
	free(deletion);
}

static void delete_handler(struct rpc_request *request, void *params)
{
	const struct delete_params *p = params;
	struct split *split = split_find(p->base_bdev);
	struct deletion *deletion;

	if (!split) {
		rpc_fail(request, RPC_INVALID_PARAMS,
		        "No such file or directory: '%s' is not split", p->base_bdev);
		return;
	}
	deletion = xcalloc(1, sizeof(*deletion));
	deletion->request = request;
	deletion->removing = 1;
	for (uint32_t i = 0; i < split->count; i++) {
		if (!split->parts[i])
			continue;
		deletion->removing++;
		bdev_remove(split->parts[i], (struct bdev_done){deleted, deletion});
	}
	split_drop(split);
	deleted(deletion, NULL);
}

const struct rpc_method split_methods[] = {
        {
                .name = "bdev_split_create",
                .summary = "divide a bdev into parts",
                .result_help = "names of the parts; [] while the bdev is not there",
                .params = create_table,
                .params_bytes = sizeof(struct create_params),
                .decode_error = RPC_INVALID_PARAMS,
                .handler = create_handler,
        },
        {
                .name = "bdev_split_delete",
                .summary = "remove all parts of a bdev",
                .result_help = "true",
                .params = delete_table,
                .params_bytes = sizeof(struct delete_params),
                .decode_error = RPC_INVALID_PARAMS,
                .handler = delete_handler,
        },
        {0},
};
