#include "sim/run.h"

/*
 * Striped and concatenated arrays of one member, without superblock: they begin where the member
 * begins, and what is less than a strip is left over.
 */
#define STRIP_KB 4

static json_t *setup(struct sim_setup *s)
{
	uint64_t strip_blocks = STRIP_KB * 1024 / s->block_bytes;

	if (s->num_blocks < 2 * strip_blocks)
		return NULL;
	return json_pack("{s:s, s:s, s:i, s:[s]}", "name", s->name, "raid_level",
	        rng_one_in(s->rng, 2) ? "raid0" : "concat", "strip_size_kb", STRIP_KB, "base_bdevs",
	        s->bases[0]);
}

static uint64_t expected_blocks(const struct bdev *bdev)
{
	uint64_t strip_blocks = STRIP_KB * 1024 / bdev->geometry.block_bytes;

	return bdev->bases[0]->geometry.num_blocks / strip_blocks * strip_blocks;
}

static struct sim_module raid_sim = {
        .name = "raid",
        .weight = 15,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
        .expected_blocks = expected_blocks,
};
SIM_MODULE(raid_sim);
