/* raid_spare.h: disks that wait to take a lost member's place. Control loop. */
#pragma once

#include "vbdev/raid/raid.h"

/* array "": any that lacks a member. A base that is not there is waited for. */
void raid_spare_add(const char *base, const char *array, struct bdev_done done);
int raid_spare_remove(const char *base, struct err *err);
/* A disk has appeared, and its superblock been read. True: it is a spare. */
bool raid_spare_appeared(struct bdev *bdev, const struct raid_sb_read *read);
/* An array may lack a member now. Nothing happens before this returns. */
void raid_spares_use_later(void);
/* [{"base_bdev", "present", "raid_bdev"}...] */
json_t *raid_spares_describe(void);
/* Appends the calls that make them again. */
void raid_spares_save(json_t *calls);
void raid_spares_stop(void);
