/* config_test.c: which files are taken, in which order their calls are made, and what a save is. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "loop/loop.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "tests/lib/inproc.h"
#include "tests/lib/test_modules.h"

/* ---- methods that note when they are called ---------------------------------------------------
 */

static char notes[1024];

static void note(const char *text)
{
	strncat(notes, text, sizeof(notes) - strlen(notes) - 1);
}

struct note_params {
	char *text;
};

static const struct param note_table[] = {
        {PARAM(struct note_params, text, PARAM_STRING), .required = true, .help = "what to note"},
        {0},
};

static void note_now(struct rpc_request *request, void *params)
{
	note(((struct note_params *)params)->text);
	rpc_reply(request, NULL);
}

static void note_later_fire(struct loop_timer *timer)
{
	struct rpc_request **request = (struct rpc_request **)(void *)(timer + 1);

	note(".");
	rpc_reply(*request, NULL);
	free(timer);
}

/* Answers some time after it was called. */
static void note_later(struct rpc_request *request, void *params)
{
	struct loop_timer *timer = xcalloc(1, sizeof(*timer) + sizeof(request));

	note(((struct note_params *)params)->text);
	memcpy(timer + 1, &request, sizeof(request));
	timer->fire = note_later_fire;
	loop_timer_start(loop_self(), timer, loop_now_ns(loop_self()) + NSEC_PER_MSEC);
}

#define NOTE_METHOD(method_name, when, how)                                                        \
	static struct rpc_method method_name = {                                                   \
	        .name = #method_name,                                                              \
	        .params = note_table,                                                              \
	        .params_bytes = sizeof(struct note_params),                                        \
	        .states = (when),                                                                  \
	        .handler = (how),                                                                  \
	};                                                                                         \
	RPC_METHOD(method_name)

NOTE_METHOD(note_startup, RPC_STARTUP, note_now);
NOTE_METHOD(note_runtime, RPC_RUNTIME, note_now);
NOTE_METHOD(note_both, RPC_STARTUP | RPC_RUNTIME, note_now);
NOTE_METHOD(note_slow, RPC_RUNTIME, note_later);
NOTE_METHOD(note_slow_startup, RPC_STARTUP, note_later);

/* ---- loading ----------------------------------------------------------------------------------
 */

struct load {
	const char *text;
	bool ignore_errors;
	bool done;
	struct err err;
};

static void load_done(void *arg, const struct err *err)
{
	struct load *load = arg;

	load->err = *err;
	load->done = true;
}

static void load_start(void *arg)
{
	struct load *load = arg;
	struct rpc_options options = {.ignore_config_errors = load->ignore_errors};

	if (rpc_config_parse(
	            "test.json", load->text, strlen(load->text), &options.config, &load->err))
		load->done = true;
	else
		rpc_start(&options, load_done, load);
}

static void read_done(void *arg)
{
	bool **flags = arg;

	*flags[1] = *flags[0];
}

/* ' for ". */
static struct err load_text(const char *quoted, bool ignore_errors)
{
	autofree char *text = xstrdup(quoted);
	struct load load = {.text = text, .ignore_errors = ignore_errors};
	bool done = false, *flags[] = {&load.done, &done};

	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	notes[0] = '\0';
	inproc_run(load_start, &load);
	while (!done)
		inproc_run(read_done, flags);
	return load.err;
}

static void loads(const char *text, const char *expected_notes)
{
	struct err err = load_text(text, false);

	if (err.code)
		fail_msg("%s", err.text);
	assert_string_equal(notes, expected_notes);
}

static void fails(const char *text, int code, const char *says, const char *expected_notes)
{
	struct err err = load_text(text, false);

	assert_int_equal(err.code, code);
	if (!strstr(err.text, says))
		fail_msg("'%s' does not say '%s'", err.text, says);
	assert_string_equal(notes, expected_notes);
}

#define NOTE(method, text) "{'method':'note_" method "','params':{'text':'" text "'}}"
#define FILE_WITH(calls) "{'subsystems':[{'subsystem':'bdev','config':[" calls "]}]}"

static void passes_are_in_order(void **state)
{
	(void)state;
	loads("{'subsystems':["
	      "{'subsystem':'bdev','config':[" NOTE("runtime", "c") "," NOTE("startup",
	              "a") "]},"
	                   "{'subsystem':'unknown_one','config':[" NOTE("both", "b") "," NOTE(
	                           "runtime",
	                           "d") "]},"
	                                "{'subsystem':'sock','config':null},{'subsystem':'iobuf'},"
	                                "{'subsystem':'iobuf','config':[]}],'other':{'x':1}}",
	        "abcd");
	loads("{}", "");
	loads("{'subsystems':[]}", "");
}

