/*
 * inproc.h: the daemon inside a test: real loops on threads of their own, the real core, methods
 * called as from RPC. The test's thread is no loop: it may block, and talks to the targets as any
 * client does.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"

/* Looks, a millisecond apart, for what must happen: how soon is no test's business. */
#define PATIENCE_MS 60000U

/* Fails the test when the loops can't start. One at a time. */
void inproc_start(unsigned data_loops);
/* Ends the subsystems and removes all bdevs, as a daemon does that gets SIGTERM. */
void inproc_stop(void);

/* Runs fn(arg) on the control loop and returns when it has. */
void inproc_run(void (*fn)(void *arg), void *arg);

/* What the loops have done so far happens before what they do next. The order that a client keeps
 * through its sockets is one that ThreadSanitizer can't see. */
void inproc_fence(void);

/* Calls a method. params is JSON text as for printf with ' in place of ", e.g.
 * "{'name': '%s'}"; NULL: none. Returns the whole reply; json_decref it. */
json_t *inproc_call(const char *method, const char *params, ...) printf_like(2, 3);
/* The same, expects success, and returns the result. */
json_t *inproc_result(const char *method, const char *params, ...) printf_like(2, 3);
/* The same, and throws the result away. */
void inproc_ok(const char *method, const char *params, ...) printf_like(2, 3);
/* Expects an error of this code, whose message contains the text. */
void inproc_error(int code, const char *text, const char *method, const char *params, ...)
        printf_like(4, 5);

/* A directory that belongs to this test program alone, removed at its end. */
const char *inproc_dir(void);
