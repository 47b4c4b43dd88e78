/*
 * delay.c: a bdev that answers late, for tests of what stands on it. A request that the base has
 * completed waits for the latency of its class; one in a hundred waits for the p99 latency.
 *
 * Per loop and class there is a queue in order of completion, and one timer for its head. All
 * requests of a class wait equally long, so the head is always due first.
 */
#include <errno.h>

#include "bdev/bdev.h"
#include "base/plant.h"
#include "rpc/rpc.h"

/* A latency that is lowered holds for what already waits after this time at the latest. */
#define RECHECK_NS (100 * NSEC_PER_MSEC)
#define LATENCY_MAX_US (UINT64_MAX / NSEC_PER_USEC / 4)

enum delay_class {
	AVG_READ,
	P99_READ,
	AVG_WRITE,
	P99_WRITE,
	DELAY_CLASSES,
};

/* Written on the control loop, read on every loop: one word each, and none depends on another. */
struct delay_bdev {
	uint64_t latency_us[DELAY_CLASSES];
};

struct delay_queue {
	struct loop_timer timer;
	struct delay_bdev *owner;
	struct loop_task *first, **last; /* bio->task */
	enum delay_class class;
};

struct delay_loop {
	struct delay_queue queues[DELAY_CLASSES];
};

struct delay_ctx {
	uint64_t completed_ns;
	struct delay_queue *queue;
};

static uint64_t latency_ns(const struct delay_bdev *d, enum delay_class class)
{
	return __atomic_load_n(&d->latency_us[class], __ATOMIC_RELAXED) * NSEC_PER_USEC;
}

static uint64_t due_ns(struct loop_task *task, const struct delay_queue *q)
{
	struct bio *bio = container_of(task, struct bio, task);

	return bio_ctx(bio, struct delay_ctx)->completed_ns + latency_ns(q->owner, q->class);
}

static void arm(struct delay_queue *q)
{
	struct loop *loop = loop_self();

	loop_timer_start(
	        loop, &q->timer, min_u64(due_ns(q->first, q), loop_now_ns(loop) + RECHECK_NS));
}

static void fire(struct loop_timer *timer)
{
	struct delay_queue *q = container_of(timer, struct delay_queue, timer);
	uint64_t now_ns = loop_now_ns(loop_self());

	while (q->first && due_ns(q->first, q) <= now_ns) {
		struct bio *bio = container_of(q->first, struct bio, task);

		q->first = bio->task.next;
		bio_complete(bio, bio->status);
	}
	if (q->first && !PLANT(DELAYED_FOREVER))
		arm(q);
	else if (!q->first)
		q->last = &q->first;
}

static void wait(struct bio *bio)
{
	struct delay_ctx *ctx = bio_ctx(bio, struct delay_ctx);
	struct delay_queue *q = ctx->queue;
	bool idle = !q->first;

	ctx->completed_ns = loop_now_ns(bio->loop);
	bio->task.next = NULL;
	*q->last = &bio->task;
	q->last = &bio->task.next;
	if (idle)
		arm(q);
}

/* Which of the two latencies, or none; chance is only asked when it matters. */
static void delay_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	struct delay_bdev *d = bdev->priv;
	enum delay_class class;

	switch ((enum bio_op)bio->op) {
	case BIO_READ:
	case BIO_COMPARE:
		class = AVG_READ;
		break;
	case BIO_WRITE:
	case BIO_WRITE_ZEROES:
	case BIO_ZONE_APPEND:
		class = AVG_WRITE;
		break;
	default:
		class = DELAY_CLASSES;
	}
	if (class == DELAY_CLASSES || (latency_ns(d, class) | latency_ns(d, class + 1)) == 0) {
		bio_forward(bio, bdev->bases[0], bio_offset(bio), NULL);
		return;
	}
	if (loop_random(bio->loop) % 100 == 0)
		class ++;
	if (latency_ns(d, class) == 0) {
		bio_forward(bio, bdev->bases[0], bio_offset(bio), NULL);
		return;
	}
	struct delay_loop *state = bdev_loop_state(bdev, bio->loop);

	bio_ctx(bio, struct delay_ctx)->queue = &state->queues[class];
	bio_forward(bio, bdev->bases[0], bio_offset(bio), wait);
}

/* No request has come yet, so the queues of every loop can be set up from here. */
static void delay_online(struct bdev *bdev, struct bdev_done done)
{
	for (unsigned i = 0; i < loops_count(); i++) {
		struct delay_loop *state = bdev->loops[i].state;

		for (unsigned c = 0; c < DELAY_CLASSES; c++) {
			struct delay_queue *q = &state->queues[c];

			q->timer.fire = fire;
			q->owner = bdev->priv;
			q->class = c;
			q->last = &q->first;
		}
	}
	bdev_done_call(done, NULL);
}

