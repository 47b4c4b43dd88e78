/*
 * nbd_client.h: an NBD client for tests that shows every byte: it blocks, runs on a thread that is
 * no loop, believes nothing that the server says, and can send whatever a test wants to see
 * refused. A failure of the connection itself, or an answer that breaks the protocol, fails the
 * test, except in the functions that expect the end of the connection.
 */
#pragma once

#include "base/base.h"
#include "target/nbd/nbd_wire.h"

struct nbd_client {
	int fd;
	bool structured;
	/* as told by the server at nbd_client_go */
	uint64_t size_bytes;
	uint16_t flags;
	uint32_t block_min, block_preferred, block_max;
};

void nbd_client_connect(struct nbd_client *c, const char *path);
void nbd_client_connect_tcp(struct nbd_client *c, uint16_t port);
void nbd_client_close(struct nbd_client *c);

void nbd_client_send(struct nbd_client *c, const void *bytes, size_t len);
/* The same, but the server may have closed already. */
void nbd_client_try_send(struct nbd_client *c, const void *bytes, size_t len);
void nbd_client_recv(struct nbd_client *c, void *bytes, size_t len);
/* Reads, and throws away, until the server closes the connection. Returns how much there was. */
size_t nbd_client_expect_end(struct nbd_client *c);

/* Checks the greeting and sends the client flags. */
void nbd_client_greet(struct nbd_client *c, uint32_t flags);
void nbd_client_option(struct nbd_client *c, uint32_t option, const void *data, size_t len);

struct nbd_option_reply {
	uint32_t option, type, len;
	uint8_t data[8192];
};
void nbd_client_option_reply(struct nbd_client *c, struct nbd_option_reply *reply);
/* Sends an option and expects just one reply of this type. */
void nbd_client_option_expect(
        struct nbd_client *c, uint32_t option, const void *data, size_t len, uint32_t type);

/* Data of NBD_OPT_GO / INFO and of the two metadata options. Returns the length. */
size_t nbd_client_go_data(uint8_t *buf, size_t size, const char *name);
size_t nbd_client_meta_data(uint8_t *buf, size_t size, const char *name, const char *query);

enum nbd_client_features {
	NBD_WANT_STRUCTURED = 1 << 0,
	NBD_WANT_META = 1 << 1,
};
/* Greets, negotiates the features, goes; the client is in transmission afterwards. */
void nbd_client_go(struct nbd_client *c, const char *name, unsigned features);
/* Connects, too. */
void nbd_client_open(struct nbd_client *c, const char *path, const char *name, unsigned features);

/* The 28 bytes of a request. */
void nbd_client_request_bytes(uint8_t out[NBD_REQUEST_BYTES], uint16_t type, uint16_t flags,
        uint64_t cookie, uint64_t offset, uint32_t length);
void nbd_client_request(struct nbd_client *c, uint16_t type, uint16_t flags, uint64_t cookie,
        uint64_t offset, uint32_t length);

struct nbd_answer {
	uint64_t cookie;
	uint32_t error; /* NBD error value */
	bool end;       /* the connection ended instead */
	uint16_t type;  /* of the chunk; 0 for a simple reply */
	bool chunk;
	uint64_t offset; /* of data or error, if the chunk has one */
	uint32_t data_len;
	uint32_t num_extents;
	struct {
		uint32_t len, flags;
	} extents[1024];
	char text[256]; /* of an error */
};
/*
 * Receives one reply. Data goes to buf (size bytes). With simple replies, a success is followed by
 * simple_len bytes of data, which the caller must know.
 */
void nbd_client_answer(struct nbd_client *c, struct nbd_answer *answer, void *buf, size_t size,
        uint32_t simple_len);
/* One request and its answer. Returns the error value; data of a read goes to buf, that of a write
 * comes from it. */
uint32_t nbd_client_call(struct nbd_client *c, uint16_t type, uint16_t flags, uint64_t offset,
        uint32_t length, void *buf);
/* The same; 0xffff when the connection ended. */
#define NBD_CLIENT_END 0xffffU
uint32_t nbd_client_try_call(struct nbd_client *c, uint16_t type, uint16_t flags, uint64_t offset,
        uint32_t length, void *buf);
