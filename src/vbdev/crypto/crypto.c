/* needs: gcrypt */
/*
 * crypto.c: a bdev whose base holds ciphertext. Writes are encrypted into a buffer of the frame,
 * reads are decrypted where they are. Every block is encrypted by itself, so there is nothing to
 * keep and nothing that a resize could touch.
 */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

struct crypto {
	struct crypto_params params;
	uint8_t *scratch; /* a block per loop */
};

/* Written before any request comes. */
struct crypto_loop {
	struct crypto_unit unit;
	uint8_t *scratch;
	uint32_t max_blocks; /* of a request; one that is longer is cut */
	bool zero_is_zero;   /* zeroes on the base were never written, and read as such */
};

/* Of a request that is cut. The first two words are the core's. */
struct parts_ctx {
	uint64_t core[2], at; /* blocks that have been given to parts */
};

/* ---- the data view -----------------------------------------------------------------------------
 */

struct walk {
	const struct iovec *iov;
	size_t skip; /* in *iov */
};

static void walk_skip_empty(struct walk *w)
{
	while (w->skip >= w->iov->iov_len) {
		w->skip -= w->iov->iov_len;
		w->iov++;
	}
}

/* Copies the next len bytes, which are there, to or from flat memory. */
static void walk_copy(struct walk *w, uint8_t *flat, size_t len, bool to_flat)
{
	while (len > 0) {
		walk_skip_empty(w);
		size_t n = min_u64(len, w->iov->iov_len - w->skip);
		uint8_t *at = (uint8_t *)w->iov->iov_base + w->skip;

		if (to_flat)
			memcpy(flat, at, n);
		else
			memcpy(at, flat, n);
		w->skip += n;
		flat += n;
		len -= n;
	}
}

static struct walk walk_of(const struct bio *bio)
{
	return (struct walk){.iov = bio->iov, .skip = bio->iov_skip_bytes};
}

/* How many of the next `left` blocks lie in one piece, at *at. 0: the next one is cut. */
static uint64_t walk_blocks(struct walk *w, unsigned shift, uint64_t left, uint8_t **at)
{
	walk_skip_empty(w);
	*at = (uint8_t *)w->iov->iov_base + w->skip;
	uint64_t n = min_u64((w->iov->iov_len - w->skip) >> shift, left);

	w->skip += n << shift;
	return n;
}

/* ---- requests ----------------------------------------------------------------------------------
 */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	uint64_t first;

	memcpy(&first, bytes, sizeof(first));
	return first == 0 && memcmp(bytes, bytes + sizeof(first), len - sizeof(first)) == 0;
}

#define SECTOR_BYTES 512U /* no disk tears less */
#define SECTORS_MAX (65536 / SECTOR_BYTES)

/*
 * Where zeroes are zeroes. It goes by sectors, as a crash may leave a part of a block written, or
 * unmapped.
 */
static int decrypt_sparse(const struct crypto_unit *unit, uint64_t lba, uint8_t *at)
{
	unsigned sectors = (1U << unit->block_shift) / SECTOR_BYTES, zeroes = 0;
	bool zero[SECTORS_MAX];
	int rc;

	for (unsigned i = 0; i < sectors; i++) {
		zero[i] = is_zero(at + i * SECTOR_BYTES, SECTOR_BYTES);
		zeroes += zero[i];
	}
	if (zeroes == sectors)
		return 0;
	rc = crypto_decrypt(unit, lba, 1, at);
	for (unsigned i = 0; zeroes > 0 && i < sectors; i++) {
		if (zero[i])
			memset(at + i * SECTOR_BYTES, 0, SECTOR_BYTES);
	}
	return rc;
}

static int decrypt_run(const struct crypto_loop *cl, uint64_t lba, uint64_t num_blocks, uint8_t *at)
{
	int rc = 0;

	if (likely(!cl->zero_is_zero))
		return crypto_decrypt(&cl->unit, lba, num_blocks, at);
	for (uint64_t i = 0; i < num_blocks && rc == 0; i++, at += 1ULL << cl->unit.block_shift)
		rc = decrypt_sparse(&cl->unit, lba + i, at);
	return rc;
}

static int decrypt_bio(struct bio *bio, const struct crypto_loop *cl)
{
	unsigned shift = cl->unit.block_shift;
	uint64_t lba = bio_offset(bio), left = bio->num_blocks, n;
	struct walk w = walk_of(bio);
	int rc = 0;

	for (; left > 0 && rc == 0; left -= n, lba += n) {
		uint8_t *at;

		n = walk_blocks(&w, shift, left, &at);
		if (likely(n > 0)) {
			rc = decrypt_run(cl, lba, n, at);
			continue;
		}
		struct walk back = w;

		n = 1;
		walk_copy(&w, cl->scratch, (size_t)1 << shift, true);
		rc = decrypt_run(cl, lba, 1, cl->scratch);
		walk_copy(&back, cl->scratch, (size_t)1 << shift, false);
	}
	return rc;
}

