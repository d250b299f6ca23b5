/* What the kernel says to backend io_uring: completions become events; and some things are known without one. */
#include "io_uring.h"

#include <p2pnet/watch.h>

#include <poll.h>

/* ---- what becomes of a socket ---- */

bool p2pi_uring_at_rest(const p2pi_uring_io *of) {
    return of->poll == P2PI_IDLE && of->stream == P2PI_IDLE && of->request == P2PI_IDLE;
}

void p2pi_uring_forget(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    p2pi_uring_remove(backend, P2PI_URING_CHANGED, of);
    p2pi_uring_remove(backend, P2PI_URING_STARVED, of);
    backend->ios[of->io->token & P2PI_SLOT_MASK] = NULL;
}

void p2pi_uring_finish(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    if (of->finished) {
        return;
    }
    of->finished = true;
    of->next_finished = NULL;
    *backend->last_finished = of;
    backend->last_finished = &of->next_finished;
}

/* One of its calls has come back. */
static void go_on(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    if (!of->detaching) {
        p2pi_uring_change(backend, of);
    } else if (p2pi_uring_at_rest(of)) {
        p2pi_uring_finish(backend, of);
    }
}

/* ---- polls ---- */

static uint32_t flags_of(int32_t mask) {
    return (mask & POLLIN ? P2P_IN : 0) | (mask & POLLOUT ? P2P_OUT : 0) | (mask & POLLHUP ? P2P_HUP : 0) |
           (mask & POLLERR ? P2P_ERR : 0);
}

static uint32_t only(uint32_t flags, uint32_t wanted) {
    return wanted == 0 ? 0 : flags & (wanted | P2P_HUP | P2P_ERR);
}

/* A completion tells what was, and somebody may have read since. The owner of a foreign handle may have left it in
 * blocking mode, so it is asked again, as epoll does before it tells. */
static uint32_t ready_now(p2pi_uring_backend *backend, const p2pi_uring_io *of) {
    _Static_assert(P2P_IN == P2P_READABLE && P2P_OUT == P2P_WRITABLE, "the same bits");
    int ready = backend->sys->wait_one(of->io->handle, of->interest, 0);
    return ready < 0 ? P2P_ERR : (uint32_t)ready;
}

static int polled(p2pi_uring_backend *backend, p2pi_uring_io *of, const struct io_uring_cqe *completion,
                  p2p_backend_event *out) {
    bool failed = completion->res < 0 && completion->res != -ECANCELED;
    uint32_t wanted = p2pi_uring_to_poll(of);
    uint32_t flags = completion->res > 0 ? flags_of(completion->res) : failed ? P2P_ERR : 0;
    bool telling = only(flags, wanted) != 0;
    if (completion->flags & IORING_CQE_F_MORE) {
        of->stale |= telling;
        of->asked &= (uint8_t)~flags; /* it won't tell this again: not to who wants it later, either */
    } else {
        of->poll = P2PI_IDLE;
        of->stays = completion->res > 0 && wanted != 0 && !telling;
    }
    if (telling && of->request == P2PI_WAITING) {
        of->request = P2PI_QUEUED;
    }
    flags = only(flags, of->interest);
    if (flags != 0 && !failed && (of->io->flags & P2P_IO_FOREIGN) != 0) {
        flags = ready_now(backend, of);
    }
    if (failed) {
        of->interest = 0; /* the handle was closed behind our back: told once */
    }
    go_on(backend, of);
    *out = p2pi_ready(of->io->token, flags);
    return flags != 0;
}

/* ---- streams ---- */

static void fill_received(p2pi_uring_backend *backend, const struct io_uring_cqe *completion,
                          p2p_backend_event *event) {
    event->kind = P2P_EVENT_RECV;
    if (completion->res > 0) {
        event->u.buffer.index = completion->flags >> IORING_CQE_BUFFER_SHIFT;
        event->u.buffer.offset = p2pi_uring_lend(backend, event->u.buffer.index, (uint32_t)completion->res);
    }
}

static int streamed(p2pi_uring_backend *backend, p2pi_uring_io *of, const struct io_uring_cqe *completion,
                    p2p_backend_event *out) {
    bool cancelled = completion->res == -ECANCELED;
    bool starved = completion->res == -ENOBUFS && !of->accepts;
    bool more = (completion->flags & IORING_CQE_F_MORE) != 0;
    p2p_backend_event event = { .token = of->io->token, .kind = P2P_EVENT_ACCEPT, .result = completion->res };
    if (!of->accepts) {
        fill_received(backend, completion, &event);
    } else if (completion->res >= 0) {
        event.u.handle = completion->res;
        event.result = 0;
    }
    if (more) {
        event.flags |= P2P_MORE;
    } else {
        of->stream = P2PI_IDLE;
        of->streaming = of->streaming && (cancelled || starved); /* wanted again since, or still */
    }
    if (starved && of->streaming) {
        p2pi_uring_append(backend, P2PI_URING_STARVED, of);
    }
    if (!more || !of->streaming) {
        go_on(backend, of);
    }
    *out = event;
    return !cancelled && !starved;
}

/* ---- requests ---- */

static int request_done(p2pi_uring_backend *backend, p2pi_uring_io *of, int32_t result, p2p_backend_event *out) {
    *out = (p2p_backend_event){ .token = of->io->token, .kind = P2P_EVENT_OP_DONE, .result = result, .u.op = of->op };
    of->op = NULL;
    of->request = P2PI_IDLE;
    of->waited = false;
    go_on(backend, of);
    return 1;
}

