/* Deadlines and orderly ends against a real system; their exact times are in tests/unit/deadline.c. */
#include "probe.h"

#include <stdlib.h>

static int64_t now_ns(void) {
    return p2p_sys_default()->now_ns();
}

static void expect_timed_out(const probe *p, p2p_deadline_t which) {
    assert_string_equal(p2p_error_name(p->error), "P2P_ERR_TIMED_OUT");
    assert_string_equal(p2p_deadline_name(p2p_socket_timed_out(p->sock)), p2p_deadline_name(which));
    assert_int_equal(p->errors, 1);
}

static void a_message_begun_and_not_ended_is_TIMED_OUT_and_never_early(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.read_timeout_ms = 30;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    int64_t begin_ns = now_ns();
    assert_true(raw_send(p.fd, "\0\0\0\7abc", 7));
    RUN_UNTIL(loop, p.errors > 0);
    assert_true(now_ns() - begin_ns >= 30 * (int64_t)P2P_NS_PER_MS);
    expect_timed_out(&p, P2P_DEADLINE_READ);
    assert_int_equal(p.messages, 0);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_silent_peer_is_TIMED_OUT(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.idle_timeout_ms = 20;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    RUN_UNTIL(loop, p.errors > 0);
    expect_timed_out(&p, P2P_DEADLINE_IDLE);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_peer_that_does_not_read_is_TIMED_OUT_and_the_loss_is_told(void **state) {
    (void)state;
    enum { SIZE = 1024 * 1024 };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.write_timeout_ms = 30;
    options.high_water = 64 * 1024 * 1024;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    p2p_message_t *message = p2p_message_create(NULL, SIZE);
    for (int i = 0; i < 32; i++) assert_int_equal(p2p_message_send(p.sock, message), 0); /* more than buffers take */
    p2p_message_free(message);
    RUN_UNTIL(loop, p.errors > 0);
    expect_timed_out(&p, P2P_DEADLINE_WRITE);
    assert_true(p2p_socket_unsent(p.sock) > SIZE);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_shutdown_gives_the_peer_everything_and_hears_it_out(void **state) {
    (void)state;
    enum { SIZE = 200000 };
    probe p = { 0 };
    char *data = malloc(SIZE);
    assert_non_null(data);
    raw_fill(data, SIZE, 3);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_int_equal(p2p_message_send_data(p.sock, data, SIZE), 0);
    assert_int_equal(p2p_socket_shutdown(p.sock, P2P_NO_TIMEOUT), 0);
    char *got = malloc(SIZE);
    assert_non_null(got);
    assert_int_equal(loop_recv_frame(loop, p.fd, got, SIZE), SIZE);
    assert_memory_equal(got, data, SIZE);
    RUN_UNTIL(loop, raw_readable(p.fd));
    assert_int_equal(raw_recv_end(p.fd), 0);
    assert_true(raw_send_text(p.fd, "thanks"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_true(raw_fin(p.fd));
    RUN_UNTIL(loop, p.ends + p.errors > 0);
    assert_int_equal(p.errors, 0);
    assert_int_equal(p2p_socket_unsent(p.sock), 0);
    probe_close(&p);
    p2p_event_loop_free(loop);
    free(got);
    free(data);
}

static void a_shutdown_outside_a_loop_sends_FIN(void **state) {
    (void)state;
    uint16_t port;
    char text[4];
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), 0);
    p2p_handle_t peer = raw_accept(listener);
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    assert_int_equal(p2p_socket_shutdown(sock, 0), 0);
    assert_int_equal(p2p_socket_shutdown(sock, 0), P2P_ERR_ALREADY);
    assert_int_equal(p2p_message_send_data(sock, "late", 4), P2P_ERR_CLOSED);
    assert_int_equal(raw_recv_frame(peer, text, sizeof text), 4);
    assert_int_equal(raw_recv_end(peer), 0);
    assert_true(raw_send_text(peer, "ok"));
    p2p_message_t *answer = p2p_message_recv(sock);
    assert_non_null(answer);
    p2p_message_free(answer);
    p2p_socket_close(sock);
    os_close(peer);
    os_close(listener);
}

static void a_shutdown_is_over_with_the_attempt_it_was_for(void **state) {
    (void)state;
    uint16_t port, closed_port;
    probe p = { 0 };
    char text[4];
    p2p_handle_t listener = raw_listen(&port, 1), closed = raw_listen(&closed_port, 1);
    os_close(closed);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, p2p_socket_create(P2P_TCP), &probe_by_message);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", closed_port), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "lost", 4), 0);
    assert_int_equal(p2p_socket_shutdown(p.sock, 0), 0);
    RUN_UNTIL(loop, p.connects == 1);
    assert_string_equal(p2p_error_name(p.connect_error), "P2P_ERR_REFUSED");
    assert_int_equal(p2p_socket_unsent(p.sock), 8);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_socket_unsent(p.sock), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "sent", 4), 0);
    p2p_handle_t peer = raw_accept(listener);
    assert_int_equal(raw_recv_frame(peer, text, sizeof text), 4);
    p2p_socket_close(p.sock);
    os_close(peer);
    os_close(listener);
    p2p_event_loop_free(loop);
}

/* ---- draining a loop ---- */

static void close_at_the_end(probe *p, char what) {
    if (what == 'r') p2p_socket_close(p->sock);
}

static void a_drained_loop_ends_when_its_peers_have_everything(void **state) {
    (void)state;
    enum { COUNT = 5 };
    char text[4];
    probe p[COUNT];
    memset(p, 0, sizeof p);
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int i = 0; i < COUNT; i++) {
        probe_open(&p[i], loop, &probe_by_message);
        p[i].hook = close_at_the_end;
        assert_int_equal(p2p_message_send_data(p[i].sock, "last", 4), 0);
    }
    assert_int_equal(p2p_event_loop_drain(loop, 0), 0);
    assert_int_equal(p2p_message_send_data(p[0].sock, "x", 1), P2P_ERR_CLOSED);
    loop_settle(loop);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(raw_recv_frame(p[i].fd, text, sizeof text), 4);
        assert_int_equal(raw_recv_end(p[i].fd), 0);
        os_close(p[i].fd);
    }
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
    for (int i = 0; i < COUNT; i++) assert_int_equal(p[i].closes, 1);
    p2p_event_loop_free(loop);
}

static void a_drained_loop_does_not_wait_for_ever(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_int_equal(p2p_event_loop_drain(loop, 20), 0);
    p2p_event_loop_run(loop);
    assert_string_equal(p2p_error_name(p2p_last_error()), "P2P_ERR_TIMED_OUT");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_message_begun_and_not_ended_is_TIMED_OUT_and_never_early),
        CASE(a_silent_peer_is_TIMED_OUT),
        CASE(a_peer_that_does_not_read_is_TIMED_OUT_and_the_loss_is_told),
        CASE(a_shutdown_gives_the_peer_everything_and_hears_it_out),
        CASE(a_shutdown_outside_a_loop_sends_FIN),
        CASE(a_shutdown_is_over_with_the_attempt_it_was_for),
        CASE(a_drained_loop_ends_when_its_peers_have_everything),
        CASE(a_drained_loop_does_not_wait_for_ever),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
