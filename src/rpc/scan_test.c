/* scan_test.c: a value is found in any pieces, and nonsense at its first byte. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/scan.h"

/* Feeds text in two pieces; tells how it ends and how many bytes were used in all. */
static enum json_scan_result scan_split(const char *text, size_t len, size_t split, size_t *used)
{
	struct json_scan scan = {0};
	enum json_scan_result result = json_scan_feed(&scan, text, split, used);
	size_t more;

	if (result != JSON_SCAN_MORE)
		return result;
	assert_int_equal(*used, split);
	result = json_scan_feed(&scan, text + split, len - split, &more);
	*used += more;
	return result;
}

static const char *const good[] = {
        "{}",
        "[]",
        " \t\r\n{ }",
        "{\"a\":1}",
        "{\"a\" : [ 1 , -2.5e+3 , true, false , null, \"x\" ] , \"b\":{\"c\":{}}}",
        "\"text\"",
        "\"\"",
        "\"quote \\\" backslash \\\\ brace } \\u00e4\"",
        "{\"}\":\"{\",\"\\\"\":\"[\"}",
        "[[[[[[]]]]],{}]",
};

static void values_end_where_they_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		size_t len = strlen(good[i]), used;
		autofree char *tail = xasprintf("%s{\"next\"", good[i]);

		for (size_t split = 0; split <= len; split++) {
			assert_int_equal(
			        scan_split(tail, strlen(tail), split, &used), JSON_SCAN_DONE);
			assert_int_equal(used, len);
			assert_int_equal(scan_split(good[i], len - 1, split ? split - 1 : 0, &used),
			        JSON_SCAN_MORE);
		}
	}
}

static void bare_words_end_before_the_next_byte(void **state)
{
	static const char *const words[] = {"5 ", "-1.5e3,", "true{", "null\n", "0]"};
	size_t used;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i]);

		for (size_t split = 0; split < len; split++) {
			assert_int_equal(scan_split(words[i], len, split, &used), JSON_SCAN_DONE);
			assert_int_equal(used, len - 1);
		}
	}
	assert_int_equal(scan_split("12345", 5, 2, &used), JSON_SCAN_MORE);
}

static void nonsense_is_told_at_its_first_byte(void **state)
{
	/* The number of bytes up to and with the first that is wrong. */
	static const struct {
		const char *text;
		size_t used;
	} bad[] = {
	        {"hello\n", 1},
	        {"}", 1},
	        {"]", 1},
	        {",", 1},
	        {"  /* c */ {}", 3},
	        {"{\"a\":1,/*", 8},
	        {"{]", 2},
	        {"[}", 2},
	        {"{1:2}", 2},
	        {"{\"a\"}", 5},
	        {"{\"a\" 1}", 6},
	        {"{\"a\":}", 6},
	        {"{\"a\":1 2}", 8},
	        {"{\"a\":1,}", 8},
	        {"[1,]", 4},
	        {"[1 2]", 4},
	        {"[,]", 2},
	        {"\"a\nb\"", 3},
	        {"'a'", 1},
	        {"[1\x80]", 3},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t used, len = strlen(bad[i].text);

		for (size_t split = 0; split < len; split++) {
			assert_int_equal(scan_split(bad[i].text, len, split, &used), JSON_SCAN_BAD);
			assert_int_equal(used, bad[i].used);
		}
	}
	assert_int_equal(scan_split("\0{}", 3, 0, &(size_t){0}), JSON_SCAN_BAD);
}

static void depth_is_bounded(void **state)
{
	char text[2 * (JSON_SCAN_DEPTH_MAX + 1)];
	size_t used;

	(void)state;
	for (size_t i = 0; i < JSON_SCAN_DEPTH_MAX; i++) {
		text[i] = '[';
		text[JSON_SCAN_DEPTH_MAX + i] = ']';
	}
	assert_int_equal(scan_split(text, 2 * JSON_SCAN_DEPTH_MAX, 3, &used), JSON_SCAN_DONE);
	memset(text, '[', JSON_SCAN_DEPTH_MAX + 1);
	assert_int_equal(scan_split(text, JSON_SCAN_DEPTH_MAX + 1, 3, &used), JSON_SCAN_BAD);
}

static void number_of_values_is_bounded(void **state)
{
	size_t len = 2 * JSON_SCAN_VALUES_MAX + 2, used;
	autofree char *text = xcalloc(1, len);

	(void)state;
	text[0] = '[';
	for (size_t i = 1; i < len; i++)
		text[i] = i % 2 ? '0' : ',';
	text[2 * (JSON_SCAN_VALUES_MAX - 1)] = ']';
	assert_int_equal(scan_split(text, len, 0, &used), JSON_SCAN_DONE);
	text[2 * (JSON_SCAN_VALUES_MAX - 1)] = ',';
	assert_int_equal(scan_split(text, len, 0, &used), JSON_SCAN_BAD);
}

static void assert_span(struct json_span span, const char *text)
{
	assert_int_equal(span.len, strlen(text));
	assert_memory_equal(span.at, text, span.len);
}

static void walks_give_the_text_as_written(void **state)
{
	static const char text[] =
	        " { \"id\" :9.50, \"a\\\"}\":{\"x\":[1,\"]\"]} ,\"b\" : \"q\\\\\" } ";
	struct json_span value = json_span_trim(text, sizeof(text) - 1), key;
	struct json_walk walk = json_walk_begin(value);

	(void)state;
	assert_true(json_walk_member(&walk, &key, &value));
	assert_span(key, "\"id\"");
	assert_span(value, "9.50");
	assert_true(json_walk_member(&walk, &key, &value));
	assert_span(key, "\"a\\\"}\"");
	assert_span(value, "{\"x\":[1,\"]\"]}");
	assert_true(json_walk_member(&walk, &key, &value));
	assert_span(key, "\"b\"");
	assert_span(value, "\"q\\\\\"");
	assert_false(json_walk_member(&walk, &key, &value));
}

static void walks_over_lists(void **state)
{
	static const char text[] = "[{\"a\":[1,2]} , [] ,7,null ]";
	static const char *const items[] = {"{\"a\":[1,2]}", "[]", "7", "null"};
	struct json_walk walk = json_walk_begin(json_span_trim(text, sizeof(text) - 1));
	struct json_span item;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		assert_true(json_walk_item(&walk, &item));
		assert_span(item, items[i]);
	}
	assert_false(json_walk_item(&walk, &item));
	walk = json_walk_begin(json_span_trim("[ ]", 3));
	assert_false(json_walk_item(&walk, &item));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(values_end_where_they_end),
	        cmocka_unit_test(bare_words_end_before_the_next_byte),
	        cmocka_unit_test(nonsense_is_told_at_its_first_byte),
	        cmocka_unit_test(depth_is_bounded),
	        cmocka_unit_test(number_of_values_is_bounded),
	        cmocka_unit_test(walks_give_the_text_as_written),
	        cmocka_unit_test(walks_over_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
