/*
 * How a rebuild, a resync and a check yield to clients, in simulated time: alone at full speed;
 * with clients about no more than the share; what is set holds at once, for all arrays or for one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/sim.h"

#define BLOCK 4096U
#define DISK_BYTES MIB(4)
#define DISKS 3U
#define PATIENCE_NS (1000 * NSEC_PER_SEC)

/* ---- the daemon -------------------------------------------------------------------------------
 */

static bool is_set(void *arg)
{
	return *(bool *)arg;
}

static void wait_for(bool *flag, const char *what)
{
	if (!sim_run_until(is_set, flag, PATIENCE_NS))
		sim_fail("stuck", "%s does not end", what);
}

struct answer {
	bool done;
	json_t *reply;
};

static void called(void *arg, const json_t *reply)
{
	struct answer *answer = arg;

	answer->reply = json_deep_copy(reply);
	answer->done = true;
}

static json_t *ok(const char *method, const char *params)
{
	struct answer answer = {0};
	json_t *result;

	rpc_call(method, params ? json_loads(params, 0, NULL) : NULL, called, &answer);
	wait_for(&answer.done, method);
	result = json_incref(json_object_get(answer.reply, "result"));
	if (!result) {
		autofree char *text = json_dumps(answer.reply, 0);

		sim_fail("refused", "%s %s: %s", method, params, text);
	}
	json_decref(answer.reply);
	return result;
}

static void started(void *arg, const struct err *err)
{
	if (err && err->code)
		sim_fail("start", "%s", err->text);
	*(bool *)arg = true;
}

static void begin(const char *level)
{
	autofree char *params = xasprintf("{\"name\": \"R\", \"raid_level\": \"%s\", %s"
	                                  "\"base_bdevs\": [\"d0\", \"d1\", \"d2\"]}",
	        level, strcmp(level, "raid1") == 0 ? "" : "\"strip_size_kb\": 4, ");
	struct rpc_options options = {0};
	struct err err = ERR_NONE;
	bool done = false;

	log_set_print_level(LOG_ERROR);
	if (loops_start(&(struct loop_config){.data_loops = 2}, &err) != 0)
		sim_fail("start", "%s", err.text);
	bdev_start();
	rpc_start(&options, started, &done);
	wait_for(&done, "the start");
	json_decref(ok("bdev_raid_set_options", "{\"process_window_size_kb\": 16}"));
	for (unsigned i = 0; i < DISKS; i++) {
		autofree char *disk = xasprintf("{\"name\": \"d%u\", \"filename\": \"/sim/d%u\", "
		                                "\"block_size\": 4096}",
		        i, i);

		json_decref(ok("bdev_aio_create", disk));
	}
	json_decref(ok("bdev_raid_create", params));
}

struct pause {
	struct loop_timer timer;
	bool over;
};

static void pause_over(struct loop_timer *timer)
{
	container_of(timer, struct pause, timer)->over = true;
}

static void let_pass(uint64_t ns)
{
	struct pause pause = {.timer.fire = pause_over};

	loop_timer_start(loop_self(), &pause.timer, loop_now_ns(loop_self()) + ns);
	wait_for(&pause.over, "a pause");
}

/* ---- clients ---- */

static struct client {
	struct bio bio;
	struct iovec iov;
	struct bdev_handle *handle;
	uint64_t requests;
	bool stop, stopped;
	uint8_t buf[BLOCK];
} client;

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

static void next(void *arg);

static void ended(struct bio *bio)
{
	if (bio->status != 0)
		sim_fail("request failed", "%d", bio->status);
	next(NULL);
}

static void next(void *arg)
{
	(void)arg;
	if (client.stop) {
		client.stopped = true;
		return;
	}
	client.requests++;
	client.iov = (struct iovec){client.buf, BLOCK};
	bio_init(&client.bio, client.requests % 4 ? BIO_READ : BIO_WRITE, &client.iov, 1, 1, ended,
	        NULL);
	bio_submit(client.handle, &client.bio, client.requests * 7 % (DISK_BYTES / BLOCK));
}

static void clients_come(void)
{
	struct err err = ERR_NONE;

	memset(&client, 0, sizeof(client));
	if (bdev_open(bdev_find("R"), true, &ops, "test", NULL, &client.handle, &err) != 0)
		sim_fail("not open", "%s", err.text);
	sim_on_loop(1, next, NULL);
}

static void clients_go(void)
{
	client.stop = true;
	wait_for(&client.stopped, "a client");
	bdev_close(client.handle);
}

/* ---- what takes how long ---- */

static bool is_idle(void)
{
	json_t *list = ok("bdev_raid_get_bdevs", "{\"category\": \"online\"}");
	const json_t *raid = json_array_get(list, 0), *check = json_object_get(raid, "check");
	const char *state = json_string_value(json_object_get(check, "state"));
	bool idle = !json_object_get(raid, "process") && !(state && strcmp(state, "running") == 0);

	json_decref(list);
	return idle;
}

static void start(const char *job)
{
	if (strcmp(job, "check") == 0) {
		json_decref(ok("bdev_raid_check", "{\"name\": \"R\"}"));
		return;
	}
	json_decref(ok("bdev_raid_remove_base_bdev", "{\"name\": \"d1\"}"));
	json_decref(ok("bdev_raid_add_base_bdev", "{\"raid_bdev\": \"R\", \"base_bdev\": \"d1\"}"));
}

