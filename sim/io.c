/*
 * Requests of the workload: drawn, submitted on any loop, and judged when they end.
 */
#include "sim/nbd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct slot slots[IO_SLOTS];
static struct top tops[IO_TOPS];
static unsigned busy;

/* ---- slots -------------------------------------------------------------------------------------
 */

static struct slot *slot_get(void)
{
	for (unsigned i = 0; i < IO_SLOTS; i++) {
		struct slot *s = &slots[i];

		if (s->busy)
			continue;
		if (!s->buf && posix_memalign((void **)&s->buf, 4096, IO_BYTES_MAX + 4096))
			abort();
		s->client = NULL;
		s->lost = false;
		return s;
	}
	return NULL;
}

/* No read in flight of this model started before this. */
static void update_reads_from(const struct top *top)
{
	uint32_t from = SEQ_NEVER;

	for (unsigned i = 0; i < IO_SLOTS; i++)
		if (slots[i].busy && slots[i].top == top && slots[i].reads && slots[i].start < from)
			from = slots[i].start;
	top->model->reads_from = from;
}

/* Cuts the data at up to three places, at any byte. */
static unsigned draw_iovs(struct slot *s, struct rng *rng, uint64_t bytes)
{
	uint64_t at = 0;
	unsigned n = 0;

	s->data = s->buf;
	if (run->given.scenario != SCENARIO_PLAIN && rng_one_in(rng, 4))
		s->data += rng_range(rng, 1, 4095);
	if (run->given.scenario == SCENARIO_PLAIN || rng_one_in(rng, 2)) {
		s->iovs[0] = (struct iovec){.iov_base = s->data, .iov_len = bytes};
		return 1;
	}
	while (n < IO_IOVS - 1 && at < bytes && !rng_one_in(rng, 3)) {
		uint64_t len = rng_range(rng, rng_one_in(rng, 8) ? 0 : 1, bytes - at);

		s->iovs[n++] = (struct iovec){.iov_base = s->data + at, .iov_len = len};
		at += len;
	}
	if (at < bytes)
		s->iovs[n++] = (struct iovec){.iov_base = s->data + at, .iov_len = bytes - at};
	return n;
}

static uint64_t sectors_of(const struct slot *s, uint64_t blocks)
{
	return blocks * s->top->block_sectors;
}

/* ---- judging -----------------------------------------------------------------------------------
 */

_Noreturn static void bad_status(const struct slot *s, int status, const char *why)
{
	sim_fail("wrong status",
	        "op %u: %s of %lu+%lu blocks on %s (now %lu blocks) ended with %d (%s): %s", s->op,
	        bio_op_name((enum bio_op)s->bio.op), s->offset, s->blocks, s->top->model->name,
	        s->top->known_blocks, status, status ? strerror(-status) : "success", why);
}

static void judge_status(const struct slot *s, int status)
{
	const struct top *top = s->top;
	uint64_t end = s->offset + s->blocks, size = bdev_num_blocks(top->bdev);
	uint64_t least = min_u64(min_u64(s->size_at_start, size), s->floor_blocks);

	if (s->lost)
		return;
	if (s->ranged && (end > max_u64(s->size_most, size) || end < s->offset)) {
		if (status == 0)
			bad_status(s, status, "it lies past the end");
		return;
	}
	if (status == 0 && top->removed && s->issued_ns > top->removed_ns + IO_LINGER_NS)
		bad_status(s, status, "the bdev was being removed when it was submitted");
	if (status == 0)
		return;
	if (s->ranged && end > least)
		return; /* the bdev has shrunk meanwhile */
	if (status == -EILSEQ && s->bio.op == BIO_COMPARE)
		return;
	if (status == -EOPNOTSUPP &&
	        (s->bio.op == BIO_UNMAP || s->bio.op == BIO_BLOCK_STATUS || s->bio.op == BIO_RESET))
		return;
	if (s->client && status == -ESHUTDOWN && nbd_may_end(s->client))
		return;
	if (top->removed || top->reset_at >= s->start || stack_faulty(top->bdev) ||
	        stack_fails(top->bdev))
		return;
	bad_status(s, status, "nothing has happened that could be a reason");
}

