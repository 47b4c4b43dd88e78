/* needs: gcrypt */
/* Known answers: IEEE 1619 for XTS, NIST SP 800-38A for CBC, and a disk of the reference. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/inproc.h"
#include "vbdev/crypto/crypto.h"

static void from_hex(const char *text, uint8_t *out)
{
	for (; *text; text += 2) {
		unsigned byte = 0;

		assert_int_equal(sscanf(text, "%2x", &byte), 1);
		*out++ = (uint8_t)byte;
	}
}

static gcry_cipher_hd_t open_context(enum crypto_cipher cipher, const char *key, const char *key2)
{
	struct crypto_secret secret = {0};
	struct err err = ERR_NONE;
	gcry_cipher_hd_t context = NULL;

	crypto_start();
	if (crypto_parse_keys(cipher, key, key2, &secret, &err) ||
	        crypto_context_open(cipher, &secret, &context, &err))
		fail_msg("%s", err.text);
	return context;
}

/* The parts of a 512-byte unit that begin and end it. */
struct xts_vector {
	const char *key, *key2;
	uint64_t unit;
	bool of_previous; /* the plaintext is the ciphertext of the one before, else 00 01 ... ff */
	const char *first32, *last16;
};

#define XTS128_KEY "27182818284590452353602874713526"
#define XTS128_KEY2 "31415926535897932384626433832795"
#define XTS256_KEY "2718281828459045235360287471352662497757247093699959574966967627"
#define XTS256_KEY2 "3141592653589793238462643383279502884197169399375105820974944592"

/* Vectors 4, 5, 10, 11 and 14 of IEEE 1619-2007, annex B. */
static const struct xts_vector xts_vectors[] = {
        {XTS128_KEY, XTS128_KEY2, 0, false,
                "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c",
                "0a282df920147beabe421ee5319d0568"},
        {XTS128_KEY, XTS128_KEY2, 1, true,
                "264d3ca8512194fec312c8c9891f279fefdd608d0c027b60483a3fa811d65ee5",
                "fd2a89ccb45e001a03a867b187f225dd"},
        {XTS256_KEY, XTS256_KEY2, 0xff, false,
                "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
                "c4f36ffda9fcea70b9c6e693e148c151"},
        {XTS256_KEY, XTS256_KEY2, 0xffff, false,
                "77a31251618a15e6b92d1d66dffe7b50b50bad552305ba0217a610688eff7e11",
                "a4f9e27b42af8100cb9d59cef9645803"},
        {XTS256_KEY, XTS256_KEY2, 0xffffffffff, false,
                "64497e5a831e4a932c09be3e5393376daa599548b816031d224bbf50a818ed23",
                "d609d273ad5b0d59631c531f6a0a57b9"},
};

static void test_ieee_1619(void **state)
{
	uint8_t plain[512], cipher[512] = {0}, back[512], expected[32];

	(void)state;
	for (size_t v = 0; v < ARRAY_SIZE(xts_vectors); v++) {
		const struct xts_vector *vector = &xts_vectors[v];
		struct crypto_unit unit = {
		        .context = open_context(CRYPTO_AES_XTS, vector->key, vector->key2),
		        .tweak = TWEAK_512_UPPER_LBA,
		        .block_shift = 9};

		for (unsigned i = 0; i < 512; i++)
			plain[i] = vector->of_previous ? cipher[i] : (uint8_t)i;
		assert_int_equal(crypto_encrypt(&unit, vector->unit, 1, plain, cipher), 0);
		from_hex(vector->first32, expected);
		assert_memory_equal(cipher, expected, 32);
		from_hex(vector->last16, expected);
		assert_memory_equal(cipher + 512 - 16, expected, 16);
		/* In place it is the same. */
		memcpy(back, plain, 512);
		assert_int_equal(crypto_encrypt(&unit, vector->unit, 1, back, back), 0);
		assert_memory_equal(back, cipher, 512);
		assert_int_equal(crypto_decrypt(&unit, vector->unit, 1, back), 0);
		assert_memory_equal(back, plain, 512);
		crypto_context_close(unit.context);
	}
}

