/*
 * raid5_state.c: which parity may be believed, across starts and stops. A member's extension says
 * whether the array was stopped in order, and how far parity was valid then. Parity that nobody
 * vouches for is made right when all members are there. When one is missing, the array doesn't
 * start by itself: what would be made up could be wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vbdev/raid/raid5.h"

#define FIRST_PATIENCE_NS (NSEC_PER_SEC / 2)

/* ---- the start --------------------------------------------------------------------------------
 */

struct preparing {
	struct raid *raid;
	unsigned slot;
	uint64_t blocks;
	uint8_t *buf;
	bool found;
	struct raid_ext newest;
	struct bdev_done done;
};

static uint64_t total_rows(const struct raid *raid)
{
	return raid->level->used(raid, raid->bdev->geometry.num_blocks, 0);
}

static uint64_t used_rows(const struct raid *raid)
{
	return raid->sb_valid ? raid->sb.array_blocks / (raid->num_slots - 1) : 0;
}

/* Of an array with a member missing, that nobody vouches for. */
static int refuse(const struct raid *raid, const char *why, struct err *err)
{
	char missing[200];

	raid_missing_text(raid, missing, sizeof(missing));
	return err_set(err, -EUCLEAN,
	        "raid5f '%s' %s, and lacks %s: what is made up for it could be wrong. Bring it "
	        "back, or take parity as it is: bdev_raid_start with trust_parity",
	        raid->name, why, missing);
}

static void say_declared(struct raid *raid, const char *how)
{
	autofree char *text = xasprintf("raid5f '%s' came up without a member, with parity taken "
	                                "as it is (%s)",
	        raid->name, how);

	log_warning("raid", "%s", text);
	raid_problem(raid, "declared", text,
	        "compare what was being written at the last stop with a backup");
}

/* From the members' newest extension: how far parity is valid. */
static int judge(struct raid *raid, const struct preparing *p, struct err *err)
{
	bool complete = raid_present(raid) == raid->num_slots;
	bool recorded = p->found && raid->sb_valid && p->newest.seq >= raid->sb.seq;
	uint64_t valid = 0;
	int rc = 0;

	if (recorded && p->newest.clean)
		valid = p->newest.valid_blocks;
	if (complete || (valid > 0 && valid >= used_rows(raid))) {
		raid->io.valid_rows = valid;
		raid_problem(raid, "declared", NULL, NULL);
	} else if (raid->trust_parity) {
		raid->io.valid_rows = UINT64_MAX;
		say_declared(raid, "as the user wanted it");
	} else if (recorded) {
		rc = refuse(raid,
		        p->newest.clean ? "has parity that was not complete yet"
		                        : "was not stopped in order",
		        err);
	} else if (raid->ext_kept && raid->sb_valid) {
		raid->io.valid_rows = UINT64_MAX;
		say_declared(raid, "another program wrote it last, and keeps no record");
	} else {
		rc = refuse(raid, "keeps no record of its parity", err);
	}
	raid->trust_parity = false;
	return rc;
}

static void prepare_next(void *arg, const struct err *err);

static void ext_read(struct preparing *p)
{
	for (unsigned i = 0; i < 2; i++) {
		struct raid_ext ext;

		if (raid_ext_parse(p->buf + i * RAID_EXT_STEP_BYTES, &ext) && ext.parity &&
		        uuid_compare(ext.array, p->raid->uuid) == 0 &&
		        (!p->found || ext.generation > p->newest.generation)) {
			p->newest = ext;
			p->found = true;
		}
	}
}

