#include "sim/run.h"

static json_t *setup(struct sim_setup *s)
{
	int us = 1 << rng_below(s->rng, 14);

	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i}", "name", s->name, "base_bdev_name",
	        s->bases[0], "avg_read_latency", us, "p99_read_latency", 2 * us,
	        "avg_write_latency", us, "p99_write_latency", 2 * us);
}

static struct sim_module delay_sim = {
        .name = "delay",
        .claims = SIM_IDENTITY,
        .weight = 15,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
};
SIM_MODULE(delay_sim);
