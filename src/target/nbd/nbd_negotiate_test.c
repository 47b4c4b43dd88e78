/* The negotiation, byte by byte, against a server in this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cursor.h"
#include "target/nbd/nbd.h"
#include "tests/lib/inproc.h"
#include "tests/lib/nbd_client.h"

#define BOTH_FLAGS (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)
#define A_BLOCKS 2048ULL
#define A_BYTES (A_BLOCKS * 512)

static char path[96];

/* Server S with the exports "a" (512-byte blocks) and "b" (4096-byte blocks, read-only). */
static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/nbd.sock", inproc_dir());
	inproc_start(2);
	inproc_ok("bdev_malloc_create", "{'name': 'a', 'num_blocks': 2048, 'block_size': 512}");
	inproc_ok("bdev_malloc_create", "{'name': 'b', 'num_blocks': 512, 'block_size': 4096}");
	inproc_ok("nbd_create_server", "{'name': 'S', 'path': '%s'}", path);
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'a', 'description': 'first'}");
	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'b', 'read_only': true}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	assert_int_not_equal(access(path, F_OK), 0);
	return 0;
}

static size_t num_connections(void)
{
	json_t *servers = inproc_result("nbd_get_servers", NULL);
	size_t n = json_array_size(json_object_get(json_array_get(servers, 0), "connections"));

	json_decref(servers);
	return n;
}

static void wait_for_connections(size_t n)
{
	while (num_connections() != n)
		usleep(1000);
}

static void greeted(struct nbd_client *c)
{
	nbd_client_connect(c, path);
	nbd_client_greet(c, BOTH_FLAGS);
}

static void abort_politely(struct nbd_client *c)
{
	nbd_client_option_expect(c, NBD_OPT_ABORT, NULL, 0, NBD_REP_ACK);
	assert_int_equal(nbd_client_expect_end(c), 0);
	nbd_client_close(c);
}

/* The connection is still one where an export can be had. */
static void still_works(struct nbd_client *c)
{
	uint8_t data[64];
	struct nbd_option_reply reply;

	nbd_client_option(c, NBD_OPT_INFO, data, nbd_client_go_data(data, sizeof(data), "a"));
	do {
		nbd_client_option_reply(c, &reply);
		assert_true(reply.type == NBD_REP_INFO || reply.type == NBD_REP_ACK);
	} while (reply.type != NBD_REP_ACK);
	abort_politely(c);
}

static void test_unknown_client_flags(void **state)
{
	struct nbd_client c;

	(void)state;
	for (unsigned bit = 2; bit < 32; bit += 7) {
		nbd_client_connect(&c, path);
		nbd_client_greet(&c, BOTH_FLAGS | 1U << bit);
		assert_int_equal(nbd_client_expect_end(&c), 0);
		nbd_client_close(&c);
	}
}

static void test_export_name(void **state)
{
	for (int zeroes = 0; zeroes < 2; zeroes++) {
		uint8_t answer[10 + NBD_EXPORT_NAME_ZEROES];
		size_t len = zeroes ? sizeof(answer) : 10;
		struct cursor r = cursor_of(answer, sizeof(answer));
		struct nbd_client c;
		uint16_t flags;
		char buf[512];

		(void)state;
		nbd_client_connect(&c, path);
		nbd_client_greet(&c, zeroes ? NBD_FLAG_C_FIXED_NEWSTYLE : BOTH_FLAGS);
		nbd_client_option(&c, NBD_OPT_EXPORT_NAME, "a", 1);
		nbd_client_recv(&c, answer, len);
		assert_true(cursor_be64(&r) == A_BYTES);
		flags = cursor_be16(&r);
		assert_int_equal(flags & (NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY |
		                                 NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_DF),
		        NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN);
		for (size_t i = 10; i < len; i++)
			assert_int_equal(answer[i], 0);
		assert_int_equal(nbd_client_call(&c, NBD_CMD_READ, 0, 0, 512, buf), 0);
		nbd_client_close(&c);
	}
}

