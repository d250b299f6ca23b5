/*
 * Backend afd: for each socket a request to \Device\Afd, the driver below Winsock, whose answer comes to a completion
 * port. So a wait costs as much as there are ready sockets, however many are idle. Windows documents none of it.
 *
 * A request is answered once. What is level-triggered is made of that by asking again just before the next wait, in the
 * thread that waits. Until its answer has come out of the port a request belongs to the kernel, which will write to it:
 * so requests lie in groups that are kept until the end, and that of a socket that was detached is spare only then.
 */
#include "check.h"
#include "slots.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { GROUP_SIZE = 32 }; /* requests a device handle: to cancel one, the driver walks over them */

enum { NT_CREATE_FILE, NT_DEVICE_IO_CONTROL_FILE, NT_CANCEL_IO_FILE_EX, NT_COUNT };
static const char *const nt_names[NT_COUNT] = { "NtCreateFile", "NtDeviceIoControlFile", "NtCancelIoFileEx" };

typedef enum request_state {
    IDLE,     /* it is ours */
    PENDING,  /* the kernel has it */
    CANCELLED /* the kernel has it, and was asked to give it back */
} request_state;

typedef struct request {
    p2p_afd_poll poll; /* first: the port tells its address. The kernel's unless the request is IDLE */
    p2p_handle_t device;
    p2p_handle_t base; /* the socket, as the driver knows it; invalid: to be looked up */
    uint64_t token;    /* 0: of no socket any more */
    uint32_t wanted;   /* P2P_IN, P2P_OUT */
    uint32_t asked;    /* what was wanted when the kernel got it */
    request_state state;
    bool listed; /* in `changed` or `told` */
    struct request *next;
} request;

typedef struct request_list { request *first, **end; } request_list;

typedef struct group {
    struct group *next;
    p2p_handle_t device;
    request requests[GROUP_SIZE];
} group;

typedef struct afd_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    p2p_sys_function nt[NT_COUNT];
    p2p_handle_t port;
    group *groups;
    request *spare;
    request_list changed; /* to be brought in line with what is wanted, before the next wait */
    request_list told;    /* answered in this wait; asked again in the next, so that none has two events */
    uint32_t in_kernel;   /* how many requests are not IDLE */
    atomic_bool woken;    /* a wake-up is in the port: more of them need none of their own */
    unsigned turn; /* who is ready first is the first in the port: here the order rotates */
    int capacity;
    OVERLAPPED_ENTRY results[];
} afd_backend;

/* One wait's events. */
typedef struct batch {
    p2p_backend_event *out;
    int stored, capacity;
    bool ends; /* the wait is to end, with an event or without */
} batch;

/* io->state: its request, once it has wanted something. */
static request **request_of(const p2p_io *io) {
    return io->state;
}

/* ---- requests and groups ---- */

static void append(request_list *list, request *r) {
    r->listed = true;
    r->next = NULL;
    *list->end = r;
    list->end = &r->next;
}

static void remove_first(request_list *list) {
    request *r = list->first;
    r->listed = false;
    list->first = r->next;
    list->end = list->first != NULL ? list->end : &list->first;
}

static void append_all(request_list *list, request_list *from) {
    if (from->first != NULL) {
        *list->end = from->first;
        list->end = from->end;
        *from = (request_list){ NULL, &from->first };
    }
}

/* Where a request belongs, now that something has happened to it. One that is in a list has its turn anyway. */
static void settle(afd_backend *backend, request *r) {
    bool is_idle = r->state == IDLE;
    if (r->listed) {
        return;
    }
    if (is_idle && r->token == 0) {
        r->next = backend->spare;
        backend->spare = r;
    } else if (is_idle ? r->wanted != 0 : r->state == PENDING && (r->wanted & ~r->asked) != 0) {
        append(&backend->changed, r);
    }
}

static int add_group(afd_backend *backend, const char **call) {
    *call = "alloc";
    group *added = backend->allocator->alloc(sizeof(*added), backend->allocator->user);
    if (added == NULL) {
        return -P2PI_OS_NO_MEMORY;
    }
    memset(added, 0, sizeof(*added));
    *call = nt_names[NT_CREATE_FILE];
    int result = backend->sys->afd_open(backend->nt[NT_CREATE_FILE], backend->port, &added->device);
    if (result < 0) {
        backend->allocator->free(added, backend->allocator->user);
        return result;
    }
    added->next = backend->groups;
    backend->groups = added;
    for (int i = 0; i < GROUP_SIZE; i++) {
        added->requests[i].device = added->device;
        settle(backend, &added->requests[i]);
    }
    return 0;
}

