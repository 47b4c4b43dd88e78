/* The transmission phase against a server in this process: what is served, and what is refused. */
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

/* The next client may be served by another loop, and what it writes must come after. */
static void until_nobody_is_connected(void)
{
	for (size_t left = 1; left > 0;) {
		json_t *servers = inproc_result("nbd_get_servers", NULL);

		left = json_array_size(json_object_get(json_array_get(servers, 0), "connections"));
		json_decref(servers);
	}
}

/* Sizes around each limit of the receive path: header, copied payload, receive buffer. */
static void test_write_read(void **state)
{
	static const uint32_t sizes[] = {512, 1024, 4096, 15872, 16384, 16896, 32768, 65024, 65536,
	        66048, 131072, 1048576, 4194304};

	(void)state;
	for (unsigned features = 0; features < 2; features++) {
		struct nbd_client c;

		nbd_client_open(&c, path, "a", features);
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			write_read(&c, 0, sizes[i], sizes[i]);
			write_read(&c, SIZE_BYTES - sizes[i], sizes[i], sizes[i] + 1);
		}
		nbd_client_close(&c);
		until_nobody_is_connected();
	}
}

static void test_largest(void **state)
{
	uint8_t *big = try_alloc_aligned(4096, NBD_REQUEST_MAX_BYTES);
	struct nbd_client c;

	(void)state;
	assert_non_null(big);
	nbd_client_open(&c, path, "a", ALL_FEATURES);
	fill(big, NBD_REQUEST_MAX_BYTES, 7);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, 0, 0, NBD_REQUEST_MAX_BYTES, big), 0);
	memset(big, 0, NBD_REQUEST_MAX_BYTES);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 0, NBD_REQUEST_MAX_BYTES, big), 0);
	fill(out, sizeof(out), 7);
	assert_memory_equal(big, out, sizeof(out));
	free(big);
	nbd_client_close(&c);
}

static void test_refused_commands(void **state)
{
	static const struct {
		uint16_t type, flags;
		uint64_t offset;
		uint32_t length, error;
	} cases[] = {
	        {NBD_CMD_READ, 0, 1, 512, NBD_EINVAL},
	        {NBD_CMD_READ, 0, 0, 511, NBD_EINVAL},
	        {NBD_CMD_WRITE, 0, 256, 512, NBD_EINVAL},
	        {NBD_CMD_WRITE, 0, 0, 100000, NBD_EINVAL},
	        {NBD_CMD_TRIM, 0, 5, 512, NBD_EINVAL},
	        {NBD_CMD_WRITE_ZEROES, 0, 0, 5, NBD_EINVAL},
	        {NBD_CMD_BLOCK_STATUS, 0, 0, 5, NBD_EINVAL},
	        {NBD_CMD_BLOCK_STATUS, 0, 0, 0, NBD_EINVAL},
	        {NBD_CMD_CACHE, 0, 0, 5, NBD_EINVAL},
	        {NBD_CMD_READ, 0, SIZE_BYTES, 512, NBD_EINVAL},
	        {NBD_CMD_READ, 0, SIZE_BYTES - 512, 1024, NBD_EINVAL},
	        {NBD_CMD_READ, 0, UINT64_MAX - 511, 512, NBD_EINVAL},
	        {NBD_CMD_READ, 0, UINT64_MAX - 511, 1024, NBD_EINVAL},
	        {NBD_CMD_READ, 0, 1ULL << 63, 512, NBD_EINVAL},
	        {NBD_CMD_WRITE, 0, SIZE_BYTES, 512, NBD_ENOSPC},
	        {NBD_CMD_WRITE, 0, SIZE_BYTES - 512, 131072, NBD_ENOSPC},
	        {NBD_CMD_WRITE, 0, UINT64_MAX - 511, 1048576, NBD_ENOSPC},
	        {NBD_CMD_WRITE_ZEROES, 0, SIZE_BYTES - 512, 1024, NBD_ENOSPC},
	        {NBD_CMD_WRITE_ZEROES, 0, 0, 0xfffffe00U, NBD_ENOSPC},
	        {NBD_CMD_TRIM, 0, SIZE_BYTES, 512, NBD_EINVAL},
	        {NBD_CMD_BLOCK_STATUS, 0, SIZE_BYTES, 512, NBD_EINVAL},
	        {NBD_CMD_FLUSH, 0, 512, 0, NBD_EINVAL},
	        {NBD_CMD_FLUSH, 0, 0, 512, NBD_EINVAL},
	        {NBD_CMD_READ, 0, 0, NBD_REQUEST_MAX_BYTES + 512, NBD_EINVAL},
	        {NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, NBD_REQUEST_MAX_BYTES + 512, NBD_EOVERFLOW},
	        {NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL},
	        {NBD_CMD_READ, 1 << 5, 0, 512, NBD_EINVAL},
	        {NBD_CMD_READ, 1 << 15, 0, 512, NBD_EINVAL},
	        {NBD_CMD_WRITE, NBD_CMD_FLAG_DF, 0, 4096, NBD_EINVAL},
	        {NBD_CMD_FLUSH, NBD_CMD_FLAG_REQ_ONE, 0, 0, NBD_EINVAL},
	        {NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL},
	        {8, 0, 0, 512, NBD_EINVAL},
	        {0xffff, 0, 0, 0, NBD_EINVAL},
	};

	(void)state;
	for (int structured = 0; structured < 2; structured++) {
		struct nbd_client c;

		nbd_client_open(&c, path, "a", structured ? ALL_FEATURES : 0);
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			uint32_t error, expected = cases[i].error;

			if (expected == NBD_EOVERFLOW && !structured)
				expected = NBD_EINVAL;
			error = nbd_client_call(&c, cases[i].type, cases[i].flags, cases[i].offset,
			        cases[i].length, out);
			if (error != expected)
				fail_msg("case %zu: error %u", i, error);
			/* What it sent was taken off the stream. */
			write_read(&c, 8192, 4096, (uint32_t)i);
		}
		nbd_client_close(&c);
	}
}

