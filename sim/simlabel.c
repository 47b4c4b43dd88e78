/*
 * simlabel: a layer of the simulator alone with metadata on its bases, so that all that the core
 * promises to such modules is tried: what persist has written is there when a size is shown, a base
 * that is not the right one is refused, one that can be done without comes and goes, and examine
 * finds what is there.
 *
 * The first base holds the data, behind two slots for a label. A second one, if there is one, holds
 * labels only: it knows of a newer generation when the first returns with the content of an earlier
 * time. Labels go to the slots in turn, to the first base before the second; each life and each new
 * size is a new generation.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/plant.h"
#include "rpc/param.h"
#include "sim/simlabel.h"

static const struct param params_table[] = {
        {PARAM(struct simlabel_params, set, PARAM_U32), .required = true, .help = "identity"},
        {PARAM(struct simlabel_params, format, PARAM_BOOL), .help = "write new labels"},
        {PARAM(struct simlabel_params, self_found, PARAM_BOOL), .help = "found by examine"},
        {0},
};

static void end(struct simlabel *d, const struct err *err)
{
	struct bdev_done done = d->done;

	d->done.fn = NULL;
	if (done.fn)
		bdev_done_call(done, err);
}

/* ---- writing -----------------------------------------------------------------------------------
 */

static void before(struct run_node *node, uint64_t num_blocks)
{
	memmove(node->label_before + 1, node->label_before,
	        sizeof(node->label_before) - sizeof(node->label_before[0]));
	node->label_before[0] = num_blocks;
}

static void write_next(struct simlabel *d);

static void written(void *arg, const struct err *err)
{
	struct simlabel *d = arg;

	if (err && err->code && !(d->at == 1 && d->without_second)) {
		end(d, err);
		return;
	}
	if (!err || !err->code)
		d->slots[d->at] ^= 1;
	d->at++;
	write_next(d);
}

static void fill(const struct simlabel *d, struct label *label)
{
	memset(label, 0, sizeof(*label));
	label->magic = MAGIC;
	label->generation = d->generation + 1;
	label->generation_again = label->generation;
	label->set = d->params.set;
	label->role = d->at;
	label->num_bases = d->bdev->num_bases;
	label->self_found = d->params.self_found;
	str_copy(label->name, sizeof(label->name), d->bdev->name);
	for (unsigned i = 0; i < d->bdev->num_bases; i++)
		str_copy(label->bases[i], sizeof(label->bases[i]), d->names[i]);
	label->num_blocks = d->size_wanted;
	label->crc = simlabel_crc(label);
}

static void write_next(struct simlabel *d)
{
	struct bdev *bdev = d->bdev, *base;
	unsigned slot;

	while (d->at < bdev->num_bases &&
	        (!bdev->bases[d->at] || (d->at == 1 && d->without_second)))
		d->at++;
	if (d->at == bdev->num_bases) {
		if (!PLANT(LABEL_GENERATION_KEPT))
			d->generation++;
		end(d, NULL);
		return;
	}
	base = bdev->bases[d->at];
	slot = PLANT(LABEL_ONE_SLOT) ? 0 : d->slots[d->at] ^ 1;
	fill(d, d->labels);
	bdev_write_meta(base, slot * simlabel_slot_blocks(base->geometry.block_bytes),
	        simlabel_slot_blocks(base->geometry.block_bytes), d->labels,
	        (struct bdev_done){written, d});
}

static void write_labels(struct simlabel *d, uint64_t num_blocks, struct bdev_done done)
{
	struct run_node *node = stack_node_of(d->bdev);

	if (d->done.fn) { /* a write that the core has not waited for any longer */
		struct err err = ERR_NONE;

		err_set(&err, -EBUSY, "a label of '%s' is being written", d->bdev->name);
		bdev_done_call(done, &err);
		return;
	}
	if (node) {
		before(node, node->label_next);
		node->label_next = num_blocks;
	}
	d->done = done;
	d->size_wanted = num_blocks;
	d->at = 0;
	write_next(d);
}

