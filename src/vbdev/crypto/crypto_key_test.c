/* needs: gcrypt */
/* Keys: the methods, what is shown and saved of them, and where their bytes are. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keyring/secret.h"
#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"
#include "vbdev/crypto/crypto.h"

#define KEY "00112233445566778899aabbccddeeff"
#define KEY2 "ffeeddccbbaa99887766554433221100"

static int setup(void **state)
{
	(void)state;
	inproc_start(2);
	inproc_ok("bdev_malloc_create", "{'name': 'm', 'num_blocks': 1024, 'block_size': 512}");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static const char *make_file(const char *text, size_t len)
{
	static char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/key", inproc_dir());
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
	return path;
}

static char *text_of(json_t *json)
{
	char *text = json_dumps(json, JSON_SORT_KEYS | JSON_COMPACT);

	json_decref(json);
	return text;
}

static void test_create_and_destroy(void **state)
{
	(void)state;
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'k', 'cipher': 'AES_XTS', 'key': '" KEY "', 'key2': '" KEY2 "'}");
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'k256', 'cipher': 'AES_XTS', 'key': '" KEY KEY "', 'key2': '" KEY2 KEY
	        "', 'tweak_mode': 'INCR_512_UPPER_LBA'}");
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'cbc', 'cipher': 'AES_CBC', 'key': '" KEY "'}");
	static const struct {
		int code;
		const char *text, *params;
	} bad[] = {
	        {-32602, "'k'", "{'name': 'k', 'cipher': 'AES_CBC', 'key': '" KEY "'}"},
	        {-32602, "key2", "{'name': 'x', 'cipher': 'AES_XTS', 'key': '" KEY "'}"},
	        {-32602, "differ",
	                "{'name': 'x', 'cipher': 'AES_XTS', 'key': '" KEY "', 'key2': '" KEY "'}"},
	        {-32602, "length",
	                "{'name': 'x', 'cipher': 'AES_XTS', 'key': '" KEY "', 'key2': '" KEY KEY
	                "'}"},
	        {-32602, "32 hex", "{'name': 'x', 'cipher': 'AES_CBC', 'key': '0011'}"},
	        {-32602, "no hex",
	                "{'name': 'x', 'cipher': 'AES_CBC', 'key': "
	                "'0011223344556677889gaabbccddeeff'}"},
	        {-32602, "key2",
	                "{'name': 'x', 'cipher': 'AES_CBC', 'key': '" KEY "', 'key2': '" KEY2 "'}"},
	        {-32602, "SIMPLE_LBA",
	                "{'name': 'x', 'cipher': 'AES_CBC', 'key': '" KEY
	                "', 'tweak_mode': 'INCR_512_FULL_LBA'}"},
	        {-32700, "cipher", "{'name': 'x', 'cipher': 'aes', 'key': '0011'}"},
	        {-32700, "keyring_key", "{'name': 'x', 'cipher': 'AES_XTS'}"},
	        {-32602, "keyring has no",
	                "{'name': 'x', 'cipher': 'AES_XTS', 'keyring_key': 'x'}"},
	        {-32602, "both",
	                "{'name': 'x', 'cipher': 'AES_XTS', 'keyring_key': 'x', 'key': '" KEY "'}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		inproc_error(
		        bad[i].code, bad[i].text, "accel_crypto_key_create", "%s", bad[i].params);
	inproc_error(
	        -32602, "No key object found", "accel_crypto_key_destroy", "{'key_name': 'nope'}");
	inproc_error(-32602, "key was not found", "accel_crypto_keys_get", "{'key_name': 'x'}");
	inproc_ok("accel_crypto_key_destroy", "{'key_name': 'k'}");
	autofree char *left = text_of(inproc_result("accel_crypto_keys_get", NULL));

	assert_string_equal(left,
	        "[{\"cipher\":\"AES_XTS\",\"key_bits\":256,\"name\":\"k256\",\"tweak_mode\":"
	        "\"INCR_512_UPPER_LBA\",\"users\":0},{\"cipher\":\"AES_CBC\",\"key_bits\":128,"
	        "\"name\":\"cbc\",\"tweak_mode\":\"SIMPLE_LBA\",\"users\":0}]");
}

static void test_bdev_and_its_key(void **state)
{
	(void)state;
	inproc_error(
	        -32700, "name", "bdev_crypto_create", "{'base_bdev_name': 'm', 'key_name': 'k'}");
	inproc_error(-32602, "Key was not found", "bdev_crypto_create",
	        "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'nope'}");
	inproc_error(-32603, "No key was found", "bdev_crypto_create",
	        "{'base_bdev_name': 'm', 'name': 'c'}");
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'k', 'cipher': 'AES_XTS', 'key': '" KEY "', 'key2': '" KEY2 "'}");
	inproc_error(-32602, "not both", "bdev_crypto_create",
	        "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'k', 'key': '" KEY "'}");
	inproc_ok("bdev_crypto_create", "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'k'}");
	inproc_error(-EEXIST, "'c'", "bdev_crypto_create",
	        "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'k'}");
	expect_driver_specific(
	        "c", "{'crypto': {'base_bdev_name': 'm', 'name': 'c', 'key_name': 'k'}}");
	inproc_error(-32602, "used by 1", "accel_crypto_key_destroy", "{'key_name': 'k'}");
	/* One that waits for its base needs the key, too. */
	inproc_ok("bdev_crypto_create", "{'base_bdev_name': 'w', 'name': 'd', 'key_name': 'k'}");
	inproc_ok("bdev_crypto_delete", "{'name': 'c'}");
	inproc_error(-32602, "used by 1", "accel_crypto_key_destroy", "{'key_name': 'k'}");
	inproc_ok("bdev_malloc_create", "{'name': 'w', 'num_blocks': 64, 'block_size': 4096}");
	inproc_ok("bdev_wait_for_examine", NULL);
	assert_true(bdev_exists("d"));
	expect_saved("bdev_crypto_create",
	        "{'base_bdev_name': 'w', 'name': 'd', 'key_name': 'k', 'unmap': false}");
	inproc_ok("bdev_malloc_delete", "{'name': 'w'}");
	inproc_ok("accel_crypto_key_destroy", "{'key_name': 'k'}");
	inproc_error(-ENODEV, "nope", "bdev_crypto_delete", "{'name': 'nope'}");
}

