/* The driver of the optional groups; see groups.h. */
#include "groups.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LENT_MAX = 4096 };

typedef struct lent_piece {
    const group_socket *socket;
    uint64_t at; /* in the pattern */
    uint32_t index, offset, size;
} lent_piece;

static struct {
    harness *h;
    group_socket sockets[GROUP_SOCKETS_MAX];
    int socket_count;
    lent_piece lent[LENT_MAX];
    uint32_t lent_count;
    uint8_t *slab;
} group;

/* ---- the pattern ---- */

/* Without a period that a buffer's size could hide. */
static uint8_t byte_at(const group_socket *socket, uint64_t at) {
    return (uint8_t)(at * 7 + (at >> 8) * 13 + (at >> 16) * 29 + socket->salt);
}

static void fill_pattern(const group_socket *socket, uint8_t *bytes, size_t size, uint64_t at) {
    for (size_t i = 0; i < size; i++) {
        bytes[i] = byte_at(socket, at + i);
    }
}

static void expect_pattern(const group_socket *socket, const uint8_t *bytes, size_t size, uint64_t at) {
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(bytes[i], byte_at(socket, at + i));
    }
}

/* ---- what is lent ---- */

static uint8_t *bytes_of(const lent_piece *piece) {
    return group.slab + (size_t)piece->index * group.h->pool.size + piece->offset;
}

/* B9: inside the pool, and apart from all that is lent already. */
static void note_lent(group_socket *socket, const p2p_backend_event *event) {
    const p2p_buffer_pool *pool = &group.h->pool;
    lent_piece piece = { socket, socket->received, event->u.buffer.index, event->u.buffer.offset,
                         (uint32_t)event->result };
    assert_in_range(piece.index, 0, pool->count - 1);
    assert_in_range(piece.offset, 0, pool->size - 1);
    assert_in_range(piece.size, 1, pool->size - piece.offset);
    for (uint32_t i = 0; i < group.lent_count; i++) {
        const lent_piece *other = &group.lent[i];
        assert_true(other->index != piece.index || other->offset + other->size <= piece.offset ||
                    piece.offset + piece.size <= other->offset);
    }
    assert_in_range(group.lent_count, 0, LENT_MAX - 1);
    expect_pattern(socket, bytes_of(&piece), piece.size, piece.at);
    group.lent[group.lent_count++] = piece;
    socket->received += piece.size;
}

uint32_t lent_count(void) {
    return group.lent_count;
}

void recycle_to(harness *h, uint32_t count) {
    while (group.lent_count > count) {
        lent_piece piece = group.lent[0];
        memmove(group.lent, group.lent + 1, --group.lent_count * sizeof(piece));
        expect_pattern(piece.socket, bytes_of(&piece), piece.size, piece.at);
        memset(bytes_of(&piece), 0xEE, piece.size); /* what it was must not be told again */
        h->ops->buf_recycle(h->backend, piece.index);
    }
}

/* ---- events ---- */

/* B8 */
static void note_more(group_socket *socket, const p2p_backend_event *event) {
    bool more = (event->flags & P2P_MORE) != 0;
    socket->armed = socket->armed && more;
    socket->silent = !more;
}

static void hear_received(group_socket *socket, const p2p_backend_event *event) {
    assert_false(socket->silent);
    socket->recv_events++;
    if (event->result > 0) {
        assert_int_equal(event->flags & ~P2P_MORE, 0);
        note_lent(socket, event);
    } else if (event->flags != 0) {
        assert_int_equal(event->flags, P2P_NO_BUFFERS); /* it ends the receive: no MORE (B8) */
        assert_int_equal(event->result, 0);
        socket->starved++;
    } else if (event->result == 0) {
        socket->ends++;
    } else {
        assert_int_equal(event->result, -os_number(ECONNRESET));
        socket->resets++;
    }
    note_more(socket, event);
}

static void hear_accepted(group_socket *socket, const p2p_backend_event *event) {
    assert_false(socket->silent);
    assert_int_equal(event->result, 0);
    assert_int_equal(event->flags & ~(P2P_MORE | P2P_NONBLOCKING), 0);
    assert_in_range(socket->accepted_count, 0, GROUP_ACCEPTED_MAX - 1);
    socket->accepted[socket->accepted_count++] = event->u.handle;
    note_more(socket, event);
    assert_true(os_is_open(event->u.handle));
    assert_false(os_is_inheritable(event->u.handle));
    if (!ON_WINDOWS) { /* where it can't be asked */
        assert_int_equal(os_is_nonblocking(event->u.handle), (event->flags & P2P_NONBLOCKING) != 0);
    }
}

