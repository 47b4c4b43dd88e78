/*
 * bio.h: one block request and the stack of frames it carries through the layers. Include bdev.h,
 * which includes this and the inline bodies.
 *
 * Invariants
 *  - A bio lives on one loop from submit to completion. It belongs to the caller before bio_submit
 *    and from its done callback on; in between it belongs to the core and the layer that holds it.
 *  - Each layer that the bio has entered has one frame: its bdev, its own offset, what to call on
 * the way up, and a few bytes of its own. A 1:1 layer forwards the same bio and allocates nothing.
 *  - Whoever holds a bio does exactly one of: bio_forward, bio_complete, bio_split_*, or keeps it
 *    (queued, waiting for an operation) to do one of them later, on the same loop.
 *  - A completion is queued and drained by the loop, never acted on in place, so the stack is
 * bounded and the order replayable.
 *  - All layers of one bio see the same length and block size. A layer that changes either, or that
 *    needs several requests below, uses children.
 *  - Data is a view: (iov, iovcnt, iov_skip_bytes) and the length that num_blocks implies. It is
 *    sliced, never copied; entries beyond the length are not touched.
 *  - At most BIO_FRAMES_MAX layers between two that split; the graph refuses a deeper stack.
 *  - Shortage (children, bounce buffers) queues in the core, which calls the given function again;
 *    no module has an out-of-memory branch on the data path.
 */
#pragma once

#include <sys/uio.h>

#include "base/base.h"
#include "loop/loop.h"

struct bdev;
struct bdev_handle;
struct bio;

enum bio_op {
	BIO_READ,
	BIO_WRITE,
	BIO_FLUSH,        /* all writes that completed before it was submitted become durable; range
	                     ignored */
	BIO_UNMAP,        /* contents become undefined until written: old data or zeroes */
	BIO_WRITE_ZEROES, /* reads as zeroes afterwards */
	BIO_COMPARE,      /* -EILSEQ when the data differs */
	BIO_RESET,        /* abort what can be aborted; whole device */
	BIO_BLOCK_STATUS, /* answers in bio->extent for the run that starts at the offset */
	/* Zoned bdevs only. */
	BIO_ZONE_APPEND, /* offset: of a zone; writes at its write pointer, answers where in
	                    bio->appended_at */
	BIO_ZONE_MGMT,   /* bio->zone_action on the zone that the range is; with BIO_ZONE_ALL on all
	                    zones in it that the action has a meaning for */
	BIO_ZONE_REPORT, /* answers in bio->zone_report: the zones that begin in the range */
	BIO_OPS,
};

enum bio_flags {
	BIO_FUA = 1 << 0,         /* write, write_zeroes: durable when complete */
	BIO_NO_UNMAP = 1 << 1,    /* write_zeroes: must not deallocate */
	BIO_STALE_OK = 1 << 2,    /* read: the buffer may be left as it is by a bdev that stores
	                             nothing, instead of being filled with zeroes: what is in it
	                             already belongs to the reader. A layer's own buffers never
	                             carry it on */
	BIO_META = 1 << 3,        /* the core's, of metadata: rate limits count it and let it pass,
	                             since a superblock that waits would fail its array */
	BIO_ZONE_ALL = 1 << 4,    /* zone management: see there */
	BIO_RANGE_OWNER = 1 << 7, /* see bio_set_range_owner */
};

/* What a bdev must be able to do for a bio, and what a bdev can (bdev->caps): one bit per
 * operation, and above them one per property. */
#define BIO_CAP(op) (1U << (op))
#define BIO_CAP_FUA (1U << 16)
#define BIO_CAPS_DATA                                                                              \
	(BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_FLUSH) | BIO_CAP(BIO_UNMAP) |        \
	        BIO_CAP(BIO_WRITE_ZEROES) | BIO_CAP(BIO_COMPARE) | BIO_CAP(BIO_RESET) |            \
	        BIO_CAP(BIO_BLOCK_STATUS))
