/*
 * Backend io_uring on a kernel that is made up: making it, waiting, polls, the wake-up. Its receives, accepts and
 * requests are in uring_streams.c. Each case drives the backend's table as the core would.
 */
#include "made_up_uring.h"

#include <stdlib.h>

/* ---- making it ---- */

#define BEST (IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG)
#define ALWAYS (IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED)

static void it_asks_for_the_best_flags_first(void **state) {
    (void)state;
    start("io_uring");
    assert_int_equal(kernel.setups, 1);
    assert_int_equal(kernel.setup_flags[0], BEST | IORING_SETUP_DEFER_TASKRUN | ALWAYS);
    assert_string_equal(ops->name, "io_uring");
}

/* Who polls a ring whose work is deferred is not woken by it. */
static void only_a_ring_that_does_its_work_at_once_is_a_handle(void **state) {
    (void)state;
    start("io_uring");
    assert_null(ops->handle);
    ops->destroy(backend);
    kernel.setups = 0;
    start("io_uring_poll");
    assert_int_equal(kernel.setup_flags[0], BEST | IORING_SETUP_COOP_TASKRUN | ALWAYS);
    assert_non_null(ops->handle);
    assert_int_equal(ops->handle(backend), KERNEL_RING);
}

static void polls_only_are_to_be_had_by_name(void **state) {
    (void)state;
    start("io_uring_poll");
    assert_string_equal(ops->name, "io_uring_poll");
    assert_null(ops->send);
}

static void flags_that_are_not_known_are_left_out(void **state) {
    (void)state;
    kernel.setup_errors[0] = EINVAL;
    start("io_uring");
    assert_int_equal(kernel.setups, 2);
    assert_int_equal(kernel.setup_flags[1], ALWAYS);
    attach(0, 0);
    assert_int_equal(turn(), 0);
}

static void what_the_kernel_withholds_is_not_supported(void **state) {
    (void)state;
    static const struct { int error; const char *why; } refusals[] = {
        { ENOSYS, "io_uring_setup: ENOSYS: the kernel has no such call" },
        { EPERM, "io_uring_setup: EPERM: forbidden by a seccomp filter or by kernel.io_uring_disabled" },
        { ENOMEM, "io_uring_setup: ENOMEM: more than RLIMIT_MEMLOCK allows, or no memory" },
        { EINVAL, "io_uring_setup: EINVAL: the kernel does not know what is asked for" },
    };
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        kernel.setups = 0;
        kernel.setup_errors[0] = kernel.setup_errors[1] = refusals[i].error;
        assert_int_equal(create_named("io_uring"), P2P_ERR_NOT_SUPPORTED);
        assert_string_equal(reason, refusals[i].why);
        assert_int_equal(kernel.setups, refusals[i].error == EINVAL ? 2 : 1);
    }
    kernel.setups = 0;
    kernel.setup_errors[0] = EACCES;
    assert_int_equal(create_named("io_uring_poll"), P2P_ERR_NOT_SUPPORTED);
    assert_non_null(strstr(reason, ": forbidden by a security module"));
    made_up_system.uring_setup = NULL;
    assert_int_equal(create_named("io_uring"), P2P_ERR_NOT_SUPPORTED);
    assert_string_equal(reason, "io_uring_setup: ENOSYS: the kernel has no such call");
}

static void too_many_files_is_a_failure(void **state) {
    (void)state;
    kernel.setup_errors[0] = EMFILE;
    assert_int_equal(create_named("io_uring"), P2P_ERR_TOO_MANY_FILES);
    assert_string_equal(reason, "io_uring_setup: EMFILE");
}

static void without_limits_for_a_wait_it_is_not_supported(void **state) {
    (void)state;
    kernel.no_skips = true;
    assert_int_equal(create_named("io_uring"), P2P_ERR_NOT_SUPPORTED);
    assert_non_null(strstr(reason, "io_uring without IORING_FEAT_CQE_SKIP"));
}

static void what_fails_later_leaves_nothing(void **state) {
    (void)state;
    for (unsigned nth = 1; nth <= 2; nth++) {
        kernel.setups = 0;
        kernel.failing_map = nth;
        assert_int_equal(create_named("io_uring"), P2P_ERR_NOT_SUPPORTED);
        assert_non_null(strstr(reason, "io_uring: mmap: ENOMEM"));
    }
    kernel.setups = 0;
    kernel.wake_open_error = EMFILE;
    assert_int_equal(create_named("io_uring"), P2P_ERR_TOO_MANY_FILES);
    assert_string_equal(reason, "wake_open: EMFILE");
    kernel.setups = 0;
    fail_allocation(1);
    assert_int_equal(create_named("io_uring"), P2P_ERR_NO_MEMORY);
    assert_int_equal(kernel.setups, 0);
}

