/* Connecting inside a loop: one answer, never inside the call, whatever happens meanwhile. */
#include "echo.h"
#include "probe.h"


static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

/* A fresh socket, added to the loop. */
static void add_fresh(probe *p, p2p_event_loop_t *loop, const p2p_socket_callbacks_t *callbacks) {
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_non_null(sock);
    probe_add(p, loop, sock, callbacks);
}

/* A port of 127.0.0.1 where nobody listens. */
static uint16_t dead_port(void) {
    uint16_t port;
    os_close(raw_listen(&port, 1));
    return port;
}

/* A listener whose queue is full, so that further attempts to connect stay without an answer. */
typedef struct full_listener {
    p2p_handle_t fd, inside[8];
    uint16_t port;
} full_listener;

static void full_listener_open(full_listener *full) {
    full->fd = raw_listen(&full->port, 0);
    for (size_t i = 0; i < COUNT_OF(full->inside); i++) {
        struct sockaddr_in address = os_loopback(full->port);
        full->inside[i] = os_socket(AF_INET, SOCK_STREAM);
        assert_int_equal(os_set_nonblocking(full->inside[i], true), 0);
        os_connect(full->inside[i], (struct sockaddr *)&address, sizeof address);
    }
}

static void full_listener_close(full_listener *full) {
    for (size_t i = 0; i < COUNT_OF(full->inside); i++) os_close(full->inside[i]);
    os_close(full->fd);
}

/* ---- success ---- */

static void success_is_told_once_and_not_inside_the_call(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    assert_string_equal(p.trace, "");
    RUN_UNTIL(loop, p.connects > 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "c");
    assert_int_equal(p.connect_error, 0);
    p.fd = loop_accept(loop, listener);
    assert_int_equal(p2p_message_send_data(p.sock, "hello", 5), 0);
    loop_expect_text(loop, p.fd, "hello");
    assert_true(raw_send_text(p.fd, "answer"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.text, "answer|");
    probe_close(&p);
    expect_error(p.reason, 0);
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void after_success_an_idle_connection_causes_no_wakeups(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    RUN_UNTIL(loop, p.connects > 0);
    loop_settle(loop);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).wakeups, wakeups);
    probe_close(&p);
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void without_on_connect_success_is_silent_and_the_socket_works(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, NULL);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    p.fd = loop_accept(loop, listener);
    assert_true(raw_send_text(p.fd, "hello"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.trace, "r");
    p2p_socket_close(p.sock);
    loop_settle(loop);
    os_close(p.fd);
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void messages_sent_before_the_answer_are_queued(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "one", 3), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "two", 3), 0);
    p.fd = loop_accept(loop, listener);
    loop_expect_text(loop, p.fd, "one");
    loop_expect_text(loop, p.fd, "two");
    RUN_UNTIL(loop, p.connects == 1);
    probe_close(&p);
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void a_send_on_a_fresh_socket_is_NOT_CONNECTED(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_message_send_data(p.sock, "x", 1), P2P_ERR_NOT_CONNECTED);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void an_attempt_begun_outside_is_answered_inside(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    uint16_t ports[2] = { port, dead_port() };
    for (int i = 0; i < 2; i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
        int result = p2p_socket_connect(sock, "127.0.0.1", ports[i]);
        if (result == P2P_ERR_WOULD_BLOCK) {
            probe_add(&p, loop, sock, &probe_by_read);
            RUN_UNTIL(loop, p.connects > 0);
            loop_settle(loop);
            assert_string_equal(p.trace, "c");
            expect_error(p.connect_error, i == 0 ? 0 : P2P_ERR_REFUSED);
            probe_close(&p);
        } else {
            p2p_socket_close(sock); /* loopback answered at once */
        }
        p2p_event_loop_free(loop);
    }
    os_close(listener);
}

