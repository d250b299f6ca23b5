/*
 * From an event to its owner: the only switch on kinds. Events of registrations that are over are dropped here,
 * by their token, and what they carry is given back.
 */
#include "receive.h"

void p2pi_callback_measured(p2p_event_loop_t *loop, int64_t entered_ns) {
    int64_t took_ns = loop->sys->now_ns() - entered_ns;
    if (took_ns > 0 && (uint64_t)took_ns > loop->stats.callback_max_ns) loop->stats.callback_max_ns = (uint64_t)took_ns;
}

void p2pi_event_release(p2p_event_loop_t *loop, const p2p_backend_event *event, bool keep_handle) {
    if (event->kind == P2P_EVENT_RECV && event->result > 0)
        loop->ops.buf_recycle(loop->backend, event->u.buffer.index);
    if (event->kind == P2P_EVENT_ACCEPT && event->result >= 0 && !keep_handle) loop->sys->close(event->u.handle);
}

static void drop(p2p_event_loop_t *loop, const p2p_backend_event *event) {
    loop->stats.stale_events++;
    p2pi_event_release(loop, event, false);
}

/* All of what a socket may have of one turn: of read_budget, or of message_budget. */
#define SHARE_ALL UINT16_MAX

static uint32_t share_of(uint64_t amount, uint32_t budget) {
    uint64_t share = amount * SHARE_ALL / budget;
    return share < SHARE_ALL ? (uint32_t)share : SHARE_ALL;
}

/* Streams bring what the peer sends, several events in a wait: the budgets are kept here. A socket that is owed a round
 * for what came before has it before what came later. */
static void receive_share(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data, size_t length) {
    p2pi_entry *entry = sock->entry;
    uint64_t token = entry->io.token, messages_before = loop->stats.messages_in;
    uint16_t turn = (uint16_t)loop->stats.turns;
    if (entry->share_turn != turn) entry->share = 0;
    entry->share_turn = turn;
    if (entry->share == SHARE_ALL || (sock->tell & P2PI_TELL_INPUT) != 0) {
        p2pi_connection_put_off(loop, sock, data, length);
        return;
    }
    uint32_t budget = loop->options.message_budget;
    uint32_t used = (uint32_t)((uint64_t)budget * entry->share / SHARE_ALL);
    loop->input.budget = budget - used;
    p2pi_connection_received(loop, sock, data, length);
    loop->input.budget = budget;
    if (entry->io.token != token) return;
    uint32_t bytes = share_of(length, loop->options.read_budget);
    uint32_t messages = share_of(loop->stats.messages_in - messages_before, budget);
    uint32_t share = entry->share + (bytes > messages ? bytes : messages);
    entry->share = (uint16_t)(share < SHARE_ALL ? share : SHARE_ALL);
}

static void received(p2p_event_loop_t *loop, p2p_socket_t *sock, const p2p_backend_event *event) {
    if ((event->flags & P2P_MORE) == 0) sock->receiving = false; /* never the reverse: it may have been stopped since */
    if (event->result > 0) {
        uint32_t index = event->u.buffer.index; /* the batch may move while the callback runs */
        loop->stats.buffers_lent++;
        receive_share(loop, sock, p2pi_buffer_of(loop, event), (size_t)event->result);
        loop->stats.buffers_lent--;
        loop->ops.buf_recycle(loop->backend, index);
    } else if ((event->flags & P2P_NO_BUFFERS) != 0) {
        /* All lent buffers are back by the next turn: arm again then. A remainder keeps none, and is owed nothing. */
        if (sock->remainder)
            p2pi_connection_pump(sock);
        else
            p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    } else {
        p2pi_connection_received_end(loop, sock, event->result);
    }
}

static void completed(p2p_event_loop_t *loop, p2pi_entry *entry, const p2p_backend_event *event) {
    if (event->kind == P2P_EVENT_OP_DONE) /* stale or not, the request itself knows whom it concerns */
        p2pi_request_done(loop, P2PI_CONTAINER(event->u.op, p2pi_request, op), event->result);
    else if (event->kind == P2P_EVENT_RECV && entry != NULL && entry->kind == P2PI_CONNECTION)
        received(loop, entry->owner, event);
    else if (event->kind == P2P_EVENT_ACCEPT && entry != NULL && entry->kind == P2PI_LISTENER)
        p2pi_listener_accepted(loop, entry->owner, event->u.handle, event->result, event->flags);
    else if (event->kind == P2P_EVENT_DETACHED)
        p2pi_entry_detached(&loop->registry, event->token);
    else
        drop(loop, event);
}

P2PI_UNUSUAL static void dispatch_other(p2p_event_loop_t *loop, const p2p_backend_event *event) {
    p2pi_entry *entry = p2pi_registry_find(&loop->registry, event->token);
    if (event->kind != P2P_EVENT_READY)
        completed(loop, entry, event);
    else if (entry == NULL)
        drop(loop, event);
    else if (entry->kind == P2PI_CONNECTION || entry->kind == P2PI_LISTENER)
        p2pi_emul_ready(loop, entry, event->flags);
    else if (entry->kind == P2PI_WATCH)
        p2pi_watch_ready(loop, entry->owner, event->flags);
    else if (entry->kind == P2PI_DATAGRAM)
        p2pi_datagram_ready(loop, entry->owner, event->flags);
}

/* What nearly all events are: something to receive for whom recv_start is in force, which are connections only. */
static inline bool usual(const p2pi_entry *entry, const p2p_backend_event *event) {
    return event->kind == P2P_EVENT_READY && event->flags == P2P_IN && entry != NULL &&
           (entry->flags & P2PI_ENTRY_RECV) != 0;
}

void p2pi_dispatch(p2p_event_loop_t *loop) {
    p2pi_batch *batch = &loop->batch;
    while (batch->next < batch->count) {
        const p2p_backend_event *event = &batch->events[batch->next++];
        p2pi_entry *entry = p2pi_registry_look_up(&loop->registry, event->token);
        if (usual(entry, event))
            p2pi_emul_recv(loop, entry);
        else
            dispatch_other(loop, event);
    }
    batch->next = batch->count = 0;
}
