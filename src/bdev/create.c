/*
 * create.c: how does a bdev come into being? In steps:
 *
 *   check the spec, find and claim the bases     creation_start
 *   the module's create                          called with the bases claimed
 *   geometry, per-loop state, the module's online  created
 *   appear                                       a job, so that no resize is under way
 *
 * Until it appears nobody can see or open it. A failure at any point takes the way of a removal
 * that nobody notices.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "bdev/control.h"

struct creation {
	struct list link;
	struct job job;
	struct bdev *bdev;
	bdev_created_fn done;
	void *arg;
	struct err err;       /* why it fails; the first reason stays */
	struct err cancelled; /* a base went away meanwhile */
	bool rewait;          /* by itself: this waits for it again */
	unsigned tries;       /* how often its size had to follow its bases before it appeared */
	struct bdev_geometry planned;
};

#define CREATION_TRIES_MAX 16

static void creation_end(struct creation *creation, struct bdev *bdev)
{
	list_remove(&creation->link);
	if (creation->done)
		creation->done(creation->arg, bdev, creation->err.code ? &creation->err : NULL);
	free(creation);
	life_poke();
}

static void report(void *arg)
{
	creation_end(arg, NULL);
}

static void failed(void *arg, const struct err *err)
{
	struct creation *creation = arg;

	if (err)
		log_warning("bdev", "%s", err->text);
	creation_end(creation, NULL);
}

static void fail(struct creation *creation, const struct err *err)
{
	struct bdev *bdev = creation->bdev;
	struct removal_cause cause = {
	        .silent = true, .rewait = creation->rewait, .why = "its creation failed"};

	creation->err = *err;
	bdev->graph->creation = NULL;
	removal_start(bdev, &cause);
	removal_wait(bdev, (struct bdev_done){.fn = failed, .arg = creation});
}

static bool stopped(struct creation *creation, const struct err *err)
{
	if (!err && creation->cancelled.code)
		err = &creation->cancelled;
	if (err)
		fail(creation, err);
	return err != NULL;
}

void creation_cancel(struct creation *creation, const struct bdev *base)
{
	if (creation->cancelled.code)
		return;
	if (base)
		creation->rewait =
		        base->graph->removal.hot && creation->bdev->graph->spec->wait_for_bases;
	if (base)
		err_set(&creation->cancelled, -ENODEV,
		        "'%s' can't be created: its base '%s' was removed", creation->bdev->name,
		        base->name);
	else
		err_set(&creation->cancelled, -ECANCELED, "'%s' can't be created: it was cancelled",
		        creation->bdev->name);
}

/* ---- the last step: appear ---- */

static void announce(struct bdev *bdev)
{
	char label[BDEV_LABEL_MAX];
	autofree char *key = xasprintf("create %s", bdev->name);

	for (unsigned i = 0; i < bdev->num_bases; i++) {
		if (bdev->bases[i])
			bdev_set_problem(bdev->bases[i], key, NULL, NULL);
	}
	log_info("bdev", "%s is online: %llu blocks of %u bytes, %s",
	        graph_label(bdev, label, sizeof(label)),
	        (unsigned long long)bdev->geometry.num_blocks, bdev->geometry.block_bytes,
	        bdev->geometry.why);
	bdev_event_raise("bdev_register", bdev->name, NULL);
	wait_for_appeared(bdev);
	base_appeared(bdev);
	waiting_bdev_appeared(bdev);
	examine_bdev(bdev);
}

static void appear(struct creation *creation)
{
	struct bdev *bdev = creation->bdev;

	bdev->graph->creation = NULL;
	bdev->state = BDEV_ONLINE;
	list_push_back(&bdevs.all, &bdev->link);
	announce(bdev);
	job_done(&creation->job);
	creation_end(creation, bdev);
}

/* It follows its bases until it appears. Held from the start, it appears with the size it keeps. */
static int derive(struct bdev *bdev, struct bdev_geometry *out, struct err *err)
{
	uint64_t hold_at = bdev->graph->spec->hold_at_blocks;
	int rc;

	bdev->held_blocks = 0;
	rc = geometry_now(bdev, bdev->own_blocks, out, err);
	if (rc != 0 || hold_at == 0)
		return rc;
	bdev->graph->hold_wanted = true;
	bdev->graph->hold_at_blocks = hold_at;
	bdev->held_blocks = min_u64(hold_at, out->num_blocks);
	return geometry_now(bdev, bdev->own_blocks, out, err);
}

static void settle(struct job *job);

