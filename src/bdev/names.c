/*
 * names.c: whose name is this? Names, aliases and UUID texts of all bdevs, in whatever state, stand
 * in one table, so that one look-up serves them all and no text can mean two bdevs.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "bdev/control.h"

#define BUCKETS 4096 /* a power of two */

static struct list table[BUCKETS];

static struct list *bucket(const char *text)
{
	uint32_t hash = 2166136261U; /* FNV-1a */

	for (const char *c = text; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619U;
	struct list *head = &table[hash & (BUCKETS - 1)];

	if (!head->next)
		list_init(head);
	return head;
}

int name_check(const char *what, const char *name, struct err *err)
{
	if (!name || !name[0])
		return err_set(err, -EINVAL, "%s is empty; give it 1 to %d bytes", what,
		        BDEV_NAME_MAX - 1);
	size_t len = strnlen(name, BDEV_NAME_MAX);

	if (len >= BDEV_NAME_MAX)
		return err_set(err, -EINVAL, "%s '%.32s...' is longer than %d bytes", what, name,
		        BDEV_NAME_MAX - 1);
	for (size_t i = 0; i < len; i++) {
		if (iscntrl((unsigned char)name[i]))
			return err_set(err, -EINVAL, "%s contains a control character at byte %zu",
			        what, i);
	}
	json_t *text = json_string(name);

	if (!text)
		return err_set(err, -EINVAL, "%s is not valid UTF-8", what);
	json_decref(text);
	return 0;
}

static struct bdev *lookup(const char *text)
{
	struct name_entry *entry;

	list_for_each (entry, bucket(text), link) {
		if (strcmp(entry->text, text) == 0)
			return entry->bdev;
	}
	return NULL;
}

struct bdev *name_owner(const char *text)
{
	struct bdev *bdev = lookup(text);
	uuid_t uuid;
	char canonical[UUID_STR_LEN];

	if (bdev || strlen(text) != UUID_STR_LEN - 1 || uuid_parse(text, uuid) != 0)
		return bdev;
	uuid_unparse_lower(uuid, canonical);
	return lookup(canonical);
}

int name_is_free(const char *text, struct err *err)
{
	const struct bdev *bdev = name_owner(text);
	char label[BDEV_LABEL_MAX];

	if (!bdev)
		return waiting_name_is_free(text, err);
	graph_label(bdev, label, sizeof(label));
	if (bdev->state == BDEV_REMOVING)
		return err_set(err, -EEXIST,
		        "'%s' still belongs to %s, which is being removed; try again when it is "
		        "gone",
		        text, label);
	if (strcmp(text, bdev->name) == 0)
		return err_set(err, -EEXIST, "the name '%s' is taken by %s", text, label);
	return err_set(err, -EEXIST, "'%s' is an alias or the UUID of %s", text, label);
}

struct name_entry *name_add(struct bdev *bdev, const char *text)
{
	struct name_entry *entry = xcalloc(1, sizeof(*entry));

	struct bdev *owner = lookup(text);

	BELLOWS_ASSERT(!owner || owner == bdev);
	entry->bdev = bdev;
	entry->text = xstrdup(text);
	list_init(&entry->link);
	if (!owner) /* a volume's name may be its UUID */
		list_push_back(bucket(text), &entry->link);
	return entry;
}

void name_remove(struct name_entry *entry)
{
	if (!entry)
		return;
	list_remove(&entry->link);
	free(entry->text);
	free(entry);
}
