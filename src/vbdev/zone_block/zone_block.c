/*
 * zone_block.c: the module table of the zone_block bdev, its zones' memory, and what a new size
 * does to them.
 */
#include "vbdev/zone_block/zone_block.h"

#include <errno.h>
#include <stdio.h>

#include "base/plant.h"
#include "rpc/param.h"

#define LIMIT_MAX 65536

/* ---- geometry ---------------------------------------------------------------------------------
 */

static int zone_block_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct zone_bdev *zb = bdev->priv;
	uint64_t zone_blocks = zone_blocks_of(zb->zone_capacity);
	uint64_t base_blocks = in->bases[0].num_blocks, zones = base_blocks / zone_blocks;
	uint64_t unused = base_blocks % zone_blocks;
	int n;

	if (zones == 0)
		return err_set(err, -ENOSPC,
		        "a zone takes %llu blocks (the power of two that holds its capacity of "
		        "%llu), and the base has only %llu",
		        (unsigned long long)zone_blocks, (unsigned long long)zb->zone_capacity,
		        (unsigned long long)base_blocks);
	out->num_blocks = zones * zone_blocks;
	out->zone_blocks = zone_blocks;
	out->max_open_zones = (uint32_t)zb->max_open_zones;
	out->max_active_zones = (uint32_t)zb->max_active_zones;
	out->optimal_open_zones = (uint32_t)zb->optimal_open_zones;
	/* Nobody may take a write apart, so the base emulates what it lacks. */
	out->caps = (out->caps & (BIO_CAP(BIO_FLUSH) | BIO_CAP(BIO_RESET))) | BIO_CAP(BIO_READ) |
	            BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_WRITE_ZEROES) | BIO_CAP_FUA | BIO_CAPS_ZONES;
	out->preferred_unmap_granularity_blocks = out->preferred_unmap_alignment_blocks = 0;
	n = snprintf(out->why, sizeof(out->why), "%llu zones of %llu blocks",
	        (unsigned long long)zones, (unsigned long long)zone_blocks);
	if (unused)
		snprintf(out->why + n, sizeof(out->why) - (size_t)n,
		        "; the last %llu blocks of the base are unused, less than a zone",
		        (unsigned long long)unused);
	return 0;
}

/* ---- the zones' memory ------------------------------------------------------------------------
 */

static uint64_t word_of_state(const struct zone_bdev *zb, enum zone_state state)
{
	return word_with_state(state == ZONE_FULL ? zb->zone_capacity : 0, state);
}

/* Zones that no loop can see yet. */
static int make_zones(
        struct zone_bdev *zb, uint64_t from, uint64_t to, enum zone_state state, struct err *err)
{
	while (zb->num_made < to) {
		uint64_t first = zb->num_made + (1ULL << FIRST_SEGMENT_SHIFT);
		unsigned segment = 63U - (unsigned)__builtin_clzll(first) - FIRST_SEGMENT_SHIFT;

		if (segment >= SEGMENTS_MAX || first > SIZE_MAX / sizeof(struct zone))
			return err_set(
			        err, -EFBIG, "%llu are too many zones", (unsigned long long)to);
		zb->segments[segment] =
		        try_alloc_aligned(CACHE_LINE_BYTES, first * sizeof(struct zone));
		if (!zb->segments[segment])
			return err_set(err, -ENOMEM, "there is no memory for %llu zones",
			        (unsigned long long)to);
		zb->num_made += first;
	}
	for (; from < to; from++) {
		struct zone *zone = zone_at(zb, from);

		__atomic_store_n(&zone->settled, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&zone->word, word_of_state(zb, state), __ATOMIC_RELAXED);
	}
	return 0;
}

static int make_list(struct zone_list *list, uint64_t max, struct err *err)
{
	if (max == 0)
		return 0;
	list->max = (uint32_t)max;
	list->ids = try_alloc_aligned(CACHE_LINE_BYTES, max * sizeof(*list->ids));
	return list->ids ? 0 : err_set(err, -ENOMEM, "there is no memory for a list of zones");
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void zone_block_create(struct bdev *bdev, struct bdev_done done)
{
	struct zone_bdev *zb = bdev->priv;
	struct err err = ERR_NONE;

	zb->bdev = bdev;
	zb->zone_blocks = zone_blocks_of(zb->zone_capacity);
	zb->zone_shift = (uint32_t)__builtin_ctzll(zb->zone_blocks);
	zb->limited = zb->max_open_zones || zb->max_active_zones;
	if (zb->max_active_zones && zb->max_open_zones > zb->max_active_zones)
		err_set(&err, -EINVAL,
		        "max_open_zones (%llu) can't be more than max_active_zones (%llu): open "
		        "zones are active",
		        (unsigned long long)zb->max_open_zones,
		        (unsigned long long)zb->max_active_zones);
	else if (make_list(&zb->open, zb->max_open_zones, &err) == 0)
		(void)make_list(&zb->active, zb->max_active_zones, &err);
	bdev_done_call(done, err.code ? &err : NULL);
}

/* What is on the base may be what somebody has written through zones before, so they are full. */
static void zone_block_online(struct bdev *bdev, struct bdev_done done)
{
	struct zone_bdev *zb = bdev->priv;
	struct err err = ERR_NONE;

	for (unsigned i = 0; i < loops_count(); i++)
		zone_loop_init(bdev->loops[i].state, bdev, i);
	zb->ready = true;
	(void)make_zones(zb, 0, bdev->geometry.num_blocks >> zb->zone_shift, ZONE_FULL, &err);
	bdev_done_call(done, err.code ? &err : NULL);
}

/* A zone that a growth brings is new: nothing was ever written to it. What a shrink takes is left
 * as it is, since the resize may yet stop. */
static void zone_block_persist(
        struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done)
{
	struct zone_bdev *zb = bdev->priv;
	bool full = bdev->state == BDEV_CREATING || PLANT(ZONE_NEW_ONES_FULL);
	struct err err = ERR_NONE;

	(void)make_zones(zb, bdev->geometry.num_blocks >> zb->zone_shift,
	        planned->num_blocks >> zb->zone_shift, full ? ZONE_FULL : ZONE_EMPTY, &err);
	bdev_done_call(done, err.code ? &err : NULL);
}

static void free_all(struct bdev *bdev)
{
	struct zone_bdev *zb = bdev->priv;

	for (unsigned i = 0; i < SEGMENTS_MAX; i++)
		free(zb->segments[i]);
	free(zb->open.ids);
	free(zb->active.ids);
	bdev_done_call(zb->destroyed, NULL);
}

static void zone_block_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct zone_bdev *zb = bdev->priv;

	zb->destroyed = done;
	if (zb->ready)
		zone_loops_leave(bdev, free_all);
	else
		free_all(bdev);
}

