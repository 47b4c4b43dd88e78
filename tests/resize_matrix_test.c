/*
 * Every pair and triple of layers between a null or file bdev and an NBD export; and arrays on and
 * below them. In each stack the bottom grows and, agreed by all, shrinks. A cell is right when, as
 * the call returns, every layer has the size that its rule gives, each whose size has changed has
 * raised one event, the client was told once, and NBD serves the new size.
 *
 * The layers come from the registry of modules. A new one joins by a line in `layers`; one without
 * is a failure. What a module refuses to build is counted apart.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/nbd_client.h"

#define DEPTH 3
#define NODES_MAX 16
#define BLOCK 512
#define ZONE 64   /* blocks */
#define STRIP 128 /* blocks */
#define START_BLOCKS 8192

/* ---- layers -----------------------------------------------------------------------------------
 */

struct node {
	const char *kind;
	char name[64];
	unsigned below[2], num_below; /* indices */
	uint64_t start_blocks;        /* where the last part begins: of a split, or what it joins */
};

struct stack {
	struct node nodes[NODES_MAX];
	unsigned num_nodes;
	char label[160];
};

static uint64_t same(const struct node *node, const uint64_t *below)
{
	(void)node;
	return below[0];
}

/* The last of two parts, up to the end. */
static uint64_t split_rule(const struct node *node, const uint64_t *below)
{
	return below[0] - node->start_blocks;
}

static uint64_t zones_rule(const struct node *node, const uint64_t *below)
{
	(void)node;
	return below[0] / ZONE * ZONE;
}

static uint64_t smaller(const struct node *node, const uint64_t *below)
{
	(void)node;
	return min_u64(below[0], below[1]);
}

static uint64_t striped(const struct node *node, const uint64_t *below)
{
	return smaller(node, below) / STRIP * STRIP * 2;
}

/* Only the last member may change: behind the others lies what the next one holds. */
static uint64_t joined(const struct node *node, const uint64_t *below)
{
	return node->start_blocks + below[1] / STRIP * STRIP;
}

/* In params %s is the bdev's name, then its base's or bases'. */
struct layer {
	const char *kind, *module, *method, *params;
	uint64_t (*rule)(const struct node *node, const uint64_t *below);
	const char *suffix; /* of the base's name, for one that makes up its name */
};

static const struct layer layers[] = {
        {"passthru", "passthru", "bdev_passthru_create", "{'name': '%s', 'base_bdev_name': '%s'}",
                same, NULL},
        {"delay", "delay", "bdev_delay_create",
                "{'name': '%s', 'base_bdev_name': '%s', 'avg_read_latency': 0, "
                "'p99_read_latency': 0, 'avg_write_latency': 0, 'p99_write_latency': 0}",
                same, NULL},
        {"error", "error", "bdev_error_create", "{'name': '%s', 'base_name': '%s'}", same, NULL},
        {"split", "split", "bdev_split_create", "{'base_bdev': '%2$s', 'split_count': 2}",
                split_rule, "p1"},
        {"crypto", "crypto", "bdev_crypto_create",
                "{'name': '%s', 'base_bdev_name': '%s', 'key_name': 'K'}", same, NULL},
        {"zone_block", "zone_block", "bdev_zone_block_create",
                "{'name': '%s', 'base_bdev': '%s', 'zone_capacity': 64, 'optimal_open_zones': 1}",
                zones_rule, NULL},
        /* Found on a disk that has a table, not made by a call. */
        {NULL, "gpt", NULL, NULL, NULL, NULL},
};

