/*
 * The POSIX system table: poll, select, epoll and kqueue with timeouts in nanoseconds, and the handle that ends a wait
 * from another thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define _DARWIN_UNLIMITED_SELECT 1 /* macOS: no limit of 1024 handles */

#include "sys_posix.h"

#include <p2pnet/watch.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif
#if defined(P2PI_POSIX_KQUEUE)
#include <sys/types.h>

#include <sys/event.h>
#include <sys/time.h>
#endif

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
#define HAVE_EPOLL_PWAIT2 1
#endif
#endif

/* ---- waiting ---- */

/* Seconds are bounded, since macOS refuses more than some years; a wait that ends early is no harm (B2). */
static struct timespec *timespec_of(struct timespec *out, int64_t timeout_ns) {
    if (timeout_ns < 0) {
        return NULL;
    }
    int64_t seconds = timeout_ns / 1000000000;
    out->tv_sec = (time_t)(seconds < 1000000 ? seconds : 1000000);
    out->tv_nsec = (long)(timeout_ns % 1000000000);
    return out;
}

/* For calls that count in milliseconds: rounded up, so that no wait ends early and spins. */
static int milliseconds_of(int64_t timeout_ns) {
    if (timeout_ns < 0) {
        return -1;
    }
    int64_t timeout_ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return (int)(timeout_ms < INT_MAX ? timeout_ms : INT_MAX);
}

int p2pi_posix_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
#if defined(__linux__)
    struct timespec timeout;
    return p2pi_posix_result(ppoll(fds, count, timespec_of(&timeout, timeout_ns), NULL));
#else
    return p2pi_posix_result(poll(fds, (nfds_t)count, milliseconds_of(timeout_ns)));
#endif
}

int p2pi_posix_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    struct timespec timeout;
    return p2pi_posix_result(pselect(nfds, readable, writable, exceptional, timespec_of(&timeout, timeout_ns), NULL));
}

int p2pi_posix_wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns) {
    struct pollfd entry = { .fd = handle };
    entry.events = (short)((mask & P2P_READABLE ? POLLIN : 0) | (mask & P2P_WRITABLE ? POLLOUT : 0));
    int64_t begin_ns = p2pi_posix_now_ns();
    int64_t left_ns = timeout_ns;
    int result;
    while ((result = p2pi_posix_poll(&entry, 1, left_ns)) == -EINTR) {
        if (timeout_ns > 0) {
            int64_t spent_ns = p2pi_posix_now_ns() - begin_ns;
            left_ns = spent_ns < timeout_ns ? timeout_ns - spent_ns : 0;
        }
    }
    if (result <= 0) {
        return result;
    }
    if (entry.revents & POLLNVAL) {
        return -EBADF;
    }
    if (entry.revents & (POLLERR | POLLHUP)) {
        return (int)mask; /* the next call on the handle says what happened */
    }
    uint32_t ready = entry.revents & POLLIN ? P2P_READABLE : 0;
    return (int)(ready | (entry.revents & POLLOUT ? P2P_WRITABLE : 0));
}

#if defined(__linux__)
int p2pi_posix_epoll_create(void) {
    return p2pi_posix_result(epoll_create1(EPOLL_CLOEXEC));
}

int p2pi_posix_epoll_ctl(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event) {
    return p2pi_posix_result(epoll_ctl(epoll, operation, handle, event));
}

int p2pi_posix_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    if (!precise || timeout_ns <= 0) {
        return p2pi_posix_result(epoll_wait(epoll, events, capacity, milliseconds_of(timeout_ns)));
    }
#if defined(HAVE_EPOLL_PWAIT2)
    struct timespec timeout;
    int result = epoll_pwait2(epoll, events, capacity, timespec_of(&timeout, timeout_ns), NULL);
    /* EPERM: a container's filter that doesn't know the call. */
    return result < 0 && errno == EPERM ? -ENOSYS : p2pi_posix_result(result);
#else
    return -ENOSYS;
#endif
}
#endif

#if defined(P2PI_POSIX_KQUEUE)
int p2pi_posix_kqueue(void) {
    int queue = kqueue();
    int result = p2pi_posix_result(queue);
    if (queue >= 0 && fcntl(queue, F_SETFD, FD_CLOEXEC) < 0) {
        result = p2pi_posix_failure();
        close(queue);
    }
    return result;
}

int p2pi_posix_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                      int64_t timeout_ns) {
    int saved_errno = errno;
    struct timespec timeout;
    int result = p2pi_posix_result(kevent(queue, changes, change_count, events, capacity,
                                          timespec_of(&timeout, timeout_ns)));
    errno = saved_errno;
    return result;
}
#endif

/* ---- ending a wait ---- */

int p2pi_posix_wake_open(p2p_handle_t ends[2]) {
#if defined(__linux__)
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (handle < 0) {
        return p2pi_posix_failure();
    }
    ends[0] = ends[1] = handle;
    return 0;
#else
    int pair[2];
    if (pipe(pair) < 0) {
        return p2pi_posix_failure();
    }
    int result = p2pi_posix_finish_handle(pair[0], 1);
    if (result < 0) {
        close(pair[1]);
        return result;
    }
    result = p2pi_posix_finish_handle(pair[1], 1);
    if (result < 0) {
        close(pair[0]);
        return result;
    }
    ends[0] = pair[0];
    ends[1] = pair[1];
    return 0;
#endif
}

/* Signal handlers call this: write() only, and errno stays as the interrupted code left it. */
int p2pi_posix_wake_signal(p2p_handle_t end) {
    int saved_errno = errno;
    uint64_t one = 1; /* what an eventfd wants; a pipe takes any bytes */
    ssize_t written;
    do {
        written = write(end, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    /* Full: a wake-up is under way. */
    int result = written < 0 && p2pi_posix_failure() != -EAGAIN ? p2pi_posix_failure() : 0;
    errno = saved_errno;
    return result;
}

int p2pi_posix_wake_drain(p2p_handle_t end) {
    uint64_t bytes[64];
    ssize_t count;
    do {
        count = read(end, bytes, sizeof(bytes));
    } while (count == (ssize_t)sizeof(bytes) || (count < 0 && errno == EINTR));
    return count < 0 && p2pi_posix_failure() != -EAGAIN ? p2pi_posix_failure() : 0;
}

void p2pi_posix_wake_close(p2p_handle_t ends[2]) {
    close(ends[0]);
    if (ends[1] != ends[0]) {
        close(ends[1]);
    }
}
