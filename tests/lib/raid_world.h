/*
 * raid_world.h: the daemon, its requests, and what blocks may hold, for raid_world_simtest.c and
 * raid5_world_simtest.c, which say how large the world is.
 */
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/plant.h"
#include "bdev/bdev.h"
#define PATIENCE_NS (2000 * NSEC_PER_SEC)
#include "tests/lib/sim_call.h"
#include "vbdev/raid/raid_ext.h"
#include "vbdev/raid/raid_superblock.h"

#define BLOCK 512U
#ifndef BLOCKS_MAX
#define BLOCKS_MAX BLOCKS
#endif
#define DISK_BYTES (MIB(1) + DISK_BLOCKS * BLOCK)
#define LIVES 5U
#define STEPS 60U
#define REQUESTS 6U
#define REQUEST_BLOCKS 8U
#define MAYBES 8U
#define SEEDS 100U

struct block {
	uint32_t durable, current, inflight; /* inflight 0: none */
	uint32_t maybe[MAYBES];              /* since the last flush */
	uint32_t maybes;
	uint32_t acked_at; /* by oracle->clock */
	bool cut;          /* the power was cut, and nobody has looked since */
	bool unknown;      /* anything may be there until it is written */
	/* A crash has come before its write was durable. What was made equal since may not be
	 * either, until the array is stopped. */
	bool torn;
};

/* Survives the daemon. */
static struct oracle {
	bool created, whole; /* whole: all members have all data, and nothing is changing that */
	bool must_start;     /* by itself: nothing is missing */
	bool orderly;
	bool trusted; /* it was said that parity is right, and nobody has acted upon it */
	bool loose;   /* what was never written may have changed */
	bool absent[DISKS_MAX], saved[DISKS_MAX];
	bool rebuilt[DISKS_MAX], blind; /* since it was whole; and there was a crash since then */
	unsigned disks;
	uint32_t last, clock;
	struct block blocks[BLOCKS_MAX];
	uint8_t images[DISKS_MAX][DISK_BYTES];
} * oracle;

static struct rng rng; /* of this life, or between lives */

/* ---- the daemon -------------------------------------------------------------------------------
 */

/* params as for printf. False: it was refused. */
static bool call(const char *method, const char *params, unsigned i)
{
	autofree char *text = params ? xasprintf("{%s%u\"}", params, i) : NULL;
	struct answer answer = {0};
	bool ok;

	rpc_call(method, text ? json_loads(text, 0, NULL) : NULL, called, &answer);
	wait_for(&answer.done, method);
	ok = json_object_get(answer.reply, "result") != NULL;
	json_decref(answer.reply);
	return ok;
}

#define OF_RAID "\"raid_bdev\": \"R\", \"base_bdev\": \"d"
#define NAMED "\"name\": \"d"

struct state {
	bool online, busy; /* rebuilding or making equal */
	bool resyncing;
	unsigned complete, redundancy; /* members that it has; that it can be without */
	uint64_t different;            /* as the last check has found */
	bool in[DISKS_MAX], target[DISKS_MAX];
};

static struct state look(void)
{
	struct answer answer = {0};
	struct state s = {0};
	const json_t *raid, *slot;
	size_t i;

	rpc_call("bdev_raid_get_bdevs", json_pack("{s:s}", "category", "all"), called, &answer);
	wait_for(&answer.done, "the list");
	raid = json_array_get(json_object_get(answer.reply, "result"), 0);
	s.online = raid && strcmp(json_string_value(json_object_get(raid, "state")), "online") == 0;
	s.resyncing = json_object_get(raid, "resync_regions_left");
	s.busy = s.resyncing || json_object_get(raid, "process");
	s.redundancy = (unsigned)json_integer_value(json_object_get(raid, "redundancy"));
	s.different = (uint64_t)json_integer_value(
	        json_object_get(json_object_get(raid, "check"), "different_blocks"));
	json_array_foreach (json_object_get(raid, "base_bdevs_list"), i, slot) {
		const char *name = json_string_value(json_object_get(slot, "name"));

		if (!name || !json_is_true(json_object_get(slot, "is_configured")))
			continue;
		s.in[name[1] - '0'] = true;
		s.target[name[1] - '0'] = json_object_get(slot, "rebuilding");
		s.complete += !json_object_get(slot, "rebuilding");
	}
	json_decref(answer.reply);
	return s;
}

