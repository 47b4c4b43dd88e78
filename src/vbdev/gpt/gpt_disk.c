/* gpt_disk.c: which disks have partitions, and keeping to what their tables say. */
#include "vbdev/gpt/gpt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

bool gpt_all_partitions;

static struct list disks = LIST_INIT(disks);
static struct bdev_subscription *subscription;

/* ---- the list ---------------------------------------------------------------------------------
 */

static void base_resized(void *arg, const struct bdev_event *event)
{
	struct bdev *bdev;

	(void)arg;
	if (strcmp(event->type, "bdev_resize") != 0 || !gpt_disk_find(event->bdev))
		return;
	bdev = bdev_find(event->bdev);
	if (bdev)
		gpt_disk_read(bdev, (struct bdev_done){NULL, NULL});
}

struct gpt_disk *gpt_disk_find(const char *name)
{
	struct gpt_disk *disk;

	list_for_each (disk, &disks, link) {
		if (strcmp(disk->name, name) == 0)
			return disk;
	}
	return NULL;
}

static struct gpt_disk *get_disk(const char *name)
{
	struct gpt_disk *disk = gpt_disk_find(name);

	if (disk)
		return disk;
	disk = xcalloc(1, sizeof(*disk));
	str_copy(disk->name, sizeof(disk->name), name);
	list_init(&disk->now);
	list_init(&disk->next);
	list_push_back(&disks, &disk->link);
	if (!subscription)
		subscription = bdev_subscribe(base_resized, NULL);
	return disk;
}

static void free_if_unused(struct gpt_disk *disk)
{
	struct bdev *bdev;

	if (disk->num_parts || disk->working)
		return;
	bdev = bdev_find(disk->name);
	if (bdev && !disk->judged) {
		bdev_set_problem(bdev, "gpt", NULL, NULL);
		bdev_set_problem(bdev, "gpt-partition", NULL, NULL);
	}
	list_remove(&disk->link);
	free(disk);
	if (list_empty(&disks)) {
		bdev_unsubscribe(subscription);
		subscription = NULL;
	}
}

void gpt_disk_hold(struct gpt_disk *disk)
{
	disk->working++;
}

void gpt_disk_release(struct gpt_disk *disk)
{
	disk->working--;
	free_if_unused(disk);
}

void gpt_part_gone(struct bdev *bdev)
{
	const struct gpt_part *part = bdev->priv;
	struct gpt_disk *disk = part->disk;

	/* One that never came to be was never counted. */
	if (disk->parts[part->number - 1] != bdev)
		return;
	disk->parts[part->number - 1] = NULL;
	disk->num_parts--;
	disk->judged = false;
	free_if_unused(disk);
}

void gpt_stop(void)
{
	gpt_all_partitions = false;
}

/* ---- a round: from the table to bdevs ---------------------------------------------------------
 */

struct round {
	struct gpt_disk *disk;
	struct gpt_job *job;
	unsigned next; /* entry to look at */
	unsigned
	        growing; /* partitions whose new length is on its way, and one until all are seen */
	char wrong[ERR_TEXT_MAX];
};

struct waiter {
	struct list link;
	struct bdev_done done;
};

static void start_round(struct gpt_disk *disk, struct bdev *bdev, enum gpt_job_kind kind);

static void end_round(struct gpt_disk *disk, const struct err *err)
{
	struct waiter *waiter;
	struct bdev *bdev;

	while (!list_empty(&disk->now)) {
		waiter = list_entry(list_pop_front(&disk->now), struct waiter, link);
		if (waiter->done.fn)
			bdev_done_call(waiter->done, err);
		else if (err && err->code)
			log_warning("gpt", "'%s': %s", disk->name, err->text);
		free(waiter);
	}
	disk->reading = false;
	bdev = list_empty(&disk->next) ? NULL : bdev_find(disk->name);
	if (bdev) {
		start_round(disk, bdev, GPT_READ);
	} else if (!list_empty(&disk->next)) {
		struct err gone = ERR_NONE;

		err_set(&gone, -ENODEV, "'%s' is gone", disk->name);
		list_splice_back(&disk->now, &disk->next);
		end_round(disk, &gone);
		return;
	}
	gpt_disk_release(disk);
}

static bool is_wanted(const struct gpt_entry *e)
{
	for (unsigned i = 0; i < GPT_TYPES; i++)
		if (uuid_compare(e->type, gpt_types[i]) == 0)
			return true;
	return gpt_all_partitions;
}

static void note(struct round *round, unsigned number, const char *what)
{
	if (round->wrong[0])
		return;
	snprintf(round->wrong, sizeof(round->wrong), "partition %u %s", number, what);
}

static void tell_problems(struct round *round)
{
	struct bdev *bdev = round->job->bdev;
	const struct gpt_found *found = &round->job->found;
	char text[ERR_TEXT_MAX] = "";

	if (found->used)
		gpt_what_is_wrong(found, text, sizeof(text));
	else
		snprintf(text, sizeof(text), "its partition table can no longer be read");
	autofree char *action =
	        found->used ? xasprintf("bellows call bdev_gpt_grow base_bdev=%s", bdev->name)
	                    : xstrdup("write the table again with the tool that made it");

	bdev_set_problem(bdev, "gpt", text[0] ? text : NULL, text[0] ? action : NULL);
	bdev_set_problem(bdev, "gpt-partition", round->wrong[0] ? round->wrong : NULL,
	        round->wrong[0] ? "put the table right with a partitioning tool" : NULL);
	round->disk->judged = text[0] || round->wrong[0];
}

