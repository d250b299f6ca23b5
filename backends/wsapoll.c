/*
 * Backend wsapoll: the whole set goes to WSAPoll with each wait and is scanned afterwards.
 * https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsapoll
 *
 * fds[] and slots.ios[] are parallel; both are dense, and slot 0 is the wake-up's, so that the set is never empty
 * (WSAPoll refuses that).
 *
 * WSAPoll can't be asked about two kinds of sockets: before Windows 10 2004 it never reports a connect that has failed,
 * and of a socket whose peer has ended its side it reports POLLHUP for ever, also when only room for output is waited
 * for. While there are any of these, the backend waits in select instead, which tells of both what was asked.
 */
#include "winsock_sets.h"

typedef struct wsapoll_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2pi_winsock_wake wake;
    WSAPOLLFD *fds;
    p2pi_slots slots;
    p2pi_handle_sets sets;
    uint32_t for_select; /* how many sockets WSAPoll can't be asked about */
} wsapoll_backend;

static int make_room(wsapoll_backend *backend) {
    uint32_t capacity = p2pi_slots_growth(&backend->slots);
    if (capacity == 0) {
        return 0;
    }
    const p2p_allocator *allocator = backend->allocator;
    WSAPOLLFD *fds = allocator->realloc(backend->fds, capacity * sizeof(*fds), allocator->user);
    if (fds == NULL) {
        return -P2PI_OS_NO_MEMORY;
    }
    backend->fds = fds;
    int result = p2pi_handle_sets_resize(&backend->sets, allocator, capacity);
    return result < 0 ? result : p2pi_slots_resize(&backend->slots, allocator, capacity);
}

static void free_memory(wsapoll_backend *backend) {
    const p2p_allocator *allocator = backend->allocator;
    if (backend->slots.ios != NULL) {
        allocator->free(backend->slots.ios, allocator->user);
    }
    p2pi_handle_sets_free(&backend->sets, allocator);
    if (backend->fds != NULL) {
        allocator->free(backend->fds, allocator->user);
    }
    allocator->free(backend, allocator->user);
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    if (env->sys->poll == NULL || env->sys->select == NULL) {
        return p2pi_create_failed(env, "WSAPoll", -P2PI_OS_NO_CALL);
    }
    wsapoll_backend *backend = env->allocator->alloc(sizeof(*backend), env->allocator->user);
    if (backend == NULL) {
        return p2pi_create_failed(env, "alloc", -P2PI_OS_NO_MEMORY);
    }
    memset(backend, 0, sizeof(*backend));
    backend->allocator = env->allocator;
    backend->sys = env->sys;

    const char *call = "realloc";
    int result = make_room(backend);
    if (result < 0) {
        goto fail;
    }
    call = "wake_open";
    result = env->sys->wake_open(backend->wake.ends);
    if (result < 0) {
        goto fail;
    }
    uint32_t slot = p2pi_slots_add(&backend->slots, NULL);
    backend->fds[slot] = (WSAPOLLFD){ .fd = backend->wake.ends[0], .events = POLLRDNORM };
    *out = &backend->head;
    return 0;

fail:
    free_memory(backend);
    return p2pi_create_failed(env, call, result);
}

static void destroy(p2p_backend *head) {
    wsapoll_backend *backend = (wsapoll_backend *)head;
    backend->sys->wake_close(backend->wake.ends);
    free_memory(backend);
}

/* Each change of what select is needed for passes here. */
static void set_state(wsapoll_backend *backend, const p2p_io *io, bool connecting, bool half_closed) {
    p2pi_winsock_state *state = p2pi_winsock_state_of(io);
    backend->for_select -= state->connecting || state->half_closed;
    state->connecting = connecting;
    state->half_closed = half_closed;
    backend->for_select += connecting || half_closed;
}

static int detach(p2p_backend *head, p2p_io *io) {
    wsapoll_backend *backend = (wsapoll_backend *)head;
    uint32_t slot = p2pi_slot_state_of(io)->slot;
    if (slot != 0) {
        set_state(backend, io, false, false);
        p2pi_winsock_state_of(io)->wanted = 0;
        backend->fds[slot] = backend->fds[p2pi_slots_remove(&backend->slots, io)];
    }
    return 0;
}

/* Any other bit makes Windows refuse the whole call (WSAEINVAL). */
static short events_of(uint32_t mask) {
    return (short)((mask & P2P_IN ? POLLRDNORM : 0) | (mask & P2P_OUT ? POLLWRNORM : 0));
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)old_mask; /* the state says it */
    wsapoll_backend *backend = (wsapoll_backend *)head;
    if (new_mask == 0) { /* an entry without events would still report HUP and ERR (B4) */
        return detach(head, io);
    }
    int result = p2pi_slots_check(backend->sys, io);
    if (result < 0) {
        return result;
    }
    uint32_t slot = p2pi_slot_state_of(io)->slot;
    if (slot == 0) {
        result = make_room(backend);
        if (result < 0) {
            return result;
        }
        slot = p2pi_slots_add(&backend->slots, io);
    }
    p2pi_winsock_state *state = p2pi_winsock_state_of(io);
    bool connecting = (new_mask & P2P_OUT) != 0 &&
                      ((state->wanted & P2P_OUT) != 0 ? state->connecting
                                                      : p2pi_winsock_is_connecting(backend->sys, io->handle));
    set_state(backend, io, connecting, false); /* if half closed, WSAPoll says so again */
    state->wanted = new_mask;
    backend->fds[slot] = (WSAPOLLFD){ .fd = io->handle, .events = events_of(new_mask) };
    return 0;
}

