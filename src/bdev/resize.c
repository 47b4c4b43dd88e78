/*
 * resize.c: the one way in for every change of size, and the report at its end.
 *
 *   plan    resize_plan.c     what would every layer become?
 *   ask     resize_ask.c      who refuses?
 *   commit  resize_commit.c   persist and publish, layer by layer
 *   tell    resize_tell.c     the holders
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bdev/transaction.h"

static struct list transactions = LIST_INIT(transactions);

/* ---- the queue --------------------------------------------------------------------------------
 */

static void run(struct job *job);

static struct transaction *transaction_new(enum resize_kind kind, struct bdev *bdev)
{
	struct transaction *t = xcalloc(1, sizeof(*t));

	BELLOWS_ASSERT(loop_is_control());
	t->kind = kind;
	t->bdev = bdev->state == BDEV_REMOVING ? NULL : bdev;
	t->job.run = run;
	str_copy(t->name, sizeof(t->name), bdev->name);
	list_init(&t->tells);
	list_init(&t->link);
	return t;
}

void resize_queue(enum resize_kind kind, struct bdev *bdev, uint64_t own_blocks,
        resize_done_fn done, void *arg)
{
	struct transaction *t = transaction_new(kind, bdev);

	t->own_blocks = own_blocks;
	t->done = done;
	t->arg = arg;
	list_push_back(&transactions, &t->link);
	job_queue(&t->job);
}

/* Others that are queued already may change its own size before. */
static void queue_again(enum resize_kind kind, struct bdev *bdev)
{
	struct transaction *t = transaction_new(kind, bdev);

	t->own_kept = true;
	list_push_back(&transactions, &t->link);
	job_queue(&t->job);
}

/* ---- the end ---- */

static void fill_layer(
        const struct transaction *t, const struct layer *layer, struct resize_layer *out)
{
	out->bdev = layer->bdev;
	str_copy(out->name, sizeof(out->name), layer->bdev->name);
	out->old_blocks = layer->old_blocks;
	out->new_blocks = layer->planned.num_blocks;
	out->block_bytes = layer->planned.block_bytes;
	out->published = t->kind != RESIZE_DRY && layer_lives(layer) &&
	                 (layer->published || !layer->changes);
	str_copy(out->why, sizeof(out->why), layer->planned.why);
	str_copy(
	        out->refused, sizeof(out->refused), layer->refused.code ? layer->refused.text : "");
	out->holders_told = layer->told;
	out->holders_untold = layer->untold;
}

static void set_problems(const struct transaction *t)
{
	if (t->kind == RESIZE_DRY || !t->bdev || !t->started)
		return;
	bool refused = t->kind == RESIZE_STORAGE && t->err.code && !t->committed;

	if (t->kind == RESIZE_STORAGE)
		t->bdev->graph->growth_refused = refused;
	if (refused)
		bdev_set_problem(t->bdev, "resize", t->err.text,
		        "its storage has another size already: rescan it when the reason is gone");
	else if (t->err.code && t->committed)
		bdev_set_problem(t->bdev, "resize", t->err.text,
		        "the resize stopped half way: repeat it when the reason is gone");
	for (unsigned i = 0; i < t->num_layers && t->err.code == 0; i++) {
		struct bdev *bdev = t->layers[i].bdev;

		if (layer_lives(&t->layers[i]) && !bdev->graph->persist_owed)
			bdev_set_problem(bdev, "resize", NULL, NULL);
	}
	if (t->err.code == 0 && (t->kind == RESIZE_USER || t->kind == RESIZE_STORAGE))
		bdev_set_problem(t->bdev, "storage", NULL, NULL);
	if (t->kind == RESIZE_STORAGE && t->fact)
		bdev_set_problem(t->bdev, "storage", t->cause,
		        "give the storage its size back, or accept it");
}

/* Why a layer that keeps its size has it may be another reason now. */
static void refresh_reasons(struct transaction *t)
{
	for (unsigned i = 0; i < t->num_layers && t->err.code == 0 && t->kind != RESIZE_DRY; i++) {
		struct layer *layer = &t->layers[i];

		if (!layer->changes && layer->fate != FATE_REMOVE)
			str_copy(layer->bdev->geometry.why, BDEV_WHY_MAX, layer->planned.why);
	}
}

/* Storage that has grown while somebody refused: that may be over. */
static void retry_refused_growth(const struct transaction *t)
{
	struct bdev *bdev;

	if (t->kind != RESIZE_GEOMETRY || t->err.code)
		return;
	list_for_each (bdev, &bdevs.all, link) {
		if (!bdev->graph->growth_refused)
			continue;
		bdev->graph->growth_refused = false;
		queue_again(RESIZE_STORAGE, bdev);
	}
}

