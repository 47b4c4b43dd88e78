/* stats_methods.c: counters and latencies of bdevs. */

#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"
#include "rpc/depth.h"
#include "rpc/rpc.h"
#include "rpc/text.h"

static const char *const reset_names[] = {"all", "maxmin", "error", "none", NULL};
static const enum bdev_stats_reset reset_modes[] = {
        BDEV_RESET_ALL, BDEV_RESET_MAXMIN, BDEV_RESET_ERROR, BDEV_RESET_NONE};
#define RESET_DEFAULT_NONE 3

/* One after the other over bdevs by name, since any of them may go away meanwhile. */
struct stats_job {
	struct rpc_request *request;
	char **names;
	size_t count, next;
	bool named;    /* the client gave the names: one that is missing is an error */
	bool per_loop; /* one row per loop */
	bool read;     /* else only reset */
	enum bdev_stats_reset reset;
	struct bdev_stats sum, *loops;
	uint32_t block_bytes;
	json_t *rows;
};

static void job_step(struct stats_job *job);

/* ---- a row ----------------------------------------------------------------------------------- */

static void put(json_t *row, const char *key, uint64_t n)
{
	json_object_set_new(row, key, json_integer((json_int_t)n));
}

static void put_traffic(json_t *row, const char *bytes_key, const char *ops_key,
        const struct bdev_op_stats *op, uint32_t block_bytes)
{
	put(row, bytes_key, op->blocks * block_bytes);
	put(row, ops_key, op->ops);
}

static void put_latency(json_t *row, const char *sum_key, const char *max_key, const char *min_key,
        const struct bdev_op_stats *op)
{
	put(row, sum_key, op->latency_sum_ns);
	put(row, max_key, op->latency_max_ns);
	put(row, min_key, op->latency_min_ns == UINT64_MAX ? 0 : op->latency_min_ns);
}

static json_t *errors(const struct bdev_stats *stats)
{
	json_t *object = json_object();

	for (unsigned op = 0; op < BIO_OPS; op++)
		if (stats->op[op].errors)
			put(object, bio_op_name((enum bio_op)op), stats->op[op].errors);
	return object;
}

static void put_stats(json_t *row, const struct bdev_stats *stats, uint32_t block_bytes)
{
	static const struct bdev_op_stats none;
	const struct bdev_op_stats *r = &stats->op[BIO_READ], *w = &stats->op[BIO_WRITE];
	const struct bdev_op_stats *u = &stats->op[BIO_UNMAP];

	put_traffic(row, "bytes_read", "num_read_ops", r, block_bytes);
	put_traffic(row, "bytes_written", "num_write_ops", w, block_bytes);
	put_traffic(row, "bytes_unmapped", "num_unmap_ops", u, block_bytes);
	put_traffic(row, "bytes_copied", "num_copy_ops", &none, block_bytes);
	put_latency(
	        row, "read_latency_ticks", "max_read_latency_ticks", "min_read_latency_ticks", r);
	put_latency(row, "write_latency_ticks", "max_write_latency_ticks",
	        "min_write_latency_ticks", w);
	put_latency(row, "unmap_latency_ticks", "max_unmap_latency_ticks",
	        "min_unmap_latency_ticks", u);
	put_latency(row, "copy_latency_ticks", "max_copy_latency_ticks", "min_copy_latency_ticks",
	        &none);
	json_object_set_new(row, "io_error", errors(stats));
}

static void append_rows(struct stats_job *job, const char *name)
{
	const struct bdev *bdev = bdev_find(name);
	json_t *row;

	if (!job->per_loop) {
		row = json_pack("{s:o}", "name", rpc_json_string(name));
		put_stats(row, &job->sum, job->block_bytes);
		if (bdev)
			rpc_depth_describe(bdev, row);
		json_array_append_new(job->rows, row);
		return;
	}
	for (unsigned id = 0; id < loops_count(); id++) {
		row = json_pack("{s:i}", "thread_id", (int)id);
		put_stats(row, &job->loops[id], job->block_bytes);
		json_array_append_new(job->rows, row);
	}
}

/* ---- the job --------------------------------------------------------------------------------- */

static void job_free(struct stats_job *job)
{
	for (size_t i = 0; i < job->count; i++)
		free(job->names[i]);
	free(job->names);
	free(job->loops);
	json_decref(job->rows);
	free(job);
}

static void job_reply(struct stats_job *job)
{
	uint64_t ticks = loop_now_ns(loop_self());
	json_t *result = NULL;

	if (job->read) {
		result = json_pack("{s:I, s:I}", "tick_rate", (json_int_t)NSEC_PER_SEC, "ticks",
		        (json_int_t)ticks);
		if (job->per_loop)
			json_object_set_new(result, "name", rpc_json_string(job->names[0]));
		json_object_set(result, job->per_loop ? "channels" : "bdevs", job->rows);
	}
	rpc_reply(job->request, result);
	job_free(job);
}

