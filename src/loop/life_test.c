/* Starting and ending the loops, signals, CPU masks, statistics and randomness. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "loop/cpumask.h"
#include "loop/test_loop.h"

/* ---- CPU masks ------------------------------------------------------------------------------ */

static void check_mask(const char *text, unsigned count, const unsigned *cpus)
{
	struct err err = ERR_NONE;
	cpu_set_t set;

	assert_int_equal(cpumask_parse(text, &set, &err), 0);
	assert_int_equal(CPU_COUNT(&set), count);
	for (unsigned i = 0; i < count; i++)
		assert_true(CPU_ISSET(cpus[i], &set));
}

static void test_cpumask(void maybe_unused **state)
{
	const char *bad[] = {"", "0x", "0", "0x0", "[]", "[", "]", "[1", "[1,]", "[,1]", "[1-]",
	        "[-1]", "[3-2]", "[1]x", "[1 ]", "g", "-1", "0x1 ", "[1024]", "[0-99999999999999]",
	        "[a]", "0x0x1", "1,2"};
	char high[300];

	check_mask("0x3", 2, (unsigned[]){0, 1});
	check_mask("3", 2, (unsigned[]){0, 1});
	check_mask("0XfF00", 8, (unsigned[]){8, 9, 10, 11, 12, 13, 14, 15});
	check_mask("10", 1, (unsigned[]){4});
	check_mask("[0,2-4]", 4, (unsigned[]){0, 2, 3, 4});
	check_mask("[7]", 1, (unsigned[]){7});
	check_mask("[1,1,0-1]", 2, (unsigned[]){0, 1});
	check_mask("[1023]", 1, (unsigned[]){1023});
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = ERR_NONE;
		cpu_set_t set;

		assert_int_equal(cpumask_parse(bad[i], &set, &err), -EINVAL);
		assert_int_equal(err.code, -EINVAL);
		assert_true(strlen(err.text) > 10);
	}
	/* The highest CPU, with zeroes before it, and one more. */
	memset(high, '0', sizeof(high));
	high[sizeof(high) - 1] = '\0';
	high[10] = '8';
	high[10 + 256] = '\0';
	check_mask(high, 1, (unsigned[]){1023});
	high[10 + 256] = '0';
	high[10 + 257] = '\0';
	assert_int_equal(cpumask_parse(high, &(cpu_set_t){0}, NULL), -EINVAL);
}

struct cpu_report {
	struct loop_task task;
	cpu_set_t cpus;
	bool back;
};

static void report_cpus(struct loop_task *task)
{
	struct cpu_report *r = container_of(task, struct cpu_report, task);

	if (loop_is_control()) {
		r->back = true;
		return;
	}
	assert_int_equal(sched_getaffinity(0, sizeof(r->cpus), &r->cpus), 0);
	loop_send(loop_get(LOOP_CONTROL), task);
}

/* Data loops are pinned in turn over the CPUs of the mask; the control loop is not. */
static void test_pinning(void maybe_unused **state)
{
	struct loop_config config = {.data_loops = 3};
	cpu_set_t before, after;
	unsigned cpus[2], count = 0;
	char mask[64];

	sched_getaffinity(0, sizeof(before), &before);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++) {
		if (CPU_ISSET(cpu, &before))
			cpus[count++] = cpu;
	}
	if (count == 1)
		cpus[1] = cpus[0];
	snprintf(mask, sizeof(mask), "[%u,%u]", cpus[0], cpus[1]);
	config.cpumask = mask;
	assert_int_equal(loops_start(&config, NULL), 0);
	for (unsigned id = 1; id <= 3; id++) {
		struct cpu_report r = {.task.run = report_cpus};

		loop_send(loop_get(id), &r.task);
		turn_until(r.back);
		assert_int_equal(CPU_COUNT(&r.cpus), 1);
		assert_true(CPU_ISSET(cpus[(id - 1) % 2], &r.cpus));
	}
	sched_getaffinity(0, sizeof(after), &after);
	assert_true(CPU_EQUAL(&before, &after));
	test_loops_end();
}

/* ---- start that fails ----------------------------------------------------------------------- */

static void check_refused(const struct loop_config *config, int code, const char *word)
{
	struct err err = ERR_NONE;

	assert_int_equal(loops_start(config, &err), code);
	assert_int_equal(err.code, code);
	if (!strstr(err.text, word))
		fail_msg("no '%s' in: %s", word, err.text);
	assert_null(loop_self());
	assert_int_equal(loops_count(), 0);
}

static void test_start_refused(void maybe_unused **state)
{
	struct loop_config config = {.data_loops = 1, .cpumask = "zero"};

	check_refused(&config, -EINVAL, "zero");
	config.cpumask = "[1023]";
	check_refused(&config, -EINVAL, "cpumask");
	/* And then it can still be started. */
	test_loops_start(1, 0);
	test_loops_end();
}

/* In a child, since it can't be undone: io_uring_setup answers with error from the call on that
 * comes after `allowed` others. */
