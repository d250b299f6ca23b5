/* p2p_socket_pause and p2p_socket_resume. */
#include "probe.h"

/* Turns that would show a wake-up if there were one. @return how many there were. */
static uint64_t wakeups(p2p_event_loop_t *loop) {
    uint64_t before = loop_stats(loop).wakeups;
    for (int i = 0; i < 20; i++) assert_true(p2p_event_loop_run_once(loop, 1) >= 0);
    return loop_stats(loop).wakeups - before;
}

/* What a completing backend had begun before the pause still comes, once. */
static unsigned under_way(void) {
    const char *name = test_backend();
    if (name == NULL) p2p_backend_list(&name, 1);
    return p2p_backend_find(name)->recv_start != NULL;
}

static void send_texts(p2p_handle_t fd) {
    uint8_t bytes[100];
    size_t length = 0;
    for (const char *text = "abc"; *text != '\0'; text++) length += raw_frame(bytes + length, text, 1);
    assert_true(raw_send(fd, bytes, length));
}

static void pause_on(probe *p, char what) {
    if (what != *(const char *)p->data) return;
    if (what == 'r') probe_take_one(p);
    assert_int_equal(p2p_socket_pause(p->sock), 0);
    if (what != 'r') return;
    assert_null(p2p_message_recv(p->sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
}

static void pausing_inside_a_callback_stops_delivery_at_once_in_both_styles(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t *const styles[] = { &probe_by_message, &probe_by_read };
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT_OF(styles); i++) {
        probe p = { .hook = pause_on, .data = i == 0 ? "m" : "r" };
        probe_open(&p, loop, styles[i]);
        send_texts(p.fd);
        RUN_UNTIL(loop, p.messages == 1);
        loop_settle(loop);
        assert_int_equal(p.messages, 1);
        assert_int_equal(wakeups(loop), 0);
        p.hook = NULL;
        assert_int_equal(p2p_socket_resume(p.sock), 0);
        RUN_UNTIL(loop, p.messages == 3);
        assert_string_equal(p.text, "a|b|c|");
        probe_close(&p);
    }
    p2p_event_loop_free(loop);
}

static void pause_then_take(probe *p, char what) {
    if (what != 'r') return;
    assert_int_equal(p2p_socket_pause(p->sock), 0);
    probe_take_one(p);
}

static void an_on_read_that_pauses_first_is_still_given_its_message(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe p = { .hook = pause_then_take };
    probe_open(&p, loop, &probe_by_read);
    send_texts(p.fd);
    RUN_UNTIL(loop, p.reads == 1);
    loop_settle(loop);
    assert_int_equal(p.reads, 1);
    assert_string_equal(p.text, "a|");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

typedef enum leaving { BY_FIN, BY_RST, BY_DATA_AND_FIN } leaving;

static void the_end_of_a_paused_connection_costs_no_wakeup_and_is_told_after_resume(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t *const styles[] = { &probe_by_message, &probe_by_read };
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT_OF(styles) * 3; i++) {
        leaving way = (leaving)(i % 3);
        probe p = { 0 };
        probe_open(&p, loop, styles[i / 3]);
        loop_settle(loop);
        assert_int_equal(p2p_socket_pause(p.sock), 0);
        loop_settle(loop);
        if (way == BY_DATA_AND_FIN) send_texts(p.fd);
        if (way == BY_RST)
            raw_reset(p.fd);
        else
            os_close(p.fd);
        p.fd = P2P_INVALID_HANDLE;
        assert_in_range(wakeups(loop), 0, under_way());
        assert_int_equal(wakeups(loop), 0);
        assert_string_equal(p.trace, "");
        assert_int_equal(p2p_socket_resume(p.sock), 0);
        RUN_UNTIL(loop, way == BY_RST ? p.errors == 1 : p.reads > 0 && (p.messages == 3 || way == BY_FIN));
        if (way == BY_RST) assert_string_equal(p2p_error_name(p.error), "P2P_ERR_RESET");
        if (way == BY_DATA_AND_FIN) assert_string_equal(p.text, "a|b|c|");
        if (way != BY_RST) RUN_UNTIL(loop, styles[i / 3] == &probe_by_message ? p.reads == 1 : p.ends == 1);
        probe_close(&p);
    }
    p2p_event_loop_free(loop);
}

static void what_is_under_way_when_a_connection_is_paused_is_kept(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe p = { 0 };
    probe_open(&p, loop, &probe_by_message);
    loop_settle(loop);
    send_texts(p.fd);
    assert_true(raw_fin(p.fd));
    socket_await_input(p.sock); /* a completing backend has it by now */
    assert_int_equal(p2p_socket_pause(p.sock), 0);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    assert_int_equal(wakeups(loop), 0);
    assert_int_equal(p2p_socket_resume(p.sock), 0);
    RUN_UNTIL(loop, p.reads == 1);
    assert_string_equal(p.trace, "mmmr");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void output_of_a_paused_connection_goes_on_and_closing_it_writes_the_rest(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe p = { 0 };
    probe_open(&p, loop, &probe_by_message);
    assert_int_equal(p2p_socket_pause(p.sock), 0);
    send_texts(p.fd);
    assert_int_equal(p2p_message_send_data(p.sock, "one", 3), 0);
    loop_expect_text(loop, p.fd, "one");
    assert_int_equal(p2p_message_send_data(p.sock, "two", 3), 0);
    p2p_socket_close(p.sock);
    loop_expect_text(loop, p.fd, "two");
    assert_int_equal(loop_recv_end(loop, p.fd), 0);
    os_close(p.fd);
    RUN_UNTIL(loop, p.closes == 1);
    assert_string_equal(p.trace, "x");
    assert_int_equal(p.reason, 0);
    p2p_event_loop_free(loop);
}

static void a_pause_comes_before_adding_and_outlasts_removal(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = socket_pair(&fd);
    probe p = { 0 };
    assert_int_equal(p2p_socket_pause(sock), 0);
    assert_true(raw_send_text(fd, "kept"));
    for (int times = 0; times < 2; times++) {
        probe_add(&p, loop, sock, &probe_by_message);
        loop_settle(loop);
        assert_int_equal(wakeups(loop), 0);
        assert_int_equal(p.messages, 0);
        assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    }
    assert_int_equal(p2p_socket_resume(sock), 0);
    probe_add(&p, loop, sock, &probe_by_message);
    RUN_UNTIL(loop, p.messages == 1);
    os_close(fd);
    probe_close_socket(&p);
    p2p_event_loop_free(loop);
}

static void accept_and_close(probe *p, char what) {
    p2p_socket_t *accepted = what == 'r' ? p2p_socket_accept(p->sock) : NULL;
    if (accepted != NULL) p->messages++;
    p2p_socket_close(accepted);
}

static void a_paused_listener_accepts_nobody_until_it_is_resumed(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t fds[3];
    p2p_event_loop_t *loop = loop_create(NULL);
    probe p = { .hook = accept_and_close };
    probe_add(&p, loop, socket_listening(&port), &probe_by_read);
    loop_settle(loop);
    assert_int_equal(p2p_socket_pause(p.sock), 0);
    loop_settle(loop);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    assert_int_equal(wakeups(loop), 0);
    assert_string_equal(p.trace, "");
    assert_int_equal(p2p_socket_resume(p.sock), 0);
    RUN_UNTIL(loop, p.messages == COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i++) os_close(fds[i]);
    probe_close_socket(&p);
    p2p_event_loop_free(loop);
}

static void take_datagram(probe *p, char what) {
    char byte;
    if (what != 'r') return;
    if (p2p_datagram_recv(p->sock, &byte, 1, NULL) == 1) p->messages++;
    assert_int_equal(p2p_socket_pause(p->sock), 0);
}

static void a_paused_datagram_socket_is_not_read(void **state) {
    (void)state;
    p2p_address_t to;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP), *sender = p2p_socket_create(P2P_UDP);
    probe p = { .hook = take_datagram };
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_local_address(sock, &to), 0);
    probe_add(&p, loop, sock, &probe_by_read);
    assert_int_equal(p2p_datagram_send(sender, "1", 1, &to), 0);
    assert_int_equal(p2p_datagram_send(sender, "2", 1, &to), 0);
    RUN_UNTIL(loop, p.messages == 1);
    loop_settle(loop);
    assert_int_equal(wakeups(loop), 0);
    assert_int_equal(p.messages, 1);
    assert_int_equal(p2p_socket_resume(p.sock), 0);
    RUN_UNTIL(loop, p.messages == 2);
    p2p_socket_close(sender);
    probe_close_socket(&p);
    p2p_event_loop_free(loop);
}

