/*
 * raid5_job.c: rows of whole members, for what goes on behind the requests: a member's rows made up
 * from all others, or parity compared and made right. Nobody else is in those stripes meanwhile.
 */
#include <errno.h>

#include "base/plant.h"
#include "math/xor.h"
#include "vbdev/raid/raid5.h"

/* A member's share of a job. */
struct raid5_part {
	struct raid5_job *job;
	struct bio bio;
	struct iovec iov;
	uint8_t *buf;
};

static void job_end(struct raid5_job *job)
{
	struct raid *raid = job->raid;

	if (job->locked)
		bdev_range_unlock(raid->bdev, &job->range);
	job->locked = false;
	free(job->parts);
	job->parts = NULL;
	job->done(job);
	raid_bdev_unhold(raid);
}

static void submit(struct raid5_job *job, unsigned slot, enum bio_op op, uint64_t row,
        uint64_t num_rows, uint8_t *buf, bio_fn done)
{
	const struct raid_slot *member = &job->raid->slots[slot];
	struct raid5_part *part = &job->parts[slot];

	part->job = job;
	part->iov = (struct iovec){buf, num_rows * job->raid->block_bytes};
	bio_init(&part->bio, op, &part->iov, 1, num_rows, done, part);
	bio_submit_bdev(member->bdev, &part->bio, member->data_offset_blocks + row);
}

static struct raid5_job *job_of(const struct bio *bio)
{
	return ((struct raid5_part *)bio->arg)->job;
}

/* ---- one member is made up ---- */

static void copy_written(struct bio *bio)
{
	struct raid5_job *job = job_of(bio);

	job->status = bio->status;
	job->target_failed = bio->status != 0;
	job_end(job);
}

static void make_up(struct raid5_job *job)
{
	const struct raid *raid = job->raid;
	const void *src[RAID5_SLOTS_MAX];
	unsigned n = 0;

	for (unsigned m = 0; m < raid->num_slots; m++) {
		if (m != job->slot)
			src[n++] = job->parts[m].buf;
	}
	if (!raid->slots[job->slot].bdev) {
		job->status = -ENODEV;
		job->target_failed = true;
		job_end(job);
		return;
	}
	xor_gen_bytes(job->buf, src, n, raid5_rows_len(job->rows) * raid->block_bytes);
	submit(job, job->slot, BIO_WRITE, job->rows.lo, raid5_rows_len(job->rows), job->buf,
	        copy_written);
}

/* ---- parity is made right ---- */

static void mend_next(struct raid5_job *job);

static void mended(struct bio *bio)
{
	struct raid5_job *job = job_of(bio);

	if (bio->status != 0) {
		job->status = bio->status;
		job_end(job);
		return;
	}
	mend_next(job);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static uint64_t count_wrong(const uint8_t *sum, uint64_t rows, uint32_t block_bytes)
{
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < rows; i++)
		wrong += !is_zero(sum + i * block_bytes, block_bytes);
	return wrong;
}

/* From job->at on: the next stripe whose members are not zero together. Their sum is in buf. */
static void mend_next(struct raid5_job *job)
{
	const struct raid *raid = job->raid;
	unsigned shift = raid->io.strip_shift;
	uint32_t block_bytes = raid->block_bytes;

	while (job->at < job->rows.hi) {
		uint64_t row = job->at, stripe = row >> shift;
		uint64_t n = min_u64((stripe + 1) << shift, job->rows.hi) - row;
		uint8_t *sum = job->buf + (row - job->rows.lo) * block_bytes;
		unsigned parity = raid5_parity_member(raid->num_slots, stripe);
		uint8_t *old = job->parts[parity].buf + (row - job->rows.lo) * block_bytes;
		const void *src[] = {old, sum};

		job->at += n;
		if (is_zero(sum, n * block_bytes))
			continue;
		job->wrong_rows += count_wrong(sum, n, block_bytes);
		if (job->kind == RAID5_JOB_LOOK)
			continue;
		if (raid->io.readable != raid->io.all) {
			job->status = -ENODEV; /* a member has left since it was read */
			break;
		}
		xor_gen_bytes(old, src, PLANT(RAID5_REPAIR_WRONG) ? 1 : 2, n * block_bytes);
		submit(job, parity, BIO_WRITE, row, n, old, mended);
		return;
	}
	job_end(job);
}

static void compare(struct raid5_job *job)
{
	const struct raid *raid = job->raid;
	const void *src[RAID5_SLOTS_MAX];

	for (unsigned m = 0; m < raid->num_slots; m++)
		src[m] = job->parts[m].buf;
	xor_gen_bytes(
	        job->buf, src, raid->num_slots, raid5_rows_len(job->rows) * raid->block_bytes);
	job->at = job->rows.lo;
	mend_next(job);
}

