/* Rate limits in simulated time: how many requests of several loops get in, and what becomes of
 * those that wait when the bdev changes under them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "bdev/qos.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/sim.h"

#define LOOPS 3
#define DEPTH 16
#define BLOCK 512U

/* ---- the daemon ------------------------------------------------------------------------------ */

static bool flag_is_set(void *arg)
{
	return *(bool *)arg;
}

static void wait_for(bool *flag)
{
	assert_true(sim_run_until(flag_is_set, flag, 1000 * NSEC_PER_SEC));
}

static void done(void *arg, const struct err *err)
{
	if (err && err->code)
		fail_msg("%s", err->text);
	*(bool *)arg = true;
}

struct answer {
	bool here;
	json_t *reply;
};

static void answered(void *arg, const json_t *reply)
{
	struct answer *answer = arg;

	answer->reply = json_deep_copy(reply);
	answer->here = true;
}

/* The result; the caller gives it back. */
static json_t *call(const char *method, const char *params)
{
	struct answer answer = {.here = false};
	json_t *result;

	rpc_call(method, params ? json_loads(params, 0, NULL) : NULL, answered, &answer);
	wait_for(&answer.here);
	result = json_incref(json_object_get(answer.reply, "result"));
	if (!result)
		fail_msg("%s: %s", method,
		        json_string_value(json_object_get(
		                json_object_get(answer.reply, "error"), "message")));
	json_decref(answer.reply);
	return result;
}

static void ok(const char *method, const char *params)
{
	json_decref(call(method, params));
}

static bool time_is_over(void *arg)
{
	return loop_now_ns(loop_self()) >= *(uint64_t *)arg;
}

static struct loop_timer alarm_clock;

static void rang(struct loop_timer *timer)
{
	(void)timer;
}

static void pass(uint64_t ns)
{
	uint64_t end = loop_now_ns(loop_self()) + ns;

	alarm_clock.fire = rang;
	loop_timer_start(loop_self(), &alarm_clock, end);
	assert_true(sim_run_until(time_is_over, &end, ns + NSEC_PER_SEC));
}

/* ---- a client with requests on every data loop ----------------------------------------------- */

static struct client {
	struct bdev_handle *handle;
	bool again; /* what ends is sent again */
	enum bio_op ops[2];
	uint64_t offset_blocks, num_blocks;
	unsigned in_flight, ended[LOOPS + 1][2], failed[200];
	struct request {
		struct bio bio;
		unsigned kind;
	} requests[LOOPS + 1][DEPTH];
	struct iovec iov;
	uint8_t data[64 * 1024];
} client;

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

static bool removed;

static void was_removed(struct bdev_handle *handle)
{
	(void)handle;
	removed = true;
}

static int agrees(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	(void)handle;
	(void)new_blocks;
	(void)err;
	return 0;
}

static const struct bdev_holder_ops holder = {
        .kind = "test", .resized = resized, .removed = was_removed, .may_shrink = agrees};

static void ended(struct bio *bio);

static void send(struct request *r)
{
	enum bio_op op = client.ops[r->kind];

	client.in_flight++;
	bio_init(&r->bio, op, &client.iov, 1, client.num_blocks, ended, r);
	bio_submit(client.handle, &r->bio, client.offset_blocks);
}

static void ended(struct bio *bio)
{
	struct request *r = bio->arg;

	client.in_flight--;
	if (bio->status)
		client.failed[-bio->status]++;
	else
		client.ended[loop_self()->id][r->kind]++;
	if (client.again)
		send(r);
}

static void send_all(void *arg)
{
	unsigned id = loop_self()->id;

	(void)arg;
	for (unsigned i = 0; i < DEPTH; i++) {
		client.requests[id][i].kind = i % 2;
		send(&client.requests[id][i]);
	}
}

