/*
 * crc32c.h: the Castagnoli checksum, in the two forms that disks carry.
 */
#pragma once

#include "base/base.h"

/* Goes on from crc over further bytes; no inversion before or after. */
uint32_t crc32c_update(uint32_t crc, const void *bytes, size_t len);

/* The usual form: begins with all ones, inverted at the end. */
static inline uint32_t crc32c(const void *bytes, size_t len)
{
	return ~crc32c_update(UINT32_MAX, bytes, len);
}
