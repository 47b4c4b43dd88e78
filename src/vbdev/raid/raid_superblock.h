/*
 * raid_superblock.h: the superblock on disk: bytes to fields and back. No I/O.
 *
 * Format of the reference: little-endian, 256 bytes of header and 64 per slot, CRC-32C (initial
 * value 0, no inversion) over all of it with the crc field zero. What this version does not know
 * (minor version, flags, reserved bytes) is kept and written again as it was.
 */
#pragma once

#include <uuid/uuid.h>

#include "base/base.h"
#include "base/err.h"

#define RAID_SB_SIGNATURE "SPDKRAID"
#define RAID_SB_HEADER_BYTES 256
#define RAID_SB_SLOT_BYTES 64
#define RAID_SB_SLOTS_MAX 255
#define RAID_SB_MAX_BYTES (RAID_SB_HEADER_BYTES + RAID_SB_SLOTS_MAX * RAID_SB_SLOT_BYTES)
#define RAID_SB_NAME_BYTES 64 /* with the NUL */
#define RAID_SB_MAJOR 1
#define RAID_SB_SEQ_MAX (UINT64_MAX / 2) /* nobody has counted so far, and everybody may go on */

#define RAID_RESERVED_BYTES MIB(1)         /* at least so much before the data */
#define RAID_SB_COPY_BYTES_OFFSET KIB(64)  /* the second copy */
#define RAID_SB_COPY_BLOCK_MAX_BYTES 16384 /* members with larger blocks have no second copy */

enum raid_sb_slot_state {
	RAID_SB_MISSING,    /* was taken out or has gone away */
	RAID_SB_CONFIGURED, /* has all data */
	RAID_SB_FAILED,     /* was taken out for an I/O error */
	RAID_SB_SPARE,      /* not configured */
};

struct raid_sb_slot {
	uuid_t uuid;
	uint64_t data_offset_blocks, data_blocks;
	uint32_t state; /* enum raid_sb_slot_state, or what a newer version wrote */
};

struct raid_sb {
	uint16_t minor;
	uuid_t uuid;
	char name[RAID_SB_NAME_BYTES];
	uint64_t array_blocks;
	uint32_t block_bytes;
	uint32_t level; /* number on disk */
	uint32_t strip_blocks;
	uint64_t seq;
	unsigned num_slots;
	struct raid_sb_slot slots[RAID_SB_SLOTS_MAX];
	uint32_t length;                /* of raw that counts */
	uint8_t raw[RAID_SB_MAX_BYTES]; /* as read; unknown bytes come from here */
};

enum raid_sb_found {
	RAID_SB_OK,
	RAID_SB_NONE,      /* no signature */
	RAID_SB_MORE,      /* its length needs more bytes than were given: read *need */
	RAID_SB_DAMAGED,   /* a signature, but the rest can't be believed; err says what */
	RAID_SB_TOO_NEW,   /* intact, of a newer major version */
	RAID_SB_NOT_SOUND, /* intact, but it contradicts itself */
};

/* len bytes from the beginning of a member. out and err are set as the result says. */
enum raid_sb_found raid_sb_parse(
        const void *bytes, size_t len, struct raid_sb *out, size_t *need, struct err *err);

/* For a new array: header and num_slots empty slots. */
void raid_sb_init(struct raid_sb *sb, unsigned num_slots);
/* Puts the fields into raw, with a checksum. Returns the length. */
size_t raid_sb_encode(struct raid_sb *sb);
/* The slot whose UUID this is; -1: none. */
int raid_sb_find(const struct raid_sb *sb, const uuid_t uuid);