static const struct layer arrays[] = {
        {"raid0", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'raid0', 'strip_size_kb': 64, 'base_bdevs': ['%s', "
                "'%s']}",
                striped, NULL},
        {"raid1", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'raid1', 'base_bdevs': ['%s', '%s']}", smaller, NULL},
        {"concat", "raid", "bdev_raid_create",
                "{'name': '%s', 'raid_level': 'concat', 'strip_size_kb': 64, 'base_bdevs': ['%s', "
                "'%s']}",
                joined, NULL},
};

static const char *const bottoms[] = {"null", "file"};

static const struct layer *layer_of(const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
		if (layers[i].kind && strcmp(layers[i].kind, kind) == 0)
			return &layers[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
		if (strcmp(arrays[i].kind, kind) == 0)
			return &arrays[i];
	}
	return NULL;
}

static bool is_there(const struct layer *layer)
{
	return layer->kind && bdev_module_find(layer->module);
}

/* ---- building ---------------------------------------------------------------------------------
 */

static struct {
	unsigned cells, right, refused;
	char refusals[64][160];
	unsigned num_refusals;
} tally;

static void note_refusal(const struct stack *stack, const struct node *node, const char *message)
{
	char text[160];

	snprintf(text, sizeof(text), "%s on %s: %s", node->kind, stack->nodes[node->below[0]].kind,
	        strstr(message, "zoned") ? "it is zoned" : message);
	for (unsigned i = 0; i < tally.num_refusals; i++) {
		if (strcmp(tally.refusals[i], text) == 0)
			return;
	}
	if (tally.num_refusals < ARRAY_SIZE(tally.refusals))
		str_copy(tally.refusals[tally.num_refusals++], sizeof(text), text);
}

/* Names are new each time: a split waits for ever for a base of its name. */
static unsigned add(struct stack *stack, const char *kind, unsigned below, unsigned below_2)
{
	struct node *node = &stack->nodes[stack->num_nodes];
	const struct layer *layer = layer_of(kind);
	char base[sizeof(node->name)];
	static unsigned serial;

	str_copy(base, sizeof(base), stack->nodes[below].name);
	*node = (struct node){.kind = kind};
	if (layer) {
		node->below[0] = below;
		node->below[1] = below_2;
		node->num_below = strchr(layer->params, '[') ? 2 : 1;
	}
	if (layer && layer->suffix)
		snprintf(node->name, sizeof(node->name), "%.60s%s", base, layer->suffix);
	else
		snprintf(node->name, sizeof(node->name), "%c%u", kind[0] - 'a' + 'A', ++serial);
	return stack->num_nodes++;
}

static bool make_bottom(const struct node *node)
{
	char path[160];

	if (strcmp(node->kind, "null") == 0) {
		inproc_ok("bdev_null_create", "{'name': '%s', 'num_blocks': %d, 'block_size': %d}",
		        node->name, START_BLOCKS, BLOCK);
		return true;
	}
	snprintf(path, sizeof(path), "%s/%s", inproc_dir(), node->name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (off_t)START_BLOCKS * BLOCK), 0);
	fclose(f);
	inproc_ok("bdev_aio_create", "{'name': '%s', 'filename': '%s', 'block_size': %d}",
	        node->name, path, BLOCK);
	return true;
}

/* False: the module refuses. */
static bool make_layer(const struct stack *stack, struct node *node)
{
	const struct layer *layer = layer_of(node->kind);
	json_t *reply, *error;
	char params[512];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(params, sizeof(params), layer->params, node->name,
	        stack->nodes[node->below[0]].name, stack->nodes[node->below[1]].name);
#pragma GCC diagnostic pop
	reply = inproc_call(layer->method, "%s", params);
	error = json_object_get(reply, "error");
	if (error)
		note_refusal(stack, node, json_string_value(json_object_get(error, "message")));
	if (!error && layer->rule == split_rule)
		node->start_blocks = bdev_blocks_of(stack->nodes[node->below[0]].name) -
		                     bdev_blocks_of(node->name);
	else if (!error && layer->rule == joined)
		node->start_blocks =
		        bdev_blocks_of(stack->nodes[node->below[0]].name) / STRIP * STRIP;
	json_decref(reply);
	return !error;
}

static bool build(struct stack *stack)
{
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		struct node *node = &stack->nodes[i];

		if (node->num_below == 0 ? !make_bottom(node) : !make_layer(stack, node))
			return false;
	}
	return true;
}

