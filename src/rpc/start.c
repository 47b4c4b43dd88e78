/* start.c: from a configuration to a server that serves, and the methods that belong to it. */

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "rpc/depth.h"
#include "rpc/method.h"
#include "rpc/server.h"

/* Long enough for an answer to leave before the signal that ends the process. */
#define SIGNAL_DELAY_NS (20 * NSEC_PER_MSEC)

/* The kernel may hold the socket of a process that was killed for a moment; who restarts it at once
 * shall not fail for that. */
#define LISTEN_TRIES 20
#define LISTEN_RETRY_NS (50 * NSEC_PER_MSEC)

struct waiter {
	struct rpc_request *request;
	struct list link;
};

static struct {
	struct rpc_options options;
	rpc_done_fn done;
	void *arg;
	struct rpc_request *start_request; /* of framework_start_init */
	struct list waiters;               /* of framework_wait_init */
	bool started;
	struct loop_timer signal_timer, listen_timer;
	unsigned listen_tries;
	int signum;
} app = {.waiters = LIST_INIT(app.waiters)};

static void start_done(const struct err *err)
{
	struct rpc_request *request = steal_ptr(&app.start_request);
	struct list *node;

	rpc_config_free(steal_ptr(&app.options.config));
	app.started = !err->code;
	if (request && err->code)
		rpc_fail(request, RPC_INTERNAL_ERROR, "the start has failed: %s", err->text);
	else if (request)
		rpc_reply(request, NULL);
	while (!err->code && (node = list_pop_front(&app.waiters))) {
		struct waiter *waiter = list_entry(node, struct waiter, link);

		rpc_reply(waiter->request, NULL);
		free(waiter);
	}
	rpc_server_pause(false);
	app.done(app.arg, err);
}

static void runtime_done(void *arg, const struct err *err)
{
	(void)arg;
	start_done(err);
}

static void begin_runtime(void)
{
	static const struct err none = ERR_NONE;

	rpc_server_pause(true);
	rpc_state_set(RPC_RUNTIME);
	if (app.options.config)
		rpc_config_run(
		        app.options.config, app.options.ignore_config_errors, runtime_done, NULL);
	else
		start_done(&none);
}

static void listen_again(struct loop_timer *timer);

static void listen_and_go_on(void)
{
	struct err err = ERR_NONE;

	if (app.options.socket_path) {
		rpc_server_pause(!app.options.wait_for_rpc);
		(void)!rpc_server_listen(app.options.socket_path, &err);
	}
	if (err.code == -EADDRINUSE && app.listen_tries++ < LISTEN_TRIES) {
		app.listen_timer.fire = listen_again;
		loop_timer_start(
		        loop_self(), &app.listen_timer, loop_now_ns(loop_self()) + LISTEN_RETRY_NS);
	} else if (err.code) {
		start_done(&err);
	} else if (!app.options.wait_for_rpc) {
		begin_runtime();
	} else {
		log_notice("rpc", "waiting for framework_start_init on %s",
		        app.options.socket_path ? app.options.socket_path : "no socket");
	}
}

static void listen_again(struct loop_timer *timer)
{
	(void)timer;
	listen_and_go_on();
}

static void startup_done(void *arg, const struct err *err)
{
	(void)arg;
	if (err->code)
		start_done(err);
	else
		listen_and_go_on();
}

void rpc_start(const struct rpc_options *options, rpc_done_fn done, void *arg)
{
	static const struct err none = ERR_NONE;

	app.options = *options;
	app.done = done;
	app.arg = arg;
	app.started = false;
	app.listen_tries = 0;
	rpc_state_set(RPC_STARTUP);
	rpc_stopping_set(false);
	if (options->config)
		rpc_config_run(options->config, options->ignore_config_errors, startup_done, NULL);
	else
		startup_done(NULL, &none);
}

/* ---- the end --------------------------------------------------------------------------------- */

static struct {
	size_t next; /* one past the subsystem that is to stop next */
	void (*done)(void *arg);
	void *arg;
} stopping;

