/* Socket options with names. What is asked of a socket is kept with it: each handle that is made for it gets it. */
#include "internal.h"

#define KEEPALIVE_MAX_S 32767 /* Linux takes no more */

#define FOR_TCP (1u << P2P_TCP)
#define FOR_UDP (1u << P2P_UDP)

static const struct {
    const char *name;
    p2p_sys_option sys;
    uint32_t types;
    int min, max;
} facts[] = {
    { "nodelay", P2P_SYS_NODELAY, FOR_TCP, 0, 1 },
    { "keepalive", P2P_SYS_KEEPALIVE, FOR_TCP, 0, KEEPALIVE_MAX_S },
    { "send_buffer", P2P_SYS_SEND_BUFFER, FOR_TCP | FOR_UDP, 1, INT32_MAX },
    { "receive_buffer", P2P_SYS_RECEIVE_BUFFER, FOR_TCP | FOR_UDP, 1, INT32_MAX },
    { "reuse_address", P2P_SYS_REUSE_ADDRESS, FOR_TCP | FOR_UDP, 0, 1 },
    { "reuse_port", P2P_SYS_REUSE_PORT, FOR_TCP | FOR_UDP, 0, 1 },
    { "dual_stack", P2P_SYS_DUAL_STACK, FOR_TCP | FOR_UDP, 0, 1 },
    { "broadcast", P2P_SYS_BROADCAST, FOR_UDP, 0, 1 },
};

_Static_assert(sizeof facts / sizeof facts[0] == P2PI_OPTION_COUNT, "a fact for each option");
_Static_assert(P2PI_OPTION_COUNT <= 8, "p2pi_extras has a bit for each");

static bool known(p2p_socket_option_t option) {
    return option >= P2P_OPTION_NODELAY && option <= P2P_OPTION_BROADCAST;
}

static bool fits(const p2p_socket_t *sock, p2p_socket_option_t option) {
    return sock != NULL && known(option) && (facts[option - 1].types & (1u << sock->type)) != 0;
}

const char *p2p_socket_option_name(p2p_socket_option_t option) {
    return known(option) ? facts[option - 1].name : "unknown option";
}

bool p2pi_option_is_set(const p2p_socket_t *sock, p2p_socket_option_t option) {
    return sock->extras != NULL && (sock->extras->options_set & (1u << (option - 1))) != 0;
}

int p2pi_options_apply(const p2p_socket_t *sock, p2p_handle_t handle) {
    for (int option = P2P_OPTION_NODELAY; option <= P2P_OPTION_BROADCAST; option++) {
        if (!p2pi_option_is_set(sock, (p2p_socket_option_t)option)) continue;
        int result = p2pi_sys()->set_option(handle, facts[option - 1].sys, sock->extras->options[option - 1]);
        if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    }
    return P2P_OK;
}

int p2p_socket_set_option(p2p_socket_t *socket, p2p_socket_option_t option, int value) {
    if (!fits(socket, option)) return p2pi_fail(P2P_ERR_INVALID);
    if (value < facts[option - 1].min || value > facts[option - 1].max) return p2pi_fail(P2P_ERR_INVALID);
    /* The handle of an accepted connection is its only one: servers have many, so nothing is kept for it. */
    p2pi_extras *extras = socket->accepted ? NULL : p2pi_socket_extras(socket);
    if (extras == NULL && !socket->accepted) return p2pi_fail(P2P_ERR_NO_MEMORY);
    if (socket->handle != P2P_INVALID_HANDLE) {
        int result = p2pi_sys()->set_option(socket->handle, facts[option - 1].sys, value);
        if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    }
    if (extras == NULL) return P2P_OK;
    extras->options[option - 1] = value;
    extras->options_set = (uint8_t)(extras->options_set | 1u << (option - 1));
    return P2P_OK;
}

int p2p_socket_get_option(const p2p_socket_t *socket, p2p_socket_option_t option) {
    if (!fits(socket, option)) return p2pi_fail(P2P_ERR_INVALID);
    if (socket->handle == P2P_INVALID_HANDLE) {
        if (!p2pi_option_is_set(socket, option)) return p2pi_fail(P2P_ERR_NOT_FOUND);
        return socket->extras->options[option - 1];
    }
    int value = 0;
    int result = p2pi_sys()->get_option(socket->handle, facts[option - 1].sys, &value);
    if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    return facts[option - 1].max == 1 ? value != 0 : value; /* some systems say "on" by another number */
}
