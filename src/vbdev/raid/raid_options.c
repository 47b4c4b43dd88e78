/*
 * raid_options.c: bdev_raid_set_options: what holds for all arrays, and what one array has of its
 * own instead. Those are known by the array's name, so they may be there before it is.
 */
#include "vbdev/raid/raid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct raid_options raid_options = RAID_OPTIONS_DEFAULT;

struct own {
	struct list link;
	char name[RAID_SB_NAME_BYTES];
	uint32_t values[RAID_PACE_OPTIONS];
	bool given[RAID_PACE_OPTIONS];
};

static struct list owns = LIST_INIT(owns);

static const struct limits {
	const char *name;
	uint32_t min, max;
} limits[RAID_PACE_OPTIONS] = {
        [RAID_PACE_WINDOW_KB] = {"process_window_size_kb", 1, RAID_WINDOW_MAX_KB},
        [RAID_PACE_BANDWIDTH_MB] = {"process_max_bandwidth_mb_sec", 0, UINT32_MAX},
        [RAID_PACE_SHARE_PERCENT] = {"process_share_percent", 1, 100},
};

static struct own *own_of(const char *name)
{
	struct own *own;

	list_for_each (own, &owns, link) {
		if (strcmp(own->name, name) == 0)
			return own;
	}
	return NULL;
}

uint32_t raid_pace_option(const struct raid *raid, enum raid_pace_option option)
{
	const struct own *own = own_of(raid->name);

	return own && own->given[option] ? own->values[option] : raid_options.pace[option];
}

static void forget(struct own *own)
{
	list_remove(&own->link);
	free(own);
}

void raid_options_forget(const char *name)
{
	struct own *own = own_of(name);

	if (own)
		forget(own);
}

void raid_options_stop(void)
{
	struct own *own, *next;

	list_for_each_safe (own, next, &owns, link)
		forget(own);
	raid_options = (struct raid_options)RAID_OPTIONS_DEFAULT;
}

/* ---- saving -----------------------------------------------------------------------------------
 */

static json_t *call(json_t *params)
{
	return json_pack("{s:s, s:o}", "method", "bdev_raid_set_options", "params", params);
}

void raid_options_save(json_t *calls)
{
	json_t *params = json_object();
	const struct own *own;

	for (unsigned i = 0; i < RAID_PACE_OPTIONS; i++) {
		if (i == RAID_PACE_SHARE_PERCENT && raid_options.pace[i] == RAID_SHARE_DEFAULT)
			continue; /* which others don't know */
		json_object_set_new(params, limits[i].name, json_integer(raid_options.pace[i]));
	}
	if (raid_options.wait_s == RAID_WAIT_NEVER)
		json_object_set_new(params, "degraded_start_wait", json_string("never"));
	else if (raid_options.wait_s != RAID_WAIT_DEFAULT_S)
		json_object_set_new(params, "degraded_start_wait",
		        json_integer((json_int_t)raid_options.wait_s));
	json_array_append_new(calls, call(params));
	list_for_each (own, &owns, link) {
		params = json_pack("{s:s}", "name", own->name);
		for (unsigned i = 0; i < RAID_PACE_OPTIONS; i++) {
			if (own->given[i])
				json_object_set_new(
				        params, limits[i].name, json_integer(own->values[i]));
		}
		json_array_append_new(calls, call(params));
	}
}

/* ---- bdev_raid_set_options --------------------------------------------------------------------
 */

#define PACE(option, text)                                                                         \
	.name = (text), .offset = offsetof(struct raid_options_params, values[option]),            \
	.type = PARAM_U32, .given = offsetof(struct raid_options_params, given[option])

const struct param raid_options_table[] = {
        {PARAM(struct raid_options_params, name, PARAM_STRING),
                .help = "the array that the other options are for, which may appear later; left "
                        "out: all that have none of their own"},
        {PACE(RAID_PACE_WINDOW_KB, "process_window_size_kb"), .unit = "KiB", .def = 1024,
                .help = "how much a rebuild, resync or check does at a time"},
        {PACE(RAID_PACE_BANDWIDTH_MB, "process_max_bandwidth_mb_sec"), .unit = "MiB/s",
                .help = "limit of these; 0: none. Holds at once"},
        {PACE(RAID_PACE_SHARE_PERCENT, "process_share_percent"), .unit = "%",
                .def = RAID_SHARE_DEFAULT,
                .help = "how much of the time these take, at most, while clients use the array; "
                        "100: they don't yield. Holds at once"},
        {PARAM(struct raid_options_params, degraded_start_wait, PARAM_JSON), .unit = "s",
                .help = "how long a found mirror waits for its members (10 at first); 0: not at "
                        "all; \"never\": until all are there"},
        {0},
};

static int check(const struct raid_options_params *p, struct err *err)
{
	const json_t *wait = p->degraded_start_wait;
	const char *text = json_string_value(wait);
	json_int_t seconds = json_integer_value(wait);

	for (unsigned i = 0; i < RAID_PACE_OPTIONS; i++) {
		if (p->given[i] && (p->values[i] < limits[i].min || p->values[i] > limits[i].max))
			return err_set(err, -EINVAL, "%s can be %u to %u", limits[i].name,
			        limits[i].min, limits[i].max);
	}
	if (wait && !(text && strcmp(text, "never") == 0) &&
	        !(json_is_integer(wait) && seconds >= 0 && seconds <= 86400))
		return err_set(err, -EINVAL, "degraded_start_wait can be 0 to 86400, or \"never\"");
	if (p->name && wait)
		return err_set(
		        err, -EINVAL, "degraded_start_wait is for all arrays: leave name out");
	if (p->name && (!p->name[0] || strlen(p->name) >= RAID_SB_NAME_BYTES))
		return err_set(
		        err, -EINVAL, "a name has 1 to %d characters", RAID_SB_NAME_BYTES - 1);
	return 0;
}

static struct own *take_own(const char *name)
{
	struct own *own = own_of(name);

	if (own)
		return own;
	own = xcalloc(1, sizeof(*own));
	str_copy(own->name, sizeof(own->name), name);
	list_push_back(&owns, &own->link);
	return own;
}

void raid_options_handler(struct rpc_request *request, void *params)
{
	const struct raid_options_params *p = params;
	const json_t *wait = p->degraded_start_wait;
	struct err err = ERR_NONE;

	if (check(p, &err) == 0) {
		struct own *own = p->name ? take_own(p->name) : NULL;

		for (unsigned i = 0; i < RAID_PACE_OPTIONS; i++) {
			if (!p->given[i])
				continue;
			if (own)
				own->given[i] = true;
			*(own ? &own->values[i] : &raid_options.pace[i]) = p->values[i];
		}
		if (wait)
			raid_options.wait_s = json_is_string(wait)
			                              ? RAID_WAIT_NEVER
			                              : (uint32_t)json_integer_value(wait);
	}
	rpc_reply_err(request, &err);
}
