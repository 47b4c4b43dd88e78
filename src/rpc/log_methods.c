/* log_methods.c: what is logged. */

#include <string.h>

#include "base/log.h"
#include "loop/loop.h"
#include "rpc/rpc.h"

static const char *const level_names[] = {"ERROR", "WARNING", "NOTICE", "INFO", "DEBUG", NULL};
_Static_assert(ARRAY_SIZE(level_names) == LOG_LEVELS + 1, "one name per level");

/* There is no second log beside stderr: the level is only kept. */
static enum log_level log_level = LOG_NOTICE;

struct level_params {
	int level;
};

static const struct param level_table[] = {
        {PARAM(struct level_params, level, PARAM_ENUM), .required = true, .values = level_names,
                .help = "the most talkative level that is let through"},
        {0},
};

static void set_level(struct rpc_request *request, void *params)
{
	log_level = (enum log_level)((struct level_params *)params)->level;
	rpc_reply(request, NULL);
}

static struct rpc_method log_set_level = {
        .name = "log_set_level",
        .summary = "Accepted and kept; has no effect, as there is no log beside stderr",
        .result_help = "true",
        .params = level_table,
        .params_bytes = sizeof(struct level_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .handler = set_level,
};
RPC_METHOD(log_set_level);

static void get_level(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request, json_string(level_names[log_level]));
}

static struct rpc_method log_get_level = {
        .name = "log_get_level",
        .summary = "What log_set_level has set",
        .result_help = "name of the level",
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_NO_PARAMS,
        .handler = get_level,
};
RPC_METHOD(log_get_level);

static void set_print_level(struct rpc_request *request, void *params)
{
	log_set_print_level((enum log_level)((struct level_params *)params)->level);
	rpc_reply(request, NULL);
}

static struct rpc_method print_level_set = {
        .name = "log_set_print_level",
        .summary = "Sets what is printed on stderr",
        .result_help = "true",
        .params = level_table,
        .params_bytes = sizeof(struct level_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .handler = set_print_level,
};
RPC_METHOD(print_level_set);

static void get_print_level(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request, json_string(level_names[log_get_print_level()]));
}

static struct rpc_method print_level_get = {
        .name = "log_get_print_level",
        .summary = "What is printed on stderr",
        .result_help = "name of the level",
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_NO_PARAMS,
        .handler = get_print_level,
};
RPC_METHOD(print_level_get);

/* ---- flags ----------------------------------------------------------------------------------- */

struct flag_params {
	char *flag;
};

static const struct param flag_table[] = {
        {PARAM(struct flag_params, flag, PARAM_STRING), .required = true,
                .help = "\"all\"; there are no others"},
        {0},
};

static void change_flag(struct rpc_request *request, void *params)
{
	const struct flag_params *p = params;

	if (strcmp(p->flag, "all") == 0)
		rpc_reply(request, NULL);
	else
		rpc_fail(request, RPC_INVALID_PARAMS,
		        "there is no log flag '%s'; use log_set_print_level", p->flag);
}

static struct rpc_method log_set_flag = {
        .name = "log_set_flag",
        .summary = "Accepts \"all\"; there are no log flags, see log_set_print_level",
        .result_help = "true",
        .params = flag_table,
        .params_bytes = sizeof(struct flag_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .handler = change_flag,
};
RPC_METHOD(log_set_flag);

static struct rpc_method log_clear_flag = {
        .name = "log_clear_flag",
        .summary = "Accepts \"all\"; there are no log flags, see log_set_print_level",
        .result_help = "true",
        .params = flag_table,
        .params_bytes = sizeof(struct flag_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .handler = change_flag,
};
RPC_METHOD(log_clear_flag);

static void get_flags(struct rpc_request *request, void *params)
{
	(void)params;
	rpc_reply(request, json_object());
}

static struct rpc_method log_get_flags = {
        .name = "log_get_flags",
        .summary = "The log flags: none",
        .result_help = "an empty object",
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_NO_PARAMS,
        .handler = get_flags,
};
RPC_METHOD(log_get_flags);

struct timestamps_params {
	bool enabled;
};

static const struct param timestamps_table[] = {
        {PARAM(struct timestamps_params, enabled, PARAM_BOOL), .required = true,
                .help = "print the time before each line"},
        {0},
};

static void enable_timestamps(struct rpc_request *request, void *params)
{
	log_set_clock(((struct timestamps_params *)params)->enabled ? loop_wall_ns : NULL);
	rpc_reply(request, NULL);
}

static struct rpc_method log_enable_timestamps = {
        .name = "log_enable_timestamps",
        .summary = "Switches the time before each log line on or off",
        .result_help = "true",
        .params = timestamps_table,
        .params_bytes = sizeof(struct timestamps_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = enable_timestamps,
};
RPC_METHOD(log_enable_timestamps);
