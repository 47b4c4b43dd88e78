/* needs: gcrypt */
#include "sim/run.h"
#include "vbdev/crypto/crypto.h"

/* What libgcrypt keeps for good must be there before the lives whose leaks are counted. */
__attribute__((constructor)) static void start_early(void)
{
	crypto_start();
}

static void prepare(void)
{
	static const struct crypto_secret secret = {
	        .key_bytes = 16, .keys = "no secret at all, but 32 bytes"};
	struct crypto_key *key;

	BELLOWS_ASSERT(!crypto_key_create(
	        "xts", CRYPTO_AES_XTS, TWEAK_JOIN_NEG_LBA, &secret, NULL, &key, NULL));
	BELLOWS_ASSERT(!crypto_key_create(
	        "cbc", CRYPTO_AES_CBC, TWEAK_SIMPLE_LBA, &secret, NULL, &key, NULL));
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

	return json_pack("{s:s, s:s, s:s, s:b}", "name", s->name, "base_bdev_name", s->bases[0],
	        "key_name", cbc ? "cbc" : "xts", "unmap", (int)unmap);
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
        .prepare = prepare,
};
SIM_MODULE(crypto_sim);
