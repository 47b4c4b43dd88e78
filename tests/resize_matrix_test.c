/*
 * Every pair and triple of layers between a null or file bdev and an NBD export; arrays on each
 * layer, and each layer on them; and of all arrays on pairs and triples, with a layer on top, as
 * many as there is time for. In each stack the bottom grows and, agreed by all, shrinks. Where a
 * partition is in between, what stands on it keeps its size until the table has been made to
 * follow (bdev_gpt_grow), and after that a shrink that would cut it is refused.
 *
 * A cell is right when, as the call returns, every layer has the size that its rule gives, each
 * whose size has changed has raised one event, the client was told once, and NBD serves the new
 * size.
 *
 * The layers are those of tests/lib/stacks.c; a module of one base that has none there is a
 * failure. What a module refuses to build is counted apart.
 *
 *     test-resize_matrix          what the suite runs: all but the deep ones, of which it draws
 *     test-resize_matrix all      the deep ones too; takes about ten minutes
 *     test-resize_matrix draw N   another draw
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/nbd_client.h"
#include "tests/lib/rng.h"
#include "tests/lib/sanitized.h"
#include "tests/lib/stacks.h"

#define DEPTH 3

/* One in so many stacks is tried. */
#ifdef SANITIZED
#define DRAW_CHAINS 4
#define DRAW_ARRAYS 8
#define DRAW_DEEP 400
#else
#define DRAW_CHAINS 1
#define DRAW_ARRAYS 1
#define DRAW_DEEP 60
#endif

static const char *const bottoms[] = {"null", "file"};

static struct {
	unsigned cells, right, refused, left_out;
	char refusals[64][sizeof(((struct stack *)0)->refused)];
	unsigned num_refusals;
} tally;

static void note_refusal(const char *text)
{
	for (unsigned i = 0; i < tally.num_refusals; i++) {
		if (strcmp(tally.refusals[i], text) == 0)
			return;
	}
	if (tally.num_refusals < ARRAY_SIZE(tally.refusals))
		str_copy(tally.refusals[tally.num_refusals++], sizeof(tally.refusals[0]), text);
}

/* ---- a cell -----------------------------------------------------------------------------------
 */

static struct {
	const struct stack *stack;
	unsigned events[STACK_NODES_MAX];
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
	return client.size_bytes / STACK_BLOCK_BYTES;
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

/* One call that changes sizes, and what there was before it. */
struct change {
	struct stack *stack;
	const char *what;
	struct disk *client;
	uint64_t before[STACK_NODES_MAX];
	unsigned told;
};

static void begin(struct change *c)
{
	for (unsigned i = 0; i < c->stack->num_nodes; i++)
		c->before[i] = bdev_blocks_of(c->stack->nodes[i].name);
	c->told = __atomic_load_n(&c->client->told, __ATOMIC_ACQUIRE);
	inproc_run(watch, c->stack);
}

struct reason {
	const char *name;
	char text[BDEV_WHY_MAX];
};

static void get_reason(void *arg)
{
	struct reason *r = arg;

	str_copy(r->text, sizeof(r->text), bdev_find(r->name)->geometry.why);
}

/* The call has returned: is all as it must be? */
static bool judge(const struct change *c, const uint64_t *after)
{
	const struct stack *stack = c->stack;
	unsigned top = stack->num_nodes - 1, told;

	inproc_run(look_away, NULL);
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		const struct stack_node *node = &stack->nodes[i];
		struct reason reason = {.name = node->name};
		uint64_t now = bdev_blocks_of(node->name);

		if (now != after[i])
			return wrong(stack, c->what, "%s has %llu blocks, not %llu", node->name,
			        (unsigned long long)now, (unsigned long long)after[i]);
		if (seen.events[i] != (after[i] != c->before[i]))
			return wrong(stack, c->what, "%u events of %s", seen.events[i], node->name);
		if (!stack_is_partition(node))
			continue;
		inproc_run(get_reason, &reason);
		if (!strstr(reason.text, "as long as the table of its disk says"))
			return wrong(
			        stack, c->what, "%s says of its size: %s", node->name, reason.text);
	}
	told = __atomic_load_n(&c->client->told, __ATOMIC_ACQUIRE) - c->told;
	if (told != (after[top] != c->before[top]))
		return wrong(stack, c->what, "the client was told %u times", told);
	if (nbd_blocks() != after[top])
		return wrong(stack, c->what, "NBD serves %llu blocks, not %llu",
		        (unsigned long long)nbd_blocks(), (unsigned long long)after[top]);
	return true;
}

