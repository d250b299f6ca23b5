/* Handles that were closed, duplicated or inherited behind the backend's back. */
#include "cases.h"

#include <stdatomic.h>

static void c22_a_closed_handle_with_a_duplicate_makes_no_wakeups(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    p2p_handle_t duplicate = duplicate_of(ends[0]);
    test_io *io = add(h, ends[0], P2P_IN);
    forget(h, io);
    os_close(ends[0]);
    send_text(ends[1], "x");
    expect_quiet(h, 50 * MILLISECOND);
    os_close(duplicate);
    os_close(ends[1]);
}

/* Turn for a while after handles were closed: each may be told about once, and nothing may spin. */
static void expect_at_most_one_event_each(harness *h, test_io *const *closed, size_t count) {
    int returns = 0;
    for (int64_t end = os_now_ns() + 50 * MILLISECOND, left; (left = end - os_now_ns()) > 0; returns++) {
        turn(h, left);
    }
    assert_in_range(returns, 1, (int)count + 4);
    for (size_t i = 0; i < count; i++) {
        assert_in_range(closed[i]->events, 0, 1);
        assert_int_equal(closed[i]->seen & (P2P_IN | P2P_OUT), 0);
    }
}

/*
 * A kernel that keeps the set forgets a closed handle without a word; who asks about each handle must tell. It may
 * do so no sooner than the wait ends for another reason: WSAPoll marks a closed handle, but waits on for the rest.
 */
static void expect_told(harness *h, const test_io *closed) {
    int64_t deadline = os_now_ns() + DEADLINE;
    while (!(h->ops->caps & P2P_CAP_SCALES) && !(closed->seen & P2P_ERR)) {
        assert_true(os_now_ns() < deadline);
        turn(h, MILLISECOND);
    }
}

static void c25_a_socket_closed_without_remove_disturbs_no_other(void **state) {
    harness *h = *state;
    p2p_handle_t first[2], second[2], third[2];
    tcp_pair(first);
    tcp_pair(second);
    tcp_pair(third);
    add(h, first[0], P2P_IN);
    test_io *closed = add(h, second[0], P2P_IN | P2P_OUT);
    test_io *last = add(h, third[0], P2P_IN);
    os_close(second[0]);
    expect_at_most_one_event_each(h, &closed, 1);
    send_text(third[1], "x");
    turn_until(h, last, P2P_IN);
    forget(h, closed);
    turn_until(h, last, P2P_IN);
    forget_all(h);
    close_pair(first);
    os_close(second[1]);
    close_pair(third);
}

static void c26_all_sockets_closed_without_remove(void **state) {
    harness *h = *state;
    enum { COUNT = 5 };
    p2p_handle_t ends[COUNT][2];
    test_io *closed[COUNT];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        closed[i] = add(h, ends[i][0], P2P_IN | P2P_OUT);
    }
    h->capacity = 2; /* so that they don't fit in one wait */
    for (int i = 0; i < COUNT; i++) {
        os_close(ends[i][0]);
        os_close(ends[i][1]);
    }
    expect_at_most_one_event_each(h, closed, COUNT);
    for (int i = 0; i < COUNT; i++) {
        expect_told(h, closed[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_in_range(closed[i]->events, 0, 1);
    }
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
    tcp_pair(ends[0]);
    test_io *io = add(h, ends[0][0], P2P_OUT);
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    expect_quiet(h, 20 * MILLISECOND);
    close_pair(ends[0]);
}

/* WSAPoll does not count the closed one in what it returns. */
static void c25_one_closed_among_many_that_are_quiet_is_told_once(void **state) {
    enum { COUNT = 50, CLOSED = 20 };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_IN);
    }
    os_close(ends[CLOSED][0]);
    expect_at_most_one_event_each(h, &h->ios[CLOSED], 1);
    expect_told(h, h->ios[CLOSED]);
    expect_quiet(h, 20 * MILLISECOND);
    assert_in_range(h->ios[CLOSED]->events, 0, 1);
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
    for (int i = 0; i < COUNT; i++) {
        if (i != CLOSED) {
            send_text(ends[i][1], "x");
            turn_until(h, h->ios[i], P2P_IN);
        }
    }
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        if (i != CLOSED) {
            os_close(ends[i][0]);
        }
        os_close(ends[i][1]);
    }
}

typedef struct closer {
    harness *h;
    p2p_handle_t handle;
    atomic_bool go;
    int yields; /* for the thread to come before the wait as well as in it */
} closer;

static void close_and_wake(void *data) {
    closer *c = data;
    while (!atomic_load(&c->go)) {
        os_yield();
    }
    for (int i = 0; i < c->yields; i++) {
        os_yield();
    }
    os_close(c->handle);
    c->h->ops->wake(c->h->backend);
}

