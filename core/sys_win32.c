/*
 * The system table of Windows: Winsock and the clock. With its other parts (sys_address.c, sys_win32_option.c,
 * sys_win32_wait.c, sys_win32_afd.c, sys_win32_thread.c) this is the only file that calls the operating system there.
 *
 * Every function is one call, with Winsock's peculiarities smoothed over, and gives 0, a positive value or
 * minus the WSA code. No state is kept but Winsock's own, so all of them may be called from any thread.
 */
#include "sys_win32.h"

#include <p2pnet/error.h>

#include <limits.h>
#include <mswsock.h>
#include <stdlib.h>
#include <string.h>

/* A newer SDK names them; older ones and some of mingw-w64 don't. */
#if !defined(WSA_FLAG_NO_HANDLE_INHERIT)
#  define WSA_FLAG_NO_HANDLE_INHERIT 0x80 /* Windows 7 SP1 */
#endif
#if !defined(SIO_UDP_CONNRESET)
#  define SIO_UDP_CONNRESET _WSAIOW(IOC_VENDOR, 12)
#endif
#if !defined(SIO_UDP_NETRESET)
#  define SIO_UDP_NETRESET _WSAIOW(IOC_VENDOR, 15) /* Windows 8 */
#endif
#if !defined(SOMAXCONN_HINT)
#  define SOMAXCONN_HINT(backlog) (-(backlog))
#endif

#define IOV_COUNT_MAX 1024 /* Wine's limit, which is that of the system below it */
/* A non-blocking send takes all it is given or nothing, and fails for good (WSAENOBUFS) when that is very much. */
#define SEND_SIZE_MAX (1 << 20)
#define BACKLOG_MAX 200 /* more must be asked for by SOMAXCONN_HINT */

_Static_assert(sizeof(p2p_iov) == sizeof(WSABUF), "p2p_iov is WSABUF");
_Static_assert(offsetof(p2p_iov, len) == offsetof(WSABUF, len), "p2p_iov is WSABUF");
_Static_assert(offsetof(p2p_iov, base) == offsetof(WSABUF, buf), "p2p_iov is WSABUF");
_Static_assert(sizeof(p2p_handle_t) == sizeof(SOCKET), "p2p_handle_t is SOCKET");
_Static_assert(sizeof(struct sockaddr_storage) <= sizeof(((p2p_address_t *)0)->storage), "any address fits");

/* ---- process ---- */

/* Providers that stand between Winsock and the system (VPN, virus scanners) have been seen to fail without a reason. */
int p2pi_sys_failure(void) {
    int error = WSAGetLastError();
    return error != 0 ? -error : -WSASYSCALLFAILURE;
}

static int start(void) {
    WSADATA facts;
    return -WSAStartup(MAKEWORD(2, 2), &facts); /* the one call that returns its error */
}

static void stop(void) {
    WSACleanup();
}

/* Both calls can't fail since Windows XP. Seconds and the rest apart, so that nothing overflows. */
static int64_t now_ns(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&ticks);
    int64_t seconds = ticks.QuadPart / frequency.QuadPart, rest = ticks.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

static int64_t process_id(void) {
    return (int64_t)GetCurrentProcessId();
}

static const char *environment(const char *name) {
    return getenv(name);
}

