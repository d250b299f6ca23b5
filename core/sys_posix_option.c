/* Socket options of POSIX systems. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* SO_REUSEPORT, TCP_KEEPIDLE */
#endif

#include "sys_posix.h"
#include "sys_sockets.h"

#include <netinet/tcp.h>

#if defined(TCP_KEEPIDLE)
#define KEEP_IDLE TCP_KEEPIDLE
#else
#define KEEP_IDLE TCP_KEEPALIVE /* macOS */
#endif

#if defined(SO_REUSEPORT_LB)
#define REUSE_PORT SO_REUSEPORT_LB /* FreeBSD: the one that shares connections out, as on Linux */
#else
#define REUSE_PORT SO_REUSEPORT
#endif

static int set_int(p2p_handle_t handle, int level, int name, int value) {
    return p2pi_posix_result(setsockopt(handle, level, name, &value, sizeof(value)));
}

static int get_int(p2p_handle_t handle, int level, int name, int *value) {
    socklen_t size = sizeof(*value);
    *value = 0;
    return p2pi_posix_result(getsockopt(handle, level, name, value, &size));
}

static int set_keepalive(p2p_handle_t handle, int idle_s) {
    int result = set_int(handle, SOL_SOCKET, SO_KEEPALIVE, idle_s > 0);
    if (result < 0 || idle_s == 0) return result;
    result = set_int(handle, IPPROTO_TCP, KEEP_IDLE, idle_s);
#if defined(TCP_KEEPINTVL)
    if (result == 0) result = set_int(handle, IPPROTO_TCP, TCP_KEEPINTVL, p2pi_keepalive_interval_s(idle_s));
    if (result == 0) result = set_int(handle, IPPROTO_TCP, TCP_KEEPCNT, P2PI_KEEPALIVE_COUNT);
#endif
    return result;
}

static int get_keepalive(p2p_handle_t handle, int *idle_s) {
    int result = get_int(handle, SOL_SOCKET, SO_KEEPALIVE, idle_s);
    return result < 0 || *idle_s == 0 ? result : get_int(handle, IPPROTO_TCP, KEEP_IDLE, idle_s);
}

static int reset_on_close(p2p_handle_t handle, int value) {
    struct linger linger = { value, 0 };
    return p2pi_posix_result(setsockopt(handle, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
}

static int set(p2p_handle_t handle, p2p_sys_option option, int value) {
    switch (option) {
    case P2P_SYS_NODELAY: return set_int(handle, IPPROTO_TCP, TCP_NODELAY, value);
    case P2P_SYS_REUSE_ADDRESS:
    case P2P_SYS_LISTENER: return set_int(handle, SOL_SOCKET, SO_REUSEADDR, value);
    case P2P_SYS_DUAL_STACK: return set_int(handle, IPPROTO_IPV6, IPV6_V6ONLY, !value);
    case P2P_SYS_RESET_ON_CLOSE: return reset_on_close(handle, value);
    case P2P_SYS_KEEPALIVE: return set_keepalive(handle, value);
    case P2P_SYS_SEND_BUFFER: return set_int(handle, SOL_SOCKET, SO_SNDBUF, value);
    case P2P_SYS_RECEIVE_BUFFER: return set_int(handle, SOL_SOCKET, SO_RCVBUF, value);
    case P2P_SYS_REUSE_PORT: return set_int(handle, SOL_SOCKET, REUSE_PORT, value);
    case P2P_SYS_BROADCAST: return set_int(handle, SOL_SOCKET, SO_BROADCAST, value);
    }
    return -EINVAL;
}

int p2pi_posix_set_option(p2p_handle_t handle, p2p_sys_option option, int value) {
    int result = set(handle, option, value);
    return result < 0 && p2pi_option_means_nothing(handle, option) ? 0 : result;
}

static int get(p2p_handle_t handle, p2p_sys_option option, int *value) {
    switch (option) {
    case P2P_SYS_NODELAY: return get_int(handle, IPPROTO_TCP, TCP_NODELAY, value);
    case P2P_SYS_REUSE_ADDRESS:
    case P2P_SYS_LISTENER: return get_int(handle, SOL_SOCKET, SO_REUSEADDR, value);
    case P2P_SYS_DUAL_STACK: {
        int result = get_int(handle, IPPROTO_IPV6, IPV6_V6ONLY, value);
        *value = !*value;
        return result;
    }
    case P2P_SYS_KEEPALIVE: return get_keepalive(handle, value);
    case P2P_SYS_SEND_BUFFER: return get_int(handle, SOL_SOCKET, SO_SNDBUF, value);
    case P2P_SYS_RECEIVE_BUFFER: return get_int(handle, SOL_SOCKET, SO_RCVBUF, value);
    case P2P_SYS_REUSE_PORT: return get_int(handle, SOL_SOCKET, REUSE_PORT, value);
    case P2P_SYS_BROADCAST: return get_int(handle, SOL_SOCKET, SO_BROADCAST, value);
    case P2P_SYS_RESET_ON_CLOSE: break;
    }
    return -EINVAL;
}

int p2pi_posix_get_option(p2p_handle_t handle, p2p_sys_option option, int *value) {
    int result = get(handle, option, value);
    if (result < 0 && p2pi_option_means_nothing(handle, option)) return *value = 0;
    return result;
}
