/* Closing: what is still delivered, on_close, and callbacks that close, remove and add in the midst of a batch. */
#include "probe.h"

#include <stdlib.h>
#include <stdio.h>

static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

static void run_to_the_end(p2p_event_loop_t *loop) {
    p2p_event_loop_run(loop);
    expect_error(p2p_last_error(), 0);
}

/* ---- on_close ---- */

static void on_close_runs_once_and_not_inside_the_call(void **state) {
    (void)state;
    for (int by_abort = 0; by_abort < 2; by_abort++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        if (by_abort) {
            p2p_socket_abort(p.sock);
        } else {
            p2p_socket_close(p.sock);
        }
        assert_string_equal(p.trace, "");
        raw_send_text(p.fd, "too late");
        os_close(p.fd);
        run_to_the_end(loop);
        assert_string_equal(p.trace, "x");
        expect_error(p.reason, 0);
        assert_int_equal(p2p_event_loop_socket_count(loop), 0);
        p2p_event_loop_free(loop);
    }
}

static void a_closed_socket_counts_no_more_at_once(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    p2p_socket_close(p.sock);
    assert_int_equal(p2p_event_loop_socket_count(loop), 0);
    RUN_UNTIL(loop, p.closes == 1);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void the_reason_is_how_the_connection_had_ended(void **state) {
    (void)state;
    probe p = { 0 }, q = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    probe_open(&q, loop, &probe_by_read);
    raw_fin(p.fd);
    raw_reset(q.fd);
    q.fd = P2P_INVALID_HANDLE;
    RUN_UNTIL(loop, p.ends == 1 && q.errors == 1);
    probe_close(&p);
    probe_close(&q);
    expect_error(p.reason, P2P_ERR_CLOSED);
    expect_error(q.reason, P2P_ERR_RESET);
    p2p_event_loop_free(loop);
}

static void a_removed_socket_gets_no_on_close(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    p2p_socket_close(p.sock);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    assert_int_equal(raw_recv_end(p.fd), 0);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

/* ---- what is still delivered ---- */

static void close_delivers_what_was_queued_then_FIN(void **state) {
    (void)state;
    probe p = { 0 };
    char text[8] = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_message_send_data(p.sock, "goodbye", 7), 0);
    p2p_socket_close(p.sock);
    assert_int_equal(loop_recv_frame(loop, p.fd, text, 7), 7);
    assert_string_equal(text, "goodbye");
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "x");
    p2p_event_loop_free(loop);
}

/* Much more than the system's buffers hold, so the remainder has to wait for the peer. */
static void a_long_queue_is_delivered_whole_after_close(void **state) {
    (void)state;
    enum { COUNT = 64, LENGTH = 512 * 1024 };
    static uint8_t data[LENGTH], back[LENGTH];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.high_water = COUNT * (LENGTH + 1024);
    options.drain_timeout_ms = RAW_DEADLINE_S * 1000;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    for (uint32_t i = 0; i < COUNT; i++) {
        raw_fill(data, LENGTH, i);
        assert_int_equal(p2p_message_send_data(p.sock, data, LENGTH), 0);
    }
    p2p_socket_close(p.sock);
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).remainders, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        raw_fill(data, LENGTH, i);
        assert_int_equal(loop_recv_frame(loop, p.fd, back, LENGTH), LENGTH);
        assert_memory_equal(back, data, LENGTH);
    }
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    run_to_the_end(loop); /* returns: the remainder is gone */
    assert_int_equal(loop_stats(loop).remainders, 0);
    assert_string_equal(p.trace, "x");
    p2p_event_loop_free(loop);
}

/* A plain close with unread input would send RST, which can destroy what the peer has not read yet. */
static void unread_input_does_not_cost_the_peer_the_last_message(void **state) {
    (void)state;
    static char much[200000];
    probe p = { 0 };
    char text[8] = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_header(p.fd, 1000000));
    assert_true(raw_send(p.fd, much, sizeof much)); /* nobody has read this */
    assert_int_equal(p2p_message_send_data(p.sock, "goodbye", 7), 0);
    p2p_socket_close(p.sock);
    assert_int_equal(loop_recv_frame(loop, p.fd, text, 7), 7);
    assert_string_equal(text, "goodbye");
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    run_to_the_end(loop);
    p2p_event_loop_free(loop);
}

