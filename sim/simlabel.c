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
#include "rpc/rpc.h"
#include "sim/run.h"

#define SLOT_BYTES 4096
#define LABEL_BYTES (2 * SLOT_BYTES)
#define BASES_MAX 2
#define MAGIC 0x6c656261736c6d31ULL

/* The halves lie in different sectors, so that only the checksum tells of a torn one. */
struct label {
	uint64_t magic, generation;
	uint32_t set, role, num_bases, self_found;
	char name[64], bases[BASES_MAX][64];
	uint8_t gap[2048];
	uint64_t num_blocks;
	uint8_t rest[SLOT_BYTES - 2048 - 232 - 4];
	uint32_t crc;
};
_Static_assert(sizeof(struct label) == SLOT_BYTES, "a label fills its slot");

struct simlabel_params {
	uint32_t set;    /* tells its bases from those of others */
	bool format;     /* make it: whatever is there is lost */
	bool self_found; /* comes back by examine */
};

struct simlabel {
	struct simlabel_params params;
	struct bdev *bdev;
	struct label *labels; /* two slots, as read or to be written */
	uint64_t generation, found[BASES_MAX];
	uint64_t size_wanted;
	unsigned at; /* base in work */
	bool without_second;
	struct bdev_done done;
};

static const struct param params_table[] = {
        {PARAM(struct simlabel_params, set, PARAM_U32), .required = true, .help = "identity"},
        {PARAM(struct simlabel_params, format, PARAM_BOOL), .help = "write new labels"},
        {PARAM(struct simlabel_params, self_found, PARAM_BOOL), .help = "found by examine"},
        {0},
};

static struct bdev_module simlabel_module;

static uint32_t crc_of(const struct label *label)
{
	const uint8_t *p = (const uint8_t *)label;
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < offsetof(struct label, crc); i++) {
		crc ^= p[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (0x82f63b78 & (0 - (crc & 1)));
	}
	return crc;
}

static bool valid(const struct label *label)
{
	return label->magic == MAGIC && (label->crc == crc_of(label) || PLANT(LABEL_TORN_TAKEN)) &&
	       memchr(label->name, 0, sizeof(label->name)) &&
	       memchr(label->bases[0], 0, sizeof(label->bases[0])) &&
	       memchr(label->bases[1], 0, sizeof(label->bases[1]));
}

/* The newer of the two slots; NULL: there is none. */
static const struct label *newest(const struct label *labels)
{
	const struct label *best = NULL;

	for (unsigned i = 0; i < 2; i++)
		if (valid(&labels[i]) && (!best || labels[i].generation > best->generation))
			best = &labels[i];
	return best;
}

static uint64_t slot_blocks(uint32_t block_bytes)
{
	return max_u64(1, SLOT_BYTES / block_bytes);
}

static uint64_t header_blocks(uint32_t block_bytes)
{
	return 2 * slot_blocks(block_bytes);
}

static struct label *new_labels(void)
{
	struct label *labels = NULL;

	if (posix_memalign((void **)&labels, 4096, LABEL_BYTES))
		abort();
	memset(labels, 0, LABEL_BYTES);
	return labels;
}

static void read_labels(struct bdev *base, struct label *labels, struct bdev_done done)
{
	bdev_read_meta(base, 0, header_blocks(base->geometry.block_bytes), labels, done);
}

static void end(struct simlabel *d, const struct err *err)
{
	struct bdev_done done = d->done;

	d->done.fn = NULL;
	if (done.fn)
		bdev_done_call(done, err);
}

/* ---- writing -----------------------------------------------------------------------------------
 */

static void write_next(struct simlabel *d);

static void written(void *arg, const struct err *err)
{
	struct simlabel *d = arg;

	if (err && err->code && !(d->at == 1 && d->without_second)) {
		end(d, err);
		return;
	}
	d->at++;
	write_next(d);
}

static void fill(const struct simlabel *d, struct label *label)
{
	memset(label, 0, sizeof(*label));
	label->magic = MAGIC;
	label->generation = d->generation + 1;
	label->set = d->params.set;
	label->role = d->at;
	label->num_bases = d->bdev->num_bases;
	label->self_found = d->params.self_found;
	str_copy(label->name, sizeof(label->name), d->bdev->name);
	for (unsigned i = 0; i < d->bdev->num_bases; i++)
		if (d->bdev->bases[i])
			str_copy(label->bases[i], sizeof(label->bases[i]), d->bdev->bases[i]->name);
	label->num_blocks = d->size_wanted;
	label->crc = crc_of(label);
}