static void without_buffers_in_pieces_it_polls_only(void **state) {
    (void)state;
    kernel.no_pieces = true;
    start("io_uring");
    assert_string_equal(ops->name, "io_uring_poll");
    assert_int_equal(kernel.setup_flags[1], BEST | IORING_SETUP_COOP_TASKRUN | ALWAYS);
    assert_null(ops->recv_start);
    assert_null(ops->accept_start);
    assert_null(ops->send);
    attach(0, 0);
    assert_int_equal(kernel.mode_of, 1000);
    assert_int_equal(kernel.mode, 1);
}

static void buffers_are_tried_when_it_is_made(void **state) {
    (void)state;
    kernel.receive_buffers = 4;
    start("io_uring");
    assert_string_equal(ops->name, "io_uring");
    assert_int_equal(kernel.registrations, 1);
    ops->destroy(backend);
    kernel.setups = kernel.trials = 0;
    start("io_uring_poll"); /* which needs none */
    assert_int_equal(kernel.trials, 0);
}

/* Not a smaller table: which one a loop has must not depend on what others use. */
static void without_memory_for_buffers_it_is_not_supported(void **state) {
    (void)state;
    kernel.buffers_error = ENOMEM;
    assert_int_equal(create_named("io_uring"), P2P_ERR_NOT_SUPPORTED);
    assert_string_equal(reason,
                        "io_uring: receive buffers: ENOMEM: more than RLIMIT_MEMLOCK allows, or no memory");
    assert_int_equal(kernel.trials, 1);
}

static void the_kernel_waits_on_blocking_sockets_only(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *blocking = attach(0, P2P_IO_NONBLOCKING);
    assert_int_equal(kernel.mode_of, blocking->handle);
    assert_int_equal(kernel.mode, 0);
    assert_int_equal(blocking->flags, 0);
    p2p_io *datagrams = attach(1, P2P_IO_DATAGRAM);
    assert_int_equal(kernel.mode_of, datagrams->handle);
    assert_int_equal(kernel.mode, 1);
    assert_int_equal(datagrams->flags, P2P_IO_DATAGRAM | P2P_IO_NONBLOCKING);
    attach(2, P2P_IO_FOREIGN);
    attach(3, P2P_IO_FOREIGN | P2P_IO_NONBLOCKING);
    attach(4, 0);
    assert_int_equal(kernel.mode_of, datagrams->handle);
}

static void nothing_is_asked_before_the_thread_is_known(void **state) {
    (void)state;
    assert_int_equal(create_named("io_uring"), 0);
    p2p_io *io = attach(0, 0);
    want(io, P2P_IN);
    p2p_io *other = attach(1, 0);
    want(other, P2P_IN);
    assert_int_equal(ops->detach(backend, other), 0);
    gone(other);
    assert_int_equal(kernel.enters, 0);
    assert_false(kernel.enabled);
    assert_int_equal(ops->bind_thread(backend), 0);
    assert_true(kernel.enabled);
    assert_int_equal(kernel.enters, 0);
    turn();
    expect_poll(io, POLLIN, 0);
}

static void slots_beyond_the_first_make_more_room(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *low = attach(0, 0);
    fail_allocation(1);
    p2p_io io = { .handle = 1070, .token = 1ull << 32 | 70, .state = calloc(1, ops->io_state_size) };
    assert_int_equal(ops->attach(backend, &io), -ENOMEM);
    io.token = 1ull << 32 | 1u << 29;
    assert_int_equal(ops->attach(backend, &io), -ENOSPC);
    free(io.state);
    p2p_io *high = attach(70, 0);
    want(low, P2P_IN);
    want(high, P2P_IN);
    turn();
    uint64_t first = expect_poll(low, POLLIN, 0), last = expect_poll(high, POLLIN, 0);
    completes(first, POLLIN, 0);
    completes(last + 1, POLLIN, 0); /* in that slot is nobody */
    completes(last, POLLIN, 0);
    assert_int_equal(turn(), 2);
    expect_ready(low, P2P_IN);
    expect_ready(high, P2P_IN);
}

/* ---- waiting ---- */

static void a_wait_is_one_enter(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *one = attach(0, 0), *two = attach(1, 0);
    want(one, P2P_IN);
    want(two, P2P_OUT);
    assert_int_equal(kernel.enters, 0);
    assert_int_equal(turn_with(64, 1500000001), 0);
    assert_int_equal(kernel.enters, 1);
    assert_int_equal(kernel.submitted, 3);
    assert_int_equal(kernel.min_complete, 1);
    assert_int_equal(kernel.enter_flags, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG);
    assert_true(kernel.timeout_ns == 1500000001);
    expect_poll(one, POLLIN, 0);
    uint64_t poll = expect_poll(two, POLLOUT, 0);
    completes(poll, POLLOUT, 0);
    assert_int_equal(turn_with(64, 1), 1); /* it is there already */
    assert_int_equal(kernel.enters, 1);
    expect_ready(two, P2P_OUT);
    assert_int_equal(turn_with(64, 1), 0); /* asked again, and handed over */
    assert_int_equal(kernel.enters, 2);
    expect_poll(two, POLLOUT, 0);
    assert_int_equal(turn_with(64, 1), 0); /* there is nothing to hand over */
    assert_int_equal(kernel.enters, 3);
    assert_int_equal(kernel.submitted, 0);
    assert_int_equal(kernel.min_complete, 1);
}

