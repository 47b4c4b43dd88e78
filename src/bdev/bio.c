/* bio.c: how a bio comes in from its owner and how it climbs back to it. */
/* tidy: data path */
#include "base/plant.h"
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
        [BIO_ZONE_APPEND] = "zone_append",
        [BIO_ZONE_MGMT] = "zone_management",
        [BIO_ZONE_REPORT] = "zone_report",
};

const char *bio_op_name(enum bio_op op)
{
	return (unsigned)op < BIO_OPS ? op_names[op] : "unknown";
}

/* ---- up -----------------------------------------------------------------------------------------
 */

/* What the frames of a bio are counted with, all the way up: worked out once. */
struct outcome {
	struct bio *bio;
	uint64_t latency_ns, blocks;
	size_t stats_offset; /* in struct bdev_loop */
	bool ok;
};

static inline struct outcome outcome_of(struct bio *bio)
{
	return (struct outcome){.bio = bio,
	        .latency_ns = loop_now_ns(bio->loop) - bio->submit_ns,
	        .blocks = bio->num_blocks,
	        .stats_offset =
	                offsetof(struct bdev_loop, stats) + bio->op * sizeof(struct bdev_op_stats),
	        .ok = bio->status == 0};
}

static inline void count(struct bdev_loop *bl, const struct outcome *outcome)
{
	struct bdev_op_stats *stats = (void *)((char *)bl + outcome->stats_offset);

	if (unlikely(!outcome->ok)) {
		stats->errors++;
		return;
	}
	stats->ops++;
	stats->blocks += outcome->blocks;
	stats->latency_sum_ns += outcome->latency_ns;
	if (unlikely(outcome->latency_ns > stats->latency_max_ns))
		stats->latency_max_ns = outcome->latency_ns;
	if (unlikely(outcome->latency_ns < stats->latency_min_ns))
		stats->latency_min_ns = outcome->latency_ns;
}

static __attribute__((noinline)) void popped_gated(
        struct bio *bio, struct bdev_loop *bl, uint64_t latency_ns)
{
	if (bl->gate & GATE_HISTOGRAM)
		bdev_histogram_count(bl, bio, latency_ns);
	if ((bl->gate & GATE_DRAIN) && bl->inflight[bl->epoch ^ 1] == 0)
		bdev_gate_drained(bl);
}

/*
 * Takes the frame off: accounts for it and frees what it holds. The bdev may be gone as soon as its
 * count is down, so that comes last.
 */
static inline void pop(struct bio_frame *frame, const struct outcome *outcome)
{
	struct bdev_loop *bl = frame->loop_part;
	unsigned epoch = frame->epoch;

	BELLOWS_CHECKED(!(frame->flags & FRAME_SPLIT));
	if (unlikely(frame->flags != 0)) {
		if (frame->flags & FRAME_BOUNCE) {
			bio_bounce_free(outcome->bio, frame);
			bl = bio_bdev_loop(outcome->bio, frame->bdev);
		}
		if (frame->flags & FRAME_UNCOUNTED)
			return;
	}
	count(bl, outcome);
#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
	memset(frame, 0xa5, sizeof(*frame));
	BELLOWS_ASSERT(bl->inflight[epoch] > 0);
#endif
	bl->inflight[epoch] -= !(PLANT(INFLIGHT_LEAK) && !outcome->ok);
	if (unlikely((bl->gate & (GATE_DRAIN | GATE_HISTOGRAM)) != 0))
		popped_gated(outcome->bio, bl, outcome->latency_ns);
}

void bio_told(struct loop_task *task)
{
	BELLOWS_ASSERT(!task);
}

void bio_goes_up(struct loop_task *task)
{
	BELLOWS_ASSERT(!task);
}

/* What its done has made of the bio, whose memory is still there: nothing is completed in place. */
static inline bool goes_up(struct bio *bio)
{
	if (bio->task.run == bio_goes_up)
		return true;
	if (bio->task.run == bio_told)
		bio->task.run = NULL; /* it is too late to say so */
	return false;
}

/*
 * From the given frame up, takes off what does not want to know, and tells the first that does; the
 * owner at last. with_own: the frame's layer has completed the bio, so its frame goes first.
 */
static inline void climb(struct bio *bio, bool with_own)
{
	struct outcome outcome = outcome_of(bio);
	struct bio_frame *frame = bio->frame;

	for (; frame >= bio->frames; frame--) {
		if (!with_own && frame->done) {
			bio->frame = frame;
			BIO_CHECK_SET(bio, BIO_HELD);
			bio->task.run = bio_told;
			frame->done(bio);
			if (!goes_up(bio))
				return;
			outcome = outcome_of(bio);
		}
		with_own = false;
		pop(frame, &outcome);
	}
	BIO_CHECK_SET(bio, BIO_OWNED);
	bio->done(bio);
	if (PLANT(COMPLETED_TWICE) && bio->num_blocks == 5)
		bio->done(bio);
}

void bio_up_from(struct bio *bio, bio_fn done)
{
	if (done) {
		bio->task.run = bio_told;
		done(bio);
		if (!goes_up(bio))
			return;
	}
	climb(bio, true);
}

void bio_advance(struct loop_task *task)
{
	struct bio *bio = container_of(task, struct bio, task);

	BELLOWS_CHECKED(bio->check == BIO_COMPLETED);
	climb(bio, true);
}

static void advance_refused(struct loop_task *task)
{
	struct bio *bio = container_of(task, struct bio, task);

	BELLOWS_CHECKED(bio->check == BIO_COMPLETED);
	climb(bio, false);
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
        [BIO_READ] = BIO_STALE_OK | BIO_META | BIO_RANGE_OWNER,
        [BIO_WRITE] = BIO_FUA | BIO_META | BIO_RANGE_OWNER,
        [BIO_UNMAP] = BIO_RANGE_OWNER,
        [BIO_WRITE_ZEROES] = BIO_FUA | BIO_NO_UNMAP | BIO_RANGE_OWNER,
        [BIO_COMPARE] = BIO_RANGE_OWNER,
        [BIO_BLOCK_STATUS] = BIO_RANGE_OWNER,
        [BIO_ZONE_APPEND] = BIO_FUA | BIO_RANGE_OWNER,
        [BIO_ZONE_MGMT] = BIO_ZONE_ALL | BIO_RANGE_OWNER,
        [BIO_ZONE_REPORT] = BIO_RANGE_OWNER,
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

	if (unlikely(bio->num_blocks > size_blocks ||
	             offset_blocks > size_blocks - bio->num_blocks + PLANT(LAST_BLOCK_PAST_END)))
		return -EINVAL;
	if (unlikely(bio->num_blocks == 0))
		return bio->need & OPS_THAT_ANSWER ? -EINVAL : 1;
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
	bio->loop_offset = loop->id * (uint32_t)sizeof(struct bdev_loop);
	bio->frame = bio_no_frame(bio);
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