static void settled(void *arg, const struct err *err)
{
	struct creation *creation = arg;

	if (err && creation->cancelled.code == 0)
		creation->cancelled = *err;
	settle(&creation->job);
}

static void persisted(void *arg, const struct err *err)
{
	struct creation *creation = arg;
	struct bdev *bdev = creation->bdev;

	if (err) {
		job_done(&creation->job);
		fail(creation, err);
		return;
	}
	bdev->geometry = creation->planned;
	bdev_publish_geometry(
	        bdev, &bdev->geometry, step_begin(bdev, "showing its size", settled, creation));
}

/* A job. Its bases may have changed size since its geometry was derived: follow, then appear. */
static void settle(struct job *job)
{
	struct creation *creation = container_of(job, struct creation, job);
	struct bdev *bdev = creation->bdev;
	struct bdev_done done;
	struct err err = creation->cancelled;

	if (err.code == 0 && derive(bdev, &creation->planned, &err) == 0 &&
	        ++creation->tries > CREATION_TRIES_MAX)
		err_set(&err, -EAGAIN, "'%s' can't be created: its size does not come to rest",
		        bdev->name);
	if (err.code != 0) {
		job_done(job);
		fail(creation, &err);
		return;
	}
	if (geometry_equal(&creation->planned, &bdev->geometry)) {
		appear(creation);
		return;
	}
	done = step_begin(bdev, CALL_PERSIST, persisted, creation);
	if (bdev->module->persist)
		bdev->module->persist(bdev, step_keep_geometry(done, &creation->planned), done);
	else
		bdev_done_call(done, NULL);
}

static void online(void *arg, const struct err *err)
{
	struct creation *creation = arg;

	if (stopped(creation, err))
		return;
	creation->job.run = settle;
	job_queue(&creation->job);
}

static void created(void *arg, const struct err *err)
{
	struct creation *creation = arg;
	struct bdev *bdev = creation->bdev;
	struct err reason = ERR_NONE;

	if (stopped(creation, err))
		return;
	if (derive(bdev, &bdev->geometry, &reason) != 0) {
		bdev->geometry.block_bytes = 0;
		fail(creation, &reason);
		return;
	}
	bdev->submit = bdev->module->submit ? bdev->module->submit : bdev_pass_submit;
	bdev->caps = bdev->geometry.caps;
	bdev->block_shift = (uint32_t)__builtin_ctz(bdev->geometry.block_bytes);
	__atomic_store_n(&bdev->num_blocks, bdev->geometry.num_blocks, __ATOMIC_RELEASE);
	bdev_loops_create(bdev);
	bdev->graph->made = true;
	struct bdev_done done = step_begin(bdev, "going online", online, creation);

	if (bdev->module->online)
		bdev->module->online(bdev, done);
	else
		bdev_done_call(done, NULL);
}

/* ---- the first step ---- */

static void name_it(struct bdev *bdev, const struct bdev_spec *spec)
{
	struct bdev_graph *g = bdev->graph;
	char uuid[UUID_STR_LEN];
	size_t extra = spec_aliases(spec);

	str_copy(bdev->name, sizeof(bdev->name), spec->name);
	g->name = name_add(bdev, spec->name);
	g->aliases = xcalloc(1 + extra, sizeof(*g->aliases));
	uuid_unparse_lower(bdev->uuid, uuid);
	g->aliases[g->num_aliases++] = name_add(bdev, uuid);
	for (size_t i = 0; i < extra; i++)
		g->aliases[g->num_aliases++] = name_add(bdev, spec->aliases[i]);
}

static struct bdev *make(struct bdev_spec *spec, struct bdev *const *bases)
{
	struct bdev *bdev = xcalloc(1, sizeof(*bdev));
	struct bdev_graph *g = xcalloc(1, sizeof(*g));
	static uint64_t sequence;

	bdev->graph = g;
	bdev->module = spec->module;
	bdev->state = BDEV_CREATING;
	bdev->own_blocks = spec->own_blocks;
	bdev->num_bases = spec->num_bases;
	bdev->bases = xcalloc(spec->num_bases + 1U, sizeof(struct bdev *));
	bdev->priv = xcalloc(1, spec->module->priv_bytes + 1);
	list_init(&bdev->link);
	g->bdev = bdev;
	g->spec = spec;
	g->sequence = ++sequence;
	g->slots = xcalloc(spec->num_bases + 1U, sizeof(struct base_slot *));
	g->meta = (struct bdev_handle){.bdev = bdev, .write = true};
	list_init(&g->handles);
	list_init(&g->parents);
	list_init(&g->problems);
	list_init(&g->meta.link);
	list_init(&g->removal.waiters);
	for (unsigned i = 0; i < spec->num_bases; i++) {
		struct base_slot *slot = base_slot_new(bdev, i);

		g->slots[i] = slot;
		if (spec->bases[i] && !bases[i])
			str_copy(slot->name, sizeof(slot->name), spec->bases[i]);
		if (bases[i])
			graph_claim(slot, bases[i]);
		bdev->bases[i] = bases[i];
	}
	if (spec->params_bytes) {
		memcpy(bdev->priv, spec->params, spec->params_bytes);
		free((void *)(uintptr_t)spec->params);
		spec->params = bdev->priv;
	}
	bdevs.alive++;
	return bdev;
}

