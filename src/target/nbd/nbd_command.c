/*
 * nbd_command.c: from a client's command to bios, and from their results to its reply ("Request
 * types" of the specification).
 */
#include <errno.h>

#include "base/cursor.h"
#include "target/nbd/nbd_session.h"

#define CACHE_STEP_BYTES (1U << 20)
#define EXTENT_STEPS_MAX                                                                           \
	255 /* bios for one block status; the answer may fall short of the range                   \
	     */

enum trim_step {
	TRIM_UNMAP,
	TRIM_FLUSH,
};

static bool writes(uint16_t type)
{
	return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

/* FUA is valid for every command ("Command flags"), and means nothing to those that don't write. */
static uint32_t check_flags(
        const struct nbd_session *s, const struct nbd_command *cmd, const char **why)
{
	static const uint16_t valid[NBD_CMDS] = {
	        [NBD_CMD_READ] = NBD_CMD_FLAG_DF,
	        [NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
	        [NBD_CMD_BLOCK_STATUS] = NBD_CMD_FLAG_REQ_ONE,
	};

	if (cmd->flags & ~(valid[cmd->type] | NBD_CMD_FLAG_FUA)) {
		*why = "flag not valid for this command";
		return NBD_EINVAL;
	}
	if ((cmd->flags & NBD_CMD_FLAG_DF) && !s->structured) {
		*why = "DF needs structured replies";
		return NBD_EINVAL;
	}
	if ((cmd->flags & NBD_CMD_FLAG_FAST_ZERO) && !s->fast_zero) {
		*why = "zeroing is not faster than writing here";
		return NBD_ENOTSUP;
	}
	return 0;
}

static uint32_t check_range(
        const struct nbd_session *s, const struct nbd_command *cmd, const char **why)
{
	uint64_t size_bytes = bdev_num_blocks(s->bdev) << s->block_shift;

	if ((cmd->offset | cmd->length) & ((1ULL << s->block_shift) - 1)) {
		*why = "not aligned to the minimum block size";
		return NBD_EINVAL;
	}
	if (cmd->offset > size_bytes || cmd->length > size_bytes - cmd->offset) {
		*why = "past the end of the export";
		return cmd->type == NBD_CMD_WRITE || cmd->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
		                                                                       : NBD_EINVAL;
	}
	return 0;
}

uint32_t nbd_command_check(
        const struct nbd_session *s, const struct nbd_command *cmd, const char **why)
{
	uint32_t error;

	if (cmd->type >= NBD_CMDS || cmd->type == NBD_CMD_DISC) {
		*why = "unknown command";
		return NBD_EINVAL;
	}
	error = check_flags(s, cmd, why);
	if (error)
		return error;
	if (cmd->type == NBD_CMD_FLUSH) {
		*why = "offset and length of a flush must be 0";
		return cmd->offset || cmd->length ? NBD_EINVAL : 0;
	}
	if (writes(cmd->type) && (s->flags & NBD_FLAG_READ_ONLY)) {
		*why = "the export is read-only";
		return NBD_EPERM;
	}
	if (cmd->type == NBD_CMD_TRIM && !(s->flags & NBD_FLAG_SEND_TRIM)) {
		*why = "trim was not offered";
		return NBD_EINVAL;
	}
	if (cmd->type == NBD_CMD_BLOCK_STATUS && (!s->meta_allocation || cmd->length == 0)) {
		*why = s->meta_allocation ? "length 0" : "no metadata context was selected";
		return NBD_EINVAL;
	}
	if (cmd->type == NBD_CMD_READ && cmd->length > NBD_REQUEST_MAX_BYTES) {
		*why = "longer than the maximum block size";
		return cmd->flags & NBD_CMD_FLAG_DF ? NBD_EOVERFLOW : NBD_EINVAL;
	}
	return check_range(s, cmd, why);
}

uint32_t nbd_command_buffer_bytes(const struct nbd_command *cmd)
{
	switch (cmd->type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return cmd->length;
	case NBD_CMD_CACHE:
		return cmd->length < CACHE_STEP_BYTES ? cmd->length : CACHE_STEP_BYTES;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_EXTENTS_MAX * 8;
	default:
		return 0;
	}
}

static void command_done(struct bio *bio);

static void submit(struct nbd_request *req, enum bio_op op, uint64_t offset_bytes,
        uint32_t length_bytes, uint8_t flags)
{
	struct nbd_session *s = req->session;
	bool data = op == BIO_READ || op == BIO_WRITE;

	req->iov = (struct iovec){.iov_base = req->buf, .iov_len = length_bytes};
	bio_init(&req->bio, op, data ? &req->iov : NULL, data ? 1 : 0,
	        length_bytes >> s->block_shift, command_done, req);
	req->bio.flags = flags;
	bio_submit(s->handle, &req->bio, offset_bytes >> s->block_shift);
}

/* Reads what the client is going to need, so that whatever caches below has it. */
static void cache_next(struct nbd_request *req)
{
	uint32_t left = req->length - req->done_bytes;

	submit(req, BIO_READ, req->offset + req->done_bytes,
	        left < CACHE_STEP_BYTES ? left : CACHE_STEP_BYTES, 0);
}

static void cache_done(struct nbd_request *req, int status)
{
	req->done_bytes += (uint32_t)req->iov.iov_len;
	if (status || req->done_bytes == req->length)
		nbd_reply_status(req, status);
	else
		cache_next(req);
}

static void extents_next(struct nbd_request *req)
{
	submit(req, BIO_BLOCK_STATUS, req->offset + req->done_bytes, req->length - req->done_bytes,
	        0);
}

/* Appends to the descriptors in the buffer; neighbours in the same state become one. */
static void extents_add(struct nbd_request *req, uint32_t len_bytes, uint32_t state)
{
	uint32_t *desc = (uint32_t *)(void *)req->buf + 2 * (size_t)req->num_extents;

	if (req->num_extents && desc[-1] == host_be32(state)) {
		desc[-2] = host_be32(host_be32(desc[-2]) + len_bytes);
	} else {
		desc[0] = host_be32(len_bytes);
		desc[1] = host_be32(state);
		req->num_extents++;
	}
	req->done_bytes += len_bytes;
}

static void extents_done(struct nbd_request *req, int status)
{
	uint32_t left = req->length - req->done_bytes;
	unsigned max = req->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_EXTENTS_MAX;

	if (status == -EOPNOTSUPP) {
		extents_add(req, left, 0);
	} else if (status == 0) {
		const struct bio_extent *extent = &req->bio.extent;
		uint64_t len = extent->num_blocks << req->session->block_shift;

		BELLOWS_ASSERT(len > 0);
		extents_add(req, len < left ? (uint32_t)len : left,
		        (extent->hole ? NBD_STATE_HOLE : 0U) |
		                (extent->hole || extent->zero ? NBD_STATE_ZERO : 0U));
	} else if (req->num_extents == 0) {
		nbd_reply_status(req, status);
		return;
	}
	if (status || req->done_bytes == req->length || req->num_extents == max ||
	        ++req->step == EXTENT_STEPS_MAX)
		nbd_reply_extents(req);
	else
		extents_next(req);
}

/* A trim is a hint: a bdev that can't is no error. FUA on it is a flush afterwards. */
static void trim_done(struct nbd_request *req, int status)
{
	if (status == -EOPNOTSUPP)
		status = 0;
	if (status == 0 && req->step == TRIM_UNMAP && (req->flags & NBD_CMD_FLAG_FUA)) {
		req->step = TRIM_FLUSH;
		submit(req, BIO_FLUSH, 0, 0, 0);
		return;
	}
	nbd_reply_status(req, status);
}

static void command_done(struct bio *bio)
{
	struct nbd_request *req = bio->arg;

	switch (req->type) {
	case NBD_CMD_READ:
		if (likely(bio->status == 0)) {
			nbd_count(&req->session->stats.bytes_read, req->length);
			nbd_reply_data(req);
			return;
		}
		break;
	case NBD_CMD_WRITE:
		if (bio->status == 0)
			nbd_count(&req->session->stats.bytes_written, req->length);
		break;
	case NBD_CMD_TRIM:
		trim_done(req, bio->status);
		return;
	case NBD_CMD_CACHE:
		cache_done(req, bio->status);
		return;
	case NBD_CMD_BLOCK_STATUS:
		extents_done(req, bio->status);
		return;
	default:
		break;
	}
	nbd_reply_status(req, bio->status);
}

void nbd_command_start(struct nbd_request *req)
{
	uint8_t fua = req->flags & NBD_CMD_FLAG_FUA ? BIO_FUA : 0;

	req->step = 0;
	req->done_bytes = 0;
	req->num_extents = 0;
	if (unlikely(req->length == 0 && req->type != NBD_CMD_FLUSH)) {
		nbd_reply_ok(req);
		return;
	}
	switch (req->type) {
	case NBD_CMD_READ:
		submit(req, BIO_READ, req->offset, req->length, 0);
		break;
	case NBD_CMD_WRITE:
		submit(req, BIO_WRITE, req->offset, req->length, fua);
		break;
	case NBD_CMD_FLUSH:
		submit(req, BIO_FLUSH, 0, 0, 0);
		break;
	case NBD_CMD_TRIM:
		submit(req, BIO_UNMAP, req->offset, req->length, 0);
		break;
	case NBD_CMD_WRITE_ZEROES:
		if (req->flags & NBD_CMD_FLAG_NO_HOLE)
			fua |= BIO_NO_UNMAP;
		submit(req, BIO_WRITE_ZEROES, req->offset, req->length, fua);
		break;
	case NBD_CMD_CACHE:
		cache_next(req);
		break;
	case NBD_CMD_BLOCK_STATUS:
		extents_next(req);
		break;
	default:
		BELLOWS_ASSERT(req->type < NBD_CMDS); /* nbd_command_check */
	}
}
