/*
 * Arrays with parity in a world of their own, drawn from a seed: three to five simulated disks with
 * caches, writes and flushes on all loops, a member that is taken out, pulled, fails, comes back,
 * or comes back as it was long ago, also before all parity was ever made; power cuts and killed
 * daemons at any point at which a disk changes; rotten superblocks, torn pages of the bitmap,
 * checks; somebody else who uses the array in between. What was acknowledged must be there, what
 * was seen must stay, and at the end parity is that of the data. An array that lost a member and
 * the power together is declared to be right; then the missing member's blocks may be anything
 * where rows were being written, and nowhere else.
 *
 *     RAID_SEEDS=A..B  runs these; RAID_PLANT=NUMBER (plant.h) with that defect; RAID_PLANTS=all
 * looks also for those that take minutes; VERBOSE=1 prints the log
 */
#define DISK_BLOCKS 512U /* 4 regions */
#define DISKS_MAX 5U
#define BLOCKS_MAX (DISK_BLOCKS * (DISKS_MAX - 1))
#define BLOCKS (DISK_BLOCKS * (oracle->disks - 1))
#define PLANT_SEEDS 2000U
#define STRIP_SHIFT 3U /* 4 KiB */
#include "math/raid_map.h"
#include "tests/lib/raid_world.h"

/* ---- lives ------------------------------------------------------------------------------------
 */

/* Of a new array whose parity is still being made: what nobody has written may change when a member
 * goes, or can't be read. */
static void forget_unwritten(void)
{
	oracle->loose = true;
	for (unsigned i = 0; i < BLOCKS; i++) {
		struct block *b = &oracle->blocks[i];

		b->unknown |= b->durable == 0 && b->current == 0;
	}
}

/* The same of what may be unwritten again after a crash. */
static void forget_lost(void)
{
	for (unsigned i = 0; i < BLOCKS && oracle->loose; i++) {
		struct block *b = &oracle->blocks[i];

		b->unknown |= b->durable == 0 && (b->inflight || (b->cut && b->maybes > 0));
	}
}

/* Whether the array can do without this one. What parity nobody vouches for, it can't. */
static bool spare(unsigned i)
{
	struct state s;

	heal_first();
	s = look();
	if (!s.online || (s.redundancy == 0 && s.in[i] && !s.target[i]))
		return false;
	if (s.busy && s.redundancy > 0)
		forget_unwritten();
	return true;
}

/* Two of three have their data on this disk. */
static unsigned block_on(unsigned i, unsigned n)
{
	unsigned block;

	do {
		block = (unsigned)rng_below(&rng, BLOCKS - 1);
	} while (n % 3 != 0 && raid5_map(oracle->disks, STRIP_SHIFT, block).member != i);
	return block;
}

static void spoil(unsigned i)
{
	struct state s = look();

	if (s.busy && s.redundancy > 0)
		forget_unwritten();
	spoil_sector(i, s.redundancy > 0);
}

static void fail_writes(unsigned i)
{
	struct sim_file *f = disk(i);
	struct state s;

	heal_first();
	s = look();
	/* Only one may be missing. */
	if (!s.online || s.redundancy == 0)
		return;
	if (s.busy)
		forget_unwritten();
	oracle->whole = false;
	f->one_in[rng_one_in(&rng, 2) ? FAULT_WRITE_ERROR : FAULT_FLUSH_ERROR] = 2;
	for (unsigned n = 0; n < 6; n++)
		start(BIO_WRITE, block_on(i, n), 1, true);
	/* Also in the very moment between the failure and its record. */
	if (rng_one_in(&rng, 2) && sim->crash_at)
		sim->crash_at = sim->persist_points + rng_range(&rng, 1, 8);
	let_pass(rng_below(&rng, 5) * NSEC_PER_MSEC);
	f->one_in[FAULT_WRITE_ERROR] = f->one_in[FAULT_FLUSH_ERROR] = 0;
	let_pass(NSEC_PER_SEC); /* so that the next one meets an array that knows */
}

static void expect_no_difference(void)
{
	struct state s = look();

	if (s.different > 0)
		sim_fail("parity", "a check finds %llu blocks that are wrong",
		        (unsigned long long)s.different);
}

/* Beside everything else; what it finds must be nothing. */
static void check_parity(void)
{
	struct answer answer = {0};

	expect_no_difference();
	rpc_call("bdev_raid_check",
	        json_pack("{s:s, s:b}", "name", "R", "repair", (int)rng_one_in(&rng, 2)), called,
	        &answer);
	wait_for(&answer.done, "the check");
	json_decref(answer.reply);
}

/* What is under way now, or has just ended, is cut off. */
static void crash_soon(unsigned points)
{
	if (sim->crash_at && rng_one_in(&rng, 2))
		sim->crash_at = sim->persist_points + rng_range(&rng, 1, points);
}