/* Finds the bases of a spec. *absent: the first that is not there. */
static int find_bases(const struct bdev_spec *spec, const struct waiting *waiting,
        struct bdev **bases, const char **absent, struct err *err)
{
	unsigned present = 0;

	*absent = NULL;
	for (unsigned i = 0; i < spec->num_bases; i++) {
		if (!spec->bases[i])
			continue;
		bases[i] = bdev_find(spec->bases[i]);
		if (!bases[i]) {
			*absent = *absent ? *absent : spec->bases[i];
			continue;
		}
		present++;
		for (unsigned k = 0; k < i; k++) {
			if (bases[k] == bases[i])
				return err_set(err, -EINVAL,
				        "%s '%s': '%s' and '%s' are the same base",
				        spec->module->name, spec->name, spec->bases[k],
				        spec->bases[i]);
		}
		int rc = graph_may_claim(bases[i], spec->module, waiting, err);

		if (rc != 0)
			return rc;
	}
	if (*absent && spec->without_absent && present > 0)
		*absent = NULL;
	return 0;
}

static int prepare(struct creation *creation, struct bdev_spec *spec, const struct waiting *waiting,
        struct bdev **bases, bool *waits, struct err *err)
{
	const char *absent = NULL;
	char uuid_text[UUID_STR_LEN];
	uuid_t uuid;
	int rc;

	*waits = false;
	if (bdevs.stopping || !bdevs.started)
		return err_set(err, -ECANCELED, "'%s' can't be created: the server is %s",
		        spec->name, bdevs.stopping ? "stopping" : "not running");
	rc = spec_check(spec, err);
	if (rc == 0)
		rc = find_bases(spec, waiting, bases, &absent, err);
	if (rc != 0)
		return rc;
	if (absent && spec->wait_for_bases) {
		*waits = true;
		return 0;
	}
	if (absent)
		return err_set(err, -ENODEV, "%s '%s': there is no base '%s'", spec->module->name,
		        spec->name, absent);
	spec_make_uuid(spec, bases, uuid);
	uuid_unparse_lower(uuid, uuid_text);
	rc = name_is_free(uuid_text, err);
	if (rc != 0)
		return rc;
	creation->bdev = make(spec, bases);
	uuid_copy(creation->bdev->uuid, uuid);
	name_it(creation->bdev, spec);
	return 0;
}

void creation_start(
        struct bdev_spec *spec, struct waiting *waiting, bdev_created_fn done, void *arg)
{
	struct creation *creation = xcalloc(1, sizeof(*creation));
	autofree struct bdev **bases = xcalloc(spec->num_bases + 1U, sizeof(struct bdev *));
	struct bdev *bdev;
	bool waits;
	struct err err = ERR_NONE;

	creation->done = done;
	creation->arg = arg;
	list_init(&creation->link);
	list_push_back(&bdevs.creations, &creation->link);
	if (prepare(creation, spec, waiting, bases, &waits, &creation->err) != 0 || waits) {
		if (waits)
			waiting_add(spec);
		else
			spec_free(spec);
		run_later(report, creation);
		return;
	}
	bdev = creation->bdev;
	bdev->graph->creation = creation;
	if (graph_depth(bdev, &bdev->rank, &bdev->frames, &err) != 0) {
		fail(creation, &err);
		return;
	}
	bdev->graph->prepared = true;
	struct bdev_done step = step_begin(bdev, "creation", created, creation);

	if (bdev->module->create)
		bdev->module->create(bdev, step);
	else
		bdev_done_call(step, NULL);
}

void bdev_create(const struct bdev_spec *spec, bdev_created_fn done, void *arg)
{
	BELLOWS_ASSERT(loop_is_control());
	creation_start(spec_copy(spec), NULL, done, arg);
}

void creations_cancel_all(void)
{
	struct creation *creation;

	list_for_each (creation, &bdevs.creations, link) {
		if (creation->bdev)
			creation_cancel(creation, NULL);
	}
}
