/* Check builds end at once when a module breaks the rules of a bio. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/inproc.h"
#include "tests/lib/tram.h"

enum offence {
	NONE,
	COMPLETES_TWICE,
	COMPLETES_AND_FORWARDS,
	COMPLETES_WHILE_SPLIT,
	SUCCEEDS_WITH_A_POSITIVE_STATUS,
	USES_A_FRAME_THAT_IS_GONE,
};

static enum offence offence;

static void bad_done(struct bio *bio)
{
	bio_complete(bio, bio->status);
}

static void bad_submit(struct bio *bio)
{
	struct bdev *base = bio_bdev(bio)->bases[0];

	switch (offence) {
	case NONE:
		bio_forward(bio, base, bio_offset(bio), bad_done);
		break;
	case COMPLETES_TWICE:
		bio_complete(bio, 0);
		bio_complete(bio, 0);
		break;
	case COMPLETES_AND_FORWARDS:
		bio_complete(bio, 0);
		bio_forward(bio, base, bio_offset(bio), NULL);
		break;
	case COMPLETES_WHILE_SPLIT:
		if (!bio_split_begin(bio, 1, bad_submit))
			return;
		bio_split_add(bio, base, bio_offset(bio), bio->num_blocks, 0, NULL);
		bio_complete(bio, 0);
		break;
	case SUCCEEDS_WITH_A_POSITIVE_STATUS:
		bio_complete(bio, 1);
		break;
	case USES_A_FRAME_THAT_IS_GONE:
		bio->frame++;
		bio_complete(bio, 0);
		break;
	}
}

static struct bdev_module bad_module = {
        .name = "tbad",
        .product_name = "tbad",
        .summary = "for tests",
        .bases_min = 1,
        .bases_max = 1,
        .splits = true,
        .no_generated_methods = true,
        .submit = bad_submit,
};
BDEV_MODULE(bad_module);

/* In a process of its own: how it ends. */
static int outcome(enum offence what)
{
	pid_t pid = fork();
	int status = -1;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct tram_config config = {
		        .num_blocks = 64, .block_bytes = 512, .caps = BIO_CAPS_ALL};
		struct disk *disk;
		static uint8_t buf[512];

		if (what != NONE && !freopen("/dev/null", "w", stderr))
			_exit(2);
		inproc_start(1);
		tram_create("t", &config);
		tram_stack("tbad", "b", (const char *[]){"t"}, 1);
		inproc_ok("bdev_wait_for_examine", NULL);
		disk = disk_open("b", true);
		assert_int_equal(disk_write(disk, 1, 1, buf), 0);
		offence = what;
		(void)disk_write(disk, 1, 1, buf);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void nothing_trips_without_an_offence(void **state)
{
	(void)state;
	assert_int_equal(outcome(NONE), 0);
}

static void offences_trip(void **state)
{
	(void)state;
#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
	for (enum offence what = COMPLETES_TWICE; what <= USES_A_FRAME_THAT_IS_GONE; what++) {
		int status = outcome(what);

		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			fail_msg("offence %d: it went on", (int)what);
	}
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(nothing_trips_without_an_offence),
	        cmocka_unit_test(offences_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
