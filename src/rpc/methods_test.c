/*
 * methods_test.c: the methods of bdevs and what is generated for modules: codes, and results member
 * by member, as clients know them.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "tests/lib/inproc.h"
#include "tests/lib/rpc_client.h"
#include "tests/lib/test_modules.h"

static void generated_methods_answer_as_clients_know(void **state)
{
	static const struct {
		const char *request;
		int code;
	} errors[] = {
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"N0\",\"num_blocks\":9,\"block_size\":512}"),
	                -EEXIST},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"N1\",\"num_blocks\":9,\"block_size\":512,\"uuid\":"
	                 "\"11111111-2222-3333-4444-555555555555\"}"),
	                -EEXIST},
	        {RPC_CALL("bdev_plain_create", "{\"name\":\"NX\"}"), -32603},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"NX\",\"num_blocks\":9,\"block_size\":512,\"bogus\":1}"),
	                -32603},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"NX\",\"num_blocks\":\"9\",\"block_size\":512}"),
	                -32603},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"NX\",\"num_blocks\":9,\"block_size\":1000}"),
	                -EINVAL},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"NX\",\"num_blocks\":0,\"block_size\":4096}"),
	                -EINVAL},
	        {RPC_CALL("bdev_plain_create", "[\"NA\",256,4096]"), -32603},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"NU\",\"num_blocks\":9,\"block_size\":512,\"uuid\":\"zz\"}"),
	                -32603},
	        {RPC_CALL("bdev_plain_create",
	                 "{\"name\":\"\",\"num_blocks\":9,\"block_size\":512}"),
	                -EINVAL},
	        {RPC_CALL("bdev_plain_delete", "{\"name\":\"nosuch\"}"), -ENODEV},
	        {RPC_CALL("bdev_through_delete", "{\"name\":\"N0\"}"), -ENODEV},
	        {RPC_CALL("bdev_through_create", "{\"name\":\"P1\",\"base_bdev_name\":\"N0\"}"),
	                -EPERM},
	        {RPC_CALL("bdev_through_create", "{\"name\":\"P1\"}"), -32603},
	        {RPC_CALL("bdev_get_bdevs", "{\"name\":\"nosuch\"}"), -ENODEV},
	        {RPC_CALL("bdev_get_bdevs", "{\"name\":\"nosuch\",\"timeout\":30}"), -ETIMEDOUT},
	        {RPC_CALL("bdev_get_bdevs", "{\"nome\":\"N0\"}"), -32603},
	};
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_expect_result(fd,
	        RPC_CALL("bdev_plain_create",
	                "{\"name\":\"N0\",\"num_blocks\":25600,\"block_size\":4096,"
	                "\"label\":\"x\","
	                "\"uuid\":\"11111111-2222-3333-4444-555555555555\"}"),
	        "\"N0\"");
	rpc_client_expect_result(fd,
	        RPC_CALL("bdev_through_create", "{\"name\":\"P0\",\"base_bdev_name\":\"N0\"}"),
	        "\"P0\"");
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		rpc_client_expect_error(fd, errors[i].request, "1", errors[i].code);
	rpc_client_expect_result(fd,
	        RPC_CALL("bdev_through_create", "{\"name\":\"P2\",\"base_bdev_name\":\"notyet\"}"),
	        "\"P2\"");
	rpc_client_expect_error(
	        fd, RPC_CALL("bdev_plain_delete", "{\"name\":\"P2\"}"), "1", -ENODEV);
	rpc_client_expect_result(fd, RPC_CALL("bdev_through_delete", "{\"name\":\"P2\"}"), "true");
	rpc_client_expect_error(
	        fd, RPC_CALL("bdev_through_delete", "{\"name\":\"P2\"}"), "1", -ENODEV);
	rpc_client_expect_result(fd, RPC_CALL("bdev_plain_delete", "{\"name\":\"N0\"}"), "true");
	rpc_client_expect_error(fd, RPC_CALL("bdev_get_bdevs", "{\"name\":\"P0\"}"), "1", -ENODEV);
	rpc_client_expect_result(fd, RPC_CALL("bdev_get_bdevs", "{}"), "[]");
	close(fd);
}

static void bdevs_are_listed_member_by_member(void **state)
{
	int fd = rpc_client_connect();

	(void)state;
	rpc_client_expect_result(fd,
	        RPC_CALL("bdev_plain_create",
	                "{\"name\":\"N0\",\"num_blocks\":25600,\"block_size\":4096,"
	                "\"uuid\":\"11111111-2222-3333-4444-555555555555\"}"),
	        "\"N0\"");
	rpc_client_expect_result(fd,
	        RPC_CALL("bdev_through_create", "{\"name\":\"P0\",\"base_bdev_name\":\"N0\"}"),
	        "\"P0\"");
	rpc_client_expect_result(fd,
	        RPC_CALL("bdev_get_bdevs", "{\"name\":\"11111111-2222-3333-4444-555555555555\"}"),
	        "[{\"name\":\"N0\",\"aliases\":[\"11111111-2222-3333-4444-555555555555\"],"
	        "\"product_name\":\"Plain disk\",\"block_size\":4096,\"num_blocks\":25600,"
	        "\"preferred_write_alignment\":0,\"preferred_write_granularity\":0,"
	        "\"optimal_write_size\":0,\"preferred_unmap_alignment\":0,"
	        "\"preferred_unmap_granularity\":0,"
	        "\"uuid\":\"11111111-2222-3333-4444-555555555555\","
	        "\"assigned_rate_limits\":{\"rw_ios_per_sec\":0,\"rw_mbytes_per_sec\":0,"
	        "\"r_mbytes_per_sec\":0,\"w_mbytes_per_sec\":0},\"claimed\":true,"
	        "\"claim_type\":\"exclusive_write\",\"zoned\":false,"
	        "\"supported_io_types\":{\"read\":true,\"write\":true,\"unmap\":false,"
	        "\"flush\":false,\"reset\":true,\"nvme_admin\":false,\"nvme_io\":false,"
	        "\"nvme_io_md\":false,\"write_zeroes\":true,\"zcopy\":false,"
	        "\"get_zone_info\":false,\"zone_management\":false,\"zone_append\":false,"
	        "\"compare\":false,\"compare_and_write\":false,\"abort\":false,"
	        "\"seek_hole\":false,\"seek_data\":false,\"copy\":false,\"nvme_iov_md\":false,"
	        "\"nvme_nssr\":false,\"write_uncorrectable\":false},\"driver_specific\":{}}]");
	rpc_client_expect_result(fd, RPC_CALL("bdev_plain_delete", "{\"name\":\"N0\"}"), "true");
	close(fd);
}

static void events_are_pushed_until_unsubscribed(void **state)
{
	static const char create[] = RPC_CALL(
	        "bdev_plain_create", "{\"name\":\"E0\",\"num_blocks\":8,\"block_size\":512}");
	static const char delete[] = RPC_CALL("bdev_plain_delete", "{\"name\":\"E0\"}");
	int fd = rpc_client_connect(), other = rpc_client_connect();
	json_t *event, *params;

	(void)state;
	rpc_client_expect_result(
	        fd, RPC_CALL("events_subscribe", "{\"types\":[\"bdev_register\"]}"), "true");
	rpc_client_expect_result(other, create, "\"E0\"");
	event = rpc_client_read_json(fd);
	params = json_object_get(event, "params");
	assert_string_equal(json_string_value(json_object_get(event, "method")), "event");
	assert_null(json_object_get(event, "id"));
	assert_string_equal(json_string_value(json_object_get(params, "type")), "bdev_register");
	assert_string_equal(json_string_value(json_object_get(params, "bdev")), "E0");
	json_decref(event);
	rpc_client_expect_result(other, delete, "true");
	rpc_client_expect_result(fd, "{\"method\":\"events_unsubscribe\",\"id\":1}", "true");
	rpc_client_expect_result(other, create, "\"E0\"");
	rpc_client_expect_result(other, delete, "true");
	rpc_client_expect_nothing_more(fd);
	/* The connection goes while it is subscribed. */
	rpc_client_expect_result(fd, RPC_CALL("events_subscribe", "{}"), "true");
	close(fd);
	rpc_client_expect_result(other, create, "\"E0\"");
	rpc_client_expect_result(other, delete, "true");
	close(other);
}

