#include "tests/lib/stacks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"

#define ZONE 64         /* blocks */
#define STRIP 128       /* blocks */
#define TABLE_BLOCKS 33 /* the backup of a partition table, at the end of a disk */

/* ---- what there is ----------------------------------------------------------------------------
 */

static uint64_t same(const struct stack_node *node, const uint64_t *below)
{
	(void)node;
	return below[0];
}

/* The last of two equal parts, up to the end; but a block that is left over stays so. */
static uint64_t part_rule(const struct stack_node *node, const uint64_t *below)
{
	uint64_t room = below[0] - node->start_blocks;

	return room == node->start_blocks + 1 ? room - 1 : room;
}

/* The last of two partitions, whatever the size of the disk. */
static uint64_t partition_rule(const struct stack_node *node, const uint64_t *below)
{
	(void)below;
	return node->end_blocks - node->start_blocks;
}

static uint64_t zones_rule(const struct stack_node *node, const uint64_t *below)
{
	(void)node;
	return below[0] / ZONE * ZONE;
}

static uint64_t smallest(const struct stack_node *node, const uint64_t *below)
{
	uint64_t min = below[0];

	for (unsigned i = 1; i < node->num_below; i++)
		min = min_u64(min, below[i]);
	return min;
}

static uint64_t striped(const struct stack_node *node, const uint64_t *below)
{
	return smallest(node, below) / STRIP * STRIP * node->num_below;
}

/* A strip of each stripe is parity. */
static uint64_t striped_parity(const struct stack_node *node, const uint64_t *below)
{
	return smallest(node, below) / STRIP * STRIP * (node->num_below - 1);
}

/* Only the last member may change: behind the others lies what the next one holds. */
static uint64_t joined(const struct stack_node *node, const uint64_t *below)
{
	return node->start_blocks + below[node->num_below - 1] / STRIP * STRIP;
}

static const struct stack_layer layers[STACK_LAYERS] = {
        {"passthru", "passthru", "bdev_passthru_create", "{'name': '%s', 'base_bdev_name': '%s'}",
                .rule = same},
        {"delay", "delay", "bdev_delay_create",
                "{'name': '%s', 'base_bdev_name': '%s', 'avg_read_latency': 0, "
                "'p99_read_latency': 0, 'avg_write_latency': 0, 'p99_write_latency': 0}",
                .rule = same},
        {"error", "error", "bdev_error_create", "{'name': '%s', 'base_name': '%s'}", .rule = same},
        {"split", "split", "bdev_split_create", "{'base_bdev': '%2$s', 'split_count': 2}",
                .rule = part_rule, .suffix = "p1"},
        {"gpt", "gpt", "bdev_gpt_create", "{'base_bdev': '%2$s', 'partition_count': 2}",
                .rule = partition_rule, .suffix = "p2"},
        {"crypto", "crypto", "bdev_crypto_create",
                "{'name': '%s', 'base_bdev_name': '%s', 'key_name': 'K'}", .rule = same},
        {"zone_block", "zone_block", "bdev_zone_block_create",
                "{'name': '%s', 'base_bdev': '%s', 'zone_capacity': 64, 'optimal_open_zones': 1}",
                .rule = zones_rule},
};

static const struct stack_layer arrays[STACK_ARRAYS] = {
        {"raid0", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'raid0', 'strip_size_kb': 64, "
                "'base_bdevs': ['%s', '%s']}",
                .rule = striped, .num_below = 2},
        {"raid1", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'raid1', 'base_bdevs': ['%s', '%s']}",
                .rule = smallest, .num_below = 2},
        {"concat", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'concat', 'strip_size_kb': 64, "
                "'base_bdevs': ['%s', '%s']}",
                .rule = joined, .num_below = 2},
        {"raid5f", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'raid5f', 'strip_size_kb': 64, "
                "'base_bdevs': ['%s', '%s', '%s']}",
                .rule = striped_parity, .num_below = 3},
};

static const struct stack_layer *if_built(const struct stack_layer *layer)
{
	return bdev_module_find(layer->module) ? layer : NULL;
}

const struct stack_layer *stack_layer(unsigned i)
{
	return i < STACK_LAYERS ? if_built(&layers[i]) : NULL;
}

const struct stack_layer *stack_array(unsigned i)
{
	return i < STACK_ARRAYS ? if_built(&arrays[i]) : NULL;
}

bool stack_has_module(const char *module)
{
	for (unsigned i = 0; i < STACK_LAYERS; i++) {
		if (strcmp(layers[i].module, module) == 0)
			return true;
	}
	return false;
}

/* ---- building ---------------------------------------------------------------------------------
 */

static struct stack_node *add(struct stack *stack, const char *kind)
{
	struct stack_node *node = &stack->nodes[stack->num_nodes];
	size_t used = strlen(stack->label);

	BELLOWS_ASSERT(stack->num_nodes < STACK_NODES_MAX);
	*node = (struct stack_node){.kind = kind};
	snprintf(stack->label + used, sizeof(stack->label) - used, "%s%s",
	        stack->num_nodes++ ? " " : "", kind);
	return node;
}

/* Names are new each time: a split waits for ever for a base of its name. */
static void make_up_name(struct stack_node *node)
{
	static unsigned serial;

	snprintf(node->name, sizeof(node->name), "%c%u", node->kind[0] - 'a' + 'A', ++serial);
}

