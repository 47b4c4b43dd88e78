/* raid_rpc.c: the methods. Names, parameters and results are the reference's, but for
 * bdev_raid_start and the parameters that it does not know. */
#include "rpc/rpc.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "vbdev/raid/raid_check.h"
#include "vbdev/raid/raid_create.h"
#include "vbdev/raid/raid_rpc.h"

/* ---- bdev_raid_create -------------------------------------------------------------------------
 */

struct create_params {
	char *name;
	uint32_t strip_size_kb;
	int raid_level;
	struct param_strings base_bdevs;
	struct param_u64s base_data_blocks;
	uuid_t uuid;
	bool superblock, write_intent_bitmap;
};

static const char *const level_names[] = {
        "raid0", "0", "raid1", "1", "raid5f", "5f", "concat", NULL};

static const struct param create_table[] = {
        {PARAM(struct create_params, name, PARAM_STRING), .required = true,
                .help = "name of the array, up to 63 characters"},
        {PARAM(struct create_params, strip_size_kb, PARAM_U32), .unit = "KiB",
                .help = "power of two; for raid0 and concat"},
        {PARAM(struct create_params, raid_level, PARAM_ENUM), .required = true,
                .values = level_names, .help = "how the members are put together"},
        {PARAM(struct create_params, base_bdevs, PARAM_STRINGS), .required = true,
                .max_items = RAID_SLOTS_MAX,
                .help = "the members in order; those that are not there yet are waited for"},
        {PARAM(struct create_params, uuid, PARAM_UUID), .help = "made up when left out"},
        {PARAM(struct create_params, superblock, PARAM_BOOL),
                .help = "members carry a superblock, by which they are found again"},
        {PARAM(struct create_params, write_intent_bitmap, PARAM_BOOL), .def = 1,
                .help = "raid1 with superblock: remember which regions may differ, so that only "
                        "those are copied after an unclean stop, and to a member that returns"},
        {PARAM(struct create_params, base_data_blocks, PARAM_U64S), .max_items = RAID_SLOTS_MAX,
                .unit = "blocks",
                .help = "concat: how much of each member but the last is used; saved, so that "
                        "nothing moves when a member grows while the server is down"},
        {0},
};

struct create_call {
	struct rpc_request *request;
	char name[RAID_SB_NAME_BYTES];
};

static void created(void *arg, const struct err *err)
{
	struct create_call *call = arg;

	if (err)
		rpc_fail(call->request, err->code, "Failed to create RAID bdev %s: %s", call->name,
		        err->text);
	else
		rpc_reply(call->request, NULL);
	free(call);
}

static void create_handler(struct rpc_request *request, void *params)
{
	const struct create_params *p = params;
	struct raid_wish wish = {
	        .name = p->name,
	        .level = raid_level_by_name(level_names[p->raid_level]),
	        .strip_size_kb = p->strip_size_kb,
	        .superblock = p->superblock,
	        .no_bitmap = !p->write_intent_bitmap,
	        .bases = (const char *const *)p->base_bdevs.items,
	        .num_bases = (unsigned)p->base_bdevs.count,
	        .data_blocks = p->base_data_blocks.items,
	        .num_data_blocks = (unsigned)p->base_data_blocks.count,
	};
	struct create_call *call;

	if (!wish.level) {
		rpc_fail(request, -EINVAL,
		        "Failed to create RAID bdev %s: level %s is not supported yet", p->name,
		        level_names[p->raid_level]);
		return;
	}
	for (unsigned i = 0; i < wish.num_bases; i++) {
		if (!wish.bases[i][0]) {
			rpc_fail(request, -EINVAL, "The base bdev name cannot be empty");
			return;
		}
	}
	uuid_copy(wish.uuid, p->uuid);
	call = xcalloc(1, sizeof(*call));
	call->request = request;
	str_copy(call->name, sizeof(call->name), p->name);
	raid_create(&wish, (struct bdev_done){created, call});
}

