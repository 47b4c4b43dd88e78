/*
 * Mirrors with superblock in a world of their own, drawn from a seed: two to four simulated disks
 * with caches, writes and flushes on all loops, members that are taken out, pulled, fail, come
 * back, or come back as they were long ago; power cuts and killed daemons at any point at which a
 * disk changes; rotten superblocks and torn pages of the bitmap; somebody else who uses the array
 * in between. What was acknowledged must be there, what was seen must stay, and at the end all
 * members hold the same.
 *
 *     RAID_SEEDS=A..B  runs these; RAID_PLANT=NUMBER (plant.h) with that defect; VERBOSE=1 prints
 * the log
 */
#define BLOCKS 1024U /* 8 regions */
#define DISK_BLOCKS BLOCKS
#define DISKS_MAX 4U
#define PLANT_SEEDS 800U
#include "tests/lib/raid_world.h"

/* ---- lives ------------------------------------------------------------------------------------
 */

/* Whether the array can do without this one. */
static bool spare(unsigned i)
{
	struct state s;

	heal_first();
	s = look();
	return s.online && !s.resyncing && (s.complete > 1 || !s.in[i] || s.target[i]);
}

static void fail_writes(unsigned i)
{
	struct sim_file *f = disk(i);
	struct state s;

	heal_first();
	s = look();
	/* The only one that has all data must not. */
	if (!s.online || s.busy || s.complete < 2)
		return;
	oracle->whole = false;
	f->one_in[rng_one_in(&rng, 2) ? FAULT_WRITE_ERROR : FAULT_FLUSH_ERROR] = 2;
	for (unsigned n = 0; n < 3; n++)
		start(BIO_WRITE, (unsigned)rng_below(&rng, BLOCKS - 1), 1, true);
	/* Also in the very moment between the failure and its record. */
	if (rng_one_in(&rng, 3) && sim->crash_at)
		sim->crash_at = sim->persist_points + rng_range(&rng, 1, 6);
	let_pass(rng_below(&rng, 5) * NSEC_PER_MSEC);
	f->one_in[FAULT_WRITE_ERROR] = f->one_in[FAULT_FLUSH_ERROR] = 0;
	let_pass(NSEC_PER_SEC); /* so that the next one meets an array that knows */
}

