/*
 * Backend io_uring on a kernel that is made up: receives, accepts, requests, and what becomes of them when a socket is
 * detached. The rest is in uring.c.
 */
#include "made_up_uring.h"

#include <stdlib.h>
#include <sys/socket.h>

/* ---- receiving ---- */

enum { BUFFERS = 4, BUFFER_SIZE = 64 };

static uint8_t slab[BUFFERS * BUFFER_SIZE];
static const p2p_buffer_pool pool = { .slab = slab, .count = BUFFERS, .size = BUFFER_SIZE };

static void expect_buffers(const char *expected) {
    assert_string_equal(buffers_of_kernel(&pool), expected);
}

static void start_with_pool(void) {
    start("io_uring");
    assert_int_equal(ops->pool_bind(backend, &pool), 0);
    turn();
}

/* Started, and asked. @return the receive's name. */
static uint64_t receiving(p2p_io *io) {
    assert_int_equal(ops->recv_start(backend, io), 0);
    turn();
    const struct io_uring_sqe *call = expect_call(IORING_OP_RECV, io);
    assert_int_equal(call->ioprio, IORING_RECV_MULTISHOT);
    assert_int_equal(call->flags, IOSQE_BUFFER_SELECT);
    assert_int_equal(call->buf_group, 0);
    assert_int_equal(call->len, 0);
    assert_int_equal(call->msg_flags, 0);
    return call->user_data;
}

static void expect_piece(const p2p_io *io, uint32_t flags, int32_t size, uint32_t index, uint32_t offset) {
    const p2p_backend_event *event = expect_event(P2P_EVENT_RECV, io->token, flags, size);
    assert_int_equal(event->u.buffer.index, index);
    assert_int_equal(event->u.buffer.offset, offset);
}

static void all_buffers_are_the_kernels_at_first(void **state) {
    (void)state;
    start_with_pool();
    expect_buffers("0:64 1:64 2:64 3:64");
    assert_int_equal(kernel.registrations, 1);
}

static void buffers_that_were_tried_are_kept(void **state) {
    (void)state;
    kernel.receive_buffers = BUFFERS;
    start_with_pool();
    assert_int_equal(kernel.trials, 1);
    expect_buffers("0:64 1:64 2:64 3:64");
}

static void another_number_of_buffers_takes_their_place(void **state) {
    (void)state;
    kernel.receive_buffers = BUFFERS / 2;
    start_with_pool();
    assert_int_equal(kernel.trials, 2);
    assert_int_equal(kernel.registrations, 1);
    expect_buffers("0:64 1:64 2:64 3:64");
}

static void a_pool_that_can_not_be_bound_is_an_error(void **state) {
    (void)state;
    start("io_uring");
    fail_allocation(1);
    assert_int_equal(ops->pool_bind(backend, &pool), -ENOMEM);
    kernel.no_pieces = true;
    assert_int_equal(ops->pool_bind(backend, &pool), -EINVAL);
}

static void a_pool_that_finds_its_place_taken_is_an_error(void **state) {
    (void)state;
    start("io_uring");
    kernel.no_unregister = true;
    assert_int_equal(ops->pool_bind(backend, &pool), -EEXIST);
}

static void a_pool_that_can_not_be_mapped_is_an_error(void **state) {
    (void)state;
    start("io_uring");
    kernel.failing_map = 1;
    assert_int_equal(ops->pool_bind(backend, &pool), -ENOMEM);
    assert_int_equal(kernel.maps, 2);
}

static void a_buffer_is_lent_in_pieces_and_goes_back_whole(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *one = attach(0, 0), *two = attach(1, 0);
    uint64_t first = receiving(one), second = receiving(two);
    receives(first, 10, IORING_CQE_F_MORE);
    receives(second, 20, IORING_CQE_F_MORE);
    turn();
    expect_piece(one, P2P_MORE, 10, 0, 0);
    expect_piece(two, P2P_MORE, 20, 0, 10);
    ops->buf_recycle(backend, 0);
    ops->buf_recycle(backend, 0);
    expect_buffers("0:34 1:64 2:64 3:64"); /* not full: the kernel has it still */
    receives(first, 30, IORING_CQE_F_MORE);
    receives(second, 4, IORING_CQE_F_MORE);
    receives(second, 64, IORING_CQE_F_MORE);
    receives(first, 1, IORING_CQE_F_MORE);
    turn();
    expect_piece(one, P2P_MORE, 30, 0, 30);
    expect_piece(two, P2P_MORE, 4, 0, 60);
    expect_piece(two, P2P_MORE, 64, 1, 0);
    expect_piece(one, P2P_MORE, 1, 2, 0);
    ops->buf_recycle(backend, 0);
    expect_buffers("2:63 3:64"); /* a piece of it is lent */
    ops->buf_recycle(backend, 1);
    expect_buffers("2:63 3:64 1:64");
    ops->buf_recycle(backend, 0);
    expect_buffers("2:63 3:64 1:64 0:64");
    ops->buf_recycle(backend, 2);
    expect_buffers("2:63 3:64 1:64 0:64");
    receives(first, 63, IORING_CQE_F_MORE);
    turn();
    expect_piece(one, P2P_MORE, 63, 2, 1);
    ops->buf_recycle(backend, 2);
    expect_buffers("3:64 1:64 0:64 2:64");
}

static void buffers_go_round_for_ever(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving(io);
    for (uint32_t i = 0; i < 70000; i++) { /* the ring counts by 16 bits */
        receives(name, BUFFER_SIZE, IORING_CQE_F_MORE);
        turn();
        expect_piece(io, P2P_MORE, BUFFER_SIZE, i % BUFFERS, 0);
        ops->buf_recycle(backend, i % BUFFERS);
    }
}

