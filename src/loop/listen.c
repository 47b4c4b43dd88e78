/* Listening sockets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/sock.h"

#define BACKLOG 128
/* Of a unix socket, which the kernel does not adapt: some large replies fit, so that a client that
 * is about to read them makes nobody wait. At most what net.core.wmem_max allows. */
#define SEND_BUFFER_BYTES (1 << 20)
#define ACCEPT_RETRY_NS (100 * NSEC_PER_MSEC) /* when there are no descriptors or no memory */

struct loop_listener {
	int fd, lock_fd;
	struct loop_addr addr;
	loop_accept_fn accept_fn;
	void *arg;
	struct uring_req *accept; /* NULL while waiting for retry */
	struct loop_timer retry;
	bool closed; /* only the last completion of accept is missing */
	bool told;   /* the present shortage has been logged */
};

static void format_addr(const struct loop_addr *addr, char *buf, size_t size)
{
	if (addr->kind == LOOP_ADDR_UNIX)
		snprintf(buf, size, "%s", addr->path);
	else
		snprintf(buf, size, strchr(addr->host, ':') ? "[%s]:%u" : "%s:%u", addr->host,
		        addr->port);
}

/* ---- the files of a unix socket ------------------------------------------------------------- */

static void format_lock_path(const struct loop_addr *addr, char *buf, size_t size)
{
	snprintf(buf, size, "%s.lock", addr->path);
}

static int in_use(const struct loop_addr *addr, struct err *err)
{
	return err_set(err, -EADDRINUSE,
	        "%s: another process serves this socket; end it or use another path", addr->path);
}

/* Takes the lock that says that this process serves the path. Returns its descriptor. */
static int take_lock(const struct loop_addr *addr, struct err *err)
{
	char path[sizeof(addr->path) + 8];
	struct stat ours, there;
	int fd, rc;

	format_lock_path(addr, path, sizeof(path));
	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return err_set(err, -errno, "%s: the lock file can't be opened: %s", path,
			        errno_text(errno));
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			rc = errno == EWOULDBLOCK ? in_use(addr, err)
			                          : err_set(err, -errno, "%s: can't be locked: %s",
			                                    path, errno_text(errno));
			close(fd);
			return rc;
		}
		/* Whoever held it may have removed the file between our open and our lock. */
		if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
		        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
			return fd;
		close(fd);
	}
}

/* Somebody who knows nothing of the lock may serve it, too. */
static bool is_served(const union sock_address *address, int len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool served;

	if (fd < 0)
		return false;
	served = connect(fd, &address->any, (socklen_t)len) == 0 || errno == EAGAIN;
	close(fd);
	return served;
}

static int remove_stale(
        const struct loop_addr *addr, const union sock_address *address, int len, struct err *err)
{
	struct stat st;

	if (lstat(addr->path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
	} else if (!S_ISSOCK(st.st_mode)) {
		return err_set(
		        err, -EEXIST, "%s: is there, and not a socket; not replaced", addr->path);
	} else if (is_served(address, len)) {
		return in_use(addr, err);
	} else if (unlink(addr->path) == 0 || errno == ENOENT) {
		return 0;
	}
	return err_set(err, -errno, "%s: the socket that was left there can't be removed: %s",
	        addr->path, errno_text(errno));
}

static void release_lock(struct loop_listener *listener)
{
	char path[sizeof(listener->addr.path) + 8];

	if (listener->lock_fd < 0)
		return;
	format_lock_path(&listener->addr, path, sizeof(path));
	/* Before the lock ends, so that nobody's newer lock file is removed. */
	unlink(path);
	close(listener->lock_fd);
}

/* ---- accept --------------------------------------------------------------------------------- */

static void arm_accept(struct uring_loop *l, struct loop_listener *listener);

static void free_listener(struct loop_listener *listener)
{
	close(listener->fd);
	free(listener);
}

static void retry_accept(struct loop_timer *timer)
{
	arm_accept(uring_of(loop_self()), container_of(timer, struct loop_listener, retry));
}

static void accepted(struct uring_loop *l, struct loop_listener *listener, int fd)
{
	struct loop_sock *sock;

	if (listener->closed) {
		close(fd);
		return;
	}
	listener->told = false;
	if (listener->addr.kind == LOOP_ADDR_UNIX)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BUFFER_BYTES}, sizeof(int));
	sock = sock_new(fd, listener->addr.kind);
	if (sock)
		listener->accept_fn(listener, sock, listener->arg);
	(void)l;
}

