/* zone_methods.c: seeing and managing the zones of any zoned bdev, whatever layers it is below. */

#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"
#include "rpc/rpc.h"
#include "rpc/text.h"

#define REPORT_MAX 65536

/* One request of ours on a bdev that we hold meanwhile. */
struct zone_job {
	struct rpc_request *request;
	struct bdev_handle *handle;
	struct bio bio;
	struct bio_zone *zones;
	uint64_t zone_blocks, num_zones;
	bool report;
};

/* ---- holding the bdev ------------------------------------------------------------------------ */

static void resized(struct bdev_handle *handle, uint64_t old_blocks, uint64_t new_blocks,
        struct bdev_tell *tell)
{
	(void)handle;
	(void)old_blocks;
	(void)new_blocks;
	bdev_told(tell, BDEV_NOBODY, 0);
}

/* The request ends by itself, and then the handle is closed. */
static void removed(struct bdev_handle *handle)
{
	(void)handle;
}

static int may_shrink(struct bdev_handle *handle, uint64_t new_blocks, struct err *err)
{
	(void)handle;
	(void)new_blocks;
	(void)err;
	return 0;
}

static const struct bdev_holder_ops holder_ops = {
        .kind = "zone method", .resized = resized, .removed = removed, .may_shrink = may_shrink};

static struct zone_job *open_job(
        struct rpc_request *request, const char *name, bool write, struct err *err)
{
	struct bdev *bdev = bdev_find(name);
	struct zone_job *job;

	if (!bdev) {
		err_set(err, -ENODEV, "there is no bdev '%s'", name);
		return NULL;
	}
	if (!bdev->geometry.zone_blocks) {
		err_set(err, -EOPNOTSUPP, "'%s' is a %s bdev without zones", bdev->name,
		        bdev->module->name);
		return NULL;
	}
	job = xcalloc(1, sizeof(*job));
	job->request = request;
	job->zone_blocks = bdev->geometry.zone_blocks;
	job->num_zones = bdev_num_blocks(bdev) / job->zone_blocks;
	if (bdev_open(bdev, write, &holder_ops, "zone method", job, &job->handle, err) == 0)
		return job;
	free(job);
	return NULL;
}

static void close_job(struct zone_job *job)
{
	bdev_close(job->handle);
	free(job->zones);
	free(job);
}

/* ---- report ---------------------------------------------------------------------------------- */

static json_t *zones_json(const struct zone_job *job)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < job->bio.zone_report.count; i++) {
		const struct bio_zone *z = &job->zones[i];

		json_array_append_new(
		        list, json_pack("{s:I, s:I, s:I, s:I, s:s}", "zone",
		                      (json_int_t)(z->start_blocks / job->zone_blocks), "start",
		                      (json_int_t)z->start_blocks, "capacity",
		                      (json_int_t)z->capacity_blocks, "write_pointer",
		                      (json_int_t)z->write_pointer_blocks, "state",
		                      zone_state_name(z->state)));
	}
	return json_pack("{s:I, s:I, s:o}", "zone_size", (json_int_t)job->zone_blocks, "num_zones",
	        (json_int_t)job->num_zones, "zones", list);
}

static const char *reason(int status)
{
	switch (status) {
	case -ETOOMANYREFS:
		return "no further zone may be open";
	case -EOVERFLOW:
		return "no further zone may be active";
	case -EINVAL:
		return "the state of the zone does not allow it";
	default:
		return errno_text(status);
	}
}

static void done(struct bio *bio)
{
	struct zone_job *job = bio->arg;
	struct rpc_request *request = job->request;

	if (bio->status != 0)
		rpc_fail(request, bio->status, "%s", reason(bio->status));
	else if (job->report)
		rpc_reply(request, zones_json(job));
	else
		rpc_reply(request, NULL);
	close_job(job);
}

struct report_params {
	char *name;
	uint64_t start_zone, num_zones;
};

