/*
 * raid_bitmap_load.c: what the members say of the bitmap when an array starts, and its end. And who
 * may come back with what it has missed alone.
 */
#include "vbdev/raid/raid_bitmap.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"

#define REGION_MIN_BYTES KIB(64)
#define REGIONS_WANTED 65536
#define REGIONS_TO_GROW                                                                            \
	16 /* so many times as many, before the last one stands for all the rest                   \
	    */

static bool has_slot(const uint8_t *bits, unsigned slot)
{
	return bits[slot / 8] >> (slot % 8) & 1;
}

static void put_slot(uint8_t *bits, unsigned slot, bool on)
{
	uint8_t bit = (uint8_t)(1U << (slot % 8));

	bits[slot / 8] = (uint8_t)(on ? bits[slot / 8] | bit : bits[slot / 8] & ~bit);
}

/* ---- the struct -------------------------------------------------------------------------------
 */

static struct raid_bitmap *new_bitmap(struct raid *raid)
{
	struct raid_bitmap *b = xcalloc(1, sizeof(*b));

	b->raid = raid;
	b->ext.checkpoint_slot = RAID_NO_SLOT;
	b->ext.fresh_blocks = UINT64_MAX;
	uuid_copy(b->ext.array, raid->uuid);
	raid->bitmap = b;
	return b;
}

static void allocate(struct raid_bitmap *b)
{
	struct raid_io *io = &b->raid->io;

	b->num_regions = b->ext.num_regions;
	b->shift = b->ext.region_blocks_shift;
	b->num_words = div_round_up_u64(b->num_regions, 64);
	b->num_pages = (uint32_t)div_round_up_u64(b->num_regions, RAID_PAGE_REGIONS);
	b->regions = xcalloc(b->num_regions, 1);
	b->bits = xcalloc(b->num_pages, RAID_PAGE_REGIONS / 8);
	b->wanted = xcalloc(b->num_words, sizeof(uint64_t));
	b->fresh = xcalloc(b->num_words, sizeof(uint64_t));
	b->passing = xcalloc(b->num_words, sizeof(uint64_t));
	b->cleared = xcalloc(b->num_words, sizeof(uint64_t));
	io->last_region = b->num_regions - 1;
	io->region_shift = b->shift;
	io->unsynced = 0;
	io->regions = b->regions;
}

static void free_bitmap(struct raid *raid)
{
	struct raid_bitmap *b = raid->bitmap;

	raid->bitmap = NULL;
	raid->io.regions = NULL;
	raid->io.unsynced = 0;
	loop_timer_stop(loop_self(), &b->timer);
	free(b->regions);
	free(b->bits);
	free(b->wanted);
	free(b->fresh);
	free(b->passing);
	free(b->cleared);
	free(b->buf);
	free(b);
}

/* Regions as small as a thousandth of a large array, whole strips, and room to grow. */
static void choose_regions(struct raid_bitmap *b)
{
	uint64_t blocks = raid_member_blocks(b->raid), block_bytes = b->raid->block_bytes;
	unsigned shift = b->raid->io.strip_shift;

	while ((block_bytes << shift) < REGION_MIN_BYTES || (blocks >> shift) >= REGIONS_WANTED)
		shift++;
	b->ext.bitmap = true;
	b->ext.region_blocks_shift = shift;
	b->ext.num_regions = ((blocks >> shift) + 1) * REGIONS_TO_GROW;
}

/* ---- opening ----------------------------------------------------------------------------------
 */

struct opening {
	struct raid *raid;
	unsigned slot;
	bool all_dirty;
	uint64_t good; /* members whose block goes with their superblock */
	struct raid_ext best;
	bool found; /* one at least, whatever it goes with */
	struct raid_ext newest;
	void *buf;
	size_t buf_bytes;
	struct bdev_done done;
};

static void opened(void *arg, const struct err *err)
{
	struct opening *o = arg;

	struct raid *raid = o->raid;

	bdev_done_call(o->done, err);
	free(o->buf);
	free(o);
	raid_bdev_unhold(raid);
}

