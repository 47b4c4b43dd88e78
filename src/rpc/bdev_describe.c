/* bdev_describe.c: one bdev as bdev_get_bdevs shows it, member by member as clients know it. */

#include "rpc/bdev_describe.h"

#include <string.h>

#include "rpc/text.h"

/* Operations in the order of the reply. */
static const struct {
	const char *name;
	uint32_t cap; /* 0: not part of this server */
} io_types[] = {
        {"read", BIO_CAP(BIO_READ)},
        {"write", BIO_CAP(BIO_WRITE)},
        {"unmap", BIO_CAP(BIO_UNMAP)},
        {"flush", BIO_CAP(BIO_FLUSH)},
        {"reset", BIO_CAP(BIO_RESET)},
        {"nvme_admin", 0},
        {"nvme_io", 0},
        {"nvme_io_md", 0},
        {"write_zeroes", BIO_CAP(BIO_WRITE)}, /* the core writes zeroes where nothing better is */
        {"zcopy", 0},
        {"get_zone_info", BIO_CAP(BIO_ZONE_REPORT)},
        {"zone_management", BIO_CAP(BIO_ZONE_MGMT)},
        {"zone_append", BIO_CAP(BIO_ZONE_APPEND)},
        {"compare", BIO_CAP(BIO_COMPARE)},
        {"compare_and_write", 0},
        {"abort", 0},
        {"seek_hole", BIO_CAP(BIO_BLOCK_STATUS)},
        {"seek_data", BIO_CAP(BIO_BLOCK_STATUS)},
        {"copy", 0},
        {"nvme_iov_md", 0},
        {"nvme_nssr", 0},
        {"write_uncorrectable", 0},
};

static json_t *describe_io_types(const struct bdev *bdev)
{
	json_t *types = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(io_types); i++)
		json_object_set_new(types, io_types[i].name,
		        json_boolean((bdev->geometry.caps & io_types[i].cap) != 0));
	return types;
}

static json_t *describe_aliases(const struct bdev *bdev)
{
	json_t *list = json_array();
	const char *alias;

	for (unsigned i = 0; (alias = bdev_alias(bdev, i)); i++)
		if (strcmp(alias, bdev->name) != 0)
			json_array_append_new(list, rpc_json_string(alias));
	return list;
}

static json_t *describe_specific(const struct bdev *bdev)
{
	json_t *specific = bdev->module->describe ? bdev->module->describe(bdev) : NULL;

	return specific ? specific : json_object();
}

static void set_number(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

json_t *rpc_bdev_describe(const struct bdev *bdev)
{
	const struct bdev_geometry *g = &bdev->geometry;
	json_t *object = json_object();
	char uuid[UUID_STR_LEN];

	uuid_unparse_lower(bdev->uuid, uuid);
	json_object_set_new(object, "name", rpc_json_string(bdev->name));
	json_object_set_new(object, "aliases", describe_aliases(bdev));
	json_object_set_new(object, "product_name",
	        json_string(bdev->module->product_name ? bdev->module->product_name
	                                               : bdev->module->name));
	set_number(object, "block_size", g->block_bytes);
	set_number(object, "num_blocks", g->num_blocks);
	set_number(object, "preferred_write_alignment", g->preferred_write_alignment_blocks);
	set_number(object, "preferred_write_granularity", g->preferred_write_granularity_blocks);
	set_number(object, "optimal_write_size", g->optimal_write_blocks);
	set_number(object, "preferred_unmap_alignment", g->preferred_unmap_alignment_blocks);
	set_number(object, "preferred_unmap_granularity", g->preferred_unmap_granularity_blocks);
	json_object_set_new(object, "uuid", json_string(uuid));
	json_object_set_new(object, "assigned_rate_limits", rpc_qos_describe(bdev));
	json_object_set_new(object, "claimed", json_boolean(bdev_is_claimed(bdev)));
	if (bdev_is_claimed(bdev))
		json_object_set_new(object, "claim_type", json_string("exclusive_write"));
	json_object_set_new(object, "zoned", json_boolean(g->zone_blocks != 0));
	if (g->zone_blocks) {
		set_number(object, "zone_size", g->zone_blocks);
		set_number(object, "max_open_zones", g->max_open_zones);
		if (g->max_active_zones)
			set_number(object, "max_active_zones", g->max_active_zones);
		set_number(object, "optimal_open_zones", g->optimal_open_zones);
	}
	json_object_set_new(object, "supported_io_types", describe_io_types(bdev));
	json_object_set_new(object, "driver_specific", describe_specific(bdev));
	return object;
}
