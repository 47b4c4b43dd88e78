#include "tests/lib/zone_blocks.h"

#include <string.h>

static struct zone_block *block_at(struct zone_blocks *b, uint64_t block)
{
	BELLOWS_ASSERT(block < ZONE_BLOCKS_MAX);
	return &b->at[block];
}

void zone_blocks_init(struct zone_blocks *b)
{
	memset(b, 0, sizeof(*b));
	b->clock = 1;
	for (unsigned i = 0; i < ZONE_BLOCKS_MAX; i++)
		b->at[i].count = 1; /* zeroes */
}

void zone_blocks_fill(uint8_t *data, uint32_t value)
{
	uint64_t word = value * 0x100000001ULL;

	for (unsigned i = 0; i < ZONE_BLOCK_BYTES / 8; i++)
		memcpy(data + i * 8, &word, 8);
}

static bool holds(const uint8_t *data, uint32_t value)
{
	uint8_t wanted[ZONE_BLOCK_BYTES];

	zone_blocks_fill(wanted, value);
	return memcmp(data, wanted, sizeof(wanted)) == 0;
}

void zone_blocks_begin(struct zone_blocks *b, uint64_t block, uint32_t value)
{
	struct zone_block *at = block_at(b, block);

	at->value = value;
	at->unsure = false;
	at->changed = ++b->clock;
	at->in_flight++;
	if (at->count == ZONE_BLOCK_VALUES)
		at->lost_count = true;
	else
		at->values[at->count++] = value;
}

void zone_blocks_end(
        struct zone_blocks *b, uint64_t block, uint32_t value, enum zone_blocks_end how)
{
	struct zone_block *at = block_at(b, block);

	at->in_flight--;
	at->changed = ++b->clock;
	if (how == ZONE_WRITE_FAILED)
		at->unsure = true;
	if (how > ZONE_WRITTEN_DURABLY)
		return;
	for (uint32_t i = at->count - 1; i > at->acked; i--) {
		if (at->values[i] != value)
			continue;
		at->acked = i;
		at->acked_at = b->clock;
		if (how == ZONE_WRITTEN_DURABLY)
			at->durable = i;
		break;
	}
}

void zone_blocks_zero(struct zone_blocks *b, uint64_t block)
{
	struct zone_block *at = block_at(b, block);

	at->changed = ++b->clock;
	if (at->unsure)
		at->unsure_until = b->clock;
	at->value = 0;
	at->unsure = false;
	for (uint32_t i = 0; i < at->count; i++) {
		if (at->over[i] == 0)
			at->over[i] = b->clock;
	}
}

void zone_blocks_grown(struct zone_blocks *b, uint64_t block)
{
	zone_blocks_zero(b, block);
	b->at[block].acked = b->at[block].durable = 0;
}

void zone_blocks_flushed(struct zone_blocks *b, uint32_t began)
{
	for (unsigned i = 0; i < ZONE_BLOCKS_MAX; i++) {
		if (b->at[i].acked_at < began)
			b->at[i].durable = b->at[i].acked;
	}
}

/* Among the values from this index on, and of those only what no reset had taken away before. */
static bool was_there(
        const struct zone_block *at, uint32_t from, uint32_t before, const uint8_t *data)
{
	for (uint32_t i = from; i < at->count; i++) {
		if ((at->over[i] == 0 || at->over[i] > before) && holds(data, at->values[i]))
			return true;
	}
	return at->lost_count;
}

bool zone_blocks_may_read(
        const struct zone_blocks *b, uint64_t block, uint32_t began, const uint8_t *data)
{
	const struct zone_block *at = &b->at[block];
	bool unsure = at->unsure || at->unsure_until > began;

	if (at->changed < began && at->in_flight == 0 && !unsure)
		return holds(data, at->value);
	return holds(data, 0) || was_there(at, 0, unsure ? 0 : began, data);
}

bool zone_blocks_may_find(
        const struct zone_blocks *b, uint64_t block, bool power_cut, const uint8_t *data)
{
	const struct zone_block *at = &b->at[block];

	return was_there(at, power_cut ? at->durable : at->acked, 0, data);
}
