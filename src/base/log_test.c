#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char captured[1 << 20];

/* What fn writes to stderr. */
static const char *capture(void (*fn)(void))
{
	FILE *file = tmpfile();
	int before = dup(STDERR_FILENO);
	size_t len;

	assert_non_null(file);
	dup2(fileno(file), STDERR_FILENO);
	fn();
	dup2(before, STDERR_FILENO);
	close(before);
	rewind(file);
	len = fread(captured, 1, sizeof(captured) - 1, file);
	captured[len] = '\0';
	fclose(file);
	return captured;
}

static uint64_t fixed_clock(void)
{
	return 1769860800 * NSEC_PER_SEC + 999999999;
}

static void write_levels(void)
{
	log_error("a", "one %d", 1);
	log_notice("b", "two");
	log_debug("c", "three");
}

static void test_levels_and_stamp(void maybe_unused **state)
{
	assert_int_equal(log_get_print_level(), LOG_NOTICE);
	assert_string_equal(capture(write_levels), "ERROR a: one 1\nNOTICE b: two\n");
	log_set_print_level(LOG_DEBUG);
	assert_string_equal(
	        capture(write_levels), "ERROR a: one 1\nNOTICE b: two\nDEBUG c: three\n");
	log_set_print_level(LOG_ERROR);
	log_set_clock(fixed_clock);
	assert_string_equal(capture(write_levels), "2026-01-31T12:00:00Z ERROR a: one 1\n");
	log_set_clock(NULL);
	log_set_print_level(LOG_NOTICE);
}

static void write_hostile(void)
{
	char longer[4000];

	log_error("x", "%s", "name\nERROR x: faked\x1b[2J\x7f");
	memset(longer, 'y', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	log_error("x", "%s", longer);
	log_error(longer, "%s", longer);
}

/* One call is one line, whatever stands in it. */
static void test_hostile_text(void maybe_unused **state)
{
	const char *text = capture(write_hostile);
	unsigned lines = 0;

	for (const char *p = text; *p; p++) {
		lines += *p == '\n';
		assert_true(*p == '\n' || (*p >= ' ' && *p < '\x7f'));
	}
	assert_int_equal(lines, 3);
	assert_int_equal(strncmp(text, "ERROR x: name ERROR x: faked [2J \n", 34), 0);
}

static void *write_many(void *arg)
{
	for (int i = 0; i < 1000; i++)
		log_error("thread", "%s", (const char *)arg);
	return NULL;
}

static void write_from_threads(void)
{
	static char text[4][2] = {"a", "b", "c", "d"};
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, text[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static void test_threads(void maybe_unused **state)
{
	const char *text = capture(write_from_threads);

	assert_int_equal(strlen(text), 4 * 1000 * strlen("ERROR thread: a\n"));
	for (int i = 0; i < 4000; i++)
		assert_int_equal(strncmp(text + i * 16, "ERROR thread: ", 14), 0);
}

static void test_level_names(void maybe_unused **state)
{
	enum log_level level = LOG_INFO;

	for (unsigned i = 0; i < LOG_LEVELS; i++) {
		assert_int_equal(log_level_parse(log_level_name((enum log_level)i), &level), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("warning", &level), 0);
	assert_int_equal(level, LOG_WARNING);
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
	assert_int_equal(log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, LOG_WARNING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_levels_and_stamp),
	        cmocka_unit_test(test_hostile_text),
	        cmocka_unit_test(test_threads),
	        cmocka_unit_test(test_level_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