void p2pi_uring_not_quiet(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    for (uint32_t i = 0; of->quiet && i < backend->quiet_count; i++) {
        if (backend->quiet[i] == of) {
            backend->quiet[i] = backend->quiet[--backend->quiet_count];
            of->quiet = false;
        }
    }
}

static int requested(p2pi_uring_backend *backend, p2pi_uring_io *of, int32_t result, p2p_backend_event *out) {
    const p2p_op *op = of->op;
    p2pi_uring_not_quiet(backend, of); /* there is a completion; it may come while nothing is said of the others */
    if (result == -EAGAIN && op->iov != NULL && of->request == P2PI_PENDING) {
        of->request = P2PI_WAITING;
        of->waited = true;
        go_on(backend, of);
        return 0;
    }
    if (op->iov == NULL && op->address == NULL && result >= 0) {
        result = backend->sys->connect_result(op->io->handle);
    }
    return request_done(backend, of, result, out);
}

/* ---- all of them ---- */

/* The kernel was at work on what was to be changed or cancelled, and goes on with it: once more. (Other failures mean
 * that it had come back already.) */
static void not_changed(p2pi_uring_backend *backend, p2pi_uring_io *of, int32_t result) {
    if (result != -EALREADY) {
        return;
    }
    of->poll = of->poll == P2PI_CANCELLED ? P2PI_PENDING : of->poll;
    of->stale = true;
    of->stream = of->stream == P2PI_CANCELLED ? P2PI_PENDING : of->stream;
    of->request = of->request == P2PI_CANCELLED ? P2PI_UNWANTED : of->request;
    p2pi_uring_change(backend, of);
}

static p2pi_uring_io *named(const p2pi_uring_backend *backend, uint64_t name) {
    p2pi_uring_io *of = backend->ios[name & P2PI_SLOT_MASK];
    return of != NULL && of->io->token >> 32 == name >> 32 ? of : NULL;
}

static int answered(p2pi_uring_backend *backend, const struct io_uring_cqe *completion, p2p_backend_event *out) {
    uint64_t name = p2pi_uring_name(completion);
    uint32_t about = (uint32_t)name >> P2PI_ABOUT_SHIFT;
    if (about == P2PI_ABOUT_WAKE) {
        backend->wake_armed = false;
        backend->wake_error = completion->res < 0 ? completion->res : backend->sys->wake_drain(backend->wake[0]);
        return 0;
    }
    p2pi_uring_io *of = named(backend, name);
    if (of == NULL) {
        return 0; /* a poll of a socket that was detached */
    }
    switch (about) {
    case P2PI_ABOUT_POLL:
    case P2PI_ABOUT_OTHER_POLL:
        return (about == P2PI_ABOUT_OTHER_POLL) == of->other_poll ? polled(backend, of, completion, out) : 0;
    case P2PI_ABOUT_RECV:
    case P2PI_ABOUT_ACCEPT: return streamed(backend, of, completion, out);
    case P2PI_ABOUT_REQUEST: return requested(backend, of, completion->res, out);
    default: not_changed(backend, of, completion->res); return 0;
    }
}

int p2pi_uring_harvest(p2pi_uring_backend *backend, p2p_backend_event *out, int capacity) {
    int stored = 0;
    uint32_t head, tail = p2pi_uring_completions(&backend->ring, &head);
    for (; head != tail && stored < capacity; head++) {
        stored += answered(backend, p2pi_uring_completion(&backend->ring, head), out + stored);
    }
    p2pi_uring_completions_read(&backend->ring, head);
    return stored;
}

int p2pi_uring_tell_finished(p2pi_uring_backend *backend, p2p_backend_event *out, int capacity) {
    int stored = 0;
    p2pi_uring_io *of;
    while ((of = backend->finished) != NULL && stored < capacity) {
        backend->finished = of->next_finished;
        if (backend->finished == NULL) {
            backend->last_finished = &backend->finished;
        }
        of->finished = false;
        if (of->request == P2PI_FINISHED) {
            stored += request_done(backend, of, -ECANCELED, out + stored);
            continue;
        }
        out[stored++] = (p2p_backend_event){ .token = of->io->token, .kind = P2P_EVENT_DETACHED };
        p2pi_uring_forget(backend, of);
    }
    return stored;
}

static int32_t size_of(const p2p_op *op) {
    size_t size = 0;
    for (uint32_t i = 0; i < op->iov_count; i++) {
        size += op->iov[i].len;
    }
    return (int32_t)size;
}

static void sort_out_failed(p2pi_uring_backend *backend) {
    uint32_t head, tail = p2pi_uring_completions(&backend->ring, &head);
    for (; head != tail; head++) {
        uint64_t name = p2pi_uring_name(p2pi_uring_completion(&backend->ring, head));
        bool about_request = (uint32_t)name >> P2PI_ABOUT_SHIFT == P2PI_ABOUT_REQUEST;
        p2pi_uring_io *of = about_request ? named(backend, name) : NULL;
        if (of != NULL) {
            p2pi_uring_not_quiet(backend, of);
        }
    }
}

/* Sends are over when they are handed over. */
int p2pi_uring_tell_quiet(p2pi_uring_backend *backend, p2p_backend_event *out, int capacity) {
    int stored = 0;
    if (backend->quiet_count == 0 || p2pi_uring_pending(&backend->ring) > 0 || p2pi_uring_overflown(&backend->ring)) {
        return 0;
    }
    sort_out_failed(backend);
    while (backend->quiet_count > 0 && stored < capacity) {
        p2pi_uring_io *of = backend->quiet[--backend->quiet_count];
        of->quiet = false;
        stored += request_done(backend, of, size_of(of->op), out + stored);
    }
    return stored;
}
