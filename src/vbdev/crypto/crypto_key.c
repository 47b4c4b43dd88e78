/* needs: gcrypt */
/* crypto_key.c: the keys that there are. */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define NAME_MAX_BYTES 255

static struct list keys = LIST_INIT(keys);

struct crypto_key *crypto_key_find(const char *name)
{
	struct crypto_key *key;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (key, &keys, link) {
		if (strcmp(key->name, name) == 0)
			return key;
	}
	return NULL;
}

struct crypto_key *crypto_key_next(const struct crypto_key *after)
{
	const struct list *next = after ? after->link.next : keys.next;

	return next == &keys ? NULL : container_of(next, struct crypto_key, link);
}

static void key_free(struct crypto_key *key)
{
	for (unsigned i = 0; i < loops_count(); i++)
		crypto_context_close(key->contexts[i]);
	if (key->source)
		keyring_put(key->source);
	list_remove(&key->link);
	free(key->name);
	free(key);
}

int crypto_key_create(const char *name, enum crypto_cipher cipher, enum crypto_tweak tweak,
        const struct crypto_secret *secret, struct keyring_key *source, struct crypto_key **out,
        struct err *err)
{
	size_t name_bytes = strlen(name);
	struct crypto_key *key;
	int rc = 0;

	if (name_bytes == 0 || name_bytes > NAME_MAX_BYTES)
		return err_set(err, -EINVAL, "the name of a key has 1 to %d bytes, not %zu",
		        NAME_MAX_BYTES, name_bytes);
	if (crypto_key_find(name))
		return err_set(err, -EEXIST, "there is a key '%s' already", name);
	if (cipher == CRYPTO_AES_CBC && tweak != TWEAK_SIMPLE_LBA)
		return err_set(err, -EINVAL, "AES_CBC has tweak mode SIMPLE_LBA only, not %s",
		        crypto_tweak_names[tweak]);
	crypto_start();
	key = xcalloc(1, sizeof(*key));
	key->name = xstrdup(name);
	key->cipher = cipher;
	key->tweak = tweak;
	key->key_bits = 8 * (unsigned)secret->key_bytes;
	list_init(&key->link);
	for (unsigned i = 0; i < loops_count() && rc == 0; i++)
		rc = crypto_context_open(cipher, secret, &key->contexts[i], err);
	if (rc) {
		key_free(key);
		return rc;
	}
	key->source = source;
	list_push_back(&keys, &key->link);
	if (!key->source)
		log_warning("crypto",
		        "key '%s' was given as text: it is not saved with the configuration; put "
		        "it into a file and name that with keyring_file_add_key",
		        name);
	*out = key;
	return 0;
}

int crypto_key_destroy(struct crypto_key *key, struct err *err)
{
	BELLOWS_ASSERT(loop_is_control());
	if (key->users)
		return err_set(err, -EBUSY,
		        "key '%s' is used by %u crypto bdevs; delete them first", key->name,
		        key->users);
	key_free(key);
	return 0;
}