static void connect_from_on_connect(probe *p, char what) {
    probe *second = p->data;
    if (what != 'c') return;
    add_fresh(second, p->loop, &probe_by_read);
    p2p_address_t peer;
    assert_int_equal(p2p_socket_peer_address(p->sock, &peer), 0);
    assert_int_equal(p2p_socket_connect(second->sock, NULL, (uint16_t)p2p_address_port(&peer)), 0);
}

static void a_callback_may_begin_another_attempt(void **state) {
    (void)state;
    probe second = { 0 }, first = { .hook = connect_from_on_connect, .data = &second };
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, true);
    add_fresh(&first, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(first.sock, "127.0.0.1", server.port), 0);
    RUN_UNTIL(loop, second.connects == 1);
    assert_int_equal(p2p_message_send_data(second.sock, "both ends in one loop", 21), 0);
    RUN_UNTIL(loop, second.messages == 1);
    assert_string_equal(second.text, "both ends in one loop|");
    probe_close(&first);
    probe_close(&second);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void a_fresh_socket_in_a_loop_can_also_listen(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_event_loop_add_socket(loop, sock, NULL, NULL), 0);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_listen(sock, 0), 0);
    p2p_handle_t fd = raw_connect(socket_port(sock));
    assert_true(fd != P2P_INVALID_HANDLE);
    p2p_socket_t *client = NULL;
    RUN_UNTIL(loop, (client = p2p_socket_accept(sock)) != NULL);
    p2p_socket_close(client);
    p2p_socket_close(sock);
    os_close(fd);
    p2p_event_loop_free(loop);
}

/* ---- failure ---- */

static void a_refusal_is_told_once_by_on_connect(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    int result = p2p_socket_connect(p.sock, "127.0.0.1", dead_port());
    assert_string_equal(p.trace, "");
    assert_int_equal(result, 0);
    p2p_message_send_data(p.sock, "lost", 4);
    RUN_UNTIL(loop, p.connects > 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "c");
    expect_error(p.connect_error, P2P_ERR_REFUSED);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).wakeups, wakeups);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    probe_close(&p);
    assert_string_equal(p.trace, "cx");
    p2p_event_loop_free(loop);
}

static void told(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock;
    int *errors = user_data;
    errors[0]++;
    errors[1] = error;
}

static void without_on_connect_a_refusal_is_told_once_by_on_error(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), NULL, NULL, NULL, told, NULL, NULL
    };
    int errors[2] = { 0, 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, errors), 0);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", dead_port()), 0);
    RUN_UNTIL(loop, errors[0] > 0);
    loop_settle(loop);
    assert_int_equal(errors[0], 1);
    expect_error(errors[1], P2P_ERR_REFUSED);
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

/* If a function that takes a callback returns an error, the callback never runs. */
static void an_attempt_that_fails_in_the_call_is_not_answered_again(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "no address", 1), P2P_ERR_BAD_ADDRESS);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), P2P_ERR_ALREADY);
    RUN_UNTIL(loop, p.connects > 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "c");
    assert_int_equal(p.connect_error, 0);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), P2P_ERR_ALREADY);
    probe_close(&p);
    os_close(listener);
    p2p_event_loop_free(loop);
}

/* ---- closed meanwhile ---- */

static void close_right_after_the_call_is_followed_by_on_close_only(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 4);
    uint16_t ports[2] = { port, dead_port() };
    for (int i = 0; i < 4; i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        add_fresh(&p, loop, &probe_by_read);
        assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", ports[i / 2]), 0);
        if (i % 2 == 0) {
            p2p_socket_close(p.sock);
        } else {
            p2p_socket_abort(p.sock);
        }
        assert_string_equal(p.trace, "");
        RUN_UNTIL(loop, p.closes > 0);
        loop_settle(loop);
        assert_string_equal(p.trace, "x");
        p2p_event_loop_free(loop);
    }
    os_close(listener);
}

