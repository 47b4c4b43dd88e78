/*
 * examine.c: whose metadata is on this bdev that nobody has claimed? Each module is asked in turn,
 * one at a time per bdev, until one claims it.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "bdev/control.h"
#include "bdev/examine.h"

#define ALLOWED_MAX 4096

struct examining {
	struct bdev *bdev;
	const struct bdev_module *module; /* asked last */
};

struct examine_waiter {
	struct list link;
	struct bdev_done done;
};

static unsigned under_way;
static struct list waiters = LIST_INIT(waiters);
static char **allowed;
static unsigned num_allowed;
static bool (*spoken_for)(const struct bdev *bdev);

/* ---- the end of it ---- */

static void answer(void *arg)
{
	struct examine_waiter *waiter;

	(void)arg;
	while (under_way == 0 && !list_empty(&waiters)) {
		waiter = list_entry(list_pop_front(&waiters), struct examine_waiter, link);
		bdev_done_call(waiter->done, NULL);
		free(waiter);
	}
}

void examine_hold(void)
{
	under_way++;
}

void examine_unhold(void)
{
	BELLOWS_ASSERT(under_way > 0);
	if (--under_way == 0)
		run_later(answer, NULL);
	life_poke();
}

bool examine_idle(void)
{
	return under_way == 0;
}

void bdev_wait_for_examine(struct bdev_done done)
{
	struct examine_waiter *waiter = xcalloc(1, sizeof(*waiter));

	BELLOWS_ASSERT(loop_is_control());
	waiter->done = done;
	list_init(&waiter->link);
	list_push_back(&waiters, &waiter->link);
	if (under_way == 0)
		run_later(answer, NULL);
}

/* ---- asking ---- */

static void ask_next(void *arg);

static void asked(void *arg, const struct err *err)
{
	struct examining *examining = arg;

	if (err)
		log_notice("bdev", "'%s': %s", examining->bdev->name, err->text);
	ask_next(examining);
}

static void ask_next(void *arg)
{
	struct examining *examining = arg;
	struct bdev *bdev = examining->bdev;
	struct bdev_module *module = NULL;

	if (bdev->state == BDEV_ONLINE && !bdev_is_claimed(bdev) && !bdevs.stopping) {
		module = bdev_module_next(examining->module);
		while (module && !module->examine)
			module = bdev_module_next(module);
	}
	if (!module) {
		bdev->graph->examining = NULL;
		free(examining);
		bdev_unhold(bdev);
		examine_unhold();
		return;
	}
	examining->module = module;
	module->examine(bdev, step_begin(bdev, "examine", asked, examining));
}

static void start(struct bdev *bdev)
{
	struct examining *examining;

	if (bdev->graph->examining)
		return;
	examining = xcalloc(1, sizeof(*examining));
	examining->bdev = bdev;
	bdev->graph->examining = examining;
	bdev_hold(bdev);
	examine_hold();
	run_later(ask_next, examining);
}

static bool is_allowed(const struct bdev *bdev)
{
	for (unsigned i = 0; i < num_allowed; i++) {
		if (bdev_find(allowed[i]) == bdev)
			return true;
	}
	return false;
}

void examine_bdev(struct bdev *bdev)
{
	bdev->graph->examine_owed = spoken_for && spoken_for(bdev);
	if (!bdev->graph->examine_owed && (bdev_options()->auto_examine || is_allowed(bdev)))
		start(bdev);
}

void bdev_examine_but(bool (*is_spoken_for)(const struct bdev *bdev))
{
	struct bdev *bdev = NULL;

	BELLOWS_ASSERT(loop_is_control());
	spoken_for = is_spoken_for;
	while (!spoken_for && (bdev = bdev_next(bdev)))
		if (bdev->graph->examine_owed)
			examine_bdev(bdev);
}

/* ---- by name ---- */

int bdev_examine_by_name(const char *name, struct err *err)
{
	struct bdev *bdev;
	int rc;

	BELLOWS_ASSERT(loop_is_control());
	if (bdev_options()->auto_examine)
		return err_set(err, -EINVAL,
		        "every new bdev is examined by itself; names are for when auto examine is "
		        "off");
	rc = name_check("the name", name, err);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < num_allowed; i++) {
		if (strcmp(allowed[i], name) == 0)
			return err_set(err, -EEXIST, "'%s' has been allowed before", name);
	}
	if (num_allowed >= ALLOWED_MAX)
		return err_set(err, -ENOSPC, "no more than %d names can be allowed", ALLOWED_MAX);
	allowed = xrealloc(allowed, (num_allowed + 1) * sizeof(char *));
	allowed[num_allowed++] = xstrdup(name);
	bdev = bdev_find(name);
	if (bdev)
		start(bdev);
	return 0;
}

const char *bdev_examine_allowed(unsigned i)
{
	BELLOWS_ASSERT(loop_is_control());
	return i < num_allowed ? allowed[i] : NULL;
}

void examine_forget_all(void)
{
	for (unsigned i = 0; i < num_allowed; i++)
		free(allowed[i]);
	free(allowed);
	allowed = NULL;
	num_allowed = 0;
	spoken_for = NULL;
}
