/* verb_list.c: bdevs in a list, and their rates. */

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

/* ---- list ------------------------------------------------------------------------------------ */

static json_t *name_params(const struct cli_args *args)
{
	return args->count ? json_pack("{s:s}", "name", args->words[0]) : NULL;
}

static const struct table_column list_columns[] = {
        {"NAME", false},
        {"PRODUCT", false},
        {"SIZE", true},
        {"BLOCK", true},
        {"USED", false},
        {"UUID", false},
};

static void list_row(struct table *table, const json_t *bdev)
{
	uint64_t block_bytes = cli_u64(bdev, "block_size");
	char size[SIZE_TEXT_MAX], block[24];

	format_size_bytes(size, sizeof(size), cli_u64(bdev, "num_blocks") * block_bytes);
	snprintf(block, sizeof(block), "%llu", (unsigned long long)block_bytes);
	table_row(table,
	        (const char *[]){cli_str(bdev, "name", "?"), cli_str(bdev, "product_name", ""),
	                size, block, cli_bool(bdev, "claimed") ? "yes" : "no",
	                cli_str(bdev, "uuid", "")});
}

int verb_list(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *bdevs = cli_call(cli, "bdev_get_bdevs", name_params(args), &status), *bdev;
	struct table *table;
	size_t i;

	if (!bdevs)
		return status;
	if (cli_option(args, "names")) {
		json_array_foreach (bdevs, i, bdev)
			printf("%s\n", cli_str(bdev, "name", ""));
	} else if (cli->json) {
		cli_print_json(bdevs);
	} else if (!json_array_size(bdevs)) {
		printf("no bdevs\n");
	} else {
		table = table_new(list_columns, ARRAY_SIZE(list_columns));
		json_array_foreach (bdevs, i, bdev)
			list_row(table, bdev);
		table_print(cli, table, stdout);
	}
	json_decref(bdevs);
	return status;
}

/* ---- iostat ---------------------------------------------------------------------------------- */

static const struct table_column iostat_columns[] = {
        {"NAME", false},
        {"READS/s", true},
        {"READ/s", true},
        {"LATENCY", true},
        {"WRITES/s", true},
        {"WRITTEN/s", true},
        {"LATENCY", true},
        {"UNMAPPED/s", true},
};

static json_t *iostat_params(const struct cli_args *args)
{
	return args->count ? json_pack("{s:[s]}", "names", args->words[0]) : NULL;
}

/* What two reports of one bdev differ by. */
struct rates {
	double seconds;
	double tick_rate;
	const json_t *before, *now;
};

static uint64_t grown(const struct rates *rates, const char *name)
{
	uint64_t before = cli_u64(rates->before, name), now = cli_u64(rates->now, name);

	return now > before ? now - before : 0; /* somebody may have reset it in between */
}

static double per_second(const struct rates *rates, const char *name)
{
	return (double)grown(rates, name) / rates->seconds;
}

/* Mean latency in us; 0 when there was no request. */
static double latency_us(const struct rates *rates, const char *ticks, const char *ops)
{
	uint64_t count = grown(rates, ops);

	return count ? (double)grown(rates, ticks) / rates->tick_rate * 1e6 / (double)count : 0;
}

static void rates_row(struct table *table, const struct rates *rates)
{
	char reads[32], writes[32], read[SIZE_TEXT_MAX], written[SIZE_TEXT_MAX];
	char unmapped[SIZE_TEXT_MAX], read_us[32], write_us[32];

	snprintf(reads, sizeof(reads), "%.0f", per_second(rates, "num_read_ops"));
	snprintf(writes, sizeof(writes), "%.0f", per_second(rates, "num_write_ops"));
	format_size_bytes(read, sizeof(read), (uint64_t)per_second(rates, "bytes_read"));
	format_size_bytes(written, sizeof(written), (uint64_t)per_second(rates, "bytes_written"));
	format_size_bytes(
	        unmapped, sizeof(unmapped), (uint64_t)per_second(rates, "bytes_unmapped"));
	snprintf(read_us, sizeof(read_us), "%.0f us",
	        latency_us(rates, "read_latency_ticks", "num_read_ops"));
	snprintf(write_us, sizeof(write_us), "%.0f us",
	        latency_us(rates, "write_latency_ticks", "num_write_ops"));
	table_row(table, (const char *[]){cli_str(rates->now, "name", "?"), reads, read, read_us,
	                         writes, written, write_us, unmapped});
}

