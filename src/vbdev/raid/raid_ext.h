/*
 * raid_ext.h: what stands behind the superblock and is ours alone: the extension block and the
 * pages of the write-intent bitmap. Bytes to fields and back; no I/O.
 *
 * Where it stands, when it is written and what it promises: docs/decisions/raid-metadata.md.
 * Little-endian; CRC-32C over the 4096 bytes with the crc field zero.
 */
#pragma once

#include <uuid/uuid.h>

#include "base/base.h"

#define RAID_EXT_BYTES 4096U
#define RAID_EXT_BYTES_OFFSET KIB(96) /* of slot 0; slot 1 is RAID_EXT_STEP_BYTES further */
#define RAID_EXT_STEP_BYTES KIB(16)
#define RAID_EXT_BLOCK_MAX_BYTES 16384 /* members with larger blocks have neither */
#define RAID_BITMAP_BYTES_OFFSET KIB(128)
#define RAID_PAGE_BYTES 4096U
#define RAID_PAGE_HEAD_BYTES 32U
#define RAID_PAGE_REGIONS ((RAID_PAGE_BYTES - RAID_PAGE_HEAD_BYTES) * 8)
#define RAID_PAGES_MAX ((MIB(1) - RAID_BITMAP_BYTES_OFFSET) / RAID_PAGE_BYTES)
#define RAID_NO_SLOT 255U

struct raid_ext {
	uint64_t generation; /* counts every write; of two valid blocks the higher is true */
	uuid_t array;
	uint64_t seq;       /* of the superblock that it goes with */
	uint64_t since_seq; /* no region that was written since then has been forgotten */
	bool bitmap;        /* there is one */
	uint32_t region_blocks_shift;
	uint64_t num_regions; /* bits that there are; the last stands for all that follows */
	/* Slots whose member may come back with what it missed alone: a bit each. */
	uint8_t returns[32];
	/* Slots whose member was given the data while another one was missing: whoever was missing
	 * does not count it, and has not gone on without it. A bit each. */
	uint8_t joined[32];
	/* Of a rebuild: up to here everything is on the target. RAID_NO_SLOT: none. */
	unsigned checkpoint_slot;
	uint64_t checkpoint_blocks;
	uint64_t checkpoint_seq; /* the target has a superblock of a higher number */
	uuid_t checkpoint_uuid;
	/* Of levels with parity. It is written before the superblock that it goes with, and once
	 * more behind it. */
	bool parity;
	bool clean;            /* stopped in order: parity goes with the data */
	uint64_t valid_blocks; /* of a member, from the first on, that have valid parity */
	/* From here on a member holds nothing that is older than the array there, and parity goes
	 * with whatever was written since. UINT64_MAX: unknown. */
	uint64_t fresh_blocks;
	bool confirmed; /* written again behind the superblock */
};

/* False: not one, or damaged. bytes are RAID_EXT_BYTES. */
bool raid_ext_parse(const void *bytes, struct raid_ext *out);
void raid_ext_encode(const struct raid_ext *ext, void *bytes);

/* bits are of this page, RAID_PAGE_REGIONS of them. */
void raid_page_encode(
        const uuid_t array, uint32_t index, uint64_t generation, const void *bits, void *bytes);
/* Ors its bits into bits. False: it is not that page of that array, or damaged; bits stay. */
bool raid_page_parse(const void *bytes, const uuid_t array, uint32_t index, void *bits);
