/* bdev_save.h: what methods must remember, so that the bdev section of a configuration has it. */
#pragma once

#include "bdev/bdev.h"

/* The last bdev_enable_histogram for a bdev; takes params over; NULL: switched off. */
void rpc_save_histogram(const char *bdev_name, json_t *params);