static uint64_t ns_until_idle(void)
{
	uint64_t begin_ns = sim->now_ns;

	for (unsigned i = 0; !is_idle(); i++) {
		if (i > 1000000)
			sim_fail("stuck", "it does not end");
		let_pass(NSEC_PER_MSEC / 10);
	}
	return sim->now_ns - begin_ns;
}

static uint64_t ns_for(const char *job)
{
	start(job);
	return ns_until_idle();
}

static void set(const char *options)
{
	json_decref(ok("bdev_raid_set_options", options));
}

static void expect(bool right, const char *what, uint64_t a, uint64_t b)
{
	if (!right)
		sim_fail("pace", "%s: %llu and %llu us", what, (unsigned long long)(a / 1000),
		        (unsigned long long)(b / 1000));
}

static const char *level, *job;

static void yields(void)
{
	uint64_t alone, unyielding, half, tenth;

	begin(level);
	ns_until_idle(); /* parity of a new array */
	ns_for(job);     /* the first time it does more than that */
	alone = ns_for(job);
	clients_come();
	set("{\"process_share_percent\": 100}");
	unyielding = ns_for(job);
	set("{\"process_share_percent\": 50}");
	half = ns_for(job);
	set("{\"process_share_percent\": 10}");
	tenth = ns_for(job);
	clients_go();
	/* Windows take longer now and then, and so does the rest after them. */
	expect(unyielding < 5 * alone, "all of the time", alone, unyielding);
	expect(half > unyielding * 5 / 4, "half of the time", unyielding, half);
	expect(tenth > 3 * half, "a tenth of the time", half, tenth);
	expect(tenth < 12 * half, "not much less than a tenth", half, tenth);
	/* Nobody is about: the share says nothing. */
	let_pass(NSEC_PER_SEC);
	set("{\"process_share_percent\": 1}");
	expect(ns_for(job) < 2 * alone + NSEC_PER_SEC, "clients have gone", alone, 0);
	/* They come and go while it runs. */
	clients_come();
	start(job);
	let_pass(10 * alone);
	expect(!is_idle(), "a hundredth of the time", alone, 0);
	clients_go();
	expect(ns_until_idle() < 2 * alone + NSEC_PER_SEC, "they have gone meanwhile", alone, 0);
	/* What is set holds at once. */
	clients_come();
	start(job);
	let_pass(10 * alone);
	expect(!is_idle(), "a hundredth of the time", alone, 0);
	set("{\"process_share_percent\": 100}");
	expect(ns_until_idle() < 5 * alone + NSEC_PER_SEC / 10, "set meanwhile", alone, 0);
	clients_go();
	sim_exit(SIM_EXIT_DONE);
}

static void own_options(void)
{
	uint64_t alone, limited, bytes = DISK_BYTES;

	begin("raid1");
	alone = ns_for("rebuild");
	set("{\"name\": \"other\", \"process_max_bandwidth_mb_sec\": 1}");
	expect(ns_for("rebuild") < 2 * alone, "the limit of another one", alone, 0);
	set("{\"name\": \"R\", \"process_max_bandwidth_mb_sec\": 1}");
	limited = ns_for("rebuild");
	expect(limited > bytes * NSEC_PER_SEC / MIB(1) * 9 / 10, "a limit", limited, 0);
	expect(limited < bytes * NSEC_PER_SEC / MIB(1) * 12 / 10, "a limit", limited, 0);
	/* One of its own counts, not that of all; also while it runs. */
	set("{\"process_max_bandwidth_mb_sec\": 1}");
	start("rebuild");
	let_pass(alone);
	expect(!is_idle(), "a limit", alone, 0);
	set("{\"name\": \"R\", \"process_max_bandwidth_mb_sec\": 0}");
	expect(ns_until_idle() < 2 * alone + NSEC_PER_SEC / 10, "no limit any more", alone, 0);
	/* Larger windows, each of which waits for the disk's answer once. */
	set("{\"name\": \"R\", \"process_window_size_kb\": 4}");
	limited = ns_for("rebuild");
	set("{\"name\": \"R\", \"process_window_size_kb\": 256}");
	expect(ns_for("rebuild") < limited / 4, "larger windows", limited, 0);
	sim_exit(SIM_EXIT_DONE);
}

/* ---- lives ------------------------------------------------------------------------------------
 */

static void live(void (*life)(void))
{
	int status = 0;
	pid_t pid;

	sim_world_reset(11);
	for (unsigned i = 0; i < DISKS; i++) {
		char path[16];
		struct sim_file *f;

		snprintf(path, sizeof(path), "/sim/d%u", i);
		f = sim_file_add(path, DISK_BYTES, false);
		f->latency_min_ns = 100 * NSEC_PER_USEC;
		f->latency_max_ns = 300 * NSEC_PER_USEC;
	}
	sim->forked = true;
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		life();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != SIM_EXIT_DONE)
		fail_msg("%s: %s", sim->failure_kind, sim->failure);
}

static void test_rebuild_of_a_mirror(void **state)
{
	(void)state;
	level = "raid1";
	job = "rebuild";
	live(yields);
}

static void test_rebuild_with_parity(void **state)
{
	(void)state;
	level = "raid5f";
	job = "rebuild";
	live(yields);
}

static void test_check(void **state)
{
	(void)state;
	level = "raid1";
	job = "check";
	live(yields);
}

static void test_options_of_one_array(void **state)
{
	(void)state;
	live(own_options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rebuild_of_a_mirror),
	        cmocka_unit_test(test_rebuild_with_parity),
	        cmocka_unit_test(test_check),
	        cmocka_unit_test(test_options_of_one_array),
	};

	sim_world_create();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