#define BIO_CAPS_ALL (BIO_CAPS_DATA | BIO_CAP_FUA)
#define BIO_CAPS_ZONES                                                                             \
	(BIO_CAP(BIO_ZONE_APPEND) | BIO_CAP(BIO_ZONE_MGMT) | BIO_CAP(BIO_ZONE_REPORT))

typedef void (*bio_fn)(struct bio *bio);

#define BIO_FRAMES_MAX 16
#define BIO_DATA_MAX_BYTES (1U << 30) /* of one read, write or compare; also of iov_skip_bytes */
#define BIO_FRAME_CTX_BYTES 24

struct bio_frame {
	struct bdev *bdev;
	uint64_t offset_blocks; /* in this layer's address space */
	bio_fn done; /* what this layer wants called when the layer below is done; NULL: skip */
	union {      /* the core's */
		struct bdev_loop *loop_part; /* the bdev's for this loop; without: */
		void *bounce; /* buffer of bio_bounce; with its flag, as the next three */
	};
	uint8_t bounce_class, bounce_user;
	uint16_t bounce_rank;
	uint8_t epoch; /* the core's: which in-flight counter holds this frame */
	uint8_t flags; /* the core's */
	uint8_t step;  /* the layer's: state of a multi-step request, a named enum; 0 at entry */
	uint8_t tries; /* the layer's: retries so far; 0 at entry */
	uint64_t ctx[BIO_FRAME_CTX_BYTES / 8]; /* the layer's; see bio_ctx; not zeroed at entry */
};
_Static_assert(sizeof(struct bio_frame) == CACHE_LINE_BYTES, "a frame is one cache line");

struct bio_extent {
	uint64_t num_blocks; /* of the run, at least 1, at most what was asked */
	bool hole;           /* not allocated: reads as zeroes */
	bool zero;           /* reads as zeroes */
};

/* ---- zones ------------------------------------------------------------------------------------
 *
 * A zoned bdev consists of whole zones of geometry.zone_blocks, and has no limits on transfers,
 * boundaries or alignment, so that nobody takes its requests apart. It is written zone by zone: a
 * write begins at the write pointer of its zone and moves it on; to write again is to reset the
 * zone. States and transitions are those of the NVMe Zoned Namespace Command Set. What is above the
 * write pointer reads as zeroes.
 *
 * Writes and appends end with -EINVAL (not at the write pointer; for an append: not the start of a
 * zone), -ERANGE (past the zone's capacity), -ENOSPC (the zone is full), -EROFS (it is read-only),
 * -EIO (it is offline), -ETOOMANYREFS (no further zone may be open), -EOVERFLOW (nor active).
 * Reads of an offline zone end with -EIO. Management ends with -EINVAL (no zone, or the action is
 * not allowed in its state) or the last two. What is in flight together has no order, and appends
 * are for those who have many in flight. Range locks see an append as a write to where it began.
 */

enum zone_state {
	ZONE_EMPTY,
	ZONE_IMPLICIT_OPEN, /* by a write; closed when another needs its place */
	ZONE_EXPLICIT_OPEN,
	ZONE_CLOSED, /* written in part, not open; still active */
	ZONE_FULL,
	ZONE_READ_ONLY,
	ZONE_OFFLINE,
	ZONE_STATES,
};

/* From which states they are allowed; from those in brackets they change nothing. */
enum zone_action {
	ZONE_OPEN,    /* empty, implicitly open, closed (explicitly open) */
	ZONE_CLOSE,   /* open (closed) */
	ZONE_FINISH,  /* empty, open, closed (full) */
	ZONE_RESET,   /* open, closed, full (empty); waits for writes in flight */
	ZONE_RETIRE,  /* read-only becomes offline (offline) */
	ZONE_PROTECT, /* becomes read-only: what a worn device does by itself. All but offline */
	ZONE_ACTIONS,
};

struct bio_zone {
	uint64_t start_blocks, capacity_blocks;
	uint64_t write_pointer_blocks; /* start + capacity when it can't be written */
	enum zone_state state;
};

struct bio_zone_report {
	struct bio_zone *zones; /* the caller's, of max entries */
	uint32_t max, count;    /* count: the answer */
};

