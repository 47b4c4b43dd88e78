/*
 * gpt.h: what the parts of the gpt module share: partitions of a disk, each a bdev.
 *
 * Invariants
 *  - A partition never moves: number, start and the disk it is on are settled when its bdev is
 *    made. Its length changes only when the table on disk has it durably.
 *  - A struct gpt_disk lives while it has partitions or works; it is listed as long. All on the
 *    control loop.
 *  - Whoever reads or writes a table does it by a job, whose handle keeps the disk there.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "vbdev/gpt/gpt_plan.h"

/* ---- gpt.c: partitions ---- */

struct gpt_disk;

/* The private part of each partition's bdev; its head is the spec's params. */
struct gpt_part {
	struct gpt_disk *disk;
	unsigned number;
	uint64_t start_blocks;
	uint64_t num_blocks; /* control loop */
	uuid_t type, guid;
	char name[GPT_NAME_MAX];
};

extern struct bdev_module gpt_module;
/* The types of partitions that are shown: those that the reference shows. [0] is the present one.
 */
#define GPT_TYPES 2
extern const uuid_t gpt_types[GPT_TYPES];
/* By option: all types. */
extern bool gpt_all_partitions;

/* ---- gpt_job.c: reading and writing tables ---- */

struct gpt_job;
typedef void (*gpt_job_fn)(struct gpt_job *job, const struct err *err);

struct gpt_job {
	struct bdev *bdev;      /* stays until close */
	struct gpt_found found; /* after a read */
	struct gpt_plan plan;   /* for a write */
	void *arg;              /* the owner's */

	/* gpt_job.c's */
	struct bdev_handle *handle;
	gpt_job_fn done;
	struct gpt_copy *copy;                  /* that is being read */
	uint64_t places[GPT_BACKUP_PLACES_MAX]; /* where the backup may be */
	unsigned num_places, next_place, next_write;
	uint64_t lba;
	void *block;
};

#define GPT_READER "partition table, being read"
#define GPT_WRITER "partition table, being written"
enum gpt_job_kind {
	GPT_EXAMINE, /* reads while the core keeps the bdev there, because it is examined */
	GPT_READ,
	GPT_WRITE, /* nobody but partitions may stand on it, and it does not shrink meanwhile */
};
int gpt_job_open(struct bdev *bdev, enum gpt_job_kind kind, struct gpt_job **out,
        struct err *err) must_check;
/* Reads both copies. done's error is one of the disk; without a table found.used is NULL. */
void gpt_job_read(struct gpt_job *job, gpt_job_fn done);
/* Does what the plan says, each write durable before the next. */
void gpt_job_write(struct gpt_job *job, gpt_job_fn done);
void gpt_job_close(struct gpt_job *job);

/* ---- gpt_disk.c: disks with partitions ---- */

struct gpt_disk {
	struct list link;
	char name[BDEV_NAME_MAX];
	struct bdev *parts[GPT_ENTRIES_MAX]; /* by number - 1; NULL: not there */
	unsigned num_parts;
	unsigned working;  /* who holds it */
	unsigned deleting; /* calls that take its table away: nothing new is shown */
	bool reading;
	bool has_table;        /* when it was last read */
	bool judged;           /* it has problems that outlive its partitions */
	struct list now, next; /* who waits for the table to be read: this time, and once more */
};

/* NULL: none with partitions of that name. */
struct gpt_disk *gpt_disk_find(const char *name);
void gpt_disk_hold(struct gpt_disk *disk);
void gpt_disk_release(struct gpt_disk *disk);
/* Makes the partitions that its table has and that are not there; takes up lengths that have grown;
 * sets its problems. Once at a time per disk, else later; done.fn may be NULL. */
void gpt_disk_read(struct bdev *bdev, struct bdev_done done);
void gpt_part_gone(struct bdev *bdev);
void gpt_examine(struct bdev *bdev, struct bdev_done done);
void gpt_stop(void);

/* ---- gpt_rpc.c ---- */

extern const struct rpc_method gpt_methods[];
json_t *gpt_save_module(void);
