/* Ending output in order: of one connection, whose peer then sees the end behind the last message; and of all of a
 * loop's, after which the loop ends. */
#include "internal.h"

uint32_t p2pi_output_bytes(const p2p_socket_t *sock) {
    uint32_t bytes = p2pi_outbox_staged(&sock->out) + sock->lost;
    for (const p2pi_chunk *chunk = sock->out.first; chunk != NULL; chunk = chunk->next)
        bytes += chunk->tail - chunk->head;
    return bytes;
}

int64_t p2p_socket_unsent(const p2p_socket_t *socket) {
    return socket == NULL ? p2pi_fail(P2P_ERR_INVALID) : (int64_t)p2pi_output_bytes(socket);
}

void p2pi_shutdown_advance(p2p_socket_t *sock) {
    if (!sock->ending || sock->shut || sock->remainder || sock->state != P2PI_STATE_CONNECTED) return;
    if (sock->out.queued > 0 || sock->request != NULL) return;
    sock->loop->sys->shutdown_send(sock->handle);
    sock->shut = true;
    p2pi_deadline_stop(sock, P2P_DEADLINE_DRAIN);
}

static int shutdown_outside(p2p_socket_t *sock) {
    int result = p2pi_message_usable(sock);
    if (result == P2P_OK) result = p2pi_message_write_out(sock);
    if (result < 0) return p2pi_fail(result);
    result = p2pi_sys()->shutdown_send(sock->handle);
    if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    sock->output_error = P2P_ERR_CLOSED;
    sock->ending = sock->shut = true;
    return P2P_OK;
}

static int shutdown_registered(p2p_socket_t *sock, uint32_t drain_ms) {
    if (p2pi_socket_extras(sock) == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY); /* by them its progress is noticed */
    int result = drain_ms == 0 ? p2pi_deadline_start(sock, P2P_DEADLINE_DRAIN)
                               : p2pi_deadline_start_with(sock, P2P_DEADLINE_DRAIN, drain_ms);
    if (result < 0) return result;
    sock->output_error = P2P_ERR_CLOSED;
    sock->ending = true;
    if (sock->request != NULL && !sock->request->is_connect) sock->request->op.flags = 0; /* it is waited for */
    p2pi_shutdown_advance(sock);
    return P2P_OK;
}

int p2p_socket_shutdown(p2p_socket_t *socket, uint32_t drain_ms) {
    if (socket == NULL || socket->type != P2P_TCP) return p2pi_fail(P2P_ERR_INVALID);
    if (socket->ending) return p2pi_fail(P2P_ERR_ALREADY);
    if (socket->output_error != 0) return p2pi_fail(socket->output_error);
    if (socket->loop == NULL) return shutdown_outside(socket);
    int result = p2pi_message_usable(socket);
    return result < 0 ? p2pi_fail(result) : shutdown_registered(socket, drain_ms);
}

/* ---- a loop's ---------------------------------------------------------------------------------------------- */

static p2p_socket_t *connection_at(p2p_event_loop_t *loop, size_t slot) {
    p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
    p2p_socket_t *sock = entry->kind == P2PI_CONNECTION || entry->kind == P2PI_FRESH ? entry->owner : NULL;
    if (sock == NULL || p2pi_connect_is_attempt(sock)) return NULL;
    return entry->kind == P2PI_CONNECTION || sock->state == P2PI_STATE_CONNECTING ? sock : NULL; /* by name */
}

/* Nothing more is to come of it: its peer has everything, and has ended too. */
static bool is_over(const p2p_socket_t *sock) {
    bool told = (sock->tell & P2PI_TELL_INPUT) == 0;
    return !sock->remainder && sock->end != 0 && told && sock->out.queued == 0;
}

static void end_drain(p2p_event_loop_t *loop, int error) {
    p2p_timer_free(loop->drain_end);
    loop->drain_end = NULL;
    loop->drain_error = error;
    p2p_event_loop_stop(loop);
}

static bool all_over(p2p_event_loop_t *loop) {
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        p2p_socket_t *sock = connection_at(loop, slot);
        if (sock != NULL && !is_over(sock)) return false;
    }
    return true;
}

static void on_drain_end(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    end_drain(user_data, all_over(user_data) ? P2P_OK : P2P_ERR_TIMED_OUT);
}

void p2pi_drain_advance(p2p_event_loop_t *loop) {
    if (all_over(loop)) end_drain(loop, P2P_OK);
}

static void shut(p2p_socket_t *sock, uint32_t drain_ms) {
    if (p2p_socket_shutdown(sock, drain_ms) != P2P_ERR_NO_MEMORY) return; /* what else fails is over anyway */
    p2pi_connection_end(sock, P2P_ERR_NO_MEMORY);
    p2pi_socket_tell(sock, P2PI_TELL_INPUT);
}

int p2pi_drain_joined(p2p_socket_t *sock) {
    if (sock->loop->drain_end == NULL || sock->output_error != 0) return P2P_OK;
    return p2p_socket_shutdown(sock, P2P_NO_TIMEOUT); /* the drain has its time */
}

int p2p_event_loop_drain(p2p_event_loop_t *loop, uint32_t drain_ms) {
    if (loop == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (loop->drain_end != NULL) return p2pi_fail(P2P_ERR_ALREADY);
    loop->drain_end = p2pi_timer_create_private(loop, on_drain_end, loop);
    if (loop->drain_end == NULL) return p2p_last_error();
    if (drain_ms == 0) drain_ms = loop->options.drain_timeout_ms;
    if (drain_ms != P2P_NO_TIMEOUT) p2p_timer_start(loop->drain_end, drain_ms * P2P_NS_PER_MS, 0);
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
        if (entry->kind == P2PI_LISTENER) p2pi_listener_rest(entry->owner);
        p2p_socket_t *sock = connection_at(loop, slot);
        if (sock != NULL && !sock->closing) shut(sock, drain_ms);
    }
    return P2P_OK;
}
