/*
 * bdev.h: the contract between the core, the modules (backends and vbdevs) and the holders (targets
 * and jobs). It is the manual for writing either.
 *
 * Invariants
 *  - The topology (bdevs, who stands on whom, names, claims, sizes) is changed on the control loop
 *    only, by steps of asynchronous state machines; nothing there ever blocks.
 *  - Size is derived, never set. A module states its geometry as a pure function of its bases'
 *    geometry; only the core calls it, also for "what if". A module that leaves it out is the same
 * as its base, so no module can forget a resize.
 *  - A bdev that is online has per-loop state on every loop, the control loop included. Data loops
 * never take a lock; what crosses loops is a message or one published word (release store, acquire
 * load).
 *  - No layer is ever larger than what backs it: growth is published bases first, shrinkage parents
 *    first.
 *  - Nothing is freed while a bio is in flight in it. Removal marks, tells the holders, waits,
 * sweeps.
 *  - rank: 0 for a backend, else higher than the rank of each base; 1 + the highest of the bases
 * that it has or ever had.
 */
#pragma once

#include <jansson.h>
#include <uuid/uuid.h>

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"
#include "bdev/bio.h"
#include "loop/loop.h"

struct bdev;
struct bdev_handle;
struct bdev_module;
struct param;      /* rpc/param.h */
struct rpc_method; /* rpc/rpc.h */

#define BDEV_NAME_MAX 256 /* with the terminating NUL */
#define BDEV_BASES_MAX 256
#define BDEV_RANKS_MAX 64 /* the graph refuses what would have a higher rank */
#define BDEV_WHY_MAX 160
#define BDEV_ALIASES_MAX 64

/* ---- geometry ------------------------------------------------------------------------------ */

struct bdev_geometry {
	uint64_t num_blocks;
	uint32_t block_bytes;          /* power of two, 512..65536 */
	uint32_t physical_block_bytes; /* what the device below can write without read-modify-write
	                                */
	uint32_t caps;                 /* BIO_CAP bits that submit serves natively */
	bool write_cache;              /* completed writes may be volatile until a flush */
	bool rotational;
	bool read_only;
	/* What this bdev's own submit can be given; not taken over from a base, where the core sees
	 * to it for every request that comes down. */
	uint32_t buf_align_bytes;            /* of memory; 1: any. The core bounces */
	uint32_t max_transfer_blocks;        /* 0: any. The core splits */
	uint32_t optimal_io_boundary_blocks; /* 0: none. Advice, shown to clients */
	bool split_on_boundary; /* the core splits at optimal_io_boundary_blocks whatever has a
	                           range; buf_align_bytes is at most a block then */
	uint32_t preferred_write_granularity_blocks, preferred_write_alignment_blocks;
	uint32_t optimal_write_blocks;
	uint32_t preferred_unmap_granularity_blocks, preferred_unmap_alignment_blocks;
	uint64_t zone_blocks; /* of a zone: a power of two. 0: not zoned, see bio.h */
	uint32_t max_open_zones, max_active_zones; /* 0: any number */
	uint32_t optimal_open_zones;               /* advice */
	char why[BDEV_WHY_MAX]; /* why num_blocks is what it is: "limited by Disk2; 400 GiB of Disk0
	                           unused" */
};

struct bdev_geometry_in {
	const struct bdev_geometry *bases; /* planned geometry of each base; .num_blocks 0 and
	                                      .block_bytes 0: missing */
	unsigned num_bases;
	/* What this bdev itself was asked to be: for a backend the size of its storage, present or
	 * planned; for others what the user chose, 0 if nothing. */
	uint64_t own_blocks;
};

/* ---- modules ------------------------------------------------------------------------------- */

/* Ends an asynchronous slot: called exactly once, on the control loop; may be called before the
 * slot returns. err is NULL or err->code is 0 on success. */
typedef void (*bdev_done_fn)(void *arg, const struct err *err);
struct bdev_done {
	bdev_done_fn fn;
	void *arg;
};
static inline void bdev_done_call(struct bdev_done done, const struct err *err)
{
	done.fn(done.arg, err);
}

