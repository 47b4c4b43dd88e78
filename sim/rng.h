/*
 * rng.h: the only source of chance in the simulator. A stream is 8 bytes of state that can live in
 * shared memory; streams with different tags are independent, so that leaving out one operation of
 * a run does not change what the others draw.
 */
#pragma once

#include "base/base.h"

struct rng {
	uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline struct rng rng_stream(uint64_t seed, uint64_t tag)
{
	return (struct rng){.state = rng_mix(seed + 0x9e3779b97f4a7c15ULL) ^ rng_mix(tag + 1)};
}

static inline uint64_t rng_next(struct rng *r)
{
	r->state += 0x9e3779b97f4a7c15ULL;
	return rng_mix(r->state);
}

/* 0..n-1; n > 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

/* lo..hi, both included. */
static inline uint64_t rng_range(struct rng *r, uint64_t lo, uint64_t hi)
{
	return lo + rng_below(r, hi - lo + 1);
}

/* True once in n times on average; never for n 0. */
static inline bool rng_one_in(struct rng *r, uint64_t n)
{
	return n != 0 && rng_below(r, n) == 0;
}
