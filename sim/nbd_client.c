/*
 * Clients of the NBD target over simulated sockets: negotiation, requests, answers, and the ends of
 * connections. They live on the control loop.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "sim/nbd.h"
#include "target/nbd/nbd_wire.h"

#define OUT_BYTES (512 * 1024)
#define IN_BYTES (IO_BYTES_MAX + 4096)
#define NAME_MAX_BYTES 64

enum client_state {
	CLIENT_FREE,
	CLIENT_CONNECTING,
	CLIENT_GREETING,
	CLIENT_HAGGLING,
	CLIENT_READY,
	CLIENT_LEAVING, /* has asked to disconnect */
	CLIENT_ENDING,  /* until the server has closed its end */
};

struct nbd_client {
	enum client_state state;
	struct loop_sock *sock;
	struct loop_op connect_op, recv_op, send_op;
	struct loop_task kick;
	struct loop_timer timer; /* until it reads on, or looks again whether the server has gone */
	struct rng rng;
	char export[NAME_MAX_BYTES];
	bool old_way, structured, meta; /* what it asks for */
	bool receiving, sending, kicked, deaf;
	bool excused; /* the server may cut it off */
	uint64_t blocks_at_start;
	unsigned resizes; /* since it asked for the size */
	uint64_t size_bytes;
	uint16_t flags;
	uint64_t ending_ns;
	uint8_t out[OUT_BYTES], in[IN_BYTES];
	uint32_t out_len, sent_len, in_len;
};

static struct nbd_client clients[NBD_CLIENTS_MAX];
static uint64_t last_cookie;

_Noreturn static void bad_server(const struct nbd_client *c, const char *what)
{
	sim_fail("nbd", "the server of %s: %s", c->export, what);
}

static struct bdev *bdev_of(const struct nbd_client *c)
{
	return bdev_find(c->export);
}

/* ---- the end of a connection -------------------------------------------------------------------
 */

/* Nobody can tell what has become of the requests that were not answered. */
static void lose_requests(struct nbd_client *c)
{
	for (unsigned i = 0; i < IO_SLOTS; i++) {
		struct slot *s = &io_slots()[i];

		if (s->busy && s->client == c)
			io_lost(s);
	}
}

static void end_look(struct loop_timer *timer)
{
	struct nbd_client *c = container_of(timer, struct nbd_client, timer);

	if (c->receiving || c->sending || c->kicked || !sim_sock_is_alone(c->sock)) {
		uint64_t waited = sim->now_ns - c->ending_ns;

		loop_timer_start(loop_self(), timer, sim->now_ns + 100 * NSEC_PER_USEC + waited);
		return;
	}
	loop_sock_close(loop_self(), c->sock);
	lose_requests(c);
	c->state = CLIENT_FREE;
}

static void begin_end(struct nbd_client *c)
{
	if (c->state == CLIENT_ENDING)
		return;
	c->state = CLIENT_ENDING;
	c->ending_ns = sim->now_ns;
	loop_timer_stop(loop_self(), &c->timer);
	loop_sock_shutdown(loop_self(), c->sock);
	c->timer.fire = end_look;
	loop_timer_start(loop_self(), &c->timer, sim->now_ns + NSEC_PER_USEC);
}

static bool has_requests(const struct nbd_client *c)
{
	for (unsigned i = 0; i < IO_SLOTS; i++)
		if (io_slots()[i].busy && io_slots()[i].client == c)
			return true;
	return false;
}

/* The server has ended it. */
static void cut_off(struct nbd_client *c)
{
	if (!nbd_may_end(c) && (c->state != CLIENT_LEAVING || has_requests(c)))
		bad_server(c, "it has cut off a client without a reason");
	begin_end(c);
}

bool nbd_may_end(const struct nbd_client *c)
{
	return c->excused || life_is_ending();
}

void nbd_excuse(const char *export)
{
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		if (clients[i].state != CLIENT_FREE && strcmp(clients[i].export, export) == 0)
			clients[i].excused = true;
}

