/*
 * Clients of the NBD target over simulated sockets: negotiation, requests, answers, and the ends of
 * connections. They live on the control loop.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/nbd_client.h"

static struct nbd_client clients[NBD_CLIENTS_MAX];
static uint64_t last_cookie;

_Noreturn void nbd_bad_server(const struct nbd_client *c, const char *what)
{
	sim_fail("nbd", "the server of %s: %s", c->export, what);
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

void nbd_begin_end(struct nbd_client *c)
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
		nbd_bad_server(c, "it has cut off a client without a reason");
	nbd_begin_end(c);
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

void nbd_resized(const char *export, uint64_t new_blocks)
{
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++) {
		struct nbd_client *c = &clients[i];

		if (c->state == CLIENT_FREE || strcmp(c->export, export) != 0)
			continue;
		if (c->sizes < NBD_CLIENT_SIZES_MAX)
			c->size_blocks[c->sizes] = new_blocks;
		c->sizes++;
	}
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static void sent(struct loop_op *op, int result)
{
	struct nbd_client *c = container_of(op, struct nbd_client, send_op);

	c->sending = false;
	if (result < 0)
		return; /* the receiver hears of it too */
	c->out_len -= c->sent_len;
	memmove(c->out, c->out + c->sent_len, c->out_len);
	nbd_send_more(c);
}

void nbd_send_more(struct nbd_client *c)
{
	struct iovec iov = {c->out, c->out_len};

	if (c->sending || c->out_len == 0 || c->state == CLIENT_ENDING)
		return;
	c->sending = true;
	c->sent_len = c->out_len;
	c->send_op.done = sent;
	loop_sock_send(loop_self(), &c->send_op, c->sock, &iov, 1, false);
}

struct writer nbd_out_writer(struct nbd_client *c)
{
	return writer_of(c->out + c->out_len, NBD_CLIENT_OUT_BYTES - c->out_len);
}

void nbd_out_written(struct nbd_client *c, const struct writer *w)
{
	BELLOWS_ASSERT(!w->bad);
	c->out_len = (uint32_t)(w->pos - c->out);
}

static void kicked(struct loop_task *task)
{
	struct nbd_client *c = container_of(task, struct nbd_client, kick);

	c->kicked = false;
	nbd_send_more(c);
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
		        NBD_CLIENT_OUT_BYTES - c->out_len < IO_BYTES_MAX + 2 * NBD_REQUEST_BYTES)
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
	struct writer w = nbd_out_writer(c);
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
	nbd_out_written(c, &w);
	kick(c);
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

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
	nbd_take_all(c);
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
	BELLOWS_ASSERT(c->in_len < NBD_CLIENT_IN_BYTES);
	c->receiving = true;
	c->recv_op.done = received;
	loop_sock_recv(loop_self(), &c->recv_op, c->sock, c->in + c->in_len,
	        NBD_CLIENT_IN_BYTES - c->in_len, false);
}

/* ---- connecting --------------------------------------------------------------------------------
 */

static void connected(struct loop_op *op, int result)
{
	struct nbd_client *c = container_of(op, struct nbd_client, connect_op);

	if (result < 0) {
		if (!life_is_ending())
			nbd_bad_server(c, "nobody listens");
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
	if (c->state == CLIENT_READY && rng_one_in(rng, 3) &&
	        NBD_CLIENT_OUT_BYTES - c->out_len > 64) {
		struct writer w = nbd_out_writer(c);

		/* All that was sent before is answered before the server ends it. */
		writer_be32(&w, NBD_REQUEST_MAGIC);
		writer_be32(&w, NBD_CMD_DISC);
		writer_zero(&w, NBD_REQUEST_BYTES - 8);
		nbd_out_written(c, &w);
		c->state = CLIENT_LEAVING;
		kick(c);
		return true;
	}
	c->excused = true;
	nbd_begin_end(c);
	return true;
}
