/*
 * raid_leave.c: members that fail, go, or are taken out. First nobody uses the member any more;
 * then that is recorded on the others; then what had waited goes on.
 *
 * Loops tell of a failure by a bit in `suspects`, and `unsettled` is not zero from then until the
 * record is durable: writes that end meanwhile are parked, whatever their members have said.
 */
#include "vbdev/raid/raid_spare.h"
#include "vbdev/raid/raid_tell.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/plant.h"

struct leaver {
	struct list link;
	struct bdev_done done;
};

/* ---- messages between loops -------------------------------------------------------------------
 */

void raid_tell_control(struct raid *raid)
{
	if (!__atomic_exchange_n(&raid->suspects_sent, true, __ATOMIC_SEQ_CST))
		loop_send(loop_get(LOOP_CONTROL), &raid->suspects_task);
}

void raid_suspect(struct raid *raid, unsigned slot)
{
	__atomic_fetch_or(&raid->io.unsettled, 1ULL << slot, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&raid->suspects, 1ULL << slot, __ATOMIC_SEQ_CST);
	raid_tell_control(raid);
}

void raid_cure_later(struct raid *raid, unsigned slot, uint64_t offset_blocks, uint64_t num_blocks)
{
	struct raid_loop *state = bdev_loop_state(raid->bdev, loop_self());
	uint32_t put = state->cures_put;

	if (put - __atomic_load_n(&state->cures_taken, __ATOMIC_ACQUIRE) == RAID_CURES_MAX)
		return;
	state->cures[put % RAID_CURES_MAX] = (struct raid_cure){slot, offset_blocks, num_blocks};
	__atomic_store_n(&state->cures_put, put + 1, __ATOMIC_RELEASE);
	raid_tell_control(raid);
}

void raid_release_parked(struct raid *raid)
{
	for (unsigned i = 0; raid->bdev && i < loops_count(); i++) {
		struct raid_loop *state = raid->bdev->loops[i].state;

		if (!__atomic_exchange_n(&state->release_sent, true, __ATOMIC_SEQ_CST))
			loop_send(loop_get(i), &state->release);
	}
}

static void take_cures(struct raid *raid, struct raid_loop *state)
{
	uint32_t put = __atomic_load_n(&state->cures_put, __ATOMIC_ACQUIRE);

	while (state->cures_taken != put) {
		struct raid_cure cure = state->cures[state->cures_taken % RAID_CURES_MAX];

		__atomic_store_n(&state->cures_taken, state->cures_taken + 1, __ATOMIC_RELEASE);
		raid_cure(raid, cure.slot, cure.offset_blocks, cure.num_blocks);
	}
}

static void settle_bit(struct raid *raid, unsigned slot)
{
	__atomic_fetch_and(&raid->io.unsettled, ~(1ULL << slot), __ATOMIC_SEQ_CST);
}

static void detached(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	/* The core may be about to take it out by itself. */
	if (err)
		log_debug("raid", "'%s': %s", raid->name, err->text);
	raid_unhold(raid);
}

static void left_after_failure(void *arg, const struct err *err)
{
	struct raid_slot *slot = arg;
	struct raid *raid = slot->raid;
	unsigned index = (unsigned)(slot - raid->slots);

	if (!err && raid->bdev && raid->bdev->state == BDEV_ONLINE && raid->bdev->bases[index]) {
		raid_hold(raid);
		bdev_base_detach(raid->bdev, index, (struct bdev_done){detached, raid});
	}
	raid_unhold(raid);
}

