/*
 * spec.c: is this description of a new bdev sound, and a copy of it that lives on.
 */
#include <errno.h>
#include <string.h>

#include "bdev/control.h"

static const char *const *copy_texts(const char *const *texts, size_t count)
{
	char **copy = xcalloc(count + 1, sizeof(char *));

	for (size_t i = 0; i < count; i++) {
		if (texts[i])
			copy[i] = xstrdup(texts[i]);
	}
	return (const char *const *)copy;
}

static void free_texts(const char *const *texts, size_t count)
{
	char **copy = (char **)(uintptr_t)texts;

	if (!copy)
		return;
	for (size_t i = 0; i < count; i++)
		free(copy[i]);
	free(copy);
}

size_t spec_aliases(const struct bdev_spec *spec)
{
	size_t n = 0;

	while (spec->aliases && spec->aliases[n])
		n++;
	return n;
}

struct bdev_spec *spec_copy(const struct bdev_spec *spec)
{
	struct bdev_spec *copy = xcalloc(1, sizeof(*copy));

	*copy = *spec;
	copy->name = spec->name ? xstrdup(spec->name) : NULL;
	copy->aliases = copy_texts(spec->aliases, spec_aliases(spec));
	copy->bases = copy_texts(spec->bases, spec->num_bases);
	copy->method = spec->method ? xstrdup(spec->method) : NULL;
	copy->params = NULL;
	spec_take_params(copy, spec->params);
	return copy;
}

void spec_take_params(struct bdev_spec *spec, const void *params)
{
	void *bytes = NULL;

	if (spec->params_bytes) {
		bytes = xcalloc(1, spec->params_bytes);
		memcpy(bytes, params, spec->params_bytes);
	}
	spec->params = bytes;
}

void spec_free(struct bdev_spec *spec)
{
	void *params = (void *)(uintptr_t)spec->params;

	if (params && spec->free_params)
		spec->free_params(spec->module, params);
	free(params);
	free((char *)(uintptr_t)spec->name);
	free((char *)(uintptr_t)spec->method);
	free_texts(spec->aliases, spec_aliases(spec));
	free_texts(spec->bases, spec->num_bases);
	free(spec);
}

void spec_set_base(struct bdev_spec *spec, unsigned index, const char *name)
{
	char **bases = (char **)(uintptr_t)spec->bases;

	free(bases[index]);
	bases[index] = name ? xstrdup(name) : NULL;
}

void spec_add_base(struct bdev_spec *spec, const char *name)
{
	char **bases = (char **)(uintptr_t)spec->bases;

	bases = xrealloc(bases, (spec->num_bases + 2U) * sizeof(char *));
	bases[spec->num_bases++] = xstrdup(name);
	bases[spec->num_bases] = NULL;
	spec->bases = (const char *const *)bases;
}

static int check_bases(const struct bdev_spec *spec, struct err *err)
{
	const struct bdev_module *module = spec->module;
	unsigned present = 0;

	if (spec->num_bases < module->bases_min || spec->num_bases > module->bases_max)
		return err_set(err, -EINVAL, "%s '%s': %u bases; it takes %u to %u", module->name,
		        spec->name, spec->num_bases, module->bases_min, module->bases_max);
	for (unsigned i = 0; i < spec->num_bases; i++) {
		const char *name = spec->bases[i];

		if (!name)
			continue;
		int rc = name_check("the base's name", name, err);

		if (rc != 0)
			return rc;
		for (unsigned k = 0; k < i; k++) {
			if (spec->bases[k] && strcmp(name, spec->bases[k]) == 0)
				return err_set(err, -EINVAL, "%s '%s': base '%s' is named twice",
				        module->name, spec->name, name);
		}
		present++;
	}
	if (spec->num_bases > 0 && present == 0)
		return err_set(err, -EINVAL, "%s '%s': no base is named", module->name, spec->name);
	return 0;
}

int spec_check(const struct bdev_spec *spec, struct err *err)
{
	char uuid[UUID_STR_LEN];
	int rc;

	BELLOWS_ASSERT(spec->module);
	BELLOWS_ASSERT(spec->params_bytes <= spec->module->priv_bytes);
	rc = name_check("the name", spec->name, err);
	if (rc == 0)
		rc = name_is_free(spec->name, err);
	if (rc == 0 && spec_aliases(spec) >= BDEV_ALIASES_MAX)
		rc = err_set(err, -ENOSPC, "'%s' has more than %d aliases", spec->name,
		        BDEV_ALIASES_MAX - 1);
	for (size_t i = 0; rc == 0 && i < spec_aliases(spec); i++) {
		rc = name_check("the alias", spec->aliases[i], err);
		if (rc == 0)
			rc = name_is_free(spec->aliases[i], err);
		if (rc == 0 && strcmp(spec->aliases[i], spec->name) == 0)
			rc = err_set(
			        err, -EEXIST, "'%s' is both the name and an alias", spec->name);
		for (size_t k = 0; rc == 0 && k < i; k++) {
			if (strcmp(spec->aliases[i], spec->aliases[k]) == 0)
				rc = err_set(err, -EEXIST, "alias '%s' is given twice",
				        spec->aliases[i]);
		}
	}
	if (rc == 0 && !uuid_is_null(spec->uuid)) {
		uuid_unparse_lower(spec->uuid, uuid);
		rc = name_is_free(uuid, err);
	}
	return rc != 0 ? rc : check_bases(spec, err);
}

void spec_make_uuid(const struct bdev_spec *spec, struct bdev *const *bases, uuid_t out)
{
	const struct bdev_module *module = spec->module;
	autofree char *seed = NULL;
	unsigned i = 0;

	if (!uuid_is_null(spec->uuid)) {
		uuid_copy(out, spec->uuid);
		return;
	}
	while (i < spec->num_bases && !bases[i])
		i++;
	if (i == spec->num_bases) {
		uint8_t bytes[16];

		loop_random_bytes(bytes, sizeof(bytes));
		bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40); /* version 4 */
		bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
		memcpy(out, bytes, sizeof(bytes));
		return;
	}
	/* Where one base can carry several, or several bases one, the name tells them apart. */
	if (module->bases_max > 1 || module->shares_base)
		seed = xasprintf("%s/%s", module->name, spec->name);
	else
		seed = xstrdup(module->name);
	uuid_generate_sha1(out, bases[i]->uuid, seed, strlen(seed));
}
