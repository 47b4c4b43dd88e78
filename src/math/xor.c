#include "math/xor.h"

#include <string.h>

#ifdef HAVE_ISAL
#include <isa-l.h>
#endif

#define WORD sizeof(uint64_t)
/* ISA-L's widest code uses aligned stores of a cache line. */
#define ALIGN 64
#define CALL_MAX_BYTES ((size_t)1 << 30) /* its length is an int */

/* The portable form; a compiler makes vectors of the inner loop. */
static void xor_slow(uint8_t *dst, const void *const *src, unsigned n, size_t skip, size_t bytes)
{
	size_t at = skip, end = skip + bytes;

	for (; at + WORD <= end; at += WORD) {
		uint64_t sum = 0, word;

		for (unsigned i = 0; i < n; i++) {
			memcpy(&word, (const uint8_t *)src[i] + at, WORD);
			sum ^= word;
		}
		memcpy(dst + at, &sum, WORD);
	}
	for (; at < end; at++) {
		uint8_t sum = 0;

		for (unsigned i = 0; i < n; i++)
			sum ^= ((const uint8_t *)src[i])[at];
		dst[at] = sum;
	}
}

#ifdef HAVE_ISAL
static bool equally_aligned(const void *dst, const void *const *src, unsigned n)
{
	uintptr_t differs = 0;

	for (unsigned i = 0; i < n; i++)
		differs |= ((uintptr_t)src[i] ^ (uintptr_t)dst) & (ALIGN - 1);
	return differs == 0;
}

/* Whole cache lines, all buffers aligned at skip. */
static void xor_fast(uint8_t *dst, const void *const *src, unsigned n, size_t skip, size_t bytes)
{
	void *vectors[XOR_SOURCES_MAX + 1] __attribute__((aligned(32)));

	while (bytes > 0) {
		size_t part = bytes < CALL_MAX_BYTES ? bytes : CALL_MAX_BYTES;

		for (unsigned i = 0; i < n; i++)
			vectors[i] = (uint8_t *)(uintptr_t)src[i] + skip;
		vectors[n] = dst + skip;
		/* It fails only when it has less than two sources. */
		BELLOWS_ASSERT(xor_gen((int)n + 1, (int)part, vectors) == 0);
		skip += part;
		bytes -= part;
	}
}
#endif

void xor_gen_bytes(void *dst, const void *const *src, unsigned n, size_t bytes)
{
	size_t head = 0, body = 0;

	BELLOWS_ASSERT(n >= 1 && n <= XOR_SOURCES_MAX);
	if (n == 1) {
		if (dst != src[0] && bytes > 0)
			memcpy(dst, src[0], bytes);
		return;
	}
#ifdef HAVE_ISAL
	if (bytes >= 4 * ALIGN && equally_aligned(dst, src, n)) {
		head = (size_t)(-(uintptr_t)dst & (ALIGN - 1));
		body = (bytes - head) & ~(size_t)(ALIGN - 1);
		xor_slow(dst, src, n, 0, head);
		xor_fast(dst, src, n, head, body);
	}
#endif
	xor_slow(dst, src, n, head + body, bytes - head - body);
}

/* Where the view's byte at is; *run is cut to what lies there in one piece. */
static const void *view_at(struct xor_view *view, size_t at, size_t *run)
{
	if (at > view->lo) {
		view->skip += at - view->lo;
		view->lo = at;
	}
	while (view->skip >= view->iov->iov_len)
		view->skip -= (view->iov++)->iov_len;
	*run = min_u64(*run, min_u64(view->hi - at, view->iov->iov_len - view->skip));
	return (const uint8_t *)view->iov->iov_base + view->skip;
}

void xor_views(void *dst, size_t lo, size_t hi, struct xor_view *views, unsigned n)
{
	const void *src[XOR_SOURCES_MAX];
	uint8_t *out = dst;

	BELLOWS_ASSERT(n <= XOR_SOURCES_MAX);
	for (size_t at = lo, run; at < hi; at += run, out += run) {
		unsigned sources = 0;

		run = hi - at;
		for (unsigned i = 0; i < n; i++) {
			if (views[i].hi <= at)
				continue;
			if (views[i].lo > at)
				run = min_u64(run, views[i].lo - at);
			else
				src[sources++] = view_at(&views[i], at, &run);
		}
		if (sources == 0)
			memset(out, 0, run);
		else
			xor_gen_bytes(out, src, sources, run);
	}
}
