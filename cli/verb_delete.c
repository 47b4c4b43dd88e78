/* verb_delete.c: deleting a bdev by whichever method does it. */

#include <string.h>

#include "cli/cli.h"
#include "rpc/rpc.h"
#include "cli/tree.h"

/* Names of what would go too, "a, b and c"; to be freed. NULL: nothing. */
static char *join(const json_t *names)
{
	char *text = NULL;
	json_t *name;
	size_t i, count = json_array_size(names);

	json_array_foreach (names, i, name) {
		const char *glue = i == 0 ? "" : i + 1 == count ? " and " : ", ";
		char *longer = xasprintf("%s%s%s", text ? text : "", glue, json_string_value(name));

		free(text);
		text = longer;
	}
	return text;
}

/* Everything above a node: bdevs and those who use them. */
static void collect_above(const json_t *node, json_t *names)
{
	json_t *child, *holder;
	size_t i;

	json_array_foreach (json_object_get(node, "holders"), i, holder)
		json_array_append(names, holder);
	json_array_foreach (json_object_get(node, "above"), i, child) {
		json_array_append(names, json_object_get(child, "name"));
		collect_above(child, names);
	}
}

/* The other bdevs of the same module on the same base, and what is above them. */
static void collect_siblings(
        const json_t *nodes, const json_t *node, const char *base, json_t *names)
{
	const json_t *base_node = tree_find(nodes, base);
	json_t *child;
	size_t i;

	json_array_foreach (json_object_get(base_node, "above"), i, child) {
		if (strcmp(cli_str(child, "module", ""), cli_str(node, "module", "?")) != 0 ||
		        child == node)
			continue;
		json_array_append(names, json_object_get(child, "name"));
		collect_above(child, names);
	}
}

struct deletion {
	char *name; /* as in the tree */
	const struct rpc_method *method;
	json_t *params;
	json_t *others; /* names of what goes too */
};

/* A method that takes no name takes the base: it deletes all that its module made of it. */
static bool plan_by_base(
        struct deletion *d, const json_t *tree, const json_t *node, const char *missing)
{
	const struct param *param = cli_positional(d->method->params, 0);
	const char *base = missing;

	if (node)
		base = json_string_value(json_array_get(json_object_get(node, "bases"), 0));
	if (!param || !base)
		return false;
	d->params = json_pack("{s:s}", param->name, base);
	if (node)
		collect_siblings(json_object_get(tree, "bdevs"), node, base, d->others);
	return true;
}

static const json_t *find_waiting(const json_t *tree, const char *name)
{
	json_t *creation;
	size_t i;

	json_array_foreach (json_object_get(tree, "waiting"), i, creation)
		if (strcmp(cli_str(creation, "name", ""), name) == 0)
			return creation;
	return NULL;
}

static int plan(struct deletion *d, const json_t *tree)
{
	const json_t *node = tree_find(json_object_get(tree, "bdevs"), d->name);
	const json_t *waiting = node ? NULL : find_waiting(tree, d->name);
	const char *module = cli_str(node ? node : waiting, "module", "?");
	autofree char *method = xasprintf("bdev_%s_delete", module);
	const struct param *first;

	d->method = cli_method_find(method);
	if (!d->method) {
		cli_error("'%s' can't be deleted by hand: there is no method %s", d->name, method);
		return EXIT_REFUSED;
	}
	collect_above(node, d->others);
	first = cli_positional(d->method->params, 0);
	if (first && strcmp(first->name, "name") == 0) {
		d->params = json_pack("{s:s}", "name", d->name);
	} else if (!plan_by_base(d, tree, node, cli_str(waiting, "missing", NULL))) {
		cli_error("'%s' can't be deleted by name: call %s", d->name, method);
		return EXIT_REFUSED;
	}
	return EXIT_DONE;
}

int verb_delete(struct cli *cli, const struct cli_args *args)
{
	struct deletion d = {.others = json_array()};
	int status;
	json_t *tree = tree_ask(cli, &status), *result;

	if (tree)
		d.name = tree_resolve(cli, tree, args->words[0], &status);
	if (d.name)
		status = plan(&d, tree);
	if (d.params && json_array_size(d.others) && !cli_option(args, "yes")) {
		autofree char *others = join(d.others);

		cli_error("with '%s' would go %s; if that is right, add --yes", d.name, others);
		status = EXIT_REFUSED;
	} else if (d.params) {
		result = cli_call(cli, d.method->name, json_incref(d.params), &status);
		if (result && cli->json)
			cli_print_json(result);
		json_decref(result);
	}
	free(d.name);
	json_decref(d.params);
	json_decref(d.others);
	json_decref(tree);
	return status;
}
