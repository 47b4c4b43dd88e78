/*
 * error.c: the module table of the error bdev, and its rules as the data path meets them.
 */
#include "vbdev/error/error.h"

#include <errno.h>
#include <string.h>

/* How soon held back requests notice that they may go on. */
#define PENDING_CHECK_NS (5 * NSEC_PER_MSEC)

/* ---- rules ------------------------------------------------------------------------------------
 */

static void put(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* The rule as a new generation; nobody can take a hit of it while it is being written. */
static void set_rule(struct error_rule *rule, const struct error_effect *effect, uint32_t num)
{
	uint64_t generation = (get(&rule->word) >> 32) + 1;
	struct error_effect *to = &rule->effect;

	__atomic_exchange_n(&rule->word, generation << 32, __ATOMIC_ACQ_REL);
	__atomic_store_n(&to->type, effect->type, __ATOMIC_RELAXED);
	__atomic_store_n(&to->status, effect->status, __ATOMIC_RELAXED);
	put(&to->queue_depth, effect->queue_depth);
	put(&to->first_block, effect->first_block);
	put(&to->num_blocks, effect->num_blocks);
	put(&to->corrupt_offset, effect->corrupt_offset);
	put(&to->corrupt_value, effect->corrupt_value);
	__atomic_store_n(&rule->word, generation << 32 | num, __ATOMIC_RELEASE);
}

void error_inject(
        struct error_bdev *e, uint32_t ops, const struct error_effect *effect, uint32_t num)
{
	for (unsigned op = 0; op < BIO_OPS; op++) {
		if (ops & BIO_CAP(op))
			set_rule(&e->rules[op], effect, num);
	}
	__atomic_fetch_or(&e->armed, ops, __ATOMIC_RELEASE);
}

void error_clear(struct error_bdev *e)
{
	static const struct error_effect none;

	__atomic_store_n(&e->armed, 0, __ATOMIC_RELEASE);
	for (unsigned op = 0; op < BIO_OPS; op++)
		set_rule(&e->rules[op], &none, 0);
}

void error_resume(struct error_bdev *e)
{
	__atomic_fetch_add(&e->resume, 1, __ATOMIC_RELEASE);
}

static bool matches(const struct bio *bio, const struct error_effect *effect)
{
	const struct bdev_loop *bl = &bio_bdev(bio)->loops[bio->loop->id];
	uint64_t others = bl->inflight[0] + bl->inflight[1] - 1; /* than this one */
	uint64_t first = bio_offset(bio);

	if (others < effect->queue_depth)
		return false;
	if (effect->type == ERROR_CORRUPT_DATA && effect->corrupt_offset >= bio_bytes(bio))
		return false;
	if (effect->num_blocks == 0)
		return true;
	return bio->num_blocks != 0 && first < effect->first_block + effect->num_blocks &&
	       effect->first_block < first + bio->num_blocks;
}

/* Takes a hit of the operation's rule, if there is one for this request. */
static bool take_hit(struct error_bdev *e, const struct bio *bio, struct error_effect *effect)
{
	struct error_rule *rule = &e->rules[bio->op];
	const struct error_effect *from = &rule->effect;
	uint64_t word = __atomic_load_n(&rule->word, __ATOMIC_ACQUIRE);

	while ((uint32_t)word != 0) {
		effect->type = __atomic_load_n(&from->type, __ATOMIC_RELAXED);
		effect->status = __atomic_load_n(&from->status, __ATOMIC_RELAXED);
		effect->queue_depth = get(&from->queue_depth);
		effect->first_block = get(&from->first_block);
		effect->num_blocks = get(&from->num_blocks);
		effect->corrupt_offset = get(&from->corrupt_offset);
		effect->corrupt_value = get(&from->corrupt_value);
		if (!matches(bio, effect))
			return false;
		if (__atomic_compare_exchange_n(&rule->word, &word, word - 1, false,
		            __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

/* ---- held back --------------------------------------------------------------------------------
 */

struct pending_ctx {
	uint32_t resume; /* of the bdev when the request was held back */
};

static void forward(struct bio *bio)
{
	bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio), NULL);
}

static void check_pending(struct loop_timer *timer)
{
	struct error_loop *l = container_of(timer, struct error_loop, timer);
	struct error_bdev *e = l->bdev->priv;
	struct loop *loop = loop_self();
	uint32_t resume = __atomic_load_n(&e->resume, __ATOMIC_ACQUIRE);
	bool gone = l->bdev->loops[loop->id].gate & GATE_GONE;

	while (l->first) {
		struct bio *bio = container_of(l->first, struct bio, task);

		if (!gone && bio_ctx(bio, struct pending_ctx)->resume == resume)
			break;
		l->first = bio->task.next;
		if (!l->first)
			l->last = &l->first;
		if (gone)
			bio_complete(bio, -ENODEV);
		else
			forward(bio);
	}
	if (l->first)
		loop_timer_start(loop, timer, loop_now_ns(loop) + PENDING_CHECK_NS);
}

static void hold_back(struct bio *bio)
{
	struct error_bdev *e = bio_bdev(bio)->priv;
	struct error_loop *l = bdev_loop_state(bio_bdev(bio), bio->loop);

	bio_ctx(bio, struct pending_ctx)->resume = __atomic_load_n(&e->resume, __ATOMIC_ACQUIRE);
	bio->task.next = NULL;
	*l->last = &bio->task;
	l->last = &bio->task.next;
	if (l->first == &bio->task)
		loop_timer_start(bio->loop, &l->timer, loop_now_ns(bio->loop) + PENDING_CHECK_NS);
}

/* A reset aborts what is held back on its loop. */
static void abort_pending(struct bio *reset)
{
	struct error_loop *l = bdev_loop_state(bio_bdev(reset), reset->loop);

	while (l->first) {
		struct bio *bio = container_of(l->first, struct bio, task);

		l->first = bio->task.next;
		bio_complete(bio, -ECANCELED);
	}
	l->last = &l->first;
	loop_timer_stop(reset->loop, &l->timer);
}

void error_pending_init(struct bdev *bdev)
{
	for (unsigned i = 0; i < loops_count(); i++) {
		struct error_loop *l = bdev->loops[i].state;

		l->bdev = bdev;
		l->timer.fire = check_pending;
		l->last = &l->first;
	}
}

/* ---- damage -----------------------------------------------------------------------------------
 */

/* What the frame keeps while a damaged copy of a write travels: the data view as it was. */
struct corrupt_ctx {
	const struct iovec *iov;
	uint32_t iovcnt, iov_skip_bytes;
	uint64_t where; /* offset in the request << 8 | value */
};

static uint64_t damage(const struct bio *bio, const struct error_effect *effect)
{
	uint64_t value = effect->corrupt_value & 0xff;

	if (value == 0)
		value = 1 + loop_random(bio->loop) % 255;
	return effect->corrupt_offset << 8 | value;
}

static void read_done(struct bio *bio)
{
	uint64_t where = bio_ctx(bio, struct corrupt_ctx)->where;
	uint8_t byte;

	if (bio->status == 0) {
		bio_copy_out(bio, where >> 8, &byte, 1);
		byte ^= (uint8_t)where;
		bio_copy_in(bio, where >> 8, &byte, 1);
	}
	bio_complete(bio, bio->status);
}

static void write_done(struct bio *bio)
{
	struct corrupt_ctx *ctx = bio_ctx(bio, struct corrupt_ctx);

	bio->iov = ctx->iov;
	bio->iovcnt = ctx->iovcnt;
	bio->iov_skip_bytes = ctx->iov_skip_bytes;
	bio_complete(bio, bio->status);
}

/* The view of bytes [from, to) of the bio's data, appended to out; returns the entries used. */
static unsigned slice(const struct bio *bio, uint64_t from, uint64_t to, struct iovec *out)
{
	uint64_t at = 0, skip = bio->iov_skip_bytes;
	unsigned n = 0;

	for (const struct iovec *v = bio->iov; at < to; v++) {
		uint64_t len = v->iov_len - min_u64(skip, v->iov_len);
		uint64_t begin = max_u64(at, from), end = min_u64(at + len, to);

		if (begin < end) {
			out[n].iov_base =
			        (uint8_t *)v->iov_base + (v->iov_len - len) + (begin - at);
			out[n++].iov_len = end - begin;
		}
		skip -= v->iov_len - len;
		at += len;
	}
	return n;
}

/* The client's data is left alone: the block that is damaged is a copy, between views of the rest.
 */
static void write_damaged(struct bio *bio)
{
	struct corrupt_ctx *ctx = bio_ctx(bio, struct corrupt_ctx);
	uint64_t block_bytes = 1ULL << bio_bdev(bio)->block_shift;
	uint64_t offset = ctx->where >> 8, block = offset & ~(block_bytes - 1);
	size_t table_bytes = align_up_u64((bio->iovcnt + 2) * sizeof(struct iovec), 4096);

	if (table_bytes + block_bytes > BIO_BOUNCE_MAX_BYTES) {
		bio_complete(bio, -E2BIG);
		return;
	}
	uint8_t *buf = bio_bounce(bio, table_bytes + block_bytes, write_damaged);

	if (!buf)
		return;
	struct iovec *iov = (struct iovec *)(void *)buf;
	uint8_t *copy = buf + table_bytes;
	unsigned n = slice(bio, 0, block, iov);

	bio_copy_out(bio, block, copy, block_bytes);
	copy[offset - block] ^= (uint8_t)ctx->where;
	iov[n++] = (struct iovec){copy, block_bytes};
	n += slice(bio, block + block_bytes, bio_bytes(bio), iov + n);
	ctx->iov = bio->iov;
	ctx->iovcnt = bio->iovcnt;
	ctx->iov_skip_bytes = bio->iov_skip_bytes;
	bio->iov = iov;
	bio->iovcnt = n;
	bio->iov_skip_bytes = 0;
	bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio), write_done);
}

static void corrupt(struct bio *bio, const struct error_effect *effect)
{
	bio_ctx(bio, struct corrupt_ctx)->where = damage(bio, effect);
	if (bio->op == BIO_READ)
		bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio), read_done);
	else
		write_damaged(bio);
}

