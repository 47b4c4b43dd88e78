/*
 * Signals: the control loop polls a signalfd. A signal with a handler is blocked in the control
 * thread (the data threads have all of them blocked), so that it waits for the signalfd; one
 * without keeps its default.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "loop/uring.h"

static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

static struct {
	void (*fn[ARRAY_SIZE(handled)])(int signum);
	sigset_t set;
	int fd;
	bool open;
} signals;

static unsigned index_of(int signum)
{
	unsigned i = 0;

	while (i < ARRAY_SIZE(handled) && handled[i] != signum)
		i++;
	BELLOWS_ASSERT(i < ARRAY_SIZE(handled));
	return i;
}

static void arm(struct uring_loop *l, struct uring_req *r);

static void complete_poll(struct uring_loop *l, struct uring_req *r, int maybe_unused res,
        uint32_t maybe_unused cqe_flags)
{
	struct signalfd_siginfo info;

	if (!signals.open) {
		uring_req_put(l, r);
		return;
	}
	while (signals.open && read(signals.fd, &info, sizeof(info)) == sizeof(info)) {
		void (*fn)(int) = signals.fn[index_of((int)info.ssi_signo)];

		if (fn)
			fn((int)info.ssi_signo);
	}
	arm(l, r);
}

static void arm(struct uring_loop *l, struct uring_req *r)
{
	struct io_uring_sqe *sqe = uring_sqe(l, r);

	io_uring_prep_poll_add(sqe, signals.fd, POLLIN);
	io_uring_sqe_set_data(sqe, r);
}

static void open_signalfd(struct uring_loop *l)
{
	struct uring_req *r;

	sigemptyset(&signals.set);
	signals.fd = signalfd(-1, &signals.set, SFD_CLOEXEC | SFD_NONBLOCK);
	BELLOWS_ASSERT(signals.fd >= 0);
	signals.open = true;
	r = uring_req_get(l, NULL, complete_poll);
	BELLOWS_ASSERT(r);
	uring_req_background(l, r);
	arm(l, r);
}

void loop_on_signal(int signum, void (*fn)(int signum))
{
	unsigned i = index_of(signum);
	sigset_t one;

	BELLOWS_ASSERT(loop_is_control());
	sigemptyset(&one);
	sigaddset(&one, signum);
	if (!signals.open)
		open_signalfd(uring_of(loop_self()));
	signals.fn[i] = fn;
	if (fn)
		sigaddset(&signals.set, signum);
	else
		sigdelset(&signals.set, signum);
	BELLOWS_ASSERT(signalfd(signals.fd, &signals.set, 0) == signals.fd);
	pthread_sigmask(fn ? SIG_BLOCK : SIG_UNBLOCK, &one, NULL);
}

void uring_signals_fini(void)
{
	if (!signals.open)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(handled); i++) {
		if (signals.fn[i])
			loop_on_signal(handled[i], NULL);
	}
	signals.open = false;
	close(signals.fd);
}
