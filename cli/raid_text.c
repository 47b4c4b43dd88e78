/* raid_text.c: an array in words. */

#include "cli/raid_text.h"

#include <string.h>

static unsigned count_members(const json_t *raid, bool complete)
{
	json_t *member;
	unsigned n = 0;
	size_t i;

	json_array_foreach (json_object_get(raid, "base_bdevs_list"), i, member)
		n += cli_bool(member, "is_configured") &&
		     (!complete || !cli_bool(member, "rebuilding"));
	return n;
}

static bool is_online(const json_t *raid)
{
	return strcmp(cli_str(raid, "state", ""), "online") == 0;
}

const char *raid_state_word(const json_t *raid)
{
	const char *state = cli_str(raid, "state", "?");
	unsigned complete = count_members(raid, true), all = count_members(raid, false);

	if (strcmp(state, "configuring") == 0)
		return "waiting";
	if (!is_online(raid))
		return state;
	if (complete == cli_u64(raid, "num_base_bdevs"))
		return "online";
	return all > complete ? "rebuilding" : "degraded";
}

void raid_members_text(char *text, size_t size, const json_t *raid)
{
	unsigned complete = count_members(raid, true);
	unsigned long long places = cli_u64(raid, "num_base_bdevs");

	if (complete == places)
		snprintf(text, size, "%llu", places);
	else
		snprintf(text, size, "%u of %llu", complete, places);
}

void raid_size_text(char *text, size_t size, const json_t *raid, const json_t *bdevs)
{
	json_t *bdev;
	size_t i;

	text[0] = '\0';
	json_array_foreach (bdevs, i, bdev) {
		if (strcmp(cli_str(bdev, "name", ""), cli_str(raid, "name", "?")) == 0)
			format_size_bytes(text, size,
			        cli_u64(bdev, "num_blocks") * cli_u64(bdev, "block_size"));
	}
}

void raid_time_text(char *text, size_t size, uint64_t seconds)
{
	unsigned long long minutes = seconds / 60, hours = minutes / 60;

	if (seconds < 60)
		snprintf(text, size, "%llu s", (unsigned long long)seconds);
	else if (minutes < 60)
		snprintf(text, size, "%llu min", minutes);
	else if (hours < 48)
		snprintf(text, size, "%llu h %llu min", hours, minutes % 60);
	else
		snprintf(text, size, "%llu days", hours / 24);
}

/* What a process says of its pace. */
static char *pace_text(const json_t *process)
{
	uint64_t bytes = cli_u64(process, "bytes_per_sec");
	const json_t *left = json_object_get(process, "seconds_left");
	char speed[SIZE_TEXT_MAX], time[64];

	if (cli_bool(process, "paused"))
		return xstrdup(", paused");
	format_size_bytes(speed, sizeof(speed), bytes);
	raid_time_text(time, sizeof(time), cli_u64(process, "seconds_left"));
	return xasprintf("%s%s%s%s%s", bytes ? ", " : "", bytes ? speed : "", bytes ? "/s" : "",
	        left ? ", " : "", left ? time : "");
}

char *raid_process_text(const json_t *raid)
{
	const json_t *process = json_object_get(raid, "process");
	const json_t *check = json_object_get(raid, "check");
	const char *target = cli_str(process, "target", NULL);
	unsigned long long regions = cli_u64(raid, "resync_regions_left");

	if (process) {
		autofree char *pace = pace_text(process);
		bool left = json_object_get(process, "seconds_left") != NULL;

		return xasprintf("%s%s%s: %llu %%%s%s", cli_str(process, "type", "?"),
		        target ? " of " : "", target ? target : "",
		        (unsigned long long)cli_u64(
		                json_object_get(process, "progress"), "percent"),
		        pace, left && !cli_bool(process, "paused") ? " left" : "");
	}
	if (strcmp(cli_str(check, "state", ""), "running") == 0)
		return xasprintf("check: %llu blocks, %llu differ",
		        (unsigned long long)cli_u64(check, "blocks"),
		        (unsigned long long)cli_u64(check, "different_blocks"));
	if (regions)
		return xasprintf("resync: %llu regions left", regions);
	return NULL;
}

/* ---- one array in full ----------------------------------------------------------------------- */

/* Is it about this array: raised on its bdev, or on a member by what arrays do? */
static bool concerns(const json_t *problem, const json_t *raid)
{
	const char *bdev = cli_str(problem, "bdev", "");
	json_t *member;
	size_t i;

	if (strcmp(bdev, cli_str(raid, "name", "?")) == 0)
		return true;
	if (strncmp(cli_str(problem, "key", ""), "raid ", 5) != 0)
		return false;
	json_array_foreach (json_object_get(raid, "base_bdevs_list"), i, member) {
		if (strcmp(bdev, cli_str(member, "name", "")) == 0)
			return true;
	}
	return false;
}

