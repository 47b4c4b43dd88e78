/*
 * raid_assemble.c: members arrive in any order; when do they make an array, and which of them may
 * be believed?
 *
 * The newest superblock says who is a member. One that it calls missing or failed is stale: it is
 * taken only by an array that is online, to be rebuilt. Two that each went on without the other
 * are not put together by anybody but the user.
 */
#include "vbdev/raid/raid_spare.h"
#include "vbdev/raid/raid_tell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/plant.h"

/* ---- the superblock of the array in memory ----------------------------------------------------
 */

void raid_sb_update(struct raid *raid, uint64_t array_blocks)
{
	struct raid_sb *sb = &raid->sb;

	if (!raid->sb_valid) {
		raid_sb_init(sb, raid->num_slots);
		uuid_copy(sb->uuid, raid->uuid);
		str_copy(sb->name, sizeof(sb->name), raid->name);
		sb->level = raid->level->number;
		sb->block_bytes = raid->block_bytes;
		sb->strip_blocks = (uint32_t)(raid->strip_size_kb * KIB(1) / raid->block_bytes);
	}
	sb->array_blocks = array_blocks;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		struct raid_sb_slot *entry = &sb->slots[i];

		entry->data_blocks = raid->level->used(raid, array_blocks, i);
		if (slot->use == SLOT_IN) {
			uuid_copy(entry->uuid, slot->uuid);
			entry->data_offset_blocks = slot->data_offset_blocks;
			entry->state = RAID_SB_CONFIGURED;
		} else if (entry->state == RAID_SB_CONFIGURED) {
			entry->state = RAID_SB_MISSING; /* a start without it */
		}
	}
}

/* What the array knows of its slots from a superblock that was read. */
static void adopt(struct raid *raid, const struct raid_sb *sb)
{
	raid->sb = *sb;
	raid->sb_valid = true;
	raid->block_bytes = sb->block_bytes;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct raid_slot *slot = &raid->slots[i];

		if (slot->use != SLOT_IN)
			uuid_copy(slot->uuid, sb->slots[i].uuid);
		slot->data_offset_blocks = sb->slots[i].data_offset_blocks;
		if (slot->data_offset_blocks < RAID_RESERVED_BYTES / sb->block_bytes)
			slot->data_offset_blocks = 0; /* of one that is not a member: chosen anew */
		slot->data_blocks = sb->slots[i].data_blocks;
	}
}

/* Data in the reserved part would be overwritten by the superblock's second copy. */
static int check_offsets(const struct raid_sb *sb, struct err *err)
{
	for (unsigned i = 0; i < sb->num_slots; i++) {
		const struct raid_sb_slot *slot = &sb->slots[i];

		if (slot->state == RAID_SB_CONFIGURED &&
		        slot->data_offset_blocks < RAID_RESERVED_BYTES / sb->block_bytes)
			return err_set(err, -EINVAL,
			        "the data of slot %u begins at block %llu, in the first MiB", i,
			        (unsigned long long)slot->data_offset_blocks);
	}
	return 0;
}

/* ---- starting ---------------------------------------------------------------------------------
 */

static void answer_start(struct raid *raid, const struct err *err)
{
	struct bdev_done started = raid->started;

	raid->started.fn = NULL;
	if (started.fn)
		bdev_done_call(started, err);
	raid_end_examinations(raid);
}

static void offer_again(struct raid *raid);

static void start_done(void *arg, struct bdev *bdev, const struct err *err)
{
	struct raid *raid = arg;

	if (!bdev) {
		log_error("raid", "'%s' can't start: %s", raid->name, err->text);
		if (raid->state == RAID_STARTING)
			raid_set_state(raid, RAID_CONFIGURING);
		raid_members_take_handles(raid);
		raid->degraded_start = false;
		raid_problem(raid, "start", err->text,
		        "mend the cause, then start it with bdev_raid_start");
		answer_start(raid, err);
		raid_unhold(raid);
		return;
	}
	if (raid->state == RAID_STARTING)
		raid_set_state(raid, RAID_ONLINE);
	raid->degraded_start = false;
	log_notice("raid", "%s '%s' is online with %u of %u members", raid->level->name, raid->name,
	        raid_present(raid), raid->num_slots);
	raid_problem(raid, "wait", NULL, NULL);
	raid_problem(raid, "start", NULL, NULL);
	raid_problem(raid, "given up", NULL, NULL);
	raid_say_degraded(raid, raid_present(raid) < raid->num_slots);
	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use == SLOT_FREE)
			raid_tell_degraded(raid, i, "not there at the start");
	}
	answer_start(raid, NULL);
	offer_again(raid);
	raid_spares_use_later();
	raid_unhold(raid);
}

