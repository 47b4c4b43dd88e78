/*
 * disk.h: bdevs of the daemon inside a test (inproc.h), used as a client does: opened, read and
 * written from any loop, told of a new size, let go of when they are removed.
 *
 * All functions are called by the test's thread, which is no loop.
 */
#pragma once

#include <semaphore.h>

#include "bdev/bdev.h"

struct disk {
	struct bdev_handle *handle; /* control loop */
	char name[BDEV_NAME_MAX];
	uint32_t block_bytes;
	uint64_t zone_blocks; /* 0: it has no zones */
	/* any thread, atomically */
	uint64_t num_blocks; /* as the holder was last told */
	unsigned inflight;
	bool removed;  /* the bdev is going, or gone; every request is -ENODEV */
	unsigned told; /* how often a new size was told */
	bool veto_shrink;
	/* the rest is the implementation's */
	struct loop_timer closer;
	sem_t closed;
};

/* Fails the test when it can't be opened. Closes itself when the bdev is removed. */
struct disk *disk_open(const char *name, bool write);
/* 0 or the error that opening gives; *out only with 0. */
int disk_try_open(const char *name, bool write, struct disk **out);
/* No request is in flight. Frees it. */
void disk_close(struct disk *disk);
static inline uint64_t disk_blocks(const struct disk *disk)
{
	return __atomic_load_n(&disk->num_blocks, __ATOMIC_ACQUIRE);
}
static inline bool disk_is_removed(const struct disk *disk)
{
	return __atomic_load_n(&disk->removed, __ATOMIC_ACQUIRE);
}

/* One request, which may be in flight while others are. */
struct disk_io {
	struct bio bio;
	struct disk *disk;
	uint64_t offset_blocks;
	int status;
	struct loop_task task;
	sem_t done;
};

/* The iov and its buffers live until the wait. */
void disk_start(struct disk *disk, struct disk_io *io, unsigned loop, enum bio_op op,
        unsigned flags, uint64_t offset_blocks, uint64_t num_blocks, const struct iovec *iov,
        unsigned iovcnt);
int disk_wait(struct disk_io *io);
/* Whether it is done; it must be waited for all the same. */
bool disk_poll(struct disk_io *io);

/* One request in one buffer (NULL for operations without data). */
int disk_do(struct disk *disk, unsigned loop, enum bio_op op, unsigned flags,
        uint64_t offset_blocks, uint64_t num_blocks, void *buf);
int disk_read(struct disk *disk, uint64_t offset_blocks, uint64_t num_blocks, void *buf);
int disk_write(struct disk *disk, uint64_t offset_blocks, uint64_t num_blocks, const void *buf);

/* ---- bdevs, from the test's thread ------------------------------------------------------------
 */

/* bdev_resize of a bdev by name; the report's error, with its text in *err if that isn't NULL. */
int disk_resize(const char *name, uint64_t new_blocks, struct err *err);
/* Size as published; 0: there is no such bdev. */
uint64_t bdev_blocks_of(const char *name);
/* What bdev_gone does, and bdev_remove with waiting. */
void bdev_lose(const char *name);
int bdev_remove_wait(const char *name);
/* Waits, at most some seconds, until fn(arg) on the control loop is true; fails the test else. */
void wait_until(bool (*fn)(void *arg), void *arg);
/* A data pattern that tells block and generation. */
void fill_pattern(void *buf, size_t len, uint64_t seed);
