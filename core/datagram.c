/* Datagrams: one system call each, by the user, who is told when one waits. */
#include "internal.h"

int p2p_datagram_send(p2p_socket_t *socket, const void *data, size_t size, const p2p_address_t *to) {
    if (socket == NULL || socket->type != P2P_UDP || (data == NULL && size > 0)) return p2pi_fail(P2P_ERR_INVALID);
    if (to == NULL && socket->state != P2PI_STATE_CONNECTED) return p2pi_fail(P2P_ERR_NOT_CONNECTED);
    bool fresh = socket->handle == P2P_INVALID_HANDLE;
    int result = to == NULL ? P2P_OK : p2pi_socket_open(socket, to);
    if (result == P2P_OK && socket->loop == NULL) result = p2pi_socket_sync_mode(socket);
    if (result < 0) return result;
    const p2p_sys_ops *sys = p2pi_sys();
    int64_t sent = sys->sendto(socket->handle, data, size, to, socket->loop != NULL || socket->want_nonblocking);
    if (fresh && socket->loop != NULL) { /* sending has bound it: answers can come */
        result = p2pi_socket_register(socket);
        if (result < 0) return result;
    }
    return sent < 0 ? p2pi_fail_os(sys, sent) : P2P_OK;
}

int64_t p2p_datagram_recv(p2p_socket_t *socket, void *buffer, size_t size, p2p_address_t *from) {
    if (socket == NULL || socket->type != P2P_UDP || (buffer == NULL && size > 0) ||
        socket->handle == P2P_INVALID_HANDLE)
        return p2pi_fail(P2P_ERR_INVALID);
    if (socket->loop == NULL) {
        int result = p2pi_socket_sync_mode(socket);
        if (result < 0) return result;
    }
    const p2p_sys_ops *sys = p2pi_sys();
    int64_t got = sys->recvfrom(socket->handle, buffer, size, from, socket->loop != NULL || socket->want_nonblocking);
    return got < 0 ? p2pi_fail_os(sys, got) : got;
}

int p2pi_datagram_start(p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    bool paused = (sock->held & P2PI_HELD_PAUSED) != 0;
    if (p2pi_callbacks(sock, &room)->on_read != NULL && !paused) p2pi_entry_want(sock->entry, P2P_IN);
    return P2P_OK;
}

void p2pi_datagram_ready(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    if (callbacks->on_read == NULL || (sock->held & P2PI_HELD_PAUSED) != 0) return;
    p2pi_socket_pin(sock);
    int64_t entered_ns = p2pi_callback_enter(loop);
    callbacks->on_read(sock, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
    p2pi_socket_unpin(sock);
}