static void test_block_size(void **state)
{
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "4k", ALL_FEATURES);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 512, 512, in), NBD_EINVAL);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 512, 4096, in), NBD_EINVAL);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, 0, 0, 2048, out), NBD_EINVAL);
	write_read(&c, 4096, 8192, 3);
	nbd_client_close(&c);
}

static void test_read_only(void **state)
{
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "ro", NBD_WANT_STRUCTURED);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, 0, 0, 4096, out), NBD_EPERM);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, 0, 0, 1048576, out), NBD_EPERM);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_TRIM, 0, 0, 4096, NULL), NBD_EPERM);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE_ZEROES, 0, 0, 4096, NULL), NBD_EPERM);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 0, 4096, in), 0);
	all_zero(in, 4096);
	nbd_client_close(&c);
}

static void test_error_chunks(void **state)
{
	struct nbd_answer answer;
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "a", NBD_WANT_STRUCTURED);
	nbd_client_request(&c, NBD_CMD_READ, 0, 42, SIZE_BYTES, 512);
	nbd_client_answer(&c, &answer, in, sizeof(in), 0);
	assert_true(answer.chunk);
	assert_int_equal(answer.type, NBD_REPLY_TYPE_ERROR);
	assert_int_equal(answer.error, NBD_EINVAL);
	assert_true(answer.cookie == 42);
	assert_non_null(strstr(answer.text, "past the end"));
	nbd_client_close(&c);
}

static void test_empty_commands(void **state)
{
	static const uint16_t types[] = {
	        NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE};

	(void)state;
	for (unsigned features = 0; features < 2; features++) {
		struct nbd_client c;

		nbd_client_open(&c, path, "a", features);
		for (size_t i = 0; i < ARRAY_SIZE(types); i++)
			assert_int_equal(nbd_client_call(&c, types[i], 0, 512, 0, out), 0);
		nbd_client_close(&c);
	}
}

static void test_zeroes_and_trim(void **state)
{
	static const uint16_t flags[] = {0, NBD_CMD_FLAG_FUA, NBD_CMD_FLAG_NO_HOLE,
	        NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE};
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "a", ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		write_read(&c, 0, 65536, 1);
		assert_int_equal(
		        nbd_client_call(&c, NBD_CMD_WRITE_ZEROES, flags[i], 4096, 8192, NULL), 0);
		assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 0, 65536, in), 0);
		all_zero(in + 4096, 8192);
		memset(out + 4096, 0, 8192);
		assert_memory_equal(in, out, 65536);
	}
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE_ZEROES, 0, 0, SIZE_BYTES, NULL), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_TRIM, 0, 0, SIZE_BYTES, NULL), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096, NULL), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, 0, NULL), 0);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_CACHE, 0, 0, SIZE_BYTES, NULL), 0);
	fill(out, 4096, 9);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 4096, out), 0);
	assert_int_equal(
	        nbd_client_call(&c, NBD_CMD_READ, NBD_CMD_FLAG_DF | NBD_CMD_FLAG_FUA, 0, 4096, in),
	        0);
	assert_memory_equal(in, out, 4096);
	nbd_client_close(&c);
}

