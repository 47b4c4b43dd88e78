/* needs: gcrypt */
/* crypto_text.c: keys as hex digits. No error repeats any of them. */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

static int digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns how many bytes the digits stand for; 0 with err set. */
static size_t parse_hex(
        const char *what, const char *text, size_t len, uint8_t *out, struct err *err)
{
	if (len != 32 && len != 64) {
		err_set(err, -EINVAL,
		        "%s has %zu characters; it must be 32 hex digits for AES-128 or 64 for "
		        "AES-256",
		        what, len);
		return 0;
	}
	for (size_t i = 0; i < len / 2; i++) {
		int high = digit((uint8_t)text[2 * i]), low = digit((uint8_t)text[2 * i + 1]);

		if (high < 0 || low < 0) {
			err_set(err, -EINVAL, "%s has a character that is no hex digit", what);
			return 0;
		}
		out[i] = (uint8_t)(high << 4 | low);
	}
	return len / 2;
}

/* In a time that does not depend on the bytes. */
static bool equal(const uint8_t *a, const uint8_t *b, size_t len)
{
	uint8_t differ = 0;

	for (size_t i = 0; i < len; i++)
		differ |= a[i] ^ b[i];
	return differ == 0;
}

struct text {
	const char *at;
	size_t len;
};

static int parse(enum crypto_cipher cipher, struct text key, struct text key2,
        struct crypto_secret *out, struct err *err)
{
	size_t second;

	out->key_bytes = parse_hex("key", key.at, key.len, out->keys, err);
	if (!out->key_bytes)
		return -EINVAL;
	if (cipher == CRYPTO_AES_CBC)
		return key2.at ? err_set(err, -EINVAL, "key2 is for AES_XTS; AES_CBC has one key")
		               : 0;
	if (!key2.at)
		return err_set(err, -EINVAL, "AES_XTS needs two keys: key2 is missing");
	second = parse_hex("key2", key2.at, key2.len, out->keys + out->key_bytes, err);
	if (!second)
		return -EINVAL;
	if (second != out->key_bytes)
		return err_set(err, -EINVAL, "key and key2 must have the same length");
	if (equal(out->keys, out->keys + second, second))
		return err_set(err, -EINVAL,
		        "key and key2 are the same, which makes AES_XTS weak: they must differ");
	return 0;
}

int crypto_parse_keys(enum crypto_cipher cipher, const char *key, const char *key2,
        struct crypto_secret *out, struct err *err)
{
	struct text first = {key, strlen(key)}, second = {key2, key2 ? strlen(key2) : 0};

	return parse(cipher, first, second, out, err);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next run of what is no white space; NULL and 0 at the end. */
static struct text next_word(struct cursor *c)
{
	const uint8_t *start;

	while (cursor_left(c) && is_space((char)*c->pos))
		cursor_skip(c, 1);
	start = c->pos;
	while (cursor_left(c) && !is_space((char)*c->pos))
		cursor_skip(c, 1);
	if (c->pos == start)
		return (struct text){0};
	return (struct text){(const char *)start, (size_t)(c->pos - start)};
}

int crypto_parse_file(enum crypto_cipher cipher, const char *bytes, size_t len,
        struct crypto_secret *out, struct err *err)
{
	struct cursor c = cursor_of(bytes, len);
	struct text key = next_word(&c), key2 = next_word(&c), more = next_word(&c);

	if (!key.at)
		return err_set(err, -EINVAL, "it is empty");
	if (more.at)
		return err_set(err, -EINVAL, "there is something behind the keys");
	return parse(cipher, key, key2, out, err);
}