static void started(void *arg, const struct err *err)
{
	if (err && err->code)
		sim_fail("start", "%s", err->text);
	*(bool *)arg = true;
}

static void begin(void)
{
	struct rpc_options options = {0};
	struct err err = ERR_NONE;
	struct answer answer = {0};
	bool done = false;
	int window_kb = rng_one_in(&rng, 2) ? 32 : 128, most_mb = rng_one_in(&rng, 3) ? 1 : 0;

	sim->tracing = getenv("TRACE") != NULL;
	log_set_print_level(getenv("VERBOSE") ? LOG_NOTICE : LOG_ERROR);
	if (loops_start(&(struct loop_config){.data_loops = 2}, &err) != 0)
		sim_fail("start", "%s", err.text);
	bdev_start();
	rpc_start(&options, started, &done);
	wait_for(&done, "the start");
	rpc_call("bdev_raid_set_options",
	        json_pack("{s:i, s:s, s:i}", "process_window_size_kb", window_kb,
	                "degraded_start_wait", "never", "process_max_bandwidth_mb_sec", most_mb),
	        called, &answer);
	wait_for(&answer.done, "the options");
	json_decref(answer.reply);
}

static void plug(unsigned i)
{
	autofree char *params =
	        xasprintf("\"filename\": \"/sim/d%u\", \"block_size\": 512, \"uuid\": "
	                  "\"00000000-0000-4000-8000-00000000000%u\", \"name\": \"d",
	                i, i);

	bool was_there = !oracle->absent[i];

	oracle->absent[i] = false;
	if (!call("bdev_aio_create", params, i)) {
		if (was_there)
			sim_fail("refused", "d%u can't be plugged in", i);
		oracle->absent[i] = true; /* it is still going */
		return;
	}
	call("bdev_wait_for_examine", NULL, 0);
}

/* ---- requests ---- */

static struct request {
	struct bio bio;
	struct iovec iov;
	unsigned block, count;
	uint32_t value, clock;
	bool busy;
	uint8_t buf[REQUEST_BLOCKS * BLOCK];
} requests[REQUESTS];
static struct bdev_handle *handle;

static void resized(
        struct bdev_handle *h, uint64_t old_blocks, uint64_t new_blocks, struct bdev_tell *tell)
{
	(void)h;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

static void removed(struct bdev_handle *h)
{
	(void)h;
	sim_fail("removed", "the array is removed though a member has all data");
}

static const struct bdev_holder_ops ops = {.kind = "test", .resized = resized, .removed = removed};

static uint32_t value_at(const struct request *r, unsigned i)
{
	uint32_t words[2], end[2];

	memcpy(words, r->buf + (size_t)i * BLOCK, sizeof(words));
	memcpy(end, r->buf + (size_t)(i + 1) * BLOCK - sizeof(end), sizeof(end));
	if (memcmp(words, end, sizeof(words)) != 0 || (words[0] != 0 && words[1] != r->block + i))
		sim_fail("wrong data", "block %u holds %u of block %u ... %u of block %u",
		        r->block + i, words[0], words[1], end[0], end[1]);
	return words[0];
}

static bool learning; /* what the last life has left */

/* A crash leaves one of several values, which a block then must keep. */
static void learn(struct block *b, unsigned block, uint32_t value)
{
	bool legal = value == b->current || (b->inflight && value == b->inflight);

	for (unsigned k = 0; k < b->maybes && b->cut; k++)
		legal |= value == b->maybe[k];
	legal |= b->cut && value == b->durable;
	if (!legal)
		sim_fail("data lost", "block %u holds %u; %u was acknowledged, %u flushed", block,
		        value, b->current, b->durable);
	b->current = value;
	b->inflight = 0;
	if (b->cut) {
		b->durable = value;
		b->maybes = 0;
	}
	b->cut = false;
}

static void judge_read(const struct request *r)
{
	for (unsigned i = 0; i < r->count; i++) {
		struct block *b = &oracle->blocks[r->block + i];
		uint32_t value;

		if (b->unknown)
			continue;
		value = value_at(r, i);
		if (learning)
			learn(b, r->block + i, value);
		else if (value != b->current)
			sim_fail("wrong data", "block %u holds %u, it must hold %u", r->block + i,
			        value, b->current);
	}
}

static void judge_write(const struct request *r)
{
	for (unsigned i = 0; i < r->count; i++) {
		struct block *b = &oracle->blocks[r->block + i];

		b->current = r->value;
		b->inflight = 0;
		b->unknown = false;
		b->acked_at = ++oracle->clock;
		if (r->bio.flags & BIO_FUA) {
			b->durable = r->value;
			b->maybes = 0;
		}
	}
}

static void judge_flush(const struct request *r)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		struct block *b = &oracle->blocks[i];

