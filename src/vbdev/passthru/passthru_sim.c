#include "sim/run.h"

static json_t *setup(struct sim_setup *s)
{
	return json_pack("{s:s, s:s}", "name", s->name, "base_bdev_name", s->bases[0]);
}

static struct sim_module passthru_sim = {
        .name = "passthru",
        .claims = SIM_IDENTITY,
        .weight = 30,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
};
SIM_MODULE(passthru_sim);
