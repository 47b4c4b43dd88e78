/*
 * geometry.c: what size and limits does a bdev have, and why? Everything here is pure: the plan of
 * a resize, its dry run and the creation of a bdev all ask the same question.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/plant.h"
#include "bdev/control.h"

#define BUF_ALIGN_MAX 4096 /* what bounce buffers are aligned to */

const char *blocks_text(char *buf, size_t size, uint64_t blocks, uint32_t block_bytes)
{
	char text[SIZE_TEXT_MAX];

	format_size_bytes(text, sizeof(text), blocks * block_bytes);
	snprintf(buf, size, "%s (%llu blocks)", text, (unsigned long long)blocks);
	return buf;
}

bool geometry_equal(const struct bdev_geometry *a, const struct bdev_geometry *b)
{
	return a->num_blocks == b->num_blocks && a->block_bytes == b->block_bytes &&
	       a->physical_block_bytes == b->physical_block_bytes && a->caps == b->caps &&
	       a->write_cache == b->write_cache && a->rotational == b->rotational &&
	       a->read_only == b->read_only && a->buf_align_bytes == b->buf_align_bytes &&
	       a->max_transfer_blocks == b->max_transfer_blocks &&
	       a->optimal_io_boundary_blocks == b->optimal_io_boundary_blocks &&
	       a->split_on_boundary == b->split_on_boundary &&
	       a->preferred_write_granularity_blocks == b->preferred_write_granularity_blocks &&
	       a->preferred_write_alignment_blocks == b->preferred_write_alignment_blocks &&
	       a->optimal_write_blocks == b->optimal_write_blocks &&
	       a->preferred_unmap_granularity_blocks == b->preferred_unmap_granularity_blocks &&
	       a->preferred_unmap_alignment_blocks == b->preferred_unmap_alignment_blocks &&
	       a->zone_blocks == b->zone_blocks && a->max_open_zones == b->max_open_zones &&
	       a->max_active_zones == b->max_active_zones &&
	       a->optimal_open_zones == b->optimal_open_zones;
}

static bool missing(const struct bdev_geometry *base)
{
	return base->num_blocks == 0 && base->block_bytes == 0;
}

static const char *base_name(const struct bdev *bdev, unsigned i)
{
	const struct bdev_graph *g = bdev->graph;

	if (i < bdev->num_bases)
		return g->slots[i]->name;
	return g->adding ? g->adding->name : "the new one";
}

static const char *without_its_base(const struct bdev *bdev)
{
	return bdev->num_bases == 1 ? "its base" : "all of its bases";
}

/* The text for a module that has given none. */
static void default_why(const struct bdev *bdev, const struct bdev_geometry *bases,
        unsigned num_bases, uint64_t own_blocks, struct bdev_geometry *out)
{
	unsigned present = 0, smallest = 0;
	bool equal = true;

	for (unsigned i = 0; i < num_bases; i++) {
		if (missing(&bases[i]))
			continue;
		if (present && bases[i].num_blocks != bases[smallest].num_blocks)
			equal = false;
		if (!present || bases[i].num_blocks < bases[smallest].num_blocks)
			smallest = i;
		present++;
	}
	if (present == 0 || own_blocks != 0)
		snprintf(out->why, sizeof(out->why), "its own size");
	else if (num_bases == 1 && out->num_blocks == bases[0].num_blocks)
		snprintf(out->why, sizeof(out->why), "same as base '%.100s'", base_name(bdev, 0));
	else if (num_bases == 1)
		snprintf(out->why, sizeof(out->why), "follows base '%.100s'", base_name(bdev, 0));
	else if (equal)
		snprintf(out->why, sizeof(out->why), "from %u bases of the same size", present);
	else
		snprintf(out->why, sizeof(out->why), "limited by '%.80s', the smallest of %u bases",
		        base_name(bdev, smallest), present);
}

