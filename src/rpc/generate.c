/* generate.c: bdev_<module>_create and bdev_<module>_delete for modules without their own. */

#include <errno.h>
#include <string.h>

#include "rpc/method.h"

/* What params decodes into: the parameters that every bdev has, then the module's own struct. */
struct create_params {
	char *name;
	char *base;
	struct param_strings bases;
	uuid_t uuid;
	_Alignas(16) unsigned char own[];
};

#define COMMON_PARAMS_MAX 3

struct generated {
	struct rpc_method create;
	const struct bdev_module *module;
	size_t own_bytes;
	struct param params[];
};

static const char *base_param_name(const struct bdev_module *module)
{
	if (module->base_param)
		return module->base_param;
	return module->bases_max > 1 ? "base_bdevs" : "base_bdev_name";
}

static size_t param_bytes(enum param_type type)
{
	switch (type) {
	case PARAM_BOOL:
		return sizeof(bool);
	case PARAM_U8:
		return sizeof(uint8_t);
	case PARAM_U32:
	case PARAM_I32:
		return sizeof(uint32_t);
	case PARAM_U64:
		return sizeof(uint64_t);
	case PARAM_UUID:
		return sizeof(uuid_t);
	case PARAM_ENUM:
		return sizeof(int);
	case PARAM_STRINGS:
		return sizeof(struct param_strings);
	case PARAM_U64S:
		return sizeof(struct param_u64s);
	case PARAM_STRING:
	case PARAM_JSON:
		break;
	}
	return sizeof(void *);
}

/* The part of the module's struct that its table fills. */
static size_t table_bytes(const struct param *table)
{
	size_t bytes = 0;

	for (const struct param *p = table; p && p->name; p++) {
		bytes = max_u64(bytes, p->offset + param_bytes(p->type));
		if (p->given)
			bytes = max_u64(bytes, p->given + sizeof(bool));
	}
	return bytes;
}

static size_t table_count(const struct param *table)
{
	size_t count = 0;

	while (table && table[count].name)
		count++;
	return count;
}

/* ---- create ---------------------------------------------------------------------------------- */

struct creation {
	struct rpc_request *request;
	char *name;
};

static void created(void *arg, struct bdev *bdev, const struct err *err)
{
	struct creation *creation = arg;

	(void)bdev; /* NULL while it waits for its base: the name is the answer all the same */
	if (err && err->code)
		rpc_fail_err(creation->request, err);
	else
		rpc_reply(creation->request, json_string(creation->name));
	free(creation->name);
	free(creation);
}

static void release_own(const struct bdev_module *module, void *params)
{
	const struct param *tables[] = {module->params, NULL};

	if (module->params)
		params_release(tables, params);
}

static void create_handler(struct rpc_request *request, void *params)
{
	const struct generated *generated = rpc_request_method(request)->arg;
	const struct bdev_module *module = generated->module;
	struct create_params *p = params;
	bool many = module->bases_max > 1;
	struct bdev_spec spec = {
	        .module = module,
	        .name = p->name,
	        .bases = many ? (const char *const *)p->bases.items : (const char *const *)&p->base,
	        .num_bases = many           ? (unsigned)p->bases.count
	                     : p->base != 0 ? 1U
	                                    : 0U,
	        .params = p->own,
	        .params_bytes = generated->own_bytes,
	        .free_params = release_own,
	        .wait_for_bases = true,
	};
	struct creation *creation;

	if (many && (spec.num_bases < module->bases_min || spec.num_bases > module->bases_max)) {
		rpc_fail(request, -EINVAL, "%s '%s' needs %u to %u bases, not %u", module->name,
		        p->name, module->bases_min, module->bases_max, spec.num_bases);
		return;
	}
	creation = xcalloc(1, sizeof(*creation));
	creation->request = request;
	creation->name = xstrdup(p->name);
	uuid_copy(spec.uuid, p->uuid);
	/* From here on the core owns what the copy points to, so the request must forget it. The
	 * copy is needed since an answer may come, and free params, before bdev_create returns. */
	autofree void *own = xcalloc(1, generated->own_bytes + 1);
	autofree char *base = p->base ? xstrdup(p->base) : NULL;

	memcpy(own, p->own, generated->own_bytes);
	memset(p->own, 0, generated->own_bytes);
	spec.params = own;
	spec.name = creation->name;
	if (!many)
		spec.bases = (const char *const *)&base;
	bdev_create(&spec, created, creation);
}

static struct generated *generate(const struct bdev_module *module)
{
	size_t own = table_count(module->params);
	struct generated *g =
	        xcalloc(1, sizeof(*g) + (COMMON_PARAMS_MAX + own + 1) * sizeof(struct param));
	struct param *p = g->params;