/* What an example of a bdev is to be made of. */
struct bdev_example {
	unsigned variant; /* from 0 */
	const char *name; /* may be ignored by a module that makes up its names */
	const char *const *bases;
	unsigned num_bases;
	/* For backends: the size, and a scratch file of that size, which the test removes. */
	uint64_t num_blocks;
	uint32_t block_bytes;
	const char *scratch_path;
	/* For those that want keys: files of mode 0600 with one, and with two, of 32 hex digits. */
	const char *key_paths[2];
};

/*
 * One kind of bdev. All slots run on the control loop except submit, which runs on the loop of the
 * bio. Every slot that is left out means "pass through" or "nothing to do".
 */
struct bdev_module {
	const char *name; /* "passthru"; also names its methods bdev_<name>_create and _delete */
	const char *product_name;      /* as in bdev_get_bdevs */
	const char *summary;           /* one line for help and the reference page */
	unsigned bases_min, bases_max; /* 0,0: a backend */
	const char
	        *base_param; /* name of the parameter that names the base; NULL: "base_bdev_name" */
	size_t priv_bytes;   /* private part, zeroed; its head is what params decodes into */
	const struct param *params; /* parameters of its own, beside name, base and uuid; ends with
	                               a zero entry */
	size_t loop_state_bytes;    /* zeroed state per loop, see bdev_loop_state */
	bool splits;                /* uses bio_split_*: a new frame stack begins below */
	bool keeps_zones; /* its submit hands zone operations down as they are; without, no base
	                     of one that has a submit may be zoned */
	bool shares_base; /* several bdevs of this module may stand on one base, each on its
	                     own part of it (split, gpt, volumes); others still may not */
	/* Methods beside the generated ones; one with a generated one's name takes its place. */
	const struct rpc_method *methods;
	bool no_generated_methods; /* no bdev_<name>_create and _delete are made up */

	/* Required with more than one base and for a backend; else the geometry of the base. Pure:
	 * reads priv and in, writes out, which arrives as a copy of the first present base (or
	 * zeroed), without the limits of its submit. */
	int (*geometry)(const struct bdev *bdev, const struct bdev_geometry_in *in,
	        struct bdev_geometry *out, struct err *err);

	/* Left out: forward everything to the base. A module that has a submit is only given the
	 * operations in its geometry's caps; the core emulates or refuses the others. */
	bio_fn submit;

	/* Check parameters, open what is needed, read metadata. For a backend sets its own size
	 * with bdev_set_own_blocks. The bdev is not visible yet; its bases are claimed. On failure
	 * the core calls destroy. */
	void (*create)(struct bdev *bdev, struct bdev_done done);
	/* The bdev is online: geometry known, per-loop state there, not visible to others yet. */
	void (*online)(struct bdev *bdev, struct bdev_done done);
	/* No bio is in flight and none will come. Release everything in priv. Also after a failed
	 * create. */
	void (*destroy)(struct bdev *bdev, struct bdev_done done);

	/* Write and flush what must be on disk before the planned geometry may be published.
	 * Neither this nor resize is called again before the earlier call has been answered,
	 * however late that is. */
	void (*persist)(
	        struct bdev *bdev, const struct bdev_geometry *planned, struct bdev_done done);
	/* Left out: agrees. 0, or an error with the reason why it refuses the planned geometry now.
	 */
	int (*may_resize)(
	        const struct bdev *bdev, const struct bdev_geometry *planned, struct err *err);
	/* The planned geometry has been published; bdev->geometry is the new one. */
	void (*resized)(struct bdev *bdev, uint64_t old_blocks);
	/* A bdev whose size a user may choose (backends; volumes): make the storage own_blocks
	 * long. Left out: not resizable by name. When growing it runs before the new size is
	 * published, when shrinking after. */
	void (*resize)(struct bdev *bdev, uint64_t own_blocks, struct bdev_done done);

	/* A base went away / came back, known by name or UUID. Without base_lost the bdev is
	 * removed too. base_lost lets go of the base: when done is called nothing new is sent to
	 * it; the core then sets bases[base_index] to NULL under quiesce. done with an error
	 * removes this bdev. Before base_returned the core sets bases[base_index]; whether it may
	 * be used is the module's to find out; done with an error takes it out again. Either may
	 * come at any time, but not both at once for one base. */
	void (*base_lost)(struct bdev *bdev, unsigned base_index, struct bdev_done done);
	void (*base_returned)(struct bdev *bdev, unsigned base_index, struct bdev_done done);