static void go(enum bio_op even, enum bio_op odd, uint64_t num_blocks, bool again)
{
	struct bdev_handle *handle = client.handle;

	memset(&client, 0, sizeof(client));
	client.handle = handle;
	client.again = again;
	client.ops[0] = even;
	client.ops[1] = odd;
	client.num_blocks = num_blocks;
	client.iov = (struct iovec){client.data, sizeof(client.data)};
	for (unsigned id = 1; id <= LOOPS; id++)
		sim_on_loop(id, send_all, NULL);
}

static bool all_ended(void *arg)
{
	(void)arg;
	return client.in_flight == 0;
}

static void finish(void)
{
	client.again = false;
	ok("bdev_set_qos_limit", "{\"name\": \"m\", \"rw_ios_per_sec\": 0, \"r_ios_per_sec\": 0, "
	                         "\"w_ios_per_sec\": 0, \"rw_mbytes_per_sec\": 0, "
	                         "\"r_mbytes_per_sec\": 0, \"w_mbytes_per_sec\": 0}");
	assert_true(sim_run_until(all_ended, NULL, NSEC_PER_SEC));
}

static unsigned total(unsigned kind)
{
	unsigned sum = 0;

	for (unsigned id = 1; id <= LOOPS; id++)
		sum += client.ended[id][kind];
	return sum;
}

static void limit(const char *text)
{
	autofree char *params = xasprintf("{\"name\": \"m\", %s}", text);

	ok("bdev_set_qos_limit", params);
}

