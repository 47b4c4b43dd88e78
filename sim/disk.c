#include "sim/disk.h"

#include <string.h>

#include "sim/run.h"

const char *const sim_fault_names[FAULT_KINDS] = {
        [FAULT_READ_ERROR] = "read-error",
        [FAULT_WRITE_ERROR] = "write-error",
        [FAULT_FLUSH_ERROR] = "flush-error",
        [FAULT_LATENT] = "latent-sector",
        [FAULT_STALL] = "stall",
        [FAULT_GONE] = "gone",
        [FAULT_RETURN] = "return",
        [FAULT_RESIZE] = "resize",
        [FAULT_LYING_FLUSH] = "lying-flush",
        [FAULT_CORRUPT] = "corrupt",
        [FAULT_MISDIRECT] = "misdirect",
        [FAULT_STALE] = "stale",
        [FAULT_SWAP] = "swap",
};

unsigned sim_file_index(const struct sim_file *f)
{
	return (unsigned)(f - sim->files);
}

struct sim_file *sim_file_find(const char *path)
{
	for (unsigned i = 0; i < SIM_FILES_MAX; i++)
		if (sim->files[i].used && strcmp(sim->files[i].path, path) == 0)
			return &sim->files[i];
	return NULL;
}

struct sim_file *sim_file_add(const char *path, uint64_t size_bytes, bool is_block)
{
	for (unsigned i = 0; i < SIM_FILES_MAX; i++) {
		struct sim_file *f = &sim->files[i];

		if (f->used)
			continue;
		f->used = true;
		f->is_block = is_block;
		str_copy(f->path, sizeof(f->path), path);
		f->tear_bytes = f->align_bytes = SIM_SECTOR_BYTES;
		f->size_bytes = f->stable_size_bytes = min_u64(size_bytes, SIM_FILE_BYTES_MAX);
		f->latency_min_ns = 10 * NSEC_PER_USEC;
		f->latency_max_ns = 100 * NSEC_PER_USEC;
		return f;
	}
	sim_fail("simulator", "more than %d files", SIM_FILES_MAX);
}

void sim_file_remove(struct sim_file *f)
{
	struct sim_file keep = *f;
	uint64_t sectors = div_round_up_u64(f->touched_bytes, SIM_SECTOR_BYTES);

	memset(f->current, 0, f->touched_bytes);
	memset(f->stable, 0, f->touched_bytes);
	memset(f->sectors, 0, sectors);
	memset(f->sector_seq, 0, sectors * sizeof(*f->sector_seq));
	*f = (struct sim_file){.current = keep.current,
	        .stable = keep.stable,
	        .sectors = keep.sectors,
	        .sector_seq = keep.sector_seq};
}

/* What the cache holds of a sector goes to the medium. */
static void write_back(struct sim_file *f, uint64_t sector)
{
	uint64_t at = sector * SIM_SECTOR_BYTES;

	memcpy(f->stable + at, f->current + at, SIM_SECTOR_BYTES);
	f->sectors[sector] &= (uint8_t)~SECTOR_DIRTY;
}

/* The sectors of a range are about to be changed by one write. */
static void before_change(struct sim_file *f, uint64_t offset, uint64_t len)
{
	uint64_t end = div_round_up_u64(offset + len, SIM_SECTOR_BYTES);
	uint64_t s = offset / SIM_SECTOR_BYTES;

	f->write_seq++;
	f->touched_bytes = max_u64(f->touched_bytes, end * SIM_SECTOR_BYTES);
	/* A flush in flight promises the version that it found; and a cache may write back what it
	 * holds at any time, so that a power cut can show versions in between. */
	for (; s < end; s++) {
		if (!(f->sectors[s] & SECTOR_DIRTY))
			continue;
		if ((f->flushes_in_flight && f->sector_seq[s] <= f->flush_issued) ||
		        rng_one_in(&sim->disk, 4))
			write_back(f, s);
	}
}

static void after_change(struct sim_file *f, uint64_t offset, uint64_t len, bool keep, bool hole)
{
	uint64_t end = div_round_up_u64(offset + len, SIM_SECTOR_BYTES);

	for (uint64_t s = offset / SIM_SECTOR_BYTES; s < end; s++) {
		uint8_t flags = f->sectors[s] & (uint8_t) ~(SECTOR_BAD | SECTOR_ALLOCATED);

		f->sectors[s] = flags | SECTOR_DIRTY | (hole ? 0 : SECTOR_ALLOCATED);
		f->sector_seq[s] = f->write_seq;
		if (keep)
			write_back(f, s);
	}
	if (offset + len > f->size_bytes) {
		f->size_bytes = offset + len;
	}
	if (keep) /* what is needed to find the data again is kept with it */
		f->stable_size_bytes = f->size_bytes;
}

void sim_disk_read(const struct sim_file *f, uint64_t offset, uint8_t *dst, uint64_t len)
{
	memcpy(dst, f->current + offset, len);
}