/* https://learn.microsoft.com/windows/win32/winsock/windows-sockets-error-codes-2 */
static int translate_error(int os_error) {
    switch (os_error) {
    case 0: return 0;
    case WSAEWOULDBLOCK: return P2P_ERR_WOULD_BLOCK;
    case WSAESHUTDOWN: case WSAEDISCON: return P2P_ERR_CLOSED;
    case WSAENOTCONN: case WSAEDESTADDRREQ: return P2P_ERR_NOT_CONNECTED;
    case WSAECONNRESET: case WSAECONNABORTED: case WSAENETRESET: return P2P_ERR_RESET;
    case WSAECONNREFUSED: return P2P_ERR_REFUSED;
    case WSAETIMEDOUT: return P2P_ERR_TIMED_OUT;
    case WSAENETUNREACH: case WSAEHOSTUNREACH: case WSAENETDOWN: case WSAEHOSTDOWN: return P2P_ERR_UNREACHABLE;
    case WSAEADDRINUSE: return P2P_ERR_ADDRESS_IN_USE;
    case WSAEADDRNOTAVAIL: return P2P_ERR_ADDRESS_NOT_AVAILABLE;
    case WSAEACCES: return P2P_ERR_ACCESS;
    case WSAEMFILE: case WSAEPROCLIM: return P2P_ERR_TOO_MANY_FILES;
    case WSA_NOT_ENOUGH_MEMORY: case WSAENOBUFS: return P2P_ERR_NO_MEMORY;
    case WSAEMSGSIZE: return P2P_ERR_TOO_LONG;
    case WSAEAFNOSUPPORT: case WSAEPFNOSUPPORT: case WSAEPROTONOSUPPORT: case WSAESOCKTNOSUPPORT: case WSAEOPNOTSUPP:
    case WSASYSNOTREADY: case WSAVERNOTSUPPORTED: case ERROR_PROC_NOT_FOUND: case ERROR_DEV_NOT_EXIST:
        return P2P_ERR_NOT_SUPPORTED;
    case WSAEISCONN: case WSAEALREADY: case WSAEINPROGRESS: return P2P_ERR_ALREADY;
    case WSAEINVAL: case WSAEBADF: case WSAENOTSOCK: case WSAEFAULT: case WSA_INVALID_HANDLE:
    case WSA_INVALID_PARAMETER:
        return P2P_ERR_INVALID;
    case WSAEINTR: /* the handle was closed under a call that waited */
    case WSAECANCELLED: case WSA_E_CANCELLED: case WSA_OPERATION_ABORTED: return P2P_ERR_CANCELLED;
    case WSAHOST_NOT_FOUND: case WSANO_DATA: case WSATRY_AGAIN: return P2P_ERR_NAME_NOT_FOUND;
    default: return P2P_ERR_SYSTEM;
    }
}

/* ---- sockets ---- */

/* Names of interfaces would need another library (iphlpapi): here a scope is a number, as ipconfig shows it. */
uint32_t p2pi_sys_scope(const char *name) {
    (void)name;
    return 0;
}

int p2pi_win32_set_nonblocking(p2p_handle_t handle, int enabled) {
    u_long value = enabled != 0;
    return p2pi_win32_result(ioctlsocket(handle, (long)FIONBIO, &value));
}

static int close_handle(p2p_handle_t handle) {
    return p2pi_win32_result(closesocket(handle));
}

/* An ICMP answer to one datagram would make a later receive fail, though the socket serves other peers as well. */
static void ignore_unreachable(p2p_handle_t handle) {
    BOOL reported = FALSE;
    DWORD size;
    (void)WSAIoctl(handle, SIO_UDP_CONNRESET, &reported, sizeof(reported), NULL, 0, &size, NULL, NULL);
    (void)WSAIoctl(handle, SIO_UDP_NETRESET, &reported, sizeof(reported), NULL, 0, &size, NULL, NULL);
}

/* On some machines getpeername succeeds while a connect is still under way. SO_CONNECT_TIME is -1 until a stream is
 * connected; other sockets don't know it. */
static int peer_address(p2p_handle_t handle, p2p_address_t *out) {
    DWORD seconds = 0;
    int size = sizeof(seconds);
    if (getsockopt(handle, SOL_SOCKET, SO_CONNECT_TIME, (char *)&seconds, &size) == 0 && seconds == UINT32_MAX)
        return -WSAENOTCONN;
    return p2pi_peer_address(handle, out);
}

