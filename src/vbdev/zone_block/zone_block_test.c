/* The zone_block bdev on real loops: its methods, every state and action, and many loops at once.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "tests/lib/zone_model.h"

#define LOOPS 3
#define CAPACITY 12
#define ZONE 16
#define ZONES 20

static int setup(void **state)
{
	(void)state;
	inproc_start(LOOPS);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': %d, 'block_size': 512}",
	        ZONES * ZONE + 5);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void create(int max_open, int max_active)
{
	inproc_ok("bdev_zone_block_create",
	        "{'name': 'z', 'base_bdev': 'm', 'zone_capacity': %d, 'optimal_open_zones': 2, "
	        "'max_open_zones': %d, 'max_active_zones': %d}",
	        CAPACITY, max_open, max_active);
}

static void manage_all(const char *action)
{
	inproc_ok("bdev_zone_manage", "{'name': 'z', 'action': '%s', 'all': true}", action);
}

static void manage(const char *action, unsigned zone)
{
	inproc_ok("bdev_zone_manage", "{'name': 'z', 'action': '%s', 'zone': %u}", action, zone);
}

static int act(struct disk *disk, unsigned loop, enum zone_action action, unsigned zone)
{
	struct disk_io io = {.disk = disk};

	io.bio.zone_action = (uint8_t)action;
	disk_start(disk, &io, loop, BIO_ZONE_MGMT, 0, (uint64_t)zone * ZONE, ZONE, NULL, 0);
	return disk_wait(&io);
}

/* State and blocks written, as a client sees it. */
static void expect_zone(unsigned zone, const char *state, unsigned written)
{
	json_t *result = inproc_result(
	        "bdev_zone_report", "{'name': 'z', 'start_zone': %u, 'num_zones': 1}", zone);
	json_t *z = json_array_get(json_object_get(result, "zones"), 0);

	assert_string_equal(json_string_value(json_object_get(z, "state")), state);
	assert_int_equal(json_integer_value(json_object_get(z, "zone")), zone);
	assert_int_equal(
	        json_integer_value(json_object_get(z, "write_pointer")), zone * ZONE + written);
	json_decref(result);
}

/* ---- methods ----------------------------------------------------------------------------------
 */

static void test_as_clients_see_it(void **state)
{
	json_t *bdev;

	(void)state;
	inproc_ok("bdev_null_create", "{'name': 'nul0', 'num_blocks': 4100, 'block_size': 512}");
	inproc_ok("bdev_zone_block_create",
	        "{'name': 'zb0', 'base_bdev': 'nul0', 'zone_capacity': 1024, 'optimal_open_zones': "
	        "2}");
	bdev = expect_bdev("zb0");
	assert_string_equal(json_string_value(json_object_get(bdev, "product_name")), "zone_block");
	assert_int_equal(json_integer_value(json_object_get(bdev, "num_blocks")), 4096);
	assert_true(json_is_true(json_object_get(bdev, "zoned")));
	assert_int_equal(json_integer_value(json_object_get(bdev, "zone_size")), 1024);
	assert_int_equal(json_integer_value(json_object_get(bdev, "max_open_zones")), 0);
	assert_int_equal(json_integer_value(json_object_get(bdev, "optimal_open_zones")), 2);
	json_decref(bdev);
	expect_driver_specific("zb0", "{'zoned_block': {'name': 'zb0', 'base_bdev': 'nul0', "
	                              "'zone_capacity': 1024, 'optimal_open_zones': 2}}");
	expect_saved("bdev_zone_block_create", "{'name': 'zb0', 'base_bdev': 'nul0', "
	                                       "'zone_capacity': 1024, 'optimal_open_zones': 2}");
	inproc_error(-EEXIST, "File exists", "bdev_zone_block_create",
	        "{'name': 'zb0', 'base_bdev': 'm', 'zone_capacity': 8, 'optimal_open_zones': 1}");
	inproc_error(-EPERM, "", "bdev_zone_block_create",
	        "{'name': 'zb1', 'base_bdev': 'nul0', 'zone_capacity': 8, 'optimal_open_zones': "
	        "1}");
	inproc_error(-EINVAL, "active", "bdev_zone_block_create",
	        "{'name': 'zb1', 'base_bdev': 'm', 'zone_capacity': 8, 'optimal_open_zones': 1, "
	        "'max_open_zones': 3, 'max_active_zones': 2}");
	inproc_error(-ENOSPC, "has only", "bdev_zone_block_create",
	        "{'name': 'zb1', 'base_bdev': 'm', 'zone_capacity': 5000, 'optimal_open_zones': "
	        "1}");
	inproc_error(-ENODEV, "No such device", "bdev_zone_block_delete", "{'name': 'nope'}");
	inproc_ok("bdev_zone_block_delete", "{'name': 'zb0'}");
}

