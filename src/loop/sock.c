/* Connected stream sockets. */
#include "loop/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define IOVS_PER_CALL 1024U /* IOV_MAX */

struct loop_sock {
	int fd;
	enum loop_addr_kind kind;
};

struct connect_state {
	union sock_address address;
	struct loop_sock *sock;
	struct loop_sock **out;
};

int sock_address_of(const struct loop_addr *addr, union sock_address *out)
{
	*out = (union sock_address){0};
	if (addr->kind == LOOP_ADDR_UNIX) {
		size_t len = strnlen(addr->path, sizeof(addr->path));

		if (len == 0)
			return -EINVAL;
		if (len >= sizeof(out->un.sun_path))
			return -ENAMETOOLONG;
		out->un.sun_family = AF_UNIX;
		memcpy(out->un.sun_path, addr->path, len);
		return sizeof(out->un);
	}
	if (inet_pton(AF_INET, addr->host, &out->in.sin_addr) == 1) {
		out->in.sin_family = AF_INET;
		out->in.sin_port = htons(addr->port);
		return sizeof(out->in);
	}
	if (inet_pton(AF_INET6, addr->host, &out->in6.sin6_addr) == 1) {
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons(addr->port);
		return sizeof(out->in6);
	}
	return -EINVAL;
}

struct loop_sock *sock_new(int fd, enum loop_addr_kind kind)
{
	struct loop_sock *sock = calloc(1, sizeof(*sock));
	int on = 1;

	if (!sock) {
		close(fd);
		return NULL;
	}
	sock->fd = fd;
	sock->kind = kind;
	if (kind == LOOP_ADDR_TCP)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return sock;
}

/* ---- connect -------------------------------------------------------------------------------- */

static void connect_done(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	struct connect_state *s = r->arg;

	if (res == 0)
		*s->out = s->sock;
	else
		loop_sock_close(&l->pub, s->sock);
	free(s);
	uring_req_done(l, r, res);
}

void loop_sock_connect(
        struct loop *loop, struct loop_op *op, const struct loop_addr *addr, struct loop_sock **out)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, connect_done);
	union sock_address address;
	struct connect_state *s;
	struct io_uring_sqe *sqe;
	struct loop_sock *sock;
	int len, fd;

	if (!r)
		return;
	len = sock_address_of(addr, &address);
	if (len < 0) {
		uring_req_done_later(l, r, len);
		return;
	}
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		uring_req_done_later(l, r, -errno);
		return;
	}
	sock = sock_new(fd, addr->kind);
	if (!sock) {
		uring_req_done_later(l, r, -ENOMEM);
		return;
	}
	s = xcalloc(1, sizeof(*s));
	*s = (struct connect_state){.address = address, .sock = sock, .out = out};
	r->arg = s;
	sqe = uring_sqe(l, r);
	io_uring_prep_connect(sqe, fd, &s->address.any, (socklen_t)len);
	io_uring_sqe_set_data(sqe, r);
}

/* ---- receive -------------------------------------------------------------------------------- */

static void prepare_recv(struct uring_loop *l, struct uring_req *r)
{
	struct io_uring_sqe *sqe = uring_sqe(l, r);

	io_uring_prep_recv(sqe, r->fd, r->iov->iov_base, r->iov->iov_len, (int)r->flags);
	io_uring_sqe_set_data(sqe, r);
}

static void complete_recv(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	if (res == -EINTR || res == -EAGAIN) {
		if (!r->cancelled) {
			prepare_recv(l, r);
			return;
		}
		res = -ECANCELED;
	}
	if (res > 0) {
		if (!uring_req_advance(r, (uint32_t)res) && r->all && !r->cancelled) {
			prepare_recv(l, r);
			return;
		}
	}
	/* What was received before an error or the end is not lost. */
	uring_req_done(l, r, r->done_bytes > 0 ? (int)r->done_bytes : res);
}

void loop_sock_recv(struct loop *loop, struct loop_op *op, struct loop_sock *sock, void *buf,
        size_t len, bool all)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, complete_recv);
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	if (!r)
		return;
	(void)uring_iov_bytes(&iov, 1);
	(void)uring_req_copy_iov(l, r, &iov, 1);
	r->kind = URING_RECV;
	r->fd = sock->fd;
	r->all = all;
	r->flags = all ? MSG_WAITALL : 0;
	prepare_recv(l, r);
}

/* ---- send -----------------------------------------------------------------------------------
 *
 * A lazy send is tried once, without waiting, while it is submitted, and makes a completion only if
 * that did not send everything. So once the kernel has taken it and all completions have been
 * looked at, it has succeeded, and a loop that sleeps is not woken to hear that.
 */

