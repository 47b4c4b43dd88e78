/*
 * The workload as a holder of bdevs: opens what nobody stands on, answers the core's questions, and
 * checks that it is told of each change of size exactly once.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/nbd.h"

struct top *draw_top(struct rng *rng)
{
	struct top *tops = io_tops(), *fit[IO_TOPS];
	unsigned n = 0;
	uint64_t r = rng_next(rng);

	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used && !tops[i].closing)
			fit[n++] = &tops[i];
	return n ? fit[r % n] : NULL;
}

struct top *io_top_of(const struct bdev *bdev)
{
	struct top *tops = io_tops();

	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used && tops[i].bdev == bdev)
			return &tops[i];
	return NULL;
}

/* ---- what the core tells and asks --------------------------------------------------------------
 */

static void answer_tell(struct loop_timer *timer)
{
	struct top *top = container_of(timer, struct top, tell_timer);
	struct bdev_tell *tell = top->tell;

	top->tell = NULL;
	bdev_told(tell, BDEV_TOLD, 1);
}

static void on_resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	struct top *top = bdev_handle_arg(handle);

	if (top->removed)
		sim_fail("told wrongly", "%s: resized after it was removed", top->model->name);
	if (old_blocks != top->known_blocks || new_blocks == old_blocks)
		sim_fail("told wrongly",
		        "%s: told that its size goes from %lu to %lu blocks, while it knows %lu",
		        top->model->name, old_blocks, new_blocks, top->known_blocks);
	if (bdev_num_blocks(top->bdev) != new_blocks)
		sim_fail("told wrongly", "%s: told of %lu blocks, while the bdev has %lu",
		        top->model->name, new_blocks, bdev_num_blocks(top->bdev));
	if (new_blocks < old_blocks && new_blocks < top->agreed_blocks && !stack_faulty(top->bdev))
		sim_fail("not asked", "%s: shrunk from %lu to %lu blocks without its consent",
		        top->model->name, old_blocks, new_blocks);
	top->known_blocks = new_blocks;
	top->agreed_blocks = UINT64_MAX;
	io_size(top, new_blocks);
	nbd_resized(top->bdev->name, new_blocks);
	if (top->tell)
		sim_fail("told wrongly", "%s: told of a resize during another", top->model->name);
	if (rng_one_in(&sim->sched, 2)) {
		bdev_told(tell, BDEV_TOLD, 1);
		return;
	}
	top->tell = tell;
	top->tell_timer.fire = answer_tell;
	loop_timer_start(loop_self(), &top->tell_timer,
	        loop_now_ns(loop_self()) + rng_below(&sim->sched, NSEC_PER_MSEC));
}

static void linger_over(struct loop_timer *timer)
{
	struct top *top = container_of(timer, struct top, linger_timer);

	top->closing = true;
	top_try_close(top);
}

static void on_removed(struct bdev_handle *handle)
{
	struct top *top = bdev_handle_arg(handle);

	if (top->removed)
		sim_fail("told wrongly", "%s: told twice that it is removed", top->model->name);
	top->removed = true;
	top->removed_ns = sim->now_ns;
	nbd_excuse(top->bdev->name);
	if (top->closing)
		return;
	/* Goes on for a while, as a client does who has not heard of it yet. */
	top->linger_timer.fire = linger_over;
	loop_timer_start(loop_self(), &top->linger_timer,
	        sim->now_ns + rng_below(&sim->sched, 2 * IO_LINGER_NS));
}

static int on_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	struct top *top = bdev_handle_arg(handle);

	if (rng_one_in(&sim->sched, 6))
		return err_set(err, -EBUSY, "the client needs its blocks");
	top->agreed_blocks = min_u64(top->agreed_blocks, new_blocks);
	return 0;
}

static const struct bdev_holder_ops holder_ops = {
        .kind = "workload",
        .resized = on_resized,
        .removed = on_removed,
        .may_shrink = on_may_shrink,
};

/* ---- opening and closing -----------------------------------------------------------------------
 */

static void close_now(struct loop_task *task)
{
	struct top *top = container_of(task, struct top, close_task);
	void (*released)(void *) = top->released;
	void *arg = top->released_arg;

	BELLOWS_ASSERT(loop_is_control());
	if (top->tell) {
		loop_timer_stop(loop_self(), &top->tell_timer);
		answer_tell(&top->tell_timer);
	}
	bdev_close(top->handle);
	top->used = false;
	if (released)
		released(arg);
}

void top_try_close(struct top *top)
{
	if (!top->closing || top->close_queued || top->in_flight > 0 || top->holds > 0)
		return;
	top->close_queued = true;
	top->close_task.run = close_now;
	loop_send(loop_get(LOOP_CONTROL), &top->close_task);
}

