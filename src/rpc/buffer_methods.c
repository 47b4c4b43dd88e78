/* buffer_methods.c: how often buffers were asked for, in the terms that clients know. */

#include "bdev/counts.h"
#include "rpc/rpc.h"

struct reading {
	struct rpc_request *request;
	struct buffer_stats stats[BUFFERS_SIZES];
};

/* cache: of what a loop has; main: memory of the machine; retry: after waiting. */
static json_t *pool_json(const struct buffer_stats *stats, uint32_t cache_size)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "cache", (json_int_t)stats->reused, "main",
	        (json_int_t)stats->made, "retry", (json_int_t)stats->waited, "cache_size",
	        (json_int_t)cache_size);
}

static void answer(void *arg, const struct err *err)
{
	struct reading *reading = arg;
	const uint32_t *saved = bdev_options()->saved_values;

	(void)err;
	rpc_reply(reading->request,
	        json_pack("[{s:s, s:o, s:o}]", "module", "bdev", "small_pool",
	                pool_json(&reading->stats[BUFFERS_SMALL], saved[2]), "large_pool",
	                pool_json(&reading->stats[BUFFERS_LARGE], saved[3])));
	free(reading);
}

static void get_stats(struct rpc_request *request, void *params)
{
	struct reading *reading = xcalloc(1, sizeof(*reading));

	(void)params;
	reading->request = request;
	buffers_get_stats(reading->stats, (struct bdev_done){answer, reading});
}

static struct rpc_method iobuf_get_stats = {
        .name = "iobuf_get_stats",
        .summary = "How often buffers were needed for requests that a bdev could not take as they "
                   "were",
        .result_help = "list of {module, small_pool, large_pool}, of up to 16 KiB and above, each "
                       "{cache, main, retry, cache_size}: taken again, new, waited for; cache_size "
                       "is as it was set, and has no effect",
        .flags = RPC_RELAXED,
        .handler = get_stats,
};
RPC_METHOD(iobuf_get_stats);
