/*
 * nbd_session.c: the life of a connection on its data loop, and receiving.
 *
 * Requests are received many at a time into one buffer. Small write payloads are copied out of it;
 * the rest of a large one is received straight into the request's buffer. Replies, and receiving
 * more, are started at the end of a turn, so that a turn's work costs one system call.
 */
#include "target/nbd/nbd_session.h"

#include <errno.h>
#include <string.h>

#include "base/cursor.h"
#include "base/log.h"

static void recv_done(struct loop_op *op, int result);

void nbd_session_touch(struct nbd_session *s)
{
	if (s->turn_end_queued || s->state == NBD_ENDED)
		return;
	s->turn_end_queued = true;
	loop_defer_turn_end(s->loop, &s->turn_end);
}

void nbd_session_break(struct nbd_session *s)
{
	if (s->state >= NBD_BROKEN)
		return;
	s->state = NBD_BROKEN;
	loop_sock_shutdown(s->loop, s->sock);
	nbd_session_touch(s);
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

static void refuse(struct nbd_session *s, const struct nbd_command *cmd, const char *why)
{
	log_notice("nbd", "client is cut off: %s (command %u, offset %llu, length %u)", why,
	        cmd->type, (unsigned long long)cmd->offset, cmd->length);
	nbd_session_break(s);
}

static void refuse_stopping(struct nbd_request *req)
{
	req->session->told_stopping = true;
	nbd_reply_error(req, NBD_ESHUTDOWN, "the export is being removed");
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The payload of a write, as far as it has been received; the rest goes straight to its buffer. */
static bool take_payload(struct nbd_session *s, struct nbd_request *req)
{
	uint32_t have = min_u32(s->in_len - s->in_pos, req->length);

	if (have)
		memcpy(req->buf, s->in + s->in_pos, have);
	s->in_pos += have;
	s->large_write = req->length > NBD_COPY_MAX_BYTES;
	if (have == req->length)
		return true;
	s->filling = req;
	s->filled = have;
	return false;
}

static void drop_payload(struct nbd_session *s)
{
	uint32_t have = (uint32_t)min_u64(s->in_len - s->in_pos, s->drop_bytes);

	s->in_pos += have;
	s->drop_bytes -= have;
}

/* False: this one, or what follows it, has to wait. */
static bool take_command(struct nbd_session *s, const struct nbd_command *cmd)
{
	struct nbd_request *req;
	const char *why = "out of memory";
	uint32_t error = nbd_command_check(s, cmd, &why);
	int rc;

	if (s->out_bytes >= NBD_OUT_BYTES || s->turn_bytes >= NBD_TURN_BYTES) {
		s->blocked = true;
		return false;
	}
	rc = nbd_pool_get(s, error || s->stopping ? 0 : nbd_command_buffer_bytes(cmd), &req);
	if (rc == -ENOMEM) {
		error = NBD_ENOMEM;
		rc = nbd_pool_get(s, 0, &req);
	}
	if (rc == -EAGAIN) {
		s->blocked = true;
		return false;
	}
	if (rc) {
		refuse(s, cmd, why);
		return false;
	}
	s->in_pos += NBD_REQUEST_BYTES;
	req->cookie = cmd->cookie;
	req->offset = cmd->offset;
	req->length = cmd->length;
	req->type = cmd->type;
	req->flags = cmd->flags;
	s->large_write = false;
	if (cmd->type == NBD_CMD_READ)
		s->turn_bytes += cmd->length;
	if (likely(cmd->type < NBD_CMDS))
		nbd_count(&s->stats.ops[cmd->type], 1);
	if (unlikely(error || s->stopping)) {
		if (cmd->type == NBD_CMD_WRITE)
			s->drop_bytes = cmd->length;
		if (s->stopping)
			refuse_stopping(req);
		else
			nbd_reply_error(req, error, why);
		return true;
	}
	if (cmd->type == NBD_CMD_WRITE && !take_payload(s, req))
		return false;
	nbd_command_start(req);
	return true;
}

/* "Request message". False: nothing more can be taken from the buffer now. */
static bool take_next(struct nbd_session *s)
{
	struct cursor c = cursor_of(s->in + s->in_pos, s->in_len - s->in_pos);
	uint32_t magic = cursor_be32(&c);
	struct nbd_command cmd;

	cmd.flags = cursor_be16(&c);
	cmd.type = cursor_be16(&c);
	cmd.cookie = cursor_be64(&c);
	cmd.offset = cursor_be64(&c);
	cmd.length = cursor_be32(&c);
	if (!cursor_ok(&c))
		return false;
	if (magic != NBD_REQUEST_MAGIC) {
		refuse(s, &cmd, "not a request");
		return false;
	}
	if (cmd.type == NBD_CMD_DISC) {
		s->in_pos += NBD_REQUEST_BYTES;
		nbd_count(&s->stats.ops[NBD_CMD_DISC], 1);
		s->state = NBD_DRAINING;
		return false;
	}
	if (cmd.type == NBD_CMD_WRITE && cmd.length > NBD_REQUEST_MAX_BYTES) {
		refuse(s, &cmd, "write longer than 32 MiB");
		return false;
	}
	/* A small write waits until all of it is there: then it costs no receive of its own. */
	if (cmd.type == NBD_CMD_WRITE && cmd.length <= NBD_COPY_MAX_BYTES &&
	        cursor_left(&c) < cmd.length)
		return false;
	return take_command(s, &cmd);
}

static void take_all(struct nbd_session *s)
{
	while (s->state == NBD_RUNNING && !s->filling) {
		if (unlikely(s->drop_bytes)) {
			drop_payload(s);
			if (s->drop_bytes)
				break;
		}
		if (!take_next(s))
			break;
	}
}

static void start_recv(struct nbd_session *s)
{
	uint32_t left = s->in_len - s->in_pos, want = NBD_RECV_BYTES - left;

	s->recv_op.done = recv_done;
	if (s->filling) {
		s->recv_busy = true;
		loop_sock_recv(s->loop, &s->recv_op, s->sock, s->filling->buf + s->filled,
		        s->filling->length - s->filled, true);
		return;
	}
	if (s->in_pos) {
		memmove(s->in, s->in + s->in_pos, left);
		s->in_pos = 0;
		s->in_len = left;
	}
	if (s->large_write && left < NBD_REQUEST_BYTES)
		want = NBD_REQUEST_BYTES - left;
	s->recv_busy = true;
	loop_sock_recv(s->loop, &s->recv_op, s->sock, s->in + s->in_len, want, false);
}

static void recv_done(struct loop_op *op, int result)
{
	struct nbd_session *s = container_of(op, struct nbd_session, recv_op);
	struct nbd_request *req = s->filling;

	s->recv_busy = false;
	s->filling = NULL;
	nbd_session_touch(s);
	if (req && (s->state != NBD_RUNNING || result != (int)(req->length - s->filled))) {
		nbd_pool_put(req);
		nbd_session_break(s);
	} else if (req && s->stopping) {
		refuse_stopping(req);
	} else if (req) {
		nbd_command_start(req);
	} else if (result < 0) {
		nbd_session_break(s);
	} else if (result == 0) {
		if (s->state == NBD_RUNNING)
			s->state = NBD_DRAINING;
	} else {
		s->in_len += (uint32_t)result;
	}
	take_all(s);
}

/* ---- the end of a turn -------------------------------------------------------------------------
 */

static void ended(struct loop_task *task);

static void finish(struct nbd_session *s)
{
	s->state = NBD_ENDED;
	loop_timer_stop(s->loop, &s->stop_timer);
	nbd_pool_free(s);
	loop_sock_close(s->loop, s->sock);
	s->sock = NULL;
	s->gone_task.run = ended;
	loop_send(loop_get(LOOP_CONTROL), &s->gone_task);
}

static void go_on(struct loop_task *task)
{
	struct nbd_session *s = container_of(task, struct nbd_session, go_on_task);

	s->go_on_queued = false;
	s->blocked = false;
	take_all(s);
	nbd_session_touch(s);
}

/* A client that is active hears of it; one that is idle is given a moment to become so. */
static bool has_ended(const struct nbd_session *s)
{
	if (s->in_flight || s->state >= NBD_BROKEN)
		return false;
	return s->state == NBD_DRAINING || s->told_stopping || s->grace_over;
}

/*
 * Receiving, or what is left of the last receive. While the loop has ready tasks, which may well be
 * completions of this session's bios, receiving waits for them, so that it is submitted together
 * with their replies.
 */
static void take_more(struct nbd_session *s)
{
	bool go = s->blocked ? s->released || s->turn_bytes : s->loop->ready != NULL;

	s->released = false;
	s->turn_bytes = 0;
	if (go) {
		s->go_on_queued = true;
		loop_defer(s->loop, &s->go_on_task);
	} else if (!s->blocked) {
		start_recv(s);
	}
}

/* Nothing is answered any more, and nothing more received: not the rest of a payload either that
 * was to be, had the connection not broken in this turn. */
static void drop_all(struct nbd_session *s)
{
	nbd_drop_replies(s);
	if (s->filling && !s->recv_busy) {
		nbd_pool_put(s->filling);
		s->filling = NULL;
	}
}

static void turn_end(struct loop_task *task)
{
	struct nbd_session *s = container_of(task, struct nbd_session, turn_end);

	s->turn_end_queued = false;
	if (s->state == NBD_BROKEN)
		drop_all(s);
	else
		nbd_send(s);
	if (has_ended(s)) {
		s->state = NBD_BROKEN;
		loop_sock_shutdown(s->loop, s->sock);
	}
	if (s->recv_busy || s->go_on_queued)
		return;
	if (s->state == NBD_RUNNING)
		take_more(s);
	else if (s->state == NBD_BROKEN && s->in_flight == 0 && !s->send_busy)
		finish(s);
}

/* ---- between the loops -------------------------------------------------------------------------
 */

static void started(struct loop_task *task)
{
	struct nbd_session *s = container_of(task, struct nbd_session, start_task);

	nbd_session_touch(s);
}

static void stop_fire(struct loop_timer *timer)
{
	struct nbd_session *s = container_of(timer, struct nbd_session, stop_timer);

	if (s->grace_over) {
		nbd_session_break(s);
		return;
	}
	s->grace_over = true;
	loop_timer_start(s->loop, timer, loop_now_ns(s->loop) + NBD_STOP_NS);
	nbd_session_touch(s);
}

static void stopped(struct loop_task *task)
{
	struct nbd_session *s = container_of(task, struct nbd_session, stop_task);

	if (s->state == NBD_ENDED)
		return;
	s->stopping = true;
	s->stop_timer.fire = stop_fire;
	loop_timer_start(s->loop, &s->stop_timer, loop_now_ns(s->loop) + NBD_GRACE_NS);
	nbd_session_touch(s);
}

static void fence_back(struct loop_task *task)
{
	struct nbd_session *s = container_of(task, struct nbd_session, fence_task);

	s->ended(s->arg);
}

static void fence(struct loop_task *task)
{
	task->run = fence_back;
	loop_send(loop_get(LOOP_CONTROL), task);
}

/*
 * On the control loop. A stop that was sent may still be on its way: a message behind it tells when
 * nothing refers to the session any more.
 */
static void ended(struct loop_task *task)
{
	struct nbd_session *s = container_of(task, struct nbd_session, gone_task);

	if (!s->stop_sent) {
		s->stop_sent = true;
		s->ended(s->arg);
		return;
	}
	s->fence_task.run = fence;
	loop_send(s->loop, &s->fence_task);
}

struct nbd_session *nbd_session_start(const struct nbd_session_config *config)
{
	struct nbd_session *s = xcalloc(1, sizeof(*s));

	BELLOWS_ASSERT(loop_is_control());
	s->in = xcalloc(1, NBD_RECV_BYTES);
	s->loop = config->loop;
	s->sock = config->sock;
	s->handle = config->handle;
	s->bdev = bdev_handle_bdev(config->handle);
	s->block_shift = s->bdev->block_shift;
	s->flags = config->flags;
	s->structured = config->structured;
	s->meta_allocation = config->meta_allocation;
	s->fast_zero = config->fast_zero;
	s->ended = config->ended;
	s->arg = config->arg;
	s->out_tail = &s->out;
	s->turn_end.run = turn_end;
	s->go_on_task.run = go_on;
	s->start_task.run = started;
	loop_send(s->loop, &s->start_task);
	return s;
}

void nbd_session_stop(struct nbd_session *s)
{
	BELLOWS_ASSERT(loop_is_control());
	if (s->stop_sent)
		return;
	s->stop_sent = true;
	s->stop_task.run = stopped;
	loop_send(s->loop, &s->stop_task);
}

void nbd_session_free(struct nbd_session *s)
{
	BELLOWS_ASSERT(s->state == NBD_ENDED);
	free(s->in);
	free(s);
}

void nbd_session_stats(const struct nbd_session *s, struct nbd_stats *out)
{
	for (unsigned i = 0; i < NBD_CMDS; i++)
		out->ops[i] = __atomic_load_n(&s->stats.ops[i], __ATOMIC_RELAXED);
	out->bytes_read = __atomic_load_n(&s->stats.bytes_read, __ATOMIC_RELAXED);
	out->bytes_written = __atomic_load_n(&s->stats.bytes_written, __ATOMIC_RELAXED);
	out->errors = __atomic_load_n(&s->stats.errors, __ATOMIC_RELAXED);
	out->in_flight = __atomic_load_n(&s->stats.in_flight, __ATOMIC_RELAXED);
}

unsigned nbd_session_loop(const struct nbd_session *s)
{
	return s->loop->id;
}

bool nbd_session_structured(const struct nbd_session *s)
{
	return s->structured;
}
