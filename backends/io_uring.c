/*
 * Backend io_uring: the kernel receives, accepts, sends and connects by itself, and tells of it through a ring. One
 * system call a turn hands over what the core asked for and waits for what comes of it. Nothing is told to the kernel
 * before: so a loop can be filled before its thread is known, and a forked child can't disturb its parent.
 *
 * It needs Linux 6.12. Where there is less, and as io_uring_poll, the table is a smaller one: polls only, from Linux
 * 5.17 on.
 */
#include "io_uring.h"

#include <sys/socket.h>

extern const p2p_backend_ops p2pi_backend_io_uring, p2pi_backend_io_uring_poll;

/* ---- sockets ---- */

static int grow(p2pi_uring_backend *backend, uint32_t slot) {
    uint32_t capacity = backend->capacity == 0 ? 64 : backend->capacity * 2;
    if (slot > P2PI_SLOT_MASK) {
        return -ENOSPC;
    }
    while (capacity <= slot) {
        capacity *= 2;
    }
    p2pi_uring_io **ios = backend->allocator->realloc(backend->ios, capacity * sizeof(*ios), backend->allocator->user);
    if (ios == NULL) {
        return -ENOMEM;
    }
    memset(ios + backend->capacity, 0, (capacity - backend->capacity) * sizeof(*ios));
    backend->ios = ios;
    backend->capacity = capacity;
    return 0;
}

/* The kernel's receive waits on a blocking socket only. Datagrams are received by the core, as all is with polls. */
static int attach_in_mode(p2pi_uring_backend *backend, p2p_io *io, uint32_t mode) {
    uint32_t slot = (uint32_t)io->token;
    int result = slot < backend->capacity ? 0 : grow(backend, slot);
    if (result == 0 && (io->flags & P2P_IO_FOREIGN) == 0 && (io->flags & P2P_IO_NONBLOCKING) != mode) {
        result = backend->sys->set_nonblocking(io->handle, mode != 0);
        io->flags ^= result < 0 ? 0 : P2P_IO_NONBLOCKING;
    }
    if (result < 0) {
        return result;
    }
    p2pi_uring_io_of(io)->io = io;
    backend->ios[slot] = p2pi_uring_io_of(io);
    return 0;
}

static int attach(p2p_backend *head, p2p_io *io) {
    return attach_in_mode((p2pi_uring_backend *)head, io, io->flags & P2P_IO_DATAGRAM ? P2P_IO_NONBLOCKING : 0);
}

static int attach_to_poll(p2p_backend *head, p2p_io *io) {
    return attach_in_mode((p2pi_uring_backend *)head, io, P2P_IO_NONBLOCKING);
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    p2pi_uring_io *of = p2pi_uring_io_of(io);
    (void)old_mask;
    if (new_mask != 0 && !of->checked) {
        int result = p2pi_check_pollable(backend->sys, io->handle);
        if (result < 0 || io->handle == backend->ring.handle) {
            return result < 0 ? result : -EINVAL; /* as epoll says of itself */
        }
        of->checked = true;
    }
    of->interest = (uint8_t)new_mask;
    p2pi_uring_change(backend, of);
    return 0;
}

static int stream(p2p_backend *head, p2p_io *io, bool wanted, bool accepts) {
    p2pi_uring_io *of = p2pi_uring_io_of(io);
    of->streaming = wanted;
    of->accepts = accepts;
    p2pi_uring_change((p2pi_uring_backend *)head, of);
    return 0;
}

static int recv_start(p2p_backend *head, p2p_io *io) {
    return stream(head, io, true, false);
}

/* Most stops are short. The kernel is told only when something has been received after all. */
static int recv_stop(p2p_backend *head, p2p_io *io) {
    (void)head;
    p2pi_uring_io_of(io)->streaming = false;
    return 0;
}

static int accept_start(p2p_backend *head, p2p_io *io) {
    return stream(head, io, true, true);
}

static int accept_stop(p2p_backend *head, p2p_io *io) {
    return stream(head, io, false, true);
}

static int request(p2p_backend *head, p2p_op *op) {
    p2pi_uring_io *of = p2pi_uring_io_of(op->io);
    P2P_ASSERT(of->request == P2PI_IDLE); /* one a socket */
    of->op = op;
    of->request = P2PI_QUEUED;
    p2pi_uring_change((p2pi_uring_backend *)head, of);
    return 0;
}

static int cancel(p2p_backend *head, p2p_op *op) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    p2pi_uring_io *of = p2pi_uring_io_of(op->io);
    if (of->request == P2PI_PENDING) {
        of->request = P2PI_UNWANTED;
        p2pi_uring_change(backend, of);
    } else if (of->request == P2PI_QUEUED || of->request == P2PI_WAITING) {
        of->request = P2PI_FINISHED;
        p2pi_uring_finish(backend, of);
    }
    return 0;
}

