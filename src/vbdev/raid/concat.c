/*
 * concat.c: one member after the other. A request that crosses from one to the next is split there.
 */
#include "math/raid_map.h"
#include "vbdev/raid/raid.h"

static void submit_parts(struct bio *bio);

static void parts_done(struct bio *bio)
{
	if (bio->status != 0 || bio->frame->ctx[2] == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		submit_parts(bio);
}

static void submit_parts(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	uint64_t at = bio->frame->ctx[2];

	if (!bio_split_begin(bio, (unsigned)min_u64(io->num_slots, BIO_SPLIT_MAX), submit_parts))
		return;
	for (unsigned n = 0; n < min_u64(io->num_slots, BIO_SPLIT_MAX) && at < bio->num_blocks;
	        n++) {
		struct raid_place p =
		        concat_map(io->start_blocks, io->num_slots, bio_offset(bio) + at);
		uint64_t run = min_u64(p.run_blocks, bio->num_blocks - at);

		bio_split_add(bio, bdev->bases[p.member],
		        io->offset_blocks[p.member] + p.offset_blocks, run, at << bdev->block_shift,
		        NULL);
		at += run;
	}
	bio->frame->ctx[2] = at;
	bio_split_end(bio, parts_done);
}

static void concat_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct raid_io *io = raid_io_of(bdev);
	struct raid_place p;

	if (bio->op == BIO_FLUSH || bio->op == BIO_RESET) {
		raid_submit_all(bio);
		return;
	}
	p = concat_map(io->start_blocks, io->num_slots, bio_offset(bio));
	if (likely(bio->num_blocks <= p.run_blocks)) {
		bio_forward(bio, bdev->bases[p.member],
		        io->offset_blocks[p.member] + p.offset_blocks, NULL);
		return;
	}
	bio->frame->ctx[2] = 0;
	submit_parts(bio);
}

/* Members keep their places: only the last may have another length than when the array was made. */
static uint64_t capacity(const struct raid *raid, const uint64_t *data_blocks)
{
	uint64_t sum = 0, blocks;

	for (unsigned i = 0; i < raid->num_slots; i++) {
		uint64_t kept = raid->slots[i].data_blocks;

		concat_capacity(&data_blocks[i], 1, raid->io.strip_shift, &blocks);
		if (blocks == 0)
			return 0; /* it could not be made again like that */
		if (i + 1 < raid->num_slots && kept) {
			if (blocks < kept)
				return 0; /* what follows would have moved */
			blocks = kept;
		}
		sum += blocks;
	}
	return sum;
}

static uint64_t used(const struct raid *raid, uint64_t array_blocks, unsigned slot)
{
	return min_u64(raid->io.start_blocks[slot + 1], array_blocks) - raid->io.start_blocks[slot];
}

const struct raid_level concat_level = {
        .name = "concat",
        .number = 99,
        .members_min = 1,
        .members_max = RAID_SLOTS_MAX,
        .strips = true,
        .submit = concat_submit,
        .capacity = capacity,
        .used = used,
};
