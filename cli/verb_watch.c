/* verb_watch.c: what is wrong, and what happens. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/tree.h"

/* ---- status ---------------------------------------------------------------------------------- */

/* An array whose members say already that it waits, with what to do. */
static bool is_said(const json_t *problems, const char *array)
{
	autofree char *name = xasprintf("'%s'", array);
	json_t *problem;
	size_t i;

	json_array_foreach (problems, i, problem) {
		if (strncmp(cli_str(problem, "key", ""), "raid ", 5) == 0 &&
		        strstr(cli_str(problem, "text", ""), name))
			return true;
	}
	return false;
}

/* It names its members itself, several of them. */
static void add_waiting_array(json_t *all, const char *name, const char *missing)
{
	autofree char *text = xasprintf("it waits for its members: %s", missing);
	autofree char *action =
	        xasprintf("bring them back, or delete it: bellows raid delete %s", name);

	if (!is_said(all, name))
		json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s}", "key", "waiting",
		                                   "bdev", name, "text", text, "action", action));
}

/* One list of what is wrong: the daemon's problems, and creations whose base is missing. */
static json_t *all_problems(const json_t *problems, const json_t *tree)
{
	json_t *all = json_copy((json_t *)problems), *waiting;
	size_t i;

	json_array_foreach (json_object_get(tree, "waiting"), i, waiting) {
		const char *name = cli_str(waiting, "name", "?");
		const char *missing = cli_str(waiting, "missing", "?");

		if (strcmp(cli_str(waiting, "module", ""), "raid") == 0) {
			add_waiting_array(all, name, missing);
			continue;
		}
		autofree char *text =
		        xasprintf("it is not there yet: its base '%s' is missing", missing);
		autofree char *action =
		        xasprintf("create '%s', or drop it: bellows delete %s", missing, name);

		json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s}", "key", "waiting",
		                                   "bdev", name, "text", text, "action", action));
	}
	return all;
}

static void print_problem(const json_t *problem)
{
	const char *action = cli_str(problem, "action", "");
	autofree char *what = xasprintf("%s: %s", cli_str(problem, "bdev", "bellowsd"),
	        cli_str(problem, "text", "a problem without a text"));

	print_line(what, stdout);
	if (*action) {
		autofree char *line = xasprintf("  action: %s", action);

		print_line(line, stdout);
	}
}

static void print_well(size_t num_bdevs)
{
	if (num_bdevs > 1)
		printf("all %zu bdevs are well\n", num_bdevs);
	else
		puts(num_bdevs ? "the bdev is well" : "there are no bdevs, and nothing is wrong");
}

int verb_status(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *tree = tree_ask(cli, &status), *problems = NULL, *all, *problem;
	size_t i, count;

	(void)args;
	if (tree)
		problems = cli_call(cli, "bdev_get_problems", NULL, &status);
	if (!problems) {
		json_decref(tree);
		return status;
	}
	all = all_problems(problems, tree);
	count = tree_count(json_object_get(tree, "bdevs"));
	if (cli->json) {
		json_t *answer =
		        json_pack("{s:O, s:I}", "problems", all, "num_bdevs", (json_int_t)count);

		cli_print_json(answer);
		json_decref(answer);
	} else if (json_array_size(all)) {
		json_array_foreach (all, i, problem)
			print_problem(problem);
		printf("\n%zu problem%s, %zu bdev%s\n", i, i == 1 ? "" : "s", count,
		        count == 1 ? "" : "s");
	} else {
		print_well(count);
	}
	status = json_array_size(all) ? EXIT_REFUSED : EXIT_DONE;
	json_decref(all);
	json_decref(problems);
	json_decref(tree);
	return status;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void time_text(char *text, size_t size, uint64_t time_us)
{
	time_t seconds = (time_t)(time_us / 1000000);
	struct tm utc;
	char date[32];

	gmtime_r(&seconds, &utc);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text, size, "%s.%03uZ", date, (unsigned)(time_us / 1000 % 1000));
}

/* The members of detail as key=value. */
static char *detail_text(const json_t *detail)
{
	char *text = xstrdup("");
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)detail, key, value) {
		autofree char *plain = json_is_string(value)
		                               ? xstrdup(json_string_value(value))
		                               : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
		char *longer = xasprintf("%s %s=%s", text, key, plain ? plain : "?");

		free(text);
		text = longer;
	}
	return text;
}

/* What a person wants to know of a new size. */
static char *resize_text(struct cli *cli, const json_t *detail)
{
	char before[SIZE_TEXT_MAX], now[SIZE_TEXT_MAX];
	const char *why = cli_str(detail, "why", "");

	format_size_bytes(before, sizeof(before), cli_u64(detail, "old_bytes"));
	format_size_bytes(now, sizeof(now), cli_u64(detail, "new_bytes"));
	return xasprintf(" %s %s %s%s%s", before, cli_utf8(cli) ? "\u2192" : "->", now,
	        *why ? ": " : "", why);
}

static void print_event(struct cli *cli, const json_t *event)
{
	const json_t *object = json_object_get(event, "detail");
	autofree char *detail = json_object_get(object, "new_bytes") ? resize_text(cli, object)
	                                                             : detail_text(object);
	char when[64];

	if (cli->json) {
		json_dumpf(event, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		time_text(when, sizeof(when), cli_u64(event, "time_us"));
		autofree char *line = xasprintf("%s  %4llu  %-21s  %s %s", when,
		        (unsigned long long)cli_u64(event, "id"), cli_str(event, "type", "?"),
		        cli_str(event, "bdev", ""), detail);

		print_line(line, stdout);
	}
	fflush(stdout);
}

static bool parse_count(const char *text, uint64_t *out)
{
	char *end;

	*out = text ? strtoull(text, &end, 10) : 0;
	return !text || (isdigit((unsigned char)*text) && !*end && *out <= INT64_MAX);
}

static int follow(struct cli *cli, struct cli_stream *stream, uint64_t count)
{
	uint64_t seen = 0;
	json_t *message;

	while ((!count || seen < count) && (message = cli_next(stream))) {
		const json_t *event = json_object_get(message, "params");

		if (event && json_object_get(message, "method")) {
			print_event(cli, event);
			seen++;
		}
		json_decref(message);
	}
	if (count && seen == count)
		return EXIT_DONE;
	cli_error("the daemon closed the connection");
	return EXIT_UNREACHABLE;
}

int verb_events(struct cli *cli, const struct cli_args *args)
{
	const char *since = cli_option(args, "since");
	uint64_t first, count;
	struct cli_stream *stream;
	json_t *reply, *result = NULL;
	int status = EXIT_UNREACHABLE;

	if (!parse_count(since, &first))
		return cli_usage_error(
		        args, "--since takes the number of an event, not '%s'", since);
	if (!parse_count(cli_option(args, "count"), &count))
		return cli_usage_error(
		        args, "--count takes a number, not '%s'", cli_option(args, "count"));
	stream = cli_open(cli);
	if (!stream)
		return status;
	reply = cli_exchange(stream, "events_subscribe",
	        since ? json_pack("{s:I}", "since", (json_int_t)first) : NULL);
	if (reply) {
		result = cli_result(cli, reply);
		status = result ? follow(cli, stream, count) : EXIT_REFUSED;
	}
	json_decref(result);
	cli_close(stream);
	return status;
}
