/*
 * file.h: what the parts of the file bdevs share: disks on a regular file or a block device, under
 * the names of two modules, aio and uring, that differ in their methods and in nothing else.
 *
 * Invariants
 *  - file and what is derived from it at creation (block_bytes, direct, can_*) is constant from
 *    create to destroy; every loop reads it.
 *  - A request needs no memory but its frame's context.
 *  - Data that the file does not have is an error, never zeroes: a read past its end is -EIO.
 *  - What has been asked of the loop on the control path is counted in `outstanding`, and destroy
 *    waits for it.
 */
#pragma once

#include "bdev/bdev.h"
#include "rpc/rpc.h"

struct file_params {
	char *filename;
	uint32_t block_size; /* bytes; 0: ask the device */
	bool block_size_given;
	bool readonly;
	bool fallocate, nowait; /* accepted and saved */
	bool direct;            /* past the page cache, where the file can */
};

struct file_bdev {
	struct file_params params;
	struct bdev *bdev;
	struct loop_file *file;
	struct loop_file_info info;
	uint32_t block_bytes;
	bool can_punch;

	/* any loop, atomically */
	bool error_logged;                /* the first one is; the others are counted by the core */
	bool punch_refused, zero_refused; /* the file or device has no such command */
	bool sync_failed; /* and what the page cache held is lost: no later flush may succeed */

	/* control loop: creation, resize and destruction, one at a time */
	struct loop_op op;
	struct bdev_done done;
	uint64_t resizes, stat_resizes; /* begun; when the present stat began */
	uint64_t resize_blocks;

	/* control loop: the size of the storage */
	uint64_t storage_blocks; /* as last seen */
	struct loop_op stat_op;
	struct loop_file_info stat;
	bool stat_running, change_running, destroying;
	uint64_t retry_ns; /* a size that the stack did not take is offered again then */
	unsigned outstanding;
	bool problem_shown, unlinked_shown;
	struct list link; /* in the list of watched files */
};

void file_submit(struct bio *bio);

/* file_open.c */
void file_create(struct bdev *bdev, struct bdev_done done);
void file_destroy(struct bdev *bdev, struct bdev_done done);
/* An operation counted in `outstanding` has ended. */
void file_op_ended(struct file_bdev *f);

/* file_size.c */
void file_watch(struct file_bdev *f);
void file_unwatch(struct file_bdev *f);
int file_may_resize(const struct bdev *bdev, const struct bdev_geometry *planned, struct err *err);
void file_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done);
/* The handler of bdev_aio_rescan and bdev_uring_rescan; the method's arg is the module. */
struct file_name_params {
	char *name;
};
void file_rescan_handler(struct rpc_request *request, void *params);

extern struct bdev_module aio_module, uring_module;
