#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void bellows_assert_failed(const char *file, int line, const char *expr)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
	abort();
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
/* A size that a user chose is refused, not the end: try_alloc_aligned. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}
#endif
#endif

static _Noreturn void out_of_memory(size_t bytes)
{
	fprintf(stderr, "out of memory: %zu bytes could not be allocated\n", bytes);
	abort();
}

void *xcalloc(size_t count, size_t bytes)
{
	/* calloc(0) may answer NULL. */
	void *p = calloc(count ? count : 1, bytes ? bytes : 1);

	if (!p)
		out_of_memory(bytes && count > SIZE_MAX / bytes ? SIZE_MAX : count * bytes);
	return p;
}

void *xrealloc(void *old, size_t bytes)
{
	void *p = realloc(old, bytes ? bytes : 1);

	if (!p)
		out_of_memory(bytes);
	return p;
}

char *xstrdup(const char *text)
{
	char *p = strdup(text);

	if (!p)
		out_of_memory(strlen(text) + 1);
	return p;
}

char *xasprintf(const char *fmt, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		out_of_memory(strlen(fmt));
	return text;
}

/*
 * Zeroes without touching more pages than it must: the whole pages inside of a large area are given
 * back, so that they read as zeroes and cost no memory until they are written.
 */
static void zero_area(uint8_t *area, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *first = area + ((uintptr_t) - (uintptr_t)area & (page - 1));
	size_t head = (size_t)(first - area);
	size_t pages_bytes;

	if (bytes < MIB(1)) {
		memset(area, 0, bytes);
		return;
	}
	pages_bytes = (bytes - head) & ~(page - 1);
	/* Locked memory, for one, can't be given back. */
	if (madvise(first, pages_bytes, MADV_DONTNEED))
		memset(first, 0, pages_bytes);
	memset(area, 0, head);
	memset(first + pages_bytes, 0, bytes - head - pages_bytes);
}

void *try_alloc_aligned(size_t align, size_t bytes)
{
	void *p;

	BELLOWS_ASSERT(is_power_of_two(align));
	if (align < sizeof(void *))
		align = sizeof(void *);
	if (bytes > PTRDIFF_MAX || posix_memalign(&p, align, bytes ? bytes : 1))
		return NULL;
	zero_area(p, bytes);
	return p;
}

bool str_copy(char *dst, size_t size, const char *src)
{
	size_t len = strlen(src);

	BELLOWS_ASSERT(size > 0);
	if (len < size) {
		memcpy(dst, src, len + 1);
		return true;
	}
	memcpy(dst, src, size - 1);
	dst[size - 1] = '\0';
	return false;
}
