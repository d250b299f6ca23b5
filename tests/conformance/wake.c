/* What ends a wait besides sockets: wake from any thread, signals, time. */
#include "cases.h"

#include <stdatomic.h>

static void c64_a_wake_before_the_wait_ends_it(void **state) {
    harness *h = *state;
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
    expect_quiet(h, 20 * MILLISECOND);
}

static void c64_two_wakes_before_the_wait_are_not_lost(void **state) {
    harness *h = *state;
    assert_int_equal(h->ops->wake(h->backend), 0);
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
    expect_quiet(h, 20 * MILLISECOND);
}

static void c64_a_million_wakes_neither_block_nor_stay(void **state) {
    harness *h = *state;
    for (int i = 0; i < 1000000; i++) {
        assert_int_equal(h->ops->wake(h->backend), 0);
    }
    wait_to_be_woken(h);
    expect_quiet(h, 20 * MILLISECOND);
}

typedef struct waker {
    harness *h;
    atomic_int asked, done; /* rounds */
    atomic_bool end;
} waker;

static void wake_each_round(void *data) {
    waker *w = data;
    for (int round = 0; !atomic_load(&w->end);) {
        if (atomic_load(&w->asked) > round) {
            round++;
            w->h->ops->wake(w->h->backend);
            atomic_store(&w->done, round);
        } else {
            os_yield();
        }
    }
}

/* The thread may come before the wait or in it: each time the wait must end. */
static void c64_a_wake_from_another_thread_ends_the_wait(void **state) {
    harness *h = *state;
    waker w = { .h = h };
    os_thread thread;
    assert_int_equal(os_thread_start(&thread, wake_each_round, &w), 0);
    for (int round = 1; round <= OS_ROUNDS(1000, 200); round++) {
        atomic_store(&w.asked, round);
        wait_to_be_woken(h);
        while (atomic_load(&w.done) < round) {
            os_yield();
        }
        while (turn(h, 0) != 0) { /* should the wait have ended early by itself, take the wake away */
        }
    }
    atomic_store(&w.end, true);
    os_thread_join(&thread);
    expect_quiet(h, 5 * MILLISECOND);
}

static void c64_a_wake_does_not_keep_a_ready_socket_from_being_told(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    h->capacity = 1;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(h->ops->wake(h->backend), 0);
        turn_until(h, io, P2P_OUT);
    }
    forget_all(h);
    close_pair(ends);
}

/* Truncated to milliseconds, the last fraction of a time-out would be spent in a spin. */
static void c40_fractions_of_a_millisecond_round_up(void **state) {
    harness *h = *state;
    for (int i = 0; i < 5; i++) {
        expect_quiet(h, 2 * MILLISECOND + MILLISECOND / 3);
        expect_quiet(h, MILLISECOND / 2);
    }
    turn(h, 1);
}

static const int64_t huge_timeouts_ns[] = {
    INT64_MAX, INT64_MAX - 1, (INT64_C(1) << 31) * MILLISECOND, (INT64_C(1) << 32) * MILLISECOND,
    INT64_C(1) << 32, -1, INT64_MIN,
};

static void c44_huge_timeouts_are_accepted(void **state) {
    harness *h = *state;
    for (size_t i = 0; i < sizeof(huge_timeouts_ns) / sizeof(huge_timeouts_ns[0]); i++) {
        p2p_handle_t ends[2];
        tcp_pair(ends);
        test_io *io = add(h, ends[0], P2P_IN);
        assert_int_equal(h->ops->wake(h->backend), 0);
        assert_int_equal(turn(h, huge_timeouts_ns[i]), 0);
        send_text(ends[1], "x");
        while (!(io->seen & P2P_IN)) {
            turn(h, huge_timeouts_ns[i]);
        }
        forget_all(h);
        close_pair(ends);
    }
}

typedef struct sender {
    p2p_handle_t handle;
    int64_t at; /* ns of os_now_ns */
} sender;

static void send_in_time(void *data) {
    sender *s = data;
    while (os_now_ns() < s->at) {
        os_yield();
    }
    os_send(s->handle, "x", 1);
}

/* Cut to 32 bits, a huge time-out would make the loop spin. */
static void c44_huge_timeouts_last_until_something_happens(void **state) {
    harness *h = *state;
    for (size_t i = 0; i < sizeof(huge_timeouts_ns) / sizeof(huge_timeouts_ns[0]); i++) {
        p2p_handle_t ends[2];
        tcp_pair(ends);
        test_io *io = add(h, ends[0], P2P_IN);
        sender s = { ends[1], os_now_ns() + 10 * MILLISECOND };
        os_thread thread;
        assert_int_equal(os_thread_start(&thread, send_in_time, &s), 0);
        int returns = 0;
        for (; io->seen == 0; returns++) {
            turn(h, huge_timeouts_ns[i]);
        }
        os_thread_join(&thread);
        assert_in_range(returns, 1, 4);
        forget(h, io);
        close_pair(ends);
    }
}

