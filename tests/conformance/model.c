/* A disk and what it must hold: random requests of every kind and shape, one after the other. */
#include "tests/conformance/conformance.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PIECES_MAX 20
#define LEN_MAX_BYTES KIB(768)
#define SLACK_BYTES 64 /* for addresses that are not aligned */

struct model *model_new(struct stack *stack, struct disk *disk)
{
	struct model *model = xcalloc(1, sizeof(*model));

	model->disk = disk;
	model->compare = keeps_data(stack);
	model->blocks = disk_blocks(disk);
	model->expected = xcalloc(model->blocks, disk->block_bytes);
	model->known = xcalloc(model->blocks, sizeof(bool));
	model->buf = xcalloc(1, LEN_MAX_BYTES + SLACK_BYTES);
	model->written = xcalloc(model->blocks, sizeof(*model->written));
	model_forget(model);
	return model;
}

void model_free(struct model *model)
{
	free(model->expected);
	free(model->known);
	free(model->buf);
	free(model->written);
	free(model);
}

void model_resized(struct model *model)
{
	uint64_t blocks = disk_blocks(model->disk), old = model->blocks;

	model->expected = xrealloc(model->expected, blocks * model->disk->block_bytes);
	model->known = xrealloc(model->known, blocks * sizeof(bool));
	model->written = xrealloc(model->written, blocks * sizeof(*model->written));
	for (uint64_t i = old; i < blocks; i++)
		model->known[i] = false;
	for (uint64_t i = 0; i < blocks; i++)
		model->written[i] = UINT64_MAX;
	model->blocks = blocks;
}

void model_forget(struct model *model)
{
	for (uint64_t i = 0; i < model->blocks; i++) {
		model->known[i] = false;
		model->written[i] = UINT64_MAX;
	}
}

static void expect_data(
        const struct model *model, uint64_t offset, uint64_t blocks, const uint8_t *data)
{
	uint32_t bytes = model->disk->block_bytes;

	for (uint64_t i = 0; model->compare && i < blocks; i++) {
		if (model->known[offset + i] &&
		        memcmp(data + i * bytes, model->expected + (offset + i) * bytes, bytes))
			fail_msg("'%s': block %llu, read with %llu+%llu, is not what was written",
			        model->disk->name, (unsigned long long)(offset + i),
			        (unsigned long long)offset, (unsigned long long)blocks);
	}
}

/* Mostly small, sometimes large, often at an edge. */
static void choose_range(
        const struct model *model, struct rng *rng, uint64_t *offset, uint64_t *len)
{
	uint64_t most = min_u64(LEN_MAX_BYTES / model->disk->block_bytes, model->blocks);

	*len = 1 + rng_below(rng, rng_below(rng, 8) ? min_u64(most, 24) : most);
	switch (rng_below(rng, 4)) {
	case 0:
		*offset = 0;
		break;
	case 1:
		*offset = model->blocks - *len;
		break;
	default:
		*offset = rng_below(rng, model->blocks - *len + 1);
	}
}

/* Pieces of any length, some of them empty, of memory at any address. */
static unsigned choose_iov(struct rng *rng, uint8_t *data, size_t len, struct iovec *iov)
{
	unsigned n = rng_below(rng, 2) ? 1 : 1 + (unsigned)rng_below(rng, PIECES_MAX);
	size_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t piece = i == n - 1 ? len - at : rng_below(rng, (len - at) / 2 + 1);

		if (i < n - 1 && rng_below(rng, 3) == 0)
			piece &= ~(size_t)511;
		iov[i] = (struct iovec){data + at, piece};
		at += piece;
	}
	return n;
}

static int request(const struct model *model, struct rng *rng, enum bio_op op, unsigned flags,
        uint64_t offset, uint64_t len, uint8_t *data)
{
	struct iovec iov[PIECES_MAX];
	struct disk_io *io = xcalloc(1, sizeof(*io));
	unsigned pieces = data ? choose_iov(rng, data, len * model->disk->block_bytes, iov) : 0;
	int status;

	disk_start(model->disk, io, 1 + (unsigned)rng_below(rng, loops_count() - 1), op, flags,
	        offset, len, data ? iov : NULL, pieces);
	status = disk_wait(io);
	if (op == BIO_BLOCK_STATUS && status == 0 &&
	        (io->bio.extent.num_blocks == 0 || io->bio.extent.num_blocks > len))
		fail_msg("'%s': a run of %llu blocks of %llu", model->disk->name,
		        (unsigned long long)io->bio.extent.num_blocks, (unsigned long long)len);
	free(io);
	return status;
}

static void expect_ok(const struct model *model, enum bio_op op, int status)
{
	if (status != 0)
		fail_msg("'%s': %s: %s", model->disk->name, bio_op_name(op), errno_text(status));
}

static void set_known(struct model *model, uint64_t offset, uint64_t len, bool known)
{
	for (uint64_t i = 0; i < len; i++)
		model->known[offset + i] = known;
}

/* Writes or zeroes what comes next in the zone of the offset; resets it first if there is no room.
 */
