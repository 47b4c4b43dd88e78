/*
 * loop_file_* on simulated disks. An operation takes effect at the moment when it completes; one
 * that a crash or a cancel catches before has taken effect in part.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "sim/sim.h"

struct loop_file {
	struct sim_file *on;
	unsigned flags;
	uint32_t in_flight;
};

/* ---- starting -------------------------------------------------------------------------------- */

static uint64_t latency_ns(const struct sim_file *f)
{
	uint64_t r = rng_next(&sim->disk), span = f->latency_max_ns - f->latency_min_ns;
	uint64_t ns = f->latency_min_ns + (span ? r % span : 0);

	/* A tail: one in 64 takes up to 16 times as long. */
	return (r >> 48) % 64 == 0 ? ns << ((r >> 56) % 5) : ns;
}

/* Whether this operation meets the fault. */
static bool meets(struct sim_file *f, enum sim_fault fault, uint64_t offset)
{
	if (f->one_in[fault] == 0 || !rng_one_in(&sim->disk, f->one_in[fault]))
		return false;
	f->faults++;
	sim_event(SIM_FILE_FAULT, sim_file_index(f), fault, offset);
	return true;
}

static void start(struct sim_op *so)
{
	uint64_t ns = 1;

	if (so->file) {
		struct sim_file *f = so->file->on;

		so->file->in_flight++;
		ns = latency_ns(f);
		if (meets(f, FAULT_STALL, so->offset))
			ns += rng_range(&sim->disk, NSEC_PER_SEC, 20 * NSEC_PER_SEC);
		sim_event(SIM_FILE_START, sim_file_index(f), so->kind, so->offset);
	}
	sim_op_start(so, ns);
}

/* The end of every operation on an open file. */
static int ended(struct sim_op *so, int result)
{
	so->file->in_flight--;
	sim_event(SIM_FILE_DONE, sim_file_index(so->file->on), so->kind, (uint64_t)result);
	return result;
}

/* What a disk holds is about to change: the next numbered point at which the daemon may die. */
static void persistence_point(void)
{
	if (++sim->persist_points == sim->crash_at)
		sim_crash_asked();
}

static struct sim_op *on_file(
        struct loop *loop, struct loop_op *op, struct loop_file *file, enum sim_op_kind kind)
{
	struct sim_op *so = sim_op_new(loop, op, kind);

	so->file = file;
	return so;
}

/* ---- data ------------------------------------------------------------------------------------ */

static bool misaligned(const struct sim_op *so)
{
	uint64_t mask = so->file->on->align_bytes - 1;

	if (!(so->file->flags & LOOP_FILE_DIRECT) || so->file->on->no_direct)
		return false;
	for (unsigned i = 0; i < so->iovcnt; i++)
		if (((uintptr_t)so->iovs[i].iov_base | so->iovs[i].iov_len) & mask)
			return true;
	return (so->offset & mask) != 0;
}

static int read_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;
	uint64_t at = so->offset, end;

	if (f->gone)
		return ended(so, -EIO);
	if (misaligned(so))
		return ended(so, -EINVAL);
	if (so->offset >= f->size_bytes)
		return ended(so, 0);
	end = min_u64(so->offset + so->len, f->size_bytes);
	if (meets(f, FAULT_LATENT, at))
		sim_disk_spoil(f, at + rng_below(&sim->disk, end - at));
	if (sim_disk_bad(f, at, end - at) || meets(f, FAULT_READ_ERROR, at))
		return ended(so, -EIO);
	for (unsigned i = 0; i < so->iovcnt && at < end; i++) {
		uint64_t n = min_u64(so->iovs[i].iov_len, end - at);

		sim_disk_read(f, at, so->iovs[i].iov_base, n);
		at += n;
	}
	if (end > so->offset && meets(f, FAULT_CORRUPT, so->offset))
		*(uint8_t *)so->iovs[0].iov_base ^= 0x10;
	return ended(so, (int)(end - so->offset));
}

