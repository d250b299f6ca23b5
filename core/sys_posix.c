/*
 * The system table of POSIX systems: sockets, the clock, the wake-up and the waiting calls.
 * Beside its address half (sys_posix_address.c) this is the only file that calls the operating system.
 *
 * Every function is one call, with EINTR and the platform's gaps smoothed over, and gives 0, a
 * positive value or -errno. No state is kept, so all of them may be called from any thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* accept4, ppoll, secure_getenv */
#endif
#define _DARWIN_UNLIMITED_SELECT 1 /* macOS: no limit of 1024 handles */

#include "sys_posix.h"

#include <p2pnet/error.h>
#include <p2pnet/watch.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
#define HAVE_EPOLL_PWAIT2 1
#endif
#endif

#if defined(MSG_NOSIGNAL)
#define SEND_FLAGS MSG_NOSIGNAL
#else
#define SEND_FLAGS 0 /* macOS before 14: quieten() asks for it socket by socket */
#endif

#define IOV_COUNT_MAX 1024 /* Linux, the BSDs and macOS refuse more with EMSGSIZE or EINVAL */

_Static_assert(sizeof(p2p_iov) == sizeof(struct iovec), "p2p_iov is struct iovec");
_Static_assert(offsetof(p2p_iov, base) == offsetof(struct iovec, iov_base), "p2p_iov is struct iovec");
_Static_assert(offsetof(p2p_iov, len) == offsetof(struct iovec, iov_len), "p2p_iov is struct iovec");
_Static_assert(sizeof(struct sockaddr_storage) <= sizeof(((p2p_address_t *)0)->storage), "any address fits");