		if (b->acked_at > r->clock || b->inflight)
			continue;
		b->durable = b->current;
		b->maybes = 0;
	}
}

static void ended(struct bio *bio)
{
	struct request *r = bio->arg;

	if (bio->status != 0)
		sim_fail("failed", "%s of %u blocks at %u: %d", bio_op_name(bio->op), r->count,
		        r->block, bio->status);
	if (bio->op == BIO_READ)
		judge_read(r);
	else if (bio->op == BIO_WRITE)
		judge_write(r);
	else
		judge_flush(r);
	r->busy = false;
}

static void submit(void *arg)
{
	struct request *r = arg;

	bio_submit(handle, &r->bio, r->block);
}

static bool overlaps(unsigned block, unsigned count)
{
	for (unsigned i = 0; i < REQUESTS; i++) {
		const struct request *r = &requests[i];

		if (r->busy && r->bio.op != BIO_FLUSH && block < r->block + r->count &&
		        r->block < block + count)
			return true;
	}
	return false;
}

static struct request *start(enum bio_op op, unsigned block, unsigned count, bool fua)
{
	struct request *r = requests;

	while (r < requests + REQUESTS && r->busy)
		r++;
	if (r == requests + REQUESTS || (op != BIO_FLUSH && overlaps(block, count)))
		return NULL;
	r->block = block;
	r->count = count;
	r->clock = oracle->clock;
	r->iov = (struct iovec){r->buf, (size_t)count * BLOCK};
	bio_init(&r->bio, op, &r->iov, op != BIO_FLUSH, count, ended, r);
	if (op == BIO_WRITE) {
		r->value = ++oracle->last;
		r->bio.flags |= fua ? BIO_FUA : 0;
		for (unsigned i = 0; i < count; i++) {
			struct block *b = &oracle->blocks[block + i];
			uint32_t words[2] = {r->value, block + i};

			if (b->maybes == MAYBES)
				return NULL;
			b->maybe[b->maybes++] = b->inflight = r->value;
			for (size_t at = 0; at < BLOCK; at += sizeof(words))
				memcpy(r->buf + (size_t)i * BLOCK + at, words, sizeof(words));
		}
	}
	r->busy = true;
	sim_on_loop((unsigned)rng_below(&rng, 3), submit, r);
	return r;
}

static bool all_idle(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < REQUESTS; i++) {
		if (requests[i].busy)
			return false;
	}
	return true;
}

static void drain(void)
{
	if (!sim_run_until(all_idle, NULL, PATIENCE_NS))
		sim_fail("stuck", "a request does not end");
}

static void check_all(void)
{
	for (unsigned block = 0; block < BLOCKS; block += REQUEST_BLOCKS) {
		while (!start(BIO_READ, block, REQUEST_BLOCKS, false))
			drain();
	}
	drain();
}

