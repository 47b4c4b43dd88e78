#include "math/raid_map.h"

struct raid_place raid0_map(unsigned members, unsigned strip_shift, uint64_t block)
{
	uint64_t strip = block >> strip_shift;
	uint64_t strip_blocks = 1ULL << strip_shift;
	uint64_t within = block & (strip_blocks - 1);

	return (struct raid_place){
	        .member = (unsigned)(strip % members),
	        .offset_blocks = ((strip / members) << strip_shift) + within,
	        .run_blocks = strip_blocks - within,
	};
}

uint64_t raid0_unmap(
        unsigned members, unsigned strip_shift, unsigned member, uint64_t offset_blocks)
{
	uint64_t row = offset_blocks >> strip_shift;
	uint64_t within = offset_blocks & ((1ULL << strip_shift) - 1);

	return ((row * members + member) << strip_shift) + within;
}

/* The first block on member at or after the array's block. */
static uint64_t raid0_member_ceil(
        unsigned members, unsigned strip_shift, uint64_t block, unsigned member)
{
	uint64_t strip = block >> strip_shift;
	uint64_t row = strip / members;
	unsigned at = (unsigned)(strip % members);

	if (member < at)
		return (row + 1) << strip_shift;
	if (member > at)
		return row << strip_shift;
	return (row << strip_shift) + (block & ((1ULL << strip_shift) - 1));
}

void raid0_member_range(unsigned members, unsigned strip_shift, uint64_t first_block,
        uint64_t count, unsigned member, uint64_t *first_out, uint64_t *count_out)
{
	uint64_t first = raid0_member_ceil(members, strip_shift, first_block, member);
	uint64_t end = raid0_member_ceil(members, strip_shift, first_block + count, member);

	*first_out = first;
	*count_out = end - first;
}

struct raid_place concat_map(const uint64_t *start, unsigned members, uint64_t block)
{
	unsigned low = 0, high = members; /* start[low] <= block < start[high] */

	while (high - low > 1) {
		unsigned middle = (low + high) / 2;

		if (start[middle] <= block)
			low = middle;
		else
			high = middle;
	}
	return (struct raid_place){
	        .member = low,
	        .offset_blocks = block - start[low],
	        .run_blocks = start[low + 1] - block,
	};
}

unsigned raid5_parity_member(unsigned members, uint64_t stripe)
{
	return members - 1 - (unsigned)(stripe % members);
}

unsigned raid5_data_member(unsigned members, uint64_t stripe, unsigned data_index)
{
	return data_index < raid5_parity_member(members, stripe) ? data_index : data_index + 1;
}

unsigned raid5_data_index(unsigned members, uint64_t stripe, unsigned member)
{
	unsigned parity = raid5_parity_member(members, stripe);

	BELLOWS_ASSERT(member != parity);
	return member < parity ? member : member - 1;
}

struct raid5_place raid5_map(unsigned members, unsigned strip_shift, uint64_t block)
{
	uint64_t strip_blocks = 1ULL << strip_shift;
	uint64_t strip = block >> strip_shift;
	uint64_t within = block & (strip_blocks - 1);
	struct raid5_place place = {
	        .stripe = strip / (members - 1),
	        .data_index = (unsigned)(strip % (members - 1)),
	        .strip_offset_blocks = within,
	        .run_blocks = strip_blocks - within,
	};

	place.parity_member = raid5_parity_member(members, place.stripe);
	place.member = raid5_data_member(members, place.stripe, place.data_index);
	place.offset_blocks = (place.stripe << strip_shift) + within;
	return place;
}

static uint64_t smallest(const uint64_t *data_blocks, unsigned members)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < members; i++)
		least = min_u64(least, data_blocks[i]);
	return least;
}

static uint64_t whole_strips(uint64_t blocks, unsigned strip_shift)
{
	return blocks >> strip_shift << strip_shift;
}

uint64_t raid0_capacity(
        const uint64_t *data_blocks, unsigned members, unsigned strip_shift, uint64_t *used_each)
{
	*used_each = whole_strips(smallest(data_blocks, members), strip_shift);
	return *used_each * members;
}

uint64_t raid1_capacity(const uint64_t *data_blocks, unsigned members, uint64_t *used_each)
{
	*used_each = smallest(data_blocks, members);
	return *used_each;
}

uint64_t raid5_capacity(
        const uint64_t *data_blocks, unsigned members, unsigned strip_shift, uint64_t *used_each)
{
	*used_each = whole_strips(smallest(data_blocks, members), strip_shift);
	return *used_each * (members - 1);
}

uint64_t concat_capacity(
        const uint64_t *data_blocks, unsigned members, unsigned strip_shift, uint64_t *used)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < members; i++) {
		used[i] = whole_strips(data_blocks[i], strip_shift);
		sum += used[i];
	}
	return sum;
}
