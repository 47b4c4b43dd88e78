/* needs: gcrypt */
/* The crypto bdev: what it stores, how requests of every shape come back, and what a resize does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bdev/bdev.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "tests/lib/load.h"
#include "tests/lib/rng.h"
#include "vbdev/crypto/crypto.h"

#define KEY "00112233445566778899aabbccddeeff"
#define KEY2 "ffeeddccbbaa99887766554433221100"
#define FIXTURE_BYTES 16384U

__asm__(".section .rodata\n"
        "reference_disk: .incbin \"tests/fixtures/xts128-512.img\"\n"
        ".previous\n");
extern const uint8_t reference_disk[FIXTURE_BYTES];

static int setup(void **state)
{
	(void)state;
	bdev_options()->auto_examine = false; /* its reads count too */
	inproc_start(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static void make(const char *cipher, unsigned block_bytes, uint64_t blocks, bool unmap)
{
	bool xts = strcmp(cipher, "AES_XTS") == 0;

	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': %llu, 'block_size': %u}",
	        (unsigned long long)blocks, block_bytes);
	inproc_ok("bdev_crypto_create",
	        "{'name': 'c', 'base_bdev_name': 'm', 'cipher': '%s', 'key': '" KEY
	        "', 'unmap': %s%s}",
	        cipher, unmap ? "true" : "false", xts ? ", 'key2': '" KEY2 "'" : "");
}

/* What must be on the base, by contexts of the test's own. */
static void encrypt(bool xts, unsigned block_bytes, uint64_t lba, uint64_t blocks, uint8_t *bytes)
{
	static const char keys[] =
	        "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
	        "\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x77\x66\x55\x44\x33\x22\x11";
	int mode = xts ? GCRY_CIPHER_MODE_XTS : GCRY_CIPHER_MODE_CBC;
	gcry_cipher_hd_t h;

	assert_int_equal(gcry_cipher_open(&h, GCRY_CIPHER_AES128, mode, 0), 0);
	assert_int_equal(gcry_cipher_setkey(h, keys, xts ? 32 : 16), 0);
	for (uint64_t i = 0; i < blocks; i++, bytes += block_bytes) {
		uint8_t iv[16] = {0};

		for (unsigned k = 0; k < 8; k++)
			iv[(xts ? 8 : 0) + k] = (uint8_t)((lba + i) >> 8 * k);
		assert_int_equal(gcry_cipher_setiv(h, iv, 16), 0);
		assert_int_equal(gcry_cipher_encrypt(h, bytes, block_bytes, NULL, 0), 0);
	}
	gcry_cipher_close(h);
}

/* ---- what is stored ----------------------------------------------------------------------------
 */

static void reference_text(unsigned block, uint8_t *out)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "fx_xts128 sector %012u ", block);

	for (unsigned i = 0; i < 512; i++)
		out[i] = (uint8_t)text[i % (unsigned)len];
}

static void test_reference_disk(void **state)
{
	const unsigned blocks = FIXTURE_BYTES / 512;
	uint8_t plain[FIXTURE_BYTES], bytes[FIXTURE_BYTES];

	(void)state;
	for (unsigned i = 0; i < blocks; i++)
		reference_text(i, plain + i * 512ULL);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 64, 'block_size': 512}");
	struct disk *base = disk_open("m", true);

	assert_int_equal(disk_write(base, 0, blocks, reference_disk), 0);
	disk_close(base);
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'k', 'cipher': 'AES_XTS', 'key': '" KEY "', 'key2': '" KEY2 "'}");
	inproc_ok("bdev_crypto_create", "{'name': 'c', 'base_bdev_name': 'm', 'key_name': 'k'}");
	struct disk *disk = disk_open("c", true);

	assert_int_equal(disk_read(disk, 0, blocks, bytes), 0);
	assert_memory_equal(bytes, plain, sizeof(plain));
	/* And the other way round. */
	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, 0, 0, blocks, NULL), 0);
	assert_int_equal(disk_write(disk, 0, blocks, plain), 0);
	disk_close(disk);
	base = disk_open("m", false);
	assert_int_equal(disk_read(base, 0, blocks, bytes), 0);
	assert_memory_equal(bytes, reference_disk, sizeof(bytes));
	disk_close(base);
}