static void simlabel_online(struct bdev *bdev, struct bdev_done done)
{
	write_labels(bdev->priv, bdev->geometry.num_blocks, done);
}

static void simlabel_persist(
        struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done)
{
	struct run_node *node = stack_node_of(bdev);
	bool grows = planned->num_blocks > bdev->geometry.num_blocks;
	struct err err = ERR_NONE;

	if (run->refuse_persist && node) {
		run->refuse_persist = false;
		run->persist_refused = true;
		before(node, node->label_next);
		node->label_next = planned->num_blocks;
		err_set(&err, -EIO, "the label of '%s' is not written this time", bdev->name);
		bdev_done_call(done, &err);
		return;
	}
	if ((PLANT(LABEL_GROWTH_UNWRITTEN) && grows) || (PLANT(LABEL_SHRINK_UNWRITTEN) && !grows)) {
		if (node)
			node->label_next = planned->num_blocks;
		bdev_done_call(done, NULL);
		return;
	}
	if (PLANT(LABEL_AFTER_PUBLISH)) {
		bdev_done_call(done, NULL);
		done.fn = NULL;
	}
	write_labels(bdev->priv, planned->num_blocks, done);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static int check_label(const struct simlabel *d, const struct label *label, struct err *err)
{
	const struct bdev *base = d->bdev->bases[d->at];

	if (!label)
		return err_set(err, -EINVAL, "'%s' has no label", base->name);
	if ((label->set != d->params.set && !PLANT(LABEL_FOREIGN_TAKEN)) ||
	        label->num_bases != d->bdev->num_bases)
		return err_set(err, -EINVAL, "'%s' belongs to another set", base->name);
	if (label->role != d->at && !PLANT(LABEL_ROLE_IGNORED))
		return err_set(err, -EINVAL, "'%s' is base %u of its set, not %u", base->name,
		        label->role, d->at);
	return 0;
}

/* What was shown last, or was being written when the last life ended. */
static void judge_size(const struct simlabel *d, uint64_t num_blocks)
{
	struct run_node *node = stack_node_of(d->bdev);

	bool may = node && (num_blocks == node->label_shown || num_blocks == node->label_next);

	for (unsigned i = 0; node && i < ARRAY_SIZE(node->label_before); i++)
		may |= num_blocks == node->label_before[i];
	if (!node || !node->label_shown || sim_any_fault())
		return;
	if (may) {
		before(node, num_blocks);
		return;
	}
	sim_fail("label lost", "the label of %s says %lu blocks; it has shown %lu", d->bdev->name,
	        num_blocks, node->label_shown);
}

static int check_all(const struct simlabel *d, uint64_t num_blocks, struct err *err)
{
	const struct bdev *base = d->bdev->bases[0];
	uint64_t header = simlabel_header_blocks(base->geometry.block_bytes);

	if (d->params.format)
		return 0;
	if (d->found[0] < d->found[1] && !PLANT(LABEL_STALE_TAKEN))
		return err_set(err, -ESTALE, "'%s' is at generation %lu, its set at %lu",
		        base->name, d->found[0], d->found[1]);
	if (num_blocks > bdev_num_blocks(base) - header)
		return err_set(err, -ENOSPC, "'%s' is smaller than its label says", base->name);
	judge_size(d, num_blocks);
	return 0;
}

static void read_next(struct simlabel *d);

static void kept(void *arg, const struct err *err)
{
	struct simlabel *d = arg;

	if (err && err->code) {
		end(d, err);
		return;
	}
	d->at++;
	read_next(d);
}

static void read_done(void *arg, const struct err *failed)
{
	struct simlabel *d = arg;
	const struct label *label = simlabel_newest(d->labels);
	struct err err = ERR_NONE;

	if (failed && failed->code) {
		end(d, failed);
		return;
	}
	if (!d->params.format && check_label(d, label, &err) != 0) {
		end(d, &err);
		return;
	}
	if (label && label->generation != label->generation_again)
		sim_fail("torn label", "%s takes a label of which half was written", d->bdev->name);
	/* New labels are newer than whatever was there. */
	d->found[d->at] = label ? label->generation : 0;
	d->generation = max_u64(d->generation, d->found[d->at]);
	d->slots[d->at] = label == &d->labels[1];
	if (label && d->at == 0)
		d->size_wanted = label->num_blocks;
	if (!label || d->params.format) {
		kept(d, NULL);
		return;
	}
	/* A daemon that was killed may have left it in a cache only, and the next label is written
	 * over the one before it. */
	const struct bdev *base = d->bdev->bases[d->at];
	uint64_t blocks = simlabel_slot_blocks(base->geometry.block_bytes);

	bdev_write_meta(d->bdev->bases[d->at], d->slots[d->at] * blocks, blocks, label,
	        (struct bdev_done){kept, d});
}

static void read_next(struct simlabel *d)
{
	struct err err = ERR_NONE;

	if (d->at < d->bdev->num_bases) {
		simlabel_read(d->bdev->bases[d->at], d->labels, (struct bdev_done){read_done, d});
		return;
	}
	(void)check_all(d, d->size_wanted, &err);
	end(d, &err);
}

static void simlabel_create(struct bdev *bdev, struct bdev_done done)
{
	struct simlabel *d = bdev->priv;
	struct err err = ERR_NONE;

	d->bdev = bdev;
	d->labels = simlabel_labels();
	for (unsigned i = 0; i < bdev->num_bases; i++)
		if (bdev_get_spec(bdev)->bases[i])
			str_copy(d->names[i], sizeof(d->names[i]), bdev_get_spec(bdev)->bases[i]);
	for (unsigned i = 0; i < bdev->num_bases; i++)
		if (!bdev->bases[i] ||
		        bdev_num_blocks(bdev->bases[i]) <=
		                simlabel_header_blocks(bdev->bases[i]->geometry.block_bytes))
			err_set(&err, -ENOSPC, "base %u is missing or too small", i);
	if (err.code) {
		bdev_done_call(done, &err);
		return;
	}
	d->done = done;
	read_next(d);
}

static void simlabel_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct simlabel *d = bdev->priv;

	free(d->labels);
	bdev_done_call(done, NULL);
}

