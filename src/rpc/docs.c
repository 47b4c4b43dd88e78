/* docs.c: the reference page and the machine-readable description, both made from the tables. */

#include <stdio.h>
#include <string.h>

#include "rpc/method.h"
#include "rpc/server.h"

static const struct param *const *tables_of(const struct rpc_method *method)
{
	static const struct param *tables[2];

	tables[0] = method->params;
	return tables;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *describe_states(const struct rpc_method *method)
{
	unsigned states = rpc_method_states(method);
	json_t *list = json_array();

	if (states & RPC_STARTUP)
		json_array_append_new(list, json_string("startup"));
	if (states & RPC_RUNTIME)
		json_array_append_new(list, json_string("runtime"));
	return list;
}

json_t *rpc_dump_json(void)
{
	const struct rpc_entry *entry;
	json_t *list = json_array();

	for (size_t i = 0; (entry = rpc_entry_at(i)); i++) {
		const struct rpc_method *m = entry->method;

		json_array_append_new(
		        list, json_pack("{s:s, s:s, s:s, s:s?, s:o, s:b, s:b, s:o}", "name",
		                      m->name, "summary", m->summary ? m->summary : "", "result",
		                      m->result_help ? m->result_help : "", "module", entry->module,
		                      "states", describe_states(m), "takes_no_params",
		                      m->flags & RPC_NO_PARAMS ? 1 : 0, "relaxed",
		                      m->flags & RPC_RELAXED ? 1 : 0, "params",
		                      params_describe(tables_of(m))));
	}
	return list;
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static const char intro[] =
        "# JSON-RPC methods\n"
        "\n"
        "<!-- Made from the tables of the methods by ./dev docs: do not edit. -->\n"
        "\n"
        "The server speaks JSON-RPC 2.0 on a unix socket (`bellowsd -r`, default\n"
        "`/var/tmp/spdk.sock`, so that `rpc.py` finds it). Requests are JSON values back to back,\n"
        "without length or line structure; each answer is one line. Requests of a connection run\n"
        "concurrently and are answered as they finish, each with its `id` as it was written.\n"
        "Batches and notifications work as JSON-RPC 2.0 says, but a notification that fails is\n"
        "answered, with `id` null. Malformed JSON ends the connection.\n"
        "\n"
        "Parameters are strict: an unknown name, a wrong type, `null` or a missing required one\n"
        "is an error that names it. Integers go up to 2^63-1 and may be written as `6.5e4`.\n"
        "\n"
        "Some options and methods exist so that configurations of other servers load; each of\n"
        "them says that it has no effect. They are saved again.\n"
        "\n"
        "Errors carry a code and a sentence. A code above -4096 is a negative errno, and the\n"
        "sentence begins with its text; -1 also stands for a method that may not be called in the\n"
        "present state. -32601: no such method; -32602, -32603: parameters that can't be decoded,\n"
        "depending on the method.\n"
        "\n"
        "Limits: 64 connections; 256 KiB, 64 levels and 8192 values per request or batch; 256\n"
        "running requests per connection, beyond which it is not read; 32 MiB per answer. A\n"
        "client that does not read its answers is disconnected.\n"
        "\n"
        "Methods marked *startup* may be called before the start is finished: in a configuration\n"
        "file, or with `bellowsd --wait-for-rpc` before `framework_start_init`.\n"
        "\n";

static void put_text(void (*put)(const char *text), const char *fmt, ...) printf_like(2, 3);

static void put_text(void (*put)(const char *text), const char *fmt, ...)
{
	autofree char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	put(text ? text : "");
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* "128", "true", "`name`"; empty without default. */
static char *default_text(const json_t *param)
{
	const json_t *value = json_object_get(param, "default");

	if (json_is_true(json_object_get(param, "required")))
		return xstrdup("required");
	if (json_is_string(value))
		return xasprintf("`%s`", json_string_value(value));
	if (json_is_integer(value))
		return xasprintf("%lld", (long long)json_integer_value(value));
	if (json_is_boolean(value))
		return xstrdup(json_is_true(value) ? "true" : "false");
	return xstrdup("");
}

static char *type_text(const json_t *param)
{
	const json_t *values = json_object_get(param, "values");
	char *text = NULL;
	json_t *value;
	size_t i;

	if (!values)
		return xstrdup(text_of(param, "type"));
	json_array_foreach (values, i, value) {
		char *longer = xasprintf(
		        "%s%s`%s`", text ? text : "", text ? ", " : "", json_string_value(value));

		free(text);
		text = longer;
	}
	return text ? text : xstrdup("enum");
}

static char *range_text(const json_t *param)
{
	const json_t *min = json_object_get(param, "min"), *max = json_object_get(param, "max");

	if (min && max)
		return xasprintf("; %lld to %lld", (long long)json_integer_value(min),
		        (long long)json_integer_value(max));
	if (min)
		return xasprintf("; at least %lld", (long long)json_integer_value(min));
	if (max)
		return xasprintf("; at most %lld", (long long)json_integer_value(max));
	return xstrdup("");
}

static void put_params(void (*put)(const char *text), const struct rpc_method *method)
{
	json_t *list = params_describe(tables_of(method)), *param;
	size_t i;

	if (json_array_size(list))
		put("| parameter | type | default | meaning |\n|---|---|---|---|\n");
	json_array_foreach (list, i, param) {
		autofree char *type = type_text(param);
		autofree char *def = default_text(param);
		autofree char *range = range_text(param);
		const char *unit = text_of(param, "unit");

		put_text(put, "| %s | %s%s%s | %s | %s%s |\n", text_of(param, "name"), type,
		        unit ? ", " : "", unit ? unit : "", def, text_of(param, "help"), range);
	}
	if (json_array_size(list))
		put("\n");
	json_decref(list);
}

static void put_method(void (*put)(const char *text), const struct rpc_entry *entry)
{
	const struct rpc_method *m = entry->method;
	unsigned states = rpc_method_states(m);

	put_text(put, "### %s\n\n%s.%s\n\n", m->name, m->summary ? m->summary : m->name,
	        states == RPC_STARTUP  ? " *(startup only)*"
	        : states & RPC_STARTUP ? " *(startup, too)*"
	                               : "");
	put_params(put, m);
	if (m->flags & RPC_NO_PARAMS)
		put("No parameters.\n\n");
	if (m->flags & RPC_RELAXED)
		put("Unknown parameters are ignored.\n\n");
	put_text(put, "Result: %s\n\n", m->result_help ? m->result_help : "true");
}

void rpc_dump_docs(void (*put)(const char *text))
{
	const struct rpc_entry *entry;
	struct bdev_module *module = NULL;

	put(intro);
	put("## Server and bdevs of every kind\n\n");
	for (size_t i = 0; (entry = rpc_entry_at(i)); i++)
		if (!entry->module)
			put_method(put, entry);
	while ((module = bdev_module_next(module))) {
		bool any = false;

		for (size_t i = 0; (entry = rpc_entry_at(i)); i++) {
			if (!entry->module || strcmp(entry->module, module->name) != 0)
				continue;
			if (!any)
				put_text(put, "## %s\n\n%s.\n\n", module->name,
				        module->summary ? module->summary : "");
			any = true;
			put_method(put, entry);
		}
	}
}
