/*
 * xor.h: parity. Byte-wise exclusive or of any number of buffers, by ISA-L where it is there.
 *
 * Any address and any length will do; buffers that are all aligned to 64 bytes (or all off by the
 * same) are fastest.
 */
#pragma once

#include <sys/uio.h>

#include "base/base.h"

#define XOR_SOURCES_MAX 255

/*
 * dst = src[0] ^ src[1] ^ ... ^ src[n - 1], over so many bytes. 1 <= n <= XOR_SOURCES_MAX. dst may
 * be one of the sources (then they accumulate in it), but may not overlap one in any other way.
 */
void xor_gen_bytes(void *dst, const void *const *src, unsigned n, size_t bytes);

/* Bytes lo..hi of something, which lie in an iovec list from iov[0] + skip on. */
struct xor_view {
	size_t lo, hi;
	const struct iovec *iov;
	size_t skip;
};

/*
 * Each byte of lo..hi becomes the exclusive or of the views that have it, or zero where none has
 * it; dst is where byte lo goes. n <= XOR_SOURCES_MAX. A view may be dst itself, byte for byte. The
 * views are used up.
 */
void xor_views(void *dst, size_t lo, size_t hi, struct xor_view *views, unsigned n);
