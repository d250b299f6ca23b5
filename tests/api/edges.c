/*
 * Corners where several rules meet: ends behind full queues, attempts to connect that were begun elsewhere, marks
 * of one byte, calls in the last callback, loops being freed, raw bytes of a removed socket, odd addresses.
 */
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1024u * 1024u)

static uint8_t filling[MIB];

static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

/* A connection whose raw end has a small receive buffer, so that output soon piles up. */
static void open_small(probe *p, p2p_event_loop_t *loop, const p2p_socket_callbacks_t *callbacks) {
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    p2p_handle_t fd = raw_connect_small(port, 4096);
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    p2p_socket_close(listener);
    probe_add(p, loop, sock, callbacks);
    p->fd = fd;
}

/* Much more than the system's buffers hold. */
static p2p_event_loop_t *loop_with_much_room(uint32_t low_water) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.high_water = 16 * MIB;
    options.low_water = low_water;
    options.drain_timeout_ms = RAW_DEADLINE_S * 2000;
    return loop_create(&options);
}

static void fill(p2p_socket_t *sock, uint32_t length) {
    while (p2p_message_send_data(sock, filling, length) == 0) {
    }
    expect_error(p2p_last_error(), P2P_ERR_QUEUE_FULL);
}

/* @return what the raw end got; 0 when nothing waits. */
static size_t take_raw(p2p_handle_t fd, void *buffer, size_t size) {
    int64_t got = os_recv_now(fd, buffer, size);
    if (got < 0) assert_int_equal(got, -EAGAIN);
    return got > 0 ? (size_t)got : 0;
}

static void keep_waiting(probe *p, char what) {
    (void)p;
    (void)what;
}

/* ---- ends ---- */

static void take_one_and_answer_in_plenty(probe *p, char what) {
    if (what != 'r') return;
    probe_take_one(p);
    if (p->ends == 0) fill(p->sock, sizeof filling);
}

static void the_end_is_told_after_a_too_long_header_behind_a_full_queue(void **state) {
    (void)state;
    static const uint8_t bytes[] = { 0, 0, 0, 1, 'a', 0xff, 0xff, 0xff, 0xff };
    probe p = { .hook = take_one_and_answer_in_plenty };
    p2p_event_loop_t *loop = loop_with_much_room(1024);
    open_small(&p, loop, &probe_no_error);
    assert_true(raw_send(p.fd, bytes, sizeof bytes));
    RUN_UNTIL(loop, p.messages == 1);
    loop_settle(loop);
    raw_reset(p.fd);
    p.fd = P2P_INVALID_HANDLE;
    RUN_UNTIL(loop, p.ends == 1);
    loop_settle(loop);
    assert_int_equal(p.ends, 1);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void answer_ten_and_close_on_error(probe *p, char what) {
    if (what == 'e') p2p_socket_close(p->sock);
    if (what != 'm') return;
    for (int i = 0; i < 10; i++) assert_int_equal(p2p_message_send_data(p->sock, filling, sizeof filling), 0);
}

static void send_one_and_a_header_too_long(p2p_handle_t fd) {
    static const uint8_t bytes[] = { 0, 0, 0, 1, 'a', 0xff, 0xff, 0xff, 0xff };
    assert_true(raw_send(fd, bytes, sizeof bytes));
}

static void closed_after_a_too_long_header_a_connection_ends_with_its_peer(void **state) {
    (void)state;
    probe p = { .hook = answer_ten_and_close_on_error };
    p2p_event_loop_t *loop = loop_with_much_room(0);
    open_small(&p, loop, &probe_by_message);
    send_one_and_a_header_too_long(p.fd);
    RUN_UNTIL(loop, p.errors == 1);
    expect_error(p.error, P2P_ERR_TOO_LONG);
    loop_settle(loop);
    raw_reset(p.fd);
    RUN_UNTIL(loop, p.closes == 1); /* long before the drain deadline */
    assert_string_equal(p.trace, "mex");
    p2p_event_loop_free(loop);
}

static void closed_after_a_too_long_header_a_connection_delivers_its_answers_to_a_peer_that_sends_on(void **state) {
    (void)state;
    static uint8_t back[MIB];
    enum { TOTAL = 10 * (sizeof filling + P2P_FRAME_HEADER_SIZE) };
    size_t total = 0;
    probe p = { .hook = answer_ten_and_close_on_error };
    p2p_event_loop_t *loop = loop_with_much_room(0);
    probe_open(&p, loop, &probe_by_message);
    send_one_and_a_header_too_long(p.fd);
    RUN_UNTIL(loop, (total += take_raw(p.fd, back, sizeof back),
                     os_send_now(p.fd, filling, 1000), total >= TOTAL));
    assert_int_equal(total, TOTAL);
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    RUN_UNTIL(loop, p.closes == 1);
    p2p_event_loop_free(loop);
}

/* ---- nobody reads ---- */

/* Nothing is owed, and a wait is a wait. */
static void expect_idle(p2p_event_loop_t *loop) {
    loop_settle(loop);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    int64_t before_ns = clock_ns();
    assert_int_equal(p2p_event_loop_run_once(loop, 30), 0);
    assert_true(clock_ns() - before_ns >= 30 * 1000000);
}

static const p2p_socket_callbacks_t no_callbacks = P2P_SOCKET_CALLBACKS_INIT;

static void messages_that_nobody_reads_do_not_keep_the_loop_turning(void **state) {
    (void)state;
    for (int with_table = 0; with_table < 2; with_table++) {
        p2p_handle_t fd;
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_socket_t *sock = socket_pair(&fd);
        int added = with_table ? p2p_event_loop_add_socket_with(loop, sock, &no_callbacks, NULL)
                               : p2p_event_loop_add_socket(loop, sock, NULL, NULL);
        assert_int_equal(added, 0);
        assert_true(raw_send_text(fd, "one") && raw_send_text(fd, "two") && raw_fin(fd));
        RUN_UNTIL(loop, loop_stats(loop).bytes_in > 0);
        expect_idle(loop);
        p2p_socket_close(sock);
        os_close(fd);
        p2p_event_loop_free(loop);
    }
}

/* Take from outside of any callback. @return whether it is this text. */
static bool takes_text(p2p_socket_t *sock, const char *text) {
    p2p_message_t *message = p2p_message_recv(sock);
    if (message == NULL) return false;
    bool same = message->length == strlen(text) && memcmp(message->data, text, message->length) == 0;
    p2p_message_free(message);
    return same;
}

static void messages_that_nobody_reads_can_be_taken_outside_of_callbacks_and_then_the_end_is_told(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_event_loop_add_socket(loop, sock, NULL, NULL), 0);
    assert_true(raw_send_text(fd, "one") && raw_send_text(fd, "two") && raw_fin(fd));
    RUN_UNTIL(loop, takes_text(sock, "one"));
    RUN_UNTIL(loop, takes_text(sock, "two"));
    RUN_UNTIL(loop, p2p_message_recv(sock) == NULL && p2p_last_error() == P2P_ERR_CLOSED);
    expect_idle(loop);
    p2p_socket_close(sock);
    os_close(fd);
    p2p_event_loop_free(loop);
}

