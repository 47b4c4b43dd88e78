/*
 * file.h: an open file of the io_uring implementation.
 */
#pragma once

#include "loop/loop.h"

/* Constant after open, so every loop may read it. */
struct loop_file {
	int fd;
	struct loop_file_info info; /* as it was at open, for all that can't change */
};
