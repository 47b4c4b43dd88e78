#include "tests/lib/disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"

#define CLOSE_CHECK_NS NSEC_PER_MSEC
#define WAIT_SECONDS 20

static void wait_sem(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		;
}

/* ---- the holder -------------------------------------------------------------------------------
 */

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	struct disk *disk = bdev_handle_arg(handle);

	(void)old_blocks;
	__atomic_store_n(&disk->num_blocks, new_blocks, __ATOMIC_RELEASE);
	__atomic_fetch_add(&disk->told, 1, __ATOMIC_ACQ_REL);
	bdev_told(tell, BDEV_TOLD, 1);
}

static void try_close(struct loop_timer *timer)
{
	struct disk *disk = container_of(timer, struct disk, closer);
	struct loop *loop = loop_self();

	if (__atomic_load_n(&disk->inflight, __ATOMIC_ACQUIRE) > 0) {
		loop_timer_start(loop, timer, loop_now_ns(loop) + CLOSE_CHECK_NS);
		return;
	}
	bdev_close(disk->handle);
	disk->handle = NULL;
	sem_post(&disk->closed);
}

static void removed(struct bdev_handle *handle)
{
	struct disk *disk = bdev_handle_arg(handle);

	__atomic_store_n(&disk->removed, true, __ATOMIC_SEQ_CST);
	loop_timer_start(loop_self(), &disk->closer, loop_now_ns(loop_self()));
}

static int may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	const struct disk *disk = bdev_handle_arg(handle);

	(void)new_blocks;
	if (__atomic_load_n(&disk->veto_shrink, __ATOMIC_ACQUIRE))
		return err_set(err, -EBUSY, "the test refuses");
	return 0;
}

static const struct bdev_holder_ops holder_ops = {
        .kind = "test",
        .resized = resized,
        .removed = removed,
        .may_shrink = may_shrink,
};

struct opening {
	const char *name;
	bool write;
	struct disk *disk;
	struct err err;
};

static void open_on_control(void *arg)
{
	struct opening *o = arg;
	struct disk *disk = o->disk;
	struct bdev *bdev = bdev_find(o->name);

	if (!bdev) {
		err_set(&o->err, -ENODEV, "there is no '%s'", o->name);
		return;
	}
	disk->closer.fire = try_close;
	disk->num_blocks = bdev_num_blocks(bdev);
	disk->block_bytes = bdev->geometry.block_bytes;
	disk->zone_blocks = bdev->geometry.zone_blocks;
	str_copy(disk->name, sizeof(disk->name), bdev->name);
	(void)!bdev_open(bdev, o->write, &holder_ops, "a test", disk, &disk->handle, &o->err);
}

static struct disk *open_disk(const char *name, bool write, struct err *err)
{
	struct disk *disk = xcalloc(1, sizeof(*disk));
	struct opening o = {.name = name, .write = write, .disk = disk};

	sem_init(&disk->closed, 0, 0);
	inproc_run(open_on_control, &o);
	*err = o.err;
	if (!o.err.code)
		return disk;
	sem_destroy(&disk->closed);
	free(disk);
	return NULL;
}

struct disk *disk_open(const char *name, bool write)
{
	struct err err;
	struct disk *disk = open_disk(name, write, &err);

	if (!disk)
		fail_msg("'%s' can't be opened: %s", name, err.text);
	return disk;
}

int disk_try_open(const char *name, bool write, struct disk **out)
{
	struct err err;

	*out = open_disk(name, write, &err);
	return err.code;
}

static void close_on_control(void *arg)
{
	struct disk *disk = arg;

	if (disk->removed)
		return; /* it closes itself */
	loop_timer_start(loop_self(), &disk->closer, loop_now_ns(loop_self()));
	disk->removed = true;
}

void disk_close(struct disk *disk)
{
	inproc_run(close_on_control, disk);
	wait_sem(&disk->closed);
	sem_destroy(&disk->closed);
	free(disk);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static void end(struct disk_io *io, int status)
{
	__atomic_store_n(&io->status, status, __ATOMIC_RELEASE);
	__atomic_fetch_sub(&io->disk->inflight, 1, __ATOMIC_ACQ_REL);
	sem_post(&io->done);
}

static void bio_done(struct bio *bio)
{
	end(container_of(bio, struct disk_io, bio), bio->status);
}

static void submit(struct loop_task *task)
{
	struct disk_io *io = container_of(task, struct disk_io, task);

	bio_submit(io->disk->handle, &io->bio, io->offset_blocks);
}

void disk_start(struct disk *disk, struct disk_io *io, unsigned loop, enum bio_op op,
        unsigned flags, uint64_t offset_blocks, uint64_t num_blocks, const struct iovec *iov,
        unsigned iovcnt)
{
	bio_init(&io->bio, op, iov, iovcnt, num_blocks, bio_done, NULL);
	io->bio.flags = (uint8_t)flags;
	io->disk = disk;
	io->offset_blocks = offset_blocks;
	io->task.run = submit;
	sem_init(&io->done, 0, 0);
	/* First counted, then looked: the one who closes looks the other way round. */
	__atomic_fetch_add(&disk->inflight, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&disk->removed, __ATOMIC_SEQ_CST))
		end(io, -ENODEV);
	else
		loop_send(loop_get(loop), &io->task);
}

