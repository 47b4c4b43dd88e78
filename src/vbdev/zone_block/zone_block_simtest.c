/*
 * The zone_block bdev on simulated loops against the plain model of tests/lib/zone_model.h: clients
 * on all loops send every kind of request, sensible or not, while disks fail, the base changes its
 * size, and the daemon is killed or loses its power.
 *
 * After every step each zone must be exactly what the model says (tests/lib/zone_follow.h).
 *
 *     test-vbdev-zone_block-zone_block-sim              some seeds
 *     test-vbdev-zone_block-zone_block-sim 1..100000    these
 *     test-vbdev-zone_block-zone_block-sim 17..17 trace this one, every request
 *     test-vbdev-zone_block-zone_block-sim planted      each planted defect must be found
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/plant.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "tests/lib/zone_follow.h"

#define DEFAULT_SEEDS 1500
#define PLANTED_SEEDS 4000
#define PATIENCE_NS (100 * NSEC_PER_SEC)
#define FILE_PATH "/disk/zones"

/* ---- requests ---------------------------------------------------------------------------------
 */

static void submit(void *arg)
{
	struct op *op = arg;

	op->bio.frame = NULL; /* it is nowhere yet */
	zone_follow();
	bio_submit(life.handle, &op->bio, op->offset);
	zone_follow();
	op->late = !op->settled;
	kept->tally.waited += op->late;
	zone_op_trace(op, op->settled ? "let in" : "waits");
}

static void draw_range(struct op *op)
{
	struct rng *rng = &life.rng;
	uint64_t zone = kept->zone_blocks, size = bdev_num_blocks(zone_top()), left;
	bool near = rng_one_in(rng, 2); /* several in the same zones */

	op->zone = (unsigned)rng_below(rng, near ? min_u64(2, size / zone) : size / zone);
	op->offset = op->zone * zone;
	left = kept->capacity - min_u64(kept->capacity, life.model.zones[op->zone].written);
	op->blocks =
	        left && !rng_one_in(rng, 8) ? rng_range(rng, 1, left) : rng_range(rng, 1, zone + 1);
	if (op->kind == KIND_WRITE || op->kind == KIND_ZEROES)
		op->offset += rng_one_in(rng, 8) ? rng_below(rng, zone)
		                                 : life.model.zones[op->zone].written;
	if (op->kind == KIND_APPEND && rng_one_in(rng, 16))
		op->offset += rng_below(rng, zone);
	if (op->kind == KIND_READ || op->kind == KIND_REPORT) {
		op->offset += rng_below(rng, zone);
		op->blocks = rng_range(rng, 1, rng_one_in(rng, 2) ? zone : READ_MAX);
	}
	op->blocks = min_u64(op->blocks, READ_MAX);
	op->offset = min_u64(op->offset, size - 1);
	op->zone = (unsigned)(op->offset / zone);
	op->blocks = min_u64(op->blocks, size - op->offset);
}

static void draw_management(struct op *op)
{
	static const enum zone_action actions[] = {ZONE_OPEN, ZONE_OPEN, ZONE_CLOSE, ZONE_FINISH,
	        ZONE_RESET, ZONE_RESET, ZONE_RESET, ZONE_RESET};
	struct rng *rng = &life.rng;
	uint64_t zone = kept->zone_blocks;

	op->bio.zone_action = (uint8_t)actions[rng_below(rng, ARRAY_SIZE(actions))];
	if (rng_one_in(rng, 24))
		op->bio.zone_action = (uint8_t)rng_below(rng, ZONE_ACTIONS + 1);
	op->blocks = zone;
	if (rng_one_in(rng, 5)) {
		op->bio.flags |= BIO_ZONE_ALL;
		op->zone = (unsigned)rng_below(rng, op->zone + 1);
		op->blocks =
		        rng_range(rng, 1, bdev_num_blocks(zone_top()) / zone - op->zone) * zone;
	}
	op->offset = op->zone * zone;
	if (rng_one_in(rng, 24) && zone > 1)
		op->blocks--;
	if (rng_one_in(rng, 24) && op->offset > 0)
		op->offset--;
	op->zone = (unsigned)(op->offset / zone);
	op->bio.num_blocks = op->blocks;
}

