/* methods.c: what the tables of the core and its modules say of methods. */

#include <string.h>

#include "cli/cli.h"
#include "rpc/method.h"

const struct rpc_method *cli_method_at(size_t i)
{
	const struct rpc_entry *entry = rpc_entry_at(i);

	return entry ? entry->method : NULL;
}

const struct rpc_method *cli_method_find(const char *name)
{
	const struct rpc_entry *entry = rpc_entry_find(name);

	return entry ? entry->method : NULL;
}

bool cli_method_kind(const struct rpc_method *method, char *kind, size_t size)
{
	static const char start[] = "bdev_", end[] = "_create";
	size_t len = strlen(method->name);

	if (len <= sizeof(start) + sizeof(end) - 2 ||
	        strncmp(method->name, start, sizeof(start) - 1) != 0 ||
	        strcmp(method->name + len - (sizeof(end) - 1), end) != 0)
		return false;
	len -= sizeof(start) + sizeof(end) - 2;
	snprintf(kind, size, "%.*s", (int)len, method->name + sizeof(start) - 1);
	return true;
}

const struct rpc_method *cli_create_method(const char *kind)
{
	char name[BDEV_NAME_MAX];

	snprintf(name, sizeof(name), "bdev_%s_create", strcmp(kind, "file") == 0 ? "aio" : kind);
	return cli_method_find(name);
}

static const char *type_text(const struct param *param)
{
	switch (param->type) {
	case PARAM_BOOL:
		return "true|false";
	case PARAM_STRING:
		return "TEXT";
	case PARAM_UUID:
		return "UUID";
	case PARAM_STRINGS:
		return "TEXT,...";
	case PARAM_U64S:
		return "NUMBER,...";
	case PARAM_JSON:
		return "JSON";
	default:
		return param->unit ? param->unit : "NUMBER";
	}
}

char *cli_param_value_text(const struct param *param)
{
	char *text = xstrdup(param->type == PARAM_ENUM ? "" : type_text(param));

	for (unsigned i = 0; param->type == PARAM_ENUM && param->values[i]; i++) {
		char *longer = xasprintf("%s%s%s", text, i ? "|" : "", param->values[i]);

		free(text);
		text = longer;
	}
	return text;
}

static void append_upper(char *text, size_t size, const char *name, const char *tail)
{
	size_t len = strlen(text);

	snprintf(text + len, size - len, " %s%s", name, tail);
	for (char *c = text + len; *c; c++)
		if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
}

bool cli_takes_size(const struct param *table)
{
	for (; table && table->name; table++)
		if (strcmp(table->name, "num_blocks") == 0)
			return table->required;
	return false;
}

char *cli_method_synopsis(const struct rpc_method *method)
{
	char text[1024] = "";
	const struct param *param;
	unsigned positional = 0, all = 0;

	if (cli_takes_size(method->params))
		return xstrdup("NAME size=SIZE [key=value ...]");
	for (; (param = cli_positional(method->params, positional)); positional++)
		append_upper(text, sizeof(text), param->name,
		        param->type == PARAM_STRINGS &&
		                        !cli_positional(method->params, positional + 1)
		                ? "..."
		                : "");
	while (method->params && method->params[all].name)
		all++;
	return xasprintf("%s%s", text[0] ? text + 1 : "",
	        all > positional ? positional ? " [key=value ...]" : "[key=value ...]" : "");
}