static void step_zone(struct model *model, struct rng *rng, uint64_t offset, bool zero)
{
	uint64_t zone = offset / model->disk->zone_blocks, start = zone * model->disk->zone_blocks;
	uint32_t bytes = model->disk->block_bytes;
	uint64_t *written = &model->written[zone], len;
	struct disk_io io = {.bio.zone_action = ZONE_RESET};
	int status;

	if (*written >= model->disk->zone_blocks) {
		disk_start(model->disk, &io, 1, BIO_ZONE_MGMT, 0, start, model->disk->zone_blocks,
		        NULL, 0);
		expect_ok(model, BIO_ZONE_MGMT, disk_wait(&io));
		*written = 0;
		memset(model->expected + start * bytes, 0, model->disk->zone_blocks * bytes);
		set_known(model, start, model->disk->zone_blocks, true);
	}
	len = min_u64(1 + rng_below(rng, 6), model->disk->zone_blocks - *written);
	memset(model->buf, 0, len * bytes);
	if (!zero)
		fill_pattern(model->buf, len * bytes, rng_next(rng));
	status = request(model, rng, zero ? BIO_WRITE_ZEROES : BIO_WRITE,
	        rng_below(rng, 4) ? 0 : BIO_FUA, start + *written, len, zero ? NULL : model->buf);
	if (status == -ERANGE || status == -ENOSPC) {
		*written = UINT64_MAX;
		return;
	}
	expect_ok(model, BIO_WRITE, status);
	memcpy(model->expected + (start + *written) * bytes, model->buf, len * bytes);
	*written += len;
}

static void step_write(struct model *model, struct rng *rng, uint64_t offset, uint64_t len)
{
	uint32_t bytes = model->disk->block_bytes;
	uint8_t *data = model->buf + (rng_below(rng, 2) ? rng_below(rng, SLACK_BYTES) : 0);

	fill_pattern(data, len * bytes, rng_next(rng));
	expect_ok(model, BIO_WRITE,
	        request(model, rng, BIO_WRITE, rng_below(rng, 4) ? 0 : BIO_FUA, offset, len, data));
	memcpy(model->expected + offset * bytes, data, len * bytes);
	set_known(model, offset, len, true);
}

static void step_read(struct model *model, struct rng *rng, uint64_t offset, uint64_t len)
{
	uint8_t *data = model->buf + (rng_below(rng, 2) ? rng_below(rng, SLACK_BYTES) : 0);

	expect_ok(model, BIO_READ, request(model, rng, BIO_READ, 0, offset, len, data));
	expect_data(model, offset, len, data);
}

/* Of blocks that are known: equal, and with one bit of difference. */
static void step_compare(struct model *model, struct rng *rng, uint64_t offset, uint64_t len)
{
	uint32_t bytes = model->disk->block_bytes;
	int status;

	for (uint64_t i = 0; i < len; i++) {
		if (!model->known[offset + i] || !model->compare)
			return;
	}
	memcpy(model->buf, model->expected + offset * bytes, len * bytes);
	status = request(model, rng, BIO_COMPARE, 0, offset, len, model->buf);
	if (status == -EOPNOTSUPP)
		return;
	expect_ok(model, BIO_COMPARE, status);
	model->buf[rng_below(rng, len * bytes)] ^= (uint8_t)(1 << rng_below(rng, 8));
	status = request(model, rng, BIO_COMPARE, 0, offset, len, model->buf);
	if (status != -EILSEQ)
		fail_msg("'%s': a compare did not see a difference: %d", model->disk->name, status);
}

static void step_clear(struct model *model, struct rng *rng, uint64_t offset, uint64_t len)
{
	static const unsigned flags[] = {0, BIO_FUA, BIO_NO_UNMAP, BIO_FUA | BIO_NO_UNMAP};
	uint32_t bytes = model->disk->block_bytes;
	bool unmap = rng_below(rng, 2);
	enum bio_op op = unmap ? BIO_UNMAP : BIO_WRITE_ZEROES;
	int status =
	        request(model, rng, op, unmap ? 0 : flags[rng_below(rng, 4)], offset, len, NULL);

	if (status == -EOPNOTSUPP)
		return;
	expect_ok(model, op, status);
	memset(model->expected + offset * bytes, 0, len * bytes);
	set_known(model, offset, len, !unmap);
}

static void step_other(struct model *model, struct rng *rng, uint64_t offset, uint64_t len)
{
	static const enum bio_op ops[] = {BIO_FLUSH, BIO_RESET, BIO_BLOCK_STATUS};
	enum bio_op op = ops[rng_below(rng, ARRAY_SIZE(ops))];
	int status = request(model, rng, op, 0, offset, len, NULL);

	if (status != -EOPNOTSUPP)
		expect_ok(model, op, status);
}

void model_run(struct model *model, struct rng *rng, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		uint64_t offset, len;

		choose_range(model, rng, &offset, &len);
		switch (rng_below(rng, 16)) {
		case 0:
			step_compare(model, rng, offset, len);
			break;
		case 1:
		case 2:
			if (model->disk->zone_blocks)
				step_zone(model, rng, offset, true);
			else
				step_clear(model, rng, offset, len);
			break;
		case 3:
			step_other(model, rng, offset, len);
			break;
		case 4 ... 9:
			step_read(model, rng, offset, len);
			break;
		default:
			if (model->disk->zone_blocks)
				step_zone(model, rng, offset, false);
			else
				step_write(model, rng, offset, len);
		}
	}
}

void model_verify(struct model *model)
{
	uint64_t chunk = LEN_MAX_BYTES / model->disk->block_bytes;

	for (uint64_t at = 0; at < model->blocks; at += chunk) {
		uint64_t len = min_u64(chunk, model->blocks - at);

		expect_ok(model, BIO_READ, disk_read(model->disk, at, len, model->buf));
		expect_data(model, at, len, model->buf);
	}
}