static void test_export_name_unknown(void **state)
{
	static const char *const names[] = {"c", "", "aa", "A"};
	char huge[5000] = {0};
	struct nbd_client c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		greeted(&c);
		nbd_client_option(&c, NBD_OPT_EXPORT_NAME, names[i], strlen(names[i]));
		assert_int_equal(nbd_client_expect_end(&c), 0);
		nbd_client_close(&c);
	}
	greeted(&c);
	nbd_client_option(&c, NBD_OPT_EXPORT_NAME, huge, sizeof(huge));
	assert_int_equal(nbd_client_expect_end(&c), 0);
	nbd_client_close(&c);
}

static void expect_server(struct nbd_client *c, const char *name, const char *description)
{
	struct nbd_option_reply reply;
	struct cursor r;

	nbd_client_option_reply(c, &reply);
	assert_int_equal(reply.type, NBD_REP_SERVER);
	r = cursor_of(reply.data, reply.len);
	assert_int_equal(cursor_be32(&r), strlen(name));
	assert_memory_equal(cursor_bytes(&r, strlen(name)), name, strlen(name));
	assert_int_equal(cursor_left(&r), strlen(description));
	assert_memory_equal(r.pos, description, strlen(description));
}

static void test_list(void **state)
{
	struct nbd_option_reply reply;
	struct nbd_client c;

	(void)state;
	greeted(&c);
	nbd_client_option(&c, NBD_OPT_LIST, NULL, 0);
	expect_server(&c, "a", "first");
	expect_server(&c, "b", "");
	nbd_client_option_reply(&c, &reply);
	assert_int_equal(reply.type, NBD_REP_ACK);
	assert_int_equal(reply.len, 0);
	nbd_client_option_expect(&c, NBD_OPT_LIST, "x", 1, NBD_REP_ERR_INVALID);
	still_works(&c);
}

static void test_go(void **state)
{
	struct nbd_client c;

	(void)state;
	nbd_client_open(&c, path, "a", 0);
	assert_true(c.size_bytes == A_BYTES);
	assert_int_equal(c.block_min, 512);
	assert_int_equal(c.block_preferred, 4096);
	assert_int_equal(c.block_max, NBD_REQUEST_MAX_BYTES);
	assert_false(c.flags & (NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_DF));
	assert_int_equal(c.flags & (NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
	                                   NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_TRIM),
	        NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_WRITE_ZEROES |
	                NBD_FLAG_SEND_TRIM);
	nbd_client_close(&c);

	nbd_client_open(&c, path, "b", NBD_WANT_STRUCTURED);
	assert_true(c.size_bytes == 512ULL * 4096);
	assert_int_equal(c.block_min, 4096);
	assert_true(c.flags & NBD_FLAG_READ_ONLY);
	assert_true(c.flags & NBD_FLAG_SEND_DF);
	assert_false(c.flags & (NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
	                               NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_TRIM));
	nbd_client_close(&c);
}

static void test_info_texts(void **state)
{
	uint8_t data[64];
	struct nbd_option_reply reply;
	struct nbd_client c;
	bool name = false, description = false;

	(void)state;
	greeted(&c);
	nbd_client_option(&c, NBD_OPT_INFO, data, nbd_client_go_data(data, sizeof(data), "a"));
	for (nbd_client_option_reply(&c, &reply); reply.type == NBD_REP_INFO;
	        nbd_client_option_reply(&c, &reply)) {
		struct cursor r = cursor_of(reply.data, reply.len);

		switch (cursor_be16(&r)) {
		case NBD_INFO_NAME:
			assert_int_equal(cursor_left(&r), 1);
			assert_memory_equal(r.pos, "a", 1);
			name = true;
			break;
		case NBD_INFO_DESCRIPTION:
			assert_int_equal(cursor_left(&r), 5);
			assert_memory_equal(r.pos, "first", 5);
			description = true;
			break;
		default:
			break;
		}
	}
	assert_int_equal(reply.type, NBD_REP_ACK);
	assert_true(name && description);
	still_works(&c);
}

