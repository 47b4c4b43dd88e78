#include "math/raid_map.h"
#include "sim/run.h"
#include "vbdev/raid/raid.h"

/*
 * Arrays without superblock: they begin where their members begin, and know them by name. Such a
 * mirror does not remember who has failed, so it is drawn only in runs whose disks don't. Those
 * that do remember have their own world, in raid_simtest.c.
 */
#define STRIP_KB 4

static json_t *setup(struct sim_setup *s)
{
	static const char *const levels[] = {"raid0", "concat", "raid1", "raid5f"};
	uint64_t strip_blocks = STRIP_KB * 1024 / s->block_bytes;
	unsigned redundant = run->faulty || s->num_bases < 2 ? 0 : s->num_bases < 3 ? 1 : 2;
	unsigned level = (unsigned)rng_below(s->rng, 2 + redundant);
	json_t *bases = json_array(), *starts = json_array(), *params;

	for (unsigned i = 0; i < s->num_bases; i++) {
		const struct bdev *base = bdev_find(s->bases[i]);
		uint64_t blocks = base->geometry.num_blocks;

		/* What lies elsewhere in the next life has no places to keep. */
		if (level == 1 && s->num_bases > 1 && stack_any_claims(base, SIM_RELAID))
			level = 0;
		json_array_append_new(bases, json_string(s->bases[i]));
		if (i + 1 < s->num_bases)
			json_array_append_new(starts,
			        json_integer((json_int_t)(blocks / strip_blocks * strip_blocks)));
	}
	params = json_pack("{s:s, s:s, s:o}", "name", s->name, "raid_level", levels[level],
	        "base_bdevs", bases);
	if (level != 2)
		json_object_set_new(params, "strip_size_kb", json_integer(STRIP_KB));
	if (level == 1 && s->num_bases > 1) /* the same in every life */
		json_object_set(params, "base_data_blocks", starts);
	json_decref(starts);
	if (s->num_blocks >= 2 * strip_blocks)
		return params;
	json_decref(params);
	return NULL;
}

static uint64_t expected_blocks(const struct bdev *bdev)
{
	const struct raid *raid = ((const struct raid_priv *)bdev->priv)->raid;
	uint64_t strip_blocks = STRIP_KB * 1024 / bdev->geometry.block_bytes;
	uint64_t least = UINT64_MAX, last = 0;

	for (unsigned i = 0; i < bdev->num_bases; i++) {
		last = bdev->bases[i]->geometry.num_blocks;
		least = min_u64(least, last);
	}
	if (raid->level == &raid1_level)
		return least;
	if (raid->level == &raid0_level)
		return least / strip_blocks * strip_blocks * bdev->num_bases;
	if (raid->level == &raid5f_level)
		return least / strip_blocks * strip_blocks * (bdev->num_bases - 1);
	return raid->io.start_blocks[bdev->num_bases - 1] + last / strip_blocks * strip_blocks;
}

/* Without superblock none of them does; but a mirror's reads need not repeat each other. */
static bool tolerates(const struct bdev *bdev, uint64_t faulty)
{
	(void)bdev;
	return faulty == 0;
}

static struct sim_module raid_sim = {
        .name = "raid",
        .claims = SIM_REDUNDANT,
        .weight = 30,
        .bases_min = 1,
        .bases_max = 4,
        .setup = setup,
        .tolerates = tolerates,
        .expected_blocks = expected_blocks,
};
SIM_MODULE(raid_sim);
