/*
 * nbd_session.h: the transmission phase of one connection, shared by the files that run it on its
 * data loop: nbd_session.c (life, receiving), nbd_command.c (requests), nbd_reply.c (answers,
 * sending), nbd_pool.c (memory).
 *
 * Each request that was taken from the stream holds one struct nbd_request until its reply has been
 * sent, or dropped because the connection is broken.
 */
#pragma once

#include "target/nbd/nbd.h"

/* A buffer of class c > 0 has 2048 << c bytes: 4 KiB to 32 MiB. Class 0: no buffer. */
#define NBD_BUFFER_CLASSES 15
#define NBD_REPLY_TEXT_MAX 96
#define NBD_REPLY_HEAD_MAX (NBD_CHUNK_HEADER_BYTES + 4 + 2 + NBD_REPLY_TEXT_MAX + 8)

struct nbd_request {
	struct nbd_request *next; /* free, waiting to be sent, or being sent */
	struct nbd_session *session;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
	uint16_t type;
	uint16_t flags;
	uint8_t *buf;
	uint8_t buf_class;
	uint8_t step; /* of commands that need several bios */
	bool counted; /* in stats.in_flight: not answered yet */
	uint16_t head_len;
	uint32_t data_len;    /* of buf, to be sent after the head */
	uint32_t done_bytes;  /* commands that go on piece by piece */
	uint32_t num_extents; /* NBD_CMD_BLOCK_STATUS: descriptors in buf */
	struct iovec iov;
	uint8_t head[NBD_REPLY_HEAD_MAX];
	struct bio bio;
};

enum nbd_session_state {
	NBD_RUNNING,  /* takes requests */
	NBD_DRAINING, /* takes no more; answers what it has, then shuts the socket down */
	NBD_BROKEN,   /* nothing can be sent any more; ends when nothing is outstanding */
	NBD_ENDED,    /* told the control loop */
};

struct nbd_session {
	struct loop *loop;
	struct loop_sock *sock;
	struct bdev_handle *handle;
	struct bdev *bdev;
	uint32_t block_shift;
	uint16_t flags;
	bool structured, meta_allocation, fast_zero;
	enum nbd_session_state state;
	bool stopping;      /* requests are answered with ESHUTDOWN */
	bool told_stopping; /* one has been */
	bool grace_over;    /* the client has had time to send one */
	bool turn_end_queued;
	bool go_on_queued;

	/* receiving */
	bool recv_busy;
	bool blocked;  /* the next command waits: for memory, for the client to read, or a turn */
	bool released; /* memory, since the last turn end */
	bool large_write; /* the last request was one: receive the next header alone */
	uint8_t *in;      /* [NBD_RECV_BYTES] */
	uint32_t in_pos, in_len;
	uint64_t turn_bytes;         /* of the reads that were started in this turn */
	uint64_t drop_bytes;         /* payload of a refused write that is still to come */
	struct nbd_request *filling; /* its payload is received straight into its buffer */
	uint32_t filled;
	struct loop_op recv_op;

	/* sending */
	bool send_busy;
	struct nbd_request *out, **out_tail; /* answered, to be sent */
	uint64_t out_bytes;                  /* of them, and of those being sent */
	struct nbd_request *sending;
	struct loop_op send_op;
	struct iovec send_iov[NBD_SEND_IOVS];

	/* memory */
	struct nbd_request *free[NBD_BUFFER_CLASSES];
	unsigned num_requests; /* allocated */
	unsigned in_flight;
	uint64_t used_bytes, cached_bytes; /* of buffers */
	uint64_t idle_mark; /* number of operations when the idle timer last looked */
	struct loop_timer idle_timer;

	struct loop_timer stop_timer;
	struct loop_task turn_end, go_on_task;
	struct nbd_stats stats;

	/* between the control loop and this one */
	struct loop_task start_task, stop_task, fence_task, gone_task;
	bool stop_sent; /* control loop */
	void (*ended)(void *arg);
	void *arg;
};

static inline void nbd_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void nbd_stop_counting(struct nbd_request *req)
{
	if (req->counted)
		nbd_count(&req->session->stats.in_flight, (uint64_t)-1);
	req->counted = false;
}

/* nbd_session.c: asks for the end of this turn, where replies are sent and receiving goes on. */
void nbd_session_touch(struct nbd_session *s);
/* Cuts the connection: what is in flight ends without being answered. */
void nbd_session_break(struct nbd_session *s);

/* nbd_command.c */
struct nbd_command {
	uint64_t cookie, offset;
	uint32_t length;
	uint16_t type, flags;
};
/* 0, or the NBD error that the command deserves, with a text for the client. */
uint32_t nbd_command_check(
        const struct nbd_session *s, const struct nbd_command *cmd, const char **why);
/* Bytes of buffer that a command that passed the check needs. */
uint32_t nbd_command_buffer_bytes(const struct nbd_command *cmd);
/* The request has its command's fields and, for a write, its data. */
void nbd_command_start(struct nbd_request *req);

/* nbd_reply.c: each of them ends a request. */
void nbd_reply_ok(struct nbd_request *req);
void nbd_reply_data(struct nbd_request *req);
void nbd_reply_extents(struct nbd_request *req);
void nbd_reply_error(struct nbd_request *req, uint32_t error, const char *why);
/* From a bio: maps -errno; in a structured reply it bears the offset. */
void nbd_reply_status(struct nbd_request *req, int status);
uint32_t nbd_error_of(int status);
/* Sends what waits, unless a send is under way. */
void nbd_send(struct nbd_session *s);
void nbd_drop_replies(struct nbd_session *s);

/* nbd_pool.c */
/* A request with a buffer of at least bytes (0: none). -EAGAIN: when others are done; -ENOMEM. */
int nbd_pool_get(struct nbd_session *s, uint32_t bytes, struct nbd_request **out) must_check;
void nbd_pool_put(struct nbd_request *req);
void nbd_pool_free(struct nbd_session *s);
