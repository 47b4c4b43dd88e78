/*
 * run.h: one run: a seed, what it draws (stack, operations, faults, crashes), and what must survive
 * the daemon's lives in it.
 *
 * A run is a sequence of operations numbered from 0. What operation i does is drawn from a stream
 * of its own, so that any of them can be left out (run->skip) and the others stay what they are:
 * this is what makes a failure shrink.
 */
#pragma once

#include <jansson.h>

#include "bdev/bdev.h"
#include "sim/model.h"
#include "sim/sim.h"

#define RUN_OPS_MAX 65536
#define RUN_NODES_MAX 12
#define RUN_PARAMS_MAX 2048
#define RUN_CONFIG_MAX 32768

/* What a module promises, and so what the oracle holds it to. */
enum sim_claims {
	SIM_IDENTITY = 1 << 0,  /* same size and same bytes as its only base */
	SIM_NO_DATA = 1 << 1,   /* a read may return anything */
	SIM_VOLATILE = 1 << 2,  /* zeroes after a restart */
	SIM_FAILS = 1 << 3,     /* may fail a request for reasons of its own */
	SIM_REDUNDANT = 1 << 4, /* serves on with its bases' faults; see tolerates */
	SIM_RELAID =
	        1 << 6, /* created again over a base of another size, its data lies elsewhere */
	SIM_WATCHES = 1 << 7,  /* notices when its file changes size from outside */
	SIM_FOUND = 1 << 8,    /* its bdevs come back by examine, and can't be created again */
	SIM_LABELLED = 1 << 5, /* refuses a base with the content of another, and, when it has
	                          several, of an earlier time */
};

/* What setup may choose from. */
struct sim_setup {
	struct rng *rng;
	const char *name; /* of the bdev to create */
	const char *const *bases;
	unsigned num_bases;
	uint64_t num_blocks; /* of the smallest base, or what a backend should have */
	uint32_t block_bytes;
	char file[128]; /* out: path of a file or disk that it needs; the simulator makes it */
	bool file_is_block;
};

/*
 * How the simulator uses a module: registered by constructor from x_sim.c in the module's folder,
 * which is compiled into the simulator alone.
 */
struct sim_module {
	const char *name;   /* of the struct bdev_module */
	const char *method; /* that creates it; NULL: bdev_<name>_create */
	const char *remove; /* NULL: bdev_<name>_delete */
	const char
	        *remove_key; /* parameter of remove that names the base; NULL: "name", the bdev's */
	unsigned claims;     /* enum sim_claims */
	unsigned weight;     /* how often it is chosen, 1..100 */
	unsigned bases_min, bases_max;
	const char *once;     /* boolean parameter that only its first creation has */
	const char *found_if; /* boolean parameter with which it comes back by examine */
	/* Parameters of the create method, drawn at random; NULL: can't stand on these bases. */
	json_t *(*setup)(struct sim_setup *setup);
	/* Redundant: whether all data can still be served while the marked bases (a bit each) have
	 * faults. */
	bool (*tolerates)(const struct bdev *bdev, uint64_t faulty);
	/* What its size must be; left out: not larger than its bases together, or equal to the base
	 * for SIM_IDENTITY. */
	uint64_t (*expected_blocks)(const struct bdev *bdev);
	/* A method of its own for a bdev of it, and its parameters, drawn at random. It may end
	 * with -ENOSPC. */
	json_t *(*operation)(const struct bdev *bdev, struct rng *rng, const char **method);
	/* Makes what its bdevs need beside their bases, in each life, before the first of them. */
	void (*prepare)(void);
	struct sim_module *next;
};
#define SIM_MODULE(module)                                                                         \
	__attribute__((constructor)) static void register_sim_##module(void)                       \
	{                                                                                          \
		sim_module_register(&(module));                                                    \
	}                                                                                          \
	_Static_assert(1, "")
void sim_module_register(struct sim_module *module);
const struct sim_module *sim_module_find(const char *name);
/* In order of name. NULL starts and ends. */
const struct sim_module *sim_module_next(const struct sim_module *after);

/* A bdev (or several, for a module that makes several) that the run has asked for. */
enum node_state {
	NODE_FREE,
	NODE_WANTED,   /* to be created now, and in each life */
	NODE_UP,       /* its creation has been answered, in this life */
	NODE_DELETING, /* may or may not be there */
};

