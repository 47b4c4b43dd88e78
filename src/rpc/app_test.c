/*
 * app_test.c: every method of the server itself answers, with the members that clients look at; and
 * every table is sound.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/method.h"
#include "rpc/server.h"
#include "tests/lib/inproc.h"
#include "tests/lib/test_modules.h"

static int start(void **state)
{
	(void)state;
	inproc_start(2);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

/* An object has these members, separated by spaces, in this order, at least. */
static void has_members(const json_t *object, const char *members)
{
	autofree char *copy = xstrdup(members);
	char *rest = copy, *member;
	void *iter = json_object_iter((json_t *)(uintptr_t)object);

	while ((member = strsep(&rest, " "))) {
		while (iter && strcmp(json_object_iter_key(iter), member) != 0)
			iter = json_object_iter_next((json_t *)(uintptr_t)object, iter);
		if (!iter)
			fail_msg("no %s where it should be in %s", member, json_dumps(object, 0));
	}
}

static bool lists(const json_t *list, const char *text)
{
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		if (strcmp(json_string_value(item), text) == 0)
			return true;
	return false;
}

/* ---- tables -----------------------------------------------------------------------------------
 */

static void check_param(const struct rpc_entry *entry, const struct param *p)
{
	const char *name = entry->method->name;
	bool number = p->type == PARAM_U8 || p->type == PARAM_U32 || p->type == PARAM_U64;

	if (!p->help || !p->help[0])
		fail_msg("%s: %s has no help", name, p->name);
	if (p->type == PARAM_ENUM && !p->values)
		fail_msg("%s: %s has no values", name, p->name);
	/* Else a save of all values could not be loaded. */
	if (number && !p->required && !p->given && p->max && (p->def < p->min || p->def > p->max))
		fail_msg("%s: the default of %s is out of range", name, p->name);
	if (p->required && p->def_text)
		fail_msg("%s: %s is required and has a default", name, p->name);
	assert_true(p->offset < entry->method->params_bytes);
	assert_true(p->given < entry->method->params_bytes);
}

static void tables_are_sound(void **state)
{
	const struct rpc_entry *entry;

	(void)state;
	for (size_t i = 0; (entry = rpc_entry_at(i)); i++) {
		if (!entry->method->summary || !entry->method->result_help)
			fail_msg("%s lacks a summary or what its result is", entry->method->name);
		for (const struct param *p = entry->method->params; p && p->name; p++) {
			check_param(entry, p);
			for (const struct param *q = entry->method->params; q < p; q++)
				assert_string_not_equal(p->name, q->name);
		}
	}
}

static char docs[1 << 20];

static void keep_docs(const char *text)
{
	strncat(docs, text, sizeof(docs) - strlen(docs) - 1);
}

static void every_method_is_described(void **state)
{
	const struct rpc_entry *entry;
	json_t *list = rpc_dump_json();
	size_t i;

	(void)state;
	rpc_dump_docs(keep_docs);
	for (i = 0; (entry = rpc_entry_at(i)); i++) {
		autofree char *heading = xasprintf("\n### %s\n", entry->method->name);

		assert_non_null(strstr(docs, heading));
		has_members(json_array_get(list, i),
		        "name summary result module states takes_no_params relaxed params");
	}
	assert_int_equal(json_array_size(list), i);
	json_decref(list);
}

/* ---- the server -------------------------------------------------------------------------------
 */

static void version_has_the_known_shape(void **state)
{
	json_t *result = inproc_result("spdk_get_version", NULL);

	(void)state;
	has_members(result, "version fields");
	has_members(json_object_get(result, "fields"), "major minor patch suffix commit");
	json_decref(result);
	inproc_error(RPC_INVALID_PARAMS, "no parameters", "spdk_get_version", "{}");
}

static void methods_are_listed_by_state(void **state)
{
	json_t *all =
	        inproc_result("rpc_get_methods", "{'current': false, 'include_aliases': false}");
	json_t *now = inproc_result("rpc_get_methods", "{'current': true}");

	(void)state;
	assert_true(lists(all, "framework_start_init"));
	assert_false(lists(now, "framework_start_init"));
	assert_true(lists(now, "bdev_get_bdevs"));
	assert_true(lists(now, "bdev_plain_create"));
	assert_true(lists(now, "bdev_through_delete"));
	json_decref(all);
	json_decref(now);
	inproc_error(RPC_INVALID_PARAMS, "", "rpc_get_methods", "{'x': 1}");
	inproc_error(-1, "before the start", "framework_start_init", NULL);
	inproc_ok("framework_wait_init", NULL);
	inproc_ok("framework_wait_init", "{'anything': 1}");
}

