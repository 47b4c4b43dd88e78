/*
 * bdevperf_stack.c: --stack, a short way to say what the load is put on: "null,passthru*4" is a
 * null bdev with four layers on it. Everything else is said in a configuration file.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/bdevperf.h"
#include "rpc/rpc.h"

#define LAYERS_MAX 64
#define BLOCK_BYTES 4096
#define SIZE_BYTES MIB(256)

static struct {
	char *rest, *text;
	char kind[32];
	unsigned more, layers;
	char top[32];
	void (*done)(const char *top, const struct err *err);
} stack;

static void finish(const struct err *err)
{
	free(stack.text);
	stack.done(stack.top, err);
}

static void next(void);

static void created(void *arg, const json_t *reply)
{
	const json_t *error = json_object_get(reply, "error");
	struct err err = ERR_NONE;

	(void)arg;
	if (!error) {
		next();
		return;
	}
	err_set(&err, (int)json_integer_value(json_object_get(error, "code")), "%s: %s", stack.kind,
	        json_string_value(json_object_get(error, "message")));
	finish(&err);
}

/* The next word: KIND or KIND*COUNT. False at the end of the text. */
static bool next_word(struct err *err)
{
	char *word = strsep(&stack.rest, ","), *count, *end;

	if (!word)
		return false;
	count = strchr(word, '*');
	stack.more = 1;
	if (count) {
		*count++ = '\0';
		stack.more = (unsigned)strtoul(count, &end, 10);
		if (*end || stack.more > LAYERS_MAX)
			err_set(err, -EINVAL, "--stack: '%s' is no number of layers", count);
	}
	if (!str_copy(stack.kind, sizeof(stack.kind), word) || !bdev_module_find(word))
		err_set(err, -EINVAL, "--stack: there is no kind of bdev '%s'", word);
	return err->code == 0;
}

static void next(void)
{
	struct err err = ERR_NONE;
	char method[64], base[32];
	json_t *params;

	while (stack.more == 0) {
		if (!next_word(&err)) {
			finish(&err);
			return;
		}
	}
	stack.more--;
	snprintf(method, sizeof(method), "bdev_%s_create", stack.kind);
	snprintf(base, sizeof(base), "%s", stack.top);
	snprintf(stack.top, sizeof(stack.top), "%.20s%u", stack.kind, stack.layers);
	if (stack.layers++ == 0)
		params = json_pack("{s:s, s:I, s:i}", "name", stack.top, "num_blocks",
		        (json_int_t)(SIZE_BYTES / BLOCK_BYTES), "block_size", BLOCK_BYTES);
	else
		params = json_pack("{s:s, s:s}", "name", stack.top, "base_bdev_name", base);
	rpc_call(method, params, created, NULL);
}

void stack_make(const char *text, void (*done)(const char *top, const struct err *err))
{
	stack.rest = stack.text = xstrdup(text);
	stack.done = done;
	next();
}
