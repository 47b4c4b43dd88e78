#include "sim/model.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/run.h"
#include "sim/world.h"

static uint32_t next_seq(void)
{
	return ++run->seq;
}

void models_create(void)
{
	size_t bytes = MODELS_MAX * MODEL_SECTORS_MAX * sizeof(struct model_sector);
	struct model_sector *s = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	BELLOWS_ASSERT(s != MAP_FAILED);
	for (unsigned i = 0; i < MODELS_MAX; i++)
		run->models[i].sector = s + i * MODEL_SECTORS_MAX;
}

void model_remove(struct model *m)
{
	struct model_sector *s = m->sector;

	if (m->used)
		memset(s, 0, m->sectors * sizeof(*s));
	*m = (struct model){.sector = s};
}

void models_reset(void)
{
	for (unsigned i = 0; i < MODELS_MAX; i++)
		model_remove(&run->models[i]);
}

struct model *model_find(const char *name)
{
	for (unsigned i = 0; i < MODELS_MAX; i++)
		if (run->models[i].used && strcmp(run->models[i].name, name) == 0)
			return &run->models[i];
	return NULL;
}

struct model *model_add(const char *name, uint64_t sectors, bool zero)
{
	for (unsigned i = 0; i < MODELS_MAX; i++) {
		struct model *m = &run->models[i];

		if (m->used)
			continue;
		m->used = true;
		str_copy(m->name, sizeof(m->name), name);
		m->id = ++run->last_model;
		m->floor_sectors = UINT64_MAX;
		m->sectors = min_u64(sectors, MODEL_SECTORS_MAX);
		if (!zero)
			model_forget(m, 0, m->sectors);
		return m;
	}
	return NULL;
}

void model_resize(struct model *m, uint64_t sectors)
{
	uint64_t old = m->sectors;

	sectors = min_u64(sectors, MODEL_SECTORS_MAX);
	if (sectors < old)
		memset(m->sector + sectors, 0, (old - sectors) * sizeof(*m->sector));
	m->sectors = sectors;
	if (sectors > old)
		model_forget(m, old, sectors - old);
}

/* ---- writes ---------------------------------------------------------------------------------- */

static bool durable(const struct model *m, const struct model_entry *e)
{
	if (!(e->flags & ENTRY_OK) || (e->flags & ENTRY_DURABLE))
		return e->flags & ENTRY_OK;
	return m->write_cache ? e->end < m->flushed : !(e->flags & ENTRY_SEEN);
}

/* Whether a read that started as `start` can't return it any more. */
static bool superseded(const struct model_sector *s, const struct model_entry *e, uint32_t start)
{
	for (uint32_t i = 0; i < s->count; i++) {
		const struct model_entry *by = &s->entries[i];

		if ((by->flags & ENTRY_OK) && e->end < by->start && by->end < start)
			return true;
	}
	return false;
}

/* Forgets what no read in flight and no power cut can bring up any more. */
static void prune(const struct model *m, struct model_sector *s)
{
	uint32_t kept = 0;
	bool drop[MODEL_ENTRIES] = {false};

	for (uint32_t i = 0; i < s->count; i++)
		for (uint32_t k = 0; k < s->count && !drop[i]; k++) {
			const struct model_entry *by = &s->entries[k];

			drop[i] = s->entries[i].end < by->start && by->end < m->reads_from &&
			          durable(m, by);
		}
	for (uint32_t i = 0; i < s->count; i++)
		if (!drop[i])
			s->entries[kept++] = s->entries[i];
	s->count = kept;
}

/*
 * Too many to remember: the two oldest that have ended become one of which nothing is known. When
 * nearly all are in flight, two of those do, and stay so: nobody's end is theirs.
 */
static void merge_two(struct model_sector *s)
{
	struct model_entry *a = NULL, *b = NULL;

	for (uint32_t i = 0; i < s->count && !b; i++) {
		if (s->entries[i].end == SEQ_NEVER)
			continue;
		b = a ? &s->entries[i] : NULL;
		a = a ? a : &s->entries[i];
	}
	if (!b) {
		a = &s->entries[0];
		b = &s->entries[1];
		a->start = 0;
	}
	a->value = VALUE_ANY;
	a->end = a->end > b->end ? a->end : b->end;
	a->flags &= b->flags;
	run->overflows++;
	memmove(b, b + 1, (size_t)(s->entries + s->count - (b + 1)) * sizeof(*b));
	s->count--;
}

static struct model_entry *push(const struct model *m, struct model_sector *s)
{
	if (s->count == 0)
		s->entries[s->count++] = (struct model_entry){.flags = ENTRY_OK | ENTRY_DURABLE};
	if (s->count >= 3)
		prune(m, s);
	if (s->count == MODEL_ENTRIES)
		merge_two(s);
	return &s->entries[s->count++];
}

uint32_t model_write_start(struct model *m, uint64_t sector, uint64_t count, uint32_t value)
{
	uint32_t start = next_seq();

	for (uint64_t i = sector; i < min_u64(sector + count, m->sectors); i++)
		*push(m, &m->sector[i]) =
		        (struct model_entry){.value = value, .start = start, .end = SEQ_NEVER};
	return start;
}

