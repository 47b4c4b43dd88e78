/* words_test.c: what people type, and what the daemon gets. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "rpc/param.h"

struct sample {
	char *name, *base;
	uint64_t num_blocks;
	uint32_t block_size, delay;
	int32_t numa_id;
	bool readonly;
	int mode;
	struct param_strings members;
	struct param_u64s numbers;
	json_t *extra;
};

static const char *const modes[] = {"follow", "hold", NULL};

static const struct param sample_table[] = {
        {PARAM(struct sample, base, PARAM_STRING), .required = true},
        {PARAM(struct sample, name, PARAM_STRING)},
        {PARAM(struct sample, num_blocks, PARAM_U64), .unit = "blocks"},
        {PARAM(struct sample, delay, PARAM_U32), .unit = "us"},
        {PARAM(struct sample, block_size, PARAM_U32), .unit = "KiB"},
        {PARAM(struct sample, numa_id, PARAM_I32)},
        {PARAM(struct sample, readonly, PARAM_BOOL)},
        {PARAM(struct sample, mode, PARAM_ENUM), .values = modes},
        {PARAM(struct sample, numbers, PARAM_U64S)},
        {PARAM(struct sample, extra, PARAM_JSON)},
        {PARAM(struct sample, members, PARAM_STRINGS), .required = true},
        {0},
};

static const struct param file_table[] = {
        {PARAM(struct sample, name, PARAM_STRING)},
        {PARAM_NAMED("filename", struct sample, base, PARAM_STRING), .required = true,
                .is_path = true},
        {0},
};

static const struct param disk_table[] = {
        {PARAM(struct sample, block_size, PARAM_U32), .required = true, .unit = "bytes"},
        {PARAM(struct sample, num_blocks, PARAM_U64), .required = true, .unit = "blocks"},
        {PARAM(struct sample, name, PARAM_STRING), .required = true},
        {0},
};

/* Words separated by blanks, as params in one line of JSON; or "error: " and why. The caller
 * frees. */
static char *params_of(const struct param *table, const char *line)
{
	char *words[16], *copy = xstrdup(line), *rest = copy, *word, *text;
	struct err err = ERR_NONE;
	unsigned count = 0;
	json_t *params;

	while ((word = strsep(&rest, " ")))
		if (*word)
			words[count++] = word;
	params = words_to_params(table, count, words, &err);
	assert_int_equal(params == NULL, err.code != 0);
	text = params ? json_dumps(params, JSON_COMPACT) : xasprintf("error: %s", err.text);
	json_decref(params);
	free(copy);
	return text;
}

#define expect(table, line, expected)                                                              \
	do {                                                                                       \
		autofree char *text_ = params_of(table, line);                                     \
		assert_string_equal(text_, expected);                                              \
	} while (0)

static void words_without_equals_fill_name_then_what_is_required(void **state)
{
	(void)state;
	expect(sample_table, "N B m1", "{\"name\":\"N\",\"base\":\"B\",\"members\":[\"m1\"]}");
	expect(sample_table, "N B m1 m2 m3",
	        "{\"name\":\"N\",\"base\":\"B\",\"members\":[\"m1\",\"m2\",\"m3\"]}");
	expect(sample_table, "members=a,b base=B", "{\"members\":[\"a\",\"b\"],\"base\":\"B\"}");
	expect(disk_table, "D 512 100", "{\"name\":\"D\",\"block_size\":512,\"num_blocks\":100}");
}

static void values_become_what_the_table_says(void **state)
{
	(void)state;
	expect(sample_table, "N B m num_blocks=7 delay=5ms block_size=1M numa_id=-1",
	        "{\"name\":\"N\",\"base\":\"B\",\"members\":[\"m\"],\"num_blocks\":7,"
	        "\"delay\":5000,\"block_size\":1024,\"numa_id\":-1}");
	expect(sample_table, "N B m readonly=yes mode=hold numbers=1,2 extra={\"a\":[null]}",
	        "{\"name\":\"N\",\"base\":\"B\",\"members\":[\"m\"],\"readonly\":true,"
	        "\"mode\":\"hold\",\"numbers\":[1,2],\"extra\":{\"a\":[null]}}");
	expect(sample_table,
	        "N base=a=b members=", "{\"name\":\"N\",\"base\":\"a=b\",\"members\":[]}");
	expect(sample_table, "N B m num_blocks=9223372036854775807",
	        "{\"name\":\"N\",\"base\":\"B\",\"members\":[\"m\"],"
	        "\"num_blocks\":9223372036854775807}");
}

/* The server's folder is not the caller's. */
static void paths_become_absolute(void **state)
{
	autofree char *here = realpath(".", NULL);
	autofree char *expected = xasprintf("{\"name\":\"D\",\"filename\":\"%s/a/disk\"}", here);

	(void)state;
	expect(file_table, "D a/disk", expected);
	expect(file_table, "D /a/disk", "{\"name\":\"D\",\"filename\":\"/a/disk\"}");
	expect(file_table, "D filename=", "{\"name\":\"D\",\"filename\":\"\"}");
}

