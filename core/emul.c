/*
 * Receive, accept, send and connect built on readiness: what resolve.c puts into the slots that a backend
 * leaves empty. A READY event becomes the same events that a completing backend returns. This side of the table
 * knows entries and the system table, not what its owners do.
 */
#include "receive.h"

static p2pi_entry *entry_of(p2p_io *io) {
    return P2PI_CONTAINER(io, p2pi_entry, io);
}

static int attach(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    if ((io->flags & (P2P_IO_FOREIGN | P2P_IO_NONBLOCKING)) != 0) return 0;
    int result = entry_of(io)->loop->sys->set_nonblocking(io->handle, 1);
    if (result == 0) io->flags |= P2P_IO_NONBLOCKING;
    return result;
}

static int bind_thread(p2p_backend *backend) {
    (void)backend;
    return 0;
}

static p2p_handle_t no_handle(p2p_backend *backend) {
    (void)backend;
    return P2P_INVALID_HANDLE;
}

/* The emulation receives into buffer 0 and has it back before it receives again: there is nothing to count. */
static int pool_bind(p2p_backend *backend, const p2p_buffer_pool *pool) {
    (void)backend, (void)pool;
    return 0;
}

static void buf_recycle(p2p_backend *backend, uint32_t buffer_index) {
    (void)backend, (void)buffer_index;
}

/* Nothing is gathered but interest, which the core flushes by itself. */
static int submit(p2p_backend *backend) {
    (void)backend;
    return 0;
}

static void arm(p2p_io *io, uint8_t flag) {
    p2pi_entry *entry = entry_of(io);
    entry->flags |= flag;
    p2pi_entry_want(entry, entry->wanted | P2P_IN);
}

static int recv_start(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    arm(io, P2PI_ENTRY_RECV);
    return 0;
}

/* Interest stays until an event shows that it is too wide: most stops are short, and this saves two calls. */
static int recv_stop(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    entry_of(io)->flags &= (uint8_t)~P2PI_ENTRY_RECV;
    return 0;
}

/* Accepting and connecting can't be told not to wait, as receiving can: only the mode helps, whoever set it. */
static int accept_start(p2p_backend *backend, p2p_io *io) {
    int result = attach(backend, io);
    if (result < 0) return result;
    arm(io, P2PI_ENTRY_ACCEPT);
    return 0;
}

static int accept_stop(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    entry_of(io)->flags &= (uint8_t)~P2PI_ENTRY_ACCEPT;
    return 0;
}

/* ---- requests --------------------------------------------------------------------------------------- */

static int error_of(const p2pi_entry *entry, int64_t result) {
    return entry->loop->sys->translate_error((int)-result);
}

/* OP_DONE, as far as the emulation has it: the core drains the list before it goes on. */
static void complete(p2p_op *op, int64_t result) {
    p2pi_request *request = P2PI_CONTAINER(op, p2pi_request, op);
    p2p_event_loop_t *loop = entry_of(op->io)->loop;
    request->result = result;
    request->next = NULL;
    *loop->done_last = request;
    loop->done_last = &request->next;
}

static void wait_writable(p2p_op *op) {
    p2pi_entry *entry = entry_of(op->io);
    entry->flags |= P2PI_ENTRY_WRITE;
    p2pi_entry_want(entry, entry->wanted | P2P_OUT);
}

static int emul_send(p2p_backend *backend, p2p_op *op) {
    (void)backend;
    p2pi_entry *entry = entry_of(op->io);
    int64_t sent = entry->loop->sys->sendv(op->io->handle, op->iov, op->iov_count, 1);
    if (sent < 0 && error_of(entry, sent) == P2P_ERR_WOULD_BLOCK)
        wait_writable(op);
    else
        complete(op, sent);
    return 0;
}

static int emul_connect(p2p_backend *backend, p2p_op *op) {
    p2pi_entry *entry = entry_of(op->io);
    int result = attach(backend, op->io);
    if (result < 0) return result;
    result = op->address == NULL ? 1 : entry->loop->sys->connect(op->io->handle, op->address);
    int error = result < 0 ? error_of(entry, result) : 0;
    if (result > 0 || error == P2P_ERR_ALREADY) /* in progress */
        wait_writable(op);
    else
        complete(op, result);
    return 0;
}

static int cancel(p2p_backend *backend, p2p_op *op) {
    (void)backend;
    p2pi_entry *entry = entry_of(op->io);
    if ((entry->flags & P2PI_ENTRY_WRITE) == 0) return 0; /* completed already */
    entry->flags &= (uint8_t)~P2PI_ENTRY_WRITE;
    p2pi_entry_want(entry, entry->wanted & ~P2P_OUT);
    complete(op, op->iov == NULL ? 0 : -1); /* an attempt to connect goes on in the system */
    return 0;
}

const p2p_backend_ops p2pi_emulation = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "emulation",
    .attach = attach,
    .bind_thread = bind_thread,
    .pool_bind = pool_bind,
    .buf_recycle = buf_recycle,
    .recv_start = recv_start,
    .recv_stop = recv_stop,
    .accept_start = accept_start,
    .accept_stop = accept_stop,
    .send = emul_send,
    .connect = emul_connect,
    .cancel = cancel,
    .handle = no_handle,
    .submit = submit,
};

/* ---- from readiness to the same completions --------------------------------------------------------------- */