void model_write_again(struct model *m, uint64_t from, uint64_t end, uint32_t start, uint32_t value)
{
	for (uint64_t i = from; i < min_u64(end, m->sectors); i++) {
		struct model_sector *s = &m->sector[i];
		bool known = false;

		for (uint32_t k = 0; k < s->count; k++)
			known |= s->entries[k].start == start;
		if (!known)
			*push(m, s) = (struct model_entry){
			        .value = value, .start = start, .end = SEQ_NEVER};
	}
}

static void entry_end(const struct model *m, struct model_sector *s, uint32_t start, uint32_t end,
        enum model_outcome outcome)
{
	for (uint32_t i = s->count; i-- > 0;) {
		struct model_entry *e = &s->entries[i];

		if (e->start != start)
			continue;
		if (outcome == WRITE_NOT) {
			memmove(e, e + 1, (s->count - i - 1) * sizeof(*e));
			s->count--;
			return;
		}
		e->end = end;
		if (outcome != WRITE_MAYBE)
			e->flags = ENTRY_OK | (outcome == WRITE_DURABLE ? ENTRY_DURABLE : 0);
		if (s->count >= 3)
			prune(m, s);
		return;
	}
}

void model_write_end(struct model *m, uint64_t sector, uint64_t count, uint32_t start,
        enum model_outcome outcome)
{
	uint32_t end = next_seq();

	for (uint64_t i = sector; i < min_u64(sector + count, m->sectors); i++)
		entry_end(m, &m->sector[i], start, end, outcome);
}

void model_flush_end(struct model *m, uint32_t start)
{
	next_seq();
	if (start > m->flushed)
		m->flushed = start;
}

void model_forget(struct model *m, uint64_t sector, uint64_t count)
{
	uint32_t now = next_seq();

	for (uint64_t i = sector; i < min_u64(sector + count, m->sectors); i++) {
		struct model_sector old = m->sector[i], *s = &m->sector[i];

		s->count = 0;
		s->entries[s->count++] = (struct model_entry){.value = VALUE_ANY,
		        .start = now,
		        .end = now,
		        .flags = ENTRY_OK | ENTRY_DURABLE};
		for (uint32_t k = 0; k < old.count; k++) /* writes in flight are still to come */
			if (old.entries[k].end == SEQ_NEVER && s->count < MODEL_ENTRIES)
				s->entries[s->count++] = old.entries[k];
	}
}