static int check_size_kept(const struct raid *raid, struct err *err)
{
	for (unsigned i = 0; raid->sb_valid && i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		uint64_t needs = slot->data_offset_blocks + raid->sb.slots[i].data_blocks;

		if (slot->use == SLOT_IN && slot->bdev->geometry.num_blocks < needs)
			return err_set(err, -ENOSPC,
			        "member '%s' has shrunk: it has %llu blocks, and the array uses "
			        "%llu of them",
			        slot->name, (unsigned long long)slot->bdev->geometry.num_blocks,
			        (unsigned long long)needs);
	}
	return 0;
}

/* What stands beside a superblock goes with its number: with those of the members that are there.
 * The next one is higher than any that was seen. */
static void number_by_members(struct raid *raid)
{
	uint64_t seq = 0;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use == SLOT_IN)
			seq = max_u64(seq, raid->slots[i].seq);
	}
	raid->seq_seen = max_u64(raid->seq_seen, raid->sb.seq);
	if (raid->sb_valid && seq > 0)
		raid->sb.seq = seq;
}

void raid_start(struct raid *raid)
{
	const char *bases[RAID_SLOTS_MAX];
	struct raid_priv priv = {.raid = raid};
	struct err err = ERR_NONE;
	struct bdev_spec spec = {
	        .module = &raid_module,
	        .name = raid->name,
	        .bases = bases,
	        .num_bases = raid->num_slots,
	        .params = &priv,
	        .params_bytes = sizeof(priv),
	};

	loop_timer_stop(loop_self(), &raid->wait);
	number_by_members(raid);
	raid->given_up = false;
	raid_set_state(raid, RAID_STARTING);
	raid_hold(raid);
	if (raid->superblock && uuid_is_null(raid->uuid)) {
		loop_random_bytes(raid->uuid, sizeof(raid->uuid));
		raid->uuid[6] = (uint8_t)((raid->uuid[6] & 0x0f) | 0x40);
		raid->uuid[8] = (uint8_t)((raid->uuid[8] & 0x3f) | 0x80);
	}
	uuid_copy(spec.uuid, raid->uuid);
	for (unsigned i = 0; i < raid->num_slots; i++)
		bases[i] = raid->slots[i].use == SLOT_IN ? raid->slots[i].bdev->name : NULL;
	if (check_size_kept(raid, &err) != 0) {
		start_done(raid, NULL, &err);
		return;
	}
	/* It claims them before it returns. */
	raid_members_drop_handles(raid);
	bdev_create(&spec, start_done, raid);
}

static void wait_over(struct loop_timer *timer)
{
	struct raid *raid = container_of(timer, struct raid, wait);

	if (raid->state != RAID_CONFIGURING && raid->state != RAID_OFFLINE)
		return;
	log_warning("raid", "'%s' starts without all members after %u s", raid->name,
	        raid_options.wait_s);
	raid->degraded_start = true;
	raid_consider(raid);
}

static void say_that_it_waits(struct raid *raid)
{
	char missing[200];

	raid_missing_text(raid, missing, sizeof(missing));
	autofree char *text = xasprintf("%s '%s' waits for %u of %u members: %s", raid->level->name,
	        raid->name, raid_expected(raid) - raid_present(raid), raid->num_slots, missing);

	raid_problem(raid, "wait", text,
	        raid->level->redundant ? "bring them back, or start it without them: "
	                                 "bdev_raid_start"
	                               : "bring them back; it can't do without them");
}

void raid_consider(struct raid *raid)
{
	struct loop *loop = loop_self();
	unsigned present = raid_present(raid), needed = raid_needed(raid);

	if ((raid->state != RAID_CONFIGURING && raid->state != RAID_OFFLINE) || raid->creating ||
	        raid->given_up)
		return;
	if (present == 0) {
		loop_timer_stop(loop, &raid->wait);
		return;
	}
	if (present >= needed && (present >= raid_expected(raid) || raid->degraded_start)) {
		raid_start(raid);
		return;
	}
	say_that_it_waits(raid);
	if (!raid->sb_valid || present < needed || raid_options.wait_s == RAID_WAIT_NEVER ||
	        loop_timer_active(&raid->wait))
		return;
	raid->wait.fire = wait_over;
	loop_timer_start(loop, &raid->wait, loop_now_ns(loop) + raid_options.wait_s * NSEC_PER_SEC);
}