static void act(void)
{
	unsigned i = (unsigned)rng_below(&rng, oracle->disks);
	bool stall = rng_one_in(&rng, 4);

	switch (rng_below(&rng, 8)) {
	case 7:
		check_parity();
		break;
	case 0:
		if (!oracle->absent[i] && spare(i)) {
			oracle->whole = false;
			take_out(i);
			/* A rebuild from the beginning, cut off somewhere on its way. */
			if (rng_one_in(&rng, 2) && call("bdev_raid_add_base_bdev", OF_RAID, i) &&
			        sim->crash_at)
				sim->crash_at = sim->persist_points + rng_range(&rng, 1, 60);
		}
		break;
	case 1:
		if (!oracle->absent[i] && spare(i)) {
			oracle->whole = false;
			oracle->absent[i] = true;
			/* Now and then the others are so slow to record it that the core has no
			 * patience any more. */
			for (unsigned k = 0; k < oracle->disks && stall; k++)
				disk(k)->one_in[FAULT_STALL] = k == i ? 0 : 2;
			call("bdev_aio_delete", NAMED, i);
			for (unsigned k = 0; k < oracle->disks; k++)
				disk(k)->one_in[FAULT_STALL] = 0;
		}
		break;
	case 2:
		/* Now and then another disk, with nothing on it. */
		if (oracle->absent[i] && rng_one_in(&rng, 3)) {
			sim_disk_zero(disk(i), 0, DISK_BYTES, false);
			sim_disk_flush(disk(i), UINT32_MAX);
		}
		if (oracle->absent[i])
			plug(i);
		break;
	case 3:
	case 4:
		if (!oracle->absent[i] && call("bdev_raid_add_base_bdev", OF_RAID, i))
			crash_soon(100);
		break;
	case 5:
		if (!oracle->absent[i])
			fail_writes(i);
		break;
	default:
		if (!oracle->absent[i])
			spoil(i);
	}
}

static bool narrow; /* this life writes to one region */

static void step(void)
{
	unsigned most = narrow ? BLOCKS / 8 : BLOCKS;
	unsigned block = (unsigned)rng_below(&rng, most - REQUEST_BLOCKS);
	unsigned count = (unsigned)rng_range(&rng, 1, REQUEST_BLOCKS);

	switch (rng_below(&rng, 16)) {
	case 0:
		start(BIO_FLUSH, 0, 0, false);
		break;
	case 1:
		act();
		break;
	case 2:
		if (rng_one_in(&rng, 3)) {
			/* In the middle of forgetting what is idle, or just behind it. */
			if (rng_one_in(&rng, 2))
				crash_soon(60);
			let_pass(12 * NSEC_PER_SEC);
			crash_soon(4);
		} else {
			let_pass(20 * NSEC_PER_MSEC);
		}
		break;
	case 3:
	case 4:
	case 5:
		start(BIO_READ, block, count, false);
		break;
	case 6:
		let_pass(rng_below(&rng, 3) * NSEC_PER_MSEC);
		break;
	default:
		start(BIO_WRITE, block, count, rng_one_in(&rng, 3));
	}
	oracle->whole = oracle->whole || array_is_whole();
}

static bool start_array(bool trust)
{
	struct answer answer = {0};

	rpc_call("bdev_raid_start",
	        json_pack("{s:s, s:b}", "name", "R", "trust_parity", (int)trust), called, &answer);
	wait_for(&answer.done, "the start");
	json_decref(answer.reply);
	return array_has_come();
}

/* Rows that were being written, or whose writes were not flushed: the missing member's blocks. */
static void doubt(void)
{
	struct state s = look();

	for (unsigned i = 0; i < BLOCKS; i++) {
		const struct block *b = &oracle->blocks[i];
		uint64_t row = i % (1U << STRIP_SHIFT),
		         stripe = (i >> STRIP_SHIFT) / (oracle->disks - 1);

		if (!b->inflight && !b->torn && !(b->cut && b->maybes > 0))
			continue;
		for (unsigned d = 0; d + 1 < oracle->disks; d++) {
			uint64_t k = ((stripe * (oracle->disks - 1) + d) << STRIP_SHIFT) + row;
			unsigned slot = raid5_map(oracle->disks, STRIP_SHIFT, k).member;

			oracle->blocks[k].unknown |= !s.in[slot] || s.target[slot];
		}
	}
}

