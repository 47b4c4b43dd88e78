/*
 * Arrays of each level that are operated on without a pause: one thread takes members out, lets
 * them fail, pulls them, puts them back, deletes the array and finds it again; others grow and
 * shrink, check, repair, limit, quiesce, save and look, all in the middle of each other, while all
 * loops write and check. After each round everything is brought back, all that was written is read
 * once more, and members are compared byte by byte.
 *
 *     test-vbdev-raid-raid_ops [--operations N] [--seed S]
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/raid_ops.h"

#define ROUND 100
#define PESTS 2

static struct {
	unsigned operations;
	uint64_t seed;
	unsigned left; /* of this round; atomic */
} run = {.operations = 300, .seed = 1};

struct op {
	const char *name;
	unsigned weight;
	bool (*fn)(struct array *a, struct rng *rng); /* whether it was accepted */
	unsigned asked, accepted;                     /* atomic */
};

/* ---- what takes redundancy away: one thread ----------------------------------------------------
 */

/* Whether it does without one more. */
static bool can_lose_one(struct array *a)
{
	struct look look = array_look(a);

	return look.online && array_redundant(a) && !look.resync && look.complete > array_needed(a);
}

static struct member *any_member(struct array *a, struct rng *rng)
{
	return &a->disks[rng_below(rng, a->num_disks)];
}

static bool op_remove(struct array *a, struct rng *rng)
{
	return can_lose_one(a) && accepted(inproc_call("bdev_raid_remove_base_bdev",
	                                  "{'name': '%s'}", any_member(a, rng)->name));
}

static bool op_add(struct array *a, struct rng *rng)
{
	return accepted(inproc_call("bdev_raid_add_base_bdev",
	        "{'raid_bdev': '%s', 'base_bdev': '%s'}", a->name, any_member(a, rng)->name));
}

static bool fail_requests(struct array *a, struct rng *rng, const char *type, unsigned max)
{
	const struct member *m = any_member(a, rng);
	bool ok;

	if (array_redundant(a) && !can_lose_one(a))
		return false;
	ok = accepted(inproc_call("bdev_error_inject_error",
	        "{'name': '%s', 'io_type': '%s', 'error_type': 'failure', 'num': %u}", m->name,
	        type, 1 + (unsigned)rng_below(rng, max)));
	usleep((useconds_t)rng_below(rng, 15000));
	/* It may not have a second one to fall back to for long; nor may the next member fail while
	 * a request that has failed here is still on its way. */
	member_heal(m);
	(void)bdev_pause_briefly(a->name);
	return ok;
}

static bool op_fail_writes(struct array *a, struct rng *rng)
{
	return fail_requests(a, rng, "write", 4);
}

static bool op_fail_reads(struct array *a, struct rng *rng)
{
	return fail_requests(a, rng, "read", 6);
}

static bool op_fail_all(struct array *a, struct rng *rng)
{
	return fail_requests(a, rng, "all", 3);
}

/* As a disk that is pulled, and mostly put back at once. */
static bool op_pull(struct array *a, struct rng *rng)
{
	const struct member *m = any_member(a, rng);

	if (array_redundant(a) && !can_lose_one(a))
		return false;
	bdev_lose(m->name);
	usleep((useconds_t)rng_below(rng, 3000));
	if (rng_below(rng, 4) != 0)
		array_plug(a);
	return true;
}

static bool op_reassemble(struct array *a, struct rng *rng)
{
	bool ok;

	pthread_mutex_lock(&a->making);
	array_plug(a);
	ok = array_reassemble(a, rng);
	pthread_mutex_unlock(&a->making);
	return ok;
}

static bool op_add_spare(struct array *a, struct rng *rng)
{
	return accepted(inproc_call("bdev_raid_add_spare", "{'base_bdev': '%s', 'raid_bdev': '%s'}",
	        any_member(a, rng)->name, a->name));
}

static bool op_remove_spare(struct array *a, struct rng *rng)
{
	return accepted(inproc_call(
	        "bdev_raid_remove_spare", "{'base_bdev': '%s'}", any_member(a, rng)->name));
}

