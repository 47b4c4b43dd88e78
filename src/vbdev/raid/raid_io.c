/* raid_io.c: requests that go the same way in every level. */
#include "vbdev/raid/raid.h"

void raid_submit(struct bio *bio)
{
	raid_io_of(bio_bdev(bio))->raid->level->submit(bio);
}

static void submit_rounds(struct bio *bio);

static void round_done(struct bio *bio)
{
	if (bio->status != 0 || bio->frame->ctx[2] == bio_bdev(bio)->num_bases)
		bio_complete(bio, bio->status);
	else
		submit_rounds(bio);
}

static void submit_rounds(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	unsigned first = (unsigned)bio->frame->ctx[2];
	unsigned end = (unsigned)min_u64(bdev->num_bases, first + BIO_SPLIT_MAX);

	if (!bio_split_begin(bio, end - first, submit_rounds))
		return;
	for (unsigned i = first; i < end; i++) {
		if (bdev->bases[i])
			bio_split_add(bio, bdev->bases[i], 0, bio->num_blocks, 0, NULL);
	}
	bio->frame->ctx[2] = end;
	bio_split_end(bio, round_done);
}

void raid_submit_all(struct bio *bio)
{
	bio->frame->ctx[2] = 0;
	submit_rounds(bio);
}
