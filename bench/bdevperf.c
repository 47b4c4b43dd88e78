/*
 * bdevperf.c: a load generator for bdevs, in one process with them: options, start and end.
 *
 *     configuration or --stack -> open -> jobs: warm-up, mark, run, stop -> report -> remove
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/bdevperf.h"
#include "loop/cpumask.h"
#include "rpc/server.h"

#define DEPTH_MAX 65536
#define IO_BYTES_MAX MIB(64)

struct options options = {
        .workload = LOADS,
        .depth = 128,
        .io_bytes = 4096,
        .seconds_ms = 5000,
        .warmup_ms = 500,
        .read_percent = 50,
        .loops = 1,
        .spin_us = 20,
};

static struct {
	struct target targets[BDEVS_MAX];
	unsigned num_targets;
	struct job *jobs;
	unsigned num_jobs, jobs_left;
	struct loop_timer timer;
	uint64_t cpu_ns;
	bool stopping, stopped_early, warm;
	int status;
} app;

static const char help[] =
        "usage: bdevperf -w WORKLOAD [OPTION]...\n"
        "\n"
        "Puts a load on bdevs and tells how fast they are.\n"
        "\n"
        "  -w, --workload NAME   read, write, randread, randwrite, rw, randrw, unmap, flush,\n"
        "                        write_zeroes; verify: writes and reads patterns and compares;\n"
        "                        zone_append; zone_reset: append and reset in turn\n"
        "  -q, --depth N         requests in flight, for each bdev and data loop (128)\n"
        "  -o, --io-size SIZE    of each request: 4096, 4k, 1M (4k)\n"
        "  -t, --time SECONDS    (5)\n"
        "  -P, --warmup SECONDS  before anything is counted (0.5)\n"
        "  -M, --read-percent N  of rw and randrw (50)\n"
        "  -m, --cpumask MASK    one data loop on each of these CPUs: 0x3 or [0,2-3]\n"
        "                        (default: one, not pinned)\n"
        "  -c, --json FILE       configuration with the bdevs, as save_config writes it\n"
        "  -S, --stack LIST      a stack to make, from below: null,passthru*4 (256 MiB,\n"
        "                        blocks of 4 KiB)\n"
        "  -T, --bdev NAMES      which bdevs; may be given several times or with commas\n"
        "                        (default: the top of --stack, else all that are not claimed)\n"
        "  -f, --go-on           go on after errors\n"
        "      --no-latency      do not look at the clock for each request that is timed,\n"
        "                        for exact figures of CPU time\n"
        "  -r, --rpc-socket PATH where to listen for JSON-RPC meanwhile (default: nowhere)\n"
        "      --spin-us N       how long an idle loop polls before it sleeps (20)\n"
        "      --output json     figures as JSON\n"
        "  -h, --help\n"
        "\n"
        "Latency is taken of as many requests as can be without slowing down the rest: of each\n"
        "one when the bdev is slow. CPU time is that of the whole process, the load generator\n"
        "included. Status 1: a request failed, or what was read is not what was written.\n";

_Noreturn static void usage_error(const char *text, const char *what)
{
	fprintf(stderr, "bdevperf: %s%s\nTry: bdevperf --help\n", text, what);
	exit(2);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

static void bdevs_stopped(void *arg, const struct err *err)
{
	(void)arg;
	if (err) {
		fprintf(stderr, "bdevperf: %s\n", err->text);
		app.status = 1;
	}
	rpc_stop();
	loops_stop(app.status);
}

static void targets_stopped(void *arg)
{
	(void)arg;
	bdev_stop((struct bdev_done){.fn = bdevs_stopped});
}

static void close_target(struct target *target)
{
	if (!target->closed)
		bdev_close(target->handle);
	target->closed = true;
}

static void end(void)
{
	for (unsigned i = 0; i < app.num_targets; i++)
		close_target(&app.targets[i]);
	for (unsigned i = 0; i < app.num_jobs; i++)
		job_free(&app.jobs[i]);
	free(app.jobs);
	rpc_begin_stop(targets_stopped, NULL);
}

static void fail(const struct err *err)
{
	fprintf(stderr, "bdevperf: %s\n", err->text);
	app.status = 1;
	end();
}

/* ---- the run -----------------------------------------------------------------------------------
 */

static uint64_t process_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void stop_jobs(void)
{
	if (app.stopping)
		return;
	app.stopping = true;
	app.cpu_ns = process_cpu_ns() - app.cpu_ns;
	loop_timer_stop(loop_self(), &app.timer);
	for (unsigned i = 0; i < app.num_jobs; i++)
		job_stop(&app.jobs[i]);
}

/* It has met an error: the others end too. */
static void job_has_ended(struct loop_task *task)
{
	(void)task;
	stop_jobs();
}

static void job_is_idle(struct loop_task *task)
{
	(void)task;
	if (--app.jobs_left > 0)
		return;
	if (!report(app.jobs, app.num_jobs, app.targets, app.num_targets, app.cpu_ns) ||
	        app.stopped_early)
		app.status = 1;
	end();
}