static void raise_event(void *arg)
{
	bdev_event_raise("test_noise", "N", json_pack("{s:s}", "text", arg));
}

static void a_subscriber_that_does_not_read_is_disconnected(void **state)
{
	autofree char *text = xcalloc(1, 100001);
	int fd = rpc_client_connect(), other = rpc_client_connect();
	ssize_t n;

	(void)state;
	memset(text, 'x', 100000);
	rpc_client_expect_result(fd, RPC_CALL("events_subscribe", "{}"), "true");
	for (int i = 0; i < 200; i++)
		inproc_run(raise_event, text);
	/* Whatever was under way comes, then the end. */
	while ((n = recv(fd, text, 100000, 0)) > 0)
		;
	assert_true(n == 0 || errno == ECONNRESET);
	rpc_client_expect_nothing_more(other);
	close(fd);
	close(other);
}

/* ---- statistics -------------------------------------------------------------------------------
 */

#define READS 5
#define READ_BLOCKS 8

struct reading {
	struct bdev_handle *handle;
	struct bio bio;
	struct iovec iov;
	unsigned left;
	bool done;
	char data[READ_BLOCKS * 512];
};

static void never_resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

static void never_removed(struct bdev_handle *handle)
{
	(void)handle;
}

static const struct bdev_holder_ops reader_ops = {
        .kind = "test", .resized = never_resized, .removed = never_removed};