struct run_node {
	enum node_state state;
	uint32_t order; /* of creation */
	char module[32];
	char name[64];
	char bases[4][64];
	unsigned num_bases;
	char file[128];
	char params[RUN_PARAMS_MAX]; /* JSON */
	uint64_t own_blocks;  /* that the last answered resize gave it; 0: as it was created */
	uint64_t next_blocks; /* of a resize in flight; 0: none */
	bool self_found;      /* comes back by examine */
	bool detached;        /* its second base has been taken out */
	/* The size that it shows, and the one that its metadata was last told to say. */
	uint64_t label_shown, label_next;
	uint64_t label_before[4]; /* what it may say beside: writes that a crash may have undone */
	uint64_t label_lives;     /* in which it has been there */
};

/* Groups of things that a run may be told to leave out, to shrink it. */
enum run_without {
	WITHOUT_FAULTS = 1 << 0,
	WITHOUT_CRASHES = 1 << 1,
	WITHOUT_CONTROL = 1 << 2,
	WITHOUT_CHANCE = 1 << 3, /* loops take turns without stalls */
};

enum run_scenario {
	SCENARIO_RANDOM,
	SCENARIO_PLAIN,  /* reads and writes only, no crash: for speed */
	SCENARIO_EMPTY,  /* nothing at all: what the process keeps for good is no leak */
	SCENARIO_SCRIPT, /* the fixed steps of the exhaustive mode */
};

/* What has become of a disk in this life. */
enum run_misplaced {
	MISPLACED_NONE,
	MISPLACED_FOREIGN, /* it has come back with the content of another */
	MISPLACED_STALE,   /* ... of an earlier time */
	MISPLACED_SWAPPED, /* it and another stand in each other's place */
	MISPLACED_KINDS
};

struct run_tally {
	uint64_t runs, lives, bios, turns, events, crashes, restarts, resizes, creates, deletes,
	        faults;
	uint64_t virtual_ns, checks, crash_points, misplaced, by_nbd;
};

/* What makes a run, beside its seed. */
struct run_given {
	enum run_scenario scenario;
	uint32_t ops;
	uint32_t without; /* enum run_without */
	uint32_t plant;
	uint32_t rogue;       /* 1 + an enum sim_fault that no stack survives unnoticed; 0: none */
	uint32_t script;      /* of the exhaustive mode */
	uint64_t crash_at[2]; /* persistence point at which the first two lives end; 0: none */
	uint64_t crash_turn;  /* turn of a loop at which the run's first life ends; 0: none */
	enum sim_fate fate;
	uint8_t skip[RUN_OPS_MAX / 8];
};

struct run {
	struct run_given given;

	/* drawn at the start */
	unsigned data_loops, depth, step_max_blocks;
	bool faulty; /* disks fail in this run */
	bool nbd;    /* some of the requests go through the NBD target */

	uint64_t kept_allocations; /* of an empty life; constant */

	/* survives lives */
	uint32_t seq;
	uint32_t last_model;
	uint32_t next_op;
	uint32_t overflows;
	uint32_t last_node, last_value;
	enum run_misplaced misplaced; /* this life is there to see it refused */
	/* A life has found what a daemon that was killed had not made to the end: until its last
	 * writes are flushed a power cut may take it away again. */
	bool half_made;
	char misplaced_node[64];
	char remembered[128];           /* path of the disk whose earlier content sim->aside has */
	uint64_t remembered_lives;      /* label_lives when it was set aside */
	bool config_valid, from_config; /* saved and still true; this life was made from it */
	char config[RUN_CONFIG_MAX];
	struct {
		char name[64];
		uint64_t blocks;
	} held[RUN_NODES_MAX]; /* when it was saved */
	bool resized;          /* some resize has been begun */
	/* A label is to refuse its next persist; it has. */
	bool refuse_persist, persist_refused;
	uint64_t points_of_life[4]; /* persistence points of the first lives */
	bool life_started;          /* some life has got as far as to serve requests */
	bool clean_end;             /* the last life ended in order */
	struct model models[MODELS_MAX];
	struct run_node nodes[RUN_NODES_MAX];
	struct run_tally tally;
};

extern struct run *run;

static inline bool run_skips(uint32_t op)
{
	return op < RUN_OPS_MAX && (run->given.skip[op / 8] >> (op % 8) & 1);
}

/* One life of the daemon, in this process; ends it. */
_Noreturn void life_run(void);

/* The stream of an operation. */
static inline struct rng run_op_rng(uint32_t op)
{
	return rng_stream(sim->seed ^ 0x6f70657261746521ULL, op);
}

