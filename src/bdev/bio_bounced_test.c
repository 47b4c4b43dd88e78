/* Buffers that are given back early, and layers' ends that go on upward at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/bdev_testing.h"

/* ---- a layer that writes what is in its own buffer --------------------------------------------
 */

static void *buffers[4]; /* in order of submission */
static unsigned num_buffers;

static void written(struct bio *bio)
{
	bio_restore_data(bio);
	bio_complete_up(bio, bio->status);
}

static void seal_submit(struct bio *bio)
{
	void *buffer;

	if (bio->op != BIO_WRITE) {
		bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio), NULL);
		return;
	}
	buffer = bio_bounce(bio, bio_bytes(bio), seal_submit);
	assert_non_null(buffer);
	buffers[num_buffers++] = buffer;
	bio_replace_data(bio, buffer);
	bio_forward_bounced(bio, bio_bdev(bio)->bases[0], bio_offset(bio), written);
}

static struct bdev_module seal = {
        .name = "seal",
        .bases_min = 1,
        .bases_max = 1,
        .priv_bytes = sizeof(struct test_params),
        .submit = seal_submit,
};
BDEV_MODULE(seal);

/* ---- tests -------------------------------------------------------------------------------------
 */

static struct script leaf_script;
static uint8_t data[2][4 * TEST_BLOCK];
static struct iovec iovs[2];
static unsigned ended;

static void done(struct bio *bio)
{
	const struct iovec *iov = bio->arg;

	assert_int_equal(bio->status, 0);
	assert_ptr_equal(bio->iov, iov); /* the view is its owner's again */
	assert_int_equal(bio->iovcnt, 1);
	ended++;
}

/* Two writes in flight together, and both to their end. */
static void write_two(struct bdev *bdev)
{
	static struct bio bios[2];
	struct holder holder = {0};

	num_buffers = ended = 0;
	test_open(&holder, bdev, true, "h");
	for (unsigned i = 0; i < 2; i++) {
		iovs[i] = (struct iovec){data[i], sizeof(data[i])};
		bio_init(&bios[i], BIO_WRITE, &iovs[i], 1, 4, done, &iovs[i]);
		bio_submit(holder.handle, &bios[i], i * 4);
	}
	assert_int_equal(num_buffers, 2);
	assert_int_equal(ended, 0); /* nothing ends in place */
	if (leaf_script.hold_bios) {
		wait_until(test_bios_held() == 2);
		test_let_go_bios();
	}
	wait_until(ended == 2);
	test_close(&holder);
}

static void a_base_that_is_done_gives_the_buffer_back(void **state)
{
	(void)state;
	leaf_script.hold_bios = false;
	test_leaf_make("A", 100, &leaf_script);
	write_two(test_make(&seal, "s", NULL, "A", NULL));
	assert_ptr_equal(buffers[0], buffers[1]);
}

static void also_through_a_layer_that_passes_on(void **state)
{
	(void)state;
	leaf_script.hold_bios = false;
	test_leaf_make("A", 100, &leaf_script);
	test_make(&test_bare, "p", NULL, "A", NULL);
	write_two(test_make(&seal, "s", NULL, "p", NULL));
	assert_ptr_equal(buffers[0], buffers[1]);
}

static void a_base_that_is_not_done_keeps_it(void **state)
{
	(void)state;
	test_leaf_make("A", 100, &leaf_script);
	struct bdev *bdev = test_make(&seal, "s", NULL, "A", NULL);

	leaf_script.hold_bios = true; /* not before others have looked at it */
	write_two(bdev);
	assert_ptr_not_equal(buffers[0], buffers[1]);
	leaf_script.hold_bios = false;
}

/* The lower one is done with its buffer; the upper one's done might still want its own. */
static void one_on_another(void **state)
{
	(void)state;
	leaf_script.hold_bios = false;
	test_leaf_make("A", 100, &leaf_script);
	test_make(&seal, "s", NULL, "A", NULL);
	num_buffers = ended = 0;
	struct bdev *top = test_make(&seal, "t", NULL, "s", NULL);
	struct holder holder = {0};
	struct bio bio;

	test_open(&holder, top, true, "h");
	iovs[0] = (struct iovec){data[0], sizeof(data[0])};
	bio_init(&bio, BIO_WRITE, &iovs[0], 1, 4, done, &iovs[0]);
	bio_submit(holder.handle, &bio, 0);
	assert_int_equal(num_buffers, 2);
	assert_ptr_not_equal(buffers[0], buffers[1]);
	wait_until(ended == 1);
	test_close(&holder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(
	                a_base_that_is_done_gives_the_buffer_back, test_setup, test_teardown),
	        cmocka_unit_test_setup_teardown(
	                also_through_a_layer_that_passes_on, test_setup, test_teardown),
	        cmocka_unit_test_setup_teardown(
	                a_base_that_is_not_done_keeps_it, test_setup, test_teardown),
	        cmocka_unit_test_setup_teardown(one_on_another, test_setup, test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
