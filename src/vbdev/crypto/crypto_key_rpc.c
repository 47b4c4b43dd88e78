/* needs: gcrypt */
/* crypto_key_rpc.c: the methods accel_crypto_key_*, and the section "accel" of a configuration. */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

#include "keyring/secret.h"

/* ---- accel_crypto_key_create -------------------------------------------------------------------
 */

struct create_params {
	char *name, *key, *key2, *keyring_key;
	int cipher, tweak_mode;
};

static const struct param create_table[] = {
        {PARAM(struct create_params, name, PARAM_STRING), .required = true,
                .help = "what the key is called from now on"},
        {PARAM(struct create_params, cipher, PARAM_ENUM), .required = true,
                .values = crypto_cipher_names, .help = "AES_XTS, unless old data is AES_CBC"},
        {PARAM(struct create_params, keyring_key, PARAM_STRING),
                .help = "name of a key of the keyring, whose file has the hex digits of key and, "
                        "for AES_XTS, white space and those of key2. This form can be saved"},
        {PARAM(struct create_params, key, PARAM_STRING), .secret = true,
                .help = "in place of keyring_key: 32 hex digits for AES-128, 64 for AES-256. Is "
                        "never saved"},
        {PARAM(struct create_params, key2, PARAM_STRING), .secret = true,
                .help = "with key, for AES_XTS: as many hex digits, and others"},
        {PARAM(struct create_params, tweak_mode, PARAM_ENUM), .values = crypto_tweak_names,
                .def = TWEAK_SIMPLE_LBA, .help = "how a block's number enters its encryption"},
        {0},
};

/* A request that waits for the file. */
struct making {
	struct rpc_request *request;
	char *name;
	enum crypto_cipher cipher;
	enum crypto_tweak tweak;
	struct keyring_key *source;
};

static void answer(struct rpc_request *request, const char *name, const struct err *err)
{
	if (err->code)
		rpc_fail(request, RPC_INVALID_PARAMS, "crypto key '%s': %s", name, err->text);
	else
		rpc_reply(request, NULL);
}

static void make_of_file(void *arg, char *bytes, size_t len, const struct err *read_err)
{
	struct making *m = arg;
	struct crypto_secret *secret = NULL;
	struct crypto_key *key;
	struct err err = ERR_NONE;

	if (read_err)
		err = *read_err;
	else if ((secret = secret_alloc(sizeof(*secret), &err)) &&
	         crypto_parse_file(m->cipher, bytes, len, secret, &err))
		err_prefix(&err, "in the file of the keyring's '%s'", keyring_key_name(m->source));
	if (!err.code &&
	        crypto_key_create(m->name, m->cipher, m->tweak, secret, m->source, &key, &err) == 0)
		m->source = NULL;
	secret_free(secret);
	secret_free(bytes);
	answer(m->request, m->name, &err);
	if (m->source)
		keyring_put(m->source);
	free(m->name);
	free(m);
}

static void make_of_text(struct rpc_request *request, const struct create_params *p)
{
	enum crypto_cipher cipher = (enum crypto_cipher)p->cipher;
	enum crypto_tweak tweak = (enum crypto_tweak)p->tweak_mode;
	struct err err = ERR_NONE;
	struct crypto_secret *secret = secret_alloc(sizeof(*secret), &err);
	struct crypto_key *key;

	if (secret && crypto_parse_keys(cipher, p->key, p->key2, secret, &err) == 0)
		(void)!crypto_key_create(p->name, cipher, tweak, secret, NULL, &key, &err);
	secret_free(secret);
	answer(request, p->name, &err);
}

static void create_handler(struct rpc_request *request, void *params)
{
	const struct create_params *p = params;
	struct keyring_key *source;
	struct making *m;

	if (p->keyring_key && (p->key || p->key2)) {
		rpc_fail(
		        request, RPC_INVALID_PARAMS, "give keyring_key, or key and key2, not both");
	} else if (p->key) {
		make_of_text(request, p);
	} else if (!p->keyring_key) {
		rpc_fail(request, RPC_PARSE_ERROR,
		        "crypto key '%s': neither keyring_key nor key is given. A key that was "
		        "given as text is not saved: put it into a file, add that with "
		        "keyring_file_add_key, and name it by keyring_key",
		        p->name);
	} else if (!(source = keyring_get(p->keyring_key))) {
		rpc_fail(request, RPC_INVALID_PARAMS,
		        "crypto key '%s': the keyring has no key '%s'; add it with "
		        "keyring_file_add_key",
		        p->name, p->keyring_key);
	} else {
		m = xcalloc(1, sizeof(*m));
		m->request = request;
		m->name = xstrdup(p->name);
		m->cipher = (enum crypto_cipher)p->cipher;
		m->tweak = (enum crypto_tweak)p->tweak_mode;
		m->source = source;
		keyring_read(source, make_of_file, m);
	}
}

