/* words.c: values as people write them, made into what the method tables want. */

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "cli/cli.h"
#include "rpc/param.h"

#define DEFAULT_BLOCK_BYTES 512

/* ---- numbers --------------------------------------------------------------------------------- */

static int parse_u64(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return !isdigit((unsigned char)*text) || *end || errno ? -EINVAL : 0;
}

/* Bytes of a unit that is one of size; 0: it is none. */
static uint64_t unit_bytes(const char *unit)
{
	static const char *const names[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};

	for (unsigned i = 0; unit && i < ARRAY_SIZE(names); i++)
		if (strcmp(unit, names[i]) == 0)
			return 1ULL << (10 * i);
	return 0;
}

/* The same for time, in ns. */
static uint64_t unit_ns(const char *unit)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", NSEC_PER_USEC}, {"ms", NSEC_PER_MSEC}, {"s", NSEC_PER_SEC}};

	for (unsigned i = 0; unit && i < ARRAY_SIZE(units); i++)
		if (strcmp(unit, units[i].name) == 0)
			return units[i].ns;
	return 0;
}

static int parse_time_ns(const char *text, uint64_t *out)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t ns = unit_ns(text + digits);
	char number[24];

	if (!ns || digits >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, digits);
	number[digits] = '\0';
	if (parse_u64(number, out) || __builtin_mul_overflow(*out, ns, out))
		return -EINVAL;
	return 0;
}

/* A number that may bear a unit of its own, as a number of the parameter's unit. */
static int parse_number(const struct param *param, const char *text, uint64_t *out, struct err *err)
{
	uint64_t bytes = unit_bytes(param->unit), ns = unit_ns(param->unit);
	uint64_t scale = bytes ? bytes : ns;

	if (parse_u64(text, out) == 0)
		return 0;
	if (bytes && parse_size_bytes(text, out))
		return err_set(err, -EINVAL,
		        "%s: '%s' is not a size (20G, 512M, or a number of %s)", param->name, text,
		        param->unit);
	if (ns && parse_time_ns(text, out))
		return err_set(err, -EINVAL, "%s: '%s' is not a time (5ms, 2s, or a number of %s)",
		        param->name, text, param->unit);
	if (!scale)
		return err_set(err, -EINVAL, "%s: '%s' is not a whole number%s%s%s", param->name,
		        text, param->unit ? " (" : "", param->unit ? param->unit : "",
		        param->unit ? ")" : "");
	if (*out % scale)
		return err_set(err, -EINVAL, "%s: '%s' is not a whole number of %s", param->name,
		        text, param->unit);
	*out /= scale;
	return 0;
}

static json_t *number_value(const struct param *param, const char *text, struct err *err)
{
	bool negative = param->type == PARAM_I32 && text[0] == '-';
	uint64_t number;

	if (parse_number(param, text + negative, &number, err))
		return NULL;
	if (number > INT64_MAX) {
		err_set(err, -ERANGE, "%s: %s is too large", param->name, text);
		return NULL;
	}
	return json_integer(negative ? -(json_int_t)number : (json_int_t)number);
}

/* ---- other types ----------------------------------------------------------------------------- */

static json_t *bool_value(const struct param *param, const char *text, struct err *err)
{
	static const char *const yes[] = {"true", "yes", "on", "1"};
	static const char *const no[] = {"false", "no", "off", "0"};

	for (unsigned i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcmp(text, yes[i]) == 0)
			return json_true();
		if (strcmp(text, no[i]) == 0)
			return json_false();
	}
	err_set(err, -EINVAL, "%s: '%s' is neither true nor false", param->name, text);
	return NULL;
}

static json_t *enum_value(const struct param *param, const char *text, struct err *err)
{
	char list[256] = "";
	size_t len = 0;

	for (unsigned i = 0; param->values[i]; i++) {
		if (strcmp(param->values[i], text) == 0)
			return json_string(text);
		if (len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
			        i ? ", " : "", param->values[i]);
	}
	err_set(err, -EINVAL, "%s: '%s' is none of %s", param->name, text, list);
	return NULL;
}

