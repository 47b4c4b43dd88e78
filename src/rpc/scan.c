/* scan.c: the resumable scanner, and the walk over a value that is known to be JSON. */

#include "rpc/scan.h"

#include <string.h>

enum scan_state {
	WANT_VALUE, /* at the start, after ':' and after ',' in an array */
	WANT_VALUE_OR_END,
	WANT_KEY,
	WANT_KEY_OR_END,
	WANT_COLON,
	AFTER_VALUE, /* in an object or array */
	IN_STRING,   /* resume says what follows it */
	IN_ESCAPE,
	IN_WORD, /* number, true, false, null */
};

_Static_assert(JSON_SCAN_DEPTH_MAX <= 64, "one bit per level");

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '-' || c == '+' || c == '.';
}

static bool starts_word(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == 't' || c == 'f' || c == 'n';
}

static bool in_object(const struct json_scan *scan)
{
	return scan->depth && (scan->in_object >> (scan->depth - 1) & 1);
}

static enum json_scan_result value_done(struct json_scan *scan)
{
	scan->state = AFTER_VALUE;
	return scan->depth ? JSON_SCAN_MORE : JSON_SCAN_DONE;
}

static enum json_scan_result open_level(struct json_scan *scan, bool object)
{
	uint64_t bit;

	if (scan->depth == JSON_SCAN_DEPTH_MAX)
		return JSON_SCAN_BAD;
	bit = 1ULL << scan->depth++;
	scan->in_object = object ? scan->in_object | bit : scan->in_object & ~bit;
	scan->state = object ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
	return JSON_SCAN_MORE;
}

static enum json_scan_result close_level(struct json_scan *scan, char c)
{
	if (!scan->depth || c != (in_object(scan) ? '}' : ']'))
		return JSON_SCAN_BAD;
	scan->depth--;
	return value_done(scan);
}

static enum json_scan_result start_value(struct json_scan *scan, char c)
{
	if (++scan->values > JSON_SCAN_VALUES_MAX)
		return JSON_SCAN_BAD;
	if (c == '{' || c == '[')
		return open_level(scan, c == '{');
	if (c == '"') {
		scan->state = IN_STRING;
		scan->resume = AFTER_VALUE;
		return JSON_SCAN_MORE;
	}
	if (!starts_word(c))
		return JSON_SCAN_BAD;
	scan->state = IN_WORD;
	return JSON_SCAN_MORE;
}

static enum json_scan_result in_string(struct json_scan *scan, char c)
{
	if (c == '\\') {
		scan->state = IN_ESCAPE;
	} else if (c == '"') {
		if (scan->resume == AFTER_VALUE)
			return value_done(scan);
		scan->state = scan->resume;
	} else if ((unsigned char)c < 0x20) {
		return JSON_SCAN_BAD;
	}
	return JSON_SCAN_MORE;
}

static enum json_scan_result want_key(struct json_scan *scan, char c)
{
	if (c != '"')
		return JSON_SCAN_BAD;
	scan->state = IN_STRING;
	scan->resume = WANT_COLON;
	return JSON_SCAN_MORE;
}

static enum json_scan_result after_value(struct json_scan *scan, char c)
{
	if (c != ',')
		return close_level(scan, c);
	scan->state = in_object(scan) ? WANT_KEY : WANT_VALUE;
	return JSON_SCAN_MORE;
}

/* One byte that is no white space between tokens and no part of a word. */
static enum json_scan_result step(struct json_scan *scan, char c)
{
	switch ((enum scan_state)scan->state) {
	case WANT_VALUE_OR_END:
		if (c == ']')
			return close_level(scan, c);
		return start_value(scan, c);
	case WANT_VALUE:
		return start_value(scan, c);
	case WANT_KEY_OR_END:
		if (c == '}')
			return close_level(scan, c);
		return want_key(scan, c);
	case WANT_KEY:
		return want_key(scan, c);
	case WANT_COLON:
		if (c != ':')
			return JSON_SCAN_BAD;
		scan->state = WANT_VALUE;
		return JSON_SCAN_MORE;
	case AFTER_VALUE:
		return after_value(scan, c);
	case IN_STRING:
		return in_string(scan, c);
	case IN_ESCAPE:
		scan->state = IN_STRING;
		return JSON_SCAN_MORE;
	case IN_WORD:
		break;
	}
	return JSON_SCAN_BAD;
}

enum json_scan_result json_scan_feed(
        struct json_scan *scan, const char *bytes, size_t len, size_t *used)
{
	enum json_scan_result result;

	for (size_t i = 0; i < len; i++) {
		char c = bytes[i];

		if (scan->state == IN_WORD) {
			if (is_word(c))
				continue;
			/* The byte after a word is not part of it: it is looked at again. */
			if (value_done(scan) == JSON_SCAN_DONE) {
				*used = i;
				return JSON_SCAN_DONE;
			}
		}
		if (scan->state != IN_STRING && scan->state != IN_ESCAPE && is_space(c))
			continue;
		result = step(scan, c);
		if (result != JSON_SCAN_MORE) {
			*used = i + 1;
			return result;
		}
	}
	*used = len;
	return JSON_SCAN_MORE;
}

/* ---- walking --------------------------------------------------------------------------------- */

static const char *skip_space(const char *pos, const char *end)
{
	while (pos < end && is_space(*pos))
		pos++;
	return pos;
}

/* pos is at the opening quote. */
static const char *skip_string(const char *pos, const char *end)
{
	for (pos++; pos < end && *pos != '"'; pos++)
		if (*pos == '\\' && pos + 1 < end)
			pos++;
	return pos < end ? pos + 1 : end;
}

static const char *skip_value(const char *pos, const char *end)
{
	unsigned depth = 0;

	while (pos < end) {
		if (*pos == '"') {
			pos = skip_string(pos, end);
		} else if (*pos == '{' || *pos == '[') {
			depth++;
			pos++;
		} else if (*pos == '}' || *pos == ']') {
			depth--;
			pos++;
		} else if (is_word(*pos)) {
			while (pos < end && is_word(*pos))
				pos++;
		} else {
			pos++; /* between the parts of a container */
			continue;
		}
		if (!depth)
			break;
	}
	return pos;
}

struct json_span json_span_trim(const char *bytes, size_t len)
{
	const char *end = bytes + len;
	const char *at = skip_space(bytes, end);

	while (end > at && is_space(end[-1]))
		end--;
	return (struct json_span){at, (size_t)(end - at)};
}

struct json_walk json_walk_begin(struct json_span value)
{
	return (struct json_walk){value.at + 1, value.at + value.len - 1};
}

bool json_walk_item(struct json_walk *walk, struct json_span *item)
{
	const char *at = walk->pos;

	while (at < walk->end && (is_space(*at) || *at == ','))
		at++;
	if (at >= walk->end)
		return false;
	walk->pos = skip_value(at, walk->end);
	*item = (struct json_span){at, (size_t)(walk->pos - at)};
	return true;
}

bool json_walk_member(struct json_walk *walk, struct json_span *key, struct json_span *value)
{
	if (!json_walk_item(walk, key))
		return false;
	walk->pos = skip_space(walk->pos, walk->end);
	if (walk->pos < walk->end) /* the colon */
		walk->pos++;
	return json_walk_item(walk, value);
}
