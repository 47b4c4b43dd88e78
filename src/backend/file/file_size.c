/*
 * file_size.c: the size of a file. It may change by itself, so one timer for all file bdevs looks
 * at them; and a user may change it.
 */
#include "backend/file/file.h"

#include <errno.h>

#include "base/log.h"
#include "base/plant.h"

/* A size that a layer above did not take is offered again after so long. */
#define RETRY_NS (10 * NSEC_PER_SEC)

/* One timer for all, so that an idle machine wakes once per interval. */
static struct {
	struct list files;
	struct loop_timer timer;
} watched;

/* ---- what was seen ----------------------------------------------------------------------------
 */

/* Says that the file is gone, if it is. */
static bool is_gone(struct file_bdev *f, int result, const struct loop_file_info *info)
{
	const char *why = NULL;

	if (result == -ENODEV || result == -ENXIO || result == -EIO || result == -ENOMEDIUM)
		why = errno_text(result);
	else if (result == 0 && info->size_bytes < f->block_bytes)
		why = "it has become shorter than a block";
	if (!why)
		return false;
	autofree char *text = xasprintf("'%s' is gone: %s", f->params.filename, why);

	bdev_gone(f->bdev, text);
	return true;
}

struct change {
	struct file_bdev *f;
	struct rpc_request *request; /* NULL: found by the timer */
};

static void change_done(void *arg, const struct resize_report *report)
{
	struct change *change = arg;
	struct file_bdev *f = change->f;

	if (change->request)
		rpc_reply_err(change->request, &report->err);
	else if (report->err.code)
		log_warning("file", "'%s' has changed its size, and not every layer followed: %s",
		        f->params.filename, report->err.text);
	f->retry_ns = report->err.code ? loop_now_ns(loop_self()) + RETRY_NS : 0;
	f->change_running = false;
	free(change);
	file_op_ended(f);
}

/* Lets the stack follow; answers the request, which may be NULL. */
static void follow(struct file_bdev *f, int result, const struct loop_file_info *info,
        struct rpc_request *request)
{
	if (f->destroying || f->bdev->state != BDEV_ONLINE) {
		if (request)
			rpc_fail(request, -ENODEV, "'%s' is being removed", f->bdev->name);
		return;
	}
	if (is_gone(f, result, info)) {
		if (request)
			rpc_reply(request, NULL);
		return;
	}
	if (result < 0) {
		if (request)
			rpc_fail(request, result, "'%s' can't be looked at", f->params.filename);
		return;
	}
	f->storage_blocks = info->size_bytes / f->block_bytes;
	if (f->storage_blocks == f->bdev->own_blocks && !request)
		return;
	struct change *change = xcalloc(1, sizeof(*change));

	change->f = f;
	change->request = request;
	f->change_running = true;
	f->outstanding++;
	bdev_storage_changed(f->bdev, f->storage_blocks, change_done, change);
}

/* ---- the timer --------------------------------------------------------------------------------
 */

/* Deleted, or another file has been renamed to its name. A link brings it back. */
static void show_unlinked(struct file_bdev *f)
{
	if (f->stat.unlinked == f->unlinked_shown)
		return;
	f->unlinked_shown = f->stat.unlinked;
	if (f->stat.unlinked)
		log_warning("file", "'%s', the file of '%s', has been deleted", f->params.filename,
		        f->bdev->name);
	bdev_set_problem(f->bdev, "unlinked",
	        f->stat.unlinked ? "its file has been deleted or replaced: what is stored is lost "
	                           "when the bdev is deleted or the server ends"
	                         : NULL,
	        "copy its data to another bdev");
}

static void stat_done(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, stat_op);
	bool held_back = f->stat.size_bytes / f->block_bytes == f->storage_blocks &&
	                 f->retry_ns > loop_now_ns(loop_self());

	f->stat_running = false;
	if (result == 0 && !f->destroying)
		show_unlinked(f);
	/* A resize that began meanwhile, and may be over, knows better than what was seen before.
	 */
	if (!f->change_running && f->stat_resizes == f->resizes && !(result == 0 && held_back))
		follow(f, result, &f->stat, NULL);
	file_op_ended(f);
}

static void show_problem(struct file_bdev *f)
{
	if (f->problem_shown || !__atomic_load_n(&f->sync_failed, __ATOMIC_RELAXED))
		return;
	f->problem_shown = true;
	bdev_set_problem(f->bdev, "sync",
	        "a sync of the file failed; what the system's cache held may be lost, so every "
	        "flush fails from now on",
	        "check the device below, then delete and create the bdev again and let the "
	        "clients check their data");
}

static void arm_timer(void)
{
	uint64_t interval_ms = bdev_options()->stat_interval_ms;

	if (interval_ms == 0)
		interval_ms = 500;
	loop_timer_start(loop_self(), &watched.timer,
	        loop_now_ns(loop_self()) + interval_ms * NSEC_PER_MSEC);
}

