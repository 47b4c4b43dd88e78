/* Resizes while clients on all loops read and write without pause. */
#include <errno.h>

#include "tests/lib/bdev_testing.h"

/*
 * One client per loop and handle: it reads at random places of the size that it sees, and beyond.
 * What lies within both the old and the new size must succeed; what lies beyond either fails.
 */
struct client {
	struct loop_task task;
	struct loop_timer timer;
	struct bio bio;
	struct bdev_handle *handle;
	struct iovec iov;
	unsigned loop;
	bool stopped;
	uint64_t offset_blocks;
	uint64_t reads, failures;
	char buf[8 * TEST_BLOCK];
};

static struct client clients[LOOPS_MAX];
static bool stop;
static unsigned stopped_count;
static uint64_t safe_blocks; /* below this no read may fail */

static void client_next(struct client *c);

static void client_done(struct bio *bio)
{
	struct client *c = container_of(bio, struct client, bio);
	bool safe = c->offset_blocks + 8 <= __atomic_load_n(&safe_blocks, __ATOMIC_ACQUIRE);

	if (bio->status == 0)
		c->reads++;
	else
		c->failures++;
	/* The bound only rises while clients run, or was lowered before they started. */
	BELLOWS_ASSERT(bio->status == 0 || !safe || bio->status == -ENODEV);
	BELLOWS_ASSERT(bio->status == 0 || bio->status == -EINVAL || bio->status == -EIO ||
	               bio->status == -ENODEV);
	client_next(c);
}

static void client_run(struct loop_task *task)
{
	struct client *c = container_of(task, struct client, task);

	c->iov = (struct iovec){.iov_base = c->buf, .iov_len = sizeof(c->buf)};
	c->offset_blocks = loop_random(loop_self()) % 1100;
	bio_init(&c->bio, loop_random(loop_self()) % 2 ? BIO_READ : BIO_WRITE, &c->iov, 1, 8,
	        client_done, NULL);
	bio_submit(c->handle, &c->bio, c->offset_blocks);
}

static void client_rested(struct loop_timer *timer)
{
	client_run(&container_of(timer, struct client, timer)->task);
}

static void client_next(struct client *c)
{
	if (__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		__atomic_fetch_add(&stopped_count, 1, __ATOMIC_RELEASE);
		return;
	}
	c->task.run = client_run;
	if ((c->reads + c->failures) % 64 != 0) {
		loop_defer(loop_self(), &c->task);
		return;
	}
	/* A pause now and then: the machine may have fewer processors than loops. */
	c->timer.fire = client_rested;
	loop_timer_start(loop_self(), &c->timer, loop_now_ns(loop_self()) + 100 * NSEC_PER_USEC);
}

static void clients_start(struct bdev_handle *handle, uint64_t safe)
{
	memset(clients, 0, sizeof(clients));
	stop = false;
	stopped_count = 0;
	safe_blocks = safe;
	for (unsigned i = 0; i < loops_count(); i++) {
		clients[i].handle = handle;
		clients[i].task.run = client_run;
		loop_send(loop_get(i), &clients[i].task);
	}
}

static void clients_stop(void)
{
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	poll_until(__atomic_load_n(&stopped_count, __ATOMIC_ACQUIRE) == loops_count());
}

static void test_under_load(void **state)
{
	struct holder top = {.agrees = true, .told = BDEV_TOLD};
	struct bdev *leaf = test_leaf_make("leaf", 1000, NULL);
	struct bdev *last;

	(void)state;
	test_make(&test_pass, "p1", NULL, "leaf", NULL);
	test_make(&test_bare, "p2", NULL, "p1", NULL);
	last = test_make(&test_pass, "p3", NULL, "p2", NULL);
	test_open(&top, last, true, "top");
	clients_start(top.handle, 500);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t blocks = i % 2 ? 1000 : 500 + i;

		assert_int_equal(test_resize(leaf, blocks, NULL), 0);
		assert_int_equal(bdev_num_blocks(last), blocks);
		test_rounds(2);
	}
	assert_int_equal(top.resized, 40);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(test_storage(leaf, 500 + 10 * (i % 7), NULL), 0);
	clients_stop();
	for (unsigned i = 0; i < loops_count(); i++) {
		assert_true(clients[i].reads > 0);
	}
	test_close(&top);
}

