/* keyring_rpc.c: the methods of the keyring, and its section of a configuration. */
#include <errno.h>

#include "keyring/keyring.h"
#include "rpc/rpc.h"

/* ---- keyring_file_add_key ----------------------------------------------------------------------
 */

struct add_params {
	char *name, *path;
};

static const struct param add_table[] = {
        {PARAM(struct add_params, name, PARAM_STRING), .required = true,
                .help = "what the key is called from now on"},
        {PARAM(struct add_params, path, PARAM_STRING), .required = true, .is_path = true,
                .help = "absolute path of a regular file that belongs to the user of this process "
                        "and that nobody else may use (mode 0600)"},
        {0},
};

static void added(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

static void add_handler(struct rpc_request *request, void *params)
{
	const struct add_params *p = params;

	keyring_add_file(p->name, p->path, added, request);
}

static struct rpc_method keyring_file_add_key = {
        .name = "keyring_file_add_key",
        .summary = "Makes a key that is in a file known by a name",
        .result_help = "true",
        .params = add_table,
        .params_bytes = sizeof(struct add_params),
        .flags = RPC_RELAXED,
        .decode_error = RPC_INVALID_PARAMS,
        .handler = add_handler,
};
RPC_METHOD(keyring_file_add_key);

/* ---- keyring_file_remove_key -------------------------------------------------------------------
 */

struct remove_params {
	char *name;
};

static const struct param remove_table[] = {
        {PARAM(struct remove_params, name, PARAM_STRING), .required = true,
                .help = "name of the key"},
        {0},
};

static void remove_handler(struct rpc_request *request, void *params)
{
	const struct remove_params *p = params;
	struct err err = ERR_NONE;

	(void)!keyring_remove(p->name, &err);
	rpc_reply_err(request, &err);
}

static struct rpc_method keyring_file_remove_key = {
        .name = "keyring_file_remove_key",
        .summary = "Forgets the name of a key; who uses the key goes on",
        .result_help = "true",
        .params = remove_table,
        .params_bytes = sizeof(struct remove_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = remove_handler,
};
RPC_METHOD(keyring_file_remove_key);

/* ---- keyring_get_keys --------------------------------------------------------------------------
 */

static void describe(void *arg, const struct keyring_entry *entry)
{
	json_array_append_new(
	        arg, json_pack("{s:s, s:s, s:b, s:b, s:i, s:s}", "name", entry->name, "module",
	                     "keyring_file", "removed", (int)entry->removed, "probed", 0, "refcnt",
	                     (int)entry->refs, "path", entry->path));
}

static void get_handler(struct rpc_request *request, void *params)
{
	json_t *list = json_array();

	(void)params;
	keyring_for_each(describe, list);
	rpc_reply(request, list);
}

static struct rpc_method keyring_get_keys = {
        .name = "keyring_get_keys",
        .summary = "The keys that are known by name; never what is in them",
        .result_help = "list of objects: name, module, removed, probed, refcnt, path",
        .flags = RPC_PARAMS_UNCHECKED,
        .handler = get_handler,
};
RPC_METHOD(keyring_get_keys);

/* ---- keyring_linux_set_options -----------------------------------------------------------------
 */

struct linux_params {
	bool enable;
};

static const struct param linux_table[] = {
        {PARAM(struct linux_params, enable, PARAM_BOOL),
                .help = "only false: keys are in files here"},
        {0},
};

static void linux_handler(struct rpc_request *request, void *params)
{
	const struct linux_params *p = params;

	if (p->enable)
		rpc_fail(request, -ENOTSUP,
		        "keys of the kernel's keyring are not supported; put them into files and "
		        "add those with keyring_file_add_key");
	else
		rpc_reply(request, NULL);
}

static struct rpc_method keyring_linux_set_options = {
        .name = "keyring_linux_set_options",
        .summary = "Accepted so that configurations of other servers load",
        .result_help = "true",
        .params = linux_table,
        .params_bytes = sizeof(struct linux_params),
        .states = RPC_STARTUP,
        .decode_error = RPC_INVALID_PARAMS,
        .handler = linux_handler,
};
RPC_METHOD(keyring_linux_set_options);

/* ---- the section -------------------------------------------------------------------------------
 */

static void save_one(void *arg, const struct keyring_entry *entry)
{
	if (!entry->removed)
		json_array_append_new(
		        arg, json_pack("{s:s, s:{s:s, s:s}}", "method", "keyring_file_add_key",
		                     "params", "name", entry->name, "path", entry->path));
}

static json_t *save(void)
{
	json_t *list = json_array();

	keyring_for_each(save_one, list);
	return list;
}

static void name_first(void *arg, const struct keyring_entry *entry)
{
	if (!entry->removed)
		*(const char **)arg = entry->name;
}

static void stop(void (*done)(void *arg), void *arg)
{
	const char *name;

	do {
		name = NULL;
		keyring_for_each(name_first, &name);
	} while (name && keyring_remove(name, NULL) == 0);
	done(arg);
}

static struct rpc_subsystem keyring_subsystem = {.name = "keyring", .save = save, .stop = stop};
RPC_SUBSYSTEM(keyring_subsystem);