static void judge_read(struct slot *s)
{
	uint64_t sector = sectors_of(s, s->offset), count = sectors_of(s, s->blocks);

	model_read_end(s->top->model, sector, count, s->start, s->data, true);
	run->tally.checks += count;
}

static void judge_compare(const struct slot *s, bool equal)
{
	uint64_t sector = sectors_of(s, s->offset), count = sectors_of(s, s->blocks);
	bool may_differ = false;

	for (uint64_t i = 0; i < count; i++) {
		uint32_t value = s->values[i];

		if (equal &&
		        !model_compare_may(s->top->model, sector + i, 1, value, s->start, true))
			sim_fail("wrong compare",
			        "op %u: compare says that sector %lu of %s holds value %u, "
			        "which it can't",
			        s->op, sector + i, s->top->model->name, value);
		may_differ |=
		        model_compare_may(s->top->model, sector + i, 1, value, s->start, false);
	}
	if (!equal && !may_differ)
		sim_fail("wrong compare",
		        "op %u: compare of %lu+%lu blocks on %s finds a difference where there can "
		        "be none",
		        s->op, s->offset, s->blocks, s->top->model->name);
}

static void judge_extent(const struct slot *s)
{
	const struct bio_extent *e = &s->bio.extent;

	if (e->num_blocks < 1 || e->num_blocks > s->blocks)
		sim_fail("wrong extent", "op %u: a run of %lu blocks where %lu were asked", s->op,
		        e->num_blocks, s->blocks);
	if (e->zero && !model_compare_may(s->top->model, sectors_of(s, s->offset),
	                       sectors_of(s, e->num_blocks), VALUE_ZERO, s->start, true))
		sim_fail("wrong extent", "op %u: %lu+%lu blocks of %s are said to be zero", s->op,
		        s->offset, e->num_blocks, s->top->model->name);
}

/* The sectors of a write that lie within the device as it was at the start. */
static uint64_t written_sectors(const struct slot *s)
{
	return sectors_of(s, s->offset >= s->size_at_start
	                             ? 0
	                             : min_u64(s->blocks, s->size_at_start - s->offset));
}

static void judge_write(struct slot *s, int status)
{
	struct model *m = s->top->model;
	uint64_t sector = sectors_of(s, s->offset);
	enum model_outcome outcome = WRITE_MAYBE;

	if (s->offset + s->blocks > s->size_at_start)
		outcome =
		        bdev_num_blocks(s->top->bdev) > s->size_at_start ? WRITE_MAYBE : WRITE_NOT;
	else if (status == 0 && s->bio.op != BIO_UNMAP)
		outcome = (s->bio.flags & BIO_FUA) ? WRITE_DURABLE : WRITE_DONE;
	model_write_end(m, sector, written_sectors(s), s->start, outcome);
	if (s->bio.op != BIO_WRITE || (s->op & 7) || run->given.scenario == SCENARIO_PLAIN)
		return;
	for (uint64_t i = 0; i < sectors_of(s, s->blocks); i++)
		if (!model_holds(m, sector + i, s->value, s->data + i * MODEL_SECTOR_BYTES))
			sim_fail("buffer changed", "op %u: the data of a write has been changed",
			        s->op);
}

static void judge_gates(const struct slot *s, int status)
{
	const struct top *top = s->top;

	if (s->client) /* the answer comes later than the end */
		return;
	if (top->quiesced_at && top->quiesced_at < SEQ_NEVER && status == 0)
		sim_fail("quiesce", "op %u: %s on %s ended while the bdev was quiesced", s->op,
		        bio_op_name((enum bio_op)s->bio.op), top->model->name);
	if (top->locked_blocks && s->ranged && status == 0 && s->blocks &&
	        s->offset < top->locked_offset + top->locked_blocks &&
	        top->locked_offset < s->offset + s->blocks)
		sim_fail("range lock",
		        "op %u: %s of %lu+%lu blocks on %s ended while %lu+%lu were locked", s->op,
		        bio_op_name((enum bio_op)s->bio.op), s->offset, s->blocks, top->model->name,
		        top->locked_offset, top->locked_blocks);
}

