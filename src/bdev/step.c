/*
 * step.c: one call of an asynchronous slot, with its deadline. A module that never answers fails
 * the operation that waits for it, and nothing else; its late answer finds a home here.
 */
#include <errno.h>
#include <string.h>

#include "bdev/control.h"

struct step {
	struct loop_task task;
	struct loop_timer timer;
	struct list link; /* in unanswered, so that a step that hangs for good can be found */
	struct bdev *bdev;
	const char *what;
	bdev_done_fn fn;
	void *arg;
	void (*late)(struct bdev *bdev);
	bool answered, expired;
	struct err err;
	struct bdev_geometry geometry;
};

static struct list unanswered = LIST_INIT(unanswered);

void bdev_hold(struct bdev *bdev)
{
	bdev->graph->pending++;
}

void bdev_unhold(struct bdev *bdev)
{
	BELLOWS_ASSERT(bdev->graph->pending > 0);
	bdev->graph->pending--;
	removal_poke(bdev);
}

static void step_end(struct step *step)
{
	struct bdev *bdev = step->bdev;

	list_remove(&step->link);
	free(step);
	bdev_unhold(bdev);
}

static void step_deliver(struct loop_task *task)
{
	struct step *step = container_of(task, struct step, task);

	if (step->expired) {
		if (step->late && step->err.code == 0)
			step->late(step->bdev);
	} else {
		step->fn(step->arg, step->err.code ? &step->err : NULL);
	}
	step_end(step);
}

static void step_answer(void *arg, const struct err *err)
{
	struct step *step = arg;

	BELLOWS_ASSERT(loop_is_control());
	BELLOWS_ASSERT(!step->answered);
	step->answered = true;
	loop_timer_stop(loop_self(), &step->timer);
	step->err.code = 0;
	if (err && err->code) {
		char label[BDEV_LABEL_MAX];

		step->err = *err;
		err_prefix(&step->err, "%s: %s", graph_label(step->bdev, label, sizeof(label)),
		        step->what);
	}
	step->task.run = step_deliver;
	loop_defer(loop_self(), &step->task);
}

static void step_expire(struct loop_timer *timer)
{
	struct step *step = container_of(timer, struct step, timer);
	char label[BDEV_LABEL_MAX];

	step->expired = true;
	err_set(&step->err, -ETIMEDOUT, "%s: %s has not ended within %u ms",
	        graph_label(step->bdev, label, sizeof(label)), step->what,
	        bdev_options()->step_timeout_ms);
	step->fn(step->arg, &step->err);
}

struct bdev_done step_begin_late(struct bdev *bdev, const char *what, bdev_done_fn fn, void *arg,
        void (*late)(struct bdev *bdev))
{
	struct step *step = xcalloc(1, sizeof(*step));
	struct loop *loop = loop_self();

	step->bdev = bdev;
	step->what = what;
	step->fn = fn;
	step->arg = arg;
	step->late = late;
	step->timer.fire = step_expire;
	list_init(&step->link);
	list_push_back(&unanswered, &step->link);
	bdev_hold(bdev);
	loop_timer_start(loop, &step->timer,
	        loop_now_ns(loop) + bdev_options()->step_timeout_ms * NSEC_PER_MSEC);
	return (struct bdev_done){.fn = step_answer, .arg = step};
}

struct bdev_done step_begin(struct bdev *bdev, const char *what, bdev_done_fn fn, void *arg)
{
	return step_begin_late(bdev, what, fn, arg, NULL);
}

bool step_hangs(const struct bdev *bdev, const char *what)
{
	const struct step *step;

	list_for_each (step, &unanswered, link) {
		if (step->bdev == bdev && !step->answered && strcmp(step->what, what) == 0)
			return true;
	}
	return false;
}

const struct bdev_geometry *step_keep_geometry(
        struct bdev_done done, const struct bdev_geometry *geometry)
{
	struct step *step = done.arg;

	step->geometry = *geometry;
	return &step->geometry;
}

void step_quiesce(struct bdev *bdev, bdev_done_fn fn, void *arg)
{
	bdev_quiesce(
	        bdev, step_begin_late(bdev, "waiting for its requests", fn, arg, bdev_unquiesce));
}

/* ---- later ---- */

struct later {
	struct loop_task task;
	void (*fn)(void *arg);
	void *arg;
};

static void later_run(struct loop_task *task)
{
	struct later *later = container_of(task, struct later, task);
	void (*fn)(void *) = later->fn;
	void *arg = later->arg;

	free(later);
	fn(arg);
}

void run_later(void (*fn)(void *arg), void *arg)
{
	struct later *later = xcalloc(1, sizeof(*later));

	later->fn = fn;
	later->arg = arg;
	later->task.run = later_run;
	loop_defer(loop_self(), &later->task);
}