static const p2p_socket_callbacks_t *without_readers(void) {
    static p2p_socket_callbacks_t callbacks;
    callbacks = probe_by_read;
    callbacks.on_read = NULL;
    return &callbacks;
}

static void after_messages_taken_outside_of_callbacks_a_failure_is_told(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, without_readers());
    assert_true(raw_send_text(p.fd, "one"));
    RUN_UNTIL(loop, loop_stats(loop).bytes_in > 0);
    raw_reset(p.fd);
    p.fd = P2P_INVALID_HANDLE;
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    assert_true(takes_text(p.sock, "one"));
    RUN_UNTIL(loop, p.errors > 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "e");
    expect_error(p.error, P2P_ERR_RESET);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- attempts to connect that were begun elsewhere ---- */

/* A listener whose queue is full, so that attempts stay without an answer until it takes some, or closes. */
typedef struct stalled_listener {
    p2p_handle_t fd, inside[3], accepted[8];
    unsigned accepted_count;
    uint16_t port;
} stalled_listener;

static p2p_handle_t begin_connect(uint16_t port) {
    struct sockaddr_in address = os_loopback(port);
    p2p_handle_t fd = os_socket(AF_INET, SOCK_STREAM);
    assert_true(fd != P2P_INVALID_HANDLE);
    assert_int_equal(os_set_nonblocking(fd, true), 0);
    int result = os_connect(fd, (struct sockaddr *)&address, sizeof address);
    if (result != 0) assert_int_equal(result, -EINPROGRESS);
    return fd;
}

static void stalled_open(stalled_listener *stalled) {
    stalled->accepted_count = 0;
    stalled->fd = raw_listen(&stalled->port, 0);
    assert_int_equal(os_set_nonblocking(stalled->fd, true), 0);
    for (size_t i = 0; i < COUNT_OF(stalled->inside); i++) stalled->inside[i] = begin_connect(stalled->port);
}

static bool let_in(stalled_listener *stalled) {
    if (stalled->accepted_count == COUNT_OF(stalled->accepted)) return true;
    p2p_handle_t fd = os_accept(stalled->fd);
    if (fd != P2P_INVALID_HANDLE) stalled->accepted[stalled->accepted_count++] = fd;
    return true;
}