void sim_disk_write(
        struct sim_file *f, uint64_t offset, const uint8_t *src, uint64_t len, bool keep)
{
	BELLOWS_ASSERT(offset + len <= SIM_FILE_BYTES_MAX);
	if (len == 0)
		return;
	before_change(f, offset, len);
	memcpy(f->current + offset, src, len);
	after_change(f, offset, len, keep, false);
}

void sim_disk_zero(struct sim_file *f, uint64_t offset, uint64_t len, bool hole)
{
	BELLOWS_ASSERT(offset + len <= SIM_FILE_BYTES_MAX);
	if (len == 0)
		return;
	before_change(f, offset, len);
	memset(f->current + offset, 0, len);
	after_change(f, offset, len, false, hole);
}

void sim_disk_flush(struct sim_file *f, uint32_t seq)
{
	uint64_t end = f->touched_bytes / SIM_SECTOR_BYTES;
	bool all = rng_one_in(&sim->disk, 2);

	for (uint64_t s = 0; s < end; s++)
		if ((f->sectors[s] & SECTOR_DIRTY) && (all || f->sector_seq[s] <= seq))
			write_back(f, s);
	f->stable_size_bytes = f->size_bytes;
}

void sim_disk_truncate(struct sim_file *f, uint64_t size_bytes)
{
	uint64_t old = f->size_bytes;

	if (size_bytes < old) {
		uint64_t end = min_u64(f->touched_bytes, old);

		/* What a truncated file held is gone, on the medium too as soon as the new length
		 * is; it does not come back when the file grows again. */
		if (end > size_bytes) {
			uint64_t first = size_bytes / SIM_SECTOR_BYTES;

			memset(f->current + size_bytes, 0, end - size_bytes);
			memset(f->stable + size_bytes, 0, end - size_bytes);
			for (uint64_t s = first; s < end / SIM_SECTOR_BYTES; s++)
				f->sectors[s] = 0;
		}
		f->stable_size_bytes = size_bytes;
	}
	f->size_bytes = size_bytes;
}

void sim_disk_grow(struct sim_file *f, uint64_t size_bytes)
{
	f->size_bytes = f->stable_size_bytes = size_bytes;
	run->resized = true;
	sim_event(SIM_FILE_FAULT, sim_file_index(f), FAULT_RESIZE, size_bytes);
}

void sim_disk_spoil(struct sim_file *f, uint64_t at)
{
	uint64_t sector = at / SIM_SECTOR_BYTES;

	f->sectors[sector] |= SECTOR_BAD;
	f->touched_bytes = max_u64(f->touched_bytes, (sector + 1) * SIM_SECTOR_BYTES);
}

bool sim_disk_bad(const struct sim_file *f, uint64_t offset, uint64_t len)
{
	uint64_t end = div_round_up_u64(offset + len, SIM_SECTOR_BYTES);

	for (uint64_t s = offset / SIM_SECTOR_BYTES; s < end; s++)
		if (f->sectors[s] & SECTOR_BAD)
			return true;
	return false;
}

void sim_disk_power_cut(struct sim_file *f, struct rng *r, unsigned keep_16ths)
{
	uint64_t end = f->touched_bytes / SIM_SECTOR_BYTES, unit = f->tear_bytes / SIM_SECTOR_BYTES;

	for (uint64_t s = 0; s < end; s += unit) {
		bool keep = rng_below(r, 16) < keep_16ths;

		for (uint64_t i = s; i < min_u64(s + unit, end); i++) {
			if (!(f->sectors[i] & SECTOR_DIRTY))
				continue;
			if (keep) {
				write_back(f, i);
				continue;
			}
			uint64_t at = i * SIM_SECTOR_BYTES;

			memcpy(f->current + at, f->stable + at, SIM_SECTOR_BYTES);
			f->sectors[i] = SECTOR_ALLOCATED;
			sim_event(SIM_SECTOR_LOST, sim_file_index(f), i, f->sectors[i]);
		}
	}
	if (f->size_bytes != f->stable_size_bytes && !(rng_below(r, 16) < keep_16ths))
		f->size_bytes = f->stable_size_bytes;
	f->stable_size_bytes = f->size_bytes;
	f->flushes_in_flight = 0;
}

void sim_power_cut(enum sim_fate fate)
{
	static const unsigned choices[] = {0, 0, 2, 8, 8, 14, 16};

	for (unsigned i = 0; i < SIM_FILES_MAX; i++)
		if (sim->files[i].used)
			sim_disk_power_cut(&sim->files[i], &sim->disk,
			        fate == FATE_LOST   ? 0
			        : fate == FATE_KEPT ? 16
			        : fate != FATE_DRAWN
			                ? 8
			                : choices[rng_below(&sim->disk, ARRAY_SIZE(choices))]);
}
