/*
 * What only Windows has: a WSAPoll that may say nothing of a connect that failed, calls that it refuses, the
 * wake-up by a connection. On Windows before 10 2004, WSAPoll is as the one that is put in its place here.
 */
#include "cases.h"

#if !defined(_WIN32)

const case_group win32_cases = { NULL, 0 };

#else

#include <stdatomic.h>
#include <string.h>

/* ---- a system that hides failed connects ---- */

enum { HIDING_MAX = 64 };

static p2p_sys_ops noting;                 /* the harness's table */
static unsigned polls, selects;
static int64_t fake_now_ns;                /* 0: the real clock counts */

static int64_t now_ns(void) {
    return fake_now_ns != 0 ? fake_now_ns : os_now_ns();
}

/* Poll those that are not hidden. Whoever has failed without having had a peer is hidden now. @return how many. */
static int poll_and_hide(struct pollfd *fds, uint32_t count, bool *hidden, int64_t timeout_ns, int *result) {
    struct pollfd shown[HIDING_MAX];
    uint32_t shown_count = 0;
    int newly_hidden = 0;
    for (uint32_t i = 0; i < count; i++) {
        fds[i].revents = 0;
        if (!hidden[i]) {
            shown[shown_count++] = fds[i];
        }
    }
    *result = noting.poll(shown, shown_count, timeout_ns);
    for (uint32_t i = 0, k = 0; *result >= 0 && i < count; i++) {
        if (hidden[i]) {
            continue;
        }
        fds[i].revents = shown[k++].revents;
        if ((fds[i].revents & (POLLERR | POLLHUP)) && !(fds[i].revents & POLLNVAL) && os_peer_port(fds[i].fd) < 0) {
            fds[i].revents = 0;
            hidden[i] = true;
            newly_hidden++;
            *result -= 1;
        }
    }
    return newly_hidden;
}

/* On the fake clock nothing is waited for: when nobody is ready, its time-out has passed. */
static int hiding_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    bool hidden[HIDING_MAX] = { false };
    bool is_fake = fake_now_ns != 0;
    int64_t begin_ns = now_ns();
    assert_in_range(count, 1, HIDING_MAX);
    polls++;
    for (;;) {
        int64_t left_ns = timeout_ns < 0 ? -1 : timeout_ns - (now_ns() - begin_ns);
        left_ns = timeout_ns >= 0 && left_ns < 0 ? 0 : left_ns;
        int result;
        int newly_hidden = poll_and_hide(fds, count, hidden, is_fake ? 0 : left_ns, &result);
        bool any = result != 0;
        for (uint32_t i = 0; i < count; i++) { /* a closed handle is not in the result */
            any = any || fds[i].revents != 0;
        }
        if (is_fake && !any) {
            assert_true(timeout_ns >= 0); /* else this wait would never end */
            fake_now_ns += timeout_ns;
        }
        if (any || is_fake || newly_hidden == 0) {
            return result;
        }
    }
}

static int counting_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    selects++;
    return noting.select(nfds, readable, writable, exceptional, timeout_ns);
}

static void hide_failed_connects(harness *h) {
    noting = h->sys;
    polls = selects = 0;
    fake_now_ns = 0;
    h->sys.poll = hiding_poll;
    h->sys.select = counting_select;
    h->sys.now_ns = now_ns;
}

/* In waits that nothing limits: that the system says nothing must not make one last. */
static void wait_until(harness *h, test_io *io, uint32_t flags) {
    int64_t deadline = os_now_ns() + DEADLINE;
    do {
        assert_true(os_now_ns() < deadline);
        turn(h, DEADLINE);
    } while ((io->now & flags) != flags);
}

/* Connects to a port where nobody listens, which have failed although the system may not have said so. */
typedef struct refusal {
    p2p_handle_t client, keeper;
} refusal;

static refusal make_refusal(void) {
    uint16_t port;
    refusal r;
    r.keeper = refusing_port(&port);
    r.client = tcp_connecting(port);
    return r;
}

static void wait_for_refusal(const refusal *r) {
    int64_t deadline = os_now_ns() + DEADLINE;
    for (int error = 0; error == 0;) {
        assert_true(os_now_ns() < deadline);
        assert_int_equal(os_get_option(r->client, SOL_SOCKET, SO_ERROR, &error), 0);
    }
}

static void close_refusal(const refusal *r) {
    os_close(r->client);
    os_close(r->keeper);
}