static void paused_and_resumed_in_a_turn_a_connection_goes_on(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe p = { 0 };
    probe_open(&p, loop, &probe_by_message);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(p2p_socket_pause(p.sock), 0);
        assert_int_equal(p2p_socket_pause(p.sock), 0);
        assert_int_equal(p2p_socket_resume(p.sock), 0);
        assert_int_equal(p2p_socket_resume(p.sock), 0);
        send_texts(p.fd);
        RUN_UNTIL(loop, p.messages == 3 * (unsigned)(i + 1));
    }
    probe_close(&p);
    p2p_event_loop_free(loop);
    assert_int_equal(p2p_socket_pause(NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_resume(NULL), P2P_ERR_INVALID);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(pausing_inside_a_callback_stops_delivery_at_once_in_both_styles),
        CASE(an_on_read_that_pauses_first_is_still_given_its_message),
        CASE(the_end_of_a_paused_connection_costs_no_wakeup_and_is_told_after_resume),
        CASE(what_is_under_way_when_a_connection_is_paused_is_kept),
        CASE(output_of_a_paused_connection_goes_on_and_closing_it_writes_the_rest),
        CASE(a_pause_comes_before_adding_and_outlasts_removal),
        CASE(a_paused_listener_accepts_nobody_until_it_is_resumed),
        CASE(a_paused_datagram_socket_is_not_read),
        CASE(paused_and_resumed_in_a_turn_a_connection_goes_on),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
