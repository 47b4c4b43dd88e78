#include "tests/lib/member_files.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/disk.h"
#include "tests/lib/expect.h"
#include "tests/lib/inproc.h"

struct disk_file files[DISKS_MAX];
static unsigned num_files;

void remove_files(void)
{
	while (num_files > 0)
		unlink(files[--num_files].path);
}

struct disk_file *make_file(const char *uuid, uint32_t block_bytes, const void *bytes, size_t len)
{
	struct disk_file *f = &files[num_files];
	int fd;

	snprintf(f->name, sizeof(f->name), "d%u", num_files++);
	snprintf(f->path, sizeof(f->path), "%s/d%u", inproc_dir(), num_files - 1);
	if (uuid)
		snprintf(f->uuid, sizeof(f->uuid), "%s", uuid);
	else
		snprintf(f->uuid, sizeof(f->uuid), "00000000-0000-4000-8000-00000000010%u",
		        num_files);
	f->block_bytes = block_bytes;
	fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	if (bytes)
		assert_int_equal(pwrite(fd, bytes, len, 0), len);
	close(fd);
	return f;
}

void make_files(unsigned n, uint32_t block_bytes)
{
	while (n-- > 0)
		make_file(NULL, block_bytes, NULL, DISK_BYTES);
}

void plug(unsigned i)
{
	bool there = false;

	/* The name is free when the last of the old one is gone. */
	for (unsigned k = 0; k < PATIENCE_MS && !there; k++) {
		json_t *reply = inproc_call("bdev_aio_create",
		        "{'name': '%s', 'filename': '%s', 'block_size': %u, 'uuid': '%s'}",
		        files[i].name, files[i].path, files[i].block_bytes, files[i].uuid);

		there = json_object_get(reply, "result") != NULL;
		json_decref(reply);
		if (!there)
			usleep(1000);
	}
	assert_true(there);
	inproc_ok("bdev_wait_for_examine", NULL);
}

void pull(unsigned i)
{
	bdev_lose(files[i].name);
	for (unsigned k = 0; k < PATIENCE_MS && bdev_exists(files[i].name); k++)
		usleep(1000);
	assert_false(bdev_exists(files[i].name));
}

void restart(void)
{
	inproc_stop();
	inproc_start(2);
}

/* ---- superblocks ------------------------------------------------------------------------------
 */

uint64_t get_le(const uint8_t *p, size_t at, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)p[at + i] << (8 * i);
	return v;
}

uint32_t superblock_crc(const uint8_t *p, size_t len)
{
	uint32_t crc = 0;

	for (size_t i = 0; i < len; i++) {
		crc ^= i >= 16 && i < 20 ? 0 : p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78U : 0);
	}
	return crc;
}

void read_file(const struct disk_file *f, uint64_t at, void *buf, size_t len)
{
	int fd = open(f->path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, len, (off_t)at), len);
	close(fd);
}

void write_file(const struct disk_file *f, uint64_t at, const void *buf, size_t len)
{
	int fd = open(f->path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, len, (off_t)at), len);
	close(fd);
}

static void put_uuid(const char *text, uint8_t *out)
{
	unsigned n = 0;

	for (const char *c = text; *c; c++) {
		if (*c == '-')
			continue;
		int digit = *c <= '9' ? *c - '0' : *c - 'a' + 10;

		out[n / 2] = (uint8_t)(out[n / 2] << 4 | digit);
		n++;
	}
}

uint64_t check_member(const struct disk_file *f, const struct expected *e)
{
	uint8_t sb[16576], copy[16576], uuid[16] = {0};
	uint32_t length = 256 + 64 * e->slots;
	uint64_t offset = MIB(1) / f->block_bytes;

	read_file(f, 0, sb, sizeof(sb));
	read_file(f, KIB(64), copy, sizeof(copy));
	assert_memory_equal(sb, "SPDKRAID", 8);
	assert_int_equal(get_le(sb, 8, 2), 1);
	assert_int_equal(get_le(sb, 10, 2), 0);
	assert_int_equal(get_le(sb, 12, 4), length);
	assert_int_equal(get_le(sb, 16, 4), superblock_crc(sb, length));
	assert_int_equal(get_le(sb, 20, 4), 0);
	if (e->uuid) {
		put_uuid(e->uuid, uuid);
		assert_memory_equal(sb + 24, uuid, 16);
	}
	assert_memory_not_equal(sb + 24, (uint8_t[16]){0}, 16);
	assert_string_equal((char *)sb + 40, e->name);
	for (size_t i = 40 + strlen(e->name); i < 104; i++)
		assert_int_equal(sb[i], 0);
	assert_int_equal(get_le(sb, 104, 8), e->blocks);
	assert_int_equal(get_le(sb, 112, 4), f->block_bytes);
	assert_int_equal(get_le(sb, 116, 4), e->level);
	assert_int_equal(get_le(sb, 120, 4), e->strip_kb * 1024 / f->block_bytes);
	assert_int_equal(get_le(sb, 124, 4), 0);
	assert_int_equal(sb[136], e->slots);
	assert_int_equal(sb[255], e->slots);
	for (size_t i = 137; i < 255; i++)
		assert_int_equal(sb[i], 0);
	uint64_t sum = 0, least = UINT64_MAX;

	for (unsigned i = 0; i < e->slots; i++) {
		const uint8_t *slot = sb + 256 + 64 * i;

		assert_int_equal(get_le(slot, 16, 8), offset);
		assert_int_equal(get_le(slot, 32, 4), e->states[i]);
		assert_int_equal(get_le(slot, 36, 4), 0);
		assert_int_equal(slot[40], i);
		for (size_t k = 41; k < 64; k++)
			assert_int_equal(slot[k], 0);
		sum += get_le(slot, 24, 8);
		least = min_u64(least, get_le(slot, 24, 8));
	}
	if (e->level == 95)
		sum -= least;
	assert_int_equal(e->level == 1 ? least : sum, e->blocks);
	for (size_t i = length; i < align_up_u64(length, f->block_bytes) && i < sizeof(sb); i++)
		assert_int_equal(sb[i], 0);
	assert_memory_equal(sb, copy, length);
	return get_le(sb, 128, 8);
}
