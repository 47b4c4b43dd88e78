/* raid_text_test.c: arrays in words. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cli/raid_text.h"

static json_t *json_of(const char *text)
{
	autofree char *copy = xstrdup(text);
	json_t *value;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	value = json_loads(copy, 0, NULL);
	assert_non_null(value);
	return value;
}

static const char bdevs[] = "[{'name':'D0','num_blocks':8,'block_size':512},"
                            "{'name':'R','num_blocks':4194304,'block_size':512}]";

static const char rebuilding[] =
        "{'name':'R','state':'online','raid_level':'raid1','num_base_bdevs':3,'redundancy':0,"
        "'process':{'type':'rebuild','target':'D2','progress':{'blocks':1000,'percent':37},"
        "'bytes_per_sec':125829120,'paused':false,'seconds_left':312},"
        "'check':{'state':'finished','different_blocks':2,'repaired_blocks':1},"
        "'base_bdevs_list':["
        "{'name':'D0','uuid':'00000000-0000-4000-8000-000000000001','is_configured':true},"
        "{'name':null,'uuid':'00000000-0000-0000-0000-000000000000','is_configured':false},"
        "{'name':'D2','uuid':'00000000-0000-4000-8000-000000000003','is_configured':true,"
        "'rebuilding':true}]}";

static const char problems[] =
        "[{'key':'raid degraded','bdev':'R','text':'R is degraded','action':'add a member'},"
        "{'key':'raid degraded','bdev':'D0','text':'R is degraded','action':'add a member'},"
        "{'key':'other','bdev':'D0','text':'not about the array','action':''},"
        "{'key':'raid check','bdev':'Q','text':'another array','action':''}]";

static char *printed(const char *raid, const char *list)
{
	struct cli cli = {.ascii = true};
	json_t *r = json_of(raid), *b = json_of(bdevs), *p = json_of(list);
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	raid_print(&cli, r, b, p, out);
	fclose(out);
	json_decref(r);
	json_decref(b);
	json_decref(p);
	return text;
}

static void an_array_is_told_with_what_to_do(void **state)
{
	autofree char *text = printed(rebuilding, problems);

	(void)state;
	assert_string_equal(text,
	        "R: raid1, rebuilding, 2 GiB, 1 of 3 members, can lose none\n"
	        "  rebuild of D2: 37 %, 120 MiB/s, 5 min left\n"
	        "  last check: finished; 2 blocks differed, 1 repaired\n"
	        "  problem: R is degraded\n"
	        "  action: add a member\n"
	        "  SLOT  MEMBER  STATE       UUID\n"
	        "     0  D0      in use      00000000-0000-4000-8000-000000000001\n"
	        "     1  -       missing\n"
	        "     2  D2      rebuilding  00000000-0000-4000-8000-000000000003\n");
}

static void check_process(const char *members, const char *expected)
{
	autofree char *object = xasprintf("{%s}", members);
	json_t *raid = json_of(object);
	autofree char *text = raid_process_text(raid);

	if (expected)
		assert_string_equal(text, expected);
	else
		assert_null(text);
	json_decref(raid);
}

static void what_is_under_way_is_told(void **state)
{
	(void)state;
	check_process("", NULL);
	check_process("'check':{'state':'finished'}", NULL);
	check_process("'check':{'state':'running','blocks':100,'different_blocks':3}",
	        "check: 100 blocks, 3 differ");
	check_process("'resync_regions_left':7", "resync: 7 regions left");
	check_process("'process':{'type':'resync','target':null,'progress':{'percent':0},"
	              "'bytes_per_sec':0,'paused':false}",
	        "resync: 0 %");
	check_process("'process':{'type':'rebuild','target':'D','progress':{'percent':5},"
	              "'bytes_per_sec':1048576,'paused':true}",
	        "rebuild of D: 5 %, paused");
}

static void check_state(const char *state, const char *list, const char *word, bool whole)
{
	autofree char *text = xasprintf("{'name':'R','state':'%s','num_base_bdevs':2,"
	                                "'base_bdevs_list':[%s]}",
	        state, list);
	json_t *raid = json_of(text), *none = json_array(), *some = json_of(problems);

	assert_string_equal(raid_state_word(raid), word);
	assert_int_equal(raid_is_whole(raid, none), whole);
	assert_false(raid_is_whole(raid, some));
	json_decref(raid);
	json_decref(none);
	json_decref(some);
}

static void a_state_is_one_word(void **state)
{
	static const char good[] = "{'is_configured':true}", bad[] = "{'is_configured':false}";
	static const char target[] = "{'is_configured':true,'rebuilding':true}";
	autofree char *all = xasprintf("%s,%s", good, good);
	autofree char *one = xasprintf("%s,%s", good, bad);
	autofree char *some = xasprintf("%s,%s", good, target);

	(void)state;
	check_state("online", all, "online", true);
	check_state("online", one, "degraded", false);
	check_state("online", some, "rebuilding", false);
	check_state("configuring", one, "waiting", false);
	check_state("offline", one, "offline", false);
}

static void check_time(uint64_t seconds, const char *expected)
{
	char text[64];

	raid_time_text(text, sizeof(text), seconds);
	assert_string_equal(text, expected);
}

static void a_time_is_as_short_as_it_can_be(void **state)
{
	(void)state;
	check_time(0, "0 s");
	check_time(59, "59 s");
	check_time(60, "1 min");
	check_time(3599, "59 min");
	check_time(3600, "1 h 0 min");
	check_time(47 * 3600 + 60, "47 h 1 min");
	check_time(48 * 3600, "2 days");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(an_array_is_told_with_what_to_do),
	        cmocka_unit_test(what_is_under_way_is_told),
	        cmocka_unit_test(a_state_is_one_word),
	        cmocka_unit_test(a_time_is_as_short_as_it_can_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