/* Data cut into pieces at random, so that blocks lie across them. */
static unsigned cut(struct rng *rng, uint8_t *bytes, size_t len, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	while (len > 0 && n < max - 1) {
		size_t piece = rng_below(rng, 4) ? rng_below(rng, 9000) : rng_below(rng, 20);

		if (piece > len)
			piece = len;
		iov[n++] = (struct iovec){bytes, piece};
		bytes += piece;
		len -= piece;
	}
	iov[n++] = (struct iovec){bytes, len};
	return n;
}

/* Any cut of any request: as stored, as read, and as left with the writer. */
static void shapes(const char *cipher, unsigned block_bytes)
{
	const uint64_t blocks = MIB(4) / block_bytes;
	uint8_t *plain = xcalloc(blocks, block_bytes), *bytes = xcalloc(blocks, block_bytes);
	struct rng rng = rng_of(block_bytes);
	struct iovec iov[64];
	struct disk_io io;

	make(cipher, block_bytes, blocks, false);
	struct disk *disk = disk_open("c", true), *base = disk_open("m", false);

	for (unsigned i = 0; i < 150; i++) {
		uint64_t len = 1 + rng_below(&rng, i % 10 ? 20 : blocks - 1);
		uint64_t offset = rng_below(&rng, blocks - len + 1);
		unsigned n;

		fill_pattern(plain, len * block_bytes, i);
		memcpy(bytes, plain, len * block_bytes);
		n = cut(&rng, bytes, len * block_bytes, iov, ARRAY_SIZE(iov));
		disk_start(
		        disk, &io, 1 + i % 2, BIO_WRITE, i % 3 ? 0 : BIO_FUA, offset, len, iov, n);
		assert_int_equal(disk_wait(&io), 0);
		assert_memory_equal(bytes, plain, len * block_bytes);
		assert_int_equal(disk_read(base, offset, len, bytes), 0);
		encrypt(cipher[4] == 'X', block_bytes, offset, len, plain);
		assert_memory_equal(bytes, plain, len * block_bytes);

		fill_pattern(plain, len * block_bytes, i);
		n = cut(&rng, bytes, len * block_bytes, iov, ARRAY_SIZE(iov));
		disk_start(disk, &io, 2 - i % 2, BIO_READ, 0, offset, len, iov, n);
		assert_int_equal(disk_wait(&io), 0);
		assert_memory_equal(bytes, plain, len * block_bytes);
		assert_int_equal(disk_do(disk, 1, BIO_COMPARE, 0, offset, len, bytes), 0);
		bytes[len * block_bytes - 1] ^= 1;
		assert_int_equal(disk_do(disk, 1, BIO_COMPARE, 0, offset, len, bytes), -EILSEQ);
	}
	disk_close(disk);
	disk_close(base);
	free(plain);
	free(bytes);
}

static void test_shapes_xts(void **state)
{
	(void)state;
	shapes("AES_XTS", 512);
}

static void test_shapes_cbc(void **state)
{
	(void)state;
	shapes("AES_CBC", 4096);
}

static void test_shapes_large_blocks(void **state)
{
	(void)state;
	shapes("AES_XTS", 65536);
}