static void b04_a_refused_connect_is_found_that_poll_never_reports(void **state) {
    static const uint32_t masks[] = { P2P_OUT, P2P_IN | P2P_OUT };
    harness *h = *state;
    hide_failed_connects(h);
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        refusal r = make_refusal();
        test_io *io = add(h, r.client, masks[i]);
        int64_t begin = os_now_ns();
        wait_until(h, io, P2P_OUT | P2P_ERR);
        print_message("found after %d ms\n", (int)((os_now_ns() - begin) / MILLISECOND));
        assert_true(polls == 0 || selects > 0); /* WSAPoll can't have told it */
        wait_until(h, io, P2P_OUT | P2P_ERR); /* level-triggered too (B3) */
        wait_until(h, io, P2P_OUT | P2P_ERR);
        want(h, io, 0);
        expect_quiet(h, 20 * MILLISECOND);
        want(h, io, masks[i]); /* it is asked anew whether there is a peer */
        wait_until(h, io, P2P_OUT | P2P_ERR);
        forget_all(h);
        close_refusal(&r);
    }
}

/* How long it takes, on a clock that only waiting moves. */
static void b04_a_refused_connect_that_poll_never_reports_is_found_within_a_second(void **state) {
    harness *h = *state;
    hide_failed_connects(h);
    refusal r = make_refusal();
    wait_for_refusal(&r);
    int64_t begin = fake_now_ns = os_now_ns();
    test_io *io = add(h, r.client, P2P_OUT);
    int returns = 0;
    for (; io->seen == 0; returns++) {
        assert_in_range(returns, 0, 20);
        turn(h, DEADLINE);
    }
    assert_int_equal(io->seen, P2P_OUT | P2P_ERR);
    print_message("found after %d ms of waiting\n", (int)((fake_now_ns - begin) / MILLISECOND));
    assert_true(fake_now_ns - begin <= 1000 * MILLISECOND);
    forget_all(h);
    fake_now_ns = 0;
    close_refusal(&r);
}

/* Only who waits by WSAPoll has to look elsewhere for failed connects; for the others select is the wait itself. */
static void expect_no_look(harness *h) {
    unsigned before = selects;
    expect_quiet(h, 150 * MILLISECOND);
    assert_true(polls == 0 || selects == before);
}

static void b04_the_look_for_refused_connects_ends_with_them(void **state) {
    harness *h = *state;
    hide_failed_connects(h);
    expect_no_look(h);
    refusal r = make_refusal();
    uint16_t port;
    p2p_handle_t listener = tcp_listener(&port);
    p2p_handle_t client = tcp_connecting(port);
    test_io *refused = add(h, r.client, P2P_OUT);
    test_io *connected = add(h, client, P2P_OUT);
    wait_until(h, refused, P2P_OUT | P2P_ERR);
    assert_true(polls == 0 || selects > 0);
    forget(h, refused);
    wait_until(h, connected, P2P_OUT);
    assert_int_equal(connected->now, P2P_OUT);
    want(h, connected, P2P_IN);
    expect_no_look(h);
    want(h, connected, P2P_IN | P2P_OUT); /* output that had to wait */
    wait_until(h, connected, P2P_OUT);
    want(h, connected, P2P_IN);
    expect_no_look(h);
    forget_all(h);
    expect_no_look(h);
    close_refusal(&r);
    os_close(client);
    os_close(listener);
}

static void b04_of_several_connects_at_once_each_has_its_own_end(void **state) {
    enum { COUNT = 5, REMOVED = 2 };
    harness *h = *state;
    hide_failed_connects(h);
    refusal r[COUNT];
    test_io *refused[COUNT];
    uint16_t port;
    p2p_handle_t listener = tcp_listener(&port);
    p2p_handle_t client = P2P_INVALID_HANDLE;
    test_io *connected = NULL;
    for (int i = 0; i < COUNT; i++) {
        r[i] = make_refusal();
        refused[i] = add(h, r[i].client, P2P_OUT);
        if (i == 1) {
            client = tcp_connecting(port);
            connected = add(h, client, P2P_OUT);
        }
    }
    forget(h, refused[REMOVED]); /* turn() fails on an event of it */
    for (int i = 0; i < COUNT; i++) {
        if (i != REMOVED) {
            wait_until(h, refused[i], P2P_OUT | P2P_ERR);
            forget(h, refused[i]);
        }
    }
    wait_until(h, connected, P2P_OUT);
    assert_int_equal(connected->seen, P2P_OUT);
    want(h, connected, P2P_IN);
    expect_no_look(h);
    p2p_handle_t server = os_accept(listener);
    assert_true(server != P2P_INVALID_HANDLE);
    send_text(server, "x");
    wait_until(h, connected, P2P_IN);
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        close_refusal(&r[i]);
    }
    os_close(server);
    os_close(client);
    os_close(listener);
}

