/*
 * life.c: the start and the end of all bdevs, and their options.
 */
#include <errno.h>

#include "base/log.h"
#include "bdev/control.h"

static const struct bdev_options default_options = {
        .bio_pool_size = 1024,
        .auto_examine = true,
        .step_timeout_ms = BDEV_STEP_TIMEOUT_MS,
        .stat_interval_ms = BDEV_STAT_INTERVAL_MS,
        .saved_values = {65535, 256, 128, 16},
};
static struct bdev_options options;
static struct bdev_done stop_done;
static struct loop_timer stop_timer;
static bool poked;

struct bdev_options *bdev_options(void)
{
	if (options.step_timeout_ms == 0)
		options = default_options;
	return &options;
}

void bdev_start(void)
{
	BELLOWS_ASSERT(loop_is_control());
	BELLOWS_ASSERT(!bdevs.started);
	bdevs.started = true;
	bdevs.stopping = false;
	bio_pools_start();
}

static bool all_gone(void)
{
	return bdevs.alive == 0 && list_empty(&bdevs.creations) && jobs_idle() && examine_idle();
}

static void stop_modules(void)
{
	struct bdev_module *module = NULL;

	while ((module = bdev_module_next(module))) {
		if (module->stop)
			module->stop();
	}
}

static void look(void *arg)
{
	struct bdev_done done = stop_done;

	(void)arg;
	poked = false;
	if (!bdevs.stopping || !all_gone())
		return;
	bdevs.stopping = false;
	bdevs.started = false;
	loop_timer_stop(loop_self(), &stop_timer);
	stop_modules();
	bio_pools_stop();
	events_stop();
	examine_forget_all();
	options = default_options;
	stop_done.fn = NULL;
	if (done.fn)
		bdev_done_call(done, NULL);
}

void life_poke(void)
{
	if (!bdevs.stopping || poked)
		return;
	poked = true;
	run_later(look, NULL);
}

/* Whoever doesn't let go holds up the end of the server no longer than this. */
static void too_late(struct loop_timer *timer)
{
	struct bdev_done done = stop_done;
	const struct bdev *bdev;
	struct err err = ERR_NONE;

	(void)timer;
	err_set(&err, -ETIMEDOUT, "%u bdevs could not be removed", bdevs.alive);
	list_for_each (bdev, &bdevs.all, link) {
		const char *holder = bdev_holder(bdev, 0);

		if (holder) {
			err_set(&err, -ETIMEDOUT,
			        "%u bdevs could not be removed: %s has not let go of '%s'",
			        bdevs.alive, holder, bdev->name);
			break;
		}
	}
	log_error("bdev", "%s", err.text);
	stop_done.fn = NULL;
	if (done.fn)
		bdev_done_call(done, &err);
}

void bdev_stop(struct bdev_done done)
{
	struct removal_cause cause = {.why = "the server is stopping"};
	struct loop *loop = loop_self();
	struct bdev *bdev;

	BELLOWS_ASSERT(loop_is_control());
	BELLOWS_ASSERT(bdevs.started && !bdevs.stopping);
	bdevs.stopping = true;
	stop_done = done;
	waiting_drop_all();
	wait_for_drop_all();
	creations_cancel_all();
	list_for_each (bdev, &bdevs.all, link) {
		if (bdev->state == BDEV_ONLINE)
			removal_start(bdev, &cause);
	}
	stop_timer.fire = too_late;
	loop_timer_start(loop, &stop_timer,
	        loop_now_ns(loop) + 2ULL * bdev_options()->step_timeout_ms * NSEC_PER_MSEC);
	life_poke();
}
