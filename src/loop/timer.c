/*
 * Timers: a pairing heap. Starting a timer, and stopping one that is not the next to fire and was
 * never made a parent, cost O(1), which is what the time-outs of I/O do; the next one is found in
 * O(log n) amortised. It lives in the timers and so can't run out of memory.
 *
 * priv[0]: first child; priv[1]: next sibling; priv[2]: the previous sibling, or the parent of a
 * first child, or the timer itself if it is the root; 0 when the timer is not active.
 */
#include "loop/uring.h"

static struct loop_timer *link_of(const struct loop_timer *t, int i)
{
	return (struct loop_timer *)(uintptr_t)t->priv[i];
}

static void set_link(struct loop_timer *t, int i, struct loop_timer *to)
{
	t->priv[i] = (uint64_t)(uintptr_t)to;
}

#define child_of(t) link_of(t, 0)
#define sibling_of(t) link_of(t, 1)
#define previous_of(t) link_of(t, 2)
#define set_child(t, to) set_link(t, 0, to)
#define set_sibling(t, to) set_link(t, 1, to)
#define set_previous(t, to) set_link(t, 2, to)

/* Both are roots without siblings (or NULL). Of equals, a stays on top. */
static struct loop_timer *meld(struct loop_timer *a, struct loop_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->deadline_ns < a->deadline_ns) {
		struct loop_timer *t = a;

		a = b;
		b = t;
	}
	set_sibling(b, child_of(a));
	if (child_of(a))
		set_previous(child_of(a), b);
	set_child(a, b);
	set_previous(b, a);
	return a;
}

/* One heap of a list of siblings: pairs from the left, then all of them from the right. */
static struct loop_timer *meld_siblings(struct loop_timer *first)
{
	struct loop_timer *pairs = NULL, *heap = NULL;

	while (first) {
		struct loop_timer *a = first, *b = sibling_of(a), *pair;

		first = b ? sibling_of(b) : NULL;
		set_sibling(a, NULL);
		if (b)
			set_sibling(b, NULL);
		pair = meld(a, b);
		set_sibling(pair, pairs);
		pairs = pair;
	}
	while (pairs) {
		struct loop_timer *next = sibling_of(pairs);

		set_sibling(pairs, NULL);
		heap = meld(heap, pairs);
		pairs = next;
	}
	return heap;
}

static void set_root(struct uring_loop *l, struct loop_timer *root)
{
	l->timer_root = root;
	if (root)
		set_previous(root, root);
}

static void take_out(struct uring_loop *l, struct loop_timer *t)
{
	struct loop_timer *below = meld_siblings(child_of(t));

	if (t == l->timer_root) {
		set_root(l, below);
	} else {
		struct loop_timer *previous = previous_of(t), *sibling = sibling_of(t);

		if (child_of(previous) == t)
			set_child(previous, sibling);
		else
			set_sibling(previous, sibling);
		if (sibling)
			set_previous(sibling, previous);
		set_root(l, meld(l->timer_root, below));
	}
	set_child(t, NULL);
	set_sibling(t, NULL);
	set_previous(t, NULL);
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
	struct uring_loop *l = uring_of(loop);

	BELLOWS_CHECKED(loop == loop_self());
	if (loop_timer_active(timer))
		take_out(l, timer);
	timer->deadline_ns = deadline_ns;
	set_root(l, meld(l->timer_root, timer));
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	BELLOWS_CHECKED(loop == loop_self());
	if (loop_timer_active(timer))
		take_out(uring_of(loop), timer);
}

bool loop_timer_active(const struct loop_timer *timer)
{
	return timer->priv[2] != 0;
}

unsigned uring_timers_run(struct uring_loop *l)
{
	unsigned n = 0;

	/* The budget is for timers that start themselves again for a time that is past. */
	while (l->timer_root && l->timer_root->deadline_ns <= l->pub.now_ns && n < TIMER_BUDGET) {
		struct loop_timer *t = l->timer_root;

		take_out(l, t);
		t->fire(t);
		n++;
	}
	return n;
}