static void free_request(group_op *request) {
    free(request->op.state);
    free(request->data);
    request->op.state = NULL;
    request->data = NULL;
}

/* Its memory may go from here on. */
static void hear_done(group_socket *socket, const p2p_backend_event *event) {
    group_op *request = &socket->request;
    assert_ptr_equal(event->u.op, &request->op);
    assert_false(request->is_done);
    request->is_done = true;
    request->result = event->result;
    free_request(request);
}

static void hear(test_io *io, const p2p_backend_event *event) {
    group_socket *socket = io->owner;
    assert_non_null(socket);
    switch (event->kind) {
    case P2P_EVENT_RECV: hear_received(socket, event); break;
    case P2P_EVENT_ACCEPT: hear_accepted(socket, event); break;
    case P2P_EVENT_OP_DONE: hear_done(socket, event); break;
    default:
        assert_int_equal(event->kind, P2P_EVENT_DETACHED);
        assert_true(socket->request.op.io == NULL || socket->request.is_done); /* what it points to is used no more */
        socket->io = NULL;
        break;
    }
}

/* ---- cases begin and end ---- */

int group_set_up(void **state) {
    memset(&group, 0, sizeof(group));
    int result = harness_set_up(state);
    group.h = *state;
    group.h->hear = hear;
    return result;
}

static void close_socket(group_socket *socket) {
    group_close(socket);
    group_close_peer(socket);
    for (int i = 0; i < socket->accepted_count; i++) {
        os_close(socket->accepted[i]);
    }
}

int group_tear_down(void **state) {
    harness *h = *state;
    if (h->backend != NULL) {
        recycle_to(h, 0);
        forget_all(h);
    }
    for (int i = 0; i < group.socket_count; i++) {
        assert_true(group.sockets[i].request.op.io == NULL || group.sockets[i].request.is_done);
        close_socket(&group.sockets[i]);
    }
    int result = harness_tear_down(state);
    free(group.slab);
    return result;
}

void need_receive(const harness *h) {
    if (h->ops->recv_start == NULL) {
        test_skip("backend %s leaves receiving to the core", h->ops->name);
    }
}

void need_accept(const harness *h) {
    if (h->ops->accept_start == NULL) {
        test_skip("backend %s leaves accepting to the core", h->ops->name);
    }
}

void need_requests(const harness *h) {
    if (h->ops->send == NULL) {
        test_skip("backend %s leaves sending and connecting to the core", h->ops->name);
    }
}

void use_pool(harness *h, uint32_t count, uint32_t size) {
    recycle_to(h, 0);
    if (h->ops->pool_bind == NULL) {
        return;
    }
    harness_destroy(h);
    free(group.slab);
    group.slab = malloc((size_t)count * size); /* exactly, so that a sanitizer sees what lies beyond */
    assert_non_null(group.slab);
    h->pool = (p2p_buffer_pool){ group.slab, count, size };
    assert_int_equal(harness_create(h), 0);
}

/* ---- sockets ---- */

group_socket *group_attach(harness *h, p2p_handle_t handle, p2p_handle_t peer) {
    assert_in_range(group.socket_count, 0, GROUP_SOCKETS_MAX - 1);
    group_socket *socket = &group.sockets[group.socket_count++];
    memset(socket, 0, sizeof(*socket));
    socket->salt = (uint8_t)(group.socket_count * 17);
    socket->handle = handle;
    socket->peer = peer;
    socket->io = attach(h, handle, P2P_IO_NONBLOCKING);
    socket->io->owner = socket;
    return socket;
}

group_socket *group_connection(harness *h) {
    p2p_handle_t ends[2];
    tcp_pair(ends);
    return group_attach(h, ends[0], ends[1]);
}

group_socket *group_pair(harness *h) {
    p2p_handle_t ends[2];
    assert_int_equal(os_stream_pair(ends), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(os_set_nonblocking(ends[i], true), 0);
    }
    return group_attach(h, ends[0], ends[1]);
}

