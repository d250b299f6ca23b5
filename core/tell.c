/* What a turn owes its sockets: answers and ends found outside the I/O phase, messages left over from the last
 * turn; and the last callback of each closed socket. */
#include "internal.h"

void p2pi_socket_tell(p2p_socket_t *sock, uint32_t what) {
    if (sock->closing) return;
    sock->tell = (sock->tell | what) & 0xFu;
    if (!p2pi_link_used(&sock->again)) p2pi_list_append(&sock->loop->again, &sock->again);
}

void p2pi_tell_error(p2p_event_loop_t *loop, p2p_socket_t *sock, int error) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    if (callbacks->on_error == NULL) return;
    int64_t entered_ns = p2pi_callback_enter(loop);
    callbacks->on_error(sock, error, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
}

static void tell_connect(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    int error = sock->connect_error;
    sock->connect_error = 0;
    if (callbacks->on_connect != NULL) {
        int64_t entered_ns = p2pi_callback_enter(loop);
        callbacks->on_connect(sock, error, sock->user_data);
        p2pi_callback_leave(loop, entered_ns);
    } else if (error != 0) {
        p2pi_tell_error(loop, sock, error);
    }
}

static void tell_write(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    if (callbacks->on_write == NULL) return;
    int64_t entered_ns = p2pi_callback_enter(loop);
    callbacks->on_write(sock, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
}

static void tell_input(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    if (sock->entry->kind == P2PI_LISTENER)
        p2pi_listener_tell(loop, sock);
    else if (sock->entry->kind == P2PI_CONNECTION)
        p2pi_connection_resume(loop, sock);
}

/* Read before write, error last. Each callback may end the registration, or the socket. */
static void tell(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    if (p2pi_connect_is_attempt(sock)) {
        p2pi_connect_attempt_ended(sock);
        return;
    }
    uint32_t what = sock->tell;
    uint64_t token = sock->entry->io.token;
    sock->tell = 0;
    p2pi_socket_pin(sock);
    if ((what & P2PI_TELL_CONNECT) != 0) tell_connect(loop, sock);
    if ((what & P2PI_TELL_INPUT) != 0 && p2pi_socket_current(sock, token)) tell_input(loop, sock);
    if ((what & P2PI_TELL_WRITE) != 0 && p2pi_socket_current(sock, token) &&
        (sock->held & P2PI_HELD_FULL) == 0)
        tell_write(loop, sock);
    if ((what & P2PI_TELL_ERROR) != 0 && p2pi_socket_current(sock, token))
        p2pi_tell_error(loop, sock, sock->output_error);
    p2pi_socket_unpin(sock);
}

void p2pi_tell_run(p2p_event_loop_t *loop, p2pi_link *owed) {
    p2pi_link *link = p2pi_list_pop(owed);
    if (link != NULL) p2pi_list_append(owed, link); /* who was first comes last: nobody always wins */
    while ((link = p2pi_list_pop(owed)) != NULL) tell(loop, P2PI_CONTAINER(link, p2p_socket_t, again));
}

/* Step 8. Sockets closed by these callbacks have theirs in the next turn. */
void p2pi_closing_run(p2p_event_loop_t *loop) {
    p2pi_link closing, *link;
    p2pi_list_take(&closing, &loop->closing);
    while ((link = p2pi_list_pop(&closing)) != NULL) {
        p2p_socket_t *sock = P2PI_CONTAINER(link, p2p_socket_t, again);
        p2p_socket_callbacks_t room;
        const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
        if (callbacks->on_close != NULL) {
            int64_t entered_ns = p2pi_callback_enter(loop);
            callbacks->on_close(sock, loop->freeing ? P2P_ERR_CANCELLED : sock->close_reason, sock->user_data);
            p2pi_callback_leave(loop, entered_ns);
        }
        p2pi_socket_destroy(sock);
    }
}
