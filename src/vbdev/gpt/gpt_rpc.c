/* gpt_rpc.c: looking at partition tables, making them, moving their backup, taking them away. */
#include "vbdev/gpt/gpt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PARTITIONS_MAX GPT_ENTRIES_USUAL

struct table_params {
	char *base_bdev;
	bool extend_last;
	uint32_t partition_count;
	uint64_t partition_size_mb;
	uuid_t partition_type;
};

static const struct param base_table[] = {
        {PARAM(struct table_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the disk that has the table"},
        {0},
};
static const struct param grow_table[] = {
        {PARAM(struct table_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the disk that has the table"},
        {PARAM(struct table_params, extend_last, PARAM_BOOL),
                .help = "let the last partition reach to the end"},
        {0},
};
static const struct param create_table[] = {
        {PARAM(struct table_params, base_bdev, PARAM_STRING), .required = true,
                .help = "a disk without a table"},
        {PARAM(struct table_params, partition_count, PARAM_U32), .def = 1, .min = 1,
                .max = PARTITIONS_MAX, .help = "how many partitions"},
        {PARAM(struct table_params, partition_size_mb, PARAM_U64), .max = UINT64_MAX >> 20,
                .unit = "MiB",
                .help = "of each; 0: equal ones, of which the last takes what is left"},
        {PARAM(struct table_params, partition_type, PARAM_UUID),
                .help = "type GUID; default: the one whose partitions are shown"},
        {0},
};

/* ---- one call ---------------------------------------------------------------------------------
 */

struct call {
	struct rpc_request *request;
	struct gpt_disk *disk; /* held */
	struct gpt_layout layout;
	char name[BDEV_NAME_MAX];
	uint64_t backup_lba, disk_blocks;
	unsigned extended, removing;
	bool extend_last;
	bool unused; /* nobody may use the disk */
	bool deletes;
	gpt_job_fn read; /* what to do with the table */
	struct err err;
};

static struct call *new_call(struct rpc_request *request, const struct bdev *bdev)
{
	struct call *call = xcalloc(1, sizeof(*call));

	call->request = request;
	str_copy(call->name, sizeof(call->name), bdev->name);
	return call;
}

static void end_call(struct call *call, const struct err *err, json_t *result)
{
	if (call->deletes)
		call->disk->deleting--;
	if (call->disk)
		gpt_disk_release(call->disk);
	if (err && err->code)
		rpc_fail_err(call->request, err);
	else
		rpc_reply(call->request, result);
	free(call);
}

static bool failed(struct gpt_job *job, const struct err *err)
{
	struct call *call = job->arg;

	if (!err || !err->code)
		return false;
	struct err copy = *err;

	gpt_job_close(job);
	end_call(call, &copy, NULL);
	return true;
}

static struct bdev *find_base(struct rpc_request *request, const char *name)
{
	struct bdev *bdev = bdev_find(name);

	if (!bdev)
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", name);
	return bdev;
}

/* Opens a job for the call; false: the call has been answered. */
static bool open_job(
        struct call *call, struct bdev *bdev, enum gpt_job_kind kind, struct gpt_job **job)
{
	struct err err = ERR_NONE;

	if (gpt_job_open(bdev, kind, job, &err)) {
		end_call(call, &err, NULL);
		return false;
	}
	(*job)->arg = call;
	return true;
}

static json_t *part_names(const struct gpt_disk *disk)
{
	json_t *names = json_array();

	for (unsigned i = 0; disk && i < GPT_ENTRIES_MAX; i++)
		if (disk->parts[i])
			json_array_append_new(names, json_string(disk->parts[i]->name));
	return names;
}

/* Who has it open, beside ourselves who look for a table on it; NULL: nobody. */
static const char *user_of(const struct bdev *bdev)
{
	const char *holder;

	for (unsigned i = 0; (holder = bdev_holder(bdev, i)); i++)
		if (strcmp(holder, GPT_READER) != 0)
			return holder;
	return NULL;
}

static void examined(void *arg, const struct err *err)
{
	struct call *call = arg;
	struct bdev *bdev = bdev_find(call->name);
	const char *holder = bdev && call->unused ? user_of(bdev) : NULL;
	struct gpt_job *job;
	struct err own = ERR_NONE;

	(void)err;
	if (!bdev)
		err_set(&own, -ENODEV, "'%s' is gone", call->name);
	else if (call->unused && (holder || bdev_is_claimed(bdev)))
		err_set(&own, -EPERM, "'%s' is in use%s%s", bdev->name, holder ? " by " : "",
		        holder ? holder : "");
	if (own.code)
		end_call(call, &own, NULL);
	else if (open_job(call, bdev, GPT_WRITE, &job))
		gpt_job_read(job, call->read);
}

/* Reads the table to change it. Not while it is looked for: a claim of ours would end that. */
static void change_table(struct call *call, gpt_job_fn read)
{
	call->read = read;
	bdev_wait_for_examine((struct bdev_done){examined, call});
}

/* The table is on disk: show what it says, then fn(call). */
static void show(struct gpt_job *job, bdev_done_fn fn)
{
	struct call *call = job->arg;
	struct bdev *bdev = job->bdev;

	gpt_job_close(job);
	gpt_disk_read(bdev, (struct bdev_done){fn, call});
}

/* ---- get --------------------------------------------------------------------------------------
 */

static json_t *entry_json(const struct gpt_entry *e, const struct gpt_disk *disk)
{
	const struct bdev *bdev = disk ? disk->parts[e->number - 1] : NULL;
	char type[UUID_STR_LEN], guid[UUID_STR_LEN];
	json_t *object;

	uuid_unparse_lower(e->type, type);
	uuid_unparse_lower(e->guid, guid);
	object = json_pack("{s:i, s:I, s:I, s:s, s:s, s:s, s:o}", "number", (int)e->number,
	        "first_block", (json_int_t)e->first_lba, "last_block", (json_int_t)e->last_lba,
	        "type", type, "guid", guid, "name", e->name, "bdev",
	        bdev ? json_string(bdev->name) : json_null());
	if (e->wrong[0])
		json_object_set_new(object, "wrong", json_string(e->wrong));
	return object;
}

static void table_read(struct gpt_job *job, const struct err *err)
{
	struct call *call = job->arg;
	const struct gpt_found *found = &job->found;
	const struct gpt_disk *disk = gpt_disk_find(call->name);
	char text[ERR_TEXT_MAX], guid[UUID_STR_LEN];
	struct err none = ERR_NONE;
	json_t *list;

	if (failed(job, err))
		return;
	if (!found->used) {
		err_set(&none, -ENOENT, "'%s' has no partition table", call->name);
		failed(job, &none);
		return;
	}
	list = json_array();
	for (unsigned i = 0; i < found->used->table.count; i++)
		json_array_append_new(list, entry_json(&found->used->table.entries[i], disk));
	gpt_what_is_wrong(found, text, sizeof(text));
	uuid_unparse_lower(found->used->header.disk_guid, guid);
	json_t *result = json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:b, s:s, s:o}", "base_bdev",
	        call->name, "disk_guid", guid, "used", found->primary.ok ? "primary" : "backup",
	        "first_usable_block", (json_int_t)found->used->header.first_usable,
	        "last_usable_block", (json_int_t)found->used->header.last_usable, "primary_ok",
	        (int)found->primary.ok, "backup_ok", (int)found->backup.ok, "problem", text,
	        "partitions", list);

	gpt_job_close(job);
	end_call(call, NULL, result);
}

static void get_handler(struct rpc_request *request, void *params)
{
	const struct table_params *p = params;
	struct bdev *bdev = find_base(request, p->base_bdev);
	struct gpt_job *job;

	if (bdev && open_job(new_call(request, bdev), bdev, GPT_READ, &job))
		gpt_job_read(job, table_read);
}

/* ---- grow -------------------------------------------------------------------------------------
 */

static void grow_shown(void *arg, const struct err *err)
{
	struct call *call = arg;
	const struct gpt_disk *disk = gpt_disk_find(call->name);
	const struct bdev *bdev = call->extended && disk ? disk->parts[call->extended - 1] : NULL;

	end_call(call, err,
	        err && err->code ? NULL
	                         : json_pack("{s:s, s:I, s:o}", "base_bdev", call->name,
	                                   "backup_block", (json_int_t)call->backup_lba, "extended",
	                                   bdev ? json_string(bdev->name) : json_null()));
}

static void grow_written(struct gpt_job *job, const struct err *err)
{
	if (!failed(job, err))
		show(job, grow_shown);
}

static void grow_read(struct gpt_job *job, const struct err *err)
{
	struct call *call = job->arg;
	struct err own = ERR_NONE;

	if (failed(job, err))
		return;
	if (!job->found.used)
		err_set(&own, -ENOENT, "'%s' has no partition table", call->name);
	else if (gpt_plan_grow(&job->found, call->extend_last, &job->plan, &own))
		err_prefix(&own, "the table of '%s'", call->name);
	if (failed(job, &own))
		return;
	call->backup_lba = job->plan.backup_lba;
	call->extended = job->plan.extended;
	gpt_job_write(job, grow_written);
}

static void grow_handler(struct rpc_request *request, void *params)
{
	const struct table_params *p = params;
	struct bdev *bdev = find_base(request, p->base_bdev);
	struct call *call;

	if (!bdev)
		return;
	call = new_call(request, bdev);
	call->extend_last = p->extend_last;
	change_table(call, grow_read);
}

/* ---- create -----------------------------------------------------------------------------------
 */

static void create_shown(void *arg, const struct err *err)
{
	struct call *call = arg;
	const struct gpt_disk *disk = gpt_disk_find(call->name);
	struct err own = ERR_NONE;

	if (err && err->code)
		own = *err;
	else if (!disk || !disk->has_table)
		err_set(&own, -EIO,
		        "the table was written to '%s' and can't be read back: does it keep data?",
		        call->name);
	end_call(call, &own, own.code ? NULL : part_names(disk));
}

static void create_written(struct gpt_job *job, const struct err *err)
{
	if (!failed(job, err))
		show(job, create_shown);
}

static void create_read(struct gpt_job *job, const struct err *err)
{
	struct call *call = job->arg;
	const struct gpt_found *found = &job->found;
	struct err own = ERR_NONE;

	if (failed(job, err))
		return;
	if (found->used || gpt_is_mbr(found->start, found->block_bytes))
		err_set(&own, -EEXIST, "'%s' has a %s already", call->name,
		        found->used ? "partition table" : "boot record");
	else if (gpt_plan_create(found, &call->layout, &job->plan, &own))
		err_prefix(&own, "'%s'", call->name);
	if (failed(job, &own))
		return;
	gpt_job_write(job, create_written);
}

/* Version 4. */
static void make_guid(uuid_t out)
{
	loop_random_bytes(out, sizeof(uuid_t));
	out[6] = (uint8_t)((out[6] & 0x0f) | 0x40);
	out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

static void create_handler(struct rpc_request *request, void *params)
{
	const struct table_params *p = params;
	struct bdev *bdev = find_base(request, p->base_bdev);
	struct call *call;

	if (!bdev)
		return;
	if (bdev->geometry.zone_blocks) {
		rpc_fail(request, -EINVAL,
		        "'%s' is zoned: a partition table is written where it stands, and again",
		        bdev->name);
		return;
	}
	call = new_call(request, bdev);
	call->unused = true;
	call->layout.count = p->partition_count;
	call->layout.part_bytes = MIB(p->partition_size_mb);
	uuid_copy(call->layout.type,
	        uuid_is_null(p->partition_type) ? gpt_types[0] : p->partition_type);
	make_guid(call->layout.disk_guid);
	for (unsigned i = 0; i < p->partition_count; i++)
		make_guid(call->layout.part_guids[i]);
	change_table(call, create_read);
}

/* ---- delete -----------------------------------------------------------------------------------
 */

static void delete_written(struct gpt_job *job, const struct err *err)
{
	struct call *call = job->arg;

	if (failed(job, err))
		return;
	gpt_job_close(job);
	end_call(call, NULL, NULL);
}

static void delete_read(struct gpt_job *job, const struct err *err)
{
	if (failed(job, err))
		return;
	if (job->found.used)
		gpt_plan_delete(&job->found, &job->plan);
	gpt_job_write(job, delete_written);
}

static void part_removed(void *arg, const struct err *err)
{
	struct call *call = arg;

	if (err && err->code && !call->err.code)
		call->err = *err;
	if (--call->removing > 0)
		return;
	if (call->err.code) {
		struct err copy = call->err;

		end_call(call, &copy, NULL);
	} else {
		change_table(call, delete_read);
	}
}

/* What an earlier look at the table was showing is there. */
static void remove_parts(void *arg, const struct err *err)
{
	struct call *call = arg;

	if (err && err->code) {
		struct err copy = *err;

		end_call(call, &copy, NULL);
		return;
	}
	call->removing = 1;
	for (unsigned i = 0; i < GPT_ENTRIES_MAX; i++) {
		if (!call->disk->parts[i])
			continue;
		call->removing++;
		bdev_remove(call->disk->parts[i], (struct bdev_done){part_removed, call});
	}
	part_removed(call, NULL);
}

static void delete_handler(struct rpc_request *request, void *params)
{
	const struct table_params *p = params;
	struct bdev *bdev = find_base(request, p->base_bdev);
	struct gpt_disk *disk;
	struct call *call;

	if (!bdev)
		return;
	disk = gpt_disk_find(bdev->name);
	if (!disk) {
		rpc_fail(request, -ENODEV, "'%s' has no partitions that are shown", bdev->name);
		return;
	}
	call = new_call(request, bdev);
	call->disk = disk;
	call->deletes = true;
	gpt_disk_hold(disk);
	disk->deleting++;
	if (disk->reading)
		gpt_disk_read(bdev, (struct bdev_done){remove_parts, call});
	else
		remove_parts(call, NULL);
}

/* ---- options ----------------------------------------------------------------------------------
 */

struct options_params {
	bool all_partitions;
};

static const struct param options_table[] = {
        {PARAM(struct options_params, all_partitions, PARAM_BOOL), .required = true,
                .help = "show partitions of every type, not only of those made for this server"},
        {0},
};

static void options_handler(struct rpc_request *request, void *params)
{
	gpt_all_partitions = ((const struct options_params *)params)->all_partitions;
	rpc_reply(request, NULL);
}

json_t *gpt_save_module(void)
{
	return gpt_all_partitions ? json_pack("[{s:s, s:{s:b}}]", "method", "bdev_gpt_set_options",
	                                    "params", "all_partitions", 1)
	                          : NULL;
}

const struct rpc_method gpt_methods[] = {
        {
                .name = "bdev_gpt_create",
                .summary = "write a partition table to a disk that has none",
                .result_help = "names of the partitions that are shown",
                .params = create_table,
                .params_bytes = sizeof(struct table_params),
                .handler = create_handler,
        },
        {
                .name = "bdev_gpt_delete",
                .summary = "remove the partitions of a disk, and its table",
                .result_help = "true",
                .params = base_table,
                .params_bytes = sizeof(struct table_params),
                .handler = delete_handler,
        },
        {
                .name = "bdev_gpt_get_table",
                .summary = "the partition table of a disk, as it is on the disk",
                .result_help = "object: base_bdev, disk_guid, used, first_usable_block, "
                               "last_usable_block, primary_ok, backup_ok, problem, partitions "
                               "[{number, first_block, last_block, type, guid, name, bdev}]",
                .params = base_table,
                .params_bytes = sizeof(struct table_params),
                .handler = get_handler,
        },
        {
                .name = "bdev_gpt_grow",
                .summary = "fit a partition table to its disk: move the backup to the end, repair",
                .result_help = "object: base_bdev, backup_block, extended (name or null)",
                .params = grow_table,
                .params_bytes = sizeof(struct table_params),
                .handler = grow_handler,
        },
        {
                .name = "bdev_gpt_set_options",
                .summary = "which partitions are shown, of disks that appear from now on",
                .result_help = "true",
                .params = options_table,
                .params_bytes = sizeof(struct options_params),
                .states = RPC_STARTUP | RPC_RUNTIME,
                .handler = options_handler,
        },
        {0},
};
