/* Pausing a socket's input. The pause is the socket's own: it outlasts a registration. */
#include "internal.h"

int p2p_socket_pause(p2p_socket_t *socket) {
    if (socket == NULL) return p2pi_fail(P2P_ERR_INVALID);
    socket->held |= P2PI_HELD_PAUSED;
    p2pi_entry *entry = socket->entry;
    if (entry == NULL) return P2P_OK;
    if (entry->kind == P2PI_CONNECTION) p2pi_connection_pump(socket);
    if (entry->kind == P2PI_LISTENER) p2pi_listener_pump(socket);
    /* A pause is long: unlike backpressure, it shall not cost even one wake-up. */
    p2pi_entry_want(entry, entry->wanted & ~P2P_IN);
    return P2P_OK;
}

int p2p_socket_resume(p2p_socket_t *socket) {
    if (socket == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if ((socket->held & P2PI_HELD_PAUSED) == 0) return P2P_OK;
    socket->held &= (uint8_t)~P2PI_HELD_PAUSED;
    p2pi_entry *entry = socket->entry;
    if (entry == NULL) return P2P_OK;
    if (entry->kind == P2PI_DATAGRAM) return p2pi_datagram_start(socket);
    p2pi_socket_tell(socket, P2PI_TELL_INPUT); /* what was kept comes in the next turn, and then what is new */
    return P2P_OK;
}