static int setup(void **state)
{
	struct loop_config config = {.data_loops = LOOPS};
	struct rpc_options options = {0};
	struct err err = ERR_NONE;
	bool flag = false;

	(void)state;
	log_set_print_level(LOG_ERROR);
	sim_world_reset(7);
	assert_int_equal(loops_start(&config, &err), 0);
	bdev_start();
	rpc_start(&options, done, &flag);
	wait_for(&flag);
	ok("bdev_malloc_create", "{\"name\": \"m\", \"num_blocks\": 2048, \"block_size\": 512}");
	assert_int_equal(
	        bdev_open(bdev_find("m"), true, &holder, "test", NULL, &client.handle, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	bool flag = false;

	(void)state;
	bdev_close(client.handle);
	bdev_stop((struct bdev_done){.fn = done, .arg = &flag});
	wait_for(&flag);
	rpc_stop();
	sim_loops_end();
	return 0;
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* In so many seconds at most what the rate, the burst and a turn of each loop allow; and not much
 * less, although loops are late now and then. */
static void expect_rate(unsigned count, double per_sec, double seconds, double each)
{
	double most = per_sec * (seconds + (double)QOS_BURST_NS / 1e9) / each + 2 * (LOOPS + 1);
	double least = per_sec * seconds / each * 0.95 - 1;

	if ((double)count > most || (double)count < least)
		fail_msg("%u requests in %.0f s, where %.0f to %.0f are right", count, seconds,
		        least, most);
}

static void test_exact_over_loops(void **state)
{
	static const unsigned rates[] = {10, 777, 20000};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
		double seconds = rates[i] > 10000 ? 2 : 20;
		autofree char *text = xasprintf("\"rw_ios_per_sec\": %u", rates[i]);

		limit(text);
		go(BIO_READ, BIO_WRITE, 1, true);
		pass((uint64_t)(seconds * 1e9));
		expect_rate(total(0) + total(1), rates[i], seconds, 1);
		/* Nobody starves. */
		for (unsigned id = 1; id <= LOOPS; id++)
			for (unsigned kind = 0; kind < 2; kind++)
				assert_true(client.ended[id][kind] * 2 * LOOPS >
				            (total(0) + total(1)) / 2);
		finish();
	}
}

static void test_bytes(void **state)
{
	(void)state;
	limit("\"rw_mbytes_per_sec\": 3");
	go(BIO_READ, BIO_WRITE, 128, true);
	pass(10 * NSEC_PER_SEC);
	expect_rate(total(0) + total(1), 3 << 20, 10, 65536);
	finish();
}

static void test_directions_are_apart(void **state)
{
	(void)state;
	limit("\"w_mbytes_per_sec\": 1, \"r_ios_per_sec\": 5000");
	go(BIO_READ, BIO_WRITE, 128, true);
	pass(10 * NSEC_PER_SEC);
	expect_rate(total(0), 5000, 10, 1);
	expect_rate(total(1), 1 << 20, 10, 65536);
	finish();
	limit("\"r_mbytes_per_sec\": 2, \"w_ios_per_sec\": 50");
	go(BIO_COMPARE, BIO_UNMAP, 16, true);
	pass(10 * NSEC_PER_SEC);
	assert_true(client.failed[EILSEQ] == 0);
	expect_rate(total(0), 2 << 20, 10, 16 * BLOCK);
	expect_rate(total(1), 50, 10, 1);
	finish();
}

static void test_several_limits(void **state)
{
	(void)state;
	limit("\"rw_ios_per_sec\": 100, \"r_ios_per_sec\": 20, \"rw_mbytes_per_sec\": 100");
	go(BIO_READ, BIO_WRITE, 8, true);
	pass(20 * NSEC_PER_SEC);
	expect_rate(total(0), 20, 20, 1);
	expect_rate(total(0) + total(1), 100, 20, 1);
	finish();
}

static void test_changes_while_they_wait(void **state)
{
	(void)state;
	limit("\"rw_ios_per_sec\": 1");
	go(BIO_READ, BIO_WRITE, 1, true);
	pass(10 * NSEC_PER_SEC);
	expect_rate(total(0) + total(1), 1, 10, 1);
	limit("\"rw_ios_per_sec\": 2000");
	memset(client.ended, 0, sizeof(client.ended));
	pass(5 * NSEC_PER_SEC);
	expect_rate(total(0) + total(1), 2000, 5, 1);
	limit("\"rw_ios_per_sec\": 3");
	memset(client.ended, 0, sizeof(client.ended));
	pass(30 * NSEC_PER_SEC);
	expect_rate(total(0) + total(1), 3, 30, 1);
	finish();
}

/* Changed again and again, a limit gives nothing away. */
static void test_changes_give_no_burst(void **state)
{
	uint64_t start;

	(void)state;
	limit("\"rw_ios_per_sec\": 1000");
	go(BIO_READ, BIO_WRITE, 1, true);
	start = loop_now_ns(loop_self());
	for (unsigned i = 0; i < 500; i++) {
		limit(i % 2 ? "\"r_mbytes_per_sec\": 500" : "\"r_mbytes_per_sec\": 600");
		pass(10 * NSEC_PER_MSEC);
	}
	expect_rate(total(0) + total(1), 1000, (double)(loop_now_ns(loop_self()) - start) / 1e9, 1);
	finish();
}

static void test_quiesce(void **state)
{
	struct bdev *bdev = bdev_find("m");
	bool flag = false;
	unsigned before;

	(void)state;
	limit("\"rw_ios_per_sec\": 10");
	go(BIO_READ, BIO_WRITE, 1, true);
	pass(NSEC_PER_SEC);
	bdev_quiesce(bdev, (struct bdev_done){done, &flag});
	/* It does not wait for who waits. */
	assert_true(sim_run_until(flag_is_set, &flag, 50 * NSEC_PER_MSEC));
	before = total(0) + total(1);
	pass(100 * NSEC_PER_SEC);
	assert_int_equal(total(0) + total(1), before);
	bdev_unquiesce(bdev);
	pass(10 * NSEC_PER_SEC);
	expect_rate(total(0) + total(1) - before, 10, 10, 1);
	finish();
}

static void test_range_lock(void **state)
{
	struct bdev *bdev = bdev_find("m");
	bool flag = false;
	struct bdev_range range = {.num_blocks = 1, .locked = {done, &flag}};

	(void)state;
	limit("\"rw_ios_per_sec\": 10");
	go(BIO_READ, BIO_WRITE, 1, false);
	bdev_range_lock(bdev, &range);
	assert_true(sim_run_until(flag_is_set, &flag, 50 * NSEC_PER_MSEC));
	memset(client.ended, 0, sizeof(client.ended));
	pass(20 * NSEC_PER_SEC);
	assert_int_equal(total(0) + total(1), 0);
	bdev_range_unlock(bdev, &range);
	assert_true(sim_run_until(all_ended, NULL, NSEC_PER_SEC));
	finish();
}

static void test_removal(void **state)
{
	bool flag = false;
	unsigned waiting;
	struct err err = ERR_NONE;

	(void)state;
	limit("\"rw_ios_per_sec\": 1");
	go(BIO_READ, BIO_WRITE, 1, false);
	pass(NSEC_PER_SEC);
	waiting = client.in_flight;
	assert_true(waiting > 40);
	removed = false;
	bdev_remove(bdev_find("m"), (struct bdev_done){done, &flag});
	assert_true(sim_run_until(all_ended, NULL, 100 * NSEC_PER_MSEC));
	assert_int_equal(client.failed[ENODEV], waiting);
	wait_for(&removed);
	bdev_close(client.handle);
	wait_for(&flag);

	ok("bdev_malloc_create", "{\"name\": \"m\", \"num_blocks\": 2048, \"block_size\": 512}");
	assert_int_equal(
	        bdev_open(bdev_find("m"), true, &holder, "test", NULL, &client.handle, &err), 0);
}

static void test_shrink(void **state)
{
	(void)state;
	limit("\"rw_ios_per_sec\": 10");
	go(BIO_READ, BIO_WRITE, 1, false);
	assert_true(sim_run_until(all_ended, NULL, 100 * NSEC_PER_SEC));
	client.offset_blocks = 2000;
	for (unsigned id = 1; id <= LOOPS; id++)
		sim_on_loop(id, send_all, NULL);
	ok("bdev_resize", "{\"name\": \"m\", \"num_blocks\": 1000}");
	memset(client.ended, 0, sizeof(client.ended));
	assert_true(sim_run_until(all_ended, NULL, 100 * NSEC_PER_SEC));
	assert_int_equal(total(0) + total(1), 0);
	assert_true(client.failed[EIO] > 40);
}

static uint8_t meta[4096] __attribute__((aligned(4096)));

static void test_metadata_passes(void **state)
{
	bool flag = false;

	(void)state;
	limit("\"rw_ios_per_sec\": 1");
	go(BIO_READ, BIO_WRITE, 1, true);
	bdev_write_meta(bdev_find("m"), 100, 8, meta, (struct bdev_done){done, &flag});
	assert_true(sim_run_until(flag_is_set, &flag, 100 * NSEC_PER_MSEC));
	finish();
}

static void test_saved_and_shown(void **state)
{
	json_t *config, *bdevs, *want;
	bool found = false;

	(void)state;
	limit("\"rw_ios_per_sec\": 1500, \"w_mbytes_per_sec\": 7, \"r_ios_per_sec\": 9");
	bdevs = call("bdev_get_bdevs", "{\"name\": \"m\"}");
	want = json_pack("{s:i, s:i, s:i, s:i, s:i}", "rw_ios_per_sec", 1500, "rw_mbytes_per_sec",
	        0, "r_mbytes_per_sec", 0, "w_mbytes_per_sec", 7, "r_ios_per_sec", 9);
	assert_true(json_equal(
	        json_object_get(json_array_get(bdevs, 0), "assigned_rate_limits"), want));
	json_decref(bdevs);
	json_decref(want);
	want = json_pack("{s:s, s:{s:s, s:i, s:i, s:i}}", "method", "bdev_set_qos_limit", "params",
	        "name", "m", "rw_ios_per_sec", 1500, "w_mbytes_per_sec", 7, "r_ios_per_sec", 9);
	config = call("framework_get_config", "{\"name\": \"bdev\"}");
	for (size_t i = 0; i < json_array_size(config); i++)
		found |= json_equal(json_array_get(config, i), want);
	assert_true(found);
	json_decref(config);
	json_decref(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_exact_over_loops, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_directions_are_apart, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_several_limits, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_changes_while_they_wait, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_changes_give_no_burst, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_quiesce, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_range_lock, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_removal, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shrink, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_metadata_passes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_saved_and_shown, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
