/*
 * Sockets as pairs of byte streams in memory. What is sent arrives in pieces of random size, after
 * a random time, and a stream holds only so much that is not yet received.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/sim.h"

#define STREAM_BYTES (64 * 1024)

struct loop_sock {
	struct loop_sock *peer; /* NULL: closed */
	struct list link;
	unsigned id;
	bool is_unix, shut;
	struct sim_op *recv, *send;
	/* received and not yet taken; a ring */
	uint8_t *bytes;
	size_t head, len;
};

struct loop_listener {
	struct list link;
	struct loop *loop;
	struct loop_addr addr;
	loop_accept_fn accept_fn;
	void *arg;
};

/* A connection on its way to the listener's loop. */
struct arrival {
	struct loop_task task;
	struct list link;
	struct loop_addr addr;
	struct loop_sock *sock;
};

static struct list listeners = LIST_INIT(listeners);
static struct list socks = LIST_INIT(socks);
static struct list arrivals = LIST_INIT(arrivals);
static unsigned last_id;

/* ---- listening and connecting ---------------------------------------------------------------- */

static struct loop_listener *listener_find(const struct loop_addr *addr)
{
	struct loop_listener *l;

	list_for_each (l, &listeners, link)
		if (l->addr.kind == addr->kind &&
		        (addr->kind == LOOP_ADDR_UNIX ? strcmp(l->addr.path, addr->path) == 0
		                                      : l->addr.port == addr->port))
			return l;
	return NULL;
}

int loop_listen(struct loop *loop, const struct loop_addr *addr, loop_accept_fn accept_fn,
        void *arg, struct loop_listener **out, struct err *err)
{
	struct loop_listener *l;

	BELLOWS_ASSERT(loop_is_control());
	if (listener_find(addr) && (addr->kind == LOOP_ADDR_UNIX || addr->port != 0))
		return err_set(err, -EADDRINUSE, "the address is in use");
	l = xcalloc(1, sizeof(*l));
	l->loop = loop;
	l->addr = *addr;
	l->accept_fn = accept_fn;
	l->arg = arg;
	if (addr->kind == LOOP_ADDR_TCP && addr->port == 0)
		for (l->addr.port = 40000; listener_find(&l->addr);)
			l->addr.port++;
	list_push_back(&listeners, &l->link);
	*out = l;
	return 0;
}

void loop_listener_close(struct loop *loop, struct loop_listener *listener)
{
	(void)loop;
	list_remove(&listener->link);
	free(listener);
}

const struct loop_addr *loop_listener_addr(const struct loop_listener *listener)
{
	return &listener->addr;
}

static struct loop_sock *sock_new(bool is_unix)
{
	struct loop_sock *s = xcalloc(1, sizeof(*s));

	s->id = ++last_id;
	s->is_unix = is_unix;
	s->bytes = xcalloc(1, STREAM_BYTES);
	list_push_back(&socks, &s->link);
	return s;
}

static void arrive(struct loop_task *task)
{
	struct arrival *a = container_of(task, struct arrival, task);
	struct loop_listener *l = listener_find(&a->addr);

	if (l)
		l->accept_fn(l, a->sock, l->arg);
	else
		loop_sock_close(loop_self(), a->sock);
	list_remove(&a->link);
	free(a);
}

static int connect_execute(struct sim_op *so)
{
	const struct loop_addr *addr = (const void *)so->path;
	struct loop_listener *l = listener_find(addr);
	struct loop_sock *near, *far;
	struct arrival *a;

	if (!l)
		return addr->kind == LOOP_ADDR_UNIX ? -ENOENT : -ECONNREFUSED;
	near = sock_new(addr->kind == LOOP_ADDR_UNIX);
	far = sock_new(near->is_unix);
	near->peer = far;
	far->peer = near;
	a = xcalloc(1, sizeof(*a));
	a->task.run = arrive;
	a->addr = l->addr;
	a->sock = far;
	list_push_back(&arrivals, &a->link);
	loop_send(l->loop, &a->task);
	*(struct loop_sock **)so->out = near;
	return 0;
}

void loop_sock_connect(
        struct loop *loop, struct loop_op *op, const struct loop_addr *addr, struct loop_sock **out)
{
	struct sim_op *so = sim_op_new(loop, op, OP_SOCKET);

	so->path = xcalloc(1, sizeof(*addr));
	memcpy(so->path, addr, sizeof(*addr));
	so->execute = connect_execute;
	so->out = out;
	sim_op_start(so, rng_range(&sim->sched, 1, 50 * NSEC_PER_USEC));
}

/* ---- streams --------------------------------------------------------------------------------- */

/* Lets an operation that waits for the other side look again. */
static void wake(struct sim_op *so)
{
	if (so)
		sim_op_hurry(so);
}

/* Waits until it is woken. */
static int park(struct sim_op *so)
{
	sim_op_park(so);
	return -EINPROGRESS;
}

static int again_soon(struct sim_op *so)
{
	sim_op_start(so, rng_range(&sim->sched, 100, 20 * NSEC_PER_USEC));
	return -EINPROGRESS;
}

static struct loop_sock *sock_of(struct sim_op *so)
{
	return (struct loop_sock *)so->file;
}

static int recv_end(struct sim_op *so, int result)
{
	sock_of(so)->recv = NULL;
	so->file = NULL;
	return result;
}

