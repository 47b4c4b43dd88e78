/*
 * file.h: an open file of the io_uring implementation.
 *
 * A file may have a slot, the same number in each loop's table of registered files. A loop puts the
 * file into its table when it first uses it, which saves the kernel the look-up by descriptor in
 * each operation. More files than slots work as well, without.
 */
#pragma once

#include "loop/uring.h"

/* One loop's part in taking a file out of all tables. */
struct file_leave {
	struct loop_task task;
	struct loop_file *file;
	bool waiting; /* for that loop; then on its way back */
};

/* Constant after open, so every loop may read it. */
struct loop_file {
	int fd;
	int slot;                   /* -1: none */
	struct loop_file_info info; /* as it was at open, for all that can't change */

	/* Control loop: closing. */
	struct loop_op *close_op;
	unsigned leaves_missing;
	struct file_leave leave[]; /* by loop */
};

/* Control loop; -1 when all are taken. */
int file_slot_get(void);
void file_slot_put(int slot);
/* Makes sqe use the file: by slot if the loop can. */
void file_set_sqe(struct uring_loop *l, const struct loop_file *file, struct io_uring_sqe *sqe);
/* Takes the file out of this loop's table. */
void file_leave_loop(struct uring_loop *l, const struct loop_file *file);
