/*
 * control.h: what the files of the control half share. The data-path half sees core.h only.
 *
 * Invariants
 *  - Everything here runs on the control loop. No function calls back into its caller: what is to
 *    happen later is a task of the loop, so stacks stay shallow however long a chain of bdevs is.
 *  - A bdev is freed by removal_finish only, and only when it has no parent, no handle, no pending
 *    call (bdev_graph.pending) and no bio in flight.
 *  - Claims are base slots: a slot with a base stands in that base's list of parents.
 *  - One job of the queue (a resize, the appearance of a new bdev, a member attached) runs at a
 *    time, so a plan never meets another one half done. Removal is not a job: a disk that goes
 *    asks nobody. It disturbs the running transaction, which then stops at its next step.
 */
#pragma once

#include "bdev/core.h"

#define BDEV_FRAMES_MAX BIO_FRAMES_MAX

/* ---- graph ---- */

enum slot_state {
	SLOT_EMPTY,     /* no base; if there is an expected name, one that returns is offered */
	SLOT_COMING,    /* claimed; on its way into bases[], or base_returned runs */
	SLOT_HELD,      /* claimed and in bases[] */
	SLOT_ASKED,     /* base_lost runs */
	SLOT_LET_GO,    /* the module uses the base no longer */
	SLOT_DETACHING, /* the parent is being quiesced to take the base out of bases[] */
};

/* One base of a bdev. Lives as long as the bdev. */
struct base_slot {
	struct list link; /* in base->graph->parents while there is a base */
	struct bdev *parent, *base;
	unsigned index;
	enum slot_state state;
	bool forget;              /* taken out on purpose: not offered when it returns */
	struct bdev_done done;    /* of who takes it out on purpose */
	char name[BDEV_NAME_MAX]; /* of the base that is or was there; "": nobody is expected */
	uuid_t uuid;
};

enum entry_state {
	ENTRY_OPEN,
	ENTRY_CLOSING,
	ENTRY_CLOSED
};

struct removal {
	struct loop_task pump; /* one look at what is left to do */
	bool pump_queued;
	bool hot;               /* the storage is gone */
	bool silent;            /* it never was visible */
	bool rewait;            /* its creation waits for the base again */
	bool destroying;        /* the module's destroy has been called */
	enum entry_state entry; /* for bios */
	struct loop_timer timer;
	struct list waiters;
	char why[BDEV_WHY_MAX];
};

struct name_entry {
	struct list link; /* in the bucket */
	struct bdev *bdev;
	char *text;
};

struct bdev_graph {
	struct bdev *bdev;
	struct list handles;      /* of bdev_handle */
	struct list parents;      /* of base_slot */
	struct base_slot **slots; /* [num_bases] */
	struct base_slot *adding; /* behind the last; on its way, or NULL */
	struct name_entry *name;
	struct name_entry **aliases; /* [0] is the UUID text */
	unsigned num_aliases;
	struct list problems;
	unsigned pending;          /* calls into its module, and jobs of ours, that are not over */
	uint64_t visited;          /* stamp of the last walk that met it */
	unsigned place;            /* in that walk's array */
	uint64_t sequence;         /* order of creation */
	struct bdev_spec *spec;    /* what it was created from; params stand in priv */
	struct waiting *reserved;  /* a creation that waits for further bases */
	struct creation *creation; /* while BDEV_CREATING */
	struct examining *examining;
	struct removal removal;
	struct bdev_handle meta; /* for metadata; in no list */
	bool storage_unsettled;  /* the module was to change the storage's length and did not say
	                            done */
	bool hold_wanted;        /* policy; held_blocks follows when the queue has come to it */
	uint64_t hold_at_blocks; /* the most that it is then held at; 0: its size at that moment */
	bool persist_owed;       /* it shows a size that it could not write */
	bool growth_refused;     /* its storage has grown and somebody refused */
	bool prepared;           /* the module's create has been called, or could have been */
	bool examine_owed;       /* it appeared while it was spoken for */
	bool made;               /* bdev_loops_create has been called */
};

struct bdev_core {
	bool started, stopping;
	struct list all;       /* visible and withering ones, in order of registration */
	struct list creations; /* running ones */
	unsigned alive;        /* bdevs that are not freed, in whatever state */
	uint64_t stamp;
};
extern struct bdev_core bdevs;

