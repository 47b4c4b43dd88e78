/*
 * nbd.h: the workload as clients of the NBD target: nbd_client.c and nbd_take.c have the
 * connections, nbd_control.c exports and the operations on both. State of one life.
 *
 * Invariants
 *  - A request that goes through a connection holds its slot until its answer has come, or until
 *    the server has closed the connection of which nothing can come any more: before that, the
 *    server may still carry it out.
 *  - The server cuts off nobody without a reason: the client has hung up, the export or its bdev
 *    goes, or the daemon ends.
 */
#pragma once

#include "sim/control.h"

#define NBD_CLIENTS_MAX 4
#define NBD_SIM_PORT 10809

/* Whether the operation is one of those on exports and connections. */
bool nbd_is_control(uint32_t op);
enum ctl_kind nbd_draw_kind(struct rng *rng);
bool nbd_is_exported(const struct bdev *bdev);
bool nbd_can_export(const struct bdev *bdev);
void ctl_start_export(struct ctl *c);
void ctl_start_connect(struct ctl *c);
void ctl_start_hang_up(struct ctl *c);

/* Connects to the export of that name. False: there are too many already. */
bool nbd_connect(const char *export, struct rng *rng);
/* At any moment, or politely with a request to disconnect. False: nobody is connected. */
bool nbd_hang_up(struct rng *rng);
/* From now on the server may cut off the clients of that export. */
void nbd_excuse(const char *export);
bool nbd_may_end(const struct nbd_client *client);
/* A size of the bdev has changed. */
void nbd_resized(const char *export, uint64_t new_blocks);

/* A connection by which the request can go; NULL: none. */
struct nbd_client *nbd_client_for(
        const struct top *top, enum bio_op op, uint64_t offset, uint64_t blocks);
void nbd_client_send(struct nbd_client *client, struct slot *s);
