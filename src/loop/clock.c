/* Time and randomness. */
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "loop/uring.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t loop_clock_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t loop_wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

void loop_random_bytes(void *out, size_t len)
{
	uint8_t *p = out;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		/* Can't fail otherwise for memory that is ours. */
		BELLOWS_ASSERT(n > 0 || errno == EINTR);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

void uring_random_seed(struct uring_loop *l)
{
	loop_random_bytes(l->random, sizeof(l->random));
	l->random[0] |= 1; /* not all zero */
}

static uint64_t rotate_left(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

/* xoshiro256** by Blackman and Vigna. */
uint64_t loop_random(struct loop *loop)
{
	uint64_t *s = uring_of(loop)->random;
	uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;

	BELLOWS_CHECKED(loop == loop_self());
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}
