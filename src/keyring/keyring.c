/* keyring.c: the names, and reading the files behind them. */
#include "keyring/keyring.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "keyring/secret.h"
#include "loop/loop.h"

#define NAME_MAX_BYTES 255

struct keyring_key {
	struct list link;
	char *name, *path;
	bool removed;
	unsigned refs; /* one of the keyring, until it is removed */
};

static struct list keys = LIST_INIT(keys);

static struct keyring_key *find(const char *name)
{
	struct keyring_key *key;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (key, &keys, link) {
		if (!key->removed && strcmp(key->name, name) == 0)
			return key;
	}
	return NULL;
}

struct keyring_key *keyring_get(const char *name)
{
	struct keyring_key *key = find(name);

	if (key)
		key->refs++;
	return key;
}

void keyring_put(struct keyring_key *key)
{
	BELLOWS_ASSERT(loop_is_control() && key->refs > 0);
	if (--key->refs > 0)
		return;
	list_remove(&key->link);
	free(key->name);
	free(key->path);
	free(key);
}

const char *keyring_key_name(const struct keyring_key *key)
{
	return key->name;
}

int keyring_remove(const char *name, struct err *err)
{
	struct keyring_key *key = find(name);

	if (!key)
		return err_set(err, -ENOKEY, "there is no key '%s'", name);
	key->removed = true;
	keyring_put(key);
	return 0;
}

void keyring_for_each(void (*fn)(void *arg, const struct keyring_entry *entry), void *arg)
{
	struct keyring_key *key;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (key, &keys, link) {
		const struct keyring_entry entry = {.name = key->name,
		        .path = key->path,
		        .removed = key->removed,
		        .refs = key->refs};

		fn(arg, &entry);
	}
}

/* ---- files -------------------------------------------------------------------------------------
 */

/* One look at a file: open, check who may read it, read it if somebody wants to, close. */
struct look {
	struct loop_op op;
	char *name, *path;
	struct loop_file *file;
	struct loop_file_info info;
	struct iovec iov;
	char *bytes; /* NULL: it is only checked */
	size_t len;
	struct err err;
	void (*done)(struct look *look);
	keyring_done_fn added;
	keyring_read_fn read;
	void *arg;
};

static void look_end(struct look *look)
{
	look->done(look);
	secret_free(look->bytes);
	free(look->name);
	free(look->path);
	free(look);
}

static void closed(struct loop_op *op, int result)
{
	(void)result; /* it was only read */
	look_end(container_of(op, struct look, op));
}

static void look_close(struct look *look)
{
	look->op.done = closed;
	loop_file_close(loop_self(), &look->op, look->file);
}

static void read_done(struct loop_op *op, int result)
{
	struct look *look = container_of(op, struct look, op);

	if (result < 0)
		err_set(&look->err, result, "key '%s': %s can't be read", look->name, look->path);
	else if (result == 0 || result > KEYRING_FILE_MAX_BYTES)
		err_set(&look->err, -EINVAL, "key '%s': %s %s", look->name, look->path,
		        result ? "is too long for a key: at most 4096 bytes" : "is empty");
	else
		look->len = (size_t)result;
	look_close(look);
}

static int check_file(const struct look *look, struct err *err)
{
	const struct loop_file_info *info = &look->info;

	if (info->is_block_device)
		return err_set(err, -EINVAL, "key '%s': %s is a block device, not a regular file",
		        look->name, look->path);
	if (info->owner_uid != getuid())
		return err_set(err, -EPERM,
		        "key '%s': %s belongs to user %u, and this process is user %u; make it its "
		        "owner",
		        look->name, look->path, info->owner_uid, (unsigned)getuid());
	if (info->mode & 077)
		return err_set(err, -EPERM,
		        "key '%s': %s has mode %04o, so others than its owner may use it: chmod "
		        "600 it, and change the key if anybody may have read it",
		        look->name, look->path, info->mode);
	return 0;
}

