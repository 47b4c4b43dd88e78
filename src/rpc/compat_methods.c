/*
 * compat_methods.c: options of the reference that have no meaning here. A configuration that was
 * saved there must load, and come out of a save again; so they are checked, remembered and saved.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/rpc.h"

#define NUMBERS_MAX 6
#define FLAGS_MAX 5

/* One struct serves all tables: what is not given is not saved. */
struct option_params {
	char *impl_name;
	bool impl_given;
	uint64_t number[NUMBERS_MAX];
	bool number_given[NUMBERS_MAX];
	bool flag[FLAGS_MAX];
	bool flag_given[FLAGS_MAX];
};

#define ACCEPTED "accepted and saved; has no effect"
#define NUMBER(i, text, limit)                                                                     \
	{                                                                                          \
		PARAM_NAMED(text, struct option_params, number[i], PARAM_U64),                     \
		        .given = offsetof(struct option_params, number_given[i]), .max = (limit),  \
		        .help = ACCEPTED                                                           \
	}
#define FLAG(i, text)                                                                              \
	{                                                                                          \
		PARAM_NAMED(text, struct option_params, flag[i], PARAM_BOOL),                      \
		        .given = offsetof(struct option_params, flag_given[i]), .help = ACCEPTED   \
	}
#define IMPL                                                                                       \
	{                                                                                          \
		PARAM(struct option_params, impl_name, PARAM_STRING),                              \
		        .given = offsetof(struct option_params, impl_given), .required = true,     \
		        .help = "name of a socket implementation; any; has no effect"              \
	}

/* ---- what is remembered ---------------------------------------------------------------------- */

struct remembered {
	const struct rpc_method *method;
	char *key; /* entries of one method and key replace each other */
	json_t *params;
	struct list link;
};

static struct list memory = LIST_INIT(memory);

static void remember(const struct rpc_method *method, const char *key, json_t *params)
{
	struct remembered *entry;

	list_for_each (entry, &memory, link) {
		if (entry->method == method && strcmp(entry->key, key) == 0) {
			json_object_update(entry->params, params);
			json_decref(params);
			return;
		}
	}
	entry = xcalloc(1, sizeof(*entry));
	entry->method = method;
	entry->key = xstrdup(key);
	entry->params = params;
	list_init(&entry->link);
	list_push_back(&memory, &entry->link);
}

/* What was remembered of the methods whose name begins with the prefix. */
static json_t *save_prefix(const char *prefix)
{
	struct remembered *entry;
	json_t *list = json_array();

	list_for_each (entry, &memory, link) {
		if (strncmp(entry->method->name, prefix, strlen(prefix)) == 0)
			json_array_append_new(
			        list, json_pack("{s:s, s:O}", "method", entry->method->name,
			                      "params", entry->params));
	}
	return list;
}

static void accept_options(struct rpc_request *request, void *params)
{
	const struct rpc_method *method = rpc_request_method(request);
	const struct option_params *p = params;
	const struct param *tables[] = {method->params, NULL};

	remember(method, p->impl_name ? p->impl_name : "", params_encode(tables, params, true));
	rpc_reply(request, NULL);
}

#define OPTIONS_METHOD(method_name, table, code)                                                   \
	static struct rpc_method method_name = {                                                   \
	        .name = #method_name,                                                              \
	        .summary = "Accepted so that configurations of other servers load; has no effect", \
	        .result_help = "true",                                                             \
	        .params = table,                                                                   \
	        .params_bytes = sizeof(struct option_params),                                      \
	        .states = RPC_STARTUP,                                                             \
	        .decode_error = (code),                                                            \
	        .handler = accept_options,                                                         \
	};                                                                                         \
	RPC_METHOD(method_name)

/* ---- sockets --------------------------------------------------------------------------------- */

static const struct param sock_default_table[] = {IMPL, {0}};

OPTIONS_METHOD(sock_set_default_impl, sock_default_table, RPC_INVALID_PARAMS);

