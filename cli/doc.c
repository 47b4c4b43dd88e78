/* doc.c: help on the terminal. */

#include <string.h>

#include "cli/cli.h"
#include "rpc/rpc.h"

#define LINE_COLUMNS 80

static void print_option(const struct cli_option *option, FILE *out)
{
	char text[64];

	snprintf(text, sizeof(text), "%c%c%s--%s%s%s", option->letter ? '-' : ' ',
	        option->letter ? option->letter : ' ', option->letter ? ", " : "  ", option->name,
	        option->value ? " " : "", option->value ? option->value : "");
	fprintf(out, "  %-24s %s\n", text, option->help);
}

static void print_options(const struct cli_option *options, FILE *out)
{
	for (; options && options->name; options++)
		print_option(options, out);
}

static void print_verbs(const struct cli_verb *verbs, FILE *out)
{
	for (; verbs->name; verbs++)
		fprintf(out, "  %-12s %s\n", cli_verb_word(verbs), verbs->summary);
}

void doc_usage(FILE *out)
{
	fputs("usage: bellows [OPTION...] VERB [WORD...]\n\n", out);
	print_verbs(cli_verbs, out);
	fputs("\nOptions, before or after the verb:\n", out);
	print_options(cli_global_options, out);
	fputs("\n`bellows help VERB` says more. Exit status: 0 done; 1 refused, or a problem was\n"
	      "found; 2 wrong usage; 3 no daemon answers.\n",
	        out);
}

void doc_verb(const struct cli_verb *verb, FILE *out)
{
	fprintf(out, "usage: bellows %s%s%s%s\n\n%s.\n", verb->name, *verb->synopsis ? " " : "",
	        verb->synopsis, verb->options ? " [OPTION...]" : "", verb->summary);
	if (verb->help)
		fprintf(out, "\n%s", verb->help);
	if (verb->run == verb_create) {
		char kind[64];
		const struct rpc_method *method;

		fputs("\nKinds:\n", out);
		for (size_t i = 0; (method = cli_method_at(i)); i++)
			if (cli_method_kind(method, kind, sizeof(kind)))
				fprintf(out, "  %-12s %s\n", kind, method->summary);
	}
	if (verb->verbs) {
		fputs("\nVerbs:\n", out);
		print_verbs(verb->verbs, out);
		fprintf(out, "\n`bellows help %s VERB` says more.\n", verb->name);
	}
	if (verb->options) {
		fputs("\nOptions:\n", out);
		print_options(verb->options, out);
	}
}

/* Prints words, with line breaks before they pass the end of the line. */
static void print_wrapped(const char *text, unsigned indent, FILE *out)
{
	unsigned column = indent;

	fprintf(out, "%*s", (int)indent, "");
	while (*text) {
		size_t len = strcspn(text, " ");

		if (column > indent && column + 1 + len > LINE_COLUMNS) {
			fprintf(out, "\n%*s", (int)indent, "");
			column = indent;
		}
		fprintf(out, "%s%.*s", column > indent ? " " : "", (int)len, text);
		column += (unsigned)len + (column > indent);
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void print_param(const struct param *param, FILE *out)
{
	autofree char *value = cli_param_value_text(param);

	fprintf(out, "  %s=%s%s", param->name, value, param->required ? "  (required)" : "");
	if (!param->required && param->type == PARAM_STRING && param->def_text)
		fprintf(out, "  (default %s)", param->def_text);
	else if (!param->required && param->type == PARAM_ENUM)
		fprintf(out, "  (default %s)", param->values[param->def]);
	else if (!param->required && param->def && param->type == PARAM_BOOL)
		fputs("  (default true)", out);
	else if (!param->required && param->def)
		fprintf(out, "  (default %lld)", (long long)param->def);
	fputc('\n', out);
	if (param->help)
		print_wrapped(param->help, 8, out);
}

void doc_method(const struct rpc_method *method, FILE *out)
{
	autofree char *synopsis = cli_method_synopsis(method);
	char kind[64];

	if (cli_method_kind(method, kind, sizeof(kind)))
		fprintf(out, "usage: bellows create %s %s\n", kind, synopsis);
	fprintf(out, "%s bellows call %s %s\n\n",
	        cli_method_kind(method, kind, sizeof(kind)) ? "      " : "usage:", method->name,
	        synopsis);
	print_wrapped(method->summary, 0, out);
	if (method->params && method->params[0].name) {
		fputs("\nParameters:\n", out);
		for (const struct param *param = method->params; param->name; param++)
			print_param(param, out);
		if (cli_takes_size(method->params))
			fputs("  size=SIZE\n        stands for num_blocks; block_size is 512 then, "
			      "unless given\n",
			        out);
	}
	if (method->result_help)
		fprintf(out, "\nResult: %s\n", method->result_help);
}