/* ---- the instance ---- */

static int create(p2p_backend **out, const p2p_backend_env *env) {
    const p2p_sys_ops *sys = env->sys;
    if (sys->nt_function == NULL) {
        return p2pi_create_failed(env, "\\Device\\Afd", -P2PI_OS_NO_CALL);
    }
    uint32_t capacity = env->max_events > 0 ? env->max_events : 1;
    size_t size = sizeof(afd_backend) + capacity * sizeof(OVERLAPPED_ENTRY);
    afd_backend *backend = env->allocator->alloc(size, env->allocator->user);
    if (backend == NULL) {
        return p2pi_create_failed(env, "alloc", -P2PI_OS_NO_MEMORY);
    }
    memset(backend, 0, size);
    backend->allocator = env->allocator;
    backend->sys = sys;
    backend->capacity = (int)capacity;
    backend->changed.end = &backend->changed.first;
    backend->told.end = &backend->told.first;

    const char *call;
    int result = -P2PI_OS_NO_FUNCTION;
    for (int i = 0; i < NT_COUNT; i++) {
        call = nt_names[i];
        backend->nt[i] = sys->nt_function(call);
        if (backend->nt[i] == NULL) {
            goto fail_port;
        }
    }
    call = "CreateIoCompletionPort";
    result = sys->port_open(&backend->port);
    if (result < 0) {
        goto fail_port;
    }
    result = add_group(backend, &call); /* where there is no such driver it shows now */
    if (result < 0) {
        goto fail_group;
    }
    *out = &backend->head;
    return 0;

fail_group:
    sys->port_close(backend->port);
fail_port:
    env->allocator->free(backend, env->allocator->user);
    return p2pi_create_failed(env, call, result);
}

static int cancel(afd_backend *backend, request *r) {
    int result = backend->sys->afd_cancel(backend->nt[NT_CANCEL_IO_FILE_EX], r->device, &r->poll);
    if (result == 0) {
        r->state = CANCELLED;
    }
    return result;
}

/* Waits until the kernel has given all requests back, which it does at once: they are cancelled, and so is what is left
 * of them when their device is closed. @return false if it did not; then their memory must stay as it is. */
static bool take_all_back(afd_backend *backend) {
    const int64_t patience_ns = INT64_C(1000000000);
    for (group *g = backend->groups; g != NULL; g = g->next) {
        for (int i = 0; i < GROUP_SIZE; i++) {
            if (g->requests[i].state == PENDING) {
                (void)cancel(backend, &g->requests[i]);
            }
        }
        backend->sys->port_close(g->device);
    }
    int count = 1;
    while (backend->in_kernel > 0 && count > 0) {
        count = backend->sys->port_wait(backend->port, backend->results, (uint32_t)backend->capacity, patience_ns);
        for (int i = 0; i < count; i++) {
            backend->in_kernel -= backend->results[i].lpOverlapped != NULL;
        }
    }
    return backend->in_kernel == 0;
}

static void destroy(p2p_backend *head) {
    afd_backend *backend = (afd_backend *)head;
    const p2p_allocator *allocator = backend->allocator;
    bool is_ours = take_all_back(backend);
    backend->sys->port_close(backend->port);
    while (is_ours && backend->groups != NULL) {
        group *g = backend->groups;
        backend->groups = g->next;
        allocator->free(g, allocator->user);
    }
    allocator->free(backend, allocator->user);
}

/* ---- interest ---- */

/* The driver knows the sockets of Windows' own provider. One of a layered provider, as virus scanners have had them, is
 * asked for what lies below; some refuse that question but answer another, which leads down by a layer. */