static json_t *rates_json(const struct rates *rates)
{
	return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "name",
	        cli_str(rates->now, "name", "?"), "seconds", rates->seconds, "reads_per_s",
	        per_second(rates, "num_read_ops"), "bytes_read_per_s",
	        per_second(rates, "bytes_read"), "read_latency_us",
	        latency_us(rates, "read_latency_ticks", "num_read_ops"), "writes_per_s",
	        per_second(rates, "num_write_ops"), "bytes_written_per_s",
	        per_second(rates, "bytes_written"), "write_latency_us",
	        latency_us(rates, "write_latency_ticks", "num_write_ops"), "bytes_unmapped_per_s",
	        per_second(rates, "bytes_unmapped"));
}

static const json_t *same_bdev(const json_t *report, const char *name)
{
	json_t *bdev;
	size_t i;

	json_array_foreach (json_object_get(report, "bdevs"), i, bdev)
		if (strcmp(cli_str(bdev, "name", ""), name) == 0)
			return bdev;
	return NULL;
}

static void print_rates(struct cli *cli, const json_t *before, const json_t *now)
{
	double tick_rate = (double)max_u64(cli_u64(now, "tick_rate"), 1);
	double ticks = (double)(cli_u64(now, "ticks") - cli_u64(before, "ticks"));
	struct table *table = table_new(iostat_columns, ARRAY_SIZE(iostat_columns));
	json_t *bdev, *list = json_array();
	size_t i;

	json_array_foreach (json_object_get(now, "bdevs"), i, bdev) {
		struct rates rates = {.tick_rate = tick_rate,
		        .now = bdev,
		        .before = same_bdev(before, cli_str(bdev, "name", "")),
		        .seconds = ticks > 0 ? ticks / tick_rate : 1};

		rates_row(table, &rates);
		json_array_append_new(list, rates_json(&rates));
	}
	if (cli->json) {
		json_dumpf(list, stdout, JSON_COMPACT);
		putchar('\n');
	}
	table_print(cli, table, cli->json ? NULL : stdout);
	json_decref(list);
	fflush(stdout);
}

/* A number of an option in [1, 1e9], or def. 0: it was wrong, and has been said. */
static double option_number(const struct cli_args *args, const char *name, double def)
{
	const char *text = cli_option(args, name);
	char *end;
	double number;

	if (!text)
		return def;
	number = strtod(text, &end);
	if (isdigit((unsigned char)*text) && !*end && number > 0 && number <= 1e9)
		return number;
	cli_usage_error(args, "--%s takes a number above 0, not '%s'", name, text);
	return 0;
}

static void wait_seconds(double seconds)
{
	struct timespec left = {.tv_sec = (time_t)seconds};

	left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
	while (nanosleep(&left, &left) != 0)
		;
}

int verb_iostat(struct cli *cli, const struct cli_args *args)
{
	double interval = option_number(args, "interval", 1);
	double count = option_number(args, "count", cli_option(args, "interval") ? 1e18 : 1);
	json_t *before, *now;
	int status;

	if (interval <= 0 || count <= 0)
		return EXIT_USAGE;
	before = cli_call(cli, "bdev_get_iostat", iostat_params(args), &status);
	for (uint64_t i = 0; before && (double)i < count; i++) {
		wait_seconds(interval);
		now = cli_call(cli, "bdev_get_iostat", iostat_params(args), &status);
		if (now && i && !cli->json)
			putchar('\n');
		if (now)
			print_rates(cli, before, now);
		json_decref(before);
		before = now;
	}
	json_decref(before);
	return status;
}