/* With the key as text it belongs to the bdev, in the making, waiting and made. */
static void test_older_form(void **state)
{
	autofree char *none = NULL, *one = NULL;

	(void)state;
	inproc_error(-32602, "key2", "bdev_crypto_create",
	        "{'base_bdev_name': 'm', 'name': 'c', 'key': '" KEY "', 'cipher': 'AES_XTS'}");
	inproc_error(-EEXIST, "'m'", "bdev_crypto_create",
	        "{'base_bdev_name': 'm', 'name': 'm', 'key': '" KEY "'}");
	inproc_ok("bdev_crypto_create",
	        "{'base_bdev_name': 'later', 'name': 'd', 'key': '" KEY "', 'crypto_pmd': 'x'}");
	inproc_ok("bdev_crypto_delete", "{'name': 'd'}");
	none = text_of(inproc_result("accel_crypto_keys_get", NULL));
	assert_string_equal(none, "[]");
	inproc_ok("bdev_crypto_create", "{'base_bdev_name': 'm', 'name': 'c', 'key': '" KEY
	                                "', 'key2': '" KEY2 "', 'cipher': 'AES_XTS'}");
	one = text_of(inproc_result("accel_crypto_keys_get", "{'key_name': 'c_AES_XTS'}"));
	assert_string_equal(one, "[{\"cipher\":\"AES_XTS\",\"key_bits\":128,\"name\":\"c_AES_XTS\","
	                         "\"tweak_mode\":\"SIMPLE_LBA\",\"users\":1}]");
	inproc_ok("bdev_crypto_delete", "{'name': 'c'}");
	free(none);
	none = text_of(inproc_result("accel_crypto_keys_get", NULL));
	assert_string_equal(none, "[]");
}