/* ---- what users see ---------------------------------------------------------------------------
 */

static json_t *zone_block_params(const struct bdev *bdev, bool base_first)
{
	const struct zone_bdev *zb = bdev->priv;
	const struct bdev_spec *spec = bdev_get_spec(bdev);
	json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "name", bdev->name, "base_bdev",
	        base_first ? spec->bases[0] : bdev->bases[0]->name, "zone_capacity",
	        (json_int_t)zb->zone_capacity, "optimal_open_zones",
	        (json_int_t)zb->optimal_open_zones);

	/* The reference does not know these. */
	if (zb->max_open_zones)
		json_object_set_new(
		        o, "max_open_zones", json_integer((json_int_t)zb->max_open_zones));
	if (zb->max_active_zones)
		json_object_set_new(
		        o, "max_active_zones", json_integer((json_int_t)zb->max_active_zones));
	return o;
}

static json_t *zone_block_describe(const struct bdev *bdev)
{
	return json_pack("{s:o}", "zoned_block", zone_block_params(bdev, false));
}

static json_t *zone_block_save(const struct bdev *bdev)
{
	json_t *params = zone_block_params(bdev, true);
	const struct bdev_spec *spec = bdev_get_spec(bdev);
	char uuid[UUID_STR_LEN];

	if (!uuid_is_null(spec->uuid)) {
		uuid_unparse_lower(bdev->uuid, uuid);
		json_object_set_new(params, "uuid", json_string(uuid));
	}
	return json_pack("[{s:s, s:o}]", "method", "bdev_zone_block_create", "params", params);
}

/* Zones without and with a gap between them, and with limits. */
static json_t *zone_block_example(const struct bdev_example *wanted)
{
	static const int capacities[] = {16, 12, 15};
	static const int max_open[] = {0, 0, 3};

	if (wanted->variant >= ARRAY_SIZE(capacities))
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:s, s:i, s:i, s:i}}]", "method", "bdev_zone_block_create",
	        "params", "name", wanted->name, "base_bdev", wanted->bases[0], "zone_capacity",
	        capacities[wanted->variant], "optimal_open_zones", 2, "max_open_zones",
	        max_open[wanted->variant]);
}

static const struct param zone_block_param_table[] = {
        {PARAM(struct zone_bdev, zone_capacity, PARAM_U64), .required = true, .min = 1,
                .max = ZONE_CAPACITY_MAX, .unit = "blocks",
                .help = "what can be written in a zone; its size is the power of two that holds "
                        "it"},
        {PARAM(struct zone_bdev, optimal_open_zones, PARAM_U64), .required = true, .min = 1,
                .max = UINT32_MAX, .help = "advice to clients: so many zones at once write best"},
        {PARAM(struct zone_bdev, max_open_zones, PARAM_U64), .max = LIMIT_MAX,
                .help = "so many zones may be open; 0: any number"},
        {PARAM(struct zone_bdev, max_active_zones, PARAM_U64), .max = LIMIT_MAX,
                .help = "so many zones may be open or closed; 0: any number"},
        {0},
};

static struct bdev_module zone_block_module = {
        .name = "zone_block",
        .product_name = "zone_block",
        .summary = "a base as a zoned device: zones that are written from start to end",
        .bases_min = 1,
        .bases_max = 1,
        .base_param = "base_bdev",
        .priv_bytes = sizeof(struct zone_bdev),
        .params = zone_block_param_table,
        .loop_state_bytes = sizeof(struct zone_loop),
        .geometry = zone_block_geometry,
        .submit = zone_submit,
        .create = zone_block_create,
        .online = zone_block_online,
        .destroy = zone_block_destroy,
        .persist = zone_block_persist,
        .describe = zone_block_describe,
        .save = zone_block_save,
        .example = zone_block_example,
};
BDEV_MODULE(zone_block_module);