/* NIST SP 800-38A, F.2.1 and F.2.5; their IV is the number of no block. */
static const struct {
	const char *key, *cipher;
} cbc_vectors[] = {
        {"2b7e151628aed2a6abf7158809cf4f3c",
                "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
                "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
        {"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
                "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"},
};

static void test_nist_cbc(void **state)
{
	uint8_t iv[16], bytes[64], expected[64];

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		iv[i] = i;
	for (size_t v = 0; v < ARRAY_SIZE(cbc_vectors); v++) {
		gcry_cipher_hd_t context = open_context(CRYPTO_AES_CBC, cbc_vectors[v].key, NULL);

		from_hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
		         "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
		        bytes);
		assert_int_equal(gcry_cipher_setiv(context, iv, 16), 0);
		assert_int_equal(gcry_cipher_encrypt(context, bytes, 64, NULL, 0), 0);
		from_hex(cbc_vectors[v].cipher, expected);
		assert_memory_equal(bytes, expected, 64);
		crypto_context_close(context);
	}
}

/* Encrypting one 16-byte block of zeroes by CBC shows the tweak, which is decrypted by ECB. */
static void expect_tweak(
        enum crypto_tweak mode, unsigned shift, uint64_t lba, uint64_t first, uint64_t last)
{
	static const char key[] = "2b7e151628aed2a6abf7158809cf4f3c";
	struct crypto_unit unit = {.context = open_context(CRYPTO_AES_CBC, key, NULL),
	        .tweak = mode,
	        .block_shift = shift};
	uint8_t block[4096] = {0}, raw[16];
	gcry_cipher_hd_t ecb;
	uint64_t tweak[2];

	from_hex(key, raw);
	assert_int_equal(crypto_encrypt(&unit, lba, 1, block, block), 0);
	assert_int_equal(gcry_cipher_open(&ecb, GCRY_CIPHER_AES128, GCRY_CIPHER_MODE_ECB, 0), 0);
	assert_int_equal(gcry_cipher_setkey(ecb, raw, 16), 0);
	assert_int_equal(gcry_cipher_decrypt(ecb, tweak, 16, block, 16), 0);
	gcry_cipher_close(ecb);
	crypto_context_close(unit.context);
	assert_true(tweak[0] == host_le64(first) && tweak[1] == host_le64(last));
}

static void test_tweaks(void **state)
{
	(void)state;
	expect_tweak(TWEAK_SIMPLE_LBA, 12, 0x123456789a, 0, 0x123456789a);
	expect_tweak(TWEAK_JOIN_NEG_LBA, 12, 0x123456789a, 0x7fffffedcba98765, 0x123456789a);
	expect_tweak(TWEAK_512_FULL_LBA, 12, 0x123456789a, 0, 0x91a2b3c4d0);
	expect_tweak(TWEAK_512_FULL_LBA, 9, 7, 0, 7);
	expect_tweak(TWEAK_512_UPPER_LBA, 12, 0x123456789a, 0x91a2b3c4d0, 0);
	expect_tweak(TWEAK_CBC, 12, 0x123456789a, 0x123456789a, 0);
}

/* Blocks that are done together are what they are one by one. */
static void test_blocks_stand_alone(void **state)
{
	static uint8_t plain[8 * 4096], together[8 * 4096], one[4096];
	struct crypto_unit unit = {.context = open_context(CRYPTO_AES_XTS, XTS256_KEY, XTS256_KEY2),
	        .tweak = TWEAK_SIMPLE_LBA,
	        .block_shift = 12};

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 7 + i / 4096);
	assert_int_equal(crypto_encrypt(&unit, 1000, 8, plain, together), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(crypto_encrypt(&unit, 1000 + i, 1, plain + i * 4096, one), 0);
		assert_memory_equal(one, together + i * 4096, 4096);
	}
	assert_int_equal(crypto_decrypt(&unit, 1000, 8, together), 0);
	assert_memory_equal(together, plain, sizeof(plain));
	crypto_context_close(unit.context);
}

/* ---- keys as text ------------------------------------------------------------------------------
 */

#define A32 "000102030405060708090a0B0C0D0E0F"
#define B32 "100102030405060708090a0b0c0d0e0f"