/* A new number for marking what a walk has met. */
uint64_t graph_stamp(void);
void graph_claim(struct base_slot *slot, struct bdev *base);
void graph_release(struct base_slot *slot);
/* May a holder that belongs to module (NULL: a target) open it for writing? */
int graph_may_write(const struct bdev *bdev, const struct bdev_module *module, struct err *err);
/* May a new bdev of this module stand on base? waiting: for whom a reservation doesn't count. */
int graph_may_claim(const struct bdev *base, const struct bdev_module *module,
        const struct waiting *waiting, struct err *err) must_check;
/* rank and frames as its bases make them. 0, -EMLINK when that is too deep. */
int graph_depth(const struct bdev *bdev, unsigned *rank, unsigned *frames, struct err *err);
bool graph_stands_on(const struct bdev *bdev, const struct bdev *base);
/* "passthru 'P0'". */
#define BDEV_LABEL_MAX (BDEV_NAME_MAX + 64)
const char *graph_label(const struct bdev *bdev, char *buf, size_t size);
/* The bdev and everything above it that is online, lowest rank first. The caller frees. */
struct bdev **graph_above(struct bdev *bdev, unsigned *count);
/* In order of rank, those of one rank in order of creation. */
void graph_sort(struct bdev **list, unsigned count);

/* ---- names ---- */

/* 1..255 bytes, no control characters. */
int name_check(const char *what, const char *name, struct err *err) must_check;
/* Whoever has this name, alias or UUID, in whatever state. */
struct bdev *name_owner(const char *text);
/* Free for a new bdev? -EEXIST says who has it. */
int name_is_free(const char *text, struct err *err) must_check;
struct name_entry *name_add(struct bdev *bdev, const char *text);
void name_remove(struct name_entry *entry);

/* ---- steps: calls with a deadline ---- */

/*
 * Begins one call of an asynchronous slot of bdev (what: "persist"). The result is to be handed to
 * the slot. fn(arg, err) is called exactly once, later, from the loop: with the slot's answer, or
 * with -ETIMEDOUT when options.step_timeout_ms have passed. A later answer is ignored, but the
 * bdev isn't destroyed before it has come.
 */
struct bdev_done step_begin(struct bdev *bdev, const char *what, bdev_done_fn fn, void *arg);
/* The same; late(bdev) is called when the answer comes after the deadline. */
struct bdev_done step_begin_late(struct bdev *bdev, const char *what, bdev_done_fn fn, void *arg,
        void (*late)(struct bdev *bdev));
#define CALL_PERSIST "writing its metadata"
#define CALL_RESIZE "resizing its storage"
/* Whether such a call has passed its deadline and is not answered yet: no other is made beside it.
 */
bool step_hangs(const struct bdev *bdev, const char *what);
/* A copy of geometry that lives as long as the call. */
const struct bdev_geometry *step_keep_geometry(
        struct bdev_done done, const struct bdev_geometry *geometry);
/* bdev_quiesce with a deadline; after a late answer it is undone. */
void step_quiesce(struct bdev *bdev, bdev_done_fn fn, void *arg);
/* Our own work on a bdev that removal has to wait for. */
void bdev_hold(struct bdev *bdev);
void bdev_unhold(struct bdev *bdev);
/* Runs fn(arg) soon from the loop. */
void run_later(void (*fn)(void *arg), void *arg);

/* ---- job queue ---- */

struct job {
	struct list link;
	void (*run)(struct job *job); /* ends in job_done, now or later */
};
void job_queue(struct job *job);
void job_done(struct job *job);
bool jobs_idle(void);

/* ---- geometry ---- */

/*
 * The geometry that bdev derives from these bases (num_bases entries; zeroed: missing) and its own
 * size. Pure. Applies hold, default texts and the checks. 0, or the reason why there is none. With
 * fact, hold gives way. bases[i].why is not looked at.
 */
int geometry_derive(const struct bdev *bdev, const struct bdev_geometry *bases, uint64_t own_blocks,
        bool fact, struct bdev_geometry *out, struct err *err) must_check;
/* The same with another number of bases: for one more. */
int geometry_derive_with(const struct bdev *bdev, const struct bdev_geometry *bases,
        unsigned num_bases, uint64_t own_blocks, bool fact, struct bdev_geometry *out,
        struct err *err) must_check;
/* From the bases as they are published. */
int geometry_now(const struct bdev *bdev, uint64_t own_blocks, struct bdev_geometry *out,
        struct err *err) must_check;
