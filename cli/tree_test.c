/* tree_test.c: the drawing of a stack, and tables. */

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/tree.h"

static const char sample[] =
        "{'bdevs':["
        "{'name':'Disk0','module':'aio','block_size':4096,'num_blocks':262144,'policy':'follow',"
        "'why':'the file has 1 GiB','holders':['nbd export d0'],'above':["
        "{'name':'Raid0','module':'raid','block_size':4096,'num_blocks':524288,'policy':'hold',"
        "'why':'held','holders':[],'above':[{'name':'Top','module':'passthru','block_size':4096,"
        "'num_blocks':524288,'policy':'follow','why':'','holders':[],'above':[]}]},"
        "{'name':'P1','module':'passthru','block_size':4096,'num_blocks':1,'policy':'follow',"
        "'why':'as Disk0','holders':[],'above':[]}]},"
        "{'name':'Disk1','module':'null','block_size':512,'num_blocks':3,'policy':'follow',"
        "'why':'chosen','holders':[],'above':[{'name':'Raid0','shown_on':'Disk0'}]}"
        "],'waiting':[{'name':'W','module':'delay','missing':'Disk9'}]}";

static json_t *sample_tree(void)
{
	autofree char *text = xstrdup(sample);
	json_t *tree;

	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	tree = json_loads(text, 0, NULL);
	assert_non_null(tree);
	return tree;
}

static char *drawn(const json_t *tree, bool ascii)
{
	struct cli cli = {.ascii = ascii};
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	tree_draw(&cli, tree, out);
	fclose(out);
	return text;
}

static void a_tree_is_drawn_with_its_lines(void **state)
{
	json_t *tree = sample_tree();
	autofree char *text = drawn(tree, true);

	(void)state;
	assert_string_equal(text, "NAME     KIND         SIZE  BLOCK  POLICY  WHY THIS SIZE\n"
	                          "Disk0    aio         1 GiB   4096  follow  the file has 1 GiB\n"
	                          "|-nbd export d0\n"
	                          "|-Raid0  raid        2 GiB   4096  hold    held\n"
	                          "| `-Top  passthru    2 GiB   4096  follow\n"
	                          "`-P1     passthru    4 KiB   4096  follow  as Disk0\n"
	                          "Disk1    null      1.5 KiB    512  follow  chosen\n"
	                          "`-Raid0 (shown on Disk0)\n"
	                          "\n"
	                          "W (delay) waits for its base Disk9\n");
	json_decref(tree);
}

static void lines_are_drawn_as_the_locale_can(void **state)
{
	json_t *tree = sample_tree();
	autofree char *text = NULL;

	(void)state;
	assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
	text = drawn(tree, false);
	assert_non_null(strstr(text, "\n├─Raid0  "));
	assert_non_null(strstr(text, "\n│ └─Top  "));
	assert_non_null(strstr(text, "\n└─P1  "));
	setlocale(LC_ALL, "C");
	json_decref(tree);
}

static void bdevs_are_found_and_counted_once(void **state)
{
	json_t *tree = sample_tree(), *roots = json_object_get(tree, "bdevs");

	(void)state;
	assert_int_equal(tree_count(roots), 5);
	assert_string_equal(cli_str(tree_find(roots, "Raid0"), "policy", ""), "hold");
	assert_string_equal(cli_str(tree_find(roots, "Top"), "module", ""), "passthru");
	assert_null(tree_find(roots, "W"));
	json_decref(tree);
}

static void an_empty_tree_says_so(void **state)
{
	json_t *tree = json_pack("{s:[], s:[]}", "bdevs", "waiting");
	autofree char *text = drawn(tree, true);

	(void)state;
	assert_string_equal(text, "no bdevs\n");
	json_decref(tree);
}

static void tables_leave_out_empty_columns_and_defuse_text(void **state)
{
	static const struct table_column columns[] = {
	        {"A", false}, {"EMPTY", true}, {"NUMBER", true}, {"TEXT", false}};
	struct cli cli = {.ascii = true};
	struct table *table = table_new(columns, ARRAY_SIZE(columns));
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	table_row(table, (const char *[]){"x", "", "1", "evil\x1b[2J"});
	table_row(table, (const char *[]){"longer", NULL, "1234567", ""});
	table_print(&cli, table, out);
	fclose(out);
	assert_string_equal(text, "A        NUMBER  TEXT\n"
	                          "x             1  evil?[2J\n"
	                          "longer  1234567\n");
	free(text);
}

static void columns_are_counted_not_bytes(void **state)
{
	(void)state;
	assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
	assert_int_equal(text_columns("abc"), 3);
	assert_int_equal(text_columns("├─ü"), 3);
	assert_int_equal(text_columns("日本"), 4);
	assert_int_equal(text_columns("\xff\xfe"
	                              "a"),
	        3);
	setlocale(LC_ALL, "C");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_tree_is_drawn_with_its_lines),
	        cmocka_unit_test(lines_are_drawn_as_the_locale_can),
	        cmocka_unit_test(bdevs_are_found_and_counted_once),
	        cmocka_unit_test(an_empty_tree_says_so),
	        cmocka_unit_test(tables_leave_out_empty_columns_and_defuse_text),
	        cmocka_unit_test(columns_are_counted_not_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
