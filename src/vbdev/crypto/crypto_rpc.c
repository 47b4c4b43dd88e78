/* needs: gcrypt */
/* crypto_rpc.c: bdev_crypto_create, with a key by name or, as in earlier times, with the key. */
#include "vbdev/crypto/crypto.h"

#include <errno.h>
#include <string.h>

#include "keyring/secret.h"

struct create_params {
	char *base_bdev_name, *name, *crypto_pmd;
	uuid_t uuid;
	char *key, *key2;
	int cipher;
	struct crypto_params own;
};

/* Of one's own, beside name, base and uuid: what is saved. */
const struct param crypto_param_table[] = {
        {PARAM(struct crypto_params, key_name, PARAM_STRING), .required = true,
                .help = "a key made by accel_crypto_key_create"},
        {PARAM(struct crypto_params, unmap, PARAM_BOOL),
                .help = "pass unmap to the base, and read blocks of zeroes there as zeroes; shows "
                        "who sees the base which blocks are in use"},
        {0},
};

static const struct param create_table[] = {
        {PARAM(struct create_params, base_bdev_name, PARAM_STRING), .required = true,
                .help = "the bdev that holds the ciphertext; may appear later"},
        {PARAM(struct create_params, name, PARAM_STRING), .required = true,
                .help = "name of the new bdev"},
        {PARAM(struct create_params, uuid, PARAM_UUID),
                .help = "default: derived from the base's UUID"},
        {PARAM_NAMED("key_name", struct create_params, own.key_name, PARAM_STRING),
                .help = "a key made by accel_crypto_key_create"},
        {PARAM_NAMED("unmap", struct create_params, own.unmap, PARAM_BOOL),
                .help = "pass unmap to the base, and read blocks of zeroes there as zeroes; shows "
                        "who sees the base which blocks are in use"},
        {PARAM(struct create_params, key, PARAM_STRING), .secret = true,
                .help = "in place of key_name: hex digits; makes a key <name>_<cipher> that is "
                        "gone with the bdev, and is not saved"},
        {PARAM(struct create_params, key2, PARAM_STRING), .secret = true,
                .help = "with key, for AES_XTS: hex digits"},
        {PARAM(struct create_params, cipher, PARAM_ENUM), .values = crypto_cipher_names,
                .def = CRYPTO_AES_CBC, .help = "with key"},
        {PARAM(struct create_params, crypto_pmd, PARAM_STRING), .help = "accepted; has no effect"},
        {0},
};

void crypto_params_release(const struct bdev_module *module, void *params)
{
	struct crypto_params *p = params;

	(void)module;
	if (p->key) {
		p->key->users--;
		if (p->owns_key)
			BELLOWS_ASSERT(crypto_key_destroy(p->key, NULL) == 0);
	}
	free(p->key_name);
}

/* Makes the key that was given as text, named as the reference names it. */
static struct crypto_key *make_key(struct create_params *p, struct err *err)
{
	autofree char *name = xasprintf("%s_%s", p->name, crypto_cipher_names[p->cipher]);
	enum crypto_cipher cipher = (enum crypto_cipher)p->cipher;
	struct crypto_secret *secret = secret_alloc(sizeof(*secret), err);
	struct crypto_key *key = NULL;
	int rc = -ENOMEM;

	if (secret)
		rc = crypto_parse_keys(cipher, p->key, p->key2, secret, err);
	if (!rc)
		rc = crypto_key_create(name, cipher, TWEAK_SIMPLE_LBA, secret, NULL, &key, err);
	secret_free(secret);
	if (rc)
		return NULL;
	p->own.key_name = xstrdup(key->name);
	p->own.owns_key = true;
	return key;
}

/* 0, or the code of the answer with err set. */
static int choose_key(struct create_params *p, struct err *err)
{
	if (p->own.key_name && p->key)
		return err_set(err, RPC_INVALID_PARAMS, "give key_name or key, not both");
	if (!p->own.key_name && !p->key)
		return err_set(err, RPC_INTERNAL_ERROR, "No key was found: give key_name");
	p->own.key = p->key ? make_key(p, err) : crypto_key_find(p->own.key_name);
	if (!p->own.key && !p->key)
		return err_set(err, RPC_INVALID_PARAMS,
		        "Key was not found: there is no crypto key '%s'; make it with "
		        "accel_crypto_key_create",
		        p->own.key_name);
	if (!p->own.key) {
		err->code = RPC_INVALID_PARAMS;
		return err->code;
	}
	p->own.key->users++;
	return 0;
}

struct creation {
	struct rpc_request *request;
	char *name;
};

static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	struct creation *creation = arg;

	(void)bdev;
	if (err && err->code)
		rpc_fail_err(creation->request, err);
	else
		rpc_reply(creation->request, json_string(creation->name));
	free(creation->name);
	free(creation);
}

static void create_handler(struct rpc_request *request, void *params)
{
	struct create_params *p = params;
	struct creation *creation;
	struct crypto_params own;
	struct err err = ERR_NONE;

	if (choose_key(p, &err)) {
		rpc_fail_err(request, &err);
		return;
	}
	creation = xcalloc(1, sizeof(*creation));
	creation->request = request;
	creation->name = xstrdup(p->name);
	/* From here on the core has what own holds, and an answer may free params. */
	own = p->own;
	memset(&p->own, 0, sizeof(p->own));
	autofree char *base = xstrdup(p->base_bdev_name);
	struct bdev_spec spec = {
	        .module = &crypto_module,
	        .name = creation->name,
	        .bases = (const char *const *)&base,
	        .num_bases = 1,
	        .params = &own,
	        .params_bytes = sizeof(own),
	        .free_params = crypto_params_release,
	        .wait_for_bases = true,
	};

	uuid_copy(spec.uuid, p->uuid);
	bdev_create(&spec, created, creation);
}

const struct rpc_method crypto_methods[] = {
        {
                .name = "bdev_crypto_create",
                .summary = "encrypts what it stores on its base",
                .result_help = "name of the bdev",
                .params = create_table,
                .params_bytes = sizeof(struct create_params),
                .decode_error = RPC_PARSE_ERROR,
                .handler = create_handler,
        },
        {0},
};
