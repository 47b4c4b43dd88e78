/* verb_call.c: methods by name, and what the tables say of them. */

#include <string.h>

#include "cli/cli.h"
#include "rpc/rpc.h"

/* ---- call ------------------------------------------------------------------------------------ */

/* Params from the words behind the method's name. 0, or an error. *out is NULL for none. */
static int call_params(const struct cli_args *args, json_t **out, struct err *err)
{
	const struct rpc_method *method = cli_method_find(args->words[0]);
	unsigned count = args->count - 1;
	char **words = args->words + 1;

	*out = NULL;
	if (count == 1 && (words[0][0] == '{' || words[0][0] == '[')) {
		json_error_t why;

		*out = json_loads(words[0], JSON_REJECT_DUPLICATES, &why);
		return *out ? 0 : err_set(err, -1, "the parameters are not JSON: %s", why.text);
	}
	if (count == 0 && (!method || !cli_positional(method->params, 0)))
		return 0;
	*out = method ? words_to_params(method->params, count, words, err)
	              : words_to_unchecked(count, words, err);
	return *out ? 0 : err->code;
}

int verb_call(struct cli *cli, const struct cli_args *args)
{
	struct err err = ERR_NONE;
	json_t *params, *result;
	int status;

	if (call_params(args, &params, &err)) {
		cli_error("%s (see: bellows help %s)", err.text, args->words[0]);
		return EXIT_USAGE;
	}
	result = cli_call(cli, args->words[0], params, &status);
	if (result)
		cli_print_json(result);
	json_decref(result);
	return status;
}

/* ---- verbs that are a method ----------------------------------------------------------------- */

/* "trust-parity" as "trust_parity=true". The caller frees. */
static char *option_word(const struct cli_option *option, const char *value)
{
	char *word = xasprintf("%s=%s", option->name, option->value ? value : "true");

	for (char *c = word; *c != '='; c++)
		if (*c == '-')
			*c = '_';
	return word;
}

int verb_method(struct cli *cli, const struct cli_args *args)
{
	const struct cli_verb *verb = args->verb;
	char *words[CLI_WORDS_ANY + CLI_OPTIONS_MAX + 1];
	struct err err = ERR_NONE;
	unsigned count = args->count;
	json_t *params, *result;
	int status;

	memcpy(words, args->words, count * sizeof(*words));
	for (unsigned i = 0; verb->options && verb->options[i].name; i++) {
		if (args->values[i])
			words[count++] = option_word(&verb->options[i], args->values[i]);
	}
	if (verb->fixed)
		words[count++] = xstrdup(verb->fixed);
	params = words_to_params(cli_method_find(verb->method)->params, count, words, &err);
	while (count > args->count)
		free(words[--count]);
	if (!params)
		return cli_usage_error(args, "%s", err.text);
	result = cli_call(cli, verb->method, params, &status);
	if (result && cli->json)
		cli_print_json(result);
	json_decref(result);
	return status;
}

/* ---- create ---------------------------------------------------------------------------------- */

int verb_create(struct cli *cli, const struct cli_args *args)
{
	const struct rpc_method *method = cli_create_method(args->words[0]);
	struct err err = ERR_NONE;
	json_t *params, *result, *name;
	size_t i;
	int status;

	if (!method)
		return cli_usage_error(
		        args, "there is no kind of bdev called '%s'", args->words[0]);
	params = words_to_params(method->params, args->count - 1, args->words + 1, &err);
	if (!params) {
		cli_error("%s (see: bellows help %s)", err.text, args->words[0]);
		return EXIT_USAGE;
	}
	result = cli_call(cli, method->name, params, &status);
	if (result && cli->json)
		cli_print_json(result);
	else if (json_is_string(result))
		printf("%s\n", json_string_value(result));
	json_array_foreach (result, i, name) {
		if (!cli->json && json_is_string(name))
			printf("%s\n", json_string_value(name));
	}
	json_decref(result);
	return status;
}

/* ---- methods, help --------------------------------------------------------------------------- */

static const struct table_column method_columns[] = {{"METHOD", false}, {"WHAT IT DOES", false}};

static int live_methods(struct cli *cli)
{
	int status;
	size_t i;
	json_t *name;
	json_t *methods =
	        cli_call(cli, "rpc_get_methods", json_pack("{s:b}", "current", 1), &status);

	if (!methods)
		return status;
	if (cli->json) {
		cli_print_json(methods);
		json_decref(methods);
		return status;
	}
	struct table *table = table_new(method_columns, ARRAY_SIZE(method_columns));

	json_array_foreach (methods, i, name) {
		const char *text = json_string_value(name);
		const struct rpc_method *method = text ? cli_method_find(text) : NULL;

		table_row(table, (const char *[]){text, method ? method->summary : ""});
	}
	table_print(cli, table, stdout);
	json_decref(methods);
	return status;
}

int verb_methods(struct cli *cli, const struct cli_args *args)
{
	const struct rpc_method *method;

	if (cli_option(args, "live"))
		return live_methods(cli);
	if (cli->json) {
		json_t *names = json_array();

		for (size_t i = 0; (method = cli_method_at(i)); i++)
			json_array_append_new(names, json_string(method->name));
		cli_print_json(names);
		json_decref(names);
		return EXIT_DONE;
	}
	struct table *table = table_new(method_columns, ARRAY_SIZE(method_columns));

	for (size_t i = 0; (method = cli_method_at(i)); i++)
		table_row(table, (const char *[]){method->name, method->summary});
	table_print(cli, table, stdout);
	return EXIT_DONE;
}

int verb_help(struct cli *cli, const struct cli_args *args)
{
	const char *topic = args->count ? args->words[0] : NULL;
	const struct cli_verb *verb = topic ? cli_verb_find(cli_verbs, topic) : NULL;
	const struct rpc_method *method = topic ? cli_method_find(topic) : NULL;

	if (topic && !method)
		method = cli_create_method(topic);
	if (topic && !verb && !method)
		return cli_usage_error(args, "there is no verb, method or kind '%s'", topic);
	for (unsigned i = 1; i < args->count; i++) {
		const char *group = verb ? verb->name : topic;

		verb = verb && verb->verbs ? cli_verb_find(verb->verbs, args->words[i]) : NULL;
		if (!verb)
			return cli_usage_error(
			        args, "'%s' has no verb '%s'", group, args->words[i]);
	}
	if (!topic) {
		doc_usage(stdout);
	} else if (verb) {
		doc_verb(verb, stdout);
	} else if (cli->json) {
		const struct param *tables[] = {method->params, NULL};
		json_t *description = json_pack("{s:s, s:s, s:o}", "method", method->name,
		        "summary", method->summary, "params", params_describe(tables));

		cli_print_json(description);
		json_decref(description);
	} else {
		doc_method(method, stdout);
	}
	return EXIT_DONE;
}

int verb_man(struct cli *cli, const struct cli_args *args)
{
	(void)cli;
	(void)args;
	man_print(stdout);
	return EXIT_DONE;
}

int verb_completion(struct cli *cli, const struct cli_args *args)
{
	(void)cli;
	if (strcmp(args->words[0], "bash") != 0)
		return cli_usage_error(
		        args, "there is no completion for '%s', only for bash", args->words[0]);
	completion_print_bash(stdout);
	return EXIT_DONE;
}
