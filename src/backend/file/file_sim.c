#include <stdio.h>

#include "sim/run.h"

static json_t *setup(struct sim_setup *s)
{
	snprintf(s->file, sizeof(s->file), "/disk/%s", s->name);
	s->file_is_block = rng_one_in(s->rng, 3);
	return json_pack("{s:s, s:s, s:I}", "name", s->name, "filename", s->file, "block_size",
	        (json_int_t)s->block_bytes);
}

static struct sim_module aio_sim = {
        .name = "aio",
        .claims = SIM_WATCHES,
        .weight = 60,
        .setup = setup,
};
SIM_MODULE(aio_sim);

static struct sim_module uring_sim = {
        .name = "uring",
        .claims = SIM_WATCHES,
        .weight = 20,
        .setup = setup,
};
SIM_MODULE(uring_sim);
