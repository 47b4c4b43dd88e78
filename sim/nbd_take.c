/*
 * What an NBD client asks for when it is greeted, and what it makes of the server's answers.
 */
#include <string.h>

#include "sim/nbd_client.h"

static struct bdev *bdev_of(const struct nbd_client *c)
{
	return bdev_find(c->export);
}

/* ---- answers -----------------------------------------------------------------------------------
 */

static struct slot *slot_of(const struct nbd_client *c, uint64_t cookie)
{
	for (unsigned i = 0; i < IO_SLOTS; i++) {
		struct slot *s = &io_slots()[i];

		if (s->busy && s->client == c && s->cookie == cookie)
			return s;
	}
	nbd_bad_server(c, "an answer to a request that is not in flight");
}

static void request_end(struct slot *s, uint32_t error)
{
	s->bio.status = -(int)error;
	io_answered(s);
}

/* 0: not all of it is there yet. */
static size_t take_simple(struct nbd_client *c, struct cursor *in)
{
	uint32_t error = cursor_be32(in);
	uint64_t cookie = cursor_be64(in);
	struct slot *s;
	uint64_t bytes;

	if (!cursor_ok(in))
		return 0;
	s = slot_of(c, cookie);
	bytes = error || s->bio.op != BIO_READ ? 0 : s->blocks * s->top->block_bytes;
	if (cursor_left(in) < bytes)
		return 0;
	if (c->structured && s->bio.op == BIO_READ)
		nbd_bad_server(c, "a simple reply where a structured one was agreed upon");
	cursor_copy(in, s->data, bytes);
	request_end(s, error);
	return NBD_SIMPLE_REPLY_BYTES + bytes;
}

static void take_extents(struct nbd_client *c, struct slot *s, struct cursor *in)
{
	uint64_t sum = 0, length = s->blocks * s->top->block_bytes;
	struct bio_extent *e = &s->bio.extent;

	if (cursor_be32(in) != 1)
		nbd_bad_server(c, "another metadata context than was chosen");
	for (unsigned i = 0; cursor_left(in) > 0; i++) {
		uint32_t bytes = cursor_be32(in), state = cursor_be32(in);

		if (bytes == 0 || bytes % s->top->block_bytes)
			nbd_bad_server(c, "an extent that is empty or has half a block");
		if (i == 0)
			*e = (struct bio_extent){.num_blocks = bytes / s->top->block_bytes,
			        .hole = state & NBD_STATE_HOLE,
			        .zero = state & NBD_STATE_ZERO};
		sum += bytes;
	}
	if (!cursor_ok(in) || sum == 0 || sum > length)
		nbd_bad_server(c, "extents that are not those of the request");
}

static uint32_t take_payload(
        struct nbd_client *c, struct slot *s, uint16_t type, const uint8_t *bytes, uint32_t len)
{
	struct cursor in = cursor_of(bytes, len);
	uint32_t error;

	switch (type) {
	case NBD_REPLY_TYPE_NONE:
		if (s->bio.op == BIO_READ)
			nbd_bad_server(c, "a read without data");
		return 0;
	case NBD_REPLY_TYPE_OFFSET_DATA:
		if (s->bio.op != BIO_READ || len != 8 + s->blocks * s->top->block_bytes ||
		        cursor_be64(&in) != s->offset * s->top->block_bytes)
			nbd_bad_server(c, "data that is not what was asked for");
		cursor_copy(&in, s->data, len - 8);
		return 0;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		if (s->bio.op != BIO_BLOCK_STATUS)
			nbd_bad_server(c, "extents that nobody has asked for");
		take_extents(c, s, &in);
		return 0;
	case NBD_REPLY_TYPE_ERROR:
	case NBD_REPLY_TYPE_ERROR_OFFSET:
		error = cursor_be32(&in);
		if (!cursor_ok(&in) || error == 0)
			nbd_bad_server(c, "an error chunk without an error");
		return error;
	default:
		nbd_bad_server(c, "an unknown kind of chunk");
	}
}

/* Ours sends each reply as one chunk. */
static size_t take_chunk(struct nbd_client *c, struct cursor *in)
{
	uint16_t flags = cursor_be16(in), type = cursor_be16(in);
	uint64_t cookie = cursor_be64(in);
	uint32_t len = cursor_be32(in);
	const uint8_t *bytes;
	struct slot *s;

	if (!cursor_ok(in) || cursor_left(in) < len)
		return 0;
	if (!c->structured || !(flags & NBD_REPLY_FLAG_DONE))
		nbd_bad_server(c, "a chunk that can't be");
	s = slot_of(c, cookie);
	bytes = cursor_bytes(in, len);
	request_end(s, take_payload(c, s, type, bytes, len));
	return NBD_CHUNK_HEADER_BYTES + len;
}

static size_t take_reply(struct nbd_client *c, struct cursor *in)
{
	uint32_t magic = cursor_be32(in);

	if (!cursor_ok(in))
		return 0;
	if (magic == NBD_SIMPLE_REPLY_MAGIC)
		return take_simple(c, in);
	if (magic == NBD_STRUCTURED_REPLY_MAGIC)
		return take_chunk(c, in);
	nbd_bad_server(c, "neither a reply nor a chunk");
}

/* ---- negotiation -------------------------------------------------------------------------------
 */