static void a_wait_without_time_asks_for_no_completion(void **state) {
    (void)state;
    start("io_uring");
    assert_int_equal(turn_with(64, 0), 0);
    assert_int_equal(kernel.enters, 1);
    assert_int_equal(kernel.min_complete, 0);
    assert_int_equal(kernel.enter_flags, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG); /* it looks for them */
    assert_true(kernel.timeout_ns == 0);
}

static void submit_hands_over_and_does_not_wait(void **state) {
    (void)state;
    start("io_uring");
    assert_int_equal(ops->submit(backend), 0); /* the wake-up's poll */
    assert_int_equal(kernel.enters, 1);
    p2p_io *io = attach(0, 0);
    want(io, P2P_IN);
    assert_int_equal(ops->submit(backend), 0);
    assert_int_equal(kernel.enters, 2);
    assert_int_equal(kernel.enter_flags, 0);
    expect_poll(io, POLLIN, 0);
    assert_int_equal(ops->submit(backend), 0); /* nothing is left */
    assert_int_equal(kernel.enters, 2);
    p2p_io *other = attach(1, 0);
    want(other, P2P_IN);
    kernel.enter_error = EBUSY;
    kernel.enter_errors = 1;
    assert_int_equal(ops->submit(backend), 0);
    kernel.enter_error = ENXIO;
    kernel.enter_errors = 1;
    assert_int_equal(ops->submit(backend), -ENXIO);
    assert_int_equal(ops->submit(backend), 0);
    expect_poll(other, POLLIN, 0);
}

static void calls_beyond_the_room_are_handed_over_in_between(void **state) {
    (void)state;
    kernel.call_room = 4;
    start("io_uring");
    p2p_io *ios[30];
    for (unsigned i = 0; i < COUNT_OF(ios); i++) want(ios[i] = attach(i, 0), P2P_IN);
    turn_with(64, 1);
    for (unsigned i = 0; i < COUNT_OF(ios); i++) expect_poll(ios[i], POLLIN, 0);
    assert_int_equal(kernel.enters, 8);
    assert_int_equal(kernel.min_complete, 1);
}

static void a_kernel_that_takes_nothing_keeps_all_for_the_next_wait(void **state) {
    (void)state;
    static const int passing[] = { EBUSY, EAGAIN, EINTR, ETIME };
    unsigned polls = 0, receives = 0;
    kernel.call_room = 4;
    start("io_uring");
    for (unsigned i = 0; i < 8; i++) {
        p2p_io *io = attach(i, 0);
        want(io, P2P_IN);
        assert_int_equal(ops->recv_start(backend, io), 0);
    }
    for (size_t i = 0; i < COUNT_OF(passing); i++) {
        kernel.enter_error = passing[i];
        kernel.enter_errors = 100;
        assert_int_equal(turn_with(64, -1), 0); /* it must not block: not all was handed over */
        assert_int_equal(kernel.min_complete, 0);
        assert_true(kernel.timeout_ns == 0);
    }
    kernel.enter_errors = 0;
    kernel.takes = 1;
    for (int waits = 0; polls + receives < 16; waits++) {
        assert_in_range(waits, 0, 16);
        turn();
        const struct io_uring_sqe *call;
        while ((call = next_call()) != NULL) {
            polls += call->opcode == IORING_OP_POLL_ADD;
            receives += call->opcode == IORING_OP_RECV;
        }
    }
    assert_int_equal(polls, 8);
    assert_int_equal(receives, 8);
    assert_int_equal(kernel.wake_polls, 1);
    turn_with(64, 1);
    assert_int_equal(kernel.min_complete, 1);
}

/* The places for calls are full when it is to be armed, and free when the wait begins. */
static void it_does_not_wait_without_its_wake_up(void **state) {
    (void)state;
    kernel.call_room = 4;
    start("io_uring");
    turn();
    wake_fires(POLLIN);
    p2p_io *ios[4];
    for (unsigned i = 0; i < 4; i++) want(ios[i] = attach(i, 0), P2P_IN);
    kernel.enter_error = EBUSY;
    kernel.enter_errors = 2;
    assert_int_equal(turn(), 0);
    assert_int_equal(turn_with(64, -1), 0);
    for (unsigned i = 0; i < 4; i++) expect_poll(ios[i], POLLIN, 0);
    assert_int_equal(kernel.wake_polls, 1);
    turn();
    assert_int_equal(kernel.wake_polls, 2);
}

