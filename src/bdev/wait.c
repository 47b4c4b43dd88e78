/*
 * wait.c: who waits for a bdev that is not there yet: creations for their bases, and callers for a
 * name.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "bdev/control.h"

/* ---- creations ---- */

struct waiting {
	struct list link;
	struct bdev_spec *spec;
};

static struct list waiting_list = LIST_INIT(waiting_list);

const char *waiting_name(const struct waiting *waiting)
{
	return waiting->spec->name;
}

const struct bdev_module *waiting_module(const struct waiting *waiting)
{
	return waiting->spec->module;
}

int waiting_name_is_free(const char *name, struct err *err)
{
	const struct waiting *waiting;

	list_for_each (waiting, &waiting_list, link) {
		if (strcmp(waiting->spec->name, name) == 0)
			return err_set(err, -EEXIST,
			        "the name '%s' is taken by a %s that waits for its base", name,
			        waiting->spec->module->name);
	}
	return 0;
}

/* The base to wait for, or NULL when the creation can go ahead. */
static const char *first_absent(const struct bdev_spec *spec)
{
	const char *absent = NULL;
	unsigned present = 0;

	for (unsigned i = 0; i < spec->num_bases; i++) {
		if (!spec->bases[i])
			continue;
		if (bdev_find(spec->bases[i]))
			present++;
		else if (!absent)
			absent = spec->bases[i];
	}
	return spec->without_absent && present ? NULL : absent;
}

static const char *first_present(const struct bdev_spec *spec)
{
	for (unsigned i = 0; i < spec->num_bases; i++) {
		if (spec->bases[i] && bdev_find(spec->bases[i]))
			return spec->bases[i];
	}
	return "";
}

static bool wants(const struct waiting *waiting, const struct bdev *bdev)
{
	const struct bdev_spec *spec = waiting->spec;

	for (unsigned i = 0; i < spec->num_bases; i++) {
		if (spec->bases[i] && bdev_find(spec->bases[i]) == bdev)
			return true;
	}
	return false;
}

/* So that nobody else takes it while the other bases are awaited. */
static void reserve(struct waiting *waiting, struct bdev *base)
{
	struct err err = ERR_NONE;

	if (!base->graph->reserved &&
	        graph_may_claim(base, waiting->spec->module, waiting, &err) == 0)
		base->graph->reserved = waiting;
}

static void unreserve(const struct waiting *waiting)
{
	struct bdev *bdev;

	list_for_each (bdev, &bdevs.all, link) {
		if (bdev->graph->reserved == waiting)
			bdev->graph->reserved = NULL;
	}
}

/* What a started creation needs to know when it is over. */
struct attempt {
	char base[BDEV_NAME_MAX], name[BDEV_NAME_MAX];
};

static void attempted(void *arg, struct bdev *bdev, const struct err *err)
{
	struct attempt *attempt = arg;
	struct bdev *base = bdev_find(attempt->base);

	(void)bdev;
	if (err && waiting_name_is_free(attempt->name, NULL) == 0) {
		autofree char *key = xasprintf("create %s", attempt->name);

		log_error("bdev", "'%s' waited for '%s' and can't be created: %s", attempt->name,
		        attempt->base, err->text);
		bdev_event_raise("bdev_create_failed", attempt->name,
		        json_pack("{s:s, s:o}", "base", attempt->base, "error",
		                event_text(err->text)));
		if (base)
			bdev_set_problem(base, key, err->text, "create it again");
	}
	free(attempt);
	examine_unhold();
}

/* All bases are there. The waiting creation ends; what it has reserved it now claims. */
static void proceed(struct waiting *waiting, const char *base)
{
	struct attempt *attempt = xcalloc(1, sizeof(*attempt));
	struct bdev_spec *spec = waiting->spec;

	str_copy(attempt->name, sizeof(attempt->name), spec->name);
	str_copy(attempt->base, sizeof(attempt->base), base);
	list_remove(&waiting->link);
	examine_hold();
	creation_start(spec, waiting, attempted, attempt);
	unreserve(waiting);
	free(waiting);
}

void waiting_add(struct bdev_spec *spec)
{
	struct waiting *waiting = xcalloc(1, sizeof(*waiting));

	waiting->spec = spec;
	list_init(&waiting->link);
	list_push_back(&waiting_list, &waiting->link);
	if (!first_absent(spec)) {
		proceed(waiting, first_present(spec));
		return;
	}
	log_info("bdev", "%s '%s' waits for base '%s'", spec->module->name, spec->name,
	        first_absent(spec));
	for (unsigned i = 0; i < spec->num_bases; i++) {
		struct bdev *base = spec->bases[i] ? bdev_find(spec->bases[i]) : NULL;

		if (base)
			reserve(waiting, base);
	}
}

