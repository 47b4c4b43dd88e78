/* What clients see when the disk or its export changes while they use it. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "target/nbd/nbd.h"
#include "tests/lib/inproc.h"
#include "tests/lib/nbd_client.h"

static char path[96];

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/nbd.sock", inproc_dir());
	inproc_start(2);
	inproc_ok("bdev_malloc_create", "{'name': 'a', 'num_blocks': 4096, 'block_size': 512}");
	inproc_ok("nbd_create_server", "{'name': 'S', 'path': '%s'}", path);
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'a'}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

/* ---- resize -----------------------------------------------------------------------------------
 */

struct resize {
	const char *name;
	uint64_t new_blocks;
	int code;
	char text[ERR_TEXT_MAX];
	unsigned told, untold; /* of the named bdev */
	sem_t done;
};

static void resize_done(void *arg, const struct resize_report *report)
{
	struct resize *r = arg;

	r->code = report->err.code;
	str_copy(r->text, sizeof(r->text), report->err.text);
	for (unsigned i = 0; i < report->num_layers; i++) {
		if (strcmp(report->layers[i].name, r->name) == 0) {
			r->told = report->layers[i].holders_told;
			r->untold = report->layers[i].holders_untold;
		}
	}
	sem_post(&r->done);
}

static void resize_start(void *arg)
{
	struct resize *r = arg;

	bdev_resize(bdev_find(r->name), r->new_blocks, resize_done, r);
}

static struct resize resize(const char *name, uint64_t new_blocks)
{
	struct resize r = {.name = name, .new_blocks = new_blocks};

	sem_init(&r.done, 0, 0);
	inproc_run(resize_start, &r);
	while (sem_wait(&r.done) != 0)
		;
	sem_destroy(&r.done);
	return r;
}

static void test_grow_while_connected(void **state)
{
	struct nbd_client c, later;
	struct resize r;
	char buf[4096];

	(void)state;
	r = resize("a", 8192);
	assert_int_equal(r.code, 0);
	assert_int_equal(r.untold, 0);
	nbd_client_open(&c, path, "a", 0);
	assert_true(c.size_bytes == 8192 * 512);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 8192 * 512, 4096, buf), NBD_EINVAL);
	r = resize("a", 16384);
	assert_int_equal(r.code, 0);
	assert_int_equal(r.told, 0);
	assert_int_equal(r.untold, 1);
	/* Served at once, although this client can't have been told. */
	memset(buf, 7, sizeof(buf));
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, 0, 16384 * 512 - 4096, 4096, buf), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 8192 * 512, 4096, buf), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 16384 * 512, 4096, buf), NBD_EINVAL);
	inproc_fence();
	nbd_client_open(&later, path, "a", 0);
	assert_true(later.size_bytes == 16384 * 512);
	assert_int_equal(
	        nbd_client_call(&later, NBD_CMD_READ, 0, 16384 * 512 - 4096, 4096, buf), 0);
	assert_int_equal(buf[0], 7);
	nbd_client_close(&c);
	nbd_client_close(&later);
}

static void wait_for_connections(size_t n)
{
	for (;;) {
		json_t *servers = inproc_result("nbd_get_servers", NULL);
		size_t have =
		        json_array_size(json_object_get(json_array_get(servers, 0), "connections"));

		json_decref(servers);
		if (have == n)
			return;
		usleep(1000);
	}
}

static void test_shrink(void **state)
{
	struct nbd_client c[2], later;
	struct resize r;
	char buf[4096];

	(void)state;
	nbd_client_open(&c[0], path, "a", 0);
	nbd_client_open(&c[1], path, "a", 0);
	r = resize("a", 2048);
	assert_int_equal(r.code, -EBUSY);
	assert_non_null(strstr(r.text, "2 clients are connected"));
	assert_int_equal(nbd_client_call(&c[0], NBD_CMD_READ, 0, 4096 * 512 - 4096, 4096, buf), 0);
	nbd_client_close(&c[1]);
	wait_for_connections(1);
	r = resize("a", 2048);
	assert_int_equal(r.code, -EBUSY);
	assert_non_null(strstr(r.text, "1 client is connected"));
	nbd_client_close(&c[0]);
	wait_for_connections(0);
	r = resize("a", 2048);
	assert_int_equal(r.code, 0);
	nbd_client_open(&later, path, "a", 0);
	assert_true(later.size_bytes == 2048 * 512);
	nbd_client_close(&later);
}

