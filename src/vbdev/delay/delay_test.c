/* The delay bdev: when requests answer, in which order, and how latencies are changed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

#define HOUR_US 3600000000ULL

static int setup(void **state)
{
	(void)state;
	bdev_options()->auto_examine = false; /* its reads count too */
	inproc_start(2);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 1024, 'block_size': 512}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void create(unsigned long long read_us, unsigned long long write_us)
{
	inproc_ok("bdev_delay_create",
	        "{'name': 'd', 'base_bdev_name': 'm', 'avg_read_latency': %llu, "
	        "'p99_read_latency': %llu, 'avg_write_latency': %llu, 'p99_write_latency': %llu}",
	        read_us, read_us, write_us, write_us);
}

static void set(const char *type, unsigned long long us)
{
	inproc_ok("bdev_delay_update_latency",
	        "{'delay_bdev_name': 'd', 'latency_type': '%s', 'latency_us': %llu}", type, us);
}

static void test_answers_late(void **state)
{
	uint8_t buf[512] = {1};

	(void)state;
	create(20000, 30000);
	struct disk *disk = disk_open("d", true);
	uint64_t start_ns = loop_clock_ns();

	assert_int_equal(disk_write(disk, 5, 1, buf), 0);
	assert_true(loop_clock_ns() - start_ns >= 30 * NSEC_PER_MSEC);
	start_ns = loop_clock_ns();
	memset(buf, 0, sizeof(buf));
	assert_int_equal(disk_read(disk, 5, 1, buf), 0);
	assert_true(loop_clock_ns() - start_ns >= 20 * NSEC_PER_MSEC);
	assert_int_equal(buf[0], 1);
	disk_close(disk);
}

/* An hour for reads: what is no read does not wait, and a new latency lets go what does. */
static void test_lowered_latency_lets_go(void **state)
{
	struct disk_io reads[40];
	uint8_t buf[512] = {0}, bufs[40][512];
	struct iovec iov[40];

	(void)state;
	create(HOUR_US, 0);
	struct disk *disk = disk_open("d", true);

	for (size_t i = 0; i < ARRAY_SIZE(reads); i++) {
		iov[i] = (struct iovec){bufs[i], sizeof(bufs[i])};
		disk_start(disk, &reads[i], 1 + i % 2, BIO_READ, 0, i, 1, &iov[i], 1);
	}
	assert_int_equal(disk_write(disk, 100, 1, buf), 0);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 200, 8, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++)
		assert_false(disk_poll(&reads[i]));
	set("avg_read", 0);
	set("p99_read", 0);
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++)
		assert_int_equal(disk_wait(&reads[i]), 0);
	disk_close(disk);
}

/* About one in a hundred takes the p99 latency: none of the others waits. */
static void test_some_are_slow(void **state)
{
	enum {
		N = 2000
	};
	struct disk_io *reads = xcalloc(N, sizeof(*reads));
	uint8_t buf[512];
	struct iovec iov = {buf, sizeof(buf)};
	unsigned slow = 0;

	(void)state;
	create(0, 0);
	set("p99_read", HOUR_US);
	struct disk *disk = disk_open("d", true);

	for (unsigned i = 0; i < N; i++)
		disk_start(disk, &reads[i], 1, BIO_READ, 0, i % 1024, 1, &iov, 1);
	/* A flush is not delayed, and comes after them on the same loop. */
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	for (unsigned i = 0; i < N; i++)
		slow += !disk_poll(&reads[i]);
	assert_in_range(slow, 1, N / 20);
	set("p99_read", 0);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(disk_wait(&reads[i]), 0);
	disk_close(disk);
	free(reads);
}

static void test_errors_are_passed_on(void **state)
{
	uint8_t buf[512];

	(void)state;
	inproc_ok("bdev_error_create", "{'base_name': 'm'}");
	inproc_ok("bdev_delay_create",
	        "{'name': 'd', 'base_bdev_name': 'EE_m', 'avg_read_latency': 100, "
	        "'p99_read_latency': 100, 'avg_write_latency': 0, 'p99_write_latency': 0}");
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'read', 'error_type': 'failure'}");
	struct disk *disk = disk_open("d", true);

	assert_int_equal(disk_read(disk, 0, 1, buf), -EIO);
	assert_int_equal(disk_read(disk, 0, 1, buf), 0);
	disk_close(disk);
}

static void test_methods(void **state)
{
	(void)state;
	create(10, 20);
	set("p99_read", 50);
	json_t *entry = expect_bdev("d");
	autofree char *specific = xasprintf(
	        "{'delay': {'name': 'd', 'base_bdev_name': 'm', 'uuid': '%s', "
	        "'avg_read_latency': 10, 'p99_read_latency': 50, 'avg_write_latency': 20, "
	        "'p99_write_latency': 20}}",
	        json_string_value(json_object_get(entry, "uuid")));

	expect_driver_specific("d", specific);
	assert_string_equal(json_string_value(json_object_get(entry, "product_name")), "delay");
	json_decref(entry);
	expect_saved("bdev_delay_create",
	        "{'name': 'd', 'base_bdev_name': 'm', 'avg_read_latency': 10, "
	        "'p99_read_latency': 50, 'avg_write_latency': 20, 'p99_write_latency': 20}");
	inproc_error(-32602, "nope", "bdev_delay_update_latency",
	        "{'delay_bdev_name': 'nope', 'latency_type': 'avg_read', 'latency_us': 5}");
	inproc_error(-32600, "'m'", "bdev_delay_update_latency",
	        "{'delay_bdev_name': 'm', 'latency_type': 'avg_read', 'latency_us': 5}");
	inproc_error(-32603, "latency_type", "bdev_delay_update_latency",
	        "{'delay_bdev_name': 'd', 'latency_type': 'x', 'latency_us': 5}");
	inproc_error(-EPERM, "'m'", "bdev_delay_create",
	        "{'name': 'e', 'base_bdev_name': 'm', 'avg_read_latency': 0, "
	        "'p99_read_latency': 0, 'avg_write_latency': 0, 'p99_write_latency': 0}");
	inproc_ok("bdev_delay_delete", "{'name': 'd'}");
	inproc_error(-ENODEV, "d", "bdev_delay_delete", "{'name': 'd'}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_answers_late, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_lowered_latency_lets_go, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_some_are_slow, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_errors_are_passed_on, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