static json_t *delay_describe(const struct bdev *bdev)
{
	const struct delay_bdev *d = bdev->priv;
	char uuid[UUID_STR_LEN];

	uuid_unparse_lower(bdev->uuid, uuid);
	return json_pack("{s:{s:s, s:s, s:s, s:I, s:I, s:I, s:I}}", "delay", "name", bdev->name,
	        "base_bdev_name", bdev->bases[0]->name, "uuid", uuid, "avg_read_latency",
	        (json_int_t)d->latency_us[AVG_READ], "p99_read_latency",
	        (json_int_t)d->latency_us[P99_READ], "avg_write_latency",
	        (json_int_t)d->latency_us[AVG_WRITE], "p99_write_latency",
	        (json_int_t)d->latency_us[P99_WRITE]);
}

/* The second variant waits: short enough for a test, long enough to queue. */
static json_t *delay_example(const struct bdev_example *wanted)
{
	int us = wanted->variant ? 50 : 0;

	if (wanted->variant > 1)
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:s, s:i, s:i, s:i, s:i}}]", "method", "bdev_delay_create",
	        "params", "name", wanted->name, "base_bdev_name", wanted->bases[0],
	        "avg_read_latency", us, "p99_read_latency", 2 * us, "avg_write_latency", us,
	        "p99_write_latency", 2 * us);
}

/* ---- bdev_delay_update_latency ----------------------------------------------------------------
 */

struct update_params {
	char *delay_bdev_name;
	int latency_type;
	uint64_t latency_us;
};

static const char *const class_names[] = {"avg_read", "p99_read", "avg_write", "p99_write", NULL};

static const struct param update_table[] = {
        {PARAM(struct update_params, delay_bdev_name, PARAM_STRING), .required = true,
                .help = "a delay bdev"},
        {PARAM(struct update_params, latency_type, PARAM_ENUM), .required = true,
                .values = class_names, .help = "which latency"},
        {PARAM(struct update_params, latency_us, PARAM_U64), .required = true,
                .max = LATENCY_MAX_US, .unit = "us",
                .help = "the new latency; holds at once for new requests, and within 100 ms for "
                        "those that wait"},
        {0},
};

static void update_handler(struct rpc_request *request, void *params)
{
	const struct update_params *p = params;
	struct bdev *bdev = bdev_find(p->delay_bdev_name);

	if (!bdev) {
		rpc_fail(request, RPC_INVALID_PARAMS, "there is no bdev '%s'", p->delay_bdev_name);
		return;
	}
	if (bdev->module->submit != delay_submit) {
		rpc_fail(request, RPC_INVALID_REQUEST, "'%s' is a %s bdev, not a delay bdev",
		        bdev->name, bdev->module->name);
		return;
	}
	struct delay_bdev *d = bdev->priv;

	__atomic_store_n(&d->latency_us[p->latency_type], p->latency_us, __ATOMIC_RELAXED);
	rpc_reply(request, NULL);
}

static const struct rpc_method delay_methods[] = {
        {
                .name = "bdev_delay_update_latency",
                .summary = "change one of the latencies of a delay bdev",
                .result_help = "true",
                .params = update_table,
                .params_bytes = sizeof(struct update_params),
                .handler = update_handler,
        },
        {0},
};

#define LATENCY_PARAM(text, class, what)                                                           \
	{                                                                                          \
		PARAM_NAMED(text, struct delay_bdev, latency_us[class], PARAM_U64),                \
		        .required = true, .max = LATENCY_MAX_US, .unit = "us", .help = what        \
	}

static const struct param delay_params[] = {
        LATENCY_PARAM("avg_read_latency", AVG_READ, "added to 99 of 100 reads"),
        LATENCY_PARAM("p99_read_latency", P99_READ, "added to one of 100 reads"),
        LATENCY_PARAM("avg_write_latency", AVG_WRITE, "added to 99 of 100 writes"),
        LATENCY_PARAM("p99_write_latency", P99_WRITE, "added to one of 100 writes"),
        {0},
};

static struct bdev_module delay_module = {
        .name = "delay",
        .product_name = "delay",
        .summary = "answers later than its base, by chosen latencies",
        .bases_min = 1,
        .bases_max = 1,
        .priv_bytes = sizeof(struct delay_bdev),
        .params = delay_params,
        .loop_state_bytes = sizeof(struct delay_loop),
        .keeps_zones = true,
        .methods = delay_methods,
        .submit = delay_submit,
        .online = delay_online,
        .describe = delay_describe,
        .example = delay_example,
};
BDEV_MODULE(delay_module);
