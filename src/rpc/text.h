/*
 * text.h: JSON text that is being put together for the wire, with a limit on its size.
 *
 * Invariants: compact, in ASCII (everything else and DEL as \uXXXX in upper case), "/" as it is.
 * What does not fit is dropped as a whole piece and sets `full`.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"

struct rpc_text {
	char *bytes; /* owned; free() */
	size_t len, room, max;
	bool full;
};

#define RPC_TEXT_INIT(max_bytes)                                                                   \
	{                                                                                          \
		.max = (max_bytes)                                                                 \
	}

void rpc_text_put(struct rpc_text *text, const char *bytes, size_t len);
void rpc_text_puts(struct rpc_text *text, const char *chars);
void rpc_text_json(struct rpc_text *text, const json_t *value);
/* Forgets what was put after the text had len bytes, and that it was too much. */
void rpc_text_cut(struct rpc_text *text, size_t len);

/* A JSON string of text that may come from anywhere: what is no UTF-8 becomes '?'. */
json_t *rpc_json_string(const char *text);
