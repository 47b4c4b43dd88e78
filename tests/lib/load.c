#include "tests/lib/load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "tests/lib/rng.h"

#define SLOT_BLOCKS_MAX 64

/* What a slot knows of a block. */
enum known {
	NOTHING,
	KNOWN,  /* it is as in expected */
	EITHER, /* or as in other */
};

struct slot {
	struct bio bio;
	struct iovec iov[3];
	struct loop_task task;
	struct loop_timer timer;
	struct load *load;
	struct rng rng;
	unsigned loop;
	uint64_t start, blocks;           /* its own */
	uint64_t offset, length;          /* of the present request, within its own */
	uint64_t written;                 /* zoned: of its zone; UINT64_MAX: it has to be reset */
	uint8_t *data, *expected, *other; /* [blocks] */
	uint8_t known[SLOT_BLOCKS_MAX];   /* enum known */
};

struct load {
	struct disk *disk;
	struct load_config config;
	uint32_t block_bytes;
	unsigned num_slots;
	struct slot *slots;
	/* any thread, atomically */
	bool stop;
	unsigned running;
	uint64_t requests, unsupported, mismatches, errors;
	/* the first one to fail */
	bool failed;
	struct load_result first;
};

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void note(struct slot *slot, int status, const char *what)
{
	struct load *load = slot->load;

	count(status ? &load->errors : &load->mismatches);
	if (__atomic_exchange_n(&load->failed, true, __ATOMIC_ACQ_REL))
		return;
	load->first.first_error = status;
	snprintf(load->first.first_text, sizeof(load->first.first_text),
	        "loop %u: %s of blocks %llu+%llu: %s", slot->loop, bio_op_name(slot->bio.op),
	        (unsigned long long)(slot->start + slot->offset), (unsigned long long)slot->length,
	        what);
	log_notice("load", "'%s': %s", load->disk->name, load->first.first_text);
}

/* The last thing that a slot does: each one that runs keeps the disk from being closed. */
static void end_slot(struct slot *slot)
{
	struct disk *disk = slot->load->disk;

	__atomic_fetch_sub(&slot->load->running, 1, __ATOMIC_ACQ_REL);
	__atomic_fetch_sub(&disk->inflight, 1, __ATOMIC_ACQ_REL);
}

/* ---- one request ------------------------------------------------------------------------------
 */

static bool check_read(const struct slot *slot)
{
	uint32_t bytes = slot->load->block_bytes;

	if (slot->load->config.no_verify)
		return true;
	for (uint64_t i = 0; i < slot->length; i++) {
		uint64_t block = slot->offset + i;
		const uint8_t *found = slot->data + i * bytes;

		if (slot->known[block] == NOTHING ||
		        memcmp(found, slot->expected + block * bytes, bytes) == 0)
			continue;
		if (slot->known[block] != EITHER ||
		        memcmp(found, slot->other + block * bytes, bytes) != 0)
			return false;
	}
	return true;
}

/* The request may have happened, as a whole or in part. */
static void doubt(struct slot *slot)
{
	uint32_t bytes = slot->load->block_bytes;

	if (slot->bio.op != BIO_WRITE && slot->bio.op != BIO_WRITE_ZEROES &&
	        slot->bio.op != BIO_UNMAP)
		return;
	if (slot->bio.op == BIO_WRITE_ZEROES)
		memset(slot->data, 0, slot->length * bytes);
	for (uint64_t i = 0; i < slot->length; i++) {
		uint64_t block = slot->offset + i;
		bool one = slot->known[block] == KNOWN && slot->bio.op != BIO_UNMAP;

		slot->known[block] = one ? EITHER : NOTHING;
		memcpy(slot->other + block * bytes, slot->data + i * bytes, bytes);
	}
}

/* What the request has done to what the slot's blocks hold. */
static void take_over(struct slot *slot)
{
	uint32_t bytes = slot->load->block_bytes;
	uint8_t *expected = slot->expected + slot->offset * bytes;

	if (slot->bio.op == BIO_WRITE)
		memcpy(expected, slot->data, slot->length * bytes);
	else if (slot->bio.op == BIO_WRITE_ZEROES || slot->bio.op == BIO_ZONE_MGMT)
		memset(expected, 0, slot->length * bytes);
	else if (slot->bio.op != BIO_UNMAP)
		return;
	for (uint64_t i = 0; i < slot->length; i++)
		slot->known[slot->offset + i] = slot->bio.op == BIO_UNMAP ? NOTHING : KNOWN;
	if (slot->bio.op == BIO_ZONE_MGMT)
		slot->written = 0;
	else
		slot->written += slot->length;
}