static void on_timer(struct loop_timer *timer)
{
	struct loop *loop = loop_self();

	if (app.warm) {
		stop_jobs();
		return;
	}
	app.warm = true;
	for (unsigned i = 0; i < app.num_jobs; i++)
		job_mark(&app.jobs[i]);
	app.cpu_ns = process_cpu_ns();
	loop_timer_start(loop, timer, loop_now_ns(loop) + options.seconds_ms * NSEC_PER_MSEC);
}

static void start(void)
{
	struct loop *loop = loop_self();
	struct err err = ERR_NONE;

	app.jobs = try_alloc_aligned(
	        CACHE_LINE_BYTES, app.num_targets * options.loops * sizeof(struct job));
	BELLOWS_ASSERT(app.jobs);
	for (unsigned t = 0; t < app.num_targets; t++) {
		for (unsigned i = 1; i <= options.loops; i++) {
			struct job *job = &app.jobs[app.num_jobs++];

			job->ended.run = job_has_ended;
			job->idle.run = job_is_idle;
			if (job_make(job, &app.targets[t], i, &err) != 0) {
				fail(&err);
				return;
			}
		}
	}
	app.jobs_left = app.num_jobs;
	for (unsigned i = 0; i < app.num_jobs; i++)
		job_start(&app.jobs[i]);
	app.timer.fire = on_timer;
	loop_timer_start(loop, &app.timer, loop_now_ns(loop) + options.warmup_ms * NSEC_PER_MSEC);
}

/* ---- the start ---------------------------------------------------------------------------------
 */

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_TOLD, 1);
}

static void removed(struct bdev_handle *handle)
{
	(void)handle;
	app.stopped_early = true;
	stop_jobs();
}

static const struct bdev_holder_ops holder_ops = {
        .kind = "load", .resized = resized, .removed = removed};

static int open_target(struct bdev *bdev, struct err *err)
{
	struct target *target = &app.targets[app.num_targets];
	bool write = options.workload != LOAD_READ && options.workload != LOAD_RANDREAD &&
	             options.workload != LOAD_FLUSH;
	int rc;

	if (app.num_targets == BDEVS_MAX)
		return err_set(err, -E2BIG, "more than %d bdevs", BDEVS_MAX);
	rc = bdev_open(bdev, write, &holder_ops, "bdevperf", target, &target->handle, err);
	if (rc != 0)
		return rc;
	str_copy(target->name, sizeof(target->name), bdev->name);
	target->block_bytes = bdev->geometry.block_bytes;
	target->num_blocks = bdev_num_blocks(bdev);
	target->zone_blocks = bdev->geometry.zone_blocks;
	app.num_targets++;
	return 0;
}

static int open_named(struct err *err)
{
	for (unsigned i = 0; i < options.num_bdevs; i++) {
		struct bdev *bdev = bdev_find(options.bdevs[i]);
		int rc = bdev ? open_target(bdev, err)
		              : err_set(err, -ENODEV, "there is no bdev '%s'", options.bdevs[i]);

		if (rc != 0)
			return rc;
	}
	return 0;
}

static int open_unclaimed(struct err *err)
{
	int rc;

	for (struct bdev *bdev = bdev_next(NULL); bdev; bdev = bdev_next(bdev)) {
		rc = bdev_is_claimed(bdev) ? 0 : open_target(bdev, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void open_targets(const char *top)
{
	struct err err = ERR_NONE;

	if (options.num_bdevs == 0 && top && top[0])
		options.bdevs[options.num_bdevs++] = top;
	if ((options.num_bdevs ? open_named(&err) : open_unclaimed(&err)) != 0) {
		fail(&err);
		return;
	}
	if (app.num_targets == 0) {
		err_set(&err, -ENODEV, "there is no bdev; say which with --json or --stack");
		fail(&err);
		return;
	}
	start();
}

static void stack_made(const char *top, const struct err *err)
{
	if (err->code)
		fail(err);
	else
		open_targets(top);
}

static void examined(void *arg, const struct err *err)
{
	(void)arg;
	(void)err;
	if (options.stack)
		stack_make(options.stack, stack_made);
	else
		open_targets(NULL);
}

static void loaded(void *arg, const struct err *err)
{
	(void)arg;
	if (err->code)
		fail(err);
	else
		bdev_wait_for_examine((struct bdev_done){.fn = examined});
}

static void on_signal(int signum)
{
	loop_on_signal(signum, NULL);
	if (app.num_jobs > 0)
		stop_jobs();
}

/* ---- options -----------------------------------------------------------------------------------
 */

static uint64_t number(const char *text, const char *option, uint64_t min, uint64_t max)
{
	char *end, what[128];
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end || n < min || n > max || text[0] == '-') {
		snprintf(what, sizeof(what), "%s: a number from %llu to %llu", option,
		        (unsigned long long)min, (unsigned long long)max);
		usage_error(what, "");
	}
	return n;
}

static uint64_t milliseconds(const char *text, const char *option, uint64_t min_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds * 1000 >= (double)min_ms) || seconds > 1e6)
		usage_error(option, ": not a time in seconds");
	return (uint64_t)(seconds * 1000);
}