/* The data in one piece: a sector is written at once, whatever buffers it comes from. */
static const uint8_t *flat(const struct sim_op *so)
{
	static uint8_t bytes[SIM_FILE_BYTES_MAX];
	uint64_t at = 0;

	if (so->iovcnt == 1)
		return so->iovs[0].iov_base;
	for (unsigned i = 0; i < so->iovcnt; i++) {
		uint64_t n = min_u64(so->iovs[i].iov_len, sizeof(bytes) - at);

		if (n)
			memcpy(bytes + at, so->iovs[i].iov_base, n);
		at += n;
	}
	return bytes;
}

/* Writes the units of the data that fall to chance, each as a whole; all with keep_16ths 16. */
static void write_some(struct sim_op *so, uint64_t limit, unsigned keep_16ths, uint64_t shift)
{
	struct sim_file *f = so->file->on;
	const uint8_t *src = flat(so);

	if (keep_16ths == 16) {
		sim_disk_write(f, so->offset + shift, src, limit - so->offset, so->dsync);
		return;
	}
	for (uint64_t at = so->offset; at < limit;) {
		uint64_t n = min_u64(limit - at, f->tear_bytes - at % f->tear_bytes);

		if (rng_below(&sim->disk, 16) < keep_16ths)
			sim_disk_write(f, at + shift, src + (at - so->offset), n, so->dsync);
		at += n;
	}
}

static int write_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;
	uint64_t end = so->offset + so->len, shift = 0;

	if (!f->gone)
		persistence_point();
	if (f->gone)
		return ended(so, -EIO);
	if (so->file->flags & LOOP_FILE_READ_ONLY)
		return ended(so, -EBADF);
	if (misaligned(so))
		return ended(so, -EINVAL);
	if (f->is_block)
		end = min_u64(end, f->size_bytes);
	if (end > SIM_FILE_BYTES_MAX || (so->len && end <= so->offset))
		return ended(so, -ENOSPC);
	if (meets(f, FAULT_WRITE_ERROR, so->offset)) {
		write_some(so, end, (unsigned)rng_below(&sim->disk, 17), 0);
		return ended(so, -EIO);
	}
	if (end + SIM_SECTOR_BYTES <= f->size_bytes && meets(f, FAULT_MISDIRECT, so->offset))
		shift = SIM_SECTOR_BYTES;
	write_some(so, end, 16, shift);
	return ended(so, (int)(end - so->offset));
}

void sim_file_op_tear(struct sim_op *so)
{
	static const unsigned choices[] = {0, 4, 8, 12, 16};
	unsigned keep = sim->fate == FATE_LOST ? 0
	                : sim->fate == FATE_KEPT
	                        ? 16
	                        : choices[rng_below(&sim->disk, ARRAY_SIZE(choices))];
	uint64_t end;

	if (so->kind != OP_WRITE || so->file->on->gone || misaligned(so) ||
	        (so->file->flags & LOOP_FILE_READ_ONLY))
		return;
	end = min_u64(so->offset + so->len, SIM_FILE_BYTES_MAX);
	if (so->file->on->is_block)
		end = min_u64(end, so->file->on->size_bytes);
	if (end > so->offset)
		write_some(so, end, keep, 0);
}

bool sim_op_cancel_now(struct sim_op *so)
{
	switch ((enum sim_op_kind)so->kind) {
	case OP_WRITE:
		sim_file_op_tear(so);
		break;
	case OP_READ:
		break;
	case OP_SOCKET:
		sim_sock_cancelled(so);
		return true;
	default:
		return false; /* too late */
	}
	ended(so, -ECANCELED);
	return true;
}

void loop_file_readv(struct loop *loop, struct loop_op *op, struct loop_file *file,
        const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes)
{
	struct sim_op *so = on_file(loop, op, file, OP_READ);

	so->offset = offset_bytes;
	so->execute = read_execute;
	sim_op_take_iovs(so, iov, iovcnt);
	start(so);
}

