/* Files through the ring, on a temporary file. With --bench: what a 4 KiB read costs. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "loop/file.h"
#include "loop/test_loop.h"

static char dir[] = "/tmp/bellows-file-test-XXXXXX";
static char path[64];

static int open_status(const char *name, unsigned flags, struct loop_file **out)
{
	struct test_op op;

	*out = NULL;
	loop_file_open(loop_self(), test_op_init(&op), name, flags, out);
	return test_op_wait(&op);
}

static struct loop_file *open_file(unsigned flags)
{
	struct loop_file *file;

	assert_int_equal(open_status(path, flags, &file), 0);
	assert_non_null(file);
	return file;
}

static void close_file(struct loop_file *file)
{
	struct test_op op;

	loop_file_close(loop_self(), test_op_init(&op), file);
	assert_int_equal(test_op_wait(&op), 0);
}

static int writev_at(struct loop_file *file, const struct iovec *iov, unsigned iovcnt,
        uint64_t offset, bool dsync)
{
	struct test_op op;

	loop_file_writev(loop_self(), test_op_init(&op), file, iov, iovcnt, offset, dsync);
	return test_op_wait(&op);
}

static int readv_at(
        struct loop_file *file, const struct iovec *iov, unsigned iovcnt, uint64_t offset)
{
	struct test_op op;

	loop_file_readv(loop_self(), test_op_init(&op), file, iov, iovcnt, offset);
	return test_op_wait(&op);
}

static int write_at(struct loop_file *file, const void *bytes, size_t len, uint64_t offset)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

	return writev_at(file, &iov, 1, offset, false);
}

static int read_at(struct loop_file *file, void *bytes, size_t len, uint64_t offset)
{
	struct iovec iov = {.iov_base = bytes, .iov_len = len};

	return readv_at(file, &iov, 1, offset);
}

static struct loop_file_info stat_file(struct loop_file *file)
{
	struct loop_file_info info;
	struct test_op op;

	loop_file_stat(loop_self(), test_op_init(&op), file, &info);
	assert_int_equal(test_op_wait(&op), 0);
	return info;
}

static void fill(uint8_t *bytes, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 256 + seed);
}

static int setup_file(void **state)
{
	unlink(path);
	return setup_loops(state);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void test_open_errors(void maybe_unused **state)
{
	struct loop_file *file;

	assert_int_equal(open_status(path, 0, &file), -ENOENT);
	assert_null(file);
	assert_int_equal(open_status(dir, 0, &file), -EISDIR);
	assert_int_equal(open_status("/dev/null", 0, &file), -ENOTBLK);
	assert_int_equal(open_status("", LOOP_FILE_CREATE, &file), -ENOENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	/* Opening a fifo would wait for somebody at its other end. */
	assert_int_equal(open_status(path, LOOP_FILE_READ_ONLY, &file), -ENOTBLK);
}

static void test_create_and_info(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE | LOOP_FILE_EXCLUSIVE);
	struct loop_file_info info = stat_file(file);

	assert_int_equal(info.size_bytes, 0);
	assert_int_equal(info.block_bytes, 0);
	assert_true(info.physical_bytes >= 512);
	assert_int_equal(info.align_bytes, 1);
	assert_false(info.is_block_device || info.direct || info.read_only);
	assert_int_equal(info.owner_uid, getuid());
	assert_int_equal(info.mode, 0600);
	assert_int_equal(write_at(file, "hello", 5, 10), 5);
	assert_int_equal(stat_file(file).size_bytes, 15);
	close_file(file);

	/* What is there is opened as it is. */
	file = open_file(LOOP_FILE_CREATE | LOOP_FILE_EXCLUSIVE);
	assert_int_equal(stat_file(file).size_bytes, 15);
	close_file(file);
}

static void test_read_only(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);

	close_file(file);
	file = open_file(LOOP_FILE_READ_ONLY);
	assert_true(stat_file(file).read_only);
	assert_int_equal(write_at(file, "x", 1, 0), -EBADF);
	close_file(file);
}

/* A file system may refuse direct I/O, which is no error; where it takes it, the alignment that it
 * tells is enough. */
