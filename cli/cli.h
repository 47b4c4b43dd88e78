/*
 * cli.h: what the parts of the `bellows` command share. The command is an ordinary JSON-RPC client
 * of one daemon: it connects, asks, prints, exits. Exit codes: 0 done, 1 the daemon refused or
 * reported a problem, 2 wrong usage, 3 the daemon can't be reached.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "base/base.h"

enum {
	EXIT_REFUSED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3
};

struct cli {
	const char *socket_path;
	unsigned timeout_s;
	bool json; /* print what the daemon answered, as JSON */
	bool quiet;
};

struct cli_verb {
	const char *name;
	const char *args;                                   /* for the usage line */
	const char *summary;                                /* one line */
	const char *help;                                   /* the rest of --help */
	int (*run)(struct cli *cli, int argc, char **argv); /* argv[0] is the verb */
};

extern const struct cli_verb cli_verbs[]; /* ends with a zero entry */

/* ---- client.c -------------------------------------------------------------------------------- */

/*
 * Calls a method; steals params (NULL: none). Returns the result (a new reference), or NULL after
 * it has printed the error to stderr and set *exit_code.
 */
json_t *cli_call(struct cli *cli, const char *method, json_t *params, int *exit_code);

/* Connects and stays connected: for verbs that listen. -1 after printing the error. */
int cli_connect(struct cli *cli);
/* Sends one request on fd. */
bool cli_send(int fd, const char *method, json_t *params, int id);
/* The next JSON value from the stream, a new reference; NULL at the end of the stream. */
struct cli_stream {
	int fd;
	char *buf;
	size_t len, size;
};
json_t *cli_next(struct cli_stream *stream);
void cli_stream_close(struct cli_stream *stream);

/* ---- print.c --------------------------------------------------------------------------------- */

void cli_print_json(const json_t *value);
/* {"a":[{...}]} member by path-free name, with a default for what is missing or of another type. */
const char *cli_str(const json_t *object, const char *name, const char *missing);
uint64_t cli_u64(const json_t *object, const char *name);

/* ---- args.c -----------------------------------------------------------------------------------
 */

/*
 * Builds a params object from words of the form key=value by the method's own table (types, lists
 * as a,b,c, sizes where the unit is bytes or MiB). Words without '=' fill the method's required
 * parameters in order. NULL after printing what is wrong.
 */
json_t *cli_params_from_words(const char *method, int count, char **words);
/* Prints the parameters of a method; false if there is none of that name. */
bool cli_print_method_help(const char *method, FILE *out);

/* ---- verbs -------------------------------------------------------------------------------------
 */

int verb_tree(struct cli *cli, int argc, char **argv);
int verb_status(struct cli *cli, int argc, char **argv);
int verb_resize(struct cli *cli, int argc, char **argv);
int verb_policy(struct cli *cli, int argc, char **argv);
int verb_events(struct cli *cli, int argc, char **argv);
int verb_call(struct cli *cli, int argc, char **argv);
int verb_create(struct cli *cli, int argc, char **argv);
int verb_delete(struct cli *cli, int argc, char **argv);
int verb_export(struct cli *cli, int argc, char **argv);
int verb_unexport(struct cli *cli, int argc, char **argv);
int verb_exports(struct cli *cli, int argc, char **argv);
int verb_list(struct cli *cli, int argc, char **argv);
int verb_iostat(struct cli *cli, int argc, char **argv);
int verb_save(struct cli *cli, int argc, char **argv);
int verb_load(struct cli *cli, int argc, char **argv);
int verb_methods(struct cli *cli, int argc, char **argv);
int verb_help(struct cli *cli, int argc, char **argv);
int verb_man(struct cli *cli, int argc, char **argv);
int verb_completion(struct cli *cli, int argc, char **argv);

/* A verb's own usage error: prints it and the usage line, returns EXIT_USAGE. */
int cli_usage_error(const char *verb, const char *fmt, ...) printf_like(2, 3);