static void a_remainder_ends_when_its_time_is_over(void **state) {
    (void)state;
    static uint8_t data[1024 * 1024];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.high_water = 64 << 20;
    options.drain_timeout_ms = 20;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    for (int i = 0; i < 32; i++) assert_int_equal(p2p_message_send_data(p.sock, data, sizeof data), 0);
    p2p_socket_close(p.sock);
    run_to_the_end(loop); /* the peer never reads */
    assert_string_equal(p.trace, "x");
    expect_error(p.reason, P2P_ERR_TIMED_OUT);
    assert_int_equal(loop_stats(loop).output_queued, 0);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void a_remainder_ends_when_its_peer_is_gone(void **state) {
    (void)state;
    static uint8_t data[1024 * 1024];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.high_water = 64 << 20;
    options.drain_timeout_ms = RAW_DEADLINE_S * 2000;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    for (int i = 0; i < 32; i++) assert_int_equal(p2p_message_send_data(p.sock, data, sizeof data), 0);
    p2p_socket_close(p.sock);
    loop_settle(loop);
    raw_reset(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "x");
    expect_error(p.reason, P2P_ERR_RESET);
    p2p_event_loop_free(loop);
}

static void freeing_the_loop_ends_remainders_too(void **state) {
    (void)state;
    static uint8_t data[1024 * 1024];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.high_water = 64 << 20;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    for (int i = 0; i < 32; i++) assert_int_equal(p2p_message_send_data(p.sock, data, sizeof data), 0);
    p2p_socket_close(p.sock);
    loop_settle(loop);
    p2p_event_loop_free(loop);
    assert_string_equal(p.trace, "x");
    expect_error(p.reason, P2P_ERR_CANCELLED);
    os_close(p.fd);
}

static void abort_resets_and_drops_what_was_queued(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_message_send_data(p.sock, "dropped", 7), 0);
    p2p_socket_abort(p.sock);
    char byte;
    assert_false(loop_recv(loop, p.fd, &byte, 1));
    os_close(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "x");
    probe q = { 0 };
    probe_open(&q, loop, &probe_by_read);
    p2p_socket_abort(q.sock);
    assert_int_equal(loop_recv_end(loop, q.fd), ECONNRESET);
    os_close(q.fd);
    run_to_the_end(loop);
    p2p_event_loop_free(loop);
}

static void a_closed_listener_takes_no_more_connections(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, listener, &probe_by_read);
    loop_settle(loop);
    p2p_socket_close(listener);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "x");
    assert_int_equal(raw_connect(port), P2P_INVALID_HANDLE);
    p2p_event_loop_free(loop);
}

static void keep_waiting(probe *p, char what) {
    (void)p;
    (void)what;
}

/* Connections that the loop has taken from the system, but nobody from the loop. */
static void connections_nobody_accepted_end_with_their_listener(void **state) {
    (void)state;
    probe p = { .hook = keep_waiting };
    uint16_t port;
    p2p_handle_t fds[5];
    p2p_socket_t *listener = socket_listening(&port);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, listener, &probe_by_read);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    RUN_UNTIL(loop, p.reads >= 2);
    p2p_socket_close(listener);
    run_to_the_end(loop);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        int end = raw_recv_end(fds[i]);
        assert_true(end == 0 || end == ECONNRESET);
        os_close(fds[i]);
    }
    p2p_event_loop_free(loop);
}

static void a_removed_listener_still_gives_the_connections_it_held(void **state) {
    (void)state;
    probe p = { .hook = keep_waiting };
    uint16_t port;
    p2p_handle_t fds[5];
    p2p_socket_t *listener = socket_listening(&port);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, listener, &probe_by_read);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    RUN_UNTIL(loop, p.reads >= 2);
    assert_int_equal(p2p_event_loop_remove_socket(loop, listener), 0);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        p2p_socket_t *accepted = p2p_socket_accept(listener);
        assert_non_null(accepted);
        p2p_socket_close(accepted);
        os_close(fds[i]);
    }
    p2p_socket_close(listener);
    p2p_event_loop_free(loop);
}