static int check_limits(const char *label, struct bdev_geometry *out, struct err *err)
{
	uint32_t align = out->buf_align_bytes ? out->buf_align_bytes : 1;
	uint32_t align_blocks = align > out->block_bytes ? align / out->block_bytes : 1;

	out->buf_align_bytes = align;
	if (!is_power_of_two(align) || align > BUF_ALIGN_MAX)
		return err_set(err, -EINVAL,
		        "%s: data must be aligned to %u bytes; it can be a power of two up to %d",
		        label, align, BUF_ALIGN_MAX);
	if (out->max_transfer_blocks != 0 && out->max_transfer_blocks < align_blocks)
		return err_set(err, -EINVAL,
		        "%s: a transfer of at most %u blocks can't be aligned to %u bytes", label,
		        out->max_transfer_blocks, align);
	if (out->split_on_boundary && out->optimal_io_boundary_blocks && align_blocks > 1)
		return err_set(err, -EINVAL,
		        "%s: requests split at every %u blocks of %u bytes can't be aligned to %u "
		        "bytes",
		        label, out->optimal_io_boundary_blocks, out->block_bytes, align);
	return 0;
}

static int check_zones(const struct bdev *bdev, const char *label, const struct bdev_geometry *out,
        struct err *err)
{
	if (bdev->geometry.block_bytes && out->zone_blocks != bdev->geometry.zone_blocks)
		return err_set(err, -EINVAL, "%s: its zones would change from %llu to %llu blocks",
		        label, (unsigned long long)bdev->geometry.zone_blocks,
		        (unsigned long long)out->zone_blocks);
	if (out->zone_blocks == 0)
		return 0;
	if (!is_power_of_two(out->zone_blocks) || out->num_blocks % out->zone_blocks)
		return err_set(err, -EINVAL,
		        "%s: %llu blocks are not whole zones of a power of two of blocks (%llu)",
		        label, (unsigned long long)out->num_blocks,
		        (unsigned long long)out->zone_blocks);
	if (out->buf_align_bytes > 1 || out->max_transfer_blocks || out->split_on_boundary)
		return err_set(err, -EINVAL,
		        "%s: it is zoned, so nobody may cut or bounce its requests", label);
	return 0;
}

static int check(const struct bdev *bdev, struct bdev_geometry *out, struct err *err)
{
	uint32_t published = bdev->geometry.block_bytes;
	char label[BDEV_LABEL_MAX];

	graph_label(bdev, label, sizeof(label));
	if (!is_power_of_two(out->block_bytes) || out->block_bytes < 512 ||
	        out->block_bytes > 65536)
		return err_set(err, -EINVAL,
		        "%s: blocks of %u bytes; they must be a power of two from 512 to 65536",
		        label, out->block_bytes);
	if (published && out->block_bytes != published)
		return err_set(err, -EINVAL,
		        "%s: its blocks would change from %u to %u bytes, which would garble what "
		        "is "
		        "stored",
		        label, published, out->block_bytes);
	if (out->num_blocks == 0)
		return err_set(err, -EINVAL, "%s: no block would be left of it", label);
	if (out->num_blocks > (uint64_t)INT64_MAX / out->block_bytes)
		return err_set(err, -EFBIG, "%s: %llu blocks of %u bytes are more than 2^63 bytes",
		        label, (unsigned long long)out->num_blocks, out->block_bytes);
	if (out->physical_block_bytes < out->block_bytes)
		out->physical_block_bytes = out->block_bytes;
	if (check_limits(label, out, err) != 0)
		return -EINVAL;
	return check_zones(bdev, label, out, err);
}

