/*
 * Power cuts. A mirror with superblock on two simulated disks with caches is created, written,
 * left alone until its bitmap is clean, written, loses a member, gets it back and is rebuilt, loses
 * the other one, gets that back. The daemon dies
 * at every point at which a disk changes, and what is unflushed is lost, kept, or half of each. In
 * the next life the disks are plugged in in either order: what was acknowledged must be there, from
 * either member alone.
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
#define REGIONS 4U /* one in each window of a rebuild */
#define REGION_BLOCKS 4U
#define WINDOW_KB 16

/* Survives the daemon. */
static struct oracle {
	bool created;
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

	log_set_print_level(LOG_ERROR);
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

/* ---- requests ---- */

struct request {
	struct bio bio;
	struct iovec iov;
	struct bdev_handle *handle;
	uint64_t offset;
	uint8_t buf[REGION_BLOCKS * BLOCK];
	bool done, ended;
	int status;
	struct loop_task task;
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

	r->status = bio->status;
	r->done = true;
}

static void submit(void *arg)
{
	struct request *r = arg;

	bio_submit(r->handle, &r->bio, r->offset);
}

static int request(enum bio_op op, unsigned region, unsigned loop, struct request *r)
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
	return r->status;
}

static void write_all(void)
{
	for (unsigned region = 0; region < REGIONS; region++) {
		struct request r = {.done = false};
		uint32_t value = ++oracle->last;

		for (size_t i = 0; i + 4 <= sizeof(r.buf); i += 4)
			memcpy(r.buf + i, &value, 4);
		oracle->pending[region] = value;
		if (request(BIO_WRITE, region, value % 3, &r) != 0)
			sim_fail("write failed", "%d", r.status);
		oracle->acked[region] = value;
	}
}

static void check_all(const char *when)
{
	for (unsigned region = 0; region < REGIONS; region++) {
		struct request r = {.done = false};

		if (request(BIO_READ, region, region % 3, &r) != 0)
			sim_fail("read failed", "%d", r.status);
		for (size_t i = 0; i + 4 <= sizeof(r.buf); i += 4) {
			uint32_t value;

			memcpy(&value, r.buf + i, 4);
			if (value != oracle->acked[region] && value != oracle->pending[region])
				sim_fail("data lost",
				        "%s: region %u has %u; %u was acknowledged, "
				        "%u may be there",
				        when, region, value, oracle->acked[region],
				        oracle->pending[region]);
		}
	}
}

/* ---- lives ---- */

static bool is_complete(void)
{
	json_t *reply = call_json("bdev_raid_get_bdevs", "{\"category\": \"online\"}");
	const json_t *raid = json_array_get(json_object_get(reply, "result"), 0);
	bool complete =
	        json_integer_value(json_object_get(raid, "num_base_bdevs_discovered")) == 2 &&
	        !json_object_get(raid, "process");

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

static void replace(unsigned i)
{
	autofree char *remove = xasprintf("{\"name\": \"d%u\"}", i);
	autofree char *add = xasprintf("{\"raid_bdev\": \"R\", \"base_bdev\": \"d%u\"}", i);

	ok("bdev_raid_remove_base_bdev", remove);
	write_all();
	check_all("without a member");
	ok("bdev_raid_add_base_bdev", add);
	write_all();
	wait_until_complete();
	check_all("rebuilt");
}

static void first_life(void)
{
	begin();
	plug(0);
	plug(1);
	ok("bdev_raid_create", "{\"name\": \"R\", \"raid_level\": \"raid1\", \"superblock\": true, "
	                       "\"base_bdevs\": [\"d0\", \"d1\"]}");
	oracle->created = true;
	write_all();
	/* The bitmap forgets, and is set again. */
	let_pass(20 * NSEC_PER_SEC);
	write_all();
	replace(1);
	replace(0);
	sim_exit(SIM_EXIT_DONE);
}

static void next_life(unsigned first)
{
	begin();
	/* One that was the only member, or the array's only one that is not stale. */
	plug(first);
	for (unsigned i = 0; i < 20 && !bdev_find("R"); i++)
		let_pass(NSEC_PER_MSEC);
	if (bdev_find("R"))
		check_all("with one disk");
	plug(1 - first);
	for (unsigned i = 0; i < 100 && !bdev_find("R"); i++)
		let_pass(NSEC_PER_MSEC);
	if (!bdev_find("R")) {
		if (oracle->created)
			sim_fail("not found", "the array is not there after a crash");
		sim_exit(SIM_EXIT_DONE);
	}
	check_all("after the crash");
	wait_until_complete();
	check_all("whole again");
	replace(first);
	ok("bdev_raid_remove_base_bdev", first ? "{\"name\": \"d0\"}" : "{\"name\": \"d1\"}");
	check_all("from the rebuilt one");
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

static void begin_first(unsigned arg)
{
	(void)arg;
	first_life();
}

static void new_world(uint64_t seed)
{
	sim_world_reset(seed);
	memset(oracle, 0, sizeof(*oracle));
	for (unsigned i = 0; i < 2; i++) {
		char path[16];
		struct sim_file *f;

		snprintf(path, sizeof(path), "/sim/d%u", i);
		f = sim_file_add(path, DISK_BYTES, false);
		f->latency_min_ns = 10 * NSEC_PER_USEC;
		f->latency_max_ns = 500 * NSEC_PER_USEC;
	}
}

static void test_power_cuts_at_every_point(void **state)
{
	static const enum sim_fate fates[] = {
	        FATE_LOST, FATE_KEPT, FATE_HALF, FATE_HALF_2, FATE_KILLED};
	unsigned crashes = 0;
	bool ended_in_order = false;

	(void)state;
	for (uint64_t point = 1; !ended_in_order; point++) {
		for (unsigned k = 0; k < ARRAY_SIZE(fates); k++) {
			if ((point + k) % CRASH_STEP != 0)
				continue;
			new_world(7 + k);
			int how = live(begin_first, 0, point, fates[k]);

			if (how == SIM_EXIT_DONE) {
				ended_in_order = true;
				continue;
			}
			if (how == SIM_EXIT_CRASHED) {
				crashes++;
				how = live(next_life, (unsigned)(point + k) % 2, 0, FATE_LOST);
			}
			if (how != SIM_EXIT_DONE)
				fail_msg("crash point %llu, fate %u: %s: %s",
				        (unsigned long long)point, k, sim->failure_kind,
				        how == SIM_EXIT_FAILED ? sim->failure : "it died");
		}
	}
	printf("%u crashes\n", crashes);
	assert_true(crashes > 100 / CRASH_STEP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_power_cuts_at_every_point),
	};

	sim_world_create();
	oracle = mmap(
	        NULL, sizeof(*oracle), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (oracle == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
