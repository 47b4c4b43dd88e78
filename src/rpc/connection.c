/* connection.c: framing, limits and references of one connection. */

#include "rpc/connection.h"

#include <string.h>

#include "base/log.h"
#include "rpc/text.h"

static bool all_paused;

void rpc_pause(bool paused)
{
	all_paused = paused;
}

void rpc_connection_init(struct rpc_connection *connection, const struct rpc_connection_ops *ops)
{
	connection->ops = ops;
	connection->refs = 1;
	list_init(&connection->close_hooks);
}

void rpc_connection_put(struct rpc_connection *connection)
{
	BELLOWS_ASSERT(connection->refs > 0);
	if (--connection->refs)
		return;
	BELLOWS_ASSERT(connection->closed && list_empty(&connection->close_hooks));
	free(steal_ptr(&connection->partial));
	connection->ops->free(connection);
}

void rpc_connection_close(struct rpc_connection *connection)
{
	struct list *node;

	if (connection->closed)
		return;
	connection->closed = true;
	while ((node = list_pop_front(&connection->close_hooks))) {
		struct rpc_close_hook *hook = list_entry(node, struct rpc_close_hook, link);

		hook->fn(hook->arg);
	}
	connection->ops->close(connection);
}

void rpc_connection_on_close(struct rpc_connection *connection, struct rpc_close_hook *hook)
{
	list_init(&hook->link);
	if (connection->closed)
		hook->fn(hook->arg);
	else
		list_push_back(&connection->close_hooks, &hook->link);
}

void rpc_close_hook_remove(struct rpc_close_hook *hook)
{
	list_remove(&hook->link);
}

/* ---- in -------------------------------------------------------------------------------------- */

bool rpc_connection_blocked(const struct rpc_connection *connection)
{
	return all_paused || connection->closed || connection->bad_input ||
	       connection->requests >= RPC_REQUESTS_MAX ||
	       connection->queued_bytes > RPC_QUEUED_SOFT_BYTES;
}

static bool keep_partial(struct rpc_connection *connection, const char *bytes, size_t len)
{
	size_t need = connection->partial_len + len;

	if (need > RPC_REQUEST_MAX_BYTES) {
		log_warning("rpc", "a request of more than %d bytes; its connection is closed",
		        RPC_REQUEST_MAX_BYTES);
		return false;
	}
	if (need > connection->partial_room) {
		connection->partial_room = min_u64(RPC_REQUEST_MAX_BYTES, 2 * need);
		connection->partial = xrealloc(connection->partial, connection->partial_room);
	}
	memcpy(connection->partial + connection->partial_len, bytes, len);
	connection->partial_len = need;
	return true;
}

/* The value that ends with these bytes. Nothing is copied when it lies in one piece. */
static bool take_value(struct rpc_connection *connection, const char *bytes, size_t len)
{
	autofree char *whole = NULL;

	if (connection->partial_len) {
		if (!keep_partial(connection, bytes, len))
			return false;
		whole = steal_ptr(&connection->partial);
		bytes = whole;
		len = connection->partial_len;
		connection->partial_len = connection->partial_room = 0;
	}
	connection->scan = (struct json_scan){0};
	if (len > RPC_REQUEST_MAX_BYTES)
		return false;
	return rpc_request_receive(connection, json_span_trim(bytes, len));
}

size_t rpc_connection_feed(struct rpc_connection *connection, const char *bytes, size_t len)
{
	size_t done = 0, used;
	bool ok = true;

	connection->refs++;
	while (ok && done < len && !rpc_connection_blocked(connection)) {
		const char *at = bytes + done;

		switch (json_scan_feed(&connection->scan, at, len - done, &used)) {
		case JSON_SCAN_MORE:
			/* White space before a value is not kept, however much comes. */
			if (connection->scan.depth || connection->scan.values)
				ok = keep_partial(connection, at, used);
			break;
		case JSON_SCAN_DONE:
			ok = take_value(connection, at, used);
			break;
		case JSON_SCAN_BAD:
			ok = false;
			break;
		}
		done += used;
	}
	if (!ok)
		connection->bad_input = true;
	rpc_connection_put(connection);
	return done;
}

/* ---- out ------------------------------------------------------------------------------------- */

void rpc_connection_send(struct rpc_connection *connection, char *text, size_t len)
{
	if (!connection->closed && connection->queued_bytes + len > RPC_QUEUED_MAX_BYTES) {
		log_warning("rpc", "a client does not read its answers; its connection is closed");
		rpc_connection_close(connection);
	}
	if (connection->closed)
		free(text);
	else
		connection->ops->send(connection, text, len);
}

void rpc_connection_request_done(struct rpc_connection *connection)
{
	BELLOWS_ASSERT(connection->requests > 0);
	connection->requests--;
	if (!connection->closed)
		connection->ops->resume(connection);
	rpc_connection_put(connection);
}

void rpc_notify(struct rpc_connection *connection, const char *method, json_t *params)
{
	struct rpc_text text = RPC_TEXT_INIT(RPC_REPLY_MAX_BYTES);
	json_t *message;

	if (!connection->closed && connection->queued_bytes > RPC_QUEUED_NOTIFY_BYTES) {
		log_warning("rpc",
		        "a client does not read its notifications; its connection is closed");
		rpc_connection_close(connection);
	}
	message =
	        json_pack("{s:s, s:s, s:o*}", "jsonrpc", "2.0", "method", method, "params", params);
	if (!connection->closed) {
		rpc_text_json(&text, message);
		rpc_text_puts(&text, "\n");
		if (!text.full)
			rpc_connection_send(connection, steal_ptr(&text.bytes), text.len);
		free(text.bytes);
	}
	json_decref(message);
}