static void test_direct(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE | LOOP_FILE_DIRECT);
	struct loop_file_info info = stat_file(file);
	autofree uint8_t *out = NULL, *in = NULL;
	size_t align = info.align_bytes;

	assert_true(is_power_of_two(align));
	assert_true(align > 1 || !info.direct);
	out = try_alloc_aligned(align, 4 * align);
	in = try_alloc_aligned(align, 4 * align);
	fill(out, 4 * align, 1);
	assert_int_equal(write_at(file, out, 2 * align, align), 2 * align);
	assert_int_equal(read_at(file, in, align, 2 * align), align);
	assert_memory_equal(in, out + align, align);
	/* Short at the end, also when that is inside a block. */
	assert_int_equal(read_at(file, in, 4 * align, align), 2 * align);
	assert_memory_equal(in, out, 2 * align);
	assert_int_equal(truncate(path, (off_t)(2 * align + align / 2 + 100)), 0);
	assert_int_equal(read_at(file, in, 4 * align, align), align + align / 2 + 100);
	assert_memory_equal(in, out, align + align / 2 + 100);
	close_file(file);
}

/* ---- transfers ------------------------------------------------------------------------------ */

static void test_short_read_at_end(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);
	char text[32] = "";
	struct iovec iov[3] = {{text, 3}, {text + 3, 0}, {text + 3, 20}};

	assert_int_equal(write_at(file, "0123456789", 10, 0), 10);
	assert_int_equal(read_at(file, text, sizeof(text), 4), 6);
	assert_memory_equal(text, "456789", 6);
	assert_int_equal(readv_at(file, iov, 3, 0), 10);
	assert_string_equal(text, "0123456789");
	assert_int_equal(read_at(file, text, 4, 10), 0);
	assert_int_equal(read_at(file, text, 4, 1000), 0);
	assert_int_equal(read_at(file, text, 0, 0), 0);
	assert_int_equal(readv_at(file, NULL, 0, 0), 0);
	close_file(file);
}

/* Sub-buffers of odd sizes; the array is gone when the call has returned. More of them than the
 * kernel takes at once are continued. */
static void check_iovs(unsigned count, bool dsync)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);
	autofree uint8_t *out = xcalloc(count, 8), *in = xcalloc(count, 8);
	struct test_op op;
	uint32_t total = 0;

	fill(out, count * 8UL, count);
	for (int reading = 0; reading <= 1; reading++) {
		struct iovec *iov = xcalloc(count, sizeof(*iov));

		total = 0;
		for (unsigned i = 0; i < count; i++) {
			iov[i] = (struct iovec){(reading ? in : out) + total, i % 8};
			total += i % 8;
		}
		if (reading)
			loop_file_readv(loop_self(), test_op_init(&op), file, iov, count, 3);
		else
			loop_file_writev(
			        loop_self(), test_op_init(&op), file, iov, count, 3, dsync);
		memset(iov, 0xff, count * sizeof(*iov));
		free(iov);
		assert_int_equal(test_op_wait(&op), total);
	}
	assert_memory_equal(in, out, total);
	close_file(file);
	unlink(path);
}

static void test_many_iovs(void maybe_unused **state)
{
	const unsigned counts[] = {2, 4, 5, 8, 9, 100, 1024, 1025, 5000};

	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
		check_iovs(counts[i], i % 2);
		check_iovs(counts[i], i % 2);
	}
}

/* More operations at once than any queue has entries; none is lost. */
#define FLOOD 20000

static void test_flood(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);
	autofree struct test_op *ops = xcalloc(FLOOD, sizeof(*ops));
	autofree uint32_t *bytes = xcalloc(FLOOD, sizeof(*bytes));
	struct loop_stats before, after;
	unsigned done = 0;

	for (uint32_t i = 0; i < FLOOD; i++) {
		bytes[i] = i;
		assert_int_equal(write_at(file, &bytes[i], 4, i * 4ULL), 4);
	}
	memset(bytes, 0xff, FLOOD * 4);
	loop_get_stats(LOOP_CONTROL, &before);
	for (uint32_t i = 0; i < FLOOD; i++) {
		struct iovec iov = {&bytes[i], 4};

		loop_file_readv(loop_self(), test_op_init(&ops[i]), file, &iov, 1, i * 4ULL);
		assert_false(ops[i].done);
	}
	while (done < FLOOD) {
		test_turn();
		done = 0;
		for (uint32_t i = 0; i < FLOOD; i++)
			done += ops[i].done;
	}
	for (uint32_t i = 0; i < FLOOD; i++) {
		assert_int_equal(ops[i].result, 4);
		assert_int_equal(bytes[i], i);
	}
	loop_get_stats(LOOP_CONTROL, &after);
	assert_true(after.submits - before.submits < FLOOD / 4);
	close_file(file);
}

/* ---- space ---------------------------------------------------------------------------------- */

static int space(
        void (*fn)(struct loop *, struct loop_op *, struct loop_file *, uint64_t, uint64_t),
        struct loop_file *file, uint64_t offset, uint64_t len)
{
	struct test_op op;