static void each_waits_for_the_answer_of_the_one_before(void **state)
{
	(void)state;
	loads(FILE_WITH(NOTE("slow", "1") "," NOTE("slow", "2") "," NOTE("runtime", "3") "," NOTE(
	              "slow_startup", "0")),
	        "0.1.2.3");
}

static void batches_run_together(void **state)
{
	(void)state;
	loads(FILE_WITH("[" NOTE("slow", "a") "," NOTE("slow", "b") "," NOTE(
	              "runtime", "c") "],"
	                              "[]," NOTE("runtime", "d")),
	        "abc..d");
	/* The states of its methods are what they have in common. */
	loads(FILE_WITH(NOTE("runtime", "y") ",[" NOTE("both", "x") "]," NOTE("startup", "w")),
	        "xwy");
	loads(FILE_WITH("[" NOTE("both", "x") "," NOTE("runtime", "z") "]," NOTE("startup", "w")),
	        "wxz");
	fails(FILE_WITH("[" NOTE("startup", "x") "," NOTE("runtime", "z") "]"), -EINVAL, "batch",
	        "");
}

static void comments_are_no_part_of_it(void **state)
{
	(void)state;
	loads("// first\n{ /* 'subsystems': 5, */ 'subsystems' : // here\n [ {'subsystem':'bdev',"
	      "'config':[" NOTE("runtime", "/*a*///b\\\\") "]} ] /**/ } // end",
	        "/*a*///b\\");
	fails("{ /* never closed", -EINVAL, "test.json:1:", "");
	fails("{\n/* two\nlines */ oops }", -EINVAL, "test.json:3:", "");
}

static void the_form_is_strict(void **state)
{
	static const char *const wrong[] = {
	        "[]",
	        "{'subsystems':5}",
	        "{'subsystems':[5]}",
	        "{'subsystems':[{'config':[]}]}",
	        "{'subsystems':[{'subsystem':5}]}",
	        "{'subsystems':[{'subsystem':'bdev','extra':1}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':{}}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':[5]}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':[{}]}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':[{'method':5}]}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':[{'method':'x','id':1}]}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':[{'method':'x','params':[]}]}]}",
	        "{'subsystems':[{'subsystem':'bdev','config':[[[]]]}]}",
	        "{'subsystems':[],'subsystems':[]}",
	        "{'subsystems':[]} x",
	        "",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		fails(wrong[i], -EINVAL, "test.json", "");
		assert_int_equal(load_text(wrong[i], true).code, -EINVAL);
	}
}

static void errors_end_the_start_unless_ignored(void **state)
{
	static const char wrong_params[] = FILE_WITH(NOTE("startup", "a") "," NOTE(
	        "runtime", "b") ",{'method':'note_runtime'}," NOTE("runtime", "c"));
	static const char unknown[] = FILE_WITH(
	        NOTE("startup", "a") ",{'method':'no_such_method'}," NOTE("runtime", "c"));
	static const char bad_batch[] =
	        FILE_WITH("[" NOTE("runtime", "b") ",{'method':"
	                                           "'note_runtime'}]," NOTE("runtime", "c"));

	(void)state;
	fails(wrong_params, RPC_INTERNAL_ERROR, "note_runtime: Invalid parameters: 'text'", "ab");
	fails(unknown, -ENOENT, "no_such_method", "a");
	fails(bad_batch, RPC_INTERNAL_ERROR, "note_runtime", "b");
	assert_int_equal(load_text(wrong_params, true).code, 0);
	assert_string_equal(notes, "abc");
	assert_int_equal(load_text(unknown, true).code, 0);
	assert_string_equal(notes, "ac");
	assert_int_equal(load_text(bad_batch, true).code, 0);
	assert_string_equal(notes, "bc");
	/* Options of a module that is not there concern nothing; what it would make is missed. */
	loads(FILE_WITH("{'method':'bdev_absent_set_options','params':{'x':1}}," NOTE(
	              "runtime", "c")),
	        "c");
	/* What belongs to a subsystem that is not there is skipped. */
	loads("{'subsystems':[{'subsystem':'fsdev','config':[{'method':'fsdev_set_opts','params':"
	      "{'fsdev_io_pool_size':5}}]},{'subsystem':'bdev','config':[" NOTE(
	              "runtime", "c") "]}]}",
	        "c");
}

