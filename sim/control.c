/*
 * Operations on the control loop: each is drawn, started, watched and judged. At most one changes
 * the stack or a size at a time, so that what it leads to can be foretold; quiesces, locks, plans
 * and statistics go on beside it.
 */
#include "sim/nbd.h"

#include "bdev/control.h"
#include "rpc/rpc.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct ctl ctls[CTL_SLOTS];

/* ---- slots
 * --------------------------------------------------------------------------------------- */

bool control_idle(void)
{
	for (unsigned i = 0; i < CTL_SLOTS; i++)
		if (ctls[i].busy)
			return false;
	return true;
}

bool control_can_start(void)
{
	for (unsigned i = 0; i < CTL_SLOTS; i++)
		if (ctls[i].busy && ctls[i].alone)
			return false;
	return !ctls[0].busy || !ctls[CTL_SLOTS - 1].busy || !ctls[1].busy;
}

static struct ctl *ctl_get(void)
{
	for (unsigned i = 0; i < CTL_SLOTS; i++)
		if (!ctls[i].busy)
			return &ctls[i];
	return NULL;
}

void ctl_end(struct ctl *c)
{
	BELLOWS_ASSERT(c->busy);
	sim_event(SIM_NOTE, c->op, c->kind, 0);
	c->busy = false;
}

void ctl_after(struct ctl *c, uint64_t ns, void (*fn)(struct ctl *c))
{
	c->then = fn;
	loop_timer_start(loop_self(), &c->timer, loop_now_ns(loop_self()) + ns);
}

static void timer_fired(struct loop_timer *timer)
{
	struct ctl *c = container_of(timer, struct ctl, timer);

	c->then(c);
}

void control_check_progress(void)
{
	for (unsigned i = 0; i < CTL_SLOTS; i++)
		if (ctls[i].busy && sim->now_ns - ctls[i].started_ns > CTL_PATIENCE_NS)
			sim_fail("control stuck",
			        "op %u (%s on %s) is not done after %lu simulated seconds",
			        ctls[i].op, ctl_names[ctls[i].kind], ctls[i].name,
			        sim_seconds_since(ctls[i].started_ns));
}

/* ---- quiesce, range lock
 * ------------------------------------------------------------------------- */

static struct bdev *draw_bdev(struct rng *rng, bool (*fits)(const struct bdev *))
{
	struct bdev *fit[64];
	unsigned n = 0;

	for (struct bdev *b = bdev_next(NULL); b && n < ARRAY_SIZE(fit); b = bdev_next(b))
		if (b->state == BDEV_ONLINE && (!fits || fits(b)))
			fit[n++] = b;
	return n ? fit[rng_below(rng, n)] : NULL;
}

bool ctl_stays(const struct bdev *bdev)
{
	const struct top *top = io_top_of(bdev);

	return (!run->faulty && !life_is_stopping()) || (top && !top->removed && !top->closing);
}

void ctl_hold(struct ctl *c)
{
	c->top = io_top_of(c->bdev);
	if (c->top)
		c->top->holds++;
}

void ctl_release(struct ctl *c)
{
	if (!c->top)
		return;
	c->top->holds--;
	top_try_close(c->top);
	c->top = NULL;
}

static void let_go(struct ctl *c)
{
	ctl_release(c);
	ctl_end(c);
}

bool ctl_refused(struct ctl *c, const struct err *err)
{
	if (!err || !err->code)
		return false;
	if (err->code != -ENODEV || (!sim_any_fault() && !life_is_stopping()))
		sim_fail(ctl_names[c->kind], "op %u: %s failed: %s", c->op, c->name, err->text);
	let_go(c);
	return true;
}

bool ctl_is_gone(const struct ctl *c)
{
	/* One that is going is not visible, but whoever has quiesced it must still end that. */
	for (const struct list *l = bdevs.all.next; !c->top && l != &bdevs.all; l = l->next)
		if (container_of(l, struct bdev, link) == c->bdev)
			return false;
	return !c->top;
}

static void quiesce_end(struct ctl *c)
{
	struct top *top = ctl_is_gone(c) ? NULL : io_top_of(c->bdev);

	if (top && --c->watch[0] == 0)
		top->quiesced_at = 0;
	if (!ctl_is_gone(c))
		bdev_unquiesce(c->bdev);
	let_go(c);
}

static void quiesced(void *arg, const struct err *err)
{
	struct ctl *c = arg;
	struct top *top = io_top_of(c->bdev);

	if (ctl_refused(c, err))
		return;
	c->watch[0] = 0;
	if (top && !top->quiesced_at) {
		c->watch[0] = 1;
		top->quiesced_at = ++run->seq;
	}
	ctl_after(c, rng_below(&c->rng, 20) * NSEC_PER_MSEC, quiesce_end);
}

