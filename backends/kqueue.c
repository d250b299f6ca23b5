/*
 * Backend kqueue, for macOS and the BSDs: the kernel keeps the set, level-triggered, with reading and writing as two
 * filters of a handle that come as two events.
 *
 * A wait gives one event a socket, so the events of a batch are merged by `notes`, which says for each handle whose it
 * is: the kernel would let a second registration take the place of the first without a word. Events carry the token,
 * never a pointer, since one may be harvested for a socket that was detached a moment ago. Token 0 is the wake-up.
 */
#include "slots.h"

#include <stdbool.h>
#include <sys/types.h>

#include <sys/event.h>

#define WAKE_IDENT UINTPTR_MAX /* no handle has this number */

/* Of the handle with the index's number. */
typedef struct note {
    uint64_t token;   /* whose it is; 0: nobody's */
    uint32_t filters; /* which the kernel has: P2P_IN, P2P_OUT; P2P_ERR: the substitute of set_interest */
    uint32_t place;   /* where the batch has its event, if it has one */
} note;

typedef struct kqueue_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    int64_t process; /* that made the queue */
    int queue;
    int capacity;
    unsigned turn; /* rotates the order of a batch, as in epoll.c */
    note *notes;
    size_t note_count;
    struct kevent events[];
} kqueue_backend;

_Static_assert(sizeof(((struct kevent *)0)->udata) >= sizeof(uint64_t), "a token fits");

static struct kevent change_of(uintptr_t ident, int16_t filter, int flags, uint32_t fflags, uint64_t token) {
    return (struct kevent){
        .ident = ident, .filter = filter, .flags = (uint16_t)flags, .fflags = fflags, .udata = (void *)(uintptr_t)token
    };
}

/* The same change for each filter of `mask`. Asked for receipts, the kernel makes all of them whatever becomes of one,
 * and hands out no events. @return how many receipts there are, or -errno. */
static int change(kqueue_backend *backend, uintptr_t handle, int action, uint32_t mask, uint64_t token,
                  struct kevent receipts[3]) {
    int count = 0;
    action |= EV_RECEIPT;
    if (mask & P2P_IN) receipts[count++] = change_of(handle, EVFILT_READ, action, 0, token);
    if (mask & P2P_OUT) receipts[count++] = change_of(handle, EVFILT_WRITE, action, 0, token);
    if (mask & P2P_ERR) receipts[count++] = change_of(handle, EVFILT_USER, action, NOTE_TRIGGER, token);
    return count == 0 ? 0 : backend->sys->kevent(backend->queue, receipts, count, receipts, count, 0);
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    const p2p_sys_ops *sys = env->sys;
    if (sys->kqueue == NULL) {
        return p2pi_create_failed(env, "kqueue", -ENOSYS);
    }
    uint32_t capacity = env->max_events > 0 ? env->max_events : 1;
    size_t size = sizeof(kqueue_backend) + capacity * sizeof(struct kevent);
    kqueue_backend *backend = env->allocator->alloc(size, env->allocator->user);
    if (backend == NULL) {
        return p2pi_create_failed(env, "alloc", -ENOMEM);
    }
    memset(backend, 0, size);
    backend->allocator = env->allocator;
    backend->sys = sys;
    backend->process = sys->process_id();
    backend->capacity = (int)capacity;

    const char *call = "kqueue";
    int result = backend->queue = sys->kqueue();
    if (result < 0) {
        goto fail_queue;
    }
    call = "EVFILT_USER";
    struct kevent wake_up = change_of(WAKE_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0);
    result = sys->kevent(backend->queue, &wake_up, 1, NULL, 0, 0);
    if (result < 0) {
        goto fail_wake;
    }
    *out = &backend->head;
    return 0;

fail_wake:
    sys->close(backend->queue);
fail_queue:
    env->allocator->free(backend, env->allocator->user);
    return p2pi_create_failed(env, call, result);
}

static void destroy(p2p_backend *head) {
    kqueue_backend *backend = (kqueue_backend *)head;
    const p2p_allocator *allocator = backend->allocator;
    if (backend->sys->process_id() == backend->process) { /* a forked child has no queue, or another under the number */
        backend->sys->close(backend->queue);
    }
    if (backend->notes != NULL) {
        allocator->free(backend->notes, allocator->user);
    }
    allocator->free(backend, allocator->user);
}

static int make_room(kqueue_backend *backend, size_t index) {
    if (index < backend->note_count) {
        return 0;
    }
    size_t count = index + index / 2 + 64;
    const p2p_allocator *allocator = backend->allocator;
    note *notes = allocator->realloc(backend->notes, count * sizeof(*notes), allocator->user);
    if (notes == NULL) {
        return -ENOMEM;
    }
    memset(notes + backend->note_count, 0, (count - backend->note_count) * sizeof(*notes));
    backend->notes = notes;
    backend->note_count = count;
    return 0;
}

/* What can't be taken out has gone by itself, with a handle that was closed: ENOENT, EBADF. */
static void take_out(kqueue_backend *backend, const p2p_io *io, uint32_t mask) {
    struct kevent receipts[3];
    (void)change(backend, (uintptr_t)io->handle, EV_DELETE, mask, io->token, receipts);
}

/* @return the filters that the kernel has now, or -errno, and then some of them may have been added. */
static int add(kqueue_backend *backend, const p2p_io *io, uint32_t mask) {
    struct kevent receipts[3];
    int count = change(backend, (uintptr_t)io->handle, EV_ADD, mask, io->token, receipts);
    for (int i = 0; i < count; i++) {
        if (receipts[i].data != 0) return -(int)receipts[i].data;
    }
    return count < 0 ? count : (int)mask;
}

