/* malloc_rpc.c: bdev_malloc_create, whose name is optional. */
#include "backend/malloc/malloc.h"

#include <stdio.h>

struct create_params {
	char *name;
	uuid_t uuid;
	struct malloc_params own;
};

static const struct param create_table[] = {
        {PARAM(struct create_params, name, PARAM_STRING),
                .help = "name of the bdev; Malloc0, Malloc1, ... when left out"},
        {PARAM_NAMED("block_size", struct create_params, own.block_size, PARAM_U32),
                .required = true, .unit = "bytes", .help = "power of two from 512 to 65536"},
        {PARAM_NAMED("num_blocks", struct create_params, own.num_blocks, PARAM_U64),
                .required = true, .unit = "blocks", .help = "size"},
        {PARAM(struct create_params, uuid, PARAM_UUID), .help = "random when left out"},
        {PARAM_NAMED(
                 "optimal_io_boundary", struct create_params, own.optimal_io_boundary, PARAM_U32),
                .unit = "blocks", .help = "requests are split at multiples of it; 0: they are not"},
        {PARAM_NAMED(
                 "physical_block_size", struct create_params, own.physical_block_size, PARAM_U32),
                .unit = "bytes", .help = "shown to clients; block_size when left out"},
        {PARAM_NAMED("md_size", struct create_params, own.md_size, PARAM_U32), .unit = "bytes",
                .help = "metadata per block: only 0 is supported"},
        {PARAM_NAMED("md_interleave", struct create_params, own.md_interleave, PARAM_BOOL),
                .help = "without effect, as there is no metadata"},
        {PARAM_NAMED("dif_type", struct create_params, own.dif_type, PARAM_I32),
                .help = "data integrity type: only 0 is supported"},
        {PARAM_NAMED("dif_is_head_of_md", struct create_params, own.dif_is_head_of_md, PARAM_BOOL),
                .help = "only false is supported"},
        {PARAM_NAMED("dif_pi_format", struct create_params, own.dif_pi_format, PARAM_U32),
                .help = "only 0 is supported"},
        {PARAM_NAMED("numa_id", struct create_params, own.numa_id, PARAM_I32), .def = (uint64_t)-1,
                .help = "accepted and saved; memory comes from where the kernel takes it"},
        {0},
};

static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	struct rpc_request *request = arg;

	if (err && err->code)
		rpc_fail_err(request, err);
	else
		rpc_reply(request, json_string(bdev->name));
}

static unsigned next_number;

static void make_name(char *name, size_t size)
{
	do
		snprintf(name, size, "Malloc%u", next_number++);
	while (bdev_find(name));
}

void malloc_stop(void)
{
	next_number = 0;
}

static void create_handler(struct rpc_request *request, void *params)
{
	struct create_params *p = params;
	char made_up[32];
	struct bdev_spec spec = {
	        .module = &malloc_module,
	        .name = p->name,
	        .params = &p->own,
	        .params_bytes = sizeof(p->own),
	};

	if (!p->name) {
		make_name(made_up, sizeof(made_up));
		spec.name = made_up;
	}
	uuid_copy(spec.uuid, p->uuid);
	bdev_create(&spec, created, request);
}

const struct rpc_method malloc_methods[] = {
        {
                .name = "bdev_malloc_create",
                .summary = "create a disk in memory",
                .result_help = "name of the bdev",
                .params = create_table,
                .params_bytes = sizeof(struct create_params),
                .handler = create_handler,
        },
        {0},
};