/* What a failed call returns. Some systems have two numbers for "would block"; callers see one. */
static int failure(void) {
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static int result_of(int result) {
    return result < 0 ? failure() : result;
}

/* ---- process ---- */

static int start(void) {
    return 0;
}

static void stop(void) {
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t process_id(void) {
    return getpid();
}

/* Variables of whoever started a setuid program must not steer it. */
static const char *environment(const char *name) {
#if defined(__GLIBC__)
    return secure_getenv(name);
#else
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
    if (issetugid()) {
        return NULL;
    }
#endif
    return getuid() == geteuid() && getgid() == getegid() ? getenv(name) : NULL;
#endif
}

static int translate_error(int os_error) {
    switch (os_error) {
    case 0: return 0;
    case EINTR: /* of a call that does not wait: nothing was done, try again */
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return P2P_ERR_WOULD_BLOCK;
    case EPIPE: case ESHUTDOWN: return P2P_ERR_CLOSED;
    case ENOTCONN: case EDESTADDRREQ: return P2P_ERR_NOT_CONNECTED;
    case ECONNRESET: case ECONNABORTED: case ENETRESET: return P2P_ERR_RESET;
    case ECONNREFUSED: return P2P_ERR_REFUSED;
    case ETIMEDOUT: return P2P_ERR_TIMED_OUT;
    case ENETUNREACH: case EHOSTUNREACH: case ENETDOWN: case EHOSTDOWN: return P2P_ERR_UNREACHABLE;
    case EADDRINUSE: return P2P_ERR_ADDRESS_IN_USE;
    case EADDRNOTAVAIL: return P2P_ERR_ADDRESS_NOT_AVAILABLE;
    case EACCES: case EPERM: return P2P_ERR_ACCESS;
    case EMFILE: case ENFILE: return P2P_ERR_TOO_MANY_FILES;
    case ENOMEM: case ENOBUFS: return P2P_ERR_NO_MEMORY;
    case EMSGSIZE: return P2P_ERR_TOO_LONG;
    case EAFNOSUPPORT: case EPROTONOSUPPORT: case ENOSYS: case EOPNOTSUPP:
#if ENOTSUP != EOPNOTSUPP
    case ENOTSUP:
#endif
        return P2P_ERR_NOT_SUPPORTED;
    case EISCONN: case EALREADY: case EINPROGRESS: case EEXIST: return P2P_ERR_ALREADY;
    case EINVAL: case EBADF: case ENOTSOCK: case EFAULT: return P2P_ERR_INVALID;
    case ENOENT: return P2P_ERR_NOT_FOUND;
    case ENOSPC: case ERANGE: return P2P_ERR_LIMIT;
    case ECANCELED: return P2P_ERR_CANCELLED;
    case EBUSY: return P2P_ERR_BUSY;
    default: return P2P_ERR_SYSTEM;
    }
}

/* ---- sockets ---- */

static int set_int_option(int handle, int level, int name, int value) {
    return result_of(setsockopt(handle, level, name, &value, sizeof(value)));
}

/* Where send() has no MSG_NOSIGNAL the socket itself must be told. The library's sockets pass here by
 * open, accept or set_nonblocking. It fails on what is no socket, which can't raise SIGPIPE by send(). */
static void quieten(int handle) {
#if !defined(MSG_NOSIGNAL) && defined(SO_NOSIGPIPE)
    (void)set_int_option(handle, SOL_SOCKET, SO_NOSIGPIPE, 1);
#else
    (void)handle;
#endif
}

static int set_nonblocking(p2p_handle_t handle, int enabled) {
    int value = enabled != 0;
    quieten(handle);
    return result_of(ioctl(handle, FIONBIO, &value)); /* one call, where fcntl needs two */
}

static int close_handle(p2p_handle_t handle) {
    /* Not retried on EINTR: the number is free again and may already be another thread's. */
    return result_of(close(handle));
}

#if !defined(__linux__)
/* For a handle whose system has no call that makes it the right way at once. */
static int finish_new_handle(int handle, int nonblocking) {
    int result = result_of(fcntl(handle, F_SETFD, FD_CLOEXEC));
    if (result >= 0) {
        result = set_nonblocking(handle, nonblocking); /* the BSDs pass on the listener's mode */
    }
    if (result < 0) {
        close(handle);
        return result;
    }
    return 0;
}
#endif

static int open_socket(p2p_handle_t *out, const p2p_address_t *family_of, p2p_socket_type_t type) {
    struct sockaddr_storage address;
    memcpy(&address, family_of->storage.bytes, sizeof(address));
    int kind = type == P2P_UDP ? SOCK_DGRAM : SOCK_STREAM;
#if defined(__linux__)
    kind |= SOCK_CLOEXEC;
#endif
    int handle = socket(address.ss_family, kind, 0);
    if (handle < 0) {
        return failure();
    }
#if !defined(__linux__)
    int result = finish_new_handle(handle, 0);
    if (result < 0) {
        return result;
    }
#endif
    *out = handle;
    return 0;
}

static int inspect_socket(int handle) {
    int bits = 0, kind = 0, listening = 0;
    socklen_t size = sizeof(kind);
    if (getsockopt(handle, SOL_SOCKET, SO_TYPE, &kind, &size) < 0) {
        return 0;
    }
    bits |= kind == SOCK_STREAM ? (int)P2P_SYS_STREAM : kind == SOCK_DGRAM ? (int)P2P_SYS_DATAGRAM : 0;
    size = sizeof(listening);
    if (getsockopt(handle, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening) {
        bits |= (int)P2P_SYS_LISTENING;
    }
    struct sockaddr_storage peer;
    size = sizeof(peer);
    if (getpeername(handle, (struct sockaddr *)&peer, &size) == 0) {
        bits |= (int)P2P_SYS_CONNECTED;
    }
    p2p_address_t local;
    if (p2pi_posix_local_address(handle, &local) == 0 && p2pi_posix_address_port(&local) > 0) {
        bits |= (int)P2P_SYS_BOUND;
    }
    return bits;
}

static int inspect(p2p_handle_t handle) {
    struct stat status;
    if (fstat(handle, &status) < 0) {
        return failure();
    }
    int bits = S_ISSOCK(status.st_mode) ? inspect_socket(handle) : 0;
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) { /* "always ready": nothing to wait for */
        bits |= (int)P2P_SYS_REGULAR_FILE;
    }
    int mode = fcntl(handle, F_GETFL);
    if (mode >= 0 && (mode & O_NONBLOCK)) {
        bits |= (int)P2P_SYS_NONBLOCKING;
    }
    return bits;
}

static int set_option(p2p_handle_t handle, p2p_sys_option option, int value) {
    switch (option) {
    case P2P_SYS_NODELAY: return set_int_option(handle, IPPROTO_TCP, TCP_NODELAY, value);
    case P2P_SYS_LISTENER: return set_int_option(handle, SOL_SOCKET, SO_REUSEADDR, value);
    case P2P_SYS_DUAL_STACK: return set_int_option(handle, IPPROTO_IPV6, IPV6_V6ONLY, !value);
    case P2P_SYS_RESET_ON_CLOSE: {
        struct linger linger = { value, 0 };
        return result_of(setsockopt(handle, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
    }
    }
    return -EINVAL;
}

static int bind_socket(p2p_handle_t handle, const p2p_address_t *address) {
    return result_of(bind(handle, (const struct sockaddr *)&address->storage, (socklen_t)address->length));
}

static int listen_socket(p2p_handle_t handle, int backlog) {
    return result_of(listen(handle, backlog <= 0 ? SOMAXCONN : backlog));
}

/* Linux passes errors of the waiting connection on to accept (accept(2), "Error handling"). */
static int accept_failure(void) {
    switch (errno) {
    case EPROTO: case ENOPROTOOPT: case EOPNOTSUPP: case EHOSTDOWN:
#if defined(ENONET)
    case ENONET:
#endif
        return -ECONNABORTED;
    default: return failure();
    }
}

static int accept_socket(p2p_handle_t listener, p2p_handle_t *out, int nonblocking) {
    int handle;
    do {
#if defined(__linux__)
        handle = accept4(listener, NULL, NULL, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
#else
        handle = accept(listener, NULL, NULL);
#endif
    } while (handle < 0 && errno == EINTR);
    if (handle < 0) {
        return accept_failure();
    }
#if !defined(__linux__)
    int result = finish_new_handle(handle, nonblocking);
    if (result < 0) {
        return result;
    }
#endif
    *out = handle;
    return 0;
}

/* After EINTR the attempt goes on by itself: "in progress". Connecting again would give EALREADY. */
static int connect_socket(p2p_handle_t handle, const p2p_address_t *address) {
    const struct sockaddr *name = (const struct sockaddr *)&address->storage;
    int result = result_of(connect(handle, name, (socklen_t)address->length));
    if (result == -EAGAIN) return -EADDRNOTAVAIL; /* no local port: nothing was begun, nothing will be ready */
    return result == -EINTR ? -EINPROGRESS : result;
}

static int connect_result(p2p_handle_t handle) {
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(handle, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        return failure();
    }
    return -error;
}

static int shutdown_send(p2p_handle_t handle) {
    return result_of(shutdown(handle, SHUT_WR));
}

/* ---- data ---- */

#if defined(__GNUC__)
#  define UNUSUAL __attribute__((noinline, cold))
#else
#  define UNUSUAL
#endif

/* A call that may block is made again after a signal. One that may not tells of the signal, as a moment in
 * which nothing could be done (see translate_error), and is as short as it can be: two of these serve each
 * message. */

UNUSUAL static int64_t recv_blocking(p2p_handle_t handle, void *buffer, size_t size) {
    ssize_t count;
    do {
        count = recv(handle, buffer, size, 0);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? failure() : count;
}

static int64_t recv_bytes(p2p_handle_t handle, void *buffer, size_t size, int dontwait) {
    if (!dontwait) return recv_blocking(handle, buffer, size);
    ssize_t count = recv(handle, buffer, size, MSG_DONTWAIT);
    return count < 0 ? failure() : count;
}

UNUSUAL static int64_t send_blocking(p2p_handle_t handle, const void *data, size_t size) {
    ssize_t sent;
    do {
        sent = send(handle, data, size, SEND_FLAGS);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? failure() : sent;
}

static int64_t send_bytes(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    if (!dontwait) return send_blocking(handle, data, size);
    ssize_t sent = send(handle, data, size, SEND_FLAGS | MSG_DONTWAIT);
    return sent < 0 ? failure() : sent;
}

static int64_t sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    struct msghdr message;
    memset(&message, 0, sizeof(message));
    message.msg_iov = (struct iovec *)(uintptr_t)iov; /* sendmsg only reads what it points to */
    message.msg_iovlen = count < IOV_COUNT_MAX ? count : IOV_COUNT_MAX;
    ssize_t sent;
    do {
        sent = sendmsg(handle, &message, SEND_FLAGS | (dontwait ? MSG_DONTWAIT : 0));
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? failure() : sent;
}

static int64_t recvfrom_bytes(p2p_handle_t handle, void *buffer, size_t size, p2p_address_t *from,
                              int dontwait) {
    p2p_address_t address;
    memset(&address, 0, sizeof(address));
    socklen_t length;
    ssize_t count;
    do {
        length = sizeof(address.storage);
        count = recvfrom(handle, buffer, size, dontwait ? MSG_DONTWAIT : 0,
                         (struct sockaddr *)&address.storage, &length);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        return failure();
    }
    if (from != NULL) {
        address.length = (uint32_t)length;
        *from = address;
    }
    return count;
}

static int64_t sendto_bytes(p2p_handle_t handle, const void *data, size_t size, const p2p_address_t *to,
                            int dontwait) {
    int flags = SEND_FLAGS | (dontwait ? MSG_DONTWAIT : 0);
    ssize_t sent;
    do {
        sent = sendto(handle, data, size, flags, to != NULL ? (const struct sockaddr *)&to->storage : NULL,
                      to != NULL ? (socklen_t)to->length : 0);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? failure() : sent;
}

/* ---- waiting ---- */

/* Seconds are bounded, since a system may have a 32-bit time_t; a wait that ends early is no harm (B2). */
static struct timespec *timespec_of(struct timespec *out, int64_t timeout_ns) {
    if (timeout_ns < 0) {
        return NULL;
    }
    int64_t seconds = timeout_ns / 1000000000;
    out->tv_sec = (time_t)(seconds < INT32_MAX ? seconds : INT32_MAX);
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

static int poll_handles(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
#if defined(__linux__)
    struct timespec timeout;
    return result_of(ppoll(fds, count, timespec_of(&timeout, timeout_ns), NULL));
#else
    return result_of(poll(fds, (nfds_t)count, milliseconds_of(timeout_ns)));
#endif
}

static int select_handles(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    struct timespec timeout;
    return result_of(pselect(nfds, readable, writable, exceptional, timespec_of(&timeout, timeout_ns), NULL));
}

static int wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns) {
    struct pollfd entry = { .fd = handle };
    entry.events = (short)((mask & P2P_READABLE ? POLLIN : 0) | (mask & P2P_WRITABLE ? POLLOUT : 0));
    int64_t begin_ns = now_ns();
    int64_t left_ns = timeout_ns;
    int result;
    while ((result = poll_handles(&entry, 1, left_ns)) == -EINTR) {
        if (timeout_ns > 0) {
            int64_t spent_ns = now_ns() - begin_ns;
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
static int epoll_make(void) {
    return result_of(epoll_create1(EPOLL_CLOEXEC));
}

static int epoll_change(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event) {
    return result_of(epoll_ctl(epoll, operation, handle, event));
}

static int epoll_harvest(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    if (!precise || timeout_ns <= 0) {
        return result_of(epoll_wait(epoll, events, capacity, milliseconds_of(timeout_ns)));
    }
#if defined(HAVE_EPOLL_PWAIT2)
    struct timespec timeout;
    int result = epoll_pwait2(epoll, events, capacity, timespec_of(&timeout, timeout_ns), NULL);
    /* EPERM: a container's filter that doesn't know the call. */
    return result < 0 && errno == EPERM ? -ENOSYS : result_of(result);
#else
    return -ENOSYS;
#endif
}
#endif

/* ---- ending a wait ---- */

static int wake_open(p2p_handle_t ends[2]) {
#if defined(__linux__)
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (handle < 0) {
        return failure();
    }
    ends[0] = ends[1] = handle;
    return 0;
#else
    int pair[2];
    if (pipe(pair) < 0) {
        return failure();
    }
    int result = finish_new_handle(pair[0], 1);
    if (result < 0) {
        close(pair[1]);
        return result;
    }
    result = finish_new_handle(pair[1], 1);
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
static int wake_signal(p2p_handle_t end) {
    int saved_errno = errno;
    uint64_t one = 1; /* what an eventfd wants; a pipe takes any bytes */
    ssize_t written;
    do {
        written = write(end, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    int result = written < 0 && failure() != -EAGAIN ? failure() : 0; /* full: a wake-up is under way */
    errno = saved_errno;
    return result;
}

static int wake_drain(p2p_handle_t end) {
    uint64_t bytes[64];
    ssize_t count;
    do {
        count = read(end, bytes, sizeof(bytes));
    } while (count == (ssize_t)sizeof(bytes) || (count < 0 && errno == EINTR));
    return count < 0 && failure() != -EAGAIN ? failure() : 0;
}

static void wake_close(p2p_handle_t ends[2]) {
    close(ends[0]);
    if (ends[1] != ends[0]) {
        close(ends[1]);
    }
}

static const p2p_sys_ops posix_table = {
    .size = sizeof(p2p_sys_ops),
    .start = start,
    .stop = stop,
    .now_ns = now_ns,
    .process_id = process_id,
    .environment = environment,
    .translate_error = translate_error,
    .address_parse = p2pi_posix_address_parse,
    .address_format = p2pi_posix_address_format,
    .address_port = p2pi_posix_address_port,
    .open = open_socket,
    .close = close_handle,
    .inspect = inspect,
    .set_nonblocking = set_nonblocking,
    .set_option = set_option,
    .bind = bind_socket,
    .listen = listen_socket,
    .accept = accept_socket,
    .connect = connect_socket,
    .connect_result = connect_result,
    .shutdown_send = shutdown_send,
    .local_address = p2pi_posix_local_address,
    .peer_address = p2pi_posix_peer_address,
    .recv = recv_bytes,
    .send = send_bytes,
    .sendv = sendv,
    .recvfrom = recvfrom_bytes,
    .sendto = sendto_bytes,
    .wait_one = wait_one,
    .wake_open = wake_open,
    .wake_signal = wake_signal,
    .wake_drain = wake_drain,
    .wake_close = wake_close,
    .poll = poll_handles,
    .select = select_handles,
#if defined(__linux__)
    .epoll_create = epoll_make,
    .epoll_ctl = epoll_change,
    .epoll_wait = epoll_harvest,
#endif
};

const p2p_sys_ops *p2p_sys_default(void) {
    return &posix_table;
}