static void round_over(struct round *round, const struct err *err)
{
	struct gpt_disk *disk = round->disk;
	const struct gpt_found *found = &round->job->found;
	bool relevant = disk->num_parts > 0 || round->wrong[0];

	if (relevant && (!err || !err->code) && (found->used || disk->num_parts))
		tell_problems(round);
	gpt_job_close(round->job);
	free(round);
	end_round(disk, err);
}

static void one_less(struct round *round)
{
	if (--round->growing == 0)
		round_over(round, NULL);
}

static void grown(void *arg, const struct resize_report *report)
{
	struct round *round = arg;

	if (report->err.code)
		log_warning("gpt", "'%s': a partition has grown, and its bdev can't follow: %s",
		        round->disk->name, report->err.text);
	one_less(round);
}

/* What the table says now of a partition that is in use. */
static void follow(struct round *round, const struct gpt_entry *e, struct bdev *bdev)
{
	struct gpt_part *part = bdev->priv;
	uint64_t num_blocks = e->last_lba - e->first_lba + 1;

	if (e->wrong[0]) {
		note(round, e->number, e->wrong);
	} else if (e->first_lba != part->start_blocks) {
		note(round, e->number, "is elsewhere in the table now; it is used where it was");
	} else if (num_blocks < part->num_blocks) {
		note(round, e->number, "is shorter in the table now; it is used as it was");
	} else if (num_blocks > part->num_blocks) {
		part->num_blocks = num_blocks;
		round->growing++;
		bdev_geometry_changed(bdev, grown, round);
	}
}

static void make_next(struct round *round);

static void part_made(void *arg, struct bdev *bdev, const struct err *err)
{
	struct round *round = arg;
	const struct gpt_entry *e = &round->job->found.used->table.entries[round->next++];
	struct gpt_disk *disk = round->disk;

	if (err && err->code) {
		autofree char *text = xasprintf("can't be shown: %s", err->text);

		log_warning("gpt", "'%s': partition %u %s", disk->name, e->number, text);
		note(round, e->number, text);
	} else {
		disk->parts[e->number - 1] = bdev;
		disk->num_parts++;
	}
	make_next(round);
}

static void make_part(struct round *round, const struct gpt_entry *e)
{
	const struct bdev *base = round->job->bdev;
	const char *base_name = base->name;
	struct gpt_part part = {.disk = round->disk,
	        .number = e->number,
	        .start_blocks = e->first_lba,
	        .num_blocks = e->last_lba - e->first_lba + 1};
	char name[BDEV_NAME_MAX + 16], guid[UUID_STR_LEN];
	struct bdev_spec spec = {.module = &gpt_module,
	        .name = name,
	        .bases = &base_name,
	        .num_bases = 1,
	        .params = &part,
	        .params_bytes = sizeof(part)};

	snprintf(name, sizeof(name), "%sp%u", base->name, e->number);
	uuid_copy(part.type, e->type);
	uuid_copy(part.guid, e->guid);
	str_copy(part.name, sizeof(part.name), e->name);
	uuid_unparse_lower(e->guid, guid);
	if (!uuid_is_null(e->guid) && !bdev_find(guid)) {
		uuid_copy(spec.uuid, e->guid);
	} else { /* a copy of a disk has the same */
		autofree char *key = xasprintf("gpt %u", e->number);

		uuid_generate_sha1(spec.uuid, base->uuid, key, strlen(key));
	}
	bdev_create(&spec, part_made, round);
}

static void make_next(struct round *round)
{
	const struct gpt_table *table = &round->job->found.used->table;

	for (; round->next < table->count; round->next++) {
		const struct gpt_entry *e = &table->entries[round->next];
		struct bdev *bdev = round->disk->parts[e->number - 1];

		if (bdev) {
			follow(round, e, bdev);
		} else if (is_wanted(e) && e->wrong[0]) {
			autofree char *text = xasprintf("is not shown: %s", e->wrong);

			note(round, e->number, text);
		} else if (is_wanted(e)) {
			make_part(round, e);
			return;
		}
	}
	one_less(round);
}

static void table_read(struct gpt_job *job, const struct err *err)
{
	struct round *round = job->arg;

	round->disk->has_table = job->found.used;
	if ((err && err->code) || !job->found.used || round->disk->deleting) {
		round_over(round, err);
		return;
	}
	round->growing = 1;
	make_next(round);
}

static void start_round(struct gpt_disk *disk, struct bdev *bdev, enum gpt_job_kind kind)
{
	struct err err = ERR_NONE;
	struct gpt_job *job;
	struct round *round;

	gpt_disk_hold(disk);
	disk->reading = true;
	list_splice_back(&disk->now, &disk->next);
	if (gpt_job_open(bdev, kind, &job, &err)) {
		end_round(disk, &err);
		return;
	}
	round = xcalloc(1, sizeof(*round));
	round->disk = disk;
	round->job = job;
	job->arg = round;
	gpt_job_read(job, table_read);
}

static void read_table(struct bdev *bdev, enum gpt_job_kind kind, struct bdev_done done)
{
	struct gpt_disk *disk = get_disk(bdev->name);
	struct waiter *waiter = xcalloc(1, sizeof(*waiter));

	waiter->done = done;
	list_init(&waiter->link);
	list_push_back(&disk->next, &waiter->link);
	if (!disk->reading)
		start_round(disk, bdev, kind);
}

void gpt_disk_read(struct bdev *bdev, struct bdev_done done)
{
	read_table(bdev, GPT_READ, done);
}

void gpt_examine(struct bdev *bdev, struct bdev_done done)
{
	read_table(bdev, GPT_EXAMINE, done);
}