static void test_block_status(void **state)
{
	static struct nbd_answer answer;
	struct nbd_client c;
	uint64_t sum = 0;

	(void)state;
	nbd_client_open(&c, path, "a", ALL_FEATURES);
	write_read(&c, 1 << 20, 65536, 5);
	nbd_client_request(&c, NBD_CMD_BLOCK_STATUS, 0, 1, 0, SIZE_BYTES);
	nbd_client_answer(&c, &answer, in, sizeof(in), 0);
	assert_int_equal(answer.error, 0);
	for (unsigned i = 0; i < answer.num_extents; i++) {
		uint64_t end = sum + answer.extents[i].len;

		/* What holds data may not be called a hole or zero. */
		if (sum < (1 << 20) + 65536 && end > 1 << 20)
			assert_int_equal(answer.extents[i].flags, 0);
		sum = end;
	}
	assert_true(sum > 0 && sum <= SIZE_BYTES);

	nbd_client_request(&c, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 2, 4096, 65536);
	nbd_client_answer(&c, &answer, in, sizeof(in), 0);
	assert_int_equal(answer.error, 0);
	assert_int_equal(answer.num_extents, 1);
	assert_true(answer.extents[0].len <= 65536);
	nbd_client_close(&c);

	nbd_client_open(&c, path, "a", NBD_WANT_STRUCTURED);
	assert_int_equal(nbd_client_call(&c, NBD_CMD_BLOCK_STATUS, 0, 0, 4096, NULL), NBD_EINVAL);
	nbd_client_close(&c);
}

static void test_hard_violations(void **state)
{
	uint8_t bytes[NBD_REQUEST_BYTES];
	struct nbd_client c;

	(void)state;
	for (unsigned features = 0; features < 2; features++) {
		nbd_client_open(&c, path, "a", features);
		nbd_client_request_bytes(bytes, NBD_CMD_READ, 0, 1, 0, 512);
		bytes[2] ^= 1;
		nbd_client_send(&c, bytes, sizeof(bytes));
		assert_int_equal(nbd_client_expect_end(&c), 0);
		nbd_client_close(&c);

		nbd_client_open(&c, path, "a", features);
		nbd_client_request(&c, NBD_CMD_WRITE, 0, 1, 0, NBD_REQUEST_MAX_BYTES + 512);
		assert_int_equal(nbd_client_expect_end(&c), 0);
		nbd_client_close(&c);
	}
}

/* What was asked before the end is answered; nothing that comes after it is. */
static void test_disconnect_command(void **state)
{
	struct nbd_answer answer;
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "a", 0);
	for (uint64_t i = 0; i < 20; i++)
		nbd_client_request(&c, NBD_CMD_READ, 0, i, i * 4096, 4096);
	nbd_client_request(&c, NBD_CMD_DISC, 0, 99, 0, 0);
	nbd_client_try_send(&c, out, 100);
	for (unsigned i = 0; i < 20; i++) {
		nbd_client_answer(&c, &answer, in, sizeof(in), 4096);
		assert_false(answer.end);
		assert_int_equal(answer.error, 0);
	}
	nbd_client_answer(&c, &answer, in, sizeof(in), 0);
	assert_true(answer.end);
	nbd_client_close(&c);
}

