/*
 * nbd_negotiate.c: "Fixed newstyle negotiation", one connection at a time, on the control loop.
 *
 * The exchange is strictly by turns, so each message is received at its exact length, and what
 * follows the last option stays in the socket for the session. One operation is outstanding at any
 * time; its done callback takes the next step. A deadline ends the whole.
 */
#include <string.h>

#include "base/cursor.h"
#include "base/log.h"
#include "target/nbd/nbd.h"

enum handshake_step {
	HS_GREETING,     /* is being sent */
	HS_CLIENT_FLAGS, /* are being received */
	HS_OPTION,       /* the header of the next option is being received */
	HS_DATA,         /* its data is being received */
	HS_DROP,         /* data of an option that is too long is being received and dropped */
	HS_REPLY,        /* to an option, is being sent; haggling goes on */
	HS_ENTER,        /* the last reply is being sent; transmission follows */
	HS_CLOSE,        /* the reply to NBD_OPT_ABORT is being sent */
};

struct handshake_out {
	uint8_t *bytes;
	size_t len, size;
};

struct nbd_handshake {
	struct nbd_conn *conn;
	struct loop *loop;
	struct loop_sock *sock;
	struct loop_op op;
	struct loop_timer timer;
	enum handshake_step step;
	bool aborted;
	bool no_zeroes;
	bool structured;
	uint32_t option, option_len, dropped;
	unsigned num_options;
	struct nbd_export *meta_export; /* the one base:allocation was selected for; only compared
	                                   with a living one */
	struct handshake_out out;
	struct iovec iov;
	uint8_t in[NBD_OPTION_MAX_BYTES];
};

static void step_done(struct loop_op *op, int result);

/* ---- replies -----------------------------------------------------------------------------------
 */

static struct writer out_more(struct handshake_out *out, size_t len)
{
	struct writer w;

	if (out->len + len > out->size) {
		out->size = max_u64(2 * out->size, out->len + len);
		out->bytes = xrealloc(out->bytes, out->size);
	}
	w = writer_of(out->bytes + out->len, len);
	out->len += len;
	return w;
}

/* The header of a reply and room for its payload. */
static struct writer reply(struct nbd_handshake *hs, uint32_t type, size_t len)
{
	struct writer w = out_more(&hs->out, NBD_REP_HEADER_BYTES + len);

	writer_be64(&w, NBD_MAGIC_REP);
	writer_be32(&w, hs->option);
	writer_be32(&w, type);
	writer_be32(&w, (uint32_t)len);
	return w;
}

static void reply_ack(struct nbd_handshake *hs)
{
	(void)reply(hs, NBD_REP_ACK, 0);
}

/* All error replies may bear a text for the user. */
static void reply_error(struct nbd_handshake *hs, uint32_t type, const char *text)
{
	struct writer w;

	hs->out.len = 0;
	w = reply(hs, type, strlen(text));
	writer_copy(&w, text, strlen(text));
}

/* ---- options -----------------------------------------------------------------------------------
 */

static void option_list(struct nbd_handshake *hs)
{
	struct nbd_export *export;

	if (hs->option_len) {
		reply_error(hs, NBD_REP_ERR_INVALID, "NBD_OPT_LIST has no data");
		return;
	}
	list_for_each (export, &hs->conn->server->exports, link) {
		size_t name = strlen(export->name), description = strlen(export->description);
		struct writer w;

		if (export->removing)
			continue;
		w = reply(hs, NBD_REP_SERVER, 4 + name + description);
		writer_be32(&w, (uint32_t)name);
		writer_copy(&w, export->name, name);
		writer_copy(&w, export->description, description);
	}
	reply_ack(hs);
}

static void info_text(struct nbd_handshake *hs, uint16_t info, const char *text)
{
	struct writer w = reply(hs, NBD_REP_INFO, 2 + strlen(text));

	writer_be16(&w, info);
	writer_copy(&w, text, strlen(text));
}

