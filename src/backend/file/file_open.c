/*
 * file_open.c: creation and destruction of a file bdev: open, learn what the file is and can do,
 * close.
 */
#include "backend/file/file.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

/* Where a regular file is asked whether it can have holes: past its end, where there is nothing. */
#define PROBE_ALIGN_BYTES MIB(1)

static void start_open(struct file_bdev *f, bool direct, void (*next)(struct loop_op *, int))
{
	unsigned flags = f->params.readonly ? LOOP_FILE_READ_ONLY : LOOP_FILE_EXCLUSIVE;

	if (direct)
		flags |= LOOP_FILE_DIRECT;
	f->op.done = next;
	loop_file_open(loop_self(), &f->op, f->params.filename, flags, &f->file);
}

static void end_create(struct file_bdev *f, const struct err *err)
{
	struct err coded;

	if (!err) {
		bdev_set_own_blocks(f->bdev, f->storage_blocks);
		bdev_done_call(f->done, NULL);
		return;
	}
	coded = *err;
	/* The one code that this method has always had for whatever went wrong. */
	if (f->bdev->module == &uring_module)
		coded.code = RPC_INTERNAL_ERROR;
	bdev_done_call(f->done, &coded);
}

static void fail_create(struct file_bdev *f, int code, const char *what)
{
	struct err err;

	err_set(&err, code, "%s '%s' %s: %s",
	        f->info.is_block_device ? "the block device" : "the file", f->params.filename, what,
	        errno_text(code));
	end_create(f, &err);
}

static int check_sizes(struct file_bdev *f, struct err *err)
{
	const struct file_params *p = &f->params;
	uint32_t block = p->block_size ? p->block_size : f->info.block_bytes;

	if (block == 0)
		return err_set(err, -EINVAL,
		        "'%s' is a regular file, which has no block size of its own: give "
		        "block_size",
		        p->filename);
	if (block < 512 || block > 65536 || !is_power_of_two(block))
		return err_set(err, -EINVAL,
		        "block_size is %u; it must be a power of two from 512 to 65536 bytes",
		        block);
	if (block < f->info.block_bytes)
		return err_set(err, -EINVAL,
		        "block_size is %u, and '%s' has blocks of %u bytes; give at least that, "
		        "or leave it out",
		        block, p->filename, f->info.block_bytes);
	if (f->info.size_bytes == 0)
		return err_set(err, -EINVAL, "'%s' is empty; make it as long as the disk shall be",
		        p->filename);
	if (f->info.size_bytes % block)
		return err_set(err, -EINVAL,
		        "'%s' is %llu bytes long, which is no whole number of blocks of %u bytes",
		        p->filename, (unsigned long long)f->info.size_bytes, block);
	f->block_bytes = block;
	f->storage_blocks = f->info.size_bytes / block;
	return 0;
}

/* ---- what the file can do ---------------------------------------------------------------------
 */

static void punch_probed(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, op);

	f->can_punch = result != -EOPNOTSUPP;
	f->punch_refused = !f->can_punch;
	end_create(f, NULL);
}

static void probe(struct file_bdev *f)
{
	if (f->info.read_only || f->info.size_bytes > INT64_MAX - 4 * PROBE_ALIGN_BYTES) {
		end_create(f, NULL);
		return;
	}
	if (f->info.is_block_device) {
		/* Whether it can unmap shows when it is asked to. */
		f->can_punch = true;
		end_create(f, NULL);
		return;
	}
	f->op.done = punch_probed;
	loop_file_punch(loop_self(), &f->op, f->file,
	        align_up_u64(f->info.size_bytes, PROBE_ALIGN_BYTES), PROBE_ALIGN_BYTES);
}

/* ---- open -------------------------------------------------------------------------------------
 */

static void opened(struct loop_op *op, int result);

static void closed_direct(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, op);

	(void)result;
	start_open(f, false, opened);
}

static void looked_at(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, op);
	struct err err;

	if (result < 0) {
		fail_create(f, result, "can't be looked at");
		return;
	}
	if (check_sizes(f, &err)) {
		end_create(f, &err);
		return;
	}
	if (f->info.direct && f->block_bytes % f->info.align_bytes) {
		struct loop_file *file = f->file;

		log_notice("file",
		        "'%s' takes direct I/O in units of %u bytes only and has blocks of %u: "
		        "it is used through the page cache",
		        f->params.filename, f->info.align_bytes, f->block_bytes);
		f->file = NULL;
		op->done = closed_direct;
		loop_file_close(loop_self(), op, file);
		return;
	}
	probe(f);
}

static void opened(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, op);

	if (result < 0) {
		f->file = NULL;
		fail_create(f, result, "can't be opened");
		return;
	}
	op->done = looked_at;
	loop_file_stat(loop_self(), op, f->file, &f->info);
}

void file_create(struct bdev *bdev, struct bdev_done done)
{
	struct file_bdev *f = bdev->priv;

	f->bdev = bdev;
	f->done = done;
	list_init(&f->link);
	start_open(f, f->params.direct, opened);
}

/* ---- close ------------------------------------------------------------------------------------
 */

static void closed(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, op);

	if (result < 0)
		log_error(
		        "file", "closing '%s' failed: %s", f->params.filename, errno_text(result));
	bdev_done_call(f->done, NULL);
}

static void close_now(struct file_bdev *f)
{
	struct loop_file *file = f->file;

	if (!file) {
		bdev_done_call(f->done, NULL);
		return;
	}
	f->file = NULL;
	f->op.done = closed;
	loop_file_close(loop_self(), &f->op, file);
}

void file_op_ended(struct file_bdev *f)
{
	BELLOWS_ASSERT(f->outstanding > 0);
	f->outstanding--;
	if (f->destroying && f->outstanding == 0)
		close_now(f);
}

void file_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct file_bdev *f = bdev->priv;

	f->done = done;
	f->destroying = true;
	if (f->bdev) /* create was called */
		file_unwatch(f);
	if (f->outstanding == 0)
		close_now(f);
}