static void io_done(struct bio *bio)
{
	struct slot *s = bio->arg;
	struct top *top = s->top;
	int status = bio->status;

	if (!s->busy)
		sim_fail("completed twice", "op %u: %s ended a second time", s->op,
		        bio_op_name((enum bio_op)bio->op));
	if (!s->client && loop_self() != s->loop)
		sim_fail("wrong loop", "op %u was submitted on loop %u and ended on loop %u", s->op,
		        s->loop->id, loop_self()->id);
	sim_event(SIM_OP_END, s->op, (uint64_t)status, bio->op);
	judge_status(s, status);
	judge_gates(s, status);
	switch ((enum bio_op)bio->op) {
	case BIO_READ:
		if (status == 0)
			judge_read(s);
		break;
	case BIO_WRITE:
	case BIO_WRITE_ZEROES:
	case BIO_UNMAP:
		judge_write(s, status);
		break;
	case BIO_FLUSH:
		if (status == 0)
			model_flush_end(top->model, s->start);
		break;
	case BIO_COMPARE:
		if (status == 0 || status == -EILSEQ)
			judge_compare(s, status == 0);
		break;
	case BIO_BLOCK_STATUS:
		if (status == 0)
			judge_extent(s);
		break;
	case BIO_RESET:
		top->reset_at = ++run->seq;
		break;
	case BIO_ZONE_APPEND:
	case BIO_ZONE_MGMT:
	case BIO_ZONE_REPORT:
	case BIO_OPS:
		break;
	}
	s->busy = false;
	busy--;
	sim->bios++;
	if (s->reads)
		update_reads_from(top);
	top->in_flight--;
	top_try_close(top);
}

struct slot *io_slots(void)
{
	return slots;
}

void io_answered(struct slot *s)
{
	run->tally.by_nbd++;
	io_done(&s->bio);
}

void io_lost(struct slot *s)
{
	s->lost = true;
	s->bio.status = -ESHUTDOWN;
	io_done(&s->bio);
}

/* ---- sizes -------------------------------------------------------------------------------------
 */

static bool changes(const struct slot *s)
{
	return s->bio.op == BIO_WRITE || s->bio.op == BIO_WRITE_ZEROES || s->bio.op == BIO_UNMAP;
}

/* A write that is on its way to the daemon, or waits for its rate, may land where the bdev has
 * shrunk and grown again. */
void io_size(struct top *top, uint64_t blocks)
{
	struct model *m = top->model;
	uint64_t from = m->sectors;

	model_resize(m, blocks * top->block_sectors);
	for (unsigned i = 0; i < IO_SLOTS; i++) {
		struct slot *s = &slots[i];

		if (!s->busy || s->top != top)
			continue;
		s->size_most = max_u64(s->size_most, blocks);
		if (changes(s))
			model_write_again(m, max_u64(from, sectors_of(s, s->offset)),
			        sectors_of(s, s->offset) + written_sectors(s), s->start, s->value);
	}
}

/* ---- drawing -----------------------------------------------------------------------------------
 */

static enum bio_op draw_op(struct rng *rng, const struct top *top)
{
	static const struct {
		enum bio_op op;
		unsigned weight;
	} weights[] = {
	        {BIO_READ, 36},
	        {BIO_WRITE, 40},
	        {BIO_FLUSH, 8},
	        {BIO_UNMAP, 4},
	        {BIO_WRITE_ZEROES, 5},
	        {BIO_COMPARE, 4},
	        {BIO_BLOCK_STATUS, 2},
	        {BIO_RESET, 1},
	};
	uint64_t r = rng_below(rng, 100);

	(void)top;
	if (run->given.scenario == SCENARIO_PLAIN)
		return r < 50 ? BIO_READ : BIO_WRITE;
	for (unsigned i = 0; i < ARRAY_SIZE(weights); i++) {
		if (r < weights[i].weight)
			return weights[i].op;
		r -= weights[i].weight;
	}
	return BIO_READ;
}