/* ---- the disks ---------------------------------------------------------------------------------
 */

static struct sim_file *disk(unsigned i)
{
	char path[16];

	snprintf(path, sizeof(path), "/sim/d%u", i);
	return sim_file_find(path);
}

/* All disks can read everything again. Whether there was something that one could not. */
static bool heal(void)
{
	bool any = false;

	for (unsigned i = 0; i < oracle->disks; i++) {
		for (unsigned k = 0; k < DISK_BYTES / SIM_SECTOR_BYTES; k++) {
			any |= disk(i)->sectors[k] & SECTOR_BAD;
			disk(i)->sectors[k] &= (uint8_t)~SECTOR_BAD;
		}
	}
	return any;
}

/* Before a member may be lost: nor may a request go on that has met what is healed now. */
static void heal_first(void)
{
	if (heal())
		drain();
}

/* Each member of an array that is whole may have bad sectors, but no two the same. */
static void spoil_sector(unsigned i, bool may)
{
	uint64_t sector = MIB(1) / SIM_SECTOR_BYTES + rng_below(&rng, DISK_BLOCKS);
	bool elsewhere = false;

	for (unsigned k = 0; k < oracle->disks; k++)
		elsewhere |= k != i && disk(k)->sectors[sector] & SECTOR_BAD;
	if (may && !elsewhere)
		disk(i)->sectors[sector] |= SECTOR_BAD;
}

static bool array_is_whole(void)
{
	struct state s = look();

	return s.online && !s.busy && s.complete == oracle->disks;
}

/* Durably; as if nobody had a cache. */
static void poke(unsigned i, uint64_t offset, const void *bytes, size_t len)
{
	sim_disk_write(disk(i), offset, bytes, len, true);
}

/* Now and then somebody else has used it when it comes back. */
static void take_out(unsigned i)
{
	static uint8_t junk[DISK_BYTES - MIB(1)];

	if (!call("bdev_raid_remove_base_bdev", NAMED, i) || rng_one_in(&rng, 3))
		return;
	memset(junk, 0x77, sizeof(junk));
	poke(i, MIB(1), junk, sizeof(junk));
}

static void flip(unsigned i, uint64_t offset)
{
	uint8_t byte;

	sim_disk_read(disk(i), offset, &byte, 1);
	byte ^= 0x40;
	poke(i, offset, &byte, 1);
}

/* ---- what lives have in common -----------------------------------------------------------------
 */

static void plug_all(void)
{
	unsigned first = (unsigned)rng_below(&rng, oracle->disks);

	for (unsigned i = 0; i < oracle->disks; i++) {
		unsigned d = (first + i) % oracle->disks;

		if (!oracle->absent[d])
			plug(d);
	}
}

static bool array_is_known(void)
{
	struct answer answer = {0};
	bool known;

	rpc_call("bdev_raid_get_bdevs", json_pack("{s:s}", "category", "all"), called, &answer);
	wait_for(&answer.done, "the list");
	known = json_array_size(json_object_get(answer.reply, "result")) > 0;
	json_decref(answer.reply);
	return known;
}

static void stop(void)
{
	struct answer answer = {0};

	drain();
	bdev_close(handle);
	rpc_call("bdev_raid_delete", json_pack("{s:s}", "name", "R"), called, &answer);
	wait_for(&answer.done, "the end");
	json_decref(answer.reply);
	/* Where a disk stalls the answer may be that it goes on by itself. */
	for (unsigned i = 0; i < 1000 && array_is_known(); i++)
		let_pass(NSEC_PER_SEC);
	for (unsigned i = 0; i < BLOCKS; i++)
		oracle->blocks[i].torn = false;
	oracle->orderly = true;
	sim_exit(SIM_EXIT_DONE);
}