static void what_is_fatal_is_returned(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    want(io, P2P_IN);
    kernel.enter_error = EBADF;
    kernel.enter_errors = 1;
    assert_int_equal(turn(), -EBADF);
    kernel.enter_errors = 1;
    kernel.enter_error = EEXIST;
    assert_int_equal(turn(), -EEXIST);
    turn();
    uint64_t poll = expect_poll(io, POLLIN, 0);
    completes(poll, POLLIN, 0);
    want(attach(1, 0), P2P_IN);
    kernel.enter_errors = 1;
    assert_int_equal(turn(), 1); /* what there is comes first */
    expect_ready(io, P2P_IN);
    kernel.enter_errors = 1;
    assert_int_equal(turn(), -EEXIST);
}

/* ---- polls ---- */

/* Wanted, and asked. @return the poll's name. */
static uint64_t polling(p2p_io *io, uint32_t mask) {
    want(io, mask);
    turn();
    return expect_poll(io, (mask & P2P_IN ? POLLIN : 0) | (mask & P2P_OUT ? POLLOUT : 0), 0);
}

/* After a completion with nothing that is wanted: its poll stays. */
static uint64_t polling_for_long(p2p_io *io, uint32_t mask) {
    completes(polling(io, mask), POLLRDHUP, 0);
    turn();
    turn();
    return expect_poll(io, (mask & P2P_IN ? POLLIN : 0) | (mask & P2P_OUT ? POLLOUT : 0), IORING_POLL_ADD_MULTI);
}

static void a_poll_is_asked_again_while_interest_lasts(void **state) {
    (void)state;
    start("io_uring_poll");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN | P2P_OUT);
    completes(poll, POLLIN | POLLOUT | POLLHUP | POLLERR | POLLRDHUP, 0);
    turn();
    expect_ready(io, P2P_IN | P2P_OUT | P2P_HUP | P2P_ERR);
    turn();
    assert_true(expect_poll(io, POLLIN | POLLOUT, 0) == poll);
    completes(poll, POLLIN, 0);
    turn();
    expect_ready(io, P2P_IN);
    want(io, 0);
    turn();
    want(io, P2P_OUT);
    turn();
    expect_poll(io, POLLOUT, 0);
}

static void interest_that_grows_replaces_the_poll(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN);
    want(io, P2P_IN | P2P_OUT);
    unsigned enters = kernel.enters;
    turn();
    uint64_t next = expect_replaced(io, poll, POLLIN | POLLOUT, 0);
    assert_int_equal(kernel.enters, enters + 1); /* both at once */
    turn();
    completes(next, POLLOUT, 0);
    turn();
    expect_ready(io, P2P_OUT);
    turn();
    assert_true(expect_poll(io, POLLIN | POLLOUT, 0) == next);
}

/* Whatever it says: the one in its place looks afresh, and tells what is there. */
static void a_completion_of_the_replaced_poll_is_ignored(void **state) {
    (void)state;
    static const struct { int32_t result; uint32_t flags; } comings[] = {
        { -ECANCELED, 0 }, { POLLIN, 0 }, { POLLIN, IORING_CQE_F_MORE }, { POLLRDHUP, 0 }, { -EBADF, 0 },
    };
    start("io_uring");
    for (unsigned i = 0; i < COUNT_OF(comings); i++) {
        p2p_io *io = attach(i, 0);
        uint64_t poll = polling(io, P2P_IN);
        want(io, P2P_IN | P2P_OUT);
        turn();
        uint64_t next = expect_replaced(io, poll, POLLIN | POLLOUT, 0);
        completes(poll, comings[i].result, comings[i].flags);
        assert_int_equal(turn(), 0);
        turn(); /* and nothing is asked */
        completes(next, POLLIN, 0);
        turn();
        expect_ready(io, P2P_IN);
        want(io, 0);
        turn();
    }
}

static void names_of_polls_take_turns(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN), first = poll;
    for (int i = 0; i < 4; i++) {
        want(io, P2P_IN | P2P_OUT);
        turn();
        uint64_t next = expect_replaced(io, poll, POLLIN | POLLOUT, 0);
        completes(poll, -ECANCELED, 0);
        completes(next, POLLOUT, 0);
        turn();
        expect_ready(io, P2P_OUT);
        want(io, P2P_IN);
        turn();
        poll = expect_poll(io, POLLIN, 0);
        assert_true(poll == next);
        assert_true((poll == first) == (i % 2 == 1));
    }
}