static bool readable(p2p_handle_t handle) {
    return os_poll(handle, POLLIN, 0) > 0;
}

/* What the core does before somebody else waits for the handle. */
static void hand_over(harness *h) {
    if (h->ops->submit != NULL) {
        assert_int_equal(h->ops->submit(h->backend), 0);
    }
}

static void the_handle_is_readable_while_events_wait(void **state) {
    harness *h = *state;
    p2p_handle_t handle = h->ops->handle != NULL ? h->ops->handle(h->backend) : P2P_INVALID_HANDLE;
    if (handle == P2P_INVALID_HANDLE) {
        test_skip("backend %s has no handle", h->ops->name);
    }
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    turn(h, 0);
    hand_over(h);
    assert_false(readable(handle));
    send_text(ends[1], "x");
    int64_t deadline = os_now_ns() + DEADLINE;
    while (!readable(handle)) {
        assert_true(os_now_ns() < deadline);
    }
    turn_until(h, io, P2P_IN);
    hand_over(h);
    assert_true(readable(handle)); /* level-triggered too */
    want(h, io, 0);
    turn(h, 0);
    turn(h, 0); /* nothing is left over */
    hand_over(h);
    assert_false(readable(handle));
    h->ops->wake(h->backend);
    assert_true(readable(handle));
    turn(h, 0);
    assert_false(readable(handle));
    forget_all(h);
    close_pair(ends);
}

typedef struct late_waker {
    harness *h;
    int64_t at;
} late_waker;

static void wake_in_time(void *data) {
    late_waker *w = data;
    while (os_now_ns() < w->at) {
        os_yield();
    }
    w->h->ops->wake(w->h->backend);
}

/* Without a time-out, at whose end poll looks once more. */
static void what_another_thread_does_ends_a_wait_for_the_handle(void **state) {
    harness *h = *state;
    p2p_handle_t handle = h->ops->handle != NULL ? h->ops->handle(h->backend) : P2P_INVALID_HANDLE;
    if (handle == P2P_INVALID_HANDLE) {
        test_skip("backend %s has no handle", h->ops->name);
    }
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    for (int i = 0; i < 4; i++) {
        sender s = { ends[1], os_now_ns() + 10 * MILLISECOND };
        late_waker w = { h, s.at };
        os_thread thread;
        turn(h, 0);
        hand_over(h);
        assert_int_equal(i < 2 ? os_thread_start(&thread, wake_in_time, &w)
                               : os_thread_start(&thread, send_in_time, &s), 0);
        assert_true(os_poll(handle, POLLIN, -1) > 0);
        os_thread_join(&thread);
        if (i >= 2) {
            turn_until(h, io, P2P_IN);
            char byte;
            assert_int_equal(os_recv(ends[0], &byte, 1), 1);
        }
    }
    forget_all(h);
    close_pair(ends);
}

static void c60_the_own_handle_cannot_be_added(void **state) {
    harness *h = *state;
    p2p_handle_t handle = h->ops->handle != NULL ? h->ops->handle(h->backend) : P2P_INVALID_HANDLE;
    if (handle == P2P_INVALID_HANDLE) {
        test_skip("backend %s has no handle", h->ops->name);
    }
    test_io *io = attach(h, handle, P2P_IO_FOREIGN);
    assert_true(try_want(h, io, P2P_IN) < 0);
    forget(h, io);
    expect_quiet(h, 5 * MILLISECOND);
}

static const struct CMUnitTest cases[] = {
    CASE(c40_fractions_of_a_millisecond_round_up),
    CASE(c44_huge_timeouts_are_accepted),
    CASE(c44_huge_timeouts_last_until_something_happens),
    CASE(what_another_thread_does_ends_a_wait_for_the_handle),
    CASE(c60_the_own_handle_cannot_be_added),
    CASE(c64_a_wake_before_the_wait_ends_it),
    CASE(c64_two_wakes_before_the_wait_are_not_lost),
    CASE(c64_a_million_wakes_neither_block_nor_stay),
    CASE(c64_a_wake_from_another_thread_ends_the_wait),
    CASE(c64_a_wake_does_not_keep_a_ready_socket_from_being_told),
    CASE(the_handle_is_readable_while_events_wait),
};
const case_group wake_cases = CASE_GROUP(cases);
