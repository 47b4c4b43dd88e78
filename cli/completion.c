/*
 * completion.c: the completion for bash. Verbs, options, methods and parameters are written into
 * it; names of bdevs and exports are asked of the daemon when they are needed.
 */

#include <string.h>

#include "cli/cli.h"
#include "rpc/rpc.h"

static void put_options(const struct cli_option *options, FILE *out)
{
	for (; options && options->name; options++) {
		fprintf(out, "--%s ", options->name);
		if (options->letter)
			fprintf(out, "-%c ", options->letter);
	}
}

static const char *word_function(enum cli_word word)
{
	switch (word) {
	case WORD_BDEV:
		return "bdevs";
	case WORD_EXPORT:
		return "exports";
	case WORD_KIND:
		return "kinds";
	case WORD_METHOD:
		return "methods";
	case WORD_TOPIC:
		return "topics";
	case WORD_PARAM:
		return "params";
	case WORD_POLICY:
		return "policies";
	case WORD_RAID:
		return "arrays";
	case WORD_SHELL:
		return "shells";
	case WORD_FILE:
		return "files";
	case WORD_END:
	case WORD_OTHER:
		break;
	}
	return "nothing";
}

/* An array of bash: key -> text. */
static void begin_map(const char *name, FILE *out)
{
	fprintf(out, "declare -A _bellows_%s=(\n", name);
}

static void put_verb_options(const struct cli_verb *verb, FILE *out)
{
	put_options(verb->options, out);
	put_options(cli_global_options, out);
}

static void put_verb_words(const struct cli_verb *verb, FILE *out)
{
	for (unsigned i = 0; i < CLI_WORDS_MAX && verb->words[i]; i++)
		fprintf(out, "%s ", word_function(verb->words[i]));
}

static void put_verb_method(const struct cli_verb *verb, FILE *out)
{
	fputs(verb->method ? verb->method : "", out);
}

static void put_group(const struct cli_verb *verb, FILE *out)
{
	for (const struct cli_verb *v = verb->verbs; v && v->name; v++)
		fprintf(out, "%s ", cli_verb_word(v));
}

/* An element for each verb, those of groups included. */
static void put_each(
        const struct cli_verb *verb, void (*put)(const struct cli_verb *verb, FILE *out), FILE *out)
{
	for (; verb->name; verb++) {
		fprintf(out, "\t['%s']='", verb->name);
		put(verb, out);
		fputs("'\n", out);
		if (verb->verbs)
			put_each(verb->verbs, put, out);
	}
}

static void put_verbs(FILE *out)
{
	static const struct {
		const char *name;
		void (*put)(const struct cli_verb *verb, FILE *out);
	} maps[] = {{"options", put_verb_options}, {"words", put_verb_words},
	        {"methods_of", put_verb_method}, {"groups", put_group}};

	for (unsigned i = 0; i < ARRAY_SIZE(maps); i++) {
		begin_map(maps[i].name, out);
		put_each(cli_verbs, maps[i].put, out);
		fputs(")\n", out);
	}
}

/* Elements of an array: option that takes a value -> what the value is. */
static void put_valued(const struct cli_option *options, FILE *out)
{
	const char *kind;

	for (; options && options->name; options++) {
		if (!options->value)
			continue;
		kind = strcmp(options->value, "PATH") == 0 ? "files" : "nothing";
		fprintf(out, "\t[--%s]=%s\n", options->name, kind);
		if (options->letter)
			fprintf(out, "\t[-%c]=%s\n", options->letter, kind);
	}
}

static void put_all_valued(const struct cli_verb *verb, FILE *out)
{
	for (; verb->name; verb++) {
		put_valued(verb->options, out);
		if (verb->verbs)
			put_all_valued(verb->verbs, out);
	}
}

static void put_methods(FILE *out)
{
	const struct rpc_method *method;
	char kind[64];

	begin_map("params", out);
	for (size_t i = 0; (method = cli_method_at(i)); i++) {
		fprintf(out, "\t[%s]='", method->name);
		for (const struct param *param = method->params; param && param->name; param++)
			fprintf(out, "%s= ", param->name);
		fprintf(out, "%s'\n", cli_takes_size(method->params) ? "size= " : "");
	}
	fputs(")\n_bellows_kind_list='file ", out);
	for (size_t i = 0; (method = cli_method_at(i)); i++)
		if (cli_method_kind(method, kind, sizeof(kind)))
			fprintf(out, "%s ", kind);
	fputs("'\n_bellows_verb_list='", out);
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++)
		fprintf(out, "%s ", verb->name);
	fputs("'\n_bellows_global_options='", out);
	put_options(cli_global_options, out);
	fputs("'\n", out);
}

