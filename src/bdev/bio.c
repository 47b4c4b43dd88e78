/* bio.c: how a bio comes in from its owner and how it climbs back to it. */
#include "bdev/bio_core.h"

#include <errno.h>
#include <string.h>

static const char *const op_names[BIO_OPS] = {
        [BIO_READ] = "read",
        [BIO_WRITE] = "write",
        [BIO_FLUSH] = "flush",
        [BIO_UNMAP] = "unmap",
        [BIO_WRITE_ZEROES] = "write_zeroes",
        [BIO_COMPARE] = "compare",
        [BIO_RESET] = "reset",
        [BIO_BLOCK_STATUS] = "block_status",
};

const char *bio_op_name(enum bio_op op)
{
	return (unsigned)op < BIO_OPS ? op_names[op] : "unknown";
}

/* ---- up -----------------------------------------------------------------------------------------
 */

static void count_latency(struct bdev_op_stats *stats, uint64_t latency_ns)
{
	stats->latency_sum_ns += latency_ns;
	if (unlikely(latency_ns > stats->latency_max_ns))
		stats->latency_max_ns = latency_ns;
	if (unlikely(latency_ns < stats->latency_min_ns))
		stats->latency_min_ns = latency_ns;
}

/*
 * Takes the frame off: accounts for it and frees what it holds. The bdev may be gone as soon as its
 * count is down, so that comes last.
 */
static inline struct bio_frame *pop(struct bio *bio, struct bio_frame *frame)
{
	struct bdev_loop *bl = &frame->bdev->loops[bio->loop->id];
	uint8_t epoch = frame->epoch;

	BELLOWS_CHECKED(!(frame->flags & FRAME_SPLIT));
	if (unlikely(frame->flags != 0)) {
		if (frame->flags & FRAME_BOUNCE)
			bio_bounce_free(bio, frame);
		if (frame->flags & FRAME_UNCOUNTED)
			return frame - 1;
	}

	struct bdev_op_stats *stats = &bl->stats[bio->op];

	if (likely(bio->status == 0)) {
		stats->ops++;
		stats->blocks += bio->num_blocks;
		count_latency(stats, loop_now_ns(bio->loop) - bio->submit_ns);
	} else {
		stats->errors++;
	}
#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
	memset(frame, 0xa5, sizeof(*frame));
	BELLOWS_ASSERT(bl->inflight[epoch] > 0);
#endif
	bl->inflight[epoch]--;
	if (unlikely((bl->gate & (GATE_DRAIN | GATE_HISTOGRAM)) != 0)) {
		if (bl->gate & GATE_HISTOGRAM)
			bdev_histogram_count(bl, bio, loop_now_ns(bio->loop) - bio->submit_ns);
		if ((bl->gate & GATE_DRAIN) && bl->inflight[bl->epoch ^ 1] == 0)
			bdev_gate_drained(bl);
	}
	return frame - 1;
}

/* Tells the first that wants to know, from the given frame up; the owner at last. */
static inline void climb(struct bio *bio, struct bio_frame *frame)
{
	while (frame >= bio->frames) {
		if (frame->done) {
			bio->frame = frame;
			BIO_CHECK_SET(bio, BIO_HELD);
			frame->done(bio);
			return;
		}
		frame = pop(bio, frame);
	}
	BIO_CHECK_SET(bio, BIO_OWNED);
	bio->done(bio);
}

void bio_advance(struct loop_task *task)
{
	struct bio *bio = container_of(task, struct bio, task);

	BELLOWS_CHECKED(bio->check == BIO_COMPLETED);
	climb(bio, pop(bio, bio->frame));
}

static void advance_refused(struct loop_task *task)
{
	struct bio *bio = container_of(task, struct bio, task);

	BELLOWS_CHECKED(bio->check == BIO_COMPLETED);
	climb(bio, bio->frame);
}

void bio_refuse(struct bio *bio, int status)
{
	BELLOWS_CHECKED(bio->check == BIO_HELD);
	BIO_CHECK_SET(bio, BIO_COMPLETED);
	bio->status = status;
	bio->task.run = advance_refused;
	loop_defer(bio->loop, &bio->task);
}

/* ---- in -----------------------------------------------------------------------------------------
 */

static const uint8_t flags_allowed[BIO_OPS] = {
        [BIO_READ] = BIO_RANGE_OWNER,
        [BIO_WRITE] = BIO_FUA | BIO_RANGE_OWNER,
        [BIO_UNMAP] = BIO_RANGE_OWNER,
        [BIO_WRITE_ZEROES] = BIO_FUA | BIO_NO_UNMAP | BIO_RANGE_OWNER,
        [BIO_COMPARE] = BIO_RANGE_OWNER,
        [BIO_BLOCK_STATUS] = BIO_RANGE_OWNER,
};

static bool has_data(const struct bio *bio, uint64_t bytes)
{
	uint64_t left = bytes + bio->iov_skip_bytes;

	if (bytes > BIO_DATA_MAX_BYTES || bio->iov_skip_bytes > BIO_DATA_MAX_BYTES)
		return false;
	for (uint32_t i = 0; i < bio->iovcnt; i++) {
		if (bio->iov[i].iov_len >= left)
			return true;
		left -= bio->iov[i].iov_len;
	}
	return left == 0;
}

/* 0: may enter; 1: there is nothing to do; or -errno. */
static int check(const struct bdev *bdev, const struct bio *bio, uint64_t offset_blocks)
{
	uint64_t size_blocks = bdev_num_blocks(bdev);

	if (unlikely(
	            bio->num_blocks > size_blocks || offset_blocks > size_blocks - bio->num_blocks))
		return -EINVAL;
	if (unlikely(bio->num_blocks == 0))
		return bio->op == BIO_BLOCK_STATUS ? -EINVAL : 1;
	if ((BIO_CAP(bio->op) & OPS_WITH_DATA) &&
	        unlikely(!has_data(bio, bio->num_blocks << bdev->block_shift)))
		return -EINVAL;
	return 0;
}

static inline void submit(
        struct bdev *bdev, struct bio *bio, uint64_t offset_blocks, bool may_write)
{
	struct loop *loop = loop_self();
	int status;

	BELLOWS_CHECKED(loop && bio->check == BIO_OWNED);
	BIO_CHECK_SET(bio, BIO_HELD);
	bio->loop = loop;
	bio->frame = bio->frames - 1;
	bio->submit_ns = loop_now_ns(loop);

	if (unlikely(bio->op >= BIO_OPS || (bio->flags & ~flags_allowed[bio->op]) != 0)) {
		bio_refuse(bio, -EINVAL);
		return;
	}
	bio->need = bio_need(bio);
	if (unlikely(!may_write && (bio->need & OPS_THAT_WRITE))) {
		bio_refuse(bio, -EBADF);
		return;
	}
	if (unlikely(bio->need & OPS_WITHOUT_RANGE)) {
		bio->num_blocks = 0;
		offset_blocks = 0;
	} else {
		status = check(bdev, bio, offset_blocks);
		if (unlikely(status != 0)) {
			bio_refuse(bio, status < 0 ? status : 0);
			return;
		}
	}
	bio_enter(bio, bdev, offset_blocks);
}

void bio_submit(struct bdev_handle *handle, struct bio *bio, uint64_t offset_blocks)
{
	submit(handle->bdev, bio, offset_blocks, handle->write);
}

void bio_submit_bdev(struct bdev *bdev, struct bio *bio, uint64_t offset_blocks)
{
	submit(bdev, bio, offset_blocks, true);
}
