#include "sim/run.h"

static json_t *setup(struct sim_setup *s)
{
	uint64_t parts = rng_range(s->rng, 2, 3);

	return s->num_blocks < 4 * parts ? NULL
	                                 : json_pack("{s:s, s:I}", "base_bdev", s->bases[0],
	                                           "split_count", (json_int_t)parts);
}

static struct sim_module split_sim = {
        .name = "split",
        .remove_key = "base_bdev",
        .claims = SIM_RELAID,
        .weight = 25,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
};
SIM_MODULE(split_sim);