/* The core is not told: nothing would come of its trying again before a buffer is given back. */
static void without_buffers_a_receive_waits_for_one(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving(io);
    for (int i = 0; i < BUFFERS; i++) receives(name, BUFFER_SIZE, IORING_CQE_F_MORE);
    receives(name, 1, IORING_CQE_F_MORE);
    turn();
    for (uint32_t i = 0; i < BUFFERS; i++) expect_piece(io, P2P_MORE, BUFFER_SIZE, i, 0);
    turn(); /* none has been given back */
    ops->buf_recycle(backend, 2);
    turn();
    assert_true(expect_call(IORING_OP_RECV, io)->user_data == name);
    receives(name, 1, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 1, 2, 0);
    ops->buf_recycle(backend, 2);
}

static void a_stopped_receive_does_not_wait_for_a_buffer(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving(io);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    completes(name, -ENOBUFS, 0);
    turn();
    turn();
    assert_int_equal(ops->recv_start(backend, io), 0);
    turn();
    expect_call(IORING_OP_RECV, io);
    completes(name, -ENOBUFS, 0); /* it waits, is stopped, and then is forgotten */
    turn();
    assert_int_equal(ops->recv_stop(backend, io), 0);
    assert_int_equal(ops->detach(backend, io), 0);
    turn();
}

/* As many at a time as there are buffers, those first that came first. */
static void who_waits_for_buffers_is_served_in_turn(void **state) {
    (void)state;
    enum { COUNT = 2 * BUFFERS };
    p2p_io *ios[COUNT];
    uint64_t names[COUNT];
    start_with_pool();
    for (int i = 0; i < COUNT; i++) {
        ios[i] = attach((unsigned)i, 0);
        names[i] = receiving(ios[i]);
    }
    for (int i = 0; i < COUNT; i++) completes(names[i], -ENOBUFS, 0);
    turn();
    for (int i = 0; i < COUNT; i++) {
        if (i % BUFFERS == 0) turn();
        expect_call(IORING_OP_RECV, ios[i]);
    }
    turn();
}

static void an_end_is_told_once(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    completes(receiving(io), 0, 0);
    turn();
    expect_event(P2P_EVENT_RECV, io->token, 0, 0);
    turn();
    completes(receiving(io), -ECONNRESET, 0);
    turn();
    expect_event(P2P_EVENT_RECV, io->token, 0, -ECONNRESET);
    turn();
    receives(receiving(io), 5, 0); /* with bytes, and without more to come */
    turn();
    expect_piece(io, 0, 5, 0, 0);
    turn();
    receiving(io);
}

/* Started, stopped, and something comes all the same. @return the receive's name. */
static uint64_t receiving_in_vain(p2p_io *io) {
    uint64_t name = receiving(io);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    receives(name, 1, IORING_CQE_F_MORE);
    turn();
    expect_event(P2P_EVENT_RECV, io->token, P2P_MORE, 1);
    return name;
}

static void a_stop_and_start_of_receiving_makes_no_call(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving(io);
    unsigned calls = kernel.enters;
    assert_int_equal(ops->recv_stop(backend, io), 0);
    assert_int_equal(ops->submit(backend), 0);
    assert_int_equal(ops->recv_start(backend, io), 0);
    assert_int_equal(ops->submit(backend), 0);
    assert_int_equal(kernel.enters, calls);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    turn();
    receives(name, 7, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 7, 0, 0);
    assert_int_equal(ops->recv_start(backend, io), 0); /* before the cancel is handed over */
    turn();
    receives(name, 8, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 8, 0, 7);
    turn();
}

static void a_stopped_receive_is_cancelled_when_something_came(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    assert_int_equal(ops->recv_start(backend, io), 0);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    turn(); /* it was not asked yet */
    uint64_t name = receiving(io);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    turn(); /* it may start again soon */
    receives(name, 7, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 7, 0, 0); /* nothing is lost */
    turn();
    expect_cancel(name);
    turn(); /* once */
    completes(name, -ECANCELED, 0);
    assert_int_equal(turn(), 0);
    turn();
    receiving(io);
}

static void a_stopped_receive_that_ends_is_not_cancelled(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving(io);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    completes(name, 0, 0);
    turn();
    expect_event(P2P_EVENT_RECV, io->token, 0, 0);
    turn();
}

static void a_receive_may_start_again_while_it_is_being_cancelled(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving_in_vain(io);
    turn();
    expect_cancel(name);
    assert_int_equal(ops->recv_start(backend, io), 0);
    turn();
    completes(name, -ECANCELED, 0);
    assert_int_equal(turn(), 0);
    turn();
    assert_true(expect_call(IORING_OP_RECV, io)->user_data == name);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    receives(name, 1, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 1, 0, 1);
    turn();
    uint64_t cancel = expect_cancel(name);
    assert_int_equal(ops->recv_start(backend, io), 0);
    completes(cancel, -ENOENT, 0); /* it had ended by itself: who started it again learns of that */
    completes(name, 0, 0);
    turn();
    expect_event(P2P_EVENT_RECV, io->token, 0, 0);
    turn();
}

static void a_receive_at_work_is_cancelled_again(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving_in_vain(io);
    turn();
    completes(expect_cancel(name), -EALREADY, 0);
    turn();
    turn();
    completes(expect_cancel(name), -EALREADY, 0);
    assert_int_equal(ops->recv_start(backend, io), 0);
    turn();
    turn(); /* it is wanted again, and goes on */
    receives(name, 1, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 1, 0, 1);
}