static const struct param sock_impl_table[] = {
        IMPL,
        NUMBER(0, "recv_buf_size", UINT32_MAX),
        NUMBER(1, "send_buf_size", UINT32_MAX),
        FLAG(0, "enable_recv_pipe"),
        FLAG(1, "enable_quickack"),
        NUMBER(2, "enable_placement_id", UINT32_MAX),
        FLAG(2, "enable_zerocopy_send_server"),
        FLAG(3, "enable_zerocopy_send_client"),
        NUMBER(3, "zerocopy_threshold", UINT32_MAX),
        NUMBER(4, "tls_version", UINT32_MAX),
        FLAG(4, "enable_ktls"),
        {0},
};

OPTIONS_METHOD(sock_impl_set_options, sock_impl_table, RPC_INVALID_PARAMS);

static json_t *sock_save(void)
{
	return save_prefix("sock_");
}

static struct rpc_subsystem sock_subsystem = {.name = "sock", .save = sock_save};
RPC_SUBSYSTEM(sock_subsystem);

/* ---- buffers --------------------------------------------------------------------------------- */

static const struct param iobuf_table[] = {
        NUMBER(0, "small_pool_count", INT64_MAX),
        NUMBER(1, "large_pool_count", INT64_MAX),
        NUMBER(2, "small_bufsize", UINT32_MAX),
        NUMBER(3, "large_bufsize", UINT32_MAX),
        FLAG(0, "enable_numa"),
        {0},
};

OPTIONS_METHOD(iobuf_set_options, iobuf_table, RPC_INVALID_PARAMS);

static json_t *iobuf_save(void)
{
	return save_prefix("iobuf_");
}

static struct rpc_subsystem iobuf_subsystem = {.name = "iobuf", .save = iobuf_save};
RPC_SUBSYSTEM(iobuf_subsystem);

/* ---- scheduler ------------------------------------------------------------------------------- */

struct scheduler_params {
	char *name;
};

static const struct param scheduler_table[] = {
        {PARAM(struct scheduler_params, name, PARAM_STRING), .required = true,
                .help = "\"static\": each loop stays on its thread"},
        {0},
};

static void set_scheduler(struct rpc_request *request, void *params)
{
	const struct scheduler_params *p = params;

	if (strcmp(p->name, "static") != 0) {
		rpc_fail(request, RPC_INTERNAL_ERROR,
		        "there is no scheduler '%s'; the only one is 'static'", p->name);
		return;
	}
	remember(rpc_request_method(request), "", json_pack("{s:s}", "name", "static"));
	rpc_reply(request, NULL);
}

static struct rpc_method framework_set_scheduler = {
        .name = "framework_set_scheduler",
        .summary = "Accepts the one way that loops are scheduled here",
        .result_help = "true",
        .params = scheduler_table,
        .params_bytes = sizeof(struct scheduler_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_RELAXED,
        .decode_error = RPC_INVALID_PARAMS,
        .handler = set_scheduler,
};
RPC_METHOD(framework_set_scheduler);

static void get_scheduler(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request,
	        json_pack("{s:s, s:i, s:s, s:i}", "scheduler_name", "static", "scheduler_period", 0,
	                "isolated_core_mask", "0", "scheduling_core", 0));
}

static struct rpc_method framework_get_scheduler = {
        .name = "framework_get_scheduler",
        .summary = "How loops are scheduled: always static",
        .result_help = "object: scheduler_name, scheduler_period, isolated_core_mask, "
                       "scheduling_core",
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_NO_PARAMS,
        .handler = get_scheduler,
};
RPC_METHOD(framework_get_scheduler);

static json_t *scheduler_save(void)
{
	return save_prefix("framework_set_scheduler");
}

static struct rpc_subsystem scheduler_subsystem = {.name = "scheduler", .save = scheduler_save};
RPC_SUBSYSTEM(scheduler_subsystem);
