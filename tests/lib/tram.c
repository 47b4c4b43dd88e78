#include "tests/lib/tram.h"

#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"

static struct bdev_module tram_module;

struct tram_loop {
	struct loop_task task;
	bool scheduled;
	struct loop_task *waiting, **tail;
	struct tram *tram;
	struct loop *loop;
};

void tram_set(bool *setting, bool value)
{
	__atomic_store_n(setting, value, __ATOMIC_SEQ_CST);
}

void tram_set_u64(uint64_t *setting, uint64_t value)
{
	__atomic_store_n(setting, value, __ATOMIC_SEQ_CST);
}

uint64_t tram_get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void breach(struct tram *tram, const char *what)
{
	print_error("tram: %s\n", what);
	__atomic_fetch_add(&tram->breaches, 1, __ATOMIC_SEQ_CST);
}

static bool has_data(const struct bio *bio)
{
	return bio->op == BIO_READ || bio->op == BIO_WRITE || bio->op == BIO_COMPARE;
}

static void check_memory(struct tram *tram, const struct bio *bio)
{
	const struct tram_config *c = &tram->config;
	const struct iovec *iov;
	struct iovec room[256];
	unsigned n = bio_iovs(bio, room, ARRAY_SIZE(room), &iov);
	uint64_t left = bio_bytes(bio);

	if (n == 0)
		breach(tram, "too many pieces of memory");
	for (unsigned i = 0; i < n; i++) {
		uint64_t len = min_u64(left, iov[i].iov_len);

		if (c->buf_align_bytes && (uintptr_t)iov[i].iov_base % c->buf_align_bytes != 0)
			breach(tram, "memory that is not aligned");
		if (c->buf_align_bytes && len % min_u64(c->buf_align_bytes, c->block_bytes) != 0)
			breach(tram, "a piece of memory whose length is not aligned");
		left -= len;
	}
}

static void check(struct tram *tram, const struct bio *bio)
{
	const struct tram_config *c = &tram->config;
	uint64_t offset = bio_offset(bio), n = bio->num_blocks;
	uint64_t locked = tram_get(&tram->locked);

	if (!(c->caps & BIO_CAP(bio->op)) ||
	        ((bio->flags & BIO_FUA) && !(c->caps & BIO_CAP_FUA) && c->write_cache))
		breach(tram, "an operation that it can't do");
	if (__atomic_load_n(&tram->quiet, __ATOMIC_SEQ_CST))
		breach(tram, "a request during a quiet time");
	if (bio->op == BIO_FLUSH || bio->op == BIO_RESET)
		return;
	if (n == 0 || offset + n > (__atomic_load_n(&tram->shrinks, __ATOMIC_SEQ_CST)
	                                           ? c->num_blocks
	                                           : bdev_num_blocks(bio_bdev(bio))))
		breach(tram, "a range that it does not have");
	if (offset < (locked & UINT32_MAX) && locked >> 32 < offset + n &&
	        !(bio->flags & BIO_RANGE_OWNER))
		breach(tram, "a request in a locked range");
	if (c->split_on_boundary && offset % c->boundary_blocks + n > c->boundary_blocks)
		breach(tram, "a request across a boundary");
	if (!has_data(bio))
		return;
	if (c->max_transfer_blocks && n > c->max_transfer_blocks)
		breach(tram, "a transfer that is too large");
	check_memory(tram, bio);
}

static bool must_fail(struct tram *tram, const struct bio *bio)
{
	uint64_t block = tram_get(&tram->fail_block), offset = bio_offset(bio);

	if (block < offset || block >= offset + bio->num_blocks || tram->fail_times == 0)
		return false;
	if (tram->fail_times != UINT32_MAX)
		tram->fail_times--;
	return true;
}