static enum bio_op choose_op(struct rng *rng)
{
	static const enum bio_op ops[] = {BIO_READ, BIO_READ, BIO_READ, BIO_READ, BIO_READ,
	        BIO_READ, BIO_WRITE, BIO_WRITE, BIO_WRITE, BIO_WRITE, BIO_WRITE, BIO_WRITE,
	        BIO_WRITE_ZEROES, BIO_UNMAP, BIO_FLUSH, BIO_BLOCK_STATUS};

	return ops[rng_below(rng, ARRAY_SIZE(ops))];
}

/* On a zone: it is written from start to end, then reset. */
static enum bio_op choose_on_zone(struct slot *slot)
{
	enum bio_op op = choose_op(&slot->rng);

	slot->offset = 0;
	slot->length = slot->blocks;
	if (slot->written >= slot->blocks)
		return BIO_ZONE_MGMT;
	if (op == BIO_WRITE || op == BIO_WRITE_ZEROES) {
		slot->offset = slot->written;
		slot->length = 1 + rng_below(&slot->rng, min_u64(4, slot->blocks - slot->written));
		return op;
	}
	slot->offset = rng_below(&slot->rng, slot->blocks);
	slot->length = 1 + rng_below(&slot->rng, slot->blocks - slot->offset);
	return op;
}

/* The capacity of a zone may be less than its size. */
static bool zone_is_full(const struct slot *slot, int status)
{
	return slot->load->disk->zone_blocks && (status == -ERANGE || status == -ENOSPC);
}

/* In one piece or three. */
static unsigned cut(struct slot *slot, size_t len)
{
	size_t a = rng_below(&slot->rng, len), b = rng_below(&slot->rng, len - a);

	slot->iov[0] = (struct iovec){slot->data, len};
	if (rng_below(&slot->rng, 4) != 0)
		return 1;
	slot->iov[0].iov_len = a;
	slot->iov[1] = (struct iovec){slot->data + a, b};
	slot->iov[2] = (struct iovec){slot->data + a + b, len - a - b};
	return 3;
}

static void done(struct bio *bio);

static void next(struct slot *slot)
{
	struct load *load = slot->load;
	struct disk *disk = load->disk;
	enum bio_op op = disk->zone_blocks ? choose_on_zone(slot) : choose_op(&slot->rng);
	bool data = op == BIO_READ || op == BIO_WRITE;
	unsigned pieces = 0;

	if (!disk->zone_blocks) {
		slot->offset = rng_below(&slot->rng, slot->blocks);
		slot->length = 1 + rng_below(&slot->rng, slot->blocks - slot->offset);
	}
	if (op == BIO_WRITE)
		fill_pattern(slot->data, slot->length * load->block_bytes, rng_next(&slot->rng));
	if (data)
		pieces = cut(slot, slot->length * load->block_bytes);
	bio_init(&slot->bio, op, data ? slot->iov : NULL, pieces, slot->length, done, slot);
	slot->bio.zone_action = ZONE_RESET;
	if ((op == BIO_WRITE || op == BIO_WRITE_ZEROES) && rng_below(&slot->rng, 8) == 0)
		slot->bio.flags = BIO_FUA;
	if (__atomic_load_n(&load->stop, __ATOMIC_ACQUIRE) ||
	        __atomic_load_n(&disk->removed, __ATOMIC_SEQ_CST)) {
		end_slot(slot);
		return;
	}
	bio_submit(disk->handle, &slot->bio, slot->start + slot->offset);
}

static void next_task(struct loop_task *task)
{
	next(container_of(task, struct slot, task));
}

static void rested(struct loop_timer *timer)
{
	next(container_of(timer, struct slot, timer));
}

static void go_on(struct slot *slot)
{
	unsigned rest_us = slot->load->config.rest_us;
	struct loop *loop = loop_self();

	if (rest_us) {
		slot->timer.fire = rested;
		loop_timer_start(loop, &slot->timer,
		        loop_now_ns(loop) + rng_below(&slot->rng, rest_us) * NSEC_PER_USEC);
		return;
	}
	slot->task.run = next_task;
	loop_defer(loop, &slot->task);
}

static void done(struct bio *bio)
{
	struct slot *slot = bio->arg;
	struct load *load = slot->load;
	int status = bio->status;

	count(&load->requests);
	if (status == -EOPNOTSUPP) {
		count(&load->unsupported);
	} else if (zone_is_full(slot, status)) {
		slot->written = UINT64_MAX;
	} else if (status < 0) {
		doubt(slot);
		if (status != -ENODEV)
			note(slot, status, errno_text(status));
		if (status == -ENODEV || !load->config.errors_pass) {
			end_slot(slot);
			return;
		}
	} else if (bio->op == BIO_READ && !check_read(slot)) {
		note(slot, 0, "not what was written");
	} else {
		take_over(slot);
	}
	go_on(slot);
}

