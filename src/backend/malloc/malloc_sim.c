#include "sim/run.h"

static json_t *setup(struct sim_setup *s)
{
	return json_pack("{s:s, s:I, s:I, s:i}", "name", s->name, "num_blocks",
	        (json_int_t)s->num_blocks, "block_size", (json_int_t)s->block_bytes,
	        "optimal_io_boundary", rng_one_in(s->rng, 3) ? 16 : 0);
}

static struct sim_module malloc_sim = {
        .name = "malloc",
        .claims = SIM_VOLATILE,
        .weight = 15,
        .setup = setup,
};
SIM_MODULE(malloc_sim);