void loop_file_writev(struct loop *loop, struct loop_op *op, struct loop_file *file,
        const struct iovec *iov, unsigned iovcnt, uint64_t offset_bytes, bool dsync)
{
	struct sim_op *so = on_file(loop, op, file, OP_WRITE);

	so->offset = offset_bytes;
	so->dsync = dsync;
	so->execute = write_execute;
	sim_op_take_iovs(so, iov, iovcnt);
	start(so);
}

static int sync_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;

	if (!f->gone)
		persistence_point();
	f->flushes_in_flight--;
	if (f->gone || meets(f, FAULT_FLUSH_ERROR, 0))
		return ended(so, -EIO);
	if (!meets(f, FAULT_LYING_FLUSH, 0))
		sim_disk_flush(f, so->flush_seq);
	return ended(so, 0);
}

void loop_file_sync(struct loop *loop, struct loop_op *op, struct loop_file *file)
{
	struct sim_op *so = on_file(loop, op, file, OP_SYNC);

	so->execute = sync_execute;
	so->flush_seq = file->on->flush_issued = file->on->write_seq;
	file->on->flushes_in_flight++;
	start(so);
}

static int zero_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;
	uint64_t end = min_u64(so->offset + so->len, f->size_bytes);

	if (!f->gone)
		persistence_point();
	if (f->gone)
		return ended(so, -EIO);
	if (so->file->flags & LOOP_FILE_READ_ONLY)
		return ended(so, -EBADF);
	if (so->kind == OP_PUNCH ? f->no_punch : f->no_zero)
		return ended(so, -EOPNOTSUPP);
	if (f->is_block && ((so->offset | so->len) & (f->align_bytes - 1)))
		return ended(so, -EINVAL);
	if (end > so->offset)
		sim_disk_zero(f, so->offset, end - so->offset, so->kind == OP_PUNCH);
	return ended(so, 0);
}

void loop_file_punch(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes)
{
	struct sim_op *so = on_file(loop, op, file, OP_PUNCH);

	so->execute = zero_execute;
	so->offset = offset_bytes;
	so->len = len_bytes;
	start(so);
}

void loop_file_zero(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes)
{
	struct sim_op *so = on_file(loop, op, file, OP_ZERO);

	so->execute = zero_execute;
	so->offset = offset_bytes;
	so->len = len_bytes;
	start(so);
}

static int extent_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;
	struct loop_extent *out = so->out;
	uint64_t end = min_u64(so->offset + so->len, f->size_bytes), at;
	bool hole;

	if (f->gone || so->offset >= end)
		return ended(so, f->gone ? -EIO : -EINVAL);
	hole = !(f->sectors[so->offset / SIM_SECTOR_BYTES] & SECTOR_ALLOCATED);
	for (at = so->offset; at < end; at = (at / SIM_SECTOR_BYTES + 1) * SIM_SECTOR_BYTES)
		if (hole != !(f->sectors[at / SIM_SECTOR_BYTES] & SECTOR_ALLOCATED))
			break;
	*out = (struct loop_extent){.len_bytes = min_u64(at, end) - so->offset, .hole = hole};
	return ended(so, 0);
}

void loop_file_extent(struct loop *loop, struct loop_op *op, struct loop_file *file,
        uint64_t offset_bytes, uint64_t len_bytes, struct loop_extent *out)
{
	struct sim_op *so = on_file(loop, op, file, OP_EXTENT);

	so->execute = extent_execute;
	so->offset = offset_bytes;
	so->len = len_bytes;
	so->out = out;
	start(so);
}

/* ---- files as a whole ------------------------------------------------------------------------ */