/* One bottom is to have a new size; with refused, a partition in the way must say so. */
static bool resize_one(struct change *c, unsigned bottom, uint64_t new_blocks, bool refused)
{
	const struct stack *stack = c->stack;
	uint64_t after[STACK_NODES_MAX];
	struct err err = ERR_NONE;
	int rc;

	begin(c);
	memcpy(after, c->before, sizeof(after));
	if (!refused) {
		after[bottom] = new_blocks;
		stack_expect(stack, after);
	}
	rc = disk_resize(stack->nodes[bottom].name, new_blocks, &err);
	if (rc != 0 && !refused)
		return wrong(stack, c->what, "%s", err.text);
	if (refused && (rc == 0 || !strstr(err.text, "partition 2 is blocks")))
		return wrong(stack, c->what, "not refused for a partition: %s", err.text);
	return judge(c, after);
}

/* The table that this partition is in is made to follow its disk. */
static bool extend_one(struct change *c, unsigned partition)
{
	uint64_t after[STACK_NODES_MAX];

	begin(c);
	memcpy(after, c->before, sizeof(after));
	stack_extend(c->stack, partition);
	stack_expect(c->stack, after);
	return judge(c, after);
}

/* ---- a stack ----------------------------------------------------------------------------------
 */

struct step {
	const char *what;
	uint64_t blocks; /* of the bottom, or of each */
	bool extends;    /* and then all tables follow */
	bool shrinks, refused;
};

#define LARGE (STACK_BOTTOM_BLOCKS * 3 / 2 + 5)
#define SMALL (STACK_BOTTOM_BLOCKS - 515)

static const struct step plain_steps[] = {
        {.what = "grow", .blocks = LARGE},
        {.what = "agreed shrink", .blocks = SMALL, .shrinks = true},
};

/* Partitions are from end to end of their disks, and what was grown without them may go again. */
static const struct step partition_steps[] = {
        {.what = "grow below a partition", .blocks = LARGE},
        {.what = "agreed shrink below a partition", .blocks = STACK_BOTTOM_BLOCKS, .shrinks = true},
        {.what = "grow, then bdev_gpt_grow", .blocks = LARGE, .extends = true},
        {.what = "shrink into a partition", .blocks = SMALL, .shrinks = true, .refused = true},
};

static bool has(const struct stack *stack, const char *kind)
{
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		if (strcmp(stack->nodes[i].kind, kind) == 0)
			return true;
	}
	return false;
}

static bool take_step(struct change *c, const struct step *step)
{
	struct stack *stack = c->stack;
	bool right = true;

	c->what = step->what;
	for (unsigned i = 0; i < stack->num_nodes; i++) {
		/* Of what a concat joins only the last may shrink. */
		bool stays = step->shrinks && has(stack, "concat") && i == 0;

		if (!stack->nodes[i].layer && !stays)
			right &= resize_one(c, i, step->blocks, step->refused);
	}
	for (unsigned i = 0; step->extends && i < stack->num_nodes; i++) {
		if (stack_is_partition(&stack->nodes[i]))
			right &= extend_one(c, i);
	}
	return right;
}

static void run_stack(struct stack *stack)
{
	bool partitions = has(stack, "gpt");
	const struct step *steps = partitions ? partition_steps : plain_steps;
	unsigned num_steps = partitions ? ARRAY_SIZE(partition_steps) : ARRAY_SIZE(plain_steps);
	const char *top = stack->nodes[stack->num_nodes - 1].name;
	struct nbd_client connected;
	struct change change = {.stack = stack};

	tally.cells += num_steps;
	if (!stack_build(stack)) {
		note_refusal(stack->refused);
		tally.refused += num_steps;
		stack_tear_down(stack);
		return;
	}
	inproc_ok("nbd_add_export",
	        "{'server': 'S', 'bdev_name': '%s', 'export_name': 'top', 'allow_shrink': true}",
	        top);
	nbd_client_open(&connected, nbd_path, "top", 0);
	change.client = disk_open(top, false);
	for (unsigned s = 0; s < num_steps; s++)
		tally.right += take_step(&change, &steps[s]);
	disk_close(change.client);
	nbd_client_close(&connected);
	inproc_ok("nbd_remove_export", "{'server': 'S', 'export_name': 'top'}");
	stack_tear_down(stack);
}