static void open_array(void)
{
	struct err err = ERR_NONE;
	bool orderly = oracle->orderly;

	for (unsigned i = 0; i < 200 && !bdev_find("R"); i++)
		let_pass(NSEC_PER_MSEC);
	if (!bdev_find("R") && oracle->must_start)
		sim_fail("not started", "the array waits though nothing is missing");
	if (!bdev_find("R") && !start_array(false)) {
		if (orderly)
			sim_fail("not started", "it was stopped in order, and is not believed");
		oracle->trusted = true; /* also when a crash comes before the answer */
		start_array(true);
	}
	if (bdev_find("R") && oracle->trusted) {
		oracle->trusted = false;
		doubt();
	}
	if (!bdev_find("R") || bdev_open(bdev_find("R"), true, &ops, "test", NULL, &handle, &err))
		sim_fail("not started", "the array is not there: %s", err.text);
}

/* So that there is something to be held to again. */
static void write_unknown(void)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (!oracle->blocks[i].unknown)
			continue;
		oracle->blocks[i].maybes = 0;
		while (!start(BIO_WRITE, i, 1, true))
			drain();
		drain();
	}
}

static void create(void)
{
	json_t *bases = json_array();
	struct answer answer = {0};

	for (unsigned i = 0; i < oracle->disks; i++) {
		char name[8];

		snprintf(name, sizeof(name), "d%u", i);
		json_array_append_new(bases, json_string(name));
	}
	rpc_call("bdev_raid_create",
	        json_pack("{s:s, s:s, s:b, s:i, s:o}", "name", "R", "raid_level", "raid5f",
	                "superblock", 1, "strip_size_kb", 4, "base_bdevs", bases),
	        called, &answer);
	wait_for(&answer.done, "the creation");
	if (!json_object_get(answer.reply, "result"))
		sim_fail("refused", "the array can't be created");
	json_decref(answer.reply);
	oracle->created = oracle->whole = true;
}

static void live(unsigned life)
{
	begin();
	plug_all();
	if (!oracle->created && life == 0)
		create();
	open_array();
	learning = true;
	check_all();
	write_unknown();
	narrow = rng_one_in(&rng, 2);
	learning = false;
	oracle->orderly = oracle->must_start = false;
	check_all();
	for (unsigned i = 0; i < STEPS && life < LIVES; i++)
		step();
	drain();
	if (life == LIVES)
		make_whole();
	check_all();
	expect_no_difference();
	stop();
}

/* ---- between lives ----------------------------------------------------------------------------
 */

/* The reference assembles the array, which makes one seq more, writes some blocks, and dies before
 * their parity is there. */
static void somebody_else(void)
{
	static uint8_t bytes[RAID_SB_MAX_BYTES + 512];
	static struct raid_sb sb, best;
	size_t need, len;
	struct err err;

	for (unsigned i = 0; i < oracle->disks; i++) {
		sim_disk_read(disk(i), 0, bytes, sizeof(bytes));
		if (raid_sb_parse(bytes, sizeof(bytes), &sb, &need, &err) != RAID_SB_OK)
			return;
		if (i == 0 || sb.seq > best.seq)
			best = sb;
	}
	best.seq++;
	len = raid_sb_encode(&best);
	for (unsigned i = 0; i < oracle->disks; i++)
		poke(i, 0, best.raw, len);
	for (unsigned n = 0; n < 4; n++) {
		unsigned i = (unsigned)rng_below(&rng, BLOCKS);
		struct block *b = &oracle->blocks[i];
		uint32_t words[2] = {++oracle->last, i};
		struct raid5_place place = raid5_map(oracle->disks, STRIP_SHIFT, i);

		if (b->maybes == MAYBES)
			continue;
		b->maybe[b->maybes++] = words[0];
		for (size_t at = 0; at < BLOCK; at += sizeof(words))
			poke(place.member, MIB(1) + place.offset_blocks * BLOCK + at, words,
			        sizeof(words));
	}
	power_cut();
}

static void between(void)
{
	bool nobody_absent = true;

	(void)heal();
	forget_lost();
	for (unsigned i = 0; i < oracle->disks; i++)
		nobody_absent &= !oracle->absent[i];
	oracle->must_start = oracle->whole && nobody_absent;
	if (oracle->must_start && oracle->orderly) {
		if (rng_one_in(&rng, 3)) /* rot */
			flip((unsigned)rng_below(&rng, oracle->disks), 100);
		else if (rng_one_in(&rng, 3))
			somebody_else();
	}
	if (!oracle->orderly && rng_one_in(&rng, 4)) {
		for (unsigned i = 0; i < oracle->disks; i++)
			flip(i, RAID_BITMAP_BYTES_OFFSET + 100);
	}
	for (unsigned i = 0; i < oracle->disks; i++) {
		if (oracle->absent[i] && oracle->saved[i] && rng_one_in(&rng, 3)) {
			poke(i, 0, oracle->images[i], DISK_BYTES); /* as it was long ago */
		} else if (oracle->orderly && oracle->whole && !oracle->saved[i]) {
			sim_disk_read(disk(i), 0, oracle->images[i], DISK_BYTES);
			oracle->saved[i] = true;
		}
	}
}