static struct rpc_method accel_crypto_key_create = {
        .name = "accel_crypto_key_create",
        .summary = "Makes a key for crypto bdevs",
        .result_help = "true",
        .params = create_table,
        .params_bytes = sizeof(struct create_params),
        .decode_error = RPC_PARSE_ERROR,
        .handler = create_handler,
};
RPC_METHOD(accel_crypto_key_create);

/* ---- accel_crypto_key_destroy ------------------------------------------------------------------
 */

struct destroy_params {
	char *key_name;
};

static const struct param destroy_table[] = {
        {PARAM(struct destroy_params, key_name, PARAM_STRING), .required = true,
                .help = "a key that no bdev uses"},
        {0},
};

static void destroy_handler(struct rpc_request *request, void *params)
{
	const struct destroy_params *p = params;
	struct crypto_key *key = crypto_key_find(p->key_name);
	struct err err = ERR_NONE;

	if (!key)
		rpc_fail(request, RPC_INVALID_PARAMS, "No key object found: there is no '%s'",
		        p->key_name);
	else if (crypto_key_destroy(key, &err))
		rpc_fail(request, RPC_INVALID_PARAMS, "%s", err.text);
	else
		rpc_reply(request, NULL);
}

static struct rpc_method accel_crypto_key_destroy = {
        .name = "accel_crypto_key_destroy",
        .summary = "Wipes a key that no bdev uses",
        .result_help = "true",
        .params = destroy_table,
        .params_bytes = sizeof(struct destroy_params),
        .decode_error = RPC_PARSE_ERROR,
        .handler = destroy_handler,
};
RPC_METHOD(accel_crypto_key_destroy);

/* ---- accel_crypto_keys_get ---------------------------------------------------------------------
 */

struct get_params {
	char *key_name;
};

static const struct param get_table[] = {
        {PARAM(struct get_params, key_name, PARAM_STRING), .help = "only this one"},
        {0},
};

/* What a key is made by, without the key. */
static json_t *parameters(const struct crypto_key *key)
{
	json_t *object = json_pack("{s:s, s:s, s:s}", "name", key->name, "cipher",
	        crypto_cipher_names[key->cipher], "tweak_mode", crypto_tweak_names[key->tweak]);

	if (key->source)
		json_object_set_new(
		        object, "keyring_key", json_string(keyring_key_name(key->source)));
	return object;
}

static void get_handler(struct rpc_request *request, void *params)
{
	const struct get_params *p = params;
	struct crypto_key *key = NULL;
	json_t *list;

	if (p->key_name && !crypto_key_find(p->key_name)) {
		rpc_fail(request, RPC_INVALID_PARAMS, "key was not found: there is no '%s'",
		        p->key_name);
		return;
	}
	list = json_array();
	while ((key = crypto_key_next(key))) {
		if (p->key_name && strcmp(p->key_name, key->name) != 0)
			continue;
		json_t *entry = parameters(key);

		json_object_set_new(entry, "key_bits", json_integer((json_int_t)key->key_bits));
		json_object_set_new(entry, "users", json_integer((json_int_t)key->users));
		json_array_append_new(list, entry);
	}
	rpc_reply(request, list);
}

static struct rpc_method accel_crypto_keys_get = {
        .name = "accel_crypto_keys_get",
        .summary = "The keys for crypto bdevs, without what is secret of them",
        .result_help = "list of objects: name, cipher, tweak_mode, key_bits, users, and "
                       "keyring_key if it was made of one",
        .params = get_table,
        .params_bytes = sizeof(struct get_params),
        .decode_error = RPC_PARSE_ERROR,
        .handler = get_handler,
};
RPC_METHOD(accel_crypto_keys_get);

/* ---- the section -------------------------------------------------------------------------------
 */

/* A key that belongs to a bdev made with its key as text can't come back, nor can one that was
 * given as text: both are saved without it, so that loading says what is missing. */
static json_t *save(void)
{
	json_t *list = crypto_accel_save();
	struct crypto_key *key = NULL;

	while ((key = crypto_key_next(key)))
		json_array_append_new(
		        list, json_pack("{s:s, s:o}", "method", "accel_crypto_key_create", "params",
		                      parameters(key)));
	return list;
}

static const char *const depends_on[] = {"iobuf", "keyring", NULL};
static struct rpc_subsystem accel_subsystem = {
        .name = "accel", .depends_on = depends_on, .save = save};
RPC_SUBSYSTEM(accel_subsystem);
