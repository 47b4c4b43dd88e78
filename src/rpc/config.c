/* config.c: configuration files: reading, checking, and calling what stands in them. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bdev/examine.h"
#include "rpc/method.h"
#include "rpc/server.h"

#define SLOW_ANSWER_NS (10 * NSEC_PER_SEC)

struct rpc_config {
	char *name;
	json_t *root;
};

/* ---- reading --------------------------------------------------------------------------------- */

/* Comments become blanks, so that line and column stay right. */
static void blank_comments(char *text, size_t len)
{
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		if (in_string) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				in_string = false;
		} else if (text[i] == '"') {
			in_string = true;
		} else if (text[i] == '/' && i + 1 < len && text[i + 1] == '/') {
			for (; i < len && text[i] != '\n'; i++)
				text[i] = ' ';
		} else if (text[i] == '/' && i + 1 < len && text[i + 1] == '*') {
			char *end = memmem(text + i + 2, len - i - 2, "*/", 2);

			if (!end)
				return; /* stays, and is no JSON */
			for (; text + i < end + 2; i++)
				if (text[i] != '\n')
					text[i] = ' ';
			i--;
		}
	}
}

static int check_call(const char *name, const json_t *call, struct err *err)
{
	const json_t *params = json_object_get(call, "params");
	const json_t *method = json_object_get(call, "method");
	const char *key;
	json_t *value;

	if (!json_is_object(call))
		return err_set(err, -EINVAL, "%s: a call in 'config' is not an object", name);
	json_object_foreach ((json_t *)(uintptr_t)call, key, value) {
		if (strcmp(key, "method") != 0 && strcmp(key, "params") != 0)
			return err_set(err, -EINVAL,
			        "%s: a call has the key '%.64s'; there are only method and params",
			        name, key);
	}
	if (!json_is_string(method) ||
	        strlen(json_string_value(method)) != json_string_length(method))
		return err_set(err, -EINVAL, "%s: a call has no 'method' text", name);
	if (params && !json_is_object(params))
		return err_set(err, -EINVAL, "%s: 'params' of %s is not an object", name,
		        json_string_value(method));
	return 0;
}