/* ---- in a callback of one's own ---- */

static void close_on(probe *p, char what) {
    if (what == *(const char *)p->data) p2p_socket_close(p->sock);
}

static void abort_on(probe *p, char what) {
    if (what == *(const char *)p->data) p2p_socket_abort(p->sock);
}

static void close_inside_on_read(void **state) {
    (void)state;
    probe p = { .hook = close_on, .data = (void *)(uintptr_t) "r" };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_text(p.fd, "never taken"));
    assert_true(raw_send_text(p.fd, "nor this"));
    raw_fin(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "rx");
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void close_in_the_first_of_three_messages_drops_the_others(void **state) {
    (void)state;
    for (int by_abort = 0; by_abort < 2; by_abort++) {
        probe p = { .hook = by_abort ? abort_on : close_on, .data = (void *)(uintptr_t) "m" };
        uint8_t bytes[64];
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_message);
        size_t length = raw_frame(bytes, "one", 3);
        length += raw_frame(bytes + length, "two", 3);
        length += raw_frame(bytes + length, "three", 5);
        assert_true(raw_send(p.fd, bytes, length));
        raw_fin(p.fd);
        run_to_the_end(loop);
        assert_string_equal(p.trace, "mx");
        assert_string_equal(p.text, "one|");
        os_close(p.fd);
        p2p_event_loop_free(loop);
    }
}

static void send_and_close(probe *p, char what) {
    if (what != 'm') return;
    assert_int_equal(p2p_message_send_data(p->sock, "answer", 6), 0);
    p2p_socket_close(p->sock);
}

static void an_answer_sent_right_before_close_arrives(void **state) {
    (void)state;
    probe p = { .hook = send_and_close };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "one"));
    assert_true(raw_send_text(p.fd, "two"));
    loop_expect_text(loop, p.fd, "answer");
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "mx");
    p2p_event_loop_free(loop);
}

static void close_inside_on_error(void **state) {
    (void)state;
    for (int by_abort = 0; by_abort < 2; by_abort++) {
        probe p = { .hook = by_abort ? abort_on : close_on, .data = (void *)(uintptr_t) "e" };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_message);
        assert_true(raw_send_header(p.fd, 0xffffffff));
        run_to_the_end(loop);
        assert_string_equal(p.trace, "ex");
        expect_error(p.reason, P2P_ERR_TOO_LONG);
        os_close(p.fd);
        p2p_event_loop_free(loop);
    }
}

static void close_inside_on_write(void **state) {
    (void)state;
    static uint8_t data[10000];
    probe p = { .hook = close_on, .data = (void *)(uintptr_t) "w" };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    while (p2p_message_send_data(p.sock, data, sizeof data) == 0) {
    }
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace, "wx");
    p2p_event_loop_free(loop);
}

/* Readable and writable at once: when the read part closes, the write part must not follow. */
static void close_in_the_read_part_keeps_the_write_part_away(void **state) {
    (void)state;
    static uint8_t data[10000];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { .hook = close_on, .data = (void *)(uintptr_t) "m" };
    options.auto_backpressure = 0;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    for (int idle = 0; idle < 20; idle++) {
        while (p2p_message_send_data(p.sock, data, sizeof data) == 0) idle = 0;
        assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    }
    size_t before = p.trace_length;
    assert_true(raw_send_text(p.fd, "hello"));
    while (raw_readable(p.fd)) assert_true(os_recv(p.fd, data, sizeof data) > 0); /* makes room for what is queued */
    socket_await_input(p.sock);
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.trace + before, "m");
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    run_to_the_end(loop);
    assert_string_equal(p.trace + before, "mx");
    p2p_event_loop_free(loop);
}

/* ---- another one in the same batch ---- */

static void close_the_other(probe *p, char what) {
    probe *other = p->data;
    if (what != 'm' || other->sock == NULL) return;
    p2p_socket_close(other->sock);
}