/* @return the raw end of this connection, or no handle: the system may still have it in its queue. */
static p2p_handle_t peer_of(const stalled_listener *stalled, const p2p_socket_t *sock) {
    for (unsigned i = 0; i < stalled->accepted_count; i++) {
        if (os_peer_port(stalled->accepted[i]) == socket_port(sock)) return stalled->accepted[i];
    }
    return P2P_INVALID_HANDLE;
}

static void stalled_refuse(stalled_listener *stalled) {
    if (stalled->fd != P2P_INVALID_HANDLE) os_close(stalled->fd);
    stalled->fd = P2P_INVALID_HANDLE;
}

static void stalled_close(stalled_listener *stalled) {
    stalled_refuse(stalled);
    for (size_t i = 0; i < COUNT_OF(stalled->inside); i++) os_close(stalled->inside[i]);
    for (unsigned i = 0; i < stalled->accepted_count; i++) os_close(stalled->accepted[i]);
}

static p2p_socket_t *connecting_socket(uint16_t port, bool adopted) {
    p2p_socket_t *sock = adopted ? p2p_socket_adopt(begin_connect(port), P2P_TCP) : p2p_socket_create(P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    expect_error(p2p_socket_connect(sock, "127.0.0.1", port), P2P_ERR_WOULD_BLOCK);
    return sock;
}

/* The system tries again a second after the first try. */
static void expect_one_answer(bool adopted, bool refused) {
    stalled_listener stalled;
    probe p = { 0 };
    stalled_open(&stalled);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, connecting_socket(stalled.port, adopted), &probe_by_read);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    if (refused) stalled_refuse(&stalled);
    RUN_UNTIL(loop, (refused || let_in(&stalled)) && p.connects > 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "c");
    expect_error(p.connect_error, refused ? P2P_ERR_REFUSED : 0);
    if (!refused) { /* a listener that was full may have dropped the last step: data makes the system repeat it soon */
        assert_int_equal(p2p_message_send_data(p.sock, "hello", 5), 0);
        RUN_UNTIL(loop, let_in(&stalled) && peer_of(&stalled, p.sock) != P2P_INVALID_HANDLE);
        loop_expect_text(loop, peer_of(&stalled, p.sock), "hello");
    }
    stalled_close(&stalled); /* before: it is the peer that p would wait for */
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void an_attempt_under_way_that_succeeds_in_a_loop_is_answered_once(void **state) {
    (void)state;
    expect_one_answer(false, false);
}

static void an_attempt_under_way_that_is_refused_in_a_loop_is_answered_once(void **state) {
    (void)state;
    expect_one_answer(false, true);
}

static void an_adopted_attempt_that_succeeds_in_a_loop_is_answered_once(void **state) {
    (void)state;
    expect_one_answer(true, false);
}

static void an_adopted_attempt_that_is_refused_in_a_loop_is_answered_once(void **state) {
    (void)state;
    expect_one_answer(true, true);
}

/* The loopback device refuses before anybody can look. */
static p2p_socket_t *adopt_refused(void) {
    uint16_t port;
    os_close(raw_listen(&port, 1));
    p2p_handle_t fd = begin_connect(port);
    p2p_socket_t *sock = p2p_socket_adopt(fd, P2P_TCP);
    assert_non_null(sock);
    return sock;
}

static void an_attempt_refused_before_it_was_adopted_is_answered_once(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, adopt_refused(), &probe_by_read);
    assert_string_equal(p.trace, "");
    RUN_UNTIL(loop, p.connects > 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "c");
    expect_error(p.connect_error, P2P_ERR_REFUSED);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void outside_a_loop_an_adopted_attempt_that_was_refused_is_told_and_can_be_tried_again(void **state) {
    (void)state;
    uint16_t port;
    char byte;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_socket_t *sock = adopt_refused();
    expect_error(p2p_socket_connect(sock, "127.0.0.1", port), P2P_ERR_REFUSED);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), 0);
    p2p_socket_close(sock);
    sock = adopt_refused();
    expect_error((int)p2p_socket_recv(sock, &byte, 1), P2P_ERR_REFUSED);
    expect_error((int)p2p_socket_send(sock, "x", 1), P2P_ERR_NOT_CONNECTED);
    p2p_socket_close(sock);
    os_close(listener);
}

