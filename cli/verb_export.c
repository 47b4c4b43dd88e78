/* verb_export.c: giving bdevs to NBD clients. */

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* ---- exports --------------------------------------------------------------------------------- */

/* "nbd+unix:///NAME?socket=PATH" or "nbd://HOST:PORT/NAME", with the name as URIs want it. */
static char *export_uri(const json_t *server, const char *name)
{
	const char *uri = cli_str(server, "uri", ""), *query = strchr(uri, '?');
	size_t head = query ? (size_t)(query - uri) : strlen(uri), len = 0;
	autofree char *encoded = xcalloc(strlen(name) + 1, 3);

	for (const char *c = name; *c; c++) {
		if (isalnum((unsigned char)*c) || strchr("-._~", *c))
			encoded[len++] = *c;
		else
			len += (size_t)snprintf(
			        encoded + len, 4, "%%%02X", (unsigned)(unsigned char)*c);
	}
	return xasprintf("%.*s%s%s", (int)head, uri, encoded, query ? query : "");
}

static const struct table_column columns[] = {
        {"NAME", false},
        {"BDEV", false},
        {"SIZE", true},
        {"MODE", false},
        {"CLIENTS", true},
        {"SERVER", false},
        {"URI", false},
};

static void add_row(struct table *table, const json_t *server, const json_t *export)
{
	const char *name = cli_str(export, "export_name", "");
	autofree char *uri = export_uri(server, name);
	char size[SIZE_TEXT_MAX], clients[24];

	format_size_bytes(size, sizeof(size), cli_u64(export, "size_bytes"));
	snprintf(clients, sizeof(clients), "%llu",
	        (unsigned long long)cli_u64(export, "num_connections"));
	table_row(table, (const char *[]){name, cli_str(export, "bdev_name", "?"), size,
	                         cli_bool(export, "read_only") ? "ro" : "rw", clients,
	                         cli_str(server, "name", "?"), uri});
}

int verb_exports(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *servers = cli_call(cli, "nbd_get_servers", NULL, &status), *server, *export;
	struct table *table;
	bool names = cli_option(args, "names");
	size_t i, j, count = 0;

	if (!servers)
		return status;
	table = table_new(columns, ARRAY_SIZE(columns));
	json_array_foreach (servers, i, server) {
		json_array_foreach (json_object_get(server, "exports"), j, export) {
			add_row(table, server, export);
			count++;
			if (names)
				printf("%s\n", cli_str(export, "export_name", ""));
		}
	}
	if (cli->json)
		cli_print_json(servers);
	else if (!names && !count)
		printf("no exports\n");
	table_print(cli, table, cli->json || names || !count ? NULL : stdout);
	json_decref(servers);
	return status;
}

/* ---- export ---------------------------------------------------------------------------------- */

struct where {
	char *server_name; /* of a server that would listen there */
	json_t *params;    /* of nbd_create_server */
};

static void where_release(struct where *where)
{
	free(where->server_name);
	json_decref(where->params);
}

/* What --path, --port and --address say. params stays NULL when there is none of them. */
static int parse_where(const struct cli_args *args, struct where *where)
{
	const char *path = cli_option(args, "path"), *port = cli_option(args, "port");
	const char *address = cli_option(args, "address");
	char *end;

	if (path && (port || address))
		return cli_usage_error(args, "--path is a unix socket, --port is TCP: give one");
	if (address && !port)
		return cli_usage_error(args, "--address needs --port");
	if (path) {
		autofree char *whole = word_to_path(path);

		where->server_name = xstrdup(whole);
		where->params = json_pack("{s:s, s:s}", "name", whole, "path", whole);
	} else if (port) {
		unsigned long number = strtoul(port, &end, 10);

		if (!isdigit((unsigned char)*port) || *end || number > 65535)
			return cli_usage_error(args, "--port takes 0 to 65535, not '%s'", port);
		address = address ? address : "127.0.0.1";
		where->server_name = number ? xasprintf("%s:%lu", address, number)
		                            : xasprintf("%s:any:%s", address, args->words[0]);
		where->params = json_pack("{s:s, s:s, s:i}", "name", where->server_name, "address",
		        address, "port", (int)number);
	}
	return EXIT_DONE;
}

static bool listens_there(const json_t *server, const json_t *where)
{
	const char *path = cli_str(where, "path", NULL);

	if (path)
		return strcmp(cli_str(server, "path", ""), path) == 0;
	return cli_u64(where, "port") && cli_u64(server, "port") == cli_u64(where, "port") &&
	       strcmp(cli_str(server, "address", ""), cli_str(where, "address", "")) == 0;
}

/* The name of the server to use, to be freed; *made: it is a new one. NULL after an error. */
static char *choose_server(
        struct cli *cli, const struct cli_args *args, struct where *where, bool *made, int *status)
{
	json_t *servers = cli_call(cli, "nbd_get_servers", NULL, status), *server, *result;
	char *name = NULL;
	size_t i;