static void test_zone_methods_refuse(void **state)
{
	(void)state;
	create(0, 0);
	inproc_error(-EOPNOTSUPP, "without zones", "bdev_zone_report", "{'name': 'm'}");
	inproc_error(-ENODEV, "no bdev", "bdev_zone_report", "{'name': 'x'}");
	inproc_error(-EINVAL, "20 zones", "bdev_zone_report", "{'name': 'z', 'start_zone': 20}");
	inproc_error(-EINVAL, "20 zones", "bdev_zone_manage",
	        "{'name': 'z', 'action': 'reset', 'zone': 20}");
	inproc_error(RPC_INVALID_PARAMS, "or all", "bdev_zone_manage",
	        "{'name': 'z', 'action': 'reset'}");
	inproc_error(RPC_INVALID_PARAMS, "or all", "bdev_zone_manage",
	        "{'name': 'z', 'action': 'reset', 'zone': 1, 'all': true}");
	inproc_error(
	        -EINVAL, "state", "bdev_zone_manage", "{'name': 'z', 'action': 'open', 'zone': 1}");
}

/* ---- states -----------------------------------------------------------------------------------
 */

/* Every action in every state, against the model. */
static void test_every_transition(void **state)
{
	/* What leads to each state from empty; ZONE_ACTIONS: a write. */
	static const enum zone_action paths[ZONE_STATES][3] = {
	        [ZONE_EMPTY] = {ZONE_RESET, ZONE_RESET, ZONE_RESET},
	        [ZONE_IMPLICIT_OPEN] = {ZONE_RESET, ZONE_RESET, ZONE_ACTIONS},
	        [ZONE_EXPLICIT_OPEN] = {ZONE_RESET, ZONE_RESET, ZONE_OPEN},
	        [ZONE_CLOSED] = {ZONE_RESET, ZONE_ACTIONS, ZONE_CLOSE},
	        [ZONE_FULL] = {ZONE_RESET, ZONE_ACTIONS, ZONE_FINISH},
	        [ZONE_READ_ONLY] = {ZONE_RESET, ZONE_ACTIONS, ZONE_PROTECT},
	        [ZONE_OFFLINE] = {ZONE_RESET, ZONE_PROTECT, ZONE_RETIRE},
	};
	uint8_t buf[512] = {7};
	unsigned zone = 0;

	(void)state;
	for (unsigned s = 0; s < ZONE_STATES; s++) {
		for (unsigned a = 0; a <= ZONE_ACTIONS; a++) {
			struct zone_model m = {.zone_blocks = ZONE,
			        .capacity_blocks = CAPACITY,
			        .num_zones = ZONES};
			uint64_t at;
			struct disk *disk;
			int status;

			create(0, 0);
			disk = disk_open("z", true);
			zone_model_set(&m, zone, ZONE_FULL);
			for (unsigned i = 0; i < 3; i++) {
				if (paths[s][i] == ZONE_ACTIONS) {
					assert_int_equal(disk_write(disk, zone * ZONE, 1, buf), 0);
					zone_model_write(&m, zone, false, 0, 1, &at);
				} else {
					assert_int_equal(act(disk, 1, paths[s][i], zone), 0);
					zone_model_manage(&m, zone, paths[s][i]);
				}
			}
			expect_zone(zone, zone_state_name((enum zone_state)s),
			        s >= ZONE_FULL ? CAPACITY : (unsigned)m.zones[zone].written);
			status = a < ZONE_ACTIONS ? zone_model_manage(&m, zone, a)
			                          : zone_model_write(&m, zone, true, 0, 2, &at);
			if (a < ZONE_ACTIONS)
				assert_int_equal(act(disk, 2, a, zone), status);
			else
				assert_int_equal(
				        disk_do(disk, 2, BIO_ZONE_APPEND, 0, zone * ZONE, 1, buf),
				        status);
			assert_string_equal(zone_state_name(m.zones[zone].state),
			        zone_state_name(m.zones[zone].state));
			disk_close(disk);
			inproc_ok("bdev_zone_block_delete", "{'name': 'z'}");
		}
	}
}

