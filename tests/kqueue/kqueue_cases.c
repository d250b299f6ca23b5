/*
 * What backends/kqueue.c makes of what kqueue answers: the emulation below it is replaced, for one call or more, by
 * receipts and events that a case writes itself.
 */
#include "harness.h"

#include <string.h>
#include <sys/event.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the table's kevent ---- */

static struct {
    int16_t filter;          /* changes of this filter */
    int action;              /* and this flag */
    int error;               /* are answered by this; 0: nothing is replaced */
    bool is_made;            /* all the same */
    struct kevent events[8]; /* what the next waits give */
    int event_count;         /* 0: what there is */
    bool has_substitute;
    struct kevent substitute; /* an EVFILT_USER of a handle, which the emulation doesn't have */
    int64_t timeout_ns;
} script;

static int answer(int queue, const struct kevent *change, struct kevent *receipt) {
    bool is_scripted = script.error != 0 && change->filter == script.filter && (change->flags & script.action);
    bool is_substitute = change->filter == EVFILT_USER;
    if (is_substitute) {
        script.has_substitute = (change->flags & EV_ADD) != 0;
        script.substitute = *change;
    }
    if (is_substitute || (is_scripted && !script.is_made)) {
        *receipt = *change;
        receipt->data = 0;
    } else {
        assert_int_equal(test_system()->kevent(queue, change, 1, receipt, 1, 0), 1);
    }
    receipt->flags = EV_ERROR;
    if (is_scripted) receipt->data = script.error;
    return 1;
}

static int scripted_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events,
                           int capacity, int64_t timeout_ns) {
    script.timeout_ns = timeout_ns;
    if (change_count > 0 && capacity == 0) { /* the wake-up */
        return test_system()->kevent(queue, changes, change_count, events, capacity, timeout_ns);
    }
    int count = 0;
    for (int i = 0; i < change_count; i++) {
        assert_true(changes[i].flags & EV_RECEIPT);
        assert_in_range(count, 0, capacity - 1);
        count += answer(queue, &changes[i], &events[count]);
    }
    if (change_count > 0) return count;
    if (script.event_count > 0) {
        assert_in_range(script.event_count, 1, capacity);
        memcpy(events, script.events, (size_t)script.event_count * sizeof *events);
        return script.event_count;
    }
    if (script.has_substitute) events[count++] = script.substitute;
    return count + test_system()->kevent(queue, NULL, 0, events + count, capacity - count, count > 0 ? 0 : timeout_ns);
}

static int set_up(void **state) {
    int result = harness_set_up(state);
    memset(&script, 0, sizeof script);
    ((harness *)*state)->sys.kevent = scripted_kevent;
    return result;
}

static void fail_changes(int16_t filter, int action, int error) {
    script.filter = filter;
    script.action = action;
    script.error = error;
}

static struct kevent event_of(const test_io *io, int16_t filter, int flags, uint32_t fflags) {
    return (struct kevent){ .ident = (uintptr_t)io->io.handle,
                            .filter = filter,
                            .flags = (uint16_t)flags,
                            .fflags = fflags,
                            .udata = (void *)(uintptr_t)io->io.token };
}

/* ---- changes ---- */

static void the_first_filter_is_taken_out_again_when_the_second_is_refused(void **state) {
    static const int16_t refused[] = { EVFILT_WRITE, EVFILT_READ };
    static const uint32_t other[] = { P2P_IN, P2P_OUT };
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    for (int i = 0; i < 2; i++) {
        test_io *io = attach(h, ends[0], 0);
        fail_changes(refused[i], EV_ADD, ENOMEM);
        assert_int_equal(try_want(h, io, P2P_IN | P2P_OUT), -ENOMEM);
        expect_quiet(h, 5 * MILLISECOND);
        fail_changes(0, 0, 0);
        want(h, io, other[i]);
        turn_until(h, io, other[i]);
        forget(h, io);
    }
    close_pair(ends);
}

