/* Handles that were closed, duplicated or inherited behind the backend's back. */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void c22_a_closed_handle_with_a_duplicate_makes_no_wakeups(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    int duplicate = dup(ends[0]);
    test_io *io = add(h, ends[0], P2P_IN);
    forget(h, io);
    close(ends[0]);
    send_text(ends[1], "x");
    expect_quiet(h, 50 * MILLISECOND);
    close(duplicate);
    close(ends[1]);
}

/* A child that holds all handles until `hold` is closed. */
static pid_t fork_holder(int hold[2], void (*act)(harness *h), harness *h) {
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte;
        close(hold[1]);
        if (act != NULL) {
            act(h);
        }
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(hold[0]);
    return child;
}

static void end_holder(pid_t child, int hold[2]) {
    int status;
    close(hold[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void c23_a_handle_a_child_inherited_makes_no_wakeups(void **state) {
    harness *h = *state;
    int ends[2], hold[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    pid_t child = fork_holder(hold, NULL, h);
    forget(h, io);
    close(ends[0]);
    send_text(ends[1], "x");
    expect_quiet(h, 50 * MILLISECOND);
    end_holder(child, hold);
    close(ends[1]);
}

static void c23_a_child_that_destroys_its_copy_leaves_the_parent_alone(void **state) {
    harness *h = *state;
    int ends[2], hold[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    pid_t child = fork_holder(hold, harness_destroy, h);
    end_holder(child, hold);
    expect_quiet(h, 5 * MILLISECOND);
    int64_t begin = now_ns();
    assert_int_equal(h->ops->wake(h->backend), 0);
    assert_int_equal(turn(h, DEADLINE), 0);
    assert_true(now_ns() - begin < DEADLINE);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
}

/* Turn for a while after handles were closed: each may be told about once, and nothing may spin. */
static void expect_at_most_one_event_each(harness *h, test_io *const *closed, size_t count) {
    int returns = 0;
    for (int64_t end = now_ns() + 50 * MILLISECOND, left; (left = end - now_ns()) > 0; returns++) {
        turn(h, left);
    }
    assert_in_range(returns, 1, (int)count + 4);
    for (size_t i = 0; i < count; i++) {
        assert_in_range(closed[i]->events, 0, 1);
        assert_int_equal(closed[i]->seen & (P2P_IN | P2P_OUT), 0);
    }
}

static void c25_a_socket_closed_without_remove_disturbs_no_other(void **state) {
    harness *h = *state;
    int first[2], second[2], third[2];
    tcp_pair(first);
    tcp_pair(second);
    tcp_pair(third);
    add(h, first[0], P2P_IN);
    test_io *closed = add(h, second[0], P2P_IN | P2P_OUT);
    test_io *last = add(h, third[0], P2P_IN);
    close(second[0]);
    expect_at_most_one_event_each(h, &closed, 1);
    send_text(third[1], "x");
    turn_until(h, last, P2P_IN);
    forget(h, closed);
    turn_until(h, last, P2P_IN);
    forget_all(h);
    close(first[0]);
    close(first[1]);
    close(second[1]);
    close(third[0]);
    close(third[1]);
}

static void c26_all_sockets_closed_without_remove(void **state) {
    harness *h = *state;
    enum { COUNT = 5 };
    int ends[COUNT][2];
    test_io *closed[COUNT];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        closed[i] = add(h, ends[i][0], P2P_IN | P2P_OUT);
    }
    h->capacity = 2; /* so that they don't fit in one wait */
    for (int i = 0; i < COUNT; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
    expect_at_most_one_event_each(h, closed, COUNT);
    forget_all(h);
    expect_quiet(h, 20 * MILLISECOND);
}

/* The number of a socket that was properly removed goes to a new one: nothing of the old one is left. */
static void c21_a_reused_handle_number_starts_afresh(void **state) {
    harness *h = *state;
    int old_ends[2], new_ends[2];
    tcp_pair(old_ends);
    tcp_pair(new_ends);
    send_text(old_ends[1], "x");
    test_io *io = add(h, old_ends[0], P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_IN | P2P_OUT);
    forget(h, io);
    close(old_ends[0]);
    assert_int_equal(fcntl(new_ends[0], F_DUPFD, old_ends[0]), old_ends[0]);
    io = add(h, old_ends[0], P2P_IN);
    expect_quiet(h, 20 * MILLISECOND);
    send_text(new_ends[1], "y");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close(old_ends[0]);
    close(old_ends[1]);
    close(new_ends[0]);
    close(new_ends[1]);
}

/* A socket closed without remove comes back under its number, and its owner asks for interest again. */
static void c25_a_closed_and_reopened_handle_can_be_asked_for_again(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    int other = dup(ends[0]);
    int number = ends[0];
    forget(h, add(h, other, P2P_IN));
    close(other);
    close(number);
    close(ends[1]);
    expect_at_most_one_event_each(h, &io, 1);
    tcp_pair(ends);
    if (ends[0] != number) {
        assert_int_equal(dup2(ends[0], number), number);
        close(ends[0]);
    }
    if (ends[1] == number) { /* cannot happen while the number was free for the first one */
        fail();
    }
    want(h, io, P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_OUT);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close(number);
    close(ends[1]);
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
    int spare = dup(wake_ends[0]);
    close(wake_ends[0]);
    p2p_backend_event events[4];
    int returns = 0, result = 0;
    int64_t end = now_ns() + 30 * MILLISECOND;
    for (int64_t left; result == 0 && (left = end - now_ns()) > 0; returns++) {
        h->in_wait = true;
        result = h->ops->wait(h->backend, events, 4, left);
        h->in_wait = false;
    }
    assert_int_equal(dup2(spare, wake_ends[0]), wake_ends[0]); /* for destroy to close */
    close(spare);
    assert_in_range(returns, 1, 4);
    assert_true(result == 0 || result == -EBADF);
}

static const struct CMUnitTest cases[] = {
    CASE(c21_a_reused_handle_number_starts_afresh),
    CASE(c22_a_closed_handle_with_a_duplicate_makes_no_wakeups),
    CASE(c23_a_handle_a_child_inherited_makes_no_wakeups),
    CASE(c23_a_child_that_destroys_its_copy_leaves_the_parent_alone),
    CASE(c25_a_socket_closed_without_remove_disturbs_no_other),
    CASE(c25_a_closed_and_reopened_handle_can_be_asked_for_again),
    CASE(c26_all_sockets_closed_without_remove),
    CASE(c26_a_closed_wake_up_ends_the_waiting_or_is_not_noticed),
};
const case_group stale_cases = CASE_GROUP(cases);
