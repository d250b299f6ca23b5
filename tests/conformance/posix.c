/* What only POSIX systems have: files as handles, numbers of handles, their limit, child processes, signals; and what
 * they alone show. */
#include "cases.h"
#include "groups.h"

#if defined(_WIN32)

const case_group posix_cases = { NULL, 0 };

#else

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- handles ---- */

static void c09_a_regular_file_is_refused(void **state) {
    harness *h = *state;
    FILE *file = tmpfile();
    assert_non_null(file);
    test_io *io = attach(h, fileno(file), P2P_IO_FOREIGN);
    assert_int_equal(try_want(h, io, P2P_IN), -EPERM);
    expect_quiet(h, 5 * MILLISECOND);
    forget_all(h);
    fclose(file);
}

/* On systems where select's limit is real the handle is refused; here there is none. */
static void c53_a_handle_beyond_fd_setsize_works_or_is_refused(void **state) {
    harness *h = *state;
    if (handles_to_spare(1600) < 1600) {
        test_skip("this process may not have 1600 handles");
    }
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *low = add(h, ends[0], P2P_IN);
    test_io *writable = add(h, ends[1], P2P_OUT);
    static const int minimums[] = { 1023, 1024, 1500 };
    for (size_t i = 0; i < 3; i++) {
        int handle = fcntl(ends[0], F_DUPFD, minimums[i]);
        assert_true(handle >= minimums[i]);
        test_io *io = attach(h, handle, 0);
        int result = try_want(h, io, P2P_OUT);
        assert_true(result == 0 || result == -ERANGE);
        if (result == 0) {
            turn_until(h, io, P2P_OUT);
        }
        forget(h, io);
        os_close(handle);
    }
    turn_until(h, writable, P2P_OUT); /* growth keeps what there was */
    want(h, writable, 0);
    expect_quiet(h, 5 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, low, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

/* Windows does not tell of it. */
static void c55_a_shutdown_of_receiving_is_readable(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    os_shutdown_receive(ends[0]);
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void create_survives_a_lack_of_handles(void **state) {
    harness *h = *state;
    harness_destroy(h);
    struct rlimit limit, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int next = fcntl(0, F_DUPFD, 0);
    assert_true(next >= 0);
    os_close(next);
    int result = P2P_ERR_TOO_MANY_FILES;
    for (unsigned spare = 0; result == P2P_ERR_TOO_MANY_FILES; spare++) {
        assert_true(spare < 20);
        low = limit;
        low.rlim_cur = (rlim_t)next + spare;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        result = harness_create(h);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (result != 0) {
            expect_clean_failure(h, result, P2P_ERR_TOO_MANY_FILES);
        }
    }
    assert_int_equal(result, 0);
}

/* ---- child processes ---- */

/* A child that holds all handles until `hold` is closed. */
static pid_t fork_holder(int hold[2], void (*act)(harness *h), harness *h) {
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte;
        os_close(hold[1]);
        if (act != NULL) {
            act(h);
        }
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    os_close(hold[0]);
    return child;
}

static void end_holder(pid_t child, int hold[2]) {
    int status;
    os_close(hold[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void c23_a_handle_a_child_inherited_makes_no_wakeups(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2], hold[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    pid_t child = fork_holder(hold, NULL, h);
    forget(h, io);
    os_close(ends[0]);
    send_text(ends[1], "x");
    expect_quiet(h, 50 * MILLISECOND);
    end_holder(child, hold);
    os_close(ends[1]);
}

static void c23_a_child_that_destroys_its_copy_leaves_the_parent_alone(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2], hold[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    pid_t child = fork_holder(hold, harness_destroy, h);
    end_holder(child, hold);
    expect_quiet(h, 5 * MILLISECOND);
    int64_t begin = os_now_ns();
    assert_int_equal(h->ops->wake(h->backend), 0);
    assert_int_equal(turn(h, DEADLINE), 0);
    assert_true(os_now_ns() - begin < DEADLINE);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void finish_all(harness *h, const group_all *all) {
    if (all->receiving != NULL) {
        peer_sends(all->receiving, 3000);
        receive_all(h, all->receiving);
    }
    if (all->accepting != NULL) {
        p2p_handle_t client = tcp_connecting(all->port);
        while (all->accepting->accepted_count == 0) {
            if (!all->accepting->armed) {
                start(h, all->accepting);
            }
            turn(h, 10 * MILLISECOND);
        }
        os_close(client);
    }
    for (uint64_t read = 0; all->sending != NULL && read < all->filled + 5000;) {
        read = peer_reads(all->sending, read);
        turn(h, MILLISECOND);
    }
    peer_sends(all->waited_for, 1);
    turn_until(h, all->waited_for->io, P2P_IN);
}

static void c23_a_child_that_destroys_its_copy_ends_nothing_that_is_under_way(void **state) {
    harness *h = *state;
    for (int turns = 0; turns < 4; turns++) {
        p2p_handle_t hold[2];
        group_all all = group_start_all(h);
        for (int waits = 0; waits < turns; waits++) {
            turn(h, 0);
        }
        end_holder(fork_holder(hold, group_destroy, h), hold);
        finish_all(h, &all);
        recycle_to(h, 0);
        forget_all(h);
    }
}

/* ---- signals ---- */

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

typedef struct signaller {
    pthread_t waiter;
    atomic_bool end;
} signaller;

static void signal_without_end(void *data) {
    signaller *s = data;
    while (!atomic_load(&s->end)) {
        pthread_kill(s->waiter, SIGUSR1);
        os_yield();
    }
}

static void c47_signals_end_a_wait_early_at_most(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    signaller s = { .waiter = pthread_self() };
    os_thread thread;
    handle_signal(do_nothing);
    assert_int_equal(os_thread_start(&thread, signal_without_end, &s), 0);
    for (int i = 0; i < 50; i++) { /* turn() fails on a negative result */
        assert_int_equal(turn(h, 2 * MILLISECOND), 0);
    }
    atomic_store(&s.end, true);
    os_thread_join(&thread);
    handle_signal(SIG_DFL);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static const struct CMUnitTest cases[] = {
    CASE(c09_a_regular_file_is_refused),
    CASE(c23_a_handle_a_child_inherited_makes_no_wakeups),
    CASE(c23_a_child_that_destroys_its_copy_leaves_the_parent_alone),
    GROUP_CASE(c23_a_child_that_destroys_its_copy_ends_nothing_that_is_under_way),
    CASE(c47_signals_end_a_wait_early_at_most),
    CASE(c53_a_handle_beyond_fd_setsize_works_or_is_refused),
    CASE(c55_a_shutdown_of_receiving_is_readable),
    CASE(b11_wake_may_be_called_in_a_signal_handler),
    CASE(create_survives_a_lack_of_handles),
};
const case_group posix_cases = CASE_GROUP(cases);

#endif