/* A key of the keyring is saved by name; one given as text without itself, so that loading says
 * what is missing. */
static void test_saved(void **state)
{
	const char *path = make_file(KEY "\n" KEY2 "\n", 2 * 33);
	autofree char *calls = NULL;

	(void)state;
	inproc_ok("keyring_file_add_key", "{'name': 'file', 'path': '%s'}", path);
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'a', 'cipher': 'AES_XTS', 'keyring_key': 'file'}");
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'b', 'cipher': 'AES_XTS', 'key': '" KEY "', 'key2': '" KEY2 "'}");
	calls = text_of(inproc_result("framework_get_config", "{'name': 'accel'}"));
	assert_string_equal(calls,
	        "[{\"method\":\"accel_crypto_key_create\",\"params\":{\"cipher\":\"AES_XTS\","
	        "\"keyring_key\":\"file\",\"name\":\"a\",\"tweak_mode\":\"SIMPLE_LBA\"}},"
	        "{\"method\":\"accel_crypto_key_create\",\"params\":{\"cipher\":\"AES_XTS\","
	        "\"name\":\"b\",\"tweak_mode\":\"SIMPLE_LBA\"}}]");
	/* Both are the same key. */
	uint8_t plain[512] = "text", bytes[512];

	inproc_ok("bdev_crypto_create", "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'a'}");
	struct disk *disk = disk_open("c", true);

	assert_int_equal(disk_write(disk, 7, 1, plain), 0);
	disk_close(disk);
	inproc_ok("bdev_crypto_delete", "{'name': 'c'}");
	inproc_ok("bdev_crypto_create", "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'b'}");
	disk = disk_open("c", true);
	assert_int_equal(disk_read(disk, 7, 1, bytes), 0);
	assert_memory_equal(plain, bytes, 512);
	disk_close(disk);
	inproc_ok("bdev_crypto_delete", "{'name': 'c'}");
	make_file("00", 2);
	inproc_ok("accel_crypto_key_destroy", "{'key_name': 'a'}");
	inproc_error(-32602, "32 hex digits", "accel_crypto_key_create",
	        "{'name': 'a', 'cipher': 'AES_XTS', 'keyring_key': 'file'}");
	unlink(path);
	inproc_error(-32602, "can't be opened", "accel_crypto_key_create",
	        "{'name': 'a', 'cipher': 'AES_XTS', 'keyring_key': 'file'}");
}

/* ---- where the bytes are -----------------------------------------------------------------------
 */

#define MASK 0x5a

/* The sanitizers turn mlock into nothing; what is left out of dumps shows in their builds, too. */
#define LOCKED_FLAG " lo"
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef LOCKED_FLAG
#define LOCKED_FLAG " dd"
#endif
#endif

/* A pattern that is not in memory itself. */
struct masked {
	uint8_t bytes[32];
	size_t len;
};

static struct masked mask(const void *bytes, size_t len)
{
	struct masked m = {.len = len};

	for (size_t i = 0; i < len; i++)
		m.bytes[i] = ((const uint8_t *)bytes)[i] ^ MASK;
	return m;
}

struct found {
	unsigned secret, open; /* in memory that is locked and not dumped, and elsewhere */
};

static void search(const uint8_t *bytes, size_t len, const struct masked *m, unsigned *count)
{
	for (size_t i = 0; i + m->len <= len; i++) {
		size_t k = 0;

		while (k < m->len && (bytes[i + k] ^ MASK) == m->bytes[k])
			k++;
		*count += k == m->len;
	}
}

