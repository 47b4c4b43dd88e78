/*
 * base.h: the few helpers that every file of Bellows may use.
 *
 * Rules: nothing here knows about loops, bdevs or JSON. BELLOWS_ASSERT stays on in release builds
 * and is for our own mistakes only; nothing that a disk, a client, an image or an RPC does may trip
 * one. BELLOWS_CHECKED is for invariants that cost time on the data path: on in builds with
 * BELLOWS_CHECK=1 (all test builds), compiled out otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define NSEC_PER_USEC 1000ULL
#define NSEC_PER_MSEC 1000000ULL
#define NSEC_PER_SEC 1000000000ULL

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define CACHE_LINE_BYTES 64
#define cache_aligned __attribute__((aligned(CACHE_LINE_BYTES)))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define must_check __attribute__((warn_unused_result))
#define maybe_unused __attribute__((unused))

/* Prints file, line, the failed expression and aborts. Never returns. */
_Noreturn void bellows_assert_failed(const char *file, int line, const char *expr);

#define BELLOWS_ASSERT(expr)                                                                       \
	(likely(expr) ? (void)0 : bellows_assert_failed(__FILE__, __LINE__, #expr))
#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
#define BELLOWS_CHECKED(expr) BELLOWS_ASSERT(expr)
#else
#define BELLOWS_CHECKED(expr) ((void)0)
#endif

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t div_round_up_u64(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* align must be a power of two. */
static inline uint64_t align_up_u64(uint64_t a, uint64_t align)
{
	return (a + align - 1) & ~(align - 1);
}

static inline bool is_power_of_two(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/*
 * Scope cleanup instead of goto ladders:
 *     autofree char *text = xstrdup(...);
 *     ...
 *     return steal_ptr(&text);
 */
static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}
#define autofree __attribute__((cleanup(cleanup_free_)))
#define steal_ptr(pp)                                                                              \
	({                                                                                         \
		__typeof__(*(pp)) stolen_ = *(pp);                                                 \
		*(pp) = NULL;                                                                      \
		stolen_;                                                                           \
	})

/*
 * Control-path allocation. A server that can't allocate a few hundred bytes for its topology can't
 * do anything useful about it either: these abort with a message. Sizes that come from outside are
 * bounded before they get here. Never used on the data path.
 */
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *old, size_t bytes) __attribute__((returns_nonnull));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) printf_like(1, 2) __attribute__((malloc, returns_nonnull));

/* Zeroed memory whose address is a multiple of align (a power of two). Returns NULL when there is
 * none: for sizes that a user chose. Released with free(). */
void *try_alloc_aligned(size_t align, size_t bytes) __attribute__((malloc));

/* Copies with truncation and always terminates; returns false if it had to truncate. size > 0. */
bool str_copy(char *dst, size_t size, const char *src);

/*
 * Sizes as people write them: "512", "20G", "1.5T", "64k"; suffixes k M G T P (and KiB, MB, ...)
 * are powers of 1024. Returns 0, -EINVAL (not a size) or -ERANGE (over 2^64-1 bytes).
 */
int parse_size_bytes(const char *text, uint64_t *bytes_out);
/* "20.0 GiB"; exact multiples without a fraction: "20 GiB". Returns buf. */
const char *format_size_bytes(char *buf, size_t size, uint64_t bytes);
#define SIZE_TEXT_MAX 32
