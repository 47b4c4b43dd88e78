/*
 * rpc_client.h: a JSON-RPC client of a few lines, byte by byte, for a server inside the test (see
 * inproc.h). Everything fails the test when it does not happen within some seconds.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"

/* For cmocka: the daemon in this process, with its socket; and its end. */
int rpc_client_setup(void **state);
int rpc_client_teardown(void **state);

int rpc_client_connect(void);
void rpc_client_send(int fd, const char *text);
/* One line without its end, to be freed; NULL at the end of the stream. */
char *rpc_client_read_line(int fd);
json_t *rpc_client_read_json(int fd);

void rpc_client_expect_line(int fd, const char *expected);
void rpc_client_expect_end(int fd);
/* Nothing has come, now that a later request on the same connection is answered. */
void rpc_client_expect_nothing_more(int fd);
/* Sends a request and expects an error with this id (as JSON) and code. */
void rpc_client_expect_error(int fd, const char *request, const char *id, int code);
/* Sends a request with id 1 and expects this result. */
void rpc_client_expect_result(int fd, const char *request, const char *expected);

/* A request with id 1; params as JSON text. */
#define RPC_CALL(method, params)                                                                   \
	"{\"jsonrpc\":\"2.0\",\"method\":\"" method "\",\"id\":1,\"params\":" params "}"
