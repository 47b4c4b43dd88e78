/*
 * malloc.c: a disk in memory. Anonymous memory that the system gives page by page when it is first
 * written, so a disk may be far larger than what it holds.
 */
#include "backend/malloc/malloc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int check_block(const char *what, uint32_t bytes, struct err *err)
{
	if (bytes >= 512 && bytes <= 65536 && is_power_of_two(bytes))
		return 0;
	return err_set(err, -EINVAL, "%s is %u; it must be a power of two from 512 to 65536 bytes",
	        what, bytes);
}

static int check_params(const struct malloc_params *p, struct err *err)
{
	int rc = check_block("block_size", p->block_size, err);

	if (!rc && p->physical_block_size)
		rc = check_block("physical_block_size", p->physical_block_size, err);
	if (rc)
		return rc;
	if (p->num_blocks == 0)
		return err_set(err, -EINVAL, "num_blocks is 0; a disk has at least one block");
	if (p->md_size || p->dif_type || p->dif_pi_format || p->dif_is_head_of_md)
		return err_set(err, -EINVAL,
		        "metadata per block is not supported: leave out md_size and the dif "
		        "parameters, or set them to 0");
	return 0;
}

/* The length in bytes of so many blocks, rounded up to a page. */
static int mapping_bytes(const struct malloc_bdev *m, uint64_t num_blocks, size_t *out)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(num_blocks, (uint64_t)m->params.block_size, &bytes) ||
	        bytes > PTRDIFF_MAX - malloc_page_bytes())
		return -ENOMEM;
	*out = align_up_u64(bytes, malloc_page_bytes());
	return 0;
}

/*
 * Huge pages save a quarter of the time of a small request, and cost memory where a disk is written
 * here and there. So they are asked for where even all of the disk is a small part of the machine's
 * memory, and it is large enough to matter.
 */
#define HUGE_PAGES_MIN_BYTES MIB(64)
/* Disks that do not fit in any cache. */
#define PAST_CACHE_MIN_BYTES MIB(128)

static void mapped(struct malloc_bdev *m, uint8_t *mem, size_t bytes)
{
	uint64_t memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * malloc_page_bytes();

	m->mem = mem;
	m->mapped_bytes = bytes;
	m->past_cache = bytes >= PAST_CACHE_MIN_BYTES;
	/* Without them it works as well, so the answer does not matter. */
	if (m->mapped_bytes >= HUGE_PAGES_MIN_BYTES && m->mapped_bytes <= memory_bytes / 4)
		(void)madvise(m->mem, m->mapped_bytes, MADV_HUGEPAGE);
}

static int no_memory(uint64_t num_blocks, const struct malloc_bdev *m, struct err *err)
{
	return err_set(err, -ENOMEM,
	        "the system has no address space for %llu blocks of %u bytes; ask for less, or "
	        "look at the process's limit (ulimit -v)",
	        (unsigned long long)num_blocks, m->params.block_size);
}

static void malloc_create(struct bdev *bdev, struct bdev_done done)
{
	struct malloc_bdev *m = bdev->priv;
	struct err err = ERR_NONE;
	size_t bytes = 0;

	if (check_params(&m->params, &err)) {
		bdev_done_call(done, &err);
		return;
	}
	/* NORESERVE: the size is a promise, not a use; what is written is what counts. */
	void *mem = MAP_FAILED;

	if (!mapping_bytes(m, m->params.num_blocks, &bytes))
		mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED) {
		no_memory(m->params.num_blocks, m, &err);
		bdev_done_call(done, &err);
		return;
	}
	mapped(m, mem, bytes);
	bdev_set_own_blocks(bdev, m->params.num_blocks);
	bdev_done_call(done, NULL);
}

static void malloc_destroy(struct bdev *bdev, struct bdev_done done)
{
	struct malloc_bdev *m = bdev->priv;

	if (m->mem)
		munmap(m->mem, m->mapped_bytes);
	m->mem = NULL;
	bdev_done_call(done, NULL);
}

static int malloc_geometry(const struct bdev *bdev, const struct bdev_geometry_in *in,
        struct bdev_geometry *out, struct err *err)
{
	const struct malloc_params *p = &((const struct malloc_bdev *)bdev->priv)->params;

	(void)err;
	out->num_blocks = in->own_blocks;
	out->block_bytes = p->block_size;
	out->physical_block_bytes = p->physical_block_size ? p->physical_block_size : p->block_size;
	out->caps = BIO_CAPS_ALL & ~BIO_CAP(BIO_BLOCK_STATUS);
	out->buf_align_bytes = 1;
	out->optimal_io_boundary_blocks = p->optimal_io_boundary;
	out->split_on_boundary = p->optimal_io_boundary != 0;
	str_copy(out->why, sizeof(out->why), "as chosen");
	return 0;
}