static void write_next(struct simlabel *d)
{
	struct bdev *bdev = d->bdev, *base;
	unsigned slot = PLANT(LABEL_ONE_SLOT) ? 0 : (d->generation + 1) & 1;

	while (d->at < bdev->num_bases &&
	        (!bdev->bases[d->at] || (d->at == 1 && d->without_second)))
		d->at++;
	if (d->at == bdev->num_bases) {
		/* One that failed is written again to the same slot: the other is all there is. */
		if (!PLANT(LABEL_GENERATION_KEPT))
			d->generation++;
		end(d, NULL);
		return;
	}
	base = bdev->bases[d->at];
	fill(d, d->labels);
	bdev_write_meta(base, slot * slot_blocks(base->geometry.block_bytes),
	        slot_blocks(base->geometry.block_bytes), d->labels, (struct bdev_done){written, d});
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
	if (node)
		node->label_next = num_blocks;
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
	const struct run_node *node = stack_node_of(d->bdev);

	if (!node || !node->label_shown || sim_any_fault() || num_blocks == node->label_shown ||
	        num_blocks == node->label_next)
		return;
	sim_fail("label lost", "the label of %s says %lu blocks; it has shown %lu", d->bdev->name,
	        num_blocks, node->label_shown);
}

static int check_all(const struct simlabel *d, uint64_t num_blocks, struct err *err)
{
	const struct bdev *base = d->bdev->bases[0];
	uint64_t header = header_blocks(base->geometry.block_bytes);

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

static void read_done(void *arg, const struct err *failed)
{
	struct simlabel *d = arg;
	const struct label *label = newest(d->labels);
	struct err err = ERR_NONE;

	if (failed && failed->code) {
		end(d, failed);
		return;
	}
	if (!d->params.format && check_label(d, label, &err) != 0) {
		end(d, &err);
		return;
	}
	/* New labels are newer than whatever was there. */
	d->found[d->at] = label ? label->generation : 0;
	d->generation = max_u64(d->generation, d->found[d->at]);
	if (label && d->at == 0)
		d->size_wanted = label->num_blocks;
	d->at++;
	read_next(d);
}

static void read_next(struct simlabel *d)
{
	struct err err = ERR_NONE;

	if (d->at < d->bdev->num_bases) {
		read_labels(d->bdev->bases[d->at], d->labels, (struct bdev_done){read_done, d});
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
	d->labels = new_labels();
	for (unsigned i = 0; i < bdev->num_bases; i++)
		if (!bdev->bases[i] || bdev_num_blocks(bdev->bases[i]) <=
		                               header_blocks(bdev->bases[i]->geometry.block_bytes))
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
	const struct label *label = newest(t->labels);
	struct err err = ERR_NONE;

	if (failed)
		err = *failed;
	if (err.code == 0 && (!label || label->set != d->params.set || label->role != 1))
		err_set(&err, -EINVAL, "it does not belong to '%s'", d->bdev->name);
	/* It knows of an older generation, as it may: the next label goes to both. */
	if (err.code == 0)
		d->without_second = false;
	bdev_done_call(t->done, &err);
	free(t->labels);
	free(t);
}

static void simlabel_base_returned(struct bdev *bdev, unsigned base_index, struct bdev_done done)
{
	struct taking_back *t = xcalloc(1, sizeof(*t));

	*t = (struct taking_back){.d = bdev->priv, .labels = new_labels(), .done = done};
	read_labels(bdev->bases[base_index], t->labels, (struct bdev_done){second_back, t});
}

/* ---- examine -----------------------------------------------------------------------------------
 */

struct examination {
	struct label *labels;
	struct bdev_done done;
};

static void examination_end(struct examination *e, const struct err *err)
{
	bdev_done_call(e->done, err && err->code ? err : NULL);
	free(e->labels);
	free(e);
}

static void examination_made(void *arg, struct bdev *bdev, const struct err *err)
{
	(void)bdev;
	examination_end(arg, err);
}

static void examined(void *arg, const struct err *err)
{
	struct examination *e = arg;
	const struct label *label = newest(e->labels);

	if ((err && err->code) || !label || label->role != 0 || !label->self_found ||
	        label->num_bases > BASES_MAX) {
		examination_end(e, err);
		return;
	}
	const char *bases[BASES_MAX] = {label->bases[0], label->bases[1]};
	struct simlabel_params params = {.set = label->set, .self_found = true};
	struct bdev_spec spec = {.module = &simlabel_module,
	        .name = label->name,
	        .bases = bases,
	        .num_bases = label->num_bases,
	        .params = &params,
	        .params_bytes = sizeof(params),
	        .wait_for_bases = true};

	bdev_create(&spec, examination_made, e);
}

static void simlabel_examine(struct bdev *bdev, struct bdev_done done)
{
	struct examination *e;

	if (bdev_num_blocks(bdev) < header_blocks(bdev->geometry.block_bytes)) {
		bdev_done_call(done, NULL);
		return;
	}
	e = xcalloc(1, sizeof(*e));
	*e = (struct examination){.labels = new_labels(), .done = done};
	read_labels(bdev, e->labels, (struct bdev_done){examined, e});
}

/* ---- deletion ----------------------------------------------------------------------------------
 */

/* Erases the labels of the first base, the older one first, so that none but the newest is ever
 * found. */
struct deletion {
	struct rpc_request *request;
	char name[64], base[64];
	struct label *labels;
	unsigned slot, erased;
};

static void deletion_end(struct deletion *x, const struct err *err)
{
	rpc_reply_err(x->request, err);
	free(x->labels);
	free(x);
}

static void removed(void *arg, const struct err *err)
{
	deletion_end(arg, err);
}

static void erased(void *arg, const struct err *err)
{
	struct deletion *x = arg;
	struct bdev *base = bdev_find(x->base), *bdev = bdev_find(x->name);
	unsigned both = PLANT(LABEL_NOT_ERASED) ? 1 : 2;

	if ((err && err->code) || !base || !bdev) {
		struct err gone = ERR_NONE;

		err_set(&gone, -ENODEV, "'%s' can't be erased", x->name);
		deletion_end(x, err && err->code ? err : &gone);
		return;
	}
	if (x->erased++ == both) {
		bdev_remove(bdev, (struct bdev_done){removed, x});
		return;
	}
	memset(x->labels, 0, LABEL_BYTES);
	uint64_t blocks = slot_blocks(base->geometry.block_bytes);

	bdev_write_meta(
	        base, (x->slot ^= 1) * blocks, blocks, x->labels, (struct bdev_done){erased, x});
}

struct delete_params {
	char *name;
};

static void delete_handler(struct rpc_request *request, void *params)
{
	struct bdev *bdev = bdev_find(((struct delete_params *)params)->name);
	struct deletion *x;

	if (!bdev || bdev->module != &simlabel_module || !bdev->bases[0]) {
		rpc_fail(request, -ENODEV, "there is no such simlabel");
		return;
	}
	x = xcalloc(1, sizeof(*x));
	x->request = request;
	x->labels = new_labels();
	x->slot = ((const struct simlabel *)bdev->priv)->generation & 1;
	str_copy(x->name, sizeof(x->name), bdev->name);
	str_copy(x->base, sizeof(x->base), bdev->bases[0]->name);
	erased(x, NULL);
}

static const struct param delete_table[] = {
        {PARAM(struct delete_params, name, PARAM_STRING), .required = true, .help = "its name"},
        {0},
};

static const struct rpc_method methods[] = {
        {.name = "bdev_simlabel_delete",
                .summary = "erases the labels and removes it",
                .params = delete_table,
                .params_bytes = sizeof(struct delete_params),
                .handler = delete_handler},
        {0},
};

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
		if (base->block_bytes == 0 || base->num_blocks <= header_blocks(base->block_bytes))
			return err_set(err, -ENOSPC, "there is no room for the labels of '%s'",
			        bdev->name);
	}
	out->num_blocks = in->bases[0].num_blocks - header_blocks(block_bytes);
	return 0;
}