static void a_socket_closed_by_another_in_the_same_batch_is_silent(void **state) {
    (void)state;
    probe p = { .hook = close_the_other }, q = { .hook = close_the_other };
    p.data = &q, q.data = &p;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    probe_open(&q, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "to p"));
    assert_true(raw_send_text(q.fd, "to q"));
    socket_await_input(p.sock);
    socket_await_input(q.sock);
    RUN_UNTIL(loop, p.closes + q.closes == 1);
    loop_settle(loop);
    assert_int_equal(p.messages + q.messages, 1);
    assert_string_equal(p.closes ? p.trace : q.trace, "x");
    probe_close(&p);
    probe_close(&q);
    p2p_event_loop_free(loop);
}

typedef struct swap {
    probe *other, *fresh;
    p2p_handle_t old_handle;
} swap;

/* Remove and close the other, and register a new connection that gets its descriptor's number. */
static void replace_the_other(probe *p, char what) {
    swap *s = p->data;
    if (what != 'm' || s->other->sock == NULL || s->fresh->sock != NULL) return;
    s->old_handle = p2p_socket_handle(s->other->sock);
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1), peer = raw_connect(port), handle = raw_accept(listener);
    assert_int_equal(p2p_event_loop_remove_socket(p->loop, s->other->sock), 0);
    p2p_socket_close(s->other->sock);
    s->other->sock = NULL;
    assert_int_equal(os_duplicate_as(handle, s->old_handle), 0);
    os_close(handle);
    os_close(listener);
    p2p_socket_t *accepted = p2p_socket_adopt(s->old_handle, P2P_TCP);
    assert_non_null(accepted);
    probe_add(s->fresh, p->loop, accepted, &probe_by_message);
    s->fresh->fd = peer;
}

static void a_reused_descriptor_gets_no_event_of_its_predecessor(void **state) {
    (void)state;
    probe fresh = { 0 }, p = { .hook = replace_the_other }, q = { .hook = replace_the_other };
    swap of_p = { .other = &q, .fresh = &fresh }, of_q = { .other = &p, .fresh = &fresh };
    p.data = &of_p, q.data = &of_q;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    probe_open(&q, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "to p"));
    assert_true(raw_send_text(q.fd, "to q"));
    socket_await_input(p.sock);
    socket_await_input(q.sock);
    RUN_UNTIL(loop, fresh.sock != NULL);
    loop_settle(loop);
    assert_int_equal(p.messages + q.messages, 1);
    assert_string_equal(fresh.trace, "");
    assert_true(raw_send_text(fresh.fd, "to the fresh one"));
    RUN_UNTIL(loop, fresh.messages == 1);
    assert_string_equal(fresh.text, "to the fresh one|");
    probe_close(&fresh);
    probe_close(&p);
    probe_close(&q);
    p2p_event_loop_free(loop);
}

/* ---- remove and add again ---- */

static void remove_and_add_again(probe *p, char what) {
    if (what != 'r') return;
    assert_int_equal(p2p_event_loop_remove_socket(p->loop, p->sock), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(p->loop, p->sock, &probe_by_read, p), 0);
}

static void removed_and_added_again_a_socket_is_not_called_twice_in_a_turn(void **state) {
    (void)state;
    probe p = { .hook = remove_and_add_again };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_text(p.fd, "one"));
    socket_await_input(p.sock);
    for (unsigned i = 1; i <= 5; i++) {
        assert_true(p2p_event_loop_run_once(loop, -1) >= 0);
        assert_int_equal(p.reads, i);
    }
    p.hook = NULL;
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.text, "one|");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void move_in_callback(probe *p, char what) {
    p2p_event_loop_t *other = p->data;
    if (what != 'r' || p->loop == other) return;
    probe_take_one(p);
    assert_int_equal(p2p_event_loop_remove_socket(p->loop, p->sock), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(other, p->sock, &probe_by_read, p), 0);
    p->loop = other;
    p->hook = NULL;
}