/* All but why. */
bool geometry_equal(const struct bdev_geometry *a, const struct bdev_geometry *b);
/* "10 GiB (20971520 blocks)". */
#define BLOCKS_TEXT_MAX 80
const char *blocks_text(char *buf, size_t size, uint64_t blocks, uint32_t block_bytes);

/* ---- creation, waiting, examine ---- */

/* 0, or what is wrong with it (-EINVAL, -EEXIST, -ENOSPC). Doesn't look at the bases themselves. */
int spec_check(const struct bdev_spec *spec, struct err *err) must_check;
size_t spec_aliases(const struct bdev_spec *spec);
struct bdev_spec *spec_copy(const struct bdev_spec *spec);
/* Gives the copy a copy of the params. */
void spec_take_params(struct bdev_spec *spec, const void *params);
/* Frees the copy, and what its params point to, if it has any. */
void spec_free(struct bdev_spec *spec);
/* Another base stands in this slot; NULL: none. */
void spec_set_base(struct bdev_spec *spec, unsigned index, const char *name);
/* One base more. */
void spec_add_base(struct bdev_spec *spec, const char *name);
/* The given UUID, or one that is made up. */
void spec_make_uuid(const struct bdev_spec *spec, struct bdev *const *bases, uuid_t out);

/* Creates from a copy that it takes over; waiting is the reservation to be used up, or NULL. */
void creation_start(
        struct bdev_spec *spec, struct waiting *waiting, bdev_created_fn done, void *arg);
/* One of its bases is going. */
void creation_cancel(struct creation *creation, const struct bdev *base);
void creations_cancel_all(void);

/* Takes over spec. */
void waiting_add(struct bdev_spec *spec);
const char *waiting_name(const struct waiting *waiting);
const struct bdev_module *waiting_module(const struct waiting *waiting);
/* -EEXIST when a waiting creation has this name. */
int waiting_name_is_free(const char *name, struct err *err) must_check;
/* A bdev is visible: creations that wait for it proceed, or reserve it. */
void waiting_bdev_appeared(struct bdev *bdev);
void waiting_bdev_going(struct bdev *bdev);
void waiting_drop_all(void);
/* bdev_wait_for. */
void wait_for_appeared(struct bdev *bdev);
void wait_for_drop_all(void);

void examine_bdev(struct bdev *bdev);
/* What bdev_wait_for_examine waits for beside examine itself. */
void examine_hold(void);
void examine_unhold(void);
bool examine_idle(void);
void examine_forget_all(void);

/* ---- bases that go and come
 * ---------------------------------------------------------------------- */

/* An empty slot of bdev, in no list. */
struct base_slot *base_slot_new(struct bdev *bdev, unsigned index);
/* Asks the module to let go of the base; the slot becomes LET_GO, or the parent is removed. */
void base_ask(struct base_slot *slot);
/* Takes a base that was let go of out of bases[] and gives the claim back. */
void base_take_out(struct base_slot *slot);
/* Both, on purpose, for a base that stays. */
void base_detach(struct base_slot *slot, bool forget, struct bdev_done done);
/* A bdev is visible: offered to those who miss it. */
void base_appeared(struct bdev *bdev);

/* ---- removal ---- */

struct removal_cause {
	bool hot, silent, rewait;
	const char *why;
};
void removal_start(struct bdev *bdev, const struct removal_cause *cause);
/* done (fn may be NULL) when it is gone, or with an error after the deadline. */
void removal_wait(struct bdev *bdev, struct bdev_done done);
/* Something that removal may wait for has happened. */
void removal_poke(struct bdev *bdev);

/* ---- resize ---- */

enum resize_kind {
	RESIZE_USER,     /* the user chose another size */
	RESIZE_DRY,      /* the same as a question */
	RESIZE_STORAGE,  /* the storage has another size */
	RESIZE_GEOMETRY, /* derive again, asking */
	RESIZE_FACT,     /* derive again; what shrinks isn't asked */
};
void resize_queue(enum resize_kind kind, struct bdev *bdev, uint64_t own_blocks,
        resize_done_fn done, void *arg);
/* The bdev is going: the running transaction stops at its next step; queued ones fail. */
void resize_bdev_going(struct bdev *bdev);
/* A handle is being closed: its answer is no longer waited for. */
void tell_handle_closed(struct bdev_handle *handle);

void problems_free(struct bdev *bdev);
void events_stop(void);
/* A text that may have been cut within a character: what isn't UTF-8 becomes '?'. */
json_t *event_text(const char *text);
/* Something that bdev_stop may wait for is over. */
void life_poke(void);
