/*
 * keyring.h: keys by name. A key is a file that only the daemon's user can read; what its bytes
 * mean is up to who uses it.
 *
 * Invariants
 *  - The keyring keeps names and paths, never a key's bytes: they are read when somebody asks, into
 *    memory of secret.h, and belong to who asked.
 *  - Each time the file is looked at, it must be a regular file that belongs to the process's user
 *    and that neither group nor others may read, write or run.
 *  - A key that is removed while somebody has it is not found any more, but shown until the last
 *    one has put it back. Its name is free at once.
 *  - All on the control loop.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"

#define KEYRING_FILE_MAX_BYTES 4096

struct keyring_key;

/* Takes a reference. NULL: there is no key of that name. */
struct keyring_key *keyring_get(const char *name);
void keyring_put(struct keyring_key *key);
const char *keyring_key_name(const struct keyring_key *key);

/*
 * Reads the key's file. done is called once, later, on the control loop. On success err is NULL,
 * bytes is memory of secret.h that the callee frees with secret_free, len is 1 to
 * KEYRING_FILE_MAX_BYTES, and a NUL follows that is not counted. The caller has a reference until
 * then.
 */
typedef void (*keyring_read_fn)(void *arg, char *bytes, size_t len, const struct err *err);
void keyring_read(struct keyring_key *key, keyring_read_fn done, void *arg);

/* Looks at one key after the other, those included that are removed but in use. */
struct keyring_entry {
	const char *name, *path;
	bool removed;
	unsigned refs;
};
void keyring_for_each(void (*fn)(void *arg, const struct keyring_entry *entry), void *arg);

/* Checks the file, then adds the key; done is called once, later. -EPERM: a relative path or a file
 * that others may use; -EEXIST: the name is taken; or why the file can't be read. */
typedef void (*keyring_done_fn)(void *arg, const struct err *err);
void keyring_add_file(const char *name, const char *path, keyring_done_fn done, void *arg);
/* -ENOKEY: there is none of that name. */
int keyring_remove(const char *name, struct err *err);