static void a_poll_is_replaced_in_two_hand_overs_when_room_is_short(void **state) {
    (void)state;
    kernel.call_room = 4;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN);
    for (unsigned i = 1; i < 4; i++) want(attach(i, 0), P2P_IN);
    want(io, P2P_IN | P2P_OUT);
    kernel.enter_error = EBUSY;
    kernel.enter_errors = 2;
    assert_int_equal(ops->submit(backend), 0); /* the cancel has the last place */
    turn();
    for (unsigned i = 1; i < 4; i++) expect_poll(io_at(i), POLLIN, 0);
    uint64_t next = expect_replaced(io, poll, POLLIN | POLLOUT, 0);
    completes(poll, -ECANCELED, 0);
    turn();
    completes(next, POLLOUT, 0);
    turn();
    expect_ready(io, P2P_OUT);
    turn();
    expect_poll(io, POLLIN | POLLOUT, 0);
}

static void interest_that_shrinks_makes_no_call(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN | P2P_OUT);
    want(io, P2P_OUT);
    turn();
    want(io, P2P_IN | P2P_OUT);
    turn();
    want(io, P2P_IN);
    completes(poll, POLLIN | POLLOUT, 0);
    turn();
    expect_ready(io, P2P_IN);
    turn();
    expect_poll(io, POLLIN, 0);
    want(io, 0);
    turn();
    completes(poll, POLLIN | POLLHUP, 0);
    turn(); /* nothing is wanted: not even the end is told */
    turn();
    want(io, P2P_IN);
    turn();
    expect_poll(io, POLLIN, 0);
    assert_int_equal(kernel.inspections, 1); /* once is enough */
}

static void what_nobody_wants_makes_the_next_poll_a_lasting_one(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    completes(poll, POLLRDHUP, IORING_CQE_F_MORE);
    turn();
    turn(); /* it told nothing: no call */
    completes(poll, POLLOUT, IORING_CQE_F_MORE);
    turn();
    expect_ready(io, P2P_OUT);
    turn(); /* told: looks afresh, as readiness is level-triggered */
    poll = expect_replaced(io, poll, POLLOUT, IORING_POLL_ADD_MULTI);
    want(io, P2P_OUT);
    turn(); /* once */
    completes(poll, POLLHUP, IORING_CQE_F_MORE);
    turn();
    expect_ready(io, P2P_HUP);
    turn();
    poll = expect_replaced(io, poll, POLLOUT, IORING_POLL_ADD_MULTI);
    completes(poll, POLLOUT, 0); /* the kernel ended it */
    turn();
    expect_ready(io, P2P_OUT);
    turn();
    expect_poll(io, POLLOUT, 0);
}

static void a_lasting_poll_is_cancelled_when_nothing_is_wanted(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    want(io, 0);
    turn();
    expect_cancel(poll);
    want(io, P2P_IN);
    turn(); /* not before it has come back */
    completes(poll, -ECANCELED, 0);
    turn();
    turn();
    expect_poll(io, POLLIN, 0);
}

/* It tells of a change once. What was not wanted then may be wanted later, and be there still. */
static void what_a_lasting_poll_told_in_vain_is_asked_again(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    want(io, P2P_IN | P2P_OUT);
    turn();
    poll = expect_replaced(io, poll, POLLIN | POLLOUT, IORING_POLL_ADD_MULTI);
    want(io, P2P_OUT);
    completes(poll, POLLIN, IORING_CQE_F_MORE);
    turn();
    turn();
    want(io, P2P_IN | P2P_OUT);
    turn();
    expect_replaced(io, poll, POLLIN | POLLOUT, IORING_POLL_ADD_MULTI);
}

/* Two completions in a row: it is to look afresh, whatever the second one says. */
static void a_lasting_poll_looks_afresh_once_it_told_something(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    completes(poll, POLLOUT, IORING_CQE_F_MORE);
    completes(poll, POLLRDHUP, IORING_CQE_F_MORE);
    turn();
    expect_ready(io, P2P_OUT);
    turn();
    expect_replaced(io, poll, POLLOUT, IORING_POLL_ADD_MULTI);
}

static void a_cancel_that_came_too_early_is_tried_again(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    want(io, 0);
    turn();
    completes(expect_cancel(poll), -EALREADY, 0);
    completes(poll, POLLRDHUP, IORING_CQE_F_MORE); /* what it was at work on */
    turn();
    turn();
    uint64_t cancel = expect_cancel(poll);
    completes(poll, -ECANCELED, 0);
    completes(cancel, -ENOENT, 0);
    turn();
    turn();
}

static void a_cancel_that_came_too_late_is_not(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    want(io, 0);
    turn();
    completes(expect_cancel(poll), -ENOENT, 0);
    completes(poll, POLLOUT, 0);
    turn(); /* nothing is wanted */
    turn();
    want(io, P2P_IN);
    turn();
    poll = expect_poll(io, POLLIN, 0);
    want(io, P2P_IN | P2P_OUT);
    turn();
    uint64_t cancel = expect_cancel(poll), next = expect_poll(io, POLLIN | POLLOUT, 0);
    completes(cancel, -ENOENT, 0); /* the replaced one had come back */
    turn();
    turn();
    completes(next, POLLIN, 0);
    turn();
    expect_ready(io, P2P_IN);
    turn();
    expect_poll(io, POLLIN | POLLOUT, 0);
}

