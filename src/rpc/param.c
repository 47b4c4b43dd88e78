/* param.c: decoding parameters by table, and letting go of what that allocated. */

#include "rpc/param.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A double holds every integer up to here. */
#define EXACT_REAL_MAX 9007199254740992.0
/* What a JSON integer holds here: numbers beyond are refused by name, never rounded. */
#define INTEGER_MAX INT64_MAX

static void *member(const struct param *p, void *out)
{
	return (char *)out + p->offset;
}

static uint64_t type_max(enum param_type type)
{
	switch (type) {
	case PARAM_U8:
		return UINT8_MAX;
	case PARAM_U32:
		return UINT32_MAX;
	case PARAM_I32:
		return INT32_MAX;
	default:
		return INTEGER_MAX;
	}
}

static const char *json_kind(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "this integer";
	case JSON_REAL:
		return "this number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		break;
	}
	return "null";
}

static int wrong(const struct param *p, const json_t *value, const char *wanted, struct err *err)
{
	return err_set(err, -EINVAL, "'%s' must be %s, not %s", p->name, wanted, json_kind(value));
}

/* 6.5e4 is 65000; a fraction or what a double can't hold exactly is no integer. */
static bool integer_of(const json_t *value, int64_t *out)
{
	double real;

	if (json_is_integer(value)) {
		*out = json_integer_value(value);
		return true;
	}
	if (!json_is_real(value))
		return false;
	real = json_real_value(value);
	if (real != floor(real) || fabs(real) > EXACT_REAL_MAX)
		return false;
	*out = (int64_t)real;
	return true;
}

static int decode_u64(const struct param *p, const json_t *value, uint64_t *out, struct err *err)
{
	uint64_t min = p->min, max = p->max ? p->max : type_max(p->type);
	char wanted[96];
	int64_t n;

	if (max > INTEGER_MAX)
		max = INTEGER_MAX;
	if (!integer_of(value, &n) || n < 0 || (uint64_t)n < min || (uint64_t)n > max) {
		if (min == 0 && max == INTEGER_MAX)
			str_copy(wanted, sizeof(wanted), "a non-negative integer below 2^63");
		else
			snprintf(wanted, sizeof(wanted), "an integer from %llu to %llu",
			        (unsigned long long)min, (unsigned long long)max);
		return wrong(p, value, wanted, err);
	}
	*out = (uint64_t)n;
	return 0;
}

static int decode_number(const struct param *p, const json_t *value, void *out, struct err *err)
{
	uint64_t n = 0;
	int rc = decode_u64(p, value, &n, err);

	if (rc)
		return rc;
	if (p->type == PARAM_U8)
		*(uint8_t *)out = (uint8_t)n;
	else if (p->type == PARAM_U32)
		*(uint32_t *)out = (uint32_t)n;
	else
		*(uint64_t *)out = n;
	return 0;
}

static int decode_i32(const struct param *p, const json_t *value, int32_t *out, struct err *err)
{
	int64_t n;

	if (!integer_of(value, &n) || n < INT32_MIN || n > INT32_MAX)
		return wrong(p, value, "an integer from -2147483648 to 2147483647", err);
	*out = (int32_t)n;
	return 0;
}

/* A copy of the text, or NULL with err set. */
static char *decode_text(const struct param *p, const json_t *value, struct err *err)
{
	const char *text = json_string_value(value);

	if (!text) {
		wrong(p, value, "a string", err);
		return NULL;
	}
	if (strlen(text) != json_string_length(value)) {
		err_set(err, -EINVAL, "'%s' contains a NUL character", p->name);
		return NULL;
	}
	if (json_string_length(value) > PARAM_STRING_MAX_BYTES) {
		err_set(err, -EINVAL, "'%s' is longer than %d bytes", p->name,
		        PARAM_STRING_MAX_BYTES);
		return NULL;
	}
	return xstrdup(text);
}

static int decode_string(const struct param *p, const json_t *value, char **out, struct err *err)
{
	char *text = decode_text(p, value, err);

	if (!text)
		return -EINVAL;
	free(*out); /* the default */
	*out = text;
	return 0;
}

static int decode_uuid(const struct param *p, const json_t *value, void *out, struct err *err)
{
	uuid_t uuid;

	if (!json_is_string(value) || json_string_length(value) != UUID_STR_LEN - 1 ||
	        uuid_parse(json_string_value(value), uuid) != 0)
		return wrong(p, value, "a UUID such as 12345678-90ab-cdef-1234-567890abcdef", err);
	memcpy(out, uuid, sizeof(uuid_t));
	return 0;
}

static int decode_enum(const struct param *p, const json_t *value, int *out, struct err *err)
{
	const char *text = json_string_value(value);
	char known[ERR_TEXT_MAX / 2] = "";
	size_t used = 0;

	for (int i = 0; p->values[i]; i++) {
		if (text && strlen(text) == json_string_length(value) &&
		        strcmp(text, p->values[i]) == 0) {
			*out = i;
			return 0;
		}
		if (used < sizeof(known))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s\"%s\"",
			        i ? ", " : "", p->values[i]);
	}
	return err_set(err, -EINVAL, "'%s' must be one of %s", p->name, known);
}

static int check_list(const struct param *p, const json_t *value, struct err *err)
{
	size_t max = p->max_items ? p->max_items : PARAM_ITEMS_MAX;

	if (!json_is_array(value))
		return wrong(p, value,
		        p->type == PARAM_STRINGS ? "a list of strings" : "a list of integers", err);
	if (json_array_size(value) > max)
		return err_set(err, -EINVAL, "'%s' has %zu entries, at most %zu are possible",
		        p->name, json_array_size(value), max);
	return 0;
}