static void a_refused_filter_leaves_the_one_there_was(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    test_io *io = add(h, ends[0], P2P_IN);
    fail_changes(EVFILT_WRITE, EV_ADD, ENOMEM);
    assert_int_equal(try_want(h, io, P2P_IN | P2P_OUT), -ENOMEM);
    turn_until(h, io, P2P_IN);
    assert_int_equal(try_want(h, io, P2P_OUT), -ENOMEM);
    turn_until(h, io, P2P_IN); /* or turn() has failed on OUT */
    fail_changes(0, 0, 0);
    want(h, io, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static void what_a_delete_answers_is_no_failure(void **state) {
    static const int errors[] = { ENOENT, EBADF };
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    script.is_made = true;
    for (int i = 0; i < 2; i++) {
        test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
        fail_changes(EVFILT_READ, EV_DELETE, errors[i]);
        want(h, io, P2P_OUT);
        turn_until(h, io, P2P_OUT);
        want(h, io, P2P_IN | P2P_OUT);
        want(h, io, 0);
        expect_quiet(h, 2 * MILLISECOND);
        want(h, io, P2P_IN);
        forget(h, io);
    }
    close_pair(ends);
}

/* What closing a handle does, which may be open again by now. */
static void lose_filter(harness *h, const test_io *io, int16_t filter) {
    struct kevent deletion = event_of(io, filter, EV_DELETE, 0);
    assert_int_equal(test_system()->kevent((int)h->ops->handle(h->backend), &deletion, 1, NULL, 0, 0), 0);
}

static void interest_that_is_asked_for_anew_brings_back_a_filter_that_has_gone(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    test_io *io = add(h, ends[0], P2P_IN);
    lose_filter(h, io, EVFILT_READ);
    want(h, io, P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_IN | P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static void a_filter_that_has_gone_does_not_keep_the_other_from_being_deleted(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    lose_filter(h, io, EVFILT_READ);
    want(h, io, 0);
    expect_quiet(h, 5 * MILLISECOND);
    forget_all(h);
    close_pair(ends);
}

static void a_write_filter_refused_since_nobody_reads_counts_as_ready(void **state) {
    static const int errors[] = { EPIPE, EPERM };
    harness *h = *state;
    p2p_handle_t ends[2];
    for (int i = 0; i < 2; i++) {
        tcp_pair(ends);
        test_io *io = attach(h, ends[0], 0);
        fail_changes(EVFILT_WRITE, EV_ADD, errors[i]);
        want(h, io, P2P_OUT);
        turn_until(h, io, P2P_OUT | P2P_ERR);
        turn_until(h, io, P2P_OUT | P2P_ERR); /* level-triggered */
        send_text(ends[1], "x");
        want(h, io, P2P_IN | P2P_OUT);
        turn_until(h, io, P2P_IN | P2P_OUT | P2P_ERR);
        want(h, io, P2P_IN);
        turn_until(h, io, P2P_IN);
        assert_int_equal(io->now, P2P_IN);
        want(h, io, P2P_OUT);
        turn_until(h, io, P2P_OUT | P2P_ERR);
        fail_changes(0, 0, 0);
        want(h, io, P2P_IN | P2P_OUT); /* the kernel takes the filter now */
        turn_until(h, io, P2P_IN | P2P_OUT);
        assert_int_equal(io->now, P2P_IN | P2P_OUT);
        fail_changes(EVFILT_WRITE, EV_ADD, errors[i]);
        want(h, io, P2P_OUT);
        want(h, io, 0);
        expect_quiet(h, 2 * MILLISECOND);
        want(h, io, P2P_OUT);
        forget(h, io);
        assert_false(script.has_substitute);
        close_pair(ends);
    }
}

static void a_read_filter_refused_beside_the_substitute_takes_it_out(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = attach(h, ends[0], 0);
    script.has_substitute = true; /* as if it had been made before READ was refused */
    fail_changes(EVFILT_READ, EV_ADD, EPERM);
    assert_int_equal(try_want(h, io, P2P_IN | P2P_OUT), -EPERM);
    assert_false(script.has_substitute);
    expect_quiet(h, 2 * MILLISECOND);
    forget_all(h);
    close_pair(ends);
}

/* The kernel would let the second take the first one's place. */
static void a_handle_is_refused_while_the_kernel_knows_its_first_owner(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *first = add(h, ends[0], P2P_OUT), *second = attach(h, ends[0], 0);
    assert_int_equal(try_want(h, second, P2P_OUT), -EEXIST);
    turn_until(h, first, P2P_OUT);
    fail_changes(EVFILT_WRITE, EV_ENABLE, ENOENT); /* closed and opened anew */
    want(h, second, P2P_OUT);
    turn_until(h, second, P2P_OUT);
    forget(h, first); /* is no longer concerned */
    turn_until(h, second, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static int inspect_file(p2p_handle_t handle) {
    (void)handle;
    return (int)P2P_SYS_REGULAR_FILE;
}

/* The kernel would take the file. */
static void what_can_not_be_waited_for_is_refused(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    h->sys.inspect = inspect_file;
    assert_int_equal(try_want(h, attach(h, ends[0], P2P_IO_FOREIGN), P2P_OUT), -EPERM);
    assert_int_equal(try_want(h, attach(h, P2P_INVALID_HANDLE, 0), P2P_OUT), -EBADF);
    expect_quiet(h, 2 * MILLISECOND);
    forget_all(h);
    close_pair(ends);
}

/* ---- events ---- */

static void what_a_filter_tells(void **state) {
    static const struct {
        int16_t filter;
        int flags;
        uint32_t fflags, expected;
    } rows[] = {
        { EVFILT_READ, 0, 0, P2P_IN },
        { EVFILT_READ, EV_EOF, 0, P2P_IN }, /* the peer has ended its side; no hang-up */
        { EVFILT_READ, EV_EOF, ECONNRESET, P2P_IN | P2P_ERR },
        { EVFILT_WRITE, 0, 0, P2P_OUT },
        { EVFILT_WRITE, EV_EOF, 0, P2P_OUT | P2P_HUP },
        { EVFILT_WRITE, EV_EOF, ECONNREFUSED, P2P_OUT | P2P_HUP | P2P_ERR },
    };
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        script.events[0] = event_of(io, rows[i].filter, rows[i].flags, rows[i].fflags);
        script.events[0].data = 5; /* bytes before the end, or room */
        script.event_count = 1;
        assert_int_equal(turn(h, 0), 1);
        assert_int_equal(io->now, rows[i].expected);
    }
    forget_all(h);
    close_pair(ends);
}

static void the_filters_of_a_socket_become_one_event_wherever_they_stand(void **state) {
    harness *h = *state;
    enum { COUNT = 4 };
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        test_io *io = add(h, ends[i][0], P2P_IN | P2P_OUT);
        script.events[i] = event_of(io, EVFILT_READ, 0, 0);
        script.events[2 * COUNT - 1 - i] = event_of(io, EVFILT_WRITE, i == 2 ? EV_EOF : 0, 0);
    }
    script.event_count = 2 * COUNT;
    for (int turns = 0; turns < 3 * COUNT; turns++) { /* each begins somewhere else */
        assert_int_equal(turn(h, 0), COUNT);          /* turn() fails on a second event of a socket */
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(h->ios[i]->now, P2P_IN | P2P_OUT | (i == 2 ? P2P_HUP : 0));
        }
    }
    forget_all(h);
    for (int i = 0; i < COUNT; i++) close_pair(ends[i]);
}

static void a_wait_gives_no_more_than_there_is_room_for(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2][2];
    for (int i = 0; i < 2; i++) {
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_OUT);
        add(h, ends[i][1], P2P_OUT);
    }
    for (h->capacity = 1; h->capacity <= 4; h->capacity++) assert_int_equal(turn(h, 0), h->capacity);
    forget_all(h);
    close_pair(ends[0]);
    close_pair(ends[1]);
}

/* Harvested by the kernel before the socket was detached, and its handle another's: each keeps its own token. */
static void a_late_event_is_not_merged_with_that_of_the_handles_next_owner(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    p2p_backend_event events[4];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    script.events[0] = event_of(io, EVFILT_READ, 0, 0);
    uint64_t old_token = io->io.token;
    forget(h, io);
    io = add(h, ends[0], P2P_OUT);
    script.events[1] = event_of(io, EVFILT_WRITE, 0, 0);
    script.event_count = 2;
    h->in_wait = true;
    assert_int_equal(h->ops->wait(h->backend, events, 4, 0), 2);
    h->in_wait = false;
    assert_true(events[0].token == old_token && events[0].flags == P2P_IN);
    assert_true(events[1].token == io->io.token && events[1].flags == P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static void a_timeout_reaches_kevent_to_the_nanosecond(void **state) {
    static const int64_t timeouts[] = { 0, 1, 999999, 1000001 };
    harness *h = *state;
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        turn(h, timeouts[i]);
        assert_true(script.timeout_ns == timeouts[i]);
    }
}

/* ---- a child process, which has no queue ---- */

static void a_child_that_destroys_its_copy_closes_nothing_else_of_that_number(void **state) {
    harness *h = *state;
    int queue = (int)h->ops->handle(h->backend), status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool was_free = dup2(0, queue) == queue;
        harness_destroy(h);
        _exit(was_free && os_is_open(queue) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#define SCRIPTED(name) cmocka_unit_test_setup_teardown(name, set_up, harness_tear_down)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        SCRIPTED(the_first_filter_is_taken_out_again_when_the_second_is_refused),
        SCRIPTED(a_refused_filter_leaves_the_one_there_was),
        SCRIPTED(what_a_delete_answers_is_no_failure),
        SCRIPTED(interest_that_is_asked_for_anew_brings_back_a_filter_that_has_gone),
        SCRIPTED(a_filter_that_has_gone_does_not_keep_the_other_from_being_deleted),
        SCRIPTED(a_write_filter_refused_since_nobody_reads_counts_as_ready),
        SCRIPTED(a_read_filter_refused_beside_the_substitute_takes_it_out),
        SCRIPTED(a_handle_is_refused_while_the_kernel_knows_its_first_owner),
        SCRIPTED(what_can_not_be_waited_for_is_refused),
        SCRIPTED(what_a_filter_tells),
        SCRIPTED(the_filters_of_a_socket_become_one_event_wherever_they_stand),
        SCRIPTED(a_wait_gives_no_more_than_there_is_room_for),
        SCRIPTED(a_late_event_is_not_merged_with_that_of_the_handles_next_owner),
        SCRIPTED(a_timeout_reaches_kevent_to_the_nanosecond),
        SCRIPTED(a_child_that_destroys_its_copy_closes_nothing_else_of_that_number),
    };
    return p2p_test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