/* Whoever starts without a member that was one: it may come back. */
static void count_missing(const struct opening *o)
{
	const struct raid *raid = o->raid;

	for (unsigned i = 0; i < raid->num_slots && !o->all_dirty; i++) {
		if (raid->slots[i].use != SLOT_IN && raid->sb.slots[i].state == RAID_SB_CONFIGURED)
			put_slot(raid->bitmap->ext.returns, i, true);
	}
}

/* doubt: what is marked is to be made equal. */
static void set_regions(struct raid_bitmap *b, bool doubt)
{
	uint64_t used = raid_bitmap_used(b), unsynced = 0;

	for (uint64_t r = 0; r < b->num_regions; r++) {
		if (!raid_bitmap_bit(b, r))
			continue;
		b->regions[r] = REGION_DURABLE;
		if (doubt && r < used) {
			b->regions[r] |= REGION_UNSYNCED;
			unsynced++;
		}
	}
	__atomic_store_n(&b->raid->io.unsynced, unsynced, __ATOMIC_SEQ_CST);
	if (unsynced > 0)
		log_warning("raid", "'%s' was not stopped in order: %s of %llu of %llu regions %s",
		        b->raid->name, b->raid->level->parity ? "parity" : "the data",
		        (unsigned long long)unsynced, (unsigned long long)used,
		        b->raid->level->parity ? "is made right again" : "is made equal again");
}

static uint64_t count_marked(const struct raid_bitmap *b)
{
	uint64_t used = b->regions ? raid_bitmap_used(b) : 0, n = 0;

	for (uint64_t r = 0; r < used; r++)
		n += raid_bitmap_bit(b, r);
	return n;
}

static bool is_clean(const struct raid_bitmap *b)
{
	for (size_t i = 0; i < (size_t)b->num_pages * (RAID_PAGE_REGIONS / 8); i++) {
		if (b->bits[i])
			return false;
	}
	return true;
}

/* A page that is damaged stands for all bits that it may have. Those that mean nothing would never
 * be forgotten. */
static void drop_bits_beyond(struct raid_bitmap *b)
{
	uint64_t end = (uint64_t)b->num_pages * RAID_PAGE_REGIONS;

	for (uint64_t r = b->num_regions; r < end; r++)
		b->bits[r / 8] &= (uint8_t) ~(1U << (r % 8));
}

/* What is known now goes to all members before the superblock says that it goes with it. */
static void settle(struct opening *o)
{
	struct raid *raid = o->raid;
	struct raid_bitmap *b = raid->bitmap;
	bool doubt = raid_present(raid) > 1 && !PLANT(RAID_RESYNC_LEFT_OUT), declared = false;

	if (raid->level->parity) {
		struct raid5_record record = {.newest = o->found ? &o->newest : NULL,
		        .marks_known = !o->all_dirty && b->regions,
		        .marked = count_marked(b)};
		struct err err = ERR_NONE;

		if (raid5_judge(raid, &record, &err) != 0) {
			opened(o, &err);
			return;
		}
		doubt = record.doubt;
		b->ext.parity = true;
		b->ext.clean = false;
		b->ext.valid_blocks = raid->io.valid_rows;
		declared = record.declared;
	}
	if (o->all_dirty || declared)
		memset(b->ext.returns, 0, sizeof(b->ext.returns));
	if (o->all_dirty) {
		memset(b->ext.joined, 0, sizeof(b->ext.joined));
		b->ext.checkpoint_slot = RAID_NO_SLOT;
		b->ext.since_seq = raid->sb.seq + 1;
		/* How far parity is valid says enough. */
		for (uint64_t r = 0; b->regions && !raid->level->parity && r < raid_bitmap_used(b);
		        r++)
			raid_bitmap_put(b, r, true);
	}
	/* All was forgotten when it was stopped, and those who were there then have this seq. */
	if (!o->all_dirty && b->regions && is_clean(b))
		b->ext.since_seq = raid->sb.seq + (raid_present(raid) == raid->num_slots);
	if (!declared)
		count_missing(o);
	if (b->regions)
		set_regions(b, doubt);
	raid_bitmap_init(b);
	raid_bitmap_write_all(raid, (struct bdev_done){opened, o});
}