static void look_at_suspects(struct loop_task *task)
{
	struct raid *raid = container_of(task, struct raid, suspects_task);
	uint64_t suspects;

	__atomic_store_n(&raid->suspects_sent, false, __ATOMIC_SEQ_CST);
	suspects = __atomic_exchange_n(&raid->suspects, 0, __ATOMIC_SEQ_CST);
	raid_hold(raid);
	raid_bitmap_look(raid);
	for (unsigned i = 0; raid->bdev && i < loops_count(); i++)
		take_cures(raid, raid->bdev->loops[i].state);
	for (; suspects != 0; suspects &= suspects - 1) {
		unsigned i = (unsigned)__builtin_ctzll(suspects);
		struct raid_slot *slot = &raid->slots[i];

		if (slot->use == SLOT_IN || slot->use == SLOT_TARGET) {
			bool gone = slot->bdev->state != BDEV_ONLINE;

			raid_hold(raid);
			raid_member_leave(raid, i, gone ? RAID_SB_MISSING : RAID_SB_FAILED,
			        (struct bdev_done){left_after_failure, slot});
		}
		if (slot->use != SLOT_LEAVING)
			settle_bit(raid, i);
	}
	raid_release_parked(raid);
	raid_unhold(raid);
}

void raid_suspects_init(struct raid *raid)
{
	raid->suspects_task.run = look_at_suspects;
}

/* ---- leaving ----------------------------------------------------------------------------------
 */

static bool stop_using(struct raid *raid, unsigned index)
{
	struct raid_slot *slot = &raid->slots[index];
	struct raid_io *io = &raid->io;
	uint64_t bit = 1ULL << index;

	if (!raid->level->redundant || (slot->use == SLOT_IN && !raid_can_lose(raid, index)))
		return false;
	__atomic_fetch_or(&io->unsettled, bit, __ATOMIC_SEQ_CST);
	if (!PLANT(RAID_FAILED_READ))
		__atomic_fetch_and(&io->readable, ~bit, __ATOMIC_SEQ_CST);
	__atomic_fetch_and(&io->writable, ~bit, __ATOMIC_SEQ_CST);
	if (slot->use == SLOT_TARGET)
		raid_rebuild_stop(raid, index);
	slot->use = SLOT_LEAVING;
	return true;
}

void raid_member_recorded(struct raid *raid, unsigned index)
{
	struct raid_slot *slot = &raid->slots[index];
	struct list leavers = LIST_INIT(leavers);

	BELLOWS_ASSERT(slot->use == SLOT_LEAVING);
	slot->use = SLOT_FREE;
	slot->bdev = NULL;
	raid_say_degraded(raid, true);
	raid_tell_degraded(raid, index,
	        raid->sb_valid && raid->sb.slots[index].state == RAID_SB_FAILED ? "failed"
	                                                                        : "missing");
	settle_bit(raid, index);
	raid_release_parked(raid);
	raid_spares_use_later();
	list_splice_back(&leavers, &slot->leaving);
	while (!list_empty(&leavers)) {
		struct leaver *leaver = list_entry(list_pop_front(&leavers), struct leaver, link);
		struct bdev_done done = leaver->done;

		free(leaver);
		bdev_done_call(done, NULL);
	}
}

/* Nobody could be told: what waits must fail, and the array goes. */
static void not_recorded(struct raid *raid, unsigned index, const struct err *err)
{
	__atomic_store_n(&raid->io.readable, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&raid->io.writable, 0, __ATOMIC_SEQ_CST);
	log_error("raid", "'%s' can't record that '%s' is gone: %s", raid->name,
	        raid->slots[index].name, err->text);
	raid->lost = true;
	if (raid->bdev)
		bdev_gone(raid->bdev, "no member can be written");
	raid_member_recorded(raid, index);
}

static void stored(void *arg, const struct err *err)
{
	struct raid_slot *slot = arg;
	struct raid *raid = slot->raid;
	unsigned index = (unsigned)(slot - raid->slots);

	if (slot->use == SLOT_LEAVING && err)
		not_recorded(raid, index, err);
	else if (slot->use == SLOT_LEAVING)
		raid_member_recorded(raid, index);
	raid_bdev_unhold(raid);
}

/*
 * Parity can't make up for another one, and of what was being written it is half new: nobody may
 * read that. When the array starts again, it is known that it was not stopped in order.
 */
