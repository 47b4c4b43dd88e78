/* raid_member_rpc.c: the methods that give an array a member, a place or a spare, or take one out.
 */
#include "vbdev/raid/raid_rpc.h"

#include <errno.h>

#include "vbdev/raid/raid_add.h"
#include "vbdev/raid/raid_spare.h"

static void replied(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

/* ---- bdev_raid_add_base_bdev, bdev_raid_grow_base_bdev ----------------------------------------
 */

const struct param raid_add_params[] = {
        {PARAM(struct raid_add_params, raid_bdev, PARAM_STRING), .required = true,
                .help = "an array with a free place"},
        {PARAM(struct raid_add_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the new member; one of an array that is online is rebuilt"},
        {0},
};

const struct param raid_grow_params[] = {
        {PARAM_NAMED("raid_name", struct raid_add_params, raid_bdev, PARAM_STRING),
                .required = true, .help = "a raid1 that is online"},
        {PARAM_NAMED("base_name", struct raid_add_params, base_bdev, PARAM_STRING),
                .required = true,
                .help = "the new member, which is rebuilt; one that is a member already stays as "
                        "it is"},
        {0},
};

struct adding {
	struct rpc_request *request;
	bool grow;
	char base[BDEV_NAME_MAX], array[RAID_SB_NAME_BYTES];
};

static void added(void *arg, const struct err *err)
{
	struct adding *a = arg;

	if (err)
		rpc_fail(a->request, err->code,
		        a->grow ? "Failed to add base bdev %s to RAID bdev %s as one more: %s"
		                : "Failed to add base bdev %s to RAID bdev %s: %s",
		        a->base, a->array, err->text);
	else
		rpc_reply(a->request, NULL);
	free(a);
}

static void add(struct rpc_request *request, const struct raid_add_params *p, bool grow)
{
	struct raid *raid = raid_find(p->raid_bdev);
	struct adding *a;

	if (!raid) {
		rpc_fail(request, -ENODEV, "raid bdev %s is not found in config", p->raid_bdev);
		return;
	}
	a = xcalloc(1, sizeof(*a));
	a->request = request;
	a->grow = grow;
	str_copy(a->base, sizeof(a->base), p->base_bdev);
	str_copy(a->array, sizeof(a->array), raid->name);
	(grow ? raid_grow : raid_add)(raid, p->base_bdev, (struct bdev_done){added, a});
}

void raid_add_method(struct rpc_request *request, void *params)
{
	add(request, params, false);
}

void raid_grow_method(struct rpc_request *request, void *params)
{
	add(request, params, true);
}

/* ---- bdev_raid_remove_base_bdev ---------------------------------------------------------------
 */

const struct param raid_remove_params[] = {
        {PARAM(struct raid_remove_params, name, PARAM_STRING), .required = true,
                .help = "a member of an array"},
        {0},
};

struct removing {
	struct rpc_request *request;
	struct raid *raid;
	unsigned index;
};

static void removal_answer(void *arg, const struct err *err)
{
	struct removing *r = arg;
	struct raid *raid = r->raid;

	if (err)
		rpc_fail(r->request, err->code, "Failed to remove base bdev from raid bdev: %s",
		        err->text);
	else
		rpc_reply(r->request, NULL);
	free(r);
	raid_bdev_unhold(raid);
	raid_unhold(raid);
}

/* It may have failed a moment before, and been recorded as one that may come back with what it
 * missed alone. But from this answer on anybody may write to it. */
static void recorded(void *arg, const struct err *err)
{
	struct removing *r = arg;
	struct raid *raid = r->raid;
	struct err lost = ERR_NONE;

	if (!err && raid->lost) {
		err_set(&lost, -EIO, "the array is going, and its members may still count it");
		err = &lost;
	}
	if (err || raid->state != RAID_ONLINE || raid->slots[r->index].use != SLOT_FREE ||
	        !raid_bitmap_may_return(raid, r->index)) {
		removal_answer(r, err);
		return;
	}
	raid_bitmap_left(raid, r->index, false);
	raid_store_ext(raid, (struct bdev_done){removal_answer, r});
}

/* The core has no patience with members that are slow to record it. */
static void removed(void *arg, const struct err *err)
{
	struct removing *r = arg;

	if (!err && r->raid->slots[r->index].use == SLOT_LEAVING)
		raid_member_leave(
		        r->raid, r->index, RAID_SB_MISSING, (struct bdev_done){recorded, r});
	else
		recorded(r, err);
}

static void start_removal(struct rpc_request *request, struct raid *raid, unsigned index)
{
	struct removing *r = xcalloc(1, sizeof(*r));

	*r = (struct removing){.request = request, .raid = raid, .index = index};
	raid_hold(raid);
	raid_bdev_hold(raid);
	bdev_base_detach(raid->bdev, index, (struct bdev_done){removed, r});
}

void raid_remove_method(struct rpc_request *request, void *params)
{
	const struct raid_remove_params *p = params;
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
		start_removal(request, raid, index);
	} else {
		slot->use = SLOT_FREE;
		slot->bdev = NULL;
		slot->name[0] = '\0';
		raid_go_offline(raid, "a member that it can't be without was removed");
		rpc_reply(request, NULL);
	}
}

/* ---- spares -----------------------------------------------------------------------------------
 */

const struct param raid_spare_params[] = {
        {PARAM(struct raid_spare_params, base_bdev, PARAM_STRING), .required = true,
                .help = "the spare; one that is not there is waited for"},
        {PARAM(struct raid_spare_params, raid_bdev, PARAM_STRING),
                .help = "the array that it is for; left out: any"},
        {0},
};

const struct param raid_base_params[] = {
        {PARAM(struct raid_spare_params, base_bdev, PARAM_STRING), .required = true,
                .help = "a spare"},
        {0},
};

void raid_add_spare_method(struct rpc_request *request, void *params)
{
	const struct raid_spare_params *p = params;

	raid_spare_add(p->base_bdev, p->raid_bdev ? p->raid_bdev : "",
	        (struct bdev_done){replied, request});
}

void raid_remove_spare_method(struct rpc_request *request, void *params)
{
	const struct raid_spare_params *p = params;
	struct err err = ERR_NONE;

	raid_spare_remove(p->base_bdev, &err);
	rpc_reply_err(request, &err);
}

void raid_get_spares_method(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request, raid_spares_describe());
}
