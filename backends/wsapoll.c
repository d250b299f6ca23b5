/*
 * Backend wsapoll: the whole set goes to WSAPoll with each wait and is scanned afterwards.
 *
 * fds[] and slots.ios[] are parallel; both are dense, and slot 0 is the wake-up's, so that the set is never empty
 * (WSAPoll refuses that). Before Windows 10 2004 WSAPoll never reports a connect that has failed: as long as one is
 * under way, a wait lasts PROBE_INTERVAL_NS at most, and select is asked about it in between.
 * https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsapoll
 */
#include "winsock.h"

#define PROBE_INTERVAL_NS INT64_C(100000000)

typedef struct wsapoll_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2pi_winsock_wake wake;
    WSAPOLLFD *fds;
    p2pi_slots slots;
    p2pi_handle_set *probe; /* for select: room for every slot */
    uint32_t connecting;    /* how many sockets are */
    int64_t probe_at_ns;    /* when select is to be asked next */
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
    int result = p2pi_handle_set_resize(&backend->probe, allocator, capacity);
    return result < 0 ? result : p2pi_slots_resize(&backend->slots, allocator, capacity);
}

static void free_memory(wsapoll_backend *backend) {
    const p2p_allocator *allocator = backend->allocator;
    if (backend->slots.ios != NULL) {
        allocator->free(backend->slots.ios, allocator->user);
    }
    if (backend->probe != NULL) {
        allocator->free(backend->probe, allocator->user);
    }
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

static void set_connecting(wsapoll_backend *backend, const p2p_io *io, uint32_t connecting) {
    p2pi_winsock_state *state = p2pi_winsock_state_of(io);
    if (connecting && backend->connecting == 0) {
        backend->probe_at_ns = backend->sys->now_ns() + PROBE_INTERVAL_NS;
    }
    backend->connecting += connecting - state->connecting;
    state->connecting = connecting;
}

static int detach(p2p_backend *head, p2p_io *io) {
    wsapoll_backend *backend = (wsapoll_backend *)head;
    uint32_t slot = p2pi_slot_state_of(io)->slot;
    if (slot != 0) {
        set_connecting(backend, io, 0);
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
    if ((new_mask & P2P_OUT) == 0) {
        set_connecting(backend, io, 0);
    } else if ((state->wanted & P2P_OUT) == 0) {
        set_connecting(backend, io, p2pi_winsock_is_connecting(backend->sys, io->handle));
    }
    state->wanted = new_mask;
    backend->fds[slot] = (WSAPOLLFD){ .fd = io->handle, .events = events_of(new_mask) };
    return 0;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_wsapoll(wsapoll_backend *backend, int64_t timeout_ns) {
    if (backend->connecting > 0) {
        int64_t left_ns = backend->probe_at_ns - backend->sys->now_ns();
        left_ns = left_ns > 0 ? left_ns : 0;
        timeout_ns = timeout_ns < 0 || timeout_ns > left_ns ? left_ns : timeout_ns;
    }
    int count = backend->sys->poll(backend->fds, backend->slots.count, timeout_ns);
    return count == -P2PI_OS_INTERRUPTED ? 0 : count;
}

/* What one entry has to report; taken from it, since it may be moved and met again. */
static uint32_t take_flags(WSAPOLLFD *entry) {
    short events = entry->revents;
    entry->revents = 0;
    /* An end is POLLHUP and a failed connect may be POLLERR alone: both are ready to be asked, for what is wanted. */
    if (events & (POLLHUP | POLLERR)) {
        events |= entry->events & POLLRDNORM;
    }
    if (events & POLLERR) {
        events |= entry->events & POLLWRNORM;
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
        short events = backend->fds[slot].revents;
        if (events == 0) {
            continue;
        }
        out[stored++] = p2pi_ready(io->token, take_flags(&backend->fds[slot]));
        if ((events & POLLERR) == 0) {
            set_connecting(backend, io, 0); /* no more: it has a peer */
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

/* Ask select which of the connects under way have failed, and note it where WSAPoll would have. */
static void probe(wsapoll_backend *backend) {
    p2pi_handle_set *failed = backend->probe;
    failed->count = 0;
    for (uint32_t slot = 1; slot < backend->slots.count; slot++) {
        if (p2pi_winsock_state_of(backend->slots.ios[slot])->connecting) {
            failed->handles[failed->count++] = backend->fds[slot].fd;
        }
    }
    /* A handle closed behind our back fails the call: WSAPoll tells of it, and the next probe goes without it. */
    int count = backend->sys->select(0, NULL, NULL, failed, 0);
    /* What was found is found again by each wait, until nobody asks for it any more (B3). */
    backend->probe_at_ns = backend->sys->now_ns() + (count > 0 ? 0 : PROBE_INTERVAL_NS);
    if (count <= 0) {
        return;
    }
    p2pi_handle_set_sort(failed);
    for (uint32_t slot = 1; slot < backend->slots.count; slot++) {
        if (p2pi_winsock_state_of(backend->slots.ios[slot])->connecting &&
            p2pi_handle_set_has(failed, backend->fds[slot].fd)) {
            backend->fds[slot].revents |= POLLERR;
        }
    }
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    wsapoll_backend *backend = (wsapoll_backend *)head;
    int ready = wait_in_wsapoll(backend, timeout_ns);
    if (ready < 0) {
        return ready;
    }
    if (backend->fds[0].revents & POLLNVAL) {
        return -P2PI_OS_BAD_HANDLE; /* the wake-up was closed behind our back */
    }
    if (backend->fds[0].revents != 0) {
        p2pi_winsock_wake_drain(&backend->wake, backend->sys);
    }
    if (backend->connecting > 0 && backend->sys->now_ns() >= backend->probe_at_ns) {
        probe(backend);
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
