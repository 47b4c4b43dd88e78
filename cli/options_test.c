/* options_test.c: command lines. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "rpc/rpc.h"

struct line {
	char *copy, *argv[16];
	struct cli cli;
	struct cli_args args;
	struct err err;
	int rc;
};

static void parse(struct line *line, const char *text)
{
	char *rest, *word;
	int argc = 0;

	*line = (struct line){.copy = xstrdup(text), .cli = {.timeout_s = 60}};
	rest = line->copy;
	while ((word = strsep(&rest, " ")))
		line->argv[argc++] = word;
	line->rc = cli_parse(argc, line->argv, &line->cli, &line->args, &line->err);
}

static void release(struct line *line)
{
	free(line->args.words);
	free(line->copy);
}

static void expect_error(const char *text, const char *expected)
{
	struct line line;

	parse(&line, text);
	assert_true(line.rc < 0);
	assert_string_equal(line.err.text, expected);
	release(&line);
}

static void options_stand_before_and_after_the_verb(void **state)
{
	struct line line;

	(void)state;
	parse(&line, "bellows -s /a --json tree N --timeout=7 --ascii");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.args.verb->name, "tree");
	assert_string_equal(line.cli.socket_path, "/a");
	assert_true(line.cli.json && line.cli.ascii);
	assert_int_equal(line.cli.timeout_s, 7);
	assert_int_equal(line.args.count, 1);
	assert_string_equal(line.args.words[0], "N");
	release(&line);
	parse(&line, "bellows -jt0 -s/b iostat -i0.5 -c 3");
	assert_int_equal(line.rc, 0);
	assert_true(line.cli.json);
	assert_int_equal(line.cli.timeout_s, 0);
	assert_string_equal(line.cli.socket_path, "/b");
	assert_string_equal(cli_option(&line.args, "interval"), "0.5");
	assert_string_equal(cli_option(&line.args, "count"), "3");
	release(&line);
}

static void a_negative_size_is_no_option(void **state)
{
	struct line line;

	(void)state;
	parse(&line, "bellows resize Disk0 -512M -n");
	assert_int_equal(line.rc, 0);
	assert_int_equal(line.args.count, 2);
	assert_string_equal(line.args.words[1], "-512M");
	assert_string_equal(cli_option(&line.args, "dry-run"), "");
	release(&line);
	parse(&line, "bellows delete -- -odd");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.args.words[0], "-odd");
	assert_null(cli_option(&line.args, "yes"));
	release(&line);
}

static void help_needs_no_words(void **state)
{
	struct line line;

	(void)state;
	parse(&line, "bellows resize --help");
	assert_int_equal(line.rc, 0);
	assert_true(line.args.help);
	release(&line);
	parse(&line, "bellows");
	assert_int_equal(line.rc, 0);
	assert_null(line.args.verb);
	release(&line);
}

static void what_is_wrong_is_named(void **state)
{
	(void)state;
	expect_error("bellows frob", "there is no verb 'frob'");
	expect_error("bellows tree --frob", "'tree' has no option '--frob'");
	expect_error("bellows -x tree", "there is no option '-x' that may stand before the verb");
	expect_error("bellows --dry-run resize a 1",
	        "there is no option '--dry-run' that may stand before the verb");
	expect_error("bellows tree --json=1", "--json takes no value");
	expect_error("bellows tree -s", "--socket needs PATH");
	expect_error("bellows -t soon tree", "--timeout takes whole seconds (0: none), not 'soon'");
	expect_error("bellows -t -5 tree", "--timeout takes whole seconds (0: none), not '-5'");
	expect_error("bellows resize Disk0", "'resize' needs more words: bellows resize NAME SIZE");
	expect_error("bellows raid", "'raid' needs a verb: bellows raid VERB [WORD...]");
	expect_error("bellows raid frob", "'raid' has no verb 'frob'");
	expect_error("bellows raid spare -j", "'raid spare' needs a verb: bellows raid spare "
	                                      "add|remove|list [WORD...]");
	expect_error("bellows raid spare frob", "'raid spare' has no verb 'frob'");
	expect_error("bellows raid grow R", "'raid grow' needs more words: bellows raid grow RAID "
	                                    "BDEV");
	expect_error("bellows raid pause R --repair", "'raid pause' has no option '--repair'");
	expect_error("bellows status now", "'status' does not take 'now': bellows status ");
}

static void groups_have_verbs(void **state)
{
	struct line line;

	(void)state;
	parse(&line, "bellows raid check R -r --json");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.args.verb->name, "raid check");
	assert_string_equal(line.args.verb->method, "bdev_raid_check");
	assert_int_equal(line.args.count, 1);
	assert_string_equal(cli_option(&line.args, "repair"), "");
	assert_true(line.cli.json);
	release(&line);
	parse(&line, "bellows raid -j spare add Disk9 --raid-bdev=R");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.args.verb->name, "raid spare add");
	assert_string_equal(cli_option(&line.args, "raid-bdev"), "R");
	release(&line);
	parse(&line, "bellows raid --help");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.args.verb->name, "raid");
	release(&line);
}

/* What stands in a table is a method's, word for word. */
static void check_method(const struct cli_verb *verb)
{
	const struct rpc_method *method = cli_method_find(verb->method);

	assert_non_null(method);
	for (const struct cli_option *o = verb->options; o && o->name; o++) {
		autofree char *name = xstrdup(o->name);
		const struct param *param = method->params;

		for (char *c = name; *c; c++)
			*c = *c == '-' ? '_' : *c;
		while (param->name && strcmp(param->name, name) != 0)
			param++;
		assert_non_null(param->name);
		assert_int_equal(param->type == PARAM_BOOL, o->value == NULL);
	}
}

static void check_verbs(const struct cli_verb *verbs, const char *group)
{
	for (const struct cli_verb *verb = verbs; verb->name; verb++) {
		unsigned words = 0, options = 0;

		assert_ptr_equal(cli_verb_find(verbs, cli_verb_word(verb)), verb);
		assert_int_equal(strncmp(verb->name, group, strlen(group)), 0);
		assert_non_null(verb->synopsis);
		assert_true((verb->run != NULL) != (verb->verbs != NULL));
		if (verb->verbs) {
			assert_true(!verb->options && !verb->words[0]);
			check_verbs(verb->verbs, verb->name);
		}
		if (verb->run == verb_method)
			check_method(verb);
		assert_true(strlen(verb->summary) + strlen("  completion   ") <= 80);
		assert_true(verb->words_min <= verb->words_max);
		while (words < CLI_WORDS_MAX && verb->words[words])
			words++;
		assert_true(words >= verb->words_max || verb->words_max == CLI_WORDS_ANY);
		for (const struct cli_option *o = verb->options; o && o->name; o++, options++)
			for (const struct cli_option *g = cli_global_options; g->name; g++) {
				assert_string_not_equal(o->name, g->name);
				assert_false(o->letter && o->letter == g->letter);
			}
		assert_true(options <= CLI_OPTIONS_MAX);
	}
}

static void the_table_of_verbs_is_whole(void **state)
{
	(void)state;
	check_verbs(cli_verbs, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(options_stand_before_and_after_the_verb),
	        cmocka_unit_test(a_negative_size_is_no_option),
	        cmocka_unit_test(help_needs_no_words),
	        cmocka_unit_test(what_is_wrong_is_named),
	        cmocka_unit_test(groups_have_verbs),
	        cmocka_unit_test(the_table_of_verbs_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