	/* A bdev appeared that nobody has claimed: recognise metadata and, if it is yours, create
	 * bdevs on it. Reads through bdev_read_meta. done's error is logged, not reported. */
	void (*examine)(struct bdev *bdev, struct bdev_done done);

	/* Members for driver_specific in bdev_get_bdevs: a new reference, or NULL for {}. */
	json_t *(*describe)(const struct bdev *bdev);
	/* What recreates it, as [{"method":..., "params":{...}}]. Left out: the generated create
	 * method with all parameters. NULL result: nothing (found by examine). */
	json_t *(*save)(const struct bdev *bdev);
	/* The same for options of the module as a whole, written before its bdevs. */
	json_t *(*save_module)(void);
	/* Creations that the module keeps by itself until their base appears, beside those that
	 * bdev_for_each_waiting knows: calls fn for each. For those who look only. */
	void (*for_each_waiting)(
	        void (*fn)(void *arg, const char *name, const char *missing), void *arg);
	/* The core stops and all bdevs are gone: forget what the module keeps beside them. */
	void (*stop)(void);
	/* What a user might call to create such a bdev, as save writes it: for the tests that loop
	 * over all modules. A new reference, or NULL: no further variant. Left out: the generated
	 * create method without parameters of its own. */
	json_t *(*example)(const struct bdev_example *wanted);
	bool keeps_no_data; /* what is written is lost (null): tests compare nothing */

	struct list link; /* the core's */
};

/* At file level: BDEV_MODULE(passthru_module); Registration refuses (abort at start, our own
 * mistake): a module with several bases and no geometry, a backend without geometry or submit, a
 * duplicate name. */
#define BDEV_MODULE(module)                                                                        \
	__attribute__((constructor)) static void register_##module(void)                           \
	{                                                                                          \
		bdev_module_register(&(module));                                                   \
	}                                                                                          \
	_Static_assert(1, "")
void bdev_module_register(struct bdev_module *module);
struct bdev_module *bdev_module_find(const char *name);
/* In order of name, so that nothing depends on link order. NULL starts; NULL ends. */
struct bdev_module *bdev_module_next(const struct bdev_module *after);

/* ---- what a module and a holder may ask of a bdev ------------------------------------------ */

enum bdev_state {
	BDEV_CREATING, /* not visible; its module prepares it */
	BDEV_ONLINE,   /* serves I/O */
	BDEV_REMOVING, /* refuses new I/O; holders are being told; waits for the last bio and holder
	                */
};

/* Hot part per loop; owned by that loop. */
enum bdev_gate {
	GATE_QUIESCED = 1 << 0, /* queue everything */
	GATE_RANGES = 1 << 1,   /* queue what overlaps a locked range */
	GATE_GONE = 1 << 2,     /* fail new bios with -ENODEV */
	GATE_LIMITS = 1 << 3,   /* check alignment, max transfer and boundary */
	GATE_DRAIN = 1 << 4,    /* somebody waits for an in-flight counter */
	GATE_HISTOGRAM = 1 << 5,
	GATE_QOS = 1 << 6, /* keep to the rate limits */
};

struct bdev_op_stats {
	uint64_t ops, blocks, errors;
	uint64_t latency_sum_ns, latency_max_ns, latency_min_ns; /* min: UINT64_MAX when none */
};

struct bdev_loop {
	uint32_t gate;
	uint32_t lacks; /* BIO_CAP bits that submit can't be given: this loop's view of caps */
	uint32_t epoch; /* 0 or 1: the counter that new bios take */
	uint64_t inflight[2];   /* bios that hold a frame of this bdev, by epoch */
	struct bdev_slow *slow; /* queues, locked ranges, drain waiters, histogram; the core's */
	void *state;            /* the module's loop_state_bytes */
	struct bdev_op_stats stats[BIO_OPS];
} cache_aligned;

struct bdev {
	/* read on the data path; written on the control loop before online or under quiesce, except
	 * num_blocks, which is published with release, and caps, which loops have in their lacks */
	bio_fn submit;
	uint32_t caps; /* control loop only */
	uint32_t block_shift;
	struct bdev_loop *loops; /* [loops_count()] */
	struct bdev **bases;     /* [num_bases]; NULL: missing. See bdev_base_add */
	void *priv;
	uint64_t num_blocks; /* bdev_num_blocks */
	unsigned num_bases;

