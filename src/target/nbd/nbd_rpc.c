/*
 * nbd_rpc.c: the methods, and what is saved.
 */
#include <errno.h>
#include <string.h>

#include "rpc/rpc.h"
#include "target/nbd/nbd.h"

static void reply_done(void *arg)
{
	rpc_reply(arg, NULL);
}

static struct nbd_server *find_server(struct rpc_request *request, const char *name)
{
	struct nbd_server *server = nbd_server_find(name);

	if (!server || server->deleting) {
		rpc_fail(request, -ENODEV, "there is no NBD server '%s'", name);
		return NULL;
	}
	return server;
}

/* The start of the URI of each of its exports. */
static json_t *uri_of(const struct loop_addr *addr)
{
	if (addr->kind == LOOP_ADDR_UNIX)
		return json_sprintf("nbd+unix:///?socket=%s", addr->path);
	return json_sprintf(strchr(addr->host, ':') ? "nbd://[%s]:%u/" : "nbd://%s:%u/", addr->host,
	        addr->port);
}

/* ---- servers -----------------------------------------------------------------------------------
 */

struct create_server_params {
	char *name;
	char *path;
	char *address;
	uint32_t port;
	bool port_given;
};

static const struct param create_server_params[] = {
        {PARAM(struct create_server_params, name, PARAM_STRING), .required = true,
                .help = "name of the new server"},
        {PARAM(struct create_server_params, path, PARAM_STRING), .is_path = true,
                .help = "unix socket to listen on; its mode is 0600"},
        {PARAM(struct create_server_params, address, PARAM_STRING),
                .help = "numeric TCP address to listen on; default 127.0.0.1. There is no "
                        "authentication: another address gives the disks to everybody who can "
                        "reach it"},
        {PARAM(struct create_server_params, port, PARAM_U32), .max = 65535,
                .given = offsetof(struct create_server_params, port_given),
                .help = "TCP port; 0: any free one; 10809 is usual"},
        {0},
};

static int server_addr(
        const struct create_server_params *p, struct loop_addr *addr, struct err *err)
{
	*addr = (struct loop_addr){.kind = p->path ? LOOP_ADDR_UNIX : LOOP_ADDR_TCP};
	if (p->path && (p->address || p->port_given))
		return err_set(err, -EINVAL,
		        "a server listens on a unix socket (path) or on TCP (address, port), not "
		        "both");
	if (p->path)
		return str_copy(addr->path, sizeof(addr->path), p->path)
		               ? 0
		               : err_set(err, -ENAMETOOLONG, "a socket's path may have %zu bytes",
		                         sizeof(addr->path) - 1);
	if (!p->port_given)
		return err_set(err, -EINVAL, "give a path (unix socket) or a port (TCP)");
	addr->port = (uint16_t)p->port;
	if (!str_copy(addr->host, sizeof(addr->host), p->address ? p->address : "127.0.0.1"))
		return err_set(err, -EINVAL, "'%s' is not a numeric address", p->address);
	return 0;
}

static void create_server(struct rpc_request *request, void *params)
{
	struct create_server_params *p = params;
	struct err err = ERR_NONE;
	struct nbd_server *server;
	struct loop_addr addr;

	if (server_addr(p, &addr, &err) || nbd_server_create(p->name, &addr, &server, &err))
		rpc_fail_err(request, &err);
	else
		rpc_reply(request, uri_of(loop_listener_addr(server->listener)));
}