/* Two on top of each other: each sees its own data. */
static void test_twice(void **state)
{
	enum {
		BYTES = 64 * 512
	};
	uint8_t plain[BYTES], bytes[BYTES];

	(void)state;
	make("AES_XTS", 512, 1024, false);
	inproc_ok("bdev_crypto_create",
	        "{'name': 'd', 'base_bdev_name': 'c', 'cipher': 'AES_CBC', 'key': '" KEY "'}");
	struct disk *disk = disk_open("d", true), *base = disk_open("m", false);

	fill_pattern(plain, BYTES, 1);
	assert_int_equal(disk_write(disk, 100, 64, plain), 0);
	assert_int_equal(disk_read(disk, 100, 64, bytes), 0);
	assert_memory_equal(bytes, plain, BYTES);
	assert_int_equal(disk_read(base, 100, 64, bytes), 0);
	encrypt(false, 512, 100, 64, plain);
	encrypt(true, 512, 100, 64, plain);
	assert_memory_equal(bytes, plain, BYTES);
	disk_close(disk);
	disk_close(base);
}

/* A layer that tries again after an error finds the data as it was. */
static void test_failed_write_gives_the_view_back(void **state)
{
	uint8_t plain[8 * 512], bytes[8 * 512];
	struct iovec iov[2] = {{plain, 700}, {plain + 700, sizeof(plain) - 700}};
	struct disk_io io;

	(void)state;
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 64, 'block_size': 512}");
	inproc_ok("bdev_error_create", "{'base_name': 'm'}");
	inproc_ok("bdev_crypto_create",
	        "{'name': 'c', 'base_bdev_name': 'EE_m', 'cipher': 'AES_CBC', 'key': '" KEY "'}");
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'write', 'error_type': 'failure', 'num': 1}");
	inproc_ok("bdev_error_inject_error",
	        "{'name': 'EE_m', 'io_type': 'read', 'error_type': 'failure', 'num': 1}");
	struct disk *disk = disk_open("c", true);

	fill_pattern(plain, sizeof(plain), 3);
	disk_start(disk, &io, 1, BIO_WRITE, 0, 8, 8, iov, 2);
	assert_int_equal(disk_wait(&io), -EIO);
	assert_ptr_equal(io.bio.iov, iov);
	assert_int_equal(io.bio.iovcnt, 2);
	disk_start(disk, &io, 1, BIO_WRITE, 0, 8, 8, iov, 2);
	assert_int_equal(disk_wait(&io), 0);
	assert_int_equal(disk_read(disk, 8, 8, bytes), -EIO);
	assert_int_equal(disk_read(disk, 8, 8, bytes), 0);
	assert_memory_equal(bytes, plain, sizeof(plain));
	disk_close(disk);
}

static uint8_t *raw_copy(uint64_t sectors)
{
	uint8_t *bytes = xcalloc(sectors, 512);
	struct disk *base = disk_open("m", false);

	assert_int_equal(disk_read(base, 0, sectors * 512 / base->block_bytes, bytes), 0);
	disk_close(base);
	return bytes;
}

/* ---- zeroes and unmap --------------------------------------------------------------------------
 */

static bool all_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static void test_zeroes(void **state)
{
	uint8_t bytes[300 * 512];

	(void)state;
	make("AES_XTS", 512, 1024, false);
	struct disk *disk = disk_open("c", true), *base = disk_open("m", false);

	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, BIO_FUA, 10, 300, NULL), 0);
	assert_int_equal(disk_read(disk, 10, 300, bytes), 0);
	assert_true(all_zero(bytes, sizeof(bytes)));
	assert_int_equal(disk_read(base, 10, 300, bytes), 0);
	for (unsigned i = 0; i < 300; i++)
		assert_false(all_zero(bytes + i * 512ULL, 512));
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 10, 300, NULL), -EOPNOTSUPP);
	assert_int_equal(disk_do(disk, 1, BIO_FLUSH, 0, 0, 0, NULL), 0);
	/* What was never written is noise. */
	assert_int_equal(disk_read(disk, 500, 1, bytes), 0);
	assert_false(all_zero(bytes, 512));
	disk_close(disk);
	disk_close(base);
}

