/* Lives: storage that goes, bdevs that are removed, configurations that are loaded again. */
#include "tests/conformance/conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

static void start_loads(struct stack *stack, struct load **loads)
{
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		loads[i] = start_load(stack, i, 16, 1);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		load_run(loads[i], 200);
}

/* Errors are allowed when the storage is gone, wrong data is not. */
static void stop_loads(struct stack *stack, struct load **loads, bool errors)
{
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		struct load_result result = load_stop(loads[i]);

		if (errors)
			result.errors = 0;
		expect_clean(stack, &result);
	}
}

/* The name is free when the last of the old one is gone. */
static void make_base_again(struct stack *stack)
{
	bool there = false;

	for (unsigned i = 0; i < PATIENCE_MS && !there; i++) {
		json_t *reply = inproc_call("bdev_malloc_create",
		        "{'name': '%s', 'num_blocks': %llu, 'block_size': %u, "
		        "'uuid': '00000000-0000-4000-8000-000000000001'}",
		        stack->bases[0],
		        (unsigned long long)(MIB(10) / stack->subject->block_bytes),
		        stack->subject->block_bytes);

		there = json_object_get(reply, "result") != NULL;
		json_decref(reply);
		if (!there)
			usleep(1000);
	}
	assert_true(there);
}

static void base_is_lost(struct stack *stack)
{
	struct load *loads[BDEVS_MAX];
	bool survives = stack->subject->module->base_lost && stack->num_bases > 1;

	stack_open(stack);
	start_loads(stack, loads);
	bdev_lose(is_backend(stack) ? stack->bdevs[0] : stack->bases[0]);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		load_run(loads[i], 500);
	/* One that can do without this base goes on; others end by themselves. */
	for (unsigned i = 0; !survives && i < stack->num_bdevs; i++) {
		load_run(loads[i], UINT64_MAX);
		assert_true(disk_is_removed(stack->disks[i]));
	}
	stop_loads(stack, loads, true);
	stack_close(stack);
	for (unsigned i = 0; !survives && i < stack->num_bdevs; i++)
		assert_false(bdev_exists(stack->bdevs[i]));
	if (is_backend(stack))
		return;

	/* It comes back: whoever waits for it by name takes it, and nobody is hurt. */
	assert_false(bdev_exists(stack->bases[0]));
	make_base_again(stack);
	inproc_ok("bdev_wait_for_examine", NULL);
	stack_look(stack);
	stack_open(stack);
	start_loads(stack, loads);
	stop_loads(stack, loads, false);
}

static void removal(struct stack *stack)
{
	struct load *loads[BDEVS_MAX];

	stack_open(stack);
	start_loads(stack, loads);
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		assert_int_equal(bdev_remove_wait(stack->bdevs[i]), 0);
	stop_loads(stack, loads, false);
	for (unsigned i = 0; i < stack->num_bdevs; i++) {
		assert_true(disk_is_removed(stack->disks[i]));
		assert_false(bdev_exists(stack->bdevs[i]));
	}
	stack_close(stack);
	/* The bases are free, and still work. */
	for (unsigned i = 0; i < stack->num_bases; i++) {
		struct disk *disk = disk_open(stack->bases[i], true);
		uint8_t *buf = xcalloc(1, disk->block_bytes);

		assert_int_equal(disk_write(disk, 0, 1, buf), 0);
		disk_close(disk);
		free(buf);
	}
}

/* ---- saved ------------------------------------------------------------------------------------
 */

/* What a client could tell it by. */
static json_t *look(struct stack *stack)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < stack->num_bdevs; i++)
		json_array_append_new(all, expect_bdev(stack->bdevs[i]));
	return all;
}

static bool is_of_all_bdevs(const char *method)
{
	return strcmp(method, "bdev_set_options") == 0;
}

static void saved(struct stack *stack)
{
	json_t *before = look(stack), *calls = saved_everything(), *after, *call;
	size_t i;

	assert_true(json_is_array(calls));
	/* The next life: nothing is left but what was saved, in the order in which it was. */
	inproc_stop();
	inproc_start(stack->subject->data_loops);
	json_array_foreach (calls, i, call) {
		const char *method = json_string_value(json_object_get(call, "method"));
		json_t *params = json_object_get(call, "params");
		autofree char *text = params ? json_dumps(params, 0) : NULL;

		if (is_of_all_bdevs(method))
			continue;
		if (text)
			inproc_ok(method, "%s", text);
		else
			inproc_ok(method, NULL);
	}
	inproc_ok("bdev_wait_for_examine", NULL);
	after = look(stack);
	if (!json_equal(before, after)) {
		autofree char *was = json_dumps(before, JSON_SORT_KEYS);
		autofree char *is = json_dumps(after, JSON_SORT_KEYS);

		fail_msg("it was %s, and is %s", was, is);
	}
	json_decref(before);
	json_decref(after);
	json_decref(calls);
	stack_look(stack);
	stack_open(stack);
	stack_close(stack);
}

const struct conformance_case life_cases[] = {
        {"storage is lost under load, and comes back", base_is_lost},
        {"removed under load", removal},
        {"made again from what is saved", saved},
        {NULL, NULL},
};