/* ---- accepting ---- */

static uint64_t accepting(p2p_io *io) {
    assert_int_equal(ops->accept_start(backend, io), 0);
    turn();
    const struct io_uring_sqe *call = expect_call(IORING_OP_ACCEPT, io);
    assert_int_equal(call->ioprio, IORING_ACCEPT_MULTISHOT);
    assert_int_equal(call->accept_flags, SOCK_CLOEXEC);
    assert_int_equal(call->flags, 0);
    assert_true(call->addr == 0 && call->addr2 == 0);
    return call->user_data;
}

static void expect_accepted(const p2p_io *io, p2p_handle_t handle) {
    assert_int_equal(expect_event(P2P_EVENT_ACCEPT, io->token, P2P_MORE, 0)->u.handle, handle);
}

static void connections_are_accepted_until_it_is_stopped(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t name = accepting(io);
    completes(name, 77, IORING_CQE_F_MORE);
    completes(name, 0, IORING_CQE_F_MORE); /* a number of a handle like any other */
    turn();
    expect_accepted(io, 77);
    expect_accepted(io, 0);
    assert_int_equal(ops->accept_stop(backend, io), 0);
    completes_later(name, 78, IORING_CQE_F_MORE);
    turn();
    expect_cancel(name);
    expect_accepted(io, 78);
    completes(name, -ECANCELED, 0);
    assert_int_equal(turn(), 0);
    turn();
    completes(accepting(io), -EMFILE, 0);
    turn();
    expect_event(P2P_EVENT_ACCEPT, io->token, 0, -EMFILE);
    turn();
    assert_int_equal(kernel.closed_count, 0);
}

static void destroy_closes_who_nobody_was_told_of(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *listener = attach(0, 0), *peer = attach(1, 0);
    uint64_t name = accepting(listener), receive = receiving(peer);
    receives(receive, 9, IORING_CQE_F_MORE);
    completes(name, 77, IORING_CQE_F_MORE);
    completes(name, 78, IORING_CQE_F_MORE);
    completes(name, -EMFILE, 0);
    completes(name, 79, 0);
    receives(receive, 9, IORING_CQE_F_MORE);
    assert_int_equal(turn_with(2, 0), 2);
    expect_piece(peer, P2P_MORE, 9, 0, 0);
    expect_accepted(listener, 77);
    completes_later(name, 80, 0); /* of which nothing is to be heard any more */
    ops->destroy(backend);
    backend = NULL;
    assert_int_equal(kernel.closed_count, 2);
    assert_int_equal(kernel.closed[0], 78);
    assert_int_equal(kernel.closed[1], 79);
}

static void destroy_closes_those_that_found_no_room_too(void **state) {
    (void)state;
    kernel.completion_room = 8;
    start("io_uring");
    uint64_t name = accepting(attach(0, 0));
    for (int handle = 70; handle < 82; handle++) completes(name, handle, IORING_CQE_F_MORE);
    ops->destroy(backend);
    backend = NULL;
    assert_int_equal(kernel.closed_count, 12);
    for (unsigned i = 0; i < 12; i++) assert_int_equal(kernel.closed[i], 70 + i);
}

static void a_forked_child_leaves_the_rings_alone(void **state) {
    (void)state;
    start_with_pool();
    uint64_t name = accepting(attach(0, 0));
    completes(name, 77, IORING_CQE_F_MORE);
    forks();
    ops->destroy(backend);
    backend = NULL;
    assert_int_equal(kernel.closed_count, 0);
}

/* ---- requests ---- */

/* The op in memory of its own, so that a sanitizer sees who looks at one that is done. */
typedef struct request {
    p2p_op op; /* first */
    p2p_iov pieces[3];
} request;

static p2p_op *request_of(p2p_io *io, uint32_t pieces, uint32_t flags) {
    static char text[] = "hello";
    request *made = calloc(1, sizeof *made);
    assert_non_null(made);
    made->op.io = io;
    made->op.flags = flags;
    made->op.state = calloc(1, ops->op_state_size);
    assert_non_null(made->op.state);
    made->op.iov = pieces > 0 ? made->pieces : NULL;
    made->op.iov_count = pieces;
    for (uint32_t i = 0; i < pieces; i++) made->pieces[i] = (p2p_iov){ .base = text, .len = 5 };
    return &made->op;
}

static p2p_op *send_of(p2p_io *io, uint32_t pieces, uint32_t flags) {
    p2p_op *op = request_of(io, pieces, flags);
    assert_int_equal(ops->send(backend, op), 0);
    return op;
}

static void expect_done(p2p_op *op, int32_t result) {
    assert_ptr_equal(expect_event(P2P_EVENT_OP_DONE, op->io->token, 0, result)->u.op, op);
    free(op->state);
    free(op);
}

/* A send of one piece is handed over. @return its name. */
static uint64_t expect_send(const p2p_io *io, bool quiet) {
    const struct io_uring_sqe *call = expect_call(IORING_OP_SEND, io);
    assert_int_equal(call->msg_flags, MSG_NOSIGNAL | MSG_DONTWAIT | (quiet ? MSG_WAITALL : 0));
    assert_int_equal(call->flags, quiet ? IOSQE_CQE_SKIP_SUCCESS : 0);
    assert_int_equal(call->len, 5);
    assert_memory_equal((const char *)(uintptr_t)call->addr, "hello", 5);
    return call->user_data;
}