static void a_handle_closed_behind_our_back_is_told_once(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0), *foreign = attach(1, P2P_IO_FOREIGN);
    uint64_t poll = polling(io, P2P_IN);
    completes(poll, -EBADF, 0);
    turn();
    expect_ready(io, P2P_ERR);
    turn();
    want(io, 0);
    turn();
    completes(polling(foreign, P2P_IN), -EBADF, 0);
    turn();
    expect_ready(foreign, P2P_ERR);
    assert_int_equal(kernel.looks, 0);
    turn();
}

static void handles_that_can_not_be_polled_are_refused(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    io->handle = 5000;
    assert_int_equal(ops->set_interest(backend, io, 0, P2P_IN), -EBADF);
    io->handle = KERNEL_RING;
    assert_int_equal(ops->set_interest(backend, io, 0, P2P_IN), -EINVAL);
    io->handle = 1000;
    turn();
}

static void a_foreign_handle_is_looked_at_again(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, P2P_IO_FOREIGN);
    uint64_t poll = polling(io, P2P_IN | P2P_OUT);
    kernel.ready = P2P_IN;
    completes(poll, POLLIN | POLLOUT, 0);
    turn();
    expect_ready(io, P2P_IN);
    assert_int_equal(kernel.looked_for, P2P_IN | P2P_OUT);
    turn();
    expect_poll(io, POLLIN | POLLOUT, 0);
    kernel.ready = 0; /* somebody has read it since */
    completes(poll, POLLIN, 0);
    assert_int_equal(turn(), 0);
    turn();
    expect_poll(io, POLLIN | POLLOUT, 0);
    kernel.ready = -EBADF;
    completes(poll, POLLIN, 0);
    turn();
    expect_ready(io, P2P_ERR);
    assert_int_equal(kernel.looks, 3);
    turn();
    expect_poll(io, POLLIN | POLLOUT, 0);
    completes(poll, POLLRDHUP, 0); /* nothing that is wanted */
    turn();
    assert_int_equal(kernel.looks, 3);
    turn();
    expect_poll(io, POLLIN | POLLOUT, IORING_POLL_ADD_MULTI);
}

/* ---- detach ---- */

static void forget(p2p_io *io) {
    assert_int_equal(ops->detach(backend, io), 0);
    gone(io);
}

static void a_socket_at_rest_is_forgotten_at_once(void **state) {
    (void)state;
    start("io_uring");
    turn();
    unsigned enters = kernel.enters;
    forget(attach(0, 0));
    p2p_io *first = attach(1, 0), *second = attach(2, 0), *third = attach(3, 0);
    want(first, P2P_IN);
    want(second, P2P_IN);
    want(third, P2P_IN);
    forget(second);
    assert_int_equal(kernel.enters, enters);
    turn();
    uint64_t one = expect_poll(first, POLLIN, 0), three = expect_poll(third, POLLIN, 0);
    want(third, P2P_OUT);
    want(first, P2P_OUT);
    forget(attach(0, 0));
    turn();
    expect_replaced(third, three, POLLOUT, 0);
    expect_replaced(first, one, POLLOUT, 0);
}

static void a_poll_is_cancelled_inside_detach(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN);
    unsigned enters = kernel.enters;
    answers(IORING_OP_ASYNC_CANCEL, 0);
    forget(io);
    expect_cancel(poll);
    assert_int_equal(kernel.enters, enters + 1);
    assert_int_equal(kernel.enter_flags, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG);
    assert_int_equal(kernel.min_complete, 0);
    p2p_io *next = attach(0, 0); /* in the same slot */
    completes(poll, -ECANCELED, 0);
    completes(poll, POLLIN, 0);
    turn();
    uint64_t other = polling(next, P2P_IN);
    completes(poll, -EBADF, 0);
    turn();
    completes(other, POLLIN, 0);
    turn();
    expect_ready(next, P2P_IN);
    turn();
    expect_poll(next, POLLIN, 0);
    answers(IORING_OP_ASYNC_CANCEL, -ENOENT); /* it has come back meanwhile */
    forget(next);
    expect_cancel(other);
    turn();
}

static void the_poll_in_place_of_another_is_cancelled_inside_detach(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN);
    want(io, P2P_IN | P2P_OUT);
    turn();
    uint64_t next = expect_replaced(io, poll, POLLIN | POLLOUT, 0);
    forget(io);
    expect_cancel(next);
    completes(poll, POLLIN, 0);
    completes(next, -ECANCELED, 0);
    assert_int_equal(turn(), 0);
}

static void a_cancelled_poll_is_waited_for_inside_detach(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    want(io, 0);
    turn();
    expect_cancel(poll);
    unsigned enters = kernel.enters;
    kernel.works = 1;
    completes_later(poll, -ECANCELED, 0);
    completes_later(0, 0, 0);
    forget(io); /* the kernel holds the handle until it has done what it put off */
    assert_int_equal(kernel.enters, enters + 2);
    turn();
}

