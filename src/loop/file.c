/* Opening, looking at and closing files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop/file.h"

#define STATX_WANTED (STATX_BASIC_STATS | STATX_DIOALIGN)
#define DIRECT_ALIGN_BYTES 4096 /* when the kernel does not tell */

/* The steps of an open; one record and one of these for all of them. */
struct open_state {
	enum {
		OPEN_STAT_PATH, /* what is there, before opening it can have an effect */
		OPEN_OPEN,
		OPEN_STAT_FILE, /* the truth, if the path was changed in between */
		OPEN_CLOSE,     /* it failed behind the open */
	} step;
	unsigned flags;
	bool direct, create;
	int fd, status;
	struct statx stx;
	struct loop_file **out;
	char path[];
};

static int usable_type(uint32_t mode)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	return S_ISDIR(mode) ? -EISDIR : -ENOTBLK;
}

static int device_info(int fd, struct loop_file_info *info)
{
	int block_bytes = 512, read_only = 0;
	unsigned physical_bytes = 512;
	unsigned short rotational = 0;

	if (ioctl(fd, BLKGETSIZE64, &info->size_bytes) < 0 ||
	        ioctl(fd, BLKSSZGET, &block_bytes) < 0)
		return -errno;
	/* Those are always there; the rest has values to fall back on. */
	(void)ioctl(fd, BLKPBSZGET, &physical_bytes);
	(void)ioctl(fd, BLKROTATIONAL, &rotational);
	(void)ioctl(fd, BLKROGET, &read_only);
	info->block_bytes = (uint32_t)block_bytes;
	info->physical_bytes = physical_bytes;
	info->rotational = rotational;
	info->read_only |= read_only != 0;
	return 0;
}

/* Takes over what statx said; the open flags' share (direct, read_only) is already in info. */
static int fill_info(int fd, const struct statx *stx, struct loop_file_info *info)
{
	int rc;

	info->is_block_device = S_ISBLK(stx->stx_mode);
	info->size_bytes = stx->stx_size;
	info->physical_bytes = stx->stx_blksize;
	info->owner_uid = stx->stx_uid;
	info->mode = stx->stx_mode & 07777;
	info->unlinked = !info->is_block_device && stx->stx_nlink == 0;
	if (info->is_block_device) {
		rc = device_info(fd, info);
		if (rc < 0)
			return rc;
	}
	if (info->physical_bytes < 512)
		info->physical_bytes = 512;
	info->align_bytes = 1;
	if (!info->direct)
		return 0;
	if (stx->stx_mask & STATX_DIOALIGN)
		info->align_bytes = stx->stx_dio_mem_align > stx->stx_dio_offset_align
		                            ? stx->stx_dio_mem_align
		                            : stx->stx_dio_offset_align;
	else
		info->align_bytes = info->block_bytes ? info->block_bytes : DIRECT_ALIGN_BYTES;
	return 0;
}

/* ---- open ----------------------------------------------------------------------------------- */

static void open_next(struct uring_loop *l, struct uring_req *r)
{
	struct open_state *s = r->arg;
	struct io_uring_sqe *sqe = uring_sqe(l, r);
	int flags = O_CLOEXEC | (s->flags & LOOP_FILE_READ_ONLY ? O_RDONLY : O_RDWR);

	switch (s->step) {
	case OPEN_STAT_PATH:
		io_uring_prep_statx(sqe, AT_FDCWD, s->path, 0, STATX_WANTED, &s->stx);
		break;
	case OPEN_OPEN:
		if (s->direct)
			flags |= O_DIRECT;
		if (s->create)
			flags |= O_CREAT;
		/* Without O_CREAT this has a meaning for block devices only. */
		else if ((s->flags & LOOP_FILE_EXCLUSIVE) && S_ISBLK(s->stx.stx_mode))
			flags |= O_EXCL;
		io_uring_prep_openat(sqe, AT_FDCWD, s->path, flags, 0600);
		break;
	case OPEN_STAT_FILE:
		io_uring_prep_statx(sqe, s->fd, "", AT_EMPTY_PATH, STATX_WANTED, &s->stx);
		break;
	case OPEN_CLOSE:
		io_uring_prep_close(sqe, s->fd);
		sqe->flags |= IOSQE_ASYNC;
		break;
	}
	io_uring_sqe_set_data(sqe, r);
}

static void open_finish(struct uring_loop *l, struct uring_req *r, int status)
{
	free(r->arg);
	uring_req_done(l, r, status);
}

/* The file is open and stx tells what it is. Returns 0 or why it can't be used. */
static int open_make_file(struct open_state *s)
{
	struct loop_file_info info = {
	        .direct = s->direct, .read_only = s->flags & LOOP_FILE_READ_ONLY};
	struct loop_file *file;
	int rc = usable_type(s->stx.stx_mode);

	if (rc < 0)
		return rc;
	/* Zero: this file can't do direct I/O after all. */
	if (info.direct && (s->stx.stx_mask & STATX_DIOALIGN) && s->stx.stx_dio_offset_align == 0) {
		int flags = fcntl(s->fd, F_GETFL);

		if (flags < 0 || fcntl(s->fd, F_SETFL, flags & ~O_DIRECT) < 0)
			return -errno;
		info.direct = false;
	}
	rc = fill_info(s->fd, &s->stx, &info);
	if (rc < 0)
		return rc;
	file = xcalloc(1, sizeof(*file) + loops_count() * sizeof(file->leave[0]));
	file->fd = s->fd;
	file->slot = file_slot_get();
	file->info = info;
	*s->out = file;
	return 0;
}