static void start_quiesce(struct ctl *c)
{
	ctl_hold(c);
	bdev_quiesce(c->bdev, (struct bdev_done){quiesced, c});
}

static void range_end(struct ctl *c)
{
	struct top *top = ctl_is_gone(c) ? NULL : io_top_of(c->bdev);

	if (top && c->watch[0])
		top->locked_blocks = 0;
	if (!ctl_is_gone(c))
		bdev_range_unlock(c->bdev, &c->range);
	let_go(c);
}

static void range_locked(void *arg, const struct err *err)
{
	struct ctl *c = arg;
	struct top *top = io_top_of(c->bdev);

	if (ctl_refused(c, err))
		return;
	c->watch[0] = 0;
	if (top && !top->locked_blocks) {
		c->watch[0] = 1;
		top->locked_offset = c->range.offset_blocks;
		top->locked_blocks = c->range.num_blocks;
	}
	ctl_after(c, rng_below(&c->rng, 20) * NSEC_PER_MSEC, range_end);
}

static void start_range(struct ctl *c)
{
	uint64_t size = bdev_num_blocks(c->bdev);

	c->range = (struct bdev_range){.locked = {range_locked, c}};
	c->range.offset_blocks = rng_below(&c->rng, size);
	c->range.num_blocks = rng_range(&c->rng, 1, min_u64(64, size - c->range.offset_blocks));
	list_init(&c->range.link);
	ctl_hold(c);
	bdev_range_lock(c->bdev, &c->range);
}

/* ---- statistics, policy
 * -------------------------------------------------------------------------- */

static void stats_done(void *arg, const struct err *err)
{
	struct ctl *c = arg;

	if (!ctl_refused(c, err))
		let_go(c);
}

static void start_stats(struct ctl *c)
{
	ctl_hold(c);
	if (rng_one_in(&c->rng, 3))
		bdev_reset_stats(c->bdev, BDEV_RESET_ALL, (struct bdev_done){stats_done, c});
	else
		bdev_get_stats(c->bdev, &c->stats, NULL, (struct bdev_done){stats_done, c});
}

/* Limits that make requests wait, and nobody longer than a step of the control loop may take. */
static void start_qos(struct ctl *c)
{
	bool off = rng_one_in(&c->rng, 3);

	for (unsigned i = 0; i < QOS_LIMITS; i++) {
		bool bytes = i >= QOS_RW_MBYTES;

		if (!off && rng_one_in(&c->rng, 3))
			c->limits.per_sec[i] = rng_range(&c->rng, bytes ? 16 : 200,
			        bytes                    ? 200
			        : rng_one_in(&c->rng, 2) ? 1000
			                                 : 50000);
	}
	ctl_hold(c);
	bdev_set_qos(c->bdev, &c->limits, (struct bdev_done){stats_done, c});
}

void ctl_lift_limits(struct ctl *c)
{
	c->limits = (struct bdev_qos_limits){0};
	if (ctl_is_gone(c) || c->bdev->state != BDEV_ONLINE)
		let_go(c);
	else
		bdev_set_qos(c->bdev, &c->limits, (struct bdev_done){stats_done, c});
}

static void start_policy(struct ctl *c)
{
	bool hold = bdev_get_policy(c->bdev) == BDEV_FOLLOW;
	struct err err = ERR_NONE;

	(void)bdev_set_policy(c->bdev, hold ? BDEV_HOLD : BDEV_FOLLOW, &err);
	ctl_end(c);
}

/* ---- a module's own method
 * ------------------------------------------------------------------------ */

static bool has_operation(const struct bdev *bdev)
{
	const struct sim_module *m = sim_module_find(bdev->module->name);

	return m && m->operation;
}

static void operated(void *arg, const json_t *reply)
{
	struct ctl *c = arg;
	const json_t *error = json_object_get(reply, "error");
	json_int_t code = json_integer_value(json_object_get(error, "code"));

	if (error && code != -ENOSPC && !sim_any_fault() && !life_is_stopping())
		sim_fail(ctl_names[c->kind], "op %u: on %s: %s", c->op, c->name,
		        json_string_value(json_object_get(error, "message")));
	io_check_told();
	ctl_end(c);
}

static void start_operation(struct ctl *c)
{
	const char *method;
	json_t *params;

	if (!has_operation(c->bdev))
		sim_fail("not found again", "op %u: %s has no method of its own", c->op, c->name);
	params = sim_module_find(c->bdev->module->name)->operation(c->bdev, &c->rng, &method);
	run->resized = true;
	rpc_call(method, params, operated, c);
}

