/*
 * qos_control.c: setting the rate limits of a bdev: a new budget for each change, which one loop
 * after the other turns to.
 */
#include <errno.h>

#include "bdev/bio_core.h"

struct change {
	struct bdev *bdev;
	struct qos *now, *before;
	struct bdev_done done;
};

static void change_on_loop(struct loop *loop, void *arg)
{
	const struct change *c = arg;

	qos_loop_set(&c->bdev->loops[loop->id], c->now);
}

static void free_all(struct qos *qos, const struct qos *but)
{
	for (unsigned i = 0; qos && i < QOS_LIMITS; i++)
		if (!but || qos->rules[i] != but->rules[i])
			free(qos->rules[i]);
	free(qos);
}

static void changed(void *arg, const struct err *err)
{
	struct change *c = arg;
	struct bdev_done done = c->done;

	free_all(c->before, c->now);
	free(c);
	bdev_done_call(done, err);
}

static struct qos_rule *make_rule(enum bdev_qos limit, uint64_t per_sec)
{
	struct qos_rule *rule = try_alloc_aligned(CACHE_LINE_BYTES, sizeof(*rule));

	BELLOWS_ASSERT(rule && (limit < QOS_RW_MBYTES || per_sec <= QOS_MBYTES_MAX));
	rule->per_sec = limit < QOS_RW_MBYTES ? per_sec : per_sec << 20;
	rule->next = qos_now();
	return rule;
}

/* NULL: there is nothing to limit. */
static struct qos *make(const struct bdev_qos_limits *limits, const struct qos *before)
{
	struct qos *qos = xcalloc(1, sizeof(*qos));
	bool any = false;

	qos->limits = *limits;
	for (unsigned i = 0; i < QOS_LIMITS; i++) {
		uint64_t limit = limits->per_sec[i];

		if (!limit)
			continue;
		any = true;
		qos->rules[i] = before && before->limits.per_sec[i] == limit ? before->rules[i]
		                                                             : make_rule(i, limit);
	}
	if (any)
		return qos;
	free(qos);
	return NULL;
}

void bdev_set_qos(struct bdev *bdev, const struct bdev_qos_limits *limits, struct bdev_done done)
{
	struct change *c;

	BELLOWS_ASSERT(loop_is_control());
	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	*c = (struct change){.bdev = bdev, .before = bdev->qos, .done = done};
	c->now = bdev->qos = make(limits, bdev->qos);
	loops_run_everywhere(change_on_loop, c, (struct bdev_done){changed, c});
}

void bdev_get_qos(const struct bdev *bdev, struct bdev_qos_limits *out)
{
	BELLOWS_ASSERT(loop_is_control());
	*out = bdev->qos ? bdev->qos->limits : (struct bdev_qos_limits){0};
}

void qos_destroy(struct bdev *bdev)
{
	for (unsigned i = 0; i < loops_count(); i++)
		for (unsigned d = 0; d < ARRAY_SIZE(bdev->loops[i].slow->qos.queues); d++)
			BELLOWS_ASSERT(!bdev->loops[i].slow->qos.queues[d].bios.head);
	free_all(bdev->qos, NULL);
	bdev->qos = NULL;
}
