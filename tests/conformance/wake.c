/* What ends a wait besides sockets: wake from any thread, signals, time. */
#include "cases.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/timerfd.h>
#endif

/* A wait that returns by its time-out only means that a wake was lost. */
static void wait_to_be_woken(harness *h) {
    int64_t begin = now_ns();
    assert_int_equal(turn(h, DEADLINE), 0);
    assert_true(now_ns() - begin < DEADLINE);
}

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
    pthread_t waiter;
    atomic_int asked, done; /* rounds */
    atomic_bool end;
} waker;

static void *wake_each_round(void *argument) {
    waker *w = argument;
    for (int round = 0; !atomic_load(&w->end);) {
        if (atomic_load(&w->asked) > round) {
            round++;
            w->h->ops->wake(w->h->backend);
            atomic_store(&w->done, round);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

/* The thread may come before the wait or in it: each time the wait must end. */
static void c64_a_wake_from_another_thread_ends_the_wait(void **state) {
    harness *h = *state;
    waker w = { .h = h };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_each_round, &w), 0);
    for (int round = 1; round <= 1000; round++) {
        atomic_store(&w.asked, round);
        wait_to_be_woken(h);
        while (atomic_load(&w.done) < round) {
            sched_yield();
        }
        while (turn(h, 0) != 0) { /* should the wait have ended early by itself, take the wake away */
        }
    }
    atomic_store(&w.end, true);
    pthread_join(thread, NULL);
    expect_quiet(h, 5 * MILLISECOND);
}

static void c64_a_wake_does_not_keep_a_ready_socket_from_being_told(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    h->capacity = 1;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(h->ops->wake(h->backend), 0);
        turn_until(h, io, P2P_OUT);
    }
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
}

static harness *signalled;

static void wake_in_handler(int number) {
    (void)number;
    signalled->ops->wake(signalled->backend);
}

static void do_nothing(int number) {
    (void)number;
}

static void handle_signal(void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler; /* no SA_RESTART: the wait is to see EINTR */
    sigemptyset(&action.sa_mask);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
}

static void b11_wake_may_be_called_in_a_signal_handler(void **state) {
    harness *h = *state;
    signalled = h;
    handle_signal(wake_in_handler);
    for (int i = 0; i < 100; i++) {
        errno = ERANGE;
        raise(SIGUSR1);
        assert_int_equal(errno, ERANGE);
        wait_to_be_woken(h);
    }
    handle_signal(SIG_DFL);
    expect_quiet(h, 5 * MILLISECOND);
}

static void *signal_without_end(void *argument) {
    waker *w = argument;
    while (!atomic_load(&w->end)) {
        pthread_kill(w->waiter, SIGUSR1);
        sched_yield();
    }
    return NULL;
}

static void c47_signals_end_a_wait_early_at_most(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    waker w = { .h = h, .waiter = pthread_self() };
    pthread_t thread;
    handle_signal(do_nothing);
    assert_int_equal(pthread_create(&thread, NULL, signal_without_end, &w), 0);
    for (int i = 0; i < 50; i++) { /* turn() fails on a negative result */
        assert_int_equal(turn(h, 2 * MILLISECOND), 0);
    }
    atomic_store(&w.end, true);
    pthread_join(thread, NULL);
    handle_signal(SIG_DFL);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
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
        int ends[2];
        tcp_pair(ends);
        test_io *io = add(h, ends[0], P2P_IN);
        assert_int_equal(h->ops->wake(h->backend), 0);
        assert_int_equal(turn(h, huge_timeouts_ns[i]), 0);
        send_text(ends[1], "x");
        while (!(io->seen & P2P_IN)) {
            turn(h, huge_timeouts_ns[i]);
        }
        forget_all(h);
        close(ends[0]);
        close(ends[1]);
    }
}

/* Cut to 32 bits, a huge time-out would make the loop spin. A kernel timer, which is a handle like any other,
 * ends the wait. */
static void c44_huge_timeouts_last_until_something_happens(void **state) {
    harness *h = *state;
#if defined(__linux__)
    if (!(h->ops->caps & P2P_CAP_ANY_FD)) {
        test_skip("backend %s waits for sockets only", h->ops->name);
    }
    for (size_t i = 0; i < sizeof(huge_timeouts_ns) / sizeof(huge_timeouts_ns[0]); i++) {
        struct itimerspec in_10_ms = { .it_value = { .tv_nsec = 10 * MILLISECOND } };
        int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        assert_true(timer >= 0);
        assert_int_equal(timerfd_settime(timer, 0, &in_10_ms, NULL), 0);
        test_io *io = add(h, timer, P2P_IN);
        int returns = 0;
        for (; io->seen == 0; returns++) {
            turn(h, huge_timeouts_ns[i]);
        }
        assert_in_range(returns, 1, 4);
        forget(h, io);
        close(timer);
    }
#else
    test_skip("backend %s: no timer handles on this system", h->ops->name);
#endif
}

static int readable(int handle) {
    struct pollfd entry = { .fd = handle, .events = POLLIN };
    return poll(&entry, 1, 0);
}

static void the_handle_is_readable_while_events_wait(void **state) {
    harness *h = *state;
    p2p_handle_t handle = h->ops->handle != NULL ? h->ops->handle(h->backend) : P2P_INVALID_HANDLE;
    if (handle == P2P_INVALID_HANDLE) {
        test_skip("backend %s has no handle", h->ops->name);
    }
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    turn(h, 0);
    assert_int_equal(readable(handle), 0);
    send_text(ends[1], "x");
    int64_t deadline = now_ns() + DEADLINE;
    while (readable(handle) == 0) {
        assert_true(now_ns() < deadline);
    }
    turn_until(h, io, P2P_IN);
    assert_int_equal(readable(handle), 1); /* level-triggered too */
    want(h, io, 0);
    turn(h, 0);
    assert_int_equal(readable(handle), 0);
    h->ops->wake(h->backend);
    assert_int_equal(readable(handle), 1);
    turn(h, 0);
    assert_int_equal(readable(handle), 0);
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
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
    CASE(c47_signals_end_a_wait_early_at_most),
    CASE(c60_the_own_handle_cannot_be_added),
    CASE(c64_a_wake_before_the_wait_ends_it),
    CASE(c64_two_wakes_before_the_wait_are_not_lost),
    CASE(c64_a_million_wakes_neither_block_nor_stay),
    CASE(c64_a_wake_from_another_thread_ends_the_wait),
    CASE(c64_a_wake_does_not_keep_a_ready_socket_from_being_told),
    CASE(b11_wake_may_be_called_in_a_signal_handler),
    CASE(the_handle_is_readable_while_events_wait),
};
const case_group wake_cases = CASE_GROUP(cases);