static void tear_down(const struct stack *stack)
{
	char path[160];

	for (unsigned i = 0; i < stack->num_nodes; i++) {
		const struct node *node = &stack->nodes[i];

		if (node->num_below > 0)
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

/* ---- a cell -----------------------------------------------------------------------------------
 */

static struct {
	const struct stack *stack;
	unsigned events[NODES_MAX];
	struct bdev_subscription *subscription;
} seen;

static void on_event(void *arg, const struct bdev_event *event)
{
	(void)arg;
	if (!seen.stack || strcmp(event->type, "bdev_resize") != 0)
		return;
	for (unsigned i = 0; i < seen.stack->num_nodes; i++) {
		if (strcmp(seen.stack->nodes[i].name, event->bdev) == 0)
			seen.events[i]++;
	}
}

static void subscribe(void *arg)
{
	(void)arg;
	seen.subscription = bdev_subscribe(on_event, NULL);
}

static void unsubscribe(void *arg)
{
	(void)arg;
	bdev_unsubscribe(seen.subscription);
}

static void watch(void *arg)
{
	memset(seen.events, 0, sizeof(seen.events));
	seen.stack = arg;
}

static void look_away(void *arg)
{
	(void)arg;
	seen.stack = NULL;
}

static char nbd_path[128];

static uint64_t nbd_blocks(void)
{
	struct nbd_client client;

	nbd_client_open(&client, nbd_path, "top", 0);
	nbd_client_close(&client);
	return client.size_bytes / BLOCK;
}

/* Sizes as they should be, from those of the bottoms. */
static void expected_sizes(const struct stack *stack, uint64_t *sizes)
{
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		const struct node *node = &stack->nodes[i];
		uint64_t below[2];

		if (node->num_below == 0)
			continue;
		for (unsigned b = 0; b < 2; b++)
			below[b] = sizes[node->below[b]];
		sizes[i] = layer_of(node->kind)->rule(node, below);
	}
}

static bool wrong(const struct stack *stack, const char *what, const char *fmt, ...)
        printf_like(3, 4);
static bool wrong(const struct stack *stack, const char *what, const char *fmt, ...)
{
	va_list ap;

	printf("WRONG  %s, %s: ", stack->label, what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	return false;
}

/* One bottom gets its new size: is all as it must be when the call returns? */
static bool resize_one(const struct stack *stack, const char *what, unsigned bottom,
        uint64_t new_blocks, struct disk *client)
{
	uint64_t before[NODES_MAX], after[NODES_MAX];
	unsigned told = __atomic_load_n(&client->told, __ATOMIC_ACQUIRE);
	unsigned top = stack->num_nodes - 1;
	struct err err = ERR_NONE;

	for (unsigned i = 0; i < stack->num_nodes; i++)
		before[i] = after[i] = bdev_blocks_of(stack->nodes[i].name);
	after[bottom] = new_blocks;
	expected_sizes(stack, after);
	inproc_run(watch, (void *)(uintptr_t)stack);
	if (disk_resize(stack->nodes[bottom].name, new_blocks, &err) != 0)
		return wrong(stack, what, "%s", err.text);
	inproc_run(look_away, NULL);
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		uint64_t now = bdev_blocks_of(stack->nodes[i].name);

		if (now != after[i])
			return wrong(stack, what, "%s has %llu blocks, not %llu",
			        stack->nodes[i].name, (unsigned long long)now,
			        (unsigned long long)after[i]);
		if (seen.events[i] != (after[i] != before[i]))
			return wrong(stack, what, "%u events of %s", seen.events[i],
			        stack->nodes[i].name);
	}
	told = __atomic_load_n(&client->told, __ATOMIC_ACQUIRE) - told;
	if (told != (after[top] != before[top]))
		return wrong(stack, what, "the client was told %u times", told);
	if (nbd_blocks() != after[top])
		return wrong(stack, what, "NBD serves %llu blocks, not %llu",
		        (unsigned long long)nbd_blocks(), (unsigned long long)after[top]);
	return true;
}

/* Whether the step is about this node: a bottom, and of a concat that shrinks only the last. */
static bool is_resized(const struct stack *stack, unsigned i, bool shrinks)
{
	for (unsigned k = 0; shrinks && k < stack->num_nodes; k++) {
		if (strcmp(stack->nodes[k].kind, "concat") == 0 && i == 0)
			return false;
	}
	return stack->nodes[i].num_below == 0;
}

/* Two cells: grow, then shrink. */
static void run_stack(struct stack *stack)
{
	static const struct {
		const char *what;
		uint64_t blocks;
	} steps[] = {{"grow", START_BLOCKS * 3 / 2 + 5}, {"agreed shrink", START_BLOCKS - 1003}};
	const char *top = stack->nodes[stack->num_nodes - 1].name;
	struct nbd_client connected;
	struct disk *client;

	tally.cells += ARRAY_SIZE(steps);
	if (!build(stack)) {
		tally.refused += ARRAY_SIZE(steps);
		tear_down(stack);
		return;
	}
	inproc_ok("nbd_add_export",
	        "{'server': 'S', 'bdev_name': '%s', 'export_name': 'top', 'allow_shrink': true}",
	        top);
	nbd_client_open(&connected, nbd_path, "top", 0);
	client = disk_open(top, false);
	for (unsigned s = 0; s < ARRAY_SIZE(steps); s++) {
		bool right = true;

		for (unsigned i = 0; i < stack->num_nodes; i++) {
			if (is_resized(stack, i, s == 1))
				right &= resize_one(
				        stack, steps[s].what, i, steps[s].blocks, client);
		}
		tally.right += right;
	}
	disk_close(client);
	nbd_client_close(&connected);
	inproc_ok("nbd_remove_export", "{'server': 'S', 'export_name': 'top'}");
	tear_down(stack);
}

/* ---- all stacks -------------------------------------------------------------------------------
 */

static void label(struct stack *stack)
{
	size_t used = 0;

	for (unsigned i = 0; i < stack->num_nodes; i++)
		used += (size_t)snprintf(stack->label + used, sizeof(stack->label) - used, "%s%s",
		        i ? " " : "", stack->nodes[i].kind);
}

/* kinds: from below, NULL-terminated. array: stands on two of them. */
static void run_chain(
        const char *bottom, const char *const *kinds, const char *array, const char *above)
{
	struct stack stack = {0};
	unsigned ends[2] = {0};

	for (unsigned column = 0; column < (array ? 2 : 1); column++) {
		ends[column] = add(&stack, bottom, 0, 0);
		for (unsigned i = 0; kinds[i]; i++)
			ends[column] = add(&stack, kinds[i], ends[column], 0);
	}
	if (array)
		ends[0] = add(&stack, array, ends[0], ends[1]);
	if (above)
		add(&stack, above, ends[0], 0);
	label(&stack);
	run_stack(&stack);
}

static void run_chains(const char *bottom, const char **kinds, unsigned depth)
{
	for (size_t i = 0; depth < DEPTH && i < ARRAY_SIZE(layers); i++) {
		if (!is_there(&layers[i]))
			continue;
		kinds[depth] = layers[i].kind;
		kinds[depth + 1] = NULL;
		run_chain(bottom, kinds, NULL, NULL);
		run_chains(bottom, kinds, depth + 1);
	}
}

/* An array on each layer, and each layer on it. */
static void run_arrays(const char *bottom, const struct layer *array)
{
	for (size_t i = 0; is_there(array) && i < ARRAY_SIZE(layers); i++) {
		const char *kinds[] = {is_there(&layers[i]) ? layers[i].kind : NULL, NULL};

		if (!kinds[0])
			continue;
		run_chain(bottom, kinds + 1, array->kind, kinds[0]);
		run_chain(bottom, kinds, array->kind, NULL);
		for (size_t k = 0; k < ARRAY_SIZE(layers); k++) {
			if (is_there(&layers[k]))
				run_chain(bottom, kinds, array->kind, layers[k].kind);
		}
	}
}

static void every_module_has_a_line(void)
{
	const struct bdev_module *module = NULL;

	while ((module = bdev_module_next(module))) {
		bool listed = module->bases_max != 1;

		for (size_t i = 0; i < ARRAY_SIZE(layers); i++)
			listed |= strcmp(layers[i].module, module->name) == 0;
		if (!listed)
			fail_msg("the layer '%s' has no line in `layers`", module->name);
	}
}

static void test_matrix(void **state)
{
	const char *kinds[DEPTH + 1];

	(void)state;
	every_module_has_a_line();
	inproc_start(1);
	inproc_run(subscribe, NULL);
	snprintf(nbd_path, sizeof(nbd_path), "%s/nbd.sock", inproc_dir());
	inproc_ok("nbd_create_server", "{'name': 'S', 'path': '%s'}", nbd_path);
	if (bdev_module_find("crypto"))
		inproc_ok("accel_crypto_key_create", "{'name': 'K', 'cipher': 'AES_XTS', 'key': "
		                                     "'00112233445566778899aabbccddeeff', 'key2': "
		                                     "'ffeeddccbbaa99887766554433221100'}");
	for (size_t b = 0; b < ARRAY_SIZE(bottoms); b++) {
		run_chains(bottoms[b], kinds, 0);
		for (size_t a = 0; a < ARRAY_SIZE(arrays); a++)
			run_arrays(bottoms[b], &arrays[a]);
	}
	inproc_run(unsubscribe, NULL);
	inproc_stop();
	for (unsigned i = 0; i < tally.num_refusals; i++)
		printf("refused: %s\n", tally.refusals[i]);
	printf("%u of %u cells right; %u more are refused by a module, as listed\n", tally.right,
	        tally.cells - tally.refused, tally.refused);
	assert_int_equal(tally.right, tally.cells - tally.refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_matrix)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