/* ---- a disk with a superblock -----------------------------------------------------------------
 */

static void leave_alone(struct bdev *bdev, const char *why, const char *action)
{
	log_warning("raid", "'%s' is left alone: %s", bdev->name, why);
	bdev_set_problem(bdev, "raid member", why, action);
}

static struct raid *make_from(struct bdev *bdev, const struct raid_sb *sb, struct err *err)
{
	const struct raid_level *level = raid_level_by_number(sb->level);
	uint64_t strip_bytes = (uint64_t)sb->strip_blocks * sb->block_bytes;
	struct raid *raid;

	if (!level) {
		err_set(err, -EOPNOTSUPP, "its array '%s' has level %u, which is not supported",
		        sb->name, sb->level);
		return NULL;
	}
	if (level->strips ? (!is_power_of_two(strip_bytes) || strip_bytes < KIB(1) ||
	                            strip_bytes > (uint64_t)UINT32_MAX << 10)
	                  : strip_bytes != 0) {
		err_set(err, -EINVAL, "its array '%s' has strips of %llu bytes", sb->name,
		        (unsigned long long)strip_bytes);
		return NULL;
	}
	if (sb->num_slots < level->members_min || sb->num_slots > level->members_max) {
		err_set(err, -EINVAL, "its array '%s' has %u members", sb->name, sb->num_slots);
		return NULL;
	}
	if (check_offsets(sb, err) != 0)
		return NULL;
	if (raid_find(sb->name) || bdev_find(sb->name)) {
		err_set(err, -EEXIST, "its array is named '%s', as another one", sb->name);
		return NULL;
	}
	if (sb->minor > 0)
		log_warning("raid", "'%s' has a superblock of version %u.%u; it is used as it is",
		        bdev->name, RAID_SB_MAJOR, sb->minor);
	raid = raid_new(sb->name, level, sb->num_slots);
	uuid_copy(raid->uuid, sb->uuid);
	raid->superblock = true;
	raid->strip_size_kb = (uint32_t)(strip_bytes >> 10);
	adopt(raid, sb);
	return raid;
}

/* Another superblock takes the place of ours: members that it doesn't count are given back. */
static void take_other(struct raid *raid, const struct raid_sb *sb)
{
	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];

		/* Of a slot that it does not have it says that nobody is there. */
		if (slot->use == SLOT_IN && (uuid_compare(sb->slots[i].uuid, slot->uuid) != 0 ||
		                                    sb->slots[i].state != RAID_SB_CONFIGURED)) {
			log_warning("raid", "'%s': member '%s' is stale", raid->name, slot->name);
			raid_member_release(raid, i, false);
		}
	}
	for (unsigned i = sb->num_slots; i < raid->num_slots; i++)
		raid_member_release(raid, i, false);
	raid->num_slots = sb->num_slots;
	adopt(raid, sb);
	/* It may count some that called themselves stale. */
	offer_again(raid);
}

static bool counts(const struct raid_sb *sb, int slot)
{
	return slot >= 0 && sb->slots[slot].state == RAID_SB_CONFIGURED;
}

/* It says of somebody that is there that he is no member: also when another one has his place. */
static bool leaves_out(const struct raid *raid, const struct raid_sb *sb)
{
	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];

		if (slot->use == SLOT_IN && !counts(sb, raid_sb_find(sb, slot->uuid)))
			return true;
	}
	return false;
}

/*
 * A further member's view of the array. A superblock is on all that it counts before anything
 * depends on it, but a crash may leave it on some; and each that goes on alone counts from where it
 * stands. So the higher number alone does not tell who is right: of two that count each other, one
 * that does not count a third has gone on without that one. Only those count whom both count.
 */