static struct op harsh[] = {
        {.name = "remove", .weight = 4, .fn = op_remove},
        {.name = "add", .weight = 8, .fn = op_add},
        {.name = "fail writes", .weight = 4, .fn = op_fail_writes},
        {.name = "fail reads", .weight = 3, .fn = op_fail_reads},
        {.name = "fail anything", .weight = 2, .fn = op_fail_all},
        {.name = "pull", .weight = 3, .fn = op_pull},
        {.name = "delete, make again", .weight = 2, .fn = op_reassemble},
        {.name = "add spare", .weight = 2, .fn = op_add_spare},
        {.name = "remove spare", .weight = 1, .fn = op_remove_spare},
        {0},
};

/* ---- what must never do harm: the other threads ------------------------------------------------
 */

/* With a superblock nobody takes one that has not all data for one that has. */
static bool op_add_too(struct array *a, struct rng *rng)
{
	return a->superblock && op_add(a, rng);
}

static bool op_grow(struct array *a, struct rng *rng)
{
	return member_resize(any_member(a, rng), 1 + (int)rng_below(rng, 4));
}

/* Between two lives of an array nobody keeps its disks from that. */
static bool op_shrink(struct array *a, struct rng *rng)
{
	bool ok;

	if (pthread_mutex_trylock(&a->making) != 0)
		return false;
	ok = member_resize(any_member(a, rng), -1 - (int)rng_below(rng, 4));
	pthread_mutex_unlock(&a->making);
	return ok;
}

static bool op_check(struct array *a, struct rng *rng)
{
	return accepted(inproc_call("bdev_raid_check", "{'name': '%s', 'repair': %s}", a->name,
	        rng_below(rng, 2) ? "true" : "false"));
}

static bool op_process(struct array *a, struct rng *rng)
{
	static const char *const actions[] = {"pause", "resume", "resume", "cancel"};

	return accepted(inproc_call("bdev_raid_process", "{'name': '%s', 'action': '%s'}", a->name,
	        actions[rng_below(rng, ARRAY_SIZE(actions))]));
}

static bool op_options(struct array *a, struct rng *rng)
{
	char name[32] = "";

	if (rng_below(rng, 2))
		snprintf(name, sizeof(name), "'name': '%s', ", a->name);
	return accepted(inproc_call("bdev_raid_set_options",
	        "{%s'process_window_size_kb': %u, 'process_max_bandwidth_mb_sec': %u, "
	        "'process_share_percent': %u}",
	        name, 32U << rng_below(rng, 6), (unsigned)rng_below(rng, 3) * 40,
	        10 + (unsigned)rng_below(rng, 91)));
}

static bool op_qos(struct array *a, struct rng *rng)
{
	const char *name = rng_below(rng, 2) ? a->name : any_member(a, rng)->name;

	return accepted(inproc_call("bdev_set_qos_limit", "{'name': '%s', 'rw_ios_per_sec': %u}",
	        name, (unsigned)rng_below(rng, 2) * 5000));
}

static bool op_quiesce(struct array *a, struct rng *rng)
{
	return bdev_pause_briefly(rng_below(rng, 2) ? a->name : any_member(a, rng)->name);
}

static bool op_list(struct array *a, struct rng *rng)
{
	(void)rng;
	array_look(a);
	return true;
}

static bool op_save(struct array *a, struct rng *rng)
{
	(void)a;
	(void)rng;
	return accepted(inproc_call("framework_get_config", "{'name': 'bdev'}"));
}

static bool op_describe(struct array *a, struct rng *rng)
{
	static const char *const methods[] = {"bdev_get_bdevs", "bdev_get_iostat"};

	return accepted(inproc_call(
	        methods[rng_below(rng, ARRAY_SIZE(methods))], "{'name': '%s'}", a->name));
}

