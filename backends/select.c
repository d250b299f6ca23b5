/*
 * Backend select, for POSIX: sets of bits, one a handle number.
 *
 * FD_SETSIZE bounds the type fd_set, not the system call: the sets here are as large as the largest
 * handle needs. The kernel's sets are arrays of unsigned long. The exceptional set isn't asked for: here it
 * means urgent data only, and would wake the loop for each urgent byte that nobody reads. A hang-up or an
 * error shows as readable or writable.
 */
#include "slots.h"

#include <limits.h>

#define BITS (sizeof(unsigned long) * CHAR_BIT)

/* The sets lie in one block, each `words` long: what is wanted, and what the kernel made of a copy of it. */
enum { WANT_IN, WANT_OUT, GOT_IN, GOT_OUT, SET_COUNT };

typedef struct select_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2p_handle_t wake[2];
    unsigned long *sets;
    size_t words;
    int nfds; /* the largest handle in a set, plus 1 */
    p2pi_slots slots;
} select_backend;

static unsigned long *set_at(const select_backend *backend, int set) {
    return backend->sets + (size_t)set * backend->words;
}

static int has(const select_backend *backend, int set, int handle) {
    return (set_at(backend, set)[(size_t)handle / BITS] >> ((size_t)handle % BITS) & 1) != 0;
}

static void put(select_backend *backend, int set, int handle, int wanted) {
    unsigned long bit = 1ul << ((size_t)handle % BITS);
    unsigned long *word = &set_at(backend, set)[(size_t)handle / BITS];
    *word = wanted ? *word | bit : *word & ~bit;
}

static void want(select_backend *backend, int handle, uint32_t mask) {
    put(backend, WANT_IN, handle, (mask & P2P_IN) != 0);
    put(backend, WANT_OUT, handle, (mask & P2P_OUT) != 0);
    if (mask != 0 && handle >= backend->nfds) {
        backend->nfds = handle + 1;
    }
    while (backend->nfds > 0 && !has(backend, WANT_IN, backend->nfds - 1) &&
           !has(backend, WANT_OUT, backend->nfds - 1)) {
        backend->nfds--;
    }
}

/* Room for a handle in the sets and for one more slot. */
static int make_room(select_backend *backend, int handle) {
    const p2p_allocator *allocator = backend->allocator;
    size_t words = backend->words == 0 ? 1024 / BITS : backend->words;
    while (words <= (size_t)handle / BITS) {
        words *= 2;
    }
    if (words != backend->words) {
        size_t size = SET_COUNT * words * sizeof(unsigned long);
        unsigned long *sets = allocator->alloc(size, allocator->user);
        if (sets == NULL) {
            return -P2PI_OS_NO_MEMORY;
        }
        memset(sets, 0, size);
        if (backend->sets != NULL) {
            memcpy(sets, set_at(backend, WANT_IN), backend->words * sizeof(unsigned long));
            memcpy(sets + words, set_at(backend, WANT_OUT), backend->words * sizeof(unsigned long));
            allocator->free(backend->sets, allocator->user);
        }
        backend->sets = sets;
        backend->words = words;
    }
    uint32_t capacity = p2pi_slots_growth(&backend->slots);
    return capacity == 0 ? 0 : p2pi_slots_resize(&backend->slots, allocator, capacity);
}

static void free_memory(select_backend *backend) {
    const p2p_allocator *allocator = backend->allocator;
    if (backend->slots.ios != NULL) {
        allocator->free(backend->slots.ios, allocator->user);
    }
    if (backend->sets != NULL) {
        allocator->free(backend->sets, allocator->user);
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

    const char *call = "wake_open";
    int result = env->sys->wake_open(backend->wake);
    if (result < 0) {
        goto fail_wake;
    }
    call = "alloc";
    result = make_room(backend, backend->wake[0]);
    if (result < 0) {
        goto fail_room;
    }
    p2pi_slots_add(&backend->slots, NULL);
    want(backend, backend->wake[0], P2P_IN);
    *out = &backend->head;
    return 0;

fail_room:
    env->sys->wake_close(backend->wake);
fail_wake:
    free_memory(backend);
    return p2pi_create_failed(env, call, result);
}

static void destroy(p2p_backend *head) {
    select_backend *backend = (select_backend *)head;
    backend->sys->wake_close(backend->wake);
    free_memory(backend);
}

static int detach(p2p_backend *head, p2p_io *io) {
    select_backend *backend = (select_backend *)head;
    if (p2pi_slot_state_of(io)->slot != 0) {
        want(backend, io->handle, 0);
        p2pi_slots_remove(&backend->slots, io);
    }
    return 0;
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)old_mask; /* the slot says it */
    select_backend *backend = (select_backend *)head;
    if (new_mask == 0) {
        return detach(head, io);
    }
    int result = p2pi_slots_check(backend->sys, io);
    if (result < 0) {
        return result;
    }
    if (p2pi_slot_state_of(io)->slot == 0) {
        result = make_room(backend, io->handle);
        if (result < 0) {
            return result;
        }
        if (has(backend, WANT_IN, io->handle) || has(backend, WANT_OUT, io->handle)) {
            return -EEXIST; /* a handle has one bit, so two can't share it */
        }
        p2pi_slots_add(&backend->slots, io);
    }
    want(backend, io->handle, new_mask);
    return 0;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_select(select_backend *backend, int64_t timeout_ns) {
    int count = backend->sys->select(backend->nfds, set_at(backend, GOT_IN), set_at(backend, GOT_OUT), NULL,
                                     timeout_ns);
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
    if (stored == 0 && backend->sys->inspect(backend->wake[0]) < 0) {
        return -P2PI_OS_BAD_HANDLE;
    }
    return stored;
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    select_backend *backend = (select_backend *)head;
    size_t size = ((size_t)backend->nfds + BITS - 1) / BITS * sizeof(unsigned long);
    memcpy(set_at(backend, GOT_IN), set_at(backend, WANT_IN), size);
    memcpy(set_at(backend, GOT_OUT), set_at(backend, WANT_OUT), size);
    int ready = wait_in_select(backend, timeout_ns);
    if (ready == -P2PI_OS_BAD_HANDLE) {
        return report_closed(backend, out, capacity);
    }
    if (ready <= 0) {
        return ready; /* and the sets are as they were */
    }
    if (has(backend, GOT_IN, backend->wake[0])) {
        (void)backend->sys->wake_drain(backend->wake[0]);
        ready--;
    }
    uint32_t begin = backend->slots.next;
    int stored = 0;
    for (uint32_t left = backend->slots.count - 1; left > 0 && ready > 0 && stored < capacity; left--) {
        p2p_io *io = backend->slots.ios[p2pi_slots_step(&backend->slots)];
        uint32_t flags = (has(backend, GOT_IN, io->handle) ? P2P_IN : 0) |
                         (has(backend, GOT_OUT, io->handle) ? P2P_OUT : 0);
        if (flags != 0) {
            out[stored++] = p2pi_ready(io->token, flags);
            ready -= flags == (P2P_IN | P2P_OUT) ? 2 : 1;
        }
    }
    if (stored < capacity) p2pi_slots_rotate(&backend->slots, begin);
    return stored;
}

static int wake(p2p_backend *head) {
    select_backend *backend = (select_backend *)head;
    return backend->sys->wake_signal(backend->wake[1]);
}

const p2p_backend_ops p2pi_backend_select = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "select",
    .caps = P2P_CAP_ANY_FD,
    .io_state_size = sizeof(p2pi_slot_state),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};
