/* main.c: the `bellows` command. */

#include <locale.h>

#include "cli/cli.h"

static int run(struct cli *cli, const struct cli_args *args)
{
	if (args->version) {
		printf("bellows %s\n", BELLOWS_VERSION);
		return EXIT_DONE;
	}
	if (args->help && args->verb)
		doc_verb(args->verb, stdout);
	else if (args->help)
		doc_usage(stdout);
	else if (args->verb)
		return args->verb->run(cli, args);
	else
		return doc_usage(stderr), EXIT_USAGE;
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct cli cli = {.timeout_s = CLI_DEFAULT_TIMEOUT_S};
	struct err err = ERR_NONE;
	struct cli_args args;
	int status;

	setlocale(LC_ALL, "");
	cli.socket_path = getenv("BELLOWS_SOCKET");
	if (!cli.socket_path || !*cli.socket_path)
		cli.socket_path = CLI_DEFAULT_SOCKET;
	if (cli_parse(argc, argv, &cli, &args, &err))
		status = cli_usage_error(&args, "%s", err.text);
	else
		status = run(&cli, &args);
	free(args.words);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		cli_error("the output could not be written");
		return EXIT_REFUSED;
	}
	return status;
}
