/*
 * zone_model.h: what a zoned bdev must do, written down once more and as plainly as can be: for
 * tests that compare an implementation with it. Nothing in it knows about loops or requests in
 * flight: each call is one operation that happens as a whole.
 */
#pragma once

#include "bdev/bdev.h"

#define ZONE_MODEL_ZONES_MAX 64

struct zone_model {
	uint64_t zone_blocks, capacity_blocks;
	unsigned num_zones, max_open, max_active;
	struct {
		enum zone_state state;
		uint64_t written; /* blocks, from the start of the zone */
		uint64_t opened;  /* when; that which was first is closed for another */
		unsigned changes; /* writes and resets */
	} zones[ZONE_MODEL_ZONES_MAX];
	uint64_t openings;
};

/* The zone is as a growth brings it, or as it is found at the start. */
void zone_model_set(struct zone_model *m, unsigned zone, enum zone_state state);
/* A write of count blocks at `from` of the zone; append: wherever the write pointer is. Returns the
 * status, and with 0 where it begins in *at. */
int zone_model_write(struct zone_model *m, unsigned zone, bool append, uint64_t from,
        uint64_t count, uint64_t *at);
/* The last blocks are given back by a write that has failed. */
void zone_model_take_back(struct zone_model *m, unsigned zone, uint64_t count);
int zone_model_manage(struct zone_model *m, unsigned zone, enum zone_action action);
/* Whether management of all zones does something to this one. */
bool zone_model_concerned(const struct zone_model *m, unsigned zone, enum zone_action action);
bool zone_model_is_open(const struct zone_model *m, unsigned zone);
bool zone_model_is_active(const struct zone_model *m, unsigned zone);