	fn(loop_self(), test_op_init(&op), file, offset, len);
	return test_op_wait(&op);
}

static struct loop_extent extent_of(struct loop_file *file, uint64_t offset, uint64_t len)
{
	struct loop_extent extent = {0};
	struct test_op op;

	loop_file_extent(loop_self(), test_op_init(&op), file, offset, len, &extent);
	assert_int_equal(test_op_wait(&op), 0);
	return extent;
}

static int truncate_file(struct loop_file *file, uint64_t size)
{
	struct test_op op;

	loop_file_truncate(loop_self(), test_op_init(&op), file, size);
	return test_op_wait(&op);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static void test_punch_and_extents(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);
	autofree uint8_t *bytes = xcalloc(1, MIB(1));
	struct loop_extent extent;
	int rc;

	fill(bytes, MIB(1), 3);
	assert_int_equal(write_at(file, bytes, MIB(1), 0), MIB(1));
	extent = extent_of(file, 100, MIB(1) - 100);
	assert_false(extent.hole);
	assert_int_equal(extent.len_bytes, MIB(1) - 100);

	assert_int_equal(space(loop_file_punch, file, KIB(256), KIB(512)), 0);
	assert_int_equal(read_at(file, bytes, KIB(512), KIB(256)), KIB(512));
	assert_true(is_zero(bytes, KIB(512)));
	extent = extent_of(file, 0, MIB(1));
	assert_false(extent.hole);
	assert_int_equal(extent.len_bytes, KIB(256));
	extent = extent_of(file, KIB(300), MIB(1) - KIB(300));
	assert_true(extent.hole);
	assert_int_equal(extent.len_bytes, KIB(768) - KIB(300));
	extent = extent_of(file, KIB(300), KIB(8));
	assert_true(extent.hole);
	assert_int_equal(extent.len_bytes, KIB(8));

	rc = space(loop_file_zero, file, 0, KIB(128));
	assert_true(rc == 0 || rc == -EOPNOTSUPP);
	if (rc == 0) {
		assert_int_equal(read_at(file, bytes, KIB(256), 0), KIB(256));
		assert_true(is_zero(bytes, KIB(128)));
		assert_false(is_zero(bytes + KIB(128), KIB(128)));
	}
	/* Neither makes a file longer. */
	(void)space(loop_file_zero, file, MIB(1), KIB(64));
	(void)space(loop_file_punch, file, MIB(1), KIB(64));
	assert_int_equal(stat_file(file).size_bytes, MIB(1));
	close_file(file);
}

static void test_truncate(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);
	struct loop_extent extent;
	struct test_op op;
	char c;

	assert_int_equal(truncate_file(file, GIB(8) + 1), 0);
	assert_int_equal(stat_file(file).size_bytes, GIB(8) + 1);
	extent = extent_of(file, 0, GIB(8));
	assert_true(extent.hole);
	assert_int_equal(extent.len_bytes, GIB(8));
	assert_int_equal(truncate_file(file, 10), 0);
	assert_int_equal(read_at(file, &c, 1, 10), 0);
	assert_int_equal(read_at(file, &c, 1, 9), 1);
	assert_int_equal(truncate_file(file, UINT64_MAX), -EFBIG);
	loop_file_sync(loop_self(), test_op_init(&op), file);
	assert_int_equal(test_op_wait(&op), 0);
	loop_file_extent(loop_self(), test_op_init(&op), file, UINT64_MAX - 1, 4, &extent);
	assert_int_equal(test_op_wait(&op), -EINVAL);
	close_file(file);
}

/* A file is opened on the control loop and used from the data loops. */
struct remote_read {
	struct loop_task task;
	struct loop_op op;
	struct loop_file *file;
	char byte;
	int result;
	bool back;
};

static void remote_read_done(struct loop_op *op, int result)
{
	struct remote_read *r = container_of(op, struct remote_read, op);

	r->result = result;
	loop_send(loop_get(LOOP_CONTROL), &r->task);
}

static void remote_read_run(struct loop_task *task)
{
	struct remote_read *r = container_of(task, struct remote_read, task);
	struct iovec iov = {&r->byte, 1};

	if (loop_is_control())
		r->back = true;
	else
		loop_file_readv(loop_self(), &r->op, r->file, &iov, 1, 1);
}

static void test_every_loop(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);

	assert_int_equal(write_at(file, "abc", 3, 0), 3);
	for (unsigned id = 1; id < loops_count(); id++) {
		struct remote_read r = {
		        .task.run = remote_read_run, .op.done = remote_read_done, .file = file};

		loop_send(loop_get(id), &r.task);
		turn_until(r.back);
		assert_int_equal(r.result, 1);
		assert_int_equal(r.byte, 'b');
	}
	close_file(file);
}

