/* raid_tell.c: what is told of an array as it happens. */
#include "vbdev/raid/raid_tell.h"

#include "base/log.h"

#define PROGRESS_PERCENT 5
#define PROGRESS_NS (10 * NSEC_PER_SEC)

/* Slots of this use as "'a', one for slot 2". */
static char *slots_text(const struct raid *raid, bool targets)
{
	char *text = NULL;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		const struct raid_slot *slot = &raid->slots[i];
		bool is_target = slot->use == SLOT_TARGET;
		char *longer;

		if (slot->use == SLOT_IN || is_target != targets)
			continue;
		longer = slot->name[0] ? xasprintf("%s%s'%.64s'", text ? text : "",
		                                 text ? ", " : "", slot->name)
		                       : xasprintf("%s%sone for slot %u", text ? text : "",
		                                 text ? ", " : "", i);
		free(text);
		text = longer;
	}
	return text;
}

void raid_say_degraded(struct raid *raid, bool missing)
{
	autofree char *gone = slots_text(raid, false), *targets = slots_text(raid, true);
	autofree char *text = NULL;

	if (!gone && !targets) {
		raid->degraded_said = false;
		raid_problem(raid, "degraded", NULL, NULL);
		return;
	}
	if (!missing && !raid->degraded_said)
		return;
	raid->degraded_said = true;
	text = xasprintf("%s '%s' is degraded: %u of %u members have all data%s%s%s%s",
	        raid->level->name, raid->name, raid_present(raid), raid->num_slots,
	        gone ? "; missing: " : "", gone ? gone : "", targets ? "; being rebuilt: " : "",
	        targets ? targets : "");
	if (missing)
		log_warning("raid", "%s", text);
	raid_problem(raid, "degraded", text,
	        gone ? "bring it back, or give the array another one with bdev_raid_add_base_bdev"
	             : "wait until it is rebuilt");
}

void raid_tell_degraded(struct raid *raid, unsigned slot, const char *how)
{
	bdev_event_raise("raid_degraded", raid->name,
	        json_pack("{s:i, s:s, s:s, s:i, s:i}", "slot", (int)slot, "how", how, "level",
	                raid->level->name, "members", (int)raid_present(raid), "places",
	                (int)raid->num_slots));
}

void raid_tell_failed(struct raid *raid)
{
	char missing[200];

	raid_missing_text(raid, missing, sizeof(missing));
	bdev_event_raise("raid_failed", raid->name,
	        json_pack("{s:s, s:i, s:i, s:s}", "level", raid->level->name, "members",
	                (int)raid_present(raid), "needed", (int)raid_needed(raid), "missing",
	                missing));
}

void raid_tell_progress(struct raid *raid)
{
	struct raid_told *told = &raid->progress_told;
	uint64_t now_ns = loop_now_ns(loop_self());
	struct raid_progress p;
	unsigned percent;
	json_t *detail;

	if (!raid_rebuild_progress(raid, &p) || p.total_blocks == 0)
		return;
	percent = (unsigned)(min_u64(p.blocks, p.total_blocks) * 100 / p.total_blocks);
	if (percent < told->percent + PROGRESS_PERCENT && now_ns < told->ns + PROGRESS_NS)
		return;
	*told = (struct raid_told){.percent = percent, .ns = now_ns};
	detail = json_pack("{s:s, s:i, s:I, s:I, s:I}", "target", raid->slots[p.slot].name,
	        "percent", (int)percent, "blocks", (json_int_t)p.blocks, "num_blocks",
	        (json_int_t)p.total_blocks, "bytes_per_sec", (json_int_t)p.bytes_per_s);
	if (p.left_s != UINT64_MAX)
		json_object_set_new(detail, "seconds_left", json_integer((json_int_t)p.left_s));
	bdev_event_raise("raid_rebuild_progress", raid->name, detail);
}

void raid_tell_mismatch(struct raid *raid, uint64_t different_blocks, uint64_t repaired_blocks)
{
	if (different_blocks > 0)
		bdev_event_raise("raid_mismatch", raid->name,
		        json_pack("{s:I, s:I}", "different_blocks", (json_int_t)different_blocks,
		                "repaired_blocks", (json_int_t)repaired_blocks));
}

void raid_tell_resized(struct raid *raid, uint64_t old_blocks, uint64_t new_blocks)
{
	uint64_t block_bytes = raid->block_bytes;

	bdev_event_raise("raid_resized", raid->name,
	        json_pack("{s:I, s:I, s:I, s:I}", "old_blocks", (json_int_t)old_blocks,
	                "new_blocks", (json_int_t)new_blocks, "old_bytes",
	                (json_int_t)(old_blocks * block_bytes), "new_bytes",
	                (json_int_t)(new_blocks * block_bytes)));
}