/* With more of them than room for events, all have their turn (B3). */
static void b04_each_of_more_refused_connects_than_fit_is_found(void **state) {
    enum { COUNT = 5 };
    harness *h = *state;
    hide_failed_connects(h);
    refusal r[COUNT];
    for (int i = 0; i < COUNT; i++) {
        r[i] = make_refusal();
        add(h, r[i].client, P2P_OUT);
    }
    for (int i = 0; i < COUNT; i++) {
        wait_for_refusal(&r[i]);
    }
    h->capacity = 2;
    turn_until(h, h->ios[0], P2P_OUT | P2P_ERR);
    for (int waits = 0; waits < 2 * COUNT; waits++) {
        turn(h, DEADLINE);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(h->ios[i]->seen, P2P_OUT | P2P_ERR);
    }
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        close_refusal(&r[i]);
    }
}

/* Sockets that are always ready may fill each wait; on a clock that stands still but for a millisecond a wait. */
static void b04_a_refused_connect_is_found_beside_sockets_that_are_always_ready(void **state) {
    enum { COUNT = 3 };
    harness *h = *state;
    hide_failed_connects(h);
    refusal r = make_refusal();
    wait_for_refusal(&r);
    fake_now_ns = os_now_ns();
    p2p_handle_t ends[COUNT][2];
    test_io *busy[COUNT];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        busy[i] = add(h, ends[i][0], P2P_OUT);
    }
    test_io *refused = add(h, r.client, P2P_OUT);
    h->capacity = COUNT - 1;
    for (int waits = 0; refused->seen == 0; waits++) {
        assert_in_range(waits, 0, 1000);
        turn(h, DEADLINE);
        fake_now_ns += MILLISECOND;
    }
    assert_int_equal(refused->seen, P2P_OUT | P2P_ERR);
    forget(h, refused);
    for (int i = 0; i < COUNT; i++) {
        turn_until(h, busy[i], P2P_OUT);
    }
    forget_all(h);
    fake_now_ns = 0;
    close_refusal(&r);
    for (int i = 0; i < COUNT; i++) {
        close_pair(ends[i]);
    }
}

/* select as a whole refuses a set with a closed handle in it. */
static void b04_a_connect_closed_behind_the_back_hides_no_other(void **state) {
    harness *h = *state;
    hide_failed_connects(h);
    refusal closed = make_refusal(), r = make_refusal();
    test_io *gone = add(h, closed.client, P2P_OUT);
    test_io *refused = add(h, r.client, P2P_OUT);
    os_close(closed.client);
    wait_until(h, refused, P2P_OUT | P2P_ERR);
    assert_int_equal(gone->events, 1);
    assert_int_equal(gone->seen & P2P_ERR, P2P_ERR);
    forget_all(h);
    os_close(closed.keeper);
    close_refusal(&r);
}

/* Connects to a listener that accepts nobody, until one has to wait. @return how many there are. */
static int connect_until_one_waits(uint16_t port, p2p_handle_t *clients, int count_max) {
    int count = 0;
    while (count < count_max) {
        clients[count++] = tcp_connecting(port);
        if (os_poll(clients[count - 1], POLLOUT, 50) == 0) {
            break;
        }
    }
    return count;
}

static void b04_a_connect_under_way_makes_few_wakeups(void **state) {
    enum { COUNT_MAX = 8, RETURNS_MAX = 20 };
    harness *h = *state;
    hide_failed_connects(h);
    uint16_t port;
    p2p_handle_t clients[COUNT_MAX];
    p2p_handle_t listener = refusing_port(&port);
    assert_int_equal(os_listen(listener, 1), 0);
    int count = connect_until_one_waits(port, clients, COUNT_MAX);
    p2p_handle_t client = clients[count - 1];
    bool is_under_way = os_peer_port(client) < 0;
    test_io *io = add(h, client, P2P_OUT);
    for (int round = 0; is_under_way && round < 2; round++) {
        int returns = 0;
        int64_t end = os_now_ns() + 250 * MILLISECOND;
        for (int64_t left; (left = end - os_now_ns()) > 0; returns++) {
            turn(h, left);
        }
        assert_in_range(returns, 1, RETURNS_MAX);
        assert_true(polls == 0 || selects > 0);
        assert_true(polls == 0 || selects <= (unsigned)(RETURNS_MAX * (round + 1)));
        want(h, io, 0);
        expect_no_look(h);
        want(h, io, P2P_OUT);
    }
    forget_all(h);
    expect_no_look(h);
    while (count > 0) {
        os_close(clients[--count]);
    }
    os_close(listener);
    if (!is_under_way) {
        test_skip("a full listener refuses connects here, so that none stays under way");
    }
}

