#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static _Atomic(uint64_t (*)(void)) wall_clock;
static _Atomic(enum log_level) print_level = LOG_NOTICE;

static const char *const level_names[LOG_LEVELS] = {
        [LOG_ERROR] = "ERROR",
        [LOG_WARNING] = "WARNING",
        [LOG_NOTICE] = "NOTICE",
        [LOG_INFO] = "INFO",
        [LOG_DEBUG] = "DEBUG",
};

void log_set_clock(uint64_t (*wall_ns)(void))
{
	atomic_store_explicit(&wall_clock, wall_ns, memory_order_relaxed);
}

void log_set_print_level(enum log_level level)
{
	BELLOWS_ASSERT(level < LOG_LEVELS);
	atomic_store_explicit(&print_level, level, memory_order_relaxed);
}

enum log_level log_get_print_level(void)
{
	return atomic_load_explicit(&print_level, memory_order_relaxed);
}

const char *log_level_name(enum log_level level)
{
	BELLOWS_ASSERT(level < LOG_LEVELS);
	return level_names[level];
}

int log_level_parse(const char *name, enum log_level *out)
{
	for (unsigned i = 0; i < LOG_LEVELS; i++) {
		if (strcasecmp(name, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Returns the length; 0 without a clock. */
static size_t format_stamp(char *buf, size_t size)
{
	uint64_t (*clock)(void) = atomic_load_explicit(&wall_clock, memory_order_relaxed);
	struct tm tm;
	time_t seconds;

	if (!clock)
		return 0;
	seconds = (time_t)(clock() / NSEC_PER_SEC);
	if (!gmtime_r(&seconds, &tm))
		return 0;
	return strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ ", &tm);
}

void log_line(enum log_level level, const char *component, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	size_t len, room;
	va_list args;
	int n;

	if (level > atomic_load_explicit(&print_level, memory_order_relaxed))
		return;
	len = format_stamp(line, sizeof(line));
	n = snprintf(line + len, sizeof(line) - len, "%s %s: ", log_level_name(level), component);
	len = min_u64(len + (size_t)n, sizeof(line) - 1);
	room = sizeof(line) - len;
	va_start(args, fmt);
	n = vsnprintf(line + len, room, fmt, args);
	va_end(args);
	if (n > 0)
		len = min_u64(len + (size_t)n, sizeof(line) - 1);
	/* A name that a client chose must not be able to fake a line or a terminal command. */
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)line[i] < ' ' || line[i] == '\x7f')
			line[i] = ' ';
	}
	line[len++] = '\n';
	/* One write, so that the lines of several threads stay apart; a log that nobody can take
	 * is lost. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}
