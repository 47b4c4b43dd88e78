/*
 * nbd.c: servers, exports and connections, on the control loop.
 */
#include "target/nbd/nbd.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

static struct list servers = LIST_INIT(servers);
static unsigned num_servers;
static unsigned next_data_loop;

/* ---- waiters -----------------------------------------------------------------------------------
 */

static void waiter_add(struct list *waiters, void (*fn)(void *arg), void *arg)
{
	struct nbd_waiter *waiter;

	if (!fn)
		return;
	waiter = xcalloc(1, sizeof(*waiter));
	waiter->fn = fn;
	waiter->arg = arg;
	list_push_back(waiters, &waiter->link);
}

static void waiters_call(struct list *waiters)
{
	struct list *node;

	while ((node = list_pop_front(waiters)) != NULL) {
		struct nbd_waiter *waiter = list_entry(node, struct nbd_waiter, link);

		waiter->fn(waiter->arg);
		free(waiter);
	}
}

/* ---- connections -------------------------------------------------------------------------------
 */

static void export_may_end(struct nbd_export *export);
static void server_may_end(struct nbd_server *server);

static void conn_free(struct nbd_conn *conn)
{
	struct nbd_server *server = conn->server;
	struct nbd_export *export = conn->export;

	list_remove(&conn->link);
	server->num_conns--;
	free(conn);
	if (export) {
		export->num_conns--;
		export_may_end(export);
	}
	server_may_end(server);
}

static void session_ended(void *arg)
{
	struct nbd_conn *conn = arg;

	nbd_session_free(conn->session);
	conn_free(conn);
}

/* Ends it soon, by whatever its state asks for. */
static void conn_stop(struct nbd_conn *conn)
{
	if (conn->handshake)
		nbd_handshake_abort(conn->handshake);
	else
		nbd_session_stop(conn->session);
}

void nbd_conn_choose(struct nbd_conn *conn, struct nbd_export *export)
{
	BELLOWS_ASSERT(!conn->export);
	conn->export = export;
	export->num_conns++;
}

void nbd_conn_negotiated(
        struct nbd_conn *conn, struct loop_sock *sock, bool structured, bool meta_allocation)
{
	struct nbd_session_config config = {
	        .sock = sock,
	        .structured = structured,
	        .meta_allocation = meta_allocation,
	        .ended = session_ended,
	        .arg = conn,
	};
	struct nbd_export_info info;

	if (!sock) {
		conn_free(conn);
		return;
	}
	nbd_export_info(conn->export, structured, &info);
	config.handle = conn->export->handle;
	config.flags = info.flags;
	config.loop = loop_get(1 + next_data_loop++ % (loops_count() - 1));
	config.fast_zero =
	        bdev_handle_bdev(config.handle)->geometry.caps & BIO_CAP(BIO_WRITE_ZEROES);
	conn->session = nbd_session_start(&config);
}

static void accepted(struct loop_listener *listener, struct loop_sock *sock, void *arg)
{
	struct nbd_server *server = arg;
	struct loop *loop = loop_self();
	struct nbd_conn *conn;

	(void)listener;
	if (server->num_conns == NBD_CONNS_MAX) {
		log_warning("nbd", "server '%s' has %u clients already: one more is turned away",
		        server->name, server->num_conns);
		loop_sock_close(loop, sock);
		return;
	}
	conn = xcalloc(1, sizeof(*conn));
	conn->server = server;
	loop_sock_peer(sock, conn->peer, sizeof(conn->peer));
	list_push_back(&server->conns, &conn->link);
	server->num_conns++;
	conn->handshake = nbd_handshake_start(loop, conn, sock);
}

/* ---- exports -----------------------------------------------------------------------------------
 */

static void export_resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	struct nbd_export *export = bdev_handle_arg(handle);

	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, export->num_conns ? BDEV_CANNOT_TELL : BDEV_NOBODY, export->num_conns);
}

static void export_removed(struct bdev_handle *handle)
{
	nbd_export_remove(bdev_handle_arg(handle), NULL, NULL);
}

static int export_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	struct nbd_export *export = bdev_handle_arg(handle);

	(void)new_blocks;
	if (export->allow_shrink || export->num_conns == 0)
		return 0;
	return err_set(err, -EBUSY,
	        "%u client%s connected, and NBD has no way to tell them of a smaller size; "
	        "disconnect them, or add the export with allow_shrink",
	        export->num_conns, export->num_conns == 1 ? " is" : "s are");
}

