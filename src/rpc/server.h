/*
 * server.h: the life of the RPC server and the start of a program by a configuration. For programs
 * (bellowsd, bdevperf) and tests; modules see rpc.h.
 *
 *     rpc_config_read(path, &config, &err)        before loops_run: it reads the file
 *     rpc_start(&options, started, arg)           on the control loop
 *     ...
 *     rpc_stop()
 */
#pragma once

#include "loop/loop.h"
#include "rpc/rpc.h"

#define RPC_CONNECTIONS_MAX 64

/* ---- the socket ------------------------------------------------------------------------------ */

/* Listens on a unix socket. Control loop. */
int rpc_server_listen(const char *path, struct err *err) must_check;
/* No new connections; those that are there go on. */
void rpc_server_stop_listening(void);
/* Closes all connections; what is queued is dropped. */
void rpc_server_close(void);
/* Takes no more requests; closes each connection when what is queued is sent, all of them after
 * RPC_DRAIN_NS; then done. */
#define RPC_DRAIN_NS (1 * NSEC_PER_SEC)
void rpc_server_drain(void (*done)(void *arg), void *arg);
/* No request is taken until it is false again; connections are accepted, and wait. */
void rpc_server_pause(bool paused);

/* Only the methods of a comma-separated list exist from now on. -ENOENT names the first that is
 * not there. */
int rpc_allow_only(const char *names, struct err *err) must_check;

/* ---- configuration files --------------------------------------------------------------------- */

struct rpc_config;
#define RPC_CONFIG_MAX_BYTES ((size_t)64 * 1024 * 1024)

/* Reads and checks the file as a whole; the error names line and column. Blocks: before loops_run.
 * May be called before loops_start.
 * Released with rpc_config_free. */
int rpc_config_read(const char *path, struct rpc_config **out, struct err *err) must_check;
/* The same from text in memory. name is for messages. */
int rpc_config_parse(const char *name, const char *text, size_t len, struct rpc_config **out,
        struct err *err) must_check;
void rpc_config_free(struct rpc_config *config);

typedef void (*rpc_done_fn)(void *arg, const struct err *err);
/*
 * Calls the entries that belong to the present state, in order, each after the answer of the one
 * before: in RPC_STARTUP all that may be called then, in RPC_RUNTIME all others. Errors end it and
 * name the entry, unless ignore_errors. done may come before it returns.
 */
void rpc_config_run(struct rpc_config *config, bool ignore_errors, rpc_done_fn done, void *arg);

/* ---- start ----------------------------------------------------------------------------------- */

struct rpc_options {
	const char *socket_path;   /* NULL: no socket */
	struct rpc_config *config; /* NULL: none; taken over */
	bool wait_for_rpc;         /* stay in RPC_STARTUP until framework_start_init */
	bool ignore_config_errors;
	void (*on_signal)(int signum); /* spdk_kill_instance; NULL: refused */
};

/* Startup entries, socket, runtime entries; done with 0 when everything is served. An error ends
 * the start, and the program should end too. socket_path must live on. */
void rpc_start(const struct rpc_options *options, rpc_done_fn done, void *arg);
/* The program ends: no new connections; then every subsystem that has a stop slot lets go of its
 * clients, those that depend on others first; then done. Answers still go out. */
void rpc_begin_stop(void (*done)(void *arg), void *arg);
/* Lets the last answers leave, closes the connections, then done. */
void rpc_finish_stop(void (*done)(void *arg), void *arg);
/* The same at once. After either the loops may stop. */
void rpc_stop(void);

/* For programs without a server: reads the file (so: before loops_run) and runs both passes, on
 * the control loop, then leaves the state at RPC_RUNTIME. */
void rpc_load_config_file(const char *path, rpc_done_fn done, void *arg);

/* ---- the reference --------------------------------------------------------------------------- */

/* docs/rpc.md; all methods with their tables as JSON. */
void rpc_dump_docs(void (*put)(const char *text));
json_t *rpc_dump_json(void);
