/* What the core does in place of a module that can't: limits, bounce buffers, missing operations.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/tram.h"

#define BLOCK 512U
#define AREA 900U /* blocks */

static void examine_nothing(void *arg)
{
	(void)arg;
	bdev_options()->auto_examine = false; /* requests are counted */
}

static int setup(void **state)
{
	(void)state;
	inproc_start(2);
	inproc_run(examine_nothing, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static int run(struct disk *disk, enum bio_op op, unsigned flags, uint64_t offset, uint64_t blocks,
        const struct iovec *iov, unsigned iovcnt)
{
	struct disk_io io;

	disk_start(disk, &io, 1, op, flags, offset, blocks, iov, iovcnt);
	return disk_wait(&io);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 32;
}

/* One to a few entries over buf, with lengths and a skip that are multiples of unit. */
static unsigned some_iovs(
        struct iovec *iov, unsigned max, uint8_t *buf, size_t len, size_t unit, uint64_t *seed)
{
	unsigned n = 0;

	while (len > 0) {
		size_t run = n == max - 1 ? len : min_u64(len, next_random(seed) % 40 * unit);

		iov[n++] = (struct iovec){.iov_base = buf, .iov_len = run};
		buf += run;
		len -= run;
	}
	return n;
}

/* Writes, zeroes, reads and compares at random and keeps a model of what must be there. */
static void exercise(struct disk *disk, size_t unit, size_t skew, unsigned rounds)
{
	static uint8_t model[AREA * BLOCK];
	static uint8_t memory[2][AREA * BLOCK + 8192] __attribute__((aligned(4096)));
	uint8_t *out = memory[0] + skew, *in = memory[1] + skew;
	uint64_t seed = unit + skew;

	assert_int_equal(run(disk, BIO_WRITE_ZEROES, 0, 0, AREA, NULL, 0), 0);
	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t offset = next_random(&seed) % AREA;
		uint64_t blocks =
		        1 + next_random(&seed) % min_u64(AREA - offset, i % 4 ? 30 : AREA);
		size_t at = offset * BLOCK, len = blocks * BLOCK;
		unsigned flags = next_random(&seed) % 2 ? BIO_FUA : 0, n;
		struct iovec iov[24];

		if (i % 5 == 4) {
			assert_int_equal(
			        run(disk, BIO_WRITE_ZEROES, flags, offset, blocks, NULL, 0), 0);
			memset(model + at, 0, len);
		} else {
			fill_pattern(out, len, seed);
			n = some_iovs(iov, ARRAY_SIZE(iov), out, len, unit, &seed);
			assert_int_equal(run(disk, BIO_WRITE, flags, offset, blocks, iov, n), 0);
			memcpy(model + at, out, len);
		}
		n = some_iovs(iov, ARRAY_SIZE(iov), in, sizeof(model), unit, &seed);
		assert_int_equal(run(disk, BIO_READ, 0, 0, AREA, iov, n), 0);
		assert_memory_equal(in, model, sizeof(model));

		memcpy(in, model + at, len);
		n = some_iovs(iov, ARRAY_SIZE(iov), in, len, unit, &seed);
		assert_int_equal(run(disk, BIO_COMPARE, 0, offset, blocks, iov, n), 0);
		in[next_random(&seed) % len] ^= 0x10;
		assert_int_equal(run(disk, BIO_COMPARE, 0, offset, blocks, iov, n), -EILSEQ);
	}
}

static struct tram_config config(uint32_t caps)
{
	return (struct tram_config){
	        .num_blocks = AREA, .block_bytes = BLOCK, .caps = caps, .write_cache = true};
}

#define CAPS_LEAST (BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_FLUSH))

/* All combinations of limits, each with all and with the fewest operations. */
static void limits_are_kept_and_data_is_right(void **state)
{
	(void)state;
	static const uint32_t aligns[] = {0, 4, 512, 4096};

	for (unsigned i = 0; i < 4 * 2 * 2 * 2; i++) {
		uint32_t align = aligns[i % 4];
		struct tram_config c = config(i / 4 % 2 ? CAPS_LEAST : BIO_CAPS_ALL);

		c.buf_align_bytes = align;
		c.max_transfer_blocks = i / 8 % 2 ? 19 : 0;
		c.boundary_blocks = i / 16 % 2 && align <= BLOCK ? 24 : 0;
		c.split_on_boundary = c.boundary_blocks != 0;

		struct tram *t = tram_create("t", &c);
		struct disk *disk = disk_open("t", true);

		exercise(disk, BLOCK, 0, 40);
		exercise(disk, 4, 4, 40);
		exercise(disk, 1, 1, 40);
		assert_int_equal(tram_get(&t->breaches), 0);
		assert_int_equal(tram_get(&t->inflight), 0);
		disk_close(disk);
		bdev_remove_wait("t");
	}
}

static void large_requests_go_in_chunks(void **state)
{
	(void)state;
	struct tram_config c = config(CAPS_LEAST);
	size_t len = 5 * MIB(1) + 3 * BLOCK;
	autofree uint8_t *memory = xcalloc(2, len + 1);
	uint8_t *out = memory + 1, *in = out + len;
	struct iovec iov = {out, len}, back = {in, len};
	struct tram *t;
	struct disk *disk;

	c.num_blocks = 20000;
	c.buf_align_bytes = 512;
	c.max_transfer_blocks = 100;
	t = tram_create("t", &c);
	disk = disk_open("t", true);
	fill_pattern(out, len, 9);
	assert_int_equal(run(disk, BIO_WRITE, 0, 11, len / BLOCK, &iov, 1), 0);
	assert_int_equal(run(disk, BIO_READ, 0, 11, len / BLOCK, &back, 1), 0);
	assert_memory_equal(in, out, len);
	assert_int_equal(run(disk, BIO_COMPARE, 0, 11, len / BLOCK, &iov, 1), 0);
	out[len - 1] ^= 1;
	assert_int_equal(run(disk, BIO_COMPARE, 0, 11, len / BLOCK, &iov, 1), -EILSEQ);
	assert_int_equal(run(disk, BIO_WRITE_ZEROES, 0, 0, 20000, NULL, 0), 0);
	assert_int_equal(run(disk, BIO_READ, 0, 11, len / BLOCK, &back, 1), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(in[i], 0);

	/* What fails stops what follows. */
	uint64_t before = tram_get(&t->ops[BIO_WRITE]);

	t->fail_times = 1;
	tram_set_u64(&t->fail_block, 50);
	assert_int_equal(run(disk, BIO_WRITE, 0, 0, len / BLOCK, &iov, 1), -EIO);
	assert_in_range(tram_get(&t->ops[BIO_WRITE]) - before, 1, 50);
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void fua_is_a_flush_where_it_is_missing(void **state)
{
	(void)state;
	static uint8_t buf[8 * BLOCK];
	const struct iovec iov = {buf, sizeof(buf)};

	for (unsigned i = 0; i < 4; i++) {
		bool native = i % 2, cache = i / 2 % 2;
		struct tram_config c = config(CAPS_LEAST | (native ? BIO_CAP_FUA : 0));

		c.write_cache = cache;

		struct tram *t = tram_create("t", &c);
		struct disk *disk = disk_open("t", true);

		fill_pattern(buf, sizeof(buf), i + 1);
		assert_int_equal(run(disk, BIO_WRITE, BIO_FUA, 8, 8, &iov, 1), 0);
		assert_true(tram_is_durable(t, 8, 8));
		assert_int_equal(tram_get(&t->ops[BIO_FLUSH]), cache && !native ? 1 : 0);
		assert_int_equal(tram_get(&t->ops[BIO_WRITE]), 1);
		assert_int_equal(run(disk, BIO_WRITE, 0, 32, 8, &iov, 1), 0);
		assert_int_equal(tram_is_durable(t, 32, 8), !cache);
		assert_int_equal(run(disk, BIO_WRITE_ZEROES, BIO_FUA, 33, 6, NULL, 0), 0);
		assert_true(tram_is_durable(t, 33, 6));
		/* The flush does not follow a write that failed. */
		uint64_t flushes = tram_get(&t->ops[BIO_FLUSH]);

		t->fail_times = UINT32_MAX;
		tram_set_u64(&t->fail_block, 9);
		assert_int_equal(run(disk, BIO_WRITE, BIO_FUA, 8, 8, &iov, 1), -EIO);
		assert_int_equal(tram_get(&t->ops[BIO_FLUSH]), flushes);
		assert_int_equal(tram_get(&t->breaches), 0);
		disk_close(disk);
		bdev_remove_wait("t");
	}
}

static void answers_without_io(void **state)
{
	(void)state;
	struct tram_config c = config(BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE));
	struct tram *t;
	struct disk *disk;
	struct disk_io io;

	c.write_cache = false;
	t = tram_create("t", &c);
	disk = disk_open("t", true);
	assert_int_equal(run(disk, BIO_FLUSH, 0, 0, 0, NULL, 0), 0);
	assert_int_equal(run(disk, BIO_RESET, 0, 0, 0, NULL, 0), 0);
	assert_int_equal(run(disk, BIO_UNMAP, 0, 0, 8, NULL, 0), -EOPNOTSUPP);
	disk_start(disk, &io, 1, BIO_BLOCK_STATUS, 0, 10, 77, NULL, 0);
	assert_int_equal(disk_wait(&io), 0);
	assert_int_equal(io.bio.extent.num_blocks, 77);
	assert_false(io.bio.extent.hole || io.bio.extent.zero);
	for (unsigned op = 0; op < BIO_OPS; op++)
		assert_int_equal(tram_get(&t->ops[op]), 0);
	disk_close(disk);
}

static void block_status_stops_at_a_boundary(void **state)
{
	(void)state;
	struct tram_config c = config(BIO_CAPS_ALL);
	struct disk_io io;

	c.boundary_blocks = 10;
	c.split_on_boundary = true;

	struct tram *t = tram_create("t", &c);
	struct disk *disk = disk_open("t", true);

	disk_start(disk, &io, 1, BIO_BLOCK_STATUS, 0, 18, 77, NULL, 0);
	assert_int_equal(disk_wait(&io), 0);
	assert_int_equal(io.bio.extent.num_blocks, 2);
	assert_true(io.bio.extent.hole);
	assert_int_equal(io.bio.num_blocks, 77);
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

static void read_only_is_enforced(void **state)
{
	(void)state;
	struct tram_config c = config(BIO_CAPS_ALL);
	struct disk *disk;
	static uint8_t buf[BLOCK];

	c.read_only = true;
	tram_create("t", &c);
	assert_int_equal(disk_try_open("t", true, &disk), -EROFS);
	disk = disk_open("t", false);
	assert_int_equal(disk_read(disk, 0, 1, buf), 0);
	assert_int_equal(disk_write(disk, 0, 1, buf), -EBADF);
	disk_close(disk);
}

#define BIG 40U

/* Forty requests that each need the largest buffer: more than there may be on one loop. */
static void shortage_of_buffers_is_waited_out(void **state)
{
	(void)state;
	struct tram_config c = config(BIO_CAPS_ALL);
	size_t len = MIB(1);
	autofree uint8_t *memory = xcalloc(BIG + 1, len + BLOCK);
	autofree uint8_t *back = xcalloc(1, len + 1);
	static struct disk_io ios[BIG];
	struct iovec iovs[BIG];
	struct tram *t;
	struct disk *disk;

	c.num_blocks = BIG * len / BLOCK;
	c.buf_align_bytes = 512;
	t = tram_create("t", &c);
	tram_stack("passthru", "p", (const char *[]){"t"}, 1);
	disk = disk_open("p", true);
	tram_set(&t->held, true);
	for (unsigned i = 0; i < BIG; i++) {
		uint64_t blocks = i % 3 ? len / BLOCK : 8; /* of other sizes too */

		iovs[i] = (struct iovec){memory + i * (len + BLOCK) + 1, len};
		fill_pattern(iovs[i].iov_base, len, i);
		disk_start(disk, &ios[i], 1 + i % 2, BIO_WRITE, 0, i * len / BLOCK, blocks,
		        &iovs[i], 1);
	}
	tram_set(&t->held, false);
	for (unsigned i = 0; i < BIG; i++)
		assert_int_equal(disk_wait(&ios[i]), 0);
	for (unsigned i = 0; i < BIG; i++) {
		uint64_t blocks = i % 3 ? len / BLOCK : 8;

		assert_int_equal(disk_read(disk, i * len / BLOCK, blocks, back + 1), 0);
		assert_memory_equal(back + 1, iovs[i].iov_base, blocks * BLOCK);
	}
	assert_int_equal(tram_get(&t->breaches), 0);
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(limits_are_kept_and_data_is_right, setup, teardown),
	        cmocka_unit_test_setup_teardown(large_requests_go_in_chunks, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                fua_is_a_flush_where_it_is_missing, setup, teardown),
	        cmocka_unit_test_setup_teardown(answers_without_io, setup, teardown),
	        cmocka_unit_test_setup_teardown(block_status_stops_at_a_boundary, setup, teardown),
	        cmocka_unit_test_setup_teardown(read_only_is_enforced, setup, teardown),
	        cmocka_unit_test_setup_teardown(shortage_of_buffers_is_waited_out, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
