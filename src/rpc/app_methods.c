/* app_methods.c: what the program is, what it can, and how its loops fare. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rpc/method.h"
#include "rpc/server.h"

#ifndef BELLOWS_VERSION
#define BELLOWS_VERSION "0.0.0"
#endif

/* Ticks in results are nanoseconds. */
#define TICK_RATE ((json_int_t)NSEC_PER_SEC)

static json_t *integer(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* ---- version and methods --------------------------------------------------------------------- */

static void get_version(struct rpc_request *request, void *params)
{
	unsigned major = 0, minor = 0, patch = 0;

	(void)params;
	sscanf(BELLOWS_VERSION, "%u.%u.%u", &major, &minor, &patch);
	rpc_reply(request,
	        json_pack("{s:s, s:{s:i, s:i, s:i, s:s, s:s}}", "version",
	                "Bellows v" BELLOWS_VERSION, "fields", "major", (int)major, "minor",
	                (int)minor, "patch", (int)patch, "suffix", "", "commit", ""));
}

static struct rpc_method spdk_get_version = {
        .name = "spdk_get_version",
        .summary = "Name and version of this server",
        .result_help = "object: version, fields {major, minor, patch, suffix, commit}",
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_NO_PARAMS,
        .handler = get_version,
};
RPC_METHOD(spdk_get_version);

struct methods_params {
	bool current, include_aliases;
};

static const struct param methods_table[] = {
        {PARAM(struct methods_params, current, PARAM_BOOL),
                .help = "only those that may be called now"},
        {PARAM(struct methods_params, include_aliases, PARAM_BOOL),
                .help = "accepted; there are no aliases"},
        {0},
};

static void get_methods(struct rpc_request *request, void *params)
{
	const struct methods_params *p = params;
	const struct rpc_entry *entry;
	json_t *names = json_array();

	for (size_t i = 0; (entry = rpc_entry_at(i)); i++) {
		if (entry->forbidden)
			continue;
		if (p->current && !(rpc_method_states(entry->method) & rpc_state()))
			continue;
		json_array_append_new(names, json_string(entry->method->name));
	}
	rpc_reply(request, names);
}

static struct rpc_method rpc_get_methods = {
        .name = "rpc_get_methods",
        .summary = "The methods that there are",
        .result_help = "list of names, sorted",
        .params = methods_table,
        .params_bytes = sizeof(struct methods_params),
        .states = RPC_STARTUP | RPC_RUNTIME,
        .decode_error = RPC_INVALID_PARAMS,
        .handler = get_methods,
};
RPC_METHOD(rpc_get_methods);

/* ---- subsystems ------------------------------------------------------------------------------ */

static void get_subsystems(struct rpc_request *request, void *params)
{
	const struct rpc_subsystem *subsystem;
	json_t *list = json_array();

	(void)params;
	for (size_t i = 0; (subsystem = rpc_subsystem_at(i)); i++) {
		json_t *depends = json_array();

		for (const char *const *d = subsystem->depends_on; d && *d; d++)
			if (rpc_subsystem_find(*d))
				json_array_append_new(depends, json_string(*d));
		json_array_append_new(list, json_pack("{s:s, s:o}", "subsystem", subsystem->name,
		                                    "depends_on", depends));
	}
	rpc_reply(request, list);
}

static struct rpc_method framework_get_subsystems = {
        .name = "framework_get_subsystems",
        .summary = "The sections of a configuration, in the order in which they are loaded",
        .result_help = "list of {subsystem, depends_on}",
        .flags = RPC_NO_PARAMS,
        .handler = get_subsystems,
};
RPC_METHOD(framework_get_subsystems);

struct config_params {
	char *name;
	bool with_batches;
};

static const struct param config_table[] = {
        {PARAM(struct config_params, name, PARAM_STRING), .required = true,
                .help = "name of the subsystem"},
        {PARAM(struct config_params, with_batches, PARAM_BOOL),
                .help = "accepted; nothing is saved in batches"},
        {0},
};

static void get_config(struct rpc_request *request, void *params)
{
	const struct config_params *p = params;
	const struct rpc_subsystem *subsystem = rpc_subsystem_find(p->name);
	json_t *config;

	if (!subsystem) {
		rpc_fail(request, RPC_INVALID_PARAMS, "there is no subsystem '%s'", p->name);
		return;
	}
	config = subsystem->save ? subsystem->save() : NULL;
	rpc_reply(request, config ? config : json_null());
}

static struct rpc_method framework_get_config = {
        .name = "framework_get_config",
        .summary = "What recreates the present state of a subsystem",
        .result_help = "list of {method, params}; null when there is nothing to save",
        .params = config_table,
        .params_bytes = sizeof(struct config_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = get_config,
};
RPC_METHOD(framework_get_config);

/* ---- loops ----------------------------------------------------------------------------------- */

static void loop_name(unsigned id, char *name, size_t size)
{
	if (id == LOOP_CONTROL)
		str_copy(name, size, "control");
	else
		snprintf(name, size, "data_%u", id);
}

static void get_reactors(struct rpc_request *request, void *params)
{
	json_t *list = json_array();

	(void)params;
	for (unsigned id = 0; id < loops_count(); id++) {
		struct loop_stats stats;
		struct loop_thread os;
		char name[32];
		json_t *thread;

		loop_get_stats(id, &stats);
		loop_get_thread(id, &os);
		loop_name(id, name, sizeof(name));
		thread = json_pack("[{s:s, s:i, s:s, s:o}]", "name", name, "id", (int)id, "cpumask",
		        "", "elapsed", integer(stats.busy_ns + stats.idle_ns));
		json_array_append_new(
		        list, json_pack("{s:i, s:i, s:i, s:o, s:o, s:b, s:i, s:o, s:o, s:o, s:o, "
		                        "s:o, s:o}",
		                      "lcore", (int)id, "numa_id", os.numa_id, "tid", os.tid,
		                      "busy", integer(stats.busy_ns), "idle",
		                      integer(stats.idle_ns), "in_interrupt", true, "irq", 0, "sys",
		                      integer(os.sys_ticks), "usr", integer(os.usr_ticks), "turns",
		                      integer(stats.turns), "sleeps", integer(stats.sleeps),
		                      "submits", integer(stats.submits), "lw_threads", thread));
	}
	rpc_reply(request, json_pack("{s:I, s:i, s:o}", "tick_rate", TICK_RATE, "pid",
	                           (int)getpid(), "reactors", list));
}

static struct rpc_method framework_get_reactors = {
        .name = "framework_get_reactors",
        .summary = "The loops: 0 is the control loop, the others move data",
        .result_help = "object: tick_rate, pid, reactors [{lcore, numa_id, tid, busy, idle, "
                       "in_interrupt, irq, sys, usr, turns, sleeps, submits, lw_threads}]; busy "
                       "and idle in ns, sys and usr of the thread in 1/100 s, irq is 0",
        .flags = RPC_NO_PARAMS,
        .handler = get_reactors,
};
RPC_METHOD(framework_get_reactors);

static void get_thread_stats(struct rpc_request *request, void *params)
{
	json_t *list = json_array();

	(void)params;
	for (unsigned id = 0; id < loops_count(); id++) {
		struct loop_stats stats;
		char name[32];

		loop_get_stats(id, &stats);
		loop_name(id, name, sizeof(name));
		json_array_append_new(
		        list, json_pack("{s:s, s:i, s:s, s:o, s:o, s:i, s:i, s:i}", "name", name,
		                      "id", (int)id, "cpumask", "", "busy", integer(stats.busy_ns),
		                      "idle", integer(stats.idle_ns), "active_pollers_count", 0,
		                      "timed_pollers_count", 0, "paused_pollers_count", 0));
	}
	rpc_reply(request, json_pack("{s:I, s:o}", "tick_rate", TICK_RATE, "threads", list));
}

static struct rpc_method thread_get_stats = {
        .name = "thread_get_stats",
        .summary = "The time that each loop was busy and idle",
        .result_help = "object: tick_rate, threads [{name, id, cpumask, busy, idle, ...}]; there "
                       "are no pollers to count",
        .flags = RPC_NO_PARAMS,
        .handler = get_thread_stats,
};
RPC_METHOD(thread_get_stats);