/* The storage is cut only when no bio is in flight beyond its new end. */
static void test_old_bios_are_drained(void **state)
{
	static struct script leaf_script = {.hold_bios = true};
	struct holder top = {.agrees = true};
	struct resized done = {0};
	struct bdev *leaf = test_leaf_make("leaf", 1100, &leaf_script), *pass;

	(void)state;
	pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	test_open(&top, pass, true, "top");
	clients_start(top.handle, 0);
	poll_until(test_bios_held() > 0);
	test_trace_clear();
	bdev_resize(leaf, 600, test_resize_done, &done);
	test_rounds(10);
	assert_false(done.done);
	assert_string_equal(test_trace, "");
	assert_int_equal(bdev_num_blocks(pass), 1100);
	__atomic_store_n(&leaf_script.hold_bios, false, __ATOMIC_RELAXED);
	test_let_go_bios();
	wait_until(done.done);
	assert_int_equal(done.report.err.code, 0);
	assert_int_equal(bdev_num_blocks(pass), 600);
	clients_stop();
	test_close(&top);
}

/* A disk that hangs: the shrink fails by its deadline, nothing has changed, and when the disk
 * answers, requests flow again. */
static void test_hanging_disk(void **state)
{
	static struct script leaf_script = {.hold_bios = true};
	struct holder top = {.agrees = true};
	struct resized done;
	struct bdev *leaf = test_leaf_make("leaf", 1200, &leaf_script), *pass;

	(void)state;
	pass = test_make(&test_pass, "pass", NULL, "leaf", NULL);
	test_open(&top, pass, true, "top");
	clients_start(top.handle, 1100);
	poll_until(test_bios_held() == loops_count());
	test_step_timeout(250);
	assert_int_equal(test_resize(leaf, 600, &done), -ETIMEDOUT);
	assert_non_null(strstr(done.report.err.text, "'pass': waiting for its requests"));
	assert_int_equal(bdev_num_blocks(pass), 1200);
	assert_int_equal(test_resize(leaf, 2000, &done), 0); /* growing waits for nobody */
	test_step_timeout(2000);
	__atomic_store_n(&leaf_script.hold_bios, false, __ATOMIC_RELAXED);
	test_let_go_bios();
	poll_until(__atomic_load_n(&clients[0].reads, __ATOMIC_RELAXED) > 100);
	clients_stop();
	for (unsigned i = 0; i < loops_count(); i++)
		assert_int_equal(clients[i].failures, 0);
	assert_int_equal(test_resize(leaf, 600, &done), 0);
	test_close(&top);
}

/* The disk under a running load is pulled. */
static void test_pulled_under_load(void **state)
{
	struct holder top = {.keeps = true};
	struct bdev *leaf = test_leaf_make("leaf", 1100, NULL);

	(void)state;
	test_make(&test_pass, "p1", NULL, "leaf", NULL);
	test_open(&top, test_make(&test_pass, "p2", NULL, "p1", NULL), true, "top");
	clients_start(top.handle, 1100);
	test_rounds(5);
	bdev_gone(leaf, "pulled");
	wait_until(top.removed);
	clients_stop();
	test_close(&top);
	wait_until(!bdev_find("leaf"));
}

/* A member goes and comes under load: no request fails but those that were on their way to it. */
static void test_member_under_load(void **state)
{
	struct holder top = {.told = BDEV_TOLD};
	struct bdev *min;

	(void)state;
	test_leaf_make("a", 1100, NULL);
	test_leaf_make("b", 1100, NULL);
	min = test_make(&test_min, "min", NULL, "a", "b", NULL);
	test_open(&top, min, true, "top");
	clients_start(top.handle, 1100);
	for (unsigned i = 0; i < 10; i++) {
		test_rounds(5);
		assert_int_equal(test_remove(bdev_find("a"), NULL), 0);
		assert_null(min->bases[0]);
		test_rounds(5);
		test_leaf_make("a", 1100, NULL);
		wait_until(min->bases[0]);
	}
	clients_stop();
	for (unsigned i = 0; i < loops_count(); i++)
		assert_true(clients[i].reads > 0);
	assert_int_equal(top.removed, 0);
	test_close(&top);
}

/* Requests are counted: nobody else may read. */
static int setup(void **state)
{
	bdev_options()->auto_examine = false;
	return test_setup(state);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_under_load),
	        TEST(test_old_bios_are_drained),
	        TEST(test_hanging_disk),
	        TEST(test_pulled_under_load),
	        TEST(test_member_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