const char *zone_state_name(enum zone_state state);
const char *zone_action_name(enum zone_action action);

struct bio {
	struct loop_task task;   /* the core's queue link while it is below bio_submit; free for the
	                            owner otherwise */
	struct bio_frame *frame; /* of the layer that holds it */
	struct loop *loop;
	uint64_t num_blocks;
	const struct iovec *iov; /* the data view */
	uint32_t iovcnt;
	uint32_t iov_skip_bytes; /* of iov[0] onwards; may span entries */
	uint8_t op;              /* enum bio_op */
	uint8_t flags;           /* enum bio_flags */
	uint8_t check;           /* the core's: state in check builds */
	uint8_t zone_action;     /* enum zone_action: zone management only, set after bio_init */
	int32_t status;          /* 0 or -errno, valid on the way up */
	uint32_t need;           /* BIO_CAP bits, from op and flags */
	uint32_t loop_offset;    /* the core's: of this loop's part in bdev->loops, in bytes */
	uint64_t submit_ns;      /* loop_now_ns at submit */
	union {
		struct bio_extent extent;       /* BIO_BLOCK_STATUS only */
		struct loop_extent loop_extent; /* the same, while a backend asks loop.h */
		uint64_t appended_at;           /* BIO_ZONE_APPEND: first block, when it succeeds */
		struct bio_zone_report zone_report; /* BIO_ZONE_REPORT: set after bio_init */
	};
	bio_fn done;       /* the owner's */
	void *arg;         /* the owner's */
	struct iovec flat; /* of bio_replace_data; frames begin on a cache line behind it */
	struct bio_frame frames[BIO_FRAMES_MAX];
};
_Static_assert(offsetof(struct bio, frames) == 2 * CACHE_LINE_BYTES, "the head is two cache lines");

/* ---- for owners (targets, the core, jobs) ---------------------------------------------------- */

/*
 * Fills in a bio for one request. Only the head is written; frames are left as they are. The owner
 * embeds or pools its bios. The iov array and buffers must live until done. For operations without
 * data iov is NULL and iovcnt 0; for FLUSH and RESET offset and length are ignored (0, 0 is fine).
 */
static inline void bio_init(struct bio *bio, enum bio_op op, const struct iovec *iov,
        uint32_t iovcnt, uint64_t num_blocks, bio_fn done, void *arg)
{
	bio->op = (uint8_t)op;
	bio->flags = 0;
	bio->status = 0;
	bio->iov = iov;
	bio->iovcnt = iovcnt;
	bio->iov_skip_bytes = 0;
	bio->num_blocks = num_blocks;
	bio->done = done;
	bio->arg = arg;
	bio->check = 0;
}

/*
 * Lets the bio through the locked ranges of the bdev that it is submitted to (not of those below):
 * for the one who has locked the range that it lies in. After bio_init, before submit.
 */
static inline void bio_set_range_owner(struct bio *bio)
{
	bio->flags |= BIO_RANGE_OWNER;
}

/*
 * The one place that checks client input. Completes (queued, never in place) with -EINVAL (range
 * past the end, overflow, data shorter than the length or too long, bad flags), -EOPNOTSUPP, -EROFS
 * / -EBADF (handle opened read-only), -ENODEV (bdev gone), or the result. A zero-length data
 * operation is a success. FLUSH and RESET travel with offset and length 0. On any loop; the bio
 * stays on it.
 */
void bio_submit(struct bdev_handle *handle, struct bio *bio, uint64_t offset_blocks);

/* The same checks, for a module's own bios to a base that it has claimed, and for the core's:
 * without a handle, so nothing keeps the bdev but the caller's claim. */
void bio_submit_bdev(struct bdev *bdev, struct bio *bio, uint64_t offset_blocks);

/* ---- for layers ------------------------------------------------------------------------------ */

/* The bdev, and the offset in its address space, of the layer that holds the bio. */
static inline struct bdev *bio_bdev(const struct bio *bio)
{
	return bio->frame->bdev;
}