/* ---- for the test -----------------------------------------------------------------------------
 */

static void send_slots(struct load *load)
{
	for (unsigned i = 0; i < load->num_slots; i++)
		loop_send(loop_get(load->slots[i].loop), &load->slots[i].task);
}

struct load *load_start(struct disk *disk, const struct load_config *config)
{
	unsigned n = config->data_loops * config->depth;
	struct load *load = xcalloc(1, sizeof(*load));
	uint64_t blocks = config->num_blocks ? config->num_blocks : disk_blocks(disk);
	uint64_t share = min_u64(blocks / n, SLOT_BLOCKS_MAX);

	if (disk->zone_blocks)
		share = disk->zone_blocks;
	BELLOWS_ASSERT(share > 0 && share <= SLOT_BLOCKS_MAX && share * n <= blocks);
	load->disk = disk;
	load->config = *config;
	load->block_bytes = disk->block_bytes;
	load->num_slots = load->running = n;
	__atomic_fetch_add(&disk->inflight, n, __ATOMIC_SEQ_CST);
	load->slots = xcalloc(n, sizeof(*load->slots));
	for (unsigned i = 0; i < n; i++) {
		struct slot *slot = &load->slots[i];

		slot->load = load;
		slot->rng = rng_of(config->seed * 1000 + i);
		slot->loop = 1 + i % config->data_loops;
		/* Spread over all, so that the layers' boundaries lie among them. */
		slot->start = config->first_block + blocks / n * i;
		if (disk->zone_blocks)
			slot->start = align_up_u64(config->first_block, share) + share * i;
		slot->written = UINT64_MAX;
		slot->blocks = share;
		slot->data = xcalloc(share, load->block_bytes);
		slot->expected = xcalloc(share, load->block_bytes);
		slot->other = xcalloc(share, load->block_bytes);
		slot->task.run = next_task;
	}
	send_slots(load);
	return load;
}

static unsigned running(const struct load *load)
{
	return __atomic_load_n(&load->running, __ATOMIC_ACQUIRE);
}

void load_run(struct load *load, uint64_t requests)
{
	const struct timespec pause = {.tv_nsec = 200000};
	uint64_t end = __atomic_load_n(&load->requests, __ATOMIC_RELAXED) + requests;

	while (running(load) && __atomic_load_n(&load->requests, __ATOMIC_RELAXED) < end)
		nanosleep(&pause, NULL);
}

uint64_t load_requests(const struct load *load)
{
	return __atomic_load_n(&load->requests, __ATOMIC_RELAXED);
}

void load_pause(struct load *load)
{
	const struct timespec pause = {.tv_nsec = 200000};

	__atomic_store_n(&load->stop, true, __ATOMIC_RELEASE);
	while (running(load))
		nanosleep(&pause, NULL);
	__atomic_store_n(&load->stop, false, __ATOMIC_RELEASE);
}

void load_resume(struct load *load, struct disk *disk)
{
	BELLOWS_ASSERT(running(load) == 0 && disk->block_bytes == load->block_bytes);
	load->disk = disk;
	__atomic_store_n(&load->running, load->num_slots, __ATOMIC_RELEASE);
	__atomic_fetch_add(&disk->inflight, load->num_slots, __ATOMIC_SEQ_CST);
	send_slots(load);
}

static struct load_result result_of(const struct load *load)
{
	struct load_result result = load->first;

	result.requests = load->requests;
	result.unsupported = load->unsupported;
	result.mismatches = load->mismatches;
	result.errors = load->errors;
	return result;
}

struct load_result load_check(struct load *load, struct disk *disk)
{
	for (unsigned i = 0; i < load->num_slots; i++) {
		struct slot *slot = &load->slots[i];
		int status = disk_read(disk, slot->start, slot->blocks, slot->data);

		slot->bio.op = BIO_READ;
		slot->offset = 0;
		slot->length = slot->blocks;
		if (status < 0)
			note(slot, status, errno_text(status));
		else if (!check_read(slot))
			note(slot, 0, "not what was written, in the end");
	}
	return result_of(load);
}

struct load_result load_stop(struct load *load)
{
	struct load_result result;

	load_pause(load);
	result = result_of(load);
	for (unsigned i = 0; i < load->num_slots; i++) {
		free(load->slots[i].data);
		free(load->slots[i].expected);
		free(load->slots[i].other);
	}
	free(load->slots);
	free(load);
	return result;
}