unsigned stack_add_bottom(struct stack *stack, const char *kind)
{
	make_up_name(add(stack, kind));
	return stack->num_nodes - 1;
}

unsigned stack_add(struct stack *stack, const struct stack_layer *layer, const unsigned *below)
{
	struct stack_node *node = add(stack, layer->kind);

	node->layer = layer;
	node->num_below = layer->num_below ? layer->num_below : 1;
	memcpy(node->below, below, node->num_below * sizeof(*below));
	if (layer->suffix)
		snprintf(node->name, sizeof(node->name), "%.60s%s", stack->nodes[below[0]].name,
		        layer->suffix);
	else
		make_up_name(node);
	return stack->num_nodes - 1;
}

static void make_bottom(const struct stack_node *node)
{
	char path[160];

	if (strcmp(node->kind, "null") == 0) {
		inproc_ok("bdev_null_create", "{'name': '%s', 'num_blocks': %d, 'block_size': %d}",
		        node->name, STACK_BOTTOM_BLOCKS, STACK_BLOCK_BYTES);
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", inproc_dir(), node->name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (off_t)STACK_BOTTOM_BLOCKS * STACK_BLOCK_BYTES), 0);
	fclose(f);
	inproc_ok("bdev_aio_create", "{'name': '%s', 'filename': '%s', 'block_size': %d}",
	        node->name, path, STACK_BLOCK_BYTES);
}

static uint64_t partition_start(const char *name)
{
	json_t *list = inproc_result("bdev_get_bdevs", "{'name': '%s'}", name);
	json_int_t start;

	assert_int_equal(json_unpack(list, "[{s:{s:{s:I}}}]", "driver_specific", "gpt",
	                         "offset_blocks", &start),
	        0);
	json_decref(list);
	return (uint64_t)start;
}

/* Where it begins and ends, which its rule takes as given. */
static void note_place(const struct stack *stack, struct stack_node *node)
{
	uint64_t size = bdev_blocks_of(node->name);

	if (node->layer->rule == part_rule)
		node->start_blocks = size;
	for (unsigned b = 0; node->layer->rule == joined && b + 1 < node->num_below; b++)
		node->start_blocks +=
		        bdev_blocks_of(stack->nodes[node->below[b]].name) / STRIP * STRIP;
	if (stack_is_partition(node)) {
		node->start_blocks = partition_start(node->name);
		node->end_blocks = node->start_blocks + size;
	}
}

/* The reason without what differs from stack to stack. */
static const char *reason(const char *message)
{
	return strstr(message, "zoned")                ? "it is zoned"
	       : strstr(message, "can't be read back") ? "it keeps no data"
	                                               : message;
}

static bool make_layer(struct stack *stack, struct stack_node *node)
{
	const char *base[STACK_BASES_MAX] = {"", "", ""}, *message;
	json_t *reply;
	char params[512];

	for (unsigned b = 0; b < node->num_below; b++)
		base[b] = stack->nodes[node->below[b]].name;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(
	        params, sizeof(params), node->layer->params, node->name, base[0], base[1], base[2]);
#pragma GCC diagnostic pop
	reply = inproc_call(node->layer->method, "%s", params);
	message = json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
	if (message)
		snprintf(stack->refused, sizeof(stack->refused), "%s on %s: %s", node->kind,
		        stack->nodes[node->below[0]].kind, reason(message));
	else
		note_place(stack, node);
	json_decref(reply);
	return !message;
}

bool stack_build(struct stack *stack)
{
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		struct stack_node *node = &stack->nodes[i];

		if (!node->layer)
			make_bottom(node);
		else if (!make_layer(stack, node))
			return false;
	}
	return true;
}

void stack_tear_down(const struct stack *stack)
{
	char path[160];

	for (unsigned i = 0; i < stack->num_nodes; i++) {
		const struct stack_node *node = &stack->nodes[i];

		if (node->layer)
			continue;
		assert_int_equal(bdev_remove_wait(node->name), 0);
		snprintf(path, sizeof(path), "%s/%s", inproc_dir(), node->name);
		unlink(path);
	}
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		if (bdev_blocks_of(stack->nodes[i].name))
			fail_msg("'%s' is left of %s", stack->nodes[i].name, stack->label);
	}
}

/* ---- sizes ------------------------------------------------------------------------------------
 */

void stack_expect(const struct stack *stack, uint64_t *sizes)
{
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		const struct stack_node *node = &stack->nodes[i];
		uint64_t below[STACK_BASES_MAX];

		if (!node->layer)
			continue;
		for (unsigned b = 0; b < node->num_below; b++)
			below[b] = sizes[node->below[b]];
		sizes[i] = node->layer->rule(node, below);
	}
}

bool stack_is_partition(const struct stack_node *node)
{
	return node->layer && node->layer->rule == partition_rule;
}

void stack_extend(struct stack *stack, unsigned partition)
{
	struct stack_node *node = &stack->nodes[partition];
	const char *disk = stack->nodes[node->below[0]].name;

	node->end_blocks = bdev_blocks_of(disk) - TABLE_BLOCKS;
	inproc_ok("bdev_gpt_grow", "{'base_bdev': '%s', 'extend_last': true}", disk);
}
