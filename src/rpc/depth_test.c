/* Queue depths and buffers: what is counted for those who want to know. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"

static int setup(void **state)
{
	(void)state;
	bdev_options()->auto_examine = false; /* its reads count too */
	inproc_start(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static const json_t *depth_row(json_t *result)
{
	return json_array_get(json_object_get(result, "bdevs"), 0);
}

static void queue_depths_are_sampled_on_demand(void **state)
{
	json_t *result = NULL;
	bool seen = false;

	(void)state;
	inproc_ok("bdev_null_create", "{'name': 'n', 'num_blocks': 1000, 'block_size': 512}");
	inproc_error(
	        -ENODEV, "nope", "bdev_set_qd_sampling_period", "{'name': 'nope', 'period': 1000}");
	inproc_error(RPC_INTERNAL_ERROR, "period", "bdev_set_qd_sampling_period", "{'name': 'n'}");
	inproc_ok("bdev_delay_create",
	        "{'name': 'slow', 'base_bdev_name': 'n', 'avg_read_latency': 300000, "
	        "'p99_read_latency': 300000, 'avg_write_latency': 0, 'p99_write_latency': 0}");
	inproc_ok("bdev_set_qd_sampling_period", "{'name': 'slow', 'period': 1000}");
	struct disk *disk = disk_open("slow", false);
	uint8_t *data = xcalloc(1, disk->block_bytes);
	struct iovec iov = {data, disk->block_bytes};
	struct disk_io io;

	disk_start(disk, &io, 1, BIO_READ, 0, 0, 1, &iov, 1);
	for (unsigned i = 0; i < PATIENCE_MS && !seen; i++) {
		json_decref(result);
		result = inproc_result("bdev_get_iostat", "{'names': ['slow']}");
		seen = json_integer_value(json_object_get(depth_row(result), "queue_depth")) == 1;
		usleep(1000);
	}
	assert_true(seen);
	assert_int_equal(json_integer_value(
	                         json_object_get(depth_row(result), "queue_depth_polling_period")),
	        1000);
	assert_true(json_integer_value(json_object_get(depth_row(result), "io_time")) >= 1000);
	assert_true(
	        json_integer_value(json_object_get(depth_row(result), "weighted_io_time")) >= 1000);
	json_decref(result);
	assert_int_equal(disk_wait(&io), 0);
	disk_close(disk);
	free(data);
	inproc_ok("bdev_set_qd_sampling_period", "{'name': 'slow', 'period': 0}");
	result = inproc_result("bdev_get_iostat", "{'names': ['slow']}");
	assert_null(json_object_get(depth_row(result), "queue_depth"));
	json_decref(result);
	/* One that goes while it is sampled. */
	inproc_ok("bdev_set_qd_sampling_period", "{'name': 'slow', 'period': 1}");
	inproc_ok("bdev_delay_delete", "{'name': 'slow'}");
}

static void expect_buffers(unsigned made, unsigned reused)
{
	json_t *result = inproc_result("iobuf_get_stats", "{'anything': 1}");
	const json_t *pool = json_object_get(json_array_get(result, 0), "small_pool");

	assert_int_equal(json_array_size(result), 1);
	assert_int_equal(json_object_size(pool), 4);
	assert_int_equal(json_integer_value(json_object_get(pool, "main")), made);
	assert_int_equal(json_integer_value(json_object_get(pool, "cache")), reused);
	json_decref(result);
}

/* A write that is damaged on its way needs a buffer. */
static void buffers_are_counted(void **state)
{
	uint8_t data[512] = {0};
	struct disk *disk;

	(void)state;
	inproc_ok("bdev_null_create", "{'name': 'm', 'num_blocks': 1000, 'block_size': 512}");
	inproc_ok("bdev_error_create", "{'base_name': 'm'}");
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'write', 'error_type': 'corrupt_data', 'num': 3}");
	disk = disk_open("EE_m", true);
	expect_buffers(0, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(disk_do(disk, 1, BIO_WRITE, 0, 0, 1, data), 0);
	expect_buffers(1, 2);
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(queue_depths_are_sampled_on_demand),
	        cmocka_unit_test(buffers_are_counted),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