/* A shortage must neither end the listener nor make it spin. */
static void accept_failed(struct uring_loop *l, struct loop_listener *listener, int error)
{
	char name[128];

	if (!listener->told) {
		format_addr(&listener->addr, name, sizeof(name));
		log_warning("loop", "%s: a connection could not be accepted, trying again: %s",
		        name, errno_text(error));
	}
	listener->told = true;
	loop_timer_start(&l->pub, &listener->retry, l->pub.now_ns + ACCEPT_RETRY_NS);
}

static void complete_accept(struct uring_loop *l, struct uring_req *r, int res, uint32_t cqe_flags)
{
	struct loop_listener *listener = r->arg;

	if (res >= 0)
		accepted(l, listener, res);
	if (cqe_flags & IORING_CQE_F_MORE)
		return;
	uring_req_put(l, r);
	listener->accept = NULL;
	if (listener->closed)
		free_listener(listener);
	else if (res >= 0 || res == -ECONNABORTED || res == -EINTR)
		arm_accept(l, listener);
	else
		accept_failed(l, listener, res);
}

static void arm_accept(struct uring_loop *l, struct loop_listener *listener)
{
	struct uring_req *r = uring_req_get(l, NULL, complete_accept);
	struct io_uring_sqe *sqe;

	if (!r) {
		accept_failed(l, listener, -ENOMEM);
		return;
	}
	r->arg = listener;
	listener->accept = r;
	sqe = uring_sqe(l, r);
	io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, r);
}

/* ---- listen --------------------------------------------------------------------------------- */

static int open_listening(const union sock_address *address, int len)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1, rc = 0;

	if (fd < 0)
		return -errno;
	/* The socket's own mode is that of the file which bind makes, from the first moment. */
	if (address->any.sa_family == AF_UNIX)
		rc = fchmod(fd, 0600);
	else
		rc = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* "::" is all of IPv6 and leaves IPv4 to another listener. */
	if (rc == 0 && address->any.sa_family == AF_INET6)
		rc = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (rc == 0)
		rc = bind(fd, &address->any, (socklen_t)len);
	if (rc == 0)
		rc = listen(fd, BACKLOG);
	if (rc == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static void learn_port(struct loop_listener *listener)
{
	union sock_address address = {0};
	socklen_t len = sizeof(address);

	if (listener->addr.kind != LOOP_ADDR_TCP || getsockname(listener->fd, &address.any, &len))
		return;
	listener->addr.port = ntohs(
	        address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in.sin_port);
}

int loop_listen(struct loop *loop, const struct loop_addr *addr, loop_accept_fn accept_fn,
        void *arg, struct loop_listener **out, struct err *err)
{
	struct loop_listener *listener;
	union sock_address address;
	int len = sock_address_of(addr, &address), rc = 0, lock_fd = -1;
	char name[128];

	BELLOWS_ASSERT(loop_is_control());
	if (len < 0)
		return addr->kind == LOOP_ADDR_UNIX
		               ? err_set(err, len, "the path of a socket must have 1 to 107 bytes")
		               : err_set(err, len, "'%s' is not a numeric IPv4 or IPv6 address",
		                         addr->host);
	if (addr->kind == LOOP_ADDR_UNIX) {
		lock_fd = take_lock(addr, err);
		if (lock_fd < 0)
			return lock_fd;
		rc = remove_stale(addr, &address, len, err);
	}
	listener = xcalloc(1, sizeof(*listener));
	*listener = (struct loop_listener){.fd = -1,
	        .lock_fd = lock_fd,
	        .addr = *addr,
	        .accept_fn = accept_fn,
	        .arg = arg,
	        .retry.fire = retry_accept};
	if (rc == 0) {
		rc = listener->fd = open_listening(&address, len);
		format_addr(addr, name, sizeof(name));
		if (rc < 0)
			err_set(err, rc, "%s: can't listen: %s", name, errno_text(rc));
	}
	if (rc < 0) {
		release_lock(listener);
		free(listener);
		return rc;
	}
	learn_port(listener);
	arm_accept(uring_of(loop), listener);
	*out = listener;
	return 0;
}

void loop_listener_close(struct loop *loop, struct loop_listener *listener)
{
	struct uring_loop *l = uring_of(loop);
	struct io_uring_sqe *sqe;

	BELLOWS_ASSERT(loop_is_control() && !listener->closed);
	listener->closed = true;
	loop_timer_stop(loop, &listener->retry);
	/* New connections are refused from here on, not when the kernel has let go of it. */
	(void)shutdown(listener->fd, SHUT_RDWR);
	if (listener->addr.kind == LOOP_ADDR_UNIX) {
		unlink(listener->addr.path);
		release_lock(listener);
	}
	if (!listener->accept) {
		free_listener(listener);
		return;
	}
	sqe = uring_sqe(l, NULL);
	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)listener->accept, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

const struct loop_addr *loop_listener_addr(const struct loop_listener *listener)
{
	return &listener->addr;
}