/* Mostly near a few places, so that requests meet; now and then at or past the end. */
static void draw_range(struct slot *s, struct rng *rng)
{
	uint64_t size = bdev_num_blocks(s->top->bdev), max = run->step_max_blocks, near;

	s->blocks =
	        rng_one_in(rng, 3) ? rng_range(rng, 1, max) : rng_range(rng, 1, min_u64(8, max));
	s->blocks = min_u64(s->blocks, IO_BYTES_MAX / s->top->block_bytes);
	near = rng_mix(sim->seed + s->top->model->id * 4 + rng_below(rng, 3));
	s->offset = rng_one_in(rng, 3) ? rng_below(rng, size + 1) : near % (size + 1);
	if (rng_one_in(rng, 16))
		s->offset = size - min_u64(size, s->blocks);
	if (run->given.scenario != SCENARIO_PLAIN && rng_one_in(rng, 64)) {
		s->offset = rng_one_in(rng, 4) ? UINT64_MAX - rng_below(rng, 8)
		                               : size - min_u64(size, 1) + rng_below(rng, 3);
		return;
	}
	s->offset = min_u64(s->offset, size - min_u64(size, 1));
	s->blocks = min_u64(s->blocks, size - s->offset);
}

static void fill(struct slot *s, struct rng *rng)
{
	uint64_t sector = sectors_of(s, s->offset), count = sectors_of(s, s->blocks);
	const struct model *m = s->top->model;

	if (s->bio.op == BIO_WRITE) {
		for (uint64_t i = 0; i < count; i++)
			model_fill(m, sector + i, s->value, s->data + i * MODEL_SECTOR_BYTES);
	} else if (s->bio.op == BIO_READ) {
		for (uint64_t i = 0; i < count; i++)
			memset(s->data + i * MODEL_SECTOR_BYTES, 0xa5, 16);
	} else if (s->bio.op == BIO_COMPARE) {
		uint64_t odd = rng_one_in(rng, 4) ? rng_below(rng, max_u64(count, 1)) : UINT64_MAX;

		for (uint64_t i = 0; i < count; i++) {
			s->values[i] = sector + i < m->sectors ? model_likely(m, sector + i) : 0;
			if (i == odd)
				s->values[i] ^= 0x40000000;
			model_fill(m, sector + i, s->values[i], s->data + i * MODEL_SECTOR_BYTES);
		}
	}
}

static void submit(struct slot *s, struct top *top)
{
	struct loop *loop = loop_self();
	s->size_at_start = s->size_most = bdev_num_blocks(top->bdev);
	/* The bdev has grown and its holder has not been told yet: what is written there counts. */
	if (s->size_at_start * top->block_sectors > top->model->sectors)
		io_size(top, s->size_at_start);
	s->busy = true;
	busy++;
	top->in_flight++;
	s->loop = loop;
	s->issued_ns = sim->now_ns;
	s->floor_blocks = top->model->floor_sectors / top->block_sectors;
	s->reads =
	        s->bio.op == BIO_READ || s->bio.op == BIO_COMPARE || s->bio.op == BIO_BLOCK_STATUS;
	s->start = changes(s) ? model_write_start(top->model, sectors_of(s, s->offset),
	                                written_sectors(s), s->value)
	                      : ++run->seq;
	if (s->reads && s->start < top->model->reads_from)
		top->model->reads_from = s->start;
	if (s->bio.op == BIO_RESET)
		top->reset_at = SEQ_NEVER;
	sim_event(SIM_OP_START, s->op, s->bio.op, loop->id);
	sim_event(SIM_OP_BIO, s->op, s->offset, s->blocks);
	if (s->client)
		nbd_client_send(s->client, s);
	else
		bio_submit(top->handle, &s->bio, s->offset);
}

bool io_start(uint32_t op, struct rng rng)
{
	struct slot *s;
	struct top *top = draw_top(&rng);
	enum bio_op kind;
	unsigned iovcnt = 0;

	if (!top)
		return true;
	if (busy >= run->depth || !(s = slot_get()))
		return false;
	kind = draw_op(&rng, top);
	s->op = op;
	s->top = top;
	s->offset = s->blocks = 0;
	s->value = VALUE_ZERO;
	s->ranged = kind != BIO_FLUSH && kind != BIO_RESET;
	if (s->ranged)
		draw_range(s, &rng);
	if (kind == BIO_READ || kind == BIO_WRITE || kind == BIO_COMPARE)
		iovcnt = draw_iovs(s, &rng, s->blocks * top->block_bytes);
	if (kind == BIO_WRITE)
		s->value = ++run->last_value;
	bio_init(&s->bio, kind, iovcnt ? s->iovs : NULL, iovcnt, s->blocks, io_done, s);
	if ((kind == BIO_WRITE || kind == BIO_WRITE_ZEROES) && rng_one_in(&rng, 8) &&
	        run->given.scenario != SCENARIO_PLAIN)
		s->bio.flags |= BIO_FUA;
	if (kind == BIO_WRITE_ZEROES && rng_one_in(&rng, 4))
		s->bio.flags |= BIO_NO_UNMAP;
	fill(s, &rng);
	if (run->nbd)
		s->client = nbd_client_for(top, kind, s->offset, s->blocks);
	submit(s, top);
	return true;
}

