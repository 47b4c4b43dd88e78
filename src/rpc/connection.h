/*
 * connection.h: JSON-RPC on a stream of bytes, without the socket: framing, ids, batches, dispatch
 * and replies. The server feeds it from sockets; tests and the fuzzer feed it by hand.
 *
 * Invariants
 *  - Requests of one connection run concurrently; each is answered when it is done, with its id as
 *    it was written. A batch is answered with one line when its last element is done.
 *  - Memory is bounded: one value of RPC_REQUEST_MAX_BYTES, RPC_REQUESTS_MAX running requests
 *    (elements of one batch beyond that), RPC_QUEUED_MAX_BYTES of answers. A connection that is
 *    over a soft limit is not read; over a hard limit it is closed.
 *  - Malformed JSON ends the connection, without an answer to it, once the requests before it are
 *    answered.
 *  - The struct lives until its last reference is dropped: one of its owner, one of each running
 *    request. All of it runs on the control loop.
 */
#pragma once

#include "rpc/rpc.h"
#include "rpc/scan.h"

#define RPC_REQUEST_MAX_BYTES (256 * 1024)
#define RPC_REPLY_MAX_BYTES ((size_t)32 * 1024 * 1024)
#define RPC_REQUESTS_MAX 256
/* With more than this waiting to be sent, nothing more is read. */
#define RPC_QUEUED_SOFT_BYTES ((size_t)1024 * 1024)
/* With more than this, a notification closes the connection. */
#define RPC_QUEUED_NOTIFY_BYTES ((size_t)4 * 1024 * 1024)
/* With more than this, anything closes the connection. */
#define RPC_QUEUED_MAX_BYTES ((size_t)64 * 1024 * 1024)

struct rpc_connection_ops {
	/* Takes text, to be sent in order; counts it in queued_bytes until it is sent. Not called
	 * when closed. */
	void (*send)(struct rpc_connection *connection, char *text, size_t len);
	/* rpc_connection_blocked may have become false. May be called from anywhere: feed later. */
	void (*resume)(struct rpc_connection *connection);
	/* The connection is broken: called once, shut the transport down. */
	void (*close)(struct rpc_connection *connection);
	/* The last reference is gone. */
	void (*free)(struct rpc_connection *connection);
};

struct rpc_connection {
	const struct rpc_connection_ops *ops;
	struct json_scan scan;
	char *partial; /* of the value that has not ended yet */
	size_t partial_len, partial_room;
	size_t queued_bytes; /* the transport's count */
	unsigned requests;   /* running */
	unsigned refs;
	bool bad_input; /* nothing is read any more; to be closed when all is answered */
	bool closed;
	struct list close_hooks;
};

/* With one reference. */
void rpc_connection_init(struct rpc_connection *connection, const struct rpc_connection_ops *ops);
void rpc_connection_put(struct rpc_connection *connection);

/* Takes bytes until it is blocked or broken; returns how many. */
size_t rpc_connection_feed(struct rpc_connection *connection, const char *bytes, size_t len);
/* Nothing is to be read now. */
bool rpc_connection_blocked(const struct rpc_connection *connection);
/* The peer is gone, or is to go: runs the hooks, calls ops->close. Any number of times. */
void rpc_connection_close(struct rpc_connection *connection);

/* While paused, no connection takes requests. resume is called on none: the server does. */
void rpc_pause(bool paused);

/* ---- between connection.c and request.c ------------------------------------------------------ */

/* One complete value, as written. False: it was no JSON. */
bool rpc_request_receive(struct rpc_connection *connection, struct json_span text);
void rpc_connection_send(struct rpc_connection *connection, char *text, size_t len);
void rpc_connection_request_done(struct rpc_connection *connection);
