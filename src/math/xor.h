/*
 * xor.h: parity. Byte-wise exclusive or of any number of buffers, by ISA-L where it is there.
 *
 * Any address and any length will do; buffers that are all aligned to 64 bytes (or all off by the
 * same) are fastest.
 */
#pragma once

#include "base/base.h"

#define XOR_SOURCES_MAX 255

/*
 * dst = src[0] ^ src[1] ^ ... ^ src[n - 1], over so many bytes. 1 <= n <= XOR_SOURCES_MAX. dst may
 * be one of the sources (then they accumulate in it), but may not overlap one in any other way.
 */
void xor_gen_bytes(void *dst, const void *const *src, unsigned n, size_t bytes);