static inline uint64_t bio_offset(const struct bio *bio)
{
	return bio->frame->offset_blocks;
}

/* The layer's own bytes in its frame: struct my_ctx *c = bio_ctx(bio, struct my_ctx); */
#define bio_ctx(bio, type)                                                                         \
	({                                                                                         \
		_Static_assert(sizeof(type) <= BIO_FRAME_CTX_BYTES, "frame context too large");    \
		(type *)(void *)(bio)->frame->ctx;                                                 \
	})

/* The module's private part of the layer's bdev. */
static inline void *bdev_priv(const struct bdev *bdev);
#define bio_priv(bio, type) ((type *)bdev_priv(bio_bdev(bio)))

/*
 * Hands the bio to a bdev below. done (may be NULL: skip me on the way up) is called with
 * bio->status and with the frame of this layer on top again; it must end in bio_complete or another
 * step. The caller has made sure that the range lies within base.
 */
static inline void bio_forward(
        struct bio *bio, struct bdev *base, uint64_t offset_blocks, bio_fn done);

/* The layer that holds the bio is done with it. status is 0 or -errno. */
static inline void bio_complete(struct bio *bio, int status);
/* The same, as the last act of the layer's done, which the core has just called: the bio goes on
 * upward as soon as that returns, in place of waiting in the loop's queue once more. */
static inline void bio_complete_up(struct bio *bio, int status);

/*
 * Splitting, for 1:N layers:
 *
 *     if (!bio_split_begin(bio, n, my_submit))
 *             return;                 // short of children: the core calls my_submit(bio) again
 *     for (...)
 *             bio_split_add(bio, base, offset, num_blocks, skip_bytes, NULL);
 *     bio_split_end(bio, NULL);
 *
 * The calls follow each other without a return to the loop.
 * begin reserves n children (1 <= n <= BIO_SPLIT_MAX) or queues the parent; it holds a reference
 * until end, so the parent can't complete early. add submits a child for a slice of the parent's
 * data that starts skip_bytes into it (for operations without data: 0). Each child carries the
 * parent's op and flags. end gives the reference back; when all children are done, `done` is called
 * with the parent's status set to the first error in completion order, or the parent is completed
 * when done is NULL. The split uses the frame's ctx[0..1]; ctx[2] stays the layer's. A layer may
 * split again from done. again runs later on the loop; what it finds in the frame is what was
 * there, but for ctx[0..1]. A layer that calls begin again from `again` is first in line.
 */
#define BIO_SPLIT_MAX 64
#define BIO_CHILD_IOVS 16
bool bio_split_begin(struct bio *parent, unsigned n, bio_fn again) must_check;
/*
 * child_done (may be NULL) is called on the loop when the child is done, before it is counted; it
 * returns true to count it (with child->status as it then is), or false after it has started the
 * child again with bio_child_restart. Returns the child, valid until it completes, whose op, flags
 * and iov may not be changed any more; use bio_split_prepare for children that differ.
 */
typedef bool (*bio_child_fn)(struct bio *child);
void bio_split_add(struct bio *parent, struct bdev *base, uint64_t offset_blocks,
        uint64_t num_blocks, uint64_t skip_bytes, bio_child_fn child_done);
void bio_split_end(struct bio *parent, bio_fn done);
/*
 * The long form of add: a child with op, flags and data view as the parent's (at skip 0), to be
 * changed by the caller, then submitted with bio_child_submit. bio_child_iovs gives it an iov array
 * of its own (n <= BIO_CHILD_IOVS), which the caller fills.
 */
struct bio *bio_split_prepare(struct bio *parent, bio_child_fn child_done);
struct iovec *bio_child_iovs(struct bio *child, unsigned n);
void bio_child_submit(
        struct bio *child, struct bdev *base, uint64_t offset_blocks, uint64_t num_blocks);
void bio_child_restart(struct bio *child, struct bdev *base, uint64_t offset_blocks);
struct bio *bio_child_parent(const struct bio *child);
/* A word of the layer's own in each child, e.g. which member it went to. */
uint64_t *bio_child_tag(struct bio *child);

