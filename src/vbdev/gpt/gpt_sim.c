#include "sim/run.h"

/*
 * On a disk itself that keeps its data. Above a layer that shows the same blocks as its base, who
 * creates one layer after the other would find the table on the lowest.
 */
static json_t *setup(struct sim_setup *s)
{
	const struct bdev *base = loop_is_control() ? bdev_find(s->bases[0]) : NULL;
	uint64_t table_blocks = 2 * 16384 / s->block_bytes + 3;
	uint64_t count = rng_range(s->rng, 1, 3);

	/* A script's stack is drawn before there are any bdevs. */
	if (base && (base->num_bases > 0 || stack_kept(base) != MODEL_KEPT || stack_fails(base)))
		return NULL;
	if (s->num_blocks < table_blocks + (count + 1) * (4096 / s->block_bytes))
		return NULL;
	return json_pack(
	        "{s:s, s:I}", "base_bdev", s->bases[0], "partition_count", (json_int_t)count);
}

/* Fits the table to the disk. */
static json_t *operation(const struct bdev *bdev, struct rng *rng, const char **method)
{
	*method = "bdev_gpt_grow";
	return json_pack("{s:s, s:b}", "base_bdev", bdev->bases[0]->name, "extend_last",
	        rng_one_in(rng, 2) ? 1 : 0);
}

static struct sim_module gpt_sim = {
        .name = "gpt",
        .remove_key = "base_bdev",
        .claims = SIM_FOUND,
        .weight = 15,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
        .operation = operation,
};
SIM_MODULE(gpt_sim);
