/* verb_limit.c: rate limits of a bdev. */

#include "cli/cli.h"
#include "rpc/rpc.h"

static const char method_name[] = "bdev_set_qos_limit";

static int show_limits(struct cli *cli, const char *name)
{
	static const struct table_column columns[] = {{"LIMIT", false}, {"VALUE", true}};
	int status;
	json_t *bdevs = cli_call(cli, "bdev_get_bdevs", json_pack("{s:s}", "name", name), &status);
	json_t *limits = json_object_get(json_array_get(bdevs, 0), "assigned_rate_limits");
	struct table *table;
	const char *key;
	json_t *value;

	if (limits && cli->json) {
		cli_print_json(limits);
	} else if (limits) {
		table = table_new(columns, ARRAY_SIZE(columns));
		json_object_foreach (limits, key, value) {
			char text[32] = "none";

			if (json_integer_value(value))
				snprintf(text, sizeof(text), "%llu",
				        (unsigned long long)cli_u64(limits, key));
			table_row(table, (const char *[]){key, text});
		}
		table_print(cli, table, stdout);
	}
	json_decref(bdevs);
	return status;
}

int verb_limit(struct cli *cli, const struct cli_args *args)
{
	struct err err = ERR_NONE;
	json_t *params, *result;
	int status;

	if (args->count == 1)
		return show_limits(cli, args->words[0]);
	params = words_to_params(
	        cli_method_find(method_name)->params, args->count, args->words, &err);
	if (!params) {
		cli_error("%s (see: bellows help %s)", err.text, method_name);
		return EXIT_USAGE;
	}
	result = cli_call(cli, method_name, params, &status);
	if (result && cli->json)
		cli_print_json(result);
	json_decref(result);
	return status;
}