static void give_up(struct raid *raid)
{
	raid->given_up = true;
	__atomic_store_n(&raid->io.torn, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&raid->io.readable, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&raid->io.writable, 0, __ATOMIC_SEQ_CST);
	raid->lost = true;
	if (raid->bdev)
		bdev_gone(raid->bdev, "more members have failed than parity makes up for");
	raid_problem(raid, "given up", "more members have failed than parity makes up for",
	        "bring the members back, then start it with bdev_raid_start");
}

void raid_member_leave(
        struct raid *raid, unsigned index, enum raid_sb_slot_state record, struct bdev_done done)
{
	struct raid_slot *slot = &raid->slots[index];
	bool had_all = slot->use == SLOT_IN, first = slot->use != SLOT_LEAVING;
	bool on_purpose, known;
	struct err err = ERR_NONE;
	struct leaver *leaver;

	if (slot->use == SLOT_FREE) {
		bdev_done_call(done, NULL);
		return;
	}
	if (first && !stop_using(raid, index)) {
		if (raid->level->parity)
			give_up(raid);
		err_set(&err, -EIO, "%s '%s' can't be without its member '%s'", raid->level->name,
		        raid->name, slot->name);
		bdev_done_call(done, &err);
		return;
	}
	leaver = xcalloc(1, sizeof(*leaver));
	leaver->done = done;
	list_init(&leaver->link);
	list_push_back(&slot->leaving, &leaver->link);
	if (!first)
		return;
	log_warning("raid", "'%s' goes on without '%s'", raid->name, slot->name);
	/* Whoever takes it out may use it for something else, and bring it back. A target never was
	 * recorded as a member, but how far its rebuild had come was. */
	on_purpose = record == RAID_SB_MISSING && slot->bdev->state == BDEV_ONLINE;
	known = had_all || (on_purpose && raid->bitmap);
	if (!raid->superblock || !known || PLANT(RAID_LEAVE_NOT_STORED)) {
		raid_member_recorded(raid, index);
		return;
	}
	if (had_all)
		raid->sb.slots[index].state = record;
	raid_bitmap_left(raid, index, had_all && !on_purpose);
	raid_bdev_hold(raid);
	raid_store(raid, (struct bdev_done){stored, slot});
}

bool raid_member_failed_in_store(struct raid *raid, unsigned index)
{
	struct raid_slot *slot = &raid->slots[index];
	bool had_all = slot->use == SLOT_IN;

	if (slot->use == SLOT_LEAVING || slot->use == SLOT_FREE)
		return true;
	/* Before it is online nobody has to wait; the slots are all that counts. */
	if (raid->state != RAID_ONLINE) {
		if (!raid->level->redundant || raid_present(raid) <= raid_needed(raid))
			return false;
		__atomic_fetch_and(&raid->io.readable, ~(1ULL << index), __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&raid->io.writable, ~(1ULL << index), __ATOMIC_SEQ_CST);
		slot->use = SLOT_FREE;
		slot->bdev = NULL;
		raid->sb.slots[index].state = RAID_SB_FAILED;
		raid_bitmap_left(raid, index, true);
		return true;
	}
	if (!stop_using(raid, index))
		return false;
	if (had_all) {
		raid->sb.slots[index].state = RAID_SB_FAILED;
		raid_bitmap_left(raid, index, true);
	}
	raid_bdev_hold(raid);
	raid_hold(raid);
	struct leaver *leaver = xcalloc(1, sizeof(*leaver));

	leaver->done = (struct bdev_done){left_after_failure, slot};
	list_init(&leaver->link);
	list_push_back(&slot->leaving, &leaver->link);
	raid_store(raid, (struct bdev_done){stored, slot});
	return true;
}

/* ---- as the core calls it ---------------------------------------------------------------------
 */

/* The core wants an answer in time; a member that hangs may keep the record waiting for longer. */
struct parting {
	struct raid_slot *slot;
	struct bdev_done done;
	struct loop_timer timer;
	bool answered;
};

