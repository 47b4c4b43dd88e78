/*
 * cli.h: what the parts of the `bellows` command share.
 *
 * The command is an ordinary JSON-RPC client of one daemon: it connects, asks, prints, exits. It
 * links the core only for its tables: which methods there are and what they take is known without
 * a daemon, and so are the help, the manual page and the completion.
 *
 * Invariants
 *  - A verb is one entry of cli_verbs. Its options, its words and its help stand there, and
 * parsing,
 *    --help, the manual page and the completion all come from it.
 *  - Results go to stdout, errors to stderr as one sentence that starts with "bellows: ".
 *  - Text from the daemon is printed by print.c, which lets no control character through.
 *  - The exit status is one of enum cli_exit.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "base/base.h"
#include "base/err.h"

enum cli_exit {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,     /* the daemon refused, or status found a problem */
	EXIT_USAGE = 2,       /* the command line is wrong; nothing was asked */
	EXIT_UNREACHABLE = 3, /* no daemon answers */
};

#define CLI_DEFAULT_SOCKET "/var/tmp/spdk.sock"
#define CLI_DEFAULT_TIMEOUT_S 60

struct cli {
	const char *socket_path;
	unsigned timeout_s; /* for one answer; 0: for ever */
	bool json;          /* print what the daemon answered, as JSON */
	bool ascii;         /* draw with ASCII although the locale has more */
};

/* ---- verbs ----------------------------------------------------------------------------------- */

#define CLI_OPTIONS_MAX 8
#define CLI_WORDS_MAX 4

struct cli_option {
	const char *name;  /* without the dashes */
	char letter;       /* 0: none */
	const char *value; /* "SECONDS"; NULL: it takes none */
	const char *help;  /* a phrase */
};

/* What a word on the command line is: tells the completion what to offer. */
enum cli_word {
	WORD_END,
	WORD_OTHER,
	WORD_BDEV,
	WORD_EXPORT,
	WORD_KIND,
	WORD_METHOD,
	WORD_TOPIC, /* a verb, a method or a kind */
	WORD_PARAM, /* key=value of the method or kind before it; repeats */
	WORD_POLICY,
	WORD_RAID,
	WORD_SHELL,
	WORD_FILE,
};

struct cli_args;

struct cli_verb {
	const char *name;     /* of one in a group with the group's: "raid list" */
	const char *synopsis; /* its words: "NAME SIZE" */
	const char *summary;  /* one line, starts with a capital, no full stop */
	const char *help;     /* whole sentences; lines of at most 80 columns; NULL: none */
	const struct cli_option *options; /* ends with a zero entry; NULL: none */
	enum cli_word words[CLI_WORDS_MAX];
	unsigned words_min, words_max;
	int (*run)(struct cli *cli, const struct cli_args *args);
	/* Of a group: its verbs, one of which is the next word; it has no words, options or run. */
	const struct cli_verb *verbs;
	/* For WORD_PARAM; and for verb_method, which calls it. */
	const char *method;
	const char *fixed; /* for verb_method: "action=pause" */
};

#define CLI_WORDS_ANY 1024

extern const struct cli_verb cli_verbs[], raid_verbs[]; /* end with a zero entry */
extern const struct cli_option
        cli_global_options[]; /* the same; allowed before and after the verb */
/* NULL: there is none. */
const struct cli_verb *cli_verb_find(const struct cli_verb *verbs, const char *word);
/* The last word of its name. */
const char *cli_verb_word(const struct cli_verb *verb);

/* ---- options.c: the command line ---------------------------------------------------------------
 */

struct cli_args {
	const struct cli_verb *verb; /* NULL: no verb was given */
	bool help, version;
	unsigned count;
	char **words; /* the operands */
	const char *values[CLI_OPTIONS_MAX];
};

/*
 * Takes a command line apart; fills cli with the global options. A word that starts with '-' and a
 * digit is an operand ("-512M"), and so is everything after "--". 0, or an error that says what is
 * wrong. args->words is to be freed.
 */
int cli_parse(
        int argc, char **argv, struct cli *cli, struct cli_args *args, struct err *err) must_check;
/* Value of an option of the verb; "" if it takes none; NULL when it was not given. */
const char *cli_option(const struct cli_args *args, const char *name);
/* Prints a sentence and where to read on; returns EXIT_USAGE. */
int cli_usage_error(const struct cli_args *args, const char *fmt, ...) printf_like(2, 3);

/* ---- words.c: values as people write them ------------------------------------------------------
 */

struct param;

/* Absolute, seen from the folder of this process; the caller frees. */
char *word_to_path(const char *text);
/* One value as the table wants it: sizes and times with units, lists as a,b,c. NULL and err set. */
json_t *word_to_value(const struct param *param, const char *text, struct err *err);
/*
 * Params of a method from words. key=value sets a parameter; a word without '=' fills `name` if the
 * method has one, then the required parameters in the order of the table, where a list takes all
 * further words. size=SIZE stands for num_blocks where the method has that, with a block_size of
 * 512 unless given. NULL and err set.
 */
json_t *words_to_params(
        const struct param *table, unsigned count, char *const *words, struct err *err);
/* For a method that this program does not know: values are JSON where they parse, else strings. */
json_t *words_to_unchecked(unsigned count, char *const *words, struct err *err);

/* A size that is to be, or a change of one. */
struct size_word {
	char sign; /* '+', '-' or 0 */
	bool in_blocks;
	uint64_t amount;
};
/* "20G", "+1T", "-512M", "1000b" (blocks). */
int word_to_size(const char *text, struct size_word *out, struct err *err) must_check;

