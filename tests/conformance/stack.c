/* Making what is tested. */
#include "tests/conformance/conformance.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"

/* Room for a superblock and more; not a multiple of anything. */
#define BASE_BYTES (MIB(9) + 4096 * 7)

static void set_options(void *arg)
{
	const struct subject *subject = arg;

	bdev_options()->bio_pool_size = subject->pool_size;
	bdev_options()->stat_interval_ms = 20;
}

static json_t *make_example(struct stack *stack)
{
	const struct subject *subject = stack->subject;
	const char *bases[BASES_MAX];
	const struct bdev_example wanted = {
	        .variant = subject->variant,
	        .name = "X",
	        .bases = bases,
	        .num_bases = stack->num_bases,
	        .num_blocks = BASE_BYTES / subject->block_bytes,
	        .block_bytes = subject->block_bytes,
	        .scratch_path = stack->scratch_path,
	        .key_paths = {stack->key_paths[0], stack->key_paths[1]},
	};

	for (unsigned i = 0; i < BASES_MAX; i++)
		bases[i] = stack->bases[i];
	if (subject->module->example)
		return subject->module->example(&wanted);

	autofree char *method = xasprintf("bdev_%s_create", subject->module->name);
	const char *key = subject->module->base_param;
	json_t *params = json_pack("{s:s}", "name", "X");

	if (subject->module->bases_max == 1)
		json_object_set_new(params, key ? key : "base_bdev_name", json_string(bases[0]));
	else if (stack->num_bases) {
		json_t *list = json_array();

		for (unsigned i = 0; i < stack->num_bases; i++)
			json_array_append_new(list, json_string(bases[i]));
		json_object_set_new(params, key ? key : "base_bdevs", list);
	}
	return json_pack("[{s:s, s:o}]", "method", method, "params", params);
}

static void find_bdevs(void *arg)
{
	struct stack *stack = arg;
	struct bdev *bdev = NULL;

	stack->num_bdevs = 0;
	while ((bdev = bdev_next(bdev)) && stack->num_bdevs < BDEVS_MAX) {
		if (bdev->module == stack->subject->module)
			str_copy(stack->bdevs[stack->num_bdevs++], BDEV_NAME_MAX, bdev->name);
	}
}

void stack_look(struct stack *stack)
{
	inproc_run(find_bdevs, stack);
}

void stack_make(struct stack *stack)
{
	json_t *calls = make_example(stack), *call;
	size_t i;

	json_array_foreach (calls, i, call) {
		autofree char *params = json_dumps(json_object_get(call, "params"), 0);

		inproc_ok(json_string_value(json_object_get(call, "method")), "%s", params);
	}
	json_decref(calls);
	inproc_ok("bdev_wait_for_examine", NULL);
	stack_look(stack);
	if (stack->num_bdevs == 0)
		fail_msg("%s: its example makes no bdev", stack->subject->label);
}

static void make_file(char *path, size_t size, const char *name)
{
	int fd;

	snprintf(path, size, "%s/%s", inproc_dir(), name);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BASE_BYTES), 0);
	close(fd);
}

/* What is found by what is on its bases needs bases that keep it. */
static void make_base(struct stack *stack, unsigned i)
{
	uint32_t block_bytes = stack->subject->block_bytes;

	snprintf(stack->bases[i], sizeof(stack->bases[i]), "base%u", i);
	if (stack->subject->module->examine) {
		make_file(stack->base_paths[i], sizeof(stack->base_paths[i]), stack->bases[i]);
		inproc_ok("bdev_aio_create",
		        "{'name': '%s', 'filename': '%s', 'block_size': %u, "
		        "'uuid': '00000000-0000-4000-8000-00000000000%u'}",
		        stack->bases[i], stack->base_paths[i], block_bytes, i + 1);
		return;
	}
	inproc_ok("bdev_malloc_create",
	        "{'name': '%s', 'num_blocks': %llu, 'block_size': %u, "
	        "'uuid': '00000000-0000-4000-8000-00000000000%u'}",
	        stack->bases[i], (unsigned long long)(BASE_BYTES / block_bytes), block_bytes,
	        i + 1);
}

