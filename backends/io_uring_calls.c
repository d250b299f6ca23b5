/*
 * What backend io_uring asks of the kernel. Whatever changes for a socket is noted in its state, and put down for the
 * kernel only by hand_over: in a wait, in the thread that waits.
 */
#include "io_uring.h"

#include <poll.h>
#include <sys/socket.h>

/* ---- lists ---- */

void p2pi_uring_append(p2pi_uring_backend *backend, p2pi_uring_list list, p2pi_uring_io *of) {
    if (of->listed[list]) {
        return;
    }
    p2pi_uring_io *last = backend->last[list];
    of->listed[list] = true;
    of->next[list] = NULL;
    of->previous[list] = last;
    *(last != NULL ? &last->next[list] : &backend->first[list]) = of;
    backend->last[list] = of;
}

void p2pi_uring_remove(p2pi_uring_backend *backend, p2pi_uring_list list, p2pi_uring_io *of) {
    if (!of->listed[list]) {
        return;
    }
    p2pi_uring_io *next = of->next[list], *previous = of->previous[list];
    of->listed[list] = false;
    *(previous != NULL ? &previous->next[list] : &backend->first[list]) = next;
    *(next != NULL ? &next->previous[list] : &backend->last[list]) = previous;
}

/* Not all at once: most would find none again, and each try costs. */
void p2pi_uring_feed(p2pi_uring_backend *backend) {
    for (uint32_t i = 0; i < backend->pool.count && p2pi_uring_can_feed(backend); i++) {
        p2pi_uring_io *of = backend->first[P2PI_URING_STARVED];
        p2pi_uring_remove(backend, P2PI_URING_STARVED, of);
        of->sparing = true;
        p2pi_uring_change(backend, of);
    }
}

/* ---- calls ---- */

static struct io_uring_sqe *call_about(p2pi_uring_backend *backend, const p2pi_uring_io *of, uint8_t code,
                                       uint32_t about) {
    struct io_uring_sqe *call = p2pi_uring_call(&backend->ring, code, of->io->handle);
    if (call != NULL) {
        p2pi_uring_set_name(call, of->io->token | (uint64_t)about << P2PI_ABOUT_SHIFT);
    }
    return call;
}

/* A call about another one: without a handle, and with a completion only when it fails. */
static struct io_uring_sqe *call_on(p2pi_uring_backend *backend, const p2pi_uring_io *of, uint8_t code,
                                    uint32_t about) {
    struct io_uring_sqe *call = call_about(backend, of, code, P2PI_ABOUT_CHANGE);
    if (call != NULL) {
        call->fd = -1;
        call->flags = IOSQE_CQE_SKIP_SUCCESS;
        call->addr = of->io->token | (uint64_t)about << P2PI_ABOUT_SHIFT;
    }
    return call;
}

static bool cancel(p2pi_uring_backend *backend, const p2pi_uring_io *of, uint32_t about) {
    return call_on(backend, of, IORING_OP_ASYNC_CANCEL, about) != NULL;
}

/* Each advance_ function brings one of the socket's calls nearer to what is wanted. @return false: no room. */

static uint32_t poll_mask(uint32_t interest) {
    uint32_t mask = (interest & P2P_IN ? POLLIN : 0u) | (interest & P2P_OUT ? POLLOUT : 0u);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    mask = mask << 16 | mask >> 16; /* io_uring_enter(2): the halves are swapped there */
#endif
    return mask;
}

uint32_t p2pi_uring_to_poll(const p2pi_uring_io *of) {
    return of->interest | (of->request == P2PI_WAITING ? P2P_OUT : 0);
}

static uint32_t about_poll(const p2pi_uring_io *of) {
    return of->other_poll ? P2PI_ABOUT_OTHER_POLL : P2PI_ABOUT_POLL;
}

/* One that asks for something else takes the place of the poll under way, whose completion then names nobody. (To
 * change a poll in place is one call less. But until a fix of 2025 one that is then ready at once may be lost.) */
