/*
 * The fixed steps of the exhaustive mode: one after the other, each begun when all is idle. A step
 * that a crash has cut off is taken again in the next life: the same call must complete what the
 * first has left half done.
 */
#include "sim/script.h"

#include <string.h>

#include "sim/control.h"

#define EDGE_BLOCKS 4

const struct script scripts[] = {
        {"grow a file", 64, {"aio"},
                {{STEP_WRITE, 0}, {STEP_FLUSH, 0}, {STEP_RESIZE, 12}, {STEP_WRITE_FUA, 0},
                        {STEP_RESIZE, 16}, {STEP_WRITE, 0}, {STEP_FLUSH, 0}}},
        {"shrink a file and grow it again", 64, {"aio"},
                {{STEP_WRITE_FUA, 0}, {STEP_RESIZE, 4}, {STEP_WRITE, 0}, {STEP_FLUSH, 0},
                        {STEP_RESIZE, 10}, {STEP_WRITE_FUA, 0}, {STEP_ZERO, 0}, {STEP_FLUSH, 0}}},
        {"resize three layers", 64, {"aio", "passthru", "delay"},
                {{STEP_WRITE, 0}, {STEP_RESIZE, 12}, {STEP_WRITE_FUA, 0}, {STEP_RESIZE, 6},
                        {STEP_WRITE, 0}, {STEP_FLUSH, 0}}},
        {"create and remove a layer", 64, {"uring"},
                {{STEP_WRITE, 0}, {STEP_CREATE, 0}, {STEP_WRITE, 0}, {STEP_FLUSH, 0},
                        {STEP_DELETE, 0}, {STEP_WRITE_FUA, 0}}},
        {"a layer comes and goes while sizes change", 64, {"aio", "passthru"},
                {{STEP_WRITE_FUA, 0}, {STEP_RESIZE, 10}, {STEP_CREATE, 0}, {STEP_RESIZE, 14},
                        {STEP_WRITE, 0}, {STEP_DELETE, 0}, {STEP_FLUSH, 0}, {STEP_RESIZE, 6}}},
        {"a layer with metadata follows its base", 64, {"aio", "simlabel"},
                {{STEP_WRITE, 0}, {STEP_FLUSH, 0}, {STEP_RESIZE, 12}, {STEP_WRITE_FUA, 0},
                        {STEP_RESIZE, 6}, {STEP_WRITE, 0}, {STEP_FLUSH, 0}}},
        {"a layer with metadata is made and deleted", 64, {"aio"},
                {{STEP_WRITE, 0}, {STEP_CREATE_LABEL, 0}, {STEP_WRITE_FUA, 0}, {STEP_RESIZE, 10},
                        {STEP_DELETE, 0}, {STEP_WRITE, 0}, {STEP_FLUSH, 0}, {STEP_CREATE_LABEL, 0},
                        {STEP_WRITE_FUA, 0}}},
        {"a second base knows the generation", 64, {"aio", "+uring", "simlabel"},
                {{STEP_WRITE_FUA, 0}, {STEP_RESIZE, 10}, {STEP_WRITE, 0}, {STEP_FLUSH, 0}}},
        {"parts of a disk with a cache and without FUA", 64, {"simdisk", "split"},
                {{STEP_WRITE, 0}, {STEP_FLUSH, 0}, {STEP_WRITE_FUA, 0}, {STEP_ZERO, 0},
                        {STEP_WRITE, 0}, {STEP_FLUSH, 0}}},
        {"a partition table on a disk that grows", 160, {"aio", "gpt"},
                {{STEP_WRITE_FUA, 0}, {STEP_RESIZE, 10}, {STEP_OWN, 0}, {STEP_WRITE_FUA, 0},
                        {STEP_DELETE, 0}}},
};

const unsigned num_scripts = ARRAY_SIZE(scripts);

static const struct script *script(void)
{
	return &scripts[run->given.script];
}

uint32_t script_steps(unsigned i)
{
	uint32_t n = 0;

	while (n < SCRIPT_STEPS_MAX && scripts[i].steps[n].kind != STEP_END)
		n++;
	return n;
}

