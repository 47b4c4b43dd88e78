/*
 * Bdevs that come back by themselves: a module finds them on their base (SIM_SELF_FOUND). After a
 * restart nobody creates them, and they must be there.
 */
#include <string.h>

#include "sim/run.h"

static struct {
	struct run_node *node;
	void (*create)(struct run_node *node);
	void (*next)(void);
} wait;

static bool is_there(const struct run_node *node)
{
	for (const struct bdev *b = bdev_next(NULL); b; b = bdev_next(b))
		if (stack_node_of(b) == node)
			return true;
	return false;
}

bool found_by_itself(const struct run_node *node)
{
	return sim_module_find(node->module)->claims & SIM_SELF_FOUND;
}

/* One whose creation was cut off may be there or not, but nothing between. */
static void looked(void *arg, const struct err *err)
{
	struct run_node *node = wait.node;

	(void)arg;
	(void)err;
	if (is_there(node) || node->answered) {
		node->state = NODE_UP;
		wait.next();
	} else if (bdev_find(node->bases[0])) {
		wait.create(node);
	} else {
		node->state = NODE_FREE;
		wait.next();
	}
}

void found_wait(struct run_node *node, void (*create)(struct run_node *node), void (*next)(void))
{
	wait.node = node;
	wait.create = create;
	wait.next = next;
	bdev_wait_for_examine((struct bdev_done){looked, NULL});
}

void found_check(void)
{
	for (unsigned i = 0; i < RUN_NODES_MAX; i++) {
		const struct run_node *node = &run->nodes[i];
		const struct bdev *base = bdev_find(node->bases[0]);

		if (node->state == NODE_UP && node->answered && base && !stack_faulty(base) &&
		        (sim_module_find(node->module)->claims & SIM_SELF_FOUND) && !is_there(node))
			sim_fail("not found again", "%s '%s' is not found on %s after a restart",
			        node->module, node->name, node->bases[0]);
	}
}
