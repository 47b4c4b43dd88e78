/* Reading, writing and the space of files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <unistd.h>

#include "loop/file.h"

#define OP_FTRUNCATE 55    /* IORING_OP_FTRUNCATE, Linux 6.9 */
#define IOVS_PER_CALL 1024 /* IOV_MAX */

/* ---- transfers ------------------------------------------------------------------------------ */

static void prepare_transfer(struct uring_loop *l, struct uring_req *r)
{
	struct io_uring_sqe *sqe = uring_sqe(l, r);
	bool write = r->kind == URING_WRITE;

	if (r->iov_count == 1)
		io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe, r->fd,
		        r->iov->iov_base, (unsigned)r->iov->iov_len, r->offset);
	else
		io_uring_prep_rw(write ? IORING_OP_WRITEV : IORING_OP_READV, sqe, -1, r->iov,
		        r->iov_count < IOVS_PER_CALL ? r->iov_count : IOVS_PER_CALL, r->offset);
	file_set_sqe(l, r->file, sqe);
	sqe->rw_flags = (int)r->flags;
	if (r->retry_async)
		sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, r);
}

/* A piece that is no whole number of blocks ends a direct file: what follows it can't be asked for,
 * and there is nothing. */
static bool is_direct_end(const struct uring_req *r, int res)
{
	return (uint32_t)res % r->file->info.align_bytes != 0;
}

static void complete_transfer(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	if (res == -EAGAIN || res == -EINTR) {
		/* A worker thread may wait for what was not there at once. */
		r->retry_async = true;
	} else if (res < 0) {
		uring_req_done(l, r, res);
		return;
	} else if (uring_req_advance(r, (uint32_t)res)) {
		uring_req_done(l, r, (int)r->done_bytes);
		return;
	} else if (r->kind == URING_READ && (res == 0 || is_direct_end(r, res))) {
		uring_req_done(l, r, (int)r->done_bytes);
		return;
	} else if (res == 0) {
		uring_req_done(l, r, -EIO);
		return;
	}
	if (r->cancelled)
		uring_req_done(l, r, -ECANCELED);
	else
		prepare_transfer(l, r);
}

static void start_transfer(struct loop *loop, struct loop_op *op, struct loop_file *file,
        enum uring_kind kind, const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes,
        uint32_t flags)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, complete_transfer);
	uint32_t len_bytes = uring_iov_bytes(iov, iovcnt);

	if (!r)
		return;
	r->kind = kind;
	r->file = file;
	r->flags = flags;
	r->offset = offset_bytes;
	if (!uring_req_copy_iov(l, r, iov, iovcnt))
		uring_req_done_later(l, r, -ENOMEM);
	else if (len_bytes == 0)
		uring_req_done_later(l, r, 0);
	else
		prepare_transfer(l, r);
}

void loop_file_readv(struct loop *loop, struct loop_op *op, struct loop_file *file,
        const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes)
{
	start_transfer(loop, op, file, URING_READ, iov, iovcnt, offset_bytes, 0);
}

void loop_file_writev(struct loop *loop, struct loop_op *op, struct loop_file *file,
        const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes, bool dsync)
{
	start_transfer(loop, op, file, URING_WRITE, iov, iovcnt, offset_bytes,
	        dsync ? (uint32_t)RWF_DSYNC : 0);
}

void loop_file_sync(struct loop *loop, struct loop_op *op, struct loop_file *file)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, uring_complete_plain);
	struct io_uring_sqe *sqe;

	if (!r)
		return;
	sqe = uring_sqe(l, r);
	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, r);
}

/* ---- space ---------------------------------------------------------------------------------- */

static void start_fallocate(struct loop *loop, struct loop_op *op, struct loop_file *file, int mode,
        uint64_t offset_bytes, uint64_t len_bytes)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, uring_complete_plain);
	struct io_uring_sqe *sqe;

	if (!r)
		return;
	if (len_bytes == 0) {
		uring_req_done_later(l, r, 0);
		return;
	}
	sqe = uring_sqe(l, r);
	io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, file->fd, NULL, (unsigned)mode, offset_bytes);
	sqe->addr = len_bytes;
	io_uring_sqe_set_data(sqe, r);
}

void loop_file_punch(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes)
{
	start_fallocate(loop, op, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_bytes,
	        len_bytes);
}

void loop_file_zero(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes)
{
	start_fallocate(loop, op, file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset_bytes,
	        len_bytes);
}

void loop_file_truncate(
        struct loop *loop, struct loop_op *op, struct loop_file *file, uint64_t size_bytes)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, uring_complete_plain);
	struct io_uring_sqe *sqe;

	if (!r)
		return;
	if (size_bytes > INT64_MAX) {
		uring_req_done_later(l, r, -EFBIG);
		return;
	}
	if (!(l->kernel_ops & (1ULL << OP_FTRUNCATE))) {
		int rc = ftruncate(file->fd, (off_t)size_bytes);

		uring_req_done_later(l, r, rc < 0 ? -errno : 0);
		return;
	}
	sqe = uring_sqe(l, r);
	io_uring_prep_rw(OP_FTRUNCATE, sqe, file->fd, NULL, 0, size_bytes);
	io_uring_sqe_set_data(sqe, r);
}

/* The descriptor's own position, which this moves, is never used. */
static int find_extent(int fd, uint64_t offset_bytes, uint64_t len_bytes, struct loop_extent *out)
{
	uint64_t end = offset_bytes + len_bytes;
	off_t at = lseek(fd, (off_t)offset_bytes, SEEK_DATA);

	out->len_bytes = len_bytes;
	if (at < 0 && errno == ENXIO) {
		out->hole = true;
		return 0;
	}
	if (at < 0)
		return errno == EINVAL ? 0 : -errno;
	if ((uint64_t)at > offset_bytes) {
		out->hole = true;
		out->len_bytes = min_u64((uint64_t)at, end) - offset_bytes;
		return 0;
	}
	at = lseek(fd, (off_t)offset_bytes, SEEK_HOLE);
	/* ENXIO: the file got shorter in between. */
	if (at < 0)
		return errno == ENXIO || errno == EINVAL ? 0 : -errno;
	if ((uint64_t)at > offset_bytes)
		out->len_bytes = min_u64((uint64_t)at, end) - offset_bytes;
	return 0;
}

void loop_file_extent(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes, struct loop_extent *out)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, uring_complete_plain);
	int rc = 0;

	if (!r)
		return;
	*out = (struct loop_extent){.len_bytes = len_bytes};
	if (len_bytes == 0 || offset_bytes > INT64_MAX || len_bytes > INT64_MAX - offset_bytes)
		rc = -EINVAL;
	else if (!file->info.is_block_device)
		rc = find_extent(file->fd, offset_bytes, len_bytes, out);
	uring_req_done_later(l, r, rc);
}
