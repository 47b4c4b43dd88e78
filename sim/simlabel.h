/*
 * simlabel.h: between the files of the simulated layer with metadata: simlabel.c is the module,
 * simlabel_disk.c what its bases hold, found and erased.
 */
#pragma once

#include "rpc/rpc.h"
#include "sim/run.h"

#define SLOT_BYTES 4096
#define LABEL_BYTES (2 * SLOT_BYTES)
#define BASES_MAX 2
#define MAGIC 0x6c656261736c6d31ULL

/* The halves lie in different sectors, so that only the checksum tells of a torn one. */
struct label {
	uint64_t magic, generation;
	uint32_t set, role, num_bases, self_found;
	char name[64], bases[BASES_MAX][64];
	uint8_t gap[2048];
	uint64_t num_blocks, generation_again;
	uint8_t rest[SLOT_BYTES - 2048 - 240 - 4];
	uint32_t crc;
};
_Static_assert(sizeof(struct label) == SLOT_BYTES, "a label fills its slot");

struct simlabel_params {
	uint32_t set;    /* tells its bases from those of others */
	bool format;     /* make it: whatever is there is lost */
	bool self_found; /* comes back by examine */
};

struct simlabel {
	struct simlabel_params params;
	struct bdev *bdev;
	struct label *labels; /* two slots, as read or to be written */
	uint64_t generation, found[BASES_MAX];
	unsigned slots[BASES_MAX]; /* where the newest label of each base is: never written over */
	uint64_t size_wanted;
	char names[BASES_MAX][64]; /* of its bases, also while one is taken out */
	unsigned at;               /* base in work */
	bool without_second;
	struct bdev_done done;
};

extern struct bdev_module simlabel_module;

uint32_t simlabel_crc(const struct label *label);
/* The newer of two slots; NULL: there is none. */
const struct label *simlabel_newest(const struct label *labels);
uint64_t simlabel_slot_blocks(uint32_t block_bytes);
uint64_t simlabel_header_blocks(uint32_t block_bytes);
/* Two slots, zeroed; the caller frees. */
struct label *simlabel_labels(void);
void simlabel_read(struct bdev *base, struct label *labels, struct bdev_done done);

void simlabel_examine(struct bdev *bdev, struct bdev_done done);
extern const struct rpc_method simlabel_methods[];
