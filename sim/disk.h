/*
 * disk.h: what a simulated disk or file holds, and all that can go wrong with it.
 *
 * Invariants
 *  - `current` is what a read returns, `stable` what a power cut leaves. A sector in which they may
 *    differ is SECTOR_DIRTY. The cache may write a dirty sector back at any moment.
 *  - A flush makes durable what had been written when it was issued, and nothing more is promised.
 *  - A power cut decides for each dirty sector and for each sector of a write in flight on its own:
 *    so writes are lost, torn and reordered in every way that flushes allow.
 *  - Faults happen only where the run's plan has asked for them.
 */
#pragma once

#include "base/base.h"
#include "sim/rng.h"

#define SIM_FILES_MAX 12
#define SIM_FILE_BYTES_MAX MIB(16)
#define SIM_SECTOR_BYTES 512
#define SIM_FILE_SECTORS_MAX (SIM_FILE_BYTES_MAX / SIM_SECTOR_BYTES)

enum sim_sector {
	SECTOR_DIRTY = 1 << 0,
	SECTOR_BAD = 1 << 1,       /* can't be read until it is written again */
	SECTOR_ALLOCATED = 1 << 2, /* not a hole */
};

enum sim_fault {
	FAULT_READ_ERROR,  /* a read fails once */
	FAULT_WRITE_ERROR, /* a write fails, some of its sectors are written */
	FAULT_FLUSH_ERROR, /* a flush fails, nothing is promised */
	FAULT_LATENT,      /* sectors can't be read until they are rewritten */
	FAULT_STALL,       /* an operation takes seconds */
	FAULT_GONE,        /* the disk is pulled */
	FAULT_RETURN,      /* ... and plugged in again */
	FAULT_RESIZE,      /* the file is made longer or shorter from outside */
	FAULT_LYING_FLUSH, /* says that it has flushed, and has not */
	FAULT_CORRUPT,     /* a read returns a flipped bit */
	FAULT_MISDIRECT,   /* a write goes to another place */
	FAULT_STALE,       /* the disk returns with the content of an earlier time */
	FAULT_SWAP,        /* another disk is plugged in in its place */
	FAULT_KINDS
};

/* What becomes of the unflushed at a crash that was asked for. */
enum sim_fate {
	FATE_DRAWN,  /* as chance has it */
	FATE_LOST,   /* power cut: all is lost */
	FATE_KEPT,   /* power cut: all is kept */
	FATE_HALF,   /* power cut: each sector by chance */
	FATE_HALF_2, /* the same with other chances */
	FATE_KILLED, /* the daemon alone dies */
	FATES = FATE_KILLED
};

extern const char *const sim_fault_names[FAULT_KINDS];

struct sim_file {
	bool used, is_block, gone, rotational;
	bool no_direct, no_zero, no_punch; /* what it can't do */
	char path[128];
	uint32_t tear_bytes;  /* what is written as a whole or not at all */
	uint32_t align_bytes; /* for direct I/O */
	uint64_t size_bytes, stable_size_bytes;
	uint64_t touched_bytes; /* beyond it both images are zero, and no sector has a flag */
	uint32_t write_seq;     /* counts executed writes */
	uint32_t flush_issued;  /* write_seq when the latest flush that is in flight was issued */
	uint32_t flushes_in_flight;
	uint32_t one_in[FAULT_KINDS]; /* how often an operation meets the fault; 0: never */
	uint64_t faults;              /* that have happened */
	uint64_t latency_min_ns, latency_max_ns;

	uint8_t *current, *stable; /* SIM_FILE_BYTES_MAX each */
	uint8_t *sectors;          /* flags */
	uint32_t *sector_seq;      /* write_seq of the last write of each sector */
};

/* Finds a file of the world by its path; NULL: there is none. */
struct sim_file *sim_file_find(const char *path);
/* A new file of zeroes; the size is a multiple of 512. Fails the run when the table is full. */
struct sim_file *sim_file_add(const char *path, uint64_t size_bytes, bool is_block);
void sim_file_remove(struct sim_file *f);
unsigned sim_file_index(const struct sim_file *f);

/* The effects of operations. Offsets and lengths in bytes; they may end within a sector. */
void sim_disk_read(const struct sim_file *f, uint64_t offset, uint8_t *dst, uint64_t len);
/* keep: written durably at once. */
void sim_disk_write(
        struct sim_file *f, uint64_t offset, const uint8_t *src, uint64_t len, bool keep);
void sim_disk_zero(struct sim_file *f, uint64_t offset, uint64_t len, bool hole);
/* A flush that was issued when write_seq was seq is done. */
void sim_disk_flush(struct sim_file *f, uint32_t seq);
void sim_disk_truncate(struct sim_file *f, uint64_t size_bytes);
/* The disk has been made larger where it is made: that is no content that a crash could lose. */
void sim_disk_grow(struct sim_file *f, uint64_t size_bytes);
/* The sector of that byte can't be read until it is written. */
void sim_disk_spoil(struct sim_file *f, uint64_t at);
bool sim_disk_bad(const struct sim_file *f, uint64_t offset, uint64_t len);

/* How much of what is unflushed survives, in 1/16: 0 nothing, 16 all. */
void sim_disk_power_cut(struct sim_file *f, struct rng *r, unsigned keep_16ths);
/* Does it to every file. */
void sim_power_cut(enum sim_fate fate);