static struct io_uring_sqe *prepare_send(struct uring_loop *l, struct uring_req *r)
{
	struct io_uring_sqe *sqe = uring_sqe(l, r);

	if (r->iov_count == 1) {
		io_uring_prep_send(sqe, r->fd, r->iov->iov_base, r->iov->iov_len, (int)r->flags);
	} else {
		r->msg = (struct msghdr){
		        .msg_iov = r->iov,
		        .msg_iovlen = r->iov_count < IOVS_PER_CALL ? r->iov_count : IOVS_PER_CALL,
		};
		io_uring_prep_sendmsg(sqe, r->fd, &r->msg, r->flags);
	}
	io_uring_sqe_set_data(sqe, r);
	return sqe;
}

static void complete_send(
        struct uring_loop *l, struct uring_req *r, int res, uint32_t maybe_unused cqe_flags)
{
	if (list_linked(&r->lazy_link)) {
		list_remove(&r->lazy_link);
		r->flags &= ~(uint32_t)MSG_DONTWAIT;
	}
	if (res == -EINTR || res == -EAGAIN)
		res = 0;
	if (res < 0) {
		uring_req_done(l, r, res);
		return;
	}
	if (uring_req_advance(r, (uint32_t)res))
		uring_req_done(l, r, (int)r->done_bytes);
	else if (r->cancelled)
		uring_req_done(l, r, -ECANCELED);
	else
		prepare_send(l, r);
}

static void prepare_lazy(struct uring_loop *l, struct uring_req *r, uint32_t bytes)
{
	struct io_uring_sqe *sqe;

	r->flags |= MSG_DONTWAIT;
	sqe = prepare_send(l, r);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	r->lazy_sqe = l->ring.sq.sqe_tail;
	r->lazy_bytes = bytes;
	list_push_back(&l->lazy, &r->lazy_link);
}

static bool kernel_has_taken(const struct uring_loop *l, const struct uring_req *r)
{
	unsigned head = __atomic_load_n(l->ring.sq.khead, __ATOMIC_ACQUIRE);

	return (int)(head - r->lazy_sqe) >= 0;
}

unsigned uring_lazy_run(struct uring_loop *l)
{
	unsigned n = 0;

	while (!list_empty(&l->lazy) && uring_reaped_all(l)) {
		struct uring_req *r = list_entry(l->lazy.next, struct uring_req, lazy_link);

		if (!kernel_has_taken(l, r))
			break;
		list_remove(&r->lazy_link);
		uring_req_done(l, r, (int)r->lazy_bytes);
		n++;
	}
	return n;
}

void loop_sock_send(struct loop *loop, struct loop_op *op, struct loop_sock *sock,
        const struct iovec *iov, unsigned iovcnt, bool lazy)
{
	struct uring_loop *l = uring_of(loop);
	struct uring_req *r = uring_req_get(l, op, complete_send);
	uint32_t bytes = uring_iov_bytes(iov, iovcnt);

	if (!r)
		return;
	r->kind = URING_SEND;
	r->fd = sock->fd;
	r->flags = MSG_WAITALL | MSG_NOSIGNAL;
	list_init(&r->lazy_link);
	if (!uring_req_copy_iov(l, r, iov, iovcnt))
		uring_req_done_later(l, r, -ENOMEM);
	else if (bytes == 0)
		uring_req_done_later(l, r, 0);
	else if (lazy && iovcnt <= IOVS_PER_CALL)
		prepare_lazy(l, r, bytes);
	else
		prepare_send(l, r);
}

/* ---- the rest ------------------------------------------------------------------------------- */

void loop_sock_shutdown(struct loop *loop, struct loop_sock *sock)
{
	BELLOWS_CHECKED(loop == loop_self());
	(void)loop;
	/* Fails only when the peer has already gone, which ends operations as well. */
	(void)shutdown(sock->fd, SHUT_RDWR);
}

void loop_sock_close(struct loop *loop, struct loop_sock *sock)
{
	BELLOWS_CHECKED(loop == loop_self());
	(void)loop;
	close(sock->fd);
	free(sock);
}

void loop_sock_peer(const struct loop_sock *sock, char *buf, size_t size)
{
	union sock_address address = {0};
	socklen_t len = sizeof(address);
	char host[INET6_ADDRSTRLEN] = "?";

	if (sock->kind == LOOP_ADDR_UNIX) {
		snprintf(buf, size, "unix");
		return;
	}
	if (getpeername(sock->fd, &address.any, &len) < 0) {
		snprintf(buf, size, "disconnected");
	} else if (address.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address.in6.sin6_addr, host, sizeof(host));
		snprintf(buf, size, "[%s]:%u", host, ntohs(address.in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &address.in.sin_addr, host, sizeof(host));
		snprintf(buf, size, "%s:%u", host, ntohs(address.in.sin_port));
	}
}