static void info_replies(struct nbd_handshake *hs, const struct nbd_export *export, unsigned wanted)
{
	struct nbd_export_info info;
	struct writer w;

	nbd_export_info(export, hs->structured, &info);
	w = reply(hs, NBD_REP_INFO, 12);
	writer_be16(&w, NBD_INFO_EXPORT);
	writer_be64(&w, info.size_bytes);
	writer_be16(&w, info.flags);
	if (wanted & 1U << NBD_INFO_NAME)
		info_text(hs, NBD_INFO_NAME, export->name);
	if ((wanted & 1U << NBD_INFO_DESCRIPTION) && *export->description)
		info_text(hs, NBD_INFO_DESCRIPTION, export->description);
	/* Also for a client that did not ask: it may want to know why unaligned requests fail. */
	w = reply(hs, NBD_REP_INFO, 14);
	writer_be16(&w, NBD_INFO_BLOCK_SIZE);
	writer_be32(&w, info.block_min_bytes);
	writer_be32(&w, info.block_preferred_bytes);
	writer_be32(&w, info.block_max_bytes);
	reply_ack(hs);
}

/* NBD_OPT_INFO and NBD_OPT_GO: name, and a list of the information types that are wanted. */
static void option_go(struct nbd_handshake *hs)
{
	struct cursor c = cursor_of(hs->in, hs->option_len);
	uint32_t name_len = cursor_be32(&c);
	const uint8_t *name = cursor_bytes(&c, name_len);
	uint16_t count = cursor_be16(&c);
	struct nbd_export *export;
	unsigned wanted = 0;

	for (unsigned i = 0; i < count && cursor_ok(&c); i++) {
		uint16_t info = cursor_be16(&c);

		if (info < 32)
			wanted |= 1U << info;
	}
	if (!cursor_ok(&c) || cursor_left(&c) || name_len > NBD_STRING_MAX_BYTES) {
		reply_error(hs, NBD_REP_ERR_INVALID, "malformed request for an export");
		return;
	}
	export = nbd_export_choose(hs->conn->server, (const char *)name, name_len);
	if (!export) {
		reply_error(hs, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
		return;
	}
	info_replies(hs, export, wanted);
	if (hs->option == NBD_OPT_GO) {
		nbd_conn_choose(hs->conn, export);
		hs->step = HS_ENTER;
	}
}

/* The old way in: no errors, just the end of the connection. */
static bool option_export_name(struct nbd_handshake *hs)
{
	struct nbd_export *export =
	        nbd_export_choose(hs->conn->server, (const char *)hs->in, hs->option_len);
	size_t zeroes = hs->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES;
	struct nbd_export_info info;
	struct writer w;

	if (!export)
		return false;
	nbd_export_info(export, hs->structured, &info);
	w = out_more(&hs->out, 10 + zeroes);
	writer_be64(&w, info.size_bytes);
	writer_be16(&w, info.flags);
	writer_zero(&w, zeroes);
	nbd_conn_choose(hs->conn, export);
	hs->step = HS_ENTER;
	return true;
}

static bool text_is(const uint8_t *bytes, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(bytes, text, len) == 0;
}

/* Export name, then a list of queries; the only context there is, is base:allocation. */
static void option_meta_context(struct nbd_handshake *hs)
{
	bool set = hs->option == NBD_OPT_SET_META_CONTEXT, match = false;
	struct cursor c = cursor_of(hs->in, hs->option_len);
	uint32_t name_len = cursor_be32(&c);
	const uint8_t *name = cursor_bytes(&c, name_len);
	uint32_t count = cursor_be32(&c);
	struct nbd_export *export;

	if (set)
		hs->meta_export = NULL;
	for (uint32_t i = 0; i < count && cursor_ok(&c); i++) {
		uint32_t len = cursor_be32(&c);
		const uint8_t *query = cursor_bytes(&c, len);

		if (query && (text_is(query, len, NBD_META_BASE_ALLOCATION) ||
		                     (!set && text_is(query, len, "base:"))))
			match = true;
	}
	if (!cursor_ok(&c) || cursor_left(&c) || name_len > NBD_STRING_MAX_BYTES) {
		reply_error(hs, NBD_REP_ERR_INVALID, "malformed request for metadata contexts");
		return;
	}
	if (!hs->structured) {
		reply_error(hs, NBD_REP_ERR_INVALID, "structured replies come first");
		return;
	}
	export = nbd_export_choose(hs->conn->server, (const char *)name, name_len);
	if (!export) {
		reply_error(hs, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
		return;
	}
	if (match || (!set && count == 0)) {
		size_t len = strlen(NBD_META_BASE_ALLOCATION);
		struct writer w = reply(hs, NBD_REP_META_CONTEXT, 4 + len);

		writer_be32(&w, set ? NBD_META_ID : 0);
		writer_copy(&w, NBD_META_BASE_ALLOCATION, len);
		if (set)
			hs->meta_export = export;
	}
	reply_ack(hs);
}

/* False: the connection ends without an answer. */
static bool option_handle(struct nbd_handshake *hs)
{
	hs->out.len = 0;
	hs->step = HS_REPLY;
	switch (hs->option) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(hs);
	case NBD_OPT_ABORT:
		hs->step = HS_CLOSE;
		reply_ack(hs);
		break;
	case NBD_OPT_LIST:
		option_list(hs);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		option_go(hs);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		if (hs->option_len) {
			reply_error(
			        hs, NBD_REP_ERR_INVALID, "NBD_OPT_STRUCTURED_REPLY has no data");
			break;
		}
		hs->structured = true;
		reply_ack(hs);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		option_meta_context(hs);
		break;
	case NBD_OPT_STARTTLS:
		reply_error(hs, NBD_REP_ERR_POLICY, "this server has no TLS");
		break;
	default:
		reply_error(hs, NBD_REP_ERR_UNSUP, "unknown option");
		break;
	}
	return true;
}

/* ---- steps -------------------------------------------------------------------------------------
 */

static void handshake_end(struct nbd_handshake *hs, bool enter)
{
	struct nbd_conn *conn = hs->conn;
	bool structured = hs->structured;
	bool meta = conn->export && hs->meta_export == conn->export;
	struct loop_sock *sock = hs->sock;

	loop_timer_stop(hs->loop, &hs->timer);
	if (!enter) {
		loop_sock_close(hs->loop, sock);
		sock = NULL;
	}
	free(hs->out.bytes);
	free(hs);
	conn->handshake = NULL;
	nbd_conn_negotiated(conn, sock, structured, meta);
}

static void receive(struct nbd_handshake *hs, enum handshake_step step, uint32_t len)
{
	hs->step = step;
	loop_sock_recv(hs->loop, &hs->op, hs->sock, hs->in, len, true);
}

static void send_out(struct nbd_handshake *hs)
{
	hs->iov = (struct iovec){hs->out.bytes, hs->out.len};
	loop_sock_send(hs->loop, &hs->op, hs->sock, &hs->iov, 1, false);
}

static void answer(struct nbd_handshake *hs)
{
	if (option_handle(hs))
		send_out(hs);
	else
		handshake_end(hs, false);
}

static bool client_flags(struct nbd_handshake *hs)
{
	struct cursor c = cursor_of(hs->in, NBD_CLIENT_FLAGS_BYTES);
	uint32_t flags = cursor_be32(&c);

	hs->no_zeroes = flags & NBD_FLAG_C_NO_ZEROES;
	return (flags & ~(uint32_t)(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) == 0;
}

static void receive_option(struct nbd_handshake *hs)
{
	receive(hs, HS_OPTION, NBD_OPT_HEADER_BYTES);
}

static void drop_more(struct nbd_handshake *hs)
{
	uint32_t left = hs->option_len - hs->dropped;

	if (left) {
		uint32_t len = left < sizeof(hs->in) ? left : (uint32_t)sizeof(hs->in);

		hs->dropped += len;
		receive(hs, HS_DROP, len);
		return;
	}
	hs->step = HS_REPLY;
	reply_error(hs, NBD_REP_ERR_TOO_BIG, "the option is too long");
	send_out(hs);
}

/* False: the connection ends. */
static bool option_header(struct nbd_handshake *hs)
{
	struct cursor c = cursor_of(hs->in, NBD_OPT_HEADER_BYTES);
	uint64_t magic = cursor_be64(&c);

	hs->option = cursor_be32(&c);
	hs->option_len = cursor_be32(&c);
	if (magic != NBD_MAGIC_OPT || hs->option_len > NBD_OPTION_HOPELESS_BYTES ||
	        ++hs->num_options > NBD_OPTIONS_MAX)
		return false;
	if (hs->option == NBD_OPT_EXPORT_NAME && hs->option_len > NBD_STRING_MAX_BYTES)
		return false;
	if (hs->option_len == 0) {
		answer(hs);
	} else if (hs->option_len <= NBD_OPTION_MAX_BYTES) {
		receive(hs, HS_DATA, hs->option_len);
	} else {
		hs->dropped = 0;
		drop_more(hs);
	}
	return true;
}

/* How many bytes the operation of this step should have transferred. */
static size_t step_bytes(const struct nbd_handshake *hs)
{
	switch (hs->step) {
	case HS_CLIENT_FLAGS:
		return NBD_CLIENT_FLAGS_BYTES;
	case HS_OPTION:
		return NBD_OPT_HEADER_BYTES;
	case HS_DATA:
		return hs->option_len;
	case HS_DROP:
		return hs->dropped % sizeof(hs->in) ? hs->dropped % sizeof(hs->in) : sizeof(hs->in);
	default:
		return hs->out.len;
	}
}

static void step_done(struct loop_op *op, int result)
{
	struct nbd_handshake *hs = container_of(op, struct nbd_handshake, op);

	if (hs->aborted || result < 0 || (size_t)result != step_bytes(hs)) {
		handshake_end(hs, false);
		return;
	}
	switch (hs->step) {
	case HS_GREETING:
		receive(hs, HS_CLIENT_FLAGS, NBD_CLIENT_FLAGS_BYTES);
		break;
	case HS_CLIENT_FLAGS:
		if (client_flags(hs))
			receive_option(hs);
		else
			handshake_end(hs, false);
		break;
	case HS_OPTION:
		if (!option_header(hs))
			handshake_end(hs, false);
		break;
	case HS_DATA:
		answer(hs);
		break;
	case HS_DROP:
		drop_more(hs);
		break;
	case HS_REPLY:
		receive_option(hs);
		break;
	case HS_ENTER:
		handshake_end(hs, true);
		break;
	case HS_CLOSE:
		handshake_end(hs, false);
		break;
	}
}

static void timed_out(struct loop_timer *timer)
{
	struct nbd_handshake *hs = container_of(timer, struct nbd_handshake, timer);

	log_notice("nbd", "server '%s': client %s did not choose an export in time",
	        hs->conn->server->name, hs->conn->peer);
	nbd_handshake_abort(hs);
}

void nbd_handshake_abort(struct nbd_handshake *hs)
{
	if (hs->aborted)
		return;
	hs->aborted = true;
	loop_sock_shutdown(hs->loop, hs->sock);
}

struct nbd_handshake *nbd_handshake_start(
        struct loop *loop, struct nbd_conn *conn, struct loop_sock *sock)
{
	struct nbd_handshake *hs = xcalloc(1, sizeof(*hs));
	struct writer w = out_more(&hs->out, NBD_GREETING_BYTES);

	writer_be64(&w, NBD_MAGIC_INIT);
	writer_be64(&w, NBD_MAGIC_OPT);
	writer_be16(&w, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	hs->conn = conn;
	hs->loop = loop;
	hs->sock = sock;
	hs->op.done = step_done;
	hs->timer.fire = timed_out;
	loop_timer_start(loop, &hs->timer, loop_now_ns(loop) + NBD_NEGOTIATION_NS);
	send_out(hs);
	return hs;
}