/* ---- both ---- */

static void all_read(struct raid5_job *job)
{
	uint64_t all = job->raid->io.all;

	if (job->status != 0)
		job_end(job);
	else if (job->kind == RAID5_JOB_COPY)
		make_up(job);
	else if (job->raid->io.readable != all) {
		job->status = -ENODEV;
		job_end(job);
	} else {
		compare(job);
	}
}

static void was_read(struct bio *bio)
{
	struct raid5_job *job = job_of(bio);

	if (bio->status != 0)
		job->unread |= 1ULL << ((struct raid5_part *)bio->arg - job->parts);
	if (bio->status != 0 && job->status == 0)
		job->status = bio->status;
	if (--job->pending == 0)
		all_read(job);
}

static bool is_believed(const struct raid5_job *job)
{
	const struct raid_io *io = &job->raid->io;

	return (job->rows.hi <= io->valid_rows || job->rows.lo >= io->fresh_rows ||
	               raid5_is_complete(io)) &&
	       (io->unsynced == 0 ||
	               !raid_regions_unsynced(io, job->rows.lo, raid5_rows_len(job->rows)));
}

static void locked(void *arg, const struct err *err)
{
	struct raid5_job *job = arg;
	const struct raid *raid = job->raid;
	uint64_t from = raid->io.all;
	size_t bytes = raid5_rows_len(job->rows) * raid->block_bytes;
	uint8_t *buf = job->buf;

	job->locked = err == NULL;
	if (job->kind == RAID5_JOB_COPY)
		from &= ~(1ULL << job->slot);
	if (err)
		job->status = err->code;
	else if ((raid->io.readable & from) != from)
		job->status = -ENODEV;
	else if (job->kind == RAID5_JOB_COPY && !is_believed(job))
		job->status = -EIO;
	if (job->status != 0) {
		job_end(job);
		return;
	}
	/* A copy's sum goes where its first part is; a comparison has room of its own for it. */
	if (job->kind != RAID5_JOB_COPY)
		buf += bytes;
	job->pending = 1;
	for (unsigned m = 0; m < raid->num_slots; m++) {
		if (!(from >> m & 1))
			continue;
		job->parts[m].buf = buf;
		job->pending++;
		submit(job, m, BIO_READ, job->rows.lo, raid5_rows_len(job->rows), buf, was_read);
		buf += bytes;
	}
	if (--job->pending == 0)
		all_read(job);
}

void raid5_job_start(struct raid5_job *job)
{
	struct raid *raid = job->raid;
	unsigned shift = raid->io.strip_shift;
	uint64_t data = raid->num_slots - 1;
	uint64_t first = job->rows.lo >> shift, end = ((job->rows.hi - 1) >> shift) + 1;

	raid_bdev_hold(raid);
	job->status = 0;
	job->target_failed = job->locked = false;
	job->wrong_rows = job->unread = 0;
	job->parts = xcalloc(raid->num_slots, sizeof(*job->parts));
	job->range = (struct bdev_range){.offset_blocks = (first * data) << shift,
	        .num_blocks = ((end - first) * data) << shift,
	        .locked = {locked, job}};
	list_init(&job->range.link);
	bdev_range_lock(raid->bdev, &job->range);
}

/* ---- as rebuilds and cures ask for it ---- */

struct copying {
	struct raid5_job job;
	struct raid_copy *copy;
};

static void copied(struct raid5_job *job)
{
	struct copying *c = container_of(job, struct copying, job);
	struct raid_copy *copy = c->copy;

	copy->status = job->status;
	copy->target_failed = job->target_failed;
	free(c);
	copy->done(copy);
}

void raid5_copy(struct raid_copy *copy)
{
	struct copying *c = xcalloc(1, sizeof(*c));

	c->copy = copy;
	c->job.raid = copy->raid;
	c->job.kind = copy->slot == RAID_SLOTS_MAX ? RAID5_JOB_SYNC : RAID5_JOB_COPY;
	c->job.slot = copy->slot;
	c->job.rows =
	        (struct raid5_rows){copy->offset_blocks, copy->offset_blocks + copy->num_blocks};
	if (PLANT(RAID5_RESYNC_SHORT) && c->job.kind == RAID5_JOB_SYNC)
		c->job.rows.hi--;
	c->job.buf = copy->buf;
	c->job.done = copied;
	raid5_job_start(&c->job);
}
