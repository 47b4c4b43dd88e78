#include "tests/lib/zone_follow.h"

#include <errno.h>
#include <stdio.h>

struct zone_kept *kept;
struct zone_life life;

struct bdev *zone_top(void)
{
	return bdev_handle_bdev(life.handle);
}

/* ---- looking into the module ------------------------------------------------------------------
 */

static uint64_t word_of(unsigned zone)
{
	return __atomic_load_n(&zone_at(life.bdev->priv, zone)->word, __ATOMIC_SEQ_CST);
}

static bool at_the_gate(const struct op *op)
{
	return !op->ended && op->bio.frame < op->bio.frames + life.layers;
}

static bool in_queue(const struct op *op)
{
	const struct zone_loop *zl = life.bdev->loops[op->loop].state;

	for (const struct loop_task *t = zl->changes.head; t; t = t->next) {
		if (t == &op->bio.task)
			return true;
	}
	return false;
}

/* How many zones management has done; it may wait among them. */
static unsigned zones_done(struct op *op)
{
	const struct zone_manage_ctx *ctx;

	if (op->bio.frame->step == 0)
		return 0;
	ctx = bio_ctx(&op->bio, struct zone_manage_ctx);
	return (unsigned)ctx->next - op->zone;
}

/* Where in its zone a write has been given blocks. False: it was not, or can't be told any more. */
static bool given_blocks(const struct op *op, uint64_t *at)
{
	const struct bio_frame *frame = op->bio.frames + life.layers;

	if (!op->ended && op->bio.frame > frame)
		*at = ((const struct zone_write_ctx *)(const void *)frame->ctx)->from;
	else if (op->ended && op->kind == KIND_APPEND && op->bio.appended_at != UINT64_MAX)
		*at = op->bio.appended_at - op->offset;
	else if (op->ended && op->kind != KIND_APPEND && op->bio.status == 0)
		*at = op->offset % kept->zone_blocks;
	else
		return false;
	return true;
}

void zone_op_trace(const struct op *op, const char *what)
{
	static const char *const kinds[] = {
	        "write", "zeroes", "append", "manage", "read", "report", "flush"};

	if (life.tracing)
		printf("%3lu %-7s loop %u %-6s %lu+%lu zone %u action %u%s status %d\n", op->order,
		        what, op->loop, kinds[op->kind], op->offset, op->blocks, op->zone,
		        op->bio.zone_action, op->bio.flags & BIO_ZONE_ALL ? " all" : "",
		        op->bio.status);
}

/* ---- the model follows ------------------------------------------------------------------------
 */

static void model_manages(struct op *op, unsigned up_to)
{
	enum zone_action action = (enum zone_action)op->bio.zone_action;
	bool all = op->bio.flags & BIO_ZONE_ALL;

	for (; op->zones_done < up_to && op->expected == 0; op->zones_done++) {
		unsigned zone = op->zone + op->zones_done;

		if (all && !zone_model_concerned(&life.model, zone, action))
			continue;
		op->expected = zone_model_manage(&life.model, zone, action);
		for (uint64_t i = 0;
		        op->expected == 0 && action == ZONE_RESET && i < kept->zone_blocks; i++)
			zone_blocks_zero(&kept->blocks, zone * kept->zone_blocks + i);
	}
}

static bool makes_sense(const struct op *op)
{
	return op->bio.zone_action < ZONE_ACTIONS && op->offset % kept->zone_blocks == 0 &&
	       op->blocks % kept->zone_blocks == 0 &&
	       ((op->bio.flags & BIO_ZONE_ALL) || op->blocks == kept->zone_blocks);
}

/* Of a block of a write; each has its own. */
uint32_t zone_op_value(const struct op *op, uint64_t i)
{
	return op->kind == KIND_ZEROES ? 0 : op->value + (uint32_t)i;
}

static void take_back(struct op *op)
{
	zone_model_take_back(&life.model, op->zone, op->blocks);
	op->taken_back = true;
	for (uint64_t b = 0; b < op->blocks; b++)
		zone_blocks_zero(&kept->blocks, op->zone * kept->zone_blocks + op->at + b);
}

/*
 * A write that fails gives its blocks back when they are the last ones. Where a reset has followed
 * in the same step the two can't be told apart, and come to the same. Here: those of a zone that
 * have given back what lies above its first `written` blocks.
 */