/* A member whose extension can't be read says nothing. */
static void prepare_next(void *arg, const struct err *err)
{
	struct preparing *p = arg;
	struct raid *raid = p->raid;
	struct err refused = ERR_NONE;

	if (p->slot > 0 && !err)
		ext_read(p);
	while (p->slot < raid->num_slots && raid->slots[p->slot].use != SLOT_IN)
		p->slot++;
	if (raid->ext_kept && raid->sb_valid && p->slot < raid->num_slots) {
		memset(p->buf, 0, p->blocks * raid->block_bytes);
		bdev_read_meta(raid->slots[p->slot++].bdev,
		        RAID_EXT_BYTES_OFFSET / raid->block_bytes, p->blocks, p->buf,
		        (struct bdev_done){prepare_next, p});
		return;
	}
	judge(raid, p, &refused);
	raid->ext = (struct raid_ext){.generation = p->newest.generation,
	        .parity = true,
	        .checkpoint_slot = RAID_NO_SLOT,
	        .valid_blocks = raid->io.valid_rows};
	uuid_copy(raid->ext.array, raid->uuid);
	bdev_done_call(p->done, refused.code ? &refused : NULL);
	free(p->buf);
	free(p);
}

static void patience_over(struct loop_timer *timer);

void raid5_prepare(struct raid *raid, struct bdev_done done)
{
	struct raid5 *r5 = xcalloc(1, sizeof(*r5));
	struct preparing *p;
	struct err err = ERR_NONE;

	r5->raid = raid;
	r5->patience.fire = patience_over;
	raid->raid5 = r5;
	raid->io.locks = r5->locks;
	raid->io.all = raid->num_slots == 64 ? UINT64_MAX : (1ULL << raid->num_slots) - 1;
	raid->io.torn = 0;
	if ((uint64_t)raid->block_bytes * raid->num_slots > BIO_BOUNCE_MAX_BYTES) {
		err_set(&err, -EINVAL,
		        "raid5f with blocks of %u bytes can have %llu members at most",
		        raid->block_bytes,
		        (unsigned long long)(BIO_BOUNCE_MAX_BYTES / raid->block_bytes));
		bdev_done_call(done, &err);
		return;
	}
	raid->ext_kept = raid->superblock && raid->block_bytes <= RAID_EXT_BLOCK_MAX_BYTES;
	p = xcalloc(1, sizeof(*p));
	p->raid = raid;
	p->done = done;
	p->blocks = max_u64(2 * RAID_EXT_STEP_BYTES / raid->block_bytes, 1);
	p->buf = try_alloc_aligned(4096, align_up_u64(p->blocks * raid->block_bytes, 4096));
	BELLOWS_ASSERT(p->buf);
	prepare_next(p, NULL);
}

uint64_t raid5_ext(struct raid *raid, void *bytes)
{
	struct raid_ext *ext = &raid->ext;

	if (!raid->ext_kept)
		return 0;
	ext->seq = raid->sb.seq;
	ext->generation++;
	raid_ext_encode(ext, bytes);
	return RAID_EXT_BYTES_OFFSET + (ext->generation & 1) * RAID_EXT_STEP_BYTES;
}

/* ---- while it is online -----------------------------------------------------------------------
 */

void raid5_sync_ended(struct raid *raid)
{
	struct bdev_done begun = raid->raid5->begun;

	raid->raid5->begun.fn = NULL;
	loop_timer_stop(loop_self(), &raid->raid5->patience);
	if (begun.fn)
		bdev_done_call(begun, NULL);
}

static void patience_over(struct loop_timer *timer)
{
	raid5_sync_ended(container_of(timer, struct raid5, patience)->raid);
}

/* A small array has all its parity before anybody sees it. */
void raid5_begin(struct raid *raid, struct bdev_done done)
{
	struct loop *loop = loop_self();

	for (unsigned i = 0; i < loops_count(); i++) {
		struct raid_loop *state = raid->bdev->loops[i].state;

		raid5_lock_init(&state->raid5);
	}
	raid->raid5->running = true;
	/* What grows later is not valid, whatever was. */
	raid->io.valid_rows = min_u64(raid->io.valid_rows, total_rows(raid));
	raid5_sync_consider(raid);
	if (!raid->raid5->sync) {
		bdev_done_call(done, NULL);
		return;
	}
	raid->raid5->begun = done;
	loop_timer_start(loop, &raid->raid5->patience, loop_now_ns(loop) + FIRST_PATIENCE_NS);
}

void raid5_resized(struct raid *raid)
{
	raid5_sync_resized(raid);
}

