/*
 * events.c: what has happened: to subscribers as it happens, and the last 1024 for those who ask.
 * Subscribers are called from the loop, not from inside whatever raised the event.
 */
#include <string.h>

#include "bdev/control.h"

#define EVENTS_KEPT 1024

struct event {
	char *type, *bdev;
	struct bdev_event shown;
};

struct bdev_subscription {
	struct list link;
	bdev_event_fn fn;
	void *arg;
	uint64_t next; /* the event it is to see next */
};

static struct event ring[EVENTS_KEPT];
static uint64_t last_id;
static struct list subscriptions = LIST_INIT(subscriptions);
static bool delivering;

static struct event *event_at(uint64_t id)
{
	return &ring[id % EVENTS_KEPT];
}

static uint64_t oldest_id(void)
{
	return last_id > EVENTS_KEPT ? last_id - EVENTS_KEPT + 1 : 1;
}

static void event_free(struct event *event)
{
	free(event->type);
	free(event->bdev);
	json_decref(event->shown.detail);
	memset(event, 0, sizeof(*event));
}

static struct bdev_subscription *behind(void)
{
	struct bdev_subscription *subscription;

	list_for_each (subscription, &subscriptions, link) {
		if (subscription->next <= last_id)
			return subscription;
	}
	return NULL;
}

/* A subscriber may raise events, subscribe and unsubscribe from inside. */
static void deliver(void *arg)
{
	struct bdev_subscription *subscription;

	(void)arg;
	while ((subscription = behind()) != NULL) {
		uint64_t id = max_u64(subscription->next, oldest_id());
		struct bdev_event shown = event_at(id)->shown;
		autofree char *type = xstrdup(shown.type);
		autofree char *bdev = xstrdup(shown.bdev);

		shown.type = type;
		shown.bdev = bdev;
		json_incref(shown.detail);
		subscription->next = id + 1;
		subscription->fn(subscription->arg, &shown);
		json_decref(shown.detail);
	}
	delivering = false;
}

json_t *event_text(const char *text)
{
	json_t *value = json_string(text);
	autofree char *plain = xstrdup(text);

	for (char *c = plain; !value && *c; c++)
		*c = (unsigned char)*c < 0x80 ? *c : '?';
	return value ? value : json_string(plain);
}

void bdev_event_raise(const char *type, const char *bdev_name, json_t *detail)
{
	struct event *event = event_at(++last_id);

	BELLOWS_ASSERT(loop_is_control());
	event_free(event);
	event->type = xstrdup(type);
	event->bdev = xstrdup(bdev_name ? bdev_name : "");
	event->shown = (struct bdev_event){.type = event->type,
	        .bdev = event->bdev,
	        .id = last_id,
	        .wall_ns = loop_wall_ns(),
	        .detail = detail};
	if (!delivering) {
		delivering = true;
		run_later(deliver, NULL);
	}
}

struct bdev_subscription *bdev_subscribe(bdev_event_fn fn, void *arg)
{
	struct bdev_subscription *subscription = xcalloc(1, sizeof(*subscription));

	BELLOWS_ASSERT(loop_is_control());
	subscription->fn = fn;
	subscription->arg = arg;
	subscription->next = last_id + 1;
	list_init(&subscription->link);
	list_push_back(&subscriptions, &subscription->link);
	return subscription;
}

void bdev_unsubscribe(struct bdev_subscription *subscription)
{
	BELLOWS_ASSERT(loop_is_control());
	list_remove(&subscription->link);
	free(subscription);
}

void bdev_events_since(
        uint64_t id, bool (*fn)(void *arg, const struct bdev_event *event), void *arg)
{
	BELLOWS_ASSERT(loop_is_control());
	for (id = max_u64(id, oldest_id()); id <= last_id; id++) {
		if (!fn(arg, &event_at(id)->shown))
			return;
	}
}

/* Ids go on counting, so that a client of the next run in this process isn't confused. */
void events_stop(void)
{
	for (unsigned i = 0; i < EVENTS_KEPT; i++)
		event_free(&ring[i]);
	last_id = 0;
}
