/*
 * raid_map.h: where a block of an array lies on its members. Pure functions, no I/O.
 *
 * Terms: a member contributes data_blocks from its data offset on; a strip is strip_blocks of one
 * member, a power of two; a stripe is one strip of each member, at the same place on all of them.
 * Member offsets here are relative to the member's data offset.
 *
 * The layouts are those of the reference. raid5f: with N members there are N-1 data strips per
 * stripe; parity of stripe s is on member (N-1) - (s mod N), so it starts on the last member and
 * moves one to the left per stripe; data strips fill the other members left to right.
 */
#pragma once

#include "base/base.h"

struct raid_place {
	unsigned member;
	uint64_t offset_blocks; /* on the member */
	uint64_t run_blocks;    /* how far the array's blocks stay contiguous from here on that
	                           member's strip */
};

/* ---- raid0: strips go round the members ------------------------------------------------------ */

struct raid_place raid0_map(unsigned members, unsigned strip_shift, uint64_t block);
/* The inverse: the array's block that lies at offset_blocks of member. */
uint64_t raid0_unmap(
        unsigned members, unsigned strip_shift, unsigned member, uint64_t offset_blocks);

/*
 * The part of [first, first + count) that lies on one member: always one contiguous range there, as
 * whole strips in between are contiguous on the member. count_out 0: nothing. first_out is relative
 * to the member's data offset.
 */
void raid0_member_range(unsigned members, unsigned strip_shift, uint64_t first_block,
        uint64_t count, unsigned member, uint64_t *first_out, uint64_t *count_out);

/* ---- concat: one member after the other ------------------------------------------------------ */

/* start[i] is the first block of member i, start[members] the end; block lies below it. A member
 * without a block has the same start as the next. run_blocks reaches to the end of the member. */
struct raid_place concat_map(const uint64_t *start, unsigned members, uint64_t block);

/* ---- raid5f ------------------------------------------------------------------------------------
 */

struct raid5_place {
	uint64_t stripe;
	unsigned parity_member;
	unsigned data_index;          /* 0..N-2: which data strip of the stripe */
	unsigned member;              /* that holds it */
	uint64_t strip_offset_blocks; /* within the strip */
	uint64_t offset_blocks;       /* on every member: stripe * strip + strip_offset */
	uint64_t run_blocks;          /* to the end of the strip */
};

struct raid5_place raid5_map(unsigned members, unsigned strip_shift, uint64_t block);
unsigned raid5_parity_member(unsigned members, uint64_t stripe);
/* The member of a stripe's data strip, and the data strip of a member (which is not the parity's).
 */
unsigned raid5_data_member(unsigned members, uint64_t stripe, unsigned data_index);
unsigned raid5_data_index(unsigned members, uint64_t stripe, unsigned member);

/* ---- capacity
 * ------------------------------------------------------------------------------------ */

/* What members of these sizes (data blocks each) give; 0 when the smallest does not hold a strip.
 * used is what is used of each member. */
uint64_t raid0_capacity(
        const uint64_t *data_blocks, unsigned members, unsigned strip_shift, uint64_t *used_each);
uint64_t raid1_capacity(const uint64_t *data_blocks, unsigned members, uint64_t *used_each);
uint64_t raid5_capacity(
        const uint64_t *data_blocks, unsigned members, unsigned strip_shift, uint64_t *used_each);
/* Each member by itself, rounded down to whole strips: used[i]. */
uint64_t concat_capacity(
        const uint64_t *data_blocks, unsigned members, unsigned strip_shift, uint64_t *used);