static void disarm(p2pi_entry *entry, uint8_t flag) {
    entry->flags &= (uint8_t)~flag;
    p2pi_entry_want(entry, entry->wanted & ~P2P_IN);
}

static inline bool stands(const p2pi_entry *entry, uint64_t token, uint8_t flag) {
    return entry->io.token == token && (entry->flags & flag) != 0;
}

static void recv_ended(p2p_event_loop_t *loop, p2pi_entry *entry, int64_t result, bool first) {
    if (result < 0 && error_of(entry, result) == P2P_ERR_WOULD_BLOCK) {
        if (first) loop->stats.spurious_events++;
        return;
    }
    disarm(entry, P2PI_ENTRY_RECV);
    p2pi_connection_received_end(loop, entry->owner, result);
}

/*
 * Receive until the socket is empty or has had its share; `got` is what the first call gave. What a long message lacks
 * is received where it belongs; everything else comes to a buffer first.
 */
static void recv_on(p2p_event_loop_t *loop, p2pi_entry *entry, int64_t got) {
    uint64_t token = entry->io.token, messages_before = loop->stats.messages_in;
    uint32_t budget = loop->options.read_budget, asked = loop->buffers.size, total = 0;
    uint8_t *place = NULL;
    for (;;) {
        if (got <= 0) {
            recv_ended(loop, entry, got, total == 0);
            return;
        }
        if (place != NULL)
            p2pi_connection_received_in_place(loop, entry->owner, (size_t)got);
        else
            p2pi_connection_received(loop, entry->owner, loop->buffers.slab, (size_t)got);
        total += (uint32_t)got;
        if (got < (int64_t)asked || total >= budget || !stands(entry, token, P2PI_ENTRY_RECV)) return;
        uint64_t messages = loop->stats.messages_in - messages_before;
        if (messages >= loop->options.message_budget) return;
        loop->input.budget = loop->options.message_budget - (uint32_t)messages;
        asked = loop->buffers.size < budget - total ? loop->buffers.size : budget - total;
        place = p2pi_connection_place(entry->owner, budget - total, &asked);
        got = loop->sys->recv(entry->io.handle, place != NULL ? place : loop->buffers.slab, asked, 1);
    }
}

P2PI_UNUSUAL void p2pi_emul_recv_all(p2p_event_loop_t *loop, p2pi_entry *entry, int64_t got) {
    recv_on(loop, entry, got);
    loop->input.budget = loop->options.message_budget;
}

static void accept_ready(p2p_event_loop_t *loop, p2pi_entry *entry, uint64_t token) {
    for (uint32_t i = 0; i < loop->options.accept_budget && stands(entry, token, P2PI_ENTRY_ACCEPT); i++) {
        p2p_handle_t handle;
        int result = loop->sys->accept(entry->io.handle, &handle, 1);
        int error = result < 0 ? error_of(entry, result) : 0;
        if (error == P2P_ERR_WOULD_BLOCK) return;
        p2pi_listener_accepted(loop, entry->owner, handle, result, P2P_MORE | P2P_NONBLOCKING);
    }
}

/* SO_ERROR is 0 too while an attempt goes on, and READY may be spurious: only a peer's name proves it. */
static bool connect_finished(p2pi_entry *entry, int64_t *result) {
    const p2p_sys_ops *sys = entry->loop->sys;
    p2p_address_t peer;
    *result = sys->connect_result(entry->io.handle);
    if (*result < 0) return true;
    int named = sys->peer_address(entry->io.handle, &peer);
    return named >= 0 || error_of(entry, named) != P2P_ERR_NOT_CONNECTED;
}

static bool send_finished(p2pi_entry *entry, const p2p_op *op, int64_t *result) {
    *result = entry->loop->sys->sendv(op->io->handle, op->iov, op->iov_count, 1);
    return *result >= 0 || error_of(entry, *result) != P2P_ERR_WOULD_BLOCK;
}

static void request_ready(p2p_event_loop_t *loop, p2pi_entry *entry) {
    bool waits = (entry->flags & P2PI_ENTRY_WRITE) != 0;
    p2pi_request *request = waits ? ((p2p_socket_t *)entry->owner)->request : NULL;
    int64_t result = 0;
    if (waits) {
        const p2p_op *op = &request->op;
        if (!(op->iov != NULL ? send_finished(entry, op, &result) : connect_finished(entry, &result))) return;
    }
    entry->flags &= (uint8_t)~P2PI_ENTRY_WRITE;
    p2pi_entry_want(entry, entry->wanted & ~P2P_OUT);
    if (waits) p2pi_request_done(loop, request, result);
}

/* A READY event of a connection or a listener. Hang-ups and errors are found by the call that was waited for. */
void p2pi_emul_ready(p2p_event_loop_t *loop, p2pi_entry *entry, uint32_t flags) {
    uint64_t token = entry->io.token;
    if ((flags & (P2P_IN | P2P_HUP | P2P_ERR)) != 0) {
        if ((entry->flags & P2PI_ENTRY_RECV) != 0)
            p2pi_emul_recv(loop, entry);
        else if ((entry->flags & P2PI_ENTRY_ACCEPT) != 0)
            accept_ready(loop, entry, token);
        else
            p2pi_entry_want(entry, entry->wanted & ~P2P_IN);
    }
    if ((flags & (P2P_OUT | P2P_HUP | P2P_ERR)) != 0 && entry->io.token == token && entry->owner != NULL)
        request_ready(loop, entry);
}
