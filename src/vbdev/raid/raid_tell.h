/* raid_tell.h: events of an array whose sender has little else to do with events. Control loop. */
#pragma once

#include "vbdev/raid/raid.h"

/*
 * Sets the problem `degraded`, or clears it when all members have all data. missing: a member has
 * gone or is not there. Else only what is said already changes: a place that has just been made is
 * no loss.
 */
void raid_say_degraded(struct raid *raid, bool missing);
/* It lives on without a member, or has started so. how: "failed", "missing", "not there at the
 * start". */
void raid_tell_degraded(struct raid *raid, unsigned slot, const char *how);
/* It has gone offline for lack of members. */
void raid_tell_failed(struct raid *raid);
/* Of what is being rebuilt: an event when 5 % more are done, or 10 s have passed. */
void raid_tell_progress(struct raid *raid);
/* A check has ended that found blocks which differ. */
void raid_tell_mismatch(struct raid *raid, uint64_t different_blocks, uint64_t repaired_blocks);
void raid_tell_resized(struct raid *raid, uint64_t old_blocks, uint64_t new_blocks);
