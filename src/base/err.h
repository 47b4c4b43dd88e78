/*
 * err.h: what went wrong on the control path, for a person: a code and a sentence that says what,
 * why and what to do, e.g. "raid0 'R0': base 'Disk3' has 4096-byte blocks, the others 512".
 *
 * The code is a negative errno, or a JSON-RPC code where a method must answer with one. A function
 * that takes a struct err sets it whenever it fails, and only then; it may be NULL when the caller
 * needs no text. Data-path functions use plain -errno.
 */
#pragma once

#include <stdarg.h>

#include "base/base.h"

#define ERR_TEXT_MAX 512

struct err {
	int code; /* 0: no error */
	char text[ERR_TEXT_MAX];
};

#define ERR_NONE                                                                                   \
	{                                                                                          \
		0                                                                                  \
	}

/* Sets code and text and returns code, so that `return err_set(err, -EBUSY, "...")` reads well. err
 * may be NULL. code must not be 0. */
int err_set(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);
/* Puts "context: " before the text that is there; err may be NULL or without an error. */
void err_prefix(struct err *err, const char *fmt, ...) printf_like(2, 3);
/* The plain text of an errno (positive or negative), thread-safe, never NULL. */
const char *errno_text(int errnum);
