#include "tests/lib/raid_ops.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DISK_MIB 4
#define UNIT_BYTES KIB(64)
#define UNITS_MAX 32 /* that a disk may grow */
#define PATIENCE_S 60

struct array arrays[NUM_ARRAYS] = {
        {.level = "raid0", .num_members = 3, .num_disks = 3, .strip_kb = 8},
        {.level = "concat",
                .num_members = 2,
                .num_disks = 2,
                .strip_kb = 4,
                .superblock = true,
                .file = true},
        {.level = "raid1", .num_members = 3, .num_disks = 5, .superblock = true},
        {.level = "raid1", .num_members = 2, .num_disks = 3, .file = true},
        {.level = "raid5f", .num_members = 4, .num_disks = 6, .strip_kb = 4, .superblock = true},
        {.level = "raid5f", .num_members = 3, .num_disks = 4, .strip_kb = 8, .file = true},
};

bool array_redundant(const struct array *a)
{
	return strcmp(a->level, "raid1") == 0 || strcmp(a->level, "raid5f") == 0;
}

unsigned array_needed(const struct array *a)
{
	if (!array_redundant(a))
		return a->num_members;
	return strcmp(a->level, "raid1") == 0 ? 1 : a->num_members - 1;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

/* Any thread: a jump to the test's own is not possible from each. */
static void bad(const char *what, const json_t *with)
{
	autofree char *text = with ? json_dumps(with, 0) : NULL;

	fprintf(stderr, "%s: %s\n", what, text ? text : "");
	abort();
}

bool accepted(json_t *reply)
{
	const json_t *error = json_object_get(reply, "error");
	const char *message = json_string_value(json_object_get(error, "message"));

	if (error && (!message || strlen(message) < 8))
		bad("an error that says nothing", reply);
	json_decref(reply);
	return !error;
}

static json_t *find_array(const char *name)
{
	json_t *list = inproc_result("bdev_raid_get_bdevs", "{'category': 'all'}"), *raid, *mine;
	size_t i;

	mine = NULL;
	json_array_foreach (list, i, raid) {
		if (strcmp(json_string_value(json_object_get(raid, "name")), name) == 0)
			mine = json_incref(raid);
	}
	json_decref(list);
	return mine;
}

static void look_at_members(const struct array *a, const json_t *raid, struct look *look)
{
	const json_t *list = json_object_get(raid, "base_bdevs_list"), *slot;
	json_int_t discovered =
	        json_integer_value(json_object_get(raid, "num_base_bdevs_discovered"));
	unsigned there = 0;
	size_t i;

	json_array_foreach (list, i, slot) {
		bool in = json_is_true(json_object_get(slot, "is_configured"));

		there += in;
		look->complete += in && !json_is_true(json_object_get(slot, "rebuilding"));
	}
	if (json_array_size(list) != a->num_members || there != discovered)
		bad("members", raid);
}

struct look array_look(const struct array *a)
{
	json_t *raid = find_array(a->name);
	const json_t *process, *check;
	struct look look = {0};

	if (!raid)
		return look;
	look.online = strcmp(json_string_value(json_object_get(raid, "state")), "online") == 0;
	look_at_members(a, raid, &look);
	process = json_object_get(raid, "process");
	check = json_object_get(raid, "check");
	if (process) {
		const json_t *progress = json_object_get(process, "progress");
		const char *type = json_string_value(json_object_get(process, "type"));

		look.process = true;
		look.resync = strcmp(type, "resync") == 0;
		if (json_integer_value(json_object_get(progress, "percent")) > 100)
			bad("progress", raid);
	}
	look.resync |= json_object_get(raid, "resync_regions_left") != NULL;
	look.check =
	        check && strcmp(json_string_value(json_object_get(check, "state")), "running") == 0;
	look.different_blocks =
	        (uint64_t)json_integer_value(json_object_get(check, "different_blocks"));
	json_decref(raid);
	return look;
}

/* ---- disks ------------------------------------------------------------------------------------
 */

bool member_resize(const struct member *m, int units)
{
	int64_t unit = (int64_t)(UNIT_BYTES / m->block_bytes);
	int64_t least = (int64_t)m->min_blocks, most = least + UNITS_MAX * unit;
	int64_t now = (int64_t)bdev_blocks_of(m->base), then = now + units * unit;
	struct err err;

	if (then < least || then > most)
		return false;
	return disk_resize(m->base, (uint64_t)then, &err) == 0;
}

void member_heal(const struct member *m)
{
	accepted(inproc_call("bdev_error_inject_error",
	        "{'name': '%s', 'io_type': 'clear', 'error_type': 'failure'}", m->name));
}

struct pausing {
	const char *name;
	struct bdev *bdev;
	bool done, ok;
};

static void paused(void *arg, const struct err *err)
{
	struct pausing *p = arg;

	if (!err)
		bdev_unquiesce(p->bdev);
	p->ok = !err;
	__atomic_store_n(&p->done, true, __ATOMIC_RELEASE);
}

static void pause_on_control(void *arg)
{
	struct pausing *p = arg;

	p->bdev = bdev_find(p->name);
	if (p->bdev)
		bdev_quiesce(p->bdev, (struct bdev_done){paused, p});
	else
		p->done = true;
}

bool bdev_pause_briefly(const char *name)
{
	struct pausing p = {.name = name};

	inproc_run(pause_on_control, &p);
	while (!__atomic_load_n(&p.done, __ATOMIC_ACQUIRE))
		usleep(100);
	return p.ok;
}

static void make_disk(struct array *a, unsigned index, unsigned i)
{
	struct member *m = &a->disks[i];
	char uuid[40];

	m->file = a->file;
	m->block_bytes = a->file ? 4096 : 512;
	m->min_blocks = MIB(DISK_MIB) / m->block_bytes;
	snprintf(m->base, sizeof(m->base), "a%ud%u", index, i);
	snprintf(m->name, sizeof(m->name), "EE_%s", m->base);
	snprintf(uuid, sizeof(uuid), "00000000-0000-4000-8000-0000000000%u%u", index, i);
	if (a->file) {
		char path[128];
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s", inproc_dir(), m->base);
		file = fopen(path, "w");
		assert_non_null(file);
		assert_int_equal(ftruncate(fileno(file), MIB(DISK_MIB)), 0);
		fclose(file);
		inproc_ok("bdev_aio_create",
		        "{'name': '%s', 'filename': '%s', 'block_size': 4096, 'uuid': '%s'}",
		        m->base, path, uuid);
	} else {
		inproc_ok("bdev_malloc_create",
		        "{'name': '%s', 'num_blocks': %llu, 'block_size': 512, 'uuid': '%s'}",
		        m->base, (unsigned long long)m->min_blocks, uuid);
	}
	inproc_ok("bdev_error_create", "{'base_name': '%s'}", m->base);
}

/* One that was pulled and is not quite gone yet is refused: later. */
void array_plug(const struct array *a)
{
	for (unsigned i = 0; i < a->num_disks; i++) {
		if (bdev_blocks_of(a->disks[i].name) == 0)
			accepted(inproc_call(
			        "bdev_error_create", "{'base_name': '%s'}", a->disks[i].base));
	}
}

/* ---- arrays -----------------------------------------------------------------------------------
 */

static void create_array(const struct array *a, const char *const *names)
{
	char bases[256] = "", strip[48] = "";
	json_t *reply;

	for (unsigned i = 0; i < a->num_members; i++) {
		size_t at = strlen(bases);

		snprintf(bases + at, sizeof(bases) - at, "%s'%s'", i ? ", " : "", names[i]);
	}
	if (a->strip_kb)
		snprintf(strip, sizeof(strip), ", 'strip_size_kb': %u", a->strip_kb);
	reply = inproc_call("bdev_raid_create",
	        "{'name': '%s', 'raid_level': '%s', 'superblock': %s, 'base_bdevs': [%s]%s}",
	        a->name, a->level, a->superblock ? "true" : "false", bases, strip);
	if (!json_object_get(reply, "result"))
		bad(a->name, reply);
	json_decref(reply);
}

/* A disk of the machine's that stalls must not end it. */
static void be_patient(void *arg)
{
	(void)arg;
	bdev_options()->step_timeout_ms = PATIENCE_S * 1000;
}

void arrays_make(uint64_t seed)
{
	inproc_run(be_patient, NULL);
	for (unsigned k = 0; k < NUM_ARRAYS; k++) {
		struct array *a = &arrays[k];
		const char *names[ARRAY_DISKS_MAX];

		snprintf(a->name, sizeof(a->name), "R%u", k);
		pthread_mutex_init(&a->making, NULL);
		for (unsigned i = 0; i < a->num_disks; i++) {
			make_disk(a, k, i);
			names[i] = a->disks[i].name;
		}
		create_array(a, names);
		a->disk = disk_open(a->name, true);
		a->load = load_start(a->disk, &(struct load_config){.data_loops = OPS_LOOPS,
		                                      .depth = 2,
		                                      .rest_us = 500,
		                                      .seed = seed * NUM_ARRAYS + k,
		                                      .errors_pass = !array_redundant(a)});
	}
}

void array_follow(struct array *a)
{
	struct disk *disk;

	if (!disk_is_removed(a->disk) || disk_try_open(a->name, true, &disk) != 0)
		return;
	/* Whoever looks for metadata reads what the load is going to write: two clients that don't
	 * know of each other, which ThreadSanitizer calls a race. */
	inproc_ok("bdev_wait_for_examine", NULL);
	load_run(a->load, UINT64_MAX);
	disk_close(a->disk);
	a->disk = disk;
	load_resume(a->load, disk);
}

static void wait_for(const struct array *a, bool (*fn)(const struct look *look), const char *what)
{
	for (time_t end = time(NULL) + PATIENCE_S; time(NULL) < end;) {
		struct look look = array_look(a);

		if (fn(&look))
			return;
		usleep(1000);
	}
	bad(what, find_array(a->name));
}

static bool is_online(const struct look *look)
{
	return look->online;
}

/* The members in their order; false: it is not whole. */
static bool member_names(const json_t *raid, char names[][24])
{
	const json_t *list = json_object_get(raid, "base_bdevs_list"), *slot;
	size_t i;

	json_array_foreach (list, i, slot) {
		const char *name = json_string_value(json_object_get(slot, "name"));

		if (!name || !json_is_true(json_object_get(slot, "is_configured")) ||
		        json_is_true(json_object_get(slot, "rebuilding")))
			return false;
		str_copy(names[i], 24, name);
	}
	return true;
}

/* Without superblocks it must be whole: nobody remembers who has not all data. */
static bool make_again(struct array *a)
{
	json_t *raid = find_array(a->name);
	char names[ARRAY_DISKS_MAX][24];
	const char *list[ARRAY_DISKS_MAX];
	bool whole = raid && member_names(raid, names);

	for (unsigned i = 0; i < a->num_disks; i++)
		accepted(inproc_call(
		        "bdev_raid_remove_spare", "{'base_bdev': '%s'}", a->disks[i].name));
	json_decref(raid);
	if (!whole || !accepted(inproc_call("bdev_raid_delete", "{'name': '%s'}", a->name)))
		return false;
	for (unsigned i = 0; i < a->num_members; i++)
		list[i] = names[i];
	create_array(a, list);
	return true;
}

bool array_reassemble(struct array *a, struct rng *rng)
{
	unsigned first = (unsigned)rng_below(rng, a->num_disks);

	if (!a->superblock)
		return make_again(a);
	if (!accepted(inproc_call("bdev_raid_delete", "{'name': '%s'}", a->name)))
		return false;
	for (unsigned i = 0; i < a->num_disks; i++)
		bdev_remove_wait(a->disks[i].name);
	for (unsigned i = 0; i < a->num_disks; i++)
		inproc_ok("bdev_error_create", "{'base_name': '%s'}",
		        a->disks[(first + i) % a->num_disks].base);
	wait_for(a, is_online, "it is not found again");
	return true;
}

/* ---- all is well ------------------------------------------------------------------------------
 */

static bool is_idle(const struct look *look)
{
	return look->online && !look->process && !look->resync && !look->check;
}

/* One that was out of the array may have been made shorter meanwhile than its place in it. */
static uint64_t blocks_of_places(const struct array *a)
{
	json_t *array = find_array(a->name), *place;
	uint64_t most = 0;
	size_t i;

	json_array_foreach (json_object_get(array, "base_bdevs_list"), i, place) {
		json_int_t offset = json_integer_value(json_object_get(place, "data_offset"));
		json_int_t size = json_integer_value(json_object_get(place, "data_size"));

		most = max_u64(most, (uint64_t)(offset + size));
	}
	json_decref(array);
	return most;
}

static void grow_to_the_most(const struct array *a)
{
	uint64_t most = blocks_of_places(a);

	for (unsigned i = 0; i < a->num_disks; i++)
		most = max_u64(most, bdev_blocks_of(a->disks[i].base));
	for (unsigned i = 0; i < a->num_disks; i++) {
		if (bdev_blocks_of(a->disks[i].base) < most)
			disk_resize(a->disks[i].base, most, NULL);
	}
}

static void leave_in_peace(const struct array *a)
{
	for (unsigned i = 0; i < a->num_disks; i++) {
		member_heal(&a->disks[i]);
		accepted(inproc_call("bdev_set_qos_limit", "{'name': '%s', 'rw_ios_per_sec': 0}",
		        a->disks[i].name));
		accepted(inproc_call(
		        "bdev_raid_remove_spare", "{'base_bdev': '%s'}", a->disks[i].name));
	}
	accepted(inproc_call("bdev_set_qos_limit", "{'name': '%s', 'rw_ios_per_sec': 0}", a->name));
	inproc_ok("bdev_raid_set_options",
	        "{'name': '%s', 'process_max_bandwidth_mb_sec': 0, 'process_share_percent': 100, "
	        "'process_window_size_kb': 256}",
	        a->name);
	accepted(inproc_call("bdev_raid_process", "{'name': '%s', 'action': 'resume'}", a->name));
}

/* Keeps what the last one that was refused said. Whether it asks for a word on parity. */
static bool note(char **last, json_t *reply)
{
	bool asks = false;

	if (json_object_get(reply, "error")) {
		free(*last);
		*last = json_dumps(reply, 0);
		asks = strstr(*last, "trust_parity") != NULL;
	}
	json_decref(reply);
	return asks;
}

static void make_whole(struct array *a)
{
	autofree char *last = NULL;

	for (time_t end = time(NULL) + PATIENCE_S; time(NULL) < end;) {
		struct look look;
		bool asks = false;

		array_plug(a);
		array_follow(a);
		look = array_look(a);
		if (look.online && look.complete == a->num_members && !disk_is_removed(a->disk))
			return;
		for (unsigned i = 0; i < a->num_disks && !look.process; i++)
			asks |= note(&last, inproc_call("bdev_raid_add_base_bdev",
			                            "{'raid_bdev': '%s', 'base_bdev': '%s'}",
			                            a->name, a->disks[i].name));
		/* Without superblock: a member failed before all parity was looked at. The load is
		 * not there, so its data does not hang on it. */
		if (asks && !a->superblock)
			accepted(inproc_call("bdev_raid_start",
			        "{'name': '%s', 'trust_parity': true}", a->name));
		usleep(1000);
	}
	for (unsigned i = 0; i < a->num_disks; i++) {
		note(&last, inproc_call("bdev_raid_add_base_bdev",
		                    "{'raid_bdev': '%s', 'base_bdev': '%s'}", a->name,
		                    a->disks[i].name));
		fprintf(stderr, "%s\n", last);
	}
	bad("it does not become whole", find_array(a->name));
}

static void run_check(const struct array *a)
{
	struct look look;

	if (!accepted(inproc_call("bdev_raid_check", "{'name': '%s'}", a->name)))
		return;
	wait_for(a, is_idle, "the check does not end");
	look = array_look(a);
	if (look.different_blocks > 0)
		bad("members differ, says the check", find_array(a->name));
}

/* Byte by byte, below the error bdevs: mirrors are equal, all members with parity are zero. */
static void compare_members(const struct array *a)
{
	json_t *raid = find_array(a->name), *slot;
	bool mirror = strcmp(a->level, "raid1") == 0;
	autofree uint8_t *sum = NULL, *next = NULL;
	size_t i, bytes = 0;

	json_array_foreach (json_object_get(raid, "base_bdevs_list"), i, slot) {
		const char *name = json_string_value(json_object_get(slot, "name"));
		uint64_t offset =
		        (uint64_t)json_integer_value(json_object_get(slot, "data_offset"));
		uint64_t blocks = (uint64_t)json_integer_value(json_object_get(slot, "data_size"));
		struct disk *below = disk_open(name + strlen("EE_"), false);

		bytes = blocks * below->block_bytes;
		if (!sum)
			sum = xcalloc(1, bytes);
		if (!next)
			next = xcalloc(1, bytes);
		assert_int_equal(disk_read(below, offset, blocks, next), 0);
		disk_close(below);
		if (mirror && i > 0 && memcmp(sum, next, bytes) != 0)
			bad("members differ", raid);
		for (size_t k = 0; k < bytes && !(mirror && i > 0); k++)
			sum[k] ^= next[k];
	}
	for (size_t k = 0; k < bytes && !mirror; k++) {
		if (sum[k])
			bad("parity is wrong", raid);
	}
	json_decref(raid);
}

void array_settle(struct array *a)
{
	struct load_result result;

	leave_in_peace(a);
	array_plug(a);
	grow_to_the_most(a);
	make_whole(a);
	wait_for(a, is_idle, "it does not come to rest");
	if (array_redundant(a))
		run_check(a);
	load_pause(a->load);
	if (array_redundant(a))
		compare_members(a);
	result = load_check(a->load, a->disk);
	if (result.mismatches || (result.errors && array_redundant(a)))
		bad(result.first_text, NULL);
	load_resume(a->load, a->disk);
	/* What follows shall be met in the middle. */
	inproc_ok("bdev_raid_set_options",
	        "{'name': '%s', 'process_share_percent': 20, 'process_window_size_kb': 32}",
	        a->name);
}

struct load_result array_end(struct array *a)
{
	struct load_result result = load_stop(a->load);

	disk_close(a->disk);
	return result;
}