/* Looks through all memory of this process that can be written. */
static struct found find_in_memory(const struct masked *m)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	int mem = open("/proc/self/mem", O_RDONLY);
	unsigned long from = 0, to = 0, a, b;
	struct found found = {0};
	char line[512], rights[8] = "", r[8];

	assert_true(maps != NULL && mem >= 0);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &a, &b, r) == 3) {
			from = a;
			to = b;
			memcpy(rights, r, sizeof(r));
		}
		if (strncmp(line, "VmFlags:", 8) != 0 || rights[1] != 'w' || to - from > GIB(1))
			continue;
		bool secret = strstr(line, LOCKED_FLAG) && strstr(line, " dd");
		size_t len = to - from;
		uint8_t *copy = malloc(len);

		assert_non_null(copy);
		if (pread(mem, copy, len, (off_t)from) == (ssize_t)len)
			search(copy, len, m, secret ? &found.secret : &found.open);
		secret_wipe(copy, len);
		free(copy);
	}
	fclose(maps);
	close(mem);
	return found;
}

static void test_where_the_bytes_are(void **state)
{
	uint8_t keys[32];
	char text[2 * 33 + 1];

	(void)state;
	loop_random_bytes(keys, sizeof(keys));
	for (unsigned i = 0; i < 32; i++)
		snprintf(text + 2 * i + (i >= 16), 4, "%02x\n", keys[i]);
	struct masked raw = mask(keys, 16), raw2 = mask(keys + 16, 16), hex = mask(text, 32);

	make_file(text, strlen(text));
	secret_wipe(keys, sizeof(keys));
	secret_wipe(text, sizeof(text));
	inproc_ok("keyring_file_add_key", "{'name': 'file', 'path': '%s/key'}", inproc_dir());
	inproc_ok("accel_crypto_key_create",
	        "{'name': 'k', 'cipher': 'AES_XTS', 'keyring_key': 'file'}");
	inproc_ok("bdev_crypto_create", "{'base_bdev_name': 'm', 'name': 'c', 'key_name': 'k'}");
	struct disk *disk = disk_open("c", true);
	uint8_t block[512] = {0};

	for (unsigned loop = 1; loop <= 2; loop++) {
		assert_int_equal(disk_do(disk, loop, BIO_WRITE, 0, loop, 1, block), 0);
		assert_int_equal(disk_do(disk, loop, BIO_READ, 0, loop, 1, block), 0);
	}
	disk_close(disk);
	/* In the contexts of three loops at least, and nowhere else; the text nowhere. */
	struct found found = find_in_memory(&raw);

	assert_true(found.secret >= 3);
	assert_int_equal(found.open, 0);
	found = find_in_memory(&raw2);
	assert_true(found.secret >= 3);
	assert_int_equal(found.open, 0);
	found = find_in_memory(&hex);
	assert_int_equal(found.secret + found.open, 0);
	inproc_ok("bdev_crypto_delete", "{'name': 'c'}");
	inproc_ok("accel_crypto_key_destroy", "{'key_name': 'k'}");
	found = find_in_memory(&raw);
	assert_int_equal(found.secret + found.open, 0);
	found = find_in_memory(&raw2);
	assert_int_equal(found.secret + found.open, 0);
}

/* There is nothing but the processor. */
static void test_what_accelerates(void **state)
{
	json_t *assigned, *modules, *first, *operations;
	const char *name;
	size_t i;

	(void)state;
	inproc_error(-32602, "no parameters", "accel_get_opc_assignments", "{}");
	inproc_error(-32602, "no parameters", "accel_get_module_info", "{}");
	assigned = inproc_result("accel_get_opc_assignments", NULL);
	modules = inproc_result("accel_get_module_info", NULL);
	first = json_array_get(modules, 0);
	operations = json_object_get(first, "supported ops");
	assert_int_equal(json_array_size(modules), 1);
	assert_string_equal(json_string_value(json_object_get(first, "module")), "software");
	assert_int_equal(json_array_size(operations), json_object_size(assigned));
	for (i = 0; i < json_array_size(operations); i++) {
		name = json_string_value(json_array_get(operations, i));
		assert_string_equal(json_string_value(json_object_get(assigned, name)), "software");
	}
	assert_non_null(json_object_get(assigned, "encrypt"));
	json_decref(assigned);
	json_decref(modules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_create_and_destroy, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_bdev_and_its_key, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_older_form, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_saved, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_where_the_bytes_are, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_what_accelerates, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
