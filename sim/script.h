/*
 * script.h: the small stacks and fixed steps whose every crash point is tried.
 */
#pragma once

#include "sim/run.h"

#define SCRIPT_LAYERS_MAX 4
#define SCRIPT_STEPS_MAX 12

enum step_kind {
	STEP_END,
	STEP_WRITE,
	STEP_WRITE_FUA,
	STEP_ZERO,
	STEP_FLUSH,
	STEP_RESIZE, /* from here on on the control loop */
	STEP_CREATE,
	STEP_CREATE_LABEL, /* a layer with metadata */
	STEP_DELETE,
	STEP_OWN, /* the topmost's module's own method */
};

struct step {
	enum step_kind kind;
	uint8_t eighths; /* of the first size */
};

struct script {
	const char *name;
	uint32_t blocks; /* of each backend at first; sizes of steps are in eighths of it */
	/* The backend, then each on the one before; "+name" is one more backend for the next. */
	const char *modules[SCRIPT_LAYERS_MAX];
	struct step steps[SCRIPT_STEPS_MAX];
};

extern const struct script scripts[];
extern const unsigned num_scripts;

uint32_t script_steps(unsigned i);
void script_draw_stack(void);
/* The module that the step under way creates; NULL: any. */
const char *script_creates(uint32_t op);
bool script_is_control(uint32_t op);
void script_start(uint32_t op);
