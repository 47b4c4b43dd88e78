/* The simulated loops, files and sockets keep the contract of loop.h, and power cuts what they say.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim.h"

#define DATA_LOOPS 3

static void begin(uint64_t seed)
{
	struct err err = ERR_NONE;

	sim_world_reset(seed);
	assert_int_equal(loops_start(&(struct loop_config){.data_loops = DATA_LOOPS}, &err), 0);
}

/* ---- messages, tasks, timers -------------------------------------------------------------------
 */

static struct message {
	struct loop_task task;
	unsigned from, number;
} messages[DATA_LOOPS + 1][40];
static unsigned last_number[DATA_LOOPS + 1], arrived;

static void on_message(struct loop_task *task)
{
	struct message *m = container_of(task, struct message, task);

	assert_int_equal(loop_self()->id, 1);
	assert_int_equal(m->number, last_number[m->from] + 1);
	last_number[m->from] = m->number;
	arrived++;
}

static void send_some(void *arg)
{
	unsigned from = *(unsigned *)arg;

	for (unsigned i = 0; i < 40; i++) {
		messages[from][i] = (struct message){{.run = on_message}, from, i + 1};
		loop_send(loop_get(1), &messages[from][i].task);
	}
}

static bool all_arrived(void *arg)
{
	return arrived == *(unsigned *)arg;
}

static void messages_of_one_sender_keep_their_order(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 50; seed++) {
		unsigned all = 40 * (DATA_LOOPS + 1);

		begin(seed);
		arrived = 0;
		memset(last_number, 0, sizeof(last_number));
		for (unsigned i = 0; i <= DATA_LOOPS; i++)
			sim_on_loop(i, send_some, &i);
		assert_true(sim_run_until(all_arrived, &all, NSEC_PER_SEC));
		sim_loops_end();
	}
}

static struct loop_timer timers[8];
static unsigned fired[8], num_fired;

static void on_timer(struct loop_timer *timer)
{
	assert_true(loop_now_ns(loop_self()) >= timer->deadline_ns);
	fired[num_fired++] = (unsigned)(timer - timers);
}

static bool six_fired(void *arg)
{
	(void)arg;
	return num_fired == 6;
}

