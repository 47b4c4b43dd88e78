/*
 * module.c: which modules are there.
 */
#include <string.h>

#include "bdev/bdev.h"

static struct list modules = LIST_INIT(modules);

/* Constructors call this in an order that the linker chose; the list is in order of name. */
void bdev_module_register(struct bdev_module *module)
{
	struct list *before = &modules;

	BELLOWS_ASSERT(module->name && module->name[0]);
	BELLOWS_ASSERT(module->bases_min <= module->bases_max);
	BELLOWS_ASSERT(module->bases_max <= BDEV_BASES_MAX);
	if (module->bases_max == 0)
		BELLOWS_ASSERT(module->geometry && module->submit);
	if (module->bases_max > 1)
		BELLOWS_ASSERT(module->geometry && module->submit);
	BELLOWS_ASSERT(!module->splits || module->submit);

	for (struct list *node = modules.next; node != &modules; node = node->next) {
		int order = strcmp(list_entry(node, struct bdev_module, link)->name, module->name);

		BELLOWS_ASSERT(order != 0);
		if (order > 0) {
			before = node;
			break;
		}
	}
	list_init(&module->link);
	list_push_back(before, &module->link);
}

struct bdev_module *bdev_module_find(const char *name)
{
	struct bdev_module *module;

	list_for_each (module, &modules, link) {
		if (strcmp(module->name, name) == 0)
			return module;
	}
	return NULL;
}

struct bdev_module *bdev_module_next(const struct bdev_module *after)
{
	const struct list *node = after ? &after->link : &modules;

	return node->next == &modules ? NULL : list_entry(node->next, struct bdev_module, link);
}
