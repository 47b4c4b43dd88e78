/*
 * tree.h: the answer of bdev_get_tree:
 *
 *     {"bdevs": [NODE...], "waiting": [{"name", "module", "missing"}...]}
 *     NODE: {"name", "module", "block_size", "num_blocks", "why", "policy", "bases", "holders",
 *            "above": [NODE...]}, or {"name", "shown_on"} for a bdev that is in full on another
 * base
 */
#pragma once

#include "cli/cli.h"

/* The whole tree, a new reference; NULL: *status says what has been reported. */
json_t *tree_ask(struct cli *cli, int *status);
/* The full node of that name, borrowed; NULL: there is none. */
const json_t *tree_find(const json_t *nodes, const char *name);
/* How many bdevs there are. */
size_t tree_count(const json_t *nodes);
/* The name in the tree of what a name, alias or UUID means; to be freed. NULL after an error. */
char *tree_resolve(struct cli *cli, const json_t *tree, const char *name, int *status);
void tree_draw(struct cli *cli, const json_t *tree, FILE *out);