static enum kind draw_kind(void)
{
	static const uint8_t weights[] = {[KIND_WRITE] = 26,
	        [KIND_ZEROES] = 4,
	        [KIND_APPEND] = 24,
	        [KIND_MANAGE] = 16,
	        [KIND_READ] = 22,
	        [KIND_REPORT] = 4,
	        [KIND_FLUSH] = 4};
	uint64_t r = rng_below(&life.rng, 100);
	unsigned kind = 0;

	while (r >= weights[kind])
		r -= weights[kind++];
	return (enum kind)kind;
}

static void start_request(void)
{
	static const enum bio_op ops[] = {[KIND_WRITE] = BIO_WRITE,
	        [KIND_ZEROES] = BIO_WRITE_ZEROES,
	        [KIND_APPEND] = BIO_ZONE_APPEND,
	        [KIND_MANAGE] = BIO_ZONE_MGMT,
	        [KIND_READ] = BIO_READ,
	        [KIND_REPORT] = BIO_ZONE_REPORT,
	        [KIND_FLUSH] = BIO_FLUSH};
	struct op *op = life.ops;
	bool data;

	while (op->busy)
		op++;
	op->kind = draw_kind();
	data = op->kind == KIND_WRITE || op->kind == KIND_APPEND || op->kind == KIND_READ;
	op->settled = op->taken_back = op->ended = op->late = false;
	op->zones_done = 0;
	op->expected = 0;
	op->order = life.submitted++;
	op->loop =
	        (unsigned)rng_range(&life.rng, rng_one_in(&life.rng, 8) ? 0 : 1, life.data_loops);
	draw_range(op);
	op->value = kept->last_value + 1;
	kept->last_value += READ_MAX;
	op->began = ++kept->blocks.clock;
	op->size_at_start = bdev_num_blocks(zone_top());
	op->iov = (struct iovec){op->data, op->blocks * ZONE_BLOCK_BYTES};
	bio_init(&op->bio, ops[op->kind], data ? &op->iov : NULL, data, op->blocks, zone_op_done,
	        op);
	if (op->kind <= KIND_APPEND && rng_one_in(&life.rng, 6))
		op->bio.flags |= BIO_FUA;
	if (op->kind == KIND_APPEND)
		op->bio.appended_at = UINT64_MAX; /* stays when it is refused */
	if (op->kind == KIND_MANAGE)
		draw_management(op);
	if (op->kind == KIND_REPORT)
		op->bio.zone_report = (struct bio_zone_report){
		        op->zones, (uint32_t)rng_range(&life.rng, 1, ZONE_MODEL_ZONES_MAX), 0};
	for (uint64_t i = 0; data && i < op->blocks; i++)
		zone_blocks_fill(op->data + i * ZONE_BLOCK_BYTES, zone_op_value(op, i));
	op->busy = true;
	life.busy++;
	kept->tally.requests++;
	sim_on_loop(op->loop, submit, op);
}

/* ---- a life -----------------------------------------------------------------------------------
 */

static bool is_set(void *arg)
{
	return *(bool *)arg;
}

static void wait_for(bool *flag)
{
	if (!sim_run_until(is_set, flag, PATIENCE_NS))
		sim_fail("stuck", "a step of the test does not end");
}

static void ended(void *arg, const struct err *err)
{
	if (err && err->code)
		sim_fail("failed", "%s", err->text);
	*(bool *)arg = true;
}

static void called(void *arg, const json_t *reply)
{
	if (json_object_get(reply, "error"))
		sim_fail("failed", "%s",
		        json_string_value(
		                json_object_get(json_object_get(reply, "error"), "message")));
	*(bool *)arg = true;
}

/* Steals params. */
static void call(const char *method, json_t *params)
{
	bool done_flag = false;

	rpc_call(method, params, called, &done_flag);
	wait_for(&done_flag);
}

static void on_resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	if (old_blocks == new_blocks)
		sim_fail("told wrongly", "told of %lu blocks, which there were before", new_blocks);
	bdev_told(tell, BDEV_TOLD, 1);
}

static void on_removed(struct bdev_handle *handle)
{
	(void)handle;
	sim_fail("removed", "the bdev goes");
}

static int on_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	(void)handle;
	(void)new_blocks;
	(void)err;
	return 0;
}

static const struct bdev_holder_ops holder_ops = {
        .kind = "test", .resized = on_resized, .removed = on_removed, .may_shrink = on_may_shrink};

