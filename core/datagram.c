/* Datagrams: one system call each, by the user, who is told when one waits; or by the loop, for on_message. */
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

/* ---- as messages ------------------------------------------------------------------------------------------ */

/* The next one whole, into P2PI_DATAGRAM_MAX + 1 bytes: what fills them all may have been cut. */
static int64_t receive_whole(p2p_socket_t *sock, void *buffer, p2p_address_t *from) {
    int64_t got = p2p_datagram_recv(sock, buffer, P2PI_DATAGRAM_MAX + 1, from);
    return got > P2PI_DATAGRAM_MAX || got > sock->message_limit ? p2pi_fail(P2P_ERR_TOO_LONG) : got;
}

p2p_message_t *p2pi_datagram_take(p2p_socket_t *sock) {
    p2p_message_t *message = p2p_message_create(NULL, P2PI_DATAGRAM_MAX + 1);
    if (message == NULL) return NULL;
    int64_t got = receive_whole(sock, message->data, NULL);
    if (got >= 0) return p2pi_message_cut(message, (uint32_t)got);
    p2p_message_free(message);
    return NULL;
}

/* What the system can't take now is not queued here either, but on_write tells when it can, as with a connection. */
int p2pi_datagram_send_message(p2p_socket_t *sock, const void *data, uint32_t length) {
    if (length > sock->message_limit) return p2pi_fail(P2P_ERR_TOO_LONG);
    p2p_event_loop_t *loop = sock->loop;
    int result = p2p_datagram_send(sock, data, length, NULL);
    if (loop == NULL) return result;
    if (result == P2P_OK) {
        loop->stats.messages_out++;
        loop->stats.bytes_out += length;
    }
    if (result != P2P_ERR_WOULD_BLOCK) return result;
    sock->held |= P2PI_HELD_FULL;
    loop->stats.sends_refused++;
    p2pi_entry_want(sock->entry, sock->entry->wanted | P2P_OUT);
    return p2pi_fail(P2P_ERR_QUEUE_FULL);
}

int p2p_datagram_sender(const p2p_socket_t *socket, p2p_address_t *out) {
    if (socket == NULL || out == NULL || socket->type != P2P_UDP) return p2pi_fail(P2P_ERR_INVALID);
    const p2pi_datagrams *datagrams = socket->loop == NULL ? NULL : socket->loop->datagrams;
    if (datagrams == NULL || datagrams->socket != socket) return p2pi_fail(P2P_ERR_NOT_FOUND);
    *out = datagrams->from;
    return P2P_OK;
}

/* ---- in a loop --------------------------------------------------------------------------------------------- */

int p2pi_datagram_start(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    if (callbacks->on_message != NULL && loop->datagrams == NULL) {
        loop->datagrams = p2pi_alloc(sizeof *loop->datagrams);
        if (loop->datagrams == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
        loop->datagrams->socket = NULL;
    }
    bool paused = (sock->held & P2PI_HELD_PAUSED) != 0;
    bool wanted = !paused && (callbacks->on_message != NULL || callbacks->on_read != NULL);
    uint32_t output = sock->entry->wanted & P2P_OUT;
    p2pi_entry_want(sock->entry, (wanted ? P2P_IN : 0) | output);
    return P2P_OK;
}

/* An ICMP error is over once told, and so is a datagram too long. A handle that is no socket would tell for ever. */
static void tell_failed(p2p_event_loop_t *loop, p2p_socket_t *sock, int error) {
    if (error == P2P_ERR_INVALID) p2pi_entry_want(sock->entry, 0);
    p2pi_tell_error(loop, sock, error);
}

static void call_on_message(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_message_callback on_message,
                            size_t length) {
    loop->stats.messages_in++;
    loop->stats.bytes_in += length;
    loop->datagrams->socket = sock;
    int64_t entered_ns = p2pi_callback_enter(loop);
    on_message(sock, loop->datagrams->data, (uint32_t)length, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
    loop->datagrams->socket = NULL;
}

/* A turn's share. The rest is reported again: readiness is level-triggered. */
static void deliver(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_message_callback on_message) {
    uint64_t token = sock->entry->io.token, bytes = 0;
    for (uint32_t i = 0; i < loop->options.message_budget && bytes < loop->options.read_budget; i++) {
        int64_t got = receive_whole(sock, loop->datagrams->data, &loop->datagrams->from);
        if (got == P2P_ERR_WOULD_BLOCK) {
            if (i == 0) loop->stats.spurious_events++;
            return;
        }
        if (got < 0)
            tell_failed(loop, sock, (int)got);
        else
            call_on_message(loop, sock, on_message, (size_t)got);
        if (!p2pi_socket_current(sock, token) || (sock->entry->wanted & P2P_IN) == 0) return;
        bytes += got > 0 ? (uint64_t)got : 0;
    }
}

static void call_on_read(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_read_callback on_read) {
    int64_t entered_ns = p2pi_callback_enter(loop);
    on_read(sock, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
}

void p2pi_datagram_ready(p2p_event_loop_t *loop, p2p_socket_t *sock, uint32_t flags) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    uint64_t token = sock->entry->io.token;
    bool input = flags != P2P_OUT && (sock->held & P2PI_HELD_PAUSED) == 0;
    p2pi_socket_pin(sock);
    if (input && callbacks->on_message != NULL)
        deliver(loop, sock, callbacks->on_message);
    else if (input && callbacks->on_read != NULL)
        call_on_read(loop, sock, callbacks->on_read);
    if (flags != P2P_IN && (sock->held & P2PI_HELD_FULL) != 0 && p2pi_socket_current(sock, token)) {
        sock->held &= (uint8_t)~P2PI_HELD_FULL;
        p2pi_entry_want(sock->entry, sock->entry->wanted & ~P2P_OUT);
        p2pi_socket_tell(sock, P2PI_TELL_WRITE);
    }
    p2pi_socket_unpin(sock);
}
