/*
 * Power cuts while a mirror gets one more member, or another one in the place of one that is taken
 * out. The daemon dies at every point at which a disk changes, from before that until after the
 * rebuild, and what is unflushed is lost, kept, or half of each. Then one member may start alone
 * and be written, as if the others were not plugged in, before all disks come back in any order.
 * The array must be the old one or the new one, and hold what was acknowledged; and the new member
 * alone must, once it has been rebuilt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/sim.h"
#include "tests/lib/sanitized.h"
#include "tests/lib/sim_call.h"

#define BLOCK 512U
#define DATA_BYTES KIB(64)
#define DISK_BYTES (MIB(1) + DATA_BYTES)
#define DISKS 3U
#define REGIONS 4U /* one in each window of a rebuild */
#define REGION_BLOCKS 4U

/* Survives the daemon. */
static struct oracle {
	bool grown; /* the method has answered */
	uint32_t last, acked[REGIONS], pending[REGIONS];
} * oracle;

/* ---- the daemon -------------------------------------------------------------------------------
 */

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
	bool done = false;

	log_set_print_level(getenv("VERBOSE") ? LOG_NOTICE : LOG_ERROR);
	if (loops_start(&(struct loop_config){.data_loops = 2}, &err) != 0)
		sim_fail("start", "%s", err.text);
	bdev_start();
	rpc_start(&options, started, &done);
	wait_for(&done, "the start");
	ok("bdev_raid_set_options",
	        "{\"process_window_size_kb\": 16, \"degraded_start_wait\": \"never\"}");
}

static void plug(unsigned i)
{
	autofree char *params = xasprintf(
	        "{\"name\": \"d%u\", \"filename\": \"/sim/d%u\", \"block_size\": 512, \"uuid\": "
	        "\"00000000-0000-4000-8000-00000000000%u\"}",
	        i, i, i);

	ok("bdev_aio_create", params);
	ok("bdev_wait_for_examine", NULL);
}

static int64_t number_of(const char *key)
{
	json_t *reply = call_json("bdev_raid_get_bdevs", "{\"category\": \"all\"}");
	const json_t *raid = json_array_get(json_object_get(reply, "result"), 0);
	int64_t n = raid ? json_integer_value(json_object_get(raid, key)) : -1;

	json_decref(reply);
	return n;
}

/* All places have a member that has all data. */
static bool is_complete(void)
{
	json_t *reply = call_json("bdev_raid_get_bdevs", "{\"category\": \"online\"}");
	const json_t *raid = json_array_get(json_object_get(reply, "result"), 0);
	bool complete = raid && !json_object_get(raid, "process") &&
	                json_integer_value(json_object_get(raid, "num_base_bdevs_discovered")) ==
	                        json_integer_value(json_object_get(raid, "num_base_bdevs"));

	json_decref(reply);
	return complete;
}

static void wait_until_complete(void)
{
	for (unsigned i = 0; i < 10000 && !is_complete(); i++)
		let_pass(NSEC_PER_MSEC);
	if (!is_complete())
		sim_fail("not complete", "the mirror does not become whole");
}

static bool appears(void)
{
	for (unsigned i = 0; i < 100 && !bdev_find("R"); i++)
		let_pass(NSEC_PER_MSEC);
	return bdev_find("R");
}

/* ---- requests ---- */

struct request {
	struct bio bio;
	struct iovec iov;
	struct bdev_handle *handle;
	uint64_t offset;
	uint8_t buf[REGION_BLOCKS * BLOCK];
	bool done;
};

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

static void removed(struct bdev_handle *handle)
{
	(void)handle;
}

static const struct bdev_holder_ops ops = {.kind = "test", .resized = resized, .removed = removed};

static void ended(struct bio *bio)
{
	struct request *r = bio->arg;

	if (bio->status != 0)
		sim_fail("failed", "%s: %d", bio_op_name(bio->op), bio->status);
	r->done = true;
}

static void submit(void *arg)
{
	struct request *r = arg;

	bio_submit(r->handle, &r->bio, r->offset);
}

static void request(enum bio_op op, unsigned region, unsigned loop, struct request *r)
{
	struct err err = ERR_NONE;
	struct bdev *bdev = bdev_find("R");

	if (!bdev || bdev_open(bdev, true, &ops, "test", NULL, &r->handle, &err) != 0)
		sim_fail("not open", "%s", bdev ? err.text : "R is not there");
	r->offset = region * (DATA_BYTES / BLOCK / REGIONS);
	r->done = false;
	r->iov = (struct iovec){r->buf, sizeof(r->buf)};
	bio_init(&r->bio, op, &r->iov, 1, REGION_BLOCKS, ended, r);
	if (op == BIO_WRITE)
		r->bio.flags = BIO_FUA;
	sim_on_loop(loop, submit, r);
	wait_for(&r->done, "a request");
	bdev_close(r->handle);
}

