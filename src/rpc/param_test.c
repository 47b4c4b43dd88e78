/* param_test.c: which JSON a table takes, what comes out, and what goes back. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/param.h"

static const char *const colours[] = {"red", "green", "blue", NULL};

struct all_params {
	bool flag;
	uint8_t small;
	uint32_t medium;
	int32_t signed_number;
	uint64_t large, limited, counted;
	bool counted_given;
	char *text, *with_default;
	uuid_t uuid;
	int colour;
	struct param_strings names;
	struct param_u64s numbers;
	json_t *anything;
	char *hidden;
};

static const struct param table[] = {
        {PARAM(struct all_params, large, PARAM_U64), .required = true, .unit = "blocks",
                .help = "a number"},
        {PARAM(struct all_params, flag, PARAM_BOOL), .def = true},
        {PARAM(struct all_params, small, PARAM_U8)},
        {PARAM(struct all_params, medium, PARAM_U32), .def = 7},
        {PARAM(struct all_params, signed_number, PARAM_I32), .def = (uint64_t)-1},
        {PARAM(struct all_params, limited, PARAM_U64), .def = 5, .min = 5, .max = 10},
        {PARAM(struct all_params, counted, PARAM_U64),
                .given = offsetof(struct all_params, counted_given)},
        {0},
};

static const struct param more[] = {
        {PARAM(struct all_params, text, PARAM_STRING)},
        {PARAM(struct all_params, with_default, PARAM_STRING), .def_text = "here"},
        {PARAM(struct all_params, uuid, PARAM_UUID)},
        {PARAM_NAMED("color", struct all_params, colour, PARAM_ENUM), .def = 1, .values = colours},
        {PARAM(struct all_params, names, PARAM_STRINGS), .max_items = 3},
        {PARAM(struct all_params, numbers, PARAM_U64S), .max = 100},
        {PARAM(struct all_params, anything, PARAM_JSON)},
        {PARAM(struct all_params, hidden, PARAM_STRING), .secret = true},
        {0},
};

static const struct param *const tables[] = {table, more, NULL};

/* Text with ' for ". */
static json_t *parse(const char *text)
{
	autofree char *json = xstrdup(text);
	json_error_t error;
	json_t *value;

	for (char *c = json; *c; c++)
		if (*c == '\'')
			*c = '"';
	value = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	assert_non_null(value);
	return value;
}

static int decode(const char *text, unsigned flags, struct all_params *out, struct err *err)
{
	json_t *value = parse(text);
	int rc;

	memset(out, 0, sizeof(*out));
	*err = (struct err)ERR_NONE;
	rc = params_decode(tables, flags, value, out, err);
	json_decref(value);
	assert_int_equal(rc, err->code);
	return rc;
}

static void takes(const char *text, struct all_params *out)
{
	struct err err;

	if (decode(text, 0, out, &err))
		fail_msg("%s: %s", text, err.text);
}

/* The error names the parameter. */
static void refuses(const char *text, const char *name)
{
	struct all_params out;
	struct err err;

	if (!decode(text, 0, &out, &err))
		fail_msg("%s was taken", text);
	assert_int_equal(err.code, -EINVAL);
	if (!strstr(err.text, name))
		fail_msg("%s: '%s' does not name %s", text, err.text, name);
	params_release(tables, &out);
}

static void defaults_apply(void **state)
{
	struct all_params p;

	(void)state;
	takes("{'large': 3}", &p);
	assert_true(p.flag);
	assert_int_equal(p.small, 0);
	assert_int_equal(p.medium, 7);
	assert_int_equal(p.signed_number, -1);
	assert_int_equal(p.large, 3);
	assert_int_equal(p.limited, 5);
	assert_false(p.counted_given);
	assert_null(p.text);
	assert_string_equal(p.with_default, "here");
	assert_true(uuid_is_null(p.uuid));
	assert_int_equal(p.colour, 1);
	assert_int_equal(p.names.count, 0);
	assert_null(p.anything);
	params_release(tables, &p);
}

