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

/* ---- data ---- */

struct raid_walk raid_walk_of(const struct bio *bio)
{
	struct raid_walk w = {
	        .iov = bio->iov, .end = bio->iov + bio->iovcnt, .skip = bio->iov_skip_bytes};

	while (w.iov < w.end && w.skip >= w.iov->iov_len)
		w.skip -= (w.iov++)->iov_len;
	return w;
}

struct iovec raid_walk_next(struct raid_walk *w, size_t bytes)
{
	while (w->skip == w->iov->iov_len) {
		w->iov++;
		w->skip = 0;
		BELLOWS_CHECKED(w->iov < w->end);
	}
	size_t left = w->iov->iov_len - w->skip;
	struct iovec piece = {(uint8_t *)w->iov->iov_base + w->skip, left < bytes ? left : bytes};

	w->skip += piece.iov_len;
	return piece;
}

/* ---- requests that wait for a record ---- */

void raid_park(struct bio *bio)
{
	struct raid_loop *state = bdev_loop_state(bio_bdev(bio), bio->loop);

	bio->task.next = state->parked;
	state->parked = &bio->task;
}

void raid_release(struct loop_task *task)
{
	struct raid_loop *state = container_of(task, struct raid_loop, release);
	const struct raid_io *io = raid_io_of(state->bdev);
	struct loop_task *next;

	__atomic_store_n(&state->release_sent, false, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&io->unsettled, __ATOMIC_ACQUIRE) != 0)
		return; /* there will be another message */
	next = state->parked;
	state->parked = NULL;
	for (struct loop_task *at = next; at; at = next) {
		next = at->next;
		io->raid->level->settle(container_of(at, struct bio, task));
	}
}