/* One life of the daemon, in this process; ends it. */
_Noreturn void life_run(void);
/* Stops the daemon at once, as a signal does, with all that is under way. */
void life_stop(void);
bool life_is_stopping(void);
/* Nothing is asked of the daemon any more. */
bool life_is_ending(void);
/* Ends this life in order; the next one begins where this one stopped. */
void life_restart(void);

/* ---- top.c, io.c: the workload's requests ------------------------------------------------------
 */

/* Opens every bdev that nobody stands on, and gives it a model. */
void io_rescan(void);
/* Closes the handle when nothing is in flight any more, then calls fn(arg). */
void io_release(struct bdev *bdev, void (*fn)(void *arg), void *arg);
/* Starts the request that the operation draws. False: not now. */
bool io_start(uint32_t op, struct rng rng);
bool io_idle(void);
bool io_can_start(void);
/* Reads all of every bdev: step starts the next read, and is false when there is none. */
void io_verify_start(void);
bool io_verify_step(void);
bool io_verify_left(void);
void io_close_all(void);
bool io_closed(void);
void io_end(void);
void io_check_progress(void);
void io_check_told(void);
/* Whether its client knows its size, which it learns a moment after others can see it. */
bool io_told(const struct bdev *bdev);

/* ---- control.c: operations on the control loop -------------------------------------------------
 */

bool control_start(uint32_t op, struct rng rng);
bool control_can_start(void);
bool control_idle(void);
void control_check_progress(void);
/* Models of bdevs on which something stands go up with it, or go. */
void control_settle_models(void);

/* ---- misplace.c --------------------------------------------------------------------------------
 */

/* Before a life: may leave a disk that isn't the right one. True: that life is there to see it
 * refused, and misplace_undo puts things right after it. */
bool misplace(void);
void misplace_undo(void);
/* In that life: whoever claims to tell the wrong disk has. */
void misplace_check(void);
/* Between two lives a disk may be made larger. */
void grow_meanwhile(void);
/* Keeps the content of a disk for later. */
void misplace_remember(void);
void misplace_reset(void);

/* ---- stack.c, build.c
 * -----------------------------------------------------------------------------------
 */

/* Draws the stack of the run into run->nodes. */
void stack_draw(void);
void stack_draw_plain(void);
/* Adds a node: on the bdev of that name, or a backend when it is NULL. NULL: nothing fits. */
struct run_node *stack_make_node(struct rng *rng, const struct sim_module *module,
        const char *const *bases, unsigned num_bases, uint64_t num_blocks, uint32_t block_bytes);
/* A layer on base, and perhaps on some of the others; a backend when base is NULL. */
struct run_node *stack_draw_node(struct rng *rng, const struct bdev *base,
        const struct bdev *const *others, unsigned num_others);
/* Creates what is wanted, bottom first; then calls done. */
void stack_build(void (*done)(void));
typedef void (*stack_done_fn)(void *arg, bool ok);
/* Creates the backends that have gone, in a life that is under way. */
void stack_build_missing(void (*done)(void));
/* The same by a configuration that was saved. */
void stack_build_from_config(void (*done)(void));
void stack_create_node(struct run_node *node, stack_done_fn done, void *arg);
void stack_delete_node(struct run_node *node, stack_done_fn done, void *arg);
struct run_node *stack_node_of(const struct bdev *bdev);
/* Whether its bdevs come back by themselves (SIM_FOUND). */
bool stack_is_found(const struct run_node *node);
unsigned stack_claims(const struct bdev *bdev);
/* What holds for a bdev by all that it stands on. */
enum model_kept stack_kept(const struct bdev *bdev);
bool stack_fails(const struct bdev *bdev);
bool stack_faulty(const struct bdev *bdev);
bool stack_repeatable(const struct bdev *bdev);
/* It, or something that it stands on, has this claim. */
bool stack_any_claims(const struct bdev *bdev, unsigned claim);
/* It, or what stands on it, is to be given back to a bdev that it was taken from. */
bool stack_reserved(const struct bdev *bdev);
/* Whether any disk of the run has failed so far. */
bool sim_any_fault(void);
bool stack_fresh(const struct bdev *bdev);
struct sim_file *stack_file(const struct bdev *bdev);
/* No bdev is larger than what backs it; quiet: sizes are what they must be. */
void stack_check(bool quiet);
void stack_check_kept_sizes(void);
/* The sizes that are held: when the configuration is saved, and in a life that was made from it. */
void stack_note_held(void);
void stack_check_held(void);