/* ---- bases that go and come
 * ---------------------------------------------------------------------- */

static void simlabel_base_lost(struct bdev *bdev, unsigned base_index, struct bdev_done done)
{
	struct simlabel *d = bdev->priv;
	struct err err = ERR_NONE;

	if (base_index == 0)
		err_set(&err, -EIO, "the data of '%s' was there", bdev->name);
	else
		d->without_second = true;
	bdev_done_call(done, &err);
}

struct taking_back {
	struct simlabel *d;
	struct label *labels;
	struct bdev_done done;
};

static void second_back(void *arg, const struct err *failed)
{
	struct taking_back *t = arg;
	struct simlabel *d = t->d;
	const struct label *label = simlabel_newest(t->labels);
	struct err err = ERR_NONE;

	if (failed)
		err = *failed;
	if (err.code == 0 && (!label || label->set != d->params.set || label->role != 1))
		err_set(&err, -EINVAL, "it does not belong to '%s'", d->bdev->name);
	/* It knows of an older generation, as it may: the next label goes to both. */
	if (err.code == 0) {
		d->without_second = false;
		d->slots[1] = label == &t->labels[1];
	}
	bdev_done_call(t->done, &err);
	free(t->labels);
	free(t);
}

static void simlabel_base_returned(struct bdev *bdev, unsigned base_index, struct bdev_done done)
{
	struct taking_back *t = xcalloc(1, sizeof(*t));

	*t = (struct taking_back){.d = bdev->priv, .labels = simlabel_labels(), .done = done};
	simlabel_read(bdev->bases[base_index], t->labels, (struct bdev_done){second_back, t});
}

