/*
 * raid_pace.c: when the next window of what an array does in the background may begin.
 */
#include "vbdev/raid/raid.h"

#define LOOK_NS (20 * NSEC_PER_MSEC) /* clients come and go, and limits change */
/* A client that waits for its answer is not seen; so it is taken to be there for so long. */
#define LINGER_NS (100 * NSEC_PER_MSEC)
#define LINGER_WINDOWS 8

uint64_t raid_pace_window_bytes(const struct raid *raid)
{
	return raid_pace_option(raid, RAID_PACE_WINDOW_KB) * KIB(1);
}

/* Takes what loops have noted since the last look. */
static bool clients_about(struct raid *raid, uint64_t now_ns)
{
	struct raid_pace *pace = &raid->pace;
	bool old = now_ns - pace->looked_ns > LINGER_NS; /* who knows when that was noted */

	pace->looked_ns = now_ns;
	for (unsigned i = 0; raid->bdev && i < loops_count(); i++) {
		struct raid_loop *state = raid->bdev->loops[i].state;

		if (!__atomic_load_n(&state->client, __ATOMIC_RELAXED))
			continue;
		__atomic_store_n(&state->client, false, __ATOMIC_RELAXED);
		if (!old)
			pace->client_ns = now_ns;
	}
	return pace->client_ns != 0 &&
	       now_ns - pace->client_ns < max_u64(LINGER_NS, pace->spent_ns * LINGER_WINDOWS);
}

static uint64_t rest_end(const struct raid *raid)
{
	uint64_t share = raid_pace_option(raid, RAID_PACE_SHARE_PERCENT);

	return raid->pace.ended_ns + raid->pace.spent_ns * (100 - share) / share;
}

uint64_t raid_pace_next(struct raid *raid)
{
	const struct raid_pace *pace = &raid->pace;
	uint64_t now_ns = loop_now_ns(loop_self()), due_ns = now_ns;
	uint64_t limit_bytes = raid_pace_option(raid, RAID_PACE_BANDWIDTH_MB) * MIB(1);

	if (limit_bytes && pace->begun_bytes)
		due_ns = pace->begun_ns + pace->begun_bytes * NSEC_PER_SEC / limit_bytes;
	if (raid_pace_option(raid, RAID_PACE_SHARE_PERCENT) < 100 && clients_about(raid, now_ns))
		due_ns = max_u64(due_ns, pace->windows > 0 ? UINT64_MAX : rest_end(raid));
	return due_ns <= now_ns ? 0 : min_u64(due_ns, now_ns + LOOK_NS);
}

void raid_pace_begin(struct raid *raid, uint64_t bytes)
{
	struct raid_pace *pace = &raid->pace;

	pace->begun_ns = loop_now_ns(loop_self());
	pace->begun_bytes = bytes;
	if (pace->windows++ == 0)
		pace->busy_ns = pace->begun_ns;
}

void raid_pace_end(struct raid *raid)
{
	struct raid_pace *pace = &raid->pace;
	uint64_t now_ns = loop_now_ns(loop_self());

	BELLOWS_ASSERT(pace->windows > 0);
	pace->windows--;
	pace->ended_ns = now_ns;
	pace->spent_ns = now_ns - pace->busy_ns;
	/* What was done while nobody was about needs no rest. */
	if (!clients_about(raid, now_ns))
		pace->busy_ns = now_ns;
}