static void act(void)
{
	unsigned i = (unsigned)rng_below(&rng, oracle->disks);
	bool stall = rng_one_in(&rng, 4);

	switch (rng_below(&rng, 7)) {
	case 0:
		if (!oracle->absent[i] && spare(i)) {
			oracle->whole = false;
			take_out(i);
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
		if (!oracle->absent[i])
			call("bdev_raid_add_base_bdev", OF_RAID, i);
		break;
	case 5:
		if (!oracle->absent[i])
			fail_writes(i);
		break;
	default:
		if (!oracle->absent[i])
			spoil_sector(i, array_is_whole());
	}
}

/* ---- who may be refused -----------------------------------------------------------------------
 */

static void note_rebuilt(void *arg, const struct bdev_event *event)
{
	(void)arg;
	if (strcmp(event->type, "raid_rebuild_finished") == 0)
		oracle->rebuilt[json_string_value(json_object_get(event->detail, "target"))[1] -
		                '0'] = true;
}

/* Whoever started the array had all data, so nobody has what it lacks; and whom a disk that comes
 * back has left behind as a member, and is one still, can tell. */
static void judge_problem(
        void *arg, const struct bdev *bdev, const char *key, const char *text, const char *action)
{
	const struct state *s = arg;

	(void)key;
	(void)action;
	for (unsigned i = 0; i < oracle->disks && strstr(text, "without each other"); i++) {
		if (s->in[i] && !s->target[i] && !oracle->rebuilt[i])
			sim_fail("refused", "%s, and d%u knows it: %s", bdev->name, i, text);
	}
}

static void judge_refusals(void)
{
	struct state s = look();

	if (oracle->whole) {
		memset(oracle->rebuilt, 0, sizeof(oracle->rebuilt));
		oracle->blind = false;
	}
	/* What a crash has left of the records may not say it. */
	if (!oracle->blind)
		bdev_for_each_problem(judge_problem, &s);
}

static void step(void)
{
	unsigned block = (unsigned)rng_below(&rng, BLOCKS - REQUEST_BLOCKS);
	unsigned count = (unsigned)rng_range(&rng, 1, REQUEST_BLOCKS);

	switch (rng_below(&rng, 16)) {
	case 0:
		start(BIO_FLUSH, 0, 0, false);
		break;
	case 1:
		act();
		break;
	case 2:
		let_pass(rng_one_in(&rng, 3) ? 12 * NSEC_PER_SEC : 20 * NSEC_PER_MSEC);
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
	judge_refusals();
}

static void open_array(void)
{
	struct err err = ERR_NONE;

	for (unsigned i = 0; i < 200 && !bdev_find("R"); i++)
		let_pass(NSEC_PER_MSEC);
	if (!bdev_find("R") && oracle->must_start)
		sim_fail("not started", "the array waits though nothing is missing");
	if (!bdev_find("R")) {
		struct answer answer = {0};

		rpc_call("bdev_raid_start", json_pack("{s:s}", "name", "R"), called, &answer);
		wait_for(&answer.done, "the start");
		json_decref(answer.reply);
	}
	if (!array_has_come() || bdev_open(bdev_find("R"), true, &ops, "test", NULL, &handle, &err))
		sim_fail("not started", "the array is not there: %s", err.text);
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
	        json_pack("{s:s, s:s, s:b, s:o}", "name", "R", "raid_level", "raid1", "superblock",
	                1, "base_bdevs", bases),
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
	bdev_subscribe(note_rebuilt, NULL);
	plug_all();
	if (!oracle->created && life == 0)
		create();
	open_array();
	learning = true;
	check_all();
	learning = false;
	oracle->blind |= !oracle->orderly;
	oracle->orderly = oracle->must_start = false;
	check_all();
	for (unsigned i = 0; i < STEPS && life < LIVES; i++)
		step();
	drain();
	if (life == LIVES)
		make_whole();
	check_all();
	stop();
}

/* Only this disk is there, and the user starts the array with it. */
static void live_alone(unsigned which)
{
	begin();
	plug(which);
	open_array();
	start(BIO_WRITE, which * REQUEST_BLOCKS, 1, true);
	stop();
}

/* Both have something that the other one lacks: nobody but the user may choose. */
static void live_at_odds(unsigned first)
{
	begin();
	plug(first);
	plug(1 - first);
	let_pass(2 * NSEC_PER_SEC);
	if (look().complete == 2)
		sim_fail("put together", "two that went on without each other are one array");
	sim_exit(SIM_EXIT_DONE);
}

/* ---- between lives ----------------------------------------------------------------------------
 */

/* The reference assembles the array, which makes one seq more, writes some blocks, and dies before
 * all members have them. */
static void somebody_else(void)
{
	static uint8_t bytes[RAID_SB_MAX_BYTES + 512];
	static struct raid_sb sb, best;
	unsigned on = (unsigned)rng_below(&rng, oracle->disks);
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

		if (b->maybes == MAYBES)
			continue;
		b->maybe[b->maybes++] = words[0];
		for (size_t at = 0; at < BLOCK; at += sizeof(words))
			poke(on, MIB(1) + i * (uint64_t)BLOCK + at, words, sizeof(words));
	}
	power_cut();
}

static void between(void)
{
	bool nobody_absent = true;

	(void)heal();
	for (unsigned i = 0; i < oracle->disks; i++)
		nobody_absent &= !oracle->absent[i];
	if (oracle->whole && oracle->orderly && nobody_absent) {
		oracle->must_start = true;
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

static bool all_equal(void)
{
	static uint8_t a[DISK_BYTES], b[DISK_BYTES];

	sim_disk_read(disk(0), 0, a, DISK_BYTES);
	for (unsigned i = 1; i < oracle->disks; i++) {
		sim_disk_read(disk(i), 0, b, DISK_BYTES);
		for (uint64_t at = MIB(1); at < DISK_BYTES; at += BLOCK) {
			if (memcmp(a + at, b + at, BLOCK) == 0)
				continue;
			str_copy(sim->failure_kind, sizeof(sim->failure_kind), "different");
			snprintf(sim->failure, sizeof(sim->failure), "block %lu of d0 and d%u",
			        (unsigned long)((at - MIB(1)) / BLOCK), i);
			return false;
		}
	}
	return true;
}

static bool one_seed(uint64_t seed, unsigned plant, unsigned *crashes)
{
	bool slow;

	sim_world_reset(seed);
	memset(oracle, 0, sizeof(*oracle));
	rng = rng_stream(seed, 99);
	oracle->disks = (unsigned)rng_range(&rng, 2, DISKS_MAX);
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
	for (unsigned life = 0; life <= LIVES; life++) {
		if (!one_life(seed, life, plant, live, life))
			return false;
		*crashes += !oracle->orderly;
		if (!oracle->created) /* its creation was cut off: nothing was promised */
			return true;
		rng = rng_stream(seed, 101 + life * 2);
		if (life == 1 && oracle->orderly && oracle->whole && oracle->disks == 2 &&
		        rng_one_in(&rng, 4)) {
			oracle->must_start = false;
			return one_life(seed, 10, plant, live_alone, 0) &&
			       one_life(seed, 11, plant, live_alone, 1) &&
			       one_life(seed, 12, plant, live_at_odds, (unsigned)seed & 1);
		}
		if (life < LIVES)
			between();
	}
	return all_equal();
}

static void test_seeds(void **state)
{
	(void)state;
	run_seeds(NULL, 0, one_seed);
}

#if BELLOWS_CHECK
static const char *const plants[] = {
#define X(name, text) #name,
        MIRROR_PLANTS(X)
#undef X
};

static void test_planted_defects_are_found(void **state)
{
	unsigned missed = 0, crashes = 0;

	(void)state;
	if (getenv("RAID_SEEDS"))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(plants); i++) {
		uint64_t seed = 1;

		while (seed <= PLANT_SEEDS && one_seed(seed, PLANT_ARRAYS_BEFORE + 1 + i, &crashes))
			seed++;
		if (seed <= PLANT_SEEDS)
			printf("found after %4llu seeds  %-26s %s: %.90s\n",
			        (unsigned long long)seed, plants[i], sim->failure_kind,
			        sim->failure);
		else
			printf("NOT FOUND  %s\n", plants[i]);
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