static struct op mild[] = {
        {.name = "add", .weight = 3, .fn = op_add_too},
        {.name = "grow", .weight = 3, .fn = op_grow},
        {.name = "shrink", .weight = 2, .fn = op_shrink},
        {.name = "check", .weight = 2, .fn = op_check},
        {.name = "pause, resume, cancel", .weight = 4, .fn = op_process},
        {.name = "set options", .weight = 2, .fn = op_options},
        {.name = "set qos", .weight = 2, .fn = op_qos},
        {.name = "quiesce", .weight = 3, .fn = op_quiesce},
        {.name = "list", .weight = 4, .fn = op_list},
        {.name = "save", .weight = 2, .fn = op_save},
        {.name = "describe", .weight = 2, .fn = op_describe},
        {0},
};

/* ---- rounds -----------------------------------------------------------------------------------
 */

static bool take_one(void)
{
	unsigned left = __atomic_load_n(&run.left, __ATOMIC_RELAXED);

	while (left > 0 && !__atomic_compare_exchange_n(&run.left, &left, left - 1, false,
	                           __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return left > 0;
}

static void operate(struct op *ops, struct rng *rng)
{
	/* Mostly those on which there is more to do. */
	unsigned first = rng_below(rng, 5) ? NUM_ARRAYS - REDUNDANT_ARRAYS : 0;
	struct array *a = &arrays[first + rng_below(rng, NUM_ARRAYS - first)];
	unsigned sum = 0, at;
	struct op *op;

	for (op = ops; op->name; op++)
		sum += op->weight;
	at = (unsigned)rng_below(rng, sum);
	for (op = ops; at >= op->weight; op++)
		at -= op->weight;
	alarm(120); /* an answer that never comes ends the test */
	__atomic_fetch_add(&op->asked, 1, __ATOMIC_RELAXED);
	if (op->fn(a, rng))
		__atomic_fetch_add(&op->accepted, 1, __ATOMIC_RELAXED);
}

static void *pest(void *arg)
{
	struct rng *rng = arg;

	while (take_one()) {
		operate(mild, rng);
		usleep((useconds_t)rng_below(rng, 20000));
	}
	return NULL;
}

static void play_round(struct rng *rngs)
{
	pthread_t threads[PESTS];

	for (unsigned i = 0; i < PESTS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, pest, &rngs[1 + i]), 0);
	while (take_one()) {
		operate(harsh, &rngs[0]);
		for (unsigned i = 0; i < NUM_ARRAYS; i++)
			array_follow(&arrays[i]);
		usleep((useconds_t)rng_below(&rngs[0], 2000));
	}
	for (unsigned i = 0; i < PESTS; i++)
		pthread_join(threads[i], NULL);
}

static void print_counts(const char *who, const struct op *ops)
{
	for (const struct op *op = ops; op->name; op++)
		printf("%-6s %-22s %6u of %6u accepted\n", who, op->name, op->accepted, op->asked);
}

static void test_operations(void **state)
{
	struct rng rngs[1 + PESTS];
	struct load_result sum = {0};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rngs); i++)
		rngs[i] = rng_of(run.seed * 100 + i);
	arrays_make(run.seed);
	for (unsigned done = 0; done < run.operations;) {
		unsigned n = (unsigned)min_u64(ROUND, run.operations - done);

		__atomic_store_n(&run.left, n, __ATOMIC_RELAXED);
		play_round(rngs);
		done += n;
		for (unsigned i = 0; i < NUM_ARRAYS; i++) {
			alarm(120);
			array_settle(&arrays[i]);
		}
	}
	alarm(0);
	for (unsigned i = 0; i < NUM_ARRAYS; i++) {
		struct load_result result = array_end(&arrays[i]);

		sum.requests += result.requests;
		sum.errors += result.errors;
	}
	print_counts("harsh", harsh);
	print_counts("mild", mild);
	printf("%u operations, seed %llu, %llu requests, %llu of them errors of arrays without "
	       "redundancy\n",
	        run.operations, (unsigned long long)run.seed, (unsigned long long)sum.requests,
	        (unsigned long long)sum.errors);
}

static int setup(void **state)
{
	(void)state;
	inproc_start(OPS_LOOPS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_operations, setup, teardown),
	};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--operations") == 0)
			run.operations = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			run.seed = strtoull(argv[i + 1], NULL, 10);
		else
			return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