static bool has_base(const struct bdev *bdev)
{
	return bdev->num_bases > 0;
}

/* ---- configuration
 * ------------------------------------------------------------------------------- */

static void saved(void *arg, const json_t *reply)
{
	struct ctl *c = arg;
	const json_t *entries = json_object_get(reply, "result");
	json_t *config =
	        json_pack("{s:[{s:s, s:O}]}", "subsystems", "subsystem", "bdev", "config", entries);
	autofree char *text = json_dumps(config, JSON_COMPACT);

	json_decref(config);
	if (!text)
		sim_fail("save failed", "op %u: the configuration can't be had", c->op);
	stack_note_held();
	run->config_valid = str_copy(run->config, sizeof(run->config), text);
	ctl_end(c);
}

static void start_save(struct ctl *c)
{
	json_t *params = json_pack("{s:s}", "name", "bdev");

	rpc_call("framework_get_config", params, saved, c);
}

/* ---- disks
 * ----------------------------------------------------------------------------------------- */

static void fault_end(struct ctl *c)
{
	memset(c->file->one_in, 0, sizeof(c->file->one_in));
	if (c->file->gone)
		sim_event(SIM_FILE_FAULT, sim_file_index(c->file), FAULT_RETURN, 0);
	c->file->gone = false;
	ctl_end(c);
}

static void start_fault(struct ctl *c)
{
	static const enum sim_fault kinds[] = {
	        FAULT_READ_ERROR, FAULT_WRITE_ERROR, FAULT_FLUSH_ERROR, FAULT_LATENT, FAULT_STALL};
	struct sim_file *used[SIM_FILES_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < SIM_FILES_MAX; i++)
		if (sim->files[i].used)
			used[n++] = &sim->files[i];
	if (n == 0 || !run->faulty || (run->given.without & WITHOUT_FAULTS)) {
		ctl_end(c);
		return;
	}
	c->file = used[rng_below(&c->rng, n)];
	run->tally.faults++;
	if (rng_one_in(&c->rng, 8)) {
		c->file->gone = true;
		c->file->faults++;
		sim_event(SIM_FILE_FAULT, sim_file_index(c->file), FAULT_GONE, 0);
	} else {
		unsigned kind = kinds[rng_below(&c->rng, ARRAY_SIZE(kinds))];

		c->file->one_in[kind] = (uint32_t)rng_range(&c->rng, 2, 20);
	}
	ctl_after(c, NSEC_PER_MSEC << rng_below(&c->rng, 13), fault_end);
}

static struct ctl *replugging;

static void replugged(void)
{
	io_rescan();
	ctl_end(replugging);
}

/* What an operator does whose disk is back: creates its bdev again; the rest follows by itself. */
static void start_replug(struct ctl *c)
{
	replugging = c;
	stack_build_missing(replugged);
}

/* ---- ends of the daemon
 * --------------------------------------------------------------------------- */

static void start_crash(struct ctl *c)
{
	if (run->given.without & WITHOUT_CRASHES) {
		ctl_end(c);
		return;
	}
	run->tally.crashes++;
	sim_crash(rng_below(&c->rng, 3) != 0);
}

static void start_signal(struct ctl *c)
{
	run->tally.restarts++;
	ctl_end(c);
	if (!(run->given.without & WITHOUT_CRASHES))
		sim_signal(SIGTERM);
}

static void start_restart(struct ctl *c)
{
	run->tally.restarts++;
	ctl_end(c);
	if (!(run->given.without & WITHOUT_CRASHES))
		life_restart();
}

/* ---- choice
 * -------------------------------------------------------------------------------------- */

const char *const ctl_names[CTL_KINDS] = {
        [CTL_RESIZE] = "resize",
        [CTL_PLAN] = "plan",
        [CTL_OUTSIDE] = "resize from outside",
        [CTL_QUIESCE] = "quiesce",
        [CTL_RANGE] = "range lock",
        [CTL_CREATE] = "create",
        [CTL_DELETE] = "delete",
        [CTL_POLICY] = "policy",
        [CTL_OWN] = "own method",
        [CTL_SAVE] = "save the configuration",
        [CTL_STATS] = "statistics",
        [CTL_QOS] = "rate limits",
        [CTL_FAULT] = "fault",
        [CTL_REPLUG] = "create what has gone",
        [CTL_RESTART] = "restart",
        [CTL_SIGNAL] = "SIGTERM",
        [CTL_CRASH] = "crash",
        [CTL_MEMBER] = "take out or put back a base",
        [CTL_EXPORT] = "export or not",
        [CTL_CONNECT] = "connect",
        [CTL_HANG_UP] = "hang up",
};