static const struct param report_table[] = {
        {PARAM(struct report_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of a zoned bdev"},
        {PARAM(struct report_params, start_zone, PARAM_U64), .help = "the first zone"},
        {PARAM(struct report_params, num_zones, PARAM_U64), .def = 4096, .min = 1,
                .max = REPORT_MAX, .help = "how many, at most"},
        {0},
};

static void report_handler(struct rpc_request *request, void *params)
{
	const struct report_params *p = params;
	struct err err = ERR_NONE;
	struct zone_job *job = open_job(request, p->name, false, &err);
	uint64_t count;

	if (!job) {
		rpc_fail_err(request, &err);
		return;
	}
	if (p->start_zone >= job->num_zones) {
		rpc_fail(request, -EINVAL, "'%s' has %llu zones, numbered from 0", p->name,
		        (unsigned long long)job->num_zones);
		close_job(job);
		return;
	}
	count = min_u64(p->num_zones, job->num_zones - p->start_zone);
	job->report = true;
	job->zones = xcalloc(count, sizeof(*job->zones));
	bio_init(&job->bio, BIO_ZONE_REPORT, NULL, 0, count * job->zone_blocks, done, job);
	job->bio.zone_report =
	        (struct bio_zone_report){.zones = job->zones, .max = (uint32_t)count};
	bio_submit(job->handle, &job->bio, p->start_zone * job->zone_blocks);
}

static struct rpc_method report_method = {
        .name = "bdev_zone_report",
        .summary = "tell state and write pointer of zones",
        .result_help = "zone_size, num_zones (of the bdev) and zones: number, start, capacity, "
                       "write_pointer (blocks) and state of each",
        .params = report_table,
        .params_bytes = sizeof(struct report_params),
        .handler = report_handler,
};
RPC_METHOD(report_method);

/* ---- manage ---------------------------------------------------------------------------------- */

struct manage_params {
	char *name;
	int action;
	uint64_t zone;
	bool zone_given, all;
};

/* In the order of enum zone_action. */
static const char *const actions[] = {
        "open", "close", "finish", "reset", "offline", "read_only", NULL};

static const struct param manage_table[] = {
        {PARAM(struct manage_params, name, PARAM_STRING), .required = true,
                .help = "name, alias or UUID of a zoned bdev that nobody stands on"},
        {PARAM(struct manage_params, action, PARAM_ENUM), .required = true, .values = actions,
                .help = "what to do; read_only does what a worn device does to a zone by itself"},
        {PARAM(struct manage_params, zone, PARAM_U64),
                .given = offsetof(struct manage_params, zone_given),
                .help = "the number of a zone; or all"},
        {PARAM(struct manage_params, all, PARAM_BOOL),
                .help = "all zones for whose state the action has a meaning"},
        {0},
};

static void manage_handler(struct rpc_request *request, void *params)
{
	const struct manage_params *p = params;
	struct err err = ERR_NONE;
	struct zone_job *job;

	if (p->zone_given == p->all) {
		rpc_fail(request, RPC_INVALID_PARAMS, "give the number of a zone, or all");
		return;
	}
	job = open_job(request, p->name, true, &err);
	if (!job) {
		rpc_fail_err(request, &err);
		return;
	}
	if (p->zone >= job->num_zones) {
		rpc_fail(request, -EINVAL, "'%s' has %llu zones, numbered from 0", p->name,
		        (unsigned long long)job->num_zones);
		close_job(job);
		return;
	}
	bio_init(&job->bio, BIO_ZONE_MGMT, NULL, 0,
	        (p->all ? job->num_zones : 1) * job->zone_blocks, done, job);
	job->bio.zone_action = (uint8_t)p->action;
	if (p->all)
		job->bio.flags |= BIO_ZONE_ALL;
	bio_submit(job->handle, &job->bio, p->zone * job->zone_blocks);
}

static struct rpc_method manage_method = {
        .name = "bdev_zone_manage",
        .summary = "open, close, finish or reset a zone, or all",
        .result_help = "true",
        .params = manage_table,
        .params_bytes = sizeof(struct manage_params),
        .handler = manage_handler,
};
RPC_METHOD(manage_method);
