/* error_rpc.c: the methods of the error bdev. */
#include "vbdev/error/error.h"

#include <errno.h>
#include <string.h>

/* ---- create -----------------------------------------------------------------------------------
 */

struct create_params {
	char *base_name;
	char *name;
	uuid_t uuid;
	bool uuid_given;
};

static const struct param create_table[] = {
        {PARAM(struct create_params, base_name, PARAM_STRING), .required = true,
                .help = "the bdev that it stands on; may appear later"},
        {PARAM(struct create_params, name, PARAM_STRING),
                .help = "name of the new bdev; EE_<base_name> when left out"},
        {PARAM(struct create_params, uuid, PARAM_UUID),
                .given = offsetof(struct create_params, uuid_given),
                .help = "derived from the base's UUID when left out"},
        {0},
};

static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	(void)bdev;
	rpc_reply_err(arg, err);
}

static void create_handler(struct rpc_request *request, void *params)
{
	const struct create_params *p = params;
	autofree char *name = p->name ? xstrdup(p->name) : xasprintf("EE_%s", p->base_name);
	autofree char *base = xstrdup(p->base_name);
	const struct error_bdev own = {.uuid_given = p->uuid_given};
	struct bdev_spec spec = {
	        .module = &error_module,
	        .name = name,
	        .bases = (const char *const *)&base,
	        .num_bases = 1,
	        .params = &own,
	        .params_bytes = sizeof(own.uuid_given),
	        .wait_for_bases = true,
	};

	uuid_copy(spec.uuid, p->uuid);
	bdev_create(&spec, created, request);
}

/* ---- delete -----------------------------------------------------------------------------------
 */

struct name_params {
	char *name;
};

static const struct param name_table[] = {
        {PARAM(struct name_params, name, PARAM_STRING), .required = true, .help = "an error bdev"},
        {0},
};

static void removed(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

struct search {
	const char *name;
	bool found;
};

static void match_waiting(void *arg, const struct bdev_spec *spec, const char *missing)
{
	struct search *search = arg;

	(void)missing;
	if (spec->module == &error_module && strcmp(spec->name, search->name) == 0)
		search->found = true;
}

static void delete_handler(struct rpc_request *request, void *params)
{
	const struct name_params *p = params;
	struct search search = {.name = p->name};
	struct bdev *bdev = bdev_find(p->name);

	if (bdev && bdev->module == &error_module) {
		bdev_remove(bdev, (struct bdev_done){removed, request});
		return;
	}
	bdev_for_each_waiting(match_waiting, &search);
	if (search.found && bdev_waiting_cancel(p->name) == 0)
		rpc_reply(request, NULL);
	else
		rpc_fail(request, -ENODEV, "there is no error bdev '%s'", p->name);
}

/* ---- inject -----------------------------------------------------------------------------------
 */

struct inject_params {
	char *name;
	int io_type, error_type;
	uint32_t nvme_sct, nvme_sc;
	bool sct_given, sc_given;
	uint32_t num;
	uint64_t queue_depth;
	uint64_t corrupt_offset;
	uint8_t corrupt_value;
	uint64_t offset_blocks, num_blocks;
};

#define CAPS_DATA (BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE))
#define CAPS_ALL                                                                                   \
	(CAPS_DATA | BIO_CAP(BIO_FLUSH) | BIO_CAP(BIO_UNMAP) | BIO_CAP(BIO_WRITE_ZEROES) |         \
	        BIO_CAP(BIO_COMPARE) | BIO_CAPS_ZONES)

/* In the order of enum error_type. */
static const char *const error_types[] = {
        "failure", "pending", "corrupt_data", "nomem", "nvme_failure", NULL};

static const char *const io_types[] = {"clear", "read", "write", "unmap", "flush", "all", NULL};
static const uint32_t io_type_ops[] = {
        0, BIO_CAP(BIO_READ), BIO_CAP(BIO_WRITE), BIO_CAP(BIO_UNMAP), BIO_CAP(BIO_FLUSH), CAPS_ALL};

static const struct param inject_table[] = {
        {PARAM(struct inject_params, name, PARAM_STRING), .required = true,
                .help = "an error bdev"},
        {PARAM(struct inject_params, io_type, PARAM_ENUM), .required = true, .values = io_types,
                .help = "which operations; clear drops every rule"},
        {PARAM(struct inject_params, error_type, PARAM_ENUM), .required = true,
                .values = error_types, .help = "what happens to them"},
        {PARAM(struct inject_params, nvme_sct, PARAM_U32),
                .given = offsetof(struct inject_params, sct_given),
                .help = "NVMe status code type"},
        {PARAM(struct inject_params, nvme_sc, PARAM_U32),
                .given = offsetof(struct inject_params, sc_given), .help = "NVMe status code"},
        {PARAM(struct inject_params, num, PARAM_U32), .def = 1,
                .help = "how many requests of each operation are hit"},
        {PARAM(struct inject_params, queue_depth, PARAM_U64),
                .help = "hit only while so many other requests are in flight on the same loop"},
        {PARAM(struct inject_params, corrupt_offset, PARAM_U64), .max = INT64_MAX >> 8,
                .unit = "bytes", .help = "which byte of a request is damaged"},
        {PARAM(struct inject_params, corrupt_value, PARAM_U8),
                .help = "what it is XORed with; 0: something at random"},
        {PARAM(struct inject_params, offset_blocks, PARAM_U64), .max = INT64_MAX, .unit = "blocks",
                .help = "start of the range whose requests are hit"},
        {PARAM(struct inject_params, num_blocks, PARAM_U64), .max = INT64_MAX, .unit = "blocks",
                .help = "length of that range; 0: everything"},
        {0},
};

/* What a host would make of the NVMe status. */
static int nvme_status(uint32_t sct, uint32_t sc)
{
	static const struct {
		uint32_t sct, sc;
		int status;
	} known[] = {
	        {0, 0x02, -EINVAL}, /* invalid field */
	        {0, 0x0b, -ENODEV}, /* invalid namespace */
	        {0, 0x80, -EINVAL}, /* LBA out of range */
	        {0, 0x81, -ENOSPC}, /* capacity exceeded */
	        {0, 0x82, -EAGAIN}, /* namespace not ready */
	        {0, 0x83, -EBUSY},  /* reservation conflict */
	        {1, 0x82, -EROFS},  /* write to a read-only range */
	        {2, 0x85, -EILSEQ}, /* compare failure */
	        {2, 0x86, -EACCES}, /* access denied */
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].sct == sct && known[i].sc == sc)
			return known[i].status;
	}
	return -EIO;
}

