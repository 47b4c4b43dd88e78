/*
 * raid_store.c: the superblock onto all members, in the order that a crash may interrupt anywhere:
 * the second copy, flushed, then the first, flushed. One pass at a time; what changes meanwhile
 * goes with the next.
 */
#include "vbdev/raid/raid.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"
#include "vbdev/raid/raid_ext.h"

struct store_waiter {
	struct list link;
	struct bdev_done done;
};

struct store_write {
	struct raid *raid;
	unsigned slot;
	enum store_step {
		STORE_BEFORE, /* the extension of a level with parity */
		STORE_SECOND,
		STORE_FIRST,
		STORE_BEHIND, /* the extension of all levels that have one */
		STORE_DONE
	} step;
	bool wanted;  /* this pass is for it too */
	bool late;    /* in the second round */
	bool counted; /* as a member, in the superblock of this pass */
	bool failed;
	struct err err;
};

struct raid_store {
	bool running;
	bool all, next_all;        /* the superblock too; else the extension alone */
	struct list next, current; /* store_waiter */
	void *buf, *before, *behind;
	uint64_t blocks;
	uint64_t before_at, behind_at; /* in bytes; 0: there is none */
	unsigned pending;
	unsigned num_slots; /* when the pass began */
	bool late;          /* the second round is under way */
	struct store_write writes[RAID_SLOTS_MAX];
	struct err err;
	uint64_t seq;
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

static void free_buffers(struct raid_store *s)
{
	free(s->buf);
	free(s->before);
	free(s->behind);
	s->buf = s->before = s->behind = NULL;
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
	free_buffers(s);
	if (list_empty(&s->next)) {
		s->running = false;
	} else {
		list_splice_back(&s->current, &s->next);
		s->all = s->next_all;
		s->next_all = false;
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
	for (unsigned i = 0; i < s->num_slots; i++) {
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
	free_buffers(s);
	s->all = true;
	pass(raid);
	raid_bdev_unhold(raid); /* of the pass that is over */
}

static void write_step(struct store_write *w);
static void end_write(struct raid *raid);

static void written(void *arg, const struct err *err)
{
	struct store_write *w = arg;
	struct raid *raid = w->raid;
	struct raid_store *s = raid->store;
	struct raid_slot *slot = &raid->slots[w->slot];

	if (!err && ++w->step != STORE_DONE && slot->bdev) {
		write_step(w);
		return;
	}
	if (err) {
		w->failed = true;
		w->err = *err;
	} else {
		s->written++;
		if (slot->use == SLOT_IN) {
			slot->seq = s->seq;
			slot->fresh = slot->fresh && !w->counted;
		}
	}
	end_write(raid);
}

/* The second copy, the first, and what goes before or behind them. */
static void write_step(struct store_write *w)
{
	struct raid *raid = w->raid;
	const struct raid_store *s = raid->store;
	struct bdev *bdev = raid->slots[w->slot].bdev;
	uint32_t block_bytes = raid->block_bytes;
	struct bdev_done done = {written, w};
	uint64_t ext_blocks = max_u64(RAID_EXT_BYTES / block_bytes, 1);

	if (w->step == STORE_BEFORE && s->before_at == 0)
		w->step = STORE_SECOND;
	if (w->step == STORE_SECOND &&
	        (block_bytes > RAID_SB_COPY_BLOCK_MAX_BYTES || PLANT(RAID_COPY_NOT_WRITTEN)))
		w->step = STORE_FIRST;
	if (w->step == STORE_SECOND)
		bdev_write_meta(
		        bdev, RAID_SB_COPY_BYTES_OFFSET / block_bytes, s->blocks, s->buf, done);
	else if (w->step == STORE_FIRST)
		bdev_write_meta(bdev, 0, s->blocks, s->buf, done);
	else if (w->step == STORE_BEFORE)
		bdev_write_meta(bdev, s->before_at / block_bytes, ext_blocks, s->before, done);
	else if (s->behind_at)
		bdev_write_meta(bdev, s->behind_at / block_bytes, ext_blocks, s->behind, done);
	else
		bdev_done_call(done, NULL);
}

/*
 * Whoever was no member so far has it only when the others do. If it were the first to know that it
 * is one, it could start alone after a crash, and the others, which don't know it, without it.
 */
static void write_round(struct raid *raid, bool late)
{
	struct raid_store *s = raid->store;

	s->late = late;
	s->pending = 1;
	for (unsigned i = 0; i < s->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];

		if ((slot->use != SLOT_IN && slot->use != SLOT_TARGET) || !slot->bdev ||
		        !s->writes[i].wanted || s->writes[i].late != late)
			continue;
		s->pending++;
		write_step(&s->writes[i]);
	}
	end_write(raid);
}

static void end_write(struct raid *raid)
{
	struct raid_store *s = raid->store;
	bool failed = false;

	if (--s->pending > 0)
		return;
	for (unsigned i = 0; i < s->num_slots; i++)
		failed |= s->writes[i].failed;
	if (s->late || failed) /* which is to be recorded first */
		pass_done(raid);
	else
		write_round(raid, true);
}

static void *ext_buffer(const struct raid *raid)
{
	uint64_t bytes = max_u64(RAID_EXT_BYTES, raid->block_bytes);
	void *buf = try_alloc_aligned(4096, bytes);

	BELLOWS_ASSERT(buf);
	return memset(buf, 0, bytes);
}

static void pass(struct raid *raid)
{
	struct raid_store *s = raid->store;
	uint32_t block_bytes = raid->block_bytes;
	size_t length;

	raid_bdev_hold(raid);
	if (s->all)
		raid->sb.seq = max_u64(raid->sb.seq, raid->seq_seen) + 1;
	raid->sb_valid = true;
	length = raid_sb_encode(&raid->sb);
	s->blocks = div_round_up_u64(length, block_bytes);
	s->buf = try_alloc_aligned(4096, align_up_u64(s->blocks * block_bytes, 4096));
	BELLOWS_ASSERT(s->buf);
	memcpy(s->buf, raid->sb.raw, length);
	s->seq = raid->sb.seq;
	s->before = ext_buffer(raid);
	s->behind = ext_buffer(raid);
	s->before_at = raid->level->parity && s->all ? raid_bitmap_ext(raid, false, s->before) : 0;
	s->behind_at = raid_bitmap_ext(raid, true, s->behind);
	s->written = 0;
	s->num_slots = raid->num_slots;
	for (unsigned i = 0; i < s->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];

		s->writes[i] = (struct store_write){.raid = raid,
		        .slot = i,
		        .step = s->all ? STORE_BEFORE : STORE_BEHIND,
		        .wanted = slot->use == SLOT_IN || slot->use == SLOT_TARGET,
		        .late = slot->use == SLOT_TARGET || slot->fresh,
		        .counted = s->all && slot->use == SLOT_IN};
	}
	write_round(raid, false);
}

static void store(struct raid *raid, bool all, struct bdev_done done)
{
	struct raid_store *s = store_of(raid);
	struct store_waiter *w = xcalloc(1, sizeof(*w));

	w->done = done;
	list_init(&w->link);
	if (s->running) {
		list_push_back(&s->next, &w->link);
		s->next_all |= all;
		return;
	}
	s->running = true;
	s->all = all;
	list_push_back(&s->current, &w->link);
	pass(raid);
}

void raid_store(struct raid *raid, struct bdev_done done)
{
	store(raid, true, done);
}

void raid_store_ext(struct raid *raid, struct bdev_done done)
{
	store(raid, false, done);
}