static void raw_and_framed_calls_WOULD_BLOCK_while_connecting_and_work_afterwards(void **state) {
    (void)state;
    for (int adopted = 0; adopted < 2; adopted++) {
        stalled_listener stalled;
        char text[8] = { 0 };
        stalled_open(&stalled);
        p2p_socket_t *sock = connecting_socket(stalled.port, adopted);
        expect_error((int)p2p_socket_send(sock, "x", 1), P2P_ERR_WOULD_BLOCK);
        expect_error((int)p2p_socket_recv(sock, text, 1), P2P_ERR_WOULD_BLOCK);
        expect_error(p2p_message_send_data(sock, "x", 1), P2P_ERR_WOULD_BLOCK);
        assert_null(p2p_message_recv(sock));
        expect_error(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
        int64_t limit_ns = clock_ns() + RAW_DEADLINE_S * 1000000000ll, sent;
        while ((sent = p2p_socket_send(sock, "hello", 5)) == P2P_ERR_WOULD_BLOCK) {
            assert_true(clock_ns() < limit_ns);
            let_in(&stalled);
            os_poll(p2p_socket_handle(sock), POLLOUT, 5);
        }
        assert_int_equal(sent, 5);
        p2p_handle_t fd;
        while (let_in(&stalled) && (fd = peer_of(&stalled, sock)) == P2P_INVALID_HANDLE) {
            assert_true(clock_ns() < limit_ns);
        }
        assert_true(raw_recv(fd, text, 5) && raw_send(fd, "olleh", 5));
        assert_string_equal(text, "hello");
        socket_await_input(sock);
        assert_int_equal(p2p_socket_recv(sock, text, 5), 5);
        assert_string_equal(text, "olleh");
        p2p_socket_close(sock);
        stalled_close(&stalled);
    }
}

/* ---- marks ---- */

static void with_a_high_water_of_1_messages_go_out_one_by_one(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.high_water = 1;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(p2p_message_send_data(p.sock, "one", 3), 0);
        expect_error(p2p_message_send_data(p.sock, "another", 7), P2P_ERR_QUEUE_FULL);
        RUN_UNTIL(loop, p.writes == i + 1);
        loop_expect_text(loop, p.fd, "one");
    }
    assert_true(raw_send_text(p.fd, "input goes on"));
    RUN_UNTIL(loop, p.messages == 1);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void fill_then_take_one(probe *p, char what) {
    if (what != 'r' || p->messages > 0) return;
    fill(p->sock, 200000);
    probe_take_one(p);
}

static void the_first_message_of_on_read_is_given_although_the_callback_filled_the_queue(void **state) {
    (void)state;
    probe p = { .hook = fill_then_take_one };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_text(p.fd, "given"));
    RUN_UNTIL(loop, p.reads > 0);
    assert_string_equal(p.text, "given|");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void take_elsewhere_then_fill_and_take(probe *p, char what) {
    probe *other = p->data;
    if (what != 'r' || p->messages > 0) return;
    p2p_message_free(p2p_message_recv(other->sock));
    fill_then_take_one(p, what);
}

static void it_is_given_although_the_callback_took_from_another_socket_before(void **state) {
    (void)state;
    probe other = { .hook = keep_waiting }, p = { .hook = take_elsewhere_then_fill_and_take, .data = &other };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&other, loop, &probe_by_read);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_text(p.fd, "given"));
    RUN_UNTIL(loop, p.reads > 0);
    assert_string_equal(p.text, "given|");
    probe_close(&p);
    probe_close(&other);
    p2p_event_loop_free(loop);
}

static void fill_on_message_and_send_on_write(probe *p, char what) {
    if (what == 'm') fill(p->sock, 300000);
    if (what == 'w') assert_int_equal(p2p_message_send_data(p->sock, "x", 1), 0);
}

