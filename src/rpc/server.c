/* server.c: connections over unix sockets. */

#include "rpc/server.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "rpc/connection.h"

#define RECV_BYTES 16384
#define SEND_IOVS 16

struct out_text {
	struct list link;
	size_t len;
	char *bytes;
};

struct client {
	struct rpc_connection connection;
	struct loop_sock *sock;
	struct list link; /* in clients */
	struct loop_op recv, send;
	struct loop_task resume;
	bool receiving, sending, resuming, at_end;
	struct list out;        /* what waits to be sent */
	unsigned sending_texts; /* of these, in the send that is on its way */
	size_t in_pos, in_len;
	char in[RECV_BYTES];
};

static struct {
	void (*done)(void *arg);
	void *arg;
	struct loop_timer deadline;
	bool on;
} drain;

static struct list clients = LIST_INIT(clients);
static unsigned num_clients;
static struct loop_listener *listener;

static struct loop *control(void)
{
	return loop_get(LOOP_CONTROL);
}

static struct client *client_of(struct rpc_connection *connection)
{
	return container_of(connection, struct client, connection);
}

/* ---- end ------------------------------------------------------------------------------------- */

static void drop_out(struct client *client)
{
	struct list *node;

	while ((node = list_pop_front(&client->out))) {
		struct out_text *text = list_entry(node, struct out_text, link);

		free(text->bytes);
		free(text);
	}
}

static void drain_check(void)
{
	if (!drain.on || num_clients)
		return;
	drain.on = false;
	loop_timer_stop(control(), &drain.deadline);
	drain.done(drain.arg);
}

/* Lets go of the socket when nothing uses it any more. */
static void finish_close(struct client *client)
{
	if (!client->connection.closed || client->receiving || client->sending ||
	        client->resuming || !client->sock)
		return;
	loop_sock_close(control(), steal_ptr(&client->sock));
	drop_out(client);
	list_remove(&client->link);
	num_clients--;
	rpc_connection_put(&client->connection);
	drain_check();
}

static void on_resume(struct loop_task *task);

static void schedule(struct client *client)
{
	if (client->resuming)
		return;
	client->resuming = true;
	client->resume.run = on_resume;
	loop_defer(control(), &client->resume);
}

static void client_close(struct rpc_connection *connection)
{
	struct client *client = client_of(connection);

	loop_sock_shutdown(control(), client->sock);
	schedule(client); /* to finish; the caller may still be using it */
}

static void client_free(struct rpc_connection *connection)
{
	free(client_of(connection));
}

/* ---- out ------------------------------------------------------------------------------------- */

static void send_next(struct client *client)
{
	struct iovec iov[SEND_IOVS];
	struct out_text *text;
	unsigned n = 0;

	if (client->sending || client->connection.closed || list_empty(&client->out))
		return;
	list_for_each (text, &client->out, link) {
		if (n == SEND_IOVS)
			break;
		iov[n++] = (struct iovec){.iov_base = text->bytes, .iov_len = text->len};
	}
	client->sending = true;
	client->sending_texts = n;
	loop_sock_send(control(), &client->send, client->sock, iov, n, false);
}

static void on_sent(struct loop_op *op, int result)
{
	struct client *client = container_of(op, struct client, send);

	client->sending = false;
	while (client->sending_texts) {
		struct out_text *text =
		        list_entry(list_pop_front(&client->out), struct out_text, link);

		client->sending_texts--;
		client->connection.queued_bytes -= text->len;
		free(text->bytes);
		free(text);
	}
	if (result < 0)
		rpc_connection_close(&client->connection);
	send_next(client);
	schedule(client);
}