static void read_pages(struct opening *o);

static void pages_read(void *arg, const struct err *err)
{
	struct opening *o = arg;
	struct raid_bitmap *b = o->raid->bitmap;
	unsigned bad = 0;

	for (uint32_t p = 0; p < b->num_pages; p++) {
		uint8_t *bits = b->bits + (size_t)p * (RAID_PAGE_REGIONS / 8);
		const uint8_t *from = (const uint8_t *)o->buf + (size_t)p * RAID_PAGE_BYTES;

		if ((err || !raid_page_parse(from, o->raid->uuid, p, bits)) &&
		        !PLANT(RAID_TORN_PAGE_CLEAN)) {
			memset(bits, 0xff, RAID_PAGE_REGIONS / 8);
			bad++;
		}
	}
	if (bad > 0)
		log_warning("raid", "'%s': %u pages of the bitmap of '%s' are damaged",
		        o->raid->name, bad, o->raid->slots[o->slot].name);
	o->slot++;
	read_pages(o);
}

static void read_pages(struct opening *o)
{
	struct raid *raid = o->raid;
	struct raid_bitmap *b = raid->bitmap;
	uint64_t bytes = align_up_u64(
	        (uint64_t)b->num_pages * RAID_PAGE_BYTES, max_u64(raid->block_bytes, 4096));

	while (o->slot < raid->num_slots && raid->slots[o->slot].use != SLOT_IN)
		o->slot++;
	if (o->slot == raid->num_slots) {
		drop_bits_beyond(b);
		settle(o);
		return;
	}
	if (bytes > o->buf_bytes) {
		free(o->buf);
		o->buf = try_alloc_aligned(4096, bytes);
		BELLOWS_ASSERT(o->buf);
		o->buf_bytes = bytes;
	}
	bdev_read_meta(raid->slots[o->slot].bdev, RAID_BITMAP_BYTES_OFFSET / raid->block_bytes,
	        bytes / raid->block_bytes, o->buf, (struct bdev_done){pages_read, o});
}

/* All extension blocks are known. */
static void choose(struct opening *o)
{
	struct raid *raid = o->raid;
	struct raid_bitmap *b = raid->bitmap;

	if (o->good) {
		b->ext = o->best;
	} else {
		o->all_dirty = true;
		if (!o->found || o->newest.bitmap)
			choose_regions(b);
	}
	b->ext.generation = max_u64(b->ext.generation, o->newest.generation);
	if (b->ext.bitmap)
		allocate(b);
	if (o->all_dirty && b->ext.bitmap)
		log_warning("raid",
		        "'%s' was last written by somebody who keeps no bitmap: all of it counts "
		        "as different",
		        raid->name);
	o->slot = 0;
	if (o->all_dirty || !b->ext.bitmap)
		settle(o);
	else
		read_pages(o);
}

static void read_ext(struct opening *o);

/* Whether nobody else can have written since, who would have counted the superblock on. */
static bool goes_with(const struct raid *raid, const struct raid_ext *ext, uint64_t seq)
{
	if (PLANT(RAID_EXT_UNCHECKED))
		return true;
	/* One that was written before its superblock, which has not come. */
	if (raid->level->parity && !ext->confirmed)
		return ext->seq == seq + 1;
	return ext->seq == seq;
}

static void ext_read(void *arg, const struct err *err)
{
	struct opening *o = arg;
	const struct raid_slot *slot = &o->raid->slots[o->slot];
	struct raid_ext ext, newest = {.generation = 0};
	bool found = false;

	for (unsigned i = 0; i < 2 && !err; i++) {
		const uint8_t *at = (const uint8_t *)o->buf + i * RAID_EXT_STEP_BYTES;

		if (raid_ext_parse(at, &ext) && uuid_compare(ext.array, o->raid->uuid) == 0 &&
		        (!found || ext.generation > newest.generation)) {
			newest = ext;
			found = true;
		}
	}
	if (found && (!o->found || newest.generation > o->newest.generation))
		o->newest = newest;
	o->found |= found;
	if (found && goes_with(o->raid, &newest, slot->seq)) {
		if (!o->good || newest.generation > o->best.generation) {
			o->all_dirty |= o->good && newest.num_regions != o->best.num_regions;
			o->best = newest;
		}
		o->good |= 1ULL << o->slot;
	} else {
		o->all_dirty = true;
	}
	o->slot++;
	read_ext(o);
}

