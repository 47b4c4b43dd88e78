/*
 * Writes into stripes, as they are planned, against a slow reference that knows each byte: for all
 * sets of members that can't be read or written, all sizes of arrays from 3 to 8, and ranges of any
 * alignment. What was written, and what was not, must be there, from any members that suffice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "math/raid5.h"
#include "math/xor.h"
#include "tests/lib/rng.h"

#define MEMBERS_MAX 8U
#define SHIFT_MAX 5U
#define STRIPES 9U
#define STRIP_MAX (1U << SHIFT_MAX)
#define POISON 0xa5

/* A block is a byte. */
struct array {
	unsigned members, shift;
	uint8_t disk[MEMBERS_MAX][STRIPES * STRIP_MAX];
	uint8_t data[STRIPES * STRIP_MAX * MEMBERS_MAX]; /* what it must hold */
	bool known[STRIPES * STRIP_MAX * MEMBERS_MAX];   /* it must; the rest may be anything */
};

static uint64_t blocks_of(const struct array *a)
{
	return (uint64_t)STRIPES * (a->members - 1) << a->shift;
}

/* The layout as the format is described, block by block. */
static uint8_t *slow_place(struct array *a, uint64_t block)
{
	uint64_t strip = 1ULL << a->shift, d = a->members - 1;
	uint64_t stripe = block / (strip * d), within = block % (strip * d);
	uint64_t parity = d - stripe % a->members, slot = within / strip;

	return &a->disk[slot < parity ? slot : slot + 1][stripe * strip + within % strip];
}

static void fill(struct array *a, unsigned members, unsigned shift, struct rng *rng)
{
	memset(a, 0, sizeof(*a));
	a->members = members;
	a->shift = shift;
	memset(a->known, true, sizeof(a->known));
	for (uint64_t b = 0; b < blocks_of(a); b++)
		*slow_place(a, b) = a->data[b] = (uint8_t)rng_next(rng);
	for (uint64_t stripe = 0; stripe < STRIPES; stripe++) {
		unsigned parity = members - 1 - (unsigned)(stripe % members);

		for (uint64_t row = stripe << shift; row < (stripe + 1) << shift; row++) {
			uint8_t sum = 0;

			for (unsigned m = 0; m < members; m++)
				sum ^= m == parity ? 0 : a->disk[m][row];
			a->disk[parity][row] = sum;
		}
	}
}

/* ---- a piece, done as the level does it ---- */

struct regions {
	uint8_t bytes[MEMBERS_MAX + 1][STRIP_MAX];
	struct iovec iov[MEMBERS_MAX + 1];
	struct xor_view views[2 * MEMBERS_MAX + 1];
	unsigned num_views;
};

static void add_view(struct regions *r, size_t lo, size_t hi, const struct iovec *iov, size_t skip)
{
	if (lo < hi)
		r->views[r->num_views++] = (struct xor_view){lo, hi, iov, skip};
}

/* Old data of the blind strip, where all others have been read. */
static void make_up(const struct array *a, const struct raid5_plan *plan, struct regions *r)
{
	for (unsigned m = 0; m < a->members; m++) {
		if (m != plan->blind)
			add_view(r, plan->rows.lo, plan->rows.hi, &r->iov[m], 0);
	}
	xor_views(r->bytes[plan->blind], plan->rows.lo, plan->rows.hi, r->views, r->num_views);
	r->num_views = 0;
}