static void client_send(struct rpc_connection *connection, char *bytes, size_t len)
{
	struct client *client = client_of(connection);
	struct out_text *text = xcalloc(1, sizeof(*text));

	text->bytes = bytes;
	text->len = len;
	connection->queued_bytes += len;
	list_init(&text->link);
	list_push_back(&client->out, &text->link);
	send_next(client);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* Feeds what is there and asks for more. A client that has sent its last byte is answered first. */
static void go_on(struct client *client)
{
	struct rpc_connection *connection = &client->connection;

	if (client->in_pos < client->in_len)
		client->in_pos += rpc_connection_feed(
		        connection, client->in + client->in_pos, client->in_len - client->in_pos);
	if (connection->bad_input || drain.on) {
		client->at_end = true;
		client->in_pos = client->in_len;
	}
	if (client->at_end && client->in_pos == client->in_len &&
	        (!connection->requests || drain.on) && list_empty(&client->out))
		rpc_connection_close(connection);
	if (!client->receiving && !client->at_end && client->in_pos == client->in_len &&
	        !rpc_connection_blocked(connection)) {
		client->receiving = true;
		loop_sock_recv(control(), &client->recv, client->sock, client->in,
		        sizeof(client->in), false);
	}
}

static void on_received(struct loop_op *op, int result)
{
	struct client *client = container_of(op, struct client, recv);

	client->receiving = false;
	client->in_pos = 0;
	client->in_len = result > 0 ? (size_t)result : 0;
	if (result == 0)
		client->at_end = true;
	else if (result < 0)
		rpc_connection_close(&client->connection);
	go_on(client);
	finish_close(client);
}

static void on_resume(struct loop_task *task)
{
	struct client *client = container_of(task, struct client, resume);

	client->resuming = false;
	go_on(client);
	finish_close(client);
}

static void client_resume(struct rpc_connection *connection)
{
	schedule(client_of(connection));
}

static const struct rpc_connection_ops client_ops = {
        .send = client_send,
        .resume = client_resume,
        .close = client_close,
        .free = client_free,
};

/* ---- listening ------------------------------------------------------------------------------- */

static void on_accept(struct loop_listener *from, struct loop_sock *sock, void *arg)
{
	struct client *client;

	(void)from;
	(void)arg;
	if (num_clients == RPC_CONNECTIONS_MAX) {
		log_warning("rpc", "more than %d connections; the new one is closed",
		        RPC_CONNECTIONS_MAX);
		loop_sock_close(control(), sock);
		return;
	}
	client = xcalloc(1, sizeof(*client));
	client->sock = sock;
	client->recv.done = on_received;
	client->send.done = on_sent;
	list_init(&client->out);
	list_init(&client->link);
	list_push_back(&clients, &client->link);
	num_clients++;
	rpc_connection_init(&client->connection, &client_ops);
	go_on(client);
}

int rpc_server_listen(const char *path, struct err *err)
{
	struct loop_addr addr = {.kind = LOOP_ADDR_UNIX};

	if (!str_copy(addr.path, sizeof(addr.path), path))
		return err_set(err, -ENAMETOOLONG,
		        "the socket path '%s' has more than %zu characters", path,
		        sizeof(addr.path) - 1);
	return loop_listen(control(), &addr, on_accept, NULL, &listener, err);
}

void rpc_server_stop_listening(void)
{
	if (listener)
		loop_listener_close(control(), steal_ptr(&listener));
}

void rpc_server_close(void)
{
	struct client *client, *next;

	list_for_each_safe (client, next, &clients, link)
		rpc_connection_close(&client->connection);
}

static void drain_late(struct loop_timer *timer)
{
	(void)timer;
	rpc_server_close();
}

void rpc_server_drain(void (*done)(void *arg), void *arg)
{
	struct client *client;

	drain.done = done;
	drain.arg = arg;
	drain.on = true;
	drain.deadline.fire = drain_late;
	loop_timer_start(control(), &drain.deadline, loop_now_ns(control()) + RPC_DRAIN_NS);
	list_for_each (client, &clients, link)
		schedule(client);
	drain_check();
}

void rpc_server_pause(bool paused)
{
	struct client *client;

	rpc_pause(paused);
	if (!paused)
		list_for_each (client, &clients, link)
			schedule(client);
}
