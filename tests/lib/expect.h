/*
 * expect.h: what tests of bdev modules look at through the daemon's methods.
 */
#pragma once

#include <jansson.h>

#include "base/base.h"

/* The entry of bdev_get_bdevs; json_decref it. Fails the test when there is none. */
json_t *expect_bdev(const char *name);
/* Fails the test unless the entry's driver_specific is this JSON (' for "). */
void expect_driver_specific(const char *name, const char *json);
/* Fails the test unless the saved configuration has this call, with exactly these parameters; a
 * uuid in the call is left out of the comparison when params names none. */
void expect_saved(const char *method, const char *params);
/* The calls of framework_get_config for bdev. */
json_t *saved_calls(void);
/* The calls of all sections, in the order in which they are loaded. */
json_t *saved_everything(void);
bool bdev_exists(const char *name);
