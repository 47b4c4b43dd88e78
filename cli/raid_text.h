/*
 * raid_text.h: what is told of an array, from an entry of bdev_raid_get_bdevs, the list of
 * bdev_get_bdevs and that of bdev_get_problems.
 */
#pragma once

#include "cli/cli.h"

/* "online", "degraded", "rebuilding", "waiting", "offline". */
const char *raid_state_word(const json_t *raid);
/* "2", "1 of 2"; members that have all data. */
void raid_members_text(char *text, size_t size, const json_t *raid);
/* Of the array's bdev; empty when it has none. */
void raid_size_text(char *text, size_t size, const json_t *raid, const json_t *bdevs);
/* "rebuild of Disk2: 37 %, 120 MiB/s, 2 min left"; the caller frees. NULL: nothing is under way. */
char *raid_process_text(const json_t *raid);
/* "42 s", "3 min", "5 h 12 min", "3 days". */
void raid_time_text(char *text, size_t size, uint64_t seconds);
/* Online, with all members and nothing to do. */
bool raid_is_whole(const json_t *raid, const json_t *problems);
void raid_print(struct cli *cli, const json_t *raid, const json_t *bdevs, const json_t *problems,
        FILE *out);
