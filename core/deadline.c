/*
 * Deadlines of sockets. Putting one off, as every message may, only stores a time: the one timer that a socket has runs
 * to the earliest of them, or to one that was put off since, and then looks again.
 */
#include "internal.h"

#include <string.h>

static uint32_t loops_timeout_ms(const p2p_event_loop_t *loop, p2p_deadline_t which) {
    switch (which) {
        case P2P_DEADLINE_CONNECT: return loop->options.connect_timeout_ms;
        case P2P_DEADLINE_IDLE: return loop->options.idle_timeout_ms;
        case P2P_DEADLINE_READ: return loop->options.read_timeout_ms;
        case P2P_DEADLINE_WRITE: return loop->options.write_timeout_ms;
        default: return loop->options.drain_timeout_ms;
    }
}

static uint32_t timeout_ms(const p2p_socket_t *sock, p2p_deadline_t which) {
    uint32_t own_ms = sock->extras == NULL ? 0 : sock->extras->timeout_ms[which];
    return own_ms != 0 ? own_ms : loops_timeout_ms(sock->loop, which);
}

static void expire(p2p_socket_t *sock, p2p_deadline_t which) {
    sock->loop->stats.deadlines_passed++;
    bool connecting = sock->state == P2PI_STATE_CONNECTING && !sock->remainder; /* shut down meanwhile */
    if (which == P2P_DEADLINE_CONNECT || connecting) {
        p2pi_connecting_failed(sock, P2P_ERR_TIMED_OUT);
    } else if (sock->remainder) {
        p2pi_remainder_timed_out(sock);
    } else if (sock->end != 0) {
        p2pi_output_fail(sock, P2P_ERR_TIMED_OUT);
    } else {
        p2pi_connection_end(sock, P2P_ERR_TIMED_OUT);
        p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    }
}

static void on_timer(p2p_timer_t *timer, void *user_data) {
    p2p_socket_t *sock = user_data;
    p2pi_extras *extras = sock->extras;
    int64_t next_ns = INT64_MAX;
    extras->armed_ns = 0;
    for (int which = P2P_DEADLINE_CONNECT; which <= P2P_DEADLINE_DRAIN; which++) {
        int64_t due_ns = extras->due_ns[which];
        if (due_ns != 0 && due_ns <= sock->loop->now_ns) {
            extras->timed_out = (uint8_t)which;
            memset(extras->due_ns, 0, sizeof extras->due_ns); /* whatever else was to happen will not */
            expire(sock, (p2p_deadline_t)which);
            return;
        }
        if (due_ns != 0 && due_ns < next_ns) next_ns = due_ns;
    }
    if (next_ns != INT64_MAX) {
        extras->armed_ns = next_ns;
        p2p_timer_start_at(timer, next_ns, 0);
    } else {
        extras->timer = NULL;
        p2p_timer_free(timer);
        p2pi_socket_drop_extras(sock);
    }
}

