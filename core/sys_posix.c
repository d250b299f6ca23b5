/*
 * The system table of POSIX systems: sockets and the clock. With its other parts (sys_address.c,
 * sys_posix_option.c, sys_posix_unix.c, sys_posix_wait.c, sys_posix_thread.c) this is the only file that calls the
 * operating system.
 *
 * Every function is one call, with EINTR and the platform's gaps smoothed over, and gives 0, a
 * positive value or -errno. No state is kept, so all of them may be called from any thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* accept4, ppoll, secure_getenv */
#endif

#include "sys_posix.h"
#include "sys_sockets.h"

#include <p2pnet/error.h>
#include <p2pnet/watch.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/sockios.h>
#endif

#if defined(MSG_NOSIGNAL)
#define SEND_FLAGS MSG_NOSIGNAL
#else
#define SEND_FLAGS 0 /* macOS before 14: quieten() asks for it socket by socket */
#endif

#define IOV_COUNT_MAX 1024u /* Linux, the BSDs and macOS refuse more with EMSGSIZE or EINVAL */

_Static_assert(sizeof(p2p_iov) == sizeof(struct iovec), "p2p_iov is struct iovec");
_Static_assert(offsetof(p2p_iov, base) == offsetof(struct iovec, iov_base), "p2p_iov is struct iovec");
_Static_assert(offsetof(p2p_iov, len) == offsetof(struct iovec, iov_len), "p2p_iov is struct iovec");
_Static_assert(sizeof(struct sockaddr_storage) <= sizeof(((p2p_address_t *)0)->storage), "any address fits");

/* ---- process ---- */

static int start(void) {
    return 0;
}

static void stop(void) {
}

int64_t p2pi_posix_now_ns(void) {
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
    case EACCES: case EPERM: case EROFS: return P2P_ERR_ACCESS;
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
    case ENOENT: case ENOTDIR: return P2P_ERR_NOT_FOUND;
    case ENOSPC: case ERANGE: return P2P_ERR_LIMIT;
    case ECANCELED: return P2P_ERR_CANCELLED;
    case EBUSY: return P2P_ERR_BUSY;
    default: return P2P_ERR_SYSTEM;
    }
}

int p2pi_sys_failure(void) {
    return p2pi_posix_failure();
}

/* ---- sockets ---- */

uint32_t p2pi_sys_scope(const char *name) {
    return if_nametoindex(name);
}

/* Where send() has no MSG_NOSIGNAL the socket itself must be told. The library's sockets pass here by
 * open, accept or set_nonblocking. It fails on what is no socket, which can't raise SIGPIPE by send(). */
static void quieten(int handle) {
#if !defined(MSG_NOSIGNAL) && defined(SO_NOSIGPIPE)
    int value = 1;
    (void)setsockopt(handle, SOL_SOCKET, SO_NOSIGPIPE, &value, sizeof(value));
#else
    (void)handle;
#endif
}

static int set_nonblocking(p2p_handle_t handle, int enabled) {
    int value = enabled != 0;
    quieten(handle);
    return p2pi_posix_result(ioctl(handle, FIONBIO, &value)); /* one call, where fcntl needs two */
}

static int close_handle(p2p_handle_t handle) {
    /* Not retried on EINTR: the number is free again and may already be another thread's. */
    return p2pi_posix_result(close(handle));
}

#if !defined(__linux__)
/* For a handle whose system has no call that makes it the right way at once. */
int p2pi_posix_finish_handle(int handle, int nonblocking) {
    int result = p2pi_posix_result(fcntl(handle, F_SETFD, FD_CLOEXEC));
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
        return p2pi_posix_failure();
    }
#if !defined(__linux__)
    int result = p2pi_posix_finish_handle(handle, 0);
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
    if (p2pi_local_address(handle, &local) == 0 && (p2pi_address_port(&local) > 0 || p2pi_unix_has_name(&local))) {
        bits |= (int)P2P_SYS_BOUND;
    }
    return bits;
}