static void a_send_is_told_by_its_completion(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    p2p_op *op = send_of(io, 1, 0);
    assert_int_equal(kernel.enters, 0);
    turn();
    uint64_t name = expect_send(io, false);
    turn();
    completes(name, 3, 0);
    turn();
    expect_done(op, 3);
    turn();
    answers(IORING_OP_SEND, -EPIPE);
    op = send_of(io, 1, 0);
    turn();
    expect_send(io, false);
    expect_done(op, -EPIPE);
    turn();
    assert_int_equal(ops->detach(backend, io), 0);
    gone(io);
}

static void several_pieces_are_one_message(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    for (uint32_t flags = 0; flags <= P2P_OP_QUIET; flags += P2P_OP_QUIET) {
        p2p_op *op = send_of(io, 3, flags);
        if (flags == 0) answers(IORING_OP_SENDMSG, 15);
        turn();
        const struct io_uring_sqe *call = expect_call(IORING_OP_SENDMSG, io);
        const struct msghdr *message = (const struct msghdr *)(uintptr_t)call->addr;
        assert_int_equal(call->msg_flags, MSG_NOSIGNAL | MSG_DONTWAIT | (flags != 0 ? MSG_WAITALL : 0));
        assert_int_equal(call->len, 1);
        assert_ptr_equal(message, op->state);
        assert_ptr_equal(message->msg_iov, op->iov);
        assert_int_equal(message->msg_iovlen, 3);
        assert_null(message->msg_name);
        expect_done(op, 15);
    }
}

static void a_call_takes_as_much_as_its_number_can_say(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    p2p_op *op = request_of(io, 1, 0);
    ((request *)op)->pieces[0].len = (size_t)INT32_MAX + 2;
    assert_int_equal(ops->send(backend, op), 0);
    answers(IORING_OP_SEND, 1);
    turn();
    assert_int_equal(expect_call(IORING_OP_SEND, io)->len, INT32_MAX);
    expect_done(op, 1);
}

static void a_send_without_room_waits_for_it(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    for (uint32_t flags = 0; flags <= P2P_OP_QUIET; flags += P2P_OP_QUIET) {
        p2p_op *op = send_of(io, 1, flags);
        answers(IORING_OP_SEND, -EAGAIN);
        assert_int_equal(turn(), 0);
        expect_send(io, flags != 0);
        turn();
        uint64_t poll = expect_poll(io, POLLOUT, 0);
        completes(poll, POLLRDHUP, 0);
        turn();
        turn(); /* that is no room */
        assert_true(expect_poll(io, POLLOUT, IORING_POLL_ADD_MULTI) == poll);
        completes(poll, POLLOUT, 0);
        assert_int_equal(turn(), 0); /* the core did not ask for readiness */
        answers(IORING_OP_SEND, 5);
        turn();
        expect_send(io, false); /* more may have been queued behind it since */
        expect_done(op, 5);
        turn();
    }
}

static void a_poll_that_is_there_waits_for_room_too(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    want(io, P2P_IN);
    turn();
    uint64_t poll = expect_poll(io, POLLIN, 0);
    p2p_op *op = send_of(io, 1, 0);
    answers(IORING_OP_SEND, -EAGAIN);
    turn();
    expect_send(io, false);
    turn();
    poll = expect_replaced(io, poll, POLLIN | POLLOUT, 0);
    completes(poll, POLLOUT, 0);
    assert_int_equal(turn(), 0);
    answers(IORING_OP_SEND, 5);
    turn();
    expect_poll(io, POLLIN, 0);
    expect_send(io, false);
    expect_done(op, 5);
}

/* ---- quiet sends ---- */

enum { QUIET_MAX = 512, QUIET_WAITING_MAX = 32, MANY = 80 };

static void nothing_comes(void) {
}

static void a_quiet_send_is_done_when_no_completion_came(void **state) {
    (void)state;
    start("io_uring");
    turn();
    p2p_io *io = attach(0, 0);
    for (int i = 0; i < 2; i++) {
        p2p_op *op = send_of(io, 1, P2P_OP_QUIET);
        unsigned enters = kernel.enters;
        kernel.on_block = nothing_comes;
        assert_int_equal(turn_with(64, -1), 1);
        assert_int_equal(kernel.enters, enters + 1);
        expect_send(io, true);
        expect_done(op, 5);
        turn();
    }
}

/* Whoever waits for the ring's handle learns of what it holds only. */
static void a_send_handed_over_by_submit_is_not_quiet(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0), *other = attach(1, 0);
    p2p_op *op = send_of(io, 1, P2P_OP_QUIET);
    assert_int_equal(ops->submit(backend), 0);
    uint64_t name = expect_send(io, false);
    p2p_op *later = send_of(other, 1, P2P_OP_QUIET);
    assert_int_equal(turn(), 1); /* in a wait it is */
    expect_send(other, true);
    expect_done(later, 5);
    assert_int_equal(turn(), 0);
    completes(name, 5, 0);
    assert_int_equal(turn(), 1);
    expect_done(op, 5);
    turn();
}

static void a_quiet_send_with_a_completion_is_told_once(void **state) {
    (void)state;
    static const int32_t results[] = { 3, -EPIPE };
    start("io_uring");
    p2p_io *io = attach(0, 0), *other = attach(1, 0);
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        answers(IORING_OP_SEND, results[i]);
        p2p_op *failing = send_of(io, 1, P2P_OP_QUIET), *succeeding = send_of(other, 1, P2P_OP_QUIET);
        turn();
        expect_send(io, true);
        expect_send(other, true);
        expect_done(succeeding, 5);
        expect_done(failing, results[i]);
        turn();
    }
}

