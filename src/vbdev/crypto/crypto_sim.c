/* needs: gcrypt */
#include <stdlib.h>

#include "sim/run.h"
#include "vbdev/crypto/crypto.h"

/* What libgcrypt keeps for good must be there before the lives whose leaks are counted. */
__attribute__((constructor)) static void start_early(void)
{
	crypto_start();
}

/*
 * CBC needs blocks that are written as a whole, which disks of the simulator promise for 512 bytes.
 * On a base that forgets, a life begins with zeroes, which must be seen as such.
 */
static json_t *setup(struct sim_setup *s)
{
	const struct bdev *base = bdev_find(s->bases[0]);
	bool forgets = !base || stack_kept(base) == MODEL_VOLATILE;
	bool unmap = forgets || rng_one_in(s->rng, 2);
	bool cbc = s->block_bytes == 512 && rng_one_in(s->rng, 3);
	json_t *params = json_pack("{s:s, s:s, s:s, s:s, s:b}", "name", s->name, "base_bdev_name",
	        s->bases[0], "cipher", cbc ? "AES_CBC" : "AES_XTS", "key",
	        "00112233445566778899aabbccddeeff", "unmap", (int)unmap);

	if (!cbc)
		json_object_set_new(
		        params, "key2", json_string("ffeeddccbbaa99887766554433221100"));
	return params;
}

static uint64_t expected_blocks(const struct bdev *bdev)
{
	return bdev->bases[0] ? bdev_num_blocks(bdev->bases[0]) : 0;
}

static struct sim_module crypto_sim = {
        .name = "crypto",
        .weight = 15,
        .bases_min = 1,
        .bases_max = 1,
        .setup = setup,
        .expected_blocks = expected_blocks,
};
SIM_MODULE(crypto_sim);
