/*
 * raid_pace.h: how fast an array may do what it does in the background: rebuild, resync, check.
 * All of it keeps to one pace together, window by window.
 *
 * While no client sends requests windows follow each other, as many at once as the job likes. While
 * clients do, windows go one by one, and after each is a rest, as long as it takes to make windows
 * no more than the share of the time. A limit of the bandwidth holds always. What is set holds from
 * the next window on, and for one that is being waited for.
 */
#pragma once

#include "rpc/rpc.h"

#define RAID_SHARE_DEFAULT 30
#define RAID_WINDOW_DEFAULT_KB 1024
#define RAID_WINDOW_MAX_KB (64 * 1024)

struct raid;

/* Of all arrays, and what an array has of its own. */
enum raid_pace_option {
	RAID_PACE_WINDOW_KB,
	RAID_PACE_BANDWIDTH_MB,  /* per second; 0: no limit */
	RAID_PACE_SHARE_PERCENT, /* 100: no rest */
	RAID_PACE_OPTIONS
};

/* Control loop; of each array, zeroes at first. */
struct raid_pace {
	unsigned windows; /* under way */
	uint64_t busy_ns; /* since when; with clients about */
	uint64_t ended_ns, spent_ns;
	uint64_t begun_ns, begun_bytes; /* the last one */
	uint64_t client_ns;             /* when one was last seen; 0: never */
	uint64_t looked_ns;
};

/* 0: a window may begin now. Else the time at which to ask again, at the latest; when a window of
 * one's own ends, too. */
uint64_t raid_pace_next(struct raid *raid);
/* Begins or ends a window; bytes as they count for the bandwidth. Each has its end. */
void raid_pace_begin(struct raid *raid, uint64_t bytes);
void raid_pace_end(struct raid *raid);
/* How large the next one should be. */
uint64_t raid_pace_window_bytes(const struct raid *raid);

/* ---- options ----------------------------------------------------------------------------------
 */

/* bdev_raid_set_options. */
struct raid_options_params {
	char *name;
	uint32_t values[RAID_PACE_OPTIONS];
	bool given[RAID_PACE_OPTIONS];
	json_t *degraded_start_wait;
};
extern const struct param raid_options_table[];
void raid_options_handler(struct rpc_request *request, void *params);

/* Those of all arrays, then an array's own, which may not be there yet. */
void raid_options_save(json_t *calls);
/* The array is deleted. */
void raid_options_forget(const char *name);
void raid_options_stop(void);
uint32_t raid_pace_option(const struct raid *raid, enum raid_pace_option option);
