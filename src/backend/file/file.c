/*
 * file.c: the two modules, aio and uring, on the one implementation of a file bdev.
 */
#include "backend/file/file.h"

#include <limits.h>
#include <stdio.h>

/* loop.h takes less than 2 GiB at once. */
#define MAX_TRANSFER_BYTES MIB(512)

static int file_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct file_bdev *f = bdev->priv;
	uint64_t physical = max_u64(f->info.physical_bytes, f->block_bytes);

	(void)err;
	out->num_blocks = in->own_blocks;
	out->block_bytes = f->block_bytes;
	out->physical_block_bytes = is_power_of_two(physical) && physical <= KIB(64)
	                                    ? (uint32_t)physical
	                                    : f->block_bytes;
	out->caps = BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_FLUSH) |
	            BIO_CAP(BIO_WRITE_ZEROES) | BIO_CAP(BIO_RESET) | BIO_CAP(BIO_BLOCK_STATUS) |
	            BIO_CAP_FUA;
	if (f->can_punch)
		out->caps |= BIO_CAP(BIO_UNMAP);
	out->write_cache = true;
	out->rotational = f->info.rotational;
	out->read_only = f->info.read_only;
	out->buf_align_bytes = f->info.align_bytes;
	out->max_transfer_blocks = (uint32_t)(MAX_TRANSFER_BYTES / f->block_bytes);
	snprintf(out->why, sizeof(out->why), "size of the %s",
	        f->info.is_block_device ? "block device" : "file");
	return 0;
}

static json_t *aio_describe(const struct bdev *bdev)
{
	const struct file_params *p = &((const struct file_bdev *)bdev->priv)->params;

	return json_pack("{s:{s:s, s:b, s:b, s:b, s:b}}", "aio", "filename", p->filename,
	        "block_size_override", p->block_size != 0, "readonly", p->readonly, "fallocate",
	        p->fallocate, "nowait", p->nowait);
}

static json_t *uring_describe(const struct bdev *bdev)
{
	const struct file_params *p = &((const struct file_bdev *)bdev->priv)->params;

	return json_pack("{s:{s:s}}", "uring", "filename", p->filename);
}

static json_t *saved(const struct bdev *bdev, json_t *params, uint32_t block_size)
{
	const struct file_params *p = &((const struct file_bdev *)bdev->priv)->params;
	autofree char *method = xasprintf("bdev_%s_create", bdev->module->name);
	char uuid[UUID_STR_LEN];

	uuid_unparse_lower(bdev->uuid, uuid);
	json_object_set_new(params, "name", json_string(bdev->name));
	if (block_size)
		json_object_set_new(params, "block_size", json_integer(block_size));
	json_object_set_new(params, "filename", json_string(p->filename));
	if (!p->direct)
		json_object_set_new(params, "direct", json_false());
	json_object_set_new(params, "uuid", json_string(uuid));
	return json_pack("[{s:s, s:o}]", "method", method, "params", params);
}

static json_t *aio_save(const struct bdev *bdev)
{
	const struct file_params *p = &((const struct file_bdev *)bdev->priv)->params;
	json_t *params = json_pack("{s:b, s:b, s:b}", "readonly", p->readonly, "fallocate",
	        p->fallocate, "nowait", p->nowait);

	return saved(bdev, params, p->block_size);
}

static json_t *uring_save(const struct bdev *bdev)
{
	return saved(bdev, json_object(), bdev->geometry.block_bytes);
}

static json_t *example(const char *method, const struct bdev_example *wanted)
{
	return json_pack("[{s:s, s:{s:s, s:s, s:I}}]", "method", method, "params", "name",
	        wanted->name, "filename", wanted->scratch_path, "block_size",
	        (json_int_t)wanted->block_bytes);
}

static json_t *aio_example(const struct bdev_example *wanted)
{
	return wanted->variant == 0 ? example("bdev_aio_create", wanted) : NULL;
}

static json_t *uring_example(const struct bdev_example *wanted)
{
	return wanted->variant == 0 ? example("bdev_uring_create", wanted) : NULL;
}

#define FILENAME_PARAM                                                                             \
	{                                                                                          \
		PARAM(struct file_params, filename, PARAM_STRING),                                 \
		        .required = true, .is_path = true,                                         \
		        .help = "a regular file or a block device"                                 \
	}
#define BLOCK_SIZE_PARAM                                                                           \
	{                                                                                          \
		PARAM(struct file_params, block_size, PARAM_U32),                                  \
		        .unit = "bytes", .given = offsetof(struct file_params, block_size_given),  \
		        .help = "power of two from 512 to 65536; 0 asks the device, and a "        \
		                "regular file "                                                    \
		                "needs one"                                                        \
	}

#define DIRECT_PARAM                                                                               \
	{                                                                                          \
		PARAM(struct file_params, direct, PARAM_BOOL),                                     \
		        .def = true,                                                               \
		        .help = "past the page cache, where the file can; false: through it, "     \
		                "durable after a flush all the same"                               \
	}

static const struct param aio_params[] = {
        FILENAME_PARAM,
        BLOCK_SIZE_PARAM,
        DIRECT_PARAM,
        {PARAM(struct file_params, readonly, PARAM_BOOL),
                .help = "refuse writes, and open the file read-only"},
        {PARAM(struct file_params, fallocate, PARAM_BOOL),
                .help = "accepted and saved: unmap and write_zeroes are served whenever the file "
                        "can"},
        {PARAM(struct file_params, nowait, PARAM_BOOL),
                .help = "accepted and saved: a request never makes the loop wait"},
        {0},
};

static const struct param uring_params[] = {
        FILENAME_PARAM,
        BLOCK_SIZE_PARAM,
        DIRECT_PARAM,
        {0},
};

static const struct param name_params[] = {
        {PARAM(struct file_name_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of the bdev"},
        {0},
};

#define RESCAN_METHOD(kind, module)                                                                \
	{                                                                                          \
		.name = "bdev_" kind "_rescan",                                                    \
		.summary = "look at the size of the file now, and let the stack follow it",        \
		.result_help = "true, when every layer has the new size", .params = name_params,   \
		.params_bytes = sizeof(struct file_name_params), .handler = file_rescan_handler,   \
		.arg = &(module)                                                                   \
	}

static const struct rpc_method aio_methods[] = {RESCAN_METHOD("aio", aio_module), {0}};
static const struct rpc_method uring_methods[] = {RESCAN_METHOD("uring", uring_module), {0}};

#define FILE_MODULE                                                                                \
	.priv_bytes = sizeof(struct file_bdev), .geometry = file_geometry, .submit = file_submit,  \
	.create = file_create, .online = file_online, .destroy = file_destroy,                     \
	.may_resize = file_may_resize, .resize = file_resize

static void file_online(struct bdev *bdev, struct bdev_done done)
{
	file_watch(bdev->priv);
	bdev_done_call(done, NULL);
}

struct bdev_module aio_module = {
        .name = "aio",
        .product_name = "AIO disk",
        .summary = "a disk on a regular file or a block device",
        .params = aio_params,
        .methods = aio_methods,
        .describe = aio_describe,
        .save = aio_save,
        .example = aio_example,
        FILE_MODULE,
};
BDEV_MODULE(aio_module);

struct bdev_module uring_module = {
        .name = "uring",
        .product_name = "URING bdev",
        .summary = "a disk on a regular file or a block device",
        .params = uring_params,
        .methods = uring_methods,
        .describe = uring_describe,
        .save = uring_save,
        .example = uring_example,
        FILE_MODULE,
};
BDEV_MODULE(uring_module);
