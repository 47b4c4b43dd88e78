/* event_methods.c: what happened to bdevs: to be asked for, or pushed on a connection. */

#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "rpc/text.h"

/* ---- polling --------------------------------------------------------------------------------- */

/* These two methods show what their clients know; events_subscribe shows all. */
static const char *const notify_types[] = {"bdev_register", "bdev_unregister", "bdev_resize"};

static bool is_notify_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(notify_types); i++)
		if (strcmp(notify_types[i], type) == 0)
			return true;
	return false;
}

static void get_types(struct rpc_request *request, void *params)
{
	json_t *list = json_array();

	(void)params;
	for (size_t i = 0; i < ARRAY_SIZE(notify_types); i++)
		json_array_append_new(list, json_string(notify_types[i]));
	rpc_reply(request, list);
}

static struct rpc_method notify_get_types = {
        .name = "notify_get_types",
        .summary = "The types of events that notify_get_notifications shows",
        .result_help = "list of names",
        .flags = RPC_NO_PARAMS,
        .handler = get_types,
};
RPC_METHOD(notify_get_types);

struct notify_params {
	uint64_t id, max;
};

static const struct param notify_table[] = {
        {PARAM(struct notify_params, id, PARAM_U64), .help = "the first one wanted"},
        {PARAM(struct notify_params, max, PARAM_U64), .def = INT64_MAX,
                .help = "at most so many; default: all"},
        {0},
};

struct collection {
	json_t *list;
	uint64_t max;
};

/* Their clients count from 0, events from 1. */
static bool collect(void *arg, const struct bdev_event *event)
{
	struct collection *c = arg;

	if (json_array_size(c->list) >= c->max)
		return false;
	if (is_notify_type(event->type))
		json_array_append_new(c->list,
		        json_pack("{s:s, s:o, s:I}", "type", event->type, "ctx",
		                rpc_json_string(event->bdev), "id", (json_int_t)event->id - 1));
	return true;
}

static void get_notifications(struct rpc_request *request, void *params)
{
	const struct notify_params *p = params;
	struct collection c = {json_array(), p->max};

	bdev_events_since(p->id + 1, collect, &c);
	rpc_reply(request, c.list);
}

static struct rpc_method notify_get_notifications = {
        .name = "notify_get_notifications",
        .summary = "The bdevs that appeared, went away or changed size; the last 1024 events are "
                   "kept",
        .result_help = "list of {type, ctx, id}; ctx is the name of the bdev, ids may have gaps",
        .params = notify_table,
        .params_bytes = sizeof(struct notify_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = get_notifications,
};
RPC_METHOD(notify_get_notifications);

/* ---- pushing --------------------------------------------------------------------------------- */

struct subscriber {
	struct rpc_connection *connection;
	struct bdev_subscription *subscription;
	struct rpc_close_hook hook;
	struct param_strings types; /* none: all */
	struct list link;
};

static struct list subscribers = LIST_INIT(subscribers);

struct subscribe_params {
	struct param_strings types;
	uint64_t since;
	bool since_given;
};

static const struct param subscribe_table[] = {
        {PARAM(struct subscribe_params, types, PARAM_STRINGS), .max_items = 64,
                .help = "only these types; default: all"},
        {PARAM(struct subscribe_params, since, PARAM_U64),
                .given = offsetof(struct subscribe_params, since_given),
                .help = "first send the kept events from this id on"},
        {0},
};

static struct subscriber *find_subscriber(const struct rpc_connection *connection)
{
	struct subscriber *subscriber;

	list_for_each (subscriber, &subscribers, link)
		if (subscriber->connection == connection)
			return subscriber;
	return NULL;
}

static void subscriber_free(struct subscriber *subscriber)
{
	bdev_unsubscribe(subscriber->subscription);
	rpc_close_hook_remove(&subscriber->hook);
	list_remove(&subscriber->link);
	for (size_t i = 0; i < subscriber->types.count; i++)
		free(subscriber->types.items[i]);
	free(subscriber->types.items);
	free(subscriber);
}

static void connection_closed(void *arg)
{
	subscriber_free(arg);
}

static bool wants(const struct subscriber *subscriber, const char *type)
{
	for (size_t i = 0; i < subscriber->types.count; i++)
		if (strcmp(subscriber->types.items[i], type) == 0)
			return true;
	return subscriber->types.count == 0;
}

static void push(void *arg, const struct bdev_event *event)
{
	const struct subscriber *subscriber = arg;
	json_t *params;

	if (!wants(subscriber, event->type))
		return;
	params = json_pack("{s:I, s:s, s:o, s:I, s:o}", "id", (json_int_t)event->id, "type",
	        event->type, "bdev", rpc_json_string(event->bdev ? event->bdev : ""), "time_us",
	        (json_int_t)(event->wall_ns / NSEC_PER_USEC), "detail",
	        event->detail ? json_incref(event->detail) : json_object());
	rpc_notify(subscriber->connection, "event", params);
}

/* By connection, since a push may close it and free the subscriber. */
static bool push_old(void *arg, const struct bdev_event *event)
{
	struct subscriber *subscriber = find_subscriber(arg);

	if (subscriber)
		push(subscriber, event);
	return find_subscriber(arg) != NULL;
}

static void subscribe(struct rpc_request *request, void *params)
{
	struct subscribe_params *p = params;
	struct rpc_connection *connection = rpc_request_connection(request);
	uint64_t since = p->since;
	bool replay = p->since_given;
	struct subscriber *subscriber;

	if (!connection) {
		rpc_fail(request, -EINVAL, "events can only be sent to a connection");
		return;
	}
	subscriber = find_subscriber(connection);
	if (subscriber)
		subscriber_free(subscriber);
	subscriber = xcalloc(1, sizeof(*subscriber));
	subscriber->connection = connection;
	subscriber->types = p->types;
	p->types = (struct param_strings){0};
	list_init(&subscriber->link);
	list_push_back(&subscribers, &subscriber->link);
	subscriber->subscription = bdev_subscribe(push, subscriber);
	subscriber->hook = (struct rpc_close_hook){.fn = connection_closed, .arg = subscriber};
	rpc_connection_on_close(connection, &subscriber->hook);
	rpc_reply(request, NULL);
	if (replay)
		bdev_events_since(since, push_old, connection);
}

static struct rpc_method events_subscribe = {
        .name = "events_subscribe",
        .summary = "Sends events on this connection from now on, as notifications \"event\" with "
                   "params {id, type, bdev, time_us, detail}; again: replaces the first",
        .result_help = "true; events come after it. A client that does not read them is "
                       "disconnected",
        .params = subscribe_table,
        .params_bytes = sizeof(struct subscribe_params),
        .decode_error = RPC_INVALID_PARAMS,
        .handler = subscribe,
};
RPC_METHOD(events_subscribe);

static void unsubscribe(struct rpc_request *request, void *params)
{
	struct subscriber *subscriber = find_subscriber(rpc_request_connection(request));

	(void)params;
	if (subscriber)
		subscriber_free(subscriber);
	rpc_reply(request, NULL);
}

static struct rpc_method events_unsubscribe = {
        .name = "events_unsubscribe",
        .summary = "Ends events_subscribe",
        .result_help = "true",
        .flags = RPC_NO_PARAMS,
        .handler = unsubscribe,
};
RPC_METHOD(events_unsubscribe);