/* Each cookie is answered once, each with the data of its own offset. */
static void test_many_in_flight(void **state)
{
	enum {
		N = 1000,
		LEN = 4096
	};
	static bool seen[N];
	static uint8_t burst[N * NBD_REQUEST_BYTES];

	(void)state;
	for (unsigned features = 0; features < 2; features++) {
		struct nbd_client c;

		nbd_client_open(&c, path, "a", features);
		for (uint32_t i = 0; i < N; i++) {
			fill(out, LEN, i);
			nbd_client_request(&c, NBD_CMD_WRITE, 0, i, i * LEN, LEN);
			nbd_client_send(&c, out, LEN);
			if (i % 100 == 99) {
				for (int k = 0; k < 100; k++) {
					struct nbd_answer answer;

					nbd_client_answer(&c, &answer, in, sizeof(in), 0);
					assert_int_equal(answer.error, 0);
				}
			}
		}
		memset(seen, 0, sizeof(seen));
		for (uint32_t i = 0; i < N; i++)
			nbd_client_request_bytes(
			        burst + i * NBD_REQUEST_BYTES, NBD_CMD_READ, 0, i, i * LEN, LEN);
		nbd_client_send(&c, burst, sizeof(burst));
		for (unsigned k = 0; k < N; k++) {
			struct nbd_answer answer;

			nbd_client_answer(&c, &answer, in, sizeof(in), LEN);
			assert_int_equal(answer.error, 0);
			assert_true(answer.cookie < N && !seen[answer.cookie]);
			seen[answer.cookie] = true;
			fill(out, LEN, (uint32_t)answer.cookie);
			assert_memory_equal(in, out, LEN);
		}
		nbd_client_close(&c);
	}
}

/*
 * A client that sends far more than the server may hold, and reads nothing meanwhile: the server
 * stops reading; when the client reads, all is answered.
 */
static void test_back_pressure(void **state)
{
	enum {
		N = 600,
		LEN = 1 << 20
	};
	static uint8_t burst[N * NBD_REQUEST_BYTES];
	static uint8_t seen[N];
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "a", NBD_WANT_STRUCTURED);
	for (uint32_t i = 0; i < N; i++)
		nbd_client_request_bytes(burst + i * NBD_REQUEST_BYTES, NBD_CMD_READ, 0, i,
		        (i % 16) * (uint64_t)LEN, LEN);
	nbd_client_send(&c, burst, sizeof(burst));
	usleep(50000);
	for (unsigned k = 0; k < N; k++) {
		struct nbd_answer answer;

		nbd_client_answer(&c, &answer, in, sizeof(in), LEN);
		assert_int_equal(answer.error, 0);
		assert_int_equal(answer.data_len, LEN);
		assert_true(answer.cookie < N);
		assert_int_equal(seen[answer.cookie]++, 0);
	}
	nbd_client_close(&c);
}

/* Requests that arrive in pieces of any length. */
static void test_pieces(void **state)
{
	static uint8_t stream[3 * (NBD_REQUEST_BYTES + 20480)];
	static const size_t pieces[] = {1, 7, 27, 28, 29, 1000, 4096, 20000};
	uint8_t *p = stream;
	struct nbd_client c;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t len = i == 1 ? 20480 : 4096; /* copied, received directly, copied */

		nbd_client_request_bytes(p, NBD_CMD_WRITE, 0, i, i * 65536, len);
		fill(p + NBD_REQUEST_BYTES, len, i);
		p += NBD_REQUEST_BYTES + len;
	}
	for (size_t k = 0; k < ARRAY_SIZE(pieces); k++) {
		nbd_client_open(&c, path, "a", 0);
		for (uint8_t *at = stream; at < p; at += pieces[k]) {
			size_t left = (size_t)(p - at);

			nbd_client_send(&c, at, left < pieces[k] ? left : pieces[k]);
			if (pieces[k] > 1 || (at - stream) % 512 == 0)
				usleep(200);
		}
		for (uint32_t i = 0; i < 3; i++) {
			struct nbd_answer answer;

			nbd_client_answer(&c, &answer, in, sizeof(in), 0);
			assert_int_equal(answer.error, 0);
		}
		for (uint32_t i = 0; i < 3; i++) {
			uint32_t len = i == 1 ? 20480 : 4096;

			fill(out, len, i);
			assert_int_equal(
			        nbd_client_call(&c, NBD_CMD_READ, 0, i * 65536, len, in), 0);
			assert_memory_equal(in, out, len);
		}
		assert_int_equal(nbd_client_call(&c, NBD_CMD_WRITE_ZEROES, 0, 0, 1 << 20, NULL), 0);
		nbd_client_close(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	        TEST(test_write_read),
	        TEST(test_largest),
	        TEST(test_refused_commands),
	        TEST(test_block_size),
	        TEST(test_read_only),
	        TEST(test_error_chunks),
	        TEST(test_empty_commands),
	        TEST(test_zeroes_and_trim),
	        TEST(test_block_status),
	        TEST(test_hard_violations),
	        TEST(test_disconnect_command),
	        TEST(test_many_in_flight),
	        TEST(test_back_pressure),
	        TEST(test_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
