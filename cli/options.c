/* options.c: takes the command line apart by the tables of options. */

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"

const char *cli_verb_word(const struct cli_verb *verb)
{
	const char *blank = strrchr(verb->name, ' ');

	return blank ? blank + 1 : verb->name;
}

const struct cli_verb *cli_verb_find(const struct cli_verb *verbs, const char *word)
{
	for (; verbs->name; verbs++)
		if (strcmp(cli_verb_word(verbs), word) == 0)
			return verbs;
	return NULL;
}

struct parse {
	struct cli *cli;
	struct cli_args *args;
	int argc, next;
	char **argv;
	struct err *err;
};

static const struct cli_option *find_option(
        const struct cli_option *options, const char *name, size_t len, char letter)
{
	for (; options && options->name; options++) {
		if (letter ? options->letter == letter
		           : strlen(options->name) == len && memcmp(options->name, name, len) == 0)
			return options;
	}
	return NULL;
}

static int set_global(struct parse *p, const struct cli_option *option, const char *value)
{
	char *end;
	unsigned long seconds;

	switch (option->letter) {
	case 's':
		p->cli->socket_path = value;
		return 0;
	case 't':
		errno = 0;
		seconds = strtoul(value, &end, 10);
		if (!isdigit((unsigned char)*value) || *end || errno || seconds > 1000000)
			return err_set(p->err, -EINVAL,
			        "--timeout takes whole seconds (0: none), not '%s'", value);
		p->cli->timeout_s = (unsigned)seconds;
		return 0;
	case 'j':
		p->cli->json = true;
		return 0;
	case 'h':
		p->args->help = true;
		return 0;
	case 'V':
		p->args->version = true;
		return 0;
	default:
		p->cli->ascii = true;
		return 0;
	}
}

/* shown: the option as it was written; value: what stood behind it in the same word, or NULL. */
static int set_option(
        struct parse *p, const char *shown, const char *name, size_t len, char letter, char *value)
{
	const struct cli_option *own = p->args->verb ? p->args->verb->options : NULL;
	const struct cli_option *option = find_option(own, name, len, letter);
	bool global = !option;

	if (global)
		option = find_option(cli_global_options, name, len, letter);
	if (!option && p->args->verb)
		return err_set(
		        p->err, -EINVAL, "'%s' has no option '%s'", p->args->verb->name, shown);
	if (!option)
		return err_set(p->err, -EINVAL,
		        "there is no option '%s' that may stand before the verb", shown);
	if (!option->value && value)
		return err_set(p->err, -EINVAL, "--%s takes no value", option->name);
	if (option->value && !value) {
		if (p->next >= p->argc)
			return err_set(
			        p->err, -EINVAL, "--%s needs %s", option->name, option->value);
		value = p->argv[p->next++];
	}
	if (global)
		return set_global(p, option, value);
	p->args->values[option - own] = value ? value : "";
	return 0;
}

static int parse_long(struct parse *p, char *word)
{
	char *name = word + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);

	return set_option(p, word, name, len, 0, equals ? equals + 1 : NULL);
}

/* "-i5", "-i 5", "-jh" */
static int parse_letters(struct parse *p, char *word)
{
	for (char *letter = word + 1; *letter; letter++) {
		const struct cli_option *own = p->args->verb ? p->args->verb->options : NULL;
		const struct cli_option *option = find_option(own, NULL, 0, *letter);
		char shown[3] = {'-', *letter, '\0'};
		bool takes_rest;
		int rc;

		if (!option)
			option = find_option(cli_global_options, NULL, 0, *letter);
		takes_rest = option && option->value && letter[1];
		rc = set_option(p, shown, NULL, 0, *letter, takes_rest ? letter + 1 : NULL);
		if (rc || takes_rest)
			return rc;
	}
	return 0;
}

static int take_word(struct parse *p, char *word)
{
	struct cli_args *args = p->args;
	const struct cli_verb *group = args->verb, *verb;

	if (group && !group->verbs) {
		args->words[args->count++] = word;
		return 0;
	}
	verb = cli_verb_find(group ? group->verbs : cli_verbs, word);
	if (!verb && group)
		return err_set(p->err, -EINVAL, "'%s' has no verb '%s'", group->name, word);
	if (!verb)
		return err_set(p->err, -EINVAL, "there is no verb '%s'", word);
	args->verb = verb;
	return 0;
}

static int check_count(const struct cli_args *args, struct err *err)
{
	const struct cli_verb *verb = args->verb;

	if (!verb || args->help)
		return 0;
	if (verb->verbs)
		return err_set(err, -EINVAL, "'%s' needs a verb: bellows %s %s", verb->name,
		        verb->name, verb->synopsis);
	if (args->count < verb->words_min)
		return err_set(err, -EINVAL, "'%s' needs more words: bellows %s %s", verb->name,
		        verb->name, verb->synopsis);
	if (args->count > verb->words_max)
		return err_set(err, -EINVAL, "'%s' does not take '%s': bellows %s %s", verb->name,
		        args->words[verb->words_max], verb->name, verb->synopsis);
	return 0;
}

int cli_parse(int argc, char **argv, struct cli *cli, struct cli_args *args, struct err *err)
{
	struct parse p = {
	        .cli = cli, .args = args, .argc = argc, .next = 1, .argv = argv, .err = err};
	bool only_words = false;
	int rc;

	*args = (struct cli_args){.words = xcalloc((size_t)argc + 1, sizeof(char *))};
	while (p.next < argc) {
		char *word = argv[p.next++];

		if (only_words || word[0] != '-' || !word[1] || isdigit((unsigned char)word[1]))
			rc = take_word(&p, word);
		else if (word[1] != '-')
			rc = parse_letters(&p, word);
		else if (word[2])
			rc = parse_long(&p, word);
		else
			rc = 0, only_words = true;
		if (rc)
			return rc;
	}
	return check_count(args, err);
}

const char *cli_option(const struct cli_args *args, const char *name)
{
	const struct cli_option *option = find_option(args->verb->options, name, strlen(name), 0);

	BELLOWS_ASSERT(option);
	return args->values[option - args->verb->options];
}

int cli_usage_error(const struct cli_args *args, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list list;

	va_start(list, fmt);
	vsnprintf(text, sizeof(text), fmt, list);
	va_end(list);
	if (args->verb)
		cli_error("%s (see: bellows help %s)", text, args->verb->name);
	else
		cli_error("%s (see: bellows help)", text);
	return EXIT_USAGE;
}
