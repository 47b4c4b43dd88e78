/*
 * The mapping formulas against a slow reference that lays out a small array block by block: every
 * block is somewhere, nothing is there twice, and the way back leads to it.
 */
#include "math/raid_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MEMBERS_MAX 8
#define ROWS 20
#define NOTHING UINT64_MAX

struct layout {
	unsigned members, strip_shift;
	uint64_t strip_blocks, blocks;      /* of the array */
	uint64_t at[MEMBERS_MAX][ROWS * 8]; /* [member][block]: the array's block; NOTHING */
	bool parity[MEMBERS_MAX][ROWS * 8];
};

/* As the layouts are described: strip after strip, left to right. */
static void lay_out(struct layout *l, unsigned members, unsigned shift, bool parity)
{
	uint64_t block = 0;

	memset(l, 0, sizeof(*l));
	l->members = members;
	l->strip_shift = shift;
	l->strip_blocks = 1ULL << shift;
	for (uint64_t row = 0; row < ROWS; row++) {
		unsigned at_parity = parity ? members - 1 - (unsigned)(row % members) : members;

		for (unsigned m = 0; m < members; m++) {
			for (uint64_t i = 0; i < l->strip_blocks; i++) {
				uint64_t place = row * l->strip_blocks + i;

				l->parity[m][place] = m == at_parity;
				l->at[m][place] = m == at_parity ? NOTHING : block++;
			}
		}
	}
	l->blocks = block;
}

static void check_raid0(const struct layout *l)
{
	for (unsigned m = 0; m < l->members; m++) {
		for (uint64_t place = 0; place < ROWS * l->strip_blocks; place++) {
			uint64_t block = l->at[m][place];
			struct raid_place found = raid0_map(l->members, l->strip_shift, block);

			assert_int_equal(found.member, m);
			assert_int_equal(found.offset_blocks, place);
			assert_int_equal(
			        found.run_blocks, l->strip_blocks - place % l->strip_blocks);
			assert_int_equal(raid0_unmap(l->members, l->strip_shift, m, place), block);
		}
	}
}

static void check_raid0_ranges(const struct layout *l)
{
	uint64_t limit = min_u64(l->blocks, 4 * l->members * l->strip_blocks);

	for (uint64_t first = 0; first < limit; first++) {
		for (uint64_t count = 1; first + count <= limit; count += 1 + count / 7) {
			for (unsigned m = 0; m < l->members; m++) {
				uint64_t begin = NOTHING, n = 0, got, got_count;

				for (uint64_t p = 0; p < ROWS * l->strip_blocks; p++) {
					uint64_t block = l->at[m][p];

					if (block < first || block >= first + count)
						continue;
					begin = begin == NOTHING ? p : begin;
					assert_int_equal(p, begin + n);
					n++;
				}
				raid0_member_range(l->members, l->strip_shift, first, count, m,
				        &got, &got_count);
				assert_int_equal(got_count, n);
				if (n)
					assert_int_equal(got, begin);
			}
		}
	}
}

static void test_raid0(void **state)
{
	static struct layout l;

	(void)state;
	for (unsigned members = 1; members <= MEMBERS_MAX; members++) {
		for (unsigned shift = 0; shift <= 3; shift++) {
			lay_out(&l, members, shift, false);
			check_raid0(&l);
			if (shift <= 1)
				check_raid0_ranges(&l);
		}
	}
}

static void check_raid5(const struct layout *l)
{
	for (unsigned m = 0; m < l->members; m++) {
		for (uint64_t place = 0; place < ROWS * l->strip_blocks; place++) {
			uint64_t stripe = place / l->strip_blocks, block = l->at[m][place];

			assert_int_equal(
			        raid5_parity_member(l->members, stripe) == m, l->parity[m][place]);
			if (l->parity[m][place])
				continue;
			struct raid5_place found = raid5_map(l->members, l->strip_shift, block);

			assert_int_equal(found.stripe, stripe);
			assert_int_equal(found.member, m);
			assert_int_equal(found.offset_blocks, place);
			assert_int_equal(found.strip_offset_blocks, place % l->strip_blocks);
			assert_int_equal(
			        found.run_blocks, l->strip_blocks - place % l->strip_blocks);
			assert_true(l->parity[found.parity_member][place]);
			assert_int_equal(
			        raid5_data_member(l->members, stripe, found.data_index), m);
			assert_int_equal(raid5_data_index(l->members, stripe, m), found.data_index);
		}
	}
}

static void test_raid5(void **state)
{
	static struct layout l;

	(void)state;
	for (unsigned members = 2; members <= MEMBERS_MAX; members++) {
		for (unsigned shift = 0; shift <= 3; shift++) {
			lay_out(&l, members, shift, true);
			check_raid5(&l);
		}
	}
}

static void test_concat(void **state)
{
	const uint64_t sizes[] = {5, 8, 0, 17, 3};
	uint64_t used[5], start[6], block = 0;

	(void)state;
	assert_int_equal(concat_capacity(sizes, 5, 2, used), 4 + 8 + 0 + 16 + 0);
	for (unsigned i = 0; i < 5; i++) {
		start[i] = block;
		block += sizes[i] / 4 * 4;
	}
	start[5] = block;
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(used[i], sizes[i] / 4 * 4);
		for (uint64_t b = start[i]; b < start[i] + used[i]; b++) {
			struct raid_place found = concat_map(start, 5, b);

			assert_int_equal(found.member, i);
			assert_int_equal(found.offset_blocks, b - start[i]);
			assert_int_equal(found.run_blocks, start[i] + used[i] - b);
		}
	}
}

static void test_capacity(void **state)
{
	const uint64_t sizes[] = {100, 71, 90, 200};
	uint64_t used;

	(void)state;
	assert_int_equal(raid0_capacity(sizes, 4, 3, &used), 64 * 4);
	assert_int_equal(used, 64);
	assert_int_equal(raid1_capacity(sizes, 4, &used), 71);
	assert_int_equal(used, 71);
	assert_int_equal(raid5_capacity(sizes, 4, 3, &used), 64 * 3);
	assert_int_equal(used, 64);
	assert_int_equal(raid0_capacity(sizes, 4, 7, &used), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_raid0),
	        cmocka_unit_test(test_raid5),
	        cmocka_unit_test(test_concat),
	        cmocka_unit_test(test_capacity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