static void simlabel_submit(struct bio *bio)
{
	struct bdev *base = bio_bdev(bio)->bases[0];
	bool ranged = bio->op != BIO_FLUSH && bio->op != BIO_RESET;
	uint64_t header = header_blocks(1U << bio_bdev(bio)->block_shift);

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
		json_array_append_new(bases, json_string(bdev_get_spec(bdev)->bases[i]));
	return json_pack("[{s:s, s:{s:s, s:o, s:I}}]", "method", "bdev_simlabel_create", "params",
	        "name", bdev->name, "base_bdevs", bases, "set", (json_int_t)d->params.set);
}

static struct bdev_module simlabel_module = {
        .name = "simlabel",
        .product_name = "Simulated label",
        .summary = "a layer with metadata of its own",
        .bases_min = 1,
        .bases_max = BASES_MAX,
        .priv_bytes = sizeof(struct simlabel),
        .params = params_table,
        .methods = methods,
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

	if (s->num_blocks <= header_blocks(s->block_bytes)) {
		json_decref(bases);
		return NULL;
	}
	for (unsigned i = 0; i < s->num_bases; i++)
		json_array_append_new(bases, json_string(s->bases[i]));
	return json_pack("{s:s, s:o, s:I, s:b, s:b}", "name", s->name, "base_bdevs", bases, "set",
	        (json_int_t)(rng_next(s->rng) & UINT32_MAX), "format", 1, "self_found",
	        (int)(rng_next(s->rng) & 1));
}

static uint64_t expected_blocks(const struct bdev *bdev)
{
	const struct bdev *base = bdev->bases[0];

	return bdev_num_blocks(base) - header_blocks(base->geometry.block_bytes);
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