static struct bdev *find(struct rpc_request *request, const char *name)
{
	struct bdev *bdev = bdev_find(name);

	if (bdev && bdev->module == &error_module)
		return bdev;
	rpc_fail(request, -ENODEV, "there is no error bdev '%s'", name);
	return NULL;
}

static int effect_of(const struct inject_params *p, struct error_effect *out, struct err *err)
{
	*out = (struct error_effect){
	        .type = (uint32_t)p->error_type,
	        .status = -EIO,
	        .queue_depth = p->queue_depth,
	        .first_block = p->offset_blocks,
	        .num_blocks = p->num_blocks,
	        .corrupt_offset = p->corrupt_offset,
	        .corrupt_value = p->corrupt_value,
	};
	switch ((enum error_type)p->error_type) {
	case ERROR_NVME_FAILURE:
		if (!p->sct_given && !p->sc_given)
			return err_set(err, -EINVAL,
			        "nvme_failure needs nvme_sct or nvme_sc, to know which status");
		out->status = nvme_status(p->nvme_sct, p->nvme_sc);
		break;
	case ERROR_NOMEM:
		out->status = -ENOMEM;
		break;
	case ERROR_CORRUPT_DATA:
		if (!(io_type_ops[p->io_type] & CAPS_DATA))
			return err_set(err, -EINVAL,
			        "corrupt_data needs operations that carry data: read, write or "
			        "all");
		break;
	case ERROR_FAILURE:
	case ERROR_PENDING:
		break;
	}
	return 0;
}

static void inject_handler(struct rpc_request *request, void *params)
{
	const struct inject_params *p = params;
	struct bdev *bdev = find(request, p->name);
	uint32_t ops;
	struct error_effect effect;
	struct err err;

	if (!bdev)
		return; /* answered, and params with it */
	ops = io_type_ops[p->io_type];
	if (ops == 0) {
		error_clear(bdev->priv);
		rpc_reply(request, NULL);
		return;
	}
	if (effect_of(p, &effect, &err)) {
		rpc_fail_err(request, &err);
		return;
	}
	if (effect.type == ERROR_CORRUPT_DATA)
		ops &= CAPS_DATA;
	error_inject(bdev->priv, ops, &effect, p->num);
	rpc_reply(request, NULL);
}

/* ---- resume -----------------------------------------------------------------------------------
 */

static void resume_handler(struct rpc_request *request, void *params)
{
	const struct name_params *p = params;
	struct bdev *bdev = find(request, p->name);

	if (!bdev)
		return;
	error_resume(bdev->priv);
	rpc_reply(request, NULL);
}

const struct rpc_method error_methods[] = {
        {
                .name = "bdev_error_create",
                .summary = "create a bdev that fails requests as it is told",
                .result_help = "true",
                .params = create_table,
                .params_bytes = sizeof(struct create_params),
                .decode_error = RPC_INVALID_PARAMS,
                .handler = create_handler,
        },
        {
                .name = "bdev_error_delete",
                .summary = "remove such a bdev; what it holds back fails",
                .result_help = "true",
                .params = name_table,
                .params_bytes = sizeof(struct name_params),
                .decode_error = RPC_INVALID_PARAMS,
                .handler = delete_handler,
        },
        {
                .name = "bdev_error_inject_error",
                .summary = "say which requests fail, wait or are damaged",
                .result_help = "true",
                .params = inject_table,
                .params_bytes = sizeof(struct inject_params),
                .decode_error = RPC_INVALID_PARAMS,
                .handler = inject_handler,
        },
        {
                .name = "bdev_error_resume_pending",
                .summary = "let go on what was held back",
                .result_help = "true; the requests go on within a few milliseconds",
                .params = name_table,
                .params_bytes = sizeof(struct name_params),
                .decode_error = RPC_INVALID_PARAMS,
                .handler = resume_handler,
        },
        {0},
};