static void read_ext(struct opening *o)
{
	struct raid *raid = o->raid;

	while (o->slot < raid->num_slots && raid->slots[o->slot].use != SLOT_IN)
		o->slot++;
	if (o->slot == raid->num_slots) {
		choose(o);
		return;
	}
	bdev_read_meta(raid->slots[o->slot].bdev, RAID_EXT_BYTES_OFFSET / raid->block_bytes,
	        2 * RAID_EXT_STEP_BYTES / raid->block_bytes, o->buf,
	        (struct bdev_done){ext_read, o});
}

void raid_bitmap_open(struct raid *raid, struct bdev_done done)
{
	struct raid_bitmap *b;
	struct opening *o;

	if (!raid->superblock || !raid->level->redundant ||
	        raid->block_bytes > RAID_EXT_BLOCK_MAX_BYTES) {
		bdev_done_call(done, NULL);
		return;
	}
	raid_bdev_hold(raid);
	b = new_bitmap(raid);
	o = xcalloc(1, sizeof(*o));
	*o = (struct opening){.raid = raid, .done = done};
	if (!raid->sb_valid) {
		if (!raid->no_bitmap)
			choose_regions(b);
		if (b->ext.bitmap)
			allocate(b);
		b->ext.since_seq = raid->sb.seq + 1;
		settle(o);
		return;
	}
	o->buf_bytes = 2ULL * RAID_EXT_STEP_BYTES;
	o->buf = try_alloc_aligned(4096, o->buf_bytes);
	BELLOWS_ASSERT(o->buf);
	read_ext(o);
}

uint64_t raid_bitmap_ext(struct raid *raid, bool behind, void *bytes)
{
	struct raid_bitmap *b = raid->bitmap;

	if (!b)
		return 0;
	b->ext.seq = raid->sb.seq;
	b->ext.generation++;
	b->ext.confirmed = behind;
	raid_ext_encode(&b->ext, bytes);
	return RAID_EXT_BYTES_OFFSET + (b->ext.generation & 1) * RAID_EXT_STEP_BYTES;
}

/* ---- the end ----------------------------------------------------------------------------------
 */

struct closing {
	struct raid *raid;
	struct bdev_done done;
};

static void closed(void *arg, const struct err *err)
{
	struct closing *c = arg;

	(void)err;
	free_bitmap(c->raid);
	bdev_done_call(c->done, NULL);
	free(c);
}

static void flushed(void *arg, const struct err *err)
{
	struct closing *c = arg;
	struct raid_bitmap *b = c->raid->bitmap;

	if (err) {
		closed(c, NULL);
		return;
	}
	for (uint64_t r = 0; r < b->num_regions; r++)
		raid_bitmap_put(b, r, b->regions[r] & REGION_UNSYNCED);
	raid_bitmap_write_all(c->raid, (struct bdev_done){closed, c});
}

void raid_bitmap_close(struct raid *raid, struct bdev_done done)
{
	struct raid_bitmap *b = raid->bitmap;
	struct closing *c;
	bool all_there = raid_present(raid) == raid->num_slots;

	if (!b) {
		bdev_done_call(done, NULL);
		return;
	}
	for (unsigned i = 0; i < raid->num_slots; i++)
		all_there &= raid->slots[i].bdev && raid->slots[i].bdev->state == BDEV_ONLINE;
	b->closing = true;
	loop_timer_stop(loop_self(), &b->timer);
	c = xcalloc(1, sizeof(*c));
	*c = (struct closing){.raid = raid, .done = done};
	/* Who comes back as it was long ago must find that something has been forgotten. */
	if (raid->io.unsynced > 0 && b->ext.since_seq != raid->sb.seq)
		all_there = false;
	if (!b->regions || !all_there || raid->io.torn || raid->lost || raid->clear_sb)
		closed(c, NULL);
	else
		raid_flush_members(raid, (struct bdev_done){flushed, c});
}

