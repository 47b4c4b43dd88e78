/*
 * histogram.c: latency by buckets, kept per loop while somebody has asked for it.
 *
 * The scale is linear within a power of two and doubles from one to the next: with a granularity of
 * g, range 0 has the values below 2^g, and each further range the values of one more bit; every
 * range has 2^g buckets. A histogram has the ranges from that of min_ns to that of max_ns; what is
 * outside is counted in the first or the last bucket.
 */
#include "bdev/bio_core.h"

#include <errno.h>

#define GRANULARITY_DEFAULT 7
#define GRANULARITY_MAX 12

struct loop_histogram {
	uint32_t shift;
	uint32_t ops; /* BIO_CAP bits of the operations to count */
	unsigned min_range, num_buckets;
	struct bdev_histogram config;
	uint64_t buckets[];
};

static unsigned range_of(uint64_t ns, uint32_t shift)
{
	unsigned bits = ns ? 64 - (unsigned)__builtin_clzll(ns) : 0;

	return bits > shift ? bits - shift : 0;
}

static unsigned bucket_of(const struct loop_histogram *h, uint64_t ns)
{
	unsigned range = range_of(ns, h->shift), index;

	if (range < h->min_range)
		return 0;
	index = (unsigned)(range ? ns >> (range - 1) : ns) & ((1U << h->shift) - 1);
	index += (range - h->min_range) << h->shift;
	return index < h->num_buckets ? index : h->num_buckets - 1;
}

void bdev_histogram_count(struct bdev_loop *bl, const struct bio *bio, uint64_t latency_ns)
{
	struct loop_histogram *h = bl->slow->histogram;

	if (bio->status == 0 && (h->ops & BIO_CAP(bio->op)))
		h->buckets[bucket_of(h, latency_ns)]++;
}

void loop_histogram_free(struct loop_histogram *histogram)
{
	free(histogram);
}

/* ---- on the control loop --------------------------------------------------------------------- */

/* One round of the loops: each takes its new histogram (NULL: none) and leaves its old one. */
struct exchange {
	struct bdev *bdev;
	struct bdev_done done;
	struct loop_histogram *of_loops[];
};

static void exchange_on_loop(struct loop *loop, void *arg)
{
	struct exchange *x = arg;
	struct bdev_loop *bl = &x->bdev->loops[loop->id];
	struct loop_histogram *old = bl->slow->histogram;

	bl->slow->histogram = x->of_loops[loop->id];
	x->of_loops[loop->id] = old;
	if (bl->slow->histogram)
		bl->gate |= GATE_HISTOGRAM;
	else
		bl->gate &= ~(uint32_t)GATE_HISTOGRAM;
}

static void exchanged(void *arg, const struct err *err)
{
	struct exchange *x = arg;
	struct bdev_done done = x->done;

	for (unsigned i = 0; i < loops_count(); i++)
		loop_histogram_free(x->of_loops[i]);
	free(x);
	bdev_done_call(done, err);
}

static struct exchange *exchange_create(struct bdev *bdev, struct bdev_done done)
{
	struct exchange *x = xcalloc(1, sizeof(*x) + loops_count() * sizeof(x->of_loops[0]));

	x->bdev = bdev;
	x->done = done;
	return x;
}

void bdev_histogram_enable(
        struct bdev *bdev, const struct bdev_histogram *config, struct bdev_done done)
{
	uint32_t shift =
	        config->granularity_shift ? config->granularity_shift : GRANULARITY_DEFAULT;
	unsigned min_range, max_range, num_buckets;
	struct err err = ERR_NONE;
	struct exchange *x;

	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	if (shift > GRANULARITY_MAX || config->min_ns >= config->max_ns) {
		err_set(&err, -EINVAL,
		        "histogram of '%s': the granularity is 1 to %d bits, and the least latency "
		        "must be below the greatest",
		        bdev->name, GRANULARITY_MAX);
		bdev_done_call(done, &err);
		return;
	}
	min_range = range_of(config->min_ns, shift);
	max_range = range_of(config->max_ns, shift);
	num_buckets = (max_range - min_range + 1) << shift;
	x = exchange_create(bdev, done);
	for (unsigned i = 0; i < loops_count(); i++) {
		struct loop_histogram *h = xcalloc(1, sizeof(*h) + num_buckets * sizeof(uint64_t));

		h->shift = shift;
		h->ops = config->op < BIO_OPS ? BIO_CAP(config->op) : ~0U;
		h->min_range = min_range;
		h->num_buckets = num_buckets;
		h->config = *config;
		h->config.granularity_shift = shift;
		h->config.num_buckets = num_buckets;
		h->config.buckets = NULL;
		x->of_loops[i] = h;
	}
	loops_run_everywhere(exchange_on_loop, x, (struct bdev_done){exchanged, x});
}

void bdev_histogram_disable(struct bdev *bdev, struct bdev_done done)
{
	struct exchange *x;

	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	x = exchange_create(bdev, done);
	loops_run_everywhere(exchange_on_loop, x, (struct bdev_done){exchanged, x});
}

struct histogram_read {
	struct bdev *bdev;
	struct bdev_histogram *out, result;
	struct bdev_done done;
};

/* Every loop adds its own to the same buckets, at the same time as the others. */
static void add_on_loop(struct loop *loop, void *arg)
{
	struct histogram_read *r = arg;
	const struct loop_histogram *h = r->bdev->loops[loop->id].slow->histogram;

	if (!h || h->num_buckets != r->result.num_buckets)
		return;
	for (unsigned i = 0; i < h->num_buckets; i++) {
		if (h->buckets[i])
			__atomic_fetch_add(&r->result.buckets[i], h->buckets[i], __ATOMIC_RELAXED);
	}
}

static void added(void *arg, const struct err *err)
{
	struct histogram_read *r = arg;
	struct bdev_done done = r->done;

	*r->out = r->result;
	free(r);
	bdev_done_call(done, err);
}

void bdev_histogram_get(struct bdev *bdev, struct bdev_histogram *out, struct bdev_done done)
{
	struct err err = ERR_NONE;
	const struct loop_histogram *mine;
	struct histogram_read *r;

	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	mine = bdev->loops[LOOP_CONTROL].slow->histogram;
	if (!mine) {
		err_set(&err, -ENOMEM,
		        "'%s' keeps no histogram: switch it on with "
		        "bdev_enable_histogram",
		        bdev->name);
		bdev_done_call(done, &err);
		return;
	}
	r = xcalloc(1, sizeof(*r));
	r->bdev = bdev;
	r->out = out;
	r->done = done;
	r->result = mine->config;
	r->result.buckets = xcalloc(mine->num_buckets, sizeof(uint64_t));
	loops_run_everywhere(add_on_loop, r, (struct bdev_done){added, r});
}
