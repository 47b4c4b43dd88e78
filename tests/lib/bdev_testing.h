/*
 * bdev_testing.h: bdevs that do as they are told, for tests of the core on real loops. A test runs
 * on the control loop and turns it itself, so that it reads from top to bottom.
 *
 * Each test bdev has a script: what each of its slots is to do. All leave their trace, a line of
 * text such as "persist B 200; resized B; told h 200", to compare with what should have happened.
 * After every turn it is checked that no layer is larger than what backs it.
 */
#pragma once

#include "loop/test_loop.h"

#include "bdev/bdev.h"

enum play {
	PLAY_OK,
	PLAY_FAIL, /* fails with -EIO, "script says no" */
	PLAY_HANG, /* does not answer before test_let_go */
};

struct script {
	enum play create, online, destroy, persist, resize, base_lost, base_returned, examine;
	bool may_resize_refuses;
	bool fail_once;               /* a failing slot goes back to PLAY_OK */
	uint64_t geometry_min_blocks; /* the geometry refuses less */
	bool hold_bios;               /* leaves: bios wait for test_let_go_bios */
	struct bdev_done hung;        /* of the slot that hangs */
	unsigned persists, destroys;
	bool frees_params;
};

/* The modules: a leaf; one that passes all on and has every slot; the same without any slot; the
 * smallest of up to 4 bases, which lives as long as one is there; the sum of up to 4 bases; a part
 * of a base that it shares; a leaf that can't be resized. */
extern struct bdev_module test_leaf, test_pass, test_bare, test_min, test_sum, test_part,
        test_fixed;

#define TEST_BLOCK 512U
#define TEST_PARAMS_SECRET 0x5ec7e7
/* What their specs have as params. */
struct test_params {
	struct script *script;
	uint64_t secret;
};

/* 2 data loops, a deadline of 2 s. The teardown removes what is left, so scripts must outlive the
 * test: static ones do. */
int test_setup(void **state);
int test_teardown(void **state);
void test_step_timeout(uint32_t ms);

void test_quiet_log(void);
/* bdev_create, with what frees the params: a script and TEST_PARAMS_SECRET. */
void test_create(struct bdev_spec *spec, bdev_created_fn done, void *arg);
/* Waits for bdev_create; the script may be NULL. NULL and *err when it fails. */
struct bdev *test_try_create(struct bdev_spec *spec, struct script *script, struct err *err);
struct bdev_spec test_spec(const struct bdev_module *module, const char *name);
/* Must succeed; bases ends with NULL. */
struct bdev *test_leaf_make(const char *name, uint64_t blocks, struct script *script);
struct bdev *test_make(const struct bdev_module *module, const char *name, struct script *script,
        const char *base, ...) __attribute__((sentinel));

/* Waits for bdev_remove. Returns its error code. */
int test_remove(struct bdev *bdev, struct err *err);
void test_let_go(struct script *script);
void test_let_go_bios(void);
unsigned test_bios_held(void);

/* A report that lives on. */
struct resized {
	bool done;
	unsigned calls;
	struct resize_report report;
	struct resize_layer layers[32];
};
void test_resize_done(void *arg, const struct resize_report *report);
/* Each waits; *out may be NULL. Returns the report's code. */
int test_resize(struct bdev *bdev, uint64_t blocks, struct resized *out);
int test_dry_run(struct bdev *bdev, uint64_t blocks, struct resized *out);
int test_storage(struct bdev *bdev, uint64_t blocks, struct resized *out);
int test_geometry(struct bdev *bdev, struct resized *out);
const struct resize_layer *resized_layer(const struct resized *resized, const char *name);

/* A holder with a will. */
struct holder {
	struct bdev_handle *handle;
	const char *name;
	bool agrees;      /* to shrink */
	bool never_tells; /* keeps the question: test_answer */
	bool keeps;       /* does not close when the bdev goes */
	bool closes_when_asked;
	enum bdev_told told;
	unsigned clients;
	unsigned resized, removed, asked;
	uint64_t old_blocks, new_blocks;
	struct bdev_tell *tell;
};
int test_try_open(
        struct holder *holder, struct bdev *bdev, bool write, const char *name, struct err *err);
void test_open(struct holder *holder, struct bdev *bdev, bool write, const char *name);
void test_close(struct holder *holder);
void test_answer(struct holder *holder);

/* The trace so far; test_trace_clear empties it. */
extern char test_trace[16384];
void test_trace_clear(void);
void test_trace_add(const char *fmt, ...) printf_like(1, 2);

/* "type bdev; type bdev; " of the events since the last call. */
const char *test_events(void);

struct test_done {
	bool done;
	unsigned calls;
	struct err err;
};
struct bdev_done test_done_init(struct test_done *done);
int test_done_wait(struct test_done *done);

/* A message to every loop and back, n times: enough turns for what is under way to show. */
void test_rounds(unsigned n);
void test_invariants(void);
#define wait_until(condition)                                                                      \
	do {                                                                                       \
		while (!(condition)) {                                                             \
			test_turn();                                                               \
			test_invariants();                                                         \
		}                                                                                  \
	} while (0)
/* For what another loop does without telling this one, which may sleep. */
#define poll_until(condition)                                                                      \
	do {                                                                                       \
		while (!(condition))                                                               \
			test_rounds(1);                                                            \
	} while (0)
