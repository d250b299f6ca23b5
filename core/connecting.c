/*
 * A registered socket's attempt to connect to one address: its beginning, and what either end of it means. connect.c
 * makes several of one name. The answer is told in the next turn.
 */
#include "internal.h"

void p2pi_connecting_failed(p2p_socket_t *sock, int error) {
    p2pi_connect_cancel(sock);
    p2pi_deadline_stop(sock, P2P_DEADLINE_CONNECT);
    if (sock->type == P2P_UDP || p2pi_connect_is_attempt(sock)) { /* goes on as it is; is closed when told */
        sock->connect_error = (int8_t)error;
        p2pi_socket_tell(sock, P2PI_TELL_CONNECT);
        return;
    }
    if (!sock->remainder) sock->state = P2PI_STATE_FRESH; /* nothing to be handed back; may be tried again */
    p2pi_output_abandon(sock);
    if (sock->remainder) {
        sock->output_error = (int8_t)error;
        p2pi_remainder_finish(sock);
        return;
    }
    sock->connect_error = (int8_t)error;
    sock->held &= (uint8_t)~P2PI_HELD_FULL;
    if (sock->handle != sock->entry->io.handle) sock->loop->sys->close(sock->handle); /* bound, and no name found */
    sock->entry = p2pi_entry_renew(sock->entry, true);
    sock->handle = P2P_INVALID_HANDLE;
    p2pi_socket_tell(sock, P2PI_TELL_CONNECT);
}

void p2pi_connecting_succeeded(p2p_socket_t *sock) {
    sock->state = P2PI_STATE_CONNECTED;
    if (p2pi_connect_is_attempt(sock)) {
        p2pi_socket_tell(sock, P2PI_TELL_CONNECT);
        return;
    }
    p2pi_deadline_stop(sock, P2P_DEADLINE_CONNECT);
    p2pi_output_schedule(sock);
    p2pi_shutdown_advance(sock);
    if (sock->remainder) {
        p2pi_connection_pump(sock);
        return;
    }
    if (p2pi_deadline_start(sock, P2P_DEADLINE_IDLE) < 0 || p2pi_drain_joined(sock) < 0)
        p2pi_connection_end(sock, P2P_ERR_NO_MEMORY);
    p2pi_socket_tell(sock, P2PI_TELL_CONNECT | P2PI_TELL_INPUT);
}

/* A socket leaves its loop while it connects. Its owner may go on with the attempt, so there must be one, and what has
 * become of it must not be lost: a backend may not have begun, or have taken the system's answer. */
static void hand_back_attempt(p2p_event_loop_t *loop, p2p_socket_t *sock, const p2p_address_t *address,
                              int64_t result) {
    int error = result < 0 ? loop->sys->translate_error((int)-result) : 0;
    if (error == P2P_ERR_CANCELLED && address != NULL) {
        result = loop->sys->set_nonblocking(sock->handle, 1);
        if (result == 0) sock->is_nonblocking = true; /* remove_socket restores the mode asked for */
        if (result == 0) result = loop->sys->connect(sock->handle, address);
        error = result < 0 ? loop->sys->translate_error((int)-result) : 0;
    }
    if (error != 0 && error != P2P_ERR_ALREADY && error != P2P_ERR_CANCELLED) sock->connect_error = (int8_t)error;
}

P2PI_UNUSUAL void p2pi_connecting_done(p2p_event_loop_t *loop, p2pi_request *request, int64_t result) {
    p2p_socket_t *sock = request->socket;
    bool cancelled = request->cancelled; /* by close or remove */
    int error = result < 0 ? loop->sys->translate_error((int)-result) : 0;
    if (sock != NULL && !cancelled && error == 0)
        error = p2pi_connect_check_self(loop->sys, sock->handle, request->op.address);
    if (sock != NULL && cancelled && !sock->closing && sock->state == P2PI_STATE_CONNECTING)
        hand_back_attempt(loop, sock, request->op.address, result);
    if (sock != NULL) sock->request = NULL;
    p2pi_request_free(loop, request);
    if (sock == NULL || cancelled) return;
    if (error != 0)
        p2pi_connecting_failed(sock, error);
    else
        p2pi_connecting_succeeded(sock);
}

void p2pi_connecting_reset(p2p_socket_t *sock) {
    sock->state = P2PI_STATE_CONNECTING;
    p2pi_socket_forget_connection(sock);
}

static int start_connect(p2p_socket_t *sock, const p2p_address_t *address) {
    p2p_event_loop_t *loop = sock->loop;
    bool timed_by_other = sock->remainder || p2pi_connect_is_attempt(sock);
    int timed = timed_by_other ? P2P_OK : p2pi_deadline_start(sock, P2P_DEADLINE_CONNECT);
    if (timed < 0) return timed;
    p2pi_request *request = p2pi_request_new(sock);
    if (request == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    request->is_connect = true;
    request->op.iov = NULL;
    if (address != NULL) {
        request->u.address = *address;
        request->op.address = &request->u.address;
    }
    int result = loop->ops.connect(loop->backend, &request->op);
    if (result >= 0) return P2P_OK;
    sock->request = NULL;
    p2pi_request_free(loop, request);
    return p2pi_fail_os(loop->sys, result);
}

/* Connect a registered socket; address NULL: the attempt has begun already, p2pi_socket_register attaches it. */
int p2pi_connecting_begin(p2p_socket_t *sock, const p2p_address_t *address) {
    if (address == NULL && sock->connect_error != 0) { /* adopted, and failed already */
        p2pi_connecting_failed(sock, sock->connect_error);
        return P2P_OK;
    }
    if (address == NULL) return start_connect(sock, NULL);
    int result = p2pi_entry_ready(&sock->entry);
    if (result < 0) return result;
    p2pi_entry *entry = sock->entry;
    p2pi_connection_enter(entry);
    result = p2pi_entry_attach(entry, sock->handle, sock->is_nonblocking ? P2P_IO_NONBLOCKING : 0);
    p2pi_state before = (p2pi_state)sock->state;
    p2pi_connecting_reset(sock);
    if (result == P2P_OK) result = start_connect(sock, address);
    if (result == P2P_OK) result = p2pi_entry_apply(entry);
    sock->is_nonblocking = (entry->io.flags & P2P_IO_NONBLOCKING) != 0;
    if (result == P2P_OK) {
        p2pi_request_drain(sock->loop);
        return P2P_OK;
    }
    p2pi_output_abandon(sock);
    p2pi_deadline_stop(sock, P2P_DEADLINE_CONNECT); /* the error is the answer */
    sock->state = (uint8_t)before;
    sock->entry = p2pi_entry_renew(entry, false);
    return result;
}