static int inspect(p2p_handle_t handle) {
    struct stat status;
    if (fstat(handle, &status) < 0) {
        return p2pi_posix_failure();
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

static int bind_socket(p2p_handle_t handle, const p2p_address_t *address) {
    if (p2pi_is_unix(address)) return p2pi_unix_bind(handle, address);
    return p2pi_posix_result(bind(handle, (const struct sockaddr *)&address->storage, (socklen_t)address->length));
}

static int listen_socket(p2p_handle_t handle, int backlog) {
    return p2pi_posix_result(listen(handle, backlog <= 0 ? SOMAXCONN : backlog));
}

/* Linux passes errors of the waiting connection on to accept (accept(2), "Error handling"). */
static int accept_failure(void) {
    switch (errno) {
    case EPROTO: case ENOPROTOOPT: case EOPNOTSUPP: case EHOSTDOWN:
#if defined(ENONET)
    case ENONET:
#endif
        return -ECONNABORTED;
    default: return p2pi_posix_failure();
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
    int result = p2pi_posix_finish_handle(handle, nonblocking);
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
    int result = p2pi_posix_result(connect(handle, name, (socklen_t)address->length));
    if (result == -EAGAIN) /* nothing was begun, nothing will be ready: the listener is full; or no local port */
        return p2pi_is_unix(address) ? -ECONNREFUSED : -EADDRNOTAVAIL;
    return result == -EINTR ? -EINPROGRESS : result;
}

static int connect_result(p2p_handle_t handle) {
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(handle, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        return p2pi_posix_failure();
    }
    return -error;
}

static int shutdown_send(p2p_handle_t handle) {
    return p2pi_posix_result(shutdown(handle, SHUT_WR));
}

static int unsent(p2p_handle_t handle) {
#if defined(SIOCOUTQ) /* tcp(7) */
    int bytes = 0;
    return ioctl(handle, SIOCOUTQ, &bytes) < 0 ? p2pi_posix_failure() : bytes > 0;
#elif defined(SO_NWRITE)
    int bytes = 0;
    socklen_t size = sizeof(bytes);
    return getsockopt(handle, SOL_SOCKET, SO_NWRITE, &bytes, &size) < 0 ? p2pi_posix_failure() : bytes > 0;
#else
    (void)handle;
    return 1; /* nobody knows */
#endif
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
    return count < 0 ? p2pi_posix_failure() : count;
}

static int64_t recv_bytes(p2p_handle_t handle, void *buffer, size_t size, int dontwait) {
    if (!dontwait) return recv_blocking(handle, buffer, size);
    ssize_t count = recv(handle, buffer, size, MSG_DONTWAIT);
    return count < 0 ? p2pi_posix_failure() : count;
}

UNUSUAL static int64_t send_blocking(p2p_handle_t handle, const void *data, size_t size) {
    ssize_t sent;
    do {
        sent = send(handle, data, size, SEND_FLAGS);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? p2pi_posix_failure() : sent;
}

static int64_t send_bytes(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    if (!dontwait) return send_blocking(handle, data, size);
    ssize_t sent = send(handle, data, size, SEND_FLAGS | MSG_DONTWAIT);
    return sent < 0 ? p2pi_posix_failure() : sent;
}

static int64_t sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    struct msghdr message;
    memset(&message, 0, sizeof(message));
    message.msg_iov = (struct iovec *)(uintptr_t)iov; /* sendmsg only reads what it points to */
    message.msg_iovlen = (uint16_t)(count < IOV_COUNT_MAX ? count : IOV_COUNT_MAX); /* of int or size_t */
    ssize_t sent;
    do {
        sent = sendmsg(handle, &message, SEND_FLAGS | (dontwait ? MSG_DONTWAIT : 0));
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? p2pi_posix_failure() : sent;
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
        return p2pi_posix_failure();
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
    return sent < 0 ? p2pi_posix_failure() : sent;
}

static const p2p_sys_ops posix_table = {
    .size = sizeof(p2p_sys_ops),
    .start = start,
    .stop = stop,
    .now_ns = p2pi_posix_now_ns,
    .process_id = process_id,
    .environment = environment,
    .translate_error = translate_error,
    .address_parse = p2pi_address_parse,
    .address_format = p2pi_address_format,
    .address_port = p2pi_address_port,
    .open = open_socket,
    .close = close_handle,
    .inspect = inspect,
    .set_nonblocking = set_nonblocking,
    .set_option = p2pi_posix_set_option,
    .bind = bind_socket,
    .listen = listen_socket,
    .accept = accept_socket,
    .connect = connect_socket,
    .connect_result = connect_result,
    .shutdown_send = shutdown_send,
    .unsent = unsent,
    .local_address = p2pi_local_address,
    .peer_address = p2pi_peer_address,
    .recv = recv_bytes,
    .send = send_bytes,
    .sendv = sendv,
    .recvfrom = recvfrom_bytes,
    .sendto = sendto_bytes,
    .wait_one = p2pi_posix_wait_one,
    .wake_open = p2pi_posix_wake_open,
    .wake_signal = p2pi_posix_wake_signal,
    .wake_drain = p2pi_posix_wake_drain,
    .wake_close = p2pi_posix_wake_close,
    .poll = p2pi_posix_poll,
    .select = p2pi_posix_select,
#if defined(__linux__)
    .epoll_create = p2pi_posix_epoll_create,
    .epoll_ctl = p2pi_posix_epoll_ctl,
    .epoll_wait = p2pi_posix_epoll_wait,
    .uring_setup = p2pi_linux_uring_setup,
    .uring_enter = p2pi_linux_uring_enter,
    .uring_register = p2pi_linux_uring_register,
    .uring_map = p2pi_linux_uring_map,
    .uring_unmap = p2pi_linux_uring_unmap,
#endif
#if defined(P2PI_POSIX_KQUEUE)
    .kqueue = p2pi_posix_kqueue,
    .kevent = p2pi_posix_kevent,
#endif
    .resolve = p2pi_resolve,
    .thread_start = p2pi_posix_thread_start,
    .thread_rest = p2pi_posix_thread_rest,
    .address_key = p2pi_address_key,
    .get_option = p2pi_posix_get_option,
};

const p2p_sys_ops *p2p_sys_default(void) {
    return &posix_table;
}