void nbd_resized(const char *export)
{
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		if (clients[i].state != CLIENT_FREE && strcmp(clients[i].export, export) == 0)
			clients[i].resizes++;
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static void send_more(struct nbd_client *c);

static void sent(struct loop_op *op, int result)
{
	struct nbd_client *c = container_of(op, struct nbd_client, send_op);

	c->sending = false;
	if (result < 0)
		return; /* the receiver hears of it too */
	c->out_len -= c->sent_len;
	memmove(c->out, c->out + c->sent_len, c->out_len);
	send_more(c);
}

static void send_more(struct nbd_client *c)
{
	struct iovec iov = {c->out, c->out_len};

	if (c->sending || c->out_len == 0 || c->state == CLIENT_ENDING)
		return;
	c->sending = true;
	c->sent_len = c->out_len;
	c->send_op.done = sent;
	loop_sock_send(loop_self(), &c->send_op, c->sock, &iov, 1, false);
}

static struct writer out_writer(struct nbd_client *c)
{
	return writer_of(c->out + c->out_len, OUT_BYTES - c->out_len);
}

static void out_written(struct nbd_client *c, const struct writer *w)
{
	BELLOWS_ASSERT(!w->bad);
	c->out_len = (uint32_t)(w->pos - c->out);
}

static void kicked(struct loop_task *task)
{
	struct nbd_client *c = container_of(task, struct nbd_client, kick);

	c->kicked = false;
	send_more(c);
}

/* From any loop. */
static void kick(struct nbd_client *c)
{
	if (c->kicked)
		return;
	c->kicked = true;
	c->kick.run = kicked;
	loop_send(loop_get(LOOP_CONTROL), &c->kick);
}

struct nbd_client *nbd_client_for(
        const struct top *top, enum bio_op op, uint64_t offset, uint64_t blocks)
{
	uint64_t size = bdev_num_blocks(top->bdev);
	bool ranged = op != BIO_FLUSH, reads = op == BIO_READ || op == BIO_BLOCK_STATUS;

	if (op == BIO_COMPARE || op == BIO_RESET || (ranged && blocks == 0))
		return NULL;
	/* Past the end only for what leaves nothing there when it has grown meanwhile. */
	if (ranged && (offset > size + 8 || (!reads && offset + blocks > size)))
		return NULL;
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++) {
		struct nbd_client *c = &clients[i];

		if (c->state != CLIENT_READY || c->excused ||
		        strcmp(c->export, top->bdev->name) != 0 || sim_sock_is_alone(c->sock) ||
		        (op == BIO_UNMAP && !(c->flags & NBD_FLAG_SEND_TRIM)) ||
		        (op == BIO_BLOCK_STATUS && !c->meta) ||
		        OUT_BYTES - c->out_len < IO_BYTES_MAX + 2 * NBD_REQUEST_BYTES)
			continue;
		if (rng_one_in(&c->rng, 2))
			return c;
	}
	return NULL;
}

void nbd_client_send(struct nbd_client *c, struct slot *s)
{
	static const uint16_t types[BIO_OPS] = {
	        [BIO_READ] = NBD_CMD_READ,
	        [BIO_WRITE] = NBD_CMD_WRITE,
	        [BIO_FLUSH] = NBD_CMD_FLUSH,
	        [BIO_UNMAP] = NBD_CMD_TRIM,
	        [BIO_WRITE_ZEROES] = NBD_CMD_WRITE_ZEROES,
	        [BIO_BLOCK_STATUS] = NBD_CMD_BLOCK_STATUS,
	};
	struct writer w = out_writer(c);
	unsigned flags = s->bio.flags & BIO_FUA ? NBD_CMD_FLAG_FUA : 0;
	uint64_t bytes = s->blocks * s->top->block_bytes;

	if (s->bio.flags & BIO_NO_UNMAP)
		flags |= NBD_CMD_FLAG_NO_HOLE;
	if (s->bio.op == BIO_BLOCK_STATUS && rng_one_in(&c->rng, 2))
		flags |= NBD_CMD_FLAG_REQ_ONE;
	s->cookie = ++last_cookie;
	writer_be32(&w, NBD_REQUEST_MAGIC);
	writer_be16(&w, (uint16_t)flags);
	writer_be16(&w, types[s->bio.op]);
	writer_be64(&w, s->cookie);
	writer_be64(&w, s->offset * s->top->block_bytes);
	writer_be32(&w, (uint32_t)bytes);
	if (s->bio.op == BIO_WRITE)
		writer_copy(&w, s->data, bytes);
	out_written(c, &w);
	kick(c);
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
	bad_server(c, "an answer to a request that is not in flight");
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
		bad_server(c, "a simple reply where a structured one was agreed upon");
	cursor_copy(in, s->data, bytes);
	request_end(s, error);
	return NBD_SIMPLE_REPLY_BYTES + bytes;
}

