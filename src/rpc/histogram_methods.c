/* histogram_methods.c: latency histograms of bdevs. */

#include <errno.h>
#include <string.h>

#include "base/cursor.h"
#include "bdev/bdev.h"
#include "rpc/bdev_save.h"
#include "rpc/rpc.h"

#define DEFAULT_SHIFT 7
#define MAX_SHIFT 10
#define DEFAULT_MIN_NS 1000
#define DEFAULT_MAX_NS (120 * NSEC_PER_SEC)
#define BORDERS_MAX 256

/* ---- bdev_enable_histogram ------------------------------------------------------------------- */

struct enable_params {
	char *name;
	bool enable;
	char *opc;
	uint8_t granularity;
	uint64_t min_nsec, max_nsec;
};

static const struct param enable_table[] = {
        {PARAM(struct enable_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of the bdev"},
        {PARAM(struct enable_params, enable, PARAM_BOOL), .required = true,
                .help = "on, from zero, or off"},
        {PARAM(struct enable_params, opc, PARAM_STRING),
                .help = "count one operation only: read, write, flush, unmap, write_zeroes, "
                        "compare, reset or block_status; default: all"},
        {PARAM(struct enable_params, granularity, PARAM_U8), .def = DEFAULT_SHIFT, .min = 1,
                .max = MAX_SHIFT, .help = "2^granularity buckets for each power of two"},
        {PARAM(struct enable_params, min_nsec, PARAM_U64), .def = DEFAULT_MIN_NS, .unit = "ns",
                .help = "shorter ones count in the first bucket"},
        {PARAM(struct enable_params, max_nsec, PARAM_U64), .def = DEFAULT_MAX_NS, .unit = "ns",
                .help = "longer ones count in the last bucket"},
        {0},
};

struct enable_job {
	struct rpc_request *request;
	char *name;
	json_t *params; /* for save; NULL: off */
};

static void enable_done(void *arg, const struct err *err)
{
	struct enable_job *job = arg;

	if (err && err->code)
		json_decref(job->params);
	else
		rpc_save_histogram(job->name, job->params);
	rpc_reply_err(job->request, err);
	free(job->name);
	free(job);
}

static enum bio_op find_op(const char *name)
{
	unsigned op = 0;

	while (op < BIO_OPS && strcmp(bio_op_name((enum bio_op)op), name) != 0)
		op++;
	return (enum bio_op)op;
}

static void enable_histogram(struct rpc_request *request, void *params)
{
	const struct enable_params *p = params;
	const struct param *tables[] = {enable_table, NULL};
	struct bdev *bdev = bdev_find(p->name);
	struct bdev_histogram config = {
	        .granularity_shift = p->granularity,
	        .min_ns = p->min_nsec,
	        .max_ns = p->max_nsec,
	        .op = p->opc ? find_op(p->opc) : BIO_OPS,
	};
	struct enable_job *job;

	if (!bdev) {
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", p->name);
		return;
	}
	if (p->opc && config.op == BIO_OPS) {
		rpc_fail(request, RPC_INTERNAL_ERROR, "there is no operation '%s'", p->opc);
		return;
	}
	if (p->enable && p->min_nsec >= p->max_nsec) {
		rpc_fail(request, -EINVAL, "min_nsec must be less than max_nsec");
		return;
	}
	job = xcalloc(1, sizeof(*job));
	job->request = request;
	job->name = xstrdup(bdev->name);
	if (!p->enable) {
		bdev_histogram_disable(bdev, (struct bdev_done){enable_done, job});
		return;
	}
	job->params = params_encode(tables, p, false);
	json_object_set_new(job->params, "name", json_string(bdev->name));
	bdev_histogram_enable(bdev, &config, (struct bdev_done){enable_done, job});
}

static struct rpc_method bdev_enable_histogram = {
        .name = "bdev_enable_histogram",
        .summary = "Starts or stops counting the latencies of a bdev",
        .result_help = "true",
        .params = enable_table,
        .params_bytes = sizeof(struct enable_params),
        .handler = enable_histogram,
};
RPC_METHOD(bdev_enable_histogram);

/* ---- reading --------------------------------------------------------------------------------- */

/* Range 0 holds [0, 2^shift), range r > 0 [2^(r-1+shift), 2^(r+shift)); 2^shift buckets each. */
static unsigned range_of(uint64_t ns, unsigned shift)
{
	unsigned bits = ns ? 64U - (unsigned)__builtin_clzll(ns) : 0;

	return bits > shift ? bits - shift : 0;
}

/* Where a bucket of a histogram begins. */
static uint64_t bucket_start_ns(const struct bdev_histogram *h, unsigned bucket)
{
	unsigned shift = h->granularity_shift;
	unsigned range = range_of(h->min_ns, shift) + (bucket >> shift);
	uint64_t in_range = bucket & ((1U << shift) - 1);

	return range ? (in_range + (1ULL << shift)) << (range - 1) : in_range;
}

static char *base64(const uint8_t *bytes, size_t len)
{
	static const char digits[] =
	        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = xcalloc(1, div_round_up_u64(len, 3) * 4 + 1), *out = text;

	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i;
		unsigned word = (unsigned)bytes[i] << 16 |
		                (n > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
		                (n > 2 ? bytes[i + 2] : 0);

		*out++ = digits[word >> 18];
		*out++ = digits[word >> 12 & 63];
		*out++ = n > 1 ? digits[word >> 6 & 63] : '=';
		*out++ = n > 2 ? digits[word & 63] : '=';
	}
	return text;
}

struct read_params {
	char *name;
	struct param_u64s borders;
};

struct read_job {
	struct rpc_request *request;
	struct bdev_histogram histogram;
	uint64_t *borders; /* NULL: the buckets themselves */
	size_t num_borders;
};

static json_t *all_buckets(const struct bdev_histogram *h)
{
	size_t len = h->num_buckets * sizeof(uint64_t);
	autofree uint8_t *bytes = xcalloc(1, len + 1);
	struct writer w = writer_of(bytes, len);

	for (unsigned i = 0; i < h->num_buckets; i++)
		writer_le64(&w, h->buckets[i]);
	autofree char *text = base64(bytes, len);

	return json_pack("{s:s, s:i, s:i, s:i, s:I}", "histogram", text, "granularity",
	        (int)h->granularity_shift, "min_range",
	        (int)range_of(h->min_ns, h->granularity_shift), "max_range",
	        (int)range_of(h->max_ns, h->granularity_shift), "tsc_rate",
	        (json_int_t)NSEC_PER_SEC);
}

static json_t *by_borders(const struct read_job *job)
{
	autofree uint64_t *counts = xcalloc(job->num_borders + 1, sizeof(*counts));
	json_t *list = json_array();
	size_t slot = 0;

	for (unsigned i = 0; i < job->histogram.num_buckets; i++) {
		uint64_t start_us = bucket_start_ns(&job->histogram, i) / NSEC_PER_USEC;

		while (slot < job->num_borders && start_us >= job->borders[slot])
			slot++;
		counts[slot] += job->histogram.buckets[i];
	}
	for (size_t i = 0; i <= job->num_borders; i++)
		json_array_append_new(list, json_integer((json_int_t)counts[i]));
	return json_pack("{s:o}", "borders_count", list);
}

static void read_done(void *arg, const struct err *err)
{
	struct read_job *job = arg;

	if (err && err->code)
		rpc_fail_err(job->request, err);
	else
		rpc_reply(job->request,
		        job->borders ? by_borders(job) : all_buckets(&job->histogram));
	free(job->histogram.buckets);
	free(job->borders);
	free(job);
}

static void read_histogram(
        struct rpc_request *request, const char *name, uint64_t *borders, size_t num_borders)
{
	struct bdev *bdev = bdev_find(name);
	struct read_job *job;

	if (!bdev) {
		free(borders);
		rpc_fail(request, -ENODEV, "there is no bdev '%s'", name);
		return;
	}
	job = xcalloc(1, sizeof(*job));
	job->request = request;
	job->borders = borders;
	job->num_borders = num_borders;
	bdev_histogram_get(bdev, &job->histogram, (struct bdev_done){read_done, job});
}

static void get_histogram(struct rpc_request *request, void *params)
{
	read_histogram(request, ((struct read_params *)params)->name, NULL, 0);
}

static void get_borders(struct rpc_request *request, void *params)
{
	struct read_params *p = params;

	for (size_t i = 1; i < p->borders.count; i++) {
		if (p->borders.items[i] <= p->borders.items[i - 1]) {
			rpc_fail(request, -EINVAL, "borders must ascend");
			return;
		}
	}
	read_histogram(request, p->name, steal_ptr(&p->borders.items), p->borders.count);
}

static const struct param get_table[] = {
        {PARAM(struct read_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of the bdev"},
        {0},
};

static struct rpc_method bdev_get_histogram = {
        .name = "bdev_get_histogram",
        .summary = "The latencies counted so far; error -12 when none are counted",
        .result_help = "object: histogram (base64 of 64-bit little-endian counters), granularity, "
                       "min_range, max_range, tsc_rate; a tick is 1 ns",
        .params = get_table,
        .params_bytes = sizeof(struct read_params),
        .handler = get_histogram,
};
RPC_METHOD(bdev_get_histogram);

static const struct param borders_table[] = {
        {PARAM(struct read_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of the bdev"},
        {PARAM(struct read_params, borders, PARAM_U64S), .required = true, .max_items = BORDERS_MAX,
                .unit = "us", .help = "ascending"},
        {0},
};

static struct rpc_method bdev_get_histogram_borders = {
        .name = "bdev_get_histogram_borders",
        .summary = "The latencies counted so far, in ranges between the given borders",
        .result_help = "object: borders_count, one more counter than borders",
        .params = borders_table,
        .params_bytes = sizeof(struct read_params),
        .handler = get_borders,
};
RPC_METHOD(bdev_get_histogram_borders);