/* Stack traces that end in one of these two show a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_wsapoll(wsapoll_backend *backend, int64_t timeout_ns) {
    int count = backend->sys->poll(backend->fds, backend->slots.count, timeout_ns);
    return count == -P2PI_OS_INTERRUPTED ? 0 : count;
}

/* Leaves in fds[] what WSAPoll would have, had it been asked what select was. */
P2PI_NOINLINE static int wait_in_select(wsapoll_backend *backend, int64_t timeout_ns) {
    p2pi_handle_sets *sets = &backend->sets;
    p2pi_handle_sets_fill(sets, &backend->slots, backend->wake.ends[0]);
    int count = backend->sys->select(0, p2pi_handle_sets_or_null(sets, P2PI_SET_IN),
                                     p2pi_handle_sets_or_null(sets, P2PI_SET_OUT),
                                     p2pi_handle_sets_or_null(sets, P2PI_SET_FAILED), timeout_ns);
    if (count == -P2PI_OS_BAD_HANDLE) { /* one is closed, and WSAPoll knows which */
        return wait_in_wsapoll(backend, 0);
    }
    if (count < 0 && count != -P2PI_OS_INTERRUPTED) {
        return count;
    }
    p2pi_handle_sets_sort(sets, count);
    backend->fds[0].revents = p2pi_handle_set_has(sets->at[P2PI_SET_IN], backend->fds[0].fd) ? POLLRDNORM : 0;
    for (uint32_t slot = 1; slot < backend->slots.count; slot++) {
        uint32_t flags = p2pi_handle_sets_flags(sets, backend->slots.ios[slot]);
        backend->fds[slot].revents = (short)(events_of(flags) | (flags & P2P_ERR ? POLLERR : 0));
    }
    return 0;
}

/* What one entry has to report; taken from it, since it may be moved and met again. */
static uint32_t take_flags(WSAPOLLFD *entry) {
    short events = entry->revents;
    entry->revents = 0;
    if ((events & POLLHUP) && (events & POLLERR) == 0 && (entry->events & POLLRDNORM) == 0) {
        events = (short)(events & ~POLLHUP); /* nobody asked for the end of input */
    }
    /* An end is POLLHUP and a failed connect may be POLLERR alone: both are ready to be asked, for what is wanted. */
    if (events & (POLLHUP | POLLERR)) {
        events = (short)(events | (entry->events & POLLRDNORM));
    }
    if (events & POLLERR) {
        events = (short)(events | (entry->events & POLLWRNORM));
    }
    return (events & POLLRDNORM ? P2P_IN : 0) | (events & POLLWRNORM ? P2P_OUT : 0) |
           (events & POLLHUP ? P2P_HUP : 0) | (events & (POLLERR | POLLNVAL) ? P2P_ERR : 0);
}

/* All entries are walked: the count that WSAPoll returns leaves out closed handles. */
static int collect(wsapoll_backend *backend, p2p_backend_event *out, int capacity) {
    uint32_t begin = backend->slots.next;
    int stored = 0;
    for (uint32_t left = backend->slots.count - 1; left > 0 && stored < capacity; left--) {
        uint32_t slot = p2pi_slots_step(&backend->slots);
        p2p_io *io = backend->slots.ios[slot];
        WSAPOLLFD *entry = &backend->fds[slot];
        short events = entry->revents;
        if (events == 0) {
            continue;
        }
        const p2pi_winsock_state *state = p2pi_winsock_state_of(io);
        bool connecting = state->connecting && (events & (POLLERR | POLLWRNORM)) != POLLWRNORM; /* else it has a peer */
        bool only_out = (entry->events & POLLRDNORM) == 0;
        set_state(backend, io, connecting, state->half_closed || ((events & POLLHUP) != 0 && only_out));
        uint32_t flags = take_flags(entry);
        if (flags != 0) {
            out[stored++] = p2pi_ready(io->token, flags);
        }
        if (events & POLLNVAL) { /* closed behind our back: told once, until interest is set anew */
            detach(&backend->head, io);
            backend->slots.next = slot; /* where the last one is now */
        }
    }
    if (stored < capacity) {
        p2pi_slots_rotate(&backend->slots, begin);
    }
    return stored;
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    wsapoll_backend *backend = (wsapoll_backend *)head;
    int result = backend->for_select > 0 ? wait_in_select(backend, timeout_ns) : wait_in_wsapoll(backend, timeout_ns);
    if (result < 0) {
        return result;
    }
    short woken = backend->fds[0].revents;
    if (woken & POLLNVAL) {
        return -P2PI_OS_BAD_HANDLE; /* the wake-up was closed behind our back */
    }
    if (woken != 0) {
        result = p2pi_winsock_wake_drain(&backend->wake, backend->sys);
        if (result < 0) {
            return result;
        }
    }
    return collect(backend, out, capacity);
}

static int wake(p2p_backend *head) {
    wsapoll_backend *backend = (wsapoll_backend *)head;
    return p2pi_winsock_wake_signal(&backend->wake, backend->sys);
}

const p2p_backend_ops p2pi_backend_wsapoll = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "wsapoll",
    .caps = 0,
    .io_state_size = sizeof(p2pi_winsock_state),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};
