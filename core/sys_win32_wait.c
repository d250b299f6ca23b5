/*
 * The Windows system table: WSAPoll, select and completion ports with timeouts in nanoseconds, and the pair of sockets
 * that ends a wait from another thread.
 */
#include "check.h"
#include "sys_win32.h"

#include <p2pnet/watch.h>

#include <limits.h>
#include <string.h>

/* ---- waiting ---- */

/* Rounded up, so that no wait ends early and spins. */
static int64_t round_up(int64_t timeout_ns, int64_t unit_ns) {
    return timeout_ns / unit_ns + (timeout_ns % unit_ns != 0);
}

static int whole_ms(int64_t timeout_ns) {
    int64_t timeout_ms = round_up(timeout_ns, 1000000);
    return timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
}

#ifdef P2P_ENABLE_ASSERT
/* Windows refuses the whole call for any other bit, and for no entries (WSAEINVAL). Wine accepts the bits: without
 * this, tests under Wine would not notice. */
static int is_accepted(const struct pollfd *fds, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if ((fds[i].events & ~(POLLRDNORM | POLLWRNORM)) != 0) return 0;
    }
    return count > 0;
}
#endif

int p2pi_win32_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    P2P_ASSERT(is_accepted(fds, count));
    return p2pi_win32_result(WSAPoll(fds, count, timeout_ns < 0 ? -1 : whole_ms(timeout_ns)));
}

int p2pi_win32_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    int64_t timeout_us = timeout_ns < 0 ? 0 : round_up(timeout_ns, 1000);
    int64_t seconds = timeout_us / 1000000;
    struct timeval timeout = { (long)(seconds < LONG_MAX ? seconds : LONG_MAX), (long)(timeout_us % 1000000) };
    return p2pi_win32_result(select(nfds, readable, writable, exceptional, timeout_ns < 0 ? NULL : &timeout));
}

/* select, because WSAPoll of older Windows does not tell of a connect that failed; it is in the exceptional set. */
int p2pi_win32_wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns) {
    fd_set sets[3];
    for (int i = 0; i < 3; i++) {
        sets[i].fd_count = 1;
        sets[i].fd_array[0] = handle;
    }
    int result = p2pi_win32_select(0, mask & P2P_READABLE ? &sets[0] : NULL, mask & P2P_WRITABLE ? &sets[1] : NULL,
                                   &sets[2], timeout_ns);
    if (result <= 0) return result;
    if (sets[2].fd_count > 0) return (int)mask; /* the next call on the handle says what happened */
    uint32_t ready = (mask & P2P_READABLE) != 0 && sets[0].fd_count > 0 ? P2P_READABLE : 0;
    return (int)(ready | ((mask & P2P_WRITABLE) != 0 && sets[1].fd_count > 0 ? P2P_WRITABLE : 0));
}

/* ---- completion ports ---- */

int p2pi_win32_port_open(p2p_handle_t *out) {
    HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1); /* one thread waits */
    if (port == NULL) return p2pi_sys_failure();
    *out = (p2p_handle_t)port;
    return 0;
}

int p2pi_win32_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns) {
    ULONG count = 0;
    DWORD timeout_ms = timeout_ns < 0 ? INFINITE : (DWORD)whole_ms(timeout_ns);
    if (GetQueuedCompletionStatusEx((HANDLE)port, results, capacity, &count, timeout_ms, FALSE)) return (int)count;
    int failed = p2pi_sys_failure();
    return failed == -WAIT_TIMEOUT ? 0 : failed;
}

int p2pi_win32_port_post(p2p_handle_t port) {
    DWORD error = GetLastError(); /* the interrupted code, on whatever thread, keeps its last error */
    int result = PostQueuedCompletionStatus((HANDLE)port, 0, 0, NULL) ? 0 : p2pi_sys_failure();
    SetLastError(error);
    return result;
}

int p2pi_win32_port_close(p2p_handle_t handle) {
    return CloseHandle((HANDLE)handle) ? 0 : p2pi_sys_failure();
}

/* ---- ending a wait ---- */

#define PAIR_DEADLINE_NS INT64_C(5000000000)

/* Neither pipes nor events can be waited for together with sockets: a connection of this process with itself. */