static void make_whole(void)
{
	struct state s = look();

	for (unsigned k = 0; k < 3000 && (s.busy || s.complete < oracle->disks); k++) {
		for (unsigned i = 0; i < oracle->disks && !s.busy; i++) {
			if (oracle->absent[i])
				plug(i);
			else if (!s.in[i])
				call("bdev_raid_add_base_bdev", OF_RAID, i);
		}
		let_pass(20 * NSEC_PER_MSEC);
		s = look();
	}
	if (s.busy || s.complete < oracle->disks)
		sim_fail("not whole", "the array does not become whole");
}

static void power_cut(void)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		oracle->blocks[i].cut = true;
}

/* Slow disks take their time, also when it was starting by itself. */
static bool array_has_come(void)
{
	for (unsigned i = 0; i < 20 && !bdev_find("R"); i++)
		let_pass(100 * NSEC_PER_MSEC);
	return bdev_find("R") != NULL;
}

static bool one_life(
        uint64_t seed, unsigned life, unsigned plant, void (*fn)(unsigned), unsigned arg)
{
	int status = 0;
	pid_t pid;

	sim->persist_points = 0;
	rng = rng_stream(seed, 100 + life * 2);
	sim->crash_at =
	        life < LIVES && !rng_one_in(&rng, 4) ? rng_range(&rng, life ? 1 : 40, 400) : 0;
	sim->fate = (enum sim_fate)rng_range(&rng, FATE_LOST, FATE_KILLED);
	sim->forked = true;
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!getenv("VERBOSE") && !freopen("/dev/null", "w", stderr))
			_exit(1);
#if BELLOWS_CHECK
		bellows_plant = plant;
#endif
		(void)plant;
		for (int s = 1; s < NSIG; s++) /* cmocka would go on in this process */
			signal(s, SIG_DFL);
		alarm(60);
		fn(arg);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	sim->life++;
	for (unsigned i = 0; i < oracle->disks; i++) /* also of one that was cut off */
		memset(disk(i)->one_in, 0, sizeof(disk(i)->one_in));
	if (!WIFEXITED(status)) {
		str_copy(sim->failure_kind, sizeof(sim->failure_kind), "it died");
		snprintf(sim->failure, sizeof(sim->failure), "signal %d", WTERMSIG(status));
		return false;
	}
	if (WEXITSTATUS(status) == SIM_EXIT_CRASHED) {
		for (unsigned i = 0; i < BLOCKS; i++)
			oracle->blocks[i].torn |=
			        oracle->blocks[i].inflight || oracle->blocks[i].maybes > 0;
		if (sim->power_was_cut)
			power_cut();
		oracle->orderly = false;
	}
	return WEXITSTATUS(status) == SIM_EXIT_DONE || WEXITSTATUS(status) == SIM_EXIT_CRASHED;
}

typedef bool (*one_seed_fn)(uint64_t seed, unsigned plant, unsigned *crashes);

static void run_seed(uint64_t seed, unsigned plant, unsigned *crashes, one_seed_fn one_seed)
{
	if (!one_seed(seed, plant, crashes))
		fail_msg("seed %llu, life %u: %s: %s", (unsigned long long)seed, sim->life - 1,
		        sim->failure_kind, sim->failure);
}

/* As the environment says; without that the regressions first. */
static void run_seeds(const uint64_t *regressions, size_t num, one_seed_fn one_seed)
{
	unsigned long first = 1, last = SEEDS;
	unsigned crashes = 0, plant = 0;
	const char *given = getenv("RAID_SEEDS");

	if (given)
		assert_int_equal(sscanf(given, "%lu..%lu", &first, &last), 2);
	if (getenv("RAID_PLANT"))
		plant = (unsigned)strtoul(getenv("RAID_PLANT"), NULL, 10);
	for (size_t i = 0; i < num && !given; i++)
		run_seed(regressions[i], 0, &crashes, one_seed);
	for (uint64_t seed = first; seed <= last; seed++)
		run_seed(seed, plant, &crashes, one_seed);
	printf("%lu seeds, %u crashes\n", last - first + 1, crashes);
}