static struct rpc_method create_server_method = {
        .name = "nbd_create_server",
        .summary = "Listen for NBD clients",
        .result_help = "URI of the server",
        .params = create_server_params,
        .params_bytes = sizeof(struct create_server_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = create_server,
};
RPC_METHOD(create_server_method);

struct server_params {
	char *name;
};

static const struct param server_params[] = {
        {PARAM(struct server_params, name, PARAM_STRING), .required = true,
                .help = "name of the server"},
        {0},
};

static void delete_server(struct rpc_request *request, void *params)
{
	struct server_params *p = params;
	struct nbd_server *server = nbd_server_find(p->name);

	if (!server)
		rpc_fail(request, -ENODEV, "there is no NBD server '%s'", p->name);
	else
		nbd_server_delete(server, reply_done, request);
}

static struct rpc_method delete_server_method = {
        .name = "nbd_delete_server",
        .summary = "Cut off a server's clients, remove its exports and stop listening",
        .result_help = "true, when the last client is gone",
        .params = server_params,
        .params_bytes = sizeof(struct server_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = delete_server,
};
RPC_METHOD(delete_server_method);

/* ---- exports -----------------------------------------------------------------------------------
 */

struct add_export_params {
	char *server;
	char *bdev_name;
	char *export_name;
	char *description;
	bool read_only;
	bool allow_shrink;
};

static const struct param add_export_params[] = {
        {PARAM(struct add_export_params, server, PARAM_STRING), .required = true,
                .help = "name of the server"},
        {PARAM(struct add_export_params, bdev_name, PARAM_STRING), .required = true,
                .help = "the bdev to export"},
        {PARAM(struct add_export_params, export_name, PARAM_STRING),
                .help = "name that clients ask for; default: the bdev's. An empty name is the "
                        "default export"},
        {PARAM(struct add_export_params, description, PARAM_STRING),
                .help = "text that is shown to clients that list the exports"},
        {PARAM(struct add_export_params, read_only, PARAM_BOOL), .help = "refuse writes"},
        {PARAM(struct add_export_params, allow_shrink, PARAM_BOOL),
                .help = "agree to shrinking while clients are connected, which can't be told of "
                        "it"},
        {0},
};

static void add_export(struct rpc_request *request, void *params)
{
	struct add_export_params *p = params;
	struct nbd_export_spec spec = {
	        .bdev_name = p->bdev_name,
	        .name = p->export_name,
	        .description = p->description,
	        .read_only = p->read_only,
	        .allow_shrink = p->allow_shrink,
	};
	struct nbd_server *server = find_server(request, p->server);
	struct err err = ERR_NONE;
	struct nbd_export *export;

	if (!server)
		return;
	if (nbd_export_add(server, &spec, &export, &err))
		rpc_fail_err(request, &err);
	else
		rpc_reply(request, json_string(export->name));
}

static struct rpc_method add_export_method = {
        .name = "nbd_add_export",
        .summary = "Export a bdev",
        .result_help = "name of the export",
        .params = add_export_params,
        .params_bytes = sizeof(struct add_export_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = add_export,
};
RPC_METHOD(add_export_method);

struct remove_export_params {
	char *server;
	char *export_name;
};

static const struct param remove_export_params[] = {
        {PARAM(struct remove_export_params, server, PARAM_STRING), .required = true,
                .help = "name of the server"},
        {PARAM(struct remove_export_params, export_name, PARAM_STRING), .required = true,
                .help = "name of the export"},
        {0},
};

static void remove_export(struct rpc_request *request, void *params)
{
	struct remove_export_params *p = params;
	struct nbd_server *server = find_server(request, p->server);
	struct nbd_export *export;

	if (!server)
		return;
	export = nbd_export_find(server, p->export_name, strlen(p->export_name));
	if (export)
		nbd_export_remove(export, reply_done, request);
	else
		rpc_fail(request, -ENODEV, "NBD server '%s' has no export '%s'", p->server,
		        p->export_name);
}

static struct rpc_method remove_export_method = {
        .name = "nbd_remove_export",
        .summary = "Answer what its clients have in flight, cut them off and close the bdev",
        .result_help = "true, when the last client is gone",
        .params = remove_export_params,
        .params_bytes = sizeof(struct remove_export_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = remove_export,
};
RPC_METHOD(remove_export_method);

/* ---- what there is -----------------------------------------------------------------------------
 */

static void set_int(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *connection_json(const struct nbd_conn *conn)
{
	static const char *const names[NBD_CMDS] = {"reads", "writes", NULL, "flushes", "trims",
	        "caches", "write_zeroes", "block_statuses"};
	json_t *object = json_pack("{s:s, s:s}", "peer", conn->peer, "state",
	        conn->session ? "transmission" : "negotiation");
	struct nbd_stats stats;

	if (conn->export)
		json_object_set_new(object, "export_name", json_string(conn->export->name));
	if (!conn->session)
		return object;
	nbd_session_stats(conn->session, &stats);
	set_int(object, "loop", nbd_session_loop(conn->session));
	json_object_set_new(
	        object, "structured_replies", json_boolean(nbd_session_structured(conn->session)));
	for (unsigned i = 0; i < NBD_CMDS; i++) {
		if (names[i])
			set_int(object, names[i], stats.ops[i]);
	}
	set_int(object, "bytes_read", stats.bytes_read);
	set_int(object, "bytes_written", stats.bytes_written);
	set_int(object, "errors", stats.errors);
	set_int(object, "in_flight", stats.in_flight);
	return object;
}

static json_t *export_json(const struct nbd_export *export)
{
	const struct bdev *bdev = bdev_handle_bdev(export->handle);
	struct nbd_export_info info;
	json_t *object;

	nbd_export_info(export, true, &info);
	object = json_pack("{s:s, s:s, s:s, s:b, s:b, s:b}", "export_name", export->name,
	        "bdev_name", bdev->name, "description", export->description, "read_only",
	        (info.flags & NBD_FLAG_READ_ONLY) != 0, "allow_shrink", export->allow_shrink,
	        "removing", export->removing);
	set_int(object, "size_bytes", info.size_bytes);
	set_int(object, "block_size", info.block_min_bytes);
	set_int(object, "num_connections", export->num_conns);
	return object;
}

static json_t *server_json(const struct nbd_server *server)
{
	const struct loop_addr *addr =
	        server->listener ? loop_listener_addr(server->listener) : NULL;
	json_t *object = json_object(), *exports = json_array(), *conns = json_array();
	const struct nbd_export *export;
	const struct nbd_conn *conn;

	json_object_set_new(object, "name", json_string(server->name));
	if (addr) {
		json_object_set_new(object, "uri", uri_of(addr));
		if (addr->kind == LOOP_ADDR_UNIX) {
			json_object_set_new(object, "path", json_string(addr->path));
		} else {
			json_object_set_new(object, "address", json_string(addr->host));
			set_int(object, "port", addr->port);
		}
	}
	list_for_each (export, &server->exports, link) {
		json_array_append_new(exports, export_json(export));
	}
	list_for_each (conn, &server->conns, link) {
		json_array_append_new(conns, connection_json(conn));
	}
	json_object_set_new(object, "exports", exports);
	json_object_set_new(object, "connections", conns);
	return object;
}

static const struct param get_servers_params[] = {
        {PARAM(struct server_params, name, PARAM_STRING), .help = "only this server"},
        {0},
};

static void get_servers(struct rpc_request *request, void *params)
{
	struct server_params *p = params;
	struct nbd_server *server;
	json_t *all;

	if (p->name && !nbd_server_find(p->name)) {
		rpc_fail(request, -ENODEV, "there is no NBD server '%s'", p->name);
		return;
	}
	all = json_array();
	for (server = nbd_server_next(NULL); server; server = nbd_server_next(server)) {
		if (!p->name || strcmp(p->name, server->name) == 0)
			json_array_append_new(all, server_json(server));
	}
	rpc_reply(request, all);
}

static struct rpc_method get_servers_method = {
        .name = "nbd_get_servers",
        .summary = "Servers with their exports and connections",
        .result_help = "array of servers",
        .params = get_servers_params,
        .params_bytes = sizeof(struct server_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = get_servers,
};
RPC_METHOD(get_servers_method);

/* ---- the kernel's /dev/nbd ----------------------------------------------------------------------
 */

struct disk_params {
	char *bdev_name;
	char *nbd_device;
};

static const struct param start_disk_params[] = {
        {PARAM(struct disk_params, bdev_name, PARAM_STRING), .required = true, .help = "the bdev"},
        {PARAM(struct disk_params, nbd_device, PARAM_STRING), .help = "/dev/nbdN"},
        {0},
};

static void start_disk(struct rpc_request *request, void *params)
{
	struct disk_params *p = params;

	if (p->nbd_device && strncmp(p->nbd_device, "/dev/nbd", 8) != 0)
		rpc_fail(request, -ENODEV, "illegal nbd device %s", p->nbd_device);
	else
		rpc_fail(request, -ENODEV,
		        "nbd device not found: Bellows does not drive /dev/nbd itself; use "
		        "nbd_create_server and nbd_add_export, and attach with nbd-client");
}

static struct rpc_method start_disk_method = {
        .name = "nbd_start_disk",
        .summary = "For compatibility: fails, as /dev/nbd is not driven from here",
        .result_help = "device path",
        .params = start_disk_params,
        .params_bytes = sizeof(struct disk_params),
        .handler = start_disk,
};
RPC_METHOD(start_disk_method);

static const struct param stop_disk_params[] = {
        {PARAM(struct disk_params, nbd_device, PARAM_STRING), .required = true,
                .help = "/dev/nbdN"},
        {0},
};

static void stop_disk(struct rpc_request *request, void *params)
{
	struct disk_params *p = params;

	rpc_fail(request, -ENODEV, "no bdev is attached to %s", p->nbd_device);
}

static struct rpc_method stop_disk_method = {
        .name = "nbd_stop_disk",
        .summary = "For compatibility: fails, as no device is ever attached",
        .result_help = "true",
        .params = stop_disk_params,
        .params_bytes = sizeof(struct disk_params),
        .handler = stop_disk,
};
RPC_METHOD(stop_disk_method);

static const struct param get_disks_params[] = {
        {PARAM(struct disk_params, nbd_device, PARAM_STRING), .help = "only this device"},
        {0},
};

static void get_disks(struct rpc_request *request, void *params)
{
	struct disk_params *p = params;

	if (p->nbd_device)
		rpc_fail(request, -ENODEV, "no bdev is attached to %s", p->nbd_device);
	else
		rpc_reply(request, json_array());
}

static struct rpc_method get_disks_method = {
        .name = "nbd_get_disks",
        .summary = "For compatibility: bdevs attached to /dev/nbd; there are none",
        .result_help = "empty array",
        .params = get_disks_params,
        .params_bytes = sizeof(struct disk_params),
        .handler = get_disks,
};
RPC_METHOD(get_disks_method);

/* ---- configuration ------------------------------------------------------------------------------
 */

static json_t *save_server(const struct nbd_server *server)
{
	const struct loop_addr *addr = loop_listener_addr(server->listener);

	if (addr->kind == LOOP_ADDR_UNIX)
		return json_pack("{s:s, s:{s:s, s:s}}", "method", "nbd_create_server", "params",
		        "name", server->name, "path", addr->path);
	return json_pack("{s:s, s:{s:s, s:s, s:i}}", "method", "nbd_create_server", "params",
	        "name", server->name, "address", addr->host, "port", (int)addr->port);
}

static json_t *save_export(const struct nbd_export *export)
{
	json_t *params = json_pack("{s:s, s:s, s:s}", "server", export->server->name, "bdev_name",
	        bdev_handle_bdev(export->handle)->name, "export_name", export->name);

	if (*export->description)
		json_object_set_new(params, "description", json_string(export->description));
	if (export->read_only)
		json_object_set_new(params, "read_only", json_true());
	if (export->allow_shrink)
		json_object_set_new(params, "allow_shrink", json_true());
	return json_pack("{s:s, s:o}", "method", "nbd_add_export", "params", params);
}

static json_t *save(void)
{
	json_t *all = json_array();
	struct nbd_server *server;

	for (server = nbd_server_next(NULL); server; server = nbd_server_next(server)) {
		const struct nbd_export *export;

		if (server->deleting)
			continue;
		json_array_append_new(all, save_server(server));
		list_for_each (export, &server->exports, link) {
			if (!export->removing)
				json_array_append_new(all, save_export(export));
		}
	}
	return all;
}

/* ---- the end ------------------------------------------------------------------------------------
 */

struct stop {
	unsigned pending;
	void (*done)(void *arg);
	void *arg;
};

static void stop_one_done(void *arg)
{
	struct stop *stop = arg;

	if (--stop->pending)
		return;
	stop->done(stop->arg);
	free(stop);
}

static void stop_all(void (*done)(void *arg), void *arg)
{
	struct stop *stop = xcalloc(1, sizeof(*stop));
	struct nbd_server *server = nbd_server_next(NULL);

	*stop = (struct stop){.pending = 1, .done = done, .arg = arg};
	while (server) {
		struct nbd_server *next = nbd_server_next(server);

		stop->pending++;
		nbd_server_delete(server, stop_one_done, stop);
		server = next;
	}
	stop_one_done(stop);
}

static const char *const depends_on[] = {"bdev", NULL};

static struct rpc_subsystem nbd_subsystem = {
        .name = "nbd",
        .depends_on = depends_on,
        .save = save,
        .stop = stop_all,
};
RPC_SUBSYSTEM(nbd_subsystem);