int p2pi_win32_open(p2p_handle_t *out, int family, int type) {
    SOCKET handle = WSASocketW(family, type, 0, NULL, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (handle == INVALID_SOCKET) return p2pi_sys_failure();
    *out = handle;
    return 0;
}

static int open_socket(p2p_handle_t *out, const p2p_address_t *family_of, p2p_socket_type_t type) {
    struct sockaddr_storage address;
    memcpy(&address, family_of->storage.bytes, sizeof(address));
    int result = p2pi_win32_open(out, address.ss_family, type == P2P_UDP ? SOCK_DGRAM : SOCK_STREAM);
    if (result == 0 && type == P2P_UDP) ignore_unreachable(*out);
    return result;
}

static int inspect(p2p_handle_t handle) {
    int bits = (int)P2P_SYS_MODE_UNKNOWN, kind = 0, listening = 0, size = sizeof(kind);
    if (getsockopt(handle, SOL_SOCKET, SO_TYPE, (char *)&kind, &size) < 0) return p2pi_sys_failure();
    bits |= kind == SOCK_STREAM ? (int)P2P_SYS_STREAM : kind == SOCK_DGRAM ? (int)P2P_SYS_DATAGRAM : 0;
    size = sizeof(listening);
    if (getsockopt(handle, SOL_SOCKET, SO_ACCEPTCONN, (char *)&listening, &size) == 0 && listening)
        bits |= (int)P2P_SYS_LISTENING;
    p2p_address_t address;
    if (peer_address(handle, &address) == 0) bits |= (int)P2P_SYS_CONNECTED;
    if (p2pi_local_address(handle, &address) == 0 && p2pi_address_port(&address) > 0) bits |= (int)P2P_SYS_BOUND;
    return bits;
}

static int bind_socket(p2p_handle_t handle, const p2p_address_t *address) {
    return p2pi_win32_result(bind(handle, (const struct sockaddr *)&address->storage, (int)address->length));
}

static int listen_socket(p2p_handle_t handle, int backlog) {
    if (backlog <= 0) backlog = SOMAXCONN;
    else if (backlog > BACKLOG_MAX) backlog = SOMAXCONN_HINT(backlog);
    return p2pi_win32_result(listen(handle, backlog));
}

static int accept_socket(p2p_handle_t listener, p2p_handle_t *out, int nonblocking) {
    SOCKET handle = accept(listener, NULL, NULL);
    if (handle == INVALID_SOCKET) return p2pi_sys_failure();
    SetHandleInformation((HANDLE)handle, HANDLE_FLAG_INHERIT, 0);
    int result = p2pi_win32_set_nonblocking(handle, nonblocking); /* it begins with the listener's */
    if (result < 0) {
        closesocket(handle);
        return result;
    }
    *out = handle;
    return 0;
}

static int connect_socket(p2p_handle_t handle, const p2p_address_t *address) {
    int result =
        p2pi_win32_result(connect(handle, (const struct sockaddr *)&address->storage, (int)address->length));
    return result == -WSAEWOULDBLOCK ? -WSAEINPROGRESS : result;
}

/* Wine 8 forgets why a connection was reset: SO_ERROR is 0, there is no peer, and recv gives 0, the end. WSAPoll still
 * tells it. Windows' own recv fails with WSAECONNRESET, so that this is asked there once for each end, in vain. */
static int was_reset(p2p_handle_t handle) {
    WSAPOLLFD entry = { .fd = handle, .events = POLLRDNORM };
    const short both = POLLERR | POLLHUP;
    return WSAPoll(&entry, 1, 0) > 0 && (entry.revents & both) == both;
}

static int pending_error(p2p_handle_t handle) {
    int error = 0, size = sizeof(error);
    if (getsockopt(handle, SOL_SOCKET, SO_ERROR, (char *)&error, &size) < 0) return p2pi_sys_failure();
    return -error;
}

static int connect_result(p2p_handle_t handle) {
    p2p_address_t peer;
    int result = pending_error(handle);
    if (result < 0 || peer_address(handle, &peer) == 0 || !was_reset(handle)) return result;
    result = pending_error(handle); /* it may have come in the meantime */
    return result < 0 ? result : -WSAECONNRESET;
}

static int shutdown_send(p2p_handle_t handle) {
    return p2pi_win32_result(shutdown(handle, SD_SEND));
}

/* SIO_TCP_INFO counts what is in flight, not what still waits to be sent: nobody knows. */
static int unsent(p2p_handle_t handle) {
    (void)handle;
    return 1;
}

/* ---- data ---- */

/* Winsock has no MSG_DONTWAIT: `dontwait` is kept because the handle is non-blocking (sys.h). Nor has it SIGPIPE. */

static int length_of(size_t size) {
    return size < INT_MAX ? (int)size : INT_MAX;
}

static int send_length_of(size_t size) {
    return size < SEND_SIZE_MAX ? (int)size : SEND_SIZE_MAX;
}

/* A datagram that was cut off is an error only here. */
static int64_t receive_failure(size_t size) {
    int error = WSAGetLastError();
    return error == WSAEMSGSIZE ? length_of(size) : -error;
}

static int64_t recv_bytes(p2p_handle_t handle, void *buffer, size_t size, int dontwait) {
    (void)dontwait;
    int count = recv(handle, buffer, length_of(size), 0);
    if (count > 0) return count;
    if (count < 0) return receive_failure(size);
    return size > 0 && was_reset(handle) ? -WSAECONNRESET : 0;
}

static int64_t send_bytes(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    (void)dontwait;
    int sent = send(handle, data, send_length_of(size), 0);
    return sent < 0 ? p2pi_sys_failure() : sent;
}

/* How many of the pieces one call takes. */
static uint32_t pieces_of(const p2p_iov *iov, uint32_t count) {
    uint32_t pieces = 0;
    for (uint32_t left = SEND_SIZE_MAX; pieces < count && pieces < IOV_COUNT_MAX && iov[pieces].len <= left; pieces++)
        left -= iov[pieces].len;
    return pieces;
}

static int64_t sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    DWORD sent = 0;
    LPWSABUF buffers = (LPWSABUF)(uintptr_t)iov; /* WSASend only reads what it points to */
    uint32_t pieces = pieces_of(iov, count);
    if (pieces == 0 && count > 0) return send_bytes(handle, iov[0].base, iov[0].len, dontwait);
    int result = WSASend(handle, buffers, pieces, &sent, 0, NULL, NULL);
    return result < 0 ? p2pi_sys_failure() : (int64_t)sent;
}

