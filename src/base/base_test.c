#include "base/base.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_parse_size(void maybe_unused **state)
{
	const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
	        {"0", 0},
	        {"512", 512},
	        {"512B", 512},
	        {"64k", KIB(64)},
	        {"64K", KIB(64)},
	        {"64KB", KIB(64)},
	        {"64KiB", KIB(64)},
	        {"64kib", KIB(64)},
	        {"1M", MIB(1)},
	        {"20G", GIB(20)},
	        {"20 GiB", GIB(20)},
	        {"1.5T", GIB(1536)},
	        {"1P", GIB(1) << 20},
	        {"0.5k", 512},
	        {"0.000001k", 0},
	        {"1.999999999999999999K", 2047},
	        {"0001", 1},
	        {"18446744073709551615", UINT64_MAX},
	        {"16383P", 16383 * (GIB(1) << 20)},
	        {"16383.999P", 18446742947809644773ULL},
	};
	const char *bad[] = {"", " ", "G", "-1", "+1", "1.", "1.G", ".5G", "1.5", "1.5B", "0x10",
	        "1 ", " 1", "1  G", "1 2", "1Q", "1KK", "1Ki", "1KiX", "1GiBB", "12a", "1,5G",
	        "1.0000000000000000000G", "nan", "inf", "1e3"};
	const char *range[] = {"18446744073709551616", "99999999999999999999999999", "16384P",
	        "18014398509481984K", "99999999999999999999999999P"};
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		bytes = 1;
		assert_int_equal(parse_size_bytes(good[i].text, &bytes), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
	bytes = 42;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_size_bytes(bad[i], &bytes), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(range); i++)
		assert_int_equal(parse_size_bytes(range[i], &bytes), -ERANGE);
	assert_int_equal(bytes, 42);
}

static void check_format(uint64_t bytes, const char *text)
{
	char buf[SIZE_TEXT_MAX];

	assert_ptr_equal(format_size_bytes(buf, sizeof(buf), bytes), buf);
	assert_string_equal(buf, text);
}

static void test_format_size(void maybe_unused **state)
{
	uint64_t back;
	char buf[SIZE_TEXT_MAX];

	check_format(0, "0 B");
	check_format(1023, "1023 B");
	check_format(1024, "1 KiB");
	check_format(1536, "1.5 KiB");
	check_format(GIB(20), "20 GiB");
	check_format(GIB(20) + 1, "20.0 GiB");
	check_format(GIB(20) - 1, "19.9 GiB");
	check_format(MIB(1) - 1, "1023.9 KiB");
	check_format(UINT64_MAX, "15.9 EiB");
	check_format(1ULL << 60, "1 EiB");
	/* What is printed exactly can be read back. */
	for (int shift = 0; shift < 58; shift++) {
		format_size_bytes(buf, sizeof(buf), 3ULL << shift);
		assert_int_equal(parse_size_bytes(buf, &back), 0);
		assert_int_equal(back, 3ULL << shift);
	}
}

static void test_str_copy(void maybe_unused **state)
{
	char buf[4];

	assert_true(str_copy(buf, sizeof(buf), "abc"));
	assert_string_equal(buf, "abc");
	assert_false(str_copy(buf, sizeof(buf), "abcd"));
	assert_string_equal(buf, "abc");
	assert_true(str_copy(buf, sizeof(buf), ""));
	assert_string_equal(buf, "");
	assert_false(str_copy(buf, 1, "x"));
	assert_string_equal(buf, "");
}

static void check_zero_aligned(size_t align, size_t bytes)
{
	/* What was there before must not show through. */
	for (int round = 0; round < 2; round++) {
		uint8_t *p = try_alloc_aligned(align, bytes);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % align, 0);
		for (size_t i = 0; i < bytes; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, bytes);
		free(p);
	}
}

static void test_alloc(void maybe_unused **state)
{
	autofree char *text = xasprintf("%s-%d", "a", 7), *copy = xstrdup(text);
	char *stolen;

	assert_string_equal(copy, "a-7");
	stolen = steal_ptr(&copy);
	assert_null(copy);
	free(stolen);
	free(xcalloc(0, 0));
	free(xrealloc(NULL, 0));
	check_zero_aligned(1, 100);
	check_zero_aligned(64, 1);
	check_zero_aligned(4096, 0);
	check_zero_aligned(4096, MIB(1));
	check_zero_aligned(64, MIB(1) + 4097);
	check_zero_aligned(2, MIB(3) + 1);
	check_zero_aligned(MIB(2), MIB(2) + 5);
	assert_null(try_alloc_aligned(4096, SIZE_MAX));
	assert_null(try_alloc_aligned(4096, (size_t)1 << 62));
}

static void test_arithmetic(void maybe_unused **state)
{
	assert_int_equal(div_round_up_u64(0, 5), 0);
	assert_int_equal(div_round_up_u64(UINT64_MAX, 2), 1ULL << 63);
	assert_int_equal(align_up_u64(4097, 4096), 8192);
	assert_int_equal(align_up_u64(4096, 4096), 4096);
	assert_true(is_power_of_two(1) && is_power_of_two(1ULL << 63));
	assert_false(is_power_of_two(0) || is_power_of_two(6));
}

static void test_err(void maybe_unused **state)
{
	struct err err = ERR_NONE;
	char longer[2 * ERR_TEXT_MAX];

	err_prefix(&err, "nothing there");
	assert_int_equal(err.code, 0);
	assert_string_equal(err.text, "");
	assert_int_equal(err_set(&err, -EBUSY, "'%s' is in use", "Disk0"), -EBUSY);
	assert_int_equal(err.code, -EBUSY);
	err_prefix(&err, "raid '%s'", "R0");
	assert_string_equal(err.text, "raid 'R0': 'Disk0' is in use");
	assert_int_equal(err_set(NULL, -EINVAL, "nobody reads this"), -EINVAL);
	err_prefix(NULL, "nor this");

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	err_set(&err, -EINVAL, "%s", longer);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_prefix(&err, "first");
	assert_int_equal(strncmp(err.text, "first: xxx", 10), 0);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_prefix(&err, "%s", longer);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void test_errno_text(void maybe_unused **state)
{
	assert_string_equal(errno_text(ENOENT), errno_text(-ENOENT));
	assert_string_equal(errno_text(-ENOENT), "No such file or directory");
	assert_non_null(errno_text(INT_MIN));
	assert_non_null(errno_text(INT_MAX));
	assert_non_null(errno_text(4000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_parse_size),
	        cmocka_unit_test(test_format_size),
	        cmocka_unit_test(test_str_copy),
	        cmocka_unit_test(test_alloc),
	        cmocka_unit_test(test_arithmetic),
	        cmocka_unit_test(test_err),
	        cmocka_unit_test(test_errno_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
