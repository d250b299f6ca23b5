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
struct io_uring_params;
struct kevent;
struct _OVERLAPPED_ENTRY;

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
    P2P_SYS_RESET_ON_CLOSE,  /**< SO_LINGER with 0 seconds */
    P2P_SYS_KEEPALIVE,       /**< SO_KEEPALIVE; 0: off, else after so many idle seconds */
    P2P_SYS_SEND_BUFFER,     /**< SO_SNDBUF, bytes */
    P2P_SYS_RECEIVE_BUFFER,  /**< SO_RCVBUF, bytes */
    P2P_SYS_REUSE_ADDRESS,   /**< SO_REUSEADDR, whatever that means to the system */
    P2P_SYS_REUSE_PORT,      /**< SO_REUSEPORT, or what shares connections out */
    P2P_SYS_BROADCAST        /**< SO_BROADCAST */
} p2p_sys_option;

/** A question to Windows' driver \Device\Afd: which of these events hold on a socket? A block of status as the system
 *  fills it, and the question in the driver's own form; the answer comes in its place. All of it is the system's from
 *  afd_poll until port_wait has given it back. */
typedef struct p2p_afd_poll {
    uintptr_t status, information; /**< status, its low 32 bits: an NTSTATUS, 0 or above is an answer */
    int64_t timeout;               /**< INT64_MAX: none */
    uint32_t count;                /**< 1; in the answer 0 when nothing holds */
    uint32_t exclusive;            /**< 0 */
    p2p_handle_t base;             /**< from lower_socket */
    uint32_t events;               /**< P2P_AFD_* */
    int32_t event_status;
} p2p_afd_poll;

#define P2P_AFD_RECEIVE 0x001u
#define P2P_AFD_SEND 0x004u
#define P2P_AFD_DISCONNECT 0x008u   /**< the peer has ended its side */
#define P2P_AFD_ABORT 0x010u        /**< the connection was reset */
#define P2P_AFD_LOCAL_CLOSE 0x020u  /**< this process has closed the socket */
#define P2P_AFD_ACCEPT 0x080u
#define P2P_AFD_CONNECT_FAIL 0x100u

/** What lower_socket is asked for: the socket of Windows' own provider, or one closer to it. */
typedef enum p2p_sys_lower { P2P_SYS_BASE, P2P_SYS_BSP_POLL, P2P_SYS_BSP_SELECT, P2P_SYS_BSP } p2p_sys_lower;

/** A thread's work, inside what belongs to it: thread_start keeps no memory of its own for it. */
typedef struct p2p_sys_thread {
    void (*run)(struct p2p_sys_thread *thread); /**< in the new thread; may free what it is part of */
} p2p_sys_thread;

/** A function of any type, to be cast to its own. */
typedef void (*p2p_sys_function)(void);

#define P2P_ADDRESS_KEY_SIZE 16

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
    /** One that says nothing about a socket of this family (TCP_NODELAY of a unix-domain one) is success. */
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
    /** io_uring_setup(2), io_uring_enter(2), io_uring_register(2). */
    int (*uring_setup)(uint32_t entries, struct io_uring_params *params);
    int (*uring_enter)(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                       size_t argument_size);
    int (*uring_register)(int ring, uint32_t operation, void *argument, uint32_t count);
    /** Map what the ring shares at this offset (IORING_OFF_*); a forked child has no part in it. */
    int (*uring_map)(int ring, uint64_t offset, size_t size, void **out);
    void (*uring_unmap)(void *memory, size_t size);
    int (*kqueue)(void);
    /** Never changes errno: signal handlers wake a loop by it. */
    int (*kevent)(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                  int64_t timeout_ns);

    /* Windows: a completion port, and the driver below Winsock, whose results come to it; NULL elsewhere */
    int (*port_open)(p2p_handle_t *out);
    /** Results that are there, at most `capacity`; one without lpOverlapped is from port_post. @return how many. */
    int (*port_wait)(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns);
    int (*port_post)(p2p_handle_t port);    /**< ends a port_wait, from any thread */
    int (*port_close)(p2p_handle_t handle); /**< a port, or what afd_open gave */
    /** One of ntdll.dll, which Windows doesn't promise to keep; NULL when it has none of that name. */
    p2p_sys_function (*nt_function)(const char *name);
    int (*afd_open)(p2p_sys_function nt_create_file, p2p_handle_t port, p2p_handle_t *out);
    /** 0: the answer will come to the port. An error: it will not. */
    int (*afd_poll)(p2p_sys_function nt_device_io_control_file, p2p_handle_t device, p2p_afd_poll *poll);
    /** The answer still comes, as STATUS_CANCELLED or what was on its way. */
    int (*afd_cancel)(p2p_sys_function nt_cancel_io_file_ex, p2p_handle_t device, p2p_afd_poll *poll);
    /** What is below a socket of a layered provider; where there is none, the socket itself. */
    int (*lower_socket)(p2p_handle_t handle, p2p_sys_lower which, p2p_handle_t *out);

    /* names; with NULL, connecting by name is P2P_ERR_NOT_SUPPORTED */
    /** All addresses of a host, in the system's order of preference. Blocks, for many seconds when nobody answers.
     *  @return how many, at most `capacity`; P2P_ERR_NAME_NOT_FOUND, NO_MEMORY, SYSTEM. */
    int (*resolve)(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out, uint32_t capacity);
    /** A thread that ends by itself and that nobody waits for. No signal handler runs in it. */
    int (*thread_start)(p2p_sys_thread *thread);
    void (*thread_rest)(void); /**< let other threads run: a millisecond, more or less */
    /** What connections of one peer have in common: all of an IPv4 address (also of one that is mapped into IPv6), the
     *  first 8 bytes of an IPv6 one. @return how many bytes of `key` that is; 0: such addresses are not counted. */
    int (*address_key)(const p2p_address_t *address, uint8_t key[P2P_ADDRESS_KEY_SIZE]);
    int (*get_option)(p2p_handle_t handle, p2p_sys_option option, int *value);
} p2p_sys_ops;

/** @return the table of the operating system this was built for, to copy and change. Static. Thread: any. */
P2P_API const p2p_sys_ops *p2p_sys_default(void);

#ifdef __cplusplus
}
#endif
#endif
