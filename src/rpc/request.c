/* request.c: from the text of a request to its handler, and from a result to its answer. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "rpc/connection.h"
#include "rpc/method.h"
#include "rpc/text.h"

/* What can be made of the text of one request. */
enum reading {
	READ_OK,
	READ_DUPLICATE, /* JSON, but a key stands twice somewhere */
	READ_UNUSABLE,  /* JSON, but a number or key that nothing here can hold */
	READ_MALFORMED,
};

struct piece {
	struct json_span text;
	json_t *json;
	enum reading reading;
	char problem[80]; /* READ_DUPLICATE: where */
};

struct rpc_batch {
	unsigned pending;
	struct rpc_text text;
};

struct rpc_request {
	struct rpc_connection *connection; /* NULL: from inside */
	struct rpc_batch *batch;
	const struct rpc_method *method; /* NULL until it is known */
	char *id;                        /* as written; NULL: a notification */
	void *params;
	void (*done)(void *arg, const json_t *reply); /* from inside */
	void *done_arg;
};

const struct rpc_method *rpc_request_method(const struct rpc_request *request)
{
	return request->method;
}

struct rpc_connection *rpc_request_connection(const struct rpc_request *request)
{
	return request->connection;
}

/* ---- answering ------------------------------------------------------------------------------- */

/* What is put around the answers must always fit. */
static void put_frame(struct rpc_text *text, const char *chars)
{
	text->max = max_u64(text->max, text->len + strlen(chars));
	rpc_text_puts(text, chars);
}

static void batch_put(struct rpc_batch *batch, struct rpc_connection *connection)
{
	if (--batch->pending)
		return;
	if (batch->text.len) {
		put_frame(&batch->text, "]\n");
		rpc_connection_send(connection, steal_ptr(&batch->text.bytes), batch->text.len);
	}
	free(batch->text.bytes);
	free(batch);
}

static void put_reply(struct rpc_text *text, const struct rpc_request *request, const char *kind,
        const json_t *value)
{
	rpc_text_puts(text, "{\"jsonrpc\":\"2.0\",\"id\":");
	rpc_text_puts(text, request->id ? request->id : "null");
	rpc_text_puts(text, kind);
	rpc_text_json(text, value);
	rpc_text_puts(text, "}");
}

static void put_reply_or_error(struct rpc_text *text, const struct rpc_request *request,
        const char *kind, const json_t *value)
{
	size_t before = text->len, max;
	json_t *error;

	put_reply(text, request, kind, value);
	if (!text->full)
		return;
	rpc_text_cut(text, before);
	max = text->max;
	text->max += RPC_REQUEST_MAX_BYTES; /* room for the id and this: */
	error = json_pack("{s:i, s:s}", "code", RPC_INTERNAL_ERROR, "message",
	        "The result is larger than 32 MiB; ask for less");
	put_reply(text, request, ",\"error\":", error);
	text->max = max_u64(max, text->len);
	json_decref(error);
}

static void answer_connection(struct rpc_request *request, const char *kind, const json_t *value)
{
	struct rpc_text text = RPC_TEXT_INIT(RPC_REPLY_MAX_BYTES);

	if (request->batch) {
		put_frame(&request->batch->text, request->batch->text.len ? "," : "[");
		put_reply_or_error(&request->batch->text, request, kind, value);
		return;
	}
	put_reply_or_error(&text, request, kind, value);
	put_frame(&text, "\n");
	rpc_connection_send(request->connection, text.bytes, text.len);
}

static void answer_inside(struct rpc_request *request, const char *kind, json_t *value)
{
	json_t *reply = json_pack("{s:s, s:n, s:O}", "jsonrpc", "2.0", "id", kind, value);

	request->done(request->done_arg, reply);
	json_decref(reply);
}

static void release_params(struct rpc_request *request)
{
	const struct param *tables[] = {request->method ? request->method->params : NULL, NULL};

	if (request->params && tables[0])
		params_release(tables, request->params);
	free(request->params);
}

/* Steals value. */
static void finish(struct rpc_request *request, bool is_error, json_t *value)
{
	struct rpc_connection *connection = request->connection;

	if (request->done)
		answer_inside(request, is_error ? "error" : "result", value);
	else if (is_error || request->id)
		answer_connection(request, is_error ? ",\"error\":" : ",\"result\":", value);
	json_decref(value);
	if (request->batch)
		batch_put(request->batch, connection);
	release_params(request);
	free(request->id);
	free(request);
	if (connection)
		rpc_connection_request_done(connection);
}

void rpc_reply(struct rpc_request *request, json_t *result)
{
	finish(request, false, result ? result : json_true());
}

static void fail_text(struct rpc_request *request, int code, const char *text)
{
	finish(request, true,
	        json_pack("{s:i, s:o}", "code", code, "message", rpc_json_string(text)));
}

static bool is_errno(int code)
{
	return code < 0 && code > -4096;
}