static bool ask_poll(p2pi_uring_backend *backend, p2pi_uring_io *of, uint32_t wanted) {
    if (of->poll == P2PI_PENDING) {
        if (!cancel(backend, of, about_poll(of))) {
            return false;
        }
        of->other_poll = !of->other_poll;
        of->poll = P2PI_IDLE;
    }
    struct io_uring_sqe *call = call_about(backend, of, IORING_OP_POLL_ADD, about_poll(of));
    if (call == NULL) {
        return false;
    }
    call->len = of->stays ? IORING_POLL_ADD_MULTI : 0;
    call->poll32_events = poll_mask(wanted);
    of->poll = P2PI_PENDING;
    of->asked = (uint8_t)wanted;
    of->stale = false;
    return true;
}

/* Polls tell of a half-closed peer (POLLRDHUP) whether asked or not. Who waits for something else takes a multishot
 * poll then, which does not tell of it again and again; when it has told of something it is made to look afresh. */
static bool advance_poll(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    uint32_t wanted = p2pi_uring_to_poll(of);
    switch (of->poll) {
    case P2PI_IDLE: /* asked anew while there is interest: so readiness is level-triggered */
        return wanted == 0 || ask_poll(backend, of, wanted);
    case P2PI_PENDING: /* what it tells beyond what is wanted is sorted out when it comes */
        if ((of->stays || of->detaching) && wanted == 0) {
            of->poll = cancel(backend, of, about_poll(of)) ? P2PI_CANCELLED : P2PI_PENDING;
            return of->poll == P2PI_CANCELLED;
        }
        return ((wanted & ~of->asked) == 0 && !of->stale) || ask_poll(backend, of, wanted);
    default: /* cancelled: asked anew when it has come back */
        return true;
    }
}

static uint32_t about_stream(const p2pi_uring_io *of) {
    return of->accepts ? P2PI_ABOUT_ACCEPT : P2PI_ABOUT_RECV;
}

static bool ask_stream(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    uint8_t code = of->accepts ? IORING_OP_ACCEPT : IORING_OP_RECV;
    struct io_uring_sqe *call = call_about(backend, of, code, about_stream(of));
    if (call == NULL) {
        return false;
    }
    if (of->accepts) {
        call->ioprio = IORING_ACCEPT_MULTISHOT;
        call->accept_flags = SOCK_CLOEXEC;
    } else {
        call->ioprio = of->sparing ? 0 : IORING_RECV_MULTISHOT;
        of->sparing = false;
        call->flags = IOSQE_BUFFER_SELECT; /* group 0; length 0: as much as is left in the buffer */
    }
    of->stream = P2PI_PENDING;
    return true;
}

static bool advance_stream(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    switch (of->stream) {
    case P2PI_IDLE: return !of->streaming || of->listed[P2PI_URING_STARVED] || ask_stream(backend, of);
    case P2PI_PENDING:
        if (of->streaming) {
            return true;
        }
        of->stream = cancel(backend, of, about_stream(of)) ? P2PI_CANCELLED : P2PI_PENDING;
        return of->stream == P2PI_CANCELLED;
    default: return true; /* asked anew when it has come back */
    }
}

/* Nobody waits for it if it succeeds: then no completion ends the wait that hands it over. */
static void make_quiet(p2pi_uring_backend *backend, p2pi_uring_io *of, struct io_uring_sqe *call) {
    bool asked = (of->op->flags & P2P_OP_QUIET) != 0 && !of->waited;
    if (!backend->quietly || !asked || backend->quiet_count == P2PI_URING_QUIET_MAX) {
        return;
    }
    call->flags = IOSQE_CQE_SKIP_SUCCESS;
    call->msg_flags |= MSG_WAITALL; /* a short send is a failure, and so has a completion */
    backend->quiet[backend->quiet_count++] = of;
    of->quiet = true;
}

/* A send never waits in the kernel: where the peer is half closed it would occupy a kernel thread (the poll that it
 * waits by tells of POLLRDHUP for ever, and after some tries it goes another way). */