/* ---- who comes back ---------------------------------------------------------------------------
 */

void raid_bitmap_left(struct raid *raid, unsigned slot, bool may_return)
{
	struct raid_bitmap *b = raid->bitmap;

	if (!b)
		return;
	if (b->ext.checkpoint_slot == slot)
		b->ext.checkpoint_slot = RAID_NO_SLOT;
	put_slot(b->ext.returns, slot, may_return);
}

void raid_bitmap_checkpoint(struct raid *raid, unsigned slot, uint64_t blocks, uint64_t begun_seq)
{
	struct raid_ext *ext = raid->bitmap ? &raid->bitmap->ext : NULL;

	if (!ext)
		return;
	ext->checkpoint_slot = slot == RAID_SLOTS_MAX ? RAID_NO_SLOT : slot;
	ext->checkpoint_blocks = blocks;
	ext->checkpoint_seq = begun_seq;
	if (slot < raid->num_slots)
		uuid_copy(ext->checkpoint_uuid, raid->slots[slot].uuid);
}

void raid_bitmap_joined(struct raid *raid, unsigned slot)
{
	struct raid_bitmap *b = raid->bitmap;

	if (b && raid_present(raid) == raid->num_slots)
		memset(b->ext.joined, 0, sizeof(b->ext.joined));
	else if (b && !PLANT(RAID_JOINED_FORGOTTEN))
		put_slot(b->ext.joined, slot, true);
}

bool raid_bitmap_has_joined(const struct raid *raid, unsigned slot)
{
	const struct raid_bitmap *b = raid->bitmap;

	return b && has_slot(b->ext.joined, slot);
}

bool raid_bitmap_may_return(const struct raid *raid, unsigned slot)
{
	const struct raid_bitmap *b = raid->bitmap;

	return b && has_slot(b->ext.returns, slot);
}

uint64_t *raid_bitmap_missed(struct raid *raid, unsigned index)
{
	struct raid_bitmap *b = raid->bitmap;
	const struct raid_slot *slot = &raid->slots[index];
	uint64_t from = UINT64_MAX, *missed, used;

	if (!b || !b->regions || slot->seq == 0)
		return NULL;
	if (!raid_bitmap_may_return(raid, index) || raid5_lacks_parity(raid) ||
	        (slot->seq < b->ext.since_seq && !PLANT(RAID_RETURN_UNCHECKED))) {
		/* The target itself, and not as it was before. */
		if (b->ext.checkpoint_slot != index || slot->seq <= b->ext.checkpoint_seq ||
		        uuid_compare(b->ext.checkpoint_uuid, slot->uuid) != 0)
			return NULL;
		from = b->ext.checkpoint_blocks;
	}
	used = raid_bitmap_used(b);
	missed = xcalloc(b->num_words, sizeof(*missed));
	for (uint64_t r = 0; r < (PLANT(RAID5_DELTA_SHORT) ? used - 1 : b->num_regions); r++) {
		if (raid_bitmap_bit(b, r) || raid_bit(b->passing, r) ||
		        (r < used && from != UINT64_MAX && (r + 1) << b->shift > from))
			raid_bit_put(missed, r, true);
	}
	/* The last one goes on to the end. */
	if (from != UINT64_MAX && used == b->num_regions)
		raid_bit_put(missed, used - 1, true);
	return missed;
}

bool raid_bitmap_next(const struct raid *raid, const uint64_t *missed, uint64_t *block,
        uint64_t end, uint64_t *count)
{
	const struct raid_io *io = &raid->io;
	uint64_t r, first = *block;

	for (r = raid_region_of(io, first); first < end && !raid_bit(missed, r);) {
		if (r == io->last_region)
			return false;
		r++;
		first = r << io->region_shift;
	}
	if (first >= end)
		return false;
	*block = first;
	while (r < io->last_region && raid_bit(missed, r) && r << io->region_shift < end)
		r++;
	*count = (r == io->last_region && raid_bit(missed, r)
	                         ? end
	                         : min_u64(r << io->region_shift, end)) -
	         first;
	return true;
}
