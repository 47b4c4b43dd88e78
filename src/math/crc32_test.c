/* CRC-32 against published check values, and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "math/crc32.h"

static void test_check_values(void **state)
{
	uint8_t bytes[32] = {0};

	(void)state;
	assert_int_equal(crc32_update(0, "", 0), 0);
	assert_int_equal(crc32_update(0, "a", 1), 0xe8b7be43);
	assert_int_equal(crc32_update(0, "123456789", 9), 0xcbf43926);
	assert_int_equal(crc32_update(0, bytes, sizeof(bytes)), 0x190a55ad);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32_update(0, bytes, sizeof(bytes)), 0xff6cab0b);
}

static void test_pieces(void **state)
{
	static const char text[] = "in as many pieces as one likes";
	size_t len = sizeof(text) - 1;

	(void)state;
	for (size_t i = 0; i <= len; i++) {
		uint32_t crc = crc32_update(0, text, i);

		assert_int_equal(crc32_update(crc, text + i, len - i), crc32_update(0, text, len));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_check_values),
	        cmocka_unit_test(test_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
