/*
 * rpc.h: declaring JSON-RPC methods, and answering them. All of it runs on the control loop.
 *
 * A method is registered by constructor next to what it serves: RPC_METHOD(log_set_level_method);
 * a module lists its methods in its struct bdev_module instead. A handler gets its decoded
 * parameters and answers exactly once, now or later. Transport, framing, ids, batches and states
 * are the server's.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "base/list.h"
#include "rpc/param.h"

struct rpc_request;
struct rpc_connection;

enum rpc_state {
	RPC_STARTUP = 1 << 0, /* before framework_start_init, with --wait-for-rpc or in a config's
	                         first pass */
	RPC_RUNTIME = 1 << 1,
};

enum rpc_flags {
	RPC_NO_PARAMS = 1 << 0,        /* any params member, even {}, is refused with -32602 */
	RPC_PARAMS_UNCHECKED = 1 << 1, /* params is not looked at */
	RPC_RELAXED = 1 << 2,          /* unknown keys are ignored */
};

#define RPC_PARSE_ERROR (-32700)
#define RPC_INVALID_REQUEST (-32600)
#define RPC_METHOD_NOT_FOUND (-32601)
#define RPC_INVALID_PARAMS (-32602)
#define RPC_INTERNAL_ERROR (-32603)

struct rpc_method {
	const char *name;
	const char *summary;        /* one line */
	const char *result_help;    /* what result is: "true", "name of the bdev", ... */
	const struct param *params; /* NULL: none */
	size_t params_bytes;        /* size of the struct that params fills */
	unsigned states;            /* 0: RPC_RUNTIME */
	unsigned flags;
	int decode_error; /* code of a parameter that can't be decoded; 0: RPC_INTERNAL_ERROR, as
	                     most bdev methods of the reference */
	/* params is freed (with what it owns) when the request is answered. */
	void (*handler)(struct rpc_request *request, void *params);
	void *arg;        /* for generated methods: rpc_request_method(request)->arg */
	struct list link; /* the server's */
};

#define RPC_METHOD(method)                                                                         \
	__attribute__((constructor)) static void register_##method(void)                           \
	{                                                                                          \
		rpc_method_register(&(method));                                                    \
	}                                                                                          \
	_Static_assert(1, "")
void rpc_method_register(struct rpc_method *method);

/* ---- answering --------------------------------------------------------------------------------
 */

/* Steals result; NULL answers true. */
void rpc_reply(struct rpc_request *request, json_t *result);
/* With a negative errno the message starts with the errno's text, as the reference's does, and goes
 * on with the sentence: "File exists: the name 'N0' is taken by ...". */
void rpc_fail(struct rpc_request *request, int code, const char *fmt, ...) printf_like(3, 4);
void rpc_fail_err(struct rpc_request *request, const struct err *err);
/* Answers true, or the error if err has one. */
void rpc_reply_err(struct rpc_request *request, const struct err *err);

const struct rpc_method *rpc_request_method(const struct rpc_request *request);
/* Where the request came from; NULL when it came from a configuration file or from inside. */
struct rpc_connection *rpc_request_connection(const struct rpc_request *request);

/* ---- push ---------------------------------------------------------------------------------------
 */

/* Sends a JSON-RPC notification {"jsonrpc","method","params"}; steals params. A connection that
 * does not read (more than a bounded amount queued) is closed. */
void rpc_notify(struct rpc_connection *connection, const char *method, json_t *params);
/* fn(arg) once, when the connection closes; remove cancels. */
struct rpc_close_hook {
	void (*fn)(void *arg);
	void *arg;
	struct list link;
};
void rpc_connection_on_close(struct rpc_connection *connection, struct rpc_close_hook *hook);
void rpc_close_hook_remove(struct rpc_close_hook *hook);

/* ---- calling from inside (config load, tests, fuzzers)
 * -------------------------------------------- */

/* done(arg, reply) with the whole reply object {"jsonrpc","id","result"|"error"}, borrowed. */
void rpc_call(const char *method, json_t *params, void (*done)(void *arg, const json_t *reply),
        void *arg);

/* ---- configuration sections
 * ------------------------------------------------------------------------ */

/* A subsystem of framework_get_subsystems / framework_get_config, e.g. "bdev", "nbd". */
struct rpc_subsystem {
	const char *name;
	const char *const *depends_on; /* NULL-terminated; NULL: none */
	json_t *(*save)(void);         /* a new array of {"method","params"}, or NULL: JSON null */
	/* The daemon ends: let go of clients and listeners, before the bdevs are removed, and call
	 * done(arg) once. NULL: nothing to let go of. */
	void (*stop)(void (*done)(void *arg), void *arg);
	struct list link;
};
#define RPC_SUBSYSTEM(subsystem)                                                                   \
	__attribute__((constructor)) static void register_##subsystem(void)                        \
	{                                                                                          \
		rpc_subsystem_register(&(subsystem));                                              \
	}                                                                                          \
	_Static_assert(1, "")
void rpc_subsystem_register(struct rpc_subsystem *subsystem);