/* ---- saving -----------------------------------------------------------------------------------
 */

static json_t *save(void)
{
	json_t *subsystems = inproc_result("framework_get_subsystems", NULL), *list = json_array();
	json_t *subsystem;
	size_t i;

	json_array_foreach (subsystems, i, subsystem) {
		const char *name = json_string_value(json_object_get(subsystem, "subsystem"));

		json_array_append_new(list,
		        json_pack("{s:s, s:o}", "subsystem", name, "config",
		                inproc_result("framework_get_config", "{'name':'%s'}", name)));
	}
	json_decref(subsystems);
	return json_pack("{s:o}", "subsystems", list);
}

static void load_json(const json_t *config)
{
	autofree char *text = json_dumps(config, 0);
	struct err err = load_text(text, false);

	if (err.code)
		fail_msg("%s", err.text);
}

/* Vbdevs before their bases, as saves of the reference are. */
static const char saved_elsewhere[] =
        "{'subsystems':["
        "{'subsystem':'scheduler','config':[{'method':'framework_set_scheduler','params':"
        "{'name':'static'}}]},"
        "{'subsystem':'sock','config':[{'method':'sock_set_default_impl','params':{'impl_name':"
        "'posix'}},{'method':'sock_impl_set_options','params':{'impl_name':'posix',"
        "'recv_buf_size':2097152,'enable_quickack':false,'tls_version':0}},"
        "{'method':'sock_impl_set_options','params':{'impl_name':'uring','recv_buf_size':1}}]},"
        "{'subsystem':'iobuf','config':[{'method':'iobuf_set_options','params':"
        "{'small_pool_count':8192,'enable_numa':false}}]},"
        "{'subsystem':'bdev','config':["
        "{'method':'bdev_set_options','params':{'bdev_io_pool_size':65535,'bdev_io_cache_size':"
        "128,'bdev_auto_examine':true,'iobuf_small_cache_size':128,'iobuf_large_cache_size':16}},"
        "{'method':'bdev_through_create','params':{'base_bdev_name':'top1','name':'top2'}},"
        "{'method':'bdev_through_create','params':{'base_bdev_name':'disk','name':'top1'}},"
        "{'method':'bdev_through_create','params':{'base_bdev_name':'nowhere','name':'waits',"
        "'uuid':'aaaaaaaa-0000-4000-8000-000000000001'}},"
        "{'method':'bdev_plain_create','params':{'name':'disk','num_blocks':100,'block_size':512,"
        "'label':'x','uuid':'aaaaaaaa-0000-4000-8000-000000000002'}},"
        "{'method':'bdev_set_resize_policy','params':{'name':'top2','policy':'hold'}},"
        "{'method':'bdev_enable_histogram','params':{'name':'disk','enable':true,'opc':'read'}},"
        "{'method':'bdev_wait_for_examine'}]}]}";

static void clear(void)
{
	inproc_ok("bdev_plain_delete", "{'name':'disk'}");
	inproc_ok("bdev_through_delete", "{'name':'waits'}");
}

static void saves_load_and_save_the_same(void **state)
{
	json_t *first, *second, *bdevs;

	(void)state;
	loads(saved_elsewhere, "");
	bdevs = inproc_result("bdev_get_bdevs", NULL);
	assert_int_equal(json_array_size(bdevs), 3);
	json_decref(bdevs);
	/* Held below another bdev, and while it waits for its base. */
	inproc_ok("bdev_set_resize_policy", "{'name':'top1','policy':'hold'}");
	inproc_ok("bdev_resize", "{'name':'disk','num_blocks':200}");
	inproc_ok("bdev_set_resize_policy", "{'name':'waits','policy':'hold','num_blocks':50}");
	first = save();
	clear();
	load_json(first);
	second = save();
	inproc_ok("bdev_plain_create", "{'name':'nowhere','num_blocks':80,'block_size':512}");
	inproc_ok("bdev_wait_for_examine", NULL);
	bdevs = inproc_result("bdev_get_bdevs", "{'name':'waits'}");
	assert_int_equal(
	        json_integer_value(json_object_get(json_array_get(bdevs, 0), "num_blocks")), 50);
	json_decref(bdevs);
	inproc_ok("bdev_plain_delete", "{'name':'nowhere'}");
	inproc_ok("bdev_through_create", "{'name':'waits','base_bdev_name':'nowhere','uuid':"
	                                 "'aaaaaaaa-0000-4000-8000-000000000001'}");
	if (!json_equal(first, second))
		fail_msg("%s\n%s", json_dumps(first, 0), json_dumps(second, 0));
	json_decref(first);
	json_decref(second);
	clear();
}