static int carry_out(struct tram *tram, struct bio *bio)
{
	uint32_t block_bytes = tram->config.block_bytes;
	size_t at = bio_offset(bio) * block_bytes, len = bio_bytes(bio);

	if (must_fail(tram, bio))
		return -EIO;
	switch ((enum bio_op)bio->op) {
	case BIO_READ:
		bio_copy_in(bio, 0, tram->data + at, len);
		break;
	case BIO_WRITE:
		bio_copy_out(bio, 0, tram->data + at, len);
		break;
	case BIO_WRITE_ZEROES:
		memset(tram->data + at, 0, len);
		break;
	case BIO_COMPARE:
		return bio_compare_data(bio, 0, tram->data + at, len);
	case BIO_FLUSH:
		memcpy(tram->durable, tram->data, tram->config.num_blocks * block_bytes);
		break;
	case BIO_BLOCK_STATUS:
		bio->extent = (struct bio_extent){
		        .num_blocks = min_u64(bio->num_blocks, 3), .hole = true, .zero = true};
		break;
	case BIO_UNMAP:
	case BIO_RESET:
	case BIO_ZONE_APPEND:
	case BIO_ZONE_MGMT:
	case BIO_ZONE_REPORT:
	case BIO_OPS:
		break;
	}
	if (!tram->config.write_cache || (bio->flags & BIO_FUA)) {
		memcpy(tram->durable + at, tram->data + at, len);
		__atomic_fetch_add(
		        &tram->fua_writes, bio->flags & BIO_FUA ? 1 : 0, __ATOMIC_SEQ_CST);
	}
	return 0;
}

static void finish(struct tram *tram, struct bio *bio)
{
	int status;

	pthread_mutex_lock(&tram->lock);
	status = carry_out(tram, bio);
	pthread_mutex_unlock(&tram->lock);
	__atomic_fetch_sub(&tram->inflight, 1, __ATOMIC_SEQ_CST);
	bio_complete(bio, status);
}

static void run(struct loop_task *task)
{
	struct tram_loop *tl = container_of(task, struct tram_loop, task);
	struct tram *tram = tl->tram;
	struct loop_task *list = tl->waiting, *next;

	tl->scheduled = false;
	if (__atomic_load_n(&tram->held, __ATOMIC_SEQ_CST)) {
		tl->scheduled = true;
		loop_defer_turn_end(tl->loop, &tl->task);
		return;
	}
	tl->waiting = NULL;
	tl->tail = &tl->waiting;
	for (; list; list = next) {
		struct bio *bio = container_of(list, struct bio, task);

		next = list->next;
		/* Some of them overtake others. */
		if (next && !tram->config.in_order && loop_random(tl->loop) % 2) {
			struct loop_task *after = next->next;

			finish(tram, container_of(next, struct bio, task));
			next = after;
		}
		finish(tram, bio);
	}
}

static void tram_submit(struct bio *bio)
{
	struct tram *tram = bio_priv(bio, struct tram);
	struct tram_loop *tl = bdev_loop_state(bio_bdev(bio), bio->loop);

	check(tram, bio);
	__atomic_fetch_add(&tram->ops[bio->op], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&tram->inflight, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&tram->lock);
	if (tram->num_seen < ARRAY_SIZE(tram->seen))
		tram->seen[tram->num_seen++] = bio_offset(bio);
	pthread_mutex_unlock(&tram->lock);
	if (!tl->waiting)
		tl->tail = &tl->waiting;
	bio->task.next = NULL;
	*tl->tail = &bio->task;
	tl->tail = &bio->task.next;
	if (!tl->scheduled) {
		tl->scheduled = true;
		tl->tram = tram;
		tl->loop = bio->loop;
		tl->task.run = run;
		loop_defer_turn_end(bio->loop, &tl->task);
	}
}

static int tram_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct tram_config *c = &((const struct tram *)bdev_priv(bdev))->config;

	(void)err;
	*out = (struct bdev_geometry){
	        .num_blocks = in->own_blocks,
	        .block_bytes = c->block_bytes,
	        .caps = c->caps,
	        .write_cache = c->write_cache,
	        .read_only = c->read_only,
	        .buf_align_bytes = c->buf_align_bytes,
	        .max_transfer_blocks = c->max_transfer_blocks,
	        .optimal_io_boundary_blocks = c->boundary_blocks,
	        .split_on_boundary = c->split_on_boundary,
	};
	return 0;
}

