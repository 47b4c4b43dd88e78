#include "tests/lib/expect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"

static json_t *parse(const char *text)
{
	autofree char *copy = xstrdup(text);
	json_error_t error;

	for (char *p = copy; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	json_t *json = json_loads(copy, JSON_DECODE_ANY, &error);

	if (!json)
		fail_msg("%s: %s", copy, error.text);
	return json;
}

json_t *expect_bdev(const char *name)
{
	json_t *list = inproc_result("bdev_get_bdevs", "{'name': '%s'}", name);
	json_t *entry = json_incref(json_array_get(list, 0));

	assert_non_null(entry);
	json_decref(list);
	return entry;
}

static void expect_equal(const char *what, const json_t *is, const json_t *should)
{
	autofree char *is_text = json_dumps(is, JSON_SORT_KEYS | JSON_ENCODE_ANY);
	autofree char *should_text = json_dumps(should, JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (!json_equal(is, should))
		fail_msg("%s: %s, expected %s", what, is_text, should_text);
}

void expect_driver_specific(const char *name, const char *json)
{
	json_t *entry = expect_bdev(name);
	json_t *should = parse(json);

	expect_equal(name, json_object_get(entry, "driver_specific"), should);
	json_decref(should);
	json_decref(entry);
}

json_t *saved_calls(void)
{
	return inproc_result("framework_get_config", "{'name': 'bdev'}");
}

json_t *saved_everything(void)
{
	json_t *subsystems = inproc_result("framework_get_subsystems", NULL), *subsystem;
	json_t *all = json_array();
	size_t i;

	json_array_foreach (subsystems, i, subsystem) {
		json_t *calls = inproc_result("framework_get_config", "{'name': '%s'}",
		        json_string_value(json_object_get(subsystem, "subsystem")));

		if (json_is_array(calls))
			json_array_extend(all, calls);
		json_decref(calls);
	}
	json_decref(subsystems);
	return all;
}

void expect_saved(const char *method, const char *params)
{
	json_t *calls = saved_calls(), *should = parse(params), *call;
	autofree char *text = json_dumps(calls, JSON_INDENT(1));
	size_t i;

	json_array_foreach (calls, i, call) {
		json_t *is = json_object_get(call, "params");

		if (strcmp(json_string_value(json_object_get(call, "method")), method) != 0)
			continue;
		if (!json_object_get(should, "uuid"))
			json_object_del(is, "uuid");
		if (json_equal(is, should)) {
			json_decref(calls);
			json_decref(should);
			return;
		}
	}
	fail_msg("no %s %s in %s", method, params, text);
}

bool bdev_exists(const char *name)
{
	json_t *reply = inproc_call("bdev_get_bdevs", "{'name': '%s'}", name);
	bool there = json_object_get(reply, "result") != NULL;

	json_decref(reply);
	return there;
}