static void test_shrink_allowed(void **state)
{
	struct nbd_client c;
	struct resize r;
	char buf[4096] = {0};

	(void)state;
	inproc_ok("nbd_remove_export", "{'server': 'S', 'export_name': 'a'}");
	inproc_ok("nbd_add_export",
	        "{'server': 'S', 'bdev_name': 'a', 'export_name': 's', 'allow_shrink': true}");
	nbd_client_open(&c, path, "s", 0);
	r = resize("a", 2048);
	assert_int_equal(r.code, 0);
	assert_int_equal(r.untold, 1);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 2048 * 512 - 4096, 4096, buf), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 2048 * 512, 4096, buf), NBD_EINVAL);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, 0, 2048 * 512, 4096, buf), NBD_ENOSPC);
	nbd_client_close(&c);
}

/* ---- load -------------------------------------------------------------------------------------
 */

struct load {
	pthread_t thread;
	struct nbd_client c;
	unsigned in_flight;
	uint64_t offset; /* its own part of the disk */
	bool *stop;
	/* outcome */
	uint64_t ok, shutdown, other, lost;
	bool ended;
};

/* Keeps in_flight reads going until the end of the connection, or until *stop. */
static void *load_main(void *arg)
{
	static __thread uint8_t buf[16384];
	struct load *l = arg;
	uint64_t cookie = 0, outstanding = 0;

	for (;;) {
		struct nbd_answer answer;
		bool stop = __atomic_load_n(l->stop, __ATOMIC_RELAXED);

		while (!stop && outstanding < l->in_flight) {
			uint8_t bytes[NBD_REQUEST_BYTES];
			bool write = cookie % 3 == 0;

			nbd_client_request_bytes(bytes, write ? NBD_CMD_WRITE : NBD_CMD_READ, 0,
			        cookie, l->offset + cookie % 32 * 16384, sizeof(buf));
			nbd_client_try_send(&l->c, bytes, sizeof(bytes));
			if (write)
				nbd_client_try_send(&l->c, buf, sizeof(buf));
			cookie++;
			outstanding++;
		}
		if (outstanding == 0)
			return NULL;
		/* The length of data is known from the cookie; it is given by the chunk. */
		nbd_client_answer(&l->c, &answer, buf, sizeof(buf), 0);
		if (answer.end) {
			l->ended = true;
			l->lost = outstanding;
			return NULL;
		}
		outstanding--;
		if (answer.error == 0)
			l->ok++;
		else if (answer.error == NBD_ESHUTDOWN)
			l->shutdown++;
		else
			l->other++;
	}
}

#define CLIENTS 4

static void load_start(struct load *loads, bool *stop, unsigned in_flight)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		loads[i] =
		        (struct load){.stop = stop, .in_flight = in_flight, .offset = i * 524288};
		nbd_client_open(&loads[i].c, path, "a", NBD_WANT_STRUCTURED);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_create(&loads[i].thread, NULL, load_main, &loads[i]), 0);
}

static void load_join(struct load *loads)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		pthread_join(loads[i].thread, NULL);
		nbd_client_close(&loads[i].c);
		assert_int_equal(loads[i].other, 0);
	}
}