	/* control loop only from here */
	unsigned rank;
	unsigned
	        frames; /* depth of its frame stack: 1 + highest of the bases, 1 above a splitter */
	enum bdev_state state;
	char name[BDEV_NAME_MAX];
	uuid_t uuid;
	const struct bdev_module *module;
	struct bdev_geometry geometry; /* as published */
	uint64_t own_blocks;
	uint64_t held_blocks;     /* policy hold: the size kept; 0: follow */
	struct qos *qos;          /* the core's: rate limits; NULL: none */
	struct bdev_graph *graph; /* the core's: handles, parents, claims, aliases, what waits */
	struct list link;         /* in the list of all, in order of registration */
};

static inline uint64_t bdev_num_blocks(const struct bdev *bdev)
{
	return __atomic_load_n(&bdev->num_blocks, __ATOMIC_ACQUIRE);
}

static inline void *bdev_loop_state(const struct bdev *bdev, const struct loop *loop)
{
	return bdev->loops[loop->id].state;
}

/* Backends, in create or when the storage was found to have another size. */
void bdev_set_own_blocks(struct bdev *bdev, uint64_t own_blocks);

/*
 * Reads or writes metadata of a bdev through a buffer (aligned to 4096) from the control loop;
 * whole blocks. write is followed by a flush, and done is called when it is durable. May be called
 * in examine, create, persist, online. The deadline of the step applies.
 */
void bdev_read_meta(struct bdev *bdev, uint64_t offset_blocks, uint64_t num_blocks, void *buf,
        struct bdev_done done);
void bdev_write_meta(struct bdev *bdev, uint64_t offset_blocks, uint64_t num_blocks,
        const void *buf, struct bdev_done done);

/* ---- graph (control loop) ------------------------------------------------------------------ */

struct bdev_spec {
	const struct bdev_module *module;
	const char *name;
	uuid_t uuid; /* null: made up, see bdev_create */
	const char *const
	        *aliases; /* NULL or NULL-terminated, beside the UUID text, which always is one */
	const char *const *bases; /* names, aliases or UUIDs; NULL: an empty slot */
	unsigned num_bases;
	const void *params; /* copied to the head of priv */
	size_t params_bytes;
	/* NULL: plain bytes. Releases what params points to: after destroy, or when the creation
	 * fails or is cancelled. From the call of bdev_create on it belongs to the core. */
	void (*free_params)(const struct bdev_module *module, void *params);
	uint64_t own_blocks;
	bool wait_for_bases;     /* absent bases: succeed now, create when they appear */
	uint64_t hold_at_blocks; /* policy hold from the start: the most that it is then held at;
	                            0: follow */
	bool without_absent; /* absent bases: create without them (at least one is there); each is
	                        offered by base_returned when it appears */
	const char *method;  /* for save: the create method; NULL: generated name */
};

/*
 * Creates a bdev: checks names (-EEXIST, -EINVAL), finds and claims bases (-ENODEV; -EPERM when one
 * is claimed), checks depth (-ELOOP, -EMLINK), runs create, geometry, online, makes it visible,
 * raises "bdev_register", starts examine, lets waiting creations proceed, then calls done with the
 * bdev (NULL when it waits for its base). A spec without UUID gets one: random for a backend,
 * derived (version 5) from the base's UUID and the module's name for a vbdev, so that it is the
 * same after a restart.
 */
typedef void (*bdev_created_fn)(void *arg, struct bdev *bdev, const struct err *err);
/* The spec is copied. What params points to belongs to the core from here on, also on failure. done
 * may be NULL; it is called later, never from inside. */
void bdev_create(const struct bdev_spec *spec, bdev_created_fn done, void *arg);

/*
 * Removes it and what stands on it, top first: refuse new I/O, tell holders, wait, destroy. Parents
 * whose module has base_lost live on without it; the others go for good, also their creations. done
 * when it is gone. Holders that do not let go within the deadline are named in err (-ETIMEDOUT),
 * and the removal goes on by itself.
 */
void bdev_remove(struct bdev *bdev, struct bdev_done done);
/* The storage is gone (hot removal): the same, but new I/O fails at once, and the creation of a
 * parent that goes too waits for its base again if it had wait_for_bases. Any number of times. */
void bdev_gone(struct bdev *bdev, const char *why);