/* Nobody asks again for what came from outside, and those that are still there must follow. */
static void repeat_disturbed(const struct transaction *t)
{
	bool outside = t->kind == RESIZE_STORAGE || t->kind == RESIZE_GEOMETRY;

	if (t->disturbed && outside && t->bdev && t->bdev->state == BDEV_ONLINE)
		queue_again(t->kind, t->bdev);
}

/* A hold at less than it has, which somebody refused: what it has is held. */
static void correct_hold(struct bdev *bdev)
{
	if (bdev->held_blocks && bdev->held_blocks < bdev->geometry.num_blocks)
		bdev->held_blocks = bdev->geometry.num_blocks;
}

void transaction_end(struct transaction *t)
{
	autofree struct resize_layer *layers = xcalloc(t->num_layers + 1U, sizeof(*layers));
	struct resize_report report = {
	        .num_layers = t->num_layers, .layers = layers, .err = t->err};

	report.duration_ns = loop_clock_ns() - t->start_ns;
	for (unsigned i = 0; i < t->num_layers; i++)
		fill_layer(t, &t->layers[i], &layers[i]);
	refresh_reasons(t);
	set_problems(t);
	if (t->bdev && t->err.code && t->kind != RESIZE_DRY)
		correct_hold(t->bdev);
	if (t->kind != RESIZE_DRY && t->err.code)
		log_warning("bdev", "resize of '%s': %s", t->name, t->err.text);
	retry_refused_growth(t);
	repeat_disturbed(t);
	if (t->done)
		t->done(t->arg, &report);
	for (unsigned i = 0; i < t->num_layers; i++)
		bdev_unhold(t->layers[i].bdev);
	list_remove(&t->link);
	job_done(&t->job);
	free(t->layers);
	free(t);
}

/* ---- the start ---- */

static int check_wish(const struct transaction *t, struct err *err)
{
	const struct bdev *bdev = t->bdev;
	char label[BDEV_LABEL_MAX];
	char text[SIZE_TEXT_MAX];

	graph_label(bdev, label, sizeof(label));
	if (!bdev->module->resize && bdev->num_bases == 1)
		return err_set(err, -EINVAL, "%s: its size follows '%s'; resize that", label,
		        bdev->graph->slots[0]->name);
	if (!bdev->module->resize && bdev->num_bases > 1)
		return err_set(err, -EINVAL,
		        "%s: its size follows its %u bases ('%s', ...); resize those", label,
		        bdev->num_bases, bdev->graph->slots[0]->name);
	if (!bdev->module->resize)
		return err_set(err, -EINVAL,
		        "%s: its size is that of its storage; resize that, then rescan", label);
	if (t->own_blocks == 0)
		return err_set(
		        err, -EINVAL, "%s: a size of 0 is not possible; delete it instead", label);
	if (t->own_blocks > (uint64_t)INT64_MAX / bdev->geometry.block_bytes)
		return err_set(err, -EINVAL, "%s: %llu blocks of %u bytes are more than 2^63 bytes",
		        label, (unsigned long long)t->own_blocks, bdev->geometry.block_bytes);
	if (step_hangs(bdev, CALL_RESIZE))
		return err_set(err, -EBUSY,
		        "%s: " CALL_RESIZE
		        " began earlier and has not ended; try again when it has",
		        label);
	if (bdev->held_blocks && t->own_blocks != bdev->own_blocks) {
		format_size_bytes(
		        text, sizeof(text), bdev->held_blocks * bdev->geometry.block_bytes);
		return err_set(err, -EBUSY, "%s is held at %s; set its policy to follow first",
		        label, text);
	}
	return 0;
}

/* For the events: why did the layers change? */
static void describe_cause(struct transaction *t)
{
	const struct bdev *bdev = t->bdev;
	uint32_t block_bytes = bdev->geometry.block_bytes;
	char from[SIZE_TEXT_MAX], to[SIZE_TEXT_MAX];

	format_size_bytes(from, sizeof(from), bdev->geometry.num_blocks * block_bytes);
	format_size_bytes(to, sizeof(to), t->own_blocks * block_bytes);
	switch (t->kind) {
	case RESIZE_USER:
	case RESIZE_DRY:
		snprintf(t->cause, sizeof(t->cause), "'%.60s' was asked to have %s", t->name, to);
		break;
	case RESIZE_STORAGE:
		snprintf(t->cause, sizeof(t->cause),
		        "the storage of '%.60s' has become %s; it was %s", t->name, to, from);
		break;
	case RESIZE_GEOMETRY:
	case RESIZE_FACT:
		snprintf(t->cause, sizeof(t->cause), "'%.60s' or one of its bases has changed",
		        t->name);
		break;
	}
}

static bool storage_shrank(const struct transaction *t)
{
	return t->own_blocks < t->bdev->own_blocks || t->own_blocks < t->bdev->geometry.num_blocks;
}