static void test_unmap_by_option(void **state)
{
	uint8_t plain[64 * 512], bytes[64 * 512];

	(void)state;
	make("AES_XTS", 512, 1024, true);
	struct disk *disk = disk_open("c", true), *base = disk_open("m", false);

	assert_int_equal(disk_read(disk, 0, 64, bytes), 0);
	assert_true(all_zero(bytes, sizeof(bytes)));
	fill_pattern(plain, sizeof(plain), 5);
	assert_int_equal(disk_write(disk, 100, 64, plain), 0);
	assert_int_equal(disk_do(disk, 1, BIO_UNMAP, 0, 110, 20, NULL), 0);
	assert_int_equal(disk_do(disk, 1, BIO_WRITE_ZEROES, 0, 140, 2, NULL), 0);
	memset(plain + 10 * 512, 0, 20 * 512);
	memset(plain + 40 * 512, 0, 2 * 512);
	assert_int_equal(disk_read(disk, 100, 64, bytes), 0);
	assert_memory_equal(bytes, plain, sizeof(plain));
	assert_int_equal(disk_read(base, 110, 20, bytes), 0);
	assert_true(all_zero(bytes, 20 * 512));
	/* Zeroes that were written are stored as the reference stores them. */
	assert_int_equal(disk_read(base, 140, 1, bytes), 0);
	encrypt(true, 512, 140, 1, plain + 40 * 512);
	assert_memory_equal(bytes, plain + 40 * 512, 512);
	disk_close(disk);
	disk_close(base);
}

/* A power cut has left parts of blocks unmapped, or not yet written. */
static void test_torn_unmap(void **state)
{
	uint8_t plain[2 * 4096], bytes[2 * 4096];

	(void)state;
	make("AES_XTS", 4096, 64, true);
	struct disk *disk = disk_open("c", true);

	fill_pattern(plain, sizeof(plain), 5);
	assert_int_equal(disk_write(disk, 10, 2, plain), 0);
	disk_close(disk);
	uint8_t *raw = raw_copy(64 * 8);

	inproc_ok("bdev_crypto_delete", "{'name': 'c'}");
	memset(raw + 10 * 4096 + 512, 0, 1024);
	memset(raw + 11 * 4096 + 7 * 512, 0, 512);
	memset(plain + 512, 0, 1024);
	memset(plain + 4096 + 7 * 512, 0, 512);
	disk = disk_open("m", true);
	assert_int_equal(disk_write(disk, 0, 64, raw), 0);
	disk_close(disk);
	inproc_ok("bdev_crypto_create",
	        "{'name': 'c', 'base_bdev_name': 'm', 'cipher': 'AES_XTS', 'key': '" KEY
	        "', 'key2': '" KEY2 "', 'unmap': true}");
	disk = disk_open("c", false);
	assert_int_equal(disk_read(disk, 10, 2, bytes), 0);
	assert_memory_equal(bytes, plain, sizeof(plain));
	disk_close(disk);
	free(raw);
}

/* ---- resize ------------------------------------------------------------------------------------
 */

/*
 * Blocks lie still at both ends of what stays, and between them all is read and written, also while
 * the resizes are under way: they go on until requests have ended during one of each kind.
 */
#define RESIZED_BLOCKS 8192ULL
#define LIVE_FROM (RESIZED_BLOCKS / 4)
#define LIVE_TO (RESIZED_BLOCKS / 2)
#define STILL_TO (RESIZED_BLOCKS * 3 / 4)

/* Reads nothing of what is being written. */
static void expect_still(const uint8_t *before)
{
	static const uint64_t parts[2][2] = {{0, LIVE_FROM}, {LIVE_TO, STILL_TO}};
	uint8_t *after = xcalloc(STILL_TO, 512);
	struct disk *base = disk_open("m", false);

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		uint64_t from = parts[i][0], to = parts[i][1];

		assert_int_equal(disk_read(base, from, to - from, after + from * 512), 0);
		for (uint64_t b = from; b < to; b++) {
			if (memcmp(before + b * 512, after + b * 512, 512) != 0)
				fail_msg("block %llu has changed", (unsigned long long)b);
		}
	}
	disk_close(base);
	free(after);
}