static const struct bdev_holder_ops export_ops = {
        .kind = "nbd export",
        .resized = export_resized,
        .removed = export_removed,
        .may_shrink = export_may_shrink,
};

struct nbd_export *nbd_export_find(struct nbd_server *server, const char *name, size_t len)
{
	struct nbd_export *export;

	list_for_each (export, &server->exports, link) {
		if (!export->removing && strlen(export->name) == len &&
		        memcmp(export->name, name, len) == 0)
			return export;
	}
	return NULL;
}

struct nbd_export *nbd_export_choose(struct nbd_server *server, const char *name, size_t len)
{
	struct nbd_export *export = nbd_export_find(server, name, len);

	if (export || len > 0 || server->num_exports != 1)
		return export;
	export = list_first(&server->exports, struct nbd_export, link);
	return export->removing ? NULL : export;
}

static uint32_t preferred_bytes(const struct bdev_geometry *geometry)
{
	uint32_t bytes = geometry->physical_block_bytes;

	if (bytes < 4096)
		bytes = 4096;
	if (bytes < geometry->block_bytes)
		bytes = geometry->block_bytes;
	return is_power_of_two(bytes) && bytes < NBD_REQUEST_MAX_BYTES ? bytes
	                                                               : geometry->block_bytes;
}

/*
 * Flush is offered whenever there may be something to flush, which can change while a client is
 * connected (a member with a write cache joins). Several connections are always one disk: they
 * share the bdev, and a flush covers every write that it has completed, whoever sent it.
 */
void nbd_export_info(const struct nbd_export *export, bool structured, struct nbd_export_info *out)
{
	const struct bdev *bdev = bdev_handle_bdev(export->handle);
	const struct bdev_geometry *geometry = &bdev->geometry;
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	if (geometry->rotational)
		flags |= NBD_FLAG_ROTATIONAL;
	if (structured)
		flags |= NBD_FLAG_SEND_DF;
	if (export->read_only || geometry->read_only) {
		flags |= NBD_FLAG_READ_ONLY;
	} else {
		flags |= NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_WRITE_ZEROES |
		         NBD_FLAG_SEND_FAST_ZERO;
		if (geometry->caps & BIO_CAP(BIO_UNMAP))
			flags |= NBD_FLAG_SEND_TRIM;
	}
	out->flags = (uint16_t)flags;
	out->size_bytes = bdev_num_blocks(bdev) << bdev->block_shift;
	out->block_min_bytes = geometry->block_bytes;
	out->block_preferred_bytes = preferred_bytes(geometry);
	out->block_max_bytes = NBD_REQUEST_MAX_BYTES;
}

static int export_check(
        struct nbd_server *server, const char *name, const char *description, struct err *err)
{
	if (server->deleting)
		return err_set(err, -EBUSY, "NBD server '%s' is being deleted", server->name);
	if (strlen(name) > NBD_NAME_MAX_BYTES)
		return err_set(err, -EINVAL, "an export's name may have %d bytes, this one has %zu",
		        NBD_NAME_MAX_BYTES, strlen(name));
	if (strlen(description) > NBD_DESC_MAX_BYTES)
		return err_set(err, -EINVAL, "a description may have %d bytes, this one has %zu",
		        NBD_DESC_MAX_BYTES, strlen(description));
	if (nbd_export_find(server, name, strlen(name)))
		return err_set(err, -EEXIST, "NBD server '%s' has an export '%s' already",
		        server->name, name);
	if (server->num_exports == NBD_EXPORTS_MAX)
		return err_set(err, -ENOSPC, "NBD server '%s' has %d exports, which is the limit",
		        server->name, NBD_EXPORTS_MAX);
	return 0;
}

int nbd_export_add(struct nbd_server *server, const struct nbd_export_spec *spec,
        struct nbd_export **out, struct err *err)
{
	struct bdev *bdev = bdev_find(spec->bdev_name);
	const char *name = spec->name, *description = spec->description ? spec->description : "";
	autofree char *holder = NULL;
	struct bdev_handle *handle;
	struct nbd_export *export;
	int rc;

