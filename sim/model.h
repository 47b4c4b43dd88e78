/*
 * model.h: what the oracle knows of a bdev: for each 512-byte sector the writes whose data a read
 * may return now, and those that may be found after a power cut.
 *
 * Invariants
 *  - Each write has a value of its own; value 0 is zeroes. The bytes of a sector are a function of
 *    value, model and sector, so a sector that turns up elsewhere is recognised.
 *  - Every start and end of a request takes the next number of run->seq. A write is superseded by
 *    one that started after it had ended, as soon as that one has ended with success; and for power
 *    cuts as soon as that one is durable: written with FUA, or ended before the start of a flush
 *    that has ended with success, or to a bdev without a write cache.
 *  - A write that failed, was cut off by a crash, or an unmap (zeroes or old data) supersedes
 *    nothing.
 */
#pragma once

#include "base/base.h"

#define MODELS_MAX 6
#define MODEL_SECTORS_MAX 8192
#define MODEL_ENTRIES 10
#define MODEL_SECTOR_BYTES 512

#define VALUE_ZERO 0U
#define VALUE_ANY UINT32_MAX /* we don't know */
#define SEQ_NEVER UINT32_MAX

enum model_entry_flags {
	ENTRY_OK = 1 << 0,      /* ended with success: supersedes */
	ENTRY_DURABLE = 1 << 1, /* whatever the cache does */
	/* What a read has shown of writes that had not ended: a disk without a cache makes durable
	 * only those that have. */
	ENTRY_SEEN = 1 << 2,
};

struct model_entry {
	uint32_t value, start, end, flags;
};

struct model_sector {
	uint32_t count; /* 0: zeroes since ever */
	struct model_entry entries[MODEL_ENTRIES];
};

enum model_kept {
	MODEL_NOTHING,  /* reads return anything */
	MODEL_VOLATILE, /* kept until the daemon ends, then zeroes */
	MODEL_KEPT,     /* on disks */
};

struct model {
	bool used;
	enum model_kept kept;
	bool write_cache; /* as the bdev says */
	bool repeatable;  /* two reads without a write between them return the same */
	char name[64];
	uint32_t id;
	uint64_t sectors;
	uint32_t flushed; /* start of the latest flush that has ended with success */
	uint32_t cut;     /* number of the last power cut */
	bool covered;     /* others have written there since: its data is not known any more */
	char below[512];  /* names of all that it stands on, each between slashes */
	uint64_t floor_sectors; /* a resize in flight may leave only so many; UINT64_MAX: none */
	uint32_t reads_from;    /* no read in flight started before this; see model_reads */
	struct model_sector *sector;
};

/* Maps the models' memory; before the first fork. */
void models_create(void);
void models_reset(void);
struct model *model_find(const char *name);
/* NULL when there are too many. Contents: zero, or whatever is there. */
struct model *model_add(const char *name, uint64_t sectors, bool zero);
void model_remove(struct model *m);
/* New sectors hold anything; dropped ones are forgotten. */
void model_resize(struct model *m, uint64_t sectors);

/* The start of a write; the number to give to the end. */
uint32_t model_write_start(struct model *m, uint64_t sector, uint64_t count, uint32_t value);
/* The same write once more, for sectors from..end-1 that do not know of it. */
void model_write_again(
        struct model *m, uint64_t from, uint64_t end, uint32_t start, uint32_t value);
enum model_outcome {
	WRITE_DONE,
	WRITE_DURABLE, /* with FUA */
	WRITE_MAYBE,   /* each sector old or new: failed, or an unmap */
	WRITE_NOT,     /* refused: nothing has changed */
};
void model_write_end(struct model *m, uint64_t sector, uint64_t count, uint32_t start,
        enum model_outcome outcome);
void model_flush_end(struct model *m, uint32_t start);
/* From now on the sectors may hold anything, e.g. since somebody else writes there. */
void model_forget(struct model *m, uint64_t sector, uint64_t count);
/* The daemon has ended. */
void model_crash(struct model *m, bool power_cut);

void model_fill(const struct model *m, uint64_t sector, uint32_t value, void *bytes);
bool model_holds(const struct model *m, uint64_t sector, uint32_t value, const void *bytes);
/* A read that started as `start` returned these bytes: fails the run when it may not. learn: what
 * it saw is what the sector holds from now on. */
void model_read_end(struct model *m, uint64_t sector, uint64_t count, uint32_t start,
        const void *bytes, bool learn);
/* Whether a compare with these values (one per sector: the same) may end with that result. */
bool model_compare_may(const struct model *m, uint64_t sector, uint64_t count, uint32_t value,
        uint32_t start, bool equal);
/* A value that a read may return now. */
uint32_t model_likely(const struct model *m, uint64_t sector);