static void every_type_is_taken(void **state)
{
	char uuid[UUID_STR_LEN];
	struct all_params p;

	(void)state;
	takes("{'large': 9223372036854775807, 'flag': false, 'small': 255, 'medium': 4294967295,"
	      "'signed_number': -2147483648, 'limited': 10, 'counted': 0, 'text': "
	      "'\\u00e4/\\u0001',"
	      "'with_default': '', 'uuid': 'AAAAAAAA-bbbb-CCCC-dddd-eeeeeeeeeeee',"
	      "'color': 'blue', 'names': ['a', ''], 'numbers': [1, 100], 'anything': {'x': [null]},"
	      "'hidden': 'key'}",
	        &p);
	assert_false(p.flag);
	assert_int_equal(p.small, 255);
	assert_int_equal(p.medium, UINT32_MAX);
	assert_int_equal(p.signed_number, INT32_MIN);
	assert_true(p.large == INT64_MAX);
	assert_int_equal(p.limited, 10);
	assert_true(p.counted_given);
	assert_string_equal(p.text, "\xc3\xa4/\x01");
	assert_string_equal(p.with_default, "");
	uuid_unparse_lower(p.uuid, uuid);
	assert_string_equal(uuid, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
	assert_int_equal(p.colour, 2);
	assert_int_equal(p.names.count, 2);
	assert_string_equal(p.names.items[1], "");
	assert_int_equal(p.numbers.items[1], 100);
	assert_true(json_is_object(p.anything));
	params_release(tables, &p);
	assert_null(p.text);
	assert_null(p.anything);
}

static void integers_may_have_an_exponent(void **state)
{
	struct all_params p;

	(void)state;
	takes("{'large': 6.5e4}", &p);
	assert_int_equal(p.large, 65000);
	params_release(tables, &p);
	takes("{'large': 9007199254740992.0, 'signed_number': -2e3}", &p);
	assert_true(p.large == 9007199254740992ULL);
	assert_int_equal(p.signed_number, -2000);
	params_release(tables, &p);
	takes("{'large': -0}", &p);
	params_release(tables, &p);
	refuses("{'large': 6.5}", "large");
	refuses("{'large': 1e-3}", "large");
	refuses("{'large': 9007199254740994.0}", "large"); /* no longer surely exact */
	refuses("{'large': 1e300}", "large");
}

static void numbers_out_of_range_are_refused(void **state)
{
	(void)state;
	refuses("{'large': -1}", "large");
	refuses("{'large': 1, 'small': 256}", "small");
	refuses("{'large': 1, 'small': -1}", "small");
	refuses("{'large': 1, 'medium': 4294967296}", "medium");
	refuses("{'large': 1, 'signed_number': 2147483648}", "signed_number");
	refuses("{'large': 1, 'signed_number': -2147483649}", "signed_number");
	refuses("{'large': 1, 'limited': 4}", "limited");
	refuses("{'large': 1, 'limited': 11}", "limited");
	refuses("{'large': 1, 'numbers': [101]}", "numbers");
}

static void wrong_types_are_refused(void **state)
{
	static const char *const names[] = {"large", "flag", "small", "medium", "signed_number",
	        "text", "uuid", "color", "names", "numbers"};
	/* Each name with what it is not; anything takes all of them. */
	static const char *const values[] = {
	        "'5'", "1", "'x'", "true", "[]", "12", "{}", "5", "'a'", "[-1]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		autofree char *wrong = xasprintf("{'%s': %s}", names[i], values[i]);
		autofree char *null = xasprintf("{'%s': null}", names[i]);
		autofree char *in_list = xasprintf("{'%s': [null]}", names[i]);

		refuses(wrong, names[i]);
		refuses(null, names[i]);
		refuses(in_list, names[i]);
	}
	refuses("[1, 2]", "object");
	refuses("5", "object");
}

static void texts_are_checked(void **state)
{
	(void)state;
	refuses("{'large': 1, 'text': 'a\\u0000b'}", "text");
	refuses("{'large': 1, 'names': ['a\\u0000b']}", "names");
	refuses("{'large': 1, 'color': 'Red'}", "color");
	refuses("{'large': 1, 'color': 'red\\u0000'}", "color");
	refuses("{'large': 1, 'uuid': 'zz'}", "uuid");
	refuses("{'large': 1, 'uuid': 'aaaaaaaabbbbccccddddeeeeeeeeeeee'}", "uuid");
	refuses("{'large': 1, 'uuid': 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\\u0000'}", "uuid");
	refuses("{'large': 1, 'names': ['1', '2', '3', '4']}", "names");
}

static void long_texts_are_refused(void **state)
{
	json_t *params = json_pack("{s:i}", "large", 1);
	autofree char *text = xcalloc(1, PARAM_STRING_MAX_BYTES + 2);
	struct all_params p = {0};
	struct err err = ERR_NONE;

	(void)state;
	memset(text, 'x', PARAM_STRING_MAX_BYTES);
	json_object_set_new(params, "text", json_string(text));
	assert_int_equal(params_decode(tables, 0, params, &p, &err), 0);
	params_release(tables, &p);
	text[PARAM_STRING_MAX_BYTES] = 'x';
	json_object_set_new(params, "text", json_string(text));
	assert_int_equal(params_decode(tables, 0, params, &p, &err), -EINVAL);
	params_release(tables, &p);
	json_decref(params);
}

static void names_are_strict(void **state)
{
	struct all_params p;
	struct err err;

	(void)state;
	refuses("{}", "large");
	refuses("{'medium': 3}", "large");
	refuses("{'large': 1, 'larg': 1}", "larg");
	refuses("{'large': 1, 'Large': 1}", "Large");
	assert_int_equal(decode("{'large': 1, 'larg': 1}", PARAM_ALLOW_UNKNOWN, &p, &err), 0);
	params_release(tables, &p);
	memset(&p, 0, sizeof(p));
	assert_int_equal(params_decode(tables, 0, NULL, &p, &err), -EINVAL);
	params_release(tables, &p);
}

static void encoding_gives_back_what_was_given(void **state)
{
	static const char text[] =
	        "{'large': 9, 'flag': false, 'small': 3, 'medium': 8, 'signed_number': -5,"
	        "'limited': 6, 'counted': 0, 'text': 't', 'with_default': 'w',"
	        "'uuid': 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee', 'color': 'red', 'names': ['n'],"
	        "'numbers': [], 'anything': [1, {'x': null}]}";
	json_t *expected = parse(text), *encoded;
	struct all_params p;

	(void)state;
	takes(text, &p);
	encoded = params_encode(tables, &p, false);
	assert_true(json_equal(encoded, expected));
	json_decref(encoded);
	encoded = params_encode(tables, &p, true);
	assert_true(json_equal(encoded, expected));
	json_decref(encoded);
	json_decref(expected);
	params_release(tables, &p);
}

static void defaults_are_not_encoded_unless_all(void **state)
{
	json_t *expected = parse("{'large': 3}"), *encoded;
	struct all_params p;

	(void)state;
	takes("{'large': 3, 'hidden': 'secret'}", &p);
	encoded = params_encode(tables, &p, false);
	assert_true(json_equal(encoded, expected));
	json_decref(encoded);
	json_decref(expected);
	expected = parse("{'large': 3, 'flag': true, 'small': 0, 'medium': 7, 'signed_number': -1,"
	                 "'limited': 5, 'with_default': 'here', 'color': 'green'}");
	encoded = params_encode(tables, &p, true);
	assert_true(json_equal(encoded, expected));
	json_decref(encoded);
	json_decref(expected);
	params_release(tables, &p);
}

static void tables_describe_themselves(void **state)
{
	json_t *list = params_describe(tables), *first = json_array_get(list, 0);
	json_t *color = json_array_get(list, 10);

	(void)state;
	assert_int_equal(json_array_size(list), 15);
	assert_string_equal(json_string_value(json_object_get(first, "name")), "large");
	assert_string_equal(json_string_value(json_object_get(first, "unit")), "blocks");
	assert_true(json_is_true(json_object_get(first, "required")));
	assert_null(json_object_get(first, "default"));
	assert_string_equal(json_string_value(json_object_get(color, "default")), "green");
	assert_int_equal(json_array_size(json_object_get(color, "values")), 3);
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(defaults_apply),
	        cmocka_unit_test(every_type_is_taken),
	        cmocka_unit_test(integers_may_have_an_exponent),
	        cmocka_unit_test(numbers_out_of_range_are_refused),
	        cmocka_unit_test(wrong_types_are_refused),
	        cmocka_unit_test(texts_are_checked),
	        cmocka_unit_test(long_texts_are_refused),
	        cmocka_unit_test(names_are_strict),
	        cmocka_unit_test(encoding_gives_back_what_was_given),
	        cmocka_unit_test(defaults_are_not_encoded_unless_all),
	        cmocka_unit_test(tables_describe_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
