/*
 * nbd.h: what the files of the NBD target share.
 *
 * Invariants
 *  - Servers, exports and connections (struct nbd_server, nbd_export, nbd_conn) belong to the
 *    control loop. So does the negotiation of a connection (nbd_negotiate.c).
 *  - When a client has chosen its export, the socket moves to a data loop as a struct nbd_session,
 *    which belongs to that loop alone from nbd_session_start until its `ended` callback, which runs
 *    on the control loop again. Only `stop`, and reading its counters, is done from outside.
 *  - An export counts a client from the moment that its size is put into an answer that ends the
 *    negotiation, until that client's session or negotiation has ended.
 *  - The bdev handle of an export is closed when its last connection is gone, so no bio can be in
 *    flight then.
 *  - Nothing waits for a client: a client that does not read stops its own connection only, and
 *    when its export is removed it is cut off after NBD_STOP_NS.
 *  - Memory per connection is bounded: NBD_RECV_BYTES, NBD_REQUESTS_MAX requests and
 *    NBD_BUFFERS_MAX_BYTES of buffers. A connection at its limit is not read from.
 *  - Data buffers belong to one connection for life and are zeroed when they are allocated, so what
 *    a read does not fill (a null bdev's never does) is zeroes or this client's own old data.
 */
#pragma once

#include "base/base.h"
#include "base/list.h"
#include "bdev/bdev.h"
#include "loop/loop.h"
#include "target/nbd/nbd_wire.h"

#define NBD_SERVERS_MAX 64
#define NBD_EXPORTS_MAX 1024    /* per server */
#define NBD_CONNS_MAX 256       /* per server */
#define NBD_NAME_MAX_BYTES 255  /* of an export */
#define NBD_DESC_MAX_BYTES 1023 /* of its description */

#define NBD_OPTIONS_MAX 512               /* per negotiation */
#define NBD_OPTION_MAX_BYTES (12U * 1024) /* longer ones are refused with NBD_REP_ERR_TOO_BIG */
#define NBD_OPTION_HOPELESS_BYTES (64U * 1024) /* longer ones end the connection */
#define NBD_NEGOTIATION_NS (10 * NSEC_PER_SEC)

#define NBD_REQUEST_MAX_BYTES (32U << 20)    /* payload of a read or write */
#define NBD_REQUESTS_MAX 128                 /* in flight per connection */
#define NBD_BUFFERS_MAX_BYTES (32U << 20)    /* in use and cached, per connection */
#define NBD_BUFFERS_IDLE_BYTES (512U * 1024) /* what an idle connection keeps */
#define NBD_RECV_BYTES (64U * 1024)
#define NBD_COPY_MAX_BYTES                                                                         \
	(16U * 1024) /* payloads up to this come by way of the receive buffer                      \
	              */
#define NBD_SEND_IOVS 128
#define NBD_SEND_MAX_BYTES (256U * 1024)  /* what one send gathers, unless one reply is larger */
#define NBD_TURN_BYTES (512U * 1024)      /* of reads started in one turn, unless one is larger */
#define NBD_OUT_BYTES (512U * 1024)       /* of replies that wait for the client, likewise */
#define NBD_EXTENTS_MAX 256               /* descriptors in one answer to NBD_CMD_BLOCK_STATUS */
#define NBD_GRACE_NS (50 * NSEC_PER_MSEC) /* in which a client may hear that its export goes */
#define NBD_STOP_NS (1 * NSEC_PER_SEC)
#define NBD_IDLE_NS (2 * NSEC_PER_SEC)

_Static_assert(NBD_RECV_BYTES >= NBD_COPY_MAX_BYTES + NBD_REQUEST_BYTES, "a copied write must fit");
_Static_assert(NBD_BUFFERS_MAX_BYTES >= NBD_REQUEST_MAX_BYTES, "the largest request must fit");

/* ---- servers, exports, connections (control loop) ----------------------------------------------
 */

struct nbd_waiter {
	struct list link;
	void (*fn)(void *arg);
	void *arg;
};

struct nbd_server {
	struct list link;
	char *name;
	struct loop_listener *listener;
	struct list exports;
	struct list conns;
	unsigned num_exports, num_conns;
	bool deleting;
	struct list waiters; /* for the end of a deletion */
};

