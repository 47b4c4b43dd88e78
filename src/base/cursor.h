/*
 * cursor.h: the one way to read and write bytes from outside (superblocks, protocol PDUs, tables).
 *
 * A cursor knows its end. A read past the end returns zeroes and sets `bad`; once bad, always bad,
 * so a parser reads all its fields and checks `cursor_ok` once before it believes any of them.
 * Nothing here can read or write outside [start, end).
 */
#pragma once

#include <string.h>

#include "base/base.h"

struct cursor {
	const uint8_t *pos, *end;
	bool bad;
};

static inline struct cursor cursor_of(const void *bytes, size_t len)
{
	return (struct cursor){.pos = bytes, .end = (const uint8_t *)bytes + len};
}

static inline bool cursor_ok(const struct cursor *c)
{
	return !c->bad;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->pos);
}

/* The next len bytes in place, or NULL (and bad) if there are fewer. */
static inline const uint8_t *cursor_bytes(struct cursor *c, size_t len)
{
	const uint8_t *p = c->pos;

	if (c->bad || len > cursor_left(c)) {
		c->bad = true;
		return NULL;
	}
	c->pos += len;
	return p;
}

/* Copies the next len bytes; dst is zeroed if there are fewer. */
static inline void cursor_copy(struct cursor *c, void *dst, size_t len)
{
	const uint8_t *p = cursor_bytes(c, len);

	if (p)
		memcpy(dst, p, len);
	else
		memset(dst, 0, len);
}

static inline void cursor_skip(struct cursor *c, size_t len)
{
	(void)cursor_bytes(c, len);
}

#define CURSOR_READ_(name, type, conv)                                                             \
	static inline type cursor_##name(struct cursor *c)                                         \
	{                                                                                          \
		type v;                                                                            \
		cursor_copy(c, &v, sizeof(v));                                                     \
		return conv(v);                                                                    \
	}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define host_le16(v) (v)
#define host_le32(v) (v)
#define host_le64(v) (v)
#define host_be16(v) __builtin_bswap16(v)
#define host_be32(v) __builtin_bswap32(v)
#define host_be64(v) __builtin_bswap64(v)
#else
#define host_le16(v) __builtin_bswap16(v)
#define host_le32(v) __builtin_bswap32(v)
#define host_le64(v) __builtin_bswap64(v)
#define host_be16(v) (v)
#define host_be32(v) (v)
#define host_be64(v) (v)
#endif

CURSOR_READ_(u8, uint8_t, )
CURSOR_READ_(le16, uint16_t, host_le16)
CURSOR_READ_(le32, uint32_t, host_le32)
CURSOR_READ_(le64, uint64_t, host_le64)
CURSOR_READ_(be16, uint16_t, host_be16)
CURSOR_READ_(be32, uint32_t, host_be32)
CURSOR_READ_(be64, uint64_t, host_be64)

/* The writing twin: bytes that do not fit are dropped and set `bad`. */
struct writer {
	uint8_t *pos, *end;
	bool bad;
};

static inline struct writer writer_of(void *bytes, size_t len)
{
	return (struct writer){.pos = bytes, .end = (uint8_t *)bytes + len};
}

static inline void writer_copy(struct writer *w, const void *src, size_t len)
{
	if (w->bad || len > (size_t)(w->end - w->pos)) {
		w->bad = true;
		return;
	}
	if (len)
		memcpy(w->pos, src, len);
	w->pos += len;
}

static inline void writer_zero(struct writer *w, size_t len)
{
	if (w->bad || len > (size_t)(w->end - w->pos)) {
		w->bad = true;
		return;
	}
	memset(w->pos, 0, len);
	w->pos += len;
}

#define WRITER_PUT_(name, type, conv)                                                              \
	static inline void writer_##name(struct writer *w, type v)                                 \
	{                                                                                          \
		type wire = conv(v);                                                               \
		writer_copy(w, &wire, sizeof(wire));                                               \
	}

WRITER_PUT_(u8, uint8_t, )
WRITER_PUT_(le16, uint16_t, host_le16)
WRITER_PUT_(le32, uint32_t, host_le32)
WRITER_PUT_(le64, uint64_t, host_le64)
WRITER_PUT_(be16, uint16_t, host_be16)
WRITER_PUT_(be32, uint32_t, host_be32)
WRITER_PUT_(be64, uint64_t, host_be64)