static void read_next(struct bio *bio)
{
	struct reading *r = bio->arg;

	assert_int_equal(bio->status, 0);
	if (!r->left--) {
		bdev_close(r->handle);
		r->done = true;
		return;
	}
	r->iov = (struct iovec){.iov_base = r->data, .iov_len = sizeof(r->data)};
	bio_init(bio, BIO_READ, &r->iov, 1, READ_BLOCKS, read_next, r);
	bio_submit(r->handle, bio, 0);
}

static void start_reading(void *arg)
{
	struct reading *r = arg;
	struct err err = ERR_NONE;

	if (bdev_open(bdev_find("S0"), false, &reader_ops, "test reader", r, &r->handle, &err))
		fail_msg("%s", err.text);
	r->left = READS;
	r->bio.arg = r;
	r->bio.status = 0;
	read_next(&r->bio);
}

static void is_done(void *arg)
{
	bool **flags = arg;

	*flags[1] = *flags[0];
}

static void do_reads(void)
{
	struct reading r = {0};
	bool done = false, *flags[] = {&r.done, &done};

	inproc_run(start_reading, &r);
	while (!done)
		inproc_run(is_done, flags);
}

static json_int_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value))
		fail_msg("no number %s", key);
	return json_integer_value(value);
}

static void create_s0(void)
{
	inproc_ok("bdev_plain_create", "{'name': 'S0', 'num_blocks': 1000, 'block_size': 512}");
}

static void iostat_counts(void **state)
{
	json_t *result, *row;

	(void)state;
	create_s0();
	inproc_ok("bdev_plain_create", "{'name': 'S1', 'num_blocks': 10, 'block_size': 512}");
	/* Modules may have looked for their metadata. */
	inproc_ok("bdev_wait_for_examine", NULL);
	inproc_ok("bdev_reset_iostat", "{'mode': 'all'}");
	do_reads();
	result = inproc_result("bdev_get_iostat", "{'names': ['S0'], 'per_channel': false}");
	assert_true(number(result, "tick_rate") > 0 && number(result, "ticks") > 0);
	row = json_array_get(json_object_get(result, "bdevs"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "name")), "S0");
	assert_int_equal(number(row, "num_read_ops"), READS);
	assert_int_equal(number(row, "bytes_read"), READS * READ_BLOCKS * 512);
	assert_int_equal(number(row, "num_write_ops"), 0);
	assert_int_equal(number(row, "min_write_latency_ticks"), 0);
	assert_true(number(row, "max_read_latency_ticks") >= number(row, "min_read_latency_ticks"));
	assert_int_equal(json_object_size(json_object_get(row, "io_error")), 0);
	json_decref(result);
	result = inproc_result(
	        "bdev_get_iostat", "{'names': ['S0'], 'per_channel': true, 'reset_mode': 'all'}");
	assert_string_equal(json_string_value(json_object_get(result, "name")), "S0");
	assert_int_equal(json_array_size(json_object_get(result, "channels")), 3);
	row = json_array_get(json_object_get(result, "channels"), 0);
	assert_int_equal(number(row, "thread_id"), 0);
	assert_int_equal(number(row, "num_read_ops"), READS);
	json_decref(result);
	result = inproc_result("bdev_get_iostat", NULL);
	assert_int_equal(json_array_size(json_object_get(result, "bdevs")), 2);
	row = json_array_get(json_object_get(result, "bdevs"), 0);
	assert_int_equal(number(row, "num_read_ops"), 0);
	json_decref(result);
	inproc_error(-EINVAL, "exactly one", "bdev_get_iostat", "{'per_channel': true}");
	inproc_error(-ENODEV, "nope", "bdev_get_iostat", "{'names': ['S0', 'nope']}");
	inproc_error(RPC_INTERNAL_ERROR, "'name' is unknown", "bdev_get_iostat", "{'name': 'S0'}");
	inproc_ok("bdev_reset_iostat", "{'name': 'S0'}");
	inproc_ok("bdev_reset_iostat", "{'mode': 'maxmin'}");
	inproc_error(-ENODEV, "nope", "bdev_reset_iostat", "{'name': 'nope'}");
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
	inproc_ok("bdev_plain_delete", "{'name': 'S1'}");
}

