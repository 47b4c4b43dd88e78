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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(generated_methods_answer_as_clients_know),
	        cmocka_unit_test(bdevs_are_listed_member_by_member),
	        cmocka_unit_test(events_are_pushed_until_unsubscribed),
	        cmocka_unit_test(a_subscriber_that_does_not_read_is_disconnected),
	};

	test_modules_link();
	return cmocka_run_group_tests(tests, rpc_client_setup, rpc_client_teardown);
}