static void merge_views(struct raid *raid, const struct bdev *bdev, const struct raid_sb *sb)
{
	bool newer = sb->seq > raid->sb.seq,
	     counted = counts(&raid->sb, raid_sb_find(&raid->sb, bdev->uuid));
	bool one_of_them = counts(sb, raid_sb_find(sb, bdev->uuid));
	autofree struct raid_sb *both = NULL;
	const struct raid_sb *other = newer ? &raid->sb : sb;
	bool changed = newer;

	raid->seq_seen = max_u64(raid->seq_seen, sb->seq);
	/* Those that are there went on without it. */
	if (newer && !counted && one_of_them && raid_present(raid) > 0 && !leaves_out(raid, sb))
		return;
	both = xcalloc(1, sizeof(*both));
	*both = newer ? *sb : raid->sb;
	for (unsigned i = 0; counted && i < both->num_slots; i++) {
		bool speaks = newer ? raid_present(raid) > 0 && !leaves_out(raid, sb) : one_of_them;

		if (speaks && counts(both, (int)i) && !counts(other, (int)i)) {
			both->slots[i].state = other->slots[i].state;
			changed = true;
		}
	}
	if (changed)
		take_other(raid, both);
}

/*
 * Of one that our superblock doesn't count: it calls itself a member, and not one that we have, so
 * it went on without that. (Where ours does count it, the newer of both is the truth.) One that was
 * given the data while this one was missing can't be known to it; then somebody who has been a
 * member all the time, and whom it counts, shows that it has gone on alone nowhere.
 */
static bool has_diverged(const struct raid *raid, const struct raid_sb *sb, unsigned self)
{
	bool unknown = false, common = false;

	if (sb->slots[self].state != RAID_SB_CONFIGURED)
		return false;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		bool counted = sb->slots[i].state == RAID_SB_CONFIGURED,
		     joined = raid_bitmap_has_joined(raid, i);

		if (raid->slots[i].use != SLOT_IN || i == self ||
		        uuid_compare(raid->slots[i].uuid, sb->slots[i].uuid) != 0)
			continue;
		if (!counted && !joined)
			return true;
		unknown |= !counted;
		common |= counted && !joined;
	}
	return unknown && !common;
}

static bool same_places(const struct raid *raid, const struct raid_sb *sb)
{
	const struct raid_level *level = raid->level;

	return sb->num_slots == raid->num_slots ||
	       (level->grows && sb->num_slots >= level->members_min &&
	               sb->num_slots <= level->members_max);
}

static int check_same_array(const struct raid *raid, const struct raid_sb *sb, struct err *err)
{
	if (!raid->sb_valid)
		return err_set(
		        err, -EINVAL, "array '%s' is being made with the same UUID", raid->name);
	if (!same_places(raid, sb) || sb->level != raid->sb.level ||
	        sb->block_bytes != raid->sb.block_bytes ||
	        sb->strip_blocks != raid->sb.strip_blocks)
		return err_set(err, -EINVAL,
		        "its superblock and that of array '%s' describe different arrays",
		        raid->name);
	return 0;
}

int raid_check_rejoin(struct raid *raid, const struct bdev *bdev, const struct raid_sb *sb,
        unsigned *slot, struct err *err)
{
	int index = raid_sb_find(&raid->sb, bdev->uuid);

	if (check_same_array(raid, sb, err) != 0)
		return -EINVAL;
	if (sb->seq > raid->sb.seq)
		return err_set(err, -EBUSY,
		        "it is newer (seq %llu) than array '%s', which came up without it (seq "
		        "%llu): compare both before you wipe either",
		        (unsigned long long)sb->seq, raid->name, (unsigned long long)raid->sb.seq);
	if (index < 0)
		return err_set(err, -EINVAL, "it is no member of array '%s' any more", raid->name);
	if (!raid->level->redundant || raid->slots[index].use != SLOT_FREE)
		return err_set(err, -EEXIST, "its place in array '%s' is taken", raid->name);
	if (has_diverged(raid, sb, (unsigned)index) && !PLANT(RAID_DIVERGED_JOINED))
		return err_set(err, -EBUSY,
		        "it and array '%s' went on without each other: compare both before you "
		        "wipe either",
		        raid->name);
	*slot = (unsigned)index;
	return 0;
}

static void rejoined(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	if (err)
		log_warning("raid", "'%s': %s", raid->name, err->text);
	raid_unhold(raid);
}