group_socket *group_listener(harness *h, uint16_t *port) {
    return group_attach(h, tcp_listener(port), P2P_INVALID_HANDLE);
}

void group_detach(harness *h, group_socket *socket) {
    test_io *io = socket->io;
    int result = h->ops->detach(h->backend, &io->io);
    assert_true(result == 0 || result == P2P_DEFERRED);
    if (result == 0) { /* then there is nothing of it any more, and forget would detach it again */
        assert_true(socket->request.op.io == NULL || socket->request.is_done);
        h->ios[io->io.token & UINT32_MAX] = NULL;
        free(io->io.state);
        free(io);
        socket->io = NULL;
    }
    for (int empty = 0; socket->io != NULL;) {
        assert_in_range(empty, 0, FEW_WAITS);
        empty += turn(h, 0) == 0;
    }
    turn(h, 0); /* nothing more is heard, and the kernel takes no more */
}

static void close_once(p2p_handle_t *handle) {
    if (*handle != P2P_INVALID_HANDLE) {
        os_close(*handle);
    }
    *handle = P2P_INVALID_HANDLE;
}

void group_close(group_socket *socket) {
    close_once(&socket->handle);
}

void group_close_peer(group_socket *socket) {
    close_once(&socket->peer);
}

void group_destroy(harness *h) {
    for (size_t i = 0; i < h->io_count; i++) {
        if (h->ios[i] != NULL) {
            free(h->ios[i]->io.state);
            free(h->ios[i]);
            h->ios[i] = NULL;
        }
    }
    for (int i = 0; i < group.socket_count; i++) {
        group_close(&group.sockets[i]);
    }
    group.lent_count = 0;
    harness_destroy(h);
    for (int i = 0; i < group.socket_count; i++) { /* requests stay where they are until it is gone */
        free_request(&group.sockets[i].request);
        group.sockets[i].request.op.io = NULL;
    }
}

/* ---- receiving ---- */

void start(harness *h, group_socket *socket) {
    bool accepts = socket->peer == P2P_INVALID_HANDLE;
    assert_false(socket->armed);
    socket->armed = true;
    socket->silent = false;
    assert_int_equal((accepts ? h->ops->accept_start : h->ops->recv_start)(h->backend, &socket->io->io), 0);
}

void stop(harness *h, group_socket *socket) {
    bool accepts = socket->peer == P2P_INVALID_HANDLE;
    socket->armed = false;
    assert_int_equal((accepts ? h->ops->accept_stop : h->ops->recv_stop)(h->backend, &socket->io->io), 0);
}

size_t peer_sends(group_socket *socket, size_t size) {
    static uint8_t bytes[65536];
    size_t all = 0;
    while (all < size) {
        size_t piece = size - all < sizeof(bytes) ? size - all : sizeof(bytes);
        fill_pattern(socket, bytes, piece, socket->sent);
        int64_t sent = os_send_now(socket->peer, bytes, piece);
        if (sent == -EAGAIN) {
            break;
        }
        assert_true(sent > 0);
        socket->sent += (uint64_t)sent;
        all += (size_t)sent;
    }
    return all;
}

void read_rest(group_socket *socket) {
    uint8_t bytes[4096];
    int64_t got;
    assert_int_equal(os_shutdown_send(socket->peer), 0);
    do {
        assert_true(os_poll(socket->handle, POLLIN, (int)(DEADLINE / MILLISECOND)) > 0);
        got = os_recv_now(socket->handle, bytes, sizeof(bytes));
        assert_true(got >= 0);
        expect_pattern(socket, bytes, (size_t)got, socket->received);
        socket->received += (uint64_t)got;
    } while (got > 0);
}

void receive_all(harness *h, group_socket *socket) {
    int64_t deadline = os_now_ns() + DEADLINE;
    while (socket->received < socket->sent) {
        assert_true(os_now_ns() < deadline);
        if (!socket->armed) {
            start(h, socket);
        }
        turn(h, 10 * MILLISECOND);
        recycle_to(h, 0);
    }
}

/* ---- requests ---- */

static p2p_op *new_request(harness *h, group_socket *socket) {
    group_op *request = &socket->request;
    assert_true(request->op.io == NULL || request->is_done);
    memset(request, 0, sizeof(*request));
    request->op.io = &socket->io->io;
    request->op.state = calloc(1, h->ops->op_state_size > 0 ? h->ops->op_state_size : 1);
    assert_non_null(request->op.state);
    return &request->op;
}