static void reset_done(void *arg, const struct err *err)
{
	struct stats_job *job = arg;

	(void)err;
	job->next++;
	job_step(job);
}

static void read_done(void *arg, const struct err *err)
{
	struct stats_job *job = arg;
	const char *name = job->names[job->next];
	struct bdev *bdev;

	if (!err || !err->code)
		append_rows(job, name);
	bdev = job->reset == BDEV_RESET_NONE ? NULL : bdev_find(name);
	if (bdev)
		bdev_reset_stats(bdev, job->reset, (struct bdev_done){reset_done, job});
	else
		reset_done(job, NULL);
}

static void job_step(struct stats_job *job)
{
	struct bdev *bdev = NULL;

	while (job->next < job->count && !(bdev = bdev_find(job->names[job->next]))) {
		if (job->named) {
			rpc_fail(job->request, -ENODEV, "there is no bdev '%s'",
			        job->names[job->next]);
			job_free(job);
			return;
		}
		job->next++;
	}
	if (job->next == job->count) {
		job_reply(job);
		return;
	}
	job->block_bytes = bdev->geometry.block_bytes;
	if (job->read)
		bdev_get_stats(bdev, job->per_loop ? NULL : &job->sum,
		        job->per_loop ? job->loops : NULL, (struct bdev_done){read_done, job});
	else
		bdev_reset_stats(bdev, job->reset, (struct bdev_done){reset_done, job});
}

static struct stats_job *new_job(struct rpc_request *request, char *const *names, size_t count)
{
	struct stats_job *job = xcalloc(1, sizeof(*job));
	struct bdev *bdev = NULL;

	job->request = request;
	job->named = count > 0;
	while (!job->named && (bdev = bdev_next(bdev)))
		count++;
	job->names = xcalloc(count + 1, sizeof(char *));
	for (; job->count < count; job->count++) {
		bdev = job->named ? NULL : bdev_next(bdev);
		job->names[job->count] = xstrdup(bdev ? bdev->name : names[job->count]);
	}
	return job;
}

/* ---- methods --------------------------------------------------------------------------------- */

struct iostat_params {
	struct param_strings names;
	bool per_channel;
	int reset_mode;
};

static const struct param iostat_table[] = {
        {PARAM(struct iostat_params, names, PARAM_STRINGS), .help = "default: all"},
        {PARAM(struct iostat_params, per_channel, PARAM_BOOL),
                .help = "one row per loop; needs exactly one name"},
        {PARAM(struct iostat_params, reset_mode, PARAM_ENUM), .values = reset_names,
                .def = RESET_DEFAULT_NONE, .help = "what to reset after reading"},
        {0},
};

static void get_iostat(struct rpc_request *request, void *params)
{
	const struct iostat_params *p = params;
	struct stats_job *job;

	if (p->per_channel && p->names.count != 1) {
		rpc_fail(request, -EINVAL, "per_channel needs exactly one name");
		return;
	}
	for (size_t i = 0; i < p->names.count; i++) {
		if (!bdev_find(p->names.items[i])) {
			rpc_fail(request, -ENODEV, "there is no bdev '%s'", p->names.items[i]);
			return;
		}
	}
	job = new_job(request, p->names.items, p->names.count);
	job->read = true;
	job->per_loop = p->per_channel;
	job->reset = reset_modes[p->reset_mode];
	job->rows = json_array();
	job->loops = xcalloc(loops_count(), sizeof(*job->loops));
	job_step(job);
}

static struct rpc_method bdev_get_iostat = {
        .name = "bdev_get_iostat",
        .summary = "Operations, bytes, latencies and errors of bdevs",
        .result_help = "object: tick_rate, ticks, bdevs [{name, bytes_read, num_read_ops, ..., "
                       "io_error {operation: count}}]; a tick is 1 ns",
        .params = iostat_table,
        .params_bytes = sizeof(struct iostat_params),
        .handler = get_iostat,
};
RPC_METHOD(bdev_get_iostat);

struct reset_params {
	char *name;
	int mode;
};

static const struct param reset_table[] = {
        {PARAM(struct reset_params, name, PARAM_STRING), .help = "default: all bdevs"},
        {PARAM(struct reset_params, mode, PARAM_ENUM), .values = reset_names,
                .help = "what to reset"},
        {0},
};

static void reset_iostat(struct rpc_request *request, void *params)
{
	const struct reset_params *p = params;
	struct stats_job *job = new_job(request, &p->name, p->name ? 1 : 0);

	job->reset = reset_modes[p->mode];
	job_step(job);
}

static struct rpc_method bdev_reset_iostat = {
        .name = "bdev_reset_iostat",
        .summary = "Resets the counters of one bdev or of all",
        .result_help = "true",
        .params = reset_table,
        .params_bytes = sizeof(struct reset_params),
        .handler = reset_iostat,
};
RPC_METHOD(bdev_reset_iostat);