static void start_daemon(void)
{
	struct loop_config config = {.data_loops = life.data_loops};
	struct rpc_options options = {0};
	struct err err = ERR_NONE;
	bool started = false;

	if (loops_start(&config, &err))
		sim_fail("failed", "%s", err.text);
	bdev_start();
	bdev_options()->bio_pool_size = 4;
	rpc_start(&options, ended, &started);
	wait_for(&started);
}

static void stop_daemon(void)
{
	bool stopped = false;

	bdev_close(life.handle);
	bdev_stop((struct bdev_done){ended, &stopped});
	wait_for(&stopped);
	rpc_stop();
	sim_loops_end();
}

static void set_faults(bool on)
{
	struct sim_file *file = sim_file_find(FILE_PATH);

	if (file)
		file->one_in[FAULT_WRITE_ERROR] = file->one_in[FAULT_READ_ERROR] = on ? 8 : 0;
}

static void make_stack(void)
{
	struct err err = ERR_NONE;

	if (life.on_file)
		call("bdev_aio_create", json_pack("{s:s, s:s, s:i}", "name", "base", "filename",
		                                FILE_PATH, "block_size", ZONE_BLOCK_BYTES));
	else
		call("bdev_malloc_create",
		        json_pack("{s:s, s:I, s:i}", "name", "base", "num_blocks",
		                (json_int_t)kept->sizes[0], "block_size", ZONE_BLOCK_BYTES));
	call("bdev_zone_block_create",
	        json_pack("{s:s, s:s, s:I, s:i, s:i, s:i}", "name", "z", "base_bdev", "base",
	                "zone_capacity", (json_int_t)kept->capacity, "optimal_open_zones", 1,
	                "max_open_zones", (int)kept->max_open, "max_active_zones",
	                (int)kept->max_active));
	if (life.layers)
		call("bdev_passthru_create",
		        json_pack("{s:s, s:s}", "name", "p", "base_bdev_name", "z"));
	life.bdev = bdev_find("z");
	if (bdev_open(bdev_find(life.layers ? "p" : "z"), true, &holder_ops, "test", NULL,
	            &life.handle, &err))
		sim_fail("failed", "%s", err.text);
}

static void begin_life(uint64_t seed, unsigned number)
{
	unsigned zones;

	life.rng = rng_stream(seed, 100 + number);
	life.data_loops = (unsigned)rng_range(&life.rng, 1, 3);
	life.depth = (unsigned)rng_range(&life.rng, 1, OPS_MAX);
	life.layers = rng_one_in(&life.rng, 4);
	set_faults(false);
	start_daemon();
	make_stack();
	zones = (unsigned)(bdev_num_blocks(life.bdev) / kept->zone_blocks);
	life.model = (struct zone_model){.zone_blocks = kept->zone_blocks,
	        .capacity_blocks = kept->capacity,
	        .num_zones = zones,
	        .max_open = kept->max_open,
	        .max_active = kept->max_active};
	for (unsigned i = 0; i < zones; i++)
		zone_model_set(&life.model, i, ZONE_FULL);
	zone_follow();
}

/* ---- resizes ----------------------------------------------------------------------------------
 */

static void resized(void *arg, const struct resize_report *report)
{
	bool sensible = kept->sizes[1] >= kept->zone_blocks;

	(void)arg;
	if (report->err.code && sensible)
		sim_fail("not resized", "%s", report->err.text);
	if (!report->err.code)
		kept->sizes[0] = kept->sizes[1];
	kept->sizes[1] = 0;
	life.resizing = false;
	kept->tally.resizes++;
	if (life.tracing)
		printf("    base resized to %lu: %s\n", kept->sizes[0],
		        report->err.code ? report->err.text : "done");
	zone_follow();
	if (bdev_num_blocks(zone_top()) != kept->sizes[0] / kept->zone_blocks * kept->zone_blocks)
		sim_fail("wrong size", "%lu blocks in zones of %lu on %lu (%lu)",
		        bdev_num_blocks(zone_top()), kept->zone_blocks, kept->sizes[0],
		        bdev_num_blocks(life.bdev->bases[0]));
}

static void start_resize(void *arg)
{
	uint64_t max = min_u64(ZONE_MODEL_ZONES_MAX * kept->zone_blocks, ZONE_BLOCKS_MAX);

	(void)arg;
	life.resizing = true;
	kept->sizes[1] = rng_range(&life.rng, 1, max);
	bdev_resize(bdev_find("base"), kept->sizes[1], resized, NULL);
	zone_follow();
}