	*made = false;
	json_array_foreach (servers, i, server)
		if (!name && (where->params ? listens_there(server, where->params)
		                            : json_array_size(servers) == 1))
			name = xstrdup(cli_str(server, "name", ""));
	if (servers && !name && !where->params)
		*status = cli_usage_error(args,
		        "there %s: say where to listen with --path PATH or --port PORT",
		        json_array_size(servers) ? "are several NBD servers" : "is no NBD server");
	if (servers && !name && where->params) {
		result = cli_call(cli, "nbd_create_server", json_incref(where->params), status);
		*made = result != NULL;
		name = result ? xstrdup(where->server_name) : NULL;
		json_decref(result);
	}
	json_decref(servers);
	return name;
}

static json_t *export_params(const struct cli_args *args, const char *server)
{
	const char *name = cli_option(args, "name");
	json_t *params = json_pack("{s:s, s:s}", "server", server, "bdev_name", args->words[0]);

	if (name)
		json_object_set_new(params, "export_name", json_string(name));
	if (cli_option(args, "read-only"))
		json_object_set_new(params, "read_only", json_true());
	if (cli_option(args, "allow-shrink"))
		json_object_set_new(params, "allow_shrink", json_true());
	return params;
}

static void print_export(struct cli *cli, const char *server_name, const char *export_name)
{
	int status;
	json_t *servers =
	        cli_call(cli, "nbd_get_servers", json_pack("{s:s}", "name", server_name), &status);
	autofree char *uri = servers ? export_uri(json_array_get(servers, 0), export_name) : NULL;

	if (uri && cli->json) {
		json_t *answer = json_pack("{s:s, s:s, s:s}", "server", server_name, "export_name",
		        export_name, "uri", uri);

		cli_print_json(answer);
		json_decref(answer);
	} else if (uri) {
		printf("%s\n", uri);
	}
	json_decref(servers);
}

static void drop_server(struct cli *cli, const char *name)
{
	int status;

	json_decref(cli_call(cli, "nbd_delete_server", json_pack("{s:s}", "name", name), &status));
}

int verb_export(struct cli *cli, const struct cli_args *args)
{
	struct where where = {0};
	int status = parse_where(args, &where);
	bool made = false;
	char *server = status ? NULL : choose_server(cli, args, &where, &made, &status);
	json_t *result;

	if (server) {
		result = cli_call(cli, "nbd_add_export", export_params(args, server), &status);
		if (result)
			print_export(cli, server, json_string_value(result));
		else if (made)
			drop_server(cli, server);
		json_decref(result);
	}
	free(server);
	where_release(&where);
	return status;
}

/* ---- unexport -------------------------------------------------------------------------------- */

/* Did `bellows export` make it? It names a server by its address. */
static bool is_own_server(const json_t *server)
{
	const char *name = cli_str(server, "name", ""), *path = cli_str(server, "path", NULL);
	const char *address = cli_str(server, "address", "?");
	size_t len = strlen(address);

	if (path)
		return strcmp(name, path) == 0;
	return strncmp(name, address, len) == 0 && name[len] == ':';
}

/* The one server that has the export; NULL after an error. */
static const json_t *find_exporter(const struct cli_args *args, const json_t *servers, int *status)
{
	const char *only = cli_option(args, "server"), *name = args->words[0];
	const json_t *found = NULL;
	json_t *server, *export;
	unsigned count = 0;
	size_t i, j;

	json_array_foreach (servers, i, server) {
		if (only && strcmp(only, cli_str(server, "name", "")) != 0)
			continue;
		json_array_foreach (json_object_get(server, "exports"), j, export) {
			if (strcmp(cli_str(export, "export_name", ""), name) == 0) {
				found = server;
				count++;
			}
		}
	}
	if (count == 1)
		return found;
	*status = EXIT_REFUSED;
	if (count)
		cli_error("%u servers export '%s': say which with --server NAME", count, name);
	else
		cli_error("there is no export '%s' (bellows exports lists them)", name);
	return NULL;
}

int verb_unexport(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *servers = cli_call(cli, "nbd_get_servers", NULL, &status), *result;
	const json_t *server = servers ? find_exporter(args, servers, &status) : NULL;

	if (server) {
		const char *name = cli_str(server, "name", "");

		result = cli_call(cli, "nbd_remove_export",
		        json_pack("{s:s, s:s}", "server", name, "export_name", args->words[0]),
		        &status);
		if (result && json_array_size(json_object_get(server, "exports")) == 1 &&
		        is_own_server(server))
			drop_server(cli, name);
		if (result && cli->json)
			cli_print_json(result);
		json_decref(result);
	}
	json_decref(servers);
	return status;
}