static const char functions[] =
        "# Asks the daemon that the command line names; silent when there is none\n"
        "_bellows_ask()\n"
        "{\n"
        "\t\"${COMP_WORDS[0]}\" \"${_bellows_socket[@]}\" -t 2 \"$@\" --names 2>/dev/null\n"
        "}\n"
        "_bellows_bdevs()    { _bellows_ask list; }\n"
        "_bellows_exports()  { _bellows_ask exports; }\n"
        "_bellows_kinds()    { echo \"$_bellows_kind_list\"; }\n"
        "_bellows_methods()  { echo \"${!_bellows_params[@]}\"; }\n"
        "_bellows_topics()   { echo \"$_bellows_verb_list $_bellows_kind_list\"; "
        "_bellows_methods; }\n"
        "_bellows_policies() { echo follow hold; }\n"
        "_bellows_arrays()   { _bellows_ask raid list; }\n"
        "_bellows_shells()   { echo bash; }\n"
        "_bellows_nothing()  { :; }\n"
        "_bellows_files()\n"
        "{\n"
        "\tcompopt -o filenames 2>/dev/null || :\n"
        "\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
        "}\n"
        "_bellows_params()\n"
        "{\n"
        "\tlocal method=${_bellows_operands[0]:-}\n"
        "\tif [ \"$_bellows_verb\" = create ]; then\n"
        "\t\t[ \"$method\" != file ] || method=aio\n"
        "\t\tmethod=bdev_${method}_create\n"
        "\t\t_bellows_bdevs\n"
        "\telif [ -n \"${_bellows_methods_of[$_bellows_verb]:-}\" ]; then\n"
        "\t\tmethod=${_bellows_methods_of[$_bellows_verb]}\n"
        "\t\t_bellows_bdevs\n"
        "\tfi\n"
        "\t[ -z \"$method\" ] || echo \"${_bellows_params[$method]:-}\"\n"
        "}\n"
        "\n"
        "# Sets _bellows_verb, _bellows_operands and _bellows_socket from the words before the "
        "cursor;\n"
        "# and _bellows_value if the word at the cursor is the value of an option or parameter\n"
        "_bellows_scan()\n"
        "{\n"
        "\tlocal i\n"
        "\t_bellows_verb='' _bellows_operands=() _bellows_socket=() _bellows_value=''\n"
        "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
        "\t\tif [ -n \"${_bellows_valued[${COMP_WORDS[i]:-none}]:-}\" ]; then\n"
        "\t\t\tcase ${COMP_WORDS[i]} in\n"
        "\t\t\t-s|--socket) _bellows_socket=(-s \"${COMP_WORDS[i + 1]:-}\") ;;\n"
        "\t\t\tesac\n"
        "\t\t\ti=$((i + 1))\n"
        "\t\t\t[ \"$i\" -lt \"$COMP_CWORD\" ] || "
        "_bellows_value=${_bellows_valued[${COMP_WORDS[i - 1]}]}\n"
        "\t\telif [[ ${COMP_WORDS[i]} == -* ]]; then\n"
        "\t\t\t:\n"
        "\t\telif [ -z \"$_bellows_verb\" ]; then\n"
        "\t\t\t_bellows_verb=${COMP_WORDS[i]}\n"
        "\t\telif [ -n \"${_bellows_groups[$_bellows_verb]:-}\" ]; then\n"
        "\t\t\t_bellows_verb+=\" ${COMP_WORDS[i]}\"\n"
        "\t\telif [ \"${COMP_WORDS[i]}\" = = ] || [ \"${COMP_WORDS[i - 1]}\" = = ]; then\n"
        "\t\t\t:\n"
        "\t\telse\n"
        "\t\t\t_bellows_operands+=(\"${COMP_WORDS[i]}\")\n"
        "\t\tfi\n"
        "\tdone\n"
        "}\n"
        "\n"
        "_bellows()\n"
        "{\n"
        "\tlocal cur=${COMP_WORDS[COMP_CWORD]} offer='' kinds kind\n"
        "\tlocal _bellows_verb _bellows_operands _bellows_socket _bellows_value\n"
        "\tCOMPREPLY=()\n"
        "\t_bellows_scan\n"
        "\tif [ \"$cur\" = = ] || [ \"${COMP_WORDS[COMP_CWORD - 1]}\" = = ]; then\n"
        "\t\t_bellows_value=files cur=${cur#=}\n"
        "\tfi\n"
        "\tcase $_bellows_value in\n"
        "\tfiles) _bellows_files ;;&\n"
        "\t?*) return ;;\n"
        "\tesac\n"
        "\tif [[ $cur == -* ]]; then\n"
        "\t\toffer=$_bellows_global_options\n"
        "\t\t[ -z \"$_bellows_verb\" ] || offer=${_bellows_options[$_bellows_verb]:-}\n"
        "\telif [ -z \"$_bellows_verb\" ]; then\n"
        "\t\toffer=$_bellows_verb_list\n"
        "\telif [ -n \"${_bellows_groups[$_bellows_verb]:-}\" ]; then\n"
        "\t\toffer=${_bellows_groups[$_bellows_verb]}\n"
        "\telse\n"
        "\t\tread -ra kinds <<<\"${_bellows_words[$_bellows_verb]:-}\"\n"
        "\t\tkind=${kinds[${#_bellows_operands[@]}]:-}\n"
        "\t\tif [ -z \"$kind\" ] && [[ \" ${kinds[*]} \" == *' params '* ]]; then\n"
        "\t\t\tkind=params\n"
        "\t\tfi\n"
        "\t\tif [ \"$kind\" = files ]; then\n"
        "\t\t\t_bellows_files\n"
        "\t\t\treturn\n"
        "\t\tfi\n"
        "\t\toffer=$(\"_bellows_${kind:-nothing}\")\n"
        "\tfi\n"
        "\tmapfile -t COMPREPLY < <(compgen -W \"$offer\" -- \"$cur\")\n"
        "\t[[ ${COMPREPLY[0]:-} != *= ]] || compopt -o nospace 2>/dev/null || :\n"
        "}\n"
        "complete -F _bellows bellows\n";

void completion_print_bash(FILE *out)
{
	fputs("# bash completion for bellows\n\n", out);
	put_verbs(out);
	put_methods(out);
	begin_map("valued", out);
	put_valued(cli_global_options, out);
	put_all_valued(cli_verbs, out);
	fputs(")\n\n", out);
	fputs(functions, out);
}