/* Whether the system ends the wait by itself, or goes on as if nothing had been: the wake ends it, nothing spins. */
static void c27_a_socket_closed_by_another_thread_during_the_wait(void **state) {
    harness *h = *state;
    p2p_handle_t kept[2];
    tcp_pair(kept);
    test_io *other = add(h, kept[0], P2P_IN);
    for (int round = 0; round < 40; round++) {
        p2p_handle_t ends[2];
        tcp_pair(ends);
        test_io *io = add(h, ends[0], P2P_IN);
        closer c = { .h = h, .handle = ends[0], .yields = round * 25 };
        os_thread thread;
        assert_int_equal(os_thread_start(&thread, close_and_wake, &c), 0);
        int64_t begin = os_now_ns();
        atomic_store(&c.go, true);
        turn(h, DEADLINE);
        assert_true(os_now_ns() - begin < DEADLINE);
        os_thread_join(&thread);
        expect_told(h, io);
        turn(h, 0); /* the closing and the wake may be two returns */
        assert_in_range(io->events, 0, 2); /* select says first that a read would not wait, which is true */
        clear(h);
        expect_quiet(h, MILLISECOND);
        assert_int_equal(io->events, 0);
        forget(h, io);
        os_close(ends[1]);
    }
    expect_quiet(h, 5 * MILLISECOND);
    send_text(kept[1], "x");
    turn_until(h, other, P2P_IN);
    forget_all(h);
    close_pair(kept);
}

/* The number of a socket that was properly removed goes to a new one: nothing of the old one is left. */
static void c21_a_reused_handle_number_starts_afresh(void **state) {
    harness *h = *state;
    p2p_handle_t old_ends[2], new_ends[2];
    tcp_pair(old_ends);
    tcp_pair(new_ends);
    send_text(old_ends[1], "x");
    test_io *io = add(h, old_ends[0], P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_IN | P2P_OUT);
    forget(h, io);
    os_close(old_ends[0]);
    assert_int_equal(os_duplicate_as(new_ends[0], old_ends[0]), 0);
    io = add(h, old_ends[0], P2P_IN);
    expect_quiet(h, 20 * MILLISECOND);
    send_text(new_ends[1], "y");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(old_ends);
    close_pair(new_ends);
}

/* A socket closed without remove comes back under its number, and its owner asks for interest again. */
static void c25_a_closed_and_reopened_handle_can_be_asked_for_again(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    p2p_handle_t other = duplicate_of(ends[0]);
    p2p_handle_t number = ends[0];
    forget(h, add(h, other, P2P_IN));
    os_close(other);
    os_close(number);
    os_close(ends[1]);
    expect_at_most_one_event_each(h, &io, 1);
    tcp_pair(ends);
    if (ends[1] == number) {
        ends[1] = ends[0];
    } else if (ends[0] != number) {
        assert_int_equal(os_duplicate_as(ends[0], number), 0);
        os_close(ends[0]);
    }
    want(h, io, P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_OUT);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    os_close(number);
    os_close(ends[1]);
}

static p2p_handle_t wake_ends[2];

static int noting_wake_open(p2p_handle_t ends[2]) {
    int result = p2p_sys_default()->wake_open(ends);
    wake_ends[0] = ends[0];
    wake_ends[1] = ends[1];
    return result;
}

/* A program that closes all it does not know, as daemons do, must not find its loop spinning. */
static void c26_a_closed_wake_up_ends_the_waiting_or_is_not_noticed(void **state) {
    harness *h = *state;
    harness_destroy(h);
    h->sys.wake_open = noting_wake_open;
    wake_ends[0] = P2P_INVALID_HANDLE;
    assert_int_equal(harness_create(h), 0);
    if (wake_ends[0] == P2P_INVALID_HANDLE) {
        test_skip("backend %s does not use wake_open", h->ops->name);
    }
    p2p_handle_t spare = duplicate_of(wake_ends[0]);
    os_close(wake_ends[0]);
    p2p_backend_event events[4];
    int returns = 0, result = 0;
    int64_t end = os_now_ns() + 30 * MILLISECOND;
    for (int64_t left; result == 0 && (left = end - os_now_ns()) > 0; returns++) {
        h->in_wait = true;
        result = h->ops->wait(h->backend, events, 4, left);
        h->in_wait = false;
    }
    assert_int_equal(os_duplicate_as(spare, wake_ends[0]), 0); /* for destroy to close */
    os_close(spare);
    assert_in_range(returns, 1, 4);
    assert_true(result == 0 || result == NOT_A_HANDLE);
}

static const struct CMUnitTest cases[] = {
    CASE(c21_a_reused_handle_number_starts_afresh),
    CASE(c22_a_closed_handle_with_a_duplicate_makes_no_wakeups),
    CASE(c25_a_socket_closed_without_remove_disturbs_no_other),
    CASE(c25_a_closed_and_reopened_handle_can_be_asked_for_again),
    CASE(c26_all_sockets_closed_without_remove),
    CASE(c25_one_closed_among_many_that_are_quiet_is_told_once),
    CASE(c27_a_socket_closed_by_another_thread_during_the_wait),
    CASE(c26_a_closed_wake_up_ends_the_waiting_or_is_not_noticed),
};
const case_group stale_cases = CASE_GROUP(cases);
