/* Between a socket and its loop: adding, removing, closing. */
#include "internal.h"

bool p2pi_socket_current(const p2p_socket_t *sock, uint64_t token) {
    return !sock->closing && sock->entry != NULL && sock->entry->io.token == token;
}

static p2pi_kind kind_for(const p2p_socket_t *sock) {
    if (sock->type == P2P_UDP) return sock->handle == P2P_INVALID_HANDLE ? P2PI_FRESH : P2PI_DATAGRAM;
    if (sock->state == P2PI_STATE_LISTENING) return P2PI_LISTENER;
    if (sock->state == P2PI_STATE_CONNECTED || sock->state == P2PI_STATE_CONNECTING) return P2PI_CONNECTION;
    return P2PI_FRESH; /* an unconnected TCP socket reports hang-ups: nothing to wait for yet */
}

static int start(p2p_socket_t *sock) {
    switch (sock->entry->kind) {
        case P2PI_LISTENER: return p2pi_listener_start(sock);
        case P2PI_DATAGRAM: return p2pi_datagram_start(sock);
        default:
            return sock->state == P2PI_STATE_CONNECTING ? p2pi_connecting_begin(sock, NULL)
                                                        : p2pi_connection_start(sock);
    }
}

/* Nothing is owed and nothing in flight any more. */
static void leave_lists(p2p_socket_t *sock) {
    p2pi_limits_leave(sock);
    p2pi_output_cancel(sock);
    p2pi_output_detach(sock);
    p2pi_list_remove(&sock->again);
    p2pi_list_remove(&sock->flush);
    sock->tell = 0;
}

/* Attach a socket that has become able to receive events. On failure it is registered as before. */
int p2pi_socket_register(p2p_socket_t *sock) {
    p2pi_kind kind = kind_for(sock);
    if (kind == P2PI_FRESH) return P2P_OK;
    int result = p2pi_entry_ready(&sock->entry);
    if (result < 0) return result;
    p2pi_entry *entry = sock->entry;
    entry->kind = (uint8_t)kind;
    if (kind == P2PI_CONNECTION) p2pi_connection_enter(entry);
    uint32_t flags = (kind == P2PI_DATAGRAM ? P2P_IO_DATAGRAM : 0) | (sock->is_nonblocking ? P2P_IO_NONBLOCKING : 0);
    result = p2pi_entry_attach(entry, sock->handle, flags);
    if (result == P2P_OK) result = start(sock);
    entry = sock->entry; /* another one, when an adopted connect turned out to have failed */
    if (result == P2P_OK) result = p2pi_entry_apply(entry);
    sock->is_nonblocking = (entry->io.flags & P2P_IO_NONBLOCKING) != 0;
    if (result == P2P_OK) {
        p2pi_request_drain(sock->loop);
        return P2P_OK;
    }
    p2pi_deadlines_end(sock);
    leave_lists(sock);
    p2pi_listener_stop(sock);
    sock->receiving = false;
    sock->entry = p2pi_entry_renew(entry, false);
    return result;
}