static int parse_file(enum crypto_cipher cipher, const char *text, struct crypto_secret *out)
{
	struct err err = ERR_NONE;
	int rc = crypto_parse_file(cipher, text, strlen(text), out, &err);

	assert_int_equal(rc, err.code);
	assert_null(strstr(err.text, "0102"));
	return rc;
}

static void test_key_files(void **state)
{
	struct crypto_secret secret;

	(void)state;
	assert_int_equal(parse_file(CRYPTO_AES_XTS, A32 "\n" B32 "\n", &secret), 0);
	assert_int_equal(secret.key_bytes, 16);
	assert_int_equal(secret.keys[15], 0x0f);
	assert_int_equal(secret.keys[16], 0x10);
	assert_int_equal(parse_file(CRYPTO_AES_XTS, " \t" A32 B32 "\r\n" B32 A32, &secret), 0);
	assert_int_equal(secret.key_bytes, 32);
	assert_int_equal(parse_file(CRYPTO_AES_CBC, A32, &secret), 0);
	assert_int_equal(parse_file(CRYPTO_AES_CBC, "", &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_CBC, " \n", &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_CBC, A32 " " B32, &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_XTS, A32, &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_XTS, A32 " " A32, &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_XTS, A32 " " B32 A32, &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_XTS, A32 " " B32 " x", &secret), -EINVAL);
	assert_int_equal(parse_file(CRYPTO_AES_XTS, A32 " " B32 "0", &secret), -EINVAL);
	assert_int_equal(
	        parse_file(CRYPTO_AES_CBC, "0x0102030405060708090a0b0c0d0e0f", &secret), -EINVAL);
}

/* ---- speed -------------------------------------------------------------------------------------
 */

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* CPU time of libgcrypt for one request of so many bytes, in blocks of 4 KiB: the best of several
 * short runs over as many buffers as a load has in flight. */
static double bare_ns(gcry_cipher_hd_t h, size_t bytes, bool writes)
{
	enum {
		BUFFERS = 128,
		ROUNDS = 12
	};
	uint8_t *data = xcalloc(BUFFERS, bytes), *out = xcalloc(1, bytes);
	double best = 1e18;

	memset(data, 1, BUFFERS * bytes);
	for (unsigned r = 0; r < ROUNDS; r++) {
		unsigned requests = 0;
		uint64_t start = cpu_ns(), spent;

		do {
			uint8_t *at = data + requests % BUFFERS * bytes;

			for (size_t b = 0; b < bytes; b += 4096) {
				uint64_t iv[2] = {0, requests + b};

				gcry_cipher_setiv(h, iv, 16);
				if (writes)
					gcry_cipher_encrypt(h, out + b, 4096, at + b, 4096);
				else
					gcry_cipher_decrypt(h, at + b, 4096, NULL, 0);
			}
			/* The clock costs more than a small request. */
			spent = ++requests % 64 ? 0 : cpu_ns() - start;
		} while (spent < 50 * NSEC_PER_MSEC);
		if ((double)spent / requests < best)
			best = (double)spent / requests;
	}
	free(data);
	free(out);
	return best;
}

static int bench(void)
{
	static const size_t sizes[] = {4096, 131072};

	for (unsigned bits = 128; bits <= 256; bits += 128) {
		bool small = bits == 128;
		gcry_cipher_hd_t h = open_context(CRYPTO_AES_XTS, small ? XTS128_KEY : XTS256_KEY,
		        small ? XTS128_KEY2 : XTS256_KEY2);

		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			for (int writes = 0; writes <= 1; writes++)
				printf("%u %zu %s %.1f\n", bits, sizes[i],
				        writes ? "write" : "read", bare_ns(h, sizes[i], writes));
		}
		crypto_context_close(h);
	}
	return 0;
}

/* With --bench: what libgcrypt alone takes, for bench/crypto. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_ieee_1619),
	        cmocka_unit_test(test_nist_cbc),
	        cmocka_unit_test(test_tweaks),
	        cmocka_unit_test(test_blocks_stand_alone),
	        cmocka_unit_test(test_key_files),
	};

	if (argc == 2 && strcmp(argv[1], "--bench") == 0)
		return bench();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