void rpc_fail(struct rpc_request *request, int code, const char *fmt, ...)
{
	char sentence[ERR_TEXT_MAX], text[2 * ERR_TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, args);
	va_end(args);
	if (!is_errno(code))
		str_copy(text, sizeof(text), sentence);
	else if (sentence[0])
		snprintf(text, sizeof(text), "%s: %s", errno_text(code), sentence);
	else
		str_copy(text, sizeof(text), errno_text(code));
	fail_text(request, code, text);
}

void rpc_fail_err(struct rpc_request *request, const struct err *err)
{
	rpc_fail(request, err->code, "%s", err->text);
}

void rpc_reply_err(struct rpc_request *request, const struct err *err)
{
	if (err && err->code)
		rpc_fail_err(request, err);
	else
		rpc_reply(request, NULL);
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static struct rpc_request *new_request(struct rpc_connection *connection, struct rpc_batch *batch)
{
	struct rpc_request *request = xcalloc(1, sizeof(*request));

	request->connection = connection;
	request->batch = batch;
	if (connection) {
		connection->requests++;
		connection->refs++;
	}
	return request;
}

static int decode(
        struct rpc_request *request, const json_t *params, const char *problem, struct err *err)
{
	const struct rpc_method *method = request->method;
	const struct param *tables[] = {method->params, NULL};

	if (method->flags & RPC_PARAMS_UNCHECKED)
		return 0;
	if (method->flags & RPC_NO_PARAMS && params)
		return err_set(err, RPC_INVALID_PARAMS, "this method takes no parameters");
	if (problem[0])
		return err_set(err, -EINVAL, "%s", problem);
	request->params = xcalloc(1, method->params_bytes + 1);
	return params_decode(tables, method->flags & RPC_RELAXED ? PARAM_ALLOW_UNKNOWN : 0, params,
	        request->params, err);
}

static void dispatch(
        struct rpc_request *request, const char *name, const json_t *params, const char *problem)
{
	const struct rpc_entry *entry = rpc_entry_find(name);
	struct err err = ERR_NONE;

	if (!entry || entry->forbidden) {
		rpc_fail(request, RPC_METHOD_NOT_FOUND, "Method not found: '%.128s'", name);
		return;
	}
	request->method = entry->method;
	if (rpc_stopping()) {
		rpc_fail(request, -ESHUTDOWN, "the server is ending");
		return;
	}
	if (!(rpc_method_states(entry->method) & rpc_state())) {
		/* -1 as the reference has it, and no errno: so not by rpc_fail. */
		fail_text(request, -1,
		        rpc_state() == RPC_STARTUP
		                ? "This method is for after the start: call framework_start_init "
		                  "first"
		                : "This method is for before the start only: run bellowsd with "
		                  "--wait-for-rpc and call it before framework_start_init");
		return;
	}
	if (decode(request, params, problem, &err)) {
		int code = entry->method->decode_error;

		if (err.code == RPC_INVALID_PARAMS)
			code = RPC_INVALID_PARAMS;
		rpc_fail(request, code ? code : RPC_INTERNAL_ERROR, "Invalid parameters: %s",
		        err.text);
		return;
	}
	entry->method->handler(request, request->params);
}

void rpc_call(
        const char *method, json_t *params, void (*done)(void *arg, const json_t *reply), void *arg)
{
	struct rpc_request *request = new_request(NULL, NULL);

	request->done = done;
	request->done_arg = arg;
	dispatch(request, method, params, "");
	json_decref(params);
}

/* ---- reading --------------------------------------------------------------------------------- */

static json_t *load(struct json_span text, size_t flags, json_error_t *error)
{
	return json_loadb(text.at, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, error);
}

static void read_piece(struct piece *piece, struct json_span text)
{
	json_error_t error;
	enum json_error_code code;

	piece->text = text;
	piece->reading = READ_OK;
	piece->json = load(text, JSON_REJECT_DUPLICATES, &error);
	if (piece->json)
		return;
	code = json_error_code(&error);
	if (code == json_error_numeric_overflow) {
		/* An integer beyond 2^63: the others stay exact up to 2^53, and the table refuses
		 * it by name. */
		piece->json = load(text, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
		if (piece->json)
			return;
		code = json_error_code(&error);
	}
	if (code == json_error_duplicate_key) {
		piece->reading = READ_DUPLICATE;
		snprintf(piece->problem, sizeof(piece->problem), "%.70s", error.text);
		piece->json = load(text, JSON_DECODE_INT_AS_REAL, &error);
		code = json_error_code(&error);
	}
	if (!piece->json)
		piece->reading =
		        code == json_error_numeric_overflow || code == json_error_null_byte_in_key
		                ? READ_UNUSABLE
		                : READ_MALFORMED;
}

/* A key as written, perhaps with escapes. */
static bool key_is(struct json_span key, const char *name)
{
	size_t len = strlen(name);
	json_error_t error;
	json_t *text;
	bool same;

	if (!memchr(key.at, '\\', key.len))
		return key.len == len + 2 && memcmp(key.at + 1, name, len) == 0;
	text = load(key, 0, &error);
	same = text && strcmp(json_string_value(text), name) == 0;
	json_decref(text);
	return same;
}

struct envelope {
	struct json_span id; /* len 0: none */
	bool has_version, has_method, has_params;
	const char *wrong; /* NULL: fine */
};

static void see_member(struct envelope *e, struct json_span key, struct json_span value)
{
	bool twice;

	if (key_is(key, "id")) {
		twice = e->id.len > 0;
		e->id = value;
	} else if (key_is(key, "jsonrpc")) {
		twice = e->has_version;
		e->has_version = true;
	} else if (key_is(key, "method")) {
		twice = e->has_method;
		e->has_method = true;
	} else if (key_is(key, "params")) {
		twice = e->has_params;
		e->has_params = true;
	} else {
		e->wrong = "there are only jsonrpc, method, params and id";
		return;
	}
	if (twice)
		e->wrong = "a key stands twice";
}

/* Everything that is checked before the id counts. */
static struct envelope open_envelope(const struct piece *piece)
{
	struct envelope e = {0};
	struct json_walk walk = json_walk_begin(piece->text);
	struct json_span key, value;
	json_t *version = json_object_get(piece->json, "jsonrpc");
	json_t *id = json_object_get(piece->json, "id");

	while (!e.wrong && json_walk_member(&walk, &key, &value))
		see_member(&e, key, value);
	if (e.wrong)
		return e;
	if (version && (!json_is_string(version) || strcmp(json_string_value(version), "2.0")))
		e.wrong = "jsonrpc must be \"2.0\"";
	else if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		e.wrong = "id must be a string, a number or null";
	else if (!json_is_string(json_object_get(piece->json, "method")))
		e.wrong = "method must be there, and a string";
	return e;
}

static void start_request(
        struct rpc_connection *connection, struct rpc_batch *batch, struct piece *piece)
{
	struct rpc_request *request = new_request(connection, batch);
	const json_t *method, *params;
	struct envelope e;

	if (piece->reading == READ_UNUSABLE) {
		rpc_fail(request, RPC_INVALID_REQUEST,
		        "Invalid request: a number is out of range, or a key contains NUL");
		return;
	}
	if (!json_is_object(piece->json)) {
		rpc_fail(request, RPC_INVALID_REQUEST, "Invalid request: it must be an object");
		return;
	}
	e = open_envelope(piece);
	if (e.wrong) {
		rpc_fail(request, RPC_INVALID_REQUEST, "Invalid request: %s", e.wrong);
		return;
	}
	if (e.id.len && !json_is_null(json_object_get(piece->json, "id"))) {
		request->id = xcalloc(1, e.id.len + 1);
		memcpy(request->id, e.id.at, e.id.len);
	}
	method = json_object_get(piece->json, "method");
	params = json_object_get(piece->json, "params");
	if (json_is_null(params))
		params = NULL;
	if (params && !json_is_object(params) && !json_is_array(params)) {
		rpc_fail(request, RPC_INVALID_REQUEST, "Invalid request: params must be an object");
		return;
	}
	if (strlen(json_string_value(method)) != json_string_length(method)) {
		rpc_fail(request, RPC_METHOD_NOT_FOUND, "Method not found");
		return;
	}
	dispatch(request, json_string_value(method), params, piece->problem);
}

static bool start_batch(struct rpc_connection *connection, struct json_span text)
{
	struct json_walk walk = json_walk_begin(text);
	struct json_span item;
	struct rpc_batch *batch;
	struct piece *pieces = NULL;
	size_t count = 0;
	bool ok = true;

	while (ok && json_walk_item(&walk, &item)) {
		if ((count & (count + 1)) == 0) /* 0, 1, 3, 7, ... are full */
			pieces = xrealloc(pieces, 2 * (count + 1) * sizeof(*pieces));
		pieces[count] = (struct piece){0};
		read_piece(&pieces[count], item);
		ok = pieces[count++].reading != READ_MALFORMED;
	}
	if (ok) {
		batch = xcalloc(1, sizeof(*batch));
		batch->text = (struct rpc_text)RPC_TEXT_INIT(RPC_REPLY_MAX_BYTES);
		batch->pending = (unsigned)count + 1;
		for (size_t i = 0; i < count; i++)
			start_request(connection, batch, &pieces[i]);
		batch_put(batch, connection);
	}
	for (size_t i = 0; i < count; i++)
		json_decref(pieces[i].json);
	free(pieces);
	return ok;
}

bool rpc_request_receive(struct rpc_connection *connection, struct json_span text)
{
	struct piece piece = {0};
	struct json_walk walk;
	struct json_span item;

	if (text.at[0] == '[') {
		walk = json_walk_begin(text);
		if (json_walk_item(&walk, &item))
			return start_batch(connection, text);
	}
	read_piece(&piece, text);
	if (piece.reading == READ_MALFORMED)
		return false;
	start_request(connection, NULL, &piece);
	json_decref(piece.json);
	return true;
}