/* A turn of so many quiet sends; the wait may take as long as it likes. @return what it asks to be completed. */
static uint32_t wait_with_quiet(unsigned count) {
    p2p_op *sends[MANY];
    for (unsigned i = 0; i < count; i++) sends[i] = send_of(io_at(i), 1, P2P_OP_QUIET);
    assert_int_equal(turn_with(MANY, -1), count);
    for (unsigned i = 0; i < count; i++) expect_send(io_at(i), true);
    for (unsigned i = count; i > 0; i--) expect_done(sends[i - 1], 5);
    uint32_t asked = kernel.min_complete;
    turn();
    return asked;
}

/* Their memory would be kept as long as it waits. */
static void many_quiet_sends_do_not_block_the_wait(void **state) {
    (void)state;
    start("io_uring");
    turn();
    for (unsigned i = 0; i < MANY; i++) attach(i, 0);
    kernel.on_block = nothing_comes;
    assert_int_equal(wait_with_quiet(1), 1);
    assert_int_equal(wait_with_quiet(QUIET_WAITING_MAX), 1);
    kernel.on_block = NULL;
    assert_int_equal(wait_with_quiet(QUIET_WAITING_MAX + 1), 0);
    assert_int_equal(wait_with_quiet(MANY), 0);
    assert_int_equal(turn_with(64, 1), 0); /* the next one blocks again */
    assert_int_equal(kernel.min_complete, 1);
}

static void some_sends_are_quiet_at_a_time(void **state) {
    (void)state;
    static p2p_op *sends[QUIET_MAX + 1];
    start("io_uring");
    turn();
    for (unsigned i = 0; i <= QUIET_MAX; i++) sends[i] = send_of(attach(i, 0), 1, P2P_OP_QUIET);
    assert_int_equal(turn_with(QUIET_MAX, -1), QUIET_MAX);
    uint64_t name = 0;
    for (unsigned i = 0; i <= QUIET_MAX; i++) name = expect_send(io_at(i), i < QUIET_MAX);
    for (unsigned i = QUIET_MAX; i > 0; i--) expect_done(sends[i - 1], 5);
    completes(name, 5, 0);
    sends[0] = send_of(io_at(0), 1, P2P_OP_QUIET);
    turn();
    expect_send(io_at(0), true);
    expect_done(sends[0], 5);
    expect_done(sends[QUIET_MAX], 5);
}

static void no_quiet_send_is_done_while_calls_are_not_taken(void **state) {
    (void)state;
    start("io_uring");
    turn();
    p2p_op *one = send_of(attach(0, 0), 1, P2P_OP_QUIET), *two = send_of(attach(1, 0), 1, P2P_OP_QUIET);
    kernel.takes = 1;
    assert_int_equal(turn(), 0);
    expect_send(io_at(0), true);
    kernel.takes = 0;
    assert_int_equal(turn(), 0);
    kernel.takes = 1;
    answers(IORING_OP_SEND, -EPIPE);
    turn();
    expect_send(io_at(1), true);
    expect_done(one, 5);
    expect_done(two, -EPIPE);
    turn();
}

static void no_quiet_send_is_done_while_completions_are_kept(void **state) {
    (void)state;
    kernel.completion_room = 8;
    start("io_uring");
    turn();
    p2p_op *one = send_of(attach(0, 0), 1, P2P_OP_QUIET), *two = send_of(attach(1, 0), 1, P2P_OP_QUIET);
    for (int i = 0; i < 8; i++) completes(0, 0, 0);
    answers(IORING_OP_SEND, -EPIPE); /* its completion finds no room */
    turn();
    expect_send(io_at(0), true);
    expect_send(io_at(1), true);
    expect_done(one, -EPIPE);
    assert_int_equal(turn_with(64, -1), 1);
    expect_done(two, 5);
    turn();
}

/* Its completion is read while nothing can be said of the others. */
static void a_quiet_send_that_failed_is_not_done_again_later(void **state) {
    (void)state;
    start("io_uring");
    turn();
    p2p_op *one = send_of(attach(0, 0), 1, P2P_OP_QUIET), *two = send_of(attach(1, 0), 1, P2P_OP_QUIET);
    answers(IORING_OP_SEND, -EPIPE);
    kernel.takes = 1;
    turn();
    expect_send(io_at(0), true);
    expect_done(one, -EPIPE);
    kernel.takes = UINT32_MAX;
    turn();
    expect_send(io_at(1), true);
    expect_done(two, 5);
    turn();
}

static void quiet_sends_are_told_of_one_by_one(void **state) {
    (void)state;
    start("io_uring");
    turn();
    p2p_op *sends[3];
    for (unsigned i = 0; i < 3; i++) sends[i] = send_of(attach(i, 0), 1, P2P_OP_QUIET);
    answers(IORING_OP_SEND, 2); /* the first is short */
    assert_int_equal(turn_with(1, -1), 1);
    for (unsigned i = 0; i < 3; i++) expect_send(io_at(i), true);
    expect_done(sends[1], 5);
    assert_int_equal(turn_with(1, -1), 1);
    expect_done(sends[2], 5);
    assert_int_equal(turn_with(1, -1), 1);
    expect_done(sends[0], 2);
    turn();
}

/* ---- cancelling ---- */