struct nbd_export {
	struct list link;
	struct nbd_server *server;
	char *name; /* may be empty: the default export */
	char *description;
	bool read_only;    /* as asked; the bdev may be read-only by itself */
	bool allow_shrink; /* also while clients are connected */
	struct bdev_handle *handle;
	unsigned num_conns;
	bool removing;
	struct list waiters;
};

struct nbd_handshake;
struct nbd_session;

struct nbd_conn {
	struct list link;
	struct nbd_server *server;
	struct nbd_export *export;       /* NULL until the client has chosen */
	struct nbd_handshake *handshake; /* exactly one of these two */
	struct nbd_session *session;
	char peer[80];
};

struct nbd_export_spec {
	const char *bdev_name;
	const char *name; /* NULL: the bdev's */
	const char *description;
	bool read_only, allow_shrink;
};

struct nbd_server *nbd_server_find(const char *name);
/* NULL starts; NULL ends. */
struct nbd_server *nbd_server_next(const struct nbd_server *after);
int nbd_server_create(const char *name, const struct loop_addr *addr, struct nbd_server **out,
        struct err *err) must_check;
/* Cuts off all clients; done when the last is gone. Any number of times. */
void nbd_server_delete(struct nbd_server *server, void (*done)(void *arg), void *arg);

int nbd_export_add(struct nbd_server *server, const struct nbd_export_spec *spec,
        struct nbd_export **out, struct err *err) must_check;
/* Clients get ESHUTDOWN for what they still send; done when the last is gone. Any number of times.
 */
void nbd_export_remove(struct nbd_export *export, void (*done)(void *arg), void *arg);
/* The exact name; one that is being removed is not found. */
struct nbd_export *nbd_export_find(struct nbd_server *server, const char *name, size_t len);
/* As a client asks: an empty name that no export has is the only export, if there is just one. */
struct nbd_export *nbd_export_choose(struct nbd_server *server, const char *name, size_t len);

struct nbd_export_info {
	uint64_t size_bytes;
	uint16_t flags; /* transmission flags */
	uint32_t block_min_bytes, block_preferred_bytes, block_max_bytes;
};
void nbd_export_info(const struct nbd_export *export, bool structured, struct nbd_export_info *out);

/* The client of this connection counts for export from now on. */
void nbd_conn_choose(struct nbd_conn *conn, struct nbd_export *export);
/* The negotiation of conn is over: sock (NULL: it has been closed) goes on as a session. */
void nbd_conn_negotiated(
        struct nbd_conn *conn, struct loop_sock *sock, bool structured, bool meta_allocation);

/* ---- negotiation (control loop, nbd_negotiate.c) ----------------------------------------------
 */

/* Ends in nbd_conn_negotiated, which frees nothing of it. */
struct nbd_handshake *nbd_handshake_start(
        struct loop *loop, struct nbd_conn *conn, struct loop_sock *sock);
/* Makes it end soon. */
void nbd_handshake_abort(struct nbd_handshake *hs);

/* ---- sessions (nbd_session.c) ------------------------------------------------------------------
 */

struct nbd_session_config {
	struct loop *loop; /* where it is to run */
	struct loop_sock *sock;
	struct bdev_handle *handle;
	uint16_t flags; /* transmission flags as told to the client */
	bool structured;
	bool meta_allocation;     /* base:allocation was selected */
	bool fast_zero;           /* the bdev zeroes faster than by writing */
	void (*ended)(void *arg); /* on the control loop; nbd_session_free may follow */
	void *arg;
};

/* Counters; written by the session's loop, read from anywhere, each consistent in itself. */
struct nbd_stats {
	uint64_t ops[NBD_CMDS];
	uint64_t bytes_read, bytes_written;
	uint64_t errors;
	uint64_t in_flight;
};

/* All three on the control loop. */
struct nbd_session *nbd_session_start(const struct nbd_session_config *config);
/* Answer what is in flight, refuse the rest, end. Any number of times. */
void nbd_session_stop(struct nbd_session *session);
void nbd_session_free(struct nbd_session *session);
void nbd_session_stats(const struct nbd_session *session, struct nbd_stats *out);
unsigned nbd_session_loop(const struct nbd_session *session);
bool nbd_session_structured(const struct nbd_session *session);
