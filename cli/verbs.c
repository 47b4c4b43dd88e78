/* verbs.c: the table of verbs. Parsing, help, manual page and completion come from it. */

#include "cli/cli.h"

#define WORDS(min, max) .words_min = (min), .words_max = (max)

const struct cli_option cli_global_options[] = {
        {"socket", 's', "PATH",
                "the daemon's socket; default: $BELLOWS_SOCKET, else " CLI_DEFAULT_SOCKET},
        {"json", 'j', NULL, "print what the daemon answered, as JSON"},
        {"timeout", 't', "SECONDS", "how long to wait for an answer; default 60, 0: for ever"},
        {"ascii", 0, NULL, "draw with ASCII characters only"},
        {"help", 'h', NULL, "help for the verb"},
        {"version", 'V', NULL, "the version of this command"},
        {0},
};

static const struct cli_option resize_options[] = {
        {"dry-run", 'n', NULL, "show what would happen and who would refuse; change nothing"},
        {0},
};
static const struct cli_option events_options[] = {
        {"since", 0, "ID", "first show the recent events from this number on (0: all of them)"},
        {"count", 'c', "N", "stop after N events"},
        {0},
};
static const struct cli_option delete_options[] = {
        {"yes", 'y', NULL, "also when something stands on it, which then goes too"},
        {0},
};
static const struct cli_option names_options[] = {
        {"names", 0, NULL, "only the names, one per line"},
        {0},
};
static const struct cli_option zones_options[] = {
        {"state", 0, "STATE", "only zones in this state: empty, implicit_open, full, ..."},
        {0},
};

static const struct cli_option iostat_options[] = {
        {"interval", 'i', "SECONDS", "time over which the rates are taken, and repeat; default 1"},
        {"count", 'c', "N", "stop after N reports; default: one, or no end with --interval"},
        {0},
};
static const struct cli_option export_options[] = {
        {"name", 0, "NAME", "the name that clients ask for; default: the bdev's"},
        {"path", 0, "PATH", "listen on this unix socket"},
        {"port", 0, "PORT", "listen on this TCP port; 10809 is usual, 0: any free one"},
        {"address", 0, "ADDRESS", "listen on this address with --port; default 127.0.0.1"},
        {"read-only", 0, NULL, "refuse writes"},
        {"allow-shrink", 0, NULL, "agree to shrinking although NBD clients can't be told of it"},
        {0},
};
static const struct cli_option unexport_options[] = {
        {"server", 0, "NAME", "the server, when several export that name"},
        {0},
};
static const struct cli_option methods_options[] = {
        {"live", 0, NULL, "those that the daemon can be asked now, instead of those known here"},
        {0},
};

