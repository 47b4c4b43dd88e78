#include "cli.h"

void cli_print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

const char *cli_str(const json_t *object, const char *name, const char *missing)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : missing;
}

uint64_t cli_u64(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}