/* ---- submit -----------------------------------------------------------------------------------
 */

static void hit(struct bio *bio, const struct error_effect *effect)
{
	switch ((enum error_type)effect->type) {
	case ERROR_PENDING:
		hold_back(bio);
		return;
	case ERROR_CORRUPT_DATA:
		corrupt(bio, effect);
		return;
	case ERROR_FAILURE:
	case ERROR_NOMEM:
	case ERROR_NVME_FAILURE:
		break;
	}
	bio_complete(bio, effect->status);
}

void error_submit(struct bio *bio)
{
	struct error_bdev *e = bio_bdev(bio)->priv;
	struct error_effect effect;

	if (unlikely(__atomic_load_n(&e->armed, __ATOMIC_RELAXED) & BIO_CAP(bio->op)) &&
	        take_hit(e, bio, &effect)) {
		hit(bio, &effect);
		return;
	}
	if (unlikely(bio->op == BIO_RESET))
		abort_pending(bio);
	forward(bio);
}

/* ---- the module -------------------------------------------------------------------------------
 */

static void error_online(struct bdev *bdev, struct bdev_done done)
{
	error_pending_init(bdev);
	bdev_done_call(done, NULL);
}

static json_t *error_describe(const struct bdev *bdev)
{
	return json_pack("{s:{s:s}}", "error_disk", "base_bdev", bdev->bases[0]->name);
}