static void assemble(struct bdev *bdev, const struct raid_sb *sb)
{
	struct raid *raid = raid_find_uuid(sb->uuid);
	struct err err = ERR_NONE;
	unsigned slot = 0;
	int index;

	if (raid && (raid->state == RAID_ONLINE || raid->state == RAID_STARTING)) {
		if (raid->state == RAID_STARTING)
			return; /* it is looked for when the array is online */
		if (raid_check_rejoin(raid, bdev, sb, &slot, &err) != 0) {
			leave_alone(bdev, err.text,
			        "compare it with the array; then wipe it, or add it with "
			        "bdev_raid_add_base_bdev, which overwrites it");
			return;
		}
		raid_hold(raid);
		raid_join(raid, slot, bdev, sb->seq, (struct bdev_done){rejoined, raid});
		return;
	}
	if (!raid)
		raid = make_from(bdev, sb, &err);
	else if (check_same_array(raid, sb, &err) == 0 && check_offsets(sb, &err) == 0)
		merge_views(raid, bdev, sb);
	if (err.code) {
		leave_alone(bdev, err.text,
		        err.code == -EEXIST ? "delete the other one, or wipe the disk"
		                            : "wipe the disk, if nobody needs what is on it");
		return;
	}
	index = raid_sb_find(&raid->sb, bdev->uuid);
	if (index < 0 || (raid->sb.slots[index].state != RAID_SB_CONFIGURED &&
	                         !PLANT(RAID_STALE_ACCEPTED))) {
		log_notice("raid", "'%s' is %s of '%s'", bdev->name,
		        index < 0 ? "no member" : "a stale member", raid->name);
	} else if (raid->slots[index].use == SLOT_FREE &&
	           raid_member_take(raid, (unsigned)index, bdev, &err) != 0) {
		leave_alone(bdev, err.text, "look at the disk");
	} else {
		if (raid->slots[index].bdev == bdev)
			raid->slots[index].seq = sb->seq;
		bdev_set_problem(bdev, "raid member", NULL, NULL);
	}
	raid_consider(raid);
}

/* ---- a disk without ---- */

/* Arrays without superblock, or that have not written it yet, wait for names. */
static void offer_by_name(struct bdev *bdev)
{
	struct raid *raid;

	list_for_each (raid, &raids, link) {
		if (raid->sb_valid || raid->creating ||
		        (raid->state != RAID_CONFIGURING && raid->state != RAID_OFFLINE))
			continue;
		for (unsigned i = 0; i < raid->num_slots; i++) {
			struct raid_slot *slot = &raid->slots[i];
			struct err err = ERR_NONE;

			if (slot->use != SLOT_FREE || !slot->name[0] ||
			        (bdev_find(slot->name) != bdev &&
			                (uuid_is_null(slot->uuid) ||
			                        uuid_compare(slot->uuid, bdev->uuid) != 0)))
				continue;
			if (raid_member_take(raid, i, bdev, &err) == 0)
				raid_consider(raid);
			else
				leave_alone(bdev, err.text, "look at the array that names it");
			return;
		}
	}
}

void raid_offer(struct bdev *bdev, const struct raid_sb_read *read)
{
	const struct raid_sb *sb = &read->sb;

	if (read->found == RAID_SB_TOO_NEW) {
		leave_alone(bdev, read->err.text, "use a newer version of this program");
		return;
	}
	if (read->found != RAID_SB_OK) {
		if (read->found != RAID_SB_NONE)
			log_warning("raid", "'%s' has a superblock that can't be used: %s",
			        bdev->name, read->err.text);
		offer_by_name(bdev);
		return;
	}
	if (read->repaired)
		log_warning("raid", "'%s': the superblock was damaged; its second copy is used",
		        bdev->name);
	if (sb->block_bytes != bdev->geometry.block_bytes)
		leave_alone(bdev, "its superblock was written with another block size",
		        "give it the block size that it had");
	else if (uuid_is_null(sb->uuid))
		leave_alone(bdev, "its superblock has no UUID", "wipe it");
	else
		assemble(bdev, sb);
}

/* Members that it had not counted: now that it is online, or knows a newer superblock. */
static void offer_again(struct raid *raid)
{
	for (unsigned i = 0; i < raid->num_slots; i++) {
		char uuid[UUID_STR_LEN];
		struct bdev *bdev;

		if (raid->slots[i].use != SLOT_FREE)
			continue;
		if (raid->bdev && raid->bdev->bases[i]) { /* it could not be written */
			raid_hold(raid);
			bdev_base_detach(raid->bdev, i, (struct bdev_done){rejoined, raid});
			continue;
		}
		if (!raid->sb_valid || uuid_is_null(raid->sb.slots[i].uuid))
			continue;
		uuid_unparse_lower(raid->sb.slots[i].uuid, uuid);
		bdev = bdev_find(uuid);
		if (bdev && bdev->state == BDEV_ONLINE && !bdev_is_claimed(bdev))
			raid_examine(bdev, (struct bdev_done){.fn = NULL});
	}
}
