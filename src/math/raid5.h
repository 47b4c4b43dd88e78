/*
 * raid5.h: what a write into one stripe of a raid5f has to read, write and compute. Pure functions,
 * no I/O. The layout is that of raid_map.h.
 *
 * A row is a block's place within its strip: rows of one number in all strips of a stripe are one
 * code word, whose parity is in that row of the parity strip. Ranges of rows are [lo, hi).
 */
#pragma once

#include "base/base.h"
#include "math/raid_map.h"

#define RAID5_NOBODY UINT8_MAX /* no member */

struct raid5_rows {
	uint64_t lo, hi; /* empty: lo == hi */
};

static inline uint64_t raid5_rows_len(struct raid5_rows rows)
{
	return rows.hi - rows.lo;
}

/*
 * A range within one stripe. In a piece, as raid5_piece makes it, the rows that are touched have no
 * gap between them.
 */
struct raid5_piece {
	unsigned members, strip_shift;
	uint64_t stripe;
	uint64_t first, count; /* blocks of the stripe's data */
	unsigned parity;       /* member */
};

/* The longest piece at the beginning of [block, block + count), count > 0. */
struct raid5_piece raid5_piece(
        unsigned members, unsigned strip_shift, uint64_t block, uint64_t count);
/* The member of a data strip, and the data strip of a member other than parity's. */
static inline unsigned raid5_member_of(const struct raid5_piece *piece, unsigned data_index)
{
	return data_index < piece->parity ? data_index : data_index + 1;
}
static inline unsigned raid5_index_of(const struct raid5_piece *piece, unsigned member)
{
	return member < piece->parity ? member : member - 1;
}
/* The rows of a data strip that lie in it. */
struct raid5_rows raid5_touched(const struct raid5_piece *piece, unsigned data_index);
/* All rows that lie in it. */
struct raid5_rows raid5_hull(const struct raid5_piece *piece);
/* It is the whole stripe. */
static inline bool raid5_is_whole(const struct raid5_piece *piece)
{
	return piece->count == (uint64_t)(piece->members - 1) << piece->strip_shift;
}
/* How far in the piece's data a row of a data strip is; it is touched. */
static inline uint64_t raid5_skip_blocks(
        const struct raid5_piece *piece, unsigned data_index, uint64_t row)
{
	return ((uint64_t)data_index << piece->strip_shift) + row - piece->first;
}

/* ---- writing a piece, or some rows of it -----------------------------------------------------
 */

enum raid5_mode {
	RAID5_BLIND,       /* parity can't be written: the data alone */
	RAID5_FULL,        /* parity is computed from what is written */
	RAID5_RECONSTRUCT, /* what the code words have beside what is written is read */
	RAID5_MODIFY,      /* what is overwritten, and its parity, is read */
	RAID5_ALL,         /* all is read, so that an unreadable strip can be made up */
	RAID5_IMPOSSIBLE,  /* more is missing than parity can make up for */
};

/* What is known of the parity of the rows. */
enum raid5_trust {
	RAID5_TRUST_NONE,
	RAID5_TRUST_WRITTEN, /* it goes with all that was ever written: the rest may be anything */
	RAID5_TRUST_ALL,     /* it is that of the data */
};

struct raid5_plan {
	enum raid5_mode mode;
	struct raid5_rows rows; /* of which parity is written */
	uint8_t blind;          /* the member that can't be read */
};

/*
 * For these rows, which lie in the hull. blind: the member that can't be read, or RAID5_NOBODY.
 * parity_gone: parity is not there to be written. Of the ways that are left the one that reads
 * less. With RAID5_TRUST_WRITTEN the write leaves parity that is that of the data, if all rows of a
 * strip that is made up (RAID5_ALL) are written too.
 */
struct raid5_plan raid5_plan_write(const struct raid5_piece *piece, struct raid5_rows rows,
        uint8_t blind, bool parity_gone, enum raid5_trust trust);
/* What is read of a member first. */
struct raid5_rows raid5_plan_read(
        const struct raid5_piece *piece, const struct raid5_plan *plan, unsigned member);
/* The rows of a data strip that are written: those of the plan that are touched. */
struct raid5_rows raid5_plan_data(
        const struct raid5_piece *piece, const struct raid5_plan *plan, unsigned data_index);
