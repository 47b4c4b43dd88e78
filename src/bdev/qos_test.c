/* Rate limits on loops that are threads: changed, quiesced and removed under load. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/load.h"
#include "tests/lib/rng.h"

#define LOOPS 3

static int setup(void **state)
{
	(void)state;
	inproc_start(LOOPS);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 4096, 'block_size': 512}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void set_limits(struct rng *rng)
{
	static const unsigned ios[] = {0, 3000, 20000, 100000};

	inproc_ok("bdev_set_qos_limit",
	        "{'name': 'm', 'rw_ios_per_sec': %u, 'r_ios_per_sec': %u, 'w_mbytes_per_sec': %u}",
	        ios[rng_below(rng, ARRAY_SIZE(ios))], ios[rng_below(rng, ARRAY_SIZE(ios))],
	        (unsigned)rng_below(rng, 3) * 10);
}

static void quiesced(void *arg, const struct err *err)
{
	(void)err;
	bdev_unquiesce(arg);
}

static void quiesce(void *arg)
{
	bdev_quiesce(bdev_find("m"), (struct bdev_done){quiesced, bdev_find("m")});
	(void)arg;
}

/* No request is lost, and none returns wrong data. */
static void test_changes_under_load(void **state)
{
	const struct load_config config = {.data_loops = LOOPS, .depth = 8, .num_blocks = 4096};
	struct disk *disk = disk_open("m", true);
	struct load *load = load_start(disk, &config);
	struct rng rng = rng_of(1);
	struct load_result result;

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		set_limits(&rng);
		if (i % 3 == 0)
			inproc_run(quiesce, NULL);
		if (i % 8 == 0)
			disk_resize("m", i % 16 ? 4096 : 6000, NULL);
		load_run(load, 20);
	}
	result = load_stop(load);
	assert_int_equal(result.errors, 0);
	assert_int_equal(result.mismatches, 0);
	disk_close(disk);
}

static void test_removed_while_they_wait(void **state)
{
	const struct load_config config = {.data_loops = LOOPS, .depth = 8, .num_blocks = 4096};
	struct disk *disk = disk_open("m", true);
	struct load *load = load_start(disk, &config);

	(void)state;
	inproc_ok("bdev_set_qos_limit", "{'name': 'm', 'rw_ios_per_sec': 5}");
	load_run(load, 2);
	assert_int_equal(bdev_remove_wait("m"), 0);
	assert_true(disk_is_removed(disk));
	load_stop(load);
	disk_close(disk);
}

static void test_refusals(void **state)
{
	(void)state;
	inproc_error(-19, "zz", "bdev_set_qos_limit", "{'name': 'zz', 'rw_ios_per_sec': 10000}");
	inproc_error(-22, "No rate limits specified", "bdev_set_qos_limit", "{'name': 'm'}");
	inproc_error(-32603, "rw_mbytes_per_sec", "bdev_set_qos_limit",
	        "{'name': 'm', 'rw_mbytes_per_sec': 17592186044416}");
	inproc_error(-32603, "iops", "bdev_set_qos_limit", "{'name': 'm', 'iops': 1}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_changes_under_load, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_removed_while_they_wait, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