static void timers_fire_in_order_and_not_when_stopped(void **state)
{
	static const unsigned order[] = {5, 4, 3, 2, 1, 0};
	struct loop *loop;

	(void)state;
	begin(7);
	loop = loop_self();
	num_fired = 0;
	for (unsigned i = 0; i < 8; i++) {
		timers[i] = (struct loop_timer){.fire = on_timer};
		loop_timer_start(loop, &timers[i], loop_now_ns(loop) + (8 - i) * NSEC_PER_SEC);
	}
	loop_timer_stop(loop, &timers[7]);
	loop_timer_start(loop, &timers[6], loop_now_ns(loop) + 100 * NSEC_PER_SEC);
	assert_false(loop_timer_active(&timers[7]));
	assert_true(sim_run_until(six_fired, NULL, 50 * NSEC_PER_SEC));
	assert_memory_equal(fired, order, sizeof(order));
	assert_true(loop_timer_active(&timers[6]));
	sim_loops_end();
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

struct operation {
	struct loop_op op;
	bool done;
	int result;
};

static void on_done(struct loop_op *op, int result)
{
	struct operation *o = container_of(op, struct operation, op);

	assert_false(o->done);
	o->done = true;
	o->result = result;
}

static bool is_done(void *arg)
{
	return ((struct operation *)arg)->done;
}

static int finish(struct operation *o)
{
	assert_true(sim_run_until(is_done, o, 10 * NSEC_PER_SEC));
	return o->result;
}

static struct operation start(void)
{
	return (struct operation){.op = {.done = on_done}};
}

static struct loop_file *open_file(const char *path)
{
	struct loop_file *file = NULL;
	struct operation o = start();

	loop_file_open(loop_self(), &o.op, path, 0, &file);
	assert_int_equal(finish(&o), 0);
	return file;
}

static int write_sector(struct loop_file *file, uint64_t sector, char fill, bool dsync)
{
	char bytes[512];
	struct iovec iov = {bytes, sizeof(bytes)};
	struct operation o = start();

	memset(bytes, fill, sizeof(bytes));
	loop_file_writev(loop_self(), &o.op, file, &iov, 1, sector * 512, dsync);
	return finish(&o);
}

static int sync_file(struct loop_file *file)
{
	struct operation o = start();

	loop_file_sync(loop_self(), &o.op, file);
	return finish(&o);
}

/* What a daemon has in memory goes with its process; here the process lives on. */
static void crash(struct loop_file *file, bool power_cut)
{
	sim_crash(power_cut);
	free(file);
}

static char stable(const struct sim_file *f, uint64_t sector)
{
	return (char)f->current[sector * 512];
}

static void a_power_cut_keeps_what_was_flushed_and_any_part_of_the_rest(void **state)
{
	bool lost = false, kept = false, torn = false;

	(void)state;
	for (uint64_t seed = 1; seed < 200; seed++) {
		struct loop_file *file;
		struct sim_file *f;

		begin(seed);
		f = sim_file_add("/disk", 8 * 512, true);
		file = open_file("/disk");
		write_sector(file, 0, 'a', false);
		assert_int_equal(sync_file(file), 0);
		write_sector(file, 1, 'b', true);
		write_sector(file, 2, 'c', false);
		write_sector(file, 3, 'd', false);
		write_sector(file, 0, 'e', false);
		crash(file, true);
		assert_true(stable(f, 0) == 'a' || stable(f, 0) == 'e');
		assert_int_equal(stable(f, 1), 'b');
		assert_true(stable(f, 2) == 'c' || stable(f, 2) == 0);
		lost |= stable(f, 2) == 0 && stable(f, 3) == 0;
		kept |= stable(f, 2) == 'c' && stable(f, 3) == 'd';
		torn |= (stable(f, 2) == 0) != (stable(f, 3) == 0);
	}
	assert_true(lost && kept && torn);
}

static void a_killed_daemon_loses_nothing_that_was_written(void **state)
{
	struct loop_file *file;
	struct sim_file *f;

	(void)state;
	begin(3);
	f = sim_file_add("/disk", 8 * 512, true);
	file = open_file("/disk");
	write_sector(file, 2, 'c', false);
	crash(file, false);
	assert_int_equal(stable(f, 2), 'c');
}

static void a_length_is_durable_after_a_sync(void **state)
{
	bool reverted = false;

	(void)state;
	for (uint64_t seed = 1; seed < 60; seed++) {
		bool sync = seed % 2;
		struct loop_file *file;
		struct operation o = start();
		struct sim_file *f;

		begin(seed);
		f = sim_file_add("/file", 4096, false);
		file = open_file("/file");
		loop_file_truncate(loop_self(), &o.op, file, 8192);
		assert_int_equal(finish(&o), 0);
		if (sync)
			assert_int_equal(sync_file(file), 0);
		crash(file, true);
		if (sync)
			assert_int_equal(f->size_bytes, 8192);
		reverted |= f->size_bytes == 4096;
	}
	assert_true(reverted);
}

static void a_bad_sector_is_cured_by_writing_it(void **state)
{
	char bytes[512];
	struct iovec iov = {bytes, sizeof(bytes)};
	struct operation o = start(), again = start();
	struct loop_file *file;
	struct sim_file *f;

	(void)state;
	begin(5);
	f = sim_file_add("/disk", 8 * 512, true);
	file = open_file("/disk");
	f->sectors[4] |= SECTOR_BAD;
	loop_file_readv(loop_self(), &o.op, file, &iov, 1, 4 * 512);
	assert_int_equal(finish(&o), -EIO);
	write_sector(file, 4, 'x', false);
	loop_file_readv(loop_self(), &again.op, file, &iov, 1, 4 * 512);
	assert_int_equal(finish(&again), 512);
	assert_int_equal(bytes[511], 'x');
	sim_loops_end();
	free(file);
}

/* ---- sockets
 * --------------------------------------------------------------------------------------- */

#define STREAM 300000

static struct loop_sock *accepted;
static char sent[STREAM], received[STREAM];

static void on_accept(struct loop_listener *listener, struct loop_sock *sock, void *arg)
{
	(void)listener;
	(void)arg;
	accepted = sock;
}

static bool has_accepted(void *arg)
{
	(void)arg;
	return accepted != NULL;
}

static void a_stream_arrives_whole_and_ends(void **state)
{
	struct loop_addr addr = {.kind = LOOP_ADDR_TCP, .host = "127.0.0.1"};
	struct operation connect = start(), send = start(), recv = start(), end = start();
	struct iovec iovs[2] = {{sent, 1000}, {sent + 1000, STREAM - 1000}};
	struct loop_listener *listener;
	struct loop_sock *client;
	struct err err = ERR_NONE;

	(void)state;
	begin(11);
	accepted = NULL;
	for (size_t i = 0; i < STREAM; i++)
		sent[i] = (char)(i * 7 + i / 251);
	assert_int_equal(loop_listen(loop_self(), &addr, on_accept, NULL, &listener, &err), 0);
	loop_sock_connect(loop_self(), &connect.op, loop_listener_addr(listener), &client);
	assert_int_equal(finish(&connect), 0);
	assert_true(sim_run_until(has_accepted, NULL, NSEC_PER_SEC));
	loop_sock_recv(loop_self(), &recv.op, accepted, received, STREAM, true);
	loop_sock_send(loop_self(), &send.op, client, iovs, 2, false);
	assert_int_equal(finish(&send), STREAM);
	assert_int_equal(finish(&recv), STREAM);
	assert_memory_equal(sent, received, STREAM);
	loop_sock_recv(loop_self(), &end.op, accepted, received, 1, false);
	loop_sock_close(loop_self(), client);
	assert_int_equal(finish(&end), 0);
	loop_sock_close(loop_self(), accepted);
	loop_listener_close(loop_self(), listener);
	sim_loops_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(messages_of_one_sender_keep_their_order),
	        cmocka_unit_test(timers_fire_in_order_and_not_when_stopped),
	        cmocka_unit_test(a_power_cut_keeps_what_was_flushed_and_any_part_of_the_rest),
	        cmocka_unit_test(a_killed_daemon_loses_nothing_that_was_written),
	        cmocka_unit_test(a_length_is_durable_after_a_sync),
	        cmocka_unit_test(a_bad_sector_is_cured_by_writing_it),
	        cmocka_unit_test(a_stream_arrives_whole_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