/* A lasting poll goes on when it was at work, and would hold the handle for ever. */
static void a_poll_at_work_is_cancelled_again_inside_detach(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling_for_long(io, P2P_OUT);
    answers(IORING_OP_ASYNC_CANCEL, -EALREADY);
    answers(IORING_OP_ASYNC_CANCEL, 0);
    forget(io);
    expect_cancel(poll);
    uint64_t cancel = expect_cancel(poll);
    p2p_io *other = attach(1, 0);
    uint64_t another = polling(other, P2P_IN);
    completes(cancel, -EALREADY, 0); /* that was not about this one */
    forget(other);
    expect_cancel(another);
    completes(poll, -ECANCELED, 0);
    turn();
}

/* Its handle may be closed then, and another one's when the kernel takes calls again. */
static void a_poll_that_was_not_taken_is_taken_back(unsigned others) {
    kernel.call_room = 4;
    start("io_uring");
    turn();
    for (unsigned i = 1; i <= others; i++) want(attach(i, 0), P2P_IN);
    p2p_io *io = attach(0, 0);
    want(io, P2P_IN);
    kernel.enter_error = EAGAIN;
    kernel.enter_errors = 10;
    turn();
    forget(io);
    kernel.enter_errors = 0;
    turn();
    for (unsigned i = 1; i <= others; i++) expect_poll(io_at(i), POLLIN, 0);
    completes(expect_call(IORING_OP_NOP, NULL)->user_data, 0, 0);
}

static void detach_takes_a_poll_back_that_was_not_taken(void **state) {
    (void)state;
    a_poll_that_was_not_taken_is_taken_back(0);
    expect_call(IORING_OP_ASYNC_CANCEL, NULL);
    turn();
}

static void detach_takes_a_poll_back_without_room_for_its_cancel(void **state) {
    (void)state;
    a_poll_that_was_not_taken_is_taken_back(3);
    turn();
}

static void a_poll_that_finds_no_room_to_be_cancelled_is_cancelled_later(void **state) {
    (void)state;
    kernel.call_room = 4;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN);
    for (unsigned i = 1; i < 5; i++) want(attach(i, 0), P2P_IN);
    kernel.enter_error = EBUSY;
    kernel.enter_errors = 2;
    assert_int_equal(ops->submit(backend), 0);
    assert_int_equal(ops->detach(backend, io), P2P_DEFERRED);
    turn();
    for (unsigned i = 1; i < 5; i++) expect_call(IORING_OP_POLL_ADD, io_at(i));
    expect_cancel(poll);
    completes(poll, -ECANCELED, 0);
    turn();
    expect_event(P2P_EVENT_DETACHED, io->token, 0, 0);
    gone(io);
    turn();
}

/* ---- the wake-up ---- */

static void wake_it(void) {
    assert_int_equal(ops->wake(backend), 0);
}

static void it_is_armed_again_after_it_fired(void **state) {
    (void)state;
    start("io_uring");
    kernel.on_block = wake_it;
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(turn_with(64, -1), 0);
        assert_int_equal(kernel.wake_polls, i);
        assert_int_equal(kernel.drains, i);
    }
    kernel.on_block = NULL;
    turn();
    turn();
    assert_int_equal(kernel.wake_polls, 4);
}

static void a_broken_wake_up_ends_waiting(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *io = attach(0, 0);
    uint64_t poll = polling(io, P2P_IN);
    wake_fires(-EBADF);
    completes(poll, POLLIN, 0);
    assert_int_equal(turn(), 1);
    expect_ready(io, P2P_IN);
    assert_int_equal(kernel.drains, 0);
    assert_int_equal(turn(), -EBADF);
    expect_poll(io, POLLIN, 0);
    wake_fires(POLLIN);
    kernel.drain_error = EIO;
    assert_int_equal(turn(), -EIO);
    turn();
    kernel.drain_error = 0;
    wake_fires(POLLIN);
    assert_int_equal(turn(), 0);
}

/* ---- what is more than a ring holds ---- */

static void completions_beyond_the_room_all_arrive(void **state) {
    (void)state;
    kernel.completion_room = 8;
    start("io_uring");
    p2p_io *ios[64];
    for (unsigned i = 0; i < 64; i++) want(ios[i] = attach(i, 0), P2P_IN);
    turn();
    for (unsigned i = 0; i < 64; i++) completes(expect_poll(ios[i], POLLIN, 0), POLLIN, 0);
    unsigned count = 0;
    for (int waits = 0; count < 64; waits++) {
        assert_in_range(waits, 0, 64 / 20);
        for (int i = turn_with(20, 0); i > 0; i--, count++) expect_ready(ios[count], P2P_IN);
        while (next_call() != NULL) continue; /* polls are asked again */
    }
    assert_int_equal(turn(), 0);
    while (next_call() != NULL) continue;
}

