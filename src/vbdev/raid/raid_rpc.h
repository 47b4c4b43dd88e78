/* raid_rpc.h: the parameters and handlers of the methods that are not in raid_rpc.c. */
#pragma once

#include "rpc/param.h"
#include "vbdev/raid/raid.h"

struct raid_add_params {
	char *raid_bdev;
	char *base_bdev;
};

struct raid_remove_params {
	char *name;
};

struct raid_spare_params {
	char *base_bdev;
	char *raid_bdev;
};

extern const struct param raid_add_params[], raid_grow_params[], raid_remove_params[],
        raid_spare_params[], raid_base_params[];

/* raid_member_rpc.c */
void raid_add_method(struct rpc_request *request, void *params);
void raid_grow_method(struct rpc_request *request, void *params);
void raid_remove_method(struct rpc_request *request, void *params);
void raid_add_spare_method(struct rpc_request *request, void *params);
void raid_remove_spare_method(struct rpc_request *request, void *params);
void raid_get_spares_method(struct rpc_request *request, void *params);