/* Whether the kernel still knows the owner of a handle: not if it was closed behind our back. */
static bool is_held(kqueue_backend *backend, uintptr_t handle, const note *held) {
    struct kevent receipts[3];
    int count = change(backend, handle, EV_ENABLE, held->filters & (P2P_IN | P2P_OUT), held->token, receipts);
    return count > 0 && (receipts[0].data == 0 || receipts[count - 1].data == 0);
}

/* Make the handle this socket's. The kernel takes files too and says that they are ready, always; the other backends
 * refuse them, as epoll does. */
static int claim(kqueue_backend *backend, const p2p_io *io) {
    if (io->handle == P2P_INVALID_HANDLE) return -EBADF;
    int bits = io->flags & P2P_IO_FOREIGN ? backend->sys->inspect(io->handle) : 0; /* the core's own are sockets */
    if (bits < 0) return bits;
    if ((unsigned)bits & P2P_SYS_REGULAR_FILE) return -EPERM;
    int result = make_room(backend, (size_t)io->handle);
    if (result < 0) return result;
    note *held = &backend->notes[io->handle];
    if (held->token != 0 && is_held(backend, (uintptr_t)io->handle, held)) return -EEXIST;
    *held = (note){ .token = io->token, .filters = held->filters & P2P_ERR }; /* which no closing takes out */
    return 0;
}

/* @return the note of the handle if it is this socket's, else NULL. */
static note *note_of(const kqueue_backend *backend, const p2p_io *io) {
    size_t index = (size_t)io->handle;
    return index < backend->note_count && backend->notes[index].token == io->token ? &backend->notes[index] : NULL;
}

static int detach(p2p_backend *head, p2p_io *io) {
    kqueue_backend *backend = (kqueue_backend *)head;
    note *held = note_of(backend, io);
    if (held != NULL) {
        take_out(backend, io, held->filters);
        *held = (note){ 0 };
    }
    return 0;
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)old_mask; /* the note says it */
    kqueue_backend *backend = (kqueue_backend *)head;
    if (new_mask == 0) {
        return detach(head, io);
    }
    int result = note_of(backend, io) != NULL ? 0 : claim(backend, io);
    if (result < 0) {
        return result;
    }
    /* What is held is added too: it has gone if the handle was closed and opened anew behind our back. */
    note *held = &backend->notes[io->handle];
    int added = add(backend, io, new_mask);
    if ((added == -EPIPE || added == -EPERM) && (new_mask & P2P_OUT)) {
        /* Nobody reads at the other end of a pipe. A write would tell that, so the handle counts as ready: by an event
         * of the program's own, which is never cleared. */
        added = add(backend, io, (new_mask & P2P_IN) | P2P_ERR);
    }
    if (added < 0) {
        take_out(backend, io, (new_mask | P2P_ERR) & ~held->filters);
        return added;
    }
    take_out(backend, io, held->filters & ~(uint32_t)added);
    held->filters = (uint32_t)added;
    return 0;
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_kevent(kqueue_backend *backend, int capacity, int64_t timeout_ns) {
    int count = backend->sys->kevent(backend->queue, NULL, 0, backend->events, capacity, timeout_ns);
    return count == -EINTR ? 0 : count;
}

/* fflags is the socket's error. EV_EOF of reading: the peer has ended its side, perhaps with bytes before that, and a
 * read tells. EV_EOF of writing: nobody reads any more. */
static uint32_t flags_of(const struct kevent *event) {
    uint32_t error = event->fflags != 0 ? P2P_ERR : 0;
    switch (event->filter) {
    case EVFILT_READ: return P2P_IN | error;
    case EVFILT_WRITE: return P2P_OUT | error | (event->flags & EV_EOF ? P2P_HUP : 0);
    default: return P2P_OUT | P2P_ERR;
    }
}

/* @return how many events there are now. */
static int harvest(kqueue_backend *backend, int from, int to, p2p_backend_event *out, int stored) {
    for (const struct kevent *event = backend->events + from; event < backend->events + to; event++) {
        uint64_t token = (uintptr_t)event->udata;
        if (token == 0) {
            continue; /* the wake-up; EV_CLEAR has drained it */
        }
        note *held = &backend->notes[event->ident];
        if (held->place < (uint32_t)stored && out[held->place].token == token) {
            out[held->place].flags |= (uint16_t)flags_of(event);
        } else {
            held->place = (uint32_t)stored;
            out[stored++] = p2pi_ready(token, flags_of(event));
        }
    }
    return stored;
}

/* The kernel puts what it has handed out at the end of its list. A socket that is ready for both takes two places. */
static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    kqueue_backend *backend = (kqueue_backend *)head;
    capacity = capacity < backend->capacity ? capacity : backend->capacity;
    int count = wait_in_kevent(backend, capacity, timeout_ns);
    int begin = count > 0 ? (int)(backend->turn++ % (unsigned)count) : 0;
    int stored = harvest(backend, begin, count, out, 0);
    stored = harvest(backend, 0, begin, out, stored);
    return count < 0 ? count : stored;
}

static int wake(p2p_backend *head) {
    kqueue_backend *backend = (kqueue_backend *)head;
    struct kevent trigger = change_of(WAKE_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0);
    return backend->sys->kevent(backend->queue, &trigger, 1, NULL, 0, 0);
}

static p2p_handle_t handle(p2p_backend *head) {
    return ((kqueue_backend *)head)->queue;
}

const p2p_backend_ops p2pi_backend_kqueue = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "kqueue",
    .caps = P2P_CAP_SCALES | P2P_CAP_ANY_FD | P2P_CAP_SUBMS_WAIT,
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
    .handle = handle,
};