void send_pattern(harness *h, group_socket *socket, uint64_t at, size_t size, uint32_t pieces, uint32_t flags) {
    p2p_op *op = new_request(h, socket);
    uint8_t *next = socket->request.data = malloc(size);
    assert_non_null(next);
    fill_pattern(socket, next, size, at);
    assert_in_range(pieces, 1, sizeof(socket->request.iov) / sizeof(socket->request.iov[0]));
    for (uint32_t i = 0; i < pieces; i++) {
        uint32_t piece = (uint32_t)(i + 1 == pieces ? size : size / 3 + 1);
        socket->request.iov[i].base = (void *)next;
        socket->request.iov[i].len = piece;
        next += piece;
        size -= piece;
    }
    op->iov = socket->request.iov;
    op->iov_count = pieces;
    op->flags = flags;
    assert_int_equal(h->ops->send(h->backend, op), 0);
}

/* As fill_send_buffer, but our handle may be in blocking mode. */
uint64_t fill_up(group_socket *socket) {
    static uint8_t bytes[65536];
    uint64_t at = 0;
    for (int full = 0; full < 2;) {
        fill_pattern(socket, bytes, sizeof(bytes), at);
        int64_t sent = os_send_now(socket->handle, bytes, sizeof(bytes));
        assert_true(sent > 0 || sent == -EAGAIN);
        full = sent > 0 ? 0 : full + 1;
        at += sent > 0 ? (uint64_t)sent : 0;
    }
    return at;
}

void connect_to(harness *h, group_socket *socket, uint16_t port) {
    p2p_op *op = new_request(h, socket);
    if (port != 0) {
        struct sockaddr_in address = os_loopback(port);
        socket->request.address.length = sizeof(address);
        memcpy(&socket->request.address.storage, &address, sizeof(address));
        op->address = &socket->request.address;
    }
    assert_int_equal(h->ops->connect(h->backend, op), 0);
}

void cancel_request(harness *h, group_socket *socket) {
    assert_false(socket->request.is_done);
    assert_int_equal(h->ops->cancel(h->backend, &socket->request.op), 0);
    assert_false(socket->request.is_done);
}

int32_t turn_until_done(harness *h, group_socket *socket) {
    int64_t deadline = os_now_ns() + DEADLINE;
    while (!socket->request.is_done) {
        assert_true(os_now_ns() < deadline);
        turn(h, 100 * MILLISECOND);
    }
    return socket->request.result;
}

uint64_t peer_reads(group_socket *socket, uint64_t at) {
    static uint8_t bytes[65536];
    int64_t got;
    while ((got = os_recv_now(socket->peer, bytes, sizeof(bytes))) > 0) {
        expect_pattern(socket, bytes, (size_t)got, at);
        at += (uint64_t)got;
    }
    return at;
}

/* On Windows the clock() of C tells what time it is. */
void expect_idle(harness *h, int64_t duration_ns) {
    clock_t before = clock();
    expect_quiet(h, duration_ns);
    double used_ns = (double)(clock() - before) / CLOCKS_PER_SEC * 1e9;
    assert_true(ON_WINDOWS || used_ns < (double)(duration_ns / 2 + 10 * MILLISECOND));
}

/* ---- all of it ---- */

group_all group_start_all(harness *h) {
    group_all all = { 0 };
    if (h->ops->recv_start != NULL) {
        use_pool(h, 4, 4096);
        start(h, group_connection(h)); /* one without anything to receive */
        all.receiving = group_connection(h);
        peer_sends(all.receiving, 3000);
        start(h, all.receiving);
    }
    if (h->ops->accept_start != NULL) {
        all.accepting = group_listener(h, &all.port);
        start(h, all.accepting);
    }
    if (h->ops->send != NULL) {
        all.sending = group_pair(h);
        all.filled = fill_up(all.sending);
        send_pattern(h, all.sending, all.filled, 5000, 3, 0);
        send_pattern(h, group_connection(h), 0, 5000, 1, P2P_OP_QUIET);
    }
    all.waited_for = group_connection(h);
    want(h, all.waited_for->io, P2P_IN);
    return all;
}