/*
 * For a mirror: begin, a child of the whole request for each of these bases (a bit per index of
 * bdev->bases), and end, in one call. add_blocks[index] is added to the offset; NULL: the children
 * have offset 0. failed (may be NULL) is a child_done that is called for errors only; the child's
 * tag is the index. False: as bio_split_begin.
 */
bool bio_split_mirror(struct bio *parent, uint64_t bases, const uint64_t *add_blocks,
        bio_child_fn failed, bio_fn done, bio_fn again) must_check;

/*
 * The same for parts that the layer gives to its own submit, where one request is several of the
 * kind that it serves at once: begin_own reserves n, add_own submits one for a slice of the
 * parent's data, bio_split_end ends. They enter past the gate and are not counted: the parent
 * stands for them. They have the parent's op and flags, a frame of their own, and may split (not
 * own again) and have a buffer.
 */
bool bio_split_begin_own(struct bio *parent, unsigned n, bio_fn again) must_check;
void bio_split_add_own(
        struct bio *parent, uint64_t offset_blocks, uint64_t num_blocks, uint64_t skip_bytes);

/*
 * Attaches a buffer of at least bytes (<= BIO_BOUNCE_MAX_BYTES), aligned to 4096, to the layer's
 * frame; it is freed when the frame pops. Returns NULL after queueing the bio, to call again(bio)
 * when there is one. One buffer per frame: asked for again it returns the one that is there.
 */
#define BIO_BOUNCE_MAX_BYTES (1024 * 1024)
void *bio_bounce(struct bio *bio, size_t bytes, bio_fn again) must_check;

/*
 * Shows the layers below this memory, which is as long as the data, in place of the caller's: for a
 * 1:1 layer that changes what is written. bio_restore_data, in the layer's done, gives the view
 * back. Between the two all of the frame's ctx is the core's. Layers on top of each other may both
 * do so.
 */
static inline void bio_replace_data(struct bio *bio, void *memory);
static inline void bio_restore_data(struct bio *bio);
/* bio_forward after bio_replace_data with the frame's buffer. Where the layers below have completed
 * the bio before this returns (null, malloc) the buffer is given back at once, and serves the next
 * request while it is in the cache: done, which calls bio_restore_data as ever, may not use it. */
static inline void bio_forward_bounced(
        struct bio *bio, struct bdev *base, uint64_t offset_blocks, bio_fn done);

/* Asks another operation of the layers below, e.g. a write for an append; the layer's done asks the
 * old one back. Flags stay. */
static inline void bio_change_op(struct bio *bio, enum bio_op op);

/* Length of the bio's data in bytes at the layer that holds it. */
static inline uint64_t bio_bytes(const struct bio *bio);

/* Copies between the bio's data view (from skip_bytes on) and flat memory. The range lies within
 * the data. */
void bio_copy_out(const struct bio *bio, uint64_t skip_bytes, void *dst, size_t len);
void bio_copy_in(struct bio *bio, uint64_t skip_bytes, const void *src, size_t len);
void bio_zero_data(struct bio *bio, uint64_t skip_bytes, size_t len);
/* 0, or -EILSEQ when the data differs from what is at `with`. */
int bio_compare_data(const struct bio *bio, uint64_t skip_bytes, const void *with, size_t len);

/*
 * What the core does for a bdev whose module lacks `missing` (BIO_CAP bits) for a bio: it serves it
 * by other operations, or refuses it. For a layer that holds the bio and finds out only then that
 * it can't do the operation. The frame's ctx, step and tries are the core's from here on.
 */
void bio_emulate(struct bio *bio, uint32_t missing);

/*
 * Builds a plain iovec array of the bio's data view (skip and end applied) into out[max]; returns
 * the number of entries, or 0 if max is too small. When the view is already exact it returns it
 * through *exact without copying.
 */
unsigned bio_iovs(
        const struct bio *bio, struct iovec *out, unsigned max, const struct iovec **exact);

const char *bio_op_name(enum bio_op op);