static int recv_execute(struct sim_op *so)
{
	struct loop_sock *s = sock_of(so);
	uint64_t want = so->len - so->offset, n = min_u64(want, s->len);

	if (n == 0 && so->len > 0) {
		if (!s->shut && s->peer && !s->peer->shut)
			return park(so);
		return recv_end(so, (int)so->offset); /* end of stream */
	}
	if (n > 1 && rng_one_in(&sim->sched, 4))
		n = rng_range(&sim->sched, 1, n);
	for (uint64_t i = 0; i < n; i++)
		((uint8_t *)so->out)[so->offset + i] = s->bytes[(s->head + i) % STREAM_BYTES];
	s->head = (s->head + n) % STREAM_BYTES;
	s->len -= n;
	so->offset += n;
	sim_event(SIM_SOCK, s->id, n, 0);
	if (s->peer)
		wake(s->peer->send);
	if (so->flags && so->offset < so->len)
		return again_soon(so);
	return recv_end(so, (int)so->offset);
}

void loop_sock_recv(struct loop *loop, struct loop_op *op, struct loop_sock *sock, void *buf,
        size_t len, bool all)
{
	struct sim_op *so = sim_op_new(loop, op, OP_SOCKET);

	BELLOWS_ASSERT(!sock->recv);
	so->execute = recv_execute;
	so->file = (void *)sock;
	so->out = buf;
	so->len = len;
	so->flags = all;
	sock->recv = so;
	sim_op_start(so, rng_range(&sim->sched, 100, 20 * NSEC_PER_USEC));
}

static int send_end(struct sim_op *so, int result)
{
	sock_of(so)->send = NULL;
	so->file = NULL;
	return result;
}

/* The next n bytes arrive. */
static void deliver(struct sim_op *so, uint64_t n)
{
	struct loop_sock *s = sock_of(so), *to = s->peer;
	uint64_t at = 0, left = n;

	for (unsigned i = 0; i < so->iovcnt && left > 0; i++) {
		const uint8_t *src = so->iovs[i].iov_base;

		for (size_t k = 0; k < so->iovs[i].iov_len && left > 0; k++, at++) {
			if (at < so->offset)
				continue;
			to->bytes[(to->head + to->len++) % STREAM_BYTES] = src[k];
			left--;
		}
	}
	so->offset += n;
	sim_event(SIM_SOCK, s->id, n, 1);
	wake(to->recv);
}

/* How many bytes the other side can take; -1: none any more. */
static int64_t room(const struct loop_sock *s)
{
	const struct loop_sock *to = s->peer;

	return !to || s->shut || to->shut ? -1 : (int64_t)(STREAM_BYTES - to->len);
}

static int send_execute(struct sim_op *so)
{
	int64_t most = room(sock_of(so));
	uint64_t n;

	if (most < 0)
		return send_end(so, -EPIPE);
	n = min_u64(so->len - so->offset, (uint64_t)most);
	if (n == 0 && so->len > so->offset)
		return park(so);
	if (n > 1 && rng_one_in(&sim->sched, 4))
		n = rng_range(&sim->sched, 1, n);
	deliver(so, n);
	if (so->offset < so->len)
		return again_soon(so);
	return send_end(so, (int)so->len);
}

void loop_sock_send(struct loop *loop, struct loop_op *op, struct loop_sock *sock,
        const struct iovec *iov, unsigned iovcnt, bool lazy)
{
	struct sim_op *so = sim_op_new(loop, op, OP_SOCKET);

	BELLOWS_ASSERT(!sock->send);
	so->execute = send_execute;
	so->file = (void *)sock;
	sim_op_take_iovs(so, iov, iovcnt);
	sock->send = so;
	/* A lazy one is tried at once; if that is not enough it is like any other. */
	if (lazy && room(sock) >= (int64_t)so->len && !rng_one_in(&sim->sched, 8)) {
		deliver(so, so->len);
		(void)send_end(so, 0);
		sim_op_done_lazily(so);
		return;
	}
	sim_op_start(so, rng_range(&sim->sched, 100, 20 * NSEC_PER_USEC));
}

void sim_sock_cancelled(struct sim_op *so)
{
	struct loop_sock *s = sock_of(so);

	if (!s)
		return; /* a connect */
	if (s->recv == so)
		s->recv = NULL;
	if (s->send == so)
		s->send = NULL;
	so->file = NULL;
}

void loop_sock_shutdown(struct loop *loop, struct loop_sock *sock)
{
	(void)loop;
	sock->shut = true;
	wake(sock->recv);
	wake(sock->send);
	if (sock->peer) {
		wake(sock->peer->recv);
		wake(sock->peer->send);
	}
}

bool sim_sock_is_alone(const struct loop_sock *sock)
{
	return !sock->peer;
}

static void sock_free(struct loop_sock *sock)
{
	list_remove(&sock->link);
	free(sock->bytes);
	free(sock);
}

void loop_sock_close(struct loop *loop, struct loop_sock *sock)
{
	BELLOWS_ASSERT(!sock->recv && !sock->send);
	loop_sock_shutdown(loop, sock);
	if (sock->peer)
		sock->peer->peer = NULL;
	sock_free(sock);
}

void loop_sock_peer(const struct loop_sock *sock, char *buf, size_t size)
{
	snprintf(buf, size, sock->is_unix ? "unix" : "127.0.0.1:%u", 50000 + sock->id);
}

void sim_socks_end(void)
{
	struct loop_sock *s, *s_next;
	struct arrival *a, *a_next;

	list_for_each_safe (a, a_next, &arrivals, link) {
		list_remove(&a->link);
		free(a);
	}
	list_for_each_safe (s, s_next, &socks, link)
		sock_free(s);
	list_init(&listeners);
	last_id = 0;
}