/*
 * Members that come and go while the bdev lives on. attach puts an unclaimed base into an empty
 * slot
 * (-EEXIST, -EPERM, -ELOOP, -EMLINK when it has too many layers of its own, -ENOSPC when with it
 * the bdev would shrink); the module decides when it uses it. detach runs base_lost, then takes the
 * base out, which is unclaimed afterwards and not offered again; -EOPNOTSUPP for a module without
 * base_lost. bases[index] changes under quiesce, and the size is derived again.
 */
void bdev_base_attach(struct bdev *bdev, unsigned index, struct bdev *base, struct bdev_done done);
void bdev_base_detach(struct bdev *bdev, unsigned index, struct bdev_done done);
/* One base more than at its creation: an unclaimed one in a slot of its own behind the last, or
 * nothing (errors as attach; -ENOSPC: the module takes no more; -EBUSY: another one is coming).
 * bases and num_bases change under quiesce, and done is called before requests go on: there the
 * module changes what its submit reads. Its geometry may be asked before with one base more. */
void bdev_base_add(struct bdev *bdev, struct bdev *base, struct bdev_done done);

/* By name, alias or UUID text. NULL: none that is visible. */
struct bdev *bdev_find(const char *name);
/* In order of registration; NULL starts, NULL ends. Only visible ones. */
struct bdev *bdev_next(const struct bdev *after);
/* Calls fn(arg, bdev) once when a bdev of that name is online, or with NULL after timeout_ms. */
void bdev_wait_for(
        const char *name, uint64_t timeout_ms, void (*fn)(void *arg, struct bdev *bdev), void *arg);
/* Calls done when no examine is running or queued. */
void bdev_wait_for_examine(struct bdev_done done);
/* Creations that still wait for a base: calls fn for each with name, module and missing base. */
void bdev_for_each_waiting(
        void (*fn)(void *arg, const struct bdev_spec *spec, const char *missing), void *arg);
/* Drops a waiting creation; -ENODEV if there is none of that name. */
int bdev_waiting_cancel(const char *name);
/* What it was created from. params is the head of its priv; bases are as they were asked for, or as
 * attach and detach have left them (NULL: an empty slot). */
const struct bdev_spec *bdev_get_spec(const struct bdev *bdev);

int bdev_add_alias(struct bdev *bdev, const char *alias, struct err *err);
int bdev_remove_alias(struct bdev *bdev, const char *alias);
const char *bdev_alias(
        const struct bdev *bdev, unsigned i); /* NULL past the last; 0 is the UUID text */
bool bdev_is_claimed(const struct bdev *bdev);
/* Parents standing on it; NULL past the last. */
struct bdev *bdev_parent(const struct bdev *bdev, unsigned i);

#define BDEV_STEP_TIMEOUT_MS 10000 /* the defaults */
#define BDEV_STAT_INTERVAL_MS 1000

struct bdev_options {
	uint32_t bio_pool_size; /* children per loop and rank */
	bool auto_examine;
	uint32_t step_timeout_ms;  /* deadline of every control step */
	uint32_t stat_interval_ms; /* how often backends look at their storage's size */
	uint32_t saved_values[4];  /* accepted for compatibility and saved: bdev_io_pool_size,
	                              bdev_io_cache_size,  iobuf_small_cache_size,
	                              iobuf_large_cache_size */
};
struct bdev_options *bdev_options(void);
/* bdev_examine: allows the name although auto_examine is off, and examines it if it is there. */
int bdev_examine_by_name(const char *name, struct err *err);
/* The i-th name allowed so, for save; NULL past the last. */
const char *bdev_examine_allowed(unsigned i);

/* Called once on the control loop before anything else / when all bdevs are to be removed, top
 * first. */
void bdev_start(void);
void bdev_stop(struct bdev_done done);

/* ---- holders (targets and jobs) ------------------------------------------------------------ */

enum bdev_told {
	BDEV_TOLD,        /* every connected client has been told */
	BDEV_CANNOT_TELL, /* there are clients, and their protocol has no way to tell them */
	BDEV_NOBODY,      /* no client is connected */
};

struct bdev_tell; /* an answer that the resize waits for */
/* On the control loop, exactly once per resized call; clients: how many were told or can't be. */
void bdev_told(struct bdev_tell *tell, enum bdev_told told, unsigned clients);

