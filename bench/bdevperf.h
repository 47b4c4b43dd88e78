/*
 * bdevperf.h: what the files of the load generator share.
 *
 * A job is the load on one bdev from one data loop: `depth` slots, each with a bio and a buffer of
 * its own that are made before the start. A job belongs to its loop from job_start until it has
 * told that it is idle.
 */
#pragma once

#include "bdev/bdev.h"

enum workload {
	LOAD_READ,
	LOAD_WRITE,
	LOAD_RANDREAD,
	LOAD_RANDWRITE,
	LOAD_RW,
	LOAD_RANDRW,
	LOAD_UNMAP,
	LOAD_WRITE_ZEROES,
	LOAD_FLUSH,
	LOAD_VERIFY,
	LOAD_ZONE_APPEND,
	LOAD_ZONE_RESET,
	LOADS
};

#define BDEVS_MAX 64

struct options {
	enum workload workload;
	uint64_t depth, io_bytes, seconds_ms, warmup_ms;
	unsigned read_percent;
	unsigned loops;
	const char *cpumask, *config, *stack, *rpc_socket;
	const char *bdevs[BDEVS_MAX]; /* none: all that may be written */
	unsigned num_bdevs;
	uint32_t spin_us;
	bool json, go_on, no_latency;
};
extern struct options options;

const char *workload_name(enum workload workload);

/* ---- latency ----------------------------------------------------------------------------------
 */

#define LATENCY_SHIFT 6 /* 64 buckets per power of two: within 1.6 % */
#define LATENCY_BUCKETS ((64 - LATENCY_SHIFT + 1) << LATENCY_SHIFT)

struct latency {
	uint64_t samples, sum_ns, max_ns;
	uint32_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *l, uint64_t ns);
void latency_merge(struct latency *to, const struct latency *from);
/* The upper end of the bucket below which this part (0..1) of the samples lies. */
uint64_t latency_percentile(const struct latency *l, double part);

/* ---- jobs -------------------------------------------------------------------------------------
 */

struct job;

struct slot {
	/* one line, just before those of the bio that are used most */
	struct job *job;
	uint64_t start_ns; /* 0: not one of those whose latency is taken */
	struct iovec iov;
	uint64_t unit;      /* verify: which, counted in requests; zones: which of the job's */
	uint64_t zone_left; /* zones: blocks */
	bool writing;       /* verify, zones */
	struct bio bio cache_aligned;
};

struct verify; /* bdevperf_verify.c */

/* What a job has done since the warm-up. */
struct result {
	uint64_t ios, errors, miscompares;
	uint64_t begin_ns, end_ns;
	struct latency latency;
};

struct job {
	/* the job's loop */
	struct bdev_handle *handle;
	void (*next)(struct slot *slot);
	uint64_t random;
	uint64_t io_blocks;
	uint64_t positions, position; /* in units of io_blocks */
	uint64_t first_block;
	uint64_t read_below; /* of 2^64: a random number below it makes a read */
	enum bio_op op;
	bool running;
	bool measured; /* the result is final */
	bool stopped;
	uint32_t sample_every, until_sample;
	unsigned busy;                    /* slots */
	uint64_t ios;                     /* since the warm-up */
	uint64_t counted_ios, counted_ns; /* when sample_every was last set */
	struct verify *verify;
	struct slot *slots;
	struct loop *loop;
	struct result result;
	int first_error;
	/* the control loop */
	struct target *target;
	unsigned loop_id;
	struct loop_task begin, mark, stop;
	struct loop_task ended; /* run on the control loop, if the job ends by itself */
	struct loop_task idle;  /* after its stop, when nothing is in flight any more */
	void *memory;
} cache_aligned;

/* One bdev under load. */
struct target {
	struct bdev_handle *handle;
	char name[BDEV_NAME_MAX];
	uint32_t block_bytes;
	uint64_t num_blocks, zone_blocks;
	bool closed;
};

/* Makes the slots and buffers. Returns 0 or sets err. */
int job_make(struct job *job, struct target *target, unsigned loop_id, struct err *err);
void job_free(struct job *job);
/* From the control loop. mark: forget what was counted so far; stop: submit no more. */
void job_start(struct job *job);
void job_mark(struct job *job);
void job_stop(struct job *job);

/* On the job's loop: a slot has nothing more to do, or goes on. */
void job_slot_rests(struct slot *slot);
void job_submit(struct slot *slot, enum bio_op op, uint64_t position);
void job_failed(struct job *job, int status);
uint64_t job_random(struct job *job);
/* An append to the zone, or its reset. */
void job_submit_zone(struct slot *slot, enum bio_op op, uint64_t zone_start);

/* ---- verify -----------------------------------------------------------------------------------
 */

struct verify *verify_make(uint64_t positions);
void verify_free(struct verify *verify);
void verify_next(struct slot *slot);
/* A request has ended well; false: what was read is not what was written. */
bool verify_done(struct slot *slot);
/* The time is over: reads once more what was written. False: nothing left. */
bool verify_finish_next(struct slot *slot);

/* ---- zones ------------------------------------------------------------------------------------
 */

void zone_begin(struct slot *slot);
void zone_next(struct slot *slot);
/* Whether the request has ended as it may. */
bool zone_done(struct slot *slot, int status);

/* ---- stacks and results -----------------------------------------------------------------------
 */

/* Makes the bdevs of --stack; done on the control loop, with the name of the topmost. */
void stack_make(const char *text, void (*done)(const char *top, const struct err *err));
/* Prints everything; true if all went well. */
bool report(const struct job *jobs, unsigned num_jobs, const struct target *targets,
        unsigned num_targets, uint64_t cpu_ns);
