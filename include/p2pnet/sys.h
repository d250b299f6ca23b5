/**
 * @file p2pnet/sys.h
 * @brief The system table: the only door from p2pnet to the operating system.
 *
 * Programs don't need it. Tests replace entries to inject faults, and a simulated network
 * replaces them all, by p2p_init_with. Backends get the table in their env.
 *
 * Conventions: 0 or a positive value is success; a failure is the negative operating system
 * error (-errno, or minus the WSA code), which translate_error turns into P2P_ERR_*.
 * EINTR is retried inside wherever a retry is right, and reported where it says so.
 */
#ifndef P2PNET_SYS_H
#define P2PNET_SYS_H

#include <p2pnet/base.h>
#include <p2pnet/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pollfd;
struct epoll_event;
struct kevent;

/** A piece of memory to send; has the layout of struct iovec, on Windows of WSABUF. */
#if defined(_WIN32)
typedef struct p2p_iov { uint32_t len; char *base; } p2p_iov;
#else
typedef struct p2p_iov { char *base; size_t len; } p2p_iov;
#endif

/** What inspect() found out about a handle. */
#define P2P_SYS_STREAM 0x01u
#define P2P_SYS_DATAGRAM 0x02u
#define P2P_SYS_LISTENING 0x04u
#define P2P_SYS_CONNECTED 0x08u
#define P2P_SYS_BOUND 0x10u
#define P2P_SYS_REGULAR_FILE 0x20u
#define P2P_SYS_NONBLOCKING 0x40u
#define P2P_SYS_MODE_UNKNOWN 0x80u /**< Windows can't tell whether P2P_SYS_NONBLOCKING */

typedef enum p2p_sys_option {
    P2P_SYS_NODELAY,         /**< TCP_NODELAY: gathering is done by the library, not by Nagle */
    P2P_SYS_LISTENER,        /**< the platform's option for a listener: SO_REUSEADDR, SO_EXCLUSIVEADDRUSE */
    P2P_SYS_DUAL_STACK,      /**< IPV6_V6ONLY off: "::" takes IPv4 too */
    P2P_SYS_RESET_ON_CLOSE   /**< SO_LINGER with 0 seconds */
} p2p_sys_option;

typedef struct p2p_sys_ops {
    size_t size; /**< sizeof(p2p_sys_ops) */

    /* process */
    int (*start)(void); /**< p2p_init: starts Winsock */
    void (*stop)(void);
    int64_t (*now_ns)(void); /**< monotonic clock */
    int64_t (*process_id)(void);
    const char *(*environment)(const char *name); /**< NULL when unset or the process is setuid */
    int (*translate_error)(int os_error);         /**< positive OS number -> P2P_ERR_*, 0 -> 0 */

    /* addresses: pure; 0, a length, or P2P_ERR_* */
    int (*address_parse)(p2p_address_t *out, const char *text, uint16_t port);
    int (*address_format)(const p2p_address_t *address, char *text, size_t size);
    int (*address_port)(const p2p_address_t *address);

    /* sockets; new handles are never inherited by child programs */
    int (*open)(p2p_handle_t *out, const p2p_address_t *family_of, p2p_socket_type_t type); /**< blocking */
    int (*close)(p2p_handle_t handle);
    int (*inspect)(p2p_handle_t handle); /**< P2P_SYS_* bits */
    int (*set_nonblocking)(p2p_handle_t handle, int enabled);
    int (*set_option)(p2p_handle_t handle, p2p_sys_option option, int value);
    int (*bind)(p2p_handle_t handle, const p2p_address_t *address);
    int (*listen)(p2p_handle_t handle, int backlog);
    int (*accept)(p2p_handle_t listener, p2p_handle_t *out, int nonblocking);
    int (*connect)(p2p_handle_t handle, const p2p_address_t *address); /**< in progress, EINTR too: (WSA)EINPROGRESS */
    int (*connect_result)(p2p_handle_t handle); /**< SO_ERROR of a finished connect: 0 or negative */
    int (*shutdown_send)(p2p_handle_t handle);
    int (*unsent)(p2p_handle_t handle); /**< 1: bytes the peer has not confirmed, or nobody knows; 0: none */
    int (*local_address)(p2p_handle_t handle, p2p_address_t *out);
    int (*peer_address)(p2p_handle_t handle, p2p_address_t *out);

    /* data; dontwait 1: never blocks, whatever the handle's mode (on Windows, which has no MSG_DONTWAIT: on a
     * non-blocking handle only). Never raises SIGPIPE. */
    int64_t (*recv)(p2p_handle_t handle, void *buffer, size_t size, int dontwait);
    int64_t (*send)(p2p_handle_t handle, const void *data, size_t size, int dontwait);
    int64_t (*sendv)(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait);
    int64_t (*recvfrom)(p2p_handle_t handle, void *buffer, size_t size, p2p_address_t *from, int dontwait);
    int64_t (*sendto)(p2p_handle_t handle, const void *data, size_t size, const p2p_address_t *to, int dontwait);

    /** Wait for one handle: mask and result are P2P_READABLE, P2P_WRITABLE; 0 = timeout. */
    int (*wait_one)(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns);

    /* a way to end a wait from another thread: ends[0] becomes readable, ends[1] is signalled */
    int (*wake_open)(p2p_handle_t ends[2]);
    int (*wake_signal)(p2p_handle_t end); /**< async-signal-safe on POSIX; a full pipe is success */
    int (*wake_drain)(p2p_handle_t end);
    void (*wake_close)(p2p_handle_t ends[2]);

    /* mechanisms of the backends; NULL where the platform has none. timeout_ns < 0 waits for ever,
     * fractions round up. EINTR is reported. */
    /** On Windows WSAPoll: at least one entry, and no events but POLLRDNORM and POLLWRNORM. */
    int (*poll)(struct pollfd *fds, uint32_t count, int64_t timeout_ns);
    int (*select)(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns);
    int (*epoll_create)(void);
    int (*epoll_ctl)(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event);
    /** precise 1: to the nanosecond, or -ENOSYS where the kernel can't (epoll_pwait2, Linux 5.11); 0: whole ms. */
    int (*epoll_wait)(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise);
    int (*kqueue)(void);
    /** Never changes errno: signal handlers wake a loop by it. */
    int (*kevent)(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                  int64_t timeout_ns);
} p2p_sys_ops;

/** @return the table of the operating system this was built for, to copy and change. Static. Thread: any. */
P2P_API const p2p_sys_ops *p2p_sys_default(void);

#ifdef __cplusplus
}
#endif
#endif