static int listen_to_loopback(p2p_handle_t *out, struct sockaddr_in *address) {
    int result = p2pi_win32_open(out, AF_INET, SOCK_STREAM);
    if (result < 0) return result;
    BOOL exclusive = TRUE;
    int size = sizeof(*address);
    memset(address, 0, sizeof(*address));
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (setsockopt(*out, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (const char *)&exclusive, sizeof(exclusive)) == 0 &&
        bind(*out, (struct sockaddr *)address, size) == 0 &&
        getsockname(*out, (struct sockaddr *)address, &size) == 0 && listen(*out, SOMAXCONN) == 0)
        return 0;
    result = p2pi_sys_failure();
    closesocket(*out);
    return result;
}

/* Of the connections that come, the one that is ours; another program may have been quicker. A filter between Winsock
 * and the system may have dropped ours: then this fails, instead of waiting for ever. */
static int accept_ours(p2p_handle_t listener, p2p_handle_t ours, p2p_handle_t *out) {
    struct sockaddr_in local, peer;
    int size = sizeof(local);
    if (getsockname(ours, (struct sockaddr *)&local, &size) < 0) return p2pi_sys_failure();
    for (;;) {
        size = sizeof(peer);
        int ready = p2pi_win32_wait_one(listener, P2P_READABLE, PAIR_DEADLINE_NS);
        if (ready <= 0) return ready < 0 ? ready : -WSAETIMEDOUT;
        SOCKET handle = accept(listener, (struct sockaddr *)&peer, &size);
        if (handle == INVALID_SOCKET) return p2pi_sys_failure();
        if (peer.sin_port == local.sin_port && peer.sin_addr.s_addr == local.sin_addr.s_addr) {
            SetHandleInformation((HANDLE)handle, HANDLE_FLAG_INHERIT, 0);
            *out = handle;
            return 0;
        }
        closesocket(handle);
    }
}

/* The pair ends with a reset, so that no port stays in TIME_WAIT for each loop that was freed. */
static int finish_end(p2p_handle_t handle) {
    BOOL on = TRUE;
    struct linger reset = { 1, 0 };
    (void)setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, (const char *)&on, sizeof(on));
    (void)setsockopt(handle, SOL_SOCKET, SO_LINGER, (const char *)&reset, sizeof(reset));
    return p2pi_win32_set_nonblocking(handle, 1);
}

static int connect_pair(p2p_handle_t listener, const struct sockaddr_in *address, p2p_handle_t ends[2]) {
    int result = p2pi_win32_open(&ends[1], AF_INET, SOCK_STREAM);
    if (result < 0) return result;
    result = p2pi_win32_result(connect(ends[1], (const struct sockaddr *)address, sizeof(*address)));
    if (result == 0) result = accept_ours(listener, ends[1], &ends[0]);
    if (result < 0) {
        closesocket(ends[1]);
        return result;
    }
    result = finish_end(ends[0]);
    if (result == 0) result = finish_end(ends[1]);
    if (result < 0) p2pi_win32_wake_close(ends);
    return result;
}

int p2pi_win32_wake_open(p2p_handle_t ends[2]) {
    p2p_handle_t listener;
    struct sockaddr_in address;
    int result = listen_to_loopback(&listener, &address);
    if (result < 0) return result;
    result = connect_pair(listener, &address, ends);
    closesocket(listener);
    return result;
}

int p2pi_win32_wake_signal(p2p_handle_t end) {
    int error = WSAGetLastError(), result = 0; /* the interrupted code, on whatever thread, keeps its last error */
    if (send(end, "", 1, 0) < 0) {
        int failed = p2pi_sys_failure();
        result = failed == -WSAEWOULDBLOCK ? 0 : failed; /* full: a wake-up is under way */
    }
    WSASetLastError(error);
    return result;
}

int p2pi_win32_wake_drain(p2p_handle_t end) {
    char bytes[512];
    int count;
    do {
        count = recv(end, bytes, sizeof(bytes), 0);
    } while (count == (int)sizeof(bytes));
    if (count > 0) return 0;
    int failed = count < 0 ? p2pi_sys_failure() : -WSAECONNRESET; /* nobody else closes it */
    return failed == -WSAEWOULDBLOCK ? 0 : failed;
}

void p2pi_win32_wake_close(p2p_handle_t ends[2]) {
    closesocket(ends[0]);
    closesocket(ends[1]);
}
