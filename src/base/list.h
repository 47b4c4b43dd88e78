/*
 * list.h: intrusive, circular, doubly linked list. A node that is on no list points at itself, so
 * list_remove on it is harmless and list_linked tells. O(1) everything, no allocation.
 */
#pragma once

#include "base/base.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name)                                                                            \
	{                                                                                          \
		&(name), &(name)                                                                   \
	}

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline bool list_linked(const struct list *node)
{
	return node->next != node;
}

static inline void list_insert_(struct list *prev, struct list *node, struct list *next)
{
	BELLOWS_CHECKED(node->next == node || node->next == NULL);
	node->prev = prev;
	node->next = next;
	prev->next = node;
	next->prev = node;
}

static inline void list_push_back(struct list *l, struct list *node)
{
	list_insert_(l->prev, node, l);
}

static inline void list_push_front(struct list *l, struct list *node)
{
	list_insert_(l, node, l->next);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

static inline struct list *list_pop_front(struct list *l)
{
	struct list *node = l->next;

	if (node == l)
		return NULL;
	list_remove(node);
	return node;
}

/* Moves all nodes of from to the end of to; from is empty afterwards. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_first(l, type, member) list_entry((l)->next, type, member)

/* The body may not remove other nodes than (in the _safe form) the present one. */
#define list_for_each(pos, l, member)                                                              \
	for (pos = list_entry((l)->next, __typeof__(*pos), member); &pos->member != (l);           \
	        pos = list_entry(pos->member.next, __typeof__(*pos), member))
#define list_for_each_safe(pos, tmp, l, member)                                                    \
	for (pos = list_entry((l)->next, __typeof__(*pos), member),                                \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member);                          \
	        &pos->member != (l);                                                               \
	        pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*pos), member))