static void run_plan(struct array *a, const struct raid5_piece *piece,
        const struct raid5_plan *plan, uint8_t gone, const struct iovec *data)
{
	struct regions r = {.num_views = 0};
	uint64_t base = piece->stripe << a->shift;
	uint8_t parity[STRIP_MAX];

	for (unsigned m = 0; m < a->members; m++) {
		struct raid5_rows rows = raid5_plan_read(piece, plan, m);

		r.iov[m] = (struct iovec){r.bytes[m], STRIP_MAX};
		if (raid5_rows_len(rows) == 0)
			continue;
		assert_true(m != plan->blind && m != gone);
		assert_true(rows.lo >= plan->rows.lo && rows.hi <= plan->rows.hi);
		memcpy(r.bytes[m], &a->disk[m][base + rows.lo], raid5_rows_len(rows));
	}
	if (plan->mode == RAID5_ALL)
		make_up(a, plan, &r);
	if (plan->mode == RAID5_ALL && plan->blind != gone)
		memcpy(&a->disk[plan->blind][base + plan->rows.lo], r.bytes[plan->blind],
		        raid5_rows_len(plan->rows));
	for (unsigned m = 0; m < a->members && plan->mode != RAID5_BLIND; m++) {
		struct raid5_rows rows = raid5_plan_read(piece, plan, m);

		if (plan->mode == RAID5_ALL) /* of the rest only what is overwritten */
			rows = m == piece->parity
			               ? plan->rows
			               : raid5_plan_data(piece, plan,
			                         raid5_data_index(a->members, piece->stripe, m));
		add_view(&r, rows.lo, rows.hi, &r.iov[m],
		        plan->mode == RAID5_ALL ? rows.lo - plan->rows.lo : 0);
	}
	for (unsigned d = 0; d + 1 < a->members; d++) {
		struct raid5_rows rows = raid5_plan_data(piece, plan, d);
		uint8_t *to =
		        &a->disk[raid5_data_member(a->members, piece->stripe, d)][base + rows.lo];

		if (raid5_rows_len(rows) == 0)
			continue;
		add_view(&r, rows.lo, rows.hi, data, raid5_skip_blocks(piece, d, rows.lo));
		if (raid5_data_member(a->members, piece->stripe, d) != gone)
			memcpy(to, (uint8_t *)data->iov_base + raid5_skip_blocks(piece, d, rows.lo),
			        raid5_rows_len(rows));
	}
	if (plan->mode == RAID5_BLIND)
		return;
	assert_true(gone != piece->parity);
	xor_views(parity, plan->rows.lo, plan->rows.hi, r.views, r.num_views);
	memcpy(&a->disk[piece->parity][base + plan->rows.lo], parity, raid5_rows_len(plan->rows));
}

/* As it must be, whoever is asked: from the members themselves, and each made up from the others.
 */
static void expect(struct array *a, uint8_t gone, const char *what)
{
	for (uint64_t b = 0; b < blocks_of(a); b++) {
		uint8_t *at = slow_place(a, b);
		unsigned member = (unsigned)(at - &a->disk[0][0]) / (STRIPES * STRIP_MAX);
		size_t row = (size_t)(at - a->disk[member]);
		uint8_t made_up = 0;

		if (!a->known[b])
			continue;
		for (unsigned m = 0; m < a->members; m++)
			made_up ^= m == member ? 0 : a->disk[m][row];
		if (member != gone && *at != a->data[b])
			fail_msg("%s: block %u is not what was written", what, (unsigned)b);
		if ((member == gone || gone == RAID5_NOBODY) && made_up != a->data[b])
			fail_msg("%s: block %u made up is not what was written", what, (unsigned)b);
	}
}

static void write_range(struct array *a, uint64_t block, uint64_t count, uint8_t blind,
        uint8_t gone, enum raid5_trust trust, struct rng *rng)
{
	char what[120];

	snprintf(what, sizeof(what), "%u members, strips of %u, %u+%u, blind %u, gone %u",
	        a->members, 1U << a->shift, (unsigned)block, (unsigned)count, blind, gone);
	for (uint64_t b = block; b < block + count; b++) {
		a->data[b] = (uint8_t)rng_next(rng);
		a->known[b] = true;
	}
	while (count > 0) {
		struct raid5_piece piece = raid5_piece(a->members, a->shift, block, count);
		struct raid5_rows hull = raid5_hull(&piece);
		struct iovec data = {&a->data[block], piece.count};
		uint64_t step = 1 + rng_below(rng, raid5_rows_len(hull));

		assert_true(piece.count > 0 && piece.count <= count);
		for (uint64_t lo = hull.lo; lo < hull.hi; lo += step) {
			struct raid5_rows rows = {lo, min_u64(lo + step, hull.hi)};
			struct raid5_plan plan =
			        raid5_plan_write(&piece, rows, blind, gone == piece.parity, trust);

			if (plan.mode == RAID5_IMPOSSIBLE)
				fail_msg("%s: no way", what);
			run_plan(a, &piece, &plan, gone, &data);
		}
		block += piece.count;
		count -= piece.count;
	}
	expect(a, gone, what);
}

