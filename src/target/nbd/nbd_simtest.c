/*
 * The NBD target on simulated loops: deadlines in virtual time, and the ends of connections in
 * whatever order a seed makes the loops run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cursor.h"
#include "base/log.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "sim/sim.h"
#include "target/nbd/nbd.h"

#define CLIENTS 5
#define READS 40
#define SEEDS 200
#define HALF_WRITE_BYTES 40960

static const struct loop_addr addr = {.kind = LOOP_ADDR_TCP, .host = "127.0.0.1", .port = 10809};

/* ---- the daemon -------------------------------------------------------------------------------
 */

static bool flag_is_set(void *arg)
{
	return *(bool *)arg;
}

static void wait_for(bool *flag)
{
	assert_true(sim_run_until(flag_is_set, flag, 60 * NSEC_PER_SEC));
}

static void started(void *arg, const struct err *err)
{
	if (err && err->code)
		fail_msg("%s", err->text);
	*(bool *)arg = true;
}

static void called(void *arg, const json_t *reply)
{
	assert_non_null(json_object_get(reply, "result"));
	*(bool *)arg = true;
}

static void call(const char *method, const char *params)
{
	bool done = false;

	rpc_call(method, json_loads(params, 0, NULL), called, &done);
	wait_for(&done);
}

static struct nbd_server *begin(uint64_t seed)
{
	const struct nbd_export_spec spec = {.bdev_name = "a", .name = ""};
	struct loop_config config = {.data_loops = 3};
	struct rpc_options options = {0};
	struct nbd_server *server;
	struct nbd_export *export;
	struct err err = ERR_NONE;
	bool done = false;

