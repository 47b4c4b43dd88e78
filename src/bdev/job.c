/*
 * job.c: the queue of operations that may not overlap: resizes, the appearance of new bdevs, bases
 * that are attached. Every step of a job has a deadline, so the queue always moves on.
 */
#include "bdev/control.h"

static struct list queue = LIST_INIT(queue);
static struct job *running;
static bool scheduled;

static void next(void *arg)
{
	(void)arg;
	scheduled = false;
	if (running || list_empty(&queue))
		return;
	running = list_entry(list_pop_front(&queue), struct job, link);
	running->run(running);
}

static void schedule(void)
{
	if (scheduled)
		return;
	scheduled = true;
	run_later(next, NULL);
}

void job_queue(struct job *job)
{
	list_init(&job->link);
	list_push_back(&queue, &job->link);
	schedule();
}

void job_done(struct job *job)
{
	BELLOWS_ASSERT(running == job);
	running = NULL;
	schedule();
	life_poke();
}

bool jobs_idle(void)
{
	return !running && list_empty(&queue);
}
