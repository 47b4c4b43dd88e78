/*
 * zone_block_state.c: the state machine of a zone, and the limits on how many may be open or
 * active.
 */
/* tidy: data path */
#include "base/plant.h"
#include "vbdev/zone_block/zone_block.h"

#include <errno.h>

static uint64_t load_word(const struct zone *zone)
{
	return __atomic_load_n(&zone->word, __ATOMIC_SEQ_CST);
}

static bool swap_word(struct zone *zone, uint64_t *word, uint64_t to)
{
	return __atomic_compare_exchange_n(
	        &zone->word, word, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

void zone_expect_wake(struct zone_bdev *zb, struct zone_loop *zl)
{
	if (zl->expects_wake)
		return;
	zl->expects_wake = true;
	zl->next_waiting = __atomic_load_n(&zb->waiting, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(
	        &zb->waiting, &zl->next_waiting, zl, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
}

void zone_wake_all(struct zone_bdev *zb)
{
	struct zone_loop *zl, *next;

	if (likely(!__atomic_load_n(&zb->waiting, __ATOMIC_SEQ_CST)))
		return;
	for (zl = __atomic_exchange_n(&zb->waiting, NULL, __ATOMIC_SEQ_CST); zl; zl = next) {
		next = zl->next_waiting;
		loop_send(loop_get(zl->loop_id), &zl->wake);
	}
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static bool state_is_listed(const struct zone_bdev *zb, const struct zone_list *list, uint64_t id)
{
	enum zone_state state = word_state(load_word(zone_at(zb, id)));

	if (id >= bdev_num_blocks(zb->bdev) >> zb->zone_shift)
		return false;
	return list == &zb->open ? state_is_open(state) : state_is_active(state);
}

static bool list_has(const struct zone_list *list, uint64_t id)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (list->ids[i] == id)
			return true;
	}
	return false;
}

static void list_sift(const struct zone_bdev *zb, struct zone_list *list)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < list->count; i++) {
		if (state_is_listed(zb, list, list->ids[i]))
			list->ids[kept++] = list->ids[i];
	}
	list->count = kept;
}

static bool list_has_room(const struct zone_bdev *zb, struct zone_list *list, uint64_t id)
{
	uint32_t max = list->max;

	if (max == 0 || list_has(list, id) || list->count < max)
		return true;
	list_sift(zb, list);
	return list->count < max;
}

/* At the end: an entry that is there is from an earlier time. */
static void list_add(struct zone_list *list, uint64_t id)
{
	uint32_t kept = 0;

	if (list->max == 0)
		return;
	for (uint32_t i = 0; i < list->count; i++) {
		if (list->ids[i] != id)
			list->ids[kept++] = list->ids[i];
	}
	list->ids[kept++] = id;
	list->count = kept;
}

/* Of those that were opened by writes, the one that was opened first. The list has been sifted. */
static bool close_oldest(struct zone_bdev *zb)
{
	for (uint32_t i = 0; i < zb->open.count; i++) {
		struct zone *zone = zone_at(zb, zb->open.ids[i]);
		uint64_t word = load_word(zone);

		while (word_state(word) == ZONE_IMPLICIT_OPEN ||
		        (PLANT(ZONE_EXPLICIT_CLOSED) && word_state(word) == ZONE_EXPLICIT_OPEN)) {
			if (!swap_word(zone, &word, word_with_state(word, ZONE_CLOSED)))
				continue;
			list_sift(zb, &zb->open);
			return true;
		}
	}
	return false;
}

/* Lists the zone as open. 0, or why that can't be. */
static int make_room(struct zone_bdev *zb, uint64_t id)
{
	if (!list_has_room(zb, &zb->active, id))
		return -EOVERFLOW;
	if (!list_has_room(zb, &zb->open, id) && !close_oldest(zb)) {
		if (PLANT(ZONE_ONE_TOO_MANY) && zb->open.count == zb->open.max)
			return 0;
		return -ETOOMANYREFS;
	}
	list_add(&zb->active, id);
	list_add(&zb->open, id);
	return 0;
}

/* From a state that is not open to one that is, or is past it. With ZONE_WAITS the word may be
 * another by now (*word), or somebody else is busy: *again tells them apart. */
static enum zone_verdict open_zone(
        struct zone_bdev *zb, uint64_t id, uint64_t *word, uint64_t to, int *status, bool *again)
{
	enum zone_verdict verdict = ZONE_WENT;

	*again = false;
	if (!zb->limited) {
		*again = !swap_word(zone_at(zb, id), word, to);
		return *again ? ZONE_WAITS : ZONE_WENT;
	}
	if (__atomic_exchange_n(&zb->busy, true, __ATOMIC_SEQ_CST))
		return ZONE_WAITS;
	*status = make_room(zb, id);
	if (*status != 0) {
		verdict = ZONE_FAILED;
	} else if (!swap_word(zone_at(zb, id), word, to)) {
		*again = true;
		verdict = ZONE_WAITS;
	}
	__atomic_store_n(&zb->busy, false, __ATOMIC_SEQ_CST);
	zone_wake_all(zb);
	return verdict;
}

/* ---- writes -----------------------------------------------------------------------------------
 */

static int write_error(const struct zone_bdev *zb, uint64_t word, uint64_t from, uint64_t count)
{
	if (from + count > zb->zone_capacity && word_state(word) < ZONE_FULL)
		return -ERANGE;
	switch (word_state(word)) {
	case ZONE_FULL:
		return -ENOSPC;
	case ZONE_READ_ONLY:
		return -EROFS;
	case ZONE_OFFLINE:
		return -EIO;
	default:
		break;
	}
	if (from != word_written(word) &&
	        !(PLANT(ZONE_WRITTEN_AGAIN) && from + count <= word_written(word)))
		return -EINVAL;
	return word_inflight(word) == INFLIGHT_MAX ? -EAGAIN : 0;
}

static uint64_t word_after(const struct zone_bdev *zb, uint64_t word, uint64_t from, uint64_t count)
{
	enum zone_state state = word_state(word);
	uint64_t end = from + count, written = word_written(word);

	if (!state_is_open(state))
		state = ZONE_IMPLICIT_OPEN;
	if (end == zb->zone_capacity && !PLANT(ZONE_NEVER_FULL))
		state = ZONE_FULL;
	return word_with_state(word + INFLIGHT_ONE + (end > written ? end - written : 0), state);
}

enum zone_verdict zone_take_blocks(
        struct zone_bdev *zb, uint64_t id, uint64_t *from, uint64_t count, int *status)
{
	struct zone *zone = zone_at(zb, id);
	uint64_t word = load_word(zone);
	bool append = *from == UINT64_MAX;

	for (;;) {
		uint64_t at = append ? word_written(word) : *from, to;
		enum zone_verdict verdict;
		bool again;

		if (unlikely((word & (WORD_DRAINS | WORD_PAUSES)) != 0))
			return ZONE_WAITS;
		*status = write_error(zb, word, at, count);
		if (unlikely(*status != 0))
			return ZONE_FAILED;
		to = word_after(zb, word, at, count);
		if (likely(state_is_open(word_state(word)))) {
			again = !swap_word(zone, &word, to);
			verdict = ZONE_WENT;
		} else {
			verdict = open_zone(zb, id, &word, to, status, &again);
		}
		if (again)
			continue;
		*from = at;
		return verdict;
	}
}

void zone_write_ended(struct zone_bdev *zb, uint64_t id, uint64_t from, uint64_t count, bool failed)
{
	struct zone *zone = zone_at(zb, id);
	uint64_t word = load_word(zone), to;

	if (PLANT(ZONE_FAILED_COUNTS))
		failed = false;
	do {
		to = word - INFLIGHT_ONE;
		if (unlikely(failed) && word_written(word) == from + count)
			to -= count;
		if (word_inflight(to) > 0)
			continue;
		to &= ~WORD_PAUSES;
		__atomic_store_n(&zone->settled, word_written(to), __ATOMIC_RELAXED);
	} while (!swap_word(zone, &word, to));
	if (unlikely(word & (WORD_DRAINS | WORD_PAUSES)) && word_inflight(to) == 0 &&
	        !PLANT(ZONE_WAKE_LOST))
		zone_wake_all(zb);
}

/* ---- reads ------------------------------------------------------------------------------------
 */

enum zone_verdict zone_look(
        struct zone_bdev *zb, uint64_t id, uint64_t from, uint64_t to, uint64_t *written)
{
	struct zone *zone = zone_at(zb, id);
	uint64_t word = load_word(zone);

	for (;;) {
		*written = word_written(word);
		if (unlikely(word_state(word) == ZONE_OFFLINE))
			return ZONE_FAILED;
		if (likely(word_inflight(word) == 0) || from >= *written ||
		        min_u64(to, *written) <=
		                __atomic_load_n(&zone->settled, __ATOMIC_RELAXED) ||
		        PLANT(ZONE_READ_AT_ONCE))
			return ZONE_WENT;
		if ((word & WORD_PAUSES) || swap_word(zone, &word, word | WORD_PAUSES))
			return ZONE_WAITS;
	}
}

/* ---- management -------------------------------------------------------------------------------
 */

#define NO (-1)

/* What becomes of a zone in each state (empty, implicitly open, explicitly open, closed, full,
 * read-only, offline); NO: not allowed. */
static const int8_t transitions[ZONE_ACTIONS][ZONE_STATES] = {
        [ZONE_OPEN] = {ZONE_EXPLICIT_OPEN, ZONE_EXPLICIT_OPEN, ZONE_EXPLICIT_OPEN,
                ZONE_EXPLICIT_OPEN, NO, NO, NO},
        [ZONE_CLOSE] = {NO, ZONE_CLOSED, ZONE_CLOSED, ZONE_CLOSED, NO, NO, NO},
        [ZONE_FINISH] = {ZONE_FULL, ZONE_FULL, ZONE_FULL, ZONE_FULL, ZONE_FULL, NO, NO},
        [ZONE_RESET] = {ZONE_EMPTY, ZONE_EMPTY, ZONE_EMPTY, ZONE_EMPTY, ZONE_EMPTY, NO, NO},
        [ZONE_RETIRE] = {NO, NO, NO, NO, NO, ZONE_OFFLINE, ZONE_OFFLINE},
        [ZONE_PROTECT] = {ZONE_READ_ONLY, ZONE_READ_ONLY, ZONE_READ_ONLY, ZONE_READ_ONLY,
                ZONE_READ_ONLY, ZONE_READ_ONLY, NO},
};

bool zone_action_applies(enum zone_action action, enum zone_state state)
{
	if (state == ZONE_EMPTY)
		return action == ZONE_PROTECT;
	if (action == ZONE_OPEN)
		return state == ZONE_CLOSED;
	return transitions[action][state] != NO && transitions[action][state] != (int8_t)state;
}

/* From here on no other request changes the zone, and no write begins. False: look again. */
static bool claim_for_reset(struct zone *zone, uint64_t *word, bool *drains)
{
	if (*drains)
		return true;
	*drains = swap_word(zone, word, *word | WORD_DRAINS);
	if (*drains)
		*word |= WORD_DRAINS;
	return *drains;
}

enum zone_verdict zone_manage(
        struct zone_bdev *zb, uint64_t id, enum zone_action action, bool *drains, int *status)
{
	struct zone *zone = zone_at(zb, id);
	uint64_t word = load_word(zone), to;

	for (;;) {
		enum zone_state state = word_state(word);
		int8_t next = transitions[action][state];
		enum zone_verdict verdict = ZONE_WENT;
		bool again;

		if ((word & WORD_DRAINS) && !*drains)
			return ZONE_WAITS;
		if (next == NO) {
			*status = -EINVAL;
			return ZONE_FAILED;
		}
		if (next == (int8_t)state)
			return ZONE_WENT;
		to = word_with_state(word, (enum zone_state)next);
		if (action == ZONE_RESET) {
			if (!claim_for_reset(zone, &word, drains))
				continue;
			if (word_inflight(word) && !PLANT(ZONE_RESET_AT_ONCE))
				return ZONE_WAITS;
			__atomic_store_n(&zone->settled, 0, __ATOMIC_RELAXED);
			to = word_with_state(
			        PLANT(ZONE_RESET_AT_ONCE) ? word & INFLIGHT_MAX << WRITTEN_BITS : 0,
			        ZONE_EMPTY);
		}
		if (next == ZONE_EXPLICIT_OPEN && !state_is_open(state))
			verdict = open_zone(zb, id, &word, to, status, &again);
		else
			again = !swap_word(zone, &word, to);
		if (again)
			continue;
		if (*drains)
			zone_wake_all(zb);
		*drains = false;
		return verdict;
	}
}
