/*
 * raid_extension.h: what we keep of an array beside its superblock, in the part of each member that
 * the reference leaves unused: whether the array was stopped in order, and how far its parity may
 * be believed. Two slots, written in turn: the valid one with the higher generation counts.
 */
#pragma once

#include <uuid/uuid.h>

#include "base/base.h"

#define RAID_EXT_BYTES 4096
#define RAID_EXT_OFFSET_BYTES KIB(96)
#define RAID_EXT_SLOT_STEP_BYTES KIB(16)
/* Both slots, as one read. */
#define RAID_EXT_READ_BYTES (RAID_EXT_SLOT_STEP_BYTES + RAID_EXT_BYTES)
/* Larger blocks do not begin where the slots do: such members have none. */
#define RAID_EXT_BLOCK_MAX_BYTES KIB(16)

enum raid_ext_state {
	RAID_EXT_CLEAN = 1, /* stopped in order: parity goes with the data */
	RAID_EXT_RUNNING = 2,
};

struct raid_ext {
	uint64_t generation;
	uuid_t uuid;  /* of the array */
	uint64_t seq; /* of the superblock that was written after it */
	enum raid_ext_state state;
	uint64_t valid_blocks; /* of a member, from the first on, that have valid parity */
};

/* Where it goes: the slot of its generation. */
static inline uint64_t raid_ext_offset_bytes(const struct raid_ext *ext)
{
	return RAID_EXT_OFFSET_BYTES + ext->generation % 2 * RAID_EXT_SLOT_STEP_BYTES;
}
/* Into RAID_EXT_BYTES. */
void raid_ext_encode(const struct raid_ext *ext, uint8_t *bytes);
/* False: there is none, or it is damaged. */
bool raid_ext_parse(const uint8_t *bytes, struct raid_ext *out);
/* Of what was read from RAID_EXT_OFFSET_BYTES on: the newer valid one. */
bool raid_ext_newer(const uint8_t *bytes, struct raid_ext *out);