static int broken_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    (void)nfds, (void)readable, (void)writable, (void)exceptional, (void)timeout_ns;
    return -os_number(ENOBUFS);
}

static int broken_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity,
                            int64_t timeout_ns) {
    (void)port, (void)results, (void)capacity, (void)timeout_ns;
    return -os_number(ENOBUFS);
}

/* wsapoll waits in select then, which can fail as well. */
static void b02_a_wait_that_fails_beside_a_connect_is_told(void **state) {
    harness *h = *state;
    p2p_backend_event event;
    refusal r = make_refusal();
    noting = h->sys;
    add(h, r.client, P2P_OUT);
    h->sys.select = broken_select;
    h->sys.port_wait = broken_port_wait;
    h->in_wait = true;
    assert_int_equal(h->ops->wait(h->backend, &event, 1, DEADLINE), -os_number(ENOBUFS));
    h->in_wait = false;
    h->sys.port_wait = noting.port_wait; /* which is needed to destroy the instance */
    forget_all(h);
    close_refusal(&r);
}

/* ---- what the system refuses ---- */

/* What makes the other cases notice a call that Windows would refuse and Wine takes. */
static void the_table_refuses_what_windows_refuses(void **state) {
    harness *h = *state;
    static const short bits[] = { POLLPRI, POLLRDBAND, POLLWRBAND, POLLERR, POLLHUP, POLLNVAL };
    p2p_handle_t ends[2];
    tcp_pair(ends);
    h->in_wait = true;
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        struct pollfd entry = { .fd = ends[0], .events = (short)(POLLWRNORM | bits[i]) };
        assert_int_equal(h->sys.poll(&entry, 1, 0), -os_number(EINVAL));
    }
    struct pollfd entry = { .fd = ends[0], .events = POLLRDNORM | POLLWRNORM };
    assert_int_equal(h->sys.poll(&entry, 0, 0), -os_number(EINVAL));
    assert_int_equal(h->sys.poll(&entry, 1, 0), 1);
    fd_set empty, writable;
    FD_ZERO(&empty);
    FD_ZERO(&writable);
    FD_SET(ends[0], &writable);
    assert_int_equal(h->sys.select(0, NULL, NULL, NULL, 0), -os_number(EINVAL));
    assert_int_equal(h->sys.select(0, &empty, &empty, &empty, 0), -os_number(EINVAL));
    assert_int_equal(h->sys.select(0, &empty, &writable, NULL, 0), -os_number(EINVAL));
    assert_int_equal(h->sys.select(0, NULL, &writable, NULL, 0), 1);
    h->in_wait = false;
    assert_int_equal(h->bad_waits, sizeof(bits) / sizeof(bits[0]) + 4);
    h->bad_waits = 0; /* they were meant */
    close_pair(ends);
}

static void c09_a_handle_that_is_no_socket_is_refused(void **state) {
    harness *h = *state;
    p2p_handle_t file = os_null_device();
    test_io *io = attach(h, file, P2P_IO_FOREIGN);
    assert_int_equal(try_want(h, io, P2P_IN), NOT_A_HANDLE);
    expect_quiet(h, 5 * MILLISECOND);
    forget_all(h);
    os_close(file);
}

/* ---- the wake-up ---- */

static atomic_uint signals;

static int counting_wake_signal(p2p_handle_t end) {
    atomic_fetch_add(&signals, 1);
    return p2p_sys_default()->wake_signal(end);
}

static int counting_port_post(p2p_handle_t port) {
    atomic_fetch_add(&signals, 1);
    return p2p_sys_default()->port_post(port);
}

/* Winsock takes hundreds of thousands of bytes before it says that there is no room. */
static void c64_a_hundred_thousand_wakes_leave_one_signal(void **state) {
    harness *h = *state;
    h->sys.wake_signal = counting_wake_signal;
    h->sys.port_post = counting_port_post;
    for (int round = 1; round <= 3; round++) {
        atomic_store(&signals, 0);
        for (int i = 0; i < 100000; i++) {
            assert_int_equal(h->ops->wake(h->backend), 0);
        }
        assert_int_equal(atomic_load(&signals), 1);
        wait_to_be_woken(h);
        expect_quiet(h, 20 * MILLISECOND);
    }
}

