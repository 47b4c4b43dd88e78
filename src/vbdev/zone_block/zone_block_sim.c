#include "sim/run.h"

/* Nearly all requests of the workload are refused, as zones are full at first: what is looked at
 * here is how it lives with others. Its requests and data have a simulation of their own. */
static json_t *setup(struct sim_setup *s)
{
	uint64_t max = min_u64(max_u64(s->num_blocks / 8, 1), 64); /* it may shrink before */
	uint64_t capacity = rng_range(s->rng, 1, max), open_zones = rng_below(s->rng, 4);

	return json_pack("{s:s, s:s, s:I, s:i, s:I}", "name", s->name, "base_bdev", s->bases[0],
	        "zone_capacity", (json_int_t)capacity, "optimal_open_zones", 1, "max_open_zones",
	        (json_int_t)open_zones);
}

static uint64_t expected_blocks(const struct bdev *bdev)
{
	uint64_t zone = bdev->geometry.zone_blocks;

	return bdev->bases[0] ? bdev_num_blocks(bdev->bases[0]) / zone * zone : 0;
}

static struct sim_module zone_block_sim = {
        .name = "zone_block",
        .claims = SIM_FAILS | SIM_NO_DATA,
        .weight = 8,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
        .expected_blocks = expected_blocks,
};
SIM_MODULE(zone_block_sim);
