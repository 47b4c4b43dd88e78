/* zone.c: the names of zones' states and actions, as clients write them. */
#include "bdev/bdev.h"

const char *zone_state_name(enum zone_state state)
{
	static const char *const names[ZONE_STATES] = {
	        [ZONE_EMPTY] = "empty",
	        [ZONE_IMPLICIT_OPEN] = "implicit_open",
	        [ZONE_EXPLICIT_OPEN] = "explicit_open",
	        [ZONE_CLOSED] = "closed",
	        [ZONE_FULL] = "full",
	        [ZONE_READ_ONLY] = "read_only",
	        [ZONE_OFFLINE] = "offline",
	};

	return (unsigned)state < ZONE_STATES ? names[state] : "unknown";
}

const char *zone_action_name(enum zone_action action)
{
	static const char *const names[ZONE_ACTIONS] = {
	        [ZONE_OPEN] = "open",
	        [ZONE_CLOSE] = "close",
	        [ZONE_FINISH] = "finish",
	        [ZONE_RESET] = "reset",
	        [ZONE_RETIRE] = "offline",
	        [ZONE_PROTECT] = "read_only",
	};

	return (unsigned)action < ZONE_ACTIONS ? names[action] : "unknown";
}
