/*
 * Shrinking: leaves out operations, in ever smaller pieces, as long as the run still fails in the
 * same way.
 */
#include <stdio.h>
#include <string.h>

#include "sim/runner.h"

#define TRIES_MAX 600

struct shrinker {
	uint64_t seed;
	char kind[64];
	unsigned tries;
	uint32_t reached; /* operations that the last failing run started */
};

static bool still_fails(struct shrinker *s, const struct run_given *given)
{
	if (s->tries++ >= TRIES_MAX)
		return false;
	runner_reset(s->seed, given);
	if (runner_go() || strcmp(sim->failure_kind, s->kind) != 0)
		return false;
	s->reached = run->next_op;
	return true;
}

static void skip(struct run_given *given, uint32_t from, uint32_t to, bool on)
{
	for (uint32_t i = from; i < to; i++) {
		uint8_t bit = (uint8_t)(1U << (i % 8));

		if (on)
			given->skip[i / 8] |= bit;
		else
			given->skip[i / 8] &= (uint8_t)~bit;
	}
}

static bool skips_all(const struct run_given *given, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		if (!(given->skip[i / 8] >> (i % 8) & 1))
			return false;
	return true;
}

static void shrink_ops(struct shrinker *s, struct run_given *given)
{
	for (uint32_t piece = given->ops / 2; piece > 0; piece /= 2) {
		for (uint32_t at = 0; at < given->ops; at += piece) {
			uint32_t end = (uint32_t)min_u64(at + piece, given->ops);
			struct run_given smaller = *given;

			if (skips_all(given, at, end))
				continue;
			skip(&smaller, at, end, true);
			if (still_fails(s, &smaller))
				*given = smaller;
		}
	}
}

void shrink(uint64_t seed, struct run_given *given)
{
	static const uint32_t groups[] = {WITHOUT_FAULTS, WITHOUT_CRASHES, WITHOUT_CONTROL};
	struct shrinker s = {.seed = seed};

	str_copy(s.kind, sizeof(s.kind), sim->failure_kind);
	if (given->ops > RUN_OPS_MAX || !still_fails(&s, given))
		return;
	if (s.reached < given->ops) {
		struct run_given shorter = *given;

		shorter.ops = s.reached;
		if (still_fails(&s, &shorter))
			*given = shorter;
	}
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		struct run_given smaller = *given;

		smaller.without |= groups[i];
		if (still_fails(&s, &smaller))
			*given = smaller;
	}
	shrink_ops(&s, given);
	/* The world is as the last try left it: make it that of the result. */
	s.tries = 0;
	if (!still_fails(&s, given))
		printf("(the shrunk run does not fail again: replay the whole one)\n");
}

void replay_command(uint64_t seed, const struct run_given *given, char *out, size_t size)
{
	size_t len = (size_t)snprintf(out, size, "--seed %lu --ops %u", seed, given->ops);
	const char *sep = " --skip ";

	if (given->without)
		len += (size_t)snprintf(out + len, size - len, " --without %u", given->without);
	if (given->plant)
		len += (size_t)snprintf(out + len, size - len, " --plant %u", given->plant);
	for (uint32_t i = 0; i < given->ops && i < RUN_OPS_MAX && len < size - 32;) {
		uint32_t end = i;

		while (end < given->ops && skips_all(given, end, end + 1))
			end++;
		if (end > i) {
			len += (size_t)snprintf(out + len, size - len,
			        end > i + 1 ? "%s%u-%u" : "%s%u", sep, i, end - 1);
			sep = ",";
		}
		i = end + 1;
	}
}
