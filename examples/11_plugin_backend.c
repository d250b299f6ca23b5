/*
 * A backend as a plugin: it waits by poll(2), on POSIX systems.
 *
 *   cc -std=c11 -shared -fPIC -I include -o my_backend.so examples/11_plugin_backend.c
 *   p2pnet-conform --plugin ./my_backend.so
 *
 * It is not linked with p2pnet: what a backend may call is in the env that create gets. docs/backend-authors.md walks
 * through this file.
 */
#include <p2pnet/backend.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* fds[i] and ios[i] are of one socket. Number 0 is the wake-up's, so that a socket's number is never 0. */
typedef struct my_backend {
    p2p_backend head; /* first */
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2p_handle_t wake[2];
    struct pollfd *fds;
    p2p_io **ios;
    uint32_t count, capacity;
    uint32_t next; /* where the next scan begins */
} my_backend;

/* What a socket's state holds: its number, or 0 while it is not in the arrays. */
static uint32_t *number_of(const p2p_io *io) {
    return io->state;
}

/* Room for one more. Nothing has changed when there is none (B5). */
static int make_room(my_backend *self) {
    if (self->count < self->capacity) return 0;
    const p2p_allocator *allocator = self->allocator;
    uint32_t capacity = 2 * self->capacity + 16;
    struct pollfd *fds = allocator->realloc(self->fds, capacity * sizeof *fds, allocator->user);
    if (fds == NULL) return -ENOMEM;
    self->fds = fds;
    p2p_io **ios = allocator->realloc(self->ios, capacity * sizeof *ios, allocator->user);
    if (ios == NULL) return -ENOMEM;
    self->ios = ios;
    self->capacity = capacity;
    return 0;
}

/* Touches no socket: their memory may be gone. */
static void destroy(p2p_backend *head) {
    my_backend *self = (my_backend *)head;
    const p2p_allocator *allocator = self->allocator;
    if (self->count > 0) self->sys->wake_close(self->wake);
    if (self->ios != NULL) allocator->free(self->ios, allocator->user);
    if (self->fds != NULL) allocator->free(self->fds, allocator->user);
    allocator->free(self, allocator->user);
}

static int failed(const p2p_backend_env *env, const char *call, int result) {
    snprintf(env->reason, env->reason_size, "%s: %s", call, strerror(-result));
    return env->sys->translate_error(-result);
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    if (env->sys->poll == NULL) return failed(env, "poll", -ENOSYS); /* becomes P2P_ERR_NOT_SUPPORTED */
    my_backend *self = env->allocator->alloc(sizeof *self, env->allocator->user);
    if (self == NULL) return failed(env, "alloc", -ENOMEM);
    *self = (my_backend){ .allocator = env->allocator, .sys = env->sys, .next = 1 };
    const char *call = "realloc";
    int result = make_room(self);
    if (result == 0) {
        call = "wake_open";
        result = env->sys->wake_open(self->wake);
    }
    if (result < 0) {
        destroy(&self->head);
        return failed(env, call, result);
    }
    self->fds[self->count++] = (struct pollfd){ .fd = self->wake[0], .events = POLLIN };
    *out = &self->head;
    return 0;
}

/* The last socket moves into the hole. */
static int detach(p2p_backend *head, p2p_io *io) {
    my_backend *self = (my_backend *)head;
    uint32_t number = *number_of(io);
    if (number == 0) return 0;
    uint32_t last = --self->count;
    self->fds[number] = self->fds[last];
    self->ios[number] = self->ios[last];
    *number_of(self->ios[number]) = number;
    *number_of(io) = 0;
    return 0;
}

/* poll takes closed handles and regular files without a word, so they are looked for here. */
static int add(my_backend *self, p2p_io *io) {
    int facts = self->sys->inspect(io->handle);
    if (facts < 0) return facts;
    if ((unsigned)facts & P2P_SYS_REGULAR_FILE) return -EPERM;
    int result = make_room(self);
    if (result < 0) return result;
    self->ios[self->count] = io;
    *number_of(io) = self->count++;
    return 0;
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    my_backend *self = (my_backend *)head;
    (void)old_mask; /* the number says it */
    if (new_mask == 0) return detach(head, io); /* poll would report HUP and ERR for an empty mask too (B4) */
    int result = *number_of(io) == 0 ? add(self, io) : 0;
    if (result < 0) return result;
    short events = (short)((new_mask & P2P_IN ? POLLIN : 0) | (new_mask & P2P_OUT ? POLLOUT : 0));
    self->fds[*number_of(io)] = (struct pollfd){ .fd = io->handle, .events = events };
    return 0;
}

/* What poll found. A handle closed behind our back is told once; poll skips an entry without one. */
static uint32_t flags_of(struct pollfd *entry) {
    int found = entry->revents;
    if (found & POLLNVAL) {
        entry->fd = -1;
        return P2P_ERR;
    }
    return (found & POLLIN ? P2P_IN : 0) | (found & POLLOUT ? P2P_OUT : 0) | (found & POLLHUP ? P2P_HUP : 0) |
           (found & POLLERR ? P2P_ERR : 0);
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    my_backend *self = (my_backend *)head;
    int ready = self->sys->poll(self->fds, self->count, timeout_ns);
    if (ready <= 0) return ready == -EINTR ? 0 : ready;
    if (self->fds[0].revents & POLLNVAL) return -EBADF; /* nobody can wake us any more */
    if (self->fds[0].revents != 0) self->sys->wake_drain(self->wake[0]);
    int stored = 0;
    for (uint32_t left = self->count - 1; left > 0 && stored < capacity; left--) {
        if (self->next >= self->count) self->next = 1;
        uint32_t number = self->next++;
        uint32_t flags = flags_of(&self->fds[number]);
        if (flags == 0) continue;
        out[stored++] = (p2p_backend_event){
            .token = self->ios[number]->token, .kind = P2P_EVENT_READY, .flags = (uint16_t)flags
        };
    }
    return stored;
}

static int wake(p2p_backend *head) {
    my_backend *self = (my_backend *)head;
    return self->sys->wake_signal(self->wake[1]);
}

static const p2p_backend_ops my_backend_ops = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "my_poll",
    .caps = P2P_CAP_ANY_FD,
    .io_state_size = sizeof(uint32_t),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};

const p2p_backend_ops *p2p_backend_plugin(void) {
    return &my_backend_ops;
}