static void a_request_that_was_not_handed_over_makes_no_call(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    p2p_op *op = send_of(io, 1, 0);
    assert_int_equal(ops->cancel(backend, op), 0);
    assert_int_equal(ops->cancel(backend, op), 0);
    assert_int_equal(turn_with(64, -1), 1);
    expect_done(op, -ECANCELED);
    op = send_of(io, 1, 0);
    answers(IORING_OP_SEND, 5);
    turn();
    expect_send(io, false);
    expect_done(op, 5);
}

static void a_wait_before_the_thread_is_known_makes_no_call(void **state) {
    (void)state;
    assert_int_equal(create_named("io_uring"), 0);
    p2p_io *io = attach(0, 0), *other = attach(1, 0);
    want(io, P2P_IN);
    p2p_op *op = send_of(other, 1, P2P_OP_QUIET);
    assert_int_equal(turn_with(64, -1), 0);
    p2p_op *cancelled = send_of(io, 1, 0);
    assert_int_equal(ops->cancel(backend, cancelled), 0);
    assert_int_equal(turn_with(64, -1), 1); /* what is over without the kernel is told */
    expect_done(cancelled, -ECANCELED);
    assert_int_equal(kernel.enters, 0);
    assert_int_equal(ops->bind_thread(backend), 0);
    turn();
    expect_poll(io, POLLIN, 0);
    expect_send(other, true);
    expect_done(op, 5);
}

/* So that they are not kept back for ever when completions abound. */
static void what_no_completion_brings_is_told_first(void **state) {
    (void)state;
    start("io_uring");
    p2p_op *quiet = send_of(attach(0, 0), 1, P2P_OP_QUIET), *loud = send_of(attach(1, 0), 1, 0);
    answers(IORING_OP_SEND, 5); /* the quiet one */
    answers(IORING_OP_SEND, 5);
    p2p_op *cancelled[2];
    for (unsigned i = 0; i < 2; i++) {
        cancelled[i] = send_of(attach(2 + i, 0), 1, 0);
        assert_int_equal(ops->cancel(backend, cancelled[i]), 0);
    }
    assert_int_equal(turn_with(1, -1), 1);
    expect_send(io_at(0), true);
    expect_send(io_at(1), false);
    expect_done(cancelled[0], -ECANCELED);
    want(io_at(2), P2P_IN);
    assert_int_equal(turn_with(1, -1), 1);
    expect_poll(io_at(2), POLLIN, 0);
    expect_done(cancelled[1], -ECANCELED);
    want(io_at(1), P2P_IN);
    assert_int_equal(turn_with(1, -1), 1);
    expect_poll(io_at(1), POLLIN, 0);
    assert_int_equal(kernel.min_complete, 0);
    expect_done(quiet, 5);
    assert_int_equal(turn_with(1, -1), 1);
    expect_done(loud, 5);
}

/* Four polls are in the four places, and the kernel refuses to take them two times more. */
static void fill_places(unsigned first_socket) {
    for (unsigned i = 0; i < 4; i++) want(attach(first_socket + i, 0), P2P_IN);
    kernel.enter_error = EBUSY;
    kernel.enter_errors = 3;
    assert_int_equal(ops->submit(backend), 0);
}

static void expect_places(unsigned first_socket) {
    for (unsigned i = 0; i < 4; i++) expect_poll(io_at(first_socket + i), POLLIN, 0);
}

static void a_cancel_that_finds_no_room_is_handed_over_later(void **state) {
    (void)state;
    kernel.call_room = 4;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t receive = receiving(io);
    p2p_op *op = send_of(io, 1, 0);
    turn();
    uint64_t name = expect_send(io, false);
    fill_places(1);
    assert_int_equal(ops->cancel(backend, op), 0);
    assert_int_equal(ops->submit(backend), 0);
    turn();
    expect_places(1);
    expect_cancel(name);
    fill_places(5);
    assert_int_equal(ops->recv_stop(backend, io), 0);
    receives(receive, 1, IORING_CQE_F_MORE);
    turn();
    expect_piece(io, P2P_MORE, 1, 0, 0);
    kernel.enter_errors = 2;
    assert_int_equal(ops->submit(backend), 0);
    turn();
    expect_places(5);
    expect_cancel(receive);
    completes(name, -ECANCELED, 0);
    turn();
    expect_done(op, -ECANCELED);
}

static void a_send_that_waits_for_room_can_be_cancelled(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    p2p_op *op = send_of(io, 1, 0);
    answers(IORING_OP_SEND, -EAGAIN);
    turn();
    expect_send(io, false);
    turn();
    uint64_t poll = expect_poll(io, POLLOUT, 0);
    assert_int_equal(ops->cancel(backend, op), 0);
    assert_int_equal(turn_with(64, -1), 1);
    expect_done(op, -ECANCELED);
    completes(poll, POLLOUT, 0);
    assert_int_equal(turn(), 0);
    turn();
}

static void a_request_with_the_kernel_is_cancelled_there(void **state) {
    (void)state;
    static const int32_t results[] = { -ECANCELED, 5, -EAGAIN };
    start("io_uring");
    p2p_io *io = attach(0, 0);
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        p2p_op *op = send_of(io, 1, 0);
        turn();
        uint64_t name = expect_send(io, false);
        assert_int_equal(ops->cancel(backend, op), 0);
        assert_int_equal(ops->cancel(backend, op), 0);
        turn();
        completes(expect_cancel(name), -EALREADY, 0);
        assert_int_equal(ops->cancel(backend, op), 0);
        turn();
        turn();
        expect_cancel(name);
        completes(name, results[i], 0);
        turn();
        expect_done(op, results[i]);
        turn();
    }
}

/* ---- connecting ---- */