static void subsystems_come_in_order(void **state)
{
	json_t *list = inproc_result("framework_get_subsystems", NULL), *entry;
	json_t *seen = json_object(), *name, *depends;
	size_t i, k;

	(void)state;
	json_array_foreach (list, i, entry) {
		has_members(entry, "subsystem depends_on");
		depends = json_object_get(entry, "depends_on");
		json_array_foreach (depends, k, name)
			assert_non_null(json_object_get(seen, json_string_value(name)));
		json_object_set_new(
		        seen, json_string_value(json_object_get(entry, "subsystem")), json_true());
	}
	assert_non_null(json_object_get(seen, "bdev"));
	json_decref(seen);
	json_decref(list);
	inproc_error(RPC_INVALID_PARAMS, "nope", "framework_get_config", "{'name': 'nope'}");
	inproc_error(RPC_INVALID_PARAMS, "name", "framework_get_config", "{}");
	inproc_ok("framework_get_config", "{'name': 'bdev', 'with_batches': true}");
}

static void loops_are_shown_as_reactors(void **state)
{
	json_t *result = inproc_result("framework_get_reactors", NULL), *list;

	(void)state;
	has_members(result, "tick_rate pid reactors");
	list = json_object_get(result, "reactors");
	assert_int_equal(json_array_size(list), 3);
	has_members(json_array_get(list, 1),
	        "lcore numa_id tid busy idle in_interrupt irq sys usr lw_threads");
	assert_true(json_integer_value(json_object_get(json_array_get(list, 0), "tid")) != 0);
	assert_int_not_equal(json_integer_value(json_object_get(json_array_get(list, 0), "tid")),
	        json_integer_value(json_object_get(json_array_get(list, 1), "tid")));
	has_members(json_array_get(json_object_get(json_array_get(list, 1), "lw_threads"), 0),
	        "name id cpumask elapsed");
	json_decref(result);
	result = inproc_result("thread_get_stats", NULL);
	has_members(result, "tick_rate threads");
	list = json_object_get(result, "threads");
	assert_int_equal(json_array_size(list), 3);
	has_members(json_array_get(list, 0), "name id cpumask busy idle active_pollers_count "
	                                     "timed_pollers_count paused_pollers_count");
	json_decref(result);
}

static void schedulers_other_than_static_are_refused(void **state)
{
	json_t *result = inproc_result("framework_get_scheduler", NULL);

	(void)state;
	has_members(result, "scheduler_name scheduler_period isolated_core_mask scheduling_core");
	json_decref(result);
	inproc_ok("framework_set_scheduler", "{'name': 'static', 'period': 5, 'own': {}}");
	inproc_error(RPC_INTERNAL_ERROR, "nope", "framework_set_scheduler", "{'name': 'nope'}");
	inproc_error(RPC_INVALID_PARAMS, "name", "framework_set_scheduler", "{}");
}

static void expect_level(const char *method, const char *level)
{
	json_t *result = inproc_result(method, NULL);

	assert_string_equal(json_string_value(result), level);
	json_decref(result);
}

static void log_levels_can_be_set(void **state)
{
	json_t *flags;

	(void)state;
	inproc_ok("log_set_level", "{'level': 'DEBUG'}");
	expect_level("log_get_level", "DEBUG");
	inproc_ok("log_set_print_level", "{'level': 'ERROR'}");
	expect_level("log_get_print_level", "ERROR");
	inproc_ok("log_set_print_level", "{'level': 'NOTICE'}");
	inproc_error(RPC_INTERNAL_ERROR, "'level' must be one of", "log_set_level",
	        "{'level': 'debug'}");
	inproc_ok("log_set_flag", "{'flag': 'all'}");
	inproc_ok("log_clear_flag", "{'flag': 'all'}");
	inproc_error(RPC_INVALID_PARAMS, "nope", "log_set_flag", "{'flag': 'nope'}");
	flags = inproc_result("log_get_flags", NULL);
	assert_true(json_is_object(flags));
	json_decref(flags);
	inproc_ok("log_enable_timestamps", "{'enabled': true}");
	inproc_ok("log_enable_timestamps", "{'enabled': false}");
	inproc_error(RPC_INVALID_PARAMS, "enabled", "log_enable_timestamps", "{}");
}

static void signals_need_a_program_that_takes_them(void **state)
{
	(void)state;
	inproc_error(RPC_INVALID_PARAMS, "sig_name", "spdk_kill_instance", "{'sig_name': 'ZZ'}");
	inproc_error(-EPERM, "", "spdk_kill_instance", "{'sig_name': 'SIGTERM'}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(tables_are_sound),
	        cmocka_unit_test(every_method_is_described),
	        cmocka_unit_test(version_has_the_known_shape),
	        cmocka_unit_test(methods_are_listed_by_state),
	        cmocka_unit_test(subsystems_come_in_order),
	        cmocka_unit_test(loops_are_shown_as_reactors),
	        cmocka_unit_test(schedulers_other_than_static_are_refused),
	        cmocka_unit_test(log_levels_can_be_set),
	        cmocka_unit_test(signals_need_a_program_that_takes_them),
	};

	test_modules_link();
	return cmocka_run_group_tests(tests, start, stop);
}