static int start_at(p2p_socket_t *sock, p2p_deadline_t which, uint32_t ms, int64_t now_ns) {
    if (ms == P2P_NO_TIMEOUT) {
        p2pi_deadline_stop(sock, which);
        return P2P_OK;
    }
    p2pi_extras *extras = p2pi_socket_extras(sock);
    if (extras == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    if (extras->timer == NULL) extras->timer = p2pi_timer_create_private(sock->loop, on_timer, sock);
    if (extras->timer == NULL) return p2p_last_error();
    int64_t due_ns = now_ns + (int64_t)(ms * P2P_NS_PER_MS);
    extras->due_ns[which] = due_ns;
    if (extras->armed_ns != 0 && extras->armed_ns <= due_ns) return P2P_OK;
    extras->armed_ns = due_ns;
    return p2p_timer_start_at(extras->timer, due_ns, 0);
}

int p2pi_deadline_start(p2p_socket_t *sock, p2p_deadline_t which) {
    return start_at(sock, which, timeout_ms(sock, which), sock->loop->sys->now_ns());
}

int p2pi_deadline_start_with(p2p_socket_t *sock, p2p_deadline_t which, uint32_t timeout_ms) {
    return start_at(sock, which, timeout_ms, sock->loop->sys->now_ns());
}

/* Between turns the turn's time is an old one. */
static int64_t turn_ns(const p2p_event_loop_t *loop) {
    return loop->in_turn ? loop->now_ns : loop->sys->now_ns();
}

int p2pi_deadline_begin(p2p_socket_t *sock, p2p_deadline_t which) {
    if (sock->extras != NULL && sock->extras->due_ns[which] != 0) return P2P_OK;
    return start_at(sock, which, timeout_ms(sock, which), turn_ns(sock->loop));
}

void p2pi_deadline_put_off(p2p_socket_t *sock, p2p_deadline_t which) {
    p2pi_extras *extras = sock->extras;
    if (extras == NULL || extras->due_ns[which] == 0) return;
    extras->due_ns[which] = turn_ns(sock->loop) + (int64_t)(timeout_ms(sock, which) * P2P_NS_PER_MS);
}

void p2pi_deadline_stop(p2p_socket_t *sock, p2p_deadline_t which) {
    if (sock->extras != NULL) sock->extras->due_ns[which] = 0;
}

void p2pi_deadlines_end(p2p_socket_t *sock) {
    p2pi_extras *extras = sock->extras;
    if (extras == NULL) return;
    p2p_timer_free(extras->timer);
    extras->timer = NULL;
    extras->armed_ns = 0;
    memset(extras->due_ns, 0, sizeof extras->due_ns);
}

/* ---- public ------------------------------------------------------------------------------------------------ */

/* Whether it would be running, had it not been P2P_NO_TIMEOUT. */
static bool applies(const p2p_socket_t *sock, p2p_deadline_t which) {
    bool connected = sock->state == P2PI_STATE_CONNECTED && sock->type == P2P_TCP && sock->end == 0;
    bool begun = sock->in.inbox != NULL || (sock->held & P2PI_HELD_HALF_OPEN) != 0;
    switch (which) {
        case P2P_DEADLINE_CONNECT: return sock->state == P2PI_STATE_CONNECTING || sock->extras->connect != NULL;
        case P2P_DEADLINE_IDLE: return connected;
        case P2P_DEADLINE_READ: return connected && sock->receiving && begun;
        case P2P_DEADLINE_WRITE: return sock->request != NULL && !sock->request->is_connect;
        default: return sock->ending && !sock->shut;
    }
}

/* A deadline that runs counts anew. */
static int apply(p2p_socket_t *sock, p2p_deadline_t which) {
    if (sock->loop == NULL || sock->closing) return P2P_OK;
    bool runs = sock->extras->due_ns[which] != 0 || applies(sock, which);
    return runs ? p2pi_deadline_start(sock, which) : P2P_OK;
}

int p2p_socket_set_timeout(p2p_socket_t *socket, p2p_deadline_t which, uint32_t timeout_ms) {
    if (socket == NULL || which < P2P_DEADLINE_CONNECT || which > P2P_DEADLINE_DRAIN) return p2pi_fail(P2P_ERR_INVALID);
    p2pi_extras *extras = p2pi_socket_extras(socket);
    if (extras == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    extras->timeout_ms[which] = timeout_ms;
    return apply(socket, which);
}

p2p_deadline_t p2p_socket_timed_out(const p2p_socket_t *socket) {
    return socket == NULL || socket->extras == NULL ? P2P_DEADLINE_NONE : (p2p_deadline_t)socket->extras->timed_out;
}

const char *p2p_deadline_name(p2p_deadline_t which) {
    static const char *const names[] = { "none", "connect", "idle", "read", "write", "drain" };
    return which >= P2P_DEADLINE_NONE && which <= P2P_DEADLINE_DRAIN ? names[which] : "";
}
