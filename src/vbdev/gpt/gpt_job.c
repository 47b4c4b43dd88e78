/* gpt_job.c: reading both copies of a table, and writing as a plan says; one block run at a time.
 */
#include "vbdev/gpt/gpt.h"

#include <errno.h>
#include <string.h>

/* ---- the handle -------------------------------------------------------------------------------
 */

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

/* The next request fails, and the job with it. */
static void removed(struct bdev_handle *handle)
{
	(void)handle;
}

static int reader_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	(void)handle;
	(void)new_blocks;
	(void)err;
	return 0;
}

static int writer_may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	(void)handle;
	(void)new_blocks;
	return err_set(err, -EBUSY, "its partition table is being written; try again");
}

/* Not by the module: who only looks claims nothing. */
static const struct bdev_holder_ops reader_ops = {.kind = "partition table",
        .resized = resized,
        .removed = removed,
        .may_shrink = reader_may_shrink};
static const struct bdev_holder_ops writer_ops = {.kind = "partition table",
        .module = &gpt_module,
        .resized = resized,
        .removed = removed,
        .may_shrink = writer_may_shrink};

int gpt_job_open(struct bdev *bdev, enum gpt_job_kind kind, struct gpt_job **out, struct err *err)
{
	struct gpt_job *job = xcalloc(1, sizeof(*job));
	bool write = kind == GPT_WRITE;
	int rc = kind == GPT_EXAMINE
	                 ? 0
	                 : bdev_open(bdev, write, write ? &writer_ops : &reader_ops,
	                           write ? GPT_WRITER : GPT_READER, job, &job->handle, err);

	if (rc) {
		free(job);
		return rc;
	}
	job->bdev = bdev;
	*out = job;
	return 0;
}

void gpt_job_close(struct gpt_job *job)
{
	if (job->handle)
		bdev_close(job->handle);
	gpt_found_free(&job->found);
	gpt_plan_free(&job->plan);
	free(job->block);
	free(job);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static void *alloc_blocks(const struct gpt_job *job, uint64_t num_blocks)
{
	void *buf = try_alloc_aligned(GPT_BUF_ALIGN, num_blocks * job->found.block_bytes);

	BELLOWS_ASSERT(buf);
	return buf;
}

static bool failed(struct gpt_job *job, const struct err *err)
{
	if (!err || !err->code)
		return false;
	job->done(job, err);
	return true;
}

/* A copy that can't be read is one that is damaged, as long as the disk is there. */
static bool unreadable(struct gpt_job *job, const struct err *err)
{
	if (!err || !err->code || err->code == -ENODEV)
		return false;
	job->copy->err = *err;
	return true;
}

static void copy_read(struct gpt_job *job);

static void entries_read(void *arg, const struct err *err)
{
	struct gpt_job *job = arg;
	struct gpt_copy *copy = job->copy;
	const struct gpt_found *found = &job->found;
	size_t len = gpt_entries_blocks(&copy->header, found->block_bytes) * found->block_bytes;

	if (!unreadable(job, err)) {
		if (failed(job, err))
			return;
		copy->ok = gpt_read_entries(&copy->header, copy->entries, len, found->disk_blocks,
		                   &copy->table, &copy->err) == 0;
	}
	if (!copy->ok) {
		free(copy->entries);
		copy->entries = NULL;
	}
	copy_read(job);
}

static void header_read(void *arg, const struct err *err)
{
	struct gpt_job *job = arg;
	struct gpt_copy *copy = job->copy;
	const struct gpt_found *found = &job->found;
	struct gpt_header header;
	uint64_t blocks;

	if (unreadable(job, err)) {
		copy_read(job);
		return;
	}
	if (failed(job, err))
		return;
	if (gpt_read_header(job->block, found->block_bytes, job->lba, found->disk_blocks, &header,
	            &copy->err)) {
		copy_read(job);
		return;
	}
	copy->header = header;
	blocks = gpt_entries_blocks(&header, found->block_bytes);
	copy->entries = alloc_blocks(job, blocks);
	bdev_read_meta(job->bdev, header.entries_lba, blocks, copy->entries,
	        (struct bdev_done){entries_read, job});
}

static void read_copy(struct gpt_job *job, struct gpt_copy *copy, uint64_t lba)
{
	job->copy = copy;
	job->lba = lba;
	copy->err = (struct err)ERR_NONE;
	bdev_read_meta(job->bdev, lba, 1, job->block, (struct bdev_done){header_read, job});
}

static void copy_read(struct gpt_job *job)
{
	struct gpt_found *found = &job->found;

	if (job->copy == &found->primary) {
		job->num_places = gpt_backup_places(found, job->places);
		if (job->num_places == 0)
			err_set(&found->backup.err, -ENOENT, "it is not on the disk");
	}
	if (!found->backup.ok && job->next_place < job->num_places) {
		read_copy(job, &found->backup, job->places[job->next_place++]);
		return;
	}
	found->used = found->primary.ok  ? &found->primary
	              : found->backup.ok ? &found->backup
	                                 : NULL;
	job->done(job, NULL);
}

static void mbr_read(void *arg, const struct err *err)
{
	struct gpt_job *job = arg;
	struct gpt_found *found = &job->found;

	if (failed(job, err))
		return;
	if (gpt_read_mbr(found->start, found->block_bytes, &found->mbr, NULL) == 0)
		read_copy(job, &found->primary, GPT_HEADER_LBA);
	else
		job->done(job, NULL);
}

void gpt_job_read(struct gpt_job *job, gpt_job_fn done)
{
	struct gpt_found *found = &job->found;

	BELLOWS_ASSERT(!found->start);
	job->done = done;
	found->disk_blocks = job->bdev->geometry.num_blocks;
	found->block_bytes = job->bdev->geometry.block_bytes;
	found->start = alloc_blocks(job, 1);
	job->block = alloc_blocks(job, 1);
	if (found->disk_blocks < GPT_DISK_BLOCKS_MIN)
		mbr_read(job, NULL);
	else
		bdev_read_meta(job->bdev, 0, 1, found->start, (struct bdev_done){mbr_read, job});
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static void write_next(void *arg, const struct err *err)
{
	struct gpt_job *job = arg;
	const struct gpt_write *w = &job->plan.writes[job->next_write];

	if (failed(job, err))
		return;
	if (job->next_write == job->plan.count) {
		job->done(job, NULL);
		return;
	}
	job->next_write++;
	bdev_write_meta(
	        job->bdev, w->lba, w->num_blocks, w->buf, (struct bdev_done){write_next, job});
}

void gpt_job_write(struct gpt_job *job, gpt_job_fn done)
{
	job->done = done;
	job->next_write = 0;
	write_next(job, NULL);
}