/* Each of these is refused, and the client may go on. */
static void test_malformed_go(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
	        {"", 0},
	        {"\0\0\0", 3},
	        {"\0\0\0\1", 4},              /* the name is missing */
	        {"\0\0\0\1a", 5},             /* the count is missing */
	        {"\0\0\0\1a\0", 6},           /* half of it */
	        {"\0\0\0\1a\0\1", 7},         /* the information type is missing */
	        {"\0\0\0\1a\0\1\0", 8},       /* half of it */
	        {"\0\0\0\1a\377\377\0\3", 9}, /* far too few */
	        {"\0\0\0\1a\0\0x", 8},        /* more than there should be */
	        {"\377\377\377\377a\0\0", 7}, /* a name beyond the end */
	        {"\200\0\0\0a\0\0", 7},
	};
	static const uint32_t options[] = {NBD_OPT_GO, NBD_OPT_INFO};
	struct nbd_client c;

	(void)state;
	greeted(&c);
	for (size_t o = 0; o < ARRAY_SIZE(options); o++) {
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
			nbd_client_option_expect(
			        &c, options[o], cases[i].bytes, cases[i].len, NBD_REP_ERR_INVALID);
		nbd_client_option_expect(&c, options[o], "\0\0\0\2xy\0\0", 8, NBD_REP_ERR_UNKNOWN);
		/* A name that has a NUL in it is not the name before it. */
		nbd_client_option_expect(&c, options[o], "\0\0\0\2a\0\0\0", 8, NBD_REP_ERR_UNKNOWN);
	}
	still_works(&c);
}

static void test_default_export(void **state)
{
	uint8_t data[64];
	size_t len = nbd_client_go_data(data, sizeof(data), "");
	struct nbd_client c;

	(void)state;
	greeted(&c);
	nbd_client_option_expect(&c, NBD_OPT_GO, data, len, NBD_REP_ERR_UNKNOWN);
	abort_politely(&c);

	inproc_ok("nbd_remove_export", "{'server': 'S', 'export_name': 'b'}");
	nbd_client_open(&c, path, "", 0);
	assert_true(c.size_bytes == A_BYTES);
	nbd_client_close(&c);

	inproc_ok("nbd_add_export", "{'server': 'S', 'bdev_name': 'b', 'export_name': ''}");
	nbd_client_open(&c, path, "", 0);
	assert_true(c.size_bytes == 512ULL * 4096);
	nbd_client_close(&c);
}

static void test_simple_refusals(void **state)
{
	struct nbd_client c;

	(void)state;
	greeted(&c);
	nbd_client_option_expect(&c, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ERR_POLICY);
	nbd_client_option_expect(&c, NBD_OPT_STRUCTURED_REPLY, "x", 1, NBD_REP_ERR_INVALID);
	nbd_client_option_expect(&c, 0, NULL, 0, NBD_REP_ERR_UNSUP);
	nbd_client_option_expect(&c, 4, "abc", 3, NBD_REP_ERR_UNSUP);
	nbd_client_option_expect(&c, 11, NULL, 0, NBD_REP_ERR_UNSUP);
	nbd_client_option_expect(&c, 0xffffffffU, "abc", 3, NBD_REP_ERR_UNSUP);
	still_works(&c);
}

static void expect_contexts(
        struct nbd_client *c, uint32_t option, const char *name, const char *query, unsigned count)
{
	uint8_t data[256];
	size_t len = nbd_client_meta_data(data, sizeof(data), name, query);
	struct nbd_option_reply reply;

	nbd_client_option(c, option, data, len);
	for (unsigned i = 0; i < count; i++) {
		nbd_client_option_reply(c, &reply);
		assert_int_equal(reply.type, NBD_REP_META_CONTEXT);
		assert_int_equal(reply.len, 4 + strlen(NBD_META_BASE_ALLOCATION));
		assert_memory_equal(
		        reply.data + 4, NBD_META_BASE_ALLOCATION, strlen(NBD_META_BASE_ALLOCATION));
	}
	nbd_client_option_reply(c, &reply);
	assert_int_equal(reply.type, NBD_REP_ACK);
}

