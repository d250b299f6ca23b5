/*
 * Listening sockets in a loop. Each accepted connection is announced by on_read and taken by
 * p2p_socket_accept; while one is left untaken no further one is accepted. When accepting fails for want of
 * descriptors or memory the listener rests for a while, as trying again at once would be a busy loop.
 */
#include "internal.h"

#include <string.h>

static void set_accepting(p2p_socket_t *sock, bool wanted) {
    p2p_event_loop_t *loop = sock->loop;
    p2pi_listener *listener = sock->in.listener;
    if (wanted == listener->accepting) return;
    int result = wanted ? loop->ops.accept_start(loop->backend, &sock->entry->io)
                        : loop->ops.accept_stop(loop->backend, &sock->entry->io);
    if (result >= 0) listener->accepting = wanted;
}

/* Accept while nothing stands against it: not behind an untaken connection. */
void p2pi_listener_pump(p2p_socket_t *sock) {
    const p2pi_listener *listener = sock->in.listener;
    set_accepting(sock, listener->waiting_count == 0 && !listener->paused && sock->held == 0 &&
                            !p2pi_connections_full(sock->loop));
}

static void on_resume(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    p2p_socket_t *sock = user_data;
    sock->in.listener->paused = false;
    p2pi_listener_pump(sock);
}

/* For good: the loop is being drained. */
void p2pi_listener_rest(p2p_socket_t *sock) {
    p2p_timer_stop(sock->in.listener->resume);
    sock->in.listener->paused = true;
    set_accepting(sock, false);
}