static void look_at_all(struct loop_timer *timer)
{
	struct file_bdev *f;

	(void)timer;
	list_for_each (f, &watched.files, link) {
		show_problem(f);
		if (f->stat_running || f->change_running || f->resize_blocks)
			continue;
		f->stat_running = true;
		f->stat_resizes = f->resizes;
		f->outstanding++;
		f->stat_op.done = stat_done;
		loop_file_stat(loop_self(), &f->stat_op, f->file, &f->stat);
	}
	arm_timer();
}

void file_watch(struct file_bdev *f)
{
	if (!watched.files.next)
		list_init(&watched.files);
	if (list_empty(&watched.files)) {
		watched.timer = (struct loop_timer){.fire = look_at_all};
		arm_timer();
	}
	list_push_back(&watched.files, &f->link);
}

void file_unwatch(struct file_bdev *f)
{
	if (!list_linked(&f->link))
		return;
	list_remove(&f->link);
	if (list_empty(&watched.files))
		loop_timer_stop(loop_self(), &watched.timer);
}

/* ---- rescan -----------------------------------------------------------------------------------
 */

struct rescan {
	struct loop_op op;
	struct loop_file_info info;
	struct file_bdev *f;
	struct rpc_request *request;
	uint64_t resizes;
};

static void rescan_done(struct loop_op *op, int result)
{
	struct rescan *rescan = container_of(op, struct rescan, op);
	struct file_bdev *f = rescan->f;

	if (rescan->resizes != f->resizes || f->resize_blocks)
		rpc_reply(rescan->request, NULL); /* it has just got its size */
	else
		follow(f, result, &rescan->info, rescan->request);
	free(rescan);
	file_op_ended(f);
}

void file_rescan_handler(struct rpc_request *request, void *params)
{
	const struct bdev_module *module = rpc_request_method(request)->arg;
	const struct file_name_params *p = params;
	struct bdev *bdev = bdev_find(p->name);
	struct rescan *rescan;

	if (!bdev || bdev->module != module) {
		rpc_fail(request, -ENODEV, "there is no %s bdev '%s'", module->name, p->name);
		return;
	}
	rescan = xcalloc(1, sizeof(*rescan));
	rescan->f = bdev->priv;
	rescan->request = request;
	rescan->op.done = rescan_done;
	rescan->resizes = rescan->f->resizes;
	rescan->f->outstanding++;
	loop_file_stat(loop_self(), &rescan->op, rescan->f->file, &rescan->info);
}

/* ---- resize -----------------------------------------------------------------------------------
 */

int file_may_resize(const struct bdev *bdev, const struct bdev_geometry *planned, struct err *err)
{
	const struct file_bdev *f = bdev->priv;

	/* The storage has that size already: nothing to be asked of it. */
	if (planned->num_blocks == f->storage_blocks)
		return 0;
	if (f->info.is_block_device)
		return err_set(err, -EOPNOTSUPP,
		        "'%s' is a block device: resize it where it is made, and '%s' follows",
		        f->params.filename, bdev->name);
	if (f->info.read_only)
		return err_set(err, -EROFS, "'%s' is open read-only", f->params.filename);
	return 0;
}

static void resize_end(struct file_bdev *f, int result)
{
	uint64_t blocks = f->resize_blocks;
	struct err err = ERR_NONE;

	f->resize_blocks = 0;
	if (result == 0)
		f->storage_blocks = blocks;
	else
		err_set(&err, result, "'%s' can't be made %llu bytes long: %s", f->params.filename,
		        (unsigned long long)(blocks * f->block_bytes), errno_text(result));
	bdev_done_call(f->done, &err);
}

static void length_synced(struct loop_op *op, int result)
{
	resize_end(container_of(op, struct file_bdev, op), result);
}

/* A power cut must not take back a size that clients have been told of. */
static void truncated(struct loop_op *op, int result)
{
	struct file_bdev *f = container_of(op, struct file_bdev, op);

	if (result < 0 || PLANT(SIZE_NOT_SYNCED)) {
		resize_end(f, result);
		return;
	}
	op->done = length_synced;
	loop_file_sync(loop_self(), op, f->file);
}

void file_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	struct file_bdev *f = bdev->priv;
	uint64_t bytes;

	if (own_blocks == f->storage_blocks) {
		bdev_done_call(done, NULL);
		return;
	}
	if (__builtin_mul_overflow(own_blocks, (uint64_t)f->block_bytes, &bytes) ||
	        bytes > INT64_MAX) {
		struct err err;

		err_set(&err, -EFBIG, "no file can be that long");
		bdev_done_call(done, &err);
		return;
	}
	f->resize_blocks = own_blocks;
	f->resizes++;
	f->done = done;
	f->op.done = truncated;
	loop_file_truncate(loop_self(), &f->op, f->file, bytes);
}