	log_set_print_level(LOG_ERROR);
	sim_world_reset(seed);
	assert_int_equal(loops_start(&config, &err), 0);
	bdev_start();
	rpc_start(&options, started, &done);
	wait_for(&done);
	call("bdev_malloc_create", "{\"name\": \"a\", \"num_blocks\": 2048, \"block_size\": 512}");
	assert_int_equal(nbd_server_create("S", &addr, &server, &err), 0);
	assert_int_equal(nbd_export_add(server, &spec, &export, &err), 0);
	return server;
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

static void end(struct nbd_server *server)
{
	bool done = false;

	if (server) {
		nbd_server_delete(server, set_flag, &done);
		wait_for(&done);
	}
	done = false;
	bdev_stop((struct bdev_done){.fn = started, .arg = &done});
	wait_for(&done);
	rpc_stop();
	sim_loops_end();
}

/* ---- a client, on the control loop ------------------------------------------------------------
 */

struct client {
	struct loop_sock *sock;
	struct loop_op connect_op, send_op, recv_op;
	uint8_t out[1024 + HALF_WRITE_BYTES];
	size_t out_len;
	uint8_t in[65536];
	uint64_t received;
	uint64_t ended_ns;
	bool settled, connected, sending, deaf, ended;
};

static void receive(struct client *c);

static void received(struct loop_op *op, int result)
{
	struct client *c = container_of(op, struct client, recv_op);

	if (result > 0) {
		c->received += (uint64_t)result;
		receive(c);
		return;
	}
	c->ended = true;
	c->ended_ns = loop_now_ns(loop_self());
}

static void receive(struct client *c)
{
	c->recv_op.done = received;
	loop_sock_recv(loop_self(), &c->recv_op, c->sock, c->in, sizeof(c->in), false);
}

static void sent(struct loop_op *op, int result)
{
	(void)result;
	container_of(op, struct client, send_op)->sending = false;
}

static void connected(struct loop_op *op, int result)
{
	struct client *c = container_of(op, struct client, connect_op);
	struct iovec iov = {c->out, c->out_len};

	c->settled = true;
	if (result < 0) { /* the server has gone before */
		c->ended = true;
		return;
	}
	c->connected = true;
	if (c->out_len) {
		c->sending = true;
		c->send_op.done = sent;
		loop_sock_send(loop_self(), &c->send_op, c->sock, &iov, 1, false);
	}
	if (!c->deaf)
		receive(c);
}

static void connect_client(struct client *c)
{
	c->connect_op.done = connected;
	loop_sock_connect(loop_self(), &c->connect_op, &addr, &c->sock);
}

/* Client flags, NBD_OPT_GO for the default export, and reads: cut off after len bytes. */
static void prepare(struct client *c, unsigned reads, size_t len)
{
	struct writer w = writer_of(c->out, sizeof(c->out));

	writer_be32(&w, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
	writer_be64(&w, NBD_MAGIC_OPT);
	writer_be32(&w, NBD_OPT_GO);
	writer_be32(&w, 6);
	writer_zero(&w, 6);
	for (unsigned i = 0; i < reads; i++) {
		writer_be32(&w, NBD_REQUEST_MAGIC);
		writer_be32(&w, NBD_CMD_READ);
		writer_be64(&w, i);
		writer_be64(&w, 0);
		writer_be32(&w, 65536);
	}
	assert_false(w.bad);
	c->out_len = min_u64(len, (size_t)(w.pos - c->out));
}

/* ---- deadlines --------------------------------------------------------------------------------
 */

static void test_silent_clients_are_cut_off(void **state)
{
	/* nothing; half of the flags; flags; half of an option */
	static const size_t lens[] = {0, 2, 4, 15};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct nbd_server *server = begin(i);
		struct client *c = xcalloc(1, sizeof(*c));
		uint64_t begin_ns = loop_now_ns(loop_self());

		prepare(c, READS, lens[i]);
		connect_client(c);
		wait_for(&c->ended);
		assert_true(c->ended_ns - begin_ns >= NBD_NEGOTIATION_NS);
		assert_true(c->ended_ns - begin_ns < NBD_NEGOTIATION_NS + NSEC_PER_SEC);
		loop_sock_close(loop_self(), c->sock);
		free(c);
		end(server);
	}
}

static void test_a_client_in_transmission_may_be_silent(void **state)
{
	struct nbd_server *server = begin(1);
	struct client *c = xcalloc(1, sizeof(*c));

	(void)state;
	prepare(c, READS, 26);
	connect_client(c);
	assert_false(sim_run_until(flag_is_set, &c->ended, 100 * NSEC_PER_SEC));
	assert_int_equal(server->num_conns, 1);
	loop_sock_shutdown(loop_self(), c->sock);
	wait_for(&c->ended);
	loop_sock_close(loop_self(), c->sock);
	free(c);
	end(server);
}

/* A client that does not read what it has asked for holds a removal up for a moment only. */
static void test_deaf_client(void **state)
{
	struct nbd_server *server = begin(2);
	struct client *c = xcalloc(1, sizeof(*c));
	uint64_t begin_ns;
	bool removed = false;

	(void)state;
	prepare(c, READS, sizeof(c->out));
	c->deaf = true;
	connect_client(c);
	(void)sim_run_until(flag_is_set, &c->ended, NSEC_PER_SEC);
	assert_int_equal(server->num_conns, 1);
	begin_ns = loop_now_ns(loop_self());
	nbd_export_remove(nbd_export_find(server, "", 0), set_flag, &removed);
	wait_for(&removed);
	assert_true(
	        loop_now_ns(loop_self()) - begin_ns < NBD_GRACE_NS + NBD_STOP_NS + NSEC_PER_SEC);
	assert_int_equal(server->num_conns, 0);
	receive(c);
	wait_for(&c->ended);
	loop_sock_close(loop_self(), c->sock);
	free(c);
	end(server);
}

/* ---- any order --------------------------------------------------------------------------------
 */

struct ending {
	uint64_t seed;
	struct nbd_server *server;
	struct client *clients;
	bool removed;
};

/* Some clients leave; the export, the server or the bdev is removed. */
static void remove_something(void *arg)
{
	struct ending *e = arg;

	for (unsigned i = 0; i < CLIENTS; i++) {
		if (e->clients[i].connected && loop_random(loop_self()) % 4 == 0)
			loop_sock_shutdown(loop_self(), e->clients[i].sock);
	}
	if (e->seed % 3 == 0)
		nbd_export_remove(nbd_export_find(e->server, "", 0), set_flag, &e->removed);
	else if (e->seed % 3 == 1)
		nbd_server_delete(e->server, set_flag, &e->removed);
	else
		bdev_remove(bdev_find("a"), (struct bdev_done){.fn = started, .arg = &e->removed});
}

/* Clients have got to any point of their stream when that happens. Everything ends. */
static void end_in_any_order(uint64_t seed)
{
	struct ending e = {.seed = seed, .server = begin(seed)};
	bool never = false, server_is_gone = seed % 3 == 1;

	e.clients = xcalloc(CLIENTS, sizeof(*e.clients));
	for (unsigned i = 0; i < CLIENTS; i++) {
		prepare(&e.clients[i], READS, loop_random(loop_self()) % 400);
		connect_client(&e.clients[i]);
	}
	(void)sim_run_until(flag_is_set, &never, loop_random(loop_self()) % (2 * NSEC_PER_MSEC));
	sim_on_loop(LOOP_CONTROL, remove_something, &e);
	wait_for(&e.removed);
	for (unsigned i = 0; i < CLIENTS; i++)
		wait_for(&e.clients[i].settled);
	if (!server_is_gone)
		assert_int_equal(e.server->num_exports, 0);
	end(server_is_gone ? NULL : e.server);
	free(e.clients);
}

static void test_ends_in_any_order(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++)
		end_in_any_order(seed);
}

