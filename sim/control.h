/*
 * control.h: operations of the workload on the control loop. control.c has their choice and the
 * short ones, control_resize.c those that change sizes, control_graph.c those that change the
 * stack. State of one life.
 */
#pragma once

#include "bdev/qos.h"
#include "sim/io.h"

#define CTL_SLOTS 3
#define CTL_PATIENCE_NS (900 * NSEC_PER_SEC)
#define CTL_LAYERS_MAX 32

enum ctl_kind {
	CTL_RESIZE,
	CTL_PLAN,
	CTL_OUTSIDE,
	CTL_QUIESCE,
	CTL_RANGE,
	CTL_CREATE,
	CTL_DELETE,
	CTL_POLICY,
	CTL_OWN,
	CTL_SAVE,
	CTL_STATS,
	CTL_QOS,
	CTL_FAULT,
	CTL_REPLUG,
	CTL_RESTART,
	CTL_SIGNAL,
	CTL_CRASH,
	CTL_MEMBER,
	CTL_EXPORT, /* these are drawn apart: nbd_control.c */
	CTL_CONNECT,
	CTL_HANG_UP,
	CTL_KINDS
};

extern const char *const ctl_names[CTL_KINDS];

struct ctl_layer {
	char name[64];
	uint64_t old_blocks, new_blocks;
};

struct ctl {
	bool busy, alone;
	bool exact; /* new_blocks is given */
	enum ctl_kind kind;
	uint32_t op;
	struct rng rng;
	struct bdev *bdev; /* as it started; where disks may go, only its name is safe later */
	struct top *top;   /* held */
	char name[64];
	uint64_t started_ns;
	void (*then)(struct ctl *c);
	struct loop_timer timer;
	unsigned watch[1];
	struct bdev_range range;
	struct bdev_stats stats;
	struct bdev_qos_limits limits;
	struct sim_file *file;
	struct run_node *node;
	bool gave_up; /* a deletion was answered before it was done */
	/* a resize */
	uint64_t new_blocks;
	bool planned;
	int plan_code;
	unsigned num_layers;
	struct ctl_layer layers[CTL_LAYERS_MAX];
};

/* The given operation instead of a drawn one. */
void control_start_exact(uint32_t op, enum ctl_kind kind, struct bdev *bdev, uint64_t new_blocks);

void ctl_end(struct ctl *c);
/* Calls fn after so long. */
void ctl_after(struct ctl *c, uint64_t ns, void (*fn)(struct ctl *c));

/* Whether a handle keeps it there, or nothing takes it away: its disk may go, and so may one that
 * no client of ours has open when the daemon is told to stop. */
bool ctl_stays(const struct bdev *bdev);
/* Keeps c->bdev's handle, if a client of ours has one. */
void ctl_hold(struct ctl *c);
void ctl_release(struct ctl *c);
/* It was, whoever waits. */
bool ctl_is_gone(const struct ctl *c);
/* Whether the call was refused, as it may be when the disk has gone; then the operation is over. */
bool ctl_refused(struct ctl *c, const struct err *err);
/* Ends an operation that has c->bdev held, without limits. */
void ctl_lift_limits(struct ctl *c);

bool ctl_resizable(const struct bdev *bdev);
bool ctl_has_file(const struct bdev *bdev);
void ctl_start_resize(struct ctl *c);
void ctl_start_plan(struct ctl *c);
void ctl_start_outside(struct ctl *c);
void ctl_start_create(struct ctl *c);
void ctl_start_delete(struct ctl *c);
bool ctl_has_member(const struct bdev *bdev);
void ctl_start_member(struct ctl *c);
