/*
 * cpumask.h: which CPUs the data loops run on, as an operator writes it.
 */
#pragma once

#include <sched.h>

#include "base/err.h"

/* A hexadecimal mask ("0x3" or "3") or a list ("[0,2-4]"). Returns 0, or -EINVAL for what is
 * neither, names no CPU or one that is CPU_SETSIZE or higher. */
int cpumask_parse(const char *text, cpu_set_t *out, struct err *err) must_check;
