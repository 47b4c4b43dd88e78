/*
 * bdevperf_zone.c: loads for zoned bdevs. Each slot has zones of its own, every depth-th of those
 * of its job: it resets one, appends to it until it is full, and goes on to the next.
 */
#include <errno.h>

#include "bench/bdevperf.h"

static uint64_t slot_number(const struct slot *slot)
{
	return (uint64_t)(slot - slot->job->slots);
}

void zone_begin(struct slot *slot)
{
	slot->unit = slot_number(slot);
	slot->zone_left = 0;
}

static void next_zone(struct slot *slot)
{
	slot->unit += options.depth;
	if (slot->unit >= slot->job->positions)
		slot->unit = slot_number(slot);
}

/* zone_append: append until there is no room. zone_reset: append and reset in turn. */
void zone_next(struct slot *slot)
{
	struct job *job = slot->job;

	slot->writing = slot->zone_left >= job->io_blocks;
	job_submit_zone(slot, slot->writing ? BIO_ZONE_APPEND : BIO_ZONE_MGMT,
	        job->first_block + slot->unit * job->target->zone_blocks);
}

/* The capacity of a zone may be less than its size: then an append tells. */
bool zone_done(struct slot *slot, int status)
{
	struct job *job = slot->job;

	if (!slot->writing) {
		slot->zone_left = job->target->zone_blocks;
		return status == 0;
	}
	slot->zone_left = options.workload == LOAD_ZONE_APPEND && status == 0
	                          ? slot->zone_left - job->io_blocks
	                          : 0;
	if (slot->zone_left < job->io_blocks)
		next_zone(slot);
	return status == 0 || status == -ERANGE || status == -ENOSPC;
}