static void test_grow_under_load(void **state)
{
	struct load loads[CLIENTS];
	bool stop = false;

	(void)state;
	load_start(loads, &stop, 16);
	for (uint64_t i = 1; i <= 100; i++) {
		struct resize r = resize("a", 4096 + i * 64);

		assert_int_equal(r.code, 0);
		assert_int_equal(r.untold, CLIENTS);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	load_join(loads);
	for (unsigned i = 0; i < CLIENTS; i++) {
		assert_false(loads[i].ended);
		assert_int_equal(loads[i].shutdown, 0);
		assert_true(loads[i].ok > 0);
	}
}

/* Clients hear ESHUTDOWN, are cut off, and the export is gone when the call returns. */
static void remove_under_load(unsigned in_flight)
{
	struct load loads[CLIENTS];
	struct nbd_client c;
	bool stop = false;

	load_start(loads, &stop, in_flight);
	usleep(20000);
	inproc_ok("nbd_remove_export", "{'server': 'S', 'export_name': 'a'}");
	load_join(loads);
	for (unsigned i = 0; i < CLIENTS; i++) {
		assert_true(loads[i].ended);
		assert_true(loads[i].shutdown > 0);
		assert_true(loads[i].ok > 0);
	}
	nbd_client_connect(&c, path);
	nbd_client_greet(&c, NBD_FLAG_C_FIXED_NEWSTYLE);
	nbd_client_option(&c, NBD_OPT_EXPORT_NAME, "a", 1);
	assert_int_equal(nbd_client_expect_end(&c), 0);
	nbd_client_close(&c);
	/* Nothing holds it any more. */
	inproc_ok("bdev_malloc_delete", "{'name': 'a'}");
}

static void test_remove_under_load(void **state)
{
	(void)state;
	remove_under_load(32);
}

static void test_remove_under_single_requests(void **state)
{
	(void)state;
	remove_under_load(1);
}

static void test_delete_bdev_under_load(void **state)
{
	struct load loads[CLIENTS];
	bool stop = false;
	json_t *servers;

	(void)state;
	load_start(loads, &stop, 32);
	usleep(20000);
	inproc_ok("bdev_malloc_delete", "{'name': 'a'}");
	load_join(loads);
	for (unsigned i = 0; i < CLIENTS; i++)
		assert_true(loads[i].ended);
	servers = inproc_result("nbd_get_servers", NULL);
	assert_int_equal(
	        json_array_size(json_object_get(json_array_get(servers, 0), "exports")), 0);
	json_decref(servers);
}

static void test_delete_server_under_load(void **state)
{
	struct load loads[CLIENTS];
	bool stop = false;
	json_t *servers;

	(void)state;
	load_start(loads, &stop, 32);
	usleep(20000);
	inproc_ok("nbd_delete_server", "{'name': 'S'}");
	load_join(loads);
	servers = inproc_result("nbd_get_servers", NULL);
	assert_int_equal(json_array_size(servers), 0);
	json_decref(servers);
	inproc_ok("nbd_create_server", "{'name': 'S', 'path': '%s'}", path);
}

/* The end of the daemon under load: the teardown of the test. */
static void test_stop_under_load(void **state)
{
	struct load loads[CLIENTS];
	bool stop = false;

	(void)state;
	load_start(loads, &stop, 32);
	usleep(20000);
	inproc_stop();
	load_join(loads);
	setup(state);
}

/* An idle client does not hold the removal up, nor one that never reads its answers. */
static void test_remove_with_lazy_clients(void **state)
{
	struct nbd_client idle, deaf;

	(void)state;
	nbd_client_open(&idle, path, "a", 0);
	nbd_client_open(&deaf, path, "a", 0);
	for (uint64_t i = 0; i < 200; i++)
		nbd_client_request(&deaf, NBD_CMD_READ, 0, i, 0, 1 << 20);
	inproc_ok("nbd_remove_export", "{'server': 'S', 'export_name': 'a'}");
	assert_int_equal(nbd_client_expect_end(&idle), 0);
	nbd_client_close(&idle);
	nbd_client_close(&deaf);
}

/* ---- methods ----------------------------------------------------------------------------------
 */

static void test_method_errors(void **state)
{
	(void)state;
	inproc_error(-EEXIST, "already", "nbd_create_server", "{'name': 'S', 'port': 0}");
	inproc_error(
	        -EADDRINUSE, "nbd.sock", "nbd_create_server", "{'name': 'T', 'path': '%s'}", path);
	inproc_error(-EINVAL, "path", "nbd_create_server", "{'name': 'T'}");
	inproc_error(-EINVAL, "both", "nbd_create_server", "{'name': 'T', 'path': '%s', 'port': 1}",
	        path);
	inproc_error(-EINVAL, "address", "nbd_create_server",
	        "{'name': 'T', 'address': 'localhost', 'port': 0}");
	inproc_error(-EINVAL, "name", "nbd_create_server", "{'name': '', 'port': 0}");
	inproc_error(-ENODEV, "'T'", "nbd_delete_server", "{'name': 'T'}");
	inproc_error(-ENODEV, "'T'", "nbd_get_servers", "{'name': 'T'}");
	inproc_error(-ENODEV, "'T'", "nbd_add_export", "{'server': 'T', 'bdev_name': 'a'}");
	inproc_error(-ENODEV, "'zz'", "nbd_add_export", "{'server': 'S', 'bdev_name': 'zz'}");
	inproc_error(-EEXIST, "'a'", "nbd_add_export", "{'server': 'S', 'bdev_name': 'a'}");
	inproc_error(-ENODEV, "'b'", "nbd_remove_export", "{'server': 'S', 'export_name': 'b'}");
	inproc_error(-ENODEV, "nbd device not found", "nbd_start_disk", "{'bdev_name': 'a'}");
	inproc_error(-ENODEV, "illegal nbd device /dev/zzz", "nbd_start_disk",
	        "{'bdev_name': 'a', 'nbd_device': '/dev/zzz'}");
	inproc_error(-ENODEV, "No such device", "nbd_stop_disk", "{'nbd_device': '/dev/nbd9'}");
	inproc_error(-ENODEV, "No such device", "nbd_get_disks", "{'nbd_device': '/dev/nbd9'}");
}

static json_t *nbd_config(void)
{
	return inproc_result("framework_get_config", "{'name': 'nbd'}");
}

/* What is saved recreates the same, which then saves the same. */
static void test_config_round_trip(void **state)
{
	json_t *before, *after, *entry;
	size_t i;

	(void)state;
	inproc_ok("nbd_add_export",
	        "{'server': 'S', 'bdev_name': 'a', 'export_name': '', 'read_only': true, "
	        "'allow_shrink': true, 'description': 'x y'}");
	json_decref(inproc_result("nbd_create_server", "{'name': 'T', 'port': 0}"));
	before = nbd_config();
	assert_int_equal(json_array_size(before), 4);
	inproc_ok("nbd_delete_server", "{'name': 'S'}");
	inproc_ok("nbd_delete_server", "{'name': 'T'}");
	after = nbd_config();
	assert_int_equal(json_array_size(after), 0);
	json_decref(after);
	json_array_foreach (before, i, entry) {
		autofree char *params = json_dumps(json_object_get(entry, "params"), 0);

		json_decref(inproc_result(
		        json_string_value(json_object_get(entry, "method")), "%s", params));
	}
	after = nbd_config();
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

static void test_get_disks(void **state)
{
	json_t *disks = inproc_result("nbd_get_disks", NULL);

	(void)state;
	assert_int_equal(json_array_size(disks), 0);
	json_decref(disks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	        TEST(test_grow_while_connected),
	        TEST(test_shrink),
	        TEST(test_shrink_allowed),
	        TEST(test_grow_under_load),
	        TEST(test_remove_under_load),
	        TEST(test_remove_under_single_requests),
	        TEST(test_delete_bdev_under_load),
	        TEST(test_delete_server_under_load),
	        TEST(test_stop_under_load),
	        TEST(test_remove_with_lazy_clients),
	        TEST(test_method_errors),
	        TEST(test_config_round_trip),
	        TEST(test_get_disks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
