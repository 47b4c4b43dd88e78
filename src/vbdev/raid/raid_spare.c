/*
 * raid_spare.c: disks that wait to take a lost member's place, in one array or in any.
 *
 * A spare is held by a handle, so that nobody else takes it. It is known by name; one that is not
 * there is waited for. When an array lacks a member, the first that fits is given to it.
 */
#include "vbdev/raid/raid_spare.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vbdev/raid/raid_create.h"

#define RETRY_NS (100 * NSEC_PER_MSEC) /* while the lost member is still being let go */

struct spare {
	struct list link;
	char base[BDEV_NAME_MAX];
	char array[RAID_SB_NAME_BYTES]; /* "": any */
	struct bdev_handle *handle;     /* NULL: it is not there, or is being read or given away */
	bool taken;
};

static struct list spares = LIST_INIT(spares);
static struct loop_timer retry;

/* ---- holding them -----------------------------------------------------------------------------
 */

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

static int may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	(void)handle;
	(void)new_blocks;
	(void)err;
	return 0;
}

static void removed(struct bdev_handle *handle)
{
	struct spare *s = bdev_handle_arg(handle);

	s->handle = NULL;
	bdev_close(handle);
}

static const struct bdev_holder_ops ops = {.kind = "raid spare",
        .module = &raid_module,
        .resized = resized,
        .removed = removed,
        .may_shrink = may_shrink};

static int hold(struct spare *s, struct err *err)
{
	struct bdev *bdev = bdev_find(s->base);

	if (!bdev)
		return err_set(err, -ENODEV, "there is no bdev '%s'", s->base);
	/* Opening it would not fail if it is one of our own arrays that has it. */
	if (bdev_is_claimed(bdev))
		return err_set(err, -EPERM, "'%s' is in use", s->base);
	return bdev_open(bdev, true, &ops, "raid spare", s, &s->handle, err);
}

static void let_go(struct spare *s)
{
	struct bdev_handle *handle = s->handle;

	s->handle = NULL;
	if (handle)
		bdev_close(handle);
}

static void forget(struct spare *s)
{
	let_go(s);
	list_remove(&s->link);
	free(s);
}

static struct spare *find(const char *base)
{
	struct spare *s;

	list_for_each (s, &spares, link) {
		if (strcmp(s->base, base) == 0)
			return s;
	}
	return NULL;
}

/* ---- using them -------------------------------------------------------------------------------
 */

struct giving {
	struct raid *raid;
	struct spare *spare;
	unsigned slot;
};

static void given(void *arg, const struct err *err)
{
	struct giving *g = arg;
	struct raid *raid = g->raid;
	struct err again = ERR_NONE;

	if (err) {
		log_warning("raid", "'%s': spare '%s' can't be used: %s", raid->name,
		        g->spare->base, err->text);
		raid_problem(raid, "spare", err->text, "give it another spare");
		if (hold(g->spare, &again) != 0)
			log_notice("raid", "%s", again.text);
		g->spare->taken = false;
	} else {
		log_notice("raid", "'%s': spare '%s' takes the place of slot %u", raid->name,
		        g->spare->base, g->slot);
		bdev_event_raise("raid_spare_used", raid->name,
		        json_pack("{s:s, s:i}", "spare", g->spare->base, "slot", (int)g->slot));
		raid_problem(raid, "spare", NULL, NULL);
		forget(g->spare);
	}
	raid_unhold(raid);
	free(g);
}

static bool fits(struct raid *raid, unsigned slot, const struct spare *s)
{
	const struct bdev *bdev = bdev_find(s->base);
	struct raid_slot before = raid->slots[slot];
	bool ok;

	if (s->taken || !s->handle || !bdev || (s->array[0] && strcmp(s->array, raid->name) != 0))
		return false;
	raid->slots[slot].data_offset_blocks = 0;
	raid->slots[slot].data_blocks = raid->bdev->geometry.num_blocks;
	ok = raid_member_fits(raid, slot, bdev, NULL) == 0;
	raid->slots[slot] = before;
	return ok;
}

/* True: there is something to wait for. */
static bool fill(struct raid *raid, unsigned slot)
{
	struct spare *s, *chosen = NULL;
	struct giving *g;

	/* One that is meant for this array comes before those that are for any. */
	list_for_each (s, &spares, link) {
		if (fits(raid, slot, s) && (!chosen || (!chosen->array[0] && s->array[0])))
			chosen = s;
	}
	if (!chosen)
		return false;
	if (raid->bdev->bases[slot] || raid->rebuild)
		return true;
	g = xcalloc(1, sizeof(*g));
	*g = (struct giving){.raid = raid, .spare = chosen, .slot = slot};
	chosen->taken = true;
	raid_hold(raid);
	let_go(chosen);
	raid_join(raid, slot, bdev_find(chosen->base), 0, (struct bdev_done){given, g});
	return false;
}