static int encrypt_bio(const struct bio *bio, const struct crypto_unit *unit, uint8_t *to)
{
	unsigned shift = unit->block_shift;
	uint64_t lba = bio_offset(bio), left = bio->num_blocks, n;
	struct walk w = walk_of(bio);
	int rc = 0;

	for (; left > 0 && rc == 0; left -= n, lba += n, to += n << shift) {
		uint8_t *at;

		n = walk_blocks(&w, shift, left, &at);
		if (unlikely(n == 0)) {
			n = 1;
			walk_copy(&w, to, (size_t)1 << shift, true);
			at = to;
		}
		rc = crypto_encrypt(unit, lba, n, at, to);
	}
	return rc;
}

static void read_done(struct bio *bio)
{
	const struct crypto_loop *cl = bdev_loop_state(bio_bdev(bio), bio->loop);

	bio_complete_up(bio, bio->status ? bio->status : decrypt_bio(bio, cl));
}

static void write_done(struct bio *bio)
{
	bio_restore_data(bio);
	bio_complete_up(bio, bio->status);
}

/* ---- long requests ---- */

#define PARTS_IN_FLIGHT 8

static void submit_parts(struct bio *bio);

static void parts_done(struct bio *bio)
{
	if (bio->status != 0 || bio_ctx(bio, struct parts_ctx)->at == bio->num_blocks)
		bio_complete(bio, bio->status);
	else
		submit_parts(bio);
}

/* A few at a time, so that one request neither holds all buffers nor keeps the loop for long. */
static void submit_parts(struct bio *bio)
{
	const struct crypto_loop *cl = bdev_loop_state(bio_bdev(bio), bio->loop);
	uint64_t at = bio_ctx(bio, struct parts_ctx)->at, n;

	if (!bio_split_begin_own(bio, PARTS_IN_FLIGHT, submit_parts))
		return;
	for (unsigned i = 0; i < PARTS_IN_FLIGHT && at < bio->num_blocks; i++, at += n) {
		n = min_u64(cl->max_blocks, bio->num_blocks - at);
		bio_split_add_own(bio, bio_offset(bio) + at, n, at << bio_bdev(bio)->block_shift);
	}
	bio_ctx(bio, struct parts_ctx)->at = at;
	bio_split_end(bio, parts_done);
}

static bool is_long(const struct bio *bio, const struct crypto_loop *cl)
{
	return bio->num_blocks > cl->max_blocks && (bio->op == BIO_READ || bio->op == BIO_WRITE);
}

static void crypto_submit(struct bio *bio)
{
	struct bdev *bdev = bio_bdev(bio);
	const struct crypto_loop *cl = bdev_loop_state(bdev, bio->loop);
	void *buffer;
	int rc;

	if (unlikely(is_long(bio, cl))) {
		bio_ctx(bio, struct parts_ctx)->at = 0;
		submit_parts(bio);
		return;
	}
	switch ((enum bio_op)bio->op) {
	case BIO_READ:
		bio_forward(bio, bdev->bases[0], bio_offset(bio), read_done);
		return;
	case BIO_WRITE:
		buffer = bio_bounce(bio, bio_bytes(bio), crypto_submit);
		if (!buffer)
			return;
		rc = encrypt_bio(bio, &cl->unit, buffer);
		if (unlikely(rc != 0)) {
			bio_complete(bio, rc);
			return;
		}
		bio_replace_data(bio, buffer);
		bio_forward_bounced(bio, bdev->bases[0], bio_offset(bio), write_done);
		return;
	default:
		bio_forward(bio, bdev->bases[0], bio_offset(bio), NULL);
	}
}

/* ---- the bdev ----------------------------------------------------------------------------------
 */

/* Zeroes must be stored as ciphertext, and a compare must see plaintext: the core makes both of
 * reads and writes. What is unmapped reads as zeroes only where zeroes are looked for. */
static int crypto_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct crypto *crypto = bdev->priv;
	uint32_t caps = BIO_CAP(BIO_READ) | BIO_CAP(BIO_WRITE) | BIO_CAP(BIO_FLUSH) |
	                BIO_CAP(BIO_RESET) | BIO_CAP_FUA;

	if (in->bases[0].block_bytes == 0)
		return err_set(err, -ENODEV, "its base is gone");
	if (crypto->params.unmap)
		caps |= BIO_CAP(BIO_UNMAP) | BIO_CAP(BIO_BLOCK_STATUS);
	out->caps &= caps;
	return 0;
}

