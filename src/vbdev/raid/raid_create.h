/* raid_create.h: between the methods and raid_create.c. */
#pragma once

#include "vbdev/raid/raid.h"

struct raid_wish {
	const char *name;
	uuid_t uuid;
	const struct raid_level *level;
	uint32_t strip_size_kb;
	bool superblock, no_bitmap;
	const char *const *bases;
	unsigned num_bases;
	const uint64_t *data_blocks; /* concat: how much of each is used; 0: all */
	unsigned num_data_blocks;
};

/* done: it is online, or waits for members that are not there. On an error nothing is left. */
void raid_create(const struct raid_wish *wish, struct bdev_done done);
/* Whether a disk that is to be a new member belongs to another array. */
int raid_foreign_superblock(const struct raid_sb_read *read, const char *base, struct err *err);