static void option(struct writer *w, uint32_t option, uint32_t len)
{
	writer_be64(w, NBD_MAGIC_OPT);
	writer_be32(w, option);
	writer_be32(w, len);
}

static void ask(struct nbd_client *c)
{
	static const char context[] = NBD_META_BASE_ALLOCATION;
	uint32_t name = (uint32_t)strlen(c->export), query = sizeof(context) - 1;
	struct writer w = nbd_out_writer(c);
	const struct bdev *bdev = bdev_of(c);

	writer_be32(&w, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	if (c->structured)
		option(&w, NBD_OPT_STRUCTURED_REPLY, 0);
	if (c->meta) {
		option(&w, NBD_OPT_SET_META_CONTEXT, 4 + name + 4 + 4 + query);
		writer_be32(&w, name);
		writer_copy(&w, c->export, name);
		writer_be32(&w, 1);
		writer_be32(&w, query);
		writer_copy(&w, context, query);
	}
	option(&w, c->old_way ? NBD_OPT_EXPORT_NAME : NBD_OPT_GO, c->old_way ? name : name + 6);
	if (!c->old_way)
		writer_be32(&w, name);
	writer_copy(&w, c->export, name);
	if (!c->old_way)
		writer_be16(&w, 0);
	nbd_out_written(c, &w);
	c->sizes = 1;
	c->size_blocks[0] = bdev ? bdev_num_blocks(bdev) : 0;
	c->state = CLIENT_HAGGLING;
	nbd_send_more(c);
}

/*
 * What it was told is a size that the bdev has had since it asked. The last may be published and
 * not told yet.
 */
static void enter(struct nbd_client *c)
{
	const struct bdev *bdev = bdev_of(c);

	c->state = CLIENT_READY;
	if (!bdev || c->excused)
		return;
	uint64_t now = bdev_num_blocks(bdev), told = c->size_bytes >> bdev->block_shift;
	bool known = told == now || c->sizes > NBD_CLIENT_SIZES_MAX;

	for (unsigned i = 0; !known && i < c->sizes; i++)
		known = told == c->size_blocks[i];
	if (!known)
		sim_fail("nbd", "a client of %s is told of %lu blocks; it has %lu, and had %lu",
		        c->export, told, now, c->size_blocks[0]);
}

static size_t take_option_reply(struct nbd_client *c, struct cursor *in)
{
	uint64_t magic = cursor_be64(in);
	uint32_t for_option = cursor_be32(in), type = cursor_be32(in), len = cursor_be32(in);
	const uint8_t *bytes;

	if (!cursor_ok(in) || cursor_left(in) < len)
		return 0;
	bytes = cursor_bytes(in, len);
	if (magic != NBD_MAGIC_REP)
		nbd_bad_server(c, "no option reply");
	if (type >= NBD_REP_ERR(0)) {
		if (!nbd_may_end(c))
			nbd_bad_server(c, "an option is refused");
		c->excused = true;
		nbd_begin_end(c);
	} else if (for_option == NBD_OPT_GO && type == NBD_REP_INFO) {
		struct cursor info = cursor_of(bytes, len);

		if (cursor_be16(&info) == NBD_INFO_EXPORT) {
			c->size_bytes = cursor_be64(&info);
			c->flags = cursor_be16(&info);
		}
	} else if (for_option == NBD_OPT_GO && type == NBD_REP_ACK) {
		enter(c);
	}
	return NBD_REP_HEADER_BYTES + len;
}

static size_t take_old_way(struct nbd_client *c, struct cursor *in)
{
	uint64_t size = cursor_be64(in);
	uint16_t flags = cursor_be16(in);

	if (!cursor_ok(in))
		return 0;
	c->size_bytes = size;
	c->flags = flags;
	enter(c);
	return 10;
}

static size_t take_haggling(struct nbd_client *c, struct cursor *in)
{
	struct cursor peek = *in;
	uint64_t magic = cursor_be64(&peek);

	if (!cursor_ok(&peek))
		return 0;
	return c->old_way && magic != NBD_MAGIC_REP ? take_old_way(c, in)
	                                            : take_option_reply(c, in);
}

static size_t take_greeting(struct nbd_client *c, struct cursor *in)
{
	uint64_t init = cursor_be64(in), opt = cursor_be64(in);
	uint16_t flags = cursor_be16(in);

	if (!cursor_ok(in))
		return 0;
	if (init != NBD_MAGIC_INIT || opt != NBD_MAGIC_OPT || !(flags & NBD_FLAG_FIXED_NEWSTYLE))
		nbd_bad_server(c, "no greeting");
	ask(c);
	return NBD_GREETING_BYTES;
}

/* ---- all of it --------------------------------------------------------------------------------
 */

static size_t take(struct nbd_client *c, struct cursor *in)
{
	switch (c->state) {
	case CLIENT_GREETING:
		return take_greeting(c, in);
	case CLIENT_HAGGLING:
		return take_haggling(c, in);
	case CLIENT_READY:
	case CLIENT_LEAVING:
		return take_reply(c, in);
	default:
		return 0;
	}
}

void nbd_take_all(struct nbd_client *c)
{
	size_t at = 0, n;

	do {
		struct cursor in = cursor_of(c->in + at, c->in_len - at);

		n = take(c, &in);
		at += n;
	} while (n > 0 && at < c->in_len);
	c->in_len -= (uint32_t)at;
	memmove(c->in, c->in + at, c->in_len);
}
