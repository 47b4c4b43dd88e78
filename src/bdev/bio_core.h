/*
 * bio_core.h: what the files of the data path share. Nobody else includes it.
 *
 * Every struct here belongs to one loop and is touched on that loop only, except struct
 * gate_control, which is the control loop's.
 */
#pragma once

#include "bdev/core.h"
#include "bdev/counts.h"
#include "bdev/qos.h"

/* A FIFO of bios, linked by bio->task. */
struct bio_queue {
	struct loop_task *head, **tail;
};

static inline void bio_queue_init(struct bio_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static inline void bio_queue_push(struct bio_queue *q, struct bio *bio)
{
	bio->task.next = NULL;
	*q->tail = &bio->task;
	q->tail = &bio->task.next;
}

static inline struct bio *bio_queue_first(const struct bio_queue *q)
{
	return q->head ? container_of(q->head, struct bio, task) : NULL;
}

static inline struct bio *bio_queue_pop(struct bio_queue *q)
{
	struct bio *bio = bio_queue_first(q);

	if (bio) {
		q->head = bio->task.next;
		if (!q->head)
			q->tail = &q->head;
	}
	return bio;
}

/* The topmost frame's own work is done: asks its done whether the bio goes on upward (NULL: yes),
 * and lets it, at once. Never from within a submission. */
void bio_up_from(struct bio *bio, bio_fn done);

/* ---- pools --------------------------------------------------------------------------------------
 */

/*
 * Children and bounce buffers of one loop, for one rank. The core's own needs at a rank are served
 * from a pool apart: it splits above the module of the same bdev. So are the parts that a module
 * gives to itself. So whoever holds something of a pool waits only for pools further down (CORE,
 * OWN, MODULE, then the next rank's), and the lowest waits for nobody.
 */
enum pool_user {
	POOL_MODULE,
	POOL_CORE,
	POOL_OWN, /* of bio_split_begin_own: between the two */
	POOL_USERS
};

#define BOUNCE_CLASSES 5 /* 4 KiB, 16 KiB, ... 1 MiB */
#define BOUNCE_SHIFT_MIN 12
#define BOUNCE_POOL_BYTES (8 * BIO_BOUNCE_MAX_BYTES)

struct bio_child {
	/* One line, just before those of the bio that are used most. */
	struct bio *parent;
	bio_child_fn fn;
	uint64_t tag;
	struct bio_pool *pool;
	struct bio_child *next_free;
	struct bio bio cache_aligned;
	struct iovec iovs[BIO_CHILD_IOVS];
};

/* Who waits has its `again` in its frame's done. */
struct bio_pool {
	struct bio_child *free, *unused, *end; /* LIFO; then what was never touched */
	uint32_t available;                    /* neither out nor reserved */
	uint32_t total;
	struct bio_queue split_waiters;
	struct bio *first; /* whose `again` is running: it may pass the others */

	void *buffers[BOUNCE_CLASSES]; /* free ones, linked by their first word */
	size_t bounce_bytes;           /* allocated, free ones included */
	size_t bounce_used_bytes;
	struct bio_queue bounce_waiters;
	struct buffer_stats stats[BUFFERS_SIZES];

	struct loop_task wake;
	bool waking;
	uint8_t user;
	uint16_t rank;
	void *slab;
} cache_aligned;

/* The pool of a loop; made, for all loops, when the rank is new. Control loop. */
struct bio_pool *bio_pool_get(unsigned rank, enum pool_user user, unsigned loop_id);

static inline struct bio_child *bio_pool_take_child(struct bio_pool *pool)
{
	struct bio_child *child = pool->free;

	if (likely(child != NULL)) {
		pool->free = child->next_free;
	} else {
		BELLOWS_ASSERT(pool->unused < pool->end);
		child = pool->unused++;
		child->pool = pool;
	}
	return child;
}
void bio_pool_put_child(struct bio_pool *pool, struct bio_child *child);
/* Reserves n children, or queues the bio. */
bool bio_pool_reserve(struct bio_pool *pool, struct bio *bio, unsigned n, bio_fn again);
void bio_pool_unreserve(struct bio_pool *pool, unsigned n);
/* bio_bounce from a given pool. */
void *bio_bounce_from(struct bio_pool *pool, struct bio *bio, size_t bytes, bio_fn again);
/* The frame pops. */
void bio_bounce_free(struct bio *bio, struct bio_frame *frame);

/* ---- splitting ----------------------------------------------------------------------------------
 */

/* The split's part of the frame's ctx. While the parent waits for children, left says how many. */
struct bio_split {
	bio_fn done;
	uint32_t refs; /* children out, plus one until bio_split_end */
	uint32_t left; /* reserved, not yet taken */
};
_Static_assert(sizeof(struct bio_split) == 16, "ctx[2] stays the layer's");

static inline struct bio_split *bio_split_of(struct bio_frame *frame)
{
	return (struct bio_split *)(void *)frame->ctx;
}

/* bio_split_begin with the core's pool. */
bool bio_split_begin_core(struct bio *parent, unsigned n, bio_fn again) must_check;
/* The child's data is the parent's from skip_bytes on. */
void bio_child_slice(struct bio_child *child, const struct bio *parent, uint64_t skip_bytes);
/* Gives a child of the core to the module of the parent's own bdev: past its gate, not counted. */
void bio_child_submit_here(struct bio_child *child, uint64_t offset_blocks, uint64_t num_blocks);

static inline struct bio_child *bio_child_of(struct bio *child)
{
	return container_of(child, struct bio_child, bio);
}

#define OPS_WITH_DATA                                                                              \
	(BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_COMPARE) | BIO_CAP(BIO_ZONE_APPEND))