struct bdev_holder_ops {
	const char *kind; /* "nbd export" */
	/* A module that holds a bdev for itself (a volume store without volumes): bdevs of this
	 * module may stand on it meanwhile, others and other writers may not. Left out: a target.
	 */
	const struct bdev_module *module;
	/* Required: the bdev has the new size; tell the clients, then bdev_told. */
	void (*resized)(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
	        struct bdev_tell *tell);
	/* Required: stop submitting and close soon. */
	void (*removed)(struct bdev_handle *handle);
	/* Left out: refuses. 0 or an error with the reason. */
	int (*may_shrink)(struct bdev_handle *handle, uint64_t new_blocks, struct err *err);
};

/* holder names it in errors and in the tree: "nbd export 'disk0'". write on a claimed bdev is
 * -EPERM, on a read-only one -EROFS. Control loop; the handle's bio_submit may then be used on
 * every loop. */
int bdev_open(struct bdev *bdev, bool write, const struct bdev_holder_ops *ops, const char *holder,
        void *arg, struct bdev_handle **out, struct err *err) must_check;
/* No bio of this handle may be in flight on any loop. */
void bdev_close(struct bdev_handle *handle);
struct bdev *bdev_handle_bdev(const struct bdev_handle *handle);
void *bdev_handle_arg(const struct bdev_handle *handle);
/* Text of the i-th holder; NULL past the last. */
const char *bdev_holder(const struct bdev *bdev, unsigned i);

/* ---- resize (control loop) ----------------------------------------------------------------- */

enum bdev_policy {
	BDEV_FOLLOW,
	BDEV_HOLD
};
/* hold: keeps its present size when the base grows, and refuses what would shrink it. Takes effect
 * in the queue of resizes, behind those that were asked for before; follow then takes up the base's
 * size. */
int bdev_set_policy(struct bdev *bdev, enum bdev_policy policy, struct err *err);
/* hold at num_blocks, or at the present size if that is less: so a saved configuration finds the
 * size again although the base has grown meanwhile. Giving up blocks is a shrink; when a holder
 * refuses it, the present size is held. -EALREADY when it is held already. */
int bdev_hold_at(struct bdev *bdev, uint64_t num_blocks, struct err *err);
/* The policy that a waiting creation will have: with BDEV_HOLD it appears with num_blocks, or with
 * less if there is no more. -ENODEV if there is none of that name; -EINVAL to hold it at 0. */
int bdev_waiting_set_policy(
        const char *name, enum bdev_policy policy, uint64_t num_blocks, struct err *err);
enum bdev_policy bdev_get_policy(const struct bdev *bdev);

struct resize_layer {
	struct bdev *bdev; /* may be gone by the time a report is read: use name */
	char name[BDEV_NAME_MAX];
	uint64_t old_blocks, new_blocks;
	uint32_t block_bytes;
	bool published;                        /* it shows new_blocks now */
	char why[BDEV_WHY_MAX];                /* of the new size */
	char refused[ERR_TEXT_MAX];            /* empty: nobody refuses */
	unsigned holders_told, holders_untold; /* clients */
};

struct resize_report {
	unsigned num_layers; /* lowest rank first */
	struct resize_layer *layers;
	struct err err; /* why it was refused or stopped */
	uint64_t duration_ns;
};

/* done borrows the report until it returns. On the control loop. */
typedef void (*resize_done_fn)(void *arg, const struct resize_report *report);
/*
 * Changes what the user chose for this bdev. -EINVAL when its size is derived (the error says from
 * whom), -EBUSY when somebody refuses (with the layer, the holder and the bytes). One transaction
 * at a time; others queue. A plan that changes nothing is a success.
 */
void bdev_resize(struct bdev *bdev, uint64_t new_blocks, resize_done_fn done, void *arg);
/* The same plan and questions, no effect. */
void bdev_resize_plan(struct bdev *bdev, uint64_t new_blocks, resize_done_fn done, void *arg);
/*
 * A backend has found its storage to have another size, or a user asked for a rescan. A growth is
 * taken up by the same transaction. A shrinkage is a fact: holders aren't asked, what does not fit
 * is failed by its layer's rule. done may be NULL.
 */
void bdev_storage_changed(struct bdev *bdev, uint64_t own_blocks, resize_done_fn done, void *arg);
/* A module's own configuration changed (a member added, a policy set): derive again from here up.
 */
