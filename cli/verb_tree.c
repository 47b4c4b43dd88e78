/* verb_tree.c: the stack as a drawing. */

#include <string.h>

#include "cli/cli.h"
#include "cli/tree.h"

/* ---- finding --------------------------------------------------------------------------------- */

const json_t *tree_find(const json_t *nodes, const char *name)
{
	json_t *node;
	size_t i;

	json_array_foreach (nodes, i, node) {
		const json_t *found;

		if (json_object_get(node, "shown_on"))
			continue;
		if (strcmp(cli_str(node, "name", ""), name) == 0)
			return node;
		found = tree_find(json_object_get(node, "above"), name);
		if (found)
			return found;
	}
	return NULL;
}

size_t tree_count(const json_t *nodes)
{
	json_t *node;
	size_t i, count = 0;

	json_array_foreach (nodes, i, node)
		if (!json_object_get(node, "shown_on"))
			count += 1 + tree_count(json_object_get(node, "above"));
	return count;
}

json_t *tree_ask(struct cli *cli, int *status)
{
	return cli_call(cli, "bdev_get_tree", NULL, status);
}

char *tree_resolve(struct cli *cli, const json_t *tree, const char *name, int *status)
{
	json_t *waiting;
	size_t i;

	*status = EXIT_DONE;
	if (tree_find(json_object_get(tree, "bdevs"), name))
		return xstrdup(name);
	json_array_foreach (json_object_get(tree, "waiting"), i, waiting)
		if (strcmp(cli_str(waiting, "name", ""), name) == 0)
			return xstrdup(name);
	json_t *bdevs = cli_call(cli, "bdev_get_bdevs", json_pack("{s:s}", "name", name), status);
	char *real = bdevs ? xstrdup(cli_str(json_array_get(bdevs, 0), "name", name)) : NULL;

	json_decref(bdevs);
	return real;
}

/* ---- the part of one bdev -------------------------------------------------------------------- */

/* Is a bdev of `names` in this part of the tree, be it as a stub? */
static bool touches(const json_t *nodes, const json_t *names)
{
	json_t *node;
	size_t i;

	json_array_foreach (nodes, i, node)
		if (json_object_get(names, cli_str(node, "name", "")) ||
		        touches(json_object_get(node, "above"), names))
			return true;
	return false;
}

static void collect_names(const json_t *nodes, json_t *names)
{
	json_t *node;
	size_t i;

	json_array_foreach (nodes, i, node) {
		json_object_set_new(names, cli_str(node, "name", ""), json_true());
		collect_names(json_object_get(node, "above"), names);
	}
}

/* The backends whose stacks hang together with that of name: a RAID joins those of its members. */
static json_t *roots_of(const json_t *roots, const char *name)
{
	json_t *names = json_pack("{s:b}", name, 1), *left = json_copy((json_t *)roots);
	json_t *picked = json_array(), *root;
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < json_array_size(left);) {
			json_t *one;

			root = json_array_get(left, i);
			one = json_pack("[O]", root);
			if (touches(one, names)) {
				collect_names(one, names);
				json_array_append(picked, root);
				json_array_remove(left, i);
				again = true;
			} else {
				i++;
			}
			json_decref(one);
		}
	}
	json_decref(names);
	json_decref(left);
	return picked;
}

