/*
 * fuzz_rpc.c: bytes of a client against framing, dispatch and parameter decoding, without sockets.
 *
 * What must hold beside not breaking: the answers are the same however the bytes are cut; each is
 * one line of valid JSON; nothing is running or kept at the end. The same bytes are also read as
 * parameters of every method there is, and as a configuration file.
 */

#include <string.h>

#include "base/log.h"
#include "rpc/connection.h"
#include "rpc/method.h"
#include "rpc/server.h"
#include "rpc/text.h"

#define OUT_MAX_BYTES ((size_t)64 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a method with a parameter of every type --------------------------------------------------
 */

struct all_params {
	bool flag, small_given;
	uint8_t small;
	uint32_t medium;
	int32_t negative;
	uint64_t large;
	char *text;
	uuid_t uuid;
	int word;
	struct param_strings texts;
	struct param_u64s numbers;
	json_t *any;
};

static const char *const words[] = {"a", "b", NULL};

static const struct param all_table[] = {
        {PARAM(struct all_params, flag, PARAM_BOOL)},
        {PARAM(struct all_params, small, PARAM_U8),
                .given = offsetof(struct all_params, small_given)},
        {PARAM(struct all_params, medium, PARAM_U32), .def = 2, .min = 2, .max = 1000},
        {PARAM(struct all_params, negative, PARAM_I32)},
        {PARAM(struct all_params, large, PARAM_U64)},
        {PARAM(struct all_params, text, PARAM_STRING), .def_text = "default"},
        {PARAM(struct all_params, uuid, PARAM_UUID)},
        {PARAM(struct all_params, word, PARAM_ENUM), .values = words},
        {PARAM(struct all_params, texts, PARAM_STRINGS), .max_items = 8},
        {PARAM(struct all_params, numbers, PARAM_U64S), .max_items = 8},
        {PARAM(struct all_params, any, PARAM_JSON)},
        {0},
};

/* What was decoded, encoded and decoded again is the same. */
static void all(struct rpc_request *request, void *params)
{
	const struct param *tables[] = {all_table, NULL};
	json_t *encoded = params_encode(tables, params, true), *again;
	struct all_params second = {0};
	struct err err = ERR_NONE;

	if (params_decode(tables, 0, encoded, &second, &err))
		abort();
	again = params_encode(tables, &second, true);
	if (!json_equal(encoded, again))
		abort();
	params_release(tables, &second);
	json_decref(again);
	rpc_reply(request, encoded);
}

static struct rpc_method fuzz_all = {
        .name = "all",
        .params = all_table,
        .params_bytes = sizeof(struct all_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .handler = all,
};
RPC_METHOD(fuzz_all);

/* ---- a connection -----------------------------------------------------------------------------
 */

struct fuzz_connection {
	struct rpc_connection connection;
	struct rpc_text out;
	bool freed;
};

static struct fuzz_connection *self(struct rpc_connection *connection)
{
	return container_of(connection, struct fuzz_connection, connection);
}

static void send_text(struct rpc_connection *connection, char *text, size_t len)
{
	json_error_t error;
	json_t *value;

	if (text[len - 1] != '\n' || memchr(text, '\n', len - 1))
		abort();
	value = json_loadb(text, len, JSON_ALLOW_NUL, &error);
	if (!value && json_error_code(&error) != json_error_numeric_overflow)
		abort();
	json_decref(value);
	rpc_text_put(&self(connection)->out, text, len);
	free(text);
}

static void resume(struct rpc_connection *connection)
{
	(void)connection;
}

static void closed(struct rpc_connection *connection)
{
	(void)connection;
}

static void freed(struct rpc_connection *connection)
{
	self(connection)->freed = true;
}

static const struct rpc_connection_ops ops = {
        .send = send_text, .resume = resume, .close = closed, .free = freed};

/* Feeds all of it in pieces of at most piece bytes. */
static void run(struct fuzz_connection *c, const char *bytes, size_t len, size_t piece)
{
	*c = (struct fuzz_connection){.out = RPC_TEXT_INIT(OUT_MAX_BYTES)};
	rpc_connection_init(&c->connection, &ops);
	for (size_t done = 0; done < len;) {
		size_t n = min_u64(piece, len - done);

		done += rpc_connection_feed(&c->connection, bytes + done, n);
		if (rpc_connection_blocked(&c->connection))
			break;
	}
	if (c->connection.requests)
		abort();
	rpc_connection_close(&c->connection);
	rpc_connection_put(&c->connection);
	if (!c->freed)
		abort();
}

/* ---- the same bytes in other places -----------------------------------------------------------
 */

static void decode_everywhere(const char *bytes, size_t len)
{
	json_t *value = json_loadb(bytes, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	const struct rpc_entry *entry;

	for (size_t i = 0; value && (entry = rpc_entry_at(i)); i++) {
		const struct param *tables[] = {entry->method->params, NULL};
		autofree void *params = xcalloc(1, entry->method->params_bytes + 1);
		struct err err = ERR_NONE;

		if (!entry->method->params)
			continue;
		if (params_decode(tables, 0, value, params, &err) != err.code)
			abort();
		params_release(tables, params);
	}
	json_decref(value);
}

static void parse_config(const char *bytes, size_t len)
{
	struct rpc_config *config = NULL;
	struct err err = ERR_NONE;

	if (rpc_config_parse("fuzz", bytes, len, &config, &err) == 0)
		rpc_config_free(config);
	else if (!err.code)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_connection whole, pieces;
	struct err err = ERR_NONE;
	const char *bytes;
	size_t len;

	if (rpc_state() == RPC_STARTUP) {
		rpc_state_set(RPC_RUNTIME);
		log_set_print_level(LOG_ERROR);
		/* Methods that answer at once and change nothing. */
		if (rpc_allow_only("all,spdk_get_version,log_get_level", &err))
			abort();
	}
	if (size < 1)
		return 0;
	bytes = (const char *)data + 1;
	len = size - 1;
	run(&whole, bytes, len, len + 1);
	run(&pieces, bytes, len, (size_t)data[0] + 1);
	if (whole.out.len != pieces.out.len ||
	        (whole.out.len && memcmp(whole.out.bytes, pieces.out.bytes, whole.out.len)))
		abort();
	free(whole.out.bytes);
	free(pieces.out.bytes);
	decode_everywhere(bytes, len);
	parse_config(bytes, len);
	return 0;
}