static void connect_hands_its_address_over(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    p2p_address_t address = { .length = 16 };
    p2p_op *op = request_of(io, 0, 0);
    op->address = &address;
    assert_int_equal(ops->connect(backend, op), 0);
    turn();
    const struct io_uring_sqe *call = expect_call(IORING_OP_CONNECT, io);
    assert_true(call->addr == (uint64_t)(uintptr_t)&address.storage);
    assert_int_equal(call->off, 16);
    assert_int_equal(call->len, 0);
    kernel.connect_result = -EIO; /* not asked for */
    completes(call->user_data, 0, 0);
    turn();
    expect_done(op, 0);
    op = request_of(io, 0, 0);
    op->address = &address;
    assert_int_equal(ops->connect(backend, op), 0);
    answers(IORING_OP_CONNECT, -EAGAIN); /* a full backlog; there is nothing to wait for */
    turn();
    expect_call(IORING_OP_CONNECT, io);
    expect_done(op, -EAGAIN);
    turn();
}

static void connect_waits_for_an_attempt_under_way(void **state) {
    (void)state;
    static const int results[] = { 0, -ECONNREFUSED };
    start("io_uring");
    p2p_io *io = attach(0, 0);
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        p2p_op *op = request_of(io, 0, 0);
        assert_int_equal(ops->connect(backend, op), 0);
        turn();
        kernel.connect_result = results[i];
        completes(expect_poll(io, POLLOUT, 0), POLLOUT | POLLERR, 0);
        turn();
        expect_done(op, results[i]);
    }
    p2p_op *op = request_of(io, 0, 0);
    assert_int_equal(ops->connect(backend, op), 0);
    answers(IORING_OP_POLL_ADD, -EBADF);
    kernel.connect_result = 0;
    turn();
    expect_poll(io, POLLOUT, 0);
    expect_done(op, -EBADF);
}

/* ---- detach ---- */

static void detach_later(p2p_io *io) {
    assert_int_equal(ops->detach(backend, io), P2P_DEFERRED);
}

static void expect_detached(p2p_io *io) {
    expect_event(P2P_EVENT_DETACHED, io->token, 0, 0);
    gone(io);
}

static void what_was_not_asked_does_not_defer_a_detach(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    want(io, P2P_IN);
    assert_int_equal(ops->recv_start(backend, io), 0);
    assert_int_equal(ops->detach(backend, io), 0);
    gone(io);
    turn();
}

static void a_detached_receive_is_heard_out(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t name = receiving(io);
    receives(name, 1, IORING_CQE_F_MORE);
    detach_later(io);
    receives(name, 2, IORING_CQE_F_MORE);
    assert_int_equal(turn_with(1, -1), 1);
    expect_cancel(name);
    expect_piece(io, P2P_MORE, 1, 0, 0);
    assert_int_equal(turn_with(1, -1), 1);
    expect_piece(io, P2P_MORE, 2, 0, 1);
    turn();
    completes(name, -ECANCELED, 0);
    assert_int_equal(turn_with(1, -1), 1);
    expect_detached(io);
    p2p_io *next = attach(0, 0);
    completes(name, -ECANCELED, 0); /* names nobody */
    turn();
    receiving(next);
}

static void a_detached_listener_is_heard_out(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t name = accepting(io);
    detach_later(io);
    completes_later(name, 77, IORING_CQE_F_MORE);
    completes_later(name, -EMFILE, 0);
    turn();
    expect_cancel(name);
    expect_accepted(io, 77);
    expect_event(P2P_EVENT_ACCEPT, io->token, 0, -EMFILE);
    expect_detached(io);
    turn();
}

static void a_detached_request_is_done_first(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    p2p_op *op = send_of(io, 1, 0);
    turn();
    uint64_t name = expect_send(io, false);
    detach_later(io);
    turn();
    uint64_t cancel = expect_cancel(name);
    completes(cancel, -ENOENT, 0);
    completes(name, 4, 0);
    assert_int_equal(turn_with(1, -1), 1);
    expect_done(op, 4);
    assert_int_equal(turn_with(1, -1), 1);
    expect_detached(io);
    completes(cancel, -ENOENT, 0);
    turn();
}

static void a_detached_request_that_was_not_handed_over_is_cancelled(void **state) {
    (void)state;
    start("io_uring");
    turn();
    for (int capacity = 1; capacity <= 2; capacity++) {
        p2p_io *io = attach(0, 0);
        p2p_op *op = send_of(io, 1, 0);
        if (capacity == 2) assert_int_equal(ops->cancel(backend, op), 0); /* before already */
        detach_later(io);
        assert_int_equal(turn_with(capacity, -1), capacity);
        expect_done(op, -ECANCELED);
        if (capacity == 1) assert_int_equal(turn_with(1, -1), 1);
        expect_detached(io);
        turn();
    }
}

static void a_detached_quiet_send_is_done_first(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0), *other = attach(1, 0);
    p2p_op *op = send_of(io, 1, P2P_OP_QUIET), *told = send_of(other, 1, P2P_OP_QUIET);
    assert_int_equal(turn_with(1, 0), 1); /* there is no room to tell of both */
    uint64_t name = expect_send(io, true);
    expect_send(other, true);
    expect_done(told, 5);
    detach_later(io);
    answers(IORING_OP_ASYNC_CANCEL, -ENOENT);
    turn();
    expect_cancel(name);
    expect_done(op, 5);
    expect_detached(io);
    turn();
}