/* Policy hold: a held bdev keeps its size when more is there, and refuses less. */
static int hold(const struct bdev *bdev, bool fact, struct bdev_geometry *out, struct err *err)
{
	uint64_t held = bdev->held_blocks, derived = out->num_blocks;
	char held_text[SIZE_TEXT_MAX], derived_text[SIZE_TEXT_MAX];

	if (held == 0 || PLANT(HOLD_IGNORED))
		return 0;
	if (out->zone_blocks) /* whole zones, and at least one */
		held = max_u64(held - held % out->zone_blocks, out->zone_blocks);
	format_size_bytes(held_text, sizeof(held_text), held * out->block_bytes);
	format_size_bytes(derived_text, sizeof(derived_text), derived * out->block_bytes);
	if (derived < held && derived < bdev->geometry.num_blocks && !fact) {
		char label[BDEV_LABEL_MAX];

		return err_set(err, -EBUSY,
		        "%s is held at %s and would shrink to %s; set its policy to follow first",
		        graph_label(bdev, label, sizeof(label)), held_text, derived_text);
	}
	if (derived < held) {
		char why[BDEV_WHY_MAX];

		str_copy(why, sizeof(why), out->why);
		snprintf(out->why, sizeof(out->why), "held at %s, but no more is left: %.100s",
		        held_text, why);
		return 0;
	}
	out->num_blocks = held;
	if (derived > held)
		snprintf(out->why, sizeof(out->why), "held at %s by policy; it could have %s",
		        held_text, derived_text);
	else
		snprintf(out->why, sizeof(out->why), "held at %s by policy", held_text);
	return 0;
}

/* Who has not said that it keeps the rules of zones would break them without a word. */
static int refuse_zones(const struct bdev *bdev, const struct bdev_geometry *bases,
        unsigned num_bases, struct err *err)
{
	const struct bdev_module *module = bdev->module;
	char label[BDEV_LABEL_MAX];

	for (unsigned i = 0; module->submit && !module->keeps_zones && i < num_bases; i++) {
		if (bases[i].zone_blocks)
			return err_set(err, -ENOTSUP,
			        "%s can't stand on '%s', which is zoned: a %s bdev does not keep "
			        "to the order in which zones are written",
			        graph_label(bdev, label, sizeof(label)), base_name(bdev, i),
			        module->name);
	}
	return 0;
}

int geometry_derive_with(const struct bdev *bdev, const struct bdev_geometry *bases,
        unsigned num_bases, uint64_t own_blocks, bool fact, struct bdev_geometry *out,
        struct err *err)
{
	const struct bdev_module *module = bdev->module;
	const struct bdev_geometry *first = NULL;
	int rc = refuse_zones(bdev, bases, num_bases, err);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < num_bases && !first; i++) {
		if (!missing(&bases[i]))
			first = &bases[i];
	}
	if (first)
		*out = *first;
	else
		memset(out, 0, sizeof(*out));
	out->why[0] = '\0';
	/* A base's limits are kept by the base, whatever comes down to it. */
	out->buf_align_bytes = 1;
	out->max_transfer_blocks = 0;
	out->split_on_boundary = false;
	if (module->geometry) {
		struct bdev_geometry_in in = {
		        .bases = bases, .num_bases = num_bases, .own_blocks = own_blocks};
		struct err reason = ERR_NONE;
		char label[BDEV_LABEL_MAX];

		rc = module->geometry(bdev, &in, out, &reason);
		if (rc != 0)
			return err_set(err, rc, "%s: %s", graph_label(bdev, label, sizeof(label)),
			        reason.code ? reason.text : errno_text(rc));
	} else if (!first) {
		return err_set(err, -ENODEV, "'%s' can't be without %s", bdev->name,
		        without_its_base(bdev));
	}
	rc = check(bdev, out, err);
	if (rc != 0)
		return rc;
	if (out->why[0] == '\0')
		default_why(bdev, bases, num_bases, own_blocks, out);
	return hold(bdev, fact, out, err);
}

int geometry_derive(const struct bdev *bdev, const struct bdev_geometry *bases, uint64_t own_blocks,
        bool fact, struct bdev_geometry *out, struct err *err)
{
	return geometry_derive_with(bdev, bases, bdev->num_bases, own_blocks, fact, out, err);
}

int geometry_now(
        const struct bdev *bdev, uint64_t own_blocks, struct bdev_geometry *out, struct err *err)
{
	autofree struct bdev_geometry *bases = xcalloc(bdev->num_bases + 1U, sizeof(*bases));

	for (unsigned i = 0; i < bdev->num_bases; i++) {
		if (bdev->bases[i])
			bases[i] = bdev->bases[i]->geometry;
	}
	return geometry_derive(bdev, bases, own_blocks, false, out, err);
}