	if (!bdev)
		return err_set(err, -ENODEV, "there is no bdev '%s'", spec->bdev_name);
	if (!name)
		name = bdev->name;
	rc = export_check(server, name, description, err);
	if (rc)
		return rc;
	holder = xasprintf("nbd export '%s' of server '%s'", name, server->name);
	export = xcalloc(1, sizeof(*export));
	rc = bdev_open(bdev, !spec->read_only && !bdev->geometry.read_only, &export_ops, holder,
	        export, &handle, err);
	if (rc) {
		free(export);
		return rc;
	}
	export->server = server;
	export->name = xstrdup(name);
	export->description = xstrdup(description);
	export->read_only = spec->read_only;
	export->allow_shrink = spec->allow_shrink;
	export->handle = handle;
	list_init(&export->waiters);
	list_push_back(&server->exports, &export->link);
	server->num_exports++;
	*out = export;
	return 0;
}

static void export_may_end(struct nbd_export *export)
{
	struct nbd_server *server = export->server;

	if (!export->removing || export->num_conns)
		return;
	bdev_close(export->handle);
	list_remove(&export->link);
	server->num_exports--;
	waiters_call(&export->waiters);
	free(export->name);
	free(export->description);
	free(export);
}

void nbd_export_remove(struct nbd_export *export, void (*done)(void *arg), void *arg)
{
	struct nbd_server *server = export->server;
	struct nbd_conn *conn;

	waiter_add(&export->waiters, done, arg);
	if (export->removing && export->num_conns)
		return;
	export->removing = true;
	list_for_each (conn, &server->conns, link) {
		if (conn->export == export)
			conn_stop(conn);
	}
	export_may_end(export);
	server_may_end(server);
}

/* ---- servers -----------------------------------------------------------------------------------
 */

struct nbd_server *nbd_server_next(const struct nbd_server *after)
{
	const struct list *next = after ? after->link.next : servers.next;

	return next == &servers ? NULL : list_entry(next, struct nbd_server, link);
}

struct nbd_server *nbd_server_find(const char *name)
{
	struct nbd_server *server;

	list_for_each (server, &servers, link) {
		if (strcmp(server->name, name) == 0)
			return server;
	}
	return NULL;
}

int nbd_server_create(
        const char *name, const struct loop_addr *addr, struct nbd_server **out, struct err *err)
{
	struct nbd_server *server;
	int rc;

	if (!*name || strlen(name) > NBD_NAME_MAX_BYTES)
		return err_set(
		        err, -EINVAL, "an NBD server's name has 1 to %d bytes", NBD_NAME_MAX_BYTES);
	if (nbd_server_find(name))
		return err_set(err, -EEXIST, "there is an NBD server '%s' already", name);
	if (num_servers == NBD_SERVERS_MAX)
		return err_set(err, -ENOSPC, "there are %d NBD servers, which is the limit",
		        NBD_SERVERS_MAX);
	server = xcalloc(1, sizeof(*server));
	server->name = xstrdup(name);
	list_init(&server->exports);
	list_init(&server->conns);
	list_init(&server->waiters);
	rc = loop_listen(loop_self(), addr, accepted, server, &server->listener, err);
	if (rc) {
		free(server->name);
		free(server);
		return rc;
	}
	list_push_back(&servers, &server->link);
	num_servers++;
	*out = server;
	return 0;
}

static void server_may_end(struct nbd_server *server)
{
	if (!server->deleting || server->num_conns || server->num_exports)
		return;
	list_remove(&server->link);
	num_servers--;
	waiters_call(&server->waiters);
	free(server->name);
	free(server);
}

void nbd_server_delete(struct nbd_server *server, void (*done)(void *arg), void *arg)
{
	struct nbd_export *export, *next;
	struct nbd_conn *conn;

	waiter_add(&server->waiters, done, arg);
	if (server->deleting)
		return;
	server->deleting = true;
	loop_listener_close(loop_self(), server->listener);
	server->listener = NULL;
	list_for_each (conn, &server->conns, link) {
		conn_stop(conn);
	}
	list_for_each_safe (export, next, &server->exports, link) {
		/* The server itself is looked at below only: it must outlive this loop. */
		export->removing = true;
		export_may_end(export);
	}
	server_may_end(server);
}
