/* tree_methods.c: how bdevs stand on each other, and what is wrong with them. */

#include <string.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "rpc/text.h"

static json_t *holders(const struct bdev *bdev)
{
	json_t *list = json_array();
	const char *holder;

	for (unsigned i = 0; (holder = bdev_holder(bdev, i)); i++)
		json_array_append_new(list, rpc_json_string(holder));
	return list;
}

static json_t *bases(const struct bdev *bdev)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < bdev->num_bases; i++)
		json_array_append_new(
		        list, bdev->bases[i] ? rpc_json_string(bdev->bases[i]->name) : json_null());
	return list;
}

/* Where a bdev is shown in full: on its first base that is there. */
static const struct bdev *home_of(const struct bdev *bdev)
{
	for (unsigned i = 0; i < bdev->num_bases; i++)
		if (bdev->bases[i])
			return bdev->bases[i];
	return NULL;
}

static json_t *node(const struct bdev *bdev);

/* Depth is that of the graph, which the core limits. */
static json_t *above(const struct bdev *bdev)
{
	json_t *list = json_array();
	const struct bdev *parent;

	for (unsigned i = 0; (parent = bdev_parent(bdev, i)); i++) {
		if (parent->state == BDEV_CREATING)
			continue;
		json_array_append_new(list,
		        home_of(parent) == bdev
		                ? node(parent)
		                : json_pack("{s:o, s:o}", "name", rpc_json_string(parent->name),
		                          "shown_on", rpc_json_string(home_of(parent)->name)));
	}
	return list;
}

static json_t *node(const struct bdev *bdev)
{
	const struct bdev_geometry *g = &bdev->geometry;
	json_t *object = json_object();

	json_object_set_new(object, "name", rpc_json_string(bdev->name));
	json_object_set_new(object, "module", json_string(bdev->module->name));
	json_object_set_new(object, "block_size", json_integer(g->block_bytes));
	json_object_set_new(object, "num_blocks", json_integer((json_int_t)g->num_blocks));
	json_object_set_new(object, "why", rpc_json_string(g->why));
	json_object_set_new(object, "policy",
	        json_string(bdev_get_policy(bdev) == BDEV_HOLD ? "hold" : "follow"));
	json_object_set_new(object, "claimed", json_boolean(bdev_is_claimed(bdev)));
	json_object_set_new(object, "bases", bases(bdev));
	json_object_set_new(object, "holders", holders(bdev));
	json_object_set_new(object, "above", above(bdev));
	return object;
}

struct waiting_list {
	json_t *list;
	const struct bdev_module *module;
};

static void add_waiting_name(void *arg, const char *name, const char *missing)
{
	const struct waiting_list *waiting = arg;

	json_array_append_new(
	        waiting->list, json_pack("{s:o, s:s, s:o}", "name", rpc_json_string(name), "module",
	                               waiting->module->name, "missing", rpc_json_string(missing)));
}

static void add_waiting(void *arg, const struct bdev_spec *spec, const char *missing)
{
	struct waiting_list *waiting = arg;

	waiting->module = spec->module;
	add_waiting_name(waiting, spec->name, missing);
}

static json_t *all_waiting(void)
{
	struct waiting_list waiting = {.list = json_array()};
	struct bdev_module *module = NULL;

	bdev_for_each_waiting(add_waiting, &waiting);
	while ((module = bdev_module_next(module))) {
		waiting.module = module;
		if (module->for_each_waiting)
			module->for_each_waiting(add_waiting_name, &waiting);
	}
	return waiting.list;
}

static void get_tree(struct rpc_request *request, void *params)
{
	json_t *roots = json_array();
	struct bdev *bdev = NULL;

	(void)params;
	while ((bdev = bdev_next(bdev)))
		if (!home_of(bdev))
			json_array_append_new(roots, node(bdev));
	rpc_reply(request, json_pack("{s:o, s:o}", "bdevs", roots, "waiting", all_waiting()));
}

static struct rpc_method bdev_get_tree = {
        .name = "bdev_get_tree",
        .summary = "All bdevs as a tree from the storage upwards, each with the reason for its "
                   "size",
        .result_help =
                "object: bdevs [{name, module, block_size, num_blocks, why, policy, claimed, "
                "bases, holders, above: [the same, or {name, shown_on} for a bdev on "
                "several bases]}], waiting [{name, module, missing}]",
        .flags = RPC_NO_PARAMS,
        .handler = get_tree,
};
RPC_METHOD(bdev_get_tree);

static void add_problem(
        void *arg, const struct bdev *bdev, const char *key, const char *text, const char *action)
{
	json_array_append_new(arg,
	        json_pack("{s:o, s:o, s:o, s:o}", "key", rpc_json_string(key), "bdev",
	                bdev ? rpc_json_string(bdev->name) : json_null(), "text",
	                rpc_json_string(text), "action", rpc_json_string(action ? action : "")));
}

static void get_problems(struct rpc_request *request, void *params)
{
	json_t *list = json_array();

	(void)params;
	bdev_for_each_problem(add_problem, list);
	rpc_reply(request, list);
}

static struct rpc_method bdev_get_problems = {
        .name = "bdev_get_problems",
        .summary = "What is wrong with bdevs, and what to do about it",
        .result_help = "list of {key, bdev, text, action}; empty when all is well",
        .flags = RPC_NO_PARAMS,
        .handler = get_problems,
};
RPC_METHOD(bdev_get_problems);
