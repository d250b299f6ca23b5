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

static void on_resume(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    p2p_socket_t *sock = user_data;
    sock->in.listener->paused = false;
    if (sock->in.listener->waiting_count == 0) set_accepting(sock, true);
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
    if (listener->waiting_count > 0) p2pi_socket_tell(sock, P2PI_TELL_INPUT); /* left over from an earlier loop */
    int result = loop->ops.accept_start(loop->backend, &sock->entry->io);
    if (result < 0) return p2pi_fail_os(loop->sys, result);
    listener->accepting = true;
    return P2P_OK;
}

/* Out of the loop; what it accepted and nobody took stays for p2p_socket_accept. */
void p2pi_listener_stop(p2p_socket_t *sock) {
    if (sock->state != P2PI_STATE_LISTENING || sock->in.listener == NULL) return;
    p2pi_listener *listener = sock->in.listener;
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

p2p_socket_t *p2pi_listener_take(p2p_socket_t *sock) {
    p2pi_listener *listener = sock->in.listener;
    if (listener == NULL || listener->waiting_count == 0) {
        p2pi_fail(P2P_ERR_WOULD_BLOCK);
        return NULL;
    }
    p2p_socket_t *taken = p2pi_socket_new(P2P_TCP, listener->waiting[0].handle, P2PI_STATE_CONNECTED);
    if (taken == NULL) return NULL;
    taken->accepted = true;
    taken->is_nonblocking = listener->waiting[0].nonblocking;
    listener->waiting_count--;
    memmove(listener->waiting, listener->waiting + 1, listener->waiting_count * sizeof *listener->waiting);
    if (sock->loop == NULL) {
        if (listener->waiting_count == 0) p2pi_listener_drop(sock);
        return taken;
    }
    sock->loop->stats.accepted++;
    if (listener->waiting_count == 0 && !listener->accepting) p2pi_socket_tell(sock, P2PI_TELL_INPUT); /* go on */
    return taken;
}

/* Announce what waits, once a turn; then accept again, or not while something is left. */
static void announce(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    uint64_t token = sock->entry->io.token;
    if (sock->in.listener->waiting_count > 0 && callbacks->on_read != NULL) {
        int64_t entered_ns = p2pi_callback_enter(loop);
        callbacks->on_read(sock, sock->user_data);
        p2pi_callback_leave(loop, entered_ns);
        if (!p2pi_socket_current(sock, token)) return;
    }
    p2pi_listener *listener = sock->in.listener;
    if (listener->waiting_count > 0 && callbacks->on_read != NULL) p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    set_accepting(sock, listener->waiting_count == 0 && !listener->paused);
}

void p2pi_listener_tell(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2pi_socket_pin(sock);
    announce(loop, sock);
    p2pi_socket_unpin(sock);
}

static void pause(p2p_event_loop_t *loop, p2p_socket_t *sock, int error) {
    p2pi_listener *listener = sock->in.listener;
    p2pi_log(P2P_LOG_WARNING, "accept: %s; resting for %u ms", p2p_error_name(error),
             (unsigned)loop->options.accept_pause_ms);
    listener->paused = true;
    set_accepting(sock, false);
    p2p_timer_start(listener->resume, loop->options.accept_pause_ms * P2P_NS_PER_MS, 0);
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
        if (!sock->in.listener->paused) set_accepting(sock, sock->in.listener->waiting_count == 0);
    } else if (result < 0) {
        pause(loop, sock, p2pi_fail_os(loop->sys, result));
    } else if (push(sock->in.listener, handle, (flags & P2P_NONBLOCKING) != 0) < 0) {
        loop->sys->close(handle);
        pause(loop, sock, P2P_ERR_NO_MEMORY);
    } else {
        p2pi_listener_tell(loop, sock);
    }
}
