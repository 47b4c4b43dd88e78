/* raid_verbs.c: the table of the verbs of `bellows raid`. */

#include "cli/cli.h"

#define WORDS(min, max) .words_min = (min), .words_max = (max)

static const struct cli_option list_options[] = {
        {"names", 0, NULL, "only the names, one per line"},
        {0},
};
static const struct cli_option delete_options[] = {
        {"clear-sb", 0, NULL, "wipe the superblocks too, so that it is not found again"},
        {0},
};
static const struct cli_option start_options[] = {
        {"trust-parity", 0, NULL, "make up what is missing from parity that may be wrong"},
        {0},
};
static const struct cli_option check_options[] = {
        {"repair", 'r', NULL, "make right what differs"},
        {0},
};
static const struct cli_option spare_options[] = {
        {"raid-bdev", 0, "RAID", "only for this array; default: for any"},
        {0},
};

static const struct cli_verb spare_verbs[] = {
        {
                .name = "raid spare add",
                .synopsis = "BDEV",
                .summary = "Keep a disk that takes the place of a lost member by itself",
                .help = "One that is not there yet is waited for.\n",
                .options = spare_options,
                .words = {WORD_BDEV},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_add_spare",
        },
        {
                .name = "raid spare remove",
                .synopsis = "BDEV",
                .summary = "Give a spare back",
                .words = {WORD_BDEV},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_remove_spare",
        },
        {
                .name = "raid spare list",
                .synopsis = "",
                .summary = "List the spares",
                .options = list_options,
                WORDS(0, 0),
                .run = verb_spare_list,
        },
        {0},
};

const struct cli_verb raid_verbs[] = {
        {
                .name = "raid list",
                .synopsis = "",
                .summary = "List the arrays, a line each",
                .options = list_options,
                WORDS(0, 0),
                .run = verb_raid_list,
        },
        {
                .name = "raid status",
                .synopsis = "[RAID]",
                .summary = "Show each member, what is under way, and what to do",
                .help = "How far a rebuild, a resync or a check is, how fast, and how long it\n"
                        "will take. The exit status is 1 if an array is not online, lacks a\n"
                        "member, is being rebuilt, or has a problem.\n",
                .words = {WORD_RAID},
                WORDS(0, 1),
                .run = verb_raid_status,
        },
        {
                .name = "raid create",
                .synopsis = "NAME LEVEL BASE... [key=value...]",
                .summary = "Make several bdevs one array",
                .help = "LEVEL is raid0, raid1, raid5f or concat. With superblock=true the array\n"
                        "is found again when its members are next seen. raid0, raid5f and concat\n"
                        "need strip_size_kb. `bellows help bdev_raid_create` has all keys.\n",
                .words = {WORD_OTHER, WORD_OTHER, WORD_BDEV, WORD_PARAM},
                WORDS(3, CLI_WORDS_ANY),
                .run = verb_method,
                .method = "bdev_raid_create",
        },
        {
                .name = "raid delete",
                .synopsis = "RAID",
                .summary = "Delete an array; its members are free then",
                .options = delete_options,
                .words = {WORD_RAID},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_delete",
        },
        {
                .name = "raid add",
                .synopsis = "RAID BDEV",
                .summary = "Put a disk into a free place; it is rebuilt",
                .words = {WORD_RAID, WORD_BDEV},
                WORDS(2, 2),
                .run = verb_method,
                .method = "bdev_raid_add_base_bdev",
        },
        {
                .name = "raid remove",
                .synopsis = "BDEV",
                .summary = "Take a member out of its array",
                .help = "An array that can't be without it goes offline.\n",
                .words = {WORD_BDEV},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_remove_base_bdev",
        },
        {
                .name = "raid grow",
                .synopsis = "RAID BDEV",
                .summary = "Give a mirror one more member; it is rebuilt",
                .help = "The size stays: it follows the members (`bellows resize` of each).\n",
                .words = {WORD_RAID, WORD_BDEV},
                WORDS(2, 2),
                .run = verb_method,
                .method = "bdev_raid_grow_base_bdev",
        },
        {
                .name = "raid spare",
                .synopsis = "add|remove|list [WORD...]",
                .summary = "Disks that take the place of a lost member",
                .verbs = spare_verbs,
        },
        {
                .name = "raid start",
                .synopsis = "RAID",
                .summary = "Start an array without the members that are missing",
                .options = start_options,
                .words = {WORD_RAID},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_start",
        },
        {
                .name = "raid check",
                .synopsis = "RAID",
                .summary = "Compare the members in the background",
                .help = "`bellows raid status` says how many blocks differ.\n",
                .options = check_options,
                .words = {WORD_RAID},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_check",
        },
        {
                .name = "raid pause",
                .synopsis = "RAID",
                .summary = "Let a rebuild rest",
                .words = {WORD_RAID},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_process",
                .fixed = "action=pause",
        },
        {
                .name = "raid resume",
                .synopsis = "RAID",
                .summary = "Let a paused rebuild go on",
                .words = {WORD_RAID},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_process",
                .fixed = "action=resume",
        },
        {
                .name = "raid cancel",
                .synopsis = "RAID",
                .summary = "End a check, or a rebuild: its member is taken out again",
                .words = {WORD_RAID},
                WORDS(1, 1),
                .run = verb_method,
                .method = "bdev_raid_process",
                .fixed = "action=cancel",
        },
        {
                .name = "raid set-options",
                .synopsis = "key=value...",
                .summary = "Limit what rebuilds take, and set how arrays start",
                .help = "`bellows help bdev_raid_set_options` says which options there are.\n",
                .words = {WORD_PARAM},
                WORDS(1, CLI_WORDS_ANY),
                .run = verb_method,
                .method = "bdev_raid_set_options",
        },
        {0},
};