static void close_while_nobody_answers_is_followed_by_on_close_only(void **state) {
    (void)state;
    full_listener full;
    full_listener_open(&full);
    for (int i = 0; i < 3; i++) {
        p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
        probe p = { 0 };
        options.drain_timeout_ms = 1;
        p2p_event_loop_t *loop = loop_create(&options);
        add_fresh(&p, loop, &probe_by_read);
        assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", full.port), 0);
        if (i == 2) assert_int_equal(p2p_message_send_data(p.sock, "queued", 6), 0);
        loop_settle(loop);
        assert_string_equal(p.trace, "");
        if (i == 0) {
            p2p_socket_abort(p.sock);
        } else {
            p2p_socket_close(p.sock);
        }
        p2p_event_loop_run(loop); /* returns when the remainder, too, is gone */
        assert_int_equal(p2p_last_error(), 0);
        assert_string_equal(p.trace, "x");
        p2p_event_loop_free(loop);
    }
    full_listener_close(&full);
}

static void what_was_queued_is_delivered_although_closed_before_the_answer(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    char text[8] = { 0 };
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "goodbye", 7), 0);
    p2p_socket_close(p.sock);
    p2p_handle_t fd = loop_accept(loop, listener);
    assert_int_equal(loop_recv_frame(loop, fd, text, 7), 7);
    assert_string_equal(text, "goodbye");
    assert_int_equal(loop_recv_end(loop, fd), 0);
    os_close(fd);
    p2p_event_loop_run(loop);
    assert_string_equal(p.trace, "x");
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void remove_while_connecting_gives_the_socket_back(void **state) {
    (void)state;
    full_listener full;
    probe p = { 0 };
    full_listener_open(&full);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", full.port), 0);
    loop_settle(loop);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    p2p_socket_close(p.sock);
    p2p_event_loop_free(loop);
    full_listener_close(&full);
}

static void freeing_the_loop_while_connecting_leaves_the_socket_to_its_owner(void **state) {
    (void)state;
    full_listener full;
    probe p = { 0 };
    full_listener_open(&full);
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", full.port), 0);
    loop_settle(loop);
    p2p_event_loop_free(loop);
    assert_string_equal(p.trace, "");
    p2p_socket_close(p.sock);
    full_listener_close(&full);
}

static void close_on_connect(probe *p, char what) {
    if (what == 'c') p2p_socket_close(p->sock);
}

static void close_inside_on_connect(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 4);
    uint16_t ports[2] = { port, dead_port() };
    for (int i = 0; i < 2; i++) {
        probe p = { .hook = close_on_connect };
        p2p_event_loop_t *loop = loop_create(NULL);
        add_fresh(&p, loop, &probe_by_read);
        assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", ports[i]), 0);
        p2p_event_loop_run(loop);
        assert_string_equal(p.trace, "cx");
        p2p_event_loop_free(loop);
    }
    os_close(listener);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(success_is_told_once_and_not_inside_the_call),
        CASE(after_success_an_idle_connection_causes_no_wakeups),
        CASE(without_on_connect_success_is_silent_and_the_socket_works),
        CASE(messages_sent_before_the_answer_are_queued),
        CASE(a_send_on_a_fresh_socket_is_NOT_CONNECTED),
        CASE(an_attempt_begun_outside_is_answered_inside),
        CASE(a_callback_may_begin_another_attempt),
        CASE(a_fresh_socket_in_a_loop_can_also_listen),
        CASE(a_refusal_is_told_once_by_on_connect),
        CASE(without_on_connect_a_refusal_is_told_once_by_on_error),
        CASE(an_attempt_that_fails_in_the_call_is_not_answered_again),
        CASE(close_right_after_the_call_is_followed_by_on_close_only),
        CASE(close_while_nobody_answers_is_followed_by_on_close_only),
        CASE(what_was_queued_is_delivered_although_closed_before_the_answer),
        CASE(remove_while_connecting_gives_the_socket_back),
        CASE(freeing_the_loop_while_connecting_leaves_the_socket_to_its_owner),
        CASE(close_inside_on_connect),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