/* ---- methods.c: the tables ---------------------------------------------------------------------
 */

struct rpc_method;

/* All methods in order of name; NULL past the last. */
const struct rpc_method *cli_method_at(size_t i);
const struct rpc_method *cli_method_find(const char *name);
/* "null" of "bdev_null_create"; false if it creates no bdev. */
bool cli_method_kind(const struct rpc_method *method, char *kind, size_t size);
/* The method that creates a bdev of that kind; "file" is "aio". */
const struct rpc_method *cli_create_method(const char *kind);
/* "NAME BASE_BDEV_NAME [key=value ...]": the words that words_to_params takes. */
char *cli_method_synopsis(const struct rpc_method *method);
/* Does it need num_blocks, so that size=SIZE may stand for it? */
bool cli_takes_size(const struct param *table);
/* The parameter that the i-th word without '=' fills; NULL past the last. */
const struct param *cli_positional(const struct param *table, unsigned i);
/* "SIZE", "us", "true|false", "a|b": what may stand behind "key=". The caller frees. */
char *cli_param_value_text(const struct param *param);

/* ---- client.c ----------------------------------------------------------------------------------
 */

struct cli_stream;

/* Connects; NULL after printing why it can't. */
struct cli_stream *cli_open(struct cli *cli);
void cli_close(struct cli_stream *stream);
/*
 * Calls a method and waits for its answer; steals params (NULL: none). Returns the reply object
 * {"result"} or {"error"}, or NULL after printing why there is none.
 */
json_t *cli_exchange(struct cli_stream *stream, const char *method, json_t *params);
/* The next message of any kind; waits for ever. NULL at the end of the stream. */
json_t *cli_next(struct cli_stream *stream);

/* The result of a reply (a new reference), or NULL after printing its error. Frees the reply. */
json_t *cli_result(struct cli *cli, json_t *reply);
/* One call on a connection of its own. NULL: *exit_status says what has been reported. */
json_t *cli_call(struct cli *cli, const char *method, json_t *params, int *exit_status);

/* ---- print.c -----------------------------------------------------------------------------------
 */

void cli_print_json(const json_t *value);
/* "bellows: ...\n" to stderr. */
void cli_error(const char *fmt, ...) printf_like(1, 2);
/* One line of text, harmless to a terminal. */
void print_line(const char *text, FILE *out);
/* Members of an object, with a default for what is missing or of another type. */
const char *cli_str(const json_t *object, const char *name, const char *missing);
uint64_t cli_u64(const json_t *object, const char *name);
bool cli_bool(const json_t *object, const char *name);
/* Columns that a text takes on a terminal. */
size_t text_columns(const char *text);
/* May lines be drawn with more than ASCII? */
bool cli_utf8(const struct cli *cli);
/* Columns of the terminal; 0 when stdout is none. */
unsigned cli_terminal_columns(void);

/* A table whose columns are as wide as they need to be. Empty columns are left out. */
struct table;
struct table_column {
	const char *title;
	bool right;
};
struct table *table_new(const struct table_column *columns, unsigned num_columns);
/* Appends a row; cells are copied, NULL is empty. */
void table_row(struct table *table, const char *const *cells);
/*
 * Prints and frees it; only frees it if out is NULL. On a terminal the last column is cut where the
 * line ends; elsewhere never.
 */
void table_print(struct cli *cli, struct table *table, FILE *out);

/* ---- doc.c, man.c, completion.c
 * ------------------------------------------------------------------ */

void doc_usage(FILE *out);
void doc_verb(const struct cli_verb *verb, FILE *out);
void doc_method(const struct rpc_method *method, FILE *out);
void man_print(FILE *out);
void completion_print_bash(FILE *out);

/* ---- the verbs ----------------------------------------------------------------------------------
 */

int verb_tree(struct cli *cli, const struct cli_args *args);
int verb_status(struct cli *cli, const struct cli_args *args);
int verb_resize(struct cli *cli, const struct cli_args *args);
int verb_policy(struct cli *cli, const struct cli_args *args);
int verb_limit(struct cli *cli, const struct cli_args *args);
int verb_events(struct cli *cli, const struct cli_args *args);
int verb_call(struct cli *cli, const struct cli_args *args);
/* Calls verb->method with its words, and with each of its options as the parameter of that name. */
int verb_method(struct cli *cli, const struct cli_args *args);
int verb_create(struct cli *cli, const struct cli_args *args);
int verb_delete(struct cli *cli, const struct cli_args *args);
int verb_list(struct cli *cli, const struct cli_args *args);
int verb_zones(struct cli *cli, const struct cli_args *args);
int verb_iostat(struct cli *cli, const struct cli_args *args);
int verb_export(struct cli *cli, const struct cli_args *args);
int verb_unexport(struct cli *cli, const struct cli_args *args);
int verb_exports(struct cli *cli, const struct cli_args *args);
int verb_raid_list(struct cli *cli, const struct cli_args *args);
int verb_raid_status(struct cli *cli, const struct cli_args *args);
int verb_spare_list(struct cli *cli, const struct cli_args *args);
int verb_save(struct cli *cli, const struct cli_args *args);
int verb_load(struct cli *cli, const struct cli_args *args);
int verb_methods(struct cli *cli, const struct cli_args *args);
int verb_help(struct cli *cli, const struct cli_args *args);
int verb_man(struct cli *cli, const struct cli_args *args);
int verb_completion(struct cli *cli, const struct cli_args *args);