static int decode_strings(
        const struct param *p, const json_t *value, struct param_strings *out, struct err *err)
{
	int rc = check_list(p, value, err);

	if (rc)
		return rc;
	out->items = xcalloc(json_array_size(value) + 1, sizeof(*out->items));
	for (size_t i = 0; i < json_array_size(value); i++) {
		char *text = decode_text(p, json_array_get(value, i), err);

		if (!text)
			return -EINVAL;
		out->items[out->count++] = text;
	}
	return 0;
}

static int decode_u64s(
        const struct param *p, const json_t *value, struct param_u64s *out, struct err *err)
{
	int rc = check_list(p, value, err);

	if (rc)
		return rc;
	out->items = xcalloc(json_array_size(value) + 1, sizeof(*out->items));
	for (size_t i = 0; i < json_array_size(value); i++) {
		rc = decode_u64(p, json_array_get(value, i), &out->items[i], err);
		if (rc)
			return rc;
		out->count++;
	}
	return 0;
}

static int decode_one(const struct param *p, json_t *value, void *out, struct err *err)
{
	if (json_is_null(value) && p->type != PARAM_JSON)
		return err_set(err, -EINVAL, "'%s' is null; leave it out instead", p->name);
	switch (p->type) {
	case PARAM_BOOL:
		if (!json_is_boolean(value))
			return wrong(p, value, "true or false", err);
		*(bool *)out = json_is_true(value);
		return 0;
	case PARAM_U8:
	case PARAM_U32:
	case PARAM_U64:
		return decode_number(p, value, out, err);
	case PARAM_I32:
		return decode_i32(p, value, out, err);
	case PARAM_STRING:
		return decode_string(p, value, out, err);
	case PARAM_UUID:
		return decode_uuid(p, value, out, err);
	case PARAM_ENUM:
		return decode_enum(p, value, out, err);
	case PARAM_STRINGS:
		return decode_strings(p, value, out, err);
	case PARAM_U64S:
		return decode_u64s(p, value, out, err);
	case PARAM_JSON:
		*(json_t **)out = json_incref(value);
		return 0;
	}
	return err_set(err, -EINVAL, "'%s' has a type that nobody knows", p->name);
}

static void set_default(const struct param *p, void *out)
{
	switch (p->type) {
	case PARAM_BOOL:
		*(bool *)out = p->def != 0;
		break;
	case PARAM_U8:
		*(uint8_t *)out = (uint8_t)p->def;
		break;
	case PARAM_U32:
		*(uint32_t *)out = (uint32_t)p->def;
		break;
	case PARAM_I32:
		*(int32_t *)out = (int32_t)p->def;
		break;
	case PARAM_U64:
		*(uint64_t *)out = p->def;
		break;
	case PARAM_ENUM:
		*(int *)out = (int)p->def;
		break;
	case PARAM_STRING:
		*(char **)out = p->def_text ? xstrdup(p->def_text) : NULL;
		break;
	default:
		break;
	}
}

static const struct param *find_param(const struct param *const *tables, const char *name)
{
	for (; *tables; tables++)
		for (const struct param *p = *tables; p->name; p++)
			if (strcmp(p->name, name) == 0)
				return p;
	return NULL;
}

static int unknown_param(const struct param *const *tables, const char *name, struct err *err)
{
	char known[ERR_TEXT_MAX / 2] = "";
	size_t used = 0;

	for (; *tables; tables++)
		for (const struct param *p = *tables; p->name; p++)
			if (used < sizeof(known))
				used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
				        used ? ", " : "", p->name);
	if (!used)
		return err_set(err, -EINVAL, "'%.64s' is unknown; there are no parameters", name);
	return err_set(err, -EINVAL, "'%.64s' is unknown; there are: %s", name, known);
}

int params_decode(const struct param *const *tables, unsigned flags, const json_t *object,
        void *out, struct err *err)
{
	const char *key;
	json_t *value;
	int rc;

	for (size_t t = 0; tables[t]; t++)
		for (const struct param *p = tables[t]; p->name; p++)
			set_default(p, member(p, out));
	if (object && !json_is_object(object))
		return err_set(err, -EINVAL, "the parameters must be an object with names");
	json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
		const struct param *p = find_param(tables, key);

		if (!p && (flags & PARAM_ALLOW_UNKNOWN))
			continue;
		rc = p ? decode_one(p, value, member(p, out), err)
		       : unknown_param(tables, key, err);
		if (rc)
			return rc;
		if (p->given)
			*(bool *)((char *)out + p->given) = true;
	}
	for (size_t t = 0; tables[t]; t++)
		for (const struct param *p = tables[t]; p->name; p++)
			if (p->required && !json_object_get(object, p->name))
				return err_set(err, -EINVAL, "'%s' is required", p->name);
	return 0;
}

static void release_one(const struct param *p, void *out)
{
	struct param_strings *strings = out;
	struct param_u64s *numbers = out;

	switch (p->type) {
	case PARAM_STRING:
		free(*(char **)out);
		*(char **)out = NULL;
		break;
	case PARAM_STRINGS:
		for (size_t i = 0; i < strings->count; i++)
			free(strings->items[i]);
		free(strings->items);
		*strings = (struct param_strings){0};
		break;
	case PARAM_U64S:
		free(numbers->items);
		*numbers = (struct param_u64s){0};
		break;
	case PARAM_JSON:
		json_decref(*(json_t **)out);
		*(json_t **)out = NULL;
		break;
	default:
		break;
	}
}

void params_release(const struct param *const *tables, void *params)
{
	for (; *tables; tables++)
		for (const struct param *p = *tables; p->name; p++)
			release_one(p, member(p, params));
}