static json_t *bdev_entry(const json_t *config, const char *method, const char *name)
{
	json_t *subsystem, *entry;
	size_t i, k;

	json_array_foreach (json_object_get(config, "subsystems"), i, subsystem) {
		json_array_foreach (json_object_get(subsystem, "config"), k, entry) {
			json_t *params = json_object_get(entry, "params");
			const char *its_name = json_string_value(json_object_get(params, "name"));

			if (!strcmp(json_string_value(json_object_get(entry, "method")), method) &&
			        (!name || (its_name && !strcmp(its_name, name))))
				return params;
		}
	}
	fail_msg("no %s of %s", method, name ? name : "any");
	return NULL;
}

static void saves_have_what_was_set(void **state)
{
	json_t *config, *params, *bdev_section;

	(void)state;
	loads(saved_elsewhere, "");
	inproc_ok("bdev_resize", "{'name':'disk','num_blocks':200}");
	config = save();
	params = bdev_entry(config, "bdev_set_options", NULL);
	assert_int_equal(json_integer_value(json_object_get(params, "bdev_io_cache_size")), 128);
	params = bdev_entry(config, "bdev_plain_create", "disk");
	assert_int_equal(json_integer_value(json_object_get(params, "num_blocks")), 200);
	assert_string_equal(json_string_value(json_object_get(params, "label")), "x");
	params = bdev_entry(config, "bdev_through_create", "waits");
	assert_string_equal(
	        json_string_value(json_object_get(params, "base_bdev_name")), "nowhere");
	params = bdev_entry(config, "bdev_set_resize_policy", "top2");
	assert_string_equal(json_string_value(json_object_get(params, "policy")), "hold");
	assert_int_equal(json_integer_value(json_object_get(params, "num_blocks")), 100);
	params = bdev_entry(config, "bdev_enable_histogram", "disk");
	assert_string_equal(json_string_value(json_object_get(params, "opc")), "read");
	bdev_entry(config, "iobuf_set_options", NULL);
	bdev_entry(config, "framework_set_scheduler", NULL);
	bdev_section = inproc_result("framework_get_config", "{'name':'bdev'}");
	assert_string_equal(
	        json_string_value(json_object_get(json_array_get(bdev_section, 0), "method")),
	        "bdev_set_options");
	assert_string_equal(
	        json_string_value(json_object_get(
	                json_array_get(bdev_section, json_array_size(bdev_section) - 1), "method")),
	        "bdev_wait_for_examine");
	json_decref(bdev_section);
	json_decref(config);
	clear();
}

static json_int_t blocks_of(const char *params)
{
	json_t *bdevs = inproc_result("bdev_get_bdevs", "%s", params);
	json_int_t blocks =
	        json_integer_value(json_object_get(json_array_get(bdevs, 0), "num_blocks"));

	json_decref(bdevs);
	return blocks;
}

/* What is made on a bdev whose size is held finds the size that was held. */
static void holds_before_the_next_call(void **state)
{
	(void)state;
	loads("{'subsystems':[{'subsystem':'bdev','config':["
	      "{'method':'bdev_plain_create','params':{'name':'disk','num_blocks':200,"
	      "'block_size':512,'label':'x'}},"
	      "{'method':'bdev_through_create','params':{'base_bdev_name':'disk','name':'top1'}},"
	      "{'method':'bdev_set_resize_policy','params':{'name':'top1','policy':'hold',"
	      "'num_blocks':100}},"
	      "{'method':'bdev_through_create','params':{'base_bdev_name':'top1','name':'top2'}}"
	      "]}]}",
	        "");
	assert_int_equal(blocks_of("{'name':'top1'}"), 100);
	assert_int_equal(blocks_of("{'name':'top2'}"), 100);
	inproc_ok("bdev_plain_delete", "{'name':'disk'}");
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(passes_are_in_order),
	        cmocka_unit_test(each_waits_for_the_answer_of_the_one_before),
	        cmocka_unit_test(batches_run_together),
	        cmocka_unit_test(comments_are_no_part_of_it),
	        cmocka_unit_test(the_form_is_strict),
	        cmocka_unit_test(errors_end_the_start_unless_ignored),
	        cmocka_unit_test(holds_before_the_next_call),
	        cmocka_unit_test(saves_load_and_save_the_same),
	        cmocka_unit_test(saves_have_what_was_set),
	};

	test_modules_link();
	return cmocka_run_group_tests(tests, start, stop);
}