static void follow_failures_above(unsigned zone, uint64_t written)
{
	for (unsigned i = 0; life.disks_fail && i < OPS_MAX; i++) {
		struct op *op = &life.ops[i];

		if (!op->busy || !op->settled || op->expected != 0 || op->taken_back ||
		        op->kind > KIND_APPEND || op->zone != zone ||
		        op->at + op->blocks != life.model.zones[zone].written ||
		        written >= op->at + op->blocks)
			continue;
		take_back(op);
		i = UINT32_MAX; /* from the start */
	}
}

static void follow_failures(void)
{
	for (unsigned zone = 0; zone < life.model.num_zones; zone++)
		follow_failures_above(zone, word_written(word_of(zone)));
}

static void model_writes(struct op *op)
{
	uint64_t from = op->offset % kept->zone_blocks, given;

	/* Blocks that it has been given were given back before, perhaps in this very step. */
	if (given_blocks(op, &given))
		follow_failures_above(op->zone, given);
	if (op->kind == KIND_APPEND && from != 0)
		op->expected = -EINVAL;
	else
		op->expected = zone_model_write(
		        &life.model, op->zone, op->kind == KIND_APPEND, from, op->blocks, &op->at);
	op->changes = life.model.zones[op->zone].changes;
	for (uint64_t i = 0; op->expected == 0 && i < op->blocks; i++)
		zone_blocks_begin(&kept->blocks, op->zone * kept->zone_blocks + op->at + i,
		        zone_op_value(op, i));
}

static void model_reports(const struct op *op)
{
	const struct bio_zone_report *r = &op->bio.zone_report;
	uint64_t first = div_round_up_u64(op->offset, kept->zone_blocks);
	uint64_t end = div_round_up_u64(op->offset + op->blocks, kept->zone_blocks);

	if (r->count != min_u64(end - first, r->max))
		sim_fail("wrong report", "%u zones of %lu", r->count, end - first);
	for (unsigned i = 0; i < r->count; i++) {
		const struct bio_zone *z = &r->zones[i];
		uint64_t start = (first + i) * kept->zone_blocks,
		         wp = life.model.zones[first + i].written;
		enum zone_state state = life.model.zones[first + i].state;

		if (state >= ZONE_FULL)
			wp = kept->capacity;
		if (z->start_blocks != start || z->capacity_blocks != kept->capacity ||
		        z->state != state || z->write_pointer_blocks != start + wp)
			sim_fail("wrong report", "zone %lu: %s, at %lu", first + i,
			        zone_state_name(z->state), z->write_pointer_blocks - start);
	}
}

static bool met_offline(const struct op *op)
{
	for (uint64_t b = op->offset; b < op->offset + op->blocks; b++) {
		if (life.model.zones[b / kept->zone_blocks].state == ZONE_OFFLINE)
			return true;
	}
	return false;
}

static void settle(struct op *op)
{
	op->settled = true;
	zone_op_trace(op, "settled");
	switch (op->kind) {
	case KIND_WRITE:
	case KIND_ZEROES:
	case KIND_APPEND:
		model_writes(op);
		break;
	case KIND_MANAGE:
		if (makes_sense(op))
			model_manages(op, (unsigned)(op->blocks / kept->zone_blocks));
		else
			op->expected = -EINVAL;
		break;
	case KIND_READ:
		if (!op->late && met_offline(op))
			op->expected = -EIO;
		break;
	case KIND_REPORT:
		if (!op->late)
			model_reports(op);
		break;
	case KIND_FLUSH:
		break;
	}
}

/* On what a shrink has taken away meanwhile: such a request never comes to the module. */
static bool lies_outside(const struct op *op)
{
	uint64_t size = min_u64(op->size_at_start, bdev_num_blocks(life.bdev));

	return op->offset + op->blocks > min_u64(size, bdev_num_blocks(zone_top()));
}

/* Requests that had to wait and do so no longer, in the order in which they came. */
static void follow_queues(void)
{
	for (;;) {
		struct op *first = NULL;

		for (unsigned i = 0; i < OPS_MAX; i++) {
			struct op *op = &life.ops[i];

			if (op->busy && !op->settled && !at_the_gate(op) && !in_queue(op) &&
			        !lies_outside(op) && (!first || op->order < first->order))
				first = op;
		}
		if (!first)
			break;
		settle(first);
		follow_failures();
	}
	for (unsigned i = 0; i < OPS_MAX; i++) {
		struct op *op = &life.ops[i];

		if (op->busy && !op->settled && op->kind == KIND_MANAGE && in_queue(op) &&
		        !lies_outside(op))
			model_manages(op, zones_done(op));
	}
}

