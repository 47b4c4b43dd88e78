/*
 * raid_describe.c: what is shown of an array.
 */
#include "vbdev/raid/raid5.h"
#include "vbdev/raid/raid_bitmap.h"
#include "vbdev/raid/raid_check.h"

static unsigned operational(const struct raid *raid)
{
	if (raid->state != RAID_ONLINE)
		return raid_expected(raid);
	unsigned n = 0;

	for (unsigned i = 0; i < raid->num_slots; i++)
		n += raid->slots[i].use == SLOT_IN || raid->slots[i].use == SLOT_TARGET;
	return n;
}

/* How many more members it can be without, and lose nothing. */
static unsigned redundancy(const struct raid *raid)
{
	unsigned readable = (unsigned)__builtin_popcountll(raid->io.readable);
	unsigned needed = raid_needed(raid);
	struct err err = ERR_NONE;

	if (raid->state != RAID_ONLINE || readable <= needed ||
	        (raid->level->parity && raid5_check_complete(raid, &err) != 0))
		return 0;
	return readable - needed;
}

static json_t *describe_slot(const struct raid *raid, const struct raid_slot *slot)
{
	bool there = slot->use == SLOT_IN || slot->use == SLOT_TARGET;
	bool forgotten = !there && raid->state == RAID_ONLINE;
	uint64_t blocks = slot->data_blocks;
	json_t *object;
	char uuid[UUID_STR_LEN];
	uuid_t none = {0};

	if (raid->bdev)
		blocks = raid->level->used(
		        raid, raid->bdev->geometry.num_blocks, (unsigned)(slot - raid->slots));
	else if (there && !blocks)
		blocks = slot->bdev->geometry.num_blocks - slot->data_offset_blocks;
	uuid_unparse_lower(forgotten ? none : slot->uuid, uuid);
	object = json_pack("{s:s?, s:s, s:b, s:I, s:I}", "name",
	        forgotten || !slot->name[0] ? NULL : slot->name, "uuid", uuid, "is_configured",
	        (int)there, "data_offset",
	        (json_int_t)(there || raid->sb_valid ? slot->data_offset_blocks : 0), "data_size",
	        (json_int_t)blocks);
	/* It is written, and not read yet. */
	if (there && raid->level->redundant && raid->state == RAID_ONLINE &&
	        !(raid->io.readable >> (slot - raid->slots) & 1))
		json_object_set_new(object, "rebuilding", json_true());
	return object;
}

static json_t *describe_process(const struct raid *raid)
{
	struct raid_progress p;
	json_t *process;

	if (!raid_rebuild_progress(raid, &p) && !raid5_sync_progress(raid, &p))
		return NULL;
	process = json_pack("{s:s, s:s*, s:{s:I, s:I}, s:I, s:b}", "type",
	        p.slot == RAID_SLOTS_MAX ? "resync" : "rebuild", "target",
	        p.slot == RAID_SLOTS_MAX ? NULL : raid->slots[p.slot].name, "progress", "blocks",
	        (json_int_t)p.blocks, "percent",
	        (json_int_t)(p.total_blocks ? p.blocks * 100 / p.total_blocks : 0), "bytes_per_sec",
	        (json_int_t)p.bytes_per_s, "paused", (int)p.paused);
	if (p.left_s != UINT64_MAX)
		json_object_set_new(process, "seconds_left", json_integer((json_int_t)p.left_s));
	return process;
}

json_t *raid_describe(const struct raid *raid, bool named)
{
	json_t *object = json_object(), *list = json_array(), *process = describe_process(raid),
	       *check;
	char uuid[UUID_STR_LEN];
	unsigned discovered = 0;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];

		discovered += slot->use == SLOT_IN || slot->use == SLOT_TARGET;
		json_array_append_new(list, describe_slot(raid, slot));
	}
	if (named)
		json_object_set_new(object, "name", json_string(raid->name));
	uuid_unparse_lower(raid->bdev ? raid->bdev->uuid : raid->uuid, uuid);
	json_object_set_new(object, "uuid", json_string(uuid));
	json_object_set_new(object, "strip_size_kb", json_integer(raid->strip_size_kb));
	json_object_set_new(object, "state", json_string(raid_state_text(raid->state)));
	json_object_set_new(object, "raid_level", json_string(raid->level->name));
	json_object_set_new(object, "superblock", json_boolean(raid->superblock));
	json_object_set_new(object, "num_base_bdevs", json_integer(raid->num_slots));
	json_object_set_new(object, "num_base_bdevs_discovered", json_integer(discovered));
	json_object_set_new(object, "num_base_bdevs_operational", json_integer(operational(raid)));
	if (raid->level->redundant)
		json_object_set_new(object, "redundancy", json_integer(redundancy(raid)));
	if (process)
		json_object_set_new(object, "process", process);
	if (raid->bitmap)
		json_object_set_new(
		        object, "write_intent_bitmap", json_boolean(raid->bitmap->ext.bitmap));
	check = raid_check_describe(raid);
	if (check)
		json_object_set_new(object, "check", check);
	if (raid_resync_left(raid) > 0)
		json_object_set_new(object, "resync_regions_left",
		        json_integer((json_int_t)raid_resync_left(raid)));
	json_object_set_new(object, "base_bdevs_list", list);
	return object;
}