static void write_all(void)
{
	for (unsigned region = 0; region < REGIONS; region++) {
		struct request r = {.done = false};
		uint32_t value = ++oracle->last;

		for (size_t i = 0; i + 4 <= sizeof(r.buf); i += 4)
			memcpy(r.buf + i, &value, 4);
		oracle->pending[region] = value;
		request(BIO_WRITE, region, value % 3, &r);
		oracle->acked[region] = value;
	}
}

static void check_all(const char *when)
{
	for (unsigned region = 0; region < REGIONS; region++) {
		struct request r = {.done = false};

		request(BIO_READ, region, region % 3, &r);
		for (size_t i = 0; i + 4 <= sizeof(r.buf); i += 4) {
			uint32_t value;

			memcpy(&value, r.buf + i, 4);
			if (value != oracle->acked[region] && value != oracle->pending[region])
				sim_fail("data lost",
				        "%s: region %u has %u; %u was acknowledged, %u may be "
				        "there",
				        when, region, value, oracle->acked[region],
				        oracle->pending[region]);
		}
	}
}

/* ---- lives ---- */

static void grow(void)
{
	ok("bdev_raid_grow_base_bdev", "{\"raid_name\": \"R\", \"base_name\": \"d2\"}");
	if (number_of("num_base_bdevs") != 3)
		sim_fail("not grown", "it has %lld places", (long long)number_of("num_base_bdevs"));
}

static void growing_life(unsigned arg)
{
	(void)arg;
	begin();
	for (unsigned i = 0; i < DISKS; i++)
		plug(i);
	grow();
	oracle->grown = true;
	write_all();
	wait_until_complete();
	write_all();
	sim_exit(SIM_EXIT_DONE);
}

static void replacing_life(unsigned arg)
{
	(void)arg;
	begin();
	for (unsigned i = 0; i < DISKS; i++)
		plug(i);
	ok("bdev_raid_remove_base_bdev", "{\"name\": \"d1\"}");
	write_all();
	ok("bdev_raid_add_base_bdev", "{\"raid_bdev\": \"R\", \"base_bdev\": \"d2\"}");
	write_all();
	wait_until_complete();
	write_all();
	sim_exit(SIM_EXIT_DONE);
}

/* A new disk that has not got so far as to know of the array is added by hand; and one that does
 * not know the others that well: whether it has gone on alone is not for us to say. */
static void give_back(void)
{
	int64_t places = number_of("num_base_bdevs");

	for (unsigned i = 0; i < 10000 && number_of("num_base_bdevs_discovered") < places; i++) {
		for (unsigned disk = 0; disk < DISKS; disk++) {
			autofree char *params =
			        xasprintf("{\"raid_bdev\": \"R\", \"base_bdev\": \"d%u\"}", disk);
			autofree char *name = xasprintf("d%u", disk);

			if (!bdev_is_claimed(bdev_find(name)))
				json_decref(call_json("bdev_raid_add_base_bdev", params));
		}
		let_pass(NSEC_PER_MSEC);
	}
}

/* Before the crash points begin. */
static void life_before(unsigned arg)
{
	(void)arg;
	begin();
	plug(0);
	plug(1);
	ok("bdev_raid_create", "{\"name\": \"R\", \"raid_level\": \"raid1\", \"superblock\": true, "
	                       "\"base_bdevs\": [\"d0\", \"d1\"]}");
	write_all();
	sim_exit(SIM_EXIT_DONE);
}

/* One that says that it has all data goes on alone. */
static void life_alone(unsigned disk)
{
	begin();
	plug(disk);
	json_decref(call_json("bdev_raid_start", "{\"name\": \"R\"}"));
	if (!bdev_find("R")) {
		if (disk == 0)
			sim_fail("not started", "the first disk can't be started alone");
		sim_exit(SIM_EXIT_DONE);
	}
	check_all("alone");
	write_all();
	sim_exit(SIM_EXIT_DONE);
}

static void plug_all(unsigned turn)
{
	static const unsigned orders[6][DISKS] = {
	        {0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}, {2, 0, 1}, {1, 0, 2}};

	for (unsigned i = 0; i < DISKS; i++)
		plug(orders[turn % 6][i]);
}

