/*
 * Counts live allocations of the whole program, so that a life that leaks is found without a
 * sanitizer. In builds with one the sanitizer's own check does it.
 */
#include <errno.h>
#include <string.h>

#include "sim/world.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifdef SANITIZED

uint64_t sim_live_allocations(void)
{
	return 0;
}

uint64_t sim_allocations(void)
{
	return 0;
}

#else

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);
extern void __libc_free(void *p);

static uint64_t allocated, freed;

uint64_t sim_live_allocations(void)
{
	return allocated - freed;
}

uint64_t sim_allocations(void)
{
	return allocated;
}

static void *counted(void *p)
{
	allocated += p != NULL;
	return p;
}

void *malloc(size_t bytes)
{
	return counted(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
	return counted(__libc_calloc(count, bytes));
}

void *realloc(void *old, size_t bytes)
{
	void *p = __libc_realloc(old, bytes);

	allocated += p && !old;
	freed += old && !p && bytes == 0;
	return p;
}

void *memalign(size_t align, size_t bytes)
{
	return counted(__libc_memalign(align, bytes));
}

void *aligned_alloc(size_t align, size_t bytes)
{
	return counted(__libc_memalign(align, bytes));
}

int posix_memalign(void **out, size_t align, size_t bytes)
{
	*out = counted(__libc_memalign(align, bytes));
	return *out ? 0 : ENOMEM;
}

void free(void *p)
{
	freed += p != NULL;
	__libc_free(p);
}

#endif
