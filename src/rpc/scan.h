/*
 * scan.h: finding where one JSON value ends in bytes that arrive piece by piece, and the pieces of
 * a value that is complete.
 *
 * Invariants
 *  - The scanner looks at each byte once and keeps no text. It checks the structure (brackets,
 *    commas, colons, strings), so that nonsense is told from what has not arrived yet; the inside
 *    of numbers, words and strings is left to the JSON library.
 *  - Depth and number of values are bounded, so what the library builds from one value is too.
 *  - A span is only walked when the JSON library has accepted it.
 */
#pragma once

#include "base/base.h"

#define JSON_SCAN_DEPTH_MAX 64
#define JSON_SCAN_VALUES_MAX 8192

enum json_scan_result {
	JSON_SCAN_MORE, /* the value goes on */
	JSON_SCAN_DONE, /* it ends after the bytes used */
	JSON_SCAN_BAD,  /* no JSON, too deep or too many values */
};

/* Zeroed: before a value. White space before it counts as part of it. */
struct json_scan {
	uint64_t in_object; /* one bit per level */
	unsigned depth, values;
	uint8_t state, resume;
};

enum json_scan_result json_scan_feed(
        struct json_scan *scan, const char *bytes, size_t len, size_t *used);

struct json_span {
	const char *at;
	size_t len;
};

/* Text without the white space around it. */
struct json_span json_span_trim(const char *bytes, size_t len);

struct json_walk {
	const char *pos, *end;
};

/* Over an object or array whose first byte is the bracket. */
struct json_walk json_walk_begin(struct json_span value);
/* The next element as written; false at the end. */
bool json_walk_item(struct json_walk *walk, struct json_span *item);
/* The next member as written, the key with its quotes. */
bool json_walk_member(struct json_walk *walk, struct json_span *key, struct json_span *value);
