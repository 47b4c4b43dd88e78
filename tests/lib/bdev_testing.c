#include "tests/lib/bdev_testing.h"

#include <errno.h>

#include "base/log.h"
#include "bdev/core.h"

char test_trace[16384];

void test_trace_clear(void)
{
	test_trace[0] = '\0';
}

void test_trace_add(const char *fmt, ...)
{
	size_t len = strlen(test_trace);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(test_trace + len, sizeof(test_trace) - len, fmt, ap);
	va_end(ap);
}

/* ---- what must always hold ---- */

static void nothing(struct loop *loop, void *arg)
{
	(void)loop;
	(void)arg;
}

void test_invariants(void)
{
	for (struct bdev *bdev = bdev_next(NULL); bdev; bdev = bdev_next(bdev)) {
		uint64_t blocks = bdev_num_blocks(bdev), backing = 0;

		if (bdev->num_bases == 0)
			continue;
		for (unsigned i = 0; i < bdev->num_bases; i++) {
			const struct bdev *base = bdev->bases[i];

			if (!base)
				continue;
			assert_true(base->rank < bdev->rank);
			if (bdev->module == &test_sum)
				backing += bdev_num_blocks(base);
			else
				backing = backing ? min_u64(backing, bdev_num_blocks(base))
				                  : bdev_num_blocks(base);
		}
		if (blocks > backing)
			fail_msg("'%s' has %u blocks on %u", bdev->name, (unsigned)blocks,
			        (unsigned)backing);
		assert_true(bdev->geometry.why[0] != '\0');
	}
}

void test_rounds(unsigned n)
{
	struct test_done done;

	while (n-- > 0) {
		loops_run_everywhere(nothing, NULL, test_done_init(&done));
		test_done_wait(&done);
	}
}

/* ---- life ---- */

static struct bdev_subscription *subscription;
static char events[8192];

static void note_event(void *arg, const struct bdev_event *event)
{
	size_t len = strlen(events);

	(void)arg;
	snprintf(events + len, sizeof(events) - len, "%s %s; ", event->type, event->bdev);
}

const char *test_events(void)
{
	static char copy[sizeof(events)];

	memcpy(copy, events, sizeof(events));
	events[0] = '\0';
	return copy;
}

void test_quiet_log(void)
{
	log_set_print_level(LOG_ERROR);
}

int test_setup(void **state)
{
	(void)state;
	test_quiet_log();
	test_loops_start(2, 20);
	bdev_start();
	test_step_timeout(2000);
	test_trace_clear();
	events[0] = '\0';
	subscription = bdev_subscribe(note_event, NULL);
	return 0;
}

int test_teardown(void **state)
{
	struct test_done done;

	(void)state;
	bdev_unsubscribe(subscription);
	bdev_stop(test_done_init(&done));
	assert_int_equal(test_done_wait(&done), 0);
	test_loops_end();
	return 0;
}

void test_step_timeout(uint32_t ms)
{
	bdev_options()->step_timeout_ms = ms;
}

/* ---- waiting ---- */

static void done_fn(void *arg, const struct err *err)
{
	struct test_done *done = arg;

	done->done = true;
	done->calls++;
	if (err)
		done->err = *err;
}

struct bdev_done test_done_init(struct test_done *done)
{
	memset(done, 0, sizeof(*done));
	return (struct bdev_done){.fn = done_fn, .arg = done};
}

int test_done_wait(struct test_done *done)
{
	wait_until(done->done);
	assert_int_equal(done->calls, 1);
	return done->err.code;
}

int test_remove(struct bdev *bdev, struct err *err)
{
	struct test_done done;

	bdev_remove(bdev, test_done_init(&done));
	test_done_wait(&done);
	if (err)
		*err = done.err;
	return done.err.code;
}

/* ---- creating ---- */

struct created {
	bool done;
	struct bdev *bdev;
	struct err err;
};

static void created_fn(void *arg, struct bdev *bdev, const struct err *err)
{
	struct created *created = arg;

	assert_false(created->done);
	created->done = true;
	created->bdev = bdev;
	if (err)
		created->err = *err;
}

static void free_params(const struct bdev_module *module, void *params)
{
	struct test_params *p = params;

	assert_non_null(module->name);
	assert_int_equal(p->secret, TEST_PARAMS_SECRET);
	p->secret = 0;
	p->script->frees_params = true;
}

static struct script no_script;

struct bdev_spec test_spec(const struct bdev_module *module, const char *name)
{
	return (struct bdev_spec){.module = module, .name = name};
}

void test_create(struct bdev_spec *spec, bdev_created_fn done, void *arg)
{
	spec->free_params = free_params;
	bdev_create(spec, done, arg);
}

struct bdev *test_try_create(struct bdev_spec *spec, struct script *script, struct err *err)
{
	struct created created = {.done = false};
	struct test_params params = {
	        .script = script ? script : &no_script, .secret = TEST_PARAMS_SECRET};

	if (script)
		script->frees_params = false;
	spec->params = &params;
	spec->params_bytes = sizeof(params);
	test_create(spec, created_fn, &created);
	assert_false(created.done);
	wait_until(created.done);
	if (err)
		*err = created.err;
	if (created.err.code) {
		assert_null(created.bdev);
		assert_true(!script || script->frees_params || script->hung.fn ||
		            bdev_find(spec->name));
	}
	return created.bdev;
}

