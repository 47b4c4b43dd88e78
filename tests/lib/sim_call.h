/*
 * sim_call.h: JSON-RPC calls of a test that runs in a simulated daemon. Who needs another patience
 * says so before: PATIENCE_NS.
 */
#pragma once

#include <jansson.h>

#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/sim.h"

#ifndef PATIENCE_NS
#define PATIENCE_NS (100 * NSEC_PER_SEC)
#endif

static inline bool is_set(void *arg)
{
	return *(bool *)arg;
}

static inline void wait_for(bool *flag, const char *what)
{
	if (!sim_run_until(is_set, flag, PATIENCE_NS))
		sim_fail("stuck", "%s does not end", what);
}

static inline void let_pass(uint64_t ns)
{
	bool never = false;

	sim_run_until(is_set, &never, ns);
}

struct answer {
	bool done;
	json_t *reply;
};

static inline void called(void *arg, const json_t *reply)
{
	struct answer *answer = arg;

	answer->reply = json_deep_copy(reply);
	answer->done = true;
}

/* params: JSON, or NULL. */
static inline json_t *call_json(const char *method, const char *params)
{
	struct answer answer = {0};

	rpc_call(method, params ? json_loads(params, 0, NULL) : NULL, called, &answer);
	wait_for(&answer.done, method);
	return answer.reply;
}

static inline void ok(const char *method, const char *params)
{
	json_t *reply = call_json(method, params);
	autofree char *text = json_dumps(reply, 0);

	if (!json_object_get(reply, "result"))
		sim_fail("refused", "%s %s: %s", method, params ? params : "", text);
	json_decref(reply);
}