static int add(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    if (loop == NULL || sock == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (sock->state == P2PI_STATE_CLOSED) return p2pi_fail(P2P_ERR_INVALID);
    if (sock->loop != NULL) return p2pi_fail(P2P_ERR_ALREADY);
    if (loop->freeing) return p2pi_fail(P2P_ERR_CANCELLED);
    sock->entry = p2pi_registry_add(loop, P2PI_FRESH, sock);
    if (sock->entry == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    sock->loop = loop;
    p2pi_connection_set_limit(sock);
    int result = p2pi_socket_register(sock);
    if (result < 0) {
        p2pi_entry_detach(sock->entry, false);
        sock->entry = NULL;
        sock->loop = NULL;
        p2pi_connection_set_limit(sock);
        p2pi_socket_sync_mode(sock);
        return result;
    }
    loop->socket_count++;
    return P2P_OK;
}

int p2p_event_loop_add_socket(p2p_event_loop_t *loop, p2p_socket_t *socket, p2p_read_callback on_read,
                              void *user_data) {
    if (socket == NULL || socket->loop != NULL) return add(loop, socket);
    socket->short_callbacks = true;
    socket->callbacks.on_read = on_read;
    socket->user_data = user_data;
    return add(loop, socket);
}

int p2p_event_loop_add_socket_with(p2p_event_loop_t *loop, p2p_socket_t *socket,
                                   const p2p_socket_callbacks_t *callbacks, void *user_data) {
    if (callbacks == NULL || callbacks->size < sizeof *callbacks) return p2pi_fail(P2P_ERR_INVALID);
    if (socket == NULL || socket->loop != NULL) return add(loop, socket);
    socket->short_callbacks = false;
    socket->callbacks.set = callbacks;
    socket->user_data = user_data;
    return add(loop, socket);
}

/* End the registration. What was received or queued stays with the socket when the handle does. */
void p2pi_socket_unregister(p2p_socket_t *sock, bool close_handle) {
    p2p_event_loop_t *loop = sock->loop;
    if (loop->input.socket == sock) {
        if (!close_handle) p2pi_connection_save_input(sock);
        loop->input.socket = NULL;
        loop->input.end = loop->input.data;
    }
    p2pi_deadlines_end(sock);
    bool cancelled = p2pi_connect_cancel(sock);
    p2pi_output_cancel(sock);
    uint32_t lost = p2pi_output_bytes(sock);
    if (close_handle && sock->resetting && sock->handle != P2P_INVALID_HANDLE)
        loop->sys->set_option(sock->handle, P2P_SYS_RESET_ON_CLOSE, 1);
    bool attached = false;
    if (sock->entry != NULL) { /* while it is, what the backend still has for the socket reaches it */
        attached = (sock->entry->flags & P2PI_ENTRY_ATTACHED) != 0;
        p2pi_entry_detach(sock->entry, close_handle);
    }
    if (close_handle && !attached && sock->handle != P2P_INVALID_HANDLE) loop->sys->close(sock->handle);
    if (close_handle) sock->handle = P2P_INVALID_HANDLE;
    sock->entry = NULL;
    sock->receiving = false;
    leave_lists(sock);
    p2pi_listener_stop(sock);
    if (!close_handle && sock->state == P2PI_STATE_CONNECTED && p2pi_inbox_unshare(sock) < 0)
        p2pi_connection_end(sock, P2P_ERR_NO_MEMORY);
    if (close_handle) {
        p2pi_output_drop(sock);
        sock->lost = lost;
        p2pi_listener_drop(sock);
        p2pi_inbox_release(sock);
    } else if (cancelled) { /* as when it fails: it was meant for that host */
        p2pi_output_drop(sock);
        sock->lost = lost;
    }
}

int p2p_event_loop_remove_socket(p2p_event_loop_t *loop, p2p_socket_t *socket) {
    if (loop == NULL || socket == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (socket->loop != loop || socket->closing) return p2pi_fail(P2P_ERR_NOT_FOUND);
    p2pi_socket_unregister(socket, false);
    socket->loop = NULL;
    socket->held &= (uint8_t)~P2PI_HELD_FULL;
    p2pi_connection_set_limit(socket);
    loop->socket_count--;
    return p2pi_socket_sync_mode(socket);
}

/* The end of a closed socket's registration. It is freed after on_close, or at once when nobody can notice. */
void p2pi_socket_finish(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    p2p_socket_callbacks_t room;
    p2pi_socket_unregister(sock, true);
    sock->state = P2PI_STATE_CLOSED;
    if (p2pi_callbacks(sock, &room)->on_close == NULL && !loop->in_turn)
        p2pi_socket_destroy(sock);
    else
        p2pi_list_append(&loop->closing, &sock->again);
}

void p2pi_socket_close_registered(p2p_socket_t *sock, bool reset) {
    p2p_event_loop_t *loop = sock->loop;
    P2P_ASSERT(!sock->closing);
    sock->closing = true;
    sock->held |= P2PI_HELD_CLOSED;
    sock->resetting = reset;
    sock->close_reason = sock->end != 0 ? sock->end : sock->ending ? 0 : sock->output_error;
    loop->socket_count--;
    p2pi_half_open_done(sock);
    if (!reset && p2pi_remainder_wanted(sock)) {
        int result = p2pi_remainder_begin(sock);
        if (result == P2P_OK) return;
        sock->close_reason = (int8_t)result; /* what is left is lost: the peer shall not take it for a clean end */
        sock->resetting = true;
    }
    p2pi_socket_finish(sock);
}

int p2p_event_loop_socket_count(p2p_event_loop_t *loop) {
    return loop == NULL ? p2pi_fail(P2P_ERR_INVALID) : (int)loop->socket_count;
}
