/*
 * problems.c: what is wrong with a bdev now, and what to do about it.
 */
#include <string.h>

#include "base/log.h"
#include "bdev/control.h"

struct problem {
	struct list link;
	char *key, *text, *action;
};

static void problem_free(struct problem *problem)
{
	list_remove(&problem->link);
	free(problem->key);
	free(problem->text);
	free(problem->action);
	free(problem);
}

void bdev_set_problem(struct bdev *bdev, const char *key, const char *text, const char *action)
{
	struct problem *problem, *next;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each_safe (problem, next, &bdev->graph->problems, link) {
		if (strcmp(problem->key, key) == 0)
			problem_free(problem);
	}
	if (!text)
		return;
	problem = xcalloc(1, sizeof(*problem));
	problem->key = xstrdup(key);
	problem->text = xstrdup(text);
	problem->action = xstrdup(action ? action : "");
	list_init(&problem->link);
	list_push_back(&bdev->graph->problems, &problem->link);
}

void bdev_for_each_problem(void (*fn)(void *arg, const struct bdev *bdev, const char *key,
                                   const char *text, const char *action),
        void *arg)
{
	const struct bdev *bdev;
	const struct problem *problem;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (bdev, &bdevs.all, link) {
		list_for_each (problem, &bdev->graph->problems, link)
			fn(arg, bdev, problem->key, problem->text, problem->action);
	}
}

void problems_free(struct bdev *bdev)
{
	struct problem *problem, *next;

	list_for_each_safe (problem, next, &bdev->graph->problems, link)
		problem_free(problem);
}