/* ---- bdev_raid_delete -------------------------------------------------------------------------
 */

struct delete_params {
	char *name;
	bool clear_sb;
};

static const struct param delete_table[] = {
        {PARAM(struct delete_params, name, PARAM_STRING), .required = true, .help = "an array"},
        {PARAM(struct delete_params, clear_sb, PARAM_BOOL),
                .help = "wipe the members' superblocks, so that it is not found again"},
        {0},
};

static void replied(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

static void delete_handler(struct rpc_request *request, void *params)
{
	const struct delete_params *p = params;
	struct raid *raid = raid_find(p->name);

	if (!raid)
		rpc_fail(request, -ENODEV, "raid bdev %s not found", p->name);
	else {
		raid_options_forget(raid->name);
		raid_delete(raid, p->clear_sb, (struct bdev_done){replied, request});
	}
}

/* ---- bdev_raid_get_bdevs ----------------------------------------------------------------------
 */

struct get_params {
	int category;
};

static const char *const categories[] = {"all", "online", "configuring", "offline", NULL};

static const struct param get_table[] = {
        {PARAM(struct get_params, category, PARAM_ENUM), .required = true, .values = categories,
                .help = "which arrays, by state"},
        {0},
};

static void get_handler(struct rpc_request *request, void *params)
{
	const struct get_params *p = params;
	const char *category = categories[p->category];
	json_t *list = json_array();
	const struct raid *raid;

	list_for_each (raid, &raids, link) {
		if (p->category == 0 || strcmp(raid_state_text(raid->state), category) == 0)
			json_array_append_new(list, raid_describe(raid, true));
	}
	rpc_reply(request, list);
}

/* ---- bdev_raid_start --------------------------------------------------------------------------
 */

struct start_params {
	char *name;
	bool trust_parity;
};

static const struct param start_table[] = {
        {PARAM(struct start_params, name, PARAM_STRING), .required = true,
                .help = "an array that waits for members that it can do without"},
        {PARAM(struct start_params, trust_parity, PARAM_BOOL),
                .help = "raid5f: make up the missing member from parity that may be wrong where "
                        "writes were under way when the array stopped"},
        {0},
};

static void start_handler(struct rpc_request *request, void *params)
{
	const struct start_params *p = params;
	struct raid *raid = raid_find(p->name);
	struct err err = ERR_NONE;
	char missing[200];

	if (!raid) {
		rpc_fail(request, -ENODEV, "raid bdev %s not found", p->name);
		return;
	}
	if (p->trust_parity && raid->state == RAID_ONLINE) {
		raid5_trust(raid, &err);
		rpc_reply_err(request, &err);
		return;
	}
	raid_missing_text(raid, missing, sizeof(missing));
	if ((raid->state != RAID_CONFIGURING && raid->state != RAID_OFFLINE) || raid->creating ||
	        raid->started.fn)
		rpc_fail(
		        request, -EALREADY, "'%s' is %s", raid->name, raid_state_text(raid->state));
	else if (raid_present(raid) == 0 || raid_present(raid) < raid_needed(raid))
		rpc_fail(request, -ENODEV, "%s '%s' can't be without %s", raid->level->name,
		        raid->name, missing);
	else {
		raid->degraded_start = true;
		raid->trust_parity = p->trust_parity;
		raid->started = (struct bdev_done){replied, request};
		raid_start(raid);
	}
}

/* ---- bdev_raid_check --------------------------------------------------------------------------
 */

struct check_params {
	char *name;
	bool repair;
};

static const struct param check_table[] = {
        {PARAM(struct check_params, name, PARAM_STRING), .required = true, .help = "a mirror"},
        {PARAM(struct check_params, repair, PARAM_BOOL),
                .help = "write the first member's data where another one differs"},
        {0},
};

static void check_handler(struct rpc_request *request, void *params)
{
	const struct check_params *p = params;
	struct raid *raid = raid_find(p->name);
	struct err err = ERR_NONE;

	if (!raid) {
		rpc_fail(request, -ENODEV, "raid bdev %s not found", p->name);
		return;
	}
	raid_check_start(raid, p->repair, &err);
	rpc_reply_err(request, &err);
}

/* ---- bdev_raid_process ------------------------------------------------------------------------
 */

struct process_params {
	char *name;
	int action;
};

static const char *const actions[] = {"pause", "resume", "cancel", NULL};

static const struct param process_table[] = {
        {PARAM(struct process_params, name, PARAM_STRING), .required = true,
                .help = "an array in which a member is being rebuilt"},
        {PARAM(struct process_params, action, PARAM_ENUM), .required = true, .values = actions,
                .help = "cancel takes the member out again; a check just ends"},
        {0},
};

static void process_handler(struct rpc_request *request, void *params)
{
	const struct process_params *p = params;
	struct raid *raid = raid_find(p->name);
	struct err err = ERR_NONE;

	if (!raid) {
		rpc_fail(request, -ENODEV, "raid bdev %s not found", p->name);
		return;
	}
	if (p->action != RAID_CANCEL || !raid_check_stop(raid))
		raid_rebuild_control(raid, (enum raid_process_action)p->action, &err);
	rpc_reply_err(request, &err);
}

/* ---- the list ---------------------------------------------------------------------------------
 */

#define METHOD(text, what, result, table, type, fn)                                                \
	.name = (text), .summary = (what), .result_help = (result), .params = (table),             \
	.params_bytes = sizeof(struct type), .decode_error = RPC_PARSE_ERROR, .handler = (fn)

const struct rpc_method raid_methods[] = {
        {METHOD("bdev_raid_create", "make several bdevs one array", "true", create_table,
                create_params, create_handler)},
        {METHOD("bdev_raid_delete", "delete an array; its members are free then", "true",
                delete_table, delete_params, delete_handler)},
        {METHOD("bdev_raid_get_bdevs", "list the arrays, whatever their state", "list of arrays",
                get_table, get_params, get_handler)},
        {
                .name = "bdev_raid_add_base_bdev",
                .summary = "give an array a new member",
                .result_help = "true",
                .params = raid_add_params,
                .params_bytes = sizeof(struct raid_add_params),
                .handler = raid_add_method,
        },
        {METHOD("bdev_raid_grow_base_bdev", "give a mirror one more member than it was made with",
                "true", raid_grow_params, raid_add_params, raid_grow_method)},
        {METHOD("bdev_raid_remove_base_bdev", "take a member out of its array", "true",
                raid_remove_params, raid_remove_params, raid_remove_method)},
        {METHOD("bdev_raid_start", "start an array without the members that are missing", "true",
                start_table, start_params, start_handler)},
        {METHOD("bdev_raid_check", "compare the members of a mirror, in the background", "true",
                check_table, check_params, check_handler)},
        {METHOD("bdev_raid_process", "pause, resume or cancel a rebuild", "true", process_table,
                process_params, process_handler)},
        {METHOD("bdev_raid_add_spare", "keep a disk that takes the place of a lost member", "true",
                raid_spare_params, raid_spare_params, raid_add_spare_method)},
        {METHOD("bdev_raid_remove_spare", "give a spare back", "true", raid_base_params,
                raid_spare_params, raid_remove_spare_method)},
        {
                .name = "bdev_raid_get_spares",
                .summary = "list the spares of all arrays",
                .result_help = "list of {base_bdev, present, raid_bdev}",
                .handler = raid_get_spares_method,
        },
        {METHOD("bdev_raid_set_options", "options of all arrays, or of one", "true",
                 raid_options_table, raid_options_params, raid_options_handler),
                .states = RPC_STARTUP | RPC_RUNTIME},
        {0},
};