static void all_calls_of_a_detached_socket_come_back(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0);
    uint64_t receive = receiving(io);
    p2p_op *op = send_of(io, 1, 0);
    want(io, P2P_IN);
    turn();
    uint64_t poll = expect_poll(io, POLLIN, 0), name = expect_send(io, false);
    detach_later(io);
    expect_cancel(poll);
    completes(poll, POLLIN, 0);
    turn(); /* nothing of the poll is told */
    expect_cancel(receive);
    expect_cancel(name);
    completes(receive, -ECANCELED, 0);
    assert_int_equal(turn(), 0);
    completes(name, -ECANCELED, 0);
    completes(poll, -ECANCELED, 0);
    turn();
    expect_done(op, -ECANCELED);
    expect_detached(io);
    completes(poll, -ECANCELED, 0);
    turn();
}

/* In the place of each is a call that does nothing: the handle may be another one's when the kernel takes it. */
static void detach_takes_calls_back_that_were_not_taken(void **state) {
    (void)state;
    start_with_pool();
    p2p_io *io = attach(0, 0), *listener = attach(1, 0), *other = attach(2, 0);
    assert_int_equal(ops->recv_start(backend, io), 0);
    assert_int_equal(ops->accept_start(backend, listener), 0);
    p2p_op *op = send_of(io, 1, P2P_OP_QUIET), *others = send_of(other, 1, P2P_OP_QUIET);
    kernel.enter_error = EAGAIN;
    kernel.enter_errors = 10;
    turn();
    detach_later(io);
    assert_int_equal(ops->detach(backend, listener), 0);
    gone(listener);
    assert_int_equal(turn(), 2); /* without a word from the kernel */
    expect_done(op, -ECANCELED);
    expect_detached(io);
    kernel.enter_errors = 0;
    turn();
    for (unsigned i = 0; i < 3; i++) completes(expect_call(IORING_OP_NOP, NULL)->user_data, 0, 0);
    expect_send(other, true);
    expect_done(others, 5);
    turn();
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        URING_CASE(all_buffers_are_the_kernels_at_first),
        URING_CASE(buffers_that_were_tried_are_kept),
        URING_CASE(another_number_of_buffers_takes_their_place),
        URING_CASE(a_pool_that_can_not_be_bound_is_an_error),
        URING_CASE(a_pool_that_finds_its_place_taken_is_an_error),
        URING_CASE(a_pool_that_can_not_be_mapped_is_an_error),
        URING_CASE(a_buffer_is_lent_in_pieces_and_goes_back_whole),
        URING_CASE(buffers_go_round_for_ever),
        URING_CASE(without_buffers_a_receive_waits_for_one),
        URING_CASE(a_stopped_receive_does_not_wait_for_a_buffer),
        URING_CASE(who_waits_for_buffers_is_served_in_turn),
        URING_CASE(an_end_is_told_once),
        URING_CASE(a_stop_and_start_of_receiving_makes_no_call),
        URING_CASE(a_stopped_receive_is_cancelled_when_something_came),
        URING_CASE(a_stopped_receive_that_ends_is_not_cancelled),
        URING_CASE(a_receive_may_start_again_while_it_is_being_cancelled),
        URING_CASE(a_receive_at_work_is_cancelled_again),
        URING_CASE(connections_are_accepted_until_it_is_stopped),
        URING_CASE(destroy_closes_who_nobody_was_told_of),
        URING_CASE(destroy_closes_those_that_found_no_room_too),
        URING_CASE(a_forked_child_leaves_the_rings_alone),
        URING_CASE(a_send_is_told_by_its_completion),
        URING_CASE(several_pieces_are_one_message),
        URING_CASE(a_call_takes_as_much_as_its_number_can_say),
        URING_CASE(a_send_without_room_waits_for_it),
        URING_CASE(a_poll_that_is_there_waits_for_room_too),
        URING_CASE(a_quiet_send_is_done_when_no_completion_came),
        URING_CASE(a_send_handed_over_by_submit_is_not_quiet),
        URING_CASE(a_quiet_send_with_a_completion_is_told_once),
        URING_CASE(many_quiet_sends_do_not_block_the_wait),
        URING_CASE(some_sends_are_quiet_at_a_time),
        URING_CASE(no_quiet_send_is_done_while_calls_are_not_taken),
        URING_CASE(no_quiet_send_is_done_while_completions_are_kept),
        URING_CASE(a_quiet_send_that_failed_is_not_done_again_later),
        URING_CASE(quiet_sends_are_told_of_one_by_one),
        URING_CASE(a_request_that_was_not_handed_over_makes_no_call),
        URING_CASE(a_wait_before_the_thread_is_known_makes_no_call),
        URING_CASE(what_no_completion_brings_is_told_first),
        URING_CASE(a_cancel_that_finds_no_room_is_handed_over_later),
        URING_CASE(a_send_that_waits_for_room_can_be_cancelled),
        URING_CASE(a_request_with_the_kernel_is_cancelled_there),
        URING_CASE(connect_hands_its_address_over),
        URING_CASE(connect_waits_for_an_attempt_under_way),
        URING_CASE(what_was_not_asked_does_not_defer_a_detach),
        URING_CASE(a_detached_receive_is_heard_out),
        URING_CASE(a_detached_listener_is_heard_out),
        URING_CASE(a_detached_request_is_done_first),
        URING_CASE(a_detached_request_that_was_not_handed_over_is_cancelled),
        URING_CASE(a_detached_quiet_send_is_done_first),
        URING_CASE(all_calls_of_a_detached_socket_come_back),
        URING_CASE(detach_takes_calls_back_that_were_not_taken),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
