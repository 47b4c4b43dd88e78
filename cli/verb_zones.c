/* verb_zones.c: the zones of a zoned bdev. */

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define ZONES_PER_CALL 4096

static const struct table_column columns[] = {
        {"ZONE", true},
        {"STATE", false},
        {"START", true},
        {"WRITTEN", true},
        {"CAPACITY", true},
};

static void number(char *buf, size_t size, uint64_t n)
{
	snprintf(buf, size, "%llu", (unsigned long long)n);
}

static void zone_row(struct table *table, const json_t *zone)
{
	uint64_t start = cli_u64(zone, "start");
	char id[24], begin[24], written[24], capacity[24];

	number(id, sizeof(id), cli_u64(zone, "zone"));
	number(begin, sizeof(begin), start);
	number(written, sizeof(written), cli_u64(zone, "write_pointer") - start);
	number(capacity, sizeof(capacity), cli_u64(zone, "capacity"));
	table_row(
	        table, (const char *[]){id, cli_str(zone, "state", "?"), begin, written, capacity});
}

/* All of them, however many: one report that has them all. NULL after an error. */
static json_t *all_zones(struct cli *cli, const char *name, int *status)
{
	json_t *all = NULL, *part, *zones = NULL;

	do {
		part = cli_call(cli, "bdev_zone_report",
		        json_pack("{s:s, s:I, s:i}", "name", name, "start_zone",
		                (json_int_t)json_array_size(zones), "num_zones", ZONES_PER_CALL),
		        status);
		if (!part) {
			json_decref(all);
			return NULL;
		}
		if (all) {
			json_array_extend(zones, json_object_get(part, "zones"));
			json_decref(part);
		} else {
			all = part;
			zones = json_object_get(all, "zones");
		}
	} while (json_array_size(zones) < cli_u64(all, "num_zones") && json_array_size(zones));
	return all;
}

int verb_zones(struct cli *cli, const struct cli_args *args)
{
	const char *state = cli_option(args, "state");
	struct table *table;
	json_t *all, *zone;
	size_t i;
	int status;

	all = all_zones(cli, args->words[0], &status);
	if (!all)
		return status;
	if (cli->json) {
		cli_print_json(all);
	} else {
		table = table_new(columns, ARRAY_SIZE(columns));
		json_array_foreach (json_object_get(all, "zones"), i, zone) {
			if (!state || strcmp(cli_str(zone, "state", ""), state) == 0)
				zone_row(table, zone);
		}
		table_print(cli, table, stdout);
	}
	json_decref(all);
	return status;
}