static void parted(void *arg, const struct err *err)
{
	struct parting *p = arg;
	struct raid *raid = p->slot->raid;

	loop_timer_stop(loop_self(), &p->timer);
	if (p->answered)
		raid_problem(raid, "record", NULL, NULL);
	else
		bdev_done_call(p->done, err);
	free(p);
	raid_unhold(raid);
}

/* Nothing new is sent to it, and that is all the core needs: what waits for the record is held. */
static void takes_long(struct loop_timer *timer)
{
	struct parting *p = container_of(timer, struct parting, timer);
	struct raid_slot *slot = p->slot;
	autofree char *text =
	        xasprintf("raid '%s' holds its writes until it is recorded that '%s' is gone, and "
	                  "a member takes long to write that",
	                slot->raid->name, slot->name);

	log_warning("raid", "%s", text);
	raid_problem(slot->raid, "record", text, "look at the disks that are left");
	p->answered = true;
	slot->bdev = NULL;
	bdev_done_call(p->done, NULL);
}

static void part(struct raid_slot *slot, struct bdev_done done)
{
	struct raid *raid = slot->raid;
	struct parting *p = xcalloc(1, sizeof(*p));
	uint64_t patience_ns = bdev_options()->step_timeout_ms * NSEC_PER_MSEC / 2;

	raid_hold(raid);
	*p = (struct parting){.slot = slot, .done = done, .timer = {.fire = takes_long}};
	loop_timer_start(loop_self(), &p->timer, loop_now_ns(loop_self()) + patience_ns);
	raid_member_leave(raid, (unsigned)(slot - raid->slots), RAID_SB_MISSING,
	        (struct bdev_done){parted, p});
}

void raid_base_lost(struct bdev *bdev, unsigned index, struct bdev_done done)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;
	struct err err = ERR_NONE;

	if (raid->level->redundant) {
		bool gone = bdev->bases[index]->state != BDEV_ONLINE;
		bool last = raid->slots[index].use == SLOT_IN && !raid_can_lose(raid, index);

		raid->lost = raid->lost || (last && gone);
		part(&raid->slots[index], done);
		return;
	}
	raid->lost = true;
	err_set(&err, -EIO, "%s '%s' can't be without its member '%s'", raid->level->name,
	        raid->name, raid->slots[index].name);
	bdev_done_call(done, &err);
}

void raid_go_offline(struct raid *raid, const char *why)
{
	raid->lost = true;
	bdev_gone(raid->bdev, why);
}

/* ---- nothing is under way ---------------------------------------------------------------------
 */

struct hop {
	struct loop_task task;
	struct raid *raid;
	unsigned loop;
};

static void hop_next(struct loop_task *task)
{
	struct hop *hop = container_of(task, struct hop, task);
	struct raid *raid = hop->raid;
	struct bdev_done done = raid->destroyed;

	if (!loop_is_control()) {
		loop_send(loop_get(LOOP_CONTROL), task);
		return;
	}
	/* Messages of one sender arrive in order: what this loop had sent is here. */
	if (++hop->loop < loops_count()) {
		loop_send(loop_get(hop->loop), task);
		return;
	}
	free(hop);
	raid->hopping = false;
	if (raid->bdev_busy > 0)
		return; /* a message has begun something; its end will hop again */
	raid->destroyed.fn = NULL;
	bdev_done_call(done, NULL);
}

static void hop_start(struct raid *raid)
{
	struct hop *hop = xcalloc(1, sizeof(*hop));

	raid->hopping = true;
	hop->raid = raid;
	hop->task.run = hop_next;
	loop_send(loop_get(LOOP_CONTROL), &hop->task);
}

void raid_bdev_hold(struct raid *raid)
{
	raid->bdev_busy++;
}

void raid_bdev_unhold(struct raid *raid)
{
	BELLOWS_ASSERT(raid->bdev_busy > 0);
	if (--raid->bdev_busy == 0 && raid->destroyed.fn && !raid->hopping)
		hop_start(raid);
}

void raid_settle(struct raid *raid, struct bdev_done done)
{
	raid->destroyed = done;
	raid_bdev_hold(raid);
	raid_bdev_unhold(raid);
}
