#include "math/raid5.h"

static uint64_t strip_blocks(const struct raid5_piece *piece)
{
	return 1ULL << piece->strip_shift;
}

static struct raid5_rows clip(struct raid5_rows rows, struct raid5_rows to)
{
	uint64_t lo = max_u64(rows.lo, to.lo), hi = min_u64(rows.hi, to.hi);

	return lo < hi ? (struct raid5_rows){lo, hi} : (struct raid5_rows){to.lo, to.lo};
}

struct raid5_piece raid5_piece(
        unsigned members, unsigned strip_shift, uint64_t block, uint64_t count)
{
	struct raid5_place place = raid5_map(members, strip_shift, block);
	uint64_t strip = 1ULL << strip_shift;
	struct raid5_piece piece = {
	        .members = members,
	        .strip_shift = strip_shift,
	        .stripe = place.stripe,
	        .first = ((uint64_t)place.data_index << strip_shift) + place.strip_offset_blocks,
	        .parity = place.parity_member,
	};
	uint64_t left = ((uint64_t)(members - 1) << strip_shift) - piece.first;
	uint64_t reach;

	piece.count = min_u64(count, left);
	/* The end of one strip and the beginning of the next, without a row in common. */
	reach = place.strip_offset_blocks + piece.count;
	if (reach > strip && reach < 2 * strip && reach - strip < place.strip_offset_blocks)
		piece.count = place.run_blocks;
	return piece;
}

struct raid5_rows raid5_touched(const struct raid5_piece *piece, unsigned data_index)
{
	uint64_t begin = (uint64_t)data_index << piece->strip_shift;
	uint64_t lo = max_u64(begin, piece->first);
	uint64_t hi = min_u64(begin + strip_blocks(piece), piece->first + piece->count);

	return lo < hi ? (struct raid5_rows){lo - begin, hi - begin} : (struct raid5_rows){0, 0};
}

struct raid5_rows raid5_hull(const struct raid5_piece *piece)
{
	uint64_t strip = strip_blocks(piece), lo = piece->first & (strip - 1);

	/* A second strip begins at row 0, and has what the first has before its rows. */
	if (lo + piece->count > strip)
		return (struct raid5_rows){0, strip};
	return (struct raid5_rows){lo, lo + piece->count};
}

/* What can be done at all, by who can't be read. */
static bool can(
        const struct raid5_piece *piece, const struct raid5_plan *plan, enum raid5_trust trust)
{
	struct raid5_rows touched;
	bool blind = plan->blind != RAID5_NOBODY;
	bool blind_parity = plan->blind == piece->parity;

	if (plan->mode == RAID5_MODIFY && (blind_parity || trust == RAID5_TRUST_WRITTEN))
		return false;
	if (plan->mode == RAID5_ALL)
		return blind && !blind_parity && trust != RAID5_TRUST_NONE;
	if (!blind || blind_parity)
		return true;
	touched = clip(raid5_touched(piece, raid5_index_of(piece, plan->blind)), plan->rows);
	if (plan->mode == RAID5_RECONSTRUCT)
		return raid5_rows_len(touched) == raid5_rows_len(plan->rows);
	return raid5_rows_len(touched) == 0;
}

struct raid5_plan raid5_plan_write(const struct raid5_piece *piece, struct raid5_rows rows,
        uint8_t blind, bool parity_gone, enum raid5_trust trust)
{
	static const enum raid5_mode modes[] = {RAID5_RECONSTRUCT, RAID5_MODIFY, RAID5_ALL};
	struct raid5_plan plan = {.rows = rows, .blind = blind}, best = plan;
	uint64_t best_blocks = UINT64_MAX;

	best.mode = RAID5_IMPOSSIBLE;
	if (parity_gone) {
		best.mode = RAID5_BLIND;
		return best;
	}
	/* Whoever can't be read: nothing has to be. */
	if (raid5_is_whole(piece)) {
		best.mode = RAID5_FULL;
		return best;
	}
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		uint64_t blocks = 0;

		plan.mode = modes[i];
		if (!can(piece, &plan, trust))
			continue;
		for (unsigned m = 0; m < piece->members; m++)
			blocks += raid5_rows_len(raid5_plan_read(piece, &plan, m));
		if (blocks < best_blocks) {
			best = plan;
			best_blocks = blocks;
		}
	}
	if (best.mode == RAID5_RECONSTRUCT && best_blocks == 0)
		best.mode = RAID5_FULL;
	return best;
}

struct raid5_rows raid5_plan_read(
        const struct raid5_piece *piece, const struct raid5_plan *plan, unsigned member)
{
	struct raid5_rows none = {plan->rows.lo, plan->rows.lo}, touched;

	if (plan->mode == RAID5_ALL)
		return member == plan->blind ? none : plan->rows;
	if (member == piece->parity)
		return plan->mode == RAID5_MODIFY ? plan->rows : none;
	touched = clip(raid5_touched(piece, raid5_index_of(piece, member)), plan->rows);
	if (plan->mode == RAID5_MODIFY)
		return touched;
	if (plan->mode != RAID5_RECONSTRUCT)
		return none;
	if (raid5_rows_len(touched) == 0)
		return plan->rows;
	/* Of a strip that is touched in part, one end is. */
	if (touched.lo > plan->rows.lo)
		return (struct raid5_rows){plan->rows.lo, touched.lo};
	return (struct raid5_rows){touched.hi, plan->rows.hi};
}

struct raid5_rows raid5_plan_data(
        const struct raid5_piece *piece, const struct raid5_plan *plan, unsigned data_index)
{
	return clip(raid5_touched(piece, data_index), plan->rows);
}