static void test_data(void **state)
{
	uint8_t data[ZONE * 2][512], zero[512] = {0};
	struct disk *disk;

	(void)state;
	create(0, 0);
	disk = disk_open("z", true);
	manage("reset", 3);
	manage("reset", 4);
	memset(data, 5, sizeof(data));
	assert_int_equal(disk_write(disk, 3 * ZONE, 3, data), 0);
	assert_int_equal(disk_write(disk, 3 * ZONE, 1, data), -EINVAL);
	assert_int_equal(disk_write(disk, 3 * ZONE + 4, 1, data), -EINVAL);
	assert_int_equal(disk_write(disk, 3 * ZONE + 3, CAPACITY - 2, data), -ERANGE);
	assert_int_equal(disk_do(disk, 2, BIO_ZONE_APPEND, 0, 3 * ZONE + 1, 1, data), -EINVAL);
	expect_zone(3, "implicit_open", 3);
	/* Behind the write pointer, and behind the capacity, there are zeroes. */
	memset(data, 9, sizeof(data));
	assert_int_equal(disk_read(disk, 3 * ZONE, ZONE + 2, data), 0);
	for (unsigned i = 0; i < ZONE + 2; i++)
		assert_int_equal(data[i][100], i < 3 ? 5 : 0);
	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, BIO_FUA, 3 * ZONE + 3, 9, NULL), 0);
	expect_zone(3, "full", CAPACITY);
	assert_int_equal(disk_do(disk, 1, BIO_ZONE_APPEND, 0, 3 * ZONE, 1, data), -ENOSPC);
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 3 * ZONE, 1, NULL), -EOPNOTSUPP);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	manage("reset", 3);
	assert_int_equal(disk_read(disk, 3 * ZONE, 1, data[0]), 0);
	assert_memory_equal(data[0], zero, sizeof(zero));
	/* Offline: nothing can be read, also as a part of more. */
	manage("read_only", 4);
	manage("offline", 4);
	assert_int_equal(disk_read(disk, 3 * ZONE, ZONE + 1, data), -EIO);
	disk_close(disk);
}

static void test_limits(void **state)
{
	uint8_t buf[512] = {1};
	struct disk *disk;

	(void)state;
	create(2, 4);
	disk = disk_open("z", true);
	manage_all("reset");
	assert_int_equal(disk_write(disk, 5 * ZONE, 1, buf), 0);
	manage("open", 2);
	assert_int_equal(disk_write(disk, 1 * ZONE, 1, buf), 0);
	expect_zone(5, "closed", 1); /* for zone 1; zone 2 was opened by a client */
	expect_zone(2, "explicit_open", 0);
	assert_int_equal(disk_write(disk, 0, 1, buf), 0);
	assert_int_equal(disk_write(disk, 8 * ZONE, 1, buf), -EOVERFLOW);
	manage("open", 0);
	assert_int_equal(disk_write(disk, 5 * ZONE + 1, 1, buf), -ETOOMANYREFS);
	inproc_error(-ETOOMANYREFS, "no further zone", "bdev_zone_manage",
	        "{'name': 'z', 'action': 'open', 'zone': 5}");
	manage("finish", 2);
	assert_int_equal(disk_write(disk, 8 * ZONE, 1, buf), 0);
	manage_all("close");
	expect_zone(0, "closed", 1);
	expect_zone(8, "closed", 1);
	disk_close(disk);
}

/* ---- sizes ------------------------------------------------------------------------------------
 */

static void expect_why(const char *name, const char *text)
{
	json_t *result = inproc_result("bdev_get_tree", NULL);
	autofree char *dump = json_dumps(result, 0);

	(void)name;
	if (!strstr(dump, text))
		fail_msg("'%s' is not in %s", text, dump);
	json_decref(result);
}

