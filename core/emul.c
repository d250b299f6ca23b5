/*
 * Receive, accept, send and connect built on readiness: what resolve.c puts into the slots that a backend
 * leaves empty. A READY event becomes the same events that a completing backend returns. This side of the table
 * knows entries and the system table, not what its owners do.
 */
#include "internal.h"

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

static int accept_start(p2p_backend *backend, p2p_io *io) {
    (void)backend;
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
    entry->pending = op;
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
    (void)backend;
    p2pi_entry *entry = entry_of(op->io);
    int result = op->address == NULL ? 1 : entry->loop->sys->connect(op->io->handle, op->address);
    int error = result < 0 ? error_of(entry, result) : 0;
    if (result > 0 || error == P2P_ERR_ALREADY || error == P2P_ERR_WOULD_BLOCK)
        wait_writable(op);
    else
        complete(op, result);
    return 0;
}

static int cancel(p2p_backend *backend, p2p_op *op) {
    (void)backend;
    p2pi_entry *entry = entry_of(op->io);
    if (entry->pending != op) return 0; /* completed already */
    entry->pending = NULL;
    p2pi_entry_want(entry, entry->wanted & ~P2P_OUT);
    complete(op, -1);
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
};

/* ---- from readiness to events -------------------------------------------------------------------------- */

static void disarm(p2pi_entry *entry, uint8_t flag) {
    entry->flags &= (uint8_t)~flag;
    p2pi_entry_want(entry, entry->wanted & ~P2P_IN);
}

static bool next_recv(p2pi_entry *entry, p2pi_readiness *ready, p2p_backend_event *out) {
    p2p_event_loop_t *loop = entry->loop;
    uint32_t size = loop->buffers.size;
    int64_t got = loop->sys->recv(entry->io.handle, loop->buffers.slab, size, 1);
    if (got < 0 && error_of(entry, got) == P2P_ERR_WOULD_BLOCK) {
        if (ready->read_budget == loop->options.read_budget) loop->stats.spurious_events++;
        ready->readable = false;
        return false;
    }
    out->kind = P2P_EVENT_RECV;
    out->flags = got > 0 ? P2P_MORE : 0;
    out->result = (int32_t)got;
    out->u.buffer_index = 0;
    if (got <= 0) disarm(entry, P2PI_ENTRY_RECV);
    /* A short read has emptied the socket; another call would only be told so. */
    if (got < (int64_t)size || ready->read_budget <= size)
        ready->readable = false;
    else
        ready->read_budget -= size;
    return true;
}

/* Conditions of one connection that is gone already, not of the listener. */
static bool is_lost_connection(int error) {
    return error == P2P_ERR_RESET || error == P2P_ERR_UNREACHABLE || error == P2P_ERR_TIMED_OUT ||
           error == P2P_ERR_REFUSED || error == P2P_ERR_ACCESS;
}

static bool next_accept(p2pi_entry *entry, p2pi_readiness *ready, p2p_backend_event *out) {
    p2p_event_loop_t *loop = entry->loop;
    while (ready->accept_budget > 0) {
        ready->accept_budget--;
        int result = loop->sys->accept(entry->io.handle, &out->u.handle, 1);
        int error = result < 0 ? error_of(entry, result) : 0;
        if (is_lost_connection(error)) continue;
        if (error == P2P_ERR_WOULD_BLOCK) break;
        out->kind = P2P_EVENT_ACCEPT;
        out->flags = P2P_MORE | P2P_NONBLOCKING;
        out->result = result < 0 ? result : 0;
        if (result < 0) ready->readable = false;
        return true;
    }
    ready->readable = false;
    return false;
}

static bool next_read_side(p2pi_entry *entry, p2pi_readiness *ready, p2p_backend_event *out) {
    if ((entry->flags & P2PI_ENTRY_RECV) != 0) return next_recv(entry, ready, out);
    if ((entry->flags & P2PI_ENTRY_ACCEPT) != 0) return next_accept(entry, ready, out);
    p2pi_entry_want(entry, entry->wanted & ~P2P_IN);
    ready->readable = false;
    return false;
}

/* SO_ERROR is 0 too while an attempt goes on, and READY may be spurious: only a peer's name proves it. */
static bool connect_finished(p2pi_entry *entry, int *result) {
    const p2p_sys_ops *sys = entry->loop->sys;
    p2p_address_t peer;
    *result = sys->connect_result(entry->io.handle);
    if (*result < 0) return true;
    int named = sys->peer_address(entry->io.handle, &peer);
    return named >= 0 || error_of(entry, named) != P2P_ERR_NOT_CONNECTED;
}

static bool next_write_side(p2pi_entry *entry, p2pi_readiness *ready, p2p_backend_event *out) {
    ready->writable = false;
    p2p_op *op = entry->pending;
    int64_t result = 0;
    int connected = 0;
    if (op != NULL && op->iov != NULL) {
        result = entry->loop->sys->sendv(op->io->handle, op->iov, op->iov_count, 1);
        if (result < 0 && error_of(entry, result) == P2P_ERR_WOULD_BLOCK) return false;
    } else if (op != NULL) {
        if (!connect_finished(entry, &connected)) return false;
        result = connected;
    }
    entry->pending = NULL;
    p2pi_entry_want(entry, entry->wanted & ~P2P_OUT);
    if (op == NULL) return false;
    out->kind = P2P_EVENT_OP_DONE;
    out->flags = 0;
    out->result = (int32_t)(result > INT32_MAX ? INT32_MAX : result);
    out->u.op = op;
    return true;
}

bool p2pi_emul_next(p2pi_entry *entry, p2pi_readiness *ready, p2p_backend_event *out) {
    out->token = entry->io.token;
    if (ready->readable && next_read_side(entry, ready, out)) return true;
    return ready->writable && next_write_side(entry, ready, out);
}
