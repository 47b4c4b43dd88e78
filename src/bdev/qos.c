/*
 * qos.c: rate limits of a bdev. One budget for all loops, without a lock and without a clock of its
 * own.
 *
 * A limit is a moment: when the next request may enter. Who wants in takes that moment and moves it
 * on by what the request costs, with one atomic exchange. A moment in the past may be up to the
 * burst old, so that a loop that was late catches up; one in the future is waited for in a queue of
 * the loop, whose first has taken its moment and whose others have not. So each loop has at most
 * one turn per direction ahead of it, turns come round, and a limit that changes finds few to
 * reckon anew.
 */
/* tidy: data path */
#include "base/plant.h"
#include "bdev/bio_core.h"

#include <string.h>

/* Costs of a request are a few ns where limits are high, hence the fraction. */
#define TICK_SHIFT 4
#define TICKS_PER_SEC (NSEC_PER_SEC << TICK_SHIFT)
#define BURST_TICKS (QOS_BURST_NS << TICK_SHIFT)
_Static_assert(BIO_DATA_MAX_BYTES <= UINT64_MAX / TICKS_PER_SEC, "a cost fits in 64 bits");

/* Waking for every turn would cost more than the requests. Several turns are taken at one waking,
 * for which the burst has room. */
#define NAP_NS (100 * NSEC_PER_USEC)

enum direction {
	DIR_READ,
	DIR_WRITE,
	DIR_NONE
};

static enum direction direction_of(const struct bio *bio)
{
	if (bio->op == BIO_READ || bio->op == BIO_COMPARE)
		return DIR_READ;
	if (bio->op == BIO_ZONE_MGMT) /* as long as its zones, and moves no data */
		return DIR_NONE;
	return BIO_CAP(bio->op) & OPS_THAT_WRITE ? DIR_WRITE : DIR_NONE;
}

uint64_t qos_now(void)
{
	return loop_now_ns(loop_self()) << TICK_SHIFT;
}

/* ---- the budget ---------------------------------------------------------------------------------
 */

