/*
 * conformance.h: what every kind of bdev must do, whatever it is. The tests are made for each
 * module that is registered, each example that it offers, and for one and several data loops: a
 * new module is tested without an edit here.
 */
#pragma once

#include "tests/lib/disk.h"
#include "tests/lib/load.h"
#include "tests/lib/rng.h"

#define BASES_MAX 4
#define BDEVS_MAX 8

/* What is tested. */
struct subject {
	const struct bdev_module *module;
	unsigned variant;
	unsigned data_loops;
	uint32_t block_bytes;
	uint32_t pool_size; /* children per loop and rank */
	char label[96];
};

/* It, made. */
struct stack {
	const struct subject *subject;
	unsigned num_bases, num_bdevs;
	char bases[BASES_MAX][32];
	char bdevs[BDEVS_MAX][BDEV_NAME_MAX];
	char scratch_path[128]; /* of a backend */
	char base_paths[BASES_MAX][128];
	char key_paths[2][128]; /* of bdev_example */
	struct disk *disks[BDEVS_MAX];
};

/* Starts the daemon with the bases, and makes the bdevs. *out is to be ended also when it fails. */
void stack_start(const struct subject *subject, struct stack **out);
/* Makes the bdevs on the bases, as often as there are none. */
void stack_make(struct stack *stack);
/* Looks which bdevs of the module there are now. */
void stack_look(struct stack *stack);
void stack_open(struct stack *stack);
void stack_close(struct stack *stack);
void stack_end(struct stack *stack);

static inline bool is_backend(const struct stack *stack)
{
	return stack->num_bases == 0;
}
static inline bool keeps_data(const struct stack *stack)
{
	return !stack->subject->module->keeps_no_data;
}
/* Makes the storage below, all of it, num/den as large. The first error, in *err if not NULL. */
int stack_resize_storage(struct stack *stack, unsigned num, unsigned den, struct err *err);
/* Whether anything can be resized at all. */
bool can_resize(const struct stack *stack);

/* ---- what a disk must hold --------------------------------------------------------------------
 */

struct model {
	struct disk *disk;
	uint64_t blocks;
	uint8_t *expected; /* [blocks] */
	bool *known;       /* [blocks]: false: anything */
	uint8_t *buf;
	bool compare;
	uint64_t *written; /* of each zone; UINT64_MAX: to be reset before it is written */
};

struct model *model_new(struct stack *stack, struct disk *disk);
void model_free(struct model *model);
/* Random requests, one after the other, of every kind and shape. */
void model_run(struct model *model, struct rng *rng, unsigned steps);
/* Reads all of it. */
void model_verify(struct model *model);
/* The disk has another size now: what is new is unknown. */
void model_resized(struct model *model);
/* Somebody else has written to it. */
void model_forget(struct model *model);

/* ---- the tests --------------------------------------------------------------------------------
 */

struct conformance_case {
	const char *name;
	void (*run)(struct stack *stack);
};
extern const struct conformance_case io_cases[], size_cases[], life_cases[];

/* Fails the test if a load has met anything that it should not. */
void expect_clean(const struct stack *stack, const struct load_result *result);
/* On the first 1/share of the blocks. */
struct load *start_load(struct stack *stack, unsigned bdev, unsigned depth, unsigned share);