static json_t *waiting_of(const json_t *waiting, const char *name)
{
	json_t *picked = json_array(), *creation;
	size_t i;

	json_array_foreach (waiting, i, creation)
		if (strcmp(cli_str(creation, "name", ""), name) == 0 ||
		        strcmp(cli_str(creation, "missing", ""), name) == 0)
			json_array_append(picked, creation);
	return picked;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static const struct table_column columns[] = {
        {"NAME", false},
        {"KIND", false},
        {"SIZE", true},
        {"BLOCK", true},
        {"POLICY", false},
        {"WHY THIS SIZE", false},
};

struct lines {
	const char *branch, *last, *down, *none;
};

static const struct lines utf8_lines = {"├─", "└─", "│ ", "  "};
static const struct lines ascii_lines = {"|-", "`-", "| ", "  "};

struct drawing {
	struct table *table;
	const struct lines *lines;
};

static void draw_node(const struct drawing *drawing, const json_t *node, const char *label)
{
	uint64_t block_bytes = cli_u64(node, "block_size");
	const char *home = cli_str(node, "shown_on", NULL);
	char size[SIZE_TEXT_MAX], block[24];

	if (home) {
		autofree char *text = xasprintf("%s (shown on %s)", label, home);

		table_row(drawing->table, (const char *[]){text, "", "", "", "", ""});
		return;
	}
	format_size_bytes(size, sizeof(size), cli_u64(node, "num_blocks") * block_bytes);
	snprintf(block, sizeof(block), "%llu", (unsigned long long)block_bytes);
	table_row(drawing->table, (const char *[]){label, cli_str(node, "module", "?"), size, block,
	                                  cli_str(node, "policy", ""), cli_str(node, "why", "")});
}

/* What stands on a node: first those who use it, then the bdevs. */
static void draw_above(const struct drawing *drawing, const json_t *node, const char *indent)
{
	const json_t *holders = json_object_get(node, "holders");
	const json_t *above = json_object_get(node, "above");
	size_t num_holders = json_array_size(holders), num_above = json_array_size(above);

	for (size_t i = 0; i < num_holders + num_above; i++) {
		bool last = i + 1 == num_holders + num_above;
		const char *branch = last ? drawing->lines->last : drawing->lines->branch;

		if (i < num_holders) {
			const char *holder = json_string_value(json_array_get(holders, i));
			autofree char *label =
			        xasprintf("%s%s%s", indent, branch, holder ? holder : "?");

			table_row(drawing->table, (const char *[]){label, "", "", "", "", ""});
			continue;
		}
		const json_t *child = json_array_get(above, i - num_holders);
		autofree char *label =
		        xasprintf("%s%s%s", indent, branch, cli_str(child, "name", "?"));
		autofree char *deeper = xasprintf(
		        "%s%s", indent, last ? drawing->lines->none : drawing->lines->down);

		draw_node(drawing, child, label);
		draw_above(drawing, child, deeper);
	}
}

void tree_draw(struct cli *cli, const json_t *tree, FILE *out)
{
	struct drawing drawing = {.table = table_new(columns, ARRAY_SIZE(columns)),
	        .lines = cli_utf8(cli) ? &utf8_lines : &ascii_lines};
	const json_t *waiting = json_object_get(tree, "waiting");
	json_t *node;
	size_t i;

	json_array_foreach (json_object_get(tree, "bdevs"), i, node) {
		draw_node(&drawing, node, cli_str(node, "name", "?"));
		draw_above(&drawing, node, "");
	}
	table_print(cli, drawing.table, i ? out : NULL);
	if (!i && !json_array_size(waiting))
		fputs("no bdevs\n", out);
	if (i && json_array_size(waiting))
		fputc('\n', out);
	json_array_foreach (waiting, i, node) {
		autofree char *line =
		        xasprintf("%s (%s) waits for its base %s", cli_str(node, "name", "?"),
		                cli_str(node, "module", "?"), cli_str(node, "missing", "?"));

		print_line(line, out);
	}
}

int verb_tree(struct cli *cli, const struct cli_args *args)
{
	int status;
	json_t *tree = tree_ask(cli, &status), *part;

	if (tree && args->count) {
		autofree char *name = tree_resolve(cli, tree, args->words[0], &status);

		part = name ? json_pack("{s:o, s:o}", "bdevs",
		                      roots_of(json_object_get(tree, "bdevs"), name), "waiting",
		                      waiting_of(json_object_get(tree, "waiting"), name))
		            : NULL;
		json_decref(tree);
		tree = part;
	}
	if (tree && cli->json)
		cli_print_json(tree);
	else if (tree)
		tree_draw(cli, tree, stdout);
	json_decref(tree);
	return status;
}
