/*
 * raid_examine.c: a bdev has appeared, or is back in its place: has it a superblock, and what does
 * it lead to?
 */
#include "vbdev/raid/raid_spare.h"

#include <errno.h>

/* Who has examined a member that made it start. */
struct start_waiter {
	struct list link;
	struct bdev_done done;
};

void raid_end_examinations(struct raid *raid)
{
	struct list waiters = LIST_INIT(waiters);

	list_splice_back(&waiters, &raid->start_waiters);
	while (!list_empty(&waiters)) {
		struct start_waiter *w =
		        list_entry(list_pop_front(&waiters), struct start_waiter, link);
		struct bdev_done done = w->done;

		free(w);
		bdev_done_call(done, NULL);
	}
}

/* An examination is over when what it has led to is there. */
static void answer_when_started(const struct bdev *member, struct bdev_done done)
{
	struct raid *raid;

	list_for_each (raid, &raids, link) {
		for (unsigned i = 0; raid->state == RAID_STARTING && i < raid->num_slots; i++) {
			struct start_waiter *w;

			if (raid->slots[i].bdev != member)
				continue;
			w = xcalloc(1, sizeof(*w));
			w->done = done;
			list_init(&w->link);
			list_push_back(&raid->start_waiters, &w->link);
			return;
		}
	}
	bdev_done_call(done, NULL);
}

struct examining {
	struct bdev *bdev; /* held by the core's examine, or by name */
	char name[BDEV_NAME_MAX];
	struct bdev_done done;
};

static void examined(void *arg, const struct raid_sb_read *read)
{
	struct examining *e = arg;
	struct bdev *bdev = bdev_find(e->name);

	if (bdev && bdev == e->bdev && bdev->state == BDEV_ONLINE && !bdev_is_claimed(bdev) &&
	        !raid_spare_appeared(bdev, read))
		raid_offer(bdev, read);
	if (e->done.fn)
		answer_when_started(e->bdev, e->done);
	free(e);
}

void raid_examine(struct bdev *bdev, struct bdev_done done)
{
	struct examining *e = xcalloc(1, sizeof(*e));

	e->bdev = bdev;
	e->done = done;
	str_copy(e->name, sizeof(e->name), bdev->name);
	raid_sb_read(bdev, examined, e);
}

/* ---- a base that the core has put back --------------------------------------------------------
 */

struct returning {
	struct raid *raid;
	struct bdev *bdev; /* the array's */
	unsigned index;
	struct bdev_done done;
};

static void returned_read(void *arg, const struct raid_sb_read *read)
{
	struct returning *r = arg;
	struct raid *raid = r->raid;
	struct bdev *base = raid->bdev == r->bdev && raid->state == RAID_ONLINE
	                            ? r->bdev->bases[r->index]
	                            : NULL;
	struct err err = ERR_NONE;
	unsigned slot = 0;

	if (!base)
		err_set(&err, -ENODEV, "the array is going");
	else if (read->found != RAID_SB_OK || uuid_compare(read->sb.uuid, raid->uuid) != 0)
		err_set(&err, -EINVAL,
		        "'%s' has no superblock of this array: add it with "
		        "bdev_raid_add_base_bdev",
		        base->name);
	else if (raid_check_rejoin(raid, base, &read->sb, &slot, &err) == 0 && slot != r->index)
		err_set(&err, -EINVAL, "'%s' belongs into slot %u", base->name, slot);
	if (!err.code) {
		raid->slots[slot].data_offset_blocks = raid_known_offset(raid, slot, base);
		raid_member_fits(raid, slot, base, &err);
	}
	if (err.code && base)
		bdev_set_problem(base, "raid member", err.text, "look at the disk");
	if (!err.code)
		raid_rebuild_start(raid, r->index, read->sb.seq);
	bdev_done_call(r->done, err.code ? &err : NULL);
	raid_bdev_unhold(raid);
	free(r);
}

void raid_base_returned(struct bdev *bdev, unsigned index, struct bdev_done done)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;
	struct returning *r;
	struct err err = ERR_NONE;

	if (!raid->superblock) {
		err_set(&err, -EPERM,
		        "an array without superblock can't know what '%s' has missed: add it with "
		        "bdev_raid_add_base_bdev",
		        bdev->bases[index]->name);
		bdev_done_call(done, &err);
		return;
	}
	r = xcalloc(1, sizeof(*r));
	*r = (struct returning){.raid = raid, .bdev = bdev, .index = index, .done = done};
	raid_bdev_hold(raid);
	raid_sb_read(bdev->bases[index], returned_read, r);
}