/* In the queue, so that the size that is held is not one that is just being left. */
static void apply_policy(struct bdev *bdev)
{
	uint64_t at = bdev->graph->hold_at_blocks;

	if (!bdev->graph->hold_wanted)
		bdev->held_blocks = 0;
	else if (bdev->held_blocks == 0)
		bdev->held_blocks =
		        at ? min_u64(at, bdev->geometry.num_blocks) : bdev->geometry.num_blocks;
}

static void begin(struct transaction *t)
{
	struct bdev *bdev = t->bdev;

	t->started = true;
	t->start_ns = loop_clock_ns();
	t->stamp = graph_stamp();
	if (bdev && bdev->state == BDEV_ONLINE)
		apply_policy(bdev);
	if (!bdev || bdev->state != BDEV_ONLINE) {
		err_set(&t->err, -ENODEV, "'%s' was removed before it could be resized", t->name);
		t->bdev = NULL;
	} else if (t->kind == RESIZE_USER || t->kind == RESIZE_DRY) {
		check_wish(t, &t->err);
	} else {
		if (t->kind != RESIZE_STORAGE || t->own_kept)
			t->own_blocks = bdev->own_blocks;
		t->fact =
		        t->kind == RESIZE_FACT || (t->kind == RESIZE_STORAGE && storage_shrank(t));
		bdev->own_blocks = t->own_blocks;
		if (t->kind == RESIZE_STORAGE)
			bdev->graph->storage_unsettled = false;
	}
	if (t->bdev)
		describe_cause(t);
}

static void run(struct job *job)
{
	struct transaction *t = container_of(job, struct transaction, job);
	struct removal_cause cause = {.hot = true, .why = "its storage has become empty"};

	if (t->bdev && t->bdev->state == BDEV_CREATING && t->kind != RESIZE_USER &&
	        t->kind != RESIZE_DRY) {
		/* It derives its geometry anew before it appears. */
		if (t->kind == RESIZE_STORAGE && !t->own_kept)
			t->bdev->own_blocks = t->own_blocks;
		transaction_end(t);
		return;
	}
	begin(t);
	if (t->err.code) {
		transaction_end(t);
		return;
	}
	if (t->kind == RESIZE_STORAGE && t->own_blocks == 0) {
		removal_start(t->bdev, &cause);
		transaction_end(t);
		return;
	}
	transaction_plan(t);
	transaction_ask(t);
	if (t->err.code || t->kind == RESIZE_DRY)
		transaction_end(t);
	else
		transaction_commit(t);
}

void resize_bdev_going(struct bdev *bdev)
{
	struct transaction *t;

	list_for_each (t, &transactions, link) {
		if (t->bdev == bdev && !t->started)
			t->bdev = NULL;
	}
}

/* ---- the ways in ---- */

void bdev_resize(struct bdev *bdev, uint64_t new_blocks, resize_done_fn done, void *arg)
{
	resize_queue(RESIZE_USER, bdev, new_blocks, done, arg);
}

void bdev_resize_plan(struct bdev *bdev, uint64_t new_blocks, resize_done_fn done, void *arg)
{
	resize_queue(RESIZE_DRY, bdev, new_blocks, done, arg);
}

void bdev_storage_changed(struct bdev *bdev, uint64_t own_blocks, resize_done_fn done, void *arg)
{
	resize_queue(RESIZE_STORAGE, bdev, own_blocks, done, arg);
}

void bdev_geometry_changed(struct bdev *bdev, resize_done_fn done, void *arg)
{
	resize_queue(RESIZE_GEOMETRY, bdev, bdev->own_blocks, done, arg);
}

/* ---- policy ---- */

static int set_policy(
        struct bdev *bdev, enum bdev_policy policy, uint64_t at_blocks, struct err *err)
{
	BELLOWS_ASSERT(loop_is_control());
	if (bdev->state != BDEV_ONLINE)
		return err_set(err, -ENODEV, "'%s' is being removed", bdev->name);
	if (policy == bdev_get_policy(bdev))
		return 0;
	bdev->graph->hold_wanted = policy == BDEV_HOLD;
	bdev->graph->hold_at_blocks = at_blocks;
	resize_queue(RESIZE_GEOMETRY, bdev, bdev->own_blocks, NULL, NULL);
	return 0;
}

int bdev_set_policy(struct bdev *bdev, enum bdev_policy policy, struct err *err)
{
	return set_policy(bdev, policy, 0, err);
}

int bdev_hold_at(struct bdev *bdev, uint64_t num_blocks, struct err *err)
{
	if (bdev_get_policy(bdev) == BDEV_HOLD)
		return err_set(err, -EALREADY,
		        "'%s' is held already; set its policy to follow first", bdev->name);
	return set_policy(bdev, BDEV_HOLD, num_blocks, err);
}

enum bdev_policy bdev_get_policy(const struct bdev *bdev)
{
	BELLOWS_ASSERT(loop_is_control());
	return bdev->graph->hold_wanted ? BDEV_HOLD : BDEV_FOLLOW;
}
