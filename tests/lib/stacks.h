/*
 * stacks.h: stacks of bdevs for tests that try every combination of layers: what each layer is
 * made by, and the size that it must have on bases of given sizes, as a rule of the test's own.
 *
 * The daemon is inside the test (inproc.h). All functions are called by the test's thread.
 */
#pragma once

#include "base/base.h"

#define STACK_NODES_MAX 16
#define STACK_BASES_MAX 3
#define STACK_BLOCK_BYTES 512
#define STACK_BOTTOM_BLOCKS 16384 /* of a bottom, as it is made */

struct stack_node {
	const struct stack_layer *layer; /* NULL: a bottom */
	const char *kind;
	char name[64];
	unsigned below[STACK_BASES_MAX], num_below; /* indices */
	uint64_t start_blocks; /* of a part: where it begins; of a concat: what the others hold */
	uint64_t end_blocks;   /* of a partition: what its table says */
};

/* Nodes stand on nodes before them. The last one is the top. */
struct stack {
	struct stack_node nodes[STACK_NODES_MAX];
	unsigned num_nodes;
	char label[160];
	char refused[240]; /* by which layer, and why */
};

/* In params %s is the bdev's name, then its bases'. */
struct stack_layer {
	const char *kind, *module, *method, *params;
	uint64_t (*rule)(const struct stack_node *node, const uint64_t *below);
	const char *suffix; /* of the base's name, for one that makes up its name */
	unsigned num_below; /* 0: one */
};

/* By number; NULL past the last, and where its module is not in this build. */
#define STACK_LAYERS 7
#define STACK_ARRAYS 4
const struct stack_layer *stack_layer(unsigned i);
const struct stack_layer *stack_array(unsigned i);
/* Whether some layer here is of this module. */
bool stack_has_module(const char *module);

/* A bottom: "null" or "file". The index of the new node. */
unsigned stack_add_bottom(struct stack *stack, const char *kind);
unsigned stack_add(struct stack *stack, const struct stack_layer *layer, const unsigned *below);

/* False: a layer refuses; what has been made is left for stack_tear_down. */
bool stack_build(struct stack *stack);
/* Fails the test when something is left. */
void stack_tear_down(const struct stack *stack);

/* Sizes as they must be, from those of the bottoms. */
void stack_expect(const struct stack *stack, uint64_t *sizes);
/* bdev_gpt_grow for this node, a partition: it is to reach to the end of its disk. */
bool stack_is_partition(const struct stack_node *node);
void stack_extend(struct stack *stack, unsigned partition);
