/*
 * plant.h: defects on purpose, by which the simulator shows that it would find real ones.
 *
 *     if (PLANT(FLUSH_SWALLOWED))
 *             return bio_complete(bio, 0);
 *
 * In check builds (BELLOWS_CHECK=1) a planted line is live when the simulator has switched this one
 * defect on; in all others PLANT is the constant 0 and the line is gone. Each must be found by
 * `bellows-sim --planted`, or by the simulation of its module. A defect is one condition of one
 * existing line, never code of its own that could be wrong in another way.
 */
#pragma once

#define PLANTS(X)                                                                                  \
	X(NONE, "nothing")                                                                         \
	X(COMPLETED_TWICE, "a request is completed twice")                                         \
	X(INFLIGHT_LEAK, "a failed request stays counted as in flight")                            \
	X(LAST_BLOCK_PAST_END, "a request may reach one block past the end")                       \
	X(QUIESCE_MISSES_LOOP, "a quiesce does not reach the third loop")                          \
	X(QUIESCE_NOT_DRAINED, "a quiesce does not wait for what is in flight")                    \
	X(WAKEUP_LOST, "what a quiesce has queued is not let in again")                            \
	X(RANGE_OVERLAP_MISSED, "a range lock misses requests that begin before it")               \
	X(RANGE_WAKEUP_LOST, "what a range lock has queued is not let in again")                   \
	X(RANGE_NOT_DRAINED, "a range lock does not wait for what is in flight")                   \
	X(GONE_LETS_IN, "a bdev that is removed lets requests in")                                 \
	X(QOS_GONE_FORGOTTEN, "a bdev that is removed leaves who waits for a rate waiting")        \
	X(QOS_WAKEUP_LOST, "of those who wait for a rate the second waits for ever")               \
	X(FUA_EMULATED_WITHOUT_FLUSH, "FUA is dropped where the module lacks it")                  \
	X(ZEROES_EMULATED_SHORT, "emulated write_zeroes leaves out the last block of a piece")     \
	X(BOUNCE_NOT_COPIED_BACK, "a bounced read is not copied back")                             \
	X(BOUNCE_OFFSET, "a bounced write of several pieces takes its data from the wrong place")  \
	X(BOUNDARY_SKIP, "behind a boundary the data is taken one sector late")                    \
	X(LIMIT_IGNORED, "the largest transfer is not kept to")                                    \
	X(COMPARE_EQUAL, "a compare through the core always finds the data equal")                 \
	X(CHILD_ERROR_SWALLOWED, "the error of a part of a request is lost")                       \
	X(GROWN_TOP_FIRST, "a layer shows its new size before its base has it")                    \
	X(STORAGE_NOT_GROWN, "a new size is shown though the storage has not got it")              \
	X(SHRUNK_UNASKED, "a shrink goes on although a holder has refused")                        \
	X(HOLDER_NOT_ASKED, "a holder of an upper layer is not asked before a shrink")             \
	X(NOT_TOLD, "the holder of an upper layer is not told of a new size")                      \
	X(TOLD_TWICE, "a holder is told twice of a new size")                                      \
	X(PLAN_STALE, "a plan takes a base as it is, not as it will be")                           \
	X(HOLD_IGNORED, "a held bdev grows with its base")                                         \
	X(FLUSH_SWALLOWED, "a flush is answered and not done")                                     \
	X(FUA_SWALLOWED, "a write with FUA is written like any other")                             \
	X(ZEROES_FUA_SWALLOWED, "write_zeroes with FUA is not made durable")                       \
	X(UNMAP_BEYOND, "an unmap takes one block more")                                           \
	X(ERROR_SWALLOWED, "an error of the disk is answered as success")                          \
	X(SPLIT_OFF_BY_ONE, "the last part of a split begins one block early")                     \
	X(DELAYED_FOREVER, "of two requests that are due together the second stays")               \
	X(SIZE_NOT_SYNCED, "a new length of a file is not made durable")                           \
	X(PERSIST_SKIPPED_ON_RETRY, "a resize that is repeated leaves out the metadata")           \
	X(META_NOT_FLUSHED, "metadata is not flushed after it was written")                        \
	X(LABEL_GROWTH_UNWRITTEN, "a label is not written when its bdev grows")                    \
	X(LABEL_SHRINK_UNWRITTEN, "a label is not written when its bdev shrinks")                  \
	X(LABEL_AFTER_PUBLISH, "a label is written after the size is shown")                       \
	X(LABEL_ONE_SLOT, "a label is written over the only valid one")                            \
	X(LABEL_TORN_TAKEN, "the checksum of a label is not looked at")                            \
	X(LABEL_GENERATION_KEPT, "the generation of a label does not count up")                    \
	X(LABEL_STALE_TAKEN, "a base with an older generation than its set is taken")              \
	X(LABEL_FOREIGN_TAKEN, "a base of another set is taken")                                   \
	X(LABEL_ROLE_IGNORED, "bases that stand in each other's place are taken")                  \
	X(LABEL_NOT_ERASED, "a bdev that is deleted leaves its label behind")

