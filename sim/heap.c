#include "sim/heap.h"

static bool before(const struct heap_item *a, const struct heap_item *b)
{
	return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void place(struct heap *h, size_t i, struct heap_item item)
{
	h->items[i] = item;
	*item.at = i + 1;
}

static void sift(struct heap *h, size_t i, struct heap_item item)
{
	while (i > 0 && before(&item, &h->items[(i - 1) / 2])) {
		place(h, i, h->items[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->count)
			break;
		if (child + 1 < h->count && before(&h->items[child + 1], &h->items[child]))
			child++;
		if (!before(&h->items[child], &item))
			break;
		place(h, i, h->items[child]);
		i = child;
	}
	place(h, i, item);
}

void heap_push(struct heap *h, uint64_t due, uint64_t seq, void *of, uint64_t *at)
{
	if (h->count == h->room) {
		h->room = h->room ? 2 * h->room : 64;
		h->items = xrealloc(h->items, h->room * sizeof(*h->items));
	}
	h->count++;
	sift(h, h->count - 1, (struct heap_item){.due = due, .seq = seq, .of = of, .at = at});
}

void heap_remove(struct heap *h, uint64_t at)
{
	size_t i = at - 1;
	struct heap_item last;

	BELLOWS_ASSERT(i < h->count);
	*h->items[i].at = 0;
	last = h->items[--h->count];
	if (i < h->count)
		sift(h, i, last);
}

void heap_free(struct heap *h)
{
	free(h->items);
	*h = (struct heap){0};
}
