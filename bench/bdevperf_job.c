/* bdevperf_job.c: keeps `depth` requests in flight, and takes the time of some of them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/bdevperf.h"

/*
 * Looking at the clock twice takes about 50 ns, so only so many requests are timed that it makes up
 * no more than about 2 % of the time: every one of a slow bdev, one of a hundred of the fastest.
 */
#define SAMPLE_COST_NS 2500
#define SAMPLE_EVERY_MAX 4096

uint64_t job_random(struct job *job)
{
	uint64_t x = job->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	job->random = x;
	return x * 0x2545f4914f6cdd1dULL;
}

static inline uint64_t random_position(struct job *job)
{
	return (uint64_t)(((unsigned __int128)job_random(job) * job->positions) >> 64);
}

static inline uint64_t next_position(struct job *job)
{
	uint64_t position = job->position++;

	if (unlikely(job->position == job->positions))
		job->position = 0;
	return position;
}

/* ---- one request -------------------------------------------------------------------------------
 */

static void set_sampling(struct job *job)
{
	uint64_t now_ns = loop_clock_ns(), ios = job->ios - job->counted_ios;
	uint64_t ns = now_ns - job->counted_ns;
	uint64_t every = ns ? SAMPLE_COST_NS * ios / ns : SAMPLE_EVERY_MAX;

	job->sample_every = every == 0                 ? 1
	                    : every > SAMPLE_EVERY_MAX ? SAMPLE_EVERY_MAX
	                                               : (uint32_t)every;
	job->counted_ios = job->ios;
	job->counted_ns = now_ns;
}

static void take_time(struct slot *slot)
{
	struct job *job = slot->job;

	if (!job->measured)
		latency_add(&job->result.latency, loop_clock_ns() - slot->start_ns);
	slot->start_ns = 0;
	if (job->result.latency.samples % 64 == 0)
		set_sampling(job);
}

static void done(struct bio *bio)
{
	struct slot *slot = container_of(bio, struct slot, bio);
	struct job *job = slot->job;

	job->ios++;
	if (unlikely(slot->start_ns != 0))
		take_time(slot);
	if (unlikely(bio->status != 0))
		job_failed(job, bio->status);
	if (likely(job->running))
		job->next(slot);
	else
		job_slot_rests(slot);
}

static inline void submit(struct slot *slot, enum bio_op op, uint64_t position)
{
	struct job *job = slot->job;

	bio_init(&slot->bio, op, slot->iov.iov_base ? &slot->iov : NULL, slot->iov.iov_base ? 1 : 0,
	        job->io_blocks, done, NULL);
	/* The memory holds nothing but our own: a bdev without storage need not fill it. */
	if (op == BIO_READ)
		slot->bio.flags = BIO_STALE_OK;
	if (unlikely(--job->until_sample == 0)) {
		job->until_sample = job->sample_every;
		slot->start_ns = loop_clock_ns();
	}
	bio_submit(job->handle, &slot->bio, job->first_block + position * job->io_blocks);
}

/* ---- workloads ---------------------------------------------------------------------------------
 */

static void next_sequential(struct slot *slot)
{
	submit(slot, slot->job->op, next_position(slot->job));
}

static void next_random(struct slot *slot)
{
	submit(slot, slot->job->op, random_position(slot->job));
}

static void next_mixed(struct slot *slot)
{
	struct job *job = slot->job;

	submit(slot, job_random(job) < job->read_below ? BIO_READ : BIO_WRITE, next_position(job));
}

static void next_random_mixed(struct slot *slot)
{
	struct job *job = slot->job;

	submit(slot, job_random(job) < job->read_below ? BIO_READ : BIO_WRITE,
	        random_position(job));
}

static const struct {
	const char *name;
	void (*next)(struct slot *slot);
	enum bio_op op;
	bool data;
} workloads[LOADS] = {
        [LOAD_READ] = {"read", next_sequential, BIO_READ, true},
        [LOAD_WRITE] = {"write", next_sequential, BIO_WRITE, true},
        [LOAD_RANDREAD] = {"randread", next_random, BIO_READ, true},
        [LOAD_RANDWRITE] = {"randwrite", next_random, BIO_WRITE, true},
        [LOAD_RW] = {"rw", next_mixed, BIO_READ, true},
        [LOAD_RANDRW] = {"randrw", next_random_mixed, BIO_READ, true},
        [LOAD_UNMAP] = {"unmap", next_sequential, BIO_UNMAP, false},
        [LOAD_WRITE_ZEROES] = {"write_zeroes", next_sequential, BIO_WRITE_ZEROES, false},
        [LOAD_FLUSH] = {"flush", next_sequential, BIO_FLUSH, false},
        [LOAD_VERIFY] = {"verify", verify_next, BIO_READ, true},
        [LOAD_ZONE_APPEND] = {"zone_append", zone_next, BIO_ZONE_APPEND, true},
        [LOAD_ZONE_RESET] = {"zone_reset", zone_next, BIO_ZONE_APPEND, true},
};

