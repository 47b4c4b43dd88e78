/*
 * raid.c: which arrays are there, and in which state; and the module.
 */
#include "vbdev/raid/raid.h"
#include "vbdev/raid/raid5.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vbdev/raid/raid_bitmap.h"
#include "vbdev/raid/raid_check.h"
#include "vbdev/raid/raid_spare.h"
#include "vbdev/raid/raid_tell.h"

struct list raids = LIST_INIT(raids);

static const struct raid_level *const levels[] = {
        &raid0_level, &raid1_level, &concat_level, &raid5f_level};

/* ---- states -----------------------------------------------------------------------------------
 */

static const char *const state_texts[RAID_STATES] = {
        [RAID_CONFIGURING] = "configuring",
        [RAID_STARTING] = "configuring",
        [RAID_ONLINE] = "online",
        [RAID_STOPPING] = "offline",
        [RAID_OFFLINE] = "offline",
        [RAID_DELETING] = "offline",
};

#define TO(state) (1U << RAID_##state)
static const unsigned transitions[RAID_STATES] = {
        [RAID_CONFIGURING] = TO(STARTING) | TO(DELETING),
        [RAID_STARTING] = TO(ONLINE) | TO(CONFIGURING) | TO(OFFLINE) | TO(DELETING),
        [RAID_ONLINE] = TO(STOPPING) | TO(DELETING),
        [RAID_STOPPING] = TO(OFFLINE) | TO(DELETING),
        [RAID_OFFLINE] = TO(STARTING) | TO(DELETING),
        [RAID_DELETING] = 0,
};

const char *raid_state_text(enum raid_state state)
{
	return state_texts[state];
}

void raid_set_state(struct raid *raid, enum raid_state state)
{
	BELLOWS_ASSERT(transitions[raid->state] & (1U << state));
	raid->state = state;
}

/* ---- the list ---------------------------------------------------------------------------------
 */

const struct raid_level *raid_level_by_number(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (levels[i]->number == number)
			return levels[i];
	}
	return NULL;
}

const struct raid_level *raid_level_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(levels[i]->name, name) == 0 ||
		        (levels[i]->short_name && strcmp(levels[i]->short_name, name) == 0))
			return levels[i];
	}
	return NULL;
}

struct raid *raid_new(const char *name, const struct raid_level *level, unsigned num_slots)
{
	struct raid *raid = xcalloc(1, sizeof(*raid));
	unsigned places = level->grows ? level->members_max : num_slots;

	str_copy(raid->name, sizeof(raid->name), name);
	raid->level = level;
	raid->num_slots = num_slots;
	raid->slots = xcalloc(places, sizeof(*raid->slots));
	for (unsigned i = 0; i < places; i++) {
		raid->slots[i].raid = raid;
		list_init(&raid->slots[i].leaving);
	}
	raid_suspects_init(raid);
	list_init(&raid->start_waiters);
	list_init(&raid->link);
	list_push_back(&raids, &raid->link);
	return raid;
}

struct raid *raid_find(const char *name)
{
	struct raid *raid;

	list_for_each (raid, &raids, link) {
		if (strcmp(raid->name, name) == 0)
			return raid;
	}
	return NULL;
}

struct raid *raid_find_uuid(const uuid_t uuid)
{
	struct raid *raid;

	list_for_each (raid, &raids, link) {
		if (!uuid_is_null(uuid) && uuid_compare(raid->uuid, uuid) == 0)
			return raid;
	}
	return NULL;
}

struct raid_slot *raid_slot_of(const struct bdev *member)
{
	struct raid *raid;

	list_for_each (raid, &raids, link) {
		for (unsigned i = 0; i < raid->num_slots; i++) {
			if (raid->slots[i].bdev == member && raid->slots[i].use != SLOT_FREE)
				return &raid->slots[i];
		}
	}
	return NULL;
}

void raid_hold(struct raid *raid)
{
	raid->busy++;
}