/* The other side of an earlier datagram could not be reached (see ignore_unreachable; an adopted socket has not been
 * told to ignore it): that is no answer to this call. */
static int is_about_earlier(int error) {
    return error == WSAECONNRESET || error == WSAENETRESET;
}

static int64_t recvfrom_bytes(p2p_handle_t handle, void *buffer, size_t size, p2p_address_t *from, int dontwait) {
    (void)dontwait;
    p2p_address_t address;
    memset(&address, 0, sizeof(address));
    int length, count;
    do {
        length = sizeof(address.storage);
        count = recvfrom(handle, buffer, length_of(size), 0, (struct sockaddr *)&address.storage, &length);
    } while (count < 0 && is_about_earlier(WSAGetLastError()));
    int64_t result = count < 0 ? receive_failure(size) : count;
    if (result >= 0 && from != NULL) {
        address.length = (uint32_t)length;
        *from = address;
    }
    return result;
}

static int64_t sendto_bytes(p2p_handle_t handle, const void *data, size_t size, const p2p_address_t *to,
                            int dontwait) {
    (void)dontwait;
    int sent = sendto(handle, data, length_of(size), 0, to != NULL ? (const struct sockaddr *)&to->storage : NULL,
                      to != NULL ? (int)to->length : 0);
    return sent < 0 ? p2pi_sys_failure() : sent;
}

static const p2p_sys_ops win32_table = {
    .size = sizeof(p2p_sys_ops),
    .start = start,
    .stop = stop,
    .now_ns = now_ns,
    .process_id = process_id,
    .environment = environment,
    .translate_error = translate_error,
    .address_parse = p2pi_address_parse,
    .address_format = p2pi_address_format,
    .address_port = p2pi_address_port,
    .open = open_socket,
    .close = close_handle,
    .inspect = inspect,
    .set_nonblocking = p2pi_win32_set_nonblocking,
    .set_option = p2pi_win32_set_option,
    .bind = bind_socket,
    .listen = listen_socket,
    .accept = accept_socket,
    .connect = connect_socket,
    .connect_result = connect_result,
    .shutdown_send = shutdown_send,
    .unsent = unsent,
    .local_address = p2pi_local_address,
    .peer_address = peer_address,
    .recv = recv_bytes,
    .send = send_bytes,
    .sendv = sendv,
    .recvfrom = recvfrom_bytes,
    .sendto = sendto_bytes,
    .wait_one = p2pi_win32_wait_one,
    .wake_open = p2pi_win32_wake_open,
    .wake_signal = p2pi_win32_wake_signal,
    .wake_drain = p2pi_win32_wake_drain,
    .wake_close = p2pi_win32_wake_close,
    .poll = p2pi_win32_poll,
    .select = p2pi_win32_select,
    .port_open = p2pi_win32_port_open,
    .port_wait = p2pi_win32_port_wait,
    .port_post = p2pi_win32_port_post,
    .port_close = p2pi_win32_port_close,
    .nt_function = p2pi_win32_nt_function,
    .afd_open = p2pi_win32_afd_open,
    .afd_poll = p2pi_win32_afd_poll,
    .afd_cancel = p2pi_win32_afd_cancel,
    .lower_socket = p2pi_win32_lower_socket,
    .resolve = p2pi_resolve,
    .thread_start = p2pi_win32_thread_start,
    .thread_rest = p2pi_win32_thread_rest,
    .address_key = p2pi_address_key,
    .get_option = p2pi_win32_get_option,
};

const p2p_sys_ops *p2p_sys_default(void) {
    return &win32_table;
}