static void tram_make(struct bdev *bdev, struct bdev_done done)
{
	struct tram *tram = bdev_priv(bdev);
	size_t bytes = tram->config.num_blocks * tram->config.block_bytes;

	pthread_mutex_init(&tram->lock, NULL);
	tram->data = xcalloc(1, bytes);
	tram->durable = xcalloc(1, bytes);
	tram->fail_block = UINT64_MAX;
	bdev_set_own_blocks(bdev, tram->config.num_blocks);
	bdev_done_call(done, NULL);
}

static void tram_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct tram *tram = bdev_priv(bdev);

	if (tram->inflight > 0)
		print_error("tram: destroyed with requests in flight\n");
	BELLOWS_ASSERT(tram->inflight == 0);
	pthread_mutex_destroy(&tram->lock);
	free(tram->data);
	free(tram->durable);
	bdev_done_call(done, NULL);
}

/* The memory stays as it is: only less or more of it counts, up to what it had at first. */
static void tram_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	struct err err = ERR_NONE;
	const struct tram *tram = bdev_priv(bdev);

	if (own_blocks > tram->config.num_blocks)
		err_set(&err, -ENOSPC, "no more than it had at first");
	bdev_done_call(done, &err);
}

static struct bdev_module tram_module = {
        .name = "tram",
        .product_name = "tram",
        .summary = "for tests",
        .priv_bytes = sizeof(struct tram),
        .loop_state_bytes = sizeof(struct tram_loop),
        .no_generated_methods = true,
        .geometry = tram_geometry,
        .submit = tram_submit,
        .create = tram_make,
        .destroy = tram_destroy,
        .resize = tram_resize,
};
BDEV_MODULE(tram_module);

/* ---- from the test's thread ------------------------------------------------------------------ */

struct creation {
	struct bdev_spec spec;
	struct bdev *bdev;
	struct err err;
	sem_t done;
};

static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	struct creation *c = arg;

	c->bdev = bdev;
	if (err)
		c->err = *err;
	sem_post(&c->done);
}

static void create(void *arg)
{
	struct creation *c = arg;

	bdev_create(&c->spec, created, c);
}

static struct bdev *create_wait(const struct bdev_spec *spec, struct err *err)
{
	struct creation c = {.spec = *spec, .err = ERR_NONE};

	assert_non_null(spec->module);
	sem_init(&c.done, 0, 0);
	inproc_run(create, &c);
	while (sem_wait(&c.done) != 0)
		;
	sem_destroy(&c.done);
	*err = c.err;
	return c.bdev;
}

struct tram *tram_create(const char *name, const struct tram_config *config)
{
	struct bdev_spec spec = {.module = &tram_module,
	        .name = name,
	        .params = config,
	        .params_bytes = sizeof(*config)};
	struct err err;
	struct bdev *bdev = create_wait(&spec, &err);

	if (!bdev)
		fail_msg("%s", err.text);
	return bdev_priv(bdev);
}

void tram_stack(const char *module, const char *name, const char *const *bases, unsigned num_bases)
{
	struct bdev_spec spec = {.module = bdev_module_find(module),
	        .name = name,
	        .bases = bases,
	        .num_bases = num_bases};
	struct err err;

	if (!create_wait(&spec, &err))
		fail_msg("%s", err.text);
}

void tram_stack_fails(const char *module, const char *name, const char *base, int code)
{
	struct bdev_spec spec = {
	        .module = bdev_module_find(module), .name = name, .bases = &base, .num_bases = 1};
	struct err err;

	assert_null(create_wait(&spec, &err));
	assert_int_equal(err.code, code);
}

bool tram_is_durable(struct tram *tram, uint64_t offset_blocks, uint64_t num_blocks)
{
	size_t at = offset_blocks * tram->config.block_bytes;
	size_t len = num_blocks * tram->config.block_bytes;
	bool same;

	pthread_mutex_lock(&tram->lock);
	same = memcmp(tram->data + at, tram->durable + at, len) == 0;
	pthread_mutex_unlock(&tram->lock);
	return same;
}
