/* raid_add.h: a disk is to be a member of an array that there is. Control loop. */
#pragma once

#include "vbdev/raid/raid.h"

/* Into a free place. done: it is being rebuilt, or the array still waits for others. */
void raid_add(struct raid *raid, const char *base, struct bdev_done done);
/*
 * The same, into a place of its own behind the last when none is free: the array then has a member
 * more than it was made with. Mirrors that are online. done: the place and its member are recorded,
 * and the rebuild has begun. On an error the array has the places that it had.
 */
void raid_grow(struct raid *raid, const char *base, struct bdev_done done);