static int failing_wake_signal(p2p_handle_t end) {
    (void)end;
    return -os_number(ENOBUFS);
}

static int failing_port_post(p2p_handle_t port) {
    (void)port;
    return -os_number(ENOBUFS);
}

static void c64_a_wake_that_failed_is_not_taken_for_one_under_way(void **state) {
    harness *h = *state;
    p2p_sys_ops good = h->sys;
    h->sys.wake_signal = failing_wake_signal;
    h->sys.port_post = failing_port_post;
    assert_int_equal(h->ops->wake(h->backend), -os_number(ENOBUFS));
    h->sys = good;
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
    expect_quiet(h, 5 * MILLISECOND);
}

static harness *draining;

static int woken_while_draining(p2p_handle_t end) {
    assert_int_equal(draining->ops->wake(draining->backend), 0);
    return p2p_sys_default()->wake_drain(end);
}

static int woken_after_waiting(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity,
                               int64_t timeout_ns) {
    int count = p2p_sys_default()->port_wait(port, results, capacity, timeout_ns);
    assert_int_equal(draining->ops->wake(draining->backend), 0);
    return count;
}

/* Another thread may wake just when the wait that the last wake ended takes its byte away. */
static void c64_a_wake_while_the_last_one_is_taken_away_is_not_the_last_that_counts(void **state) {
    harness *h = *state;
    p2p_sys_ops good = h->sys;
    draining = h;
    h->sys.wake_drain = woken_while_draining;
    h->sys.port_wait = woken_after_waiting;
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
    h->sys = good;
    while (turn(h, 5 * MILLISECOND) != 0) { /* it may end one more wait */
    }
    assert_int_equal(h->ops->wake(h->backend), 0);
    wait_to_be_woken(h);
}

static p2p_handle_t wake_ends[2];

static int noted_wake_open(p2p_handle_t ends[2]) {
    int result = p2p_sys_default()->wake_open(ends);
    memcpy(wake_ends, ends, sizeof(wake_ends));
    return result;
}

/* Some programs cut connections of a machine with itself. A loop that nobody can wake must say so, and not spin. */
static void b02_a_wake_up_that_was_cut_ends_the_loop(void **state) {
    harness *h = *state;
    p2p_backend_event event;
    harness_destroy(h);
    h->sys.wake_open = noted_wake_open;
    wake_ends[1] = P2P_INVALID_HANDLE;
    assert_int_equal(harness_create(h), 0);
    if (wake_ends[1] == P2P_INVALID_HANDLE) {
        test_skip("backend %s does not use wake_open", h->ops->name);
    }
    assert_int_equal(os_shutdown_both(wake_ends[1]), 0);
    h->in_wait = true;
    assert_true(h->ops->wait(h->backend, &event, 1, DEADLINE) < 0);
    h->in_wait = false;
}

static void b11_a_wake_leaves_the_last_error_alone(void **state) {
    harness *h = *state;
    for (int i = 0; i < 3; i++) {
        WSASetLastError(WSAEWOULDBLOCK + i);
        assert_int_equal(h->ops->wake(h->backend), 0);
        assert_int_equal(WSAGetLastError(), WSAEWOULDBLOCK + i);
        wait_to_be_woken(h);
    }
}

static const struct CMUnitTest cases[] = {
    CASE(b04_a_refused_connect_is_found_that_poll_never_reports),
    CASE(b04_a_refused_connect_that_poll_never_reports_is_found_within_a_second),
    CASE(b04_the_look_for_refused_connects_ends_with_them),
    CASE(b04_of_several_connects_at_once_each_has_its_own_end),
    CASE(b04_each_of_more_refused_connects_than_fit_is_found),
    CASE(b04_a_refused_connect_is_found_beside_sockets_that_are_always_ready),
    CASE(b04_a_connect_closed_behind_the_back_hides_no_other),
    CASE(b04_a_connect_under_way_makes_few_wakeups),
    CASE(the_table_refuses_what_windows_refuses),
    CASE(c09_a_handle_that_is_no_socket_is_refused),
    CASE(c64_a_hundred_thousand_wakes_leave_one_signal),
    CASE(c64_a_wake_that_failed_is_not_taken_for_one_under_way),
    CASE(c64_a_wake_while_the_last_one_is_taken_away_is_not_the_last_that_counts),
    CASE(b02_a_wait_that_fails_beside_a_connect_is_told),
    CASE(b02_a_wake_up_that_was_cut_ends_the_loop),
    CASE(b11_a_wake_leaves_the_last_error_alone),
};
const case_group win32_cases = CASE_GROUP(cases);

#endif