void raid_unhold(struct raid *raid)
{
	struct bdev_done deleted = raid->deleted;

	BELLOWS_ASSERT(raid->busy > 0);
	if (--raid->busy > 0 || raid->state != RAID_DELETING)
		return;
	BELLOWS_ASSERT(list_empty(&raid->start_waiters));
	loop_timer_stop(loop_self(), &raid->wait);
	list_remove(&raid->link);
	raid_store_free(raid);
	free(raid->slots);
	free(raid);
	if (deleted.fn)
		bdev_done_call(deleted, NULL);
}

unsigned raid_present(const struct raid *raid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < raid->num_slots; i++)
		n += raid->slots[i].use == SLOT_IN;
	return n;
}

unsigned raid_needed(const struct raid *raid)
{
	if (!raid->level->redundant)
		return raid->num_slots;
	return raid->level->parity ? raid->num_slots - raid->level->parity : 1;
}

bool raid_can_lose(const struct raid *raid, unsigned slot)
{
	uint64_t others = raid->io.readable & ~(1ULL << slot);

	return raid->level->redundant &&
	       (unsigned)__builtin_popcountll(others) >= raid_needed(raid);
}

unsigned raid_expected(const struct raid *raid)
{
	unsigned n = 0;

	if (!raid->sb_valid)
		return raid->num_slots;
	for (unsigned i = 0; i < raid->num_slots; i++)
		n += raid->sb.slots[i].state == RAID_SB_CONFIGURED;
	return n;
}

void raid_missing_text(const struct raid *raid, char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < raid->num_slots && at + 1 < size; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		char uuid[UUID_STR_LEN];

		if (slot->use == SLOT_IN)
			continue;
		uuid_unparse_lower(slot->uuid, uuid);
		int n = slot->name[0] ? snprintf(buf + at, size - at, "%s'%.64s'", at ? ", " : "",
		                                slot->name)
		        : uuid_is_null(slot->uuid)
		                ? snprintf(buf + at, size - at, "%sone for slot %u", at ? ", " : "",
		                          i)
		                : snprintf(buf + at, size - at, "%sthe member %s", at ? ", " : "",
		                          uuid);

		at += (size_t)n;
	}
}

/* While there is no bdev, the members show it. */
void raid_problem(struct raid *raid, const char *key, const char *text, const char *action)
{
	autofree char *own = xasprintf("raid %s", key);

	if (raid->bdev)
		bdev_set_problem(raid->bdev, own, text, action);
	for (unsigned i = 0; i < raid->num_slots; i++) {
		struct bdev *member = raid->slots[i].bdev;

		if (member && (!raid->bdev || !text))
			bdev_set_problem(member, own, text, action);
	}
}

/* ---- what is saved and shown -----------------------------------------------------------------
 */

static json_t *describe(const struct bdev *bdev)
{
	const struct raid *raid = ((const struct raid_priv *)bdev->priv)->raid;

	return json_pack("{s:o}", "raid", raid_describe(raid, false));
}

/* Where each member's data ends, so that what follows stays where it is when a member grows while
 * the server is down. Nothing lies behind the last one. */
static void save_starts(const struct raid *raid, json_t *params)
{
	json_t *list = json_array();
	bool known = raid->num_slots > 1;

	for (unsigned i = 0; i + 1 < raid->num_slots; i++) {
		json_array_append_new(list, json_integer((json_int_t)raid->slots[i].data_blocks));
		known &= raid->slots[i].data_blocks != 0;
	}
	if (known)
		json_object_set(params, "base_data_blocks", list);
	json_decref(list);
}

json_t *raid_save_call(const struct raid *raid)
{
	json_t *params = json_pack("{s:s}", "name", raid->name), *bases = json_array();
	const unsigned char *id = raid->bdev ? raid->bdev->uuid : raid->uuid;
	char text[BDEV_NAME_MAX];

	if (!uuid_is_null(id)) {
		uuid_unparse_lower(id, text);
		json_object_set_new(params, "uuid", json_string(text));
	}
	if (raid->strip_size_kb)
		json_object_set_new(params, "strip_size_kb", json_integer(raid->strip_size_kb));
	json_object_set_new(params, "raid_level", json_string(raid->level->name));
	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		bool left = slot->use == SLOT_FREE && raid->state == RAID_ONLINE;

		snprintf(text, sizeof(text), "removed_base_bdev_%u", i);
		json_array_append_new(
		        bases, json_string(slot->name[0] && !left ? slot->name : text));
	}
	json_object_set_new(params, "base_bdevs", bases);
	if (raid->level == &concat_level)
		save_starts(raid, params);
	return json_pack("{s:s, s:o}", "method", "bdev_raid_create", "params", params);
}