void bdev_geometry_changed(struct bdev *bdev, resize_done_fn done, void *arg);

/* ---- quiesce (control loop) ---------------------------------------------------------------- */

/* New bios that enter this bdev queue; done when none is in flight. Nests: each needs its
 * unquiesce, after its done. -ENODEV: the bdev is being removed, and is not quiesced. Who quiesces
 * several bdevs takes the upper ones first: what a lower one has queued is in flight above. */
void bdev_quiesce(struct bdev *bdev, struct bdev_done done);
void bdev_unquiesce(struct bdev *bdev);

/*
 * The same for bios that overlap a range. `locked` is called when no bio that entered before is in
 * flight; a range that overlaps one locked earlier waits for its unlock. The core has the struct
 * until bdev_range_unlock returns, which may be called only after `locked` was, without error.
 * New overlapping bios queue; a bio that overlaps an earlier queued one queues behind it, so that
 * overlapping requests that entered on one loop keep their order; others pass. Operations without
 * a range (flush, reset) pass. Bios of the owner are let through with bio_set_range_owner.
 */
struct bdev_range {
	uint64_t offset_blocks, num_blocks;
	struct bdev_done locked;
	struct list link; /* the core's */
	uint64_t priv[4];
};
void bdev_range_lock(struct bdev *bdev, struct bdev_range *range);
void bdev_range_unlock(struct bdev *bdev, struct bdev_range *range);

/* ---- statistics ---------------------------------------------------------------------------- */

/* Sums over loops (per_loop NULL) or one row per loop; read without stopping anything. done on
 * control. */
struct bdev_stats {
	struct bdev_op_stats op[BIO_OPS];
};
void bdev_get_stats(struct bdev *bdev, struct bdev_stats *sum, struct bdev_stats *per_loop,
        struct bdev_done done);
enum bdev_stats_reset {
	BDEV_RESET_NONE,
	BDEV_RESET_ALL,
	BDEV_RESET_MAXMIN,
	BDEV_RESET_ERROR
};
void bdev_reset_stats(struct bdev *bdev, enum bdev_stats_reset mode, struct bdev_done done);

/*
 * Latency histogram: buckets as log-linear, granularity_shift bits per power of two (default 7),
 * from min_ns to max_ns, summed over loops. op BIO_OPS: all operations.
 */
struct bdev_histogram {
	uint32_t granularity_shift;
	uint64_t min_ns, max_ns;
	enum bio_op op;
	unsigned num_buckets;
	uint64_t *buckets;
};
void bdev_histogram_enable(
        struct bdev *bdev, const struct bdev_histogram *config, struct bdev_done done);
void bdev_histogram_disable(struct bdev *bdev, struct bdev_done done);
/* -ENOMEM when it is off (as the reference answers). The caller frees out->buckets. */
void bdev_histogram_get(struct bdev *bdev, struct bdev_histogram *out, struct bdev_done done);

/* ---- events (control loop) ----------------------------------------------------------------- */

struct bdev_event {
	const char *type; /* "bdev_register", "bdev_unregister", "bdev_resize", ... */
	const char *bdev; /* name */
	uint64_t id;      /* counts up from 1 */
	uint64_t wall_ns;
	json_t *detail; /* borrowed; NULL or an object, e.g. {"old_blocks":..,"new_blocks":..} */
};
typedef void (*bdev_event_fn)(void *arg, const struct bdev_event *event);
/* Raises an event; steals detail. */
void bdev_event_raise(const char *type, const char *bdev_name, json_t *detail);
struct bdev_subscription *bdev_subscribe(bdev_event_fn fn, void *arg);
void bdev_unsubscribe(struct bdev_subscription *subscription);
/* Recent ones (the last 1024 are kept), from id on. fn returns false to stop. */
void bdev_events_since(
        uint64_t id, bool (*fn)(void *arg, const struct bdev_event *event), void *arg);

/*
 * Problems for `bellows status`: a sentence and what to do about it. Set again replaces, NULL text
 * clears; key is unique per bdev.
 */
void bdev_set_problem(struct bdev *bdev, const char *key, const char *text, const char *action);
void bdev_for_each_problem(void (*fn)(void *arg, const struct bdev *bdev, const char *key,
                                   const char *text, const char *action),
        void *arg);

#include "bdev/bio_inline.h"
