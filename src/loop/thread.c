/* thread.c: what the kernel knows of the thread of a loop. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loop/uring.h"

void uring_thread_init(struct uring_loop *l)
{
	unsigned cpu, node;

	l->tid = gettid();
	l->numa_id = getcpu(&cpu, &node) == 0 ? (int)node : -1;
}

/* The name of the thread stands in parentheses and may have any character; numbers follow. */
static void read_times(struct loop_thread *out, const char *stat)
{
	const char *numbers = strrchr(stat, ')');
	unsigned long long usr, sys;

	if (numbers && sscanf(numbers + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu",
	                       &usr, &sys) == 2) {
		out->usr_ticks = usr;
		out->sys_ticks = sys;
	}
}

void loop_get_thread(unsigned id, struct loop_thread *out)
{
	const struct uring_loop *l = uring_of(loop_get(id));
	char path[64], stat[512];
	ssize_t n = -1;
	int fd;

	*out = (struct loop_thread){.tid = l->tid, .numa_id = l->numa_id};
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", l->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, stat, sizeof(stat) - 1);
		close(fd);
	}
	if (n > 0) {
		stat[n] = '\0';
		read_times(out, stat);
	}
}
