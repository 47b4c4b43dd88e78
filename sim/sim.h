/*
 * sim.h: running code on simulated loops: for the simulator's own drivers and for unit tests that
 * want every order of events, or a disk that fails.
 *
 * A test does:
 *     sim_world_reset(seed);
 *     loops_start(&(struct loop_config){.data_loops = 2}, &err);
 *     ... start something ...
 *     sim_run_until(is_done, &state, 10 * NSEC_PER_SEC);   // virtual time
 *     sim_loops_end();
 * Code that belongs on a data loop is run there with sim_on_loop. Outside of sim_step and
 * sim_on_loop the calling code is on the control loop.
 */
#pragma once

#include "loop/loop.h"
#include "sim/world.h"

/* One turn of one loop, or a jump of time to the next event. False: nothing can happen any more. */
bool sim_step(void);
/* Steps until cond(arg); false when limit_ns of virtual time have passed or nothing can happen. */
bool sim_run_until(bool (*cond)(void *arg), void *arg, uint64_t limit_ns);
/* Runs fn(arg) at once as code of that loop. */
void sim_on_loop(unsigned id, void (*fn)(void *arg), void *arg);
/* Frees the loops without loops_run: for tests. What is in flight is abandoned. */
void sim_loops_end(void);

/* Somebody outside of the daemon who acts on its loops: the workload. Called in each turn of each
 * loop; next_ns tells when it next wants a turn of that loop (UINT64_MAX: not before something else
 * happens). */
struct sim_client {
	void (*turn)(struct loop *loop);
	uint64_t (*next_ns)(unsigned loop_id);
};
void sim_set_client(const struct sim_client *client);

/* The process gets a signal. */
void sim_signal(int signum);

/* Ends the life as a crash: operations in flight have happened in part; with power_cut, what is
 * unflushed is lost in part. Never returns in a forked life. */
void sim_crash(bool power_cut);
/* The same where sim->crash_at or crash_turn asks for it, with sim->fate. */
void sim_crash_asked(void);

/* A socket from outside is loop_sock_connect on any loop. */

/* ---- between the files of the simulator ------------------------------------------------------ */

enum sim_op_kind {
	OP_OPEN,
	OP_STAT,
	OP_CLOSE,
	OP_READ,
	OP_WRITE,
	OP_SYNC,
	OP_PUNCH,
	OP_ZERO,
	OP_TRUNCATE,
	OP_EXTENT,
	OP_SOCKET,
	OP_KINDS
};

#define SIM_OP_IOVS 16

/* An operation in flight. execute does what it does when its time has come and returns its result.
 */
struct sim_op {
	struct loop_op *op;
	int (*execute)(struct sim_op *op);
	uint64_t due_ns, seq;
	struct loop *loop;
	uint8_t kind;
	bool dsync, cancelled;
	bool lazy_done; /* told of its success when something else happens */
	struct loop_file *file;
	uint64_t offset, len;
	struct iovec *iovs; /* own, or inline_iovs */
	unsigned iovcnt;
	uint32_t flush_seq;
	void *out;
	char *path;
	unsigned flags;
	uint64_t heap_at;
	struct sim_op *next; /* in the pool */
	struct iovec inline_iovs[SIM_OP_IOVS];
};

struct sim_op *sim_op_new(struct loop *loop, struct loop_op *op, enum sim_op_kind kind);
void sim_op_start(struct sim_op *so, uint64_t delay_ns);
/* Makes a started operation due now. */
void sim_op_hurry(struct sim_op *so);
/* It has not been started and has succeeded; told in the loop's next turn that is for something. */
void sim_op_done_lazily(struct sim_op *so);
/* Keeps it until it is hurried. */
void sim_op_park(struct sim_op *so);
/* Copies the array; sets len. */
void sim_op_take_iovs(struct sim_op *so, const struct iovec *iov, unsigned iovcnt);
/* Calls fn for each operation in flight, in order of start. */
void sim_ops_each(void (*fn)(struct sim_op *so));
/* A read or write that a cancel or a crash has caught: some of it has happened. */
void sim_file_op_tear(struct sim_op *so);
bool sim_op_cancel_now(struct sim_op *so);

/* The other side has closed its end. */
bool sim_sock_is_alone(const struct loop_sock *sock);
/* Sockets of one life. */
void sim_sock_cancelled(struct sim_op *so);
void sim_socks_end(void);
