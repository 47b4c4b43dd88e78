/*
 * secret.h: memory for keys.
 *
 * Invariants
 *  - It is locked (never swapped), left out of core dumps, zeroed when it is given out and wiped
 *    when it is freed.
 *  - Each allocation has pages of its own, so what is next to it is no secret and is not locked.
 *  - Any thread; for the control path: an allocation costs a few system calls.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

/* Aligned to a cache line. NULL, and err says which limit to raise, when there is none to lock. */
void *secret_alloc(size_t bytes, struct err *err) must_check;
/* NULL is fine. */
void secret_free(void *secret);
/* Whether it was given out here; and how many bytes were asked for, 0 if it was not. */
size_t secret_bytes(const void *secret);

/* Overwrites memory that will not be looked at again, which a compiler would leave out. */
void secret_wipe(void *bytes, size_t len);
