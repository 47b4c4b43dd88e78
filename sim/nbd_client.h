/*
 * nbd_client.h: between the files of the NBD clients: nbd_client.c has their connections,
 * nbd_take.c what they ask for at first and what they make of the server's bytes.
 */
#pragma once

#include "base/cursor.h"
#include "sim/nbd.h"
#include "target/nbd/nbd_wire.h"

#define NBD_CLIENT_OUT_BYTES (512 * 1024)
#define NBD_CLIENT_IN_BYTES (IO_BYTES_MAX + 4096)
#define NBD_CLIENT_NAME_BYTES 64
#define NBD_CLIENT_SIZES_MAX 8

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
	char export[NBD_CLIENT_NAME_BYTES];
	bool old_way, structured, meta; /* what it asks for */
	bool receiving, sending, kicked, deaf;
	bool excused;   /* the server may cut it off */
	unsigned sizes; /* that the bdev is known to have had since the client asked */
	uint64_t size_blocks[NBD_CLIENT_SIZES_MAX];
	uint64_t size_bytes;
	uint16_t flags;
	uint64_t ending_ns;
	uint8_t out[NBD_CLIENT_OUT_BYTES], in[NBD_CLIENT_IN_BYTES];
	uint32_t out_len, sent_len, in_len;
};

/* nbd_client.c */
_Noreturn void nbd_bad_server(const struct nbd_client *c, const char *what);
void nbd_begin_end(struct nbd_client *c);
struct writer nbd_out_writer(struct nbd_client *c);
void nbd_out_written(struct nbd_client *c, const struct writer *w);
void nbd_send_more(struct nbd_client *c);

/* nbd_take.c: takes all whole messages that have been received. */
void nbd_take_all(struct nbd_client *c);
