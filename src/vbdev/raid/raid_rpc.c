/* raid_rpc.c: the methods. Names, parameters and results are the reference's, but for
 * bdev_raid_start and the parameters that it does not know. */
#include "rpc/rpc.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "vbdev/raid/raid_check.h"
#include "vbdev/raid/raid_create.h"
#include "vbdev/raid/raid_spare.h"

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
                .help = "raid1, raid5f with superblock: remember what is being written, so that "
                        "only "
                        "that is made equal after an unclean stop, or given to a returning member"},
        {PARAM(struct create_params, base_data_blocks, PARAM_U64S), .max_items = RAID_SLOTS_MAX,
                .unit = "blocks",
                .help = "concat: how much of each member is used; saved for members that have "
                        "grown since"},
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
	else
		raid_delete(raid, p->clear_sb, (struct bdev_done){replied, request});
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

/* ---- bdev_raid_add_base_bdev ------------------------------------------------------------------
 */

struct add_params {
	char *raid_bdev;
	char *base_bdev;
};

static const struct param add_table[] = {
        {PARAM(struct add_params, raid_bdev, PARAM_STRING), .required = true,
                .help = "an array with a free place"},
        {PARAM(struct add_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the new member; one of an array that is online is rebuilt"},
        {0},
};

struct adding {
	struct rpc_request *request;
	struct raid *raid;
	char base[BDEV_NAME_MAX];
};

static void added(void *arg, const struct err *err)
{
	struct adding *a = arg;

	if (err)
		rpc_fail(a->request, err->code, "Failed to add base bdev %s to RAID bdev %s: %s",
		        a->base, a->raid->name, err->text);
	else
		rpc_reply(a->request, NULL);
	raid_unhold(a->raid);
	free(a);
}

/* The one that waits for this very bdev, else one that waits for nobody; -1: none. */
static int free_slot(const struct raid *raid, const struct bdev *bdev)
{
	int any = -1;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		bool taken = raid->bdev && raid->bdev->bases[i];

		if (slot->use != SLOT_FREE || taken)
			continue;
		if ((!uuid_is_null(slot->uuid) && uuid_compare(slot->uuid, bdev->uuid) == 0) ||
		        (slot->name[0] && bdev_find(slot->name) == bdev))
			return (int)i;
		if (any < 0 && (raid->state == RAID_ONLINE || !slot->name[0]))
			any = (int)i;
	}
	return any;
}

static void add_read(void *arg, const struct raid_sb_read *read)
{
	struct adding *a = arg;
	struct raid *raid = a->raid;
	struct bdev *bdev = bdev_find(a->base);
	struct err err = ERR_NONE;
	bool same = read->found == RAID_SB_OK && uuid_compare(read->sb.uuid, raid->uuid) == 0;
	int slot = bdev ? free_slot(raid, bdev) : -1;

	if (!bdev)
		err_set(&err, -ENODEV, "it is gone");
	else if (bdev_is_claimed(bdev))
		err_set(&err, -EPERM, "it is in use");
	else if (raid->rebuild)
		err_set(&err, -EPERM, "another member is being rebuilt");
	else if (slot < 0 || (raid->state == RAID_ONLINE && !raid->level->redundant))
		err_set(&err, -EINVAL, "the array has no free place");
	else if (!same)
		raid_foreign_superblock(read, a->base, &err);
	if (err.code || raid->state == RAID_DELETING) {
		added(a, err.code ? &err : &(struct err){.code = -ENODEV});
	} else if (raid->state == RAID_ONLINE) {
		raid_join(raid, (unsigned)slot, bdev, same ? read->sb.seq : 0,
		        (struct bdev_done){added, a});
	} else if (raid->sb_valid && !same) {
		/* It would count as one that has all data. */
		err_set(&err, -EBUSY,
		        "the array waits for members that have its data: start it without them "
		        "with bdev_raid_start, then add this one");
		added(a, &err);
	} else if (raid->sb_valid) {
		raid_offer(bdev, read);
		if (raid->slots[slot].bdev != bdev)
			err_set(&err, -EINVAL,
			        "its superblock does not count it as a member that "
			        "is up to date");
		added(a, err.code ? &err : NULL);
	} else {
		if (raid_member_take(raid, (unsigned)slot, bdev, &err) == 0)
			raid_consider(raid);
		added(a, err.code ? &err : NULL);
	}
}

static void add_handler(struct rpc_request *request, void *params)
{
	const struct add_params *p = params;
	struct raid *raid = raid_find(p->raid_bdev);
	struct bdev *bdev = bdev_find(p->base_bdev);
	struct adding *a;
	struct err err = ERR_NONE;

	if (!raid) {
		rpc_fail(request, -ENODEV, "raid bdev %s is not found in config", p->raid_bdev);
		return;
	}
	a = xcalloc(1, sizeof(*a));
	a->request = request;
	a->raid = raid;
	raid_hold(raid);
	str_copy(a->base, sizeof(a->base), p->base_bdev);
	if (!bdev)
		err_set(&err, -ENODEV, "there is no such bdev");
	else if (bdev_is_claimed(bdev))
		err_set(&err, -EPERM, "it is in use");
	else if (raid->rebuild)
		err_set(&err, -EPERM, "another member is being rebuilt");
	if (err.code)
		added(a, &err);
	else
		raid_sb_read(bdev, add_read, a);
}

/* ---- bdev_raid_remove_base_bdev ---------------------------------------------------------------
 */

struct remove_params {
	char *name;
};

static const struct param remove_table[] = {
        {PARAM(struct remove_params, name, PARAM_STRING), .required = true,
                .help = "a member of an array"},
        {0},
};

static void removed(void *arg, const struct err *err)
{
	if (err)
		rpc_fail(
		        arg, err->code, "Failed to remove base bdev from raid bdev: %s", err->text);
	else
		rpc_reply(arg, NULL);
}

static void remove_handler(struct rpc_request *request, void *params)
{
	const struct remove_params *p = params;
	const struct bdev *member = bdev_find(p->name);
	struct raid_slot *slot = member ? raid_slot_of(member) : NULL;
	struct raid *raid = slot ? slot->raid : NULL;
	struct err err = ERR_NONE;
	unsigned index = slot ? (unsigned)(slot - raid->slots) : 0;

	if (!slot) {
		rpc_fail(request, -ENODEV,
		        "Failed to remove base bdev from raid bdev: '%s' is no member of any",
		        p->name);
	} else if (raid->state == RAID_CONFIGURING || raid->state == RAID_OFFLINE) {
		raid_member_release(raid, index, false);
		raid_consider(raid);
		rpc_reply(request, NULL);
	} else if (raid->state != RAID_ONLINE) {
		rpc_fail(request, -EBUSY,
		        "Failed to remove base bdev from raid bdev: '%s' is starting or stopping",
		        raid->name);
	} else if (raid->level->parity && slot->use == SLOT_IN &&
	           raid5_check_complete(raid, &err) != 0) {
		rpc_fail(request, err.code, "Failed to remove base bdev from raid bdev: %s",
		        err.text);
	} else if (raid_can_lose(raid, index)) {
		bdev_base_detach(raid->bdev, index, (struct bdev_done){removed, request});
	} else {
		slot->use = SLOT_FREE;
		slot->bdev = NULL;
		slot->name[0] = '\0';
		raid_go_offline(raid, "a member that it can't be without was removed");
		rpc_reply(request, NULL);
	}
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
        {PARAM(struct check_params, name, PARAM_STRING), .required = true, .help = "an array"},
        {PARAM(struct check_params, repair, PARAM_BOOL),
                .help = "write the first member's data where others differ; raid5f: parity"},
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

/* ---- spares -----------------------------------------------------------------------------------
 */

struct spare_params {
	char *base_bdev;
	char *raid_bdev;
};

static const struct param spare_table[] = {
        {PARAM(struct spare_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the spare; one that is not there is waited for"},
        {PARAM(struct spare_params, raid_bdev, PARAM_STRING),
                .help = "the array that it is for; left out: any"},
        {0},
};

static const struct param base_table[] = {
        {PARAM(struct spare_params, base_bdev, PARAM_STRING), .required = true, .help = "a spare"},
        {0},
};

static void add_spare_handler(struct rpc_request *request, void *params)
{
	const struct spare_params *p = params;

	raid_spare_add(p->base_bdev, p->raid_bdev ? p->raid_bdev : "",
	        (struct bdev_done){replied, request});
}

static void remove_spare_handler(struct rpc_request *request, void *params)
{
	const struct spare_params *p = params;
	struct err err = ERR_NONE;

	raid_spare_remove(p->base_bdev, &err);
	rpc_reply_err(request, &err);
}

static void get_spares_handler(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request, raid_spares_describe());
}

/* ---- bdev_raid_set_options --------------------------------------------------------------------
 */

struct options_params {
	uint32_t process_window_size_kb, process_max_bandwidth_mb_sec;
	bool window_given, bandwidth_given;
	json_t *degraded_start_wait;
};

static const struct param options_table[] = {
        {PARAM(struct options_params, process_window_size_kb, PARAM_U32), .unit = "KiB",
                .def = 1024, .given = offsetof(struct options_params, window_given),
                .help = "how much a rebuild copies at a time"},
        {PARAM(struct options_params, process_max_bandwidth_mb_sec, PARAM_U32), .unit = "MiB/s",
                .given = offsetof(struct options_params, bandwidth_given),
                .help = "limit of a rebuild; 0: none. Holds at once"},
        {PARAM(struct options_params, degraded_start_wait, PARAM_JSON), .unit = "s",
                .help = "how long a found mirror waits for its members (10 at first); 0: not at "
                        "all; \"never\": until all are there"},
        {0},
};

static void options_handler(struct rpc_request *request, void *params)
{
	const struct options_params *p = params;
	const json_t *wait = p->degraded_start_wait;
	const char *text = json_string_value(wait);
	json_int_t seconds = json_integer_value(wait);

	if (p->window_given &&
	        (p->process_window_size_kb == 0 || p->process_window_size_kb > 64 * KIB(1))) {
		rpc_fail(request, -EINVAL, "process_window_size_kb can be 1 to 65536");
		return;
	}
	if (wait && !(text && strcmp(text, "never") == 0) &&
	        !(json_is_integer(wait) && seconds >= 0 && seconds <= 86400)) {
		rpc_fail(request, -EINVAL, "degraded_start_wait can be 0 to 86400, or \"never\"");
		return;
	}
	if (p->window_given)
		raid_options.window_kb = p->process_window_size_kb;
	if (p->bandwidth_given)
		raid_options.bandwidth_mb = p->process_max_bandwidth_mb_sec;
	if (wait)
		raid_options.wait_s = text ? RAID_WAIT_NEVER : (uint32_t)seconds;
	rpc_reply(request, NULL);
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
                .params = add_table,
                .params_bytes = sizeof(struct add_params),
                .handler = add_handler,
        },
        {METHOD("bdev_raid_remove_base_bdev", "take a member out of its array", "true",
                remove_table, remove_params, remove_handler)},
        {METHOD("bdev_raid_start", "start an array without the members that are missing", "true",
                start_table, start_params, start_handler)},
        {METHOD("bdev_raid_check", "compare members, or parity with its data, in the background",
                "true", check_table, check_params, check_handler)},
        {METHOD("bdev_raid_process", "pause, resume or cancel a rebuild", "true", process_table,
                process_params, process_handler)},
        {METHOD("bdev_raid_add_spare", "keep a disk that takes the place of a lost member", "true",
                spare_table, spare_params, add_spare_handler)},
        {METHOD("bdev_raid_remove_spare", "give a spare back", "true", base_table, spare_params,
                remove_spare_handler)},
        {
                .name = "bdev_raid_get_spares",
                .summary = "list the spares of all arrays",
                .result_help = "list of {base_bdev, present, raid_bdev}",
                .handler = get_spares_handler,
        },
        {METHOD("bdev_raid_set_options", "options of all arrays", "true", options_table,
                 options_params, options_handler),
                .states = RPC_STARTUP | RPC_RUNTIME},
        {0},
};