static const struct {
	unsigned weight;
	bool alone; /* no other operation beside it */
	void (*start)(struct ctl *c);
	bool (*fits)(const struct bdev *bdev);
	bool on_bdev;
} kinds[CTL_KINDS] = {
        [CTL_RESIZE] = {28, true, ctl_start_resize, ctl_resizable, true},
        [CTL_PLAN] = {8, true, ctl_start_plan, ctl_resizable, true},
        [CTL_OUTSIDE] = {6, true, ctl_start_outside, ctl_has_file, true},
        [CTL_QUIESCE] = {14, false, start_quiesce, ctl_stays, true},
        [CTL_RANGE] = {14, false, start_range, ctl_stays, true},
        [CTL_CREATE] = {8, true, ctl_start_create, NULL, true},
        [CTL_DELETE] = {6, true, ctl_start_delete, has_base, true},
        [CTL_POLICY] = {4, true, start_policy, has_base, true},
        [CTL_OWN] = {10, true, start_operation, has_operation, true},
        [CTL_SAVE] = {8, true, start_save, NULL, false},
        [CTL_STATS] = {6, false, start_stats, ctl_stays, true},
        [CTL_QOS] = {10, false, start_qos, ctl_stays, true},
        [CTL_FAULT] = {6, false, start_fault, NULL, false},
        [CTL_REPLUG] = {6, true, start_replug, NULL, false},
        [CTL_RESTART] = {3, true, start_restart, NULL, false},
        [CTL_SIGNAL] = {2, true, start_signal, NULL, false},
        [CTL_CRASH] = {6, true, start_crash, NULL, false},
        [CTL_MEMBER] = {6, true, ctl_start_member, ctl_has_member, true},
        [CTL_EXPORT] = {0, true, ctl_start_export, nbd_can_export, true},
        [CTL_CONNECT] = {0, false, ctl_start_connect, nbd_is_exported, true},
        [CTL_HANG_UP] = {0, false, ctl_start_hang_up, NULL, false},
};

static enum ctl_kind draw_kind(struct rng *rng)
{
	uint64_t sum = 0, r;

	for (unsigned i = 0; i < CTL_KINDS; i++)
		sum += kinds[i].weight;
	r = rng_below(rng, sum);
	for (unsigned i = 0; i < CTL_KINDS; i++) {
		if (r < kinds[i].weight)
			return (enum ctl_kind)i;
		r -= kinds[i].weight;
	}
	return CTL_STATS;
}

static struct ctl *begin(uint32_t op, struct rng rng, enum ctl_kind kind, struct bdev *bdev)
{
	struct ctl *c = ctl_get();

	*c = (struct ctl){.busy = true,
	        .alone = kinds[kind].alone,
	        .kind = kind,
	        .op = op,
	        .rng = rng,
	        .bdev = bdev,
	        .started_ns = sim->now_ns,
	        .timer = {.fire = timer_fired}};
	str_copy(c->name, sizeof(c->name), bdev ? bdev->name : "");
	sim_event(SIM_OP_START, op, 100 + (uint64_t)kind, LOOP_CONTROL);
	if (sim->tracing)
		printf("%30s op %u: %s on %s\n", "", op, ctl_names[kind], c->name);
	return c;
}

void control_start_exact(uint32_t op, enum ctl_kind kind, struct bdev *bdev, uint64_t new_blocks)
{
	struct ctl *c = begin(op, run_op_rng(op), kind, bdev);

	c->exact = true;
	c->new_blocks = new_blocks;
	kinds[kind].start(c);
}

bool control_start(uint32_t op, struct rng rng)
{
	enum ctl_kind kind = nbd_is_control(op) ? nbd_draw_kind(&rng) : draw_kind(&rng);
	struct bdev *bdev;

	if (!control_can_start() || (kinds[kind].alone && !control_idle()))
		return false;
	bdev = draw_bdev(&rng, kinds[kind].fits);
	if (kinds[kind].on_bdev && (!bdev || (kinds[kind].alone && stack_reserved(bdev))))
		return true;
	/* What was saved before is not the present stack any more. */
	if (kind == CTL_CREATE || kind == CTL_DELETE || kind == CTL_RESIZE || kind == CTL_OUTSIDE ||
	        kind == CTL_POLICY || kind == CTL_QOS)
		run->config_valid = false;
	kinds[kind].start(begin(op, rng, kind, bdev));
	return true;
}