const char *workload_name(enum workload workload)
{
	return workloads[workload].name;
}

/* ---- verify, where each end of a request matters -----------------------------------------------
 */

static void verify_slot_done(struct bio *bio)
{
	struct slot *slot = container_of(bio, struct slot, bio);
	struct job *job = slot->job;

	job->ios++;
	if (slot->start_ns != 0)
		take_time(slot);
	if (bio->status != 0) {
		job_failed(job, bio->status);
	} else if (!verify_done(slot)) {
		job->result.miscompares++;
		job_failed(job, -EILSEQ);
	}
	if (job->running)
		verify_next(slot);
	else if (job->first_error || !verify_finish_next(slot))
		job_slot_rests(slot);
}

void job_submit(struct slot *slot, enum bio_op op, uint64_t position)
{
	struct job *job = slot->job;

	bio_init(&slot->bio, op, &slot->iov, 1, job->io_blocks, verify_slot_done, NULL);
	if (--job->until_sample == 0) {
		job->until_sample = job->sample_every;
		slot->start_ns = loop_clock_ns();
	}
	bio_submit(job->handle, &slot->bio, job->first_block + position * job->io_blocks);
}

static void zone_slot_done(struct bio *bio)
{
	struct slot *slot = container_of(bio, struct slot, bio);
	struct job *job = slot->job;

	if (bio->op == BIO_ZONE_APPEND || options.workload == LOAD_ZONE_RESET)
		job->ios++;
	if (slot->start_ns != 0)
		take_time(slot);
	if (!zone_done(slot, bio->status))
		job_failed(job, bio->status);
	if (job->running)
		zone_next(slot);
	else
		job_slot_rests(slot);
}

void job_submit_zone(struct slot *slot, enum bio_op op, uint64_t zone_start)
{
	struct job *job = slot->job;
	bool append = op == BIO_ZONE_APPEND;

	bio_init(&slot->bio, op, append ? &slot->iov : NULL, append,
	        append ? job->io_blocks : job->target->zone_blocks, zone_slot_done, NULL);
	slot->bio.zone_action = ZONE_RESET;
	if ((append || options.workload == LOAD_ZONE_RESET) && --job->until_sample == 0) {
		job->until_sample = job->sample_every;
		slot->start_ns = loop_clock_ns();
	}
	bio_submit(job->handle, &slot->bio, zone_start);
}

/* ---- life --------------------------------------------------------------------------------------
 */

void job_failed(struct job *job, int status)
{
	job->result.errors++;
	if (!job->first_error)
		job->first_error = status;
	if (!options.go_on || status == -ENODEV)
		job->running = false;
}

static void finish_measuring(struct job *job)
{
	if (job->measured)
		return;
	job->measured = true;
	job->result.end_ns = loop_clock_ns();
	job->result.ios = job->ios;
}

void job_slot_rests(struct slot *slot)
{
	struct job *job = slot->job;

	if (--job->busy > 0)
		return;
	finish_measuring(job);
	loop_send(loop_get(LOOP_CONTROL), job->stopped ? &job->idle : &job->ended);
}

static void begin(struct loop_task *task)
{
	struct job *job = container_of(task, struct job, begin);

	job->loop = loop_self();
	job->running = true;
	job->result.begin_ns = job->counted_ns = loop_clock_ns();
	for (unsigned i = 0; i < options.depth; i++) {
		if (job->next == zone_next)
			zone_begin(&job->slots[i]);
		job->next(&job->slots[i]);
	}
}

static void mark(struct loop_task *task)
{
	struct job *job = container_of(task, struct job, mark);
	uint64_t errors = job->result.errors, miscompares = job->result.miscompares;

	if (job->measured)
		return;
	memset(&job->result, 0, sizeof(job->result));
	job->result.errors = errors;
	job->result.miscompares = miscompares;
	job->ios = job->counted_ios = 0;
	job->result.begin_ns = job->counted_ns = loop_clock_ns();
}

