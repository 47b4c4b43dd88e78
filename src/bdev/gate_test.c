/* Quiescing, range locks and closing, under load on four loops. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bdev/control.h"
#include "bdev/core.h"
#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/tram.h"

#define BLOCK 512U
#define LOOPS 4U
#define DEPTH 8U
#define AREA 16U /* blocks of one slot, which nobody else touches */
#define BLOCKS (LOOPS * DEPTH * AREA)

static int setup(void **state)
{
	(void)state;
	inproc_start(LOOPS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

/* ---- load: every slot writes its blocks, reads them back and compares --------------------------
 */

struct worker;

struct slot {
	struct bio bio;
	struct worker *worker;
	struct iovec iov;
	uint64_t first, offset, blocks, generation;
	bool writing;
	uint8_t out[AREA * BLOCK], in[AREA * BLOCK];
};

struct worker {
	struct loop_task task;
	struct disk *disk;
	struct slot slots[DEPTH];
	unsigned busy;
	bool stop;                      /* atomic */
	uint64_t requests, gone, wrong; /* atomic */
	sem_t stopped;
};

static struct worker workers[LOOPS];

static void slot_next(struct slot *slot);

static void slot_done(struct bio *bio)
{
	struct slot *slot = bio->arg;
	struct worker *w = slot->worker;

	__atomic_fetch_add(&w->requests, 1, __ATOMIC_RELAXED);
	if (bio->status == -ENODEV)
		__atomic_fetch_add(&w->gone, 1, __ATOMIC_RELAXED);
	else if (bio->status != 0 ||
	         (!slot->writing && memcmp(slot->in, slot->out, slot->blocks * BLOCK) != 0))
		__atomic_fetch_add(&w->wrong, 1, __ATOMIC_RELAXED);
	if (bio->status == 0 && !__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		slot_next(slot);
	} else if (--w->busy == 0) {
		__atomic_fetch_sub(&w->disk->inflight, 1, __ATOMIC_SEQ_CST);
		sem_post(&w->stopped);
	}
}

static void slot_next(struct slot *slot)
{
	slot->writing = !slot->writing;
	if (slot->writing) {
		uint64_t r = loop_random(loop_self());

		slot->offset = slot->first + r % AREA;
		slot->blocks = 1 + (r >> 32) % (slot->first + AREA - slot->offset);
		fill_pattern(slot->out, slot->blocks * BLOCK, ++slot->generation);
	}
	slot->iov = (struct iovec){slot->writing ? slot->out : slot->in, slot->blocks * BLOCK};
	bio_init(&slot->bio, slot->writing ? BIO_WRITE : BIO_READ, &slot->iov, 1, slot->blocks,
	        slot_done, slot);
	bio_submit(slot->worker->disk->handle, &slot->bio, slot->offset);
}

static void worker_run(struct loop_task *task)
{
	struct worker *w = container_of(task, struct worker, task);

	for (unsigned i = 0; i < DEPTH; i++)
		slot_next(&w->slots[i]);
}

static void load_start(struct disk *disk)
{
	for (unsigned i = 0; i < LOOPS; i++) {
		struct worker *w = &workers[i];

		memset(w, 0, sizeof(*w));
		w->disk = disk;
		w->busy = DEPTH;
		w->task.run = worker_run;
		sem_init(&w->stopped, 0, 0);
		for (unsigned k = 0; k < DEPTH; k++) {
			w->slots[k].worker = w;
			w->slots[k].first = (i * DEPTH + k) * AREA;
		}
		/* As long as it is counted the handle stays open. */
		__atomic_fetch_add(&disk->inflight, 1, __ATOMIC_SEQ_CST);
		loop_send(loop_get(1 + i), &w->task);
	}
}

static uint64_t load_requests(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < LOOPS; i++)
		n += tram_get(&workers[i].requests);
	return n;
}

static bool passed(void *arg)
{
	return load_requests() >= *(uint64_t *)arg;
}

/* Lets some requests through on the whole. */
static void load_go_on(uint64_t requests)
{
	uint64_t goal = load_requests() + requests;

	wait_until(passed, &goal);
}

static void load_end(uint64_t expected_gone)
{
	uint64_t gone = 0;

	for (unsigned i = 0; i < LOOPS; i++) {
		while (sem_wait(&workers[i].stopped) != 0)
			;
		sem_destroy(&workers[i].stopped);
		assert_int_equal(tram_get(&workers[i].wrong), 0);
		gone += tram_get(&workers[i].gone);
	}
	assert_int_equal(gone, expected_gone);
}

static void load_stop(void)
{
	for (unsigned i = 0; i < LOOPS; i++)
		__atomic_store_n(&workers[i].stop, true, __ATOMIC_RELEASE);
	load_end(0);
}

/* ---- calls on the control loop ------------------------------------------------------------------
 */

struct call {
	const char *name;
	struct bdev_range *range;
	int code;
	bool called; /* atomic */
	struct call *waits_for;
	sem_t done;
};

static void call_done(void *arg, const struct err *err)
{
	struct call *call = arg;

	call->code = err ? err->code : 0;
	__atomic_store_n(&call->called, true, __ATOMIC_SEQ_CST);
	sem_post(&call->done);
}

static void call_init(struct call *call, const char *name, struct bdev_range *range)
{
	*call = (struct call){.name = name, .range = range};
	sem_init(&call->done, 0, 0);
}

static int call_wait(struct call *call)
{
	while (sem_wait(&call->done) != 0)
		;
	sem_destroy(&call->done);
	return call->code;
}

static void quiesce(void *arg)
{
	struct call *call = arg;

	bdev_quiesce(bdev_find(call->name), (struct bdev_done){call_done, call});
}

static void unquiesce(void *arg)
{
	const struct call *call = arg;

	bdev_unquiesce(bdev_find(call->name));
}

static void lock(void *arg)
{
	struct call *call = arg;

	call->range->locked = (struct bdev_done){call_done, call};
	bdev_range_lock(bdev_find(call->name), call->range);
}

static void unlock(void *arg)
{
	const struct call *call = arg;

	bdev_range_unlock(bdev_find(call->name), call->range);
}

/* ---- the tests ---------------------------------------------------------------------------------
 */

static struct tram *stack(const char *top)
{
	struct tram_config config = {
	        .num_blocks = BLOCKS, .block_bytes = BLOCK, .caps = BIO_CAPS_ALL};
	struct tram *t = tram_create("t", &config);

	tram_stack("passthru", top, (const char *[]){"t"}, 1);
	return t;
}

static void nobody_is_in_a_quiet_bdev(void **state)
{
	(void)state;
	struct tram *t = stack("p");
	struct disk *disk = disk_open("p", true);

	load_start(disk);
	for (unsigned i = 0; i < 100; i++) {
		struct call call, nested;
		/* Of the layer above, then of the base itself, which the layer above waits on. */
		const char *name = i % 2 ? "p" : "t";

		call_init(&call, name, NULL);
		inproc_run(quiesce, &call);
		assert_int_equal(call_wait(&call), 0);
		assert_int_equal(tram_get(&t->inflight), 0);
		tram_set(&t->quiet, true);
		if (i % 5 == 0) {
			call_init(&nested, name, NULL);
			inproc_run(quiesce, &nested);
			assert_int_equal(call_wait(&nested), 0);
			inproc_run(unquiesce, &nested);
		}
		assert_int_equal(tram_get(&t->inflight), 0);
		tram_set(&t->quiet, false);
		inproc_run(unquiesce, &call);
		load_go_on(100);
	}
	load_stop();
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void nobody_is_in_a_locked_range(void **state)
{
	(void)state;
	struct tram *t = stack("p");
	struct disk *disk = disk_open("p", true);
	static uint8_t buf[4 * BLOCK];

	load_start(disk);
	for (unsigned i = 0; i < 100; i++) {
		struct bdev_range range = {
		        .offset_blocks = i * 37 % (BLOCKS - 40), .num_blocks = 1 + i % 40};
		struct bdev_range far = {
		        .offset_blocks = (range.offset_blocks + BLOCKS / 2) % BLOCKS,
		        .num_blocks = 1};
		struct call call, other;
		struct disk_io io;
		struct iovec iov = {buf, sizeof(buf)};

		call_init(&call, "p", &range);
		call_init(&other, "p", &far);
		inproc_run(lock, &call);
		inproc_run(lock, &other);
		assert_int_equal(call_wait(&call), 0);
		assert_int_equal(call_wait(&other), 0);
		tram_set_u64(&t->locked,
		        range.offset_blocks << 32 | (range.offset_blocks + range.num_blocks));
		/* Others get on; who has locked it gets in. */
		load_go_on(10);
		disk_start(disk, &io, 1 + i % LOOPS, BIO_READ, BIO_RANGE_OWNER, range.offset_blocks,
		        min_u64(4, range.num_blocks), &iov, 1);
		assert_int_equal(disk_wait(&io), 0);
		tram_set_u64(&t->locked, 0);
		inproc_run(unlock, &other);
		inproc_run(unlock, &call);
		load_go_on(50);
	}
	load_stop();
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void locks_exclude_each_other(void **state)
{
	(void)state;
	struct bdev_range ranges[4] = {{.offset_blocks = 10, .num_blocks = 10},
	        {.offset_blocks = 15, .num_blocks = 20},
	        {.offset_blocks = 30, .num_blocks = 5}, /* overlaps the second, which waits */
	        {.offset_blocks = 40, .num_blocks = 5}};
	struct call calls[4];

	stack("p");
	for (unsigned i = 0; i < 4; i++) {
		call_init(&calls[i], "p", &ranges[i]);
		inproc_run(lock, &calls[i]);
	}
	assert_int_equal(call_wait(&calls[0]), 0);
	assert_int_equal(call_wait(&calls[3]), 0);
	assert_false(__atomic_load_n(&calls[1].called, __ATOMIC_SEQ_CST));
	assert_false(__atomic_load_n(&calls[2].called, __ATOMIC_SEQ_CST));
	inproc_run(unlock, &calls[0]);
	assert_int_equal(call_wait(&calls[1]), 0);
	assert_false(__atomic_load_n(&calls[2].called, __ATOMIC_SEQ_CST));
	inproc_run(unlock, &calls[1]);
	assert_int_equal(call_wait(&calls[2]), 0);
	inproc_run(unlock, &calls[2]);
	inproc_run(unlock, &calls[3]);
}

/*
 * While [0, 8) is locked: a write into it waits, one that overlaps that one waits behind it, and
 * one that overlaps the second behind that; what touches none of them passes, and so does a flush.
 */
static void overlapping_requests_keep_their_order(void **state)
{
	(void)state;
	struct tram *t = stack("p");
	struct disk *disk = disk_open("p", true);
	struct bdev_range range = {.offset_blocks = 0, .num_blocks = 8};
	static uint8_t data[3][8 * BLOCK], buf[24 * BLOCK];
	struct iovec iovs[3];
	struct disk_io ios[3];
	struct call call;
	static const uint64_t offsets[3] = {4, 10, 14};

	call_init(&call, "p", &range);
	inproc_run(lock, &call);
	assert_int_equal(call_wait(&call), 0);
	for (unsigned i = 0; i < 3; i++) {
		memset(data[i], 'a' + (int)i, sizeof(data[i]));
		iovs[i] = (struct iovec){data[i], sizeof(data[i])};
		disk_start(disk, &ios[i], 2, BIO_WRITE, 0, offsets[i], 8, &iovs[i], 1);
	}
	assert_int_equal(disk_do(disk, 2, BIO_WRITE, 0, 22, 1, buf), 0);
	assert_int_equal(disk_do(disk, 2, BIO_FLUSH, 0, 0, 0, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_false(disk_poll(&ios[i]));
	assert_int_equal(tram_get(&t->ops[BIO_WRITE]), 1);
	t->num_seen = 0;
	inproc_run(unlock, &call);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(disk_wait(&ios[i]), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(t->seen[i], offsets[i]);
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void removal_waits_for_the_last_request(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		struct tram *t = stack("p");
		struct disk *disk = disk_open("p", true);

		load_start(disk);
		load_go_on(200);
		tram_set(&t->held, i % 2);
		if (i % 2) {
			bdev_lose("t");
			tram_set(&t->held, false);
		} else {
			bdev_lose("p");
		}
		/* Each slot ends by being told; none is forgotten. */
		load_end(LOOPS * DEPTH);
		disk_close(disk);
		bdev_remove_wait("p");
		bdev_remove_wait("t");
	}
}

static void closing_ends_what_waits_at_the_gate(void **state)
{
	(void)state;
	struct bdev_range ranges[2] = {
	        {.offset_blocks = 0, .num_blocks = 8}, {.offset_blocks = 4, .num_blocks = 8}};
	struct call calls[2];
	struct disk_io io;
	static uint8_t buf[BLOCK];
	const struct iovec iov = {buf, sizeof(buf)};

	stack("p");

	struct disk *disk = disk_open("p", true);

	for (unsigned i = 0; i < 2; i++) {
		call_init(&calls[i], "t", &ranges[i]);
		inproc_run(lock, &calls[i]);
	}
	assert_int_equal(call_wait(&calls[0]), 0);
	disk_start(disk, &io, 1, BIO_WRITE, 0, 5, 1, &iov, 1);
	bdev_lose("t");
	assert_int_equal(disk_wait(&io), -ENODEV);
	assert_int_equal(call_wait(&calls[1]), -ENODEV);
	disk_close(disk);
}

static void shrinking_drains_what_is_beyond(void **state)
{
	(void)state;
	struct tram_config config = {
	        .num_blocks = 2 * BLOCKS, .block_bytes = BLOCK, .caps = BIO_CAPS_ALL};
	struct tram *t = tram_create("t", &config);
	struct disk *disk;
	static uint8_t buf[BLOCK];
	struct err err;

	tram_stack("passthru", "p", (const char *[]){"t"}, 1);
	disk = disk_open("p", true);
	load_start(disk);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(disk_resize("t", BLOCKS + i, &err), 0);
		assert_int_equal(disk_blocks(disk), BLOCKS + i);
		assert_int_equal(disk_read(disk, BLOCKS + i, 1, buf), -EINVAL);
		assert_int_equal(disk_resize("t", 2 * BLOCKS, &err), 0);
		assert_int_equal(disk_read(disk, 2 * BLOCKS - 1, 1, buf), 0);
		load_go_on(100);
	}
	load_stop();
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void shrink_and_lose(void *arg)
{
	struct call *call = arg;
	struct bdev *bdev = bdev_find("t");
	struct bdev_geometry smaller = bdev->geometry;

	smaller.num_blocks /= 2;
	bdev_publish_geometry(bdev, &smaller, (struct bdev_done){call_done, call});
	bdev_gone(bdev, "the test takes it away");
}

static bool is_free(void *name)
{
	return name_is_free(name, NULL) == 0;
}

/* The bdev goes while its new size is on the way to the loops. */
static void removal_overtakes_a_shrink(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		struct tram *t = stack("p");
		struct disk *disk = disk_open("p", true);
		struct call call;
		uint64_t beyond = 0;

		load_start(disk);
		load_go_on(100);
		tram_set(&t->shrinks, true);
		tram_set(&t->held, i % 2);
		call_init(&call, "t", NULL);
		inproc_run(shrink_and_lose, &call);
		tram_set(&t->held, false);
		(void)call_wait(&call);
		for (unsigned k = 0; k < LOOPS; k++) {
			while (sem_wait(&workers[k].stopped) != 0)
				;
			sem_destroy(&workers[k].stopped);
			beyond += tram_get(&workers[k].wrong); /* -EIO past the new end */
		}
		assert_true(beyond <= LOOPS * DEPTH);
		disk_close(disk);
		bdev_remove_wait("p");
		wait_until(is_free, "t");
		assert_int_equal(bdev_blocks_of("t"), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(nobody_is_in_a_quiet_bdev, setup, teardown),
	        cmocka_unit_test_setup_teardown(nobody_is_in_a_locked_range, setup, teardown),
	        cmocka_unit_test_setup_teardown(locks_exclude_each_other, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                overlapping_requests_keep_their_order, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                removal_waits_for_the_last_request, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                closing_ends_what_waits_at_the_gate, setup, teardown),
	        cmocka_unit_test_setup_teardown(shrinking_drains_what_is_beyond, setup, teardown),
	        cmocka_unit_test_setup_teardown(removal_overtakes_a_shrink, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
