/*
 * Backend poll: the whole set goes to the kernel with each wait and is scanned afterwards.
 *
 * fds[] and slots.ios[] are parallel; both are dense, and slot 0 is the wake-up's.
 */
#include "slots.h"

#include <poll.h>

typedef struct poll_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2p_handle_t wake[2];
    struct pollfd *fds;
    p2pi_slots slots;
} poll_backend;

static int make_room(poll_backend *backend) {
    uint32_t capacity = p2pi_slots_growth(&backend->slots);
    if (capacity == 0) {
        return 0;
    }
    const p2p_allocator *allocator = backend->allocator;
    struct pollfd *fds = allocator->realloc(backend->fds, capacity * sizeof(*fds), allocator->user);
    if (fds == NULL) {
        return -P2PI_OS_NO_MEMORY;
    }
    backend->fds = fds;
    return p2pi_slots_resize(&backend->slots, allocator, capacity);
}

static void free_memory(poll_backend *backend) {
    const p2p_allocator *allocator = backend->allocator;
    if (backend->slots.ios != NULL) {
        allocator->free(backend->slots.ios, allocator->user);
    }
    if (backend->fds != NULL) {
        allocator->free(backend->fds, allocator->user);
    }
    allocator->free(backend, allocator->user);
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    if (env->sys->poll == NULL) {
        return p2pi_create_failed(env, "poll", -P2PI_OS_NO_CALL);
    }
    poll_backend *backend = env->allocator->alloc(sizeof(*backend), env->allocator->user);
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
    result = env->sys->wake_open(backend->wake);
    if (result < 0) {
        goto fail;
    }
    uint32_t slot = p2pi_slots_add(&backend->slots, NULL);
    backend->fds[slot] = (struct pollfd){ .fd = backend->wake[0], .events = POLLIN };
    *out = &backend->head;
    return 0;

fail:
    free_memory(backend);
    return p2pi_create_failed(env, call, result);
}

static void destroy(p2p_backend *head) {
    poll_backend *backend = (poll_backend *)head;
    backend->sys->wake_close(backend->wake);
    free_memory(backend);
}

static int detach(p2p_backend *head, p2p_io *io) {
    poll_backend *backend = (poll_backend *)head;
    uint32_t slot = p2pi_slot_state_of(io)->slot;
    if (slot != 0) {
        backend->fds[slot] = backend->fds[p2pi_slots_remove(&backend->slots, io)];
    }
    return 0;
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)old_mask; /* the slot says it */
    poll_backend *backend = (poll_backend *)head;
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
    short events = (short)((new_mask & P2P_IN ? POLLIN : 0) | (new_mask & P2P_OUT ? POLLOUT : 0));
    backend->fds[slot] = (struct pollfd){ .fd = io->handle, .events = events };
    return 0;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_poll(poll_backend *backend, int64_t timeout_ns) {
    int count = backend->sys->poll(backend->fds, backend->slots.count, timeout_ns);
    return count == -P2PI_OS_INTERRUPTED ? 0 : count;
}

/* What one entry has to report. A handle closed behind our back is told once and then left out. */
static uint32_t flags_of(struct pollfd *entry) {
    short events = entry->revents;
    if (events & POLLNVAL) {
        entry->fd = -1; /* poll skips it, until interest is set anew */
        return P2P_ERR;
    }
    return (events & POLLIN ? P2P_IN : 0) | (events & POLLOUT ? P2P_OUT : 0) |
           (events & POLLHUP ? P2P_HUP : 0) | (events & POLLERR ? P2P_ERR : 0);
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    poll_backend *backend = (poll_backend *)head;
    int ready = wait_in_poll(backend, timeout_ns);
    if (ready <= 0) {
        return ready;
    }
    if (backend->fds[0].revents & POLLNVAL) {
        return -P2PI_OS_BAD_HANDLE; /* the wake-up was closed behind our back */
    }
    if (backend->fds[0].revents != 0) {
        (void)backend->sys->wake_drain(backend->wake[0]);
        ready--;
    }
    uint32_t begin = backend->slots.next;
    int stored = 0;
    for (uint32_t left = backend->slots.count - 1; left > 0 && ready > 0 && stored < capacity; left--) {
        uint32_t slot = p2pi_slots_step(&backend->slots);
        if (backend->fds[slot].revents != 0) {
            out[stored++] = p2pi_ready(backend->slots.ios[slot]->token, flags_of(&backend->fds[slot]));
            ready--;
        }
    }
    if (stored < capacity) p2pi_slots_rotate(&backend->slots, begin);
    return stored;
}

static int wake(p2p_backend *head) {
    poll_backend *backend = (poll_backend *)head;
    return backend->sys->wake_signal(backend->wake[1]);
}

const p2p_backend_ops p2pi_backend_poll = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "poll",
#if defined(__linux__)
    .caps = P2P_CAP_ANY_FD | P2P_CAP_SUBMS_WAIT, /* ppoll */
#else
    .caps = P2P_CAP_ANY_FD,
#endif
    .io_state_size = sizeof(p2pi_slot_state),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};