static int check_calls(const char *name, const json_t *calls, bool nested, struct err *err)
{
	size_t i;
	json_t *call;
	int rc;

	json_array_foreach (calls, i, call) {
		rc = json_is_array(call) && !nested ? check_calls(name, call, true, err)
		                                    : check_call(name, call, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int check_entry(const char *name, const json_t *entry, struct err *err)
{
	const json_t *config = json_object_get(entry, "config");
	const char *key;
	json_t *value;

	if (!json_is_object(entry))
		return err_set(err, -EINVAL, "%s: an entry of 'subsystems' is not an object", name);
	json_object_foreach ((json_t *)(uintptr_t)entry, key, value) {
		if (strcmp(key, "subsystem") != 0 && strcmp(key, "config") != 0)
			return err_set(err, -EINVAL,
			        "%s: an entry of 'subsystems' has the key '%.64s'; there are only "
			        "subsystem and config",
			        name, key);
	}
	if (!json_is_string(json_object_get(entry, "subsystem")))
		return err_set(
		        err, -EINVAL, "%s: an entry of 'subsystems' has no 'subsystem' name", name);
	if (config && !json_is_null(config) && !json_is_array(config))
		return err_set(err, -EINVAL, "%s: 'config' of '%s' is not a list", name,
		        json_string_value(json_object_get(entry, "subsystem")));
	return json_is_array(config) ? check_calls(name, config, false, err) : 0;
}

static int check_root(struct rpc_config *config, struct err *err)
{
	const json_t *subsystems = json_object_get(config->root, "subsystems");
	json_t *entry;
	size_t i;
	int rc;

	if (!json_is_object(config->root))
		return err_set(err, -EINVAL, "%s: it must be an object with the key 'subsystems'",
		        config->name);
	if (!subsystems) {
		log_warning("config", "%s has no key 'subsystems': nothing to do", config->name);
		return 0;
	}
	if (!json_is_array(subsystems))
		return err_set(err, -EINVAL, "%s: 'subsystems' is not a list", config->name);
	json_array_foreach (subsystems, i, entry) {
		rc = check_entry(config->name, entry, err);
		if (rc)
			return rc;
	}
	return 0;
}

int rpc_config_parse(
        const char *name, const char *text, size_t len, struct rpc_config **out, struct err *err)
{
	autofree char *plain = xcalloc(1, len + 1);
	struct rpc_config *config = xcalloc(1, sizeof(*config));
	json_error_t error;
	int rc;

	memcpy(plain, text, len);
	blank_comments(plain, len);
	config->name = xstrdup(name);
	config->root = json_loadb(plain, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	rc = config->root ? check_root(config, err)
	                  : err_set(err, -EINVAL, "%s:%d:%d: %s", name, error.line, error.column,
	                            error.text);
	if (rc)
		rpc_config_free(config);
	else
		*out = config;
	return rc;
}

int rpc_config_read(const char *path, struct rpc_config **out, struct err *err)
{
	autofree char *text = NULL;
	size_t len = 0;
	int rc = loop_slurp(path, RPC_CONFIG_MAX_BYTES, &text, &len, err);

	return rc ? rc : rpc_config_parse(path, text, len, out, err);
}

void rpc_config_free(struct rpc_config *config)
{
	if (!config)
		return;
	json_decref(config->root);
	free(config->name);
	free(config);
}

/* ---- running --------------------------------------------------------------------------------- */

struct config_run {
	struct rpc_config *config;
	bool ignore_errors;
	rpc_done_fn done;
	void *arg;
	size_t entry, call;             /* the next */
	unsigned pending;               /* answers of the present call or batch */
	bool stepping;                  /* run_on is on the stack */
	const char *subsystem, *method; /* present ones, for messages */
	struct err err;
	struct loop_timer slow;
};

struct config_call {
	struct config_run *run;
	const char *method;
};

static void run_on(struct config_run *run);

/* ---- bases of what is still to be made ---------------------------------------------------------
 */

static struct config_run *running; /* in the second pass */

static bool is_called(const struct bdev *bdev, const char *text)
{
	const char *alias;

	if (strcmp(bdev->name, text) == 0)
		return true;
	for (unsigned i = 0; (alias = bdev_alias(bdev, i)); i++)
		if (strcmp(alias, text) == 0)
			return true;
	return false;
}

/* Whether a parameter, other than the new name, is this bdev. */
static bool names(const json_t *value, const struct bdev *bdev)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_string(value))
		return is_called(bdev, json_string_value(value));
	json_array_foreach (value, i, member)
		if (names(member, bdev))
			return true;
	json_object_foreach ((json_t *)value, key, member)
		if (strcmp(key, "name") != 0 && names(member, bdev))
			return true;
	return false;
}

static bool stands_on(const json_t *element, const struct bdev *bdev)
{
	static const char end[] = "_create";
	const char *method = json_string_value(json_object_get(element, "method"));
	size_t len = method ? strlen(method) : 0, i;
	json_t *member;

	json_array_foreach (element, i, member)
		if (stands_on(member, bdev))
			return true;
	return len >= sizeof(end) && strcmp(method + len - (sizeof(end) - 1), end) == 0 &&
	       names(json_object_get(element, "params"), bdev);
}

/*
 * A later call makes a bdev on this one. What is on it may be that one's: the partitions of a
 * mirror are also to be seen on each of its members.
 */
static bool is_spoken_for(const struct bdev *bdev)
{
	const json_t *subsystems = json_object_get(running->config->root, "subsystems");
	size_t call = running->call;

	for (size_t e = running->entry; e < json_array_size(subsystems); e++, call = 0) {
		const json_t *calls = json_object_get(json_array_get(subsystems, e), "config");

		for (; call < json_array_size(calls); call++)
			if (stands_on(json_array_get(calls, call), bdev))
				return true;
	}
	return false;
}

static void warn_slow(struct loop_timer *timer)
{
	struct config_run *run = container_of(timer, struct config_run, slow);

	log_warning(
	        "config", "%s: still waiting for the answer of %s", run->config->name, run->method);
	loop_timer_start(loop_self(), timer, loop_now_ns(loop_self()) + SLOW_ANSWER_NS);
}

static void call_failed(struct config_run *run, const char *method, int code, const char *text)
{
	if (run->ignore_errors)
		log_warning("config", "%s: subsystem '%s': %s: %s (ignored)", run->config->name,
		        run->subsystem, method, text);
	else if (!run->err.code)
		err_set(&run->err, code, "%s: subsystem '%s': %s: %s", run->config->name,
		        run->subsystem, method, text);
}

static void settled(void *arg, const struct err *err)
{
	struct config_run *run = arg;

	(void)err;
	if (--run->pending == 0 && !run->stepping)
		run_on(run);
}

/* What waited for a bdev that is there now, and what is found on it, is there before the next call,
 * which may name it. */
static void call_done(struct config_run *run)
{
	if (run->pending == 1 && rpc_state() == RPC_RUNTIME)
		bdev_wait_for_examine((struct bdev_done){settled, run});
	else
		settled(run, NULL);
}

static void answered(void *arg, const json_t *reply)
{
	struct config_call *call = arg;
	struct config_run *run = call->run;
	const json_t *error = json_object_get(reply, "error");

	if (error)
		call_failed(run, call->method,
		        (int)json_integer_value(json_object_get(error, "code")),
		        json_string_value(json_object_get(error, "message")));
	free(call);
	call_done(run);
}

static void start_call(struct config_run *run, const json_t *element)
{
	struct config_call *call = xcalloc(1, sizeof(*call));

	call->run = run;
	call->method = json_string_value(json_object_get(element, "method"));
	run->method = call->method;
	run->pending++;
	rpc_call(call->method, json_incref(json_object_get(element, "params")), answered, call);
}

/* Options of a module that is not part of this program concern nothing here; what it would make
 * is an error. */
static bool is_absent_option(const char *method)
{
	static const char *const ends[] = {"_set_options", "_set_hotplug"};
	size_t len = strlen(method);

	if (rpc_entry_find(method))
		return false; /* there, but forbidden */
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (len > strlen(ends[i]) && strcmp(method + len - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

/* The states in which an element may be called; 0 if it is not to be called at all, which is told
 * in the first pass. */
static unsigned call_states(struct config_run *run, const json_t *element)
{
	const char *method = json_string_value(json_object_get(element, "method"));
	const struct rpc_entry *entry = rpc_entry_find(method);

	if (entry && !entry->forbidden)
		return rpc_method_states(entry->method);
	if (rpc_state() == RPC_STARTUP) {
		if (rpc_subsystem_find(run->subsystem) && is_absent_option(method))
			log_warning("config", "%s: %s is skipped: that module is not there",
			        run->config->name, method);
		else if (rpc_subsystem_find(run->subsystem))
			call_failed(run, method, -ENOENT, "there is no such method");
		else
			log_notice("config",
			        "%s: %s is skipped: there is no subsystem '%s' in this program",
			        run->config->name, method, run->subsystem);
	}
	return 0;
}

static unsigned batch_states(struct config_run *run, const json_t *batch)
{
	unsigned states = RPC_STARTUP | RPC_RUNTIME;
	json_t *element;
	size_t i;

	json_array_foreach (batch, i, element)
		states &= call_states(run, element);
	if (!states && json_array_size(batch) && rpc_state() == RPC_STARTUP)
		call_failed(run, "batch", -EINVAL,
		        "there is no state in which all its methods may be called");
	return json_array_size(batch) ? states : 0;
}

static bool is_due(unsigned states)
{
	if (rpc_state() == RPC_STARTUP)
		return states & RPC_STARTUP;
	return states & RPC_RUNTIME && !(states & RPC_STARTUP);
}

static void start_element(struct config_run *run, const json_t *element)
{
	json_t *member;
	size_t i;

	if (!json_is_array(element)) {
		if (is_due(call_states(run, element)))
			start_call(run, element);
		return;
	}
	if (!is_due(batch_states(run, element)))
		return;
	run->pending++; /* until all are started */
	json_array_foreach (element, i, member)
		start_call(run, member);
	call_done(run);
}

/* NULL at the end of the file. */
static const json_t *next_element(struct config_run *run)
{
	const json_t *subsystems = json_object_get(run->config->root, "subsystems");

	for (; run->entry < json_array_size(subsystems); run->entry++, run->call = 0) {
		const json_t *entry = json_array_get(subsystems, run->entry);
		const json_t *calls = json_object_get(entry, "config");

		run->subsystem = json_string_value(json_object_get(entry, "subsystem"));
		if (run->call < json_array_size(calls))
			return json_array_get(calls, run->call++);
	}
	return NULL;
}

static void run_on(struct config_run *run)
{
	const json_t *element;

	loop_timer_stop(loop_self(), &run->slow);
	run->stepping = true;
	while (!run->pending && !run->err.code && (element = next_element(run)))
		start_element(run, element);
	run->stepping = false;
	if (run->pending) {
		loop_timer_start(
		        loop_self(), &run->slow, loop_now_ns(loop_self()) + SLOW_ANSWER_NS);
		return;
	}
	if (running == run) {
		running = NULL;
		run->pending = 1;
		bdev_examine_but(NULL);
		bdev_wait_for_examine((struct bdev_done){settled, run});
		return;
	}
	run->done(run->arg, &run->err);
	free(run);
}

void rpc_config_run(struct rpc_config *config, bool ignore_errors, rpc_done_fn done, void *arg)
{
	struct config_run *run = xcalloc(1, sizeof(*run));

	run->config = config;
	run->ignore_errors = ignore_errors;
	run->done = done;
	run->arg = arg;
	run->slow.fire = warn_slow;
	if (rpc_state() == RPC_RUNTIME && !running) {
		running = run;
		bdev_examine_but(is_spoken_for);
	}
	run_on(run);
}
