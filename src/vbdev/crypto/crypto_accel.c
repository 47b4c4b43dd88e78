/* needs: gcrypt */
/*
 * crypto_accel.c: options of the reference's accelerators, which have no meaning here. A
 * configuration that was saved there must load, and come out of a save again.
 */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

#define NUMBERS 5

struct accel_options {
	uint64_t number[NUMBERS];
	bool given[NUMBERS];
};

static struct accel_options options;
static json_t *assignments; /* module by operation */
static char *driver;

#define ACCEPTED "accepted and saved; has no effect"
#define NUMBER(i, text)                                                                            \
	{                                                                                          \
		PARAM_NAMED(text, struct accel_options, number[i], PARAM_U64),                     \
		        .given = offsetof(struct accel_options, given[i]), .max = UINT32_MAX,      \
		        .help = ACCEPTED                                                           \
	}

static const struct param options_table[] = {
        NUMBER(0, "small_cache_size"),
        NUMBER(1, "large_cache_size"),
        NUMBER(2, "task_count"),
        NUMBER(3, "sequence_count"),
        NUMBER(4, "buf_count"),
        {0},
};

static void options_handler(struct rpc_request *request, void *params)
{
	const struct accel_options *p = params;

	for (unsigned i = 0; i < NUMBERS; i++) {
		if (!p->given[i])
			continue;
		options.number[i] = p->number[i];
		options.given[i] = true;
	}
	rpc_reply(request, NULL);
}

static struct rpc_method accel_set_options = {
        .name = "accel_set_options",
        .summary = "Accepted so that configurations of other servers load; has no effect",
        .result_help = "true",
        .params = options_table,
        .params_bytes = sizeof(struct accel_options),
        .states = RPC_STARTUP,
        .decode_error = RPC_PARSE_ERROR,
        .handler = options_handler,
};
RPC_METHOD(accel_set_options);

struct assign_params {
	char *opname, *module;
};

static const struct param assign_table[] = {
        {PARAM(struct assign_params, opname, PARAM_STRING), .required = true, .help = ACCEPTED},
        {PARAM(struct assign_params, module, PARAM_STRING), .required = true, .help = ACCEPTED},
        {0},
};

static void assign_handler(struct rpc_request *request, void *params)
{
	const struct assign_params *p = params;

	if (!assignments)
		assignments = json_object();
	json_object_set_new(assignments, p->opname, json_string(p->module));
	rpc_reply(request, NULL);
}

static struct rpc_method accel_assign_opc = {
        .name = "accel_assign_opc",
        .summary = "Accepted so that configurations of other servers load; has no effect",
        .result_help = "true",
        .params = assign_table,
        .params_bytes = sizeof(struct assign_params),
        .states = RPC_STARTUP,
        .decode_error = RPC_PARSE_ERROR,
        .handler = assign_handler,
};
RPC_METHOD(accel_assign_opc);

struct driver_params {
	char *name;
};

static const struct param driver_table[] = {
        {PARAM(struct driver_params, name, PARAM_STRING), .help = ACCEPTED},
        {0},
};

static void driver_handler(struct rpc_request *request, void *params)
{
	struct driver_params *p = params;

	free(driver);
	driver = steal_ptr(&p->name);
	rpc_reply(request, NULL);
}

static struct rpc_method accel_set_driver = {
        .name = "accel_set_driver",
        .summary = "Accepted so that configurations of other servers load; has no effect",
        .result_help = "true",
        .params = driver_table,
        .params_bytes = sizeof(struct driver_params),
        .states = RPC_STARTUP,
        .decode_error = RPC_PARSE_ERROR,
        .handler = driver_handler,
};
RPC_METHOD(accel_set_driver);

/* ---- what there is ---- */

/* What this server does of the operations that the reference has names for, all by the processor.
 */
static const char *const operations[] = {
        "copy", "fill", "compare", "crc32c", "encrypt", "decrypt", "xor"};

static void assignments_handler(struct rpc_request *request, void *params)
{
	json_t *result = json_object();

	(void)params;
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		json_object_set_new(result, operations[i], json_string("software"));
	rpc_reply(request, result);
}

static struct rpc_method accel_get_opc_assignments = {
        .name = "accel_get_opc_assignments",
        .summary = "What does each operation: always the processor, whatever accel_assign_opc said",
        .result_help = "object: module by operation",
        .flags = RPC_NO_PARAMS,
        .handler = assignments_handler,
};
RPC_METHOD(accel_get_opc_assignments);

static void modules_handler(struct rpc_request *request, void *params)
{
	json_t *list = json_array();

	(void)params;
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		json_array_append_new(list, json_string(operations[i]));
	rpc_reply(request, json_pack("[{s:s, s:o}]", "module", "software", "supported ops", list));
}

static struct rpc_method accel_get_module_info = {
        .name = "accel_get_module_info",
        .summary = "What can do operations: the processor",
        .result_help = "list of objects: module, supported ops",
        .flags = RPC_NO_PARAMS,
        .handler = modules_handler,
};
RPC_METHOD(accel_get_module_info);

json_t *crypto_accel_save(void)
{
	const struct param *tables[] = {options_table, NULL};
	json_t *list = json_array(), *numbers = params_encode(tables, &options, true), *module;
	const char *opname;

	if (json_object_size(numbers))
		json_array_append_new(list,
		        json_pack("{s:s, s:O}", "method", "accel_set_options", "params", numbers));
	json_decref(numbers);
	if (driver)
		json_array_append_new(list, json_pack("{s:s, s:{s:s}}", "method",
		                                    "accel_set_driver", "params", "name", driver));
	json_object_foreach (assignments, opname, module)
		json_array_append_new(
		        list, json_pack("{s:s, s:{s:s, s:O}}", "method", "accel_assign_opc",
		                      "params", "opname", opname, "module", module));
	return list;
}

void crypto_accel_forget(void)
{
	options = (struct accel_options){0};
	json_decref(steal_ptr(&assignments));
	free(steal_ptr(&driver));
}
