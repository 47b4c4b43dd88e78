/*
 * bdevperf_verify.c: writes what can be told from everything else, and reads it again.
 *
 * Every 512 bytes carry where they belong and which writing of that place they are of; the rest is
 * worked out from that. A place has one request in flight at a time. Places are written and read in
 * random order; in the end each one that was written is read once more.
 */
#include <string.h>

#include "bench/bdevperf.h"

#define PLACES_MAX (1U << 16) /* per job */
#define SECTOR 512U
#define WORDS (SECTOR / 8)

struct verify {
	uint64_t places;
	uint64_t next_checked; /* of the last round */
	uint32_t *generations; /* 0: never written */
	uint8_t *busy;
};

struct verify *verify_make(uint64_t positions)
{
	struct verify *v = xcalloc(1, sizeof(*v));

	v->places = min_u64(positions, PLACES_MAX);
	v->generations = xcalloc(v->places, sizeof(v->generations[0]));
	v->busy = xcalloc(v->places, 1);
	return v;
}

void verify_free(struct verify *v)
{
	free(v->generations);
	free(v->busy);
	free(v);
}

static void sector_words(uint64_t where, uint32_t generation, uint64_t words[WORDS])
{
	uint64_t x = where ^ ((uint64_t)generation << 40) ^ 0x6a09e667f3bcc908ULL;

	words[0] = where;
	words[1] = generation;
	for (unsigned i = 2; i < WORDS; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		words[i] = x ^ (x >> 29);
	}
}

/* The byte address in the bdev of a sector of the slot's request. */
static uint64_t where(const struct slot *slot, size_t offset)
{
	const struct job *job = slot->job;

	return (job->first_block + slot->unit * job->io_blocks) * job->target->block_bytes + offset;
}

static void fill(struct slot *slot, uint32_t generation)
{
	char *to = slot->iov.iov_base;
	uint64_t words[WORDS];

	for (size_t at = 0; at < slot->iov.iov_len; at += SECTOR) {
		sector_words(where(slot, at), generation, words);
		memcpy(to + at, words, SECTOR);
	}
}

static bool is_right(const struct slot *slot, uint32_t generation)
{
	const char *is = slot->iov.iov_base;
	uint64_t words[WORDS];

	for (size_t at = 0; at < slot->iov.iov_len; at += SECTOR) {
		sector_words(where(slot, at), generation, words);
		if (memcmp(is + at, words, SECTOR) != 0)
			return false;
	}
	return true;
}

static void start_read(struct slot *slot)
{
	/* What was there before must not pass for what was read. */
	memset(slot->iov.iov_base, 0x5a, slot->iov.iov_len);
	slot->writing = false;
	job_submit(slot, BIO_READ, slot->unit);
}

void verify_next(struct slot *slot)
{
	struct job *job = slot->job;
	struct verify *v = job->verify;
	uint64_t r = job_random(job), place = (r >> 8) % v->places;

	while (v->busy[place])
		place = place + 1 == v->places ? 0 : place + 1;
	v->busy[place] = 1;
	slot->unit = place;
	if (v->generations[place] != 0 && (r & 1)) {
		start_read(slot);
		return;
	}
	slot->writing = true;
	fill(slot, v->generations[place] + 1);
	job_submit(slot, BIO_WRITE, place);
}

bool verify_done(struct slot *slot)
{
	struct verify *v = slot->job->verify;
	bool right = true;

	v->busy[slot->unit] = 0;
	if (slot->writing)
		v->generations[slot->unit]++;
	else
		right = is_right(slot, v->generations[slot->unit]);
	return right;
}

bool verify_finish_next(struct slot *slot)
{
	struct verify *v = slot->job->verify;

	/* What was being written when the time was over may have been passed by already. */
	if (slot->writing) {
		v->busy[slot->unit] = 1;
		start_read(slot);
		return true;
	}
	while (v->next_checked < v->places) {
		uint64_t place = v->next_checked++;

		if (v->generations[place] == 0 || v->busy[place])
			continue;
		v->busy[place] = 1;
		slot->unit = place;
		start_read(slot);
		return true;
	}
	return false;
}