void model_crash(struct model *m, bool power_cut)
{
	uint32_t now = next_seq();

	if (m->kept == MODEL_VOLATILE)
		memset(m->sector, 0, m->sectors * sizeof(*m->sector));
	if (m->floor_sectors < m->sectors)
		model_forget(m, m->floor_sectors, m->sectors - m->floor_sectors);
	m->floor_sectors = UINT64_MAX;
	for (uint64_t i = 0; i < m->sectors; i++) {
		struct model_sector *s = &m->sector[i];

		for (uint32_t k = 0; k < s->count; k++) {
			struct model_entry *e = &s->entries[k];

			if (e->end == SEQ_NEVER)
				e->end = now;
			else if (power_cut && !durable(m, e))
				e->flags &= ~(uint32_t)ENTRY_OK;
		}
	}
	/* Durability is settled: what has been superseded is so for good. */
	m->reads_from = now;
	for (uint64_t i = 0; i < m->sectors; i++)
		if (m->sector[i].count > 1)
			prune(m, &m->sector[i]);
	if (power_cut)
		m->cut = now;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

#define WORDS (MODEL_SECTOR_BYTES / 8)

/* A client's buffer may begin anywhere. */
typedef uint64_t __attribute__((aligned(1), may_alias)) any_word;

static uint64_t first_word(const struct model *m, uint64_t sector, uint32_t value)
{
	return ((uint64_t)value << 32) | ((uint64_t)(m->id & 0xff) << 24) | sector;
}

static uint64_t word(uint64_t first, unsigned i)
{
	return first ^ (i * 0x9e3779b97f4a7c15ULL);
}

void model_fill(const struct model *m, uint64_t sector, uint32_t value, void *bytes)
{
	uint64_t first = first_word(m, sector, value);
	any_word *w = bytes;

	if (value == VALUE_ZERO) {
		memset(bytes, 0, MODEL_SECTOR_BYTES);
		return;
	}
	for (unsigned i = 0; i < WORDS; i++)
		w[i] = word(first, i);
}

bool model_holds(const struct model *m, uint64_t sector, uint32_t value, const void *bytes)
{
	uint64_t first = value == VALUE_ZERO ? 0 : first_word(m, sector, value), differ = 0;
	const any_word *w = bytes;

	if (value == VALUE_ANY)
		return true;
	if (w[0] != first)
		return false;
	for (unsigned i = 1; i < WORDS; i++)
		differ |= w[i] ^ (value == VALUE_ZERO ? 0 : word(first, i));
	return differ == 0;
}

/* What the bytes look like, for a failure's text. */
static void describe(const void *bytes, char *out, size_t size)
{
	const any_word *w = bytes;
	bool whole = true;

	for (unsigned i = 1; i < WORDS; i++)
		whole &= w[i] == (w[0] ? word(w[0], i) : 0);
	if (whole && w[0] == 0)
		snprintf(out, size, "zeroes");
	else
		snprintf(out, size, "%svalue %lu of bdev %lu, sector %lu", whole ? "" : "parts of ",
		        w[0] >> 32, (w[0] >> 24) & 0xff, w[0] & 0xffffff);
}

_Noreturn static void wrong_data(
        const struct model *m, uint64_t sector, uint32_t start, const void *bytes)
{
	const struct model_sector *s = &m->sector[sector];
	char what[96], legal[1024] = "";
	size_t len = 0;

	describe(bytes, what, sizeof(what));
	for (uint32_t i = 0; i < s->count && len < sizeof(legal) - 80; i++) {
		const struct model_entry *e = &s->entries[i];

		len += (size_t)snprintf(legal + len, sizeof(legal) - len, " %s%s%u[%u-%d%s%s]",
		        superseded(s, e, start) ? "not " : "", e->value == VALUE_ANY ? "any" : "",
		        e->value == VALUE_ANY ? 0 : e->value, e->start, (int)e->end,
		        e->flags & ENTRY_OK ? " done" : "", durable(m, e) ? " durable" : "");
	}
	sim_fail("wrong data",
	        "%s (bdev %u) sector %lu: a read (from %u) returned %s; legal:%s; "
	        "flushed up to %u, last power cut at %u",
	        m->name, m->id, sector, start, what, s->count ? legal : " zeroes", m->flushed,
	        m->cut);
}

/* ---- reads ----------------------------------------------------------------------------------- */

static void learn_from(
        struct model *m, struct model_sector *s, const struct model_entry *seen, uint32_t start)
{
	struct model_entry e = *seen;
	uint32_t legal = 0;
	bool old = true;

	for (uint32_t i = 0; i < s->count; i++) {
		if (s->entries[i].end > start)
			return; /* a write is or was in flight beside the read */
		legal += !superseded(s, &s->entries[i], SEQ_NEVER);
		old &= s->entries[i].start < m->cut;
	}
	if (legal < 2 || e.value == VALUE_ANY)
		return;
	e.start = e.end = next_seq();
	e.flags = ENTRY_OK | ENTRY_SEEN;
	if (old) { /* nothing has been written since the power cut: it is on the medium */
		e.flags |= ENTRY_DURABLE;
		s->count = 0;
		s->entries[s->count++] = e;
	} else {
		*push(m, s) = e;
	}
}

void model_read_end(struct model *m, uint64_t sector, uint64_t count, uint32_t start,
        const void *bytes, bool learn)
{
	if (m->kept == MODEL_NOTHING)
		return;
	for (uint64_t i = 0; i < count && sector + i < m->sectors; i++) {
		struct model_sector *s = &m->sector[sector + i];
		const uint8_t *b = (const uint8_t *)bytes + i * MODEL_SECTOR_BYTES;
		const struct model_entry *seen = NULL;

		if (s->count == 0) {
			if (!model_holds(m, sector + i, VALUE_ZERO, b))
				wrong_data(m, sector + i, start, b);
			continue;
		}
		for (uint32_t k = s->count; k-- > 0 && !seen;)
			if (model_holds(m, sector + i, s->entries[k].value, b) &&
			        !superseded(s, &s->entries[k], start))
				seen = &s->entries[k];
		if (!seen)
			wrong_data(m, sector + i, start, b);
		if (learn && m->repeatable && s->count > 1)
			learn_from(m, s, seen, start);
	}
}

bool model_compare_may(const struct model *m, uint64_t sector, uint64_t count, uint32_t value,
        uint32_t start, bool equal)
{
	bool may_differ = false;

	if (m->kept == MODEL_NOTHING || sector + count > m->sectors) /* cut off meanwhile */
		return true;
	for (uint64_t i = sector; i < min_u64(sector + count, m->sectors); i++) {
		const struct model_sector *s = &m->sector[i];
		bool may_equal = s->count == 0 && value == VALUE_ZERO;

		may_differ |= s->count == 0 && value != VALUE_ZERO;
		for (uint32_t k = 0; k < s->count; k++) {
			const struct model_entry *e = &s->entries[k];

			if (superseded(s, e, start))
				continue;
			may_equal |= e->value == value || e->value == VALUE_ANY;
			may_differ |= e->value != value;
		}
		if (equal && !may_equal)
			return false;
	}
	return equal || may_differ;
}

uint32_t model_likely(const struct model *m, uint64_t sector)
{
	const struct model_sector *s = &m->sector[sector];
	uint32_t value = s->count ? s->entries[s->count - 1].value : VALUE_ZERO;

	return value == VALUE_ANY ? VALUE_ZERO : value;
}
