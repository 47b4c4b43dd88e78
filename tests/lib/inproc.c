#include "tests/lib/inproc.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "loop/loop.h"
#include "rpc/rpc.h"
#include "rpc/server.h"

static struct {
	pthread_t thread;
	unsigned data_loops;
	sem_t ready;
	struct err err;
	int status;
} inproc;

/* ---- messages to the control loop -------------------------------------------------------------
 */

struct job {
	struct loop_task task;
	void (*fn)(void *arg);
	void *arg;
	sem_t done;
};

static void job_run(struct loop_task *task)
{
	struct job *job = container_of(task, struct job, task);

	job->fn(job->arg);
	sem_post(&job->done);
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		;
}

static void run_on(unsigned loop, void (*fn)(void *arg), void *arg)
{
	struct job job = {.task.run = job_run, .fn = fn, .arg = arg};

	sem_init(&job.done, 0, 0);
	loop_send(loop_get(loop), &job.task);
	wait_for(&job.done);
	sem_destroy(&job.done);
}

void inproc_run(void (*fn)(void *arg), void *arg)
{
	run_on(LOOP_CONTROL, fn, arg);
}

static void nothing(void *arg)
{
	(void)arg;
}

void inproc_fence(void)
{
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < loops_count(); i++)
			run_on(i, nothing, NULL);
	}
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void started(void *arg, const struct err *err)
{
	(void)arg;
	if (err)
		inproc.err = *err;
	sem_post(&inproc.ready);
}

static void *control_main(void *arg)
{
	struct loop_config config = {.data_loops = inproc.data_loops};
	struct rpc_options options = {0};

	(void)arg;
	if (loops_start(&config, &inproc.err) != 0) {
		sem_post(&inproc.ready);
		return NULL;
	}
	bdev_start();
	rpc_start(&options, started, NULL);
	inproc.status = loops_run();
	return NULL;
}

void inproc_start(unsigned data_loops)
{
	inproc.data_loops = data_loops;
	inproc.err = (struct err)ERR_NONE;
	inproc.status = -1;
	sem_init(&inproc.ready, 0, 0);
	assert_int_equal(pthread_create(&inproc.thread, NULL, control_main, NULL), 0);
	wait_for(&inproc.ready);
	if (inproc.err.code)
		fail_msg("the loops could not start: %s", inproc.err.text);
}

static void bdevs_stopped(void *arg, const struct err *err)
{
	(void)arg;
	if (err)
		inproc.err = *err;
	rpc_stop();
	wait_for(&inproc.ready);
	loops_stop(0);
}

static void targets_stopped(void *arg)
{
	(void)arg;
	bdev_stop((struct bdev_done){.fn = bdevs_stopped});
}

static void stop(void *arg)
{
	(void)arg;
	rpc_begin_stop(targets_stopped, NULL);
}

void inproc_stop(void)
{
	inproc_run(stop, NULL);
	/* The loop must not end before the message that ends it has been sent altogether. */
	sem_post(&inproc.ready);
	pthread_join(inproc.thread, NULL);
	sem_destroy(&inproc.ready);
	if (inproc.err.code)
		fail_msg("the bdevs could not stop: %s", inproc.err.text);
	assert_int_equal(inproc.status, 0);
}

/* ---- methods ----------------------------------------------------------------------------------
 */

struct call {
	const char *method;
	json_t *params;
	char *reply; /* as text: JSON values are not shared between threads */
	sem_t done;
};

static void call_done(void *arg, const json_t *reply)
{
	struct call *call = arg;

	call->reply = json_dumps(reply, JSON_ENCODE_ANY);
	sem_post(&call->done);
}

static void call_start(void *arg)
{
	struct call *call = arg;

	rpc_call(call->method, steal_ptr(&call->params), call_done, call);
}

static json_t *call_text(const char *method, const char *fmt, va_list args)
{
	struct call call = {.method = method};
	autofree char *text = NULL;
	json_error_t error;
	json_t *reply;

	if (fmt) {
		assert_true(vasprintf(&text, fmt, args) >= 0);
		for (char *p = text; *p; p++) {
			if (*p == '\'')
				*p = '"';
		}
		call.params = json_loads(text, 0, &error);
		if (!call.params)
			fail_msg("%s: %s", text, error.text);
	}
	sem_init(&call.done, 0, 0);
	inproc_run(call_start, &call);
	wait_for(&call.done);
	sem_destroy(&call.done);
	assert_non_null(call.reply);
	reply = json_loads(call.reply, 0, &error);
	assert_non_null(reply);
	free(call.reply);
	return reply;
}

json_t *inproc_call(const char *method, const char *params, ...)
{
	va_list args;
	json_t *reply;

	va_start(args, params);
	reply = call_text(method, params, args);
	va_end(args);
	return reply;
}

static json_t *result_of(const char *method, json_t *reply)
{
	json_t *result = json_incref(json_object_get(reply, "result"));

	if (!result) {
		autofree char *text = json_dumps(reply, 0);

		fail_msg("%s: %s", method, text);
	}
	json_decref(reply);
	return result;
}

json_t *inproc_result(const char *method, const char *params, ...)
{
	va_list args;
	json_t *reply;

	va_start(args, params);
	reply = call_text(method, params, args);
	va_end(args);
	return result_of(method, reply);
}

void inproc_ok(const char *method, const char *params, ...)
{
	va_list args;
	json_t *reply;

	va_start(args, params);
	reply = call_text(method, params, args);
	va_end(args);
	json_decref(result_of(method, reply));
}

void inproc_error(int code, const char *text, const char *method, const char *params, ...)
{
	const json_t *error;
	const char *message;
	va_list args;
	json_t *reply;

	va_start(args, params);
	reply = call_text(method, params, args);
	va_end(args);
	error = json_object_get(reply, "error");
	if (!error)
		fail_msg("%s succeeded", method);
	message = json_string_value(json_object_get(error, "message"));
	assert_non_null(message);
	if (!strstr(message, text))
		fail_msg("%s: '%s' does not say '%s'", method, message, text);
	assert_int_equal(json_integer_value(json_object_get(error, "code")), code);
	json_decref(reply);
}

/* ---- files ------------------------------------------------------------------------------------
 */

static char dir[64];

static void remove_dir(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		fprintf(stderr, "%s could not be removed\n", dir);
}

const char *inproc_dir(void)
{
	if (!*dir) {
		str_copy(dir, sizeof(dir), "/tmp/bellows-test-XXXXXX");
		assert_non_null(mkdtemp(dir));
		atexit(remove_dir);
	}
	return dir;
}