static uint64_t take(struct qos_rule *rule, uint64_t units, uint64_t now)
{
	uint64_t cost = div_round_up_u64(units * TICKS_PER_SEC, rule->per_sec);
	uint64_t earliest = now - min_u64(now, BURST_TICKS), start;
	uint64_t next = __atomic_load_n(&rule->next, __ATOMIC_RELAXED);

	do {
		start = max_u64(next, earliest);
	} while (!__atomic_compare_exchange_n(
	        &rule->next, &next, start + cost, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return start;
}

/*
 * Pays for the request: due says for each limit when it may enter. What it has paid by a rule that
 * stays it does not pay again; before is NULL when it has paid nothing.
 */
static void pay(const struct qos *qos, const struct qos *before, const struct bio *bio,
        unsigned block_shift, uint64_t due[QOS_COSTS])
{
	bool reads = direction_of(bio) == DIR_READ;
	uint64_t bytes = BIO_CAP(bio->op) & OPS_WITH_DATA ? bio->num_blocks << block_shift : 0;
	const struct {
		enum bdev_qos limit;
		uint64_t units;
	} costs[QOS_COSTS] = {
	        {QOS_RW_IOS, 1},
	        {reads ? QOS_R_IOS : QOS_W_IOS, 1},
	        {QOS_RW_MBYTES, bytes},
	        {reads ? QOS_R_MBYTES : QOS_W_MBYTES, bytes},
	};
	uint64_t now = qos_now();

	for (unsigned i = 0; i < QOS_COSTS; i++) {
		struct qos_rule *rule = qos->rules[costs[i].limit];

		if (!rule || !costs[i].units)
			due[i] = 0;
		else if (!before || rule != before->rules[costs[i].limit])
			due[i] = take(rule, costs[i].units, now);
	}
}

static uint64_t latest(const uint64_t due[QOS_COSTS])
{
	return max_u64(max_u64(due[0], due[1]), max_u64(due[2], due[3]));
}

/* ---- who waits ----------------------------------------------------------------------------------
 */

static void pay_for_first(struct qos_loop *ql, struct qos_queue *q, const struct qos *before)
{
	pay(ql->qos, before, bio_queue_first(&q->bios), ql->bl->slow->bdev->block_shift, q->due);
}

static void set_timer(struct qos_loop *ql)
{
	uint64_t due = UINT64_MAX;

	for (unsigned d = 0; d < DIR_NONE; d++)
		if (ql->queues[d].bios.head)
			due = min_u64(due, latest(ql->queues[d].due));
	if (due == UINT64_MAX)
		loop_timer_stop(loop_self(), &ql->timer);
	else
		loop_timer_start(loop_self(), &ql->timer,
		        max_u64(div_round_up_u64(due, 1 << TICK_SHIFT),
		                loop_now_ns(loop_self()) + NAP_NS));
}

bool qos_queued(struct bdev_loop *bl, struct bio *bio, uint64_t offset_blocks)
{
	struct qos_loop *ql = &bl->slow->qos;
	enum direction dir = direction_of(bio);
	bool passes = bio->flags & BIO_META;
	uint64_t due[QOS_COSTS];
	struct qos_queue *q;
	bool first;

	if (dir == DIR_NONE)
		return false;
	q = &ql->queues[dir];
	first = !q->bios.head;
	if (first || passes) {
		pay(ql->qos, NULL, bio, bl->slow->bdev->block_shift, due);
		if (passes || latest(due) <= qos_now())
			return false;
		memcpy(q->due, due, sizeof(due));
	}
	bio_note_way(bio, offset_blocks, false);
	bio_queue_push(&q->bios, bio);
	if (first)
		set_timer(ql);
	return true;
}

static void let_in(struct qos_loop *ql, struct qos_queue *q)
{
	struct bio *bio = bio_queue_pop(&q->bios);

	bio_enter_again(bio, ql->bl, bio->frame[1].offset_blocks, true);
}

static void let_all_in(struct qos_loop *ql)
{
	for (unsigned d = 0; d < DIR_NONE; d++)
		while (ql->queues[d].bios.head)
			let_in(ql, &ql->queues[d]);
}

void qos_run(struct bdev_loop *bl)
{
	struct qos_loop *ql = &bl->slow->qos;
	uint64_t now = qos_now();

	if ((bl->gate & GATE_GONE) && !PLANT(QOS_GONE_FORGOTTEN)) {
		let_all_in(ql); /* to be refused */
	} else if (bl->gate & GATE_QUIESCED) {
		loop_timer_stop(loop_self(), &ql->timer);
		return; /* what could enter now would wait at the gate, and all enter at once */
	}
	for (unsigned d = 0; d < DIR_NONE; d++) {
		struct qos_queue *q = &ql->queues[d];

		while (q->bios.head && latest(q->due) <= now) {
			let_in(ql, q);
			if (q->bios.head)
				pay_for_first(ql, q, NULL);
		}
	}
	if (!PLANT(QOS_WAKEUP_LOST))
		set_timer(ql);
}

static void timer_fired(struct loop_timer *timer)
{
	qos_run(container_of(timer, struct qos_loop, timer)->bl);
}

void qos_loop_init(struct bdev_loop *bl)
{
	struct qos_loop *ql = &bl->slow->qos;

	ql->bl = bl;
	ql->timer.fire = timer_fired;
	for (unsigned d = 0; d < DIR_NONE; d++)
		bio_queue_init(&ql->queues[d].bios);
}

void qos_loop_set(struct bdev_loop *bl, struct qos *qos)
{
	struct qos_loop *ql = &bl->slow->qos;
	const struct qos *before = ql->qos;

	ql->qos = qos;
	if (!qos) {
		bl->gate &= ~(uint32_t)GATE_QOS;
		let_all_in(ql);
	} else {
		bl->gate |= GATE_QOS;
		for (unsigned d = 0; d < DIR_NONE; d++)
			if (ql->queues[d].bios.head)
				pay_for_first(ql, &ql->queues[d], before);
	}
	set_timer(ql);
}