static void a_size_stands_for_blocks(void **state)
{
	(void)state;
	expect(disk_table, "D size=1M", "{\"name\":\"D\",\"block_size\":512,\"num_blocks\":2048}");
	expect(disk_table, "D size=1M block_size=4k",
	        "{\"name\":\"D\",\"block_size\":4096,\"num_blocks\":256}");
	expect(disk_table, "D size=1000",
	        "error: size: 1000 is not a whole number of blocks of 512 bytes");
	expect(disk_table, "D size=1M num_blocks=5",
	        "error: give either size or num_blocks, not both");
	expect(disk_table, "D size=1M block_size=0",
	        "error: size: 1M is not a whole number of blocks of 0 bytes");
	expect(sample_table, "N B m size=1M",
	        "error: there is no parameter 'size'; there are: base, name, num_blocks, delay, "
	        "block_size, numa_id, readonly, mode, numbers, extra, members");
}

static void what_is_wrong_is_named(void **state)
{
	(void)state;
	expect(sample_table, "N B m num_blocks=1G",
	        "error: num_blocks: '1G' is not a whole number "
	        "(blocks)");
	expect(sample_table, "N B m num_blocks=-1",
	        "error: num_blocks: '-1' is not a whole number "
	        "(blocks)");
	expect(sample_table, "N B m num_blocks=9223372036854775808",
	        "error: num_blocks: 9223372036854775808 is too large");
	expect(sample_table, "N B m delay=5q",
	        "error: delay: '5q' is not a time (5ms, 2s, or a number of us)");
	expect(sample_table, "N B m delay=1500ns",
	        "error: delay: '1500ns' is not a whole number of us");
	expect(sample_table, "N B m delay=99999999999999999999s",
	        "error: delay: '99999999999999999999s' is not a time (5ms, 2s, or a number of us)");
	expect(sample_table, "N B m block_size=1000B",
	        "error: block_size: '1000B' is not a whole number of KiB");
	expect(sample_table, "N B m readonly=maybe",
	        "error: readonly: 'maybe' is neither true nor false");
	expect(sample_table, "N B m mode=Hold", "error: mode: 'Hold' is none of follow, hold");
	expect(sample_table, "N B m numbers=1,,2", "error: numbers: '' is not a whole number");
	expect(sample_table, "N B m name=again", "error: name is given twice");
	expect(sample_table, "N B m mode=hold mode=hold", "error: mode is given twice");
	expect(sample_table, "N", "error: base is missing (required)");
	expect(disk_table, "D", "error: block_size is missing (required)");
	expect(disk_table, "D 1 2 3",
	        "error: '3' is one word too many; set a parameter as key=value");
	expect(NULL, "a=b", "error: there is no parameter 'a'; there are none");
	expect(NULL, "", "{}");
}

static void unknown_methods_get_json_where_it_parses(void **state)
{
	char *words[] = {(char *)"a=1", (char *)"b=x", (char *)"c=[true]", (char *)"d="};
	char *plain[] = {(char *)"word"};
	struct err err = ERR_NONE;
	json_t *params = words_to_unchecked(4, words, &err);
	autofree char *text = json_dumps(params, JSON_COMPACT);

	(void)state;
	assert_string_equal(text, "{\"a\":1,\"b\":\"x\",\"c\":[true],\"d\":\"\"}");
	json_decref(params);
	assert_null(words_to_unchecked(1, plain, &err));
	assert_string_equal(err.text, "'word' is not of the form key=value");
}

static void check_size(const char *text, char sign, bool in_blocks, uint64_t amount)
{
	struct size_word size;
	struct err err = ERR_NONE;

	assert_int_equal(word_to_size(text, &size, &err), 0);
	assert_int_equal(size.sign, sign);
	assert_int_equal(size.in_blocks, in_blocks);
	assert_int_equal(size.amount, amount);
}

static void sizes_are_absolute_or_changes_in_bytes_or_blocks(void **state)
{
	static const char *const bad[] = {"", "+", "G", "1x", "--1", "1.5b", "b", "+ 1G", "1G1",
	        "99999999999999999999b", "0x10", "-b", "20000000000G"};
	struct size_word size;

	(void)state;
	check_size("20G", 0, false, GIB(20));
	check_size("+1T", '+', false, GIB(1024));
	check_size("-512M", '-', false, MIB(512));
	check_size("1.5K", 0, false, 1536);
	check_size("1000b", 0, true, 1000);
	check_size("-8b", '-', true, 8);
	check_size("1000B", 0, false, 1000);
	check_size("18446744073709551615b", 0, true, UINT64_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = ERR_NONE;

		assert_true(word_to_size(bad[i], &size, &err) < 0);
		assert_true(strlen(err.text) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(words_without_equals_fill_name_then_what_is_required),
	        cmocka_unit_test(values_become_what_the_table_says),
	        cmocka_unit_test(paths_become_absolute),
	        cmocka_unit_test(a_size_stands_for_blocks),
	        cmocka_unit_test(what_is_wrong_is_named),
	        cmocka_unit_test(unknown_methods_get_json_where_it_parses),
	        cmocka_unit_test(sizes_are_absolute_or_changes_in_bytes_or_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
