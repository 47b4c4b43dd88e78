/*
 * stats.c: reading and resetting the counters that each loop keeps of its own bios. Both go round
 * the loops by message, so that counting costs the data path nothing but the additions.
 */
#include "bdev/bio_core.h"

#include <errno.h>
#include <string.h>

struct stats_read {
	struct bdev *bdev;
	struct bdev_stats *sum, *per_loop;
	struct bdev_done done;
	struct bdev_stats rows[];
};

static void read_on_loop(struct loop *loop, void *arg)
{
	struct stats_read *r = arg;

	memcpy(r->rows[loop->id].op, r->bdev->loops[loop->id].stats, sizeof(r->rows[0].op));
}

static void add(struct bdev_op_stats *sum, const struct bdev_op_stats *row)
{
	sum->ops += row->ops;
	sum->blocks += row->blocks;
	sum->errors += row->errors;
	sum->latency_sum_ns += row->latency_sum_ns;
	sum->latency_max_ns = max_u64(sum->latency_max_ns, row->latency_max_ns);
	sum->latency_min_ns = min_u64(sum->latency_min_ns, row->latency_min_ns);
}

static void read_done(void *arg, const struct err *err)
{
	struct stats_read *r = arg;
	struct bdev_done done = r->done;
	unsigned n = loops_count();

	if (r->per_loop)
		memcpy(r->per_loop, r->rows, n * sizeof(r->rows[0]));
	if (r->sum) {
		*r->sum = r->rows[0];
		for (unsigned i = 1; i < n; i++) {
			for (unsigned op = 0; op < BIO_OPS; op++)
				add(&r->sum->op[op], &r->rows[i].op[op]);
		}
	}
	free(r);
	bdev_done_call(done, err);
}

void bdev_get_stats(struct bdev *bdev, struct bdev_stats *sum, struct bdev_stats *per_loop,
        struct bdev_done done)
{
	struct stats_read *r;

	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	r = xcalloc(1, sizeof(*r) + loops_count() * sizeof(r->rows[0]));
	r->bdev = bdev;
	r->sum = sum;
	r->per_loop = per_loop;
	r->done = done;
	loops_run_everywhere(read_on_loop, r, (struct bdev_done){read_done, r});
}

struct depth_read {
	struct bdev *bdev;
	uint64_t *out;
	struct bdev_done done;
	uint64_t rows[];
};

static void depth_on_loop(struct loop *loop, void *arg)
{
	struct depth_read *r = arg;
	const struct bdev_loop *bl = &r->bdev->loops[loop->id];

	r->rows[loop->id] = bl->inflight[0] + bl->inflight[1];
}

static void depth_done(void *arg, const struct err *err)
{
	struct depth_read *r = arg;
	struct bdev_done done = r->done;

	*r->out = 0;
	for (unsigned i = 0; i < loops_count(); i++)
		*r->out += r->rows[i];
	free(r);
	bdev_done_call(done, err);
}

void bdev_get_depth(struct bdev *bdev, uint64_t *out, struct bdev_done done)
{
	struct depth_read *r;

	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	r = xcalloc(1, sizeof(*r) + loops_count() * sizeof(r->rows[0]));
	*r = (struct depth_read){.bdev = bdev, .out = out, .done = done};
	loops_run_everywhere(depth_on_loop, r, (struct bdev_done){depth_done, r});
}

struct stats_reset {
	struct bdev *bdev;
	enum bdev_stats_reset mode;
	struct bdev_done done;
};

static void reset_on_loop(struct loop *loop, void *arg)
{
	const struct stats_reset *r = arg;

	for (unsigned op = 0; op < BIO_OPS; op++) {
		struct bdev_op_stats *s = &r->bdev->loops[loop->id].stats[op];

		if (r->mode == BDEV_RESET_ALL)
			*s = (struct bdev_op_stats){0};
		if (r->mode == BDEV_RESET_ERROR)
			s->errors = 0;
		if (r->mode == BDEV_RESET_ALL || r->mode == BDEV_RESET_MAXMIN) {
			s->latency_max_ns = 0;
			s->latency_min_ns = UINT64_MAX;
		}
	}
}

static void reset_done(void *arg, const struct err *err)
{
	struct stats_reset *r = arg;
	struct bdev_done done = r->done;

	free(r);
	bdev_done_call(done, err);
}

void bdev_reset_stats(struct bdev *bdev, enum bdev_stats_reset mode, struct bdev_done done)
{
	struct stats_reset *r;

	if (bdev_gate_closing(bdev)) {
		bdev_gate_refuse(bdev, done);
		return;
	}
	r = xcalloc(1, sizeof(*r));
	*r = (struct stats_reset){.bdev = bdev, .mode = mode, .done = done};
	loops_run_everywhere(reset_on_loop, r, (struct bdev_done){reset_done, r});
}