static int detach(p2p_backend *head, p2p_io *io) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    p2pi_uring_io *of = p2pi_uring_io_of(io);
    p2pi_uring_drop_poll(backend, of);
    of->detaching = true;
    of->streaming = false;
    of->interest = 0;
    p2pi_uring_take_back(backend, of);
    if (of->op != NULL) {
        (void)cancel(head, of->op);
    }
    if (p2pi_uring_at_rest(of)) {
        p2pi_uring_forget(backend, of);
        return 0;
    }
    p2pi_uring_change(backend, of);
    return P2P_DEFERRED;
}

/* ---- waiting ---- */

static bool something_to_tell(const p2pi_uring_backend *backend) {
    return p2pi_uring_has_completions(&backend->ring) || backend->finished != NULL ||
           backend->quiet_count > 0;
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    bool something = something_to_tell(backend);
    int result = 0;
    if (!backend->enabled) { /* nothing is with the kernel, nor can be */
        return p2pi_uring_tell_finished(backend, out, capacity);
    }
    backend->quietly = true;
    p2pi_uring_feed(backend);
    p2pi_uring_hand_over(backend);
    backend->quietly = false;
    bool all = backend->first[P2PI_URING_CHANGED] == NULL && !p2pi_uring_can_feed(backend) && backend->wake_armed;
    bool hurry = something || !all || backend->quiet_count > P2PI_URING_QUIET_WAITING_MAX;
    if (!something || p2pi_uring_pending(&backend->ring) > 0) {
        result = p2pi_uring_wait(&backend->ring, hurry || timeout_ns == 0 ? 0 : 1, hurry ? 0 : timeout_ns);
    }
    int stored = p2pi_uring_tell_finished(backend, out, capacity);
    stored += p2pi_uring_tell_quiet(backend, out + stored, capacity - stored);
    stored += p2pi_uring_harvest(backend, out + stored, capacity - stored);
    while (stored < capacity && p2pi_uring_continue(&backend->ring)) {
        stored += p2pi_uring_harvest(backend, out + stored, capacity - stored);
    }
    stored += p2pi_uring_tell_finished(backend, out + stored, capacity - stored);
    return stored > 0 ? stored : result < 0 ? result : backend->wake_error;
}

static int submit(p2p_backend *head) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    p2pi_uring_hand_over(backend);
    return p2pi_uring_pending(&backend->ring) > 0 ? p2pi_uring_submit(&backend->ring) : 0;
}

static int wake(p2p_backend *head) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    return backend->sys->wake_signal(backend->wake[1]);
}

static int bind_thread(p2p_backend *head) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    int result = p2pi_uring_enable(&backend->ring);
    backend->enabled = result >= 0;
    return result;
}

static p2p_handle_t handle(p2p_backend *head) {
    return ((p2pi_uring_backend *)head)->ring.handle;
}

/* ---- making it ---- */

static void release(p2pi_uring_backend *backend, void *block) {
    if (block != NULL) {
        backend->allocator->free(block, backend->allocator->user);
    }
}

/* Connections that the kernel has accepted, and nobody was told of. */
static void close_untold(p2pi_uring_backend *backend) {
    do {
        uint32_t head, tail = p2pi_uring_completions(&backend->ring, &head);
        for (; head != tail; head++) {
            const struct io_uring_cqe *completion = p2pi_uring_completion(&backend->ring, head);
            uint32_t about = (uint32_t)p2pi_uring_name(completion) >> P2PI_ABOUT_SHIFT;
            if (about == P2PI_ABOUT_ACCEPT && completion->res >= 0) {
                backend->sys->close(completion->res);
            }
        }
        p2pi_uring_completions_read(&backend->ring, head);
    } while (p2pi_uring_overflown(&backend->ring) && p2pi_uring_continue(&backend->ring));
}

static void destroy(p2p_backend *head) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    bool own = backend->process_id == backend->sys->process_id();
    if (own) {
        close_untold(backend);
    }
    if (own && backend->buffers != NULL) {
        backend->sys->uring_unmap(backend->buffers, backend->buffers_size);
    }
    release(backend, backend->use);
    release(backend, backend->ios);
    backend->sys->wake_close(backend->wake);
    p2pi_uring_close(&backend->ring, own);
    release(backend, backend);
}