static void test_meta_contexts(void **state)
{
	static const uint32_t options[] = {NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT};
	struct nbd_client c;
	uint8_t data[256];
	size_t len;

	(void)state;
	greeted(&c);
	len = nbd_client_meta_data(data, sizeof(data), "a", NBD_META_BASE_ALLOCATION);
	for (size_t o = 0; o < 2; o++)
		nbd_client_option_expect(&c, options[o], data, len, NBD_REP_ERR_INVALID);
	nbd_client_option_expect(&c, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
	for (size_t o = 0; o < 2; o++) {
		for (size_t cut = 0; cut < len; cut++)
			nbd_client_option_expect(&c, options[o], data, cut, NBD_REP_ERR_INVALID);
	}
	len = nbd_client_meta_data(data, sizeof(data), "zz", NBD_META_BASE_ALLOCATION);
	for (size_t o = 0; o < 2; o++)
		nbd_client_option_expect(&c, options[o], data, len, NBD_REP_ERR_UNKNOWN);

	expect_contexts(&c, NBD_OPT_LIST_META_CONTEXT, "a", NULL, 1);
	expect_contexts(&c, NBD_OPT_LIST_META_CONTEXT, "a", "base:", 1);
	expect_contexts(&c, NBD_OPT_LIST_META_CONTEXT, "a", NBD_META_BASE_ALLOCATION, 1);
	expect_contexts(&c, NBD_OPT_LIST_META_CONTEXT, "a", "qemu:dirty-bitmap:x", 0);
	expect_contexts(&c, NBD_OPT_SET_META_CONTEXT, "a", "base:alloc", 0);
	expect_contexts(&c, NBD_OPT_SET_META_CONTEXT, "a", "base:", 0);
	expect_contexts(&c, NBD_OPT_SET_META_CONTEXT, "a", NULL, 0);
	expect_contexts(&c, NBD_OPT_SET_META_CONTEXT, "a", NBD_META_BASE_ALLOCATION, 1);
	still_works(&c);
}

/* What was selected for one export is not selected for another, and the last selection counts. */
static void test_meta_selection(void **state)
{
	static const struct {
		const char *first, *query, *go;
		uint32_t error;
	} cases[] = {
	        {"a", NBD_META_BASE_ALLOCATION, "a", 0},
	        {"b", NBD_META_BASE_ALLOCATION, "a", NBD_EINVAL},
	        {"a", "base:other", "a", NBD_EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct nbd_client c;
		uint8_t data[64];
		struct nbd_option_reply reply;

		greeted(&c);
		nbd_client_option_expect(&c, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
		c.structured = true;
		expect_contexts(&c, NBD_OPT_SET_META_CONTEXT, "a", NBD_META_BASE_ALLOCATION, 1);
		expect_contexts(&c, NBD_OPT_SET_META_CONTEXT, cases[i].first, cases[i].query,
		        strcmp(cases[i].query, NBD_META_BASE_ALLOCATION) == 0);
		nbd_client_option(
		        &c, NBD_OPT_GO, data, nbd_client_go_data(data, sizeof(data), cases[i].go));
		do
			nbd_client_option_reply(&c, &reply);
		while (reply.type == NBD_REP_INFO);
		assert_int_equal(reply.type, NBD_REP_ACK);
		assert_int_equal(nbd_client_call(&c, NBD_CMD_BLOCK_STATUS, 0, 0, 4096, NULL),
		        cases[i].error);
		nbd_client_close(&c);
	}
}

static void test_long_options(void **state)
{
	static uint8_t zeroes[NBD_OPTION_HOPELESS_BYTES + 1];
	struct nbd_client c;

	(void)state;
	greeted(&c);
	nbd_client_option_expect(&c, NBD_OPT_GO, zeroes, NBD_OPTION_MAX_BYTES, NBD_REP_ERR_INVALID);
	nbd_client_option_expect(
	        &c, NBD_OPT_GO, zeroes, NBD_OPTION_MAX_BYTES + 1, NBD_REP_ERR_TOO_BIG);
	nbd_client_option_expect(&c, 77, zeroes, NBD_OPTION_HOPELESS_BYTES, NBD_REP_ERR_TOO_BIG);
	nbd_client_option(&c, NBD_OPT_GO, zeroes, sizeof(zeroes));
	assert_int_equal(nbd_client_expect_end(&c), 0);
	nbd_client_close(&c);
}

static void test_too_many_options(void **state)
{
	struct nbd_client c;

	(void)state;
	greeted(&c);
	for (unsigned i = 0; i < NBD_OPTIONS_MAX; i++)
		nbd_client_option_expect(&c, 99, NULL, 0, NBD_REP_ERR_UNSUP);
	nbd_client_option(&c, 99, NULL, 0);
	assert_int_equal(nbd_client_expect_end(&c), 0);
	nbd_client_close(&c);
}

static void test_bad_magic(void **state)
{
	uint8_t header[NBD_OPT_HEADER_BYTES] = "IHAVEOPS\0\0\0\3\0\0\0";
	struct nbd_client c;

	(void)state;
	greeted(&c);
	nbd_client_send(&c, header, sizeof(header));
	assert_int_equal(nbd_client_expect_end(&c), 0);
	nbd_client_close(&c);
}

/* A client that leaves, or falls silent and then leaves, after any number of bytes. */
static void test_truncated(void **state)
{
	uint8_t all[256], data[64];
	struct writer w = writer_of(all, sizeof(all));
	size_t go_len = nbd_client_go_data(data, sizeof(data), "a"), len;

	(void)state;
	writer_be32(&w, BOTH_FLAGS);
	writer_be64(&w, NBD_MAGIC_OPT);
	writer_be32(&w, NBD_OPT_STRUCTURED_REPLY);
	writer_be32(&w, 0);
	writer_be64(&w, NBD_MAGIC_OPT);
	writer_be32(&w, NBD_OPT_GO);
	writer_be32(&w, (uint32_t)go_len);
	writer_copy(&w, data, go_len);
	writer_be32(&w, NBD_REQUEST_MAGIC);
	writer_be64(&w, 0);
	assert_false(w.bad);
	len = (size_t)(w.pos - all);
	for (size_t cut = 0; cut <= len; cut++) {
		struct nbd_client half, gone;

		nbd_client_connect(&half, path);
		nbd_client_send(&half, all, cut);
		assert_int_equal(shutdown(half.fd, SHUT_WR), 0);
		assert_true(nbd_client_expect_end(&half) >= NBD_GREETING_BYTES);
		nbd_client_close(&half);
		nbd_client_connect(&gone, path);
		nbd_client_send(&gone, all, cut);
		nbd_client_close(&gone);
	}
	wait_for_connections(0);
}

static void test_too_many_connections(void **state)
{
	struct nbd_client clients[NBD_CONNS_MAX], c;

	(void)state;
	for (unsigned i = 0; i < NBD_CONNS_MAX; i++)
		nbd_client_connect(&clients[i], path);
	wait_for_connections(NBD_CONNS_MAX);
	nbd_client_connect(&c, path);
	assert_int_equal(nbd_client_expect_end(&c), 0);
	nbd_client_close(&c);
	for (unsigned i = 0; i < NBD_CONNS_MAX; i++)
		nbd_client_close(&clients[i]);
	wait_for_connections(0);
	greeted(&c);
	still_works(&c);
}

/* Deleting the server ends clients that are in the middle of negotiating. */
static void test_delete_while_negotiating(void **state)
{
	struct nbd_client silent, haggling;

	(void)state;
	nbd_client_connect(&silent, path);
	greeted(&haggling);
	nbd_client_option_expect(&haggling, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
	inproc_ok("nbd_delete_server", "{'name': 'S'}");
	assert_int_equal(nbd_client_expect_end(&haggling), 0);
	nbd_client_expect_end(&silent);
	nbd_client_close(&haggling);
	nbd_client_close(&silent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	        TEST(test_unknown_client_flags),
	        TEST(test_export_name),
	        TEST(test_export_name_unknown),
	        TEST(test_list),
	        TEST(test_go),
	        TEST(test_info_texts),
	        TEST(test_malformed_go),
	        TEST(test_default_export),
	        TEST(test_simple_refusals),
	        TEST(test_meta_contexts),
	        TEST(test_meta_selection),
	        TEST(test_long_options),
	        TEST(test_too_many_options),
	        TEST(test_bad_magic),
	        TEST(test_truncated),
	        TEST(test_too_many_connections),
	        TEST(test_delete_while_negotiating),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
