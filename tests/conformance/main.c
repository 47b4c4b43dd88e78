/* The table of tests: all cases for all subjects. With arguments: only those whose name contains
 * one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/conformance/conformance.h"

#define TESTS_MAX 4096

struct test {
	struct subject subject;
	const struct conformance_case *what;
};

static struct CMUnitTest units[TESTS_MAX];
static size_t num_units;

static struct stack *stack;

static void run(void **state)
{
	struct test *test = *state;

	stack_start(&test->subject, &stack);
	test->what->run(stack);
}

/* Also after a failure. */
static int end(void **state)
{
	(void)state;
	if (stack)
		stack_end(stack);
	stack = NULL;
	return 0;
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strstr(name, argv[i]))
			return true;
	}
	return argc == 1;
}

static void add_cases(
        const struct subject *subject, const struct conformance_case *cases, int argc, char **argv)
{
	for (; cases->name; cases++) {
		char *name = xasprintf("%s: %s", subject->label, cases->name);

		if (!wanted(name, argc, argv) || num_units == TESTS_MAX) {
			free(name);
			continue;
		}
		struct test *test = xcalloc(1, sizeof(*test));

		test->subject = *subject;
		test->what = cases;
		units[num_units++] = (struct CMUnitTest){.name = name,
		        .test_func = run,
		        .teardown_func = end,
		        .initial_state = test};
	}
}

/* Whether the module has an example of that number. */
static bool has_variant(const struct bdev_module *module, unsigned variant)
{
	static const char *const bases[BASES_MAX] = {"base0", "base1", "base2", "base3"};
	const struct bdev_example wanted_example = {
	        .variant = variant,
	        .name = "x",
	        .bases = bases,
	        .num_bases = module->bases_max ? (unsigned)max_u64(module->bases_min, 1) : 0,
	        .num_blocks = 1024,
	        .block_bytes = 512,
	        .scratch_path = "/nonexistent",
	        .key_paths = {"/nonexistent", "/nonexistent"},
	};

	if (!module->example)
		return variant == 0;
	json_t *calls = module->example(&wanted_example);

	json_decref(calls);
	return calls != NULL;
}

static void free_tests(void)
{
	for (size_t i = 0; i < num_units; i++) {
		free(units[i].initial_state);
		free((char *)(uintptr_t)units[i].name);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		unsigned data_loops;
		uint32_t block_bytes, pool_size;
	} machines[] = {{1, 512, 1024}, {4, 4096, 1}};
	const struct bdev_module *module = NULL;
	int failed;

	while ((module = bdev_module_next(module))) {
		unsigned variant = 0;

		for (; has_variant(module, variant); variant++) {
			for (size_t m = 0; m < ARRAY_SIZE(machines); m++) {
				struct subject subject = {
				        .module = module,
				        .variant = variant,
				        .data_loops = machines[m].data_loops,
				        .block_bytes = machines[m].block_bytes,
				        .pool_size = machines[m].pool_size,
				};

				snprintf(subject.label, sizeof(subject.label), "%s/%u, %u loops",
				        module->name, variant, subject.data_loops);
				add_cases(&subject, io_cases, argc, argv);
				add_cases(&subject, size_cases, argc, argv);
				add_cases(&subject, life_cases, argc, argv);
			}
		}
		if (variant == 0)
			printf("# %s offers no example\n", module->name);
	}
	failed = _cmocka_run_group_tests("conformance", units, num_units, NULL, NULL);
	free_tests();
	return failed;
}