/* The figures end here; verify goes on to read once more what it has written. */
static void stop(struct loop_task *task)
{
	struct job *job = container_of(task, struct job, stop);

	job->running = false;
	job->stopped = true;
	finish_measuring(job);
	if (job->busy == 0)
		loop_send(loop_get(LOOP_CONTROL), &job->idle);
}

void job_start(struct job *job)
{
	job->begin.run = begin;
	loop_send(loop_get(job->loop_id), &job->begin);
}

void job_mark(struct job *job)
{
	job->mark.run = mark;
	loop_send(loop_get(job->loop_id), &job->mark);
}

void job_stop(struct job *job)
{
	job->stop.run = stop;
	loop_send(loop_get(job->loop_id), &job->stop);
}

/* Positions are zones. */
static int set_zones(struct job *job, struct err *err)
{
	const struct target *target = job->target;

	if (target->zone_blocks == 0)
		return err_set(err, -EINVAL, "'%s' has no zones", target->name);
	job->positions = target->num_blocks / target->zone_blocks / options.loops;
	job->first_block = (job->loop_id - 1) * job->positions * target->zone_blocks;
	if (job->positions < options.depth || job->io_blocks > target->zone_blocks)
		return err_set(err, -ENOSPC,
		        "'%s' has too few zones, or too small ones: each request in flight takes "
		        "one",
		        target->name);
	return 0;
}

/* The part of the bdev that this job of several has to itself, when that matters. */
static int set_range(struct job *job, struct err *err)
{
	uint64_t all = job->target->num_blocks / job->io_blocks, share = all;

	if (options.workload == LOAD_VERIFY) {
		share = all / options.loops;
		job->first_block = (job->loop_id - 1) * share * job->io_blocks;
	}
	if (share == 0 || (options.workload == LOAD_VERIFY && share < options.depth))
		return err_set(err, -ENOSPC, "'%s' is too small for this load", job->target->name);
	job->positions = share;
	/* Jobs that go through all of it in order begin at different places. */
	if (options.workload != LOAD_VERIFY)
		job->position = share / options.loops * (job->loop_id - 1);
	return 0;
}

int job_make(struct job *job, struct target *target, unsigned loop_id, struct err *err)
{
	bool data = workloads[options.workload].data;
	size_t stride = align_up_u64(sizeof(struct slot), CACHE_LINE_BYTES);
	char *memory;

	job->target = target;
	job->loop_id = loop_id;
	job->handle = target->handle;
	job->next = workloads[options.workload].next;
	job->op = workloads[options.workload].op;
	job->random = 0x9e3779b97f4a7c15ULL * (loop_id + 1);
	job->read_below =
	        options.read_percent >= 100 ? UINT64_MAX : UINT64_MAX / 100 * options.read_percent;
	job->sample_every = job->until_sample = options.no_latency ? UINT32_MAX : 1;
	job->busy = (unsigned)options.depth;
	if (options.io_bytes % target->block_bytes != 0)
		return err_set(err, -EINVAL,
		        "%llu bytes are not a multiple of the %u-byte blocks of '%s'",
		        (unsigned long long)options.io_bytes, target->block_bytes, target->name);
	job->io_blocks = options.io_bytes / target->block_bytes;
	if ((job->next == zone_next ? set_zones(job, err) : set_range(job, err)) != 0)
		return err->code;
	if (options.workload == LOAD_VERIFY)
		job->verify = verify_make(job->positions);
	job->slots = try_alloc_aligned(CACHE_LINE_BYTES, options.depth * stride);
	if (data)
		job->memory = try_alloc_aligned(4096, options.depth * options.io_bytes);
	if (!job->slots || (data && !job->memory))
		return err_set(err, -ENOMEM, "there is not enough memory for this load");
	memory = job->memory;
	for (unsigned i = 0; i < options.depth; i++) {
		struct slot *slot = &job->slots[i];

		slot->job = job;
		if (data)
			slot->iov = (struct iovec){memory + i * options.io_bytes, options.io_bytes};
	}
	return 0;
}

void job_free(struct job *job)
{
	if (job->verify)
		verify_free(job->verify);
	free(job->slots);
	free(job->memory);
}
