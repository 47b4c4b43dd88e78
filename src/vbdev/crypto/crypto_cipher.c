/* needs: gcrypt */
/* tidy: data path */
/*
 * crypto_cipher.c: libgcrypt: its start, contexts in locked memory, and blocks.
 */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

#include "keyring/secret.h"

const char *const crypto_cipher_names[] = {"AES_CBC", "AES_XTS", NULL};
const char *const crypto_tweak_names[] = {
        "SIMPLE_LBA", "JOIN_NEG_LBA_WITH_LBA", "INCR_512_FULL_LBA", "INCR_512_UPPER_LBA", NULL};

/* ---- blocks ------------------------------------------------------------------------------------
 */

#define TWEAK_BYTES 16

static inline void set_tweak(const struct crypto_unit *unit, uint64_t lba, uint64_t tweak[2])
{
	uint64_t first = 0, last = lba;

	switch (unit->tweak) {
	case TWEAK_SIMPLE_LBA:
		break;
	case TWEAK_JOIN_NEG_LBA:
		first = ~lba & INT64_MAX;
		break;
	case TWEAK_512_FULL_LBA:
		last = lba << (unit->block_shift - 9);
		break;
	case TWEAK_512_UPPER_LBA:
		first = lba << (unit->block_shift - 9);
		last = 0;
		break;
	case TWEAK_CBC:
		first = lba;
		last = 0;
		break;
	}
	tweak[0] = host_le64(first);
	tweak[1] = host_le64(last);
}

int crypto_encrypt(const struct crypto_unit *unit, uint64_t lba, uint64_t num_blocks,
        const uint8_t *from, uint8_t *to)
{
	size_t bytes = (size_t)1 << unit->block_shift;
	uint64_t tweak[2];
	gcry_error_t failed = 0;

	for (uint64_t i = 0; i < num_blocks; i++, from += bytes, to += bytes) {
		set_tweak(unit, lba + i, tweak);
		failed |= gcry_cipher_setiv(unit->context, tweak, TWEAK_BYTES);
		failed |= from == to ? gcry_cipher_encrypt(unit->context, to, bytes, NULL, 0)
		                     : gcry_cipher_encrypt(unit->context, to, bytes, from, bytes);
	}
	return likely(!failed) ? 0 : -EIO;
}

int crypto_decrypt(
        const struct crypto_unit *unit, uint64_t lba, uint64_t num_blocks, uint8_t *bytes)
{
	size_t block = (size_t)1 << unit->block_shift;
	uint64_t tweak[2];
	gcry_error_t failed = 0;

	for (uint64_t i = 0; i < num_blocks; i++, bytes += block) {
		set_tweak(unit, lba + i, tweak);
		failed |= gcry_cipher_setiv(unit->context, tweak, TWEAK_BYTES);
		failed |= gcry_cipher_decrypt(unit->context, bytes, block, NULL, 0);
	}
	return likely(!failed) ? 0 : -EIO;
}

/* ---- contexts ----------------------------------------------------------------------------------
 */

int crypto_context_open(enum crypto_cipher cipher, const struct crypto_secret *secret,
        gcry_cipher_hd_t *out, struct err *err)
{
	int algo = secret->key_bytes == 16 ? GCRY_CIPHER_AES128 : GCRY_CIPHER_AES256;
	int mode = cipher == CRYPTO_AES_XTS ? GCRY_CIPHER_MODE_XTS : GCRY_CIPHER_MODE_CBC;
	size_t len = cipher == CRYPTO_AES_XTS ? 2 * secret->key_bytes : secret->key_bytes;
	gcry_cipher_hd_t context = NULL;
	gcry_error_t failed = gcry_cipher_open(&context, algo, mode, GCRY_CIPHER_SECURE);

	if (!failed)
		failed = gcry_cipher_setkey(context, secret->keys, len);
	if (!failed) {
		*out = context;
		return 0;
	}
	crypto_context_close(context);
	if (gcry_err_code(failed) == GPG_ERR_ENOMEM)
		return err_set(err, -ENOMEM,
		        "there is no memory that can be locked for the key; raise the limit "
		        "(LimitMEMLOCK= of the service, or ulimit -l)");
	return err_set(err, -EINVAL, "libgcrypt refuses the key: %s", gcry_strerror(failed));
}

void crypto_context_close(gcry_cipher_hd_t context)
{
	gcry_cipher_close(context);
}