static void work_put_off_is_done_while_there_is_room_for_events(void **state) {
    (void)state;
    start("io_uring");
    p2p_io *ios[6];
    for (unsigned i = 0; i < 6; i++) want(ios[i] = attach(i, 0), P2P_IN);
    turn();
    kernel.works = 1;
    for (unsigned i = 0; i < 6; i++) completes_later(expect_poll(ios[i], POLLIN, 0), POLLIN, 0);
    unsigned enters = kernel.enters;
    assert_int_equal(turn_with(4, -1), 4);
    assert_int_equal(kernel.enters, enters + 4);
    for (unsigned i = 0; i < 4; i++) expect_ready(ios[i], P2P_IN);
    assert_int_equal(turn_with(4, -1), 2);
    for (unsigned i = 4; i < 6; i++) expect_ready(ios[i], P2P_IN);
    for (unsigned i = 0; i < 4; i++) expect_poll(ios[i], POLLIN, 0);
    for (unsigned i = 0; i < 6; i++) want(ios[i], 0);
    turn();
    raises(IORING_SQ_TASKRUN); /* it is looked for once, and then not */
    enters = kernel.enters;
    assert_int_equal(turn(), 0);
    assert_int_equal(kernel.enters, enters + 2);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        URING_CASE(it_asks_for_the_best_flags_first),
        URING_CASE(only_a_ring_that_does_its_work_at_once_is_a_handle),
        URING_CASE(polls_only_are_to_be_had_by_name),
        URING_CASE(flags_that_are_not_known_are_left_out),
        URING_CASE(what_the_kernel_withholds_is_not_supported),
        URING_CASE(too_many_files_is_a_failure),
        URING_CASE(without_limits_for_a_wait_it_is_not_supported),
        URING_CASE(what_fails_later_leaves_nothing),
        URING_CASE(without_buffers_in_pieces_it_polls_only),
        URING_CASE(buffers_are_tried_when_it_is_made),
        URING_CASE(without_memory_for_buffers_it_is_not_supported),
        URING_CASE(the_kernel_waits_on_blocking_sockets_only),
        URING_CASE(nothing_is_asked_before_the_thread_is_known),
        URING_CASE(slots_beyond_the_first_make_more_room),
        URING_CASE(a_wait_is_one_enter),
        URING_CASE(a_wait_without_time_asks_for_no_completion),
        URING_CASE(submit_hands_over_and_does_not_wait),
        URING_CASE(calls_beyond_the_room_are_handed_over_in_between),
        URING_CASE(a_kernel_that_takes_nothing_keeps_all_for_the_next_wait),
        URING_CASE(it_does_not_wait_without_its_wake_up),
        URING_CASE(what_is_fatal_is_returned),
        URING_CASE(a_poll_is_asked_again_while_interest_lasts),
        URING_CASE(interest_that_grows_replaces_the_poll),
        URING_CASE(a_completion_of_the_replaced_poll_is_ignored),
        URING_CASE(names_of_polls_take_turns),
        URING_CASE(a_poll_is_replaced_in_two_hand_overs_when_room_is_short),
        URING_CASE(interest_that_shrinks_makes_no_call),
        URING_CASE(what_nobody_wants_makes_the_next_poll_a_lasting_one),
        URING_CASE(a_lasting_poll_is_cancelled_when_nothing_is_wanted),
        URING_CASE(what_a_lasting_poll_told_in_vain_is_asked_again),
        URING_CASE(a_lasting_poll_looks_afresh_once_it_told_something),
        URING_CASE(a_cancel_that_came_too_early_is_tried_again),
        URING_CASE(a_cancel_that_came_too_late_is_not),
        URING_CASE(a_handle_closed_behind_our_back_is_told_once),
        URING_CASE(handles_that_can_not_be_polled_are_refused),
        URING_CASE(a_foreign_handle_is_looked_at_again),
        URING_CASE(a_socket_at_rest_is_forgotten_at_once),
        URING_CASE(a_poll_is_cancelled_inside_detach),
        URING_CASE(the_poll_in_place_of_another_is_cancelled_inside_detach),
        URING_CASE(a_cancelled_poll_is_waited_for_inside_detach),
        URING_CASE(a_poll_at_work_is_cancelled_again_inside_detach),
        URING_CASE(detach_takes_a_poll_back_that_was_not_taken),
        URING_CASE(detach_takes_a_poll_back_without_room_for_its_cancel),
        URING_CASE(a_poll_that_finds_no_room_to_be_cancelled_is_cancelled_later),
        URING_CASE(it_is_armed_again_after_it_fired),
        URING_CASE(a_broken_wake_up_ends_waiting),
        URING_CASE(completions_beyond_the_room_all_arrive),
        URING_CASE(work_put_off_is_done_while_there_is_room_for_events),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