/* ---- all stacks -------------------------------------------------------------------------------
 */

static bool all;
static struct rng rng;

static bool drawn(unsigned one_in)
{
	if (all || rng_below(&rng, one_in) == 0)
		return true;
	tally.left_out++;
	return false;
}

struct chain {
	const char *bottom;
	const struct stack_layer *layers[DEPTH]; /* from below */
	unsigned depth;
};

/* array: stands on as many such chains as it has bases; NULL: there is one, and no array. */
static void run_chain(
        const struct chain *chain, const struct stack_layer *array, const struct stack_layer *above)
{
	struct stack stack = {0};
	unsigned ends[STACK_BASES_MAX] = {0};

	for (unsigned column = 0; column < (array ? array->num_below : 1); column++) {
		ends[column] = stack_add_bottom(&stack, chain->bottom);
		for (unsigned i = 0; i < chain->depth; i++)
			ends[column] = stack_add(&stack, chain->layers[i], &ends[column]);
	}
	if (array)
		ends[0] = stack_add(&stack, array, ends);
	if (above)
		stack_add(&stack, above, ends);
	run_stack(&stack);
}

/* Arrays on this chain, bare and with each layer on top. */
static void run_arrays(const struct chain *chain, unsigned one_in)
{
	for (unsigned a = 0; a < STACK_ARRAYS; a++) {
		if (!stack_array(a))
			continue;
		if (drawn(one_in))
			run_chain(chain, stack_array(a), NULL);
		for (unsigned i = 0; i < STACK_LAYERS; i++) {
			if (stack_layer(i) && drawn(one_in))
				run_chain(chain, stack_array(a), stack_layer(i));
		}
	}
}

/* All chains that begin so. */
static void run_chains(const struct chain *begun)
{
	struct chain chain = *begun;

	run_arrays(&chain, chain.depth > 1 ? DRAW_DEEP : DRAW_ARRAYS);
	for (unsigned i = 0; chain.depth < DEPTH && i < STACK_LAYERS; i++) {
		struct chain longer = chain;

		if (!stack_layer(i))
			continue;
		longer.layers[longer.depth++] = stack_layer(i);
		if (drawn(DRAW_CHAINS))
			run_chain(&longer, NULL, NULL);
		run_chains(&longer);
	}
}

static void every_module_has_a_layer(void)
{
	const struct bdev_module *module = NULL;

	while ((module = bdev_module_next(module))) {
		if (module->bases_max == 1 && !stack_has_module(module->name))
			fail_msg("the layer '%s' is not in tests/lib/stacks.c", module->name);
	}
}

static void test_matrix(void **state)
{
	(void)state;
	every_module_has_a_layer();
	log_set_print_level(LOG_ERROR); /* each refusal is a warning */
	inproc_start(1);
	inproc_run(subscribe, NULL);
	snprintf(nbd_path, sizeof(nbd_path), "%s/nbd.sock", inproc_dir());
	inproc_ok("nbd_create_server", "{'name': 'S', 'path': '%s'}", nbd_path);
	if (bdev_module_find("crypto"))
		inproc_ok("accel_crypto_key_create", "{'name': 'K', 'cipher': 'AES_XTS', 'key': "
		                                     "'00112233445566778899aabbccddeeff', 'key2': "
		                                     "'ffeeddccbbaa99887766554433221100'}");
	for (size_t b = 0; b < ARRAY_SIZE(bottoms); b++)
		run_chains(&(struct chain){.bottom = bottoms[b]});
	inproc_run(unsubscribe, NULL);
	inproc_stop();
	for (unsigned i = 0; i < tally.num_refusals; i++)
		printf("refused: %s\n", tally.refusals[i]);
	printf("%u of %u cells right; %u more are refused by a module, as listed; %u stacks were "
	       "not drawn\n",
	        tally.right, tally.cells - tally.refused, tally.refused, tally.left_out);
	assert_int_equal(tally.right, tally.cells - tally.refused);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_matrix)};

	all = argc == 2 && strcmp(argv[1], "all") == 0;
	rng = rng_of(argc == 3 ? strtoull(argv[2], NULL, 0) : 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
