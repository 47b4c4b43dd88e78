/*
 * Operations on NBD exports, and on connections to them. One server serves all.
 */
#include <jansson.h>
#include <string.h>

#include "rpc/rpc.h"
#include "sim/nbd.h"
#include "target/nbd/nbd.h"

bool nbd_is_control(uint32_t op)
{
	return run->nbd && !(run->given.without & WITHOUT_CONTROL) &&
	       rng_mix(sim->seed * 43 + op) % 16 == 0;
}

static struct nbd_server *server(void)
{
	return nbd_server_find("sim");
}

static struct nbd_export *export_of(const char *name)
{
	return server() ? nbd_export_find(server(), name, strlen(name)) : NULL;
}

bool nbd_is_exported(const struct bdev *bdev)
{
	return export_of(bdev->name) != NULL;
}

bool nbd_can_export(const struct bdev *bdev)
{
	const struct top *top = io_top_of(bdev);

	return top && !top->closing && !top->removed;
}

enum ctl_kind nbd_draw_kind(struct rng *rng)
{
	if (!server() || list_empty(&server()->exports))
		return CTL_EXPORT;
	switch (rng_below(rng, 6)) {
	case 0:
		return CTL_EXPORT;
	case 1:
		return CTL_HANG_UP;
	default:
		return CTL_CONNECT;
	}
}

/* ---- exports -----------------------------------------------------------------------------------
 */

static void answered(void *arg, const json_t *reply)
{
	struct ctl *c = arg;
	const json_t *error = json_object_get(reply, "error");

	if (error && !sim_any_fault() && !life_is_stopping())
		sim_fail("nbd", "op %u: %s: %s", c->op, c->name,
		        json_string_value(json_object_get(error, "message")));
	ctl_end(c);
}

static void add_export(void *arg, const json_t *reply)
{
	struct ctl *c = arg;

	if (json_object_get(reply, "error")) {
		answered(c, reply);
		return;
	}
	int allow_shrink = (int)rng_below(&c->rng, 2);

	rpc_call("nbd_add_export",
	        json_pack("{s:s, s:s, s:b}", "server", "sim", "bdev_name", c->name, "allow_shrink",
	                allow_shrink),
	        answered, c);
}

void ctl_start_export(struct ctl *c)
{
	if (export_of(c->name)) {
		nbd_excuse(c->name);
		rpc_call("nbd_remove_export",
		        json_pack("{s:s, s:s}", "server", "sim", "export_name", c->name), answered,
		        c);
	} else if (server()) {
		add_export(c, NULL);
	} else {
		rpc_call("nbd_create_server",
		        json_pack("{s:s, s:s, s:i}", "name", "sim", "address", "127.0.0.1", "port",
		                NBD_SIM_PORT),
		        add_export, c);
	}
}

/* ---- connections -------------------------------------------------------------------------------
 */

void ctl_start_connect(struct ctl *c)
{
	if (export_of(c->name))
		(void)nbd_connect(c->name, &c->rng);
	ctl_end(c);
}

void ctl_start_hang_up(struct ctl *c)
{
	(void)nbd_hang_up(&c->rng);
	ctl_end(c);
}