/* As much as a buffer holds; and what is cut should not be cut across stripes. */
static uint32_t max_blocks(const struct bdev_geometry *g)
{
	uint32_t max = (uint32_t)(BIO_BOUNCE_MAX_BYTES / g->block_bytes);
	uint32_t boundary = g->optimal_io_boundary_blocks;

	return boundary && boundary <= max ? max - max % boundary : max;
}

static void crypto_online(struct bdev *bdev, struct bdev_done done)
{
	struct crypto *crypto = bdev->priv;
	const struct crypto_key *key = crypto->params.key;
	size_t block = bdev->geometry.block_bytes;
	struct err err = ERR_NONE;

	crypto->scratch = try_alloc_aligned(CACHE_LINE_BYTES, loops_count() * block);
	if (!crypto->scratch) {
		err_set(&err, -ENOMEM, "there is no memory for a block per loop");
		bdev_done_call(done, &err);
		return;
	}
	for (unsigned i = 0; i < loops_count(); i++) {
		struct crypto_loop *cl = bdev->loops[i].state;

		cl->unit = (struct crypto_unit){.context = key->contexts[i],
		        .tweak = key->cipher == CRYPTO_AES_CBC ? TWEAK_CBC : key->tweak,
		        .block_shift = bdev->block_shift};
		cl->scratch = crypto->scratch + i * block;
		cl->max_blocks = max_blocks(&bdev->geometry);
		cl->zero_is_zero = crypto->params.unmap;
	}
	if (!key->source)
		bdev_set_problem(bdev, "key",
		        "its key was given as text, and is not saved with the configuration",
		        "put the key into a file, add that with keyring_file_add_key, and make the "
		        "key of it");
	bdev_done_call(done, NULL);
}

static void crypto_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct crypto *crypto = bdev->priv;

	free(steal_ptr(&crypto->scratch));
	bdev_done_call(done, NULL);
}

static json_t *crypto_describe(const struct bdev *bdev)
{
	const struct crypto *crypto = bdev->priv;
	json_t *members = json_pack("{s:s, s:s, s:s}", "base_bdev_name", bdev->bases[0]->name,
	        "name", bdev->name, "key_name", crypto->params.key_name);

	if (crypto->params.unmap)
		json_object_set_new(members, "unmap", json_true());
	return json_pack("{s:o}", "crypto", members);
}

static void crypto_stop(void)
{
	struct crypto_key *key;

	while ((key = crypto_key_next(NULL)))
		BELLOWS_ASSERT(crypto_key_destroy(key, NULL) == 0);
	crypto_accel_forget();
}

/* The key comes from a file, so that what is saved brings it back. */
static json_t *crypto_example(const struct bdev_example *wanted)
{
	static const char *const ciphers[] = {"AES_XTS", "AES_XTS", "AES_CBC"};

	if (wanted->variant >= ARRAY_SIZE(ciphers))
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:s}}, {s:s, s:{s:s, s:s, s:s, s:s}}, "
	                 "{s:s, s:{s:s, s:s, s:s, s:b}}]",
	        "method", "keyring_file_add_key", "params", "name", "example file", "path",
	        wanted->variant == 2 ? wanted->key_paths[0] : wanted->key_paths[1], "method",
	        "accel_crypto_key_create", "params", "name", "example key", "cipher",
	        ciphers[wanted->variant], "keyring_key", "example file", "tweak_mode",
	        wanted->variant == 1 ? "JOIN_NEG_LBA_WITH_LBA" : "SIMPLE_LBA", "method",
	        "bdev_crypto_create", "params", "name", wanted->name, "base_bdev_name",
	        wanted->bases[0], "key_name", "example key", "unmap", wanted->variant == 1);
}

struct bdev_module crypto_module = {
        .name = "crypto",
        .product_name = "crypto",
        .summary = "encrypts what it stores on its base",
        .bases_min = 1,
        .bases_max = 1,
        .priv_bytes = sizeof(struct crypto),
        .params = crypto_param_table,
        .loop_state_bytes = sizeof(struct crypto_loop),
        .methods = crypto_methods,
        .decode_error = RPC_INVALID_PARAMS,
        .geometry = crypto_geometry,
        .submit = crypto_submit,
        .online = crypto_online,
        .destroy = crypto_destroy,
        .describe = crypto_describe,
        .stop = crypto_stop,
        .example = crypto_example,
};
BDEV_MODULE(crypto_module);