struct bdev *test_leaf_make(const char *name, uint64_t blocks, struct script *script)
{
	struct bdev_spec spec = test_spec(&test_leaf, name);
	struct err err;
	struct bdev *bdev;

	spec.own_blocks = blocks;
	bdev = test_try_create(&spec, script, &err);
	if (!bdev)
		fail_msg("%s", err.text);
	return bdev;
}

struct bdev *test_make(const struct bdev_module *module, const char *name, struct script *script,
        const char *base, ...)
{
	struct bdev_spec spec = test_spec(module, name);
	const char *bases[8] = {base};
	struct err err;
	struct bdev *bdev;
	va_list ap;

	spec.num_bases = 1;
	va_start(ap, base);
	while ((bases[spec.num_bases] = va_arg(ap, const char *)) != NULL)
		spec.num_bases++;
	va_end(ap);
	spec.bases = bases;
	bdev = test_try_create(&spec, script, &err);
	if (!bdev)
		fail_msg("%s", err.text);
	return bdev;
}

/* ---- resizing ---- */

void test_resize_done(void *arg, const struct resize_report *report)
{
	struct resized *out = arg;

	out->done = true;
	out->calls++;
	out->report = *report;
	assert_true(report->num_layers <= ARRAY_SIZE(out->layers));
	memcpy(out->layers, report->layers, report->num_layers * sizeof(out->layers[0]));
	out->report.layers = out->layers;
}

static int wait_resized(struct resized *out)
{
	wait_until(out->done);
	assert_int_equal(out->calls, 1);
	return out->report.err.code;
}

int test_resize(struct bdev *bdev, uint64_t blocks, struct resized *out)
{
	struct resized own;

	out = out ? out : &own;
	memset(out, 0, sizeof(*out));
	bdev_resize(bdev, blocks, test_resize_done, out);
	return wait_resized(out);
}

int test_dry_run(struct bdev *bdev, uint64_t blocks, struct resized *out)
{
	memset(out, 0, sizeof(*out));
	bdev_resize_plan(bdev, blocks, test_resize_done, out);
	return wait_resized(out);
}

int test_storage(struct bdev *bdev, uint64_t blocks, struct resized *out)
{
	struct resized own;

	out = out ? out : &own;
	memset(out, 0, sizeof(*out));
	bdev_storage_changed(bdev, blocks, test_resize_done, out);
	return wait_resized(out);
}

int test_geometry(struct bdev *bdev, struct resized *out)
{
	struct resized own;

	out = out ? out : &own;
	memset(out, 0, sizeof(*out));
	bdev_geometry_changed(bdev, test_resize_done, out);
	return wait_resized(out);
}

const struct resize_layer *resized_layer(const struct resized *resized, const char *name)
{
	for (unsigned i = 0; i < resized->report.num_layers; i++) {
		if (strcmp(resized->layers[i].name, name) == 0)
			return &resized->layers[i];
	}
	fail_msg("no layer '%s' in the report", name);
	return NULL;
}

/* ---- holding ---- */

static void h_resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	struct holder *holder = bdev_handle_arg(handle);

	test_trace_add("told %s %u; ", holder->name, (unsigned)new_blocks);
	holder->resized++;
	holder->old_blocks = old_blocks;
	holder->new_blocks = new_blocks;
	assert_int_equal(bdev_num_blocks(bdev_handle_bdev(handle)), new_blocks);
	if (holder->never_tells)
		holder->tell = tell;
	else
		bdev_told(tell, holder->told, holder->clients);
}

static void h_removed(struct bdev_handle *handle)
{
	struct holder *holder = bdev_handle_arg(handle);

	test_trace_add("removed %s; ", holder->name);
	holder->removed++;
	if (!holder->keeps)
		test_close(holder);
}

static int h_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	struct holder *holder = bdev_handle_arg(handle);

	(void)new_blocks;
	holder->asked++;
	if (holder->closes_when_asked) {
		test_close(holder);
		return 0;
	}
	if (!holder->agrees)
		return err_set(err, -EBUSY, "a client uses all of it");
	return 0;
}

static const struct bdev_holder_ops holder_ops = {
        .kind = "test",
        .resized = h_resized,
        .removed = h_removed,
        .may_shrink = h_may_shrink,
};

int test_try_open(
        struct holder *holder, struct bdev *bdev, bool write, const char *name, struct err *err)
{
	holder->name = name;
	return bdev_open(bdev, write, &holder_ops, name, holder, &holder->handle, err);
}

void test_open(struct holder *holder, struct bdev *bdev, bool write, const char *name)
{
	struct err err = ERR_NONE;

	if (test_try_open(holder, bdev, write, name, &err) != 0)
		fail_msg("%s", err.text);
}

void test_close(struct holder *holder)
{
	struct bdev_handle *handle = holder->handle;

	holder->handle = NULL;
	bdev_close(handle);
}

void test_answer(struct holder *holder)
{
	struct bdev_tell *tell = holder->tell;

	holder->tell = NULL;
	bdev_told(tell, holder->told, holder->clients);
}
