/* raid_check.h: comparing the members of a mirror, or parity with its data. Control loop. */
#pragma once

#include "vbdev/raid/raid.h"

/* One per array at a time, and not beside a rebuild. repair: the first member's data is written
 * where another one differs, or parity made from the data. */
int raid_check_start(struct raid *raid, bool repair, struct err *err);
/* False: none is running. */
bool raid_check_stop(struct raid *raid);
/* The one that runs, or the last one's result; NULL: there was none. */
json_t *raid_check_describe(const struct raid *raid);