static void fill_send(p2pi_uring_backend *backend, p2pi_uring_io *of, struct io_uring_sqe *call) {
    const p2p_op *op = of->op;
    call->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (op->iov_count == 1) {
        call->addr = (uint64_t)(uintptr_t)op->iov->base;
        call->len = op->iov->len < INT32_MAX ? (uint32_t)op->iov->len : INT32_MAX;
    } else {
        struct msghdr *message = op->state;
        message->msg_iov = (struct iovec *)(uintptr_t)op->iov; /* the same type by another name (sys.h) */
        message->msg_iovlen = op->iov_count;
        call->addr = (uint64_t)(uintptr_t)message;
        call->len = 1;
    }
    make_quiet(backend, of, call);
}

static uint8_t request_code(const p2p_op *op) {
    if (op->iov != NULL) {
        return op->iov_count == 1 ? IORING_OP_SEND : IORING_OP_SENDMSG;
    }
    return op->address != NULL ? IORING_OP_CONNECT : IORING_OP_POLL_ADD; /* of an attempt that has begun: its end */
}

static bool ask_request(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    struct io_uring_sqe *call = call_about(backend, of, request_code(of->op), P2PI_ABOUT_REQUEST);
    if (call == NULL) {
        return false;
    }
    if (of->op->iov != NULL) {
        fill_send(backend, of, call);
    } else if (of->op->address != NULL) {
        call->addr = (uint64_t)(uintptr_t)&of->op->address->storage;
        call->off = of->op->address->length;
    } else {
        call->poll32_events = poll_mask(P2P_OUT);
    }
    of->request = P2PI_PENDING;
    return true;
}

static bool advance_request(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    switch (of->request) {
    case P2PI_QUEUED: return ask_request(backend, of);
    case P2PI_UNWANTED:
        of->request = cancel(backend, of, P2PI_ABOUT_REQUEST) ? P2PI_CANCELLED : P2PI_UNWANTED;
        return of->request == P2PI_CANCELLED;
    default: return true;
    }
}

static bool arm_wake(p2pi_uring_backend *backend) {
    if (backend->wake_armed) {
        return true;
    }
    struct io_uring_sqe *call = p2pi_uring_call(&backend->ring, IORING_OP_POLL_ADD, backend->wake[0]);
    if (call == NULL) {
        return false;
    }
    call->poll32_events = poll_mask(P2P_IN);
    p2pi_uring_set_name(call, (uint64_t)P2PI_ABOUT_WAKE << P2PI_ABOUT_SHIFT);
    backend->wake_armed = true;
    return true;
}

void p2pi_uring_hand_over(p2pi_uring_backend *backend) {
    p2pi_uring_io *of;
    bool room = arm_wake(backend);
    while (room && (of = backend->first[P2PI_URING_CHANGED]) != NULL) {
        room = advance_poll(backend, of) && advance_stream(backend, of) && advance_request(backend, of);
        if (room) {
            p2pi_uring_remove(backend, P2PI_URING_CHANGED, of);
        }
    }
}

/* The kernel was at work on what this socket wanted to be cancelled, say the completions from *head on. */
static bool at_work(const p2pi_uring_backend *backend, const p2pi_uring_io *of, uint32_t *head) {
    bool found = false;
    uint32_t first, tail = p2pi_uring_completions(&backend->ring, &first);
    for (; *head != tail; ++*head) {
        const struct io_uring_cqe *completion = p2pi_uring_completion(&backend->ring, *head);
        found = found || (completion->res == -EALREADY && p2pi_uring_name(completion) == of->io->token);
    }
    return found;
}

/* Its completion carries nothing that could be lost, so it is not waited for: when it comes it names nobody. But the
 * kernel holds the handle until it has done the work that it puts off; and a lasting poll goes on after that. */
void p2pi_uring_drop_poll(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    uint32_t head;
    (void)p2pi_uring_completions(&backend->ring, &head);
    while (of->poll == P2PI_CANCELLED || (of->poll == P2PI_PENDING && cancel(backend, of, about_poll(of)))) {
        (void)p2pi_uring_wait(&backend->ring, 0, 0);
        while (p2pi_uring_continue(&backend->ring)) {
        }
        of->poll = at_work(backend, of, &head) ? P2PI_PENDING : P2PI_IDLE;
    }
}