/* A backend or a layer on all that has no layer yet: "+uring" is one more backend. */
static bool add_layer(
        struct rng *rng, unsigned i, const char *bases[2], unsigned *n, struct run_node **node)
{
	const char *name = script()->modules[i];
	bool more = *name == '+';
	const struct sim_module *m = sim_module_find(name + more);

	if (!m || !bdev_module_find(m->name))
		return false;
	*node = stack_make_node(rng, m, bases, more ? 0 : *n, script()->blocks, 512);
	if (*node && !more)
		*n = 0;
	if (*node)
		bases[(*n)++] = (*node)->name;
	if (*node && (*node)->file[0])
		sim_file_find((*node)->file)->is_block = false; /* those can't be resized */
	return *node != NULL;
}

void script_draw_stack(void)
{
	struct rng rng = rng_stream(run->given.script, 30);
	struct run_node *node = NULL;
	const char *bases[2];
	unsigned n = 0;

	for (unsigned i = 0; i < SCRIPT_LAYERS_MAX && script()->modules[i]; i++) {
		if (!add_layer(&rng, i, bases, &n, &node))
			sim_fail("simulator", "script '%s': no %s", script()->name,
			        script()->modules[i]);
	}
}

/* Both ends of every bdev, where layers meet. */
static void write_edges(uint32_t op, enum bio_op kind, unsigned flags)
{
	struct top *tops = io_tops();

	for (unsigned i = 0; i < IO_TOPS; i++) {
		struct top *top = &tops[i];
		uint64_t size, n;

		if (!top->used || top->closing)
			continue;
		size = bdev_num_blocks(top->bdev);
		n = min_u64(EDGE_BLOCKS, size);
		io_start_exact(op, top, kind, flags, 0, n);
		if (size > n)
			io_start_exact(op, top, kind, flags, size - n, n);
	}
}

static void flush_all(uint32_t op)
{
	struct top *tops = io_tops();

	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used && !tops[i].closing)
			io_start_exact(op, &tops[i], BIO_FLUSH, 0, 0, 0);
}

/* The bdev that nobody stands on, of those on the first backend. */
static struct bdev *topmost(void)
{
	struct bdev *b = bdev_find(run->nodes[0].name);

	while (b && bdev_parent(b, 0))
		b = bdev_parent(b, 0);
	return b;
}

const char *script_creates(uint32_t op)
{
	return script()->steps[op].kind == STEP_CREATE_LABEL ? "simlabel" : NULL;
}

bool script_is_control(uint32_t op)
{
	return script()->steps[op].kind >= STEP_RESIZE;
}

void script_start(uint32_t op)
{
	const struct step *step = &script()->steps[op];
	struct bdev *backend = NULL, *top = NULL;

	if (script_is_control(op)) {
		backend = bdev_find(run->nodes[0].name);
		top = topmost();
		if (!backend)
			return;
	}
	switch (step->kind) {
	case STEP_WRITE:
		write_edges(op, BIO_WRITE, 0);
		return;
	case STEP_WRITE_FUA:
		write_edges(op, BIO_WRITE, BIO_FUA);
		return;
	case STEP_ZERO:
		write_edges(op, BIO_WRITE_ZEROES, 0);
		return;
	case STEP_FLUSH:
		flush_all(op);
		return;
	case STEP_RESIZE:
		control_start_exact(
		        op, CTL_RESIZE, backend, script()->blocks / 8 * (uint64_t)step->eighths);
		return;
	case STEP_CREATE:
		control_start_exact(op, CTL_CREATE, top, 0);
		return;
	case STEP_CREATE_LABEL:
		/* It may be there already: found by its label, where the step was cut off. */
		if (top == backend)
			control_start_exact(op, CTL_CREATE, top, 0);
		return;
	case STEP_OWN:
		control_start_exact(op, CTL_OWN, top, 0);
		return;
	case STEP_DELETE:
		if (top != backend)
			control_start_exact(op, CTL_DELETE, top, 0);
		return;
	case STEP_END:
		return;
	}
}