static bool nobody_is_connected(void *arg)
{
	return ((struct nbd_server *)arg)->num_conns == 0;
}

static void send_half_write(void *arg)
{
	struct client *c = arg;
	struct writer w = writer_of(c->out, sizeof(c->out));
	struct iovec iov = {c->out, NBD_REQUEST_BYTES + HALF_WRITE_BYTES / 2};

	writer_be32(&w, NBD_REQUEST_MAGIC);
	writer_be32(&w, NBD_CMD_WRITE);
	writer_be64(&w, READS);
	writer_be64(&w, 0);
	writer_be32(&w, HALF_WRITE_BYTES);
	writer_zero(&w, HALF_WRITE_BYTES / 2);
	assert_false(w.bad);
	c->sending = true;
	loop_sock_send(loop_self(), &c->send_op, c->sock, &iov, 1, false);
}

static bool has_sent(void *arg)
{
	return !((struct client *)arg)->sending;
}

static void hang_up(void *arg)
{
	loop_sock_shutdown(loop_self(), ((struct client *)arg)->sock);
}

/* A client that does not read its answers begins a write, and hangs up: the server hears of both in
 * one turn, and forgets it. */
static void test_hang_up_within_a_write(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct nbd_server *server = begin(seed);
		struct client *c = xcalloc(1, sizeof(*c));
		bool never = false;

		prepare(c, 3, sizeof(c->out));
		c->deaf = true;
		connect_client(c);
		wait_for(&c->connected);
		(void)sim_run_until(flag_is_set, &never, 100 * NSEC_PER_MSEC);
		assert_false(c->sending);
		sim_on_loop(LOOP_CONTROL, send_half_write, c);
		assert_true(sim_run_until(has_sent, c, NSEC_PER_SEC));
		sim_on_loop(LOOP_CONTROL, hang_up, c);
		assert_true(sim_run_until(nobody_is_connected, server, 60 * NSEC_PER_SEC));
		end(server);
		free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_silent_clients_are_cut_off),
	        cmocka_unit_test(test_a_client_in_transmission_may_be_silent),
	        cmocka_unit_test(test_deaf_client),
	        cmocka_unit_test(test_ends_in_any_order),
	        cmocka_unit_test(test_hang_up_within_a_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