static void histograms_count(void **state)
{
	json_t *result, *counts, *count;
	json_int_t sum = 0, buckets;
	size_t i;

	(void)state;
	create_s0();
	inproc_error(-ENOMEM, "", "bdev_get_histogram", "{'name': 'S0'}");
	inproc_error(-ENODEV, "", "bdev_get_histogram", "{'name': 'nope'}");
	inproc_error(-ENODEV, "", "bdev_enable_histogram", "{'name': 'nope', 'enable': true}");
	inproc_error(RPC_INTERNAL_ERROR, "zz", "bdev_enable_histogram",
	        "{'name': 'S0', 'enable': true, 'opc': 'zz'}");
	inproc_ok("bdev_enable_histogram", "{'name': 'S0', 'enable': true}");
	do_reads();
	result = inproc_result("bdev_get_histogram", "{'name': 'S0'}");
	assert_int_equal(number(result, "granularity"), 7);
	assert_int_equal(number(result, "tsc_rate"), NSEC_PER_SEC);
	/* Whole ranges of 2^7 counters of 8 bytes, in base64. */
	buckets = (number(result, "max_range") - number(result, "min_range") + 1) * 128;
	assert_int_equal(json_string_length(json_object_get(result, "histogram")),
	        (buckets * 8 + 2) / 3 * 4);
	json_decref(result);
	result =
	        inproc_result("bdev_get_histogram_borders", "{'name': 'S0', 'borders': [10, 100]}");
	counts = json_object_get(result, "borders_count");
	assert_int_equal(json_array_size(counts), 3);
	json_array_foreach (counts, i, count)
		sum += json_integer_value(count);
	assert_int_equal(sum, READS);
	json_decref(result);
	inproc_error(-EINVAL, "ascend", "bdev_get_histogram_borders",
	        "{'name': 'S0', 'borders': [10, 10]}");
	inproc_ok("bdev_enable_histogram", "{'name': 'S0', 'enable': false}");
	inproc_error(-ENOMEM, "", "bdev_get_histogram", "{'name': 'S0'}");
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
}

/* ---- resize -----------------------------------------------------------------------------------
 */

static json_int_t blocks_of(const char *name)
{
	json_t *list = inproc_result("bdev_get_bdevs", "{'name': '%s'}", name);
	json_int_t blocks = number(json_array_get(list, 0), "num_blocks");

	json_decref(list);
	return blocks;
}

static void sizes_are_said_in_several_ways(void **state)
{
	static const struct {
		const char *params;
		json_int_t blocks;
	} good[] = {
	        {"'num_blocks': 2048", 2048},
	        {"'size_bytes': 2097152", 4096},
	        {"'size': '4MiB'", 8192},
	        {"'size': '+1M'", 10240},
	        {"'size': '+0'", 10240},
	};
	static const struct {
		const char *params;
		int code;
	} bad[] = {
	        {"'num_blocks': 0", -EINVAL},
	        {"'size_bytes': 1000", -EINVAL},
	        {"'size_bytes': 1024, 'num_blocks': 2", RPC_INVALID_PARAMS},
	        {"'num_blocks': 9223372036854775807", -EINVAL},
	        {"'size': '-1T'", -EINVAL},
	        {"'size': '+8E'", -EINVAL},
	        {"'size': 'much'", -EINVAL},
	        {"'size': ''", -EINVAL},
	        {"'size': '--1G'", -EINVAL},
	        {"'size': '0'", -EINVAL},
	};

	(void)state;
	create_s0();
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		inproc_ok("bdev_resize", "{'name': 'S0', %s}", good[i].params);
		assert_int_equal(blocks_of("S0"), good[i].blocks);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		inproc_error(bad[i].code, "", "bdev_resize", "{'name': 'S0', %s}", bad[i].params);
		inproc_error(bad[i].code, "", "bdev_get_resize_plan", "{'name': 'S0', %s}",
		        bad[i].params);
	}
	inproc_error(RPC_INVALID_PARAMS, "exactly one", "bdev_resize", "{'name': 'S0'}");
	inproc_error(-ENODEV, "nope", "bdev_resize", "{'name': 'nope', 'num_blocks': 5}");
	assert_int_equal(blocks_of("S0"), 10240);
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
}

