/*
 * crypto.h: what the files of the crypto bdev share.
 *
 * Invariants
 *  - A key's bytes are in memory of keyring/secret.h only: while it is made, and as the round keys
 *    in libgcrypt's contexts. They are wiped when the key is destroyed, which is refused while
 *    anything uses it. Nothing shows them again.
 *  - A key has one context per loop, made with it on the control loop and used by that loop alone.
 *  - One block is one data unit. Its tweak depends on its number in the crypto bdev and on nothing
 *    else, so neither a resize nor what the base is made of changes what is stored.
 */
#pragma once

#include <gcrypt.h>

#include "bdev/bdev.h"
#include "keyring/keyring.h"
#include "rpc/rpc.h"

/* ---- crypto_cipher.c: blocks and contexts ------------------------------------------------------
 */

enum crypto_cipher {
	CRYPTO_AES_CBC,
	CRYPTO_AES_XTS,
};

/*
 * The 16 bytes that a block's number enters its encryption by: two halves of 8 bytes, each
 * little-endian, in the order in which they are given to the cipher.
 */
enum crypto_tweak {
	TWEAK_SIMPLE_LBA,    /* 0; the block's number */
	TWEAK_JOIN_NEG_LBA,  /* the number's complement without the highest bit; the number */
	TWEAK_512_FULL_LBA,  /* 0; the number of the block's first 512 bytes */
	TWEAK_512_UPPER_LBA, /* the number of the block's first 512 bytes; 0 */
	TWEAK_CBC,           /* the block's number; 0. The initial vector of CBC, and no choice */
};

extern const char *const crypto_cipher_names[], *const crypto_tweak_names[];

#define CRYPTO_KEY_MAX_BYTES 32 /* AES-256 */

/* The two keys of XTS, or the one of CBC, of the same length. */
struct crypto_secret {
	size_t key_bytes; /* 16 or 32 */
	uint8_t keys[2 * CRYPTO_KEY_MAX_BYTES];
};

/* Makes libgcrypt ready; once, before the first context. Control loop, or before the loops start.
 */
void crypto_start(void);
int crypto_context_open(enum crypto_cipher cipher, const struct crypto_secret *secret,
        gcry_cipher_hd_t *out, struct err *err) must_check;
void crypto_context_close(gcry_cipher_hd_t context);

struct crypto_unit {
	gcry_cipher_hd_t context;
	enum crypto_tweak tweak;
	unsigned block_shift;
};
/* num_blocks blocks, of which the first has this number. from may be to, but may not overlap it
 * otherwise. 0 or -EIO. */
int crypto_encrypt(const struct crypto_unit *unit, uint64_t lba, uint64_t num_blocks,
        const uint8_t *from, uint8_t *to);
int crypto_decrypt(
        const struct crypto_unit *unit, uint64_t lba, uint64_t num_blocks, uint8_t *bytes);

/* ---- crypto_text.c: keys as text ---------------------------------------------------------------
 */

/* Hex digits: key, for XTS then key2. key2 NULL: there is none. */
int crypto_parse_keys(enum crypto_cipher cipher, const char *key, const char *key2,
        struct crypto_secret *out, struct err *err) must_check;
/* What is in a key's file: the digits of key, for XTS white space and those of key2, with white
 * space around. */
int crypto_parse_file(enum crypto_cipher cipher, const char *bytes, size_t len,
        struct crypto_secret *out, struct err *err) must_check;

/* ---- crypto_key.c: keys by name (control loop) -------------------------------------------------
 */

struct crypto_key {
	struct list link;
	char *name;
	enum crypto_cipher cipher;
	enum crypto_tweak tweak;
	unsigned key_bits;
	struct keyring_key *source; /* NULL: it was given as text, and can't be saved */
	unsigned users;             /* bdevs, and creations that wait for their base */
	gcry_cipher_hd_t contexts[LOOPS_MAX];
};

/* source may be NULL; on success the caller's reference is the key's. -EEXIST: the name is taken.
 */
int crypto_key_create(const char *name, enum crypto_cipher cipher, enum crypto_tweak tweak,
        const struct crypto_secret *secret, struct keyring_key *source, struct crypto_key **out,
        struct err *err) must_check;
/* -EBUSY: it has users. */
int crypto_key_destroy(struct crypto_key *key, struct err *err);
struct crypto_key *crypto_key_find(const char *name);
/* In order of creation; NULL starts and ends. */
struct crypto_key *crypto_key_next(const struct crypto_key *after);

/* ---- crypto_accel.c: options without effect -----------------------------------------------------
 */

/* A new list of calls. */
json_t *crypto_accel_save(void);
void crypto_accel_forget(void);

/* ---- the bdev ----------------------------------------------------------------------------------
 */

struct crypto_params {
	char *key_name;
	bool unmap;
	/* not parameters of their own: */
	bool owns_key; /* made for this bdev, and gone with it */
	struct crypto_key *key;
};

/* Lets go of what the parameters hold. */
void crypto_params_release(const struct bdev_module *module, void *params);

extern const struct param crypto_param_table[];
extern const struct rpc_method crypto_methods[];
extern struct bdev_module crypto_module;
