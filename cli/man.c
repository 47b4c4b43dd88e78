/* man.c: the manual page, in mdoc. */

#include <ctype.h>
#include <string.h>

#include "cli/cli.h"
#include "rpc/rpc.h"

#define MAN_DATE "November 20, 2026"

#define LINE_BYTES 76

/* One character as roff wants it. */
static const char *escaped(char c, bool *quoted, char plain[2])
{
	switch (c) {
	case '\\':
		return "\\e";
	case '-':
		return "\\-";
	case '\'':
		return "\\(aq";
	case '`':
		*quoted = !*quoted;
		return *quoted ? "\\(oq" : "\\(cq";
	default:
		plain[0] = c;
		plain[1] = '\0';
		return plain;
	}
}

/* A word as roff wants it; to be freed. */
static char *roff_word(const char *word, size_t len, bool *quoted)
{
	char *text = xcalloc(len + 1, 4), plain[2];

	for (size_t i = 0; i < len; i++) {
		const char *piece = escaped(word[i], quoted, plain);

		memcpy(text + strlen(text), piece, strlen(piece));
	}
	return text;
}

/* Text on lines of its own, each sentence on a new one; nothing in it is taken for a macro. */
static void put_text(const char *text, FILE *out)
{
	bool quoted = false, sentence_ends = false;
	size_t column = 0;

	for (text += strspn(text, " \n"); *text; text += strspn(text, " \n")) {
		size_t len = strcspn(text, " \n");
		autofree char *word = roff_word(text, len, &quoted);

		if (column && (sentence_ends || column + 1 + strlen(word) > LINE_BYTES)) {
			fputc('\n', out);
			column = 0;
		}
		if (!column && *word == '.')
			fputs("\\&", out);
		fprintf(out, "%s%s", column ? " " : "", word);
		column += strlen(word) + (column > 0);
		sentence_ends = strchr(".?!", text[len - 1]) != NULL;
		text += len;
	}
	if (column)
		fputc('\n', out);
}

/* A phrase that is to be a sentence: a capital, a full stop. */
static void put_sentence(const char *phrase, FILE *out)
{
	size_t len = strlen(phrase);

	if (!len)
		return;
	autofree char *sentence =
	        xasprintf("%s%s", phrase, strchr(".!?", phrase[len - 1]) ? "" : ".");

	sentence[0] = (char)toupper((unsigned char)sentence[0]);
	put_text(sentence, out);
}

