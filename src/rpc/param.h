/*
 * param.h: one table per method or module from which decoding, validation, config save, the
 * command's help and the reference page all come.
 *
 * A table is an array of struct param that ends with a zero entry. Decoding fills a plain struct at
 * the given offsets: strict (unknown, duplicate, wrong type, missing, out of range: an error that
 * names the parameter), defaults applied where a parameter is absent. JSON null is an error, as in
 * the reference.
 */
#pragma once

#include <jansson.h>
#include <uuid/uuid.h>

#include "base/base.h"
#include "base/err.h"

enum param_type {
	PARAM_BOOL,    /* bool */
	PARAM_U8,      /* uint8_t */
	PARAM_U32,     /* uint32_t */
	PARAM_I32,     /* int32_t */
	PARAM_U64,     /* uint64_t; 6.5e4 is accepted as 65000 */
	PARAM_STRING,  /* char *, owned by the struct, NULL when absent without default */
	PARAM_UUID,    /* uuid_t, null when absent; text with dashes in any case */
	PARAM_ENUM,    /* int: index into values */
	PARAM_STRINGS, /* struct param_strings, owned */
	PARAM_U64S,    /* struct param_u64s, owned */
	PARAM_JSON,    /* json_t *, a reference owned by the struct; any value (nested objects) */
};

struct param_strings {
	char **items;
	size_t count;
};

struct param_u64s {
	uint64_t *items;
	size_t count;
};

#define PARAM_STRING_MAX_BYTES 4096
#define PARAM_ITEMS_MAX 1024

struct param {
	const char *name;
	const char *help; /* a phrase: what it is and what it does */
	const char *unit; /* "blocks", "bytes", "MiB", "us", ...; NULL: none */
	enum param_type type;
	bool required;
	bool secret;          /* never saved, logged or echoed */
	bool is_path;         /* of a file on the server; 'bellows' takes it from its own folder */
	size_t offset;        /* of the member in the struct */
	size_t given;         /* offset of a bool that tells whether it was there; 0: nobody asks */
	uint64_t def;         /* numbers, booleans, enums (index) */
	const char *def_text; /* strings */
	uint64_t min, max;    /* numbers; both 0: the type's range. Not for PARAM_I32 */
	size_t max_items;     /* lists; 0: PARAM_ITEMS_MAX */
	const char *const *values; /* enums: NULL-terminated texts */
};

/* {PARAM(struct null_params, num_blocks, PARAM_U64), .required = true, .unit = "blocks", .help =
 * "..."} */
#define PARAM(struct_type, member, param_type)                                                     \
	.name = #member, .type = (param_type), .offset = offsetof(struct_type, member)
/* When the JSON name is not the member's. */
#define PARAM_NAMED(text, struct_type, member, param_type)                                         \
	.name = (text), .type = (param_type), .offset = offsetof(struct_type, member)

enum param_flags {
	PARAM_ALLOW_UNKNOWN = 1 << 0, /* relaxed decoder */
};

/*
 * Decodes object (NULL: as {}) into out, which the caller has zeroed. Several tables may describe
 * one struct: pass them in a NULL-terminated array. Returns 0 or sets err (code -EINVAL, text names
 * the parameter) and leaves out releasable.
 */
int params_decode(const struct param *const *tables, unsigned flags, const json_t *object,
        void *out, struct err *err) must_check;
/* Frees strings and lists in the struct. */
void params_release(const struct param *const *tables, void *params);
/* The struct as a JSON object: parameters that differ from their default and all required ones;
 * with all: every one that has a value. Secrets are left out. */
json_t *params_encode(const struct param *const *tables, const void *params, bool all);
/* [{"name","type","required","default","unit","help","values"}...] for help and the reference page.
 */
json_t *params_describe(const struct param *const *tables);
