/* verb_config.c: saving what there is, and loading it again. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* One call on an open connection. NULL: *status says what has been reported. */
static json_t *ask(
        struct cli *cli, struct cli_stream *stream, const char *method, json_t *params, int *status)
{
	json_t *reply = cli_exchange(stream, method, params);
	json_t *result = reply ? cli_result(cli, reply) : NULL;

	*status = result ? EXIT_DONE : reply ? EXIT_REFUSED : EXIT_UNREACHABLE;
	return result;
}

/* ---- save ------------------------------------------------------------------------------------ */

static json_t *collect(struct cli *cli, struct cli_stream *stream, int *status)
{
	json_t *subsystems = ask(cli, stream, "framework_get_subsystems", NULL, status);
	json_t *sections = json_array(), *subsystem;
	size_t i;

	json_array_foreach (subsystems, i, subsystem) {
		const char *name = cli_str(subsystem, "subsystem", "");
		json_t *config = ask(cli, stream, "framework_get_config",
		        json_pack("{s:s}", "name", name), status);

		if (!config)
			break;
		json_array_append_new(
		        sections, json_pack("{s:s, s:o}", "subsystem", name, "config", config));
	}
	json_decref(subsystems);
	if (*status) {
		json_decref(sections);
		return NULL;
	}
	return json_pack("{s:o}", "subsystems", sections);
}

/* The whole file or nothing: what was there stays until the new one is on the disk. */
static int write_file(const json_t *root, const char *path)
{
	autofree char *temporary = xasprintf("%s.new.%d", path, (int)getpid());
	FILE *file = fopen(temporary, "we");
	bool ok = file && json_dumpf(root, file, JSON_INDENT(2)) == 0 && fputc('\n', file) != EOF &&
	          fflush(file) == 0 && fsync(fileno(file)) == 0;
	int error = errno;

	if (file && fclose(file) != 0)
		ok = false;
	if (ok && rename(temporary, path) == 0)
		return EXIT_DONE;
	cli_error("'%s' could not be written: %s", path, errno_text(ok ? errno : error));
	if (file)
		unlink(temporary);
	return EXIT_REFUSED;
}

int verb_save(struct cli *cli, const struct cli_args *args)
{
	struct cli_stream *stream = cli_open(cli);
	int status = EXIT_UNREACHABLE;
	json_t *root;

	if (!stream)
		return status;
	root = collect(cli, stream, &status);
	cli_close(stream);
	if (root && args->count && strcmp(args->words[0], "-") != 0)
		status = write_file(root, args->words[0]);
	else if (root)
		cli_print_json(root);
	json_decref(root);
	return status;
}

/* ---- load ------------------------------------------------------------------------------------ */

static json_t *read_file(const char *path, struct err *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(path, "re");
	json_error_t why;
	json_t *root;

	if (!file) {
		err_set(err, -errno, "'%s' could not be read: %s", path, errno_text(errno));
		return NULL;
	}
	root = json_loadf(file, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		err_set(err, -EINVAL, "'%s' is not JSON: line %d: %s", path, why.line, why.text);
	if (!is_stdin)
		fclose(file);
	return root;
}

static int add_call(json_t *calls, json_t *call, struct err *err)
{
	if (!json_is_string(json_object_get(call, "method")))
		return err_set(err, -EINVAL, "an entry of \"config\" has no \"method\"");
	json_array_append(calls, call);
	return 0;
}

/* The calls of all sections in their order; batches count as their elements. */
static json_t *calls_of(const json_t *root, struct err *err)
{
	json_t *calls = json_array(), *section, *call, *element;
	size_t i, j, k;
	int rc = 0;

	if (!json_is_object(root))
		rc = err_set(err, -EINVAL, "the file holds no JSON object");
	json_array_foreach (json_object_get(root, "subsystems"), i, section) {
		json_array_foreach (json_object_get(section, "config"), j, call) {
			if (!json_is_array(call))
				rc = rc ? rc : add_call(calls, call, err);
			json_array_foreach (call, k, element)
				rc = rc ? rc : add_call(calls, element, err);
		}
	}
	if (!rc)
		return calls;
	json_decref(calls);
	return NULL;
}

static bool names_method(const json_t *methods, const char *method)
{
	const json_t *name;
	size_t i;

	json_array_foreach (methods, i, name)
		if (strcmp(json_string_value(name), method) == 0)
			return true;
	return false;
}

static json_t *methods_now(struct cli *cli, struct cli_stream *stream, bool current, int *status)
{
	return ask(cli, stream, "rpc_get_methods", json_pack("{s:b}", "current", current), status);
}

static int check_methods(struct cli *cli, struct cli_stream *stream, const json_t *calls)
{
	int status;
	json_t *methods = methods_now(cli, stream, false, &status), *call;
	size_t i;

	if (!methods)
		return status;
	json_array_foreach (calls, i, call) {
		const char *method = cli_str(call, "method", "");

		if (names_method(methods, method))
			continue;
		cli_error("the daemon has no method '%s'; nothing was called", method);
		status = EXIT_REFUSED;
		break;
	}
	json_decref(methods);
	return status;
}

/* Calls and drops every entry that may be called now. */
static int load_round(struct cli *cli, struct cli_stream *stream, json_t *calls,
        const json_t *methods, size_t *called)
{
	int status = EXIT_DONE;

	for (size_t i = 0; i < json_array_size(calls) && !status;) {
		json_t *call = json_array_get(calls, i), *params, *result;
		const char *method = cli_str(call, "method", "");

		if (!names_method(methods, method)) {
			i++;
			continue;
		}
		params = json_object_get(call, "params");
		result = ask(cli, stream, method, json_incref(params), &status);
		if (!result) {
			autofree char *text = json_dumps(params, JSON_COMPACT | JSON_ENCODE_ANY);

			cli_error("that was the answer to %s %s", method, text ? text : "");
			break;
		}
		json_decref(result);
		json_array_remove(calls, i);
		++*called;
	}
	return status;
}

static int load(struct cli *cli, struct cli_stream *stream, json_t *calls)
{
	static const char start[] = "framework_start_init";
	size_t total = 0, called;
	int status = check_methods(cli, stream, calls);

	do {
		json_t *methods = status ? NULL : methods_now(cli, stream, true, &status);

		called = 0;
		if (methods)
			status = load_round(cli, stream, calls, methods, &called);
		total += called;
		if (methods && !status && names_method(methods, start)) {
			json_decref(ask(cli, stream, start, NULL, &status));
			called++;
		}
		json_decref(methods);
	} while (!status && called);
	if (!status && json_array_size(calls)) {
		cli_error("%zu entries can only be called before the daemon is started: %s, ...",
		        json_array_size(calls), cli_str(json_array_get(calls, 0), "method", ""));
	}
	if (!status && !cli->json)
		printf("%zu methods called\n", total);
	else if (!status)
		printf("{\"called\": %zu, \"skipped\": %zu}\n", total, json_array_size(calls));
	return status;
}

int verb_load(struct cli *cli, const struct cli_args *args)
{
	struct err err = ERR_NONE;
	json_t *root = read_file(args->words[0], &err);
	json_t *calls = root ? calls_of(root, &err) : NULL;
	int status = EXIT_UNREACHABLE;
	struct cli_stream *stream;

	json_decref(root);
	if (!calls) {
		cli_error("%s", err.text);
		return EXIT_REFUSED;
	}
	stream = cli_open(cli);
	if (stream) {
		status = load(cli, stream, calls);
		cli_close(stream);
	}
	json_decref(calls);
	return status;
}
