/* verb_resize.c: giving a bdev another size, and how each bdev takes part in it. */

#include <string.h>

#include "cli/cli.h"

/* ---- the size that is asked for -------------------------------------------------------------- */

/* Block size of a bdev; 0 after an error. */
static uint64_t block_bytes_of(struct cli *cli, const char *name, int *status)
{
	json_t *bdevs = cli_call(cli, "bdev_get_bdevs", json_pack("{s:s}", "name", name), status);
	uint64_t block_bytes = cli_u64(json_array_get(bdevs, 0), "block_size");

	json_decref(bdevs);
	return block_bytes;
}

/*
 * Params of bdev_resize; NULL after an error. A change goes to the daemon as a change, which
 * applies it to the size of that moment.
 */
static json_t *resize_params(struct cli *cli, const struct cli_args *args, int *status)
{
	const char *name = args->words[0], *text = args->words[1];
	struct size_word size;
	struct err err = ERR_NONE;
	uint64_t bytes;

	if (word_to_size(text, &size, &err)) {
		*status = cli_usage_error(args, "%s", err.text);
		return NULL;
	}
	if (!size.in_blocks)
		return json_pack("{s:s, s:s}", "name", name, "size", text);
	if (!size.sign && size.amount <= INT64_MAX)
		return json_pack("{s:s, s:I}", "name", name, "num_blocks", (json_int_t)size.amount);
	bytes = block_bytes_of(cli, name, status);
	if (!bytes)
		return NULL;
	if (__builtin_mul_overflow(bytes, size.amount, &bytes)) {
		*status = cli_usage_error(args, "'%s' is more than there can be", text);
		return NULL;
	}
	autofree char *change = xasprintf("%c%llu", size.sign, (unsigned long long)bytes);

	return json_pack("{s:s, s:s}", "name", name, "size", change);
}

/* ---- the report ------------------------------------------------------------------------------ */

static const struct table_column columns[] = {
        {"BDEV", false},
        {"OLD", true},
        {"", false},
        {"NEW", false},
        {"CLIENTS", false},
        {"WHY", false},
};

/* An exact size: in blocks where the short form is rounded. */
static void size_text(char *text, size_t size, const json_t *layer, const char *member)
{
	uint64_t blocks = cli_u64(layer, member), bytes = blocks * cli_u64(layer, "block_size");
	uint64_t shown;

	format_size_bytes(text, size, bytes);
	if (parse_size_bytes(text, &shown) || shown != bytes)
		snprintf(text, size, "%llu blocks", (unsigned long long)blocks);
}

static void clients_text(char *text, size_t size, const json_t *layer)
{
	uint64_t told = cli_u64(layer, "told"), untold = cli_u64(layer, "cannot_tell");
	int len = 0;

	text[0] = '\0';
	if (told)
		len = snprintf(text, size, "%llu told", (unsigned long long)told);
	if (untold)
		snprintf(text + len, size - (size_t)len, "%s%llu cannot be told", told ? ", " : "",
		        (unsigned long long)untold);
}

static void add_layer(struct cli *cli, struct table *table, const json_t *layer)
{
	const char *refused = cli_str(layer, "refused", NULL);
	bool same = cli_u64(layer, "old_blocks") == cli_u64(layer, "new_blocks");
	char old_size[SIZE_TEXT_MAX], new_size[SIZE_TEXT_MAX], clients[64];
	autofree char *why =
	        refused ? xstrdup("refuses, see below") : xstrdup(cli_str(layer, "why", ""));

	size_text(old_size, sizeof(old_size), layer, "old_blocks");
	size_text(new_size, sizeof(new_size), layer, "new_blocks");
	clients_text(clients, sizeof(clients), layer);
	table_row(table, (const char *[]){cli_str(layer, "name", "?"), old_size,
	                         refused         ? "x"
	                         : same          ? "="
	                         : cli_utf8(cli) ? "\u2192"
	                                         : "->",
	                         new_size, clients, why});
}

static void print_layers(struct cli *cli, const json_t *report)
{
	struct table *table = table_new(columns, ARRAY_SIZE(columns));
	json_t *layer;
	size_t i;

	json_array_foreach (json_object_get(report, "layers"), i, layer)
		add_layer(cli, table, layer);
	table_print(cli, table, stdout);
}

static unsigned count_clients(const json_t *report, const char *member)
{
	json_t *layer;
	uint64_t count = 0;
	size_t i;

	json_array_foreach (json_object_get(report, "layers"), i, layer)
		count += cli_u64(layer, member);
	return (unsigned)count;
}

static void print_done(struct cli *cli, const json_t *report)
{
	unsigned told = count_clients(report, "told");
	unsigned untold = count_clients(report, "cannot_tell");

	print_layers(cli, report);
	printf("done in %.1f ms", (double)cli_u64(report, "duration_us") / 1000);
	if (told)
		printf("; %u client%s told", told, told == 1 ? " was" : "s were");
	if (untold == 1)
		printf("; 1 client cannot be told by its protocol: it sees the new size when it "
		       "connects again");
	else if (untold)
		printf("; %u clients cannot be told by their protocol: they see the new size when "
		       "they connect again",
		        untold);
	putchar('\n');
}

/* Further layers that refuse, beside the one that the reason is about. */
static void print_refusals(const json_t *plan)
{
	const char *reason = cli_str(plan, "reason", "");
	json_t *layer;
	size_t i;

	json_array_foreach (json_object_get(plan, "layers"), i, layer) {
		const char *refused = cli_str(layer, "refused", NULL);

		if (refused && !strstr(reason, refused)) {
			autofree char *line =
			        xasprintf("%s refuses: %s", cli_str(layer, "name", "?"), refused);

			print_line(line, stdout);
		}
	}
}

/* The plan of what was asked for. *refused: somebody would refuse. */
static int show_plan(struct cli *cli, json_t *params, bool *refused)
{
	int status;
	json_t *plan = cli_call(cli, "bdev_get_resize_plan", params, &status);

	*refused = plan && !cli_bool(plan, "possible");
	if (plan && cli->json)
		cli_print_json(plan);
	else if (plan)
		print_layers(cli, plan);
	if (*refused) {
		if (!cli->json)
			print_refusals(plan);
		cli_error("it would be refused: %s (code %lld)",
		        cli_str(plan, "reason", "no reason given"),
		        (long long)json_integer_value(json_object_get(plan, "code")));
		status = EXIT_REFUSED;
	} else if (plan && !cli->json) {
		printf("possible; nothing was changed\n");
	}
	json_decref(plan);
	return status;
}

int verb_resize(struct cli *cli, const struct cli_args *args)
{
	int status = EXIT_DONE;
	json_t *params = resize_params(cli, args, &status), *report;
	bool refused;

	if (!params)
		return status;
	if (cli_option(args, "dry-run"))
		return show_plan(cli, params, &refused);
	report = cli_call(cli, "bdev_resize", params, &status);
	if (report && cli->json)
		cli_print_json(report);
	else if (report)
		print_done(cli, report);
	json_decref(report);
	return status;
}

int verb_policy(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *result;

	if (strcmp(args->words[1], "follow") != 0 && strcmp(args->words[1], "hold") != 0)
		return cli_usage_error(
		        args, "the policy is follow or hold, not '%s'", args->words[1]);
	result = cli_call(cli, "bdev_set_resize_policy",
	        json_pack("{s:s, s:s}", "name", args->words[0], "policy", args->words[1]), &status);
	if (result && cli->json)
		cli_print_json(result);
	json_decref(result);
	return status;
}