static void resize_leaves_ciphertext(const char *cipher)
{
	static const unsigned quarters[] = {6, 8, 5, 4, 3, 4, 3, 7};
	uint8_t *plain = xcalloc(RESIZED_BLOCKS, 512), *before, *after;

	make(cipher, 512, RESIZED_BLOCKS, false);
	struct disk *disk = disk_open("c", true);

	fill_pattern(plain, STILL_TO * 512, 9);
	assert_int_equal(disk_write(disk, 0, STILL_TO, plain), 0);
	before = raw_copy(STILL_TO);
	const struct load_config config = {.data_loops = 2,
	        .depth = 8,
	        .first_block = LIVE_FROM,
	        .num_blocks = LIVE_TO - LIVE_FROM,
	        .seed = 1};
	struct load *load = load_start(disk, &config);
	uint64_t now = RESIZED_BLOCKS, during[2] = {0};

	for (unsigned i = 0; i < ARRAY_SIZE(quarters) || !during[0] || !during[1]; i++) {
		uint64_t size = RESIZED_BLOCKS * quarters[i % ARRAY_SIZE(quarters)] / 4, before_it;

		load_run(load, 100);
		before_it = load_requests(load);
		assert_int_equal(disk_resize("m", size, NULL), 0);
		during[size > now] += load_requests(load) - before_it;
		now = size;
		assert_int_equal(bdev_blocks_of("c"), size);
		assert_int_equal(disk_blocks(disk), size);
		assert_int_equal(disk->told, i + 1);
		expect_still(before);
	}
	struct load_result result = load_stop(load);

	assert_int_equal(result.mismatches, 0);
	assert_int_equal(result.errors, 0);
	/* Every block, whenever it was written, is what it must be for its number. */
	assert_int_equal(disk_read(disk, 0, STILL_TO, plain), 0);
	encrypt(cipher[4] == 'X', 512, 0, STILL_TO, plain);
	after = raw_copy(STILL_TO);
	assert_memory_equal(plain, after, STILL_TO * 512);
	disk_close(disk);
	free(before);
	free(after);
	free(plain);
}

static void test_resize_leaves_ciphertext_xts(void **state)
{
	(void)state;
	resize_leaves_ciphertext("AES_XTS");
}

static void test_resize_leaves_ciphertext_cbc(void **state)
{
	(void)state;
	resize_leaves_ciphertext("AES_CBC");
}

/* More than the buffers of a loop hold, each cut by the core. */
static void test_large_requests_at_once(void **state)
{
	enum {
		N = 24
	};
	const size_t len = MIB(3);
	uint8_t *bytes[N], *back = xcalloc(1, len);
	struct disk_io io[N];
	struct iovec iov[N];

	(void)state;
	make("AES_XTS", 4096, N * len / 4096, false);
	struct disk *disk = disk_open("c", true);

	for (unsigned i = 0; i < N; i++) {
		bytes[i] = xcalloc(1, len);
		fill_pattern(bytes[i], len, i);
		iov[i] = (struct iovec){bytes[i], len};
		disk_start(disk, &io[i], 1 + i % 2, BIO_WRITE, 0, i * len / 4096, len / 4096,
		        &iov[i], 1);
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(disk_wait(&io[i]), 0);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(disk_read(disk, i * len / 4096, len / 4096, back), 0);
		assert_memory_equal(back, bytes[i], len);
		free(bytes[i]);
	}
	disk_close(disk);
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_reference_disk, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shapes_xts, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shapes_cbc, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_shapes_large_blocks, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_twice, setup, teardown),
	        cmocka_unit_test_setup_teardown(
	                test_failed_write_gives_the_view_back, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_zeroes, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_unmap_by_option, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_torn_unmap, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_resize_leaves_ciphertext_xts, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_resize_leaves_ciphertext_cbc, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_large_requests_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
