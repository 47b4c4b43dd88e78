/*
 * sock.h: what the listener and the connected socket of the io_uring implementation share.
 */
#pragma once

#include <netinet/in.h>
#include <sys/un.h>

#include "loop/uring.h"

union sock_address {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Returns the address' length, or -EINVAL for a host that is no numeric address, or -ENAMETOOLONG.
 */
int sock_address_of(const struct loop_addr *addr, union sock_address *out);
/* Takes over a connected descriptor; NULL (and closed) if there is no memory. */
struct loop_sock *sock_new(int fd, enum loop_addr_kind kind);
