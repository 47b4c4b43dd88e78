#include "sim/run.h"

static json_t *setup(struct sim_setup *s)
{
	return json_pack("{s:s, s:I, s:I}", "name", s->name, "num_blocks",
	        (json_int_t)s->num_blocks, "block_size", (json_int_t)s->block_bytes);
}

static struct sim_module null_sim = {
        .name = "null",
        .claims = SIM_NO_DATA,
        .weight = 5,
        .setup = setup,
};
SIM_MODULE(null_sim);
