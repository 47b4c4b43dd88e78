/*
 * log.h: lines for the operator on stderr, in the form "2026-01-31T12:00:00Z level component:
 * text". May be called from every thread. Never called per I/O: an error that every I/O meets is
 * counted and logged once by whoever owns the bdev.
 */
#pragma once

#include "base/base.h"

/* The order and names are those of the log_set_level method. */
enum log_level {
	LOG_ERROR,
	LOG_WARNING,
	LOG_NOTICE,
	LOG_INFO,
	LOG_DEBUG,
	LOG_LEVELS
};

void log_line(enum log_level level, const char *component, const char *fmt, ...) printf_like(3, 4);

/* "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG". */
const char *log_level_name(enum log_level level);
/* Case is ignored. Returns -EINVAL for an unknown name. */
int log_level_parse(const char *name, enum log_level *out);

/* What is printed (default LOG_NOTICE); lines above it are dropped. Any thread. */
void log_set_print_level(enum log_level level);
enum log_level log_get_print_level(void);

/*
 * The wall clock behind the time stamp comes from the loop implementation, so that a simulated run
 * logs simulated time; until one is set, lines carry no time stamp.
 */
void log_set_clock(uint64_t (*wall_ns)(void));

#define log_error(component, ...) log_line(LOG_ERROR, component, __VA_ARGS__)
#define log_warning(component, ...) log_line(LOG_WARNING, component, __VA_ARGS__)
#define log_notice(component, ...) log_line(LOG_NOTICE, component, __VA_ARGS__)
#define log_info(component, ...) log_line(LOG_INFO, component, __VA_ARGS__)
#define log_debug(component, ...) log_line(LOG_DEBUG, component, __VA_ARGS__)