static void test_slurp(void maybe_unused **state)
{
	struct loop_file *file = open_file(LOOP_FILE_CREATE);
	autofree uint8_t *bytes = xcalloc(1, 10000);
	char *text = NULL;
	size_t len = 0;
	struct err err = ERR_NONE;

	fill(bytes, 10000, 1);
	assert_int_equal(write_at(file, bytes, 10000, 0), 10000);
	close_file(file);
	assert_int_equal(loop_slurp(path, 10000, &text, &len, &err), 0);
	assert_int_equal(len, 10000);
	assert_memory_equal(text, bytes, 10000);
	assert_int_equal(text[len], '\0');
	free(text);
	assert_int_equal(loop_slurp(path, 9999, &text, &len, &err), -EFBIG);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(loop_slurp("/nowhere", 10, &text, &len, NULL), -ENOENT);
	assert_int_equal(loop_slurp(dir, 10, &text, &len, &err), -EISDIR);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(loop_slurp(path, 0, &text, &len, &err), 0);
	assert_int_equal(len, 0);
	assert_string_equal(text, "");
	free(text);
}

/* ---- bench ---------------------------------------------------------------------------------- */

static uint64_t bench_left, bench_inflight;

struct bench_io {
	struct loop_op op;
	struct loop_file *file;
	struct iovec iov;
};

static void bench_start(struct bench_io *io)
{
	uint64_t block = loop_random(loop_self()) % (MIB(64) / 4096);

	loop_file_readv(loop_self(), &io->op, io->file, &io->iov, 1, block * 4096);
}

static void bench_done(struct loop_op *op, int result)
{
	struct bench_io *io = container_of(op, struct bench_io, op);

	BELLOWS_ASSERT(result == 4096);
	if (bench_left == 0) {
		bench_inflight--;
		return;
	}
	bench_left--;
	bench_start(io);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* The best of several rounds: what else the machine does only ever adds. */
static void bench_depth(struct loop_file *file, unsigned depth, uint64_t count)
{
	autofree struct bench_io *ios = xcalloc(depth, sizeof(*ios));
	uint64_t best_ns = UINT64_MAX, best_cpu_ns = UINT64_MAX;

	for (unsigned i = 0; i < depth; i++)
		ios[i] = (struct bench_io){.op.done = bench_done,
		        .file = file,
		        .iov = {try_alloc_aligned(4096, 4096), 4096}};
	for (int round = 0; round < 10; round++) {
		uint64_t start_ns = loop_clock_ns(), start_cpu_ns = thread_cpu_ns();

		bench_left = count;
		bench_inflight = depth;
		for (unsigned i = 0; i < depth; i++)
			bench_start(&ios[i]);
		turn_until(bench_inflight == 0);
		best_ns = min_u64(best_ns, (loop_clock_ns() - start_ns) / (count + depth));
		best_cpu_ns =
		        min_u64(best_cpu_ns, (thread_cpu_ns() - start_cpu_ns) / (count + depth));
	}
	printf("%s depth %3u: %llu ns per 4 KiB read, %llu ns of them on the CPU\n",
	        file->info.direct ? "direct" : "cached", depth, (unsigned long long)best_ns,
	        (unsigned long long)best_cpu_ns);
	for (unsigned i = 0; i < depth; i++)
		free(ios[i].iov.iov_base);
}

static int bench(void)
{
	autofree uint8_t *bytes = try_alloc_aligned(4096, MIB(64));
	struct loop_file *file;

	test_loops_start(1, 20);
	file = open_file(LOOP_FILE_CREATE);
	fill(bytes, MIB(64), 1);
	assert_int_equal(write_at(file, bytes, MIB(64), 0), MIB(64));
	bench_depth(file, 1, 50000);
	bench_depth(file, 128, 100000);
	close_file(file);
	file = open_file(LOOP_FILE_DIRECT);
	bench_depth(file, 1, 500);
	bench_depth(file, 128, 5000);
	close_file(file);
	test_loops_end();
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_open_errors, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_create_and_info, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_read_only, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_direct, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_short_read_at_end, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_many_iovs, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_flood, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_punch_and_extents, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_truncate, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_every_loop, setup_file, teardown_loops),
	        cmocka_unit_test_setup_teardown(test_slurp, setup_file, teardown_loops),
	};
	int rc;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/file", dir);
	rc = argc > 1 && strcmp(argv[1], "--bench") == 0
	             ? bench()
	             : cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	return rc;
}
