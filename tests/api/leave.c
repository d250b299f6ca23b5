/*
 * Sockets that leave their loop, and a loop that is left, while something is under way: what a backend that completes
 * I/O by itself does in its own time must not show.
 */
#include "probe.h"

static void answer_and_stop(probe *p, char what) {
    if (what != 'm') return;
    assert_int_equal(p2p_message_send_data(p->sock, "bye", 3), 0);
    p2p_event_loop_stop(p->loop);
}

static void what_was_sent_before_stop_has_left_when_run_returns(void **state) {
    (void)state;
    char text[4];
    probe p = { .hook = answer_and_stop };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "end"));
    p2p_event_loop_run(loop);
    assert_int_equal(raw_recv_frame(p.fd, text, sizeof text), 3);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- connecting ---- */

static p2p_socket_t *connecting_in(p2p_event_loop_t *loop, probe *p, uint16_t port) {
    probe_add(p, loop, p2p_socket_create(P2P_TCP), &probe_by_read);
    assert_int_equal(p2p_socket_connect(p->sock, "127.0.0.1", port), 0);
    return p->sock;
}

static void a_socket_that_leaves_before_the_first_run_disturbs_nobody(void **state) {
    (void)state;
    probe closed = { 0 }, removed = { 0 }, stays = { 0 };
    uint16_t port;
    char text[8] = { 0 };
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    connecting_in(loop, &closed, port);
    probe_open(&removed, loop, &probe_by_message);
    probe_open(&stays, loop, &probe_by_message);
    assert_int_equal(p2p_message_send_data(removed.sock, "kept", 4), 0);
    p2p_socket_close(closed.sock);
    assert_int_equal(p2p_event_loop_remove_socket(loop, removed.sock), 0);
    assert_int_equal(p2p_message_send_data(removed.sock, "on", 2), 0); /* written now, behind the rest */
    assert_int_equal(raw_recv_frame(removed.fd, text, 8), 4);
    assert_int_equal(raw_recv_frame(removed.fd, text, 8), 2);
    assert_true(raw_send_text(stays.fd, "hello"));
    RUN_UNTIL(loop, stays.messages == 1 && closed.closes == 1);
    os_close(removed.fd);
    os_close(listener);
    p2p_socket_close(removed.sock);
    probe_close(&stays);
    p2p_event_loop_free(loop);
}

/* Before the backend had a chance to begin, and after. */
static void an_attempt_goes_on_outside_the_loop(void **state) {
    (void)state;
    uint16_t port;
    char text[8];
    p2p_handle_t listener = raw_listen(&port, 4);
    for (int begun = 0; begun < 2; begun++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_socket_t *sock = connecting_in(loop, &p, port);
        if (begun) p2p_event_loop_next_timeout(loop);
        assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), 0);
        assert_int_equal(p2p_message_send_data(sock, "hello", 5), 0);
        p2p_handle_t fd = raw_accept(listener);
        assert_int_equal(raw_recv_frame(fd, text, sizeof text), 5);
        assert_string_equal(p.trace, "");
        os_close(fd);
        p2p_socket_close(sock);
        p2p_event_loop_free(loop);
    }
    os_close(listener);
}

static void an_attempt_that_fails_tells_so_outside_the_loop(void **state) {
    (void)state;
    uint16_t port;
    os_close(raw_listen(&port, 1)); /* nobody is there any more */
    for (int begun = 0; begun < 2; begun++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_socket_t *sock = connecting_in(loop, &p, port);
        if (begun) p2p_event_loop_next_timeout(loop);
        assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), P2P_ERR_REFUSED);
        assert_string_equal(p.trace, "");
        p2p_socket_close(sock);
        p2p_event_loop_free(loop);
    }
}

static void an_attempt_goes_on_in_another_loop(void **state) {
    (void)state;
    uint16_t port;
    probe p = { 0 };
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *first = loop_create(NULL), *second = loop_create(NULL);
    p2p_socket_t *sock = connecting_in(first, &p, port);
    assert_int_equal(p2p_event_loop_remove_socket(first, sock), 0);
    probe_add(&p, second, sock, &probe_by_read);
    RUN_UNTIL(second, p.connects == 1);
    assert_int_equal(p.connect_error, 0);
    assert_int_equal(p2p_message_send_data(sock, "hello", 5), 0);
    p.fd = loop_accept(second, listener);
    loop_expect_text(second, p.fd, "hello");
    probe_close(&p);
    os_close(listener);
    p2p_event_loop_free(first);
    p2p_event_loop_free(second);
}

/* ---- the turn ---- */

static void close_other_and_look_at_the_time(probe *p, char what) {
    if (what != 'm') return;
    int64_t now_ns = p2p_event_loop_now(p->loop), begin_ns = clock_ns();
    while (clock_ns() < begin_ns + 2000000) {
    }
    p2p_socket_abort(((probe *)p->data)->sock);
    assert_true(p2p_event_loop_now(p->loop) == now_ns);
}

static void the_time_of_a_turn_stays_when_a_socket_leaves(void **state) {
    (void)state;
    probe other = { 0 }, p = { .hook = close_other_and_look_at_the_time, .data = &other };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    probe_open(&other, loop, &probe_by_message);
    loop_settle(loop);
    assert_true(raw_send_text(p.fd, "now"));
    RUN_UNTIL(loop, other.closes == 1);
    os_close(other.fd);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* A foreign loop may ask for the time-out and go to sleep, again and again; the handle must wake it when there is more
 * to do than it was told. */
static void messages_leave_while_a_foreign_loop_sleeps(void **state) {
    (void)state;
    probe p = { 0 };
    char text[8];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.write_timeout_ms = P2P_NO_TIMEOUT;
    p2p_event_loop_t *loop = loop_create(&options);
    p2p_handle_t handle = p2p_event_loop_backend_handle(loop);
    if (handle == P2P_INVALID_HANDLE) {
        p2p_event_loop_free(loop);
        test_skip("this backend has no handle to wait for");
    }
    probe_open(&p, loop, &probe_by_message);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(p2p_message_send_data(p.sock, "more", 4), 0);
        assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    }
    int64_t deadline_ns = clock_ns() + RAW_DEADLINE_S * 1000000000ll;
    for (int got = 0; got < 3;) {
        assert_true(clock_ns() < deadline_ns);
        if (raw_readable(p.fd)) {
            assert_int_equal(raw_recv_frame(p.fd, text, sizeof text), 4);
            got++;
        } else if (raw_readable(handle)) { /* else the foreign loop would sleep on */
            assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
            p2p_event_loop_next_timeout(loop);
        }
    }
    probe_close(&p);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_socket_that_leaves_before_the_first_run_disturbs_nobody),
        CASE(what_was_sent_before_stop_has_left_when_run_returns),
        CASE(an_attempt_goes_on_outside_the_loop),
        CASE(an_attempt_that_fails_tells_so_outside_the_loop),
        CASE(an_attempt_goes_on_in_another_loop),
        CASE(the_time_of_a_turn_stays_when_a_socket_leaves),
        CASE(messages_leave_while_a_foreign_loop_sleeps),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