const struct cli_verb cli_verbs[] = {
        {
                .name = "tree",
                .synopsis = "[NAME]",
                .summary = "Show what stands on what, and why each size is what it is",
                .help = "Backends are at the left margin; what stands on a bdev is below it, one\n"
                        "step to the right, and so are the exports and jobs that use it. With\n"
                        "NAME, only the stack that this bdev is part of. Creations that wait for\n"
                        "a base are listed at the end.\n",
                .words = {WORD_BDEV},
                WORDS(0, 1),
                .run = verb_tree,
        },
        {
                .name = "status",
                .synopsis = "",
                .summary = "Say what is wrong and what to do about it",
                .help = "A sentence per problem, with the action to take. The exit status is 1 if\n"
                        "there is any.\n",
                WORDS(0, 0),
                .run = verb_status,
        },
        {
                .name = "resize",
                .synopsis = "NAME SIZE",
                .summary = "Give a bdev another size, and everything that stands on it",
                .help = "SIZE is the new size (20G), or a change of it (+1T, -512M); the units\n"
                        "k M G T P are powers of 1024. A small b counts blocks: 1000b. When the\n"
                        "command returns, every layer has its new size and every client that can\n"
                        "be told has been; or nothing has changed, the reason is printed and the\n"
                        "exit status is 1.\n",
                .options = resize_options,
                .words = {WORD_BDEV, WORD_OTHER},
                WORDS(2, 2),
                .run = verb_resize,
        },
        {
                .name = "policy",
                .synopsis = "NAME follow|hold",
                .summary = "Let a bdev follow the size of its base, or hold its own",
                .help = "A bdev that holds keeps its size when its base grows, and refuses what\n"
                        "would shrink it.\n",
                .words = {WORD_BDEV, WORD_POLICY},
                WORDS(2, 2),
                .run = verb_policy,
        },
        {
                .name = "limit",
                .synopsis = "NAME [key=value...]",
                .summary = "Limit the rate of a bdev, or show its limits",
                .help = "`bellows help bdev_set_qos_limit` says which limits there are: rates of\n"
                        "requests and of MiB per second, of reads, of writes and of both. 0 ends\n"
                        "a limit; those that are not named stay. They hold at once.\n",
                .words = {WORD_BDEV, WORD_PARAM},
                WORDS(1, CLI_WORDS_ANY),
                .run = verb_limit,
                .method = "bdev_set_qos_limit",
        },
        {
                .name = "events",
                .synopsis = "",
                .summary = "Follow what happens, a line per event, until interrupted",
                .options = events_options,
                WORDS(0, 0),
                .run = verb_events,
        },
        {
                .name = "list",
                .synopsis = "[NAME]",
                .summary = "List the bdevs",
                .options = names_options,
                .words = {WORD_BDEV},
                WORDS(0, 1),
                .run = verb_list,
        },
        {
                .name = "iostat",
                .synopsis = "[NAME]",
                .summary = "Show rates and latencies of each bdev",
                .options = iostat_options,
                .words = {WORD_BDEV},
                WORDS(0, 1),
                .run = verb_iostat,
        },
        {
                .name = "zones",
                .synopsis = "NAME",
                .summary = "List the zones of a zoned bdev, in blocks",
                .help = "`bellows call bdev_zone_manage NAME reset zone=3` changes the state of "
                        "one;\n"
                        "the actions are open, close, finish, reset, offline and read_only.\n",
                .options = zones_options,
                .words = {WORD_BDEV},
                WORDS(1, 1),
                .run = verb_zones,
        },
        {
                .name = "create",
                .synopsis = "KIND [NAME] [BASE...] [key=value...]",
                .summary = "Create a bdev",
                .help = "`bellows help KIND` says which words and keys a kind takes. Words "
                        "without\n"
                        "'=' are the name and then the required parameters, in the order shown\n"
                        "there. size=20G stands for num_blocks, with a block_size of 512 unless\n"
                        "given. The kind `file` is another name for `aio`.\n",
                .words = {WORD_KIND, WORD_BDEV, WORD_PARAM},
                WORDS(1, CLI_WORDS_ANY),
                .run = verb_create,
        },
        {
                .name = "delete",
                .synopsis = "NAME",
                .summary = "Delete a bdev, or drop a creation that waits for its base",
                .options = delete_options,
                .words = {WORD_BDEV},
                WORDS(1, 1),
                .run = verb_delete,
        },
        {
                .name = "export",
                .synopsis = "BDEV",
                .summary = "Export a bdev to NBD clients and print the URI to connect to",
                .help = "Listens where --path or --port say, unless a server does already. With\n"
                        "neither, the one NBD server that there is takes the export. NBD has no\n"
                        "authentication: whoever reaches the address has the disk.\n",
                .options = export_options,
                .words = {WORD_BDEV},
                WORDS(1, 1),
                .run = verb_export,
        },
        {
                .name = "unexport",
                .synopsis = "NAME",
                .summary = "End an export; its clients are cut off",
                .help = "A server that `bellows export` had started goes with its last export.\n",
                .options = unexport_options,
                .words = {WORD_EXPORT},
                WORDS(1, 1),
                .run = verb_unexport,
        },
        {
                .name = "exports",
                .synopsis = "",
                .summary = "List the exports and how many clients each has",
                .options = names_options,
                WORDS(0, 0),
                .run = verb_exports,
        },
        {
                .name = "raid",
                .synopsis = "VERB [WORD...]",
                .summary = "Make, watch, mend and grow arrays",
                .verbs = raid_verbs,
        },
        {
                .name = "save",
                .synopsis = "[FILE]",
                .summary = "Write the configuration: what recreates the present stack",
                .help = "The file is one for `bellowsd --json FILE` and for `bellows load FILE`.\n"
                        "Without FILE it goes to stdout.\n",
                .words = {WORD_FILE},
                WORDS(0, 1),
                .run = verb_save,
        },
        {
                .name = "load",
                .synopsis = "FILE",
                .summary = "Run the methods of a saved configuration",
                .help = "FILE may be - for stdin. Nothing is called if the file names a method\n"
                        "that the daemon does not have. A daemon that waits (--wait-for-rpc) is\n"
                        "started on the way. The first error ends it; what was done stays.\n",
                .words = {WORD_FILE},
                WORDS(1, 1),
                .run = verb_load,
        },
        {
                .name = "call",
                .synopsis = "METHOD [PARAMS-JSON | key=value...]",
                .summary = "Call a method and print its result as JSON",
                .help = "`bellows help METHOD` says which parameters it takes. Sizes and times "
                        "may\n"
                        "bear units (20G, 5ms), lists are written a,b,c.\n",
                .words = {WORD_METHOD, WORD_PARAM},
                WORDS(1, CLI_WORDS_ANY),
                .run = verb_call,
        },
        {
                .name = "methods",
                .synopsis = "",
                .summary = "List the methods",
                .options = methods_options,
                WORDS(0, 0),
                .run = verb_methods,
        },
        {
                .name = "help",
                .synopsis = "[VERB|METHOD|KIND]",
                .summary = "Explain a verb, a method or a kind of bdev",
                .words = {WORD_TOPIC, WORD_OTHER, WORD_OTHER},
                WORDS(0, 3),
                .run = verb_help,
        },
        {
                .name = "man",
                .synopsis = "",
                .summary = "Print the manual page (mdoc)",
                WORDS(0, 0),
                .run = verb_man,
        },
        {
                .name = "completion",
                .synopsis = "bash",
                .summary = "Print the completion for a shell",
                .words = {WORD_SHELL},
                WORDS(1, 1),
                .run = verb_completion,
        },
        {0},
};