static enum workload workload(const char *name)
{
	for (unsigned i = 0; i < LOADS; i++) {
		if (strcmp(workload_name(i), name) == 0)
			return i;
	}
	usage_error("there is no workload ", name);
}

static void add_bdevs(char *names)
{
	char *name;

	while ((name = strsep(&names, ","))) {
		if (options.num_bdevs == BDEVS_MAX)
			usage_error("too many bdevs", "");
		if (name[0])
			options.bdevs[options.num_bdevs++] = name;
	}
}

enum long_option {
	OPT_SPIN_US = 256,
	OPT_OUTPUT,
	OPT_NO_LATENCY,
};

static const struct option long_options[] = {
        {"workload", required_argument, NULL, 'w'},
        {"depth", required_argument, NULL, 'q'},
        {"io-size", required_argument, NULL, 'o'},
        {"time", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'P'},
        {"read-percent", required_argument, NULL, 'M'},
        {"cpumask", required_argument, NULL, 'm'},
        {"json", required_argument, NULL, 'c'},
        {"config", required_argument, NULL, 'c'},
        {"stack", required_argument, NULL, 'S'},
        {"bdev", required_argument, NULL, 'T'},
        {"go-on", no_argument, NULL, 'f'},
        {"no-latency", no_argument, NULL, OPT_NO_LATENCY},
        {"rpc-socket", required_argument, NULL, 'r'},
        {"spin-us", required_argument, NULL, OPT_SPIN_US},
        {"output", required_argument, NULL, OPT_OUTPUT},
        {"help", no_argument, NULL, 'h'},
        {0},
};

static void set_cpumask(const char *text)
{
	struct err err = ERR_NONE;
	cpu_set_t cpus;

	options.cpumask = text;
	if (cpumask_parse(text, &cpus, &err) != 0)
		usage_error(err.text, "");
	options.loops = (unsigned)CPU_COUNT(&cpus);
	if (options.loops == 0 || options.loops >= LOOPS_MAX)
		usage_error("--cpumask: from 1 to 64 CPUs", "");
}

static void set_option(int letter, char *value)
{
	switch (letter) {
	case 'w':
		options.workload = workload(value);
		break;
	case 'q':
		options.depth = number(value, "--depth", 1, DEPTH_MAX);
		break;
	case 'o':
		if (parse_size_bytes(value, &options.io_bytes) != 0 || options.io_bytes == 0 ||
		        options.io_bytes > IO_BYTES_MAX || options.io_bytes % 512 != 0)
			usage_error("--io-size: a multiple of 512 up to 64M, not ", value);
		break;
	case 't':
		options.seconds_ms = milliseconds(value, "--time", 1);
		break;
	case 'P':
		options.warmup_ms = milliseconds(value, "--warmup", 0);
		break;
	case 'M':
		options.read_percent = (unsigned)number(value, "--read-percent", 0, 100);
		break;
	case 'm':
		set_cpumask(value);
		break;
	case 'c':
		options.config = value;
		break;
	case 'S':
		options.stack = value;
		break;
	case 'T':
		add_bdevs(value);
		break;
	case 'f':
		options.go_on = true;
		break;
	case OPT_NO_LATENCY:
		options.no_latency = true;
		break;
	case 'r':
		options.rpc_socket = value;
		break;
	case OPT_SPIN_US:
		options.spin_us = (uint32_t)number(value, "--spin-us", 0, 1000000);
		break;
	case OPT_OUTPUT:
		if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0)
			usage_error("--output: json or text, not ", value);
		options.json = strcmp(value, "json") == 0;
		break;
	case 'h':
		fputs(help, stdout);
		exit(0);
	default:
		usage_error("there is no such option, or it lacks its value", "");
	}
}

int main(int argc, char **argv)
{
	struct rpc_options rpc = {0};
	struct loop_config loops;
	struct err err = ERR_NONE;
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, "w:q:o:t:P:M:m:c:S:T:r:fh", long_options, NULL)) !=
	        -1)
		set_option(letter, optarg);
	if (optind < argc)
		usage_error("what is ", argv[optind]);
	if (options.workload == LOADS)
		usage_error("which workload? Say so with -w", "");
	loops = (struct loop_config){.data_loops = options.loops,
	        .cpumask = options.cpumask,
	        .spin_us = options.spin_us};
	if ((options.config && rpc_config_read(options.config, &rpc.config, &err) != 0) ||
	        loops_start(&loops, &err) != 0) {
		fprintf(stderr, "bdevperf: %s\n", err.text);
		return 1;
	}
	loop_on_signal(SIGINT, on_signal);
	loop_on_signal(SIGTERM, on_signal);
	bdev_start();
	rpc.socket_path = options.rpc_socket;
	rpc_start(&rpc, loaded, NULL);
	return loops_run();
}
