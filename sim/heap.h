/*
 * heap.h: a binary heap of pointers ordered by (due, seq), which is all the order that simulated
 * time needs. Each element keeps its position, so that it can be taken out again.
 */
#pragma once

#include "base/base.h"

struct heap_item {
	uint64_t due, seq;
	void *of;
	uint64_t *at; /* the element's own note of its position, counted from 1; 0: not in */
};

struct heap {
	struct heap_item *items;
	size_t count, room;
};

void heap_push(struct heap *h, uint64_t due, uint64_t seq, void *of, uint64_t *at);
void heap_remove(struct heap *h, uint64_t at);
void heap_free(struct heap *h);

/* UINT64_MAX when empty. */
static inline uint64_t heap_due(const struct heap *h)
{
	return h->count ? h->items[0].due : UINT64_MAX;
}

/* Takes out the first; NULL when empty. */
static inline void *heap_pop(struct heap *h)
{
	void *of;

	if (h->count == 0)
		return NULL;
	of = h->items[0].of;
	heap_remove(h, 1);
	return of;
}
