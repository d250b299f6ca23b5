/*
 * Backend epoll: the kernel keeps the set and hands out only what is ready, level-triggered.
 *
 * Events carry the token, never a pointer, since one may be harvested for a socket that was
 * detached a moment ago. Token 0 is the wake-up.
 */
#include "slots.h"

#include <stdbool.h>
#include <sys/epoll.h>

typedef struct epoll_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    int epoll;
    p2p_handle_t wake[2];
    int capacity;
    bool precise;  /* the kernel takes timeouts in nanoseconds, as far as is known */
    unsigned turn; /* the kernel's order is fixed while all stay ready: here it rotates */
    struct epoll_event events[];
} epoll_backend;

/* io->state: whether the kernel's set holds the handle; a detach of what it doesn't hold costs nothing. */
static uint32_t *in_set(const p2p_io *io) {
    return io->state;
}

static int change(epoll_backend *backend, int operation, p2p_handle_t handle, uint32_t mask, uint64_t token) {
    struct epoll_event event;
    memset(&event, 0, sizeof(event));
    event.events = (mask & P2P_IN ? (uint32_t)EPOLLIN : 0) | (mask & P2P_OUT ? (uint32_t)EPOLLOUT : 0);
    event.data.u64 = token;
    return backend->sys->epoll_ctl(backend->epoll, operation, handle, &event);
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    const p2p_sys_ops *sys = env->sys;
    if (sys->epoll_create == NULL) {
        return p2pi_create_failed(env, "epoll_create1", -ENOSYS);
    }
    uint32_t capacity = env->max_events > 0 ? env->max_events : 1;
    size_t size = sizeof(epoll_backend) + capacity * sizeof(struct epoll_event);
    epoll_backend *backend = env->allocator->alloc(size, env->allocator->user);
    if (backend == NULL) {
        return p2pi_create_failed(env, "alloc", -ENOMEM);
    }
    memset(backend, 0, size);
    backend->allocator = env->allocator;
    backend->sys = sys;
    backend->capacity = (int)capacity;
    backend->precise = true;

    const char *call = "epoll_create1";
    int result = backend->epoll = sys->epoll_create();
    if (result < 0) {
        goto fail_epoll;
    }
    call = "wake_open";
    result = sys->wake_open(backend->wake);
    if (result < 0) {
        goto fail_wake;
    }
    call = "epoll_ctl";
    result = change(backend, EPOLL_CTL_ADD, backend->wake[0], P2P_IN, 0);
    if (result < 0) {
        goto fail_add;
    }
    *out = &backend->head;
    return 0;

fail_add:
    sys->wake_close(backend->wake);
fail_wake:
    sys->close(backend->epoll);
fail_epoll:
    env->allocator->free(backend, env->allocator->user);
    return p2pi_create_failed(env, call, result);
}

/* Only closes: after a fork the set is the parent's too, and what is taken out is gone for the parent. */
static void destroy(p2p_backend *head) {
    epoll_backend *backend = (epoll_backend *)head;
    backend->sys->wake_close(backend->wake);
    backend->sys->close(backend->epoll);
    backend->allocator->free(backend, backend->allocator->user);
}

/* The kernel drops closed handles by itself, so failing to take one out is no failure. */
static void take_out(epoll_backend *backend, p2p_io *io) {
    if (*in_set(io)) {
        (void)change(backend, EPOLL_CTL_DEL, io->handle, 0, 0);
        *in_set(io) = 0;
    }
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    epoll_backend *backend = (epoll_backend *)head;
    if (new_mask == 0) {
        take_out(backend, io);
        return 0;
    }
    /* A mask of 0 would not do: the kernel reports HUP and ERR even then (B4). */
    int operation = old_mask == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    int result = change(backend, operation, io->handle, new_mask, io->token);
    if (result == -ENOENT) { /* closed and opened anew behind our back */
        result = change(backend, EPOLL_CTL_ADD, io->handle, new_mask, io->token);
    }
    if (result < 0) {
        return result;
    }
    *in_set(io) = 1;
    return 0;
}

static int detach(p2p_backend *head, p2p_io *io) {
    take_out((epoll_backend *)head, io);
    return 0;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_epoll(epoll_backend *backend, int capacity, int64_t timeout_ns) {
    int count = -ENOSYS;
    if (backend->precise) {
        count = backend->sys->epoll_wait(backend->epoll, backend->events, capacity, timeout_ns, 1);
        backend->precise = count != -ENOSYS; /* asked once */
    }
    if (!backend->precise) {
        count = backend->sys->epoll_wait(backend->epoll, backend->events, capacity, timeout_ns, 0);
    }
    return count == -EINTR ? 0 : count;
}

_Static_assert(EPOLLIN == P2P_IN && EPOLLERR == P2P_ERR, "these bits are the same");
_Static_assert(EPOLLOUT == P2P_OUT << 1 && EPOLLHUP == P2P_HUP << 2, "and these only shifted");

static uint32_t flags_of(uint32_t events) {
    return (events & (EPOLLIN | EPOLLERR)) | (events & EPOLLOUT) >> 1 | (events & EPOLLHUP) >> 2;
}

/* Field by field: clearing what READY has no use for would cost more than all the rest. */
static inline void store(p2p_backend_event *out, const struct epoll_event *event) {
    out->token = event->data.u64;
    out->kind = P2P_EVENT_READY;
    out->flags = P2P_IN; /* with the kind, as one store */
    if (event->events != EPOLLIN) out->flags = (uint16_t)flags_of(event->events);
}

static int harvest(epoll_backend *backend, int from, int to, p2p_backend_event *out) {
    p2p_backend_event *next = out;
    for (const struct epoll_event *event = backend->events + from; event < backend->events + to; event++) {
        if (event->data.u64 == 0)
            (void)backend->sys->wake_drain(backend->wake[0]);
        else
            store(next++, event);
    }
    return (int)(next - out);
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    epoll_backend *backend = (epoll_backend *)head;
    capacity = capacity < backend->capacity ? capacity : backend->capacity;
    int count = wait_in_epoll(backend, capacity, timeout_ns);
    int begin = count > 0 ? (int)(backend->turn++ % (unsigned)count) : 0;
    int stored = harvest(backend, begin, count, out);
    stored += harvest(backend, 0, begin, out + stored);
    return count < 0 ? count : stored;
}

static int wake(p2p_backend *head) {
    epoll_backend *backend = (epoll_backend *)head;
    return backend->sys->wake_signal(backend->wake[1]);
}

static p2p_handle_t handle(p2p_backend *head) {
    return ((epoll_backend *)head)->epoll;
}

const p2p_backend_ops p2pi_backend_epoll = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "epoll",
    .caps = P2P_CAP_SCALES | P2P_CAP_ANY_FD | P2P_CAP_SUBMS_WAIT,
    .io_state_size = sizeof(uint32_t),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
    .handle = handle,
};
