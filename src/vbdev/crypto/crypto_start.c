/* needs: gcrypt */
/*
 * crypto_start.c: the start of libgcrypt, which gets its secure memory from keyring/secret.h: a
 * context holds the round keys, from which the key follows.
 */
#include "vbdev/crypto/crypto.h"

#include <string.h>

#include "keyring/secret.h"

static void *alloc(size_t bytes)
{
	return malloc(bytes ? bytes : 1);
}

static void *alloc_secure(size_t bytes)
{
	return secret_alloc(bytes, NULL);
}

static int is_secure(const void *p)
{
	return secret_bytes(p) != 0;
}

static void *resize(void *old, size_t bytes)
{
	size_t old_bytes = old ? secret_bytes(old) : 0;
	void *grown;

	if (!old_bytes)
		return realloc(old, bytes ? bytes : 1);
	grown = secret_alloc(bytes, NULL);
	if (!grown)
		return NULL;
	memcpy(grown, old, min_u64(bytes, old_bytes));
	secret_free(old);
	return grown;
}

static void release(void *p)
{
	if (p && is_secure(p))
		secret_free(p);
	else
		free(p);
}

void crypto_start(void)
{
	static bool started;

	if (started)
		return;
	started = true;
	gcry_set_allocation_handler(alloc, alloc_secure, is_secure, resize, release);
	BELLOWS_ASSERT(gcry_check_version(GCRYPT_VERSION) != NULL);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}
