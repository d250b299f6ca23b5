/*
 * Backend select, for Windows: lists of handles, made anew for each wait.
 *
 * FD_SETSIZE bounds the type fd_set, not the system call: the lists here are as long as need be.
 */
#include "winsock_sets.h"

typedef struct select_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2pi_winsock_wake wake;
    p2pi_handle_sets sets;
    p2pi_slots slots;
} select_backend;

static int make_room(select_backend *backend) {
    uint32_t capacity = p2pi_slots_growth(&backend->slots);
    if (capacity == 0) {
        return 0;
    }
    int result = p2pi_handle_sets_resize(&backend->sets, backend->allocator, capacity);
    return result < 0 ? result : p2pi_slots_resize(&backend->slots, backend->allocator, capacity);
}

static void free_memory(select_backend *backend) {
    const p2p_allocator *allocator = backend->allocator;
    if (backend->slots.ios != NULL) {
        allocator->free(backend->slots.ios, allocator->user);
    }
    p2pi_handle_sets_free(&backend->sets, allocator);
    allocator->free(backend, allocator->user);
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    if (env->sys->select == NULL) {
        return p2pi_create_failed(env, "select", -P2PI_OS_NO_CALL);
    }
    select_backend *backend = env->allocator->alloc(sizeof(*backend), env->allocator->user);
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
    p2pi_slots_add(&backend->slots, NULL);
    *out = &backend->head;
    return 0;

fail:
    free_memory(backend);
    return p2pi_create_failed(env, call, result);
}

static void destroy(p2p_backend *head) {
    select_backend *backend = (select_backend *)head;
    backend->sys->wake_close(backend->wake.ends);
    free_memory(backend);
}

static int detach(p2p_backend *head, p2p_io *io) {
    select_backend *backend = (select_backend *)head;
    if (p2pi_slot_state_of(io)->slot != 0) {
        p2pi_winsock_state_of(io)->wanted = 0;
        p2pi_slots_remove(&backend->slots, io);
    }
    return 0;
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)old_mask; /* the state says it */
    select_backend *backend = (select_backend *)head;
    if (new_mask == 0) {
        return detach(head, io);
    }
    int result = p2pi_slots_check(backend->sys, io);
    if (result < 0) {
        return result;
    }
    if (p2pi_slot_state_of(io)->slot == 0) {
        result = make_room(backend);
        if (result < 0) {
            return result;
        }
        p2pi_slots_add(&backend->slots, io);
    }
    p2pi_winsock_state *state = p2pi_winsock_state_of(io);
    if ((new_mask & P2P_OUT) == 0) {
        state->connecting = false;
    } else if ((state->wanted & P2P_OUT) == 0) {
        state->connecting = p2pi_winsock_is_connecting(backend->sys, io->handle);
    }
    state->wanted = new_mask;
    return 0;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_select(select_backend *backend, int64_t timeout_ns) {
    const p2pi_handle_sets *sets = &backend->sets;
    int count = backend->sys->select(0, p2pi_handle_sets_or_null(sets, P2PI_SET_IN),
                                     p2pi_handle_sets_or_null(sets, P2PI_SET_OUT),
                                     p2pi_handle_sets_or_null(sets, P2PI_SET_FAILED), timeout_ns);
    return count == -P2PI_OS_INTERRUPTED ? 0 : count;
}

/* One closed handle fails the whole call. Report the closed ones and take them out; then the rest goes on. */
static int report_closed(select_backend *backend, p2p_backend_event *out, int capacity) {
    int stored = 0;
    for (uint32_t slot = backend->slots.count - 1; slot > 0 && stored < capacity; slot--) {
        p2p_io *io = backend->slots.ios[slot];
        if (backend->sys->inspect(io->handle) < 0) {
            detach(&backend->head, io);
            out[stored++] = p2pi_ready(io->token, P2P_ERR);
        }
    }
    if (stored == 0 && backend->sys->inspect(backend->wake.ends[0]) < 0) {
        return -P2PI_OS_BAD_HANDLE;
    }
    return stored;
}

static int collect(select_backend *backend, p2p_backend_event *out, int capacity) {
    uint32_t begin = backend->slots.next;
    int stored = 0;
    for (uint32_t left = backend->slots.count - 1; left > 0 && stored < capacity; left--) {
        p2p_io *io = backend->slots.ios[p2pi_slots_step(&backend->slots)];
        uint32_t flags = p2pi_handle_sets_flags(&backend->sets, io);
        if (flags != 0) {
            out[stored++] = p2pi_ready(io->token, flags);
        }
        if ((flags & (P2P_OUT | P2P_ERR)) == P2P_OUT) {
            p2pi_winsock_state_of(io)->connecting = false; /* it has succeeded */
        }
    }
    if (stored < capacity) {
        p2pi_slots_rotate(&backend->slots, begin);
    }
    return stored;
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    select_backend *backend = (select_backend *)head;
    p2pi_handle_sets_fill(&backend->sets, &backend->slots, backend->wake.ends[0]);
    int ready = wait_in_select(backend, timeout_ns);
    if (ready == -P2PI_OS_BAD_HANDLE) {
        return report_closed(backend, out, capacity);
    }
    if (ready <= 0) {
        return ready;
    }
    p2pi_handle_sets_sort(&backend->sets, ready);
    if (p2pi_handle_set_has(backend->sets.at[P2PI_SET_IN], backend->wake.ends[0])) {
        int result = p2pi_winsock_wake_drain(&backend->wake, backend->sys);
        if (result < 0) {
            return result;
        }
    }
    return collect(backend, out, capacity);
}

static int wake(p2p_backend *head) {
    select_backend *backend = (select_backend *)head;
    return p2pi_winsock_wake_signal(&backend->wake, backend->sys);
}

const p2p_backend_ops p2pi_backend_select = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "select",
    .caps = 0,
    .io_state_size = sizeof(p2pi_winsock_state),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};