static void take_extents(struct nbd_client *c, struct slot *s, struct cursor *in)
{
	uint64_t sum = 0, length = s->blocks * s->top->block_bytes;
	struct bio_extent *e = &s->bio.extent;

	if (cursor_be32(in) != 1)
		bad_server(c, "another metadata context than was chosen");
	for (unsigned i = 0; cursor_left(in) > 0; i++) {
		uint32_t bytes = cursor_be32(in), state = cursor_be32(in);

		if (bytes == 0 || bytes % s->top->block_bytes)
			bad_server(c, "an extent that is empty or has half a block");
		if (i == 0)
			*e = (struct bio_extent){.num_blocks = bytes / s->top->block_bytes,
			        .hole = state & NBD_STATE_HOLE,
			        .zero = state & NBD_STATE_ZERO};
		sum += bytes;
	}
	if (!cursor_ok(in) || sum == 0 || sum > length)
		bad_server(c, "extents that are not those of the request");
}

static uint32_t take_payload(
        struct nbd_client *c, struct slot *s, uint16_t type, const uint8_t *bytes, uint32_t len)
{
	struct cursor in = cursor_of(bytes, len);
	uint32_t error;

	switch (type) {
	case NBD_REPLY_TYPE_NONE:
		if (s->bio.op == BIO_READ)
			bad_server(c, "a read without data");
		return 0;
	case NBD_REPLY_TYPE_OFFSET_DATA:
		if (s->bio.op != BIO_READ || len != 8 + s->blocks * s->top->block_bytes ||
		        cursor_be64(&in) != s->offset * s->top->block_bytes)
			bad_server(c, "data that is not what was asked for");
		cursor_copy(&in, s->data, len - 8);
		return 0;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		if (s->bio.op != BIO_BLOCK_STATUS)
			bad_server(c, "extents that nobody has asked for");
		take_extents(c, s, &in);
		return 0;
	case NBD_REPLY_TYPE_ERROR:
	case NBD_REPLY_TYPE_ERROR_OFFSET:
		error = cursor_be32(&in);
		if (!cursor_ok(&in) || error == 0)
			bad_server(c, "an error chunk without an error");
		return error;
	default:
		bad_server(c, "an unknown kind of chunk");
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
		bad_server(c, "a chunk that can't be");
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
	bad_server(c, "neither a reply nor a chunk");
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
	struct writer w = out_writer(c);
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
	out_written(c, &w);
	c->resizes = 0;
	c->blocks_at_start = bdev ? bdev_num_blocks(bdev) : 0;
	c->state = CLIENT_HAGGLING;
	send_more(c);
}

/* What it was told is the size that the bdev has had meanwhile. */
static void enter(struct nbd_client *c)
{
	const struct bdev *bdev = bdev_of(c);

	c->state = CLIENT_READY;
	if (!bdev || c->excused)
		return;
	uint64_t now = bdev_num_blocks(bdev), told = c->size_bytes >> bdev->block_shift;

	if (c->resizes < 2 && told != now && (told != c->blocks_at_start))
		sim_fail("nbd", "a client of %s is told of %lu blocks; it has %lu, and had %lu",
		        c->export, told, now, c->blocks_at_start);
	if (c->resizes == 0 && now == c->blocks_at_start && told != now)
		sim_fail("nbd", "a client of %s is told of %lu blocks, it has %lu", c->export, told,
		        now);
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
		bad_server(c, "no option reply");
	if (type >= NBD_REP_ERR(0)) {
		if (!nbd_may_end(c))
			bad_server(c, "an option is refused");
		c->excused = true;
		begin_end(c);
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
		bad_server(c, "no greeting");
	ask(c);
	return NBD_GREETING_BYTES;
}

/* ---- receiving ---------------------------------------------------------------------------------
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

static void take_all(struct nbd_client *c)
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

static void receive(struct nbd_client *c);

static void hears_again(struct loop_timer *timer)
{
	struct nbd_client *c = container_of(timer, struct nbd_client, timer);

	c->deaf = false;
	receive(c);
}

static void received(struct loop_op *op, int result)
{
	struct nbd_client *c = container_of(op, struct nbd_client, recv_op);

	c->receiving = false;
	if (c->state == CLIENT_ENDING)
		return;
	if (result <= 0) {
		cut_off(c);
		return;
	}
	c->in_len += (uint32_t)result;
	take_all(c);
	if (c->state == CLIENT_ENDING)
		return;
	if (rng_one_in(&c->rng, 32)) { /* busy elsewhere */
		c->deaf = true;
		c->timer.fire = hears_again;
		loop_timer_start(loop_self(), &c->timer,
		        sim->now_ns + rng_below(&c->rng, 20 * NSEC_PER_MSEC));
		return;
	}
	receive(c);
}

