/* The published vectors of CRC-32C, and the raw form against a bit-wise loop. */
#include "math/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint32_t slow(uint32_t crc, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78U : 0);
	}
	return crc;
}

static void test_vectors(void **state)
{
	uint8_t zeroes[32] = {0}, ones[32], up[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (uint8_t i = 0; i < 32; i++)
		up[i] = i;
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(zeroes, 32), 0x8a9136aa);
	assert_int_equal(crc32c(ones, 32), 0x62a8ab43);
	assert_int_equal(crc32c(up, 32), 0x46dd794e);
	assert_int_equal(crc32c(NULL, 0), 0);
}

static void test_raw_form(void **state)
{
	uint8_t bytes[300];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 13);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		uint32_t all = crc32c_update(0, bytes, len);

		assert_int_equal(all, slow(0, bytes, len));
		/* In two parts it is the same. */
		assert_int_equal(crc32c_update(crc32c_update(0, bytes, len / 3), bytes + len / 3,
		                         len - len / 3),
		        all);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_vectors),
	        cmocka_unit_test(test_raw_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