int disk_wait(struct disk_io *io)
{
	wait_sem(&io->done);
	sem_destroy(&io->done);
	return __atomic_load_n(&io->status, __ATOMIC_ACQUIRE);
}

bool disk_poll(struct disk_io *io)
{
	if (sem_trywait(&io->done) != 0)
		return false;
	sem_post(&io->done);
	return true;
}

int disk_do(struct disk *disk, unsigned loop, enum bio_op op, unsigned flags,
        uint64_t offset_blocks, uint64_t num_blocks, void *buf)
{
	struct disk_io *io = xcalloc(1, sizeof(*io));
	struct iovec iov = {buf, num_blocks * disk->block_bytes};
	int status;

	disk_start(disk, io, loop, op, flags, offset_blocks, num_blocks, buf ? &iov : NULL,
	        buf ? 1 : 0);
	status = disk_wait(io);
	free(io);
	return status;
}

int disk_read(struct disk *disk, uint64_t offset_blocks, uint64_t num_blocks, void *buf)
{
	return disk_do(disk, 1, BIO_READ, 0, offset_blocks, num_blocks, buf);
}

int disk_write(struct disk *disk, uint64_t offset_blocks, uint64_t num_blocks, const void *buf)
{
	return disk_do(disk, 1, BIO_WRITE, 0, offset_blocks, num_blocks, (void *)(uintptr_t)buf);
}

/* ---- bdevs ------------------------------------------------------------------------------------
 */

struct asked {
	const char *name;
	uint64_t blocks;
	struct err err;
	bool (*fn)(void *arg);
	void *arg;
	bool answer;
	sem_t done;
};

static void resize_done(void *arg, const struct resize_report *report)
{
	struct asked *a = arg;

	a->err = report->err;
	sem_post(&a->done);
}

static void resize_on_control(void *arg)
{
	struct asked *a = arg;
	struct bdev *bdev = bdev_find(a->name);

	if (bdev) {
		bdev_resize(bdev, a->blocks, resize_done, a);
		return;
	}
	err_set(&a->err, -ENODEV, "there is no '%s'", a->name);
	sem_post(&a->done);
}

/* Runs fn on the control loop, which ends in a post of done. */
static void ask(struct asked *a, void (*fn)(void *arg))
{
	sem_init(&a->done, 0, 0);
	inproc_run(fn, a);
	wait_sem(&a->done);
	sem_destroy(&a->done);
}

int disk_resize(const char *name, uint64_t new_blocks, struct err *err)
{
	struct asked a = {.name = name, .blocks = new_blocks};

	ask(&a, resize_on_control);
	if (err)
		*err = a.err;
	return a.err.code;
}

static void blocks_on_control(void *arg)
{
	struct asked *a = arg;
	struct bdev *bdev = bdev_find(a->name);

	a->blocks = bdev ? bdev_num_blocks(bdev) : 0;
}

uint64_t bdev_blocks_of(const char *name)
{
	struct asked a = {.name = name};

	inproc_run(blocks_on_control, &a);
	return a.blocks;
}

static void lose_on_control(void *arg)
{
	struct asked *a = arg;
	struct bdev *bdev = bdev_find(a->name);

	if (bdev)
		bdev_gone(bdev, "the test pulled it");
}

void bdev_lose(const char *name)
{
	struct asked a = {.name = name};

	inproc_run(lose_on_control, &a);
}

static void remove_done(void *arg, const struct err *err)
{
	struct asked *a = arg;

	if (err)
		a->err = *err;
	sem_post(&a->done);
}

static void remove_on_control(void *arg)
{
	struct asked *a = arg;
	struct bdev *bdev = bdev_find(a->name);

	if (bdev)
		bdev_remove(bdev, (struct bdev_done){remove_done, a});
	else
		sem_post(&a->done);
}

int bdev_remove_wait(const char *name)
{
	struct asked a = {.name = name};

	ask(&a, remove_on_control);
	return a.err.code;
}

static void check_on_control(void *arg)
{
	struct asked *a = arg;

	a->answer = a->fn(a->arg);
}

void wait_until(bool (*fn)(void *arg), void *arg)
{
	const struct timespec pause = {.tv_nsec = NSEC_PER_MSEC};
	struct asked a = {.fn = fn, .arg = arg};

	for (unsigned i = 0; i < WAIT_SECONDS * 1000; i++) {
		inproc_run(check_on_control, &a);
		if (a.answer)
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("waited in vain");
}

void fill_pattern(void *buf, size_t len, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;
	uint8_t *out = buf;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		out[i] = (uint8_t)(x >> (i % 8 * 8));
	}
}