static void test_sizes(void **state)
{
	struct disk *disk;
	struct err err = ERR_NONE;
	uint8_t buf[512] = {1};

	(void)state;
	create(1, 0);
	disk = disk_open("z", true);
	expect_why("z", "20 zones of 16 blocks; the last 5 blocks of the base are unused");
	assert_int_equal(disk_resize("m", ZONE * 22 + 1, &err), 0);
	assert_int_equal(disk_blocks(disk), ZONE * 22);
	assert_int_equal(disk->told, 1);
	expect_zone(19, "full", CAPACITY);
	expect_zone(20, "empty", 0);
	expect_zone(21, "empty", 0);
	manage("open", 21);
	assert_int_equal(disk_write(disk, 20 * ZONE, 1, buf), -ETOOMANYREFS);
	/* Less than a zone more changes nothing but the reason. */
	assert_int_equal(disk_resize("m", ZONE * 22 + 9, &err), 0);
	assert_int_equal(disk->told, 1);
	expect_why("z", "the last 9 blocks of the base are unused");
	/* The open zone goes, so another may be open. */
	assert_int_equal(disk_resize("m", ZONE * 21 + 15, &err), 0);
	assert_int_equal(disk_blocks(disk), ZONE * 21);
	assert_int_equal(disk_write(disk, 20 * ZONE, 1, buf), 0);
	assert_int_equal(disk_resize("m", ZONE * 22, &err), 0);
	expect_zone(21, "empty", 0);
	disk->veto_shrink = true;
	assert_int_equal(disk_resize("m", ZONE * 10, &err), -EBUSY);
	assert_int_equal(disk_blocks(disk), ZONE * 22);
	disk->veto_shrink = false;
	assert_true(disk_resize("m", ZONE - 1, &err) != 0);
	assert_int_equal(disk_blocks(disk), ZONE * 22);
	disk_close(disk);
}

/* ---- layers on top ----------------------------------------------------------------------------
 */

static void test_layers(void **state)
{
	uint8_t buf[512] = {1};
	struct disk *disk;

	(void)state;
	create(0, 0);
	inproc_error(RPC_INVALID_PARAMS, "zoned", "bdev_split_create",
	        "{'base_bdev': 'z', 'split_count': 2}");
	inproc_error(-ENOTSUP, "zoned", "bdev_zone_block_create",
	        "{'name': 'zz', 'base_bdev': 'z', 'zone_capacity': 16, 'optimal_open_zones': 1}");
	inproc_ok("bdev_passthru_create", "{'name': 'p', 'base_bdev_name': 'z'}");
	inproc_ok("bdev_delay_create", "{'name': 'd', 'base_bdev_name': 'p', 'avg_read_latency': "
	                               "1, 'p99_read_latency': 1, "
	                               "'avg_write_latency': 1, 'p99_write_latency': 1}");
	inproc_ok("bdev_error_create", "{'name': 'e', 'base_name': 'd'}");
	inproc_ok("bdev_zone_manage", "{'name': 'e', 'action': 'reset', 'zone': 2}");
	inproc_error(-EPERM, "", "bdev_zone_manage", "{'name': 'z', 'action': 'reset', 'zone': 2}");
	disk = disk_open("e", true);
	assert_int_equal(disk_do(disk, 1, BIO_ZONE_APPEND, 0, 2 * ZONE, 1, buf), 0);
	assert_int_equal(disk_do(disk, 1, BIO_ZONE_APPEND, BIO_FUA, 2 * ZONE, 1, buf), 0);
	expect_zone(2, "implicit_open", 2);
	disk_close(disk);
	/* Held, it has whole zones. */
	inproc_ok("bdev_set_resize_policy", "{'name': 'e', 'policy': 'hold', 'num_blocks': 100}");
	assert_int_equal(bdev_blocks_of("e"), 96);
}

/* ---- all loops at once ------------------------------------------------------------------------
 */

#define WRITERS 24
#define EACH 200

