/*
 * raid0.c: strips that go round the members. One child per member and request: the strips of one
 * member are contiguous there, so their data is gathered. Where a gathered list would be too long,
 * there is a child per strip, in rounds.
 */
#include "math/raid_map.h"
#include "vbdev/raid/raid.h"

/* ---- data ---- */

struct gather {
	unsigned members;             /* that take part */
	unsigned iovs[BIO_SPLIT_MAX]; /* by place among them */
	uint64_t blocks[BIO_SPLIT_MAX];
	struct bio *child[BIO_SPLIT_MAX];
	struct iovec *out[BIO_SPLIT_MAX];
};

/* Goes through the strips; fills in the children's lists, or counts them when there are none. */
static bool gather_strips(const struct raid_io *io, const struct bio *bio, struct gather *g)
{
	uint64_t strip_blocks = 1ULL << io->strip_shift, at = bio_offset(bio);
	uint32_t shift = bio_bdev(bio)->block_shift;
	uint64_t left = bio->num_blocks;
	struct raid_walk walk = raid_walk_of(bio);
	unsigned member = 0;

	while (left > 0) {
		uint64_t run = min_u64(strip_blocks - (at & (strip_blocks - 1)), left);
		size_t bytes = run << shift;

		while (bytes > 0) {
			struct iovec piece = raid_walk_next(&walk, bytes);

			if (g->out[member])
				g->out[member][g->iovs[member]] = piece;
			else if (g->iovs[member] == BIO_CHILD_IOVS)
				return false;
			g->iovs[member]++;
			bytes -= piece.iov_len;
		}
		g->blocks[member] += run;
		at += run;
		left -= run;
		member = member + 1 == io->num_slots ? 0 : member + 1;
	}
	return true;
}

static void submit_strips(struct bio *bio);

static void strips_done(struct bio *bio)
{
	if (bio->status != 0 || bio->frame->ctx[2] == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		submit_strips(bio);
}

/* A child per strip, from where the last round ended. */
static void submit_strips(struct bio *bio)
{
	const struct raid_io *io = raid_io_of(bio_bdev(bio));
	uint64_t at = bio->frame->ctx[2];

	if (!bio_split_begin(bio, BIO_SPLIT_MAX, submit_strips))
		return;
	for (unsigned n = 0; n < BIO_SPLIT_MAX && at < bio->num_blocks; n++) {
		struct raid_place p =
		        raid0_map(io->num_slots, io->strip_shift, bio_offset(bio) + at);
		uint64_t run = min_u64(p.run_blocks, bio->num_blocks - at);

		bio_split_add(bio, bio_bdev(bio)->bases[p.member],
		        io->offset_blocks[p.member] + p.offset_blocks, run,
		        at << bio_bdev(bio)->block_shift, NULL);
		at += run;
	}
	bio->frame->ctx[2] = at;
	bio_split_end(bio, strips_done);
}

static void submit_gathered(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct gather g = {0};
	uint64_t strips = ((bio_offset(bio) + bio->num_blocks - 1) >> io->strip_shift) -
	                  (bio_offset(bio) >> io->strip_shift) + 1;

	g.members = (unsigned)min_u64(strips, io->num_slots);
	if (g.members > BIO_SPLIT_MAX || strips > (uint64_t)g.members * BIO_CHILD_IOVS ||
	        !gather_strips(io, bio, &g)) {
		bio->frame->ctx[2] = 0;
		submit_strips(bio);
		return;
	}
	if (!bio_split_begin(bio, g.members, submit_gathered))
		return;
	for (unsigned i = 0; i < g.members; i++) {
		g.child[i] = bio_split_prepare(bio, NULL);
		g.out[i] = bio_child_iovs(g.child[i], g.iovs[i]);
		g.iovs[i] = 0;
		g.blocks[i] = 0;
	}
	gather_strips(io, bio, &g);
	for (unsigned i = 0; i < g.members; i++) {
		/* The first strip on this member. */
		uint64_t at = i == 0 ? bio_offset(bio)
		                     : ((bio_offset(bio) >> io->strip_shift) + i)
		                               << io->strip_shift;
		struct raid_place p = raid0_map(io->num_slots, io->strip_shift, at);

		bio_child_submit(g.child[i], bdev->bases[p.member],
		        io->offset_blocks[p.member] + p.offset_blocks, g.blocks[i]);
	}
	bio_split_end(bio, NULL);
}

/* ---- ranges without data ---- */

static void submit_ranges(struct bio *bio);

static void ranges_done(struct bio *bio)
{
	if (bio->status != 0 || bio->frame->ctx[2] == raid_io_of(bio_bdev(bio))->num_slots)
		bio_complete(bio, bio->status);
	else
		submit_ranges(bio);
}

static void submit_ranges(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	unsigned first = (unsigned)bio->frame->ctx[2];
	unsigned end = (unsigned)min_u64(io->num_slots, first + BIO_SPLIT_MAX);

	if (!bio_split_begin(bio, end - first, submit_ranges))
		return;
	for (unsigned i = first; i < end; i++) {
		uint64_t offset, count;

		raid0_member_range(io->num_slots, io->strip_shift, bio_offset(bio), bio->num_blocks,
		        i, &offset, &count);
		if (count > 0)
			bio_split_add(
			        bio, bdev->bases[i], io->offset_blocks[i] + offset, count, 0, NULL);
	}
	bio->frame->ctx[2] = end;
	bio_split_end(bio, ranges_done);
}

static void raid0_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct raid_place p;

	if (bio->op == BIO_FLUSH || bio->op == BIO_RESET) {
		raid_submit_all(bio);
		return;
	}
	p = raid0_map(io->num_slots, io->strip_shift, bio_offset(bio));
	if (likely(bio->num_blocks <= p.run_blocks) || io->num_slots == 1) {
		bio_forward(bio, bdev->bases[p.member],
		        io->offset_blocks[p.member] + p.offset_blocks, NULL);
	} else if (bio->op == BIO_READ || bio->op == BIO_WRITE) {
		submit_gathered(bio);
	} else {
		bio->frame->ctx[2] = 0;
		submit_ranges(bio);
	}
}

static uint64_t capacity(const struct raid *raid, const uint64_t *data_blocks)
{
	uint64_t each;

	return raid0_capacity(data_blocks, raid->num_slots, raid->io.strip_shift, &each);
}

static uint64_t used(const struct raid *raid, uint64_t array_blocks, unsigned slot)
{
	(void)slot;
	return array_blocks / raid->num_slots;
}

const struct raid_level raid0_level = {
        .name = "raid0",
        .short_name = "0",
        .number = 0,
        .members_min = 1,
        .members_max = RAID_SLOTS_MAX,
        .strips = true,
        .submit = raid0_submit,
        .capacity = capacity,
        .used = used,
};