static int look_up(const p2p_sys_ops *sys, p2p_handle_t handle, p2p_handle_t *base) {
    int layers = 16; /* at most: one that leads round in a circle has no end */
    for (;;) {
        int result = sys->lower_socket(handle, P2P_SYS_BASE, base);
        p2p_handle_t upper = handle;
        if (result == 0 || result == -P2PI_OS_BAD_HANDLE || --layers == 0) {
            return result;
        }
        for (int which = P2P_SYS_BSP_POLL; which <= P2P_SYS_BSP && handle == upper; which++) {
            (void)sys->lower_socket(upper, (p2p_sys_lower)which, &handle);
        }
        if (handle == upper) {
            return result;
        }
    }
}

/* Only noted: this may be another thread, before the first wait, and more changes may follow. */
static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)old_mask; /* the request says it */
    afd_backend *backend = (afd_backend *)head;
    request *r = *request_of(io);
    if (new_mask != 0 && (r == NULL || r->base == P2P_INVALID_HANDLE)) {
        p2p_handle_t base;
        const char *call;
        int result = look_up(backend->sys, io->handle, &base);
        if (result == 0 && r == NULL && backend->spare == NULL) {
            result = add_group(backend, &call);
        }
        if (result < 0) {
            return result;
        }
        if (r == NULL) {
            r = *request_of(io) = backend->spare;
            backend->spare = r->next;
            r->token = io->token;
        }
        r->base = base;
    }
    if (r != NULL) {
        r->wanted = new_mask; /* what the kernel has been asked beyond that is left out of the answer */
        settle(backend, r);
    }
    return 0;
}

/* The request may stay with the kernel for a while, but knows nothing of the socket any more. */
static int detach(p2p_backend *head, p2p_io *io) {
    afd_backend *backend = (afd_backend *)head;
    request *r = *request_of(io);
    if (r == NULL) {
        return 0;
    }
    *request_of(io) = NULL;
    r->token = 0;
    r->wanted = 0;
    if (r->state == PENDING) {
        (void)cancel(backend, r);
    }
    settle(backend, r);
    return 0;
}

/* ---- waiting ---- */

/* The end of a peer's side is told to who reads only: to others it would be told for ever. */
static uint32_t events_of(uint32_t mask) {
    return (mask & P2P_IN ? P2P_AFD_RECEIVE | P2P_AFD_ACCEPT | P2P_AFD_DISCONNECT : 0) |
           (mask & P2P_OUT ? P2P_AFD_SEND : 0) | P2P_AFD_ABORT | P2P_AFD_CONNECT_FAIL | P2P_AFD_LOCAL_CLOSE;
}

/* A reset and a failed connect are ready to be asked, for whatever is wanted. */
static uint32_t flags_of(uint32_t events) {
    const uint32_t failed = P2P_AFD_ABORT | P2P_AFD_CONNECT_FAIL;
    return (events & (P2P_AFD_RECEIVE | P2P_AFD_ACCEPT | P2P_AFD_DISCONNECT | failed) ? P2P_IN : 0) |
           (events & (P2P_AFD_SEND | failed) ? P2P_OUT : 0) | (events & P2P_AFD_ABORT ? P2P_HUP : 0) |
           (events & failed ? P2P_ERR : 0);
}

/* The socket was closed behind our back: told once, until interest is set anew. */
static void lose(batch *b, request *r) {
    if (r->wanted != 0) {
        b->out[b->stored++] = p2pi_ready(r->token, P2P_ERR);
        b->ends = true;
    }
    r->wanted = 0;
    r->base = P2P_INVALID_HANDLE;
}

/* Bring what the kernel has been asked in line with what is wanted. */
static int change(afd_backend *backend, request *r) {
    switch (r->state) {
    case IDLE: /* ask, if anything is wanted by now */
        if (r->wanted == 0) {
            return 0;
        }
        r->poll = (p2p_afd_poll){ .timeout = INT64_MAX, .count = 1, .base = r->base, .events = events_of(r->wanted) };
        int result = backend->sys->afd_poll(backend->nt[NT_DEVICE_IO_CONTROL_FILE], r->device, &r->poll);
        if (result == 0) {
            r->state = PENDING;
            r->asked = r->wanted;
            backend->in_kernel++;
        }
        return result;
    case PENDING: /* only what was given back can be asked anew, and that is worth it only for more than was asked */
        return (r->wanted & ~r->asked) != 0 ? cancel(backend, r) : 0;
    case CANCELLED: /* it will be seen to when it comes back */
        return 0;
    }
    P2P_ASSERT(!"a request has one of three states");
    return 0;
}

