/* param_encode.c: a parameter struct as JSON, and a table as its own description. */

#include <string.h>

#include "rpc/param.h"

static const void *member(const struct param *p, const void *params)
{
	return (const char *)params + p->offset;
}

static uint64_t number_value(const struct param *p, const void *at)
{
	switch (p->type) {
	case PARAM_BOOL:
		return *(const bool *)at;
	case PARAM_U8:
		return *(const uint8_t *)at;
	case PARAM_U32:
		return *(const uint32_t *)at;
	case PARAM_ENUM:
		return (uint64_t) * (const int *)at;
	case PARAM_I32:
		return (uint64_t)(int64_t) * (const int32_t *)at;
	default:
		return *(const uint64_t *)at;
	}
}

static bool is_default(const struct param *p, const void *at)
{
	const char *text;

	switch (p->type) {
	case PARAM_I32:
		return *(const int32_t *)at == (int32_t)p->def;
	case PARAM_STRING:
		text = *(char *const *)at;
		return text && p->def_text ? strcmp(text, p->def_text) == 0 : text == p->def_text;
	case PARAM_UUID:
	case PARAM_STRINGS:
	case PARAM_U64S:
	case PARAM_JSON:
		return false; /* there is no default but absence */
	default:
		return number_value(p, at) == p->def;
	}
}

static json_t *encode_list(const struct param *p, const void *at)
{
	const struct param_strings *strings = at;
	const struct param_u64s *numbers = at;
	json_t *list;

	if (!strings->items) /* both lists begin alike */
		return NULL;
	list = json_array();
	if (p->type == PARAM_STRINGS)
		for (size_t i = 0; i < strings->count; i++)
			json_array_append_new(list, json_string(strings->items[i]));
	else
		for (size_t i = 0; i < numbers->count; i++)
			json_array_append_new(list, json_integer((json_int_t)numbers->items[i]));
	return list;
}

/* A new reference, or NULL when there is no value. */
static json_t *encode_one(const struct param *p, const void *at)
{
	char uuid[UUID_STR_LEN];
	uint64_t n;

	switch (p->type) {
	case PARAM_BOOL:
		return json_boolean(*(const bool *)at);
	case PARAM_I32:
		return json_integer(*(const int32_t *)at);
	case PARAM_STRING:
		return *(char *const *)at ? json_string(*(char *const *)at) : NULL;
	case PARAM_UUID:
		if (uuid_is_null(at))
			return NULL;
		uuid_unparse_lower(at, uuid);
		return json_string(uuid);
	case PARAM_ENUM:
		return json_string(p->values[*(const int *)at]);
	case PARAM_STRINGS:
	case PARAM_U64S:
		return encode_list(p, at);
	case PARAM_JSON:
		return json_incref(*(json_t *const *)at);
	default:
		n = number_value(p, at);
		return n <= INT64_MAX ? json_integer((json_int_t)n) : NULL;
	}
}

json_t *params_encode(const struct param *const *tables, const void *params, bool all)
{
	json_t *object = json_object();

	for (; *tables; tables++) {
		for (const struct param *p = *tables; p->name; p++) {
			const void *at = member(p, params);
			json_t *value;

			if (p->secret)
				continue;
			if (p->given && !*(const bool *)((const char *)params + p->given))
				continue;
			if (!all && !p->required && !p->given && is_default(p, at))
				continue;
			value = encode_one(p, at);
			if (value)
				json_object_set_new(object, p->name, value);
		}
	}
	return object;
}

static const char *type_name(enum param_type type)
{
	switch (type) {
	case PARAM_BOOL:
		return "boolean";
	case PARAM_U8:
		return "uint8";
	case PARAM_U32:
		return "uint32";
	case PARAM_I32:
		return "int32";
	case PARAM_U64:
		return "uint64";
	case PARAM_STRING:
		return "string";
	case PARAM_UUID:
		return "uuid";
	case PARAM_ENUM:
		return "enum";
	case PARAM_STRINGS:
		return "list of strings";
	case PARAM_U64S:
		return "list of uint64";
	case PARAM_JSON:
		break;
	}
	return "json";
}

static json_t *describe_default(const struct param *p)
{
	switch (p->type) {
	case PARAM_BOOL:
		return json_boolean(p->def != 0);
	case PARAM_I32:
		return json_integer((int32_t)p->def);
	case PARAM_U8:
	case PARAM_U32:
	case PARAM_U64:
		return p->def <= INT64_MAX ? json_integer((json_int_t)p->def) : NULL;
	case PARAM_ENUM:
		return json_string(p->values[p->def]);
	case PARAM_STRING:
		return p->def_text ? json_string(p->def_text) : NULL;
	default:
		return NULL;
	}
}

static void describe_limits(const struct param *p, json_t *entry)
{
	if (p->type == PARAM_U8 || p->type == PARAM_U32 || p->type == PARAM_U64) {
		if (p->min)
			json_object_set_new(entry, "min", json_integer((json_int_t)p->min));
		if (p->max && p->max <= INT64_MAX)
			json_object_set_new(entry, "max", json_integer((json_int_t)p->max));
	}
	if (p->type == PARAM_STRINGS || p->type == PARAM_U64S)
		json_object_set_new(entry, "max_items",
		        json_integer((json_int_t)(p->max_items ? p->max_items : PARAM_ITEMS_MAX)));
}

json_t *params_describe(const struct param *const *tables)
{
	json_t *list = json_array();

	for (; *tables; tables++) {
		for (const struct param *p = *tables; p->name; p++) {
			json_t *entry = json_object();

			json_object_set_new(entry, "name", json_string(p->name));
			json_object_set_new(entry, "type", json_string(type_name(p->type)));
			json_object_set_new(entry, "required", json_boolean(p->required));
			/* What is asked for by `given` has no default but to be absent. */
			if (!p->required && !p->given)
				json_object_set_new(entry, "default", describe_default(p));
			if (p->unit)
				json_object_set_new(entry, "unit", json_string(p->unit));
			json_object_set_new(entry, "help", json_string(p->help ? p->help : ""));
			describe_limits(p, entry);
			if (p->type == PARAM_ENUM) {
				json_t *values = json_array();

				for (int i = 0; p->values[i]; i++)
					json_array_append_new(values, json_string(p->values[i]));
				json_object_set_new(entry, "values", values);
			}
			json_array_append_new(list, entry);
		}
	}
	return list;
}