/* A macro with one argument that holds whatever is in text. */
static void put_arg(const char *text, FILE *out)
{
	fputs(" \"", out);
	for (; *text; text++) {
		if (*text == '"')
			fputs("\"\"", out);
		else if (*text == '\\')
			fputs("\\e", out);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void put_options(const struct cli_option *options, FILE *out)
{
	if (!options)
		return;
	fputs(".Bl -tag -width Ds\n", out);
	for (; options->name; options++) {
		fputs(".It", out);
		if (options->letter)
			fprintf(out, " Fl %c ,", options->letter);
		fprintf(out, " Fl Fl %s", options->name);
		if (options->value)
			fprintf(out, " Ar %s", options->value);
		fputc('\n', out);
		put_sentence(options->help, out);
	}
	fputs(".El\n", out);
}

static void put_head(FILE *out)
{
	fputs(".Dd " MAN_DATE "\n"
	      ".Dt BELLOWS 1\n"
	      ".Os\n"
	      ".Sh NAME\n"
	      ".Nm bellows\n"
	      ".Nd look after a running block\\-storage server\n"
	      ".Sh SYNOPSIS\n"
	      ".Nm\n"
	      ".Op Fl s Ar PATH\n"
	      ".Op Fl Fl json\n"
	      ".Op Fl t Ar SECONDS\n"
	      ".Ar VERB\n"
	      ".Op Ar WORD ...\n"
	      ".Sh DESCRIPTION\n"
	      "The\n"
	      ".Nm\n"
	      "command asks a running\n"
	      ".Sy bellowsd\n"
	      "by its JSON\\-RPC socket: which block devices (bdevs) there are, what stands\n"
	      "on what, what is wrong; and it creates, resizes and exports them.\n"
	      ".Pp\n"
	      "These options may stand before or after the verb:\n",
	        out);
	put_options(cli_global_options, out);
}

/* Those of a group behind it. */
static void put_verbs(const struct cli_verb *verb, FILE *out)
{
	for (; verb->name; verb++) {
		fprintf(out, ".It Ic %s", verb->name);
		if (*verb->synopsis) {
			fputs(" Ar", out);
			put_arg(verb->synopsis, out);
		}
		fputc('\n', out);
		put_sentence(verb->summary, out);
		if (verb->help)
			put_text(verb->help, out);
		put_options(verb->options, out);
		if (verb->verbs)
			put_verbs(verb->verbs, out);
	}
}

static void put_params(const struct param *params, FILE *out)
{
	if (!params || !params->name)
		return;
	fputs(".Bl -tag -width Ds -compact\n", out);
	for (; params->name; params++) {
		autofree char *value = cli_param_value_text(params);
		autofree char *text = xasprintf("%s=%s", params->name, value);

		fputs(".It Cm", out);
		put_arg(text, out);
		fputs(params->required ? " (required)\n" : "\n", out);
		put_sentence(params->help ? params->help : "", out);
	}
	fputs(".El\n", out);
}

static void put_methods(bool creating, FILE *out)
{
	const struct rpc_method *method;
	char kind[64];

	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; (method = cli_method_at(i)); i++) {
		if (cli_method_kind(method, kind, sizeof(kind)) != creating)
			continue;
		fputs(creating ? ".It Ic create" : ".It Ic call", out);
		put_arg(creating ? kind : method->name, out);
		if (creating) {
			autofree char *synopsis = cli_method_synopsis(method);

			fputs(" Ar", out);
			put_arg(synopsis, out);
		}
		fputc('\n', out);
		put_sentence(method->summary, out);
		put_params(method->params, out);
	}
	fputs(".El\n", out);
}

void man_print(FILE *out)
{
	put_head(out);
	fputs(".Sh VERBS\n.Bl -tag -width Ds\n", out);
	put_verbs(cli_verbs, out);
	fputs(".El\n", out);
	fputs(".Sh KINDS OF BDEVS\n", out);
	put_methods(true, out);
	fputs(".Sh METHODS\n"
	      "Results are printed as JSON.\n",
	        out);
	put_methods(false, out);
	fputs(".Sh ENVIRONMENT\n"
	      ".Bl -tag -width Ds\n"
	      ".It Ev BELLOWS_SOCKET\n"
	      "Path of the daemon\\(cqs socket, when there is no\n"
	      ".Fl s .\n"
	      ".El\n"
	      ".Sh FILES\n"
	      ".Bl -tag -width Ds\n"
	      ".It Pa " CLI_DEFAULT_SOCKET "\n"
	      "The daemon\\(cqs usual socket.\n"
	      ".El\n"
	      ".Sh EXIT STATUS\n"
	      ".Bl -tag -width Ds -compact\n"
	      ".It 0\n"
	      "Done.\n"
	      ".It 1\n"
	      "The daemon refused, or\n"
	      ".Ic status\n"
	      "found a problem.\n"
	      ".It 2\n"
	      "The command line is wrong; nothing was asked.\n"
	      ".It 3\n"
	      "No daemon answers.\n"
	      ".El\n"
	      ".Sh EXAMPLES\n"
	      "A file becomes a disk for NBD clients, and grows while they use it:\n"
	      ".Bd -literal -offset indent\n"
	      "truncate \\-s 20G /srv/images/disk0\n"
	      "bellows create file Disk0 /srv/images/disk0 block_size=4096\n"
	      "bellows export Disk0 \\-\\-path /run/disk0.sock\n"
	      "bellows resize Disk0 +10G \\-\\-dry\\-run\n"
	      "bellows resize Disk0 +10G\n"
	      "bellows tree\n"
	      ".Ed\n"
	      ".Sh SEE ALSO\n"
	      ".Xr nbdcopy 1 ,\n"
	      ".Xr nbdinfo 1 ,\n"
	      ".Xr nbd\\-client 8\n",
	        out);
}