	g->module = module;
	g->own_bytes = table_bytes(module->params);
	*p++ = (struct param){PARAM(struct create_params, name, PARAM_STRING), .required = true,
	        .help = "name of the new bdev"};
	if (module->bases_max > 1)
		*p++ = (struct param){PARAM_NAMED(base_param_name(module), struct create_params,
		                              bases, PARAM_STRINGS),
		        .required = true, .max_items = module->bases_max,
		        .help = "the bdevs that it stands on"};
	else if (module->bases_max == 1)
		*p++ = (struct param){PARAM_NAMED(base_param_name(module), struct create_params,
		                              base, PARAM_STRING),
		        .required = module->bases_min > 0,
		        .help = "the bdev that it stands on; may appear later"};
	*p++ = (struct param){PARAM(struct create_params, uuid, PARAM_UUID),
	        .help = module->bases_max ? "default: derived from the base's UUID"
	                                  : "default: a random one"};
	for (size_t i = 0; i < own; i++) {
		p[i] = module->params[i];
		p[i].offset += offsetof(struct create_params, own);
		if (p[i].given)
			p[i].given += offsetof(struct create_params, own);
	}
	g->create = (struct rpc_method){
	        .name = xasprintf("bdev_%s_create", module->name),
	        .summary = module->summary,
	        .result_help = "name of the bdev",
	        .params = g->params,
	        .params_bytes = sizeof(struct create_params) + g->own_bytes,
	        .decode_error = module->decode_error,
	        .handler = create_handler,
	        .arg = g,
	};
	return g;
}

const struct rpc_method *rpc_generate_create(const struct bdev_module *module)
{
	return &generate(module)->create;
}

/* ---- delete ---------------------------------------------------------------------------------- */

struct delete_params {
	char *name;
};

static const struct param delete_table[] = {
        {PARAM(struct delete_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of the bdev"},
        {0},
};

static void deleted(void *arg, const struct err *err)
{
	rpc_reply_err(arg, err);
}

struct waiting_search {
	const struct bdev_module *module;
	const char *name;
	bool found;
};

static void match_waiting(void *arg, const struct bdev_spec *spec, const char *missing)
{
	struct waiting_search *search = arg;

	(void)missing;
	if (spec->module == search->module && strcmp(spec->name, search->name) == 0)
		search->found = true;
}

static void delete_handler(struct rpc_request *request, void *params)
{
	const struct bdev_module *module = rpc_request_method(request)->arg;
	const char *name = ((struct delete_params *)params)->name;
	struct waiting_search search = {.module = module, .name = name};
	struct bdev *bdev = bdev_find(name);

	if (bdev && bdev->module == module) {
		bdev_remove(bdev, (struct bdev_done){deleted, request});
		return;
	}
	if (bdev) {
		rpc_fail(request, -ENODEV, "'%s' is a %s bdev, not a %s one", name,
		        bdev->module->name, module->name);
		return;
	}
	bdev_for_each_waiting(match_waiting, &search);
	if (search.found && bdev_waiting_cancel(name) == 0)
		rpc_reply(request, NULL);
	else
		rpc_fail(request, -ENODEV, "there is no %s bdev '%s'", module->name, name);
}

const struct rpc_method *rpc_generate_delete(const struct bdev_module *module)
{
	struct rpc_method *method = xcalloc(1, sizeof(*method));

	*method = (struct rpc_method){
	        .name = xasprintf("bdev_%s_delete", module->name),
	        .summary = "Removes such a bdev and what stands on it",
	        .result_help = "true",
	        .params = delete_table,
	        .params_bytes = sizeof(struct delete_params),
	        .decode_error = module->decode_error,
	        .handler = delete_handler,
	        .arg = (void *)(uintptr_t)module,
	};
	return method;
}

/* ---- save ------------------------------------------------------------------------------------ */

json_t *rpc_generated_save(const struct bdev_module *module, const char *method, const char *name,
        const uuid_t uuid, const char *const *bases, unsigned num_bases, const void *own)
{
	const struct param *tables[] = {module->params, NULL};
	autofree char *generated_name = xasprintf("bdev_%s_create", module->name);
	json_t *params = json_object(), *list, *own_params;
	char uuid_text[UUID_STR_LEN];

	json_object_set_new(params, "name", json_string(name));
	if (module->bases_max > 1) {
		list = json_array();
		for (unsigned i = 0; i < num_bases; i++)
			json_array_append_new(list, json_string(bases[i] ? bases[i] : ""));
		json_object_set_new(params, base_param_name(module), list);
	} else if (num_bases) {
		json_object_set_new(params, base_param_name(module), json_string(bases[0]));
	}
	if (!uuid_is_null(uuid)) {
		uuid_unparse_lower(uuid, uuid_text);
		json_object_set_new(params, "uuid", json_string(uuid_text));
	}
	if (module->params) {
		own_params = params_encode(tables, own, true);
		json_object_update(params, own_params);
		json_decref(own_params);
	}
	return json_pack(
	        "[{s:s, s:o}]", "method", method ? method : generated_name, "params", params);
}