static int open_execute(struct sim_op *so)
{
	struct sim_file *f = sim_file_find(so->path);
	struct loop_file *file;
	int result = 0;

	if (!f && (so->flags & LOOP_FILE_CREATE))
		f = sim_file_add(so->path, 0, false);
	if (!f)
		result = -ENOENT;
	else if (f->gone)
		result = -ENXIO;
	if (f)
		sim_event(SIM_FILE_OPEN, sim_file_index(f), so->flags, (uint64_t)result);
	if (result)
		return result;
	file = xcalloc(1, sizeof(*file));
	file->on = f;
	file->flags = so->flags;
	*(struct loop_file **)so->out = file;
	return 0;
}

void loop_file_open(struct loop *loop, struct loop_op *op, const char *path, unsigned flags,
        struct loop_file **out)
{
	struct sim_op *so = sim_op_new(loop, op, OP_OPEN);

	BELLOWS_ASSERT(loop_is_control());
	so->execute = open_execute;
	so->path = xstrdup(path);
	so->flags = flags;
	so->out = out;
	start(so);
}

static int stat_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;
	struct loop_file_info *info = so->out;
	bool direct = (so->file->flags & LOOP_FILE_DIRECT) && !f->no_direct;

	if (f->gone)
		return ended(so, -ENODEV);
	*info = (struct loop_file_info){.size_bytes = f->size_bytes,
	        .block_bytes = f->is_block ? f->align_bytes : 0,
	        .physical_bytes = f->tear_bytes,
	        .align_bytes = direct ? f->align_bytes : 1,
	        .is_block_device = f->is_block,
	        .direct = direct,
	        .read_only = (so->file->flags & LOOP_FILE_READ_ONLY) != 0,
	        .rotational = f->rotational,
	        .mode = 0600};
	return ended(so, 0);
}

void loop_file_stat(
        struct loop *loop, struct loop_op *op, struct loop_file *file, struct loop_file_info *out)
{
	struct sim_op *so = on_file(loop, op, file, OP_STAT);

	so->execute = stat_execute;
	so->out = out;
	start(so);
}

static int close_execute(struct sim_op *so)
{
	int result = ended(so, 0);

	/* An operation that starts after the close, or that it overtakes, is a mistake above. */
	BELLOWS_ASSERT(so->file->in_flight == 0);
	free(so->file);
	so->file = NULL;
	return result;
}

void loop_file_close(struct loop *loop, struct loop_op *op, struct loop_file *file)
{
	struct sim_op *so = on_file(loop, op, file, OP_CLOSE);

	BELLOWS_ASSERT(loop_is_control() && file->in_flight == 0);
	so->execute = close_execute;
	start(so);
}

static int truncate_execute(struct sim_op *so)
{
	struct sim_file *f = so->file->on;

	if (!f->gone)
		persistence_point();
	if (f->gone)
		return ended(so, -EIO);
	if (f->is_block || (so->file->flags & LOOP_FILE_READ_ONLY))
		return ended(so, -EINVAL);
	if (so->len > SIM_FILE_BYTES_MAX)
		return ended(so, -EFBIG);
	if (meets(f, FAULT_WRITE_ERROR, so->len))
		return ended(so, -EIO);
	sim_disk_truncate(f, so->len);
	return ended(so, 0);
}

void loop_file_truncate(
        struct loop *loop, struct loop_op *op, struct loop_file *file, uint64_t size_bytes)
{
	struct sim_op *so = on_file(loop, op, file, OP_TRUNCATE);

	so->execute = truncate_execute;
	so->len = size_bytes;
	start(so);
}

int loop_slurp(const char *path, size_t max_bytes, char **out, size_t *len_out, struct err *err)
{
	struct sim_file *f = sim_file_find(path);

	if (!f)
		return err_set(err, -ENOENT, "%s: there is no such file", path);
	if (f->size_bytes > max_bytes)
		return err_set(err, -EFBIG, "%s: over %zu bytes", path, max_bytes);
	*out = xcalloc(1, f->size_bytes + 1);
	sim_disk_read(f, 0, (uint8_t *)*out, f->size_bytes);
	*len_out = f->size_bytes;
	return 0;
}
