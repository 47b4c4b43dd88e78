/*
 * transaction.h: what the files of a resize share. docs/how-a-resize-travels.md tells the story.
 *
 * Invariants
 *  - A transaction is a job: one at a time. Its layers are held, so that none of them is freed
 *    before it ends; one that is being removed is skipped, or stops it.
 *  - Layers stand in order of rank. At every moment no layer is larger than what backs it, so the
 *    transaction may stop between any two steps.
 *  - Whoever holds a layer is told after everything that could be published is, also when the
 *    transaction stopped half way.
 */
#pragma once

#include "bdev/control.h"

/* What is done with a layer. */
enum fate {
	FATE_FOLLOW,
	FATE_LOSE,   /* it lets go of the bases that have become too small */
	FATE_REMOVE, /* it can't be with what is left */
};

struct layer {
	struct bdev *bdev;
	struct bdev_geometry planned;
	uint64_t old_blocks;
	enum fate fate;
	struct err refused;
	bool changes, grows, shrinks;
	bool keep_quiet; /* it grows while a base shrinks: no bio may be in it meanwhile */
	bool asked_quiet, quiesced, persisted, published;
	unsigned told, untold; /* clients */
};

enum phase {
	PHASE_STORAGE_GROW, /* the module makes the storage longer */
	PHASE_DROP,         /* facts only: what can't follow goes or lets go */
	PHASE_SHRINK,       /* parents first */
	PHASE_GROW,         /* bases first; and whatever else changes */
	PHASE_STORAGE_SHRINK,
	PHASE_TELL,
	PHASE_END,
};

struct transaction {
	struct job job;
	struct list link; /* in the list of all */
	enum resize_kind kind;
	bool fact; /* nobody is asked; what fails does not stop it */
	bool started;
	struct bdev *bdev; /* the origin; NULL: it went before the start */
	char name[BDEV_NAME_MAX];
	char cause[BDEV_WHY_MAX]; /* for events: what led to it */
	uint64_t own_blocks;
	bool own_kept; /* own_blocks is what it has when its turn comes */
	resize_done_fn done;
	void *arg;
	uint64_t start_ns;
	uint64_t stamp; /* of the holders that were asked */
	struct layer *layers;
	unsigned num_layers;
	struct err err;
	/* the commit */
	enum phase phase;
	unsigned at;    /* layer, counted in the order of the phase */
	bool committed; /* something was changed */
	bool disturbed; /* stopped, as a layer was removed meanwhile */
	bool storage_done;
	/* telling */
	struct list tells;
	struct loop_timer timer;
};

/* resize_plan.c: fills in the layers, from published state alone; no effect. */
void transaction_plan(struct transaction *t);
/* resize_ask.c: asks all who may refuse. Fills in refused, and err with the first reason. */
void transaction_ask(struct transaction *t);
/* Asks the holders of one layer that have come since. */
void transaction_ask_holders(struct transaction *t, struct layer *layer);
/* resize_commit.c */
void transaction_commit(struct transaction *t);
/* resize_tell.c */
void transaction_tell(struct transaction *t);
/* resize.c */
void transaction_end(struct transaction *t);

static inline bool layer_lives(const struct layer *layer)
{
	return layer->bdev->state == BDEV_ONLINE;
}
