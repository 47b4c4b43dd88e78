/* raid_flush.c: what members have acknowledged is to be durable, before something is written that
 * relies on it. */
#include <errno.h>

#include "vbdev/raid/raid.h"

struct flushing {
	struct raid *raid;
	unsigned pending;
	bool failed;
	struct bdev_done done;
	struct bio bios[];
};

static void drop(struct flushing *f)
{
	struct raid *raid = f->raid;
	struct err err = ERR_NONE;

	if (--f->pending > 0)
		return;
	if (f->failed)
		err_set(&err, -EIO, "a member of '%s' can't be flushed", raid->name);
	bdev_done_call(f->done, err.code ? &err : NULL);
	free(f);
	raid_bdev_unhold(raid);
}

static void flushed(struct bio *bio)
{
	struct flushing *f = bio->arg;

	f->failed |= bio->status != 0 && bio->status != -EOPNOTSUPP;
	drop(f);
}

void raid_flush_members(struct raid *raid, struct bdev_done done)
{
	struct flushing *f = xcalloc(1, sizeof(*f) + raid->num_slots * sizeof(struct bio));

	raid_bdev_hold(raid);
	f->raid = raid;
	f->done = done;
	f->pending = 1;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use != SLOT_IN || !raid->slots[i].bdev)
			continue;
		f->pending++;
		bio_init(&f->bios[i], BIO_FLUSH, NULL, 0, 0, flushed, f);
		bio_submit_bdev(raid->slots[i].bdev, &f->bios[i], 0);
	}
	drop(f);
}