static void follow_size(void)
{
	unsigned now = (unsigned)(life.bdev->geometry.num_blocks / kept->zone_blocks);

	while (life.model.num_zones < now) {
		unsigned zone = life.model.num_zones++;

		zone_model_set(&life.model, zone, ZONE_EMPTY);
		for (uint64_t i = 0; i < kept->zone_blocks; i++)
			zone_blocks_grown(&kept->blocks, zone * kept->zone_blocks + i);
	}
	life.model.num_zones = now;
}

static void compare(void)
{
	for (unsigned i = 0; i < life.model.num_zones; i++) {
		uint64_t word = word_of(i);

		if (word_state(word) != life.model.zones[i].state ||
		        word_written(word) != life.model.zones[i].written)
			sim_fail("wrong zone",
			        "zone %u is %s with %lu written; it must be %s with %lu", i,
			        zone_state_name(word_state(word)), word_written(word),
			        zone_state_name(life.model.zones[i].state),
			        life.model.zones[i].written);
	}
}

/* Brings the model to where the module is, and compares. */
void zone_follow(void)
{
	follow_size();
	follow_failures();
	follow_queues();
	follow_failures();
	compare();
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static void judge_data(struct op *op)
{
	for (uint64_t i = 0; i < op->blocks; i++) {
		if (!zone_blocks_may_read(&kept->blocks, op->offset + i, op->began,
		            op->data + i * ZONE_BLOCK_BYTES))
			sim_fail("wrong data", "block %lu of zone %u holds what it can't",
			        op->offset + i, (unsigned)(op->offset / kept->zone_blocks));
	}
	kept->tally.reads++;
}

static void judge_write(struct op *op)
{
	enum zone_blocks_end how = ZONE_WRITTEN;

	if (op->bio.flags & BIO_FUA)
		how = ZONE_WRITTEN_DURABLY;
	if (op->bio.status != 0)
		how = op->taken_back ? ZONE_WRITE_TAKEN_BACK : ZONE_WRITE_FAILED;
	if (how == ZONE_WRITE_FAILED && op->expected == 0 &&
	        op->changes == life.model.zones[op->zone].changes &&
	        op->at + op->blocks == life.model.zones[op->zone].written)
		sim_fail("not taken back", "a write that failed keeps its blocks in zone %u",
		        op->zone);
	for (uint64_t i = 0; op->expected == 0 && i < op->blocks; i++)
		zone_blocks_end(&kept->blocks, op->zone * kept->zone_blocks + op->at + i,
		        zone_op_value(op, i), how);
	if (op->bio.status == 0 && op->kind == KIND_APPEND &&
	        op->bio.appended_at != op->zone * kept->zone_blocks + op->at)
		sim_fail("wrong answer", "an append to zone %u at %lu says %lu", op->zone, op->at,
		        op->bio.appended_at - op->zone * kept->zone_blocks);
}

void zone_op_done(struct bio *bio)
{
	struct op *op = bio->arg;
	int status = bio->status;

	if (loop_self()->id != op->loop)
		sim_fail("wrong loop", "a request ended on loop %u", loop_self()->id);
	/* What was refused on the way in never came to the module. */
	if (!op->settled && lies_outside(op) && (status == -EIO || status == -EINVAL)) {
		op->settled = true;
		op->expected = status;
	}
	op->ended = true;
	zone_op_trace(op, "ends");
	zone_follow();
	if (op->kind == KIND_READ && status == -EIO && met_offline(op))
		op->expected = -EIO;
	if (status != op->expected && !(life.disks_fail && op->expected == 0))
		sim_fail("wrong status", "kind %u on %lu+%lu (request %lu) ends with %d, not %d",
		        op->kind, op->offset, op->blocks, op->order, status, op->expected);
	if (op->kind <= KIND_APPEND)
		judge_write(op);
	else if (op->kind == KIND_READ && status == 0)
		judge_data(op);
	else if (op->kind == KIND_FLUSH && status == 0)
		zone_blocks_flushed(&kept->blocks, op->began);
	kept->tally.refused += op->expected != 0;
	kept->tally.failures += status != op->expected;
	op->busy = false;
	life.busy--;
}