static void use(void)
{
	struct raid *raid;
	bool again = false;

	list_for_each (raid, &raids, link) {
		if (raid->state != RAID_ONLINE || !raid->level->redundant ||
		        raid->bdev->state != BDEV_ONLINE)
			continue;
		for (unsigned i = 0; i < raid->num_slots; i++) {
			if (raid->slots[i].use == SLOT_FREE)
				again |= fill(raid, i);
			else if (raid->slots[i].use == SLOT_LEAVING)
				again |= !list_empty(&spares);
		}
	}
	if (again)
		raid_spares_use_later();
}

static void retried(struct loop_timer *timer)
{
	(void)timer;
	use();
}

void raid_spares_use_later(void)
{
	if (list_empty(&spares) || loop_timer_active(&retry))
		return;
	retry.fire = retried;
	loop_timer_start(loop_self(), &retry, loop_now_ns(loop_self()) + RETRY_NS);
}

/* ---- adding and removing ----------------------------------------------------------------------
 */

struct adding {
	struct spare *spare;
	struct bdev_done done;
};

static void add_read(void *arg, const struct raid_sb_read *read)
{
	struct adding *a = arg;
	struct spare *s = a->spare;
	struct bdev_done done = a->done;
	struct err err = ERR_NONE;

	free(a);
	if (!s->handle)
		err_set(&err, -ENODEV, "it is gone");
	else
		raid_foreign_superblock(read, s->base, &err);
	s->taken = false;
	if (err.code) {
		forget(s);
	} else {
		log_notice("raid", "'%s' is a spare", s->base);
		raid_spares_use_later();
	}
	bdev_done_call(done, err.code ? &err : NULL);
}

void raid_spare_add(const char *base, const char *array, struct bdev_done done)
{
	struct err err = ERR_NONE;
	struct adding *a;
	struct spare *s;

	if (find(base))
		err_set(&err, -EEXIST, "'%s' is a spare already", base);
	else if (strlen(base) >= BDEV_NAME_MAX || strlen(array) >= RAID_SB_NAME_BYTES)
		err_set(&err, -EINVAL, "a name is too long");
	if (err.code) {
		bdev_done_call(done, &err);
		return;
	}
	s = xcalloc(1, sizeof(*s));
	str_copy(s->base, sizeof(s->base), base);
	str_copy(s->array, sizeof(s->array), array);
	list_init(&s->link);
	list_push_back(&spares, &s->link);
	if (!bdev_find(base)) {
		log_notice("raid", "spare '%s' is waited for", base);
		bdev_done_call(done, NULL);
		return;
	}
	if (hold(s, &err) != 0) {
		forget(s);
		bdev_done_call(done, &err);
		return;
	}
	s->taken = true; /* while it is read */
	a = xcalloc(1, sizeof(*a));
	*a = (struct adding){.spare = s, .done = done};
	raid_sb_read(bdev_find(base), add_read, a);
}

int raid_spare_remove(const char *base, struct err *err)
{
	struct spare *s = find(base);

	if (!s)
		return err_set(err, -ENODEV, "'%s' is no spare", base);
	if (s->taken)
		return err_set(err, -EBUSY, "'%s' is just being used", base);
	forget(s);
	return 0;
}

bool raid_spare_appeared(struct bdev *bdev, const struct raid_sb_read *read)
{
	struct spare *s = find(bdev->name);
	struct err err = ERR_NONE;

	if (!s || s->handle || s->taken)
		return false;
	if (raid_foreign_superblock(read, s->base, &err) != 0 || hold(s, &err) != 0) {
		log_warning("raid", "spare '%s': %s", s->base, err.text);
		return false;
	}
	raid_spares_use_later();
	return true;
}

/* ---- shown and saved --------------------------------------------------------------------------
 */

json_t *raid_spares_describe(void)
{
	json_t *list = json_array();
	const struct spare *s;

	list_for_each (s, &spares, link) {
		json_t *entry =
		        json_pack("{s:s, s:b}", "base_bdev", s->base, "present", s->handle != NULL);

		if (s->array[0])
			json_object_set_new(entry, "raid_bdev", json_string(s->array));
		json_array_append_new(list, entry);
	}
	return list;
}

void raid_spares_save(json_t *calls)
{
	const struct spare *s;

	list_for_each (s, &spares, link) {
		json_t *params = json_pack("{s:s}", "base_bdev", s->base);

		if (s->array[0])
			json_object_set_new(params, "raid_bdev", json_string(s->array));
		json_array_append_new(calls,
		        json_pack("{s:s, s:o}", "method", "bdev_raid_add_spare", "params", params));
	}
}

void raid_spares_stop(void)
{
	struct spare *s, *next;

	loop_timer_stop(loop_self(), &retry);
	list_for_each_safe (s, next, &spares, link)
		forget(s);
}
