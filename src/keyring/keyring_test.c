/* The keyring: which files it takes, who gets a key's bytes, and where these are meanwhile. */
#include "keyring/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "keyring/secret.h"
#include "tests/lib/inproc.h"

static int setup(void **state)
{
	(void)state;
	inproc_start(1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	inproc_stop();
	return 0;
}

static const char *make_file(const char *name, const char *text, size_t len, mode_t mode)
{
	static char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", inproc_dir(), name);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static void expect_keys(const char *json)
{
	json_t *is = inproc_result("keyring_get_keys", NULL), *should;
	autofree char *text = json_dumps(is, 0);

	should = json_loads(json, 0, NULL);
	assert_non_null(should);
	if (!json_equal(is, should))
		fail_msg("%s, expected %s", text, json);
	json_decref(is);
	json_decref(should);
}

/* ---- methods -----------------------------------------------------------------------------------
 */

static void test_add_and_remove(void **state)
{
	const char *path = make_file("a", "secret", 6, 0600);
	autofree char *listed = xasprintf(
	        "[{\"name\":\"k0\",\"module\":\"keyring_file\",\"removed\":false,\"probed\":false,"
	        "\"refcnt\":1,\"path\":\"%s\"}]",
	        path);
	autofree char *saved = xasprintf("[{\"method\":\"keyring_file_add_key\",\"params\":"
	                                 "{\"name\":\"k0\",\"path\":\"%s\"}}]",
	        path);

	(void)state;
	expect_keys("[]");
	inproc_ok("keyring_file_add_key", "{'name': 'k0', 'path': '%s', 'more': 1}", path);
	expect_keys(listed);
	inproc_error(-EEXIST, "k0", "keyring_file_add_key", "{'name': 'k0', 'path': '%s'}", path);
	inproc_error(-EPERM, "rel", "keyring_file_add_key", "{'name': 'k1', 'path': 'rel'}");
	inproc_error(-ENOENT, "/none", "keyring_file_add_key", "{'name': 'k1', 'path': '/none'}");
	inproc_error(-EINVAL, "name", "keyring_file_add_key", "{'name': '', 'path': '%s'}", path);
	inproc_error(-32602, "path", "keyring_file_add_key", "{'name': 'k1'}");

	json_t *section = inproc_result("framework_get_config", "{'name': 'keyring'}");
	json_t *should = json_loads(saved, 0, NULL);

	assert_true(json_equal(section, should));
	json_decref(section);
	json_decref(should);
	inproc_ok("keyring_file_remove_key", "{'name': 'k0'}");
	inproc_error(-ENOKEY, "k0", "keyring_file_remove_key", "{'name': 'k0'}");
	expect_keys("[]");
}

static void test_files_that_others_may_use(void **state)
{
	static const mode_t bad[] = {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0666, 0777};
	static const mode_t good[] = {0600, 0400, 0700};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		inproc_error(-EPERM, "mode", "keyring_file_add_key", "{'name': 'k', 'path': '%s'}",
		        make_file("b", "x", 1, bad[i]));
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		inproc_ok("keyring_file_add_key", "{'name': 'k', 'path': '%s'}",
		        make_file("b", "x", 1, good[i]));
		inproc_ok("keyring_file_remove_key", "{'name': 'k'}");
	}
	inproc_error(-EINVAL, "regular", "keyring_file_add_key", "{'name': 'k', 'path': '%s'}",
	        inproc_dir());
	inproc_error(
	        -EINVAL, "regular", "keyring_file_add_key", "{'name': 'k', 'path': '/dev/zero'}");
	if (getuid() == 0) { /* only root can give a file away */
		const char *path = make_file("b", "x", 1, 0600);

		assert_int_equal(chown(path, 65534, 65534), 0);
		inproc_error(-EPERM, "65534", "keyring_file_add_key", "{'name': 'k', 'path': '%s'}",
		        path);
	}
}

/* ---- reading -----------------------------------------------------------------------------------
 */

struct reading {
	const char *name;
	struct keyring_key *key;
	char bytes[KEYRING_FILE_MAX_BYTES + 1];
	size_t len;
	bool was_secret;
	struct err err;
	sem_t done;
};

static void read_done(void *arg, char *bytes, size_t len, const struct err *err)
{
	struct reading *r = arg;

	r->err = err ? *err : (struct err)ERR_NONE;
	r->len = len;
	r->was_secret = bytes && secret_bytes(bytes) > len;
	if (bytes)
		memcpy(r->bytes, bytes, len + 1);
	secret_free(bytes);
	sem_post(&r->done);
}

static void start_read(void *arg)
{
	struct reading *r = arg;

	if (!r->key)
		r->key = keyring_get(r->name);
	BELLOWS_ASSERT(r->key);
	keyring_read(r->key, read_done, r);
}

static void put(void *arg)
{
	struct reading *r = arg;

	keyring_put(r->key);
}

static void read_key(struct reading *r)
{
	sem_init(&r->done, 0, 0);
	inproc_run(start_read, r);
	while (sem_wait(&r->done) != 0)
		;
	sem_destroy(&r->done);
}

static void test_read(void **state)
{
	static char large[KEYRING_FILE_MAX_BYTES + 1];
	static struct reading r;
	const char *path = make_file("c", "line\n\0more", 10, 0600);

	(void)state;
	memset(large, 'l', sizeof(large));
	r = (struct reading){.name = "k"};
	inproc_ok("keyring_file_add_key", "{'name': 'k', 'path': '%s'}", path);
	read_key(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(r.len, 10);
	assert_memory_equal(r.bytes, "line\n\0more", 11);
	assert_true(r.was_secret);
	/* It is looked at each time. */
	make_file("c", "", 0, 0600);
	read_key(&r);
	assert_int_equal(r.err.code, -EINVAL);
	make_file("c", large, sizeof(large), 0600);
	read_key(&r);
	assert_int_equal(r.err.code, -EINVAL);
	make_file("c", large, sizeof(large) - 1, 0600);
	read_key(&r);
	assert_int_equal(r.err.code, 0);
	assert_int_equal(r.len, KEYRING_FILE_MAX_BYTES);
	make_file("c", "x", 1, 0660);
	read_key(&r);
	assert_int_equal(r.err.code, -EPERM);
	unlink(path);
	read_key(&r);
	assert_int_equal(r.err.code, -ENOENT);
	inproc_run(put, &r);
}

/* Who has a key keeps it; its name is free. */
static void test_removed_in_use(void **state)
{
	static struct reading r;
	const char *path = make_file("d", "old", 3, 0600);
	json_t *keys;

	(void)state;
	r = (struct reading){.name = "k"};
	inproc_ok("keyring_file_add_key", "{'name': 'k', 'path': '%s'}", path);
	read_key(&r);
	inproc_ok("keyring_file_remove_key", "{'name': 'k'}");
	keys = inproc_result("keyring_get_keys", NULL);
	assert_int_equal(json_array_size(keys), 1);
	assert_true(json_is_true(json_object_get(json_array_get(keys, 0), "removed")));
	json_decref(keys);
	inproc_ok("keyring_file_add_key", "{'name': 'k', 'path': '%s'}", path);
	read_key(&r);
	assert_int_equal(r.err.code, 0);
	inproc_run(put, &r);
	keys = inproc_result("keyring_get_keys", NULL);
	assert_int_equal(json_array_size(keys), 1);
	assert_true(json_is_false(json_object_get(json_array_get(keys, 0), "removed")));
	json_decref(keys);
}

/* ---- secret memory -----------------------------------------------------------------------------
 */

/* The sanitizers turn mlock into nothing; what is left out of dumps shows in their builds, too. */
#define LOCKED_FLAG " lo"
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef LOCKED_FLAG
#define LOCKED_FLAG " dd"
#endif
#endif

/* Whether the kernel has these flags for the mapping that the address lies in. */
static bool has_vm_flags(const void *address, const char *flag, const char *other)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long from, to;
	bool in = false, found = false;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			in = (uintptr_t)address >= from && (uintptr_t)address < to;
		else if (in && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) && strstr(line, other);
	}
	fclose(f);
	return found;
}

static void test_secret_memory(void **state)
{
	struct err err = ERR_NONE;
	uint8_t *a = secret_alloc(100, &err), *b = secret_alloc(10000, &err);

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal((uintptr_t)a % CACHE_LINE_BYTES, 0);
	assert_int_equal(secret_bytes(a), 100);
	assert_int_equal(secret_bytes(b), 10000);
	assert_int_equal(secret_bytes(a + 1), 0);
	for (unsigned i = 0; i < 10000; i++)
		assert_int_equal(b[i], 0);
	memset(b, 1, 10000);
	assert_true(has_vm_flags(a, LOCKED_FLAG, " dd"));
	assert_true(has_vm_flags(b + 9999, LOCKED_FLAG, " dd"));
	secret_free(a);
	assert_int_equal(secret_bytes(a), 0);
	secret_free(b);
	secret_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_add_and_remove, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_files_that_others_may_use, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_removed_in_use, setup, teardown),
	        cmocka_unit_test(test_secret_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
