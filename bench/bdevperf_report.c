/* bdevperf_report.c: the figures. */
#include <stdio.h>
#include <string.h>

#include "bench/bdevperf.h"

/* ---- latency -----------------------------------------------------------------------------------
 */

static unsigned bucket_of(uint64_t ns)
{
	unsigned bits = ns ? 64 - (unsigned)__builtin_clzll(ns) : 0;
	unsigned range = bits > LATENCY_SHIFT ? bits - LATENCY_SHIFT : 0;
	uint64_t in_range = range ? ns >> (range - 1) : ns;

	return (range << LATENCY_SHIFT) + (unsigned)(in_range & ((1U << LATENCY_SHIFT) - 1));
}

static uint64_t bucket_end_ns(unsigned bucket)
{
	unsigned range = bucket >> LATENCY_SHIFT;
	uint64_t in_range = bucket & ((1U << LATENCY_SHIFT) - 1);

	if (range == 0)
		return in_range;
	return ((in_range + (1U << LATENCY_SHIFT) + 1) << (range - 1)) - 1;
}

void latency_add(struct latency *l, uint64_t ns)
{
	l->samples++;
	l->sum_ns += ns;
	l->max_ns = max_u64(l->max_ns, ns);
	l->buckets[bucket_of(ns)]++;
}

void latency_merge(struct latency *to, const struct latency *from)
{
	to->samples += from->samples;
	to->sum_ns += from->sum_ns;
	to->max_ns = max_u64(to->max_ns, from->max_ns);
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

uint64_t latency_percentile(const struct latency *l, double part)
{
	uint64_t below = 0, wanted = (uint64_t)((double)l->samples * part);

	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		below += l->buckets[i];
		if (below > wanted)
			return min_u64(bucket_end_ns(i), l->max_ns);
	}
	return l->max_ns;
}

/* ---- summing up --------------------------------------------------------------------------------
 */

struct sum {
	uint64_t ios, errors, miscompares;
	double iops, bytes_per_sec, seconds;
	int first_error;
	struct latency latency;
};

static void add_job(struct sum *sum, const struct job *job)
{
	const struct result *r = &job->result;
	double seconds = (double)(r->end_ns - r->begin_ns) / NSEC_PER_SEC;

	sum->ios += r->ios;
	sum->errors += r->errors;
	sum->miscompares += r->miscompares;
	if (!sum->first_error)
		sum->first_error = job->first_error;
	if (seconds > 0)
		sum->iops += (double)r->ios / seconds;
	if (seconds > sum->seconds)
		sum->seconds = seconds;
	latency_merge(&sum->latency, &r->latency);
	sum->bytes_per_sec =
	        options.workload == LOAD_FLUSH ? 0 : sum->iops * (double)options.io_bytes;
}

static double us(uint64_t ns)
{
	return (double)ns / NSEC_PER_USEC;
}

static double average_us(const struct latency *l)
{
	return l->samples ? (double)l->sum_ns / (double)l->samples / NSEC_PER_USEC : 0;
}

/* ---- output ------------------------------------------------------------------------------------
 */

static void print_text(const char *name, const struct sum *sum)
{
	const struct latency *l = &sum->latency;

	printf("%-24s %12.0f IOPS %10.1f MB/s  latency us: avg %.2f  p50 %.2f  p99 %.2f  p99.9 "
	       "%.2f  max %.2f",
	        name, sum->iops, sum->bytes_per_sec / 1e6, average_us(l),
	        us(latency_percentile(l, 0.5)), us(latency_percentile(l, 0.99)),
	        us(latency_percentile(l, 0.999)), us(l->max_ns));
	if (sum->miscompares)
		printf("  WRONG DATA in %llu reads", (unsigned long long)sum->miscompares);
	if (sum->errors > sum->miscompares)
		printf("  errors %llu (%s)", (unsigned long long)(sum->errors - sum->miscompares),
		        errno_text(sum->first_error));
	printf("\n");
}

static json_t *sum_json(const struct sum *sum)
{
	const struct latency *l = &sum->latency;

	return json_pack("{s:f, s:f, s:I, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:I}, s:I, s:I}", "iops",
	        sum->iops, "bytes_per_sec", sum->bytes_per_sec, "ios", (json_int_t)sum->ios,
	        "seconds", sum->seconds, "latency_us", "avg", average_us(l), "p50",
	        us(latency_percentile(l, 0.5)), "p99", us(latency_percentile(l, 0.99)), "p99_9",
	        us(latency_percentile(l, 0.999)), "max", us(l->max_ns), "samples",
	        (json_int_t)l->samples, "errors", (json_int_t)sum->errors, "miscompares",
	        (json_int_t)sum->miscompares);
}

static json_t *config_json(void)
{
	return json_pack("{s:s, s:I, s:I, s:i, s:i, s:f, s:f, s:s?, s:s?, s:s?}", "workload",
	        workload_name(options.workload), "io_size", (json_int_t)options.io_bytes, "depth",
	        (json_int_t)options.depth, "loops", (int)options.loops, "read_percent",
	        (int)options.read_percent, "seconds", (double)options.seconds_ms / 1000, "warmup",
	        (double)options.warmup_ms / 1000, "cpumask", options.cpumask, "stack",
	        options.stack, "json", options.config);
}

bool report(const struct job *jobs, unsigned num_jobs, const struct target *targets,
        unsigned num_targets, uint64_t cpu_ns)
{
	autofree struct sum *all = xcalloc(1, sizeof(*all));
	json_t *bdevs = json_object();
	double cpu_ns_per_io;
	bool good;

	if (!options.json)
		printf("%s, %llu bytes, depth %llu, %u data loop%s, %.1f s after %.1f s of "
		       "warm-up\n",
		        workload_name(options.workload), (unsigned long long)options.io_bytes,
		        (unsigned long long)options.depth, options.loops,
		        options.loops == 1 ? "" : "s", (double)options.seconds_ms / 1000,
		        (double)options.warmup_ms / 1000);
	for (unsigned t = 0; t < num_targets; t++) {
		autofree struct sum *sum = xcalloc(1, sizeof(*sum));

		for (unsigned j = 0; j < num_jobs; j++) {
			if (jobs[j].target == &targets[t]) {
				add_job(sum, &jobs[j]);
				add_job(all, &jobs[j]);
			}
		}
		if (options.json)
			json_object_set_new(bdevs, targets[t].name, sum_json(sum));
		else
			print_text(targets[t].name, sum);
	}
	cpu_ns_per_io = all->ios ? (double)cpu_ns / (double)all->ios : 0;
	good = all->errors == 0 && all->ios > 0;
	if (options.json) {
		json_t *result = sum_json(all);

		json_object_set_new(result, "cpu_ns_per_io", json_real(cpu_ns_per_io));
		json_object_set_new(result, "config", config_json());
		json_object_set(result, "bdevs", bdevs);
		json_dumpf(result, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(result);
	} else {
		if (num_targets > 1)
			print_text("total", all);
		printf("CPU %.1f ns per I/O of the whole process; latency of %llu of %llu I/Os "
		       "taken\n",
		        cpu_ns_per_io, (unsigned long long)all->latency.samples,
		        (unsigned long long)all->ios);
	}
	json_decref(bdevs);
	return good;
}