int raid5_check_complete(const struct raid *raid, struct err *err)
{
	uint64_t rows = total_rows(raid);

	if (raid->io.valid_rows >= rows)
		return 0;
	return err_set(err, -EBUSY,
	        "parity of '%s' is valid for %llu of %llu blocks of each member: without it a "
	        "member can't be made up. Take it as it is: bdev_raid_start with trust_parity",
	        raid->name, (unsigned long long)raid->io.valid_rows, (unsigned long long)rows);
}

int raid5_trust(struct raid *raid, struct err *err)
{
	if (!raid->level->parity || raid->state != RAID_ONLINE || !raid->raid5 ||
	        raid->raid5->sync || raid_present(raid) == raid->num_slots)
		return err_set(err, -EALREADY, "'%s' is %s, and has nothing to trust in",
		        raid->name, raid_state_text(raid->state));
	__atomic_store_n(&raid->io.valid_rows, total_rows(raid), __ATOMIC_RELEASE);
	raid_problem(raid, "parity", NULL, NULL);
	say_declared(raid, "as the user wanted it");
	return 0;
}

/* ---- the stop ---------------------------------------------------------------------------------
 */

struct stopping {
	struct raid *raid;
	unsigned pending;
	bool failed;
	uint8_t *buf;
	struct bdev_done done;
	struct stop_part {
		struct stopping *stopping;
		struct bio bio;
	} parts[RAID5_SLOTS_MAX];
};

static void stop_end(struct stopping *s)
{
	bdev_done_call(s->done, NULL);
	free(s->buf);
	free(s);
}

static void clean_written(void *arg, const struct err *err)
{
	struct stopping *s = arg;

	if (err)
		log_warning("raid",
		        "'%s': a member does not learn that it was stopped in order: %s",
		        s->raid->name, err->text);
	if (--s->pending == 0)
		stop_end(s);
}

/* What all members have is durable: so they may say that it goes together. */
static void write_clean(struct stopping *s)
{
	struct raid *raid = s->raid;
	uint32_t block_bytes = raid->block_bytes;
	uint64_t blocks = div_round_up_u64(RAID_EXT_BYTES, block_bytes), at;

	if (s->failed) {
		log_warning("raid", "'%s' is not stopped in order: a member can't be flushed",
		        raid->name);
		stop_end(s);
		return;
	}
	raid->ext.clean = true;
	raid->ext.valid_blocks = raid->io.valid_rows;
	s->buf = try_alloc_aligned(4096, align_up_u64(RAID_EXT_BYTES, block_bytes));
	BELLOWS_ASSERT(s->buf);
	at = raid5_ext(raid, s->buf);
	s->pending = 1;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use != SLOT_IN)
			continue;
		s->pending++;
		bdev_write_meta(raid->slots[i].bdev, at / block_bytes, blocks, s->buf,
		        (struct bdev_done){clean_written, s});
	}
	clean_written(s, NULL);
}

static void flushed(struct bio *bio)
{
	struct stopping *s = ((struct stop_part *)bio->arg)->stopping;

	if (bio->status != 0 && bio->status != -EOPNOTSUPP)
		s->failed = true;
	if (--s->pending == 0)
		write_clean(s);
}

void raid5_stop(struct raid *raid, struct bdev_done done)
{
	struct stopping *s;

	if (!raid->ext_kept || !raid->raid5->running || raid->io.torn ||
	        raid_present(raid) < raid_needed(raid)) {
		bdev_done_call(done, NULL);
		return;
	}
	s = xcalloc(1, sizeof(*s));
	s->raid = raid;
	s->done = done;
	s->pending = 1;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use != SLOT_IN)
			continue;
		s->pending++;
		s->parts[i].stopping = s;
		bio_init(&s->parts[i].bio, BIO_FLUSH, NULL, 0, 0, flushed, &s->parts[i]);
		bio_submit_bdev(raid->slots[i].bdev, &s->parts[i].bio, 0);
	}
	if (--s->pending == 0)
		write_clean(s);
}
