/* bio_data.c: the data view of a bio. */
/* tidy: data path */
#include "bdev/bio_core.h"

#include <errno.h>
#include <string.h>

/* A position in an iovec array. */
struct view {
	const struct iovec *iov, *end;
	size_t skip;
};

static struct view view_at(const struct bio *bio, uint64_t skip_bytes)
{
	struct view v = {.iov = bio->iov, .end = bio->iov + bio->iovcnt};
	uint64_t skip = bio->iov_skip_bytes + skip_bytes;

	while (v.iov < v.end && skip >= v.iov->iov_len) {
		skip -= v.iov->iov_len;
		v.iov++;
	}
	v.skip = (size_t)skip;
	return v;
}

/* The next run of at most max bytes; its length goes to *len. */
static char *view_next(struct view *v, size_t max, size_t *len)
{
	char *run;

	while (v->iov < v->end && v->skip == v->iov->iov_len) {
		v->iov++;
		v->skip = 0;
	}
	BELLOWS_ASSERT(v->iov < v->end);
	run = (char *)v->iov->iov_base + v->skip;
	*len = (size_t)min_u64(max, v->iov->iov_len - v->skip);
	v->skip += *len;
	return run;
}

void bio_copy_out(const struct bio *bio, uint64_t skip_bytes, void *dst, size_t len)
{
	struct view v = view_at(bio, skip_bytes);
	char *to = dst;
	size_t run;

	for (; len > 0; len -= run, to += run) {
		const char *from = view_next(&v, len, &run);

		memcpy(to, from, run);
	}
}

void bio_copy_in(struct bio *bio, uint64_t skip_bytes, const void *src, size_t len)
{
	struct view v = view_at(bio, skip_bytes);
	const char *from = src;
	size_t run;

	for (; len > 0; len -= run, from += run) {
		char *to = view_next(&v, len, &run);

		memcpy(to, from, run);
	}
}

void bio_zero_data(struct bio *bio, uint64_t skip_bytes, size_t len)
{
	struct view v = view_at(bio, skip_bytes);
	size_t run;

	for (; len > 0; len -= run) {
		char *to = view_next(&v, len, &run);

		memset(to, 0, run);
	}
}

int bio_compare_data(const struct bio *bio, uint64_t skip_bytes, const void *with, size_t len)
{
	struct view v = view_at(bio, skip_bytes);
	const char *b = with;
	size_t run;

	for (; len > 0; len -= run, b += run) {
		const char *a = view_next(&v, len, &run);

		if (memcmp(a, b, run) != 0)
			return -EILSEQ;
	}
	return 0;
}

unsigned bio_iovs(
        const struct bio *bio, struct iovec *out, unsigned max, const struct iovec **exact)
{
	uint64_t left = bio_bytes(bio), sum = 0;
	unsigned n = 0;

	if (bio->iov_skip_bytes == 0) {
		for (; n < bio->iovcnt && sum < left; n++)
			sum += bio->iov[n].iov_len;
		if (sum == left) {
			*exact = bio->iov;
			return n;
		}
	}

	struct view v = view_at(bio, 0);

	for (n = 0; left > 0; n++) {
		size_t run;
		char *base = view_next(&v, left, &run);

		if (n == max)
			return 0;
		out[n] = (struct iovec){.iov_base = base, .iov_len = run};
		left -= run;
	}
	*exact = out;
	return n;
}

void bio_child_slice(struct bio_child *child, const struct bio *parent, uint64_t skip_bytes)
{
	struct view v = view_at(parent, skip_bytes);

	child->bio.iov = v.iov;
	child->bio.iovcnt = (uint32_t)(v.end - v.iov);
	child->bio.iov_skip_bytes = (uint32_t)v.skip;
}

bool bio_is_aligned(const struct bio *bio, const struct bio_limits *limits)
{
	struct view v = view_at(bio, 0);
	size_t run;

	if (limits->address_mask == 0)
		return true;
	for (uint64_t left = bio_bytes(bio); left > 0; left -= run) {
		uintptr_t address = (uintptr_t)view_next(&v, left, &run);

		if ((address & limits->address_mask) || (run & limits->len_mask))
			return false;
	}
	return true;
}

bool bio_fits(const struct bio *bio, const struct bio_limits *limits)
{
	uint64_t offset = bio_offset(bio), n = bio->num_blocks;

	if (limits->boundary_blocks && n > 1 &&
	        offset % limits->boundary_blocks + n > limits->boundary_blocks)
		return false;
	if (!(bio->need & OPS_WITH_DATA))
		return true;
	if (limits->max_transfer_blocks && n > limits->max_transfer_blocks)
		return false;
	return bio_is_aligned(bio, limits);
}