/* ---- the rest ----------------------------------------------------------------------------------
 */

static int simlabel_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	uint32_t block_bytes = in->bases[0].block_bytes;

	for (unsigned i = 0; i < in->num_bases; i++) {
		const struct bdev_geometry *base = &in->bases[i];

		if (i > 0 && base->block_bytes == 0)
			continue;
		if (base->block_bytes == 0 ||
		        base->num_blocks <= simlabel_header_blocks(base->block_bytes))
			return err_set(err, -ENOSPC, "there is no room for the labels of '%s'",
			        bdev->name);
	}
	out->num_blocks = in->bases[0].num_blocks - simlabel_header_blocks(block_bytes);
	return 0;
}

static void simlabel_submit(struct bio *bio)
{
	struct bdev *base = bio_bdev(bio)->bases[0];
	bool ranged = bio->op != BIO_FLUSH && bio->op != BIO_RESET;
	uint64_t header = simlabel_header_blocks(1U << bio_bdev(bio)->block_shift);

	bio_forward(bio, base, ranged ? bio_offset(bio) + header : 0, NULL);
}

static json_t *simlabel_save(const struct bdev *bdev)
{
	const struct simlabel *d = bdev->priv;
	json_t *bases = json_array();

	if (d->params.self_found) {
		json_decref(bases);
		return NULL;
	}
	for (unsigned i = 0; i < bdev->num_bases; i++)
		json_array_append_new(bases, json_string(d->names[i]));
	return json_pack("[{s:s, s:{s:s, s:o, s:I}}]", "method", "bdev_simlabel_create", "params",
	        "name", bdev->name, "base_bdevs", bases, "set", (json_int_t)d->params.set);
}

struct bdev_module simlabel_module = {
        .name = "simlabel",
        .product_name = "Simulated label",
        .summary = "a layer with metadata of its own",
        .bases_min = 1,
        .bases_max = BASES_MAX,
        .priv_bytes = sizeof(struct simlabel),
        .params = params_table,
        .methods = simlabel_methods,
        .geometry = simlabel_geometry,
        .submit = simlabel_submit,
        .create = simlabel_create,
        .online = simlabel_online,
        .destroy = simlabel_destroy,
        .persist = simlabel_persist,
        .base_lost = simlabel_base_lost,
        .base_returned = simlabel_base_returned,
        .examine = simlabel_examine,
        .save = simlabel_save,
};
BDEV_MODULE(simlabel_module);

static json_t *setup(struct sim_setup *s)
{
	json_t *bases = json_array();

	if (s->num_blocks <= simlabel_header_blocks(s->block_bytes)) {
		json_decref(bases);
		return NULL;
	}
	for (unsigned i = 0; i < s->num_bases; i++)
		json_array_append_new(bases, json_string(s->bases[i]));
	json_int_t set = (json_int_t)(rng_next(s->rng) & UINT32_MAX);
	int self_found = (int)(rng_next(s->rng) & 1);

	return json_pack("{s:s, s:o, s:I, s:b, s:b}", "name", s->name, "base_bdevs", bases, "set",
	        set, "format", 1, "self_found", self_found);
}

static uint64_t expected_blocks(const struct bdev *bdev)
{
	const struct bdev *base = bdev->bases[0];

	return bdev_num_blocks(base) - simlabel_header_blocks(base->geometry.block_bytes);
}

static struct sim_module simlabel_sim = {
        .name = "simlabel",
        .claims = SIM_LABELLED,
        .once = "format",
        .found_if = "self_found",
        .weight = 30,
        .bases_min = 1,
        .bases_max = BASES_MAX,
        .setup = setup,
        .expected_blocks = expected_blocks,
};
SIM_MODULE(simlabel_sim);