/* Those of zones, found by the simulation of zone_block. */
#define PLANTS_OF_ZONES(X)                                                                         \
	X(ZONE_WRITTEN_AGAIN, "a write below the write pointer is let in")                         \
	X(ZONE_RESET_AT_ONCE, "a reset does not wait for writes in flight")                        \
	X(ZONE_RESET_SHOWS_OLD, "what was written before a reset can be read after it")            \
	X(ZONE_READ_AT_ONCE, "a read does not wait for writes in flight to its blocks")            \
	X(ZONE_ONE_TOO_MANY, "one zone more than allowed may be open")                             \
	X(ZONE_EXPLICIT_CLOSED, "a zone that a client has opened is closed for another")           \
	X(ZONE_NEVER_FULL, "a zone stays open when its last block is written")                     \
	X(ZONE_NEW_ONES_FULL, "zones that a growth adds are full")                                 \
	X(ZONE_WAKE_LOST, "the end of the last write does not let a reset go on")                  \
	X(ZONE_FAILED_COUNTS, "a failed write keeps its blocks")                                   \
	X(ZONE_APPEND_ONE_OFF, "an append answers the block after its first")                      \
	X(ZONE_ALL_MISSES_LAST, "an action on all zones leaves out the last")

/* Of arrays with superblock, which have a world of their own: src/vbdev/raid/raid_world_simtest.c
 * looks for them. */
#define MIRROR_PLANTS(X)                                                                           \
	X(RAID_STALE_ACCEPTED, "a member that the superblock calls missing is taken as current")   \
	X(RAID_DIVERGED_JOINED, "mirrors that went on without each other are put together")        \
	X(RAID_JOINED_FORGOTTEN, "who left during a rebuild is taken for one that went on alone")  \
	X(RAID_LEAVE_NOT_STORED, "that a member has left is not recorded")                         \
	X(RAID_FAILED_READ, "a member that has failed is still read")                              \
	X(RAID_COPY_NOT_WRITTEN, "the second copy of the superblock is not written")               \
	X(RAID_COPY_NOT_READ, "the second copy of the superblock is not looked at")                \
	X(RAID_WINDOW_SHORT, "a window of a rebuild leaves out its last block")                    \
	X(RAID_TARGET_READ, "the target of a rebuild is read before it has everything")            \
	X(RAID_TARGET_SKIPPED, "writes do not go to the target of a rebuild")                      \
	X(RAID_BIT_LATE, "a write does not wait until its region is marked")                       \
	X(RAID_BITS_FORGOTTEN, "what a missing member lacks is forgotten")                         \
	X(RAID_TORN_PAGE_CLEAN, "a damaged page of the bitmap counts as clean")                    \
	X(RAID_EXT_UNCHECKED, "a bitmap is believed though somebody else has written since")       \
	X(RAID_RETURN_UNCHECKED, "a member is given only what is marked, however old it is")       \
	X(RAID_RESYNC_LEFT_OUT, "members that may differ count as equal")                          \
	X(RAID_UNSYNCED_ANY, "what members may differ in is read from any of them")

/* The same with parity: src/vbdev/raid/raid5_world_simtest.c. */
#define PARITY_PLANTS(X)                                                                           \
	X(RAID5_DIRTY_TRUSTED, "after a crash parity of what was being written is believed")       \
	X(RAID5_DOUBT_STARTED, "after a crash it starts without a member, whatever was marked")    \
	X(RAID5_BIT_LATE, "a write does not wait until its stripe's region is marked")             \
	X(RAID5_FORGOTTEN_UNFLUSHED, "a region is forgotten before its writes are flushed")        \
	X(RAID5_CHECKPOINT_UNFLUSHED, "parity is recorded as valid before it is flushed")          \
	X(RAID5_CHECKPOINT_AHEAD, "the checkpoint of a rebuild counts what is being copied")       \
	X(RAID5_SYNC_AHEAD, "parity counts as valid while it is being made right")                 \
	X(RAID5_RESYNC_SHORT, "a window of a resync leaves out its last block")                    \
	X(RAID5_REPAIR_WRONG, "parity that is made right is written without its old part")         \
	X(RAID5_DELTA_SHORT, "a member that returns is not given what the last region has")        \
	X(RAID5_ACK_UNRECORDED, "a write is acknowledged before it is recorded who has failed")    \
	X(RAID5_PARITY_SKIPPED, "without a member writes leave parity as it is")                   \
	X(RAID5_OLD_LEFT_OUT, "a part write leaves old parity out of the new one")                 \
	X(RAID5_STALE_READ, "a member that is being rebuilt is read")                              \
	X(RAID5_FRESH_MODIFIED, "parity that is not valid is changed by what data changes")        \
	X(RAID5_ROWS_SHARED, "two writes may have the same rows of a stripe")

#define ARRAY_PLANTS(X) MIRROR_PLANTS(X) PARITY_PLANTS(X)

enum plant {
#define X(name, text) PLANT_##name,
	PLANTS(X) PLANT_COUNT,
	PLANTS_OF_ZONES(X) PLANT_ARRAYS_BEFORE,
	ARRAY_PLANTS(X) PLANTS_END
#undef X
};

#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
extern unsigned bellows_plant; /* enum plant; set before the loops start */
#define PLANT(name) (__builtin_expect(bellows_plant == PLANT_##name, 0) != 0)
#else
#define PLANT(name) 0
#endif
