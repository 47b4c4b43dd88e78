/* What the bases of a simlabel hold: read, found by examine, erased when it is deleted. */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "sim/simlabel.h"

uint32_t simlabel_crc(const struct label *label)
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
	return label->magic == MAGIC &&
	       (label->crc == simlabel_crc(label) || PLANT(LABEL_TORN_TAKEN)) &&
	       memchr(label->name, 0, sizeof(label->name)) &&
	       memchr(label->bases[0], 0, sizeof(label->bases[0])) &&
	       memchr(label->bases[1], 0, sizeof(label->bases[1]));
}

const struct label *simlabel_newest(const struct label *labels)
{
	const struct label *best = NULL;

	for (unsigned i = 0; i < 2; i++)
		if (valid(&labels[i]) && (!best || labels[i].generation > best->generation))
			best = &labels[i];
	return best;
}

uint64_t simlabel_slot_blocks(uint32_t block_bytes)
{
	return max_u64(1, SLOT_BYTES / block_bytes);
}

uint64_t simlabel_header_blocks(uint32_t block_bytes)
{
	return 2 * simlabel_slot_blocks(block_bytes);
}

struct label *simlabel_labels(void)
{
	struct label *labels = NULL;

	if (posix_memalign((void **)&labels, 4096, LABEL_BYTES))
		abort();
	memset(labels, 0, LABEL_BYTES);
	return labels;
}

void simlabel_read(struct bdev *base, struct label *labels, struct bdev_done done)
{
	bdev_read_meta(base, 0, simlabel_header_blocks(base->geometry.block_bytes), labels, done);
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
	const struct label *label = simlabel_newest(e->labels);

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

void simlabel_examine(struct bdev *bdev, struct bdev_done done)
{
	struct examination *e;

	if (bdev_num_blocks(bdev) < simlabel_header_blocks(bdev->geometry.block_bytes)) {
		bdev_done_call(done, NULL);
		return;
	}
	e = xcalloc(1, sizeof(*e));
	*e = (struct examination){.labels = simlabel_labels(), .done = done};
	simlabel_read(bdev, e->labels, (struct bdev_done){examined, e});
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
	uint64_t blocks = simlabel_slot_blocks(base->geometry.block_bytes);

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
	x->labels = simlabel_labels();
	x->slot = ((const struct simlabel *)bdev->priv)->slots[0];
	str_copy(x->name, sizeof(x->name), bdev->name);
	str_copy(x->base, sizeof(x->base), bdev->bases[0]->name);
	erased(x, NULL);
}

static const struct param delete_table[] = {
        {PARAM(struct delete_params, name, PARAM_STRING), .required = true, .help = "its name"},
        {0},
};

const struct rpc_method simlabel_methods[] = {
        {.name = "bdev_simlabel_delete",
                .summary = "erases the labels and removes it",
                .params = delete_table,
                .params_bytes = sizeof(struct delete_params),
                .handler = delete_handler},
        {0},
};
