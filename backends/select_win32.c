/*
 * Backend select, for Windows: three lists of handles, made anew for each wait, since select leaves only the
 * ready ones in them.
 *
 * FD_SETSIZE bounds the type fd_set, not the system call: the lists here are as long as need be. The exceptional
 * one is where a failed connect is told, and nowhere else; only connects under way are in it, since it
 * also means urgent data, which would wake the loop for each urgent byte that nobody reads.
 */
#include "winsock.h"

enum { SET_IN, SET_OUT, SET_FAILED, SET_COUNT };

typedef struct select_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2pi_winsock_wake wake;
    p2pi_handle_set *sets[SET_COUNT]; /* each with room for every slot */
    p2pi_slots slots;
} select_backend;

static int make_room(select_backend *backend) {
    uint32_t capacity = p2pi_slots_growth(&backend->slots);
    if (capacity == 0) {
        return 0;
    }
    for (int i = 0; i < SET_COUNT; i++) {
        int result = p2pi_handle_set_resize(&backend->sets[i], backend->allocator, capacity);
        if (result < 0) {
            return result;
        }
    }
    return p2pi_slots_resize(&backend->slots, backend->allocator, capacity);
}

static void free_memory(select_backend *backend) {
    const p2p_allocator *allocator = backend->allocator;
    if (backend->slots.ios != NULL) {
        allocator->free(backend->slots.ios, allocator->user);
    }
    for (int i = 0; i < SET_COUNT; i++) {
        if (backend->sets[i] != NULL) {
            allocator->free(backend->sets[i], allocator->user);
        }
    }
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
        state->connecting = 0;
    } else if ((state->wanted & P2P_OUT) == 0) {
        state->connecting = p2pi_winsock_is_connecting(backend->sys, io->handle);
    }
    state->wanted = new_mask;
    return 0;
}

static void put(select_backend *backend, int set, p2p_handle_t handle) {
    p2pi_handle_set *into = backend->sets[set];
    into->handles[into->count++] = handle;
}

static void fill_sets(select_backend *backend) {
    for (int i = 0; i < SET_COUNT; i++) {
        backend->sets[i]->count = 0;
    }
    put(backend, SET_IN, backend->wake.ends[0]);
    for (uint32_t slot = 1; slot < backend->slots.count; slot++) {
        const p2p_io *io = backend->slots.ios[slot];
        const p2pi_winsock_state *state = p2pi_winsock_state_of(io);
        if (state->wanted & P2P_IN) {
            put(backend, SET_IN, io->handle);
        }
        if (state->wanted & P2P_OUT) {
            put(backend, SET_OUT, io->handle);
        }
        if (state->connecting) {
            put(backend, SET_FAILED, io->handle);
        }
    }
}

/* "Any non-null descriptor set must contain at least one handle to a socket": the documentation of select. */
static p2pi_handle_set *set_unless_empty(const select_backend *backend, int set) {
    return backend->sets[set]->count > 0 ? backend->sets[set] : NULL;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_select(select_backend *backend, int64_t timeout_ns) {
    int count = backend->sys->select(0, set_unless_empty(backend, SET_IN), set_unless_empty(backend, SET_OUT),
                                     set_unless_empty(backend, SET_FAILED), timeout_ns);
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

static uint32_t flags_of(const select_backend *backend, const p2p_io *io) {
    const p2pi_winsock_state *state = p2pi_winsock_state_of(io);
    if (state->connecting && p2pi_handle_set_has(backend->sets[SET_FAILED], io->handle)) {
        return P2P_OUT | P2P_ERR;
    }
    return (state->wanted & P2P_IN && p2pi_handle_set_has(backend->sets[SET_IN], io->handle) ? P2P_IN : 0) |
           (state->wanted & P2P_OUT && p2pi_handle_set_has(backend->sets[SET_OUT], io->handle) ? P2P_OUT : 0);
}

static int collect(select_backend *backend, p2p_backend_event *out, int capacity) {
    for (int i = 0; i < SET_COUNT; i++) {
        p2pi_handle_set_sort(backend->sets[i]);
    }
    if (p2pi_handle_set_has(backend->sets[SET_IN], backend->wake.ends[0])) {
        p2pi_winsock_wake_drain(&backend->wake, backend->sys);
    }
    uint32_t begin = backend->slots.next;
    int stored = 0;
    for (uint32_t left = backend->slots.count - 1; left > 0 && stored < capacity; left--) {
        p2p_io *io = backend->slots.ios[p2pi_slots_step(&backend->slots)];
        uint32_t flags = flags_of(backend, io);
        if (flags != 0) {
            out[stored++] = p2pi_ready(io->token, flags);
        }
        if (flags & P2P_OUT && (flags & P2P_ERR) == 0) {
            p2pi_winsock_state_of(io)->connecting = 0; /* it has succeeded */
        }
    }
    if (stored < capacity) {
        p2pi_slots_rotate(&backend->slots, begin);
    }
    return stored;
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    select_backend *backend = (select_backend *)head;
    fill_sets(backend);
    int ready = wait_in_select(backend, timeout_ns);
    if (ready == -P2PI_OS_BAD_HANDLE) {
        return report_closed(backend, out, capacity);
    }
    return ready <= 0 ? ready : collect(backend, out, capacity);
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