static void receive(struct nbd_client *c)
{
	BELLOWS_ASSERT(c->in_len < IN_BYTES);
	c->receiving = true;
	c->recv_op.done = received;
	loop_sock_recv(
	        loop_self(), &c->recv_op, c->sock, c->in + c->in_len, IN_BYTES - c->in_len, false);
}

/* ---- connecting --------------------------------------------------------------------------------
 */

static void connected(struct loop_op *op, int result)
{
	struct nbd_client *c = container_of(op, struct nbd_client, connect_op);

	if (result < 0) {
		if (!life_is_ending())
			bad_server(c, "nobody listens");
		c->state = CLIENT_FREE;
		return;
	}
	c->state = CLIENT_GREETING;
	receive(c);
}

bool nbd_connect(const char *export, struct rng *rng)
{
	static const struct loop_addr addr = {
	        .kind = LOOP_ADDR_TCP, .host = "127.0.0.1", .port = NBD_SIM_PORT};
	struct nbd_client *c = clients;

	while (c < clients + NBD_CLIENTS_MAX && c->state != CLIENT_FREE)
		c++;
	if (c == clients + NBD_CLIENTS_MAX)
		return false;
	memset(c, 0, offsetof(struct nbd_client, out));
	c->out_len = c->in_len = 0;
	c->state = CLIENT_CONNECTING;
	str_copy(c->export, sizeof(c->export), export);
	c->rng = rng_stream(rng_next(rng), 1);
	c->old_way = rng_one_in(rng, 4);
	c->structured = rng_one_in(rng, 2);
	c->meta = c->structured && rng_one_in(rng, 2);
	c->connect_op.done = connected;
	loop_sock_connect(loop_self(), &c->connect_op, &addr, &c->sock);
	return true;
}

bool nbd_hang_up(struct rng *rng)
{
	struct nbd_client *fit[NBD_CLIENTS_MAX], *c;
	unsigned n = 0;

	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		if (clients[i].state > CLIENT_CONNECTING && clients[i].state < CLIENT_ENDING)
			fit[n++] = &clients[i];
	if (n == 0)
		return false;
	c = fit[rng_below(rng, n)];
	if (c->state == CLIENT_READY && rng_one_in(rng, 3) && OUT_BYTES - c->out_len > 64) {
		struct writer w = out_writer(c);

		/* All that was sent before is answered before the server ends it. */
		writer_be32(&w, NBD_REQUEST_MAGIC);
		writer_be32(&w, NBD_CMD_DISC);
		writer_zero(&w, NBD_REQUEST_BYTES - 8);
		out_written(c, &w);
		c->state = CLIENT_LEAVING;
		kick(c);
		return true;
	}
	c->excused = true;
	begin_end(c);
	return true;
}