/* What the kernel or an administrator withholds is no failure of this process: another backend may do. */
static int not_here(const p2p_backend_env *env, const char *call, int os_result) {
    static const struct { int error; const char *why; } known[] = {
        { ENOSYS, "the kernel has no such call" },
        { EPERM, "forbidden by a seccomp filter or by kernel.io_uring_disabled" },
        { EACCES, "forbidden by a security module" },
        { ENOMEM, "more than RLIMIT_MEMLOCK allows, or no memory" },
        { EINVAL, "the kernel does not know what is asked for" },
    };
    int result = p2pi_create_failed(env, call, os_result);
    size_t length = env->reason == NULL ? 0 : strlen(env->reason), i = 0;
    while (i < sizeof(known) / sizeof(known[0]) && known[i].error != -os_result) {
        i++;
    }
    if (i == sizeof(known) / sizeof(known[0])) {
        return result;
    }
    if (length < env->reason_size) {
        snprintf(env->reason + length, env->reason_size - length, ": %s", known[i].why);
    }
    return P2P_ERR_NOT_SUPPORTED;
}

/* One thread, which does the kernel's work: Linux 6.1. When it looks for completions, that costs least; but such work
 * does not wake a foreign loop that polls the ring (seen with 6.18). With polls only it does it in any system call, and
 * in a sleep: so there the ring is a handle to wait for. */
static int open_ring(p2pi_uring_backend *backend, bool polls_only, const char **call) {
    const uint32_t best = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG |
                          (polls_only ? IORING_SETUP_COOP_TASKRUN : IORING_SETUP_DEFER_TASKRUN);
    int result = p2pi_uring_open(&backend->ring, backend->sys, best, call);
    return result == -EINVAL ? p2pi_uring_open(&backend->ring, backend->sys, 0, call) : result;
}

enum { POLLS_ONLY = 1 };

/* A kernel without such buffers gets the smaller table. A lack of memory is a refusal: else it would depend on what
 * others use which table a loop gets. */
static int reserve_buffers(p2pi_uring_backend *backend, const p2p_backend_env *env) {
    int result = p2pi_uring_buffers_reserve(backend, env->receive_buffers > 0 ? env->receive_buffers : 1);
    if (result == -ENOMEM) {
        return not_here(env, "io_uring: receive buffers", result);
    }
    return result < 0 ? POLLS_ONLY : 0;
}

static int create_with(p2p_backend **out, const p2p_backend_env *env, bool polls_only) {
    if (env->sys->uring_setup == NULL) {
        return not_here(env, "io_uring_setup", -ENOSYS);
    }
    p2pi_uring_backend *backend = env->allocator->alloc(sizeof(*backend), env->allocator->user);
    if (backend == NULL) {
        return p2pi_create_failed(env, "alloc", -ENOMEM);
    }
    memset(backend, 0, sizeof(*backend));
    backend->allocator = env->allocator;
    backend->sys = env->sys;
    backend->last_finished = &backend->finished;
    backend->process_id = env->sys->process_id();

    const char *call;
    int result = open_ring(backend, polls_only, &call);
    if (result < 0) {
        result = not_here(env, call, result);
        goto fail_ring;
    }
    result = env->sys->wake_open(backend->wake);
    if (result < 0) {
        result = p2pi_create_failed(env, "wake_open", result);
        goto fail_wake;
    }
    result = polls_only ? 0 : reserve_buffers(backend, env);
    if (result != 0) {
        goto fail_buffers;
    }
    backend->head.ops = polls_only ? &p2pi_backend_io_uring_poll : NULL;
    *out = &backend->head;
    return 0;

fail_buffers:
    env->sys->wake_close(backend->wake);
fail_wake:
    p2pi_uring_close(&backend->ring, true);
fail_ring:
    release(backend, backend);
    return result;
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    int result = create_with(out, env, false);
    return result == POLLS_ONLY ? create_with(out, env, true) : result;
}

static int create_polls(p2p_backend **out, const p2p_backend_env *env) {
    return create_with(out, env, true);
}

const p2p_backend_ops p2pi_backend_io_uring = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "io_uring",
    .caps = P2P_CAP_SCALES | P2P_CAP_ANY_FD | P2P_CAP_SUBMS_WAIT,
    .io_state_size = sizeof(p2pi_uring_io),
    .op_state_size = sizeof(struct msghdr),
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
    .attach = attach,
    .bind_thread = bind_thread,
    .pool_bind = p2pi_uring_pool_bind,
    .buf_recycle = p2pi_uring_buf_recycle,
    .recv_start = recv_start,
    .recv_stop = recv_stop,
    .accept_start = accept_start,
    .accept_stop = accept_stop,
    .send = request,
    .connect = request,
    .cancel = cancel,
    .submit = submit,
};

const p2p_backend_ops p2pi_backend_io_uring_poll = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "io_uring_poll",
    .caps = P2P_CAP_SCALES | P2P_CAP_ANY_FD | P2P_CAP_SUBMS_WAIT,
    .io_state_size = sizeof(p2pi_uring_io),
    .create = create_polls,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
    .attach = attach_to_poll,
    .bind_thread = bind_thread,
    .handle = handle,
    .submit = submit,
};
