/*
 * method.h: what methods there are, and which of them may be called now. The server's own; modules
 * see rpc.h.
 *
 * Invariants
 *  - The index is made when it is first asked for, from what constructors registered, the methods
 *    that modules list, and the create and delete methods that are generated for the other modules.
 *    Two methods of one name are our own mistake.
 *  - It is sorted by name, so nothing depends on link order.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"

struct rpc_entry {
	const struct rpc_method *method;
	const char *module; /* whose method it is; NULL: the server's, core's or a target's */
	bool forbidden;     /* left out by rpc_allow_only */
};

/* NULL when there is none of that name. */
const struct rpc_entry *rpc_entry_find(const char *name);
/* The i-th by name; NULL past the last. */
const struct rpc_entry *rpc_entry_at(size_t i);
static inline unsigned rpc_method_states(const struct rpc_method *method)
{
	return method->states ? method->states : RPC_RUNTIME;
}

/* From the beginning of the end on every request is refused, so that nothing is made any more. */
bool rpc_stopping(void);
void rpc_stopping_set(bool stopping);

/* RPC_STARTUP at first. */
enum rpc_state rpc_state(void);
void rpc_state_set(enum rpc_state state);

/* Makes up a method of a module; it lives as long as the process. */
const struct rpc_method *rpc_generate_create(const struct bdev_module *module);
const struct rpc_method *rpc_generate_delete(const struct bdev_module *module);
/* [{"method","params"}...] that recreates a bdev of this module, from params in the form that
 * bdev_spec.params has. */
json_t *rpc_generated_save(const struct bdev_module *module, const char *method, const char *name,
        const uuid_t uuid, const char *const *bases, unsigned num_bases, const void *params);

/* The subsystems in order of dependency, then name; NULL past the last. */
const struct rpc_subsystem *rpc_subsystem_at(size_t i);
const struct rpc_subsystem *rpc_subsystem_find(const char *name);