/* No request is in flight: the memory may move. */
static void grow_quiesced(void *arg, const struct err *quiesce_err)
{
	struct malloc_bdev *m = arg;
	struct bdev *bdev = m->growth.bdev;
	struct bdev_done done = m->growth.done;
	struct err err = ERR_NONE;

	if (quiesce_err && quiesce_err->code) {
		bdev_done_call(done, quiesce_err);
		return;
	}
	void *mem = mremap(m->mem, m->mapped_bytes, m->growth.bytes, MREMAP_MAYMOVE);

	if (mem == MAP_FAILED)
		no_memory(m->growth.bytes / m->params.block_size, m, &err);
	else
		mapped(m, mem, m->growth.bytes);
	bdev_unquiesce(bdev);
	bdev_done_call(done, &err);
}

/* The end has moved down and nobody uses what is past it: give it back, and leave zeroes in the
 * rest of the last page. */
static void cut(struct malloc_bdev *m, uint64_t num_blocks, size_t bytes)
{
	size_t size = num_blocks * m->params.block_size;

	memset(m->mem + size, 0, bytes - size);
	if (bytes < m->mapped_bytes && mremap(m->mem, m->mapped_bytes, bytes, 0) != MAP_FAILED)
		m->mapped_bytes = bytes;
	else if (bytes < m->mapped_bytes)
		malloc_clear(m->mem + bytes, m->mapped_bytes - bytes, true);
}

static void malloc_resize(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done)
{
	struct malloc_bdev *m = bdev->priv;
	size_t bytes = 0;
	struct err err = ERR_NONE;

	if (mapping_bytes(m, own_blocks, &bytes)) {
		no_memory(own_blocks, m, &err);
		bdev_done_call(done, &err);
		return;
	}
	if (own_blocks <= bdev->own_blocks && bytes <= m->mapped_bytes) {
		cut(m, own_blocks, bytes);
	} else if (bytes > m->mapped_bytes) {
		m->growth.bdev = bdev;
		m->growth.bytes = bytes;
		m->growth.done = done;
		bdev_quiesce(bdev, (struct bdev_done){grow_quiesced, m});
		return;
	}
	bdev_done_call(done, NULL);
}

static json_t *malloc_save(const struct bdev *bdev)
{
	const struct malloc_params *p = &((const struct malloc_bdev *)bdev->priv)->params;
	char uuid[UUID_STR_LEN];

	uuid_unparse_lower(bdev->uuid, uuid);
	return json_pack("[{s:s, s:{s:s, s:I, s:I, s:I, s:s, s:I, s:i, s:i, s:b, s:i, s:i}}]",
	        "method", "bdev_malloc_create", "params", "name", bdev->name, "num_blocks",
	        (json_int_t)bdev->own_blocks, "block_size", (json_int_t)p->block_size,
	        "physical_block_size", (json_int_t)bdev->geometry.physical_block_bytes, "uuid",
	        uuid, "optimal_io_boundary", (json_int_t)p->optimal_io_boundary, "md_size", 0,
	        "dif_type", 0, "dif_is_head_of_md", 0, "dif_pi_format", 0, "numa_id", p->numa_id);
}

static json_t *malloc_example(const struct bdev_example *wanted)
{
	/* Plain, and with a boundary at which the core splits. */
	if (wanted->variant > 1)
		return NULL;
	return json_pack("[{s:s, s:{s:s, s:I, s:I, s:i}}]", "method", "bdev_malloc_create",
	        "params", "name", wanted->name, "num_blocks", (json_int_t)wanted->num_blocks,
	        "block_size", (json_int_t)wanted->block_bytes, "optimal_io_boundary",
	        wanted->variant ? 16 : 0);
}

struct bdev_module malloc_module = {
        .name = "malloc",
        .product_name = "Malloc disk",
        .summary = "a disk in memory; its contents end with the process",
        .priv_bytes = sizeof(struct malloc_bdev),
        .methods = malloc_methods,
        .geometry = malloc_geometry,
        .submit = malloc_submit,
        .create = malloc_create,
        .destroy = malloc_destroy,
        .resize = malloc_resize,
        .save = malloc_save,
        .stop = malloc_stop,
        .example = malloc_example,
};
BDEV_MODULE(malloc_module);