/* One with a superblock is found by that. */
static json_t *save(const struct bdev *bdev)
{
	const struct raid *raid = ((const struct raid_priv *)bdev->priv)->raid;

	return raid->superblock ? NULL : json_pack("[o]", raid_save_call(raid));
}

static json_t *save_module(void)
{
	json_t *calls = json_array();
	struct raid *raid;

	raid_options_save(calls);
	list_for_each (raid, &raids, link) {
		bool asked_for = raid->state == RAID_CONFIGURING || raid->state == RAID_STARTING ||
		                 raid->state == RAID_OFFLINE;

		if (asked_for && !raid->sb_valid) {
			json_t *call = raid_save_call(raid);

			if (raid->superblock)
				json_object_set_new(
				        json_object_get(call, "params"), "superblock", json_true());
			json_array_append_new(calls, call);
		}
	}
	raid_spares_save(calls);
	return calls;
}

static void for_each_waiting(
        void (*fn)(void *arg, const char *name, const char *missing), void *arg)
{
	const struct raid *raid;

	list_for_each (raid, &raids, link) {
		char missing[200];

		if (raid->state != RAID_CONFIGURING && raid->state != RAID_OFFLINE)
			continue;
		raid_missing_text(raid, missing, sizeof(missing));
		fn(arg, raid->name, missing);
	}
}

static json_t *example(const struct bdev_example *wanted)
{
	static const char *const shown[] = {"raid0", "raid1", "concat", "raid5f"};
	json_t *params, *bases = json_array();

	if (wanted->variant >= ARRAY_SIZE(shown)) {
		json_decref(bases);
		return NULL;
	}
	for (unsigned i = 0; i < wanted->num_bases; i++)
		json_array_append_new(bases, json_string(wanted->bases[i]));
	params = json_pack("{s:s, s:s, s:o}", "name", wanted->name, "raid_level",
	        shown[wanted->variant], "base_bdevs", bases);
	if (raid_level_by_name(shown[wanted->variant])->strips)
		json_object_set_new(params, "strip_size_kb", json_integer(64));
	return json_pack("[{s:s, s:o}]", "method", "bdev_raid_create", "params", params);
}

/* ---- the bdev's life --------------------------------------------------------------------------
 */

/* The members are claimed by the bdev now. */
static void create(struct bdev *bdev, struct bdev_done done)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;

	raid->bdev = bdev;
	raid_hold(raid);
	raid_lay_out(raid);
	if (raid->level->prepare)
		raid->level->prepare(raid, done);
	else
		bdev_done_call(done, NULL);
}

static void recorded(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	if (!err && raid->level->begin)
		raid->level->begin(raid, raid->onlined);
	else
		bdev_done_call(raid->onlined, err);
}

static void bitmap_opened(void *arg, const struct err *err)
{
	struct raid *raid = arg;

	if (err) {
		bdev_done_call(raid->onlined, err);
		return;
	}
	raid_sb_update(raid, raid->bdev->geometry.num_blocks);
	raid_resync_start(raid);
	raid_store(raid, (struct bdev_done){recorded, raid});
}

static void online(struct bdev *bdev, struct bdev_done done)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;
	uint64_t in = 0;

	for (unsigned i = 0; i < raid->num_slots && raid->level->redundant; i++)
		in |= (uint64_t)(raid->slots[i].use == SLOT_IN) << i;
	bdev->submit = raid->level->submit;
	raid->io.readable = raid->io.writable = in;
	raid->io.unsettled = 0;
	for (unsigned i = 0; i < loops_count(); i++) {
		struct raid_loop *state = bdev->loops[i].state;

		state->bdev = bdev;
		state->release.run = raid_release;
		state->admit.run = raid_bitmap_admitted;
	}
	raid->onlined = done;
	if (!raid->superblock) {
		recorded(raid, NULL);
		return;
	}
	raid_bitmap_open(raid, (struct bdev_done){bitmap_opened, raid});
}

/* ---- the end of the bdev ---- */

