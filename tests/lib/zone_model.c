#include "tests/lib/zone_model.h"

#include <errno.h>

bool zone_model_is_open(const struct zone_model *m, unsigned zone)
{
	enum zone_state s = m->zones[zone].state;

	return s == ZONE_IMPLICIT_OPEN || s == ZONE_EXPLICIT_OPEN;
}

bool zone_model_is_active(const struct zone_model *m, unsigned zone)
{
	return zone_model_is_open(m, zone) || m->zones[zone].state == ZONE_CLOSED;
}

static unsigned count(const struct zone_model *m, bool (*is)(const struct zone_model *, unsigned))
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->num_zones; i++)
		n += is(m, i);
	return n;
}

void zone_model_set(struct zone_model *m, unsigned zone, enum zone_state state)
{
	m->zones[zone].state = state;
	m->zones[zone].written = state == ZONE_FULL ? m->capacity_blocks : 0;
}

/* Takes what an open zone takes. */
static int take_resources(struct zone_model *m, unsigned zone)
{
	int oldest = -1;

	if (zone_model_is_open(m, zone))
		return 0;
	if (m->max_active && !zone_model_is_active(m, zone) &&
	        count(m, zone_model_is_active) >= m->max_active)
		return -EOVERFLOW;
	if (m->max_open && count(m, zone_model_is_open) >= m->max_open) {
		for (unsigned i = 0; i < m->num_zones; i++) {
			if (m->zones[i].state == ZONE_IMPLICIT_OPEN &&
			        (oldest < 0 || m->zones[i].opened < m->zones[oldest].opened))
				oldest = (int)i;
		}
		if (oldest < 0)
			return -ETOOMANYREFS;
		m->zones[oldest].state = ZONE_CLOSED;
	}
	m->zones[zone].opened = ++m->openings;
	return 0;
}

int zone_model_write(struct zone_model *m, unsigned zone, bool append, uint64_t from,
        uint64_t count_blocks, uint64_t *at)
{
	uint64_t begin = append ? m->zones[zone].written : from;
	int status;

	if (m->zones[zone].state == ZONE_FULL)
		return -ENOSPC;
	if (m->zones[zone].state == ZONE_READ_ONLY)
		return -EROFS;
	if (m->zones[zone].state == ZONE_OFFLINE)
		return -EIO;
	if (begin + count_blocks > m->capacity_blocks)
		return -ERANGE;
	if (begin != m->zones[zone].written)
		return -EINVAL;
	status = take_resources(m, zone);
	if (status != 0)
		return status;
	if (!zone_model_is_open(m, zone))
		m->zones[zone].state = ZONE_IMPLICIT_OPEN;
	m->zones[zone].written += count_blocks;
	m->zones[zone].changes++;
	if (m->zones[zone].written == m->capacity_blocks)
		m->zones[zone].state = ZONE_FULL;
	*at = begin;
	return 0;
}

void zone_model_take_back(struct zone_model *m, unsigned zone, uint64_t count_blocks)
{
	m->zones[zone].written -= count_blocks;
}

bool zone_model_concerned(const struct zone_model *m, unsigned zone, enum zone_action action)
{
	enum zone_state s = m->zones[zone].state;

	switch (action) {
	case ZONE_OPEN:
		return s == ZONE_CLOSED;
	case ZONE_CLOSE:
		return zone_model_is_open(m, zone);
	case ZONE_FINISH:
		return zone_model_is_active(m, zone);
	case ZONE_RESET:
		return zone_model_is_active(m, zone) || s == ZONE_FULL;
	case ZONE_RETIRE:
		return s == ZONE_READ_ONLY;
	case ZONE_PROTECT:
		return s != ZONE_READ_ONLY && s != ZONE_OFFLINE;
	case ZONE_ACTIONS:
		break;
	}
	return false;
}

int zone_model_manage(struct zone_model *m, unsigned zone, enum zone_action action)
{
	enum zone_state s = m->zones[zone].state, to = s;
	bool usable = s != ZONE_READ_ONLY && s != ZONE_OFFLINE, allowed = false;
	int status;

	switch (action) {
	case ZONE_OPEN:
		allowed = usable && s != ZONE_FULL;
		to = ZONE_EXPLICIT_OPEN;
		status = allowed ? take_resources(m, zone) : 0;
		if (status != 0)
			return status;
		break;
	case ZONE_CLOSE:
		allowed = zone_model_is_active(m, zone);
		to = ZONE_CLOSED;
		break;
	case ZONE_FINISH:
		allowed = usable;
		to = ZONE_FULL;
		break;
	case ZONE_RESET:
		allowed = usable;
		to = ZONE_EMPTY;
		break;
	case ZONE_RETIRE:
		allowed = !usable;
		to = ZONE_OFFLINE;
		break;
	case ZONE_PROTECT:
		allowed = s != ZONE_OFFLINE;
		to = ZONE_READ_ONLY;
		break;
	case ZONE_ACTIONS:
		break;
	}
	if (!allowed)
		return -EINVAL;
	m->zones[zone].state = to;
	if (action == ZONE_RESET) {
		m->zones[zone].written = 0;
		m->zones[zone].changes++;
	}
	return 0;
}
