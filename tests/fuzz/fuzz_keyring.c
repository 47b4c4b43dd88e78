/* needs: gcrypt */
/* What may be in the file of a key. Any input is refused with a text, or is what its digits say. */
#include <stdlib.h>
#include <string.h>

#include "vbdev/crypto/crypto.h"

static int nibble(uint8_t c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static bool is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Without white space the accepted text is the digits of the bytes, and nothing else. */
static void check_accepted(const uint8_t *data, size_t size, const struct crypto_secret *secret,
        enum crypto_cipher cipher)
{
	size_t expected = secret->key_bytes * (cipher == CRYPTO_AES_XTS ? 2 : 1), digits = 0;

	if (secret->key_bytes != 16 && secret->key_bytes != 32)
		abort();
	for (size_t i = 0; i < size; i++) {
		if (is_space(data[i]))
			continue;
		if (digits / 2 >= expected)
			abort();
		int byte = secret->keys[digits / 2];

		if (nibble(data[i]) != (digits % 2 ? byte & 15 : byte >> 4))
			abort();
		digits++;
	}
	if (digits != 2 * expected)
		abort();
	if (cipher == CRYPTO_AES_XTS &&
	        memcmp(secret->keys, secret->keys + secret->key_bytes, secret->key_bytes) == 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (enum crypto_cipher cipher = CRYPTO_AES_CBC; cipher <= CRYPTO_AES_XTS; cipher++) {
		struct crypto_secret secret = {0};
		struct err err = ERR_NONE;
		/* A copy of the exact length, so that a look past the end is seen. */
		char *bytes = malloc(size ? size : 1);

		if (!bytes)
			return 0;
		if (size)
			memcpy(bytes, data, size);
		int rc = crypto_parse_file(cipher, bytes, size, &secret, &err);

		if (rc != err.code || (rc && !err.text[0]))
			abort();
		if (!rc)
			check_accepted(data, size, &secret, cipher);
		free(bytes);
	}
	return 0;
}