struct ending {
	struct raid *raid;
	struct bdev_done done;
};

static void ended(void *arg, const struct err *err)
{
	struct ending *ending = arg;
	struct raid *raid = ending->raid;

	bdev_done_call(ending->done, err);
	free(ending);
	if (raid->state == RAID_OFFLINE)
		raid_consider(raid);
	raid_unhold(raid);
}

static void bitmap_closed(void *arg, const struct err *err)
{
	struct ending *ending = arg;
	struct raid *raid = ending->raid;
	bool keep = raid->lost || raid->state == RAID_STARTING;
	bool clear = raid->clear_sb;

	(void)err;
	raid->bdev = NULL;
	free(raid->raid5);
	raid->raid5 = NULL;
	for (unsigned i = 0; i < raid->num_slots; i++) {
		if (raid->slots[i].use != SLOT_IN)
			raid_member_release(raid, i, true);
	}
	if (keep && raid->state != RAID_DELETING) {
		raid_members_take_handles(raid);
		if (raid->state == RAID_ONLINE)
			raid_set_state(raid, RAID_STOPPING);
		raid_set_state(
		        raid, raid->state == RAID_STARTING ? RAID_CONFIGURING : RAID_OFFLINE);
		if (raid->state == RAID_OFFLINE)
			raid_tell_failed(raid);
		raid->lost = false;
		ended(ending, NULL);
		return;
	}
	if (raid->state != RAID_DELETING)
		raid_set_state(raid, RAID_DELETING);
	if (clear && raid->sb_valid)
		raid_clear_superblocks(raid, (struct bdev_done){ended, ending});
	else
		ended(ending, NULL);
}

static void stopped(void *arg, const struct err *err)
{
	struct ending *ending = arg;

	(void)err;
	raid_bitmap_close(ending->raid, (struct bdev_done){bitmap_closed, ending});
}

static void settled(void *arg, const struct err *err)
{
	struct ending *ending = arg;
	struct raid *raid = ending->raid;

	(void)err;
	if (raid->level->stop && raid->raid5)
		raid->level->stop(raid, (struct bdev_done){stopped, ending});
	else
		stopped(ending, NULL);
}

/* No request is in flight; but a store or a rebuild may be, and messages. */
static void destroy(struct bdev *bdev, struct bdev_done done)
{
	struct raid *raid = ((struct raid_priv *)bdev->priv)->raid;
	struct ending *ending;

	if (raid->bdev != bdev) { /* it never got as far as create */
		bdev_done_call(done, NULL);
		return;
	}
	ending = xcalloc(1, sizeof(*ending));
	ending->raid = raid;
	ending->done = done;
	raid_rebuild_stop(raid, RAID_SLOTS_MAX);
	if (raid->raid5)
		raid5_sync_stop(raid);
	raid_resync_stop(raid);
	raid_check_stop(raid);
	raid_settle(raid, (struct bdev_done){settled, ending});
}

static void stop(void)
{
	struct raid *raid, *next;

	list_for_each_safe (raid, next, &raids, link)
		raid_delete(raid, false, (struct bdev_done){.fn = NULL});
	raid_spares_stop();
	raid_options_stop();
}

struct bdev_module raid_module = {
        .name = "raid",
        .product_name = "Raid Volume",
        .summary = "several bdevs as one: striped, mirrored, or one after the other",
        .bases_min = 1,
        .bases_max = RAID_SLOTS_MAX,
        .base_param = "base_bdevs",
        .priv_bytes = sizeof(struct raid_priv),
        .loop_state_bytes = sizeof(struct raid_loop),
        .splits = true,
        .methods = raid_methods,
        .no_generated_methods = true,
        .geometry = raid_geometry,
        .submit = raid_submit, /* until it is online */
        .create = create,
        .online = online,
        .destroy = destroy,
        .persist = raid_persist,
        .resized = raid_resized,
        .base_lost = raid_base_lost,
        .base_returned = raid_base_returned,
        .examine = raid_examine,
        .describe = describe,
        .save = save,
        .save_module = save_module,
        .for_each_waiting = for_each_waiting,
        .stop = stop,
        .example = example,
};
BDEV_MODULE(raid_module);