static void resizes_report_every_layer(void **state)
{
	json_t *result, *layer;

	(void)state;
	create_s0();
	inproc_ok("bdev_through_create", "{'name': 'T0', 'base_bdev_name': 'S0'}");
	result = inproc_result("bdev_get_resize_plan", "{'name': 'S0', 'num_blocks': 3000}");
	assert_true(json_is_true(json_object_get(result, "possible")));
	assert_true(json_is_null(json_object_get(result, "reason")));
	assert_int_equal(json_array_size(json_object_get(result, "layers")), 2);
	json_decref(result);
	assert_int_equal(blocks_of("T0"), 1000);

	result = inproc_result("bdev_resize", "{'name': 'S0', 'num_blocks': 3000}");
	assert_int_equal(json_array_size(json_object_get(result, "layers")), 2);
	assert_true(number(result, "duration_us") >= 0);
	layer = json_array_get(json_object_get(result, "layers"), 1);
	assert_string_equal(json_string_value(json_object_get(layer, "name")), "T0");
	assert_int_equal(number(layer, "old_blocks"), 1000);
	assert_int_equal(number(layer, "new_blocks"), 3000);
	assert_int_equal(number(layer, "block_size"), 512);
	assert_true(json_is_true(json_object_get(layer, "published")));
	assert_true(json_is_string(json_object_get(layer, "why")));
	assert_int_equal(number(layer, "told"), 0);
	assert_int_equal(number(layer, "cannot_tell"), 0);
	json_decref(result);
	assert_int_equal(blocks_of("T0"), 3000);

	inproc_error(-EINVAL, "T0", "bdev_resize", "{'name': 'T0', 'num_blocks': 5000}");
	inproc_ok("bdev_set_resize_policy", "{'name': 'T0', 'policy': 'hold'}");
	inproc_error(-EBUSY, "T0", "bdev_resize", "{'name': 'S0', 'num_blocks': 2000}");
	result = inproc_result("bdev_get_resize_plan", "{'name': 'S0', 'num_blocks': 2000}");
	assert_true(json_is_false(json_object_get(result, "possible")));
	assert_int_equal(number(result, "code"), -EBUSY);
	assert_non_null(strstr(json_string_value(json_object_get(result, "reason")), "T0"));
	json_decref(result);
	inproc_ok("bdev_resize", "{'name': 'S0', 'num_blocks': 4000}");
	assert_int_equal(blocks_of("T0"), 3000);
	inproc_ok("bdev_set_resize_policy", "{'name': 'T0', 'policy': 'follow'}");
	inproc_error(
	        -ENODEV, "nope", "bdev_set_resize_policy", "{'name': 'nope', 'policy': 'hold'}");
	inproc_error(RPC_INVALID_PARAMS, "policy", "bdev_set_resize_policy",
	        "{'name': 'T0', 'policy': 'maybe'}");
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
}

/* ---- the whole --------------------------------------------------------------------------------
 */