#define OPS_THAT_WRITE                                                                             \
	(BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_UNMAP) | BIO_CAP(BIO_WRITE_ZEROES) |                     \
	        BIO_CAP(BIO_ZONE_APPEND) | BIO_CAP(BIO_ZONE_MGMT))
#define OPS_THAT_ANSWER (BIO_CAP(BIO_BLOCK_STATUS) | BIO_CAPS_ZONES) /* so not for 0 blocks */
#define OPS_WITHOUT_RANGE (BIO_CAP(BIO_FLUSH) | BIO_CAP(BIO_RESET))

static inline uint32_t bio_need(const struct bio *bio)
{
	return BIO_CAP(bio->op) | (bio->flags & BIO_FUA ? BIO_CAP_FUA : 0);
}

/* ---- the way in and out -------------------------------------------------------------------------
 */

/* What GATE_LIMITS stands for, from the geometry. */
struct bio_limits {
	uintptr_t address_mask, len_mask; /* bits that must be 0 in data */
	uint32_t max_transfer_blocks;     /* 0: any */
	uint32_t boundary_blocks;         /* 0: none */
	bool write_cache;
	bool read_only;
	bool check_range;
};

struct locked_range {
	uint64_t offset_blocks, end_blocks;
	const struct bdev_range *id;
};

struct gate_ack;
struct gate_control;
struct loop_histogram;

/* One limit, shared by all loops. */
struct qos_rule {
	uint64_t per_sec; /* operations or bytes */
	uint64_t next;    /* when who comes next may enter, in ticks */
} cache_aligned;

/* All limits. Constant: a change makes a new one, which has the rules that stay. */
struct qos {
	struct qos_rule *rules[QOS_LIMITS]; /* NULL: no limit */
	struct bdev_qos_limits limits;      /* as they were set */
};

#define QOS_COSTS 4 /* a request is subject to so many limits */

/* What waits for its rate, in order of arrival; reads do not wait for writes. */
struct qos_queue {
	struct bio_queue bios;
	uint64_t due[QOS_COSTS]; /* when the first may enter, by each limit; it has paid */
};

struct qos_loop {
	struct qos *qos; /* NULL: no limits; shared by all loops */
	struct qos_queue queues[2];
	struct loop_timer timer;
	struct bdev_loop *bl;
};

struct bdev_slow {
	struct bdev *bdev;
	struct bio_limits limits;
	struct bio_pool *pools[POOL_USERS];
	struct bio_queue queue; /* bios that wait at the gate; frame + 1 says where to */
	struct locked_range *ranges;
	unsigned num_ranges, max_ranges;
	struct gate_ack *drain;           /* with GATE_DRAIN: sent when the old counter is 0 */
	struct loop_histogram *histogram; /* with GATE_HISTOGRAM */
	struct qos_loop qos;
	struct gate_control *control; /* control loop only; the same for all loops */
};

/* Fails a bio that has not entered the bdev it was sent to: its sender is told. */
void bio_refuse(struct bio *bio, int status);
/* Whether a bio that holds its frame has memory that the module can use. */
bool bio_is_aligned(const struct bio *bio, const struct bio_limits *limits);
/* Whether it is within all limits. */
bool bio_fits(const struct bio *bio, const struct bio_limits *limits);

/* ---- rate limits --------------------------------------------------------------------------------
 */

/* A bio that the gate lets in pays for its place. True: it waits here, and enters later. */
bool qos_queued(struct bdev_loop *bl, struct bio *bio, uint64_t offset_blocks);
/* Lets in whose turn has come; when the bdev is going, everybody. */
void qos_run(struct bdev_loop *bl);
void qos_loop_init(struct bdev_loop *bl);
/* From now on this loop keeps to these limits, also with what waits; NULL: to none. */
void qos_loop_set(struct bdev_loop *bl, struct qos *qos);
/* In the unit of qos_rule.next. */
uint64_t qos_now(void);
/* No bio waits. Frees what the loops share. */
void qos_destroy(struct bdev *bdev);
/* Enters a bio that waited at the gate or for its rate; paid: it waits for no rate any more. */
void bio_enter_again(struct bio *bio, struct bdev_loop *bl, uint64_t offset_blocks, bool paid);
/* Notes in the frame that the bio would take where it wants to go, and whether it has paid. */
void bio_note_way(struct bio *bio, uint64_t offset_blocks, bool paid);

/* ---- gate and statistics --------------------------------------------------------------------- */

/* The control loop's part of a bdev's gate. */
struct gate_control *gate_control_create(struct bdev *bdev);
void gate_control_destroy(struct gate_control *control);
/* done when no bio that enters before now is in flight. Control loop. */
void bdev_gate_flush_out(struct bdev *bdev, struct bdev_done done);
/* The old counter has become 0 under GATE_DRAIN. */
void bdev_gate_drained(struct bdev_loop *bl);
/* The bdev is closing: waits that begin now end at once. Control loop. */
bool bdev_gate_closing(const struct bdev *bdev);
/* Ends such a wait: -ENODEV, and why. */
void bdev_gate_refuse(const struct bdev *bdev, struct bdev_done done);
void bdev_histogram_count(struct bdev_loop *bl, const struct bio *bio, uint64_t latency_ns);
/* NULL is fine. */
void loop_histogram_free(struct loop_histogram *histogram);