static void refuse_io_uring(int error)
{
	struct sock_filter code[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static int start_in_child(int error, rlim_t files, const char *word)
{
	struct loop_config config = {.data_loops = 4};
	struct rlimit limit = {files, files};
	struct err err = ERR_NONE;
	int rc;

	if (error)
		refuse_io_uring(error);
	if (files)
		setrlimit(RLIMIT_NOFILE, &limit);
	rc = loops_start(&config, &err);
	if (rc == 0 || rc != err.code || loop_self() || !strstr(err.text, word)) {
		fprintf(stderr, "%d: %s\n", rc, err.text);
		return 1;
	}
	return 0;
}

static void check_in_child(int error, rlim_t files, const char *word)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(start_in_child(error, files, word));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_kernel_refuses(void maybe_unused **state)
{
	check_in_child(EPERM, 0, "kernel.io_uring_disabled");
	check_in_child(ENOSYS, 0, "6.1");
	check_in_child(EINVAL, 0, "6.1");
	check_in_child(ENOMEM, 0, "RLIMIT_MEMLOCK");
	/* The control loop gets its descriptors and a later data loop does not. */
	for (rlim_t files = 3; files < 10; files++)
		check_in_child(0, files, "RLIMIT_NOFILE");
}

/* ---- signals -------------------------------------------------------------------------------- */

static unsigned signals_seen[65];

static void on_signal(int signum)
{
	assert_true(loop_is_control());
	signals_seen[signum]++;
}

static void test_signals(void maybe_unused **state)
{
	const int signums[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
	struct sigaction action = {.sa_handler = SIG_IGN}, before;

	memset(signals_seen, 0, sizeof(signals_seen));
	for (unsigned i = 0; i < ARRAY_SIZE(signums); i++)
		loop_on_signal(signums[i], on_signal);
	for (unsigned i = 0; i < ARRAY_SIZE(signums); i++) {
		for (unsigned round = 1; round <= 3; round++) {
			assert_int_equal(kill(getpid(), signums[i]), 0);
			turn_until(signals_seen[signums[i]] == round);
		}
	}
	/* Given back: it has its default, or what the process had before. */
	sigaction(SIGHUP, &action, &before);
	loop_on_signal(SIGHUP, NULL);
	assert_int_equal(kill(getpid(), SIGHUP), 0);
	test_turns(20);
	assert_int_equal(signals_seen[SIGHUP], 3);
	sigaction(SIGHUP, &before, NULL);
}

static void stop_on_signal(int signum)
{
	loops_stop(signum);
}

static void *send_sigterm(void *arg)
{
	usleep(20000);
	kill(getpid(), SIGTERM);
	return arg;
}

/* The way the daemon ends: loops_run, asleep, and a signal. */
static void test_signal_ends_run(void maybe_unused **state)
{
	pthread_t thread;
	sigset_t set, before;

	/* The sender is a thread that could take the signal itself. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	test_loops_start(2, 0);
	loop_on_signal(SIGTERM, stop_on_signal);
	assert_int_equal(pthread_create(&thread, NULL, send_sigterm, NULL), 0);
	assert_int_equal(loops_run(), SIGTERM);
	pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- the end -------------------------------------------------------------------------------- */

#define HOPPERS 50

struct hopper {
	struct loop_task task;
	unsigned hops;
};
static _Atomic unsigned hoppers_ended;

static void hop(struct loop_task *task)
{
	struct hopper *h = container_of(task, struct hopper, task);

	if (h->hops-- == 0) {
		free(h);
		atomic_fetch_add(&hoppers_ended, 1);
		return;
	}
	loop_send(loop_get((unsigned)(loop_random(loop_self()) % loops_count())), task);
}

/* Work that is still hopping between loops when they are stopped comes to its end. */
static void test_end_drains(void maybe_unused **state)
{
	for (unsigned round = 0; round < 20; round++) {
		atomic_store(&hoppers_ended, 0);
		test_loops_start(3, round % 2 ? 0 : 20);
		for (unsigned i = 0; i < HOPPERS; i++) {
			struct hopper *h = xcalloc(1, sizeof(*h));

			*h = (struct hopper){.task.run = hop, .hops = i * 4};
			loop_send(loop_get(i % 4), &h->task);
		}
		test_loops_end();
		assert_int_equal(atomic_load(&hoppers_ended), HOPPERS);
	}
}

/* ---- statistics, time, randomness ------------------------------------------------------------ */

static void test_idle_sleeps(void maybe_unused **state)
{
	struct loop_stats before, after;

	do {
		usleep(10000);
		loop_get_stats(1, &before);
	} while (before.sleeps == 0);
	usleep(100000);
	loop_get_stats(1, &after);
	assert_in_range(after.turns - before.turns, 0, 1);
	assert_in_range(after.submits - before.submits, 0, 1);
}

static void test_clock_and_random(void maybe_unused **state)
{
	uint64_t first = loop_clock_ns(), wall = loop_wall_ns(), seen[64], bytes[2] = {0};

	assert_true(loop_clock_ns() >= first);
	assert_true(wall > 1700000000 * NSEC_PER_SEC);
	for (unsigned i = 0; i < ARRAY_SIZE(seen); i++) {
		seen[i] = loop_random(loop_self());
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(seen[i], seen[k]);
	}
	loop_random_bytes(bytes, sizeof(bytes));
	assert_true(bytes[0] != 0 && bytes[1] != 0 && bytes[0] != bytes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cpumask),
	        cmocka_unit_test(test_pinning),
	        cmocka_unit_test(test_start_refused),
	        cmocka_unit_test(test_kernel_refuses),
	        loop_test(test_signals),
	        cmocka_unit_test(test_signal_ends_run),
	        cmocka_unit_test(test_end_drains),
	        loop_test(test_idle_sleeps),
	        loop_test(test_clock_and_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