/* ---- a run ------------------------------------------------------------------------------------
 */

static bool idle(void *arg)
{
	(void)arg;
	zone_follow();
	return life.busy == 0 && !life.resizing;
}

static void step(void)
{
	if (!sim_step() && life.busy > 0)
		sim_fail("stuck", "%u requests do not end", life.busy);
	zone_follow();
}

/* crash_after: so many requests; 0: never. */
static void work(unsigned requests, unsigned crash_after, bool power_cut)
{
	set_faults(life.disks_fail);
	for (unsigned i = 0; i < requests; i++) {
		while (life.busy == life.depth || rng_one_in(&life.rng, 3))
			step();
		start_request();
		if (!life.resizing && !life.disks_fail && rng_one_in(&life.rng, 40))
			sim_on_loop(LOOP_CONTROL, start_resize, NULL);
		if (crash_after && i == crash_after)
			sim_crash(power_cut);
	}
	if (!sim_run_until(idle, NULL, PATIENCE_NS))
		sim_fail("stuck", "%u requests do not end", life.busy);
	set_faults(false);
}

static void read_block(struct op *op, uint64_t block)
{
	op->kind = KIND_READ;
	op->busy = true;
	op->settled = op->ended = op->late = false;
	op->expected = 0;
	op->loop = 1;
	op->offset = block;
	op->blocks = 1;
	op->began = ++kept->blocks.clock;
	op->size_at_start = bdev_num_blocks(zone_top());
	op->iov = (struct iovec){op->data, ZONE_BLOCK_BYTES};
	bio_init(&op->bio, BIO_READ, &op->iov, 1, 1, zone_op_done, op);
	life.busy++;
	sim_on_loop(1, submit, op);
	if (!sim_run_until(idle, NULL, PATIENCE_NS))
		sim_fail("stuck", "a read does not end");
}

/* After a restart all zones are full, and hold what was written. */
static void check_restart(bool power_cut)
{
	struct op *op = &life.ops[0];
	uint64_t blocks = min_u64(bdev_num_blocks(life.bdev), kept->sizes[0]);

	if (kept->sizes[1])
		blocks = min_u64(blocks, kept->sizes[1]);
	kept->sizes[0] = bdev_num_blocks(life.bdev->bases[0]);
	kept->sizes[1] = 0;
	life.disks_fail = false;
	for (uint64_t i = 0; i < ZONE_BLOCKS_MAX; i++)
		kept->blocks.at[i].unsure = true; /* judged here */
	for (uint64_t i = 0; i < blocks; i++) {
		if (i % kept->zone_blocks >= kept->capacity)
			continue;
		read_block(op, i);
		if (!zone_blocks_may_find(&kept->blocks, i, power_cut, op->data))
			sim_fail("lost", "block %lu is not what was acknowledged", i);
	}
}

static bool tracing;

static void draw_run(uint64_t seed, struct rng *rng)
{
	uint64_t zones = rng_range(rng, 1, 10);

	sim_world_reset(seed);
	sim->forked = true;
	memset(&life, 0, sizeof(life));
	life.tracing = tracing;
	zone_blocks_init(&kept->blocks);
	kept->seed = seed;
	kept->last_value = 0;
	kept->capacity = rng_range(rng, 1, 16);
	kept->zone_blocks = zone_blocks_of(kept->capacity);
	kept->sizes[0] = zones * kept->zone_blocks + rng_below(rng, kept->zone_blocks);
	kept->sizes[1] = 0;
	kept->max_open = rng_one_in(rng, 2) ? (unsigned)rng_range(rng, 1, 4) : 0;
	kept->max_active = rng_one_in(rng, 3) ? (unsigned)rng_range(rng, 4, 6) : 0;
	life.on_file = rng_one_in(rng, 2);
	life.disks_fail = life.on_file && rng_one_in(rng, 3);
	if (life.on_file) {
		struct sim_file *f =
		        sim_file_add(FILE_PATH, kept->sizes[0] * ZONE_BLOCK_BYTES, false);

		f->latency_min_ns = 10 * NSEC_PER_USEC;
		f->latency_max_ns = rng_range(rng, 20, 2000) * NSEC_PER_USEC;
	}
}

