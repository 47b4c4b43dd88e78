/* crc32.h: CRC-32 of IEEE 802.3, as partition tables have it. */
#pragma once

#include "base/base.h"

/* Of the bytes that have gone before (0: none) and these. */
uint32_t crc32_update(uint32_t crc, const void *bytes, size_t len);