/* One with one key, one with two. */
static void make_key_files(struct stack *stack)
{
	static const char digits[] = "00112233445566778899aabbccddeeff\n"
	                             "ffeeddccbbaa99887766554433221100\n";

	for (unsigned i = 0; i < 2; i++) {
		size_t len = (i + 1) * (sizeof(digits) / 2);
		char *path = stack->key_paths[i];
		int fd;

		snprintf(path, sizeof(stack->key_paths[i]), "%s/key%u", inproc_dir(), i);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, digits, len), len);
		close(fd);
	}
}

void stack_start(const struct subject *subject, struct stack **out)
{
	const struct bdev_module *module = subject->module;
	struct stack *stack = xcalloc(1, sizeof(*stack));

	stack->subject = subject;
	inproc_start(subject->data_loops);
	*out = stack;
	inproc_run(set_options, (void *)(uintptr_t)subject);
	if (module->bases_max) {
		stack->num_bases =
		        (unsigned)max_u64(module->bases_min, min_u64(module->bases_max, 3));
		if (stack->num_bases > BASES_MAX)
			stack->num_bases = BASES_MAX;
	}
	for (unsigned i = 0; i < stack->num_bases; i++)
		make_base(stack, i);
	if (!stack->num_bases)
		make_file(stack->scratch_path, sizeof(stack->scratch_path), "scratch");
	make_key_files(stack);
	stack_make(stack);
}

void stack_open(struct stack *stack)
{
	for (unsigned i = 0; i < stack->num_bdevs; i++)
		stack->disks[i] = disk_open(stack->bdevs[i], true);
}

void stack_close(struct stack *stack)
{
	for (unsigned i = 0; i < BDEVS_MAX; i++) {
		if (stack->disks[i])
			disk_close(stack->disks[i]);
		stack->disks[i] = NULL;
	}
}

void stack_end(struct stack *stack)
{
	stack_close(stack);
	inproc_stop();
	if (stack->scratch_path[0])
		unlink(stack->scratch_path);
	for (unsigned i = 0; i < stack->num_bases; i++)
		if (stack->base_paths[i][0])
			unlink(stack->base_paths[i]);
	for (unsigned i = 0; i < 2; i++) {
		if (stack->key_paths[i][0])
			unlink(stack->key_paths[i]);
	}
	free(stack);
}

bool can_resize(const struct stack *stack)
{
	return !is_backend(stack) || stack->subject->module->resize;
}

int stack_resize_storage(struct stack *stack, unsigned num, unsigned den, struct err *err)
{
	int first = 0;

	for (unsigned i = 0; i < (is_backend(stack) ? 1 : stack->num_bases); i++) {
		const char *name = is_backend(stack) ? stack->bdevs[0] : stack->bases[i];
		struct err each = ERR_NONE;

		disk_resize(name, bdev_blocks_of(name) * num / den, &each);
		if (each.code && !first) {
			first = each.code;
			if (err)
				*err = each;
		}
	}
	return first;
}

/* ---- load -------------------------------------------------------------------------------------
 */

struct load *start_load(struct stack *stack, unsigned bdev, unsigned depth, unsigned share)
{
	unsigned loops = stack->subject->data_loops;
	uint64_t zone = stack->disks[bdev]->zone_blocks;
	uint64_t blocks = disk_blocks(stack->disks[bdev]) / share;
	uint64_t slots = zone ? blocks / zone : blocks;
	const struct load_config config = {
	        .data_loops = loops,
	        .depth = (unsigned)min_u64(depth, slots / loops),
	        .seed = bdev,
	        .num_blocks = blocks,
	        .no_verify = !keeps_data(stack),
	};

	return load_start(stack->disks[bdev], &config);
}

void expect_clean(const struct stack *stack, const struct load_result *result)
{
	if (result->errors || result->mismatches)
		fail_msg("%s: %llu errors, %llu mismatches; the first: %s", stack->subject->label,
		        (unsigned long long)result->errors, (unsigned long long)result->mismatches,
		        result->first_text);
}