/* From the last to the first, each after the one before. */
static void stop_next(void *arg)
{
	(void)arg;
	while (stopping.next) {
		const struct rpc_subsystem *subsystem = rpc_subsystem_at(--stopping.next);

		if (subsystem->stop) {
			subsystem->stop(stop_next, NULL);
			return;
		}
	}
	stopping.done(stopping.arg);
}

void rpc_begin_stop(void (*done)(void *arg), void *arg)
{
	rpc_stopping_set(true);
	rpc_server_stop_listening();
	stopping.next = 0;
	while (rpc_subsystem_at(stopping.next))
		stopping.next++;
	stopping.done = done;
	stopping.arg = arg;
	stop_next(NULL);
}

void rpc_finish_stop(void (*done)(void *arg), void *arg)
{
	loop_timer_stop(loop_self(), &app.signal_timer);
	loop_timer_stop(loop_self(), &app.listen_timer);
	rpc_server_stop_listening();
	rpc_server_drain(done, arg);
}

void rpc_stop(void)
{
	rpc_server_stop_listening();
	rpc_server_close();
	rpc_depth_stop();
	loop_timer_stop(loop_self(), &app.signal_timer);
	loop_timer_stop(loop_self(), &app.listen_timer);
}

void rpc_load_config_file(const char *path, rpc_done_fn done, void *arg)
{
	struct rpc_options options = {0};
	struct err err = ERR_NONE;

	if (rpc_config_read(path, &options.config, &err))
		done(arg, &err);
	else
		rpc_start(&options, done, arg);
}

/* ---- methods --------------------------------------------------------------------------------- */

static void start_init(struct rpc_request *request, void *params)
{
	(void)params;
	app.start_request = request;
	begin_runtime();
}

static struct rpc_method framework_start_init = {
        .name = "framework_start_init",
        .summary = "Ends the wait of --wait-for-rpc: loads the rest of the configuration, then "
                   "serves",
        .result_help = "true, when the configuration is loaded",
        .states = RPC_STARTUP,
        .flags = RPC_NO_PARAMS,
        .handler = start_init,
};
RPC_METHOD(framework_start_init);

static void wait_init(struct rpc_request *request, void *params)
{
	struct waiter *waiter;

	(void)params;
	if (app.started) {
		rpc_reply(request, NULL);
		return;
	}
	waiter = xcalloc(1, sizeof(*waiter));
	waiter->request = request;
	list_init(&waiter->link);
	list_push_back(&app.waiters, &waiter->link);
}

static struct rpc_method framework_wait_init = {
        .name = "framework_wait_init",
        .summary = "Waits until the start is finished",
        .result_help = "true",
        .states = RPC_STARTUP | RPC_RUNTIME,
        .flags = RPC_PARAMS_UNCHECKED,
        .handler = wait_init,
};
RPC_METHOD(framework_wait_init);

static const char *const signal_names[] = {
        "SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGKILL", "SIGUSR1", NULL};
static const int signal_numbers[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGKILL, SIGUSR1};

struct kill_params {
	int sig_name;
};

static const struct param kill_params[] = {
        {PARAM(struct kill_params, sig_name, PARAM_ENUM), .required = true, .values = signal_names,
                .help = "the signal"},
        {0},
};

static void send_signal(struct loop_timer *timer)
{
	(void)timer;
	app.options.on_signal(app.signum);
}

static void kill_instance(struct rpc_request *request, void *params)
{
	const struct kill_params *p = params;

	if (!app.options.on_signal) {
		rpc_fail(request, -EPERM, "this program does not take signals by RPC");
		return;
	}
	app.signum = signal_numbers[p->sig_name];
	app.signal_timer.fire = send_signal;
	loop_timer_start(
	        loop_self(), &app.signal_timer, loop_now_ns(loop_self()) + SIGNAL_DELAY_NS);
	rpc_reply(request, NULL);
}

static struct rpc_method spdk_kill_instance = {
        .name = "spdk_kill_instance",
        .summary = "Sends the server a signal; SIGTERM and SIGINT end it in good order",
        .result_help = "true, before the signal is sent",
        .params = kill_params,
        .params_bytes = sizeof(struct kill_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = kill_instance,
};
RPC_METHOD(spdk_kill_instance);
