/* Registered files: see file.h. */
#include "loop/file.h"

/* Which slots belong to an open file; control loop. */
static uint64_t slots_taken[FILE_SLOTS / 64];

int file_slot_get(void)
{
	BELLOWS_ASSERT(loop_is_control());
	for (unsigned i = 0; i < ARRAY_SIZE(slots_taken); i++) {
		if (~slots_taken[i]) {
			int bit = __builtin_ctzll(~slots_taken[i]);

			slots_taken[i] |= 1ULL << bit;
			return (int)i * 64 + bit;
		}
	}
	return -1;
}

void file_slot_put(int slot)
{
	BELLOWS_ASSERT(loop_is_control());
	if (slot >= 0)
		slots_taken[slot / 64] &= ~(1ULL << (slot % 64));
}

static bool is_in_table(const struct uring_loop *l, int slot)
{
	return l->files_in_table[slot / 64] & (1ULL << (slot % 64));
}

static bool enter_loop(struct uring_loop *l, const struct loop_file *file)
{
	/* Without a table, or when the kernel has no memory for it now, the descriptor does. */
	if (!l->has_file_table ||
	        io_uring_register_files_update(&l->ring, (unsigned)file->slot, &file->fd, 1) != 1)
		return false;
	l->files_in_table[file->slot / 64] |= 1ULL << (file->slot % 64);
	return true;
}

void file_set_sqe(struct uring_loop *l, const struct loop_file *file, struct io_uring_sqe *sqe)
{
	if (likely(file->slot >= 0) &&
	        (likely(is_in_table(l, file->slot)) || enter_loop(l, file))) {
		sqe->fd = file->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
	} else {
		sqe->fd = file->fd;
	}
}

void file_leave_loop(struct uring_loop *l, const struct loop_file *file)
{
	const int none = -1;
	int rc;

	if (file->slot < 0 || !is_in_table(l, file->slot))
		return;
	rc = io_uring_register_files_update(&l->ring, (unsigned)file->slot, &none, 1);
	BELLOWS_ASSERT(rc == 1);
	l->files_in_table[file->slot / 64] &= ~(1ULL << (file->slot % 64));
}