/* ---- running ----------------------------------------------------------------------------------
 */

static bool parity_is_right(void)
{
	static uint8_t sum[DISK_BYTES], bytes[DISK_BYTES];

	memset(sum, 0, sizeof(sum));
	for (unsigned i = 0; i < oracle->disks; i++) {
		sim_disk_read(disk(i), 0, bytes, DISK_BYTES);
		for (uint64_t at = MIB(1); at < DISK_BYTES; at++)
			sum[at] ^= bytes[at];
	}
	for (uint64_t at = MIB(1); at < DISK_BYTES; at++) {
		if (sum[at] == 0)
			continue;
		str_copy(sim->failure_kind, sizeof(sim->failure_kind), "parity");
		snprintf(sim->failure, sizeof(sim->failure), "of row %lu is wrong",
		        (unsigned long)((at - MIB(1)) / BLOCK));
		return false;
	}
	return true;
}

/* Disks of a new array hold anything where its parity will be. */
static void spoil_parity(void)
{
	uint8_t junk[BLOCK << STRIP_SHIFT];

	memset(junk, 0x5a, sizeof(junk));
	for (uint64_t stripe = 0; stripe < DISK_BLOCKS >> STRIP_SHIFT; stripe++)
		poke(raid5_parity_member(oracle->disks, stripe), MIB(1) + stripe * sizeof(junk),
		        junk, sizeof(junk));
}

static bool one_seed(uint64_t seed, unsigned plant, unsigned *crashes)
{
	bool slow;

	sim_world_reset(seed);
	memset(oracle, 0, sizeof(*oracle));
	rng = rng_stream(seed, 99);
	oracle->disks = (unsigned)rng_range(&rng, 3, DISKS_MAX);
	oracle->orderly = true;
	slow = rng_one_in(&rng, 3);
	for (unsigned i = 0; i < oracle->disks; i++) {
		char path[16];
		struct sim_file *f;

		snprintf(path, sizeof(path), "/sim/d%u", i);
		f = sim_file_add(path, DISK_BYTES, false);
		f->latency_min_ns = 10 * NSEC_PER_USEC;
		f->latency_max_ns = slow ? 20 * NSEC_PER_MSEC : 300 * NSEC_PER_USEC;
	}
	spoil_parity();
	for (unsigned life = 0; life <= LIVES; life++) {
		if (!one_life(seed, life, plant, live, life))
			return false;
		*crashes += !oracle->orderly;
		if (!oracle->created) /* its creation was cut off: nothing was promised */
			return true;
		rng = rng_stream(seed, 101 + life * 2);
		if (life < LIVES)
			between();
	}
	return parity_is_right();
}

/* What they have found is mended. They find it again only as long as the world draws the same. */
static const uint64_t regressions[] = {2559, 5425};

static void test_seeds(void **state)
{
	(void)state;
	run_seeds(regressions, ARRAY_SIZE(regressions), one_seed);
}

#if BELLOWS_CHECK
static const struct {
	const char *name;
	unsigned number;
} plants[] = {
#define X(name, text) {#name, PLANT_##name},
        PARITY_PLANTS(X)
#undef X
};

/* They need a crash within few milliseconds of a life. */
static bool is_rare(unsigned plant)
{
	return plant == PLANT_RAID5_FORGOTTEN_UNFLUSHED ||
	       plant == PLANT_RAID5_CHECKPOINT_UNFLUSHED || plant == PLANT_RAID5_CHECKPOINT_AHEAD ||
	       plant == PLANT_RAID5_SYNC_AHEAD;
}

static void test_planted_defects_are_found(void **state)
{
	unsigned missed = 0, crashes = 0;

	(void)state;
	if (getenv("RAID_SEEDS"))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(plants); i++) {
		uint64_t seed = 1;

		if (is_rare(plants[i].number) && !getenv("RAID_PLANTS"))
			continue;
		while (seed <= PLANT_SEEDS && one_seed(seed, plants[i].number, &crashes))
			seed++;
		if (seed <= PLANT_SEEDS)
			printf("found after %4llu seeds  %-26s %s: %.90s\n",
			        (unsigned long long)seed, plants[i].name, sim->failure_kind,
			        sim->failure);
		else
			printf("NOT FOUND  %s\n", plants[i].name);
		fflush(stdout);
		missed += seed > PLANT_SEEDS;
	}
	assert_int_equal(missed, 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seeds),
#if BELLOWS_CHECK
		cmocka_unit_test(test_planted_defects_are_found),
#endif
	};

	sim_world_create();
	oracle = mmap(
	        NULL, sizeof(*oracle), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (oracle == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
