/* needs: gcrypt */
/*
 * The methods of the layers as clients of the reference know them: each parameter of the reference
 * is there, and what can't be decoded has the code that the reference gives it, which differs from
 * method to method. What the methods do is tested beside each module.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc.h"
#include "tests/lib/inproc.h"

static const struct known {
	const char *method;
	int code;           /* for a parameter that it does not have */
	const char *params; /* of the reference */
	const char *needs;  /* the calls that must fail are those without one of these */
} methods[] = {
        {"bdev_passthru_create", RPC_INTERNAL_ERROR, "name base_bdev_name uuid",
                "name base_bdev_name"},
        {"bdev_passthru_delete", RPC_INTERNAL_ERROR, "name", "name"},
        {"bdev_delay_create", RPC_INTERNAL_ERROR,
                "name base_bdev_name avg_read_latency p99_read_latency avg_write_latency "
                "p99_write_latency uuid",
                "name base_bdev_name avg_read_latency p99_read_latency avg_write_latency "
                "p99_write_latency"},
        {"bdev_delay_delete", RPC_INTERNAL_ERROR, "name", "name"},
        {"bdev_delay_update_latency", RPC_INTERNAL_ERROR, "delay_bdev_name latency_type latency_us",
                "delay_bdev_name latency_type latency_us"},
        {"bdev_error_create", RPC_INVALID_PARAMS, "base_name uuid", "base_name"},
        {"bdev_error_delete", RPC_INVALID_PARAMS, "name", "name"},
        {"bdev_error_inject_error", RPC_INVALID_PARAMS,
                "name io_type error_type nvme_sct nvme_sc num queue_depth corrupt_offset "
                "corrupt_value",
                "name io_type error_type"},
        {"bdev_error_resume_pending", RPC_INVALID_PARAMS, "name", "name"},
        {"bdev_split_create", RPC_INVALID_PARAMS, "base_bdev split_count split_size_mb",
                "base_bdev split_count"},
        {"bdev_split_delete", RPC_INVALID_PARAMS, "base_bdev", "base_bdev"},
        {"bdev_zone_block_create", RPC_INVALID_PARAMS,
                "name base_bdev zone_capacity optimal_open_zones",
                "name base_bdev zone_capacity optimal_open_zones"},
        {"bdev_zone_block_delete", RPC_INVALID_PARAMS, "name", "name"},
        {"accel_crypto_key_create", RPC_PARSE_ERROR, "name cipher key key2 tweak_mode",
                "name cipher"},
        {"accel_crypto_key_destroy", RPC_PARSE_ERROR, "key_name", "key_name"},
        {"accel_crypto_keys_get", RPC_PARSE_ERROR, "key_name", ""},
        {"bdev_crypto_create", RPC_PARSE_ERROR,
                "base_bdev_name name crypto_pmd key cipher key2 key_name", "base_bdev_name name"},
        {"bdev_crypto_delete", RPC_INVALID_PARAMS, "name", "name"},
        {"keyring_file_remove_key", RPC_INVALID_PARAMS, "name", "name"},
};

/* Calls fn for each word. */
static void for_each_word(const char *words, const struct known *m,
        void (*fn)(const struct known *m, const char *word))
{
	char copy[256], *rest = copy, *word;

	str_copy(copy, sizeof(copy), words);
	while ((word = strsep(&rest, " "))) {
		if (*word)
			fn(m, word);
	}
}

/* The answer to an unknown parameter lists those that there are. */
static void expect_listed(const struct known *m, const char *word)
{
	autofree char *first = xasprintf(": %s", word), *other = xasprintf(", %s", word);
	json_t *reply = inproc_call(m->method, "{'none_such': 1}");
	const char *message;
	json_int_t code;

	assert_int_equal(
	        json_unpack(reply, "{s:{s:I, s:s}}", "error", "code", &code, "message", &message),
	        0);
	if (code != m->code || !strstr(message, "'none_such' is unknown") ||
	        (!strstr(message, first) && !strstr(message, other)))
		fail_msg("%s, %s: %lld, %s", m->method, word, (long long)code, message);
	json_decref(reply);
}

static json_t *sample(const char *word)
{
	static const struct {
		const char *word, *text;
	} texts[] = {{"latency_type", "avg_read"}, {"io_type", "read"}, {"error_type", "failure"},
	        {"cipher", "AES_XTS"}};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(texts[i].word, word) == 0)
			return json_string(texts[i].text);
	}
	return strstr(word, "latency") || strstr(word, "zone") || strstr(word, "count")
	               ? json_integer(1)
	               : json_string("x");
}

static json_t *all_needed;

static void add_needed(const struct known *m, const char *word)
{
	(void)m;
	json_object_set_new(all_needed, word, sample(word));
}

static void expect_needed(const struct known *m, const char *word)
{
	json_t *params, *reply;
	const char *message;
	json_int_t code;

	all_needed = json_object();
	for_each_word(m->needs, m, add_needed);
	json_object_del(all_needed, word);
	params = all_needed;
	autofree char *text = json_dumps(params, 0);

	reply = inproc_call(m->method, "%s", text);
	assert_int_equal(
	        json_unpack(reply, "{s:{s:I, s:s}}", "error", "code", &code, "message", &message),
	        0);
	if (code != m->code || !strstr(message, word) || !strstr(message, "is required"))
		fail_msg("%s without %s: %lld, %s", m->method, word, (long long)code, message);
	json_decref(reply);
	json_decref(params);
}

static void test_parameters(void **state)
{
	(void)state;
	inproc_start(1);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		for_each_word(methods[i].params, &methods[i], expect_listed);
		for_each_word(methods[i].needs, &methods[i], expect_needed);
	}
	inproc_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_parameters)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