static json_t *string_value(const char *name, const char *text, struct err *err)
{
	json_t *value = json_string(text);

	if (!value)
		err_set(err, -EINVAL, "%s: the text is not UTF-8", name);
	return value;
}

char *word_to_path(const char *text)
{
	autofree char *folder = *text && *text != '/' ? realpath(".", NULL) : NULL;

	return folder ? xasprintf("%s/%s", folder, text) : xstrdup(text);
}

static json_t *list_value(const struct param *param, const char *text, struct err *err)
{
	autofree char *copy = xstrdup(text);
	char *rest = copy, *item;
	json_t *list = json_array();

	while (*text && (item = strsep(&rest, ","))) {
		json_t *value = param->type == PARAM_STRINGS ? string_value(param->name, item, err)
		                                             : number_value(param, item, err);

		if (!value) {
			json_decref(list);
			return NULL;
		}
		json_array_append_new(list, value);
	}
	return list;
}

static json_t *json_value(const struct param *param, const char *text, struct err *err)
{
	json_error_t why;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);

	if (!value)
		err_set(err, -EINVAL, "%s: '%s' is not JSON: %s", param->name, text, why.text);
	return value;
}

json_t *word_to_value(const struct param *param, const char *text, struct err *err)
{
	switch (param->type) {
	case PARAM_BOOL:
		return bool_value(param, text, err);
	case PARAM_U8:
	case PARAM_U32:
	case PARAM_I32:
	case PARAM_U64:
		return number_value(param, text, err);
	case PARAM_ENUM:
		return enum_value(param, text, err);
	case PARAM_STRINGS:
	case PARAM_U64S:
		return list_value(param, text, err);
	case PARAM_JSON:
		return json_value(param, text, err);
	case PARAM_STRING:
	case PARAM_UUID:
		break;
	}
	if (param->is_path) {
		autofree char *path = word_to_path(text);

		return string_value(param->name, path, err);
	}
	return string_value(param->name, text, err);
}

/* ---- words ----------------------------------------------------------------------------------- */

static const struct param *find_param(const struct param *table, const char *name, size_t len)
{
	for (; table && table->name; table++)
		if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
			return table;
	return NULL;
}

const struct param *cli_positional(const struct param *table, unsigned i)
{
	const struct param *name = find_param(table, "name", 4);

	if (name && i-- == 0)
		return name;
	for (; table && table->name; table++)
		if (table->required && table != name && i-- == 0)
			return table;
	return NULL;
}

static int unknown_key(const struct param *table, const char *word, size_t key_len, struct err *err)
{
	char list[400] = "";
	size_t len = 0;

	for (; table && table->name; table++)
		if (len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
			        len ? ", " : "", table->name);
	return err_set(err, -EINVAL, "there is no parameter '%.*s'; %s%s", (int)key_len, word,
	        len ? "there are: " : "there are none", list);
}

static int set_value(json_t *params, const struct param *param, const char *text, struct err *err)
{
	json_t *value;

	if (json_object_get(params, param->name))
		return err_set(err, -EINVAL, "%s is given twice", param->name);
	value = word_to_value(param, text, err);
	if (!value)
		return err->code;
	json_object_set_new(params, param->name, value);
	return 0;
}

struct words {
	const struct param *table;
	json_t *params;
	unsigned positional; /* words without '=' so far */
	const char *size;    /* of size=SIZE */
	struct err *err;
};

static int take_pair(struct words *w, const char *word, const char *equals)
{
	size_t len = (size_t)(equals - word);
	const struct param *param = find_param(w->table, word, len);

	if (param)
		return set_value(w->params, param, equals + 1, w->err);
	if (len == 4 && memcmp(word, "size", 4) == 0 && cli_takes_size(w->table)) {
		if (w->size)
			return err_set(w->err, -EINVAL, "size is given twice");
		w->size = equals + 1;
		return 0;
	}
	return unknown_key(w->table, word, len, w->err);
}

