/* Socket options of Windows. */
#include "sys_win32.h"

#include <p2pnet/error.h>

#include <mstcpip.h>

#if !defined(TCP_KEEPIDLE)
#  define TCP_KEEPIDLE 3 /* Windows 10 1709 */
#endif

static int set_int(p2p_handle_t handle, int level, int name, int value) {
    return p2pi_win32_result(setsockopt(handle, level, name, (const char *)&value, sizeof(value)));
}

static int get_int(p2p_handle_t handle, int level, int name, int *value) {
    int size = sizeof(*value);
    *value = 0; /* some answers have one byte */
    return p2pi_win32_result(getsockopt(handle, level, name, (char *)value, &size));
}

static int set_keepalive(p2p_handle_t handle, int idle_s) {
    struct tcp_keepalive plan = { idle_s > 0, (ULONG)idle_s * 1000,
                                  (ULONG)p2pi_keepalive_interval_s(idle_s) * 1000 };
    DWORD size;
    return p2pi_win32_result(WSAIoctl(handle, SIO_KEEPALIVE_VALS, &plan, sizeof(plan), NULL, 0, &size, NULL, NULL));
}

static int get_keepalive(p2p_handle_t handle, int *idle_s) {
    int result = get_int(handle, SOL_SOCKET, SO_KEEPALIVE, idle_s);
    return result < 0 || *idle_s == 0 ? result : get_int(handle, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
}

static int reset_on_close(p2p_handle_t handle, int value) {
    struct linger linger = { (u_short)value, 0 };
    return p2pi_win32_result(setsockopt(handle, SOL_SOCKET, SO_LINGER, (const char *)&linger, sizeof(linger)));
}

static int set(p2p_handle_t handle, p2p_sys_option option, int value) {
    switch (option) {
    case P2P_SYS_NODELAY: return set_int(handle, IPPROTO_TCP, TCP_NODELAY, value);
    /* SO_REUSEADDR would let any program take the port away (and there is no waiting for TIME_WAIT without it):
     * https://learn.microsoft.com/windows/win32/winsock/using-so-reuseaddr-and-so-exclusiveaddruse */
    case P2P_SYS_LISTENER: return set_int(handle, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, value);
    case P2P_SYS_DUAL_STACK: return set_int(handle, IPPROTO_IPV6, IPV6_V6ONLY, !value);
    case P2P_SYS_RESET_ON_CLOSE: return reset_on_close(handle, value);
    case P2P_SYS_KEEPALIVE: return set_keepalive(handle, value);
    case P2P_SYS_SEND_BUFFER: return set_int(handle, SOL_SOCKET, SO_SNDBUF, value);
    case P2P_SYS_RECEIVE_BUFFER: return set_int(handle, SOL_SOCKET, SO_RCVBUF, value);
    case P2P_SYS_REUSE_ADDRESS: return set_int(handle, SOL_SOCKET, SO_REUSEADDR, value);
    case P2P_SYS_BROADCAST: return set_int(handle, SOL_SOCKET, SO_BROADCAST, value);
    case P2P_SYS_REUSE_PORT: return -WSAEOPNOTSUPP;
    }
    return -WSAEINVAL;
}

int p2pi_win32_set_option(p2p_handle_t handle, p2p_sys_option option, int value) {
    int result = set(handle, option, value);
    return result < 0 && p2pi_option_means_nothing(handle, option) ? 0 : result;
}

static int get(p2p_handle_t handle, p2p_sys_option option, int *value) {
    switch (option) {
    case P2P_SYS_NODELAY: return get_int(handle, IPPROTO_TCP, TCP_NODELAY, value);
    case P2P_SYS_LISTENER: return get_int(handle, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, value);
    case P2P_SYS_DUAL_STACK: {
        int result = get_int(handle, IPPROTO_IPV6, IPV6_V6ONLY, value);
        *value = !*value;
        return result;
    }
    case P2P_SYS_KEEPALIVE: return get_keepalive(handle, value);
    case P2P_SYS_SEND_BUFFER: return get_int(handle, SOL_SOCKET, SO_SNDBUF, value);
    case P2P_SYS_RECEIVE_BUFFER: return get_int(handle, SOL_SOCKET, SO_RCVBUF, value);
    case P2P_SYS_REUSE_ADDRESS: return get_int(handle, SOL_SOCKET, SO_REUSEADDR, value);
    case P2P_SYS_BROADCAST: return get_int(handle, SOL_SOCKET, SO_BROADCAST, value);
    case P2P_SYS_REUSE_PORT: return -WSAEOPNOTSUPP;
    case P2P_SYS_RESET_ON_CLOSE: break;
    }
    return -WSAEINVAL;
}

int p2pi_win32_get_option(p2p_handle_t handle, p2p_sys_option option, int *value) {
    int result = get(handle, option, value);
    if (result < 0 && p2pi_option_means_nothing(handle, option)) return *value = 0;
    return result;
}

/* ---- unix-domain addresses: Windows has some, since Windows 10 1803, with other rules; none here ---- */

int p2pi_unix_parse(p2p_address_t *out, const char *path) {
    (void)out, (void)path;
    return P2P_ERR_NOT_SUPPORTED;
}

bool p2pi_is_unix(const p2p_address_t *address) {
    (void)address;
    return false;
}

int p2pi_unix_format(const p2p_address_t *address, char *text, size_t size) {
    (void)address, (void)text, (void)size;
    return -1;
}
