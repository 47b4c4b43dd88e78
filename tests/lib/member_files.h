/*
 * member_files.h: members of arrays as files, plugged and pulled, and their superblocks looked at
 * byte by byte, as the format is described; nothing of this shares code with what writes them.
 */
#pragma once

#include "base/base.h"

#define DISK_BYTES MIB(8)
#define DISKS_MAX 4

struct disk_file {
	char name[32], path[192], uuid[40];
	uint32_t block_bytes;
};
extern struct disk_file files[DISKS_MAX];

/* The next one, d0, d1, ...; the bytes, or zeroes; uuid NULL: one of its own. */
struct disk_file *make_file(const char *uuid, uint32_t block_bytes, const void *bytes, size_t len);
void make_files(unsigned n, uint32_t block_bytes);
void remove_files(void);
/* Makes it a bdev and waits until it has been examined. */
void plug(unsigned i);
void pull(unsigned i);
/* The daemon ends and starts again, without any bdev. */
void restart(void);
void read_file(const struct disk_file *f, uint64_t at, void *buf, size_t len);
void write_file(const struct disk_file *f, uint64_t at, const void *buf, size_t len);

uint64_t get_le(const uint8_t *p, size_t at, size_t bytes);
uint32_t superblock_crc(const uint8_t *p, size_t len);

struct expected {
	const char *name, *uuid; /* uuid NULL: any */
	unsigned level, strip_kb, slots;
	uint64_t blocks;
	unsigned states[DISKS_MAX];
};

/* Fails the test unless both copies are as expected. Returns the sequence number. */
uint64_t check_member(const struct disk_file *f, const struct expected *e);