static void open_step_done(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	struct open_state *s = r->arg;

	switch (s->step) {
	case OPEN_STAT_PATH:
		if (res == 0)
			res = usable_type(s->stx.stx_mode);
		if (res == -ENOENT && (s->flags & LOOP_FILE_CREATE)) {
			s->create = true;
			res = 0;
		}
		if (r->cancelled && res >= 0)
			res = -ECANCELED;
		if (res < 0) {
			open_finish(l, r, res);
			return;
		}
		s->step = OPEN_OPEN;
		break;
	case OPEN_OPEN:
		if (res == -EINVAL && s->direct) {
			s->direct = false;
			break;
		}
		if (res < 0) {
			open_finish(l, r, res);
			return;
		}
		s->fd = res;
		s->step = OPEN_STAT_FILE;
		break;
	case OPEN_STAT_FILE:
		s->status = r->cancelled ? -ECANCELED : res;
		if (s->status == 0)
			s->status = open_make_file(s);
		if (s->status == 0) {
			open_finish(l, r, 0);
			return;
		}
		s->step = OPEN_CLOSE;
		break;
	case OPEN_CLOSE:
		open_finish(l, r, s->status);
		return;
	}
	open_next(l, r);
}

void loop_file_open(struct loop *loop, struct loop_op *op, const char *path, unsigned flags,
        struct loop_file **out)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, open_step_done);
	size_t path_size = strlen(path) + 1;
	struct open_state *s;

	BELLOWS_ASSERT(loop_is_control());
	if (!r)
		return;
	s = xcalloc(1, sizeof(*s) + path_size);
	s->step = OPEN_STAT_PATH;
	s->flags = flags;
	s->direct = flags & LOOP_FILE_DIRECT;
	s->fd = -1;
	s->out = out;
	memcpy(s->path, path, path_size);
	r->arg = s;
	open_next(l, r);
}

/* ---- stat ----------------------------------------------------------------------------------- */

struct stat_state {
	struct loop_file *file;
	struct loop_file_info *out;
	struct statx stx;
};

static void stat_done(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	struct stat_state *s = r->arg;

	if (res == 0) {
		*s->out = (struct loop_file_info){
		        .direct = s->file->info.direct,
		        .read_only = s->file->info.read_only,
		};
		res = fill_info(s->file->fd, &s->stx, s->out);
	}
	free(s);
	uring_req_done(l, r, res);
}

void loop_file_stat(
        struct loop *loop, struct loop_op *op, struct loop_file *file, struct loop_file_info *out)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, stat_done);
	struct io_uring_sqe *sqe;
	struct stat_state *s;

	if (!r)
		return;
	s = xcalloc(1, sizeof(*s));
	s->file = file;
	s->out = out;
	r->arg = s;
	sqe = uring_sqe(l, r);
	io_uring_prep_statx(sqe, file->fd, "", AT_EMPTY_PATH, STATX_WANTED, &s->stx);
	io_uring_sqe_set_data(sqe, r);
}

/* ---- close ---------------------------------------------------------------------------------- */

static void close_left_file(struct uring_loop *l, struct loop_file *file)
{
	struct uring_req *r = uring_req_get(l, file->close_op, uring_complete_plain);
	struct io_uring_sqe *sqe;

	file_slot_put(file->slot);
	if (!r) {
		close(file->fd);
		free(file);
		return;
	}
	sqe = uring_sqe(l, r);
	io_uring_prep_close(sqe, file->fd);
	/* The last close of a block device writes back its cache, which takes its time. */
	sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, r);
	free(file);
}

/* On each loop, and then on the control loop again. */
static void run_leave(struct loop_task *task)
{
	struct file_leave *leave = container_of(task, struct file_leave, task);
	struct loop_file *file = leave->file;

	if (leave->waiting) {
		leave->waiting = false;
		file_leave_loop(uring_of(loop_self()), file);
		loop_send(loop_get(LOOP_CONTROL), task);
		return;
	}
	if (--file->leaves_missing == 0)
		close_left_file(uring_of(loop_self()), file);
}

void loop_file_close(struct loop *loop, struct loop_op *op, struct loop_file *file)
{
	BELLOWS_ASSERT(loop == loop_self() && loop_is_control());
	op->priv = NULL;
	file->close_op = op;
	file->leaves_missing = loops_count();
	for (unsigned id = 0; id < loops_count(); id++) {
		file->leave[id] =
		        (struct file_leave){.task.run = run_leave, .file = file, .waiting = true};
		loop_send(loop_get(id), &file->leave[id].task);
	}
}

/* Everything, or max_bytes + 1. Returns the length or -errno. */
static ssize_t read_all(int fd, size_t max_bytes, char **out)
{
	size_t len = 0, size = 0;
	ssize_t n;

	do {
		if (size - len < 2) {
			size = size ? size * 2 : 4096;
			*out = xrealloc(*out, size);
		}
		n = read(fd, *out + len, min_u64(size - len - 1, max_bytes + 1 - len));
		if (n > 0)
			len += (size_t)n;
	} while ((n > 0 && len <= max_bytes) || (n < 0 && errno == EINTR));
	(*out)[len] = '\0';
	return n < 0 ? -errno : (ssize_t)len;
}

int loop_slurp(const char *path, size_t max_bytes, char **out, size_t *len_out, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	autofree char *text = NULL;
	ssize_t len;

	if (fd < 0)
		return err_set(err, -errno, "%s: can't be opened: %s", path, errno_text(errno));
	len = read_all(fd, max_bytes, &text);
	close(fd);
	if (len < 0)
		return err_set(err, (int)len, "%s: can't be read: %s", path, errno_text((int)len));
	if ((size_t)len > max_bytes)
		return err_set(
		        err, -EFBIG, "%s: larger than the limit of %zu bytes", path, max_bytes);
	*out = steal_ptr(&text);
	*len_out = (size_t)len;
	return 0;
}
