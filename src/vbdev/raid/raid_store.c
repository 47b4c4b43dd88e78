/*
 * raid_store.c: the superblock onto all members, in the order that a crash may interrupt anywhere:
 * the second copy, flushed, then the first, flushed. One pass at a time; what changes meanwhile
 * goes with the next.
 */
#include "vbdev/raid/raid.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

struct store_waiter {
	struct list link;
	struct bdev_done done;
};

struct store_write {
	struct raid *raid;
	unsigned slot;
	bool ext_done, second_done, first_done, failed;
	struct err err;
};

struct raid_store {
	bool running;
	struct list next, current; /* store_waiter */
	void *buf;
	uint64_t blocks;
	uint8_t *ext; /* NULL: none is kept */
	uint64_t ext_blocks;
	unsigned pending;
	struct store_write writes[RAID_SLOTS_MAX];
	struct err err;
	unsigned written;
};

static void pass(struct raid *raid);

static struct raid_store *store_of(struct raid *raid)
{
	if (!raid->store) {
		raid->store = xcalloc(1, sizeof(*raid->store));
		list_init(&raid->store->next);
		list_init(&raid->store->current);
	}
	return raid->store;
}

void raid_store_free(struct raid *raid)
{
	if (!raid->store)
		return;
	BELLOWS_ASSERT(!raid->store->running && list_empty(&raid->store->next));
	free(raid->store);
	raid->store = NULL;
}

static void answer(struct list *waiters, const struct err *err)
{
	while (!list_empty(waiters)) {
		struct store_waiter *w =
		        list_entry(list_pop_front(waiters), struct store_waiter, link);
		struct bdev_done done = w->done;

		free(w);
		bdev_done_call(done, err);
	}
}

/* Every member has it, or those that have not are recorded as failed on the others. */
static void finish(struct raid *raid)
{
	struct raid_store *s = raid->store;
	struct list waiters = LIST_INIT(waiters);
	struct err err = s->err;

	list_splice_back(&waiters, &s->current);
	free(s->buf);
	free(s->ext);
	s->buf = NULL;
	s->ext = NULL;
	if (list_empty(&s->next)) {
		s->running = false;
	} else {
		list_splice_back(&s->current, &s->next);
		pass(raid);
	}
	answer(&waiters, err.code ? &err : NULL);
	raid_bdev_unhold(raid);
}

static void pass_done(struct raid *raid)
{
	struct raid_store *s = raid->store;
	bool again = false;

	s->err.code = 0;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct store_write *w = &s->writes[i];

		if (!w->failed)
			continue;
		log_error("raid", "'%s': the superblock can't be written to '%s': %s", raid->name,
		        raid->slots[i].name, w->err.text);
		if (raid_member_failed_in_store(raid, i))
			again = true;
		else
			s->err = w->err;
	}
	if (s->written == 0 && s->err.code == 0)
		err_set(&s->err, -EIO, "no member of '%s' could be written", raid->name);
	if (!again || s->err.code) {
		finish(raid);
		return;
	}
	/* What has failed must be recorded too before anybody goes on. */
	free(s->buf);
	free(s->ext);
	s->buf = NULL;
	s->ext = NULL;
	pass(raid);
	raid_bdev_unhold(raid); /* of the pass that is over */
}

static void written(void *arg, const struct err *err);

/* The next of the parts that a member gets, each flushed: the extension, the second copy, the
 * first. False: it has all. */
static bool write_next(struct store_write *w, struct bdev *bdev)
{
	struct raid *raid = w->raid;
	struct raid_store *s = raid->store;
	struct bdev_done done = {written, w};
	bool two = raid->block_bytes <= RAID_SB_COPY_BLOCK_MAX_BYTES;

	if (!w->ext_done && s->ext) {
		w->ext_done = true;
		bdev_write_meta(bdev, raid_ext_offset_bytes(&raid->ext) / raid->block_bytes,
		        s->ext_blocks, s->ext, done);
	} else if (!w->second_done && two) {
		w->ext_done = w->second_done = true;
		bdev_write_meta(bdev, RAID_SB_COPY_BYTES_OFFSET / raid->block_bytes, s->blocks,
		        s->buf, done);
	} else if (!w->first_done) {
		w->second_done = w->first_done = true;
		bdev_write_meta(bdev, 0, s->blocks, s->buf, done);
	} else {
		return false;
	}
	return true;
}

static void written(void *arg, const struct err *err)
{
	struct store_write *w = arg;
	struct raid *raid = w->raid;
	struct raid_store *s = raid->store;
	struct bdev *bdev = raid->slots[w->slot].bdev;

	if (!err && bdev && write_next(w, bdev))
		return;
	if (err) {
		w->failed = true;
		w->err = *err;
	} else {
		s->written++;
	}
	if (--s->pending == 0)
		pass_done(raid);
}

/* One that goes with this superblock or a later one is on each member before it. */
static void encode_ext(struct raid *raid)
{
	struct raid_store *s = raid->store;
	uint64_t bytes = align_up_u64(RAID_EXT_BYTES, raid->block_bytes);

	if (!raid->ext_kept)
		return;
	s->ext = try_alloc_aligned(4096, bytes);
	BELLOWS_ASSERT(s->ext);
	s->ext_blocks = bytes / raid->block_bytes;
	raid->ext.generation++;
	raid->ext.seq = raid->sb.seq;
	raid_ext_encode(&raid->ext, s->ext);
}

static void pass(struct raid *raid)
{
	struct raid_store *s = raid->store;
	uint32_t block_bytes = raid->block_bytes;
	size_t length;

	raid_bdev_hold(raid);
	raid->sb.seq++;
	raid->sb_valid = true;
	length = raid_sb_encode(&raid->sb);
	s->blocks = div_round_up_u64(length, block_bytes);
	s->buf = try_alloc_aligned(4096, align_up_u64(s->blocks * block_bytes, 4096));
	BELLOWS_ASSERT(s->buf);
	memcpy(s->buf, raid->sb.raw, length);
	encode_ext(raid);
	s->written = 0;
	s->pending = 1;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct raid_slot *slot = &raid->slots[i];
		struct store_write *w = &s->writes[i];

		*w = (struct store_write){.raid = raid, .slot = i};
		if (slot->use != SLOT_IN && slot->use != SLOT_TARGET)
			continue;
		s->pending++;
		write_next(w, slot->bdev);
	}
	if (--s->pending == 0)
		pass_done(raid);
}

void raid_store(struct raid *raid, struct bdev_done done)
{
	struct raid_store *s = store_of(raid);
	struct store_waiter *w = xcalloc(1, sizeof(*w));

	w->done = done;
	list_init(&w->link);
	if (s->running) {
		list_push_back(&s->next, &w->link);
		return;
	}
	s->running = true;
	list_push_back(&s->current, &w->link);
	pass(raid);
}