static void note_below(struct model *m, const struct bdev *bdev)
{
	size_t len = strlen(m->below);

	for (unsigned i = 0; i < bdev->num_bases; i++) {
		const struct bdev *base = bdev->bases[i];

		if (!base || len + strlen(base->name) + 2 > sizeof(m->below))
			continue;
		snprintf(m->below + len, sizeof(m->below) - len, "%s%s/", len ? "" : "/",
		        base->name);
		note_below(m, base);
		len = strlen(m->below);
	}
}

/* A layer may have gone with its disk and not come back, while the disk has: who writes there now
 * writes over the layer's data. */
static void cover_above(const struct bdev *bdev)
{
	char name[80];

	snprintf(name, sizeof(name), "/%s/", bdev->name);
	for (unsigned i = 0; i < MODELS_MAX; i++)
		if (run->models[i].used && strstr(run->models[i].below, name))
			run->models[i].covered = true;
}

static struct model *model_for(const struct bdev *bdev, uint64_t sectors)
{
	struct model *m = model_find(bdev->name);
	enum model_kept kept = stack_kept(bdev);

	if (!m)
		m = model_add(bdev->name, sectors, stack_fresh(bdev));
	if (!m)
		return NULL;
	m->kept = kept;
	m->write_cache = bdev->geometry.write_cache;
	m->repeatable = stack_repeatable(bdev);
	m->reads_from = SEQ_NEVER;
	m->below[0] = '\0';
	note_below(m, bdev);
	if (m->sectors != sectors)
		model_resize(m, sectors);
	if (m->covered)
		model_forget(m, 0, sectors);
	m->covered = false;
	if (stack_any_claims(bdev, SIM_RELAID) && !run->from_config && run->life_started &&
	        (run->resized || run->tally.faults))
		model_forget(m, 0, sectors);
	return m;
}

static void open_top(struct top *top, struct bdev *bdev)
{
	uint32_t block_bytes = bdev->geometry.block_bytes;
	uint64_t blocks = bdev_num_blocks(bdev);
	struct err err = ERR_NONE;
	struct model *m;

	if (bdev->geometry.read_only ||
	        blocks * block_bytes / MODEL_SECTOR_BYTES > MODEL_SECTORS_MAX)
		return;
	m = model_for(bdev, blocks * block_bytes / MODEL_SECTOR_BYTES);
	if (!m)
		return;
	*top = (struct top){.used = true,
	        .bdev = bdev,
	        .model = m,
	        .block_bytes = block_bytes,
	        .block_sectors = block_bytes / MODEL_SECTOR_BYTES,
	        .known_blocks = blocks,
	        .verified = UINT64_MAX,
	        .agreed_blocks = UINT64_MAX};
	if (bdev_open(bdev, true, &holder_ops, "workload", top, &top->handle, &err))
		top->used = false;
	else
		cover_above(bdev);
}

void io_rescan(void)
{
	struct top *tops = io_tops();

	for (struct bdev *b = bdev_next(NULL); b; b = bdev_next(b)) {
		struct model *m = bdev_parent(b, 0) ? model_find(b->name) : NULL;

		if (m)
			m->covered = true;
		if (bdev_is_claimed(b) || b->state != BDEV_ONLINE || io_top_of(b) ||
		        stack_reserved(b))
			continue;
		for (unsigned i = 0; i < IO_TOPS; i++)
			if (!tops[i].used) {
				open_top(&tops[i], b);
				break;
			}
	}
}

void io_release(struct bdev *bdev, void (*fn)(void *arg), void *arg)
{
	struct top *top = io_top_of(bdev);

	if (!top || top->closing || top->removed) {
		fn(arg);
		return;
	}
	top->closing = true;
	top->released = fn;
	top->released_arg = arg;
	top_try_close(top);
}

void io_close_all(void)
{
	struct top *tops = io_tops();

	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used && !tops[i].closing && !tops[i].removed) {
			tops[i].closing = true;
			top_try_close(&tops[i]);
		}
}

bool io_closed(void)
{
	const struct top *tops = io_tops();

	for (unsigned i = 0; i < IO_TOPS; i++)
		if (tops[i].used)
			return false;
	return true;
}

/* At a quiet moment: each client knows the size that there is. */
bool io_told(const struct bdev *bdev)
{
	const struct top *top = io_top_of(bdev);

	return !top || top->removed || top->closing || top->known_blocks == bdev_num_blocks(bdev);
}

void io_check_told(void)
{
	const struct top *tops = io_tops();

	for (unsigned i = 0; i < IO_TOPS; i++) {
		const struct top *top = &tops[i];

		if (top->used && !top->removed && !top->closing &&
		        top->known_blocks != bdev_num_blocks(top->bdev))
			sim_fail("not told", "%s has %lu blocks, and its client knows of %lu",
			        top->model->name, bdev_num_blocks(top->bdev), top->known_blocks);
	}
}