static void on_write_is_not_called_when_messages_have_filled_the_queue_again(void **state) {
    (void)state;
    static uint8_t forgotten[64 * 1024];
    uint8_t bytes[64];
    size_t length = 0;
    probe p = { .hook = fill_on_message_and_send_on_write };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    for (int i = 0; i < 4; i++) length += raw_frame(bytes + length, "a", 1);
    assert_true(raw_send(p.fd, bytes, length));
    RUN_UNTIL(loop, (take_raw(p.fd, forgotten, sizeof forgotten), p.messages == 4 && p.writes > 0));
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void accept_one(probe *p, char what) {
    p2p_socket_t **accepted = p->data;
    if (what == 'r') *accepted = p2p_socket_accept(p->sock);
}

static void after_an_accept_the_loop_owes_its_listener_no_turn(void **state) {
    (void)state;
    uint16_t port;
    p2p_socket_t *accepted = NULL, *listener = socket_listening(&port);
    probe p = { .hook = accept_one, .data = &accepted };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, listener, &probe_by_read);
    loop_settle(loop);
    for (unsigned i = 0; i < 5; i++) {
        p2p_handle_t fd = raw_connect(port);
        RUN_UNTIL(loop, p.reads == i + 1);
        assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
        p2p_socket_close(accepted);
        os_close(fd);
    }
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- the raw bytes of a removed socket ---- */

static void raw_bytes_after_remove_begin_with_what_the_loop_read_ahead(void **state) {
    (void)state;
    char text[32] = { 0 };
    probe p = { .hook = keep_waiting };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send(p.fd, "\0\0\0\5abcdeREST", 13));
    RUN_UNTIL(loop, p.reads > 0);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_int_equal(p2p_socket_recv(p.sock, text, 6), 6);
    assert_memory_equal(text, "\0\0\0\5ab", 6);
    assert_int_equal(p2p_socket_recv(p.sock, text, sizeof text), 7);
    assert_memory_equal(text, "cdeREST", 7);
    assert_true(raw_send(p.fd, "more", 4));
    assert_int_equal(p2p_socket_recv(p.sock, text, sizeof text), 4);
    assert_memory_equal(text, "more", 4);
    p2p_socket_close(p.sock);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void a_raw_send_after_remove_writes_the_rest_of_queued_messages_first(void **state) {
    (void)state;
    enum { COUNT = 12, FRAME = sizeof filling + P2P_FRAME_HEADER_SIZE, TOTAL = COUNT * FRAME + 3 };
    probe p = { 0 };
    uint8_t *expected = malloc(TOTAL), *back = malloc(TOTAL);
    assert_true(expected != NULL && back != NULL);
    p2p_event_loop_t *loop = loop_with_much_room(0);
    open_small(&p, loop, &probe_by_read);
    for (uint32_t i = 0; i < COUNT; i++) {
        raw_fill(filling, sizeof filling, i);
        raw_frame(expected + (size_t)i * FRAME, filling, sizeof filling);
        assert_int_equal(p2p_message_send_data(p.sock, filling, sizeof filling), 0);
    }
    memcpy(expected + TOTAL - 3, "RAW", 3);
    loop_settle(loop);
    assert_true(loop_stats(loop).output_queued > 0);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_int_equal(p2p_socket_set_nonblocking(p.sock, 1), 0);
    int64_t limit_ns = clock_ns() + RAW_DEADLINE_S * 1000000000ll, sent = P2P_ERR_WOULD_BLOCK;
    for (size_t got = 0; got < TOTAL; got += take_raw(p.fd, back + got, TOTAL - got)) {
        assert_true(clock_ns() < limit_ns);
        if (sent == P2P_ERR_WOULD_BLOCK) sent = p2p_socket_send(p.sock, "RAW", 3);
    }
    assert_int_equal(sent, 3);
    assert_memory_equal(back, expected, TOTAL);
    p2p_socket_close(p.sock);
    assert_int_equal(raw_recv_end(p.fd), 0);
    os_close(p.fd);
    p2p_event_loop_free(loop);
    free(expected);
    free(back);
}

/* ---- closing ---- */

/* The library has nothing queued any more, the system has: a reset now would take it from the peer. */
static void what_the_system_holds_arrives_although_closed_with_input_unread(void **state) {
    (void)state;
    enum { LENGTH = 40000 };
    static uint8_t back[LENGTH];
    for (int late = 0; late < 2; late++) { /* the unread input comes before the close, or after it */
        probe p = { .hook = keep_waiting };
        p2p_event_loop_t *loop = loop_create(NULL);
        open_small(&p, loop, &probe_by_read);
        raw_fill(filling, LENGTH, 7);
        assert_int_equal(p2p_message_send_data(p.sock, filling, LENGTH), 0);
        loop_settle(loop);
        assert_int_equal(loop_stats(loop).output_queued, 0);
        if (!late) assert_true(raw_send_text(p.fd, "unread"));
        p2p_socket_close(p.sock);
        if (late) assert_true(raw_send_text(p.fd, "unread"));
        loop_settle(loop);
        assert_int_equal(loop_recv_frame(loop, p.fd, back, LENGTH), LENGTH);
        assert_memory_equal(back, filling, LENGTH);
        assert_int_equal(loop_recv_end(loop, p.fd), 0);
        os_close(p.fd);
        RUN_UNTIL(loop, p.closes == 1);
        expect_error(p.reason, 0);
        p2p_event_loop_free(loop);
    }
}

static void a_peer_that_stays_open_is_not_reset_and_the_reason_is_0(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    char text[8] = { 0 };
    probe p = { 0 };
    options.drain_timeout_ms = 20;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_message_send_data(p.sock, "bye", 3), 0);
    p2p_socket_close(p.sock);
    RUN_UNTIL(loop, p.closes == 1);
    expect_error(p.reason, 0);
    assert_int_equal(raw_recv_frame(p.fd, text, 7), 3);
    assert_string_equal(text, "bye");
    assert_int_equal(raw_recv_end(p.fd), 0);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void freeing_a_loop_resets_the_connections_whose_output_it_cuts(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_with_much_room(0);
    open_small(&p, loop, &probe_by_read);
    fill(p.sock, 1000);
    loop_settle(loop);
    assert_true(loop_stats(loop).output_queued > 0);
    p2p_event_loop_free(loop);
    expect_error(p.reason, P2P_ERR_CANCELLED);
    assert_int_equal(raw_recv_end(p.fd), ECONNRESET);
    os_close(p.fd);
}

static void send_when_closed(probe *p, char what) {
    if (what == 'x') expect_error(p2p_message_send_data(p->data, "too late", 8), P2P_ERR_NOT_CONNECTED);
}

static void set_up_when_closed(probe *p, char what) {
    if (what != 'x') return;
    assert_true(p2p_socket_bind(p->data, "127.0.0.1", 0) < 0);
    expect_error(p2p_socket_connect(p->data, "127.0.0.1", 1), P2P_ERR_INVALID);
    expect_error(p2p_socket_listen(p->data, 1), P2P_ERR_INVALID);
    assert_true(p2p_event_loop_add_socket(p->loop, p->data, NULL, NULL) < 0);
    expect_error(p2p_event_loop_remove_socket(p->loop, p->data), P2P_ERR_NOT_FOUND);
    assert_null(p2p_message_recv(p->data));
    assert_null(p2p_socket_accept(p->data));
}

/* Closed by its owner, and by the loop being freed. */
static void refuse_in_on_close(void (*hook)(probe *, char)) {
    for (int by_owner = 0; by_owner < 2; by_owner++) {
        probe p = { .hook = hook };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        p.data = p.sock;
        if (by_owner) probe_close_socket(&p);
        p2p_event_loop_free(loop);
        assert_string_equal(p.trace, "x");
        os_close(p.fd);
    }
}

static void a_send_in_on_close_is_NOT_CONNECTED(void **state) {
    (void)state;
    refuse_in_on_close(send_when_closed);
}

static void bind_connect_listen_and_add_are_refused_in_on_close(void **state) {
    (void)state;
    refuse_in_on_close(set_up_when_closed);
}

/* ---- freeing the loop ---- */

static int busy_result;

static void run_again(void *loop) {
    busy_result = p2p_event_loop_run_once(loop, 0);
}

static void free_then_run_again(void *loop) {
    p2p_event_loop_free(loop);
    assert_int_equal(p2p_event_loop_post(loop, run_again, loop), 0);
}

static void a_loop_being_freed_is_BUSY_for_its_tasks(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    busy_result = 0;
    assert_int_equal(p2p_event_loop_post(loop, free_then_run_again, loop), 0);
    p2p_event_loop_run_once(loop, 0);
    expect_error(busy_result, P2P_ERR_BUSY);
}

static void free_the_loop_when_closed(probe *p, char what) {
    if (what == 'x') p2p_event_loop_free(p->loop);
}

static void a_loop_being_freed_may_be_freed_again_in_on_close(void **state) {
    (void)state;
    probe p = { .hook = free_the_loop_when_closed };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    p2p_event_loop_free(loop);
    assert_string_equal(p.trace, "x");
    os_close(p.fd);
}

static void never_called(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    (void)user_data;
    fail_msg("a timer of a dead loop fired");
}

static void never_ready(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch;
    (void)ready;
    (void)user_data;
    fail_msg("a watch of a dead loop was told");
}

static void set_up_anew(probe *p, char what) {
    p2p_socket_t *fresh = p->data;
    if (what != 'x') return;
    expect_error(p2p_event_loop_add_socket(p->loop, fresh, NULL, NULL), P2P_ERR_CANCELLED);
    expect_error(p2p_event_loop_add_socket_with(p->loop, fresh, &probe_by_read, NULL), P2P_ERR_CANCELLED);
    assert_null(p2p_event_loop_watch(p->loop, p->fd, P2P_WRITABLE, never_ready, NULL));
    expect_error(p2p_last_error(), P2P_ERR_CANCELLED);
    p2p_timer_t *timer = p2p_timer_create(p->loop, never_called, NULL);
    if (timer != NULL) p2p_timer_start(timer, 0, 0);
}

static void add_and_watch_in_on_close_of_a_loop_being_freed_are_CANCELLED(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_socket_t *fresh = p2p_socket_create(P2P_TCP);
    probe p = { .hook = set_up_anew, .data = fresh };
    options.free_drain_ms = 20;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    p2p_event_loop_free(loop);
    assert_string_equal(p.trace, "x");
    assert_int_equal(p2p_socket_bind(fresh, "127.0.0.1", 0), 0); /* nothing happened to it */
    p2p_socket_close(fresh);
    os_close(p.fd);
}

/* ---- a message lent from what the loop had kept ---- */

typedef struct mover {
    p2p_event_loop_t *from, *to;
    unsigned messages;
    bool moved;
    char text[8];
} mover;

static void move_in_the_second(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data);

static const p2p_socket_callbacks_t mover_callbacks = {
    sizeof(p2p_socket_callbacks_t), NULL, move_in_the_second, NULL, NULL, NULL, NULL
};

static void move_in_the_second(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    mover *m = user_data;
    char expected = (char)('a' + m->messages++);
    assert_int_equal(length, 1);
    assert_memory_equal(data, &expected, 1);
    if (m->messages != 2) return;
    m->moved = true;
    assert_int_equal(p2p_event_loop_remove_socket(m->from, sock), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(m->to, sock, &mover_callbacks, m), 0);
    RUN_UNTIL(m->to, m->messages == 3);
    assert_memory_equal(data, &expected, 1); /* still lent */
}

static void a_lent_message_outlives_a_move_to_a_loop_that_runs_in_its_callback(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.message_budget = 1; /* so that the second and third are kept for later turns */
    mover m = { .from = loop_create(&options), .to = loop_create(&options) };
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_event_loop_add_socket_with(m.from, sock, &mover_callbacks, &m), 0);
    assert_true(raw_send(fd, "\0\0\0\1a\0\0\0\1b\0\0\0\1c", 15));
    RUN_UNTIL(m.from, m.moved);
    assert_int_equal(m.messages, 3);
    p2p_socket_close(sock);
    os_close(fd);
    p2p_event_loop_free(m.from);
    p2p_event_loop_free(m.to);
}

