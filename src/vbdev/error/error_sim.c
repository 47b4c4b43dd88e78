#include "sim/run.h"

/* Without an injected error it is a pass-through. */
static json_t *setup(struct sim_setup *s)
{
	return json_pack("{s:s, s:s}", "name", s->name, "base_name", s->bases[0]);
}

static struct sim_module error_sim = {
        .name = "error",
        .claims = SIM_IDENTITY,
        .weight = 10,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
};
SIM_MODULE(error_sim);