static int change_all(afd_backend *backend, batch *b) {
    while (backend->changed.first != NULL && b->stored < b->capacity) {
        request *r = backend->changed.first;
        int result = change(backend, r);
        if (result < 0 && (result != -P2PI_OS_BAD_HANDLE || r->state != IDLE)) {
            return result; /* it stays the first, to be tried again */
        }
        remove_first(&backend->changed);
        if (result < 0) {
            lose(b, r);
        }
        settle(backend, r);
    }
    return 0;
}

/* The kernel gives a request back, with an answer or without. */
static void take_back(afd_backend *backend, request *r, batch *b) {
    const int32_t cancelled = (int32_t)0xC0000120; /* STATUS_CANCELLED */
    P2P_ASSERT(r->state != IDLE && !r->listed && b->stored < b->capacity);
    r->state = IDLE;
    backend->in_kernel--;
    int32_t status = (int32_t)(uint32_t)r->poll.status;
    uint32_t events = status >= 0 && r->poll.count > 0 ? r->poll.events : 0;
    uint32_t flags = flags_of(events) & (r->wanted | P2P_HUP | P2P_ERR);
    if ((status < 0 && status != cancelled) || (events & P2P_AFD_LOCAL_CLOSE) != 0) {
        lose(b, r);
    } else if (r->wanted != 0 && (flags != 0 || r->asked == r->wanted)) {
        if (flags != 0) { /* else it may well be answered so again, and a wait must not go on for ever */
            b->out[b->stored++] = p2pi_ready(r->token, flags);
        }
        b->ends = true;
        append(&backend->told, r);
    }
    settle(backend, r);
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
P2PI_NOINLINE static int wait_in_port(afd_backend *backend, int capacity, int64_t timeout_ns) {
    capacity = capacity < backend->capacity ? capacity : backend->capacity;
    int count = backend->sys->port_wait(backend->port, backend->results, (uint32_t)capacity, timeout_ns);
    return count == -P2PI_OS_INTERRUPTED ? 0 : count;
}

/* @return how many came out of the port, whether or not anything is to be told of them. */
static int collect(afd_backend *backend, batch *b, int64_t timeout_ns) {
    int count = wait_in_port(backend, b->capacity - b->stored, timeout_ns);
    int begin = count > 0 ? (int)(backend->turn++ % (unsigned)count) : 0;
    for (int i = 0; i < count; i++) {
        request *r = (request *)backend->results[(begin + i) % count].lpOverlapped;
        if (r != NULL) {
            take_back(backend, r, b);
            continue;
        }
        /* After it came out, so that there are never two. A wake in between needs none, as this wait returns. */
        (void)atomic_exchange(&backend->woken, false);
        b->ends = true;
    }
    return count;
}

/* Much that comes out of the port is no event: what was cancelled, or is not wanted any more. So it is looked again.
 * When some was asked anew this is done with events too, but without waiting: it may be answered already. */
static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    afd_backend *backend = (afd_backend *)head;
    batch b = { out, 0, capacity, false };
    int64_t begin_ns = timeout_ns > 0 ? backend->sys->now_ns() : 0, left_ns = timeout_ns;
    int result;
    do {
        result = change_all(backend, &b);
        if (result == 0 && b.stored < capacity) {
            result = collect(backend, &b, b.ends ? 0 : left_ns);
        }
        if (timeout_ns > 0) {
            int64_t passed_ns = backend->sys->now_ns() - begin_ns;
            left_ns = passed_ns < timeout_ns ? timeout_ns - passed_ns : 0;
        }
    } while (result > 0 && b.stored < capacity && (!b.ends || backend->changed.first != NULL));
    append_all(&backend->changed, &backend->told);
    return b.stored > 0 || result > 0 ? b.stored : result; /* what failed fails again in the next wait */
}

static int wake(p2p_backend *head) {
    afd_backend *backend = (afd_backend *)head;
    if (atomic_exchange(&backend->woken, true)) {
        return 0;
    }
    int result = backend->sys->port_post(backend->port);
    if (result < 0) {
        atomic_store(&backend->woken, false);
    }
    return result;
}

const p2p_backend_ops p2pi_backend_afd = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "afd",
    .caps = P2P_CAP_SCALES,
    .io_state_size = sizeof(request *),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};
