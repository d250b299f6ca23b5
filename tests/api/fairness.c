/* Budgets: what one socket may have of a turn. The flooding peer is the system's socket; the measure is turns. */
#include "probe.h"

static void turn(p2p_event_loop_t *loop) {
    assert_true(p2p_event_loop_run_once(loop, 1) >= 0);
}

/* As much as the system takes. @return how many frames that was; a part of one more may be behind them. */
static unsigned flood(p2p_handle_t fd, uint32_t length, unsigned frames_max) {
    static uint8_t bytes[4 + 8192];
    static const uint8_t payload[8192];
    size_t size = raw_frame(bytes, payload, length);
    unsigned frames = 0;
    while (frames < frames_max && os_send_now(fd, bytes, size) == (int64_t)size) frames++;
    return frames;
}

static void a_flood_of_small_messages_has_message_budget_a_turn(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe flooding = { 0 }, honest = { 0 };
    options.message_budget = 8;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&flooding, loop, &probe_by_message);
    probe_open(&honest, loop, &probe_by_message);
    unsigned sent = 0, rounds = 0;
    while (rounds < 10) {
        sent += flood(flooding.fd, 3, 10); /* less than there may be at once, and more than there may be in a turn */
        socket_await_input(flooding.sock);
        assert_true(raw_send_text(honest.fd, "honest"));
        unsigned before = flooding.messages, turns = 0;
        for (rounds++; honest.messages < rounds; turns++) {
            before = flooding.messages;
            turn(loop);
            assert_in_range(flooding.messages - before, 0, options.message_budget);
        }
        assert_in_range(turns, 1, 5);
    }
    while (flooding.messages < sent) {
        unsigned before = flooding.messages;
        turn(loop);
        assert_in_range(flooding.messages - before, 0, options.message_budget);
    }
    probe_close(&flooding);
    probe_close(&honest);
    p2p_event_loop_free(loop);
}

static void a_flood_of_bytes_has_read_budget_a_turn(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe flooding = { 0 }, honest = { 0 };
    options.receive_buffer_size = 4096;
    options.read_budget = 8192;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&flooding, loop, &probe_by_message);
    probe_open(&honest, loop, &probe_by_message);
    unsigned sent = flood(flooding.fd, 1000, 100);
    socket_await_input(flooding.sock);
    assert_true(raw_send_text(honest.fd, "honest"));
    uint64_t bytes_when_heard = 0;
    while (flooding.messages < sent) {
        uint64_t before = flooding.bytes;
        turn(loop);
        if (honest.messages == 1 && bytes_when_heard == 0) bytes_when_heard = flooding.bytes;
        /* one receive may begin within the budget, and end a message begun before */
        assert_in_range(flooding.bytes - before, 0, 8192 + 4096 + 1000);
    }
    assert_in_range(bytes_when_heard, 0, 3 * 8192);
    probe_close(&flooding);
    probe_close(&honest);
    p2p_event_loop_free(loop);
}

/* Several receives in a turn, each below message_budget, together above it. */
static void message_budget_is_kept_across_the_receives_of_a_turn(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe flooding = { 0 };
    options.receive_buffer_size = 4096;
    options.message_budget = 6;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&flooding, loop, &probe_by_message);
    unsigned sent = flood(flooding.fd, 1000, 50);
    socket_await_input(flooding.sock);
    while (flooding.messages < sent) {
        unsigned before = flooding.messages;
        turn(loop);
        assert_in_range(flooding.messages - before, 0, options.message_budget);
    }
    probe_close(&flooding);
    p2p_event_loop_free(loop);
}

static void take_one_or_none(probe *p, char what) {
    p2p_socket_t *accepted = what == 'r' && p->data == NULL ? p2p_socket_accept(p->sock) : NULL;
    p2p_socket_close(accepted);
}

static void a_listener_has_accept_budget_a_turn(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe listener = { .hook = take_one_or_none };
    uint16_t port;
    p2p_handle_t fds[9];
    options.accept_budget = 2;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_add(&listener, loop, socket_listening(&port), &probe_by_read);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    while (loop_stats(loop).accepted < COUNT_OF(fds)) {
        unsigned before = listener.reads;
        turn(loop);
        assert_in_range(listener.reads - before, 0, 2);
    }
    assert_int_equal(listener.reads, COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i++) os_close(fds[i]);
    probe_close_socket(&listener);
    p2p_event_loop_free(loop);
}

static void a_connection_left_untaken_is_announced_once_a_turn(void **state) {
    (void)state;
    probe listener = { .hook = take_one_or_none, .data = "none" };
    uint16_t port;
    p2p_handle_t fds[5];
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&listener, loop, socket_listening(&port), &probe_by_read);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    RUN_UNTIL(loop, listener.reads >= 1);
    assert_int_equal(listener.reads, 1);
    for (unsigned turns = 2; turns < 10; turns++) {
        turn(loop);
        assert_int_equal(listener.reads, turns);
    }
    listener.data = NULL;
    RUN_UNTIL(loop, loop_stats(loop).accepted == COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i++) os_close(fds[i]);
    probe_close_socket(&listener);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_flood_of_small_messages_has_message_budget_a_turn),
        CASE(a_flood_of_bytes_has_read_budget_a_turn),
        CASE(message_budget_is_kept_across_the_receives_of_a_turn),
        CASE(a_listener_has_accept_budget_a_turn),
        CASE(a_connection_left_untaken_is_announced_once_a_turn),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
