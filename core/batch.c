/*
 * What waits have brought and nobody has been told of yet. A turn fills the batch by one wait and empties it. A detach
 * that the backend defers is waited for inside a turn or between two: what else those waits bring stays in the batch.
 */
#include "internal.h"

#include <string.h>

#define ROOM_MIN 64u       /* events that a wait between two dispatches has room for */
#define SETTLE_WAITS 1000u /* far more than any backend needs; then DETACHED is left to come when it comes */

int p2pi_batch_init(p2p_event_loop_t *loop) {
    p2pi_batch *batch = &loop->batch;
    batch->capacity = batch->wanted = loop->options.max_events;
    batch->events = p2pi_alloc(batch->capacity * sizeof *batch->events);
    return batch->events == NULL ? P2P_ERR_NO_MEMORY : P2P_OK;
}

void p2pi_batch_fini(p2p_event_loop_t *loop) {
    p2pi_free(loop->batch.events);
}

/* The last wait had more than it could bring. Where sends are told of too, they would crowd out what is received. */
static void widen(p2pi_batch *batch) {
    uint32_t wanted = batch->wanted * 2 < batch->most ? batch->wanted * 2 : batch->most;
    if (batch->capacity < wanted) {
        p2p_backend_event *events = p2pi_realloc(batch->events, wanted * sizeof *events);
        if (events == NULL) return; /* as many as before, then */
        batch->events = events;
        batch->capacity = wanted;
    }
    batch->wanted = wanted;
}

void p2pi_batch_fill(p2p_event_loop_t *loop, int64_t timeout_ns) {
    p2pi_batch *batch = &loop->batch;
    if (batch->was_full && batch->wanted < batch->most) widen(batch);
    uint32_t room = batch->capacity - batch->count;
    if (room > batch->wanted) room = batch->wanted;
    if (room == 0) return; /* full of what an earlier one has brought, which comes first */
    int count = loop->ops.wait(loop->backend, batch->events + batch->count, (int)room, timeout_ns);
    atomic_exchange_explicit(&loop->wake_pending, false, memory_order_acq_rel);
    loop->stats.waits++;
    if (count < 0) {
        p2pi_loop_failed(loop, "wait", count);
        return;
    }
    if (count > 0) loop->stats.wakeups++;
    loop->stats.events += (uint64_t)count;
    if ((uint64_t)count > loop->stats.events_max) loop->stats.events_max = (uint64_t)count;
    batch->count += (uint32_t)count;
    batch->was_full = (uint32_t)count == batch->wanted;
}

/* ---- settling ----------------------------------------------------------------------------------------------- */

static int make_room(p2pi_batch *batch) {
    if (batch->next == batch->count) batch->next = batch->count = 0;
    if (batch->capacity - batch->count >= ROOM_MIN) return P2P_OK;
    uint32_t capacity = batch->capacity < ROOM_MIN ? ROOM_MIN : batch->capacity * 2;
    p2p_backend_event *events = p2pi_realloc(batch->events, capacity * sizeof *events);
    if (events == NULL) return P2P_ERR_NO_MEMORY;
    batch->events = events;
    batch->capacity = capacity;
    return P2P_OK;
}

/* What was received for an owner that keeps the handle is its own still. */
static void keep(p2p_event_loop_t *loop, const p2pi_entry *entry, const p2p_backend_event *event) {
    bool kept = (entry->flags & P2PI_ENTRY_CLOSE) == 0;
    if (kept && event->kind == P2P_EVENT_ACCEPT && entry->kind == P2PI_LISTENER)
        p2pi_listener_keep(entry->owner, event);
    else if (kept && event->kind == P2P_EVENT_RECV && entry->kind == P2PI_CONNECTION)
        p2pi_connection_keep(entry->owner, event);
    p2pi_event_release(loop, event, kept);
}

static void take(p2p_event_loop_t *loop, p2pi_entry *entry, const p2p_backend_event *event) {
    if (event->kind == P2P_EVENT_OP_DONE)
        p2pi_request_done(loop, P2PI_CONTAINER(event->u.op, p2pi_request, op), event->result);
    else if (event->kind == P2P_EVENT_DETACHED)
        p2pi_entry_detached(&loop->registry, event->token);
    else
        keep(loop, entry, event);
}

/* Take the entry's own events out of those from `from` on, and close the gaps. */
static void sift(p2p_event_loop_t *loop, p2pi_entry *entry, uint32_t from) {
    p2pi_batch *batch = &loop->batch;
    uint64_t token = entry->io.token;
    uint32_t left = from;
    for (uint32_t i = from; i < batch->count; i++) {
        if (batch->events[i].token == token)
            take(loop, entry, &batch->events[i]);
        else
            batch->events[left++] = batch->events[i];
    }
    batch->count = left;
}

/* Readiness is told again by the next wait: without these, many waits fill the batch with what is not lost. */
static void drop_ready(p2pi_batch *batch, uint32_t from) {
    uint32_t left = from;
    for (uint32_t i = from; i < batch->count; i++)
        if (batch->events[i].kind != P2P_EVENT_READY) batch->events[left++] = batch->events[i];
    batch->count = left;
}

/* What a request's end leads to may sift the batch, so each one begins anew. */
static bool take_request(p2p_event_loop_t *loop) {
    p2pi_batch *batch = &loop->batch;
    for (uint32_t i = batch->next; i < batch->count; i++) {
        p2p_backend_event event = batch->events[i];
        if (event.kind != P2P_EVENT_OP_DONE) continue;
        memmove(&batch->events[i], &batch->events[i + 1], (--batch->count - i) * sizeof event);
        p2pi_request_done(loop, P2PI_CONTAINER(event.u.op, p2pi_request, op), event.result);
        return true;
    }
    return false;
}

void p2pi_batch_hear_requests(p2p_event_loop_t *loop) {
    p2pi_batch *batch = &loop->batch;
    bool heard = true;
    while (heard && !p2pi_list_empty(&loop->in_flight) && loop->fatal_error == 0 && make_room(batch) == P2P_OK) {
        uint32_t before = batch->count;
        p2pi_batch_fill(loop, 0);
        drop_ready(batch, before);
        heard = take_request(loop);
        while (take_request(loop)) {
        }
    }
}

void p2pi_batch_settle(p2p_event_loop_t *loop, p2pi_entry *entry) {
    p2pi_batch *batch = &loop->batch;
    sift(loop, entry, batch->next);
    for (uint32_t i = 0; i < SETTLE_WAITS && (entry->flags & P2PI_ENTRY_DETACHING) != 0; i++) {
        if (loop->fatal_error != 0 || make_room(batch) < 0) return;
        uint32_t before = batch->count;
        p2pi_batch_fill(loop, 0);
        if (batch->count == before) return; /* it takes its time */
        drop_ready(batch, before);
        sift(loop, entry, before);
    }
}