/* ---- setting up inside a loop ---- */

static void a_listen_that_failed_in_a_loop_can_be_tried_again(void **state) {
    (void)state;
    p2p_socket_t *accepted = NULL, *listener = p2p_socket_create(P2P_TCP);
    probe p = { .hook = accept_one, .data = &accepted };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, listener, &probe_by_read);
    assert_int_equal(p2p_socket_bind(listener, "127.0.0.1", 0), 0);
    memory_fail(1, true);
    expect_error(p2p_socket_listen(listener, 4), P2P_ERR_NO_MEMORY);
    memory_fail(0, false);
    assert_int_equal(p2p_socket_listen(listener, 4), 0);
    p2p_handle_t fd = raw_connect(socket_port(listener));
    RUN_UNTIL(loop, accepted != NULL);
    p2p_socket_close(accepted);
    os_close(fd);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_datagram_socket_in_a_loop_can_be_bound_but_does_not_listen(void **state) {
    (void)state;
    probe p = { .hook = keep_waiting };
    p2p_address_t to;
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP), *sender = p2p_socket_create(P2P_UDP);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, sock, &probe_by_read);
    expect_error(p2p_socket_listen(sock, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    expect_error(p2p_socket_bind(sock, "127.0.0.1", 0), P2P_ERR_ALREADY);
    expect_error(p2p_socket_listen(sock, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_local_address(sock, &to), 0);
    assert_int_equal(p2p_datagram_send(sender, "x", 1, &to), 0);
    RUN_UNTIL(loop, p.reads > 0);
    p2p_socket_close(sender);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_datagram_socket_in_a_loop_stays_non_blocking_when_it_is_connected(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, sock, &probe_by_read);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", socket_port(sock)), 0);
    assert_true(os_is_nonblocking(p2p_socket_handle(sock)));
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- addresses ---- */

static void expect_formatted(const char *text, const char *formatted) {
    char back[P2P_ADDRESS_TEXT_SIZE];
    p2p_address_t address;
    assert_int_equal(p2p_address_parse(&address, text, 80), 0);
    assert_int_equal(p2p_address_format(&address, back, sizeof back), strlen(formatted));
    assert_string_equal(back, formatted);
}

static void an_ipv6_address_may_stand_in_brackets(void **state) {
    (void)state;
    expect_formatted("[::1]", "[::1]:80");
    expect_formatted("[fe80::1%1]", "[fe80::1%1]:80");
}

static void a_scope_can_be_a_number(void **state) {
    (void)state;
    expect_formatted("fe80::1%1", "[fe80::1%1]:80");
    expect_formatted("fe80::1%4294967295", "[fe80::1%4294967295]:80");
}

static void brackets_and_scopes_that_lead_nowhere_are_BAD_ADDRESS(void **state) {
    (void)state;
    static const char *const bad[] = {
        "[::1", "::1]", "[", "[]", "[:]", "[::1]:80", "[127.0.0.1]", "fe80::1%", "fe80::1%0", "fe80::1%4294967296",
        "fe80::1%99999999999999999999999", "fe80::1%no-such-interface", "127.0.0.1%lo", "",
        "0000:0000:0000:0000:0000:0000:0000:0001%0000000000000000000000000000000001",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        p2p_address_t address;
        if (p2p_address_parse(&address, bad[i], 80) != P2P_ERR_BAD_ADDRESS) fail_msg("\"%s\" was taken", bad[i]);
        expect_error(p2p_last_error(), P2P_ERR_BAD_ADDRESS);
    }
}

static void an_address_of_an_unknown_family_is_INVALID(void **state) {
    (void)state;
    static const uint32_t lengths[] = { 1, sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6), 128 };
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        char text[P2P_ADDRESS_TEXT_SIZE] = "untouched";
        p2p_address_t garbage;
        memset(&garbage, 0xff, sizeof garbage);
        garbage.length = lengths[i];
        expect_error(p2p_address_format(&garbage, text, sizeof text), P2P_ERR_INVALID);
        expect_error(p2p_last_error(), P2P_ERR_INVALID);
        assert_string_equal(text, "");
        expect_error(p2p_address_port(&garbage), P2P_ERR_INVALID);
        p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
        assert_true(p2p_datagram_send(sock, "x", 1, &garbage) < 0);
        p2p_socket_close(sock);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(the_end_is_told_after_a_too_long_header_behind_a_full_queue),
        CASE(closed_after_a_too_long_header_a_connection_ends_with_its_peer),
        CASE(closed_after_a_too_long_header_a_connection_delivers_its_answers_to_a_peer_that_sends_on),
        CASE(messages_that_nobody_reads_do_not_keep_the_loop_turning),
        CASE(messages_that_nobody_reads_can_be_taken_outside_of_callbacks_and_then_the_end_is_told),
        CASE(after_messages_taken_outside_of_callbacks_a_failure_is_told),
        CASE(an_attempt_under_way_that_succeeds_in_a_loop_is_answered_once),
        CASE(an_attempt_under_way_that_is_refused_in_a_loop_is_answered_once),
        CASE(an_adopted_attempt_that_succeeds_in_a_loop_is_answered_once),
        CASE(an_adopted_attempt_that_is_refused_in_a_loop_is_answered_once),
        CASE(an_attempt_refused_before_it_was_adopted_is_answered_once),
        CASE(outside_a_loop_an_adopted_attempt_that_was_refused_is_told_and_can_be_tried_again),
        CASE(raw_and_framed_calls_WOULD_BLOCK_while_connecting_and_work_afterwards),
        CASE(with_a_high_water_of_1_messages_go_out_one_by_one),
        CASE(the_first_message_of_on_read_is_given_although_the_callback_filled_the_queue),
        CASE(it_is_given_although_the_callback_took_from_another_socket_before),
        CASE(on_write_is_not_called_when_messages_have_filled_the_queue_again),
        CASE(after_an_accept_the_loop_owes_its_listener_no_turn),
        CASE(raw_bytes_after_remove_begin_with_what_the_loop_read_ahead),
        CASE(a_raw_send_after_remove_writes_the_rest_of_queued_messages_first),
        CASE(what_the_system_holds_arrives_although_closed_with_input_unread),
        CASE(a_peer_that_stays_open_is_not_reset_and_the_reason_is_0),
        CASE(freeing_a_loop_resets_the_connections_whose_output_it_cuts),
        CASE(a_send_in_on_close_is_NOT_CONNECTED),
        CASE(bind_connect_listen_and_add_are_refused_in_on_close),
        CASE(a_loop_being_freed_is_BUSY_for_its_tasks),
        CASE(a_loop_being_freed_may_be_freed_again_in_on_close),
        CASE(add_and_watch_in_on_close_of_a_loop_being_freed_are_CANCELLED),
        CASE(a_lent_message_outlives_a_move_to_a_loop_that_runs_in_its_callback),
        CASE(a_listen_that_failed_in_a_loop_can_be_tried_again),
        CASE(a_datagram_socket_in_a_loop_can_be_bound_but_does_not_listen),
        CASE(a_datagram_socket_in_a_loop_stays_non_blocking_when_it_is_connected),
        CASE(an_ipv6_address_may_stand_in_brackets),
        CASE(a_scope_can_be_a_number),
        CASE(brackets_and_scopes_that_lead_nowhere_are_BAD_ADDRESS),
        CASE(an_address_of_an_unknown_family_is_INVALID),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