struct appender {
	struct bio bio;
	struct iovec iov;
	struct disk *disk;
	struct loop_task task;
	unsigned loop, left;
	uint64_t zone;
	uint8_t data[512];
	unsigned *owners; /* of blocks in this round; each must have one */
	sem_t done;
};

static void append(struct appender *w);

/* Where a zone is full the next one is taken; the last one ends it. */
static void appended(struct bio *bio)
{
	struct appender *w = bio->arg;

	if (bio->status == 0) {
		__atomic_fetch_add(&w->owners[bio->appended_at], 1, __ATOMIC_RELAXED);
		w->left--;
	} else {
		BELLOWS_ASSERT(bio->status == -ENOSPC);
		w->zone++;
	}
	append(w);
}

static void append(struct appender *w)
{
	if (w->left == 0 || w->zone == ZONES) {
		__atomic_fetch_sub(&w->disk->inflight, 1, __ATOMIC_SEQ_CST);
		sem_post(&w->done);
		return;
	}
	w->iov = (struct iovec){w->data, sizeof(w->data)};
	bio_init(&w->bio, BIO_ZONE_APPEND, &w->iov, 1, 1, appended, w);
	bio_submit(w->disk->handle, &w->bio, w->zone * ZONE);
}

static void begin_appending(struct loop_task *task)
{
	append(container_of(task, struct appender, task));
}

/* No block is given to two, none is left out. */
static void append_on_all_loops(int max_open)
{
	struct appender *appenders = xcalloc(WRITERS, sizeof(*appenders));
	unsigned *owners = xcalloc(ZONES * ZONE, sizeof(*owners));
	struct disk *disk;

	create(max_open, 0);
	manage_all("reset");
	disk = disk_open("z", true);
	__atomic_fetch_add(&disk->inflight, WRITERS, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < WRITERS; i++) {
		appenders[i] = (struct appender){
		        .disk = disk, .loop = 1 + i % LOOPS, .left = EACH, .owners = owners};
		sem_init(&appenders[i].done, 0, 0);
		appenders[i].task.run = begin_appending;
		loop_send(loop_get(appenders[i].loop), &appenders[i].task);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		while (sem_wait(&appenders[i].done) != 0)
			;
	}
	inproc_fence();
	for (unsigned i = 0; i < ZONES * ZONE; i++)
		assert_int_equal(owners[i], i % ZONE < CAPACITY ? 1 : 0);
	for (unsigned i = 0; i < ZONES; i++)
		expect_zone(i, "full", CAPACITY);
	disk_close(disk);
	inproc_ok("bdev_zone_block_delete", "{'name': 'z'}");
	free(appenders);
	free(owners);
}

static void test_appends_on_all_loops(void **state)
{
	(void)state;
	append_on_all_loops(0);
	append_on_all_loops(1);
	append_on_all_loops(2);
}

/* Writers in few zones, others who reset them, and a limit: whatever comes of it, all of it ends.
 */
static void test_resets_meet_writes(void **state)
{
	enum {
		IOS = 60
	};
	struct disk_io *ios = xcalloc(IOS, sizeof(*ios));
	uint8_t buf[512] = {1};
	struct iovec iov = {buf, sizeof(buf)};
	struct disk *disk;

	(void)state;
	create(1, 2);
	disk = disk_open("z", true);
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < IOS; i++) {
			uint64_t zone = (i * 7 + round) % 3;
			bool reset = i % 5 == 0;

			ios[i].bio.zone_action = ZONE_RESET;
			disk_start(disk, &ios[i], 1 + i % LOOPS,
			        reset ? BIO_ZONE_MGMT : BIO_ZONE_APPEND, 0, zone * ZONE,
			        reset ? ZONE : 1, reset ? NULL : &iov, !reset);
		}
		for (unsigned i = 0; i < IOS; i++) {
			int status = disk_wait(&ios[i]);

			/* -ETOOMANYREFS: all that are open are being reset. */
			if (status != 0 && status != -ENOSPC && status != -EOVERFLOW &&
			        status != -ETOOMANYREFS)
				fail_msg("request %u ends with %d", i, status);
		}
	}
	disk_close(disk);
	free(ios);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_as_clients_see_it, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_zone_methods_refuse, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_every_transition, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_data, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_layers, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_appends_on_all_loops, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_resets_meet_writes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
