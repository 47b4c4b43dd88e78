/* verb_raid.c: arrays, their members and what is under way in them. */

#include <string.h>

#include "cli/cli.h"
#include "cli/raid_text.h"

/* ---- asking ---------------------------------------------------------------------------------- */

/* What the daemon says of arrays, of all bdevs, and of problems. */
struct answers {
	json_t *raids, *bdevs, *problems;
};

static void answers_free(struct answers *a)
{
	json_decref(a->raids);
	json_decref(a->bdevs);
	json_decref(a->problems);
}

/* name NULL: all arrays. False: *status says what has been reported. */
static bool ask(struct cli *cli, const char *name, struct answers *a, int *status)
{
	*a = (struct answers){0};
	a->raids =
	        cli_call(cli, "bdev_raid_get_bdevs", json_pack("{s:s}", "category", "all"), status);
	for (size_t i = 0; name && i < json_array_size(a->raids);) {
		if (strcmp(cli_str(json_array_get(a->raids, i), "name", ""), name) == 0)
			i++;
		else
			json_array_remove(a->raids, i);
	}
	if (a->raids && name && json_array_size(a->raids) == 0) {
		cli_error("there is no array '%s'", name);
		*status = EXIT_REFUSED;
		return false;
	}
	if (a->raids)
		a->bdevs = cli_call(cli, "bdev_get_bdevs", NULL, status);
	if (a->bdevs)
		a->problems = cli_call(cli, "bdev_get_problems", NULL, status);
	return a->problems != NULL;
}

/* ---- list ------------------------------------------------------------------------------------ */

static const struct table_column list_columns[] = {
        {"NAME", false},
        {"LEVEL", false},
        {"STATE", false},
        {"SIZE", true},
        {"MEMBERS", false},
        {"UNDER WAY", false},
};

static void list_row(struct table *table, const struct answers *a, const json_t *raid)
{
	char size[SIZE_TEXT_MAX], members[64];
	autofree char *process = raid_process_text(raid);

	raid_size_text(size, sizeof(size), raid, a->bdevs);
	raid_members_text(members, sizeof(members), raid);
	table_row(table,
	        (const char *[]){cli_str(raid, "name", "?"), cli_str(raid, "raid_level", "?"),
	                raid_state_word(raid), size, members, process});
}

static void print_names(const json_t *list, const char *key)
{
	json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry)
		print_line(cli_str(entry, key, ""), stdout);
}

int verb_raid_list(struct cli *cli, const struct cli_args *args)
{
	struct answers a;
	struct table *table;
	json_t *raid;
	size_t i;
	int status = EXIT_DONE;
	bool ok = ask(cli, NULL, &a, &status);

	if (ok && cli_option(args, "names")) {
		print_names(a.raids, "name");
	} else if (ok && cli->json) {
		cli_print_json(a.raids);
	} else if (ok && json_array_size(a.raids) == 0) {
		puts("no arrays");
	} else if (ok) {
		table = table_new(list_columns, ARRAY_SIZE(list_columns));
		json_array_foreach (a.raids, i, raid)
			list_row(table, &a, raid);
		table_print(cli, table, stdout);
	}
	answers_free(&a);
	return status;
}

/* ---- status ---------------------------------------------------------------------------------- */

int verb_raid_status(struct cli *cli, const struct cli_args *args)
{
	struct answers a;
	json_t *raid;
	size_t i;
	int status = EXIT_DONE;
	bool ok = ask(cli, args->count ? args->words[0] : NULL, &a, &status), whole = true;

	if (ok && cli->json)
		cli_print_json(a.raids);
	else if (ok && json_array_size(a.raids) == 0)
		puts("no arrays");
	json_array_foreach (a.raids, i, raid) {
		if (!ok)
			break;
		if (!cli->json && i > 0)
			putchar('\n');
		if (!cli->json)
			raid_print(cli, raid, a.bdevs, a.problems, stdout);
		whole &= raid_is_whole(raid, a.problems);
	}
	answers_free(&a);
	return ok && !whole ? EXIT_REFUSED : status;
}

/* ---- spares ---------------------------------------------------------------------------------- */

static const struct table_column spare_columns[] = {{"SPARE", false}, {"FOR", false}, {"", false}};

int verb_spare_list(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *spares = cli_call(cli, "bdev_raid_get_spares", NULL, &status), *spare;
	struct table *table;
	size_t i;

	if (!spares)
		return status;
	if (cli_option(args, "names")) {
		print_names(spares, "base_bdev");
	} else if (cli->json) {
		cli_print_json(spares);
	} else if (json_array_size(spares) == 0) {
		puts("no spares");
	} else {
		table = table_new(spare_columns, ARRAY_SIZE(spare_columns));
		json_array_foreach (spares, i, spare)
			table_row(
			        table, (const char *[]){cli_str(spare, "base_bdev", "?"),
			                       cli_str(spare, "raid_bdev", "any array"),
			                       cli_bool(spare, "present") ? "" : "not there yet"});
		table_print(cli, table, stdout);
	}
	json_decref(spares);
	return status;
}