static json_t *error_save(const struct bdev *bdev)
{
	const struct error_bdev *e = bdev->priv;
	const char *base = bdev->bases[0]->name;
	autofree char *usual_name = xasprintf("EE_%s", base);
	json_t *params = json_pack("{s:s}", "base_name", base);
	char uuid[UUID_STR_LEN];

	if (strcmp(bdev->name, usual_name) != 0)
		json_object_set_new(params, "name", json_string(bdev->name));
	if (e->uuid_given) {
		uuid_unparse_lower(bdev->uuid, uuid);
		json_object_set_new(params, "uuid", json_string(uuid));
	}
	return json_pack("[{s:s, s:o}]", "method", "bdev_error_create", "params", params);
}

static json_t *error_example(const struct bdev_example *wanted)
{
	if (wanted->variant > 0)
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:s}}]", "method", "bdev_error_create", "params", "name",
	        wanted->name, "base_name", wanted->bases[0]);
}

struct bdev_module error_module = {
        .name = "error",
        .product_name = "Error Injection Disk",
        .summary = "fails, holds back or damages requests as it is told",
        .bases_min = 1,
        .bases_max = 1,
        .base_param = "base_name",
        .priv_bytes = sizeof(struct error_bdev),
        .loop_state_bytes = sizeof(struct error_loop),
        .keeps_zones = true,
        .methods = error_methods,
        .submit = error_submit,
        .online = error_online,
        .describe = error_describe,
        .save = error_save,
        .example = error_example,
};
BDEV_MODULE(error_module);