static void stat_done(struct loop_op *op, int result)
{
	struct look *look = container_of(op, struct look, op);

	if (result < 0) {
		err_set(&look->err, result, "key '%s': %s", look->name, look->path);
		look_close(look);
		return;
	}
	/* One byte more than a key may have, so that a longer one shows. */
	if (check_file(look, &look->err) || !look->read ||
	        !(look->bytes = secret_alloc(KEYRING_FILE_MAX_BYTES + 2, &look->err))) {
		look_close(look);
		return;
	}
	look->iov = (struct iovec){look->bytes, KEYRING_FILE_MAX_BYTES + 1};
	look->op.done = read_done;
	loop_file_readv(loop_self(), op, look->file, &look->iov, 1, 0);
}

static void open_done(struct loop_op *op, int result)
{
	struct look *look = container_of(op, struct look, op);

	if (result < 0) {
		err_set(&look->err, result == -ENOTBLK || result == -EISDIR ? -EINVAL : result,
		        "key '%s': %s %s", look->name, look->path,
		        result == -ENOTBLK || result == -EISDIR ? "is not a regular file"
		                                                : "can't be opened");
		look_end(look);
		return;
	}
	look->op.done = stat_done;
	loop_file_stat(loop_self(), op, look->file, &look->info);
}

static struct look *look_at(
        const char *name, const char *path, void (*done)(struct look *), void *arg)
{
	struct look *look = xcalloc(1, sizeof(*look));

	look->name = xstrdup(name);
	look->path = xstrdup(path);
	look->done = done;
	look->arg = arg;
	look->op.done = open_done;
	loop_file_open(loop_self(), &look->op, look->path, LOOP_FILE_READ_ONLY, &look->file);
	return look;
}

/* ---- reading and adding ------------------------------------------------------------------------
 */

static void read_end(struct look *look)
{
	if (look->err.code) {
		look->read(look->arg, NULL, 0, &look->err);
		return;
	}
	look->bytes[look->len] = '\0';
	look->read(look->arg, steal_ptr(&look->bytes), look->len, NULL);
}

void keyring_read(struct keyring_key *key, keyring_read_fn done, void *arg)
{
	struct look *look = look_at(key->name, key->path, read_end, arg);

	look->read = done;
}

static int check_new(const char *name, const char *path, struct err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_BYTES)
		return err_set(err, -EINVAL, "the name of a key has 1 to %d bytes, not %zu",
		        NAME_MAX_BYTES, len);
	if (path[0] != '/')
		return err_set(
		        err, -EPERM, "key '%s': its path must begin with /, not '%s'", name, path);
	if (find(name))
		return err_set(err, -EEXIST, "there is a key '%s' already", name);
	return 0;
}

static void add_end(struct look *look)
{
	struct keyring_key *key;

	if (!look->err.code)
		(void)!check_new(look->name, look->path, &look->err);
	if (!look->err.code) {
		key = xcalloc(1, sizeof(*key));
		key->name = steal_ptr(&look->name);
		key->path = steal_ptr(&look->path);
		key->refs = 1;
		list_init(&key->link);
		list_push_back(&keys, &key->link);
	}
	look->added(look->arg, &look->err);
}

/* A bad request is answered later, too. */
struct refusal {
	struct loop_task task;
	struct err err;
	keyring_done_fn done;
	void *arg;
};

static void refuse(struct loop_task *task)
{
	struct refusal *refusal = container_of(task, struct refusal, task);

	refusal->done(refusal->arg, &refusal->err);
	free(refusal);
}

void keyring_add_file(const char *name, const char *path, keyring_done_fn done, void *arg)
{
	struct err err = ERR_NONE;

	if (check_new(name, path, &err)) {
		struct refusal *refusal = xcalloc(1, sizeof(*refusal));

		*refusal =
		        (struct refusal){.task.run = refuse, .err = err, .done = done, .arg = arg};
		loop_defer(loop_self(), &refusal->task);
		return;
	}
	look_at(name, path, add_end, arg)->added = done;
}