static void after_replacing(unsigned turn)
{
	begin();
	plug_all(turn);
	if (!appears())
		sim_fail("not found", "the array is not there after a crash");
	check_all("after the crash");
	give_back();
	wait_until_complete();
	check_all("whole again");
	write_all();
	ok("bdev_raid_remove_base_bdev", "{\"name\": \"d0\"}");
	check_all("without the first disk");
	sim_exit(SIM_EXIT_DONE);
}

static void after_growing(unsigned turn)
{
	begin();
	plug_all(turn);
	if (!appears())
		sim_fail("not found", "the array is not there after a crash");
	check_all("after the crash");
	if (oracle->grown && number_of("num_base_bdevs") != 3)
		sim_fail("forgotten", "it does not know that it has grown");
	/* A place that lacks its member is taken first; the disk may know of it or not. */
	if (number_of("num_base_bdevs") == 2) {
		wait_until_complete();
		grow();
	} else {
		give_back();
	}
	wait_until_complete();
	write_all();
	ok("bdev_raid_remove_base_bdev", "{\"name\": \"d0\"}");
	ok("bdev_raid_remove_base_bdev", "{\"name\": \"d1\"}");
	check_all("from the new one");
	sim_exit(SIM_EXIT_DONE);
}

static int live(void (*life)(unsigned), unsigned arg, uint64_t crash_at, enum sim_fate fate)
{
	int status = 0;
	pid_t pid;

	sim->persist_points = 0;
	sim->crash_at = crash_at;
	sim->fate = fate;
	sim->forked = true;
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		life(arg);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	sim->life++;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_end(int how, uint64_t point, unsigned turn)
{
	if (how != SIM_EXIT_DONE)
		fail_msg("crash point %llu, turn %u: %s: %s", (unsigned long long)point, turn,
		        sim->failure_kind, how == SIM_EXIT_FAILED ? sim->failure : "it died");
}

static void new_world(uint64_t seed)
{
	sim_world_reset(seed);
	memset(oracle, 0, sizeof(*oracle));
	for (unsigned i = 0; i < DISKS; i++) {
		char path[16];
		struct sim_file *f;

		snprintf(path, sizeof(path), "/sim/d%u", i);
		f = sim_file_add(path, DISK_BYTES, false);
		f->latency_min_ns = 10 * NSEC_PER_USEC;
		f->latency_max_ns = 500 * NSEC_PER_USEC;
	}
}

struct story {
	void (*first)(unsigned arg), (*after)(unsigned turn);
	unsigned alone[3]; /* who goes on alone; DISKS: nobody */
};

/* True: the first life ended by itself. */
static bool try_point(const struct story *story, uint64_t point, unsigned turn, enum sim_fate fate)
{
	unsigned alone = story->alone[turn % 3];
	int how;

	new_world(7 + turn);
	expect_end(live(life_before, 0, 0, FATE_LOST), point, turn);
	how = live(story->first, 0, point, fate);
	if (how != SIM_EXIT_CRASHED) {
		expect_end(how, point, turn);
		return true;
	}
	if (alone < DISKS)
		expect_end(live(life_alone, alone, 0, FATE_LOST), point, turn);
	expect_end(live(story->after, (unsigned)(point + turn / 3), 0, FATE_LOST), point, turn);
	return false;
}

static void cut_at_every_point(const struct story *story)
{
	static const enum sim_fate fates[] = {
	        FATE_LOST, FATE_KEPT, FATE_HALF, FATE_HALF_2, FATE_KILLED};
	unsigned crashes = 0;
	bool over = false;

	for (uint64_t point = 1; !over; point++) {
		/* Each fate with each of the three: the first alone, the second, none. */
		for (unsigned turn = 0; turn < 3 * ARRAY_SIZE(fates) && !over; turn++) {
			if ((point + turn) % CRASH_STEP != 0)
				continue;
			over = try_point(story, point, turn, fates[turn / 3]);
			crashes += !over;
		}
	}
	printf("%u crashes\n", crashes);
	assert_true(crashes > 100 / CRASH_STEP);
}

static void test_one_more(void **state)
{
	(void)state;
	cut_at_every_point(&(struct story){growing_life, after_growing, {0, 1, DISKS}});
}

static void test_another_one(void **state)
{
	(void)state;
	cut_at_every_point(&(struct story){replacing_life, after_replacing, {0, 2, DISKS}});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_one_more),
	        cmocka_unit_test(test_another_one),
	};

	sim_world_create();
	oracle = mmap(
	        NULL, sizeof(*oracle), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (oracle == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
