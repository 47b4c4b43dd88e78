/* Several connections, their ends, and what they share and do not share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "target/nbd/nbd.h"
#include "tests/lib/inproc.h"
#include "tests/lib/nbd_client.h"

#define BLOCKS 65536ULL
#define SIZE_BYTES (BLOCKS * 512)
#define ALL_FEATURES (NBD_WANT_STRUCTURED | NBD_WANT_META)

static char path[96];
static uint8_t out[4 << 20], in[4 << 20];

/* "a": 32 MiB in 512-byte blocks; "ro": the same kind, read-only; "4k": 4 MiB in 4096-byte blocks.
 */
static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/nbd.sock", inproc_dir());
	inproc_start(2);
	inproc_ok("bdev_malloc_create", "{'name': 'a', 'num_blocks': 65536, 'block_size': 512}");
	inproc_ok("bdev_malloc_create", "{'name': 'ro', 'num_blocks': 65536, 'block_size': 512}");
	inproc_ok("bdev_malloc_create", "{'name': '4k', 'num_blocks': 1024, 'block_size': 4096}");
	inproc_ok("nbd_create_server", "{'name': 'S', 'path': '%s'}", path);
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'a'}");
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'ro', 'read_only': true}");
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': '4k'}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void fill(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245U + 12345U;
		buf[i] = (uint8_t)(seed >> 24);
	}
}

static void write_read(struct nbd_client *c, uint64_t offset, uint32_t len, uint32_t seed)
{
	fill(out, len, seed);
	memset(in, 0xee, len);
	assert_int_equal(nbd_client_call(c, NBD_CMD_WRITE, 0, offset, len, out), 0);
	assert_int_equal(nbd_client_call(c, NBD_CMD_READ, 0, offset, len, in), 0);
	assert_memory_equal(in, out, len);
}

static void all_zero(const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (buf[i])
			fail_msg("byte %zu is %u", i, buf[i]);
	}
}

static json_t *connections(void)
{
	json_t *servers = inproc_result("nbd_get_servers", "{'name': 'S'}");
	json_t *conns = json_incref(json_object_get(json_array_get(servers, 0), "connections"));

	json_decref(servers);
	return conns;
}

static void wait_for_connections(size_t n)
{
	for (;;) {
		json_t *conns = connections();
		size_t have = json_array_size(conns);

		json_decref(conns);
		if (have == n)
			return;
		usleep(1000);
	}
}

/* A client that vanishes with requests, headers and payloads at any stage. */
static void test_vanishing(void **state)
{
	static const uint32_t lens[] = {4096, 131072};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(lens); k++) {
		for (size_t cut = 0; cut < NBD_REQUEST_BYTES + lens[k];
		        cut += cut < 40 ? 3 : 4099) {
			uint8_t header[NBD_REQUEST_BYTES];
			struct nbd_client c;

			nbd_client_open(&c, path, "a", 0);
			for (uint64_t i = 0; i < 10; i++)
				nbd_client_request(&c, NBD_CMD_READ, 0, i, 0, 65536);
			nbd_client_request_bytes(header, NBD_CMD_WRITE, 0, 1, 0, lens[k]);
			nbd_client_send(&c, header, cut < sizeof(header) ? cut : sizeof(header));
			if (cut > sizeof(header))
				nbd_client_send(&c, out, cut - sizeof(header));
			if (cut % 2)
				(void)shutdown(c.fd, SHUT_WR);
			nbd_client_close(&c);
		}
	}
	wait_for_connections(0);
}

/* Connections go to the data loops in turn, and see each other's writes. */
static void test_several_connections(void **state)
{
	struct nbd_client c[4];
	unsigned on_loop[3] = {0};
	json_t *conns, *conn;
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		nbd_client_open(&c[i], path, "a", NBD_WANT_STRUCTURED);
		assert_true(c[i].flags & NBD_FLAG_CAN_MULTI_CONN);
	}
	for (i = 0; i < 4; i++) {
		fill(out, 8192, (uint32_t)i);
		assert_int_equal(nbd_client_call(&c[i], NBD_CMD_WRITE, 0, 0, 8192, out), 0);
		assert_int_equal(nbd_client_call(&c[i], NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
		inproc_fence();
		assert_int_equal(nbd_client_call(&c[(i + 1) % 4], NBD_CMD_READ, 0, 0, 8192, in), 0);
		assert_memory_equal(in, out, 8192);
		inproc_fence();
	}
	wait_for_connections(4);
	conns = connections();
	json_array_foreach (conns, i, conn) {
		json_int_t loop = json_integer_value(json_object_get(conn, "loop"));

		assert_true(loop == 1 || loop == 2);
		on_loop[loop]++;
		assert_int_equal(json_integer_value(json_object_get(conn, "writes")), 1);
		assert_int_equal(json_integer_value(json_object_get(conn, "bytes_read")), 8192);
		assert_int_equal(json_integer_value(json_object_get(conn, "flushes")), 1);
		assert_string_equal(json_string_value(json_object_get(conn, "export_name")), "a");
	}
	assert_int_equal(on_loop[1], 2);
	assert_int_equal(on_loop[2], 2);
	json_decref(conns);
	for (i = 0; i < 4; i++)
		nbd_client_close(&c[i]);
	wait_for_connections(0);
}

/* A buffer that one connection has had is not seen by another, not even where a null bdev leaves
 * it as it is. */
static void test_no_old_data(void **state)
{
	struct nbd_client writer, reader;

	(void)state;
	inproc_ok("bdev_null_create", "{'name': 'n', 'num_blocks': 65536, 'block_size': 512}");
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'n'}");
	for (int i = 0; i < 8; i++) {
		nbd_client_open(&writer, path, "a", 0);
		write_read(&writer, 0, 1 << 20, 77);
		nbd_client_close(&writer);
		wait_for_connections(0);
		nbd_client_open(&reader, path, "n", 0);
		assert_int_equal(nbd_client_call(&reader, NBD_CMD_READ, 0, 0, 1 << 20, in), 0);
		all_zero(in, 1 << 20);
		nbd_client_close(&reader);
		wait_for_connections(0);
	}
}

static void test_tcp(void **state)
{
	json_t *uri = inproc_result("nbd_create_server", "{'name': 'T', 'port': 0}");
	struct nbd_client c;
	unsigned port;

	(void)state;
	assert_int_equal(sscanf(json_string_value(uri), "nbd://127.0.0.1:%u/", &port), 1);
	json_decref(uri);
	inproc_ok("nbd_add_export", "{'server': 'T', 'bdev_name': '4k'}");
	nbd_client_connect_tcp(&c, (uint16_t)port);
	nbd_client_go(&c, "", ALL_FEATURES);
	write_read(&c, 0, 1 << 20, 3);
	nbd_client_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	        TEST(test_vanishing),
	        TEST(test_several_connections),
	        TEST(test_no_old_data),
	        TEST(test_tcp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