static void trees_show_who_stands_on_whom(void **state)
{
	json_t *tree, *root, *above, *waiting;

	(void)state;
	create_s0();
	inproc_ok("bdev_through_create", "{'name': 'T0', 'base_bdev_name': 'S0'}");
	inproc_ok("bdev_through_create", "{'name': 'T1', 'base_bdev_name': 'later'}");
	tree = inproc_result("bdev_get_tree", NULL);
	assert_int_equal(json_array_size(json_object_get(tree, "bdevs")), 1);
	root = json_array_get(json_object_get(tree, "bdevs"), 0);
	assert_string_equal(json_string_value(json_object_get(root, "name")), "S0");
	assert_string_equal(json_string_value(json_object_get(root, "module")), "plain");
	assert_true(json_is_true(json_object_get(root, "claimed")));
	assert_string_equal(json_string_value(json_object_get(root, "policy")), "follow");
	above = json_array_get(json_object_get(root, "above"), 0);
	assert_string_equal(json_string_value(json_object_get(above, "name")), "T0");
	assert_string_equal(
	        json_string_value(json_array_get(json_object_get(above, "bases"), 0)), "S0");
	assert_int_equal(number(above, "num_blocks"), 1000);
	inproc_error(-EINVAL, "num_blocks", "bdev_set_resize_policy",
	        "{'name': 'T1', 'policy': 'hold'}");
	waiting = json_array_get(json_object_get(tree, "waiting"), 0);
	assert_string_equal(json_string_value(json_object_get(waiting, "name")), "T1");
	assert_string_equal(json_string_value(json_object_get(waiting, "missing")), "later");
	json_decref(tree);
	inproc_ok("bdev_through_delete", "{'name': 'T1'}");
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
	inproc_error(RPC_INVALID_PARAMS, "", "bdev_get_tree", "{}");
}

static void set_problem(void *arg)
{
	bdev_set_problem(bdev_find("S0"), "test", arg, "look at it");
}

static void problems_say_what_to_do(void **state)
{
	json_t *list, *problem;

	(void)state;
	create_s0();
	list = inproc_result("bdev_get_problems", NULL);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	inproc_run(set_problem, "it is broken");
	list = inproc_result("bdev_get_problems", NULL);
	problem = json_array_get(list, 0);
	assert_string_equal(json_string_value(json_object_get(problem, "bdev")), "S0");
	assert_string_equal(json_string_value(json_object_get(problem, "key")), "test");
	assert_string_equal(json_string_value(json_object_get(problem, "text")), "it is broken");
	assert_string_equal(json_string_value(json_object_get(problem, "action")), "look at it");
	json_decref(list);
	inproc_run(set_problem, NULL);
	list = inproc_result("bdev_get_problems", NULL);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
}

static void notifications_are_kept(void **state)
{
	json_t *list, *last;
	json_int_t next;

	(void)state;
	list = inproc_result("notify_get_types", NULL);
	assert_int_equal(json_array_size(list), 3);
	json_decref(list);
	create_s0();
	list = inproc_result("notify_get_notifications", NULL);
	last = json_array_get(list, json_array_size(list) - 1);
	assert_string_equal(json_string_value(json_object_get(last, "type")), "bdev_register");
	assert_string_equal(json_string_value(json_object_get(last, "ctx")), "S0");
	next = number(last, "id") + 1;
	json_decref(list);
	list = inproc_result("notify_get_notifications", "{'id': %lld}", (long long)next);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	inproc_ok("bdev_resize", "{'name': 'S0', 'num_blocks': 2000}");
	inproc_ok("bdev_plain_delete", "{'name': 'S0'}");
	list = inproc_result("notify_get_notifications", "{'id': %lld, 'max': 1}", (long long)next);
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(
	        json_string_value(json_object_get(json_array_get(list, 0), "type")), "bdev_resize");
	json_decref(list);
	inproc_error(RPC_INVALID_PARAMS, "", "notify_get_notifications", "{'x': 1}");
}

static void examining_answers(void **state)
{
	(void)state;
	inproc_ok("bdev_wait_for_examine", NULL);
	inproc_error(RPC_INVALID_PARAMS, "", "bdev_wait_for_examine", "{}");
	inproc_error(-EINVAL, "", "bdev_examine", "{'name': 'S0'}");
	inproc_error(RPC_INVALID_PARAMS, "name", "bdev_examine", "{}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(generated_methods_answer_as_clients_know),
	        cmocka_unit_test(bdevs_are_listed_member_by_member),
	        cmocka_unit_test(events_are_pushed_until_unsubscribed),
	        cmocka_unit_test(a_subscriber_that_does_not_read_is_disconnected),
	        cmocka_unit_test(iostat_counts),
	        cmocka_unit_test(histograms_count),
	        cmocka_unit_test(sizes_are_said_in_several_ways),
	        cmocka_unit_test(resizes_report_every_layer),
	        cmocka_unit_test(trees_show_who_stands_on_whom),
	        cmocka_unit_test(problems_say_what_to_do),
	        cmocka_unit_test(notifications_are_kept),
	        cmocka_unit_test(examining_answers),
	};

	test_modules_link();
	return cmocka_run_group_tests(tests, rpc_client_setup, rpc_client_teardown);
}