static struct waiting *ready_for(const struct bdev *bdev)
{
	struct waiting *waiting;

	list_for_each (waiting, &waiting_list, link) {
		if (wants(waiting, bdev) && !first_absent(waiting->spec))
			return waiting;
	}
	return NULL;
}

void waiting_bdev_appeared(struct bdev *bdev)
{
	struct waiting *waiting;

	while ((waiting = ready_for(bdev)) != NULL)
		proceed(waiting, bdev->name);
	list_for_each (waiting, &waiting_list, link) {
		if (wants(waiting, bdev))
			reserve(waiting, bdev);
	}
}

void waiting_bdev_going(struct bdev *bdev)
{
	bdev->graph->reserved = NULL;
}

static void drop(struct waiting *waiting)
{
	unreserve(waiting);
	list_remove(&waiting->link);
	spec_free(waiting->spec);
	free(waiting);
}

void waiting_drop_all(void)
{
	while (!list_empty(&waiting_list))
		drop(list_first(&waiting_list, struct waiting, link));
}

int bdev_waiting_cancel(const char *name)
{
	struct waiting *waiting;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (waiting, &waiting_list, link) {
		if (strcmp(waiting->spec->name, name) == 0) {
			drop(waiting);
			return 0;
		}
	}
	return -ENODEV;
}

int bdev_waiting_set_policy(
        const char *name, enum bdev_policy policy, uint64_t num_blocks, struct err *err)
{
	struct waiting *waiting;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (waiting, &waiting_list, link) {
		if (strcmp(waiting->spec->name, name) != 0)
			continue;
		if (policy == BDEV_HOLD && num_blocks == 0)
			return err_set(err, -EINVAL,
			        "'%s' waits for its base and has no size to hold yet; give "
			        "num_blocks",
			        name);
		waiting->spec->hold_at_blocks = policy == BDEV_HOLD ? num_blocks : 0;
		return 0;
	}
	return err_set(err, -ENODEV, "there is no bdev '%s'", name);
}

void bdev_for_each_waiting(
        void (*fn)(void *arg, const struct bdev_spec *spec, const char *missing), void *arg)
{
	const struct waiting *waiting;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (waiting, &waiting_list, link) {
		const char *absent = first_absent(waiting->spec);

		fn(arg, waiting->spec, absent ? absent : "");
	}
}

/* ---- callers ---- */

struct wait_for {
	struct list link;
	struct loop_timer timer;
	char *name;
	void (*fn)(void *arg, struct bdev *bdev);
	void *arg;
};

static struct list callers = LIST_INIT(callers);

static void answer(void *arg)
{
	struct wait_for *wait = arg;

	wait->fn(wait->arg, bdev_find(wait->name));
	free(wait->name);
	free(wait);
}

static void answer_soon(struct wait_for *wait)
{
	loop_timer_stop(loop_self(), &wait->timer);
	list_remove(&wait->link);
	run_later(answer, wait);
}

static void too_late(struct loop_timer *timer)
{
	answer_soon(container_of(timer, struct wait_for, timer));
}

void bdev_wait_for(
        const char *name, uint64_t timeout_ms, void (*fn)(void *arg, struct bdev *bdev), void *arg)
{
	struct wait_for *wait = xcalloc(1, sizeof(*wait));
	struct loop *loop = loop_self();

	BELLOWS_ASSERT(loop_is_control());
	wait->name = xstrdup(name);
	wait->fn = fn;
	wait->arg = arg;
	wait->timer.fire = too_late;
	list_init(&wait->link);
	list_push_back(&callers, &wait->link);
	if (bdev_find(name) || timeout_ms == 0 || bdevs.stopping)
		answer_soon(wait);
	else
		loop_timer_start(loop, &wait->timer,
		        loop_now_ns(loop) + min_u64(timeout_ms, UINT32_MAX) * NSEC_PER_MSEC);
}

void wait_for_appeared(struct bdev *bdev)
{
	struct wait_for *wait, *next;

	list_for_each_safe (wait, next, &callers, link) {
		if (bdev_find(wait->name) == bdev)
			answer_soon(wait);
	}
}

void wait_for_drop_all(void)
{
	while (!list_empty(&callers))
		answer_soon(list_first(&callers, struct wait_for, link));
}