static int take_positional(struct words *w, const char *word)
{
	const struct param *param = cli_positional(w->table, w->positional), *last = NULL;
	json_t *list;

	if (!param && w->positional)
		last = cli_positional(w->table, w->positional - 1);
	if (last && last->type == PARAM_STRINGS) {
		list = json_object_get(w->params, last->name);
		json_array_append_new(list, json_string(word));
		return 0;
	}
	if (!param)
		return err_set(w->err, -EINVAL,
		        "'%s' is one word too many; set a parameter as key=value", word);
	w->positional++;
	return set_value(w->params, param, word, w->err);
}

static int apply_size(struct words *w)
{
	json_t *block = json_object_get(w->params, "block_size");
	uint64_t bytes, block_bytes = DEFAULT_BLOCK_BYTES;

	if (!w->size)
		return 0;
	if (json_object_get(w->params, "num_blocks"))
		return err_set(w->err, -EINVAL, "give either size or num_blocks, not both");
	if (parse_size_bytes(w->size, &bytes))
		return err_set(w->err, -EINVAL, "size: '%s' is not a size (20G, 512M)", w->size);
	if (block)
		block_bytes = (uint64_t)json_integer_value(block);
	else
		json_object_set_new(w->params, "block_size", json_integer(DEFAULT_BLOCK_BYTES));
	if (block_bytes == 0 || bytes % block_bytes)
		return err_set(w->err, -EINVAL,
		        "size: %s is not a whole number of blocks of %llu bytes", w->size,
		        (unsigned long long)block_bytes);
	json_object_set_new(
	        w->params, "num_blocks", json_integer((json_int_t)(bytes / block_bytes)));
	return 0;
}

static int check_required(const struct words *w)
{
	for (const struct param *p = w->table; p && p->name; p++) {
		if (!p->required || json_object_get(w->params, p->name))
			continue;
		return err_set(w->err, -EINVAL, "%s is missing (%s)%s", p->name,
		        p->help ? p->help : "required",
		        strcmp(p->name, "num_blocks") == 0 ? "; size=20G says it too" : "");
	}
	return 0;
}

json_t *words_to_params(
        const struct param *table, unsigned count, char *const *words, struct err *err)
{
	struct words w = {.table = table, .params = json_object(), .err = err};

	for (unsigned i = 0; i < count; i++) {
		const char *equals = strchr(words[i], '=');
		int rc = equals ? take_pair(&w, words[i], equals) : take_positional(&w, words[i]);

		if (rc) {
			json_decref(w.params);
			return NULL;
		}
	}
	if (apply_size(&w) || check_required(&w)) {
		json_decref(w.params);
		return NULL;
	}
	return w.params;
}

json_t *words_to_unchecked(unsigned count, char *const *words, struct err *err)
{
	json_t *params = json_object();

	for (unsigned i = 0; i < count; i++) {
		const char *equals = strchr(words[i], '=');
		autofree char *key = equals ? strndup(words[i], (size_t)(equals - words[i])) : NULL;
		json_t *value;

		if (!key) {
			err_set(err, -EINVAL, "'%s' is not of the form key=value", words[i]);
			json_decref(params);
			return NULL;
		}
		value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
		json_object_set_new(params, key, value ? value : json_string(equals + 1));
	}
	return params;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

int word_to_size(const char *text, struct size_word *out, struct err *err)
{
	const char *number = text;
	size_t digits;

	*out = (struct size_word){0};
	if (*number == '+' || *number == '-')
		out->sign = *number++;
	digits = strspn(number, "0123456789");
	if (digits && digits < 24 && strcmp(number + digits, "b") == 0) {
		char blocks[24] = "";

		memcpy(blocks, number, digits);
		out->in_blocks = true;
		if (parse_u64(blocks, &out->amount) == 0)
			return 0;
	} else if (parse_size_bytes(number, &out->amount) == 0) {
		return 0;
	}
	return err_set(err, -EINVAL,
	        "'%s' is not a size: write 20G, +1T (larger by), -512M (smaller by) or 1000b "
	        "(blocks)",
	        text);
}
