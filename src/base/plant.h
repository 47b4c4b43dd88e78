/*
 * plant.h: defects on purpose, by which the simulator shows that it would find real ones.
 *
 *     if (PLANT(FLUSH_SWALLOWED))
 *             return bio_complete(bio, 0);
 *
 * In check builds (BELLOWS_CHECK=1) a planted line is live when the simulator has switched this one
 * defect on; in all others PLANT is the constant 0 and the line is gone. Each must be found by
 * `bellows-sim --planted`. A defect is one condition of one existing line, never code of its own
 * that could be wrong in another way.
 */
#pragma once

#define PLANTS(X) X(NONE, "nothing")

enum plant {
#define X(name, text) PLANT_##name,
	PLANTS(X)
#undef X
	PLANT_COUNT
};

#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
extern unsigned bellows_plant; /* enum plant; set before the loops start */
#define PLANT(name) __builtin_expect(bellows_plant == PLANT_##name, 0)
#else
#define PLANT(name) 0
#endif
