/* text.c: JSON text of bounded size for the wire. */

#include "rpc/text.h"

#include <string.h>

/* A library that runs out of memory in the middle would leave half an object; see xcalloc. */
static void *json_memory(size_t bytes)
{
	return xrealloc(NULL, bytes);
}

__attribute__((constructor)) static void set_json_memory(void)
{
	json_set_alloc_funcs(json_memory, free);
}

void rpc_text_put(struct rpc_text *text, const char *bytes, size_t len)
{
	if (text->full || len > text->max - text->len) {
		text->full = true;
		return;
	}
	if (len > text->room - text->len) {
		text->room = min_u64(text->max, max_u64(text->len + len, 2 * text->room + 256));
		text->bytes = xrealloc(text->bytes, text->room);
	}
	if (len)
		memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
}

void rpc_text_puts(struct rpc_text *text, const char *chars)
{
	rpc_text_put(text, chars, strlen(chars));
}

void rpc_text_cut(struct rpc_text *text, size_t len)
{
	text->len = len;
	text->full = false;
}

/* The library leaves DEL as it is; it can only stand inside a string. */
static int put_piece(const char *bytes, size_t len, void *data)
{
	struct rpc_text *text = data;

	while (len) {
		const char *del = memchr(bytes, 0x7f, len);
		size_t plain = del ? (size_t)(del - bytes) : len;

		rpc_text_put(text, bytes, plain);
		if (!del)
			break;
		rpc_text_puts(text, "\\u007F");
		bytes = del + 1;
		len -= plain + 1;
	}
	return text->full ? -1 : 0;
}

void rpc_text_json(struct rpc_text *text, const json_t *value)
{
	if (json_dump_callback(value, put_piece, text,
	            JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY) != 0)
		text->full = true;
}

json_t *rpc_json_string(const char *text)
{
	json_t *value = json_string(text);

	if (value)
		return value;
	autofree char *clean = xstrdup(text);

	for (char *c = clean; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return json_string(clean);
}
