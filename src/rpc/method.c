/* method.c: the index of methods and of subsystems. */

#include "rpc/method.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "rpc/server.h"

static struct list registered = LIST_INIT(registered);
static struct list registered_subsystems = LIST_INIT(registered_subsystems);

static struct rpc_entry *entries;
static size_t num_entries;
static const struct rpc_subsystem **subsystems;
static size_t num_subsystems;
static enum rpc_state state = RPC_STARTUP;
static bool is_stopping;

void rpc_method_register(struct rpc_method *method)
{
	BELLOWS_ASSERT(!entries);
	BELLOWS_ASSERT(method->name && method->handler);
	BELLOWS_ASSERT(!method->params == !method->params_bytes);
	list_push_back(&registered, &method->link);
}

void rpc_subsystem_register(struct rpc_subsystem *subsystem)
{
	BELLOWS_ASSERT(!subsystems);
	list_push_back(&registered_subsystems, &subsystem->link);
}

enum rpc_state rpc_state(void)
{
	return state;
}

void rpc_state_set(enum rpc_state new_state)
{
	state = new_state;
}

bool rpc_stopping(void)
{
	return is_stopping;
}

void rpc_stopping_set(bool stopping)
{
	is_stopping = stopping;
}

/* ---- methods --------------------------------------------------------------------------------- */

static void add_entry(const struct rpc_method *method, const char *module)
{
	entries = xrealloc(entries, (num_entries + 1) * sizeof(*entries));
	entries[num_entries++] = (struct rpc_entry){.method = method, .module = module};
}

/* A module's own method takes the place of the generated one of that name. */
static bool has_own(const struct bdev_module *module, const char *action)
{
	autofree char *name = xasprintf("bdev_%s_%s", module->name, action);

	for (const struct rpc_method *m = module->methods; m && m->name; m++)
		if (strcmp(m->name, name) == 0)
			return true;
	return module->no_generated_methods;
}

static int compare_entries(const void *a, const void *b)
{
	const struct rpc_entry *ea = a, *eb = b;

	return strcmp(ea->method->name, eb->method->name);
}

static void build_index(void)
{
	struct bdev_module *module = NULL;
	struct rpc_method *method;

	if (entries)
		return;
	list_for_each (method, &registered, link)
		add_entry(method, NULL);
	while ((module = bdev_module_next(module))) {
		for (const struct rpc_method *m = module->methods; m && m->name; m++)
			add_entry(m, module->name);
		if (!has_own(module, "create"))
			add_entry(rpc_generate_create(module), module->name);
		if (!has_own(module, "delete"))
			add_entry(rpc_generate_delete(module), module->name);
	}
	qsort(entries, num_entries, sizeof(*entries), compare_entries);
	for (size_t i = 1; i < num_entries; i++) {
		if (compare_entries(&entries[i - 1], &entries[i]) == 0)
			log_error("rpc", "two methods are called %s", entries[i].method->name);
		BELLOWS_ASSERT(compare_entries(&entries[i - 1], &entries[i]) != 0);
	}
}

static struct rpc_entry *find_entry(const char *name)
{
	const struct rpc_method key_method = {.name = name};
	const struct rpc_entry key = {.method = &key_method};

	build_index();
	return bsearch(&key, entries, num_entries, sizeof(*entries), compare_entries);
}

const struct rpc_entry *rpc_entry_find(const char *name)
{
	return find_entry(name);
}

const struct rpc_entry *rpc_entry_at(size_t i)
{
	build_index();
	return i < num_entries ? &entries[i] : NULL;
}

int rpc_allow_only(const char *names, struct err *err)
{
	autofree char *copy = xstrdup(names);
	char *rest = copy, *name;

	build_index();
	for (size_t i = 0; i < num_entries; i++)
		entries[i].forbidden = true;
	while ((name = strsep(&rest, ","))) {
		struct rpc_entry *entry = find_entry(name);

		if (!entry)
			return err_set(err, -ENOENT, "there is no method '%s' to allow", name);
		entry->forbidden = false;
	}
	return 0;
}

/* ---- subsystems ------------------------------------------------------------------------------ */

static const struct rpc_subsystem *registered_subsystem(const char *name)
{
	const struct rpc_subsystem *subsystem;

	list_for_each (subsystem, &registered_subsystems, link)
		if (!strcmp(subsystem->name, name))
			return subsystem;
	return NULL;
}

static bool is_placed(const struct rpc_subsystem *subsystem)
{
	for (size_t i = 0; i < num_subsystems; i++)
		if (subsystems[i] == subsystem)
			return true;
	return false;
}

/* What it depends on has its place; what is not part of the program does not count. */
static bool can_place(const struct rpc_subsystem *subsystem)
{
	for (const char *const *name = subsystem->depends_on; name && *name; name++) {
		const struct rpc_subsystem *other = registered_subsystem(*name);

		if (other && !is_placed(other))
			return false;
	}
	return true;
}

static void order_subsystems(void)
{
	const struct rpc_subsystem *subsystem, *next;

	if (subsystems)
		return;
	do {
		next = NULL;
		list_for_each (subsystem, &registered_subsystems, link) {
			if (is_placed(subsystem) || !can_place(subsystem))
				continue;
			if (!next || strcmp(subsystem->name, next->name) < 0)
				next = subsystem;
		}
		if (next) {
			subsystems =
			        xrealloc(subsystems, (num_subsystems + 1) * sizeof(const void *));
			subsystems[num_subsystems++] = next;
		}
	} while (next);
}

const struct rpc_subsystem *rpc_subsystem_at(size_t i)
{
	order_subsystems();
	return i < num_subsystems ? subsystems[i] : NULL;
}

const struct rpc_subsystem *rpc_subsystem_find(const char *name)
{
	const struct rpc_subsystem *subsystem;

	for (size_t i = 0; (subsystem = rpc_subsystem_at(i)); i++)
		if (strcmp(subsystem->name, name) == 0)
			return subsystem;
	return NULL;
}
