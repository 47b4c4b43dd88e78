/* Parity against a slow loop: every alignment, lengths around the widths of vectors, in place; and
 * every single lost strip comes back. */
#include "math/xor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#ifdef HAVE_ISAL
#include <isa-l.h>
#endif

#include <cmocka.h>

#include "tests/lib/rng.h"

#define ROOM 4096
#define GUARD 64

static struct rng rng;

static void fill(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)rng_next(&rng);
}

static void check(unsigned n, const size_t *offsets, size_t dst_offset, size_t len, int in_place)
{
	uint8_t *buffers[8], expected[ROOM];
	const void *sources[8];
	uint8_t *dst_buffer = try_alloc_aligned(64, ROOM + 2 * GUARD), *dst;

	for (unsigned i = 0; i < n; i++) {
		buffers[i] = try_alloc_aligned(64, ROOM + 2 * GUARD);
		fill(buffers[i], ROOM + 2 * GUARD);
		sources[i] = buffers[i] + offsets[i];
	}
	for (size_t k = 0; k < len; k++) {
		expected[k] = 0;
		for (unsigned i = 0; i < n; i++)
			expected[k] ^= ((const uint8_t *)sources[i])[k];
	}
	memset(dst_buffer, 0xa5, ROOM + 2 * GUARD);
	dst = in_place >= 0 ? buffers[in_place] + offsets[in_place] : dst_buffer + dst_offset;
	uint8_t before = dst[-1], after = dst[len];

	xor_gen_bytes(dst, sources, n, len);
	assert_memory_equal(dst, expected, len);
	assert_int_equal(dst[-1], before);
	assert_int_equal(dst[len], after);
	for (unsigned i = 0; i < n; i++)
		free(buffers[i]);
	free(dst_buffer);
}

static void test_against_slow_loop(void **state)
{
	static const size_t lengths[] = {
	        0, 1, 7, 8, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 513, 1000, 2048, 4000};

	(void)state;
	rng = rng_of(1);
	for (unsigned round = 0; round < 3000; round++) {
		unsigned n = 1 + (unsigned)rng_below(&rng, 8);
		bool same = rng_below(&rng, 2);
		size_t offsets[8], offset = GUARD + rng_below(&rng, 64);
		size_t len = lengths[rng_below(&rng, ARRAY_SIZE(lengths))];

		for (unsigned i = 0; i < 8; i++)
			offsets[i] = same ? offset : GUARD + rng_below(&rng, 64);
		check(n, offsets, same ? offset : GUARD + rng_below(&rng, 64), len,
		        rng_below(&rng, 3) ? -1 : (int)rng_below(&rng, n));
	}
}

/* The parity and all but one strip give that one. */
static void test_each_lost_strip_comes_back(void **state)
{
	enum {
		LEN = 1536
	};

	(void)state;
	rng = rng_of(2);
	for (unsigned members = 3; members <= 8; members++) {
		uint8_t *strips[8], back[LEN];
		const void *sources[8];
		unsigned data = members - 1;

		for (unsigned i = 0; i < members; i++) {
			strips[i] = try_alloc_aligned(64, LEN);
			fill(strips[i], LEN);
			sources[i] = strips[i];
		}
		xor_gen_bytes(strips[data], sources, data, LEN);
		for (unsigned lost = 0; lost < members; lost++) {
			unsigned n = 0;

			for (unsigned i = 0; i < members; i++) {
				if (i != lost)
					sources[n++] = strips[i];
			}
			xor_gen_bytes(back, sources, n, LEN);
			assert_memory_equal(back, strips[lost], LEN);
		}
		for (unsigned i = 0; i < members; i++)
			free(strips[i]);
	}
}

/* ---- what ISA-L alone takes ---- */

#ifdef HAVE_ISAL
#define BENCH_SOURCES 3U
#define BENCH_BYTES 65536U

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Full stripes of so many requests in turn, as many buffers as a load generator has. */
static void bench_depth(unsigned depth)
{
	uint8_t *data = try_alloc_aligned(4096, (size_t)depth * BENCH_SOURCES * BENCH_BYTES);
	uint8_t *parity = try_alloc_aligned(4096, (size_t)depth * BENCH_BYTES);
	uint64_t best = UINT64_MAX;

	if (!data || !parity)
		exit(1);
	fill(data, (size_t)depth * BENCH_SOURCES * BENCH_BYTES);
	for (unsigned round = 0; round < 20; round++) {
		uint64_t begun = cpu_ns();

		for (unsigned i = 0; i < 10 * 128; i++) {
			uint8_t *at = data + (size_t)(i % depth) * BENCH_SOURCES * BENCH_BYTES;
			void *vectors[BENCH_SOURCES + 1];

			for (unsigned k = 0; k < BENCH_SOURCES; k++)
				vectors[k] = at + k * BENCH_BYTES;
			vectors[BENCH_SOURCES] = parity + (size_t)(i % depth) * BENCH_BYTES;
			if (xor_gen(BENCH_SOURCES + 1, BENCH_BYTES, vectors) != 0)
				exit(1);
		}
		best = min_u64(best, (cpu_ns() - begun) / 1280);
	}
	printf("%u %llu\n", depth, (unsigned long long)best);
	free(data);
	free(parity);
}

static int bench(void)
{
	bench_depth(1);
	bench_depth(128);
	return 0;
}
#endif

/* With --bench: what ISA-L alone takes for the parity of a stripe, for bench/raid5. */
int main(int argc, char **argv)
{
#ifdef HAVE_ISAL
	if (argc == 2 && strcmp(argv[1], "--bench") == 0)
		return bench();
#else
	(void)argc;
	(void)argv;
#endif
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_against_slow_loop),
	        cmocka_unit_test(test_each_lost_strip_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