int p2pi_listener_start(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    if (sock->in.listener == NULL) sock->in.listener = p2pi_alloc_zeroed(sizeof *sock->in.listener);
    p2pi_listener *listener = sock->in.listener;
    if (listener == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    listener->resume = p2pi_timer_create_private(loop, on_resume, sock);
    if (listener->resume == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    listener->socket = sock;
    listener->paused = loop->drain_end != NULL; /* for good */
    bool full = p2pi_connections_full(loop);
    if (listener->waiting_count > 0 || full) p2pi_socket_tell(sock, P2PI_TELL_INPUT); /* left over; or to be told */
    if (full || sock->held != 0 || listener->paused) return P2P_OK;
    int result = loop->ops.accept_start(loop->backend, &sock->entry->io);
    if (result < 0) return p2pi_fail_os(loop->sys, result);
    listener->accepting = true;
    return P2P_OK;
}

/* Out of the loop; what it accepted and nobody took stays for p2p_socket_accept. */
void p2pi_listener_stop(p2p_socket_t *sock) {
    if (sock->state != P2PI_STATE_LISTENING || sock->in.listener == NULL) return;
    p2pi_listener *listener = sock->in.listener;
    p2pi_list_remove(&listener->resting);
    p2p_timer_free(listener->resume);
    listener->resume = NULL;
    listener->accepting = listener->paused = false;
    if (listener->waiting_count == 0) p2pi_listener_drop(sock);
}

void p2pi_listener_drop(p2p_socket_t *sock) {
    if (sock->state != P2PI_STATE_LISTENING || sock->in.listener == NULL) return;
    p2pi_listener *listener = sock->in.listener;
    sock->in.listener = NULL;
    for (uint32_t i = 0; i < listener->waiting_count; i++) p2pi_sys()->close(listener->waiting[i].handle);
    p2pi_free(listener->waiting);
    p2pi_free(listener);
}

static int push(p2pi_listener *listener, p2p_handle_t handle, bool nonblocking) {
    if (listener->waiting_count == listener->waiting_capacity) {
        uint32_t capacity = listener->waiting_capacity == 0 ? 4 : listener->waiting_capacity * 2;
        void *waiting = p2pi_realloc(listener->waiting, capacity * sizeof *listener->waiting);
        if (waiting == NULL) return P2P_ERR_NO_MEMORY;
        listener->waiting = waiting;
        listener->waiting_capacity = capacity;
    }
    listener->waiting[listener->waiting_count++] = (struct p2pi_waiting){ handle, nonblocking };
    return P2P_OK;
}

/* An ACCEPT event that came while the socket was leaving its loop. */
void p2pi_listener_keep(p2p_socket_t *sock, const p2p_backend_event *event) {
    if (event->result < 0 || push(sock->in.listener, event->u.handle, (event->flags & P2P_NONBLOCKING) != 0) == P2P_OK)
        return;
    sock->loop->sys->close(event->u.handle);
}

static struct p2pi_waiting pop(p2pi_listener *listener) {
    struct p2pi_waiting first = listener->waiting[0];
    listener->waiting_count--;
    memmove(listener->waiting, listener->waiting + 1, listener->waiting_count * sizeof first);
    return first;
}

static void refuse(p2p_event_loop_t *loop, p2p_handle_t handle) {
    loop->stats.connections_refused++;
    p2pi_log(P2P_LOG_WARNING, "accept: reset: its address has max_connections_per_address already");
    loop->sys->set_option(handle, P2P_SYS_RESET_ON_CLOSE, 1);
    loop->sys->close(handle);
}

/* Whether one waits that may come in; those in front of it that may not are sent away. */
static bool admit(p2p_event_loop_t *loop, p2pi_listener *listener) {
    while (listener->waiting_count > 0 && p2pi_address_full(loop, listener->waiting[0].handle))
        refuse(loop, pop(listener).handle);
    return listener->waiting_count > 0 && !p2pi_connections_full(loop);
}

static p2p_socket_t *take_first(p2pi_listener *listener) {
    p2p_socket_t *taken = p2pi_socket_new(P2P_TCP, listener->waiting[0].handle, P2PI_STATE_CONNECTED);
    if (taken == NULL) return NULL;
    taken->accepted = true;
    taken->is_nonblocking = pop(listener).nonblocking;
    return taken;
}

p2p_socket_t *p2pi_listener_take(p2p_socket_t *sock) {
    p2pi_listener *listener = sock->in.listener;
    p2p_event_loop_t *loop = sock->loop;
    uint32_t before = listener == NULL ? 0 : listener->waiting_count;
    p2p_socket_t *taken = NULL;
    if (loop == NULL ? before > 0 : before > 0 && admit(loop, listener))
        taken = take_first(listener);
    else
        p2pi_fail(P2P_ERR_WOULD_BLOCK);
    if (before == 0 || listener->waiting_count == before) return taken;
    if (loop == NULL) {
        if (listener->waiting_count == 0) p2pi_listener_drop(sock);
        return taken;
    }
    if (taken != NULL) loop->stats.accepted++;
    if (listener->waiting_count == 0 && !listener->accepting) p2pi_socket_tell(sock, P2PI_TELL_INPUT); /* go on */
    return taken;
}

static bool budget_left(const p2p_event_loop_t *loop, p2pi_listener *listener) {
    if (listener->announced_turn != loop->stats.turns) listener->announced = 0;
    listener->announced_turn = loop->stats.turns;
    return listener->announced < loop->options.accept_budget;
}

/* on_read for each that waits, until it leaves one there. Whether the registration still stands. */
static bool announce(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_read_callback on_read) {
    p2pi_listener *listener = sock->in.listener;
    uint64_t token = sock->entry->io.token;
    uint32_t before = UINT32_MAX;
    while (listener->waiting_count < before && sock->held == 0 && budget_left(loop, listener) &&
           admit(loop, listener)) {
        before = listener->waiting_count;
        listener->announced++;
        int64_t entered_ns = p2pi_callback_enter(loop);
        on_read(sock, sock->user_data);
        p2pi_callback_leave(loop, entered_ns);
        if (!p2pi_socket_current(sock, token)) return false;
    }
    return true;
}

/* There are as many connections as there may be: told once, and again after one has gone. */
static bool rest(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2pi_link *resting = &sock->in.listener->resting;
    uint64_t token = sock->entry->io.token;
    if (!p2pi_connections_full(loop) || p2pi_link_used(resting)) return true;
    p2pi_list_append(&loop->limits.resting, resting);
    set_accepting(sock, false);
    p2pi_tell_error(loop, sock, P2P_ERR_LIMIT);
    return p2pi_socket_current(sock, token);
}

/* Announce what waits; then accept again, or not while something is left. */
static void go_on(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    p2p_read_callback on_read = p2pi_callbacks(sock, &room)->on_read;
    if (on_read != NULL && !announce(loop, sock, on_read)) return;
    if (!rest(loop, sock)) return;
    bool left = sock->in.listener->waiting_count > 0 && sock->held == 0 && !p2pi_connections_full(loop);
    if (left && on_read != NULL) p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    p2pi_listener_pump(sock);
}

void p2pi_listener_tell(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2pi_socket_pin(sock);
    go_on(loop, sock);
    p2pi_socket_unpin(sock);
}

static void pause(p2p_event_loop_t *loop, p2p_socket_t *sock, int error) {
    p2pi_listener *listener = sock->in.listener;
    p2pi_log(P2P_LOG_WARNING, "accept: %s; resting for %u ms", p2p_error_name(error),
             (unsigned)loop->options.accept_pause_ms);
    if (!listener->paused) p2p_timer_start(listener->resume, loop->options.accept_pause_ms * P2P_NS_PER_MS, 0);
    listener->paused = true;
    set_accepting(sock, false);
    p2pi_socket_pin(sock);
    p2pi_tell_error(loop, sock, error);
    p2pi_socket_unpin(sock);
}

/* An ACCEPT event: a new handle, or why there is none. flags: P2P_MORE, P2P_NONBLOCKING. */
void p2pi_listener_accepted(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_handle_t handle, int result,
                            uint32_t flags) {
    int error = result < 0 ? loop->sys->translate_error(-result) : 0;
    if ((flags & P2P_MORE) == 0) sock->in.listener->accepting = false;
    if (p2pi_is_lost_connection(error)) {
        p2pi_listener_pump(sock);
    } else if (result < 0) {
        pause(loop, sock, p2pi_fail_os(loop->sys, result));
    } else if (push(sock->in.listener, handle, (flags & P2P_NONBLOCKING) != 0) < 0) {
        loop->sys->close(handle);
        pause(loop, sock, P2P_ERR_NO_MEMORY);
    } else if (sock->in.listener->waiting_count > 1) {
        p2pi_socket_tell(sock, P2PI_TELL_INPUT); /* behind one that was left: in its turn */
    } else {
        p2pi_listener_tell(loop, sock);
    }
}