bool raid_is_whole(const json_t *raid, const json_t *problems)
{
	json_t *problem;
	size_t i;

	json_array_foreach (problems, i, problem) {
		if (concerns(problem, raid))
			return false;
	}
	return is_online(raid) && count_members(raid, true) == cli_u64(raid, "num_base_bdevs");
}

static const struct table_column columns[] = {
        {"  SLOT", true},
        {"MEMBER", false},
        {"STATE", false},
        {"UUID", false},
};

static const char *member_state(const json_t *raid, const json_t *member)
{
	if (cli_bool(member, "rebuilding"))
		return "rebuilding";
	if (cli_bool(member, "is_configured"))
		return is_online(raid) ? "in use" : "there";
	return "missing";
}

static void print_members(struct cli *cli, const json_t *raid, FILE *out)
{
	static const char none[] = "00000000-0000-0000-0000-000000000000";
	struct table *table = table_new(columns, ARRAY_SIZE(columns));
	json_t *member;
	size_t i;

	json_array_foreach (json_object_get(raid, "base_bdevs_list"), i, member) {
		const char *uuid = cli_str(member, "uuid", none);
		char slot[24];

		snprintf(slot, sizeof(slot), "%zu", i);
		table_row(table,
		        (const char *[]){slot, cli_str(member, "name", "-"),
		                member_state(raid, member), strcmp(uuid, none) == 0 ? "" : uuid});
	}
	table_print(cli, table, out);
}

static void print_check(const json_t *raid, FILE *out)
{
	const json_t *check = json_object_get(raid, "check");
	const char *state = cli_str(check, "state", "running");

	if (check && strcmp(state, "running") != 0)
		fprintf(out, "  last check: %s; %llu blocks differed, %llu repaired\n", state,
		        (unsigned long long)cli_u64(check, "different_blocks"),
		        (unsigned long long)cli_u64(check, "repaired_blocks"));
}

/* The members of an array that waits all bear the same problem. */
static bool said_before(const json_t *problems, size_t end, const json_t *raid)
{
	const char *text = cli_str(json_array_get(problems, end), "text", "");
	bool before = false;

	for (size_t i = 0; i < end; i++) {
		const json_t *problem = json_array_get(problems, i);

		before |=
		        concerns(problem, raid) && strcmp(cli_str(problem, "text", ""), text) == 0;
	}
	return before;
}

static void print_problems(const json_t *raid, const json_t *problems, FILE *out)
{
	json_t *problem;
	size_t i;

	json_array_foreach (problems, i, problem) {
		const char *action = cli_str(problem, "action", "");

		if (!concerns(problem, raid) || said_before(problems, i, raid))
			continue;
		autofree char *text = xasprintf("  problem: %s", cli_str(problem, "text", "?"));
		autofree char *line = xasprintf("  action: %s", action);

		print_line(text, out);
		if (*action)
			print_line(line, out);
	}
}

/* Of levels that can be without a member at all. */
static void redundancy_text(char *text, size_t size, const json_t *raid)
{
	unsigned long long n = cli_u64(raid, "redundancy");

	text[0] = '\0';
	if (!is_online(raid) || !json_object_get(raid, "redundancy"))
		return;
	if (n > 0)
		snprintf(text, size, ", can lose %llu", n);
	else
		str_copy(text, size, ", can lose none");
}

void raid_print(
        struct cli *cli, const json_t *raid, const json_t *bdevs, const json_t *problems, FILE *out)
{
	autofree char *process = raid_process_text(raid);
	char size[SIZE_TEXT_MAX], members[64], redundancy[64];

	raid_size_text(size, sizeof(size), raid, bdevs);
	raid_members_text(members, sizeof(members), raid);
	redundancy_text(redundancy, sizeof(redundancy), raid);
	autofree char *head = xasprintf("%s: %s, %s%s%s, %s member%s%s", cli_str(raid, "name", "?"),
	        cli_str(raid, "raid_level", "?"), raid_state_word(raid), *size ? ", " : "", size,
	        members, strcmp(members, "1") == 0 ? "" : "s", redundancy);

	print_line(head, out);
	if (process) {
		autofree char *line = xasprintf("  %s", process);

		print_line(line, out);
	}
	print_check(raid, out);
	print_problems(raid, problems, out);
	print_members(cli, raid, out);
}