void io_start_exact(uint32_t op, struct top *top, enum bio_op kind, unsigned flags, uint64_t offset,
        uint64_t blocks)
{
	struct slot *s = slot_get();
	bool data = kind == BIO_WRITE || kind == BIO_READ;

	BELLOWS_ASSERT(s);
	s->op = op;
	s->top = top;
	s->offset = offset;
	s->blocks = blocks;
	s->ranged = kind != BIO_FLUSH;
	s->value = kind == BIO_WRITE ? ++run->last_value : VALUE_ZERO;
	s->data = s->buf;
	s->iovs[0].iov_base = s->data;
	s->iovs[0].iov_len = blocks * top->block_bytes;
	bio_init(&s->bio, kind, data ? s->iovs : NULL, data, blocks, io_done, s);
	s->bio.flags = (uint8_t)flags;
	fill(s, NULL);
	submit(s, top);
}

/* ---- reading all of it
 * --------------------------------------------------------------------------- */

bool io_verify_step(void)
{
	for (unsigned i = 0; i < IO_TOPS; i++) {
		struct top *top = &tops[i];
		uint64_t size = top->used ? bdev_num_blocks(top->bdev) : 0;
		struct slot *s;

		if (!top->used || top->closing || top->removed || top->verified >= size)
			continue;
		if (busy >= run->depth || !(s = slot_get()))
			return true;
		s->op = UINT32_MAX;
		s->top = top;
		s->offset = top->verified;
		s->blocks = min_u64(size - s->offset, 65536 / top->block_bytes);
		s->ranged = true;
		s->data = s->buf;
		s->iovs[0].iov_base = s->data;
		s->iovs[0].iov_len = s->blocks * top->block_bytes;
		bio_init(&s->bio, BIO_READ, s->iovs, 1, s->blocks, io_done, s);
		top->verified += s->blocks;
		fill(s, NULL);
		submit(s, top);
		return true;
	}
	return false;
}

void io_verify_start(void)
{
	for (unsigned i = 0; i < IO_TOPS; i++)
		tops[i].verified = 0;
}

bool io_verify_left(void)
{
	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used && !tops[i].closing && !tops[i].removed &&
		        tops[i].verified < bdev_num_blocks(tops[i].bdev))
			return true;
	return false;
}

void top_set_floor(struct top *top, uint64_t blocks)
{
	top->model->floor_sectors = blocks == UINT64_MAX ? UINT64_MAX : blocks * top->block_sectors;
	for (unsigned i = 0; i < IO_SLOTS; i++)
		if (slots[i].busy && slots[i].top == top)
			slots[i].floor_blocks = min_u64(slots[i].floor_blocks, blocks);
}

bool io_can_start(void)
{
	return busy < run->depth;
}

bool io_idle(void)
{
	return busy == 0;
}

void io_check_progress(void)
{
	for (unsigned i = 0; i < IO_SLOTS; i++) {
		const struct slot *s = &slots[i];

		if (s->busy && sim->now_ns - s->issued_ns > IO_PATIENCE_NS)
			sim_fail("request stuck",
			        "op %u: %s of %lu+%lu blocks on %s is not done after %lu simulated "
			        "seconds",
			        s->op, bio_op_name((enum bio_op)s->bio.op), s->offset, s->blocks,
			        s->top->model->name, sim_seconds_since(s->issued_ns));
	}
}

void io_end(void)
{
	for (unsigned i = 0; i < IO_SLOTS; i++) {
		free(slots[i].buf);
		slots[i].buf = NULL;
	}
}

struct top *io_tops(void)
{
	return tops;
}
