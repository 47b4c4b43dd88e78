/* bdev_save.c: the bdev section of a configuration. */

#include "rpc/bdev_save.h"

#include <string.h>

#include "rpc/bdev_describe.h"
#include "rpc/method.h"

/* Calls of bdev_enable_histogram by name of the bdev. */
static json_t *histograms;

void rpc_save_histogram(const char *bdev_name, json_t *params)
{
	if (!histograms)
		histograms = json_object();
	if (params)
		json_object_set_new(histograms, bdev_name, params);
	else
		json_object_del(histograms, bdev_name);
}

/* Steals params. */
static void append(json_t *list, const char *method, json_t *params)
{
	json_array_append_new(list, json_pack("{s:s, s:o*}", "method", method, "params", params));
}

/* Steals entries, which may be NULL. */
static void append_all(json_t *list, json_t *entries)
{
	if (entries)
		json_array_extend(list, entries);
	json_decref(entries);
}

static void save_options(json_t *list)
{
	const struct bdev_options *o = bdev_options();
	json_t *params = json_pack("{s:I, s:I, s:b, s:I, s:I}", "bdev_io_pool_size",
	        (json_int_t)o->saved_values[0], "bdev_io_cache_size",
	        (json_int_t)o->saved_values[1], "bdev_auto_examine", (int)o->auto_examine,
	        "iobuf_small_cache_size", (json_int_t)o->saved_values[2], "iobuf_large_cache_size",
	        (json_int_t)o->saved_values[3]);

	/* The reference does not know these, and refuses what it does not know. */
	if (o->step_timeout_ms != BDEV_STEP_TIMEOUT_MS)
		json_object_set_new(params, "step_timeout_ms", json_integer(o->step_timeout_ms));
	if (o->stat_interval_ms != BDEV_STAT_INTERVAL_MS)
		json_object_set_new(params, "stat_interval_ms", json_integer(o->stat_interval_ms));
	append(list, "bdev_set_options", params);
}

static json_t *save_spec(const struct bdev_spec *spec, const char *name, const uuid_t uuid)
{
	return rpc_generated_save(
	        spec->module, spec->method, name, uuid, spec->bases, spec->num_bases, spec->params);
}

static void save_hold(json_t *list, const char *name, uint64_t num_blocks)
{
	append(list, "bdev_set_resize_policy",
	        json_pack("{s:s, s:s, s:I}", "name", name, "policy", "hold", "num_blocks",
	                (json_int_t)num_blocks));
}

/* What a user has set on a bdev beside its creation. */
static json_t *save_settings(const struct bdev *bdev)
{
	const json_t *histogram = json_object_get(histograms, bdev->name);
	json_t *list = json_array(), *limits = rpc_qos_save(bdev);

	if (bdev_get_policy(bdev) == BDEV_HOLD)
		save_hold(list, bdev->name,
		        bdev->held_blocks ? bdev->held_blocks : bdev->geometry.num_blocks);
	if (limits)
		append(list, "bdev_set_qos_limit", limits);
	if (histogram)
		append(list, "bdev_enable_histogram", json_deep_copy(histogram));
	return list;
}

static void save_bdev(json_t *list, const struct bdev *bdev)
{
	json_t *calls = bdev->module->save ? bdev->module->save(bdev)
	                                   : save_spec(bdev_get_spec(bdev), bdev->name, bdev->uuid);
	json_t *settings = save_settings(bdev);

	/* One that nothing here creates is found on its base, which takes a while. */
	if (!calls && json_array_size(settings) > 0)
		append(list, "bdev_wait_for_examine", NULL);
	append_all(list, calls);
	append_all(list, settings);
}

/* A creation that waits for its base would be lost otherwise. A module with its own form of saving
 * needs the bdev for it. */
static void save_waiting(void *arg, const struct bdev_spec *spec, const char *missing)
{
	(void)missing;
	if (spec->module->save)
		return;
	append_all(arg, save_spec(spec, spec->name, spec->uuid));
	if (spec->hold_at_blocks)
		save_hold(arg, spec->name, spec->hold_at_blocks);
}

static json_t *save(void)
{
	json_t *list = json_array();
	struct bdev_module *module = NULL;
	struct bdev *bdev = NULL;
	const char *name;

	save_options(list);
	for (unsigned i = 0; !bdev_options()->auto_examine && (name = bdev_examine_allowed(i)); i++)
		append(list, "bdev_examine", json_pack("{s:s}", "name", name));
	while ((module = bdev_module_next(module)))
		if (module->save_module)
			append_all(list, module->save_module());
	while ((bdev = bdev_next(bdev)))
		save_bdev(list, bdev);
	bdev_for_each_waiting(save_waiting, list);
	append(list, "bdev_wait_for_examine", NULL);
	return list;
}

static const char *const depends_on[] = {"accel", "keyring", "sock", "iobuf", NULL};
static struct rpc_subsystem bdev_subsystem = {
        .name = "bdev",
        .depends_on = depends_on,
        .save = save,
};
RPC_SUBSYSTEM(bdev_subsystem);