static void first_life(uint64_t seed, unsigned requests, unsigned crash_after, bool power_cut)
{
	begin_life(seed, 0);
	work(requests, crash_after, power_cut);
	stop_daemon();
}

static void crash_in_child(uint64_t seed, unsigned requests, unsigned crash_after, bool power_cut)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		first_life(seed, requests, crash_after, power_cut);
		sim_exit(SIM_EXIT_DONE);
	}
	BELLOWS_ASSERT(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != SIM_EXIT_CRASHED)
		sim_fail(sim->failure_kind[0] ? sim->failure_kind : "died", "%s", sim->failure);
	kept->tally.crashes++;
}

static void run_seed(uint64_t seed)
{
	struct rng rng = rng_stream(seed, 99);
	unsigned requests, crash_after;
	bool power_cut;

	draw_run(seed, &rng);
	requests = (unsigned)rng_range(&rng, 20, 120);
	crash_after = life.on_file && rng_one_in(&rng, 4) ? (unsigned)rng_range(&rng, 5, 80) : 0;
	power_cut = rng_one_in(&rng, 2);
	if (crash_after)
		crash_in_child(seed, crash_after + 1, crash_after, power_cut);
	else
		first_life(seed, requests, 0, false);
	if (!life.on_file || !(crash_after || rng_one_in(&rng, 4)))
		return;
	begin_life(seed, 1);
	check_restart(crash_after && power_cut);
	work(10, 0, false);
	stop_daemon();
}

/* In a child, whose end says how it went; the disks' errors are not worth a line. */
static bool run_seeds(uint64_t first, uint64_t last, unsigned plant)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
		bellows_plant = plant;
#endif
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		for (uint64_t seed = first; seed <= last; seed++)
			run_seed(seed);
		_exit(SIM_EXIT_DONE);
	}
	(void)plant;
	BELLOWS_ASSERT(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SIM_EXIT_DONE)
		return true;
	if (!sim->failure_kind[0])
		snprintf(sim->failure_kind, sizeof(sim->failure_kind), "died with %#x", status);
	return false;
}

static int run_all(uint64_t first, uint64_t last)
{
	const struct zone_tally *t = &kept->tally;

	if (!run_seeds(first, last, 0)) {
		printf("FAILED  seed %lu: %s: %s\n", kept->seed, sim->failure_kind, sim->failure);
		return 1;
	}
	printf("%lu seeds from %lu: %lu requests (%lu refused, %lu met a failing disk, %lu had to "
	       "wait), %lu reads checked, %lu resizes, %lu crashes\n",
	        last - first + 1, first, t->requests, t->refused, t->failures, t->waited, t->reads,
	        t->resizes, t->crashes);
	return 0;
}

static const struct {
	const char *name, *text;
} plants[] = {
#define X(name, text) {#name, text},
        PLANTS_OF_ZONES(X)
#undef X
};

/* Each planted defect must be found. */
static int run_planted(void)
{
	unsigned found = 0;

#if !defined(BELLOWS_CHECK) || !BELLOWS_CHECK
	puts("only check builds have planted defects");
	return 77;
#endif
	for (unsigned i = 0; i < ARRAY_SIZE(plants); i++) {
		bool yes = !run_seeds(1, PLANTED_SEEDS, PLANT_COUNT + 1 + i);

		found += yes;
		printf("%s %4lu seeds  %-22s %s\n                       %s: %.100s\n",
		        yes ? "found after" : "NOT FOUND in", kept->seed, plants[i].name,
		        plants[i].text, yes ? sim->failure_kind : "", yes ? sim->failure : "");
	}
	printf("%u of %zu planted defects found\n", found, ARRAY_SIZE(plants));
	return found == ARRAY_SIZE(plants) ? 0 : 1;
}

int main(int argc, char **argv)
{
	unsigned long first = 1, last = DEFAULT_SEEDS;

	sim_world_create();
	log_set_print_level(LOG_ERROR);
	kept = mmap(NULL, sizeof(*kept), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	BELLOWS_ASSERT(kept != MAP_FAILED);
	if (argc > 1 && strcmp(argv[1], "planted") == 0)
		return run_planted();
	if (argc > 1 && sscanf(argv[1], "%lu..%lu", &first, &last) < 1)
		return 2;
	if (last < first)
		last = first;
	tracing = argc > 2;
	return run_all(first, last);
}