static void a_socket_can_move_to_another_loop_in_its_callback(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL), *other = loop_create(NULL);
    probe p = { .hook = move_in_callback, .data = other };
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_text(p.fd, "one"));
    assert_true(raw_send_text(p.fd, "two"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_int_equal(p2p_event_loop_socket_count(loop), 0);
    RUN_UNTIL(other, p.messages == 2);
    assert_string_equal(p.text, "one|two|");
    probe_close(&p);
    p2p_event_loop_free(other);
    p2p_event_loop_free(loop);
}

/* ---- many at once ---- */

typedef struct crowd {
    p2p_socket_t *sockets[10000];
    size_t wanted, count;
    unsigned reads;
    char address[16]; /* a loopback address of this process alone: several of these use up the ports of one */
} crowd;

static void crowd_read(p2p_socket_t *sock, void *user_data) {
    crowd *c = user_data;
    char byte;
    assert_int_equal(p2p_datagram_recv(sock, &byte, 1, NULL), 1);
    c->reads++;
}

/* As many as the backend and the process can have. */
static void add_the_crowd(probe *p, char what) {
    crowd *c = p->data;
    if (what != 'm') return;
    while (c->count < c->wanted) {
        p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
        assert_non_null(sock);
        assert_int_equal(p2p_socket_bind(sock, c->address, 0), 0);
        int error = p2p_event_loop_add_socket(p->loop, sock, crowd_read, c);
        if (error != 0) {
            expect_error(error, P2P_ERR_LIMIT);
            p2p_socket_close(sock);
            break;
        }
        c->sockets[c->count++] = sock;
    }
}

static void a_callback_can_add_thousands_of_sockets(void **state) {
    (void)state;
    static crowd c;
    memset(&c, 0, sizeof c);
    unsigned pid = (unsigned)p2p_sys_default()->process_id();
    snprintf(c.address, sizeof c.address, "127.%u.%u.%u", 1 + (pid >> 16 & 127), pid >> 8 & 255, 1 + pid % 254);
    size_t limit = (size_t)os_raise_socket_limit();
    c.wanted = OS_ROUNDS(COUNT_OF(c.sockets), 1000);
    if (limit < c.wanted + 100) c.wanted = limit - 100;
    probe p = { .hook = add_the_crowd, .data = &c };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "go"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_true(c.count == c.wanted || c.count > 900);
    p2p_socket_t *sender = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(sender, "127.0.0.1", 0), 0);
    unsigned sent = 0;
    for (size_t i = 0; i < c.count; i += 97, sent++) {
        p2p_address_t to;
        assert_int_equal(p2p_socket_local_address(c.sockets[i], &to), 0);
        assert_int_equal(p2p_datagram_send(sender, "x", 1, &to), 0);
    }
    RUN_UNTIL(loop, c.reads == sent);
    for (size_t i = 0; i < c.count; i++) p2p_socket_close(c.sockets[i]);
    p2p_socket_close(sender);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(on_close_runs_once_and_not_inside_the_call),
        CASE(a_closed_socket_counts_no_more_at_once),
        CASE(the_reason_is_how_the_connection_had_ended),
        CASE(a_removed_socket_gets_no_on_close),
        CASE(close_delivers_what_was_queued_then_FIN),
        CASE(a_long_queue_is_delivered_whole_after_close),
        CASE(unread_input_does_not_cost_the_peer_the_last_message),
        CASE(a_remainder_ends_when_its_time_is_over),
        CASE(a_remainder_ends_when_its_peer_is_gone),
        CASE(freeing_the_loop_ends_remainders_too),
        CASE(abort_resets_and_drops_what_was_queued),
        CASE(a_closed_listener_takes_no_more_connections),
        CASE(connections_nobody_accepted_end_with_their_listener),
        CASE(a_removed_listener_still_gives_the_connections_it_held),
        CASE(close_inside_on_read),
        CASE(close_in_the_first_of_three_messages_drops_the_others),
        CASE(an_answer_sent_right_before_close_arrives),
        CASE(close_inside_on_error),
        CASE(close_inside_on_write),
        CASE(close_in_the_read_part_keeps_the_write_part_away),
        CASE(a_socket_closed_by_another_in_the_same_batch_is_silent),
        CASE(a_reused_descriptor_gets_no_event_of_its_predecessor),
        CASE(removed_and_added_again_a_socket_is_not_called_twice_in_a_turn),
        CASE(a_socket_can_move_to_another_loop_in_its_callback),
        CASE(a_callback_can_add_thousands_of_sockets),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