static void test_every_failure_set(void **state)
{
	static struct array array, fresh;
	struct rng rng = rng_of(5);

	(void)state;
	for (unsigned members = 3; members <= MEMBERS_MAX; members++) {
		for (unsigned shift = 0; shift <= SHIFT_MAX; shift++) {
			fill(&fresh, members, shift, &rng);
			for (unsigned set = 0; set <= 2 * members; set++) {
				uint8_t gone = set < members ? (uint8_t)set : RAID5_NOBODY;
				uint8_t blind = set == 2 * members ? RAID5_NOBODY
				                                   : (uint8_t)(set % members);

				array = fresh;
				if (gone != RAID5_NOBODY)
					memset(array.disk[gone], POISON, sizeof(array.disk[gone]));
				for (unsigned i = 0; i < 60; i++) {
					uint64_t first = rng_below(&rng, blocks_of(&array));
					uint64_t most = blocks_of(&array) - first;
					uint64_t count =
					        1 + rng_below(&rng,
					                    i % 2 ? most
					                          : min_u64(most, 2ULL << shift));

					write_range(&array, first, count, blind, gone,
					        RAID5_TRUST_ALL, &rng);
				}
			}
		}
	}
}

/* Parity of rows that were never written is anything; whoever can't be read now and then. */
static void test_what_was_written_is_made_up(void **state)
{
	static struct array array;
	struct rng rng = rng_of(6);

	(void)state;
	for (unsigned members = 3; members <= MEMBERS_MAX; members++) {
		for (unsigned shift = 0; shift <= SHIFT_MAX; shift++) {
			fill(&array, members, shift, &rng);
			memset(array.known, false, sizeof(array.known));
			for (unsigned m = 0; m < members; m++) {
				for (unsigned row = 0; row < STRIPES << shift; row++)
					array.disk[m][row] = (uint8_t)rng_next(&rng);
			}
			for (unsigned i = 0; i < 200; i++) {
				uint64_t first = rng_below(&rng, blocks_of(&array));
				uint64_t most = blocks_of(&array) - first;
				uint64_t count = 1 + rng_below(&rng, min_u64(most, 2ULL << shift));
				uint8_t blind = (uint8_t)rng_below(&rng, 2 * members);

				write_range(&array, first, count,
				        blind < members ? blind : RAID5_NOBODY, RAID5_NOBODY,
				        RAID5_TRUST_WRITTEN, &rng);
			}
		}
	}
}

static void test_least_is_read(void **state)
{
	uint64_t strip = 128, stripe = 3 * strip;
	struct raid5_rows hull;
	struct raid5_piece piece;

	(void)state;
	/* All of it: nothing. */
	piece = raid5_piece(4, 7, stripe, stripe);
	assert_true(raid5_is_whole(&piece));
	assert_int_equal(
	        raid5_plan_write(&piece, raid5_hull(&piece), RAID5_NOBODY, false, RAID5_TRUST_ALL)
	                .mode,
	        RAID5_FULL);
	/* One block of four members: two reads either way. Of five, two instead of three. */
	piece = raid5_piece(4, 7, stripe + 5, 1);
	hull = raid5_hull(&piece);
	assert_true(hull.lo == 5 && hull.hi == 6);
	assert_int_equal(raid5_plan_write(&piece, hull, RAID5_NOBODY, false, RAID5_TRUST_ALL).mode,
	        RAID5_RECONSTRUCT);
	piece = raid5_piece(5, 7, 5, 1);
	assert_int_equal(
	        raid5_plan_write(&piece, raid5_hull(&piece), RAID5_NOBODY, false, RAID5_TRUST_ALL)
	                .mode,
	        RAID5_MODIFY);
	/* Two strips of three. */
	piece = raid5_piece(4, 7, 0, 2 * strip);
	assert_int_equal(
	        raid5_plan_write(&piece, raid5_hull(&piece), RAID5_NOBODY, false, RAID5_TRUST_ALL)
	                .mode,
	        RAID5_RECONSTRUCT);
	/* Parity of what was perhaps never written is made anew. */
	piece = raid5_piece(5, 7, 5, 1);
	assert_int_equal(raid5_plan_write(&piece, raid5_hull(&piece), RAID5_NOBODY, false,
	                         RAID5_TRUST_WRITTEN)
	                         .mode,
	        RAID5_RECONSTRUCT);
	/* Over a border without a row in common: two pieces, of the rows that they have. */
	piece = raid5_piece(4, 7, strip - 8, 16);
	assert_int_equal(piece.count, 8);
	/* Parity that may not be believed does not make up for anybody. */
	piece = raid5_piece(4, 7, 1, 2 * strip - 1);
	assert_int_equal(
	        raid5_plan_write(&piece, raid5_hull(&piece), 0, false, RAID5_TRUST_ALL).mode,
	        RAID5_ALL);
	assert_int_equal(
	        raid5_plan_write(&piece, raid5_hull(&piece), 0, false, RAID5_TRUST_NONE).mode,
	        RAID5_IMPOSSIBLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_every_failure_set),
	        cmocka_unit_test(test_what_was_written_is_made_up),
	        cmocka_unit_test(test_least_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
